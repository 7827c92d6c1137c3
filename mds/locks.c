#include "mds/locks.h"

#include "common/logger.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define FILE_BUCKETS_MIN 1024
#define OWNER_BUCKETS    4096

struct waiter {
	struct waiter *next; /* in its file's queue */
	struct lock_file *file;
	struct lock lock;
	uint64_t id;
	struct lock_route *route;
	struct waiter *owner_next, **owner_link; /* in the bucket of its owner */
	uint64_t looked;                         /* the number of the search that was here last */
	struct waiter *look_next;                /* what that one has to go on with */
};

/* A file that somebody has a lock on, or waits for one. */
struct lock_file {
	uint64_t ino;
	struct lock_file *hash_next;
	struct lock_list held;
	struct waiter *first, **last;
	size_t waiting;
	struct lock_route *append_route; /* of who holds LOCK_APPEND */
};

struct locks {
	struct lock_events events;
	struct lock_file **files;
	size_t file_buckets; /* a power of two */
	size_t file_count, held, waiting;
	uint64_t searches;
	struct waiter *owners[OWNER_BUCKETS];
};

/* --- routes ------------------------------------------------------------------------------------------------------- */

struct lock_route *lock_route_new(void *to)
{
	struct lock_route *route = malloc(sizeof(*route));

	if (!route)
		logger_die("out of memory for a lock");
	*route = (struct lock_route){ .refs = 1, .to = to };
	return route;
}

static struct lock_route *route_ref(struct lock_route *route)
{
	if (route)
		route->refs++;
	return route;
}

void lock_route_put(struct lock_route *route)
{
	if (route && --route->refs == 0)
		free(route);
}

/* --- files -------------------------------------------------------------------------------------------------------- */

static size_t spread(uint64_t number, size_t buckets)
{
	return (size_t)((number * UINT64_C(0x9e3779b97f4a7c15)) >> 20) & (buckets - 1);
}

static void *alloc(size_t count, size_t size)
{
	void *memory = calloc(count, size);

	if (!memory)
		logger_die("out of memory for the table of locks");
	return memory;
}

struct locks *locks_new(const struct lock_events *events)
{
	struct locks *locks = alloc(1, sizeof(*locks));

	locks->events = *events;
	locks->file_buckets = FILE_BUCKETS_MIN;
	locks->files = alloc(locks->file_buckets, sizeof(struct lock_file *));
	return locks;
}

static struct lock_file **file_find(const struct locks *locks, uint64_t ino)
{
	struct lock_file **at = &locks->files[spread(ino, locks->file_buckets)];

	while (*at && (*at)->ino != ino)
		at = &(*at)->hash_next;
	return at;
}

static void files_grow(struct locks *locks)
{
	struct lock_file **old = locks->files;
	size_t old_buckets = locks->file_buckets;

	if (locks->file_count <= old_buckets)
		return;
	locks->file_buckets *= 2;
	locks->files = alloc(locks->file_buckets, sizeof(struct lock_file *));
	for (size_t i = 0; i < old_buckets; i++) {
		for (struct lock_file *file = old[i], *next; file; file = next) {
			struct lock_file **bucket = &locks->files[spread(file->ino, locks->file_buckets)];

			next = file->hash_next;
			file->hash_next = *bucket;
			*bucket = file;
		}
	}
	free(old);
}

static struct lock_file *file_get(struct locks *locks, uint64_t ino)
{
	struct lock_file **at = file_find(locks, ino), *file = *at;

	if (file)
		return file;
	file = alloc(1, sizeof(*file));
	file->ino = ino;
	file->last = &file->first;
	*at = file;
	locks->file_count++;
	files_grow(locks);
	return file;
}

static void file_put_if_idle(struct locks *locks, struct lock_file *file)
{
	struct lock_file **at;

	if (file->held.count > 0 || file->first)
		return;
	at = file_find(locks, file->ino);
	*at = file->hash_next;
	locks->file_count--;
	lock_route_put(file->append_route);
	lock_list_release(&file->held);
	free(file);
}

