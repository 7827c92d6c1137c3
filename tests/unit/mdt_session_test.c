/* Sessions: slots and resends, orphans and who holds them, through restarts; and the volatile tables beside them. */
#include "mds/void.h"
#include "mdt_driver.h"
#include "unit.h"

#include "common/loop.h"

#include <sys/wait.h>

static int make_in_slot(struct driver *driver, const char *name, uint32_t slot, uint32_t seq, bool *ret_resent)
{
	Strake__CreateRequest request = STRAKE__CREATE_REQUEST__INIT;

	request.cred = &driver->cred;
	request.parent = DRIVER_ROOT;
	request.name = driver_name(name);
	request.mode = 0755;
	return driver_send(driver, OP_MKDIR, &request.base, slot, seq, ret_resent);
}

START_TEST(a_resend_gets_the_first_answer)
{
	struct driver *driver = driver_new(), *restarted;
	uint64_t ino, records;
	bool resent;

	ck_assert_int_eq(make_in_slot(driver, "dir", 3, 10, &resent), 0);
	ck_assert(!resent);
	ino = driver_entry(driver)->attr->ino;
	records = driver->index;
	ck_assert_int_eq(make_in_slot(driver, "dir", 3, 10, &resent), 0);
	ck_assert(resent);
	ck_assert_uint_eq(driver_entry(driver)->attr->ino, ino);
	ck_assert_uint_eq(driver->index, records);

	/* Another slot, or a new number: executed, and refused. The refusal is remembered too. */
	ck_assert_int_eq(make_in_slot(driver, "dir", 4, 10, &resent), -EEXIST);
	ck_assert_int_eq(make_in_slot(driver, "dir", 3, 11, &resent), -EEXIST);
	ck_assert(!resent);
	ck_assert_int_eq(driver_rmdir(driver, DRIVER_ROOT, "dir"), 0);
	ck_assert_int_eq(make_in_slot(driver, "dir", 3, 11, &resent), -EEXIST);
	ck_assert(resent);
	ck_assert_int_eq(make_in_slot(driver, "dir", 3, 10, NULL), -ESTALE);

	/* And after a restart. */
	restarted = driver_replay(driver, driver->index, 0);
	driver_reserve(restarted);
	ck_assert_int_eq(make_in_slot(restarted, "dir", 3, 11, &resent), -EEXIST);
	ck_assert(resent);
	ck_assert_int_eq(make_in_slot(restarted, "dir", 3, 12, &resent), 0);
	/* Its numbers are above all that could have been given out before. */
	ck_assert_uint_eq(driver_entry(restarted)->attr->ino, driver->numbers.end);
	driver_free(restarted);

	/* Numbers wrap. */
	ck_assert_int_eq(make_in_slot(driver, "w1", 5, UINT32_MAX, &resent), 0);
	ck_assert_int_eq(make_in_slot(driver, "w2", 5, 0, &resent), 0);
	ck_assert(!resent);
	ck_assert_int_eq(make_in_slot(driver, "w3", 5, UINT32_MAX, NULL), -ESTALE);
	driver_free(driver);
}
END_TEST

/* From this number on: each is new, sent again it is that, and the one before is late. */
static void go_on_from(struct driver *driver, uint32_t slot, uint32_t seq)
{
	char name[16];
	bool resent;

	for (int i = 0; i < 5; i++, seq++) {
		snprintf(name, sizeof(name), "%u.%d", slot, i);
		ck_assert_int_eq(make_in_slot(driver, name, slot, seq, &resent), 0);
		ck_assert(!resent);
		ck_assert_int_eq(make_in_slot(driver, name, slot, seq, &resent), 0);
		ck_assert(resent);
		ck_assert_int_eq(make_in_slot(driver, "late", slot, seq - 1, NULL), -ESTALE);
		ck_assert_int_eq(make_in_slot(driver, "late", slot, seq - 5, NULL), -ESTALE);
	}
}

