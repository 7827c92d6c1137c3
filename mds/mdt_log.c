/*
 * The loop appends to the current segment and never waits for a disk. The sync thread does the rest: it makes what was
 * written durable, names and prepares segments, removes old ones. They share what stands under the mutex.
 *
 * The life of a segment:
 *     next      made ahead by the thread, synced, all zeros
 *     current   the loop has written its header and appends; the thread's first sync also names it
 *     sealed    the loop went on to the next one; the thread's next sync closes it
 *     gone      the checkpoint has all of it
 * There is one next, made only after the current one has its name; so next.seg is never two files' name.
 */
#include "mds/mdt_log.h"
#include "common/container_of.h"
#include "common/fd_io.h"

#include "common/logger.h"
#include "mds/log_replay.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define NSEC(ms) ((uint64_t)(ms)*NSEC_PER_MSEC)

/* A sync takes time too, and MDT_LOG_SYNC_MS is the promise. */
#define SYNC_START_NS NSEC(MDT_LOG_SYNC_MS * 3 / 4)
/* With nothing appended for that long, note what is synced. */
#define NOTE_NS      NSEC(MDT_LOG_SYNC_MS)
#define RETRY_NS     NSEC(1000)
#define REPORT_NS    NSEC(60 * 1000)
#define BUFFER_FIRST ((size_t)256 * 1024)
/* Of the filesystem, for a segment. */
#define SIZE_PART 32
#define SIZE_MIN  ((size_t)8 * 1024 * 1024)

struct segment {
	struct segment *newer;
	uint64_t first, salt;
	int fd; /* -1: sealed and synced */
	bool named;
};

struct mdt_log {
	struct loop *loop;
	struct loop_watch watch; /* an eventfd: durable has grown */
	void *owner;
	void (*durable_told)(void *owner, uint64_t index);
	struct log_dir dir;
	struct uuid target;
	size_t segment_size;
	bool keep;
	pthread_t thread;

	/* The loop's. */
	uint64_t last;   /* appended */
	uint64_t number; /* of the current segment */
	uint64_t salt;
	int fd;
	size_t offset; /* where the buffer goes */
	uint8_t *buffer;
	size_t buffered, buffer_size;
	struct mdt_log_stats stats; /* but syncs and segments */

	_Atomic uint64_t durable;
	atomic_bool space_low;

	pthread_mutex_t mutex;
	pthread_cond_t work;   /* for the thread */
	pthread_cond_t answer; /* for those who wait for it */
	struct segment *oldest, *newest;
	struct segment *unsynced; /* the first one that has a descriptor; NULL never */
	uint64_t written, wanted; /* indices */
	uint64_t noted;           /* what the current segment's note says, or may */
	uint64_t trim;
	uint64_t sync_at, note_at, make_at, report_at; /* clock_ns(); sync_at: 0 none */
	int next_fd;                                   /* -1: not made yet */
	int next_err;                                  /* of the last attempt */
	bool next_urgent;                              /* the loop waits for an attempt */
	bool stop;
	uint64_t syncs, segments;
};

static _Noreturn void die(const struct mdt_log *log, const char *what, int err)
{
	logger_die("the MDT's log in %s %s: %s", log->dir.path, what, strerror(-err));
}

static void *allocate(size_t size)
{
	void *data = malloc(size);

	if (!data)
		logger_die("out of memory for the MDT's log");
	return data;
}

/* --- the thread ----------------------------------------------------------------------------------------------------- */

/* A segment gets its name once its header is durable. */
static void segment_sync(struct mdt_log *log, struct segment *segment)
{
	int err;

	if (fdatasync(segment->fd) < 0)
		die(log, "cannot be synced", -errno);
	if (segment->named)
		return;
	err = log_dir_name_next(&log->dir, segment->first);
	if (err < 0)
		die(log, "cannot name a segment", err);
}

/* Sync all that was written; the mutex is held, but not meanwhile. */
static void sync_all(struct mdt_log *log)
{
	struct segment *segment = log->unsynced, *current = log->newest;
	uint64_t written = log->written, one = 1;
	ssize_t n;

	log->sync_at = 0;
	pthread_mutex_unlock(&log->mutex);
	for (;; segment = segment->newer) {
		segment_sync(log, segment);
		if (segment == current)
			break;
		close(segment->fd);
		segment->fd = -1;
	}
	pthread_mutex_lock(&log->mutex);

	current->named = true;
	log->unsynced = current;
	log->syncs++;
	log->note_at = clock_ns() + NOTE_NS;
	if (written == atomic_load(&log->durable))
		return;
	atomic_store(&log->durable, written);
	pthread_cond_broadcast(&log->answer);
	n = write(log->watch.fd, &one, sizeof(one));
	assert(n == sizeof(one)); /* it would take 2^64 of them to fill it */
}

