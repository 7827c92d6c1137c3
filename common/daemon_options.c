/*
 * Two passes over the command line: the first finds --config, --help, --version and what is not an option at all; then
 * the configuration file is applied, then the command line over it.
 */
#include "common/daemon.h"
#include "common/daemon_config.h"
#include "common/daemon_internal.h"
#include "common/fabrics.h"
#include "common/fd_io.h"
#include "common/logger.h"
#include "common/version.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPTIONS_MAX 64
#define LONG_BASE   256 /* getopt's value of row i is LONG_BASE + i */
#define EXIT_USAGE  2

/* What every program has; they stand behind its own. */
enum { COMMON_CONFIG, COMMON_LOG_LEVEL, COMMON_TRANSPORT, COMMON_HELP, COMMON_VERSION, COMMON_COUNT };
static const struct daemon_option common_options[COMMON_COUNT] = {
	[COMMON_CONFIG] = { "config", 0, "FILE", "read options from this file too; the command line is stronger", NULL,
			    0 },
	[COMMON_LOG_LEVEL] = { "log-level", 0, "LEVEL", "error, warning, info (default) or debug", NULL, 0 },
	[COMMON_TRANSPORT] = { "transport", 0, "KIND", "rdma, tcp, or auto: RDMA where it is to be had (default)", NULL,
			       0 },
	[COMMON_HELP] = { "help", 'h', NULL, "show this and exit", NULL, 0 },
	[COMMON_VERSION] = { "version", 0, NULL, "show the version and exit", NULL, 0 },
};

struct parse {
	const char *program, *section;
	void *target;
	size_t count; /* the program's own; the rows of common_options[] follow */
	struct daemon_option rows[OPTIONS_MAX];
	struct option longs[OPTIONS_MAX + 1];
	char letters[2 * OPTIONS_MAX + 2];
	enum logger_level level;
	enum fabrics_choice fabrics;
	bool operands; /* are there any? */
};

void daemon_refuse(const char *program, const char *format, ...)
{
	char text[1024];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	fprintf(stderr, "%s: %s; see %s --help\n", program, text, program);
	daemon_tell_starter("error", text);
	exit(EXIT_USAGE);
}

/* --- the table -------------------------------------------------------------------------------------------------- */

static void parse_add(struct parse *parse, size_t row, const struct daemon_option *option)
{
	size_t end = strlen(parse->letters);

	parse->rows[row] = *option;
	parse->longs[row] = (struct option){ .name = option->name,
					     .has_arg = option->value ? required_argument : no_argument,
					     .val = LONG_BASE + (int)row };
	if (option->letter) {
		assert(!strchr(parse->letters, option->letter));
		parse->letters[end++] = option->letter;
		if (option->value)
			parse->letters[end++] = ':';
		parse->letters[end] = '\0';
	}
}

static void parse_init(struct parse *parse, const struct daemon_option *options, size_t count)
{
	assert(count + COMMON_COUNT <= OPTIONS_MAX);
	parse->count = count;
	strcpy(parse->letters, ":"); /* getopt tells a missing value from an unknown option, and prints nothing */
	for (size_t i = 0; i < count; i++)
		parse_add(parse, i, &options[i]);
	for (size_t i = 0; i < COMMON_COUNT; i++)
		parse_add(parse, count + i, &common_options[i]);
}

static size_t rows_count(const struct parse *parse)
{
	return parse->count + COMMON_COUNT;
}

/* getopt's value to its row. */
static size_t row_of(const struct parse *parse, int value)
{
	size_t row = 0;

	if (value >= LONG_BASE)
		return (size_t)(value - LONG_BASE);
	while (row < rows_count(parse) && parse->rows[row].letter != value)
		row++;
	assert(row < rows_count(parse));
	return row;
}

/* 0, or -errno with a sentence in error, which may stay empty. */
static int apply(struct parse *parse, size_t row, const char *value, char *error, size_t error_size)
{
	const struct daemon_option *option = &parse->rows[row];
	int err;

	if (row < parse->count)
		return option->set((char *)parse->target + option->offset, value, error, error_size);
	if (row == parse->count + COMMON_TRANSPORT) {
		err = fabrics_parse(value, &parse->fabrics);
		if (err)
			snprintf(error, error_size, "\"%s\" is none of auto, rdma, tcp", value);
		return err;
	}
	assert(row == parse->count + COMMON_LOG_LEVEL);
	err = logger_level_parse(value, &parse->level);
	if (err)
		snprintf(error, error_size, "\"%s\" is none of error, warning, info, debug", value);
	return err;
}

/* --- --help and --version --------------------------------------------------------------------------------------- */

/* "  -l, --listen HOST:PORT"; its length. */
static int option_print(FILE *file, const struct daemon_option *option)
{
	char letter[] = "    ";

	if (option->letter)
		snprintf(letter, sizeof(letter), "-%c, ", option->letter);
	return fprintf(file, "  %s--%s%s%s", letter, option->name, option->value ? " " : "",
		       option->value ? option->value : "");
}

static int option_width(const struct daemon_option *option)
{
	return (int)(strlen("  -x, --") + strlen(option->name) + (option->value ? 1 + strlen(option->value) : 0));
}

