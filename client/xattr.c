/*
 * Extended attributes. Not cached, but that a file has none, or no ACL, is known with its attributes; and that one who is
 * written to has no capability is believed as long as they are.
 */
#include "client/file.h"
#include "client/fs_state.h"
#include "client/inode.h"
#include "client/names.h"
#include "client/rpc.h"
#include "client/worker.h"

#include <errno.h>
#include <string.h>

#define JUST_NOW_MS 10

/* Give a value as getxattr(2) does: size 0 asks for the length only. */
static int give(const void *data, size_t len, void *value, size_t size, size_t *ret_len)
{
	if (size > 0 && len > size)
		return -ERANGE;
	if (size > 0 && len > 0)
		memcpy(value, data, len);
	*ret_len = len;
	return 0;
}

static bool attr_lacks(const struct attr *attr, const char *name)
{
	if (strcmp(name, "system.posix_acl_access") == 0)
		return attr->no_acl[0];
	if (strcmp(name, "system.posix_acl_default") == 0)
		return attr->no_acl[1];
	return attr->no_xattrs && strncmp(name, "security.", 9) == 0;
}

/*
 * Before the first write to a file, and at each exec, the kernel asks for its capabilities; ls for its label; and for
 * the ACLs of whatever it goes through, once after each LOOKUP or GETATTR of it: nearly no file has any. Anybody may ask,
 * so there is no permission to be checked. With a timeout of 0 the attributes of just now are as good as the mode bits
 * that the kernel has from there and goes by without asking again.
 */
static bool is_known_to_lack(struct fs *fs, uint64_t ino, const char *name)
{
	struct inode *inode = strncmp(name, "user.", 5) != 0 ? inode_find(fs->inodes, ino) : NULL;
	bool lacks = false;

	if (inode != NULL) {
		pthread_mutex_lock(&inode->lock);
		lacks = inode->attr_valid && attr_lacks(&inode->attr, name) &&
			clock_ns() < inode->attr_expires_ns + JUST_NOW_MS * NSEC_PER_MSEC;
		pthread_mutex_unlock(&inode->lock);
	}
	inode_put(inode);
	return lacks;
}

/* One that was removed, and is remembered, has none. */
static bool is_remembered(struct fs *fs, uint64_t ino)
{
	struct inode *inode = inode_find(fs->inodes, ino);
	bool remembered = inode != NULL && inode_is_remembered(inode, NULL);

	inode_put(inode);
	return remembered;
}

int fs_getxattr(struct fs *fs, struct fs_ctx *ctx, uint64_t ino, const char *name, void *value, size_t size,
		size_t *ret_len)
{
	Strake__Cred cred = rpc_cred(ctx);
	Strake__GetxattrRequest request = STRAKE__GETXATTR_REQUEST__INIT;
	const Strake__GetxattrReply *reply;
	struct call call = { .opcode = OP_GETXATTR, .request = &request.base };
	int err;

	if (is_known_to_lack(fs, ino, name))
		return -ENODATA;
	request.cred = &cred;
	request.ino = ino;
	request.name = rpc_string(name);
	err = worker_mds_call(fs_worker(fs), ctx, &call);
	if (err == 0) {
		reply = (const Strake__GetxattrReply *)call.reply;
		err = give(reply->value.data, reply->value.len, value, size, ret_len);
	}
	call_release(&call);
	return err == -ESTALE && is_remembered(fs, ino) ? -ENODATA : err;
}

