/*
 * One entry of `client put`.
 *
 *     CREATE -> (stripes) -> WRITE ... -> SIZE -> owner, xattrs -> mode and times -> CLOSE
 *
 * Modes, owners and times come last, in one request where there are no extended attributes: until then nobody but the
 * owner can see into what is not whole.
 */
#include "client/cli/put.h"
#include "client/cli/sparse.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define LIST_MAX   256           /* entries in memory per directory */
#define ADOPT_MIN  (256u * 1024) /* pieces of at least that size are handed over, smaller ones copied */
#define PRIVILEGES (S_ISUID | S_ISGID)

/* One entry under way. */
struct item {
	struct put *put;
	struct transfer_dir *dir;
	struct transfer_entry *entry;
	struct stat st;
	enum transfer_side side; /* of the error that is on its way */
};

static struct client *client_of(const struct put *put)
{
	return put->transfer.client;
}

/* An error of the filesystem's side. */
static int at_dest(struct item *item, int err)
{
	item->side = TRANSFER_DEST;
	return err;
}

/* The entry as a path for calls that know no descriptor. */
static const char *local_path(const struct transfer_dir *dir, const struct transfer_entry *entry, char out[PATH_MAX])
{
	if (dir->fd == AT_FDCWD)
		snprintf(out, PATH_MAX, "%s", entry->name);
	else
		snprintf(out, PATH_MAX, "/proc/self/fd/%d/%s", dir->fd, entry->name);
	return out;
}

/* --- attributes -------------------------------------------------------------------------------------------------- */

/* Which of them are to be set so that `made` becomes what st says. Without being root nobody gives files away. */
static unsigned int wanted_fields(const struct put *put, const struct stat *st, const struct attr *made,
				  struct attr *ret_attr)
{
	unsigned int fields = SETATTR_ATIME | SETATTR_MTIME;
	bool foreign = st->st_uid != made->uid || st->st_gid != made->gid;

	*ret_attr = (struct attr){
		.mode = st->st_mode & 07777,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.atime_ns = attr_time_ns(st->st_atim.tv_sec, st->st_atim.tv_nsec),
		.mtime_ns = attr_time_ns(st->st_mtim.tv_sec, st->st_mtim.tv_nsec),
	};
	if (!S_ISLNK(st->st_mode))
		fields |= SETATTR_MODE;
	if (put->root && st->st_uid != made->uid)
		fields |= SETATTR_UID;
	if (put->root && st->st_gid != made->gid)
		fields |= SETATTR_GID;
	if (!put->root && foreign && !S_ISDIR(st->st_mode))
		ret_attr->mode &= ~(mode_t)PRIVILEGES;
	return fields;
}

/*
 * Make it look like its source. `made` is what it is now, and afterwards. Owners go before extended attributes, since
 * a chown takes security.capability away; modes and times after them, since they may forbid and change.
 */
static int keep_attributes(struct put *put, const struct stat *st, int fd, const char *path, struct attr *made)
{
	const unsigned int owner = SETATTR_UID | SETATTR_GID;
	struct client *client = client_of(put);
	struct attr attr;
	unsigned int fields = wanted_fields(put, st, made, &attr);
	int err = 0;

	if (xattrs_present(fd, path) || !made->no_acl[0] || !made->no_acl[1]) {
		if (fields & owner)
			err = fs_setattr(client->fs, &client->ctx, made->ino, fields & owner, &attr, made);
		if (err == 0)
			err = xattrs_put(&put->xattrs, client, fd, path, made);
		fields &= ~owner;
	}
	return err ? err : fs_setattr(client->fs, &client->ctx, made->ino, fields, &attr, made);
}

/* --- what is in the way ------------------------------------------------------------------------------------------ */

/* -EEXIST, with -f: remove what is there, unless it is a directory. 0: try again. */
static int clear_way(struct item *item)
{
	struct client *client = client_of(item->put);
	const char *to = item->entry->to;
	int err;

	if (!item->put->force)
		return -EEXIST;
	err = fs_unlink(client->fs, &client->ctx, item->dir->ino, to, strlen(to));
	return err == -ENOENT ? 0 : err;
}

/* --- files ------------------------------------------------------------------------------------------------------- */

