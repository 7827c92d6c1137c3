#include "mgs/mgs.h"
#include "common/container_of.h"
#include "common/logger.h"
#include "common/mgs_client.h"
#include "common/service.h"
#include "mgs/map_store.h"
#include "mgs/registry.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What hangs on a connection, from its first request until it is closed. */
struct mgs_conn {
	uint64_t number; /* never used twice */
	bool subscribed;
	bool refusal_said; /* one line per connection is enough */
};

/* A request whose answer waits for the store. */
struct pending {
	struct request *request;
	int err;
};

struct mgs {
	struct loop *loop;
	struct service *service;
	struct map_store *store;
	struct registry *registry;
	struct loop_hook settle;      /* LOOP_STAGE_STORE */
	struct loop_timer due;        /* of registry_tick() */
	struct loop_timer capacities; /* set: free space has changed and is pushed then */
	struct loop_timer logs;       /* set: an MDT's log has grown, and that is stored then */
	struct loop_timer look;       /* of mgs_look() */
	unsigned int look_ms;
	struct address_list rdma;        /* where we listen by RDMA, when we last looked */
	char *rdma_at[ADDRESS_LIST_MAX]; /* its texts, as messages have them */
	struct pending *pending;
	size_t pending_count, pending_room;
	uint64_t conns;        /* numbers given out */
	uint64_t pushed_epoch; /* the subscribers have this one */
	char hostname[256];
};

/* --- telling ---------------------------------------------------------------------------------------------------- */

static void conn_push_map(struct service_conn *service_conn, void *arg)
{
	struct mgs *mgs = arg;
	struct mgs_conn *conn = service_conn_data(service_conn);
	Strake__ClusterMap map = *registry_map(mgs->registry);

	map.n_mgs_rdma_address = mgs->rdma.count;
	map.mgs_rdma_address = mgs->rdma_at;
	if (conn && conn->subscribed)
		service_push(service_conn, OP_MAP_PUSH, &map.base);
}

static void conn_push_capacities(struct service_conn *service_conn, void *arg)
{
	if (service_conn_role(service_conn) == ROLE_MDT)
		conn_push_map(service_conn, arg);
}

static const char *state_text(Strake__TargetState state)
{
	static const char *const texts[] = {
		[STRAKE__TARGET_STATE__TARGET_UP] = "up",
		[STRAKE__TARGET_STATE__TARGET_DOWN] = "down",
		[STRAKE__TARGET_STATE__TARGET_FULL] = "full",
		[STRAKE__TARGET_STATE__TARGET_DEGRADED] = "degraded",
	};

	return texts[state];
}

static const char *role_text(Strake__TargetRole role)
{
	return role == STRAKE__TARGET_ROLE__TARGET_MDT ? "MDT" : "OST";
}

/* --- storing ---------------------------------------------------------------------------------------------------- */

/* logs: also what has changed only in the end of its log. */
static void mgs_store(struct mgs *mgs, bool logs)
{
	const Strake__Target *targets[REGISTRY_TARGETS_MAX];
	uint64_t epoch = registry_map(mgs->registry)->epoch;
	size_t count = 0, all, cursor = 0;
	int err;

	while (count < REGISTRY_TARGETS_MAX && (targets[count] = registry_unstored(mgs->registry, &cursor)) != NULL)
		count++;
	all = count;
	cursor = 0;
	while (logs && all < REGISTRY_TARGETS_MAX &&
	       (targets[all] = registry_unstored_log(mgs->registry, &cursor)) != NULL)
		all++;
	if (all == 0)
		return;
	err = map_store_save(mgs->store, epoch, targets, all);
	if (err)
		logger_die("the cluster map cannot be stored: %s", strerror(-err));
	for (size_t i = 0; i < count; i++)
		logger_say(targets[i]->state == STRAKE__TARGET_STATE__TARGET_UP ? LOGGER_INFO : LOGGER_WARNING,
			   "epoch %llu: %s-%u is %s, at %s (%s, pid %u)", (unsigned long long)epoch,
			   role_text(targets[i]->role), targets[i]->index, state_text(targets[i]->state),
			   targets[i]->address[0], targets[i]->hostname ? targets[i]->hostname : "?", targets[i]->pid);
	registry_stored(mgs->registry, logs);
}

/* --- answering -------------------------------------------------------------------------------------------------- */

static void answer_register(struct request *request)
{
	Strake__RegisterReply body = STRAKE__REGISTER_REPLY__INIT;
	struct reply reply = { .body = &body.base };
	struct mgs *mgs = request->handler_data;

	body.heartbeat_ms = REGISTRY_HEARTBEAT_MS;
	body.epoch = registry_map(mgs->registry)->epoch;
	service_reply(request, &reply);
}

