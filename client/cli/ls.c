/* strake client ls [PATH]: a directory by name, or the one thing that is there. */
#include "client/cli/client.h"
#include "client/cli/file_type.h"
#include "common/json.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RULE "--------------------------------------------------"

static void print_help(void)
{
	puts("Usage: strake client ls [--json] [PATH]\n"
	     "\n"
	     "Lists a directory (/ where no PATH is given), or shows the one file. A symbolic link is followed when a "
	     "slash "
	     "is\n"
	     "behind it. Files end with [OSTs x bytes per chunk].");
}

struct row {
	char *name;
	uint64_t ino, size, stripe_size;
	uint32_t ost_count, nlink;
	mode_t mode;
	uid_t uid;
	gid_t gid;
	int64_t mtime_ns;
	bool known; /* all of it, not only type and ino */
};

struct rows {
	struct client *client;
	struct row *rows;
	size_t count, room;
	uint64_t referenced; /* an inode that we were given a reference of, or 0 */
	int err;
};

static void row_fill(struct row *row, const struct attr *attr)
{
	row->ino = attr->ino;
	row->size = attr->size;
	row->mode = attr->mode;
	row->nlink = attr->nlink;
	row->uid = attr->uid;
	row->gid = attr->gid;
	row->mtime_ns = attr->mtime_ns;
	if (S_ISREG(attr->mode)) {
		row->stripe_size = attr->layout->stripe_size;
		row->ost_count = attr->layout->ost_count;
	}
	row->known = true;
}

static struct row *rows_add(struct rows *rows, const char *name, size_t len)
{
	struct row *row;

	if (rows->count == rows->room) {
		size_t room = rows->room == 0 ? 64 : 2 * rows->room;

		row = reallocarray(rows->rows, room, sizeof(*row));
		if (!row)
			return NULL;
		rows->rows = row;
		rows->room = room;
	}
	row = &rows->rows[rows->count];
	*row = (struct row){ .name = strndup(name, len) };
	if (!row->name)
		return NULL;
	rows->count++;
	return row;
}

static void rows_free(struct rows *rows)
{
	for (size_t i = 0; i < rows->count; i++)
		free(rows->rows[i].name);
	free(rows->rows);
}

/* The reference that came with the entry taken before. */
static void rows_forget(struct rows *rows)
{
	if (rows->referenced)
		fs_forget(rows->client->fs, rows->referenced, 1);
	rows->referenced = 0;
}

static bool take_entry(void *arg, const struct dir_entry *entry)
{
	struct rows *rows = arg;
	struct row *row;

	rows_forget(rows);
	if (path_base_is_special(entry->name, entry->name_len))
		return true;
	row = rows_add(rows, entry->name, entry->name_len);
	if (!row) {
		rows->err = -ENOMEM;
		return false;
	}
	row->ino = entry->ino;
	row->mode = entry->type;
	if (entry->attr) {
		row_fill(row, entry->attr);
		rows->referenced = entry->ino;
	}
	return true;
}

static int compare(const void *a, const void *b)
{
	return strcmp(((const struct row *)a)->name, ((const struct row *)b)->name);
}

/* Those that are just being written came without attributes. */
static int complete(struct rows *rows)
{
	struct client *client = rows->client;
	struct attr attr;

	for (size_t i = 0; i < rows->count; i++) {
		struct row *row = &rows->rows[i];
		int err = row->known ? 0 : fs_getattr(client->fs, &client->ctx, row->ino, false, &attr);

		if (err == -EINTR)
			return err;
		if (!row->known && err == 0)
			row_fill(row, &attr); /* otherwise it has gone meanwhile, and shows what is known */
	}
	return 0;
}

