/*
 * late_write: an answer's RDMA WRITE is on its way while its call is given up: it comes when the memory is somebody else's, and
 * reaches nothing. On real devices, by the peer and the service that all programs have.
 *
 *     late_write HOST:PORT DELAYED HELD INTERFACE moved|cancelled|timed-out
 *
 * A server listens there, by TCP and by RDMA, in a process of its own. What DELAYED, a link that RDMA from the server goes
 * over and TCP does not, carries is held back for HELD seconds: longer than going over takes. It comes in by INTERFACE, whose
 * bytes are counted. The call goes over to TCP and is answered (moved), is cancelled, or takes longer than it may (timed-out);
 * then TCP is not known, which its connection could be given up for instead.
 * Prints what has happened; exit status 1, and what has not, if it is not as it should be.
 */
#include "common/address.h"
#include "common/fabrics.h"
#include "common/fiber.h"
#include "common/key.h"
#include "common/lasting.h"
#include "common/logger.h"
#include "common/loop.h"
#include "common/peer.h"
#include "common/service.h"
#include "proto/oss.pb-c.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE        (1 << 20)
#define OWN         77    /* what the memory's next owner writes */
#define LATE_BYTES  50000 /* so many have come late at least: far more than what else goes there */
#define PATIENCE_MS 60000
#define ATTEMPT_MS  800 /* of a call that takes longer; before TCP is thought of */

static struct key key;
static struct uuid fs, target;
static struct address_list reachable;
static const char *address, *delayed, *held_s, *interface;
static int status = 1;

struct shared {
	volatile uint32_t executed; /* calls */
	volatile bool stop;
};
static struct shared *shared;

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fprintf(stderr, "late_write: ");
	vfprintf(stderr, format, args);
	fprintf(stderr, "\n");
	va_end(args);
	exit(1);
}

static void need(bool done, const char *what)
{
	if (!done)
		die("%s", what);
}

static uint8_t *memory_of(size_t size)
{
	uint8_t *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	need(memory != MAP_FAILED, "memory");
	return memory;
}

static void await_(bool (*happened)(void *arg), void *arg, const char *what)
{
	const uint64_t until_ns = clock_ns() + PATIENCE_MS * NSEC_PER_MSEC;

	while (!happened(arg)) {
		need(clock_ns() < until_ns, what);
		fiber_sleep_ms(1);
	}
}

/* --- the server --------------------------------------------------------------------------------------------------- */

/* READ: SIZE bytes, each of them the call's number. */
static void handle(void *owner, struct request *request)
{
	static uint8_t *bytes;
	Strake__ReadReply body = STRAKE__READ_REPLY__INIT;
	struct reply reply = { .body = &body.base, .bulk_count = 1 };

	(void)owner;
	if (bytes == NULL) {
		bytes = memory_of(SIZE);
		lasting_add(bytes, SIZE);
	}
	memset(bytes, (int)request->header.seq, SIZE);
	shared->executed++;
	body.length = SIZE;
	reply.bulk[0] = (struct iovec){ bytes, SIZE };
	service_reply(request, &reply);
}

static void serve(int tell)
{
	const struct service_config config = {
		.fs = fs,
		.target = target,
		.role = ROLE_OST,
		.key = &key,
		.handle = handle,
	};
	struct service *service;
	struct loop *loop;
	uint16_t port;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	need(loop_new(&loop) == 0 && service_new(loop, &config, &service) == 0, "a service");
	need(service_listen(service, address, &port) == 0, "it cannot listen");
	need(service_reachable(service, NULL, &reachable) == 0 && reachable.count == 2, "it is not reached by both");
	need(write(tell, &reachable, sizeof(reachable)) == sizeof(reachable), "write");
	loop_run(loop);
}

/* --- the client --------------------------------------------------------------------------------------------------- */

static struct peer *peer;

