/* getattr, setattr, access, statfs, layout; and where the MDT is unsure of a size, what the OSTs say of it. */
#include "client/atime.h"
#include "client/attr.h"
#include "client/ctx_wait.h"
#include "client/data/data.h"
#include "client/file.h"
#include "client/fs_state.h"
#include "client/peers.h"
#include "client/rpc.h"
#include "proto/mds.pb-c.h"
#include "proto/oss.pb-c.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/*
 * stat of the mount's root and statfs are answered, whatever has happened to the MDT: from memory when it does not
 * answer in this time; the second when it did not answer before. df asks for both, one after the other.
 */
#define BRIEF_MS          2000
#define BRIEF_TROUBLED_MS 500
#define SETTLE_TRIES      10 /* gen or cut changed while we asked the OSTs */

/* --- what the OSTs say ------------------------------------------------------------------------------------------- */

struct glimpse {
	struct fs_ctx *ctx;
	const struct attr *attr;
	uint64_t end, blocks; /* so far; all parts run on one loop */
};

static int glimpse_one(struct worker *worker, void *arg, unsigned int i)
{
	struct glimpse *glimpse = arg;
	const struct attr *attr = glimpse->attr;
	Strake__Cut cut = STRAKE__CUT__INIT;
	Strake__GlimpseRequest request = STRAKE__GLIMPSE_REQUEST__INIT;
	const Strake__GlimpseReply *reply;
	struct call call = { .opcode = OP_GLIMPSE, .request = &request.base };
	int err;

	request.ino = attr->ino;
	request.gen = attr->gen;
	request.stripe_size = attr->layout->stripe_size;
	if (attr->cut != 0) {
		cut.number = attr->cut;
		cut.has_start = cut.has_end = true;
		cut.start = attr->cut_start;
		cut.end = attr->cut_end;
		request.cut = &cut;
	}
	err = worker_ost_call(worker, glimpse->ctx, attr->layout->ost_indices[i], &call);
	if (err == 0) {
		reply = (const Strake__GlimpseReply *)call.reply;
		if (reply->end > glimpse->end)
			glimpse->end = reply->end;
		glimpse->blocks += reply->blocks;
	}
	call_release(&call);
	return err;
}

/* How long to wait for an MDT that can be done without. */
static unsigned int brief_patience(struct worker *worker)
{
	const struct target_state *mdt = peers_state(worker->peers, ROLE_MDT, 0);

	return mdt != NULL && atomic_load(&mdt->troubled) ? BRIEF_TROUBLED_MS : BRIEF_MS;
}

static int getattr_ask(struct worker *worker, struct inode *inode, struct fs_ctx *ctx, unsigned int patience_ms,
		       struct attr *ret_attr)
{
	Strake__GetattrRequest request = STRAKE__GETATTR_REQUEST__INIT;
	struct call call = { .opcode = OP_GETATTR, .request = &request.base };
	uint64_t asked_ns = clock_ns();
	int err;

	request.ino = inode->ino;
	err = worker_mds_call_within(worker, ctx, &call, patience_ms);
	if (err == 0)
		err = inode_take_attr(inode, ((const Strake__AttrReply *)call.reply)->attr, asked_ns, ret_attr);
	call_release(&call);
	return err;
}

/*
 * What the OSTs said, for the attributes they were asked with: into the inode, unless it has changed since. Then what is known by
 * now counts as well: what we wrote ourselves may have reached the OSTs after their answers, and be reported by now. A size that
 * was cut meanwhile stays unsure: they are to be asked for it.
 */
static void settle(struct inode *inode, uint64_t asked_ns, const struct glimpse *glimpse, struct attr *attr)
{
	struct attr now = *attr;
	bool newer;

	pthread_mutex_lock(&inode->lock);
	newer = inode->attr_valid && inode->attr.version > attr->version;
	if (newer || inode->attr.version == attr->version)
		now = inode->attr;
	if (!newer || (now.size_unsure && now.gen == attr->gen && now.cut == attr->cut)) {
		now.size_unsure = false;
		if (glimpse->end > now.size)
			now.size = glimpse->end;
		now.blocks = glimpse->blocks;
	}
	if (inode->attr.version == attr->version) {
		inode_set_attr(inode, &now, asked_ns);
		now = inode->attr;
	}
	pthread_mutex_unlock(&inode->lock);
	*attr = now;
}

