/* copy_file_range, which the OSTs do by themselves: when they can, what it covers, and who is killed meanwhile. */
#include "tests/unit/client_osts.h"

static struct file *target;
static struct fs_ctx copier;
static uint64_t copied;

static int copy_to(uint64_t from, uint64_t to, uint64_t length)
{
	return fs_copy(file, from, target, to, &copier, length, &copied);
}

static void copy_begin(struct fake *fake, uint64_t size)
{
	struct fs_ctx ctx = root_ctx();
	bool keep;

	begin(fake);
	fake->inodes[1].size = size;
	fake_changed(fake, &fake->inodes[1]);
	learn();
	fake_make(fake, "g", S_IFREG | 0644);
	fake->inodes[2].fixed = fake->inodes[2].turned = true;
	assert(fs_open_file(mount.fs, &ctx, 3, O_RDWR, &target, &keep) == 0);
	copier = (struct fs_ctx){ .trusted = true };
	memset(osts.order, 0, sizeof(osts.order));
	copied = 0;
}

static void copy_end(void)
{
	fs_release(target);
	end();
}

/* Who has lost a lock copies nothing, whichever of the two it was on. */
static void lost_body(struct fake *fake)
{
	copy_begin(fake, 2 * (uint64_t)STRIPE);
	atomic_store(&file->lost, true);
	assert(copy_to(0, 0, STRIPE) == -EIO);
	atomic_store(&file->lost, false);
	atomic_store(&target->lost, true);
	assert(copy_to(0, 0, STRIPE) == -EIO && fake->asked[OP_COPY] == 0);
	atomic_store(&target->lost, false);
	assert(copy_to(0, 0, STRIPE) == 0 && fake->asked[OP_COPY] == 1);
	copy_end();
}

START_TEST(who_has_lost_his_lock_copies_nothing)
{
	fake_run(lost_body);
}
END_TEST

/* A target that has nothing lies as the source from then on; no byte comes here; the size is told before it is answered. */
static void copy_body(struct fake *fake)
{
	const uint64_t size = 5 * (uint64_t)STRIPE + 100;
	struct fs_stats stats;

	copy_begin(fake, size);
	assert(copy_to(0, 0, END / 4) == 0 && copied == size && osts.copied == size && osts.liked == 2);
	assert(osts.order[0] == 'K' && osts.order[strlen(osts.order) - 1] == 'S' && fake->asked[OP_COPY] == 6);
	assert(fake->inodes[2].size == size && osts.grown == 6 * 8 && !osts.kill_suid);
	fs_stats(mount.fs, &stats);
	assert(stats.bytes_copied == size && stats.bytes_read + stats.bytes_written == 0 && fake->asked[OP_READ] == 0);

	/* From now on it is known to lie there; at the source's end there is nothing more. */
	copier.kill_suid = true;
	assert(copy_to(STRIPE, 3 * (uint64_t)STRIPE, 2 * STRIPE) == 0 && copied == 2 * STRIPE && osts.kill_suid);
	assert(copy_to(size, 0, 100) == 0 && copied == 0 && copy_to(size - 50, size - 50, 100) == 0 && copied == 50);
	assert(strchr(strchr(osts.order, 'K') + 1, 'K') == NULL);

	/* Other OSTs, other places in a stripe, too little: not by us. */
	assert(copy_to(0, STRIPE, STRIPE) == -EXDEV && copy_to(0, 100, STRIPE) == -EXDEV &&
	       copy_to(0, 0, 1000) == -EXDEV);
	assert(fs_copy(file, 0, file, 100, &copier, STRIPE, &copied) == -EINVAL);
	copy_end();
}

static void learn_target(void)
{
	struct fs_ctx ctx = root_ctx();
	struct attr attr;

	assert(inode_fetch_attr(target->inode, &ctx, true, &attr) == 0);
}

