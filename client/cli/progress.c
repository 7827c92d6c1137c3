#include "client/cli/progress.h"

#include "common/container_of.h"
#include "common/units.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#define SHOW_MS 200

const char *progress_format(const struct progress_counts *counts, uint64_t bytes_per_s, char out[PROGRESS_LINE_SIZE])
{
	char files[40] = "", done[16], rate[16], percent[16] = "";

	if (counts->bytes_total == 0)
		snprintf(files, sizeof(files), "%" PRIu64 " files  ", counts->files);
	else
		snprintf(percent, sizeof(percent), "  %u%%",
			 (unsigned int)(counts->bytes >= counts->bytes_total
						? 100
						: (double)counts->bytes / (double)counts->bytes_total * 100));
	snprintf(out, PROGRESS_LINE_SIZE, "%s%s  %s/s%s", files, units_format_size(counts->bytes, done),
		 units_format_size(bytes_per_s, rate), percent);
	return out;
}

const char *progress_format_rate(const struct progress_counts *counts, uint64_t elapsed_ns,
				 char out[PROGRESS_LINE_SIZE])
{
	double seconds = (double)elapsed_ns / (double)NSEC_PER_SEC;
	double per_s = seconds > 0 ? 1 / seconds : 0;

	snprintf(out, PROGRESS_LINE_SIZE, "in %.1f s (%.0f files/s, %.1f MB/s)", seconds, (double)counts->files * per_s,
		 (double)counts->bytes / 1e6 * per_s);
	return out;
}

static void show(struct loop_timer *timer)
{
	struct progress *progress = container_of(timer, struct progress, timer);
	uint64_t now_ns = clock_ns(), bytes = progress->counts->bytes;
	double rate = (double)(bytes - progress->seen_bytes) /
		      ((double)(now_ns - progress->seen_ns + 1) / (double)NSEC_PER_SEC);
	char line[PROGRESS_LINE_SIZE];

	/* The last second or so counts. */
	progress->bytes_per_s = (uint64_t)(0.8 * (double)progress->bytes_per_s + 0.2 * rate);
	progress->seen_ns = now_ns;
	progress->seen_bytes = bytes;
	fprintf(stderr, "\r%s\033[K", progress_format(progress->counts, progress->bytes_per_s, line));
	fflush(stderr);
	progress->shown = true;
	loop_timer_set(progress->loop, timer, now_ns + SHOW_MS * NSEC_PER_MSEC);
}

void progress_start(struct progress *progress, struct loop *loop, const struct progress_counts *counts)
{
	*progress = (struct progress){ .counts = counts, .loop = loop, .timer.expired = show, .seen_ns = clock_ns() };
	if (isatty(STDERR_FILENO))
		loop_timer_set(loop, &progress->timer, progress->seen_ns + SHOW_MS * NSEC_PER_MSEC);
}

void progress_clear(struct progress *progress)
{
	if (!progress->shown)
		return;
	fputs("\r\033[K", stderr);
	fflush(stderr);
	progress->shown = false;
}

void progress_stop(struct progress *progress)
{
	loop_timer_cancel(&progress->timer);
	progress_clear(progress);
}
