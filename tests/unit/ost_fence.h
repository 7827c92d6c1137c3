/*
 * What tests share of what an OST must not do, on top of ost_fixture.h: an object, an OST that runs again, one that is killed at a
 * call on its disk, and one whose writes are held just before it.
 */
#ifndef STRAKE_TESTS_OST_FENCE_H
#define STRAKE_TESTS_OST_FENCE_H

#include "tests/unit/ost_fixture.h"
#include "tests/unit/unit.h"

static const struct where a = { .ino = 100, .gen = 1 };

static inline struct where at_seq(struct where where, uint64_t seq)
{
	where.seq = seq;

	return where;
}

/* Run body on a fresh OST and, if there is one, after on the same one started again. */
static inline void run_bodies(void (*body)(void), void (*after)(void))
{
	fixture_format();
	fixture_run(body);
	if (after)
		fixture_run(after);
	temp_dir_remove(fixture_dir);
}

static inline void write_four(void)
{
	for (uint64_t seq = 0; seq < 4; seq++)
		assert(write_text(at_seq(a, seq), 0, "0123456789") == 0);
	assert(commit(a, NULL) == 0);
}

/* --- kills -------------------------------------------------------------------------------------------------------------- */

static enum disk_op deadly_op;
static int deadly_after;

static inline int die_at(void *arg, enum disk_op op)
{
	(void)arg;
	if (op == deadly_op && deadly_after-- == 0)
		kill_self();

	return 0;
}

/* Run body until that call on the disk has come for the (times + 1)st time, which kills it; then after. */
static inline void kill_at(void (*body)(void), void (*after)(void), enum disk_op op, int times)
{
	deadly_op = op;
	deadly_after = times;
	fixture_format();
	fixture_run_killed(body);
	fixture_run(after);
	temp_dir_remove(fixture_dir);
}

/* --- writes that are held ------------------------------------------------------------------------------------------------ */

static inline int write_as(uint64_t session)
{
	static uint32_t seq;

	return write_call(&(struct write_call){
		.where = a,
		.data = "x",
		.length = 1,
		.session = session,
		.slot = 0,
		.seq = ++seq,
	});
}

static struct fiber_queue gate;
static bool gate_closed;
static bool in_gate;

/* Holds every write just before the disk. */
static inline int wait_at_gate(void *arg, enum disk_op op)
{
	(void)arg;
	in_gate |= op == DISK_WRITE;
	while (op == DISK_WRITE && gate_closed)
		fiber_wait(&gate, NULL);

	return 0;
}

static inline void open_gate(void)
{
	gate_closed = false;
	fiber_wake_all(&gate);
}

static int write_result;
static bool write_over;

static inline void write_fiber(void *arg)
{
	(void)arg;
	write_result = write_as(SESSION);
	write_over = true;
}

static inline void wait_for(const bool *flag)
{
	while (!*flag)
		fiber_sleep_ms(1);
}

#endif
