#include "mgs/registry.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MS        UINT64_C(1000000)
#define T0        (1000000 * MS)
#define SILENCE   (REGISTRY_SILENCE_MS * MS)
#define COMEBACK  (REGISTRY_RETURN_MS * MS)
#define HEARTBEAT (REGISTRY_HEARTBEAT_MS * MS)

static const struct uuid fs = { .bytes = "filesystem-uuid" };

static struct registry *make(void)
{
	struct registry *registry;

	ck_assert_int_eq(registry_new(&fs, "test", 7, &registry), 0);
	return registry;
}

/* A server as it introduces itself; its memory is the test's. */
struct server {
	Strake__Target target;
	uint8_t uuid[UUID_SIZE];
	char address[32];
	char *addresses[1];
};

static Strake__Target *server_is(struct server *server, char name, Strake__TargetRole role, uint32_t index,
				 uint64_t instance)
{
	strake__target__init(&server->target);
	memset(server->uuid, name, sizeof(server->uuid));
	snprintf(server->address, sizeof(server->address), "10.0.0.%u:9402", index + 1);
	server->addresses[0] = server->address;
	server->target.uuid = (ProtobufCBinaryData){ .data = server->uuid, .len = sizeof(server->uuid) };
	server->target.role = role;
	server->target.index = index;
	server->target.state = STRAKE__TARGET_STATE__TARGET_UP;
	server->target.n_address = 1;
	server->target.address = server->addresses;
	server->target.instance = instance;
	return &server->target;
}

static Strake__Target *ost_is(struct server *server, char name, uint32_t index, uint64_t instance)
{
	return server_is(server, name, STRAKE__TARGET_ROLE__TARGET_OST, index, instance);
}

static uint64_t epoch(const struct registry *registry)
{
	return registry_map(registry)->epoch;
}

static Strake__TargetState state(const struct registry *registry, size_t i)
{
	ck_assert_uint_lt(i, registry_map(registry)->n_target);
	return registry_map(registry)->target[i]->state;
}

START_TEST(registers_and_orders)
{
	struct registry *registry = make();
	struct server server;
	const Strake__ClusterMap *map;

	ck_assert_int_eq(registry_register(registry, ost_is(&server, 'b', 1, 11), 1, T0), 0);
	ck_assert_int_eq(registry_register(registry, ost_is(&server, 'a', 0, 12), 2, T0), 0);
	ck_assert_int_eq(
		registry_register(registry, server_is(&server, 'm', STRAKE__TARGET_ROLE__TARGET_MDT, 0, 13), 3, T0), 0);
	map = registry_map(registry);
	ck_assert_uint_eq(map->n_target, 3);
	ck_assert_uint_eq(map->epoch, 10);
	ck_assert_str_eq(map->fs_name, "test");
	ck_assert_int_eq(map->target[0]->role, STRAKE__TARGET_ROLE__TARGET_MDT);
	ck_assert_uint_eq(map->target[1]->index, 0);
	ck_assert_uint_eq(map->target[2]->index, 1);
	ck_assert_str_eq(map->target[2]->address[0], "10.0.0.2:9402");
	registry_free(registry);
}
END_TEST

START_TEST(heartbeats_change_no_epoch)
{
	struct registry *registry = make();
	struct server server;
	uint64_t before;

	ck_assert_int_eq(registry_register(registry, ost_is(&server, 'a', 0, 11), 1, T0), 0);
	registry_stored(registry, true);
	(void)registry_take_capacity_changed(registry);
	before = epoch(registry);
	ck_assert_int_eq(registry_register(registry, &server.target, 1, T0 + HEARTBEAT), 0);
	ck_assert_uint_eq(epoch(registry), before);
	ck_assert(!registry_take_capacity_changed(registry));

	server.target.bytes_free = 5;
	ck_assert_int_eq(registry_register(registry, &server.target, 1, T0 + 2 * HEARTBEAT), 0);
	ck_assert_uint_eq(epoch(registry), before);
	ck_assert(registry_take_capacity_changed(registry));
	ck_assert(!registry_take_capacity_changed(registry));
	ck_assert_uint_eq(registry_map(registry)->target[0]->bytes_free, 5);

	server.target.connections_rdma = 3;
	server.target.has_connections_rdma = true;
	ck_assert_int_eq(registry_register(registry, &server.target, 1, T0 + 3 * HEARTBEAT), 0);
	ck_assert_uint_eq(epoch(registry), before);
	ck_assert(!registry_take_capacity_changed(registry));
	ck_assert_uint_eq(registry_map(registry)->target[0]->connections_rdma, 3);
	ck_assert_ptr_null(registry_unstored(registry, &(size_t){ 0 }));
	registry_free(registry);
}
END_TEST