int fs_listxattr(struct fs *fs, struct fs_ctx *ctx, uint64_t ino, char *list, size_t size, size_t *ret_len)
{
	Strake__Cred cred = rpc_cred(ctx);
	Strake__ListxattrRequest request = STRAKE__LISTXATTR_REQUEST__INIT;
	const Strake__ListxattrReply *reply;
	struct call call = { .opcode = OP_LISTXATTR, .request = &request.base };
	size_t total = 0;
	int err;

	request.cred = &cred;
	request.ino = ino;
	err = worker_mds_call(fs_worker(fs), ctx, &call);
	if (err == 0) {
		reply = (const Strake__ListxattrReply *)call.reply;
		for (size_t i = 0; i < reply->n_name && err == 0; i++) {
			size_t len = strlen(reply->name[i]) + 1;

			if (size > 0 && total + len > size)
				err = -ERANGE;
			else if (size > 0)
				memcpy(list + total, reply->name[i], len);
			total += len;
		}
		if (err == 0)
			*ret_len = total;
	}
	call_release(&call);
	if (err != -ESTALE || !is_remembered(fs, ino))
		return err;
	*ret_len = 0;
	return 0;
}

/* SETXATTR and REMOVEXATTR: the reply has the inode's attributes, ctime and perhaps mode being changed. */
static int change(struct fs *fs, struct fs_ctx *ctx, struct call *call)
{
	uint64_t asked_ns = clock_ns();
	int err = worker_mds_call(fs_worker(fs), ctx, call);

	if (err == 0)
		names_take_changed(fs, ctx, ((const Strake__AttrReply *)call->reply)->attr, asked_ns);
	call_release(call);
	return err;
}

int fs_setxattr(struct fs *fs, struct fs_ctx *ctx, uint64_t ino, const char *name, const void *value, size_t len,
		int flags)
{
	Strake__Cred cred = rpc_cred(ctx);
	Strake__SetxattrRequest request = STRAKE__SETXATTR_REQUEST__INIT;
	struct call call = { .opcode = OP_SETXATTR, .request = &request.base };

	request.cred = &cred;
	request.ino = ino;
	request.name = rpc_string(name);
	request.value = rpc_bytes(value, len);
	request.has_flags = flags != 0;
	request.flags = (uint32_t)flags;
	request.has_kill_sgid = true;
	request.kill_sgid = ctx->kill_sgid;
	return change(fs, ctx, &call);
}

/* False: it has none, as far as is known here. *ret_version: of the attributes that are known; 0: none are. */
static bool may_be_capable(struct file *file, uint64_t *ret_version)
{
	struct inode *inode = file->inode;
	bool lacks;

	pthread_mutex_lock(&inode->lock);
	*ret_version = inode->attr_valid ? inode->attr.version : 0;
	lacks = inode->attr.no_xattrs ||
		(*ret_version != 0 && *ret_version == file->incapable_version && clock_ns() < file->incapable_until_ns);
	pthread_mutex_unlock(&inode->lock);
	return !lacks;
}

void fs_drop_capability(struct file *file, struct fs_ctx *ctx)
{
	static const char name[] = "security.capability";
	struct inode *inode = file->inode;
	struct fs *fs = inode->fs;
	uint64_t version, asked_ns = clock_ns();
	size_t len;
	int err;

	if (!may_be_capable(file, &version))
		return;
	err = fs_getxattr(fs, ctx, inode->ino, name, NULL, 0, &len);
	if (err == 0)
		(void)fs_removexattr(fs, ctx, inode->ino, name);
	if (err != -ENODATA)
		return;
	pthread_mutex_lock(&inode->lock);
	file->incapable_version = version;
	file->incapable_until_ns = asked_ns + fs->config.attr_timeout_ms * NSEC_PER_MSEC;
	pthread_mutex_unlock(&inode->lock);
}

int fs_removexattr(struct fs *fs, struct fs_ctx *ctx, uint64_t ino, const char *name)
{
	Strake__Cred cred = rpc_cred(ctx);
	Strake__RemovexattrRequest request = STRAKE__REMOVEXATTR_REQUEST__INIT;
	struct call call = { .opcode = OP_REMOVEXATTR, .request = &request.base };

	request.cred = &cred;
	request.ino = ino;
	request.name = rpc_string(name);
	return change(fs, ctx, &call);
}
