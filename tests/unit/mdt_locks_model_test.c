/*
 * The table of locks against a model that is easy to believe: what each byte is held as by whom, a list of those that wait,
 * and deadlocks found by brute force. Random operations from a seed; the answers, who is granted what and when, and what is
 * held must be the same. Then the few things that a model of bytes does not show.
 */
#include "mds/locks.h"
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define BYTES       64
#define FILES       3
#define SESSIONS    2
#define PER_SESSION 3
#define OWNERS      (SESSIONS * PER_SESSION)
#define HANDLES     2 /* of each owner */
#define WAITERS_MAX 64
#define OPERATIONS  30000
#define SEEDS       5

struct held {
	enum lock_type type;
	uint64_t handle;
};

struct model_waiter {
	uint64_t id, ino;
	struct lock lock;
	bool granted; /* by the table */
};

struct model {
	unsigned int seed;
	struct locks *locks;
	struct held posix[FILES][OWNERS][BYTES];
	struct held flock[FILES][OWNERS];
	struct model_waiter waiters[WAITERS_MAX]; /* in order of arrival */
	size_t count;
	uint64_t next_id;
	struct lock_route *route;
	uint64_t grants[WAITERS_MAX]; /* by the table, since the operation began */
	size_t grant_count;
	unsigned int granted, queued, conflicts, deadlocks, waited; /* how often */
};

static unsigned int draw(struct model *model, unsigned int sides)
{
	return (unsigned int)rand_r(&model->seed) % sides;
}

static unsigned int owner_index(const struct lock *lock)
{
	return (unsigned int)((lock->session - 1) * PER_SESSION + lock->owner - 1);
}

static void note_granted(void *owner, const struct lock_route *route, uint64_t waiter)
{
	struct model *model = owner;

	ck_assert_ptr_eq(route, model->route);
	ck_assert_uint_lt(model->grant_count, WAITERS_MAX);
	model->grants[model->grant_count++] = waiter;
}

static void locks_begin(struct model *model)
{
	model->locks = locks_new(&(struct lock_events){ .owner = model, .granted = note_granted });
}

static struct lock draw_lock(struct model *model)
{
	unsigned int owner = draw(model, OWNERS);
	struct lock lock = {
		.kind = draw(model, 4) == 0 ? LOCK_FLOCK : LOCK_POSIX,
		.type = draw(model, 2) ? LOCK_EXCLUSIVE : LOCK_SHARED,
		.session = owner / PER_SESSION + 1,
		.owner = owner % PER_SESSION + 1,
	};

	lock.handle = lock.owner * 10 + draw(model, HANDLES);
	lock.start = draw(model, BYTES);
	lock.end = lock.start + draw(model, draw(model, 3) ? 8 : BYTES);
	if (lock.end >= BYTES)
		lock.end = BYTES - 1;
	if (lock.kind == LOCK_FLOCK) {
		lock.handle = lock.owner * 10 + 5;
		lock.start = 0;
		lock.end = UINT64_MAX;
	}
	return lock;
}

/* --- what the model says ------------------------------------------------------------------------------------------ */

static bool types_conflict(enum lock_type held, enum lock_type wanted)
{
	return held != LOCK_FREE && (held == LOCK_EXCLUSIVE || wanted == LOCK_EXCLUSIVE);
}

/* Is that owner in the way? */
static bool obstructs(const struct model *model, uint64_t ino, unsigned int owner, const struct lock *lock)
{
	if (owner == owner_index(lock))
		return false;
	if (lock->kind == LOCK_FLOCK)
		return types_conflict(model->flock[ino][owner].type, lock->type);
	for (uint64_t byte = lock->start; byte <= lock->end; byte++) {
		if (types_conflict(model->posix[ino][owner][byte].type, lock->type))
			return true;
	}
	return false;
}

static bool is_free(const struct model *model, uint64_t ino, const struct lock *lock)
{
	for (unsigned int owner = 0; owner < OWNERS; owner++) {
		if (obstructs(model, ino, owner, lock))
			return false;
	}
	return true;
}

