/*
 * Peer and service against each other over loopback TCP, on one loop or on two threads, and connections made by hand for
 * those who do not keep to the protocol: what the tests of the wire stand on. Bodies run in fibers, so they check with
 * assert(): Check's own checks belong to the test's function.
 *
 * The service is an OST whose handler obeys the request: READ is answered at once with its own bulk, GLIMPSE is held
 * until the test lets it go, WRITE with what it has summed up, SEEK with an error.
 */
#ifndef STRAKE_TESTS_WIRE_FIXTURE_H
#define STRAKE_TESTS_WIRE_FIXTURE_H

#include "common/bulk_sums.h"
#include "common/fiber.h"
#include "common/logger.h"
#include "common/opening.h"
#include "common/peer.h"
#include "common/service.h"
#include "proto/oss.pb-c.h"
#include "tests/unit/quick_time.h"
#include "tests/unit/unit.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HELD_MAX 256

static struct key cluster_key, admin_key, foreign_key;
static struct uuid fs_uuid, target_uuid, own_uuid;

/* One service and what its handler keeps. Belongs to the service's loop. */
struct server {
	struct loop *loop;
	struct service_config config;
	struct service *service;
	uint16_t port;
	char address[32];

	struct request *held[HELD_MAX];
	unsigned int held_count, held_most;
	unsigned int bulks_left; /* what bulk_alloc still gives; UINT_MAX: no bound */
	unsigned int bulks_out, closed, handled;
	bool bulk_bounded, takes_no_bulk;
	int pipe; /* what is read without sums comes from here; 0: from nowhere */
	struct bulk pipe_owner;
	unsigned int pipes_released;
	pthread_t thread;
};

/* --- the server's side -------------------------------------------------------------------------------------------- */

static inline void reply_ok(struct request *request, const ProtobufCMessage *body)
{
	service_reply(request, &(struct reply){ .body = body });
}

/* The bulk comes back as it came; as many sums as asked for make the body as long as the test likes. */
static inline void answer_read(struct server *server, struct request *request)
{
	const Strake__ReadRequest *asked = (const Strake__ReadRequest *)request->body;
	Strake__ReadReply body = STRAKE__READ_REPLY__INIT;
	struct reply reply = { .body = &body.base, .log_index = 7, .durable_index = 5 };
	uint32_t count = asked->offset > FRAME_BODY_MAX ? 0 : asked->offset;
	uint32_t *sums = calloc(count + 1, sizeof(*sums));

	for (uint32_t i = 0; i < count; i++)
		sums[i] = i;
	body.length = asked->length;
	body.instance = asked->object->ino;
	body.sums = sums;
	body.n_sums = count;
	if (asked->no_sums && server->pipe > 0) {
		reply.pipe = server->pipe;
		reply.pipe_len = asked->length;
		reply.owner = &server->pipe_owner;
	} else if (request->bulk != NULL) {
		/* In pieces, so that gathering is tested too. */
		uint8_t *data = request->bulk->data;
		size_t part = request->header.bulk_len / 3;

		reply.bulk[0] = (struct iovec){ data, part };
		reply.bulk[1] = (struct iovec){ data + part, 0 };
		reply.bulk[2] = (struct iovec){ data + part, request->header.bulk_len - part };
		reply.bulk_count = 3;
		reply.owner = request->bulk;
		request->bulk = NULL;
	}
	service_reply(request, &reply);
	free(sums);
}

static inline void answer_write(struct request *request)
{
	const Strake__WriteRequest *asked = (const Strake__WriteRequest *)request->body;
	Strake__WriteReply body = STRAKE__WRITE_REPLY__INIT;
	uint32_t sum = request->bulk == NULL ? 0 : crc32c(request->bulk->data, request->header.bulk_len);

	for (size_t i = 0; i < asked->n_sums; i++)
		sum += asked->sums[i];
	body.instance = sum;
	reply_ok(request, &body.base);
}

static inline void server_handle(void *owner, struct request *request)
{
	struct server *server = owner;

	server->handled++;
	assert(service_conn_role(request->conn) != ROLE_ANY);
	switch (request->header.opcode) {
	case OP_READ:
		answer_read(server, request);
		break;
	case OP_WRITE:
		answer_write(request);
		break;
	case OP_GLIMPSE:
		assert(server->held_count < HELD_MAX);
		server->held[server->held_count++] = request;
		if (server->held_count > server->held_most)
			server->held_most = server->held_count;
		break;
	case OP_SEEK:
		service_reply_error(request, -ENXIO);
		break;
	case OP_COMMIT:
		service_conn_close(request->conn);
		service_reply_error(request, 0);
		break;
	default:
		service_reply_error(request, 0);
	}
}

