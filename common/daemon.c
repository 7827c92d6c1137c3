#include "common/daemon.h"

#include "common/daemon_internal.h"
#include "common/logger.h"
#include "common/units.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#define DESCRIPTORS_WANTED 1048576u
#define TEXT_MAX           1024

/*
 * A signal belongs to the process, hence this is no loop's. It is blocked everywhere and read from a descriptor, until the
 * process ends. A handler would do but for ThreadSanitizer: it puts handlers off until whoever was interrupted calls into a
 * library, and a fiber that was about to leave may not do that for a long time, or ever.
 */
static struct loop_watch stop = { .fd = -1 };

static void stop_ready(struct loop_watch *watch, uint32_t events)
{
	struct loop *loop = watch->loop;
	struct signalfd_siginfo info;

	(void)events;
	if (read(watch->fd, &info, sizeof(info)) != sizeof(info))
		return;
	log_info("stopping on SIG%s", sigabbrev_np((int)info.ssi_signo));
	sd_notify(0, "STOPPING=1");
	/* Once: the loop may be run again, for its fibers to end. */
	loop_watch_remove(watch);
	loop_stop(loop);
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
	sigset_t set;
	int err;

	descriptors_raise();
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	err = -pthread_sigmask(SIG_BLOCK, &set, NULL);
	if (err < 0)
		return err;
	stop = (struct loop_watch){ .fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC), .ready = stop_ready };
	if (stop.fd < 0)
		return -errno;
	err = loop_watch_add(loop, &stop, EPOLLIN);
	if (err < 0)
		close(stop.fd);
	return err;
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