/* --- who waits ---------------------------------------------------------------------------------------------------- */

static struct waiter **owner_bucket(struct locks *locks, const struct lock *lock)
{
	return &locks->owners[spread(lock->owner ^ (lock->session << 32), OWNER_BUCKETS)];
}

static void waiter_add(struct locks *locks, struct lock_file *file, const struct lock_wish *wish)
{
	struct waiter *waiter = alloc(1, sizeof(*waiter)), **bucket = owner_bucket(locks, &wish->lock);

	waiter->file = file;
	waiter->lock = wish->lock;
	waiter->id = wish->waiter;
	waiter->route = route_ref(wish->route);
	*file->last = waiter;
	file->last = &waiter->next;
	file->waiting++;
	locks->waiting++;
	waiter->owner_next = *bucket;
	waiter->owner_link = bucket;
	if (*bucket)
		(*bucket)->owner_link = &waiter->owner_next;
	*bucket = waiter;
}

static void waiter_remove(struct locks *locks, struct waiter **at)
{
	struct waiter *waiter = *at;
	struct lock_file *file = waiter->file;

	*at = waiter->next;
	if (!*at)
		file->last = at;
	file->waiting--;
	locks->waiting--;
	*waiter->owner_link = waiter->owner_next;
	if (waiter->owner_next)
		waiter->owner_next->owner_link = waiter->owner_link;
	lock_route_put(waiter->route);
	free(waiter);
}

static struct waiter **waiter_find(struct lock_file *file, uint64_t session, uint64_t id)
{
	struct waiter **at = &file->first;

	while (*at && ((*at)->id != id || (*at)->lock.session != session))
		at = &(*at)->next;
	return at;
}

/* --- deadlocks ---------------------------------------------------------------------------------------------------- */

struct search {
	struct locks *locks;
	const struct lock *from;
	uint64_t number;
	struct waiter *list; /* waiters whose obstacles are not looked at yet */
};

/* The owner holds what somebody waits for: what does he wait for himself? */
static void search_owner(struct search *search, const struct lock *owner)
{
	struct waiter *waiter = *owner_bucket(search->locks, owner);

	for (; waiter; waiter = waiter->owner_next) {
		if (waiter->looked == search->number || !lock_same_holder(&waiter->lock, owner))
			continue;
		waiter->looked = search->number;
		waiter->look_next = search->list;
		search->list = waiter;
	}
}

/* Does one of those that are in the way of lock belong to who began the search? */
static bool search_file(struct search *search, const struct lock_file *file, const struct lock *lock)
{
	for (size_t i = 0; i < file->held.count; i++) {
		const struct lock *held = &file->held.items[i];

		if (!lock_conflicts(held, lock))
			continue;
		if (lock_same_holder(held, search->from))
			return true;
		search_owner(search, held);
	}
	return false;
}

/* If the lock were waited for: would its owner wait for himself? */
static bool would_deadlock(struct locks *locks, const struct lock_file *file, const struct lock *lock)
{
	struct search search = { .locks = locks, .from = lock, .number = ++locks->searches };

	if (search_file(&search, file, lock))
		return true;
	while (search.list) {
		const struct waiter *waiter = search.list;

		search.list = waiter->look_next;
		if (search_file(&search, waiter->file, &waiter->lock))
			return true;
	}
	return false;
}

/* --- grants ------------------------------------------------------------------------------------------------------- */

static void enter(struct locks *locks, struct lock_file *file, const struct lock *lock, struct lock_route *route)
{
	size_t before = file->held.count;

	if (lock_list_reserve(&file->held) < 0)
		logger_die("out of memory for a lock");
	lock_list_set(&file->held, lock);
	locks->held += file->held.count - before;
	if (lock->kind == LOCK_APPEND && lock->type != LOCK_FREE) {
		route_ref(route);
		lock_route_put(file->append_route);
		file->append_route = route;
	}
}

