#include "common/lock_list.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define ROOM_MIN 4

void lock_list_release(struct lock_list *list)
{
	free(list->items);
	*list = (struct lock_list){ 0 };
}

/* A lock in the midst of another leaves two rests, and comes besides. */
int lock_list_reserve(struct lock_list *list)
{
	size_t room = list->room > 0 ? list->room : ROOM_MIN;
	struct lock *items;

	if (list->count + 2 <= list->room)
		return 0;
	while (room < list->count + 2)
		room *= 2;
	items = reallocarray(list->items, room, sizeof(*items));
	if (items == NULL)
		return -ENOMEM;
	list->items = items;
	list->room = room;
	return 0;
}

bool lock_same_holder(const struct lock *a, const struct lock *b)
{
	return a->kind == b->kind && a->session == b->session && a->owner == b->owner;
}

static bool overlap(const struct lock *a, const struct lock *b)
{
	return a->kind != LOCK_POSIX || (a->start <= b->end && b->start <= a->end);
}

bool lock_conflicts(const struct lock *a, const struct lock *b)
{
	return a->kind == b->kind && (a->type == LOCK_EXCLUSIVE || b->type == LOCK_EXCLUSIVE) &&
	       !lock_same_holder(a, b) && overlap(a, b);
}

/* May two locks of a holder be one? They overlap, or one begins where the other ends. */
static bool may_join(const struct lock *a, const struct lock *b)
{
	return a->type == b->type && a->handle == b->handle && (a->end == UINT64_MAX || b->start <= a->end + 1) &&
	       (b->end == UINT64_MAX || a->start <= b->end + 1);
}

static void take_out(struct lock_list *list, size_t i)
{
	list->items[i] = list->items[--list->count];
}

static void put_in(struct lock_list *list, const struct lock *lock)
{
	assert(list->count < list->room);
	list->items[list->count++] = *lock;
}

void lock_list_set(struct lock_list *list, const struct lock *lock)
{
	struct lock now = *lock, rests[2];
	size_t rest_count = 0, i = 0;

	assert(lock->start <= lock->end);
	while (i < list->count) {
		struct lock old = list->items[i];

		if (!lock_same_holder(&old, &now) || (!overlap(&old, &now) && !may_join(&old, &now))) {
			i++;
			continue;
		}
		take_out(list, i);
		if (old.kind != LOCK_POSIX)
			continue;
		if (may_join(&old, &now)) {
			now.start = old.start < now.start ? old.start : now.start;
			now.end = old.end > now.end ? old.end : now.end;
			continue;
		}
		/* Its locks do not overlap: only one of them reaches out below, and one above. */
		if (old.start < now.start) {
			assert(rest_count < 2);
			rests[rest_count] = old;
			rests[rest_count++].end = now.start - 1;
		}
		if (old.end > now.end) {
			assert(rest_count < 2);
			rests[rest_count] = old;
			rests[rest_count++].start = now.end + 1;
		}
	}
	for (i = 0; i < rest_count; i++)
		put_in(list, &rests[i]);
	if (now.type != LOCK_FREE)
		put_in(list, &now);
}

const struct lock *lock_list_conflict(const struct lock_list *list, const struct lock *lock)
{
	const struct lock *first = NULL;

	for (size_t i = 0; i < list->count; i++)
		if (lock_conflicts(&list->items[i], lock) && (first == NULL || list->items[i].start < first->start))
			first = &list->items[i];
	return first;
}

bool lock_list_holds(const struct lock_list *list, const struct lock *lock, enum lock_type type)
{
	for (size_t i = 0; i < list->count; i++)
		if (lock_same_holder(&list->items[i], lock) && list->items[i].type >= type &&
		    overlap(&list->items[i], lock))
			return true;
	return false;
}

bool lock_list_has(const struct lock_list *list, const struct lock *lock)
{
	for (size_t i = 0; i < list->count; i++) {
		const struct lock *held = &list->items[i];

		if (lock_same_holder(held, lock) && held->type == lock->type && held->handle == lock->handle &&
		    held->start <= lock->start && lock->end <= held->end)
			return true;
	}
	return false;
}

size_t lock_list_drop(struct lock_list *list, bool (*match)(const struct lock *lock, const void *arg), const void *arg)
{
	size_t before = list->count, i = 0;

	while (i < list->count)
		if (match(&list->items[i], arg))
			take_out(list, i);
		else
			i++;
	return before - list->count;
}

bool lock_of_owner(const struct lock *lock, const void *arg)
{
	return lock_same_holder(lock, arg);
}

bool lock_of_handle(const struct lock *lock, const void *arg)
{
	const struct lock *of = arg;

	return lock->session == of->session && lock->handle == of->handle;
}
