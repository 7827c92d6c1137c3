/* Attaching to the kernel: the one thing that libfuse does for us, and the settings of a mount that only root may make.
 */
#ifndef STRAKE_CLIENT_FUSE_MOUNT_H
#define STRAKE_CLIENT_FUSE_MOUNT_H

#include "client/fuse/options.h"

struct fuse_mount; /* opaque: mount.c */

/*
 * Mount, by mount(2) as root, else by fusermount3. *ret_fd is the connection, the mount's own. An error comes with a
 * sentence.
 */
int fuse_mount_attach(const struct mount_options *options, struct fuse_mount **ret_mount, int *ret_fd, char *error,
		      size_t error_size);
/* The device number that the kernel gave it; 0 0: not known. */
void fuse_mount_device(const struct fuse_mount *mount, unsigned int *ret_major, unsigned int *ret_minor);
/* Unmount where it is still mounted, lazily, and free. */
struct fuse_mount *fuse_mount_detach(struct fuse_mount *mount);
/*
 * Begin to unmount: it goes when its last file is closed, and then the connection ends. On a thread of its own, as the
 * kernel may have to write out pages first, which takes the servers. Failure is logged.
 */
void fuse_mount_detach_lazily(const struct fuse_mount *mount);

/* read_ahead_kb of the mount's bdi. Where that is not allowed nothing is lost. */
void fuse_mount_tune(const struct fuse_mount *mount);

/*
 * Tell umount(8) of our helper, which waits for the daemon's end, through its own table (utab, helper=strake). By the
 * type alone it does not find it: that may be plain `fuse`, and for want of entries in its table it asks statfs(2), which
 * says no more. Where the table cannot be written, umount(8) does not wait.
 */
void fuse_mount_announce(const struct fuse_mount *mount, const struct mount_options *options);
/* It is unmounted: out of that table. */
void fuse_mount_renounce(const struct fuse_mount *mount);

/*
 * The kernel does nothing about times of access, but it knows what is wished of them, also by remounts, and shows it:
 * enum fs_atime and ATIME_NOT_OF_DIRECTORIES; ATIME_NONE of a mount that is read-only. -ENOENT: it is not mounted.
 */
int fuse_mount_atime(const struct fuse_mount *mount, unsigned int *ret_atime);
/* Have it know. Only root may. */
void fuse_mount_set_atime(const struct fuse_mount *mount, unsigned int atime);

/* mount -o remount,...: the kernel's own flags of a mount that stands become those named. Prints what is wrong. */
int fuse_mount_remount(const struct mount_options *options);

#endif
