/* What the files of the data path share. */
#ifndef STRAKE_CLIENT_DATA_INTERNAL_H
#define STRAKE_CLIENT_DATA_INTERNAL_H

#include "client/data/buffers.h"
#include "client/data/data.h"
#include "client/data/extents.h"
#include "client/file.h"
#include "client/fs_state.h"
#include "proto/mds.pb-c.h"
#include "proto/oss.pb-c.h"

#define DATA_SENDERS_MAX   8                  /* WRITEs under way per inode */
#define DATA_DIRTY_MAX     (8u * 1024 * 1024) /* dirty bytes of an inode above which its writers wait */
#define DATA_PUSH_BYTES    (2u * 1024 * 1024) /* dirty bytes above which sending starts, full blocks or not */
#define DATA_PUSH_COUNT    64                 /* likewise extents */
#define DATA_STALE_RETRIES 100

struct data_fs {
	struct fs *fs;
	struct buffers *buffers;
	uint64_t write_max, ahead_max; /* bytes */
	_Atomic uint64_t held;         /* dirty, in flight and uncommitted bytes of all inodes */
	_Atomic uint64_t ahead;        /* bytes of read-ahead units */
	_Atomic uint64_t answered;     /* stamps of answered writes */
	_Atomic uint64_t lost;         /* bytes that were accepted and that no server takes */
	_Atomic int lost_error;        /* why, of the last; 0: that was told by data_fs_take_error() */

	pthread_mutex_t lock;
	struct inode_data *first; /* all that hold anything: each with a reference on its inode */
	struct fiber_queue room;  /* writers that wait for memory */

	struct worker *worker; /* the flusher's */
	struct fiber_queue flusher_queue;
	bool stopping, flusher_runs; /* of the flusher's loop, with: */
	unsigned int flushes;        /* inodes being flushed in the background */
	struct ost_commit *commits;  /* OSTs being committed in the background */
	bool abandoned;              /* what is held now is lost; guarded by lock */
	_Atomic bool hurry;          /* a writer waits for memory */
};

/* A part of the file that OSTs are copying to: what is written there meanwhile waits, so that it comes after. */
struct data_copy {
	struct data_copy *next;
	uint64_t start, end;
};

struct inode_data {
	struct inode *inode;
	struct data_fs *data_fs;
	struct inode_data *next, *prev; /* in data_fs->first; guarded by data_fs->lock */
	bool listed;

	/* guarded by inode->lock */
	struct extent_set dirty, flight, uncommitted;
	struct data_copy *copies;
	uint64_t stamp;      /* counts writes */
	uint64_t push_stamp; /* extents up to this stamp are sent, full or not */
	uint64_t
		resends; /* how often answered bytes became dirty again: what was read or committed meanwhile lacks them */
	unsigned int senders;
	unsigned int refusals; /* WRITEs that were too old to an OST, while the MDT knows of nothing newer */
	uint64_t own_end;      /* one past our last byte that attr.size may not have yet */
	uint64_t sent_end;     /* likewise of what is on the OSTs: what may be reported */
	int64_t grown;         /* blocks of 512 that the OSTs have more and no report tells of, as their replies say */
	uint64_t
		recounts; /* grows with each change of blocks that no reply tells of: the OSTs are asked; 0: none since a report */
	/* The MDT is to hear something; of that: something was written, or allocated. */
	bool report, wrote;
	bool kill_suid, kill_sgid, flushing;
	bool reporting, report_stable;     /* a report is under way, or has to wait for a time that is being set */
	struct report_asker *report_asker; /* who waits for it: report.c; NULL: nobody any more */
	bool times_set;      /* since the last write somebody has set them: the report leaves them as they are */
	bool times_were_set; /* before data_times_begin(), at times_stamp */
	uint64_t times_stamp;
	/*
	 * Since the oldest of what is held others had it open for writing; the data_version then, and what we made of it. It is
	 * not sent again blindly if others may have written.
	 */
	bool shared;
	uint64_t own_version;
	uint64_t oldest_dirty_ns, last_write_ns;
	uint64_t oldest_answer_ns;
	uint64_t committed_version; /* data_version that others' bytes were committed of; our own are in the sets */
	uint64_t version; /* grows with each change of the content as seen here: read-ahead of an older one is void */
	int error;
	uint32_t error_count;
};

