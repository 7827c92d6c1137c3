/* strake client put SOURCE DEST: the words, where it goes, and what is said of it. */
#include "client/cli/put.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* Pieces under way and not committed yet; libstrake's memory budget ends it long before. */
#define BUFFERS_MAX 8192

static void print_help(void)
{
	puts("Usage: strake client put [-r] [-f] [-S SIZE] [-c COUNT] SOURCE DEST\n"
	     "\n"
	     "Copies a local file, or with -r a tree, to DEST in the filesystem. DEST is the full name of the copy and "
	     "must "
	     "not\n"
	     "exist; an existing directory with a slash behind it takes the copy in. All is on stable storage when it "
	     "ends.\n"
	     "\n"
	     "  -r, --recursive          also directories, and keep modes, owners (as root), times, symbolic and hard "
	     "links,\n"
	     "                           extended attributes, holes, fifos, sockets, and devices (as root)\n"
	     "  -f, --force              replace files that exist, merge directories\n"
	     "  -S, --stripe-size SIZE   bytes per chunk, a power of two from 64K to 1G\n"
	     "  -c, --stripe-count N     over how many OSTs a file is laid; 0: all\n"
	     "  -R, --replica-count 1    replication does not exist yet in this version");
}

/* --- where it goes ----------------------------------------------------------------------------------------------- */

struct target {
	uint64_t parent;
	char name[PLACE_NAME_MAX + 1];
	char path[2 * PATH_MAX]; /* for messages */
};

/* The last name of the source, also of "." and "a/..". */
static int source_name(const char *source, char ret_name[PLACE_NAME_MAX + 1])
{
	char real[PATH_MAX];
	size_t len;
	const char *base = path_base(source, &len);

	if (path_base_is_special(base, len)) {
		if (!realpath(source, real))
			return -errno;
		base = path_base(real, &len);
	}
	if (len == 0)
		return -EINVAL;
	snprintf(ret_name, PLACE_NAME_MAX + 1, "%.*s", (int)len, base);
	return 0;
}

static int find_target(struct client *client, const struct put *put, bool is_dir, struct target *ret_target)
{
	const char *dest = put->dest;
	struct place place;
	int err = client_find(client, dest, false, &place);

	if (err)
		return client_fail_path(client, dest, err);
	ret_target->parent = place.parent;
	snprintf(ret_target->name, sizeof(ret_target->name), "%s", place.name);
	snprintf(ret_target->path, sizeof(ret_target->path), "%s", dest);
	if (!place.exists)
		return place.slash && !is_dir ? client_fail(client, "%s: there is no such directory", dest) : 0;
	if (place.slash) {
		err = source_name(put->source, ret_target->name);
		if (err)
			return client_fail(client, "%s: has no name of its own; give the copy's in full", put->source);
		ret_target->parent = place.attr.ino;
		snprintf(ret_target->path, sizeof(ret_target->path), "%s%s", dest, ret_target->name);
		return 0;
	}
	if (S_ISDIR(place.attr.mode) && !(is_dir && put->force))
		return client_fail(client, "%s exists already and is a directory (%s/ means into it%s)", dest, dest,
				   is_dir ? ", -f the two into one" : "");
	if (!put->force)
		return client_fail(client, "%s exists already (use -f to replace it)", dest);
	return 0;
}

/* --- what is said ------------------------------------------------------------------------------------------------ */

static unsigned int count_osts(const struct put *put)
{
	unsigned int count = 0;

	for (size_t i = 0; i < sizeof(put->osts); i++)
		count += (unsigned int)__builtin_popcount(put->osts[i]);
	return count;
}

static void say_left_out(struct put *put)
{
	if (put->xattrs.refused)
		transfer_warn(&put->transfer, "warning: some extended attributes could not be kept");
}

static void say_done(const struct put *put, const struct target *target)
{
	const struct transfer *transfer = &put->transfer;
	const struct layout *layout = put->last.layout;
	char summary[TRANSFER_SUMMARY_SIZE];
	bool one_file = !put->recursive && transfer->counts.files == 1;

	if (one_file)
		cli_say("Created %s (ino=%" PRIu64 ", stripes=%u, stripe_size=%" PRIu64 ", replica_count=1)",
			target->path, put->last.ino, layout->ost_count, layout->stripe_size);
	cli_say("Successfully wrote %" PRIu64 " bytes to %s across %u OSTs%s%s", transfer->counts.bytes, target->path,
		count_osts(put), one_file ? "" : ": ", one_file ? "" : transfer_summary(transfer, summary));
}

