#include "client/peers.h"

#include "client/fs_state.h"
#include "client/locks.h"
#include "client/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct one_peer {
	struct one_peer *next;
	struct target_state *state;
	struct uuid uuid;  /* of the target that peer is for */
	struct peer *peer; /* NULL: the map has no address for it */
};

struct worker_peers {
	struct worker *worker;
	struct one_peer *mdt;
	struct one_peer *osts; /* a handful; the one used last comes first */
};

struct worker_peers *peers_new(struct worker *worker)
{
	struct worker_peers *peers = calloc(1, sizeof(*peers));

	if (peers != NULL)
		peers->worker = worker;
	return peers;
}

static void list_free(struct one_peer *list)
{
	while (list != NULL) {
		struct one_peer *one = list;

		list = one->next;
		peer_free(one->peer);
		free(one);
	}
}

struct worker_peers *peers_free(struct worker_peers *peers)
{
	if (peers == NULL)
		return NULL;
	list_free(peers->mdt);
	list_free(peers->osts);
	free(peers);
	return NULL;
}

static struct one_peer *one_find(struct worker_peers *peers, enum role role, uint32_t index)
{
	struct one_peer **list = role == ROLE_MDT ? &peers->mdt : &peers->osts;
	struct one_peer *one;

	for (one = *list; one != NULL; one = one->next)
		if (one->state->index == index)
			return one;

	one = calloc(1, sizeof(*one));
	if (one == NULL)
		return NULL;
	one->state = targets_state(peers->worker->fs->targets, role, index);
	if (one->state == NULL) {
		free(one);
		return NULL;
	}
	one->next = *list;
	*list = one;
	return one;
}

struct target_state *peers_state(struct worker_peers *peers, enum role role, uint32_t index)
{
	struct one_peer *one = one_find(peers, role, index);

	return one == NULL ? NULL : one->state;
}

/* The control worker sees the MDT come back before anybody asks: its lease is renewed at once, which tells a restart.
 */
static int control_connected(void *owner, struct peer *peer)
{
	struct worker *worker = owner;

	(void)peer;
	fs_session_renew_soon(worker->fs->session);
	return 0;
}

static void mdt_push(void *owner, uint16_t opcode, const ProtobufCMessage *message)
{
	if (opcode == OP_LOCK_PUSH)
		locks_pushed(owner, (const Strake__LockPush *)message);
}

static bool mdt_awaits_push(void *owner)
{
	return ((const struct worker *)owner)->lock_ops != NULL;
}

static void mdt_lost(void *owner, int err)
{
	(void)err;
	locks_disconnected(owner);
}

static int one_connect(struct worker_peers *peers, struct one_peer *one, const struct target *target)
{
	struct fs *fs = peers->worker->fs;
	struct peer_config config = {
		.fs = fs->uuid,
		.target = target->uuid,
		.role = target->role,
		.own_role = ROLE_CLIENT,
		.own_uuid = fs->mount_uuid,
		.key = &fs->config.key,
		.addresses = (const char *const *)target->addresses,
		.address_count = target->address_count,
		.tally = &one->state->tally,
		.owner = peers->worker,
	};
	int err;

	if (target->role == ROLE_MDT) {
		config.push = mdt_push;
		config.awaits_push = mdt_awaits_push;
		config.lost = mdt_lost;
	}
	if (peers->worker == fs->control && target->role == ROLE_MDT)
		config.connected = control_connected;
	err = peer_new(peers->worker->loop, &config, &one->peer);
	if (err < 0)
		return err;
	one->uuid = target->uuid;
	return 0;
}

/* Bring one peer to what the map says. */
static int one_follow(struct worker_peers *peers, struct one_peer *one, const struct target *target)
{
	if (target == NULL || target->address_count == 0)
		return one->peer == NULL ? -ENXIO : 0; /* it may only have been left out for now */
	if (one->peer != NULL && !uuid_equal(&one->uuid, &target->uuid))
		one->peer = peer_free(one->peer); /* the operator replaced it */
	if (one->peer == NULL)
		return one_connect(peers, one, target);
	return peer_set_addresses(one->peer, (const char *const *)target->addresses, target->address_count);
}

int peers_get(struct worker_peers *peers, enum role role, uint32_t index, struct peer **ret_peer)
{
	struct one_peer *one = one_find(peers, role, index);
	struct target_map *map;
	int err;

	if (one == NULL)
		return -ENOMEM;
	if (one->peer == NULL) {
		map = targets_map(peers->worker->fs->targets);
		err = one_follow(peers, one, target_map_find(map, role, index));
		target_map_put(map);
		if (err < 0)
			return err;
	}
	*ret_peer = one->peer;
	return 0;
}

const char *peers_reason(struct worker_peers *peers, enum role role, uint32_t index, int err)
{
	struct one_peer *one = one_find(peers, role, index);
	const char *last;

	if (one == NULL)
		return strerror(ENOMEM);
	if (err == -ENXIO || one->peer == NULL)
		return "it is not in the cluster map";
	last = peer_last_error(one->peer);
	if (!peer_is_connected(one->peer) && last[0] != '\0')
		return last;
	return err == -ECONNRESET ? "the connection breaks" : "it is silent";
}

static void list_follow(struct worker_peers *peers, struct one_peer *list, const struct target_map *map)
{
	for (struct one_peer *one = list; one != NULL; one = one->next)
		if (one->peer != NULL)
			one_follow(peers, one, target_map_find(map, one->state->role, one->state->index));
}

void peers_follow_map(struct worker_peers *peers)
{
	struct target_map *map = targets_map(peers->worker->fs->targets);

	list_follow(peers, peers->mdt, map);
	list_follow(peers, peers->osts, map);
	target_map_put(map);
}
