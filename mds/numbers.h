/*
 * The numbers that inodes, gens and sessions get: each is given out once, for ever.
 *
 *     given out | free: below `end`, durably reserved | asked: reserved by a record that is not durable yet
 *
 * A range is reserved by RECORD_RESERVE, and none of it is given out before that record is on stable storage; a restart
 * goes on above the last reserved range. So no number comes twice, whatever tail of the log is lost. What was not given out
 * is given back at a clean stop, and void after any other (void.h). Pure.
 */
#ifndef STRAKE_MDS_NUMBERS_H
#define STRAKE_MDS_NUMBERS_H

#include <stdbool.h>
#include <stdint.h>

#define NUMBERS_BLOCK (UINT64_C(1) << 20)
/*
 * An older copy of the state, which has not all that was given out, goes on so much further: months of creates as fast as
 * they go, and an MDT has 2^48 numbers.
 */
#define NUMBERS_LEAP (UINT64_C(1) << 40)

/* How often it has gone on so, by what is reserved (or has given out as many numbers). */
static inline uint64_t numbers_leaps(uint64_t reserved)
{
	return reserved % (UINT64_C(1) << 48) / NUMBERS_LEAP;
}

struct numbers {
	uint64_t next, end;
	uint64_t asked_end, asked_index; /* 0: nothing asked */
};

/* Nothing below `reserved` is given out again. */
void numbers_init(struct numbers *numbers, uint64_t reserved);

/* Is it time to reserve more? Then up to *ret_up_to. */
bool numbers_run_low(const struct numbers *numbers, uint64_t *ret_up_to);
/* Record `index` reserves them. */
void numbers_asked(struct numbers *numbers, uint64_t up_to, uint64_t index);
void numbers_durable(struct numbers *numbers, uint64_t durable_index);

/* One number. -EAGAIN: none is free until more is durable. */
int numbers_take(struct numbers *numbers, uint64_t *ret_number);

#endif
