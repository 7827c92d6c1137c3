/*
 * Files that READDIRs brought with their attributes before anybody asked for them by name: stat_ahead.h. Only files: over
 * directories and symlinks an open goes to others, and does not ask whether they still lead there.
 *
 * Told are those that nothing is known to have happened to since their page was asked for. `mark` is a number that grows
 * with whatever is learned; a page has the one of before it was asked, and what is learned of a name, an inode, a directory
 * or all of them after that holds for what the page says of these, also while it is still on its way.
 *
 *     stat_store_asked() x 8 -> a fetch: stat_store_mark(), READDIR, stat_store_put(), ... -> stat_store_end()
 *
 * Whoever asked for a directory and used little of it pauses: 2 s, and twice as long each time that comes again.
 *
 *   - Memory: STAT_STORE_BYTES in pages, where no other bound is given; and STAT_MARKS * 8 bytes. It is all given back at the
 *     ends of the fetches.
 *   - Times are clock_ns(). Thread-safe; its lock is the last in the order of locks.
 */
#ifndef STRAKE_CLIENT_STAT_STORE_H
#define STRAKE_CLIENT_STAT_STORE_H

#include "client/fs.h"

#define STAT_STORE_BYTES   ((size_t)16 << 20) /* and a tenth of that, to find things in them */
#define STAT_MARKS         32768
#define STAT_LOOKUPS       8    /* within a second, that asked the MDT and found a file, begin a fetch */
#define STAT_LOOKUPS_AGAIN 2    /* ... after one that was worth it, for as long */
#define STAT_WORTH         4    /* of so many entries one is used: less is not worth it */
#define STAT_FREE_ENTRIES  2048 /* are fetched for nothing more than that; and then */
#define STAT_PACE          32   /* for each lookup there, while */
#define STAT_HITS          16 /* of so many of these one at least is answered: else it is too large for what is asked there */
#define STAT_PAUSE_S       2
#define STAT_PAUSE_MAX_S   64
#define STAT_FETCHES       64 /* at a time */

struct stat_store; /* opaque: stat_store.c */

/* key: drawn by somebody, so that none can make names that collide. NULL: no memory. */
struct stat_store *stat_store_new(size_t bytes_max, const struct uuid *key);
struct stat_store *stat_store_free(struct stat_store *store);

/* --- what a READDIR brought ------------------------------------------------------------------------------------- */

struct stat_page; /* opaque: stat_store.c */

/* With room for that many entries and the bytes of their names. mark: of before it was asked for. NULL: no memory. */
struct stat_page *stat_page_new(size_t entries, size_t name_bytes, uint64_t mark, uint64_t asked_ns);
void stat_page_add(struct stat_page *page, struct stat_store *store, const char *name, size_t len,
		   const struct attr *attr);

/* --- a fetch ------------------------------------------------------------------------------------------------------ */

/*
 * Somebody asked the MDT for that name, and it was a file there, or was not. True: fetch the directory, whoever is told so;
 * he ends it with stat_store_end().
 */
bool stat_store_asked(struct stat_store *store, uint64_t dir, const char *name, size_t len, bool is_file,
		      uint64_t now_ns);
uint64_t stat_store_mark(struct stat_store *store);
/* Takes the page, or frees it: there is no room for it. */
bool stat_store_put(struct stat_store *store, uint64_t dir, struct stat_page *page);
/* Is there use for another page, as lookups come? */
bool stat_store_goes_on(struct stat_store *store, uint64_t dir);
void stat_store_end(struct stat_store *store, uint64_t dir, uint64_t now_ns);

/* --- what is told ------------------------------------------------------------------------------------------------- */

struct stat_found {
	struct attr attr;
	uint64_t asked_ns;
	uint64_t dir, hash, mark; /* stat_store_holds()'s */
};
/* What the directory has under the name, if that was asked for after since_ns. */
bool stat_store_find(struct stat_store *store, uint64_t dir, const char *name, size_t len, uint64_t since_ns,
		     struct stat_found *ret_found);
/* Nothing has been learned since. */
bool stat_store_holds(struct stat_store *store, const struct stat_found *found);

/* --- what is learned ------------------------------------------------------------------------------------------------ */

/* It may lead elsewhere now. */
void stat_store_name_changed(struct stat_store *store, uint64_t dir, const char *name, size_t len);
/* Newer attributes are, or were, known. store NULL is fine. */
void stat_store_ino_changed(struct stat_store *store, uint64_t ino);
void stat_store_dir_changed(struct stat_store *store, uint64_t dir);
void stat_store_void(struct stat_store *store); /* all of it. NULL is fine */

#endif
