#include "oss/ost_object.h"

#include "common/container_of.h"

#include "oss/fan_out.h"
#include "oss/object_path.h"
#include "oss/ost.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define CLEAN_LOOK_MAX    16 /* idle objects looked at for one that can be closed at once */
#define COMMIT_ONE_BY_ONE 16 /* more dirty objects than this are cheaper synced with the whole filesystem */

#define turn_of_op(pointer) container_of(pointer, struct object_turn, op)

static struct ost_object **bucket(const struct ost_file *file, uint64_t seq)
{
	uint64_t hash = (file->ino ^ (file->gen << 1) ^ (seq << 20)) * UINT64_C(0x9e3779b97f4a7c15);

	return &file->ost->object_buckets[(hash >> 32) & (OST_OBJECT_BUCKETS - 1)];
}

struct ost_object *object_find(struct ost_file *file, uint64_t seq)
{
	struct ost_object *object = *bucket(file, seq);

	while (object && (object->file != file || object->seq != seq))
		object = object->bucket_next;

	return object;
}

/* --- lists ------------------------------------------------------------------------------------------------------------ */

static void idle_remove(struct ost_object *object)
{
	struct ost *ost = object->file->ost;

	if (!object->idle)
		return;
	if (object->idle_prev)
		object->idle_prev->idle_next = object->idle_next;
	else
		ost->object_idle_first = object->idle_next;
	if (object->idle_next)
		object->idle_next->idle_prev = object->idle_prev;
	else
		ost->object_idle_last = object->idle_prev;
	object->idle = false;
}

static void idle_append(struct ost_object *object)
{
	struct ost *ost = object->file->ost;

	object->idle_prev = ost->object_idle_last;
	object->idle_next = NULL;
	if (ost->object_idle_last)
		ost->object_idle_last->idle_next = object;
	else
		ost->object_idle_first = object;
	ost->object_idle_last = object;
	object->idle = true;
}

/* Into the tables: it can be found. */
static void enlist(struct ost_object *object)
{
	struct ost_file *file = object->file;
	struct ost_object **link = bucket(file, object->seq);

	object->bucket_next = *link;
	*link = object;
	object->file_next = file->objects;
	if (file->objects)
		file->objects->file_prev = object;
	file->objects = object;
}

static void delist(struct ost_object *object)
{
	struct ost_object **link = bucket(object->file, object->seq);

	while (*link != object)
		link = &(*link)->bucket_next;
	*link = object->bucket_next;
	if (object->file_prev)
		object->file_prev->file_next = object->file_next;
	else
		object->file->objects = object->file_next;
	if (object->file_next)
		object->file_next->file_prev = object->file_prev;
	idle_remove(object);
	object->gone = true;
}

/* Out of the tables, nobody uses it: close and free it. unlinked: closing it may free its blocks, which takes long. */
static void object_free(struct ost_object *object, bool unlinked)
{
	struct ost_file *file = object->file;

	assert(object->refs == 0 && object->gone && object_queue_is_empty(&object->queue));
	if (object->fd >= 0) {
		file->ost->object_count--;
		if (unlinked)
			helper_close(file->ost->helper, object->fd);
		else
			close(object->fd);
	}
	free(object);
	file_put(file);
}

void object_hold(struct ost_object *object)
{
	idle_remove(object);
	object->refs++;
}

void object_put(struct ost_object *object)
{
	assert(object->refs > 0);
	if (--object->refs > 0)
		return;
	if (object->gone)
		object_free(object, true);
	else
		idle_append(object);
}

void object_forget(struct ost_object *object)
{
	delist(object);
	if (object->refs == 0)
		object_free(object, true);
}

/* --- opening ---------------------------------------------------------------------------------------------------------- */

/* Its size is that, and its blocks are as they are now; the file's totals follow. */
static void object_count(struct ost_object *object, const struct stat *st, uint64_t size)
{
	struct ost_file *file = object->file;

	if (file->counted && !object->gone) {
		uint64_t end = object->seq * file->stripe_size + size, less = object->blocks;

		file->blocks = (file->blocks > less ? file->blocks - less : 0) + (uint64_t)st->st_blocks;
		if (size > 0 && end > file->end)
			file->end = end;
	}
	object->grown += (int64_t)st->st_blocks - (int64_t)object->blocks;
	object->size = size;
	object->blocks = (uint64_t)st->st_blocks;
}

/* One to be closed: of the idle ones that were not used for the longest time, rather a clean one. */
static struct ost_object *choose_victim(struct ost *ost)
{
	struct ost_object *object = ost->object_idle_first;

	for (int i = 0; object && i < CLEAN_LOOK_MAX; i++, object = object->idle_next) {
		if (!object_is_dirty(object))
			return object;
	}

	return ost->object_idle_first;
}

