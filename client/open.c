/* Opening, creating and releasing files. */
#include "client/absent.h"
#include "client/atime.h"
#include "client/data/data.h"
#include "client/file.h"
#include "client/fs_state.h"
#include "client/locks.h"
#include "client/names.h"
#include "client/rpc.h"
#include "client/shown.h"
#include "client/stat_store.h"
#include "client/tell.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

static unsigned int modes_of(int flags)
{
	switch (flags & O_ACCMODE) {
	case O_RDONLY:
		return OPEN_READ;
	case O_WRONLY:
		return OPEN_WRITE;
	default:
		return OPEN_READ | OPEN_WRITE;
	}
}

static void handle_count(struct inode *inode, unsigned int modes)
{
	pthread_mutex_lock(&inode->lock);
	inode->open_read += (modes & OPEN_READ) != 0;
	inode->open_write += (modes & OPEN_WRITE) != 0;
	pthread_mutex_unlock(&inode->lock);
}

static void handle_uncount(struct inode *inode, unsigned int modes)
{
	pthread_mutex_lock(&inode->lock);
	inode->open_read -= (modes & OPEN_READ) != 0;
	inode->open_write -= (modes & OPEN_WRITE) != 0;
	pthread_mutex_unlock(&inode->lock);
	tell_close(inode);
}

/* A handle of an inode whose open modes are counted and told; takes both over. */
static struct file *file_new(struct inode *inode, int flags)
{
	struct file *file = calloc(1, sizeof(*file));

	if (file == NULL)
		return NULL;
	file->fs = inode->fs;
	file->inode = inode;
	file->number = atomic_fetch_add(&inode->fs->files_opened, 1) + 1;
	file->flags = flags;
	pthread_mutex_lock(&inode->lock);
	file->error_mark = data_error_mark(inode);
	pthread_mutex_unlock(&inode->lock);

	pthread_mutex_lock(&file->fs->files_lock);
	file->next = file->fs->files;
	if (file->next != NULL)
		file->next->prev = file;
	file->fs->files = file;
	pthread_mutex_unlock(&file->fs->files_lock);
	return file;
}

static int truncate_all(struct inode *inode, struct fs_ctx *ctx, unsigned int modes, struct attr *attr)
{
	struct attr empty = { 0 };
	unsigned int fields = SETATTR_SIZE;

	if ((modes & OPEN_WRITE) != 0)
		fields |= SETATTR_BY_HANDLE;
	return inode_setattr(inode, ctx, fields, &empty, attr);
}

static bool keep_pages(struct inode *inode, const struct attr *attr)
{
	bool keep;

	pthread_mutex_lock(&inode->lock);
	keep = inode_keep_pages(inode, attr);
	pthread_mutex_unlock(&inode->lock);
	return keep;
}

/* What is told to the MDT already it is not asked about again: so what it would say stands here, too. */
static int check_sealed(const struct attr *attr, unsigned int modes, int flags)
{
	bool writes = (modes & OPEN_WRITE) != 0;

	if ((attr->flags & ATTR_IMMUTABLE) && (writes || (flags & O_TRUNC)))
		return -EPERM;
	return (attr->flags & ATTR_APPEND) && ((writes && !(flags & O_APPEND)) || (flags & O_TRUNC)) ? -EPERM : 0;
}

