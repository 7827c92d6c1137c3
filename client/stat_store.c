#include "client/stat_store.h"

#include "common/siphash.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define SETS          64 /* of directories: powers of two */
#define WAYS          4
#define BUCKETS_FIRST 256
#define WINDOW_NS     NSEC_PER_SEC

_Static_assert(sizeof(struct uuid) == SIPHASH_KEY_SIZE, "a drawn UUID is a key");

struct entry {
	struct entry *next; /* in its bucket */
	struct stat_page *page;
	uint64_t hash;
	const char *name;
	struct attr attr;
	uint8_t len;
	bool used;
};

/* Entries, and their names behind them. */
struct stat_page {
	struct stat_page *next;
	size_t bytes;
	uint64_t mark, asked_ns;
	size_t count;
	char *names; /* where the next one goes */
	struct entry entries[];
};

/* A directory in which names were asked for. */
struct dir {
	uint64_t ino; /* 0: none */
	uint64_t seen_ns;
	uint64_t window_ns; /* count is of the second that began then */
	unsigned int count;
	unsigned int in_vain; /* fetches, one after the other */
	uint64_t paused_until_ns, worth_ns;

	bool fetching; /* all below is of that fetch */
	uint64_t floor;
	size_t lookups, used, entry_count, bucket_count;
	struct entry **buckets;
	struct stat_page *pages;
};

struct stat_store {
	struct uuid key;           /* of the hashes */
	_Atomic unsigned int live; /* fetches: without any nothing is told, and nothing need be noted */
	pthread_mutex_t lock;      /* guards all below */
	uint64_t mark;
	uint64_t floor;
	size_t bytes, bytes_max;
	struct dir dirs[SETS][WAYS];
	uint64_t marks[STAT_MARKS]; /* of names and inodes: several may share one, which then counts for each of them */
};

struct stat_store *stat_store_new(size_t bytes_max, const struct uuid *key)
{
	struct stat_store *store = calloc(1, sizeof(*store));

	if (store == NULL)
		return NULL;
	store->key = *key;
	store->bytes_max = bytes_max;
	pthread_mutex_init(&store->lock, NULL);
	return store;
}

static void pages_free(struct stat_page *pages)
{
	while (pages != NULL) {
		struct stat_page *page = pages;

		pages = page->next;
		free(page);
	}
}

struct stat_store *stat_store_free(struct stat_store *store)
{
	if (store == NULL)
		return NULL;
	for (size_t i = 0; i < SETS; i++)
		for (size_t j = 0; j < WAYS; j++) {
			pages_free(store->dirs[i][j].pages);
			free(store->dirs[i][j].buckets);
		}
	pthread_mutex_destroy(&store->lock);
	free(store);
	return NULL;
}

static uint64_t spread(uint64_t number)
{
	number *= UINT64_C(0x9e3779b97f4a7c15);
	return number ^ number >> 32;
}

static uint64_t name_hash(const struct stat_store *store, const char *name, size_t len)
{
	return siphash(store->key.bytes, name, len);
}

static uint64_t *name_mark(struct stat_store *store, uint64_t dir, uint64_t hash)
{
	return &store->marks[(spread(dir) ^ hash) % STAT_MARKS];
}

static uint64_t *ino_mark(struct stat_store *store, uint64_t ino)
{
	return &store->marks[spread(ino) % STAT_MARKS];
}

static bool is_live(struct stat_store *store)
{
	return atomic_load(&store->live) > 0;
}

static struct dir *dir_find(struct stat_store *store, uint64_t ino)
{
	struct dir *set = store->dirs[spread(ino) % SETS];

	for (size_t i = 0; i < WAYS; i++)
		if (set[i].ino == ino)
			return &set[i];
	return NULL;
}

static struct dir *dir_fetched(struct stat_store *store, uint64_t ino)
{
	struct dir *dir = dir_find(store, ino);

	return dir != NULL && dir->fetching ? dir : NULL;
}

/* In place of the one that was seen longest ago. NULL: all of them are being fetched. */
static struct dir *dir_get(struct stat_store *store, uint64_t ino)
{
	struct dir *found = dir_find(store, ino), *set = store->dirs[spread(ino) % SETS], *oldest = NULL;

	if (found != NULL)
		return found;
	for (size_t i = 0; i < WAYS; i++)
		if (!set[i].fetching && (oldest == NULL || set[i].seen_ns < oldest->seen_ns))
			oldest = &set[i];
	if (oldest != NULL)
		*oldest = (struct dir){ .ino = ino };
	return oldest;
}

/* --- pages --------------------------------------------------------------------------------------------------------- */

struct stat_page *stat_page_new(size_t entries, size_t name_bytes, uint64_t mark, uint64_t asked_ns)
{
	size_t bytes = sizeof(struct stat_page) + entries * sizeof(struct entry) + name_bytes;
	struct stat_page *page = malloc(bytes);

