/*
 * lossyfs: a filesystem that forgets what was not synced, for tests of what a power failure leaves.
 *
 *     lossyfs MNT SOCKET           serves an empty tree on MNT from the background, and listens on SOCKET, until MNT is
 *                                  unmounted. It is in memory only
 *     lossyfs ask SOCKET WORD...   sends it a command and prints the answer; exits 1 when that begins with "error"
 *
 *     count                        how many durability events there were: rename; fsync, fdatasync, fsync of a directory where
 *                                  something was not synced
 *     freeze N before|after [WHAT GLOB]
 *                                  from the N-th event from now (of that name, on a path like that), before or after it takes
 *                                  effect, nobody is answered any more. N 0: from now
 *     frozen                       answered when that has come, by what it was. Whoever lives on it can be killed then.
 *     settle MS                    answered when nobody has changed or synced anything for so long, in ticks of 10 ms, each of
 *                                  which lasts until this process has the processor again: where others keep it busy the
 *                                  silence must be longer
 *     quota [BYTES]                prints how many bytes its files take. From now on they may have BYTES more: what would take
 *                                  more than that does nothing and gets EDQUOT, whatever statfs says. Without: as many as they like
 *     cut POLICY SEED              the power goes: whoever still waits gets an error, what survives is mounted anew. POLICY:
 *                                  nothing (of what was not synced), everything, or some, drawn from SEED; or names: what
 *                                  was done in directories and nothing else, as where a journal has only that. Or kept:
 *                                  the power stays, all is as it was, synced or not.
 *
 * It promises what POSIX does and no more. Of a file, contents by page and size are durable when the file was synced; its
 * name when the directory was. Every page has its durable contents and the last few versions written since; one of them
 * survives, whatever becomes of its neighbours. So has the size. A directory has its durable entries and the changes made
 * since, of which any may survive: a rename whole or not at all. Modes, owners and times are durable at once.
 *
 * One thread. Nothing is freed but pages: a run is short. Links other than hard ones, devices and renames from one directory
 * to another are refused.
 */
#define FUSE_USE_VERSION 314

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <fuse_lowlevel.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/falloc.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define PAGE          4096u
#define VERSIONS      4 /* of a page or a size that were not synced: more replace the last but one */
#define TIMEOUT       86400.0
#define TICK_MS       10
#define FREEZE_MAX_MS 300000                /* then nobody will come any more */
#define CAPACITY      (UINT64_C(256) << 20) /* small, since an MDT's log segments are a part of it */

struct page {
	struct page *older; /* NULL: this version is durable */
	unsigned int depth; /* how many are older */
	bool zero;          /* no bytes follow */
	uint8_t bytes[];
};

struct entry {
	struct entry *next;
	char *name;
	struct node *node;
	off_t cookie;
};

/* Of a directory, not synced. A rename has both names. */
struct change {
	struct change *next;
	char *remove, *add;
	struct node *node;
};

struct node {
	struct stat
		stat;  /* size, blocks, and for a directory everything but the mode are made when they are asked for */
	char *path;    /* the last one, for the trace */
	char *written; /* where, when the power is gone */
	int keep;      /* of four unsynced changes, how many survive */

	/* A file. */
	struct page **pages;
	size_t page_count, dirty_from, dirty_to;
	off_t size, older_sizes[VERSIONS];
	unsigned int older_size_count;

	/* A directory. */
	struct entry *entries, *durable;
	struct change *changes, **last_change;
};

enum policy { NOTHING, EVERYTHING, SOME, NAMES, KEPT };

static struct {
	const char *mount;
	struct fuse_session *session;
	struct node **nodes; /* by inode number */
	size_t node_count;
	off_t cookie;
	uint64_t events, freeze_in;           /* 0: no freeze was asked for */
	char freeze_what[16], freeze_at[128]; /* "": whatever event comes */
	bool freeze_after, frozen;
	char froze_at[PATH_MAX];
	const char *path; /* of the event under way, which a rename changes */
	bool is_the_one;  /* it is */
	int waiter;       /* for the freeze */
	int settler;
	uint64_t settle_ms, quiet_ms;
	uint64_t quota_pages;
	enum policy policy;
	uint64_t random;
} lossy = { .waiter = -1, .settler = -1 };

