/*
 * Rows of an MDT's state, of every table, as its own readers find them: an input is a list of (table, size of the key,
 * size of the value, key, value). Either it is told that the state is damaged, or of a newer version (logger_die(), which
 * comes back here), or what was read is within its bounds.
 */
#include "common/logger.h"
#include "mds/acl.h"
#include "mds/cut.h"
#include "mds/destroy.h"
#include "mds/dirent.h"
#include "mds/facts.h"
#include "mds/inode.h"
#include "mds/orphan.h"
#include "mds/pack.h"
#include "mds/sessions.h"
#include "mds/void.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/work_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#define ROWS_MAX    64
#define VIEW_ROUNDS 500 /* what was deleted stays in its table of changes for so long */

static struct view *view;
static struct state state;
static struct facts_walk facts_walk; /* both may be left open by who dies */
static struct dirent_walk dirent_walk;
static jmp_buf died;

_Noreturn void __wrap_logger_die(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void __wrap_logger_die(const char *format, ...)
{
	char text[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	assert(strstr(text, "damaged") != NULL || strstr(text, "run the newer one") != NULL);
	longjmp(died, 1);
}

static void view_at_hand(void)
{
	static unsigned int rounds;
	char error[256];
	uint64_t applied;

	if (view != NULL && rounds++ % VIEW_ROUNDS != 0)
		return;
	if (view != NULL)
		view = view_close(view);
	assert(view_open(work_dir(), &view, &applied, error, sizeof(error)) == 0);
}

/* --- rows of an input --------------------------------------------------------------------------------------------- */

struct row {
	enum view_table table;
	struct bytes key, value;
	uint8_t key_bytes[VIEW_KEY_MAX];
};

static struct row rows[ROWS_MAX];
static size_t row_count;

/* The numbers that a table's keys begin with are always there: no reader is shown others. */
static size_t key_least(enum view_table table)
{
	switch (table) {
	case TABLE_META:
		return 1;
	case TABLE_DIRENT:
	case TABLE_DESTROY:
		return 16;
	case TABLE_SLOT:
		return 12;
	default:
		return 8;
	}
}

static bool key_has_name(enum view_table table)
{
	return table == TABLE_META || table == TABLE_DIRENT || table == TABLE_XATTR;
}

static void rows_parse(struct bytes input)
{
	struct unpack in = unpack_begin(input);

	for (row_count = 0; row_count < ROWS_MAX; row_count++) {
		struct row *row = &rows[row_count];
		struct bytes key;
		size_t least, value_size;

		row->table = (enum view_table)(unpack_u8(&in) % TABLE_COUNT);
		least = key_least(row->table);
		key.size = unpack_u8(&in);
		value_size = unpack_u16(&in);
		key = unpack_bytes(&in, key.size);
		row->value = unpack_bytes(&in, value_size);
		if (in.bad)
			return;
		memset(row->key_bytes, 0, least);
		memcpy(row->key_bytes, key.data, key.size);
		row->key.data = row->key_bytes;
		row->key.size = key_has_name(row->table) && key.size > least ? key.size : least;
	}
}

static uint64_t key_number(const struct row *row, size_t at)
{
	struct unpack key = unpack_begin(row->key);

	(void)unpack_bytes(&key, at);
	return unpack_key64(&key);
}

/* --- their readers: first those that hold no cursor, so that none is left by who dies ------------------------------- */

static void inode_one(const struct row *row)
{
	static struct inode inode;

	assert(inode_load(view, key_number(row, 0), &inode) == 0);
	assert(inode.layout.ost_count <= LAYOUT_STRIPES_MAX && inode.target.size <= row->value.size);
}

static void dirent_one(const struct row *row)
{
	struct dirent_row entry;
	int err;

	err = dirent_walk_begin(&state, key_number(row, 0), 0, &dirent_walk, &entry);
	for (unsigned int i = 0; err == 0; i++) {
		assert(i < ROWS_MAX && entry.name.size > 0 && entry.name.size <= NAME_LEN_MAX);
		(void)dirent_get(&state, dirent_walk.parent, entry.name, &entry);
		err = dirent_walk_next(&dirent_walk, &entry);
	}
}

/* An ACL, as a client brings it, too: what was read is what is written, and it and the mode bits are one thing. */
static void xattr_one(const struct row *row)
{
	static const Strake__Cred nobody = STRAKE__CRED__INIT;
	static uint8_t out[ACL_SIZE_MAX];
	static struct acl acl, again;
	struct bytes encoded;

	if (acl_decode(row->value, &acl) < 0)
		return;
	assert(acl.count <= ACL_ENTRIES_MAX);
	encoded = acl_encode(&acl, out);
	assert(encoded.size == row->value.size && acl_decode(encoded, &again) == 0 && again.count == acl.count);
	(void)acl_check(&acl, &nobody, 1, 1, R_OK | W_OK | X_OK);
	for (uint32_t mode = 0; mode <= 0777 && acl.count > 0; mode += 0111) {
		acl_chmod(&acl, mode);
		assert(acl_mode(&acl, S_IFREG) == (S_IFREG | mode));
	}
}

static void session_one(const struct row *row)
{
	struct session_row session;

	assert(session_get(view, key_number(row, 0), &session) == 0);
	assert(session_from(view, key_number(row, 0), &session) == 0 && session.session == key_number(row, 0));
	assert(session.hostname.size + session.mountpoint.size < row->value.size);
}

static void slot_one(const struct row *row)
{
	struct unpack key = unpack_begin(row->key);
	uint64_t session = unpack_key64(&key);
	uint32_t slot = unpack_key32(&key);
	struct slot_row got;
	bool resent;

	for (uint32_t seq = 0; seq < 3; seq++) {
		if (slot_judge(view, session, slot, seq, 0x230, &resent, &got) == 0 && resent)
			assert(got.seq == seq && got.reply.size < row->value.size);
	}
}

static void orphan_one(const struct row *row)
{
	struct bytes sessions;
	uint64_t ino;

	assert(orphan_from(view, key_number(row, 0), &ino, &sessions) == 0);
	assert(ino == key_number(row, 0) && sessions.size <= row->value.size);
	(void)orphan_has(sessions, 1);
	(void)orphan_is_held_by(view, ino, 1);
}

static void destroy_one(const struct row *row)
{
	static struct destroy_row got;

	assert(destroy_get(view, key_number(row, 0), key_number(row, 8), &got) == 0);
	assert(destroy_from(view, key_number(row, 0), key_number(row, 8), &got) == 0);
	assert(got.gen == key_number(row, 8) && got.ost_count <= LAYOUT_STRIPES_MAX);
	destroy_acknowledge(view, got.ino, got.gen, got.ost_count > 0 ? got.osts[0] : 0);
}

static void cut_one(const struct row *row)
{
	static struct cut_row got;

	assert(cut_get(view, key_number(row, 0), &got) == 0);
	assert(cut_from(view, key_number(row, 0), &got) == 0);
	assert(got.ino == key_number(row, 0) && got.ost_count <= LAYOUT_STRIPES_MAX);
	cut_acknowledge(view, got.ino, got.gen, got.number, got.ost_count > 0 ? got.osts[0] : 0);
}

static void void_one(const struct row *row)
{
	struct void_range range;

	if (key_number(row, 0) == 0)
		return;
	assert(void_from(view, key_number(row, 0) - 1, &range) == 0);
	assert(range.first < range.end && range.end == key_number(row, 0));
	(void)number_is_void(view, range.first);
}

static void read_one(struct row *row)
{
	static void (*const readers[TABLE_COUNT])(const struct row *row) = {
		[TABLE_INODE] = inode_one,     [TABLE_DIRENT] = dirent_one, [TABLE_XATTR] = xattr_one,
		[TABLE_SESSION] = session_one, [TABLE_SLOT] = slot_one,     [TABLE_ORPHAN] = orphan_one,
		[TABLE_DESTROY] = destroy_one, [TABLE_CUT] = cut_one,       [TABLE_VOID] = void_one,
	};

	/* The same key may have come twice, and a reader may have taken it away. */
	if (readers[row->table] != NULL && view_get(view, row->table, row->key, &row->value) == 0 && setjmp(died) == 0)
		readers[row->table](row);
	dirent_walk_end(&dirent_walk);
}

/* All tables side by side. */
static void read_all(void)
{
	static struct fsck_inode facts;

	if (setjmp(died) != 0)
		return;
	facts_begin(&state, 0, &facts_walk);
	for (unsigned int i = 0; facts_next(&facts_walk, &facts) == 0; i++)
		assert(i < ROWS_MAX);
}

static void fuzz_one(const uint8_t *data, size_t size)
{
	uint8_t *copy = fuzz_copy(data, size);

	view_at_hand();
	rows_parse((struct bytes){ copy, size });
	for (size_t i = 0; i < row_count; i++)
		view_put(view, rows[i].table, rows[i].key, rows[i].value);
	state = (struct state){ .view = view };
	if (setjmp(died) == 0)
		state_load(&state, view);
	read_all();
	facts_end(&facts_walk);
	for (size_t i = 0; i < row_count; i++)
		read_one(&rows[i]);
	for (size_t i = 0; i < row_count; i++)
		view_del(view, rows[i].table, rows[i].key);
	free(copy);
}

/* --- seeds -------------------------------------------------------------------------------------------------------- */

/* What the writers of these rows have written, one seed for each table and one of all. */
static void seed_tables(void)
{
	static uint8_t all[65536], one[65536];
	struct pack to_all = { all, all + sizeof(all) };

	for (enum view_table table = TABLE_META; table < TABLE_COUNT; table++) {
		struct pack to_one = { one, one + sizeof(one) };
		struct view_cursor cursor;
		int err;

		for (err = view_seek(view, table, (struct bytes){ "", 0 }, &cursor); err == 0;
		     err = view_next(&cursor)) {
			struct pack *const to[] = { &to_all, &to_one };

			for (unsigned int i = 0; i < 2; i++) {
				pack_u8(to[i], (uint8_t)table);
				pack_u8(to[i], (uint8_t)cursor.key.size);
				pack_u16(to[i], (uint16_t)cursor.value.size);
				pack_bytes(to[i], cursor.key.data, cursor.key.size);
				pack_bytes(to[i], cursor.value.data, cursor.value.size);
			}
		}
		view_cursor_end(&cursor);
		fuzz_seed(NULL, 0, one, (size_t)(to_one.at - one));
	}
	fuzz_seed(NULL, 0, all, (size_t)(to_all.at - all));
}

static void put_numbers(enum view_table table, const uint64_t *key, size_t key_count, const uint64_t *value,
			size_t value_count)
{
	uint8_t key_out[32], value_out[128];
	struct pack to_key = { key_out, key_out + sizeof(key_out) };
	struct pack to_value = { value_out, value_out + sizeof(value_out) };

	for (size_t i = 0; i < key_count; i++)
		pack_key64(&to_key, key[i]);
	for (size_t i = 0; i < value_count; i++)
		pack_u64(&to_value, value[i]);
	if (table == TABLE_DESTROY || table == TABLE_CUT) { /* two OSTs are awaited */
		pack_u16(&to_value, 2);
		pack_u16(&to_value, 0);
		pack_u16(&to_value, 1);
	}
	view_put(view, table, (struct bytes){ key_out, (size_t)(to_key.at - key_out) },
		 (struct bytes){ value_out, (size_t)(to_value.at - value_out) });
}

static void put_session(void)
{
	uint8_t key[8], value[128] = { 1 };
	struct pack pack = { value + 1 + UUID_SIZE + 4 + 4 + 8, value + sizeof(value) };

	pack_u16(&pack, 4);
	pack_bytes(&pack, "host", 4);
	pack_u16(&pack, 4);
	pack_bytes(&pack, "/mnt", 4);
	view_put(view, TABLE_SESSION, key_of(key, 3), (struct bytes){ value, (size_t)(pack.at - value) });
}

static void fuzz_seeds(void)
{
	struct inode root = { .ino = INODE_ROOT, .gen = 1, .mode = S_IFDIR | 0755, .nlink = 2, .parent = INODE_ROOT };
	struct inode file = { .ino = 10, .gen = 11, .mode = S_IFREG | 0644, .nlink = 1, .size = 5 };
	struct inode link = { .ino = 12, .gen = 12, .mode = S_IFLNK | 0777, .nlink = 1, .target = { "target", 6 } };
	struct slot_row slot = { .seq = 1, .op = 0x230, .index = 4, .reply = { "reply", 5 } };

	view_at_hand();
	state = (struct state){ .view = view, .meta = { .reserved = 100, .inodes = 3 } };
	state_store_meta(&state);
	file.layout =
		(struct layout){ .stripe_size = 65536, .stripe_count = 2, .ost_count = 2, .ost_indices = { 0, 1 } };
	inode_store(view, &root);
	inode_store(view, &file);
	inode_store(view, &link);
	dirent_put(&state, INODE_ROOT, (struct bytes){ "file", 4 }, 10, S_IFREG);
	dirent_put(&state, INODE_ROOT, (struct bytes){ "link", 4 }, 12, S_IFLNK);
	view_put(view, TABLE_XATTR, (struct bytes){ "\0\0\0\0\0\0\0\nuser.x", 14 }, (struct bytes){ "value", 5 });
	view_put(view, TABLE_XATTR, (struct bytes){ "\0\0\0\0\0\0\0\nuser.y", 14 },
		 (struct bytes){ "\2\0\0\0"
				 "\1\0\6\0\377\377\377\377"
				 "\2\0\6\0\1\0\0\0"
				 "\4\0\4\0\377\377\377\377"
				 "\20\0\6\0\377\377\377\377"
				 "\40\0\4\0\377\377\377\377",
				 44 });
	put_session();
	slot_store(view, 3, 0, &slot);
	put_numbers(TABLE_ORPHAN, (uint64_t[]){ 10 }, 1, (uint64_t[]){ 3, 4 }, 2);
	put_numbers(TABLE_DESTROY, (uint64_t[]){ 10, 9 }, 2, (uint64_t[]){ 4 }, 1);
	put_numbers(TABLE_CUT, (uint64_t[]){ 10 }, 1, (uint64_t[]){ 11, 1, 0, 100, 65536, 4 }, 6);
	put_numbers(TABLE_VOID, (uint64_t[]){ 20 }, 1, (uint64_t[]){ 15 }, 1);
	seed_tables();
}
