/* Servers and clients against a real MGS, all on one loop: what is awaited is awaited by its sign, up to a deadline. */
#include "common/fiber.h"
#include "common/mgs_client.h"
#include "common/peer.h"
#include "common/service.h"
#include "mgs/mgs.h"
#include "tests/unit/quick_time.h"
#include "tests/unit/temp_dir.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PATIENCE_MS 20000

static char dir[PATH_MAX];
static struct loop *loop;
static struct mgs *mgs;
static struct identity identity;
static struct key key;
static struct address_list listen_list, mgs_list;

/* --- an MGS ----------------------------------------------------------------------------------------------------- */

static void start_mgs(void)
{
	struct mgs_config config = { .data_dir = dir, .identity = &identity, .key = &key, .listen = &listen_list };
	char error[256], address[ADDRESS_SIZE];

	ck_assert_msg(mgs_new(loop, &config, &mgs, address, error, sizeof(error)) == 0, "%s", error);
	/* the same port when it comes again */
	ck_assert_int_eq(address_list_parse(address, ADDRESS_PORT_DEFAULT, &listen_list), 0);
	mgs_list = listen_list;
}

static void stop_mgs(void)
{
	mgs = mgs_free(mgs);
}

/* Run the test's body as a fiber, with an MGS on a port of its own. */
static void run(void (*body)(void *arg))
{
	temp_dir_make(dir);
	key_make(&key);
	uuid_make(&identity.fs);
	uuid_make(&identity.target);
	identity.role = ROLE_MGS;
	strcpy(identity.fs_name, "test");
	listen_list = (struct address_list){ .count = 1, .text = { "127.0.0.1:0" } };

	ck_assert_int_eq(loop_new(&loop), 0);
	start_mgs();
	ck_assert_int_eq(fiber_start(loop, body, NULL), 0);
	ck_assert_int_eq(loop_run(loop), 0);
	stop_mgs();
	loop_free(loop);
	temp_dir_remove(dir);
}

/* The body's end: what was freed has a moment to end its fibers. */
static void finish(void)
{
	fiber_sleep_ms(20);
	loop_stop(loop);
}

/* --- its clients ------------------------------------------------------------------------------------------------ */

struct side {
	struct mgs_client *client;
	unsigned int maps; /* how many it was told */
	int refused;
	uint64_t bytes_free;
	uint64_t log_index; /* of an MDT */
	bool older;
};

static void side_map(void *owner, const Strake__ClusterMap *map)
{
	struct side *side = owner;

	(void)map;
	side->maps++;
}

static void side_capacity(void *owner, struct mgs_capacity *ret_capacity)
{
	struct side *side = owner;

	*ret_capacity = (struct mgs_capacity){ .bytes_total = 1000,
					       .bytes_free = side->bytes_free,
					       .log_index = side->log_index };
}

static int side_reachable(void *owner, const char *preferred, struct address_list *ret_list)
{
	(void)owner;
	return address_reachable("0.0.0.0", 4711, preferred, ret_list);
}

static void side_refused(void *owner, int err, const char *text)
{
	struct side *side = owner;

	ck_assert_str_ne(text, "");
	side->refused = err;
}

/* What side->log_index and side->older say is the caller's. */
static void side_open(struct side *side, enum role role, uint32_t index, const struct uuid *uuid,
		      const struct key *with_key)
{
	struct mgs_client_config config = {
		.mgs = mgs_list,
		.key = with_key,
		.own_role = role,
		.own_uuid = *uuid,
		.index = index,
		.older = side->older,
		.owner = side,
		.map_changed = side_map,
		.reachable = side_reachable,
		.capacity = role == ROLE_CLIENT ? NULL : side_capacity,
		.refused = side_refused,
	};

	*side = (struct side){ .bytes_free = 500, .log_index = side->log_index, .older = side->older };
	ck_assert_int_eq(mgs_client_new(loop, &config, &side->client), 0);
}

