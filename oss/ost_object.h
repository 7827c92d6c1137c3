/*
 * Objects in memory: a descriptor each, and who works on it in which order.
 *
 *     object_get() -> object_begin() -> disk_...() -> object_wrote() -> object_end() -> object_put()
 *
 *   - The object must be got while inside its file (file_enter()); it may be kept longer.
 *   - Descriptors stay open in the order of their last use, up to config.objects_open. One with uncommitted writes is
 *     never closed: it is synced first, so that no error of the disk goes unheard.
 *   - object_commit() makes what was written before it durable: data, and for a new object its folder. The index's part is
 *     the caller's (file->last_change). When it fails the OST's instance changes and the object stays uncommitted.
 *   - Belongs to the OST's loop.
 */
#ifndef STRAKE_OSS_OST_OBJECT_H
#define STRAKE_OSS_OST_OBJECT_H

#include "oss/group_sync.h"
#include "oss/object_queue.h"
#include "oss/ost_file.h"

#include <stdbool.h>
#include <stdint.h>

struct ost_object {
	struct ost_file *file;
	uint64_t seq;
	int fd;
	unsigned int refs;
	bool opening; /* by the first who wanted it; others wait */
	bool gone;    /* cut away, destroyed or never opened: out of all lists, goes with the last reference */
	bool direct;  /* O_DIRECT is set on fd */
	bool fresh;   /* its folder has not been synced since it was made */
	int open_err; /* why it could not be opened */
	uint64_t writes, committed; /* counts: different, it is dirty */
	uint64_t size;     /* where what was written whole ends; its file is longer while a write goes beyond it */
	uint64_t room_end; /* there may be room (ALLOCATE) behind its end, up to there */
	uint64_t blocks;
	int64_t grown; /* blocks, since object_take_grown() */
	struct object_queue queue;
	struct group_sync sync;
	struct fiber_queue opened;

	struct ost_object *bucket_next;
	struct ost_object *file_prev, *file_next; /* of the file's */
	struct ost_object *idle_prev, *idle_next;
	bool idle;
};

static inline bool object_is_dirty(const struct ost_object *object)
{
	return object->writes != object->committed;
}

/*
 * The object, open. create: make it where there is none.
 * -ENOENT  there is none (a hole)
 * or as ost_io_error(); -EIO also where the index knows it and its file is gone
 */
int object_get(struct ost_file *file, uint64_t seq, bool create, struct ost_object **ret_object);
/*
 * A new one whose first bytes are at hand: reserved, so that whoever else wants it waits, until object_make() makes its file
 * and writes them (size 0: none) by one errand. It has then been opened, with *ret_written of them in it, or not: the error
 * is that of object_get(), and the reference stays to be put. -EAGAIN of the first: there is one, or that would have to wait.
 */
int object_reserve(struct ost_file *file, uint64_t seq, struct ost_object **ret_object);
int object_make(struct ost_object *object, const void *data, size_t size, uint64_t offset, size_t *ret_written);
void object_hold(struct ost_object *object); /* another reference */
void object_put(struct ost_object *object);
struct ost_object *object_find(struct ost_file *file, uint64_t seq); /* if it is in memory; no reference */

/* One's turn at a range of the object. Lives from begin to end. */
struct object_turn {
	struct object_op op;
	struct fiber_queue queue;
};
void object_begin(struct ost_object *object, struct object_turn *turn, uint64_t start, uint64_t end, bool write,
		  bool direct);
void object_end(struct ost_object *object, struct object_turn *turn);

/* It was written to up to there, or that was tried (0): it is dirty, size and blocks may be others. */
void object_wrote(struct ost_object *object, uint64_t end);
/* It was made shorter, or longer, and nobody else is at it: its size is its file's, and nobody counts what it has grown. */
void object_was_cut(struct ost_object *object);
/* By how many blocks it has grown since this was last called: whoever asks counts for all. */
int64_t object_take_grown(struct ost_object *object);

/* Room was allocated up to there. */
void object_has_room(struct ost_object *object, uint64_t end);
/*
 * Before something is written from start to end. A write beyond the object's end that fails half-way takes room behind that
 * away: the disk's filesystem may cut it off (ext4), object_undo() does. So where there is such room this takes first what
 * the write needs. In turn.
 *
 * -ENOSPC, -EDQUOT  the write would fail; nothing is lost
 */
int object_take_room(struct ost_object *object, uint64_t start, uint64_t end);
/* Does what ends there go beyond the object's end, where there may be room? Else that does nothing. */
bool object_may_have_room(const struct ost_object *object, uint64_t end);

int object_set_size(struct ost_object *object, uint64_t size); /* ftruncate(2) */
/* Of its file: more than the object's while a write goes on beyond that, and when one has failed until that is taken back. */
uint64_t object_file_size(const struct ost_object *object);
/*
 * A write has failed, and may have left some of its bytes beyond the end: they go, durably, so that they never become a part
 * of the file when that grows. What is within the end stays as it is. Inside the file, without a turn.
 */
void object_undo(struct ost_object *object);

int object_commit(struct ost_object *object);

/* Its file is, or is about to be, unlinked: nobody finds it any more. Alone in its file. */
void object_forget(struct ost_object *object);

/* Make a folder's entries durable. */
int object_sync_folder(struct ost *ost, unsigned int folder);

/* All objects of the OST. */
int object_commit_all(struct ost *ost);
/* At the end: all that nobody uses. */
void object_close_idle(struct ost *ost);

#endif
