#include "mds/log_replay.h"

#include "common/fd_io.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define RESTORE "restore it from a backup"

/* The segment at hand. */
struct segment {
	struct log_replay *replay;
	char name[LOG_NAME_SIZE];
	int fd;
	struct log_header header;
	uint8_t *data;
	char *error;
	size_t error_size;
};

static int __attribute__((format(printf, 3, 4))) refuse(struct segment *segment, int err, const char *format, ...)
{
	int length =
		snprintf(segment->error, segment->error_size, "%s/%s: ", segment->replay->dir->path, segment->name);
	va_list arguments;

	if (length >= 0 && (size_t)length < segment->error_size) {
		va_start(arguments, format);
		vsnprintf(segment->error + length, segment->error_size - (size_t)length, format, arguments);
		va_end(arguments);
	}
	return err;
}

static int header_check(struct segment *segment, uint64_t first)
{
	uint8_t data[LOG_HEADER_SIZE];
	struct stat stat;
	int err;

	if (fstat(segment->fd, &stat) < 0)
		return refuse(segment, -errno, "cannot be read: %s", strerror(errno));
	err = fd_pread_all(segment->fd, data, sizeof(data), 0);
	if (err == -ENODATA)
		return refuse(segment, -EBADMSG, "is %lld bytes long and was cut short; " RESTORE,
			      (long long)stat.st_size);
	if (err < 0)
		return refuse(segment, err, "cannot be read: %s", strerror(-err));
	err = log_header_decode(data, &segment->header);
	if (err == -EPROTONOSUPPORT)
		return refuse(segment, err, "is of a newer format; run a newer strake-mds");
	if (err < 0)
		return refuse(segment, -EBADMSG, "its header (offset 0) is damaged or no log segment's; " RESTORE);
	if (!uuid_equal(&segment->header.target, &segment->replay->target)) {
		char theirs[UUID_STRING_SIZE], ours[UUID_STRING_SIZE];

		return refuse(segment, -EINVAL, "belongs to target %s and this is %s; restore the right folder",
			      uuid_format(&segment->header.target, theirs),
			      uuid_format(&segment->replay->target, ours));
	}
	if (segment->header.first != first)
		return refuse(segment, -EBADMSG,
			      "begins at record %" PRIu64 ", which is not what its name says; " RESTORE,
			      segment->header.first);
	if ((uint64_t)stat.st_size != segment->header.size)
		return refuse(segment, -EBADMSG,
			      "is %lld bytes long and must be %" PRIu64 ": it was cut short; " RESTORE,
			      (long long)stat.st_size, segment->header.size);
	return 0;
}

/* Everything in it: its header is good. The offset of an unreadable place is all the kernel tells. */
static int contents_read(struct segment *segment)
{
	size_t size = (size_t)segment->header.size;
	int err;

	segment->data = malloc(size);
	if (!segment->data)
		return refuse(segment, -ENOMEM, "out of memory");
	err = fd_pread_all(segment->fd, segment->data, size, 0);
	if (err < 0)
		return refuse(segment, err, "cannot be read: %s", strerror(-err));
	if (!segment->replay->dir->read_only && fdatasync(segment->fd) < 0)
		return refuse(segment, -errno, "cannot be synced: %s", strerror(errno));
	return 0;
}

/* Hand out the records from where the log stands to the segment's end, or to `until`. */
static int records_walk(struct segment *segment, struct log_scan *scan, uint64_t until)
{
	struct log_replay *replay = segment->replay;
	struct log_record record;
	int err;

	while (scan->next <= until && log_scan_next(scan, &record) == 0) {
		if (record.index <= replay->applied)
			continue;
		err = replay->record(replay->owner, record.index, record.payload.data, record.payload.size);
		if (err < 0)
			return refuse(segment, err, "record %" PRIu64 " cannot be applied: %s", record.index,
				      strerror(-err));
	}
	return 0;
}

static int damaged(struct segment *segment, const struct log_scan *scan)
{
	return refuse(segment, -EBADMSG, "record %" PRIu64 " at offset %zu is damaged; " RESTORE, scan->next,
		      scan->offset);
}

/* Another follows, named, which begins at `next_first` and must begin where this one ends. */
static int middle_check(struct segment *segment, const struct log_scan *scan, uint64_t next_first, uint64_t next_number)
{
	if (next_number != segment->header.number + 1)
		return refuse(segment, -ENOENT,
			      "ends with record %" PRIu64 " and the next segment begins with %" PRIu64
			      ": segments are missing between them; restore them from a backup",
			      scan->next - 1, next_first);
	return damaged(segment, scan);
}

/* The last one: is what follows its last good record a torn tail? Good ones before it tell only of those before them. */
static int end_check(struct segment *segment, const struct log_scan *scan)
{
	struct log_replay *replay = segment->replay;
	struct log_tail tail = log_scan_tail(scan);
	uint64_t note = log_note_decode(segment->data + LOG_NOTE_OFFSET, segment->header.salt);
	const uint64_t known[] = { tail.synced, note, segment->header.synced, replay->applied };

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
		if (known[i] >= scan->next)
			return damaged(segment, scan);
	}
	replay->dropped = tail.size;
	replay->last = scan->next - 1;
	/* One without a record is replaced by the segment to come. */
	replay->number = segment->header.number + (scan->next > segment->header.first);
	return 0;
}

