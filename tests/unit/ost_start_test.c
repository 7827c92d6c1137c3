/* Opening and stopping an OST. */
#include "tests/unit/ost_io.h"
#include "tests/unit/unit.h"

static void refused_to_open(const char *words)
{
	char error[512] = "";
	struct ost *opened;

	ck_assert_int_eq(ost_open(&fixture_config, &opened, error, sizeof(error)), -EINVAL);
	ck_assert_msg(strstr(error, words) != NULL, "%s", error);
}

static void write_one(void)
{
	assert(write_text(a, 0, "x") == 0 && commit(a, NULL) == 0);
}

START_TEST(another_osts_or_a_broken_directory_is_refused)
{
	char path[PATH_MAX + 16];

	fixture_format();
	fixture_run(write_one);
	fixture_config.index = 4;
	refused_to_open("is OST 3, not 4");
	fixture_config.index = 3;
	fixture_run(write_one);
	/* Without its index nobody knows what was destroyed. */
	snprintf(path, sizeof(path), "%s/index/data.mdb", fixture_dir);
	ck_assert_int_eq(unlink(path), 0);
	refused_to_open("although there are objects");
	temp_dir_remove(fixture_dir);
}
END_TEST

static bool request_over;

/* A request that takes its time. */
static void late_request(void *arg)
{
	(void)arg;
	while (!ost->stopping)
		fiber_yield();
	for (int i = 0; i < 100; i++) {
		fiber_sleep_ms(1);
		assert(ost && ost->index); /* not stopped under its feet */
	}
	request_over = true;
	if (--ost->running == 0)
		fiber_wake_all(&ost->idle);
}

static void stop_meanwhile(void)
{
	ost->running++;
	assert(fiber_start(loop, late_request, NULL) == 0);
}

START_TEST(stopping_waits_for_what_runs)
{
	fixture_format();
	fixture_run(stop_meanwhile);
	ck_assert(request_over);
	temp_dir_remove(fixture_dir);
}
END_TEST

UNIT_MAIN("ost_start", another_osts_or_a_broken_directory_is_refused, stopping_waits_for_what_runs)
