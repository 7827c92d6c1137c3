#include "oss/ost_file.h"

#include "oss/object_path.h"
#include "oss/ost.h"
#include "oss/ost_object.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#define COUNT_BATCH 512

static struct ost_file **bucket(struct ost *ost, uint64_t ino, uint64_t gen)
{
	uint64_t hash = (ino ^ (gen << 1)) * UINT64_C(0x9e3779b97f4a7c15);

	return &ost->file_buckets[(hash >> 32) & (OST_FILE_BUCKETS - 1)];
}

struct ost_file *file_find(struct ost *ost, uint64_t ino, uint64_t gen)
{
	struct ost_file *file = *bucket(ost, ino, gen);

	while (file && (file->ino != ino || file->gen != gen))
		file = file->bucket_next;

	return file;
}

static void idle_remove(struct ost_file *file)
{
	struct ost *ost = file->ost;

	if (!file->idle)
		return;
	if (file->idle_prev)
		file->idle_prev->idle_next = file->idle_next;
	else
		ost->file_idle_first = file->idle_next;
	if (file->idle_next)
		file->idle_next->idle_prev = file->idle_prev;
	else
		ost->file_idle_last = file->idle_prev;
	file->idle = false;
}

static void idle_append(struct ost_file *file)
{
	struct ost *ost = file->ost;

	file->idle_prev = ost->file_idle_last;
	file->idle_next = NULL;
	if (ost->file_idle_last)
		ost->file_idle_last->idle_next = file;
	else
		ost->file_idle_first = file;
	ost->file_idle_last = file;
	file->idle = true;
}

static void file_free(struct ost_file *file)
{
	struct ost_file **link = bucket(file->ost, file->ino, file->gen);

	assert(file->refs == 0 && !file->objects && share_lock_is_free(&file->lock));
	idle_remove(file);
	while (*link != file)
		link = &(*link)->bucket_next;
	*link = file->bucket_next;
	file->ost->file_count--;
	free(file);
}

/* What the index knows of it. */
static void file_load(struct ost_file *file)
{
	struct index *index = file->ost->index;
	struct index_object first;
	uint64_t seq;

	if (index_get_file(index, file->ino, file->gen, &file->row) == 0)
		file->stripe_size = file->row.stripe_size;
	if (ost_is_void(file->ost, file->gen))
		file->row.destroyed = true;
	/* It may have been in memory before, with changes that are not committed. */
	file->last_change = index_last_change(index);
	file->cut_change = index_file_change(index, file->ino, file->gen);
	if (index_next_object(index, file->ino, file->gen, 0, &seq, &first) == -ENOENT)
		file->counted = true;
	else if (first.stripe_size != 0)
		file->stripe_size = first.stripe_size;
}

int file_get(struct ost *ost, uint64_t ino, uint64_t gen, struct ost_file **ret_file)
{
	struct ost_file *file = file_find(ost, ino, gen);
	struct ost_file **link;

	if (!file) {
		file = calloc(1, sizeof(*file));
		if (!file)
			return -ENOMEM;
		file->ost = ost;
		file->ino = ino;
		file->gen = gen;
		file_load(file);
		link = bucket(ost, ino, gen);
		file->bucket_next = *link;
		*link = file;
		ost->file_count++;
	}
	idle_remove(file);
	file->refs++;
	*ret_file = file;

	return 0;
}

void file_put(struct ost_file *file)
{
	struct ost *ost = file->ost;

	assert(file->refs > 0);
	if (--file->refs > 0)
		return;
	idle_append(file);
	if (ost->file_count > FILES_IDLE_MAX && ost->file_idle_first)
		file_free(ost->file_idle_first);
}

void file_forget_idle(struct ost *ost)
{
	while (ost->file_idle_first)
		file_free(ost->file_idle_first);
}

