/*
 * The data path of an inode: write-behind, commit and resend, reading and read-ahead. Within libstrake only.
 *
 *     write -> dirty -> WRITE (unstable) in flight -> uncommitted, kept -> COMMIT -> gone
 *                          | ESTALE: fetch gen and cut, send again            | instance changed: dirty again
 *
 *     the session was lost: all of these are gone, with -EIO
 *
 *   - Bytes with a WRITE in flight are not sent again until it is answered; newer bytes for the same place wait behind.
 *   - Of two extents for the same place the newer one wins: dirty over in flight over uncommitted.
 *   - What is held is bounded by the filesystem's memory budget: writers wait, commits are made before it is used up.
 *   - An error that nobody waited for is kept in the inode and told once by the next flush or fsync of each open file
 * (as Linux's errseq does).
 *   - A flusher per filesystem (on worker 0) sends what is older than DATA_DIRTY_MS, reports sizes, and now and then
 * has whole OSTs committed, so that nothing is held for long, nor much: memory that is used again is cheaper than new memory.
 */
#ifndef STRAKE_CLIENT_DATA_H
#define STRAKE_CLIENT_DATA_H

#include "client/inode.h"
#include "client/worker.h"

#define DATA_DIRTY_MS          500                 /* dirty bytes older than this are sent, and the size reported */
#define DATA_UNCOMMITTED_MS    5000                /* answered writes older than this are committed */
#define DATA_UNCOMMITTED_BYTES (64u * 1024 * 1024) /* ... and all of them when there are so many bytes of them */

struct data_fs; /* what the inodes of a filesystem share: data_fs.c */
struct data_fs *data_fs_new(struct fs *fs, uint64_t memory_max);
struct data_fs *data_fs_free(struct data_fs *data_fs); /* after data_fs_stop(), with all inodes gone */

/* The flusher runs on this worker, from a fiber it starts. */
int data_fs_start(struct data_fs *data_fs, struct worker *worker);
/* In a fiber of that worker: all is written out, reported and committed. As fs_drain(). */
int data_fs_drain(struct data_fs *data_fs, struct fs_ctx *ctx);
/* How much is not on stable storage yet, in how many files; any thread. */
void data_fs_held(struct data_fs *data_fs, uint64_t *ret_bytes, unsigned int *ret_files);
/* How many bytes were accepted since the beginning that the servers then refused; any thread. */
uint64_t data_fs_lost(const struct data_fs *data_fs);
int data_fs_take_error(struct data_fs *data_fs); /* why bytes were lost since it was asked before; 0: none were */
/* In a fiber of that worker: as data_fs_drain(), but gives up on servers that are away; ends the flusher. */
void data_fs_stop(struct data_fs *data_fs, struct fs_ctx *ctx);

/*
 * The session was lost, and others may have written since: what was written here and is not known to be on stable
 * storage goes, what is in flight is sent in no other session, and whoever has the file open is told -EIO. *ret_bytes
 * are gone. -ENOMEM: call again. Before the next session is in force; in a fiber of the control loop.
 */
int data_fs_give_up(struct data_fs *data_fs, uint64_t *ret_bytes);

void data_free(struct inode *inode); /* with its last reference */

/* All that was written before this call is on the OSTs (unstable), by whomever it was written. */
int data_write_out(struct inode *inode, struct fs_ctx *ctx);
/* ... and the MDT knows size and times. stable: and has it on stable storage. */
int data_report_size(struct inode *inode, struct fs_ctx *ctx, bool stable);
/*
 * ... and the OSTs have it on stable storage. others: also what others have written, as far as our attributes tell of it:
 * they may be gone, and nobody but us would ever commit it.
 */
int data_commit(struct inode *inode, struct fs_ctx *ctx, bool others);

/*
 * A time is about to be set, the last word on what was written before: that goes to the OSTs meanwhile, and is reported after,
 * as older than any time. *ret_begun: no report is made before data_times_end(); if the time was not set, it tells when that
 * was written.
 */
int data_times_begin(struct inode *inode, struct fs_ctx *ctx, bool *ret_begun);
void data_times_end(struct inode *inode, bool set);
/* What was written and is not reported yet takes setuid and setgid bits away. */
bool data_takes_privileges(struct inode *inode);

/* All of that for all inodes: the first error. */
int data_sync_all(struct data_fs *data_fs, struct fs_ctx *ctx);

/* Where a new handle starts to look for errors. inode->lock is held. */
uint32_t data_error_mark(const struct inode *inode);

/* The attributes have changed: what was replaced or cut away is dropped. inode->lock is held. */
void data_attr_changed(struct inode *inode, const struct attr *before, const struct attr *now);

/* A cut took some of what the file takes, nobody knows how much: it is counted soon. Without inode->lock. */
void data_cut_away(struct inode *inode);

/* A change of our own took the content from one data_version to another. inode->lock is held. */
void data_own_change(struct inode *inode, uint64_t before, uint64_t now);
/* Others have it open for writing. inode->lock is held. */
void data_others_write(struct inode *inode);

/* What a reader here must see. inode->lock is held. */
uint64_t data_size(const struct inode *inode);

/* Something was written here that the MDT does not know of yet: size and times are not its word. inode->lock is held.
 */
bool data_unreported(const struct inode *inode);

/* A handle's read-ahead goes. */
struct ahead;
void ahead_free(struct inode *inode, struct ahead *ahead);

#endif
