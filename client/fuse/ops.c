/* Names and attributes; and the table of all operations. */
#include "client/fuse/request.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

/*
 * "." and ".." are not of a path: who has a handle of what the kernel has forgotten is asking (open_by_handle_at(2), an NFS
 * server). A handle leads out of a mounted subdirectory, as on any filesystem; only what the kernel takes for the mount's
 * root cannot be shown then.
 */
static int lookup_dots(struct fuse_request *request, uint64_t ino, const char *name, size_t len, struct attr *ret_attr)
{
	struct fs *fs = request_fs(request);
	int err;

	if (ino == fs_root(fs) && len == 2)
		return -ENOENT; /* whatever it is elsewhere */
	err = fs_lookup(fs, &request->ctx, ino, name, len, ret_attr);
	if (err == 0 && ret_attr->ino == FUSE_ROOT_ID && ret_attr->ino != fs_root(fs)) {
		fs_forget(fs, ret_attr->ino, 1);
		err = -ESTALE;
	}
	return err;
}

static void fuse_lookup(struct fuse_request *request)
{
	uint64_t ino = request_ino(request, request->header.nodeid);
	struct attr attr;
	size_t len;
	const char *name = fuse_string(request, 0, &len);
	bool dots;
	int err;

	if (name == NULL)
		return;
	dots = strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
	err = dots ? lookup_dots(request, ino, name, len, &attr)
		   : fs_lookup(request_fs(request), &request->ctx, ino, name, len, &attr);
	if (err < 0)
		fuse_answer_error(request, err);
	else if (dots)
		fuse_answer_nameless(request, &attr);
	else
		fuse_answer_entry(request, &attr);
}

static void fuse_getattr(struct fuse_request *request)
{
	struct attr attr;
	int err = fs_getattr(request_fs(request), &request->ctx, request_ino(request, request->header.nodeid), false,
			     &attr);

	if (err < 0)
		fuse_answer_error(request, err);
	else
		fuse_answer_attr(request, &attr);
}

/* GETATTR with the time of birth: the kernel asks for it when somebody wants to know that. */
static void fuse_statx(struct fuse_request *request)
{
	const struct fuse_statx_in *in = fuse_args(request, sizeof(*in));
	struct attr attr;
	int err;

	if (in == NULL)
		return;
	err = fs_getattr(request_fs(request), &request->ctx, request_ino(request, request->header.nodeid), false,
			 &attr);
	if (err < 0)
		fuse_answer_error(request, err);
	else
		fuse_answer_statx(request, &attr);
}

static void fuse_setattr(struct fuse_request *request)
{
	static const struct {
		uint32_t fuse;
		unsigned int field;
	} map[] = {
		{ FATTR_MODE, SETATTR_MODE },
		{ FATTR_UID, SETATTR_UID },
		{ FATTR_GID, SETATTR_GID },
		{ FATTR_SIZE, SETATTR_SIZE },
		{ FATTR_ATIME, SETATTR_ATIME },
		{ FATTR_MTIME, SETATTR_MTIME },
		{ FATTR_ATIME_NOW, SETATTR_ATIME_NOW },
		{ FATTR_MTIME_NOW, SETATTR_MTIME_NOW },
		{ FATTR_FH, SETATTR_BY_HANDLE },
	};
	const struct fuse_setattr_in *in = fuse_args(request, sizeof(*in));
	unsigned int fields = 0;
	struct attr attr;
	int err;

	if (in == NULL)
		return;
	if ((in->valid & FATTR_FH) != 0 && (in->valid & FATTR_SIZE) != 0)
		request->ctx.file = fuse_file(in->fh);
	for (size_t i = 0; i < sizeof(map) / sizeof(*map); i++)
		if (in->valid & map[i].fuse)
			fields |= map[i].field;
	/* The kernel says "now" together with the plain bit. */
	if (fields & SETATTR_ATIME_NOW)
		fields &= ~(unsigned int)SETATTR_ATIME;
	if (fields & SETATTR_MTIME_NOW)
		fields &= ~(unsigned int)SETATTR_MTIME;
	/* A change of nothing is chown(-1, -1), or a write that takes privileges away by the kernel's own account. */
	if ((in->valid & FATTR_KILL_SUIDGID) != 0 || fields == 0)
		fuse_kill_suid(request, NULL);
	attr = (struct attr){
		.mode = (mode_t)in->mode,
		.uid = in->uid,
		.gid = in->gid,
		.size = in->size,
		.atime_ns = attr_time_ns((int64_t)in->atime, in->atimensec),
		.mtime_ns = attr_time_ns((int64_t)in->mtime, in->mtimensec),
	};
	err = fs_setattr(request_fs(request), &request->ctx, request_ino(request, request->header.nodeid), fields,
			 &attr, &attr);
	if (err < 0)
		fuse_answer_error(request, err);
	else
		fuse_answer_attr(request, &attr);
}

