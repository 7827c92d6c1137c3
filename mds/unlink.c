/* UNLINK, RMDIR: a name goes, and with the last name the inode, unless somebody has it open (orphan.h). */
#include "mds/apply.h"
#include "mds/names.h"
#include "mds/orphan.h"

#include <errno.h>

int unlink_apply(struct change *change, const ProtobufCMessage *message)
{
	const Strake__UnlinkRequest *request = (const void *)message;
	struct bytes name = name_of(request->name);
	bool rmdir = change->record->op == OP_RMDIR;
	struct inode dir, inode;
	Strake__EntryReply *reply;
	uint64_t version_before, name_version_before;
	int err;

	err = names_dir(change->state, request->cred, request->parent, &dir);
	if (err < 0)
		return err;
	err = names_find(change->state, dir.ino, name, &inode);
	if (err < 0)
		return err;
	err = access_remove(change->view, request->cred, &dir, &inode);
	if (err < 0)
		return err;
	if (rmdir && !inode_is_dir(&inode))
		return -ENOTDIR;
	if (!rmdir && inode_is_dir(&inode))
		return -EISDIR;
	if (rmdir && inode.entries > 0)
		return -ENOTEMPTY;

	dirent_del(change->state, dir.ino, name);
	version_before = dir.version;
	dir.entries--;
	if (rmdir)
		dir.nlink--;
	change_touch_dir(change, &dir);

	name_version_before = inode.name_version;
	if (rmdir || inode.nlink == 1) {
		orphan_make(change, &inode);
	} else {
		inode.nlink--;
		change_touch_names(change, &inode);
	}

	reply = answer_entry(change->answer);
	reply->attr = answer_inode(change->answer, &inode, change_is_fact(change, FACT_ATTR_UNSURE));
	reply->parent_attr = answer_inode(change->answer, &dir, false);
	reply->has_parent_version_before = 1;
	reply->parent_version_before = version_before;
	reply->has_name_version_before = 1;
	reply->name_version_before = name_version_before;
	return 0;
}
