#include "common/mgs_client.h"
#include "common/fiber.h"
#include "common/logger.h"
#include "common/peer.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

/*
 * One fiber, the keeper, sees to it that there is a connection, and sends the heartbeats of a server. Whenever a
 * connection stands, the peer runs client_connected() before anything else: register, then fetch the map and subscribe.
 * So a map in hand means that the MGS has taken the registration.
 *
 * The client lives until its owner, the keeper and all of client_connected() that runs have let it go.
 */

#define ATTEMPT_MS       3000 /* for one answer; the MGS is asked nothing that takes long */
#define HEARTBEAT_MS     1000 /* until the MGS names its own */
#define HEARTBEAT_MS_MAX 10000
#define RETRY_MS         100   /* after a failure; the peer has its own backoff besides */
#define BUSY_PATIENCE_MS 12000 /* so long may the MGS take to see that our predecessor is dead */
#define ERROR_SIZE       512
#define HOSTNAME_SIZE    256

struct mgs_client {
	struct loop *loop;
	struct peer *peer;
	unsigned int refs;
	bool stopping;
	bool refused; /* for good: nothing is asked any more */

	struct key key;
	struct address_list mgs;
	struct uuid fs; /* zero until the first map, when the owner did not say */
	enum role own_role;
	struct uuid own_uuid;
	uint32_t index;
	uint64_t instance;
	bool older;
	bool outdated_said; /* a map that was not taken, since the last one that was */
	char hostname[HOSTNAME_SIZE];
	char preferred[ADDRESS_SIZE];  /* our end of the last connection by TCP, or else of the first */
	struct address_list reachable; /* what others are told */
	unsigned int look_ms;
	uint64_t looked_ns; /* at it */

	void *owner;
	void (*map_changed)(void *owner, const Strake__ClusterMap *map);
	int (*reachable_cb)(void *owner, const char *preferred, struct address_list *ret_list);
	void (*capacity)(void *owner, struct mgs_capacity *ret_capacity);
	void (*refused_cb)(void *owner, int err, const char *text);

	Strake__ClusterMap *map;
	unsigned int heartbeat_ms;
	uint64_t busy_since_ns;   /* when the MGS first said that another lives; 0: it does not */
	unsigned int rejections;  /* openings in a row that will not end otherwise when repeated */
	int rejection;            /* the last one's errno */
	char error[ERROR_SIZE];   /* our own; "" when the peer's is the one that counts */
	struct fiber_queue wake;  /* the keeper */
	struct fiber_queue waits; /* mgs_client_wait() */
};

static bool client_is_server(const struct mgs_client *client)
{
	return client->own_role == ROLE_MDT || client->own_role == ROLE_OST;
}

static void client_release(struct mgs_client *client)
{
	assert(client->refs > 0);
	if (--client->refs > 0)
		return;

	if (client->map)
		strake__cluster_map__free_unpacked(client->map, NULL);
	explicit_bzero(&client->key, sizeof(client->key));
	free(client);
}

/* --- the map ---------------------------------------------------------------------------------------------------- */

static bool target_is_sound(const Strake__Target *target)
{
	return target->uuid.len == UUID_SIZE &&
	       (target->role == STRAKE__TARGET_ROLE__TARGET_MDT || target->role == STRAKE__TARGET_ROLE__TARGET_OST) &&
	       target->state >= STRAKE__TARGET_STATE__TARGET_UP &&
	       target->state <= STRAKE__TARGET_STATE__TARGET_DEGRADED && target->n_address <= ADDRESS_LIST_MAX;
}

static bool map_is_sound(const Strake__ClusterMap *map)
{
	if (map->fs_uuid.len != UUID_SIZE || map->n_mgs_rdma_address > ADDRESS_LIST_MAX)
		return false;
	for (size_t i = 0; i < map->n_target; i++)
		if (!target_is_sound(map->target[i]))
			return false;
	return true;
}

/* protobuf-c has no copy: out and in again. */
static Strake__ClusterMap *map_copy(const Strake__ClusterMap *map)
{
	size_t size = strake__cluster_map__get_packed_size(map);
	Strake__ClusterMap *copy;
	uint8_t *packed = malloc(size > 0 ? size : 1);

	if (!packed)
		return NULL;
	strake__cluster_map__pack(map, packed);
	copy = strake__cluster_map__unpack(NULL, size, packed);
	free(packed);
	return copy;
}