/*
 * The same doubt about the same version twice: nobody reports, so its writer was lost, or is idle. Tell the MDT what the
 * OSTs said, once; if that does not end the doubt, somebody has it open for writing. While the lost one may write yet
 * there is nothing to tell.
 */
static bool settled_should_be_told(struct inode *inode, const struct attr *asked)
{
	bool tell;

	pthread_mutex_lock(&inode->lock);
	tell = inode->unsure_version == asked->version && inode->settled_version != asked->version && !asked->unfenced;
	inode->unsure_version = asked->version;
	pthread_mutex_unlock(&inode->lock);
	return tell;
}

static void settled_tell(struct worker *worker, struct inode *inode, struct fs_ctx *ctx, const struct attr *asked,
			 const struct glimpse *glimpse)
{
	Strake__SizeRequest request = STRAKE__SIZE_REQUEST__INIT;
	const Strake__AttrReply *reply;
	struct call call = { .opcode = OP_SIZE, .request = &request.base };

	request.ino = inode->ino;
	request.gen = asked->gen;
	request.cut = asked->cut;
	request.end = glimpse->end;
	request.blocks = glimpse->blocks;
	request.has_wrote = true;
	request.wrote = false;
	request.has_asked_data_version = true;
	request.asked_data_version = asked->data_version;
	/* Refused or not, what the OSTs said is the answer to whoever asked. */
	if (worker_mds_call(worker, ctx, &call) == 0) {
		reply = (const Strake__AttrReply *)call.reply;
		pthread_mutex_lock(&inode->lock);
		inode->settled_version = reply->attr->version;
		pthread_mutex_unlock(&inode->lock);
		inode_take_attr(inode, reply->attr, clock_ns(), NULL);
	}
	call_release(&call);
}

int inode_glimpse(struct inode *inode, struct fs_ctx *ctx, const struct attr *attr, uint64_t *ret_end,
		  uint64_t *ret_blocks)
{
	struct glimpse glimpse = { .ctx = ctx, .attr = attr };
	int err = worker_parallel(fs_worker(inode->fs), attr->layout->ost_count, glimpse_one, &glimpse);

	*ret_end = glimpse.end;
	*ret_blocks = glimpse.blocks;
	return err;
}

int inode_settle_size(struct inode *inode, struct fs_ctx *ctx, uint64_t asked_ns, struct attr *attr)
{
	struct worker *worker = fs_worker(inode->fs);
	int err;

	for (int tries = 0; attr->size_unsure && tries < SETTLE_TRIES; tries++) {
		struct attr asked = *attr;
		struct glimpse glimpse = { .ctx = ctx, .attr = &asked };

		err = worker_parallel(worker, asked.layout->ost_count, glimpse_one, &glimpse);
		if (err == 0) {
			settle(inode, asked_ns, &glimpse, attr);
			if (asked.layout->ost_count > 0 && settled_should_be_told(inode, &asked))
				settled_tell(worker, inode, ctx, &asked, &glimpse);
			asked_ns = clock_ns();
			continue;
		}
		if (err != -ESTALE)
			return err;
		asked_ns = clock_ns();
		err = getattr_ask(worker, inode, ctx, 0, attr);
		if (err < 0)
			return err;
	}
	return attr->size_unsure ? -EIO : 0;
}

/*
 * A directory that was removed is nothing to the MDT any more, but whoever has it open, or stands in it, has it still. The
 * kernel asks for it by a name only if that is not known to be removed: so what we removed is asked for by none, while
 * what others removed and is not open here might be, and ESTALE has the kernel look the name up again.
 * Likewise for devices, fifos and sockets, and whatever is only held by its path (O_PATH): nobody tells us of their opening.
 */
