/*
 * The order of operations on one object.
 *
 *   - Two operations conflict when their ranges overlap and one of them writes, or when one is direct I/O and the other
 *     buffered, wherever they are: the page cache and O_DIRECT agree on nothing while both run.
 *   - An operation may run when nothing that came before it, running or waiting, conflicts with it. So order is that of
 *     arrival among those who conflict, and nobody starves.
 *   - Pure: who waits is the caller's to park and to wake. Belongs to the OST's loop.
 */
#ifndef STRAKE_OSS_OBJECT_QUEUE_H
#define STRAKE_OSS_OBJECT_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

/* Lives in its owner from object_queue_add() to object_queue_remove(). */
struct object_op {
	uint64_t start, end; /* [start, end) of the object */
	bool write, direct;
	bool ready; /* it may run */
	struct object_op *prev, *next;
};

/* Zero-initialise it. */
struct object_queue {
	struct object_op *first, *last; /* in order of arrival */
};

/* Put it at the end; op->ready says whether it may run at once. */
void object_queue_add(struct object_queue *queue, struct object_op *op);

/* It is done (or gave up waiting): calls ready() for each that may run from now on. ready may be NULL. */
void object_queue_remove(struct object_queue *queue, struct object_op *op, void (*ready)(struct object_op *op));

/* Does a write run? */
bool object_queue_is_written(const struct object_queue *queue);

static inline bool object_queue_is_empty(const struct object_queue *queue)
{
	return !queue->first;
}

#endif