	if (page == NULL)
		return NULL;
	*page = (struct stat_page){
		.bytes = bytes,
		.mark = mark,
		.asked_ns = asked_ns,
		.names = (char *)&page->entries[entries],
	};
	return page;
}

void stat_page_add(struct stat_page *page, struct stat_store *store, const char *name, size_t len,
		   const struct attr *attr)
{
	struct entry *entry = &page->entries[page->count++];

	*entry = (struct entry){
		.page = page,
		.hash = name_hash(store, name, len),
		.name = page->names,
		.attr = *attr,
		.len = (uint8_t)len,
	};
	memcpy(page->names, name, len);
	page->names += len;
}

static void dir_link(struct dir *dir, struct entry *entry)
{
	struct entry **bucket = &dir->buckets[entry->hash % dir->bucket_count];

	entry->next = *bucket;
	*bucket = entry;
}

/* So many buckets that there is no more than one entry in each, by and large. Without memory for them the old ones do. */
static bool dir_grow(struct dir *dir, size_t entries)
{
	size_t count = dir->bucket_count == 0 ? BUCKETS_FIRST : dir->bucket_count;
	struct entry **buckets;

	while (count < entries)
		count *= 4;
	if (count == dir->bucket_count)
		return true;
	buckets = calloc(count, sizeof(struct entry *));
	if (buckets == NULL)
		return dir->buckets != NULL;
	free(dir->buckets);
	dir->buckets = buckets;
	dir->bucket_count = count;
	for (struct stat_page *page = dir->pages; page != NULL; page = page->next)
		for (size_t i = 0; i < page->count; i++)
			dir_link(dir, &page->entries[i]);
	return true;
}

bool stat_store_put(struct stat_store *store, uint64_t ino, struct stat_page *page)
{
	struct dir *dir;
	bool taken;

	pthread_mutex_lock(&store->lock);
	dir = dir_fetched(store, ino);
	taken = dir != NULL && store->bytes + page->bytes <= store->bytes_max &&
		dir_grow(dir, dir->entry_count + page->count);
	if (taken) {
		for (size_t i = 0; i < page->count; i++)
			dir_link(dir, &page->entries[i]);
		page->next = dir->pages;
		dir->pages = page;
		dir->entry_count += page->count;
		store->bytes += page->bytes;
	}
	pthread_mutex_unlock(&store->lock);
	if (!taken)
		free(page);
	return taken;
}

/* --- fetches ------------------------------------------------------------------------------------------------------- */

static bool is_worth_a_fetch(struct stat_store *store, struct dir *dir, uint64_t now_ns)
{
	bool again = dir->worth_ns != 0 && now_ns - dir->worth_ns < WINDOW_NS;

	if (now_ns - dir->window_ns >= WINDOW_NS) {
		dir->window_ns = now_ns;
		dir->count = 0;
	}
	dir->count++;
	return dir->count >= (again ? STAT_LOOKUPS_AGAIN : STAT_LOOKUPS) && now_ns >= dir->paused_until_ns &&
	       atomic_load(&store->live) < STAT_FETCHES;
}

static void fetch_begin(struct stat_store *store, struct dir *dir)
{
	dir->fetching = true;
	dir->floor = store->mark;
	dir->count = 0;
	dir->lookups = dir->used = dir->entry_count = 0;
	atomic_fetch_add(&store->live, 1);
}

bool stat_store_asked(struct stat_store *store, uint64_t ino, const char *name, size_t len, bool is_file,
		      uint64_t now_ns)
{
	struct dir *dir;
	bool begin = false;

	if (!is_file && !is_live(store))
		return false;
	pthread_mutex_lock(&store->lock);
	dir = is_file ? dir_get(store, ino) : dir_fetched(store, ino);
	if (dir != NULL)
		dir->seen_ns = now_ns;
	if (dir != NULL && dir->fetching) {
		/* What he was told is newer than what the pages say that were asked for before. */
		*name_mark(store, ino, name_hash(store, name, len)) = ++store->mark;
		dir->lookups++;
	} else if (dir != NULL) {
		begin = is_worth_a_fetch(store, dir, now_ns);
		if (begin)
			fetch_begin(store, dir);
	}
	pthread_mutex_unlock(&store->lock);
	return begin;
}

uint64_t stat_store_mark(struct stat_store *store)
{
	uint64_t mark;

	pthread_mutex_lock(&store->lock);
	mark = store->mark;
	pthread_mutex_unlock(&store->lock);
	return mark;
}

bool stat_store_goes_on(struct stat_store *store, uint64_t ino)
{
	struct dir *dir;
	bool goes_on;

	pthread_mutex_lock(&store->lock);
	dir = dir_fetched(store, ino);
	goes_on = dir != NULL && dir->entry_count < STAT_FREE_ENTRIES + STAT_PACE * dir->lookups &&
		  (dir->entry_count < STAT_FREE_ENTRIES || dir->used * STAT_HITS >= dir->lookups);
	pthread_mutex_unlock(&store->lock);
	return goes_on;
}

