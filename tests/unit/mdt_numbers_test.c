/* Inode numbers: a range is durable before it is used, and what a power failure or an older copy has lost is void. */
#include "mds/void.h"
#include "tests/unit/held_disk.h"
#include "tests/unit/mdt_fixture.h"

/* Open it, and see where its log ended, and what is reserved and void then; it makes nothing else. */
static uint64_t reopen(struct loop *loop, const struct setting *setting, bool go_on, uint64_t from,
		       uint64_t *ret_reserved, uint64_t *ret_void_end)
{
	struct address_list listen;
	struct mdt_config config = setting_config(setting, &listen);
	struct mdt *mdt;
	char error[256];
	uint64_t found;

	config.has_go_on_from = go_on;
	config.go_on_from = from;
	ck_assert_msg(mdt_open(loop, &config, &mdt, error, sizeof(error)) == 0, "%s", error);
	found = mdt->found;
	*ret_reserved = mdt->state.meta.reserved;
	*ret_void_end = void_end(mdt->state.view, NULL);
	mdt_stop(mdt);
	mdt_close(mdt);
	return found;
}

/* Where the log ends that nobody goes on with. */
static uint64_t log_end(struct loop *loop, const struct setting *setting)
{
	struct mdt_config config = setting_config(setting, &(struct address_list){ 0 });
	struct mdt *mdt;
	char error[256];
	uint64_t found;

	config.listen = NULL;
	ck_assert_msg(mdt_open(loop, &config, &mdt, error, sizeof(error)) == 0, "%s", error);
	found = mdt->found;
	mdt_close(mdt);
	return found;
}

START_TEST(an_older_copy_goes_on_above)
{
	struct setting setting;
	struct loop *loop;
	uint64_t end, reserved, more, voids;

	setting_make(&setting);
	ck_assert_int_eq(loop_new(&loop), 0);
	reopen(loop, &setting, false, 0, &reserved, &voids);
	ck_assert_uint_eq(voids, 0);

	/* It ends elsewhere: that was meant for another copy. */
	end = log_end(loop, &setting);
	ck_assert_uint_eq(log_end(loop, &setting), end);
	reopen(loop, &setting, true, end - 1, &more, &voids);
	ck_assert_uint_eq(more, reserved);
	ck_assert_uint_eq(voids, 0);

	end = log_end(loop, &setting);
	ck_assert_uint_eq(reopen(loop, &setting, true, end, &more, &voids), end);
	ck_assert_uint_ge(more, reserved + NUMBERS_LEAP);
	ck_assert_uint_ge(voids, reserved + NUMBERS_LEAP - NUMBERS_BLOCK);
	ck_assert_uint_eq(more >> 48, 0);

	/* Once. */
	reserved = more;
	ck_assert_uint_gt(reopen(loop, &setting, true, end, &more, &voids), end);
	ck_assert_uint_eq(more, reserved);
	loop_free(loop);
	temp_dir_remove(setting.dir);
}
END_TEST

/* The range is used up, and the record of the next one is not durable yet. */
static void numbers_story(void *arg)
{
	struct fake_ost *ost = arg;
	struct client *client = &ost->client;
	struct make first = { .client = client, .name = "first", .slot = 1, .seq = 1 };
	struct make parked = { .client = client, .name = "parked", .slot = 1, .seq = 2 };
	uint64_t end, fastest_ns = UINT64_MAX;

	client_open_session(client);
	make_run(&first);
	ck_assert_uint_eq(first.ino >> 48, 5);
	disk_hold(true);
	end = ost->mdt->numbers.next = ost->mdt->numbers.end;
	ck_assert_int_eq(fiber_start(ost->loop, make_run, &parked), 0);
	go_round(client);
	ck_assert(!parked.answered);
	disk_hold(false);
	while (!parked.answered)
		fiber_sleep_ms(1);
	ck_assert_uint_eq(parked.ino, end);

	/* The record is synced at once, not when the log would be. */
	for (uint32_t i = 0; i < 20; i++) {
		char name[16];
		struct make quick = { .client = client, .name = name, .slot = 1, .seq = 3 + i };
		uint64_t began_ns = clock_ns();

		snprintf(name, sizeof(name), "quick%u", i);
		ost->mdt->numbers.next = ost->mdt->numbers.end;
		make_run(&quick);
		if (clock_ns() - began_ns < fastest_ns)
			fastest_ns = clock_ns() - began_ns;
	}
	ck_assert_uint_lt(fastest_ns, MDT_LOG_SYNC_MS / 2 * NSEC_PER_MSEC);
	story_end(ost);
}