static struct page hole = { .zero = true }, reserved = { .zero = true };

static _Noreturn __attribute__((format(printf, 1, 2))) void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("lossyfs: ", stderr);
	vfprintf(stderr, format, args);
	fputs("\n", stderr);
	_exit(1);
}

static void *must(void *pointer)
{
	if (!pointer)
		die("out of memory");
	return pointer;
}

/* --- files ------------------------------------------------------------------------------------------------------------ */

static void page_free(struct page *page)
{
	if (page != &hole && page != &reserved)
		free(page);
}

/* bytes NULL: zeros */
static struct page *page_new(const uint8_t *bytes)
{
	struct page *page = must(calloc(1, sizeof(*page) + (bytes ? PAGE : 0)));

	page->zero = !bytes;
	if (bytes)
		memcpy(page->bytes, bytes, PAGE);
	return page;
}

static void pages_reach(struct node *node, size_t count)
{
	if (count <= node->page_count)
		return;
	node->pages = must(reallocarray(node->pages, count, sizeof(*node->pages)));
	while (node->page_count < count)
		node->pages[node->page_count++] = &hole;
}

static void page_push(struct node *node, size_t i, struct page *page)
{
	struct page *old = node->pages[i];

	if (old->depth == VERSIONS) {
		page->older = old->older;
		page->depth = old->depth;
		page_free(old);
	} else {
		page->older = old;
		page->depth = old->depth + 1;
	}
	node->pages[i] = page;
	lossy.quiet_ms = 0;
	if (node->dirty_from == node->dirty_to)
		node->dirty_from = node->dirty_to = i;
	if (i < node->dirty_from)
		node->dirty_from = i;
	if (i >= node->dirty_to)
		node->dirty_to = i + 1;
}

/* data NULL: zeros */
static void page_write(struct node *node, size_t i, size_t offset, const char *data, size_t size)
{
	const struct page *old = node->pages[i];
	uint8_t bytes[PAGE] = { 0 };

	if (!data && old->zero && !old->older)
		return;
	if (!data && size == PAGE) {
		page_push(node, i, page_new(NULL));
		return;
	}
	if (!old->zero)
		memcpy(bytes, old->bytes, PAGE);
	if (data)
		memcpy(bytes + offset, data, size);
	else
		memset(bytes + offset, 0, size);
	page_push(node, i, page_new(bytes));
}

static void file_write(struct node *node, const char *data, size_t size, size_t offset)
{
	pages_reach(node, (offset + size + PAGE - 1) / PAGE);
	while (size > 0) {
		size_t at = offset % PAGE, step = size < PAGE - at ? size : PAGE - at;

		page_write(node, offset / PAGE, at, data, step);
		data = data ? data + step : NULL;
		offset += step;
		size -= step;
	}
}

static void file_resize(struct node *node, off_t size)
{
	size_t end = node->page_count * PAGE;

	if (size == node->size)
		return;
	if (node->older_size_count == VERSIONS)
		node->older_size_count--;
	node->older_sizes[node->older_size_count++] = node->size;
	lossy.quiet_ms = 0;
	if (size < node->size && (size_t)size < end)
		file_write(node, NULL, end - (size_t)size, (size_t)size);
	node->size = size;
}

static void file_sync(struct node *node)
{
	for (size_t i = node->dirty_from; i < node->dirty_to; i++) {
		struct page *page = node->pages[i], *older = page->older;

		page->older = NULL;
		page->depth = 0;
		while (older) {
			page = older;
			older = page->older;
			page_free(page);
		}
	}
	node->dirty_from = node->dirty_to = 0;
	node->older_size_count = 0;
}