static void copy_elsewhere_body(struct fake *fake)
{
	copy_begin(fake, 4 * STRIPE);
	/* It has bytes by now, which the MDT knows. */
	osts.layout_busy = true;
	assert(copy_to(0, 0, 4 * STRIPE) == -EXDEV && osts.copied == 0);
	assert(copy_to(0, STRIPE, STRIPE) == 0 && copied == STRIPE); /* as it lies */

	/* Replaced meanwhile: looked at anew. What fails in the middle is a short count, at its beginning the error. */
	osts.layout_busy = false;
	fake->inodes[2].size = 0;
	fake->inodes[2].gen++;
	fake->inodes[2].turned = false;
	fake_changed(fake, &fake->inodes[2]);
	learn_target();
	assert(copy_to(0, 0, 4 * STRIPE) == 0 && copied == 4 * STRIPE);
	fake->inodes[2].gen++;
	fake_changed(fake, &fake->inodes[2]);
	assert(copy_to(0, 0, 4 * STRIPE) == 0 && copied == 4 * STRIPE);
	osts.copy_fails_at = 2 * STRIPE;
	assert(copy_to(0, 0, 4 * STRIPE) == 0 && copied == 2 * STRIPE);
	assert(copy_to(2 * STRIPE, 2 * STRIPE, STRIPE) == -ENOSPC && copied == 0);
	copy_end();
}

/* What was written here to the target's range cannot be sent again once the copy is over it; what is written meanwhile waits. */
static void copy_order_body(struct fake *fake)
{
	copy_begin(fake, 2 * STRIPE);
	fake->inodes[2].turned = false;
	fake_changed(fake, &fake->inodes[2]);
	learn_target();
	memset(osts.order, 0, sizeof(osts.order));
	put(target, 100, "before", 6);
	assert(copy_to(0, 0, 2 * STRIPE) == 0 && strstr(osts.order, "WCY") != NULL);
	copy_end();
}

static int copy_result;
static bool copy_over;

static void copy_fiber(void *arg)
{
	(void)arg;
	copy_result = copy_to(0, 0, 2 * STRIPE);
	copy_over = true;
}

/* Who is killed leaves at once; what the copy covers is written after it. */
static void copy_killed_body(struct fake *fake)
{
	struct fs_ctx ctx = root_ctx();

	copy_begin(fake, 2 * STRIPE);
	osts.hold = OP_COPY;
	copy_over = false;
	assert(fiber_start(fake->loop, copy_fiber, NULL) == 0);
	while (fake->held_count < 2)
		fiber_sleep_ms(1);
	put(target, 100, "after", 5);
	fs_interrupt(&copier);
	while (!copy_over)
		fiber_sleep_ms(1);
	assert(copy_result == -EINTR && strchr(osts.order, 'W') == NULL);
	fiber_sleep_ms(50);
	assert(strchr(osts.order, 'W') == NULL);
	osts.hold = 0;
	for (unsigned int i = 0; i < 2; i++) {
		fake->ost = (uint32_t)((const Strake__CopyRequest *)fake->held[i]->body)->to->seq % FAKE_OSTS;
		answer_copy(fake->held[i]);
	}
	fake->held_count = 0;
	assert(fs_flush(target, &ctx) == 0 && strchr(osts.order, 'W') != NULL && fake->inodes[2].size == 2 * STRIPE);
	copy_end();
}

/* Of two who write to a new file one copies, and so it has other stripes: what the other wrote before goes into these. */
static void copy_stripes_body(struct fake *fake)
{
	const uint32_t small = LAYOUT_STRIPE_SIZE_MIN;
	struct fs_ctx ctx = root_ctx();
	static uint8_t bytes[EXTENT_BLOCK];

	copy_begin(fake, 2 * STRIPE);
	osts.hold = OP_WRITE;
	put(target, 0, bytes, sizeof(bytes));
	while (fake->held_count == 0)
		fiber_sleep_ms(1);
	fake->inodes[2].stripe = small;
	fake->inodes[2].gen++;
	fake_changed(fake, &fake->inodes[2]);
	osts.hold = 0;
	fake->held_count = 0;
	service_reply_error(fake->held[0], -ESTALE);
	memset(osts.order, 0, sizeof(osts.order));
	assert(fs_flush(target, &ctx) == 0 && strcmp(osts.order, "WWWWWWWWS") == 0);
	assert(fake->asked[OP_WRITE] == 1 + sizeof(bytes) / small && fake->inodes[2].size == sizeof(bytes));
	copy_end();
}

START_TEST(the_osts_copy_by_themselves)
{
	fake_run(copy_body);
	fake_run(copy_elsewhere_body);
	fake_run(copy_order_body);
	fake_run(copy_killed_body);
}
END_TEST

START_TEST(what_waits_for_larger_stripes_goes_into_smaller_ones)
{
	fake_run(copy_stripes_body);
}
END_TEST

UNIT_MAIN("client_copy", who_has_lost_his_lock_copies_nothing, the_osts_copy_by_themselves,
	  what_waits_for_larger_stripes_goes_into_smaller_ones)
