/*
 * Suspects are looked at again, each until it is cleared or what is wrong with it cannot be for any other reason.
 *
 * What the MDT has, and objects: the MDT is asked, then all OSTs, then the MDT again. Where it says the same both times, its
 * word held while the OSTs gave theirs (versions and the rows of the queues never come back to what they were), and what
 * does not fit is wrong. Otherwise once more.
 *
 * Links: they can lie in any directory, so all entries are walked again, for all suspects at once. An inode whose version
 * is not above the log's index at the walk's beginning had the same names all the time, for whatever changes its names
 * changes its version; so the walk has met each of them exactly once. One that was gone before the walk began does not
 * come back, since numbers are never used twice: an entry that names it is wrong. For the others another walk follows.
 *
 * Entries of a directory are counted by the MDT itself, at one moment; those of a directory too large for that like links.
 */
#include "client/fsck/internal.h"

#include "common/fiber.h"
#include "common/logger.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define TRIES_MAX       100 /* to find an inode that holds still while the OSTs are asked */
#define TRY_PAUSE_MAX   20  /* ms; one more after each */
#define OST_TRIES       30 /* so often an OST may be missing in our map, which may come a little later than the MDT's */
#define ROUNDS_MAX      20
#define ROUND_PAUSE     10 /* ms after the first, and twice as long after each next, to: */
#define ROUND_PAUSE_MAX 320
#define KEPT_MAX        1024

/* Findings that are believed if the MDT says the same again. */
struct kept {
	struct fsck_finding *list;
	size_t count, room, more;
	bool no_memory;
};

static void keep(void *arg, const struct fsck_finding *finding)
{
	struct kept *kept = arg;

	if (kept->count == KEPT_MAX) {
		kept->more++;
		return;
	}
	if (kept->count == kept->room) {
		size_t room = kept->room ? kept->room * 2 : 16;
		struct fsck_finding *list = reallocarray(kept->list, room, sizeof(*list));

		kept->no_memory |= !list;
		if (!list)
			return;
		kept->list = list;
		kept->room = room;
	}
	kept->list[kept->count++] = *finding;
}

static void tell(struct fsck *fsck, const struct kept *kept, uint64_t ino)
{
	for (size_t i = 0; i < kept->count; i++)
		fsck->report.found(fsck->report.arg, &kept->list[i]);
	if (kept->more > 0)
		fsck_found(&fsck->report, kept->list[kept->count - 1], "and %zu more of inode %" PRIu64, kept->more,
			   ino);
}

/* --- what the MDT has, and objects -------------------------------------------------------------------------------- */

/* All that the MDT has under a number now. */
struct facts {
	struct fsck_inode inode;
	struct mdt_moment moment;
	bool counted;
	struct fsck_entries entries;
};

static int ask_mdt(struct fsck *fsck, uint64_t ino, bool count, struct facts *facts)
{
	struct inode_list list;
	int err;

	inode_list_begin(&list, fsck->servers, ino, ino + 1, count);
	err = inode_list_next(&list, &facts->inode);
	if (err == -ENOENT) {
		fsck_inode_init(&facts->inode, ino);
		err = 0;
	}
	facts->inode.void_end = list.void_end;
	facts->moment = list.last;
	facts->counted = list.counted;
	facts->entries = list.entries;
	inode_list_end(&list);
	return err;
}

static int check_rows(struct fsck *fsck, const struct fsck_inode *inode, uint32_t ost, const struct fsck_report *report)
{
	struct row_list list;
	struct fsck_row row;
	int err;

	row_list_begin(&list, fsck->servers, ost, inode->ino, inode->ino + 1);
	while ((err = row_list_next(&list, &row)) == 0) {
		if (row.is_object)
			fsck_check_object(inode, &row.object, report);
		else
			fsck_check_content(inode, &row.content, report);
	}
	row_list_end(&list);
	return err == -ENOENT ? 0 : err;
}

static void check_objects(struct fsck *fsck, const struct fsck_inode *inode, const struct fsck_report *report)
{
	for (size_t i = 0; i < fsck->result->ost_count; i++) {
		uint32_t ost = fsck->result->osts[i].index;
		int err = fsck_is_given_up(fsck, ost) ? 0 : check_rows(fsck, inode, ost, report);

		if (err < 0)
			fsck_give_up(fsck, ost, err);
	}
}

