/*
 * libstrake: a StrakeFS filesystem in a process: what the mount and `strake client` share.
 *
 *     fs       one filesystem: cluster map, session at the MDT, inodes, memory budget
 *     worker   a loop of this filesystem with its own peers and slots; every call below is made on a fiber of a worker
 *     inode    attributes, dirty data, read-ahead and open state of one file, shared by all workers
 *     file     an open file (a handle)
 *
 *   - All calls return 0 or -errno; they wait (the fiber, not the thread). With `hard` they wait until the servers are
 *     back; with `soft` -EIO after its time; -EINTR when *ctx->interrupted becomes true (fs_interrupt()).
 *   - inode numbers are the MDT's; `fs->root` is that of the mounted directory.
 *   - Names are bytes with a length, without NUL.
 *   - Coherency is close-to-open (design, section 5): fs_open() brings fresh attributes; fs_flush() and fs_fsync()
 * return when data and size are out.
 */
#ifndef STRAKE_CLIENT_FS_H
#define STRAKE_CLIENT_FS_H

#include "common/address.h"
#include "common/fabrics.h"
#include "common/key.h"
#include "common/layout.h"
#include "common/loop.h"
#include "common/uuid.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <sys/uio.h>

struct fs;       /* opaque: fs_state.h */
struct fs_ctx;   /* who asks: below */
struct worker;   /* worker.h */
struct file;     /* opaque: file.h */
struct ctx_wait; /* ctx_wait.h */

/* When reading changes the time of access: not; if the last one is not later than the last change, or a day old; always. */
enum fs_atime { ATIME_NONE, ATIME_RELATIVE, ATIME_STRICT };
#define ATIME_NOT_OF_DIRECTORIES 4u /* in addition */

struct fs_config {
	struct address_list mgs;
	char subdir[4096]; /* "/" or a directory to take as root */
	struct key key;
	bool soft;
	unsigned int soft_timeout_ms;
	unsigned int attr_timeout_ms; /* how long attributes and names may be believed; at most 1000 */
	bool sync;                    /* every change waits for stable storage */
	bool no_sums;
	uint64_t memory_max;    /* dirty + uncommitted + read-ahead bytes; default 1 GiB in all */
	unsigned int atime;     /* enum fs_atime; ATIME_NONE by default */
	const char *mountpoint; /* for the MDT's session list; may be NULL */
	unsigned int workers;   /* how many worker_new() will follow */
	bool local_locks;       /* locks are the caller's own business, and so is who else appends */

	/*
	 * For a caller that caches pages and attributes, as the kernel does; NULL where there is none. drop_pages: the file's
	 * pages that have some of those bytes go (size 0: all from offset on), the dirty ones are written first; called in
	 * a fiber, and waits for that. drop_attr: the attributes go, at once; any thread.
	 */
	void (*drop_pages)(void *owner, uint64_t ino, uint64_t offset, uint64_t size);
	void (*drop_attr)(void *owner, uint64_t ino);
	/* No name that it has been shown until now is believed any more; at once, any thread. */
	void (*expire_names)(void *owner);
	void *owner;
};
void fs_config_defaults(struct fs_config *config);

/*
 * Connects: map from the MGS, session at the MDT, root looked up. Runs its control (MGS, lease) on `loop`; call in a
 * fiber of it. timeout_ms bounds the first connection (0: for ever). error is a sentence for the user.
 */
int fs_open(struct loop *loop, const struct fs_config *config, unsigned int timeout_ms, struct fs **ret_fs, char *error,
	    size_t error_size);
/*
 * Bring all that is held to stable storage. With `hard` it goes on until the servers have taken it, whatever that takes.
 * In a fiber of the control loop, when nothing is asked of the workers any more; they may be being freed meanwhile. What the
 * servers refuse for good is given up and counted in fs_stats(): bytes_lost.
 *
 * -EINTR  fs_interrupt(), from the control loop
 * others: the servers' last word after several attempts; what could not be made stable is still held
 */
int fs_drain(struct fs *fs, struct fs_ctx *ctx);
/*
 * In a fiber of the control loop, after the workers have been freed: writes out, as far as servers answer within some
 * seconds, and logs what is lost; closes the session.
 */
struct fs *fs_close(struct fs *fs);
void fs_set_atime(struct fs *fs, unsigned int atime); /* from now on; any thread */
uint64_t fs_root(const struct fs *fs);
const struct uuid *fs_uuid(const struct fs *fs);

