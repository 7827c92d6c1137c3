/* The caller's pages, where direct I/O goes past them: dropped before it is answered, as long as they are used. */
#include "tests/unit/client_osts.h"

static struct {
	uint64_t offset, size;
	unsigned int parts, all;
	bool held; /* a page is not let go of */
} drops;

static void drop_pages(void *owner, uint64_t ino, uint64_t offset, uint64_t size)
{
	assert(owner == &drops && ino == 2);
	drops.offset = offset;
	drops.size = size;
	if (size > 0) {
		drops.parts++;
		return;
	}
	while (drops.held)
		fiber_sleep_ms(1);
	drops.all++;
}

static void read_page(void)
{
	struct fs_ctx ctx = root_ctx();
	struct read_result result;
	char page[4096];

	ctx.paged = true;
	assert(fs_read(file, &ctx, 0, sizeof(page), page, &result) == 0);
	read_release(&result);
}

/* What is in the way of a write past the pages has gone when it is answered. */
static void pass_pages(unsigned int times)
{
	for (unsigned int i = 0; i < times; i++) {
		unsigned int parts = drops.parts;

		put(direct, 100 + i, "yy", 2);
		assert(drops.parts == parts + 1 && drops.offset == 100 + i && drops.size == 2);
	}
}

static bool pages_are_used(void)
{
	bool used;

	pthread_mutex_lock(&file->inode->lock);
	used = file->inode->pages_used > 0;
	pthread_mutex_unlock(&file->inode->lock);
	return used;
}

static void passed_body(struct fake *fake)
{
	begin(fake);
	memset(&drops, 0, sizeof(drops));
	mount.fs->config.drop_pages = drop_pages;
	mount.fs->config.owner = &drops;
	put(direct, 0, "x", 1); /* nobody has any */
	assert(drops.parts == 0);

	/* All of them go in the end, and nobody waits for that. */
	for (unsigned int round = 1; round <= 2; round++) {
		read_page();
		pass_pages(PAGES_PASSED_MAX - 1);
		assert(drops.all == round - 1);
		drops.held = true;
		pass_pages(PAGES_PASSED_MAX);
		drops.held = false;
		while (pages_are_used())
			fiber_sleep_ms(1);
		assert(drops.all == round);
		drops.parts = 0;
		put(direct, 0, "x", 1);
		assert(drops.parts == 0);
	}

	/* Who reads meanwhile has some again. */
	read_page();
	drops.held = true;
	pass_pages(PAGES_PASSED_MAX);
	read_page();
	pass_pages(2 * PAGES_PASSED_MAX);
	drops.held = false;
	while (drops.all == 2)
		fiber_sleep_ms(1);
	pass_pages(1);
	end();
}

START_TEST(pages_that_direct_io_has_passed_are_dropped_while_they_are_used)
{
	fake_run(passed_body);
}
END_TEST

UNIT_MAIN("client_pages", pages_that_direct_io_has_passed_are_dropped_while_they_are_used)
