#include "mds/check.h"

#include "mds/dirent.h"
#include "mds/facts.h"
#include "mds/inode.h"
#include "mds/orphan.h"
#include "mds/pack.h"
#include "mds/sessions.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* What was counted of an inode while all tables are gone through. */
struct tally {
	uint64_t ino;
	struct fsck_links links;
	struct fsck_entries entries;
};

struct check {
	struct state *state;
	struct tally *tallies; /* sorted by ino: the inode table's order */
	size_t count;
	int64_t faults;
	void (*report)(void *arg, const char *text);
	void *arg;
};

static void fault(struct check *check, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void fault(struct check *check, const char *format, ...)
{
	char text[FSCK_TEXT_SIZE];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	check->faults++;
	check->report(check->arg, text);
}

static int compare_tally(const void *key, const void *element)
{
	uint64_t ino = *(const uint64_t *)key, other = ((const struct tally *)element)->ino;

	return ino < other ? -1 : ino > other;
}

static struct tally *tally_of(const struct check *check, uint64_t ino)
{
	if (check->count == 0)
		return NULL;
	return bsearch(&ino, check->tallies, check->count, sizeof(*check->tallies), compare_tally);
}

/* Calls fn for each row of a table. */
static void each_row(struct check *check, enum view_table table,
		     void (*fn)(struct check *check, struct bytes key, struct bytes value))
{
	struct view_cursor cursor;
	int err = view_seek(check->state->view, table, (struct bytes){ "", 0 }, &cursor);

	if (err < 0)
		return;
	for (; err == 0; err = view_next(&cursor))
		fn(check, cursor.key, cursor.value);
	view_cursor_end(&cursor);
}

static void count_inode(struct check *check, struct bytes key, struct bytes value)
{
	(void)key;
	(void)value;
	check->count++;
}

static void note_inode(struct check *check, struct bytes key, struct bytes value)
{
	struct unpack unpack = unpack_begin(key);

	(void)value;
	check->tallies[check->count++] = (struct tally){ .ino = unpack_key64(&unpack) };
}

static void check_dirent(struct check *check, struct bytes key, struct bytes value)
{
	struct unpack unpack = unpack_begin(key), row = unpack_begin(value);
	uint64_t parent = unpack_key64(&unpack), cookie = unpack_key64(&unpack), ino = unpack_u64(&row);
	struct bytes name = unpack_bytes(&unpack, (size_t)(unpack.end - unpack.at));
	uint32_t type = (uint32_t)unpack_u8(&row) << 12;
	struct tally *dir = tally_of(check, parent), *tally = tally_of(check, ino);

	if (!dir)
		fault(check, "an entry in directory %" PRIu64 ", which does not exist", parent);
	if (dir) {
		dir->entries.count++;
		dir->entries.subdirs += type == S_IFDIR;
	}
	if (!tally) {
		fault(check, "directory %" PRIu64 " names inode %" PRIu64 ", which does not exist", parent, ino);
		return;
	}
	tally->links.count++;
	tally->links.parent = parent;
	tally->links.types |= UINT32_C(1) << (type >> 12);
	tally->links.misplaced += cookie != dirent_cookie(check->state, name);
}

static void found(void *arg, const struct fsck_finding *finding)
{
	fault(arg, "%s", finding->text);
}

/* All that the tables have under one number. What its entries say of one that does not exist was told with them. */
static void check_number(struct check *check, const struct fsck_inode *inode)
{
	const struct fsck_report report = { found, check };
	const struct tally *tally = tally_of(check, inode->ino);

	fsck_check_inode(inode, &report);
	if (!tally)
		return;
	fsck_check_links(inode, &tally->links, &report);
	fsck_check_entries(inode, &tally->entries, &report);
}

static int check_numbers(struct check *check)
{
	struct fsck_inode *inode = malloc(sizeof(*inode));
	struct facts_walk walk;

	if (!inode)
		return -ENOMEM;
	facts_begin(check->state, 0, &walk);
	while (facts_next(&walk, inode) == 0)
		check_number(check, inode);
	facts_end(&walk);
	free(inode);
	return 0;
}

static void check_slot(struct check *check, struct bytes key, struct bytes value)
{
	struct unpack unpack = unpack_begin(key);
	uint64_t session = unpack_key64(&unpack);
	struct session_row row;

	(void)value;
	if (session_get(check->state->view, session, &row) < 0)
		fault(check, "a slot of session %" PRIx64 ", which does not exist", session);
}

int64_t state_check(struct state *state, void (*report)(void *arg, const char *text), void *arg)
{
	struct check check = { .state = state, .report = report, .arg = arg };
	uint64_t orphans = 0;
	struct bytes sessions;
	int err;

	each_row(&check, TABLE_INODE, count_inode);
	check.tallies = calloc(check.count + 1, sizeof(*check.tallies));
	if (!check.tallies)
		return -ENOMEM;
	check.count = 0;
	each_row(&check, TABLE_INODE, note_inode);
	each_row(&check, TABLE_DIRENT, check_dirent);
	err = check_numbers(&check);
	each_row(&check, TABLE_SLOT, check_slot);

	for (uint64_t ino = 0; orphan_from(state->view, ino, &ino, &sessions) == 0; ino++)
		orphans++;
	if (orphans != state->meta.orphans)
		fault(&check, "there are %" PRIu64 " orphans, but %" PRIu64 " were counted", orphans,
		      state->meta.orphans);
	if (check.count != state->meta.inodes)
		fault(&check, "there are %zu inodes, but %" PRIu64 " were counted", check.count, state->meta.inodes);
	if (!tally_of(&check, INODE_ROOT))
		fault(&check, "there is no root");
	free(check.tallies);
	return err < 0 ? err : check.faults;
}
