#include "oss/ledger_internal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_SIZE    ((off_t)LEDGER_HEADER_SIZE + LEDGER_SIZE)
#define POSITION_MAX ((uint64_t)INT64_MAX) /* nobody will ever have noted so many bytes */

/* --- opening ---------------------------------------------------------------------------------------------------------- */

/* Anybody may make files in /dev/shm: ours, and nobody else's? Its memory is taken now; later there would be a SIGBUS. */
static int own_file(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_nlink != 1)
		return -EPERM;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EBUSY : -errno;

	return -posix_fallocate(fd, 0, FILE_SIZE);
}

static bool header_is_sound(const struct ledger_header *header, const struct uuid *target)
{
	return header->magic == LEDGER_MAGIC && uuid_equal(&header->target, target) && header->begin <= header->end &&
	       header->end <= POSITION_MAX && header->end - header->begin <= LEDGER_SIZE &&
	       header->begin % LEDGER_ALIGN == 0 && header->end % LEDGER_ALIGN == 0;
}

static int map(struct ledger *ledger, const struct uuid *target)
{
	void *memory = mmap(NULL, (size_t)FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, ledger->fd, 0);

	if (memory == MAP_FAILED)
		return -errno;
	ledger->header = memory;
	ledger->ring = (uint8_t *)memory + LEDGER_HEADER_SIZE;
	if (!header_is_sound(ledger->header, target))
		*ledger->header = (struct ledger_header){ .magic = LEDGER_MAGIC, .target = *target };
	ledger->settled = ledger->header->begin;

	return 0;
}

