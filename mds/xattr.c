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
	return strncmp(name, prefix, strlen(prefix)) == 0;
}

/* A namespace that we have, and no name in it. */
static bool is_bare(const char *name)
{
	return strcmp(name, "user.") == 0 || strcmp(name, "trusted.") == 0 || strcmp(name, "security.") == 0;
}

/* May the asker read (R_OK) or change (W_OK) that xattr? -EOPNOTSUPP, -EINVAL, -EPERM, -EACCES, -ENODATA. */
static int check_namespace(struct view *view, const Strake__Cred *cred, const struct inode *inode, const char *name,
			   int mask)
{
	enum acl_kind kind;

	if (mask == W_OK && access_unsealed(inode) < 0)
		return -EPERM;
	if (acl_kind_of(name, &kind)) {
		if (S_ISLNK(inode->mode))
			return -EOPNOTSUPP;
		return mask == W_OK ? access_owner(cred, inode) : 0;
	}
	if (is_bare(name))
		return -EINVAL;
	if (has_prefix(name, "user.")) {
		if (!inode_is_file(inode) && !inode_is_dir(inode))
			return mask == W_OK ? -EPERM : -ENODATA;
		if (mask == W_OK && inode_is_dir(inode) && (inode->mode & S_ISVTX) && access_owner(cred, inode) < 0)
			return -EPERM;
		return access_check(view, cred, inode, mask);
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

/* Is there still room for this name among those that listxattr(2) can tell? */
static bool has_room(const struct inode *inode, const char *name)
{
	return inode->xattr_bytes + strlen(name) + 1 <= XATTR_NAMES_LEN_MAX;
}

static bool xattr_exists(struct view *view, const struct inode *inode, const char *name)
{
	struct xattr_key key;
	struct bytes value;

	return inode->xattr_count > 0 && view_get(view, TABLE_XATTR, xattr_key(inode->ino, name, &key), &value) == 0;
}

static void xattr_put(struct view *view, struct inode *inode, const char *name, struct bytes value)
{
	struct xattr_key key;

	if (!xattr_exists(view, inode, name)) {
		inode->xattr_count++;
		inode->xattr_bytes += (uint32_t)strlen(name) + 1;
	}
	view_put(view, TABLE_XATTR, xattr_key(inode->ino, name, &key), value);
}

static bool xattr_delete(struct view *view, struct inode *inode, const char *name)
{
	struct xattr_key key;

	if (!xattr_exists(view, inode, name))
		return false;
	view_del(view, TABLE_XATTR, xattr_key(inode->ino, name, &key));
	inode->xattr_count--;
	inode->xattr_bytes -= (uint32_t)strlen(name) + 1;
	return true;
}

/* --- ACLs -------------------------------------------------------------------------------------------------------- */

static uint32_t flag_of(enum acl_kind kind)
{
	return kind == ACL_ACCESS ? INODE_ACL_ACCESS : INODE_ACL_DEFAULT;
}

void xattr_acl_load(struct view *view, const struct inode *inode, enum acl_kind kind, struct acl *ret_acl)
{
	struct xattr_key key;
	struct bytes value;

	if (view_get(view, TABLE_XATTR, xattr_key(inode->ino, acl_name(kind), &key), &value) < 0 ||
	    acl_decode(value, ret_acl) < 0)
		logger_die("the MDT's state is damaged: %s of inode %" PRIx64, acl_name(kind), inode->ino);
}

void xattr_acl_store(struct view *view, struct inode *inode, enum acl_kind kind, const struct acl *acl)
{
	uint8_t out[ACL_SIZE_MAX];

	if (acl->count > 0) {
		xattr_put(view, inode, acl_name(kind), acl_encode(acl, out));
		inode->flags |= flag_of(kind);
	} else {
		xattr_delete(view, inode, acl_name(kind));
		inode->flags &= ~flag_of(kind);
	}
}

/* SETXATTR of an ACL: of an access ACL the mode bits become what it says, and only what they cannot say is kept. */
static int set_acl(struct change *change, const Strake__SetxattrRequest *request, enum acl_kind kind,
		   struct inode *inode)
{
	struct acl acl;
	int err;

	if (!request->has_kill_sgid) /* of a time when all ACLs were refused: in a log it was, and must be again */
		return -EOPNOTSUPP;
	err = acl_decode((struct bytes){ request->value.data, request->value.len }, &acl);
	if (err < 0)
		return err;
	if (kind == ACL_DEFAULT && !inode_is_dir(inode))
		return acl.count > 0 ? -EACCES : 0;
	if (change_is_fact(change, FACT_NO_SPACE) ||
	    (acl.count > 0 && !(inode->flags & flag_of(kind)) && !has_room(inode, acl_name(kind))))
		return -ENOSPC;
	if (kind == ACL_ACCESS && acl.count > 0) {
		inode->mode = acl_mode(&acl, inode->mode);
		if (!access_is_member(request->cred, inode, request->kill_sgid))
			inode->mode &= ~(uint32_t)S_ISGID;
		if (!acl_is_extended(&acl))
			acl.count = 0;
	}
	xattr_acl_store(change->view, inode, kind, &acl);
	return 0;
}

/* --- operations -------------------------------------------------------------------------------------------------- */

static int set_other(struct change *change, const Strake__SetxattrRequest *request, struct inode *inode)
{
	bool exists = xattr_exists(change->view, inode, request->name);

	if (exists && (request->flags & XATTR_CREATE))
		return -EEXIST;
	if (!exists && (request->flags & XATTR_REPLACE))
		return -ENODATA;
	if ((!exists && !has_room(inode, request->name)) || change_is_fact(change, FACT_NO_SPACE))
		return -ENOSPC;
	xattr_put(change->view, inode, request->name,
		  (struct bytes){ request->value.len ? request->value.data : (const void *)"", request->value.len });
	return 0;
}

int setxattr_apply(struct change *change, const ProtobufCMessage *message)
{
	const Strake__SetxattrRequest *request = (const void *)message;
	struct inode inode;
	struct answer_before before;
	enum acl_kind kind;
	int err;

	err = inode_load(change->view, request->ino, &inode);
	if (err < 0)
		return err;
	err = check_namespace(change->view, request->cred, &inode, request->name, W_OK);
	if (err < 0)
		return err;
	before = answer_before(&inode);
	err = acl_kind_of(request->name, &kind) ? set_acl(change, request, kind, &inode)
						: set_other(change, request, &inode);
	if (err < 0)
		return err;
	change_touch(change, &inode);
	answer_changed(change->answer, &inode, change_is_fact(change, FACT_ATTR_UNSURE), &before);
	return 0;
}

int removexattr_apply(struct change *change, const ProtobufCMessage *message)
{
	const Strake__RemovexattrRequest *request = (const void *)message;
	struct inode inode;
	struct answer_before before;
	enum acl_kind kind;
	bool acl;
	int err;

	err = inode_load(change->view, request->ino, &inode);
	if (err < 0)
		return err;
	err = check_namespace(change->view, request->cred, &inode, request->name, W_OK);
	if (err < 0)
		return err;
	before = answer_before(&inode);
	acl = acl_kind_of(request->name, &kind);
	if (acl)
		inode.flags &= ~flag_of(kind);
	if (xattr_delete(change->view, &inode, request->name))
		change_touch(change, &inode);
	else if (!acl) /* of ACLs Linux says that there is none then, as was wished */
		return -ENODATA;
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
	err = check_namespace(query->state->view, request->cred, &inode, request->name, R_OK);
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
	for (uint32_t i = 0; i < names.count; i++, name += strlen(name) + 1) {
		if (!request->cred || access_is_root(request->cred) || !has_prefix(name, "trusted."))
			reply->name[reply->n_name++] = name;
	}
	return 0;
}
