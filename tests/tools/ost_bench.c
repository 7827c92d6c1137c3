/*
 * ost_bench: what requests for objects cost an OST, by CPU time of the whole daemon. Several builds take turns, so that
 * a machine that is busy with other things is as unkind to one as to the other.
 *
 *     ost_bench [-s SIZE] [-n OBJECTS] [-q DEPTH] [-p PASSES] [-r ROUNDS] [-f] [-c] STRAKE-OSS...
 *
 * Each round starts each daemon on an empty folder below $TMPDIR and lets one connection write OBJECTS objects of SIZE
 * bytes (-f: each is committed at once, as fsync does), commit everything, and read them PASSES times with sums and as
 * often without (-c: from the disk, the page cache having been dropped), DEPTH requests under way. Wall time says
 * something on an idle machine only.
 */
#include "common/bulk_sums.h"
#include "common/fiber.h"
#include "common/identity.h"
#include "common/key.h"
#include "common/logger.h"
#include "common/peer.h"
#include "proto/oss.pb-c.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SESSION     7
#define REQUEST_MAX (1024u * 1024)
#define SUMS_MAX    (REQUEST_MAX / BULK_PIECE + 1)
#define LEASE_MS    600000
#define DEPTH_MAX   128

struct bench {
	size_t size;
	unsigned int objects, depth, passes, rounds;
	bool fsync, cold;

	const char *daemon;
	char dir[PATH_MAX], address[64];
	struct identity identity;
	struct key key;
	pid_t pid;
	clockid_t clock; /* the daemon's CPU time */

	struct loop *loop;
	struct peer *client, *mdt;
	uint8_t *data;
	uint32_t seq[DEPTH_MAX];
};

/* A phase: fibers take the next number until there is none. */
struct phase {
	struct bench *bench;
	void (*one)(struct bench *bench, unsigned int fiber, unsigned int number, uint8_t *buffer);
	unsigned int next, count, running, fibers;
	struct fiber_queue done;
};

static struct bench bench = { .size = 100 * 1024, .objects = 2000, .depth = 16, .passes = 1, .rounds = 3 };

static void must(bool right, const char *what)
{
	if (right)
		return;
	fprintf(stderr, "ost_bench: %s\n", what);
	exit(1);
}

/* --- requests ------------------------------------------------------------------------------------------------------ */

static void push_sessions(struct bench *b)
{
	Strake__SessionTable table = STRAKE__SESSION_TABLE__INIT;
	struct call call = { .opcode = OP_SESSIONS, .request = &table.base };
	uint64_t session = SESSION;

	table.epoch = 1;
	table.session = &session;
	table.n_session = 1;
	table.lease_ms = LEASE_MS;
	table.newest = SESSION;
	must(peer_call(b->mdt, &call) == 0, "SESSIONS failed");
	table.has_heard = 1; /* the second one grants the lease */
	table.heard = ((const Strake__SessionTableReply *)call.reply)->now;
	call_release(&call);
	call = (struct call){ .opcode = OP_SESSIONS, .request = &table.base };
	must(peer_call(b->mdt, &call) == 0, "SESSIONS failed");
	call_release(&call);
}

static void commit(struct bench *b, uint64_t ino)
{
	Strake__CommitRequest request = STRAKE__COMMIT_REQUEST__INIT;
	struct call call = { .opcode = OP_COMMIT, .request = &request.base };

	request.ino = ino;
	request.gen = ino ? 1 : 0;
	must(peer_call(b->client, &call) == 0, "COMMIT failed");
	call_release(&call);
}

static void name_object(Strake__Object *object, unsigned int number)
{
	strake__object__init(object);
	object->ino = 1 + (uint64_t)number;
	object->gen = 1;
	object->stripe_size = 4 * 1024 * 1024;
}

static void write_one(struct bench *b, unsigned int fiber, unsigned int number, uint8_t *buffer)
{
	Strake__WriteRequest request = STRAKE__WRITE_REQUEST__INIT;
	struct iovec iov = { .iov_base = b->data, .iov_len = b->size };
	uint32_t sums[SUMS_MAX];
	struct call call = { .opcode = OP_WRITE, .request = &request.base, .session = SESSION, .slot = fiber };
	Strake__Object object;

	(void)buffer;
	name_object(&object, number);
	request.object = &object;
	request.sums = sums;
	request.n_sums = bulk_sums_count(0, b->size);
	bulk_sums_make(0, &iov, 1, sums);
	call.seq = ++b->seq[fiber];
	call.bulk_out = &iov;
	call.bulk_out_count = 1;
	must(peer_call(b->client, &call) == 0, "WRITE failed");
	call_release(&call);
	if (b->fsync)
		commit(b, object.ino);
}

