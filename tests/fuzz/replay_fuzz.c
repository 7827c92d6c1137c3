/*
 * An MDT's log directory through replay and apply. An input is requests, which are admitted and applied as an MDT does and
 * whose records become a log of two segments; and then what befalls its files. Either replay says that the log is damaged,
 * or it brings records from the front, each as it was, and all that a record which is still whole calls synced; and the
 * state that they make again holds, and is the one that there was when all are there.
 *
 *     count | count times: operation, three operands | any number of: what, where (2 bytes), value
 */
#include <check.h>
/* The driver's assertions; this is no program of Check's. */
#undef ck_assert
#undef ck_assert_msg
#undef ck_assert_int_eq
#undef ck_assert_uint_eq
#undef ck_assert_ptr_nonnull
#define ck_assert(is)                  assert(is)
#define ck_assert_msg(is, ...)         assert(is)
#define ck_assert_int_eq(left, right)  assert((left) == (right))
#define ck_assert_uint_eq(left, right) assert((left) == (right))
#define ck_assert_ptr_nonnull(pointer) assert((pointer) != NULL)

#include "mds/log_replay.h"
#include "mds/pack.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/mdt_driver.h"

#include <fcntl.h>

#define OPERATIONS_MAX 24
#define KNOWN_MAX      (OPERATIONS_MAX + 1)
#define RECORDS_MAX    (4 * OPERATIONS_MAX + 16)
#define LAG            3 /* a record calls synced what lies so far before it */
#define SEGMENTS       2

int __wrap_fallocate64(int fd, int mode, off_t offset, off_t length);
int __wrap_fallocate64(int fd, int mode, off_t offset, off_t length)
{
	(void)fd, (void)mode, (void)offset, (void)length;
	return 0;
}

/* --- what is asked ----------------------------------------------------------------------------------------------------- */

static uint64_t known[KNOWN_MAX]; /* inodes that there were: the root first */
static unsigned int known_count;

static const char *text_of(uint8_t byte)
{
	static const char *const names[] = { "a", "b", "c",
					     "a name that is longer than the others, and then some more" };

	return names[byte % (sizeof(names) / sizeof(*names))];
}

static uint64_t ino_of(uint8_t byte)
{
	return known[byte % known_count];
}

static void make(struct driver *driver, uint16_t op, uint8_t parent, uint8_t name)
{
	if (driver_make(driver, op, ino_of(parent), text_of(name), 0755, &known[known_count]) == 0)
		known_count++;
}

static void report_size(struct driver *driver, uint8_t a, uint8_t b)
{
	struct inode inode;

	if (inode_load(driver->state.view, ino_of(a), &inode) == 0)
		(void)driver_size(driver, &inode, (uint64_t)b << 12, b % 2);
}

static void release(struct driver *driver, uint8_t a)
{
	if (orphan_is_held_by(driver->state.view, ino_of(a), driver->session))
		driver_release(driver, driver->session, ino_of(a));
}

static void operation(struct driver *driver, uint8_t op, uint8_t a, uint8_t b, uint8_t c)
{
	switch (op % 14) {
	case 0:
		make(driver, OP_CREATE, a, b);
		break;
	case 1:
		make(driver, OP_MKDIR, a, b);
		break;
	case 2:
		make(driver, OP_SYMLINK, a, b);
		break;
	case 3:
		(void)driver_link(driver, ino_of(a), ino_of(b), text_of(c));
		break;
	case 4:
		(void)driver_unlink(driver, ino_of(a), text_of(b));
		break;
	case 5:
		(void)driver_rmdir(driver, ino_of(a), text_of(b));
		break;
	case 6:
		(void)driver_rename(driver, ino_of(a), text_of(b), ino_of(c), text_of(c / KNOWN_MAX), 0);
		break;
	case 7:
		(void)driver_truncate(driver, ino_of(a), (uint64_t)b << 10);
		break;
	case 8:
		report_size(driver, a, b);
		break;
	case 9:
		(void)driver_setxattr(driver, ino_of(a), b % 2 ? "user.x" : "user.y", text_of(c), 0);
		break;
	case 10:
		(void)driver_removexattr(driver, ino_of(a), b % 2 ? "user.x" : "user.y");
		break;
	case 11:
		opens_add(driver->opens, driver->session, ino_of(a), 1 + b % 3);
		break;
	case 12:
		release(driver, a);
		driver_acknowledge_all(driver);
		break;
	default:
		driver_evict(driver, driver->session);
		driver_open_session(driver);
	}
}

