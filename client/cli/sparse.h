/* Where a local file has data and where holes. */
#ifndef STRAKE_CLIENT_CLI_SPARSE_H
#define STRAKE_CLIENT_CLI_SPARSE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

/* It takes up less than its size: asking for holes is worth it. */
bool sparse_is_likely(const struct stat *st);

/*
 * The next range of data at or after `from`, as far as the file goes today: [*ret_start, *ret_end). A filesystem that
 * knows no holes has data everywhere.
 *
 * -ENXIO  no data from there on
 * or an error of lseek(2)
 */
int sparse_next(int fd, uint64_t from, uint64_t *ret_start, uint64_t *ret_end);

#endif
