/* Records come out sorted, all of them, whether memory was enough or not; and nothing stays on the disk. */
#include "client/fsck/sorter.h"
#include "temp_dir.h"
#include "unit.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#define RECORDS 20000u

static struct sorted record_of(unsigned int i)
{
	unsigned int seed = i * 7919;

	return (struct sorted){
		.ino = (uint64_t)rand_r(&seed) % (RECORDS / 4) + (UINT64_C(1) << 40),
		.other = i,
		.kind = i % 3 == 0 ? SORTED_ENTRIES : SORTED_LINK,
		.type = (uint8_t)(i % 16),
	};
}

static void sort_with(size_t memory, unsigned int count)
{
	bool *seen = calloc(count + 1, sizeof(*seen));
	struct sorted before = { 0 }, record, expected;
	struct sorter *sorter;

	ck_assert_int_eq(sorter_new(memory, &sorter), 0);
	for (unsigned int i = 0; i < count; i++) {
		record = record_of(i);
		ck_assert_int_eq(sorter_add(sorter, &record), 0);
	}
	for (unsigned int i = 0; i < count; i++) {
		ck_assert_int_eq(sorter_next(sorter, &record), 0);
		ck_assert(record.ino > before.ino || (record.ino == before.ino && record.kind >= before.kind));
		ck_assert(record.other < count && !seen[record.other]);
		seen[record.other] = true;
		expected = record_of((unsigned int)record.other);
		ck_assert(expected.ino == record.ino && expected.kind == record.kind && expected.type == record.type);
		before = record;
	}
	ck_assert_int_eq(sorter_next(sorter, &record), -ENOENT);
	ck_assert_int_eq(sorter_next(sorter, &record), -ENOENT);
	sorter_free(sorter);
	free(seen);
}

START_TEST(in_memory)
{
	sort_with(1 << 20, 0);
	sort_with(1 << 20, 1);
	sort_with(1 << 20, RECORDS);
}
END_TEST

START_TEST(in_a_file)
{
	char dir[PATH_MAX];
	const struct dirent *entry;
	DIR *left;

	temp_dir_make(dir);
	setenv("TMPDIR", dir, 1);
	sort_with(100000, RECORDS);                           /* a few runs */
	sort_with(64 * sizeof(struct sorted), RECORDS);       /* hundreds */
	sort_with(5000 * sizeof(struct sorted) - 1, RECORDS); /* all of them full */
	left = opendir(dir);
	while ((entry = readdir(left)))
		ck_assert_msg(entry->d_name[0] == '.', "%s is left behind", entry->d_name);
	closedir(left);
	temp_dir_remove(dir);
}
END_TEST

START_TEST(nowhere_to_put_it)
{
	struct sorted record = { 0 };
	struct sorter *sorter;
	int err = 0;

	setenv("TMPDIR", "/nowhere", 1);
	ck_assert_int_eq(sorter_new(0, &sorter), 0);
	for (int i = 0; i < 10 && err == 0; i++)
		err = sorter_add(sorter, &record);
	ck_assert_int_eq(err, -ENOENT);
	sorter_free(sorter);
	setenv("TMPDIR", "/tmp", 1);
	ck_assert_int_eq(sorter_new(0, &sorter), 0); /* a run for each record */
	for (err = 0; err == 0;)
		err = sorter_add(sorter, &record);
	ck_assert_int_eq(err, -EFBIG);
	sorter_free(sorter);
}
END_TEST

UNIT_MAIN("fsck_sorter", in_memory, in_a_file, nowhere_to_put_it)
