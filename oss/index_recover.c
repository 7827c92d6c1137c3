/*
 * After an unclean stop. What can be wrong, and what is done:
 *
 *   a file the index does not know   it was written, but never committed, or its commit was never answered: entered. But
 *                                    leftovers of a DESTROY or of the file's last cut, whose rows are synced before
 *                                    files are unlinked, are unlinked now. (Something written there after the cut and
 *                                    not committed may go with them: its client has it still, and sends it again as
 *                                    the OST does not go on as the same instance then.)
 *   a row whose file is gone         nothing here: it is that object's EIO when somebody asks
 *   bytes in the page cache only     what kill -9 leaves. An object that nobody has written to since counts as clean, and
 *                                    an fsync of it would promise what a power failure takes: all of it is synced
 */
#include "oss/index_internal.h"
#include "oss/object_path.h"

#include "common/layout.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct recovery {
	struct index *index;
	MDB_txn *txn;
	int folder_fd;
	bool sync_each;
	void (*losing)(void *arg);
	void *arg;
	struct index_recovery counts;
};

/* Did the tombstone, or the last cut, doom the whole object? */
static bool is_doomed(const struct index_file *file, uint64_t seq)
{
	uint32_t start, end;

	if (file->destroyed)
		return true;
	if (file->cut == 0 || file->stripe_size == 0 ||
	    !layout_object_range(file->stripe_size, seq, file->cut_start, file->cut_end, &start, &end))
		return false;

	return start == 0 && end == file->stripe_size;
}

static int sync_object(const struct recovery *recovery, const char *name)
{
	int fd = openat(recovery->folder_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), err = 0;

	if (fd < 0)
		return -errno;
	if (fdatasync(fd) < 0)
		err = -errno;
	close(fd);

	return err;
}

static int recover_file(struct recovery *recovery, unsigned int folder, const char *name)
{
	struct index_key key, file_key;
	union index_value object, file;
	uint64_t ino, gen, seq;
	int err;

	if (!object_name_parse(folder, name, &ino, &gen, &seq)) {
		recovery->counts.foreign++;
		return 0;
	}
	key = index_object_key(ino, gen, seq);
	err = recovery->sync_each ? sync_object(recovery, name) : 0;
	if (err < 0)
		return err;
	err = index_read(recovery->index, recovery->txn, &key, &object);
	if (err != -ENOENT) {
		recovery->counts.known++;
		return err;
	}
	file_key = index_file_key(ino, gen);
	err = index_read(recovery->index, recovery->txn, &file_key, &file);
	if (err < 0 && err != -ENOENT)
		return err;
	if (err == 0 && is_doomed(&file.file, seq)) {
		recovery->counts.removed++;
		if (!file.file.destroyed)
			recovery->losing(recovery->arg);
		return unlinkat(recovery->folder_fd, name, 0) < 0 ? -errno : 0;
	}
	/* Its stripe size is not in its name; the next request for it brings it. */
	object = (union index_value){ .object = { .stripe_size = 0 } };
	recovery->counts.entered++;

	return index_errno(index_apply(recovery->index, recovery->txn, &key, &object));
}

static int recover_folder(struct recovery *recovery, int objects_dir, unsigned int folder)
{
	struct dirent *entry;
	char name[3];
	DIR *dir;
	int fd, err = 0;

	object_folder_name(folder, name);
	fd = openat(objects_dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	dir = fdopendir(fd);
	if (!dir) {
		err = -errno;
		close(fd);
		return err;
	}
	recovery->folder_fd = dirfd(dir);
	while (err == 0) {
		errno = 0;
		entry = readdir(dir);
		if (!entry) {
			err = -errno;
			break;
		}
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			err = recover_file(recovery, folder, entry->d_name);
	}
	/* What we removed stays removed before its tombstone may go. */
	if (err == 0 && fsync(dirfd(dir)) < 0)
		err = -errno;
	closedir(dir);

	return err;
}

int index_recover(struct index *index, int objects_dir, bool syncfs_works, void (*losing)(void *arg), void *arg,
		  struct index_recovery *ret_recovery)
{
	struct recovery recovery = { .index = index, .sync_each = !syncfs_works, .losing = losing, .arg = arg };
	int err = syncfs(objects_dir) < 0 ? -errno : 0;

	/* One transaction per folder: LMDB's dirty pages stay few. */
	for (unsigned int folder = 0; folder < OBJECT_FOLDERS && err == 0; folder++) {
		err = index_errno(mdb_txn_begin(index->env, NULL, 0, &recovery.txn));
		if (err < 0)
			break;
		err = recover_folder(&recovery, objects_dir, folder);
		if (err < 0)
			mdb_txn_abort(recovery.txn);
		else
			err = index_errno(mdb_txn_commit(recovery.txn));
	}
	if (err == 0)
		*ret_recovery = recovery.counts;

	return err;
}
