/*
 * Around a LOCK: what was written here is out before it leaves, what others have written is seen after it was granted.
 * The kernel's pages and attributes of the file are a part of both.
 */
#include "client/data/data.h"
#include "client/fs_state.h"
#include "client/lock_op.h"
#include "client/session.h"
#include "client/shown.h"
#include "client/stat_store.h"

/* Does the operation give up a write lock, or part of one? */
static bool ends_writing(const struct lock_op *op)
{
	struct inode *inode = op->inode;
	bool ends;

	if (op->lock.kind == LOCK_APPEND || op->lock.type == LOCK_EXCLUSIVE || op->drop != LOCK_DROP_RANGE)
		return false; /* at a close the kernel has brought out its pages before it tells us */
	pthread_mutex_lock(&inode->lock);
	ends = lock_list_holds(&inode->locks->held, &op->lock, LOCK_EXCLUSIVE);
	pthread_mutex_unlock(&inode->lock);
	return ends;
}

/* Have the kernel drop its pages, the dirty ones written out first. The fiber waits for it. */
static void drop_pages(struct inode *inode)
{
	const struct fs_config *config = &inode->fs->config;

	if (config->drop_pages != NULL)
		config->drop_pages(config->owner, inode->ino, 0, 0);
}

static void launder(struct lock_op *op)
{
	struct inode *inode = op->inode;
	bool wanted;

	pthread_mutex_lock(&inode->lock);
	wanted = inode->open_write > 0 && (inode->mapped || !inode->locks->laundered);
	if (wanted) {
		inode->locks->laundered = true;
		inode->pages_valid = false;
	}
	pthread_mutex_unlock(&inode->lock);
	if (wanted)
		drop_pages(inode);
}

void lock_bring_out(struct lock_op *op)
{
	struct inode *inode = op->inode;
	bool unreported;

	if (ends_writing(op))
		launder(op);
	pthread_mutex_lock(&inode->lock);
	unreported = data_unreported(inode);
	pthread_mutex_unlock(&inode->lock);
	if (unreported && data_write_out(inode, &op->ctx) == 0)
		(void)data_report_size(inode, &op->ctx, false);
}

int lock_look_anew(struct lock_op *op, struct attr *attr, uint64_t asked_ns, uint64_t reclaims)
{
	struct inode *inode = op->inode;
	const struct fs_config *config = &inode->fs->config;
	uint64_t opened_ns, dir;
	bool keep, believed, shared = attr->size_unsure;
	int err = inode_settle_size(inode, &op->ctx, asked_ns, attr);

	if (op->lock.kind != LOCK_APPEND)
		stat_store_void(inode->fs->stat_store); /* its holder before may have done things to names */
	if (err < 0)
		return err;
	pthread_mutex_lock(&inode->lock);
	keep = inode_pages_are(inode, attr);
	believed = shown_is_believed(inode);
	shared |= inode->pages_valid && inode->pages_data_version != attr->data_version;
	dir = inode->dir;
	if (!keep)
		inode->pages_valid = false;
	opened_ns = inode->pages_opened_ns;
	pthread_mutex_unlock(&inode->lock);
	if (shared && op->lock.kind != LOCK_APPEND)
		shown_share_dir(inode->fs, dir);
	/* An append goes past the kernel's pages, which it drops itself when it hears of the new size. */
	if (op->lock.kind == LOCK_APPEND || keep) {
		if (believed && config->drop_attr != NULL)
			config->drop_attr(config->owner, inode->ino);
		return 0;
	}
	drop_pages(inode);
	pthread_mutex_lock(&inode->lock);
	if (fs_session_reclaims(inode->fs->session) == reclaims)
		inode_pages_become(inode, attr);
	if (inode->pages_opened_ns == opened_ns)
		inode->pages_opened_ns = 0; /* what that open was to drop has gone */
	pthread_mutex_unlock(&inode->lock);
	return 0;
}
