#include "mds/mdt.h"

#include "common/container_of.h"
#include "common/fiber.h"
#include "common/logger.h"
#include "mds/orphan.h"
#include "mds/ost_link.h"
#include "mds/sessions.h"
#include "mds/void.h"
#include "proto/mdt_record.pb-c.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define ROOT_MODE (S_IFDIR | 0755)

/* --- records ------------------------------------------------------------------------------------------------------ */

uint64_t mdt_submit(struct mdt *mdt, const struct record *record, const ProtobufCMessage *message)
{
	size_t size = record_size(record);
	uint64_t index;

	assert(size <= MDT_LOG_RECORD_MAX);
	record_encode(record, mdt->payload, size);
	index = mdt_log_append(mdt->log, mdt->payload, size);
	apply(&mdt->state, index, record, message, &mdt->outcome);
	mdt->changed = true;
	if (mdt->links)
		ost_links_note(mdt->links, &mdt->outcome);
	return index;
}

uint64_t mdt_submit_own(struct mdt *mdt, enum record_op op, uint64_t session, const ProtobufCMessage *message)
{
	size_t size = protobuf_c_message_get_packed_size(message);
	uint8_t *packed = malloc(size + 1);
	struct record record = {
		.op = (uint16_t)op,
		.time_ns = admit_time(&mdt->state, clock_real_ns()),
		.session = session,
		.body = { packed, size },
	};
	uint64_t index;

	if (!packed)
		logger_die("out of memory for a record");
	protobuf_c_message_pack(message, packed);
	index = mdt_submit(mdt, &record, message);
	free(packed);
	if (mdt->outcome.err < 0)
		logger_die("record %" PRIu64 " of the MDT's own (%#x) failed: %s", index, (unsigned int)op,
			   strerror(-mdt->outcome.err));
	return index;
}

static void submit_format(struct mdt *mdt)
{
	Strake__FormatRecord format = STRAKE__FORMAT_RECORD__INIT;
	Strake__Layout layout = STRAKE__LAYOUT__INIT;
	uint8_t key[HASH_KEY_SIZE];

	if (getrandom(key, sizeof(key), 0) != (ssize_t)sizeof(key))
		logger_die("no random numbers: %s", strerror(errno));
	layout.stripe_size = LAYOUT_STRIPE_SIZE_DEFAULT;
	layout.stripe_count = 0;
	format.hash_key = (ProtobufCBinaryData){ .data = key, .len = sizeof(key) };
	format.first_number = ((uint64_t)mdt->config.identity->index << 48) + INODE_ROOT + 1;
	format.root_ino = INODE_ROOT;
	format.root_mode = ROOT_MODE;
	/* A cluster of one's own belongs to oneself. */
	format.root_uid = geteuid();
	format.root_gid = getegid();
	format.layout = &layout;
	mdt_submit_own(mdt, RECORD_FORMAT, 0, &format.base);
}

static void reserve_numbers(struct mdt *mdt, bool first)
{
	Strake__ReserveRecord reserve = STRAKE__RESERVE_RECORD__INIT;
	uint64_t index;

	if (!numbers_run_low(&mdt->numbers, &reserve.up_to))
		return;
	reserve.has_rest_is_void = reserve.rest_is_void = first;
	index = mdt_submit_own(mdt, RECORD_RESERVE, 0, &reserve.base);
	numbers_asked(&mdt->numbers, reserve.up_to, index);
	mdt_log_sync(mdt->log, index);
}

/*
 * An older copy, which is all there is: what it does not know of lies below, and becomes void with the rest. On stable
 * storage before the MGS takes it: from then on it is as good as any other.
 */
