/*
 * What the index has in memory only: an ordered map from key to value or "deleted". A skip list whose heights are drawn
 * from a fixed seed. Whoever holds it may read it; only its owner changes it.
 */
#ifndef STRAKE_OSS_INDEX_CHANGES_H
#define STRAKE_OSS_INDEX_CHANGES_H

#include "oss/index_rows.h"

#define INDEX_CHANGES_LEVELS 12

struct index_change {
	struct index_key key;
	union index_value value;
	bool deleted;
	struct index_change *next[]; /* per level; next[0] is the order */
};

struct index_changes {
	struct index_change *first[INDEX_CHANGES_LEVELS];
	size_t count;
	uint32_t random;
};

struct index_changes *index_changes_new(void); /* NULL: no memory */
struct index_changes *index_changes_free(struct index_changes *changes);

/* Add or replace; value NULL: deleted. -ENOMEM. */
int index_changes_put(struct index_changes *changes, const struct index_key *key, const union index_value *value);

/* Take an entry out, so that nothing is said of key; fine when there is none. */
void index_changes_remove(struct index_changes *changes, const struct index_key *key);

/* The first at or above key, or NULL. */
const struct index_change *index_changes_seek(const struct index_changes *changes, const struct index_key *key);

#endif