START_TEST(numbers_wrap_anywhere)
{
	static const uint32_t locked[] = { 0x7fffffff, 0x80000000, 0x80000001, 0xc0000000, 0xfffe0000 };
	struct driver *driver = driver_new(), *restarted;
	char name[16];
	bool resent;

	go_on_from(driver, 1, 0x7ffffffe);
	go_on_from(driver, 2, 0xfffffffe);

	/* So many LOCKs later, of which nobody knows any more after a restart. */
	restarted = driver_replay(driver, driver->index, 0);
	driver_reserve(restarted);
	for (uint32_t i = 0; i < sizeof(locked) / sizeof(*locked); i++) {
		snprintf(name, sizeof(name), "before %u", i);
		ck_assert_int_eq(make_in_slot(restarted, name, 6 + i, 0x40000000, &resent), 0);
		snprintf(name, sizeof(name), "after %u", i);
		ck_assert_int_eq(make_in_slot(restarted, name, 6 + i, 0x40000000 + locked[i], &resent), 0);
		ck_assert(!resent);
	}
	driver_free(restarted);
	driver_free(driver);
}
END_TEST

START_TEST(another_operation_is_no_resend)
{
	struct driver *driver = driver_new();
	Strake__UnlinkRequest request = STRAKE__UNLINK_REQUEST__INIT;

	ck_assert_int_eq(make_in_slot(driver, "dir", 0, 70, NULL), 0);
	request.cred = &driver->cred;
	request.parent = DRIVER_ROOT;
	request.name = driver_name("dir");
	ck_assert_int_eq(driver_send(driver, OP_RMDIR, &request.base, 0, 70, NULL), -EINVAL);
	driver_free(driver);
}
END_TEST

START_TEST(orphans_live_while_held)
{
	struct driver *driver = driver_new();
	uint64_t one = driver->session, two = driver_open_session(driver), file, dir;

	driver_set_osts(driver, 2);
	file = driver_create(driver, DRIVER_ROOT, "file");
	dir = driver_mkdir(driver, DRIVER_ROOT, "dir");
	opens_add(driver->opens, one, file, OPEN_READ);
	opens_add(driver->opens, two, file, OPEN_READ | OPEN_WRITE);
	opens_add(driver->opens, two, dir, OPEN_READ);
	ck_assert_int_eq(driver_unlink(driver, DRIVER_ROOT, "file"), 0);
	ck_assert_uint_eq(driver_entry(driver)->attr->nlink, 0);
	ck_assert_int_eq(driver_rmdir(driver, DRIVER_ROOT, "dir"), 0);
	ck_assert_uint_eq(driver_inode(driver, file).nlink, 0);
	ck_assert_uint_eq(driver->state.meta.orphans, 2);
	driver_check(driver);

	/* They can be used, but get no names any more, and nothing is made in them. */
	ck_assert_int_eq(driver_link(driver, file, DRIVER_ROOT, "again"), -ENOENT);
	ck_assert_int_eq(driver_make(driver, OP_CREATE, dir, "new", 0644, NULL), -ENOENT);
	ck_assert_int_eq(driver_truncate(driver, file, 100), 0);
	driver_create(driver, DRIVER_ROOT, "other");
	ck_assert_int_eq(driver_rename(driver, DRIVER_ROOT, "other", dir, "x", 0), -ENOENT);

	driver_release(driver, one, file);
	ck_assert(!orphan_is_held_by(driver->state.view, file, one));
	ck_assert(orphan_is_held_by(driver->state.view, file, two));
	driver_release(driver, one, file); /* again: nothing */
	driver_check(driver);
	driver_evict(driver, two);
	ck_assert_uint_eq(driver->state.meta.orphans, 0);
	ck_assert_uint_eq(driver->outcome.destroyed, 1);
	driver_check(driver);

	/* What a rename replaces is held as what an unlink removes. */
	driver->session = one;
	file = driver_create(driver, DRIVER_ROOT, "replaced");
	opens_add(driver->opens, one, file, OPEN_READ);
	ck_assert_int_eq(driver_rename(driver, DRIVER_ROOT, "other", DRIVER_ROOT, "replaced", 0), 0);
	ck_assert(orphan_is_held_by(driver->state.view, file, one));
	driver_check(driver);
	driver_free(driver);
}
END_TEST