START_TEST(every_other_change_is_an_epoch)
{
	struct registry *registry = make();
	struct server server;
	char other[] = "10.9.9.9:1", hostname[] = "node9";
	uint64_t before;

	ck_assert_int_eq(registry_register(registry, ost_is(&server, 'a', 0, 11), 1, T0), 0);
	registry_stored(registry, true);
	before = epoch(registry);

	server.target.state = STRAKE__TARGET_STATE__TARGET_FULL;
	ck_assert_int_eq(registry_register(registry, &server.target, 1, T0), 0);
	ck_assert_uint_eq(epoch(registry), before + 1);
	server.target.state = STRAKE__TARGET_STATE__TARGET_DEGRADED;
	ck_assert_int_eq(registry_register(registry, &server.target, 1, T0), 0);
	ck_assert_uint_eq(epoch(registry), before + 2);
	server.addresses[0] = other;
	ck_assert_int_eq(registry_register(registry, &server.target, 1, T0), 0);
	ck_assert_uint_eq(epoch(registry), before + 3);
	server.target.hostname = hostname;
	ck_assert_int_eq(registry_register(registry, &server.target, 1, T0), 0);
	ck_assert_uint_eq(epoch(registry), before + 4);
	ck_assert_ptr_nonnull(registry_unstored(registry, &(size_t){ 0 }));
	registry_free(registry);
}
END_TEST

START_TEST(silence_is_down)
{
	struct registry *registry = make();
	struct server server;
	uint64_t before;

	ck_assert_int_eq(registry_register(registry, ost_is(&server, 'a', 0, 11), 1, T0), 0);
	ck_assert_uint_eq(registry_due_ns(registry), T0 + SILENCE);
	registry_stored(registry, true);
	before = epoch(registry);
	registry_tick(registry, T0 + SILENCE - 1);
	ck_assert_int_eq(state(registry, 0), STRAKE__TARGET_STATE__TARGET_UP);
	registry_tick(registry, T0 + SILENCE);
	ck_assert_int_eq(state(registry, 0), STRAKE__TARGET_STATE__TARGET_DOWN);
	ck_assert_uint_eq(epoch(registry), before + 1);
	ck_assert_uint_eq(registry_due_ns(registry), UINT64_MAX);
	ck_assert_ptr_nonnull(registry_unstored(registry, &(size_t){ 0 }));

	/* and it comes back by its next word */
	ck_assert_int_eq(registry_register(registry, &server.target, 1, T0 + 2 * SILENCE), 0);
	ck_assert_int_eq(state(registry, 0), STRAKE__TARGET_STATE__TARGET_UP);
	ck_assert_uint_eq(epoch(registry), before + 2);
	registry_free(registry);
}
END_TEST

START_TEST(lost_connection_is_down_soon)
{
	struct registry *registry = make();
	struct server server;

	ck_assert_int_eq(registry_register(registry, ost_is(&server, 'a', 0, 11), 1, T0), 0);
	registry_conn_lost(registry, 1, T0 + MS);
	ck_assert_uint_eq(registry_due_ns(registry), T0 + MS + COMEBACK);
	registry_tick(registry, T0 + MS + COMEBACK);
	ck_assert_int_eq(state(registry, 0), STRAKE__TARGET_STATE__TARGET_DOWN);
	registry_free(registry);
}
END_TEST

