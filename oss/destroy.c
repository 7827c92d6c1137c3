/*
 * DESTROY: all objects of (ino, gen) go, and a tombstone stays, so that a late write does not bring one back.
 *
 *   1. each file: alone in it, its rows leave the index and the tombstone enters it; from then on everybody gets ESTALE
 *   2. the index is synced, once for all of the request
 *   3. the files are unlinked
 *
 * A crash before 3 leaves files that the index does not know and a tombstone dooms: index_recover() unlinks them. Their
 * folders need no sync now, but before the tombstone goes: ost_sweep_tombstones().
 */
#include "oss/fan_out.h"
#include "oss/operations.h"
#include "oss/ost_object.h"

#include <errno.h>
#include <stdlib.h>

#define UNLINK_WIDTH 8
#define YIELD_EVERY  512 /* rows between two looks at what else there is to do */
#define SWEEP_MAX    256 /* tombstones per sweep */

struct victim {
	uint64_t ino, gen, seq;
};

struct victims {
	struct ost *ost;
	struct victim *list;
	size_t count, room;
};

static int add_victim(struct victims *victims, uint64_t ino, uint64_t gen, uint64_t seq)
{
	if (victims->count == victims->room) {
		size_t room = victims->room ? victims->room * 2 : 64;
		struct victim *list = realloc(victims->list, room * sizeof(*list));

		if (!list)
			return -ENOMEM;
		victims->list = list;
		victims->room = room;
	}
	victims->list[victims->count++] = (struct victim){ ino, gen, seq };

	return 0;
}

/* Step 1, alone in the file. */
static int bury(struct victims *victims, struct ost_file *file, uint64_t newest_session)
{
	struct index *index = victims->ost->index;
	size_t first = victims->count;
	struct index_object row;
	uint64_t seq = 0;
	int err = 0;

	while (err == 0 && index_next_object(index, file->ino, file->gen, seq, &seq, &row) == 0) {
		err = add_victim(victims, file->ino, file->gen, seq++);
		if (err == 0 && victims->count % YIELD_EVERY == 0)
			fiber_yield();
	}
	if (err < 0) {
		victims->count = first;
		return err;
	}
	ost_ledger_make_room(victims->ost, 0);
	ledger_note_zeroed(victims->ost->ledger, file->ino, file->gen, 1, 0, UINT64_MAX);
	while (file->objects)
		object_forget(file->objects);
	for (size_t i = first; i < victims->count; i++)
		index_delete_object(index, file->ino, file->gen, victims->list[i].seq);
	if (!file->row.destroyed || file->row.newest_session < newest_session) {
		file->row = (struct index_file){ .destroyed = true, .newest_session = newest_session };
		index_put_file(index, file->ino, file->gen, file->row);
	}
	file->last_change = index_last_change(index);
	file->counted = true;
	file->end = file->blocks = 0;

	return 0;
}

static int unlink_one(void *arg, size_t i)
{
	const struct victims *victims = arg;
	char path[OBJECT_PATH_SIZE];
	int err;

	object_path(victims->list[i].ino, victims->list[i].gen, victims->list[i].seq, path);
	err = disk_unlinkat(victims->ost->disk, victims->ost->objects_dir, path);
	if (err < 0 && err != -ENOENT)
		victims->ost->left_behind = true;

	return err == -ENOENT ? 0 : err;
}

static int destroy_all(struct victims *victims, const uint64_t *inos, const uint64_t *gens, size_t count,
		       uint64_t newest_session)
{
	struct ost *ost = victims->ost;
	uint64_t last = 0;
	int err = 0, sync_err;

	for (size_t i = 0; i < count && err == 0; i++) {
		struct ost_file *file;

		err = file_get(ost, inos[i], gens[i], &file);
		if (err < 0)
			break;
		share_lock_exclusive(&file->lock);
		err = bury(victims, file, newest_session);
		last = file->last_change > last ? file->last_change : last;
		share_unlock_exclusive(&file->lock);
		file_put(file);
	}
	sync_err = index_sync(ost->index, last);
	/* Also after an error: what was buried is dead in any case, and on a full disk this makes room. */
	if (err == 0)
		err = fan_out(ost->loop, victims->count, UNLINK_WIDTH, unlink_one, victims);
	else
		(void)fan_out(ost->loop, victims->count, UNLINK_WIDTH, unlink_one, victims);
	if (sync_err < 0 && victims->count > 0)
		sync_err = index_sync(ost->index, last);

	return err < 0 ? err : sync_err;
}

int ost_destroy_contents(struct ost *ost, const uint64_t *inos, const uint64_t *gens, size_t count,
			 uint64_t newest_session)
{
	struct victims victims = { .ost = ost };
	int err;

	fiber_mutex_lock(&ost->destroying);
	err = destroy_all(&victims, inos, gens, count, newest_session);
	fiber_mutex_unlock(&ost->destroying);
	free(victims.list);

	return err < 0 ? ost_io_error(ost, err) : 0;
}

void ost_destroy(struct ost *ost, struct request *request)
{
	const Strake__DestroyRequest *destroy = (const Strake__DestroyRequest *)request->body;
	int err = destroy->n_ino != destroy->n_gen ? -EINVAL : 0;

	for (size_t i = 0; i < destroy->n_ino && err == 0; i++)
		err = ost_check_file(destroy->ino[i], destroy->gen[i]);
	if (err == 0)
		err = ost_destroy_contents(ost, destroy->ino, destroy->gen, destroy->n_ino, destroy->newest_session);
	service_reply_error(request, err);
}

/* The folders of these files, each once. */
static int sync_folders(struct ost *ost, const struct victims *victims)
{
	bool wanted[OBJECT_FOLDERS] = { false };
	int err = 0;

	for (size_t i = 0; i < victims->count; i++)
		wanted[object_folder(victims->list[i].ino, victims->list[i].gen)] = true;
	for (unsigned int folder = 0; folder < OBJECT_FOLDERS && err == 0; folder++) {
		if (wanted[folder])
			err = object_sync_folder(ost, folder);
	}

	return err;
}

static void forget_tombstone(struct ost *ost, uint64_t ino, uint64_t gen)
{
	struct ost_file *file = file_find(ost, ino, gen);

	index_drop_tombstone(ost->index, ino, gen);
	if (file)
		file->row = (struct index_file){ .destroyed = ost_is_void(ost, gen) };
}

void ost_sweep_tombstones(struct ost *ost)
{
	uint64_t lowest = session_table_lowest(&ost->sessions);
	struct index_key key = index_tombstone_key(0, 0, 0);
	struct victims victims = { .ost = ost };

	if (ost->left_behind)
		return;
	fiber_mutex_lock(&ost->destroying);
	while (victims.count < SWEEP_MAX && index_next_tombstone(ost->index, lowest, &key) == 0) {
		if (add_victim(&victims, key.part[1], key.part[2], 0) < 0)
			break;
		key.part[2]++; /* a gen is never all ones */
	}
	if (victims.count > 0 && sync_folders(ost, &victims) == 0) {
		for (size_t i = 0; i < victims.count; i++)
			forget_tombstone(ost, victims.list[i].ino, victims.list[i].gen);
	}
	fiber_mutex_unlock(&ost->destroying);
	free(victims.list);
}
