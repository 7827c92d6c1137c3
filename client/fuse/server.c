#include "client/fuse/server.h"

#include "client/fuse/protocol.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Flags of FUSE_INIT that we ask for where the kernel offers them. */
#define WANTED                                                                                                \
	((uint64_t)FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES | FUSE_DO_READDIRPLUS |            \
	 FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES | FUSE_DONT_MASK |    \
	 FUSE_HANDLE_KILLPRIV_V2 | FUSE_EXPORT_SUPPORT | FUSE_POSIX_ACL | FUSE_SETXATTR_EXT | FUSE_INIT_EXT | \
	 FUSE_DIRECT_IO_ALLOW_MMAP)
#define WANTED_LOCKS ((uint64_t)FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS)

#define BACKGROUND_MAX 64

static int init_read(int fd, void *buffer, size_t size)
{
	ssize_t n;

	do
		n = read(fd, buffer, size);
	while (n < 0 && (errno == EINTR || errno == EAGAIN));
	return n < 0 ? -errno : (int)n;
}

/* What the kernel offers; the upper half came with INIT_EXT. */
static uint64_t flags_offered(const struct fuse_init_in *in)
{
	return in->flags | ((in->flags & FUSE_INIT_EXT) ? (uint64_t)in->flags2 << 32 : 0);
}

int fuse_server_init(int fd, bool local_locks, uint64_t *ret_flags, char *error, size_t error_size)
{
	const uint64_t wanted = WANTED | (local_locks ? 0 : WANTED_LOCKS);
	struct {
		struct fuse_in_header header;
		struct fuse_init_in init;
	} * in;
	struct {
		struct fuse_out_header header;
		struct fuse_init_out init;
	} out = { .header.len = sizeof(out) };
	void *buffer = malloc(BUFFERS_ROOM);
	int n, err = 0;

	if (buffer == NULL)
		return -ENOMEM;
	n = init_read(fd, buffer, BUFFERS_ROOM);
	in = buffer;
	if (n < (int)(sizeof(in->header) + 16) || in->header.opcode != FUSE_INIT) {
		snprintf(error, error_size, "the kernel did not begin with INIT");
		err = n < 0 ? n : -EPROTO;
	} else if (in->init.major != FUSE_KERNEL_VERSION || in->init.minor < 31) {
		snprintf(error, error_size, "the kernel speaks FUSE %u.%u; 7.31 (Linux 5.4) or newer is needed",
			 in->init.major, in->init.minor);
		err = -EPROTO;
	} else {
		out.header.unique = in->header.unique;
		out.init.major = FUSE_KERNEL_VERSION;
		out.init.minor = FUSE_KERNEL_MINOR_VERSION;
		out.init.max_readahead = in->init.max_readahead;
		*ret_flags = flags_offered(&in->init) & wanted;
		out.init.flags = (uint32_t)*ret_flags;
		out.init.flags2 = (uint32_t)(*ret_flags >> 32);
		out.init.max_background = BACKGROUND_MAX;
		out.init.congestion_threshold = BACKGROUND_MAX / 4 * 3;
		out.init.max_write = FUSE_WRITE_SIZE;
		/* A write of that size from anywhere in memory: it may begin in one page and end in another. */
		out.init.max_pages = (uint16_t)(FUSE_WRITE_SIZE / (size_t)getpagesize() + 1);
		out.init.time_gran = 1;
		if (write(fd, &out, sizeof(out)) < 0) {
			err = -errno;
			snprintf(error, error_size, "the kernel refused our INIT");
		}
	}
	free(buffer);
	return err;
}
