#include "client/fuse/request.h"

#include "client/fuse/caller.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

uint64_t request_ino(const struct fuse_request *request, uint64_t nodeid)
{
	return nodeid == FUSE_ROOT_ID ? fs_root(request->server->fs) : nodeid;
}

int fuse_answer_iov(struct fuse_request *request, const struct iovec *iov, int count)
{
	struct fuse_out_header header = { .unique = request->header.unique };
	struct iovec all[16] = { { .iov_base = &header, .iov_len = sizeof(header) } };
	size_t size = sizeof(header);
	ssize_t n;

	for (int i = 0; i < count; i++) {
		all[i + 1] = iov[i];
		size += iov[i].iov_len;
	}
	header.len = (uint32_t)size;
	request->answered = true;
	n = writev(request->fd, all, count + 1);
	return n < 0 ? -errno : 0;
}

int fuse_answer(struct fuse_request *request, const void *data, size_t size)
{
	struct iovec iov = { .iov_len = size };

	memcpy(&iov.iov_base, &data, sizeof(data)); /* writev() only reads it */
	return fuse_answer_iov(request, &iov, 1);
}

int fuse_answer_error(struct fuse_request *request, int err)
{
	struct fuse_out_header header = { .len = sizeof(header), .error = err, .unique = request->header.unique };

	request->answered = true;
	return write(request->fd, &header, sizeof(header)) < 0 ? -errno : 0;
}

static void fill_time(int64_t ns, uint64_t *seconds, uint32_t *nanoseconds)
{
	int64_t s = ns / 1000000000, rest = ns % 1000000000;

	if (rest < 0) {
		rest += 1000000000;
		s--;
	}
	*seconds = (uint64_t)s;
	*nanoseconds = (uint32_t)rest;
}

static void fill_attr(const struct attr *attr, struct fuse_attr *out)
{
	struct stat st;

	attr_to_stat(attr, &st);
	*out = (struct fuse_attr){
		.ino = attr->ino,
		.size = attr->size,
		.blocks = attr->blocks,
		.mode = attr->mode,
		.nlink = attr->nlink,
		.uid = attr->uid,
		.gid = attr->gid,
		.rdev = (uint32_t)attr->rdev,
		.blksize = (uint32_t)st.st_blksize,
	};
	fill_time(attr->atime_ns, &out->atime, &out->atimensec);
	fill_time(attr->mtime_ns, &out->mtime, &out->mtimensec);
	fill_time(attr->ctime_ns, &out->ctime, &out->ctimensec);
}

/* attr_ns, name_ns: for how long that is believed. */
static void fill_entry(const struct fuse_server *server, const struct attr *attr, uint64_t attr_ns, uint64_t name_ns,
		       struct fuse_entry_out *out)
{
	*out = (struct fuse_entry_out){
		.nodeid = attr->ino == fs_root(server->fs) ? FUSE_ROOT_ID : attr->ino,
		.entry_valid = name_ns / NSEC_PER_SEC,
		.entry_valid_nsec = (uint32_t)(name_ns % NSEC_PER_SEC),
		.attr_valid = attr_ns / NSEC_PER_SEC,
		.attr_valid_nsec = (uint32_t)(attr_ns % NSEC_PER_SEC),
	};
	fill_attr(attr, &out->attr);
}

void fuse_fill_entry(const struct fuse_request *request, const struct attr *attr, struct fuse_entry_out *out)
{
	const struct fuse_server *server = request->server;
	uint64_t dir = request_ino(request, request->header.nodeid);
	uint64_t name_ns, attr_ns = fs_entry_shown(server->fs, &request->ctx, dir, attr, &name_ns);

	fill_entry(server, attr, attr_ns, name_ns, out);
}

/* The kernel counts no references of the root. */
static void answer_entry(struct fuse_request *request, uint64_t ino, const struct fuse_entry_out *entry)
{
	if (fuse_answer(request, entry, sizeof(*entry)) < 0 || entry->nodeid == FUSE_ROOT_ID)
		fs_forget(request_fs(request), ino, 1);
}

