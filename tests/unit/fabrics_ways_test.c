/*
 * Which way is taken, by a server's addresses of both kinds, when one of them is not what it seems: RDMA that opens and then
 * breaks, or is silent at one address of several; and what is no reason to leave it.
 */
#include "common/peer_internal.h"
#include "tests/unit/fabrics_fixture.h"

#define LASTS_MS 31000 /* so long, and a connection has lasted */
#define FIRST    4711  /* ports of one server by RDMA */
#define SECOND   4712

static uint64_t connects(const struct world *world, enum fabric by)
{
	struct peer_stats stats;

	peer_stats(world->peer, &stats);
	return stats.connects_by[by];
}

/* As if it had stood for long. */
static void lasts(struct world *world)
{
	world->peer->connected_ns -= LASTS_MS * NSEC_PER_MSEC;
}

/* --- RDMA that opens, and then breaks ------------------------------------------------------------------------------- */

/* Until so many connections by RDMA have been made. */
static void echo_until(struct world *world, uint64_t count, uint32_t *seq, uint8_t *memory)
{
	while (connects(world, FABRIC_RDMA) < count) {
		echo(world, 0, (*seq)++, memory, memory + BULK_SIZE);
		fiber_sleep_ms(1);
	}
}

/* It rests for 1 s, then for 2 s: calls get through by TCP. When it is in order again it is used, and its rest is short. */
static void body_bulk_breaks(struct world *world)
{
	uint8_t *memory = malloc(2 * (size_t)BULK_SIZE);
	uint64_t began_ns = clock_ns();
	uint32_t seq = 1;
	unsigned int lost;

	serve(world, "127.0.0.1:0");
	fabric.bulk_breaks = true;
	reach_all(world);
	echo(world, 0, seq++, memory, memory + BULK_SIZE);
	assert(used(world) == FABRIC_TCP && clock_ns() - began_ns < AT_MOST_MS * NSEC_PER_MSEC);
	echo_until(world, 2, &seq, memory);
	echo(world, 0, seq++, memory, memory + BULK_SIZE);
	assert(used(world) == FABRIC_TCP);
	fabric.bulk_breaks = false;
	echo_until(world, 3, &seq, memory);
	assert(clock_ns() - began_ns >= 3 * NSEC_PER_SEC);
	lost = world->lost;
	for (int i = 0; i < 10; i++)
		echo(world, 0, seq++, memory, memory + BULK_SIZE);
	assert(uses(world, FABRIC_RDMA) && world->lost == lost);
	assert(world->executed == world->asked && world->tally.bulk[FABRIC_RDMA] >= 20 * (uint64_t)BULK_SIZE);

	lasts(world);
	fabric.break_in = 1;
	echo(world, 0, seq++, memory, memory + BULK_SIZE);
	assert(world->lost == lost + 1 && world->peer->rest_ms == 1000);
	assert(world->peer->rest_until_ns < world->peer->connected_ns);
	free(memory);
}

START_TEST(rdma_that_opens_and_breaks_is_left_alone)
{
	in_world(_i, body_bulk_breaks);
}
END_TEST

static int echo_once(struct world *world, uint32_t seq, unsigned int attempt_ms, uint8_t *memory)
{
	Strake__ReadRequest request = STRAKE__READ_REQUEST__INIT;
	Strake__Object object = STRAKE__OBJECT__INIT;
	const struct iovec iov = { memory, BULK_SIZE };
	struct call call = {
		.opcode = OP_READ,
		.request = &request.base,
		.seq = seq,
		.attempt_ms = attempt_ms,
		.bulk_out = &iov,
		.bulk_out_count = 1,
		.bulk_in = memory + BULK_SIZE,
		.bulk_in_size = BULK_SIZE,
	};
	int err;

	request.object = &object;
	memset(memory, 7, BULK_SIZE);
	err = peer_call(world->peer, &call);
	assert(call.answered || err == -ETIMEDOUT);
	call_release(&call);
	return err;
}

static void push_fiber(void *arg)
{
	struct world *world = arg;

	for (uint64_t number = 1; !world->enough; number++) {
		service_each_conn(world->service, push_one, &number);
		fiber_sleep_ms(150);
	}
	world->workers--;
}

/*
 * What is told unasked is heard all the while, so nobody is silent: the call's time ends that, and it is asked again by TCP,
 * however long RDMA has stood. Otherwise all that is behind that bulk waits for it, and that is silence.
 */
