/* What index.c and index_recover.c share. */
#ifndef STRAKE_OSS_INDEX_INTERNAL_H
#define STRAKE_OSS_INDEX_INTERNAL_H

#include "common/fiber.h"
#include "oss/index.h"
#include "oss/index_changes.h"

#include <lmdb.h>
#include <pthread.h>

struct index {
	struct loop *loop; /* NULL before index_start() */
	char path[4096];
	MDB_env *env;
	MDB_dbi meta, dbi[INDEX_KINDS];
	uint64_t clean_instance; /* as which it was stopped; 0: not cleanly */

	/* The loop's. */
	MDB_txn *snapshot; /* read-only; renewed after each commit */
	MDB_cursor *cursor[INDEX_KINDS];
	struct index_changes *announced, *pending;
	uint64_t last;         /* number of the last change */
	uint64_t frozen_last;  /* of the last one in frozen */
	uint64_t durable_last; /* of the last one in LMDB */
	uint64_t failures;     /* commits that failed */
	int err;               /* the last failure's */
	bool broken;           /* one was refused by the disk: there is none any more */
	bool committing;       /* the thread has been told to commit what is frozen */
	struct fiber_queue waiters;
	struct loop_timer timer;
	struct loop_post done; /* the thread has finished a commit */
	int done_err;

	/* Read by both while a commit runs, changed by nobody; set by the loop between commits. */
	struct index_changes *frozen;

	bool map_full_said; /* the thread's */
	pthread_t thread;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t work;
	bool wanted, stop;
};

/* LMDB's error numbers as ours. */
int index_errno(int rc);
_Noreturn void index_die(const struct index *index, const char *why);

MDB_val index_key_bytes(uint8_t bytes[INDEX_KEY_SIZE], const struct index_key *key);

/* Make one change in a transaction. An LMDB error. */
int index_apply(struct index *index, MDB_txn *txn, const struct index_key *key, const union index_value *value);
/* Read a row in a transaction: -ENOENT, -EBADMSG. */
int index_read(struct index *index, MDB_txn *txn, const struct index_key *key, union index_value *ret_value);

/* One more change is in pending: have it committed some time. */
void index_changed(struct index *index);

#endif
