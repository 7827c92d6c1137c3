/*
 * The life of a `strake client` verb: key -> loop -> fiber { fs_open -> the verb -> fs_close }.
 *
 * SIGINT and SIGTERM come by a descriptor. Before there is a filesystem they end the process as ever; then the first
 * one interrupts all calls, so that the verb ends and the session is closed; the second one ends the process.
 */
#include "client/cli/client.h"
#include "client/key_find.h"
#include "common/container_of.h"
#include "common/fiber.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define CONNECT_MS 10000
#define MEMORY_MAX (UINT64_C(512) << 20) /* what is not committed yet, and read-ahead */

struct run {
	struct client client;
	struct fs_config config;
	int (*fn)(struct client *client, void *arg);
	void *arg;
	int status;
	struct loop_watch signals;
	sigset_t old_mask;
};

bool client_is_interrupted(const struct client *client)
{
	return atomic_load(&client->ctx.interrupted);
}

static void signal_arrived(struct loop_watch *watch, uint32_t events)
{
	struct run *run = container_of(watch, struct run, signals);
	struct signalfd_siginfo info;

	(void)events;
	if (read(watch->fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (!run->client.fs || client_is_interrupted(&run->client)) {
		signal((int)info.ssi_signo, SIG_DFL);
		pthread_sigmask(SIG_SETMASK, &run->old_mask, NULL);
		raise((int)info.ssi_signo);
	}
	fs_interrupt(&run->client.ctx);
}

static int signals_watch(struct run *run)
{
	sigset_t set;
	int err;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &set, &run->old_mask);
	run->signals.ready = signal_arrived;
	run->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (run->signals.fd < 0)
		return -errno;
	err = loop_watch_add(run->client.loop, &run->signals, EPOLLIN);
	if (err) {
		close(run->signals.fd);
		run->signals.fd = -1;
	}
	return err;
}

static void signals_unwatch(struct run *run)
{
	if (run->signals.fd >= 0) {
		loop_watch_remove(&run->signals);
		close(run->signals.fd);
	}
	pthread_sigmask(SIG_SETMASK, &run->old_mask, NULL);
}

static void run_fiber(void *arg)
{
	struct run *run = arg;
	struct client *client = &run->client;
	char error[512], list[CLI_MGS_SIZE];
	int err = fs_open(client->loop, &run->config, CONNECT_MS, &client->fs, error, sizeof(error));

	if (err == -ETIMEDOUT) {
		run->status = client_fail(client, "tried for %d s, with the MGS at %s: %s", CONNECT_MS / 1000,
					  cli_join_addresses(&run->config.mgs, list), error);
	} else if (err) {
		run->status = client_fail(client, "%s", error);
	} else {
		run->status = run->fn(client, run->arg);
		client->fs = fs_close(client->fs);
	}
	fiber_sleep_ms(1); /* what fs_close() has ended gets round once more */
	loop_stop(client->loop);
}

/* Who asks. The groups are malloc'ed and become ctx->groups. */
static int take_credentials(struct fs_ctx *ctx)
{
	int count = getgroups(0, NULL);
	gid_t *groups = calloc((size_t)(count > 0 ? count : 1), sizeof(*groups));

	if (!groups)
		return -ENOMEM;
	if (count > 0)
		count = getgroups(count, groups);
	if (count < 0) {
		free(groups);
		return -errno;
	}
	ctx->uid = geteuid();
	ctx->gid = getegid();
	ctx->groups = groups;
	ctx->group_count = (uint32_t)count;
	ctx->umask = umask(0);
	umask(ctx->umask);
	return 0;
}

static int run_loop(struct run *run)
{
	struct client *client = &run->client;
	int err = loop_new(&client->loop);

	if (err)
		return err;
	err = signals_watch(run);
	if (err == 0)
		err = fiber_start(client->loop, run_fiber, run);
	if (err == 0)
		err = loop_run(client->loop);
	signals_unwatch(run);
	loop_free(client->loop);
	return err;
}

int client_run(const char *verb, const struct cli_globals *globals, int (*fn)(struct client *client, void *arg),
	       void *arg)
{
	struct run run = { .client = { .verb = verb }, .fn = fn, .arg = arg, .status = CLI_FAILED, .signals.fd = -1 };
	char error[512];
	gid_t *groups;
	int err;

	fs_config_defaults(&run.config);
	run.config.mgs = globals->mgs;
	run.config.soft = true;
	run.config.soft_timeout_ms = CLIENT_SOFT_MS;
	run.config.memory_max = MEMORY_MAX;
	run.config.workers = 0; /* the control loop's own does it */
	if (key_find(globals->key, &globals->mgs, &run.config.key, error, sizeof(error)) < 0)
		return client_fail(&run.client, "%s", error);
	err = take_credentials(&run.client.ctx);
	if (err == 0) {
		groups = (gid_t *)(uintptr_t)run.client.ctx.groups;
		err = run_loop(&run);
		free(groups);
	}
	return err ? client_fail(&run.client, "%s", strerror(-err)) : run.status;
}
