/*
 * IOCTL: what chattr(1), lsattr(1) and their like ask for a file or directory: FS_IOC_GETFLAGS, SETFLAGS, FSGETXATTR and
 * FSSETXATTR. The kernel has opened it for that by itself, and has checked who may (the owner; CAP_LINUX_IMMUTABLE for what
 * seals). All others are nobody's here: ENOTTY.
 */
#include "client/fuse/request.h"

#include <errno.h>
#include <linux/fs.h>
#include <string.h>

/* One flag by its three names. */
static const struct {
	unsigned int ours, fs, xfs;
} flag_table[] = {
	{ ATTR_IMMUTABLE, FS_IMMUTABLE_FL, FS_XFLAG_IMMUTABLE },
	{ ATTR_APPEND, FS_APPEND_FL, FS_XFLAG_APPEND },
	{ ATTR_NODUMP, FS_NODUMP_FL, FS_XFLAG_NODUMP },
	{ ATTR_NOATIME, FS_NOATIME_FL, FS_XFLAG_NOATIME },
};
#define FLAG_COUNT (sizeof(flag_table) / sizeof(*flag_table))

static void ioctl_get(struct fuse_request *request, bool xfs)
{
	struct {
		struct fuse_ioctl_out head;
		union {
			uint32_t flags;
			struct fsxattr xattr;
		} as;
	} out = { 0 };
	struct attr attr;
	int err = fs_getattr(request_fs(request), &request->ctx, request_ino(request, request->header.nodeid), true,
			     &attr);

	if (err < 0) {
		fuse_answer_error(request, err);
		return;
	}
	for (size_t i = 0; i < FLAG_COUNT; i++) {
		if (!(attr.flags & flag_table[i].ours))
			continue;
		if (xfs)
			out.as.xattr.fsx_xflags |= flag_table[i].xfs;
		else
			out.as.flags |= flag_table[i].fs;
	}
	fuse_answer(request, &out, sizeof(out.head) + (xfs ? sizeof(out.as.xattr) : sizeof(out.as.flags)));
}

static void ioctl_set(struct fuse_request *request, unsigned int flags, bool xfs)
{
	struct fuse_ioctl_out out = { 0 };
	struct attr attr = { 0 };
	int err;

	for (size_t i = 0; i < FLAG_COUNT; i++) {
		unsigned int theirs = xfs ? flag_table[i].xfs : flag_table[i].fs;

		if (flags & theirs)
			attr.flags |= (uint8_t)flag_table[i].ours;
		flags &= ~theirs;
	}
	err = flags != 0 ? -EOPNOTSUPP
			 : fs_setattr(request_fs(request), &request->ctx, request_ino(request, request->header.nodeid),
				      SETATTR_FLAGS, &attr, &attr);
	if (err < 0) {
		fuse_answer_error(request, err);
		return;
	}
	fuse_drop_attr(request); /* ctime */
	fuse_answer(request, &out, sizeof(out));
}

void fuse_ioctl(struct fuse_request *request)
{
	const struct fuse_ioctl_in *in = fuse_args(request, sizeof(*in));
	struct fsxattr xattr;
	uint32_t flags;
	size_t size;

	if (in == NULL)
		return;
	size = request->args_len - sizeof(*in);
	if (in->cmd == FS_IOC_GETFLAGS && in->out_size >= sizeof(flags)) {
		ioctl_get(request, false);
	} else if (in->cmd == FS_IOC_FSGETXATTR && in->out_size >= sizeof(xattr)) {
		ioctl_get(request, true);
	} else if (in->cmd == FS_IOC_SETFLAGS && size >= sizeof(flags)) {
		memcpy(&flags, request->args + sizeof(*in), sizeof(flags));
		ioctl_set(request, flags, false);
	} else if (in->cmd == FS_IOC_FSSETXATTR && size >= sizeof(xattr)) {
		memcpy(&xattr, request->args + sizeof(*in), sizeof(xattr));
		/* Extents and projects are nothing that we have. */
		if (xattr.fsx_extsize != 0 || xattr.fsx_cowextsize != 0 || xattr.fsx_projid != 0)
			fuse_answer_error(request, -EOPNOTSUPP);
		else
			ioctl_set(request, xattr.fsx_xflags, true);
	} else {
		fuse_answer_error(request, -ENOTTY);
	}
}
