/*
 * One OST: the chunk objects of one data directory, served to clients and the MDT.
 *
 *     request -> a fiber -> file (ost_file.h: cut or destroyed?) -> object (ost_object.h: open, in turn) -> disk -> reply
 *
 *   - All of it belongs to one loop and its thread; beside it run the index thread (index.h) and the helper (helper.h).
 *   - Life: ost_open() (may block, any thread) -> ost_start() (on its loop) -> ost_stop() (in a fiber of it) ->
 *     ost_close().
 *   - `instance` stands for what this OST was told and has not synced: it is new after every sync that failed, and with
 *     every start that cannot show that nothing of it is lost (a clean stop, or the ledger). A client whose unstable
 *     writes were answered with another one sends them again.
 */
#ifndef STRAKE_OSS_OST_H
#define STRAKE_OSS_OST_H

#include "common/identity.h"
#include "common/key.h"
#include "common/loop.h"
#include "common/mgs_client.h"
#include "common/service.h"
#include "common/slots.h"
#include "oss/data_pool.h"
#include "oss/disk.h"
#include "oss/group_sync.h"
#include "oss/helper.h"
#include "oss/index.h"
#include "oss/ledger.h"
#include "oss/object_path.h"
#include "oss/page_pipe.h"
#include "oss/session_table.h"

#include <stdbool.h>

/* Which writes go round the page cache. */
enum ost_direct {
	OST_DIRECT_NO,
	OST_DIRECT_AUTO, /* aligned ones of OST_DIRECT_AUTO_MIN and more: cheaper than filling fresh pages, and still cold */
	OST_DIRECT_YES, /* aligned ones of OST_DIRECT_MIN and more */
};
#define OST_DIRECT_ALIGN    4096u
#define OST_DIRECT_MIN      (64u * 1024)
#define OST_DIRECT_AUTO_MIN (256u * 1024)

#define OST_OBJECTS_OPEN_DEFAULT 4096u
#define OST_FULL_PERCENT_DEFAULT 95u

struct ost_config {
	const char *dir;                   /* borrowed for the OST's life */
	const char *ledger_dir;            /* where the ledger lies, borrowed; NULL: /dev/shm, if that is a tmpfs */
	const struct address_list *listen; /* port 0: any; borrowed */
	const struct key *key;             /* NULL: dir/cluster.key */
	struct address_list mgs;           /* none: do not register */
	struct peer_tally *mgs_tally;      /* of all of a program's OSTs; borrowed; may be NULL */
	int index;                         /* what the identity must say; -1: whatever */
	unsigned int full_percent;         /* 0: the default */
	unsigned int objects_open;         /* descriptors kept; 0: the default */
	enum ost_direct direct;
	uint64_t (*clock_ns)(void); /* of leases; NULL: CLOCK_BOOTTIME */

	/* The MGS refuses this OST for good: text says why. May be NULL. */
	void (*refused)(void *owner, const char *text);
	void *owner;
};

/* A write that runs: its session must not be gone before it is (write.c, sessions.c). */
struct running_write {
	uint64_t session;
	struct running_write *prev, *next;
};

/* Gens that no content has or will ever have (void.c): ranges that ascend and do not overlap. */
struct ost_void {
	uint64_t first;
	struct index_void row;
};
struct ost_voids {
	struct ost_void *ranges;
	size_t count;
	struct index_key at; /* so far the index has been swept */
	struct fiber_mutex busy;
};

struct ost_file;
struct ost_object;

#define OST_FILE_BUCKETS   16384u /* powers of two */
#define OST_OBJECT_BUCKETS 8192u

struct ost {
	struct ost_config config;
	struct identity identity;
	int identity_lock;
	struct key key;
	int objects_dir;
	bool syncfs_works; /* on FUSE it returns 0 and has asked nobody */
	uint16_t port;     /* the real one of the first address */
	uint64_t instance;
	bool recovered; /* the last stop was not clean: */
	bool kept;      /* but nothing is lost, and the instance is the same */
	struct index_recovery recovery;