START_TEST(orphans_wait_for_all_after_a_restart)
{
	struct driver *driver = driver_new(), *restarted;
	uint64_t one = driver->session, two = driver_open_session(driver), file, kept;

	file = driver_create(driver, DRIVER_ROOT, "file");
	kept = driver_create(driver, DRIVER_ROOT, "kept");
	opens_add(driver->opens, two, kept, OPEN_READ);
	ck_assert_int_eq(driver_unlink(driver, DRIVER_ROOT, "kept"), 0);
	restarted = driver_replay(driver, driver->index, 0);
	ck_assert(orphan_is_held_by(restarted->state.view, kept, two));

	/* `one` has told what it has open, `two` not yet: it may have this. */
	leases_reclaim(restarted->leases, leases_find(restarted->leases, one));
	restarted->session = one;
	ck_assert_int_eq(driver_unlink(restarted, DRIVER_ROOT, "file"), 0);
	ck_assert(!orphan_is_held_by(restarted->state.view, file, one));
	ck_assert(orphan_is_held_by(restarted->state.view, file, two));
	driver_evict(restarted, two);
	ck_assert_uint_eq(restarted->state.meta.orphans, 0);
	ck_assert_uint_eq(restarted->state.meta.inodes, 1);
	driver_check(restarted);
	driver_free(restarted);
	driver_free(driver);
}
END_TEST

START_TEST(ending_a_session_takes_all_of_it)
{
	struct driver *driver = driver_new();
	uint64_t one = driver->session, two;
	struct session_row row;
	struct slot_row slot;
	bool resent;

	for (uint32_t i = 0; i < 8; i++)
		ck_assert_int_eq(make_in_slot(driver, (char[]){ (char)('a' + (int)i), 0 }, i, 1, NULL), 0);
	two = driver_open_session(driver);
	ck_assert_uint_gt(two, one);
	driver_evict(driver, one);
	ck_assert_int_eq(session_get(driver->state.view, one, &row), -ENOENT);
	ck_assert_int_eq(session_get(driver->state.view, two, &row), 0);
	ck_assert_int_eq(slot_judge(driver->state.view, one, 3, 1, OP_MKDIR, &resent, &slot), 0);
	ck_assert(!resent);
	ck_assert_uint_eq(driver->state.meta.session_index, driver->index);
	ck_assert_uint_eq(driver->state.meta.newest_session, two);
	driver_check(driver);
	driver_free(driver);
}
END_TEST

START_TEST(leases_run_out)
{
	struct leases *leases = leases_new();
	struct uuid client;
	const uint64_t lease_ns = SESSION_LEASE_MS * NSEC_PER_MSEC, reclaim_ns = LEASES_RECLAIM_MS * NSEC_PER_MSEC;

	uuid_make(&client);
	leases_add(leases, 5, &client, 8, true, 1000);
	ck_assert_uint_eq(leases_expired(leases, 1000 + lease_ns), 0);
	ck_assert_uint_eq(leases_expired(leases, 1001 + lease_ns), 5);
	leases_excuse(leases, 500);
	ck_assert_uint_eq(leases_expired(leases, 1500 + lease_ns), 0);
	ck_assert_ptr_nonnull(leases_find_client(leases, &client));
	ck_assert(!leases_others_unreclaimed(leases, 0));
	leases_add(leases, 6, &client, 8, false, 1000);
	ck_assert(leases_others_unreclaimed(leases, 5));
	ck_assert(!leases_others_unreclaimed(leases, 6));
	leases_reclaim(leases, leases_find(leases, 6));
	ck_assert(!leases_others_unreclaimed(leases, 5));
	leases_add(leases, 7, &client, 8, false, 1000);
	leases_remove(leases, 7);
	leases_remove(leases, 7);
	ck_assert(!leases_others_unreclaimed(leases, 0));
	ck_assert_uint_eq(leases_count(leases), 2);
	leases_remove(leases, 5);
	leases_remove(leases, 6);

	/* Who lives and does not tell what it has open keeps all others waiting: not for ever. */
	leases_add(leases, 8, &client, 8, false, 1000);
	leases_excuse(leases, 500);
	leases_find(leases, 8)->heard_ns = 1000 + reclaim_ns;
	ck_assert_uint_eq(leases_expired(leases, 1500 + reclaim_ns), 0);
	ck_assert_uint_eq(leases_expired(leases, 1501 + reclaim_ns), 8);
	leases_reclaim(leases, leases_find(leases, 8));
	ck_assert_uint_eq(leases_expired(leases, 1501 + reclaim_ns), 0);
	leases_free(leases);
}
END_TEST