/*
 * Close idle objects until there is room for another. What runs is never in the way of what comes: when all are in use, or
 * the disk fails, there are more of them for a while.
 */
static void make_room(struct ost *ost, unsigned int max)
{
	struct ost_object *object;

	while (ost->object_count >= max && (object = choose_victim(ost))) {
		/* When it comes to that they are many, and dirty ones will be wanted soon again. */
		if (object_is_dirty(object)) {
			if (object_commit_all(ost) < 0)
				return;
			continue;
		}
		delist(object);
		object_free(object, false);
	}
}

static int open_file(struct ost_object *object, int flags)
{
	struct ost_file *file = object->file;
	struct ost *ost = file->ost;
	char path[OBJECT_PATH_SIZE];
	int fd;

	object_path(file->ino, file->gen, object->seq, path);
	make_room(ost, ost->config.objects_open);
	fd = disk_openat(ost->disk, ost->objects_dir, path, flags | O_RDWR | O_CLOEXEC, 0600);
	if (fd == -EMFILE || fd == -ENFILE) {
		make_room(ost, ost->object_count / 2);
		fd = disk_openat(ost->disk, ost->objects_dir, path, flags | O_RDWR | O_CLOEXEC, 0600);
	}
	if (fd < 0)
		return fd;
	object->fd = fd;
	ost->object_count++;

	return 0;
}

static void enter_index(struct ost_object *object)
{
	struct ost_file *file = object->file;
	struct index *index = file->ost->index;

	index_put_object(index, file->ino, file->gen, object->seq,
			 (struct index_object){ .stripe_size = file->stripe_size });
	file->last_change = index_last_change(index);
}

/* It is new, and there will be a row when it is durable. */
static void announce(struct ost_object *object)
{
	const struct ost_file *file = object->file;

	object->fresh = true;
	object->writes++; /* so that a commit comes by, even if nothing is ever written */
	index_announce_object(file->ost->index, file->ino, file->gen, object->seq,
			      (struct index_object){ .stripe_size = file->stripe_size });
}

static int object_open(struct ost_object *object, bool known, const struct index_object *row)
{
	struct ost *ost = object->file->ost;
	uint64_t block;
	struct stat st;
	int err;

	/* A file the index does not know is what an unlink left behind that never became durable. */
	err = open_file(object, known ? 0 : O_CREAT | O_TRUNC);
	if (err < 0)
		return ost_io_error(ost, err); /* -ENOENT: the index knows it, or its folder is gone */
	if (fstat(object->fd, &st) < 0)
		return ost_io_error(ost, -errno);
	object->size = (uint64_t)st.st_size;
	object->blocks = (uint64_t)st.st_blocks;
	block = (uint64_t)st.st_blksize < 65536 ? (uint64_t)st.st_blksize : 65536;
	/* It may be room. What holes hide is not seen here; one block more may be the filesystem's own. */
	if (object->blocks > ((object->size + block - 1) / block + 1) * (block / 512))
		object->room_end = UINT64_MAX;
	if (!known)
		announce(object);
	else if (row->stripe_size == 0)
		enter_index(object);

	return 0;
}

/* To be opened, by who has it now: all others wait for opening_ends(). NULL: no memory. */
static struct ost_object *object_new(struct ost_file *file, uint64_t seq)
{
	struct ost_object *object = calloc(1, sizeof(*object));

	if (!object)
		return NULL;
	*object = (struct ost_object){ .file = file, .seq = seq, .fd = -1, .refs = 1, .opening = true };
	file->refs++;
	enlist(object);

	return object;
}

static void opening_ends(struct ost_object *object, int err)
{
	object->open_err = err;
	object->opening = false;
	fiber_wake_all(&object->opened);
	if (err < 0)
		delist(object);
}

static bool may_make(struct ost_file *file, uint64_t seq)
{
	struct index_object row;

	return !object_find(file, seq) && helper_is_idle(file->ost->maker) &&
	       index_get_object(file->ost->index, file->ino, file->gen, seq, &row) < 0;
}

int object_reserve(struct ost_file *file, uint64_t seq, struct ost_object **ret_object)
{
	if (!may_make(file, seq))
		return -EAGAIN;
	/* Which may wait: before the write counts as one that runs. Others may make the object meanwhile. */
	make_room(file->ost, file->ost->config.objects_open);
	if (!may_make(file, seq))
		return -EAGAIN;
	*ret_object = object_new(file, seq);

	return *ret_object ? 0 : -ENOMEM;
}

