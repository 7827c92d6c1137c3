#include "client/cli/net_test.h"
#include "common/dial.h"
#include "common/fiber.h"
#include "common/loop.h"
#include "common/peer.h"
#include "proto/common.pb-c.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CALL_MS     5000
#define WARM_CALLS  20
#define SAMPLES_MAX 100000

struct test {
	const struct net_test_options *options;
	struct net_test_result *result;
	struct loop *loop;
	struct uuid own_uuid;
	struct address_list known; /* of the server, by both transports */
	char *error;
	size_t error_size;
	int err;
};

/* --- is it there? ------------------------------------------------------------------------------------------------- */

struct attempt {
	struct dial_result result;
	bool over;
	struct fiber_queue waiter;
};

static void attempt_over(void *owner, const struct dial_result *result)
{
	struct attempt *attempt = owner;

	attempt->result = *result;
	attempt->over = true;
	fiber_wake_all(&attempt->waiter);
}

/* One attempt by that transport; a connection is closed again. -errno, and why, from it. */
static int reach(struct test *test, struct transport *transport, const char *address,
		 struct opening_welcome *ret_welcome, char error[DIAL_TEXT_SIZE])
{
	const struct opening_hello hello = { .own_role = ROLE_CLIENT, .role = ROLE_ANY, .own_uuid = test->own_uuid };
	struct attempt attempt = { .over = false };
	struct dial *dial;
	int err = dial_start(test->loop, transport, address, &hello, test->options->key, attempt_over, &attempt, &dial);

	if (err < 0) {
		snprintf(error, DIAL_TEXT_SIZE, "%s: %s", address, strerror(-err));
		return err;
	}
	while (!attempt.over)
		fiber_wait(&attempt.waiter, NULL);
	if (attempt.result.err < 0) {
		snprintf(error, DIAL_TEXT_SIZE, "%s", attempt.result.text);
		return attempt.result.err;
	}
	*ret_welcome = attempt.result.welcome;
	transport_close(attempt.result.conn);
	return 0;
}

/* The same, by a transport that is made for it. */
static int reach_by(struct test *test, enum fabric fabric, const char *address, struct opening_welcome *ret_welcome,
		    char error[DIAL_TEXT_SIZE])
{
	const struct transport_limits limits = { .opening_ms = OPENING_DEADLINE_MS };
	struct fabrics fabrics;
	struct transport *transport;
	int err;

	fabrics_init(&fabrics, test->loop, &limits);
	err = fabrics_get(&fabrics, fabric, &transport);
	if (err < 0)
		snprintf(error, DIAL_TEXT_SIZE, "%s",
			 fabric == FABRIC_RDMA ? fabrics_rdma_reason(err) : strerror(-err));
	else
		err = reach(test, transport, address, ret_welcome, error);
	fabrics_release(&fabrics);
	return err;
}

/* --- calls -------------------------------------------------------------------------------------------------------- */

/* A peer that goes by one transport only, since it knows one address. */
static int peer_make(struct test *test, const char *address, struct peer **ret_peer)
{
	const struct peer_config config = {
		.role = ROLE_ANY,
		.own_role = ROLE_CLIENT,
		.own_uuid = test->own_uuid,
		.key = test->options->key,
		.addresses = &address,
		.address_count = 1,
		.fs = test->result->fs,
		.target = test->result->target,
	};

	return peer_new(test->loop, &config, ret_peer);
}

/* Asks again when the connection breaks, which takes all calls that are under way with it. */
static int call_surely(struct peer *peer, struct call *call, unsigned int *lost)
{
	int err = -ECONNRESET;

	for (int asked = 0; err == -ECONNRESET && asked <= NET_TEST_AGAIN; asked++) {
		err = peer_call(peer, call);
		*lost += err == -ECONNRESET;
	}
	return err;
}

static const char *call_error(const struct peer *peer, int err)
{
	if (err == -EOPNOTSUPP)
		return "the server is older, and knows no test";
	if (err == -EBUSY)
		return "others test this server just now";
	return peer_last_error(peer)[0] != '\0' ? peer_last_error(peer) : strerror(-err);
}

/* --- latency ------------------------------------------------------------------------------------------------------ */