/* Copy up to `end`, or to where the source ends. *ret_end is how far it got. */
static int copy_range(struct item *item, struct file *file, int fd, uint64_t start, uint64_t end, uint64_t *ret_end)
{
	struct put *put = item->put;
	int err = 0;

	while (start < end && err == 0) {
		size_t size = TRANSFER_PIECE - (size_t)(start % TRANSFER_PIECE);
		struct bulk *bulk = bufpool_get(put->buffers);
		struct bulk *owner;
		ssize_t got;

		if (!bulk)
			return -ENOMEM;
		if (size > end - start)
			size = (size_t)(end - start);
		got = pread(fd, bulk->data, size, (off_t)start);
		if (got <= 0) {
			err = got < 0 ? -errno : 0;
			bulk->release(bulk);
			break;
		}
		owner = got >= (ssize_t)ADOPT_MIN ? bulk : NULL;
		err = at_dest(item, fs_write(file, &client_of(put)->ctx, start, bulk->data, (size_t)got, owner));
		if (!owner)
			bulk->release(bulk);
		if (err == 0) {
			start += (uint64_t)got;
			put->transfer.counts.bytes += (uint64_t)got;
			item->side = TRANSFER_SOURCE;
			transfer_moved(item->entry);
		}
	}
	*ret_end = start;
	return err;
}

static int copy_sparse(struct item *item, struct file *file, int fd, struct attr *made)
{
	struct client *client = client_of(item->put);
	uint64_t at = 0, start, end, size = (uint64_t)item->st.st_size;
	int err;

	while ((err = sparse_next(fd, at, &start, &end)) == 0) {
		err = copy_range(item, file, fd, start, end, &at);
		if (err || at < end)
			break;
	}
	if (err == -ENXIO)
		err = 0;
	if (err == 0 && at < size)
		err = at_dest(item, fs_setattr(client->fs, &client->ctx, made->ino, SETATTR_SIZE | SETATTR_BY_HANDLE,
					       &(struct attr){ .size = size }, made));
	return err;
}

static int set_stripes(struct item *item, struct attr *made)
{
	const struct stripe_options *stripes = &item->put->stripes;
	struct client *client = client_of(item->put);

	if (!stripe_options_given(stripes) || item->dir->laid_out)
		return 0;
	return fs_set_layout(client->fs, &client->ctx, made->ino,
			     stripes->has_size ? stripes->size : made->layout->stripe_size,
			     stripes->has_count ? stripes->count : made->layout->stripe_count);
}

static int fill_file(struct item *item, struct file *file, int fd, struct attr *made)
{
	struct put *put = item->put;
	struct client *client = client_of(put);
	uint64_t end;
	int err = at_dest(item, set_stripes(item, made));

	if (err)
		return err;
	item->side = TRANSFER_SOURCE;
	err = sparse_is_likely(&item->st) ? copy_sparse(item, file, fd, made)
					  : copy_range(item, file, fd, 0, UINT64_MAX, &end);
	if (err)
		return err;
	item->side = TRANSFER_DEST;
	err = fs_flush(file, &client->ctx);
	if (err)
		return err;
	return put->recursive ? keep_attributes(put, &item->st, fd, NULL, made)
			      : fs_getattr(client->fs, &client->ctx, made->ino, false, made);
}

static int create_file(struct item *item, struct attr *ret_made, struct file **ret_file)
{
	struct put *put = item->put;
	struct client *client = client_of(put);
	const char *to = item->entry->to;
	mode_t mode = put->recursive ? S_IRUSR | S_IWUSR : item->st.st_mode & 0777;
	bool keep_cache;

	item->side = TRANSFER_DEST;
	for (;;) {
		int err = fs_create(client->fs, &client->ctx, item->dir->ino, to, strlen(to), mode, O_WRONLY | O_EXCL,
				    ret_made, ret_file, &keep_cache);

		if (err == -EEXIST)
			err = clear_way(item);
		else
			return err;
		if (err)
			return err;
	}
}

static void note_osts(struct put *put, const struct layout *layout)
{
	for (uint32_t i = 0; i < layout->ost_count; i++)
		put->osts[layout->ost_indices[i] / 8] |= (uint8_t)(1u << layout->ost_indices[i] % 8);
}

static int copy_file(struct item *item, int fd, uint64_t *ret_ino)
{
	struct put *put = item->put;
	struct client *client = client_of(put);
	struct attr made;
	struct file *file;
	int err = create_file(item, &made, &file);

	if (err)
		return err;
	item->entry->incomplete = true;
	transfer_moved(item->entry);
	err = fill_file(item, file, fd, &made);
	fs_release(file);
	fs_forget(client->fs, made.ino, 1);
	if (err)
		return err;
	put->transfer.counts.files++;
	put->last = made;
	if (made.size > 0)
		note_osts(put, made.layout);
	*ret_ino = made.ino;
	return 0;
}