struct seen {
	uint64_t numbers[16];
	size_t count;
};

static void see_holder(void *arg, uint64_t session)
{
	struct seen *seen = arg;

	seen->numbers[seen->count++ % 16] = session;
}

static void see_inode(void *arg, uint64_t ino, unsigned int modes)
{
	(void)modes;
	see_holder(arg, ino);
}

START_TEST(open_files)
{
	struct opens *opens = opens_new();
	struct seen seen = { 0 };

	opens_add(opens, 1, 100, OPEN_READ);
	opens_add(opens, 1, 100, OPEN_WRITE);
	opens_add(opens, 2, 100, OPEN_READ);
	ck_assert_uint_eq(opens_modes(opens, 1, 100), OPEN_READ | OPEN_WRITE);
	ck_assert(opens_others_write(opens, 2, 100));
	ck_assert(!opens_others_write(opens, 1, 100));
	ck_assert(!opens_remove(opens, 1, 100, OPEN_WRITE));
	ck_assert(!opens_others_write(opens, 2, 100));
	opens_each_holder(opens, 100, see_holder, &seen);
	ck_assert_uint_eq(seen.count, 2);
	ck_assert(opens_remove(opens, 1, 100, OPEN_READ));
	ck_assert(opens_remove(opens, 1, 100, OPEN_READ));

	/* Many, so that the table grows. */
	for (uint64_t ino = 1000; ino < 6000; ino++)
		opens_add(opens, 1 + ino % 3, ino, OPEN_WRITE);
	ck_assert_uint_eq(opens_count(opens), 5001);
	for (uint64_t ino = 1000; ino < 6000; ino++)
		ck_assert_uint_eq(opens_modes(opens, 1 + ino % 3, ino), OPEN_WRITE);
	seen.count = 0;
	opens_each_inode(opens, 3, see_inode, &seen);
	ck_assert_uint_eq(seen.count, 1667);
	opens_drop_session(opens, 3);
	ck_assert_uint_eq(opens_count(opens), 5001 - 1667);
	opens_free(opens);
}
END_TEST

START_TEST(numbers_are_given_once)
{
	struct numbers numbers;
	uint64_t number, up_to;

	numbers_init(&numbers, 1000);
	ck_assert_int_eq(numbers_take(&numbers, &number), -EAGAIN);
	ck_assert(numbers_run_low(&numbers, &up_to));
	ck_assert_uint_eq(up_to, 1000 + NUMBERS_BLOCK);
	numbers_asked(&numbers, up_to, 7);
	ck_assert(!numbers_run_low(&numbers, &up_to));
	numbers_durable(&numbers, 6);
	ck_assert_int_eq(numbers_take(&numbers, &number), -EAGAIN);
	numbers_durable(&numbers, 7);
	for (uint64_t i = 0; i < NUMBERS_BLOCK / 2; i++) {
		ck_assert_int_eq(numbers_take(&numbers, &number), 0);
		ck_assert_uint_eq(number, 1000 + i);
	}
	ck_assert(numbers_run_low(&numbers, &up_to));
	ck_assert_uint_eq(up_to, 1000 + 2 * NUMBERS_BLOCK);
}
END_TEST

/* As at the start of an MDT whose log has lost what was after this. */
static void start_again(struct driver *driver, uint64_t up_to)
{
	Strake__ReserveRecord reserve = STRAKE__RESERVE_RECORD__INIT;

	numbers_init(&driver->numbers, driver->state.meta.reserved);
	reserve.up_to = up_to;
	reserve.has_rest_is_void = reserve.rest_is_void = 1;
	driver_own(driver, RECORD_RESERVE, 0, &reserve.base);
	driver->numbers.end = up_to;
}

