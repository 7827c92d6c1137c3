#include "client/data/ahead.h"

#include "client/data/internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define AHEAD_NEAR   (4u * 1024 * 1024) /* the kernel's own parallel reads may come a little out of order */
#define AHEAD_BEHIND (1u * 1024 * 1024)

struct unit {
	struct inode *inode; /* with a reference while loading, and one for each reader */
	uint64_t offset;
	uint32_t length;
	uint64_t version;
	struct bulk *bulk;
	unsigned int refs; /* window, loader, readers: guarded by inode->lock */
	bool ready;
	int err;
};

struct ahead {
	uint64_t next;         /* where the next read is expected */
	unsigned int in_order; /* reads that came as expected, up to a few */
	unsigned int window;   /* units to have in front */
	struct unit *units[AHEAD_UNITS_MAX];
	unsigned int unit_count;
};

/* inode->lock is held. */
static void unit_put(struct data_fs *data_fs, struct unit *unit)
{
	if (--unit->refs > 0)
		return;
	unit->bulk->release(unit->bulk);
	atomic_fetch_sub(&data_fs->ahead, AHEAD_UNIT);
	free(unit);
}

static void unit_load(struct worker *worker, void *arg)
{
	struct unit *unit = arg;
	struct inode *inode = unit->inode;
	struct fs_ctx ctx = { .trusted = true };
	int err = data_fetch(inode, &ctx, unit->offset, unit->length, unit->bulk->data);

	(void)worker;
	pthread_mutex_lock(&inode->lock);
	unit->err = err;
	unit->ready = true;
	unit_put(inode->data->data_fs, unit);
	fiber_wake_all(&inode->changed);
	pthread_mutex_unlock(&inode->lock);
	inode_put(inode);
}

/* A unit at offset into the window. False: no memory. inode->lock is held. */
static bool ahead_start(struct ahead *ahead, struct inode *inode, uint64_t offset, uint64_t file_size)
{
	struct data_fs *data_fs = inode->data->data_fs;
	struct unit *unit;

	if (ahead->unit_count == AHEAD_UNITS_MAX || atomic_load(&data_fs->ahead) + AHEAD_UNIT > data_fs->ahead_max)
		return false;
	unit = calloc(1, sizeof(*unit));
	if (unit != NULL)
		unit->bulk = buffers_get(data_fs->buffers);
	if (unit == NULL || unit->bulk == NULL) {
		free(unit);
		return false;
	}
	atomic_fetch_add(&data_fs->ahead, AHEAD_UNIT);
	data_fs_bound(data_fs);
	unit->inode = inode_ref(inode);
	unit->offset = offset;
	unit->length = (uint32_t)(file_size - offset < AHEAD_UNIT ? file_size - offset : AHEAD_UNIT);
	unit->version = inode->data->version;
	unit->refs = 2;
	atomic_fetch_add_explicit(&inode->fs->counters.bytes_ahead, unit->length, memory_order_relaxed);
	if (worker_spawn(fs_worker(inode->fs), unit_load, unit) < 0) {
		inode_put(inode); /* not the last: the open file has one */
		unit->refs = 1;
		unit_put(data_fs, unit);
		return false;
	}
	ahead->units[ahead->unit_count++] = unit;
	return true;
}

static void ahead_drop(struct ahead *ahead, struct data_fs *data_fs, unsigned int i)
{
	unit_put(data_fs, ahead->units[i]);
	ahead->units[i] = ahead->units[--ahead->unit_count];
}

/* Units that are void, failed, or far behind. inode->lock is held. */
static void ahead_prune(struct ahead *ahead, struct inode *inode, uint64_t offset)
{
	for (unsigned int i = 0; i < ahead->unit_count;) {
		struct unit *unit = ahead->units[i];

		if (unit->version != inode->data->version || (unit->ready && unit->err < 0) ||
		    unit->offset + unit->length + AHEAD_BEHIND < offset)
			ahead_drop(ahead, inode->data->data_fs, i);
		else
			i++;
	}
}

static struct unit *ahead_find(const struct ahead *ahead, uint64_t offset)
{
	for (unsigned int i = 0; i < ahead->unit_count; i++)
		if (ahead->units[i]->offset <= offset && offset < ahead->units[i]->offset + ahead->units[i]->length)
			return ahead->units[i];
	return NULL;
}

/* Make sure of units from offset on: first those of the read itself, then the window. False: those of the read failed.
 */