/* On the loop that will run it (any thread); index 0 .. config.workers-1. */
int worker_new(struct fs *fs, struct loop *loop, unsigned int index, struct worker **ret_worker);
struct worker *worker_free(struct worker *worker); /* in a fiber of its loop: no call is under way */

/* Who asks, and how the wait can be cut short. Lives on the caller's stack. */
struct fs_ctx {
	uid_t uid;
	gid_t gid;
	uint32_t group_count; /* supplementary; 0 where it does not matter or is not known */
	const gid_t *groups;
	bool trusted; /* the kernel has checked access */
	mode_t umask;
	bool nameless;  /* fs_open_file(): by something else than a name, so none can be old */
	pid_t pid;      /* only to know a caller again; 0: nobody's */
	bool kill_suid; /* who changes content or ACL here may not keep setuid and setgid bits */
	bool kill_sgid; /* ... and is no member of the file's group: nor setgid without the right to execute */
	bool append;    /* fs_write(): at the end of the file, wherever that is; offset is not looked at */
	bool mapped;    /* fs_write(): the bytes are of mapped pages */
	bool paged;     /* fs_read(), fs_write(): the bytes are, or will be, in pages that the caller keeps */
	/* What is asked for is by this handle: once its locks are lost with their session nothing is, but -EIO. NULL: by none. */
	const struct file *file;
	_Atomic bool signalled;   /* set by fs_signal() */
	_Atomic bool interrupted; /* set by fs_interrupt() */
	/* Set by fs_lookup() and fs_readdir(), for fs_entry_shown(): when the names were asked for; 0: just now. */
	uint64_t name_asked_ns;
	struct ctx_wait *waiting; /* libstrake's own; begins as NULL */
};
/* Is root nobody to the MDT (root squash)? Then he may keep no setuid bits, whatever his kernel says. Cheap. */
bool fs_root_is_nobody(const struct fs *fs);
/* The caller lost patience (FUSE_INTERRUPT): same worker thread as the call. */
void fs_interrupt(struct fs_ctx *ctx);
/* He got a signal that need not end him: who waits for a lock waits no longer. Likewise. */
void fs_signal(struct fs_ctx *ctx);

/* chattr(1)'s, as on the wire. */
enum attr_flags { ATTR_IMMUTABLE = 1, ATTR_APPEND = 2, ATTR_NODUMP = 4, ATTR_NOATIME = 8 };

struct attr {
	uint64_t ino, gen;
	mode_t mode;
	uint32_t nlink;
	uid_t uid;
	gid_t gid;
	uint64_t size, blocks; /* blocks of 512 */
	uint64_t rdev;
	int64_t atime_ns, mtime_ns, ctime_ns, btime_ns;
	uint64_t version;
	uint64_t data_version; /* changes with the content; 0: not told */
	uint64_t name_version; /* changes with the names; 0: not told */
	uint64_t cut, cut_start, cut_end;
	bool size_unsure;
	bool unfenced;               /* ... by a lost writer who may write yet */
	bool no_xattrs;              /* it has none; false: it may have some */
	bool no_acl[2];              /* the same of its access and default ACL */
	uint8_t flags;               /* enum attr_flags */
	const struct layout *layout; /* of a file or directory; never NULL once it came from the MDT */
};
void attr_to_stat(const struct attr *attr, struct stat *ret_stat); /* st_blksize is the stripe size's friendly part */
/* A time as struct attr has it; what there is no room for becomes the first or the last second of 1677 to 2262. */
int64_t attr_time_ns(int64_t seconds, int64_t nanoseconds);

/* --- names and attributes -------------------------------------------------------------------------------------- */

/*
 * lookup, create, tmpfile, mknod, mkdir, symlink, link and readdir with attributes give the caller one reference on the inode,
 * which fs_forget() returns (FUSE's nlookup).
 */
int fs_lookup(struct fs *fs, struct fs_ctx *ctx, uint64_t parent, const char *name, size_t len, struct attr *ret_attr);
void fs_forget(struct fs *fs, uint64_t ino, uint64_t count);

/* fresh: ask the MDT whatever is cached. Sizes include our own dirty data, and others' where the MDT was unsure. */
int fs_getattr(struct fs *fs, struct fs_ctx *ctx, uint64_t ino, bool fresh, struct attr *ret_attr);

