#include "mds/access.h"

#include "mds/opens.h"
#include "mds/xattr.h"

#include <errno.h>

bool access_is_id(uint32_t id)
{
	return id != UINT32_MAX;
}

static Strake__Cred *cred_of(ProtobufCMessage *message)
{
	const ProtobufCFieldDescriptor *field =
		protobuf_c_message_descriptor_get_field_by_name(message->descriptor, "cred");

	return field ? *(Strake__Cred **)(void *)((char *)message + field->offset) : NULL;
}

void access_squash(ProtobufCMessage *message)
{
	Strake__Cred *cred = cred_of(message);

	if (!cred || !access_is_root(cred))
		return;
	cred->uid = cred->gid = ACCESS_NOBODY;
	cred->trusted = 0;
	/* What they were is freed with the message. */
	for (size_t i = 0; i < cred->n_groups; i++)
		cred->groups[i] = ACCESS_NOBODY;
}

bool access_is_root(const Strake__Cred *cred)
{
	return cred->uid == 0;
}

bool access_in_group(const Strake__Cred *cred, uint32_t gid)
{
	if (cred->gid == gid)
		return true;
	for (size_t i = 0; i < cred->n_groups; i++) {
		if (cred->groups[i] == gid)
			return true;
	}
	return false;
}

int access_mode(struct view *view, const Strake__Cred *cred, const struct inode *inode, int mask)
{
	uint32_t bits = inode->mode;
	struct acl acl;

	if ((mask & W_OK) && (inode->flags & INODE_IMMUTABLE))
		return -EPERM;
	if (access_is_root(cred)) {
		/* Root may run only what somebody may run. */
		if ((mask & X_OK) && !inode_is_dir(inode) && !(bits & (S_IXUSR | S_IXGRP | S_IXOTH)))
			return -EACCES;
		return 0;
	}

	if ((inode->flags & INODE_ACL_ACCESS) && cred->uid != inode->uid) {
		xattr_acl_load(view, inode, ACL_ACCESS, &acl);
		return acl_check(&acl, cred, inode->uid, inode->gid, mask);
	}
	if (cred->uid == inode->uid)
		bits >>= 6;
	else if (access_in_group(cred, inode->gid))
		bits >>= 3;
	return ((uint32_t)mask & ~bits & 7) ? -EACCES : 0;
}

int access_check(struct view *view, const Strake__Cred *cred, const struct inode *inode, int mask)
{
	if (!cred->trusted)
		return access_mode(view, cred, inode, mask);
	return (mask & W_OK) && (inode->flags & INODE_IMMUTABLE) ? -EPERM : 0;
}

int access_open(struct view *view, const Strake__Cred *cred, const struct inode *inode, unsigned int modes, bool append)
{
	int err = access_check(view, cred, inode, ((modes & OPEN_READ) ? R_OK : 0) | ((modes & OPEN_WRITE) ? W_OK : 0));

	if (err < 0)
		return err;
	return (inode->flags & INODE_APPEND) && (modes & OPEN_WRITE) && !append ? -EPERM : 0;
}

int access_unsealed(const struct inode *inode)
{
	return inode->flags & (INODE_IMMUTABLE | INODE_APPEND) ? -EPERM : 0;
}

int access_owner(const Strake__Cred *cred, const struct inode *inode)
{
	return access_is_root(cred) || cred->uid == inode->uid ? 0 : -EPERM;
}

int access_remove(struct view *view, const Strake__Cred *cred, const struct inode *dir, const struct inode *inode)
{
	int err = access_check(view, cred, dir, W_OK | X_OK);

	if (err < 0)
		return err;
	if (dir->flags & INODE_APPEND)
		return -EPERM;
	err = access_unsealed(inode);
	if (err < 0)
		return err;
	if ((dir->mode & S_ISVTX) && cred->uid != dir->uid)
		return access_owner(cred, inode);
	return 0;
}

bool access_is_member(const Strake__Cred *cred, const struct inode *inode, bool kill_sgid)
{
	if (cred->trusted)
		return !kill_sgid;
	return access_is_root(cred) || access_in_group(cred, inode->gid);
}

uint32_t access_mode_without_privileges(const struct inode *inode, bool member)
{
	uint32_t mode = inode->mode;

	if (inode_is_dir(inode))
		return mode;
	mode &= ~(uint32_t)S_ISUID;
	/* Without S_IXGRP the bit meant mandatory locking: only members keep it. */
	if ((mode & S_IXGRP) || !member)
		mode &= ~(uint32_t)S_ISGID;
	return mode;
}