static bool is_missing_ost(const struct fsck *fsck, const struct fsck_inode *inode)
{
	for (uint32_t i = 0; inode->exists && i < inode->layout.ost_count; i++) {
		if (!servers_have(fsck->servers, ROLE_OST, inode->layout.ost_indices[i]))
			return true;
	}
	return false;
}

/* One look. 0: nothing is wrong, or it is certain and told; -EAGAIN: it did not hold still. */
static int look_at_inode(struct fsck *fsck, struct suspect *suspect, struct facts *before, struct facts *after,
			 bool patient)
{
	struct kept kept = { .count = 0 };
	const struct fsck_report report = { keep, &kept };
	const struct fsck_inode *inode = &before->inode;
	bool count = (suspect->suspicion & SUSPECT_ENTRIES) != 0;
	int err = ask_mdt(fsck, suspect->ino, count, before);

	if (err < 0)
		return err;
	fsck_check_inode(inode, &report);
	fsck_check_osts(inode, fsck_ost_is_there, fsck, &report);
	if (count && before->counted)
		fsck_check_entries(inode, &before->entries, &report);
	if (suspect->suspicion & SUSPECT_OBJECTS)
		check_objects(fsck, inode, &report);
	if (kept.count > 0) {
		err = ask_mdt(fsck, suspect->ino, false, after);
		if (err == 0 &&
		    (!fsck_inode_equal(inode, &after->inode) || before->moment.instance != after->moment.instance ||
		     (patient && is_missing_ost(fsck, inode))))
			err = -EAGAIN;
		if (err == 0)
			tell(fsck, &kept, suspect->ino);
	}
	free(kept.list);
	if (err == 0 && kept.no_memory)
		err = -ENOMEM;
	if (err == 0) {
		/* Too many entries for one moment: those remain to be walked. */
		suspect->suspicion &= SUSPECT_LINKS | (count && !before->counted ? SUSPECT_ENTRIES : 0u);
		suspect->gone = !inode->exists;
	}
	return err;
}

static int settle_inode(struct fsck *fsck, struct suspect *suspect, struct facts *before, struct facts *after)
{
	for (unsigned int tries = 0; tries < TRIES_MAX; tries++) {
		int err = look_at_inode(fsck, suspect, before, after, tries < OST_TRIES);

		if (err != -EAGAIN)
			return err;
		fiber_sleep_ms(tries < TRY_PAUSE_MAX ? tries : TRY_PAUSE_MAX);
	}
	fsck->result->unsettled++;
	suspect->suspicion = 0;
	return 0;
}

static int settle_inodes(struct fsck *fsck, struct facts *before, struct facts *after)
{
	int err = 0;

	for (size_t i = 0; i < fsck->suspect_count && err == 0; i++) {
		if (fsck->suspects[i].suspicion & ~(unsigned int)SUSPECT_LINKS)
			err = settle_inode(fsck, &fsck->suspects[i], before, after);
	}
	return err;
}

/* --- links -------------------------------------------------------------------------------------------------------- */

/* Those that are still suspect move to the front. */
static void keep_suspects(struct fsck *fsck)
{
	size_t kept = 0;

	for (size_t i = 0; i < fsck->suspect_count; i++) {
		if (fsck->suspects[i].suspicion)
			fsck->suspects[kept++] = fsck->suspects[i];
		else
			free(fsck->suspects[i].name);
	}
	fsck->suspect_count = kept;
}

static int compare_suspect(const void *key, const void *element)
{
	uint64_t ino = *(const uint64_t *)key, other = ((const struct suspect *)element)->ino;

	return ino < other ? -1 : ino > other;
}

static struct suspect *find_suspect(const struct fsck *fsck, uint64_t ino)
{
	return bsearch(&ino, fsck->suspects, fsck->suspect_count, sizeof(*fsck->suspects), compare_suspect);
}

