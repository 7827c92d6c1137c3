/*
 * One run: the first look at everything (entries, then all other streams side by side), the OSTs' folders, and then again
 * what was suspect.
 */
#include "client/fsck/fsck.h"

#include "client/fsck/internal.h"
#include "common/logger.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RESTARTS_MAX 10 /* of the MDT while we look */

/* --- OSTs --------------------------------------------------------------------------------------------------------- */

bool fsck_ost_is_there(void *arg, uint32_t ost)
{
	const struct fsck *fsck = arg;

	return servers_have(fsck->servers, ROLE_OST, ost);
}

static struct fsck_ost *find_ost(const struct fsck *fsck, uint32_t index)
{
	struct fsck_result *result = fsck->result;

	for (size_t i = 0; i < result->ost_count; i++) {
		if (result->osts[i].index == index)
			return &result->osts[i];
	}
	return NULL;
}

static void give_up_because(struct fsck *fsck, struct fsck_ost *ost, const char *why)
{
	char text[512];

	if (ost->unchecked)
		return;
	ost->unchecked = true;
	snprintf(ost->why, sizeof(ost->why), "%s", why);
	snprintf(text, sizeof(text), "OST %" PRIu32 " cannot be checked: %s", ost->index, why);
	fsck->options->note(fsck->options->arg, text);
}

void fsck_give_up(struct fsck *fsck, uint32_t index, int err)
{
	struct fsck_ost *ost = find_ost(fsck, index);

	if (ost)
		give_up_because(fsck, ost, servers_reason(fsck->servers, ROLE_OST, index, err));
}

bool fsck_is_given_up(const struct fsck *fsck, uint32_t index)
{
	const struct fsck_ost *ost = find_ost(fsck, index);

	return ost && ost->unchecked;
}

/* Why the MDT's lists ended with that, in words; borrowed until the fiber next waits. */
static const char *mdt_reason(const struct fsck *fsck, int err)
{
	return servers_reason(fsck->servers, ROLE_MDT, 0, err);
}

static int take_map(struct fsck *fsck)
{
	const Strake__ClusterMap *map = servers_map(fsck->servers);
	struct fsck_result *result = fsck->result;

	snprintf(result->fs_name, sizeof(result->fs_name), "%s", map->fs_name);
	if (uuid_from_bytes(map->fs_uuid.data, map->fs_uuid.len, &result->fs) < 0)
		return -EBADMSG;
	result->osts = calloc(map->n_target + 1, sizeof(*result->osts));
	if (!result->osts)
		return -ENOMEM;
	for (size_t i = 0; i < map->n_target; i++) {
		const Strake__Target *target = map->target[i];
		struct fsck_ost *ost = &result->osts[result->ost_count];

		if (target->role != STRAKE__TARGET_ROLE__TARGET_OST)
			continue;
		ost->index = target->index;
		result->ost_count++;
		if (target->state == STRAKE__TARGET_STATE__TARGET_DOWN)
			give_up_because(fsck, ost, "it is down");
	}
	return 0;
}

/* --- the first look ----------------------------------------------------------------------------------------------- */

struct look {
	struct fsck *fsck;
	struct mdt_moment moment; /* when it began */
	uint64_t fresh;
	struct sorter *sorter;
	struct inode_list inodes;
	struct fsck_inode *inode; /* of the stream */
	struct row_list *rows;    /* one per OST */
};

/* The sorter's errors are this machine's, not the MDT's. */
static int local(struct fsck *fsck, int err)
{
	if (err < 0 && err != -ENOENT)
		fsck->is_local = true;
	return err;
}

static int flush_directory(struct look *look, struct sorted *directory)
{
	int err = directory->other > 0 ? local(look->fsck, sorter_add(look->sorter, directory)) : 0;

	*directory = (struct sorted){ .kind = SORTED_ENTRIES };
	return err;
}

static int add_entry(struct look *look, const struct fsck_entry *entry, struct sorted *directory)
{
	const struct sorted link = {
		.ino = entry->ino,
		.other = entry->parent,
		.kind = SORTED_LINK,
		.type = entry->type,
		.misplaced = entry->misplaced,
	};
	int err = 0;

	if (directory->ino != entry->parent)
		err = flush_directory(look, directory);
	directory->ino = entry->parent;
	directory->other++;
	directory->subdirs += entry->type == FSCK_TYPE_DIR;
	return err < 0 ? err : local(look->fsck, sorter_add(look->sorter, &link));
}

