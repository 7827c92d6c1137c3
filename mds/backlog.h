/*
 * What one OST has yet to do of one kind (destroys or cuts): keys of rows of the state, in memory, bounded.
 *
 * The rows are the truth. New ones are pushed as they come; when there is no room the table is read again later, from its
 * beginning, a piece at a time. So an OST that is away for a week costs no memory, and one that is there no search. A key
 * that comes out may be one whose row is gone, or has been out before: look at the row. Pure.
 */
#ifndef STRAKE_MDS_BACKLOG_H
#define STRAKE_MDS_BACKLOG_H

#include "mds/view.h"

#define BACKLOG_MAX      4096
#define BACKLOG_SCAN_MAX 16384 /* rows looked at in one go */

struct backlog_item {
	uint64_t ino, gen;
};

/* The first row at (ino, gen) or above, whoever it waits for. -ENOENT. *ret_awaited: it waits for that OST. */
struct backlog_source {
	int (*from)(struct view *view, uint64_t ino, uint64_t gen, uint32_t ost, struct backlog_item *ret_item,
		    bool *ret_awaited);
};
extern const struct backlog_source backlog_destroys, backlog_cuts;

struct backlog {
	const struct backlog_source *source;
	uint32_t ost;
	bool reading, again; /* a pass over the table is under way; another one is needed after it */
	struct backlog_item at;
	uint32_t first, count;
	struct backlog_item items[BACKLOG_MAX];
};

/* Begins with reading the table. */
void backlog_init(struct backlog *backlog, const struct backlog_source *source, uint32_t ost);

void backlog_push(struct backlog *backlog, uint64_t ino, uint64_t gen);
void backlog_read_again(struct backlog *backlog);

/* Nothing is left, neither here nor in the table. */
bool backlog_is_empty(const struct backlog *backlog);

/* The next key, without taking it out. -ENOENT: none; -EAGAIN: none yet, a piece of the table was read in vain. */
int backlog_peek(struct backlog *backlog, struct view *view, struct backlog_item *ret_item);
void backlog_drop(struct backlog *backlog); /* the one peeked at */

#endif