static void copy_dir(const char *from, const char *to)
{
	char command[2 * PATH_MAX + 64];

	snprintf(command, sizeof(command), "rm -rf %s && cp -r --sparse=always %s %s", to, from, to);
	ck_assert_int_eq(system(command), 0);
}

/* The power fails: a file is made whose record is lost. */
static void void_story(void *arg)
{
	struct fake_ost *ost = arg;
	struct client *client = &ost->client;
	uint64_t kept, lost, next, first, end;
	char image[PATH_MAX + 16];
	uint32_t seq = 1;

	snprintf(image, sizeof(image), "%s.image", ost->setting.dir);
	client_open_session(client);
	ck_assert_int_eq(client_make(client, OP_CREATE, 1, "kept", 0, seq++, &kept), 0);
	while (mdt_log_durable(ost->mdt->log) < mdt_log_last(ost->mdt->log))
		fiber_sleep_ms(1);
	copy_dir(ost->setting.dir, image);
	ck_assert_int_eq(client_make(client, OP_CREATE, 1, "lost", 0, seq, &lost), 0);
	ck_assert_uint_eq(ost->voids, 0);
	end = ost->mdt->state.meta.reserved;
	mdt_end(ost);
	copy_dir(image, ost->setting.dir);

	/* All that may have been given out is void, and the OST told until it has done what it must. */
	ost->refuse = 1;
	ost->busy = 3;
	mdt_again(ost);
	while (ost->voids == 0)
		fiber_sleep_ms(1);
	ck_assert_uint_eq(ost->busy, 0);
	ck_assert_uint_eq(ost->void_count, 1);
	ck_assert_uint_eq(first = ost->void_first[0], kept + 1);
	ck_assert_uint_eq(ost->void_end[0], end);
	ck_assert(first <= lost && lost < end);
	ck_assert_int_eq(client_make(client, OP_CREATE, 1, "next", 0, seq++, &next), 0);
	ck_assert_uint_eq(next, end);

	/* Another one under its index hears of it, too. */
	ost->service = service_free(ost->service);
	uuid_make(&ost->target);
	strcpy(ost->address, "127.0.0.1:0");
	service_start(ost);
	ost->voids = 0;
	give_map(ost, true);
	while (ost->voids == 0)
		fiber_sleep_ms(1);
	ck_assert_uint_eq(ost->void_end[0], end);

	/* So does the same one whenever it comes again: it may have been put back from a backup. */
	ost->service = service_free(ost->service);
	ost->voids = 0;
	ost->void_end[0] = 0;
	service_start(ost);
	while (ost->voids == 0)
		fiber_sleep_ms(1);
	ck_assert_uint_eq(ost->void_end[0], end);

	/* A clean stop loses nothing, and gives back the rest. */
	for (int i = 0; i < 3; i++) {
		mdt_end(ost);
		mdt_again(ost);
		while (ost->voids == 0)
			fiber_sleep_ms(1);
		ck_assert_uint_eq(ost->void_count, 1);
		ck_assert_uint_eq(ost->void_end[0], end);
		ck_assert_int_eq(client_make(client, OP_CREATE, 1, (char[]){ (char)('a' + i), 0 }, 0, seq++, &lost), 0);
		ck_assert_uint_eq(lost, next + 1 + (uint64_t)i);
	}

	/* Nothing is given out between two crashes: the range of the first grows. */
	for (int i = 0; i < 2; i++) {
		while (mdt_log_durable(ost->mdt->log) < mdt_log_last(ost->mdt->log))
			fiber_sleep_ms(1);
		copy_dir(ost->setting.dir, image);
		mdt_end(ost);
		copy_dir(image, ost->setting.dir);
		mdt_again(ost);
		while (ost->voids == 0)
			fiber_sleep_ms(1);
		ck_assert_uint_eq(ost->void_count, 2);
		ck_assert_uint_eq(ost->void_first[1], lost + 1);
	}
	temp_dir_remove(image);
	story_end(ost);
}

START_TEST(numbers_are_waited_for)
{
	ost_run(numbers_story, false, 5);
}
END_TEST

START_TEST(lost_numbers_are_void)
{
	ost_run(void_story, false, 3);
}
END_TEST

UNIT_MAIN("mdt_numbers", an_older_copy_goes_on_above, numbers_are_waited_for, lost_numbers_are_void)
