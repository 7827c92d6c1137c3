/* strake client: the table of its verbs, and how they speak. */
#include "client/cli/client.h"

#include "common/status.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct client_verb {
	const char *name;
	int (*run)(int argc, char **argv, const struct cli_globals *globals);
	const char *operands, *help;
} verbs[] = {
	{ "put", client_put, "[-r] SOURCE DEST", "copy a local file or tree into the filesystem" },
	{ "get", client_get, "[-r] SOURCE DEST", "copy a file or tree out of it" },
	{ "ls", client_ls, "[PATH]", "list a directory (/)" },
	{ "stat", client_stat, "PATH", "attributes, and where the bytes lie" },
	{ "mkdir", client_mkdir, "[-p] PATH", "make a directory" },
	{ "rm", client_rm, "[-r] PATH", "remove a file, an empty directory, a tree" },
};

static void print_help(void)
{
	puts("Usage: strake [-m ADDR[,ADDR...]] [--key FILE] client VERB ...\n"
	     "\n"
	     "Files without a mount. Paths in the filesystem are absolute.\n");
	for (size_t i = 0; i < sizeof(verbs) / sizeof(*verbs); i++) {
		char left[64];

		snprintf(left, sizeof(left), "%s %s", verbs[i].name, verbs[i].operands);
		printf("  %-26s %s\n", left, verbs[i].help);
	}
	puts("\nstrake client VERB --help says more of each.");
}

int cli_client(int argc, char **argv, const struct cli_globals *globals)
{
	if (argc < 2)
		return cli_misuse("client", "what is to be done? put, get, ls, stat, mkdir or rm");
	if (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0) {
		print_help();
		return CLI_OK;
	}
	for (size_t i = 0; i < sizeof(verbs) / sizeof(*verbs); i++)
		if (strcmp(verbs[i].name, argv[1]) == 0)
			return verbs[i].run(argc - 1, argv + 1, globals);
	return cli_misuse("client", "there is no verb \"%s\"", argv[1]);
}

/* --- how verbs speak --------------------------------------------------------------------------------------------- */

int client_fail(const struct client *client, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "strake: client %s: ", client->verb);
	va_start(args, format);
	cli_put_format(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return CLI_FAILED;
}

const char *client_error(int err)
{
	switch (err) {
	case -EIO:
		return "I/O error, or no answer from the servers";
	case -EKEYREJECTED:
		return "the servers refuse our cluster key";
	case -ENOSESSION:
		return "the MDT has ended our session";
	default:
		return strerror(-err);
	}
}

int client_fail_path(const struct client *client, const char *path, int err)
{
	if (err == -EINTR && client_is_interrupted(client))
		return CLI_FAILED;
	if (err == -EINVAL && path[0] != '/')
		return client_fail(client, "%s: paths in the filesystem begin with /", path);
	return client_fail(client, "%s: %s", path, client_error(err));
}

/* --- paths ------------------------------------------------------------------------------------------------------- */

static int find_lookup(void *arg, uint64_t parent, const char *name, size_t len, struct attr *ret_attr)
{
	struct client *client = arg;
	int err = fs_lookup(client->fs, &client->ctx, parent, name, len, ret_attr);

	if (err == 0)
		fs_forget(client->fs, ret_attr->ino, 1);
	return err;
}

static int find_readlink(void *arg, uint64_t ino, char *target, size_t size, size_t *ret_len)
{
	struct client *client = arg;

	return fs_readlink(client->fs, &client->ctx, ino, target, size, ret_len);
}

static int find_getattr(void *arg, uint64_t ino, struct attr *ret_attr)
{
	struct client *client = arg;

	return fs_getattr(client->fs, &client->ctx, ino, true, ret_attr);
}

int client_find(struct client *client, const char *path, bool follow, struct place *ret_place)
{
	const struct place_names names = {
		.arg = client,
		.root = fs_root(client->fs),
		.lookup = find_lookup,
		.readlink = find_readlink,
		.getattr = find_getattr,
	};

	return place_find(&names, path, follow, ret_place);
}
