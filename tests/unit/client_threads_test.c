/* Two workers on threads of their own use the same files while connections break and the session is lost. */
#include "client/fs_state.h"
#include "tests/unit/client_fake.h"

#include <fcntl.h>
#include <pthread.h>

#define WORKERS 2
#ifdef STRAKE_SAN
#define ROUNDS 100
#else
#define ROUNDS 1000
#endif
#define FILES  8
#define FIBERS 4

struct user {
	struct fs *fs;
	unsigned int index;
	struct loop *loop;
	struct worker *worker;
	unsigned int running;
	struct fiber_queue queue;
	_Atomic bool *ended;
	pthread_t thread;
};

static void use_files(void *arg)
{
	struct user *user = arg;
	unsigned int seed = user->index * FIBERS + user->running;

	for (int round = 0; round < ROUNDS; round++) {
		struct fs_ctx ctx = { .trusted = true };
		char name[16];
		size_t len = (size_t)snprintf(name, sizeof(name), "f%d", rand_r(&seed) % FILES);
		struct attr attr, now;
		struct file *file;
		bool keep;

		assert(fs_create(user->fs, &ctx, 1, name, len, 0644, O_RDWR, &attr, &file, &keep) == 0);
		fs_release(file);
		assert(fs_lookup(user->fs, &ctx, 1, name, len, &attr) == 0);
		assert(fs_open_file(user->fs, &ctx, attr.ino, rand_r(&seed) % 3, &file, &keep) == 0);
		attr.mtime_ns = round;
		assert(fs_setattr(user->fs, &ctx, attr.ino, SETATTR_MTIME, &attr, &now) == 0);
		assert(fs_getattr(user->fs, &ctx, attr.ino, rand_r(&seed) % 2, &now) == 0);
		fs_release(file);
		fs_forget(user->fs, attr.ino, 2);
	}
	if (--user->running == 0)
		fiber_wake_all(&user->queue);
}

static void user_fiber(void *arg)
{
	struct user *user = arg;

	assert(worker_new(user->fs, user->loop, user->index, &user->worker) == 0);
	while (user->running < FIBERS) {
		user->running++;
		assert(fiber_start(user->loop, use_files, user) == 0);
	}
	while (user->running > 0)
		fiber_wait(&user->queue, NULL);
	worker_free(user->worker);
	atomic_store(user->ended, true);
	loop_stop(user->loop);
}

static void *user_thread(void *arg)
{
	struct user *user = arg;

	assert(loop_new(&user->loop) == 0);
	assert(fiber_start(user->loop, user_fiber, user) == 0);
	assert(loop_run(user->loop) == 0);
	loop_free(user->loop);
	return NULL;
}

static void threads_body(struct fake *fake)
{
	struct fs_config config;
	struct user users[WORKERS] = { 0 };
	_Atomic bool ended[WORKERS] = { 0 };
	char error[256];
	struct fs *fs;
	unsigned int ticks = 0;

	quick_time_off();
	fake_config(fake, &config);
	config.workers = WORKERS;
	assert(fs_open(fake->loop, &config, 10000, &fs, error, sizeof(error)) == 0);
	for (unsigned int i = 0; i < WORKERS; i++) {
		users[i] = (struct user){ .fs = fs, .index = i, .ended = &ended[i] };
		pthread_create(&users[i].thread, NULL, user_thread, &users[i]);
	}
	while (!ended[0] || !ended[1]) {
		fiber_sleep_ms(10);
		ticks++;
		if (ticks % 7 == 0)
			fake_break_connections(fake);
		if (ticks % 19 == 0)
			fake->session += 10;
		if (ticks % 29 == 0) {
			fake->instance++;
			fake->reclaim = true;
			fake_break_connections(fake);
		}
	}
	for (unsigned int i = 0; i < WORKERS; i++)
		pthread_join(users[i].thread, NULL);
	assert(fake->inode_count <= 1 + FILES);
	fs_close(fs);
}

START_TEST(workers_share_files_through_all_kinds_of_trouble)
{
	fake_run(threads_body);
}
END_TEST

/* What is told settles: nothing stays open at the MDT when nothing is open here. */
static void settle_body(struct fake *fake)
{
	struct fs_config config;
	struct fake_mount mount;
	struct file *files[FILES];
	struct fs_ctx ctx = { .trusted = true };
	unsigned int seed = 1, open;
	char name[16];
	bool keep;

	for (unsigned int i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		fake_make(fake, name, S_IFREG | 0644);
	}
	fake_config(fake, &config);
	fake_mount(fake, &config, &mount);
	for (int round = 0; round < 100; round++) {
		for (unsigned int i = 0; i < FILES; i++)
			assert(fs_open_file(mount.fs, &ctx, 2 + i, rand_r(&seed) % 3, &files[i], &keep) == 0);
		for (unsigned int i = 0; i < FILES; i++)
			fs_release(files[i]);
		if (round % 10 == 3) {
			fake->reclaim = true;
			fake_break_connections(fake);
		}
		if (round % 10 == 7)
			fake->session++;
		if (round % 4 == 0)
			fiber_sleep_ms((unsigned int)rand_r(&seed) % 60);
	}
	for (int tries = 0; tries < 1000; tries++) {
		open = 0;
		for (unsigned int i = 0; i < FILES; i++)
			open |= fake->inodes[1 + i].opened;
		if (open == 0)
			break;
		fiber_sleep_ms(5);
	}
	assert(open == 0);
	fake_unmount(&mount);
}

START_TEST(in_the_end_nothing_is_told_open_that_is_not)
{
	fake_run(settle_body);
}
END_TEST

UNIT_MAIN("client_threads", workers_share_files_through_all_kinds_of_trouble,
	  in_the_end_nothing_is_told_open_that_is_not)
