/*
 * A filesystem's life.
 *
 *     fs_open():   MGS -> map -> control worker -> session at the MDT -> root -> flusher
 *     fs_close():  flusher (everything out) -> session -> control worker -> MGS -> memory
 */
#include "client/fs_state.h"

#include "common/container_of.h"

#include "client/absent.h"
#include "client/atime.h"
#include "client/ctx_wait.h"
#include "client/data/data.h"
#include "client/peers.h"
#include "client/probe.h"
#include "client/readdir.h"
#include "client/session.h"
#include "client/stat_store.h"
#include "client/targets.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS_PER_WORKER  32
#define SLOTS_MAX         128 /* in all: the MDT keeps a reply for each */
#define MEMORY_DEFAULT    (UINT64_C(1) << 30)
#define CLOSE_PATIENCE_MS 1500
#define STATS_TEXT_MAX    65536 /* an xattr's; targets that do not fit, after some 2,500, are not told of */
#define STATS_TEXT_MORE   256   /* what may have become of it when it is asked for */

void fs_config_defaults(struct fs_config *config)
{
	memset(config, 0, sizeof(*config));
	snprintf(config->subdir, sizeof(config->subdir), "/");
	config->soft_timeout_ms = 60000;
	config->attr_timeout_ms = 1000;
	config->memory_max = MEMORY_DEFAULT;
	config->workers = 1;
}

uint64_t fs_root(const struct fs *fs)
{
	return fs->root;
}

const struct uuid *fs_uuid(const struct fs *fs)
{
	return &fs->uuid;
}

static void add_tally(void *arg, const struct target_state *state)
{
	struct fs_stats *stats = arg;

	for (enum fabric i = 0; i < FABRIC_COUNT; i++) {
		stats->connections[i] += state->tally.connections[i];
		stats->bytes_by[i] += state->tally.bulk[i];
	}
	stats->switches += state->tally.switches;
	stats->silences += state->tally.silences;
}

void fs_stats(struct fs *fs, struct fs_stats *ret_stats)
{
	struct fs_stats stats = {
		.mds_calls = fs->counters.mds_calls,
		.ost_calls = fs->counters.ost_calls,
		.lookups_absent = fs->counters.lookups_absent,
		.bytes_read = fs->counters.bytes_read,
		.bytes_written = fs->counters.bytes_written,
		.bytes_ahead = fs->counters.bytes_ahead,
		.bytes_copied = fs->counters.bytes_copied,
		.resends = fs->counters.resends,
		.names_ahead = fs->counters.names_ahead,
		.lookups_ahead = fs->counters.lookups_ahead,
		.bytes_lost = data_fs_lost(fs->data),
		.targets_troubled = targets_troubled(fs->targets),
	};

	data_fs_held(fs->data, &stats.bytes_held, &stats.files_held);
	targets_each(fs->targets, add_tally, &stats);
	*ret_stats = stats;
}

/* What is written, of so many bytes at most. */
struct stats_text {
	char *text;
	size_t len, size;
};

__attribute__((format(printf, 2, 3))) static void text_add(struct stats_text *text, const char *format, ...)
{
	size_t room = text->size - text->len;
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(text->text + text->len, room, format, args);
	va_end(args);
	if (len > 0 && (size_t)len < room)
		text->len += (size_t)len;
}

/* One line, as a rule: that of the fabric by which it is reached. */
static void add_target(void *arg, const struct target_state *state)
{
	static const char *const names[] = { [FABRIC_TCP] = "tcp", [FABRIC_RDMA] = "rdma" };

	for (enum fabric i = 0; i < FABRIC_COUNT; i++) {
		uint64_t connections = state->tally.connections[i];

		if (connections > 0)
			text_add(arg, "%s_connections_%s %" PRIu64 "\n", state->tally.name, names[i], connections);
	}
}

