#include "common/daemon.h"

#include "common/daemon_internal.h"
#include "common/logger.h"
#include "common/units.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#define DESCRIPTORS_WANTED 1048576u
#define TEXT_MAX           1024

/*
 * A signal belongs to the process, hence this is no loop's. The handler may run on any thread: it notes the signal and
 * writes to the event descriptor, which the loop watches. It stays until the process ends.
 */
static struct {
	struct loop_watch watch; /* of the event descriptor */
	atomic_int caught;
} stop = { .watch = { .fd = -1 } };

static void stop_caught(int number)
{
	const uint64_t one = 1;
	int saved = errno;
	ssize_t written;

	atomic_store(&stop.caught, number);
	/* It can only fail with the counter full: then the loop is about to be told anyway. */
	written = write(stop.watch.fd, &one, sizeof(one));
	(void)written;
	errno = saved;
}

static void stop_ready(struct loop_watch *watch, uint32_t events)
{
	uint64_t count;

	(void)events;
	if (read(watch->fd, &count, sizeof(count)) < 0)
		return;
	log_info("stopping on SIG%s", sigabbrev_np(atomic_load(&stop.caught)));
	sd_notify(0, "STOPPING=1");
	loop_stop(watch->loop);
}

/* As far as allowed; a server that gets fewer runs until it needs more. */
static void descriptors_raise(void)
{
	struct rlimit limit, higher;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	higher = (struct rlimit){ DESCRIPTORS_WANTED, DESCRIPTORS_WANTED };
	if (limit.rlim_max < DESCRIPTORS_WANTED && setrlimit(RLIMIT_NOFILE, &higher) == 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

int daemon_signals(struct loop *loop)
{
	const struct sigaction ignore = { .sa_handler = SIG_IGN };
	const struct sigaction catch = { .sa_handler = stop_caught, .sa_flags = SA_RESTART };
	int err;

	descriptors_raise();
	stop.watch = (struct loop_watch){ .fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), .ready = stop_ready };
	if (stop.watch.fd < 0)
		return -errno;
	err = loop_watch_add(loop, &stop.watch, EPOLLIN);
	if (err) {
		close(stop.watch.fd);
		return err;
	}
	if (sigaction(SIGPIPE, &ignore, NULL) < 0 || sigaction(SIGTERM, &catch, NULL) < 0 ||
	    sigaction(SIGINT, &catch, NULL) < 0)
		return -errno;
	return 0;
}

void daemon_tell_starter(const char *word, const char *text)
{
	const char *variable = getenv("STRAKE_READY_FD");
	char line[TEXT_MAX + 32];
	uint64_t number;
	size_t length;

	if (!variable || units_parse_number(variable, 0, INT_MAX, &number) < 0)
		return;
	unsetenv("STRAKE_READY_FD");
	snprintf(line, sizeof(line) - 1, "%s %s", word, text);
	for (char *at = line; *at != '\0'; at++)
		if (*at == '\n')
			*at = ' ';
	length = strlen(line);
	line[length++] = '\n';
	signal(SIGPIPE, SIG_IGN);
	if (write((int)number, line, length) != (ssize_t)length)
		log_debug("nobody listens at STRAKE_READY_FD: %s", strerror(errno));
	close((int)number);
}

void daemon_ready(const char *address)
{
	sd_notifyf(0, "READY=1\nSTATUS=Serving on %s", address);
	daemon_tell_starter("ready", address);
}

/* No exit handlers: threads may run already, and memory is still in use. */
void daemon_fail(const char *format, ...)
{
	char text[TEXT_MAX];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	log_error("%s", text);
	sd_notifyf(0, "STATUS=%s", text);
	daemon_tell_starter("error", text);
	_exit(EXIT_FAILURE);
}