/*
 * Appending tells what is synced in each record, but the last ones in none. So when it pauses, this does: else damage to
 * them would pass for a torn tail.
 */
static void note_all(struct mdt_log *log)
{
	struct segment *current = log->newest;
	uint64_t synced = atomic_load(&log->durable);
	uint8_t note[LOG_NOTE_SIZE];
	int err;

	log->noted = synced;
	pthread_mutex_unlock(&log->mutex);
	log_note_encode(current->salt, synced, note);
	err = fd_pwrite_all(current->fd, note, sizeof(note), LOG_NOTE_OFFSET);
	if (err < 0)
		die(log, "cannot be written", err);
	if (fdatasync(current->fd) < 0)
		die(log, "cannot be synced", -errno);
	pthread_mutex_lock(&log->mutex);
}

static void make_next(struct mdt_log *log)
{
	uint64_t now;
	int fd = -1, err;

	pthread_mutex_unlock(&log->mutex);
	err = log_dir_make_next(&log->dir, log->segment_size, &fd);
	now = clock_ns();
	if (err < 0 && now >= log->report_at) {
		log_error("%s: no room for the log's next segment (%zu bytes): %s", log->dir.path, log->segment_size,
			  strerror(-err));
		log->report_at = now + REPORT_NS;
	}
	if (err == 0 && atomic_load(&log->space_low))
		log_info("%s: there is room for the log's next segment again", log->dir.path);
	pthread_mutex_lock(&log->mutex);

	atomic_store(&log->space_low, err < 0);
	log->make_at = now + RETRY_NS;
	log->next_fd = fd;
	log->next_err = err;
	log->next_urgent = false;
	pthread_cond_broadcast(&log->answer);
}

static bool trim_due(const struct mdt_log *log)
{
	return log->oldest != log->unsynced && log->oldest->newer->first <= log->trim + 1;
}

/* Remove the oldest segment. */
static void trim_one(struct mdt_log *log)
{
	struct segment *segment = log->oldest;
	int err;

	log->oldest = segment->newer;
	log->segments--;
	log->make_at = 0; /* there is room now */
	pthread_mutex_unlock(&log->mutex);
	err = log_dir_remove(&log->dir, segment->first);
	/* It is in nobody's way; the next start finds it again. */
	if (err < 0)
		log_warning("%s: the segment of record %" PRIu64 " cannot be removed: %s", log->dir.path,
			    segment->first, strerror(-err));
	free(segment);
	pthread_mutex_lock(&log->mutex);
}

static bool sync_due(const struct mdt_log *log, uint64_t now)
{
	uint64_t durable = atomic_load(&log->durable);

	if (!log->newest->named)
		return true;
	return log->written > durable && (log->wanted > durable || log->stop || (log->sync_at && now >= log->sync_at));
}

/* Is there something to note, now or when the pause has been long enough? */
static bool note_wanted(const struct mdt_log *log)
{
	uint64_t durable = atomic_load(&log->durable);

	return durable != log->noted && log->written == durable && log->newest->first <= durable;
}

static bool note_due(const struct mdt_log *log, uint64_t now)
{
	return note_wanted(log) && (log->stop || now >= log->note_at);
}

static bool make_due(const struct mdt_log *log, uint64_t now)
{
	return log->next_fd < 0 && (log->next_urgent || now >= log->make_at);
}

/* What to do next, in the order of urgency. False: nothing now. */
static bool work_once(struct mdt_log *log, uint64_t now)
{
	if (log->next_urgent && log->newest->named && make_due(log, now))
		make_next(log);
	else if (sync_due(log, now))
		sync_all(log);
	else if (note_due(log, now))
		note_all(log);
	else if (trim_due(log))
		trim_one(log);
	else if (make_due(log, now) && !log->stop)
		make_next(log);
	else
		return false;
	return true;
}

static void earlier(uint64_t *at, bool valid, uint64_t other)
{
	if (valid && other != 0 && (*at == 0 || other < *at))
		*at = other;
}

