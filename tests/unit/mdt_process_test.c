/*
 * strake-mds in a process of its own: its operations by the wire; and kill -9 under writers, with every acknowledged
 * operation looked for afterwards.
 */
#include "common/status.h"
#include "tests/unit/mdt_fixture.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- an MDS in a child process: the program beside the test, ../bin/strake-mds --------------------------------------- */

/* As `strake format` does. */
static void setting_format(const struct setting *setting)
{
	char path[PATH_MAX + 16];

	ck_assert_int_eq(identity_write(setting->dir, &setting->identity), 0);
	snprintf(path, sizeof(path), "%s/cluster.key", setting->dir);
	ck_assert_int_eq(key_write(path, &setting->key), 0);
}

static void program_path(char out[PATH_MAX])
{
	ssize_t len = readlink("/proc/self/exe", out, PATH_MAX - 1);

	if (len < 0)
		_exit(126);
	out[len] = '\0';
	strcpy(strrchr(out, '/'), "/../bin/strake-mds");
}

static _Noreturn void child_run(const struct setting *setting, int ready)
{
	char path[PATH_MAX], number[16];

	program_path(path);
	snprintf(number, sizeof(number), "%d", ready);
	setenv("STRAKE_READY_FD", number, 1);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* There is no MGS. */
	execl(path, "strake-mds", "-d", setting->dir, "-l", setting->address, "-m", "127.0.0.1:1", "--mgs-wait", "0",
	      "--log-level", "error", (char *)NULL);
	_exit(127);
}

static void setting_start(struct setting *setting)
{
	char line[256] = "";
	size_t len = 0;
	ssize_t got;
	int ready[2];

	ck_assert_int_eq(pipe(ready), 0);
	setting->pid = fork();
	ck_assert_int_ge(setting->pid, 0);
	if (setting->pid == 0) {
		close(ready[0]);
		child_run(setting, ready[1]);
	}
	close(ready[1]);
	while (!strchr(line, '\n') && (got = read(ready[0], line + len, sizeof(line) - 1 - len)) > 0)
		len += (size_t)got;
	close(ready[0]);
	ck_assert_msg(sscanf(line, "ready %255s", setting->address) == 1, "the MDS did not start: %s", line);
}

