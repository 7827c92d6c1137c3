#include "mds/opens.h"

#include "common/logger.h"

#include <assert.h>
#include <stdlib.h>

/* One inode open at one session. In two lists: those of its hash bucket, and those of its session's hash bucket. */
struct open_entry {
	uint64_t ino, session;
	unsigned int modes;
	uint64_t turn;         /* of the last OPEN; 0: none had one */
	unsigned int presumed; /* those of the modes that were not told in this life of the MDT */
	struct open_entry *ino_next;
	struct open_entry *session_prev, *session_next;
};

struct opens {
	struct open_entry **by_ino;
	size_t ino_buckets; /* a power of two; as many as entries, or half */
	size_t count;
	struct open_entry *by_session[4096];
};

#define SESSION_BUCKETS (sizeof(((struct opens *)0)->by_session) / sizeof(struct open_entry *))
#define INO_BUCKETS_MIN 1024

static size_t spread(uint64_t number, size_t buckets)
{
	return (size_t)((number * UINT64_C(0x9e3779b97f4a7c15)) >> 20) & (buckets - 1);
}

static void *alloc(size_t count, size_t size)
{
	void *memory = calloc(count, size);

	if (!memory)
		logger_die("out of memory for the table of open files");
	return memory;
}

struct opens *opens_new(void)
{
	struct opens *opens = alloc(1, sizeof(*opens));

	opens->ino_buckets = INO_BUCKETS_MIN;
	opens->by_ino = alloc(opens->ino_buckets, sizeof(struct open_entry *));
	return opens;
}

struct opens *opens_free(struct opens *opens)
{
	if (!opens)
		return NULL;
	for (size_t i = 0; i < opens->ino_buckets; i++) {
		for (struct open_entry *entry = opens->by_ino[i], *next; entry; entry = next) {
			next = entry->ino_next;
			free(entry);
		}
	}
	free(opens->by_ino);
	free(opens);
	return NULL;
}

static struct open_entry **ino_bucket(const struct opens *opens, uint64_t ino)
{
	return &opens->by_ino[spread(ino, opens->ino_buckets)];
}

static struct open_entry **session_bucket(struct opens *opens, uint64_t session)
{
	return &opens->by_session[spread(session, SESSION_BUCKETS)];
}

/* Where the pointer to the entry stands, or where it ends. */
static struct open_entry **find(const struct opens *opens, uint64_t session, uint64_t ino)
{
	struct open_entry **at = ino_bucket(opens, ino);

	while (*at && ((*at)->ino != ino || (*at)->session != session))
		at = &(*at)->ino_next;
	return at;
}

static void grow(struct opens *opens)
{
	struct open_entry **old = opens->by_ino, **bucket;
	size_t old_buckets = opens->ino_buckets;

	if (opens->count <= old_buckets)
		return;
	opens->ino_buckets *= 2;
	opens->by_ino = alloc(opens->ino_buckets, sizeof(struct open_entry *));
	for (size_t i = 0; i < old_buckets; i++) {
		for (struct open_entry *entry = old[i], *next; entry; entry = next) {
			next = entry->ino_next;
			bucket = ino_bucket(opens, entry->ino);
			entry->ino_next = *bucket;
			*bucket = entry;
		}
	}
	free(old);
}

void opens_add(struct opens *opens, uint64_t session, uint64_t ino, unsigned int modes)
{
	struct open_entry **at = find(opens, session, ino), *entry = *at, **first;

	assert(modes != 0);
	if (entry) {
		entry->modes |= modes;
		entry->presumed &= ~modes;
		return;
	}
	entry = alloc(1, sizeof(*entry));
	*entry = (struct open_entry){ .ino = ino, .session = session, .modes = modes };
	*at = entry;
	first = session_bucket(opens, session);
	entry->session_next = *first;
	if (*first)
		(*first)->session_prev = entry;
	*first = entry;
	opens->count++;
	grow(opens);
}

void opens_presume(struct opens *opens, uint64_t session, uint64_t ino)
{
	opens_add(opens, session, ino, OPEN_WRITE);
	(*find(opens, session, ino))->presumed = OPEN_WRITE;
}

static void take_out(struct opens *opens, struct open_entry **at)
{
	struct open_entry *entry = *at;

	*at = entry->ino_next;
	if (entry->session_prev)
		entry->session_prev->session_next = entry->session_next;
	else
		*session_bucket(opens, entry->session) = entry->session_next;
	if (entry->session_next)
		entry->session_next->session_prev = entry->session_prev;
	opens->count--;
	free(entry);
}

bool opens_remove(struct opens *opens, uint64_t session, uint64_t ino, unsigned int modes)
{
	struct open_entry **at = find(opens, session, ino);

	if (!*at)
		return true;
	(*at)->modes &= ~modes;
	(*at)->presumed &= ~modes;
	if ((*at)->modes != 0)
		return false;
	take_out(opens, at);
	return true;
}

void opens_note_turn(struct opens *opens, uint64_t session, uint64_t ino, uint64_t turn)
{
	struct open_entry *entry = *find(opens, session, ino);

	if (entry && turn > entry->turn)
		entry->turn = turn;
}

bool opens_is_late(const struct opens *opens, uint64_t session, uint64_t ino, uint64_t turn)
{
	const struct open_entry *entry = *find(opens, session, ino);

	return entry && turn < entry->turn;
}

unsigned int opens_modes(const struct opens *opens, uint64_t session, uint64_t ino)
{
	const struct open_entry *entry = *find(opens, session, ino);

	return entry ? entry->modes : 0;
}

bool opens_others_write(const struct opens *opens, uint64_t session, uint64_t ino)
{
	for (const struct open_entry *entry = *ino_bucket(opens, ino); entry; entry = entry->ino_next) {
		if (entry->ino == ino && entry->session != session && (entry->modes & OPEN_WRITE))
			return true;
	}
	return false;
}

void opens_each_holder(const struct opens *opens, uint64_t ino, void (*fn)(void *arg, uint64_t session), void *arg)
{
	for (const struct open_entry *entry = *ino_bucket(opens, ino); entry; entry = entry->ino_next) {
		if (entry->ino == ino)
			fn(arg, entry->session);
	}
}

void opens_each_inode(const struct opens *opens, uint64_t session,
		      void (*fn)(void *arg, uint64_t ino, unsigned int modes), void *arg)
{
	const struct open_entry *entry = opens->by_session[spread(session, SESSION_BUCKETS)];

	for (; entry; entry = entry->session_next) {
		if (entry->session == session)
			fn(arg, entry->ino, entry->modes);
	}
}

static void drop(struct opens *opens, uint64_t session, bool presumed)
{
	struct open_entry *entry = *session_bucket(opens, session), *next;

	for (; entry; entry = next) {
		next = entry->session_next;
		if (entry->session != session)
			continue;
		entry->modes &= ~(presumed ? entry->presumed : entry->modes);
		entry->presumed = 0;
		if (entry->modes == 0)
			take_out(opens, find(opens, session, entry->ino));
	}
}

void opens_drop_presumed(struct opens *opens, uint64_t session)
{
	drop(opens, session, true);
}

void opens_drop_session(struct opens *opens, uint64_t session)
{
	drop(opens, session, false);
}

size_t opens_count(const struct opens *opens)
{
	return opens->count;
}