static size_t file_read(const struct node *node, char *data, size_t size, size_t offset)
{
	size_t done = 0;

	if (offset >= (size_t)node->size)
		return 0;
	if (size > (size_t)node->size - offset)
		size = (size_t)node->size - offset;
	while (done < size) {
		size_t at = offset % PAGE, step = size - done < PAGE - at ? size - done : PAGE - at;
		const struct page *page = offset / PAGE < node->page_count ? node->pages[offset / PAGE] : &hole;

		if (page->zero)
			memset(data + done, 0, step);
		else
			memcpy(data + done, page->bytes + at, step);
		done += step;
		offset += step;
	}
	return done;
}

/* Blocks that were allocated ahead are zeros and need no syncing. */
static void file_reserve(struct node *node, size_t from, size_t to)
{
	pages_reach(node, to);
	for (size_t i = from; i < to; i++)
		if (node->pages[i] == &hole)
			node->pages[i] = &reserved;
}

static blkcnt_t file_blocks(const struct node *node)
{
	blkcnt_t count = 0;

	for (size_t i = 0; i < node->page_count; i++)
		count += node->pages[i] == &hole ? 0 : PAGE / 512;
	return count;
}

static bool is_taken(const struct page *page)
{
	return !page->zero || page == &reserved;
}

/* All pages of files that have a name; of node, these count whether it has them or not. */
static uint64_t pages_taken(const struct node *node, size_t from, size_t to)
{
	uint64_t taken = 0;

	for (size_t n = FUSE_ROOT_ID; n < lossy.node_count; n++)
		for (size_t i = 0; lossy.nodes[n]->stat.st_nlink > 0 && i < lossy.nodes[n]->page_count; i++)
			taken += is_taken(lossy.nodes[n]->pages[i]);
	for (size_t i = from; i < to; i++)
		taken += i >= node->page_count || !is_taken(node->pages[i]);
	return taken;
}

static bool is_over_quota(const struct node *node, size_t offset, size_t size)
{
	return lossy.quota_pages > 0 &&
	       pages_taken(node, offset / PAGE, (offset + size + PAGE - 1) / PAGE) > lossy.quota_pages;
}

/* --- directories ------------------------------------------------------------------------------------------------------ */

static struct entry **entry_find(struct entry **list, const char *name)
{
	while (*list && strcmp((*list)->name, name) != 0)
		list = &(*list)->next;
	return list;
}

static void entry_set(struct entry **list, const char *name, struct node *node)
{
	struct entry **at = entry_find(list, name);

	if (!*at) {
		*at = must(calloc(1, sizeof(**at)));
		(*at)->name = must(strdup(name));
		(*at)->cookie = ++lossy.cookie;
	}
	(*at)->node = node;
}

static void entry_remove(struct entry **list, const char *name)
{
	struct entry **at = entry_find(list, name);

	if (*at)
		*at = (*at)->next;
}

/* In any order and with some left out it leaves a directory. */
static void change_apply(struct entry **list, const struct change *change)
{
	if (change->remove)
		entry_remove(list, change->remove);
	if (change->add)
		entry_set(list, change->add, change->node);
}

static void node_name(struct node *node, const struct node *dir, const char *name)
{
	if (asprintf(&node->path, "%s/%s", dir->path, name) < 0)
		die("out of memory");
}

static void dir_change(struct node *dir, const char *remove, const char *add, struct node *node)
{
	struct change *change = must(calloc(1, sizeof(*change)));

	change->remove = remove ? must(strdup(remove)) : NULL;
	change->add = add ? must(strdup(add)) : NULL;
	change->node = node;
	lossy.quiet_ms = 0;
	if (!dir->changes)
		dir->last_change = &dir->changes;
	*dir->last_change = change;
	dir->last_change = &change->next;
	if (add)
		node_name(node, dir, add);
	change_apply(&dir->entries, change);
}

static struct entry *entries_copy(const struct entry *list)
{
	struct entry *copy = NULL, **end = &copy;

	for (; list; list = list->next, end = &(*end)->next) {
		*end = must(malloc(sizeof(**end)));
		**end = *list;
		(*end)->next = NULL;
	}
	return copy;
}

static void dir_sync(struct node *dir)
{
	dir->durable = entries_copy(dir->entries);
	dir->changes = NULL;
}

