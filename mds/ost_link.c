#include "mds/ost_link.h"

#include "common/fiber.h"
#include "common/logger.h"
#include "common/peer.h"
#include "common/status.h"
#include "mds/backlog.h"
#include "mds/cut.h"
#include "mds/destroy.h"
#include "mds/sessions.h"
#include "mds/void.h"
#include "proto/oss.pb-c.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SESSIONS_ATTEMPT_MS 3000

struct ost_link {
	struct ost_link *next;
	struct ost_links *links;
	struct mdt *mdt;
	uint32_t index;
	struct uuid target;
	struct peer *peer;
	struct peer_tally tally;
	bool closing;
	bool was_connected; /* what was said last */
	bool runs;          /* it has said that a write of a session that has ended still runs */
	unsigned int fibers;

	struct fiber_queue work; /* who waits for rows, or for them to be durable */
	struct fiber_queue end;  /* who pauses: woken only to end */
	struct fiber_queue voids_work;
	bool voids_due; /* there has been a new connection */
	struct fiber_queue sessions_work;
	uint64_t sessions_sent;  /* the table as of this record is there */
	uint64_t sessions_heard; /* the clock in the last answer on this connection; 0: none */
	struct backlog destroys, cuts;
};

struct ost_links {
	struct mdt *mdt;
	struct ost_link *first;
	unsigned int ending; /* links that are no longer in the list and have fibers still */
	struct fiber_queue ended;
	/* OSTs that are out of the map serve on, by the leases that they have, whom their last table has. */
	uint64_t left_ns;   /* when the last one left; 0: none has */
	uint64_t left_sent; /* the oldest of these tables */
};

/* --- asking ------------------------------------------------------------------------------------------------------- */

/* Pause; false when the link ends. */
static bool link_pause(struct ost_link *link, unsigned int ms)
{
	if (!link->closing)
		fiber_wait_until(&link->end, NULL, clock_ns() + ms * NSEC_PER_MSEC);
	return !link->closing;
}

static int link_call(struct ost_link *link, struct peer *peer, uint16_t op, const ProtobufCMessage *request,
		     bool *ret_answered)
{
	struct call call = { .opcode = op, .request = request };
	int err = peer_call(peer, &call);

	*ret_answered = call.answered;
	call_release(&call);
	if (link->closing)
		return -ECANCELED;
	return err;
}

static unsigned int longer_pause(unsigned int ms)
{
	return ms * 2 < OST_LINK_RETRY_MAX_MS ? ms * 2 : OST_LINK_RETRY_MAX_MS;
}

/* --- sessions ----------------------------------------------------------------------------------------------------- */

/* A session that could be lost with the log's tail is told to nobody. */
static bool sessions_are_durable(const struct mdt *mdt)
{
	return mdt->state.meta.session_index <= mdt_log_durable(mdt->log);
}

static int send_table(struct ost_link *link, struct peer *peer)
{
	struct mdt *mdt = link->mdt;
	Strake__SessionTable table = STRAKE__SESSION_TABLE__INIT;
	struct call call = {
		.opcode = OP_SESSIONS,
		.request = &table.base,
		.attempt_ms = SESSIONS_ATTEMPT_MS,
	};
	uint64_t index = mdt->state.meta.session_index;
	int err;

	table.n_session = leases_count(mdt->leases);
	table.session = malloc((table.n_session + 1) * sizeof(*table.session));
	if (!table.session)
		return -ENOMEM;
	for (size_t i = 0; i < table.n_session; i++)
		table.session[i] = leases_at(mdt->leases, i)->session;
	table.epoch = index;
	table.lease_ms = SESSION_LEASE_MS;
	table.newest = mdt->state.meta.newest_session;
	table.has_heard = link->sessions_heard != 0;
	table.heard = link->sessions_heard;
	err = peer_call(peer, &call);
	if (err == 0 && !link->closing) {
		const Strake__SessionTableReply *reply = (const void *)call.reply;

		link->sessions_heard = reply->now;
		link->runs = reply->runs;
		if (!reply->runs)
			link->sessions_sent = index;
		mdt_look_at_fences(mdt);
	}
	call_release(&call);
	free(table.session);
	return link->closing ? -ECANCELED : err;
}

/* The first one on a connection grants no lease yet: how long it is on its way the OST can only tell by its own clock. */
static int send_sessions(struct ost_link *link, struct peer *peer)
{
	bool leases = link->sessions_heard != 0;
	int err = send_table(link, peer);

	return err == 0 && !leases && sessions_are_durable(link->mdt) ? send_table(link, peer) : err;
}

