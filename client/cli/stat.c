/* strake client stat PATH: the attributes, and on which OSTs the bytes lie. */
#include "client/cli/client.h"
#include "client/cli/file_type.h"
#include "common/json.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#define CHUNKS_SHOWN 16

static void print_help(void)
{
	puts("Usage: strake client stat [--json] PATH\n"
	     "\n"
	     "The attributes of a file or directory, how it is striped, and where its first chunks lie. A symbolic "
	     "link is\n"
	     "followed when a slash is behind it.");
}

struct seen {
	const char *path;
	const struct attr *attr;
	uint64_t parent;
	char target[PATH_MAX]; /* of a symbolic link */
};

static const char *long_type(mode_t mode)
{
	if (S_ISDIR(mode))
		return "directory";
	return S_ISLNK(mode) ? "symlink" : file_type_short(mode);
}

static bool has_rdev(mode_t mode)
{
	return S_ISCHR(mode) || S_ISBLK(mode);
}

static uint64_t chunk_count(const struct attr *attr)
{
	return attr->layout->ost_count > 0 ? layout_chunk_count(attr->layout, attr->size) : 0;
}

/* The name of chunk seq's object: "<ino>.<gen>:<seq>". */
#define OBJECT_ID_SIZE 48
static const char *object_id(const struct attr *attr, uint64_t seq, char out[OBJECT_ID_SIZE])
{
	snprintf(out, OBJECT_ID_SIZE, "%016" PRIx64 ".%016" PRIx64 ":%08" PRIx64, attr->ino, attr->gen, seq);
	return out;
}

static unsigned int ost_of(const struct layout *layout, uint64_t seq)
{
	return layout->ost_indices[seq % layout->ost_count];
}

/* --- as text ----------------------------------------------------------------------------------------------------- */

/* Seconds since 1970 with their fraction, also before it. */
static void print_time(const char *label, int64_t ns)
{
	int64_t seconds = ns / INT64_C(1000000000), rest = ns % INT64_C(1000000000);

	if (rest < 0) {
		seconds--;
		rest += INT64_C(1000000000);
	}
	printf("  %-14s %" PRId64 ".%09" PRId64 "\n", label, seconds, rest);
}

static void print_layout(const struct attr *attr)
{
	const struct layout *layout = attr->layout;
	uint64_t chunks = chunk_count(attr);
	char id[OBJECT_ID_SIZE];

	printf("  Stripe Layout:\n"
	       "    ost_count:     %u\n"
	       "    stripe_size:   %" PRIu64 " bytes\n"
	       "    replica_count: 1\n"
	       "    total_chunks:  %" PRIu64 "\n",
	       layout->ost_count, layout->stripe_size, chunks);
	if (chunks == 0)
		return;
	printf("  Object mapping (deterministic):\n");
	for (uint64_t seq = 0; seq < chunks && seq < CHUNKS_SHOWN; seq++)
		printf("    [seq=%" PRIu64 "] object_id=%s -> OST-%u\n", seq, object_id(attr, seq, id),
		       ost_of(layout, seq));
	if (chunks > CHUNKS_SHOWN)
		printf("    ... (%" PRIu64 " more chunks)\n", chunks - CHUNKS_SHOWN);
}

static void print_default_layout(const struct layout *layout)
{
	printf("  Stripe Layout (of what is made in it):\n"
	       "    ost_count:     ");
	if (layout->stripe_count == 0)
		printf("all\n");
	else
		printf("%u\n", layout->stripe_count);
	printf("    stripe_size:   %" PRIu64 " bytes\n", layout->stripe_size);
}

static void print_text(const struct seen *seen)
{
	const struct attr *attr = seen->attr;

	cli_say("  %-14s %s", "Path:", seen->path);
	printf("  %-14s %" PRIu64 "\n", "Inode:", attr->ino);
	printf("  %-14s %s\n", "Type:", long_type(attr->mode));
	printf("  %-14s %" PRIu64 " bytes\n", "Size:", attr->size);
	printf("  %-14s %04o\n", "Mode:", attr->mode & 07777);
	printf("  %-14s %u\n", "Uid:", attr->uid);
	printf("  %-14s %u\n", "Gid:", attr->gid);
	print_time("Created:", attr->btime_ns);
	print_time("Accessed:", attr->atime_ns);
	print_time("Modified:", attr->mtime_ns);
	print_time("Changed:", attr->ctime_ns);
	printf("  %-14s %u\n", "Nlink:", attr->nlink);
	printf("  %-14s %" PRIu64 "\n", "ParentNO:", seen->parent);
	if (S_ISLNK(attr->mode))
		cli_say("  %-14s %s", "SymlinkTarget:", seen->target);
	if (has_rdev(attr->mode))
		printf("  %-14s %u:%u\n", "Device:", major(attr->rdev), minor(attr->rdev));
	if (S_ISREG(attr->mode))
		print_layout(attr);
	if (S_ISDIR(attr->mode))
		print_default_layout(attr->layout);
}

