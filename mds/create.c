/*
 * CREATE, MKDIR, MKNOD, SYMLINK: a new inode under a new name. Its number is the record's, its content's gen the same.
 * TMPFILE: one under none. And what a rename leaves as a whiteout.
 *
 * CREATE also opens: a name that is there already is only opened, unless exclusive was asked. TMPFILE opens, too: what it
 * makes is an orphan (orphan.h), held by the asker.
 */
#include "mds/alone.h"
#include "mds/apply.h"
#include "mds/names.h"
#include "mds/orphan.h"
#include "mds/xattr.h"

#include <errno.h>
#include <string.h>

/* Is there a default ACL that says what the new inode's rights are? Then the umask does not. */
static bool inherits_acl(const struct change *change, const struct inode *dir)
{
	return (dir->flags & INODE_ACL_DEFAULT) && change->record->op != OP_SYMLINK;
}

/* The type and the mode bits that a new inode gets by operation. -EINVAL, -EPERM. */
static int new_mode(const struct change *change, const Strake__CreateRequest *request, const struct inode *dir,
		    uint32_t *ret_mode)
{
	uint32_t bits = request->mode & 07777 & (inherits_acl(change, dir) ? 07777 : ~(request->umask & 0777));
	uint32_t type = request->mode & S_IFMT;

	switch (change->record->op) {
	case OP_CREATE:
	case OP_TMPFILE:
		*ret_mode = S_IFREG | bits;
		return 0;
	case OP_MKDIR:
		*ret_mode = S_IFDIR | (bits & 01777);
		return 0;
	case OP_SYMLINK:
		*ret_mode = S_IFLNK | 0777;
		return 0;
	default:
		break;
	}

	switch (type) {
	case 0:
		type = S_IFREG;
		break;
	case S_IFREG:
	case S_IFIFO:
	case S_IFSOCK:
		break;
	case S_IFCHR:
	case S_IFBLK:
		/* Device 0:0 is a whiteout, which anybody may make. */
		if (!access_is_root(request->cred) && !request->cred->trusted &&
		    !(type == S_IFCHR && request->rdev == 0))
			return -EPERM;
		break;
	case S_IFDIR:
		return -EPERM;
	default:
		return -EINVAL;
	}
	*ret_mode = type | bits;
	return 0;
}

