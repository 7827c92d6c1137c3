/* Open files: a handle is the address of libstrake's struct file. */
#include "client/fuse/caller.h"
#include "client/fuse/request.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdatomic.h>
#include <unistd.h>

/* Handles travel through the kernel, perhaps to another thread: it orders memory, but no compiler or sanitizer knows. */
static atomic_uint handed_out;

struct file *fuse_file(uint64_t fh)
{
	(void)atomic_load_explicit(&handed_out, memory_order_acquire);
	return (struct file *)(uintptr_t)fh; /* the kernel gives back what it was given */
}

/*
 * What is open for reading only has nothing to bring out when it is closed, nor an error to tell. But any close of a file
 * gives back its process's locks, by whichever handle they were taken: only where those are the kernel's own FLUSH need not
 * come. (Else it is answered at once where there is nothing to do: worker.c.)
 *
 * Who appends goes past the page cache: the kernel would take the place of his bytes from the size that it knows, and cut
 * what he writes at once in two. So each of his writes is one WRITE, and its place is found here.
 */
static void fill_open(const struct fuse_request *request, struct file *file, uint32_t flags, bool keep_cache,
		      struct fuse_open_out *out)
{
	bool reads = (flags & O_ACCMODE) == O_RDONLY;

	atomic_fetch_add_explicit(&handed_out, 1, memory_order_release);
	*out = (struct fuse_open_out){
		.fh = (uint64_t)(uintptr_t)file,
		.open_flags = FOPEN_PARALLEL_DIRECT_WRITES | (keep_cache ? FOPEN_KEEP_CACHE : 0) |
			      (reads && !(request->server->flags & FUSE_POSIX_LOCKS) ? FOPEN_NOFLUSH : 0) |
			      (!reads && (flags & O_APPEND) != 0 ? FOPEN_DIRECT_IO : 0),
	};
}

/* ESTALE: a cached name led here, and the kernel looks it up again. But its NFS server cannot, and came by a handle. */
static int open_file(struct fuse_request *request, int flags, struct file **ret_file, bool *ret_keep_cache)
{
	uint64_t ino = request_ino(request, request->header.nodeid);
	int err = fs_open_file(request_fs(request), &request->ctx, ino, flags, ret_file, ret_keep_cache);

	if (err != -ESTALE || request->ctx.nameless || !caller_is_kernel(request->header.pid))
		return err;
	request->ctx.nameless = true;
	return fs_open_file(request_fs(request), &request->ctx, ino, flags, ret_file, ret_keep_cache);
}

void fuse_open(struct fuse_request *request)
{
	const struct fuse_open_in *in = fuse_args(request, sizeof(*in));
	struct fuse_open_out out;
	struct file *file;
	bool keep_cache;
	int err;

	if (in == NULL)
		return;
	if ((in->open_flags & FUSE_OPEN_KILL_SUIDGID) != 0)
		fuse_kill_suid(request, NULL);
	/* The kernel's own, for chattr(1): of what somebody has open already. All others have O_LARGEFILE at least. */
	request->ctx.nameless = in->flags == O_RDONLY;
	err = open_file(request, (int)in->flags, &file, &keep_cache);
	if (err < 0) {
		fuse_answer_error(request, err);
		return;
	}
	fill_open(request, file, in->flags, keep_cache, &out);
	if (fs_attr_outdated(file))
		fuse_drop_attr(request);
	if (fuse_answer(request, &out, sizeof(out)) < 0)
		fs_release(file);
}

/* A new file and its handle. */
static void answer_created(struct fuse_request *request, uint32_t flags, const struct attr *attr, struct file *file,
			   bool keep_cache)
{
	struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} out;

	fuse_fill_entry(request, attr, &out.entry);
	fill_open(request, file, flags, keep_cache, &out.open);
	if (fuse_answer(request, &out, sizeof(out)) < 0) {
		fs_release(file);
		fs_forget(request_fs(request), attr->ino, 1);
	}
}