static inline void server_release(struct server *server)
{
	Strake__GlimpseReply body = STRAKE__GLIMPSE_REPLY__INIT;

	while (server->held_count > 0) {
		struct request *request = server->held[--server->held_count];

		reply_ok(request, &body.base);
	}
}

static inline void server_closed(void *owner, struct service_conn *conn)
{
	struct server *server = owner;

	(void)conn;
	server->closed++;
}

static inline void push_map(struct service_conn *conn, void *arg)
{
	service_push(conn, OP_MAP_PUSH, arg);
}

struct test_bulk {
	struct bulk bulk;
	struct server *server;
};

static inline void server_bulk_release(struct bulk *bulk)
{
	struct test_bulk *test_bulk = (struct test_bulk *)bulk;
	struct server *server = test_bulk->server;

	assert(server->bulks_out > 0);
	server->bulks_out--;
	free(bulk->data);
	free(bulk);
	if (server->service != NULL)
		service_bulk_available(server->service);
}

static inline struct bulk *server_bulk_alloc(void *owner, size_t size)
{
	struct server *server = owner;
	struct test_bulk *test_bulk;

	if (server->bulk_bounded && server->bulks_out >= server->bulks_left)
		return NULL;
	server->bulks_out++;
	test_bulk = malloc(sizeof(*test_bulk));
	*test_bulk = (struct test_bulk){ { malloc(size), size, server_bulk_release }, server };
	return &test_bulk->bulk;
}

/* Listens where it listened before, if it did. */
static inline void server_start(struct server *server)
{
	char address[32];

	server->config.fs = fs_uuid;
	server->config.target = target_uuid;
	server->config.role = ROLE_OST;
	server->config.key = &cluster_key;
	server->config.owner = server;
	server->config.handle = server_handle;
	server->config.bulk_alloc = server->takes_no_bulk ? NULL : server_bulk_alloc;
	server->config.closed = server_closed;
	assert(service_new(server->loop, &server->config, &server->service) == 0);
	snprintf(address, sizeof(address), "127.0.0.1:%u", server->port);
	assert(service_listen(server->service, address, &server->port) == 0);
	snprintf(server->address, sizeof(server->address), "127.0.0.1:%u", server->port);
}

static inline void server_stop(struct server *server)
{
	struct service *service = server->service;

	server->service = NULL;
	service_free(service);
}

/* --- the client's side -------------------------------------------------------------------------------------------- */

struct client {
	struct peer_config config;
	struct peer *peer;
	unsigned int connected, lost, pushed;
	int hook_result;
};

static inline struct client client_of(struct loop *loop, const char *const *addresses, size_t count)
{
	struct client client = {
		.config = {
			.fs = fs_uuid,
			.target = target_uuid,
			.role = ROLE_OST,
			.own_role = ROLE_CLIENT,
			.own_uuid = own_uuid,
			.key = &cluster_key,
			.addresses = addresses,
			.address_count = count,
		},
	};

	assert(peer_new(loop, &client.config, &client.peer) == 0);
	return client;
}

static inline void client_lost(void *owner, int err)
{
	struct client *client = owner;

	assert(err < 0);
	client->lost++;
}

static inline struct peer *peer_to(struct loop *loop, const char *address)
{
	return client_of(loop, &address, 1).peer;
}

/* An object whose number comes back, so that answers cannot be mistaken for each other. */
#define OBJECT(number)                                                                                             \
	&(Strake__Object)                                                                                          \
	{                                                                                                          \
		.base = PROTOBUF_C_MESSAGE_INIT(&strake__object__descriptor), .ino = (number), .gen = 1, .seq = 1, \
		.stripe_size = 65536                                                                               \
	}

/* READ: bulk goes there and back; reply_sums make the answer's body long. */
static inline int echo(struct peer *peer, uint64_t number, const void *out, void *in, size_t size, uint32_t reply_sums)
{
	Strake__ReadRequest request = STRAKE__READ_REQUEST__INIT;
	const struct iovec iov[] = { { (void *)(uintptr_t)out, size / 2 },
				     { (uint8_t *)(uintptr_t)out + size / 2, size - size / 2 } };
	struct call call = {
		.opcode = OP_READ,
		.request = &request.base,
		.bulk_out = iov,
		.bulk_out_count = size > 0 ? 2 : 0,
		.bulk_in = in,
		.bulk_in_size = size,
	};
	const Strake__ReadReply *reply;
	int err;

	request.object = OBJECT(number);
	request.length = (uint32_t)size;
	request.offset = reply_sums;
	err = peer_call(peer, &call);
	if (err == 0) {
		reply = (const Strake__ReadReply *)call.reply;
		assert(call.answered && call.bulk_in_len == size && reply->length == size);
		assert(reply->instance == number && call.log_index == 7 && call.durable_index == 5);
		assert(reply->n_sums == reply_sums);
		for (uint32_t i = 0; i < reply_sums; i++)
			assert(reply->sums[i] == i);
		assert(size == 0 || memcmp(out, in, size) == 0);
	}
	call_release(&call);
	return err;
}

