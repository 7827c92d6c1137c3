#include "common/logger.h"

#include "common/fd_io.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Of one line, newline and all; what is longer is cut. */
#define LINE_SIZE 2048

/* Written by logger_init(), before there is a second thread. */
static struct {
	const char *program;
	enum logger_level level;
	bool journal; /* stderr is the journal, which adds time and name itself */
} logger = { .program = "strake", .level = LOGGER_INFO };

static const struct {
	enum logger_level level;
	const char *name;
} levels[] = {
	{ LOGGER_ERROR, "error" },
	{ LOGGER_WARNING, "warning" },
	{ LOGGER_INFO, "info" },
	{ LOGGER_DEBUG, "debug" },
};

/* systemd tells whoever it starts which device and inode its journal's stream is. */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat stat;

	return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(STDERR_FILENO, &stat) == 0 &&
	       stat.st_dev == device && stat.st_ino == inode;
}

void logger_init(const char *program, enum logger_level level)
{
	logger.program = program;
	logger.level = level;
	logger.journal = stderr_is_journal();
}

int logger_level_parse(const char *text, enum logger_level *ret_level)
{
	for (size_t i = 0; i < sizeof(levels) / sizeof(*levels); i++) {
		if (strcmp(text, levels[i].name) == 0) {
			*ret_level = levels[i].level;
			return 0;
		}
	}
	return -EINVAL;
}

static const char *level_name(enum logger_level level)
{
	for (size_t i = 0; i < sizeof(levels) / sizeof(*levels); i++)
		if (levels[i].level == level)
			return levels[i].name;
	return "?";
}

/* What stands before the text; its length. */
static size_t prefix_format(enum logger_level level, char *out, size_t size)
{
	struct timespec now;
	struct tm local;
	size_t length;

	if (logger.journal)
		return (size_t)snprintf(out, size, "<%d>", (int)level);
	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &local);
	length = strftime(out, size, "%Y-%m-%d %H:%M:%S", &local);
	length +=
		(size_t)snprintf(out + length, size - length, ".%03ld %.64s: ", now.tv_nsec / 1000000, logger.program);
	if (level != LOGGER_INFO)
		length += (size_t)snprintf(out + length, size - length, "%s: ", level_name(level));
	return length;
}

/* One line by one write(2), so that lines of several threads do not mix. */
static void __attribute__((format(printf, 2, 0)))
line_write(enum logger_level level, const char *format, va_list arguments)
{
	char line[LINE_SIZE];
	size_t length = prefix_format(level, line, sizeof(line)), room = sizeof(line) - length - 1;
	int text = vsnprintf(line + length, room, format, arguments);

	if (text > 0)
		length += (size_t)text < room ? (size_t)text : room - 1;
	for (size_t i = 0; i < length; i++)
		if ((unsigned char)line[i] < ' ')
			line[i] = ' ';
	line[length++] = '\n';

	(void)fd_write_all(STDERR_FILENO, line, length); /* with stderr gone nobody is left to be told */
}

void logger_say(enum logger_level level, const char *format, ...)
{
	int saved = errno;
	va_list arguments;

	if (level > logger.level)
		return;
	va_start(arguments, format);
	line_write(level, format, arguments);
	va_end(arguments);
	errno = saved;
}

void logger_die(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	line_write(LOGGER_ERROR, format, arguments);
	va_end(arguments);
	abort();
}