int object_make(struct ost_object *object, const void *data, size_t size, uint64_t offset, size_t *ret_written)
{
	struct ost_file *file = object->file;
	struct ost *ost = file->ost;
	char path[OBJECT_PATH_SIZE];
	int fd, err = 0;

	*ret_written = 0;
	object_path(file->ino, file->gen, object->seq, path);
	fd = disk_make(ost->disk, ost->maker, ost->objects_dir, path, data, size, offset, ret_written);
	if (fd >= 0) {
		object->fd = fd;
		ost->object_count++;
		announce(object);
	} else if (fd == -EMFILE || fd == -ENFILE) {
		err = object_open(object, false, NULL); /* which closes more of the idle ones first */
	} else {
		err = ost_io_error(ost, fd);
	}
	opening_ends(object, err);

	return err;
}

static int wait_opened(struct ost_object *object, struct ost_object **ret_object)
{
	int err;

	object_hold(object);
	while (object->opening)
		fiber_wait(&object->opened, NULL);
	err = object->open_err;
	if (err < 0) {
		object_put(object);
		return err;
	}
	*ret_object = object;

	return 0;
}

int object_get(struct ost_file *file, uint64_t seq, bool create, struct ost_object **ret_object)
{
	struct ost_object *object = object_find(file, seq);
	struct index_object row = { .stripe_size = 0 };
	bool known;
	int err;

	if (object)
		return wait_opened(object, ret_object);
	known = index_get_object(file->ost->index, file->ino, file->gen, seq, &row) == 0;
	if (!known && !create)
		return -ENOENT;
	object = object_new(file, seq);
	if (!object)
		return -ENOMEM;
	err = object_open(object, known, &row);
	opening_ends(object, err);
	if (err < 0) {
		object_put(object);
		return err;
	}
	*ret_object = object;

	return 0;
}

void object_close_idle(struct ost *ost)
{
	while (ost->object_idle_first) {
		struct ost_object *object = ost->object_idle_first;

		delist(object);
		object_free(object, false);
	}
}

/* --- turns ------------------------------------------------------------------------------------------------------------ */

/* Nobody is at it in the other way now: see object_queue.h. */
static void set_direct(struct ost_object *object, bool direct)
{
	int flags;

	if (object->direct == direct)
		return;
	flags = fcntl(object->fd, F_GETFL);
	if (flags >= 0 && fcntl(object->fd, F_SETFL, direct ? flags | O_DIRECT : flags & ~O_DIRECT) == 0)
		object->direct = direct;
	else
		object->file->ost->direct_refused = true;
}

void object_begin(struct ost_object *object, struct object_turn *turn, uint64_t start, uint64_t end, bool write,
		  bool direct)
{
	*turn = (struct object_turn){ .op = { .start = start, .end = end, .write = write, .direct = direct } };
	object_queue_add(&object->queue, &turn->op);
	while (!turn->op.ready)
		fiber_wait(&turn->queue, NULL);
	set_direct(object, direct);
}

static void wake_turn(struct object_op *op)
{
	fiber_wake_all(&turn_of_op(op)->queue);
}

void object_end(struct ost_object *object, struct object_turn *turn)
{
	object_queue_remove(&object->queue, &turn->op, wake_turn);
}

void object_wrote(struct ost_object *object, uint64_t end)
{
	uint64_t size = object->size;
	struct stat st;

	object->writes++;
	if (fstat(object->fd, &st) < 0)
		return;
	if (end > (uint64_t)st.st_size)
		end = (uint64_t)st.st_size;
	object_count(object, &st, size > end ? size : end);
}

void object_was_cut(struct ost_object *object)
{
	struct stat st;

	object->writes++;
	if (fstat(object->fd, &st) == 0)
		object_count(object, &st, (uint64_t)st.st_size);
	object->grown = 0;
}

int64_t object_take_grown(struct ost_object *object)
{
	int64_t grown = object->grown;

	object->grown = 0;

	return grown;
}

void object_has_room(struct ost_object *object, uint64_t end)
{
	if (object->room_end < end)
		object->room_end = end;
}

bool object_may_have_room(const struct ost_object *object, uint64_t end)
{
	return end > object->size && object->size < object->room_end;
}

int object_take_room(struct ost_object *object, uint64_t start, uint64_t end)
{
	int err;

	if (!object_may_have_room(object, end))
		return 0;
	err = disk_fallocate(object->file->ost->disk, object->fd, FALLOC_FL_KEEP_SIZE, start, end - start);

	return err == -EOPNOTSUPP ? 0 : err;
}

struct truncation {
	int fd;
	uint64_t size;
};

static int truncate_run(void *arg)
{
	const struct truncation *truncation = arg;

	return ftruncate(truncation->fd, (off_t)truncation->size) < 0 ? -errno : 0;
}

int object_set_size(struct ost_object *object, uint64_t size)
{
	return helper_run(object->file->ost->helper, truncate_run, &(struct truncation){ object->fd, size });
}

uint64_t object_file_size(const struct ost_object *object)
{
	struct stat st;

	return fstat(object->fd, &st) == 0 ? (uint64_t)st.st_size : object->size;
}