int fs_stats_text(struct fs *fs, char *ret_text, size_t size, size_t *ret_len)
{
	struct stats_text text = { .text = malloc(STATS_TEXT_MAX), .size = STATS_TEXT_MAX };
	struct fs_stats stats;
	int err = 0;

	if (text.text == NULL)
		return -ENOMEM;
	fs_stats(fs, &stats);
	text_add(&text,
		 "mds_calls %" PRIu64 "\nost_calls %" PRIu64 "\nresends %" PRIu64 "\nlookups_absent %" PRIu64
		 "\nlookups_ahead %" PRIu64 "\nnames_ahead %" PRIu64 "\nbytes_read %" PRIu64 "\nbytes_written %" PRIu64
		 "\nbytes_ahead %" PRIu64 "\nbytes_copied %" PRIu64 "\nbytes_held %" PRIu64 "\nbytes_lost %" PRIu64
		 "\nfiles_held %u\ntargets_troubled %u\nconnections_tcp %" PRIu64 "\nconnections_rdma %" PRIu64
		 "\nbytes_tcp %" PRIu64 "\nbytes_rdma %" PRIu64 "\ntransport_switches %" PRIu64
		 "\nrdma_silences %" PRIu64 "\n",
		 stats.mds_calls, stats.ost_calls, stats.resends, stats.lookups_absent, stats.lookups_ahead,
		 stats.names_ahead, stats.bytes_read, stats.bytes_written, stats.bytes_ahead, stats.bytes_copied,
		 stats.bytes_held, stats.bytes_lost, stats.files_held, stats.targets_troubled,
		 stats.connections[FABRIC_TCP], stats.connections[FABRIC_RDMA], stats.bytes_by[FABRIC_TCP],
		 stats.bytes_by[FABRIC_RDMA], stats.switches, stats.silences);
	targets_each(fs->targets, add_target, &text);
	*ret_len = size == 0 ? text.len + STATS_TEXT_MORE : text.len;
	if (size > 0 && size < text.len)
		err = -ERANGE;
	else if (size > 0)
		memcpy(ret_text, text.text, text.len);
	free(text.text);
	return err;
}

/* --- the map ----------------------------------------------------------------------------------------------------- */

/* On the control loop. Every worker takes the new map on its own thread. */
static void map_changed(void *owner, const Strake__ClusterMap *wire)
{
	struct fs *fs = owner;
	struct target_map *map;

	if (target_map_new(wire, &map) < 0)
		return; /* the last one stays in force */
	targets_set_map(fs->targets, map);
	pthread_mutex_lock(&fs->lock);
	for (unsigned int i = 0; i < fs->worker_count; i++) {
		struct worker *worker = fs->workers[i];

		if (worker != NULL && !atomic_exchange(&worker->map_posted, true))
			loop_post(worker->loop, &worker->map_post);
	}
	pthread_mutex_unlock(&fs->lock);
	fiber_wake_all(&fs->map_arrived);
}

/* --- opening ----------------------------------------------------------------------------------------------------- */

/* What fs_open() is given, and until when it may try. */
struct opening {
	struct fs *fs;
	uint64_t until_ns;
	struct fs_ctx ctx; /* interrupted when the time has come */
	struct loop_timer timer;
	char *error;
	size_t error_size;
};

/* Say what is wrong, and return err. */
__attribute__((format(printf, 3, 4))) static int fail(struct opening *opening, int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(opening->error, opening->error_size, format, args);
	va_end(args);
	return err;
}

static void time_is_up(struct loop_timer *timer)
{
	struct opening *opening = container_of(timer, struct opening, timer);

	fs_interrupt(&opening->ctx);
}

static unsigned int time_left_ms(const struct opening *opening)
{
	uint64_t now_ns = clock_ns();

	if (opening->until_ns == CTX_WAIT_FOREVER)
		return UINT_MAX;
	return opening->until_ns <= now_ns ? 1 : (unsigned int)((opening->until_ns - now_ns) / NSEC_PER_MSEC) + 1;
}

static int open_map(struct opening *opening)
{
	struct fs *fs = opening->fs;
	struct mgs_client_config config = {
		.mgs = fs->config.mgs,
		.key = &fs->config.key,
		.own_role = ROLE_CLIENT,
		.own_uuid = fs->mount_uuid,
		.tally = &fs->mgs_tally,
		.owner = fs,
		.map_changed = map_changed,
	};
	const Strake__ClusterMap *map;
	int err = mgs_client_new(fs->loop, &config, &fs->mgs);

	if (err == 0)
		err = mgs_client_wait(fs->mgs, time_left_ms(opening));
	if (err < 0)
		return fail(opening, err, "no cluster map from the MGS (%s): %s",
			    fs->config.mgs.count > 0 ? fs->config.mgs.text[0] : "no address",
			    fs->mgs != NULL && mgs_client_last_error(fs->mgs)[0] != '\0'
				    ? mgs_client_last_error(fs->mgs)
				    : strerror(-err));
	map = mgs_client_map(fs->mgs);
	if (uuid_from_bytes(map->fs_uuid.data, map->fs_uuid.len, &fs->uuid) < 0)
		return fail(opening, -EPROTO, "the MGS's cluster map has no filesystem UUID");
	return 0;
}

