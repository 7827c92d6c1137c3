#include "client/inode.h"

#include "client/atime.h"
#include "client/attr.h"
#include "client/data/data.h"
#include "client/fs_state.h"
#include "client/layouts.h"
#include "client/locks.h"
#include "client/stat_store.h"
#include "client/worker.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TABLE_FIRST_SIZE 1024
#define PAGES_OPEN_NS    NSEC_PER_SEC

struct inode_table {
	struct fs *fs;
	pthread_mutex_t lock; /* guards all below, and every inode's refs, lookups, hash_next */
	size_t size;          /* buckets: a power of two */
	size_t count;
	struct inode **buckets;
};

struct inode_table *inode_table_new(struct fs *fs)
{
	struct inode_table *table = calloc(1, sizeof(*table));

	if (table == NULL)
		return NULL;
	table->buckets = calloc(TABLE_FIRST_SIZE, sizeof(struct inode *));
	if (table->buckets == NULL) {
		free(table);
		return NULL;
	}
	table->fs = fs;
	table->size = TABLE_FIRST_SIZE;
	pthread_mutex_init(&table->lock, NULL);
	return table;
}

static void inode_free(struct inode *inode)
{
	locks_free(inode);
	data_free(inode);
	pthread_mutex_destroy(&inode->lock);
	free(inode);
}

struct inode_table *inode_table_free(struct inode_table *table)
{
	if (table == NULL)
		return NULL;
	for (size_t i = 0; i < table->size; i++)
		while (table->buckets[i] != NULL) {
			struct inode *inode = table->buckets[i];

			/* The kernel forgets nothing at unmount; everybody else has let go. */
			assert(inode->refs == inode->lookups);
			table->buckets[i] = inode->hash_next;
			inode_free(inode);
		}
	free(table->buckets);
	pthread_mutex_destroy(&table->lock);
	free(table);
	return NULL;
}

/* Numbers of one MDT are counted up: Fibonacci hashing spreads them, and those of several MDTs. */
static struct inode **bucket_of(const struct inode_table *table, uint64_t ino)
{
	return &table->buckets[(ino * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (table->size - 1)];
}

/* Twice the buckets; without memory for them the old ones do. */
static void table_grow(struct inode_table *table)
{
	struct inode **old = table->buckets;
	size_t old_size = table->size;
	struct inode **buckets = calloc(old_size * 2, sizeof(struct inode *));

	if (buckets == NULL)
		return;
	table->buckets = buckets;
	table->size = old_size * 2;
	for (size_t i = 0; i < old_size; i++)
		while (old[i] != NULL) {
			struct inode *inode = old[i];
			struct inode **bucket = bucket_of(table, inode->ino);

			old[i] = inode->hash_next;
			inode->hash_next = *bucket;
			*bucket = inode;
		}
	free(old);
}

static struct inode *find(struct inode_table *table, uint64_t ino)
{
	struct inode *inode = *bucket_of(table, ino);

	while (inode != NULL && inode->ino != ino)
		inode = inode->hash_next;
	return inode;
}

struct inode *inode_find(struct inode_table *table, uint64_t ino)
{
	struct inode *inode;

	pthread_mutex_lock(&table->lock);
	inode = find(table, ino);
	if (inode != NULL)
		inode->refs++;
	pthread_mutex_unlock(&table->lock);
	return inode;
}

struct inode *inode_get(struct inode_table *table, uint64_t ino)
{
	struct inode **bucket, *inode;

	pthread_mutex_lock(&table->lock);
	inode = find(table, ino);
	if (inode == NULL) {
		inode = calloc(1, sizeof(*inode));
		if (inode == NULL) {
			pthread_mutex_unlock(&table->lock);
			return NULL;
		}
		inode->fs = table->fs;
		inode->ino = ino;
		inode->attr.layout = &layout_none;
		pthread_mutex_init(&inode->lock, NULL);
		if (++table->count > table->size)
			table_grow(table);
		bucket = bucket_of(table, ino);
		inode->hash_next = *bucket;
		*bucket = inode;
	}
	inode->refs++;
	pthread_mutex_unlock(&table->lock);
	return inode;
}

struct inode *inode_ref(struct inode *inode)
{
	struct inode_table *table = inode->fs->inodes;

	pthread_mutex_lock(&table->lock);
	inode->refs++;
	pthread_mutex_unlock(&table->lock);
	return inode;
}

/* Give up `count` references: with the last one the inode leaves the table, and is returned to be freed. */
static struct inode *give_up(struct inode_table *table, struct inode *inode, uint64_t count)
{
	struct inode **link;