START_TEST(void_numbers)
{
	struct driver *driver = driver_new(), *copy;
	struct view *view = driver->state.view;
	uint64_t file = driver_create(driver, DRIVER_ROOT, "file"), from = driver->state.meta.reserved;
	struct void_range range;
	size_t count;

	ck_assert_uint_eq(driver->state.meta.given, file);
	ck_assert_uint_eq(void_end(view, &count), 0);
	ck_assert_uint_eq(count, 0);
	start_again(driver, from + 100);
	ck_assert_uint_eq(void_end(view, &count), from);
	ck_assert_uint_eq(count, 1);
	ck_assert(!number_is_void(view, file) && number_is_void(view, file + 1) && number_is_void(view, from - 1));
	ck_assert(!number_is_void(view, from) && driver->state.meta.given == from - 1);
	/* Nothing was given out since: the range grows. */
	start_again(driver, from + 200);
	ck_assert_uint_eq(void_end(view, &count), from + 100);
	ck_assert_uint_eq(count, 1);
	ck_assert(number_is_void(view, file + 1) && number_is_void(view, from + 99) &&
		  !number_is_void(view, from + 100));
	/* What is given out then is above it, and the next range is another. */
	ck_assert_uint_eq(driver_create(driver, DRIVER_ROOT, "next"), from + 100);
	start_again(driver, from + 300);
	ck_assert_uint_eq(void_end(view, &count), from + 200);
	ck_assert_uint_eq(count, 2);
	ck_assert(!number_is_void(view, from + 100) && number_is_void(view, from + 101));
	ck_assert_int_eq(void_from(view, 0, &range), 0);
	ck_assert(range.first == file + 1 && range.end == from + 100);
	ck_assert_int_eq(void_from(view, range.end, &range), 0);
	ck_assert(range.first == from + 101 && range.end == from + 200);
	ck_assert_int_eq(void_from(view, range.end, &range), -ENOENT);
	driver_check(driver);

	copy = driver_replay(driver, driver->index, 3);
	driver_compare(driver, copy);
	driver_free(copy);
	driver_free(driver);
}
END_TEST

/* Of a state from before there were void numbers any reserved one may have been given out. */
START_TEST(an_older_state_has_none)
{
	struct driver *driver = driver_new();
	struct state loaded;
	struct bytes row;
	uint8_t old[128];

	ck_assert_int_eq(view_get(driver->state.view, TABLE_META, (struct bytes){ "mdt", 3 }, &row), 0);
	ck_assert_uint_le(row.size, sizeof(old));
	memcpy(old, row.data, row.size);
	old[0] = 1;
	view_put(driver->state.view, TABLE_META, (struct bytes){ "mdt", 3 }, (struct bytes){ old, row.size - 8 });
	state_load(&loaded, driver->state.view);
	ck_assert_uint_eq(loaded.meta.reserved, driver->state.meta.reserved);
	ck_assert_uint_eq(loaded.meta.given, loaded.meta.reserved - 1);
	ck_assert_int_eq(memcmp(loaded.meta.hash_key, driver->state.meta.hash_key, HASH_KEY_SIZE), 0);
	driver_free(driver);
}
END_TEST

/* What a newer version has written is not called damaged, and not loaded. */
START_TEST(a_newer_state_is_refused)
{
	struct driver *driver = driver_new();
	struct state loaded;
	struct bytes row;
	uint8_t newer[128];
	char said[1024] = { 0 };
	int fds[2], status;
	pid_t pid;

	ck_assert_int_eq(view_get(driver->state.view, TABLE_META, (struct bytes){ "mdt", 3 }, &row), 0);
	ck_assert_uint_le(row.size, sizeof(newer));
	memcpy(newer, row.data, row.size);
	newer[0]++;
	view_put(driver->state.view, TABLE_META, (struct bytes){ "mdt", 3 }, (struct bytes){ newer, row.size });
	ck_assert_int_eq(pipe(fds), 0);
	pid = fork();
	if (pid == 0) {
		dup2(fds[1], STDERR_FILENO);
		state_load(&loaded, driver->state.view);
		_exit(0);
	}
	close(fds[1]);
	ck_assert_int_gt(read(fds[0], said, sizeof(said) - 1), 0);
	close(fds[0]);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	ck_assert_ptr_nonnull(strstr(said, "run the newer one"));
	driver_free(driver);
}
END_TEST

UNIT_MAIN("mdt_session", a_resend_gets_the_first_answer, numbers_wrap_anywhere, another_operation_is_no_resend,
	  orphans_live_while_held, orphans_wait_for_all_after_a_restart, ending_a_session_takes_all_of_it,
	  leases_run_out, open_files, numbers_are_given_once, void_numbers, an_older_state_has_none,
	  a_newer_state_is_refused)
