/* What the inodes of a filesystem share: memory accounts and the list of those that hold data. */
#include "client/ctx_wait.h"
#include "client/data/internal.h"
#include "common/logger.h"

#include <errno.h>
#include <stdlib.h>

struct data_fs *data_fs_new(struct fs *fs, uint64_t memory_max)
{
	struct data_fs *data_fs = calloc(1, sizeof(*data_fs));

	if (data_fs == NULL)
		return NULL;
	data_fs->buffers = buffers_new((unsigned int)(memory_max / 4 / BUFFERS_ROOM));
	if (data_fs->buffers == NULL) {
		free(data_fs);
		return NULL;
	}
	data_fs->fs = fs;
	data_fs->write_max = memory_max / 4 * 3;
	data_fs->ahead_max = memory_max / 4;
	pthread_mutex_init(&data_fs->lock, NULL);
	return data_fs;
}

struct data_fs *data_fs_free(struct data_fs *data_fs)
{
	if (data_fs != NULL) {
		buffers_free(data_fs->buffers);
		pthread_mutex_destroy(&data_fs->lock);
		free(data_fs);
	}
	return NULL;
}

struct buffers *fs_buffers(struct fs *fs)
{
	return fs->data->buffers;
}

struct inode_data *data_get(struct inode *inode)
{
	if (inode->data == NULL) {
		inode->data = calloc(1, sizeof(*inode->data));
		if (inode->data != NULL) {
			inode->data->inode = inode;
			inode->data->data_fs = inode->fs->data;
		}
	}
	return inode->data;
}

void data_free(struct inode *inode)
{
	struct inode_data *data = inode->data;

	if (data == NULL)
		return;
	atomic_fetch_sub(&data->data_fs->held, data->dirty.bytes + data->flight.bytes + data->uncommitted.bytes);
	extents_clear(&data->dirty);
	extents_clear(&data->flight);
	extents_clear(&data->uncommitted);
	free(data);
	inode->data = NULL;
}

void data_fs_bound(struct data_fs *data_fs)
{
	uint64_t taken = atomic_load(&data_fs->held) + atomic_load(&data_fs->ahead);
	uint64_t most = data_fs->write_max + data_fs->ahead_max;

	buffers_limit(data_fs->buffers, taken < most ? (most - taken) / BUFFERS_ROOM : 0);
}

static void data_list(struct inode_data *data)
{
	struct data_fs *data_fs = data->data_fs;

	inode_ref(data->inode);
	data->prev = NULL;
	data->next = data_fs->first;
	if (data->next != NULL)
		data->next->prev = data;
	data_fs->first = data;
	data->listed = true;
}

static void data_unlist(struct inode_data *data)
{
	if (data->prev != NULL)
		data->prev->next = data->next;
	else
		data->data_fs->first = data->next;
	if (data->next != NULL)
		data->next->prev = data->prev;
	data->listed = false;
}

void data_account(struct inode_data *data)
{
	struct data_fs *data_fs = data->data_fs;
	struct inode *inode = data->inode;
	bool holds, put = false;

	/* The order of locks: data_fs, then inode. */
	pthread_mutex_lock(&data_fs->lock);
	pthread_mutex_lock(&inode->lock);
	holds = data->dirty.count + data->flight.count + data->uncommitted.count > 0 || data->report;
	holds &= !data_fs->abandoned;
	pthread_mutex_unlock(&inode->lock);
	if (holds && !data->listed) {
		data_list(data);
	} else if (!holds && data->listed) {
		data_unlist(data);
		put = true;
	}
	if (atomic_load(&data_fs->held) < data_fs->write_max)
		fiber_wake_all(&data_fs->room);
	pthread_mutex_unlock(&data_fs->lock);
	if (put)
		inode_put(inode);
}

int data_wait(struct inode *inode, struct fs_ctx *ctx)
{
	return ctx_wait_in(fs_worker(inode->fs), ctx, &inode->changed, &inode->lock, CTX_WAIT_FOREVER);
}

void data_note_error(struct inode_data *data, int err)
{
	data->error = err;
	data->error_count++;
}

void data_lose(struct inode_data *data, uint64_t bytes, int err)
{
	atomic_fetch_sub(&data->data_fs->held, bytes);
	if (err != -ENOENT && err != -ESTALE) { /* bytes of a file that was removed are no loss */
		atomic_fetch_add(&data->data_fs->lost, bytes);
		atomic_store(&data->data_fs->lost_error, err);
	}
	data_note_error(data, err);
}

uint32_t data_error_mark(const struct inode *inode)
{
	return inode->data == NULL ? 0 : inode->data->error_count;
}

struct inode **data_fs_inodes(struct data_fs *data_fs, size_t *ret_count)
{
	struct inode **inodes = NULL;
	size_t count = 0, i = 0;

	pthread_mutex_lock(&data_fs->lock);
	for (struct inode_data *data = data_fs->first; data != NULL; data = data->next)
		count++;
	if (count > 0)
		inodes = malloc(count * sizeof(*inodes));
	if (inodes != NULL)
		for (struct inode_data *data = data_fs->first; data != NULL; data = data->next)
			inodes[i++] = inode_ref(data->inode);
	pthread_mutex_unlock(&data_fs->lock);
	*ret_count = i;
	return inodes;
}

void data_fs_held(struct data_fs *data_fs, uint64_t *ret_bytes, unsigned int *ret_files)
{
	unsigned int files = 0;

	pthread_mutex_lock(&data_fs->lock);
	for (const struct inode_data *data = data_fs->first; data != NULL; data = data->next)
		files++;
	pthread_mutex_unlock(&data_fs->lock);
	*ret_bytes = atomic_load(&data_fs->held);
	*ret_files = files;
}

uint64_t data_fs_lost(const struct data_fs *data_fs)
{
	return atomic_load(&data_fs->lost);
}

int data_fs_take_error(struct data_fs *data_fs)
{
	return atomic_exchange(&data_fs->lost_error, 0);
}
