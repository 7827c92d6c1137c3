/*
 * Which sessions may write here: the MDT's session table as this OST last heard it, and the lease under which it stands.
 *
 *   - Nobody may write before the first lease, nor after it has run out (the MDT may have given away what a session held).
 *     Times are the caller's, from one clock that also counts suspended time.
 *   - A lease begins when the MDT is known to have stood by the table, not when the table is read: it may have lain in a
 *     buffer for longer than the MDT waits for us.
 *   - `source` numbers the connections over which tables come, in the order they were made: a table of an older
 *     connection, or an older one of the same, is out of date and refused. The MDT's epoch may fall with a restart; its
 *     connections' numbers never do.
 *   - Pure: no clock, no I/O. Belongs to the OST's loop.
 */
#ifndef STRAKE_OSS_SESSION_TABLE_H
#define STRAKE_OSS_SESSION_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SESSION_TABLE_MAX 100000u

/* Zero-initialise it. */
struct session_table {
	uint64_t *sessions; /* ascending */
	size_t count;
	uint64_t source, epoch;
	uint64_t newest;
	uint64_t lease_end_ns;
	bool known; /* there was a table */
};

void session_table_release(struct session_table *table);

/*
 * Take a new table and its lease, if it ends later than the one at hand. ret_revoked (may be NULL): a session of the old
 * table is not in it.
 *
 * -ESTALE  older than what we have
 * -EINVAL  more than SESSION_TABLE_MAX sessions
 * -ENOMEM
 */
int session_table_update(struct session_table *table, uint64_t source, uint64_t epoch, const uint64_t *sessions,
			 size_t count, uint64_t newest, uint64_t lease_end_ns, bool *ret_revoked);

/*
 * May this session write now? 0, or
 * -EAGAIN      no table, no lease, or a session so new that we have not heard of it: ask again
 * -ENOSESSION  (common/status.h) it has been evicted
 */
int session_table_check(const struct session_table *table, uint64_t session, uint64_t now_ns);

bool session_table_has(const struct session_table *table, uint64_t session);

/* No session below this one lives or will: tombstones left for them alone may go. 0 before the first table. */
uint64_t session_table_lowest(const struct session_table *table);

#endif
