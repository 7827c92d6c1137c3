/*
 * SESSIONS: the MDT's table of those who may write. It is answered when no write of a session that lost its place runs any
 * more: then the MDT may give away what that session held. For one that takes long it is told so, and asks again: with the
 * answer comes the lease of all others.
 */
#include "oss/operations.h"

#include "common/status.h"

#include <errno.h>

#define RUNS_MS 1000 /* two of them are less than the MDT waits for an answer */

static bool keep(uint64_t session, void *arg)
{
	const struct ost *ost = arg;

	return session_table_has(&ost->sessions, session);
}

/* Its write may still run; its answer is this. */
static void drop(void *waiter, void *arg)
{
	(void)arg;
	service_reply_error(waiter, -ENOSESSION);
}

static bool revoked_write_runs(const struct ost *ost)
{
	for (const struct running_write *write = ost->writes; write; write = write->next) {
		if (!session_table_has(&ost->sessions, write->session))
			return true;
	}

	return false;
}

/* Connections are numbered when they bring their first table. */
static uint64_t source_of(struct ost *ost, struct service_conn *conn)
{
	uintptr_t number = (uintptr_t)service_conn_data(conn);

	if (number == 0) {
		number = (uintptr_t)++ost->sessions_source;
		service_conn_set_data(conn, (void *)number);
	}

	return number;
}

/* 0: it grants none. What the MDT has heard of another OST, or of this one before a restart, is a time out of all reason. */
static uint64_t lease_end_ns(const struct ost *ost, const Strake__SessionTable *table)
{
	uint64_t heard_ns = table->heard - ost->sessions_epoch_ns;

	if (!table->has_heard || heard_ns > ost->config.clock_ns())
		return 0;
	return heard_ns + table->lease_ms * NSEC_PER_MSEC;
}

void ost_sessions(struct ost *ost, struct request *request)
{
	const Strake__SessionTable *table = (const Strake__SessionTable *)request->body;
	Strake__SessionTableReply body = STRAKE__SESSION_TABLE_REPLY__INIT;
	uint64_t until_ns = clock_ns() + RUNS_MS * NSEC_PER_MSEC;
	bool revoked;
	int err = session_table_update(&ost->sessions, source_of(ost, request->conn), table->epoch, table->session,
				       table->n_session, table->newest, lease_end_ns(ost, table), &revoked);

	if (err == 0 && revoked)
		slots_keep_sessions(ost->slots, keep, drop, ost);
	/* Also for a table that was sent again because the answer took too long. */
	while (err == 0 && revoked_write_runs(ost) && clock_ns() < until_ns)
		fiber_wait_until(&ost->write_done, NULL, until_ns);
	body.has_runs = body.runs = err == 0 && revoked_write_runs(ost);
	body.now = ost->config.clock_ns() + ost->sessions_epoch_ns;
	service_reply(request, &(struct reply){ .err = err, .body = err == 0 ? &body.base : NULL });
}
