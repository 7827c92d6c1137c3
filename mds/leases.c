#include "mds/leases.h"

#include "common/logger.h"
#include "common/loop.h"
#include "mds/sessions.h"

#include <assert.h>
#include <stdlib.h>

#define LEASE_BUCKETS 4096

struct leases {
	struct lease *list[SESSIONS_MAX];
	size_t count, unreclaimed;
	struct lease *buckets[LEASE_BUCKETS];
};

struct leases *leases_new(void)
{
	struct leases *leases = calloc(1, sizeof(*leases));

	if (!leases)
		logger_die("out of memory for the table of sessions");
	return leases;
}

struct leases *leases_free(struct leases *leases)
{
	if (!leases)
		return NULL;
	for (size_t i = 0; i < leases->count; i++) {
		free(leases->list[i]->seqs);
		free(leases->list[i]);
	}
	free(leases);
	return NULL;
}

static struct lease **bucket_of(struct leases *leases, uint64_t session)
{
	return &leases->buckets[session % LEASE_BUCKETS];
}

struct lease *leases_add(struct leases *leases, uint64_t session, const struct uuid *client, uint32_t slots,
			 bool reclaimed, uint64_t now_ns)
{
	struct lease *lease = malloc(sizeof(*lease)), **bucket = bucket_of(leases, session);

	if (!lease)
		logger_die("out of memory for a session");
	assert(leases->count < SESSIONS_MAX);
	*lease = (struct lease){
		.session = session,
		.client = *client,
		.slots = slots,
		.reclaimed = reclaimed,
		.heard_ns = now_ns,
		.since_ns = now_ns,
		.hash_next = *bucket,
		.place = leases->count,
	};
	*bucket = lease;
	leases->list[leases->count++] = lease;
	if (!reclaimed)
		leases->unreclaimed++;
	return lease;
}

void leases_remove(struct leases *leases, uint64_t session)
{
	struct lease **at = bucket_of(leases, session), *lease;

	while (*at && (*at)->session != session)
		at = &(*at)->hash_next;
	lease = *at;
	if (!lease)
		return;
	*at = lease->hash_next;
	leases->list[lease->place] = leases->list[--leases->count];
	leases->list[lease->place]->place = lease->place;
	if (!lease->reclaimed)
		leases->unreclaimed--;
	free(lease->seqs);
	free(lease);
}

struct lease *leases_find(struct leases *leases, uint64_t session)
{
	struct lease *lease = *bucket_of(leases, session);

	while (lease && lease->session != session)
		lease = lease->hash_next;
	return lease;
}

struct lease *leases_find_client(struct leases *leases, const struct uuid *client)
{
	for (size_t i = 0; i < leases->count; i++) {
		if (uuid_equal(&leases->list[i]->client, client))
			return leases->list[i];
	}
	return NULL;
}

void leases_reclaim(struct leases *leases, struct lease *lease)
{
	if (!lease->reclaimed)
		leases->unreclaimed--;
	lease->reclaimed = true;
}

size_t leases_count(const struct leases *leases)
{
	return leases->count;
}

const struct lease *leases_at(const struct leases *leases, size_t place)
{
	assert(place < leases->count);
	return leases->list[place];
}

bool leases_others_unreclaimed(const struct leases *leases, uint64_t session)
{
	if (leases->unreclaimed != 1)
		return leases->unreclaimed > 0;
	for (size_t i = 0; i < leases->count; i++) {
		if (!leases->list[i]->reclaimed)
			return leases->list[i]->session != session;
	}
	return false;
}

bool lease_slot_is_noted(const struct lease *lease, uint32_t slot)
{
	assert(slot < lease->slots);
	return lease->seqs && lease->seqs[slot] != 0;
}

bool lease_slot_is_new(const struct lease *lease, uint32_t slot, uint32_t seq)
{
	return !lease_slot_is_noted(lease, slot) || (int32_t)(seq - lease->seqs[slot]) >= 0;
}

void lease_slot_note(struct lease *lease, uint32_t slot, uint32_t seq)
{
	assert(slot < lease->slots);
	if (!lease->seqs)
		lease->seqs = calloc(lease->slots, sizeof(*lease->seqs));
	if (!lease->seqs)
		logger_die("out of memory for a session's slots");
	lease->seqs[slot] = seq;
}

uint64_t leases_expired(const struct leases *leases, uint64_t now_ns)
{
	for (size_t i = 0; i < leases->count; i++) {
		const struct lease *lease = leases->list[i];

		if (now_ns > lease->heard_ns + SESSION_LEASE_MS * NSEC_PER_MSEC ||
		    (!lease->reclaimed && now_ns > lease->since_ns + LEASES_RECLAIM_MS * NSEC_PER_MSEC))
			return lease->session;
	}
	return 0;
}

void leases_excuse(struct leases *leases, uint64_t silence_ns)
{
	for (size_t i = 0; i < leases->count; i++) {
		leases->list[i]->heard_ns += silence_ns;
		leases->list[i]->since_ns += silence_ns;
	}
}