static void say_state(struct ost_link *link, bool connected, int err)
{
	const char *why = peer_last_error(link->peer);

	if (connected == link->was_connected)
		return;
	link->was_connected = connected;
	if (connected)
		log_info("OST %" PRIu32 ": connected", link->index);
	else
		log_warning("OST %" PRIu32 " is away: %s", link->index, why[0] ? why : strerror(-err));
}

static void link_over(struct ost_link *link);

static void sessions_fiber(void *arg)
{
	struct ost_link *link = arg;
	int err;

	while (!link->closing) {
		if (!sessions_are_durable(link->mdt)) {
			mdt_log_sync(link->mdt->log, link->mdt->state.meta.session_index);
			fiber_wait(&link->sessions_work, NULL);
			continue;
		}
		err = send_sessions(link, link->peer);
		if (link->closing)
			break;
		say_state(link, err == 0, err);
		if (err < 0) {
			link_pause(link, OST_LINK_RETRY_MS);
			continue;
		}
		if (link->sessions_sent == link->mdt->state.meta.session_index)
			fiber_wait_until(&link->sessions_work, NULL, clock_ns() + OST_LINK_SESSIONS_MS * NSEC_PER_MSEC);
	}
	link_over(link);
}

/* --- destroys ----------------------------------------------------------------------------------------------------- */

/* Rows that may be sent now. */
static size_t take_destroys(struct ost_link *link, struct backlog_item *items, size_t max)
{
	struct mdt *mdt = link->mdt;
	struct destroy_row row;
	size_t count = 0;
	int err;

	while (count < max) {
		err = backlog_peek(&link->destroys, mdt->state.view, &items[count]);
		if (err == -EAGAIN) {
			fiber_yield();
			if (link->closing)
				return 0;
			continue;
		}
		if (err < 0)
			break;
		if (destroy_get(mdt->state.view, items[count].ino, items[count].gen, &row) < 0 ||
		    !destroy_awaits(&row, link->index)) {
			backlog_drop(&link->destroys);
			continue;
		}
		if (row.index > mdt_log_durable(mdt->log))
			break;
		backlog_drop(&link->destroys);
		count++;
	}
	return count;
}

static int send_destroys(struct ost_link *link, const struct backlog_item *items, size_t count, bool *ret_answered)
{
	Strake__DestroyRequest request = STRAKE__DESTROY_REQUEST__INIT;
	uint64_t ino[OST_LINK_DESTROYS_MAX], gen[OST_LINK_DESTROYS_MAX];
	int err;

	for (size_t i = 0; i < count; i++) {
		ino[i] = items[i].ino;
		gen[i] = items[i].gen;
	}
	request.n_ino = request.n_gen = count;
	request.ino = ino;
	request.gen = gen;
	request.newest_session = link->mdt->state.meta.newest_session;
	err = link_call(link, link->peer, OP_DESTROY, &request.base, ret_answered);
	if (err == 0) {
		for (size_t i = 0; i < count; i++)
			mdt_destroyed(link->mdt, link->index, ino[i], gen[i]);
	}
	return err;
}

/* One of them cannot be destroyed: find out which. Those that cannot are tried again after all others. */
static void send_one_by_one(struct ost_link *link, const struct backlog_item *items, size_t count)
{
	bool answered;
	int err;

	for (size_t i = 0; i < count && !link->closing; i++) {
		err = send_destroys(link, &items[i], 1, &answered);
		if (err == 0 || link->closing)
			continue;
		backlog_push(&link->destroys, items[i].ino, items[i].gen);
		if (answered)
			log_warning("OST %" PRIu32 " cannot destroy (%" PRIx64 ", %" PRIx64 "): %s", link->index,
				    items[i].ino, items[i].gen, strerror(-err));
	}
}

static void destroys_fiber(void *arg)
{
	struct ost_link *link = arg;
	struct backlog_item items[OST_LINK_DESTROYS_MAX];
	unsigned int pause_ms = OST_LINK_RETRY_MS;
	size_t count;
	bool answered;
	int err;

	while (!link->closing) {
		count = take_destroys(link, items, OST_LINK_DESTROYS_MAX);
		if (count == 0) {
			if (!link->closing)
				fiber_wait(&link->work, NULL);
			continue;
		}
		for (;;) {
			err = send_destroys(link, items, count, &answered);
			if (err == 0) {
				pause_ms = OST_LINK_RETRY_MS;
				break;
			}
			if (answered && !link->closing) {
				send_one_by_one(link, items, count);
				link_pause(link, pause_ms = longer_pause(pause_ms));
				break;
			}
			if (!link_pause(link, pause_ms = longer_pause(pause_ms)))
				break;
		}
	}
	link_over(link);
}