static void take_older(struct mdt *mdt)
{
	Strake__ReserveRecord reserve = STRAKE__RESERVE_RECORD__INIT;
	uint64_t index;

	log_warning("going on from record %" PRIu64 ", as told: what came after it is lost", mdt->found);
	if (!mdt->state.formatted)
		submit_format(mdt);
	reserve.up_to = mdt->state.meta.reserved + NUMBERS_LEAP;
	if (reserve.up_to >> 48 != mdt->state.meta.reserved >> 48)
		logger_die("this MDT has gone on from an older copy too often: it has no numbers left");
	index = mdt_submit_own(mdt, RECORD_RESERVE, 0, &reserve.base);
	mdt_log_write(mdt->log);
	mdt_log_wait(mdt->log, index);
}

/* Nobody is served any more, and a record tells of all that was: what is left was not given out. */
static void give_back_numbers(struct mdt *mdt)
{
	Strake__ReserveRecord reserve = STRAKE__RESERVE_RECORD__INIT;

	reserve.up_to = mdt->state.meta.given + 1;
	if (reserve.up_to < mdt->state.meta.reserved)
		mdt_submit_own(mdt, RECORD_RESERVE, 0, &reserve.base);
}

/* --- sessions that end -------------------------------------------------------------------------------------------- */

void mdt_release(struct mdt *mdt, uint64_t session, const uint64_t *inos, size_t count)
{
	Strake__ReleaseRecord release = STRAKE__RELEASE_RECORD__INIT;
	uint64_t *orphans;

	if (mdt->state.meta.orphans == 0 || count == 0)
		return;
	orphans = malloc(MDT_IDS_PER_LOG * sizeof(*orphans));
	if (!orphans)
		logger_die("out of memory for the orphans of a session");
	release.ino = orphans;
	for (size_t i = 0; i < count; i++) {
		if (orphan_is_held_by(mdt->state.view, inos[i], session))
			orphans[release.n_ino++] = inos[i];
		if (release.n_ino == MDT_IDS_PER_LOG || (i + 1 == count && release.n_ino > 0)) {
			mdt_submit_own(mdt, RECORD_RELEASE, session, &release.base);
			release.n_ino = 0;
		}
	}
	free(orphans);
}

/* Inodes that a lost session had open for writing, a record at a time. */
struct unsure {
	struct mdt *mdt;
	uint64_t session;
	Strake__UnsureRecord record;
};

static void unsure_flush(struct unsure *unsure)
{
	if (unsure->record.n_ino > 0)
		mdt_submit_own(unsure->mdt, RECORD_UNSURE, unsure->session, &unsure->record.base);
	unsure->record.n_ino = 0;
}

static void unsure_add(void *arg, uint64_t ino, unsigned int modes)
{
	struct unsure *unsure = arg;

	if (!(modes & OPEN_WRITE))
		return;
	unsure->record.ino[unsure->record.n_ino++] = ino;
	if (unsure->record.n_ino == MDT_IDS_PER_LOG)
		unsure_flush(unsure);
}

static struct mdt_fence fence_from_now(const struct mdt *mdt, uint64_t session)
{
	return (struct mdt_fence){ session, mdt->state.meta.session_index, loop_now_ns(mdt->loop) };
}

void mdt_evict(struct mdt *mdt, uint64_t session)
{
	Strake__EvictRecord evict = STRAKE__EVICT_RECORD__INIT;
	struct unsure unsure = { .mdt = mdt, .session = session, .record = STRAKE__UNSURE_RECORD__INIT };

	unsure.record.ino = malloc(MDT_IDS_PER_LOG * sizeof(*unsure.record.ino));
	if (!unsure.record.ino)
		logger_die("out of memory for the open files of a session");
	opens_each_inode(mdt->opens, session, unsure_add, &unsure);
	unsure_flush(&unsure);
	free(unsure.record.ino);

	mdt_submit_own(mdt, RECORD_EVICT, session, &evict.base);
	opens_drop_session(mdt->opens, session);
	leases_remove(mdt->leases, session);
	alone_end(&mdt->alone, session);
	mdt->evicted = fence_from_now(mdt, session);
	mdt->admission.unfenced = true;
	mdt_end_locks(mdt, session);
}

