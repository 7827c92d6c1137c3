#include "client/stat_ahead.h"

#include "client/attr.h"
#include "client/ctx_wait.h"
#include "client/data/data.h"
#include "client/fs_state.h"
#include "client/locks.h"
#include "client/readdir.h"
#include "client/rpc.h"
#include "client/session.h"
#include "client/shown.h"
#include "client/stat_store.h"
#include "proto/mds.pb-c.h"

#include <errno.h>
#include <stdlib.h>

#define PAGE_BYTES (16u * 1024) /* some 100 entries: others on this loop wait no longer than for a few calls */
#define PACE_MS    10           /* between two looks whether more are wanted */
#define YOUNG_NS   (2 * (int64_t)NSEC_PER_SEC)

static uint64_t timeout_ns(const struct fs *fs)
{
	return fs->config.attr_timeout_ms * NSEC_PER_MSEC;
}

/* --- telling ------------------------------------------------------------------------------------------------------ */

static bool is_dots(const char *name, size_t len)
{
	return name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.'));
}

/* May this caller be told of names there by us? */
static bool may_tell(struct fs *fs, const struct fs_ctx *ctx, uint64_t dir, const char *name, size_t len)
{
	if (fs->config.attr_timeout_ms == 0 || !ctx->trusted || ctx->pid == 0 || is_dots(name, len))
		return false;
	if (ctx->uid == 0 && fs_session_squashes_root(fs->session))
		return false;
	return !shown_was_sent_back(fs, ctx) && !shown_dir_is_shared(fs, dir);
}

/* Is the entry no older than what is known of the inode, as far as that matters here? inode->lock is held. */
static bool fits(struct inode *inode, const struct stat_found *found)
{
	struct fs *fs = inode->fs;

	if (inode->attr_valid && (inode->attr.size_unsure || inode->attr.nlink == 0))
		return false;
	if (data_unreported(inode) || locks_are_used(inode))
		return false;
	/* After all else: whatever takes away what was known says so to the store first. */
	return stat_store_holds(fs->stat_store, found);
}

/* Take the entry over; false: it is not to be told. inode->lock is held. */
static bool take(struct inode *inode, const struct stat_found *found, struct attr *ret_attr)
{
	struct attr attr = found->attr;

	if (!fits(inode, found))
		return false;
	/* Times of access change no version, and only grow then. */
	if (inode->attr_valid && inode->attr.version == attr.version && inode->attr.atime_ns > attr.atime_ns)
		attr.atime_ns = inode->attr.atime_ns;
	if (!inode->attr_valid || found->asked_ns + timeout_ns(inode->fs) > inode->attr_expires_ns)
		inode_set_attr(inode, &attr, found->asked_ns);
	*ret_attr = inode->attr;
	return inode->attr.name_version == attr.name_version && inode->attr_expires_ns > clock_ns();
}

bool stat_ahead_lookup(struct fs *fs, struct fs_ctx *ctx, uint64_t dir, const char *name, size_t len,
		       struct attr *ret_attr)
{
	struct stat_found found;
	struct inode *inode;
	bool told;

	if (!may_tell(fs, ctx, dir, name, len) ||
	    !stat_store_find(fs->stat_store, dir, name, len, clock_ns() - timeout_ns(fs), &found))
		return false;
	inode = inode_get(fs->inodes, found.attr.ino);
	if (inode == NULL)
		return false;
	pthread_mutex_lock(&inode->lock);
	told = take(inode, &found, ret_attr);
	pthread_mutex_unlock(&inode->lock);
	if (told) {
		inode_lookup_add(inode);
		ctx->name_asked_ns = found.asked_ns;
		atomic_fetch_add_explicit(&fs->counters.lookups_ahead, 1, memory_order_relaxed);
	}
	inode_put(inode);
	return told;
}

/* --- fetching ----------------------------------------------------------------------------------------------------- */

struct fetch {
	struct fs *fs;
	uint64_t dir;
	struct fs_ctx ctx;
	uint64_t until_ns; /* what was asked first is believed; 0: nothing was */
	uint64_t cookie;
	bool end;
};

/* One that may be told. now_ns: as ctimes are. */
static bool entry_take(const Strake__Dirent *dirent, int64_t now_ns, struct attr *ret_attr)
{
	return S_ISREG(dirent->type) && dirent->attr != NULL && dirent->attr->ino == dirent->ino &&
	       dirent->name.len <= UINT8_MAX && attr_from_wire(dirent->attr, ret_attr) == 0 && !ret_attr->size_unsure &&
	       ret_attr->name_version != 0 && now_ns - ret_attr->ctime_ns >= YOUNG_NS;
}

