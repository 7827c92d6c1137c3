/* The walk of a tree by many fibers, and the table of hard links: with a tree that is made up while it is read. */
#include "client/cli/links.h"
#include "client/cli/transfer.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define WIDTH 40 /* entries of a directory; the first DIRS of them are directories */
#define DIRS  3
#define DEPTH 4

struct fake {
	struct transfer transfer;
	struct client client;
	unsigned int files, dirs, finished, broken, running, running_max;
	unsigned int fail_at; /* the file with that number fails */
	int fail_err;
	int status;
};

/* The depth of a directory is kept in ino; how much of it is listed, in cookie. */
static int fake_list(struct transfer *transfer, struct transfer_dir *dir)
{
	(void)transfer;
	fiber_yield();
	for (int i = 0; i < 7 && dir->cookie < WIDTH; i++) {
		char name[32];
		struct transfer_entry *entry;

		snprintf(name, sizeof(name), "e%llu", (unsigned long long)dir->cookie);
		entry = transfer_entry_new(name, strlen(name));
		ck_assert_ptr_nonnull(entry);
		entry->type = dir->cookie < DIRS && dir->ino < DEPTH ? DT_DIR : DT_REG;
		transfer_add(dir, entry);
		dir->cookie++;
	}
	dir->listed = dir->cookie == WIDTH;
	return 0;
}

static void fake_copy(struct transfer *transfer, struct transfer_dir *dir, struct transfer_entry *entry)
{
	struct fake *fake = transfer->verb;
	struct transfer_dir *below;

	if (++fake->running > fake->running_max)
		fake->running_max = fake->running;
	fiber_yield();
	fake->running--;
	if (entry->type == DT_DIR) {
		fake->dirs++;
		below = transfer_push(transfer, dir, entry);
		ck_assert_ptr_nonnull(below);
		below->ino = dir->ino + 1;
	} else if (++fake->files == fake->fail_at) {
		transfer_fail(transfer, dir, entry, TRANSFER_DEST, fake->fail_err);
	}
}

static void fake_finish(struct transfer *transfer, struct transfer_dir *dir, bool whole)
{
	struct fake *fake = transfer->verb;

	fiber_yield();
	ck_assert(!whole || dir->cookie == WIDTH);
	ck_assert_ptr_null(dir->first);
	fake->finished++;
	fake->broken += !whole;
}

static void fake_run(void *arg)
{
	static const struct transfer_ops ops = { fake_list, fake_copy, fake_finish };
	struct fake *fake = arg;
	struct transfer_dir holder = { .fd = -1 };
	struct transfer_entry *root = transfer_entry_new("root", 4);

	ck_assert_ptr_nonnull(root);
	root->type = DT_DIR;
	fake->transfer.ops = &ops;
	fake->transfer.verb = fake;
	fake->transfer.from = fake->transfer.to = "/root/";
	fake->transfer.client = &fake->client;
	ck_assert_int_eq(transfer_run(&fake->transfer, &holder, root, true), 0);
	fake->status = transfer_result(&fake->transfer, "copied");
	loop_stop(fake->client.loop);
}

/* What it says on stderr comes back in `said`. */
static void walk(struct fake *fake, char *said, size_t size)
{
	int fds[2], old = dup(STDERR_FILENO);
	ssize_t len;

	ck_assert_int_eq(pipe(fds), 0);
	dup2(fds[1], STDERR_FILENO);
	close(fds[1]);
	fake->client.verb = "test";
	ck_assert_int_eq(loop_new(&fake->client.loop), 0);
	ck_assert_int_eq(fiber_start(fake->client.loop, fake_run, fake), 0);
	ck_assert_int_eq(loop_run(fake->client.loop), 0);
	loop_free(fake->client.loop);
	dup2(old, STDERR_FILENO);
	close(old);
	len = read(fds[0], said, size - 1);
	said[len > 0 ? len : 0] = '\0';
	close(fds[0]);
}

static unsigned int all_dirs(void)
{
	unsigned int count = 0, level = 1;

	for (int i = 0; i < DEPTH; i++, level *= DIRS)
		count += level;
	return count;
}

START_TEST(everything_once)
{
	struct fake fake = { 0 };
	char said[4096];

	walk(&fake, said, sizeof(said));
	ck_assert_int_eq(fake.status, CLI_OK);
	ck_assert_str_eq(said, "");
	ck_assert_uint_eq(fake.dirs, all_dirs());
	ck_assert_uint_eq(fake.finished, all_dirs());
	ck_assert_uint_eq(fake.broken, 0);
	/* Every directory has WIDTH entries, of which all but the root's own name are counted. */
	ck_assert_uint_eq(fake.files + fake.dirs - 1, all_dirs() * WIDTH);
	ck_assert_uint_gt(fake.running_max, TRANSFER_FIBERS / 2);
	ck_assert_uint_le(fake.running_max, TRANSFER_FIBERS);
}
END_TEST

START_TEST(one_failure_is_told_and_passed)
{
	struct fake fake = { .fail_at = 100, .fail_err = -EACCES };
	char said[4096];

	walk(&fake, said, sizeof(said));
	ck_assert_int_eq(fake.status, CLI_FAILED);
	ck_assert_ptr_nonnull(strstr(said, "strake: client test: /root/e"));
	ck_assert_ptr_nonnull(strstr(said, "Permission denied"));
	ck_assert_uint_eq(fake.transfer.failures, 1);
	ck_assert_int_eq(fake.transfer.stopped, 0);
	ck_assert_uint_eq(fake.finished, all_dirs());
	/* The one it is in, and all above that. */
	ck_assert_uint_ge(fake.broken, 1);
	ck_assert_uint_le(fake.broken, DEPTH);
}
END_TEST