int fs_open_file(struct fs *fs, struct fs_ctx *ctx, uint64_t ino, int flags, struct file **ret_file,
		 bool *ret_keep_cache)
{
	unsigned int modes = modes_of(flags);
	struct inode *inode = inode_get(fs->inodes, ino);
	struct file *file = NULL;
	struct attr attr;
	int err;

	if (inode == NULL)
		return -ENOMEM;
	handle_count(inode, modes);
	err = tell_open(inode, ctx, modes, (flags & O_APPEND) != 0, &attr);
	if (err == 0 && !ctx->nameless && shown_looks_again(inode, ctx, (modes & OPEN_READ) != 0, &attr))
		err = -ESTALE;
	if (err == -ESTALE)
		stat_store_ino_changed(fs->stat_store, ino);
	if (ctx->nameless)
		shown_no_name(fs, ctx);
	else if (err == -ESTALE)
		shown_sent_back(fs, ctx);
	if (err == 0)
		err = check_sealed(&attr, modes, flags);
	if (err == 0 && (flags & O_TRUNC) != 0)
		err = truncate_all(inode, ctx, modes, &attr);
	if (err == 0) {
		file = file_new(inode, flags);
		err = file == NULL ? -ENOMEM : 0;
	}
	if (err < 0) {
		handle_uncount(inode, modes);
		inode_put(inode);
		return err;
	}
	*ret_keep_cache = keep_pages(inode, &attr);
	/* Of what the kernel reads from pages that it keeps we hear no more, and it does not know that it changes anything. */
	if (*ret_keep_cache && attr.size > 0 && modes == OPEN_READ && !(flags & O_NOATIME) && atime_note(inode))
		shown_attr_is_old(inode);
	*ret_file = file;
	return 0;
}

/* A CREATE that was given up without an answer: it may have been executed, and have opened what we do not know of. */
struct doubt {
	uint64_t parent;
	unsigned int modes;
	size_t len;
	char name[];
};

static void doubt_settle(struct worker *worker, void *arg)
{
	struct fs *fs = worker->fs;
	struct fs_ctx ctx = { .trusted = true };
	struct doubt *doubt = arg;
	struct inode *inode;
	struct attr attr;

	if (fs_lookup(fs, &ctx, doubt->parent, doubt->name, doubt->len, &attr) == 0) {
		inode = inode_get(fs->inodes, attr.ino);
		if (inode != NULL && S_ISREG(attr.mode))
			tell_disown(inode, doubt->modes);
		inode_put(inode);
		fs_forget(fs, attr.ino, 1);
	}
	free(doubt);
}

static void doubt_raise(struct fs *fs, const Strake__CreateRequest *request)
{
	size_t len = request->name.len;
	struct doubt *doubt = malloc(sizeof(*doubt) + len);

	if (doubt == NULL)
		return;
	doubt->parent = request->parent;
	doubt->modes = request->open_modes;
	doubt->len = len;
	memcpy(doubt->name, request->name.data, len);
	if (worker_spawn(fs_worker(fs), doubt_settle, doubt) < 0)
		free(doubt);
}

static int create_ask(struct fs *fs, struct fs_ctx *ctx, uint16_t opcode, Strake__CreateRequest *request,
		      struct inode **ret_inode, struct attr *ret_attr)
{
	struct call call = { .opcode = opcode, .request = &request->base };
	uint64_t asked_ns = clock_ns();
	int err = worker_mds_call(fs_worker(fs), ctx, &call);

	stat_store_name_changed(fs->stat_store, request->parent, (const char *)request->name.data, request->name.len);
	if (err == 0) {
		err = names_take_entry(fs, ctx, (const Strake__EntryReply *)call.reply, asked_ns, &request->name,
				       ret_inode, ret_attr);
	} else if (!call.answered && opcode == OP_CREATE) {
		absent_doubt(fs->absent, clock_ns());
		doubt_raise(fs, request); /* what has no name goes with our session */
	}
	call_release(&call);
	return err;
}

/* *ret_lost: the MDT had made it, and has forgotten it again. */
static int create(struct fs *fs, struct fs_ctx *ctx, uint16_t opcode, Strake__CreateRequest *request, int flags,
		  struct attr *ret_attr, struct file **ret_file, bool *ret_keep_cache, bool *ret_lost)
{
	unsigned int modes = modes_of(flags);
	Strake__Cred cred = rpc_cred(ctx);
	struct inode *inode = NULL;
	struct file *file = NULL;
	uint64_t mark = tell_mark(fs), asked_ns = clock_ns();
	struct attr attr;
	int err;

