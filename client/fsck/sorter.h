/*
 * Sorting more records than memory takes: runs are sorted in memory, put into a temporary file, and merged when read. So
 * that entries, which come by directory, can be looked at by the inode that they name.
 *
 *     sorter_new() -> sorter_add()... -> sorter_next()... -> sorter_free()
 *
 * The file has no name, lies in $TMPDIR or /var/tmp, and is made only when memory is full.
 */
#ifndef STRAKE_CLIENT_FSCK_SORTER_H
#define STRAKE_CLIENT_FSCK_SORTER_H

#include <stddef.h>
#include <stdint.h>

enum sorted_kind {
	SORTED_LINK,    /* an entry names ino */
	SORTED_ENTRIES, /* what is in directory ino */
};

struct sorted {
	uint64_t ino;
	uint64_t other;    /* of a link its directory; of a directory how many entries there are */
	uint32_t subdirs;  /* of a directory */
	uint8_t kind;      /* enum sorted_kind */
	uint8_t type;      /* of a link, as its entry says: (mode & S_IFMT) >> 12 */
	uint8_t misplaced; /* a link: stands under a wrong hash */
	uint8_t reserved;
};

struct sorter; /* opaque: sorter.c */

/* memory: bytes, of which at least one record is used. -ENOMEM. */
int sorter_new(size_t memory, struct sorter **ret_sorter);
struct sorter *sorter_free(struct sorter *sorter); /* NULL is fine */

/* -EFBIG: more runs than there may be; errors of the file. */
int sorter_add(struct sorter *sorter, const struct sorted *record);

/* One after the other, by ino, then kind. Ends adding. -ENOENT: there are no more; errors of the file; -ENOMEM. */
int sorter_next(struct sorter *sorter, struct sorted *ret_record);

#endif
