/* PUNCH: bytes of a file become zeros; its size stays. A cut (cut.h), where the file has objects at all. */
#include "mds/access.h"
#include "mds/apply.h"
#include "mds/cut.h"
#include "mds/xattr.h"

#include <errno.h>

int punch_apply(struct change *change, const ProtobufCMessage *message)
{
	const Strake__PunchRequest *request = (const void *)message;
	const Strake__Cred *cred = request->cred;
	struct inode inode;
	struct answer_before before;
	int err;

	err = inode_load(change->view, request->ino, &inode);
	if (err < 0)
		return err;
	if (inode_is_dir(&inode))
		return -EISDIR;
	if (!inode_is_file(&inode))
		return -EINVAL;
	err = access_unsealed(&inode);
	if (err < 0)
		return err;
	if (!change_is_fact(change, FACT_OPEN_WRITE)) {
		err = access_check(change->view, cred, &inode, W_OK);
		if (err < 0)
			return err;
	}
	if (inode_has_objects(&inode) && cut_is_pending(change->view, inode.ino))
		return -EAGAIN;

	before = answer_before(&inode);
	if (inode_has_objects(&inode))
		cut_make(change, &inode, request->start, request->end);
	if (cred->trusted && request->has_kill_suid ? request->kill_suid : !access_is_root(cred)) {
		inode.mode = access_mode_without_privileges(&inode, access_is_member(cred, &inode, request->kill_sgid));
		xattr_drop_capability(change, &inode);
	}
	inode.data_version = change->index;
	inode.mtime_ns = change->now_ns;
	inode.mtime_set_ns = 0;
	change_touch(change, &inode);

	answer_changed(change->answer, &inode, change_is_fact(change, FACT_ATTR_UNSURE), &before);
	return 0;
}
