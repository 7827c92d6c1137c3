/*
 * strake client VERB: what its verbs share. A verb is int client_VERB(argc, argv, globals), argv[0] being the verb; it
 * takes its words apart and calls client_run(), which opens the filesystem and runs the rest in a fiber. Everything
 * happens on one loop of one thread.
 *
 * Paths in the filesystem are absolute, the filesystem's root being "/".
 */
#ifndef STRAKE_CLIENT_CLI_CLIENT_H
#define STRAKE_CLIENT_CLI_CLIENT_H

#include "client/cli/cli.h"
#include "client/cli/place.h"
#include "client/fs.h"
#include "common/loop.h"

/* An operation that no server answers for so long ends with -EIO. */
#define CLIENT_SOFT_MS 60000

struct client {
	const char *verb; /* "put" */
	struct loop *loop;
	struct fs *fs;
	struct fs_ctx ctx; /* of the calling user; for all calls. SIGINT and SIGTERM interrupt it */
};

int client_put(int argc, char **argv, const struct cli_globals *globals);
int client_get(int argc, char **argv, const struct cli_globals *globals);
int client_ls(int argc, char **argv, const struct cli_globals *globals);
int client_stat(int argc, char **argv, const struct cli_globals *globals);
int client_mkdir(int argc, char **argv, const struct cli_globals *globals);
int client_rm(int argc, char **argv, const struct cli_globals *globals);

/*
 * Open the filesystem as the calling user, run fn(client, arg) in a fiber, close it. Answers what fn answers, an exit
 * status, or CLI_FAILED after saying why there is no connection.
 */
int client_run(const char *verb, const struct cli_globals *globals, int (*fn)(struct client *client, void *arg),
	       void *arg);

bool client_is_interrupted(const struct client *client);

/* "strake: client VERB: ..." on stderr; CLI_FAILED. */
int client_fail(const struct client *client, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same for a path and an error (-errno); nothing is said of -EINTR where the user has interrupted. */
int client_fail_path(const struct client *client, const char *path, int err);
/* What -errno means to a user of this filesystem. */
const char *client_error(int err);

/* place_find() in the filesystem. */
int client_find(struct client *client, const char *path, bool follow, struct place *ret_place);

#endif