static struct node *node_new(mode_t mode)
{
	struct node *node = must(calloc(1, sizeof(*node)));

	lossy.nodes = must(reallocarray(lossy.nodes, lossy.node_count + 1, sizeof(*lossy.nodes)));
	lossy.nodes[lossy.node_count] = node;
	node->stat.st_ino = lossy.node_count++;
	node->stat.st_mode = mode;
	node->stat.st_nlink = 1;
	node->path = must(strdup(""));
	clock_gettime(CLOCK_REALTIME, &node->stat.st_mtim);
	node->stat.st_atim = node->stat.st_ctim = node->stat.st_mtim;
	return node;
}

static bool is_dir(const struct node *node)
{
	return S_ISDIR(node->stat.st_mode);
}

/* --- the power is gone ------------------------------------------------------------------------------------------------ */

static uint64_t random_below(uint64_t below)
{
	lossy.random ^= lossy.random << 13;
	lossy.random ^= lossy.random >> 7;
	lossy.random ^= lossy.random << 17;
	return (lossy.random >> 16) % below;
}

static bool survives(const struct node *node)
{
	switch (lossy.policy) {
	case EVERYTHING:
		return true;
	case SOME:
		return (int)random_below(4) < node->keep;
	case NAMES:
		return is_dir(node);
	default:
		return false;
	}
}

static void file_cut(struct node *node)
{
	size_t end;

	while (node->older_size_count > 0 && !survives(node))
		node->size = node->older_sizes[--node->older_size_count];
	for (size_t i = node->dirty_from; i < node->dirty_to; i++) {
		struct page *page = node->pages[i];

		while (page->older && !survives(node)) {
			node->pages[i] = page->older;
			page_free(page);
			page = node->pages[i];
		}
	}
	file_sync(node);
	end = node->page_count * PAGE;
	if ((size_t)node->size < end)
		file_write(node, NULL, end - (size_t)node->size, (size_t)node->size);
	file_sync(node);
}

static void dir_cut(struct node *node)
{
	for (const struct change *change = node->changes; change; change = change->next)
		if (survives(node))
			change_apply(&node->durable, change);
	node->entries = entries_copy(node->durable);
	node->changes = NULL;
}

static void links_count(const struct node *dir)
{
	for (const struct entry *entry = dir->entries; entry; entry = entry->next) {
		entry->node->stat.st_nlink++;
		if (is_dir(entry->node))
			links_count(entry->node);
	}
}

/* What survives is all there is from now on. */
static void cut(enum policy policy, uint64_t seed)
{
	lossy.policy = policy;
	lossy.random = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15);
	for (size_t i = FUSE_ROOT_ID; i < lossy.node_count; i++) {
		struct node *node = lossy.nodes[i];

		node->keep = (int)random_below(5);
		node->stat.st_nlink = 0;
		if (is_dir(node))
			dir_cut(node);
		else
			file_cut(node);
	}
	links_count(lossy.nodes[FUSE_ROOT_ID]);
	for (size_t i = FUSE_ROOT_ID + 1; i < lossy.node_count; i++) {
		struct node *node = lossy.nodes[i];

		for (size_t page = 0; node->stat.st_nlink == 0 && page < node->page_count; page++)
			page_free(node->pages[page]);
		if (node->stat.st_nlink == 0)
			node->page_count = 0;
	}
}

/* --- events ----------------------------------------------------------------------------------------------------------- */

static __attribute__((format(printf, 2, 3))) void answer(int fd, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vdprintf(fd, format, args);
	va_end(args);
	close(fd);
}

static void freeze(const char *what, const char *name)
{
	const char *when = lossy.freeze_after ? "after" : "before";

	lossy.frozen = true;
	snprintf(lossy.froze_at, sizeof(lossy.froze_at), "frozen %s %s %s\n", when, what, name);
	fprintf(stderr, "frozen %s event %" PRIu64 "\n", when, lossy.events);
	if (lossy.waiter >= 0)
		answer(lossy.waiter, "%s", lossy.froze_at);
	lossy.waiter = -1;
}

