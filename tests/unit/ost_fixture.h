/*
 * An OST on a temporary folder, a client and an MDT, all on one loop: what the OST's tests stand on. Test bodies run in a
 * fiber, so they check with assert().
 */
#ifndef STRAKE_TESTS_OST_FIXTURE_H
#define STRAKE_TESTS_OST_FIXTURE_H

#include "common/bulk_sums.h"
#include "common/fiber.h"
#include "common/logger.h"
#include "common/peer.h"
#include "common/status.h"
#include "oss/ost.h"
#include "proto/oss.pb-c.h"
#include "tests/unit/temp_dir.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define STRIPE  65536u
#define SESSION 7u

static char fixture_dir[PATH_MAX];
static const struct address_list fixture_listen = { .count = 1, .text = { "127.0.0.1:0" } };
static struct ost_config fixture_config;
static struct loop *loop;
static struct ost *ost;
static struct peer *client, *mdt;
static uint64_t fake_clock_ns = 1000 * NSEC_PER_SEC;
static void (*fixture_body)(void);
static int fixture_stop_err; /* what stopping is to say */

static inline uint64_t fixture_clock(void)
{
	return fake_clock_ns;
}

/* A formatted, empty data directory. */
static inline void fixture_format(void)
{
	struct identity identity = {
		.role = ROLE_OST, .index = 3, .format_version = IDENTITY_FORMAT_VERSION, .fs_name = "test"
	};
	char path[PATH_MAX + 16];
	struct key key;

	logger_init("ost_test", LOGGER_ERROR);
	signal(SIGPIPE, SIG_IGN); /* as a daemon does */
	temp_dir_make(fixture_dir);
	uuid_make(&identity.fs);
	uuid_make(&identity.target);
	key_make(&key);
	snprintf(path, sizeof(path), "%s/cluster.key", fixture_dir);
	assert(identity_write(fixture_dir, &identity) == 0 && key_write(path, &key) == 0);
	fixture_config = (struct ost_config){
		.dir = fixture_dir,
		.ledger_dir = fixture_dir,
		.listen = &fixture_listen,
		.index = -1,
		.clock_ns = fixture_clock,
		.direct = OST_DIRECT_AUTO,
	};
}

static inline struct peer *fixture_connect(enum role role)
{
	struct peer_config config = {
		.fs = ost->identity.fs,
		.target = ost->identity.target,
		.role = ROLE_OST,
		.own_role = role,
		.key = &ost->key,
	};
	char address[64];
	const char *addresses[] = { address };
	struct peer *peer;

	snprintf(address, sizeof(address), "127.0.0.1:%u", ost->port);
	uuid_make(&config.own_uuid);
	config.addresses = addresses;
	config.address_count = 1;
	assert(peer_new(loop, &config, &peer) == 0);

	return peer;
}

static unsigned int push_runs; /* so many answers have said that a revoked write runs */

/* *heard: 0, or the clock of an earlier answer; then that of this one. Until no revoked write runs. */
static inline int push_table(struct peer *peer, uint64_t epoch, const uint64_t *sessions, size_t count, uint64_t newest,
			     uint64_t *heard)
{
	Strake__SessionTable table = STRAKE__SESSION_TABLE__INIT;
	uint64_t copy[16];
	bool runs = false;
	int err;

	assert(count <= 16);
	memcpy(copy, sessions, count * sizeof(*copy));
	table.epoch = epoch;
	table.session = copy;
	table.n_session = count;
	table.lease_ms = 30000;
	table.newest = newest;
	do {
		struct call call = { .opcode = OP_SESSIONS, .request = &table.base };

		table.has_heard = *heard != 0;
		table.heard = *heard;
		err = peer_call(peer, &call);
		if (err == 0) {
			*heard = ((const Strake__SessionTableReply *)call.reply)->now;
			runs = ((const Strake__SessionTableReply *)call.reply)->runs;
			push_runs += runs;
		}
		call_release(&call);
	} while (err == 0 && runs);

	return err;
}

/* With the lease, which the first of a connection does not grant. */
static inline int push_sessions(struct peer *peer, uint64_t epoch, const uint64_t *sessions, size_t count,
				uint64_t newest)
{
	uint64_t heard = 0;
	int err = push_table(peer, epoch, sessions, count, newest, &heard);

	return err < 0 ? err : push_table(peer, epoch, sessions, count, newest, &heard);
}

static inline void fixture_start(void)
{
	const uint64_t sessions[] = { SESSION };
	char error[512] = "";

	if (ost_open(&fixture_config, &ost, error, sizeof(error)) < 0 ||
	    ost_start(ost, loop, error, sizeof(error)) < 0) {
		fprintf(stderr, "%s\n", error);
		abort();
	}
	client = fixture_connect(ROLE_CLIENT);
	mdt = fixture_connect(ROLE_MDT);
	assert(push_sessions(mdt, 1, sessions, 1, SESSION) == 0);
}