/* --- cuts --------------------------------------------------------------------------------------------------------- */

/* The next that may be sent now. -ENOENT. */
static int take_cut(struct ost_link *link, struct cut_row *row)
{
	struct mdt *mdt = link->mdt;
	struct backlog_item item;
	int err;

	for (;;) {
		err = backlog_peek(&link->cuts, mdt->state.view, &item);
		if (err == -EAGAIN) {
			fiber_yield();
			if (link->closing)
				return -ENOENT;
			continue;
		}
		if (err < 0)
			return err;
		if (cut_get(mdt->state.view, item.ino, row) < 0 || !cut_awaits(row, link->index)) {
			backlog_drop(&link->cuts);
			continue;
		}
		if (row->index > mdt_log_durable(mdt->log))
			return -ENOENT;
		backlog_drop(&link->cuts);
		return 0;
	}
}

static int send_cut(struct ost_link *link, const struct cut_row *row, bool *ret_answered)
{
	Strake__CutRequest request = STRAKE__CUT_REQUEST__INIT;
	Strake__Cut cut = STRAKE__CUT__INIT;
	int err;

	cut.number = row->number;
	cut.has_start = 1;
	cut.start = row->start;
	cut.has_end = 1;
	cut.end = row->end;
	request.ino = row->ino;
	request.gen = row->gen;
	request.stripe_size = row->stripe_size;
	request.cut = &cut;
	err = link_call(link, link->peer, OP_CUT, &request.base, ret_answered);
	/* Of a gen that is destroyed there is nothing to cut. */
	if (err == 0 || (*ret_answered && err == -ESTALE)) {
		mdt_cut_done(link->mdt, link->index, row->ino, row->gen, row->number);
		return 0;
	}
	return err;
}

static void cuts_fiber(void *arg)
{
	struct ost_link *link = arg;
	struct cut_row row;
	unsigned int pause_ms = OST_LINK_RETRY_MS;
	bool answered;
	int err;

	while (!link->closing) {
		if (take_cut(link, &row) < 0) {
			if (!link->closing)
				fiber_wait(&link->work, NULL);
			continue;
		}
		err = send_cut(link, &row, &answered);
		if (err == 0) {
			pause_ms = OST_LINK_RETRY_MS;
			continue;
		}
		if (link->closing)
			break;
		if (answered)
			log_warning("OST %" PRIu32 " cannot cut inode %" PRIx64 ": %s", link->index, row.ino,
				    strerror(-err));
		backlog_push(&link->cuts, row.ino, row.gen);
		link_pause(link, pause_ms = longer_pause(pause_ms));
	}
	link_over(link);
}

/* --- void numbers ------------------------------------------------------------------------------------------------- */

/* The ranges from that number on, which moves behind them. 0: there are no more; -EAGAIN: the OST is at it. */
static int send_voids(struct ost_link *link, uint64_t *from, bool *ret_answered)
{
	Strake__VoidRequest request = STRAKE__VOID_REQUEST__INIT;
	uint64_t first[OST_LINK_VOIDS_MAX], end[OST_LINK_VOIDS_MAX], next = *from;
	struct void_range range;
	int err;

	while (request.n_first < OST_LINK_VOIDS_MAX && void_from(link->mdt->state.view, next, &range) == 0) {
		first[request.n_first] = range.first;
		end[request.n_first++] = next = range.end;
	}
	if (request.n_first == 0)
		return 0;
	request.n_end = request.n_first;
	request.first = first;
	request.end = end;
	request.newest_session = link->mdt->state.meta.newest_session;
	err = link_call(link, link->peer, OP_VOID, &request.base, ret_answered);
	if (err < 0)
		return err;
	*from = next;
	return -EAGAIN;
}

