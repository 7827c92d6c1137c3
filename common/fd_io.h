/*
 * Files: whole reads and writes, where read(2) and write(2) may do less and be interrupted; and what it takes that they
 * outlive a power failure. All may wait for a disk.
 */
#ifndef STRAKE_COMMON_FD_IO_H
#define STRAKE_COMMON_FD_IO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* 0 or -errno; then some of it may have been written. */
int fd_write_all(int fd, const void *data, size_t size);

/* The same at an offset. */
int fd_pwrite_all(int fd, const void *data, size_t size, uint64_t offset);
/* All of it or an error: -ENODATA the file ends before. */
int fd_pread_all(int fd, void *out, size_t size, uint64_t offset);

/* How many bytes came, fewer than size only at the file's end; or -errno. */
ssize_t fd_read_all(int fd, void *out, size_t size);

/*
 * At a program's start: those of the descriptors 0 to 2 that it was started without (<&- >&-) become /dev/null, so that
 * nothing that is opened later is read or written as one of them. What is written to 1 fails as before.
 */
void fd_open_standard(void);

/*
 * A new file with these contents, durably and whole or not at all: it gets its name when it is synced. What a crash leaves
 * is called "PATH.new.PID". -EEXIST, and others of open(2).
 */
int fd_make_file(const char *path, const void *data, size_t size, mode_t mode);

/* The same in place of what is there: a crash leaves the old file or the new one, whole. Errors of open(2) and rename(2). */
int fd_replace_file(const char *path, const void *data, size_t size, mode_t mode);

/* The folder and those above it that are missing, durably ("mkdir -p"). Errors of mkdir(2), and of reading those above. */
int fd_make_folders(const char *path);

/* Make the names in a folder durable: fsync(2) of what they name does not. 0 or -errno. */
int fd_sync_folder(const char *path);

#endif
