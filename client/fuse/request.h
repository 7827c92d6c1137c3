/*
 * One request of the kernel: its bytes, who asks, how to answer. A handler (ops.c, io.c, dir.c) runs in a fiber and
 * answers exactly once by one of the reply functions.
 */
#ifndef STRAKE_CLIENT_FUSE_REQUEST_H
#define STRAKE_CLIENT_FUSE_REQUEST_H

#include "client/fuse/server.h"

#include <sys/uio.h>

struct fuse_request {
	struct fuse_server *server;
	struct fuse_worker *worker;
	int fd; /* the descriptor it came by */
	struct fuse_in_header header;
	const uint8_t *args; /* after the header; followed by a NUL that is not part of it */
	size_t args_len;
	struct bulk *bulk; /* the device buffer that args lies in, if the request owns it: a large WRITE */
	struct fs_ctx ctx;
	bool answered;
	uint64_t signalled_ns;          /* since then its caller has a signal that need not be the last; 0: none */
	struct fuse_request *hash_next; /* in the worker's table of those under way */
};

static inline struct fs *request_fs(const struct fuse_request *request)
{
	return request->server->fs;
}

/* The inode number behind a node id: they are the same but for the root's. */
uint64_t request_ino(const struct fuse_request *request, uint64_t nodeid);

/* err: 0 or -errno. */
int fuse_answer_error(struct fuse_request *request, int err);
/* -errno where the kernel no longer wants it (-ENOENT: interrupted meanwhile). */
int fuse_answer(struct fuse_request *request, const void *data, size_t size);
int fuse_answer_iov(struct fuse_request *request, const struct iovec *iov, int count);
/* An entry; gives the reference of a lookup back when the kernel does not take it. */
void fuse_answer_entry(struct fuse_request *request, const struct attr *attr);
/* ... that the kernel has come to by no name of it. */
void fuse_answer_nameless(struct fuse_request *request, const struct attr *attr);
void fuse_answer_attr(struct fuse_request *request, const struct attr *attr);
void fuse_answer_statx(struct fuse_request *request, const struct attr *attr); /* ... with the time of birth */
/* Have the kernel forget the attributes (not the pages) of the request's inode. Returns at once. */
void fuse_drop_attr(const struct fuse_request *request);
void fuse_drop_attr_of(const struct fuse_request *request, uint64_t nodeid); /* ... of that one */

/* A name in the directory that the request is about. */
void fuse_fill_entry(const struct fuse_request *request, const struct attr *attr, struct fuse_entry_out *out);

/*
 * The caller may not keep setuid and setgid bits of the request's inode, says the kernel; not whether he is a member of
 * its group, on which some of it depends: found out here, where it does. file: the handle that it came by, or NULL.
 */
void fuse_kill_suid(struct fuse_request *request, const struct file *file);

/* Fixed arguments: NULL (and answered EINVAL) when the request is shorter than its structure. */
const void *fuse_args(struct fuse_request *request, size_t size);
/* The string that begins at offset of the args; *ret_len without its NUL. NULL (answered) when it does not end in time.
 */
const char *fuse_string(struct fuse_request *request, size_t offset, size_t *ret_len);

typedef void (*fuse_handler)(struct fuse_request *request);
fuse_handler fuse_handler_of(uint32_t opcode); /* NULL: ENOSYS */

/* io.c */
void fuse_open(struct fuse_request *request);
void fuse_create(struct fuse_request *request);
void fuse_tmpfile(struct fuse_request *request);
void fuse_read(struct fuse_request *request);
void fuse_write(struct fuse_request *request);
void fuse_flush(struct fuse_request *request);
void fuse_fsync(struct fuse_request *request);
void fuse_fallocate(struct fuse_request *request);
void fuse_lseek(struct fuse_request *request);
void fuse_copy_file_range(struct fuse_request *request); /* and the one of 64 bits */

/* The handle behind a number that the kernel was given. */
struct file *fuse_file(uint64_t fh);

/* worker.c: whatever RELEASE the kernel sent before this request, to any worker, has been served when it returns. Waits. */
void fuse_releases_settle(const struct fuse_request *request);

/* lock.c */
void fuse_getlk(struct fuse_request *request);
void fuse_setlk(struct fuse_request *request);
void fuse_setlkw(struct fuse_request *request);

/* dir.c */
void fuse_opendir(struct fuse_request *request);
void fuse_readdir(struct fuse_request *request);
void fuse_readdirplus(struct fuse_request *request);
void fuse_releasedir(struct fuse_request *request);
void fuse_fsyncdir(struct fuse_request *request);

/* ioctl.c */
void fuse_ioctl(struct fuse_request *request);

/* xattr.c */
void fuse_setxattr(struct fuse_request *request);
void fuse_getxattr(struct fuse_request *request);
void fuse_listxattr(struct fuse_request *request);
void fuse_removexattr(struct fuse_request *request);

#endif