static bool ahead_extend(struct ahead *ahead, struct inode *inode, uint64_t offset, size_t size, uint64_t file_size)
{
	uint64_t start = offset / AHEAD_UNIT * AHEAD_UNIT;
	uint64_t wanted = start + (uint64_t)ahead->window * AHEAD_UNIT;

	for (uint64_t at = start; at < file_size && (at < offset + size || at < wanted); at += AHEAD_UNIT)
		if (ahead_find(ahead, at) == NULL && !ahead_start(ahead, inode, at, file_size))
			return at >= offset + size;
	return true;
}

/* Does this read belong to a run from front to back? Keeps the account. */
static bool ahead_is_sequential(struct ahead *ahead, uint64_t offset, size_t size)
{
	bool near = offset + AHEAD_NEAR >= ahead->next && offset <= ahead->next + AHEAD_NEAR;

	if (offset == 0 || (near && ahead->next > 0)) {
		if (ahead->in_order < AHEAD_UNITS_MAX)
			ahead->in_order++;
		if (ahead->next < offset + size || offset == 0)
			ahead->next = offset + size;
		return offset == 0 || ahead->in_order >= 2;
	}
	ahead->in_order = 1;
	ahead->window = 1;
	ahead->next = offset + size;
	return false;
}

/* Lend the units' bytes. They stay in the window until the read after their end. inode->lock is held. */
static int ahead_lend(struct ahead *ahead, uint64_t offset, size_t size, struct read_result *result)
{
	while (size > 0) {
		struct unit *unit = ahead_find(ahead, offset);
		size_t at, part;

		if (unit == NULL || !unit->ready || unit->err < 0 ||
		    (size_t)result->iov_count == sizeof(result->reserved) / sizeof(*result->reserved))
			return -EAGAIN;
		at = (size_t)(offset - unit->offset);
		part = unit->length - at < size ? unit->length - at : size;
		unit->refs++;
		inode_ref(unit->inode); /* the handle may go before the bytes are given back */
		result->reserved[result->iov_count] = unit;
		result->iov[result->iov_count++] =
			(struct iovec){ .iov_base = (uint8_t *)unit->bulk->data + at, .iov_len = part };
		result->len += part;
		offset += part;
		size -= part;
	}
	return 0;
}

/* Is a unit of this read still on its way? */
static bool ahead_is_loading(const struct ahead *ahead, uint64_t offset, size_t size)
{
	for (uint64_t at = offset; at < offset + size; at = at / AHEAD_UNIT * AHEAD_UNIT + AHEAD_UNIT) {
		const struct unit *unit = ahead_find(ahead, at);

		if (unit != NULL && !unit->ready)
			return true;
	}
	return false;
}

int ahead_read(struct file *file, struct fs_ctx *ctx, uint64_t offset, size_t size, struct read_result *ret_result)
{
	struct inode *inode = file->inode;
	struct ahead *ahead;
	uint64_t file_size;
	int err = -EAGAIN;

	pthread_mutex_lock(&inode->lock);
	file_size = data_size(inode);
	if (data_get(inode) == NULL || (file->ahead == NULL && (offset > 0 || size == file_size)))
		goto out; /* not from the start, or all in one: nothing to gain */
	if (file->ahead == NULL)
		file->ahead = calloc(1, sizeof(struct ahead));
	ahead = file->ahead;
	if (ahead == NULL)
		goto out;

	ahead_prune(ahead, inode, offset);
	if (!ahead_is_sequential(ahead, offset, size))
		goto out;
	if (ahead->window < AHEAD_UNITS_MAX / 2)
		ahead->window = ahead->window == 0 ? 2 : ahead->window + 1;
	if (!ahead_extend(ahead, inode, offset, size, file_size))
		goto out;
	while (ahead_is_loading(ahead, offset, size)) {
		err = data_wait(inode, ctx);
		if (err < 0)
			goto out;
	}
	err = ahead_lend(ahead, offset, size, ret_result);
out:
	pthread_mutex_unlock(&inode->lock);
	if (err < 0)
		ahead_release(ret_result);
	return err;
}

void ahead_release(struct read_result *result)
{
	for (int i = 0; i < result->iov_count; i++) {
		struct unit *unit = result->reserved[i];
		struct inode *inode;

		if (unit == NULL)
			continue;
		inode = unit->inode;
		pthread_mutex_lock(&inode->lock);
		unit_put(inode->data->data_fs, unit);
		pthread_mutex_unlock(&inode->lock);
		inode_put(inode);
	}
	*result = (struct read_result){ 0 };
}

void ahead_free(struct inode *inode, struct ahead *ahead)
{
	if (ahead == NULL)
		return;
	pthread_mutex_lock(&inode->lock);
	while (ahead->unit_count > 0)
		ahead_drop(ahead, inode->data->data_fs, 0);
	pthread_mutex_unlock(&inode->lock);
	free(ahead);
}
