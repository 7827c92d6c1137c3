#include "common/container_of.h"
#include "common/peer_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define BACKOFF_MAX_MS 1000 /* less than any patience: who has come back is met within it */

/* --- addresses ---------------------------------------------------------------------------------------------------- */

int peer_set_addresses(struct peer *peer, const char *const *addresses, size_t count)
{
	bool same = count == peer->address_count;
	int err;

	for (size_t i = 0; same && i < count; i++)
		same = strcmp(addresses[i], peer->addresses[i]) == 0;
	if (same)
		return 0;
	err = peer_ways_set(peer, addresses, count);
	if (err < 0)
		return err;

	/* Perhaps this is what was wrong. */
	peer->backoff_ms = PEER_BACKOFF_MIN_MS;
	if (peer->state == PEER_WAITING)
		loop_timer_set(peer->loop, &peer->retry_timer, loop_now_ns(peer->loop));
	if (peer->state == PEER_READY)
		peer_ways_ready(peer);
	return 0;
}

/* --- a loss, and what follows ------------------------------------------------------------------------------------- */

/* Half of it is random, so that a thousand clients of a restarted server do not come at once. */
static uint64_t backoff_ns(struct peer *peer)
{
	uint64_t half_ns = peer->backoff_ms * NSEC_PER_MSEC / 2;

	peer->random ^= peer->random << 13;
	peer->random ^= peer->random >> 7;
	peer->random ^= peer->random << 17;
	return half_ns + peer->random % half_ns;
}

static void retry_later(struct peer *peer)
{
	peer->state = PEER_WAITING;
	loop_timer_set(peer->loop, &peer->retry_timer, loop_now_ns(peer->loop) + backoff_ns(peer));
	peer->backoff_ms = peer->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : peer->backoff_ms * 2;
}

/* The transport has ended. */
static void connection_ended(struct peer *peer, int err, const char *text)
{
	peer->conn = NULL;
	if (peer->config.tally != NULL)
		peer->config.tally->connections[peer->fabric]--;
	loop_timer_cancel(&peer->ping_timer);
	peer_ways_lost(peer, err, text);
	peer_flight_end(peer);
}

static void connection_lost(struct peer *peer, int err, const char *text)
{
	bool was_ready = peer->state == PEER_READY;

	connection_ended(peer, err, text);
	if (!was_ready)
		return; /* the hook's fiber goes on from here */
	retry_later(peer);
	if (peer->config.lost != NULL)
		peer->config.lost(peer->config.owner, err);
}

static void peer_closed(void *owner, int err, const char *text)
{
	struct peer *peer = owner;

	if (peer->state == PEER_GREETING)
		snprintf(peer->last_error, sizeof(peer->last_error), "%s: %s",
			 peer_way_address(&peer->ways[peer->fabric]), text);
	connection_lost(peer, err, text);
}

static const struct transport_events peer_events = {
	.frame = peer_frame,
	.message = peer_message,
	.closed = peer_closed,
};

void peer_give_up(struct peer *peer, int err, const char *text)
{
	transport_abandon(peer->conn);
	connection_lost(peer, err, text);
}

void peer_disconnect(struct peer *peer)
{
	peer_ways_stop(peer);
	loop_timer_cancel(&peer->retry_timer);
	if (peer->conn != NULL) {
		transport_close(peer->conn);
		connection_ended(peer, -ECANCELED, "");
	}
}

/* --- probing ------------------------------------------------------------------------------------------------------ */

static void ping_arm(struct peer *peer)
{
	loop_timer_set(peer->loop, &peer->ping_timer, peer->heard_ns + PEER_PING_MS * NSEC_PER_MSEC);
}

static void ping_ended(struct call *call)
{
	call_release(call);
}

void peer_ping(struct peer *peer, unsigned int deadline_ms)
{
	peer->ping = (struct call){
		.opcode = OP_PING,
		.ended = ping_ended,
		.peer = peer,
		.deadline_ns = loop_now_ns(peer->loop) + deadline_ms * NSEC_PER_MSEC,
	};
	peer_flight_send(peer, &peer->ping);
	peer_deadline_arm(peer, peer->ping.deadline_ns);
}

/* Calls under way have their own deadlines; only silence without any needs a probe. */
static void ping_due(struct loop_timer *timer)
{
	struct peer *peer = container_of(timer, struct peer, ping_timer);
	uint64_t now = loop_now_ns(peer->loop);

	if (peer_flight_count(peer) > 0)
		peer->heard_ns = now;
	if (peer->heard_ns + PEER_PING_MS * NSEC_PER_MSEC > now) {
		ping_arm(peer);
		return;
	}
	peer_ping(peer, PEER_PING_DEADLINE_MS - PEER_PING_MS);
	peer->heard_ns = now;
	ping_arm(peer);
}

