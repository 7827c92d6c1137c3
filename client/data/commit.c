/*
 * From "the OST has it" to "the OST has it on stable storage". Answered writes are kept until a COMMIT made after them
 * is answered by the same instance of the OST; when the instance is another one, it may have lost them: they become
 * dirty again, under anything newer.
 */
#include "client/data/internal.h"

#include <errno.h>
#include <stdlib.h>

static uint64_t data_drop(struct extent_set *set, struct extent *extent)
{
	uint64_t length = extent->length;

	extents_remove(set, extent);
	extent_free(extent);
	return length;
}

/* An answered extent becomes dirty again, under what is newer: dirty and in flight. */
static void data_make_dirty(struct inode_data *data, struct extent *extent)
{
	struct extent_set only = { 0 };
	uint64_t before = data->dirty.bytes, had = extent->length;
	bool failed = false;

	data->resends++;
	extents_remove(&data->uncommitted, extent);
	extent->first_stamp = 0; /* due at once */
	if (extent->doubtful) {
		/* Sending it could bring back what was cut away: better an error than that. */
		extent_free(extent);
		data_note_error(data, -EIO);
	} else if (extents_insert(&only, extent) < 0) {
		extent_free(extent);
		failed = true;
	}
	for (size_t i = 0; i < data->flight.count && !failed; i++) {
		struct extent *newer = data->flight.items[i];

		extents_cut(&only, newer->offset, extent_end(newer), false, &failed);
	}
	if (failed)
		extents_clear(&only); /* part of it may be older than what is in flight */
	if (!data_put_under(data, &only) || failed)
		data_note_error(data, -ENOMEM);
	atomic_fetch_sub(&data->data_fs->held, had - (data->dirty.bytes - before));
	if (data->oldest_dirty_ns == 0)
		data->oldest_dirty_ns = clock_ns();
}

void data_resend(struct inode_data *data, uint32_t ost, uint64_t instance)
{
	for (size_t i = 0; i < data->uncommitted.count;) {
		struct extent *extent = data->uncommitted.items[i];

		if (extent->ost == ost && extent->instance != instance)
			data_make_dirty(data, extent);
		else
			i++;
	}
}

/* The OST answered a COMMIT that was sent when `answered` was the stamp. inode->lock is held. */
static void data_committed(struct inode_data *data, uint32_t ost, uint64_t instance, uint64_t answered)
{
	uint64_t gone = 0;

	data_resend(data, ost, instance);
	for (size_t i = 0; i < data->uncommitted.count;) {
		struct extent *extent = data->uncommitted.items[i];

		if (extent->ost == ost && extent->answered <= answered)
			gone += data_drop(&data->uncommitted, extent);
		else
			i++;
	}
	atomic_fetch_sub(&data->data_fs->held, gone);
	data->oldest_answer_ns = clock_ns();
	fiber_wake_all(&data->inode->changed);
}

/* COMMIT of one (ino, gen), or with ino 0 of the whole OST. */
static int commit_call(struct worker *worker, struct fs_ctx *ctx, uint32_t ost, uint64_t ino, uint64_t gen,
		       uint64_t *ret_instance)
{
	Strake__CommitRequest request = STRAKE__COMMIT_REQUEST__INIT;
	struct call call = { .opcode = OP_COMMIT, .request = &request.base };
	int err;

	request.ino = ino;
	request.gen = gen;
	err = worker_ost_call(worker, ctx, ost, &call);
	if (err == 0)
		*ret_instance = ((const Strake__CommitReply *)call.reply)->instance;
	call_release(&call);
	return err;
}

/* Each once. The list is malloc'ed. */
static int add_ost(uint32_t ost, uint32_t **osts, unsigned int *count)
{
	uint32_t *more;

	for (unsigned int i = 0; i < *count; i++)
		if ((*osts)[i] == ost)
			return 0;
	more = realloc(*osts, (*count + 1) * sizeof(**osts));
	if (more == NULL)
		return -ENOMEM;
	*osts = more;
	more[(*count)++] = ost;
	return 0;
}

/* Which OSTs have something uncommitted. inode->lock is held. */
static int data_uncommitted_osts(const struct inode_data *data, uint32_t **osts, unsigned int *count)
{
	int err = 0;

	for (size_t i = 0; i < data->uncommitted.count && err == 0; i++)
		err = add_ost(data->uncommitted.items[i]->ost, osts, count);
	return err;
}

/*
 * Which OSTs may have what others wrote and did not live to commit. None, if we have been there since the content last
 * changed. inode->lock is held.
 */
static int data_others_osts(const struct inode *inode, uint32_t **osts, unsigned int *count)
{
	const struct layout *layout = inode->attr.layout;
	uint64_t objects;
	int err = 0;

	if (layout->ost_count == 0 ||
	    (inode->attr.data_version != 0 && inode->data->committed_version == inode->attr.data_version))
		return 0;
	objects = (data_size(inode) + layout->stripe_size - 1) / layout->stripe_size;
	for (uint32_t i = 0; i < layout->ost_count && (i < objects || inode->attr.size_unsure) && err == 0; i++)
		err = add_ost(layout->ost_indices[i], osts, count);
	return err;
}

struct commit {
	struct inode *inode;
	struct fs_ctx *ctx;
	uint64_t gen, answered;
	uint32_t *osts;
};

static int commit_one(struct worker *worker, void *arg, unsigned int i)
{
	struct commit *commit = arg;
	uint64_t instance = 0;
	int err = commit_call(worker, commit->ctx, commit->osts[i], commit->inode->ino, commit->gen, &instance);

	pthread_mutex_lock(&commit->inode->lock);
	if (err == 0)
		data_committed(commit->inode->data, commit->osts[i], instance, commit->answered);
	else if (err == -ESTALE && commit->inode->attr.gen != commit->gen)
		err = 0; /* replaced meanwhile: there is nothing left to keep */
	pthread_mutex_unlock(&commit->inode->lock);
	return err;
}

