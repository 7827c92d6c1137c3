/*
 * The mounts of this machine: one file per mount daemon under run_dir()/mounts (mounts.N in a PID namespace, N its
 * number), written by the daemon when its mount stands, removed by it at its end. `strake umount` and `strake cluster`
 * find by it which process serves a mount point.
 *
 *     mounts/PID      pid = N
 *                     starttime = N          clock ticks since boot, see process.h
 *                     mountpoint = PATH      absolute; blanks, control characters and \ as \ooo, as in /proc/mounts
 *                     source = ADDR[,ADDR...]:/SUBDIR
 *                     device = MAJOR:MINOR ID           the number that the kernel gave it, and what tells it from
 *                                                       others that get the same number later; 0: not known
 *                     leaving = BYTES FILES SILENT      once the kernel has let go: what is still to be written, and
 *                                                       how many servers do not answer
 *
 * An entry whose process is gone counts as absent and is removed by whoever meets it.
 */
#ifndef STRAKE_CLIENT_MOUNT_REGISTRY_H
#define STRAKE_CLIENT_MOUNT_REGISTRY_H

#include "client/process.h"
#include "common/address.h"

#include <stddef.h>

struct mount_entry {
	struct process daemon;
	char *mountpoint, *source;
	unsigned int major, minor; /* the device number */
	uint64_t device_id;        /* inode number of its directory in sysfs, which is never used again; 0: not known */
	bool leaving;              /* unmounted, by whomever; the daemon writes out what it holds: */
	uint64_t bytes;
	unsigned int files, silent;
};
void mount_entry_release(struct mount_entry *entry);

/*
 * Does the kernel still have it: in some mount namespace, or for files that are open in it? By sysfs; false where that
 * cannot be seen.
 */
bool mount_entry_is_held(const struct mount_entry *entry);

/* Is its source that of a filesystem that has one of these addresses? */
bool mount_entry_is_of(const struct mount_entry *entry, const struct address_list *mgs);

/*
 * Where the entries lie. Each PID namespace has a folder of its own: elsewhere a pid is another process's, or nobody's, and
 * the entry would be taken for that of a dead one. Errors of run_dir().
 */
int mount_registry_dir(char *ret_path, size_t size);

/* Enter, or take out, the mount of this process: call them in the daemon itself. Errors of run_dir() and files. */
int mount_registry_add(const char *mountpoint, const char *source, unsigned int major, unsigned int minor);
/* This process's mount is gone, and so much is still to be written. Errors as above. */
int mount_registry_leaving(uint64_t bytes, unsigned int files, unsigned int silent);
void mount_registry_remove(void);

/* The newest mount on an absolute path whose daemon lives in our mount namespace: in another that path is another. -ENOENT. */
int mount_registry_find_by_path(const char *mountpoint, struct mount_entry *ret_entry);

/* The one that is mounted there from that source with that device number, which the entry may not know. -ENOENT. */
int mount_registry_find_mounted(const char *mountpoint, const char *source, unsigned int major, unsigned int minor,
				struct mount_entry *ret_entry);

/* The mount of that process. -ENOENT. */
int mount_registry_find_by_daemon(const struct process *daemon, struct mount_entry *ret_entry);

/* All there are, the newest first. */
int mount_registry_list(struct mount_entry **ret_entries, size_t *ret_count);
struct mount_entry *mount_registry_list_free(struct mount_entry *entries, size_t count);

#endif
