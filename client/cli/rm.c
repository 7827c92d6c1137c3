/* strake client rm PATH: a name, or with -r a tree. */
#include "client/cli/transfer.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#define LIST_MAX 256 /* entries in memory per directory */

static void print_help(void)
{
	puts("Usage: strake client rm [-r] PATH\n"
	     "\n"
	     "Removes a file, an empty directory, or with -r a directory and all that is in it. A symbolic link is "
	     "removed\n"
	     "itself.\n"
	     "\n"
	     "  -r, --recursive   also directories that are not empty");
}

struct words {
	const char *path;
	bool recursive;
};

/* --- a tree ------------------------------------------------------------------------------------------------------ */

struct listing {
	struct transfer_dir *dir;
	unsigned int count;
	int err;
	bool full;
};

static bool list_one(void *arg, const struct dir_entry *from)
{
	struct listing *listing = arg;
	struct transfer_entry *entry;

	if (listing->count == LIST_MAX) {
		listing->full = true;
		return false;
	}
	listing->dir->cookie = from->cookie;
	if (path_base_is_special(from->name, from->name_len))
		return true;
	entry = transfer_entry_new(from->name, from->name_len);
	if (!entry) {
		listing->err = -ENOMEM;
		return false;
	}
	entry->ino = from->ino;
	entry->type = (unsigned char)IFTODT(from->type);
	transfer_add(listing->dir, entry);
	listing->count++;
	return true;
}

static int list_dir(struct transfer *transfer, struct transfer_dir *dir)
{
	struct client *client = transfer->client;
	struct listing listing = { .dir = dir };
	int err = fs_readdir(client->fs, &client->ctx, dir->ino, dir->cookie, false, list_one, &listing);

	dir->listed = !listing.full;
	return err ? err : listing.err;
}

static void remove_entry(struct transfer *transfer, struct transfer_dir *dir, struct transfer_entry *entry)
{
	struct client *client = transfer->client;
	int err;

	if (entry->type == DT_DIR) {
		struct transfer_dir *below = transfer_push(transfer, dir, entry);

		if (below)
			below->ino = entry->ino;
		err = below ? 0 : -ENOMEM;
	} else {
		err = fs_unlink(client->fs, &client->ctx, dir->ino, entry->to, strlen(entry->to));
		if (err == -ENOENT)
			err = 0; /* somebody else did */
		else if (err == 0)
			transfer->counts.files++;
	}
	if (err)
		transfer_fail(transfer, dir, entry, TRANSFER_DEST, err);
}

static void finish_dir(struct transfer *transfer, struct transfer_dir *dir, bool whole)
{
	struct client *client = transfer->client;
	int err;

	if (!whole)
		return;
	err = fs_rmdir(client->fs, &client->ctx, dir->parent->ino, dir->name, strlen(dir->name));
	if (err && err != -ENOENT)
		transfer_fail(transfer, dir, NULL, TRANSFER_DEST, err);
	else
		transfer->counts.directories++;
}

static int remove_tree(struct client *client, const char *path, const struct place *place)
{
	static const struct transfer_ops ops = { .list = list_dir, .copy = remove_entry, .finish = finish_dir };
	struct transfer transfer = { .client = client, .ops = &ops, .from = path, .to = path };
	struct transfer_dir holder = { .fd = -1, .ino = place->parent };
	struct transfer_entry *root = transfer_entry_new(place->name, place->name_len);
	char summary[TRANSFER_SUMMARY_SIZE];
	int status, err;

	if (!root)
		return client_fail(client, "%s", strerror(ENOMEM));
	root->ino = place->attr.ino;
	root->type = DT_DIR;
	err = transfer_run(&transfer, &holder, root, true);
	if (err)
		return client_fail(client, "%s", strerror(-err));
	status = transfer_result(&transfer, "removed");
	if (status == CLI_OK)
		cli_say("Removed: %s (%s)", path, transfer_summary(&transfer, summary));
	return status;
}

/* --- one name ---------------------------------------------------------------------------------------------------- */

static int rm_run(struct client *client, void *arg)
{
	const struct words *words = arg;
	const char *path = words->path;
	char name[PATH_MAX]; /* path, without slashes behind it: they would have a symbolic link followed */
	size_t len = strlen(path);
	struct place place;
	bool is_dir;
	int err;

	while (len > 1 && path[len - 1] == '/')
		len--;
	if (snprintf(name, sizeof(name), "%.*s", (int)len, path) >= PATH_MAX)
		return client_fail_path(client, path, -ENAMETOOLONG);
	err = client_find(client, name, false, &place);
	if (err == 0 && !place.exists)
		err = -ENOENT;
	if (err == 0 && path[len] == '/' && !S_ISDIR(place.attr.mode))
		err = -ENOTDIR;
	if (err)
		return client_fail_path(client, path, err);
	if (place.name_len == 0)
		return client_fail(client, "%s is not removed: give it by its name, and the root not at all", path);
	is_dir = S_ISDIR(place.attr.mode);
	if (is_dir && words->recursive)
		return remove_tree(client, path, &place);
	if (is_dir)
		err = fs_rmdir(client->fs, &client->ctx, place.parent, place.name, place.name_len);
	else
		err = fs_unlink(client->fs, &client->ctx, place.parent, place.name, place.name_len);
	if (err == -ENOTEMPTY)
		return client_fail(client, "%s is not empty (-r removes all that is in it, too)", path);
	if (err)
		return client_fail_path(client, path, err);
	cli_say("Removed: %s", path);
	return CLI_OK;
}

int client_rm(int argc, char **argv, const struct cli_globals *globals)
{
	static const struct option options[] = {
		{ "recursive", no_argument, NULL, 'r' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct words words = { 0 };
	int letter;

	opterr = 0;
	while ((letter = getopt_long(argc, argv, ":rh", options, NULL)) != -1) {
		switch (letter) {
		case 'r':
			words.recursive = true;
			break;
		case 'h':
			print_help();
			return CLI_OK;
		default:
			return cli_bad_option("client rm", letter, argv);
		}
	}
	if (argc - optind != 1)
		return cli_misuse("client rm", "it wants one PATH");
	words.path = argv[optind];
	return client_run("rm", globals, rm_run, &words);
}
