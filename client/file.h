/* An open file (a handle). Within libstrake only. Immutable but for the data path's own fields, and lost. */
#ifndef STRAKE_CLIENT_FILE_H
#define STRAKE_CLIENT_FILE_H

#include "client/fs.h"

struct inode;
struct ahead;

struct file {
	struct fs *fs;
	struct file *next, *prev; /* among all that are open: guarded by fs->files_lock */
	struct inode *inode;      /* one reference */
	uint64_t number;          /* of this mount's, never used again */
	_Atomic bool lost;        /* locks of its file went with a session: EIO until it is closed (locks.h) */
	int flags;                /* O_ACCMODE, O_APPEND, O_DIRECT, O_SYNC, O_DSYNC as opened */
	struct ahead *ahead;      /* the data path's: read-ahead of this handle; NULL: none */
	/* In this state of its inode's attributes there was no capability, which is believed until then: fs_drop_capability().
	 * Guarded by the inode's lock. */
	uint64_t incapable_version, incapable_until_ns;
	uint32_t error_mark; /* the data path's: which late errors of the inode this handle has been told */
};

#endif