START_TEST(lost_connection_that_returns_is_nothing)
{
	struct registry *registry = make();
	struct server server;
	uint64_t before;

	ck_assert_int_eq(registry_register(registry, ost_is(&server, 'a', 0, 11), 1, T0), 0);
	before = epoch(registry);
	registry_conn_lost(registry, 1, T0 + MS);
	ck_assert_int_eq(registry_register(registry, &server.target, 2, T0 + 2 * MS), 0);
	registry_conn_lost(registry, 1, T0 + 3 * MS); /* the old one's end, once more */
	registry_tick(registry, T0 + 3 * MS + COMEBACK);
	ck_assert_int_eq(state(registry, 0), STRAKE__TARGET_STATE__TARGET_UP);
	ck_assert_uint_eq(epoch(registry), before);
	registry_free(registry);
}
END_TEST

START_TEST(index_belongs_to_one_for_ever)
{
	struct registry *registry = make();
	struct server server;

	ck_assert_int_eq(registry_register(registry, ost_is(&server, 'a', 0, 11), 1, T0), 0);
	ck_assert_int_eq(registry_register(registry, ost_is(&server, 'b', 0, 12), 2, T0), -EEXIST);
	registry_conn_lost(registry, 1, T0);
	registry_tick(registry, T0 + SILENCE);
	ck_assert_int_eq(registry_register(registry, ost_is(&server, 'b', 0, 12), 2, T0 + SILENCE), -EEXIST);
	/* the MDT's index 0 is another matter */
	ck_assert_int_eq(
		registry_register(registry, server_is(&server, 'b', STRAKE__TARGET_ROLE__TARGET_MDT, 0, 12), 2, T0), 0);
	/* and a UUID has one index */
	ck_assert_int_eq(registry_register(registry, ost_is(&server, 'a', 1, 11), 1, T0), -EINVAL);
	ck_assert_uint_eq(registry_map(registry)->n_target, 2);
	registry_free(registry);
}
END_TEST

START_TEST(second_living_instance_is_refused)
{
	struct registry *registry = make();
	struct server first, second;

	ck_assert_int_eq(registry_register(registry, ost_is(&first, 'a', 0, 11), 1, T0), 0);
	ost_is(&second, 'a', 0, 99);
	ck_assert_int_eq(registry_register(registry, &second.target, 2, T0 + MS), -EBUSY);
	ck_assert_uint_eq(registry_map(registry)->target[0]->instance, 11);

	/* its connection is gone: at once, for a server that was killed comes back at once */
	registry_conn_lost(registry, 1, T0 + 2 * MS);
	ck_assert_int_eq(registry_register(registry, &second.target, 2, T0 + 3 * MS), 0);
	ck_assert_uint_eq(registry_map(registry)->target[0]->instance, 99);
	/* now the first is the second */
	ck_assert_int_eq(registry_register(registry, &first.target, 3, T0 + 4 * MS), -EBUSY);
	registry_free(registry);
}
END_TEST

START_TEST(silent_instance_is_replaced)
{
	struct registry *registry = make();
	struct server first, second;

	ck_assert_int_eq(registry_register(registry, ost_is(&first, 'a', 0, 11), 1, T0), 0);
	ost_is(&second, 'a', 0, 99);
	registry_tick(registry, T0 + SILENCE);
	ck_assert_int_eq(registry_register(registry, &second.target, 2, T0 + SILENCE), 0);
	registry_free(registry);
}
END_TEST

START_TEST(restored_counts_as_it_was_for_a_while)
{
	struct registry *registry = make();
	struct server up, down, successor;

	ost_is(&up, 'a', 0, 11);
	ost_is(&down, 'b', 1, 12);
	down.target.state = STRAKE__TARGET_STATE__TARGET_DOWN;
	ck_assert_int_eq(registry_restore(registry, &up.target, T0), 0);
	ck_assert_int_eq(registry_restore(registry, &down.target, T0), 0);
	ck_assert_int_eq(registry_restore(registry, &down.target, T0), -EEXIST);
	ck_assert_uint_eq(epoch(registry), 7);
	ck_assert_int_eq(state(registry, 0), STRAKE__TARGET_STATE__TARGET_UP);
	ck_assert_int_eq(state(registry, 1), STRAKE__TARGET_STATE__TARGET_DOWN);
	ck_assert_uint_eq(registry_due_ns(registry), T0 + SILENCE);
	ck_assert_ptr_null(registry_unstored(registry, &(size_t){ 0 }));

	/* the same process, heard again: no epoch */
	ck_assert_int_eq(registry_register(registry, &up.target, 1, T0 + HEARTBEAT), 0);
	ck_assert_uint_eq(epoch(registry), 7);
	registry_tick(registry, T0 + SILENCE);
	ck_assert_int_eq(state(registry, 0), STRAKE__TARGET_STATE__TARGET_UP);

	/* one that was only remembered does not keep its own successor out */
	registry_free(registry);
	registry = make();
	ck_assert_int_eq(registry_restore(registry, &up.target, T0), 0);
	ck_assert_int_eq(registry_register(registry, ost_is(&successor, 'a', 0, 50), 1, T0 + MS), 0);
	ck_assert_uint_eq(epoch(registry), 8);
	registry_free(registry);
}
END_TEST

