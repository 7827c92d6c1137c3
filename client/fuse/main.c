/*
 * mount.strake: one mount of one filesystem.
 *
 *     parent: waits for one line from the child, exits          (with -f there is no parent)
 *     child:  connect (libstrake) -> mount -> INIT -> workers -> registry -> "ready"
 *             ... serves ...
 *             unmounted: last request answered -> everything written out, however long the servers take -> workers end ->
 *             session closed -> exit
 *
 * SIGTERM and SIGINT: the first unmounts, lazily, and things take their way as above; when it is unmounted already, the
 * writing out just goes on. The second ends the process at once; what it still holds is lost, and logged.
 */
#include "client/fuse/daemon_log.h"
#include "client/fuse/earlier.h"
#include "client/fuse/mount.h"
#include "client/fuse/notify.h"
#include "client/fuse/options.h"
#include "client/fuse/server.h"
#include "client/key_find.h"
#include "client/mount_registry.h"
#include "common/fd_io.h"
#include "common/fiber.h"
#include "common/logger.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define TELL_MS 500 /* so often the registry hears what is still to be written */

enum phase { PHASE_CONNECTING, PHASE_SERVING, PHASE_LEAVING };

struct mount_daemon {
	struct mount_options options;
	enum phase phase;
	struct loop *loop;
	struct fuse_server server;
	struct fuse_mount *mount;
	int fuse_fd;
	int parent; /* pipe to who waits for us; -1: nobody */
	int log;    /* where to log when it is mounted; -1: stderr stays */
	struct loop_post ended;
	struct loop_watch signals;
	struct loop_watch mounts; /* the kernel's table of them; fd -1: not watched */
	unsigned int atime;       /* as that table said last */
	unsigned int signal_count;
	struct loop_timer telling; /* while leaving */
	int status;
};

static struct mount_daemon the_daemon; /* a process is one mount */

/* --- the parent -------------------------------------------------------------------------------------------------- */

/* One line for the parent: "" is success. */
static void tell_parent(struct mount_daemon *d, const char *text)
{
	if (d->parent < 0)
		return;
	(void)!write(d->parent, text, strlen(text) + 1);
	close(d->parent);
	d->parent = -1;
}

/* Whoever wanted the mount has been ended (Ctrl-C) before it was there. */
static bool parent_has_gone(const struct mount_daemon *d)
{
	struct pollfd poller = { .fd = d->parent };

	return d->parent >= 0 && poll(&poller, 1, 0) == 1 && (poller.revents & POLLERR) != 0;
}

static __attribute__((format(printf, 2, 3))) void fail(struct mount_daemon *d, const char *format, ...)
{
	char text[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (d->parent < 0)
		fprintf(stderr, "mount.strake: %s\n", text);
	tell_parent(d, text);
	d->status = 1;
}

/* The parent stays until the child has said how it went. */
static void into_background(struct mount_daemon *d)
{
	char text[1024];
	int fds[2], null;
	ssize_t n;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
		fprintf(stderr, "mount.strake: %s\n", strerror(errno));
		exit(1);
	}
	if (pid > 0) {
		close(fds[1]);
		n = read(fds[0], text, sizeof(text) - 1);
		if (n == 1 && text[0] == 0)
			_exit(0);
		text[n < 0 ? 0 : n] = 0;
		fprintf(stderr, "mount.strake: %s\n", n <= 0 ? "the mount daemon died while it started" : text);
		_exit(1);
	}
	close(fds[0]);
	d->parent = fds[1];
	setsid();
	if (chdir("/") < 0)
		exit(1);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	close(null);
}

/* --- serving ----------------------------------------------------------------------------------------------------- */

static unsigned int worker_count(const struct mount_options *options)
{
	cpu_set_t cpus;
	int count = sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? CPU_COUNT(&cpus) : 1;

	if (options->workers > 0)
		return options->workers;
	return count > FUSE_WORKERS_MAX ? FUSE_WORKERS_MAX : (unsigned int)count;
}

/* Somebody has mounted, unmounted or remounted something: this mount, with another wish about times of access? */
static void mounts_changed(struct loop_watch *watch, uint32_t events)
{
	struct mount_daemon *d = &the_daemon;
	unsigned int atime;

	(void)watch;
	(void)events;
	if (d->phase != PHASE_SERVING || fuse_mount_atime(d->mount, &atime) < 0 || atime == d->atime)
		return;
	d->atime = atime;
	fs_set_atime(d->server.fs, atime);
}

/* Where that cannot be watched it stays as it was at the mount. */
static void watch_mounts(struct mount_daemon *d)
{
	unsigned int wish = d->options.fs.atime;

	if (d->options.atime_given)
		fuse_mount_set_atime(d->mount, wish);
	if (fuse_mount_atime(d->mount, &d->atime) < 0)
		return;
	if (d->atime == ATIME_NONE)
		fs_set_atime(d->server.fs, ATIME_NONE); /* read-only */
	d->mounts = (struct loop_watch){ .fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC),
					 .ready = mounts_changed };
	if (d->mounts.fd >= 0 && loop_watch_add(d->loop, &d->mounts, EPOLLPRI) < 0) {
		close(d->mounts.fd);
		d->mounts.fd = -1;
	}
}

