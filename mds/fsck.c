/*
 * FSCK_ENTRIES, FSCK_INODES: lists of all there is, a piece at a time, for `strake fsck`. Each piece is made in one go, so
 * it is true of one moment, and small, so that nobody waits for it.
 */
#include "mds/dirent.h"
#include "mds/facts.h"
#include "mds/numbers.h"
#include "mds/pack.h"
#include "mds/query.h"
#include "mds/void.h"

#include <errno.h>
#include <string.h>

#define ENTRIES_MAX 4096         /* in one piece */
#define NAMES_MAX   (256 * 1024) /* bytes of names in one piece */
#define INODES_MAX  1024
#define INODES_SIZE (512 * 1024) /* packed, but for the last */
#define COUNT_MAX   (256 * 1024) /* entries that are counted in one go: some 50 ms */

/* --- entries ------------------------------------------------------------------------------------------------------ */

/* The columns, with room for all. */
static int begin_entries(struct query *query, const Strake__FsckEntriesRequest *request)
{
	Strake__FsckEntriesReply *reply = &query->answer->as.fsck_entries;
	struct answer *answer = query->answer;

	strake__fsck_entries_reply__init(reply);
	reply->instance = query->instance;
	reply->fresh = query->with->numbers->next;
	reply->parent = answer_alloc(answer, ENTRIES_MAX * sizeof(*reply->parent));
	reply->ino = answer_alloc(answer, ENTRIES_MAX * sizeof(*reply->ino));
	reply->type = answer_alloc(answer, ENTRIES_MAX * sizeof(*reply->type));
	reply->misplaced = answer_alloc(answer, ENTRIES_MAX * sizeof(*reply->misplaced));
	if (request->names)
		reply->name = answer_alloc(answer, ENTRIES_MAX * sizeof(*reply->name));
	if (!reply->parent || !reply->ino || !reply->type || !reply->misplaced || (request->names && !reply->name))
		return -ENOMEM;
	return 0;
}

/* Names are lent by the view until the reply is packed. */
static void add_entry(struct query *query, const struct view_cursor *cursor, bool with_name)
{
	Strake__FsckEntriesReply *reply = &query->answer->as.fsck_entries;
	struct unpack key = unpack_begin(cursor->key), row = unpack_begin(cursor->value);
	size_t at = reply->n_parent++;
	uint64_t cookie;
	struct bytes name;

	reply->n_ino = reply->n_type = reply->n_parent;
	reply->parent[at] = unpack_key64(&key);
	cookie = unpack_key64(&key);
	name = unpack_bytes(&key, (size_t)(key.end - key.at));
	reply->ino[at] = unpack_u64(&row);
	reply->type[at] = unpack_u8(&row);
	if (cookie != dirent_cookie(query->state, name))
		reply->misplaced[reply->n_misplaced++] = (uint32_t)at;
	if (with_name) {
		reply->n_name = reply->n_parent;
		reply->name[at].data = (uint8_t *)(uintptr_t)name.data;
		reply->name[at].len = name.size;
	}
}

static int end_piece(struct query *query, struct bytes last)
{
	Strake__FsckEntriesReply *reply = &query->answer->as.fsck_entries;

	reply->after.data = answer_alloc(query->answer, last.size);
	if (!reply->after.data)
		return -ENOMEM;
	memcpy(reply->after.data, last.data, last.size);
	reply->after.len = last.size;
	reply->has_after = 1;
	return 0;
}

