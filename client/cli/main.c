/* strake: the table of verbs. */
#include "client/cli/cli.h"
#include "common/fd_io.h"
#include "common/logger.h"
#include "common/version.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct verb {
	const char *name;
	int (*run)(int argc, char **argv, const struct cli_globals *globals);
	bool passes_all; /* its arguments are another program's: global options in them are not ours */
	const char *operands, *help;
} verbs[] = {
	{ "mgs", cli_mgs, true, "OPTIONS", "run the management server: strake-mgs" },
	{ "mds", cli_mds, true, "OPTIONS", "run a metadata server: strake-mds" },
	{ "oss", cli_oss, true, "OPTIONS", "run an object storage server: strake-oss" },
	{ "format", cli_format, false, "mgs|mds|oss -d DIR", "make a data directory" },
	{ "cluster", cli_cluster, false, "start|stop|status DIR", "a whole cluster on this machine" },
	{ "mount", cli_mount, false, "[SOURCE] MNT [-o OPTIONS]", "mount a filesystem" },
	{ "umount", cli_umount, false, "MNT", "unmount it, and wait until all is written" },
	{ "status", cli_status, false, "[--json]", "the servers and how they are" },
	{ "fsck", cli_fsck, false, "[--json]", "is all of it as it must be? while it is in use" },
	{ "net", cli_net, false, "[test HOST[:PORT]] [--json]", "RDMA devices; how fast a server answers" },
	{ "client", cli_client, false, "put|get|ls|...", "files without a mount" },
};

static void print_help(void)
{
	puts("Usage: strake [-m ADDR[,ADDR...]] [--key FILE] VERB ...\n");
	for (size_t i = 0; i < sizeof(verbs) / sizeof(*verbs); i++) {
		char left[64];

		snprintf(left, sizeof(left), "%s %s", verbs[i].name, verbs[i].operands);
		printf("  %-34s %s\n", left, verbs[i].help);
	}
	puts("\n  -m, --mgs ADDR[,ADDR...]  where the MGS is (STRAKE_MGS; 127.0.0.1:9400)\n"
	     "      --key FILE            the cluster key (STRAKE_KEY; /etc/strake/cluster.key)\n"
	     "      --log-level LEVEL     error, warning, info, debug\n"
	     "  -h, --help                also after a verb\n"
	     "  -V, --version");
}

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(*verbs); i++)
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];
	return NULL;
}

static int run_verb(const struct verb *verb, int argc, char **argv, struct cli_globals *globals)
{
	enum logger_level level = LOGGER_WARNING;
	int status = 0;

	if (!verb->passes_all)
		status = cli_take_globals(&argc, argv, globals);
	if (status == 0)
		status = cli_complete_globals(globals);
	if (status)
		return status;
	if (globals->log_level)
		(void)logger_level_parse(globals->log_level, &level);
	logger_init("strake", level);
	return verb->run(argc, argv, globals);
}

/* The global options before the verb: argv[] up to it is taken apart in its place. */
static int take_leading(int argc, char **argv, struct cli_globals *globals, int *ret_verb)
{
	int verb = 1;

	while (verb < argc && argv[verb][0] == '-') {
		bool has_value = strcmp(argv[verb], "-m") == 0 || strcmp(argv[verb], "--mgs") == 0 ||
				 strcmp(argv[verb], "--key") == 0 || strcmp(argv[verb], "--log-level") == 0;
		char *pair[3] = { argv[verb], has_value && verb + 1 < argc ? argv[verb + 1] : NULL, NULL };
		int count = pair[1] ? 2 : 1, left = count, status;

		if (strcmp(pair[0], "-h") == 0 || strcmp(pair[0], "--help") == 0) {
			print_help();
			exit(CLI_OK);
		}
		if (strcmp(pair[0], "-V") == 0 || strcmp(pair[0], "--version") == 0) {
			puts("strake " STRAKE_VERSION);
			exit(CLI_OK);
		}
		status = cli_take_globals(&left, pair, globals);
		if (status == 0 && left != 0)
			status = cli_misuse("", "there is no option %s", pair[0]);
		if (status)
			return status;
		verb += count;
	}
	*ret_verb = verb;
	return 0;
}

int main(int argc, char **argv)
{
	struct cli_globals globals = { 0 };
	const char *program = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
	const struct verb *verb;
	int first = 1, status;

	fd_open_standard();
	/* As umount(8)'s helper: umount.strake, umount.fuse.strake. */
	if (strncmp(program, "umount.", strlen("umount.")) == 0)
		return cli_umount(argc, argv, &globals);

	status = take_leading(argc, argv, &globals, &first);
	if (status)
		return status;
	if (first == argc)
		return cli_misuse(
			"",
			"what is to be done? mgs, mds, oss, format, cluster, mount, umount, status, fsck, net, client");
	verb = find_verb(argv[first]);
	if (!verb)
		return cli_misuse("", "there is no verb \"%s\"", argv[first]);
	return run_verb(verb, argc - first, argv + first, &globals);
}