/* All of them. True: there were any. */
static bool tell_voids(struct ost_link *link)
{
	unsigned int pause_ms = OST_LINK_RETRY_MS;
	uint64_t from = 0;
	bool answered = true;
	int err;

	while (!link->closing && (err = send_voids(link, &from, &answered)) < 0) {
		if (answered && err == -EAGAIN) {
			pause_ms = OST_LINK_RETRY_MS;
			continue;
		}
		if (answered && !link->closing)
			log_warning("OST %" PRIu32 " cannot destroy what has void numbers: %s", link->index,
				    strerror(-err));
		link_pause(link, pause_ms = longer_pause(pause_ms));
	}
	return from > 0;
}

/* What has connected anew may have been put back from a backup, and have forgotten. */
static void voids_fiber(void *arg)
{
	struct ost_link *link = arg;
	bool told = false;

	while (!link->closing) {
		if (!link->voids_due) {
			fiber_wait(&link->voids_work, NULL);
			continue;
		}
		link->voids_due = false;
		if (tell_voids(link) && !link->closing && !told) {
			log_info("OST %" PRIu32 ": what had void numbers is destroyed", link->index);
			told = true;
		}
	}
	link_over(link);
}

/* --- links -------------------------------------------------------------------------------------------------------- */

static void link_start_fiber(struct ost_link *link, void (*fn)(void *arg))
{
	if (fiber_start(link->mdt->loop, fn, link) < 0)
		logger_die("out of memory for a fiber of OST %" PRIu32, link->index);
	link->fibers++;
}

/* A fiber of the link ends; with the last one the link. */
static void link_over(struct ost_link *link)
{
	struct ost_links *links = link->links;

	assert(link->closing && link->fibers > 0);
	if (--link->fibers > 0)
		return;
	free(link);
	if (--links->ending == 0)
		fiber_wake_all(&links->ended);
}

/* Ends the calls under way. May wait, which link_close() must not: it runs while a map is gone through. */
static void closing_fiber(void *arg)
{
	struct ost_link *link = arg;

	link->peer = peer_free(link->peer);
	link_over(link);
}

/* It is out of the list already. */
static void link_close(struct ost_link *link)
{
	link->closing = true;
	link->links->ending++;
	link_start_fiber(link, closing_fiber);
	fiber_wake_all(&link->work);
	fiber_wake_all(&link->end);
	fiber_wake_all(&link->voids_work);
	fiber_wake_all(&link->sessions_work);
}

/* A connection stands, perhaps to an OST that was restarted: it serves no writes before it has the table. */
static int link_connected(void *owner, struct peer *peer)
{
	struct ost_link *link = owner;

	if (link->closing)
		return -ECANCELED;
	link->sessions_heard = 0;
	link->voids_due = true;
	fiber_wake_all(&link->voids_work);
	return sessions_are_durable(link->mdt) ? send_sessions(link, peer) : 0;
}

static int link_open_peer(struct ost_link *link, const Strake__Target *target)
{
	const struct mdt_config *config = &link->mdt->config;

	return peer_new(link->mdt->loop,
			&(struct peer_config){
				.fs = config->identity->fs,
				.target = link->target,
				.role = ROLE_OST,
				.own_role = ROLE_MDT,
				.own_uuid = config->identity->target,
				.key = config->key,
				.addresses = (const char *const *)target->address,
				.address_count = target->n_address,
				.tally = &link->tally,
				.owner = link,
				.connected = link_connected,
			},
			&link->peer);
}

static void link_open(struct ost_links *links, const Strake__Target *target, const struct uuid *uuid)
{
	struct ost_link *link = calloc(1, sizeof(*link));
	int err;

	if (!link)
		logger_die("out of memory for OST %" PRIu32, target->index);
	link->links = links;
	link->mdt = links->mdt;
	link->index = target->index;
	link->target = *uuid;
	snprintf(link->tally.name, sizeof(link->tally.name), "OST %" PRIu32, link->index);
	backlog_init(&link->destroys, &backlog_destroys, link->index);
	backlog_init(&link->cuts, &backlog_cuts, link->index);
	err = link_open_peer(link, target);
	if (err < 0) {
		/* The next map will try again. */
		log_error("OST %" PRIu32 ": %s", link->index, strerror(-err));
		free(link);
		return;
	}
	link_start_fiber(link, sessions_fiber);
	link_start_fiber(link, destroys_fiber);
	link_start_fiber(link, voids_fiber);
	for (int i = 0; i < OST_LINK_CUT_FIBERS; i++)
		link_start_fiber(link, cuts_fiber);
	link->next = links->first;
	links->first = link;
}

static struct ost_link *links_find(const struct ost_links *links, uint32_t index)
{
	struct ost_link *link = links->first;

