#include "mds/answer.h"

#include "common/frame.h"
#include "mds/acl.h"

#include <assert.h>

/* Structs and pointers of a message take more room than the message on the wire. */
#define ANSWER_ARENA_MAX (8 * (size_t)FRAME_BODY_MAX)

/* A directory has no size of its own. What is told is what du(1) and people expect of one. */
#define DIR_SIZE   4096
#define DIR_BLOCKS 8

void answer_init(struct answer *answer, bool unfenced)
{
	answer->body = NULL;
	answer->attr_count = 0;
	answer->cut_index = 0;
	answer->unfenced = unfenced;
	answer->has_arena = false;
}

void answer_release(struct answer *answer)
{
	if (answer->has_arena)
		arena_release(&answer->arena);
	answer_init(answer, false);
}

Strake__EntryReply *answer_entry(struct answer *answer)
{
	strake__entry_reply__init(&answer->as.entry);
	answer->body = &answer->as.entry.base;
	return &answer->as.entry;
}

Strake__AttrReply *answer_attr(struct answer *answer)
{
	strake__attr_reply__init(&answer->as.attr);
	answer->body = &answer->as.attr.base;
	return &answer->as.attr;
}

Strake__RenameReply *answer_rename(struct answer *answer)
{
	strake__rename_reply__init(&answer->as.rename);
	answer->body = &answer->as.rename.base;
	return &answer->as.rename;
}

void answer_fill_attr(struct answer *answer, struct answer_attr *out, uint32_t *osts, const struct inode *inode,
		      bool unsure)
{
	Strake__Attr *attr = &out->attr;

	strake__attr__init(attr);
	attr->ino = inode->ino;
	attr->gen = inode->gen;
	attr->mode = inode->mode;
	attr->nlink = inode->nlink;
	attr->uid = inode->uid;
	attr->gid = inode->gid;
	attr->size = inode_is_dir(inode) ? DIR_SIZE : inode->size;
	attr->blocks = inode_is_dir(inode) ? DIR_BLOCKS : inode->blocks;
	attr->rdev = inode->rdev;
	attr->atime_ns = inode->atime_ns;
	attr->mtime_ns = inode->mtime_ns;
	attr->ctime_ns = inode->ctime_ns;
	attr->btime_ns = inode->btime_ns;
	attr->version = inode->version;
	attr->has_data_version = 1;
	attr->data_version = inode->data_version;
	attr->has_name_version = 1;
	attr->name_version = inode->name_version;
	attr->has_xattr_count = 1;
	attr->xattr_count = inode->xattr_count;
	attr->has_acls = 1;
	attr->acls = (inode->flags & INODE_ACL_ACCESS ? 1u << ACL_ACCESS : 0) |
		     (inode->flags & INODE_ACL_DEFAULT ? 1u << ACL_DEFAULT : 0);
	attr->has_flags = 1;
	attr->flags = (inode->flags & INODE_USER_FLAGS) >> INODE_USER_SHIFT;

	if (inode->cut > 0) {
		strake__cut__init(&out->cut);
		out->cut.number = inode->cut;
		out->cut.has_start = 1;
		out->cut.start = inode->cut_start;
		out->cut.has_end = 1;
		out->cut.end = inode->cut_end;
		attr->cut = &out->cut;
		if (inode->cut_index > answer->cut_index)
			answer->cut_index = inode->cut_index;
	}

	if (inode_is_file(inode) || inode_is_dir(inode)) {
		strake__layout__init(&out->layout);
		out->layout.stripe_size = inode->layout.stripe_size;
		out->layout.stripe_count = inode->layout.stripe_count;
		out->layout.n_ost_indices = inode->layout.ost_count;
		out->layout.ost_indices = osts;
		for (uint32_t i = 0; i < inode->layout.ost_count; i++)
			osts[i] = inode->layout.ost_indices[i];
		attr->layout = &out->layout;
	}

	if (inode_has_objects(inode) && (unsure || (inode->flags & INODE_SIZE_UNSURE))) {
		attr->has_size_unsure = 1;
		attr->size_unsure = 1;
		attr->has_unfenced = attr->unfenced = answer->unfenced;
	}
}

Strake__Attr *answer_inode(struct answer *answer, const struct inode *inode, bool unsure)
{
	struct answer_attr *out;

	assert(answer->attr_count < ANSWER_ATTRS);
	out = &answer->attrs[answer->attr_count];
	answer_fill_attr(answer, out, answer->osts[answer->attr_count++], inode, unsure);
	return &out->attr;
}

void answer_changed(struct answer *answer, const struct inode *inode, bool unsure, const struct answer_before *before)
{
	Strake__AttrReply *reply = answer_attr(answer);

	reply->attr = answer_inode(answer, inode, unsure);
	reply->has_version_before = 1;
	reply->version_before = before->version;
	reply->has_mtime_before_ns = 1;
	reply->mtime_before_ns = before->mtime_ns;
	reply->has_data_version_before = 1;
	reply->data_version_before = before->data_version;
}

void *answer_alloc(struct answer *answer, size_t size)
{
	if (!answer->has_arena) {
		arena_init(&answer->arena, NULL, 0, ANSWER_ARENA_MAX);
		answer->has_arena = true;
	}
	return arena_alloc(&answer->arena, size);
}
