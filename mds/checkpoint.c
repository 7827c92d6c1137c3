#include "mds/checkpoint.h"

#include "common/container_of.h"
#include "common/lmdb_file.h"
#include "common/logger.h"

#include <assert.h>
#include <errno.h>
#include <lmdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define NSEC(ms)        ((uint64_t)(ms)*NSEC_PER_MSEC)
#define RETRY_MS        1000
#define REPORT_MS       60000
#define BYTES_PER_DELAY ((size_t)1024 * 1024) /* above CHECKPOINT_SLOW_BYTES, for each millisecond */

#define checkpoint_of(pointer, member) container_of(pointer, struct checkpoint, member)

enum state {
	IDLE,
	WRITING,   /* a table is frozen, and the thread has it */
	RETRYING,  /* a table is frozen, and the timer will give it to the thread again */
	THAWED,    /* a retired table may still be lent from in this iteration of the loop */
	RELEASING, /* the thread frees it */
};

struct checkpoint {
	struct loop *loop;
	struct view *view;
	struct mdt_log *log;
	struct checkpoint_owner owner;
	pthread_t thread;

	/* The loop's. */
	enum state state;
	uint64_t index;          /* of the frozen table */
	uint64_t behind;         /* the last record that was appended when it began */
	bool space_low;          /* the last write found no room */
	uint64_t report_at_ns;   /* when to say so again */
	size_t spared;           /* bytes in the active table as of that, worth no checkpoint */
	struct loop_timer age;   /* set while the active table has something and nothing runs */
	struct loop_timer later; /* RETRYING, THAWED */
	struct loop_watch watch; /* an eventfd: the thread has finished */

	pthread_mutex_t mutex;
	pthread_cond_t changed;
	enum job { JOB_NONE, JOB_WRITE, JOB_RELEASE, JOB_STOP } job; /* taken by the thread when it is finished */
	int result;
};

/* --- the thread ----------------------------------------------------------------------------------------------------- */

static int job_do(struct checkpoint *checkpoint, enum job job)
{
	if (job == JOB_RELEASE) {
		view_release(checkpoint->view);
		return 0;
	}
	/* The state must not know of a record that the log could still lose, nor outlive what lies behind it. */
	mdt_log_wait(checkpoint->log, checkpoint->behind);
	return view_write_frozen(checkpoint->view);
}

static void *thread_main(void *arg)
{
	struct checkpoint *checkpoint = arg;
	uint64_t one = 1;
	enum job job;
	ssize_t n;
	int result;

	pthread_mutex_lock(&checkpoint->mutex);
	while (checkpoint->job != JOB_STOP) {
		if (checkpoint->job == JOB_NONE) {
			pthread_cond_wait(&checkpoint->changed, &checkpoint->mutex);
			continue;
		}
		job = checkpoint->job;
		pthread_mutex_unlock(&checkpoint->mutex);
		result = job_do(checkpoint, job);
		pthread_mutex_lock(&checkpoint->mutex);
		checkpoint->result = result;
		checkpoint->job = JOB_NONE;
		pthread_cond_broadcast(&checkpoint->changed);
		n = write(checkpoint->watch.fd, &one, sizeof(one));
		assert(n == sizeof(one)); /* it would take 2^64 of them to fill it */
	}
	pthread_mutex_unlock(&checkpoint->mutex);
	return NULL;
}

static void job_give(struct checkpoint *checkpoint, enum job job)
{
	pthread_mutex_lock(&checkpoint->mutex);
	assert(checkpoint->job == JOB_NONE);
	checkpoint->job = job;
	pthread_cond_broadcast(&checkpoint->changed);
	pthread_mutex_unlock(&checkpoint->mutex);
}

static void job_wait(struct checkpoint *checkpoint)
{
	pthread_mutex_lock(&checkpoint->mutex);
	while (checkpoint->job != JOB_NONE)
		pthread_cond_wait(&checkpoint->changed, &checkpoint->mutex);
	pthread_mutex_unlock(&checkpoint->mutex);
}

/* Has the thread finished what it was given? */
static bool job_is_done(struct checkpoint *checkpoint)
{
	bool done;

	pthread_mutex_lock(&checkpoint->mutex);
	done = checkpoint->job == JOB_NONE;
	pthread_mutex_unlock(&checkpoint->mutex);
	return done;
}

/* --- the steps, on the loop ----------------------------------------------------------------------------------------- */

