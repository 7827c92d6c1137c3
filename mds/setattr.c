/*
 * SETATTR: mode, owner, times, size, flags. All of a request or nothing.
 *
 * A size is one of three things:
 *   0            new content: the next gen, on fresh objects; the old (ino, gen) goes into the destroy queue
 *   as it is     nothing but the times, if the MDT is sure of the size, and nothing was allocated behind it
 *   another      a cut (cut.h); -EAGAIN while one is pending
 * A file without a layout has no objects: only its size changes.
 */
#include "mds/access.h"
#include "mds/apply.h"
#include "mds/cut.h"
#include "mds/destroy.h"
#include "mds/xattr.h"

#include <errno.h>

static bool is_chown(const Strake__SetattrRequest *request)
{
	/* chown(2) with -1 twice asks for nothing, and yet takes privileges away. */
	return request->has_uid || request->has_gid ||
	       !(request->has_mode || request->has_size || request->has_atime_ns || request->has_mtime_ns ||
		 request->atime_now || request->mtime_now || request->has_flags);
}

/*
 * A change of nothing. By chown(2), which is the owner's where it takes privileges away; or by a kernel that takes them
 * away before somebody writes, which is the writer's.
 */
static int check_nothing(const Strake__SetattrRequest *request, const struct inode *inode)
{
	bool member = access_is_member(request->cred, inode, request->kill_sgid);

	if (request->has_uid || request->has_gid || !is_chown(request) || request->open_handle ||
	    access_mode_without_privileges(inode, member) == inode->mode)
		return 0;
	return request->has_kill_suid ? access_owner(request->cred, inode) : 0; /* logs of before: it was anybody's */
}

static int check_owner(const Strake__SetattrRequest *request, const struct inode *inode)
{
	const Strake__Cred *cred = request->cred;

	if ((request->has_uid && !access_is_id(request->uid)) || (request->has_gid && !access_is_id(request->gid)))
		return -EINVAL;
	if (access_is_root(cred))
		return 0;
	if (request->has_uid && (request->uid != inode->uid || cred->uid != inode->uid))
		return -EPERM;
	if (request->has_gid && cred->uid != inode->uid)
		return -EPERM;
	if (request->has_gid && request->gid != inode->gid && !cred->trusted && !access_in_group(cred, request->gid))
		return -EPERM;
	return request->has_mode ? access_owner(cred, inode) : 0;
}

/* Of what chattr(1) has sealed only "now" may be set, on what is append-only, and what chattr(1) has set. */
static int check_sealed(const Strake__SetattrRequest *request, const struct inode *inode)
{
	bool chosen = request->has_atime_ns || request->has_mtime_ns || request->atime_now != request->mtime_now;

	if (request->has_flags)
		return 0;
	if (inode->flags & INODE_IMMUTABLE)
		return -EPERM;
	if (request->has_mode || request->has_uid || request->has_gid || request->has_size || chosen)
		return access_unsealed(inode);
	return 0;
}

/* The owner's to set; what seals is root's, and what is and stays immutable does not change. */
static int check_flags(const Strake__SetattrRequest *request, const struct inode *inode)
{
	uint32_t before = inode->flags & INODE_USER_FLAGS, after = request->flags << INODE_USER_SHIFT;
	int err;

	if (!request->has_flags)
		return 0;
	if (!inode_is_file(inode) && !inode_is_dir(inode))
		return -EOPNOTSUPP;
	err = access_owner(request->cred, inode);
	if (err < 0)
		return err;
	if (((before ^ after) & (INODE_IMMUTABLE | INODE_APPEND)) && !access_is_root(request->cred))
		return -EPERM;
	return (before & after & INODE_IMMUTABLE) && before != after ? -EPERM : 0;
}

/* Times of one's choice are the owner's to set; "now", both of them or with a size, is anybody's who may write. */
static int check_times(const struct change *change, const Strake__SetattrRequest *request, const struct inode *inode)
{
	const Strake__Cred *cred = request->cred;
	bool chosen = request->has_atime_ns || request->has_mtime_ns;
	bool now = request->atime_now || request->mtime_now;

	if (chosen || (request->atime_now != request->mtime_now && !request->has_size))
		return access_owner(cred, inode);
	if (now && !request->has_size && access_owner(cred, inode) < 0)
		return access_check(change->view, cred, inode, W_OK);
	return 0;
}

static int check_size(const struct change *change, const Strake__SetattrRequest *request, const struct inode *inode)
{
	if (!request->has_size)
		return 0;
	if (inode_is_dir(inode))
		return -EISDIR;
	if (!inode_is_file(inode))
		return -EINVAL;
	if (request->size > LAYOUT_FILE_SIZE_MAX)
		return -EFBIG;
	if (request->open_handle || change_is_fact(change, FACT_OPEN_WRITE))
		return 0;
	return access_check(change->view, request->cred, inode, W_OK);
}

enum size_change { SIZE_SAME, SIZE_CHANGED, SIZE_NEW_CONTENT, SIZE_CUT };