static void say_outdated(struct mgs_client *client, uint64_t epoch)
{
	if (client->outdated_said)
		return;
	client->outdated_said = true;
	log_warning("the MGS tells a map of epoch %" PRIu64 ", older than the one in use, %" PRIu64
		    ": it is not taken. Was the MGS restored from a backup? See strake-mgs(8)",
		    epoch, client->map->epoch);
}

/*
 * A map has come. One with an older epoch than ours is dropped: it is the word of an MGS that is out of date; the same
 * epoch comes again with other free space, or more addresses of the MGS.
 */
static int client_take_map(struct mgs_client *client, const Strake__ClusterMap *map)
{
	Strake__ClusterMap *old = client->map, *copy;
	struct uuid fs;

	if (!map_is_sound(map)) {
		snprintf(client->error, sizeof(client->error), "the MGS sent a map that makes no sense");
		return -EPROTO;
	}
	uuid_from_bytes(map->fs_uuid.data, map->fs_uuid.len, &fs);
	if (!uuid_is_zero(&client->fs) && !uuid_equal(&client->fs, &fs)) {
		char theirs[UUID_STRING_SIZE], ours[UUID_STRING_SIZE];

		snprintf(client->error, sizeof(client->error), "the MGS manages filesystem %s, not %s",
			 uuid_format(&fs, theirs), uuid_format(&client->fs, ours));
		return -ESTALE;
	}
	if (old && map->epoch < old->epoch) {
		say_outdated(client, map->epoch);
		return 0;
	}
	client->outdated_said = false;

	copy = map_copy(map);
	if (!copy)
		return -ENOMEM;
	client->fs = fs;
	client->map = copy;
	if (client->map_changed)
		client->map_changed(client->owner, copy);
	if (old)
		strake__cluster_map__free_unpacked(old, NULL);
	fiber_wake_all(&client->waits);
	return 0;
}

/*
 * The MGS is named by addresses of TCP and has some of RDMA: they are used, too, from now on. Over a connection by TCP alone: where
 * transport is rdma the addresses that were named are those of RDMA; and who is by RDMA hears of more when he is by TCP again.
 */
static void client_take_rdma(const struct mgs_client *client, struct peer *peer, char *const *told, size_t told_count)
{
	const char *addresses[ADDRESS_LIST_MAX];
	size_t count = client->mgs.count;
	struct peer_stats stats;

	peer_stats(peer, &stats);
	if (stats.fabric != FABRIC_TCP)
		return;
	for (size_t i = 0; i < count; i++) {
		if (address_is_rdma(client->mgs.text[i]))
			return;
		addresses[i] = client->mgs.text[i];
	}
	for (size_t i = 0; i < told_count && count < ADDRESS_LIST_MAX; i++)
		if (address_is_rdma(told[i]) && strlen(told[i]) < ADDRESS_SIZE)
			addresses[count++] = told[i];
	(void)peer_set_addresses(peer, addresses, count); /* out of memory: those that there are stay */
}

static void client_push(void *owner, uint16_t opcode, const ProtobufCMessage *message)
{
	const Strake__ClusterMap *map = (const Strake__ClusterMap *)message;
	struct mgs_client *client = owner;

	if (opcode != OP_MAP_PUSH || client->stopping)
		return;
	assert(message->descriptor == &strake__cluster_map__descriptor);
	/* What is wrong with it is in client->error; the map in hand stays in force. */
	if (client_take_map(client, map) == 0 && map->n_mgs_rdma_address > 0)
		client_take_rdma(client, client->peer, map->mgs_rdma_address, map->n_mgs_rdma_address);
}

static int client_fetch_map(struct mgs_client *client, struct peer *peer)
{
	Strake__MapRequest request = STRAKE__MAP_REQUEST__INIT;
	struct call call = { .opcode = OP_MAP, .request = &request.base, .attempt_ms = ATTEMPT_MS };
	const Strake__MapReply *reply;
	int err;

	request.has_subscribe = true;
	request.subscribe = true;
	err = peer_call(peer, &call);
	if (err == 0 && client->stopping)
		err = -ECANCELED;
	reply = (const Strake__MapReply *)call.reply;
	if (err == 0)
		err = client_take_map(client, reply->map);
	if (err == 0 && !client->stopping)
		client_take_rdma(client, peer, reply->rdma_address, reply->n_rdma_address);
	call_release(&call);
	return err;
}

/* --- registration ----------------------------------------------------------------------------------------------- */

