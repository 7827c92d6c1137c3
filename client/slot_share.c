#include "client/slot_share.h"

#include "client/ctx_wait.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

struct slot_pool {
	struct slot_pool *next;
	struct slot_share *share;
	int64_t ost;
	struct slot_waiter *first, **last; /* who waits, oldest first */
	uint32_t free_count;
	uint32_t *free; /* numbers, the last one is handed out first */
	uint32_t *seqs; /* by number / stride: the last one used */
};

/* On the waiter's stack. */
struct slot_waiter {
	struct slot_waiter *next;
	struct fiber_queue queue;
	uint32_t number;
	bool granted;
};

struct slot_share {
	unsigned int refs;
	uint64_t session;
	uint32_t index, stride, count; /* slots index + i * stride, i < count */
	struct slot_pool *pools;
};

int slot_share_new(uint64_t session, uint32_t slots, unsigned int index, unsigned int stride,
		   struct slot_share **ret_share)
{
	struct slot_share *share;

	if (index >= slots)
		return -EINVAL;
	share = calloc(1, sizeof(*share));
	if (share == NULL)
		return -ENOMEM;
	share->refs = 1;
	share->session = session;
	share->index = index;
	share->stride = stride;
	share->count = (slots - index + stride - 1) / stride;
	*ret_share = share;
	return 0;
}

struct slot_share *slot_share_ref(struct slot_share *share)
{
	share->refs++;
	return share;
}

void slot_share_put(struct slot_share *share)
{
	if (share == NULL || --share->refs > 0)
		return;
	while (share->pools != NULL) {
		struct slot_pool *pool = share->pools;

		share->pools = pool->next;
		assert(pool->free_count == share->count && pool->first == NULL);
		free(pool->free);
		free(pool->seqs);
		free(pool);
	}
	free(share);
}

uint64_t slot_share_session(const struct slot_share *share)
{
	return share->session;
}

static struct slot_pool *pool_new(struct slot_share *share, int64_t ost)
{
	struct slot_pool *pool = calloc(1, sizeof(*pool));

	if (pool == NULL)
		return NULL;
	pool->free = calloc(share->count, sizeof(*pool->free));
	pool->seqs = calloc(share->count, sizeof(*pool->seqs));
	if (pool->free == NULL || pool->seqs == NULL) {
		free(pool->free);
		free(pool->seqs);
		free(pool);
		return NULL;
	}
	pool->share = share;
	pool->ost = ost;
	pool->last = &pool->first;
	while (pool->free_count < share->count) {
		/* The lowest number on top: a quiet mount uses few slots, and servers remember few replies. */
		pool->free[pool->free_count] = share->index + (share->count - 1 - pool->free_count) * share->stride;
		pool->free_count++;
	}
	pool->next = share->pools;
	share->pools = pool;
	return pool;
}

static struct slot_pool *pool_find(struct slot_share *share, int64_t ost)
{
	for (struct slot_pool *pool = share->pools; pool != NULL; pool = pool->next)
		if (pool->ost == ost)
			return pool;
	return pool_new(share, ost);
}

static void waiter_remove(struct slot_pool *pool, struct slot_waiter *waiter)
{
	struct slot_waiter **link = &pool->first;

	while (*link != waiter)
		link = &(*link)->next;
	*link = waiter->next;
	if (pool->last == &waiter->next)
		pool->last = link;
}

static int pool_wait(struct slot_pool *pool, struct worker *worker, struct fs_ctx *ctx, uint64_t until_ns,
		     uint32_t *ret_number)
{
	struct slot_waiter waiter = { 0 };
	int err = 0;

	*pool->last = &waiter;
	pool->last = &waiter.next;
	while (!waiter.granted && err == 0)
		err = ctx_wait_in(worker, ctx, &waiter.queue, NULL, until_ns);
	if (!waiter.granted) {
		waiter_remove(pool, &waiter);
		return err;
	}
	*ret_number = waiter.number;
	return 0;
}

int slot_take(struct slot_share *share, int64_t ost, struct worker *worker, struct fs_ctx *ctx, uint64_t until_ns,
	      struct slot *ret_slot)
{
	struct slot_pool *pool = pool_find(share, ost);
	uint32_t number = 0, *seq;
	int err;

	if (pool == NULL)
		return -ENOMEM;
	if (pool->free_count > 0) {
		number = pool->free[--pool->free_count];
	} else {
		err = pool_wait(pool, worker, ctx, until_ns, &number);
		if (err < 0)
			return err;
	}
	seq = &pool->seqs[number / share->stride];
	if (++*seq == 0) /* which servers take for none */
		++*seq;
	*ret_slot = (struct slot){ .pool = pool, .number = number, .seq = *seq };
	return 0;
}

void slot_release(struct slot *slot)
{
	struct slot_pool *pool = slot->pool;
	struct slot_waiter *waiter;

	if (pool == NULL)
		return;
	slot->pool = NULL;
	waiter = pool->first;
	if (waiter != NULL) {
		waiter_remove(pool, waiter);
		waiter->number = slot->number;
		waiter->granted = true;
		fiber_wake_all(&waiter->queue);
		return;
	}
	assert(pool->free_count < pool->share->count);
	pool->free[pool->free_count++] = slot->number;
}
