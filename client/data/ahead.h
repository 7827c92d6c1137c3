/*
 * Read-ahead of one open file: units of AHEAD_UNIT bytes, brought in whole before they are asked for, over all stripes
 * at once. Within the data path only.
 *
 *     LOADING -> READY -> (read to its end, or void) -> out of the window; memory goes when nobody reads from it
 *
 * A unit is void when the file's content has changed here since it was asked for (inode_data.version).
 */
#ifndef STRAKE_CLIENT_AHEAD_H
#define STRAKE_CLIENT_AHEAD_H

#include "client/fs.h"

#define AHEAD_UNIT      (512u * 1024)
#define AHEAD_UNITS_MAX 16

struct ahead;

/*
 * Serve a read (size > 0, within the file) from units, starting what should come next. -EAGAIN: not a sequential read,
 * or no memory for it: fetch it plainly.
 */
int ahead_read(struct file *file, struct fs_ctx *ctx, uint64_t offset, size_t size, struct read_result *ret_result);
void ahead_release(struct read_result *result);

#endif