/* Somebody else waits for the right to append: its holder does not give it back by himself. */
static void recall_if_wanted(struct locks *locks, const struct lock_file *file)
{
	if (file->append_route && locks->events.recall)
		locks->events.recall(locks->events.owner, file->append_route, file->ino);
}

/* Something has become free. What is granted may take the place of more than it is, which again frees something. */
static void wake(struct locks *locks, struct lock_file *file)
{
	struct waiter **at = &file->first, *waiter;
	bool append_waits = false;

	while ((waiter = *at)) {
		if (lock_list_conflict(&file->held, &waiter->lock)) {
			append_waits |= waiter->lock.kind == LOCK_APPEND;
			at = &waiter->next;
			continue;
		}
		enter(locks, file, &waiter->lock, waiter->route);
		if (locks->events.granted && waiter->route)
			locks->events.granted(locks->events.owner, waiter->route, waiter->id);
		waiter_remove(locks, at);
		at = &file->first;
	}
	if (append_waits)
		recall_if_wanted(locks, file);
	file_put_if_idle(locks, file);
}

static bool is_full(const struct locks *locks, const struct lock_file *file)
{
	return file->held.count + file->waiting >= LOCKS_PER_FILE || locks->held + locks->waiting >= LOCKS_MAX;
}

/* flock(2) of another type than before is no change of the lock but a new one: what was held is given back first. */
static void convert(struct locks *locks, struct lock_file *file, const struct lock *lock)
{
	struct lock old = *lock;

	if (lock->kind != LOCK_FLOCK || !lock_list_holds(&file->held, lock, LOCK_SHARED))
		return;
	old.type = LOCK_FREE;
	enter(locks, file, &old, NULL);
	wake(locks, file);
}

int locks_take(struct locks *locks, const struct lock_wish *wish, enum lock_outcome *ret_outcome,
	       struct lock *ret_conflict)
{
	struct lock_file *file = file_get(locks, wish->ino);
	struct waiter **at = wish->waiter ? waiter_find(file, wish->lock.session, wish->waiter) : NULL;
	const struct lock *conflict = lock_list_conflict(&file->held, &wish->lock);
	int err = 0;

	assert(wish->lock.type != LOCK_FREE);
	if (at && *at && conflict && wish->wait) {
		route_ref(wish->route);
		lock_route_put((*at)->route);
		(*at)->route = wish->route;
		*ret_outcome = LOCK_QUEUED;
		if (wish->lock.kind == LOCK_APPEND)
			recall_if_wanted(locks, file);
		return 0;
	}
	if (at && *at)
		waiter_remove(locks, at);
	if (conflict) {
		convert(locks, file, &wish->lock);
		file = file_get(locks, wish->ino); /* it may have been dropped by that */
		conflict = lock_list_conflict(&file->held, &wish->lock);
	}

	/* Who was given it, by an answer that was lost or while he waited, is not told that he has it not. */
	if (is_full(locks, file) && !lock_list_has(&file->held, &wish->lock)) {
		err = -ENOLCK;
	} else if (!conflict) {
		enter(locks, file, &wish->lock, wish->route);
		*ret_outcome = LOCK_GRANTED;
		wake(locks, file); /* a weaker lock than before leaves something to others */
		return 0;
	} else if (!wish->wait) {
		*ret_conflict = *conflict;
		*ret_outcome = LOCK_CONFLICT;
	} else if (wish->lock.kind == LOCK_POSIX && would_deadlock(locks, file, &wish->lock)) {
		*ret_outcome = LOCK_DEADLOCK;
	} else {
		waiter_add(locks, file, wish);
		*ret_outcome = LOCK_QUEUED;
		if (wish->lock.kind == LOCK_APPEND)
			recall_if_wanted(locks, file);
	}
	file_put_if_idle(locks, file);
	return err;
}

bool locks_test(const struct locks *locks, uint64_t ino, const struct lock *lock, struct lock *ret_conflict)
{
	const struct lock_file *file = *file_find(locks, ino);
	const struct lock *conflict = file ? lock_list_conflict(&file->held, lock) : NULL;

	if (conflict)
		*ret_conflict = *conflict;
	return !conflict;
}