void fuse_create(struct fuse_request *request)
{
	const struct fuse_create_in *in = fuse_args(request, sizeof(*in));
	struct attr attr;
	struct file *file;
	const char *name;
	bool keep_cache;
	size_t len;
	int err;

	if (in == NULL || (name = fuse_string(request, sizeof(*in), &len)) == NULL)
		return;
	request->ctx.umask = (mode_t)in->umask;
	request->ctx.kill_suid |=
		(in->open_flags & FUSE_OPEN_KILL_SUIDGID) != 0; /* of a file that has come meanwhile */
	err = fs_create(request_fs(request), &request->ctx, request_ino(request, request->header.nodeid), name, len,
			(mode_t)in->mode, (int)in->flags, &attr, &file, &keep_cache);
	if (err < 0)
		fuse_answer_error(request, err);
	else
		answer_created(request, in->flags, &attr, file, keep_cache);
}

/* The name that comes with it is nobody's. */
void fuse_tmpfile(struct fuse_request *request)
{
	const struct fuse_create_in *in = fuse_args(request, sizeof(*in));
	struct attr attr;
	struct file *file;
	bool keep_cache;
	int err;

	if (in == NULL)
		return;
	request->ctx.umask = (mode_t)in->umask;
	err = fs_tmpfile(request_fs(request), &request->ctx, request_ino(request, request->header.nodeid),
			 (mode_t)in->mode, (int)in->flags, &attr, &file, &keep_cache);
	if (err < 0)
		fuse_answer_error(request, err);
	else
		answer_created(request, in->flags, &attr, file, keep_cache);
}

void fuse_read(struct fuse_request *request)
{
	const struct fuse_read_in *in = fuse_args(request, sizeof(*in));
	struct read_result result;
	struct bulk *bulk;
	int err;

	if (in == NULL)
		return;
	bulk = buffers_get(fs_buffers(request_fs(request)));
	if (bulk == NULL) {
		fuse_answer_error(request, -ENOMEM);
		return;
	}
	request->ctx.paged = (in->read_flags & FUSE_READ_LOCKOWNER) == 0; /* only direct I/O says whose it is */
	err = in->size > bulk->size
		      ? -EINVAL
		      : fs_read(fuse_file(in->fh), &request->ctx, in->offset, in->size, bulk->data, &result);
	if (err < 0) {
		fuse_answer_error(request, err);
	} else {
		fuse_answer_iov(request, result.iov, result.iov_count);
		read_release(&result);
	}
	bulk->release(bulk);
}

void fuse_write(struct fuse_request *request)
{
	const struct fuse_write_in *in = fuse_args(request, sizeof(*in));
	struct fuse_write_out out = { 0 };
	struct bulk *bulk;
	uint64_t fh;
	int err;

	if (in == NULL)
		return;
	if (request->args_len - sizeof(*in) < in->size) {
		fuse_answer_error(request, -EINVAL);
		return;
	}
	/* As ext4 has it also by descriptors of before; what comes back from mapped pages was written before. */
	if (!(in->write_flags & FUSE_WRITE_CACHE) && (file_flags(fuse_file(in->fh)) & ATTR_IMMUTABLE)) {
		fuse_answer_error(request, -EPERM);
		return;
	}
	/* The buffer may be gone when fs_write() returns: nothing of it is used after. */
	out.size = in->size;
	if ((in->write_flags & FUSE_WRITE_KILL_SUIDGID) != 0)
		fuse_kill_suid(request, fuse_file(in->fh));
	request->ctx.mapped = (in->write_flags & FUSE_WRITE_CACHE) != 0;
	request->ctx.paged = (in->write_flags & FUSE_WRITE_LOCKOWNER) == 0;
	/* As it is open now (fcntl(2)); but who became an appender later writes through pages that have their place. */
	request->ctx.append = (in->flags & O_APPEND) != 0 && !request->ctx.mapped && fs_file_appends(fuse_file(in->fh));
	/* Of what goes past its pages the kernel leaves it to us that nothing written keeps capabilities, whoever wrote. */
	if (request->ctx.append && !request->ctx.paged && !request->ctx.kill_suid)
		fs_drop_capability(fuse_file(in->fh), &request->ctx);
	fh = in->fh;
	bulk = request->bulk;
	request->bulk = NULL;
	err = fs_write(fuse_file(fh), &request->ctx, in->offset, request->args + sizeof(*in), in->size, bulk);
	/* By direct I/O the kernel doubts size and times only. */
	if (err == 0 && request->ctx.kill_suid && file_is_privileged(fuse_file(fh)))
		fuse_drop_attr(request);
	if (err < 0)
		fuse_answer_error(request, err);
	else
		fuse_answer(request, &out, sizeof(out));
}

