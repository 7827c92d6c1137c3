/* The ledger of unstable writes: what an OST knows after a kill. On its own against a model, and in a whole OST. */
#include "tests/unit/ost_fixture.h"

#include "oss/ledger_internal.h"
#include "oss/ost_object.h"
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <sys/mman.h>

/* --- on its own ---------------------------------------------------------------------------------------------------------- */

#define MODEL_OBJECTS 3
#define MODEL_SIZE    (5 * BULK_PIECE)
#define MODEL_INO     77

/* Objects of one file, 0 to MODEL_OBJECTS, as files in a folder; and a ledger. */
static struct ledger *ledger;
static struct uuid target;
static char model_dir[PATH_MAX];
static int model_objects;

static void model_open(void)
{
	ck_assert_int_eq(ledger_open(model_dir, &target, &ledger), 0);
}

static void model_start(void)
{
	char path[PATH_MAX + 16], name[3];

	temp_dir_make(model_dir);
	uuid_make(&target);
	model_objects = open(model_dir, O_RDONLY | O_DIRECTORY);
	object_folder_name(object_folder(MODEL_INO, 1), name);
	snprintf(path, sizeof(path), "%s/%s", model_dir, name);
	ck_assert(model_objects >= 0 && mkdir(path, 0700) == 0);
	model_open();
	ck_assert(ledger_instance(ledger) == 0 && ledger_verify(ledger, model_objects) == -ESTALE);
	ledger_begin(ledger, 1);
}

static void model_end(void)
{
	ledger = ledger_close(ledger, true);
	close(model_objects);
	temp_dir_remove(model_dir);
}

/* As after a kill. */
static int model_verify(void)
{
	ledger_close(ledger, false);
	model_open();
	ck_assert_uint_eq(ledger_instance(ledger), 1);

	return ledger_verify(ledger, model_objects);
}

static int object_fd(uint64_t seq)
{
	char path[OBJECT_PATH_SIZE];
	int fd;

	object_path(MODEL_INO, 1, seq, path);
	fd = openat(model_objects, path, O_RDWR | O_CREAT, 0600);
	ck_assert_int_ge(fd, 0);

	return fd;
}

static uint64_t note(uint64_t seq, uint64_t offset, const void *data, size_t length)
{
	uint32_t sums[LEDGER_SUMS_MAX];
	union {
		const void *in;
		void *out;
	} bytes = { .in = data };
	struct iovec iov = { .iov_base = bytes.out, .iov_len = length };

	bulk_sums_make(offset, &iov, 1, sums);
	return ledger_note_write(ledger, &(struct ledger_write){ MODEL_INO, 1, seq, offset, length, sums });
}

static void put(uint64_t seq, uint64_t offset, const void *data, size_t length)
{
	int fd = object_fd(seq);

	ck_assert_int_eq(pwrite(fd, data, length, (off_t)offset), (ssize_t)length);
	close(fd);
}

static void write_done(uint64_t seq, uint64_t offset, const char *text)
{
	uint64_t noted = note(seq, offset, text, strlen(text));

	put(seq, offset, text, strlen(text));
	ledger_done(ledger, noted, true);
}

START_TEST(what_is_there_is_found)
{
	model_start();
	ck_assert_int_eq(model_verify(), 0);
	write_done(0, 100, "first");
	write_done(0, 102, "second");
	write_done(0, 5000, "third");
	write_done(1, 4090, "over the end of a page");
	ck_assert_int_eq(model_verify(), 0);
	ck_assert_int_eq(model_verify(), 0);
	model_end();
}
END_TEST

START_TEST(what_is_missing_is_missed)
{
	static const struct {
		uint64_t seq, offset;
		const char *instead;
	} losses[] = {
		{ 0, 102, "firs" }, /* an older write's */
		{ 0, 5000, "T" },
		{ 1, 4095, "_" },
		{ 1, 4096, "_" },
	};

	for (size_t i = 0; i < sizeof(losses) / sizeof(*losses); i++) {
		model_start();
		write_done(0, 100, "first");
		write_done(0, 102, "second");
		write_done(0, 5000, "third");
		write_done(1, 4090, "over the end of a page");
		put(losses[i].seq, losses[i].offset, losses[i].instead, strlen(losses[i].instead));
		ck_assert_int_eq(model_verify(), -ESTALE);
		model_end();
	}
}
END_TEST