_Noreturn static void help(const struct parse *parse)
{
	int widest = 0;

	for (size_t i = 0; i < rows_count(parse); i++)
		if (option_width(&parse->rows[i]) > widest)
			widest = option_width(&parse->rows[i]);
	printf("Usage: %s [OPTION]...%s\n\n", parse->program, parse->operands ? " OPERAND..." : "");
	for (size_t i = 0; i < rows_count(parse); i++) {
		int width = option_print(stdout, &parse->rows[i]);

		printf("%*s%s\n", widest - width + 2, "", parse->rows[i].help);
	}
	printf("\nThe configuration file has lines KEY = VALUE in the section [%s]; a key is a long option's name,\n"
	       "and the value of a switch is yes or no.\n",
	       parse->section);
	exit(fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}

_Noreturn static void version(const struct parse *parse)
{
	printf("%s (StrakeFS) " STRAKE_VERSION "\n", parse->program);
	exit(fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}

/* --- the configuration file ------------------------------------------------------------------------------------- */

/* Of struct daemon_config. */
static int config_key(void *owner, const char *name, const char *value, char *error, size_t error_size)
{
	struct parse *parse = owner;

	for (size_t i = 0; i < parse->count + COMMON_TRANSPORT + 1; i++) {
		if (i == parse->count + COMMON_CONFIG || strcmp(parse->rows[i].name, name) != 0)
			continue;
		if (parse->rows[i].value || strcmp(value, "yes") == 0)
			return apply(parse, i, value, error, error_size);
		if (strcmp(value, "no") == 0)
			return 0;
		snprintf(error, error_size, "it is yes or no, not \"%s\"", value);
		return -EINVAL;
	}
	return DAEMON_CONFIG_UNKNOWN;
}

static void config_read(struct parse *parse, const char *path)
{
	const struct daemon_config config = {
		.path = path,
		.section = parse->section,
		.key = config_key,
		.owner = parse,
	};
	FILE *file = fopen(path, "re");
	char error[1024];

	if (!file)
		daemon_refuse(parse->program, "--config: %s: %s", path, strerror(errno));
	if (daemon_config_read(file, &config, error, sizeof(error)) < 0)
		daemon_refuse(parse->program, "%s", error);
	fclose(file);
}

/* --- the command line ------------------------------------------------------------------------------------------- */

_Noreturn static void argument_fail(const struct parse *parse, int found, char **argv)
{
	const char *word = argv[optind - 1];

	if (found == ':')
		daemon_refuse(parse->program, "--%s: its value %s is missing", parse->rows[row_of(parse, optopt)].name,
			      parse->rows[row_of(parse, optopt)].value);
	if (optopt >= LONG_BASE)
		daemon_refuse(parse->program, "--%s takes no value", parse->rows[row_of(parse, optopt)].name);
	if (optopt != 0)
		daemon_refuse(parse->program, "unknown option -%c", optopt);
	daemon_refuse(parse->program, "unknown or ambiguous option %s", word);
}

/* The first pass; the path of the configuration file, or NULL. */
static const char *arguments_scan(const struct parse *parse, int argc, char **argv)
{
	const char *path = NULL;
	int found;

	optind = 0; /* glibc: begin anew */
	opterr = 0;
	while ((found = getopt_long(argc, argv, parse->letters, parse->longs, NULL)) != -1) {
		size_t row;

		if (found == '?' || found == ':')
			argument_fail(parse, found, argv);
		row = row_of(parse, found);
		if (row == parse->count + COMMON_CONFIG)
			path = optarg;
		if (row == parse->count + COMMON_HELP)
			help(parse);
		if (row == parse->count + COMMON_VERSION)
			version(parse);
	}
	if (!parse->operands && optind < argc)
		daemon_refuse(parse->program, "\"%s\" is too much: there are only options", argv[optind]);
	return path;
}

/* The second; the index of the first operand. */
static int arguments_apply(struct parse *parse, int argc, char **argv)
{
	int found;

	optind = 0;
	while ((found = getopt_long(argc, argv, parse->letters, parse->longs, NULL)) != -1) {
		size_t row = row_of(parse, found);
		char error[512] = "";
		int err;

		if (row == parse->count + COMMON_CONFIG)
			continue;
		err = apply(parse, row, parse->rows[row].value ? optarg : "yes", error, sizeof(error));
		if (err)
			daemon_refuse(parse->program, "--%s: %s", parse->rows[row].name,
				      error[0] != '\0' ? error : strerror(-err));
	}
	return optind;
}

void daemon_options(int argc, char **argv, const char *program, const char *section,
		    const struct daemon_option *options, size_t count, void *target, int *ret_first_operand)
{
	struct parse parse = { .program = program,
			       .section = section,
			       .target = target,
			       .level = LOGGER_INFO,
			       .operands = ret_first_operand != NULL };
	char error[1024];
	const char *path;
	int first_operand;

	assert(daemon_config_section_exists(section));
	fd_open_standard();
	parse_init(&parse, options, count);
	path = arguments_scan(&parse, argc, argv);
	if (path)
		config_read(&parse, path);
	first_operand = arguments_apply(&parse, argc, argv);
	logger_init(program, parse.level);
	fabrics_choose(parse.fabrics);
	if (fabrics_check(error, sizeof(error)) < 0)
		daemon_fail("%s", error);
	if (ret_first_operand)
		*ret_first_operand = first_operand;
}