static void read_object(struct bench *b, unsigned int number, uint8_t *buffer, bool no_sums)
{
	Strake__ReadRequest request = STRAKE__READ_REQUEST__INIT;
	struct call call = { .opcode = OP_READ, .request = &request.base, .bulk_in = buffer, .bulk_in_size = b->size };
	Strake__Object object;

	name_object(&object, number % b->objects);
	request.object = &object;
	request.length = (uint32_t)b->size;
	request.has_no_sums = request.no_sums = no_sums;
	must(peer_call(b->client, &call) == 0 && call.bulk_in_len == b->size, "READ failed");
	if (!no_sums) {
		const Strake__ReadReply *reply = (const Strake__ReadReply *)call.reply;

		must(bulk_sums_check(0, buffer, b->size, reply->sums, reply->n_sums, NULL) == 0, "READ: wrong sums");
	}
	call_release(&call);
}

static void read_one(struct bench *b, unsigned int fiber, unsigned int number, uint8_t *buffer)
{
	(void)fiber;
	read_object(b, number, buffer, false);
}

static void read_one_no_sums(struct bench *b, unsigned int fiber, unsigned int number, uint8_t *buffer)
{
	(void)fiber;
	read_object(b, number, buffer, true);
}

static void commit_all(struct bench *b, unsigned int fiber, unsigned int number, uint8_t *buffer)
{
	(void)fiber;
	(void)number;
	(void)buffer;
	commit(b, 0);
}

/* --- phases -------------------------------------------------------------------------------------------------------- */

static void phase_fiber(void *arg)
{
	struct phase *phase = arg;
	unsigned int fiber = phase->fibers++;
	uint8_t *buffer = malloc(phase->bench->size);

	must(buffer, "out of memory");
	while (phase->next < phase->count)
		phase->one(phase->bench, fiber, phase->next++, buffer);
	free(buffer);
	if (--phase->running == 0)
		fiber_wake_all(&phase->done);
}

static uint64_t cpu_ns(clockid_t clock)
{
	struct timespec time;

	must(clock_gettime(clock, &time) == 0, "the daemon has ended");

	return (uint64_t)time.tv_sec * NSEC_PER_SEC + (uint64_t)time.tv_nsec;
}

static void run_phase(struct bench *b, const char *name, unsigned int count,
		      void (*one)(struct bench *, unsigned int, unsigned int, uint8_t *))
{
	struct phase phase = { .bench = b, .one = one, .count = count, .running = b->depth };
	uint64_t began = clock_ns(), cpu = cpu_ns(b->clock), own = cpu_ns(CLOCK_PROCESS_CPUTIME_ID);
	double gib = (double)count * (double)b->size / (1u << 30);
	double seconds;

	for (unsigned int i = 0; i < b->depth; i++)
		must(fiber_start(b->loop, phase_fiber, &phase) == 0, "out of memory");
	while (phase.running > 0)
		fiber_wait(&phase.done, NULL);
	seconds = (double)(clock_ns() - began) / 1e9;
	cpu = cpu_ns(b->clock) - cpu;
	own = cpu_ns(CLOCK_PROCESS_CPUTIME_ID) - own;
	printf("  %-14s %8.0f /s %8.2f GiB/s  daemon %8.1f us each %6.3f s/GiB  client %6.3f s/GiB\n", name,
	       count / seconds, gib / seconds, (double)cpu / 1e3 / count, (double)cpu / 1e9 / gib,
	       (double)own / 1e9 / gib);
}

static void drop_caches(const struct bench *b)
{
	int fd;

	if (!b->cold)
		return;
	sync();
	fd = open("/proc/sys/vm/drop_caches", O_WRONLY);
	must(fd >= 0 && write(fd, "1", 1) == 1, "cannot drop the page cache");
	close(fd);
}

static struct peer *connect_as(struct bench *b, enum role role)
{
	const char *addresses[] = { b->address };
	struct peer_config config = {
		.fs = b->identity.fs,
		.target = b->identity.target,
		.role = ROLE_OST,
		.own_role = role,
		.key = &b->key,
		.addresses = addresses,
		.address_count = 1,
	};
	struct peer *peer;

	uuid_make(&config.own_uuid);
	must(peer_new(b->loop, &config, &peer) == 0, "out of memory");

	return peer;
}