static int page_take(struct fetch *fetch, const Strake__ReaddirReply *reply, uint64_t mark, uint64_t asked_ns)
{
	struct stat_store *store = fetch->fs->stat_store;
	/* The MDT's time, however our clock goes; from one that does not tell it, ours. */
	int64_t now_ns = reply->has_now_ns ? reply->now_ns : (int64_t)clock_real_ns();
	size_t name_bytes = 0, taken = 0;
	struct stat_page *page;
	struct attr attr;

	for (size_t i = 0; i < reply->n_entry; i++)
		name_bytes += reply->entry[i]->name.len;
	page = stat_page_new(reply->n_entry, name_bytes, mark, asked_ns);
	if (page == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < reply->n_entry; i++)
		if (entry_take(reply->entry[i], now_ns, &attr)) {
			stat_page_add(page, store, (const char *)reply->entry[i]->name.data, reply->entry[i]->name.len,
				      &attr);
			taken++;
		}
	if (!stat_store_put(store, fetch->dir, page))
		return -ENOSPC;
	atomic_fetch_add_explicit(&fetch->fs->counters.names_ahead, taken, memory_order_relaxed);
	return 0;
}

static int page_ask(struct fetch *fetch, struct worker *worker)
{
	struct fs *fs = fetch->fs;
	Strake__Cred cred = rpc_cred(&fetch->ctx);
	Strake__ReaddirRequest request = STRAKE__READDIR_REQUEST__INIT;
	const Strake__ReaddirReply *reply;
	struct call call = { .opcode = OP_READDIR, .request = &request.base };
	uint64_t mark = stat_store_mark(fs->stat_store), asked_ns = clock_ns();
	int err;

	request.cred = &cred;
	request.ino = fetch->dir;
	request.cookie = fetch->cookie;
	request.max_bytes = PAGE_BYTES;
	request.has_attrs = request.attrs = true;
	err = worker_mds_call_within(worker, &fetch->ctx, &call, fs->config.attr_timeout_ms);
	reply = (const Strake__ReaddirReply *)call.reply;
	if (err == 0 && !readdir_is_sound(reply, fetch->cookie))
		err = -EPROTO;
	if (err == 0) {
		if (fetch->until_ns == 0)
			fetch->until_ns = asked_ns + timeout_ns(fs);
		fetch->end = reply->end;
		if (reply->n_entry > 0) {
			fetch->cookie = reply->entry[reply->n_entry - 1]->cookie;
			err = page_take(fetch, reply, mark, asked_ns);
		}
	}
	call_release(&call);
	return err;
}

static bool is_over(const struct fetch *fetch)
{
	return fetch->until_ns != 0 && clock_ns() >= fetch->until_ns;
}

/* Keeps what it has brought for as long as that is believed. */
static void fetch_run(struct worker *worker, void *arg)
{
	struct fetch *fetch = arg;
	struct stat_store *store = fetch->fs->stat_store;
	uint64_t now_ns;
	int err = 0;

	while (err == 0 && !fetch->end && !is_over(fetch))
		err = stat_store_goes_on(store, fetch->dir) ? page_ask(fetch, worker)
							    : ctx_wait_ms(worker, &fetch->ctx, PACE_MS);
	now_ns = clock_ns();
	if (now_ns < fetch->until_ns)
		ctx_wait_ms(worker, &fetch->ctx, (unsigned int)((fetch->until_ns - now_ns) / NSEC_PER_MSEC) + 1);
	stat_store_end(store, fetch->dir, clock_ns());
	free(fetch);
}

static void fetch_begin(struct fs *fs, const struct fs_ctx *ctx, uint64_t dir)
{
	struct fetch *fetch = calloc(1, sizeof(*fetch));

	if (fetch != NULL) {
		fetch->fs = fs;
		fetch->dir = dir;
		/* He may look up what is there: so his kernel has said, and none is told of what he does not ask for. */
		fetch->ctx.uid = ctx->uid;
		fetch->ctx.gid = ctx->gid;
		fetch->ctx.trusted = true;
		if (worker_spawn(fs_worker(fs), fetch_run, fetch) == 0)
			return;
		free(fetch);
	}
	stat_store_end(fs->stat_store, dir, clock_ns());
}

void stat_ahead_asked(struct fs *fs, const struct fs_ctx *ctx, uint64_t dir, const char *name, size_t len,
		      const struct attr *attr)
{
	bool is_file = attr != NULL && S_ISREG(attr->mode) && may_tell(fs, ctx, dir, name, len);

	if (stat_store_asked(fs->stat_store, dir, name, len, is_file, clock_ns()))
		fetch_begin(fs, ctx, dir);
}