/* How far the log of this server once was, by the MGS. 0: it does not say. */
static uint64_t client_ask_log(const struct mgs_client *client, struct peer *peer)
{
	Strake__MapRequest request = STRAKE__MAP_REQUEST__INIT;
	struct call call = { .opcode = OP_MAP, .request = &request.base, .attempt_ms = ATTEMPT_MS };
	const Strake__Target *target = NULL;
	uint64_t index;

	if (peer_call(peer, &call) == 0)
		target = cluster_map_find(((const Strake__MapReply *)call.reply)->map, client->own_role, client->index);
	index = target ? target->log_index : 0;
	call_release(&call);
	return index;
}

/* told, known: the end of the log here, and what the MGS has heard of. */
static const char *refusal_text(const struct mgs_client *client, int err, uint64_t told, uint64_t known,
				char out[ERROR_SIZE])
{
	switch (err) {
	case -ESTALE:
		snprintf(out, ERROR_SIZE,
			 "the MGS refuses this %s: its log ends at record %" PRIu64 ", but it has told of record "
			 "%" PRIu64 " before: this is an older copy of its data directory. Bring the newest one back. "
			 "If this is all there is, start it once with --go-on-from %" PRIu64
			 ": what came after that is lost then",
			 role_name(client->own_role), told, known, told);
		break;
	case -EEXIST:
		snprintf(out, ERROR_SIZE,
			 "the MGS refuses this %s: index %u belongs to another target for ever; "
			 "format this one anew with a free index (see strake status)",
			 role_name(client->own_role), client->index);
		break;
	case -EBUSY:
		snprintf(out, ERROR_SIZE,
			 "the MGS refuses this %s: another server with the same target UUID is alive; "
			 "is this a copy of its data directory? (see strake status)",
			 role_name(client->own_role));
		break;
	default:
		snprintf(out, ERROR_SIZE, "the MGS refuses this %s: %s", role_name(client->own_role), strerror(-err));
		break;
	}
	return out;
}

/* The MGS's word on a registration. A predecessor that has just died is still alive to it for a few seconds. */
static void client_judge_refusal(struct mgs_client *client, int err, uint64_t told, uint64_t known)
{
	bool for_good = err == -EEXIST || err == -EINVAL || err == -EPERM || err == -ESTALE;

	refusal_text(client, err, told, known, client->error);
	if (err == -EBUSY) {
		if (client->busy_since_ns == 0)
			client->busy_since_ns = clock_ns();
		for_good = clock_ns() - client->busy_since_ns > BUSY_PATIENCE_MS * NSEC_PER_MSEC;
	}
	if (!for_good || client->refused)
		return;
	client->refused = true;
	fiber_wake_all(&client->waits);
	fiber_wake_all(&client->wake);
	if (client->refused_cb)
		client->refused_cb(client->owner, err, client->error);
}

static int client_register(struct mgs_client *client, struct peer *peer)
{
	Strake__RegisterRequest request = STRAKE__REGISTER_REQUEST__INIT;
	Strake__Target target = STRAKE__TARGET__INIT;
	struct call call = { .opcode = OP_REGISTER, .request = &request.base, .attempt_ms = ATTEMPT_MS };
	struct mgs_capacity capacity = { .state = STRAKE__TARGET_STATE__TARGET_UP };
	char *addresses[ADDRESS_LIST_MAX];
	uint64_t known = 0;
	int err;

	if (client->capacity)
		client->capacity(client->owner, &capacity);
	for (size_t i = 0; i < client->reachable.count; i++)
		addresses[i] = client->reachable.text[i];

	target.uuid = (ProtobufCBinaryData){ .data = client->own_uuid.bytes, .len = UUID_SIZE };
	target.role = client->own_role == ROLE_MDT ? STRAKE__TARGET_ROLE__TARGET_MDT : STRAKE__TARGET_ROLE__TARGET_OST;
	target.index = client->index;
	target.state = capacity.state;
	target.n_address = client->reachable.count;
	target.address = addresses;
	target.bytes_total = capacity.bytes_total;
	target.bytes_free = capacity.bytes_free;
	target.objects_total = capacity.objects_total;
	target.objects_free = capacity.objects_free;
	target.instance = client->instance;
	target.hostname = client->hostname;
	target.has_pid = true;
	target.pid = (uint32_t)getpid();
	target.has_log_index = client->own_role == ROLE_MDT;
	target.log_index = capacity.log_index;
	target.has_connections_tcp = target.has_connections_rdma = true;
	target.connections_tcp = capacity.connections[FABRIC_TCP];
	target.connections_rdma = capacity.connections[FABRIC_RDMA];
	request.target = &target;
	request.has_older = request.older = client->older;
	if (client->map) {
		request.has_epoch = true;
		request.epoch = client->map->epoch;
	}

	err = peer_call(peer, &call);
	if (err == -ESTALE && call.answered && !client->stopping)
		known = client_ask_log(client, peer);
	if (client->stopping) {
		err = -ECANCELED;
	} else if (err == 0) {
		uint32_t wish = ((const Strake__RegisterReply *)call.reply)->heartbeat_ms;

		client->heartbeat_ms = wish > 0 && wish <= HEARTBEAT_MS_MAX ? wish : HEARTBEAT_MS;
		client->busy_since_ns = 0;
		client->error[0] = '\0';
	} else if (call.answered) {
		client_judge_refusal(client, err, capacity.log_index, known);
	}
	call_release(&call);
	return err;
}