/*
 * The one that follows had begun, and this one's end may not have been synced before: then this is the last one, and what
 * was written to the other goes with its tail.
 */
static int begun_check(struct segment *segment, const struct log_scan *scan, struct segment *begun)
{
	struct log_scan other = { .offset = LOG_RECORDS };
	int err = contents_read(begun);

	if (err < 0)
		return err;
	other.data = begun->data;
	other.size = (size_t)begun->header.size;
	other.salt = begun->header.salt;
	other.next = begun->header.first;
	if (begun->header.synced >= scan->next || log_scan_tail(&other).synced >= scan->next)
		return damaged(segment, scan);
	segment->replay->dir->begun = 0;
	segment->replay->count--;
	return end_check(segment, scan);
}

static int segment_open(struct segment *segment, struct log_replay *replay, uint64_t first)
{
	int err;

	segment->replay = replay;
	log_name(first, segment->name);
	err = log_dir_open_segment(replay->dir, first, &segment->fd);
	if (err < 0)
		return refuse(segment, err, "cannot be opened: %s", strerror(-err));
	return header_check(segment, first);
}

static void segment_close(struct segment *segment)
{
	if (segment->fd >= 0)
		close(segment->fd);
	free(segment->data);
	segment->fd = -1;
	segment->data = NULL;
}

/* The segment, and the next one's header if there is one. */
static int segment_replay(struct segment *segment, struct segment *next, uint64_t next_first)
{
	struct log_scan scan = { .offset = LOG_RECORDS };
	int err = contents_read(segment);

	if (err < 0)
		return err;
	scan.data = segment->data;
	scan.size = (size_t)segment->header.size;
	scan.salt = segment->header.salt;
	scan.next = segment->header.first;
	if (!next) {
		err = records_walk(segment, &scan, UINT64_MAX);
		return err < 0 ? err : end_check(segment, &scan);
	}
	err = segment_open(next, segment->replay, next_first);
	if (err == 0)
		err = records_walk(segment, &scan, next_first - 1);
	if (err < 0 || scan.next == next_first)
		return err;
	return segment->replay->dir->begun == next_first
		       ? begun_check(segment, &scan, next)
		       : middle_check(segment, &scan, next_first, next->header.number);
}

static int replay_from(struct log_replay *replay, size_t start, char *error, size_t error_size)
{
	struct segment segments[2] = { { .fd = -1, .error = error, .error_size = error_size },
				       { .fd = -1, .error = error, .error_size = error_size } };
	struct segment *segment = &segments[0], *next = &segments[1], *other;
	int err = segment_open(segment, replay, replay->firsts[start]);

	for (size_t i = start; err == 0 && i < replay->count; i++) {
		bool is_last = i + 1 == replay->count;

		err = segment_replay(segment, is_last ? NULL : next, is_last ? 0 : replay->firsts[i + 1]);
		segment_close(segment);
		other = segment;
		segment = next;
		next = other;
	}
	segment_close(segment);
	segment_close(next);
	if (err < 0 || replay->dir->read_only)
		return err;
	if (replay->dir->begun)
		err = log_dir_name_next(replay->dir, replay->dir->begun);
	else if (fsync(replay->dir->fd) < 0)
		err = -errno;
	if (err < 0)
		snprintf(error, error_size, "%s: cannot be synced: %s", replay->dir->path, strerror(-err));
	return err;
}

/* The segment that has the first record above the checkpoint is where to start. */
static int start_find(const struct log_replay *replay, size_t *ret_start, char *error, size_t error_size)
{
	uint64_t from = replay->applied + 1;

	if (replay->count > 0 && replay->firsts[0] <= from) {
		*ret_start = replay->count - 1;
		while (replay->firsts[*ret_start] > from)
			(*ret_start)--;
		return 0;
	}
	if (replay->count == 0)
		snprintf(error, error_size,
			 "%s: is empty, but the state knows of records up to %" PRIu64 "; restore it from a backup",
			 replay->dir->path, replay->applied);
	else
		snprintf(error, error_size,
			 "%s: begins with record %" PRIu64 ", but the state has those up to %" PRIu64
			 " only: segments are missing; restore them from a backup",
			 replay->dir->path, replay->firsts[0], replay->applied);
	return -ENOENT;
}

int log_replay(struct log_replay *replay, char *error, size_t error_size)
{
	size_t start = 0;
	int err;

	replay->last = 0;
	replay->number = 1;
	replay->dropped = 0;
	err = log_dir_list(replay->dir, &replay->firsts, &replay->count, error, error_size);
	if (err < 0) {
		replay->firsts = NULL;
		return err;
	}
	if (replay->count == 0 && replay->applied == 0)
		return 0;
	err = start_find(replay, &start, error, error_size);
	if (err == 0)
		err = replay_from(replay, start, error, error_size);
	if (err < 0) {
		free(replay->firsts);
		replay->firsts = NULL;
	}
	return err;
}