/* The group of what is made in a directory with S_ISGID is the directory's; the bit itself goes on to subdirectories. */
static void inherit_group(struct inode *inode, const struct inode *dir, const Strake__Cred *cred)
{
	if (!(dir->mode & S_ISGID))
		return;
	inode->gid = dir->gid;
	if (inode_is_dir(inode))
		inode->mode |= S_ISGID;
	else if ((inode->mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && !access_is_root(cred) &&
		 !cred->trusted && !access_in_group(cred, dir->gid))
		inode->mode &= ~(uint32_t)S_ISGID;
}

/* What is made gets the directory's default ACL as far as it was made with these rights; a directory hands it on. */
static void inherit_acl(struct change *change, const struct inode *dir, struct inode *inode)
{
	struct acl acl;

	if (!inherits_acl(change, dir))
		return;
	xattr_acl_load(change->view, dir, ACL_DEFAULT, &acl);
	if (inode_is_dir(inode))
		xattr_acl_store(change->view, inode, ACL_DEFAULT, &acl);
	acl_inherit(&acl, &inode->mode);
	if (acl_is_extended(&acl))
		xattr_acl_store(change->view, inode, ACL_ACCESS, &acl);
}

static void set_layout(const struct change *change, const Strake__CreateRequest *request, const struct inode *dir,
		       struct inode *inode)
{
	const struct record *record = change->record;
	struct layout *layout = &inode->layout;

	if (!inode_is_file(inode) && !inode_is_dir(inode))
		return;
	layout->stripe_size = request->layout ? request->layout->stripe_size : dir->layout.stripe_size;
	layout->stripe_count = request->layout ? request->layout->stripe_count : dir->layout.stripe_count;
	if (inode_is_file(inode) && record->ost_count > 0) {
		layout->stripe_count = layout->ost_count = record->ost_count;
		memcpy(layout->ost_indices, record->osts, record->ost_count * sizeof(*record->osts));
	}
}

/* All of a new inode but its names; the mode has been chosen. */
static void fill_inode(struct change *change, const Strake__CreateRequest *request, const struct inode *dir,
		       struct inode *inode)
{
	const Strake__Cred *cred = request->cred;

	inode->ino = inode->gen = change->record->number;
	inode->nlink = inode_is_dir(inode) ? 2 : 1;
	inode->uid = cred->uid;
	inode->gid = cred->gid;
	inode->flags = dir->flags & (INODE_NODUMP | INODE_NOATIME);
	inherit_group(inode, dir, cred);
	inherit_acl(change, dir, inode);
	inode->rdev = S_ISCHR(inode->mode) || S_ISBLK(inode->mode) ? request->rdev : 0;
	inode->atime_ns = inode->mtime_ns = inode->btime_ns = change->now_ns;
	inode->data_version = change->index;
	inode->parent = inode_is_dir(inode) ? dir->ino : 0;
	if (S_ISLNK(inode->mode)) {
		inode->target = name_of(request->target);
		inode->size = inode->target.size;
	}
	set_layout(change, request, dir, inode);
	change->state->meta.inodes++;
}

void create_whiteout(struct change *change, Strake__Cred *cred, const struct inode *dir, struct inode *ret_inode)
{
	Strake__CreateRequest request = STRAKE__CREATE_REQUEST__INIT;

	request.cred = cred;
	*ret_inode = (struct inode){ .mode = S_IFCHR };
	fill_inode(change, &request, dir, ret_inode);
}

/* CREATE of a name that is there. */
static int open_existing(struct change *change, const Strake__CreateRequest *request, const struct inode *dir,
			 const struct inode *inode)
{
	Strake__EntryReply *reply;
	int err;

	if (change->record->op != OP_CREATE || request->exclusive)
		return -EEXIST;
	if (inode_is_dir(inode))
		return -EISDIR;
	if (inode_is_file(inode)) {
		err = access_open(change->view, request->cred, inode, request->open_modes, request->append);
		if (err < 0)
			return err;
		if (request->open_modes)
			change->outcome->opened_ino = inode->ino;
	}

	reply = answer_entry(change->answer);
	reply->attr = answer_inode(change->answer, inode, change_is_fact(change, FACT_ATTR_UNSURE));
	reply->parent_attr = answer_inode(change->answer, dir, false);
	reply->has_parent_version_before = 1;
	reply->parent_version_before = dir->version;
	return 0;
}

int create_apply(struct change *change, const ProtobufCMessage *message)
{
	const Strake__CreateRequest *request = (const void *)message;
	const Strake__Cred *cred = request->cred;
	struct bytes name = name_of(request->name);
	struct inode dir, inode = { 0 }, existing;
	Strake__EntryReply *reply;
	uint64_t version_before;
	int err;

	if (!access_is_id(cred->uid) || !access_is_id(cred->gid))
		return -EINVAL;
	err = names_dir(change->state, cred, request->parent, &dir);
	if (err < 0)
		return err;
	if (names_find(change->state, dir.ino, name, &existing) == 0)
		return open_existing(change, request, &dir, &existing);
	if (dir.nlink == 0)
		return -ENOENT;
	err = access_check(change->view, cred, &dir, W_OK);
	if (err < 0)
		return err;
	err = new_mode(change, request, &dir, &inode.mode);
	if (err < 0)
		return err;
	if (change_is_fact(change, FACT_NO_SPACE))
		return -ENOSPC;
	if (inode_is_dir(&inode) && dir.nlink >= INODE_LINKS_MAX)
		return -EMLINK;

	fill_inode(change, request, &dir, &inode);
	change_touch_names(change, &inode);

	dirent_put(change->state, dir.ino, name, inode.ino, inode.mode);
	version_before = dir.version;
	dir.entries++;
	if (inode_is_dir(&inode))
		dir.nlink++;
	change_touch_dir(change, &dir);
	if (change->record->op == OP_CREATE && request->open_modes)
		change->outcome->opened_ino = inode.ino;

	reply = answer_entry(change->answer);
	reply->attr = answer_inode(change->answer, &inode, false);
	reply->parent_attr = answer_inode(change->answer, &dir, false);
	reply->has_parent_version_before = 1;
	reply->parent_version_before = version_before;
	if (change_is_fact(change, FACT_ALONE)) {
		reply->has_parent_alone_ms = 1;
		reply->parent_alone_ms = ALONE_MS;
	}
	if (change->record->op == OP_CREATE) {
		reply->has_created = 1;
		reply->created = 1;
	}
	return 0;
}

int tmpfile_apply(struct change *change, const ProtobufCMessage *message)
{
	const Strake__CreateRequest *request = (const void *)message;
	const Strake__Cred *cred = request->cred;
	struct inode dir, inode = { 0 };
	Strake__EntryReply *reply;
	int err;

	if (!access_is_id(cred->uid) || !access_is_id(cred->gid))
		return -EINVAL;
	err = names_dir(change->state, cred, request->parent, &dir);
	if (err == 0)
		err = access_check(change->view, cred, &dir, W_OK);
	if (err == 0)
		err = new_mode(change, request, &dir, &inode.mode);
	if (err < 0)
		return err;
	if (change_is_fact(change, FACT_NO_SPACE))
		return -ENOSPC;

	fill_inode(change, request, &dir, &inode);
	if (!request->exclusive)
		inode.flags |= INODE_LINKABLE;
	orphan_make(change, &inode);
	change->outcome->opened_ino = inode.ino;

	reply = answer_entry(change->answer);
	reply->attr = answer_inode(change->answer, &inode, false);
	reply->has_created = 1;
	reply->created = 1;
	return 0;
}
