/*
 * Two workers on threads of their own use the same files while connections break and the session is lost, and are freed while what
 * they have written is brought out.
 */
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
#define DRAINS (ROUNDS / 20)

struct user {
	struct fs *fs;
	unsigned int index;
	void (*use)(void *user);
	struct loop *loop;
	struct worker *worker;
	unsigned int running;
	struct fiber_queue queue;
	_Atomic bool *quiet, *ended;
	pthread_t thread;
};

static void used(struct user *user)
{
	if (--user->running == 0)
		fiber_wake_all(&user->queue);
}

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
	used(user);
}

static void write_files(void *arg)
{
	static const char bytes[10000];
	struct user *user = arg;
	const unsigned int first = user->running;

	for (unsigned int i = 0; i < FILES; i++) {
		struct fs_ctx ctx = { .trusted = true };
		char name[16];
		size_t len = (size_t)snprintf(name, sizeof(name), "f%u", (first + i) % FILES);
		struct attr attr;
		struct file *file;
		bool keep;

		assert(fs_create(user->fs, &ctx, 1, name, len, 0644, O_RDWR, &attr, &file, &keep) == 0);
		assert(fs_write(file, &ctx, i * sizeof(bytes), bytes, sizeof(bytes), NULL) == 0);
		fs_release(file);
		fs_forget(user->fs, attr.ino, 1);
	}
	used(user);
}

static void user_fiber(void *arg)
{
	struct user *user = arg;

	assert(worker_new(user->fs, user->loop, user->index, &user->worker) == 0);
	while (user->running < FIBERS) {
		user->running++;
		assert(fiber_start(user->loop, user->use, user) == 0);
	}
	while (user->running > 0)
		fiber_wait(&user->queue, NULL);
	atomic_store(user->quiet, true);
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

struct users {
	struct fs *fs;
	struct user user[WORKERS];
	_Atomic bool quiet[WORKERS], ended[WORKERS]; /* uses nothing any more; its worker has been freed */
};

static void users_begin(struct fake *fake, void (*use)(void *user), struct users *users)
{
	struct fs_config config;
	char error[256];

	quick_time_off();
	*users = (struct users){ 0 };
	fake_config(fake, &config);
	config.workers = WORKERS;
	assert(fs_open(fake->loop, &config, 10000, &users->fs, error, sizeof(error)) == 0);
	for (unsigned int i = 0; i < WORKERS; i++) {
		users->user[i] =
			(struct user){ users->fs, i, use, .quiet = &users->quiet[i], .ended = &users->ended[i] };
		pthread_create(&users->user[i].thread, NULL, user_thread, &users->user[i]);
	}
}

static bool all_are(_Atomic bool flags[WORKERS])
{
	return flags[0] && flags[1];
}

static void users_end(struct users *users)
{
	while (!all_are(users->ended))
		fiber_sleep_ms(1);
	for (unsigned int i = 0; i < WORKERS; i++)
		pthread_join(users->user[i].thread, NULL);
	fs_close(users->fs);
}

static void threads_body(struct fake *fake)
{
	struct users users;
	unsigned int ticks = 0;

	users_begin(fake, use_files, &users);
	while (!all_are(users.ended)) {
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
	users_end(&users);
	assert(fake->inode_count <= 1 + FILES);
}

START_TEST(workers_share_files_through_all_kinds_of_trouble)
{
	fake_run(threads_body);
}
END_TEST

static bool take_all(struct fake *fake, struct request *request)
{
	Strake__WriteReply written = STRAKE__WRITE_REPLY__INIT;
	Strake__CommitReply committed = STRAKE__COMMIT_REPLY__INIT;

	written.instance = committed.instance = fake->ost_instance;
	if (request->header.opcode == OP_WRITE)
		fake_reply(request, &written.base);
	else if (request->header.opcode == OP_COMMIT)
		fake_reply(request, &committed.base);
	else
		return false;
	return true;
}

/* As where a mount ends, and the connections of its workers take their time to. */
static void drain_body(struct fake *fake)
{
	struct users users;
	struct fs_ctx ctx = { .trusted = true };
	struct fs_stats stats;
	char name[16];

	for (unsigned int i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		fake_make(fake, name, S_IFREG | 0644)->fixed = true;
	}
	fake->hook = take_all;
	for (unsigned int i = 0; i < DRAINS; i++) {
		users_begin(fake, write_files, &users);
		while (!all_are(users.quiet))
			fiber_sleep_ms(1);
		assert(fs_drain(users.fs, &ctx) == 0);
		fs_stats(users.fs, &stats);
		assert(stats.bytes_held == 0 && stats.bytes_lost == 0);
		users_end(&users);
	}
}

START_TEST(workers_may_be_freed_while_all_is_written_out)
{
	fake_run(drain_body);
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
	  workers_may_be_freed_while_all_is_written_out, in_the_end_nothing_is_told_open_that_is_not)