static void hold(struct model *model, uint64_t ino, const struct lock *lock)
{
	struct held held = { lock->type, lock->type == LOCK_FREE ? 0 : lock->handle };

	if (lock->kind == LOCK_FLOCK) {
		model->flock[ino][owner_index(lock)] = held;
		return;
	}
	for (uint64_t byte = lock->start; byte <= lock->end; byte++)
		model->posix[ino][owner_index(lock)][byte] = held;
}

/* From each owner to those that he waits for, closed over: does one of those in the way wait for who asks? */
static bool model_deadlock(const struct model *model, uint64_t ino, const struct lock *lock)
{
	bool waits[OWNERS][OWNERS] = { 0 };
	unsigned int self = owner_index(lock);

	for (size_t i = 0; i < model->count; i++) {
		const struct model_waiter *waiter = &model->waiters[i];

		for (unsigned int o = 0; o < OWNERS && waiter->lock.kind == LOCK_POSIX; o++)
			waits[owner_index(&waiter->lock)][o] |= obstructs(model, waiter->ino, o, &waiter->lock);
	}
	for (unsigned int via = 0; via < OWNERS; via++)
		for (unsigned int a = 0; a < OWNERS; a++)
			for (unsigned int b = 0; b < OWNERS; b++)
				waits[a][b] |= waits[a][via] && waits[via][b];
	for (unsigned int o = 0; o < OWNERS; o++) {
		if (obstructs(model, ino, o, lock) && waits[o][self])
			return true;
	}
	return false;
}

static void forget_waiter(struct model *model, size_t i)
{
	model->count--;
	memmove(&model->waiters[i], &model->waiters[i + 1], (model->count - i) * sizeof(model->waiters[0]));
}

/* Who gets something now, in which order: the same as the table said. */
static void model_wake(struct model *model, uint64_t ino)
{
	size_t next = 0;

	for (size_t i = 0; i < model->count;) {
		struct model_waiter waiter = model->waiters[i];

		if (waiter.ino != ino || !is_free(model, ino, &waiter.lock)) {
			i++;
			continue;
		}
		ck_assert_uint_lt(next, model->grant_count);
		ck_assert_uint_eq(model->grants[next++], waiter.id);
		hold(model, ino, &waiter.lock);
		forget_waiter(model, i);
		model->waited++;
		i = 0;
	}
	ck_assert_uint_eq(next, model->grant_count);
	model->grant_count = 0;
}

/* --- operations --------------------------------------------------------------------------------------------------- */

static void ask(struct model *model, const struct lock_wish *wish)
{
	enum lock_outcome outcome = 0;
	const struct lock *lock = &wish->lock;
	struct lock conflict, old = *lock;
	uint64_t ino = wish->ino;

	ck_assert_int_eq(locks_take(model->locks, wish, &outcome, &conflict), 0);
	/* What waited under that name waits no longer, or keeps its place. */
	for (size_t i = 0; i < model->count; i++) {
		if (model->waiters[i].id != wish->waiter)
			continue;
		if (wish->wait && !is_free(model, ino, lock)) {
			ck_assert_int_eq(outcome, LOCK_QUEUED);
			ck_assert_uint_eq(model->grant_count, 0);
			return;
		}
		forget_waiter(model, i);
		break;
	}
	if (!is_free(model, ino, lock) && lock->kind == LOCK_FLOCK) {
		old.type = LOCK_FREE;
		if (model->flock[ino][owner_index(lock)].type != LOCK_FREE) {
			hold(model, ino, &old);
			model_wake(model, ino);
		}
	}
	switch (outcome) {
	case LOCK_GRANTED:
		ck_assert(is_free(model, ino, lock));
		hold(model, ino, lock);
		model_wake(model, ino);
		model->granted++;
		break;
	case LOCK_CONFLICT:
		ck_assert(!is_free(model, ino, lock) && !wish->wait);
		ck_assert(obstructs(model, ino, owner_index(&conflict), lock));
		model->conflicts++;
		break;
	case LOCK_DEADLOCK:
		ck_assert(!is_free(model, ino, lock) && wish->wait && lock->kind == LOCK_POSIX);
		ck_assert(model_deadlock(model, ino, lock));
		model->deadlocks++;
		break;
	case LOCK_QUEUED:
		ck_assert(!is_free(model, ino, lock) && wish->wait);
		ck_assert(lock->kind != LOCK_POSIX || !model_deadlock(model, ino, lock));
		model->waiters[model->count++] = (struct model_waiter){ .id = wish->waiter, .ino = ino, .lock = *lock };
		model->queued++;
		break;
	}
	ck_assert_uint_eq(model->grant_count, 0);
}