static bool goes_by(void *arg)
{
	struct peer_stats stats;

	peer_stats(peer, &stats);
	return peer_is_connected(peer) && stats.fabric == *(const enum fabric *)arg;
}

/* Once. */
static int ask(struct call *call, uint8_t *memory, uint32_t number)
{
	Strake__ReadRequest request = STRAKE__READ_REQUEST__INIT;
	Strake__Object object = STRAKE__OBJECT__INIT;
	int err;

	request.object = &object;
	call->opcode = OP_READ;
	call->request = &request.base;
	call->slot = 1;
	call->seq = number;
	call->bulk_in = memory;
	call->bulk_in_size = SIZE;
	err = peer_call(peer, call);
	need(err == 0 || !call->answered, "it is refused");
	call_release(call);
	return err;
}

/* Until it is answered. Returns how often it was asked. */
static unsigned int read_into(uint8_t *memory, uint32_t number)
{
	unsigned int asked = 0;
	int err;

	do {
		struct call call = { 0 };

		err = ask(&call, memory, number);
		asked++;
	} while (err < 0 && asked < 20);
	need(err == 0, "it is not answered");
	for (size_t i = 0; i < SIZE; i++)
		need(memory[i] == number, "the answer has other bytes");
	return asked;
}

static uint64_t came_in(void)
{
	char path[200];
	unsigned long long bytes;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/class/net/%s/statistics/rx_bytes", interface);
	file = fopen(path, "r");
	need(file != NULL && fscanf(file, "%llu", &bytes) == 1, path);
	fclose(file);
	return bytes;
}

static bool has_come(void *arg)
{
	return came_in() >= *(const uint64_t *)arg;
}

static void hold_back(bool on)
{
	char command[200];

	snprintf(command, sizeof(command),
		 on ? "tc qdisc add dev %s root netem delay %ss limit 100000" : "tc qdisc del dev %s root", delayed,
		 held_s);
	need(system(command) == 0, command);
}

/* So much waits on the wire. */
static bool is_held(void *arg)
{
	char line[2000], command[200];
	const char *backlog = NULL;
	FILE *file;

	(void)arg;
	snprintf(command, sizeof(command), "tc -j -s qdisc show dev %s root", delayed);
	file = popen(command, "r");
	need(file != NULL, command);
	while (backlog == NULL && fgets(line, sizeof(line), file) != NULL)
		backlog = strstr(line, "\"backlog\":");
	pclose(file);
	return backlog != NULL && strtoull(backlog + strlen("\"backlog\":"), NULL, 10) >= LATE_BYTES;
}

static void cancel_fiber(void *arg)
{
	await_(is_held, NULL, "nothing is held back");
	call_cancel(arg);
}

/* Each returns how often it was asked. */
static unsigned int is_answered_by_tcp(uint8_t *memory)
{
	const enum fabric tcp = FABRIC_TCP;
	unsigned int asked = read_into(memory, 3);

	need(goes_by((void *)(uintptr_t)&tcp), "it was answered, and not by TCP");
	return asked;
}

static unsigned int is_cancelled(uint8_t *memory)
{
	static struct call call;

	need(fiber_start(loop_current(), cancel_fiber, &call) == 0, "a fiber");
	need(ask(&call, memory, 3) == -ECANCELED, "it was not cancelled");
	return 1;
}

static unsigned int takes_too_long(uint8_t *memory)
{
	struct call call = { .attempt_ms = ATTEMPT_MS };

	need(ask(&call, memory, 3) == -ETIMEDOUT, "it did not take too long");
	need(is_held(NULL), "nothing is held back");
	return 1;
}

static const struct way {
	const char *name, *what;
	size_t addresses; /* that are known: RDMA's, and TCP's */
	unsigned int (*go)(uint8_t *memory);
} ways[] = {
	{ "moved", "answered by TCP", 2, is_answered_by_tcp },
	{ "cancelled", "cancelled", 1, is_cancelled },
	{ "timed-out", "given up", 1, takes_too_long },
};

