/*
 * The command line of mount.strake, in all the ways it is called:
 *
 *     mount.strake SOURCE MOUNTPOINT [-o OPTIONS] [-f]       by mount(8), fstab, mount.fuse3, or by hand
 *     mount.strake -m LIST MOUNTPOINT [-o OPTIONS]           by `strake -m LIST mount MOUNTPOINT`
 *
 * Options (-o, separated by commas): ours (hard, soft, timeo=SECONDS, connect=SECONDS, strict, sync, no_sums,
 * local_locks, memory=SIZE, workers=N, transport=KIND, key=FILE, log=FILE, fstype=fuse, remount), what mount(8), fstab and the
 * kernel's table of mounts add (defaults, _netdev, noauto, nofail, user, user_id, x-..., ignored), and those that go to the kernel (ro,
 * rw, dev, nodev, suid, nosuid, exec, noexec, atime, noatime, dirsync). What is said of times of access (relatime,
 * strictatime, noatime, nodiratime and their opposites) is done here. Anything else is refused by name.
 */
#ifndef STRAKE_CLIENT_FUSE_OPTIONS_H
#define STRAKE_CLIENT_FUSE_OPTIONS_H

#include "client/fs.h"
#include "common/fabrics.h"

struct mount_options {
	char source[2048]; /* as given: it stands in /proc/mounts */
	char mountpoint[4096];
	struct fs_config fs;
	const char *key;   /* borrowed from argv; NULL: search */
	char kernel[1024]; /* for the kernel and libfuse: "dev,suid,allow_other,..." */
	bool plain_type;   /* type fuse, not fuse.strake */
	bool foreground, remount;
	bool atime_given;        /* fs.atime was named by an option */
	unsigned int connect_ms; /* a mount of a filesystem that is not there fails after this */
	enum fabrics_choice transport;
	unsigned int workers; /* 0: as many as CPUs, FUSE_WORKERS_MAX at most */
	const char *log_path; /* borrowed from argv; NULL: where a daemon's words go, or stderr */
};

/* Exits 2 (help: 0) with what is wrong. */
void mount_options_parse(int argc, char **argv, struct mount_options *ret_options);

#endif
