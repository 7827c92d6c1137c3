/*
 * The MDT's durable state: the view (all tables) and, at hand, the one row of table meta that every record changes.
 * Only apply() changes it.
 */
#ifndef STRAKE_MDS_STATE_H
#define STRAKE_MDS_STATE_H

#include "mds/view.h"

#define HASH_KEY_SIZE 16

struct meta {
	int64_t time_ns;         /* of the last record: no later one has a lower time */
	uint64_t reserved;       /* inode numbers, gens and sessions below it may have been given out */
	uint64_t given;          /* those up to it are given out or void (void.h), none above */
	uint64_t newest_session; /* the highest ever given out */
	uint64_t session_index;  /* of the last record that opened or ended a session */
	uint64_t inodes;         /* how many there are, orphans too */
	uint64_t orphans;        /* how many inodes live on only because somebody has them open */
	uint8_t hash_key[HASH_KEY_SIZE];
};

struct state {
	struct view *view;
	struct meta meta;
	bool formatted; /* there is a root; false before the first record */
};

/* Take up what the view holds. A damaged meta row ends the process. */
void state_load(struct state *ret_state, struct view *view);

/* Write the meta row: once per record, at the end of apply(). */
void state_store_meta(struct state *state);

#endif