static void fuse_readlink(struct fuse_request *request)
{
	char target[PATH_MAX];
	size_t len;
	int err = fs_readlink(request_fs(request), &request->ctx, request->header.nodeid, target, sizeof(target), &len);

	if (err < 0)
		fuse_answer_error(request, err);
	else
		fuse_answer(request, target, len);
}

static void answer_made(struct fuse_request *request, int err, const struct attr *attr)
{
	if (err < 0)
		fuse_answer_error(request, err);
	else
		fuse_answer_entry(request, attr);
}

static void fuse_symlink(struct fuse_request *request)
{
	size_t len, target_len;
	const char *name = fuse_string(request, 0, &len), *target;
	struct attr attr;
	int err;

	if (name == NULL || (target = fuse_string(request, len + 1, &target_len)) == NULL)
		return;
	err = fs_symlink(request_fs(request), &request->ctx, request_ino(request, request->header.nodeid), name, len,
			 target, target_len, &attr);
	answer_made(request, err, &attr);
}

static void fuse_mknod(struct fuse_request *request)
{
	const struct fuse_mknod_in *in = fuse_args(request, sizeof(*in));
	const char *name;
	struct attr attr;
	size_t len;
	int err;

	if (in == NULL || (name = fuse_string(request, sizeof(*in), &len)) == NULL)
		return;
	request->ctx.umask = (mode_t)in->umask;
	err = fs_mknod(request_fs(request), &request->ctx, request_ino(request, request->header.nodeid), name, len,
		       (mode_t)in->mode, in->rdev, &attr);
	answer_made(request, err, &attr);
}

static void fuse_mkdir(struct fuse_request *request)
{
	const struct fuse_mkdir_in *in = fuse_args(request, sizeof(*in));
	const char *name;
	struct attr attr;
	size_t len;
	int err;

	if (in == NULL || (name = fuse_string(request, sizeof(*in), &len)) == NULL)
		return;
	request->ctx.umask = (mode_t)in->umask;
	err = fs_mkdir(request_fs(request), &request->ctx, request_ino(request, request->header.nodeid), name, len,
		       (mode_t)in->mode, &attr);
	answer_made(request, err, &attr);
}

static void fuse_unlink(struct fuse_request *request)
{
	size_t len;
	const char *name = fuse_string(request, 0, &len);

	if (name != NULL)
		fuse_answer_error(request, fs_unlink(request_fs(request), &request->ctx,
						     request_ino(request, request->header.nodeid), name, len));
}

static void fuse_rmdir(struct fuse_request *request)
{
	size_t len;
	const char *name = fuse_string(request, 0, &len);

	if (name != NULL)
		fuse_answer_error(request, fs_rmdir(request_fs(request), &request->ctx,
						    request_ino(request, request->header.nodeid), name, len));
}

static void do_rename(struct fuse_request *request, size_t head, uint64_t newdir, unsigned int flags)
{
	size_t len, new_len;
	const char *name = fuse_string(request, head, &len), *new_name;

	if (name == NULL || (new_name = fuse_string(request, head + len + 1, &new_len)) == NULL)
		return;
	fuse_answer_error(request,
			  fs_rename(request_fs(request), &request->ctx, request_ino(request, request->header.nodeid),
				    name, len, request_ino(request, newdir), new_name, new_len, flags));
}

static void fuse_rename(struct fuse_request *request)
{
	const struct fuse_rename_in *in = fuse_args(request, sizeof(*in));

	if (in != NULL)
		do_rename(request, sizeof(*in), in->newdir, 0);
}

static void fuse_rename2(struct fuse_request *request)
{
	const struct fuse_rename2_in *in = fuse_args(request, sizeof(*in));

	if (in != NULL)
		do_rename(request, sizeof(*in), in->newdir, in->flags);
}

