#include "oss/object_queue.h"

#include <assert.h>
#include <stddef.h>

static bool conflicts(const struct object_op *a, const struct object_op *b)
{
	if (a->direct != b->direct)
		return true;
	if (!a->write && !b->write)
		return false;

	return a->start < b->end && b->start < a->end;
}

static bool may_run(const struct object_op *op)
{
	for (const struct object_op *before = op->prev; before; before = before->prev) {
		if (conflicts(before, op))
			return false;
	}

	return true;
}

void object_queue_add(struct object_queue *queue, struct object_op *op)
{
	assert(op->start <= op->end);
	op->next = NULL;
	op->prev = queue->last;
	if (queue->last)
		queue->last->next = op;
	else
		queue->first = op;
	queue->last = op;
	op->ready = may_run(op);
}

void object_queue_remove(struct object_queue *queue, struct object_op *op, void (*ready)(struct object_op *op))
{
	struct object_op *after = op->next;

	if (op->prev)
		op->prev->next = op->next;
	else
		queue->first = op->next;
	if (op->next)
		op->next->prev = op->prev;
	else
		queue->last = op->prev;

	/* Only what came after it can have waited for it. */
	for (; after; after = after->next) {
		if (after->ready || !may_run(after))
			continue;
		after->ready = true;
		if (ready)
			ready(after);
	}
}

bool object_queue_is_written(const struct object_queue *queue)
{
	for (const struct object_op *op = queue->first; op; op = op->next) {
		if (op->write && op->ready)
			return true;
	}

	return false;
}
