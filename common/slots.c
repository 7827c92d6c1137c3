#include "common/slots.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS_MIN 64
#define SLOTS_MIN   8

enum slot_state { SLOT_STATE_UNUSED, SLOT_STATE_RUNNING, SLOT_STATE_FINISHED };

struct slot {
	enum slot_state state;
	uint32_t seq; /* of the request that runs or was the last to finish */
	void *waiter; /* while it runs */
	struct slot_reply reply;
};

struct session {
	struct session *next; /* in its bucket */
	uint64_t number;
	struct slot *slots;
	uint32_t slot_count;
};

struct slot_table {
	uint32_t slots_max;
	struct session **buckets;
	size_t bucket_count; /* a power of two */
	size_t session_count;
};

/* Numbers are given out one after the other; multiplied, they spread. */
static struct session **bucket_of(struct session **buckets, size_t count, uint64_t number)
{
	return &buckets[(number * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (count - 1)];
}

/* Where the session hangs; *link is NULL where there is none. */
static struct session **session_find(const struct slot_table *table, uint64_t number)
{
	struct session **link = bucket_of(table->buckets, table->bucket_count, number);

	while (*link != NULL && (*link)->number != number)
		link = &(*link)->next;
	return link;
}

/* Keep the chains short. Without memory they get longer, and that is all. */
static void table_grow(struct slot_table *table)
{
	size_t count = table->bucket_count * 2;
	struct session **buckets = calloc(count, sizeof(*buckets));

	if (buckets == NULL)
		return;
	for (size_t i = 0; i < table->bucket_count; i++) {
		while (table->buckets[i] != NULL) {
			struct session *session = table->buckets[i];
			struct session **bucket = bucket_of(buckets, count, session->number);

			table->buckets[i] = session->next;
			session->next = *bucket;
			*bucket = session;
		}
	}
	free(table->buckets);
	table->buckets = buckets;
	table->bucket_count = count;
}

static int session_get(struct slot_table *table, uint64_t number, struct session **ret_session)
{
	struct session **link = session_find(table, number);
	struct session *session = *link;

	if (session == NULL) {
		session = calloc(1, sizeof(*session));
		if (session == NULL)
			return -ENOMEM;
		session->number = number;
		*link = session;
		table->session_count++;
		if (table->session_count > table->bucket_count)
			table_grow(table);
	}
	*ret_session = session;
	return 0;
}

static int session_reserve(struct session *session, uint32_t slot, uint32_t slots_max)
{
	uint32_t count = session->slot_count == 0 ? SLOTS_MIN : session->slot_count;
	struct slot *slots;

	if (slot < session->slot_count)
		return 0;
	while (count <= slot)
		count *= 2;
	if (count > slots_max)
		count = slots_max;
	slots = reallocarray(session->slots, count, sizeof(*slots));
	if (slots == NULL)
		return -ENOMEM;
	memset(slots + session->slot_count, 0, (count - session->slot_count) * sizeof(*slots));
	session->slots = slots;
	session->slot_count = count;
	return 0;
}

/* Take it out of the table at its link, and free it. */
static void session_drop(struct slot_table *table, struct session **link, void (*drop)(void *waiter, void *arg),
			 void *arg)
{
	struct session *session = *link;

	*link = session->next;
	table->session_count--;
	for (uint32_t i = 0; i < session->slot_count; i++) {
		if (session->slots[i].state == SLOT_STATE_RUNNING && drop != NULL)
			drop(session->slots[i].waiter, arg);
	}
	free(session->slots);
	free(session);
}

int slot_table_new(uint32_t slots_max, struct slot_table **ret_table)
{
	struct slot_table *table = calloc(1, sizeof(*table));

	assert(slots_max > 0 && slots_max <= UINT32_MAX / 2);
	if (table == NULL)
		return -ENOMEM;
	table->slots_max = slots_max;
	table->bucket_count = BUCKETS_MIN;
	table->buckets = calloc(table->bucket_count, sizeof(struct session *));
	if (table->buckets == NULL) {
		free(table);
		return -ENOMEM;
	}
	*ret_table = table;
	return 0;
}

struct slot_table *slot_table_free(struct slot_table *table)
{
	if (table == NULL)
		return NULL;
	for (size_t i = 0; i < table->bucket_count; i++) {
		while (table->buckets[i] != NULL)
			session_drop(table, &table->buckets[i], NULL, NULL);
	}
	free(table->buckets);
	free(table);
	return NULL;
}

int slot_begin(struct slot_table *table, uint64_t session_number, uint32_t slot_number, uint32_t seq, void *waiter,
	       enum slot_verdict *ret_verdict, const struct slot_reply **ret_reply, void **ret_replaced)
{
	struct session *session;
	struct slot *slot;
	bool newer;
	int err;

	if (slot_number >= table->slots_max)
		return -EINVAL;
	err = session_get(table, session_number, &session);
	if (err == 0)
		err = session_reserve(session, slot_number, table->slots_max);
	if (err < 0)
		return err;

	slot = &session->slots[slot_number];
	newer = slot->state == SLOT_STATE_UNUSED || (int32_t)(seq - slot->seq) > 0;
	if (newer) {
		if (slot->state == SLOT_STATE_RUNNING)
			return -EAGAIN;
		slot->state = SLOT_STATE_RUNNING;
		slot->seq = seq;
		slot->waiter = waiter;
		*ret_verdict = SLOT_NEW;
		return 0;
	}
	if (seq != slot->seq)
		return -ESTALE;
	if (slot->state == SLOT_STATE_RUNNING) {
		*ret_replaced = slot->waiter;
		slot->waiter = waiter;
		*ret_verdict = SLOT_RUNNING;
		return 0;
	}
	*ret_reply = &slot->reply;
	*ret_verdict = SLOT_RESENT;
	return 0;
}

void *slot_finish(struct slot_table *table, uint64_t session_number, uint32_t slot_number, uint32_t seq, int err,
		  const void *body, size_t len)
{
	struct session *session = *session_find(table, session_number);
	struct slot *slot;
	void *waiter;

	assert(len <= SLOT_REPLY_MAX);
	if (session == NULL || slot_number >= session->slot_count)
		return NULL;
	slot = &session->slots[slot_number];
	if (slot->state != SLOT_STATE_RUNNING || slot->seq != seq)
		return NULL; /* dropped, and the session has come again since */

	waiter = slot->waiter;
	slot->waiter = NULL;
	slot->state = SLOT_STATE_FINISHED;
	slot->reply.err = err;
	slot->reply.len = len;
	if (len > 0)
		memcpy(slot->reply.body, body, len);
	return waiter;
}

void slots_keep_sessions(struct slot_table *table, bool (*keep)(uint64_t session, void *arg),
			 void (*drop)(void *waiter, void *arg), void *arg)
{
	for (size_t i = 0; i < table->bucket_count; i++) {
		struct session **link = &table->buckets[i];

		while (*link != NULL) {
			if (keep((*link)->number, arg))
				link = &(*link)->next;
			else
				session_drop(table, link, drop, arg);
		}
	}
}

size_t slots_session_count(const struct slot_table *table)
{
	return table->session_count;
}
