/*
 * FSCK_OBJECTS, FSCK_FILES: for `strake fsck`, what the index knows, and whether the disk has it; and what the disk has that
 * the index does not know.
 *
 * Index and disk are looked at one after the other while others write, cut and destroy. What does not fit together is
 * looked at again, alone in its file and with no DESTROY at work: then it is so.
 */
#include "oss/object_path.h"
#include "oss/operations.h"
#include "proto/fsck.pb-c.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROWS_MAX    1024 /* in one reply */
#define STAT_BATCH  64   /* files looked at in one go of the helper, so that others get their turn */
#define YIELD_EVERY 128  /* rows of the index */
#define NAMES_BATCH 256  /* names of a folder read in one go of the helper */
#define FILES_MAX   1024 /* unknown files in one reply */
#define FOREIGN_MAX 64

/* --- one object ------------------------------------------------------------------------------------------------------- */

struct looking {
	const struct ost *ost;
	uint64_t ino, gen, seq, size;
};

/* On the helper. -ENOENT and others. */
static int look(void *arg)
{
	struct looking *looking = arg;
	char path[OBJECT_PATH_SIZE];
	struct stat st;

	object_path(looking->ino, looking->gen, looking->seq, path);
	if (fstatat(looking->ost->objects_dir, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	looking->size = (uint64_t)st.st_size;
	return 0;
}

/* Does the index know it, and is there a file? Nobody works at it meanwhile. */
static int look_alone(struct ost *ost, struct looking *looking, bool *ret_known, bool *ret_exists)
{
	struct index_object row;
	struct ost_file *file;
	int err;

	fiber_mutex_lock(&ost->destroying);
	err = file_get(ost, looking->ino, looking->gen, &file);
	if (err == 0) {
		share_lock_exclusive(&file->lock);
		*ret_known = index_get_object(ost->index, looking->ino, looking->gen, looking->seq, &row) == 0;
		err = helper_run(ost->helper, look, looking);
		*ret_exists = err == 0;
		share_unlock_exclusive(&file->lock);
		file_put(file);
	}
	fiber_mutex_unlock(&ost->destroying);
	return err == -ENOENT ? 0 : err;
}

/* --- what the index knows --------------------------------------------------------------------------------------------- */

struct rows {
	struct ost *ost;
	size_t count;
	uint32_t kind[ROWS_MAX];
	uint64_t ino[ROWS_MAX], gen[ROWS_MAX], seq[ROWS_MAX], value[ROWS_MAX];
	size_t at; /* where the helper is */
};

struct position {
	uint64_t ino, gen, place; /* as in the request */
};

static void add_row(struct rows *rows, Strake__FsckRow kind, const struct index_key *key, uint64_t value)
{
	rows->kind[rows->count] = kind;
	rows->ino[rows->count] = key->part[0];
	rows->gen[rows->count] = key->part[1];
	rows->seq[rows->count] = key->part[2];
	rows->value[rows->count++] = value;
}

/* The content at the position or the first above it. */
static bool next_content(struct index *index, const struct position *at, struct index_key *key, struct index_file *row)
{
	union index_value value;

	/* Past its beginning the next one is another's; no gen is all ones. */
	*key = index_file_key(at->ino, at->place == 0 ? at->gen : at->gen + 1);
	if (index_next(index, key, &value) < 0)
		return false;
	*row = value.file;
	return true;
}

static bool next_object(struct index *index, const struct position *at, struct index_key *key)
{
	union index_value value;

	*key = index_object_key(at->ino, at->gen, at->place == 0 ? 0 : at->place - 1);
	return index_next(index, key, &value) == 0;
}

static bool is_before(const struct index_key *content, const struct index_key *object)
{
	if (content->part[0] != object->part[0])
		return content->part[0] < object->part[0];
	return content->part[1] <= object->part[1];
}

/* One row from the position on, which moves behind it. False: there is none below `to`. */
static bool take_row(struct rows *rows, struct position *at, uint64_t to)
{
	struct index_key content, object;
	struct index_file file;
	bool has_content = next_content(rows->ost->index, at, &content, &file);
	bool has_object = next_object(rows->ost->index, at, &object);

	if (has_content && (!has_object || is_before(&content, &object))) {
		if (content.part[0] >= to)
			return false;
		add_row(rows,
			file.destroyed ? STRAKE__FSCK_ROW__FSCK_ROW_DESTROYED : STRAKE__FSCK_ROW__FSCK_ROW_CONTENT,
			&content, file.cut);
		*at = (struct position){ content.part[0], content.part[1], 1 };
		return true;
	}
	if (!has_object || object.part[0] >= to)
		return false;
	add_row(rows, STRAKE__FSCK_ROW__FSCK_ROW_OBJECT, &object, 0);
	*at = (struct position){ object.part[0], object.part[1], object.part[2] + 2 };
	return true;
}

/* On the helper: sizes. What is missing is noted as lost. */
static int look_at_batch(void *arg)
{
	struct rows *rows = arg;

	for (size_t n = 0; n < STAT_BATCH && rows->at < rows->count; n++, rows->at++) {
		struct looking looking = { rows->ost, rows->ino[rows->at], rows->gen[rows->at], rows->seq[rows->at],
					   0 };
		int err;

		if (rows->kind[rows->at] != STRAKE__FSCK_ROW__FSCK_ROW_OBJECT)
			continue;
		err = look(&looking);
		if (err < 0 && err != -ENOENT)
			return err;
		if (err < 0)
			rows->kind[rows->at] = STRAKE__FSCK_ROW__FSCK_ROW_LOST;
		rows->value[rows->at] = looking.size;
	}
	return 0;
}

/* Is what seemed lost? What has gone in order leaves the rows. */
static int look_again(struct rows *rows)
{
	size_t kept = 0;

	for (size_t i = 0; i < rows->count; i++) {
		struct looking looking = { rows->ost, rows->ino[i], rows->gen[i], rows->seq[i], rows->value[i] };
		uint32_t kind = rows->kind[i];
		bool known = true, exists = false;

		if (kind == STRAKE__FSCK_ROW__FSCK_ROW_LOST) {
			int err = look_alone(rows->ost, &looking, &known, &exists);

			if (err < 0)
				return err;
			if (exists)
				kind = STRAKE__FSCK_ROW__FSCK_ROW_OBJECT;
		}
		if (!known)
			continue;
		rows->kind[kept] = kind;
		rows->ino[kept] = looking.ino;
		rows->gen[kept] = looking.gen;
		rows->seq[kept] = looking.seq;
		rows->value[kept++] = looking.size;
	}
	rows->count = kept;
	return 0;
}

static int list_objects(struct rows *rows, struct position *at, uint64_t to, bool *ret_more)
{
	int err = 0;

	*ret_more = true;
	while (*ret_more && rows->count < ROWS_MAX) {
		*ret_more = take_row(rows, at, to);
		if (rows->count % YIELD_EVERY == 0)
			fiber_yield();
	}
	while (err == 0 && rows->at < rows->count)
		err = helper_run(rows->ost->helper, look_at_batch, rows);
	return err < 0 ? ost_io_error(rows->ost, err) : look_again(rows);
}

void ost_fsck_objects(struct ost *ost, struct request *request)
{
	const Strake__FsckObjectsRequest *list = (const Strake__FsckObjectsRequest *)request->body;
	Strake__FsckObjectsReply body = STRAKE__FSCK_OBJECTS_REPLY__INIT;
	struct position at = { list->ino, list->gen, list->place };
	struct rows *rows;
	bool more;
	int err;

	if (list->gen == UINT64_MAX || list->place > OBJECT_SEQ_MAX + 1) {
		service_reply_error(request, -EINVAL);
		return;
	}
	rows = malloc(sizeof(*rows));
	if (!rows) {
		service_reply_error(request, -ENOMEM);
		return;
	}
	rows->ost = ost;
	rows->count = rows->at = 0;
	body.has_void_end = 1;
	body.void_end = ost_void_end(ost);
	err = list_objects(rows, &at, list->to, &more);
	body.n_row = body.n_ino = body.n_gen = body.n_seq = body.n_value = rows->count;
	body.row = rows->kind;
	body.ino = rows->ino;
	body.gen = rows->gen;
	body.seq = rows->seq;
	body.value = rows->value;
	body.more = more;
	body.has_next_ino = body.has_next_gen = body.has_next_place = more;
	body.next_ino = at.ino;
	body.next_gen = at.gen;
	body.next_place = at.place;
	service_reply(request, &(struct reply){ .err = err, .body = err == 0 ? &body.base : NULL });
	free(rows);
}

/* --- what it does not know -------------------------------------------------------------------------------------------- */

struct folder {
	struct ost *ost;
	unsigned int number;
	DIR *dir;
	size_t name_count; /* read in the last batch; fewer than NAMES_BATCH: the last */
	char names[NAMES_BATCH][256];

	size_t count;
	uint64_t ino[FILES_MAX], gen[FILES_MAX], seq[FILES_MAX], size[FILES_MAX];
	size_t foreign_count;
	ProtobufCBinaryData foreign[FOREIGN_MAX];
	bool cut_off;
};

/* The next three run on the helper. */
static int folder_open(void *arg)
{
	struct folder *folder = arg;
	char name[3];
	int fd, err;

	object_folder_name(folder->number, name);
	fd = openat(folder->ost->objects_dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	folder->dir = fdopendir(fd);
	if (!folder->dir) {
		err = -errno;
		close(fd);
		return err;
	}
	return 0;
}

static int folder_read(void *arg)
{
	struct folder *folder = arg;
	const struct dirent *entry;

	folder->name_count = 0;
	while (folder->name_count < NAMES_BATCH) {
		errno = 0;
		entry = readdir(folder->dir);
		if (!entry)
			return -errno;
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			memcpy(folder->names[folder->name_count++], entry->d_name, strlen(entry->d_name) + 1);
	}
	return 0;
}

static int folder_close(void *arg)
{
	const struct folder *folder = arg;

	closedir(folder->dir);
	return 0;
}

static int add_foreign(struct folder *folder, const char *name)
{
	ProtobufCBinaryData *foreign = &folder->foreign[folder->foreign_count];

	if (folder->foreign_count == FOREIGN_MAX) {
		folder->cut_off = true;
		return 0;
	}
	foreign->data = (uint8_t *)strdup(name);
	if (!foreign->data)
		return -ENOMEM;
	foreign->len = strlen(name);
	folder->foreign_count++;
	return 0;
}

static int take_name(struct folder *folder, const char *name)
{
	struct index_object row;
	uint64_t ino, gen, seq;

	if (!object_name_parse(folder->number, name, &ino, &gen, &seq))
		return add_foreign(folder, name);
	if (index_get_object(folder->ost->index, ino, gen, seq, &row) == 0)
		return 0;
	if (folder->count == FILES_MAX) {
		folder->cut_off = true;
		return 0;
	}
	folder->ino[folder->count] = ino;
	folder->gen[folder->count] = gen;
	folder->seq[folder->count++] = seq;
	return 0;
}

static int look_into(struct folder *folder)
{
	int err;

	do {
		err = helper_run(folder->ost->helper, folder_read, folder);
		for (size_t i = 0; i < folder->name_count && err == 0; i++)
			err = take_name(folder, folder->names[i]);
	} while (err == 0 && folder->name_count == NAMES_BATCH);
	return err;
}

/* What is made just now, or about to be unlinked, is no find. */
static int files_look_again(struct folder *folder)
{
	size_t kept = 0;

	for (size_t i = 0; i < folder->count; i++) {
		struct looking looking = { folder->ost, folder->ino[i], folder->gen[i], folder->seq[i], 0 };
		bool known = false, exists = false;
		int err = look_alone(folder->ost, &looking, &known, &exists);

		if (err < 0)
			return err;
		if (known || !exists)
			continue;
		folder->ino[kept] = looking.ino;
		folder->gen[kept] = looking.gen;
		folder->seq[kept] = looking.seq;
		folder->size[kept++] = looking.size;
	}
	folder->count = kept;
	return 0;
}

static int list_files(struct folder *folder)
{
	int err = helper_run(folder->ost->helper, folder_open, folder);

	if (err < 0)
		return err;
	err = look_into(folder);
	(void)helper_run(folder->ost->helper, folder_close, folder);
	return err < 0 ? err : files_look_again(folder);
}

void ost_fsck_files(struct ost *ost, struct request *request)
{
	const Strake__FsckFilesRequest *list = (const Strake__FsckFilesRequest *)request->body;
	Strake__FsckFilesReply body = STRAKE__FSCK_FILES_REPLY__INIT;
	struct folder *folder;
	int err;

	if (list->folder >= OBJECT_FOLDERS) {
		service_reply_error(request, -EINVAL);
		return;
	}
	folder = calloc(1, sizeof(*folder));
	if (!folder) {
		service_reply_error(request, -ENOMEM);
		return;
	}
	folder->ost = ost;
	folder->number = list->folder;
	err = list_files(folder);
	if (err < 0 && err != -ENOMEM)
		err = ost_io_error(ost, err);
	body.n_ino = body.n_gen = body.n_seq = body.n_size = folder->count;
	body.ino = folder->ino;
	body.gen = folder->gen;
	body.seq = folder->seq;
	body.size = folder->size;
	body.n_foreign = folder->foreign_count;
	body.foreign = folder->foreign;
	body.has_cut_off = body.cut_off = folder->cut_off;
	service_reply(request, &(struct reply){ .err = err, .body = err == 0 ? &body.base : NULL });
	for (size_t i = 0; i < folder->foreign_count; i++)
		free(folder->foreign[i].data);
	free(folder);
}
