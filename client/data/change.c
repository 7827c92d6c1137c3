/* What bytes that are held here become when the file is cut or replaced elsewhere, or the session is lost. */
#include "client/attr.h"
#include "client/data/internal.h"

#include <errno.h>
#include <stdlib.h>

/* --- a cut ------------------------------------------------------------------------------------------------------- */

/*
 * There were cuts that we did not hear of, so what was answered before them may have been cut away: it is kept for its
 * commit, but never sent again. Returns the bytes dropped.
 */
static uint64_t data_doubt(struct inode_data *data)
{
	bool failed;
	uint64_t gone = extents_cut(&data->dirty, 0, UINT64_MAX, true, &failed);

	if (gone > 0)
		data_note_error(data, -EIO);
	for (size_t i = 0; i < data->uncommitted.count; i++)
		data->uncommitted.items[i]->doubtful = true;
	return gone;
}

static uint64_t data_flight_end(const struct inode_data *data)
{
	for (size_t i = data->flight.count; i > 0; i--)
		if (!data->flight.items[i - 1]->given_up)
			return extent_end(data->flight.items[i - 1]);
	return 0;
}

void data_attr_changed(struct inode *inode, const struct attr *before, const struct attr *now)
{
	struct inode_data *data = inode->data;
	bool failed, replaced = before->gen != now->gen;
	uint64_t gone = 0;

	if (data == NULL || attr_same_content(before, now))
		return;
	data->version++;
	if (!replaced && before->cut == now->cut)
		return;
	if (replaced)
		data->grown = 0;

	/* What was answered is older than the cut; what was not may be taken as newer. */
	if (replaced) {
		gone += data->uncommitted.bytes;
		extents_clear(&data->uncommitted);
		gone += extents_cut(&data->dirty, 0, UINT64_MAX, true, &failed);
	} else {
		gone += extents_cut(&data->uncommitted, now->cut_start, now->cut_end, false, &failed);
		gone += extents_cut(&data->dirty, now->cut_start, now->cut_end, true, &failed);
		if (now->cut > before->cut + 1)
			gone += data_doubt(data);
	}
	atomic_fetch_sub(&data->data_fs->held, gone);
	/* Of what was not reported yet the MDT does not know the end: it stays, but for what was truncated away. */
	if (replaced || !data->report)
		data->own_end = 0;
	else if (now->cut_end == UINT64_MAX && data->own_end > now->cut_start)
		data->own_end = now->cut_start;
	if (replaced || !data->report)
		data->sent_end = 0;
	else if (now->cut_end == UINT64_MAX && data->sent_end > now->cut_start)
		data->sent_end = now->cut_start;
	if (data->own_end < extents_end(&data->dirty))
		data->own_end = extents_end(&data->dirty);
	if (data->own_end < data_flight_end(data))
		data->own_end = data_flight_end(data);
	fiber_wake_all(&inode->changed);
}

/* --- versions of the content --------------------------------------------------------------------------------------- */

void data_own_change(struct inode *inode, uint64_t before, uint64_t now)
{
	struct inode_data *data = inode->data;

	if (data == NULL || before == 0)
		return;
	if (data->own_version == before)
		data->own_version = now;
	if (data->committed_version == before)
		data->committed_version = now;
}

/* --- other writers ----------------------------------------------------------------------------------------------- */

void data_others_write(struct inode *inode)
{
	if (inode->data != NULL)
		inode->data->shared = true;
}

/* --- a lost session ---------------------------------------------------------------------------------------------- */

/* Returns the bytes. */
static uint64_t data_give_up(struct inode *inode)
{
	uint64_t in_flight = 0, kept = 0;
	struct inode_data *data;

	pthread_mutex_lock(&inode->lock);
	data = inode->data;
	if (data != NULL) {
		for (size_t i = 0; i < data->flight.count; i++) {
			struct extent *extent = data->flight.items[i];

			in_flight += extent->given_up ? 0 : extent->length;
			extent->given_up = true;
		}
		kept = data->dirty.bytes + data->uncommitted.bytes;
		extents_clear(&data->dirty);
		extents_clear(&data->uncommitted);
		data->version++;
	}
	if (kept + in_flight > 0) {
		/* What is in flight is accounted for until its answer. */
		data_lose(data, kept, -EIO);
		atomic_fetch_add(&data->data_fs->lost, in_flight);
		data->report = false;
		data->own_end = data->sent_end = 0;
		data->grown = 0;
		data->recounts = 0;
		data->wrote = false;
		fiber_wake_all(&inode->changed);
	}
	pthread_mutex_unlock(&inode->lock);
	if (data != NULL)
		data_account(data);
	return kept + in_flight;
}

int data_fs_give_up(struct data_fs *data_fs, uint64_t *ret_bytes)
{
	struct inode **inodes;
	uint64_t bytes = 0;
	size_t count;
	/* Not only those of the list: a writer may have put in bytes and not have listed them yet. */
	int err = inode_table_list(data_fs->fs->inodes, &inodes, &count);

	if (err < 0)
		return err;
	for (size_t i = 0; i < count; i++) {
		bytes += data_give_up(inodes[i]);
		inode_put(inodes[i]);
	}
	free(inodes);
	*ret_bytes = bytes;
	return 0;
}