int ledger_open(const char *dir, const struct uuid *target, struct ledger **ret_ledger)
{
	struct ledger *ledger = calloc(1, sizeof(*ledger));
	int err;

	if (!ledger)
		return -ENOMEM;
	ledger_path(dir, target, ledger->path);
	ledger->fd = open(ledger->path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (ledger->fd < 0) {
		err = -errno;
		free(ledger);
		return err;
	}
	err = own_file(ledger->fd);
	if (err == 0)
		err = map(ledger, target);
	if (err < 0) {
		ledger_close(ledger, false);
		return err;
	}
	*ret_ledger = ledger;

	return 0;
}

struct ledger *ledger_close(struct ledger *ledger, bool remove)
{
	if (!ledger)
		return NULL;
	if (remove)
		unlink(ledger->path);
	if (ledger->header)
		munmap(ledger->header, (size_t)FILE_SIZE);
	close(ledger->fd);
	free(ledger);

	return NULL;
}

uint64_t ledger_instance(const struct ledger *ledger)
{
	return ledger ? ledger->header->instance : 0;
}

void ledger_begin(struct ledger *ledger, uint64_t instance)
{
	if (!ledger)
		return;
	/* Atomic, so that all three are made, in this order: killed in between, it is nobody's. */
	__atomic_store_n(&ledger->header->instance, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&ledger->header->begin, ledger->header->end, __ATOMIC_SEQ_CST);
	__atomic_store_n(&ledger->header->instance, instance, __ATOMIC_SEQ_CST);
	ledger->settled = ledger->header->begin;
}

/* --- the ring --------------------------------------------------------------------------------------------------------- */

static struct ledger_record *record_at(const struct ledger *ledger, uint64_t position)
{
	return (struct ledger_record *)(void *)(ledger->ring + position % LEDGER_SIZE);
}

static uint64_t ring_left(uint64_t position)
{
	return LEDGER_SIZE - position % LEDGER_SIZE;
}

static size_t record_size(size_t sum_count)
{
	size_t size = sizeof(struct ledger_record) + sum_count * sizeof(uint32_t);

	return (size + LEDGER_ALIGN - 1) / LEDGER_ALIGN * LEDGER_ALIGN;
}

static bool record_is_sound(const struct ledger_record *record, uint64_t left)
{
	if (record->size % LEDGER_ALIGN != 0 || record->size < sizeof(uint64_t) || record->size > left)
		return false;
	if (record->kind == LEDGER_PAD)
		return true;
	if (record->kind == LEDGER_ZEROED)
		return record->size == record_size(0);

	return record->kind == LEDGER_WRITE && record->size >= record_size(0) && record->write.length > 0 &&
	       record->write.length <= FRAME_BULK_MAX && record->write.offset <= INT64_MAX - record->write.length &&
	       record->size == record_size(bulk_sums_count(record->write.offset, record->write.length));
}

const struct ledger_record *ledger_next(const struct ledger *ledger, uint64_t *position)
{
	while (*position < ledger->header->end) {
		const struct ledger_record *record = record_at(ledger, *position);
		uint64_t left = ledger->header->end - *position;

		if (ring_left(*position) < left)
			left = ring_left(*position);
		if (!record_is_sound(record, left))
			return NULL;
		*position += record->size;
		if (record->kind != LEDGER_PAD)
			return record;
	}

	return NULL;
}

/* With the pad that may be needed before it. */
bool ledger_has_room(const struct ledger *ledger, size_t sum_count)
{
	size_t size = record_size(sum_count);
	uint64_t used;

	if (!ledger)
		return true;
	used = ledger->header->end - ledger->header->begin;
	if (ring_left(ledger->header->end) < size)
		used += ring_left(ledger->header->end);

	return used + size <= LEDGER_SIZE;
}

/* A place for a record. Whoever is killed before `end` has moved has noted nothing. */
static struct ledger_record *reserve(struct ledger *ledger, size_t sum_count, uint64_t *ret_position)
{
	size_t size = record_size(sum_count);
	uint64_t position = ledger->header->end, left = ring_left(position);
	struct ledger_record *record;

	assert(ledger_has_room(ledger, sum_count));
	if (left < size) {
		record = record_at(ledger, position);
		record->size = (uint32_t)left;
		record->kind = LEDGER_PAD;
		position += left;
	}
	record = record_at(ledger, position);
	memset(record, 0, sizeof(*record));
	record->size = (uint32_t)size;
	*ret_position = position;

	return record;
}

static void enter(struct ledger *ledger, const struct ledger_record *record, uint64_t position)
{
	__atomic_store_n(&ledger->header->end, position + record->size, __ATOMIC_RELEASE);
}

uint64_t ledger_note_write(struct ledger *ledger, const struct ledger_write *write)
{
	struct ledger_record *record;
	size_t sum_count;
	uint64_t position;

	if (!ledger)
		return 0;
	sum_count = bulk_sums_count(write->offset, write->length);
	record = reserve(ledger, sum_count, &position);
	record->kind = LEDGER_WRITE;
	record->state = LEDGER_RUNNING;
	record->ino = write->ino;
	record->gen = write->gen;
	record->write.seq = write->seq;
	record->write.offset = write->offset;
	record->write.length = write->length;
	memcpy(record->sums, write->sums, sum_count * sizeof(*write->sums));
	enter(ledger, record, position);

	return position;
}

void ledger_done(struct ledger *ledger, uint64_t note, bool ok)
{
	if (ledger && note >= ledger->header->begin)
		record_at(ledger, note)->state = ok ? LEDGER_DONE : LEDGER_FAILED;
}

void ledger_note_zeroed(struct ledger *ledger, uint64_t ino, uint64_t gen, uint64_t stripe_size, uint64_t start,
			uint64_t end)
{
	struct ledger_record *record;
	uint64_t position;

	if (!ledger)
		return;
	record = reserve(ledger, 0, &position);
	record->kind = LEDGER_ZEROED;
	record->state = LEDGER_DONE;
	record->ino = ino;
	record->gen = gen;
	record->zeroed.stripe_size = stripe_size;
	record->zeroed.start = start;
	record->zeroed.end = end;
	enter(ledger, record, position);
}

/* A write that still runs may finish after the sync that is to come: the mark is before it. */
uint64_t ledger_mark(struct ledger *ledger)
{
	const struct ledger_record *record;
	uint64_t behind;

	if (!ledger)
		return 0;
	for (behind = ledger->settled; (record = ledger_next(ledger, &behind)); ledger->settled = behind) {
		if (record->state == LEDGER_RUNNING)
			break;
	}

	return ledger->settled;
}

void ledger_forget(struct ledger *ledger, uint64_t mark)
{
	if (ledger && mark > ledger->header->begin)
		ledger->header->begin = mark;
}