static void body_bulk_is_lost(struct world *world)
{
	uint8_t *memory = malloc(2 * (size_t)BULK_SIZE);
	uint64_t began_ns;

	begin_by_rdma(world);
	assert(echo_once(world, 1, AT_MOST_MS, memory) == 0);
	lasts(world);
	fabric.bulk_is_lost = true;
	world->workers = 1;
	assert(fiber_start(world->loop, push_fiber, world) == 0);
	assert(echo_once(world, 2, WITHIN_MS, memory) == -ETIMEDOUT);
	world->enough = true;
	assert(world->tally.silences == 0);
	assert(echo_once(world, 2, AT_MOST_MS, memory) == 0);
	assert(used(world) == FABRIC_TCP && times_said(": a call was not answered in time") == 1);
	WAIT_FOR(world->workers == 0);

	WAIT_FOR(uses(world, FABRIC_RDMA));
	began_ns = clock_ns();
	echo(world, 0, 3, memory, memory + BULK_SIZE);
	assert(used(world) == FABRIC_TCP && world->tally.silences == 1);
	assert(clock_ns() - began_ns < AT_MOST_MS * NSEC_PER_MSEC);
	free(memory);
}

START_TEST(where_bulk_is_lost_tcp_is_used)
{
	in_world(_i, body_bulk_is_lost);
}
END_TEST

/* Soon it is used by RDMA again: at once, or, when it had not been for long, a second later. */
static void body_restart(struct world *world)
{
	char tcp[ADDRESS_SIZE];
	const char *addresses[] = { "rdma://127.0.0.1:4711", tcp };
	uint64_t began_ns;
	uint16_t port;

	serve(world, "rdma://127.0.0.1:4711");
	assert(service_listen(world->service, "127.0.0.1:0", &port) == 0);
	snprintf(tcp, sizeof(tcp), "127.0.0.1:%u", port);
	reach(world, addresses, 2);
	assert(ping(world) == 0);
	for (int i = 0; i < 2; i++) {
		WAIT_FOR(uses(world, FABRIC_RDMA));
		if (i == 0)
			lasts(world);
		world->service = service_free(world->service);
		WAIT_FOR(!peer_is_connected(world->peer));
		fiber_sleep_ms(200);
		began_ns = clock_ns();
		serve(world, "rdma://127.0.0.1:4711");
		assert(service_listen(world->service, tcp, &port) == 0);
		WAIT_FOR(uses(world, FABRIC_RDMA));
		assert(clock_ns() - began_ns < AT_MOST_MS * NSEC_PER_MSEC);
	}
}

START_TEST(a_server_that_was_restarted_is_reached_by_rdma_soon)
{
	in_world(_i, body_restart);
}
END_TEST

/* --- several addresses of RDMA ------------------------------------------------------------------------------------ */

/* Nobody listens at the first one. */
static void body_first_refuses(struct world *world)
{
	const char *addresses[] = { "rdma://127.0.0.1:1", world->reachable.text[1], world->reachable.text[0] };

	serve(world, "127.0.0.1:0");
	reach(world, addresses, 3);
	assert(ping(world) == 0);
	WAIT_FOR(uses(world, FABRIC_RDMA));
	assert(connects(world, FABRIC_RDMA) == 1);
	world->peer = peer_free(world->peer);

	fabrics_choose(FABRICS_RDMA);
	reach(world, addresses, 2);
	assert(ping(world) == 0 && uses(world, FABRIC_RDMA));
}

START_TEST(the_second_address_of_rdma_is_used)
{
	in_world(_i, body_first_refuses);
}
END_TEST

static void serve_two(struct world *world)
{
	uint16_t port;

	serve(world, "rdma://127.0.0.1:4711");
	assert(service_listen(world->service, "rdma://127.0.0.1:4712", &port) == 0 && port == SECOND);
}

static const char *const two_by_rdma[] = { "rdma://127.0.0.1:4711", "rdma://127.0.0.1:4712" };

/* Until then by TCP, where that may be. */
static void body_first_is_silent(struct world *world)
{
	char tcp[ADDRESS_SIZE];
	const char *addresses[] = { two_by_rdma[0], two_by_rdma[1], tcp };
	uint16_t port;

	serve_two(world);
	assert(service_listen(world->service, "127.0.0.1:0", &port) == 0);
	snprintf(tcp, sizeof(tcp), "127.0.0.1:%u", port);
	fabric.silent_port = FIRST;
	reach(world, addresses, 3);
	assert(ping(world) == 0 && used(world) == FABRIC_TCP);
	WAIT_FOR(uses(world, FABRIC_RDMA));
	assert(ping(world) == 0 && connects(world, FABRIC_RDMA) == 1);
	world->peer = peer_free(world->peer);

	fabrics_choose(FABRICS_RDMA);
	reach(world, two_by_rdma, 2);
	assert(ping_for(world, OPENING_DEADLINE_MS + AT_MOST_MS) == 0 && uses(world, FABRIC_RDMA));
}

START_TEST(a_silent_address_of_rdma_is_passed_by)
{
	in_world(_i, body_first_is_silent);
}
END_TEST

