/*
 * What a mount knows of the servers: who serves which index (from the cluster map), and how they are doing. Shared by
 * all workers of a filesystem; thread-safe.
 */
#ifndef STRAKE_CLIENT_TARGETS_H
#define STRAKE_CLIENT_TARGETS_H

#include "common/ops.h"
#include "common/peer.h"
#include "common/uuid.h"
#include "proto/mgs.pb-c.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* --- the map: an immutable, counted copy of what matters of the MGS's -------------------------------------------- */

struct target {
	struct uuid uuid;
	enum role role;
	uint32_t index;
	size_t address_count;
	char **addresses;
};

struct target_map {
	_Atomic unsigned int refs;
	uint64_t epoch;
	size_t count;
	struct target targets[];
};

int target_map_new(const Strake__ClusterMap *wire, struct target_map **ret_map); /* -EPROTO, -ENOMEM */
void target_map_put(struct target_map *map);                                     /* NULL is fine */
const struct target *target_map_find(const struct target_map *map, enum role role,
				     uint32_t index); /* NULL: not there */

/* --- trouble: when to say that a target does not answer. Pure ---------------------------------------------------- */

#define TROUBLE_FIRST_NS (10 * NSEC_PER_SEC) /* said after that long */
#define TROUBLE_AGAIN_NS (60 * NSEC_PER_SEC) /* and then that often */

struct trouble {
	uint64_t since_ns; /* 0: none */
	uint64_t noted_ns; /* last time somebody had trouble */
	uint64_t said_ns;  /* 0: not said */
	uint64_t ended_ns; /* when it answered after the last trouble */
};

/* Somebody's request that began at began_ns is still unanswered. True: say so, now; *ret_seconds is for how long. */
bool trouble_note(struct trouble *trouble, uint64_t began_ns, uint64_t now_ns, unsigned int *ret_seconds);
/* Somebody got an answer. True: it had been said, so say this too. */
bool trouble_end(struct trouble *trouble, uint64_t now_ns);

/* --- targets ----------------------------------------------------------------------------------------------------- */

struct targets; /* opaque: targets.c */

/* What is kept of one target as long as the filesystem is mounted. */
struct target_state {
	struct target_state *next;
	enum role role;
	uint32_t index;
	_Atomic bool troubled;
	_Atomic bool silent;     /* it gave no sign of life when asked for one (probe.h) */
	struct trouble trouble;  /* guarded by the targets' lock */
	struct peer_tally tally; /* of all workers' peers */
};

struct targets *targets_new(void); /* NULL: no memory */
struct targets *targets_free(struct targets *targets);

void targets_set_map(struct targets *targets, struct target_map *map); /* takes the reference over */
struct target_map *targets_map(struct targets *targets);               /* with a reference; NULL before the first */

/* Finds or makes; lives as long as the targets. NULL: no memory. */
struct target_state *targets_state(struct targets *targets, enum role role, uint32_t index);

/* All that were asked for, MDTs first, in the order of their indices. tell() calls nothing of this. */
void targets_each(struct targets *targets, void (*tell)(void *arg, const struct target_state *state), void *arg);

/* A request for it that began at began_ns failed or waits: logs what the operator should know. */
void targets_trouble(struct targets *targets, struct target_state *state, uint64_t began_ns, const char *reason);
/* How many are in trouble or silent now. */
unsigned int targets_troubled(struct targets *targets);
/* It answered. Cheap when there was no trouble. */
void targets_well(struct targets *targets, struct target_state *state);

#endif