static int compare(const void *a, const void *b)
{
	uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;

	return (left > right) - (left < right);
}

static struct net_latency latency_of(uint32_t *samples, size_t count)
{
	qsort(samples, count, sizeof(*samples), compare);
	return (struct net_latency){ count, samples[0], samples[count / 2], samples[(count * 99) / 100] };
}

static int measure_latency(struct peer *peer, unsigned int measure_ms, struct net_transport_result *result)
{
	uint32_t *samples = malloc(SAMPLES_MAX * sizeof(*samples));
	uint64_t until_ns = clock_ns() + measure_ms * NSEC_PER_MSEC;
	size_t count = 0;
	int err = samples == NULL ? -ENOMEM : 0;

	for (size_t i = 0; err == 0 && count < SAMPLES_MAX && (count == 0 || clock_ns() < until_ns); i++) {
		struct call call = { .opcode = OP_NET_TEST, .attempt_ms = CALL_MS };
		uint64_t began_ns = clock_ns();
		unsigned int lost = result->lost;
		uint64_t took_ns;

		err = call_surely(peer, &call, &result->lost);
		took_ns = clock_ns() - began_ns;
		call_release(&call);
		if (err == 0 && i >= WARM_CALLS && lost == result->lost)
			samples[count++] = took_ns < UINT32_MAX ? (uint32_t)took_ns : UINT32_MAX;
	}
	if (err == 0)
		result->latency = latency_of(samples, count);
	free(samples);
	return err;
}

/* --- bandwidth ---------------------------------------------------------------------------------------------------- */

/* Several fibers ask all the time. What they have done counts from when each has done it once. */
struct stream {
	struct peer *peer;
	struct net_transport_result *result;
	uint8_t *memory; /* a piece for each fiber */
	bool to_server;
	unsigned int measure_ms;
	unsigned int warm, running, taken;
	uint64_t began_ns, until_ns, ended_ns, bytes;
	int err;
	struct fiber_queue over;
};

static int stream_call(struct stream *stream, uint8_t *piece)
{
	Strake__NetTestRequest request = STRAKE__NET_TEST_REQUEST__INIT;
	struct call call = {
		.opcode = OP_NET_TEST,
		.request = &request.base,
		.attempt_ms = CALL_MS,
		.bulk_out = &(struct iovec){ piece, NET_TEST_BULK },
		.bulk_out_count = stream->to_server ? 1 : 0,
		.bulk_in = stream->to_server ? NULL : piece,
		.bulk_in_size = stream->to_server ? 0 : NET_TEST_BULK,
	};
	int err;

	request.has_answer_size = !stream->to_server;
	request.answer_size = stream->to_server ? 0 : NET_TEST_BULK;
	err = call_surely(stream->peer, &call, &stream->result->lost);
	if (err == 0 && !stream->to_server && call.bulk_in_len != NET_TEST_BULK)
		err = -EPROTO;
	call_release(&call);
	return err;
}

static void stream_begin(struct stream *stream)
{
	stream->began_ns = clock_ns();
	stream->until_ns = stream->began_ns + stream->measure_ms * NSEC_PER_MSEC;
}

static void stream_fiber(void *arg)
{
	struct stream *stream = arg;
	uint8_t *piece = stream->memory + NET_TEST_BULK * stream->taken++;
	bool warm = false;

	while (stream->err == 0 && (stream->began_ns == 0 || clock_ns() < stream->until_ns)) {
		int err = stream_call(stream, piece);

		if (err < 0) {
			stream->err = err;
		} else if (stream->began_ns != 0) {
			stream->bytes += NET_TEST_BULK;
			stream->ended_ns = clock_ns();
		} else if (!warm) {
			warm = true;
			if (++stream->warm == NET_TEST_DEPTH)
				stream_begin(stream);
		}
	}
	if (--stream->running == 0)
		fiber_wake_all(&stream->over);
}

static int measure_stream(struct peer *peer, unsigned int measure_ms, bool to_server,
			  struct net_transport_result *result, double *ret_rate)
{
	struct stream stream = { .peer = peer, .result = result, .to_server = to_server, .measure_ms = measure_ms };

