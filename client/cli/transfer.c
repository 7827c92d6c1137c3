#include "client/cli/transfer.h"

#include "common/status.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct transfer_entry *transfer_entry_new(const char *name, size_t len)
{
	struct transfer_entry *entry = calloc(1, sizeof(*entry) + len + 1);

	if (!entry)
		return NULL;
	memcpy(entry->name, name, len);
	entry->to = entry->name;
	entry->type = DT_UNKNOWN;
	return entry;
}

void transfer_add(struct transfer_dir *dir, struct transfer_entry *entry)
{
	entry->next = NULL;
	if (dir->last)
		dir->last->next = entry;
	else
		dir->first = entry;
	dir->last = entry;
	dir->refs++;
}

void transfer_moved(struct transfer_entry *entry)
{
	entry->moved_ns = clock_ns();
}

/* --- directories ------------------------------------------------------------------------------------------------- */

struct transfer_dir *transfer_push(struct transfer *transfer, struct transfer_dir *parent,
				   const struct transfer_entry *entry)
{
	struct transfer_dir *dir = calloc(1, sizeof(*dir));

	if (!dir)
		return NULL;
	dir->name = strdup(entry->to);
	if (!dir->name) {
		free(dir);
		return NULL;
	}
	dir->fd = -1;
	dir->parent = parent;
	dir->refs = 1;
	parent->refs++;
	dir->below = transfer->top;
	transfer->top = dir;
	fiber_wake_all(&transfer->idle);
	return dir;
}

/* One thing of a directory is done; with the last one the directory itself, and so upwards. May wait. */
static void dir_put(struct transfer *transfer, struct transfer_dir *dir)
{
	while (dir && --dir->refs == 0) {
		struct transfer_dir *parent = dir->parent;

		if (!parent)
			return; /* the holder is transfer_run()'s caller's */
		transfer->ops->finish(transfer, dir, !dir->failed && !transfer->stopped);
		if (dir->failed)
			parent->failed = true;
		free(dir->name);
		free(dir);
		dir = parent;
	}
}

static void stack_remove(struct transfer *transfer, struct transfer_dir *dir)
{
	struct transfer_dir **at = &transfer->top;

	while (*at != dir)
		at = &(*at)->below;
	*at = dir->below;
}

/* All entries that nobody has taken are given up. */
static void dir_drop(struct transfer *transfer, struct transfer_dir *dir)
{
	stack_remove(transfer, dir);
	dir->failed = true;
	while (dir->first) {
		struct transfer_entry *entry = dir->first;

		dir->first = entry->next;
		free(entry);
		dir->refs--;
	}
	dir->last = NULL;
	dir_put(transfer, dir);
}

/* --- the fibers' work -------------------------------------------------------------------------------------------- */

static void list_more(struct transfer *transfer, struct transfer_dir *dir)
{
	int err;

	dir->listing = true;
	transfer->busy++;
	err = transfer->ops->list(transfer, dir);
	transfer->busy--;
	dir->listing = false;
	if (err) {
		dir->listed = true;
		transfer_fail(transfer, dir, NULL, TRANSFER_SOURCE, err);
	}
	fiber_wake_all(&transfer->idle);
}

/* The next entry, or NULL: there is none now. Lists directories for it. */
static struct transfer_entry *take_now(struct transfer *transfer, struct transfer_dir **ret_dir)
{
	struct transfer_dir *dir = transfer->top;

	while (dir && !transfer->stopped) {
		struct transfer_entry *entry = dir->first;

		if (entry) {
			dir->first = entry->next;
			if (!dir->first)
				dir->last = NULL;
			*ret_dir = dir;
			return entry;
		}
		if (dir->listing) {
			dir = dir->below;
		} else if (dir->listed) {
			stack_remove(transfer, dir);
			dir_put(transfer, dir);
			dir = transfer->top;
		} else {
			list_more(transfer, dir);
			dir = transfer->top;
		}
	}
	return NULL;
}

/* The next entry, or NULL: there will be none. */
static struct transfer_entry *take(struct transfer *transfer, struct transfer_dir **ret_dir)
{
	for (;;) {
		struct transfer_entry *entry = take_now(transfer, ret_dir);

		if (entry || transfer->stopped || transfer->busy == 0)
			return entry;
		fiber_wait(&transfer->idle, NULL);
	}
}

static void transfer_fiber(void *arg)
{
	struct transfer *transfer = arg;
	struct transfer_dir *dir;
	struct transfer_entry *entry;

	while ((entry = take(transfer, &dir)) != NULL) {
		transfer->busy++;
		entry->moved_ns = clock_ns();
		transfer->ops->copy(transfer, dir, entry);
		transfer->busy--;
		free(entry);
		dir_put(transfer, dir);
		if (transfer->busy == 0)
			fiber_wake_all(&transfer->idle);
	}
	transfer->fibers--;
	fiber_wake_all(&transfer->idle);
}