	assert(inode->refs >= count);
	inode->refs -= count;
	if (inode->refs > 0)
		return NULL;
	link = bucket_of(table, inode->ino);
	while (*link != inode)
		link = &(*link)->hash_next;
	*link = inode->hash_next;
	table->count--;
	/* What was known of it is forgotten, and may have been newer than what was fetched before. */
	stat_store_ino_changed(table->fs->stat_store, inode->ino);
	return inode;
}

void inode_put(struct inode *inode)
{
	struct inode_table *table;
	struct inode *gone;

	if (inode == NULL)
		return;
	table = inode->fs->inodes;
	pthread_mutex_lock(&table->lock);
	gone = give_up(table, inode, 1);
	pthread_mutex_unlock(&table->lock);
	if (gone != NULL)
		inode_free(gone);
}

void inode_lookup_add(struct inode *inode)
{
	struct inode_table *table = inode->fs->inodes;

	pthread_mutex_lock(&table->lock);
	inode->refs++;
	inode->lookups++;
	pthread_mutex_unlock(&table->lock);
}

void inode_lookup_drop(struct inode_table *table, uint64_t ino, uint64_t count)
{
	struct inode *inode, *gone = NULL;

	pthread_mutex_lock(&table->lock);
	inode = find(table, ino);
	if (inode != NULL) {
		if (count > inode->lookups)
			count = inode->lookups;
		inode->lookups -= count;
		gone = give_up(table, inode, count);
	}
	pthread_mutex_unlock(&table->lock);
	if (gone != NULL)
		inode_free(gone);
}

void fs_forget(struct fs *fs, uint64_t ino, uint64_t count)
{
	inode_lookup_drop(fs->inodes, ino, count);
}

int inode_table_list(struct inode_table *table, struct inode ***ret_inodes, size_t *ret_count)
{
	struct inode **inodes;
	size_t count = 0;

	pthread_mutex_lock(&table->lock);
	inodes = calloc(table->count + 1, sizeof(struct inode *));
	for (size_t i = 0; inodes != NULL && i < table->size; i++)
		for (struct inode *inode = table->buckets[i]; inode != NULL; inode = inode->hash_next) {
			inode->refs++;
			inodes[count++] = inode;
		}
	pthread_mutex_unlock(&table->lock);
	if (inodes == NULL)
		return -ENOMEM;
	*ret_inodes = inodes;
	*ret_count = count;
	return 0;
}

/* --- attributes -------------------------------------------------------------------------------------------------- */

void inode_doubt(struct inode *inode)
{
	inode->doubted = true;
	inode->attr_expires_ns = 0;
	inode->pages_valid = false;
}

void inode_distrust(struct inode *inode)
{
	inode_doubt(inode);
	inode->doubted = false;
	inode->attr.version = 0; /* a log that lost its tail counts these numbers once more */
}

int inode_table_distrust(struct inode_table *table)
{
	struct inode **inodes;
	size_t count;
	int err;

	stat_store_void(table->fs->stat_store);
	err = inode_table_list(table, &inodes, &count);
	if (err < 0)
		return err;
	for (size_t i = 0; i < count; i++) {
		pthread_mutex_lock(&inodes[i]->lock);
		inode_distrust(inodes[i]);
		pthread_mutex_unlock(&inodes[i]->lock);
		inode_put(inodes[i]);
	}
	free(inodes);
	return 0;
}

void inode_set_attr(struct inode *inode, const struct attr *attr, uint64_t asked_ns)
{
	const struct fs_config *config = &inode->fs->config;
	const bool doubtful = inode->doubted && asked_ns < atomic_load(&inode->fs->doubted_ns);
	struct attr before, now;
	uint64_t expires_ns;

	assert(attr->ino == inode->ino);
	if (inode->attr_valid && attr->version < inode->attr.version && (doubtful || !inode->doubted))
		return;

	before = inode->attr;
	now = *attr;
	atime_merge(inode, &now);
	inode->attr = now;
	if (inode->attr_valid && attr->size_unsure && attr->gen == before.gen && attr->cut == before.cut &&
	    attr->size < before.size)
		inode->attr.size = before.size; /* the OSTs told us more already */
	expires_ns = attr->size_unsure || doubtful ? 0 : asked_ns + config->attr_timeout_ms * NSEC_PER_MSEC;
	if (!inode->attr_valid || attr->version != before.version || expires_ns > inode->attr_expires_ns ||
	    attr->size_unsure)
		inode->attr_expires_ns = expires_ns;
	if (attr->size_unsure)
		data_others_write(inode);
	if (inode->data != NULL && inode->attr_valid && !attr_same_content(&before, &inode->attr))
		data_attr_changed(inode, &before, &inode->attr);
	inode->attr_valid = true;
	inode->doubted = doubtful;
}

int inode_take_attr(struct inode *inode, const Strake__Attr *wire, uint64_t asked_ns, struct attr *ret_attr)
{
	struct attr attr;

	if (wire == NULL || attr_from_wire(wire, &attr) < 0 || attr.ino != inode->ino)
		return -EPROTO;
	pthread_mutex_lock(&inode->lock);
	inode_set_attr(inode, &attr, asked_ns);
	if (ret_attr != NULL)
		*ret_attr = inode->attr;
	pthread_mutex_unlock(&inode->lock);
	return 0;
}

/* --- the kernel's pages ------------------------------------------------------------------------------------------ */

void inode_pages_become(struct inode *inode, const struct attr *attr)
{
	inode->pages_gen = attr->gen;
	inode->pages_cut = attr->cut;
	inode->pages_size = attr->size;
	inode->pages_data_version = attr->data_version;
	inode->pages_valid = true;
}

void inode_pages_used(struct inode *inode)
{
	pthread_mutex_lock(&inode->lock);
	inode->pages_used = PAGES_PASSED_MAX;
	pthread_mutex_unlock(&inode->lock);
}

static void pages_gone(struct inode *inode, bool all)
{
	pthread_mutex_lock(&inode->lock);
	inode->pages_going = false;
	if (all && inode->pages_used == 1)
		inode->pages_used = 0;
	pthread_mutex_unlock(&inode->lock);
	inode_put(inode);
}

static void pages_go(struct worker *worker, void *arg)
{
	struct inode *inode = arg;
	const struct fs_config *config = &inode->fs->config;

	(void)worker;
	config->drop_pages(config->owner, inode->ino, 0, 0);
	pages_gone(inode, true);
}

void inode_pages_passed(struct inode *inode, uint64_t offset, uint64_t size)
{
	const struct fs_config *config = &inode->fs->config;
	bool used, last;

	if (config->drop_pages == NULL)
		return;
	pthread_mutex_lock(&inode->lock);
	used = inode->pages_used > 0;
	last = inode->pages_used == 1 && !inode->pages_going;
	/* At 1 when all have gone: nobody has used any since that began. */
	if (inode->pages_used > (inode->pages_going ? 2 : 1))
		inode->pages_used--;
	inode->pages_going |= last;
	pthread_mutex_unlock(&inode->lock);
	if (used)
		config->drop_pages(config->owner, inode->ino, offset, size);
	if (last && worker_spawn(fs_worker(inode->fs), pages_go, inode_ref(inode)) < 0)
		pages_gone(inode, false);
}

void inode_note_own_change(struct inode *inode, uint64_t data_before, const struct attr *now, uint64_t asked_ns)
{
	if (inode->pages_valid && data_before != 0 && data_before == inode->pages_data_version)
		inode_pages_become(inode, now);
	data_own_change(inode, data_before, now->data_version);
	inode_set_attr(inode, now, asked_ns);
}

void inode_change_begins(struct inode *inode)
{
	pthread_mutex_lock(&inode->lock);
	inode->changes_asked++;
	pthread_mutex_unlock(&inode->lock);
}

void inode_change_ends(struct inode *inode)
{
	pthread_mutex_lock(&inode->lock);
	inode->changes_asked--;
	fiber_wake_all(&inode->changed);
	pthread_mutex_unlock(&inode->lock);
}

bool inode_knows_bytes(const struct inode *inode, const struct attr *attr)
{
	return inode->pages_valid && inode->pages_gen == attr->gen && inode->pages_cut == attr->cut &&
	       inode->pages_size == attr->size && attr->data_version != 0 &&
	       inode->pages_data_version == attr->data_version;
}

bool inode_keep_pages(struct inode *inode, const struct attr *attr)
{
	bool keep = inode_knows_bytes(inode, attr);

	inode_pages_become(inode, attr);
	if (!keep)
		inode->pages_opened_ns = clock_ns();
	return keep;
}

bool inode_pages_are(const struct inode *inode, const struct attr *attr)
{
	return inode_knows_bytes(inode, attr) && clock_ns() - inode->pages_opened_ns > PAGES_OPEN_NS;
}