static void round_fiber(void *arg)
{
	struct bench *b = arg;

	b->client = connect_as(b, ROLE_CLIENT);
	b->mdt = connect_as(b, ROLE_MDT);
	push_sessions(b);
	run_phase(b, b->fsync ? "write+commit" : "write", b->objects, write_one);
	run_phase(b, "commit all", 1, commit_all);
	drop_caches(b);
	run_phase(b, "read", b->passes * b->objects, read_one);
	drop_caches(b);
	run_phase(b, "read, no sums", b->passes * b->objects, read_one_no_sums);
	b->client = peer_free(b->client);
	b->mdt = peer_free(b->mdt);
	fiber_yield();
	loop_stop(b->loop);
}

/* --- the daemon ---------------------------------------------------------------------------------------------------- */

static void format(struct bench *b)
{
	const char *base = getenv("TMPDIR");
	char path[PATH_MAX + 16];

	b->identity =
		(struct identity){ .role = ROLE_OST, .format_version = IDENTITY_FORMAT_VERSION, .fs_name = "bench" };
	snprintf(b->dir, sizeof(b->dir), "%s/ost-bench-XXXXXX", base ? base : "/tmp");
	must(mkdtemp(b->dir) != NULL, "cannot make a folder");
	uuid_make(&b->identity.fs);
	uuid_make(&b->identity.target);
	key_make(&b->key);
	snprintf(path, sizeof(path), "%s/cluster.key", b->dir);
	must(identity_write(b->dir, &b->identity) == 0 && key_write(path, &b->key) == 0, "cannot format");
}

static void start(struct bench *b)
{
	char ready[128] = "", number[16];
	int ends[2];

	must(pipe(ends) == 0, "no pipe");
	b->pid = fork();
	must(b->pid >= 0, "cannot fork");
	if (b->pid == 0) {
		close(ends[0]);
		snprintf(number, sizeof(number), "%d", ends[1]);
		setenv("STRAKE_READY_FD", number, 1);
		execl(b->daemon, b->daemon, "-d", b->dir, "-l", "127.0.0.1:0", "-m", "127.0.0.1:1", (char *)NULL);
		_exit(127);
	}
	close(ends[1]);
	for (size_t got = 0; got < sizeof(ready) - 1 && !strchr(ready, '\n');) {
		ssize_t n = read(ends[0], ready + got, sizeof(ready) - 1 - got);

		must(n > 0, "the daemon does not start");
		got += (size_t)n;
	}
	close(ends[0]);
	must(sscanf(ready, "ready %63s", b->address) == 1, ready);
	must(clock_getcpuclockid(b->pid, &b->clock) == 0, "no clock");
}

static int remove_one(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
	(void)stat;
	(void)type;
	(void)ftw;

	return remove(path);
}

static void stop(struct bench *b)
{
	int status;

	kill(b->pid, SIGTERM);
	must(waitpid(b->pid, &status, 0) == b->pid && status == 0, "the daemon has failed");
	nftw(b->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void run_round(struct bench *b, unsigned int round)
{
	format(b);
	start(b);
	printf("%s, round %u\n", b->daemon, round + 1);
	memset(b->seq, 0, sizeof(b->seq));
	must(loop_new(&b->loop) == 0 && fiber_start(b->loop, round_fiber, b) == 0 && loop_run(b->loop) == 0, "no loop");
	b->loop = loop_free(b->loop);
	stop(b);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	int option;

	while ((option = getopt(argc, argv, "s:n:q:p:r:fc")) >= 0) {
		unsigned long value = optarg ? strtoul(optarg, NULL, 10) : 0;

		switch (option) {
		case 's':
			bench.size = value;
			break;
		case 'n':
			bench.objects = (unsigned int)value;
			break;
		case 'q':
			bench.depth = (unsigned int)value;
			break;
		case 'p':
			bench.passes = (unsigned int)value;
			break;
		case 'r':
			bench.rounds = (unsigned int)value;
			break;
		case 'f':
			bench.fsync = true;
			break;
		case 'c':
			bench.cold = true;
			break;
		default:
			return 2;
		}
	}
	must(optind < argc && bench.size > 0 && bench.size <= REQUEST_MAX && bench.depth > 0 &&
		     bench.depth <= DEPTH_MAX,
	     "usage: ost_bench [-s SIZE] [-n OBJECTS] [-q DEPTH] [-p PASSES] [-r ROUNDS] [-f] [-c] STRAKE-OSS...");
	signal(SIGPIPE, SIG_IGN);
	logger_init("ost_bench", LOGGER_ERROR);
	bench.data = malloc(bench.size);
	must(bench.data != NULL, "out of memory");
	for (size_t i = 0; i < bench.size; i++)
		bench.data[i] = (uint8_t)(i * 2654435761u >> 13);
	for (unsigned int round = 0; round < bench.rounds; round++) {
		for (int i = optind; i < argc; i++) {
			bench.daemon = argv[i];
			run_round(&bench, round);
		}
	}
	free(bench.data);

	return 0;
}
