/* A connection's life: where it goes to, who is refused, its hooks, pushes, and what ends with it. */
#include "proto/common.pb-c.h"
#include "proto/mgs.pb-c.h"
#include "tests/unit/wire_fixture.h"

#define WELCOME_NONCE_AT 48

static void client_pushed(void *owner, uint16_t opcode, const ProtobufCMessage *message)
{
	struct client *client = owner;

	/* MAP_PUSH needs no field here: what counts is that it comes. */
	assert(opcode == OP_MAP_PUSH && message != NULL);
	client->pushed++;
}

static int client_connected(void *owner, struct peer *peer)
{
	struct client *client = owner;
	int result = client->hook_result; /* as it was when this connection came */

	client->connected++;
	assert(!peer_is_connected(peer));
	assert(echo(peer, 1, NULL, NULL, 0, 3) == 0);
	return result;
}

static void push_to(struct service_conn *conn, void *arg)
{
	Strake__Empty message = STRAKE__EMPTY__INIT;

	(void)arg;
	assert(strncmp(service_conn_name(conn), "client 127.0.0.1:", 17) == 0);
	assert(uuid_equal(service_conn_uuid(conn), &own_uuid));
	service_push(conn, OP_PING, &message.base);
}

static void body_hook(struct world *world)
{
	const char *address = world->server.address;
	struct client client = client_of(world->loop, &address, 1);
	struct hold hold = { .call = { .attempt_ms = 100 } };
	char host[64];

	peer_free(client.peer);
	client.config.owner = &client;
	client.config.connected = client_connected;
	client.config.lost = client_lost;
	client.config.push = client_pushed;
	assert(peer_new(world->loop, &client.config, &client.peer) == 0);
	assert(peer_local_host(client.peer, host, sizeof(host)) == -ENOTCONN);

	/* The hook does not like the connection: nobody else gets it. */
	client.hook_result = -EAGAIN;
	hold_start(&hold, world->loop, client.peer);
	hold_wait(&hold);
	assert(hold.result == -ETIMEDOUT && world->server.held_count == 0);
	WAIT_FOR(client.connected >= 2);
	assert(client.lost == 0 && strstr(peer_last_error(client.peer), "first calls") != NULL);
	client.hook_result = 0;
	client.connected = 0;
	assert(ping(client.peer) == 0);
	assert(client.connected == 1);
	assert(peer_local_host(client.peer, host, sizeof(host)) == 0 && strcmp(host, "127.0.0.1") == 0);
	assert(uuid_equal(peer_fs(client.peer), &fs_uuid) && uuid_equal(peer_target(client.peer), &target_uuid));

	/* What is no push breaks the protocol. */
	service_each_conn(world->server.service, push_to, NULL);
	WAIT_FOR(client.lost == 1);
	assert(client.pushed == 0);
	assert(ping(client.peer) == 0);
	assert(client.connected == 2);
	server_stop(&world->server);
	WAIT_FOR(client.lost == 2);
	server_start(&world->server);
	WAIT_FOR(peer_is_connected(client.peer)); /* by itself */
	assert(client.connected == 3);
	peer_free(client.peer);
}

START_TEST(the_hook_has_the_connection_first)
{
	on_one_loop((struct service_config){ 0 }, body_hook);
}
END_TEST

/* A hook that waits: its call is held by the server. */
static int hook_holds(void *owner, struct peer *peer)
{
	struct client *client = owner;
	Strake__GlimpseRequest request = STRAKE__GLIMPSE_REQUEST__INIT;
	struct call call = { .opcode = OP_GLIMPSE, .request = &request.base };
	int err;

	request.stripe_size = 65536;
	err = peer_call(peer, &call);
	call_release(&call);
	client->connected++;
	client->hook_result = err;
	return err;
}

