/* The namespace: lookup, mkdir, mknod, symlink, link, unlink, rmdir, rename, readlink. */
#include "client/names.h"

#include "client/absent.h"
#include "client/atime.h"
#include "client/data/data.h"
#include "client/fs_state.h"
#include "client/readdir.h"
#include "client/rpc.h"
#include "client/shown.h"
#include "client/stat_ahead.h"
#include "client/stat_store.h"
#include "client/tell.h"

#include <errno.h>
#include <stdio.h> /* RENAME_EXCHANGE, RENAME_WHITEOUT */
#include <stdlib.h>
#include <string.h>

#define LOOKUP_TRIES 100 /* to find a file that is not gone by the time it can be held */

/* Attributes of an inode that may be known here; it, with a reference, if so. */
static struct inode *take_known(struct fs *fs, const Strake__Attr *wire, uint64_t asked_ns)
{
	struct inode *inode;

	if (wire == NULL)
		return NULL;
	/* First: who makes the inode known after we have looked for it must not do so by what was fetched before. */
	stat_store_ino_changed(fs->stat_store, wire->ino);
	inode = inode_find(fs->inodes, wire->ino);
	if (inode != NULL)
		inode_take_attr(inode, wire, asked_ns, NULL); /* what cannot be is passed over: nobody asked for it */
	return inode;
}

void names_take_changed(struct fs *fs, const struct fs_ctx *ctx, const Strake__Attr *wire, uint64_t asked_ns)
{
	struct inode *inode = take_known(fs, wire, asked_ns);

	if (inode != NULL)
		shown_changed(inode, ctx);
	inode_put(inode);
}

/* What the reply to a change of our own tells of an inode that got a name, lost one or was moved. */
static void names_take_own(struct fs *fs, const Strake__Attr *wire, bool told_before, uint64_t before,
			   uint64_t asked_ns)
{
	struct inode *inode = take_known(fs, wire, asked_ns);

	if (inode != NULL && told_before && wire->has_name_version)
		shown_own_names(inode, before, wire->name_version);
	inode_put(inode);
}

/* What the names are of a directory that we have changed (absent.h). before: attr.version; NULL: it was not changed. */
static void note_dir(struct fs *fs, const Strake__Attr *dir, const uint64_t *before, struct absent_change change)
{
	if (dir == NULL || before == NULL)
		return;
	change.dir = dir->ino;
	change.version_before = *before;
	change.version = dir->version;
	absent_changed(fs->absent, &change, clock_ns());
}

static void note_parent(struct fs *fs, const Strake__EntryReply *reply, struct absent_change change)
{
	note_dir(fs, reply->parent_attr, reply->has_parent_version_before ? &reply->parent_version_before : NULL,
		 change);
}

/* An answer says for how long nobody else adds names: from when it was asked for. */
static uint64_t alone_until(uint64_t asked_ns, uint32_t alone_ms)
{
	return alone_ms > 0 ? asked_ns + alone_ms * NSEC_PER_MSEC : 0;
}

int names_take_entry(struct fs *fs, const struct fs_ctx *ctx, const Strake__EntryReply *reply, uint64_t asked_ns,
		     const ProtobufCBinaryData *came, struct inode **ret_inode, struct attr *ret_attr)
{
	struct inode *inode;
	int err;

	if (came != NULL)
		note_parent(fs, reply,
			    (struct absent_change){ .came = (const char *)came->data,
						    .came_len = came->len,
						    .alone_until_ns = alone_until(asked_ns, reply->parent_alone_ms) });
	names_take_changed(fs, ctx, reply->parent_attr, asked_ns);
	if (reply->attr == NULL || reply->attr->ino == 0)
		return -EPROTO;
	names_take_own(fs, reply->attr, reply->has_name_version_before, reply->name_version_before, asked_ns);
	inode = inode_get(fs->inodes, reply->attr->ino);
	if (inode == NULL)
		return -ENOMEM;
	err = inode_take_attr(inode, reply->attr, asked_ns, ret_attr);
	if (err < 0) {
		inode_put(inode);
		return err;
	}
	*ret_inode = inode;
	return 0;
}

/* Ask for an entry and give its attributes with a lookup reference. came: a name that it may add; NULL: it adds none. */
static int entry_ask(struct fs *fs, struct fs_ctx *ctx, struct call *call, const ProtobufCBinaryData *came,
		     struct attr *ret_attr)
{
	uint64_t asked_ns = clock_ns();
	const Strake__EntryReply *reply;
	struct inode *inode = NULL;
	struct attr attr;
	int err = worker_mds_call(fs_worker(fs), ctx, call);

