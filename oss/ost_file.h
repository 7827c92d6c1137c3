/*
 * What is known in memory of a file's content (ino, gen) on this OST: its cut, its tombstone, its objects that are in
 * memory, how much there is.
 *
 *   - Everybody who does something with it is inside it: file_enter() .. file_leave(). Who cuts, destroys or counts it is
 *     in it alone.
 *   - It stays in memory while somebody uses it or an object of it is open; beyond FILES_IDLE_MAX idle ones the longest
 *     unused goes. The index has what must last.
 *   - Belongs to the OST's loop.
 */
#ifndef STRAKE_OSS_OST_FILE_H
#define STRAKE_OSS_OST_FILE_H

#include "oss/index.h"
#include "oss/share_lock.h"
#include "proto/oss.pb-c.h"

#include <stdbool.h>
#include <stdint.h>

#define FILES_IDLE_MAX 65536u

struct ost;
struct ost_object;

struct ost_file {
	struct ost *ost;
	uint64_t ino, gen;
	unsigned int refs;
	uint64_t stripe_size;  /* 0: not known yet */
	struct index_file row; /* zero where the index has none */
	uint64_t last_change;  /* of the index that concerns it */
	uint64_t cut_change;   /* that of its cut */
	struct share_lock lock;
	struct ost_object *objects; /* those in memory */

	/* How much there is, as long as it is known: kept right by whoever changes an object. */
	bool counted;
	uint64_t end, blocks;

	struct ost_file *bucket_next;
	struct ost_file *idle_prev, *idle_next;
	bool idle;
};

/* A reference, without being inside. -ENOMEM. */
int file_get(struct ost *ost, uint64_t ino, uint64_t gen, struct ost_file **ret_file);
void file_put(struct ost_file *file);
/* If it is in memory. No reference. */
struct ost_file *file_find(struct ost *ost, uint64_t ino, uint64_t gen);
/* All that are idle. */
void file_forget_idle(struct ost *ost);

/*
 * Come in, with what the peer believes: a cut (may be NULL) newer than ours is applied first.
 * -ESTALE  it was destroyed; or this is a write, and its cut is older than ours
 * -EINVAL  another stripe size than it has; a cut that makes no sense
 * or the errors of applying the cut
 */
int file_enter(struct ost *ost, uint64_t ino, uint64_t gen, uint64_t stripe_size, const Strake__Cut *cut, bool write,
	       struct ost_file **ret_file);
void file_leave(struct ost_file *file); /* also from outside the fiber that came in */

/* The file's end and its blocks here; counts when it must. Not while inside. */
int file_totals(struct ost_file *file, uint64_t *ret_end, uint64_t *ret_blocks);

/* cut.c: apply it unless it is old, durably but for the index (last_change). Not while inside. */
int file_cut(struct ost_file *file, uint64_t stripe_size, const Strake__Cut *cut);

#endif
