/*
 * Names that are surely not there, so that the LOOKUP before each create, rename or link need not be asked: the kernel
 * makes one each time, and it mostly finds nothing.
 *
 * It is known of a directory in which this session alone adds names just now (the MDT says so with each name that is
 * added, and for how long: mds/alone.h), and of which all names are known: because it was made here, or was read since
 * LOOKUPs that found nothing came often. Of names only hashes are kept, and rather too many than too few.
 *
 *     made:     absent_made()        the directory is new
 *     read:     absent_missed() -> absent_reading() -> absent_read()... -> absent_all_read()
 *     each of our own changes, before the kernel hears of it: absent_changed(), or absent_doubt()
 *     asked:    absent_is()
 *
 *   - attr.version tells whether anybody else has changed the directory: each change of ours says which it was before. If
 *     that is not the one known, what is known is forgotten.
 *   - A change is noted before the kernel hears of it, which lets nobody look for a new name while one of its own adds names
 *     in that directory: so nobody misses what was added here.
 *   - ABSENT_DIRS directories; one that finds its place taken by a directory which is in use is not known, nor one that has
 *     more than a million names, or would need more than there is for all: 32 MiB.
 *   - Of a directory more is read the more was missed, ABSENT_READ_PER_MISS names for each: a large one not for a few.
 *   - Who has no memory knows nothing. Thread-safe. Within libstrake only.
 */
#ifndef STRAKE_CLIENT_ABSENT_H
#define STRAKE_CLIENT_ABSENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ABSENT_DIRS          1024
#define ABSENT_SLOTS_MAX     (1u << 22) /* of 8 bytes; at least two for each name */
#define ABSENT_MISSES        32         /* LOOKUPs that found nothing, before a directory is read */
#define ABSENT_READ_PER_MISS 32
#define ABSENT_DOUBT_MS      60000 /* a change that was given up may come to pass so late */

struct absent; /* opaque: absent.c */

/* Slots for all directories, half of them for one: ABSENT_SLOTS_MAX, or another power of two. NULL: no memory. */
struct absent *absent_new(size_t slots_max);
struct absent *absent_free(struct absent *absent);

/* Made just now, by us, at attr.version. */
void absent_made(struct absent *absent, uint64_t dir, uint64_t version, uint64_t now_ns);

struct absent_change {
	uint64_t dir, version_before, version;
	uint64_t alone_until_ns; /* nobody else adds names before; 0: that was not said */
	const char *came, *gone; /* the names that it has got and lost; NULL: none */
	size_t came_len, gone_len;
};
/* A change of ours was answered. */
void absent_changed(struct absent *absent, const struct absent_change *change, uint64_t now_ns);
/* One that adds a name was given up, and may come to pass yet: for ABSENT_DOUBT_MS nothing is known. */
void absent_doubt(struct absent *absent, uint64_t now_ns);

/* The MDT has been started again, or we are in another session: what is known may be of what is lost. */
void absent_forget_all(struct absent *absent);

/* Is there surely no such name now? */
bool absent_is(struct absent *absent, uint64_t dir, const char *name, size_t len, uint64_t now_ns);

/* A LOOKUP has found nothing there. True: now the directory is worth reading, and the caller does it. */
bool absent_missed(struct absent *absent, uint64_t dir, uint64_t now_ns);

/* Reading it begins. The ticket is for the names, and good until the directory is forgotten; 0: it need not be read. */
uint64_t absent_reading(struct absent *absent, uint64_t dir);
/* False: too many, too many for now, or in vain. */
bool absent_read(struct absent *absent, uint64_t dir, uint64_t ticket, const char *name, size_t len);
/* These were all; complete: else reading has failed. */
void absent_all_read(struct absent *absent, uint64_t dir, uint64_t ticket, bool complete);

#endif