	request->cred = &cred;
	request->has_umask = true;
	request->umask = ctx->umask;
	request->has_exclusive = request->exclusive = (flags & O_EXCL) != 0;
	request->has_open_modes = true;
	request->open_modes = modes;
	request->has_append = request->append = (flags & O_APPEND) != 0;
	*ret_lost = false;
	err = create_ask(fs, ctx, opcode, request, &inode, &attr);
	if (err < 0)
		return err;

	handle_count(inode, modes);
	err = tell_created(inode, ctx, modes, mark, &attr);
	*ret_lost = err == -ESTALE;
	/* It may have been there before. */
	if (err == 0)
		err = inode_settle_size(inode, ctx, asked_ns, &attr);
	if (err == 0 && (flags & O_TRUNC) != 0 && attr.size > 0)
		err = truncate_all(inode, ctx, modes, &attr);
	if (err == 0) {
		file = file_new(inode, flags);
		err = file == NULL ? -ENOMEM : 0;
	}
	if (err < 0) {
		handle_uncount(inode, modes);
		inode_put(inode);
		return err;
	}
	inode_lookup_add(inode);
	*ret_keep_cache = keep_pages(inode, &attr);
	*ret_attr = attr;
	*ret_file = file;
	return 0;
}

int fs_create(struct fs *fs, struct fs_ctx *ctx, uint64_t parent, const char *name, size_t len, mode_t mode, int flags,
	      struct attr *ret_attr, struct file **ret_file, bool *ret_keep_cache)
{
	Strake__CreateRequest request = STRAKE__CREATE_REQUEST__INIT;
	bool lost;

	request.parent = parent;
	request.name = rpc_bytes(name, len);
	request.mode = S_IFREG | (mode & ~(mode_t)S_IFMT);
	return create(fs, ctx, OP_CREATE, &request, flags, ret_attr, ret_file, ret_keep_cache, &lost);
}

int fs_tmpfile(struct fs *fs, struct fs_ctx *ctx, uint64_t parent, mode_t mode, int flags, struct attr *ret_attr,
	       struct file **ret_file, bool *ret_keep_cache)
{
	Strake__CreateRequest request = STRAKE__CREATE_REQUEST__INIT;
	bool lost;
	int err;

	request.parent = parent;
	request.name = rpc_bytes("", 0);
	request.mode = S_IFREG | (mode & ~(mode_t)S_IFMT);
	/*
	 * Where the MDT was killed before its answer was here, RECLAIM did not tell of the file, so nobody had it open
	 * and it went. Nobody has seen it: another one is as good.
	 */
	do
		err = create(fs, ctx, OP_TMPFILE, &request, flags, ret_attr, ret_file, ret_keep_cache, &lost);
	while (lost);
	return err;
}

bool fs_file_appends(const struct file *file)
{
	return (file->flags & O_APPEND) != 0;
}

uint64_t file_ino(const struct file *file)
{
	return file->inode->ino;
}

unsigned int file_flags(const struct file *file)
{
	unsigned int flags;

	pthread_mutex_lock(&file->inode->lock);
	flags = file->inode->attr.flags;
	pthread_mutex_unlock(&file->inode->lock);
	return flags;
}

bool file_is_lost(const struct file *file)
{
	return atomic_load(&file->lost);
}

bool file_is_privileged(const struct file *file)
{
	bool privileged;

	pthread_mutex_lock(&file->inode->lock);
	privileged = (file->inode->attr.mode & (S_ISUID | S_ISGID)) != 0;
	pthread_mutex_unlock(&file->inode->lock);
	return privileged;
}

void fs_release(struct file *file)
{
	struct inode *inode;

	if (file == NULL)
		return;
	pthread_mutex_lock(&file->fs->files_lock);
	if (file->next != NULL)
		file->next->prev = file->prev;
	if (file->prev != NULL)
		file->prev->next = file->next;
	else
		file->fs->files = file->next;
	pthread_mutex_unlock(&file->fs->files_lock);
	inode = file->inode;
	locks_close_handle(file);
	ahead_free(inode, file->ahead);
	handle_uncount(inode, modes_of(file->flags));
	free(file);
	inode_put(inode);
}