static void setting_stop(struct setting *setting)
{
	int status;

	kill(setting->pid, SIGTERM);
	ck_assert_int_eq(waitpid(setting->pid, &status, 0), setting->pid);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* strake-mds --check finds nothing. */
static void setting_check(const struct setting *setting)
{
	char path[PATH_MAX];
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		program_path(path);
		execl(path, "strake-mds", "--check", "-d", setting->dir, "--log-level", "error", (char *)NULL);
		_exit(127);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* --- operations by the wire ----------------------------------------------------------------------------------------- */

static void operations(void *arg)
{
	struct client *client = arg;
	Strake__ReaddirRequest readdir = STRAKE__READDIR_REQUEST__INIT;
	Strake__SyncRequest sync = STRAKE__SYNC_REQUEST__INIT;
	Strake__SessionRenewRequest renew = STRAKE__SESSION_RENEW_REQUEST__INIT;
	Strake__SessionCloseRequest close_request = STRAKE__SESSION_CLOSE_REQUEST__INIT;
	struct call call = { .opcode = OP_READDIR, .request = &readdir.base };
	const Strake__ReaddirReply *listing;
	uint64_t dir, file, found;
	uint32_t seq = 1;

	client_open_session(client);
	ck_assert_int_eq(client_make(client, OP_MKDIR, 1, "dir", 0, seq++, &dir), 0);
	ck_assert_int_eq(client_make(client, OP_CREATE, dir, "file", 0, seq++, &file), 0);
	ck_assert_int_eq(client_make(client, OP_CREATE, dir, "file", 0, seq++, NULL), -EEXIST);
	ck_assert_int_eq(client_make(client, OP_CREATE, dir, "a/b", 0, seq++, NULL), -EINVAL);
	ck_assert_int_eq(client_make(client, OP_CREATE, dir, "x", 64, seq++, NULL), -EINVAL); /* no such slot */
	ck_assert_int_eq(client_make(client, OP_CREATE, dir, "x", 0, 1, NULL), -ESTALE);
	ck_assert_int_eq(client_lookup(client, dir, "file", &found), 0);
	ck_assert_uint_eq(found, file);
	ck_assert_int_eq(client_rename(client, dir, "file", "moved", 0, seq++), 0);
	ck_assert_int_eq(client_lookup(client, dir, "file", &found), -ENOENT);

	readdir.cred = &client->cred;
	readdir.ino = dir;
	readdir.max_bytes = 4096;
	readdir.has_attrs = readdir.attrs = 1;
	ck_assert_int_eq(client_ask(client, &call), 0);
	listing = (const Strake__ReaddirReply *)call.reply;
	ck_assert_uint_eq(listing->n_entry, 1);
	ck_assert_uint_eq(listing->entry[0]->attr->ino, file);
	ck_assert(listing->end);
	call_release(&call);

	call = (struct call){ .opcode = OP_SYNC, .request = &sync.base };
	ck_assert_int_eq(client_ask(client, &call), 0);
	ck_assert_uint_ge(call.durable_index, call.log_index);
	call_release(&call);
	sync.has_ino = true;
	sync.ino = file;
	call = (struct call){ .opcode = OP_SYNC, .request = &sync.base };
	ck_assert_int_eq(client_ask(client, &call), 0);
	call_release(&call);
	sync.ino = file + 1; /* who has made it, and knows its number, is told that it is lost */
	call = (struct call){ .opcode = OP_SYNC, .request = &sync.base };
	ck_assert_int_eq(client_ask(client, &call), -ESTALE);
	call_release(&call);
	call = (struct call){ .opcode = OP_SESSION_RENEW, .request = &renew.base };
	ck_assert_int_eq(client_ask(client, &call), 0);
	ck_assert(!((const Strake__SessionRenewReply *)call.reply)->reclaim);
	call_release(&call);
	ck_assert_int_eq(client_unlink(client, dir, "moved", 0, seq++), 0);

	call = (struct call){ .opcode = OP_SESSION_CLOSE, .request = &close_request.base };
	ck_assert_int_eq(client_ask(client, &call), 0);
	call_release(&call);
	ck_assert_int_eq(client_lookup(client, dir, "x", &found), -ENOSESSION);
	client->peer = peer_free(client->peer);
	loop_stop(client->loop);
}

START_TEST(by_the_wire)
{
	struct setting setting;
	struct client client = { 0 };

	setting_make(&setting);
	setting_format(&setting);
	setting_start(&setting);
	ck_assert_int_eq(loop_new(&client.loop), 0);
	client_run(&client, &setting, operations, &client);
	loop_free(client.loop);
	setting_stop(&setting);
	temp_dir_remove(setting.dir);
}
END_TEST

/* --- kill -9 under a writer ----------------------------------------------------------------------------------------- */

#define WRITERS   32
#define ROUNDS    5
#define PER_ROUND 40 /* operations of each writer */

struct writers {
	struct client client;
	struct setting *setting;
	uint64_t dir;
	unsigned int acknowledged, kill_at, kills;
	uint64_t inos[WRITERS][ROUNDS * PER_ROUND];
};

struct writer {
	struct writers *all;
	unsigned int number;
	unsigned int round;
};

/* The name that operation `step` of a writer leaves behind; every third is unlinked again, every second renamed. */
static void name_of_step(char out[32], unsigned int writer, unsigned int step, bool final)
{
	snprintf(out, 32, "%s%u-%u", final && step % 2 ? "r" : "w", writer, step);
}

static void acknowledged(struct writers *all)
{
	if (++all->acknowledged == all->kill_at)
		kill(all->setting->pid, SIGKILL);
}

static void writer_run(void *arg)
{
	struct writer *writer = arg;
	struct writers *all = writer->all;
	char name[32], final[32];
	uint32_t seq = 1 + writer->round * PER_ROUND * 3;

	for (unsigned int i = 0; i < PER_ROUND; i++) {
		unsigned int step = writer->round * PER_ROUND + i;

		name_of_step(name, writer->number, step, false);
		name_of_step(final, writer->number, step, true);
		/* Twice executed would be EEXIST or ENOENT. */
		ck_assert_int_eq(client_make(&all->client, OP_CREATE, all->dir, name, writer->number, seq++,
					     &all->inos[writer->number][step]),
				 0);
		acknowledged(all);
		if (step % 2)
			ck_assert_int_eq(client_rename(&all->client, all->dir, name, final, writer->number, seq++), 0);
		acknowledged(all);
		if (step % 3 == 0)
			ck_assert_int_eq(client_unlink(&all->client, all->dir, final, writer->number, seq++), 0);
		acknowledged(all);
	}
	if (--all->client.running == 0)
		fiber_wake_all(&all->client.idle);
	free(writer);
}

static void check_all(struct writers *all, unsigned int steps)
{
	char name[32];
	uint64_t ino;

	for (unsigned int writer = 0; writer < WRITERS; writer++) {
		for (unsigned int step = 0; step < steps; step++) {
			name_of_step(name, writer, step, true);
			if (step % 3 == 0) {
				ck_assert_int_eq(client_lookup(&all->client, all->dir, name, &ino), -ENOENT);
				continue;
			}
			ck_assert_int_eq(client_lookup(&all->client, all->dir, name, &ino), 0);
			ck_assert_uint_eq(ino, all->inos[writer][step]);
		}
	}
}

/* Starts the MDT anew when it has been killed; on the loop's own time. */
static void keeper_run(void *arg)
{
	struct writers *all = arg;
	int status;

	while (all->client.running > 0) {
		if (waitpid(all->setting->pid, &status, WNOHANG) == all->setting->pid) {
			ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
			all->kills++;
			setting_start(all->setting);
		}
		fiber_sleep_ms(2);
	}
}

static void kill_rounds(void *arg)
{
	struct writers *all = arg;

	client_open_session(&all->client);
	ck_assert_int_eq(client_make(&all->client, OP_MKDIR, 1, "dir", 63, 1, &all->dir), 0);
	for (unsigned int round = 0; round < ROUNDS; round++) {
		all->acknowledged = 0;
		all->kill_at = 400 + 700 * round;
		all->client.running = WRITERS;
		for (unsigned int i = 0; i < WRITERS; i++) {
			struct writer *writer = malloc(sizeof(*writer));

			*writer = (struct writer){ .all = all, .number = i, .round = round };
			ck_assert_int_eq(fiber_start(all->client.loop, writer_run, writer), 0);
		}
		ck_assert_int_eq(fiber_start(all->client.loop, keeper_run, all), 0);
		while (all->client.running > 0)
			fiber_wait(&all->client.idle, NULL);
		check_all(all, (round + 1) * PER_ROUND);
	}
	all->client.peer = peer_free(all->client.peer);
	loop_stop(all->client.loop);
}

static void check_again(void *arg)
{
	struct writers *all = arg;

	check_all(all, ROUNDS * PER_ROUND);
	all->client.peer = peer_free(all->client.peer);
	loop_stop(all->client.loop);
}

START_TEST(killed_under_writers)
{
	struct setting setting;
	struct writers *all = calloc(1, sizeof(*all));

	setting_make(&setting);
	setting_format(&setting);
	all->setting = &setting;
	setting_start(&setting);
	ck_assert_int_eq(loop_new(&all->client.loop), 0);
	client_run(&all->client, &setting, kill_rounds, all);
	ck_assert_uint_eq(all->kills, ROUNDS);

	/* And stopped as it should be. */
	setting_stop(&setting);
	setting_start(&setting);
	client_run(&all->client, &setting, check_again, all);
	kill(setting.pid, SIGKILL);
	ck_assert_int_eq(waitpid(setting.pid, NULL, 0), setting.pid);
	setting_check(&setting);
	loop_free(all->client.loop);
	free(all);
	temp_dir_remove(setting.dir);
}
END_TEST

UNIT_MAIN("mdt_process", by_the_wire, killed_under_writers)
