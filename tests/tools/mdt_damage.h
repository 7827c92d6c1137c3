/*
 * Damage to an MDT's state that no operation would do: single rows, written past apply. For tests of those who look for it.
 */
#ifndef STRAKE_TESTS_MDT_DAMAGE_H
#define STRAKE_TESTS_MDT_DAMAGE_H

#include "mds/dirent.h"
#include "mds/inode.h"
#include "mds/pack.h"

#include <stdio.h>
#include <stdlib.h>

/* The inode is taken, changed by the caller, and stored by damage_store(). */
static inline struct inode damage_load(struct state *state, uint64_t ino)
{
	struct inode inode;

	if (inode_load(state->view, ino, &inode) < 0) {
		fprintf(stderr, "there is no inode %llu to damage\n", (unsigned long long)ino);
		abort();
	}
	return inode;
}

static inline void damage_store(struct state *state, const struct inode *inode)
{
	inode_store(state->view, inode);
}

static inline void damage_nlink(struct state *state, uint64_t ino, uint32_t nlink)
{
	struct inode inode = damage_load(state, ino);

	inode.nlink = nlink;
	damage_store(state, &inode);
}

static inline void damage_size(struct state *state, uint64_t ino, uint64_t size)
{
	struct inode inode = damage_load(state, ino);

	inode.size = size;
	damage_store(state, &inode);
}

static inline void damage_entries(struct state *state, uint64_t ino, uint64_t entries)
{
	struct inode inode = damage_load(state, ino);

	inode.entries = entries;
	damage_store(state, &inode);
}

static inline void damage_parent(struct state *state, uint64_t ino, uint64_t parent)
{
	struct inode inode = damage_load(state, ino);

	inode.parent = parent;
	damage_store(state, &inode);
}

static inline void damage_gen(struct state *state, uint64_t ino, uint64_t gen)
{
	struct inode inode = damage_load(state, ino);

	inode.gen = gen;
	damage_store(state, &inode);
}

static inline void damage_cut_number(struct state *state, uint64_t ino, uint64_t cut)
{
	struct inode inode = damage_load(state, ino);

	inode.cut = cut;
	damage_store(state, &inode);
}

/* The first stripe lies elsewhere. */
static inline void damage_layout(struct state *state, uint64_t ino, uint16_t ost)
{
	struct inode inode = damage_load(state, ino);

	inode.layout.ost_indices[0] = ost;
	damage_store(state, &inode);
}

static inline void damage_erase(struct state *state, uint64_t ino)
{
	inode_erase(state->view, ino);
	state->meta.inodes--;
	state_store_meta(state);
}

static inline struct bytes damage_name(const char *name)
{
	return (struct bytes){ name, strlen(name) };
}

static inline void damage_add_entry(struct state *state, uint64_t parent, const char *name, uint64_t ino, uint32_t mode)
{
	dirent_put(state, parent, damage_name(name), ino, mode);
}

static inline void damage_delete_entry(struct state *state, uint64_t parent, const char *name)
{
	dirent_del(state, parent, damage_name(name));
}

/* An entry that stands where nobody looks for it. */
static inline void damage_misplace_entry(struct state *state, uint64_t parent, const char *name)
{
	uint8_t key[16 + NAME_LEN_MAX], out[9];
	struct pack pack = { out, out + sizeof(out) };
	struct dirent_row row;

	if (dirent_get(state, parent, damage_name(name), &row) < 0)
		abort();
	key_of_two(key, parent, dirent_cookie(state, damage_name(name)) + 1);
	memcpy(key + 16, name, strlen(name));
	pack_u64(&pack, row.ino);
	pack_u8(&pack, (uint8_t)(row.type >> 12));
	dirent_del(state, parent, damage_name(name));
	view_put(state->view, TABLE_DIRENT, (struct bytes){ key, 16 + strlen(name) },
		 (struct bytes){ out, sizeof(out) });
}

static inline void damage_orphan(struct state *state, uint64_t ino, uint64_t session)
{
	uint8_t key[8], out[8];
	struct pack pack = { out, out + sizeof(out) };

	pack_u64(&pack, session);
	view_put(state->view, TABLE_ORPHAN, key_of(key, ino), (struct bytes){ out, sizeof(out) });
	state->meta.orphans++;
	state_store_meta(state);
}

/* Of a record that is durable it is acted upon: the OST destroys it. */
static inline void damage_destroy(struct state *state, uint64_t ino, uint64_t gen, uint16_t ost, bool durable)
{
	uint8_t key[16], out[12];
	struct pack pack = { out, out + sizeof(out) };

	pack_u64(&pack, durable ? 1 : UINT64_MAX);
	pack_u16(&pack, 1);
	pack_u16(&pack, ost);
	view_put(state->view, TABLE_DESTROY, key_of_two(key, ino, gen), (struct bytes){ out, sizeof(out) });
}

/* Of a record that is never durable: nobody acts upon it. */
static inline void damage_cut(struct state *state, uint64_t ino, uint64_t gen, uint64_t number, uint16_t ost)
{
	uint8_t key[8], out[6 * 8 + 4];
	struct pack pack = { out, out + sizeof(out) };

	pack_u64(&pack, gen);
	pack_u64(&pack, number);
	pack_u64(&pack, 0);
	pack_u64(&pack, 1);
	pack_u64(&pack, LAYOUT_STRIPE_SIZE_DEFAULT);
	pack_u64(&pack, UINT64_MAX);
	pack_u16(&pack, 1);
	pack_u16(&pack, ost);
	view_put(state->view, TABLE_CUT, key_of(key, ino), (struct bytes){ out, sizeof(out) });
}

static inline void damage_xattr(struct state *state, uint64_t ino, const char *name)
{
	uint8_t key[8 + 255];

	key_of(key, ino);
	memcpy(key + 8, name, strlen(name));
	view_put(state->view, TABLE_XATTR, (struct bytes){ key, 8 + strlen(name) }, (struct bytes){ "v", 1 });
}

/* Two directories of one parent, each in the other: both are nowhere then. */
static inline void damage_ring(struct state *state, uint64_t parent, const char *name_a, const char *name_b)
{
	struct dirent_row a, b;
	struct inode inode = damage_load(state, parent);

	if (dirent_get(state, parent, damage_name(name_a), &a) < 0 ||
	    dirent_get(state, parent, damage_name(name_b), &b) < 0)
		abort();
	damage_delete_entry(state, parent, name_a);
	damage_delete_entry(state, parent, name_b);
	inode.entries -= 2;
	inode.nlink -= 2;
	damage_store(state, &inode);

	damage_add_entry(state, a.ino, name_b, b.ino, S_IFDIR);
	damage_add_entry(state, b.ino, name_a, a.ino, S_IFDIR);
	inode = damage_load(state, a.ino);
	inode.parent = b.ino;
	inode.entries++;
	inode.nlink++;
	damage_store(state, &inode);
	inode = damage_load(state, b.ino);
	inode.parent = a.ino;
	inode.entries++;
	inode.nlink++;
	damage_store(state, &inode);
}

#endif
