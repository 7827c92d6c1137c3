#include "common/peer_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define FRAME_MS PEER_ATTEMPT_MS /* a frame's begin to its end */

void peer_destroy(struct peer *peer)
{
	free(peer->addresses);
	free(peer);
}

int peer_new(struct loop *loop, const struct peer_config *config, struct peer **ret_peer)
{
	const struct transport_limits limits = { .opening_ms = OPENING_DEADLINE_MS, .frame_ms = FRAME_MS };
	struct peer *peer = calloc(1, sizeof(*peer));
	int err;

	if (peer == NULL)
		return -ENOMEM;
	peer->loop = loop;
	peer->config = *config;
	peer->config.addresses = NULL;
	fabrics_init(&peer->fabrics, loop, &limits);
	peer_calls_init(peer);
	peer_connect_init(peer);
	peer_ways_init(peer);
	err = peer_ways_set(peer, config->addresses, config->address_count);
	if (err < 0) {
		peer_destroy(peer);
		return err;
	}
	*ret_peer = peer;
	return 0;
}

struct peer *peer_free(struct peer *peer)
{
	if (peer == NULL)
		return NULL;
	assert(!peer->dying);
	peer->dying = true;
	loop_timer_cancel(&peer->deadline_timer);
	peer_disconnect(peer);
	peer_queue_end(peer, -ECANCELED);
	fabrics_release(&peer->fabrics);

	/* The hook still uses the peer. Its calls all end at once now; who can, waits for it. */
	if (peer->hook_runs && (fiber_self() == NULL || fiber_self() == peer->hook_fiber))
		return NULL;
	if (peer->hook_runs)
		fiber_wait(&peer->hook_over, NULL);
	peer_destroy(peer);
	return NULL;
}

bool peer_is_connected(const struct peer *peer)
{
	return peer->state == PEER_READY;
}

const struct uuid *peer_fs(const struct peer *peer)
{
	return &peer->server.fs;
}

const struct uuid *peer_target(const struct peer *peer)
{
	return &peer->server.target;
}

int peer_local_host(const struct peer *peer, char *ret_host, size_t size)
{
	return peer->conn == NULL ? -ENOTCONN : transport_local_host(peer->conn, ret_host, size);
}

const char *peer_last_error(const struct peer *peer)
{
	return peer->last_error;
}

void peer_stats(const struct peer *peer, struct peer_stats *ret_stats)
{
	*ret_stats = (struct peer_stats){
		.calls = peer->calls,
		.fabric = peer->fabric,
	};
	for (enum fabric fabric = 0; fabric < FABRIC_COUNT; fabric++) {
		struct transport_stats stats;

		fabrics_stats(&peer->fabrics, fabric, &stats);
		ret_stats->sends += stats.sends;
		ret_stats->receives += stats.receives;
		ret_stats->bytes_in += stats.bytes_in;
		ret_stats->bytes_out += stats.bytes_out;
		ret_stats->connects_by[fabric] = peer->connects[fabric];
		ret_stats->connects += peer->connects[fabric];
	}
}
