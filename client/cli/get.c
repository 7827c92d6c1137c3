/* strake client get SOURCE DEST: the words, where it goes, and what is said of it. */
#include "client/cli/get.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_help(void)
{
	puts("Usage: strake client get [-r] [-f] SOURCE DEST\n"
	     "\n"
	     "Copies a file, or with -r a tree, out of the filesystem to the local DEST, which is the full name of the "
	     "copy "
	     "and\n"
	     "must not exist; an existing directory with a slash behind it takes the copy in.\n"
	     "\n"
	     "  -r, --recursive   also directories, and keep modes, owners (as root), times, symbolic and hard links,\n"
	     "                    extended attributes, holes, fifos, sockets, and devices (as root)\n"
	     "  -f, --force       replace files that exist, merge directories");
}

struct target {
	char path[PATH_MAX];
};

/* DEST, or SOURCE's last name in it. */
static int find_target(struct client *client, const struct get *get, const struct place *source,
		       struct target *ret_target)
{
	const char *dest = get->dest;
	size_t len;
	const char *base = path_base(dest, &len);
	bool into = path_base_is_special(base, len) || base[len] == '/', is_dir = S_ISDIR(source->attr.mode), exists;
	struct stat st;

	exists = (into ? stat(dest, &st) : lstat(dest, &st)) == 0;
	if (!exists && errno != ENOENT)
		return client_fail(client, "%s: %s", dest, strerror(errno));
	if (snprintf(ret_target->path, PATH_MAX, "%s", dest) >= PATH_MAX)
		return client_fail(client, "%s: %s", dest, strerror(ENAMETOOLONG));
	if (!exists)
		return into && !is_dir ? client_fail(client, "%s: there is no such directory", dest) : 0;
	if (into) {
		if (!S_ISDIR(st.st_mode))
			return client_fail(client, "%s: %s", dest, strerror(ENOTDIR));
		if (source->name_len == 0)
			return client_fail(client, "%s has no name of its own; give the copy's in full", get->source);
		if (snprintf(ret_target->path, PATH_MAX, "%s%s%s", dest, dest[strlen(dest) - 1] == '/' ? "" : "/",
			     source->name) >= PATH_MAX)
			return client_fail(client, "%s: %s", dest, strerror(ENAMETOOLONG));
		return 0;
	}
	if (S_ISDIR(st.st_mode) && !(is_dir && get->force))
		return client_fail(client, "%s exists already and is a directory (%s/ means into it%s)", dest, dest,
				   is_dir ? ", -f the two into one" : "");
	if (!get->force)
		return client_fail(client, "%s exists already (use -f to replace it)", dest);
	return 0;
}

static void say_left_out(struct get *get)
{
	if (get->xattrs.refused)
		transfer_warn(&get->transfer, "warning: some extended attributes could not be kept");
}

static void say_done(const struct get *get, const struct target *target)
{
	const struct transfer *transfer = &get->transfer;
	char summary[TRANSFER_SUMMARY_SIZE];
	bool one_file = !get->recursive && transfer->counts.files == 1;

	if (one_file)
		cli_say("GET: %s -> %s (%" PRIu64 " bytes, %u stripes)", get->source, target->path,
			transfer->counts.bytes, get->last.layout->ost_count);
	cli_say("Successfully read %" PRIu64 " bytes from %s to %s%s%s", transfer->counts.bytes, get->source,
		target->path, one_file ? "" : ": ", one_file ? "" : transfer_summary(transfer, summary));
}

static int get_transfer(struct get *get, const struct place *source, const struct target *target)
{
	struct transfer *transfer = &get->transfer;
	struct client *client = transfer->client;
	struct transfer_dir holder = { .fd = AT_FDCWD };
	struct transfer_entry *root = transfer_entry_new(target->path, strlen(target->path));
	int status, err;

	if (!root)
		return client_fail(client, "%s", strerror(ENOMEM));
	root->ino = source->attr.ino;
	attr_to_stat(&source->attr, &root->st);
	root->has_stat = true;
	transfer->from = get->source;
	transfer->to = target->path;
	transfer->ops = &get_ops;
	transfer->verb = get;
	if (S_ISREG(source->attr.mode))
		transfer->counts.bytes_total = source->attr.size;
	err = transfer_run(transfer, &holder, root, get->recursive);
	if (err)
		return client_fail(client, "%s", strerror(-err));
	say_left_out(get);
	status = transfer_result(transfer, "copied");
	if (status == CLI_OK)
		say_done(get, target);
	return status;
}

static int get_run(struct client *client, void *arg)
{
	struct get *get = arg;
	struct place source;
	struct target target;
	int status, err = client_find(client, get->source, false, &source);

	if (err == 0 && !source.exists)
		err = -ENOENT;
	if (err)
		return client_fail_path(client, get->source, err);
	if (S_ISDIR(source.attr.mode) && !get->recursive)
		return client_fail(client, "%s is a directory (use -r to copy all that is in it)", get->source);
	if (!S_ISREG(source.attr.mode) && !get->recursive)
		return client_fail(client, "%s is not a regular file (-r copies it as what it is)", get->source);
	status = find_target(client, get, &source, &target);
	if (status)
		return status;

	get->transfer.client = client;
	get->root = get->xattrs.root = client->ctx.uid == 0;
	get->links = links_new();
	if (!get->links || bufpool_new(TRANSFER_PIECE, 1, TRANSFER_FIBERS, &get->buffers) < 0)
		status = client_fail(client, "%s", strerror(ENOMEM));
	else
		status = get_transfer(get, &source, &target);
	bufpool_free(get->buffers);
	links_free(get->links);
	return status;
}

int client_get(int argc, char **argv, const struct cli_globals *globals)
{
	static const struct option options[] = {
		{ "recursive", no_argument, NULL, 'r' },
		{ "force", no_argument, NULL, 'f' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct get get = { 0 };
	int letter;

	opterr = 0;
	while ((letter = getopt_long(argc, argv, ":rfh", options, NULL)) != -1) {
		switch (letter) {
		case 'r':
			get.recursive = true;
			break;
		case 'f':
			get.force = true;
			break;
		case 'h':
			print_help();
			return CLI_OK;
		default:
			return cli_bad_option("client get", letter, argv);
		}
	}
	if (argc - optind != 2)
		return cli_misuse("client get", argc - optind < 2 ? "it wants SOURCE and DEST" : "too many words");
	get.source = argv[optind];
	get.dest = argv[optind + 1];
	return client_run("get", globals, get_run, &get);
}
