/*
 * wrong_verbs: a peer over RDMA that does what none may do, to a server at work. What wrong_peer.py is over TCP, for what
 * only RDMA has: private data, segments, credits, keys of memory.
 *
 *     wrong_verbs KEYFILE HOST:PORT ATTACK...
 *
 * Each attack waits for what the server must do about it: refuse the connection, or end it in time; then somebody who does
 * nothing wrong must be served. Exit status 1, and what has not happened, if not. It needs a device. MEANWHILE: a command, run
 * while all of idle's connections stand.
 */
#include "common/address.h"
#include "common/bulk_sums.h"
#include "common/frame.h"
#include "common/key.h"
#include "common/opening.h"
#include "common/ops.h"
#include "common/rdma/credits.h"
#include "common/rdma/preface.h"
#include "common/rdma/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <rdma/rdma_cma.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define RECEIVES   64
#define SENDS      64
#define ROOM       (2 * SEGMENT_SIZE) /* of each of them: also for what is too long */
#define STREAM_MAX (4 * FRAME_BULK_MAX)
#define RESOLVE_MS 5000
#define OPENING_MS OPENING_DEADLINE_MS
#define FRAME_MS   10000 /* SERVICE_FRAME_DEADLINE_MS */
#define LATE_MS    20000 /* and how much later it may be on a machine that is busy */
#define WR_SEND    (UINT64_C(1) << 32)
#define WAKE_MS    500
#define WAKES      4

struct peer {
	struct rdma_cm_id *id;
	struct ibv_pd *pd;
	struct ibv_comp_channel *channel;
	struct ibv_cq *cq;
	struct ibv_mr *region;
	uint8_t *memory; /* RECEIVES, then SENDS, ROOM each */
	unsigned int sends, sends_out, receives;
	unsigned int may_send, owed;
	bool keeps_credits; /* it returns none */
	bool ended;
	uint8_t *stream; /* what has come and was not heard yet */
	size_t stream_len;
};

static struct key key;
static struct addrinfo *server;
static const char *attack;
static uint8_t rnr_retries = 7; /* of what the server sends where there is no receive; 7: without end */
static uint8_t *bulk;           /* FRAME_BULK_MAX + some */
static struct ibv_cq *cover;    /* over a key that siw's library cannot take (common/rdma/domain.c) */

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fprintf(stderr, "wrong_verbs: %s: ", attack);
	vfprintf(stderr, format, args);
	fprintf(stderr, "\n");
	va_end(args);
	exit(1);
}

