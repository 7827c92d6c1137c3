#include "client/shown.h"

#include "client/data/data.h"
#include "client/file.h"
#include "client/fs_state.h"
#include "client/locks.h"

#define SENT_BACK_MS 2000 /* within which he comes again */

/* It counts the timeout from when it reads the answer, which is later than now: twice the time is enough. */
static uint64_t believed_until(const struct fs *fs)
{
	return clock_ns() + 2 * fs->config.attr_timeout_ms * NSEC_PER_MSEC;
}

/* --- attributes -------------------------------------------------------------------------------------------------- */

uint64_t fs_attr_shown(struct fs *fs, const struct fs_ctx *ctx, const struct attr *attr)
{
	struct inode *inode = inode_find(fs->inodes, attr->ino);
	uint64_t now = clock_ns(), valid_ns = 0;
	struct attr_shown *shown;

	if (inode == NULL)
		return 0;
	pthread_mutex_lock(&inode->lock);
	/* Nothing is to be dropped while somebody who has a lock asks: see shown_is_believed(). */
	if (locks_are_used(inode)) {
		pthread_mutex_unlock(&inode->lock);
		inode_put(inode);
		return 0;
	}
	/* What is written here and not reported yet will change the times. */
	if (inode->attr.version == attr->version && inode->attr_expires_ns > now && !data_unreported(inode))
		valid_ns = inode->attr_expires_ns - now;
	shown = &inode->shown;
	if (shown->until_ns <= now) {
		shown->several = false;
		shown->asker = ctx->pid;
	} else {
		shown->several |= shown->version != attr->version || shown->size != attr->size;
		if (shown->asker != ctx->pid)
			shown->asker = 0;
	}
	shown->version = attr->version;
	shown->size = attr->size;
	shown->until_ns = believed_until(fs);
	pthread_mutex_unlock(&inode->lock);
	inode_put(inode);
	return valid_ns;
}

bool shown_is_believed(struct inode *inode)
{
	bool believed = inode->shown.until_ns > clock_ns();

	inode->shown.until_ns = 0;
	return believed;
}

void shown_attr_is_old(struct inode *inode)
{
	pthread_mutex_lock(&inode->lock);
	inode->shown.several = true;
	pthread_mutex_unlock(&inode->lock);
}

/* May the kernel believe other attributes than inode->attr? Once: it is about to be told. */
static bool is_old(struct inode *inode)
{
	struct attr_shown *shown = &inode->shown;
	bool old;

	pthread_mutex_lock(&inode->lock);
	old = shown->until_ns > clock_ns() &&
	      (shown->several || shown->version != inode->attr.version || shown->size != inode->attr.size);
	if (old)
		shown->until_ns = 0;
	pthread_mutex_unlock(&inode->lock);
	return old;
}

bool fs_attr_outdated(const struct file *file)
{
	return is_old(file->inode);
}

static bool others_were_shown(struct inode *inode, const struct fs_ctx *ctx)
{
	bool others;

	pthread_mutex_lock(&inode->lock);
	others = inode->shown.asker == 0 || inode->shown.asker != ctx->pid;
	pthread_mutex_unlock(&inode->lock);
	return others;
}

void shown_changed(struct inode *inode, const struct fs_ctx *ctx)
{
	const struct fs_config *config = &inode->fs->config;

	if (config->drop_attr != NULL && others_were_shown(inode, ctx) && is_old(inode))
		config->drop_attr(config->owner, inode->ino);
}

/* --- directories that are shared under locks ---------------------------------------------------------------------- */

bool shown_dir_is_shared(struct fs *fs, uint64_t dir)
{
	struct shared_dirs *shared = &fs->shared_dirs;
	uint64_t now = clock_ns();
	bool is = false;

	if (atomic_load_explicit(&shared->until_ns, memory_order_relaxed) < now)
		return false;
	pthread_mutex_lock(&shared->lock);
	for (unsigned int i = 0; i < SHARED_DIRS && !is; i++)
		is = shared->dirs[i].ino == dir && shared->dirs[i].until_ns >= now;
	is |= shared->all_until_ns >= now;
	pthread_mutex_unlock(&shared->lock);
	return is;
}

void shown_share_dir(struct fs *fs, uint64_t dir)
{
	struct shared_dirs *shared = &fs->shared_dirs;
	uint64_t now = clock_ns(), until = now + SHARED_MS * NSEC_PER_MSEC;
	struct shared_dir *free_one = NULL;
	bool known;

	pthread_mutex_lock(&shared->lock);
	known = shared->all_until_ns >= now;
	for (unsigned int i = 0; i < SHARED_DIRS && !known; i++) {
		if (shared->dirs[i].until_ns < now) {
			free_one = &shared->dirs[i];
		} else if (shared->dirs[i].ino == dir) {
			shared->dirs[i].until_ns = until;
			known = true;
		}
	}
	if (!known && free_one != NULL)
		*free_one = (struct shared_dir){ dir, until };
	else if (!known)
		shared->all_until_ns = until;
	atomic_store(&shared->until_ns, until);
	pthread_mutex_unlock(&shared->lock);
	if (!known && fs->config.expire_names != NULL)
		fs->config.expire_names(fs->config.owner);
}