static inline void fixture_stop(void)
{
	int err;

	client = peer_free(client);
	mdt = peer_free(mdt);
	err = ost_stop(ost);
	assert(err == fixture_stop_err);
	ost = ost_close(ost);
	fiber_yield();
}

static inline void fixture_fiber(void *arg)
{
	(void)arg;
	fixture_start();
	fixture_body();
	fixture_stop();
	loop_stop(loop);
}

/* Run body with an OST that runs. */
static inline void fixture_run(void (*body)(void))
{
	fixture_body = body;
	ck_assert_int_eq(loop_new(&loop), 0);
	ck_assert_int_eq(fiber_start(loop, fixture_fiber, NULL), 0);
	ck_assert_int_eq(loop_run(loop), 0);
	loop = loop_free(loop);
}

/* The same in a process of its own, which body kills. */
static inline void fixture_run_killed(void (*body)(void))
{
	pid_t pid = fork();
	int status;

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		fixture_run(body);
		_exit(1);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status %x", (unsigned int)status);
}

static inline void kill_self(void)
{
	kill(getpid(), SIGKILL);
	abort();
}

/* --- requests ---------------------------------------------------------------------------------------------------------- */

struct where {
	uint64_t ino, gen, seq;
	uint64_t stripe;                  /* 0: STRIPE */
	uint64_t cut, cut_start, cut_end; /* cut 0: none */
};

static inline struct where with_cut(struct where where, uint64_t number, uint64_t start, uint64_t end)
{
	where.cut = number;
	where.cut_start = start;
	where.cut_end = end;

	return where;
}

struct object_message {
	Strake__Object object;
	Strake__Cut cut;
};

static inline Strake__Object *object_message(struct object_message *message, struct where where)
{
	strake__object__init(&message->object);
	strake__cut__init(&message->cut);
	message->object.ino = where.ino;
	message->object.gen = where.gen;
	message->object.seq = where.seq;
	message->object.stripe_size = where.stripe ? where.stripe : STRIPE;
	message->cut.number = where.cut;
	message->cut.has_start = message->cut.has_end = where.cut != 0;
	message->cut.start = where.cut_start;
	message->cut.end = where.cut_end;
	if (where.cut)
		message->object.cut = &message->cut;

	return &message->object;
}

/* One WRITE; bad_sum spoils it. Sequence numbers are the caller's. */
struct write_call {
	struct where where;
	uint32_t offset;
	const void *data;
	size_t length;
	uint64_t session;
	uint32_t slot, seq;
	bool sync, bad_sum;
	uint64_t instance; /* out */
};

static inline int write_call(struct write_call *call)
{
	Strake__WriteRequest request = STRAKE__WRITE_REQUEST__INIT;
	struct object_message message;
	union {
		const void *in;
		void *out;
	} data = { .in = call->data };
	struct iovec iov = { .iov_base = data.out, .iov_len = call->length };
	uint32_t sums[300];
	struct call rpc = {
		.opcode = OP_WRITE,
		.request = &request.base,
		.session = call->session,
		.slot = call->slot,
		.seq = call->seq,
		.bulk_out = &iov,
		.bulk_out_count = 1,
	};
	int err;

	request.object = object_message(&message, call->where);
	request.offset = call->offset;
	request.has_sync = request.sync = call->sync;
	request.sums = sums;
	request.n_sums = bulk_sums_count(call->offset, call->length);
	assert(request.n_sums <= 300);
	bulk_sums_make(call->offset, &iov, 1, sums);
	if (call->bad_sum)
		sums[request.n_sums - 1] ^= 1;
	err = peer_call(client, &rpc);
	assert(rpc.answered);
	if (err == 0)
		call->instance = ((const Strake__WriteReply *)rpc.reply)->instance;
	call_release(&rpc);

	return err;
}

static uint32_t next_seq;

/* The usual WRITE: a new request in slot 1. */
static inline int write_at(struct where where, uint32_t offset, const void *data, size_t length)
{
	return write_call(&(struct write_call){
		.where = where,
		.offset = offset,
		.data = data,
		.length = length,
		.session = SESSION,
		.slot = 1,
		.seq = ++next_seq,
	});
}

static inline int write_text(struct where where, uint32_t offset, const char *text)
{
	return write_at(where, offset, text, strlen(text));
}