START_TEST(a_lost_end_or_object_is_missed)
{
	char path[OBJECT_PATH_SIZE];
	int fd;

	model_start();
	write_done(2, 10, "the end");
	fd = object_fd(2);
	ck_assert_int_eq(ftruncate(fd, 16), 0);
	close(fd);
	ck_assert_int_eq(model_verify(), -ESTALE);
	put(2, 10, "the end", 7);
	ck_assert_int_eq(model_verify(), 0);
	object_path(MODEL_INO, 1, 2, path);
	ck_assert_int_eq(unlinkat(model_objects, path, 0), 0);
	ck_assert_int_eq(model_verify(), -ESTALE);
	model_end();
}
END_TEST

/* A client whose write was under way sends it again; where it covers all of an older one, that does not matter any more. */
START_TEST(what_was_under_way_may_be_there_or_not)
{
	model_start();
	write_done(0, 100, "older");
	note(0, 100, "newer, longer", 13);
	put(0, 100, "newe", 4);
	ck_assert_int_eq(model_verify(), 0);
	ledger_begin(ledger, 1);
	write_done(0, 100, "older");
	ledger_done(ledger, note(0, 100, "failed", 6), false);
	put(0, 100, "fai", 3);
	ck_assert_int_eq(model_verify(), 0);
	ledger_begin(ledger, 1);
	write_done(0, 100, "older");
	note(0, 200, "elsewhere", 9);
	put(0, 200, "elsew", 5);
	ck_assert_int_eq(model_verify(), 0);
	put(0, 102, "?", 1);
	ck_assert_int_eq(model_verify(), -ESTALE);
	/* A part of what is older is covered: either is there, or nobody can tell. */
	ledger_begin(ledger, 1);
	write_done(0, 100, "older");
	note(0, 103, "half", 4);
	note(0, 97, "other", 4);
	ck_assert_int_eq(model_verify(), 0);
	put(0, 103, "half", 4);
	ck_assert_int_eq(model_verify(), 0);
	put(0, 97, "other", 4);
	put(0, 103, "erha", 4);
	ck_assert_int_eq(model_verify(), 0);
	put(0, 100, "oldha", 5);
	ck_assert_int_eq(model_verify(), -ESTALE);
	write_done(0, 98, "written since");
	ck_assert_int_eq(model_verify(), 0);
	model_end();
}
END_TEST

START_TEST(what_was_zeroed_is_not_looked_for)
{
	model_start();
	write_done(0, 100, "cut");
	write_done(1, 100, "stays");
	ledger_note_zeroed(ledger, MODEL_INO, 1, STRIPE, 0, STRIPE);
	ledger_note_zeroed(ledger, MODEL_INO, 2, STRIPE, 0, UINT64_MAX);
	ledger_note_zeroed(ledger, MODEL_INO - 1, 1, STRIPE, 0, UINT64_MAX);
	put(0, 100, "\0\0\0", 3);
	ck_assert_int_eq(model_verify(), 0);
	write_done(0, 100, "again");
	ck_assert_int_eq(model_verify(), 0);
	put(0, 100, "\0\0\0", 3);
	ck_assert_int_eq(model_verify(), -ESTALE);
	put(1, 100, "\0\0\0", 3);
	ledger_note_zeroed(ledger, MODEL_INO, 1, 1, 0, UINT64_MAX);
	ck_assert_int_eq(model_verify(), 0);
	model_end();
}
END_TEST

START_TEST(what_runs_is_not_forgotten)
{
	uint64_t running, mark;

	model_start();
	write_done(0, 0, "synced");
	running = note(0, 100, "runs", 4);
	mark = ledger_mark(ledger);
	put(0, 100, "runs", 4);
	ledger_done(ledger, running, true);
	ledger_forget(ledger, mark);
	put(0, 0, "......", 6);
	ck_assert_int_eq(model_verify(), 0);
	put(0, 100, "lost", 4);
	ck_assert_int_eq(model_verify(), -ESTALE);
	ledger_forget(ledger, ledger_mark(ledger));
	ck_assert_int_eq(model_verify(), 0);
	model_end();
}
END_TEST

