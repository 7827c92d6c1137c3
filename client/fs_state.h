/*
 * struct fs, for those within libstrake who must see inside. Set up by fs_open() before any worker; what changes after
 * that has a lock of its own.
 */
#ifndef STRAKE_CLIENT_FS_STATE_H
#define STRAKE_CLIENT_FS_STATE_H

#include "client/fs.h"
#include "client/inode.h"
#include "common/mgs_client.h"
#include "common/peer.h"

#include <stdatomic.h>

struct absent;     /* absent.h */
struct atimes;     /* atime.h */
struct data_fs;    /* data.h */
struct dir_cache;  /* readdir.h */
struct fs_session; /* session.h */
struct stat_store; /* stat_store.h */
struct targets;    /* targets.h */

#define FS_SENT_BACK 4096

struct fs_counters {
	_Atomic uint64_t mds_calls, ost_calls, resends;                        /* calls.c */
	_Atomic uint64_t lookups_absent;                                       /* names.c */
	_Atomic uint64_t bytes_read, bytes_written, bytes_ahead, bytes_copied; /* data path */
	_Atomic uint64_t names_ahead, lookups_ahead;                           /* stat_ahead.c */
};

#define SHARED_DIRS 64

/* Directories whose names the kernel may not believe: shown.c. */
struct shared_dirs {
	_Atomic uint64_t until_ns; /* of none after that */
	pthread_mutex_t lock;      /* guards: */
	uint64_t all_until_ns;     /* there were too many */
	struct shared_dir {
		uint64_t ino, until_ns;
	} dirs[SHARED_DIRS];
};

struct fs {
	struct fs_config config; /* never changes */
	char *mountpoint;        /* config.mountpoint, copied */
	struct loop *loop;       /* the control loop */
	struct uuid mount_uuid;  /* ours, chosen at fs_open() */
	struct uuid uuid;        /* the filesystem's */
	uint64_t root;
	struct inode *root_inode;

	struct mgs_client *mgs; /* control loop */
	struct peer_tally mgs_tally;
	struct targets *targets;         /* who serves what: thread-safe */
	struct fs_session *session;      /* thread-safe */
	struct inode_table *inodes;      /* thread-safe */
	struct dir_cache *dirs;          /* thread-safe */
	struct absent *absent;           /* thread-safe */
	struct stat_store *stat_store;   /* thread-safe */
	struct data_fs *data;            /* the data path's own */
	struct atimes *atimes;           /* thread-safe */
	_Atomic unsigned int atime_rule; /* enum fs_atime, and ATIME_NOT_OF_DIRECTORIES */
	struct fs_counters counters;
	_Atomic uint64_t sent_back[FS_SENT_BACK]; /* shown.c */
	struct shared_dirs shared_dirs;

	_Atomic uint64_t files_opened; /* numbers of handles */
	_Atomic uint64_t lock_waiters; /* numbers of those who wait for locks */
	_Atomic uint64_t tell_turns;   /* numbers of OPENs and CLOSEs: tell.c */
	_Atomic uint64_t doubted_ns; /* inode_doubt(): when an MDT was told last what is open; UINT64_MAX: it will be */

	struct fiber_queue map_arrived; /* control loop */

	bool flushing;          /* data_fs_start() was called */
	struct worker *control; /* the control loop's own, for lease, reclaim and fs_close() */
	_Atomic bool closing;   /* fs_close() has begun: nothing waits for ever any more */

	pthread_mutex_t files_lock; /* guards files: all open ones */
	struct file *files;

	pthread_mutex_t lock;    /* guards workers, space */
	struct worker **workers; /* config.workers + 1; the last is control */
	unsigned int worker_count;
	struct statvfs space; /* as the MDT told last; f_bsize 0: not yet */
};

#endif