/* --- what is no file --------------------------------------------------------------------------------------------- */

static int make_other(struct item *item, struct attr *ret_made)
{
	struct client *client = client_of(item->put);
	const char *to = item->entry->to;
	char target[PATH_MAX];
	ssize_t len;

	item->side = TRANSFER_DEST;
	if (!S_ISLNK(item->st.st_mode))
		return fs_mknod(client->fs, &client->ctx, item->dir->ino, to, strlen(to),
				(item->st.st_mode & S_IFMT) | S_IRUSR | S_IWUSR, item->st.st_rdev, ret_made);
	len = readlinkat(item->dir->fd, item->entry->name, target, sizeof(target));
	if (len < 0) {
		item->side = TRANSFER_SOURCE;
		return -errno;
	}
	return fs_symlink(client->fs, &client->ctx, item->dir->ino, to, strlen(to), target, (size_t)len, ret_made);
}

/* A symbolic link, fifo, socket or device. */
static int copy_other(struct item *item, uint64_t *ret_ino)
{
	struct put *put = item->put;
	struct client *client = client_of(put);
	char path[PATH_MAX];
	struct attr made;
	int err;

	while ((err = make_other(item, &made)) == -EEXIST)
		if ((err = clear_way(item)) != 0)
			return err;
	if (err)
		return err;
	err = keep_attributes(put, &item->st, -1, local_path(item->dir, item->entry, path), &made);
	fs_forget(client->fs, made.ino, 1);
	if (err)
		return err;
	put->transfer.others++;
	*ret_ino = made.ino;
	return 0;
}

/* --- hard links -------------------------------------------------------------------------------------------------- */

static int copy_whole(struct item *item, int fd, uint64_t *ret_ino)
{
	return S_ISREG(item->st.st_mode) ? copy_file(item, fd, ret_ino) : copy_other(item, ret_ino);
}

static int link_to(struct item *item, uint64_t ino)
{
	struct client *client = client_of(item->put);
	const char *to = item->entry->to;
	struct attr attr;
	int err;

	item->side = TRANSFER_DEST;
	while ((err = fs_link(client->fs, &client->ctx, ino, item->dir->ino, to, strlen(to), &attr)) == -EEXIST)
		if ((err = clear_way(item)) != 0)
			return err;
	if (err)
		return err;
	fs_forget(client->fs, ino, 1);
	if (S_ISREG(item->st.st_mode))
		item->put->transfer.counts.files++;
	else
		item->put->transfer.others++;
	return 0;
}

/* What has one name or several. fd: of a regular file. */
static int copy_named(struct item *item, int fd)
{
	struct put *put = item->put;
	const struct stat *st = &item->st;
	enum links_verdict verdict;
	struct links_copy copy = { 0 };
	int err;

	if (!put->recursive || st->st_nlink < 2)
		return copy_whole(item, fd, &copy.ino);
	err = links_enter(put->links, st->st_dev, st->st_ino, st->st_nlink, &verdict, &copy);
	if (err)
		return err;
	if (verdict == LINKS_OTHER) {
		err = link_to(item, copy.ino);
		links_leave(put->links, st->st_dev, st->st_ino);
		return err;
	}
	err = copy_whole(item, fd, &copy.ino);
	if (err)
		links_failed(put->links, st->st_dev, st->st_ino);
	else
		links_copied(put->links, st->st_dev, st->st_ino, copy);
	return err;
}

/* --- directories ------------------------------------------------------------------------------------------------- */

/* A new one, or with -f the one that is there. */
static int make_dir(struct item *item, struct attr *ret_made, bool *ret_new)
{
	struct client *client = client_of(item->put);
	const char *to = item->entry->to;
	int err = fs_mkdir(client->fs, &client->ctx, item->dir->ino, to, strlen(to), S_IRWXU, ret_made);

	*ret_new = err == 0;
	if (err != -EEXIST || !item->put->force)
		return err;
	err = fs_lookup(client->fs, &client->ctx, item->dir->ino, to, strlen(to), ret_made);
	if (err == 0 && !S_ISDIR(ret_made->mode)) {
		fs_forget(client->fs, ret_made->ino, 1);
		err = -ENOTDIR;
	}
	return err;
}