void fuse_answer_entry(struct fuse_request *request, const struct attr *attr)
{
	struct fuse_entry_out out;

	fuse_fill_entry(request, attr, &out);
	answer_entry(request, attr->ino, &out);
}

void fuse_answer_nameless(struct fuse_request *request, const struct attr *attr)
{
	struct fuse_entry_out out;

	fill_entry(request->server, attr, fs_attr_shown(request_fs(request), &request->ctx, attr), 0, &out);
	answer_entry(request, attr->ino, &out);
}

void fuse_answer_attr(struct fuse_request *request, const struct attr *attr)
{
	uint64_t valid_ns = fs_attr_shown(request_fs(request), &request->ctx, attr);
	struct fuse_attr_out out = {
		.attr_valid = valid_ns / NSEC_PER_SEC,
		.attr_valid_nsec = (uint32_t)(valid_ns % NSEC_PER_SEC),
	};

	fill_attr(attr, &out.attr);
	fuse_answer(request, &out, sizeof(out));
}

static void fill_statx_time(int64_t ns, struct fuse_sx_time *out)
{
	uint64_t seconds;

	fill_time(ns, &seconds, &out->tv_nsec);
	out->tv_sec = (int64_t)seconds;
}

void fuse_answer_statx(struct fuse_request *request, const struct attr *attr)
{
	uint64_t valid_ns = fs_attr_shown(request_fs(request), &request->ctx, attr);
	struct fuse_statx_out out = {
		.attr_valid = valid_ns / NSEC_PER_SEC,
		.attr_valid_nsec = (uint32_t)(valid_ns % NSEC_PER_SEC),
	};
	struct fuse_statx *stat = &out.stat;
	struct fuse_attr plain;

	fill_attr(attr, &plain);
	*stat = (struct fuse_statx){
		.mask = STATX_BASIC_STATS | STATX_BTIME,
		.blksize = plain.blksize,
		.nlink = plain.nlink,
		.uid = plain.uid,
		.gid = plain.gid,
		.mode = (uint16_t)plain.mode,
		.ino = plain.ino,
		.size = plain.size,
		.blocks = plain.blocks,
		.rdev_major = major(plain.rdev),
		.rdev_minor = minor(plain.rdev),
	};
	fill_statx_time(attr->atime_ns, &stat->atime);
	fill_statx_time(attr->btime_ns, &stat->btime);
	fill_statx_time(attr->ctime_ns, &stat->ctime);
	fill_statx_time(attr->mtime_ns, &stat->mtime);
	fuse_answer(request, &out, sizeof(out));
}

void fuse_drop_attr(const struct fuse_request *request)
{
	fuse_drop_attr_of(request, request->header.nodeid);
}

void fuse_drop_attr_of(const struct fuse_request *request, uint64_t nodeid)
{
	struct {
		struct fuse_out_header header;
		struct fuse_notify_inval_inode_out inode;
	} out = {
		.header = { .len = sizeof(out), .error = FUSE_NOTIFY_INVAL_INODE },
		.inode = { .ino = nodeid, .off = -1 },
	};

	/* An error means that the kernel does not know it, so has nothing to drop. */
	(void)!write(request->fd, &out, sizeof(out));
}

void fuse_kill_suid(struct fuse_request *request, const struct file *file)
{
	uint64_t ino = request_ino(request, request->header.nodeid);
	gid_t group;
	bool depends =
		file != NULL ? file_has_group_mark(file, &group) : fs_has_group_mark(request_fs(request), ino, &group);

	request->ctx.kill_suid = true;
	request->ctx.kill_sgid |= depends && group != request->header.gid &&
				  !caller_is_member(request->header.pid, request->header.uid, group);
}

const void *fuse_args(struct fuse_request *request, size_t size)
{
	if (request->args_len >= size)
		return request->args;
	fuse_answer_error(request, -EINVAL);
	return NULL;
}

const char *fuse_string(struct fuse_request *request, size_t offset, size_t *ret_len)
{
	const char *text = (const char *)request->args + offset;

	if (offset < request->args_len) {
		*ret_len = strnlen(text, request->args_len - offset);
		if (*ret_len < request->args_len - offset)
			return text;
	}
	fuse_answer_error(request, -EINVAL);
	return NULL;
}