bool inode_is_remembered(struct inode *inode, struct attr *ret_attr)
{
	bool remembered;

	pthread_mutex_lock(&inode->lock);
	remembered = inode->attr_valid && (inode->attr.nlink == 0 || inode->open_dirs > 0) &&
		     (S_ISDIR(inode->attr.mode) || inode->open_read + inode->open_write == 0);
	if (remembered) {
		inode->attr.nlink = 0;
		if (ret_attr != NULL)
			*ret_attr = inode->attr;
	}
	pthread_mutex_unlock(&inode->lock);
	return remembered;
}

static void open_dirs_count(struct fs *fs, uint64_t ino, unsigned int by)
{
	struct inode *inode = inode_find(fs->inodes, ino);

	if (inode == NULL)
		return;
	pthread_mutex_lock(&inode->lock);
	inode->open_dirs += by;
	pthread_mutex_unlock(&inode->lock);
	inode_put(inode);
}

void fs_opendir(struct fs *fs, uint64_t ino)
{
	open_dirs_count(fs, ino, 1);
}

void fs_releasedir(struct fs *fs, uint64_t ino)
{
	open_dirs_count(fs, ino, -1u);
}

int inode_fetch_attr(struct inode *inode, struct fs_ctx *ctx, bool fresh, struct attr *ret_attr)
{
	struct worker *worker = fs_worker(inode->fs);
	bool is_root = inode->ino == inode->fs->root;
	uint64_t asked_ns = clock_ns();
	bool known, enough;
	int err;

	pthread_mutex_lock(&inode->lock);
	known = inode->attr_valid;
	enough = known && !fresh && asked_ns < inode->attr_expires_ns;
	enough |= known && S_ISDIR(inode->attr.mode) && inode->attr.nlink == 0; /* for ever */
	if (known)
		*ret_attr = inode->attr;
	pthread_mutex_unlock(&inode->lock);
	if (enough)
		return 0;

	err = getattr_ask(worker, inode, ctx, is_root && known ? brief_patience(worker) : 0, ret_attr);
	if (err == -EIO && is_root && known)
		return 0;
	return err < 0 ? err : inode_settle_size(inode, ctx, asked_ns, ret_attr);
}

/* --- getattr ----------------------------------------------------------------------------------------------------- */

/*
 * What was written here and not reported: the MDT must know of it to tell times that stay. Bytes that cannot be written
 * are told by fsync and close, not here: only -EINTR and -ECANCELED come back.
 */
static int report_own(struct inode *inode, struct fs_ctx *ctx)
{
	bool unreported;
	int err;

	pthread_mutex_lock(&inode->lock);
	unreported = data_unreported(inode);
	pthread_mutex_unlock(&inode->lock);
	if (!unreported)
		return 0;
	err = data_write_out(inode, ctx);
	if (err == 0)
		err = data_report_size(inode, ctx, false);
	return err == -EINTR || err == -ECANCELED ? err : 0;
}

/* Writers go on meanwhile: what they have written counts. */
static void with_own_size(struct inode *inode, struct attr *attr)
{
	uint64_t size;

	pthread_mutex_lock(&inode->lock);
	size = data_size(inode);
	if (data_unreported(inode) && size > attr->size)
		attr->size = size;
	pthread_mutex_unlock(&inode->lock);
}

int fs_getattr(struct fs *fs, struct fs_ctx *ctx, uint64_t ino, bool fresh, struct attr *ret_attr)
{
	struct inode *inode = inode_get(fs->inodes, ino);
	struct attr attr;
	int err;

	if (inode == NULL)
		return -ENOMEM;
	err = report_own(inode, ctx);
	if (err == 0)
		err = inode_fetch_attr(inode, ctx, fresh, &attr);
	if (err == -ESTALE && inode_is_remembered(inode, &attr))
		err = 0;
	if (err == 0) {
		with_own_size(inode, &attr);
		*ret_attr = attr;
	}
	inode_put(inode);
	return err;
}

/* --- setattr ----------------------------------------------------------------------------------------------------- */

