#include "client/targets.h"

#include "common/logger.h"
#include "common/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Trouble that nobody noted for so long is over or was never seen to end: nobody asked since. */
#define TROUBLE_FORGET_NS (30 * NSEC_PER_SEC)

struct targets {
	pthread_mutex_t lock; /* guards all below */
	struct target_map *map;
	struct target_state *states;
};

static void target_clear(struct target *target)
{
	for (size_t i = 0; i < target->address_count; i++)
		free(target->addresses[i]);
	free(target->addresses);
}

static int target_from_wire(const Strake__Target *wire, struct target *ret_target)
{
	static const enum role roles[] = {
		[STRAKE__TARGET_ROLE__TARGET_MGS] = ROLE_MGS,
		[STRAKE__TARGET_ROLE__TARGET_MDT] = ROLE_MDT,
		[STRAKE__TARGET_ROLE__TARGET_OST] = ROLE_OST,
	};
	struct target target = { .index = wire->index };

	if ((size_t)wire->role >= sizeof(roles) / sizeof(*roles))
		return -EPROTO;
	target.role = roles[wire->role];
	if (uuid_from_bytes(wire->uuid.data, wire->uuid.len, &target.uuid) < 0)
		return -EPROTO;
	target.addresses = calloc(wire->n_address + 1, sizeof(*target.addresses));
	if (target.addresses == NULL)
		return -ENOMEM;
	while (target.address_count < wire->n_address) {
		char *copy = strdup(wire->address[target.address_count]);

		if (copy == NULL) {
			target_clear(&target);
			return -ENOMEM;
		}
		target.addresses[target.address_count++] = copy;
	}
	*ret_target = target;
	return 0;
}

int target_map_new(const Strake__ClusterMap *wire, struct target_map **ret_map)
{
	struct target_map *map = calloc(1, sizeof(*map) + wire->n_target * sizeof(map->targets[0]));
	int err;

	if (map == NULL)
		return -ENOMEM;
	map->refs = 1;
	map->epoch = wire->epoch;
	for (size_t i = 0; i < wire->n_target; i++) {
		err = target_from_wire(wire->target[i], &map->targets[map->count]);
		if (err < 0) {
			target_map_put(map);
			return err;
		}
		map->count++;
	}
	*ret_map = map;
	return 0;
}

static struct target_map *target_map_ref(struct target_map *map)
{
	atomic_fetch_add(&map->refs, 1);
	return map;
}

void target_map_put(struct target_map *map)
{
	if (map == NULL || atomic_fetch_sub(&map->refs, 1) > 1)
		return;
	for (size_t i = 0; i < map->count; i++)
		target_clear(&map->targets[i]);
	free(map);
}

const struct target *target_map_find(const struct target_map *map, enum role role, uint32_t index)
{
	for (size_t i = 0; map != NULL && i < map->count; i++)
		if (map->targets[i].role == role && map->targets[i].index == index)
			return &map->targets[i];
	return NULL;
}

bool trouble_note(struct trouble *trouble, uint64_t began_ns, uint64_t now_ns, unsigned int *ret_seconds)
{
	if (trouble->since_ns != 0 && now_ns - trouble->noted_ns > TROUBLE_FORGET_NS && trouble->noted_ns < now_ns)
		*trouble = (struct trouble){ .ended_ns = trouble->ended_ns };
	if (trouble->since_ns == 0) /* what waits since before it last answered has no trouble for longer than that */
		trouble->since_ns = began_ns > trouble->ended_ns ? began_ns : trouble->ended_ns;
	trouble->noted_ns = now_ns;

	if (now_ns - trouble->since_ns < TROUBLE_FIRST_NS)
		return false;
	if (trouble->said_ns != 0 && now_ns - trouble->said_ns < TROUBLE_AGAIN_NS)
		return false;
	trouble->said_ns = now_ns;
	*ret_seconds = (unsigned int)((now_ns - trouble->since_ns) / NSEC_PER_SEC);
	return true;
}

bool trouble_end(struct trouble *trouble, uint64_t now_ns)
{
	bool said = trouble->said_ns != 0;

	*trouble = (struct trouble){ .ended_ns = now_ns };
	return said;
}