int fsck_entries_query(struct query *query, const ProtobufCMessage *message)
{
	const Strake__FsckEntriesRequest *request = (const void *)message;
	Strake__FsckEntriesReply *reply = &query->answer->as.fsck_entries;
	uint8_t from[VIEW_KEY_MAX];
	struct bytes start = { from, 0 };
	struct view_cursor cursor;
	size_t name_bytes = 0;
	int err;

	if (request->has_after) {
		if (request->after.len == 0 || request->after.len >= sizeof(from))
			return -EINVAL;
		/* The first key above it. */
		memcpy(from, request->after.data, request->after.len);
		from[request->after.len] = 0;
		start.size = request->after.len + 1;
	}
	err = begin_entries(query, request);
	if (err < 0)
		return err;
	query->answer->body = &reply->base;
	if (view_seek(query->state->view, TABLE_DIRENT, start, &cursor) < 0)
		return 0;
	for (;;) {
		add_entry(query, &cursor, request->names);
		name_bytes += cursor.key.size;
		if (reply->n_parent == ENTRIES_MAX || name_bytes > NAMES_MAX) {
			err = end_piece(query, cursor.key);
			break;
		}
		if (view_next(&cursor) < 0)
			break;
	}
	view_cursor_end(&cursor);
	return err;
}

/* --- inodes ------------------------------------------------------------------------------------------------------- */

static Strake__FsckAwaited *make_awaited(struct answer *answer, uint64_t gen, const struct fsck_osts *osts)
{
	Strake__FsckAwaited *out = answer_alloc(answer, sizeof(*out));
	uint32_t *index = answer_alloc(answer, (osts->count + 1) * sizeof(*index));

	if (!out || !index)
		return NULL;
	strake__fsck_awaited__init(out);
	out->gen = gen;
	out->n_ost = osts->count;
	out->ost = index;
	for (uint32_t i = 0; i < osts->count; i++)
		index[i] = osts->index[i];
	return out;
}

static int fill_inode(struct answer *answer, const struct fsck_inode *facts, Strake__FsckInode *row)
{
	Strake__Layout *layout = answer_alloc(answer, sizeof(*layout));
	uint32_t *osts = answer_alloc(answer, (facts->layout.ost_count + 1) * sizeof(*osts));

	if (!layout || !osts)
		return -ENOMEM;
	row->has_mode = row->has_gen = row->has_nlink = row->has_size = row->has_version = row->has_parent = 1;
	row->has_entries = row->has_cut = row->has_size_unsure = row->has_never_given = row->has_way_is_lost = 1;
	row->mode = facts->mode;
	row->gen = facts->gen;
	row->nlink = facts->nlink;
	row->size = facts->size;
	row->version = facts->version;
	row->parent = facts->parent;
	row->entries = facts->entries;
	row->cut = facts->cut;
	row->size_unsure = facts->size_unsure;
	row->never_given = facts->never_given;
	row->way_is_lost = facts->way_is_lost;
	strake__layout__init(layout);
	layout->stripe_size = facts->layout.stripe_size;
	layout->stripe_count = facts->layout.stripe_count;
	layout->n_ost_indices = facts->layout.ost_count;
	layout->ost_indices = osts;
	for (uint32_t i = 0; i < facts->layout.ost_count; i++)
		osts[i] = facts->layout.ost_indices[i];
	row->layout = layout;
	return 0;
}

static int fill_pending(struct answer *answer, const struct fsck_inode *facts, Strake__FsckInode *row)
{
	if (facts->cut_pending) {
		row->pending_cut = make_awaited(answer, facts->pending_gen, &facts->cut_awaited);
		if (!row->pending_cut)
			return -ENOMEM;
		row->pending_cut->has_cut = 1;
		row->pending_cut->cut = facts->pending_number;
	}
	row->destroy = answer_alloc(answer, (facts->destroy_count + 1) * sizeof(Strake__FsckAwaited *));
	if (!row->destroy)
		return -ENOMEM;
	for (; row->n_destroy < facts->destroy_count; row->n_destroy++) {
		const struct fsck_destroy *destroy = &facts->destroys[row->n_destroy];

		row->destroy[row->n_destroy] = make_awaited(answer, destroy->gen, &destroy->awaited);
		if (!row->destroy[row->n_destroy])
			return -ENOMEM;
	}
	row->has_destroys_cut_off = row->destroys_cut_off = facts->destroys_cut_off;
	return 0;
}

