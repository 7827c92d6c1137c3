/*
 * Directory entries: rows of table dirent.
 *
 *     key: parent ino, hash of the name (both big-endian), name     value: ino, type
 *
 *   - The hash is SipHash-2-4 with the filesystem's own key, cut to 62 bits; nobody can choose names that share one. It is
 *     the entry's cookie in readdir: it stays while others come and go. 0 to 2 are never a cookie: 0 is the start, and
 *     the client needs two for "." and "..".
 *   - Names are 1 to 255 bytes without '/' and NUL, and neither "." nor "..".
 */
#ifndef STRAKE_MDS_DIRENT_H
#define STRAKE_MDS_DIRENT_H

#include "mds/state.h"

#include <sys/stat.h>

#define NAME_LEN_MAX      255
#define DIRENT_COOKIE_MIN 3

struct dirent_row {
	uint64_t ino;
	uint32_t type; /* S_IFMT bits */
	uint64_t cookie;
	struct bytes name; /* borrowed from the view; set by the walk only */
};

uint64_t dirent_cookie(const struct state *state, struct bytes name);

/* -ENOENT. */
int dirent_get(struct state *state, uint64_t parent, struct bytes name, struct dirent_row *ret_row);
/* Makes or replaces. */
void dirent_put(struct state *state, uint64_t parent, struct bytes name, uint64_t ino, uint32_t mode);
void dirent_del(struct state *state, uint64_t parent, struct bytes name);

/*
 * Walk a directory in the order of cookies, from the first entry after `cookie`. Ends with -ENOENT; dirent_walk_end() in
 * any case. Nothing may change the view meanwhile.
 */
struct dirent_walk {
	uint64_t parent;
	struct view_cursor cursor;
	bool begun;
};
int dirent_walk_begin(struct state *state, uint64_t parent, uint64_t cookie, struct dirent_walk *ret_walk,
		      struct dirent_row *ret_row);
int dirent_walk_next(struct dirent_walk *walk, struct dirent_row *ret_row);
void dirent_walk_end(struct dirent_walk *walk);

#endif