/* Takes fd over. */
static int copy_dir(struct item *item, int fd)
{
	struct put *put = item->put;
	struct client *client = client_of(put);
	bool new, laid_out = item->dir->laid_out;
	struct transfer_dir *dir;
	struct attr made;
	DIR *stream;
	int err;

	item->side = TRANSFER_DEST;
	err = make_dir(item, &made, &new);
	if (err) {
		close(fd);
		return err;
	}
	/* What is made below inherits them: one request instead of one per file. */
	laid_out = laid_out && new;
	if (new && !laid_out && stripe_options_given(&put->stripes)) {
		err = set_stripes(item, &made);
		laid_out = err == 0;
	}
	stream = err == 0 ? fdopendir(fd) : NULL;
	if (err == 0 && !stream)
		err = -errno;
	dir = err == 0 ? transfer_push(&put->transfer, item->dir, item->entry) : NULL;
	if (!dir) {
		if (stream)
			closedir(stream);
		else
			close(fd);
		fs_forget(client->fs, made.ino, 1);
		return err ? err : -ENOMEM;
	}
	dir->fd = fd;
	dir->stream = stream;
	dir->ino = made.ino;
	dir->st = item->st;
	dir->laid_out = laid_out;
	return 0;
}

static int list_dir(struct transfer *transfer, struct transfer_dir *dir)
{
	(void)transfer;
	for (unsigned int i = 0; i < LIST_MAX; i++) {
		struct transfer_entry *entry;
		struct dirent *dirent;

		errno = 0;
		dirent = readdir(dir->stream);
		if (!dirent) {
			dir->listed = true;
			return -errno;
		}
		if (path_base_is_special(dirent->d_name, strlen(dirent->d_name)))
			continue;
		entry = transfer_entry_new(dirent->d_name, strlen(dirent->d_name));
		if (!entry)
			return -ENOMEM;
		entry->type = dirent->d_type;
		transfer_add(dir, entry);
	}
	return 0;
}

static void finish_dir(struct transfer *transfer, struct transfer_dir *dir, bool whole)
{
	struct put *put = transfer->verb;
	struct client *client = transfer->client;
	struct attr made = { .ino = dir->ino };
	int err = 0;

	(void)whole;
	if (!transfer->stopped)
		err = fs_getattr(client->fs, &client->ctx, dir->ino, false, &made);
	if (!transfer->stopped && err == 0)
		err = keep_attributes(put, &dir->st, dir->fd, NULL, &made);
	if (err)
		transfer_fail(transfer, dir, NULL, TRANSFER_DEST, err);
	else if (!transfer->stopped)
		transfer->counts.directories++;
	fs_forget(client->fs, dir->ino, 1);
	closedir(dir->stream);
}

/* --- entries ----------------------------------------------------------------------------------------------------- */

/* Open what can be opened without consequences, and see what it is. *ret_fd is -1 for what cannot. */
static int open_source(struct item *item, int *ret_fd)
{
	const struct transfer_entry *entry = item->entry;
	int nofollow = item->put->recursive ? O_NOFOLLOW : 0, fd;

	*ret_fd = -1;
	if (entry->type != DT_REG && entry->type != DT_DIR) {
		if (fstatat(item->dir->fd, entry->name, &item->st, nofollow ? AT_SYMLINK_NOFOLLOW : 0) < 0)
			return -errno;
		if (!S_ISREG(item->st.st_mode) && !S_ISDIR(item->st.st_mode))
			return 0;
	}
	/* O_NONBLOCK, should somebody have put a fifo there meanwhile. */
	fd = openat(item->dir->fd, entry->name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | nofollow);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &item->st) < 0) {
		int err = -errno;

		close(fd);
		return err;
	}
	*ret_fd = fd;
	return 0;
}

static void copy_entry(struct transfer *transfer, struct transfer_dir *dir, struct transfer_entry *entry)
{
	struct item item = { .put = transfer->verb, .dir = dir, .entry = entry, .side = TRANSFER_SOURCE };
	int fd, err = open_source(&item, &fd);

	if (err) {
		transfer_fail(transfer, dir, entry, item.side, err);
		return;
	}
	if (S_ISDIR(item.st.st_mode)) {
		err = copy_dir(&item, fd);
	} else {
		err = copy_named(&item, fd);
		if (fd >= 0)
			close(fd);
	}
	if (err == -EEXIST)
		transfer_complain(transfer, dir, entry, TRANSFER_DEST, "exists already (use -f to replace it)");
	else if (err)
		transfer_fail(transfer, dir, entry, item.side, err);
}

const struct transfer_ops put_ops = { .list = list_dir, .copy = copy_entry, .finish = finish_dir };