static bool is_clean(const struct node *node)
{
	return node->dirty_from == node->dirty_to && node->older_size_count == 0 && !node->changes;
}

/* Is it what the freeze waits for? */
static bool is_the_one(const char *what, const char *path)
{
	if (lossy.freeze_in == 0)
		return false;
	if (*lossy.freeze_what && (strcmp(what, lossy.freeze_what) != 0 || fnmatch(lossy.freeze_at, path, 0) != 0))
		return false;
	return --lossy.freeze_in == 0;
}

/* One begins. True: nothing happens any more, and nobody is answered. */
static bool event_begins(const char *what, const struct node *node)
{
	lossy.quiet_ms = 0;
	lossy.path = node->path;
	lossy.events++;
	fprintf(stderr, "%" PRIu64 " %s %s\n", lossy.events, what, node->path);
	lossy.is_the_one = is_the_one(what, node->path);
	if (lossy.is_the_one && !lossy.freeze_after)
		freeze(what, node->path);
	return lossy.frozen;
}

/* It has taken effect. */
static bool event_ends(const char *what)
{
	if (lossy.is_the_one && lossy.freeze_after)
		freeze(what, lossy.path);
	return lossy.frozen;
}

/* --- requests --------------------------------------------------------------------------------------------------------- */

static struct node *node_of(fuse_ino_t ino)
{
	assert(ino >= FUSE_ROOT_ID && ino < lossy.node_count);
	return lossy.nodes[ino];
}

static struct stat stat_of(const struct node *node)
{
	struct stat st = node->stat;

	st.st_blksize = PAGE;
	st.st_size = node->size;
	st.st_blocks = file_blocks(node);
	return st;
}

static struct fuse_entry_param entry_of(const struct node *node)
{
	return (struct fuse_entry_param){
		.ino = node->stat.st_ino, .attr = stat_of(node), .attr_timeout = TIMEOUT, .entry_timeout = TIMEOUT
	};
}

static void reply_entry(fuse_req_t req, const struct node *node)
{
	struct fuse_entry_param param = entry_of(node);

	fuse_reply_entry(req, &param);
}

static struct node *child_of(fuse_ino_t parent, const char *name)
{
	struct entry *entry = *entry_find(&node_of(parent)->entries, name);

	return entry ? entry->node : NULL;
}

static void do_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct node *node = child_of(parent, name);

	if (node)
		reply_entry(req, node);
	else
		fuse_reply_err(req, ENOENT);
}

static void do_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file)
{
	struct stat st = stat_of(node_of(ino));

	(void)file;
	fuse_reply_attr(req, &st, TIMEOUT);
}

static void do_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int set, struct fuse_file_info *file)
{
	struct node *node = node_of(ino);

	if (set & FUSE_SET_ATTR_MODE)
		node->stat.st_mode = (node->stat.st_mode & S_IFMT) | (attr->st_mode & 07777);
	if (set & FUSE_SET_ATTR_UID)
		node->stat.st_uid = attr->st_uid;
	if (set & FUSE_SET_ATTR_GID)
		node->stat.st_gid = attr->st_gid;
	if (set & FUSE_SET_ATTR_SIZE)
		file_resize(node, attr->st_size);
	do_getattr(req, ino, file);
}

static struct node *make(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct node *node = node_new(mode);

	node->stat.st_uid = fuse_req_ctx(req)->uid;
	node->stat.st_gid = fuse_req_ctx(req)->gid;
	dir_change(node_of(parent), NULL, name, node);
	return node;
}

static void do_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	reply_entry(req, make(req, parent, name, S_IFDIR | mode));
}

static void do_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *file)
{
	struct fuse_entry_param param = entry_of(make(req, parent, name, S_IFREG | mode));

	fuse_reply_create(req, &param, file);
}

static void do_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	struct node *node = node_of(ino);

	node->stat.st_nlink++;
	dir_change(node_of(parent), NULL, name, node);
	reply_entry(req, node);
}

static void do_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	child_of(parent, name)->stat.st_nlink--;
	dir_change(node_of(parent), name, NULL, NULL);
	fuse_reply_err(req, 0);
}