/*
 * For a caller that caches attributes on its own, as the kernel does. fs_attr_shown() notes that ctx is given these, and
 * returns for how long it may believe them (ns). fs_attr_outdated() after an open tells, once, that what it may have is no
 * longer what the open found and must be dropped before the open is answered: the opener would go by an old size.
 */
uint64_t fs_attr_shown(struct fs *fs, const struct fs_ctx *ctx, const struct attr *attr);
/*
 * The same with a name in that directory. *ret_name_ns: for how long it may believe it to lead there; not at all (0)
 * where files are locked that other mounts use, too: whoever has such a lock goes by what its holder before has done to the
 * names beside (a database and its journal).
 */
uint64_t fs_entry_shown(struct fs *fs, const struct fs_ctx *ctx, uint64_t dir, const struct attr *attr,
			uint64_t *ret_name_ns);
bool fs_attr_outdated(const struct file *file);

enum setattr_fields {
	SETATTR_MODE = 1 << 0,
	SETATTR_UID = 1 << 1,
	SETATTR_GID = 1 << 2,
	SETATTR_SIZE = 1 << 3,
	SETATTR_ATIME = 1 << 4,
	SETATTR_MTIME = 1 << 5,
	SETATTR_ATIME_NOW = 1 << 6,
	SETATTR_MTIME_NOW = 1 << 7,
	SETATTR_BY_HANDLE = 1 << 8, /* size by a handle open for writing */
	SETATTR_FLAGS = 1 << 9,     /* alone */
};
/* Dirty data is written out before a size changes. */
int fs_setattr(struct fs *fs, struct fs_ctx *ctx, uint64_t ino, unsigned int fields, const struct attr *attr,
	       struct attr *ret_attr);
int fs_access(struct fs *fs, struct fs_ctx *ctx, uint64_t ino, int mask);
/*
 * Is S_ISGID there and no right for the group to execute, as far as is known here? It stays then when members of that
 * group change the file, and goes when others do (kill_sgid).
 */
bool fs_has_group_mark(struct fs *fs, uint64_t ino, gid_t *ret_group);
bool file_has_group_mark(const struct file *file, gid_t *ret_group); /* the same */

int fs_mkdir(struct fs *fs, struct fs_ctx *ctx, uint64_t parent, const char *name, size_t len, mode_t mode,
	     struct attr *ret_attr);
int fs_mknod(struct fs *fs, struct fs_ctx *ctx, uint64_t parent, const char *name, size_t len, mode_t mode,
	     uint64_t rdev, struct attr *ret_attr);
int fs_symlink(struct fs *fs, struct fs_ctx *ctx, uint64_t parent, const char *name, size_t len, const char *target,
	       size_t target_len, struct attr *ret_attr);
int fs_link(struct fs *fs, struct fs_ctx *ctx, uint64_t ino, uint64_t parent, const char *name, size_t len,
	    struct attr *ret_attr);
int fs_unlink(struct fs *fs, struct fs_ctx *ctx, uint64_t parent, const char *name, size_t len);
int fs_rmdir(struct fs *fs, struct fs_ctx *ctx, uint64_t parent, const char *name, size_t len);
int fs_rename(struct fs *fs, struct fs_ctx *ctx, uint64_t parent, const char *name, size_t len, uint64_t new_parent,
	      const char *new_name, size_t new_len, unsigned int flags);

/* The target without NUL; *ret_len at most size, else -ERANGE. */
int fs_readlink(struct fs *fs, struct fs_ctx *ctx, uint64_t ino, char *target, size_t size, size_t *ret_len);

/* Values: size 0 asks for the length; -ERANGE when it does not fit; -ENODATA. list: names with their NULs. */
int fs_getxattr(struct fs *fs, struct fs_ctx *ctx, uint64_t ino, const char *name, void *value, size_t size,
		size_t *ret_len);
int fs_listxattr(struct fs *fs, struct fs_ctx *ctx, uint64_t ino, char *list, size_t size, size_t *ret_len);
int fs_setxattr(struct fs *fs, struct fs_ctx *ctx, uint64_t ino, const char *name, const void *value, size_t len,
		int flags);
int fs_removexattr(struct fs *fs, struct fs_ctx *ctx, uint64_t ino, const char *name);
/* security.capability, of which nobody is told whether it went. Asks the MDT for it once per attr_timeout_ms and version. */
void fs_drop_capability(struct file *file, struct fs_ctx *ctx);