int transfer_run(struct transfer *transfer, struct transfer_dir *holder, struct transfer_entry *root, bool recursive)
{
	unsigned int count = recursive ? TRANSFER_FIBERS : 1;

	transfer->began_ns = clock_ns();
	*holder = (struct transfer_dir){ .refs = 1, .listed = true, .fd = holder->fd, .ino = holder->ino };
	transfer_add(holder, root);
	transfer->top = holder;
	while (transfer->fibers < count && fiber_start(transfer->client->loop, transfer_fiber, transfer) == 0)
		transfer->fibers++;
	if (transfer->fibers == 0) {
		free(root);
		return -ENOMEM;
	}
	progress_start(&transfer->progress, transfer->client->loop, &transfer->counts);
	while (transfer->fibers > 0)
		fiber_wait(&transfer->idle, NULL);
	while (transfer->top)
		dir_drop(transfer, transfer->top);
	progress_stop(&transfer->progress);
	return 0;
}

/* --- failures ---------------------------------------------------------------------------------------------------- */

/* The path as the user knows it; what is too long for a message loses its beginning. */
static const char *path_format(const struct transfer *transfer, const struct transfer_dir *dir,
			       const struct transfer_entry *entry, enum transfer_side side, char *out, size_t size)
{
	const char *root = side == TRANSFER_SOURCE ? transfer->from : transfer->to, *name;
	size_t at = size - 1, len;

	out[at] = '\0';
	name = entry && dir->parent ? entry->name : NULL;
	while (dir->parent || name) {
		if (!name) {
			/* The root directory goes by what the user called it. */
			if (!dir->parent->parent)
				break;
			name = dir->name;
			dir = dir->parent;
		}
		len = strlen(name);
		if (len + 1 > at)
			return out + at;
		at -= len;
		memcpy(out + at, name, len);
		out[--at] = '/';
		name = NULL;
	}
	len = strlen(root);
	while (len > 1 && root[len - 1] == '/')
		len--;
	if (len == 1 && root[0] == '/' && out[at] == '/')
		len = 0;
	if (len > at)
		return out + at;
	at -= len;
	memcpy(out + at, root, len);
	return out + at;
}

/* Words for it; the sides may be local or not. */
static const char *words_of(int err, bool final)
{
	if (err != -EIO)
		return client_error(err);
	return final ? "the servers do not answer" : strerror(EIO);
}

/* All others would meet it as well. */
static bool is_final(const struct transfer_entry *entry, int err)
{
	switch (err) {
	case -ENOSPC:
	case -EDQUOT:
	case -EROFS:
	case -ENOMEM:
	case -EINTR:
	case -ECANCELED:
	case -EKEYREJECTED:
	case -ENOSESSION:
		return true;
	case -EIO:
		/* An object's, or that of a server which did not answer for so long? */
		return entry && clock_ns() - entry->moved_ns >= CLIENT_SOFT_MS / 2 * NSEC_PER_MSEC;
	default:
		return false;
	}
}

void transfer_complain(struct transfer *transfer, struct transfer_dir *dir, struct transfer_entry *entry,
		       enum transfer_side side, const char *sentence)
{
	char path[2 * PATH_MAX];

	dir->failed = true;
	transfer->failures++;
	progress_clear(&transfer->progress);
	client_fail(transfer->client, "%s: %s", path_format(transfer, dir, entry, side, path, sizeof(path)), sentence);
}

void transfer_fail(struct transfer *transfer, struct transfer_dir *dir, struct transfer_entry *entry,
		   enum transfer_side side, int err)
{
	bool final = is_final(entry, err);
	char path[2 * PATH_MAX];

	if (entry && entry->incomplete && final) {
		transfer->incomplete++;
		progress_clear(&transfer->progress);
		client_fail(transfer->client, "%s is incomplete",
			    path_format(transfer, dir, entry, TRANSFER_DEST, path, sizeof(path)));
	}
	if (transfer->stopped == err || (err == -EINTR && client_is_interrupted(transfer->client))) {
		dir->failed = true;
		transfer->failures++;
	} else {
		transfer_complain(transfer, dir, entry, side, words_of(err, final));
	}
	if (final && !transfer->stopped) {
		transfer->stopped = err;
		fiber_wake_all(&transfer->idle);
	}
}

void transfer_warn(struct transfer *transfer, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	progress_clear(&transfer->progress);
	client_fail(transfer->client, "%s", text);
}

int transfer_result(struct transfer *transfer, const char *doing)
{
	if (transfer->stopped == -EINTR)
		return client_fail(transfer->client,
				   "interrupted: %" PRIu64 " files and %" PRIu64 " directories were %s before",
				   transfer->counts.files, transfer->counts.directories, doing);
	if (transfer->stopped)
		return client_fail(
			transfer->client, "given up (%s): %" PRIu64 " files and %" PRIu64 " directories were %s before",
			words_of(transfer->stopped, true), transfer->counts.files, transfer->counts.directories, doing);
	if (transfer->failures > 1)
		return client_fail(transfer->client, "%" PRIu64 " could not be %s", transfer->failures, doing);
	return transfer->failures > 0 ? CLI_FAILED : CLI_OK;
}

const char *transfer_summary(const struct transfer *transfer, char out[TRANSFER_SUMMARY_SIZE])
{
	char rate[PROGRESS_LINE_SIZE], others[48] = "";

	if (transfer->others > 0)
		snprintf(others, sizeof(others), ", %" PRIu64 " others", transfer->others);
	snprintf(out, TRANSFER_SUMMARY_SIZE, "%" PRIu64 " files, %" PRIu64 " directories%s %s", transfer->counts.files,
		 transfer->counts.directories, others,
		 progress_format_rate(&transfer->counts, clock_ns() - transfer->began_ns, rate));
	return out;
}