/* Many rounds through the ring; records of every length; what is left at the end is what was not forgotten. */
START_TEST(the_ring_turns)
{
	static char data[FRAME_BULK_MAX];
	uint64_t noted = 0, forgotten = 0;
	unsigned int seed = 5;

	model_start();
	while (noted < 5 * (uint64_t)LEDGER_SIZE) {
		size_t length = 1 + (size_t)rand_r(&seed) % (rand_r(&seed) % 4 == 0 ? sizeof(data) : 9000);
		uint64_t offset = (uint64_t)rand_r(&seed) % 10000;

		memset(data, rand_r(&seed), length);
		while (!ledger_has_room(ledger, bulk_sums_count(offset, length))) {
			ledger_forget(ledger, ledger_mark(ledger));
			forgotten++;
		}
		noted = note(noted % MODEL_OBJECTS, offset, data, length);
		put(noted % MODEL_OBJECTS, 0, "", 0);
		ledger_done(ledger, noted, true);
	}
	ck_assert_uint_ge(forgotten, 4);
	ledger_forget(ledger, ledger_mark(ledger));
	write_done(0, 0, "last");
	ck_assert_int_eq(model_verify(), 0);
	put(0, 0, "lost", 4);
	ck_assert_int_eq(model_verify(), -ESTALE);
	model_end();
}
END_TEST

/* One page of one object as it was before its last write: found in every case, and nothing else is. */
START_TEST(random_losses_are_missed)
{
	static uint8_t before[MODEL_OBJECTS][MODEL_SIZE], now[MODEL_OBJECTS][MODEL_SIZE], page[BULK_PIECE];

	for (unsigned int seed = 1; seed <= 200; seed++) {
		unsigned int random = seed;
		uint64_t seq, lost;

		memset(before, 0, sizeof(before));
		memset(now, 0, sizeof(now));
		model_start();
		for (seq = 0; seq < MODEL_OBJECTS; seq++)
			put(seq, 0, now[seq], MODEL_SIZE);
		for (int i = 0; i < 40; i++) {
			uint64_t offset = (uint64_t)rand_r(&random) % MODEL_SIZE;
			size_t length = 1 + (size_t)rand_r(&random) % (rand_r(&random) % 2 ? 100 : 2 * BULK_PIECE);
			uint64_t noted;

			if (length > MODEL_SIZE - offset)
				length = MODEL_SIZE - offset;
			seq = (uint64_t)rand_r(&random) % MODEL_OBJECTS;
			for (uint64_t at = offset; at < offset + length; at++) {
				if (at == offset || at % BULK_PIECE == 0)
					memcpy(before[seq] + at / BULK_PIECE * BULK_PIECE,
					       now[seq] + at / BULK_PIECE * BULK_PIECE, BULK_PIECE);
				now[seq][at] = (uint8_t)(1 + rand_r(&random) % 255);
			}
			noted = note(seq, offset, now[seq] + offset, length);
			put(seq, offset, now[seq] + offset, length);
			ledger_done(ledger, noted, true);
		}
		ck_assert_int_eq(model_verify(), 0);
		seq = (uint64_t)rand_r(&random) % MODEL_OBJECTS;
		lost = (uint64_t)rand_r(&random) % (MODEL_SIZE / BULK_PIECE) * BULK_PIECE;
		memcpy(page, before[seq] + lost, BULK_PIECE);
		put(seq, lost, page, BULK_PIECE);
		ck_assert_msg(model_verify() == (memcmp(page, now[seq] + lost, BULK_PIECE) ? -ESTALE : 0), "seed %u",
			      seed);
		model_end();
	}
}
END_TEST

