/* LOOKUP: what a directory has under a name. "." and ".." are for those who reach an inode by its number (NFS export). */
#include "mds/names.h"
#include "mds/query.h"

#include <errno.h>
#include <string.h>

static bool name_is(struct bytes name, const char *text)
{
	return name.size == strlen(text) && memcmp(name.data, text, name.size) == 0;
}

int lookup_query(struct query *query, const ProtobufCMessage *message)
{
	const Strake__LookupRequest *request = (const void *)message;
	struct bytes name = name_of(request->name);
	Strake__EntryReply *reply;
	struct inode dir, inode;
	int err;

	err = names_dir(query->state, request->cred, request->parent, &dir);
	if (err < 0)
		return err;
	if (name_is(name, "."))
		inode = dir;
	else if (name_is(name, ".."))
		err = inode_load(query->state->view, dir.parent, &inode);
	else
		err = names_find(query->state, dir.ino, name, &inode);
	if (err < 0)
		return err;

	reply = answer_entry(query->answer);
	reply->attr = query_inode(query, &inode);
	return 0;
}