static int rows_read(struct rows *rows, const struct place *place, const char *path)
{
	struct client *client = rows->client;
	struct row *row;
	size_t len;
	const char *base = path_base(path, &len);
	int err;

	if (!S_ISDIR(place->attr.mode)) {
		row = rows_add(rows, base, len);
		if (row)
			row_fill(row, &place->attr);
		return row ? 0 : -ENOMEM;
	}
	err = fs_readdir(client->fs, &client->ctx, place->attr.ino, 0, true, take_entry, rows);
	rows_forget(rows);
	if (err == 0)
		err = rows->err;
	if (err == 0)
		err = complete(rows);
	if (err == 0 && rows->count > 0)
		qsort(rows->rows, rows->count, sizeof(*rows->rows), compare);
	return err;
}

/* --- what is said ------------------------------------------------------------------------------------------------ */

/* A name must not command a terminal. */
static void print_name(const char *name)
{
	bool plain = !isatty(STDOUT_FILENO);

	for (; *name != '\0'; name++)
		putchar(plain || ((unsigned char)*name >= ' ' && *name != 0x7f) ? *name : '?');
}

static void print_rows(const struct rows *rows)
{
	if (rows->count == 0) {
		puts("(empty directory)");
		return;
	}
	printf("%-8s %-6s %12s %s\n" RULE "\n", "INO", "TYPE", "SIZE", "NAME");
	for (size_t i = 0; i < rows->count; i++) {
		const struct row *row = &rows->rows[i];

		printf("%-8" PRIu64 " %-6s %12" PRIu64 " ", row->ino, file_type_short(row->mode), row->size);
		print_name(row->name);
		if (row->ost_count > 0)
			printf(" [%ux%" PRIu64 "]", row->ost_count, row->stripe_size);
		putchar('\n');
	}
}

static int print_json(const struct rows *rows)
{
	struct json json;

	json_begin(&json, stdout);
	json_array_begin(&json, NULL);
	for (size_t i = 0; i < rows->count; i++) {
		const struct row *row = &rows->rows[i];
		char mode[8];

		snprintf(mode, sizeof(mode), "%04o", row->mode & 07777);
		json_object_begin(&json, NULL);
		json_string(&json, "name", row->name);
		json_unsigned(&json, "ino", row->ino);
		json_string(&json, "type", file_type_short(row->mode));
		json_unsigned(&json, "size", row->size);
		json_string(&json, "mode", mode);
		json_unsigned(&json, "nlink", row->nlink);
		json_unsigned(&json, "uid", row->uid);
		json_unsigned(&json, "gid", row->gid);
		json_signed(&json, "mtime_ns", row->mtime_ns);
		if (row->ost_count > 0) {
			json_unsigned(&json, "ost_count", row->ost_count);
			json_unsigned(&json, "stripe_size", row->stripe_size);
		}
		json_object_end(&json);
	}
	json_array_end(&json);
	return json_end(&json);
}

/* --- the verb ---------------------------------------------------------------------------------------------------- */

struct words {
	const char *path;
	bool json;
};

static int ls_run(struct client *client, void *arg)
{
	const struct words *words = arg;
	struct rows rows = { .client = client };
	struct place place;
	int status = CLI_OK, err = client_find(client, words->path, false, &place);

	if (err == 0 && !place.exists)
		err = -ENOENT;
	if (err == 0)
		err = rows_read(&rows, &place, words->path);
	if (err)
		status = client_fail_path(client, words->path, err);
	else if (words->json && print_json(&rows) < 0)
		status = client_fail(client, "the output cannot be written");
	else if (!words->json)
		print_rows(&rows);
	rows_free(&rows);
	return status;
}

int client_ls(int argc, char **argv, const struct cli_globals *globals)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct words words = { .path = "/" };
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
			return cli_bad_option("client ls", letter, argv);
		}
	}
	if (argc - optind > 1)
		return cli_misuse("client ls", "\"%s\" is one word too many", argv[optind + 1]);
	if (optind < argc)
		words.path = argv[optind];
	return client_run("ls", globals, ls_run, &words);
}