static inline int ping(struct peer *peer)
{
	struct call call = { .opcode = OP_PING };
	int err = peer_call(peer, &call);

	assert(err != 0 || call.reply != NULL);
	call_release(&call);
	return err;
}

/* A call that is held by the server, in a fiber of its own. */
struct hold {
	struct peer *peer;
	struct call call;
	int result;
	bool over;
	unsigned int *under_way;
	struct fiber_queue done;
};

static inline void hold_fiber(void *arg)
{
	struct hold *hold = arg;
	Strake__GlimpseRequest request = STRAKE__GLIMPSE_REQUEST__INIT;

	hold->call.opcode = OP_GLIMPSE;
	hold->call.request = &request.base;
	request.stripe_size = 65536;
	hold->result = peer_call(hold->peer, &hold->call);
	call_release(&hold->call);
	hold->over = true;
	fiber_wake_all(&hold->done);
}

static inline void hold_start(struct hold *hold, struct loop *loop, struct peer *peer)
{
	hold->peer = peer;
	assert(fiber_start(loop, hold_fiber, hold) == 0);
}

static inline void hold_wait(struct hold *hold)
{
	while (!hold->over)
		fiber_wait(&hold->done, NULL);
}

/* --- one loop ----------------------------------------------------------------------------------------------------- */

struct world {
	struct loop *loop;
	struct server server;
	void (*body)(struct world *world);
};

static inline void keys_make(void)
{
	logger_init("wire", LOGGER_ERROR);
	memset(&cluster_key, 1, sizeof(cluster_key));
	memset(&admin_key, 2, sizeof(admin_key));
	memset(&foreign_key, 3, sizeof(foreign_key));
	memset(&fs_uuid, 4, sizeof(fs_uuid));
	memset(&target_uuid, 5, sizeof(target_uuid));
	memset(&own_uuid, 6, sizeof(own_uuid));
}

static inline void world_fiber(void *arg)
{
	struct world *world = arg;

	world->body(world);
	if (world->server.service != NULL)
		server_stop(&world->server);
	/* Fibers that were woken last come to their ends. */
	fiber_sleep_ms(1);
	loop_stop(world->loop);
}

/* The service and the body on one loop. */
static inline void on_one_loop(struct service_config config, void (*body)(struct world *world))
{
	struct world world = { .body = body, .server.config = config };

	keys_make();
	ck_assert_int_eq(loop_new(&world.loop), 0);
	world.server.loop = world.loop;
	server_start(&world.server);
	ck_assert_int_eq(fiber_start(world.loop, world_fiber, &world), 0);
	ck_assert_int_eq(loop_run(world.loop), 0);
	loop_free(world.loop);
	ck_assert_uint_eq(world.server.bulks_out, 0);
}

/* Go on when the condition holds: everything that has to happen for it happens on this loop. */
#define WAIT_FOR(condition)  \
	while (!(condition)) \
	fiber_sleep_ms(1)

static inline uint8_t *pattern(size_t size, unsigned int seed)
{
	uint8_t *data = malloc(size + 1);

	for (size_t i = 0; i < size; i++) {
		seed = seed * 1103515245 + 12345;
		data[i] = (uint8_t)(seed >> 16);
	}
	return data;
}

/* --- two threads -------------------------------------------------------------------------------------------------- */

static inline void *server_thread(void *arg)
{
	struct server *server = arg;

	assert(loop_run(server->loop) == 0);
	server_stop(server);
	return NULL;
}

static inline void server_thread_start(struct server *server)
{
	quick_time_off();
	keys_make();
	assert(loop_new(&server->loop) == 0);
	server_start(server);
	assert(pthread_create(&server->thread, NULL, server_thread, server) == 0);
}

static inline void server_thread_stop(struct server *server)
{
	loop_stop(server->loop);
	pthread_join(server->thread, NULL);
	loop_free(server->loop);
	assert(server->bulks_out == 0);
}

struct client_run {
	struct loop *loop;
	const char *address;
};

/* --- connections made by hand ------------------------------------------------------------------------------------- */

static inline int raw_connect(const struct server *server)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(server->port) };
	const struct timeval patience = { .tv_sec = 20 };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	assert(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0);
	return fd;
}

