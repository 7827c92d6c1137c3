/* strake mount [SOURCE] MNT [-o OPTIONS]: mount.strake, given SOURCE as -m or STRAKE_MGS say it when it is left out. */
#include "client/cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_help(void)
{
	puts("Usage: strake [-m ADDR[,ADDR...]] mount MNT [-o OPTIONS]\n"
	     "       strake mount ADDR[,ADDR...]:/SUBDIR MNT [-o OPTIONS]\n"
	     "\n"
	     "Mounts a filesystem and returns when it is there. Options and what else may stand here: "
	     "mount.strake(8).\n"
	     "\n"
	     "  -o OPTIONS                e.g. ro,sync,soft,timeo=60\n"
	     "  -m, --mgs ADDR[,ADDR...]  where the MGS is\n"
	     "      --key FILE            the cluster key");
}

struct words {
	const char *operands[2]; /* SOURCE MNT, or MNT */
	size_t operand_count;
	const char **options; /* as they came */
	size_t option_count;
};

/* mount.strake's options that have a value; -o X and -oX. */
static bool option_wants_value(const char *word)
{
	return strcmp(word, "-o") == 0 || strcmp(word, "-k") == 0 || strcmp(word, "-t") == 0;
}

static int sort_words(int argc, char **argv, struct words *words)
{
	bool only_operands = false;

	for (int i = 1; i < argc; i++) {
		if (!only_operands && strcmp(argv[i], "--") == 0) {
			only_operands = true;
		} else if (!only_operands && argv[i][0] == '-' && argv[i][1] != '\0') {
			if (strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--help") == 0) {
				print_help();
				exit(CLI_OK);
			}
			words->options[words->option_count++] = argv[i];
			if (!option_wants_value(argv[i]))
				continue;
			if (i + 1 == argc)
				return cli_misuse("mount", "%s wants a value", argv[i]);
			words->options[words->option_count++] = argv[++i];
		} else if (words->operand_count < 2) {
			words->operands[words->operand_count++] = argv[i];
		} else {
			return cli_misuse("mount", "\"%s\" is one word too many", argv[i]);
		}
	}
	return words->operand_count > 0 ? 0 : cli_misuse("mount", "on which mount point?");
}

static int mount_exec(const struct words *words, const char **args, const struct cli_globals *globals)
{
	char path[PATH_MAX], mgs[CLI_MGS_SIZE], source[CLI_MGS_SIZE + 2];
	size_t count = 0;

	if (cli_find_program("mount.strake", path) < 0)
		return cli_fail("mount.strake is neither beside this program nor in PATH");
	args[count++] = "mount.strake";
	if (words->operand_count == 2) {
		args[count++] = words->operands[0];
	} else {
		snprintf(source, sizeof(source), "%s:/", cli_join_addresses(&globals->mgs, mgs));
		args[count++] = source;
	}
	args[count++] = words->operands[words->operand_count - 1];
	memcpy(args + count, words->options, words->option_count * sizeof(*args));
	count += words->option_count;
	/* --key is the same as STRAKE_KEY, only stronger. */
	if (globals->key && setenv("STRAKE_KEY", globals->key, 1) < 0)
		return cli_fail("%s", strerror(errno));
	cli_exec(path, args);
	return CLI_FAILED;
}

int cli_mount(int argc, char **argv, const struct cli_globals *globals)
{
	struct words words = { .options = calloc((size_t)argc, sizeof(char *)) };
	const char **args = calloc((size_t)argc + 6, sizeof(*args));
	int status;

	if (!words.options || !args)
		status = cli_fail("%s", strerror(ENOMEM));
	else
		status = sort_words(argc, argv, &words);
	if (status == 0)
		status = mount_exec(&words, args, globals);
	free(words.options);
	free(args);
	return status;
}