/* --- locks of sessions that have ended ---------------------------------------------------------------------------- */

static bool is_fenced(const struct mdt *mdt, const struct mdt_fence *fence)
{
	bool map_known = mdt->map_known || !mdt->mgs;

	return (map_known && ost_links_have_sessions(mdt->links, fence->index)) ||
	       (loop_now_ns(mdt->loop) > fence->since_ns + MDT_FENCE_MS * NSEC_PER_MSEC &&
		!ost_links_say_runs(mdt->links));
}

bool mdt_grants_locks(struct mdt *mdt, uint64_t session)
{
	if (!mdt->start_is_over)
		mdt->start_is_over = is_fenced(mdt, &mdt->start);
	return mdt->start_is_over && !leases_others_unreclaimed(mdt->leases, session);
}

void mdt_end_locks(struct mdt *mdt, uint64_t session)
{
	struct mdt_fence *fences;

	if (!locks_has_session(mdt->locks, session))
		return;
	fences = reallocarray(mdt->fences, mdt->fence_count + 1, sizeof(*fences));
	if (!fences)
		logger_die("out of memory for the locks of a session");
	mdt->fences = fences;
	fences[mdt->fence_count++] = fence_from_now(mdt, session);
	mdt_look_at_fences(mdt);
}

void mdt_look_at_fences(struct mdt *mdt)
{
	size_t i = 0;

	if (mdt->admission.unfenced)
		mdt->admission.unfenced = !is_fenced(mdt, &mdt->evicted);
	while (i < mdt->fence_count) {
		if (!is_fenced(mdt, &mdt->fences[i])) {
			i++;
			continue;
		}
		locks_drop_session(mdt->locks, mdt->fences[i].session);
		mdt->fences[i] = mdt->fences[--mdt->fence_count];
	}
}

/* --- acknowledgements --------------------------------------------------------------------------------------------- */

static void flush_acks(struct mdt *mdt)
{
	struct mdt_acks *acks = &mdt->acks;
	Strake__AckRecord record = STRAKE__ACK_RECORD__INIT;

	if (acks->destroyed == 0 && acks->cuts == 0)
		return;
	record.n_destroyed_ino = record.n_destroyed_gen = record.n_destroyed_ost = acks->destroyed;
	record.destroyed_ino = acks->destroyed_ino;
	record.destroyed_gen = acks->destroyed_gen;
	record.destroyed_ost = acks->destroyed_ost;
	record.n_cut_ino = record.n_cut_gen = record.n_cut_number = record.n_cut_ost = acks->cuts;
	record.cut_ino = acks->cut_ino;
	record.cut_gen = acks->cut_gen;
	record.cut_number = acks->cut_number;
	record.cut_ost = acks->cut_ost;
	mdt_submit_own(mdt, RECORD_ACK, 0, &record.base);
	acks->destroyed = acks->cuts = 0;
}

void mdt_destroyed(struct mdt *mdt, uint32_t ost, uint64_t ino, uint64_t gen)
{
	struct mdt_acks *acks = &mdt->acks;

	if (acks->destroyed == MDT_ACKS_MAX)
		flush_acks(mdt);
	acks->destroyed_ino[acks->destroyed] = ino;
	acks->destroyed_gen[acks->destroyed] = gen;
	acks->destroyed_ost[acks->destroyed++] = ost;
}

void mdt_cut_done(struct mdt *mdt, uint32_t ost, uint64_t ino, uint64_t gen, uint64_t number)
{
	struct mdt_acks *acks = &mdt->acks;

	if (acks->cuts == MDT_ACKS_MAX)
		flush_acks(mdt);
	acks->cut_ino[acks->cuts] = ino;
	acks->cut_gen[acks->cuts] = gen;
	acks->cut_number[acks->cuts] = number;
	acks->cut_ost[acks->cuts++] = ost;
}

/* --- the loop ----------------------------------------------------------------------------------------------------- */

