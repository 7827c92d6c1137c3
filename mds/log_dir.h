/*
 * The files of a log: DIR/log/<first index, 16 hex>.seg, and next.seg.
 *
 *     next.seg   made:  all zeros, preallocated, synced; waits for its turn, also over a restart
 *                begun: has a header and records, none of which is called durable yet; nor is the end of the one before
 *     X.seg      named: its header is durable, so is its name, and before that all of the segment before
 *
 * Errors are -errno; where there is an error buffer, it gets a sentence that names the file.
 */
#ifndef STRAKE_MDS_LOG_DIR_H
#define STRAKE_MDS_LOG_DIR_H

#include "mds/log_segment.h"

#include <limits.h>

struct log_dir {
	int fd;         /* -1: there is none */
	uint64_t begun; /* next.seg has begun and will be <begun>.seg; 0: it has not */
	bool read_only; /* nothing is synced or named */
	char path[PATH_MAX];
};

/* Open or make dir/log. */
int log_dir_open(const char *dir, struct log_dir *ret_log_dir, char *error, size_t error_size);
/* The same to read only, changing nothing. Where there is none, it is empty. */
int log_dir_open_to_read(const char *dir, struct log_dir *ret_log_dir, char *error, size_t error_size);
void log_dir_close(struct log_dir *dir);

#define LOG_NAME_SIZE 24
const char *log_name(uint64_t first, char out[LOG_NAME_SIZE]); /* returns out */

/*
 * The segments' first indices, ascending, begun included; free() them. -EINVAL: there is a file that does not belong here.
 */
int log_dir_list(struct log_dir *dir, uint64_t **ret_firsts, size_t *ret_count, char *error, size_t error_size);

int log_dir_open_segment(const struct log_dir *dir, uint64_t first, int *ret_fd);

/* Make next.seg (or make it anew) and sync it; takes its time. */
int log_dir_make_next(struct log_dir *dir, size_t size, int *ret_fd);
/* Call next.seg <first>.seg. One of that name, which has no record, is replaced. */
int log_dir_name_next(struct log_dir *dir, uint64_t first);
int log_dir_remove(struct log_dir *dir, uint64_t first);

#endif
