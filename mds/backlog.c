#include "mds/backlog.h"

#include "mds/cut.h"
#include "mds/destroy.h"

#include <assert.h>
#include <errno.h>

static int destroys_from(struct view *view, uint64_t ino, uint64_t gen, uint32_t ost, struct backlog_item *ret_item,
			 bool *ret_awaited)
{
	struct destroy_row row;
	int err = destroy_from(view, ino, gen, &row);

	if (err < 0)
		return err;
	*ret_item = (struct backlog_item){ row.ino, row.gen };
	*ret_awaited = destroy_awaits(&row, ost);
	return 0;
}

static int cuts_from(struct view *view, uint64_t ino, uint64_t gen, uint32_t ost, struct backlog_item *ret_item,
		     bool *ret_awaited)
{
	struct cut_row row;
	/* One row for an inode, so above any gen of it the next inode begins. */
	int err = cut_from(view, gen == 0 ? ino : ino + 1, &row);

	if (err < 0)
		return err;
	*ret_item = (struct backlog_item){ row.ino, row.gen };
	*ret_awaited = cut_awaits(&row, ost);
	return 0;
}

const struct backlog_source backlog_destroys = { destroys_from }, backlog_cuts = { cuts_from };

void backlog_init(struct backlog *backlog, const struct backlog_source *source, uint32_t ost)
{
	backlog->source = source;
	backlog->ost = ost;
	backlog->reading = false;
	backlog->again = true;
	backlog->first = backlog->count = 0;
}

void backlog_push(struct backlog *backlog, uint64_t ino, uint64_t gen)
{
	if (backlog->count == BACKLOG_MAX) {
		backlog->again = true;
		return;
	}
	backlog->items[(backlog->first + backlog->count++) % BACKLOG_MAX] = (struct backlog_item){ ino, gen };
}

void backlog_read_again(struct backlog *backlog)
{
	backlog->again = true;
}

bool backlog_is_empty(const struct backlog *backlog)
{
	return backlog->count == 0 && !backlog->reading && !backlog->again;
}

/* Half of the room is left to those that come new. */
static void read_on(struct backlog *backlog, struct view *view)
{
	struct backlog_item item;
	bool awaited;

	if (!backlog->reading) {
		backlog->reading = true;
		backlog->again = false;
		backlog->at = (struct backlog_item){ 0, 0 };
	}
	for (int rows = 0; rows < BACKLOG_SCAN_MAX && backlog->count < BACKLOG_MAX / 2; rows++) {
		if (backlog->source->from(view, backlog->at.ino, backlog->at.gen, backlog->ost, &item, &awaited) < 0) {
			backlog->reading = false;
			return;
		}
		if (awaited)
			backlog_push(backlog, item.ino, item.gen);
		backlog->at = (struct backlog_item){ item.ino, item.gen + 1 };
	}
}

int backlog_peek(struct backlog *backlog, struct view *view, struct backlog_item *ret_item)
{
	if (backlog_is_empty(backlog))
		return -ENOENT;
	if (backlog->count == 0)
		read_on(backlog, view);
	if (backlog->count == 0)
		return backlog_is_empty(backlog) ? -ENOENT : -EAGAIN;
	*ret_item = backlog->items[backlog->first];
	return 0;
}

void backlog_drop(struct backlog *backlog)
{
	assert(backlog->count > 0);
	backlog->first = (backlog->first + 1) % BACKLOG_MAX;
	backlog->count--;
}