static void need(bool done, const char *what)
{
	if (!done)
		die("%s: %s", what, strerror(errno));
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

/* --- a peer ------------------------------------------------------------------------------------------------------- */

static void post_receive(struct peer *peer, uint64_t number)
{
	struct ibv_sge sge = { (uintptr_t)(peer->memory + number * ROOM), ROOM, peer->region->lkey };
	struct ibv_recv_wr wr = { .wr_id = number, .sg_list = &sge, .num_sge = 1 }, *bad;

	if (ibv_post_recv(peer->id->qp, &wr, &bad) != 0)
		peer->ended = true;
}

static bool is_iwarp(const struct peer *peer)
{
	return peer->id->verbs->device->transport_type == IBV_TRANSPORT_IWARP;
}

static void set_up(struct peer *peer)
{
	struct ibv_qp_init_attr attr = {
		.qp_type = IBV_QPT_RC,
		.sq_sig_all = 1,
		.cap = { .max_recv_wr = RECEIVES, .max_send_wr = SENDS, .max_recv_sge = 1, .max_send_sge = 1 },
	};

	peer->pd = ibv_alloc_pd(peer->id->verbs);
	peer->channel = ibv_create_comp_channel(peer->id->verbs);
	need(peer->pd != NULL && peer->channel != NULL, "a protection domain");
	need(fcntl(peer->channel->fd, F_SETFL, O_NONBLOCK) == 0, "fcntl");
	if (cover == NULL && is_iwarp(peer))
		cover = ibv_create_cq(peer->id->verbs, 32768, NULL, NULL, 0);
	peer->cq = ibv_create_cq(peer->id->verbs, RECEIVES + SENDS, NULL, peer->channel, 0);
	need(peer->cq != NULL, "a completion queue");
	peer->memory = calloc(RECEIVES + SENDS, ROOM);
	peer->stream = malloc(STREAM_MAX);
	need(peer->memory != NULL && peer->stream != NULL, "memory");
	peer->region = ibv_reg_mr(peer->pd, peer->memory, (size_t)(RECEIVES + SENDS) * ROOM, IBV_ACCESS_LOCAL_WRITE);
	need(peer->region != NULL, "registered memory");
	attr.send_cq = attr.recv_cq = peer->cq;
	need(rdma_create_qp(peer->id, peer->pd, &attr) == 0, "a queue pair");
	for (unsigned int i = 0; i < peer->receives; i++)
		post_receive(peer, i);
}

static void peer_free(struct peer *peer)
{
	rdma_destroy_qp(peer->id);
	ibv_destroy_cq(peer->cq);
	ibv_destroy_comp_channel(peer->channel);
	ibv_dereg_mr(peer->region);
	ibv_dealloc_pd(peer->pd);
	rdma_destroy_id(peer->id);
	free(peer->memory);
	free(peer->stream);
	free(peer);
}

/* With this for private data, and so many receives. NULL: refused. */
static struct peer *connect_with(const void *greeting, size_t size, unsigned int receives)
{
	struct peer *peer = calloc(1, sizeof(*peer));
	struct rdma_conn_param param = {
		.private_data = greeting,
		.private_data_len = (uint8_t)size,
		.responder_resources = 4,
		.initiator_depth = 4,
		.retry_count = 7,
		.rnr_retry_count = rnr_retries,
	};

	need(peer != NULL, "memory");
	peer->receives = receives;
	peer->may_send = CREDITS_OURS;
	need(rdma_create_id(NULL, &peer->id, NULL, RDMA_PS_TCP) == 0, "rdma_create_id");
	need(rdma_resolve_addr(peer->id, NULL, server->ai_addr, RESOLVE_MS) == 0, "rdma_resolve_addr");
	need(rdma_resolve_route(peer->id, RESOLVE_MS) == 0, "rdma_resolve_route");
	set_up(peer);
	if (rdma_connect(peer->id, &param) == 0)
		return peer;
	need(errno == ECONNREFUSED || errno == ECONNRESET, "rdma_connect");
	peer_free(peer);
	return NULL;
}

static struct peer *connected(unsigned int says, unsigned int has)
{
	uint8_t greeting[GREETING_SIZE];
	struct peer *peer;

	greeting_encode(&(struct greeting){ (uint16_t)says, SEGMENT_SIZE, false }, greeting);
	peer = connect_with(greeting, sizeof(greeting), has);
	if (peer == NULL)
		die("a right greeting is refused");
	return peer;
}

static void came(struct peer *peer, const uint8_t *segment, size_t size)
{
	struct segment_header header;

	if (segment_decode(segment, size, &header) < 0 || peer->stream_len + header.length > STREAM_MAX)
		die("the server sends a wrong segment");
	peer->may_send += header.returned;
	if (header.kind == SEGMENT_DATA)
		peer->owed++;
	memcpy(peer->stream + peer->stream_len, segment + SEGMENT_HEADER_SIZE, header.length);
	peer->stream_len += header.length;
}

/* Returns whether anything has happened. */
static bool look(struct peer *peer)
{
	struct ibv_wc wc[16];
	int count = ibv_poll_cq(peer->cq, 16, wc);

	for (int i = 0; i < count; i++) {
		if (wc[i].wr_id & WR_SEND)
			peer->sends_out--;
		if (wc[i].status != IBV_WC_SUCCESS) {
			peer->ended = true;
		} else if (!(wc[i].wr_id & WR_SEND)) {
			came(peer, peer->memory + wc[i].wr_id * ROOM, wc[i].byte_len);
			post_receive(peer, wc[i].wr_id);
		}
	}
	return count > 0;
}

static void cm_event(struct peer *peer)
{
	struct rdma_cm_event *event;

	need(rdma_get_cm_event(peer->id->channel, &event) == 0, "rdma_get_cm_event");
	/* REJECTED: by one whom the connection manager's third step has not reached yet. */
	peer->ended =
		peer->ended || event->event == RDMA_CM_EVENT_DISCONNECTED || event->event == RDMA_CM_EVENT_REJECTED;
	rdma_ack_cm_event(event);
}

/* Until something happens, or the time is over: false. */
static bool step(struct peer *peer, int64_t until_ms)
{
	struct pollfd fds[] = { { peer->channel->fd, POLLIN, 0 }, { peer->id->channel->fd, POLLIN, 0 } };
	int64_t left = until_ms - now_ms();
	struct ibv_cq *cq;
	void *context;

	if (look(peer))
		return true;
	while (ibv_get_cq_event(peer->channel, &cq, &context) == 0)
		ibv_ack_cq_events(cq, 1);
	need(ibv_req_notify_cq(peer->cq, 0) == 0, "ibv_req_notify_cq");
	if (look(peer))
		return true;
	if (left <= 0 || poll(fds, 2, (int)left) <= 0)
		return now_ms() < until_ms;
	if (fds[1].revents != 0)
		cm_event(peer);
	return true;
}

/* A segment as it should not be: what it says of itself is the caller's. size: of all that is sent. */
static void post(struct peer *peer, const struct segment_header *header, const void *data, size_t size)
{
	const int64_t until = now_ms() + LATE_MS;
	uint64_t number = RECEIVES + peer->sends++ % SENDS;
	uint8_t *segment = peer->memory + number * ROOM;
	struct ibv_sge sge = { (uintptr_t)segment, (uint32_t)size, peer->region->lkey };
	struct ibv_send_wr wr = { .wr_id = WR_SEND, .sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_SEND }, *bad;

	while (peer->sends_out == SENDS && !peer->ended && step(peer, until))
		;
	if (peer->ended)
		return;
	segment_encode(header, segment);
	if (size > SEGMENT_HEADER_SIZE)
		memcpy(segment + SEGMENT_HEADER_SIZE, data, size - SEGMENT_HEADER_SIZE);
	if (ibv_post_send(peer->id->qp, &wr, &bad) != 0)
		peer->ended = true;
	else
		peer->sends_out++;
}

/* Right segments of the stream. Nothing is said to who has ended. */
static void say(struct peer *peer, const void *data, size_t size)
{
	const int64_t until = now_ms() + LATE_MS;
	const uint8_t *from = data;

	while (size > 0 && !peer->ended) {
		size_t part = size < SEGMENT_SIZE - SEGMENT_HEADER_SIZE ? size : SEGMENT_SIZE - SEGMENT_HEADER_SIZE;
		unsigned int returned = peer->keeps_credits ? 0 : peer->owed;

		while (peer->may_send == 0 && !peer->ended) {
			if (!step(peer, until))
				die("the server returns no credits");
		}
		post(peer, &(struct segment_header){ SEGMENT_DATA, (uint16_t)returned, (uint32_t)part }, from,
		     SEGMENT_HEADER_SIZE + part);
		peer->owed -= returned;
		peer->may_send--;
		from += part;
		size -= part;
	}
}

static void hear(struct peer *peer, void *to, size_t size)
{
	const int64_t until = now_ms() + LATE_MS;

	while (peer->stream_len < size && !peer->ended && step(peer, until))
		;
	if (peer->stream_len < size)
		die("%s after %zu of %zu bytes", peer->ended ? "ended" : "silent", peer->stream_len, size);
	memcpy(to, peer->stream, size);
	peer->stream_len -= size;
	memmove(peer->stream, peer->stream + size, peer->stream_len);
}

/* By the server. */
static void await_end(struct peer *peer, unsigned int within_ms, const char *what)
{
	const int64_t until = now_ms() + within_ms + LATE_MS;

	while (!peer->ended) {
		if (!step(peer, until))
			die("%s: %s, not cut off", what, peer->stream_len > 0 ? "answered" : "waited for");
	}
}

static void expect_end(struct peer *peer, unsigned int within_ms, const char *what)
{
	await_end(peer, within_ms, what);
	peer_free(peer);
}

/* --- what it says ------------------------------------------------------------------------------------------------- */

static void hello(uint8_t out[OPENING_HELLO_SIZE])
{
	struct opening_hello hello = { .own_role = ROLE_CLIENT };

	need(getrandom(&hello.own_uuid, sizeof(hello.own_uuid), 0) > 0, "getrandom");
	need(getrandom(hello.nonce, sizeof(hello.nonce), 0) > 0, "getrandom");
	opening_hello_encode(&hello, out);
}

/*
 * siw's kernel answers who connects, and only then has itself woken by what he says (siw_accept()): what is there by then lies
 * unread until something follows. That something is a WRITE of nothing.
 */
static void be_heard(struct peer *peer)
{
	struct ibv_send_wr wr = { .wr_id = WR_SEND, .opcode = IBV_WR_RDMA_WRITE }, *bad;

	for (unsigned int i = 0; i < WAKES && is_iwarp(peer); i++) {
		const int64_t until = now_ms() + WAKE_MS;

		while (peer->stream_len == 0 && !peer->ended && step(peer, until))
			;
		if (peer->stream_len > 0 || peer->ended)
			return;
		need(ibv_post_send(peer->id->qp, &wr, &bad) == 0, "a WRITE of nothing");
		peer->sends_out++;
		fprintf(stderr, "wrong_verbs: %s: not heard at once\n", attack);
	}
}

/* The opening, with the right key. */
static void open_it(struct peer *peer)
{
	uint8_t own[OPENING_HELLO_SIZE], welcome[OPENING_WELCOME_SIZE], proof[OPENING_PROOF_SIZE];
	uint8_t accept[OPENING_ACCEPT_SIZE];
	struct opening_welcome who;
	char text[OPENING_TEXT_SIZE];
	uint16_t credits;

	hello(own);
	say(peer, own, sizeof(own));
	be_heard(peer);
	hear(peer, welcome, sizeof(welcome));
	if (opening_prove(&key, own, welcome, &who, proof, text) < 0)
		die("%s", text);
	say(peer, proof, sizeof(proof));
	hear(peer, accept, sizeof(accept));
	if (opening_accepted(accept, &credits, text) < 0)
		die("%s", text);
}

static struct peer *opened(void)
{
	struct peer *peer = connected(RECEIVES - CREDITS_CONTROL, RECEIVES);

	open_it(peer);
	return peer;
}

struct said {
	struct preface preface;
	struct frame_header header;
	uint32_t answer_size; /* 0: no body */
};

/* Returns its size. Zeros in the header are filled in. */
static size_t encode(const struct said *said, uint8_t out[PREFACE_SIZE_MAX + FRAME_HEADER_SIZE + 8])
{
	size_t size = preface_encode(&said->preface, out);
	struct frame_header header = said->header;
	uint8_t *body = out + size + FRAME_HEADER_SIZE;
	uint32_t len = 0;

	if (said->answer_size > 0) { /* of a NET_TEST */
		body[len++] = 1 << 3;
		for (uint32_t left = said->answer_size; left > 0; left >>= 7)
			body[len++] = (uint8_t)((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
	}
	header.version = header.version != 0 ? header.version : FRAME_VERSION;
	header.kind = header.kind != 0 ? header.kind : FRAME_REQUEST;
	header.opcode = header.opcode != 0 ? header.opcode : OP_NET_TEST;
	header.body_len = header.body_len != 0 ? header.body_len : len;
	header.body_sum = crc32c(body, len);
	frame_encode(&header, out + size);
	return size + FRAME_HEADER_SIZE + len;
}

static void say_frame(struct peer *peer, const struct said *said)
{
	uint8_t bytes[PREFACE_SIZE_MAX + FRAME_HEADER_SIZE + 8];

	say(peer, bytes, encode(said, bytes));
}

/* An answer without body, or with bulk that was placed. */
static void expect_answer(struct peer *peer, uint64_t xid)
{
	uint8_t bytes[PREFACE_SIZE_MIN + FRAME_HEADER_SIZE];
	struct frame_header header;

	hear(peer, bytes, sizeof(bytes));
	if (frame_decode(bytes + PREFACE_SIZE_MIN, &header) < 0 || header.xid != xid || header.status != 0 ||
	    header.body_len > 0)
		die("another answer than to %ju, status %u", (uintmax_t)xid, header.status);
}

/* Somebody who does nothing wrong is served. */
static void well(void)
{
	struct peer *peer = opened();

	say_frame(peer, &(struct said){ .header = { .opcode = OP_PING, .xid = 77 } });
	expect_answer(peer, 77);
	peer_free(peer);
}

/* --- attacks: how it connects -------------------------------------------------------------------------------------- */

static void greetings(void)
{
	const struct greeting lies[] = { { 0, SEGMENT_SIZE, false },
					 { 1, SEGMENT_SIZE, false },
					 { UINT16_MAX, SEGMENT_SIZE, false },
					 { CREDITS_OURS, 0, false },
					 { CREDITS_OURS, SEGMENT_SIZE_MIN - 1, false },
					 { CREDITS_OURS, UINT32_MAX, false } };
	uint8_t greeting[GREETING_SIZE + 4];

	for (size_t i = 0; i < sizeof(lies) / sizeof(*lies); i++) {
		greeting_encode(&lies[i], greeting);
		if (connect_with(greeting, GREETING_SIZE, RECEIVES) != NULL)
			die("%u receives of %u bytes are believed", lies[i].receives, lies[i].segment_size);
	}
	greeting_encode(&(struct greeting){ CREDITS_OURS, SEGMENT_SIZE, false }, greeting);
	greeting[4]++;
	if (connect_with(greeting, GREETING_SIZE, RECEIVES) != NULL)
		die("another version is let in");
	memset(greeting, 'x', sizeof(greeting));
	if (connect_with(greeting, sizeof(greeting), RECEIVES) != NULL || connect_with(NULL, 0, RECEIVES) != NULL)
		die("who does not greet is let in");
}

static void without_receives(void)
{
	struct peer *peer = connected(RECEIVES, 0);
	uint8_t own[OPENING_HELLO_SIZE];

	hello(own);
	say(peer, own, sizeof(own));
	expect_end(peer, OPENING_MS, "no receives");
}

/* It has told of receives, and has none; the server is to try again without end, or not at all. */
static void no_receives(void)
{
	without_receives();
	rnr_retries = 0;
	without_receives();
	rnr_retries = 7;
}

static void garbage(void)
{
	struct peer *peer = connected(RECEIVES, RECEIVES);

	say(peer, "GET / HTTP/1.1\r\n\r\n", 18);
	expect_end(peer, 0, "garbage");
}

static void wrong_proof(void)
{
	struct peer *peer = connected(RECEIVES, RECEIVES);
	uint8_t own[OPENING_HELLO_SIZE], welcome[OPENING_WELCOME_SIZE], proof[OPENING_PROOF_SIZE] = { 0 };

	hello(own);
	say(peer, own, sizeof(own));
	hear(peer, welcome, sizeof(welcome));
	say(peer, proof, sizeof(proof));
	expect_end(peer, OPENING_MS, "a wrong proof");
}

/* As often as can be, for FLOOD seconds: refused, and let in and gone. */
static void flood(void)
{
	const char *seconds = getenv("FLOOD");
	const int64_t until = now_ms() + (seconds != NULL ? atoi(seconds) : 5) * 1000;
	unsigned int count = 0;

	for (; now_ms() < until; count++) {
		if (connect_with("nonsense, and more of it", 24, 1) != NULL)
			die("nonsense is let in");
		if (count % 2 == 0)
			peer_free(connected(CREDITS_MIN, 1));
	}
	printf("flood: %u\n", count);
}

/* So many at once stand and ask nothing; then each is served. */
static void idle(void)
{
	const char *meanwhile = getenv("MEANWHILE");
	struct peer *peers[50];

	for (uint32_t i = 0; i < sizeof(peers) / sizeof(*peers); i++)
		peers[i] = opened();
	if (meanwhile != NULL && system(meanwhile) != 0)
		die("%s", meanwhile);
	for (uint32_t i = 0; i < sizeof(peers) / sizeof(*peers); i++) {
		say_frame(peers[i], &(struct said){ .header = { .opcode = OP_PING, .xid = i + 1 } });
		expect_answer(peers[i], i + 1);
		peer_free(peers[i]);
	}
}

/* --- attacks: segments and credits --------------------------------------------------------------------------------- */

static void segments(void)
{
	static const struct {
		struct segment_header header;
		size_t size;
	} wrong[] = {
		{ { 0, 0, 10 }, 18 },
		{ { SEGMENT_BYE + 1, 0, 10 }, 18 },
		{ { 255, 0, 0 }, 8 },
		{ { SEGMENT_DATA, 0, 11 }, 18 },
		{ { SEGMENT_DATA, 0, UINT32_MAX }, 18 },
		{ { SEGMENT_DATA, 0, 0 }, 8 },
		{ { SEGMENT_DATA, 0, 10 }, 7 },
		{ { SEGMENT_CREDIT, 0, 10 }, 18 },
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		struct peer *peer = opened();

		post(peer, &wrong[i].header, bulk, wrong[i].size);
		expect_end(peer, 0, "a wrong segment");
	}
}

static void after_bye(void)
{
	struct peer *peer = opened();

	post(peer, &(struct segment_header){ SEGMENT_BYE, 0, 0 }, NULL, SEGMENT_HEADER_SIZE);
	expect_end(peer, 0, "a BYE");
}

/* Longer than the server's receives. */
static void too_long(void)
{
	struct peer *peer = opened();

	post(peer, &(struct segment_header){ SEGMENT_DATA, 0, SEGMENT_SIZE }, bulk, SEGMENT_HEADER_SIZE + SEGMENT_SIZE);
	expect_end(peer, 0, "a segment that is too long");
}

static void returns_too_much(void)
{
	struct peer *peer = opened();

	post(peer, &(struct segment_header){ SEGMENT_CREDIT, RECEIVES, 0 }, NULL, SEGMENT_HEADER_SIZE);
	expect_end(peer, 0, "more credits than were used");
}

/* Needs no credit, so it could go on for ever. */
static void returns_nothing(void)
{
	struct peer *peer = opened();
	const int64_t until = now_ms() + LATE_MS;

	while (!peer->ended && now_ms() < until)
		post(peer, &(struct segment_header){ SEGMENT_CREDIT, 0, 0 }, NULL, SEGMENT_HEADER_SIZE);
	expect_end(peer, 0, "credits of nothing, again and again");
}

/* Asks for more than the server keeps for one, and takes nothing of it. */
static struct peer *asks_and_takes_nothing(void)
{
	struct peer *peer = connected(CREDITS_MIN, RECEIVES);

	peer->keeps_credits = true;
	open_it(peer);
	for (uint64_t i = 1; i <= 20; i++)
		say_frame(peer, &(struct said){ .header.xid = i, .answer_size = FRAME_BULK_MAX });
	return peer;
}

static void deaf(void)
{
	expect_end(asks_and_takes_nothing(), FRAME_MS, "who takes nothing");
}

/* It does not care that it has no credits, while nothing of it is read. */
static void without_credits(void)
{
	struct peer *peer = asks_and_takes_nothing();

	for (unsigned int i = 0; i < CREDITS_OURS + 4; i++) {
		peer->may_send = 1;
		say_frame(peer, &(struct said){ .header = { .opcode = OP_PING, .xid = 100 + i } });
	}
	expect_end(peer, 0, "who has no credits and sends");
}

/* --- attacks: silence ---------------------------------------------------------------------------------------------- */

/* Until the server has answered. Returns what it says. */
static enum rdma_cm_event_type ask(struct rdma_cm_id *id, struct rdma_conn_param *param)
{
	struct rdma_cm_event *event;
	enum rdma_cm_event_type type;

	need(rdma_resolve_addr(id, NULL, server->ai_addr, RESOLVE_MS) == 0, "rdma_resolve_addr");
	do {
		need(rdma_get_cm_event(id->channel, &event) == 0, "rdma_get_cm_event");
		type = event->event;
		rdma_ack_cm_event(event);
		if (type == RDMA_CM_EVENT_ADDR_RESOLVED)
			need(rdma_resolve_route(id, RESOLVE_MS) == 0, "rdma_resolve_route");
		if (type == RDMA_CM_EVENT_ROUTE_RESOLVED)
			need(rdma_connect(id, param) == 0, "rdma_connect");
	} while (type == RDMA_CM_EVENT_ADDR_RESOLVED || type == RDMA_CM_EVENT_ROUTE_RESOLVED);
	return type;
}

/* Not on iWARP. The server has answered, and waits for the connection manager's third step, which never comes. */
static void never_stands(void)
{
	struct peer *other = opened();
	struct ibv_qp_init_attr attr = {
		.qp_type = IBV_QPT_RC,
		.send_cq = other->cq,
		.recv_cq = other->cq,
		.cap = { .max_recv_wr = 1, .max_send_wr = 1, .max_recv_sge = 1, .max_send_sge = 1 },
	};
	struct ibv_qp *qp = ibv_create_qp(other->pd, &attr); /* for its number */
	struct rdma_event_channel *channel = rdma_create_event_channel();
	struct pollfd fd = { channel->fd, POLLIN, 0 };
	uint8_t greeting[GREETING_SIZE];
	struct rdma_conn_param param = { .private_data = greeting, .private_data_len = sizeof(greeting) };
	struct rdma_cm_id *id;
	enum rdma_cm_event_type type;

	need(qp != NULL && rdma_create_id(channel, &id, NULL, RDMA_PS_TCP) == 0, "a queue pair");
	greeting_encode(&(struct greeting){ CREDITS_OURS, SEGMENT_SIZE, false }, greeting);
	param.qp_num = qp->qp_num;
	type = ask(id, &param);
	if (type != RDMA_CM_EVENT_CONNECT_RESPONSE)
		die("instead of an answer: %s", rdma_event_str(type));
	if (poll(&fd, 1, OPENING_MS + LATE_MS) <= 0)
		die("who never stands is waited for");
	rdma_destroy_id(id);
	rdma_destroy_event_channel(channel);
	ibv_destroy_qp(qp);
	peer_free(other);
}

/* In the opening, and in a frame; all at once. */
static void silent(void)
{
	const struct said frame = { .header = { .opcode = OP_PING, .xid = 1, .bulk_len = 5000 } };
	uint8_t own[OPENING_HELLO_SIZE], bytes[PREFACE_SIZE_MAX + FRAME_HEADER_SIZE + 8];
	const size_t size = encode(&frame, bytes);
	const size_t parts[] = { 1, PREFACE_SIZE_MIN - 1, PREFACE_SIZE_MIN, size - 1, size };
	struct peer *opening[4], *framing[sizeof(parts) / sizeof(*parts)];

	hello(own);
	for (size_t i = 0; i < 4; i++) {
		opening[i] = connected(RECEIVES, RECEIVES);
		say(opening[i], own, (size_t[]){ 0, 1, OPENING_HELLO_SIZE - 1, OPENING_HELLO_SIZE }[i]);
	}
	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
		framing[i] = opened();
		say(framing[i], bytes, parts[i]);
	}
	for (size_t i = 0; i < 4; i++)
		expect_end(opening[i], OPENING_MS, "silent in the opening");
	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++)
		expect_end(framing[i], FRAME_MS, "silent in a frame");
}

/* --- attacks: frames and memory ------------------------------------------------------------------------------------ */

static void wrong_frame(const struct said *said, size_t change_at, uint8_t change, const char *what)
{
	uint8_t bytes[PREFACE_SIZE_MAX + FRAME_HEADER_SIZE + 8];
	size_t size = encode(said, bytes);
	struct peer *peer = opened();

	bytes[change_at] ^= change;
	say(peer, bytes, size);
	expect_end(peer, 0, what);
}

static void prefaces(void)
{
	const struct said ping = { .header = { .opcode = OP_PING, .xid = 1 } };
	struct said said = ping;

	wrong_frame(&ping, 0, 0x80, "a flag that does not exist");
	wrong_frame(&ping, 1, 0xff, "255 pieces");
	wrong_frame(&ping, 0, 1, "bulk that is apart, and none");
	said.preface.piece_count = 1;
	said.preface.pieces[0] = (struct remote_piece){ (uintptr_t)bulk, 1, 20000 };
	wrong_frame(&said, 0, 0, "a piece of no bulk");
	said.header.bulk_len = 20000;
	said.preface.apart = true;
	said.header.kind = FRAME_PUSH;
	wrong_frame(&said, 0, 0, "a push that is apart");
	said.header.kind = FRAME_REPLY;
	wrong_frame(&said, 0, 0, "an answer to nobody");
}

static void lengths(void)
{
	struct said said = { .preface = { .apart = true, .piece_count = 2 },
			     .header = { .xid = 1, .bulk_len = 40000 } };

	said.preface.pieces[0] = said.preface.pieces[1] = (struct remote_piece){ (uintptr_t)bulk, 1, 20000 };
	for (int more = -1; more <= 1; more += 2) {
		said.preface.pieces[1].size = (uint32_t)(20000 + more);
		wrong_frame(&said, 0, 0, "pieces of another length than the bulk");
	}
	said.preface.pieces[0].size = said.preface.pieces[1].size = UINT32_C(0x80000000) + 20000; /* 40000 in 32 bits */
	wrong_frame(&said, 0, 0, "pieces that are far too long");
	said = (struct said){ .header = { .xid = 1, .bulk_len = FRAME_BULK_MAX + 1 } };
	wrong_frame(&said, 0, 0, "a bulk longer than allowed");
	said.header = (struct frame_header){ .xid = 1, .body_len = UINT32_MAX };
	wrong_frame(&said, 0, 0, "a body longer than allowed");
}

/* A request whose bulk lies in that region, or whose answer is to be placed there: what it says of it is changed. */
struct memory_lie {
	const char *what;
	unsigned int access;
	uint64_t address_more;
	uint32_t key_more, size; /* of the memory that there is, in what is said to be FRAME_BULK_MAX */
	bool void_already;
};

static struct said memory_said(const struct ibv_mr *region, const struct memory_lie *lie, bool place)
{
	struct remote_piece piece = { (uintptr_t)bulk + lie->address_more, region->rkey + lie->key_more,
				      FRAME_BULK_MAX };
	struct said said = { .header.xid = 5 };

	if (place) {
		said.preface.place = piece;
		said.answer_size = FRAME_BULK_MAX;
	} else {
		said.preface.apart = true;
		said.preface.piece_count = 1;
		said.preface.pieces[0] = piece;
		said.header.bulk_len = FRAME_BULK_MAX;
	}
	return said;
}

/* siw has memory read that nobody has a right to read. */
static bool is_let_in(const struct peer *peer, const struct memory_lie *lie, bool place)
{
	return !place && lie->access == IBV_ACCESS_LOCAL_WRITE && is_iwarp(peer);
}

static void memory_lied_about(const struct memory_lie *lie, bool place)
{
	struct peer *peer = opened();
	struct ibv_mr *region = ibv_reg_mr(peer->pd, bulk, lie->size, lie->access);
	struct said said;

	need(region != NULL, "registered memory");
	said = memory_said(region, lie, place);
	if (lie->void_already)
		ibv_dereg_mr(region);
	say_frame(peer, &said);
	if (lie->what != NULL && !is_let_in(peer, lie, place))
		await_end(peer, 0, lie->what);
	else
		expect_answer(peer, 5);
	if (!lie->void_already)
		ibv_dereg_mr(region);
	peer_free(peer);
}

static void wrong_memory(bool place)
{
	const unsigned int all = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE;
	const struct memory_lie lies[] = {
		{ NULL, all, 0, 0, FRAME_BULK_MAX, false }, /* none: what is asked is right */
		{ "a wrong key", all, 0, 0x100, FRAME_BULK_MAX, false },
		{ "a key that is void", all, 0, 0, FRAME_BULK_MAX, true },
		{ "memory that is shorter", all, 0, 0, FRAME_BULK_MAX - 1, false },
		{ "a place behind", all, FRAME_BULK_MAX, 0, FRAME_BULK_MAX, false },
		{ "memory without the right", IBV_ACCESS_LOCAL_WRITE, 0, 0, FRAME_BULK_MAX, false },
	};

	for (size_t i = 0; i < sizeof(lies) / sizeof(*lies); i++)
		memory_lied_about(&lies[i], place);
}

static void wrong_source(void)
{
	wrong_memory(false);
}

static void wrong_place(void)
{
	wrong_memory(true);
}

/* --- which ---------------------------------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	void (*run)(void);
} attacks[] = {
	{ "greetings", greetings },
	{ "no_receives", no_receives },
	{ "garbage", garbage },
	{ "wrong_proof", wrong_proof },
	{ "flood", flood },
	{ "idle", idle },
	{ "segments", segments },
	{ "after_bye", after_bye },
	{ "too_long", too_long },
	{ "returns_too_much", returns_too_much },
	{ "returns_nothing", returns_nothing },
	{ "deaf", deaf },
	{ "without_credits", without_credits },
	{ "never_stands", never_stands },
	{ "silent", silent },
	{ "prefaces", prefaces },
	{ "lengths", lengths },
	{ "wrong_source", wrong_source },
	{ "wrong_place", wrong_place },
};

static void run(const char *name)
{
	size_t i = 0;

	attack = name;
	while (i < sizeof(attacks) / sizeof(*attacks) && strcmp(attacks[i].name, name) != 0)
		i++;
	if (i == sizeof(attacks) / sizeof(*attacks))
		die("there is no such attack");
	attacks[i].run();
	well();
}

int main(int argc, char **argv)
{
	char host[256], service[8];
	uint16_t port;

	attack = "before";
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc < 4)
		die("KEYFILE HOST:PORT ATTACK...");
	if (key_read(argv[1], &key) < 0 || address_split(argv[2], host, &port) < 0)
		die("no key at %s, or no address: %s", argv[1], argv[2]);
	snprintf(service, sizeof(service), "%u", port);
	if (getaddrinfo(host, service, NULL, &server) != 0)
		die("no such host: %s", host);
	bulk = calloc(2, FRAME_BULK_MAX);
	need(bulk != NULL, "memory");
	for (int i = 3; i < argc; i++)
		run(argv[i]);
	free(bulk);
	freeaddrinfo(server);
	return 0;
}
