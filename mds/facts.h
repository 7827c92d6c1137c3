/*
 * All that the state has under each inode number, in ascending order of the numbers: the tables inode, orphan, cut,
 * destroy and xattr, walked side by side. For the rules of fsck (common/fsck_rules.h), offline and online.
 *
 *     facts_begin(state, from, &walk);
 *     while (facts_next(&walk, inode) == 0) ...
 *     facts_end(&walk);
 *
 *   - What volatile tables know (who writes a file) is not in it: size_unsure tells of lost writers only.
 *   - Nothing may change the state meanwhile.
 */
#ifndef STRAKE_MDS_FACTS_H
#define STRAKE_MDS_FACTS_H

#include "common/fsck_rules.h"
#include "mds/state.h"

/* Table dirent is not among them: it is ordered by directories. */
enum facts_table { FACTS_INODE, FACTS_ORPHAN, FACTS_CUT, FACTS_DESTROY, FACTS_XATTR, FACTS_TABLES };

struct facts_walk {
	struct state *state;
	struct view_cursor cursors[FACTS_TABLES];
	bool open[FACTS_TABLES]; /* the cursor stands on a row */
};

/* From that number on. */
void facts_begin(struct state *state, uint64_t from, struct facts_walk *ret_walk);
/* -ENOENT: there are no more. */
int facts_next(struct facts_walk *walk, struct fsck_inode *ret_inode);
void facts_end(struct facts_walk *walk);

/*
 * The entries in a directory, at most `max` of them: -E2BIG where there are more. One that does not exist may have some,
 * too.
 */
int facts_count_entries(struct state *state, uint64_t ino, uint64_t max, struct fsck_entries *ret_entries);

#endif