static enum size_change classify_size(const struct change *change, const Strake__SetattrRequest *request,
				      const struct inode *inode)
{
	bool unsure = change_is_fact(change, FACT_ATTR_UNSURE) || (inode->flags & INODE_SIZE_UNSURE);
	bool has_room = inode->blocks > (inode->size + 4095) / 4096 * 8;

	if (!request->has_size)
		return SIZE_SAME;
	if (!inode_has_objects(inode))
		return request->size == inode->size ? SIZE_SAME : SIZE_CHANGED;
	if (request->size == inode->size && !unsure && !has_room)
		return SIZE_SAME;
	return request->size == 0 ? SIZE_NEW_CONTENT : SIZE_CUT;
}

static void set_size(struct change *change, struct inode *inode, uint64_t size, enum size_change kind)
{
	uint64_t blocks = (size + 4095) / 4096 * 8;

	switch (kind) {
	case SIZE_SAME:
		return;
	case SIZE_CHANGED:
		break;
	case SIZE_NEW_CONTENT:
		destroy_content(change, inode);
		inode->gen = change->record->number;
		inode->cut = inode->cut_start = inode->cut_end = inode->cut_index = 0;
		inode->flags &= ~(uint32_t)INODE_SIZE_UNSURE;
		break;
	case SIZE_CUT:
		/* Whatever a lost writer left above the new size is void. */
		cut_make(change, inode, size, UINT64_MAX);
		inode->flags &= ~(uint32_t)INODE_SIZE_UNSURE;
		break;
	}
	inode->data_version = change->index;
	inode->size = size;
	if (inode->blocks > blocks)
		inode->blocks = blocks;
}

/* Do setuid and setgid bits go? A mount knows by its kernel who may keep them, when the size changes. */
static bool kills_suid(const Strake__SetattrRequest *request)
{
	if (is_chown(request))
		return true;
	if (request->cred->trusted && request->has_kill_suid)
		return request->kill_suid;
	return request->has_size && !access_is_root(request->cred);
}

static void set_owner_and_mode(struct change *change, const Strake__SetattrRequest *request, struct inode *inode)
{
	const Strake__Cred *cred = request->cred;
	struct acl acl;

	if (kills_suid(request)) {
		inode->mode = access_mode_without_privileges(inode, access_is_member(cred, inode, request->kill_sgid));
		if (!inode_is_dir(inode))
			xattr_drop_capability(change, inode);
	}
	if (request->has_uid)
		inode->uid = request->uid;
	if (request->has_gid)
		inode->gid = request->gid;
	if (request->has_mode) {
		inode->mode = (inode->mode & S_IFMT) | (request->mode & 07777);
		/* Only members may hand out their group's rights. */
		if (!access_is_member(cred, inode, false))
			inode->mode &= ~(uint32_t)S_ISGID;
		if (inode->flags & INODE_ACL_ACCESS) {
			xattr_acl_load(change->view, inode, ACL_ACCESS, &acl);
			acl_chmod(&acl, inode->mode);
			xattr_acl_store(change->view, inode, ACL_ACCESS, &acl);
		}
	}
}

static void set_times(const struct change *change, const Strake__SetattrRequest *request, struct inode *inode)
{
	if (request->has_size) {
		inode->mtime_ns = change->now_ns;
		inode->mtime_set_ns = 0;
	}
	if (request->has_atime_ns)
		inode->atime_ns = request->atime_ns;
	else if (request->atime_now)
		inode->atime_ns = change->now_ns;
	if (request->has_mtime_ns || request->mtime_now) {
		inode->mtime_ns = request->has_mtime_ns ? request->mtime_ns : change->now_ns;
		inode->mtime_set_ns = change->now_ns;
	}
}

int setattr_apply(struct change *change, const ProtobufCMessage *message)
{
	const Strake__SetattrRequest *request = (const void *)message;
	struct inode inode;
	enum size_change size_change;
	struct answer_before before;
	int err;

	err = inode_load(change->view, request->ino, &inode);
	if (err < 0)
		return err;
	err = check_sealed(request, &inode);
	if (err == 0)
		err = check_flags(request, &inode);
	if (err == 0)
		err = check_nothing(request, &inode);
	if (err == 0)
		err = check_owner(request, &inode);
	if (err == 0)
		err = check_times(change, request, &inode);
	if (err == 0)
		err = check_size(change, request, &inode);
	if (err < 0)
		return err;
	size_change = classify_size(change, request, &inode);
	if (size_change == SIZE_CUT && cut_is_pending(change->view, inode.ino))
		return -EAGAIN;

	before = answer_before(&inode);
	set_owner_and_mode(change, request, &inode);
	set_size(change, &inode, request->size, size_change);
	set_times(change, request, &inode);
	if (request->has_flags)
		inode.flags = (inode.flags & ~(uint32_t)INODE_USER_FLAGS) | request->flags << INODE_USER_SHIFT;
	change_touch(change, &inode);

	answer_changed(change->answer, &inode, change_is_fact(change, FACT_ATTR_UNSURE), &before);
	return 0;
}
