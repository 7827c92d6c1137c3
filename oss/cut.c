/*
 * CUT: zero a range of a file, durably, once. Happy path of file_cut(), alone in the file:
 *
 *   1. objects that the range covers in part: truncate or punch them, sync them
 *   2. objects that it covers whole: their rows leave the index, the cut enters it, in one commit that is synced
 *   3. the files of the latter are unlinked, their folder is synced
 *
 * A crash
 *   before 2: the cut is not known here; the MDT (or a client that knows it) brings it again, 1 does no harm twice
 *   in 2:     either of the two
 *   before 3: files that the index does not know and the cut dooms: index_recover() unlinks them
 *
 * A punch keeps the file's last object here, and its size, even where it empties it whole: GLIMPSE tells the file's end
 * by it.
 */
#include "common/layout.h"
#include "common/logger.h"
#include "oss/fan_out.h"
#include "oss/operations.h"
#include "oss/ost_object.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define UNLINK_WIDTH 8
#define ZERO_SIZE    (256u * 1024)
#define ROOM_ALIGN   4096u /* blocks come in this many bytes, mostly */

/* What goes whole. */
struct doomed {
	struct ost_file *file;
	uint64_t *seqs;
	size_t count, room;
};

/* The slow way, for filesystems that cannot punch. */
static int write_zeros(struct ost_object *object, uint64_t start, uint64_t end)
{
	uint8_t *zeros = calloc(1, ZERO_SIZE);
	int err = 0;

	if (!zeros)
		return -ENOMEM;
	while (err == 0 && start < end) {
		size_t size = end - start < ZERO_SIZE ? (size_t)(end - start) : ZERO_SIZE;

		err = disk_pwrite(object->file->ost->disk, object->fd, zeros, size, start);
		start += size;
	}
	free(zeros);

	return err;
}

/* ALLOCATE has made room behind its end. */
static bool has_room(const struct ost_object *object)
{
	return object->blocks * 512 > (object->size + ROOM_ALIGN - 1) / ROOM_ALIGN * ROOM_ALIGN;
}

/*
 * Zero [start, end) of one object; to the end of time where the cut is a truncate. Room that was allocated there goes, too,
 * behind the object's end as well. A filesystem punches nothing there, so the end moves first: the punch lies within the
 * file, so GLIMPSE tells nothing wrong.
 */
static int zero_part(struct ost_object *object, uint64_t start, uint64_t end, bool truncate)
{
	struct ost *ost = object->file->ost;
	int err;

	if (truncate && (start < object->size || has_room(object)))
		return object_set_size(object, start < object->size ? start : object->size);
	if (!truncate && end > object->size && has_room(object)) {
		err = object_set_size(object, end);
		if (err < 0)
			return err;
	} else if (start >= object->size) {
		return 0;
	}
	err = disk_fallocate(ost->disk, object->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, start, end - start);
	if (err == -EOPNOTSUPP || err == -ENOSYS)
		err = write_zeros(object, start, end < object->size ? end : object->size);

	return err;
}

/* The index knows it, but its file is gone: damage, which reads and writes report. A cut has nothing to zero there. */
static bool is_lost(struct ost_file *file, uint64_t seq)
{
	char path[OBJECT_PATH_SIZE];
	int fd;

	object_path(file->ino, file->gen, seq, path);
	fd = disk_openat(file->ost->disk, file->ost->objects_dir, path, O_PATH | O_CLOEXEC, 0);
	if (fd >= 0)
		close(fd); /* of an O_PATH descriptor: waits for nothing */
	return fd == -ENOENT;
}

static int cut_object(struct ost_file *file, uint64_t seq, uint64_t start, uint64_t end, bool truncate)
{
	struct ost_object *object;
	struct object_turn turn;
	int err = object_get(file, seq, false, &object);

	if (err == -EIO && is_lost(file, seq))
		return 0;
	if (err < 0)
		return err;
	object_begin(object, &turn, start, end, true, false);
	err = zero_part(object, start, end, truncate);
	object_was_cut(object);
	object_end(object, &turn);
	if (err == 0)
		err = object_commit(object);
	else
		err = ost_io_error(file->ost, err);
	object_put(object);

	return err;
}

static int doom(struct doomed *doomed, uint64_t seq)
{
	if (doomed->count == doomed->room) {
		size_t room = doomed->room ? doomed->room * 2 : 64;
		uint64_t *seqs = realloc(doomed->seqs, room * sizeof(*seqs));

		if (!seqs)
			return -ENOMEM;
		doomed->seqs = seqs;
		doomed->room = room;
	}
	doomed->seqs[doomed->count++] = seq;

	return 0;
}

/* Step 1: parts are zeroed, wholes noted. */
static int cut_parts(struct ost_file *file, uint64_t stripe_size, uint64_t start, uint64_t end, struct doomed *doomed)
{
	struct index *index = file->ost->index;
	bool truncate = end == UINT64_MAX;
	struct index_object row;
	uint64_t seq = start / stripe_size, after;
	uint32_t from, to;
	int err = 0;

	while (err == 0 && index_next_object(index, file->ino, file->gen, seq, &seq, &row) == 0) {
		if (!layout_object_range(stripe_size, seq, start, end, &from, &to))
			break;
		if (from == 0 && to == stripe_size &&
		    (truncate || index_next_object(index, file->ino, file->gen, seq + 1, &after, &row) == 0))
			err = doom(doomed, seq);
		else
			err = cut_object(file, seq, from, to, truncate);
		seq++;
	}

	return err;
}

