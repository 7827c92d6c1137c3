/* LINK: one more name for an inode. */
#include "mds/alone.h"
#include "mds/apply.h"
#include "mds/names.h"
#include "mds/orphan.h"

#include <errno.h>

/* What has lost its last name gets no other. What has never had one gets it from who has it open. */
static bool may_be_named(const struct change *change, const struct inode *inode)
{
	return inode->nlink > 0 || ((inode->flags & INODE_LINKABLE) &&
				    orphan_is_held_by(change->view, inode->ino, change->record->session));
}

int link_apply(struct change *change, const ProtobufCMessage *message)
{
	const Strake__LinkRequest *request = (const void *)message;
	struct bytes name = name_of(request->name);
	struct inode dir, inode;
	struct dirent_row existing;
	Strake__EntryReply *reply;
	uint64_t version_before, name_version_before;
	int err;

	err = inode_load(change->view, request->ino, &inode);
	if (err < 0)
		return err;
	err = names_dir(change->state, request->cred, request->parent, &dir);
	if (err < 0)
		return err;
	if (dirent_get(change->state, dir.ino, name, &existing) == 0)
		return -EEXIST;
	if (dir.nlink == 0)
		return -ENOENT;
	err = access_check(change->view, request->cred, &dir, W_OK);
	if (err < 0)
		return err;
	err = inode_is_dir(&inode) ? -EPERM : access_unsealed(&inode);
	if (err < 0)
		return err;
	if (!may_be_named(change, &inode))
		return -ENOENT;
	if (inode.nlink >= INODE_LINKS_MAX)
		return -EMLINK;
	if (change_is_fact(change, FACT_NO_SPACE))
		return -ENOSPC;

	name_version_before = inode.name_version;
	if (inode.nlink == 0)
		orphan_adopt(change, &inode);
	inode.nlink++;
	change_touch_names(change, &inode);
	dirent_put(change->state, dir.ino, name, inode.ino, inode.mode);
	version_before = dir.version;
	dir.entries++;
	change_touch_dir(change, &dir);

	reply = answer_entry(change->answer);
	reply->attr = answer_inode(change->answer, &inode, change_is_fact(change, FACT_ATTR_UNSURE));
	reply->parent_attr = answer_inode(change->answer, &dir, false);
	reply->has_parent_version_before = 1;
	reply->parent_version_before = version_before;
	if (change_is_fact(change, FACT_ALONE)) {
		reply->has_parent_alone_ms = 1;
		reply->parent_alone_ms = ALONE_MS;
	}
	reply->has_name_version_before = 1;
	reply->name_version_before = name_version_before;
	return 0;
}
