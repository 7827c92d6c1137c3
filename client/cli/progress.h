/* How far a transfer has come, as a line on a terminal that is written over and over, and in a last line. */
#ifndef STRAKE_CLIENT_CLI_PROGRESS_H
#define STRAKE_CLIENT_CLI_PROGRESS_H

#include "common/loop.h"

#include <stddef.h>

#define PROGRESS_LINE_SIZE 128

struct progress_counts {
	uint64_t files, directories, bytes;
	uint64_t bytes_total; /* 0: not known */
};

/* "1234 files  5.6 MiB  3.1 MiB/s  45%" without a newline; returns out. A single file is not counted. Pure. */
const char *progress_format(const struct progress_counts *counts, uint64_t bytes_per_s, char out[PROGRESS_LINE_SIZE]);

/* "in 3.2 s (385 files/s, 12.1 MB/s)"; returns out. Pure. */
const char *progress_format_rate(const struct progress_counts *counts, uint64_t elapsed_ns,
				 char out[PROGRESS_LINE_SIZE]);

struct progress {
	const struct progress_counts *counts; /* the transfer's */
	struct loop *loop;
	struct loop_timer timer;
	bool shown;           /* a line stands on the terminal */
	uint64_t seen_ns;     /* when the rate was last measured, */
	uint64_t seen_bytes;  /* what there was then, */
	uint64_t bytes_per_s; /* and the rate, smoothed */
};

/* Shows a line on stderr from now on, if that is a terminal. */
void progress_start(struct progress *progress, struct loop *loop, const struct progress_counts *counts);
/* Takes the line away, so that something else can be said; it comes back by itself. */
void progress_clear(struct progress *progress);
void progress_stop(struct progress *progress);

#endif