/* NULL: no memory. */
static Strake__FsckInode *make_row(struct query *query, const struct fsck_inode *facts)
{
	Strake__FsckInode *row = answer_alloc(query->answer, sizeof(*row));

	if (!row)
		return NULL;
	strake__fsck_inode__init(row);
	row->ino = facts->ino;
	if (facts->exists && fill_inode(query->answer, facts, row) < 0)
		return NULL;
	row->has_xattrs_differ = row->xattrs_differ = facts->xattrs_differ;
	row->has_holders = row->has_holders_unknown = facts->orphan;
	row->has_linkable = row->linkable = facts->linkable;
	row->holders = facts->holders;
	row->holders_unknown = facts->holders_unknown;
	return fill_pending(query->answer, facts, row) < 0 ? NULL : row;
}

/* Whether somebody writes it only volatile tables know. */
static void add_unsure(const struct query *query, struct fsck_inode *facts)
{
	if (facts->exists && S_ISREG(facts->mode) && facts->layout.ost_count > 0)
		facts->size_unsure |= admit_is_unsure(query->with, 0, facts->ino);
}

static int list_inodes(struct query *query, const Strake__FsckInodesRequest *request, struct fsck_inode *facts)
{
	Strake__FsckInodesReply *reply = &query->answer->as.fsck_inodes;
	struct facts_walk walk;
	size_t size = 0;
	int err = 0;

	reply->inode = answer_alloc(query->answer, INODES_MAX * sizeof(Strake__FsckInode *));
	if (!reply->inode)
		return -ENOMEM;
	facts_begin(query->state, request->from, &walk);
	while (reply->n_inode < INODES_MAX && size < INODES_SIZE) {
		Strake__FsckInode *row;

		if (facts_next(&walk, facts) < 0 || facts->ino >= request->to) {
			reply->next = request->to;
			break;
		}
		add_unsure(query, facts);
		row = make_row(query, facts);
		if (!row) {
			err = -ENOMEM;
			break;
		}
		reply->inode[reply->n_inode++] = row;
		reply->next = facts->ino + 1;
		size += strake__fsck_inode__get_packed_size(row);
	}
	facts_end(&walk);
	return err;
}

/* Of one number, which may have entries without being an inode. */
static int count_entries(struct query *query, const Strake__FsckInodesRequest *request, struct fsck_inode *facts)
{
	Strake__FsckInodesReply *reply = &query->answer->as.fsck_inodes;
	struct fsck_entries entries;
	Strake__FsckInode *row;

	if (reply->n_inode == 0) {
		fsck_inode_init(facts, request->from);
		row = make_row(query, facts);
		if (!row)
			return -ENOMEM;
		reply->inode[reply->n_inode++] = row;
	}
	row = reply->inode[0];
	if (facts_count_entries(query->state, request->from, COUNT_MAX, &entries) < 0)
		return 0;
	row->has_counted_entries = row->has_counted_subdirs = 1;
	row->counted_entries = entries.count;
	row->counted_subdirs = entries.subdirs;
	return 0;
}

int fsck_inodes_query(struct query *query, const ProtobufCMessage *message)
{
	const Strake__FsckInodesRequest *request = (const void *)message;
	Strake__FsckInodesReply *reply = &query->answer->as.fsck_inodes;
	struct fsck_inode *facts;
	int err;

	if (request->from >= request->to || (request->count && request->to - request->from != 1))
		return -EINVAL;
	facts = answer_alloc(query->answer, sizeof(*facts));
	if (!facts)
		return -ENOMEM;
	strake__fsck_inodes_reply__init(reply);
	reply->instance = query->instance;
	reply->inodes = query->state->meta.inodes;
	reply->orphans = query->state->meta.orphans;
	reply->has_void_end = 1;
	reply->void_end = void_end(query->state->view, NULL);
	err = list_inodes(query, request, facts);
	if (err == 0 && request->count)
		err = count_entries(query, request, facts);
	if (err == 0)
		query->answer->body = &reply->base;
	return err;
}