static void work_wait(struct mdt_log *log)
{
	uint64_t durable = atomic_load(&log->durable), at = 0;
	struct timespec deadline;

	earlier(&at, log->written > durable, log->sync_at);
	earlier(&at, note_wanted(log), log->note_at);
	earlier(&at, log->next_fd < 0, log->make_at);
	if (at == 0) {
		pthread_cond_wait(&log->work, &log->mutex);
		return;
	}
	deadline.tv_sec = (time_t)(at / NSEC_PER_SEC);
	deadline.tv_nsec = (long)(at % NSEC_PER_SEC);
	pthread_cond_timedwait(&log->work, &log->mutex, &deadline);
}

static void *thread_main(void *arg)
{
	struct mdt_log *log = arg;

	pthread_mutex_lock(&log->mutex);
	for (;;) {
		if (work_once(log, clock_ns()))
			continue;
		if (log->stop)
			break;
		work_wait(log);
	}
	pthread_mutex_unlock(&log->mutex);
	return NULL;
}

/* --- segments, on the loop ------------------------------------------------------------------------------------------ */

static void header_write(struct mdt_log *log, int fd, uint64_t first)
{
	struct log_header header = {
		.target = log->target,
		.first = first,
		.number = log->number,
		.salt = log->salt,
		.size = log->segment_size,
		.synced = atomic_load(&log->durable),
	};
	uint8_t data[LOG_HEADER_SIZE];
	int err;

	log_header_encode(&header, data);
	err = fd_pwrite_all(fd, data, sizeof(data), 0);
	if (err < 0)
		die(log, "cannot be written", err);
}

static uint64_t draw_salt(void)
{
	uint64_t salt;

	while (getrandom(&salt, sizeof(salt), 0) != sizeof(salt))
		assert(errno == EINTR);
	return salt;
}

/* A segment at the end of the list. The mutex is held, or there is no thread yet. */
static void segment_add(struct mdt_log *log, uint64_t first, int fd, bool named)
{
	struct segment *segment = allocate(sizeof(*segment));

	*segment = (struct segment){ .first = first, .salt = log->salt, .fd = fd, .named = named };
	if (log->newest)
		log->newest->newer = segment;
	else
		log->oldest = segment;
	log->newest = segment;
	log->segments++;
}

/* The current one is full: all in it is written, go on in the next. Waits for the thread only if it has none yet. */
static void segment_switch(struct mdt_log *log)
{
	int fd;

	pthread_mutex_lock(&log->mutex);
	if (log->next_fd < 0) {
		log->next_urgent = true;
		pthread_cond_signal(&log->work);
		while (log->next_urgent)
			pthread_cond_wait(&log->answer, &log->mutex);
	}
	fd = log->next_fd;
	if (fd < 0)
		die(log, "is full, and there is no room for another segment", log->next_err);
	pthread_mutex_unlock(&log->mutex);

	/* As long as next_fd is set, the thread leaves the file alone. */
	log->number++;
	log->salt = draw_salt();
	header_write(log, fd, log->last + 1);
	log->fd = fd;
	log->offset = LOG_RECORDS;

	pthread_mutex_lock(&log->mutex);
	segment_add(log, log->last + 1, fd, false);
	log->next_fd = -1;
	log->make_at = 0;
	pthread_cond_signal(&log->work);
	pthread_mutex_unlock(&log->mutex);
}

/* --- appending ------------------------------------------------------------------------------------------------------ */

static void buffer_reserve(struct mdt_log *log, size_t size)
{
	size_t more = log->buffer_size;

	if (log->buffer_size - log->buffered >= size)
		return;
	while (more - log->buffered < size)
		more *= 2;
	log->buffer = realloc(log->buffer, more);
	if (!log->buffer)
		logger_die("out of memory for the MDT's log");
	log->buffer_size = more;
}

uint64_t mdt_log_append(struct mdt_log *log, const void *payload, size_t size)
{
	struct log_record record = { .payload = { payload, size } };
	size_t room = log_record_size(size);

	assert(size > 0 && size <= MDT_LOG_RECORD_MAX && room <= log->segment_size - LOG_RECORDS);
	if (log->offset + log->buffered + room > log->segment_size) {
		mdt_log_write(log);
		segment_switch(log);
	}
	buffer_reserve(log, room);
	record.index = ++log->last;
	record.synced = atomic_load_explicit(&log->durable, memory_order_relaxed);
	log_record_encode(log->salt, &record, log->buffer + log->buffered);
	log->buffered += room;
	log->stats.records++;
	log->stats.bytes += room;
	return log->last;
}