static void unwatch_mounts(struct mount_daemon *d)
{
	if (d->mounts.fd < 0)
		return;
	loop_watch_remove(&d->mounts);
	close(d->mounts.fd);
	d->mounts.fd = -1;
}

/* Mount and serve. */
static int attach(struct mount_daemon *d, char *error, size_t error_size)
{
	struct fuse_server *server = &d->server;
	int err;

	if (parent_has_gone(d)) {
		snprintf(error, error_size, "nobody waits for the mount any more");
		return -EPIPE;
	}
	err = fuse_mount_attach(&d->options, &d->mount, &d->fuse_fd, error, error_size);
	if (err < 0)
		return err;
	err = fuse_server_init(d->fuse_fd, d->options.fs.local_locks, &server->flags, error, error_size);
	if (err == 0)
		err = fuse_notifier_new(d->fuse_fd, &server->notifier);
	for (unsigned int i = 0; i < d->options.fs.workers && err == 0; i++) {
		server->worker_count = i + 1;
		err = fuse_worker_start(server, d->fuse_fd, i);
		if (err < 0)
			snprintf(error, error_size, "cannot start a worker: %s", strerror(-err));
	}
	if (err < 0) {
		fuse_workers_stop(server);
		d->mount = fuse_mount_detach(d->mount);
		server->notifier = fuse_notifier_free(server->notifier);
	}
	return err;
}

/* Files only: the root's node id, which is another than its inode number, does not come here. */
static void drop_pages(void *owner, uint64_t ino, uint64_t offset, uint64_t size)
{
	const struct mount_daemon *d = owner;

	if (d->server.notifier != NULL)
		fuse_notifier_drop_pages(d->server.notifier, ino, offset, size);
}

static void drop_attr(void *owner, uint64_t ino)
{
	const struct mount_daemon *d = owner;

	if (d->server.notifier != NULL)
		fuse_notifier_drop_attr(d->server.notifier, ino == fs_root(d->server.fs) ? FUSE_ROOT_ID : ino);
}

static void expire_names(void *owner)
{
	const struct mount_daemon *d = owner;

	if (d->server.notifier != NULL)
		fuse_notifier_expire_names(d->server.notifier);
}

static void registry_enter(struct mount_daemon *d)
{
	unsigned int major, minor;
	int err;

	fuse_mount_device(d->mount, &major, &minor);
	err = mount_registry_add(d->options.mountpoint, d->options.source, major, minor);
	if (err < 0)
		log_warning(
			"cannot enter the mount in the registry, so `strake umount` will not wait for this process: %s",
			strerror(-err));
}

static void serve(void *arg)
{
	struct mount_daemon *d = arg;
	struct fuse_server *server = &d->server;
	struct fs_ctx ctx = { .trusted = true };
	struct statvfs space;
	char error[512] = "";
	int err;

	earlier_mounts_wait(&d->options.fs.mgs);
	err = fs_open(d->loop, &d->options.fs, d->options.connect_ms, &server->fs, error, sizeof(error));
	if (err == 0) {
		(void)fs_statfs(server->fs, &ctx, &space); /* remembered for times when the MDT has gone */
		err = attach(d, error, sizeof(error));
		if (err < 0)
			server->fs = fs_close(server->fs);
	}
	if (err < 0) {
		fail(d, "%s", error[0] != 0 ? error : strerror(-err));
		loop_stop(d->loop);
		return;
	}
	d->phase = PHASE_SERVING;
	fuse_mount_tune(d->mount);
	watch_mounts(d);
	fuse_mount_announce(d->mount, &d->options);
	registry_enter(d);
	if (d->log >= 0)
		daemon_log_take_over(d->log);
	log_info("mounted %s on %s", d->options.source, d->options.mountpoint);
	if (parent_has_gone(d))
		fuse_mount_detach_lazily(d->mount);
	tell_parent(d, "");
}

/* --- the end ----------------------------------------------------------------------------------------------------- */

/* How much is still to be written: for `strake umount`, which waits as long as it gets less. */
static void tell_registry(struct mount_daemon *d)
{
	struct fs_stats stats;

	fs_stats(d->server.fs, &stats);
	(void)mount_registry_leaving(stats.bytes_held, stats.files_held, stats.targets_troubled);
	loop_timer_set(d->loop, &d->telling, clock_ns() + TELL_MS * NSEC_PER_MSEC);
}

static void telling_due(struct loop_timer *timer)
{
	(void)timer;
	tell_registry(&the_daemon);
}