static void ask_new(struct model *model)
{
	struct lock_wish wish = { .ino = draw(model, FILES), .lock = draw_lock(model), .route = model->route };

	wish.wait = draw(model, 2) == 0 && model->count < WAITERS_MAX;
	if (wish.wait)
		wish.waiter = ++model->next_id;
	ask(model, &wish);
}

/* The push was lost, or a signal came. */
static void ask_again(struct model *model)
{
	const struct model_waiter *waiter;

	if (model->count == 0)
		return;
	waiter = &model->waiters[draw(model, (unsigned int)model->count)];
	ask(model, &(struct lock_wish){ .ino = waiter->ino,
					.lock = waiter->lock,
					.waiter = waiter->id,
					.wait = draw(model, 2) == 0,
					.route = model->route });
}

static void give(struct model *model)
{
	struct lock lock = draw_lock(model);
	uint64_t ino = draw(model, FILES);

	lock.type = LOCK_FREE;
	locks_give(model->locks, ino, &lock);
	hold(model, ino, &lock);
	model_wake(model, ino);
}

static void drop_owner(struct model *model)
{
	struct lock lock = draw_lock(model);
	uint64_t ino = draw(model, FILES);

	locks_drop_owner(model->locks, ino, lock.session, lock.owner);
	memset(model->posix[ino][owner_index(&lock)], 0, sizeof(model->posix[ino][0]));
	model_wake(model, ino);
}

static void drop_handle(struct model *model)
{
	struct lock lock = draw_lock(model);
	uint64_t ino = draw(model, FILES);

	locks_drop_handle(model->locks, ino, lock.session, lock.handle);
	for (unsigned int owner = 0; owner < OWNERS; owner++) {
		if (owner / PER_SESSION + 1 != lock.session)
			continue;
		if (model->flock[ino][owner].handle == lock.handle)
			model->flock[ino][owner] = (struct held){ 0 };
		for (unsigned int byte = 0; byte < BYTES; byte++) {
			if (model->posix[ino][owner][byte].handle == lock.handle)
				model->posix[ino][owner][byte] = (struct held){ 0 };
		}
	}
	model_wake(model, ino);
}

static void drop_session(struct model *model)
{
	uint64_t session = draw(model, SESSIONS) + 1, grants[WAITERS_MAX];
	size_t count, found = 0;

	locks_drop_session(model->locks, session);
	ck_assert(!locks_has_session(model->locks, session));
	for (size_t i = 0; i < model->count;) {
		if (model->waiters[i].lock.session == session)
			forget_waiter(model, i);
		else
			i++;
	}
	memcpy(grants, model->grants, sizeof(grants));
	count = model->grant_count;
	/* Files come in no order: those of each are compared by themselves. */
	for (uint64_t ino = 0; ino < FILES; ino++) {
		for (unsigned int owner = 0; owner < PER_SESSION; owner++) {
			unsigned int index = (unsigned int)(session - 1) * PER_SESSION + owner;

			model->flock[ino][index] = (struct held){ 0 };
			memset(model->posix[ino][index], 0, sizeof(model->posix[ino][0]));
		}
		model->grant_count = 0;
		for (size_t i = 0; i < count; i++) {
			for (size_t n = 0; n < model->count; n++) {
				if (model->waiters[n].id == grants[i] && model->waiters[n].ino == ino)
					model->grants[model->grant_count++] = grants[i];
			}
		}
		found += model->grant_count;
		model_wake(model, ino);
	}
	ck_assert_uint_eq(found, count);
}