	while (link && link->index != index)
		link = link->next;
	return link;
}

/* Until then an OST that has left may take WRITEs. */
static bool links_left_serve(const struct ost_links *links)
{
	return links->left_ns != 0 && loop_now_ns(links->mdt->loop) <= links->left_ns + MDT_FENCE_MS * NSEC_PER_MSEC;
}

static void links_take_out(struct ost_links *links, struct ost_link *link)
{
	struct ost_link **at = &links->first;

	if (!links_left_serve(links) || link->sessions_sent < links->left_sent)
		links->left_sent = link->sessions_sent;
	links->left_ns = loop_now_ns(links->mdt->loop);
	while (*at != link)
		at = &(*at)->next;
	*at = link->next;
	link_close(link);
}

/* An OST of the map. One that was replaced has another UUID: then it is another link. */
static void links_take_target(struct ost_links *links, const Strake__Target *target)
{
	struct ost_link *link = links_find(links, target->index);
	struct uuid uuid;

	if (target->n_address == 0 || uuid_from_bytes(target->uuid.data, target->uuid.len, &uuid) < 0)
		return;
	if (link && uuid_equal(&link->target, &uuid)) {
		int err = peer_set_addresses(link->peer, (const char *const *)target->address, target->n_address);

		if (err < 0)
			log_error("OST %" PRIu32 ": %s", link->index, strerror(-err));
		return;
	}
	if (link)
		links_take_out(links, link);
	link_open(links, target, &uuid);
}

void ost_links_set_map(struct ost_links *links, const Strake__ClusterMap *map)
{
	struct ost_link *next;

	for (struct ost_link *link = links->first; link; link = next) {
		next = link->next;
		if (!cluster_map_find(map, ROLE_OST, link->index))
			links_take_out(links, link);
	}
	for (size_t i = 0; i < map->n_target; i++) {
		if (map->target[i]->role == STRAKE__TARGET_ROLE__TARGET_OST)
			links_take_target(links, map->target[i]);
	}
}

bool ost_links_say_runs(const struct ost_links *links)
{
	for (const struct ost_link *link = links->first; link; link = link->next) {
		if (link->runs && link->was_connected)
			return true;
	}
	return false;
}

bool ost_links_have_sessions(const struct ost_links *links, uint64_t index)
{
	if (links_left_serve(links) && links->left_sent < index)
		return false;
	for (const struct ost_link *link = links->first; link; link = link->next) {
		if (link->sessions_sent < index)
			return false;
	}
	return true;
}

void ost_links_note(struct ost_links *links, const struct outcome *outcome)
{
	struct destroy_row destroy;
	struct cut_row cut;
	struct view *view = links->mdt->state.view;

	if (outcome->destroyed == 1 &&
	    destroy_get(view, outcome->destroyed_ino, outcome->destroyed_gen, &destroy) == 0) {
		for (struct ost_link *link = links->first; link; link = link->next) {
			if (destroy_awaits(&destroy, link->index))
				backlog_push(&link->destroys, destroy.ino, destroy.gen);
		}
	} else if (outcome->destroyed > 1) {
		for (struct ost_link *link = links->first; link; link = link->next)
			backlog_read_again(&link->destroys);
	}
	if (outcome->cuts > 0 && cut_get(view, outcome->cut_ino, &cut) == 0) {
		assert(outcome->cuts == 1);
		for (struct ost_link *link = links->first; link; link = link->next) {
			if (cut_awaits(&cut, link->index))
				backlog_push(&link->cuts, cut.ino, cut.gen);
		}
	}
}

void ost_links_durable(struct ost_links *links)
{
	for (struct ost_link *link = links->first; link; link = link->next) {
		if (!backlog_is_empty(&link->destroys) || !backlog_is_empty(&link->cuts))
			fiber_wake_all(&link->work);
		if (link->sessions_sent != links->mdt->state.meta.session_index)
			fiber_wake_all(&link->sessions_work);
	}
}

struct ost_links *ost_links_new(struct mdt *mdt)
{
	struct ost_links *links = calloc(1, sizeof(*links));

	if (!links)
		logger_die("out of memory for the OSTs");
	links->mdt = mdt;
	return links;
}

struct ost_links *ost_links_free(struct ost_links *links)
{
	if (!links)
		return NULL;
	while (links->first)
		links_take_out(links, links->first);
	while (links->ending > 0)
		fiber_wait(&links->ended, NULL);
	free(links);
	return NULL;
}