struct targets *targets_new(void)
{
	struct targets *targets = calloc(1, sizeof(*targets));

	if (targets != NULL)
		pthread_mutex_init(&targets->lock, NULL);
	return targets;
}

struct targets *targets_free(struct targets *targets)
{
	if (targets == NULL)
		return NULL;
	while (targets->states != NULL) {
		struct target_state *state = targets->states;

		targets->states = state->next;
		free(state);
	}
	target_map_put(targets->map);
	pthread_mutex_destroy(&targets->lock);
	free(targets);
	return NULL;
}

void targets_set_map(struct targets *targets, struct target_map *map)
{
	struct target_map *old;

	pthread_mutex_lock(&targets->lock);
	old = targets->map;
	targets->map = map;
	pthread_mutex_unlock(&targets->lock);
	target_map_put(old);
}

struct target_map *targets_map(struct targets *targets)
{
	struct target_map *map;

	pthread_mutex_lock(&targets->lock);
	map = targets->map == NULL ? NULL : target_map_ref(targets->map);
	pthread_mutex_unlock(&targets->lock);
	return map;
}

static bool is_before(const struct target_state *state, enum role role, uint32_t index)
{
	return state->role != role ? state->role < role : state->index < index;
}

struct target_state *targets_state(struct targets *targets, enum role role, uint32_t index)
{
	struct target_state **at = &targets->states, *state;

	pthread_mutex_lock(&targets->lock);
	while (*at != NULL && is_before(*at, role, index))
		at = &(*at)->next;
	state = *at;
	if (state == NULL || state->role != role || state->index != index) {
		state = calloc(1, sizeof(*state));
		if (state != NULL) {
			state->role = role;
			state->index = index;
			snprintf(state->tally.name, sizeof(state->tally.name), "%s%u", role_name(role), index);
			state->next = *at;
			*at = state;
		}
	}
	pthread_mutex_unlock(&targets->lock);
	return state;
}

void targets_each(struct targets *targets, void (*tell)(void *arg, const struct target_state *state), void *arg)
{
	pthread_mutex_lock(&targets->lock);
	for (const struct target_state *state = targets->states; state != NULL; state = state->next)
		tell(arg, state);
	pthread_mutex_unlock(&targets->lock);
}

/* Connections tell of themselves as "ADDRESS: what is wrong". */
static const char *without_address(const char *reason, const char *address)
{
	size_t len = strlen(address);

	return strncmp(reason, address, len) == 0 && strncmp(reason + len, ": ", 2) == 0 ? reason + len + 2 : reason;
}

void targets_trouble(struct targets *targets, struct target_state *state, uint64_t began_ns, const char *reason)
{
	const struct target *target;
	const char *address = "no address";
	unsigned int seconds = 0;
	bool say;

	pthread_mutex_lock(&targets->lock);
	state->troubled = true;
	say = trouble_note(&state->trouble, began_ns, clock_ns(), &seconds);
	if (say) {
		target = target_map_find(targets->map, state->role, state->index);
		if (target != NULL && target->address_count > 0)
			address = target->addresses[0];
		reason = without_address(reason, address);
		log_warning("%s%u (%s) does not answer since %u s: %s; retrying", role_name(state->role), state->index,
			    address, seconds, reason);
	}
	pthread_mutex_unlock(&targets->lock);
}

unsigned int targets_troubled(struct targets *targets)
{
	unsigned int count = 0;

	pthread_mutex_lock(&targets->lock);
	for (const struct target_state *state = targets->states; state != NULL; state = state->next)
		count += state->troubled || state->silent;
	pthread_mutex_unlock(&targets->lock);
	return count;
}

void targets_well(struct targets *targets, struct target_state *state)
{
	bool said;

	if (!atomic_load_explicit(&state->troubled, memory_order_relaxed))
		return;
	pthread_mutex_lock(&targets->lock);
	state->troubled = false;
	said = trouble_end(&state->trouble, clock_ns());
	pthread_mutex_unlock(&targets->lock);
	if (said)
		log_info("%s%u answers again", role_name(state->role), state->index);
}
