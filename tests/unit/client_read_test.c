/* What is read is whole and new: broken answers, ends, replaced files, and what was read ahead. */
#include "client/data/ahead.h"
#include "tests/unit/client_osts.h"

static void sums_body(struct fake *fake)
{
	struct fs_ctx ctx = root_ctx();
	struct read_result result;
	char got[16];

	begin(fake);
	put_out(0, "hello");
	osts.broken = 2;
	osts.broken_to = STRIPE;
	assert(reads(direct, 0, "hello") && fake->asked[OP_READ] == 3);
	osts.broken = 1000;
	assert(fs_read(direct, &ctx, 0, 5, got, &result) == -EIO);
	osts.broken = 0;
	assert(reads(direct, 0, "hello"));

	/* Where the object ends before the file does, there are zeros. */
	put_out(STRIPE, "x");
	assert(get(direct, 3, got, 4) == 4 && memcmp(got, "lo\0\0", 4) == 0);

	/* Others have made it longer, and what is known of it is old. */
	cut_elsewhere(1, STRIPE + 5, END);
	memcpy(osts.bytes + STRIPE, "xmore", 5);
	osts.length[1] = 5;
	assert(get(direct, STRIPE, got, 5) == 1);
	pthread_mutex_lock(&file->inode->lock);
	file->inode->attr_expires_ns = 0;
	pthread_mutex_unlock(&file->inode->lock);
	assert(reads(direct, STRIPE, "xmore"));

	/* Replaced by others meanwhile: the new content. */
	replace_elsewhere();
	memcpy(osts.bytes, "HELLO", 5);
	osts.length[0] = 5;
	cluster->inodes[1].size = 5;
	assert(reads(direct, 0, "HELLO"));
	end();
}

START_TEST(what_is_read_is_whole)
{
	fake_run(sums_body);
}
END_TEST

#define PIECE (128u * 1024)

static char pieces[PIECE];

/* The piece at that offset is all that letter. */
static bool piece_is(uint64_t offset, char letter)
{
	if (get(file, offset, pieces, PIECE) != PIECE)
		return false;
	for (size_t i = 0; i < PIECE; i++)
		if (pieces[i] != letter)
			return false;
	return true;
}

static void fill_stripe(char letter)
{
	memset(osts.bytes, letter, STRIPE);
	osts.length[0] = STRIPE;
	cluster->inodes[1].size = STRIPE;
	fake_changed(cluster, &cluster->inodes[1]);
	learn();
}

/* What was read ahead is void when the content changes, by whomever. */
static void ahead_body(struct fake *fake)
{
	struct fs_ctx ctx = root_ctx();
	struct attr attr = { .size = 5 * PIECE }, now;
	unsigned int before;

	begin(fake);
	fill_stripe('a');
	for (unsigned int i = 0; i < 4; i++)
		assert(piece_is(i * PIECE, 'a'));
	before = fake->asked[OP_READ];
	assert(piece_is(4 * PIECE, 'a') && fake->asked[OP_READ] <= before + 1); /* it was there before */
	fill_stripe('b');
	assert(piece_is(5 * PIECE, 'b'));
	memset(pieces, 'c', PIECE);
	put(file, 6 * PIECE, pieces, PIECE);
	assert(piece_is(6 * PIECE, 'c') && piece_is(7 * PIECE, 'b'));

	/* A truncate, and longer again. */
	assert(fs_setattr(mount.fs, &ctx, 2, SETATTR_SIZE, &attr, &now) == 0);
	memset(osts.bytes + 5 * PIECE, 0, STRIPE - 5 * PIECE);
	cluster->inodes[1].size = STRIPE;
	fake_changed(fake, &fake->inodes[1]);
	learn();
	assert(piece_is(8 * PIECE, 0) && piece_is(9 * PIECE, 0) && piece_is(7 * PIECE, 0));
	end();
}

START_TEST(read_ahead_never_gives_old_bytes)
{
	fake_run(ahead_body);
}
END_TEST

/* What came broken ahead of its time is asked for again, when it is wanted; also by who waits for it. */
static void broken_ahead_body(struct fake *fake)
{
	begin(fake);
	fill_stripe('a');
	osts.broken = 3; /* all tries of a unit */
	osts.broken_to = AHEAD_UNIT;
	assert(piece_is(0, 'a') && osts.broken == 0);
	osts.broken = 1000;
	osts.broken_from = AHEAD_UNIT;
	osts.broken_to = STRIPE;
	fill_stripe('b');
	for (unsigned int i = 0; i < 4; i++)
		assert(piece_is(i * PIECE, 'b'));
	while (osts.broken > 997)
		fiber_sleep_ms(1);
	osts.broken = 0;
	assert(piece_is(4 * PIECE, 'b') && piece_is(5 * PIECE, 'b'));
	end();
}

START_TEST(broken_read_ahead_is_not_given)
{
	fake_run(broken_ahead_body);
}
END_TEST

static void ahead_memory_body(struct fake *fake)
{
	begin_with(fake, 8 * AHEAD_UNIT);
	fill_stripe('a');
	for (unsigned int i = 0; i < STRIPE / PIECE; i++) {
		assert(piece_is(i * PIECE, 'a'));
		assert(atomic_load(&mount.fs->data->ahead) <= 2 * AHEAD_UNIT);
	}
	end();
}

START_TEST(read_ahead_is_bounded)
{
	fake_run(ahead_memory_body);
}
END_TEST

UNIT_MAIN("client_read", what_is_read_is_whole, read_ahead_never_gives_old_bytes, broken_read_ahead_is_not_given,
	  read_ahead_is_bounded)