START_TEST(restored_and_never_heard_is_down)
{
	struct registry *registry = make();
	struct server server;

	ck_assert_int_eq(registry_restore(registry, ost_is(&server, 'a', 0, 11), T0), 0);
	registry_tick(registry, T0 + SILENCE);
	ck_assert_int_eq(state(registry, 0), STRAKE__TARGET_STATE__TARGET_DOWN);
	ck_assert_uint_eq(epoch(registry), 8);
	registry_free(registry);
}
END_TEST

static Strake__Target *mdt_is(struct server *server, uint64_t instance, uint64_t log_index)
{
	server_is(server, 'm', STRAKE__TARGET_ROLE__TARGET_MDT, 0, instance);
	server->target.has_log_index = true;
	server->target.log_index = log_index;
	return &server->target;
}

static int mdt_tells(struct registry *registry, struct server *server, uint64_t instance, uint64_t log_index,
		     uint64_t conn)
{
	return registry_register(registry, mdt_is(server, instance, log_index), conn, T0);
}

START_TEST(an_older_copy_is_refused)
{
	struct registry *registry = make();
	struct server mdt;

	ck_assert_int_eq(mdt_tells(registry, &mdt, 11, 100, 1), 0);
	registry_stored(registry, false);
	ck_assert_ptr_null(registry_unstored_log(registry, &(size_t){ 0 }));

	/* That it grows makes no epoch, but is to be stored some time; with all else at once. */
	ck_assert_int_eq(mdt_tells(registry, &mdt, 11, 200, 1), 0);
	ck_assert_uint_eq(epoch(registry), 8);
	ck_assert_ptr_null(registry_unstored(registry, &(size_t){ 0 }));
	ck_assert_ptr_nonnull(registry_unstored_log(registry, &(size_t){ 0 }));
	registry_stored(registry, false);
	ck_assert_ptr_nonnull(registry_unstored_log(registry, &(size_t){ 0 }));
	registry_stored(registry, true);
	ck_assert_ptr_null(registry_unstored_log(registry, &(size_t){ 0 }));
	mdt.target.state = STRAKE__TARGET_STATE__TARGET_FULL;
	mdt.target.log_index = 300;
	ck_assert_int_eq(registry_register(registry, &mdt.target, 1, T0), 0);
	ck_assert_ptr_nonnull(registry_unstored(registry, &(size_t){ 0 }));
	ck_assert_ptr_null(registry_unstored_log(registry, &(size_t){ 0 }));
	registry_stored(registry, false);
	ck_assert_ptr_null(registry_unstored_log(registry, &(size_t){ 0 }));

	/* A copy of one that lives is that first of all. */
	ck_assert_int_eq(mdt_tells(registry, &mdt, 12, 299, 2), -EBUSY);
	registry_conn_lost(registry, 1, T0);
	ck_assert_int_eq(mdt_tells(registry, &mdt, 12, 299, 2), -ESTALE);
	ck_assert_int_eq(mdt_tells(registry, &mdt, 12, 299, 2), -ESTALE);
	ck_assert_uint_eq(registry_map(registry)->target[0]->instance, 11);
	ck_assert_uint_eq(registry_map(registry)->target[0]->log_index, 300);
	registry_tick(registry, T0 + COMEBACK);
	ck_assert_int_eq(mdt_tells(registry, &mdt, 12, 0, 2), -ESTALE);
	ck_assert_int_eq(mdt_tells(registry, &mdt, 12, 300, 2), 0);
	registry_free(registry);

	/* The same after a restart; but it goes on as the instance that it was, however long its log is by now. */
	registry = make();
	ck_assert_int_eq(registry_restore(registry, &mdt.target, T0), 0);
	ck_assert_int_eq(mdt_tells(registry, &mdt, 13, 299, 1), -ESTALE);
	ck_assert_int_eq(mdt_tells(registry, &mdt, 12, 299, 1), 0);
	registry_conn_lost(registry, 1, T0);

	/* What the operator says. The next one is measured by what he took. */
	ck_assert_int_eq(mdt_tells(registry, &mdt, 13, 50, 2), -ESTALE);
	ck_assert_int_eq(registry_register_older(registry, &mdt.target, 2, T0), 0);
	ck_assert_uint_eq(registry_map(registry)->target[0]->log_index, 50);
	registry_conn_lost(registry, 2, T0);
	ck_assert_int_eq(mdt_tells(registry, &mdt, 14, 49, 3), -ESTALE);
	registry_free(registry);
}
END_TEST

