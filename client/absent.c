#include "client/absent.h"

#include "common/loop.h"
#include "common/siphash.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define NAME_LEN_MAX   255
#define SLOTS_MIN      64
#define NAMES_MAX_LOAD 2 /* slots for each name */

/* Hashes of names, none of them 0: open addressing with linear probing. */
struct names {
	uint64_t *slots; /* 0: empty; NULL: no names */
	size_t mask, count;
};

/* What is known of one directory, in the place of its hash. */
struct known {
	uint64_t dir; /* 0: of none */
	uint64_t version;
	uint64_t until_ns;     /* nobody else adds names */
	bool all;              /* names has all that there are */
	bool too_many;         /* names, to know them all */
	unsigned int read;     /* names, with this ticket */
	uint64_t ticket;       /* of who is reading them; 0: nobody */
	unsigned int missed;   /* LOOKUPs that found nothing since it is not known */
	unsigned int worth;    /* missed when it is to be read */
	unsigned int answered; /* LOOKUPs since it is known */
	struct names names;
};

struct absent {
	pthread_mutex_t lock;
	uint8_t key[SIPHASH_KEY_SIZE];
	uint64_t tickets;
	uint64_t now_ns;         /* as of the last change */
	size_t slots, slots_max; /* of all names */
	uint64_t doubt_until_ns;
	struct known known[ABSENT_DIRS];
};

/* --- names --------------------------------------------------------------------------------------------------------- */

static size_t names_slots(const struct names *names)
{
	return names->slots != NULL ? names->mask + 1 : 0;
}

/* Where it is, or would be. */
static size_t names_place(const struct names *names, uint64_t hash)
{
	size_t at = hash & names->mask;

	while (names->slots[at] != 0 && names->slots[at] != hash)
		at = (at + 1) & names->mask;
	return at;
}

static bool names_has(const struct names *names, uint64_t hash)
{
	return names->count > 0 && names->slots[names_place(names, hash)] == hash;
}

static bool names_grow(struct names *names, size_t size)
{
	struct names grown = { .slots = calloc(size, sizeof(uint64_t)), .mask = size - 1, .count = names->count };

	if (grown.slots == NULL)
		return false;
	for (size_t i = 0; i < names_slots(names); i++) {
		if (names->slots[i] != 0)
			grown.slots[names_place(&grown, names->slots[i])] = names->slots[i];
	}
	free(names->slots);
	*names = grown;
	return true;
}

static void names_add(struct names *names, uint64_t hash)
{
	size_t at = names_place(names, hash);

	names->count += names->slots[at] == 0;
	names->slots[at] = hash;
}

/* Those behind it move up where they may (Knuth, 6.4, algorithm R). */
static void names_remove(struct names *names, uint64_t hash)
{
	size_t hole, at;

	if (!names_has(names, hash))
		return;
	hole = names_place(names, hash);
	for (at = (hole + 1) & names->mask; names->slots[at] != 0; at = (at + 1) & names->mask) {
		size_t home = names->slots[at] & names->mask;

		if (((at - home) & names->mask) >= ((at - hole) & names->mask)) {
			names->slots[hole] = names->slots[at];
			hole = at;
		}
	}
	names->slots[hole] = 0;
	names->count--;
}

/* --- what is known -------------------------------------------------------------------------------------------------- */

static uint64_t hash_of(const struct absent *absent, const char *name, size_t len)
{
	uint64_t hash = siphash(absent->key, name, len);

	return hash != 0 ? hash : 1;
}

static struct known *place_of(struct absent *absent, uint64_t dir)
{
	return &absent->known[siphash(absent->key, &dir, sizeof(dir)) % ABSENT_DIRS];
}

/* Of that directory; NULL: nothing is. */
static struct known *known_of(struct absent *absent, uint64_t dir)
{
	struct known *known = place_of(absent, dir);

	return known->dir == dir ? known : NULL;
}

static void known_drop_names(struct absent *absent, struct known *known)
{
	absent->slots -= names_slots(&known->names);
	free(known->names.slots);
	known->names = (struct names){ 0 };
}

/* That directory's from now on, unless the one that is there is in use. */
static struct known *known_begin(struct absent *absent, uint64_t dir, uint64_t now_ns)
{
	struct known *known = place_of(absent, dir);

	if (known->dir != dir && known->until_ns > now_ns)
		return NULL;
	known_drop_names(absent, known);
	*known = (struct known){ .dir = dir, .worth = ABSENT_MISSES };
	return known;
}

/* Its names. If knowing them was of little use they are read later the next time. */
static void known_forget(struct absent *absent, struct known *known)
{
	if (known->all && known->answered >= known->worth)
		known->worth = ABSENT_MISSES;
	else if ((known->all || known->ticket != 0) && ABSENT_READ_PER_MISS * (size_t)known->worth < absent->slots_max)
		known->worth *= 2;
	known_drop_names(absent, known);
	known->all = false;
	known->ticket = 0;
	known->missed = known->answered = 0;
}

/* May it have so many more slots? Those of others are given up first that are of no use now. */
static bool may_have(struct absent *absent, const struct known *known, size_t more)
{
	for (size_t i = 0; i < ABSENT_DIRS && absent->slots + more > absent->slots_max; i++) {
		struct known *other = &absent->known[i];

		if (other != known && other->names.slots != NULL && other->until_ns <= absent->now_ns)
			known_forget(absent, other);
	}
	return absent->slots + more <= absent->slots_max;
}