static void setattr_fill(Strake__SetattrRequest *request, const struct fs_ctx *ctx, unsigned int fields,
			 const struct attr *attr)
{
	request->has_mode = (fields & SETATTR_MODE) != 0;
	request->has_uid = (fields & SETATTR_UID) != 0;
	request->has_gid = (fields & SETATTR_GID) != 0;
	request->has_size = (fields & SETATTR_SIZE) != 0;
	request->has_atime_ns = (fields & (SETATTR_ATIME | SETATTR_ATIME_NOW)) == SETATTR_ATIME;
	request->has_mtime_ns = (fields & (SETATTR_MTIME | SETATTR_MTIME_NOW)) == SETATTR_MTIME;
	request->has_atime_now = request->atime_now = (fields & SETATTR_ATIME_NOW) != 0;
	request->has_mtime_now = request->mtime_now = (fields & SETATTR_MTIME_NOW) != 0;
	request->has_open_handle = request->open_handle = (fields & SETATTR_BY_HANDLE) != 0;
	/* Where the kernel has checked, it has said who keeps them; else the MDT knows. */
	request->has_kill_suid = request->has_kill_sgid = ctx->trusted;
	request->kill_suid = ctx->kill_suid;
	request->kill_sgid = ctx->kill_sgid;
	request->has_flags = (fields & SETATTR_FLAGS) != 0;
	request->flags = attr->flags;
	request->mode = attr->mode;
	request->uid = attr->uid;
	request->gid = attr->gid;
	request->size = attr->size;
	request->atime_ns = attr->atime_ns;
	request->mtime_ns = attr->mtime_ns;
}

static int setattr_ask(struct inode *inode, struct fs_ctx *ctx, unsigned int fields, const struct attr *attr,
		       uint64_t asked_ns, struct attr *ret_attr)
{
	Strake__Cred cred = rpc_cred(ctx);
	Strake__SetattrRequest request = STRAKE__SETATTR_REQUEST__INIT;
	const Strake__AttrReply *reply;
	struct call call = { .opcode = OP_SETATTR, .request = &request.base };
	struct attr now;
	int err;

	request.cred = &cred;
	request.ino = inode->ino;
	setattr_fill(&request, ctx, fields, attr);
	inode_change_begins(inode);
	err = worker_mds_call(fs_worker(inode->fs), ctx, &call);
	if (err == 0) {
		reply = (const Strake__AttrReply *)call.reply;
		err = attr_from_wire(reply->attr, &now);
		if (err == 0 && now.ino != inode->ino)
			err = -EPROTO;
		if (err == 0) {
			pthread_mutex_lock(&inode->lock);
			inode_note_own_change(inode, reply->data_version_before, &now, asked_ns);
			*ret_attr = inode->attr;
			pthread_mutex_unlock(&inode->lock);
		}
	}
	inode_change_ends(inode);
	call_release(&call);
	return err;
}

/* Was it a file with holes, or with room behind its end, that became shorter? Then nobody knows what it still takes. */
static bool cut_away_unknown(const struct attr *before, uint64_t size)
{
	uint64_t full = (before->size + 4095) / 4096 * 8;

	return before->ino != 0 && size > 0 && before->blocks != 0 && size <= before->size && before->blocks != full;
}

/* As the MDT has it where it knows the inode. */
static void take_privileges(struct attr *known, const struct fs_ctx *ctx)
{
	if (!ctx->kill_suid || S_ISDIR(known->mode))
		return;
	known->mode &= ~(mode_t)S_ISUID;
	if ((known->mode & S_IXGRP) || ctx->kill_sgid)
		known->mode &= ~(mode_t)S_ISGID;
}

/* Of one that is only remembered: the kernel has checked that the caller may. */
static void setattr_remembered(struct inode *inode, const struct fs_ctx *ctx, unsigned int fields,
			       const struct attr *attr, struct attr *ret_attr)
{
	struct attr *known = &inode->attr;

	pthread_mutex_lock(&inode->lock);
	known->ctime_ns = (int64_t)clock_real_ns();
	take_privileges(known, ctx);
	if (fields & SETATTR_MODE)
		known->mode = (known->mode & S_IFMT) | (attr->mode & 07777);
	if (fields & SETATTR_UID)
		known->uid = attr->uid;
	if (fields & SETATTR_GID)
		known->gid = attr->gid;
	if (fields & (SETATTR_ATIME | SETATTR_ATIME_NOW))
		known->atime_ns = (fields & SETATTR_ATIME) ? attr->atime_ns : known->ctime_ns;
	if (fields & (SETATTR_MTIME | SETATTR_MTIME_NOW))
		known->mtime_ns = (fields & SETATTR_MTIME) ? attr->mtime_ns : known->ctime_ns;
	*ret_attr = *known;
	pthread_mutex_unlock(&inode->lock);
}