static void begin(struct checkpoint *checkpoint)
{
	assert(checkpoint->state == IDLE);
	loop_timer_cancel(&checkpoint->age);
	checkpoint->state = WRITING;
	checkpoint->index = mdt_log_last(checkpoint->log);
	view_freeze(checkpoint->view, checkpoint->index);
	if (checkpoint->owner.begun)
		checkpoint->owner.begun(checkpoint->owner.owner);
	checkpoint->spared = view_active_bytes(checkpoint->view);
	checkpoint->behind = mdt_log_last(checkpoint->log);
	mdt_log_write(checkpoint->log);
	mdt_log_sync(checkpoint->log, checkpoint->behind);
	job_give(checkpoint, JOB_WRITE);
}

static void report_full(struct checkpoint *checkpoint)
{
	uint64_t now = clock_ns();

	if (now < checkpoint->report_at_ns)
		return;
	log_error("the MDT's state cannot be stored: %s",
		  checkpoint->result == -ENOMEM ? lmdb_file_error(MDB_MAP_FULL) : "its filesystem is full");
	checkpoint->report_at_ns = now + NSEC(REPORT_MS);
}

static void written(struct checkpoint *checkpoint)
{
	assert(checkpoint->state == WRITING);
	checkpoint->space_low = checkpoint->result < 0;
	if (checkpoint->result < 0) {
		report_full(checkpoint);
		checkpoint->state = RETRYING;
		loop_timer_set(checkpoint->loop, &checkpoint->later, clock_ns() + NSEC(RETRY_MS));
		return;
	}
	view_thaw(checkpoint->view);
	mdt_log_trim(checkpoint->log, checkpoint->index);
	checkpoint->state = THAWED;
	/* What the loop has read as now does not change within an iteration: this is in a later one. */
	loop_timer_set(checkpoint->loop, &checkpoint->later, loop_now_ns(checkpoint->loop) + 1);
}

static void retry(struct checkpoint *checkpoint)
{
	assert(checkpoint->state == RETRYING);
	checkpoint->state = WRITING;
	job_give(checkpoint, JOB_WRITE);
}

static void release(struct checkpoint *checkpoint)
{
	assert(checkpoint->state == THAWED);
	checkpoint->state = RELEASING;
	job_give(checkpoint, JOB_RELEASE);
}

static void released(struct checkpoint *checkpoint)
{
	assert(checkpoint->state == RELEASING);
	checkpoint->state = IDLE;
}

/* Has anything changed but what is spared? */
static bool is_worth_one(const struct checkpoint *checkpoint)
{
	size_t bytes = view_active_bytes(checkpoint->view);

	return bytes > checkpoint->spared || (bytes > 0 && mdt_log_last(checkpoint->log) != checkpoint->behind);
}

static void age_expired(struct loop_timer *timer)
{
	struct checkpoint *checkpoint = checkpoint_of(timer, age);

	if (checkpoint->state == IDLE && is_worth_one(checkpoint))
		begin(checkpoint);
}

static void later_expired(struct loop_timer *timer)
{
	struct checkpoint *checkpoint = checkpoint_of(timer, later);

	if (checkpoint->state == RETRYING)
		retry(checkpoint);
	else if (checkpoint->state == THAWED)
		release(checkpoint);
}

/* After checkpoint_run() this may come for what has been dealt with. */
static void watch_ready(struct loop_watch *watch, uint32_t events)
{
	struct checkpoint *checkpoint = checkpoint_of(watch, watch);

	(void)events;
	if (!job_is_done(checkpoint))
		return;
	if (checkpoint->state == WRITING) {
		written(checkpoint);
	} else if (checkpoint->state == RELEASING) {
		released(checkpoint);
		checkpoint_consider(checkpoint);
	}
}

/* Would one make room, where the log finds none? */
static bool makes_room(struct checkpoint *checkpoint)
{
	struct mdt_log_stats stats;

	if (!mdt_log_space_low(checkpoint->log))
		return false;
	mdt_log_stats(checkpoint->log, &stats);
	return stats.segments > 1;
}

void checkpoint_consider(struct checkpoint *checkpoint)
{
	size_t bytes = view_active_bytes(checkpoint->view);

	if (checkpoint->state != IDLE || !is_worth_one(checkpoint))
		return;
	if (bytes >= CHECKPOINT_BYTES || makes_room(checkpoint))
		begin(checkpoint);
	else if (!checkpoint->age.loop)
		loop_timer_set(checkpoint->loop, &checkpoint->age, clock_ns() + NSEC(CHECKPOINT_AGE_MS));
}