static void fuse_link(struct fuse_request *request)
{
	const struct fuse_link_in *in = fuse_args(request, sizeof(*in));
	const char *name;
	struct attr attr;
	size_t len;
	int err;

	if (in == NULL || (name = fuse_string(request, sizeof(*in), &len)) == NULL)
		return;
	err = fs_link(request_fs(request), &request->ctx, request_ino(request, in->oldnodeid),
		      request_ino(request, request->header.nodeid), name, len, &attr);
	answer_made(request, err, &attr);
}

static void fuse_access(struct fuse_request *request)
{
	const struct fuse_access_in *in = fuse_args(request, sizeof(*in));

	if (in != NULL)
		fuse_answer_error(request, fs_access(request_fs(request), &request->ctx,
						     request_ino(request, request->header.nodeid), (int)in->mask));
}

static void fuse_statfs(struct fuse_request *request)
{
	struct fuse_statfs_out out = { 0 };
	struct statvfs st;
	int err = fs_statfs(request_fs(request), &request->ctx, &st);

	if (err < 0) {
		fuse_answer_error(request, err);
		return;
	}
	out.st.blocks = st.f_blocks;
	out.st.bfree = st.f_bfree;
	out.st.bavail = st.f_bavail;
	out.st.files = st.f_files;
	out.st.ffree = st.f_ffree;
	out.st.bsize = (uint32_t)st.f_bsize;
	out.st.namelen = (uint32_t)st.f_namemax;
	out.st.frsize = (uint32_t)st.f_frsize;
	fuse_answer(request, &out, sizeof(out));
}

static void fuse_syncfs(struct fuse_request *request)
{
	fuse_answer_error(request, fs_sync(request_fs(request), &request->ctx));
}

fuse_handler fuse_handler_of(uint32_t opcode)
{
	static const fuse_handler handlers[] = {
		[FUSE_LOOKUP] = fuse_lookup,
		[FUSE_GETATTR] = fuse_getattr,
		[FUSE_SETATTR] = fuse_setattr,
		[FUSE_READLINK] = fuse_readlink,
		[FUSE_SYMLINK] = fuse_symlink,
		[FUSE_MKNOD] = fuse_mknod,
		[FUSE_MKDIR] = fuse_mkdir,
		[FUSE_UNLINK] = fuse_unlink,
		[FUSE_RMDIR] = fuse_rmdir,
		[FUSE_RENAME] = fuse_rename,
		[FUSE_LINK] = fuse_link,
		[FUSE_OPEN] = fuse_open,
		[FUSE_READ] = fuse_read,
		[FUSE_WRITE] = fuse_write,
		[FUSE_STATFS] = fuse_statfs,
		[FUSE_FSYNC] = fuse_fsync,
		[FUSE_SETXATTR] = fuse_setxattr,
		[FUSE_GETXATTR] = fuse_getxattr,
		[FUSE_LISTXATTR] = fuse_listxattr,
		[FUSE_REMOVEXATTR] = fuse_removexattr,
		[FUSE_FLUSH] = fuse_flush,
		[FUSE_OPENDIR] = fuse_opendir,
		[FUSE_READDIR] = fuse_readdir,
		[FUSE_RELEASEDIR] = fuse_releasedir,
		[FUSE_FSYNCDIR] = fuse_fsyncdir,
		[FUSE_GETLK] = fuse_getlk,
		[FUSE_SETLK] = fuse_setlk,
		[FUSE_SETLKW] = fuse_setlkw,
		[FUSE_ACCESS] = fuse_access,
		[FUSE_CREATE] = fuse_create,
		[FUSE_IOCTL] = fuse_ioctl,
		[FUSE_FALLOCATE] = fuse_fallocate,
		[FUSE_READDIRPLUS] = fuse_readdirplus,
		[FUSE_RENAME2] = fuse_rename2,
		[FUSE_LSEEK] = fuse_lseek,
		[FUSE_COPY_FILE_RANGE] = fuse_copy_file_range,
		[FUSE_COPY_FILE_RANGE_64] = fuse_copy_file_range,
		[FUSE_SYNCFS] = fuse_syncfs,
		[FUSE_TMPFILE] = fuse_tmpfile,
		[FUSE_STATX] = fuse_statx,
	};

	return opcode < sizeof(handlers) / sizeof(*handlers) ? handlers[opcode] : NULL;
}