/* The map has somebody to ask for a session. */
static int open_mdt_known(struct opening *opening)
{
	struct fs *fs = opening->fs;

	for (;;) {
		struct target_map *map = targets_map(fs->targets);
		const struct target *mdt = target_map_find(map, ROLE_MDT, 0);
		bool known = mdt != NULL && mdt->address_count > 0;

		target_map_put(map);
		if (known)
			return 0;
		if (fiber_wait_until(&fs->map_arrived, NULL, opening->until_ns) < 0)
			return fail(opening, -ETIMEDOUT, "the MGS knows no MDT (yet): is strake-mds running?");
	}
}

static const char *mdt_error(struct fs *fs, int err)
{
	struct peer *peer;

	if (peers_get(fs->control->peers, ROLE_MDT, 0, &peer) == 0 && !peer_is_connected(peer) &&
	    peer_last_error(peer)[0] != '\0')
		return peer_last_error(peer);
	return strerror(-err);
}

static int open_session(struct opening *opening)
{
	struct fs *fs = opening->fs;
	unsigned int wished = SLOTS_PER_WORKER * fs->worker_count;
	int err;

	fs->session = fs_session_new(fs, wished > SLOTS_MAX ? SLOTS_MAX : wished);
	err = fs->session == NULL ? -ENOMEM : fs_session_start(fs->session, opening->until_ns, &fs->root);
	if (err < 0)
		return fail(opening, err, "no session from the MDT: %s", mdt_error(fs, err));
	return 0;
}

/* From the filesystem's root down to the directory that is mounted. */
static int open_root(struct opening *opening)
{
	struct fs *fs = opening->fs;
	const char *at = fs->config.subdir;
	uint64_t ino = fs->root;
	struct attr attr;
	int err = 0;

	for (;;) {
		size_t len;
		uint64_t parent = ino;

		at += strspn(at, "/");
		len = strcspn(at, "/");
		if (len == 0)
			break;
		err = fs_lookup(fs, &opening->ctx, parent, at, len, &attr);
		if (parent != fs->root)
			fs_forget(fs, parent, 1);
		if (err < 0)
			return fail(opening, err, "%s: %s", fs->config.subdir, strerror(-err));
		ino = attr.ino;
		at += len;
	}

	fs->root_inode = inode_get(fs->inodes, ino);
	if (ino != fs->root)
		fs_forget(fs, ino, 1);
	fs->root = ino;
	if (fs->root_inode == NULL)
		return fail(opening, -ENOMEM, "no memory");
	err = inode_fetch_attr(fs->root_inode, &opening->ctx, true, &attr);
	if (err < 0)
		return fail(opening, err, "the root directory's attributes: %s", strerror(-err));
	return S_ISDIR(attr.mode) ? 0 : fail(opening, -ENOTDIR, "%s is not a directory", fs->config.subdir);
}

static int open_all(struct opening *opening)
{
	struct fs *fs = opening->fs;
	int err = open_map(opening);

	if (err == 0)
		err = open_mdt_known(opening);
	if (err < 0)
		return err;
	err = worker_new(fs, fs->loop, fs->config.workers, &fs->control);
	if (err < 0)
		return fail(opening, err, "%s", strerror(-err));
	if (opening->until_ns != CTX_WAIT_FOREVER)
		loop_timer_set(fs->loop, &opening->timer, opening->until_ns);
	err = open_session(opening);
	if (err == 0)
		err = open_root(opening);
	loop_timer_cancel(&opening->timer);
	if (err < 0)
		return err;
	err = data_fs_start(fs->data, fs->control);
	if (err == 0)
		err = atimes_start(fs->atimes, fs->control);
	if (err < 0)
		return fail(opening, err, "%s", strerror(-err));
	fs->flushing = true;
	return 0;
}