static void body_hook_waits(struct world *world)
{
	const char *address = world->server.address;
	struct client client = client_of(world->loop, &address, 1);
	struct hold hold = { 0 }, last = { 0 };

	peer_free(client.peer);
	client.config.owner = &client;
	client.config.connected = hook_holds;
	client.config.lost = client_lost;
	assert(peer_new(world->loop, &client.config, &client.peer) == 0);
	hold_start(&hold, world->loop, client.peer);

	/* The connection goes under its feet: once more, with a new one. */
	WAIT_FOR(world->server.held_count == 1);
	server_stop(&world->server);
	server_release(&world->server);
	WAIT_FOR(client.connected == 1);
	assert(client.hook_result == -ECONNRESET && client.lost == 0 && !hold.over);
	server_start(&world->server);
	WAIT_FOR(world->server.held_count == 1);
	server_release(&world->server);
	WAIT_FOR(peer_is_connected(client.peer) && world->server.held_count == 1);
	server_release(&world->server);
	hold_wait(&hold);
	assert(hold.result == 0 && client.connected == 2);

	/* The peer goes under its feet. */
	server_stop(&world->server);
	WAIT_FOR(client.lost == 1);
	server_start(&world->server);
	hold_start(&last, world->loop, client.peer);
	WAIT_FOR(world->server.held_count == 1);
	peer_free(client.peer);
	assert(client.connected == 3 && client.hook_result == -ECANCELED);
	hold_wait(&last);
	assert(last.result == -ECANCELED);
	server_release(&world->server);
}

START_TEST(the_hook_may_wait)
{
	on_one_loop((struct service_config){ 0 }, body_hook_waits);
}
END_TEST

static void body_push(struct world *world)
{
	const char *address = world->server.address;
	struct client client = client_of(world->loop, &address, 1);
	Strake__ClusterMap map = STRAKE__CLUSTER_MAP__INIT;

	peer_free(client.peer);
	client.config.owner = &client;
	client.config.push = client_pushed;
	assert(peer_new(world->loop, &client.config, &client.peer) == 0);
	map.fs_name = (char[]){ "x" };
	map.fs_uuid = (ProtobufCBinaryData){ sizeof(fs_uuid), fs_uuid.bytes };
	assert(ping(client.peer) == 0);
	for (unsigned int i = 0; i < 100; i++)
		service_each_conn(world->server.service, push_map, &map.base);
	WAIT_FOR(client.pushed == 100);
	peer_free(client.peer);
}

START_TEST(pushes_arrive)
{
	on_one_loop((struct service_config){ 0 }, body_push);
}
END_TEST

static void body_addresses(struct world *world)
{
	char dead[32], named[32];
	const char *addresses[] = { dead, world->server.address };
	const char *name[] = { named };
	struct client client;
	uint16_t port = 0;

	/* A port where nobody listens: one that was free a moment ago. */
	{
		struct service *other;

		assert(service_new(world->loop, &world->server.config, &other) == 0);
		assert(service_listen(other, "127.0.0.1:0", &port) == 0);
		service_free(other);
	}
	snprintf(dead, sizeof(dead), "127.0.0.1:%u", port);
	snprintf(named, sizeof(named), "localhost:%u", world->server.port);

	client = client_of(world->loop, addresses, 2);
	assert(ping(client.peer) == 0);
	peer_free(client.peer);

	client = client_of(world->loop, addresses, 1);
	{
		struct hold hold = { 0 };

		hold_start(&hold, world->loop, client.peer);
		WAIT_FOR(peer_last_error(client.peer)[0] != 0);
		assert(peer_set_addresses(client.peer, name, 1) == 0);
		WAIT_FOR(world->server.held_count == 1);
		server_release(&world->server);
		hold_wait(&hold);
		assert(hold.result == 0);
	}
	peer_free(client.peer);

	client = client_of(world->loop, (const char *[]){ "nowhere.invalid:1" }, 1);
	peer_free(client.peer); /* without ever having been used, */
	client = client_of(world->loop, (const char *[]){ "nowhere.invalid:1" }, 1);
	{
		struct hold hold = { .call = { .attempt_ms = 20 } };

		hold_start(&hold, world->loop, client.peer);
		hold_wait(&hold);
		assert(hold.result == -ETIMEDOUT);
	}
	peer_free(client.peer); /* and perhaps in the middle of the look-up */
}

START_TEST(addresses_are_tried_in_turn)
{
	on_one_loop((struct service_config){ 0 }, body_addresses);
}
END_TEST

static void refused(struct world *world, struct peer_config config, int expected, const char *words)
{
	const char *address = world->server.address;
	struct peer *peer;
	struct call call = { .opcode = OP_PING };
	int err;

	config.addresses = &address;
	config.address_count = 1;
	assert(peer_new(world->loop, &config, &peer) == 0);
	err = peer_call(peer, &call);
	if (err != expected || call.answered || strstr(peer_last_error(peer), words) == NULL) {
		fprintf(stderr, "%d instead of %d: %s\n", err, expected, peer_last_error(peer));
		abort();
	}
	peer_free(peer);
}