static bool gives_privileges(unsigned int fields, const struct attr *attr)
{
	return (fields & SETATTR_MODE) != 0 && (attr->mode & (S_ISUID | S_ISGID)) != 0;
}

int inode_setattr(struct inode *inode, struct fs_ctx *ctx, unsigned int fields, const struct attr *attr,
		  struct attr *ret_attr)
{
	bool times_begun = false;
	struct attr before;
	uint64_t asked_ns;
	int err = 0;

	/* A size cuts what was written before, not after; and what it took from setuid bits it does not take from new ones. */
	if ((fields & SETATTR_SIZE) != 0 || (gives_privileges(fields, attr) && data_takes_privileges(inode)))
		err = report_own(inode, ctx);
	else if ((fields & (SETATTR_MTIME | SETATTR_MTIME_NOW)) != 0)
		err = data_times_begin(inode, ctx, &times_begun);
	if ((fields & (SETATTR_ATIME | SETATTR_ATIME_NOW)) != 0)
		atime_void(inode);
	pthread_mutex_lock(&inode->lock);
	before = inode->attr;
	pthread_mutex_unlock(&inode->lock);
	asked_ns = clock_ns();
	if (err == 0)
		err = setattr_ask(inode, ctx, fields, attr, asked_ns, ret_attr);
	if (times_begun)
		data_times_end(inode, err == 0);
	if (err == 0 && (fields & SETATTR_SIZE) != 0 && cut_away_unknown(&before, attr->size))
		data_cut_away(inode);
	if (err == 0)
		err = inode_settle_size(inode, ctx, asked_ns, ret_attr);
	/* Not a size: its bytes are gone. */
	if (err == -ESTALE && (fields & SETATTR_SIZE) == 0 && inode_is_remembered(inode, NULL)) {
		setattr_remembered(inode, ctx, fields, attr, ret_attr);
		err = 0;
	}
	return err;
}

int fs_setattr(struct fs *fs, struct fs_ctx *ctx, uint64_t ino, unsigned int fields, const struct attr *attr,
	       struct attr *ret_attr)
{
	struct inode *inode = inode_get(fs->inodes, ino);
	struct attr now;
	int err;

	if (inode == NULL)
		return -ENOMEM;
	/* A change of nothing by one who may write is the kernel's, which takes setuid bits away; else it is a chown(2). */
	if (fields == 0) {
		pthread_mutex_lock(&inode->lock);
		fields = inode->open_write > 0 ? SETATTR_BY_HANDLE : 0;
		pthread_mutex_unlock(&inode->lock);
	}
	err = inode_setattr(inode, ctx, fields, attr, &now);
	if (err == 0) {
		with_own_size(inode, &now);
		*ret_attr = now;
	}
	inode_put(inode);
	return err;
}

/* --- the rest ---------------------------------------------------------------------------------------------------- */

int fs_access(struct fs *fs, struct fs_ctx *ctx, uint64_t ino, int mask)
{
	Strake__Cred cred = rpc_cred(ctx);
	Strake__AccessRequest request = STRAKE__ACCESS_REQUEST__INIT;
	struct call call = { .opcode = OP_ACCESS, .request = &request.base };
	int err;

	request.cred = &cred;
	request.ino = ino;
	request.mask = (uint32_t)mask;
	err = worker_mds_call(fs_worker(fs), ctx, &call);
	call_release(&call);
	return err;
}

static bool has_group_mark(struct inode *inode, gid_t *ret_group)
{
	bool has;

	pthread_mutex_lock(&inode->lock);
	has = inode->attr_valid && (inode->attr.mode & (S_ISGID | S_IXGRP)) == S_ISGID && !S_ISDIR(inode->attr.mode);
	*ret_group = inode->attr.gid;
	pthread_mutex_unlock(&inode->lock);
	return has;
}

