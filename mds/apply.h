/*
 * Apply: what a record does to the state. Deterministic: no clock, no I/O, no random; the same records on the same state
 * give the same state and the same replies, today and in a replay.
 *
 *     the table in apply.c: operation -> function, one file each (create.c, rename.c, ...)
 *
 *   - A function checks everything first and changes then: with an error nothing has changed.
 *   - Whatever comes out is the slot's last reply, stored by the same record.
 *   - What the MDT's volatile neighbours have to do after it stands in the outcome.
 */
#ifndef STRAKE_MDS_APPLY_H
#define STRAKE_MDS_APPLY_H

#include "mds/answer.h"
#include "mds/inode.h"
#include "mds/record.h"
#include "mds/state.h"

#define OUTCOME_REPLY_MAX 8192 /* of a packed reply that a slot stores: four attributes with the widest layouts */

struct outcome {
	int err;                      /* the reply's */
	uint64_t wait_index;          /* the reply must not leave before durable has reached it; 0: does not matter */
	unsigned int destroyed, cuts; /* how many rows went into the destroy queue and the cut table */
	uint64_t destroyed_ino, destroyed_gen, cut_ino; /* the last of each */
	uint64_t opened_ino; /* CREATE, TMPFILE: the file that the asker has open now; 0: none */
	size_t reply_size;
	uint8_t reply[OUTCOME_REPLY_MAX];
};

/* One record on its way into the state. For the operations' functions. */
struct change {
	struct state *state;
	struct view *view; /* the state's */
	const struct record *record;
	uint64_t index;
	int64_t now_ns; /* the record's time */
	struct answer *answer;
	struct outcome *outcome;
};

/*
 * Apply record number index. message: its body unpacked, or NULL: unpack it here. A body that does not unpack, or an
 * operation that has no row in the table, ends the process: admission let it into the log.
 */
void apply(struct state *state, uint64_t index, const struct record *record, const ProtobufCMessage *message,
	   struct outcome *ret_outcome);

/* --- for the operations' functions --------------------------------------------------------------------------------- */

static inline bool change_is_fact(const struct change *change, enum record_fact fact)
{
	return (change->record->facts & fact) != 0;
}

/* Write an inode that this record changes. */
static inline void change_store(const struct change *change, struct inode *inode)
{
	inode->version = change->index;
	inode_store(change->view, inode);
}

/* ... whose name, link count, mode or owner changes too. */
static inline void change_touch(const struct change *change, struct inode *inode)
{
	inode->ctime_ns = change->now_ns;
	change_store(change, inode);
}

/* An inode that got a name, lost one or has another now. */
static inline void change_touch_names(const struct change *change, struct inode *inode)
{
	inode->name_version = change->index;
	change_touch(change, inode);
}

/* A directory whose entries have changed. */
static inline void change_touch_dir(const struct change *change, struct inode *dir)
{
	dir->mtime_ns = change->now_ns;
	change_touch(change, dir);
}

#define APPLY_FUNCTION(name) int name(struct change *change, const ProtobufCMessage *message)

/* create.c */
APPLY_FUNCTION(create_apply); /* CREATE, MKDIR, MKNOD, SYMLINK */
APPLY_FUNCTION(tmpfile_apply);
/* A whiteout (device 0:0) of the record's number, made by cred in dir. It gets its name from the caller, who stores it. */
void create_whiteout(struct change *change, Strake__Cred *cred, const struct inode *dir, struct inode *ret_inode);
/* link.c */
APPLY_FUNCTION(link_apply);
/* unlink.c */
APPLY_FUNCTION(unlink_apply); /* UNLINK, RMDIR */
/* rename.c */
APPLY_FUNCTION(rename_apply);
/* setattr.c */
APPLY_FUNCTION(setattr_apply);
/* xattr.c */
APPLY_FUNCTION(setxattr_apply);
APPLY_FUNCTION(removexattr_apply);
/* atime.c */
APPLY_FUNCTION(atimes_apply);
/* size.c */
APPLY_FUNCTION(size_apply);
APPLY_FUNCTION(unsure_apply);
APPLY_FUNCTION(writers_apply);
/* punch.c */
APPLY_FUNCTION(punch_apply);
/* layout_op.c */
APPLY_FUNCTION(layout_apply);
/* sessions.c */
APPLY_FUNCTION(session_open_apply);
APPLY_FUNCTION(session_end_apply); /* SESSION_CLOSE, RECORD_EVICT */
/* orphan.c */
APPLY_FUNCTION(release_apply);
/* ack.c */
APPLY_FUNCTION(ack_apply);
/* format.c */
APPLY_FUNCTION(format_apply);
APPLY_FUNCTION(reserve_apply);

#endif
