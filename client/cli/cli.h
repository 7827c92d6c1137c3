/*
 * The command line `strake`: one verb per file, int cli_VERB(argc, argv, globals), argv[0] being the verb. The global
 * options have been taken out of argv, wherever they stood before "--"; -h and --help have not.
 *
 * A verb returns the exit status: CLI_OK, CLI_FAILED (it said why by cli_fail()), CLI_MISUSED (by cli_misuse()).
 * Results go to stdout, everything else to stderr.
 */
#ifndef STRAKE_CLIENT_CLI_CLI_H
#define STRAKE_CLIENT_CLI_CLI_H

#include "common/address.h"

#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

enum cli_exit { CLI_OK = 0, CLI_FAILED = 1, CLI_MISUSED = 2 };

struct cli_globals {
	struct address_list mgs; /* -m, STRAKE_MGS, the one cluster that runs on this machine, 127.0.0.1:9400 */
	bool mgs_given;          /* by the first two */
	const char *key;         /* --key; NULL: key_find() searches */
	const char *log_level;   /* --log-level, checked; NULL: not given */
};

int cli_mgs(int argc, char **argv, const struct cli_globals *globals);
int cli_mds(int argc, char **argv, const struct cli_globals *globals);
int cli_oss(int argc, char **argv, const struct cli_globals *globals);
int cli_mount(int argc, char **argv, const struct cli_globals *globals);
int cli_umount(int argc, char **argv, const struct cli_globals *globals);
int cli_format(int argc, char **argv, const struct cli_globals *globals);
int cli_cluster(int argc, char **argv, const struct cli_globals *globals);
int cli_status(int argc, char **argv, const struct cli_globals *globals);
int cli_fsck(int argc, char **argv, const struct cli_globals *globals);
int cli_net(int argc, char **argv, const struct cli_globals *globals);
int cli_client(int argc, char **argv, const struct cli_globals *globals);

/*
 * Names may be any bytes, and must not command a terminal: control characters, of UTF-8 the C1 ones too, are written as
 * backslash and three octal digits, by all of these.
 */
void cli_put_text(FILE *file, const char *text);
void cli_put_format(FILE *file, const char *format, va_list args) __attribute__((format(printf, 2, 0)));
/* A line on stdout; its end is not in `format`. */
void cli_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* "strake: ..." on stderr; CLI_FAILED. */
int cli_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* "strake VERB: ...; see strake VERB --help" on stderr; CLI_MISUSED. verb may be "". */
int cli_misuse(const char *verb, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* What getopt_long() has just met (its result '?' or ':') is wrong: says so; CLI_MISUSED. Call it with opterr = 0. */
int cli_bad_option(const char *verb, int result, char **argv);

/* argv without the global options; "--" and what follows stays. Answers the exit status when they are wrong, else 0. */
int cli_take_globals(int *argc, char **argv, struct cli_globals *globals);
/* What was not given on the command line: from the environment, or built in. Answers as above. */
int cli_complete_globals(struct cli_globals *globals);

/* Where another program of ours is: beside this one, in PATH, in the usual sbin folders. -ENOENT. */
int cli_find_program(const char *program, char ret_path[PATH_MAX]);
/* execv(3) of words that are not written to. Returns only when it failed, and has said so. */
void cli_exec(const char *path, const char *const *argv);

/* "ADDR,ADDR..."; returns out. */
#define CLI_MGS_SIZE (ADDRESS_LIST_MAX * ADDRESS_SIZE)
const char *cli_join_addresses(const struct address_list *list, char out[CLI_MGS_SIZE]);

#endif