	stream.memory = malloc(NET_TEST_DEPTH * (size_t)NET_TEST_BULK);
	if (stream.memory == NULL)
		return -ENOMEM;
	memset(stream.memory, 0x5a, NET_TEST_DEPTH * (size_t)NET_TEST_BULK);
	for (unsigned int i = 0; i < NET_TEST_DEPTH && stream.err == 0; i++) {
		stream.err = fiber_start(loop_current(), stream_fiber, &stream);
		if (stream.err == 0)
			stream.running++;
	}
	while (stream.running > 0)
		fiber_wait(&stream.over, NULL);
	free(stream.memory);
	if (stream.err == 0)
		*ret_rate = (double)stream.bytes * 1e9 / (double)(stream.ended_ns - stream.began_ns);
	return stream.err;
}

/* --- a transport -------------------------------------------------------------------------------------------------- */

static void measure(struct test *test, struct net_transport_result *result)
{
	unsigned int measure_ms = test->options->measure_ms;
	struct peer *peer;
	int err = peer_make(test, result->address, &peer);

	if (err < 0) {
		snprintf(result->error, sizeof(result->error), "%s", strerror(-err));
		result->err = err;
		return;
	}
	err = measure_latency(peer, measure_ms, result);
	if (err == 0)
		err = measure_stream(peer, measure_ms, true, result, &result->to_server);
	if (err == 0)
		err = measure_stream(peer, measure_ms, false, result, &result->from_server);
	if (err < 0)
		snprintf(result->error, sizeof(result->error), "%s", call_error(peer, err));
	result->err = err;
	peer_free(peer);
}

/* The first known address by which that very server is reached. */
static void find_address(struct test *test, struct net_transport_result *result)
{
	struct opening_welcome welcome;

	result->err = -ENODEV;
	for (size_t i = 0; i < test->known.count && result->err < 0; i++) {
		const char *address = test->known.text[i];

		if (address_is_rdma(address) != (result->fabric == FABRIC_RDMA))
			continue;
		result->err = reach_by(test, result->fabric, address, &welcome, result->error);
		if (result->err == 0 && !uuid_equal(&welcome.target, &test->result->target)) {
			result->err = -ESTALE;
			snprintf(result->error, sizeof(result->error), "%s: another server answers", address);
		}
		if (result->err == 0)
			snprintf(result->address, sizeof(result->address), "%s", address);
	}
	if (result->error[0] == '\0')
		snprintf(result->error, sizeof(result->error), "the server does not listen by it");
}

static void test_transport(struct test *test, enum fabric fabric)
{
	struct net_transport_result *result = &test->result->transports[fabric];
	int err = fabric == FABRIC_RDMA ? fabrics_probe_rdma() : 0;

	result->fabric = fabric;
	result->wanted = test->options->choice != (fabric == FABRIC_TCP ? FABRICS_RDMA : FABRICS_TCP);
	if (!result->wanted)
		return;
	if (err < 0) {
		result->err = err == -ENOENT ? -ENODEV : err;
		snprintf(result->error, sizeof(result->error), "%s", fabrics_rdma_reason(err));
		return;
	}
	find_address(test, result);
	if (result->err == 0)
		measure(test, result);
}

/* --- the server --------------------------------------------------------------------------------------------------- */

/* Of those that are told the ones of the host that was named come first: they lead to it from here. */
static void know(struct test *test, const char *address, const char *named_host, bool named)
{
	struct address_list *known = &test->known;
	char host[256];
	uint16_t port;

	if (address_split(address, host, &port) < 0 || (strcmp(host, named_host) == 0) != named)
		return;
	for (size_t i = 0; i < known->count; i++)
		if (strcmp(known->text[i], address) == 0)
			return;
	if (known->count < ADDRESS_LIST_MAX)
		snprintf(known->text[known->count++], ADDRESS_SIZE, "%s", address);
}

