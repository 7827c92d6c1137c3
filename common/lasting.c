#include "common/lasting.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct piece {
	uint8_t *memory;
	size_t size;
	struct lasting_mark *marks;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct piece *pieces; /* by address */
static size_t count, room;

/* How many of them begin no later than there. */
static size_t count_until(const void *memory)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if ((uintptr_t)pieces[middle].memory <= (uintptr_t)memory)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool make_room(void)
{
	size_t more = room > 0 ? 2 * room : 64;
	struct piece *bigger;

	if (count < room)
		return true;
	bigger = realloc(pieces, more * sizeof(*bigger));
	if (bigger == NULL)
		return false;
	pieces = bigger;
	room = more;
	return true;
}

void lasting_add(void *memory, size_t size)
{
	size_t at;

	pthread_mutex_lock(&lock);
	if (make_room()) {
		at = count_until(memory);
		memmove(&pieces[at + 1], &pieces[at], (count - at) * sizeof(*pieces));
		pieces[at] = (struct piece){ .memory = memory, .size = size };
		count++;
	}
	pthread_mutex_unlock(&lock);
}

static void marks_free(struct lasting_mark *marks)
{
	while (marks != NULL) {
		struct lasting_mark *mark = marks;

		marks = mark->next;
		mark->free(mark);
	}
}

/* The lock is held until the marks are gone: who frees his owner may not overtake them. */
void lasting_remove(void *memory)
{
	size_t at;

	pthread_mutex_lock(&lock);
	at = count_until(memory);
	if (at > 0 && pieces[at - 1].memory == memory) {
		marks_free(pieces[at - 1].marks);
		memmove(&pieces[at - 1], &pieces[at], (count - at) * sizeof(*pieces));
		count--;
	}
	if (count == 0) {
		free(pieces);
		pieces = NULL;
		room = 0;
	}
	pthread_mutex_unlock(&lock);
}

static struct piece *piece_of(const void *memory, size_t size)
{
	size_t until = count_until(memory);
	struct piece *piece = until > 0 ? &pieces[until - 1] : NULL;
	uintptr_t offset = piece != NULL ? (uintptr_t)memory - (uintptr_t)piece->memory : 0;

	return piece != NULL && offset <= piece->size && size <= piece->size - offset ? piece : NULL;
}

static struct lasting_mark *mark_of(const struct piece *piece, const void *owner)
{
	struct lasting_mark *mark = piece->marks;

	while (mark != NULL && mark->owner != owner)
		mark = mark->next;
	return mark;
}

static struct lasting_mark *mark_add(struct piece *piece, const void *owner, struct lasting_mark *mark)
{
	if (mark == NULL)
		return NULL;
	mark->owner = owner;
	mark->next = piece->marks;
	piece->marks = mark;
	return mark;
}

struct lasting_mark *lasting_mark(const void *owner, const void *memory, size_t size,
				  struct lasting_mark *(*make)(const void *owner, void *piece, size_t piece_size))
{
	struct lasting_mark *mark = NULL;
	struct piece *piece;

	pthread_mutex_lock(&lock);
	piece = piece_of(memory, size);
	if (piece != NULL) {
		mark = mark_of(piece, owner);
		if (mark == NULL)
			mark = mark_add(piece, owner, make(owner, piece->memory, piece->size));
	}
	pthread_mutex_unlock(&lock);
	return mark;
}

static void marks_forget(struct piece *piece, const void *owner)
{
	struct lasting_mark **at = &piece->marks, *mark;

	while (*at != NULL && (*at)->owner != owner)
		at = &(*at)->next;
	mark = *at;
	if (mark == NULL)
		return;
	*at = mark->next;
	mark->free(mark);
}

void lasting_forget(const void *owner)
{
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < count; i++)
		marks_forget(&pieces[i], owner);
	pthread_mutex_unlock(&lock);
}
