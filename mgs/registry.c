#include "mgs/registry.h"
#include "common/address.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NSEC_PER_MS    UINT64_C(1000000)
#define HOSTNAME_BOUND 256
#define NEVER          UINT64_MAX
#define EPOCH_TOLD_MAX (UINT64_MAX / 2) /* nobody has counted so far: it is nonsense */

/*
 * Searched from end to end: some hundred targets with a heartbeat each second are less work than a table of them would
 * be to read.
 */
struct entry {
	Strake__Target *target; /* owned */
	uint64_t conn;          /* over which it speaks; 0: over none */
	uint64_t due_ns;        /* DOWN then; NEVER when it is DOWN already */
	bool heard;             /* since our own start */
	bool unstored;
	bool log_unstored; /* the end of its log has changed */
};

struct registry {
	struct entry *entries; /* by role, then index */
	size_t count, room;
	Strake__Target **targets; /* the same order: what the map points to */
	Strake__ClusterMap map;
	struct uuid fs;
	char *fs_name;
	bool capacity_changed;
};

int registry_new(const struct uuid *fs, const char *fs_name, uint64_t epoch, struct registry **ret_registry)
{
	struct registry *registry = calloc(1, sizeof(*registry));

	if (!registry)
		return -ENOMEM;
	registry->fs = *fs;
	registry->fs_name = strdup(fs_name);
	if (!registry->fs_name) {
		free(registry);
		return -ENOMEM;
	}
	strake__cluster_map__init(&registry->map);
	registry->map.fs_uuid = (ProtobufCBinaryData){ .data = registry->fs.bytes, .len = UUID_SIZE };
	registry->map.fs_name = registry->fs_name;
	registry->map.epoch = epoch;
	*ret_registry = registry;
	return 0;
}

struct registry *registry_free(struct registry *registry)
{
	if (!registry)
		return NULL;
	for (size_t i = 0; i < registry->count; i++)
		strake__target__free_unpacked(registry->entries[i].target, NULL);
	free(registry->entries);
	free(registry->targets);
	free(registry->fs_name);
	free(registry);
	return NULL;
}

/* --- targets ---------------------------------------------------------------------------------------------------- */

static bool address_is_sound(const char *text)
{
	char host[256];
	uint16_t port;

	return address_split(text, host, &port) == 0 && port != 0 && !address_host_is_wildcard(host);
}

static bool target_is_sound(const Strake__Target *target)
{
	struct uuid uuid;

	if (uuid_from_bytes(target->uuid.data, target->uuid.len, &uuid) || uuid_is_zero(&uuid))
		return false;
	if (target->role != STRAKE__TARGET_ROLE__TARGET_MDT && target->role != STRAKE__TARGET_ROLE__TARGET_OST)
		return false;
	if (target->index > REGISTRY_INDEX_MAX || target->instance == 0)
		return false;
	if (target->hostname && strnlen(target->hostname, HOSTNAME_BOUND) == HOSTNAME_BOUND)
		return false;
	if (target->n_address == 0 || target->n_address > ADDRESS_LIST_MAX)
		return false;
	for (size_t i = 0; i < target->n_address; i++)
		if (!address_is_sound(target->address[i]))
			return false;
	return true;
}

static bool target_state_is_living(Strake__TargetState state)
{
	return state == STRAKE__TARGET_STATE__TARGET_UP || state == STRAKE__TARGET_STATE__TARGET_FULL ||
	       state == STRAKE__TARGET_STATE__TARGET_DEGRADED;
}

static Strake__Target *target_copy(const Strake__Target *target)
{
	size_t size = strake__target__get_packed_size(target);
	uint8_t *packed = malloc(size);
	Strake__Target *copy;

	if (!packed)
		return NULL;
	strake__target__pack(target, packed);
	copy = strake__target__unpack(NULL, size, packed);
	free(packed);
	return copy;
}

static bool target_same_addresses(const Strake__Target *a, const Strake__Target *b)
{
	if (a->n_address != b->n_address)
		return false;
	for (size_t i = 0; i < a->n_address; i++)
		if (strcmp(a->address[i], b->address[i]) != 0)
			return false;
	return true;
}

/* In all that makes an epoch. */
static bool target_same(const Strake__Target *a, const Strake__Target *b)
{
	return a->state == b->state && a->instance == b->instance && a->has_pid == b->has_pid && a->pid == b->pid &&
	       strcmp(a->hostname ? a->hostname : "", b->hostname ? b->hostname : "") == 0 &&
	       target_same_addresses(a, b);
}

static bool target_same_capacity(const Strake__Target *a, const Strake__Target *b)
{
	return a->bytes_total == b->bytes_total && a->bytes_free == b->bytes_free &&
	       a->objects_total == b->objects_total && a->objects_free == b->objects_free;
}