/* --- its log ----------------------------------------------------------------------------------------------------------- */

static const struct uuid target = { { 1, 2, 3 } };

static struct segment {
	uint8_t *data;
	size_t size, used;
	uint64_t first, salt;
	bool spoilt; /* its header, or its end is not there */
	char path[PATH_MAX + 64];
} segments[SEGMENTS];

static struct place {
	unsigned int segment;
	size_t from, to;
	bool touched;
} places[RECORDS_MAX]; /* of record i + 1 */

static void segment_begin(struct segment *segment, uint64_t number, uint64_t first)
{
	struct log_header header = {
		.target = target, .first = first, .number = number, .salt = number * 77, .synced = first - 1
	};

	*segment = (struct segment){ .first = first, .salt = header.salt, .used = LOG_RECORDS };
	segment->size = header.size = 65536;
	segment->data = calloc(1, segment->size);
	assert(segment->data != NULL);
	log_header_encode(&header, segment->data);
}

static void log_make(const struct driver *driver)
{
	uint64_t second = driver->index / 2 + 1;
	unsigned int at = 0;

	assert(driver->index <= RECORDS_MAX);
	segment_begin(&segments[0], 1, 1);
	segment_begin(&segments[1], 2, second);
	for (uint64_t index = 1; index <= driver->index; index++) {
		struct log_record record = {
			.index = index,
			.synced = index > LAG ? index - LAG : 0,
			.payload = { driver->log[index - 1].data, driver->log[index - 1].size },
		};
		size_t size = log_record_size(record.payload.size);

		at = index >= second;
		if (at == 1 && record.synced < second - 1)
			record.synced = second - 1; /* a segment begins when all before it is durable */
		assert(segments[at].used + size <= segments[at].size);
		log_record_encode(segments[at].salt, &record, segments[at].data + segments[at].used);
		places[index - 1] = (struct place){ at, segments[at].used, segments[at].used + size, false };
		segments[at].used += size;
	}
}

static void touch(unsigned int segment, size_t from, size_t to)
{
	for (size_t i = 0; i < RECORDS_MAX; i++)
		if (places[i].segment == segment && places[i].from < to && from < places[i].to)
			places[i].touched = true;
	if (from < LOG_RECORDS)
		segments[segment].spoilt = true;
}

/* what: a byte becomes another, a sector is lost, the rest of the file is zeros, or is cut off */
static void befall(uint8_t what, size_t where, uint8_t value)
{
	struct segment *segment = &segments[what % SEGMENTS];

	if (segment->size == 0)
		return;
	where %= segment->used + 64 < segment->size ? segment->used + 64 : segment->size;
	switch (what / SEGMENTS % 8) {
	default:
		segment->data[where] ^= value;
		touch(what % SEGMENTS, where, where + 1);
		break;
	case 5:
		where &= ~(size_t)511;
		memset(segment->data + where, 0, 512);
		touch(what % SEGMENTS, where, where + 512);
		break;
	case 6:
		memset(segment->data + where, 0, segment->size - where);
		touch(what % SEGMENTS, where, segment->size);
		break;
	case 7:
		segment->size = where;
		segment->spoilt = true;
		break;
	}
}

static void log_store(const char *dir)
{
	char name[LOG_NAME_SIZE];

	snprintf(segments[0].path, sizeof(segments[0].path), "%s/log", dir);
	assert(mkdir(segments[0].path, 0700) == 0);
	for (unsigned int i = 0; i < SEGMENTS; i++) {
		struct segment *segment = &segments[i];
		int fd;

		snprintf(segment->path, sizeof(segment->path), "%s/log/%s", dir, log_name(segment->first, name));
		fd = open(segment->path, O_WRONLY | O_CREAT | O_EXCL, 0600);
		assert(fd >= 0 && write(fd, segment->data, segment->size) == (ssize_t)segment->size);
		close(fd);
		free(segment->data);
	}
}

/* --- its replay -------------------------------------------------------------------------------------------------------- */

struct replaying {
	const struct driver *from;
	struct driver *to;
};

static int replay_one(void *owner, uint64_t index, const void *payload, size_t size)
{
	struct replaying *replaying = owner;
	const struct driver_record *was = &replaying->from->log[index - 1];

	assert(index == replaying->to->index + 1 && index <= replaying->from->index);
	assert(size == was->size && memcmp(payload, was->data, size) == 0);
	driver_apply(replaying->to, (struct bytes){ payload, size }, NULL);
	return 0;
}