static void do_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	if (child_of(parent, name)->entries)
		fuse_reply_err(req, ENOTEMPTY);
	else
		do_unlink(req, parent, name);
}

static void do_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to_parent, const char *to,
		      unsigned int flags)
{
	struct node *node = child_of(parent, name), *replaced = child_of(parent, to);

	if (flags != 0 || parent != to_parent || (replaced && is_dir(replaced))) {
		fuse_reply_err(req, parent != to_parent ? EXDEV : EINVAL);
		return;
	}
	if (event_begins("rename", node))
		return;
	if (replaced)
		replaced->stat.st_nlink--;
	dir_change(node_of(parent), name, to, node);
	if (!event_ends("rename"))
		fuse_reply_err(req, 0);
}

static void do_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file)
{
	if (file->flags & O_TRUNC)
		file_resize(node_of(ino), 0);
	file->keep_cache = 1;
	fuse_reply_open(req, file);
}

static void do_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *file)
{
	char *data = must(malloc(size));

	(void)file;
	fuse_reply_buf(req, data, file_read(node_of(ino), data, size, (size_t)offset));
	free(data);
}

static void do_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
		     struct fuse_file_info *file)
{
	struct node *node = node_of(ino);

	(void)file; /* with O_DSYNC an fsync follows from the kernel */
	if (is_over_quota(node, (size_t)offset, size)) {
		fuse_reply_err(req, EDQUOT);
		return;
	}
	file_write(node, data, size, (size_t)offset);
	if (offset + (off_t)size > node->size)
		file_resize(node, offset + (off_t)size);
	fuse_reply_write(req, size);
}

static void do_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
			 struct fuse_file_info *file)
{
	struct node *node = node_of(ino);
	size_t from = (size_t)offset, end = (size_t)(offset + length);

	(void)file;
	if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) {
		fuse_reply_err(req, EOPNOTSUPP);
		return;
	}
	if (!(mode & FALLOC_FL_PUNCH_HOLE) && is_over_quota(node, from, (size_t)length)) {
		fuse_reply_err(req, EDQUOT);
		return;
	}
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		file_write(node, NULL, end - from, from);
	if (!(mode & FALLOC_FL_PUNCH_HOLE))
		file_reserve(node, from / PAGE, (end + PAGE - 1) / PAGE);
	if (!(mode & FALLOC_FL_KEEP_SIZE) && (off_t)end > node->size)
		file_resize(node, (off_t)end);
	fuse_reply_err(req, 0);
}

static void do_fsync(fuse_req_t req, fuse_ino_t ino, int data_only, struct fuse_file_info *file)
{
	struct node *node = node_of(ino);
	const char *what = is_dir(node) ? "fsyncdir" : data_only ? "fdatasync" : "fsync";

	(void)file;
	if (!is_clean(node)) {
		if (event_begins(what, node))
			return;
		if (is_dir(node))
			dir_sync(node);
		else
			file_sync(node);
		if (event_ends(what))
			return;
	}
	fuse_reply_err(req, 0);
}

/* The cookies of "." and ".." are 1 and 2, below all others. */
static void do_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *file)
{
	struct entry dots[2] = {
		{ .next = &dots[1], .name = (char[]){ "." }, .node = node_of(ino), .cookie = 1 },
		{ .next = node_of(ino)->entries, .name = (char[]){ ".." }, .node = node_of(ino), .cookie = 2 },
	};
	char *data = must(malloc(size));
	size_t used = 0;

	(void)file;
	for (const struct entry *entry = dots; entry; entry = entry->next) {
		struct stat st;
		size_t more;

		if (entry->cookie <= offset)
			continue;
		st = stat_of(entry->node);
		more = fuse_add_direntry(req, data + used, size - used, entry->name, &st, entry->cookie);
		if (more > size - used)
			break;
		used += more;
	}
	fuse_reply_buf(req, data, used);
	free(data);
}

