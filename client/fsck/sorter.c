#include "client/fsck/sorter.h"

#include "common/fd_io.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RUNS_MAX 1024
#define READ_MAX 2048 /* records of a run that are read at once */

/* A sorted piece of the file, as it is read. */
struct run {
	uint64_t next, end; /* records of the file that are still to be read */
	struct sorted *records;
	size_t at, count;
};

struct sorter {
	struct sorted *records; /* what is being gathered; when reading without a file, all there is */
	size_t room, count, at;
	int fd;              /* -1: memory was enough so far */
	uint64_t file_count; /* records in the file */
	struct run *runs;
	size_t run_count;
	bool reading;
};

int sorter_new(size_t memory, struct sorter **ret_sorter)
{
	struct sorter *sorter = calloc(1, sizeof(*sorter));

	if (!sorter)
		return -ENOMEM;
	sorter->fd = -1;
	sorter->room = memory / sizeof(*sorter->records) + 1;
	sorter->records = calloc(sorter->room, sizeof(*sorter->records));
	if (!sorter->records) {
		free(sorter);
		return -ENOMEM;
	}
	*ret_sorter = sorter;
	return 0;
}

struct sorter *sorter_free(struct sorter *sorter)
{
	if (!sorter)
		return NULL;
	for (size_t i = 0; i < sorter->run_count; i++)
		free(sorter->runs[i].records);
	free(sorter->runs);
	free(sorter->records);
	if (sorter->fd >= 0)
		close(sorter->fd);
	free(sorter);
	return NULL;
}

static int compare(const struct sorted *a, const struct sorted *b)
{
	if (a->ino != b->ino)
		return a->ino < b->ino ? -1 : 1;
	return (int)a->kind - (int)b->kind;
}

static int compare_void(const void *a, const void *b)
{
	return compare(a, b);
}

/* --- the file ----------------------------------------------------------------------------------------------------- */

static int open_file(struct sorter *sorter)
{
	const char *dir = getenv("TMPDIR");
	char path[4096];

	if (!dir || dir[0] == '\0')
		dir = "/var/tmp";
	sorter->fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (sorter->fd >= 0)
		return 0;
	if (errno != EOPNOTSUPP && errno != EISDIR)
		return -errno;
	if ((size_t)snprintf(path, sizeof(path), "%s/strake-fsck.XXXXXX", dir) >= sizeof(path))
		return -ENAMETOOLONG;
	sorter->fd = mkostemp(path, O_CLOEXEC);
	if (sorter->fd < 0)
		return -errno;
	unlink(path);
	return 0;
}

/* What was gathered becomes a run. */
static int flush(struct sorter *sorter)
{
	struct run *runs;
	int err = sorter->fd < 0 ? open_file(sorter) : 0;

	if (err == 0 && sorter->run_count == RUNS_MAX)
		err = -EFBIG;
	if (err < 0)
		return err;
	runs = reallocarray(sorter->runs, sorter->run_count + 1, sizeof(*runs));
	if (!runs)
		return -ENOMEM;
	sorter->runs = runs;
	qsort(sorter->records, sorter->count, sizeof(*sorter->records), compare_void);
	err = fd_pwrite_all(sorter->fd, sorter->records, sorter->count * sizeof(*sorter->records),
			    sorter->file_count * sizeof(*sorter->records));
	if (err < 0)
		return err;
	runs[sorter->run_count++] =
		(struct run){ .next = sorter->file_count, .end = sorter->file_count + sorter->count };
	sorter->file_count += sorter->count;
	sorter->count = 0;
	return 0;
}

int sorter_add(struct sorter *sorter, const struct sorted *record)
{
	assert(!sorter->reading);
	if (sorter->count == sorter->room) {
		int err = flush(sorter);

		if (err < 0)
			return err;
	}
	sorter->records[sorter->count++] = *record;
	return 0;
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

/* There is a record at runs->at, or the run has ended (count 0). */
static int fill(struct sorter *sorter, struct run *run)
{
	uint64_t left = run->end - run->next;
	int err;

	if (run->at < run->count)
		return 0;
	run->at = 0;
	run->count = left < READ_MAX ? (size_t)left : READ_MAX;
	if (!run->records)
		run->records = calloc(READ_MAX, sizeof(*run->records));
	if (!run->records)
		return -ENOMEM;
	err = fd_pread_all(sorter->fd, run->records, run->count * sizeof(*run->records),
			   run->next * sizeof(*run->records));
	run->next += run->count;
	return err;
}

static int begin_reading(struct sorter *sorter)
{
	int err = 0;

	sorter->reading = true;
	if (sorter->fd < 0) {
		qsort(sorter->records, sorter->count, sizeof(*sorter->records), compare_void);
		return 0;
	}
	if (sorter->count > 0)
		err = flush(sorter);
	for (size_t i = 0; i < sorter->run_count && err == 0; i++)
		err = fill(sorter, &sorter->runs[i]);
	return err;
}

/* The run whose next record comes first; there are a few dozen at most. NULL: all have ended. */
static struct run *first_run(struct sorter *sorter)
{
	struct run *first = NULL;

	for (size_t i = 0; i < sorter->run_count; i++) {
		struct run *run = &sorter->runs[i];

		if (run->count > 0 && (!first || compare(&run->records[run->at], &first->records[first->at]) < 0))
			first = run;
	}
	return first;
}

int sorter_next(struct sorter *sorter, struct sorted *ret_record)
{
	struct run *run;
	int err = sorter->reading ? 0 : begin_reading(sorter);

	if (err < 0)
		return err;
	if (sorter->fd < 0) {
		if (sorter->at == sorter->count)
			return -ENOENT;
		*ret_record = sorter->records[sorter->at++];
		return 0;
	}
	run = first_run(sorter);
	if (!run)
		return -ENOENT;
	*ret_record = run->records[run->at++];
	return fill(sorter, run);
}
