/*
 * LOOKUP: what a directory has under a name. "." and ".." are for those who reach an inode by its number (file handles,
 * NFS export): "." is of any type, and needs no permission, as GETATTR.
 */
#include "mds/names.h"
#include "mds/query.h"

#include <errno.h>
#include <string.h>

static bool name_is(struct bytes name, const char *text)
{
	return name.size == strlen(text) && memcmp(name.data, text, name.size) == 0;
}

/* What has no name any more is not found by its number either: it is only open still. */
static int lookup_itself(struct query *query, uint64_t ino, struct inode *ret_inode)
{
	int err = inode_load(query->state->view, ino, ret_inode);

	return err == 0 && ret_inode->nlink == 0 ? -ESTALE : err;
}

static int lookup_in(struct query *query, const Strake__LookupRequest *request, struct inode *ret_inode)
{
	struct bytes name = name_of(request->name);
	struct inode dir;
	int err = names_dir(query->state, request->cred, request->parent, &dir);

	if (err < 0)
		return err;
	if (name_is(name, ".."))
		return inode_load(query->state->view, dir.parent, ret_inode);
	return names_find(query->state, dir.ino, name, ret_inode);
}

int lookup_query(struct query *query, const ProtobufCMessage *message)
{
	const Strake__LookupRequest *request = (const void *)message;
	Strake__EntryReply *reply;
	struct inode inode;
	int err;

	if (name_is(name_of(request->name), "."))
		err = lookup_itself(query, request->parent, &inode);
	else
		err = lookup_in(query, request, &inode);
	if (err < 0)
		return err;

	reply = answer_entry(query->answer);
	reply->attr = query_inode(query, &inode);
	return 0;
}