static int take_entry(struct fsck *fsck, const struct fsck_entry *entry)
{
	struct suspect *suspect = find_suspect(fsck, entry->ino);
	char name[256];

	if (suspect) {
		/* Told of is one that stands under a wrong hash, if any does. */
		bool told = entry->misplaced || suspect->links.misplaced == 0;

		fsck_links_add(&suspect->links, told ? entry->parent : suspect->links.parent, entry->type,
			       entry->misplaced);
		if (told) {
			free(suspect->name);
			suspect->name = strdup(fsck_printable(entry->name, entry->name_size, name, sizeof(name)));
			if (!suspect->name)
				return -ENOMEM;
		}
	}
	suspect = find_suspect(fsck, entry->parent);
	if (suspect) {
		suspect->entries.count++;
		suspect->entries.subdirs += entry->type == FSCK_TYPE_DIR;
	}
	return 0;
}

/* All entries, for those that are suspect. *ret_moment: when the walk began. */
static int walk(struct fsck *fsck, struct mdt_moment *ret_moment)
{
	struct entry_list list;
	struct fsck_entry entry;
	int err;

	for (size_t i = 0; i < fsck->suspect_count; i++) {
		fsck->suspects[i].links = (struct fsck_links){ 0 };
		fsck->suspects[i].entries = (struct fsck_entries){ 0 };
	}
	entry_list_begin(&list, fsck->servers, true);
	while ((err = entry_list_next(&list, &entry)) == 0) {
		err = take_entry(fsck, &entry);
		if (err < 0)
			break;
	}
	*ret_moment = list.first;
	entry_list_end(&list);
	return err == -ENOENT ? 0 : err;
}

/* Cleared, guilty, or to be walked once more. */
static int judge(struct fsck *fsck, struct suspect *suspect, const struct mdt_moment *moment, struct facts *facts)
{
	struct kept kept = { .count = 0 };
	const struct fsck_report report = { keep, &kept };
	const struct fsck_inode *inode = &facts->inode;
	bool was_gone = suspect->gone, held_still;
	int err = ask_mdt(fsck, suspect->ino, false, facts);

	if (err < 0)
		return err;
	suspect->links.name = suspect->name;
	if (suspect->suspicion & SUSPECT_LINKS)
		fsck_check_links(inode, &suspect->links, &report);
	if (suspect->suspicion & SUSPECT_ENTRIES)
		fsck_check_entries(inode, &suspect->entries, &report);
	suspect->gone = !inode->exists;
	held_still = facts->moment.instance == moment->instance &&
		     (inode->exists ? inode->version <= moment->index : was_gone);
	if (kept.count == 0 || held_still) {
		tell(fsck, &kept, suspect->ino);
		suspect->suspicion = 0;
	}
	free(kept.list);
	return kept.no_memory ? -ENOMEM : 0;
}

/* What an MDT has forgotten of before its restart may have been a lost tail's. */
static void forget_gone(struct fsck *fsck, uint64_t instance)
{
	if (fsck->instance == instance)
		return;
	for (size_t i = 0; i < fsck->suspect_count; i++)
		fsck->suspects[i].gone = false;
	fsck->instance = instance;
}

static int settle_links(struct fsck *fsck, struct facts *facts)
{
	unsigned int pause_ms = ROUND_PAUSE;
	struct mdt_moment moment;
	int err = 0;

	for (int round = 0; round < ROUNDS_MAX && err == 0; round++) {
		keep_suspects(fsck);
		if (fsck->suspect_count == 0)
			return 0;
		log_debug("walk %d: the links of %zu suspects", round + 1, fsck->suspect_count);
		if (round > 0)
			fiber_sleep_ms(pause_ms);
		pause_ms = pause_ms < ROUND_PAUSE_MAX ? pause_ms * 2 : ROUND_PAUSE_MAX;
		err = walk(fsck, &moment);
		if (err == -ESTALE) {
			err = 0; /* the MDT was restarted: this round does not count for anything */
			continue;
		}
		forget_gone(fsck, moment.instance);
		for (size_t i = 0; i < fsck->suspect_count && err == 0; i++)
			err = judge(fsck, &fsck->suspects[i], &moment, facts);
	}
	if (err < 0)
		return err;
	keep_suspects(fsck);
	fsck->result->unsettled += fsck->suspect_count;
	return 0;
}

int fsck_again(struct fsck *fsck)
{
	struct facts *facts = malloc(2 * sizeof(*facts));
	int err = facts ? settle_inodes(fsck, &facts[0], &facts[1]) : -ENOMEM;

	if (err == 0)
		err = settle_links(fsck, facts);
	free(facts);
	return err;
}