static int collect_links(struct look *look)
{
	struct sorted directory = { .kind = SORTED_ENTRIES };
	struct entry_list list;
	struct fsck_entry entry;
	uint64_t count = 0;
	int err;

	entry_list_begin(&list, look->fsck->servers, false);
	while ((err = entry_list_next(&list, &entry)) == 0) {
		err = add_entry(look, &entry, &directory);
		if (err < 0)
			break;
		count++;
	}
	if (err == -ENOENT)
		err = flush_directory(look, &directory);
	look->moment = list.first;
	look->fsck->instance = list.first.instance;
	look->fresh = list.fresh;
	look->fsck->result->entries = count;
	entry_list_end(&list);
	return err;
}

static int look_inode(void *arg, const struct fsck_inode **ret_inode)
{
	struct look *look = arg;
	int err = inode_list_next(&look->inodes, look->inode);

	*ret_inode = look->inode;
	if (err == 0 && look->inodes.first.instance != look->moment.instance)
		err = -ESTALE;
	return err;
}

static int look_link(void *arg, struct sorted *ret_link)
{
	struct look *look = arg;

	return local(look->fsck, sorter_next(look->sorter, ret_link));
}

static int look_row(void *arg, unsigned int source, struct fsck_row *ret_row)
{
	struct look *look = arg;

	if (look->fsck->result->osts[source].unchecked)
		return -ENOENT;
	return row_list_next(&look->rows[source], ret_row);
}

static bool look_ost(void *arg, uint32_t ost)
{
	const struct look *look = arg;

	return fsck_ost_is_there(look->fsck, ost);
}

static int add_suspect(void *arg, uint64_t ino, unsigned int suspicion, bool exists)
{
	struct fsck *fsck = ((struct look *)arg)->fsck;
	struct suspect *suspects;

	if (fsck->suspect_count == SUSPECTS_MAX) {
		fsck->result->unsettled++;
		return 0;
	}
	if (fsck->suspect_count == fsck->suspect_room) {
		size_t room = fsck->suspect_room ? fsck->suspect_room * 2 : 256;

		suspects = reallocarray(fsck->suspects, room, sizeof(*suspects));
		if (!suspects)
			return -ENOMEM;
		fsck->suspects = suspects;
		fsck->suspect_room = room;
	}
	fsck->suspects[fsck->suspect_count++] = (struct suspect){ .ino = ino, .suspicion = suspicion, .gone = !exists };
	return 0;
}

static void row_broken(void *arg, unsigned int source, int err)
{
	struct look *look = arg;

	fsck_give_up(look->fsck, look->fsck->result->osts[source].index, err);
}

/* Where nothing at all has changed while we looked, sums are right, too. */
static void check_counts(const struct look *look)
{
	const struct fsck_totals *totals = &look->fsck->result->totals;
	const struct fsck_finding about = { .kind = FSCK_COUNT, .ost = -1 };

	if (!totals->root)
		fsck_found(&look->fsck->report,
			   (struct fsck_finding){ .kind = FSCK_NO_INODE, .ino = FSCK_ROOT, .ost = -1 },
			   "there is no root");
	if (look->inodes.last.index != look->moment.index)
		return;
	if (totals->inodes != look->inodes.inodes)
		fsck_found(&look->fsck->report, about, "there are %" PRIu64 " inodes, but the MDT has counted %" PRIu64,
			   totals->inodes, look->inodes.inodes);
	if (totals->orphans != look->inodes.orphans)
		fsck_found(&look->fsck->report, about,
			   "there are %" PRIu64 " orphans, but the MDT has counted %" PRIu64, totals->orphans,
			   look->inodes.orphans);
}

