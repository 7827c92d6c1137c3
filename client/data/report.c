/* The MDT is told of what was written: size, blocks, times. And the calls that promise it: flush and fsync. */
#include "client/atime.h"
#include "client/attr.h"
#include "client/ctx_wait.h"
#include "client/data/internal.h"
#include "client/session.h"

#include <errno.h>

#define STALE_FIRST_MS 2 /* pauses after the second ESTALE: */
#define STALE_MAX_MS   100

uint64_t data_size(const struct inode *inode)
{
	uint64_t own = inode->data == NULL ? 0 : inode->data->own_end;

	return own > inode->attr.size ? own : inode->attr.size;
}

bool data_unreported(const struct inode *inode)
{
	return inode->data != NULL && inode->data->report;
}

void data_recount(struct inode_data *data)
{
	if (data->dirty.count == 0 && !data->report)
		data->oldest_dirty_ns = clock_ns();
	data->recounts++;
	data->report = true;
}

void data_touch(struct inode_data *data, const struct fs_ctx *ctx)
{
	if (data->dirty.count == 0 && !data->report)
		data->oldest_dirty_ns = clock_ns();
	data->stamp++;
	data->version++;
	data->last_write_ns = clock_ns();
	data->report = data->wrote = true;
	data->times_set = false;
	data->kill_suid |= ctx->kill_suid;
	data->kill_sgid |= ctx->kill_sgid;
}

int data_take_own_change(struct inode *inode, uint64_t asked_ns, const Strake__AttrReply *reply)
{
	struct attr attr;
	int err = attr_from_wire(reply->attr, &attr);

	if (err == 0) {
		pthread_mutex_lock(&inode->lock);
		inode_note_own_change(inode, reply->data_version_before, &attr, asked_ns);
		pthread_mutex_unlock(&inode->lock);
	}
	return err;
}

/* Whoever truncates again and again, or an MDT that has lost what we know, must not use up all tries at once. */
int data_stale_pause(struct inode *inode, struct fs_ctx *ctx, unsigned int tries)
{
	unsigned int ms = tries > 6 ? STALE_MAX_MS : (unsigned int)STALE_FIRST_MS << tries;

	return tries == 0 ? 0 : ctx_wait_ms(fs_worker(inode->fs), ctx, ms < STALE_MAX_MS ? ms : STALE_MAX_MS);
}

/* A report on its way: what is told, and how things were when that was written down. */
struct report {
	Strake__SizeRequest request;
	struct attr asked;
	uint64_t stamp, recounts;
	bool all_sent;      /* it tells of all that was written */
	bool told, certain; /* the MDT has it; it has it or has it not */
};

/* Who has started a report and waits for it. */
struct report_asker {
	bool over;
	int err;
};

/*
 * How many blocks more. An OST's answer counts also what it does for WRITEs that it has not answered; that is told with their
 * end, since the MDT takes no more blocks than the file has room for up to its end.
 */
static int64_t report_grown(const struct inode_data *data)
{
	int64_t unanswered = (int64_t)(data->flight.bytes + data->flight.count * 2 * 4096) / 512;

	if (data->flight.count == 0 || data->grown <= 0)
		return data->grown;
	return data->grown > unanswered ? data->grown - unanswered : 0;
}

/* What has grown counts as told from here on. inode->lock is held. */
static void report_fill(struct inode_data *data, struct report *report)
{
	const struct attr *attr = &data->inode->attr;
	Strake__SizeRequest *request = &report->request;

	*report = (struct report){
		.asked = *attr,
		.stamp = data->stamp,
		.recounts = data->recounts,
		.all_sent = data->dirty.count + data->flight.count == 0,
	};
	strake__size_request__init(request);
	request->ino = attr->ino;
	request->gen = attr->gen;
	request->cut = attr->cut;
	request->end = data->sent_end;
	request->blocks = attr->blocks;
	request->has_grown = true;
	request->grown = report_grown(data);
	data->grown -= request->grown;
	request->age_ns = data->times_set ? UINT64_MAX : clock_ns() - data->last_write_ns;
	request->has_wrote = request->wrote = data->wrote;
	request->has_kill_suid = request->kill_suid = data->kill_suid;
	request->has_kill_sgid = request->kill_sgid = data->kill_sgid;
}

/* What all OSTs tell of its blocks. What goes wrong with that is no reason to report nothing. */
static int report_count(struct inode *inode, struct fs_ctx *ctx, struct report *report)
{
	Strake__SizeRequest *request = &report->request;
	const struct attr *asked = &report->asked;
	uint64_t end, blocks;
	int err = inode_glimpse(inode, ctx, asked, &end, &blocks);

	if (err == 0) {
		request->has_exact = request->exact = request->has_asked_data_version = true;
		request->blocks = blocks;
		request->asked_data_version = asked->unfenced ? 0 : asked->data_version;
		if (!request->wrote && request->end < end)
			request->end = end; /* it ends whatever doubt there is of the size */
	}
	return err == -ESTALE || err == -ECANCELED ? err : 0;
}

