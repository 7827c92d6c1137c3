/*
 * What waits to be sent on one connection: items, each so many bytes of the pack buffer (headers and bodies of one
 * or many messages, back to back), then bulk by reference or the bytes in a pipe. Messages without bulk extend the last
 * item. The pack buffer goes when all is sent.
 *
 *   - Only memory: transport_tcp_send.c, or another fabric's, does the sending.
 *   - A message's `done` comes from within transport_queue_sent(), _forget() and _clear(); it may call anything, _clear()
 *     too.
 */
#ifndef STRAKE_COMMON_TRANSPORT_QUEUE_H
#define STRAKE_COMMON_TRANSPORT_QUEUE_H

#include "common/transport.h"

#include <sys/types.h>

#define TRANSPORT_ITEM_IOV 4 /* pieces of bulk without an array of their own */

struct transport_item {
	struct transport_item *next;
	size_t packed; /* so many bytes of the pack buffer go first */
	struct iovec inline_iov[TRANSPORT_ITEM_IOV];
	struct iovec *iov; /* what is left of the bulk: [iov_first, iov_count) */
	int iov_first, iov_count;
	int pipe;
	size_t pipe_left;
	void (*done)(void *arg);
	void *arg;
};

/* Items kept for reuse, by all queues of one transport. */
struct transport_item_pool {
	struct transport_item *first;
	unsigned int count;
};

/* Zero but for the pool: empty, and without memory. */
struct transport_queue {
	struct transport_item_pool *pool;
	struct transport_item *first, *last;
	uint8_t *pack;
	size_t pack_sent, pack_len, pack_size;
	size_t bytes; /* in all: packed, bulk and pipes */
};

void transport_item_pool_release(struct transport_item_pool *pool);

/*
 * Both take all or nothing. -ENOMEM; -EMSGSIZE: transport_send(). before: bytes of the fabric's own that go before the frame;
 * apart: its bulk is not of the queue's business, nor is its `done`.
 */
int transport_queue_add_bytes(struct transport_queue *queue, const void *data, size_t size);
int transport_queue_add(struct transport_queue *queue, const void *before, size_t before_size,
			const struct transport_message *message, bool apart);

/*
 * What is to be sent next, by one sendmsg() say: up to iov_max pieces, up to the first pipe. Returns their bytes, 0 when the first
 * item's pipe is next. ret_more: more is to come behind it.
 */
size_t transport_queue_gather(const struct transport_queue *queue, struct iovec *iov, int iov_max, int *ret_count,
			      bool *ret_more);

/* So many bytes have been taken from its head, or out of the pipe there. */
void transport_queue_sent(struct transport_queue *queue, size_t size);

/* The bulk of the message that was added with arg is no longer touched when this returns. -ENOMEM. */
int transport_queue_forget(struct transport_queue *queue, const void *arg);

/* Does it have memory of others: bulk that has not gone? */
bool transport_queue_has_bulk(const struct transport_queue *queue);

/* Nothing of it will be sent any more. */
void transport_queue_clear(struct transport_queue *queue);

/* When it is empty: it has no memory then. */
void transport_queue_trim(struct transport_queue *queue);

#endif