static int check(struct ost_file *file, uint64_t stripe_size, const Strake__Cut *cut, bool write)
{
	if (file->row.destroyed)
		return -ESTALE;
	if (file->stripe_size != 0 && file->stripe_size != stripe_size)
		return -EINVAL;
	if (write && (cut ? cut->number : 0) < file->row.cut)
		return -ESTALE;

	return 0;
}

int file_enter(struct ost *ost, uint64_t ino, uint64_t gen, uint64_t stripe_size, const Strake__Cut *cut, bool write,
	       struct ost_file **ret_file)
{
	struct ost_file *file;
	int err = file_get(ost, ino, gen, &file);

	if (err < 0)
		return err;
	for (;;) {
		share_lock_shared(&file->lock);
		err = check(file, stripe_size, cut, write);
		if (err == 0 && (!cut || cut->number <= file->row.cut))
			break;
		share_unlock_shared(&file->lock);
		if (err == 0)
			err = file_cut(file, stripe_size, cut);
		if (err < 0) {
			file_put(file);
			return err;
		}
	}
	file->stripe_size = stripe_size;
	*ret_file = file;

	return 0;
}

void file_leave(struct ost_file *file)
{
	share_unlock_shared(&file->lock);
	file_put(file);
}

/* --- counting --------------------------------------------------------------------------------------------------------- */

/* Files to look at, on the helper. */
struct count_batch {
	struct ost_file *file;
	size_t count;
	uint64_t seq[COUNT_BATCH];
	uint64_t end, blocks;
};

static int count_batch_run(void *arg)
{
	struct count_batch *batch = arg;

	for (size_t i = 0; i < batch->count; i++) {
		char path[OBJECT_PATH_SIZE];
		struct stat st;

		object_path(batch->file->ino, batch->file->gen, batch->seq[i], path);
		if (fstatat(batch->file->ost->objects_dir, path, &st, AT_SYMLINK_NOFOLLOW) < 0) {
			if (errno == ENOENT)
				continue; /* lost: who reads it is told */
			return -errno;
		}
		batch->blocks += (uint64_t)st.st_blocks;
		if (st.st_size > 0)
			batch->end = batch->seq[i] * batch->file->stripe_size + (uint64_t)st.st_size;
	}
	batch->count = 0;

	return 0;
}

/* Alone in it, so that nothing changes meanwhile. */
static int file_count(struct ost_file *file)
{
	struct count_batch *batch = calloc(1, sizeof(*batch));
	struct index_object row;
	uint64_t seq = 0, memory_end = 0;
	int err = 0;

	if (!batch)
		return -ENOMEM;
	batch->file = file;
	while (err == 0 && index_next_object(file->ost->index, file->ino, file->gen, seq, &seq, &row) == 0) {
		struct ost_object *object = object_find(file, seq);

		if (object) {
			batch->blocks += object->blocks;
			if (object->size > 0)
				memory_end = seq * file->stripe_size + object->size;
		} else {
			batch->seq[batch->count++] = seq;
		}
		if (batch->count == COUNT_BATCH)
			err = helper_run(file->ost->helper, count_batch_run, batch);
		seq++;
	}
	if (err == 0 && batch->count > 0)
		err = helper_run(file->ost->helper, count_batch_run, batch);
	if (err == 0) {
		file->blocks = batch->blocks;
		file->end = batch->end > memory_end ? batch->end : memory_end;
		/* Where objects lie is known only with the stripe size; some request will bring it. */
		file->counted = file->stripe_size != 0;
		if (!file->counted)
			file->end = 0;
	}
	free(batch);

	return err < 0 ? ost_io_error(file->ost, err) : 0;
}

int file_totals(struct ost_file *file, uint64_t *ret_end, uint64_t *ret_blocks)
{
	int err = 0;

	if (!file->counted) {
		share_lock_exclusive(&file->lock);
		if (!file->counted)
			err = file_count(file);
		share_unlock_exclusive(&file->lock);
		if (err < 0)
			return err;
	}
	*ret_end = file->end;
	*ret_blocks = file->blocks;

	return 0;
}
