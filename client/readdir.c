#include "client/readdir.h"

#include "client/atime.h"
#include "client/data/data.h"
#include "client/fs_state.h"
#include "client/rpc.h"
#include "client/stat_store.h"
#include "proto/mds.pb-c.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_BYTES  (64u * 1024)
#define CACHE_PAGES 16

/* Cookies of the two names the MDT does not keep; its own are above. */
enum { COOKIE_DOT = 1, COOKIE_DOT_DOT = 2 };

/* One READDIR's answer. */
struct page {
	struct call call; /* holds the reply */
	const Strake__ReaddirReply *reply;
	uint64_t ino;
	uint64_t after;   /* asked for what comes after this cookie */
	bool attrs;       /* ... with attributes */
	uint64_t version; /* of the directory, as known when asked */
	uint64_t asked_ns;
};

struct dir_cache {
	pthread_mutex_t lock;
	struct page *pages[CACHE_PAGES]; /* the one put in last comes first; NULLs at the end */
};

struct dir_cache *dir_cache_new(void)
{
	struct dir_cache *cache = calloc(1, sizeof(*cache));

	if (cache != NULL)
		pthread_mutex_init(&cache->lock, NULL);
	return cache;
}

static void page_free(struct page *page)
{
	if (page != NULL) {
		call_release(&page->call);
		free(page);
	}
}

struct dir_cache *dir_cache_free(struct dir_cache *cache)
{
	if (cache == NULL)
		return NULL;
	for (int i = 0; i < CACHE_PAGES; i++)
		page_free(cache->pages[i]);
	pthread_mutex_destroy(&cache->lock);
	free(cache);
	return NULL;
}

static bool name_is_sound(const ProtobufCBinaryData *name)
{
	const char *data = (const char *)name->data;

	if (name->len == 0 || name->len > NAME_MAX || memchr(data, '/', name->len) || memchr(data, 0, name->len))
		return false;
	return data[0] != '.' || (name->len > 1 && (data[1] != '.' || name->len > 2));
}

bool readdir_is_sound(const Strake__ReaddirReply *reply, uint64_t after)
{
	uint64_t last = after;

	for (size_t i = 0; i < reply->n_entry; i++) {
		const Strake__Dirent *dirent = reply->entry[i];

		/* Two names may have one hash. */
		if (dirent->cookie <= after || dirent->cookie < last || !name_is_sound(&dirent->name))
			return false;
		last = dirent->cookie;
	}
	return reply->n_entry > 0 || reply->end;
}

static uint64_t page_last(const struct page *page)
{
	size_t count = page->reply->n_entry;

	return count == 0 ? page->after : page->reply->entry[count - 1]->cookie;
}

/* It says what comes next after this cookie. */
static bool page_covers(const struct page *page, uint64_t ino, uint64_t cookie, bool attrs)
{
	return page->ino == ino && page->attrs == attrs && page->after <= cookie &&
	       (cookie < page_last(page) || (page->reply->end && cookie == page_last(page)));
}

static struct page *cache_take(struct dir_cache *cache, uint64_t ino, uint64_t cookie, bool attrs)
{
	struct page *page = NULL;

	pthread_mutex_lock(&cache->lock);
	for (int i = 0; i < CACHE_PAGES && cache->pages[i] != NULL; i++) {
		if (page == NULL && page_covers(cache->pages[i], ino, cookie, attrs))
			page = cache->pages[i];
		if (page != NULL)
			cache->pages[i] = i + 1 < CACHE_PAGES ? cache->pages[i + 1] : NULL;
	}
	pthread_mutex_unlock(&cache->lock);
	return page;
}

static void cache_put(struct dir_cache *cache, struct page *page)
{
	struct page *oldest;

	pthread_mutex_lock(&cache->lock);
	oldest = cache->pages[CACHE_PAGES - 1];
	memmove(&cache->pages[1], &cache->pages[0], (CACHE_PAGES - 1) * sizeof(struct page *));
	cache->pages[0] = page;
	pthread_mutex_unlock(&cache->lock);
	page_free(oldest);
}