bool fs_has_group_mark(struct fs *fs, uint64_t ino, gid_t *ret_group)
{
	struct inode *inode = inode_find(fs->inodes, ino);
	bool has = inode != NULL && has_group_mark(inode, ret_group);

	inode_put(inode);
	return has;
}

bool file_has_group_mark(const struct file *file, gid_t *ret_group)
{
	return has_group_mark(file->inode, ret_group);
}

static int statfs_ask(struct worker *worker, struct fs_ctx *ctx, unsigned int patience_ms, struct statvfs *ret_statvfs)
{
	Strake__StatfsRequest request = STRAKE__STATFS_REQUEST__INIT;
	const Strake__StatfsReply *reply;
	struct call call = { .opcode = OP_STATFS, .request = &request.base };
	const unsigned long block = 4096;
	int err = worker_mds_call_within(worker, ctx, &call, patience_ms);

	if (err == 0) {
		reply = (const Strake__StatfsReply *)call.reply;
		*ret_statvfs = (struct statvfs){
			.f_bsize = block,
			.f_frsize = block,
			.f_blocks = reply->bytes_total / block,
			.f_bfree = reply->bytes_free / block,
			.f_bavail = reply->bytes_free / block,
			.f_files = reply->files_total,
			.f_ffree = reply->files_free,
			.f_favail = reply->files_free,
			.f_namemax = 255,
		};
	}
	call_release(&call);
	return err;
}

int fs_statfs(struct fs *fs, struct fs_ctx *ctx, struct statvfs *ret_statvfs)
{
	struct worker *worker = fs_worker(fs);
	struct statvfs space;
	int err = statfs_ask(worker, ctx, brief_patience(worker), &space);

	pthread_mutex_lock(&fs->lock);
	if (err == 0)
		fs->space = space;
	else if (err == -EIO && fs->space.f_bsize != 0)
		err = 0;
	space = fs->space;
	pthread_mutex_unlock(&fs->lock);
	if (err == 0)
		*ret_statvfs = space;
	return err;
}

/* LAYOUT: fixes the OSTs of a file (set == NULL, like == 0), or sets what is wished. */
static int layout_ask(struct inode *inode, struct fs_ctx *ctx, Strake__Layout *set, uint64_t like,
		      struct attr *ret_attr)
{
	Strake__Cred cred = rpc_cred(ctx);
	Strake__LayoutRequest request = STRAKE__LAYOUT_REQUEST__INIT;
	struct call call = { .opcode = OP_LAYOUT, .request = &request.base };
	uint64_t asked_ns = clock_ns();
	int err;

	request.cred = &cred;
	request.ino = inode->ino;
	request.set = set;
	request.has_like = like != 0;
	request.like = like;
	err = worker_mds_call(fs_worker(inode->fs), ctx, &call);
	if (err == 0)
		err = inode_take_attr(inode, ((const Strake__AttrReply *)call.reply)->attr, asked_ns, ret_attr);
	call_release(&call);
	return err;
}

int inode_fix_layout(struct inode *inode, struct fs_ctx *ctx, struct attr *ret_attr)
{
	int err;

	pthread_mutex_lock(&inode->lock);
	*ret_attr = inode->attr;
	pthread_mutex_unlock(&inode->lock);
	if (ret_attr->layout->ost_count > 0)
		return 0;
	err = layout_ask(inode, ctx, NULL, 0, ret_attr);
	if (err < 0)
		return err;
	return ret_attr->layout->ost_count > 0 ? 0 : -EPROTO;
}

int inode_layout_like(struct inode *inode, struct fs_ctx *ctx, uint64_t like, struct attr *ret_attr)
{
	return layout_ask(inode, ctx, NULL, like, ret_attr);
}

int fs_set_layout(struct fs *fs, struct fs_ctx *ctx, uint64_t ino, uint64_t stripe_size, uint32_t stripe_count)
{
	struct inode *inode = inode_get(fs->inodes, ino);
	Strake__Layout set = STRAKE__LAYOUT__INIT;
	int err;

	if (inode == NULL)
		return -ENOMEM;
	set.stripe_size = stripe_size;
	set.stripe_count = stripe_count;
	err = layout_ask(inode, ctx, &set, 0, NULL);
	inode_put(inode);
	return err;
}
