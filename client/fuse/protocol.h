/*
 * The kernel's protocol: linux/fuse.h, and what it has got since the 7.38 of Debian 12. What is spoken is negotiated by
 * INIT, so all of it may be named whatever kernel runs.
 *
 * Include this instead of linux/fuse.h. Sizes are the protocol's, for ever.
 */
#ifndef STRAKE_CLIENT_FUSE_PROTOCOL_H
#define STRAKE_CLIENT_FUSE_PROTOCOL_H

#include <linux/fuse.h>

#if FUSE_KERNEL_MINOR_VERSION < 39

#define FUSE_STATX 52

struct fuse_sx_time {
	int64_t tv_sec;
	uint32_t tv_nsec;
	int32_t __reserved;
};

struct fuse_statx {
	uint32_t mask; /* STATX_TYPE, ...: which fields are told */
	uint32_t blksize;
	uint64_t attributes;
	uint32_t nlink, uid, gid;
	uint16_t mode;
	uint16_t __spare0[1];
	uint64_t ino, size, blocks, attributes_mask;
	struct fuse_sx_time atime, btime, ctime, mtime;
	uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
	uint64_t __spare2[14];
};

struct fuse_statx_in {
	uint32_t getattr_flags, reserved;
	uint64_t fh;
	uint32_t sx_flags, sx_mask;
};

struct fuse_statx_out {
	uint64_t attr_valid;
	uint32_t attr_valid_nsec, flags;
	uint64_t spare[2];
	struct fuse_statx stat;
};

/* MAP_SHARED of what was opened with FOPEN_DIRECT_IO. */
#define FUSE_DIRECT_IO_ALLOW_MMAP (1ULL << 36)

#endif

#if FUSE_KERNEL_MINOR_VERSION < 44

/* All names are asked for anew, and nothing is waited for: a notification without a body. EINVAL: the kernel is older. */
#define FUSE_NOTIFY_INC_EPOCH 8

#endif

#if FUSE_KERNEL_MINOR_VERSION < 45

/* COPY_FILE_RANGE with the same arguments, whose answer is not bounded by 32 bits. */
#define FUSE_COPY_FILE_RANGE_64 53

struct fuse_copy_file_range_out {
	uint64_t bytes_copied;
};

#endif

_Static_assert(FUSE_TMPFILE == 51 && FUSE_STATX == 52 && FUSE_COPY_FILE_RANGE_64 == 53, "numbers of operations");
_Static_assert(FUSE_NOTIFY_DELETE == 6 && FUSE_NOTIFY_INC_EPOCH == 8, "numbers of notifications");
_Static_assert(FUSE_DIRECT_IO_ALLOW_MMAP == 1ULL << 36 && FUSE_INIT_EXT == 1 << 30, "flags of INIT");
_Static_assert(sizeof(struct fuse_init_in) == 64 && sizeof(struct fuse_init_out) == 64, "INIT");
_Static_assert(sizeof(struct fuse_attr) == 88 && sizeof(struct fuse_entry_out) == 128, "attributes and entries");
_Static_assert(sizeof(struct fuse_sx_time) == 16 && sizeof(struct fuse_statx) == 256, "attributes of statx(2)");
_Static_assert(sizeof(struct fuse_statx_in) == 24 && sizeof(struct fuse_statx_out) == 288, "STATX");
_Static_assert(sizeof(struct fuse_create_in) == 16 && sizeof(struct fuse_open_out) == 16, "CREATE and TMPFILE");
_Static_assert(sizeof(struct fuse_copy_file_range_in) == 56, "COPY_FILE_RANGE");
_Static_assert(sizeof(struct fuse_copy_file_range_out) == 8, "COPY_FILE_RANGE_64");

#endif
