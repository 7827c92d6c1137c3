#include "mds/alone.h"

#include "common/loop.h"

static struct alone_row *row_of(struct alone *alone, uint64_t dir)
{
	return &alone->rows[(dir * UINT64_C(0x9e3779b97f4a7c15)) >> 54]; /* Fibonacci hashing (Knuth, 6.4) */
}
_Static_assert(ALONE_ROWS == 1 << (64 - 54), "the hash is as wide as the table");

uint64_t alone_wait(struct alone *alone, uint64_t dir, uint64_t session, uint64_t now_ns)
{
	struct alone_row *row = row_of(alone, dir);
	uint64_t promised_ns = alone->start_ns + ALONE_HELD_MS * NSEC_PER_MSEC;

	if (row->dir == dir && row->session != session && row->until_ns > now_ns) {
		if (row->session != 0)
			row->shared_until_ns = now_ns + ALONE_SHARED_MS * NSEC_PER_MSEC;
		return row->until_ns;
	}
	return promised_ns > now_ns ? promised_ns : 0;
}

static bool is_shared(struct alone_row *row, uint64_t session, uint64_t now_ns)
{
	if (row->session != 0 && row->session != session && now_ns < row->added_ns + ALONE_SHARED_MS * NSEC_PER_MSEC)
		row->shared_until_ns = now_ns + ALONE_SHARED_MS * NSEC_PER_MSEC;
	return now_ns < row->shared_until_ns;
}

bool alone_add(struct alone *alone, uint64_t dir, uint64_t session, uint64_t now_ns)
{
	struct alone_row *row = row_of(alone, dir);
	bool shared;

	if (row->dir != dir) {
		if (row->until_ns > now_ns)
			return false;
		*row = (struct alone_row){ .dir = dir };
	}
	shared = is_shared(row, session, now_ns);
	if (shared || row->session != session)
		row->adds = 0;
	row->session = session;
	row->added_ns = now_ns;
	if (shared || ++row->adds < ALONE_ADDS)
		return false;
	row->until_ns = now_ns + ALONE_HELD_MS * NSEC_PER_MSEC;
	return true;
}

void alone_end(struct alone *alone, uint64_t session)
{
	for (unsigned int i = 0; i < ALONE_ROWS; i++) {
		if (alone->rows[i].session == session)
			alone->rows[i].session = 0;
	}
}