/* Within some seconds: as it was last, when the MDT does not answer; -EIO when that is not known. */
int fs_statfs(struct fs *fs, struct fs_ctx *ctx, struct statvfs *ret_statvfs);

/* Stripe size and count of a directory (for what is made in it) or of a file without data. */
int fs_set_layout(struct fs *fs, struct fs_ctx *ctx, uint64_t ino, uint64_t stripe_size, uint32_t stripe_count);

/* --- directories ------------------------------------------------------------------------------------------------ */

struct dir_entry {
	const char *name;
	size_t name_len;
	uint64_t ino;
	uint32_t type;   /* S_IFMT bits */
	uint64_t cookie; /* go on after this one */
	const struct attr
		*attr; /* with attributes: one reference is given when fn takes the entry; never for . and .. */
};
/*
 * Calls fn for entries after `cookie` (0: the start; "." and ".." come first) until fn returns false (that entry was
 * not taken) or the directory ends. With attrs, entries carry attributes.
 */
int fs_readdir(struct fs *fs, struct fs_ctx *ctx, uint64_t ino, uint64_t cookie, bool attrs,
	       bool (*fn)(void *arg, const struct dir_entry *entry), void *arg);

/*
 * An open directory. One that is removed meanwhile, here or elsewhere, is told of as long as it is open: itself, without
 * links, and nothing in it (-ENOENT). What is set of it then is known here only.
 */
void fs_opendir(struct fs *fs, uint64_t ino);
void fs_releasedir(struct fs *fs, uint64_t ino);

/* --- open files -------------------------------------------------------------------------------------------------- */

/*
 * flags: O_ACCMODE, O_TRUNC, O_APPEND, O_DIRECT, O_SYNC, O_DSYNC, O_EXCL, O_NOATIME are looked at. *ret_keep_cache: the file has
 * not changed since this process last had its pages. -ESTALE: its names have changed elsewhere since fs_entry_shown(),
 * so the caller may have come by one that leads to another file by now: look it up again.
 */
int fs_open_file(struct fs *fs, struct fs_ctx *ctx, uint64_t ino, int flags, struct file **ret_file,
		 bool *ret_keep_cache);
int fs_create(struct fs *fs, struct fs_ctx *ctx, uint64_t parent, const char *name, size_t len, mode_t mode, int flags,
	      struct attr *ret_attr, struct file **ret_file, bool *ret_keep_cache);
/*
 * A file that has no name, in the filesystem of that directory and with its group and layout: O_TMPFILE. It goes with its
 * last handle, unless fs_link() has given it a name; with O_EXCL among the flags none can.
 */
int fs_tmpfile(struct fs *fs, struct fs_ctx *ctx, uint64_t parent, mode_t mode, int flags, struct attr *ret_attr,
	       struct file **ret_file, bool *ret_keep_cache);
uint64_t file_ino(const struct file *file);
unsigned int file_flags(const struct file *file); /* enum attr_flags, as far as is known here */
bool fs_file_appends(const struct file *file);    /* it was opened with O_APPEND */
/* It has lost a lock with the session: nothing is done by it any more but to close it. */
bool file_is_lost(const struct file *file);
bool file_is_privileged(const struct file *file); /* it has setuid or setgid bits, as far as is known here */

/*
 * Read at most size bytes at offset into the parts of `data`; *ret_len is short only at the end of the file. The result
 * may lie in libstrake's own buffers instead of `buffer`: then it is lent until read_release().
 */
struct read_result {
	struct iovec iov[10];
	int iov_count;
	size_t len;
	void *reserved[10];
};
int fs_read(struct file *file, struct fs_ctx *ctx, uint64_t offset, size_t size, void *buffer,
	    struct read_result *ret_result);
void read_release(struct read_result *result);

/*
 * Write: copied, or taken over where `owner` is given (struct bulk of which data is a part; released when the bytes are
 * committed). Returns when the bytes are in the client's buffers, or for O_DIRECT and O_SYNC on the servers.
 * Everything is written or the error is returned.
 */
struct bulk;
int fs_write(struct file *file, struct fs_ctx *ctx, uint64_t offset, const void *data, size_t size, struct bulk *owner);
struct buffers *fs_buffers(struct fs *fs); /* data/buffers.h: where such owners come from */

