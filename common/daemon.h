/*
 * What every server process does: options and configuration, signals, readiness, last words.
 *
 * Options are, in rising order of strength: built-in, the configuration file (`--config FILE`, INI, section [mgs] [mds]
 * [oss] [client]; keys are the long options' names), the command line.
 */
#ifndef STRAKE_COMMON_DAEMON_H
#define STRAKE_COMMON_DAEMON_H

#include "common/address.h"
#include "common/loop.h"

#include <stdbool.h>
#include <stddef.h>

struct daemon_option {
	const char *name;  /* long option and key of the configuration file */
	char letter;       /* short option, or 0 */
	const char *value; /* what --help calls the value; NULL: a switch */
	const char *help;
	/* Check and keep in `field`. 0, or -errno with a sentence in error. value is "yes" for a switch. */
	int (*set)(void *field, const char *value, char *error, size_t error_size);
	size_t offset; /* of field in the target; 0: field is the target, for those that need more of it */
};

/* What set may be. */
int daemon_set_text(void *field, const char *value, char *error, size_t error_size);   /* char *, owned; not empty */
int daemon_set_switch(void *field, const char *value, char *error, size_t error_size); /* bool */
int daemon_set_mgs(void *field, const char *value, char *error, size_t error_size);    /* struct address_list */
/* For those who have a port of their own: that of addresses which name none. */
int daemon_set_addresses(struct address_list *list, uint16_t port, const char *value, char *error, size_t error_size);

/*
 * Read configuration file and command line into target. Prints --help or --version and exits 0; prints what is wrong
 * ("strake-oss: --listen: ...; see strake-oss --help") and exits 2. Also handles --log-level and --config. Operands are
 * refused unless ret_operands is given (then: its index in argv).
 */
void daemon_options(int argc, char **argv, const char *program, const char *section,
		    const struct daemon_option *options, size_t count, void *target, int *ret_first_operand);
/* Likewise of options that make no sense together: "strake-oss: TEXT; see strake-oss --help"; exits 2. */
_Noreturn void daemon_refuse(const char *program, const char *format, ...) __attribute__((format(printf, 2, 3)));

/*
 * The first SIGTERM or SIGINT stops the loop, further ones do nothing; SIGPIPE is ignored; the descriptor limit is raised as
 * far as allowed. Before any thread is made: they inherit what is blocked.
 */
int daemon_signals(struct loop *loop);

/*
 * All is up: tells systemd (sd_notify) and whoever started us with STRAKE_READY_FD=N (one line "ready ADDRESS\n" on that
 * descriptor, then closed).
 */
void daemon_ready(const char *address);
/* We cannot start: the same descriptor gets "error TEXT\n", stderr too; exits 1. */
_Noreturn void daemon_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
