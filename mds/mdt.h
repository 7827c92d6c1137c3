/*
 * One MDT: owns the state, the log, and everything volatile beside them.
 *
 *     serve.c: request -> session, slot -> admit() -> record --mdt_submit()--> log buffer, apply() -> reply
 *                                                        |  LOOP_STAGE_STORE: one pwrite of all records of the iteration
 *                                                        '  LOOP_STAGE_SEND: the replies leave
 *
 *   - All of it belongs to one loop and its thread; beside it run the log's sync thread and the checkpoint thread.
 *   - Life: mdt_open() (may block: reads, replays, listens) -> the loop runs; the MGS lets it in -> it serves -> mdt_stop()
 *     (in a fiber) -> mdt_close().
 *   - Until the MGS has let it in nothing is changed, nobody is served and no OST is spoken to: the data directory may be an
 *     older copy, whose MDT would give out numbers anew, and declare void what newer files have (mgs/registry.h).
 */
#ifndef STRAKE_MDS_MDT_H
#define STRAKE_MDS_MDT_H

#include "common/address.h"
#include "common/identity.h"
#include "common/key.h"
#include "common/mgs_client.h"
#include "common/peer.h"
#include "common/service.h"
#include "mds/admit.h"
#include "mds/alone.h"
#include "mds/apply.h"
#include "mds/checkpoint.h"
#include "mds/locks.h"
#include "mds/mdt_log.h"
#include "mds/waiting.h"

#define MDT_FENCE_MS    35000 /* an OST's lease, and what may be on its way to renew it */
#define MDT_TICK_MS     1000  /* leases and the disk are looked at so often */
#define MDT_MGS_WAIT_MS 5000  /* mgs_wait_ms, unless said otherwise */
#define MDT_ACKS_MAX    4096  /* in one record */
#define MDT_IDS_PER_LOG 65536 /* inodes in one record of the MDT's own */

struct mdt;

struct mdt_config {
	const char *dir;                   /* borrowed for the MDT's life, like all here */
	const struct address_list *listen; /* NULL: serve nothing and change nothing, only have the state at hand */
	const struct address_list *mgs;    /* empty: do not register, and know no OSTs */
	const struct identity *identity;
	const struct key *key;
	bool strict;      /* every change waits for stable storage */
	bool root_squash; /* root of any mount is nobody */
	bool keep_log;    /* all segments: the changelog */
	/* So long the MGS may take to let us in; when it cannot be reached until then, it is served without. */
	unsigned int mgs_wait_ms;
	bool has_go_on_from; /* an older copy, and the operator wants it so: valid while */
	uint64_t go_on_from; /* its last record is this one */

	void *owner;
	/* It serves from now on. May be NULL, and may come from within mdt_open(). */
	void (*serving)(void *owner, const struct mdt *mdt);
	/* The MGS refuses this server for good. */
	void (*refused)(void *owner, const char *text);
};

struct ost_links; /* ost_link.h */

/* What OSTs have done and no record says yet. */
struct mdt_acks {
	size_t destroyed, cuts;
	uint64_t destroyed_ino[MDT_ACKS_MAX], destroyed_gen[MDT_ACKS_MAX];
	uint32_t destroyed_ost[MDT_ACKS_MAX];
	uint64_t cut_ino[MDT_ACKS_MAX], cut_gen[MDT_ACKS_MAX], cut_number[MDT_ACKS_MAX];
	uint32_t cut_ost[MDT_ACKS_MAX];
};

/*
 * A session that has ended with locks. They are kept until no OST takes a WRITE of it any more: what it has still on its
 * way must not arrive after those of who gets them next.
 */
struct mdt_fence {
	uint64_t session;
	uint64_t index; /* of the session table without it */
	uint64_t since_ns;
};

struct mdt {
	struct mdt_config config;
	struct loop *loop;
	uint64_t instance; /* of this process: a client that sees another one tells again what it has open */

	struct state state;
	struct mdt_log *log;
	struct checkpoint *checkpoint;

	/* volatile */
	struct numbers numbers;
	struct opens *opens;
	struct leases *leases;
	struct layout_chooser chooser;
	struct admission admission; /* the above, for admit() */
	struct waiting *waiting;
	struct locks *locks;
	struct mdt_fence *fences;
	size_t fence_count;
	/* The last session that was evicted, with locks or without, or the start: until then admission.unfenced. */
	struct mdt_fence evicted;
	/*
	 * No lock is granted before the sessions of before the start have told what they hold, nor before those that ended
	 * just before it are fenced: nobody knows which of them held locks.
	 */
	struct mdt_fence start;
	bool start_is_over;
	bool map_known;
	struct mdt_acks acks;
	struct request **parked; /* wait for numbers, or until nobody is alone, in order of arrival */
	size_t parked_count, parked_max;
	struct alone alone;
	struct loop_timer alone_over; /* set while a request waits for that */

