/* strake mgs|mds|oss ARGS: the daemons' own programs. ARGS go through as they are; what was given before the verb,
 * first. */
#include "client/cli/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int role_exec(const char *program, bool takes_mgs, int argc, char **argv, const struct cli_globals *globals)
{
	const char **args = calloc((size_t)argc + 5, sizeof(*args));
	char path[PATH_MAX], mgs[CLI_MGS_SIZE];
	size_t count = 0;

	if (!args)
		return cli_fail("%s", strerror(ENOMEM));
	if (cli_find_program(program, path) < 0) {
		free(args);
		return cli_fail("%s is neither beside this program nor in PATH", program);
	}
	args[count++] = program;
	if (takes_mgs && globals->mgs_given) {
		args[count++] = "--mgs";
		args[count++] = cli_join_addresses(&globals->mgs, mgs);
	}
	if (globals->log_level) {
		args[count++] = "--log-level";
		args[count++] = globals->log_level;
	}
	memcpy(args + count, argv + 1, ((size_t)argc - 1) * sizeof(*args));
	cli_exec(path, args);
	free(args);
	return CLI_FAILED;
}

int cli_mgs(int argc, char **argv, const struct cli_globals *globals)
{
	return role_exec("strake-mgs", false, argc, argv, globals);
}

int cli_mds(int argc, char **argv, const struct cli_globals *globals)
{
	return role_exec("strake-mds", true, argc, argv, globals);
}

int cli_oss(int argc, char **argv, const struct cli_globals *globals)
{
	return role_exec("strake-oss", true, argc, argv, globals);
}