static void judge(struct dir *dir, uint64_t now_ns)
{
	unsigned int pause_s = STAT_PAUSE_S;

	if (dir->used > 0 && dir->used * STAT_WORTH >= dir->entry_count) {
		dir->worth_ns = now_ns;
		dir->in_vain = 0;
		return;
	}
	for (unsigned int i = 0; i < dir->in_vain && pause_s < STAT_PAUSE_MAX_S; i++)
		pause_s *= 2;
	dir->in_vain++;
	dir->worth_ns = 0;
	dir->paused_until_ns = now_ns + pause_s * NSEC_PER_SEC;
}

void stat_store_end(struct stat_store *store, uint64_t ino, uint64_t now_ns)
{
	struct stat_page *pages = NULL;
	struct entry **buckets = NULL;
	struct dir *dir;

	pthread_mutex_lock(&store->lock);
	dir = dir_fetched(store, ino);
	if (dir != NULL) {
		judge(dir, now_ns);
		pages = dir->pages;
		buckets = dir->buckets;
		dir->pages = NULL;
		dir->buckets = NULL;
		dir->bucket_count = 0;
		dir->fetching = false;
		for (struct stat_page *page = pages; page != NULL; page = page->next)
			store->bytes -= page->bytes;
		atomic_fetch_sub(&store->live, 1);
	}
	pthread_mutex_unlock(&store->lock);
	pages_free(pages);
	free(buckets);
}

/* --- what is told ---------------------------------------------------------------------------------------------------- */

static struct entry *entry_find(const struct dir *dir, uint64_t hash, const char *name, size_t len)
{
	struct entry *entry = dir->buckets == NULL ? NULL : dir->buckets[hash % dir->bucket_count];

	while (entry != NULL && (entry->hash != hash || entry->len != len || memcmp(entry->name, name, len) != 0))
		entry = entry->next;
	return entry;
}

/* Nothing was learned of it after that mark. */
static bool holds(struct stat_store *store, const struct dir *dir, uint64_t hash, uint64_t ino, uint64_t mark)
{
	return store->floor <= mark && dir->floor <= mark && *name_mark(store, dir->ino, hash) <= mark &&
	       *ino_mark(store, ino) <= mark;
}

bool stat_store_find(struct stat_store *store, uint64_t ino, const char *name, size_t len, uint64_t since_ns,
		     struct stat_found *ret_found)
{
	uint64_t hash;
	struct entry *entry;
	struct dir *dir;
	bool found = false;

	if (!is_live(store))
		return false;
	hash = name_hash(store, name, len);
	pthread_mutex_lock(&store->lock);
	dir = dir_fetched(store, ino);
	entry = dir == NULL ? NULL : entry_find(dir, hash, name, len);
	if (entry != NULL && entry->page->asked_ns > since_ns)
		found = holds(store, dir, hash, entry->attr.ino, entry->page->mark);
	if (found) {
		dir->lookups++;
		dir->used += !entry->used;
		entry->used = true;
		*ret_found = (struct stat_found){
			.attr = entry->attr,
			.asked_ns = entry->page->asked_ns,
			.dir = ino,
			.hash = hash,
			.mark = entry->page->mark,
		};
	}
	pthread_mutex_unlock(&store->lock);
	return found;
}

bool stat_store_holds(struct stat_store *store, const struct stat_found *found)
{
	struct dir *dir;
	bool same;

	pthread_mutex_lock(&store->lock);
	dir = dir_fetched(store, found->dir);
	same = dir != NULL && holds(store, dir, found->hash, found->attr.ino, found->mark);
	pthread_mutex_unlock(&store->lock);
	return same;
}

/* --- what is learned --------------------------------------------------------------------------------------------------- */

void stat_store_name_changed(struct stat_store *store, uint64_t dir, const char *name, size_t len)
{
	if (!is_live(store))
		return;
	pthread_mutex_lock(&store->lock);
	*name_mark(store, dir, name_hash(store, name, len)) = ++store->mark;
	pthread_mutex_unlock(&store->lock);
}

void stat_store_ino_changed(struct stat_store *store, uint64_t ino)
{
	if (store == NULL || !is_live(store))
		return;
	pthread_mutex_lock(&store->lock);
	*ino_mark(store, ino) = ++store->mark;
	pthread_mutex_unlock(&store->lock);
}

void stat_store_dir_changed(struct stat_store *store, uint64_t ino)
{
	struct dir *dir;

	if (!is_live(store))
		return;
	pthread_mutex_lock(&store->lock);
	dir = dir_fetched(store, ino);
	if (dir != NULL)
		dir->floor = ++store->mark;
	pthread_mutex_unlock(&store->lock);
}

void stat_store_void(struct stat_store *store)
{
	if (store == NULL || !is_live(store))
		return;
	pthread_mutex_lock(&store->lock);
	store->floor = ++store->mark;
	pthread_mutex_unlock(&store->lock);
}