/* Bring the one that runs to its end. -ENOSPC: it goes on trying. */
static int finish(struct checkpoint *checkpoint)
{
	loop_timer_cancel(&checkpoint->later);
	if (checkpoint->state == RETRYING)
		retry(checkpoint);
	if (checkpoint->state == WRITING) {
		job_wait(checkpoint);
		written(checkpoint);
		loop_timer_cancel(&checkpoint->later);
	}
	if (checkpoint->state == RETRYING) {
		loop_timer_set(checkpoint->loop, &checkpoint->later, clock_ns() + NSEC(RETRY_MS));
		return -ENOSPC;
	}
	if (checkpoint->state == THAWED)
		release(checkpoint);
	if (checkpoint->state == RELEASING) {
		job_wait(checkpoint);
		released(checkpoint);
	}
	return 0;
}

void checkpoint_run(struct checkpoint *checkpoint)
{
	mdt_log_write(checkpoint->log);
	if (finish(checkpoint) == 0 && view_active_bytes(checkpoint->view) > 0) {
		begin(checkpoint);
		(void)finish(checkpoint); /* reported; the log has it all */
	}
}

unsigned int checkpoint_delay_ms(const struct checkpoint *checkpoint)
{
	size_t bytes = view_active_bytes(checkpoint->view), delay;

	if (bytes <= CHECKPOINT_SLOW_BYTES)
		return 0;
	delay = 1 + (bytes - CHECKPOINT_SLOW_BYTES) / BYTES_PER_DELAY;
	return delay < CHECKPOINT_DELAY_MAX ? (unsigned int)delay : CHECKPOINT_DELAY_MAX;
}

bool checkpoint_space_low(const struct checkpoint *checkpoint)
{
	return checkpoint->space_low;
}

/* --- life ----------------------------------------------------------------------------------------------------------- */

static void dispose(struct checkpoint *checkpoint)
{
	loop_watch_remove(&checkpoint->watch);
	if (checkpoint->watch.fd >= 0)
		close(checkpoint->watch.fd);
	pthread_cond_destroy(&checkpoint->changed);
	pthread_mutex_destroy(&checkpoint->mutex);
	free(checkpoint);
}

static int start(struct checkpoint *checkpoint)
{
	sigset_t all, before;
	int err;

	checkpoint->watch.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (checkpoint->watch.fd < 0)
		return -errno;
	/* Every write is an event of its own, and nobody needs to read. */
	err = loop_watch_add(checkpoint->loop, &checkpoint->watch, EPOLLIN | EPOLLET);
	if (err < 0)
		return err;
	/* Signals are the main thread's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = -pthread_create(&checkpoint->thread, NULL, thread_main, checkpoint);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return err;
}

int checkpoint_new(struct loop *loop, struct view *view, struct mdt_log *log, const struct checkpoint_owner *owner,
		   struct checkpoint **ret_checkpoint)
{
	struct checkpoint *checkpoint = calloc(1, sizeof(*checkpoint));
	int err;

	if (!checkpoint)
		return -ENOMEM;
	*checkpoint = (struct checkpoint){
		.loop = loop,
		.view = view,
		.log = log,
		.owner = *owner,
		.age = { .expired = age_expired },
		.later = { .expired = later_expired },
		.watch = { .fd = -1, .ready = watch_ready },
	};
	pthread_mutex_init(&checkpoint->mutex, NULL);
	pthread_cond_init(&checkpoint->changed, NULL);
	err = start(checkpoint);
	if (err < 0) {
		dispose(checkpoint);
		return err;
	}
	*ret_checkpoint = checkpoint;
	return 0;
}

struct checkpoint *checkpoint_free(struct checkpoint *checkpoint)
{
	if (!checkpoint)
		return NULL;
	/* The thread may be waiting for records that are still in the buffer. */
	mdt_log_write(checkpoint->log);
	job_wait(checkpoint);
	job_give(checkpoint, JOB_STOP);
	pthread_join(checkpoint->thread, NULL);
	loop_timer_cancel(&checkpoint->age);
	loop_timer_cancel(&checkpoint->later);
	dispose(checkpoint);
	return NULL;
}