static bool target_same_connections(const Strake__Target *a, const Strake__Target *b)
{
	return a->connections_tcp == b->connections_tcp && a->connections_rdma == b->connections_rdma;
}

/* --- entries ---------------------------------------------------------------------------------------------------- */

static struct entry *entry_by_uuid(struct registry *registry, const Strake__Target *target)
{
	for (size_t i = 0; i < registry->count; i++)
		if (memcmp(registry->entries[i].target->uuid.data, target->uuid.data, UUID_SIZE) == 0)
			return &registry->entries[i];
	return NULL;
}

static int place_compare(const Strake__Target *a, const Strake__Target *b)
{
	if (a->role != b->role)
		return a->role < b->role ? -1 : 1;
	if (a->index != b->index)
		return a->index < b->index ? -1 : 1;
	return 0;
}

/* Where a target of this role and index is (true), or belongs. */
static bool entry_place(const struct registry *registry, const Strake__Target *target, size_t *ret_place)
{
	size_t place = 0;

	while (place < registry->count && place_compare(registry->entries[place].target, target) < 0)
		place++;
	*ret_place = place;
	return place < registry->count && place_compare(registry->entries[place].target, target) == 0;
}

static int registry_grow(struct registry *registry)
{
	size_t room = registry->room > 0 ? registry->room * 2 : 16;
	struct entry *entries;
	Strake__Target **targets;

	if (registry->count < registry->room)
		return 0;
	entries = reallocarray(registry->entries, room, sizeof(*entries));
	if (!entries)
		return -ENOMEM;
	registry->entries = entries;
	targets = reallocarray(registry->targets, room, sizeof(*targets));
	if (!targets)
		return -ENOMEM;
	registry->targets = targets;
	registry->map.target = targets;
	registry->room = room;
	return 0;
}

/* A target that was never seen, at its place; the caller fills in the rest. */
static int entry_insert(struct registry *registry, const Strake__Target *target, struct entry **ret_entry)
{
	size_t place;
	Strake__Target *copy;
	int err;

	if (entry_place(registry, target, &place))
		return -EEXIST;
	if (registry->count >= REGISTRY_TARGETS_MAX)
		return -ENOSPC;
	err = registry_grow(registry);
	if (err)
		return err;
	copy = target_copy(target);
	if (!copy)
		return -ENOMEM;

	memmove(&registry->entries[place + 1], &registry->entries[place],
		(registry->count - place) * sizeof(*registry->entries));
	memmove(&registry->targets[place + 1], &registry->targets[place],
		(registry->count - place) * sizeof(*registry->targets));
	registry->entries[place] = (struct entry){ .target = copy, .due_ns = NEVER };
	registry->targets[place] = copy;
	registry->map.n_target = ++registry->count;
	*ret_entry = &registry->entries[place];
	return 0;
}

static void entry_changed(struct registry *registry, struct entry *entry)
{
	entry->unstored = true;
	registry->map.epoch++;
}

static bool entry_defends_itself(const struct entry *entry)
{
	return entry->heard && entry->conn != 0 && target_state_is_living(entry->target->state);
}

/* --- events ----------------------------------------------------------------------------------------------------- */

int registry_restore(struct registry *registry, const Strake__Target *target, uint64_t now_ns)
{
	struct entry *entry;
	int err;

	if (!target_is_sound(target) || target->state > STRAKE__TARGET_STATE__TARGET_DEGRADED)
		return -EINVAL;
	if (entry_by_uuid(registry, target))
		return -EEXIST;
	err = entry_insert(registry, target, &entry);
	if (err)
		return err;
	if (target_state_is_living(target->state))
		entry->due_ns = now_ns + REGISTRY_SILENCE_MS * NSEC_PER_MS;
	return 0;
}

/* Take over what the server says of itself now. */
static int entry_update(struct registry *registry, struct entry *entry, const Strake__Target *target)
{
	bool same = target_same(entry->target, target), same_capacity = target_same_capacity(entry->target, target);
	bool same_log = entry->target->log_index == target->log_index;
	Strake__Target *copy;

	if (same && same_capacity && same_log && target_same_connections(entry->target, target))
		return 0;
	copy = target_copy(target);
	if (!copy)
		return -ENOMEM;
	registry->targets[entry - registry->entries] = copy;
	strake__target__free_unpacked(entry->target, NULL);
	entry->target = copy;
	entry->log_unstored |= !same_log;
	if (!same)
		entry_changed(registry, entry);
	if (!same_capacity)
		registry->capacity_changed = true;
	return 0;
}

