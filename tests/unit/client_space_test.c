/* Room and holes of a file: fallocate, punch, SEEK_DATA and SEEK_HOLE. */
#include "tests/unit/client_osts.h"

/* What was written before a punch is punched, what comes after is not; and room behind the end only grows the file. */
static void space_body(struct fake *fake)
{
	struct fs_ctx ctx = root_ctx();

	begin(fake);
	put_letters(0, 'a', 8000);
	assert(fs_fallocate(file, &ctx, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1000, 2000) == 0);
	assert(strncmp(osts.order, "WSP", 3) == 0);
	put_letters(1500, 'b', 10);
	assert(fsync_file() == 0 && all_are(0, 1000, 'a') && all_are(1000, 1500, 0) && all_are(1500, 1510, 'b') &&
	       all_are(1510, 3000, 0) && all_are(3000, 8000, 'a') && known_size() == 8000);
	/* What the OSTs say that it takes is told, not what somebody thinks. */
	assert(fs_fallocate(file, &ctx, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 100) == 0);
	assert(data_report_size(file->inode, &ctx, false) == 0 && osts.exact && osts.blocks == 16 && !osts.wrote);
	/* Behind the end there is nothing to punch, and a punch does not reach there. */
	fake->asked[OP_PUNCH] = 0;
	assert(fs_fallocate(file, &ctx, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 8000, 100) == 0);
	assert(fake->asked[OP_PUNCH] == 0);
	assert(fs_fallocate(file, &ctx, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100, 100000) == 0);
	assert(fake->inodes[1].cut_end == 8000);
	end();
}

/* Room is asked of all OSTs before any gives some; then each piece; the size only grows. */
static void room_body(struct fake *fake)
{
	struct fs_ctx ctx = root_ctx(), user = { .uid = 1, .kill_suid = true };
	uint64_t large = 5 * (uint64_t)STRIPE + 100;

	begin(fake);
	put_letters(0, 'a', 8000);
	assert(flush() == 0);
	memset(osts.order, 0, sizeof(osts.order));
	assert(fs_fallocate(file, &ctx, 0, 0, 10000) == 0 && osts.end == 10000 && known_size() == 10000);
	assert(strcmp(osts.order, "AAGGS") == 0 && osts.allocated == 10000 && osts.total[0] == 10000);
	assert(osts.wrote && osts.exact && osts.blocks == 16 && !osts.kill_suid);
	assert(fs_fallocate(file, &user, 0, 0, 5000) == 0 && known_size() == 10000 && osts.kill_suid);
	osts.allocated = 0;
	assert(fs_fallocate(file, &ctx, FALLOC_FL_KEEP_SIZE, STRIPE - 100, large) == 0 && known_size() == 10000);
	assert(osts.allocated == large && osts.total[0] == 2 * STRIPE + 100 && osts.total[1] == 3 * STRIPE);
	assert(all_are(0, 8000, 'a') && fsync_file() == 0 && strchr(osts.order, 'C') != NULL);

	/* Enough for nobody: quickly, with no piece allocated and no byte harmed, also where it was to be zeroed. */
	osts.full = -ENOSPC;
	memset(osts.order, 0, sizeof(osts.order));
	fake->asked[OP_ALLOCATE] = 0;
	assert(fs_fallocate(file, &ctx, 0, 0, UINT64_C(1) << 60) == -ENOSPC && fake->asked[OP_ALLOCATE] == FAKE_OSTS);
	assert(fs_fallocate(file, &ctx, FALLOC_FL_ZERO_RANGE, 0, 8000) == -ENOSPC && all_are(0, 8000, 'a'));
	assert(known_size() == 10000 && strchr(osts.order, 'P') == NULL);
	osts.full = 0;
	assert(fs_fallocate(file, &ctx, FALLOC_FL_ZERO_RANGE, 0, 20000) == 0 && known_size() == 20000);
	put_letters(8000, 'b', 1); /* brings the cut to these OSTs */
	assert(fsync_file() == 0 && all_are(0, 8000, 0));

	assert(fs_fallocate(file, &ctx, FALLOC_FL_COLLAPSE_RANGE, 0, 4096) == -EOPNOTSUPP);
	assert(fs_fallocate(file, &ctx, FALLOC_FL_INSERT_RANGE, 0, 4096) == -EOPNOTSUPP);
	assert(fs_fallocate(file, &ctx, FALLOC_FL_PUNCH_HOLE, 0, 4096) == -EOPNOTSUPP);
	assert(fs_fallocate(file, &ctx, 0, 0, 0) == -EINVAL);
	assert(fs_fallocate(file, &ctx, 0, LAYOUT_FILE_SIZE_MAX, 1) == -EFBIG);
	end();
}

static uint64_t sought(uint64_t offset, bool hole)
{
	struct fs_ctx ctx = root_ctx();
	uint64_t found = 0;
	int err = fs_seek(file, &ctx, offset, hole, &found);

	assert(err == 0 || err == -ENXIO);
	return err == 0 ? found : END;
}

/* The nearest of what the OSTs say, in few requests however far it is; behind the end there is neither. */
static void seek_body(struct fake *fake)
{
	const uint64_t size = UINT64_C(16) << 40, last = size / STRIPE - 1;

	begin(fake);
	fake->inodes[1].size = size;
	fake_changed(fake, &fake->inodes[1]);
	learn();
	osts.data[0] = last;
	osts.data_count = 1;
	assert(sought(5, false) == last * STRIPE && fake->asked[OP_SEEK] <= 1 + FAKE_OSTS);
	assert(sought(0, true) == 0 && sought(last * STRIPE + 7, false) == last * STRIPE + 7);
	assert(sought(last * STRIPE, true) == size && sought(size, true) == END && sought(size, false) == END);

	/* Far on one OST and near on the other: the near one counts. */
	osts.data[1] = 1000;
	osts.data_count = 2;
	assert(sought(0, false) == 1000ull * STRIPE && sought(1001ull * STRIPE, false) == last * STRIPE);
	for (osts.data_count = 0; osts.data_count < 64; osts.data_count++)
		osts.data[osts.data_count] = osts.data_count + (osts.data_count > 40);
	fake->asked[OP_SEEK] = 0;
	assert(sought(100, true) == 41ull * STRIPE && fake->asked[OP_SEEK] <= 1 + 2 * FAKE_OSTS);
	assert(sought(41ull * STRIPE, false) == 42ull * STRIPE && sought(42ull * STRIPE, true) == 65ull * STRIPE);

	/* Replaced elsewhere: asked again as it is. */
	replace_elsewhere();
	fake->inodes[1].size = size;
	osts.stale_seek = true;
	assert(sought(100, true) == 41ull * STRIPE && !osts.stale_seek);
	end();
}

START_TEST(data_and_holes_are_found_in_few_requests)
{
	fake_run(seek_body);
}
END_TEST

START_TEST(room_is_asked_for_before_it_is_taken)
{
	fake_run(room_body);
}
END_TEST

START_TEST(a_punch_takes_what_was_written_before_it)
{
	fake_run(space_body);
}
END_TEST

UNIT_MAIN("client_space", a_punch_takes_what_was_written_before_it, room_is_asked_for_before_it_is_taken,
	  data_and_holes_are_found_in_few_requests)