	if (err == 0) {
		reply = (const Strake__EntryReply *)call->reply;
		err = names_take_entry(fs, ctx, reply, asked_ns, came, &inode, &attr);
		if (err == 0 && call->opcode == OP_MKDIR)
			absent_made(fs->absent, reply->attr->ino, reply->attr->version, clock_ns());
	} else if (!call->answered && came != NULL) {
		absent_doubt(fs->absent, clock_ns());
	}
	call_release(call);
	if (err < 0)
		return err;
	err = inode_settle_size(inode, ctx, asked_ns, &attr);
	if (err == 0) {
		inode_lookup_add(inode);
		*ret_attr = attr;
	}
	inode_put(inode);
	return err;
}

/* ... of an inode that was there: what is being written here is better known here. */
static int entry_ask_existing(struct fs *fs, struct fs_ctx *ctx, struct call *call, const ProtobufCBinaryData *came,
			      struct attr *ret_attr)
{
	struct inode *inode;
	struct attr attr;
	bool unreported;
	int err = entry_ask(fs, ctx, call, came, &attr);

	if (err < 0)
		return err;
	inode = inode_find(fs->inodes, attr.ino);
	pthread_mutex_lock(&inode->lock);
	unreported = data_unreported(inode);
	pthread_mutex_unlock(&inode->lock);
	inode_put(inode);
	if (unreported)
		err = fs_getattr(fs, ctx, attr.ino, false, &attr);
	if (err < 0)
		fs_forget(fs, attr.ino, 1);
	else
		*ret_attr = attr;
	return err;
}

/* --- what is not there ----------------------------------------------------------------------------------------------- */

/* Reads a directory so that it is known which names it does not have. */
struct names_reading {
	struct absent *absent;
	struct inode *dir;
	uint64_t ticket;
};

static bool names_read_one(void *arg, const char *name, size_t len)
{
	const struct names_reading *reading = arg;

	return absent_read(reading->absent, reading->dir->ino, reading->ticket, name, len);
}

static void names_read_all(struct worker *worker, void *arg)
{
	struct names_reading *reading = arg;
	struct fs_ctx ctx = { .trusted = true };
	int err = readdir_names(reading->dir, &ctx, names_read_one, reading);

	(void)worker;
	absent_all_read(reading->absent, reading->dir->ino, reading->ticket, err == 0);
	inode_put(reading->dir);
	free(reading);
}

/* Nobody waits for it, and it may fail. */
static void names_read(struct fs *fs, uint64_t ino)
{
	struct names_reading *reading = malloc(sizeof(*reading));
	struct inode *dir = inode_find(fs->inodes, ino);
	uint64_t ticket = reading != NULL && dir != NULL ? absent_reading(fs->absent, ino) : 0;

	if (ticket == 0) {
		inode_put(dir);
		free(reading);
		return;
	}
	*reading = (struct names_reading){ fs->absent, dir, ticket };
	if (worker_spawn(fs_worker(fs), names_read_all, reading) < 0) {
		absent_all_read(fs->absent, ino, ticket, false);
		inode_put(dir);
		free(reading);
	}
}

/* --- lookup ---------------------------------------------------------------------------------------------------------- */

static int lookup_once(struct fs *fs, struct fs_ctx *ctx, uint64_t parent, const char *name, size_t len,
		       struct attr *ret_attr)
{
	Strake__Cred cred = rpc_cred(ctx);
	Strake__LookupRequest request = STRAKE__LOOKUP_REQUEST__INIT;
	struct call call = { .opcode = OP_LOOKUP, .request = &request.base };
	int err;

	request.cred = &cred;
	request.parent = parent;
	request.name = rpc_bytes(name, len);
	err = entry_ask_existing(fs, ctx, &call, NULL, ret_attr);
	if (err == -ENOENT) {
		shown_no_name(fs, ctx);
		if (ctx->trusted && absent_missed(fs->absent, parent, clock_ns()))
			names_read(fs, parent);
	}
	stat_ahead_asked(fs, ctx, parent, name, len, err == 0 ? ret_attr : NULL);
	return err;
}

/*
 * An open that was sent back looks its name up again, and comes once more; after a second ESTALE it fails, which no program
 * expects. Where a name goes from file to file all the time each of them might be gone before the open comes. So for these
 * who look up again the file is held until then.
 */
static int hold_for_open(struct fs *fs, struct fs_ctx *ctx, const struct attr *attr)
{
	struct inode *inode;
	int err;

	if (!S_ISREG(attr->mode) || !shown_was_sent_back(fs, ctx))
		return 0;
	inode = inode_find(fs->inodes, attr->ino);
	err = tell_hold(inode, ctx);
	inode_put(inode);
	return err == -ESTALE ? err : 0;
}