	struct service *service;
	char address[ADDRESS_SIZE]; /* where it listens, the first */
	struct mgs_client *mgs;
	struct peer_tally mgs_tally;
	struct ost_links *links;
	struct loop_hook store_hook;
	uint64_t found;         /* the last record, as the start found it */
	uint64_t dropped;       /* bytes of a torn tail behind it */
	bool older;             /* that is an older copy, and wanted so */
	bool begun;             /* it serves */
	bool is_in;             /* the MGS has let it in */
	struct loop_timer word; /* set while the MGS's word is waited for */
	struct loop_timer tick;
	uint64_t tick_at_ns; /* when it was due */
	uint64_t disk_total;
	bool changed;      /* since the last store */
	bool writers_owed; /* there was no room in the log to note who has what open for writing */

	/* scratch */
	struct record_space space;
	struct outcome outcome;
	uint8_t *payload; /* MDT_LOG_RECORD_MAX */
};

/* What the state, the log or the addresses object to is said in error. */
int mdt_open(struct loop *loop, const struct mdt_config *config, struct mdt **ret_mdt, char *error, size_t error_size);
/* In a fiber: no requests are taken any more, and no OST is spoken to. */
void mdt_stop(struct mdt *mdt);
/* A last checkpoint, and the end. */
struct mdt *mdt_close(struct mdt *mdt);

/* --- within the MDT ------------------------------------------------------------------------------------------------ */

/*
 * Append a record and apply it: mdt->outcome is what came out, the result its index. What the volatile tables and the OSTs
 * have to learn of it is seen to here.
 */
uint64_t mdt_submit(struct mdt *mdt, const struct record *record, const ProtobufCMessage *message);
/* The same for one of the MDT's own. */
uint64_t mdt_submit_own(struct mdt *mdt, enum record_op op, uint64_t session, const ProtobufCMessage *message);

/* May a lock be granted to that session? Not yet, after a start. */
bool mdt_grants_locks(struct mdt *mdt, uint64_t session);
/* The session has ended, and its record is made: its locks go when it is fenced. */
void mdt_end_locks(struct mdt *mdt, uint64_t session);
/* OSTs have been told, or time has passed. */
void mdt_look_at_fences(struct mdt *mdt);

/* writers.c: the session has the inode open for writing, or all that it has: records say so. */
void mdt_note_writer(struct mdt *mdt, uint64_t session, uint64_t ino);
void mdt_note_writers(struct mdt *mdt, uint64_t session);
/* Of all sessions: a checkpoint has begun, and what stood in the log before it is not read again. */
void mdt_note_all_writers(struct mdt *mdt);
/* A record of the log at the start, which has been applied. */
void mdt_presume_open(struct mdt *mdt, const struct record *record);

/* A session ends: what it had open, its slots, its lease. */
void mdt_evict(struct mdt *mdt, uint64_t session);
/* The session holds these no longer: where they are orphans of its, a record says so. */
void mdt_release(struct mdt *mdt, uint64_t session, const uint64_t *inos, size_t count);

/* An OST has answered, durably. Becomes a record at the end of the iteration. */
void mdt_destroyed(struct mdt *mdt, uint32_t ost, uint64_t ino, uint64_t gen);
void mdt_cut_done(struct mdt *mdt, uint32_t ost, uint64_t ino, uint64_t gen, uint64_t number);

/* serve.c: a request has come. */
void mdt_serve(void *mdt, struct request *request);
void mdt_refuse(struct mdt *mdt, struct request *request, int err);
/* Answer with what was read from the state. What tells of a cut that could still be lost waits (cut.h). */
void mdt_answer(struct mdt *mdt, struct request *request, int err, const struct answer *answer);

/* serve_lock.c: LOCK of a session's slot, LOCK_TEST, and the locks of RECLAIM. */
extern const struct lock_events mdt_lock_events; /* but for the owner */
void mdt_serve_lock(struct mdt *mdt, struct request *request);
void mdt_serve_lock_test(struct mdt *mdt, struct request *request);
void mdt_reclaim_locks(struct mdt *mdt, const struct request *request);
/* A connection is gone. */
void mdt_lock_route_gone(void *mdt, struct service_conn *conn);

#endif
