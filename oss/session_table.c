#include "oss/session_table.h"

#include "common/status.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

void session_table_release(struct session_table *table)
{
	free(table->sessions);
	*table = (struct session_table){ 0 };
}

static bool contains(const uint64_t *sessions, size_t count, uint64_t session)
{
	return count > 0 && bsearch(&session, sessions, count, sizeof(*sessions), compare);
}

int session_table_update(struct session_table *table, uint64_t source, uint64_t epoch, const uint64_t *sessions,
			 size_t count, uint64_t newest, uint64_t lease_end_ns, bool *ret_revoked)
{
	bool revoked = false;
	uint64_t *copy;

	if (count > SESSION_TABLE_MAX)
		return -EINVAL;
	if (table->known && (source < table->source || (source == table->source && epoch < table->epoch)))
		return -ESTALE;
	copy = malloc((count + 1) * sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	if (count > 0)
		memcpy(copy, sessions, count * sizeof(*copy));
	qsort(copy, count, sizeof(*copy), compare);

	for (size_t i = 0; i < table->count && !revoked; i++)
		revoked = !contains(copy, count, table->sessions[i]);
	free(table->sessions);
	*table = (struct session_table){
		.sessions = copy,
		.count = count,
		.source = source,
		.epoch = epoch,
		.newest = newest,
		.lease_end_ns = lease_end_ns > table->lease_end_ns ? lease_end_ns : table->lease_end_ns,
		.known = true,
	};
	if (ret_revoked)
		*ret_revoked = revoked;

	return 0;
}

bool session_table_has(const struct session_table *table, uint64_t session)
{
	return contains(table->sessions, table->count, session);
}

int session_table_check(const struct session_table *table, uint64_t session, uint64_t now_ns)
{
	if (now_ns >= table->lease_end_ns) /* 0 before the first lease */
		return -EAGAIN;
	if (session_table_has(table, session))
		return 0;

	return session > table->newest ? -EAGAIN : -ENOSESSION;
}

uint64_t session_table_lowest(const struct session_table *table)
{
	if (!table->known)
		return 0;

	return table->count > 0 ? table->sessions[0] : table->newest + 1;
}