/* Somebody lists the directory from its start: what was known of the rest is older than that. */
static void cache_forget(struct dir_cache *cache, uint64_t ino)
{
	struct page *old[CACHE_PAGES];
	int kept = 0, count = 0;

	pthread_mutex_lock(&cache->lock);
	for (int i = 0; i < CACHE_PAGES && cache->pages[i] != NULL; i++) {
		struct page *page = cache->pages[i];

		cache->pages[i] = NULL;
		if (page->ino == ino)
			old[count++] = page;
		else
			cache->pages[kept++] = page;
	}
	pthread_mutex_unlock(&cache->lock);
	while (count > 0)
		page_free(old[--count]);
}

static uint64_t dir_version(struct inode *dir)
{
	uint64_t version;

	pthread_mutex_lock(&dir->lock);
	version = dir->doubted ? 0 : dir->attr.version;
	pthread_mutex_unlock(&dir->lock);
	return version;
}

static int page_ask(struct inode *dir, struct fs_ctx *ctx, uint64_t cookie, bool attrs, struct page **ret_page)
{
	Strake__Cred cred = rpc_cred(ctx);
	Strake__ReaddirRequest request = STRAKE__READDIR_REQUEST__INIT;
	struct page *page = calloc(1, sizeof(*page));
	int err;

	if (page == NULL)
		return -ENOMEM;
	request.cred = &cred;
	request.ino = dir->ino;
	request.cookie = cookie;
	request.max_bytes = PAGE_BYTES;
	request.has_attrs = request.attrs = attrs;
	*page = (struct page){
		.call = { .opcode = OP_READDIR, .request = &request.base },
		.ino = dir->ino,
		.after = cookie,
		.attrs = attrs,
		.version = dir_version(dir),
		.asked_ns = clock_ns(),
	};
	err = worker_mds_call(fs_worker(dir->fs), ctx, &page->call);
	page->call.request = NULL; /* was on this stack */
	page->reply = (const Strake__ReaddirReply *)page->call.reply;
	if (err == 0 && !readdir_is_sound(page->reply, cookie))
		err = -EPROTO;
	if (err < 0) {
		page_free(page);
		return err;
	}
	*ret_page = page;
	return 0;
}

static int page_get(struct inode *dir, struct fs_ctx *ctx, uint64_t cookie, bool attrs, struct page **ret_page)
{
	struct fs *fs = dir->fs;
	uint64_t timeout_ns = fs->config.attr_timeout_ms * NSEC_PER_MSEC;
	struct page *page = NULL;
	int err;

	/* The start is always asked for: rewinddir() must show what is new. */
	if (cookie > 0)
		page = cache_take(fs->dirs, dir->ino, cookie, attrs);
	else
		cache_forget(fs->dirs, dir->ino);
	if (page != NULL && (page->version != dir_version(dir) || clock_ns() - page->asked_ns >= timeout_ns)) {
		page_free(page);
		page = NULL;
	}
	if (page != NULL) {
		*ret_page = page;
		return 0;
	}
	err = page_ask(dir, ctx, cookie, attrs, ret_page);
	if (cookie == 0)
		stat_store_dir_changed(fs->stat_store, dir->ino);
	return err;
}

struct reading {
	struct inode *dir;
	uint64_t cookie; /* of the last entry that was taken */
	bool (*fn)(void *arg, const struct dir_entry *entry);
	void *arg;
	bool full; /* fn wants no more */
};

static void give_dot(struct reading *reading, uint64_t cookie, uint64_t ino)
{
	struct dir_entry entry = {
		.name = "..",
		.name_len = cookie, /* one dot, two dots */
		.ino = ino,
		.type = S_IFDIR,
		.cookie = cookie,
	};

	if (reading->full || reading->cookie >= cookie)
		return;
	if (reading->fn(reading->arg, &entry))
		reading->cookie = cookie;
	else
		reading->full = true;
}