int fs_lookup(struct fs *fs, struct fs_ctx *ctx, uint64_t parent, const char *name, size_t len, struct attr *ret_attr)
{
	int err = -ESTALE;

	if (ctx->trusted && absent_is(fs->absent, parent, name, len, clock_ns())) {
		atomic_fetch_add_explicit(&fs->counters.lookups_absent, 1, memory_order_relaxed);
		shown_no_name(fs, ctx);
		return -ENOENT;
	}
	if (stat_ahead_lookup(fs, ctx, parent, name, len, ret_attr))
		return 0;
	for (unsigned int tries = 0; err == -ESTALE && tries < LOOKUP_TRIES; tries++) {
		err = lookup_once(fs, ctx, parent, name, len, ret_attr);
		if (err < 0)
			break;
		err = hold_for_open(fs, ctx, ret_attr);
		if (err < 0)
			fs_forget(fs, ret_attr->ino, 1);
	}
	return err;
}

/* What the four makers have in common. */
static int make(struct fs *fs, struct fs_ctx *ctx, uint16_t opcode, Strake__CreateRequest *request, uint64_t parent,
		const char *name, size_t len, struct attr *ret_attr)
{
	Strake__Cred cred = rpc_cred(ctx);
	struct call call = { .opcode = opcode, .request = &request->base };
	int err;

	request->cred = &cred;
	request->parent = parent;
	request->name = rpc_bytes(name, len);
	request->has_umask = true;
	request->umask = ctx->umask;
	err = entry_ask(fs, ctx, &call, &request->name, ret_attr);
	stat_store_name_changed(fs->stat_store, parent, name, len);
	return err;
}

int fs_mkdir(struct fs *fs, struct fs_ctx *ctx, uint64_t parent, const char *name, size_t len, mode_t mode,
	     struct attr *ret_attr)
{
	Strake__CreateRequest request = STRAKE__CREATE_REQUEST__INIT;

	request.mode = S_IFDIR | (mode & ~(mode_t)S_IFMT);
	return make(fs, ctx, OP_MKDIR, &request, parent, name, len, ret_attr);
}

int fs_mknod(struct fs *fs, struct fs_ctx *ctx, uint64_t parent, const char *name, size_t len, mode_t mode,
	     uint64_t rdev, struct attr *ret_attr)
{
	Strake__CreateRequest request = STRAKE__CREATE_REQUEST__INIT;

	request.mode = (mode & S_IFMT) == 0 ? mode | S_IFREG : mode;
	request.has_rdev = true;
	request.rdev = rdev;
	return make(fs, ctx, OP_MKNOD, &request, parent, name, len, ret_attr);
}

int fs_symlink(struct fs *fs, struct fs_ctx *ctx, uint64_t parent, const char *name, size_t len, const char *target,
	       size_t target_len, struct attr *ret_attr)
{
	Strake__CreateRequest request = STRAKE__CREATE_REQUEST__INIT;

	request.mode = S_IFLNK | 0777;
	request.has_target = true;
	request.target = rpc_bytes(target, target_len);
	return make(fs, ctx, OP_SYMLINK, &request, parent, name, len, ret_attr);
}

int fs_link(struct fs *fs, struct fs_ctx *ctx, uint64_t ino, uint64_t parent, const char *name, size_t len,
	    struct attr *ret_attr)
{
	Strake__Cred cred = rpc_cred(ctx);
	Strake__LinkRequest request = STRAKE__LINK_REQUEST__INIT;
	struct call call = { .opcode = OP_LINK, .request = &request.base };
	int err;

	request.cred = &cred;
	request.ino = ino;
	request.parent = parent;
	request.name = rpc_bytes(name, len);
	err = entry_ask_existing(fs, ctx, &call, &request.name, ret_attr);
	stat_store_name_changed(fs->stat_store, parent, name, len);
	return err;
}

static int remove_name(struct fs *fs, struct fs_ctx *ctx, uint16_t opcode, uint64_t parent, const char *name,
		       size_t len)
{
	Strake__Cred cred = rpc_cred(ctx);
	Strake__UnlinkRequest request = STRAKE__UNLINK_REQUEST__INIT;
	const Strake__EntryReply *reply;
	struct call call = { .opcode = opcode, .request = &request.base };
	uint64_t asked_ns = clock_ns();
	int err;

	request.cred = &cred;
	request.parent = parent;
	request.name = rpc_bytes(name, len);
	err = worker_mds_call(fs_worker(fs), ctx, &call);
	stat_store_name_changed(fs->stat_store, parent, name, len); /* it may be done, whatever err says */
	if (err == 0) {
		reply = (const Strake__EntryReply *)call.reply;
		note_parent(fs, reply, (struct absent_change){ .gone = name, .gone_len = len });
		names_take_own(fs, reply->attr, reply->has_name_version_before, reply->name_version_before, asked_ns);
		names_take_changed(fs, ctx, reply->parent_attr, asked_ns);
	}
	call_release(&call);
	return err;
}

