/*
 * One entry of `client get`: opened there, made here with nobody else's rights, filled, and made to look like its
 * source last.
 */
#include "client/cli/get.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LIST_MAX   256 /* entries in memory per directory */
#define PRIVILEGES (S_ISUID | S_ISGID)

/* One entry under way. */
struct item {
	struct get *get;
	struct transfer_dir *dir;
	struct transfer_entry *entry;
	struct stat st;
	enum transfer_side side; /* of the error that is on its way */
};

static struct client *client_of(const struct get *get)
{
	return get->transfer.client;
}

/* An error of the local side: what errno says. */
static int at_dest(struct item *item)
{
	item->side = TRANSFER_DEST;
	return -errno;
}

/* The copy as a path for calls that know no descriptor. */
static const char *local_path(const struct transfer_dir *dir, const struct transfer_entry *entry, char out[PATH_MAX])
{
	if (dir->fd == AT_FDCWD)
		snprintf(out, PATH_MAX, "%s", entry->to);
	else
		snprintf(out, PATH_MAX, "/proc/self/fd/%d/%s", dir->fd, entry->to);
	return out;
}

/* --- attributes -------------------------------------------------------------------------------------------------- */

/* Without being root nobody gives files away, nor hands on privileges of another's. */
static mode_t wanted_mode(const struct get *get, const struct stat *st)
{
	const struct fs_ctx *ctx = &client_of(get)->ctx;
	bool foreign = st->st_uid != ctx->uid || st->st_gid != ctx->gid;

	return st->st_mode & (!get->root && foreign && !S_ISDIR(st->st_mode) ? 07777 & ~PRIVILEGES : 07777);
}

/* A file or directory that is open. */
static int keep_attributes_fd(struct get *get, const struct stat *st, int fd, enum transfer_side *side)
{
	const struct timespec times[2] = { st->st_atim, st->st_mtim };
	int err;

	*side = TRANSFER_DEST;
	if (get->root && fchown(fd, st->st_uid, st->st_gid) < 0)
		return -errno;
	err = xattrs_get(&get->xattrs, client_of(get), st->st_ino, fd, NULL);
	if (err)
		return err;
	if (fchmod(fd, wanted_mode(get, st)) < 0 || futimens(fd, times) < 0)
		return -errno;
	return 0;
}