void fuse_flush(struct fuse_request *request)
{
	const struct fuse_flush_in *in = fuse_args(request, sizeof(*in));

	if (in != NULL)
		fuse_answer_error(request, fs_close_by(fuse_file(in->fh), &request->ctx, in->lock_owner));
}

void fuse_fsync(struct fuse_request *request)
{
	const struct fuse_fsync_in *in = fuse_args(request, sizeof(*in));

	if (in != NULL)
		fuse_answer_error(request, fs_fsync(fuse_file(in->fh), &request->ctx,
						    (in->fsync_flags & FUSE_FSYNC_FDATASYNC) != 0));
}

void fuse_fallocate(struct fuse_request *request)
{
	const struct fuse_fallocate_in *in = fuse_args(request, sizeof(*in));
	unsigned int flags;
	int err;

	if (in == NULL)
		return;
	flags = file_flags(fuse_file(in->fh));
	if ((flags & ATTR_IMMUTABLE) || ((flags & ATTR_APPEND) && (in->mode & ~(uint32_t)FALLOC_FL_KEEP_SIZE))) {
		fuse_answer_error(request, -EPERM);
		return;
	}
	/* Of this one the kernel says nothing. */
	if (!caller_has_fsetid(request->header.pid, request->header.uid))
		fuse_kill_suid(request, fuse_file(in->fh));
	err = fs_fallocate(fuse_file(in->fh), &request->ctx, (int)in->mode, in->offset, in->length);
	if (err == 0)
		fuse_drop_attr(request); /* with those that it has asked for already: client/shown.h, shown_changed() */
	fuse_answer_error(request, err);
}

void fuse_lseek(struct fuse_request *request)
{
	const struct fuse_lseek_in *in = fuse_args(request, sizeof(*in));
	struct fuse_lseek_out out = { 0 };
	int err;

	if (in == NULL)
		return;
	if (in->whence != SEEK_DATA && in->whence != SEEK_HOLE) {
		fuse_answer_error(request, -EINVAL);
		return;
	}
	err = fs_seek(fuse_file(in->fh), &request->ctx, in->offset, in->whence == SEEK_HOLE, &out.offset);
	if (err < 0)
		fuse_answer_error(request, err);
	else
		fuse_answer(request, &out, sizeof(out));
}

void fuse_copy_file_range(struct fuse_request *request)
{
	const struct fuse_copy_file_range_in *in = fuse_args(request, sizeof(*in));
	bool wide = request->header.opcode == FUSE_COPY_FILE_RANGE_64;
	struct fuse_copy_file_range_out out = { 0 };
	struct fuse_write_out narrow = { 0 };
	int err;

	if (in == NULL)
		return;
	/* The kernel knows no flag yet, and does not say who may keep setuid. */
	if (!caller_has_fsetid(request->header.pid, request->header.uid))
		fuse_kill_suid(request, fuse_file(in->fh_out));
	if (in->flags != 0)
		err = -EINVAL;
	else if (file_flags(fuse_file(in->fh_out)) & (ATTR_IMMUTABLE | ATTR_APPEND))
		err = -EPERM;
	else
		err = fs_copy(fuse_file(in->fh_in), in->off_in, fuse_file(in->fh_out), in->off_out, &request->ctx,
			      in->len, &out.bytes_copied);
	if (err == 0)
		fuse_drop_attr_of(request, in->nodeid_out); /* as in fuse_fallocate() */
	narrow.size = (uint32_t)out.bytes_copied;
	if (err < 0)
		fuse_answer_error(request, err);
	else if (wide)
		fuse_answer(request, &out, sizeof(out));
	else
		fuse_answer(request, &narrow, sizeof(narrow));
}