/* The length that the OST says, or an error; what it sent is in out, zeros behind. */
static inline int read_options(struct where where, uint32_t offset, void *out, size_t length, bool no_sums)
{
	Strake__ReadRequest request = STRAKE__READ_REQUEST__INIT;
	struct object_message message;
	struct call rpc = { .opcode = OP_READ, .request = &request.base, .bulk_in = out, .bulk_in_size = length };
	int err;

	memset(out, 0, length);
	request.object = object_message(&message, where);
	request.offset = offset;
	request.length = (uint32_t)length;
	request.has_no_sums = request.no_sums = no_sums;
	err = peer_call(client, &rpc);
	assert(rpc.answered);
	if (err == 0) {
		const Strake__ReadReply *reply = (const Strake__ReadReply *)rpc.reply;

		assert(rpc.bulk_in_len <= reply->length && reply->length <= length && reply->instance == ost->instance);
		if (no_sums)
			assert(reply->n_sums == 0);
		else
			assert(bulk_sums_check(offset, out, rpc.bulk_in_len, reply->sums, reply->n_sums, NULL) == 0);
		err = (int)reply->length;
	}
	call_release(&rpc);

	return err;
}

static inline int read_at(struct where where, uint32_t offset, void *out, size_t length)
{
	return read_options(where, offset, out, length, false);
}

/* What is there, from offset on, is this text and no more. */
static inline bool text_is(struct where where, uint32_t offset, const char *text)
{
	char got[256];
	int length = read_at(where, offset, got, sizeof(got));

	return length == (int)strlen(text) && memcmp(got, text, (size_t)length) == 0;
}

struct totals {
	uint64_t end, blocks, instance;
};

static inline int commit_seqs(struct where where, const uint64_t *seqs, size_t count, struct totals *ret_totals)
{
	Strake__CommitRequest request = STRAKE__COMMIT_REQUEST__INIT;
	struct call rpc = { .opcode = OP_COMMIT, .request = &request.base };
	uint64_t copy[16];
	int err;

	assert(count <= 16);
	if (count > 0)
		memcpy(copy, seqs, count * sizeof(*copy));
	request.ino = where.ino;
	request.gen = where.gen;
	request.seq = copy;
	request.n_seq = count;
	err = peer_call(client, &rpc);
	assert(rpc.answered);
	if (err == 0 && ret_totals) {
		const Strake__CommitReply *reply = (const Strake__CommitReply *)rpc.reply;

		*ret_totals = (struct totals){ reply->end, reply->blocks, reply->instance };
	}
	call_release(&rpc);

	return err;
}

static inline int commit(struct where where, struct totals *ret_totals)
{
	return commit_seqs(where, NULL, 0, ret_totals);
}

static inline int glimpse(struct where where, struct totals *ret_totals)
{
	Strake__GlimpseRequest request = STRAKE__GLIMPSE_REQUEST__INIT;
	struct call rpc = { .opcode = OP_GLIMPSE, .request = &request.base };
	struct object_message message;
	int err;

	request.ino = where.ino;
	request.gen = where.gen;
	request.stripe_size = where.stripe ? where.stripe : STRIPE;
	request.cut = object_message(&message, where)->cut;
	err = peer_call(client, &rpc);
	assert(rpc.answered);
	if (err == 0) {
		const Strake__GlimpseReply *reply = (const Strake__GlimpseReply *)rpc.reply;

		*ret_totals = (struct totals){ reply->end, reply->blocks, reply->instance };
	}
	call_release(&rpc);

	return err;
}

/* The offset found, or an error. */
static inline int64_t seek(struct where where, uint64_t offset, bool hole)
{
	Strake__SeekRequest request = STRAKE__SEEK_REQUEST__INIT;
	struct call rpc = { .opcode = OP_SEEK, .request = &request.base };
	struct object_message message;
	int64_t result;

	request.object = object_message(&message, where);
	request.offset = offset;
	request.hole = hole;
	result = peer_call(client, &rpc);
	assert(rpc.answered);
	if (result == 0)
		result = (int64_t)((const Strake__SeekReply *)rpc.reply)->offset;
	call_release(&rpc);

	return result;
}

/* COPY; sequence numbers are the caller's. *ret_grown may be NULL. */
static inline int copy_call(struct where from, uint32_t from_offset, struct where to, uint32_t to_offset,
			    uint32_t length, uint64_t session, uint32_t seq, int64_t *ret_grown)
{
	Strake__CopyRequest request = STRAKE__COPY_REQUEST__INIT;
	struct call rpc = { .opcode = OP_COPY, .request = &request.base, .session = session, .slot = 1, .seq = seq };
	struct object_message from_message, to_message;
	int err;

	request.from = object_message(&from_message, from);
	request.to = object_message(&to_message, to);
	request.from_offset = from_offset;
	request.to_offset = to_offset;
	request.length = length;
	err = peer_call(client, &rpc);
	assert(rpc.answered);
	if (err == 0 && ret_grown)
		*ret_grown = ((const Strake__CopyReply *)rpc.reply)->grown;
	call_release(&rpc);

	return err;
}

