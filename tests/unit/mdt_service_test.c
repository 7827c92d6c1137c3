/*
 * An MDT as others see it, over loopback: its operations by the wire; kill -9 under a writer, with every acknowledged
 * operation looked for afterwards; and what it has an OST (a simple one, in this process) do.
 */
#include "common/fiber.h"
#include "common/logger.h"
#include "common/peer.h"
#include "common/status.h"
#include "held_disk.h"
#include "mds/cut.h"
#include "mds/destroy.h"
#include "mds/mdt.h"
#include "mds/orphan.h"
#include "mds/ost_link.h"
#include "mds/sessions.h"
#include "mds/void.h"
#include "proto/oss.pb-c.h"
#include "temp_dir.h"
#include "unit.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- an MDS in a child process: the program beside the test, ../bin/strake-mds --------------------------------------- */

struct setting {
	char dir[PATH_MAX];
	char address[ADDRESS_SIZE];
	struct identity identity;
	struct key key;
	pid_t pid;
};

static void setting_make(struct setting *setting)
{
	temp_dir_make(setting->dir);
	strcpy(setting->address, "127.0.0.1:0");
	setting->identity = (struct identity){ .role = ROLE_MDT, .format_version = 1, .fs_name = "test" };
	uuid_make(&setting->identity.fs);
	uuid_make(&setting->identity.target);
	key_make(&setting->key);
}

/* As `strake format` does. */
static void setting_format(const struct setting *setting)
{
	char path[PATH_MAX + 16];

	ck_assert_int_eq(identity_write(setting->dir, &setting->identity), 0);
	snprintf(path, sizeof(path), "%s/cluster.key", setting->dir);
	ck_assert_int_eq(key_write(path, &setting->key), 0);
}

