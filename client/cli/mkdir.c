/* strake client mkdir PATH: a directory, and with -p those above it. */
#include "client/cli/client.h"
#include "client/cli/stripe_options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

static void print_help(void)
{
	puts("Usage: strake client mkdir [-p] [-S SIZE] [-c COUNT] PATH\n"
	     "\n"
	     "  -p, --parents            also those above it; no error where it exists\n"
	     "  -S, --stripe-size SIZE   of what is made in it: bytes per chunk, a power of two from 64K to 1G\n"
	     "  -c, --stripe-count N     of what is made in it: over how many OSTs a file is laid; 0: all");
}

struct words {
	const char *path;
	bool parents;
	struct stripe_options stripes;
};

/* Make path, of which everything above exists. *ret_attr is of what is there then. */
static int make_one(struct client *client, const char *path, bool may_exist, struct attr *ret_attr, bool *ret_new)
{
	struct place place;
	int err = client_find(client, path, true, &place);

	*ret_new = false;
	if (err)
		return err;
	if (!place.exists) {
		err = fs_mkdir(client->fs, &client->ctx, place.parent, place.name, place.name_len, 0777, &place.attr);
		if (err == 0)
			fs_forget(client->fs, place.attr.ino, 1);
		*ret_new = err == 0;
		if (err == -EEXIST && may_exist)
			return make_one(client, path, may_exist, ret_attr, ret_new); /* somebody was quicker */
		if (err)
			return err;
	} else if (!may_exist) {
		return -EEXIST;
	} else if (!S_ISDIR(place.attr.mode)) {
		return -ENOTDIR;
	}
	*ret_attr = place.attr;
	return 0;
}

/* All above the last name. */
static int make_parents(struct client *client, const char *path)
{
	char part[PATH_MAX];
	size_t len;
	const char *base = path_base(path, &len);
	struct attr attr;
	bool is_new;
	int err = 0;

	if (strlen(path) >= sizeof(part))
		return -ENAMETOOLONG;
	for (const char *at = path; at < base && err == 0;) {
		at += strspn(at, "/");
		if (at >= base)
			break;
		at += strcspn(at, "/");
		memcpy(part, path, (size_t)(at - path));
		part[at - path] = '\0';
		err = make_one(client, part, true, &attr, &is_new);
	}
	return err;
}

static int mkdir_run(struct client *client, void *arg)
{
	const struct words *words = arg;
	const struct stripe_options *stripes = &words->stripes;
	struct attr attr;
	bool is_new;
	int err = words->parents ? make_parents(client, words->path) : 0;

	if (err == 0)
		err = make_one(client, words->path, words->parents, &attr, &is_new);
	if (err == -EEXIST)
		return client_fail(client, "%s exists already", words->path);
	if (err == 0 && is_new && stripe_options_given(stripes))
		err = fs_set_layout(client->fs, &client->ctx, attr.ino,
				    stripes->has_size ? stripes->size : attr.layout->stripe_size,
				    stripes->has_count ? stripes->count : attr.layout->stripe_count);
	if (err)
		return client_fail_path(client, words->path, err);
	if (is_new)
		cli_say("Created directory: %s", words->path);
	return CLI_OK;
}

int client_mkdir(int argc, char **argv, const struct cli_globals *globals)
{
	static const struct option options[] = {
		{ "parents", no_argument, NULL, 'p' },
		{ "stripe-size", required_argument, NULL, 'S' },
		{ "stripe-count", required_argument, NULL, 'c' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct words words = { 0 };
	char error[128];
	int letter;

	opterr = 0;
	while ((letter = getopt_long(argc, argv, ":pS:c:h", options, NULL)) != -1) {
		switch (letter) {
		case 'p':
			words.parents = true;
			break;
		case 'S':
		case 'c':
			if (stripe_options_set(&words.stripes, letter, optarg, error, sizeof(error)) < 0)
				return cli_misuse("client mkdir", "%s", error);
			break;
		case 'h':
			print_help();
			return CLI_OK;
		default:
			return cli_bad_option("client mkdir", letter, argv);
		}
	}
	if (argc - optind != 1)
		return cli_misuse("client mkdir", "it wants one PATH");
	words.path = argv[optind];
	return client_run("mkdir", globals, mkdir_run, &words);
}