static inline void raw_send(int fd, const void *data, size_t size)
{
	const uint8_t *at = data;

	while (size > 0) {
		ssize_t sent = send(fd, at, size, MSG_NOSIGNAL);

		if (sent < 0)
			return; /* cut off already, as it should be */
		at += sent;
		size -= (size_t)sent;
	}
}

/* In a fiber the loop goes on meanwhile: the other end may be on it. */
static inline void raw_receive(int fd, void *data, size_t size)
{
	ssize_t received;

	if (size == 0)
		return; /* else the kernel waits for what comes next */
	if (fiber_self() != NULL)
		WAIT_FOR(recv(fd, data, size, MSG_PEEK | MSG_DONTWAIT) == (ssize_t)size);
	received = recv(fd, data, size, MSG_WAITALL);
	assert(received == (ssize_t)size);
}

/* The server must end the connection. */
static inline void raw_expect_end(int fd)
{
	uint8_t data[4096];
	ssize_t received;

	do
		received = recv(fd, data, sizeof(data), 0);
	while (received > 0);
	assert(received == 0 || errno == ECONNRESET || errno == EPIPE);
	close(fd);
}

static inline int raw_open_as(const struct server *server, struct uuid uuid, uint32_t line)
{
	const struct opening_hello hello = {
		.own_role = ROLE_CLIENT, .role = ROLE_OST, .own_uuid = uuid, .line = line
	};
	uint8_t hello_bytes[OPENING_HELLO_SIZE], welcome[OPENING_WELCOME_SIZE], proof[OPENING_PROOF_SIZE];
	uint8_t accept[OPENING_ACCEPT_SIZE];
	char text[OPENING_TEXT_SIZE];
	struct opening_welcome is;
	uint16_t credits;
	int fd = raw_connect(server);

	opening_hello_encode(&hello, hello_bytes);
	raw_send(fd, hello_bytes, sizeof(hello_bytes));
	raw_receive(fd, welcome, sizeof(welcome));
	assert(opening_prove(&cluster_key, hello_bytes, welcome, &is, proof, text) == 0);
	raw_send(fd, proof, sizeof(proof));
	raw_receive(fd, accept, sizeof(accept));
	assert(opening_accepted(accept, &credits, text) == 0 && credits > 0);
	return fd;
}

static inline int raw_open(const struct server *server)
{
	return raw_open_as(server, own_uuid, 0);
}

/* A GLIMPSE, which the server holds. */
static inline void raw_hold(int fd, uint64_t xid)
{
	Strake__GlimpseRequest request = STRAKE__GLIMPSE_REQUEST__INIT;
	struct frame_header header = {
		.version = FRAME_VERSION, .kind = FRAME_REQUEST, .opcode = OP_GLIMPSE, .xid = xid
	};
	uint8_t data[FRAME_HEADER_SIZE + 64];

	request.stripe_size = 65536;
	header.body_len = (uint32_t)strake__glimpse_request__pack(&request, data + FRAME_HEADER_SIZE);
	header.body_sum = crc32c(data + FRAME_HEADER_SIZE, header.body_len);
	frame_encode(&header, data);
	raw_send(fd, data, FRAME_HEADER_SIZE + header.body_len);
}

/* A good READ request with bulk, encoded. Returns its length. */
static inline size_t raw_request(uint8_t *out, uint64_t xid, uint32_t bulk_len)
{
	Strake__ReadRequest request = STRAKE__READ_REQUEST__INIT;
	struct frame_header header = { .version = FRAME_VERSION, .kind = FRAME_REQUEST, .opcode = OP_READ, .xid = xid };

	request.object = OBJECT(1);
	request.length = bulk_len;
	header.body_len = (uint32_t)strake__read_request__pack(&request, out + FRAME_HEADER_SIZE);
	header.body_sum = crc32c(out + FRAME_HEADER_SIZE, header.body_len);
	header.bulk_len = bulk_len;
	frame_encode(&header, out);
	memset(out + FRAME_HEADER_SIZE + header.body_len, 0x77, bulk_len);
	return FRAME_HEADER_SIZE + header.body_len + bulk_len;
}

/* A good client is served as ever. */
static inline void good_fiber(void *arg)
{
	struct client_run *run = arg;
	struct peer *peer = peer_to(run->loop, run->address);
	uint8_t out[5000] = { 3 }, in[5000];

	assert(echo(peer, 1, out, in, sizeof(out), 10) == 0);
	peer_free(peer);
	loop_stop(run->loop);
}

static inline void server_is_well(const struct server *server)
{
	struct client_run run = { .address = server->address };

	assert(loop_new(&run.loop) == 0);
	assert(fiber_start(run.loop, good_fiber, &run) == 0);
	assert(loop_run(run.loop) == 0);
	loop_free(run.loop);
}

#endif