/* What must be there: some record that is whole, in a segment that is, calls it synced. */
static uint64_t promised(const struct driver *from)
{
	uint64_t until = 0;

	for (uint64_t index = 1; index <= from->index; index++) {
		const struct place *place = &places[index - 1];

		if (!place->touched && !segments[place->segment].spoilt && index > LAG)
			until = index - LAG;
	}
	return until;
}

static void replay(const struct driver *from)
{
	struct replaying replaying = { from, driver_empty() };
	char error[512] = "";
	struct log_dir log_dir;
	struct log_replay log = { .dir = &log_dir, .target = target, .record = replay_one, .owner = &replaying };
	int err;

	assert(log_dir_open(from->dir, &log_dir, error, sizeof(error)) == 0);
	err = log_replay(&log, error, sizeof(error));
	log_dir_close(&log_dir);
	if (err == 0) {
		assert(log.last == replaying.to->index && log.last >= promised(from));
		driver_check(replaying.to);
		if (log.last == from->index)
			driver_compare(replaying.to, (struct driver *)(uintptr_t)from);
		free(log.firsts);
	} else {
		assert(err == -EBADMSG || err == -ENOENT || err == -EINVAL || err == -EPROTONOSUPPORT);
		assert(error[0] != '\0' && log.firsts == NULL);
	}
	driver_free(replaying.to);
}

static void fuzz_one(const uint8_t *data, size_t size)
{
	struct unpack in = unpack_begin((struct bytes){ data, size });
	unsigned int count = unpack_u8(&in) % (OPERATIONS_MAX + 1);
	struct driver *driver;

	if (in.bad)
		return;
	driver = driver_new();
	driver_set_osts(driver, 2);
	known[0] = DRIVER_ROOT;
	known_count = 1;
	for (unsigned int i = 0; i < count; i++) {
		uint8_t op = unpack_u8(&in), a = unpack_u8(&in), b = unpack_u8(&in), c = unpack_u8(&in);

		if (in.bad)
			break;
		operation(driver, op, a, b, c);
	}
	driver_check(driver);
	memset(places, 0, sizeof(places));
	log_make(driver);
	while (!in.bad) {
		uint8_t what = unpack_u8(&in);
		uint16_t where = unpack_u16(&in);
		uint8_t value = unpack_u8(&in);

		if (!in.bad)
			befall(what, where, value);
	}
	log_store(driver->dir);
	replay(driver);
	driver_free(driver);
}

/* --- seeds ------------------------------------------------------------------------------------------------------------- */

static void fuzz_seeds(void)
{
	static const uint8_t work[][4] = {
		{ 0, 0, 0, 0 }, { 1, 0, 1, 0 }, { 0, 2, 0, 0 },  { 8, 1, 9, 0 },  { 3, 1, 2, 2 }, { 7, 1, 3, 0 },
		{ 9, 1, 1, 3 }, { 6, 0, 0, 2 }, { 2, 2, 3, 0 },  { 11, 3, 2, 0 }, { 4, 2, 0, 0 }, { 12, 3, 0, 0 },
		{ 7, 1, 0, 0 }, { 8, 1, 4, 0 }, { 13, 0, 0, 0 }, { 10, 1, 1, 0 }, { 5, 0, 1, 0 }, { 12, 0, 0, 0 },
	};
	static const uint8_t harm[][4] = {
		{ 0, 0, 0, 0 },   { 0, 0, 9, 1 },   { 1, 16, 9, 128 }, { 0, 16, 40, 1 },
		{ 11, 17, 0, 0 }, { 13, 18, 0, 0 }, { 12, 18, 0, 0 },  { 15, 16, 100, 0 },
	};
	uint8_t count = sizeof(work) / sizeof(*work), seed[1 + sizeof(work) + sizeof(*harm)];

	for (uint8_t n = 0; n <= count; n += 3) {
		seed[0] = n;
		memcpy(seed + 1, work, n * sizeof(*work));
		for (size_t i = 0; i < sizeof(harm) / sizeof(*harm); i++) {
			memcpy(seed + 1 + n * sizeof(*work), harm[i], sizeof(*harm));
			fuzz_seed(NULL, 0, seed, 1 + n * sizeof(*work) + (i > 0 ? sizeof(*harm) : 0));
		}
	}
}