/* --- the connection --------------------------------------------------------------------------------------------- */

/*
 * Under which addresses others reach us is seen from our end of the connection to the MGS: of one by TCP, so that they stay the same
 * when RDMA is gone over to.
 */
static int client_find_addresses(struct mgs_client *client, struct peer *peer)
{
	const char *preferred = client->preferred;
	struct peer_stats stats;
	int err;

	peer_stats(peer, &stats);
	if ((stats.fabric == FABRIC_TCP || preferred[0] == '\0') &&
	    peer_local_host(peer, client->preferred, sizeof(client->preferred)) < 0)
		client->preferred[0] = '\0';
	err = client->reachable_cb(client->owner, preferred[0] != '\0' ? preferred : NULL, &client->reachable);
	client->looked_ns = clock_ns();

	if (err)
		snprintf(client->error, sizeof(client->error), "no address to register: %s", strerror(-err));
	return err;
}

/*
 * More of them may come while we run: those of an interface, or of an RDMA device. What goes is told as long as the connection stands:
 * mostly it comes back, and who finds it silent has the others.
 */
static void client_look_for_more(struct mgs_client *client)
{
	struct address_list list;
	bool more = false;

	if (clock_ns() - client->looked_ns < client->look_ms * NSEC_PER_MSEC)
		return;
	client->looked_ns = clock_ns();
	if (client->reachable_cb(client->owner, client->preferred[0] != '\0' ? client->preferred : NULL, &list) < 0)
		return;
	for (size_t i = 0; i < list.count; i++)
		more |= !address_list_has(&client->reachable, list.text[i]);
	if (more)
		client->reachable = list;
}

static int client_connected(void *owner, struct peer *peer)
{
	struct mgs_client *client = owner;
	int err = 0;

	if (client->stopping || client->refused)
		return -ECANCELED;
	client->refs++;
	client->rejections = 0;
	client->error[0] = '\0';
	if (client_is_server(client)) {
		err = client_find_addresses(client, peer);
		if (err == 0)
			err = client_register(client, peer);
	}
	if (err == 0)
		err = client_fetch_map(client, peer);
	client_release(client);
	return err;
}

static void client_lost(void *owner, int err)
{
	struct mgs_client *client = owner;

	(void)err;
	fiber_wake_all(&client->wake);
}

/* An opening that was refused for its key, filesystem or version: whoever waits need not wait for the time-out. */
static void client_note_rejection(struct mgs_client *client, int err)
{
	if (err != -EKEYREJECTED && err != -ESTALE && err != -EPROTO)
		return;
	client->rejection = err;
	client->rejections++;
	if (client->rejections >= client->mgs.count)
		fiber_wake_all(&client->waits);
}

/* Without a connection make one, by a call that asks for nothing; client_connected() does the rest. */
static int client_connect(struct mgs_client *client)
{
	struct call call = { .opcode = OP_PING, .attempt_ms = ATTEMPT_MS };
	int err = peer_call(client->peer, &call);

	if (client->stopping)
		err = -ECANCELED;
	else if (err && !call.answered)
		client_note_rejection(client, err);
	call_release(&call);
	return err;
}

static int client_beat(struct mgs_client *client)
{
	if (!peer_is_connected(client->peer))
		return client_connect(client);
	if (!client_is_server(client))
		return 0;
	client_look_for_more(client);
	return client_register(client, client->peer);
}

static void client_keep(void *arg)
{
	struct mgs_client *client = arg;

	while (!client->stopping && !client->refused) {
		uint64_t began = clock_ns();
		int err = client_beat(client);

		if (client->stopping || client->refused)
			break;
		(void)fiber_wait_until(&client->wake, NULL,
				       err ? clock_ns() + RETRY_MS * NSEC_PER_MSEC
					   : began + client->heartbeat_ms * NSEC_PER_MSEC);
	}
	client_release(client);
}