static void look_at_space(struct mdt *mdt)
{
	mdt->admission.space_low = mdt_log_space_low(mdt->log) || checkpoint_space_low(mdt->checkpoint);
}

static void store(struct loop_hook *hook)
{
	struct mdt *mdt = container_of(hook, struct mdt, store_hook);

	flush_acks(mdt);
	reserve_numbers(mdt, false);
	if (mdt->writers_owed && !mdt->admission.space_low)
		mdt_note_all_writers(mdt);
	if (!mdt->changed)
		return;
	mdt->changed = false;
	mdt_log_write(mdt->log);
	checkpoint_consider(mdt->checkpoint);
	look_at_space(mdt);
}

static void checkpoint_begun(void *owner)
{
	mdt_note_all_writers(owner);
}

/* Those that waited, in order; who still may not go on waits again. */
static void serve_parked(struct mdt *mdt)
{
	struct request **parked = mdt->parked;
	size_t count = mdt->parked_count;

	mdt->parked = NULL;
	mdt->parked_count = mdt->parked_max = 0;
	for (size_t i = 0; i < count; i++)
		mdt_serve(mdt, parked[i]);
	free(parked);
}

static void alone_is_over(struct loop_timer *timer)
{
	serve_parked(container_of(timer, struct mdt, alone_over));
}

static void log_durable(void *owner, uint64_t index)
{
	struct mdt *mdt = owner;

	numbers_durable(&mdt->numbers, index);
	waiting_durable(mdt->waiting, index);
	if (mdt->links)
		ost_links_durable(mdt->links);
	if (mdt->parked_count > 0)
		serve_parked(mdt);
}

static void look_at_disk(struct mdt *mdt)
{
	bool was_full = mdt->admission.disk_free < ADMIT_RESERVE;
	struct statvfs vfs;

	if (statvfs(mdt->config.dir, &vfs) < 0)
		return;
	mdt->admission.disk_free = (uint64_t)vfs.f_bavail * vfs.f_frsize;
	mdt->disk_total = (uint64_t)vfs.f_blocks * vfs.f_frsize;
	if (mdt->admission.disk_free < ADMIT_RESERVE && !was_full)
		log_warning("%s is nearly full: nothing new can be made until there is room", mdt->config.dir);
}

static void tick(struct loop_timer *timer)
{
	struct mdt *mdt = container_of(timer, struct mdt, tick);
	uint64_t now_ns = loop_now_ns(mdt->loop), session;

	/* While we stood still nobody could be heard. */
	if (now_ns > mdt->tick_at_ns + MDT_TICK_MS * NSEC_PER_MSEC)
		leases_excuse(mdt->leases, now_ns - mdt->tick_at_ns);
	while ((session = leases_expired(mdt->leases, now_ns)) != 0) {
		if (leases_find(mdt->leases, session)->reclaimed)
			log_warning("session %" PRIx64 ": not heard of for %d s: evicted", session,
				    SESSION_LEASE_MS / 1000);
		else
			log_warning("session %" PRIx64 ": has not told what it has open since the start: evicted",
				    session);
		mdt_evict(mdt, session);
	}
	mdt_look_at_fences(mdt);
	look_at_disk(mdt);
	look_at_space(mdt); /* it may have been found meanwhile, without a change */
	view_limit_mapped(mdt->state.view);
	checkpoint_consider(mdt->checkpoint);
	mdt->tick_at_ns = now_ns + MDT_TICK_MS * NSEC_PER_MSEC;
	loop_timer_set(mdt->loop, timer, mdt->tick_at_ns);
}

/* --- life --------------------------------------------------------------------------------------------------------- */

static int replay(void *owner, uint64_t index, const void *payload, size_t size)
{
	struct mdt *mdt = owner;
	struct record record;
	int err = record_decode((struct bytes){ payload, size }, &mdt->space, &record);

	if (err < 0)
		return err;
	apply(&mdt->state, index, &record, NULL, &mdt->outcome);
	mdt_presume_open(mdt, &record);
	return 0;
}

