#include "mds/xattr.h"

#include "common/logger.h"
#include "mds/access.h"
#include "mds/pack.h"
#include "mds/query.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/xattr.h> /* XATTR_CREATE, XATTR_REPLACE */

#define CAPABILITY_NAME "security.capability"

struct xattr_key {
	uint8_t data[8 + XATTR_NAME_LEN_MAX];
};

static struct bytes xattr_key(uint64_t ino, const char *name, struct xattr_key *out)
{
	size_t len = strlen(name);

	assert(len <= XATTR_NAME_LEN_MAX);
	key_of(out->data, ino);
	memcpy(out->data + 8, name, len);
	return (struct bytes){ out->data, 8 + len };
}

/* Calls fn for each name until it returns false. fn does not change the view. */
static void xattr_each(struct view *view, uint64_t ino, bool (*fn)(void *arg, struct bytes name), void *arg)
{
	uint8_t from[8];
	struct view_cursor cursor;
	struct unpack key;
	struct bytes name;
	int err = view_seek(view, TABLE_XATTR, key_of(from, ino), &cursor);

	if (err < 0)
		return;
	for (; err == 0; err = view_next(&cursor)) {
		key = unpack_begin(cursor.key);
		if (unpack_key64(&key) != ino)
			break;
		name = unpack_bytes(&key, (size_t)(key.end - key.at));
		if (name.size == 0 || name.size > XATTR_NAME_LEN_MAX)
			logger_die("the MDT's state is damaged: an xattr's key of inode %" PRIx64, ino);
		if (!fn(arg, name))
			break;
	}
	view_cursor_end(&cursor);
}

static bool has_prefix(const char *name, const char *prefix)
{
	return strncmp(name, prefix, strlen(prefix)) == 0 && name[strlen(prefix)] != '\0';
}

/* May the asker read (R_OK) or change (W_OK) that xattr? -EOPNOTSUPP, -EPERM, -EACCES, -ENODATA. */
static int check_namespace(const Strake__Cred *cred, const struct inode *inode, const char *name, int mask)
{
	if (has_prefix(name, "user.")) {
		if (!inode_is_file(inode) && !inode_is_dir(inode))
			return mask == W_OK ? -EPERM : -ENODATA;
		if (mask == W_OK && inode_is_dir(inode) && (inode->mode & S_ISVTX) && access_owner(cred, inode) < 0)
			return -EPERM;
		return access_check(cred, inode, mask);
	}
	if (has_prefix(name, "trusted.")) {
		if (access_is_root(cred) || cred->trusted)
			return 0;
		return mask == W_OK ? -EPERM : -ENODATA;
	}
	if (has_prefix(name, "security.")) {
		if (mask == R_OK || access_is_root(cred) || cred->trusted)
			return 0;
		return -EPERM;
	}
	return -EOPNOTSUPP;
}

int setxattr_apply(struct change *change, const ProtobufCMessage *message)
{
	const Strake__SetxattrRequest *request = (const void *)message;
	uint32_t name_size = (uint32_t)strlen(request->name) + 1;
	struct inode inode;
	struct xattr_key key;
	struct bytes old;
	struct answer_before before;
	bool exists;
	int err;

	err = inode_load(change->view, request->ino, &inode);
	if (err < 0)
		return err;
	err = check_namespace(request->cred, &inode, request->name, W_OK);
	if (err < 0)
		return err;
	exists = view_get(change->view, TABLE_XATTR, xattr_key(inode.ino, request->name, &key), &old) == 0;
	if (exists && (request->flags & XATTR_CREATE))
		return -EEXIST;
	if (!exists && (request->flags & XATTR_REPLACE))
		return -ENODATA;
	if (!exists && inode.xattr_bytes + name_size > XATTR_NAMES_LEN_MAX)
		return -ENOSPC;
	if (change_is_fact(change, FACT_NO_SPACE))
		return -ENOSPC;

	before = answer_before(&inode);
	if (!exists) {
		inode.xattr_count++;
		inode.xattr_bytes += name_size;
	}
	view_put(change->view, TABLE_XATTR, xattr_key(inode.ino, request->name, &key),
		 (struct bytes){ request->value.len ? request->value.data : (const void *)"", request->value.len });
	change_touch(change, &inode);
	answer_changed(change->answer, &inode, change_is_fact(change, FACT_ATTR_UNSURE), &before);
	return 0;
}