static int report_tell(struct inode *inode, struct fs_ctx *ctx, struct report *report, bool stable)
{
	struct call call = { .opcode = OP_SIZE, .request = &report->request.base, .flags = stable ? FRAME_SYNC : 0 };
	uint64_t asked_ns = clock_ns();
	int err = report->recounts > 0 ? report_count(inode, ctx, report) : 0;

	report->certain = true;
	if (err < 0)
		return err;
	if (!report->request.wrote && !report->request.exact) {
		report->told = true; /* only blocks were to be told, and nobody could be asked */
		return 0;
	}
	inode_change_begins(inode);
	err = worker_mds_call(fs_worker(inode->fs), ctx, &call);
	report->certain = call.answered;
	if (err == 0)
		err = data_take_own_change(inode, asked_ns, (const Strake__AttrReply *)call.reply);
	inode_change_ends(inode);
	call_release(&call);
	report->told = err == 0;
	return err;
}

/* It was of another gen or cut than the file's. */
static int report_learn(struct inode *inode, struct fs_ctx *ctx, unsigned int tries)
{
	struct attr attr;
	int err = tries < DATA_STALE_RETRIES ? data_stale_pause(inode, ctx, tries) : -ESTALE;

	return err < 0 ? err : inode_fetch_attr(inode, ctx, true, &attr);
}

/* What is left to be told. inode->lock is held. */
static void report_done(struct inode_data *data, const struct report *report, int err)
{
	const Strake__SizeRequest *request = &report->request;

	if (!report->certain && request->grown != 0 && !request->exact)
		data_recount(data); /* the MDT may have added what has grown, and would once more */
	if (report->told && data->recounts == report->recounts)
		data->recounts = 0;
	if (!report->told && data->inode->attr.gen == report->asked.gen)
		data->grown += request->grown;
	if (report->told && report->all_sent && data->stamp == report->stamp) {
		data->report = data->recounts > 0;
		data->wrote = false;
		data->kill_suid = data->kill_sgid = false;
	}
	if (err < 0 && err != -ECANCELED) {
		data->report = false;
		data_note_error(data, err);
	}
}

/*
 * One report: newer writes, and what is not on the OSTs yet, are the next one's business. Nobody's signal cuts it short: the
 * MDT may have it, and the content is then of a version that would pass for another's. inode->lock is held; let go meanwhile.
 */
static void report_run(struct inode_data *data)
{
	struct fs_ctx ctx = { .trusted = true };
	struct inode *inode = data->inode;
	struct report report = { .told = false };
	unsigned int tries = 0;
	int err = 0;

	while (data->report && err == 0 && !report.told) {
		report_fill(data, &report);
		pthread_mutex_unlock(&inode->lock);
		err = report_tell(inode, &ctx, &report, data->report_stable);
		if (err == -ESTALE)
			err = report_learn(inode, &ctx, tries++);
		pthread_mutex_lock(&inode->lock);
		report_done(data, &report, err);
	}
	data->reporting = false;
	if (data->report_asker != NULL)
		*data->report_asker = (struct report_asker){ .over = true, .err = err };
	data->report_asker = NULL;
	fiber_wake_all(&inode->changed);
}

static void reporter(struct worker *worker, void *arg)
{
	struct inode *inode = arg;

	(void)worker;
	pthread_mutex_lock(&inode->lock);
	report_run(inode->data);
	pthread_mutex_unlock(&inode->lock);
	data_account(inode->data);
	inode_put(inode);
}

/* Without memory for a fiber we report on our own. inode->lock is held; let go meanwhile. */
static void report_start(struct inode_data *data, struct report_asker *asker, bool stable)
{
	struct inode *inode = data->inode;

	data->reporting = true;
	data->report_stable = stable;
	data->report_asker = asker;
	if (worker_spawn(fs_worker(inode->fs), reporter, inode_ref(inode)) < 0) {
		inode_put(inode); /* not the last: the caller has one */
		report_run(data);
	}
}

int data_report_size(struct inode *inode, struct fs_ctx *ctx, bool stable)
{
	struct report_asker asker = { .over = false };
	struct inode_data *data = inode->data;
	int err = 0;

	if (data == NULL)
		return 0;
	pthread_mutex_lock(&inode->lock);
	while (err == 0 && data->report && data->reporting)
		err = data_wait(inode, ctx);
	if (err == 0 && data->report) {
		report_start(data, &asker, stable);
		while (err == 0 && !asker.over)
			err = data_wait(inode, ctx);
		if (!asker.over)
			data->report_asker = NULL; /* it goes on without us */
		else
			err = asker.err;
	}
	pthread_mutex_unlock(&inode->lock);
	data_account(data);
	return err;
}

bool data_takes_privileges(struct inode *inode)
{
	bool takes;

	pthread_mutex_lock(&inode->lock);
	takes = data_unreported(inode) && (inode->data->kill_suid || inode->data->kill_sgid);
	pthread_mutex_unlock(&inode->lock);
	return takes;
}