static int merge_all(struct look *look)
{
	struct fsck *fsck = look->fsck;
	const struct fsck_streams streams = {
		.arg = look,
		.inode = look_inode,
		.link = look_link,
		.row = look_row,
		.sources = (unsigned int)fsck->result->ost_count,
		.ost_is_there = look_ost,
		.fresh = look->fresh,
	};
	const struct fsck_sink sink = { .arg = look, .suspect = add_suspect, .broken = row_broken };
	int err;

	inode_list_begin(&look->inodes, fsck->servers, 0, UINT64_MAX, false);
	for (unsigned int i = 0; i < streams.sources; i++)
		row_list_begin(&look->rows[i], fsck->servers, fsck->result->osts[i].index, 0, UINT64_MAX);
	err = fsck_merge(&streams, &sink, &fsck->result->totals);
	if (err == 0)
		check_counts(look);
	for (unsigned int i = 0; i < streams.sources; i++)
		row_list_end(&look->rows[i]);
	inode_list_end(&look->inodes);
	return err;
}

static int look_once(struct fsck *fsck)
{
	struct look look = {
		.fsck = fsck,
		.inode = malloc(sizeof(*look.inode)),
		.rows = calloc(fsck->result->ost_count + 1, sizeof(*look.rows)),
	};
	int err = look.inode && look.rows ? sorter_new(fsck->options->memory, &look.sorter) : -ENOMEM;

	fsck->suspect_count = 0;
	fsck->result->unsettled = 0;
	if (err == 0)
		err = collect_links(&look);
	if (err == 0)
		err = merge_all(&look);
	sorter_free(look.sorter);
	free(look.rows);
	free(look.inode);
	return err;
}

/* Pieces from before a restart of the MDT and from after it do not belong together. */
static int look_at_all(struct fsck *fsck)
{
	int err = look_once(fsck);

	for (int restarts = 0; err == -ESTALE && restarts < RESTARTS_MAX; restarts++) {
		fsck->options->note(fsck->options->arg, "the MDS was restarted: looking at everything again");
		err = look_once(fsck);
	}
	return err;
}

/* --- folders ------------------------------------------------------------------------------------------------------ */

static void look_into_folders(struct fsck *fsck, const struct fsck_ost *ost)
{
	for (uint32_t folder = 0; folder < FSCK_FOLDERS && !ost->unchecked; folder++) {
		int err = fsck_folder(fsck->servers, ost->index, folder, &fsck->report);

		if (err < 0)
			fsck_give_up(fsck, ost->index, err);
	}
}

/* --- all of it ---------------------------------------------------------------------------------------------------- */

static void take_finding(void *arg, const struct fsck_finding *finding)
{
	struct fsck *fsck = arg;

	fsck->result->findings++;
	fsck->options->found(fsck->options->arg, finding);
}

static int check(struct fsck *fsck)
{
	int err = look_at_all(fsck);

	if (err < 0)
		return err;
	log_debug("%zu suspects", fsck->suspect_count);
	for (size_t i = 0; i < fsck->result->ost_count; i++)
		look_into_folders(fsck, &fsck->result->osts[i]);
	return fsck_again(fsck);
}

int fsck_run(struct loop *loop, const struct fsck_options *options, struct fsck_result *ret_result, char *error,
	     size_t error_size)
{
	struct fsck fsck = { .options = options, .result = ret_result, .report = { take_finding, &fsck } };
	int err;

	memset(ret_result, 0, sizeof(*ret_result));
	err = servers_open(loop, options->mgs, options->key, options->patience_ms, &fsck.servers, error, error_size);
	if (err < 0)
		return err;
	err = take_map(&fsck);
	if (err == 0)
		err = check(&fsck);
	if (err == -ESTALE)
		snprintf(error, error_size, "the MDS is restarted again and again");
	else if (err < 0 && (fsck.is_local || err == -ENOMEM))
		snprintf(error, error_size, "sorting the entries: %s", strerror(-err));
	else if (err < 0)
		snprintf(error, error_size, "the MDT cannot be checked: %s", mdt_reason(&fsck, err));
	for (size_t i = 0; i < fsck.suspect_count; i++)
		free(fsck.suspects[i].name);
	free(fsck.suspects);
	servers_close(fsck.servers);
	return err;
}

void fsck_result_release(struct fsck_result *result)
{
	free(result->osts);
	result->osts = NULL;
	result->ost_count = 0;
}
