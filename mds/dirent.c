#include "mds/dirent.h"

#include "common/logger.h"
#include "common/siphash.h"
#include "mds/pack.h"

#include <errno.h>
#include <inttypes.h>

#define DIRENT_PREFIX 16 /* parent and hash before the name */

struct dirent_key {
	uint8_t data[DIRENT_PREFIX + NAME_LEN_MAX];
};

uint64_t dirent_cookie(const struct state *state, struct bytes name)
{
	uint64_t hash = siphash(state->meta.hash_key, name.data, name.size) >> 2;

	return hash < DIRENT_COOKIE_MIN ? hash + DIRENT_COOKIE_MIN : hash;
}

static struct bytes dirent_key(const struct state *state, uint64_t parent, struct bytes name, struct dirent_key *out)
{
	assert(name.size > 0 && name.size <= NAME_LEN_MAX);
	key_of_two(out->data, parent, dirent_cookie(state, name));
	memcpy(out->data + DIRENT_PREFIX, name.data, name.size);
	return (struct bytes){ out->data, DIRENT_PREFIX + name.size };
}

static void dirent_decode(uint64_t parent, struct bytes value, struct dirent_row *row)
{
	struct unpack unpack = unpack_begin(value);

	row->ino = unpack_u64(&unpack);
	row->type = (uint32_t)unpack_u8(&unpack) << 12;
	if (!unpack_is_done(&unpack))
		logger_die("the MDT's state is damaged: an entry of directory %" PRIx64 " has %zu bytes", parent,
			   value.size);
}

int dirent_get(struct state *state, uint64_t parent, struct bytes name, struct dirent_row *ret_row)
{
	struct dirent_key key;
	struct bytes value;

	if (view_get(state->view, TABLE_DIRENT, dirent_key(state, parent, name, &key), &value) < 0)
		return -ENOENT;
	dirent_decode(parent, value, ret_row);
	return 0;
}

void dirent_put(struct state *state, uint64_t parent, struct bytes name, uint64_t ino, uint32_t mode)
{
	struct dirent_key key;
	uint8_t out[9];
	struct pack pack = { out, out + sizeof(out) };

	pack_u64(&pack, ino);
	pack_u8(&pack, (uint8_t)((mode & S_IFMT) >> 12));
	view_put(state->view, TABLE_DIRENT, dirent_key(state, parent, name, &key), (struct bytes){ out, sizeof(out) });
}

void dirent_del(struct state *state, uint64_t parent, struct bytes name)
{
	struct dirent_key key;

	view_del(state->view, TABLE_DIRENT, dirent_key(state, parent, name, &key));
}

/* What the cursor stands on, if that is still of the directory. */
static int walk_take(struct dirent_walk *walk, struct dirent_row *ret_row)
{
	struct unpack key = unpack_begin(walk->cursor.key);

	if (unpack_key64(&key) != walk->parent)
		return -ENOENT;
	ret_row->cookie = unpack_key64(&key);
	ret_row->name = unpack_bytes(&key, (size_t)(key.end - key.at));
	if (key.bad || ret_row->name.size == 0 || ret_row->name.size > NAME_LEN_MAX)
		logger_die("the MDT's state is damaged: an entry's key in directory %" PRIx64, walk->parent);
	dirent_decode(walk->parent, walk->cursor.value, ret_row);
	return 0;
}

int dirent_walk_begin(struct state *state, uint64_t parent, uint64_t cookie, struct dirent_walk *ret_walk,
		      struct dirent_row *ret_row)
{
	uint8_t from[DIRENT_PREFIX];

	ret_walk->parent = parent;
	ret_walk->begun = false;
	if (cookie == UINT64_MAX)
		return -ENOENT;
	if (view_seek(state->view, TABLE_DIRENT, key_of_two(from, parent, cookie + 1), &ret_walk->cursor) < 0)
		return -ENOENT;
	ret_walk->begun = true;
	return walk_take(ret_walk, ret_row);
}

int dirent_walk_next(struct dirent_walk *walk, struct dirent_row *ret_row)
{
	if (view_next(&walk->cursor) < 0)
		return -ENOENT;
	return walk_take(walk, ret_row);
}

void dirent_walk_end(struct dirent_walk *walk)
{
	if (walk->begun)
		view_cursor_end(&walk->cursor);
	walk->begun = false;
}