	struct loop *loop;
	struct disk *disk;
	struct helper *helper;
	struct helper *syncer, *copier; /* for syncfs and for COPY alone, which take their time */
	struct helper *maker;           /* of new objects with their first bytes */
	struct index *index;
	struct ledger *ledger; /* NULL: there can be none */
	struct data_pool *buffers;
	struct page_pipes pipes;
	struct service *service; /* NULL once it stops */
	struct mgs_client *mgs;
	struct slot_table *slots;
	struct session_table sessions;
	uint64_t sessions_source; /* numbers the connections that brought tables */
	uint64_t
		sessions_epoch_ns; /* added to our clock in answers to them; random, so that no other OST's passes for it */

	uint64_t reads_by_sendfile; /* so many READs were answered without a copy */

	unsigned int running;    /* requests under way */
	struct fiber_queue idle; /* who waits for the last of them */
	struct running_write *writes;
	struct fiber_queue write_done; /* one of them has gone */
	struct fiber_mutex destroying; /* one DESTROY at a time */
	struct ost_voids voids;

	/* ost_file.c */
	struct ost_file *file_buckets[OST_FILE_BUCKETS];
	struct ost_file *file_idle_first, *file_idle_last; /* nobody uses them; the longest first */
	unsigned int file_count;

	/* ost_object.c */
	struct ost_object *object_buckets[OST_OBJECT_BUCKETS];
	struct ost_object *object_idle_first, *object_idle_last;
	unsigned int object_count; /* those that have a descriptor */
	struct group_sync folder_sync[OBJECT_FOLDERS], all_sync;

	/* capacity.c */
	struct mgs_capacity capacity;
	uint64_t io_errors;
	/*
	 * Files could not be unlinked, which index_recover() knows by their tombstone or their file's last cut. So the next start
	 * is one that looks for them; until then no tombstone goes, and no newer cut comes to those of left_cuts.
	 */
	bool left_behind;
	struct left_cut {
		uint64_t ino, gen;
	} * left_cuts;
	size_t left_cut_count;
	uint64_t io_error_said_ns; /* when the log was told of one last */
	bool direct_refused;       /* this filesystem does not take O_DIRECT */
	bool stopping, ticking;
	struct fiber_queue tick;
};

/* What the identity, the key or the index object to is said in error, with what to do about it. */
int ost_open(const struct ost_config *config, struct ost **ret_ost, char *error, size_t error_size);
int ost_start(struct ost *ost, struct loop *loop, char *error, size_t error_size);

/*
 * Take no more, finish what runs, make all of it durable and mark it clean. An error means that it could not be marked
 * clean: the next start looks at everything.
 */
int ost_stop(struct ost *ost);
struct ost *ost_close(struct ost *ost);

/* An object's I/O has failed: the target is DEGRADED from now on. Returns err. */
int ost_io_error(struct ost *ost, int err);
/* What was written and not committed may be lost: everybody is to send it again. */
void ost_new_instance(struct ost *ost);
/* For one more record of the ledger with so many sums. In a fiber; may have to commit everything first. */
void ost_ledger_make_room(struct ost *ost, size_t sum_count);

/* void.c. Of gens below the end all void ones have been destroyed. load: once the index has been started. -ENOMEM. */
bool ost_is_void(const struct ost *ost, uint64_t gen);
uint64_t ost_void_end(const struct ost *ost);
int ost_load_voids(struct ost *ost);

/* service_config's handle, handle.c: runs the operation in a fiber. */
void ost_handle(void *owner, struct request *request);

/* capacity.c: what to tell the MGS, from the last look; the look; and the fiber that looks now and then. */
void ost_capacity(void *owner, struct mgs_capacity *ret_capacity);
void ost_capacity_refresh(struct ost *ost); /* in a fiber, or before the loop runs */
void ost_tick(void *arg);

#endif
