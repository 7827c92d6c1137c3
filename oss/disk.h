/*
 * An OST's disk: file operations through one io_uring, called from fibers of its loop as if they blocked.
 *
 *   - What the fibers of an iteration ask is submitted by one system call (LOOP_STAGE_STORE).
 *   - No more is in flight than the completion queue holds, so it cannot overflow; who comes then waits.
 *   - Results are 0 (or what is said) or -errno. Memory and names must stay until the call returns.
 *   - For its loop's thread only.
 */
#ifndef STRAKE_OSS_DISK_H
#define STRAKE_OSS_DISK_H

#include "common/loop.h"
#include "oss/helper.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct disk; /* opaque: disk.c */

enum disk_op { DISK_OPEN, DISK_READ, DISK_WRITE, DISK_SYNC, DISK_ALLOCATE, DISK_UNLINK };

int disk_new(struct loop *loop, struct disk **ret_disk);
struct disk *disk_free(struct disk *disk); /* nothing is in flight */

int disk_openat(struct disk *disk, int dir, const char *path, int flags, mode_t mode); /* the descriptor */
/* All of it, or up to the end of the file: how much. */
ssize_t disk_pread(struct disk *disk, int fd, void *data, size_t size, uint64_t offset);
/* The same from the page cache only, without waiting: less (down to 0) where it would have to. Not through the ring. */
ssize_t disk_pread_cached(struct disk *disk, int fd, void *data, size_t size, uint64_t offset);
/*
 * The same into a pipe, by reference instead of by copy: all of it or less, in which case it has to be read in another way.
 * Does not wait; but for a page that is just being read it may, for the rest of that one read.
 */
size_t disk_sendfile_cached(struct disk *disk, int fd, int pipe, size_t size, uint64_t offset);
int disk_pwrite(struct disk *disk, int fd, const void *data, size_t size, uint64_t offset); /* all of it */
/*
 * A new file, empty if there was one, and bytes into it: by one errand of that thread, where the ring would make two, each
 * with a thread of its own to wake. The descriptor; *ret_written: how much of it was written, 0 after an error of that.
 */
int disk_make(struct disk *disk, struct helper *helper, int dir, const char *path, const void *data, size_t size,
	      uint64_t offset, size_t *ret_written);
int disk_fdatasync(struct disk *disk, int fd);
int disk_fsync(struct disk *disk, int fd);
int disk_fallocate(struct disk *disk, int fd, int mode, uint64_t offset, uint64_t length);
int disk_unlinkat(struct disk *disk, int dir, const char *path);

/*
 * For tests: asked before each operation; a result other than 0 (-errno) is the operation's, which is not made. NULL ends
 * it.
 */
void disk_set_fault(struct disk *disk, int (*fault)(void *arg, enum disk_op op), void *arg);

#endif