/* There is no TCP: the other address, there and back. */
static void body_one_falls_silent(struct world *world)
{
	serve_two(world);
	fabrics_choose(FABRICS_RDMA);
	reach(world, two_by_rdma, 2);
	assert(ping(world) == 0);
	hold_calls(world, 1);
	for (unsigned int i = 1; i <= 2; i++) {
		uint64_t began_ns = clock_ns();

		WAIT_FOR(world->held_count == i);
		fabric.silent_port = i == 1 ? FIRST : SECOND;
		WAIT_FOR(connects(world, FABRIC_RDMA) == i + 1 && peer_is_connected(world->peer));
		assert(clock_ns() - began_ns < AT_MOST_MS * NSEC_PER_MSEC && world->tally.silences == i);
	}
	assert(world->lost == 2);
	do {
		answer_held(world);
		fiber_sleep_ms(1);
	} while (world->workers > 0);
}

START_TEST(without_tcp_another_address_of_rdma_is_gone_over_to)
{
	in_world(_i, body_one_falls_silent);
}
END_TEST

/* --- what is no reason to go, and what is ----------------------------------------------------------------------------- */

/* Who goes by TCP waits here until he is let through to the server. */
struct gate {
	int listens, near, far;
	char address[ADDRESS_SIZE];
};

static void gate_make(struct gate *gate)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);

	gate->listens = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert(bind(gate->listens, (struct sockaddr *)&at, len) == 0 && listen(gate->listens, 16) == 0);
	assert(getsockname(gate->listens, (struct sockaddr *)&at, &len) == 0);
	snprintf(gate->address, sizeof(gate->address), "127.0.0.1:%u", ntohs(at.sin_port));
}

/* Somebody has come. */
static bool gate_takes(struct gate *gate)
{
	gate->near = accept4(gate->listens, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	return gate->near >= 0;
}

static void gate_opens(struct gate *gate, uint16_t port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	to.sin_port = htons(port);
	gate->far = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert(connect(gate->far, (struct sockaddr *)&to, sizeof(to)) == 0);
}

/* False: he has gone. */
static bool gate_moves(const struct gate *gate)
{
	uint8_t bytes[4096];
	ssize_t size = recv(gate->near, bytes, sizeof(bytes), 0);

	if (size == 0 || (size < 0 && errno != EAGAIN))
		return false;
	assert(size < 0 || send(gate->far, bytes, (size_t)size, MSG_NOSIGNAL) == size);
	size = recv(gate->far, bytes, sizeof(bytes), MSG_DONTWAIT);
	assert(size <= 0 || send(gate->near, bytes, (size_t)size, MSG_NOSIGNAL) == size);
	return true;
}

/* It was silent for so long that TCP was dialled; before that has answered it has said something. */
static void body_speaks_again(struct world *world)
{
	struct gate gate;
	const char *addresses[] = { world->reachable.text[1], gate.address };
	uint64_t number = 1;
	unsigned int lost;

	gate_make(&gate);
	serve(world, "127.0.0.1:0");
	reach(world, addresses, 2);
	assert(ping(world) == 0);
	WAIT_FOR(uses(world, FABRIC_RDMA));
	while (gate_takes(&gate)) /* at first, on a busy machine */
		close(gate.near);
	lost = world->lost;
	hold_calls(world, 1);
	WAIT_FOR(world->held_count == 1);
	fabric.silent = true;
	WAIT_FOR(gate_takes(&gate));
	fabric.silent = false;
	service_each_conn(world->service, push_one, &number);
	WAIT_FOR(world->pushed == 1);
	gate_opens(&gate, world->port);
	while (gate_moves(&gate))
		fiber_sleep_ms(1);
	assert(uses(world, FABRIC_RDMA) && world->lost == lost && connects(world, FABRIC_TCP) == 0);
	close(gate.near);
	close(gate.far);
	close(gate.listens);
	answer_held(world);
	WAIT_FOR(world->workers == 0);
}

START_TEST(who_speaks_again_is_not_left)
{
	in_world(_i, body_speaks_again);
}
END_TEST

/* Nothing is under way, and somebody waits to be told something: silence is noticed as soon as for a call. */
static void body_push_is_awaited(struct world *world)
{
	uint64_t began_ns;

	begin_by_rdma(world);
	world->awaits_push = true;
	assert(ping(world) == 0);
	began_ns = clock_ns();
	fabric.silent = true;
	WAIT_FOR(uses(world, FABRIC_TCP));
	assert(clock_ns() - began_ns < AT_MOST_MS * NSEC_PER_MSEC);
	assert(world->tally.silences == 1);
}

START_TEST(silence_is_noticed_while_a_push_is_awaited)
{
	in_world(_i, body_push_is_awaited);
}
END_TEST

FABRICS_MAIN("fabrics_ways", rdma_that_opens_and_breaks_is_left_alone, where_bulk_is_lost_tcp_is_used,
	     a_server_that_was_restarted_is_reached_by_rdma_soon, the_second_address_of_rdma_is_used,
	     a_silent_address_of_rdma_is_passed_by, without_tcp_another_address_of_rdma_is_gone_over_to,
	     who_speaks_again_is_not_left, silence_is_noticed_while_a_push_is_awaited)
