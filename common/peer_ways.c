#include "common/container_of.h"
#include "common/logger.h"
#include "common/peer_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of opening: RDMA has this start before TCP is tried, too (RFC 8305's way with IPv6 and IPv4). */
#define START_MS 200
/* RDMA that could not be had, or did not last, rests: ever longer. */
#define REST_MIN_MS 1000
#define REST_MAX_MS 30000
#define LASTED_MS   30000
/*
 * On RDMA, while somebody waits: so long without a word, and it is asked for one; so many looks later another way is tried.
 * Looks, not time alone: where it was this thread that did not come round, the answer may have come.
 */
#define QUIET_MS     500
#define LOOK_MS      250
#define SILENT_LOOKS 3

static struct peer_way *other_way(const struct peer_way *way)
{
	return &way->peer->ways[way->fabric == FABRIC_TCP ? FABRIC_RDMA : FABRIC_TCP];
}

/* --- addresses ---------------------------------------------------------------------------------------------------- */

/* Where only RDMA is used, addresses without rdma:// are taken for such, unless there are others. */
static bool belongs(const struct peer *peer, enum fabric fabric, const char *address)
{
	enum fabric its;

	if (fabrics_of(&peer->fabrics, address, &its) < 0 || its != fabric)
		return false;
	return fabric == FABRIC_TCP || address_is_rdma(address) || !peer->any_rdma;
}

static void ways_find(struct peer *peer)
{
	peer->any_rdma = false;
	for (size_t i = 0; i < peer->address_count; i++)
		peer->any_rdma |= address_is_rdma(peer->addresses[i]);
	for (enum fabric fabric = 0; fabric < FABRIC_COUNT; fabric++) {
		struct peer_way *way = &peer->ways[fabric];

		way->peer = peer;
		way->fabric = fabric;
		way->count = way->at = way->used = way->tried = 0;
		for (size_t i = 0; i < peer->address_count; i++)
			way->count += belongs(peer, fabric, peer->addresses[i]);
	}
}

const char *peer_way_address(const struct peer_way *way)
{
	const struct peer *peer = way->peer;
	size_t left = way->at;

	for (size_t i = 0; i < peer->address_count; i++)
		if (belongs(peer, way->fabric, peer->addresses[i]) && left-- == 0)
			return peer->addresses[i];
	return "?"; /* they have changed meanwhile */
}

