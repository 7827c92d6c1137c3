#include "common/transport_queue.h"

#include "common/bulk.h"
#include "common/transport_frame.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PACK_SIZE       (4 * 1024) /* first size of a pack buffer */
#define ITEMS_SPARE_MAX 32

/* --- items -------------------------------------------------------------------------------------------------------- */

static struct transport_item *item_new(struct transport_item_pool *pool)
{
	struct transport_item *item = pool->first;

	if (item == NULL)
		return calloc(1, sizeof(*item));
	pool->first = item->next;
	pool->count--;
	memset(item, 0, sizeof(*item));
	return item;
}

static void item_free(struct transport_item_pool *pool, struct transport_item *item)
{
	if (item->iov != item->inline_iov)
		free(item->iov);
	if (pool->count < ITEMS_SPARE_MAX) {
		item->next = pool->first;
		pool->first = item;
		pool->count++;
	} else {
		free(item);
	}
}

void transport_item_pool_release(struct transport_item_pool *pool)
{
	while (pool->first != NULL) {
		struct transport_item *item = pool->first;

		pool->first = item->next;
		free(item);
	}
	pool->count = 0;
}

/* The first item's bytes have all gone, or never will: out of the queue, and its memory back to whose it is. */
static void item_pop(struct transport_queue *queue)
{
	struct transport_item *item = queue->first;
	void (*done)(void *arg) = item->done;
	void *arg = item->arg;

	queue->first = item->next;
	if (queue->first == NULL)
		queue->last = NULL;
	item_free(queue->pool, item);
	if (done != NULL)
		done(arg);
}

/* The item that takes the next bytes: the last one, unless bulk comes after its own. */
static struct transport_item *item_for_bytes(struct transport_queue *queue)
{
	struct transport_item *item = queue->last;

	if (item != NULL && item->iov_count == 0 && item->pipe_left == 0 && item->done == NULL)
		return item;
	item = item_new(queue->pool);
	if (item == NULL)
		return NULL;
	item->iov = item->inline_iov;
	if (queue->last != NULL)
		queue->last->next = item;
	else
		queue->first = item;
	queue->last = item;
	return item;
}

/* --- adding ------------------------------------------------------------------------------------------------------- */

/* Room for size bytes at the pack buffer's end. */
static int pack_reserve(struct transport_queue *queue, size_t size)
{
	size_t bigger = queue->pack_size == 0 ? PACK_SIZE : queue->pack_size;
	uint8_t *pack;

	if (queue->pack_size - queue->pack_len >= size)
		return 0;
	if (queue->pack_sent > 0) {
		memmove(queue->pack, queue->pack + queue->pack_sent, queue->pack_len - queue->pack_sent);
		queue->pack_len -= queue->pack_sent;
		queue->pack_sent = 0;
	}
	while (bigger - queue->pack_len < size)
		bigger *= 2;
	if (bigger == queue->pack_size)
		return 0;

	pack = realloc(queue->pack, bigger);
	if (pack == NULL)
		return -ENOMEM;
	queue->pack = pack;
	queue->pack_size = bigger;
	return 0;
}

/* Room for size bytes, and the item they will belong to: *ret_out is where they go. NULL: no memory. */
static struct transport_item *bytes_reserve(struct transport_queue *queue, size_t size, uint8_t **ret_out)
{
	struct transport_item *item = pack_reserve(queue, size) < 0 ? NULL : item_for_bytes(queue);

	if (item == NULL)
		return NULL;
	*ret_out = queue->pack + queue->pack_len;
	queue->pack_len += size;
	queue->bytes += size;
	item->packed += size;
	return item;
}

int transport_queue_add_bytes(struct transport_queue *queue, const void *data, size_t size)
{
	uint8_t *out;

	if (bytes_reserve(queue, size, &out) == NULL)
		return -ENOMEM;
	memcpy(out, data, size);
	return 0;
}

int transport_queue_add(struct transport_queue *queue, const void *before, size_t before_size,
			const struct transport_message *message, bool apart)
{
	size_t iov_size = (size_t)message->bulk_count * sizeof(*message->bulk), body_len, bulk_len;
	struct iovec *iov = NULL;
	struct transport_item *item;
	uint8_t *out;
	int err = transport_frame_measure(message, &body_len, &bulk_len);

	if (err < 0)
		return err;
	assert(bulk_len > 0 || message->done == NULL);
	assert(message->pipe_len == 0 || message->bulk_count == 0);
	if (bulk_len > 0 && !apart && message->bulk_count > TRANSPORT_ITEM_IOV) {
		iov = malloc(iov_size);
		if (iov == NULL)
			return -ENOMEM;
	}
	item = bytes_reserve(queue, before_size + FRAME_HEADER_SIZE + body_len, &out);
	if (item == NULL) {
		free(iov);
		return -ENOMEM;
	}

	if (before_size > 0)
		memcpy(out, before, before_size);
	transport_frame_pack(message, body_len, bulk_len, out + before_size);
	if (iov != NULL)
		item->iov = iov;
	if (bulk_len == 0 || apart)
		return 0;
	queue->bytes += bulk_len;
	item->done = message->done;
	item->arg = message->arg;
	if (message->pipe_len > 0) {
		item->pipe = message->pipe;
		item->pipe_left = message->pipe_len;
	} else {
		memcpy(item->iov, message->bulk, iov_size);
		item->iov_count = message->bulk_count;
	}
	return 0;
}