/* Whatever lies in its place: it is not believed, and it breaks nothing. */
START_TEST(nonsense_is_not_believed)
{
	struct uuid other;
	struct ledger *second;
	char path[PATH_MAX + 64], name[UUID_STRING_SIZE];
	unsigned int seed = 1;

	model_start();
	ck_assert_int_eq(ledger_open(model_dir, &target, &second), -EBUSY);
	for (int i = 0; i < 2000; i++) {
		ledger->header->begin = ledger->header->end = 0;
		ledger_begin(ledger, 1);
		write_done(0, 100, "first");
		write_done(1, 4090, "over the end of a page");
		ledger_note_zeroed(ledger, MODEL_INO, 1, STRIPE, STRIPE, UINT64_MAX);
		for (int j = rand_r(&seed) % 3; j >= 0; j--)
			ledger->ring[(size_t)rand_r(&seed) % ledger->header->end] = (uint8_t)rand_r(&seed);
		(void)model_verify();
	}
	/* A write at the end of all numbers has no place in a file. */
	for (uint64_t length = 1; length <= 2 * BULK_PIECE; length *= 2) {
		ledger_begin(ledger, 1);
		write_done(0, 100, "first");
		((struct ledger_record *)(void *)(ledger->ring + ledger->header->begin % LEDGER_SIZE))->write.offset =
			UINT64_MAX - length;
		ck_assert_int_eq(model_verify(), -ESTALE);
	}
	ledger->header->end = ledger->header->begin + LEDGER_SIZE + LEDGER_ALIGN;
	ledger_close(ledger, false);
	model_open();
	ck_assert_uint_eq(ledger_instance(ledger), 0);
	/* Nor has the ring come that far: what is noted next would not fit before the end. */
	ledger_begin(ledger, 1);
	ledger->header->begin = ledger->header->end = UINT64_MAX - LEDGER_ALIGN + 1;
	ledger_close(ledger, false);
	model_open();
	ck_assert_uint_eq(ledger_instance(ledger), 0);
	ledger_begin(ledger, 1);
	ledger->header->end = 3;
	ledger_close(ledger, false);
	model_open();
	ck_assert_uint_eq(ledger_instance(ledger), 0);

	/* Another target's, under our name. */
	ledger_begin(ledger, 1);
	uuid_make(&other);
	ledger->header->target = other;
	ledger_close(ledger, false);
	model_open();
	ck_assert_uint_eq(ledger_instance(ledger), 0);
	ledger_close(ledger, true);

	snprintf(path, sizeof(path), "%s/strake-ost-%s", model_dir, uuid_format(&target, name));
	ck_assert_int_eq(symlink("/dev/null", path), 0);
	ck_assert_int_eq(ledger_open(model_dir, &target, &ledger), -ELOOP);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	ck_assert_int_lt(ledger_open(model_dir, &target, &ledger), 0);
	ledger = NULL;
	model_end();
}
END_TEST

/* --- in an OST ----------------------------------------------------------------------------------------------------------- */

static const struct where a = { .ino = 100, .gen = 1 }, b = { .ino = 101, .gen = 1 }, c = { .ino = 102, .gen = 1 };
static uint64_t *instance; /* of the OST that ended, in memory shared with the process that is killed */

static void end_here(void)
{
	*instance = ost->instance;
	kill_self();
}

static void same_instance(void)
{
	assert(ost->recovered && ost->kept && ost->instance == *instance);
	assert(ledger_has_room(ost->ledger, 0) && ost->ledger->header->begin == ost->ledger->header->end);
}

static void other_instance(void)
{
	assert(ost->recovered && !ost->kept && ost->instance != *instance);
}