void mdt_log_write(struct mdt_log *log)
{
	bool wake;
	int err;

	if (log->buffered == 0)
		return;
	err = fd_pwrite_all(log->fd, log->buffer, log->buffered, log->offset);
	if (err < 0)
		die(log, "cannot be written", err);
	log->offset += log->buffered;
	log->buffered = 0;
	log->stats.writes++;

	pthread_mutex_lock(&log->mutex);
	log->written = log->last;
	wake = log->sync_at == 0 || log->wanted > atomic_load(&log->durable);
	if (log->sync_at == 0)
		log->sync_at = clock_ns() + SYNC_START_NS;
	if (wake)
		pthread_cond_signal(&log->work);
	pthread_mutex_unlock(&log->mutex);
}

uint64_t mdt_log_last(const struct mdt_log *log)
{
	return log->last;
}

uint64_t mdt_log_durable(const struct mdt_log *log)
{
	return atomic_load(&log->durable);
}

/* The mutex is held. */
static void want(struct mdt_log *log, uint64_t index)
{
	if (index <= log->wanted)
		return;
	log->wanted = index;
	if (log->written > atomic_load(&log->durable))
		pthread_cond_signal(&log->work);
}

void mdt_log_sync(struct mdt_log *log, uint64_t index)
{
	assert(index <= log->last);
	if (index <= atomic_load(&log->durable))
		return;
	pthread_mutex_lock(&log->mutex);
	want(log, index);
	pthread_mutex_unlock(&log->mutex);
}

void mdt_log_wait(struct mdt_log *log, uint64_t index)
{
	pthread_mutex_lock(&log->mutex);
	while (atomic_load(&log->durable) < index) {
		want(log, index);
		pthread_cond_wait(&log->answer, &log->mutex);
	}
	pthread_mutex_unlock(&log->mutex);
}

bool mdt_log_space_low(const struct mdt_log *log)
{
	return atomic_load(&log->space_low);
}

void mdt_log_trim(struct mdt_log *log, uint64_t index)
{
	pthread_mutex_lock(&log->mutex);
	if (index > log->trim && !log->keep) {
		log->trim = index;
		pthread_cond_signal(&log->work);
	}
	pthread_mutex_unlock(&log->mutex);
}

void mdt_log_stats(struct mdt_log *log, struct mdt_log_stats *ret_stats)
{
	*ret_stats = log->stats;
	pthread_mutex_lock(&log->mutex);
	ret_stats->syncs = log->syncs;
	ret_stats->segments = log->segments;
	pthread_mutex_unlock(&log->mutex);
}

/* --- opening and closing -------------------------------------------------------------------------------------------- */

static void watch_ready(struct loop_watch *watch, uint32_t events)
{
	struct mdt_log *log = container_of(watch, struct mdt_log, watch);

	(void)events;
	if (log->durable_told)
		log->durable_told(log->owner, atomic_load(&log->durable));
}

static struct mdt_log *log_free(struct mdt_log *log)
{
	struct segment *segment, *newer;

	if (log->watch.loop)
		loop_watch_remove(&log->watch);
	if (log->watch.fd >= 0)
		close(log->watch.fd);
	for (segment = log->oldest; segment; segment = newer) {
		newer = segment->newer;
		if (segment->fd >= 0)
			close(segment->fd);
		free(segment);
	}
	if (log->next_fd >= 0)
		close(log->next_fd);
	log_dir_close(&log->dir);
	pthread_cond_destroy(&log->answer);
	pthread_cond_destroy(&log->work);
	pthread_mutex_destroy(&log->mutex);
	free(log->buffer);
	free(log);
	return NULL;
}

/* Two or three segments are in use at any time. */
static size_t size_choose(const char *dir)
{
	struct statvfs vfs;
	uint64_t size;

	if (statvfs(dir, &vfs) < 0)
		return MDT_LOG_SEGMENT_SIZE;
	size = (uint64_t)vfs.f_blocks * vfs.f_frsize / SIZE_PART & ~(uint64_t)(SIZE_MIN - 1);
	if (size < SIZE_MIN)
		return SIZE_MIN;
	return size < MDT_LOG_SEGMENT_SIZE ? (size_t)size : MDT_LOG_SEGMENT_SIZE;
}

static struct mdt_log *log_new(struct loop *loop, const struct mdt_log_config *config)
{
	struct mdt_log *log = calloc(1, sizeof(*log));
	pthread_condattr_t attr;

