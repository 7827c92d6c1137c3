/*
 * The first look at everything: sorted streams of inodes, of links and of objects go side by side, and whatever does not fit
 * together is a suspect, to be looked at again. Pure: streams in, suspects out; memory for one number at a time.
 *
 * A suspect is no finding: the streams are of different moments.
 */
#ifndef STRAKE_CLIENT_FSCK_MERGE_H
#define STRAKE_CLIENT_FSCK_MERGE_H

#include "client/fsck/sorter.h"
#include "common/fsck_rules.h"

/* What an OST's index has, in order of ino, gen; of each the content first, then its objects by seq. */
struct fsck_row {
	bool is_object;
	struct fsck_content content; /* of the two the one that it is */
	struct fsck_object object;
};

/* Each gives the next one, -ENOENT after the last, or another error. */
struct fsck_streams {
	void *arg;
	int (*inode)(void *arg, const struct fsck_inode **ret_inode); /* good until the next call */
	int (*link)(void *arg, struct sorted *ret_link);
	int (*row)(void *arg, unsigned int source, struct fsck_row *ret_row); /* one stream per OST */
	unsigned int sources;
	bool (*ost_is_there)(void *arg, uint32_t ost);
	uint64_t fresh; /* numbers from here on were given out after the links were collected */
};

enum suspicion {
	SUSPECT_INODE = 1 << 0,   /* what the MDT has */
	SUSPECT_LINKS = 1 << 1,   /* the entries that name it */
	SUSPECT_ENTRIES = 1 << 2, /* the entries in it */
	SUSPECT_OBJECTS = 1 << 3, /* its objects */
};

struct fsck_sink {
	void *arg;
	/* At most once per number, ascending. exists: there was an inode. */
	int (*suspect)(void *arg, uint64_t ino, unsigned int suspicion, bool exists);
	/* An OST's stream has broken: it is left out from here on. */
	void (*broken)(void *arg, unsigned int source, int err);
};

struct fsck_totals {
	uint64_t inodes, orphans, objects;
	bool root; /* there is one */
};

/* Errors of the streams of inodes and links and of the sink; -ENOMEM. */
int fsck_merge(const struct fsck_streams *streams, const struct fsck_sink *sink, struct fsck_totals *ret_totals);

/* A directory entry's part in its inode's sum. */
void fsck_links_add(struct fsck_links *links, uint64_t parent, uint8_t type, bool misplaced);

#endif