static int unlink_one(void *arg, size_t i)
{
	const struct doomed *doomed = arg;
	const struct ost_file *file = doomed->file;
	char path[OBJECT_PATH_SIZE];
	int err;

	object_path(file->ino, file->gen, doomed->seqs[i], path);
	err = disk_unlinkat(file->ost->disk, file->ost->objects_dir, path);

	return err == -ENOENT ? 0 : err;
}

static bool leaves_some(const struct ost_file *file)
{
	const struct ost *ost = file->ost;

	for (size_t i = 0; i < ost->left_cut_count; i++)
		if (ost->left_cuts[i].ino == file->ino && ost->left_cuts[i].gen == file->gen)
			return true;

	return false;
}

/* Some of what the file's last cut dooms is still there. */
static void note_left(const struct ost_file *file)
{
	struct ost *ost = file->ost;
	struct left_cut *list = reallocarray(ost->left_cuts, ost->left_cut_count + 1, sizeof(*list));

	if (!list)
		logger_die("no memory to remember what could not be unlinked");
	list[ost->left_cut_count++] = (struct left_cut){ file->ino, file->gen };
	ost->left_cuts = list;
	ost->left_behind = true;
}

/* Step 3. */
static int unlink_doomed(struct doomed *doomed)
{
	struct ost_file *file = doomed->file;
	int err;

	if (doomed->count == 0)
		return 0;
	err = fan_out(file->ost->loop, doomed->count, UNLINK_WIDTH, unlink_one, doomed);
	if (err == 0)
		err = object_sync_folder(file->ost, object_folder(file->ino, file->gen));
	if (err < 0)
		note_left(file);

	return err < 0 ? ost_io_error(file->ost, err) : 0;
}

/* Step 2; with a full disk it may fail although it is done in memory, and is tried again by whoever asks next. */
static int enter_cut(struct ost_file *file, const struct doomed *doomed, struct index_file row)
{
	struct index *index = file->ost->index;

	for (size_t i = 0; i < doomed->count; i++) {
		struct ost_object *object = object_find(file, doomed->seqs[i]);

		/* First: a commit of all objects asks for nobody's lock, and would enter a new one again. */
		if (object)
			object_forget(object);
		index_delete_object(index, file->ino, file->gen, doomed->seqs[i]);
	}
	index_put_file(index, file->ino, file->gen, row);
	file->row = row;
	file->last_change = file->cut_change = index_last_change(index);

	return doomed->count > 0 ? index_sync(index, file->last_change) : 0;
}

/* Alone in the file. */
static int apply(struct ost_file *file, uint64_t stripe_size, uint64_t number, uint64_t start, uint64_t end)
{
	struct index_file row = {
		.cut = number,
		.cut_start = start,
		.cut_end = end,
		.stripe_size = stripe_size,
	};
	struct doomed doomed = { .file = file };
	int err, unlink_err;

	file->stripe_size = stripe_size;
	ost_ledger_make_room(file->ost, 0);
	ledger_note_zeroed(file->ost->ledger, file->ino, file->gen, stripe_size, start, end);
	err = cut_parts(file, stripe_size, start, end, &doomed);
	if (err == 0) {
		file->counted = false;
		err = enter_cut(file, &doomed, row);
		/* Also after ENOSPC: it makes room. */
		unlink_err = unlink_doomed(&doomed);
		if (err == 0)
			err = unlink_err;
	}
	free(doomed.seqs);

	return err;
}

int file_cut(struct ost_file *file, uint64_t stripe_size, const Strake__Cut *cut)
{
	int err = 0;

	if (!cut->has_start || !cut->has_end || cut->start >= cut->end)
		return -EINVAL;
	share_lock_exclusive(&file->lock);
	if (file->row.destroyed)
		err = -ESTALE;
	else if (file->stripe_size != 0 && file->stripe_size != stripe_size)
		err = -EINVAL;
	else if (cut->number > file->row.cut && leaves_some(file))
		err = ost_io_error(file->ost, -EIO);
	else if (cut->number > file->row.cut)
		err = apply(file, stripe_size, cut->number, cut->start, cut->end);
	share_unlock_exclusive(&file->lock);

	return err;
}

void ost_cut(struct ost *ost, struct request *request)
{
	const Strake__CutRequest *cut = (const Strake__CutRequest *)request->body;
	struct ost_file *file;
	int err = ost_check_file(cut->ino, cut->gen);

	if (err == 0)
		err = ost_check_stripe(cut->stripe_size);
	if (err == 0 && cut->cut->number == 0)
		err = -EINVAL;
	if (err == 0)
		err = file_get(ost, cut->ino, cut->gen, &file);
	if (err < 0) {
		service_reply_error(request, err);
		return;
	}
	err = file_cut(file, cut->stripe_size, cut->cut);
	if (err == -ESTALE)
		err = 0; /* destroyed meanwhile: there is nothing left to cut */
	if (err == 0)
		err = index_sync(ost->index, file->last_change);
	file_put(file);
	service_reply_error(request, err);
}