/* What the operator says of a copy is nothing to the one that lives: it dies with all that it has told. */
START_TEST(an_older_copy_takes_nothing_from_one_that_lives)
{
	struct registry *registry = make();
	struct server mdt, copy;

	ck_assert_int_eq(mdt_tells(registry, &mdt, 11, 300, 1), 0);
	registry_stored(registry, true);
	ck_assert_int_eq(registry_register_older(registry, mdt_is(&copy, 12, 50), 2, T0), -EBUSY);
	ck_assert_uint_eq(registry_map(registry)->target[0]->log_index, 300);
	registry_conn_lost(registry, 1, T0);
	registry_tick(registry, T0 + COMEBACK);
	ck_assert_int_eq(state(registry, 0), STRAKE__TARGET_STATE__TARGET_DOWN);
	ck_assert_int_eq(mdt_tells(registry, &copy, 13, 50, 3), -ESTALE);

	/* Nor is a refusal for another reason. */
	server_is(&copy, 'm', STRAKE__TARGET_ROLE__TARGET_MDT, 1, 14);
	ck_assert_int_eq(registry_register_older(registry, &copy.target, 3, T0), -EINVAL);
	ck_assert_uint_eq(registry_map(registry)->target[0]->log_index, 300);
	ck_assert_int_eq(mdt_tells(registry, &mdt, 15, 300, 4), 0);
	registry_free(registry);
}
END_TEST

/* Restored from a backup: it goes on above what others have heard of, and that is stored before it is told. */
START_TEST(an_epoch_from_outside_is_passed)
{
	struct registry *registry = make();
	struct server server;

	ck_assert_int_eq(registry_register(registry, ost_is(&server, 'a', 0, 11), 1, T0), 0);
	registry_stored(registry, true);
	ck_assert(!registry_heard_epoch(registry, &server.target, 0));
	ck_assert(!registry_heard_epoch(registry, &server.target, 8));
	ck_assert_uint_eq(epoch(registry), 8);
	ck_assert_ptr_null(registry_unstored(registry, &(size_t){ 0 }));
	ck_assert(registry_heard_epoch(registry, &server.target, 9));
	ck_assert_uint_eq(epoch(registry), 10);
	ck_assert_ptr_nonnull(registry_unstored(registry, &(size_t){ 0 }));
	ck_assert(!registry_heard_epoch(registry, &server.target, 9));
	ck_assert(!registry_heard_epoch(registry, &server.target, UINT64_MAX)); /* nothing lies above that */
	registry_free(registry);
}
END_TEST

START_TEST(own_sleep_is_nobodys_silence)
{
	struct registry *registry = make();
	struct server server;
	uint64_t late = T0 + SILENCE + 60000 * MS;

	ck_assert_int_eq(registry_register(registry, ost_is(&server, 'a', 0, 11), 1, T0), 0);
	registry_tick(registry, late);
	ck_assert_int_eq(state(registry, 0), STRAKE__TARGET_STATE__TARGET_UP);
	ck_assert_uint_gt(registry_due_ns(registry), late);
	registry_tick(registry, registry_due_ns(registry));
	ck_assert_int_eq(state(registry, 0), STRAKE__TARGET_STATE__TARGET_DOWN);
	registry_free(registry);
}
END_TEST