static int target_register(struct registry *registry, const Strake__Target *target, bool older, uint64_t conn,
			   uint64_t now_ns)
{
	struct entry *entry;
	int err;

	assert(conn != 0);
	if (!target_is_sound(target) || !target_state_is_living(target->state))
		return -EINVAL;

	entry = entry_by_uuid(registry, target);
	if (!entry) {
		err = entry_insert(registry, target, &entry);
		if (err)
			return err;
		entry_changed(registry, entry);
		registry->capacity_changed = true;
	} else {
		if (place_compare(entry->target, target) != 0)
			return -EINVAL;
		if (entry->target->instance != target->instance && entry_defends_itself(entry))
			return -EBUSY;
		if (entry->target->instance != target->instance && !older &&
		    target->log_index < entry->target->log_index)
			return -ESTALE;
		err = entry_update(registry, entry, target);
		if (err)
			return err;
	}
	entry->conn = conn;
	entry->heard = true;
	entry->due_ns = now_ns + REGISTRY_SILENCE_MS * NSEC_PER_MS;
	return 0;
}

int registry_register(struct registry *registry, const Strake__Target *target, uint64_t conn, uint64_t now_ns)
{
	return target_register(registry, target, false, conn, now_ns);
}

int registry_register_older(struct registry *registry, const Strake__Target *target, uint64_t conn, uint64_t now_ns)
{
	return target_register(registry, target, true, conn, now_ns);
}

bool registry_heard_epoch(struct registry *registry, const Strake__Target *target, uint64_t epoch)
{
	struct entry *entry = entry_by_uuid(registry, target);

	assert(entry);
	if (epoch <= registry->map.epoch || epoch > EPOCH_TOLD_MAX)
		return false;
	registry->map.epoch = epoch;
	entry_changed(registry, entry);
	return true;
}

void registry_conn_lost(struct registry *registry, uint64_t conn, uint64_t now_ns)
{
	uint64_t due_ns = now_ns + REGISTRY_RETURN_MS * NSEC_PER_MS;

	assert(conn != 0);
	for (size_t i = 0; i < registry->count; i++) {
		struct entry *entry = &registry->entries[i];

		if (entry->conn != conn)
			continue;
		entry->conn = 0;
		if (entry->due_ns != NEVER && entry->due_ns > due_ns)
			entry->due_ns = due_ns;
	}
}

uint64_t registry_due_ns(const struct registry *registry)
{
	uint64_t due_ns = NEVER;

	for (size_t i = 0; i < registry->count; i++)
		if (registry->entries[i].due_ns < due_ns)
			due_ns = registry->entries[i].due_ns;
	return due_ns;
}

void registry_tick(struct registry *registry, uint64_t now_ns)
{
	uint64_t first_ns = registry_due_ns(registry);
	uint64_t jump_ns = first_ns < now_ns ? now_ns - first_ns : 0;

	if (jump_ns < REGISTRY_JUMP_MS * NSEC_PER_MS)
		jump_ns = 0;
	for (size_t i = 0; i < registry->count; i++) {
		struct entry *entry = &registry->entries[i];

		if (entry->due_ns == NEVER)
			continue;
		entry->due_ns += jump_ns > 0 ? jump_ns + REGISTRY_RETURN_MS * NSEC_PER_MS : 0;
		if (entry->due_ns > now_ns)
			continue;
		entry->due_ns = NEVER;
		entry->target->state = STRAKE__TARGET_STATE__TARGET_DOWN;
		entry_changed(registry, entry);
	}
}

/* --- for others to read ----------------------------------------------------------------------------------------- */

const Strake__ClusterMap *registry_map(const struct registry *registry)
{
	return &registry->map;
}

const Strake__Target *registry_unstored(const struct registry *registry, size_t *cursor)
{
	while (*cursor < registry->count) {
		const struct entry *entry = &registry->entries[(*cursor)++];

		if (entry->unstored)
			return entry->target;
	}
	return NULL;
}

const Strake__Target *registry_unstored_log(const struct registry *registry, size_t *cursor)
{
	while (*cursor < registry->count) {
		const struct entry *entry = &registry->entries[(*cursor)++];

		if (entry->log_unstored && !entry->unstored)
			return entry->target;
	}
	return NULL;
}

void registry_stored(struct registry *registry, bool logs)
{
	for (size_t i = 0; i < registry->count; i++) {
		struct entry *entry = &registry->entries[i];

		if (entry->unstored || logs)
			entry->log_unstored = false;
		entry->unstored = false;
	}
}

bool registry_take_capacity_changed(struct registry *registry)
{
	bool changed = registry->capacity_changed;

	registry->capacity_changed = false;
	return changed;
}
