/* Rows of the index: found in the first of announced, pending, frozen and LMDB that knows. */
#include "oss/index_internal.h"

#include <errno.h>
#include <string.h>

static void put(struct index *index, struct index_key key, const union index_value *value)
{
	if (index_changes_put(index->pending, &key, value) < 0)
		index_die(index, "out of memory");
	index_changed(index);
}

static const struct index_change *find_change(const struct index_changes *changes, const struct index_key *key)
{
	const struct index_change *change = changes ? index_changes_seek(changes, key) : NULL;

	return change && index_key_compare(&change->key, key) == 0 ? change : NULL;
}

static int get(struct index *index, struct index_key key, union index_value *ret_value)
{
	const struct index_change *change = find_change(index->announced, &key);
	int err;

	if (!change)
		change = find_change(index->pending, &key);
	if (!change)
		change = find_change(index->frozen, &key);
	if (change) {
		if (change->deleted)
			return -ENOENT;
		*ret_value = change->value;
		return 0;
	}
	err = index_read(index, index->snapshot, &key, ret_value);
	if (err < 0 && err != -ENOENT)
		index_die(index, err == -EBADMSG ? "a row is damaged" : strerror(-err));

	return err;
}

/* LMDB's first row at or above key: false when there is none of its kind. */
static bool seek_snapshot(struct index *index, const struct index_key *key, struct index_key *ret_key,
			  union index_value *ret_value)
{
	uint8_t key_data[INDEX_KEY_SIZE];
	MDB_val k = index_key_bytes(key_data, key), v;
	int rc, err;

	rc = mdb_cursor_get(index->cursor[key->kind], &k, &v, MDB_SET_RANGE);
	if (rc == MDB_NOTFOUND)
		return false;
	if (rc != 0)
		index_die(index, mdb_strerror(rc));
	err = index_key_decode(key->kind, k.mv_data, k.mv_size, ret_key);
	if (err == 0)
		err = index_value_decode(ret_key, v.mv_data, v.mv_size, ret_value);
	if (err < 0)
		index_die(index, "a row is damaged");

	return true;
}

/* Of two places, the one that comes first; with equal keys the first one given, which is the newer. */
static const struct index_change *earlier(const struct index_change *newer, const struct index_change *older)
{
	if (!newer || !older)
		return newer ? newer : older;

	return index_key_compare(&newer->key, &older->key) <= 0 ? newer : older;
}

/* The first row of key's kind at or above key, in all four layers. -ENOENT. */
static int seek(struct index *index, struct index_key key, struct index_key *ret_key, union index_value *ret_value)
{
	for (;;) {
		const struct index_change *change = index_changes_seek(index->announced, &key);
		struct index_change stored = { .deleted = false };

		change = earlier(change, index_changes_seek(index->pending, &key));
		if (index->frozen)
			change = earlier(change, index_changes_seek(index->frozen, &key));
		if (seek_snapshot(index, &key, &stored.key, &stored.value))
			change = earlier(change, &stored);
		if (!change || change->key.kind != key.kind)
			return -ENOENT;
		if (!change->deleted) {
			*ret_key = change->key;
			*ret_value = change->value;
			return 0;
		}
		/* Go on right behind the deleted one; no key is all ones. */
		key = change->key;
		if (++key.part[2] == 0 && ++key.part[1] == 0)
			key.part[0]++;
	}
}

int index_get_object(struct index *index, uint64_t ino, uint64_t gen, uint64_t seq, struct index_object *ret_object)
{
	union index_value value;
	int err = get(index, index_object_key(ino, gen, seq), &value);

	if (err == 0)
		*ret_object = value.object;

	return err;
}

uint64_t index_file_change(const struct index *index, uint64_t ino, uint64_t gen)
{
	struct index_key key = index_file_key(ino, gen);

	return find_change(index->pending, &key) || find_change(index->frozen, &key) ? index->last : 0;
}

int index_get_file(struct index *index, uint64_t ino, uint64_t gen, struct index_file *ret_file)
{
	union index_value value;
	int err = get(index, index_file_key(ino, gen), &value);

	if (err == 0)
		*ret_file = value.file;

	return err;
}

int index_next_object(struct index *index, uint64_t ino, uint64_t gen, uint64_t seq, uint64_t *ret_seq,
		      struct index_object *ret_object)
{
	struct index_key key;
	union index_value value;
	int err = seek(index, index_object_key(ino, gen, seq), &key, &value);

	if (err < 0)
		return err;
	if (key.part[0] != ino || key.part[1] != gen)
		return -ENOENT;
	*ret_seq = key.part[2];
	*ret_object = value.object;

	return 0;
}

int index_next(struct index *index, struct index_key *key, union index_value *ret_value)
{
	return seek(index, *key, key, ret_value);
}

void index_announce_object(struct index *index, uint64_t ino, uint64_t gen, uint64_t seq, struct index_object object)
{
	struct index_key key = index_object_key(ino, gen, seq);
	union index_value value = { .object = object };

	if (index_changes_put(index->announced, &key, &value) < 0)
		index_die(index, "out of memory");
}

void index_put_object(struct index *index, uint64_t ino, uint64_t gen, uint64_t seq, struct index_object object)
{
	struct index_key key = index_object_key(ino, gen, seq);
	union index_value value = { .object = object };

	index_changes_remove(index->announced, &key);
	put(index, key, &value);
}

void index_delete_object(struct index *index, uint64_t ino, uint64_t gen, uint64_t seq)
{
	struct index_key key = index_object_key(ino, gen, seq);

	index_changes_remove(index->announced, &key);
	put(index, key, NULL);
}

void index_put_file(struct index *index, uint64_t ino, uint64_t gen, struct index_file file)
{
	union index_value value = { .file = file };
	struct index_file before;

	if (index_get_file(index, ino, gen, &before) == 0 && before.destroyed)
		put(index, index_tombstone_key(before.newest_session, ino, gen), NULL);
	put(index, index_file_key(ino, gen), &value);
	if (file.destroyed)
		put(index, index_tombstone_key(file.newest_session, ino, gen), &value);
}

void index_put_void(struct index *index, uint64_t first, struct index_void range)
{
	union index_value value = { .range = range };

	put(index, index_void_key(first), &value);
}

int index_next_tombstone(struct index *index, uint64_t session, struct index_key *key)
{
	struct index_key found;
	union index_value value;
	int err = seek(index, *key, &found, &value);

	if (err < 0)
		return err;
	if (found.part[0] >= session)
		return -ENOENT;
	*key = found;

	return 0;
}

void index_drop_tombstone(struct index *index, uint64_t ino, uint64_t gen)
{
	struct index_file file = { .destroyed = false };

	if (index_get_file(index, ino, gen, &file) < 0 || !file.destroyed)
		return;
	put(index, index_tombstone_key(file.newest_session, ino, gen), NULL);
	put(index, index_file_key(ino, gen), NULL);
}