/* Its file goes on behind its end: there is a write at work, or was. */
static bool is_too_long(const struct ost_object *object)
{
	return object_file_size(object) > object->size;
}

void object_undo(struct ost_object *object)
{
	struct object_turn turn;

	if (!is_too_long(object))
		return;
	/* Then nobody is at it beyond its end, and all whose bytes have arrived there have moved that. */
	object_begin(object, &turn, object->size, UINT64_MAX, true, false);
	if (is_too_long(object) && object_set_size(object, object->size) == 0)
		object_wrote(object, 0);
	object_end(object, &turn);
	(void)object_commit(object);
}

/* --- committing ------------------------------------------------------------------------------------------------------- */

struct folder {
	struct ost *ost;
	unsigned int number;
};

static int sync_folder(void *arg)
{
	const struct folder *folder = arg;
	struct ost *ost = folder->ost;
	char name[3];
	int fd, err;

	object_folder_name(folder->number, name);
	fd = disk_openat(ost->disk, ost->objects_dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	err = disk_fsync(ost->disk, fd);
	close(fd);

	return err;
}

int object_sync_folder(struct ost *ost, unsigned int folder)
{
	return group_sync_run(&ost->folder_sync[folder], sync_folder, &(struct folder){ ost, folder });
}

/* What had been written to it by then is durable, and if it was new, its name: now the index may know it. */
static void committed(struct ost_object *object, uint64_t writes)
{
	if (writes > object->committed)
		object->committed = writes;
	if (object->fresh && !object->gone)
		enter_index(object);
	object->fresh = false;
}

static int sync_object(void *arg)
{
	struct ost_object *object = arg;
	struct ost_file *file = object->file;
	uint64_t writes = object->writes;
	struct stat st;
	int err;

	err = disk_fdatasync(file->ost->disk, object->fd);
	if (err == 0 && object->fresh && !object->gone)
		err = object_sync_folder(file->ost, object_folder(file->ino, file->gen));
	if (err < 0) {
		/* The kernel may have dropped what it could not write, and will not say so again. */
		ost_new_instance(file->ost);
		return ost_io_error(file->ost, err);
	}
	committed(object, writes);
	if (fstat(object->fd, &st) == 0)
		object_count(object, &st, object->size);

	return 0;
}

int object_commit(struct ost_object *object)
{
	if (!object_is_dirty(object))
		return 0;

	return group_sync_run(&object->sync, sync_object, object);
}

/* --- committing all of them -------------------------------------------------------------------------------------------- */

struct dirty {
	struct ost_object *object;
	uint64_t writes;
};

static struct dirty *collect_dirty(struct ost *ost, size_t *ret_count)
{
	struct dirty *list = malloc(ost->object_count * sizeof(*list) + 1);
	size_t count = 0;

	if (!list)
		return NULL;
	for (size_t i = 0; i < OST_OBJECT_BUCKETS; i++) {
		for (struct ost_object *object = ost->object_buckets[i]; object; object = object->bucket_next) {
			if (object->opening || !object_is_dirty(object))
				continue;
			object_hold(object);
			list[count++] = (struct dirty){ object, object->writes };
		}
	}
	assert(count <= ost->object_count);
	*ret_count = count;

	return list;
}

static int commit_one(void *arg, size_t i)
{
	const struct dirty *list = arg;

	return object_commit(list[i].object);
}

static int sync_filesystem(void *arg)
{
	const struct ost *ost = arg;

	return syncfs(ost->objects_dir) < 0 ? -errno : 0;
}

static int commit_many(struct ost *ost, const struct dirty *list, size_t count)
{
	int err = helper_run(ost->syncer, sync_filesystem, ost);

	if (err < 0) {
		ost_new_instance(ost);
		return ost_io_error(ost, err);
	}
	for (size_t i = 0; i < count; i++)
		committed(list[i].object, list[i].writes);

	return 0;
}

static int commit_all_round(void *arg)
{
	struct ost *ost = arg;
	uint64_t mark = ledger_mark(ost->ledger);
	struct dirty *list;
	size_t count;
	int err;

	list = collect_dirty(ost, &count);
	if (!list)
		return -ENOMEM;
	if (count <= COMMIT_ONE_BY_ONE || !ost->syncfs_works)
		err = fan_out(ost->loop, count, COMMIT_ONE_BY_ONE, commit_one, list);
	else
		err = commit_many(ost, list, count);
	for (size_t i = 0; i < count; i++)
		object_put(list[i].object);
	free(list);
	if (err == 0)
		ledger_forget(ost->ledger, mark);

	return err;
}

int object_commit_all(struct ost *ost)
{
	return group_sync_run(&ost->all_sync, commit_all_round, ost);
}