/* --- given back --------------------------------------------------------------------------------------------------- */

void locks_give(struct locks *locks, uint64_t ino, const struct lock *lock)
{
	struct lock_file *file = *file_find(locks, ino);
	struct lock free_now = *lock;

	if (!file)
		return;
	free_now.type = LOCK_FREE;
	enter(locks, file, &free_now, NULL);
	wake(locks, file);
}

static bool of_session(const struct lock *lock, const void *arg)
{
	return lock->session == *(const uint64_t *)arg;
}

static void drop(struct locks *locks, struct lock_file *file, bool (*match)(const struct lock *lock, const void *arg),
		 const void *arg)
{
	locks->held -= lock_list_drop(&file->held, match, arg);
	wake(locks, file);
}

void locks_drop_owner(struct locks *locks, uint64_t ino, uint64_t session, uint64_t owner)
{
	const struct lock of = { .kind = LOCK_POSIX, .session = session, .owner = owner };
	struct lock_file *file = *file_find(locks, ino);

	if (file)
		drop(locks, file, lock_of_owner, &of);
}

void locks_drop_handle(struct locks *locks, uint64_t ino, uint64_t session, uint64_t handle)
{
	const struct lock of = { .session = session, .handle = handle };
	struct lock_file *file = *file_find(locks, ino);

	if (file)
		drop(locks, file, lock_of_handle, &of);
}

void locks_drop_session(struct locks *locks, uint64_t session)
{
	for (size_t i = 0; i < locks->file_buckets; i++) {
		for (struct lock_file *file = locks->files[i], *next; file; file = next) {
			next = file->hash_next;
			for (struct waiter **at = &file->first; *at;) {
				if ((*at)->lock.session == session)
					waiter_remove(locks, at);
				else
					at = &(*at)->next;
			}
			drop(locks, file, of_session, &session);
		}
	}
}

bool locks_has_session(const struct locks *locks, uint64_t session)
{
	for (size_t i = 0; i < locks->file_buckets; i++) {
		for (const struct lock_file *file = locks->files[i]; file; file = file->hash_next) {
			for (size_t n = 0; n < file->held.count; n++) {
				if (file->held.items[n].session == session)
					return true;
			}
			for (const struct waiter *waiter = file->first; waiter; waiter = waiter->next) {
				if (waiter->lock.session == session)
					return true;
			}
		}
	}
	return false;
}

void locks_recall(struct locks *locks, uint64_t ino, uint64_t session)
{
	const struct lock wish = { .kind = LOCK_APPEND, .type = LOCK_EXCLUSIVE, .session = session, .end = UINT64_MAX };
	struct lock_file *file = *file_find(locks, ino);

	if (file && lock_list_conflict(&file->held, &wish))
		recall_if_wanted(locks, file);
}

int locks_reclaim(struct locks *locks, uint64_t ino, const struct lock *lock, struct lock_route *route)
{
	struct lock_file *file = file_get(locks, ino);
	int err = 0;

	if (lock_list_conflict(&file->held, lock))
		err = -EBUSY;
	else if (is_full(locks, file))
		err = -ENOLCK;
	else
		enter(locks, file, lock, route);
	file_put_if_idle(locks, file);
	return err;
}

/* --- the rest ----------------------------------------------------------------------------------------------------- */

void locks_stats(const struct locks *locks, struct locks_stats *ret_stats)
{
	*ret_stats = (struct locks_stats){ locks->file_count, locks->held, locks->waiting };
}

struct locks *locks_free(struct locks *locks)
{
	if (!locks)
		return NULL;
	for (size_t i = 0; i < locks->file_buckets; i++) {
		for (struct lock_file *file = locks->files[i], *next; file; file = next) {
			next = file->hash_next;
			while (file->first)
				waiter_remove(locks, &file->first);
			lock_list_release(&file->held);
			lock_route_put(file->append_route);
			free(file);
		}
	}
	free(locks->files);
	free(locks);
	return NULL;
}
