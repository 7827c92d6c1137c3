/* Wishes to the kernel that it does not fulfil at once. The kernel is a pipe here, full while it waits for something. */
#include "client/fuse/notify.h"
#include "common/fiber.h"
#include "common/loop.h"
#include "tests/unit/unit.h"

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

struct wishes {
	struct loop *loop;
	struct fuse_notifier *notifier;
	int kernel[2];
	unsigned int threads; /* before the wishes */
	unsigned int waiting;
};

static void wish(void *arg)
{
	struct wishes *wishes = arg;

	fuse_notifier_drop_pages(wishes->notifier, 7, 0, 0);
	wishes->waiting--;
}

static unsigned int threads_now(void)
{
	DIR *tasks = opendir("/proc/self/task");
	unsigned int count = 0;

	assert(tasks != NULL);
	for (const struct dirent *entry; (entry = readdir(tasks)) != NULL;)
		count += entry->d_name[0] != '.';
	closedir(tasks);
	return count;
}

static void kernel_fill(const struct wishes *wishes)
{
	static const char block[4096];

	assert(fcntl(wishes->kernel[1], F_SETFL, O_NONBLOCK) == 0);
	while (write(wishes->kernel[1], block, sizeof(block)) > 0)
		;
	assert(fcntl(wishes->kernel[1], F_SETFL, 0) == 0);
}

static void kernel_empty(const struct wishes *wishes)
{
	char block[4096];

	while (read(wishes->kernel[0], block, sizeof(block)) > 0)
		;
}

static void two_at_once(void *arg)
{
	struct wishes *wishes = arg;

	wishes->waiting = 1;
	wish(wishes);
	wishes->threads = threads_now();
	kernel_fill(wishes);
	wishes->waiting = 2;
	assert(fiber_start(wishes->loop, wish, wishes) == 0);
	assert(fiber_start(wishes->loop, wish, wishes) == 0);
	while (threads_now() == wishes->threads)
		fiber_sleep_ms(1);
	assert(wishes->waiting == 2);
	while (wishes->waiting > 0) {
		kernel_empty(wishes);
		fiber_sleep_ms(1);
	}
	loop_stop(wishes->loop);
}

/* The one thread that is idle is not enough for two wishes, though neither has been taken yet. */
START_TEST(no_wish_waits_for_another)
{
	struct wishes wishes = { 0 };

	ck_assert_int_eq(pipe2(wishes.kernel, O_CLOEXEC), 0);
	ck_assert_int_eq(fcntl(wishes.kernel[0], F_SETFL, O_NONBLOCK), 0);
	ck_assert_int_eq(loop_new(&wishes.loop), 0);
	ck_assert_int_eq(fuse_notifier_new(wishes.kernel[1], &wishes.notifier), 0);
	ck_assert_int_eq(fiber_start(wishes.loop, two_at_once, &wishes), 0);
	ck_assert_int_eq(loop_run(wishes.loop), 0);
	fuse_notifier_free(wishes.notifier);
	loop_free(wishes.loop);
	close(wishes.kernel[0]);
	close(wishes.kernel[1]);
}
END_TEST

UNIT_MAIN("fuse_notify", no_wish_waits_for_another)