static const struct way *way;

static void find_way(const char *name)
{
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++)
		if (strcmp(ways[i].name, name) == 0)
			way = &ways[i];
	need(way != NULL, "moved, cancelled or timed-out");
}

static void is_still(const uint8_t *memory, const char *when)
{
	for (size_t i = 0; i < SIZE; i++)
		if (memory[i] != OWN)
			die("%s: byte %zu of memory that was given back is %u", when, i, memory[i]);
}

static void client(void *arg)
{
	const char *addresses[2] = { reachable.text[1], reachable.text[0] };
	const enum fabric rdma = FABRIC_RDMA;
	const struct peer_config config = {
		.fs = fs,
		.target = target,
		.role = ROLE_OST,
		.own_role = ROLE_CLIENT,
		.key = &key,
		.addresses = addresses,
		.address_count = way->addresses,
	};
	uint8_t *memory = memory_of(SIZE);
	struct peer_stats stats;
	uint64_t bytes, began_ns;
	unsigned int asked;

	lasting_add(memory, SIZE);
	need(peer_new(loop_current(), &config, &peer) == 0, "a peer");
	read_into(memory, 1);
	await_(goes_by, (void *)(uintptr_t)&rdma, "it does not go by RDMA");
	read_into(memory, 2);

	hold_back(true);
	fiber_sleep_ms(1); /* deadlines are from the loop's time on, which stood meanwhile */
	bytes = came_in();
	began_ns = clock_ns();
	asked = way->go(memory);
	memset(memory, OWN, SIZE);
	need(came_in() - bytes < LATE_BYTES, "what was to come late came before the call was over");
	printf("%s after %u ms, asked %u times\n", way->what, (unsigned int)((clock_ns() - began_ns) / NSEC_PER_MSEC),
	       asked);
	bytes += LATE_BYTES;
	await_(has_come, &bytes, "nothing came late");
	is_still(memory, "when it came");
	printf("%u bytes and more came %u ms after the call\n", LATE_BYTES,
	       (unsigned int)((clock_ns() - began_ns) / NSEC_PER_MSEC));
	hold_back(false);
	await_(goes_by, (void *)(uintptr_t)&rdma, "it does not go by RDMA again");
	is_still(memory, "by RDMA again");
	need(shared->executed == 2 + asked, "calls were lost");
	read_into(memory, 4);

	peer_stats(peer, &stats);
	printf("connections: %u by RDMA, %u by TCP\n", (unsigned int)stats.connects_by[FABRIC_RDMA],
	       (unsigned int)stats.connects_by[FABRIC_TCP]);
	peer = peer_free(peer);
	lasting_remove(memory);
	status = 0;
	loop_stop(arg);
}

int main(int argc, char **argv)
{
	struct loop *loop;
	int pipes[2];
	pid_t pid;

	need(argc == 6, "HOST:PORT DELAYED HELD INTERFACE moved|cancelled|timed-out");
	address = argv[1];
	delayed = argv[2];
	held_s = argv[3];
	interface = argv[4];
	find_way(argv[5]);
	setvbuf(stdout, NULL, _IOLBF, 0);
	logger_init("late_write", LOGGER_INFO);
	uuid_make(&fs);
	uuid_make(&target);
	key_make(&key);
	shared = (struct shared *)memory_of(sizeof(*shared));
	need(pipe(pipes) == 0, "pipe");
	pid = fork();
	need(pid >= 0, "fork");
	if (pid == 0) {
		serve(pipes[1]);
		return 1;
	}
	close(pipes[1]);
	need(read(pipes[0], &reachable, sizeof(reachable)) == sizeof(reachable), "the server has died");
	need(loop_new(&loop) == 0 && fiber_start(loop, client, loop) == 0, "a loop");
	loop_run(loop);
	loop_free(loop);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return status;
}
