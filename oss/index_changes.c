#include "oss/index_changes.h"

#include <errno.h>
#include <stdlib.h>

struct index_changes *index_changes_new(void)
{
	struct index_changes *changes = calloc(1, sizeof(*changes));

	if (changes)
		changes->random = 0x9e3779b9;

	return changes;
}

struct index_changes *index_changes_free(struct index_changes *changes)
{
	struct index_change *change, *next;

	if (!changes)
		return NULL;
	for (change = changes->first[0]; change; change = next) {
		next = change->next[0];
		free(change);
	}
	free(changes);

	return NULL;
}

/* The links to what is at or above key, one per level. */
static void find(struct index_changes *changes, const struct index_key *key, struct index_change **links[])
{
	struct index_change **level_links = changes->first;

	for (int level = INDEX_CHANGES_LEVELS - 1; level >= 0; level--) {
		while (level_links[level] && index_key_compare(&level_links[level]->key, key) < 0)
			level_links = level_links[level]->next;
		links[level] = &level_links[level];
	}
}

/* One level in four goes one up. xorshift32 (Marsaglia). */
static int draw_levels(struct index_changes *changes)
{
	int levels = 1;

	changes->random ^= changes->random << 13;
	changes->random ^= changes->random >> 17;
	changes->random ^= changes->random << 5;
	for (uint32_t bits = changes->random; levels < INDEX_CHANGES_LEVELS && (bits & 3) == 0; bits >>= 2)
		levels++;

	return levels;
}

int index_changes_put(struct index_changes *changes, const struct index_key *key, const union index_value *value)
{
	struct index_change **links[INDEX_CHANGES_LEVELS];
	struct index_change *change;
	int levels;

	find(changes, key, links);
	change = *links[0];
	if (!change || index_key_compare(&change->key, key) != 0) {
		levels = draw_levels(changes);
		change = calloc(1, sizeof(*change) + (size_t)levels * sizeof(change->next[0]));
		if (!change)
			return -ENOMEM;
		change->key = *key;
		for (int level = 0; level < levels; level++) {
			change->next[level] = *links[level];
			*links[level] = change;
		}
		changes->count++;
	}
	change->deleted = !value;
	if (value)
		change->value = *value;

	return 0;
}

void index_changes_remove(struct index_changes *changes, const struct index_key *key)
{
	struct index_change **links[INDEX_CHANGES_LEVELS];
	struct index_change *change;

	find(changes, key, links);
	change = *links[0];
	if (!change || index_key_compare(&change->key, key) != 0)
		return;
	for (int level = 0; level < INDEX_CHANGES_LEVELS && *links[level] == change; level++)
		*links[level] = change->next[level];
	changes->count--;
	free(change);
}

const struct index_change *index_changes_seek(const struct index_changes *changes, const struct index_key *key)
{
	struct index_change *const *links = changes->first;

	for (int level = INDEX_CHANGES_LEVELS - 1; level >= 0; level--) {
		while (links[level] && index_key_compare(&links[level]->key, key) < 0)
			links = links[level]->next;
	}

	return links[0];
}
