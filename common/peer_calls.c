#include "common/arena.h"
#include "common/container_of.h"
#include "common/peer_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/* --- the queue ---------------------------------------------------------------------------------------------------- */

static void queue_append(struct peer *peer, struct call *call)
{
	call->state = CALL_QUEUED;
	call->next = NULL;
	call->previous = peer->last;
	if (peer->last != NULL)
		peer->last->next = call;
	else
		peer->first = call;
	peer->last = call;
}

static void queue_remove(struct peer *peer, struct call *call)
{
	assert(call->state == CALL_QUEUED);
	if (call->previous != NULL)
		call->previous->next = call->next;
	else
		peer->first = call->next;
	if (call->next != NULL)
		call->next->previous = call->previous;
	else
		peer->last = call->previous;
	call->next = call->previous = NULL;
}

struct call *peer_queue_take(struct peer *peer)
{
	struct call *call = peer->first;

	if (call != NULL)
		queue_remove(peer, call);
	return call;
}

void peer_queue_end(struct peer *peer, int result)
{
	struct call *call;

	while ((call = peer_queue_take(peer)) != NULL)
		peer_call_end(call, result);
}

/* --- deadlines ---------------------------------------------------------------------------------------------------- */

/*
 * Deadlines of calls mostly come in the order of the calls and mostly do not pass. So the timer is left alone by most
 * calls, and looks at all of them when it goes off.
 */
void peer_deadline_arm(struct peer *peer, uint64_t at_ns)
{
	if (peer->deadline_timer.loop == NULL || peer->deadline_timer.at_ns > at_ns)
		loop_timer_set(peer->loop, &peer->deadline_timer, at_ns);
}

static void deadline_passed(struct loop_timer *timer)
{
	struct peer *peer = container_of(timer, struct peer, deadline_timer);
	uint64_t now = loop_now_ns(peer->loop), next = UINT64_MAX;
	struct call *call, *after;
	bool expired;

	for (call = peer->first; call != NULL; call = after) {
		after = call->next;
		if (call->deadline_ns <= now) {
			queue_remove(peer, call);
			peer_call_end(call, -ETIMEDOUT);
		} else if (call->deadline_ns < next) {
			next = call->deadline_ns;
		}
	}
	expired = peer_flight_expired(peer, now, &next);
	if (next != UINT64_MAX)
		peer_deadline_arm(peer, next);
	if (expired)
		peer_give_up(peer, -ETIMEDOUT, "a call was not answered in time");
}

void peer_calls_init(struct peer *peer)
{
	peer->deadline_timer.expired = deadline_passed;
}

/* --- a call ------------------------------------------------------------------------------------------------------- */

void call_release(struct call *call)
{
	if (call->memory != NULL) {
		arena_release(call->memory);
		free(call->memory);
	}
	call->memory = NULL;
	call->reply = NULL;
}

void peer_call_end(struct call *call, int result)
{
	if (!call->answered)
		call_release(call);
	call->state = CALL_ENDED;
	call->result = result;
	if (call->ended != NULL)
		call->ended(call);
	else
		fiber_wake_all(&call->waiter);
}

static void call_begin(struct peer *peer, struct call *call)
{
	unsigned int attempt_ms = call->attempt_ms != 0 ? call->attempt_ms : PEER_ATTEMPT_MS;

	call_release(call);
	call->peer = peer;
	call->result = 0;
	call->answered = false;
	call->bulk_in_len = 0;
	call->log_index = call->durable_index = 0;
	call->deadline_ns = loop_now_ns(peer->loop) + attempt_ms * NSEC_PER_MSEC;
}

int peer_call(struct peer *peer, struct call *call)
{
	assert(fiber_self() != NULL && loop_current() == peer->loop);
	assert(call->state == CALL_ENDED && op_find(call->opcode) != NULL);
	call_begin(peer, call);
	if (peer->dying)
		return -ECANCELED;
	peer->calls++;
	if (fiber_self() == peer->hook_fiber) {
		if (peer->conn == NULL)
			return -ECONNRESET;
		if (peer->free_count == 0)
			return -EAGAIN; /* the hook's fiber is one, and asks one thing at a time */
		peer_flight_send(peer, call);
	} else {
		queue_append(peer, call);
		if (peer->state == PEER_IDLE)
			peer_dial(peer);
		peer_flight_pump(peer);
	}
	if (call->state == CALL_ENDED)
		return call->result;

	peer_deadline_arm(peer, call->deadline_ns);
	while (call->state != CALL_ENDED)
		fiber_wait(&call->waiter, NULL);
	return call->result;
}

void call_cancel(struct call *call)
{
	struct peer *peer = call->peer;

	if (call->state == CALL_QUEUED) {
		queue_remove(peer, call);
		peer_call_end(call, -ECANCELED);
	} else if (call->state == CALL_SENT && transport_forget(peer->conn, call, call->bulk_in) < 0) {
		call->result = -ECANCELED;
		peer_give_up(peer, -ENOMEM, "a call was given up");
	} else if (call->state == CALL_SENT) {
		peer->entries[call->entry].call = NULL;
		peer_call_end(call, -ECANCELED);
	}
}