/* --- an attempt --------------------------------------------------------------------------------------------------- */

bool peer_error_is_refusal(int err)
{
	return err == -EKEYREJECTED || err == -ESTALE || err == -EPROTO;
}

void peer_round_failed(struct peer *peer)
{
	int refusal = peer->refusal;

	peer->refusal = 0;
	retry_later(peer);
	if (refusal != 0)
		peer_queue_end(peer, refusal);
}

static void peer_ready(struct peer *peer)
{
	peer->state = PEER_READY;
	peer->last_error[0] = 0;
	peer->heard_ns = loop_now_ns(peer->loop);
	ping_arm(peer);
	peer_ways_ready(peer);
	peer_flight_pump(peer);
}

/* The owner's hook. The connection may end meanwhile; the next attempt waits for the hook's end. */
static void hook_fiber(void *arg)
{
	struct peer *peer = arg;
	int err = -ECONNRESET;

	if (peer->conn != NULL) {
		peer->hook_fiber = fiber_self();
		err = peer->config.connected(peer->config.owner, peer);
		peer->hook_fiber = NULL;
	}
	peer->hook_runs = false;
	if (peer->dying) {
		if (peer->hook_over.first != NULL)
			fiber_wake_all(&peer->hook_over);
		else
			peer_destroy(peer);
		return;
	}

	if (peer->conn != NULL && err == 0) {
		peer_ready(peer);
		return;
	}
	if (peer->conn != NULL) {
		snprintf(peer->last_error, sizeof(peer->last_error), "%s: the first calls failed: %s",
			 peer_way_address(&peer->ways[peer->fabric]), strerror(-err));
		peer_give_up(peer, err, "the first calls failed");
	}
	retry_later(peer);
}

/* What stands until now is no more: TCP's, or one by RDMA that was silent. */
static void connection_replaced(struct peer *peer)
{
	peer->state = PEER_DIALING;
	if (peer->config.tally != NULL && peer->fabric == FABRIC_RDMA)
		peer->config.tally->silences++;
	transport_abandon(peer->conn);
	connection_ended(peer, -ECONNRESET, "silent");
	if (peer->config.lost != NULL)
		peer->config.lost(peer->config.owner, -ECONNRESET);
}

void peer_adopt(struct peer *peer, enum fabric fabric, const struct dial_result *result)
{
	int err;

	if (peer->state == PEER_GREETING) { /* the hook must end before another one begins */
		transport_close(result->conn);
		peer_give_up(peer, -ECONNRESET, "silent");
		return;
	}
	if (peer->conn != NULL)
		connection_replaced(peer);
	peer_ways_stop(peer);
	if (peer->config.tally != NULL && peer->connected_ns != 0 && peer->fabric != fabric)
		peer->config.tally->switches++;
	peer->fabric = fabric;
	err = peer_flight_begin(peer, result->credits);
	if (err < 0) {
		transport_close(result->conn);
		snprintf(peer->last_error, sizeof(peer->last_error), "%s", strerror(-err));
		retry_later(peer);
		return;
	}

	peer->conn = result->conn;
	peer->server = result->welcome;
	peer->refusal = 0;
	peer->connects[fabric]++;
	if (peer->config.tally != NULL)
		peer->config.tally->connections[fabric]++;
	peer->connected_ns = peer->heard_ns = loop_now_ns(peer->loop);
	peer->state = PEER_GREETING;
	transport_begin(peer->conn, &peer_events, peer);
	if (peer->config.connected == NULL) {
		peer_ready(peer);
	} else if (fiber_start(peer->loop, hook_fiber, peer) == 0) {
		peer->hook_runs = true;
	} else {
		peer_give_up(peer, -ENOMEM, strerror(ENOMEM));
		retry_later(peer);
	}
}

static void retry_due(struct loop_timer *timer)
{
	peer_dial(container_of(timer, struct peer, retry_timer));
}

void peer_connect_init(struct peer *peer)
{
	peer->backoff_ms = PEER_BACKOFF_MIN_MS;
	peer->retry_timer.expired = retry_due;
	peer->ping_timer.expired = ping_due;
	if (getrandom(&peer->random, sizeof(peer->random), 0) != (ssize_t)sizeof(peer->random) || peer->random == 0)
		peer->random = clock_ns() | 1;
	peer->line = (uint32_t)(peer->random >> 32) | 1;
}