static inline int copy(struct where from, uint32_t from_offset, struct where to, uint32_t to_offset, uint32_t length)
{
	return copy_call(from, from_offset, to, to_offset, length, SESSION, ++next_seq, NULL);
}

/* From object to object: the offset, with *seq as the object; -EAGAIN: more than `limit` would have to be looked into. */
static inline int64_t seek_on(struct where where, uint64_t offset, bool hole, uint32_t stride, uint64_t seq_end,
			      uint32_t limit, uint64_t *seq)
{
	Strake__SeekRequest request = STRAKE__SEEK_REQUEST__INIT;
	struct call rpc = { .opcode = OP_SEEK, .request = &request.base };
	struct object_message message;
	int64_t result;

	request.object = object_message(&message, where);
	request.offset = offset;
	request.hole = hole;
	request.has_stride = request.has_seq_end = request.has_limit = true;
	request.stride = stride;
	request.seq_end = seq_end;
	request.limit = limit;
	result = peer_call(client, &rpc);
	assert(rpc.answered);
	if (result == 0) {
		const Strake__SeekReply *reply = (const Strake__SeekReply *)rpc.reply;

		assert(reply->has_seq);
		*seq = reply->seq;
		result = reply->more ? -EAGAIN : (int64_t)reply->offset;
	}
	call_release(&rpc);

	return result;
}

/* ALLOCATE, a new request in slot 1. */
static inline int allocate_total(struct where where, uint32_t offset, uint32_t length, uint64_t total)
{
	Strake__AllocateRequest request = STRAKE__ALLOCATE_REQUEST__INIT;
	struct call rpc = {
		.opcode = OP_ALLOCATE, .request = &request.base, .session = SESSION, .slot = 1, .seq = ++next_seq
	};
	struct object_message message;
	int err;

	request.object = object_message(&message, where);
	request.offset = offset;
	request.length = length;
	request.has_total = total > 0;
	request.total = total;
	err = peer_call(client, &rpc);
	assert(rpc.answered);
	call_release(&rpc);

	return err;
}

static inline int allocate(struct where where, uint32_t offset, uint32_t length)
{
	return allocate_total(where, offset, length, 0);
}

static inline int cut_from(struct peer *peer, struct where where)
{
	Strake__CutRequest request = STRAKE__CUT_REQUEST__INIT;
	struct call rpc = { .opcode = OP_CUT, .request = &request.base };
	struct object_message message;
	int err;

	request.ino = where.ino;
	request.gen = where.gen;
	request.stripe_size = where.stripe ? where.stripe : STRIPE;
	request.cut = object_message(&message, where)->cut;
	err = peer_call(peer, &rpc);
	assert(rpc.answered);
	call_release(&rpc);

	return err;
}

static inline int cut(struct where where)
{
	return cut_from(mdt, where);
}

static inline int destroy(const uint64_t *inos, const uint64_t *gens, size_t count, uint64_t newest_session)
{
	Strake__DestroyRequest request = STRAKE__DESTROY_REQUEST__INIT;
	struct call rpc = { .opcode = OP_DESTROY, .request = &request.base };
	uint64_t ino_copy[64], gen_copy[64];
	int err;

	assert(count <= 64);
	memcpy(ino_copy, inos, count * sizeof(*inos));
	memcpy(gen_copy, gens, count * sizeof(*gens));
	request.ino = ino_copy;
	request.gen = gen_copy;
	request.n_ino = request.n_gen = count;
	request.newest_session = newest_session;
	err = peer_call(mdt, &rpc);
	assert(rpc.answered);
	call_release(&rpc);

	return err;
}

/* One VOID, of a single range. */
static inline int void_once(uint64_t first, uint64_t end)
{
	Strake__VoidRequest request = STRAKE__VOID_REQUEST__INIT;
	struct call rpc = { .opcode = OP_VOID, .request = &request.base };
	int err;

	request.n_first = request.n_end = 1;
	request.first = &first;
	request.end = &end;
	request.newest_session = SESSION;
	err = peer_call(mdt, &rpc);
	assert(rpc.answered);
	call_release(&rpc);

	return err;
}

static inline bool object_file_exists(struct where where)
{
	char path[OBJECT_PATH_SIZE];

	object_path(where.ino, where.gen, where.seq, path);

	return faccessat(ost->objects_dir, path, F_OK, 0) == 0;
}

#endif
