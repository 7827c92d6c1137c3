/*
 * The cluster map as a state machine: who belongs to the cluster, under which index, and how it is.
 *
 *     never seen --register--> living --silence, or its connection is lost and does not return--> DOWN --register-->
 * living
 *
 *   - An index belongs to one UUID for ever, and a UUID to one index.
 *   - A UUID has one living instance. Another one is refused, unless the first has gone silent or lost its connection.
 *   - The epoch grows by one with every change of a target but that of its capacity.
 *   - What the store remembers of a target counts as it was for REGISTRY_SILENCE_MS after our own start, so that a
 *     restart of the MGS takes nobody's servers away; but until it has been heard it defends no UUID.
 *   - Of an MDT the end of its durable log is known as it told it last. Another instance of it that tells less serves an
 *     older copy of the data directory, and is refused. That end alone makes no epoch; it is stored with all else of the
 *     target, and by itself when the owner wants it.
 *   - When time has jumped (the process did not run), everybody gets the time back: our own sleep is nobody's silence.
 *
 * Pure: no clock, no I/O. Times are CLOCK_MONOTONIC nanoseconds as the caller read them. Belongs to the MGS's loop.
 */
#ifndef STRAKE_MGS_REGISTRY_H
#define STRAKE_MGS_REGISTRY_H

#include "common/uuid.h"
#include "proto/mgs.pb-c.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REGISTRY_HEARTBEAT_MS 1000
#define REGISTRY_SILENCE_MS   5000 /* DOWN after so long without a word */
#define REGISTRY_RETURN_MS    2000 /* DOWN so long after the connection was lost */
#define REGISTRY_JUMP_MS      1000 /* a deadline seen so late means that we did not run */
#define REGISTRY_TARGETS_MAX  4096
#define REGISTRY_INDEX_MAX    UINT16_MAX

struct registry; /* opaque: registry.c */

/* An empty one, or, with registry_restore() for each, what the store remembers. -ENOMEM. */
int registry_new(const struct uuid *fs, const char *fs_name, uint64_t epoch, struct registry **ret_registry);
struct registry *registry_free(struct registry *registry);
/* -EINVAL: nothing that registry_register() would have let in; -EEXIST: twice. */
int registry_restore(struct registry *registry, const Strake__Target *target, uint64_t now_ns);

/*
 * A server tells who it is and how, on connection `conn` (a number that is never used twice, not 0).
 *
 * -EINVAL  it makes no sense, or its UUID has another role or index
 * -EEXIST  its index belongs to another UUID
 * -EBUSY   another instance of it lives
 * -ESTALE  another instance of it had a longer log
 * -ENOSPC  more than REGISTRY_TARGETS_MAX
 */
int registry_register(struct registry *registry, const Strake__Target *target, uint64_t conn, uint64_t now_ns);
/*
 * The operator says that this is an older copy of the server's data directory, and all there is: never -ESTALE, and what
 * another instance has told of its log is void, once this one is let in and not before.
 */
int registry_register_older(struct registry *registry, const Strake__Target *target, uint64_t conn, uint64_t now_ns);
/*
 * Whoever has been let in has a map of this epoch. True: it is above ours, as our store is an older copy; so ours leaps above
 * it, or nobody would take our maps any more.
 */
bool registry_heard_epoch(struct registry *registry, const Strake__Target *target, uint64_t epoch);
void registry_conn_lost(struct registry *registry, uint64_t conn, uint64_t now_ns);

/* Time has passed. Due at registry_due_ns() (UINT64_MAX: nobody is waited for). */
void registry_tick(struct registry *registry, uint64_t now_ns);
uint64_t registry_due_ns(const struct registry *registry);

/* As it stands, ordered by role and index. Borrowed until the next call that changes something. */
const Strake__ClusterMap *registry_map(const struct registry *registry);

/*
 * What is not in the store yet: the changed targets, one call each (NULL: no more), cursor starting at 0. Nothing of it
 * may be told to anybody before it is stored; then registry_stored().
 */
const Strake__Target *registry_unstored(const struct registry *registry, size_t *cursor);
/* Likewise those of which nothing has changed but the end of their log: to be stored as well, or left for later. */
const Strake__Target *registry_unstored_log(const struct registry *registry, size_t *cursor);
/* What registry_unstored() said is stored; with logs also what registry_unstored_log() did. */
void registry_stored(struct registry *registry, bool logs);

/* Has a capacity changed since this was last asked? */
bool registry_take_capacity_changed(struct registry *registry);

#endif
