#include "mds/waiting.h"

#include "common/container_of.h"
#include "common/logger.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

struct waiting_reply {
	struct waiting_reply *next;
	struct request *request;
	int err;
	uint64_t log_index, until_index;
	unsigned int delay_ms;
	uint64_t at_ns;
	size_t body_size;
	uint8_t body[];
};

struct queue {
	struct waiting_reply *first, **last;
};

struct waiting {
	struct loop *loop;
	struct mdt_log *log;
	struct queue durable; /* in the order they came: nearly that of until_index */
	struct queue delayed; /* in the order of at_ns */
	struct loop_timer timer;
};

static void queue_append(struct queue *queue, struct waiting_reply *reply)
{
	reply->next = NULL;
	*queue->last = reply;
	queue->last = &reply->next;
}

static struct waiting_reply *queue_take(struct queue *queue, struct waiting_reply **at)
{
	struct waiting_reply *reply = *at;

	*at = reply->next;
	if (!*at)
		queue->last = at;
	return reply;
}

static void send_reply(struct waiting *waiting, struct request *request, int err, uint64_t log_index, const void *body,
		       size_t body_size)
{
	service_reply(request, &(struct reply){ .err = err,
						.raw = body,
						.raw_len = body_size,
						.log_index = log_index,
						.durable_index = mdt_log_durable(waiting->log) });
}

static void finish(struct waiting *waiting, struct waiting_reply *reply)
{
	send_reply(waiting, reply->request, reply->err, reply->log_index, reply->body, reply->body_size);
	free(reply);
}

/* A later one never leaves before an earlier one, though the delay may have shrunk meanwhile. */
static void delay(struct waiting *waiting, struct waiting_reply *reply)
{
	reply->at_ns = loop_now_ns(waiting->loop) + reply->delay_ms * NSEC_PER_MSEC;
	queue_append(&waiting->delayed, reply);
	if (!waiting->timer.loop)
		loop_timer_set(waiting->loop, &waiting->timer, reply->at_ns);
}

static void delay_over(struct loop_timer *timer)
{
	struct waiting *waiting = container_of(timer, struct waiting, timer);
	uint64_t now_ns = loop_now_ns(waiting->loop);

	while (waiting->delayed.first && waiting->delayed.first->at_ns <= now_ns)
		finish(waiting, queue_take(&waiting->delayed, &waiting->delayed.first));
	if (waiting->delayed.first)
		loop_timer_set(waiting->loop, timer, waiting->delayed.first->at_ns);
}

int waiting_new(struct loop *loop, struct mdt_log *log, struct waiting **ret_waiting)
{
	struct waiting *waiting = calloc(1, sizeof(*waiting));

	if (!waiting)
		return -ENOMEM;
	waiting->loop = loop;
	waiting->log = log;
	waiting->durable.last = &waiting->durable.first;
	waiting->delayed.last = &waiting->delayed.first;
	waiting->timer.expired = delay_over;
	*ret_waiting = waiting;
	return 0;
}

static void queue_clear(struct queue *queue)
{
	while (queue->first) {
		struct waiting_reply *reply = queue_take(queue, &queue->first);

		service_reply_error(reply->request, -ECANCELED);
		free(reply);
	}
}

struct waiting *waiting_free(struct waiting *waiting)
{
	if (!waiting)
		return NULL;
	loop_timer_cancel(&waiting->timer);
	queue_clear(&waiting->durable);
	queue_clear(&waiting->delayed);
	free(waiting);
	return NULL;
}

void waiting_reply(struct waiting *waiting, struct request *request, int err, uint64_t log_index, const void *body,
		   size_t body_size, uint64_t until_index, unsigned int delay_ms)
{
	bool durable = until_index <= mdt_log_durable(waiting->log);
	struct waiting_reply *reply;

	if (durable && delay_ms == 0 && !waiting->delayed.first) {
		send_reply(waiting, request, err, log_index, body, body_size);
		return;
	}
	reply = malloc(sizeof(*reply) + body_size);
	if (!reply)
		logger_die("out of memory for a reply that waits");
	*reply = (struct waiting_reply){
		.request = request,
		.err = err,
		.log_index = log_index,
		.until_index = until_index,
		.delay_ms = delay_ms,
		.body_size = body_size,
	};
	if (body_size > 0)
		memcpy(reply->body, body, body_size);
	if (durable) {
		delay(waiting, reply);
		return;
	}
	queue_append(&waiting->durable, reply);
	mdt_log_sync(waiting->log, until_index);
}

void waiting_durable(struct waiting *waiting, uint64_t durable_index)
{
	struct waiting_reply **at = &waiting->durable.first;

	while (*at) {
		struct waiting_reply *reply;

		if ((*at)->until_index > durable_index) {
			at = &(*at)->next;
			continue;
		}
		reply = queue_take(&waiting->durable, at);
		if (reply->delay_ms > 0)
			delay(waiting, reply);
		else
			finish(waiting, reply);
	}
}