static struct mdt_config setting_config(const struct setting *setting, struct address_list *listen)
{
	ck_assert_int_eq(address_list_parse(setting->address, listen), 0);
	return (struct mdt_config){
		.dir = setting->dir,
		.listen = listen,
		.identity = &setting->identity,
		.key = &setting->key,
	};
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

/* --- a client ------------------------------------------------------------------------------------------------------- */

struct client {
	struct loop *loop;
	struct peer *peer;
	uint64_t session;
	unsigned int running;
	struct fiber_queue idle;
	Strake__Cred cred;
	uint64_t pushed, recalled; /* what LOCK_PUSH last told; 0: nothing */
};

static void client_pushed(void *owner, uint16_t opcode, const ProtobufCMessage *message)
{
	const Strake__LockPush *push = (const void *)message;
	struct client *client = owner;

	ck_assert_int_eq(opcode, OP_LOCK_PUSH);
	if (push->n_waiter > 0)
		client->pushed = push->waiter[0];
	if (push->n_recall > 0)
		client->recalled = push->recall[0];
}

static void client_connect(struct client *client, const struct setting *setting)
{
	const char *addresses[] = { setting->address };

	ck_assert_int_eq(peer_new(client->loop,
				  &(struct peer_config){
					  .fs = setting->identity.fs,
					  .target = setting->identity.target,
					  .role = ROLE_MDT,
					  .own_role = ROLE_CLIENT,
					  .key = &setting->key,
					  .addresses = addresses,
					  .address_count = 1,
					  .owner = client,
					  .push = client_pushed,
				  },
				  &client->peer),
			 0);
	strake__cred__init(&client->cred);
}

/* Ask until there is an answer: the same slot and number again. The caller releases the call. */
static int client_ask(struct client *client, struct call *call)
{
	int err;

	call->session = client->session;
	for (;;) {
		err = peer_call(client->peer, call);
		if (call->answered)
			return err;
		call_release(call);
		call->flags |= FRAME_RESENT;
		fiber_sleep_ms(5);
	}
}

static void client_open_session(struct client *client)
{
	Strake__SessionOpenRequest request = STRAKE__SESSION_OPEN_REQUEST__INIT;
	struct call call = { .opcode = OP_SESSION_OPEN, .request = &request.base };
	char hostname[] = "here";
	struct uuid uuid;
	uint64_t first;

	uuid_make(&uuid);
	request.client_uuid = (ProtobufCBinaryData){ .data = uuid.bytes, .len = UUID_SIZE };
	request.hostname = hostname;
	request.slots = 64;
	ck_assert_int_eq(client_ask(client, &call), 0);
	first = ((const Strake__SessionOpenReply *)call.reply)->session;
	ck_assert_uint_eq(((const Strake__SessionOpenReply *)call.reply)->slots, 64);
	ck_assert_uint_ge(call.durable_index, call.log_index);
	call_release(&call);

	/* The same again: the same session. */
	ck_assert_int_eq(client_ask(client, &call), 0);
	client->session = ((const Strake__SessionOpenReply *)call.reply)->session;
	ck_assert_uint_eq(client->session, first);
	call_release(&call);
}

static ProtobufCBinaryData name_data(const char *name)
{
	return (ProtobufCBinaryData){ .data = (uint8_t *)(uintptr_t)name, .len = strlen(name) };
}

static int client_make(struct client *client, uint16_t op, uint64_t parent, const char *name, uint32_t slot,
		       uint32_t seq, uint64_t *ret_ino)
{
	Strake__CreateRequest request = STRAKE__CREATE_REQUEST__INIT;
	struct call call = { .opcode = op, .request = &request.base, .slot = slot, .seq = seq };
	int err;

	request.cred = &client->cred;
	request.parent = parent;
	request.name = name_data(name);
	request.mode = 0755;
	request.has_exclusive = request.exclusive = 1;
	err = client_ask(client, &call);
	if (err == 0 && ret_ino)
		*ret_ino = ((const Strake__EntryReply *)call.reply)->attr->ino;
	call_release(&call);
	return err;
}

static int client_unlink(struct client *client, uint64_t parent, const char *name, uint32_t slot, uint32_t seq)
{
	Strake__UnlinkRequest request = STRAKE__UNLINK_REQUEST__INIT;
	struct call call = { .opcode = OP_UNLINK, .request = &request.base, .slot = slot, .seq = seq };
	int err;

	request.cred = &client->cred;
	request.parent = parent;
	request.name = name_data(name);
	err = client_ask(client, &call);
	call_release(&call);
	return err;
}

static int client_rename(struct client *client, uint64_t parent, const char *name, const char *new_name, uint32_t slot,
			 uint32_t seq)
{
	Strake__RenameRequest request = STRAKE__RENAME_REQUEST__INIT;
	struct call call = { .opcode = OP_RENAME, .request = &request.base, .slot = slot, .seq = seq };
	int err;

	request.cred = &client->cred;
	request.parent = request.new_parent = parent;
	request.name = name_data(name);
	request.new_name = name_data(new_name);
	err = client_ask(client, &call);
	call_release(&call);
	return err;
}

static int client_lookup(struct client *client, uint64_t parent, const char *name, uint64_t *ret_ino)
{
	Strake__LookupRequest request = STRAKE__LOOKUP_REQUEST__INIT;
	struct call call = { .opcode = OP_LOOKUP, .request = &request.base };
	int err;

	request.cred = &client->cred;
	request.parent = parent;
	request.name = name_data(name);
	err = client_ask(client, &call);
	if (err == 0)
		*ret_ino = ((const Strake__EntryReply *)call.reply)->attr->ino;
	call_release(&call);
	return err;
}

/* Run body(client) in a fiber on a loop of its own, to its end. */
static void client_run(struct client *client, const struct setting *setting, void (*body)(void *arg), void *arg)
{
	client_connect(client, setting);
	ck_assert_int_eq(fiber_start(client->loop, body, arg), 0);
	ck_assert_int_eq(loop_run(client->loop), 0);
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

/* --- an older copy ---------------------------------------------------------------------------------------------------- */

/* Open it, and see where its log ended, and what is reserved and void then; it makes nothing else. */
static uint64_t reopen(struct loop *loop, const struct setting *setting, bool go_on, uint64_t from,
		       uint64_t *ret_reserved, uint64_t *ret_void_end)
{
	struct address_list listen;
	struct mdt_config config = setting_config(setting, &listen);
	struct mdt *mdt;
	char error[256];
	uint64_t found;

	config.has_go_on_from = go_on;
	config.go_on_from = from;
	ck_assert_msg(mdt_open(loop, &config, &mdt, error, sizeof(error)) == 0, "%s", error);
	found = mdt->found;
	*ret_reserved = mdt->state.meta.reserved;
	*ret_void_end = void_end(mdt->state.view, NULL);
	mdt_stop(mdt);
	mdt_close(mdt);
	return found;
}

/* Where the log ends that nobody goes on with. */
static uint64_t log_end(struct loop *loop, const struct setting *setting)
{
	struct mdt_config config = setting_config(setting, &(struct address_list){ 0 });
	struct mdt *mdt;
	char error[256];
	uint64_t found;

	config.listen = NULL;
	ck_assert_msg(mdt_open(loop, &config, &mdt, error, sizeof(error)) == 0, "%s", error);
	found = mdt->found;
	mdt_close(mdt);
	return found;
}

START_TEST(an_older_copy_goes_on_above)
{
	struct setting setting;
	struct loop *loop;
	uint64_t end, reserved, more, voids;

	setting_make(&setting);
	ck_assert_int_eq(loop_new(&loop), 0);
	reopen(loop, &setting, false, 0, &reserved, &voids);
	ck_assert_uint_eq(voids, 0);

	/* It ends elsewhere: that was meant for another copy. */
	end = log_end(loop, &setting);
	ck_assert_uint_eq(log_end(loop, &setting), end);
	reopen(loop, &setting, true, end - 1, &more, &voids);
	ck_assert_uint_eq(more, reserved);
	ck_assert_uint_eq(voids, 0);

	end = log_end(loop, &setting);
	ck_assert_uint_eq(reopen(loop, &setting, true, end, &more, &voids), end);
	ck_assert_uint_ge(more, reserved + NUMBERS_LEAP);
	ck_assert_uint_ge(voids, reserved + NUMBERS_LEAP - NUMBERS_BLOCK);
	ck_assert_uint_eq(more >> 48, 0);

	/* Once. */
	reserved = more;
	ck_assert_uint_gt(reopen(loop, &setting, true, end, &more, &voids), end);
	ck_assert_uint_eq(more, reserved);
	loop_free(loop);
	temp_dir_remove(setting.dir);
}
END_TEST

/* --- an OST --------------------------------------------------------------------------------------------------------- */

#define OST_SEEN_MAX 64

struct fake_ost {
	struct setting setting;
	struct loop *loop;
	struct mdt *mdt;
	struct service *service;
	struct uuid target;
	char address[ADDRESS_SIZE];
	struct address_list listen; /* the MDT's */
	bool strict;
	unsigned int refuse; /* so many requests are answered EIO first */
	unsigned int stale;  /* so many cuts ESTALE */
	uint16_t first_op;   /* the first request that came; 0: none */
	unsigned int sessions, session_count;
	uint64_t sessions_newest, sessions_heard, destroys_newest;
	uint64_t clock; /* in answers to SESSIONS */
	uint64_t destroyed_ino[OST_SEEN_MAX], destroyed_gen[OST_SEEN_MAX];
	size_t destroyed;
	uint64_t cut_ino, cut_number, cut_start;
	unsigned int busy; /* so many VOIDs are answered EAGAIN */
	unsigned int voids;
	uint64_t void_first[OST_SEEN_MAX], void_end[OST_SEEN_MAX]; /* of the last VOID */
	size_t void_count;
	struct client client;
};

static void ost_handle(void *owner, struct request *request)
{
	Strake__SessionTableReply answer = STRAKE__SESSION_TABLE_REPLY__INIT;
	struct fake_ost *ost = owner;

	if (ost->first_op == 0)
		ost->first_op = request->header.opcode;
	if (ost->refuse > 0 && request->header.opcode != OP_SESSIONS) {
		ost->refuse--;
		service_reply_error(request, -EIO);
		return;
	}
	if (request->header.opcode == OP_SESSIONS) {
		const Strake__SessionTable *table = (const void *)request->body;

		ck_assert_uint_le(table->epoch, mdt_log_durable(ost->mdt->log));
		ost->sessions++;
		ost->session_count = (unsigned int)table->n_session;
		ost->sessions_newest = table->newest;
		ost->sessions_heard = table->has_heard ? table->heard : 0;
		answer.now = ++ost->clock;
		service_reply(request, &(struct reply){ .body = &answer.base });
		return;
	} else if (request->header.opcode == OP_DESTROY) {
		const Strake__DestroyRequest *destroy = (const void *)request->body;

		ost->destroys_newest = destroy->newest_session;
		for (size_t i = 0; i < destroy->n_ino && ost->destroyed < OST_SEEN_MAX; i++) {
			struct destroy_row row;

			if (destroy_get(ost->mdt->state.view, destroy->ino[i], destroy->gen[i], &row) == 0)
				ck_assert_uint_le(row.index, mdt_log_durable(ost->mdt->log));
			ost->destroyed_ino[ost->destroyed] = destroy->ino[i];
			ost->destroyed_gen[ost->destroyed++] = destroy->gen[i];
		}
	} else if (request->header.opcode == OP_CUT) {
		const Strake__CutRequest *cut = (const void *)request->body;
		struct cut_row row;

		if (ost->stale > 0) {
			ost->stale--;
			service_reply_error(request, -ESTALE);
			return;
		}
		if (cut_get(ost->mdt->state.view, cut->ino, &row) == 0 && row.number == cut->cut->number)
			ck_assert_uint_le(row.index, mdt_log_durable(ost->mdt->log));
		ost->cut_ino = cut->ino;
		ost->cut_number = cut->cut->number;
		ost->cut_start = cut->cut->start;
	} else if (request->header.opcode == OP_VOID) {
		const Strake__VoidRequest *voids = (const void *)request->body;

		if (ost->busy > 0) {
			ost->busy--;
			service_reply_error(request, -EAGAIN);
			return;
		}
		ck_assert(voids->n_first == voids->n_end && voids->n_first <= OST_SEEN_MAX);
		ost->void_count = voids->n_first;
		memcpy(ost->void_first, voids->first, voids->n_first * sizeof(*voids->first));
		memcpy(ost->void_end, voids->end, voids->n_end * sizeof(*voids->end));
		ost->voids++;
	}
	service_reply_error(request, 0);
}

static void service_start(struct fake_ost *ost)
{
	uint16_t port;

	ost->first_op = 0;
	ck_assert_int_eq(service_new(ost->loop,
				     &(struct service_config){ .fs = ost->setting.identity.fs,
							       .target = ost->target,
							       .role = ROLE_OST,
							       .key = &ost->setting.key,
							       .owner = ost,
							       .handle = ost_handle },
				     &ost->service),
			 0);
	ck_assert_int_eq(service_listen(ost->service, ost->address, &port), 0);
	address_join("127.0.0.1", port, ost->address);
}

static void mdt_start(struct fake_ost *ost)
{
	struct mdt_config config = setting_config(&ost->setting, &ost->listen);
	char error[256];

	config.strict = ost->strict;
	ck_assert_msg(mdt_open(ost->loop, &config, &ost->mdt, error, sizeof(error)) == 0, "%s", error);
}

static void give_map(struct fake_ost *ost, bool listed)
{
	Strake__ClusterMap map = STRAKE__CLUSTER_MAP__INIT;
	Strake__Target target = STRAKE__TARGET__INIT, *targets[] = { &target };
	char *addresses[] = { ost->address };

	target.uuid = (ProtobufCBinaryData){ .data = ost->target.bytes, .len = UUID_SIZE };
	target.role = STRAKE__TARGET_ROLE__TARGET_OST;
	target.n_address = 1;
	target.address = addresses;
	target.bytes_total = target.bytes_free = 1 << 30;
	target.instance = 1;
	map.n_target = listed;
	map.target = targets;
	layout_chooser_set(&ost->mdt->chooser, &map);
	ost_links_set_map(ost->mdt->links, &map);
}

static int truncate_file(struct client *client, uint64_t ino, uint64_t size, uint32_t seq)
{
	Strake__SetattrRequest request = STRAKE__SETATTR_REQUEST__INIT;
	struct call call = { .opcode = OP_SETATTR, .request = &request.base, .seq = seq };
	int err;

	request.cred = &client->cred;
	request.ino = ino;
	request.has_size = 1;
	request.size = size;
	err = client_ask(client, &call);
	if (err == 0)
		ck_assert_uint_ge(call.durable_index, call.log_index);
	call_release(&call);
	return err;
}

static bool open_file(struct client *client, uint16_t op, uint64_t ino)
{
	Strake__OpenRequest open = STRAKE__OPEN_REQUEST__INIT;
	Strake__CloseRequest close_request = STRAKE__CLOSE_REQUEST__INIT;
	struct call call = { .opcode = op, .request = op == OP_OPEN ? &open.base : &close_request.base };
	uint32_t modes = OPEN_READ;
	int err;

	open.cred = &client->cred;
	open.ino = ino;
	open.modes = modes;
	close_request.n_ino = close_request.n_modes = 1;
	close_request.ino = &ino;
	close_request.modes = &modes;
	err = client_ask(client, &call);
	call_release(&call);
	return err == 0;
}

static uint64_t pending_rows(struct fake_ost *ost, enum view_table table)
{
	struct view_cursor cursor;
	uint64_t count = 0;
	int err = view_seek(ost->mdt->state.view, table, (struct bytes){ "", 0 }, &cursor);

	for (; err == 0; err = view_next(&cursor))
		count++;
	return count;
}

static void story_end(struct fake_ost *ost)
{
	ost->client.peer = peer_free(ost->client.peer);
	ost->service = service_free(ost->service);
	mdt_stop(ost->mdt);
	loop_stop(ost->loop);
}

/* The MDT has read what was sent to it, and its loop has gone round often enough to send what it has to. */
static void go_round(struct client *client)
{
	uint64_t ino;

	for (unsigned int i = 0; i < 20; i++)
		ck_assert_int_eq(client_lookup(client, 1, "nobody", &ino), -ENOENT);
}

static void ost_story(void *arg)
{
	struct fake_ost *ost = arg;
	struct client *client = &ost->client;
	struct inode inode;
	uint64_t file, held;
	uint32_t seq = 1;
	int err;

	client_open_session(client);
	while (ost->session_count != 1)
		fiber_sleep_ms(1);
	ck_assert_uint_eq(ost->sessions_newest, client->session);

	/* A cut reaches the OST, durably ordered; the next waits for it. */
	ost->refuse = 2;
	ck_assert_int_eq(client_make(client, OP_CREATE, 1, "file", 0, seq++, &file), 0);
	ck_assert_int_eq(truncate_file(client, file, 5000, seq++), 0);
	while ((err = truncate_file(client, file, 4000, seq++)) == -EAGAIN)
		fiber_sleep_ms(2);
	ck_assert_int_eq(err, 0);
	while (ost->cut_number != 2 || pending_rows(ost, TABLE_CUT) > 0)
		fiber_sleep_ms(1);
	ck_assert_uint_eq(ost->cut_ino, file);
	ck_assert_uint_eq(ost->cut_start, 4000);

	/* One that knows of a newer gen has nothing to cut. */
	ost->stale = 1;
	ck_assert_int_eq(truncate_file(client, file, 3000, seq++), 0);
	while (pending_rows(ost, TABLE_CUT) > 0)
		fiber_sleep_ms(1);
	ck_assert_uint_eq(ost->stale, 0);
	ck_assert_uint_eq(ost->cut_start, 4000);

	/* Destroyed when the last who has it open is gone; refused together, alone, and then no more. */
	ost->refuse = 2;
	ck_assert_int_eq(client_make(client, OP_CREATE, 1, "held", 0, seq++, &held), 0);
	ck_assert(open_file(client, OP_OPEN, held));
	ck_assert_int_eq(client_unlink(client, 1, "held", 0, seq++), 0);
	ck_assert_int_eq(client_unlink(client, 1, "file", 0, seq++), 0);
	while (ost->destroyed < 1 || pending_rows(ost, TABLE_DESTROY) > 0)
		fiber_sleep_ms(1);
	ck_assert_uint_eq(ost->destroyed, 1);
	ck_assert_uint_eq(ost->destroyed_ino[0], file);
	ck_assert_uint_eq(ost->destroys_newest, client->session);
	ck_assert(open_file(client, OP_OPEN, held));
	ck_assert(open_file(client, OP_CLOSE, held));
	ck_assert(!open_file(client, OP_OPEN, held));
	while (ost->destroyed < 2 || pending_rows(ost, TABLE_DESTROY) > 0)
		fiber_sleep_ms(1);
	ck_assert_uint_eq(ost->destroyed_ino[1], held);

	/* An evicted session leaves the table, and doubt about the size of what it was writing. */
	ck_assert_int_eq(client_make(client, OP_CREATE, 1, "written", 0, seq++, &file), 0);
	opens_add(ost->mdt->opens, client->session, file, OPEN_WRITE);
	mdt_evict(ost->mdt, client->session);
	ck_assert_int_eq(inode_load(ost->mdt->state.view, file, &inode), 0);
	ck_assert((inode.flags & INODE_SIZE_UNSURE) != 0);
	while (ost->session_count != 0)
		fiber_sleep_ms(1);

	/* The OST leaves the map, comes again, and the MDT ends while it is spoken to. */
	give_map(ost, false);
	fiber_sleep_ms(5);
	give_map(ost, true);
	fiber_yield();
	story_end(ost);
}

/* One request to the MDT whose log cannot be synced, in a fiber of its own. */
struct ask {
	struct fake_ost *ost;
	struct call call;
	uint64_t cut_index; /* what the answer tells of */
	bool tells;
	unsigned int *left; /* of those who have no answer */
};

static void ask_run(void *arg)
{
	struct ask *ask = arg;

	ck_assert_int_eq(client_ask(&ask->ost->client, &ask->call), 0);
	if (ask->tells)
		ck_assert_uint_ge(ask->call.durable_index, ask->cut_index);
	call_release(&ask->call);
	--*ask->left;
}

static void cut_story(void *arg)
{
	struct fake_ost *ost = arg;
	struct client *client = &ost->client;
	Strake__SetattrRequest truncate = STRAKE__SETATTR_REQUEST__INIT;
	Strake__GetattrRequest getattr = STRAKE__GETATTR_REQUEST__INIT, getattr_other = STRAKE__GETATTR_REQUEST__INIT;
	Strake__LookupRequest lookup = STRAKE__LOOKUP_REQUEST__INIT;
	Strake__ReaddirRequest readdir = STRAKE__READDIR_REQUEST__INIT;
	Strake__OpenRequest open = STRAKE__OPEN_REQUEST__INIT;
	Strake__CreateRequest create = STRAKE__CREATE_REQUEST__INIT;
	Strake__SizeRequest size = STRAKE__SIZE_REQUEST__INIT;
	struct cut_row row;
	uint64_t file, other;
	unsigned int left = 0, others_left = 0;
	uint32_t seq = 1;

	client_open_session(client);
	ck_assert_int_eq(client_make(client, OP_CREATE, 1, "file", 0, seq++, &file), 0);
	ck_assert_int_eq(client_make(client, OP_CREATE, 1, "other", 0, seq++, &other), 0);
	truncate.cred = lookup.cred = readdir.cred = open.cred = create.cred = &client->cred;
	truncate.ino = getattr.ino = open.ino = size.ino = file;
	getattr_other.ino = other;
	truncate.has_size = 1;
	truncate.size = 5000;
	lookup.parent = create.parent = readdir.ino = 1;
	lookup.name = create.name = name_data("file");
	readdir.max_bytes = 65536;
	readdir.has_attrs = readdir.attrs = 1;
	open.modes = OPEN_READ;
	size.gen = file;
	size.cut = 1;
	size.has_wrote = size.wrote = 1;

	struct ask asks[] = {
		{ .call = { .opcode = OP_SETATTR, .request = &truncate.base, .slot = 0, .seq = seq }, .tells = true },
		{ .call = { .opcode = OP_GETATTR, .request = &getattr.base }, .tells = true },
		{ .call = { .opcode = OP_LOOKUP, .request = &lookup.base }, .tells = true },
		{ .call = { .opcode = OP_READDIR, .request = &readdir.base }, .tells = true },
		{ .call = { .opcode = OP_OPEN, .request = &open.base }, .tells = true },
		{ .call = { .opcode = OP_CREATE, .request = &create.base, .slot = 1, .seq = 1 }, .tells = true },
		{ .call = { .opcode = OP_SIZE, .request = &size.base, .slot = 2, .seq = 1 }, .tells = true },
		{ .call = { .opcode = OP_GETATTR, .request = &getattr_other.base } },
	};
	const size_t count = sizeof(asks) / sizeof(*asks);

	disk_hold(true);
	for (size_t i = 0; i < count; i++) {
		asks[i].ost = ost;
		asks[i].left = asks[i].tells ? &left : &others_left;
		++*asks[i].left;
		ck_assert_int_eq(fiber_start(client->loop, ask_run, &asks[i]), 0);
		while (i == 0 && cut_get(ost->mdt->state.view, file, &row) < 0)
			fiber_sleep_ms(1);
		asks[i].cut_index = row.index;
	}
	/* One that tells nothing of it is answered at once; with that, all before it on the connection have been read. */
	while (others_left > 0)
		fiber_sleep_ms(1);
	ck_assert_uint_lt(mdt_log_durable(ost->mdt->log), row.index);
	ck_assert_uint_eq(left, count - 1);
	ck_assert_uint_eq(ost->cut_number, 0);
	disk_hold(false);
	while (left > 0 || ost->cut_number == 0)
		fiber_sleep_ms(1);

	story_end(ost);
}

static void second_session(void *arg)
{
	struct client *other = arg;

	client_open_session(other);
	other->running = 0;
}

/* A file is made shorter, in a fiber of its own. */
struct shorten {
	struct client *client;
	uint64_t ino;
	uint32_t seq;
	bool answered;
};

static void shorten_run(void *arg)
{
	struct shorten *shorten = arg;

	ck_assert_int_eq(truncate_file(shorten->client, shorten->ino, 5000, shorten->seq), 0);
	shorten->answered = true;
}

static int end_session(struct client *client)
{
	Strake__SessionCloseRequest request = STRAKE__SESSION_CLOSE_REQUEST__INIT;
	struct call call = { .opcode = OP_SESSION_CLOSE, .request = &request.base };
	int err = client_ask(client, &call);

	call_release(&call);
	client->session = 0;
	return err;
}

/* It ends, and the OST knows. */
static void session_gone(struct fake_ost *ost, struct client *client)
{
	ck_assert_int_eq(end_session(client), 0);
	client->peer = peer_free(client->peer);
	while (ost->session_count != 2)
		fiber_sleep_ms(1);
}

/* While nothing can be synced: what a lost tail of the log would take back is not told. */
static void held_story(void *arg)
{
	struct fake_ost *ost = arg;
	struct client *client = &ost->client, other = { .loop = ost->loop, .running = 1 };
	struct client third = { .loop = ost->loop, .running = 1 };
	struct shorten cut;
	unsigned int before;
	uint64_t file;
	uint32_t seq = 1;

	client_open_session(client);
	while (ost->session_count != 1)
		fiber_sleep_ms(1);
	ck_assert_int_eq(client_make(client, OP_CREATE, 1, "file", 0, seq++, &file), 0);
	client_connect(&other, &ost->setting);

	disk_hold(true);
	ck_assert_int_eq(client_unlink(client, 1, "file", 0, seq++), 0);
	ck_assert_int_eq(fiber_start(ost->loop, second_session, &other), 0);
	while (leases_count(ost->mdt->leases) != 2)
		fiber_sleep_ms(1);
	go_round(client);
	ck_assert_uint_eq(pending_rows(ost, TABLE_DESTROY), 1);
	ck_assert_uint_eq(ost->destroyed, 0);
	ck_assert_uint_eq(ost->session_count, 1);
	ck_assert_uint_eq(other.running, 1);
	disk_hold(false);
	while (ost->destroyed < 1 || ost->session_count != 2 || other.running > 0)
		fiber_sleep_ms(1);
	ck_assert_uint_eq(ost->sessions_newest, other.session);

	/* Nor to an OST that comes back meanwhile; what was ordered before it gets. */
	ck_assert_int_eq(client_make(client, OP_CREATE, 1, "away", 0, seq++, &file), 0);
	ost->service = service_free(ost->service);
	ck_assert_int_eq(client_unlink(client, 1, "away", 0, seq++), 0);
	while (mdt_log_durable(ost->mdt->log) < mdt_log_last(ost->mdt->log))
		fiber_sleep_ms(1);
	before = ost->sessions;
	client_connect(&third, &ost->setting);
	disk_hold(true);
	ck_assert_int_eq(fiber_start(ost->loop, second_session, &third), 0);
	while (leases_count(ost->mdt->leases) != 3)
		fiber_sleep_ms(1);
	service_start(ost);
	while (ost->destroyed < 2)
		fiber_sleep_ms(1);
	ck_assert_uint_eq(ost->destroyed_ino[1], file);
	ck_assert_uint_eq(ost->sessions, before);
	disk_hold(false);
	while (third.running > 0 || ost->session_count != 3)
		fiber_sleep_ms(1);
	session_gone(ost, &third);

	/*
	 * A sync ends that began between two records: what the first one orders may go, not the second's, nor the table with
	 * a session that was opened after it (ost_handle() looks). A few times, because what the log's thread began may also
	 * be a note.
	 */
	for (unsigned int round = 0; round < 5; round++) {
		third = (struct client){ .loop = ost->loop, .running = 1 };
		client_connect(&third, &ost->setting);
		ost->destroyed = 0;
		ck_assert_int_eq(client_make(client, OP_CREATE, 1, "one", 0, seq++, NULL), 0);
		ck_assert_int_eq(client_make(client, OP_CREATE, 1, "two", 0, seq++, NULL), 0);
		ck_assert_int_eq(client_make(client, OP_CREATE, 1, "three", 0, seq++, &file), 0);
		while (mdt_log_durable(ost->mdt->log) < mdt_log_last(ost->mdt->log))
			fiber_sleep_ms(1);
		disk_hold(true);
		ck_assert_int_eq(client_unlink(client, 1, "one", 0, seq++), 0);
		while (!disk_is_waited_for())
			fiber_sleep_ms(1);
		ck_assert_int_eq(client_unlink(client, 1, "two", 1, round), 0);
		cut = (struct shorten){ .client = client, .ino = file, .seq = seq++ };
		ck_assert_int_eq(fiber_start(ost->loop, shorten_run, &cut), 0);
		ck_assert_int_eq(fiber_start(ost->loop, second_session, &third), 0);
		while (leases_count(ost->mdt->leases) != 3)
			fiber_sleep_ms(1);
		go_round(client);
		ck_assert_uint_eq(pending_rows(ost, TABLE_CUT), 1);
		disk_pass_one();
		for (unsigned int i = 0; i < 5; i++)
			go_round(client);
		disk_hold(false);
		while (!cut.answered || ost->destroyed < 2 || pending_rows(ost, TABLE_DESTROY) > 0 ||
		       pending_rows(ost, TABLE_CUT) > 0)
			fiber_sleep_ms(1);
		ck_assert_int_eq(client_unlink(client, 1, "three", 0, seq++), 0);
		while (ost->destroyed < 3 || pending_rows(ost, TABLE_DESTROY) > 0 || third.running > 0)
			fiber_sleep_ms(1);
		session_gone(ost, &third);
	}
	other.peer = peer_free(other.peer);
	story_end(ost);
}

/* An OST that comes again hears of the sessions first, serves them as long as it hears, and has one UUID. */
static void replaced_story(void *arg)
{
	struct fake_ost *ost = arg;
	struct client *client = &ost->client;
	unsigned int before;
	uint64_t file, began_ns;
	uint32_t seq = 1;

	client_open_session(client);
	while (ost->session_count != 1)
		fiber_sleep_ms(1);
	ck_assert_int_eq(client_make(client, OP_CREATE, 1, "file", 0, seq++, &file), 0);
	ost->service = service_free(ost->service);
	ck_assert_int_eq(client_unlink(client, 1, "file", 0, seq++), 0);
	while (mdt_log_durable(ost->mdt->log) < mdt_log_last(ost->mdt->log))
		fiber_sleep_ms(1);
	go_round(client);
	service_start(ost);
	while (ost->destroyed < 1)
		fiber_sleep_ms(1);
	ck_assert_uint_eq(ost->first_op, OP_SESSIONS);
	ck_assert_uint_eq(ost->sessions_heard, ost->clock - 1); /* so that it grants the lease */

	/* Its lease is renewed in time though nothing changes. */
	before = ost->sessions;
	began_ns = clock_ns();
	while (ost->sessions == before)
		fiber_sleep_ms(10);
	ck_assert_uint_lt(clock_ns() - began_ns, SESSION_LEASE_MS / 2 * NSEC_PER_MSEC);

	/* Another one under its index: the old one is spoken to no more. */
	ost->service = service_free(ost->service);
	uuid_make(&ost->target);
	strcpy(ost->address, "127.0.0.1:0");
	service_start(ost);
	give_map(ost, true);
	before = ost->sessions;
	while (ost->sessions == before)
		fiber_sleep_ms(1);
	story_end(ost);
}

/* A directory is made, in a fiber of its own. */
struct make {
	struct client *client;
	const char *name;
	uint32_t slot, seq;
	uint16_t flags;
	bool answered;
	uint64_t ino;
};

static void make_run(void *arg)
{
	struct make *make = arg;
	Strake__CreateRequest request = STRAKE__CREATE_REQUEST__INIT;
	struct call call = {
		.opcode = OP_MKDIR, .flags = make->flags, .request = &request.base, .slot = make->slot, .seq = make->seq
	};

	request.cred = &make->client->cred;
	request.parent = 1;
	request.name = name_data(make->name);
	request.mode = 0755;
	ck_assert_int_eq(client_ask(make->client, &call), 0);
	ck_assert(!(call.flags & FRAME_RESENT)); /* it was answered, though late */
	if (make->flags & FRAME_SYNC)
		ck_assert_uint_ge(call.durable_index, call.log_index);
	make->ino = ((const Strake__EntryReply *)call.reply)->attr->ino;
	call_release(&call);
	make->answered = true;
}

static void promise_story(void *arg)
{
	struct fake_ost *ost = arg;
	struct client *client = &ost->client;
	struct make promised = { .client = client, .name = "promised", .slot = 1, .seq = 1, .flags = FRAME_SYNC };
	struct make plain = { .client = client, .name = "plain", .slot = 2, .seq = 1 };
	uint64_t fastest_ns = UINT64_MAX;

	client_open_session(client);
	disk_hold(true);
	ck_assert_int_eq(fiber_start(ost->loop, make_run, &promised), 0);
	ck_assert_int_eq(fiber_start(ost->loop, make_run, &plain), 0);
	go_round(client);
	ck_assert(!promised.answered);
	ck_assert(plain.answered == !ost->strict);
	disk_hold(false);
	while (!promised.answered || !plain.answered)
		fiber_sleep_ms(1);

	/* What is waited for is synced at once, not when the log would be. */
	for (uint32_t i = 0; i < 20; i++) {
		char name[16];
		struct make quick = { .client = client, .name = name, .slot = 1, .seq = 2 + i, .flags = FRAME_SYNC };
		uint64_t began_ns = clock_ns();

		snprintf(name, sizeof(name), "quick%u", i);
		make_run(&quick);
		if (clock_ns() - began_ns < fastest_ns)
			fastest_ns = clock_ns() - began_ns;
	}
	ck_assert_uint_lt(fastest_ns, MDT_LOG_SYNC_MS / 2 * NSEC_PER_MSEC);
	story_end(ost);
}

/* The range is used up, and the record of the next one is not durable yet. */
static void numbers_story(void *arg)
{
	struct fake_ost *ost = arg;
	struct client *client = &ost->client;
	struct make first = { .client = client, .name = "first", .slot = 1, .seq = 1 };
	struct make parked = { .client = client, .name = "parked", .slot = 1, .seq = 2 };
	uint64_t end, fastest_ns = UINT64_MAX;

	client_open_session(client);
	make_run(&first);
	ck_assert_uint_eq(first.ino >> 48, 5);
	disk_hold(true);
	end = ost->mdt->numbers.next = ost->mdt->numbers.end;
	ck_assert_int_eq(fiber_start(ost->loop, make_run, &parked), 0);
	go_round(client);
	ck_assert(!parked.answered);
	disk_hold(false);
	while (!parked.answered)
		fiber_sleep_ms(1);
	ck_assert_uint_eq(parked.ino, end);

	/* The record is synced at once, not when the log would be. */
	for (uint32_t i = 0; i < 20; i++) {
		char name[16];
		struct make quick = { .client = client, .name = name, .slot = 1, .seq = 3 + i };
		uint64_t began_ns = clock_ns();

		snprintf(name, sizeof(name), "quick%u", i);
		ost->mdt->numbers.next = ost->mdt->numbers.end;
		make_run(&quick);
		if (clock_ns() - began_ns < fastest_ns)
			fastest_ns = clock_ns() - began_ns;
	}
	ck_assert_uint_lt(fastest_ns, MDT_LOG_SYNC_MS / 2 * NSEC_PER_MSEC);
	story_end(ost);
}

/* CREATE with open_modes. */
static uint64_t create_open(struct client *client, const char *name, uint32_t slot, uint32_t seq)
{
	Strake__CreateRequest request = STRAKE__CREATE_REQUEST__INIT;
	struct call call = { .opcode = OP_CREATE, .request = &request.base, .slot = slot, .seq = seq };
	uint64_t ino;

	request.cred = &client->cred;
	request.parent = 1;
	request.name = name_data(name);
	request.mode = 0600;
	request.has_open_modes = 1;
	request.open_modes = OPEN_READ;
	ck_assert_int_eq(client_ask(client, &call), 0);
	ino = ((const Strake__EntryReply *)call.reply)->attr->ino;
	call_release(&call);
	return ino;
}

static void open_story(void *arg)
{
	struct fake_ost *ost = arg;
	struct client *client = &ost->client, other = { .loop = ost->loop };
	uint64_t file;
	uint32_t seq = 1;

	client_open_session(client);
	client_connect(&other, &ost->setting);
	client_open_session(&other);
	file = create_open(client, "file", 0, seq++);
	ck_assert_uint_eq(opens_modes(ost->mdt->opens, client->session, file), OPEN_READ);
	ck_assert(open_file(&other, OP_OPEN, file));
	other.cred.uid = 1000;
	ck_assert(!open_file(&other, OP_OPEN, file));
	other.cred.uid = 0;
	ck_assert(open_file(&other, OP_CLOSE, file));

	/* Without a name it can be opened again by who has it open, and by nobody else. */
	ck_assert_int_eq(client_unlink(client, 1, "file", 0, seq++), 0);
	ck_assert(open_file(client, OP_OPEN, file));
	ck_assert(!open_file(&other, OP_OPEN, file));
	other.peer = peer_free(other.peer);
	story_end(ost);
}

static void lease_story(void *arg)
{
	struct fake_ost *ost = arg;
	struct client *client = &ost->client;
	struct leases *leases = ost->mdt->leases;
	const uint64_t lease_ns = SESSION_LEASE_MS * NSEC_PER_MSEC;
	Strake__SessionOpenRequest request = STRAKE__SESSION_OPEN_REQUEST__INIT;
	struct call call = { .opcode = OP_SESSION_OPEN, .request = &request.base };
	struct session_row row;
	struct lease *lease;
	struct inode inode;
	struct uuid uuid;
	uint64_t file, now_ns;

	client_open_session(client);
	file = create_open(client, "file", 0, 1);
	opens_add(ost->mdt->opens, client->session, file, OPEN_WRITE);

	/* Any request renews it. */
	lease = leases_find(leases, client->session);
	now_ns = loop_now_ns(ost->loop);
	lease->heard_ns = now_ns - lease_ns / 2;
	go_round(client);
	ck_assert_uint_ge(lease->heard_ns, now_ns);

	/* That the MDT itself stood still is nobody's silence. */
	lease->heard_ns -= lease_ns + lease_ns / 2;
	ost->mdt->tick_at_ns -= 2 * lease_ns;
	while (ost->mdt->tick_at_ns < loop_now_ns(ost->loop))
		fiber_sleep_ms(1);
	ck_assert_ptr_nonnull(leases_find(leases, client->session));

	/* Silence is. */
	lease->heard_ns = loop_now_ns(ost->loop) - lease_ns - 1;
	while (leases_count(leases) > 0 || ost->session_count > 0)
		fiber_sleep_ms(1);
	ck_assert_int_eq(session_get(ost->mdt->state.view, client->session, &row), -ENOENT);
	ck_assert_uint_eq(opens_count(ost->mdt->opens), 0);
	ck_assert_int_eq(inode_load(ost->mdt->state.view, file, &inode), 0);
	ck_assert((inode.flags & INODE_SIZE_UNSURE) != 0);

	/* One that says good-bye takes with it what it has open. */
	client->session = 0;
	client_open_session(client);
	ck_assert(open_file(client, OP_OPEN, file));
	ck_assert_int_eq(end_session(client), 0);
	ck_assert_uint_eq(opens_count(ost->mdt->opens), 0);

	/* There are so many and no more. */
	uuid_make(&uuid);
	for (uint64_t session = UINT64_MAX - SESSIONS_MAX; session < UINT64_MAX; session++)
		leases_add(leases, session, &(struct uuid){ 0 }, 1, true, loop_now_ns(ost->loop));
	request.client_uuid = (ProtobufCBinaryData){ .data = uuid.bytes, .len = UUID_SIZE };
	request.hostname = (char[]){ "here" };
	ck_assert_int_eq(client_ask(client, &call), -EMFILE);
	call_release(&call);
	for (uint64_t session = UINT64_MAX - SESSIONS_MAX; session < UINT64_MAX; session++)
		leases_remove(leases, session);
	story_end(ost);
}

static bool renew(struct client *client, uint64_t *ret_instance)
{
	Strake__SessionRenewRequest request = STRAKE__SESSION_RENEW_REQUEST__INIT;
	struct call call = { .opcode = OP_SESSION_RENEW, .request = &request.base };
	bool reclaim;

	ck_assert_int_eq(client_ask(client, &call), 0);
	reclaim = ((const Strake__SessionRenewReply *)call.reply)->reclaim;
	*ret_instance = ((const Strake__SessionRenewReply *)call.reply)->instance;
	call_release(&call);
	return reclaim;
}

static void reclaim(struct client *client, uint64_t ino)
{
	Strake__ReclaimRequest request = STRAKE__RECLAIM_REQUEST__INIT;
	struct call call = { .opcode = OP_RECLAIM, .request = &request.base };
	uint32_t modes = OPEN_READ;

	request.n_ino = request.n_modes = 1;
	request.ino = &ino;
	request.modes = &modes;
	ck_assert_int_eq(client_ask(client, &call), 0);
	call_release(&call);
}

static bool is_held(struct fake_ost *ost, uint64_t ino)
{
	return orphan_is_held_by(ost->mdt->state.view, ino, ost->client.session);
}

static void reclaim_story(void *arg)
{
	struct fake_ost *ost = arg;
	struct client *client = &ost->client;
	uint64_t held, forgotten, again, instance, next_instance;
	struct inode inode;
	uint32_t seq = 1;

	client_open_session(client);
	held = create_open(client, "held", 0, seq++);
	forgotten = create_open(client, "forgotten", 0, seq++);
	again = create_open(client, "again", 1, 1);
	ck_assert_int_eq(client_unlink(client, 1, "held", 0, seq++), 0);
	ck_assert_int_eq(client_unlink(client, 1, "forgotten", 0, seq++), 0);
	ck_assert(!renew(client, &instance));

	mdt_stop(ost->mdt);
	mdt_close(ost->mdt);
	mdt_start(ost);
	give_map(ost, true);
	ck_assert(renew(client, &next_instance));
	ck_assert_uint_ne(instance, next_instance);

	/* Before it has told, it may have it open in other modes than those it closes. */
	ck_assert(open_file(client, OP_CLOSE, held));
	ck_assert(is_held(ost, held) && is_held(ost, forgotten));
	/* The answer to a CREATE was lost with the MDT: it is open all the same. */
	ck_assert_uint_eq(create_open(client, "again", 1, 1), again);

	reclaim(client, held);
	ck_assert(!renew(client, &next_instance));
	ck_assert(is_held(ost, held));
	ck_assert_int_lt(inode_load(ost->mdt->state.view, forgotten, &inode), 0);
	ck_assert_int_eq(client_unlink(client, 1, "again", 0, seq++), 0);
	ck_assert(is_held(ost, again));
	ck_assert(open_file(client, OP_CLOSE, held));
	ck_assert(!is_held(ost, held));
	story_end(ost);
}

static void mdt_end(struct fake_ost *ost)
{
	mdt_stop(ost->mdt);
	mdt_close(ost->mdt);
}

static void mdt_again(struct fake_ost *ost)
{
	ost->voids = 0;
	ost->void_count = 0;
	mdt_start(ost);
	give_map(ost, true);
	go_round(&ost->client);
}

/* --- locks ---------------------------------------------------------------------------------------------------------- */

struct lock_ask {
	struct client *client;
	uint64_t ino;
	uint32_t kind, type, drop;
	uint64_t start, waiter; /* a POSIX lock is of ten bytes */
	uint32_t slot, seq;
};

/* The outcome, or -errno. */
static int lock_ask(const struct lock_ask *ask)
{
	Strake__Lock lock = STRAKE__LOCK__INIT;
	Strake__LockRequest request = STRAKE__LOCK_REQUEST__INIT;
	struct call call = { .opcode = OP_LOCK, .request = &request.base, .slot = ask->slot, .seq = ask->seq };
	const Strake__LockReply *reply;
	int result;

	lock.kind = ask->kind ? ask->kind : LOCK_POSIX;
	lock.type = ask->type;
	lock.start = ask->start;
	lock.end = ask->start + 9;
	lock.owner = 1;
	request.ino = ask->ino;
	request.lock = &lock;
	request.has_waiter = request.has_wait = request.wait = ask->waiter > 0;
	request.waiter = ask->waiter;
	request.has_drop = 1;
	request.drop = ask->drop;
	result = client_ask(ask->client, &call);
	if (result == 0) {
		reply = (const Strake__LockReply *)call.reply;
		result = (int)reply->outcome;
		if (result == LOCK_GRANTED && ask->type != LOCK_FREE)
			ck_assert_uint_eq(reply->attr->ino, ask->ino);
	}
	call_release(&call);
	return result;
}

static int lock_take(struct client *client, uint64_t ino, uint64_t start, uint32_t seq)
{
	return lock_ask(&(struct lock_ask){
		.client = client, .ino = ino, .type = LOCK_EXCLUSIVE, .start = start, .slot = 9, .seq = seq });
}

static int lock_give(struct client *client, uint64_t ino, uint64_t start, uint32_t seq)
{
	return lock_ask(&(struct lock_ask){
		.client = client, .ino = ino, .type = LOCK_FREE, .start = start, .slot = 9, .seq = seq });
}

static void lock_story(void *arg)
{
	struct fake_ost *ost = arg;
	struct client *client = &ost->client, other = { .loop = ost->loop };
	struct lock_ask ask = { .client = &other, .type = LOCK_EXCLUSIVE, .slot = 9, .seq = 2, .waiter = 77 };
	uint64_t file, last;
	uint32_t seq = 1;

	client_open_session(client);
	client_connect(&other, &ost->setting);
	client_open_session(&other);
	ck_assert_int_eq(client_make(client, OP_CREATE, 1, "file", 0, seq++, &file), 0);
	while (ost->session_count != 2)
		fiber_sleep_ms(1);
	last = mdt_log_last(ost->mdt->log);

	/* Asked twice it is taken once; who waits is told. */
	ask.ino = file;
	ck_assert_int_eq(lock_take(client, file, 0, 1), LOCK_GRANTED);
	ck_assert_int_eq(lock_take(client, file, 0, 1), LOCK_GRANTED);
	ck_assert_int_eq(lock_take(&other, file, 9, 1), LOCK_CONFLICT);
	ck_assert_int_eq(lock_ask(&ask), LOCK_QUEUED);
	ck_assert_int_eq(lock_give(client, file, 0, 2), LOCK_GRANTED);
	while (other.pushed != 77)
		fiber_sleep_ms(1);
	ask.seq++;
	ck_assert_int_eq(lock_ask(&ask), LOCK_GRANTED);

	/* One that comes late, after what was done in its slot since, is a ghost's; of a change as of a lock. */
	ck_assert_int_eq(lock_give(&other, file, 0, 9), LOCK_GRANTED);
	ck_assert_int_eq(lock_take(&other, file, 0, 8), -ESTALE);
	ck_assert_int_eq(client_make(&other, OP_MKDIR, 1, "late", 9, 8, NULL), -ESTALE);
	ck_assert_int_eq(lock_take(client, file, 0, 3), LOCK_GRANTED);
	ck_assert_uint_eq(mdt_log_last(ost->mdt->log), last);
	ck_assert_int_eq(client_make(client, OP_MKDIR, 1, "dir", 9, 5, NULL), 0);
	ck_assert_int_eq(lock_give(client, file, 0, 4), -ESTALE);
	ck_assert_int_eq(lock_give(client, file, 0, 6), LOCK_GRANTED);

	/* The right to append is asked back from who has it; and whoever has it hears of a truncate elsewhere. */
	ask = (struct lock_ask){ .client = client,
				 .ino = file,
				 .kind = LOCK_APPEND,
				 .type = LOCK_EXCLUSIVE,
				 .slot = 9,
				 .seq = 7,
				 .waiter = 1 };
	ck_assert_int_eq(lock_ask(&ask), LOCK_GRANTED);
	ck_assert_int_eq(truncate_file(&other, file, 100, 1), 0);
	while (client->recalled != file)
		fiber_sleep_ms(1);
	client->recalled = 0;
	ask.client = &other;
	ask.seq = 10;
	ck_assert_int_eq(lock_ask(&ask), LOCK_QUEUED);
	while (client->recalled != file)
		fiber_sleep_ms(1);
	other.peer = peer_free(other.peer);
	story_end(ost);
}

/* What a lost session has on its way to an OST must not come after what the next holder of its lock writes. */
static void fence_story(void *arg)
{
	struct fake_ost *ost = arg;
	struct client *client = &ost->client, other = { .loop = ost->loop };
	uint64_t file, lost;
	uint32_t seq = 1;

	client_open_session(client);
	client_connect(&other, &ost->setting);
	client_open_session(&other);
	ck_assert_int_eq(client_make(client, OP_CREATE, 1, "file", 0, seq++, &file), 0);
	while (ost->session_count != 2)
		fiber_sleep_ms(1);

	for (int round = 0; round < 2; round++) {
		ck_assert_int_eq(lock_take(&other, file, 0, 1), LOCK_GRANTED);
		ost->service = service_free(ost->service);
		lost = other.session;
		if (round == 0)
			leases_find(ost->mdt->leases, lost)->heard_ns = 1;
		else
			ck_assert_int_eq(end_session(&other), 0);
		while (leases_find(ost->mdt->leases, lost))
			fiber_sleep_ms(1);
		ck_assert_int_eq(lock_take(client, file, 0, seq++), LOCK_CONFLICT);
		service_start(ost);
		while (lock_take(client, file, 0, seq++) != LOCK_GRANTED)
			fiber_sleep_ms(1);
		ck_assert_uint_eq(ost->session_count, 1);
		ck_assert_int_eq(lock_give(client, file, 0, seq++), LOCK_GRANTED);
		other.session = 0;
		client_open_session(&other);
		while (ost->session_count != 2)
			fiber_sleep_ms(1);
	}
	other.peer = peer_free(other.peer);
	story_end(ost);
}

static int reclaim_lock(struct client *client, uint64_t ino, uint64_t start, bool more, uint64_t instance)
{
	Strake__Lock lock = STRAKE__LOCK__INIT;
	Strake__HeldLock held = STRAKE__HELD_LOCK__INIT, *list = &held;
	Strake__ReclaimRequest request = STRAKE__RECLAIM_REQUEST__INIT;
	struct call call = { .opcode = OP_RECLAIM, .request = &request.base };
	int err;

	lock.kind = LOCK_POSIX;
	lock.type = LOCK_EXCLUSIVE;
	lock.start = start;
	lock.end = start + 9;
	lock.owner = 1;
	held.ino = ino;
	held.lock = &lock;
	request.lock = &list;
	request.n_lock = 1;
	request.has_more = 1;
	request.more = more;
	request.has_instance = 1;
	request.instance = instance;
	err = client_ask(client, &call);
	call_release(&call);
	return err;
}

static void lock_reclaim_story(void *arg)
{
	struct fake_ost *ost = arg;
	struct client *client = &ost->client, other = { .loop = ost->loop };
	uint64_t file, instance, old;
	uint32_t seq = 1;

	client_open_session(client);
	client_connect(&other, &ost->setting);
	client_open_session(&other);
	ck_assert_int_eq(client_make(client, OP_CREATE, 1, "file", 0, 1, &file), 0);
	while (ost->session_count != 2)
		fiber_sleep_ms(1);
	ck_assert_int_eq(lock_take(client, file, 0, seq++), LOCK_GRANTED);
	ck_assert_int_eq(lock_take(client, file, 20, seq++), LOCK_GRANTED);
	renew(client, &old);

	/* Which session had ended before is not known: who is not fenced yet might hold what is asked for. */
	ost->service = service_free(ost->service);
	mdt_end(ost);
	mdt_again(ost);
	renew(client, &instance);
	reclaim(&other, file);

	/* All wait for who has not told; and he has to tell before he does anything. In parts, all to the same MDT. */
	ck_assert_int_eq(lock_take(&other, file, 40, seq++), -EAGAIN);
	ck_assert_int_eq(lock_give(client, file, 0, seq++), -EAGAIN);
	ck_assert_int_eq(reclaim_lock(client, file, 0, true, old), -ESTALE);
	ck_assert_int_eq(reclaim_lock(client, file, 0, true, instance), 0);
	ck_assert_int_eq(lock_take(&other, file, 40, seq++), -EAGAIN);
	ck_assert_int_eq(reclaim_lock(client, file, 20, false, instance), 0);
	ck_assert_int_eq(lock_take(&other, file, 40, seq++), -EAGAIN);
	service_start(ost);
	while (lock_take(&other, file, 40, seq++) != LOCK_GRANTED)
		fiber_sleep_ms(1);
	ck_assert_int_eq(lock_take(&other, file, 0, seq++), LOCK_CONFLICT);
	ck_assert_int_eq(lock_take(&other, file, 20, seq++), LOCK_CONFLICT);

	/* A RECLAIM that comes late brings nothing back. */
	ck_assert_int_eq(lock_give(client, file, 0, seq++), LOCK_GRANTED);
	ck_assert_int_eq(reclaim_lock(client, file, 0, true, instance), 0);
	ck_assert_int_eq(lock_take(&other, file, 0, seq++), LOCK_GRANTED);

	/* With all OSTs told it is the sessions that are waited for. */
	mdt_end(ost);
	mdt_again(ost);
	reclaim(&other, file);
	while (!ost_links_have_sessions(ost->mdt->links, ost->mdt->start.index))
		fiber_sleep_ms(1);
	ck_assert_int_eq(lock_take(&other, file, 60, seq++), -EAGAIN);
	reclaim(client, file);
	ck_assert_int_eq(lock_take(&other, file, 60, seq++), LOCK_GRANTED);
	other.peer = peer_free(other.peer);
	story_end(ost);
}

static void copy_dir(const char *from, const char *to)
{
	char command[2 * PATH_MAX + 64];

	snprintf(command, sizeof(command), "rm -rf %s && cp -r --sparse=always %s %s", to, from, to);
	ck_assert_int_eq(system(command), 0);
}

/* The power fails: a file is made whose record is lost. */
static void void_story(void *arg)
{
	struct fake_ost *ost = arg;
	struct client *client = &ost->client;
	uint64_t kept, lost, next, first, end;
	char image[PATH_MAX + 16];
	uint32_t seq = 1;

	snprintf(image, sizeof(image), "%s.image", ost->setting.dir);
	client_open_session(client);
	ck_assert_int_eq(client_make(client, OP_CREATE, 1, "kept", 0, seq++, &kept), 0);
	while (mdt_log_durable(ost->mdt->log) < mdt_log_last(ost->mdt->log))
		fiber_sleep_ms(1);
	copy_dir(ost->setting.dir, image);
	ck_assert_int_eq(client_make(client, OP_CREATE, 1, "lost", 0, seq, &lost), 0);
	ck_assert_uint_eq(ost->voids, 0);
	end = ost->mdt->state.meta.reserved;
	mdt_end(ost);
	copy_dir(image, ost->setting.dir);

	/* All that may have been given out is void, and the OST told until it has done what it must. */
	ost->refuse = 1;
	ost->busy = 3;
	mdt_again(ost);
	while (ost->voids == 0)
		fiber_sleep_ms(1);
	ck_assert_uint_eq(ost->busy, 0);
	ck_assert_uint_eq(ost->void_count, 1);
	ck_assert_uint_eq(first = ost->void_first[0], kept + 1);
	ck_assert_uint_eq(ost->void_end[0], end);
	ck_assert(first <= lost && lost < end);
	ck_assert_int_eq(client_make(client, OP_CREATE, 1, "next", 0, seq++, &next), 0);
	ck_assert_uint_eq(next, end);

	/* Another one under its index hears of it, too. */
	ost->service = service_free(ost->service);
	uuid_make(&ost->target);
	strcpy(ost->address, "127.0.0.1:0");
	service_start(ost);
	ost->voids = 0;
	give_map(ost, true);
	while (ost->voids == 0)
		fiber_sleep_ms(1);
	ck_assert_uint_eq(ost->void_end[0], end);

	/* A clean stop loses nothing, and gives back the rest. */
	for (int i = 0; i < 3; i++) {
		mdt_end(ost);
		mdt_again(ost);
		while (ost->voids == 0)
			fiber_sleep_ms(1);
		ck_assert_uint_eq(ost->void_count, 1);
		ck_assert_uint_eq(ost->void_end[0], end);
		ck_assert_int_eq(client_make(client, OP_CREATE, 1, (char[]){ (char)('a' + i), 0 }, 0, seq++, &lost), 0);
		ck_assert_uint_eq(lost, next + 1 + (uint64_t)i);
	}

	/* Nothing is given out between two crashes: the range of the first grows. */
	for (int i = 0; i < 2; i++) {
		while (mdt_log_durable(ost->mdt->log) < mdt_log_last(ost->mdt->log))
			fiber_sleep_ms(1);
		copy_dir(ost->setting.dir, image);
		mdt_end(ost);
		copy_dir(image, ost->setting.dir);
		mdt_again(ost);
		while (ost->voids == 0)
			fiber_sleep_ms(1);
		ck_assert_uint_eq(ost->void_count, 2);
		ck_assert_uint_eq(ost->void_first[1], lost + 1);
	}
	temp_dir_remove(image);
	story_end(ost);
}

static void ost_run(void (*story)(void *arg), bool strict, uint32_t mdt_index)
{
	struct fake_ost *ost = calloc(1, sizeof(*ost));

	setting_make(&ost->setting);
	ost->setting.identity.index = mdt_index;
	ost->strict = strict;
	ck_assert_int_eq(loop_new(&ost->loop), 0);
	ost->client.loop = ost->loop;
	mdt_start(ost);
	strcpy(ost->setting.address, ost->mdt->address);
	uuid_make(&ost->target);
	strcpy(ost->address, "127.0.0.1:0");
	service_start(ost);
	give_map(ost, true);
	client_run(&ost->client, &ost->setting, story, ost);
	mdt_close(ost->mdt);
	loop_free(ost->loop);
	temp_dir_remove(ost->setting.dir);
	free(ost);
}

START_TEST(osts_are_told)
{
	ost_run(ost_story, false, 0);
}
END_TEST

START_TEST(cuts_are_told_when_durable)
{
	ost_run(cut_story, false, 0);
}
END_TEST

START_TEST(nothing_is_told_that_could_be_lost)
{
	ost_run(held_story, false, 0);
}
END_TEST

START_TEST(osts_come_back_and_are_replaced)
{
	ost_run(replaced_story, false, 0);
}
END_TEST

START_TEST(promises_wait_for_the_disk)
{
	ost_run(promise_story, false, 0);
	ost_run(promise_story, true, 0);
}
END_TEST

START_TEST(numbers_are_waited_for)
{
	ost_run(numbers_story, false, 5);
}
END_TEST

START_TEST(what_is_open)
{
	ost_run(open_story, false, 0);
}
END_TEST

START_TEST(silent_sessions_end)
{
	ost_run(lease_story, false, 0);
}
END_TEST

START_TEST(a_restart_is_told_what_is_open)
{
	ost_run(reclaim_story, false, 0);
}
END_TEST

START_TEST(lost_numbers_are_void)
{
	ost_run(void_story, false, 3);
}
END_TEST

START_TEST(locks_are_given_and_told)
{
	ost_run(lock_story, false, 0);
}
END_TEST

START_TEST(locks_wait_for_the_fence)
{
	ost_run(fence_story, false, 0);
}
END_TEST

START_TEST(a_restart_is_told_the_locks)
{
	ost_run(lock_reclaim_story, false, 0);
}
END_TEST

UNIT_MAIN("mdt_service", by_the_wire, killed_under_writers, an_older_copy_goes_on_above, osts_are_told,
	  cuts_are_told_when_durable, nothing_is_told_that_could_be_lost, osts_come_back_and_are_replaced,
	  promises_wait_for_the_disk, numbers_are_waited_for, what_is_open, silent_sessions_end,
	  a_restart_is_told_what_is_open, lost_numbers_are_void, locks_are_given_and_told, locks_wait_for_the_fence,
	  a_restart_is_told_the_locks)