/* Another MDT: what is held is told again, a part at a time; who waited asks anew, or does not. */
static void restart(struct model *model)
{
	locks_free(model->locks);
	locks_begin(model);
	model->count = 0;
	for (uint64_t ino = 0; ino < FILES; ino++) {
		for (unsigned int owner = 0; owner < OWNERS; owner++) {
			struct lock lock = { .session = owner / PER_SESSION + 1, .owner = owner % PER_SESSION + 1 };
			const struct held *flock = &model->flock[ino][owner];

			for (unsigned int byte = 0; byte < BYTES; byte++) {
				const struct held *held = &model->posix[ino][owner][byte];

				if (held->type == LOCK_FREE)
					continue;
				lock.kind = LOCK_POSIX;
				lock.type = held->type;
				lock.handle = held->handle;
				lock.start = lock.end = byte;
				ck_assert_int_eq(locks_reclaim(model->locks, ino, &lock, model->route), 0);
			}
			if (flock->type == LOCK_FREE)
				continue;
			lock.kind = LOCK_FLOCK;
			lock.type = flock->type;
			lock.handle = flock->handle;
			lock.start = 0;
			lock.end = UINT64_MAX;
			ck_assert_int_eq(locks_reclaim(model->locks, ino, &lock, model->route), 0);
		}
	}
	ck_assert_uint_eq(model->grant_count, 0);
}

static void compare(struct model *model)
{
	struct lock conflict;
	struct locks_stats stats;

	for (uint64_t ino = 0; ino < FILES; ino++) {
		for (unsigned int owner = 0; owner < OWNERS; owner++) {
			struct lock lock = { .session = owner / PER_SESSION + 1, .owner = owner % PER_SESSION + 1 };

			for (unsigned int i = 0; i < 2 * BYTES + 2; i++) {
				lock.kind = i < 2 * BYTES ? LOCK_POSIX : LOCK_FLOCK;
				lock.type = i % 2 ? LOCK_EXCLUSIVE : LOCK_SHARED;
				lock.start = lock.end = i / 2 % BYTES;
				/* Not an assertion each: Check notes every one in a file. */
				if (locks_test(model->locks, ino, &lock, &conflict) != is_free(model, ino, &lock))
					ck_abort_msg("file %u, owner %u, probe %u", (unsigned int)ino, owner, i);
			}
		}
	}
	locks_stats(model->locks, &stats);
	ck_assert_uint_eq(stats.waiting, model->count);
}

START_TEST(random_operations_do_as_the_model)
{
	struct model model = { .seed = (unsigned int)_i + 1 };
	struct locks_stats stats;

	printf("seed %d\n", _i + 1);
	model.route = lock_route_new(NULL);
	locks_begin(&model);
	for (unsigned int n = 0; n < OPERATIONS; n++) {
		unsigned int die = draw(&model, 100);

		if (die < 55)
			ask_new(&model);
		else if (die < 65)
			ask_again(&model);
		else if (die < 80)
			give(&model);
		else if (die < 88)
			drop_owner(&model);
		else if (die < 96)
			drop_handle(&model);
		else if (die < 97)
			drop_session(&model);
		else if (die < 98)
			restart(&model);
		if (n % 50 == 0)
			compare(&model);
	}
	compare(&model);
	printf("granted %u, after waiting %u, queued %u, conflicts %u, deadlocks %u\n", model.granted, model.waited,
	       model.queued, model.conflicts, model.deadlocks);
	ck_assert(model.granted > 1000 && model.waited > 500 && model.conflicts > 1000 && model.deadlocks > 100);

	for (uint64_t session = 1; session <= SESSIONS; session++)
		locks_drop_session(model.locks, session);
	locks_stats(model.locks, &stats);
	ck_assert_uint_eq(stats.held + stats.waiting + stats.files, 0);
	locks_free(model.locks);
	ck_assert_uint_eq(model.route->refs, 1);
	lock_route_put(model.route);
}
END_TEST