int peer_ways_set(struct peer *peer, const char *const *addresses, size_t count)
{
	char(*copy)[ADDRESS_SIZE] = calloc(count > 0 ? count : 1, sizeof(*copy));

	if (copy == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		snprintf(copy[i], ADDRESS_SIZE, "%s", addresses[i]);
	free(peer->addresses);
	peer->addresses = copy;
	peer->address_count = count;
	ways_find(peer);
	return 0;
}

/* --- what is said of them ----------------------------------------------------------------------------------------- */

/*
 * That RDMA is not used though it is known, when there is a word why; and that all of the server's peers use it again. So an
 * outage is two lines, however often it is tried and whoever tries. One that comes and goes is tried ever more seldom.
 */
static void say_fabric(struct peer *peer)
{
	struct peer_tally *tally = peer->config.tally;

	if (tally == NULL || tally->name[0] == '\0' || peer->ways[FABRIC_RDMA].count == 0)
		return;
	if (peer->fabric == FABRIC_RDMA) {
		if (tally->connections[FABRIC_TCP] == 0 && atomic_exchange(&tally->by_tcp_said, false))
			log_info("%s: by RDMA again", tally->name);
	} else if (peer->fabrics.missing != 0) {
		fabrics_say_missing(&peer->fabrics, LOGGER_INFO);
	} else if (peer->no_rdma[0] != '\0' && !atomic_exchange(&tally->by_tcp_said, true)) {
		log_info("%s: by TCP now, not by RDMA: %s", tally->name, peer->no_rdma);
	}
}

__attribute__((format(printf, 2, 3))) static void note_no_rdma(struct peer *peer, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(peer->no_rdma, sizeof(peer->no_rdma), format, args);
	va_end(args);
}

/* --- attempts ----------------------------------------------------------------------------------------------------- */

static void way_dialed(void *owner, const struct dial_result *result);

static int way_dial(struct peer_way *way, struct transport *transport)
{
	struct peer *peer = way->peer;
	const struct opening_hello hello = {
		.own_role = peer->config.own_role,
		.role = peer->config.role,
		.admin = peer->config.admin,
		.own_uuid = peer->config.own_uuid,
		.line = peer->line,
		.fs = peer->config.fs,
		.target = peer->config.target,
	};

	way->began_ns = loop_now_ns(peer->loop);
	return dial_start(peer->loop, transport, peer_way_address(way), &hello, peer->config.key, way_dialed, way,
			  &way->dial);
}

/* Of a round; what is tried beside a connection that stands is no trouble. */
static void note_failure(struct peer_way *way, const char *text)
{
	struct peer *peer = way->peer;

	if (way->fabric == FABRIC_RDMA)
		note_no_rdma(peer, "%s", text);
	/* A word that was said tells more than a door that was shut. */
	if (peer->conn == NULL && peer->refusal == 0)
		snprintf(peer->last_error, sizeof(peer->last_error), "%s", text);
}

static void way_passed(struct peer_way *way)
{
	way->tried++;
	way->at = way->count > 0 ? (way->at + 1) % way->count : 0;
}

/* Try the next address. False: there is none left. */
static bool way_next(struct peer_way *way)
{
	char text[DIAL_TEXT_SIZE];
	struct transport *transport;
	int err;

	if (way->count == 0)
		return false;
	err = fabrics_get(&way->peer->fabrics, way->fabric, &transport);
	if (err < 0) {
		snprintf(text, sizeof(text), "%s: %s", peer_way_address(way),
			 way->fabric == FABRIC_RDMA ? fabrics_rdma_reason(err) : strerror(-err));
		note_failure(way, text);
		return false;
	}
	for (; way->tried < way->count; way_passed(way)) {
		err = way_dial(way, transport);
		if (err == 0)
			return true;
		note_failure(way, strerror(-err));
	}
	return false;
}

static void other_timer_set(struct peer *peer, unsigned int after_ms)
{
	loop_timer_set(peer->loop, &peer->other_timer, loop_now_ns(peer->loop) + after_ms * NSEC_PER_MSEC);
}

/*
 * RDMA may open and then break, each time (an MTU that one of its links does not carry, a driver that fails in what only bulk
 * uses). So when it has not lasted the next rounds begin with TCP, and TCP is what calls get through by; RDMA is tried again when
 * it has rested. Where it is used for longer than that the rest is short again: a server that was only restarted is met
 * by RDMA, at once or a second later.
 */
static void rdma_rest(struct peer *peer)
{
	peer->rest_until_ns = loop_now_ns(peer->loop) + peer->rest_ms * NSEC_PER_MSEC;
	peer->rest_ms = peer->rest_ms * 2 > REST_MAX_MS ? REST_MAX_MS : peer->rest_ms * 2;
}

static bool rdma_rests(const struct peer *peer)
{
	return loop_now_ns(peer->loop) < peer->rest_until_ns;
}

/* --- a round ------------------------------------------------------------------------------------------------------ */

void peer_dial(struct peer *peer)
{
	peer->state = PEER_DIALING;
	peer->ways[FABRIC_TCP].tried = peer->ways[FABRIC_RDMA].tried = 0;
	if (peer->ways[FABRIC_TCP].count + peer->ways[FABRIC_RDMA].count == 0)
		snprintf(peer->last_error, sizeof(peer->last_error), "%s",
			 peer->address_count == 0 ? "no address is known"
						  : "all its addresses are of RDMA, and transport is tcp");
	if (rdma_rests(peer) && way_next(&peer->ways[FABRIC_TCP]))
		loop_timer_set(peer->loop, &peer->other_timer, peer->rest_until_ns);
	else if (way_next(&peer->ways[FABRIC_RDMA]))
		other_timer_set(peer, START_MS);
	else if (!way_next(&peer->ways[FABRIC_TCP]))
		peer_round_failed(peer);
}

/* A way is at its end. Where the other one has not begun yet it does. */
static void way_failed(struct peer_way *way)
{
	struct peer *peer = way->peer;

	if (peer->other_timer.loop != NULL) {
		loop_timer_cancel(&peer->other_timer);
		(void)way_next(other_way(way));
	}
	if (other_way(way)->dial == NULL)
		peer_round_failed(peer);
}

/* --- beside a connection ------------------------------------------------------------------------------------------ */

static bool may_probe(const struct peer *peer)
{
	return peer->fabric == FABRIC_TCP && peer->ways[FABRIC_RDMA].count > 0;
}

/* When it has rested; where it does not yet it could not be had just now. */
static void probe_later(struct peer *peer)
{
	if (!rdma_rests(peer))
		rdma_rest(peer);
	loop_timer_set(peer->loop, &peer->other_timer, peer->rest_until_ns);
}

/* For the answer to a call, or for what the server tells when it is time. */
static bool somebody_waits(const struct peer *peer)
{
	return peer_flight_count(peer) > 0 ||
	       (peer->config.awaits_push != NULL && peer->config.awaits_push(peer->config.owner));
}

/* Nothing has been heard since then, and somebody waits for it. */
static bool is_silent(const struct peer *peer, uint64_t since_ns)
{
	return peer->heard_ns < since_ns && somebody_waits(peer);
}

/* Where it is looked for when RDMA is silent: by TCP; where that is not known at the next address of RDMA. NULL: nowhere. */
static struct peer_way *elsewhere(struct peer *peer)
{
	if (peer->ways[FABRIC_TCP].count > 0)
		return &peer->ways[FABRIC_TCP];
	return peer->ways[FABRIC_RDMA].count > 1 ? &peer->ways[FABRIC_RDMA] : NULL;
}

static void look_elsewhere(struct peer_way *way)
{
	way->tried = 0;
	if (way->fabric == FABRIC_RDMA) {
		way->at = way->used;
		way_passed(way);
	}
	(void)way_next(way);
}

/*
 * Silent is who says nothing at all. Where small messages pass and bulk does not that comes soon: requests are told of in their
 * order, so what is asked behind such bulk is not answered. But while the server has something to tell by itself he is heard. Then
 * RDMA is left when the call's time is up (peer_calls.c): that counts as a connection that did not last, however long
 * it stood, so the call is sent again by TCP.
 */
static void watch(struct peer *peer)
{
	struct peer_way *way = elsewhere(peer);
	uint64_t now = loop_now_ns(peer->loop);
	uint64_t since = peer->heard_ns > peer->watched_ns ? peer->heard_ns : peer->watched_ns;

	if (way == NULL || !somebody_waits(peer))
		return; /* the next call begins it anew */
	if (now - since < QUIET_MS * NSEC_PER_MSEC) {
		peer->silent_looks = 0;
		loop_timer_set(peer->loop, &peer->other_timer, since + QUIET_MS * NSEC_PER_MSEC);
		return;
	}
	other_timer_set(peer, LOOK_MS);
	peer->silent_looks++;
	if (peer->ping.state == CALL_ENDED && peer->free_count == 0)
		return; /* who grants one call is not asked for a second: his silence says nothing */
	if (peer->ping.state == CALL_ENDED)
		peer_ping(peer, PEER_ATTEMPT_MS);
	if (peer->silent_looks >= SILENT_LOOKS && way->dial == NULL)
		look_elsewhere(way);
}

static void other_due(struct loop_timer *timer)
{
	struct peer *peer = container_of(timer, struct peer, other_timer);
	struct peer_way *rdma = &peer->ways[FABRIC_RDMA];

	if (peer->conn == NULL) {
		(void)way_next(rdma->dial != NULL ? other_way(rdma) : rdma);
	} else if (peer->fabric == FABRIC_RDMA) {
		watch(peer);
	} else if (may_probe(peer)) {
		rdma->tried = 0;
		if (!way_next(rdma)) { /* no device, out of memory, or the like */
			say_fabric(peer);
			probe_later(peer);
		}
	}
}

void peer_ways_ready(struct peer *peer)
{
	if (peer->fabric == FABRIC_RDMA)
		peer->no_rdma[0] = '\0';
	say_fabric(peer);
	if (may_probe(peer) && peer->ways[FABRIC_RDMA].dial == NULL && peer->other_timer.loop == NULL)
		probe_later(peer);
}

void peer_ways_busy(struct peer *peer)
{
	if (peer->fabric != FABRIC_RDMA || elsewhere(peer) == NULL || peer->other_timer.loop != NULL)
		return;
	peer->watched_ns = loop_now_ns(peer->loop);
	peer->silent_looks = 0;
	other_timer_set(peer, QUIET_MS);
}

void peer_ways_lost(struct peer *peer, int err, const char *text)
{
	bool lasted = loop_now_ns(peer->loop) - peer->connected_ns >= LASTED_MS * NSEC_PER_MSEC;

	if (peer->fabric == FABRIC_RDMA) {
		note_no_rdma(peer, "%s: %s", peer_way_address(&peer->ways[FABRIC_RDMA]), text);
		if (lasted)
			peer->rest_ms = REST_MIN_MS;
		if (!lasted || err == -ETIMEDOUT)
			rdma_rest(peer);
	}
	peer_ways_stop(peer);
}

/* It has answered beside a connection: is it to be gone over to? */
static bool is_better(const struct peer_way *way)
{
	return way->peer->fabric == FABRIC_TCP || is_silent(way->peer, way->began_ns);
}

/* --- what comes of an attempt --------------------------------------------------------------------------------------- */

static void way_dialed(void *owner, const struct dial_result *result)
{
	struct peer_way *way = owner;
	struct peer *peer = way->peer;

	way->dial = NULL;
	if (result->err < 0) {
		note_failure(way, result->text);
		if (peer->conn == NULL && peer_error_is_refusal(result->err))
			peer->refusal = result->err;
		way_passed(way);
		if (way_next(way))
			return;
		if (peer->conn == NULL) {
			way_failed(way);
		} else if (peer->fabric == FABRIC_TCP) {
			say_fabric(peer);
			probe_later(peer);
		}
	} else if (peer->conn != NULL && !is_better(way)) {
		transport_close(result->conn);
	} else {
		way->used = way->at;
		peer_adopt(peer, way->fabric, result);
	}
}

/* --- its life ----------------------------------------------------------------------------------------------------- */

void peer_ways_stop(struct peer *peer)
{
	loop_timer_cancel(&peer->other_timer);
	for (enum fabric fabric = 0; fabric < FABRIC_COUNT; fabric++)
		peer->ways[fabric].dial = dial_cancel(peer->ways[fabric].dial);
}

void peer_ways_init(struct peer *peer)
{
	peer->other_timer.expired = other_due;
	peer->rest_ms = REST_MIN_MS;
}