static int open_state(struct mdt *mdt, char *error, size_t error_size)
{
	struct mdt_log_config config = {
		.dir = mdt->config.dir,
		.target = mdt->config.identity->target,
		.keep = mdt->config.keep_log,
		.owner = mdt,
		.replay = replay,
		.durable = log_durable,
	};
	bool to_read = !mdt->config.listen;
	struct mdt_log_stats stats;
	struct view *view;
	int err = (to_read ? view_open_to_read : view_open)(mdt->config.dir, &view, &config.applied, error, error_size);

	if (err < 0)
		return err;
	state_load(&mdt->state, view);
	if (to_read)
		return mdt_log_read(&config, &mdt->found, &mdt->dropped, error, error_size);
	err = mdt_log_open(mdt->loop, &config, &mdt->log, error, error_size);
	if (err < 0)
		return err;
	mdt_log_stats(mdt->log, &stats);
	mdt->dropped = stats.dropped;
	mdt->found = mdt_log_last(mdt->log);
	mdt->older = mdt->config.has_go_on_from && mdt->config.go_on_from == mdt->found;
	return 0;
}

/* Nobody of those who were there has told yet what it has open. */
static void load_leases(struct mdt *mdt)
{
	struct session_row row;

	for (uint64_t session = 0; session_from(mdt->state.view, session, &row) == 0; session = row.session + 1)
		leases_add(mdt->leases, row.session, &row.client, row.slots, false, loop_now_ns(mdt->loop));
	/* Until now another MDT may have promised them something, if not here then where this copy is from. */
	if (leases_count(mdt->leases) > 0 || mdt->older)
		mdt->alone.start_ns = clock_ns();
	if (leases_count(mdt->leases) > 0)
		log_info("%zu sessions from before the restart", leases_count(mdt->leases));
}

static void report_state(const struct mdt *mdt)
{
	size_t voids;

	if (mdt->dropped > 0)
		log_warning("%s: %" PRIu64 " bytes at the end of the log were torn by a crash and do not count",
			    mdt->config.dir, mdt->dropped);
	if (mdt->state.meta.time_ns > (int64_t)clock_real_ns())
		log_warning("the clock is behind the last change: times stand still until it has caught up");
	(void)void_end(mdt->state.view, &voids);
	log_info("state up to record %" PRIu64 ": %" PRIu64 " inodes, %zu ranges of void numbers",
		 mdt->log ? mdt_log_last(mdt->log) : mdt->found, mdt->state.meta.inodes, voids);
}

/* The first records of this process, and whoever comes is served. */
static void begin(struct mdt *mdt)
{
	loop_timer_cancel(&mdt->word);
	if (mdt->begun)
		return;
	mdt->begun = true;
	if (!mdt->state.formatted)
		submit_format(mdt);
	numbers_init(&mdt->numbers, mdt->state.meta.reserved);
	reserve_numbers(mdt, true);
	load_leases(mdt);
	mdt->evicted = mdt->start = (struct mdt_fence){ 0, mdt->state.meta.session_index, clock_ns() };
	mdt->admission.unfenced = true; /* who was lost before is not known */

	loop_hook_add(mdt->loop, LOOP_STAGE_STORE, &mdt->store_hook);
	mdt->tick_at_ns = clock_ns() + MDT_TICK_MS * NSEC_PER_MSEC;
	loop_timer_set(mdt->loop, &mdt->tick, mdt->tick_at_ns);
	store(&mdt->store_hook);
	report_state(mdt);
	service_hold(mdt->service, false);
	if (mdt->config.serving)
		mdt->config.serving(mdt->config.owner, mdt);
}

/* --- the MGS ------------------------------------------------------------------------------------------------------ */

static void map_changed(void *owner, const Strake__ClusterMap *map)
{
	struct mdt *mdt = owner;

	/* There is no map for who is not let in. */
	mdt->is_in = true;
	begin(mdt);
	layout_chooser_set(&mdt->chooser, map);
	ost_links_set_map(mdt->links, map);
	mdt->map_known = true;
}

