/* GETATTR, READLINK, ACCESS: one inode by its number. */
#include "mds/access.h"
#include "mds/query.h"

#include <errno.h>
#include <string.h>

int getattr_query(struct query *query, const ProtobufCMessage *message)
{
	const Strake__GetattrRequest *request = (const void *)message;
	struct inode inode;
	int err = inode_load(query->state->view, request->ino, &inode);

	if (err < 0)
		return err;
	answer_attr(query->answer)->attr = query_inode(query, &inode);
	return 0;
}

int readlink_query(struct query *query, const ProtobufCMessage *message)
{
	const Strake__ReadlinkRequest *request = (const void *)message;
	Strake__ReadlinkReply *reply = &query->answer->as.readlink;
	struct inode inode;
	int err = inode_load(query->state->view, request->ino, &inode);

	if (err < 0)
		return err;
	if (!S_ISLNK(inode.mode))
		return -EINVAL;
	strake__readlink_reply__init(reply);
	reply->target.data = answer_alloc(query->answer, inode.target.size);
	if (!reply->target.data)
		return -ENOMEM;
	memcpy(reply->target.data, inode.target.data, inode.target.size);
	reply->target.len = inode.target.size;
	query->answer->body = &reply->base;
	return 0;
}

int access_query(struct query *query, const ProtobufCMessage *message)
{
	const Strake__AccessRequest *request = (const void *)message;
	struct inode inode;
	int err = inode_load(query->state->view, request->ino, &inode);

	return err < 0 ? err : access_mode(query->state->view, request->cred, &inode, (int)request->mask);
}