int fs_flush(struct file *file, struct fs_ctx *ctx); /* close(2): data and size out; reports late errors once */
int fs_fsync(struct file *file, struct fs_ctx *ctx, bool data_only); /* ... and durable everywhere */
/* Of a directory: the MDT's log. -ESTALE: the log has lost the inode. */
int fs_fsync_ino(struct fs *fs, struct fs_ctx *ctx, uint64_t ino);
/*
 * close(2) by one of those who share the handle: fs_flush(), and the POSIX locks that this owner has on the file are given
 * back, by whichever handle he took them. Is there nothing to do, and nothing to tell? No waiting.
 */
int fs_close_by(struct file *file, struct fs_ctx *ctx, uint64_t lock_owner);
bool fs_close_is_nothing(struct file *file, uint64_t lock_owner);
void fs_release(struct file *file); /* the last reference of the handle; no error can be told */
/* All dirty data, sizes, and the log. Also an error where bytes of any file were lost since the last one, told or not. */
int fs_sync(struct fs *fs, struct fs_ctx *ctx);

int fs_fallocate(struct file *file, struct fs_ctx *ctx, int mode, uint64_t offset, uint64_t len);
/*
 * Have the OSTs copy from one file to another, or within one: *ret_copied may be less than length, and 0 only at the source's
 * end. Holes stay holes. -EXDEV: they cannot, or it is so little that it is not worth it: read and write it.
 */
int fs_copy(struct file *from, uint64_t from_offset, struct file *to, uint64_t to_offset, struct fs_ctx *ctx,
	    uint64_t length, uint64_t *ret_copied);
int fs_seek(struct file *file, struct fs_ctx *ctx, uint64_t offset, bool hole, uint64_t *ret_offset);

/* --- locks --------------------------------------------------------------------------------------------------------- */

/* As fcntl(2) and flock(2) have them; among all mounts. */
struct fs_lock {
	bool flock;          /* of the open file; else of `owner`: POSIX, or OFD */
	int type;            /* F_RDLCK, F_WRLCK, F_UNLCK */
	uint64_t start, end; /* both are part of it; not for flock */
	uint64_t owner;
	pid_t pid; /* for others to see */
};
/*
 * Take or give back. Who gets a lock sees what was written under it before; who gives one back has written it out.
 * -EAGAIN   another has it, and wait is false
 * -EDEADLK  the owner would wait for himself (POSIX)
 * -EINTR    fs_signal() while it was waited for, or fs_interrupt()
 * -ENOLCK   there are too many; -EIO: the session that this file's locks were of is lost
 */
int fs_lock(struct file *file, struct fs_ctx *ctx, const struct fs_lock *lock, bool wait);
/* What is in the way; type F_UNLCK: nothing. pid is 0 where it is another mount's. */
int fs_lock_test(struct file *file, struct fs_ctx *ctx, struct fs_lock *lock);

/* --- insight ----------------------------------------------------------------------------------------------------- */

struct fs_stats {
	uint64_t mds_calls, ost_calls, resends;
	uint64_t lookups_absent;            /* names that were known not to be there */
	uint64_t bytes_read, bytes_written; /* by callers, through here */
	uint64_t bytes_ahead;               /* read ahead */
	uint64_t bytes_copied;              /* by the OSTs among themselves: none of these came here */
	uint64_t bytes_held;                /* accepted, and not on stable storage yet */
	uint64_t bytes_lost;                /* accepted, and refused by the servers later */
	uint64_t names_ahead;               /* with attributes, before anybody asked */
	uint64_t lookups_ahead;             /* that were answered from these */
	unsigned int files_held;
	uint64_t connections[FABRIC_COUNT]; /* to the MDT and the OSTs, that stand */
	uint64_t bytes_by[FABRIC_COUNT];    /* of file data, there and back, also read ahead and sent again */
	uint64_t switches;                  /* from one fabric to the other */
	uint64_t silences;                  /* of RDMA, that led to TCP */
	unsigned int targets_troubled;      /* servers that did not answer the last attempt, or PING (probe.h) */
};
/* Any thread. */
void fs_stats(struct fs *fs, struct fs_stats *ret_stats);
/* As lines of a name and a number. *ret_len at most size, else -ERANGE; size 0 asks how long it may be. -ENOMEM. */
int fs_stats_text(struct fs *fs, char *ret_text, size_t size, size_t *ret_len);

#endif
