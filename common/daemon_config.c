#include "common/daemon_config.h"

#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <string.h>

#define NOT_A_LINE "this is neither [SECTION] nor KEY = VALUE"

static const char *const sections[] = { "mgs", "mds", "oss", "client" };
#define SECTIONS (sizeof(sections) / sizeof(*sections))

/* The state of reading one file: inih asks for lines and hands over keys. */
struct reading {
	const struct daemon_config *config;
	FILE *file;
	unsigned int line;
	int err; /* of the first fault; no line is read after it */
	char *error;
	size_t error_size;
};

bool daemon_config_section_exists(const char *name)
{
	for (size_t i = 0; i < SECTIONS; i++)
		if (strcmp(sections[i], name) == 0)
			return true;
	return false;
}

static void __attribute__((format(printf, 3, 4))) fault(struct reading *reading, int err, const char *format, ...)
{
	char text[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	reading->err = err;
	snprintf(reading->error, reading->error_size, "%s:%u: %s", reading->config->path, reading->line, text);
}

/* A line [SECTION], which inih only shows with the keys below it. */
static void section_check(struct reading *reading, char *line)
{
	char *end = strchr(line, ']');

	if (!end) {
		fault(reading, -EINVAL, NOT_A_LINE);
		return;
	}
	*end = '\0';
	if (!daemon_config_section_exists(line + 1))
		fault(reading, -EINVAL, "there is no section [%s], only [mgs], [mds], [oss] and [client]", line + 1);
	*end = ']';
}

/* inih's reader. Without their indent, lines cannot be taken for the continuation of a value. */
static char *next_line(char *out, int size, void *stream)
{
	struct reading *reading = stream;
	size_t length, indent;

	if (reading->err || !fgets(out, size, reading->file))
		return NULL;
	reading->line++;
	length = strlen(out);
	if ((length == 0 || out[length - 1] != '\n') && !feof(reading->file)) {
		fault(reading, -EINVAL, "the line is longer than %d characters, or has a NUL in it", size - 3);
		return NULL;
	}
	indent = strspn(out, " \t");
	memmove(out, out + indent, length - indent + 1);
	if (out[0] == '[')
		section_check(reading, out);
	return reading->err ? NULL : out;
}

/* inih's handler: 1 goes on; next_line() ends it after a fault. */
static int one_key(void *user, const char *section, const char *name, const char *value)
{
	struct reading *reading = user;
	const struct daemon_config *config = reading->config;
	char text[512] = "";
	int err;

	if (section[0] == '\0') {
		fault(reading, -EINVAL, "\"%s\" stands before any section; [%s] is this program's", name,
		      config->section);
		return 1;
	}
	if (strcmp(section, config->section) != 0)
		return 1;
	err = config->key(config->owner, name, value, text, sizeof(text));
	if (err == DAEMON_CONFIG_UNKNOWN)
		fault(reading, -EINVAL, "unknown key \"%s\" in section [%s]", name, section);
	else if (err)
		fault(reading, err, "%s: %s", name, text[0] != '\0' ? text : strerror(-err));
	return 1;
}

int daemon_config_read(FILE *file, const struct daemon_config *config, char *error, size_t error_size)
{
	struct reading reading = { .config = config, .file = file, .error = error, .error_size = error_size };
	int bad_line = ini_parse_stream(next_line, &reading, one_key, &reading);

	if (reading.err)
		return reading.err;
	if (ferror(file)) {
		snprintf(error, error_size, "--config: %s: it cannot be read", config->path);
		return -EIO;
	}
	if (bad_line < 0) {
		snprintf(error, error_size, "--config: %s: %s", config->path, strerror(ENOMEM));
		return -ENOMEM;
	}
	if (bad_line > 0) {
		reading.line = (unsigned int)bad_line;
		fault(&reading, -EINVAL, NOT_A_LINE);
	}
	return reading.err;
}