/* --- names ------------------------------------------------------------------------------------------------------- */

/* What was asked for a while ago is believed for the rest of its time. */
static uint64_t name_ns(struct fs *fs, const struct fs_ctx *ctx, uint64_t dir)
{
	uint64_t timeout_ns = fs->config.attr_timeout_ms * NSEC_PER_MSEC, age_ns = 0;

	if (ctx->name_asked_ns != 0)
		age_ns = clock_ns() - ctx->name_asked_ns;
	return age_ns >= timeout_ns || shown_dir_is_shared(fs, dir) ? 0 : timeout_ns - age_ns;
}

uint64_t fs_entry_shown(struct fs *fs, const struct fs_ctx *ctx, uint64_t dir, const struct attr *attr,
			uint64_t *ret_name_ns)
{
	struct inode *inode = inode_find(fs->inodes, attr->ino);
	struct entry_shown *entry;

	if (inode != NULL) {
		pthread_mutex_lock(&inode->lock);
		entry = &inode->entry;
		if (entry->version != attr->name_version)
			entry->older_until_ns = entry->until_ns;
		entry->version = attr->name_version;
		entry->until_ns = believed_until(fs);
		inode->dir = dir;
		pthread_mutex_unlock(&inode->lock);
		inode_put(inode);
	}
	*ret_name_ns = name_ns(fs, ctx, dir);
	return fs_attr_shown(fs, ctx, attr);
}

void shown_own_names(struct inode *inode, uint64_t before, uint64_t now)
{
	pthread_mutex_lock(&inode->lock);
	if (inode->entry.version == before)
		inode->entry.version = now;
	pthread_mutex_unlock(&inode->lock);
}

/*
 * Who was sent back: one slot for each thread id modulo their number, with the time. Where two share a slot one of them
 * may be sent back twice, and his open(2) fails with ESTALE: he would have to be unlucky within milliseconds.
 */
static _Atomic uint64_t *sent_back_slot(struct fs *fs, const struct fs_ctx *ctx)
{
	return &fs->sent_back[(unsigned int)ctx->pid % FS_SENT_BACK];
}

static uint64_t sent_back_mark(const struct fs_ctx *ctx, uint64_t at_ns)
{
	return (uint64_t)(uint32_t)ctx->pid << 32 | (uint32_t)(at_ns / NSEC_PER_MSEC);
}

static bool mark_is_old(uint64_t mark)
{
	return (uint32_t)(clock_ns() / NSEC_PER_MSEC) - (uint32_t)mark > SENT_BACK_MS;
}

void shown_sent_back(struct fs *fs, const struct fs_ctx *ctx)
{
	atomic_store(sent_back_slot(fs, ctx), sent_back_mark(ctx, clock_ns()));
}

void shown_no_name(struct fs *fs, const struct fs_ctx *ctx)
{
	_Atomic uint64_t *slot = sent_back_slot(fs, ctx);

	if (atomic_load_explicit(slot, memory_order_relaxed) >> 32 == (uint32_t)ctx->pid)
		atomic_store(slot, 0);
}

bool shown_was_sent_back(struct fs *fs, const struct fs_ctx *ctx)
{
	uint64_t mark = atomic_load_explicit(sent_back_slot(fs, ctx), memory_order_relaxed);

	return mark != 0 && mark >> 32 == (uint32_t)ctx->pid && !mark_is_old(mark);
}

/* The same, for his open: only once. */
static bool take_sent_back(struct fs *fs, const struct fs_ctx *ctx)
{
	bool was = shown_was_sent_back(fs, ctx);

	shown_no_name(fs, ctx);
	return was;
}

static bool name_is_old(const struct entry_shown *entry, const struct attr *attr, uint64_t now)
{
	return (entry->until_ns > now && attr->name_version != entry->version) || entry->older_until_ns > now;
}

/* Of what grew by our own writes the kernel knows. */
static bool has_grown(const struct inode *inode, const struct attr *attr, uint64_t now)
{
	return inode->shown.until_ns > now && inode->shown.size < attr->size && !inode_knows_bytes(inode, attr);
}

/* Will he be known when he comes again, and nobody else not because of him? */
static bool may_be_sent_back(struct fs *fs, const struct fs_ctx *ctx)
{
	uint64_t mark = atomic_load_explicit(sent_back_slot(fs, ctx), memory_order_relaxed);

	return ctx->pid != 0 && (mark == 0 || mark_is_old(mark));
}

bool shown_looks_again(struct inode *inode, const struct fs_ctx *ctx, bool maps, const struct attr *attr)
{
	bool looked_up = take_sent_back(inode->fs, ctx);
	bool sizes = maps && may_be_sent_back(inode->fs, ctx);
	uint64_t now = clock_ns();
	bool old;

	pthread_mutex_lock(&inode->lock);
	old = name_is_old(&inode->entry, attr, now) || (sizes && has_grown(inode, attr, now));
	pthread_mutex_unlock(&inode->lock);
	return old && !looked_up;
}