/* Room for one more name. */
static bool known_has_room(struct absent *absent, struct known *known)
{
	struct names *names = &known->names;
	size_t slots = names_slots(names), more = slots == 0 ? SLOTS_MIN : slots;

	if (NAMES_MAX_LOAD * (names->count + 1) <= slots)
		return true;
	known->too_many = slots + more > absent->slots_max / 2;
	if (known->too_many || !may_have(absent, known, more) || !names_grow(names, slots + more))
		return false;
	absent->slots += more;
	return true;
}

static bool known_add(struct absent *absent, struct known *known, const char *name, size_t len)
{
	if (known_has_room(absent, known)) {
		names_add(&known->names, hash_of(absent, name, len));
		return true;
	}
	known_forget(absent, known);
	return false;
}

/* --- from outside --------------------------------------------------------------------------------------------------- */

struct absent *absent_new(size_t slots_max)
{
	struct absent *absent = calloc(1, sizeof(*absent));

	if (absent == NULL)
		return NULL;
	if (getrandom(absent->key, sizeof(absent->key), 0) != sizeof(absent->key))
		abort();
	absent->slots_max = slots_max;
	pthread_mutex_init(&absent->lock, NULL);
	return absent;
}

struct absent *absent_free(struct absent *absent)
{
	if (absent == NULL)
		return NULL;
	absent_forget_all(absent);
	pthread_mutex_destroy(&absent->lock);
	free(absent);
	return NULL;
}

void absent_made(struct absent *absent, uint64_t dir, uint64_t version, uint64_t now_ns)
{
	struct known *known;

	pthread_mutex_lock(&absent->lock);
	known = known_begin(absent, dir, now_ns);
	if (known != NULL) {
		known->version = version;
		known->all = true;
	}
	pthread_mutex_unlock(&absent->lock);
}

void absent_doubt(struct absent *absent, uint64_t now_ns)
{
	pthread_mutex_lock(&absent->lock);
	absent->doubt_until_ns = now_ns + ABSENT_DOUBT_MS * NSEC_PER_MSEC;
	pthread_mutex_unlock(&absent->lock);
}

void absent_changed(struct absent *absent, const struct absent_change *change, uint64_t now_ns)
{
	struct known *known;

	pthread_mutex_lock(&absent->lock);
	absent->now_ns = now_ns;
	known = known_of(absent, change->dir);
	if (known == NULL && change->alone_until_ns > now_ns)
		known = known_begin(absent, change->dir, now_ns);
	if (known != NULL) {
		if (known->version != change->version_before)
			known_forget(absent, known);
		known->version = change->version;
		if (change->alone_until_ns > known->until_ns)
			known->until_ns = change->alone_until_ns;
		if (change->gone != NULL)
			names_remove(&known->names, hash_of(absent, change->gone, change->gone_len));
		if (change->came != NULL && (known->all || known->ticket != 0))
			known_add(absent, known, change->came, change->came_len);
	}
	pthread_mutex_unlock(&absent->lock);
}

void absent_forget_all(struct absent *absent)
{
	pthread_mutex_lock(&absent->lock);
	for (size_t i = 0; i < ABSENT_DIRS; i++) {
		known_drop_names(absent, &absent->known[i]);
		absent->known[i] = (struct known){ 0 };
	}
	pthread_mutex_unlock(&absent->lock);
}

static bool is_own_name(const char *name, size_t len)
{
	return len > 0 && len <= NAME_LEN_MAX && !(name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')));
}

bool absent_is(struct absent *absent, uint64_t dir, const char *name, size_t len, uint64_t now_ns)
{
	struct known *known;
	bool is;

	if (!is_own_name(name, len))
		return false;
	pthread_mutex_lock(&absent->lock);
	known = known_of(absent, dir);
	is = known != NULL && known->all && now_ns < known->until_ns && now_ns >= absent->doubt_until_ns &&
	     !names_has(&known->names, hash_of(absent, name, len));
	if (is)
		known->answered++;
	pthread_mutex_unlock(&absent->lock);
	return is;
}

bool absent_missed(struct absent *absent, uint64_t dir, uint64_t now_ns)
{
	struct known *known;
	bool worth;

	pthread_mutex_lock(&absent->lock);
	known = known_of(absent, dir);
	worth = known != NULL && !known->all && known->ticket == 0 && !known->too_many && now_ns < known->until_ns &&
		now_ns >= absent->doubt_until_ns && ++known->missed >= known->worth;
	pthread_mutex_unlock(&absent->lock);
	return worth;
}

uint64_t absent_reading(struct absent *absent, uint64_t dir)
{
	struct known *known;
	uint64_t ticket = 0;

	pthread_mutex_lock(&absent->lock);
	known = known_of(absent, dir);
	if (known != NULL && !known->all && known->ticket == 0) {
		ticket = known->ticket = ++absent->tickets;
		known->read = 0;
	}
	pthread_mutex_unlock(&absent->lock);
	return ticket;
}

bool absent_read(struct absent *absent, uint64_t dir, uint64_t ticket, const char *name, size_t len)
{
	struct known *known;
	bool added;

	pthread_mutex_lock(&absent->lock);
	known = known_of(absent, dir);
	added = known != NULL && known->ticket == ticket && known->read++ < ABSENT_READ_PER_MISS * known->missed &&
		known_add(absent, known, name, len);
	pthread_mutex_unlock(&absent->lock);
	return added;
}

void absent_all_read(struct absent *absent, uint64_t dir, uint64_t ticket, bool complete)
{
	struct known *known;

	pthread_mutex_lock(&absent->lock);
	known = known_of(absent, dir);
	if (known != NULL && known->ticket == ticket) {
		if (complete) {
			known->all = true;
			known->ticket = 0;
		} else {
			known_forget(absent, known);
		}
	}
	pthread_mutex_unlock(&absent->lock);
}