static void do_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs vfs = {
		.f_bsize = PAGE,
		.f_frsize = PAGE,
		.f_blocks = CAPACITY / PAGE,
		.f_bfree = CAPACITY / PAGE / 2,
		.f_bavail = CAPACITY / PAGE / 2,
		.f_files = 1 << 20,
		.f_ffree = 1 << 19,
		.f_favail = 1 << 19,
		.f_namemax = 255,
	};

	(void)ino;
	fuse_reply_statfs(req, &vfs);
}

static const struct fuse_lowlevel_ops operations = {
	.lookup = do_lookup,
	.getattr = do_getattr,
	.setattr = do_setattr,
	.mkdir = do_mkdir,
	.create = do_create,
	.link = do_link,
	.unlink = do_unlink,
	.rmdir = do_rmdir,
	.rename = do_rename,
	.open = do_open,
	.read = do_read,
	.write = do_write,
	.fallocate = do_fallocate,
	.fsync = do_fsync,
	.fsyncdir = do_fsync,
	.readdir = do_readdir,
	.statfs = do_statfs,
};

/* --- commands --------------------------------------------------------------------------------------------------------- */

/* The last order counts. */
static void command_freeze(uint64_t n, const char *when, const char *what, const char *at)
{
	lossy.freeze_in = n;
	snprintf(lossy.freeze_what, sizeof(lossy.freeze_what), "%s", what);
	snprintf(lossy.freeze_at, sizeof(lossy.freeze_at), "%s", at);
	lossy.freeze_after = strcmp(when, "after") == 0;
	if (n == 0)
		freeze("-", "-");
}

static void command_frozen(int fd)
{
	if (lossy.waiter >= 0)
		answer(lossy.waiter, "another one waits\n");
	lossy.waiter = -1;
	if (lossy.frozen)
		answer(fd, "%s", lossy.froze_at);
	else if (lossy.freeze_in == 0)
		answer(fd, "cut before\n");
	else
		lossy.waiter = fd;
}

static void mount_it(void)
{
	char *argv[] = { (char[]){ "lossyfs" }, (char[]){ "-ofsname=lossyfs,subtype=lossyfs" }, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(2, argv);

	lossy.session = fuse_session_new(&args, &operations, sizeof(operations), NULL);
	if (!lossy.session || fuse_session_mount(lossy.session, lossy.mount) != 0)
		die("%s: cannot be mounted", lossy.mount);
}

/* The old session's end closes the device: whoever waits has ENOTCONN. With a new one no cache of the kernel's is left. */
static void command_cut(int fd, enum policy policy, uint64_t seed)
{
	fuse_session_unmount(lossy.session);
	fuse_session_destroy(lossy.session);
	if (policy != KEPT)
		cut(policy, seed);
	mount_it();
	if (lossy.waiter >= 0)
		answer(lossy.waiter, "cut before\n");
	if (lossy.settler >= 0)
		answer(lossy.settler, "error: cut\n");
	lossy.waiter = lossy.settler = -1;
	lossy.freeze_in = 0;
	lossy.frozen = false;
	answer(fd, "cut after %" PRIu64 " events\n", lossy.events);
}

static void command(int fd)
{
	static const char *const policies[] = { "nothing", "everything", "some", "names", "kept" };
	char line[256], word[16] = "", argument[32] = "", last[32] = "", what[16] = "", at[128] = "";
	ssize_t n = read(fd, line, sizeof(line) - 1);
	uint64_t used;

	line[n > 0 ? n : 0] = '\0';
	sscanf(line, "%15s %31s %31s %15s %127s", word, argument, last, what, at);
	if (strcmp(word, "count") == 0) {
		answer(fd, "%" PRIu64 "\n", lossy.events);
		return;
	}
	if (strcmp(word, "quota") == 0) {
		used = pages_taken(NULL, 0, 0);
		lossy.quota_pages = *argument == '\0' ? 0 : used + strtoull(argument, NULL, 10) / PAGE;
		answer(fd, "%" PRIu64 "\n", used * PAGE);
		return;
	}
	if (strcmp(word, "settle") == 0 && lossy.settler < 0) {
		lossy.settler = fd;
		lossy.settle_ms = strtoull(argument, NULL, 10);
		return;
	}
	if (strcmp(word, "freeze") == 0 && !lossy.frozen) {
		command_freeze(strtoull(argument, NULL, 10), last, what, at);
		answer(fd, "from then on\n");
		return;
	}
	if (strcmp(word, "frozen") == 0) {
		command_frozen(fd);
		return;
	}
	for (size_t i = 0; strcmp(word, "cut") == 0 && i < sizeof(policies) / sizeof(*policies); i++)
		if (strcmp(argument, policies[i]) == 0)
			command_cut(fd, (enum policy)i, strtoull(last, NULL, 10));
	answer(fd, "error: not understood, or not now: %s\n", line);
}

static struct sockaddr_un address_of(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof(address.sun_path))
		die("%s: too long for a socket", path);
	strcpy(address.sun_path, path);
	return address;
}

