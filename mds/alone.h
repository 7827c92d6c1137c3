/*
 * Which session alone gives a directory names, for now. It is told so with the answer to each name it adds: until
 * ALONE_MS after it had asked no other session adds one, so what it knows to be absent there is (client/absent.h), and
 * the LOOKUP before each create or rename need not come here. A lease (Gray and Cheriton, 1989) that is so short that it
 * is never called back: who else wants to add a name waits for its end.
 *
 *   - Only names that come matter; others may look, list, remove and change what is there. Whatever might add one waits, also
 *     a CREATE of what is there.
 *   - It is given from the ALONE_ADDS-th name on that a session adds with none of another's between. Where two that live
 *     have added names within ALONE_SHARED_MS, nobody is alone for as long. So where many add names one waits
 *     once in that time, or not at all.
 *   - As many directories as the table has rows, each in the row of its hash: one that finds it taken has no lease.
 *   - Memory only. What an MDT before this one has promised is over ALONE_HELD_MS after the start; until then nobody adds.
 *   - It assumes clocks that run: of a machine that is suspended (not of a process that is stopped) the rest of the 50 ms
 *     comes when it wakes.
 *   - Pure: times are arguments.
 */
#ifndef STRAKE_MDS_ALONE_H
#define STRAKE_MDS_ALONE_H

#include <stdbool.h>
#include <stdint.h>

#define ALONE_MS        50                        /* as the asker counts it, from when he asked */
#define ALONE_HELD_MS   (ALONE_MS + ALONE_MS / 4) /* as it is counted here, from the answer: clocks do not run alike */
#define ALONE_SHARED_MS 10000
#define ALONE_ADDS      3
#define ALONE_ROWS      1024

struct alone {
	uint64_t start_ns; /* 0: there was none before */
	struct alone_row {
		uint64_t dir, session; /* who has added the last name, 0: nobody who lives; */
		uint64_t added_ns;     /* then */
		uint64_t until_ns;     /* it is alone */
		uint64_t shared_until_ns;
		unsigned int adds; /* one after the other */
	} rows[ALONE_ROWS];
};

/*
 * The session wants to add a name in dir. 0: it may; else the time from when on it should try again. Then it is not the
 * only one, which is noted.
 */
uint64_t alone_wait(struct alone *alone, uint64_t dir, uint64_t session, uint64_t now_ns);

/* It adds one now, and may. May it be told that it is alone? */
bool alone_add(struct alone *alone, uint64_t dir, uint64_t session, uint64_t now_ns);

/* A session has ended. What it was promised stays promised. */
void alone_end(struct alone *alone, uint64_t session);

#endif