static void answer_map(struct request *request)
{
	const Strake__MapRequest *ask = (const Strake__MapRequest *)request->body;
	struct mgs_conn *conn = service_conn_data(request->conn); /* NULL: it is gone */
	Strake__MapReply body = STRAKE__MAP_REPLY__INIT;
	struct reply reply = { .body = &body.base };
	struct mgs *mgs = request->handler_data;
	Strake__ClusterMap map = *registry_map(mgs->registry);
	uint32_t connections[FABRIC_COUNT];

	if (conn && ask->has_subscribe)
		conn->subscribed = ask->subscribe;
	body.map = &map;
	body.n_rdma_address = mgs->rdma.count;
	body.rdma_address = mgs->rdma_at;
	body.hostname = mgs->hostname;
	body.has_pid = true;
	body.pid = (uint32_t)getpid();
	service_connections(mgs->service, connections);
	if (conn)
		connections[service_conn_fabric(request->conn)]--;
	body.has_connections_tcp = body.has_connections_rdma = true;
	body.connections_tcp = connections[FABRIC_TCP];
	body.connections_rdma = connections[FABRIC_RDMA];
	service_reply(request, &reply);
}

/* All that arrived in this iteration has been handled: store it, then tell it. */
static void mgs_settle(struct loop_hook *hook)
{
	struct mgs *mgs = container_of(hook, struct mgs, settle);
	uint64_t epoch, due_ns;

	mgs_store(mgs, false);
	if (!mgs->logs.loop && registry_unstored_log(mgs->registry, &(size_t){ 0 }))
		loop_timer_set(mgs->loop, &mgs->logs, loop_now_ns(mgs->loop) + MGS_LOG_INTERVAL_MS * NSEC_PER_MSEC);

	epoch = registry_map(mgs->registry)->epoch;
	if (registry_take_capacity_changed(mgs->registry) && !mgs->capacities.loop)
		loop_timer_set(mgs->loop, &mgs->capacities,
			       loop_now_ns(mgs->loop) + MGS_CAPACITY_INTERVAL_MS * NSEC_PER_MSEC);
	if (mgs->pushed_epoch != epoch) {
		mgs->pushed_epoch = epoch;
		service_each_conn(mgs->service, conn_push_map, mgs);
	}

	for (size_t i = 0; i < mgs->pending_count; i++) {
		struct pending *pending = &mgs->pending[i];

		if (pending->err)
			service_reply_error(pending->request, pending->err);
		else if (pending->request->header.opcode == OP_MAP)
			answer_map(pending->request);
		else
			answer_register(pending->request);
	}
	mgs->pending_count = 0;

	due_ns = registry_due_ns(mgs->registry);
	if (due_ns == UINT64_MAX)
		loop_timer_cancel(&mgs->due);
	else if (!mgs->due.loop || mgs->due.at_ns != due_ns)
		loop_timer_set(mgs->loop, &mgs->due, due_ns);
}

static void mgs_due(struct loop_timer *timer)
{
	struct mgs *mgs = container_of(timer, struct mgs, due);

	registry_tick(mgs->registry, loop_now_ns(mgs->loop));
}

static void mgs_capacities_due(struct loop_timer *timer)
{
	struct mgs *mgs = container_of(timer, struct mgs, capacities);

	mgs_store(mgs, false); /* a server heard in this very iteration may have changed more than its capacity */
	service_each_conn(mgs->service, conn_push_capacities, mgs);
}

static void mgs_logs_due(struct loop_timer *timer)
{
	struct mgs *mgs = container_of(timer, struct mgs, logs);

	mgs_store(mgs, true);
}

/* Where we listen by RDMA just now. Is there more of it? What has gone and comes again is more, too: some may not know of it. */
static bool mgs_look(struct mgs *mgs)
{
	struct address_list list, rdma = { .count = 0 };
	bool more = false;

	if (service_reachable(mgs->service, NULL, &list) < 0)
		return false;
	for (size_t i = 0; i < list.count; i++) {
		if (!address_is_rdma(list.text[i]))
			continue;
		more |= !address_list_has(&mgs->rdma, list.text[i]);
		address_list_add(&rdma, list.text[i]);
	}
	mgs->rdma = rdma;
	return more;
}

