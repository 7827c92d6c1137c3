/* Locks: the kernel asks here (FUSE_POSIX_LOCKS, FUSE_FLOCK_LOCKS), unless they are its own (-o local_locks). */
#include "client/fuse/request.h"

#include <errno.h>
#include <fcntl.h>

static int lock_of(const struct fuse_lk_in *in, struct fs_lock *ret_lock)
{
	if (in->lk.type != F_RDLCK && in->lk.type != F_WRLCK && in->lk.type != F_UNLCK)
		return -EINVAL;
	*ret_lock = (struct fs_lock){
		.flock = (in->lk_flags & FUSE_LK_FLOCK) != 0,
		.type = (int)in->lk.type,
		.start = in->lk.start,
		.end = in->lk.end,
		.owner = in->owner,
		.pid = (pid_t)in->lk.pid,
	};
	return 0;
}

void fuse_getlk(struct fuse_request *request)
{
	const struct fuse_lk_in *in = fuse_args(request, sizeof(*in));
	struct fuse_lk_out out = { 0 };
	struct fs_lock lock;
	int err;

	if (in == NULL)
		return;
	err = lock_of(in, &lock);
	fuse_releases_settle(request);
	if (err == 0)
		err = fs_lock_test(fuse_file(in->fh), &request->ctx, &lock);
	if (err < 0) {
		fuse_answer_error(request, err);
		return;
	}
	out.lk = (struct fuse_file_lock){
		.start = lock.start, .end = lock.end, .type = (uint32_t)lock.type, .pid = (uint32_t)lock.pid
	};
	fuse_answer(request, &out, sizeof(out));
}

static void set_lock(struct fuse_request *request, bool wait)
{
	const struct fuse_lk_in *in = fuse_args(request, sizeof(*in));
	struct fs_lock lock;
	int err;

	if (in == NULL)
		return;
	err = lock_of(in, &lock);
	fuse_releases_settle(request);
	if (err == 0)
		err = fs_lock(fuse_file(in->fh), &request->ctx, &lock, wait);
	fuse_answer_error(request, err);
}

void fuse_setlk(struct fuse_request *request)
{
	set_lock(request, false);
}

void fuse_setlkw(struct fuse_request *request)
{
	set_lock(request, true);
}