static void side_start(struct side *side, enum role role, uint32_t index, const struct uuid *uuid,
		       const struct key *with_key)
{
	*side = (struct side){ .log_index = 0 };
	side_open(side, role, index, uuid, with_key);
}

/* An MDT whose log ends there. */
static void side_start_mdt(struct side *side, const struct uuid *uuid, uint64_t log_index, bool older)
{
	*side = (struct side){ .log_index = log_index, .older = older };
	side_open(side, ROLE_MDT, 0, uuid, &key);
}

static struct uuid new_uuid(void)
{
	struct uuid uuid;

	uuid_make(&uuid);
	return uuid;
}

static void side_stop(struct side *side)
{
	side->client = mgs_client_free(side->client);
}

static const Strake__Target *ost_of(const struct side *side, uint32_t index)
{
	const Strake__ClusterMap *map = mgs_client_map(side->client);

	return map ? cluster_map_find(map, ROLE_OST, index) : NULL;
}

#define AWAIT(condition)                                                                    \
	do {                                                                                \
		uint64_t deadline_ns = clock_ns() + PATIENCE_MS * NSEC_PER_MSEC;            \
                                                                                            \
		while (!(condition)) {                                                      \
			ck_assert_msg(clock_ns() < deadline_ns, "never came: " #condition); \
			fiber_sleep_ms(1);                                                  \
		}                                                                           \
	} while (0)

/* --- tests ------------------------------------------------------------------------------------------------------ */

static void registers_body(void *arg)
{
	struct uuid one = new_uuid(), two = new_uuid(), mount = new_uuid();
	struct side ost, other, client;
	const Strake__Target *target;
	uint64_t epoch;

	(void)arg;
	side_start(&ost, ROLE_OST, 3, &one, &key);
	ck_assert_int_eq(mgs_client_wait(ost.client, PATIENCE_MS), 0);
	ck_assert_ptr_nonnull(ost_of(&ost, 3));

	side_start(&client, ROLE_CLIENT, 0, &mount, &key);
	ck_assert_int_eq(mgs_client_wait(client.client, PATIENCE_MS), 0);
	target = ost_of(&client, 3);
	ck_assert_ptr_nonnull(target);
	ck_assert_mem_eq(target->uuid.data, one.bytes, UUID_SIZE);
	ck_assert_int_eq(target->state, STRAKE__TARGET_STATE__TARGET_UP);
	/* it listens on the wildcard, which is nobody's address */
	ck_assert_str_eq(target->address[0], "127.0.0.1:4711");
	ck_assert_uint_eq(target->bytes_free, 500);
	ck_assert_uint_eq(target->pid, (uint32_t)getpid());
	ck_assert_str_eq(mgs_client_map(client.client)->fs_name, "test");

	/* a change comes without being asked for */
	epoch = mgs_client_map(client.client)->epoch;
	side_start(&other, ROLE_OST, 4, &two, &key);
	AWAIT(ost_of(&client, 4));
	ck_assert_uint_gt(mgs_client_map(client.client)->epoch, epoch);
	ck_assert_uint_ge(client.maps, 2);

	side_stop(&client);
	side_stop(&ost);
	side_stop(&other);
	finish();
}

START_TEST(registers_and_hears_of_changes)
{
	run(registers_body);
}
END_TEST

static void capacity_body(void *arg)
{
	struct uuid one = new_uuid(), two = new_uuid(), mount = new_uuid();
	struct side ost, mdt, client;
	uint64_t epoch;

	(void)arg;
	side_start(&mdt, ROLE_MDT, 0, &two, &key);
	side_start(&client, ROLE_CLIENT, 0, &mount, &key);
	side_start(&ost, ROLE_OST, 0, &one, &key);
	AWAIT(ost_of(&mdt, 0) && ost_of(&client, 0));
	epoch = mgs_client_map(mdt.client)->epoch;
	ost.bytes_free = 123;
	AWAIT(ost_of(&mdt, 0)->bytes_free == 123);
	/* Nobody else is told: once more, so that it would have come by now. */
	ost.bytes_free = 124;
	AWAIT(ost_of(&mdt, 0)->bytes_free == 124);
	ck_assert_uint_eq(ost_of(&client, 0)->bytes_free, 500);
	ck_assert_uint_eq(mgs_client_map(mdt.client)->epoch, epoch);
	side_stop(&client);
	side_stop(&mdt);
	side_stop(&ost);
	finish();
}

START_TEST(free_space_reaches_the_mdt)
{
	run(capacity_body);
}
END_TEST

static void down_body(void *arg)
{
	struct uuid one = new_uuid(), mount = new_uuid();
	struct side ost, client;

	(void)arg;
	side_start(&ost, ROLE_OST, 0, &one, &key);
	side_start(&client, ROLE_CLIENT, 0, &mount, &key);
	AWAIT(ost_of(&client, 0));
	side_stop(&ost);
	AWAIT(ost_of(&client, 0)->state == STRAKE__TARGET_STATE__TARGET_DOWN);
	side_start(&ost, ROLE_OST, 0, &one, &key);
	AWAIT(ost_of(&client, 0)->state == STRAKE__TARGET_STATE__TARGET_UP);
	side_stop(&ost);
	side_stop(&client);
	finish();
}

START_TEST(a_lost_server_is_down_and_comes_back)
{
	run(down_body);
}
END_TEST

static void taken_body(void *arg)
{
	struct uuid one = new_uuid(), two = new_uuid();
	struct side ost, other;

	(void)arg;
	side_start(&ost, ROLE_OST, 0, &one, &key);
	ck_assert_int_eq(mgs_client_wait(ost.client, PATIENCE_MS), 0);
	side_start(&other, ROLE_OST, 0, &two, &key);
	ck_assert_int_eq(mgs_client_wait(other.client, PATIENCE_MS), -EPERM);
	ck_assert_int_eq(other.refused, -EEXIST);
	ck_assert_ptr_nonnull(strstr(mgs_client_last_error(other.client), "index 0"));
	side_stop(&ost);
	side_stop(&other);
	finish();
}

START_TEST(a_taken_index_is_refused_for_good)
{
	run(taken_body);
}
END_TEST

static void twin_body(void *arg)
{
	struct uuid one = new_uuid();
	struct side ost, twin;

	(void)arg;
	side_start(&ost, ROLE_OST, 0, &one, &key);
	ck_assert_int_eq(mgs_client_wait(ost.client, PATIENCE_MS), 0);
	side_start(&twin, ROLE_OST, 0, &one, &key);
	ck_assert_int_eq(mgs_client_wait(twin.client, 300), -ETIMEDOUT);
	ck_assert_int_eq(twin.refused, 0); /* not yet: the first may be about to be found dead */
	side_stop(&ost);
	ck_assert_int_eq(mgs_client_wait(twin.client, PATIENCE_MS), 0);
	side_stop(&twin);
	finish();
}

START_TEST(a_second_instance_waits_for_the_first_to_go)
{
	run(twin_body);
}
END_TEST

static void copy_body(void *arg)
{
	struct uuid one = new_uuid();
	struct side ost, copy;

	(void)arg;
	side_start(&ost, ROLE_OST, 0, &one, &key);
	ck_assert_int_eq(mgs_client_wait(ost.client, PATIENCE_MS), 0);
	side_start(&copy, ROLE_OST, 0, &one, &key);
	ck_assert_int_eq(mgs_client_wait(copy.client, PATIENCE_MS), -EPERM);
	ck_assert_int_eq(copy.refused, -EBUSY);
	ck_assert_ptr_nonnull(strstr(mgs_client_last_error(copy.client), "is alive"));
	ck_assert_int_eq(ost.refused, 0);
	side_stop(&ost);
	side_stop(&copy);
	finish();
}

/* Takes its time: 12 s, in which the first one could have been found dead. */
START_TEST(a_second_instance_is_refused_in_the_end)
{
	run(copy_body);
}
END_TEST

static void key_body(void *arg)
{
	struct uuid mount = new_uuid();
	struct side client;
	struct key wrong;

	(void)arg;
	key_make(&wrong);
	side_start(&client, ROLE_CLIENT, 0, &mount, &wrong);
	ck_assert_int_eq(mgs_client_wait(client.client, PATIENCE_MS), -EKEYREJECTED);
	ck_assert_str_ne(mgs_client_last_error(client.client), "");
	side_stop(&client);
	finish();
}

START_TEST(a_wrong_key_is_told_at_once)
{
	run(key_body);
}
END_TEST

static void restart_body(void *arg)
{
	struct uuid one = new_uuid(), two = new_uuid(), mount = new_uuid();
	struct side ost, later, client;
	uint64_t epoch;

	(void)arg;
	side_start(&ost, ROLE_OST, 0, &one, &key);
	side_start(&client, ROLE_CLIENT, 0, &mount, &key);
	AWAIT(ost_of(&client, 0));
	epoch = mgs_client_map(client.client)->epoch;

	stop_mgs();
	fiber_sleep_ms(50);
	ck_assert_uint_eq(mgs_client_map(client.client)->epoch, epoch); /* the last map stays in force */
	start_mgs();
	/* both come back by themselves; the OST was never away */
	side_start(&later, ROLE_OST, 1, &two, &key);
	AWAIT(ost_of(&client, 1));
	ck_assert_int_eq(ost_of(&client, 0)->state, STRAKE__TARGET_STATE__TARGET_UP);
	ck_assert_uint_eq(mgs_client_map(client.client)->epoch, epoch + 1);
	side_stop(&ost);
	side_stop(&later);
	side_stop(&client);
	finish();
}

START_TEST(an_mgs_restart_takes_nobody_away)
{
	run(restart_body);
}
END_TEST

static void stored_body(void *arg)
{
	struct uuid one = new_uuid(), mount = new_uuid(), other = new_uuid();
	struct side ost, client, next;
	uint64_t epoch;

	(void)arg;
	side_start(&client, ROLE_CLIENT, 0, &mount, &key);
	side_start(&ost, ROLE_OST, 0, &one, &key);
	AWAIT(ost_of(&client, 0));
	epoch = mgs_client_map(client.client)->epoch;

	/* In the moment it was told, and without the server that could tell it again. */
	stop_mgs();
	side_stop(&ost);
	start_mgs();
	side_start(&next, ROLE_CLIENT, 0, &other, &key);
	AWAIT(mgs_client_map(next.client));
	ck_assert_uint_eq(mgs_client_map(next.client)->epoch, epoch);
	ck_assert_ptr_nonnull(ost_of(&next, 0));
	ck_assert_mem_eq(ost_of(&next, 0)->uuid.data, one.bytes, UUID_SIZE);
	side_stop(&client);
	side_stop(&next);
	finish();
}

START_TEST(what_was_told_is_stored)
{
	run(stored_body);
}
END_TEST

/* As the MGS knows it just now. */
static uint64_t log_of_mdt(void)
{
	struct uuid mount = new_uuid();
	const Strake__Target *target;
	struct side client;
	uint64_t log_index;

	side_start(&client, ROLE_CLIENT, 0, &mount, &key);
	ck_assert_int_eq(mgs_client_wait(client.client, PATIENCE_MS), 0);
	target = cluster_map_find(mgs_client_map(client.client), ROLE_MDT, 0);
	log_index = target ? target->log_index : 0;
	side_stop(&client);
	return log_index;
}

static void older_body(void *arg)
{
	struct uuid one = new_uuid();
	struct side mdt, copy;

	(void)arg;
	side_start_mdt(&mdt, &one, 100, false);
	ck_assert_int_eq(mgs_client_wait(mdt.client, PATIENCE_MS), 0);
	mdt.log_index = 5000; /* with its next word */
	AWAIT(log_of_mdt() == 5000);
	side_stop(&mdt);
	/* Also when nothing has changed since but that. */
	stop_mgs();
	start_mgs();

	side_start_mdt(&copy, &one, 4999, false);
	ck_assert_int_eq(mgs_client_wait(copy.client, PATIENCE_MS), -EPERM);
	ck_assert_int_eq(copy.refused, -ESTALE);
	ck_assert_uint_eq(copy.maps, 0);
	ck_assert_ptr_nonnull(strstr(mgs_client_last_error(copy.client), "ends at record 4999"));
	ck_assert_ptr_nonnull(strstr(mgs_client_last_error(copy.client), "record 5000 before"));
	ck_assert_ptr_nonnull(strstr(mgs_client_last_error(copy.client), "--go-on-from 4999"));
	side_stop(&copy);

	side_start_mdt(&copy, &one, 4999, true);
	ck_assert_int_eq(mgs_client_wait(copy.client, PATIENCE_MS), 0);
	side_stop(&copy);
	side_start_mdt(&mdt, &one, 4999, false);
	ck_assert_int_eq(mgs_client_wait(mdt.client, PATIENCE_MS), 0);
	side_stop(&mdt);
	finish();
}

START_TEST(an_older_copy_of_an_mdt_is_refused)
{
	run(older_body);
}
END_TEST

/* --- by hand ------------------------------------------------------------------------------------------------------ */

static void count_push(void *owner, uint16_t opcode, const ProtobufCMessage *message)
{
	(void)opcode;
	(void)message;
	++*(unsigned int *)owner;
}

static struct peer *peer_as(enum role role, const struct uuid *uuid, unsigned int *pushes)
{
	const char *addresses[] = { mgs_list.text[0] };
	struct peer_config config = {
		.role = ROLE_MGS,
		.own_role = role,
		.own_uuid = *uuid,
		.key = &key,
		.addresses = addresses,
		.address_count = 1,
		.owner = pushes,
		.push = count_push,
	};
	struct peer *peer;

	ck_assert_int_eq(peer_new(loop, &config, &peer), 0);
	return peer;
}

static int register_by(struct peer *peer, const struct uuid *uuid, Strake__TargetRole role)
{
	Strake__RegisterRequest request = STRAKE__REGISTER_REQUEST__INIT;
	Strake__Target target = STRAKE__TARGET__INIT;
	struct call call = { .opcode = OP_REGISTER, .request = &request.base };
	char *addresses[] = { (char[]){ "127.0.0.1:4711" } };
	int err;

	target.uuid = (ProtobufCBinaryData){ .data = (uint8_t *)(uintptr_t)uuid->bytes, .len = UUID_SIZE };
	target.role = role;
	target.n_address = 1;
	target.address = addresses;
	target.instance = 1;
	request.target = &target;
	err = peer_call(peer, &call);
	ck_assert(call.answered);
	call_release(&call);
	return err;
}

static int ask_map(struct peer *peer)
{
	Strake__MapRequest request = STRAKE__MAP_REQUEST__INIT;
	struct call call = { .opcode = OP_MAP, .request = &request.base };
	int err = peer_call(peer, &call);

	call_release(&call);
	return err;
}

/* Who registers is who has connected; who has not subscribed is told nothing. */
static void strangers_body(void *arg)
{
	const Strake__TargetRole ost = STRAKE__TARGET_ROLE__TARGET_OST, mdt = STRAKE__TARGET_ROLE__TARGET_MDT;
	struct uuid one = new_uuid(), two = new_uuid(), mount = new_uuid();
	unsigned int pushes = 0;
	struct peer *server = peer_as(ROLE_OST, &one, &pushes), *client = peer_as(ROLE_CLIENT, &one, &pushes);
	struct side side;

	(void)arg;
	ck_assert_int_eq(ask_map(client), 0);
	side_start(&side, ROLE_CLIENT, 0, &mount, &key);
	AWAIT(mgs_client_map(side.client));
	ck_assert_int_eq(register_by(client, &one, ost), -EPERM);
	ck_assert_int_eq(register_by(server, &two, ost), -EPERM);
	ck_assert_int_eq(register_by(server, &one, mdt), -EPERM);
	ck_assert_uint_eq(mgs_client_map(side.client)->n_target, 0);
	ck_assert_int_eq(register_by(server, &one, ost), 0);
	AWAIT(ost_of(&side, 0));
	ck_assert_int_eq(ask_map(client), 0);
	ck_assert_uint_eq(pushes, 0);
	peer_free(server);
	peer_free(client);
	side_stop(&side);
	finish();
}

START_TEST(strangers_are_told_and_believed_nothing)
{
	run(strangers_body);
}
END_TEST

/* An MGS made by hand: it tells the map that the test likes. */
static Strake__ClusterMap told;

static void tell_map(void *owner, struct request *request)
{
	Strake__MapReply reply = STRAKE__MAP_REPLY__INIT;

	(void)owner;
	ck_assert_uint_eq(request->header.opcode, OP_MAP);
	reply.map = &told;
	service_reply(request, &(struct reply){ .body = &reply.base });
}

static void push_told(struct service_conn *conn, void *arg)
{
	(void)arg;
	service_push(conn, OP_MAP_PUSH, &told.base);
}

/* What is said from now on; the descriptor is for stderr_give_back(). */
static int stderr_take(void)
{
	FILE *file = tmpfile();
	int before = dup(STDERR_FILENO);

	ck_assert_ptr_nonnull(file);
	ck_assert_int_ge(dup2(fileno(file), STDERR_FILENO), 0);
	fclose(file);
	return before;
}

/* How often was that said? */
static unsigned int stderr_give_back(int before, const char *words)
{
	char text[8192];
	ssize_t size = pread(STDERR_FILENO, text, sizeof(text) - 1, 0);
	unsigned int count = 0;

	ck_assert_int_ge(size, 0);
	text[size] = '\0';
	for (const char *at = text; (at = strstr(at, words)) != NULL; at++)
		count++;
	ck_assert_int_ge(dup2(before, STDERR_FILENO), 0);
	close(before);
	return count;
}

static void maps_body(void *arg)
{
	struct uuid fs = new_uuid(), other_fs = new_uuid(), ost_uuid = new_uuid(), mount = new_uuid();
	Strake__Target target = STRAKE__TARGET__INIT, *targets[] = { &target };
	char *addresses[] = { (char[]){ "127.0.0.1:4711" } };
	struct service *service;
	struct side client;
	uint16_t port;
	int said;

	(void)arg;
	strake__cluster_map__init(&told);
	told.fs_uuid = (ProtobufCBinaryData){ .data = fs.bytes, .len = UUID_SIZE };
	told.fs_name = (char[]){ "test" };
	told.epoch = 7;
	told.target = targets;
	told.n_target = 1;
	target.uuid = (ProtobufCBinaryData){ .data = ost_uuid.bytes, .len = UUID_SIZE };
	target.role = STRAKE__TARGET_ROLE__TARGET_OST;
	target.n_address = 1;
	target.address = addresses;
	ck_assert_int_eq(
		service_new(loop,
			    &(struct service_config){
				    .fs = fs, .target = new_uuid(), .role = ROLE_MGS, .key = &key, .handle = tell_map },
			    &service),
		0);
	ck_assert_int_eq(service_listen(service, "127.0.0.1:0", &port), 0);
	snprintf(mgs_list.text[0], sizeof(mgs_list.text[0]), "127.0.0.1:%u", port);
	side_start(&client, ROLE_CLIENT, 0, &mount, &key);
	AWAIT(client.maps == 1);

	said = stderr_take();
	/* Out of date, twice; another filesystem's; one that makes no sense. Then a good one: so those before have come. */
	told.epoch = 6;
	service_each_conn(service, push_told, NULL);
	service_each_conn(service, push_told, NULL);
	told.epoch = 8;
	told.fs_uuid.data = other_fs.bytes;
	service_each_conn(service, push_told, NULL);
	told.fs_uuid.data = fs.bytes;
	target.uuid.len = 3;
	service_each_conn(service, push_told, NULL);
	target.uuid.len = UUID_SIZE;
	told.epoch = 7;
	target.bytes_free = 5;
	service_each_conn(service, push_told, NULL);
	AWAIT(ost_of(&client, 0)->bytes_free == 5);
	ck_assert_uint_eq(stderr_give_back(said, "a map of epoch 6, older than the one in use, 7"), 1);
	ck_assert_uint_eq(client.maps, 2);
	ck_assert_uint_eq(mgs_client_map(client.client)->epoch, 7);
	ck_assert_mem_eq(mgs_client_map(client.client)->fs_uuid.data, fs.bytes, UUID_SIZE);
	side_stop(&client);
	service_free(service);
	finish();
}

START_TEST(not_every_map_is_believed)
{
	run(maps_body);
}
END_TEST

/* An MGS of before all that its clients know: its backup. */
static void restored_body(void *arg)
{
	struct uuid uuids[3] = { new_uuid(), new_uuid(), new_uuid() }, mount = new_uuid();
	struct side osts[3], client;
	char store[PATH_MAX + 16];
	uint64_t epoch;

	(void)arg;
	side_start(&client, ROLE_CLIENT, 0, &mount, &key);
	for (uint32_t i = 0; i < 3; i++) {
		side_start(&osts[i], ROLE_OST, i, &uuids[i], &key);
		AWAIT(ost_of(&client, i) && ost_of(&osts[0], i));
	}
	side_stop(&osts[2]);
	side_stop(&osts[1]);
	AWAIT(ost_of(&client, 1)->state == STRAKE__TARGET_STATE__TARGET_DOWN &&
	      ost_of(&client, 2)->state == STRAKE__TARGET_STATE__TARGET_DOWN);
	epoch = mgs_client_map(client.client)->epoch;
	stop_mgs();
	snprintf(store, sizeof(store), "%s/map", dir);
	temp_dir_remove(store);
	start_mgs();
	AWAIT(mgs_client_map(client.client)->epoch > epoch);
	ck_assert_uint_eq(mgs_client_map(client.client)->n_target, 1);
	AWAIT(mgs_client_map(osts[0].client)->epoch > epoch);
	side_stop(&osts[0]);
	side_stop(&client);
	finish();
}

START_TEST(a_restored_mgs_goes_on_above)
{
	run(restored_body);
}
END_TEST

static void late_body(void *arg)
{
	struct uuid mount = new_uuid();
	struct side client;

	(void)arg;
	stop_mgs();
	side_start(&client, ROLE_CLIENT, 0, &mount, &key);
	ck_assert_int_eq(mgs_client_wait(client.client, 100), -ETIMEDOUT);
	start_mgs();
	ck_assert_int_eq(mgs_client_wait(client.client, PATIENCE_MS), 0);
	side_stop(&client);
	finish();
}

START_TEST(waits_for_an_mgs_that_comes_later)
{
	run(late_body);
}
END_TEST

UNIT_MAIN("mgs_client", registers_and_hears_of_changes, free_space_reaches_the_mdt,
	  a_lost_server_is_down_and_comes_back, a_taken_index_is_refused_for_good,
	  a_second_instance_waits_for_the_first_to_go, a_second_instance_is_refused_in_the_end,
	  a_wrong_key_is_told_at_once, an_mgs_restart_takes_nobody_away, what_was_told_is_stored,
	  an_older_copy_of_an_mdt_is_refused, strangers_are_told_and_believed_nothing, not_every_map_is_believed,
	  a_restored_mgs_goes_on_above, waits_for_an_mgs_that_comes_later)
