/*
 * READDIR: the entries of a directory after a cookie, with attributes if wished, as many as fit.
 *
 * Every name that is there from the first call to the last is told exactly once, whatever comes and goes meanwhile: the
 * cookie is the name's own hash (dirent.h).
 */
#include "common/frame.h"
#include "common/logger.h"
#include "mds/names.h"
#include "mds/query.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define READDIR_BYTES_MAX (FRAME_BODY_MAX - 64 * 1024) /* what one answer has at most, with room for its end */
#define READDIR_ENTRY_MIN 16                           /* no entry is packed into less */
#define READDIR_TAG_MAX   4                            /* field number and length before each entry */

static int fill_entry_attr(struct query *query, const struct dirent_row *row, Strake__Dirent *entry)
{
	struct inode inode;
	struct answer_attr *out;
	uint32_t *osts;

	if (inode_load(query->state->view, row->ino, &inode) < 0)
		logger_die("the MDT's state is damaged: a directory names inode %" PRIx64 ", which does not exist",
			   row->ino);
	out = answer_alloc(query->answer, sizeof(*out));
	osts = answer_alloc(query->answer, (inode.layout.ost_count + 1) * sizeof(*osts));
	if (!out || !osts)
		return -ENOMEM;
	answer_fill_attr(query->answer, out, osts, &inode, query_is_unsure(query, &inode));
	entry->attr = &out->attr;
	return 0;
}

static Strake__Dirent *make_entry(struct query *query, const struct dirent_row *row, bool attrs)
{
	Strake__Dirent *entry = answer_alloc(query->answer, sizeof(*entry));
	uint8_t *name = answer_alloc(query->answer, row->name.size);

	if (!entry || !name)
		return NULL;
	strake__dirent__init(entry);
	memcpy(name, row->name.data, row->name.size);
	entry->name.data = name;
	entry->name.len = row->name.size;
	entry->ino = row->ino;
	entry->type = row->type;
	entry->cookie = row->cookie;
	if (attrs && fill_entry_attr(query, row, entry) < 0)
		return NULL;
	return entry;
}

int readdir_query(struct query *query, const ProtobufCMessage *message)
{
	const Strake__ReaddirRequest *request = (const void *)message;
	Strake__ReaddirReply *reply = &query->answer->as.readdir;
	size_t room = request->max_bytes < READDIR_BYTES_MAX ? request->max_bytes : READDIR_BYTES_MAX;
	size_t used = 0, entries_max = room / READDIR_ENTRY_MIN + 1;
	struct dirent_walk walk;
	struct dirent_row row;
	struct inode dir;
	int err;

	err = inode_load(query->state->view, request->ino, &dir);
	if (err < 0)
		return err;
	if (!inode_is_dir(&dir))
		return -ENOTDIR;
	err = access_check(query->state->view, request->cred, &dir, R_OK);
	if (err < 0)
		return err;

	strake__readdir_reply__init(reply);
	reply->parent = dir.parent;
	reply->has_now_ns = true;
	reply->now_ns = query->now_ns;
	reply->entry = answer_alloc(query->answer, entries_max * sizeof(*reply->entry));
	if (!reply->entry)
		return -ENOMEM;
	err = dirent_walk_begin(query->state, dir.ino, request->cookie, &walk, &row);
	for (; err == 0; err = dirent_walk_next(&walk, &row)) {
		Strake__Dirent *entry = make_entry(query, &row, request->attrs);

		if (!entry || reply->n_entry == entries_max)
			break;
		used += strake__dirent__get_packed_size(entry) + READDIR_TAG_MAX;
		if (used > room && reply->n_entry > 0)
			break;
		reply->entry[reply->n_entry++] = entry;
	}
	dirent_walk_end(&walk);
	reply->end = err == -ENOENT;
	if (reply->n_entry == 0 && !reply->end)
		return -ENOMEM;
	query->answer->body = &reply->base;
	return 0;
}