START_TEST(no_space_stops_it)
{
	struct fake fake = { .fail_at = 100, .fail_err = -ENOSPC };
	char said[4096];

	walk(&fake, said, sizeof(said));
	ck_assert_int_eq(fake.status, CLI_FAILED);
	ck_assert_int_eq(fake.transfer.stopped, -ENOSPC);
	ck_assert_ptr_nonnull(strstr(said, "given up"));
	ck_assert_uint_le(fake.files, 100 + TRANSFER_FIBERS);
	/* All that was begun is released. */
	ck_assert_uint_eq(fake.finished, fake.dirs);
	ck_assert_uint_ge(fake.broken, 1);
}
END_TEST

START_TEST(failure_far_down_has_its_path)
{
	struct fake fake = { 0 };
	struct transfer transfer = { .client = &fake.client, .from = "SRC//", .to = "/" };
	struct transfer_dir holder = { 0 }, top = { .parent = &holder, .name = (char[]){ "x" } };
	struct transfer_dir sub = { .parent = &top, .name = (char[]){ "sub" } };
	struct transfer_entry *entry = transfer_entry_new("file", 4);
	char said[256] = "";
	FILE *old = stderr, *memory = fmemopen(said, sizeof(said), "w");

	ck_assert_ptr_nonnull(entry);
	ck_assert_ptr_nonnull(memory);
	fake.client.verb = "put";
	setvbuf(memory, NULL, _IONBF, 0);
	stderr = memory;
	transfer_complain(&transfer, &sub, entry, TRANSFER_SOURCE, "A");
	transfer_complain(&transfer, &sub, NULL, TRANSFER_DEST, "B");
	transfer_complain(&transfer, &top, entry, TRANSFER_DEST, "C");
	transfer_complain(&transfer, &top, NULL, TRANSFER_DEST, "D");
	transfer_complain(&transfer, &holder, entry, TRANSFER_SOURCE, "E");
	stderr = old;
	fclose(memory);
	free(entry);
	ck_assert_str_eq(said, "strake: client put: SRC/sub/file: A\n"
			       "strake: client put: /sub: B\n"
			       "strake: client put: /file: C\n"
			       "strake: client put: /: D\n"
			       "strake: client put: SRC: E\n");
	ck_assert_uint_eq(transfer.failures, 5);
}
END_TEST

/* --- hard links -------------------------------------------------------------------------------------------------- */

struct linking {
	struct links *links;
	struct loop *loop;
	unsigned int left, copies, linked;
	bool fail_first;
};

static void link_one(void *arg)
{
	struct linking *linking = arg;
	enum links_verdict verdict;
	struct links_copy copy = { 0 };

	ck_assert_int_eq(links_enter(linking->links, 1, 77, 5, &verdict, &copy), 0);
	if (verdict == LINKS_FIRST) {
		fiber_yield();
		if (linking->fail_first) {
			linking->fail_first = false;
			links_failed(linking->links, 1, 77);
		} else {
			linking->copies++;
			links_copied(linking->links, 1, 77, (struct links_copy){ .ino = 99, .path = strdup("p") });
		}
	} else {
		ck_assert_uint_eq(copy.ino, 99);
		ck_assert_str_eq(copy.path, "p");
		linking->linked++;
		fiber_yield();
		links_leave(linking->links, 1, 77);
	}
	if (--linking->left == 0)
		loop_stop(linking->loop);
}

static void link_all(struct linking *linking)
{
	linking->links = links_new();
	linking->left = 5;
	ck_assert_ptr_nonnull(linking->links);
	ck_assert_int_eq(loop_new(&linking->loop), 0);
	for (int i = 0; i < 5; i++)
		ck_assert_int_eq(fiber_start(linking->loop, link_one, linking), 0);
	ck_assert_int_eq(loop_run(linking->loop), 0);
	loop_free(linking->loop);
}

START_TEST(links_to_the_first)
{
	struct linking linking = { 0 };

	link_all(&linking);
	ck_assert_uint_eq(linking.copies, 1);
	ck_assert_uint_eq(linking.linked, 4);
	links_free(linking.links);
}
END_TEST

START_TEST(links_when_the_first_fails)
{
	struct linking linking = { .fail_first = true };

	link_all(&linking);
	ck_assert_uint_eq(linking.copies, 1);
	ck_assert_uint_eq(linking.linked, 3);
	links_free(linking.links);
}
END_TEST

START_TEST(many_links)
{
	struct links *links = links_new();
	enum links_verdict verdict;
	struct links_copy copy;

	ck_assert_ptr_nonnull(links);
	for (uint64_t ino = 0; ino < 5000; ino++) {
		ck_assert_int_eq(links_enter(links, 1, ino, 3, &verdict, &copy), 0);
		ck_assert_int_eq(verdict, LINKS_FIRST);
		links_copied(links, 1, ino, (struct links_copy){ .ino = ino + 1 });
	}
	for (int name = 0; name < 2; name++) {
		for (uint64_t ino = 0; ino < 5000; ino++) {
			ck_assert_int_eq(links_enter(links, 1, ino, 3, &verdict, &copy), 0);
			ck_assert_int_eq(verdict, LINKS_OTHER);
			ck_assert_uint_eq(copy.ino, ino + 1);
			links_leave(links, 1, ino);
		}
	}
	/* All names were seen: it is forgotten. */
	ck_assert_int_eq(links_enter(links, 1, 17, 3, &verdict, &copy), 0);
	ck_assert_int_eq(verdict, LINKS_FIRST);
	links_failed(links, 1, 17);
	links_free(links);
}
END_TEST

UNIT_MAIN("cli_transfer", everything_once, one_failure_is_told_and_passed, no_space_stops_it,
	  failure_far_down_has_its_path, links_to_the_first, links_when_the_first_fails, many_links)
