/*
 * Is the state what it must be? The namespace is a tree, link counts are right, what is open lives, what is destroyed does
 * not. The rules are those of `strake fsck` (common/fsck_rules.h), of a state that stands still. For strake-mds --check and
 * tests; takes memory for every inode.
 */
#ifndef STRAKE_MDS_CHECK_H
#define STRAKE_MDS_CHECK_H

#include "mds/state.h"

/* Calls report for each fault, with a sentence. Returns how many there are, or -ENOMEM. */
int64_t state_check(struct state *state, void (*report)(void *arg, const char *text), void *arg);

#endif