/* Anything else, in its directory. */
static int keep_attributes_at(struct item *item)
{
	const struct stat *st = &item->st;
	const struct timespec times[2] = { st->st_atim, st->st_mtim };
	struct get *get = item->get;
	int fd = item->dir->fd, err;
	const char *to = item->entry->to;
	char path[PATH_MAX];

	item->side = TRANSFER_DEST;
	if (get->root && fchownat(fd, to, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	err = xattrs_get(&get->xattrs, client_of(get), st->st_ino, -1, local_path(item->dir, item->entry, path));
	if (err)
		return err;
	if (!S_ISLNK(st->st_mode) && fchmodat(fd, to, wanted_mode(get, st), 0) < 0)
		return -errno;
	return utimensat(fd, to, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

/* --- what is in the way ------------------------------------------------------------------------------------------ */

/* -EEXIST, with -f: remove what is there, unless it is a directory. 0: try again. */
static int clear_way(struct item *item)
{
	item->side = TRANSFER_DEST;
	if (!item->get->force)
		return -EEXIST;
	return unlinkat(item->dir->fd, item->entry->to, 0) < 0 && errno != ENOENT ? -errno : 0;
}

/* --- files ------------------------------------------------------------------------------------------------------- */

static int write_all(int fd, const struct iovec *iov, uint64_t offset)
{
	const char *data = iov->iov_base;
	size_t left = iov->iov_len;

	while (left > 0) {
		ssize_t done = pwrite(fd, data, left, (off_t)offset);

		if (done < 0)
			return -errno;
		data += done;
		left -= (size_t)done;
		offset += (uint64_t)done;
	}
	return 0;
}

static int write_result(struct item *item, int fd, const struct read_result *result, uint64_t offset)
{
	int err = 0;

	for (int i = 0; i < result->iov_count && err == 0; i++) {
		err = write_all(fd, &result->iov[i], offset);
		offset += result->iov[i].iov_len;
	}
	if (err)
		item->side = TRANSFER_DEST;
	return err;
}

/* Copy up to `end`, or to where the source ends. *ret_end is how far it got. */
static int copy_range(struct item *item, struct file *file, int fd, void *buffer, uint64_t start, uint64_t end,
		      uint64_t *ret_end)
{
	struct get *get = item->get;
	int err = 0;

	while (start < end && err == 0) {
		size_t size = TRANSFER_PIECE - (size_t)(start % TRANSFER_PIECE);
		struct read_result result;
		size_t len;

		if (size > end - start)
			size = (size_t)(end - start);
		err = fs_read(file, &client_of(get)->ctx, start, size, buffer, &result);
		if (err)
			break;
		len = result.len;
		err = write_result(item, fd, &result, start);
		read_release(&result);
		if (err == 0) {
			start += len;
			get->transfer.counts.bytes += len;
			transfer_moved(item->entry);
		}
		if (len < size)
			break;
	}
	*ret_end = start;
	return err;
}

static int copy_sparse(struct item *item, struct file *file, int fd, void *buffer)
{
	struct client *client = client_of(item->get);
	uint64_t at = 0, start, end;
	int err;

	while ((err = fs_seek(file, &client->ctx, at, false, &start)) == 0) {
		err = fs_seek(file, &client->ctx, start, true, &end);
		if (err == 0)
			err = copy_range(item, file, fd, buffer, start, end, &at);
		if (err || at < end)
			break;
	}
	if (err == -ENXIO)
		err = 0;
	if (err == 0 && at < (uint64_t)item->st.st_size && ftruncate(fd, item->st.st_size) < 0)
		err = at_dest(item);
	return err;
}

static bool has_holes(const struct stat *st)
{
	return (uint64_t)st->st_blocks < ((uint64_t)st->st_size + 511) / 512;
}

static int fill_file(struct item *item, struct file *file, int fd)
{
	struct bulk *buffer;
	uint64_t end;
	int err;

	if (item->st.st_size == 0)
		return 0;
	buffer = bufpool_get(item->get->buffers);
	if (!buffer)
		return -ENOMEM;
	err = has_holes(&item->st) ? copy_sparse(item, file, fd, buffer->data)
				   : copy_range(item, file, fd, buffer->data, 0, (uint64_t)item->st.st_size, &end);
	buffer->release(buffer);
	return err;
}

static int make_file(struct item *item, int *ret_fd)
{
	mode_t mode = item->get->recursive ? S_IRUSR | S_IWUSR : item->st.st_mode & 0777;
	int fd, err;

	while ((fd = openat(item->dir->fd, item->entry->to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)) < 0) {
		err = at_dest(item);
		if (err == -EEXIST)
			err = clear_way(item);
		if (err)
			return err;
	}
	item->entry->incomplete = true;
	*ret_fd = fd;
	return 0;
}

static int copy_opened(struct item *item, struct file *file)
{
	struct get *get = item->get;
	struct client *client = client_of(get);
	struct attr attr;
	int fd, err = fs_getattr(client->fs, &client->ctx, item->entry->ino, false, &attr);

	if (err)
		return err;
	attr_to_stat(&attr, &item->st);
	err = make_file(item, &fd);
	if (err)
		return err;
	err = fill_file(item, file, fd);
	if (err == 0 && get->recursive)
		err = keep_attributes_fd(get, &item->st, fd, &item->side);
	if (close(fd) < 0 && err == 0)
		err = at_dest(item);
	if (err == 0) {
		get->transfer.counts.files++;
		get->last = attr;
	}
	return err;
}

static int copy_file(struct item *item)
{
	struct client *client = client_of(item->get);
	struct file *file;
	bool keep_cache;
	int err = fs_open_file(client->fs, &client->ctx, item->entry->ino, O_RDONLY, &file, &keep_cache);

	if (err)
		return err;
	transfer_moved(item->entry);
	err = copy_opened(item, file);
	fs_release(file);
	return err;
}

/* --- what is no file --------------------------------------------------------------------------------------------- */

static int make_other(struct item *item, const char *target)
{
	const struct stat *st = &item->st;
	const char *to = item->entry->to;
	int result = S_ISLNK(st->st_mode)
			     ? symlinkat(target, item->dir->fd, to)
			     : mknodat(item->dir->fd, to, (st->st_mode & S_IFMT) | S_IRUSR | S_IWUSR, st->st_rdev);

	return result < 0 ? at_dest(item) : 0;
}

/* A symbolic link, fifo, socket or device. */
static int copy_other(struct item *item)
{
	struct get *get = item->get;
	struct client *client = client_of(get);
	char target[PATH_MAX] = "";
	size_t len = 0;
	int err = 0;

	if (S_ISLNK(item->st.st_mode))
		err = fs_readlink(client->fs, &client->ctx, item->entry->ino, target, sizeof(target) - 1, &len);
	if (err)
		return err;
	target[len] = '\0';
	while ((err = make_other(item, target)) == -EEXIST)
		if ((err = clear_way(item)) != 0)
			return err;
	if (err == 0)
		err = keep_attributes_at(item);
	if (err == 0)
		get->transfer.others++;
	return err;
}

/* --- hard links -------------------------------------------------------------------------------------------------- */

static int copy_whole(struct item *item)
{
	return S_ISREG(item->st.st_mode) ? copy_file(item) : copy_other(item);
}

/* The copy's path from the directory where we are; malloc'ed. NULL: no memory. */
static char *copy_path(const struct transfer_dir *dir, const struct transfer_entry *entry)
{
	size_t len = strlen(entry->to);
	char *path;

	for (const struct transfer_dir *up = dir; up->parent; up = up->parent)
		len += strlen(up->name) + 1;
	path = malloc(len + 1);
	if (!path)
		return NULL;
	path[len] = '\0';
	len -= strlen(entry->to);
	memcpy(path + len, entry->to, strlen(entry->to));
	for (const struct transfer_dir *up = dir; up->parent; up = up->parent) {
		path[--len] = '/';
		len -= strlen(up->name);
		memcpy(path + len, up->name, strlen(up->name));
	}
	return path;
}

static int link_to(struct item *item, const char *path)
{
	int err;

	while (linkat(AT_FDCWD, path, item->dir->fd, item->entry->to, 0) < 0) {
		err = at_dest(item);
		if (err == -EEXIST)
			err = clear_way(item);
		if (err)
			return err;
	}
	if (S_ISREG(item->st.st_mode))
		item->get->transfer.counts.files++;
	else
		item->get->transfer.others++;
	return 0;
}

/* What has one name or several. */
static int copy_named(struct item *item)
{
	struct get *get = item->get;
	uint64_t ino = item->entry->ino;
	enum links_verdict verdict;
	struct links_copy copy = { 0 };
	int err;

	if (!get->recursive || item->st.st_nlink < 2)
		return copy_whole(item);
	err = links_enter(get->links, 0, ino, item->st.st_nlink, &verdict, &copy);
	if (err)
		return err;
	if (verdict == LINKS_OTHER) {
		err = link_to(item, copy.path);
		links_leave(get->links, 0, ino);
		return err;
	}
	err = copy_whole(item);
	if (err == 0) {
		copy.path = copy_path(item->dir, item->entry);
		err = copy.path ? 0 : -ENOMEM;
	}
	if (err)
		links_failed(get->links, 0, ino);
	else
		links_copied(get->links, 0, ino, copy);
	return err;
}

/* --- directories ------------------------------------------------------------------------------------------------- */

static int copy_dir(struct item *item)
{
	struct get *get = item->get;
	const char *to = item->entry->to;
	struct transfer_dir *dir;
	int fd;

	if (mkdirat(item->dir->fd, to, S_IRWXU) < 0 && !(errno == EEXIST && get->force))
		return at_dest(item);
	fd = openat(item->dir->fd, to, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return at_dest(item);
	dir = transfer_push(&get->transfer, item->dir, item->entry);
	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	dir->fd = fd;
	dir->ino = item->entry->ino;
	dir->st = item->st;
	return 0;
}

/* fs_readdir() under way. */
struct listing {
	struct client *client;
	struct transfer_dir *dir;
	unsigned int count;
	uint64_t referenced; /* an inode that we were given a reference of, or 0 */
	int err;
	bool full;
};

/* The attributes are copied; the reference, which comes after list_one() has taken an entry, is not needed. */
static void list_forget(struct listing *listing)
{
	if (listing->referenced)
		fs_forget(listing->client->fs, listing->referenced, 1);
	listing->referenced = 0;
}

static bool list_one(void *arg, const struct dir_entry *from)
{
	struct listing *listing = arg;
	struct transfer_entry *entry;

	list_forget(listing);
	if (path_base_is_special(from->name, from->name_len)) {
		listing->dir->cookie = from->cookie;
		return true;
	}
	if (listing->count == LIST_MAX) {
		listing->full = true;
		return false;
	}
	entry = transfer_entry_new(from->name, from->name_len);
	if (!entry) {
		listing->err = -ENOMEM;
		return false;
	}
	entry->ino = from->ino;
	entry->type = (unsigned char)IFTODT(from->type);
	if (from->attr) {
		attr_to_stat(from->attr, &entry->st);
		entry->has_stat = true;
		listing->referenced = from->ino;
	}
	transfer_add(listing->dir, entry);
	listing->dir->cookie = from->cookie;
	listing->count++;
	return true;
}

static int list_dir(struct transfer *transfer, struct transfer_dir *dir)
{
	struct client *client = transfer->client;
	struct listing listing = { .client = client, .dir = dir };
	int err = fs_readdir(client->fs, &client->ctx, dir->ino, dir->cookie, true, list_one, &listing);

	list_forget(&listing);
	dir->listed = !listing.full;
	return err ? err : listing.err;
}

static void finish_dir(struct transfer *transfer, struct transfer_dir *dir, bool whole)
{
	struct get *get = transfer->verb;
	enum transfer_side side = TRANSFER_DEST;
	int err = 0;

	(void)whole;
	if (!transfer->stopped)
		err = keep_attributes_fd(get, &dir->st, dir->fd, &side);
	if (err)
		transfer_fail(transfer, dir, NULL, side, err);
	else if (!transfer->stopped)
		transfer->counts.directories++;
	close(dir->fd);
}

/* --- entries ----------------------------------------------------------------------------------------------------- */

static int see_source(struct item *item)
{
	struct client *client = client_of(item->get);
	const struct transfer_entry *entry = item->entry;
	struct attr attr;
	int err;

	if (entry->has_stat) {
		item->st = entry->st;
		return 0;
	}
	err = fs_getattr(client->fs, &client->ctx, entry->ino, false, &attr);
	if (err == 0)
		attr_to_stat(&attr, &item->st);
	return err;
}

static void copy_entry(struct transfer *transfer, struct transfer_dir *dir, struct transfer_entry *entry)
{
	struct item item = { .get = transfer->verb, .dir = dir, .entry = entry, .side = TRANSFER_SOURCE };
	int err = see_source(&item);

	if (err == 0)
		err = S_ISDIR(item.st.st_mode) ? copy_dir(&item) : copy_named(&item);
	if (err == -EEXIST && item.side == TRANSFER_DEST)
		transfer_complain(transfer, dir, entry, TRANSFER_DEST, "exists already (use -f to replace it)");
	else if (err)
		transfer_fail(transfer, dir, entry, item.side, err);
}

const struct transfer_ops get_ops = { .list = list_dir, .copy = copy_entry, .finish = finish_dir };
