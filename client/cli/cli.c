#include "client/cli/cli.h"
#include "client/key_find.h"
#include "common/logger.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How many bytes are a control character at text: 0, 1, or 2 of the C1 ones. */
static size_t control_length(const unsigned char *text)
{
	if (text[0] < ' ' || text[0] == 0x7f)
		return 1;
	return text[0] == 0xc2 && text[1] >= 0x80 && text[1] < 0xa0 ? 2 : 0;
}

void cli_put_text(FILE *file, const char *text)
{
	const unsigned char *at = (const unsigned char *)text;

	while (*at != '\0') {
		size_t length = control_length(at);

		if (length == 0)
			fputc(*at++, file);
		for (; length > 0; length--)
			fprintf(file, "\\%03o", *at++);
	}
}

void cli_put_format(FILE *file, const char *format, va_list args)
{
	char *text;

	if (vasprintf(&text, format, args) < 0) {
		fputs(strerror(ENOMEM), file);
		return;
	}
	cli_put_text(file, text);
	free(text);
}

void cli_say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	cli_put_format(stdout, format, args);
	va_end(args);
	putchar('\n');
}

int cli_fail(const char *format, ...)
{
	va_list args;

	fputs("strake: ", stderr);
	va_start(args, format);
	cli_put_format(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return CLI_FAILED;
}

int cli_misuse(const char *verb, const char *format, ...)
{
	const char *space = verb[0] != '\0' ? " " : "";
	va_list args;

	fprintf(stderr, "strake%s%s: ", space, verb);
	va_start(args, format);
	cli_put_format(stderr, format, args);
	va_end(args);
	fprintf(stderr, "; see strake%s%s --help\n", space, verb);
	return CLI_MISUSED;
}

int cli_bad_option(const char *verb, int result, char **argv)
{
	bool is_long = strncmp(argv[optind - 1], "--", 2) == 0;

	if (result == ':')
		return is_long ? cli_misuse(verb, "%s wants a value", argv[optind - 1])
			       : cli_misuse(verb, "-%c wants a value", optopt);
	if (is_long || optopt == 0)
		return cli_misuse(verb, "there is no option %s, or it is used wrongly", argv[optind - 1]);
	return cli_misuse(verb, "there is no option -%c", optopt);
}

/* --- global options --------------------------------------------------------------------------------------------- */

static int set_mgs(struct cli_globals *globals, const char *option, const char *value)
{
	if (address_list_parse(value, ADDRESS_PORT_DEFAULT, &globals->mgs) < 0)
		return cli_misuse("", "%s: \"%s\" is no list of addresses HOST[:PORT][,HOST[:PORT]...]", option, value);
	globals->mgs_given = true;
	return 0;
}

static int set_key(struct cli_globals *globals, const char *option, const char *value)
{
	if (value[0] == '\0')
		return cli_misuse("", "%s wants a file", option);
	globals->key = value;
	return 0;
}

static int set_log_level(struct cli_globals *globals, const char *option, const char *value)
{
	enum logger_level level;

	if (logger_level_parse(value, &level) < 0)
		return cli_misuse("", "%s: \"%s\" is none of error, warning, info, debug", option, value);
	globals->log_level = value;
	return 0;
}

static const struct global_option {
	const char *name;
	const char *letter; /* NULL: none */
	int (*set)(struct cli_globals *globals, const char *option, const char *value);
} global_options[] = {
	{ "--mgs", "-m", set_mgs },
	{ "--key", NULL, set_key },
	{ "--log-level", NULL, set_log_level },
};

/* The global option that argument is, and where its value begins (NULL: in the next argument). */
static const struct global_option *match_global(const char *argument, const char **ret_value)
{
	for (size_t i = 0; i < sizeof(global_options) / sizeof(*global_options); i++) {
		const struct global_option *option = &global_options[i];
		size_t length = strlen(option->name);

		*ret_value = NULL;
		if (strncmp(argument, option->name, length) == 0 &&
		    (argument[length] == '\0' || argument[length] == '=')) {
			if (argument[length] == '=')
				*ret_value = argument + length + 1;
			return option;
		}
		if (option->letter && strncmp(argument, option->letter, 2) == 0) {
			if (argument[2] != '\0')
				*ret_value = argument + 2;
			return option;
		}
	}
	return NULL;
}

int cli_take_globals(int *argc, char **argv, struct cli_globals *globals)
{
	int from = 0, to = 0;

	while (from < *argc && strcmp(argv[from], "--") != 0) {
		const char *value;
		const struct global_option *option = match_global(argv[from], &value);
		int status;

		if (!option) {
			argv[to++] = argv[from++];
			continue;
		}
		if (!value && from + 1 >= *argc)
			return cli_misuse("", "%s wants a value", argv[from]);
		status = option->set(globals, option->name, value ? value : argv[from + 1]);
		if (status)
			return status;
		from += value ? 1 : 2;
	}
	while (from < *argc)
		argv[to++] = argv[from++];
	argv[to] = NULL;
	*argc = to;
	return 0;
}

int cli_complete_globals(struct cli_globals *globals)
{
	const char *environment = getenv("STRAKE_MGS");
	struct address_list local;

	if (globals->mgs_given)
		return 0;
	if (environment && environment[0] != '\0')
		return set_mgs(globals, "STRAKE_MGS", environment);
	if (key_find_clusters(&local) == 0 && local.count == 1)
		globals->mgs = local;
	else
		(void)address_list_parse("127.0.0.1", ADDRESS_PORT_DEFAULT, &globals->mgs);
	return 0;
}

/* --- programs --------------------------------------------------------------------------------------------------- */

static bool program_in(const char *dir, size_t dir_length, const char *program, char ret_path[PATH_MAX])
{
	int length = snprintf(ret_path, PATH_MAX, "%.*s/%s", (int)dir_length, dir, program);

	return length > 0 && length < PATH_MAX && access(ret_path, X_OK) == 0;
}

static bool program_in_list(const char *list, const char *program, char ret_path[PATH_MAX])
{
	while (*list != '\0') {
		size_t length = strcspn(list, ":");

		if (length > 0 && program_in(list, length, program, ret_path))
			return true;
		list += length + (list[length] == ':');
	}
	return false;
}

int cli_find_program(const char *program, char ret_path[PATH_MAX])
{
	char self[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
	const char *path = getenv("PATH");

	if (length > 0) {
		self[length] = '\0';
		*strrchr(self, '/') = '\0';
		if (program_in(self, strlen(self), program, ret_path))
			return 0;
	}
	if (path && program_in_list(path, program, ret_path))
		return 0;
	return program_in_list("/sbin:/usr/sbin:/usr/local/sbin", program, ret_path) ? 0 : -ENOENT;
}

void cli_exec(const char *path, const char *const *argv)
{
	/* execv() takes char *const * for history's sake and writes to nothing. */
	union {
		const char *const *in;
		char *const *out;
	} words = { .in = argv };

	execv(path, words.out);
	cli_fail("%s: %s", path, strerror(errno));
}

const char *cli_join_addresses(const struct address_list *list, char out[CLI_MGS_SIZE])
{
	size_t used = 0;

	out[0] = '\0';
	for (size_t i = 0; i < list->count; i++)
		used += (size_t)snprintf(out + used, CLI_MGS_SIZE - used, "%s%s", i > 0 ? "," : "", list->text[i]);
	return out;
}