static void tell_capacity(void *owner, struct mgs_capacity *ret_capacity)
{
	struct mdt *mdt = owner;

	*ret_capacity = (struct mgs_capacity){
		.bytes_total = mdt->disk_total,
		.bytes_free = mdt->admission.disk_free,
		.objects_total = mdt->state.meta.inodes,
		.state = mdt->admission.disk_free < ADMIT_RESERVE ? STRAKE__TARGET_STATE__TARGET_FULL
								  : STRAKE__TARGET_STATE__TARGET_UP,
		.log_index = mdt->is_in ? mdt_log_durable(mdt->log) : mdt->found,
	};
	service_connections(mdt->service, ret_capacity->connections);
}

static int reachable(void *owner, const char *preferred, struct address_list *ret_list)
{
	return service_reachable(((struct mdt *)owner)->service, preferred, ret_list);
}

static void mgs_refused(void *owner, int err, const char *text)
{
	struct mdt *mdt = owner;

	(void)err;
	if (mdt->config.refused)
		mdt->config.refused(mdt->config.owner, text);
}

static int open_mgs(struct mdt *mdt)
{
	const struct identity *identity = mdt->config.identity;

	if (!mdt->config.mgs || mdt->config.mgs->count == 0)
		return 0;
	return mgs_client_new(mdt->loop,
			      &(struct mgs_client_config){
				      .mgs = *mdt->config.mgs,
				      .fs = identity->fs,
				      .key = mdt->config.key,
				      .own_role = ROLE_MDT,
				      .own_uuid = identity->target,
				      .index = identity->index,
				      .older = mdt->older,
				      .tally = &mdt->mgs_tally,
				      .owner = mdt,
				      .map_changed = map_changed,
				      .reachable = reachable,
				      .capacity = tell_capacity,
				      .refused = mgs_refused,
			      },
			      &mdt->mgs);
}

static void word_due(struct loop_timer *timer)
{
	struct mdt *mdt = container_of(timer, struct mdt, word);
	const char *why;

	if (mgs_client_is_contested(mdt->mgs)) {
		loop_timer_set(mdt->loop, timer, loop_now_ns(mdt->loop) + MDT_TICK_MS * NSEC_PER_MSEC);
		return;
	}
	why = mgs_client_last_error(mdt->mgs);
	log_warning("the MGS cannot be reached (%s): serving without its word that this is no older copy of the data "
		    "directory",
		    why[0] ? why : "no answer");
	begin(mdt);
}

/* --- opening and closing ------------------------------------------------------------------------------------------- */

static int listen_all(struct mdt *mdt, char *error, size_t error_size)
{
	const struct mdt_config *config = &mdt->config;
	uint16_t port;
	int err = service_new(mdt->loop,
			      &(struct service_config){
				      .fs = config->identity->fs,
				      .target = config->identity->target,
				      .role = ROLE_MDT,
				      .key = config->key,
				      .owner = mdt,
				      .handle = mdt_serve,
				      .closed = mdt_lock_route_gone,
			      },
			      &mdt->service);

	if (err == 0)
		service_hold(mdt->service, true);
	for (size_t i = 0; err == 0 && i < config->listen->count; i++) {
		err = service_listen(mdt->service, config->listen->text[i], &port);
		if (err < 0)
			service_listen_explain(config->listen->text[i], err, error, error_size);
		if (err == 0 && i == 0)
			err = address_with_port(config->listen->text[0], port, mdt->address);
	}
	return err;
}