static void mgs_look_due(struct loop_timer *timer)
{
	struct mgs *mgs = container_of(timer, struct mgs, look);

	loop_timer_set(mgs->loop, &mgs->look, loop_now_ns(mgs->loop) + mgs->look_ms * NSEC_PER_MSEC);
	if (!mgs_look(mgs))
		return;
	mgs_store(mgs, false); /* as in mgs_capacities_due() */
	service_each_conn(mgs->service, conn_push_map, mgs);
}

/* --- requests --------------------------------------------------------------------------------------------------- */

static struct mgs_conn *mgs_conn_of(struct mgs *mgs, struct service_conn *service_conn)
{
	struct mgs_conn *conn = service_conn_data(service_conn);

	if (conn)
		return conn;
	conn = calloc(1, sizeof(*conn));
	if (!conn)
		return NULL;
	conn->number = ++mgs->conns;
	service_conn_set_data(service_conn, conn);
	return conn;
}

/* Only the server itself registers itself, as what it said it is when it connected. */
static bool register_is_own(const struct request *request, const Strake__Target *target)
{
	const struct uuid *uuid = service_conn_uuid(request->conn);
	enum role role = service_conn_role(request->conn);

	return target->uuid.len == UUID_SIZE && memcmp(target->uuid.data, uuid->bytes, UUID_SIZE) == 0 &&
	       ((role == ROLE_MDT && target->role == STRAKE__TARGET_ROLE__TARGET_MDT) ||
		(role == ROLE_OST && target->role == STRAKE__TARGET_ROLE__TARGET_OST));
}

static void say_older(const struct mgs *mgs, const char *name, const Strake__Target *target)
{
	const Strake__Target *known = cluster_map_find(registry_map(mgs->registry), ROLE_MDT, target->index);

	log_warning("%s wants to be MDT-%u and is refused: its log ends at record %" PRIu64
		    ", and that MDT has told of record %" PRIu64 ": an older copy of the data directory",
		    name, target->index, target->log_index, known ? known->log_index : 0);
}

/* A restored MGS; once, for it is above that then. */
static void mgs_heard_epoch(struct mgs *mgs, const Strake__RegisterRequest *ask)
{
	uint64_t own = registry_map(mgs->registry)->epoch;

	if (registry_heard_epoch(mgs->registry, ask->target, ask->epoch))
		log_warning("%s-%u has a map of epoch %" PRIu64 ", and here is one of %" PRIu64
			    ": an older copy of the data directory; going on above",
			    role_text(ask->target->role), ask->target->index, ask->epoch, own);
}

static int mgs_register(struct mgs *mgs, const struct request *request, struct mgs_conn *conn)
{
	const Strake__RegisterRequest *ask = (const Strake__RegisterRequest *)request->body;
	const Strake__Target *target = ask->target;
	int err = -EPERM;

	if (register_is_own(request, target))
		err = (ask->older ? registry_register_older : registry_register)(mgs->registry, target, conn->number,
										 loop_now_ns(mgs->loop));
	if (err == 0)
		mgs_heard_epoch(mgs, ask);
	if (err == -ESTALE && !conn->refusal_said) {
		conn->refusal_said = true;
		say_older(mgs, service_conn_name(request->conn), target);
	}
	if (err && !conn->refusal_said) {
		conn->refusal_said = true;
		log_warning("%s wants to be %s-%u and is refused: %s", service_conn_name(request->conn),
			    role_text(target->role), target->index,
			    err == -EEXIST  ? "the index belongs to another UUID"
			    : err == -EBUSY ? "another instance of this UUID is alive"
					    : strerror(-err));
	}
	return err;
}

static void mgs_handle(void *owner, struct request *request)
{
	struct mgs *mgs = owner;
	struct mgs_conn *conn = mgs_conn_of(mgs, request->conn);
	int err = 0;

	if (mgs->pending_count == mgs->pending_room) {
		size_t room = mgs->pending_room > 0 ? mgs->pending_room * 2 : 64;
		struct pending *pending = reallocarray(mgs->pending, room, sizeof(*pending));

		if (pending) {
			mgs->pending = pending;
			mgs->pending_room = room;
		}
	}
	if (!conn || mgs->pending_count == mgs->pending_room) {
		service_reply_error(request, -ENOMEM);
		return;
	}
	if (request->header.opcode == OP_REGISTER)
		err = mgs_register(mgs, request, conn);
	else if (request->header.opcode != OP_MAP)
		err = -EOPNOTSUPP;
	request->handler_data = mgs;
	mgs->pending[mgs->pending_count++] = (struct pending){ .request = request, .err = err };
}

static void mgs_conn_closed(void *owner, struct service_conn *service_conn)
{
	struct mgs *mgs = owner;
	struct mgs_conn *conn = service_conn_data(service_conn);

	if (!conn)
		return;
	registry_conn_lost(mgs->registry, conn->number, loop_now_ns(mgs->loop));
	service_conn_set_data(service_conn, NULL);
	free(conn);
}