static void body_refusals(struct world *world)
{
	struct client client = client_of(world->loop, NULL, 0);
	const struct peer_config good = client.config;
	struct peer_config bad = good;

	peer_free(client.peer);
	bad.key = &foreign_key;
	refused(world, bad, -EKEYREJECTED, "wrong key");
	bad = good;
	bad.admin = true;
	refused(world, bad, -EKEYREJECTED, "wrong key");
	bad.key = &admin_key;
	bad.target.bytes[3]++;
	refused(world, bad, -ESTALE, "this is target 05050505-");
	bad = good;
	bad.fs.bytes[0]++;
	refused(world, bad, -ESTALE, "this is filesystem 04040404-");
	bad = good;
	bad.role = ROLE_MDT;
	refused(world, bad, -ESTALE, "this is an ost");
}

START_TEST(refusals_are_told_in_words)
{
	struct service_config config = { .admin_key = &admin_key };

	on_one_loop(config, body_refusals);
}
END_TEST

/*
 * What waits in a connection, or is on its way there, is not executed once a later one of the same line has asked something;
 * other lines and other clients have nothing to do with that, nor has a connection that asks nothing.
 */
static void body_lines(struct world *world)
{
	struct server *server = &world->server;
	struct uuid other_uuid = own_uuid;
	int first, second, late, silent, others[3];

	other_uuid.bytes[0] ^= 1;
	others[0] = raw_open_as(server, own_uuid, 8);
	others[1] = raw_open_as(server, other_uuid, 7);
	others[2] = raw_open_as(server, own_uuid, 7 + 1024);
	first = raw_open_as(server, own_uuid, 7);
	raw_hold(first, 1);
	raw_hold(first, 2); /* above what is granted: it waits */
	for (int i = 0; i < 3; i++) {
		raw_hold(others[i], 1);
		raw_hold(others[i], 2);
	}
	WAIT_FOR(server->held_count == 4);

	late = raw_open_as(server, own_uuid, 7);
	second = raw_open_as(server, own_uuid, 7);
	silent = raw_open_as(server, own_uuid, 7);
	assert(server->closed == 0);
	raw_hold(second, 1);
	WAIT_FOR(server->held_count == 5);
	assert(server->closed == 2);
	raw_hold(late, 1);
	raw_expect_end(late);
	server_release(server);
	WAIT_FOR(server->held_count == 3); /* the others' second ones */
	server_release(server);
	assert(server->handled == 8);
	raw_hold(second, 2);
	WAIT_FOR(server->held_count == 1);
	server_release(server);
	raw_expect_end(first);
	close(silent);
	close(second);
	for (int i = 0; i < 3; i++)
		close(others[i]);
}

START_TEST(what_waits_in_a_connection_goes_with_it)
{
	on_one_loop((struct service_config){ .credits = 1 }, body_lines);
}
END_TEST

/* Each greeting has nonces of its own, so what was said to one server or client is worth nothing to the next. */
static void body_greetings(struct world *world)
{
	const struct opening_hello hello = { .own_role = ROLE_CLIENT };
	uint8_t greeting[OPENING_HELLO_SIZE], first[OPENING_WELCOME_SIZE], second[OPENING_WELCOME_SIZE];
	int fd;

	opening_hello_encode(&hello, greeting);
	fd = raw_connect(&world->server);
	raw_send(fd, greeting, sizeof(greeting));
	raw_receive(fd, first, sizeof(first));
	close(fd);
	fd = raw_connect(&world->server);
	raw_send(fd, greeting, sizeof(greeting));
	raw_receive(fd, second, sizeof(second));
	close(fd);
	assert(memcmp(first, second, WELCOME_NONCE_AT) == 0);
	assert(memcmp(first + WELCOME_NONCE_AT, second + WELCOME_NONCE_AT, OPENING_NONCE_SIZE) != 0);
}

START_TEST(greetings_have_nonces_of_their_own)
{
	on_one_loop((struct service_config){ 0 }, body_greetings);
}
END_TEST

UNIT_MAIN("wire_connection", the_hook_has_the_connection_first, the_hook_may_wait, pushes_arrive,
	  addresses_are_tried_in_turn, refusals_are_told_in_words, what_waits_in_a_connection_goes_with_it,
	  greetings_have_nonces_of_their_own)