int data_times_begin(struct inode *inode, struct fs_ctx *ctx, bool *ret_begun)
{
	struct inode_data *data;
	int err = 0;

	*ret_begun = false;
	pthread_mutex_lock(&inode->lock);
	data = inode->data;
	/* A report that is under way may come after the time is set. */
	while (err == 0 && data_unreported(inode) && data->reporting)
		err = data_wait(inode, ctx);
	if (err == 0 && data_unreported(inode)) {
		data->times_were_set = data->times_set;
		data->times_stamp = data->stamp;
		*ret_begun = data->times_set = data->reporting = true;
		data->push_stamp = data->stamp;
		data_kick(data);
	}
	pthread_mutex_unlock(&inode->lock);
	return err;
}

void data_times_end(struct inode *inode, bool set)
{
	struct inode_data *data = inode->data;

	pthread_mutex_lock(&inode->lock);
	data->reporting = false;
	if (!set)
		data->times_set = data->times_were_set && data->times_stamp == data->stamp;
	fiber_wake_all(&inode->changed);
	pthread_mutex_unlock(&inode->lock);
}

/* An error since the handle last looked, once. */
static int file_take_error(struct file *file)
{
	struct inode *inode = file->inode;
	int err = 0;

	pthread_mutex_lock(&inode->lock);
	if (inode->data != NULL && inode->data->error_count != file->error_mark) {
		file->error_mark = inode->data->error_count;
		err = inode->data->error;
	}
	pthread_mutex_unlock(&inode->lock);
	return err;
}

int fs_flush(struct file *file, struct fs_ctx *ctx)
{
	int err = data_write_out(file->inode, ctx), late;

	if (err == 0)
		err = data_report_size(file->inode, ctx, false);
	late = atomic_load(&file->lost) ? -EIO : file_take_error(file);
	return late < 0 ? late : err;
}

/* Has anything made us doubt what we know of it: another MDT, or a log that lost its end? */
static bool is_doubted(struct inode *inode)
{
	bool doubted;

	pthread_mutex_lock(&inode->lock);
	doubted = inode->doubted || inode->attr.version == 0;
	pthread_mutex_unlock(&inode->lock);
	return doubted;
}

/* A directory that we know to be removed: it is nothing to the MDT. */
static bool is_removed_dir(struct inode *inode)
{
	bool removed;

	pthread_mutex_lock(&inode->lock);
	removed = inode->attr_valid && S_ISDIR(inode->attr.mode) && inode->attr.nlink == 0;
	pthread_mutex_unlock(&inode->lock);
	return removed;
}

/* All that the MDT has answered; -ESTALE: it has lost the inode. */
static int log_sync(struct inode *inode, struct fs_ctx *ctx)
{
	Strake__SyncRequest request = STRAKE__SYNC_REQUEST__INIT;
	struct call call = { .opcode = OP_SYNC, .request = &request.base };
	int err;

	/* The log is one, and a SIZE just now may have seen to that. But it may have lost the inode before. */
	if (fs_session_log_is_durable(inode->fs->session) && !is_doubted(inode))
		return 0;
	request.has_ino = !is_removed_dir(inode);
	request.ino = inode->ino;
	err = worker_mds_call(fs_worker(inode->fs), ctx, &call);
	call_release(&call);
	/* What others have removed is not lost. */
	return err == -ESTALE && !is_doubted(inode) && inode_is_remembered(inode, NULL) ? 0 : err;
}

/* Times of access that wait to be told, and the log. */
static int sync_ino(struct inode *inode, struct fs_ctx *ctx)
{
	bool waits;

	pthread_mutex_lock(&inode->lock);
	waits = inode->atime_waits;
	pthread_mutex_unlock(&inode->lock);
	if (waits)
		atimes_tell(inode->fs->atimes, ctx, 0);
	return log_sync(inode, ctx);
}

int fs_fsync(struct file *file, struct fs_ctx *ctx, bool data_only)
{
	struct inode *inode = file->inode;
	int err = data_write_out(inode, ctx), late;

	if (err == 0)
		err = data_commit(inode, ctx, true);
	if (err == 0)
		err = data_report_size(inode, ctx, true);
	/* The size is part of the data, and times travel with it, but for that of access. */
	if (err == 0)
		err = data_only ? log_sync(inode, ctx) : sync_ino(inode, ctx);
	late = atomic_load(&file->lost) ? -EIO : file_take_error(file);
	return late < 0 ? late : err;
}

int fs_fsync_ino(struct fs *fs, struct fs_ctx *ctx, uint64_t ino)
{
	struct inode *inode = inode_find(fs->inodes, ino);
	int err;

	if (inode == NULL)
		return -ESTALE; /* nobody has it open */
	err = sync_ino(inode, ctx);
	inode_put(inode);
	return err;
}