static struct lock posix_lock(uint64_t owner, enum lock_type type, uint64_t start, uint64_t end)
{
	return (struct lock){
		.kind = LOCK_POSIX, .type = type, .session = 1, .owner = owner, .start = start, .end = end
	};
}

static enum lock_outcome take(struct locks *locks, uint64_t ino, struct lock lock, uint64_t waiter)
{
	enum lock_outcome outcome = 0;
	struct lock conflict;

	ck_assert_int_eq(
		locks_take(locks, &(struct lock_wish){ .ino = ino, .lock = lock, .waiter = waiter, .wait = waiter > 0 },
			   &outcome, &conflict),
		0);
	return outcome;
}

START_TEST(ranges_reach_to_the_end)
{
	struct locks *locks = locks_new(&(struct lock_events){ 0 });
	struct lock conflict;
	struct lock probe = posix_lock(2, LOCK_SHARED, UINT64_MAX, UINT64_MAX);
	struct locks_stats stats;

	ck_assert_int_eq(take(locks, 7, posix_lock(1, LOCK_EXCLUSIVE, 100, UINT64_MAX), 0), LOCK_GRANTED);
	ck_assert_int_eq(take(locks, 7, posix_lock(1, LOCK_EXCLUSIVE, 0, 99), 0), LOCK_GRANTED);
	locks_stats(locks, &stats);
	ck_assert_uint_eq(stats.held, 1);
	ck_assert(!locks_test(locks, 7, &probe, &conflict));
	ck_assert_uint_eq(conflict.start, 0);
	ck_assert_uint_eq(conflict.end, UINT64_MAX);
	probe = posix_lock(1, LOCK_FREE, 50, 59);
	locks_give(locks, 7, &probe);
	locks_stats(locks, &stats);
	ck_assert_uint_eq(stats.held, 2);

	/* Of several that are in the way the first is told, in whatever order they came. */
	ck_assert_int_eq(take(locks, 8, posix_lock(1, LOCK_EXCLUSIVE, 20, 29), 0), LOCK_GRANTED);
	ck_assert_int_eq(take(locks, 8, posix_lock(1, LOCK_SHARED, 5, 9), 0), LOCK_GRANTED);
	ck_assert_int_eq(take(locks, 8, posix_lock(1, LOCK_EXCLUSIVE, 40, 49), 0), LOCK_GRANTED);
	probe = posix_lock(2, LOCK_EXCLUSIVE, 0, UINT64_MAX);
	ck_assert(!locks_test(locks, 8, &probe, &conflict));
	ck_assert_uint_eq(conflict.start, 5);
	ck_assert_int_eq(conflict.type, LOCK_SHARED);
	locks_free(locks);
}
END_TEST

/* A chain of many owners over as many files, closed at its end: without recursion. */
START_TEST(long_chains_are_followed)
{
	struct locks *locks = locks_new(&(struct lock_events){ 0 });
	const uint64_t count = 20000;

	for (uint64_t i = 1; i <= count; i++)
		ck_assert_int_eq(take(locks, i, posix_lock(i, LOCK_EXCLUSIVE, 0, 0), 0), LOCK_GRANTED);
	for (uint64_t i = 1; i < count; i++)
		ck_assert_int_eq(take(locks, i + 1, posix_lock(i, LOCK_EXCLUSIVE, 0, 0), i), LOCK_QUEUED);
	ck_assert_int_eq(take(locks, 1, posix_lock(count, LOCK_EXCLUSIVE, 0, 0), count), LOCK_DEADLOCK);
	ck_assert_int_eq(take(locks, 1, posix_lock(count + 1, LOCK_EXCLUSIVE, 0, 0), count), LOCK_QUEUED);
	locks_free(locks);
}
END_TEST