/* --- sending ------------------------------------------------------------------------------------------------------ */

size_t transport_queue_gather(const struct transport_queue *queue, struct iovec *iov, int iov_max, int *ret_count,
			      bool *ret_more)
{
	size_t pack_at = queue->pack_sent, total = 0;
	int count = 0;
	bool more = false;

	for (const struct transport_item *item = queue->first; item != NULL && !more; item = item->next) {
		if (item->packed > 0 && count < iov_max) {
			iov[count++] = (struct iovec){ queue->pack + pack_at, item->packed };
			total += item->packed;
			pack_at += item->packed;
		} else {
			more = item->packed > 0;
		}
		for (int i = item->iov_first; i < item->iov_count && !more; i++) {
			more = count == iov_max;
			if (!more) {
				iov[count++] = item->iov[i];
				total += item->iov[i].iov_len;
			}
		}
		more = more || item->pipe_left > 0;
	}
	*ret_count = count;
	*ret_more = more;
	return total;
}

/* Up to size bytes of an item have gone. Returns how many were its own. */
static size_t item_sent(struct transport_queue *queue, struct transport_item *item, size_t size)
{
	size_t left = size, step = left < item->packed ? left : item->packed;

	item->packed -= step;
	queue->pack_sent += step;
	left -= step;
	while (item->packed == 0 && item->iov_first < item->iov_count) {
		struct iovec *iov = &item->iov[item->iov_first];

		step = left < iov->iov_len ? left : iov->iov_len;
		iov->iov_base = (uint8_t *)iov->iov_base + step;
		iov->iov_len -= step;
		left -= step;
		if (iov->iov_len > 0)
			break;
		item->iov_first++;
	}
	step = left < item->pipe_left ? left : item->pipe_left;
	item->pipe_left -= step;
	return size - left + step;
}

static bool item_is_over(const struct transport_item *item)
{
	return item->packed == 0 && item->iov_first == item->iov_count && item->pipe_left == 0;
}

void transport_queue_sent(struct transport_queue *queue, size_t size)
{
	assert(size <= queue->bytes);
	queue->bytes -= size;
	while (queue->first != NULL) { /* a `done` may clear it meanwhile */
		size -= item_sent(queue, queue->first, size);
		if (!item_is_over(queue->first))
			break;
		item_pop(queue);
	}
}

/* Put a copy in the place of what an item still has to send of somebody's memory. */
static int item_copy_bulk(struct transport_item *item)
{
	size_t total = bulk_iov_size(item->iov + item->iov_first, item->iov_count - item->iov_first), at = 0;
	uint8_t *copy = malloc(total);

	if (copy == NULL)
		return -ENOMEM;
	for (int i = item->iov_first; i < item->iov_count; i++) {
		memcpy(copy + at, item->iov[i].iov_base, item->iov[i].iov_len);
		at += item->iov[i].iov_len;
	}
	item->iov[0] = (struct iovec){ copy, total };
	item->iov_first = 0;
	item->iov_count = 1;
	item->done = free;
	item->arg = copy;
	return 0;
}

int transport_queue_forget(struct transport_queue *queue, const void *arg)
{
	for (struct transport_item *item = queue->first; item != NULL; item = item->next) {
		void (*done)(void *arg) = item->done;
		void *done_arg = item->arg;
		int err;

		if (done == NULL || done_arg != arg || item->iov_count == 0)
			continue;
		err = item_copy_bulk(item);
		if (err < 0)
			return err;
		done(done_arg);
		return 0;
	}
	return 0;
}

bool transport_queue_has_bulk(const struct transport_queue *queue)
{
	const struct transport_item *item = queue->first;

	while (item != NULL && (item->done == NULL || item->iov_first == item->iov_count))
		item = item->next;
	return item != NULL;
}

void transport_queue_clear(struct transport_queue *queue)
{
	while (queue->first != NULL)
		item_pop(queue);
	queue->bytes = 0;
	transport_queue_trim(queue);
}

void transport_queue_trim(struct transport_queue *queue)
{
	assert(queue->first == NULL);
	free(queue->pack);
	queue->pack = NULL;
	queue->pack_sent = queue->pack_len = queue->pack_size = 0;
}