int data_commit(struct inode *inode, struct fs_ctx *ctx, bool others)
{
	struct commit commit = { .inode = inode, .ctx = ctx };
	struct inode_data *data;
	bool again = true;
	int err = 0;

	pthread_mutex_lock(&inode->lock);
	data = others ? data_get(inode) : inode->data;
	pthread_mutex_unlock(&inode->lock);
	if (data == NULL)
		return others ? -ENOMEM : 0;
	while (err == 0 && again) {
		unsigned int count = 0;
		uint64_t resends, version;

		commit.osts = NULL;
		pthread_mutex_lock(&inode->lock);
		/* What an instance had lost is dirty again, or under way once more. */
		err = data_write_out_range(inode, ctx, 0, UINT64_MAX);
		resends = data->resends;
		version = inode->attr.data_version;
		commit.gen = inode->attr.gen;
		commit.answered = atomic_load(&data->data_fs->answered);
		if (err == 0)
			err = data_uncommitted_osts(data, &commit.osts, &count);
		if (err == 0 && others)
			err = data_others_osts(inode, &commit.osts, &count);
		pthread_mutex_unlock(&inode->lock);
		if (err == 0)
			err = worker_parallel(fs_worker(inode->fs), count, commit_one, &commit);
		free(commit.osts);

		pthread_mutex_lock(&inode->lock);
		if (err == 0 && others)
			data->committed_version = version;
		again = data->resends != resends;
		pthread_mutex_unlock(&inode->lock);
	}
	data_account(data);
	return err;
}

struct commit_all {
	struct fs_ctx *ctx;
	struct inode **inodes;
	size_t inode_count;
	uint64_t answered;
	uint32_t *osts;
};

static int commit_all_one(struct worker *worker, void *arg, unsigned int i)
{
	struct commit_all *all = arg;
	uint64_t instance = 0;
	int err = commit_call(worker, all->ctx, all->osts[i], 0, 0, &instance);

	for (size_t j = 0; j < all->inode_count && err == 0; j++) {
		pthread_mutex_lock(&all->inodes[j]->lock);
		data_committed(all->inodes[j]->data, all->osts[i], instance, all->answered);
		pthread_mutex_unlock(&all->inodes[j]->lock);
	}
	return err;
}

int data_commit_all(struct data_fs *data_fs, struct fs_ctx *ctx, struct inode **inodes, size_t count)
{
	struct commit_all all = { .ctx = ctx, .inodes = inodes, .inode_count = count };
	unsigned int ost_count = 0;
	int err = 0;

	all.answered = atomic_load(&data_fs->answered);
	for (size_t i = 0; i < count && err == 0; i++) {
		pthread_mutex_lock(&inodes[i]->lock);
		err = data_uncommitted_osts(inodes[i]->data, &all.osts, &ost_count);
		pthread_mutex_unlock(&inodes[i]->lock);
	}
	if (err == 0)
		err = worker_parallel(data_fs->worker, ost_count, commit_all_one, &all);
	free(all.osts);
	return err;
}

/* A COMMIT of one whole OST, in the background. */
struct ost_commit {
	struct ost_commit *next; /* of data_fs->commits */
	struct data_fs *data_fs;
	uint32_t ost;
};

static bool ost_commit_runs(const struct data_fs *data_fs, uint32_t ost)
{
	const struct ost_commit *commit = data_fs->commits;

	while (commit != NULL && commit->ost != ost)
		commit = commit->next;
	return commit != NULL;
}

/* Errors are the business of whoever asks for an fsync: the bytes are still kept. */
static void ost_commit_run(struct worker *worker, void *arg)
{
	struct ost_commit *commit = arg, **link = &commit->data_fs->commits;
	struct fs_ctx ctx = { .trusted = true };
	struct commit_all all = { .ctx = &ctx, .osts = &commit->ost };

	all.inodes = data_fs_inodes(commit->data_fs, &all.inode_count);
	all.answered = atomic_load(&commit->data_fs->answered);
	(void)commit_all_one(worker, &all, 0);
	for (size_t i = 0; i < all.inode_count; i++) {
		data_account(all.inodes[i]->data);
		inode_put(all.inodes[i]);
	}
	free(all.inodes);
	while (*link != commit)
		link = &(*link)->next;
	*link = commit->next;
	free(commit);
}

static void ost_commit_start(struct data_fs *data_fs, uint32_t ost)
{
	struct ost_commit *commit = malloc(sizeof(*commit));

	if (commit == NULL)
		return; /* the next round will try */
	*commit = (struct ost_commit){ .next = data_fs->commits, .data_fs = data_fs, .ost = ost };
	if (worker_spawn(data_fs->worker, ost_commit_run, commit) < 0)
		free(commit);
	else
		data_fs->commits = commit;
}

void data_commit_start(struct data_fs *data_fs, struct inode **inodes, size_t count)
{
	unsigned int ost_count = 0;
	uint32_t *osts = NULL;
	int err = 0;

	for (size_t i = 0; i < count && err == 0; i++) {
		pthread_mutex_lock(&inodes[i]->lock);
		err = data_uncommitted_osts(inodes[i]->data, &osts, &ost_count);
		pthread_mutex_unlock(&inodes[i]->lock);
	}
	for (unsigned int i = 0; i < ost_count; i++)
		if (!ost_commit_runs(data_fs, osts[i]))
			ost_commit_start(data_fs, osts[i]);
	free(osts);
}