	if (!log)
		return NULL;
	log->loop = loop;
	log->owner = config->owner;
	log->durable_told = config->durable;
	log->target = config->target;
	log->keep = config->keep;
	log->segment_size = config->segment_size ? config->segment_size : size_choose(config->dir);
	assert(log->segment_size > LOG_RECORDS && log->segment_size <= LOG_SIZE_MAX);
	log->watch = (struct loop_watch){ .fd = -1, .ready = watch_ready };
	log->dir.fd = log->next_fd = -1;
	pthread_mutex_init(&log->mutex, NULL);
	pthread_cond_init(&log->answer, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&log->work, &attr);
	pthread_condattr_destroy(&attr);
	log->buffer_size = BUFFER_FIRST;
	log->buffer = malloc(log->buffer_size);
	return log->buffer ? log : log_free(log);
}

static struct log_replay replay_of(const struct mdt_log_config *config, struct log_dir *dir)
{
	return (struct log_replay){
		.dir = dir,
		.target = config->target,
		.applied = config->applied,
		.record = config->replay,
		.owner = config->owner,
	};
}

static int replay(struct mdt_log *log, const struct mdt_log_config *config, char *error, size_t error_size)
{
	struct log_replay replay = replay_of(config, &log->dir);
	int err = log_replay(&replay, error, error_size);

	if (err < 0)
		return err;
	log->last = log->written = log->wanted = replay.last;
	atomic_init(&log->durable, replay.last);
	log->number = replay.number;
	log->stats.dropped = replay.dropped;
	for (size_t i = 0; i < replay.count; i++) {
		/* The one to be begun takes its place. */
		if (replay.firsts[i] <= replay.last)
			segment_add(log, replay.firsts[i], -1, true);
	}
	free(replay.firsts);
	return 0;
}

/* The segment that goes on after the last record: begun and named before anybody can append. */
static int begin(struct mdt_log *log, char *error, size_t error_size)
{
	int fd, err = log_dir_make_next(&log->dir, log->segment_size, &fd);

	if (err == 0) {
		log->salt = draw_salt();
		header_write(log, fd, log->last + 1);
		log->fd = fd;
		log->offset = LOG_RECORDS;
		segment_add(log, log->last + 1, fd, true);
		log->unsynced = log->newest;
		err = fdatasync(fd) < 0 ? -errno : log_dir_name_next(&log->dir, log->last + 1);
	}
	if (err < 0)
		snprintf(error, error_size, "%s: a new segment of %zu bytes cannot be made: %s", log->dir.path,
			 log->segment_size, strerror(-err));
	return err;
}

static int start(struct mdt_log *log)
{
	sigset_t all, before;
	int err;

	log->noted = atomic_load(&log->durable); /* the header says it */
	log->watch.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (log->watch.fd < 0)
		return -errno;
	/* Every write is an event of its own, and nobody needs to read. */
	err = loop_watch_add(log->loop, &log->watch, EPOLLIN | EPOLLET);
	if (err < 0)
		return err;
	/* Signals are the main thread's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = -pthread_create(&log->thread, NULL, thread_main, log);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return err;
}

int mdt_log_open(struct loop *loop, const struct mdt_log_config *config, struct mdt_log **ret_log, char *error,
		 size_t error_size)
{
	struct mdt_log *log = log_new(loop, config);
	int err;

	if (!log) {
		snprintf(error, error_size, "out of memory");
		return -ENOMEM;
	}
	err = log_dir_open(config->dir, &log->dir, error, error_size);
	if (err == 0)
		err = replay(log, config, error, error_size);
	if (err == 0)
		err = begin(log, error, error_size);
	if (err == 0) {
		err = start(log);
		if (err < 0)
			snprintf(error, error_size, "the log's thread cannot be started: %s", strerror(-err));
	}
	if (err < 0) {
		log_free(log);
		return err;
	}
	*ret_log = log;
	return 0;
}

int mdt_log_read(const struct mdt_log_config *config, uint64_t *ret_last, uint64_t *ret_dropped, char *error,
		 size_t error_size)
{
	struct log_dir dir;
	struct log_replay replay = replay_of(config, &dir);
	int err = log_dir_open_to_read(config->dir, &dir, error, error_size);

	if (err < 0)
		return err;
	err = log_replay(&replay, error, error_size);
	log_dir_close(&dir);
	if (err < 0)
		return err;
	free(replay.firsts);
	*ret_last = replay.last;
	*ret_dropped = replay.dropped;
	return 0;
}

struct mdt_log *mdt_log_close(struct mdt_log *log)
{
	if (!log)
		return NULL;
	mdt_log_write(log);
	pthread_mutex_lock(&log->mutex);
	log->stop = true;
	pthread_cond_signal(&log->work);
	pthread_mutex_unlock(&log->mutex);
	pthread_join(log->thread, NULL);
	assert(atomic_load(&log->durable) == log->last);
	return log_free(log);
}