static struct fs *fs_free(struct fs *fs)
{
	dir_cache_free(fs->dirs);
	absent_free(fs->absent);
	fs->atimes = atimes_free(fs->atimes);
	if (fs->inodes != NULL)
		inode_put(fs->root_inode);
	inode_table_free(fs->inodes);
	stat_store_free(fs->stat_store);
	data_fs_free(fs->data);
	fs_session_free(fs->session);
	targets_free(fs->targets);
	pthread_mutex_destroy(&fs->shared_dirs.lock);
	pthread_mutex_destroy(&fs->files_lock);
	pthread_mutex_destroy(&fs->lock);
	free(fs->mountpoint);
	free(fs->workers);
	free(fs);
	return NULL;
}

static struct fs *fs_new(struct loop *loop, const struct fs_config *config)
{
	struct fs *fs = calloc(1, sizeof(*fs));

	if (fs == NULL)
		return NULL;
	pthread_mutex_init(&fs->shared_dirs.lock, NULL);
	pthread_mutex_init(&fs->files_lock, NULL);
	pthread_mutex_init(&fs->lock, NULL);
	fs->config = *config;
	fs->loop = loop;
	fs->worker_count = config->workers + 1;
	fs->mgs_tally = (struct peer_tally){ .name = "mgs" };
	uuid_make(&fs->mount_uuid);
	if (config->mountpoint != NULL)
		fs->mountpoint = strdup(config->mountpoint);
	fs->config.mountpoint = fs->mountpoint; /* only for the MDT's list: it may do without */
	fs->workers = calloc(fs->worker_count, sizeof(struct worker *));
	fs->targets = targets_new();
	fs->inodes = inode_table_new(fs);
	fs->dirs = dir_cache_new();
	fs->absent = absent_new(ABSENT_SLOTS_MAX);
	fs->stat_store = stat_store_new(STAT_STORE_BYTES, &fs->mount_uuid);
	fs->data = data_fs_new(fs, config->memory_max);
	fs->atimes = atimes_new(fs);
	fs->atime_rule = config->atime;
	if (fs->workers == NULL || fs->targets == NULL || fs->inodes == NULL || fs->dirs == NULL ||
	    fs->absent == NULL || fs->stat_store == NULL || fs->data == NULL || fs->atimes == NULL)
		return fs_free(fs);
	return fs;
}

int fs_open(struct loop *loop, const struct fs_config *config, unsigned int timeout_ms, struct fs **ret_fs, char *error,
	    size_t error_size)
{
	struct opening opening = {
		.until_ns = timeout_ms == 0 ? CTX_WAIT_FOREVER : clock_ns() + timeout_ms * NSEC_PER_MSEC,
		.ctx = { .trusted = true },
		.timer = { .expired = time_is_up },
		.error = error,
		.error_size = error_size,
	};
	int err;

	assert(fiber_self() != NULL);
	opening.fs = fs_new(loop, config);
	if (opening.fs == NULL)
		return fail(&opening, -ENOMEM, "no memory");
	err = open_all(&opening);
	if (err < 0) {
		fs_close(opening.fs);
		return err == -EINTR ? -ETIMEDOUT : err;
	}
	*ret_fs = opening.fs;
	return 0;
}

int fs_drain(struct fs *fs, struct fs_ctx *ctx)
{
	struct probe probe;
	int err;

	probe_begin(&probe, fs->control);
	err = data_fs_drain(fs->data, ctx);
	if (err == 0)
		atimes_tell(fs->atimes, ctx, ATIMES_PATIENCE_MS);
	probe_end(&probe);
	return err;
}

void fs_set_atime(struct fs *fs, unsigned int atime)
{
	atomic_store(&fs->atime_rule, atime);
}

/* Also of one that fs_open() did not get to the end of. */
struct fs *fs_close(struct fs *fs)
{
	struct fs_ctx ctx = { .trusted = true };

	if (fs == NULL)
		return NULL;
	for (unsigned int i = 0; i < fs->config.workers; i++)
		assert(fs->workers[i] == NULL);

	atomic_store(&fs->closing, true);
	if (fs->control != NULL) {
		ctx_wait_kick(fs->control); /* who waits for a dead server shall think again */
		atimes_stop(fs->atimes);
		if (fs->flushing)
			data_fs_stop(fs->data, &ctx);
		/* A kernel that was made to let go (umount -f) tells of no last close. */
		while (fs->files != NULL)
			fs_release(fs->files);
	}
	if (fs->session != NULL)
		fs_session_stop(fs->session, CLOSE_PATIENCE_MS);
	worker_free(fs->control);
	mgs_client_free(fs->mgs);
	fiber_yield(); /* its fiber ends */
	return fs_free(fs);
}