START_TEST(nonsense_is_refused)
{
	struct registry *registry = make();
	struct server server;
	char wildcard[] = "0.0.0.0:9402", no_port[] = "10.0.0.1:0", long_name[300];

	ost_is(&server, 'a', 0, 11);
	server.target.uuid.len = 15;
	ck_assert_int_eq(registry_register(registry, &server.target, 1, T0), -EINVAL);
	ost_is(&server, 0, 0, 11);
	ck_assert_int_eq(registry_register(registry, &server.target, 1, T0), -EINVAL);
	ost_is(&server, 'a', 0, 0);
	ck_assert_int_eq(registry_register(registry, &server.target, 1, T0), -EINVAL);
	ost_is(&server, 'a', REGISTRY_INDEX_MAX + 1u, 11);
	ck_assert_int_eq(registry_register(registry, &server.target, 1, T0), -EINVAL);
	server_is(&server, 'a', STRAKE__TARGET_ROLE__TARGET_MGS, 0, 11);
	ck_assert_int_eq(registry_register(registry, &server.target, 1, T0), -EINVAL);
	ost_is(&server, 'a', 0, 11)->state = STRAKE__TARGET_STATE__TARGET_DOWN;
	ck_assert_int_eq(registry_register(registry, &server.target, 1, T0), -EINVAL);
	ost_is(&server, 'a', 0, 11)->state = (Strake__TargetState)77;
	ck_assert_int_eq(registry_register(registry, &server.target, 1, T0), -EINVAL);
	ost_is(&server, 'a', 0, 11)->n_address = 0;
	ck_assert_int_eq(registry_register(registry, &server.target, 1, T0), -EINVAL);
	ost_is(&server, 'a', 0, 11);
	server.addresses[0] = wildcard;
	ck_assert_int_eq(registry_register(registry, &server.target, 1, T0), -EINVAL);
	server.addresses[0] = no_port;
	ck_assert_int_eq(registry_register(registry, &server.target, 1, T0), -EINVAL);
	ost_is(&server, 'a', 0, 11)->hostname = memset(long_name, 'x', sizeof(long_name));
	long_name[sizeof(long_name) - 1] = '\0';
	ck_assert_int_eq(registry_register(registry, &server.target, 1, T0), -EINVAL);
	ck_assert_uint_eq(registry_map(registry)->n_target, 0);
	ck_assert_uint_eq(epoch(registry), 7);
	registry_free(registry);
}
END_TEST

START_TEST(holds_many)
{
	struct registry *registry = make();
	struct server server;

	for (uint32_t i = 0; i <= REGISTRY_TARGETS_MAX; i++) {
		uint32_t index = (i * 7919) % (REGISTRY_TARGETS_MAX + 1);
		int err;

		ost_is(&server, 'a', index, i + 1);
		memcpy(server.uuid, &index, sizeof(index));
		err = registry_register(registry, &server.target, i + 1, T0);
		ck_assert_int_eq(err, i < REGISTRY_TARGETS_MAX ? 0 : -ENOSPC);
	}
	for (size_t i = 1; i < registry_map(registry)->n_target; i++)
		ck_assert_uint_lt(registry_map(registry)->target[i - 1]->index,
				  registry_map(registry)->target[i]->index);
	registry_free(registry);
}
END_TEST

UNIT_MAIN("registry", registers_and_orders, heartbeats_change_no_epoch, every_other_change_is_an_epoch, silence_is_down,
	  lost_connection_is_down_soon, lost_connection_that_returns_is_nothing, index_belongs_to_one_for_ever,
	  second_living_instance_is_refused, silent_instance_is_replaced, restored_counts_as_it_was_for_a_while,
	  restored_and_never_heard_is_down, an_older_copy_is_refused, an_older_copy_takes_nothing_from_one_that_lives,
	  an_epoch_from_outside_is_passed, own_sleep_is_nobodys_silence, nonsense_is_refused, holds_many)