static int open_rest(struct mdt *mdt, char *error, size_t error_size)
{
	const struct checkpoint_owner owner = { .owner = mdt, .begun = checkpoint_begun };
	int err = checkpoint_new(mdt->loop, mdt->state.view, mdt->log, &owner, &mdt->checkpoint);

	if (err == 0)
		err = waiting_new(mdt->loop, mdt->log, &mdt->waiting);
	if (err < 0)
		return err;
	if (mdt->config.has_go_on_from && !mdt->older)
		log_warning("the log does not end at record %" PRIu64 ", but at %" PRIu64 ": --go-on-from is ignored",
			    mdt->config.go_on_from, mdt->found);
	if (mdt->older)
		take_older(mdt);
	look_at_disk(mdt);
	mdt->links = ost_links_new(mdt);
	err = listen_all(mdt, error, error_size);
	if (err == 0)
		err = open_mgs(mdt);
	if (err < 0)
		return err;
	if (mdt->mgs && mdt->config.mgs_wait_ms > 0)
		loop_timer_set(mdt->loop, &mdt->word, clock_ns() + mdt->config.mgs_wait_ms * NSEC_PER_MSEC);
	else
		begin(mdt);
	return 0;
}

int mdt_open(struct loop *loop, const struct mdt_config *config, struct mdt **ret_mdt, char *error, size_t error_size)
{
	struct mdt *mdt = calloc(1, sizeof(*mdt));
	int err;

	if (!mdt)
		return -ENOMEM;
	error[0] = '\0';
	mdt->config = *config;
	mdt->mgs_tally = (struct peer_tally){ .name = "MGS" };
	mdt->loop = loop;
	mdt->store_hook.run = store;
	mdt->tick.expired = tick;
	mdt->word.expired = word_due;
	mdt->alone_over.expired = alone_is_over;
	mdt->instance = clock_real_ns();
	mdt->opens = opens_new();
	mdt->leases = leases_new();
	mdt->locks = locks_new(&(struct lock_events){
		.owner = mdt, .granted = mdt_lock_events.granted, .recall = mdt_lock_events.recall });
	mdt->payload = malloc(MDT_LOG_RECORD_MAX);
	mdt->admission = (struct admission){
		.state = &mdt->state,
		.opens = mdt->opens,
		.leases = mdt->leases,
		.numbers = &mdt->numbers,
		.chooser = &mdt->chooser,
		.disk_free = UINT64_MAX,
		.root_squash = config->root_squash,
	};

	err = mdt->payload ? open_state(mdt, error, error_size) : -ENOMEM;
	if (err == 0 && config->listen)
		err = open_rest(mdt, error, error_size);
	if (err < 0) {
		if (error[0] == '\0')
			snprintf(error, error_size, "%s: %s", config->dir, strerror(-err));
		mdt_stop(mdt);
		mdt_close(mdt);
		return err;
	}
	if (!config->listen)
		report_state(mdt);
	*ret_mdt = mdt;
	return 0;
}

void mdt_stop(struct mdt *mdt)
{
	loop_timer_cancel(&mdt->word);
	mdt->service = service_free(mdt->service);
	mdt->mgs = mgs_client_free(mdt->mgs);
	mdt->links = ost_links_free(mdt->links);
}

struct mdt *mdt_close(struct mdt *mdt)
{
	if (!mdt)
		return NULL;
	loop_timer_cancel(&mdt->alone_over);
	if (mdt->begun) {
		loop_timer_cancel(&mdt->tick);
		loop_hook_remove(mdt->loop, LOOP_STAGE_STORE, &mdt->store_hook);
		flush_acks(mdt);
		give_back_numbers(mdt);
		mdt_log_write(mdt->log);
		checkpoint_run(mdt->checkpoint);
	}
	for (size_t i = 0; i < mdt->parked_count; i++)
		service_reply_error(mdt->parked[i], -ECANCELED);
	free(mdt->parked);
	waiting_free(mdt->waiting);
	checkpoint_free(mdt->checkpoint);
	mdt_log_close(mdt->log);
	view_close(mdt->state.view);
	locks_free(mdt->locks);
	free(mdt->fences);
	leases_free(mdt->leases);
	opens_free(mdt->opens);
	free(mdt->payload);
	free(mdt);
	return NULL;
}