static int ask(const char *path, char **words)
{
	struct sockaddr_un address = address_of(path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char line[PATH_MAX];
	size_t size = 0;
	ssize_t n;

	if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		die("%s: %s", path, strerror(errno));
	for (; *words; words++)
		size += (size_t)snprintf(line + size, sizeof(line) - size, "%s ", *words);
	if (write(fd, line, size) != (ssize_t)size)
		die("%s: %s", path, strerror(errno));
	size = 0;
	while ((n = read(fd, line + size, sizeof(line) - size)) > 0)
		size += (size_t)n;
	fwrite(line, 1, size, stdout);
	return size > 0 && strncmp(line, "error", 5) != 0 ? 0 : 1;
}

/* --- serving ---------------------------------------------------------------------------------------------------------- */

static void serve_request(void)
{
	static struct fuse_buf buffer;
	int n = fuse_session_receive_buf(lossy.session, &buffer);

	if (n > 0)
		fuse_session_process_buf(lossy.session, &buffer);
	else if (n != -EINTR && n != -EAGAIN && n != -ENOENT)
		fuse_session_exit(lossy.session);
}

/* Answers who waits for silence; for how long it must go on, if it must. */
static int settle(void)
{
	if (lossy.frozen)
		return FREEZE_MAX_MS; /* like everybody, it waits until the power goes */
	if (lossy.settler < 0)
		return -1;
	if (lossy.quiet_ms < lossy.settle_ms)
		return TICK_MS;
	answer(lossy.settler, "settled\n");
	lossy.settler = -1;
	return -1;
}

static void serve(int listener)
{
	while (!fuse_session_exited(lossy.session)) {
		struct pollfd fds[2] = { { .fd = listener, .events = POLLIN },
					 { .fd = fuse_session_fd(lossy.session), .events = POLLIN } };
		int timeout = settle(), n = poll(fds, lossy.frozen ? 1 : 2, timeout);

		if (n == 0 && lossy.frozen)
			die("frozen and forgotten");
		if (n == 0)
			lossy.quiet_ms += TICK_MS;
		if (fds[0].revents)
			command(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
		else if (!lossy.frozen && fds[1].revents)
			serve_request();
	}
}

static int listen_on(const char *path)
{
	struct sockaddr_un address = address_of(path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 8) < 0)
		die("%s: %s", path, strerror(errno));
	return fd;
}

int main(int argc, char **argv)
{
	int listener;

	if (argc > 3 && strcmp(argv[1], "ask") == 0)
		return ask(argv[2], argv + 3);
	if (argc != 3) {
		fprintf(stderr, "usage: lossyfs MNT SOCKET\n       lossyfs ask SOCKET WORD...\n");
		return 2;
	}
	lossy.mount = argv[1];
	lossy.nodes = must(calloc(FUSE_ROOT_ID, sizeof(*lossy.nodes)));
	lossy.node_count = FUSE_ROOT_ID;
	lossy.cookie = 2;
	node_new(S_IFDIR | 0755);
	listener = listen_on(argv[2]);
	mount_it();
	if (fork() != 0)
		_exit(0);
	setsid();
	signal(SIGPIPE, SIG_IGN); /* whoever asked may be gone */
	serve(listener);
	_exit(0);
}