/* --- as JSON ----------------------------------------------------------------------------------------------------- */

static void json_layout(struct json *json, const struct attr *attr)
{
	const struct layout *layout = attr->layout;
	uint64_t chunks = chunk_count(attr);
	char id[OBJECT_ID_SIZE];

	json_object_begin(json, "layout");
	json_unsigned(json, "stripe_size", layout->stripe_size);
	json_unsigned(json, "stripe_count", layout->stripe_count);
	json_unsigned(json, "replica_count", 1);
	json_unsigned(json, "total_chunks", chunks);
	json_array_begin(json, "ost_indices");
	for (uint32_t i = 0; i < layout->ost_count; i++)
		json_unsigned(json, NULL, layout->ost_indices[i]);
	json_array_end(json);
	json_array_begin(json, "objects");
	for (uint64_t seq = 0; seq < chunks && seq < CHUNKS_SHOWN; seq++) {
		json_object_begin(json, NULL);
		json_unsigned(json, "seq", seq);
		json_string(json, "object_id", object_id(attr, seq, id));
		json_unsigned(json, "ost", ost_of(layout, seq));
		json_object_end(json);
	}
	json_array_end(json);
	json_object_end(json);
}

static int print_json(const struct seen *seen)
{
	const struct attr *attr = seen->attr;
	struct json json;
	char mode[8];

	snprintf(mode, sizeof(mode), "%04o", attr->mode & 07777);
	json_begin(&json, stdout);
	json_object_begin(&json, NULL);
	json_string(&json, "path", seen->path);
	json_unsigned(&json, "ino", attr->ino);
	json_unsigned(&json, "gen", attr->gen);
	json_string(&json, "type", long_type(attr->mode));
	json_unsigned(&json, "size", attr->size);
	json_unsigned(&json, "blocks", attr->blocks);
	json_string(&json, "mode", mode);
	json_unsigned(&json, "uid", attr->uid);
	json_unsigned(&json, "gid", attr->gid);
	json_unsigned(&json, "nlink", attr->nlink);
	json_signed(&json, "btime_ns", attr->btime_ns);
	json_signed(&json, "atime_ns", attr->atime_ns);
	json_signed(&json, "mtime_ns", attr->mtime_ns);
	json_signed(&json, "ctime_ns", attr->ctime_ns);
	json_unsigned(&json, "parent", seen->parent);
	if (S_ISLNK(attr->mode))
		json_string(&json, "target", seen->target);
	if (has_rdev(attr->mode)) {
		json_unsigned(&json, "rdev_major", major(attr->rdev));
		json_unsigned(&json, "rdev_minor", minor(attr->rdev));
	}
	if (S_ISREG(attr->mode) || S_ISDIR(attr->mode))
		json_layout(&json, attr);
	json_object_end(&json);
	return json_end(&json);
}

/* --- the verb ---------------------------------------------------------------------------------------------------- */

struct words {
	const char *path;
	bool json;
};

static int stat_run(struct client *client, void *arg)
{
	const struct words *words = arg;
	struct place place;
	struct seen seen = { .path = words->path, .attr = &place.attr };
	size_t len = 0;
	int err = client_find(client, words->path, false, &place);

	if (err == 0 && !place.exists)
		err = -ENOENT;
	if (err == 0 && S_ISLNK(place.attr.mode))
		err = fs_readlink(client->fs, &client->ctx, place.attr.ino, seen.target, sizeof(seen.target) - 1, &len);
	if (err)
		return client_fail_path(client, words->path, err);
	seen.parent = place.parent;
	seen.target[len] = '\0';
	if (!words->json) {
		print_text(&seen);
		return CLI_OK;
	}
	return print_json(&seen) < 0 ? client_fail(client, "the output cannot be written") : CLI_OK;
}

int client_stat(int argc, char **argv, const struct cli_globals *globals)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct words words = { 0 };
	int letter;

	opterr = 0;
	while ((letter = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		switch (letter) {
		case 'j':
			words.json = true;
			break;
		case 'h':
			print_help();
			return CLI_OK;
		default:
			return cli_bad_option("client stat", letter, argv);
		}
	}
	if (argc - optind != 1)
		return cli_misuse("client stat", "it wants one PATH");
	words.path = argv[optind];
	return client_run("stat", globals, stat_run, &words);
}