/* With attributes: take them over, give the entry with what is known then, and a reference if it is taken. */
static int give_with_attr(struct reading *reading, struct dir_entry *entry, const Strake__Attr *wire, uint64_t asked_ns)
{
	struct inode *inode = inode_get(reading->dir->fs->inodes, wire->ino);
	struct attr attr;
	bool unreported;
	int err;

	if (inode == NULL)
		return -ENOMEM;
	err = inode_take_attr(inode, wire, asked_ns, &attr);
	if (err == 0) {
		pthread_mutex_lock(&inode->lock);
		unreported = data_unreported(inode);
		pthread_mutex_unlock(&inode->lock);
		/* Who wants to know of one that is being written, or whose names have changed since, must ask for it. */
		if (!unreported && !attr.size_unsure && attr.name_version == wire->name_version)
			entry->attr = &attr;
		reading->full = !reading->fn(reading->arg, entry);
		if (!reading->full && entry->attr != NULL)
			inode_lookup_add(inode);
	}
	inode_put(inode);
	return err;
}

static int give_page(struct reading *reading, const struct page *page)
{
	const Strake__ReaddirReply *reply = page->reply;
	const struct inode *dir = reading->dir;
	int err = 0;

	give_dot(reading, COOKIE_DOT, dir->ino);
	/* Above the root there is nothing, whatever directory is mounted. */
	give_dot(reading, COOKIE_DOT_DOT, dir->ino == dir->fs->root ? dir->ino : reply->parent);
	for (size_t i = 0; i < reply->n_entry && !reading->full && err == 0; i++) {
		const Strake__Dirent *dirent = reply->entry[i];
		struct dir_entry entry = {
			.name = (const char *)dirent->name.data,
			.name_len = dirent->name.len,
			.ino = dirent->ino,
			.type = dirent->type,
			.cookie = dirent->cookie,
		};

		if (dirent->cookie <= reading->cookie)
			continue;
		if (page->attrs && dirent->attr != NULL && dirent->attr->ino == dirent->ino)
			err = give_with_attr(reading, &entry, dirent->attr, page->asked_ns);
		else
			reading->full = !reading->fn(reading->arg, &entry);
		if (!reading->full && err == 0)
			reading->cookie = dirent->cookie;
	}
	return err;
}

int fs_readdir(struct fs *fs, struct fs_ctx *ctx, uint64_t ino, uint64_t cookie, bool attrs,
	       bool (*fn)(void *arg, const struct dir_entry *entry), void *arg)
{
	struct inode *dir = inode_get(fs->inodes, ino);
	struct reading reading = { .dir = dir, .cookie = cookie, .fn = fn, .arg = arg };
	struct page *page = NULL;
	bool end = false;
	int err = 0;

	if (dir == NULL)
		return -ENOMEM;
	while (err == 0 && !reading.full && !end) {
		err = page_get(dir, ctx, reading.cookie <= COOKIE_DOT_DOT ? 0 : reading.cookie, attrs, &page);
		if (err < 0)
			break;
		ctx->name_asked_ns = page->asked_ns;
		err = give_page(&reading, page);
		end = page->reply->end && !reading.full;
		if (err == 0 && (reading.full || end))
			cache_put(fs->dirs, page); /* for the next call */
		else
			page_free(page);
	}
	if (err == 0)
		atime_note(dir);
	else if (err == -ESTALE && inode_is_remembered(dir, NULL))
		err = -ENOENT;
	inode_put(dir);
	return err;
}

static int give_names(const Strake__ReaddirReply *reply, bool (*fn)(void *arg, const char *name, size_t len), void *arg)
{
	for (size_t i = 0; i < reply->n_entry; i++) {
		if (!fn(arg, (const char *)reply->entry[i]->name.data, reply->entry[i]->name.len))
			return -ECANCELED;
	}
	return 0;
}

int readdir_names(struct inode *dir, struct fs_ctx *ctx, bool (*fn)(void *arg, const char *name, size_t len), void *arg)
{
	uint64_t cookie = 0;
	struct page *page;
	bool end = false;
	int err = 0;

	while (err == 0 && !end) {
		err = page_ask(dir, ctx, cookie, false, &page);
		if (err < 0)
			break;
		err = give_names(page->reply, fn, arg);
		cookie = page_last(page);
		end = page->reply->end;
		page_free(page);
	}
	return err;
}