/* --- life ------------------------------------------------------------------------------------------------------- */

static int mgs_restore_target(void *arg, const Strake__Target *target)
{
	return registry_restore(arg, target, clock_ns());
}

static int mgs_open_store(struct mgs *mgs, const struct mgs_config *config, char *error, size_t error_size)
{
	uint64_t epoch = 0;
	int err = map_store_open(config->data_dir, &mgs->store);

	if (err == 0)
		err = map_store_load_epoch(mgs->store, &epoch);
	if (err == 0)
		err = registry_new(&config->identity->fs, config->identity->fs_name, epoch, &mgs->registry);
	if (err == 0)
		err = map_store_load_targets(mgs->store, mgs_restore_target, mgs->registry);
	if (err)
		snprintf(error, error_size, "%s/map: %s", config->data_dir,
			 err == -EBADMSG || err == -EINVAL || err == -EEXIST ? "the stored cluster map is damaged"
									     : strerror(-err));
	return err;
}

static int mgs_listen(struct mgs *mgs, const struct mgs_config *config, char ret_address[ADDRESS_SIZE], char *error,
		      size_t error_size)
{
	for (size_t i = 0; i < config->listen->count; i++) {
		const char *address = config->listen->text[i];
		uint16_t port;
		int err = service_listen(mgs->service, address, &port);

		if (err) {
			service_listen_explain(address, err, error, error_size);
			return err;
		}
		if (i == 0)
			(void)address_with_port(address, port, ret_address);
	}
	return 0;
}

int mgs_new(struct loop *loop, const struct mgs_config *config, struct mgs **ret_mgs, char ret_address[ADDRESS_SIZE],
	    char *error, size_t error_size)
{
	struct mgs *mgs = calloc(1, sizeof(*mgs));
	struct service_config service = {
		.fs = config->identity->fs,
		.target = config->identity->target,
		.role = ROLE_MGS,
		.key = config->key,
		.admin_key = config->admin_key,
		.owner = mgs,
		.handle = mgs_handle,
		.closed = mgs_conn_closed,
		.again_ms = config->look_ms,
	};
	int err;

	if (!mgs) {
		snprintf(error, error_size, "%s", strerror(ENOMEM));
		return -ENOMEM;
	}
	mgs->loop = loop;
	mgs->settle.run = mgs_settle;
	mgs->due.expired = mgs_due;
	mgs->capacities.expired = mgs_capacities_due;
	mgs->logs.expired = mgs_logs_due;
	mgs->look.expired = mgs_look_due;
	mgs->look_ms = config->look_ms != 0 ? config->look_ms : MGS_CLIENT_LOOK_MS;
	for (size_t i = 0; i < ADDRESS_LIST_MAX; i++)
		mgs->rdma_at[i] = mgs->rdma.text[i];
	if (gethostname(mgs->hostname, sizeof(mgs->hostname) - 1) < 0)
		mgs->hostname[0] = '\0';

	err = mgs_open_store(mgs, config, error, error_size);
	if (err)
		goto fail;
	mgs->pushed_epoch = registry_map(mgs->registry)->epoch;
	err = service_new(loop, &service, &mgs->service);
	if (err) {
		snprintf(error, error_size, "%s", strerror(-err));
		goto fail;
	}
	err = mgs_listen(mgs, config, ret_address, error, error_size);
	if (err)
		goto fail;
	loop_hook_add(loop, LOOP_STAGE_STORE, &mgs->settle);
	mgs_look_due(&mgs->look);
	*ret_mgs = mgs;
	return 0;

fail:
	service_free(mgs->service);
	registry_free(mgs->registry);
	map_store_close(mgs->store);
	free(mgs);
	return err;
}

struct mgs *mgs_free(struct mgs *mgs)
{
	if (!mgs)
		return NULL;
	loop_timer_cancel(&mgs->due);
	loop_timer_cancel(&mgs->capacities);
	loop_timer_cancel(&mgs->logs);
	loop_timer_cancel(&mgs->look);
	loop_hook_remove(mgs->loop, LOOP_STAGE_STORE, &mgs->settle);
	for (size_t i = 0; i < mgs->pending_count; i++)
		service_reply_error(mgs->pending[i].request, -ECANCELED);
	service_free(mgs->service);
	mgs_store(mgs, true);
	registry_free(mgs->registry);
	map_store_close(mgs->store);
	free(mgs->pending);
	free(mgs);
	return NULL;
}