/* --- the verb ---------------------------------------------------------------------------------------------------- */

static int put_transfer(struct put *put, const struct stat *st, struct target *target)
{
	struct transfer *transfer = &put->transfer;
	struct client *client = transfer->client;
	struct transfer_dir holder = { .fd = AT_FDCWD, .ino = target->parent };
	struct transfer_entry *root = transfer_entry_new(put->source, strlen(put->source));
	int status, err;

	if (!root)
		return client_fail(client, "%s", strerror(ENOMEM));
	root->to = target->name;
	transfer->from = put->source;
	transfer->to = target->path;
	transfer->ops = &put_ops;
	transfer->verb = put;
	if (S_ISREG(st->st_mode))
		transfer->counts.bytes_total = (uint64_t)st->st_size;
	err = transfer_run(transfer, &holder, root, put->recursive);
	/* What has been copied shall stay, if the servers still answer. */
	if (err == 0 && (transfer->stopped == 0 || transfer->stopped == -ENOSPC)) {
		err = fs_sync(client->fs, &client->ctx);
		if (err == -EINTR && client_is_interrupted(client))
			return client_fail(client, "interrupted: %s may not be on stable storage", target->path);
	}
	say_left_out(put);
	status = transfer_result(transfer, "copied");
	if (err)
		return client_fail(client, "%s: not all of it is on stable storage: %s", target->path,
				   client_error(err));
	if (status == CLI_OK)
		say_done(put, target);
	return status;
}

static int put_run(struct client *client, void *arg)
{
	struct put *put = arg;
	struct target target;
	struct stat st;
	int status;

	if ((put->recursive ? lstat(put->source, &st) : stat(put->source, &st)) < 0)
		return client_fail(client, "%s: %s", put->source, strerror(errno));
	if (S_ISDIR(st.st_mode) && !put->recursive)
		return client_fail(client, "%s is a directory (use -r to copy all that is in it)", put->source);
	if (!S_ISREG(st.st_mode) && !put->recursive)
		return client_fail(client, "%s is not a regular file (-r copies it as what it is)", put->source);
	status = find_target(client, put, S_ISDIR(st.st_mode), &target);
	if (status)
		return status;

	put->transfer.client = client;
	put->root = put->xattrs.root = client->ctx.uid == 0;
	if (put->recursive)
		client->ctx.umask = 0;
	put->links = links_new();
	if (!put->links || bufpool_new(TRANSFER_PIECE, 1, BUFFERS_MAX, &put->buffers) < 0)
		status = client_fail(client, "%s", strerror(ENOMEM));
	else
		status = put_transfer(put, &st, &target);
	bufpool_free(put->buffers);
	links_free(put->links);
	return status;
}

/* Directories that are read stay open until all below them is done. */
static void allow_many_files(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

int client_put(int argc, char **argv, const struct cli_globals *globals)
{
	static const struct option options[] = {
		{ "recursive", no_argument, NULL, 'r' },
		{ "force", no_argument, NULL, 'f' },
		{ "stripe-size", required_argument, NULL, 'S' },
		{ "stripe-count", required_argument, NULL, 'c' },
		{ "replica-count", required_argument, NULL, 'R' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	static struct put put; /* too large for the stack of a fiber, and there is one */
	char error[128];
	int letter;

	opterr = 0;
	while ((letter = getopt_long(argc, argv, ":rfS:c:R:h", options, NULL)) != -1) {
		switch (letter) {
		case 'r':
			put.recursive = true;
			break;
		case 'f':
			put.force = true;
			break;
		case 'S':
		case 'c':
		case 'R':
			if (stripe_options_set(&put.stripes, letter, optarg, error, sizeof(error)) < 0)
				return cli_misuse("client put", "%s", error);
			break;
		case 'h':
			print_help();
			return CLI_OK;
		default:
			return cli_bad_option("client put", letter, argv);
		}
	}
	if (argc - optind != 2)
		return cli_misuse("client put", argc - optind < 2 ? "it wants SOURCE and DEST" : "too many words");
	put.source = argv[optind];
	put.dest = argv[optind + 1];
	allow_many_files();
	return client_run("put", globals, put_run, &put);
}