static void finish(void *arg)
{
	struct mount_daemon *d = arg;
	struct fs_ctx ctx = { .trusted = true };
	struct fs_stats stats;
	uint64_t lost;

	d->phase = PHASE_LEAVING;
	unwatch_mounts(d);
	d->telling.expired = telling_due;
	tell_registry(d);
	fs_stats(d->server.fs, &stats);
	lost = stats.bytes_lost;
	fuse_workers_quiet(&d->server);
	fuse_mount_renounce(d->mount);
	if (fs_drain(d->server.fs, &ctx) < 0)
		d->status = 1; /* fs_close() tells what that costs */
	tell_registry(d);      /* before all that may take long where servers are silent */
	loop_timer_cancel(&d->telling);
	fuse_workers_stop(&d->server);
	d->mount = fuse_mount_detach(d->mount);
	d->server.notifier = fuse_notifier_free(d->server.notifier);
	fs_stats(d->server.fs, &stats);
	lost = stats.bytes_lost - lost;
	if (lost > 0) {
		log_error("%llu bytes were refused by the servers and are lost", (unsigned long long)lost);
		d->status = 1;
	}
	d->server.fs = fs_close(d->server.fs);
	mount_registry_remove();
	log_info("unmounted %s", d->options.mountpoint);
	loop_stop(d->loop);
}

static void finish_posted(struct loop_post *post)
{
	(void)post;
	if (fiber_start(the_daemon.loop, finish, &the_daemon) < 0)
		logger_die("no memory to unmount");
}

/* On a worker. */
static void kernel_ended(struct fuse_server *server)
{
	(void)server;
	the_daemon.ended.run = finish_posted;
	loop_post(the_daemon.loop, &the_daemon.ended);
}

/* --- signals ----------------------------------------------------------------------------------------------------- */

static _Noreturn void end_at_once(struct mount_daemon *d)
{
	struct fs_stats stats;

	fs_stats(d->server.fs, &stats);
	log_warning("second signal: ending at once; %llu bytes of %u files were not written out and are lost",
		    (unsigned long long)stats.bytes_held, stats.files_held);
	mount_registry_remove();
	_exit(1);
}

static void signalled(struct loop_watch *watch, uint32_t events)
{
	struct mount_daemon *d = &the_daemon;
	struct signalfd_siginfo info;

	(void)events;
	if (read(watch->fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (d->phase == PHASE_CONNECTING) {
		fail(d, "ended by a signal before it was mounted");
		_exit(1);
	}
	if (d->signal_count++ > 0)
		end_at_once(d);
	if (d->phase == PHASE_SERVING) {
		log_info("unmounting %s: signal %u", d->options.mountpoint, info.ssi_signo);
		fuse_mount_detach_lazily(d->mount);
	} else {
		log_info("signal %u: going on to write out; another one ends that", info.ssi_signo);
	}
}

static int watch_signals(struct mount_daemon *d)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	d->signals = (struct loop_watch){ .fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC), .ready = signalled };
	if (d->signals.fd < 0)
		return -errno;
	return loop_watch_add(d->loop, &d->signals, EPOLLIN);
}

/* --- main -------------------------------------------------------------------------------------------------------- */

/* Where to log and which key: looked for before the process leaves its folder. */
static int prepare(struct mount_daemon *d, char *error, size_t error_size)
{
	int err = key_find(d->options.key, &d->options.fs.mgs, &d->options.fs.key, error, error_size);

	d->log = d->parent = d->mounts.fd = -1;
	if (err == 0 && (d->options.log_path != NULL || !d->options.foreground))
		err = daemon_log_open(d->options.log_path, &d->log, error, error_size);
	return err;
}

int main(int argc, char **argv)
{
	struct mount_daemon *d = &the_daemon;
	char error[512];
	int err;

	fd_open_standard();
	mount_options_parse(argc, argv, &d->options);
	if (d->options.remount)
		return fuse_mount_remount(&d->options) < 0 ? 1 : 0;
	if (prepare(d, error, sizeof(error)) < 0) {
		fprintf(stderr, "mount.strake: %s\n", error);
		return 1;
	}
	d->options.fs.workers = worker_count(&d->options);
	d->options.fs.mountpoint = d->options.mountpoint;
	d->options.fs.owner = d;
	d->options.fs.drop_pages = drop_pages;
	d->options.fs.drop_attr = drop_attr;
	d->options.fs.expire_names = expire_names;
	if (!d->options.foreground)
		into_background(d);
	logger_init("mount.strake", LOGGER_INFO);

	d->server.ended = kernel_ended;
	pthread_mutex_init(&d->server.early_lock, NULL);
	err = loop_new(&d->loop);
	if (err == 0)
		err = watch_signals(d);
	if (err == 0)
		err = fiber_start(d->loop, serve, d);
	if (err < 0) {
		fail(d, "%s", strerror(-err));
		return 1;
	}
	loop_run(d->loop);
	loop_watch_remove(&d->signals);
	close(d->signals.fd);
	loop_free(d->loop);
	return d->status;
}