/* The inode's data, made at need. NULL: no memory. inode->lock is held. */
struct inode_data *data_get(struct inode *inode);
/* Account for a change of the bytes held, and list or unlist the inode. Without inode->lock. */
void data_account(struct inode_data *data);

/* More is held, or kept for reading: idle buffers make room for it. Any lock may be held. */
void data_fs_bound(struct data_fs *data_fs);

/* Wait for a change of the inode: -EINTR, -ECANCELED as ctx_wait_in(). inode->lock is held; let go meanwhile. */
int data_wait(struct inode *inode, struct fs_ctx *ctx);

/* Keep an error for those who have the file open. inode->lock is held. */
void data_note_error(struct inode_data *data, int err);
/* The same for bytes that were held and are given up. */
void data_lose(struct inode_data *data, uint64_t bytes, int err);

/* What the file takes has changed, and no reply says by how much: the next report asks. inode->lock is held. */
void data_recount(struct inode_data *data);
/* Something was written or allocated, so times have changed; the next report tells. inode->lock is held. */
void data_touch(struct inode_data *data, const struct fs_ctx *ctx);

/* Is [start, end) being copied to? inode->lock is held. */
bool data_is_copied_to(const struct inode_data *data, uint64_t start, uint64_t end);

/* The reply to a change of our own (SIZE, PUNCH) that was asked at asked_ns. */
int data_take_own_change(struct inode *inode, uint64_t asked_ns, const Strake__AttrReply *reply);

/* Before the next of DATA_STALE_RETRIES; tries: of before. -EINTR, -ECANCELED as ctx_wait_ms(). */
int data_stale_pause(struct inode *inode, struct fs_ctx *ctx, unsigned int tries);

/* Start senders for what is due. inode->lock is held. */
void data_kick(struct inode_data *data);
/* Everything that overlaps [start, end) is on the OSTs. inode->lock is held; let go meanwhile. */
int data_write_out_range(struct inode *inode, struct fs_ctx *ctx, uint64_t start, uint64_t end);
/* Older bytes become dirty, under what is newer; empties the set. False: no memory for some. inode->lock is held. */
bool data_put_under(struct inode_data *data, struct extent_set *older);
/* Uncommitted extents of an OST that a new instance may have lost become dirty again. inode->lock is held. */
void data_resend(struct inode_data *data, uint32_t ost, uint64_t instance);

/* All inodes that hold anything, each with a reference for the caller. NULL: none, or no memory. */
struct inode **data_fs_inodes(struct data_fs *data_fs, size_t *ret_count);

/* Have the OSTs commit all that these inodes have there uncommitted, one COMMIT per OST. After an error the rest is kept. */
int data_commit_all(struct data_fs *data_fs, struct fs_ctx *ctx, struct inode **inodes, size_t count);
/* The same in the background, each OST on its own, so that one that is away holds up no other. Flusher's loop. */
void data_commit_start(struct data_fs *data_fs, struct inode **inodes, size_t count);

/* The object that a piece of the file lies in, for requests, with the cut as known. inode->lock is held. */
struct object_name {
	Strake__Object object; /* points to cut: do not copy */
	Strake__Cut cut;
};
void object_name_init(struct object_name *name, const struct attr *attr, uint64_t seq);

/* One piece as the OST has it, whatever waits here to be sent: zeros behind its end. */
int data_read_piece(struct inode *inode, struct fs_ctx *ctx, const struct attr *attr, const struct layout_piece *piece,
		    uint8_t *buffer, uint64_t *ret_instance);

/* [offset, offset+length) of the file into buffer: zeros where nothing is. Any number of objects. */
int data_fetch(struct inode *inode, struct fs_ctx *ctx, uint64_t offset, size_t length, uint8_t *buffer);

#endif