static bool xattr_delete(struct view *view, struct inode *inode, const char *name)
{
	struct xattr_key key;
	struct bytes old;

	if (view_get(view, TABLE_XATTR, xattr_key(inode->ino, name, &key), &old) < 0)
		return false;
	view_del(view, TABLE_XATTR, xattr_key(inode->ino, name, &key));
	inode->xattr_count--;
	inode->xattr_bytes -= (uint32_t)strlen(name) + 1;
	return true;
}

int removexattr_apply(struct change *change, const ProtobufCMessage *message)
{
	const Strake__RemovexattrRequest *request = (const void *)message;
	struct inode inode;
	struct answer_before before;
	int err;

	err = inode_load(change->view, request->ino, &inode);
	if (err < 0)
		return err;
	err = check_namespace(request->cred, &inode, request->name, W_OK);
	if (err < 0)
		return err;
	if (!xattr_delete(change->view, &inode, request->name))
		return -ENODATA;
	before = answer_before(&inode);
	change_touch(change, &inode);
	answer_changed(change->answer, &inode, change_is_fact(change, FACT_ATTR_UNSURE), &before);
	return 0;
}

void xattr_drop_capability(struct change *change, struct inode *inode)
{
	if (inode->xattr_count > 0)
		xattr_delete(change->view, inode, CAPABILITY_NAME);
}

/* The names of an inode, out of the view's hands. */
struct names {
	char *data, *end;
	uint32_t count;
};

static bool names_take(void *arg, struct bytes name)
{
	struct names *names = arg;

	assert(names->end + name.size + 1 <= names->data + XATTR_NAMES_LEN_MAX); /* SETXATTR keeps it */
	memcpy(names->end, name.data, name.size);
	names->end[name.size] = '\0';
	names->end += name.size + 1;
	names->count++;
	return true;
}

void xattrs_delete(struct view *view, uint64_t ino)
{
	char data[XATTR_NAMES_LEN_MAX];
	struct names names = { .data = data, .end = data };
	struct xattr_key key;

	xattr_each(view, ino, names_take, &names);
	for (const char *name = data; name < names.end; name += strlen(name) + 1)
		view_del(view, TABLE_XATTR, xattr_key(ino, name, &key));
}

int getxattr_query(struct query *query, const ProtobufCMessage *message)
{
	const Strake__GetxattrRequest *request = (const void *)message;
	Strake__GetxattrReply *reply = &query->answer->as.getxattr;
	struct inode inode;
	struct xattr_key key;
	struct bytes value;
	int err;

	err = inode_load(query->state->view, request->ino, &inode);
	if (err < 0)
		return err;
	err = check_namespace(request->cred, &inode, request->name, R_OK);
	if (err < 0)
		return err;
	if (inode.xattr_count == 0 ||
	    view_get(query->state->view, TABLE_XATTR, xattr_key(inode.ino, request->name, &key), &value) < 0)
		return -ENODATA;
	strake__getxattr_reply__init(reply);
	reply->value.data = answer_alloc(query->answer, value.size + 1);
	if (!reply->value.data)
		return -ENOMEM;
	memcpy(reply->value.data, value.data, value.size);
	reply->value.len = value.size;
	query->answer->body = &reply->base;
	return 0;
}

int listxattr_query(struct query *query, const ProtobufCMessage *message)
{
	const Strake__ListxattrRequest *request = (const void *)message;
	Strake__ListxattrReply *reply = &query->answer->as.listxattr;
	struct names names = { 0 };
	struct inode inode;
	char *name;
	int err;

	err = inode_load(query->state->view, request->ino, &inode);
	if (err < 0)
		return err;
	strake__listxattr_reply__init(reply);
	query->answer->body = &reply->base;
	if (inode.xattr_count == 0)
		return 0;

	names.data = names.end = answer_alloc(query->answer, XATTR_NAMES_LEN_MAX);
	reply->name = answer_alloc(query->answer, inode.xattr_count * sizeof(*reply->name));
	if (!names.data || !reply->name)
		return -ENOMEM;
	xattr_each(query->state->view, inode.ino, names_take, &names);
	assert(names.count == inode.xattr_count);
	name = names.data;
	for (uint32_t i = 0; i < names.count; i++, name += strlen(name) + 1)
		reply->name[reply->n_name++] = name;
	return 0;
}
