/* Servers that do not keep to the protocol, made by hand: false answers, early ones, halves, and silence. */
#include "tests/unit/wire_fixture.h"

#include <sys/ioctl.h>

/* A server made by hand, on the loop of its client. */
struct liar {
	int listener;
	char address[32];
};

static struct liar liar_start(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t len = sizeof(address);
	struct liar liar = { .listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) };

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert(liar.listener >= 0 && bind(liar.listener, (struct sockaddr *)&address, sizeof(address)) == 0);
	assert(listen(liar.listener, 16) == 0);
	assert(getsockname(liar.listener, (struct sockaddr *)&address, &len) == 0);
	snprintf(liar.address, sizeof(liar.address), "127.0.0.1:%u", ntohs(address.sin_port));
	return liar;
}

/* The next connection, with the opening done as it should be. */
static int liar_accept(const struct liar *liar, uint16_t credits, uint8_t ret_hello[OPENING_HELLO_SIZE])
{
	const struct opening_server self = {
		.fs = fs_uuid, .target = target_uuid, .role = ROLE_OST, .key = &cluster_key, .credits = credits
	};
	uint8_t welcome[OPENING_WELCOME_SIZE], proof[OPENING_PROOF_SIZE], accepted[OPENING_ACCEPT_SIZE];
	const uint8_t nonce[OPENING_NONCE_SIZE] = { 1 };
	struct opening_hello hello;
	char text[OPENING_TEXT_SIZE];
	int fd;

	WAIT_FOR((fd = accept4(liar->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0);
	raw_receive(fd, ret_hello, OPENING_HELLO_SIZE);
	assert(opening_welcome(&self, ret_hello, nonce, &hello, welcome, text) == 0);
	raw_send(fd, welcome, sizeof(welcome));
	raw_receive(fd, proof, sizeof(proof));
	assert(opening_accept(&self, ret_hello, welcome, proof, accepted, text) == 0);
	raw_send(fd, accepted, sizeof(accepted));
	return fd;
}

static struct frame_header liar_hear(int fd)
{
	uint8_t data[FRAME_HEADER_SIZE], body[256];
	struct frame_header header;

	raw_receive(fd, data, sizeof(data));
	assert(frame_decode(data, &header) == 0 && header.body_len <= sizeof(body));
	if (header.body_len > 0)
		raw_receive(fd, body, header.body_len);
	return header;
}

/* An answer to what was heard: an error, which needs no body. */
static struct frame_header liar_answer(const struct frame_header *heard)
{
	return (struct frame_header){
		.version = FRAME_VERSION,
		.kind = FRAME_REPLY,
		.opcode = heard->opcode,
		.xid = heard->xid,
		.status = ENXIO,
	};
}

static void liar_say(int fd, const struct frame_header *header)
{
	uint8_t data[FRAME_HEADER_SIZE];

	frame_encode(header, data);
	raw_send(fd, data, sizeof(data));
}

/* Answers to something else than was asked: none of them is taken for one, and the connection is given up. */
static void body_lies(struct world *world)
{
	const struct liar liar = liar_start();
	struct peer *peer = peer_to(world->loop, liar.address);
	uint8_t greetings[2][OPENING_HELLO_SIZE];

	for (unsigned int lie = 0; lie < 4; lie++) {
		struct hold hold = { 0 };
		struct frame_header heard, answer;
		int fd;

		hold_start(&hold, world->loop, peer);
		fd = liar_accept(&liar, 4, greetings[lie % 2]);
		heard = liar_hear(fd);
		answer = liar_answer(&heard);
		switch (lie) {
		case 0: /* a call of long ago, in the same place of the table */
			answer.xid += 1 << 16;
			break;
		case 1: /* a place that is not used */
			answer.xid++;
			break;
		case 2:
			answer.opcode = OP_READ;
			break;
		default:
			answer.kind = FRAME_REQUEST;
			break;
		}
		liar_say(fd, &answer);
		hold_wait(&hold);
		assert(!hold.call.answered && (hold.result == -EPROTO || hold.result == -ECONNRESET));
		close(fd);
	}
	assert(memcmp(greetings[0], greetings[1], OPENING_HELLO_SIZE) != 0); /* the nonce */
	close(liar.listener);
	peer_free(peer);
}

START_TEST(an_answer_to_something_else_is_none)
{
	on_one_loop((struct service_config){ 0 }, body_lies);
}
END_TEST

/* An answer to a request that has not left yet: were it believed, its bulk would be sent out of memory handed back. */
static void body_early(struct world *world)
{
	const struct liar liar = liar_start();
	struct peer *peer = peer_to(world->loop, liar.address);
	uint8_t *out = pattern(FRAME_BULK_MAX, 1), hello[OPENING_HELLO_SIZE];
	struct iovec iov = { out, FRAME_BULK_MAX };
	struct hold holds[16] = { 0 };
	struct frame_header heard, answer;
	int fd;

	for (size_t i = 0; i < 16; i++) {
		holds[i].call.bulk_out = &iov;
		holds[i].call.bulk_out_count = 1;
		hold_start(&holds[i], world->loop, peer);
	}
	fd = liar_accept(&liar, 16, hello);
	heard = liar_hear(fd);
	WAIT_FOR(holds[15].call.sending);
	answer = liar_answer(&heard);
	answer.xid += 15 * (1 << 16) + 15; /* the sixteenth call, in the sixteenth place */
	liar_say(fd, &answer);
	for (size_t i = 0; i < 16; i++) {
		hold_wait(&holds[i]);
		assert(!holds[i].call.answered);
	}
	close(fd);
	close(liar.listener);
	peer_free(peer);
	free(out);
}

START_TEST(an_answer_before_the_question_is_none)
{
	on_one_loop((struct service_config){ 0 }, body_early);
}
END_TEST

/* Half of an answer's bulk has come when its call is cancelled: the other half is taken from the wire, and goes nowhere. */
static void body_half(struct world *world)
{
	const struct liar liar = liar_start();
	struct peer *peer = peer_to(world->loop, liar.address);
	uint8_t in[1000] = { 0 }, bulk[1000], hello[OPENING_HELLO_SIZE];
	struct hold hold = { .call = { .bulk_in = in, .bulk_in_size = sizeof(in) } }, next = { 0 };
	struct frame_header heard, answer;
	int fd;

	memset(bulk, 0x77, sizeof(bulk));
	hold_start(&hold, world->loop, peer);
	fd = liar_accept(&liar, 4, hello);
	heard = liar_hear(fd);
	answer = liar_answer(&heard);
	answer.bulk_len = sizeof(bulk);
	liar_say(fd, &answer);
	raw_send(fd, bulk, 500);
	WAIT_FOR(in[499] != 0);
	call_cancel(&hold.call);
	hold_wait(&hold);
	assert(hold.result == -ECANCELED);
	raw_send(fd, bulk + 500, 500);
	hold_start(&next, world->loop, peer);
	heard = liar_hear(fd);
	answer = liar_answer(&heard);
	liar_say(fd, &answer);
	hold_wait(&next);
	assert(next.result == -ENXIO);
	assert(in[499] == 0x77 && in[500] == 0 && in[999] == 0);
	close(fd);
	close(liar.listener);
	peer_free(peer);
}

START_TEST(a_cancelled_call_gets_no_more_bulk)
{
	on_one_loop((struct service_config){ 0 }, body_half);
}
END_TEST

/* A client keeps to what the server grants, also when it takes some back. */
static void body_granted(struct world *world)
{
	const struct liar liar = liar_start();
	struct peer *peer = peer_to(world->loop, liar.address);
	struct hold holds[12] = { 0 };
	struct frame_header heard[12], answer;
	unsigned int asked = 0, answered = 0, granted = 4;
	uint8_t hello[OPENING_HELLO_SIZE];
	int fd, waiting = 0;

	for (size_t i = 0; i < 12; i++)
		hold_start(&holds[i], world->loop, peer);
	fd = liar_accept(&liar, (uint16_t)granted, hello);
	while (answered < 12) {
		while (asked < 12 && asked - answered < granted)
			heard[asked++] = liar_hear(fd);
		if (answered == 4)
			granted = 2;
		answer = liar_answer(&heard[answered]);
		answer.credits = (uint16_t)granted;
		/* What it sends, it sends before it has this answer. */
		fiber_sleep_ms(1);
		assert(ioctl(fd, FIONREAD, &waiting) == 0 && waiting == 0);
		liar_say(fd, &answer);
		hold_wait(&holds[answered++]);
	}
	close(fd);
	close(liar.listener);
	peer_free(peer);
}

START_TEST(what_is_granted_can_be_taken_back)
{
	on_one_loop((struct service_config){ 0 }, body_granted);
}
END_TEST

/* Whoever is not there is asked more and more seldom. */
static void body_backoff(struct world *world)
{
	const struct liar liar = liar_start();
	struct peer *peer = peer_to(world->loop, liar.address);
	struct hold hold = { 0 };
	uint64_t began_ns = clock_ns();

	hold_start(&hold, world->loop, peer);
	for (unsigned int i = 0; i < 7; i++) {
		int fd;

		WAIT_FOR((fd = accept4(liar.listener, NULL, NULL, SOCK_CLOEXEC)) >= 0);
		close(fd);
	}
	/* Half of 20, 40, 80, 160, 320 and 640 ms, at least. */
	assert(clock_ns() - began_ns >= 630 * NSEC_PER_MSEC);
	close(liar.listener);
	peer_free(peer);
	hold_wait(&hold);
}

START_TEST(attempts_become_rare)
{
	on_one_loop((struct service_config){ 0 }, body_backoff);
}
END_TEST

/* --- silence ------------------------------------------------------------------------------------------------------ */

/* Who says nothing: in the opening, on either side of it, and on a connection that is idle. All at once: it takes time. */
static void body_silence(struct world *world)
{
	const struct liar mute = liar_start(), idle = liar_start();
	const char *address = idle.address;
	struct client client = client_of(world->loop, &address, 1);
	struct peer *peer = peer_to(world->loop, mute.address);
	uint8_t hello[OPENING_HELLO_SIZE];
	struct frame_header heard, answer;
	struct hold first = { 0 }, unheard = { 0 };
	int fd = raw_connect(&world->server), idle_fd;

	peer_free(client.peer);
	client.config.owner = &client;
	client.config.lost = client_lost;
	assert(peer_new(world->loop, &client.config, &client.peer) == 0);
	hold_start(&unheard, world->loop, peer);
	hold_start(&first, world->loop, client.peer);
	idle_fd = liar_accept(&idle, 4, hello);
	heard = liar_hear(idle_fd);
	answer = liar_answer(&heard);
	liar_say(idle_fd, &answer);
	hold_wait(&first);
	assert(first.result == -ENXIO);

	/* It asks by itself whether somebody is there, and there is none. */
	heard = liar_hear(idle_fd);
	assert(heard.opcode == OP_PING && client.lost == 0);
	WAIT_FOR(client.lost == 1);

	assert(strstr(peer_last_error(peer), "no complete greeting in time") != NULL);
	assert(recv(fd, hello, 1, MSG_DONTWAIT) == 0); /* the server's end */
	close(fd);
	close(idle_fd);
	close(mute.listener);
	close(idle.listener);
	peer_free(client.peer);
	peer_free(peer);
	hold_wait(&unheard);
}

START_TEST(silence_is_noticed)
{
	on_one_loop((struct service_config){ 0 }, body_silence);
}
END_TEST

UNIT_MAIN("wire_lies", an_answer_to_something_else_is_none, an_answer_before_the_question_is_none,
	  what_is_granted_can_be_taken_back, a_cancelled_call_gets_no_more_bulk, attempts_become_rare,
	  silence_is_noticed)