int fs_unlink(struct fs *fs, struct fs_ctx *ctx, uint64_t parent, const char *name, size_t len)
{
	return remove_name(fs, ctx, OP_UNLINK, parent, name, len);
}

int fs_rmdir(struct fs *fs, struct fs_ctx *ctx, uint64_t parent, const char *name, size_t len)
{
	return remove_name(fs, ctx, OP_RMDIR, parent, name, len);
}

/* Two names of one inode are both left as they are; then no version has changed. */
static void note_rename(struct fs *fs, const Strake__RenameRequest *request, const Strake__RenameReply *reply,
			uint64_t asked_ns)
{
	const Strake__Attr *from = reply->parent_attr, *to = reply->new_parent_attr;
	bool moved = from != NULL && reply->has_parent_version_before && from->version != reply->parent_version_before;
	struct absent_change came = {
		.came = (const char *)request->new_name.data,
		.came_len = request->new_name.len,
		.alone_until_ns = alone_until(asked_ns, reply->alone_ms),
	};
	struct absent_change gone = { 0 };

	if (!moved)
		return;
	if (!(request->flags & (RENAME_EXCHANGE | RENAME_WHITEOUT))) {
		gone.gone = (const char *)request->name.data;
		gone.gone_len = request->name.len;
	}
	if (to == NULL) {
		came.gone = gone.gone;
		came.gone_len = gone.gone_len;
		note_dir(fs, from, &reply->parent_version_before, came);
		return;
	}
	note_dir(fs, from, &reply->parent_version_before, gone);
	if (reply->has_new_parent_version_before)
		note_dir(fs, to, &reply->new_parent_version_before, came);
}

int fs_rename(struct fs *fs, struct fs_ctx *ctx, uint64_t parent, const char *name, size_t len, uint64_t new_parent,
	      const char *new_name, size_t new_len, unsigned int flags)
{
	Strake__Cred cred = rpc_cred(ctx);
	Strake__RenameRequest request = STRAKE__RENAME_REQUEST__INIT;
	const Strake__RenameReply *reply;
	struct call call = { .opcode = OP_RENAME, .request = &request.base };
	uint64_t asked_ns = clock_ns();
	int err;

	request.cred = &cred;
	request.parent = parent;
	request.name = rpc_bytes(name, len);
	request.new_parent = new_parent;
	request.new_name = rpc_bytes(new_name, new_len);
	request.has_flags = flags != 0;
	request.flags = flags;
	err = worker_mds_call(fs_worker(fs), ctx, &call);
	stat_store_name_changed(fs->stat_store, parent, name, len);
	stat_store_name_changed(fs->stat_store, new_parent, new_name, new_len);
	if (err == 0) {
		reply = (const Strake__RenameReply *)call.reply;
		note_rename(fs, &request, reply, asked_ns);
		names_take_own(fs, reply->attr, reply->has_name_version_before, reply->name_version_before, asked_ns);
		names_take_changed(fs, ctx, reply->attr, asked_ns);
		names_take_changed(fs, ctx, reply->replaced, asked_ns);
		names_take_changed(fs, ctx, reply->parent_attr, asked_ns);
		names_take_changed(fs, ctx, reply->new_parent_attr, asked_ns);
	} else if (!call.answered) {
		absent_doubt(fs->absent, clock_ns());
	}
	call_release(&call);
	return err;
}

int fs_readlink(struct fs *fs, struct fs_ctx *ctx, uint64_t ino, char *target, size_t size, size_t *ret_len)
{
	Strake__ReadlinkRequest request = STRAKE__READLINK_REQUEST__INIT;
	const Strake__ReadlinkReply *reply;
	struct inode *inode;
	struct call call = { .opcode = OP_READLINK, .request = &request.base };
	int err;

	request.ino = ino;
	err = worker_mds_call(fs_worker(fs), ctx, &call);
	if (err == 0) {
		reply = (const Strake__ReadlinkReply *)call.reply;
		if (reply->target.len > size) {
			err = -ERANGE;
		} else {
			memcpy(target, reply->target.data, reply->target.len);
			*ret_len = reply->target.len;
		}
	}
	call_release(&call);
	inode = err == 0 ? inode_find(fs->inodes, ino) : NULL;
	if (inode != NULL)
		atime_note(inode);
	inode_put(inode);
	return err;
}