START_TEST(there_is_a_bound)
{
	struct locks *locks = locks_new(&(struct lock_events){ 0 });
	struct lock_wish wish = { .ino = 1, .lock = posix_lock(1, LOCK_SHARED, 0, 0) };
	enum lock_outcome outcome;
	struct lock conflict;
	int err = 0;

	/* The bound of one file, in one byte each of many owners: that is quick to enter. */
	for (uint64_t i = 0; i < LOCKS_PER_FILE && err == 0; i++) {
		wish.lock.owner = i + 1;
		wish.lock.kind = LOCK_POSIX;
		wish.lock.start = wish.lock.end = 2 * i;
		if (i % 64 == 0)
			err = locks_take(locks, &wish, &outcome, &conflict);
		else
			err = locks_reclaim(locks, wish.ino, &wish.lock, NULL);
	}
	ck_assert_int_eq(err, 0);
	/* Who has it and asks again, as an answer was lost, hears that he has it. */
	ck_assert_int_eq(locks_take(locks, &wish, &outcome, &conflict), 0);
	ck_assert_int_eq(outcome, LOCK_GRANTED);
	wish.lock.owner++;
	ck_assert_int_eq(locks_take(locks, &wish, &outcome, &conflict), -ENOLCK);
	locks_drop_owner(locks, 1, 1, 1);
	ck_assert_int_eq(locks_take(locks, &wish, &outcome, &conflict), 0);
	locks_free(locks);
}
END_TEST

static void note_recall(void *owner, const struct lock_route *route, uint64_t ino)
{
	ck_assert_ptr_nonnull(route);
	ck_assert_uint_eq(ino, 5);
	++*(unsigned int *)owner;
}

START_TEST(the_right_to_append_is_asked_back)
{
	unsigned int recalls = 0;
	struct locks *locks = locks_new(&(struct lock_events){ .owner = &recalls, .recall = note_recall });
	struct lock_route *routes[2] = { lock_route_new(NULL), lock_route_new(NULL) };
	struct lock_wish wish = {
		.ino = 5,
		.lock = { .kind = LOCK_APPEND, .type = LOCK_EXCLUSIVE, .session = 1, .end = UINT64_MAX },
		.waiter = 1,
		.wait = true,
		.route = routes[0],
	};
	enum lock_outcome outcome;
	struct lock conflict;

	ck_assert_int_eq(locks_take(locks, &wish, &outcome, &conflict), 0);
	ck_assert_int_eq(outcome, LOCK_GRANTED);
	locks_recall(locks, 5, 1);
	ck_assert_uint_eq(recalls, 0);
	locks_recall(locks, 5, 2);
	ck_assert_uint_eq(recalls, 1);

	wish.lock.session = 2;
	wish.route = routes[1];
	ck_assert_int_eq(locks_take(locks, &wish, &outcome, &conflict), 0);
	ck_assert_int_eq(outcome, LOCK_QUEUED);
	ck_assert_uint_eq(recalls, 2);
	/* Asked again, told again: the first word may be lost. */
	ck_assert_int_eq(locks_take(locks, &wish, &outcome, &conflict), 0);
	ck_assert_uint_eq(recalls, 3);

	/* Who gets it while others wait knows at once. */
	wish.lock.session = 3;
	ck_assert_int_eq(locks_take(locks, &wish, &outcome, &conflict), 0);
	recalls = 0;
	wish.lock.session = 1;
	locks_give(locks, 5, &wish.lock);
	ck_assert_uint_eq(recalls, 1);
	locks_drop_session(locks, 2);
	locks_drop_session(locks, 3);
	ck_assert_uint_eq(routes[1]->refs, 1);
	locks_free(locks);
	lock_route_put(routes[0]);
	lock_route_put(routes[1]);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mdt_locks_model");
	TCase *tcase = tcase_create("mdt_locks_model");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tcase, UNIT_TIMEOUT_S);
	tcase_add_loop_test(tcase, random_operations_do_as_the_model, 0, SEEDS);
	tcase_add_test(tcase, ranges_reach_to_the_end);
	tcase_add_test(tcase, long_chains_are_followed);
	tcase_add_test(tcase, there_is_a_bound);
	tcase_add_test(tcase, the_right_to_append_is_asked_back);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