/* --- for the owner ---------------------------------------------------------------------------------------------- */

static int client_make_peer(struct mgs_client *client, const struct mgs_client_config *config)
{
	const char *addresses[ADDRESS_LIST_MAX];
	struct peer_config peer = {
		.fs = config->fs,
		.role = ROLE_MGS,
		.own_role = config->own_role,
		.own_uuid = config->own_uuid,
		.key = &client->key,
		.admin = config->admin,
		.addresses = addresses,
		.address_count = config->mgs.count,
		.tally = config->tally,
		.owner = client,
		.push = client_push,
		.connected = client_connected,
		.lost = client_lost,
	};

	for (size_t i = 0; i < config->mgs.count; i++)
		addresses[i] = client->mgs.text[i];
	return peer_new(client->loop, &peer, &client->peer);
}

int mgs_client_new(struct loop *loop, const struct mgs_client_config *config, struct mgs_client **ret_client)
{
	struct mgs_client *client;
	int err = -ENOMEM;

	assert(config->mgs.count > 0 && config->mgs.count <= ADDRESS_LIST_MAX);
	client = calloc(1, sizeof(*client));
	if (!client)
		return -ENOMEM;

	*client = (struct mgs_client){
		.loop = loop,
		.refs = 1,
		.key = *config->key,
		.mgs = config->mgs,
		.fs = config->fs,
		.own_role = config->own_role,
		.own_uuid = config->own_uuid,
		.index = config->index,
		.older = config->older,
		.owner = config->owner,
		.map_changed = config->map_changed,
		.reachable_cb = config->reachable,
		.capacity = config->capacity,
		.refused_cb = config->refused,
		.heartbeat_ms = HEARTBEAT_MS,
		.look_ms = config->look_ms != 0 ? config->look_ms : MGS_CLIENT_LOOK_MS,
	};
	do {
		if (getrandom(&client->instance, sizeof(client->instance), 0) != sizeof(client->instance)) {
			err = -errno;
			goto fail;
		}
	} while (client->instance == 0);
	if (gethostname(client->hostname, sizeof(client->hostname) - 1) < 0)
		client->hostname[0] = '\0';

	err = client_make_peer(client, config);
	if (err)
		goto fail;
	client->refs++;
	err = fiber_start(loop, client_keep, client);
	if (err) {
		client->refs--;
		client->peer = peer_free(client->peer);
		goto fail;
	}
	*ret_client = client;
	return 0;

fail:
	client_release(client);
	return err;
}

struct mgs_client *mgs_client_free(struct mgs_client *client)
{
	if (!client)
		return NULL;
	client->stopping = true;
	client->peer = peer_free(client->peer);
	fiber_wake_all(&client->wake);
	fiber_wake_all(&client->waits);
	client_release(client);
	return NULL;
}

const Strake__ClusterMap *mgs_client_map(const struct mgs_client *client)
{
	return client->map;
}

int mgs_client_wait(struct mgs_client *client, unsigned int timeout_ms)
{
	uint64_t deadline = clock_ns() + timeout_ms * NSEC_PER_MSEC;
	int err = 0;

	client->refs++;
	while (err == 0 && !client->map) {
		if (client->stopping)
			err = -ECANCELED;
		else if (client->refused)
			err = -EPERM;
		else if (client->rejections >= client->mgs.count)
			err = client->rejection;
		else
			err = fiber_wait_until(&client->waits, NULL, deadline);
	}
	client_release(client);
	return err;
}

const char *mgs_client_last_error(const struct mgs_client *client)
{
	return client->error[0] != '\0' ? client->error : peer_last_error(client->peer);
}

bool mgs_client_is_contested(const struct mgs_client *client)
{
	return client->busy_since_ns != 0 &&
	       clock_ns() - client->busy_since_ns <= (BUSY_PATIENCE_MS + ATTEMPT_MS) * NSEC_PER_MSEC;
}

const Strake__Target *cluster_map_find(const Strake__ClusterMap *map, enum role role, uint32_t index)
{
	Strake__TargetRole wanted =
		role == ROLE_MDT ? STRAKE__TARGET_ROLE__TARGET_MDT : STRAKE__TARGET_ROLE__TARGET_OST;

	assert(role == ROLE_MDT || role == ROLE_OST);
	for (size_t i = 0; i < map->n_target; i++)
		if (map->target[i]->role == wanted && map->target[i]->index == index)
			return map->target[i];
	return NULL;
}