static void ledger_fixture(void)
{
	fixture_format();
	instance = mmap(NULL, sizeof(*instance), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(instance, MAP_FAILED);
}

static void ledger_fixture_end(void)
{
	munmap(instance, sizeof(*instance));
	temp_dir_remove(fixture_dir);
}

static void write_all_kinds(void)
{
	static const struct where d = { .ino = 103, .gen = 1, .stripe = 4 * FRAME_BULK_MAX };
	static uint8_t large[FRAME_BULK_MAX];
	const uint64_t gen = 1;

	memset(large, 7, sizeof(large));
	assert(write_text(a, 10, "small") == 0 && write_text(a, 12, "er") == 0);
	assert(write_at(d, 0, large, sizeof(large)) == 0);
	assert(write_at(d, 4096, large, sizeof(large) - 5) == 0);
	assert(commit(a, NULL) == 0);
	assert(write_text(b, 0, "to be destroyed") == 0 && destroy(&b.ino, &gen, 1, SESSION) == 0);
	assert(write_text(c, 0, "to be cut and written again") == 0 && write_text(c, 5000, "to be cut") == 0);
	assert(cut((struct where){ .ino = c.ino, .gen = 1, .cut = 1, .cut_start = 5, .cut_end = UINT64_MAX }) == 0);
	assert(write_text((struct where){ .ino = c.ino, .gen = 1, .cut = 1, .cut_start = 5, .cut_end = UINT64_MAX }, 7,
			  "since") == 0);
	end_here();
}

static void after_all_kinds(void)
{
	struct totals totals;
	char got[64];

	same_instance();
	assert(read_at(c, 0, got, sizeof(got)) == 12 && memcmp(got, "to be\0\0since", 12) == 0);
	assert(commit((struct where){ .ino = 0 }, &totals) == 0 && totals.instance == *instance);
}

/* Nobody needs to send anything again when only the process died. */
START_TEST(a_kill_keeps_the_instance)
{
	ledger_fixture();
	fixture_run_killed(write_all_kinds);
	fixture_run(after_all_kinds);
	ledger_fixture_end();
}
END_TEST

static void cut_by_a_write_and_die(void)
{
	assert(write_text(c, 0, "to be cut") == 0 && commit(c, NULL) == 0);
	assert(write_text(with_cut(c, 1, 2, UINT64_MAX), 5, "since") == 0);
	end_here();
}

/* The same, of a file that comes into memory once more. */
static void cut_by_a_look_and_die(void)
{
	struct totals totals;

	assert(write_text(c, 0, "to be cut") == 0 && commit(c, NULL) == 0);
	assert(glimpse(with_cut(c, 1, 2, UINT64_MAX), &totals) == 0 && totals.end == 2);
	object_close_idle(ost);
	file_forget_idle(ost);
	assert(!file_find(ost, c.ino, c.gen));
	assert(write_text(with_cut(c, 1, 2, UINT64_MAX), 5, "since") == 0);
	end_here();
}

static void after_cut_by_a_write(void)
{
	char got[64];

	same_instance();
	/* The MDT has no answer yet. */
	assert(cut(with_cut(c, 1, 2, UINT64_MAX)) == 0);
	assert(read_at(c, 0, got, sizeof(got)) == 10 && memcmp(got, "to\0\0\0since", 10) == 0);
}

/* Made twice it would take what was written since, and nobody would send that again. */
START_TEST(a_cut_that_a_write_brought_is_known_after_a_kill)
{
	void (*const kills[])(void) = { cut_by_a_write_and_die, cut_by_a_look_and_die };

	for (size_t i = 0; i < sizeof(kills) / sizeof(*kills); i++) {
		ledger_fixture();
		fixture_run_killed(kills[i]);
		fixture_run(after_cut_by_a_write);
		ledger_fixture_end();
	}
}
END_TEST

static void write_anew_and_die(void)
{
	const struct where cut1 = with_cut(c, 1, 0, UINT64_MAX);

	assert(write_text(c, 0, "to be cut") == 0 && commit(c, NULL) == 0);
	assert(cut(cut1) == 0 && write_text(cut1, 0, "since") == 0);
	assert(object_commit_all(ost) == 0); /* now the ledger knows nothing of it, and the index not yet */
	end_here();
}

/* What was not in the index is taken for what the cut has left behind. */
START_TEST(what_may_have_gone_with_a_cut_changes_it)
{
	ledger_fixture();
	fixture_run_killed(write_anew_and_die);
	fixture_run(other_instance);
	ledger_fixture_end();
}
END_TEST

static void write_and_die(void)
{
	assert(write_text(a, 0, "written, not committed") == 0);
	end_here();
}

static void lose_bytes(void)
{
	char path[OBJECT_PATH_SIZE], full[PATH_MAX + OBJECT_PATH_SIZE + 16];

	object_path(a.ino, a.gen, a.seq, path);
	snprintf(full, sizeof(full), "%s/objects/%s", fixture_dir, path);
	ck_assert_int_eq(truncate(full, 5), 0);
}

static void lose_ledger(void)
{
	char path[PATH_MAX + 64], name[UUID_STRING_SIZE];
	struct identity identity;
	char error[512];

	ck_assert_int_eq(identity_read(fixture_dir, &identity, error, sizeof(error)), 0);
	snprintf(path, sizeof(path), "%s/strake-ost-%s", fixture_dir, uuid_format(&identity.target, name));
	ck_assert_int_eq(unlink(path), 0);
}

START_TEST(what_may_be_lost_changes_it)
{
	void (*const losses[])(void) = { lose_bytes, lose_ledger };

	for (size_t i = 0; i < sizeof(losses) / sizeof(*losses); i++) {
		ledger_fixture();
		fixture_run_killed(write_and_die);
		losses[i]();
		fixture_run(other_instance);
		ledger_fixture_end();
	}
}
END_TEST

/* No ledger can be had: as it is with every start, then. */
START_TEST(without_a_ledger_a_kill_changes_it)
{
	ledger_fixture();
	fixture_config.ledger_dir = "/proc";
	fixture_run_killed(write_and_die);
	fixture_run(other_instance);
	ledger_fixture_end();
}
END_TEST

static void write_and_stop(void)
{
	assert(write_text(a, 0, "written, not committed") == 0);
	*instance = ost->instance;
}

static void same_after_stop(void)
{
	assert(!ost->recovered && ost->instance == *instance);
}

static bool ledger_is_left(void)
{
	char command[PATH_MAX + 64];

	snprintf(command, sizeof(command), "ls '%s' | grep -q strake-ost", fixture_dir);
	return system(command) == 0;
}

START_TEST(a_clean_stop_keeps_it_and_leaves_no_ledger)
{
	ledger_fixture();
	fixture_run(write_and_stop);
	ck_assert(!ledger_is_left());
	fixture_run(same_after_stop);
	ledger_fixture_end();
}
END_TEST

/* The directory of a clean stop is put back when the OST has run since. */
static void copy_back(const char *from, const char *to)
{
	char command[4 * PATH_MAX];

	snprintf(command, sizeof(command),
		 "cd '%s' && mkdir -p %s && rm -rf %s/index %s/objects && cp -a %s/index %s/objects %s", fixture_dir,
		 to, to, to, from, from, to);
	ck_assert_int_eq(system(command), 0);
}

static void destroy_and_die(void)
{
	const uint64_t gen = 1;

	assert(ost->instance == *instance);
	assert(destroy(&a.ino, &gen, 1, SESSION) == 0 && write_text(b, 0, "since") == 0);
	end_here();
}

/* What was destroyed since is there again, under a number that no other content has: fsck finds it. What was written is not. */
static void on_older_copy(void)
{
	struct index_object row;
	char got[8];

	other_instance();
	assert(index_get_object(ost->index, a.ino, 1, 0, &row) == 0);
	assert(read_at(b, 0, got, sizeof(got)) == 0);
}

START_TEST(an_older_copy_is_another_instance)
{
	ledger_fixture();
	fixture_run(write_and_stop);
	copy_back(".", "copy");
	fixture_run_killed(destroy_and_die);
	copy_back("copy", ".");
	fixture_run(on_older_copy);
	ledger_fixture_end();
}
END_TEST

static int failing;

static int sync_fails(void *arg, enum disk_op op)
{
	(void)arg;
	return op == DISK_SYNC && failing > 0 && failing-- > 0 ? -EIO : 0;
}

static void fail_write_and_die(void)
{
	disk_set_fault(ost->disk, sync_fails, NULL);
	*instance = ost->instance;
	assert(write_text(a, 0, "may be lost") == 0);
	failing = 1;
	assert(commit(a, NULL) == -EIO && ost->instance != *instance);
	assert(write_text(b, 0, "written since") == 0);
	end_here();
}

START_TEST(after_a_failed_sync_it_is_the_new_ones)
{
	ledger_fixture();
	fixture_run_killed(fail_write_and_die);
	fixture_run(same_instance);
	ledger_fixture_end();
}
END_TEST

/* Full of what is committed file by file: everything is committed once, and on it goes. */
static void fill_and_die(void)
{
	ledger_forget(ost->ledger, ledger_mark(ost->ledger));
	for (size_t i = 0; i < 3 * LEDGER_SIZE / (sizeof(struct ledger_record) + 4); i += 512) {
		assert(write_text(a, (uint32_t)(i % 60000), "x") == 0);
		for (int j = 0; j < 511 && ledger_has_room(ost->ledger, 1); j++) /* as if by others */
			ledger_done(ost->ledger,
				    ledger_note_write(ost->ledger,
						      &(struct ledger_write){ b.ino, 1, 0, 0, 1, &(uint32_t){ 0 } }),
				    false);
	}
	assert(ost->ledger->header->end > 2 * LEDGER_SIZE);
	end_here();
}

START_TEST(a_full_ledger_holds_up_nobody)
{
	ledger_fixture();
	fixture_run_killed(fill_and_die);
	fixture_run(same_instance);
	ledger_fixture_end();
}
END_TEST

UNIT_MAIN("ost_ledger", what_is_there_is_found, what_is_missing_is_missed, a_lost_end_or_object_is_missed,
	  what_was_under_way_may_be_there_or_not, what_was_zeroed_is_not_looked_for, what_runs_is_not_forgotten,
	  the_ring_turns, random_losses_are_missed, nonsense_is_not_believed, a_kill_keeps_the_instance,
	  a_cut_that_a_write_brought_is_known_after_a_kill, what_may_have_gone_with_a_cut_changes_it,
	  what_may_be_lost_changes_it, without_a_ledger_a_kill_changes_it, an_older_copy_is_another_instance,
	  a_clean_stop_keeps_it_and_leaves_no_ledger, after_a_failed_sync_it_is_the_new_ones,
	  a_full_ledger_holds_up_nobody)