/* Which addresses it has besides the one by which it was found. */
static int learn(struct test *test)
{
	Strake__NetTestRequest request = STRAKE__NET_TEST_REQUEST__INIT;
	struct call call = { .opcode = OP_NET_TEST, .request = &request.base, .attempt_ms = CALL_MS };
	char host[256] = "";
	struct peer *peer;
	unsigned int lost = 0;
	int err = peer_make(test, test->result->address, &peer);

	if (err < 0) {
		snprintf(test->error, test->error_size, "%s", strerror(-err));
		return err;
	}
	request.has_addresses = request.addresses = true;
	err = call_surely(peer, &call, &lost);
	if (err < 0)
		snprintf(test->error, test->error_size, "%s: %s", test->result->address, call_error(peer, err));
	(void)address_split(test->result->address, host, &(uint16_t){ 0 });
	snprintf(test->known.text[test->known.count++], ADDRESS_SIZE, "%s", test->result->address);
	for (int others = 0; err == 0 && others < 2; others++) {
		const Strake__NetTestReply *reply = (const Strake__NetTestReply *)call.reply;

		for (size_t i = 0; i < reply->n_address; i++)
			know(test, reply->address[i], host, others == 0);
	}
	call_release(&call);
	peer_free(peer);
	return err;
}

/* The server that answers there, whichever it is. */
static int reach_server(struct test *test, enum fabric fabric, const char *address, char error[DIAL_TEXT_SIZE])
{
	struct net_test_result *result = test->result;
	struct opening_welcome welcome;
	int err = reach_by(test, fabric, address, &welcome, error);

	if (err < 0)
		return err;
	snprintf(result->address, sizeof(result->address), "%s", address);
	result->role = welcome.role;
	result->fs = welcome.fs;
	result->target = welcome.target;
	return 0;
}

/* It has answered: by RDMA it would say the same. */
static bool is_refusal(int err)
{
	return err == -EKEYREJECTED || err == -EPROTO || err == -ESTALE;
}

/* By what is named; where that is only a host, by TCP, and where nobody listens so, by RDMA. */
static int find_server(struct test *test)
{
	const char *address = test->options->address;
	enum fabrics_choice choice = test->options->choice;
	char error[DIAL_TEXT_SIZE], other_error[DIAL_TEXT_SIZE], rdma_address[ADDRESS_SIZE];
	bool try_tcp = choice != FABRICS_RDMA && !address_is_rdma(address);
	int err = 0;

	if (address_is_rdma(address) && choice == FABRICS_TCP) {
		snprintf(test->error, test->error_size, "%s is an address of RDMA, and --transport is tcp", address);
		return -EPROTONOSUPPORT;
	}
	if (try_tcp) {
		err = reach_server(test, FABRIC_TCP, address, error);
		if (err < 0)
			snprintf(test->error, test->error_size, "%s", error);
		if (err == 0 || choice == FABRICS_TCP || is_refusal(err) || fabrics_probe_rdma() < 0)
			return err;
	}
	address_to_rdma(address_plain(address), rdma_address);
	err = reach_server(test, FABRIC_RDMA, rdma_address, other_error);
	if (err < 0 && !try_tcp)
		snprintf(test->error, test->error_size, "%s", other_error);
	return err;
}

/* --- all of it ---------------------------------------------------------------------------------------------------- */

static void run_fiber(void *arg)
{
	struct test *test = arg;

	test->err = find_server(test);
	if (test->err == 0)
		test->err = learn(test);
	for (enum fabric fabric = 0; test->err == 0 && fabric < FABRIC_COUNT; fabric++)
		test_transport(test, fabric);
	fiber_sleep_ms(1); /* what has ended gets round once more */
	loop_stop(test->loop);
}

int net_test_run(const struct net_test_options *options, struct net_test_result *ret_result, char *error,
		 size_t error_size)
{
	struct test test = { .options = options, .result = ret_result, .error = error, .error_size = error_size };
	int err = loop_new(&test.loop);

	*ret_result = (struct net_test_result){ 0 };
	uuid_make(&test.own_uuid);
	if (err == 0)
		err = fiber_start(test.loop, run_fiber, &test);
	if (err == 0)
		err = loop_run(test.loop);
	loop_free(test.loop);
	if (err < 0)
		snprintf(error, error_size, "%s", strerror(-err));
	return err < 0 ? err : test.err;
}

bool net_test_passed(const struct net_test_result *result)
{
	for (enum fabric i = 0; i < FABRIC_COUNT; i++) {
		const struct net_transport_result *transport = &result->transports[i];

		if (transport->wanted && transport->err < 0 && transport->err != -ENODEV)
			return false;
	}
	return true;
}
