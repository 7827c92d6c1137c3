/* The OST's index: rows, the three layers, commits, crashes, damage. Fibers check with assert(). */
#include "oss/index_internal.h"
#include "oss/object_path.h"

#include "common/fiber.h"
#include "tests/unit/temp_dir.h"
#include "tests/unit/unit.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STRIPE 65536u

static char dir[PATH_MAX];
static struct uuid target;
static struct loop *loop;
static struct index *idx;

static void setup(void)
{
	temp_dir_make(dir);
	uuid_make(&target);
}

static void teardown(void)
{
	temp_dir_remove(dir);
}

/* Run body in a fiber with the index open; close it as body's answer says: 0 clean, 1 as a crash would. */
static int (*body)(void);
static bool was_clean;

static void body_fiber(void *arg)
{
	int err, how;

	(void)arg;
	err = index_start(idx, loop);
	assert(err == 0);
	how = body();
	if (how == 0)
		assert(index_sync(idx, index_last_change(idx)) == 0);
	err = index_close(idx, how == 0);
	assert(err == 0);
	loop_stop(loop);
}

static void with_index(int (*fn)(void))
{
	char error[256] = "";
	int err;

	body = fn;
	err = index_open(dir, &target, true, &idx, &was_clean, error, sizeof(error));
	ck_assert_msg(err == 0, "%s", error);
	ck_assert_int_eq(loop_new(&loop), 0);
	ck_assert_int_eq(fiber_start(loop, body_fiber, NULL), 0);
	ck_assert_int_eq(loop_run(loop), 0);
	loop_free(loop);
}

/* The same in a process of its own, which body ends by exit_now(). */
static void in_child(int (*fn)(void))
{
	pid_t pid = fork();
	int status;

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		with_index(fn);
		_exit(1);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status %x", status);
}

static int crash(void)
{
	kill(getpid(), SIGKILL);
	abort();
}

static void put(uint64_t ino, uint64_t seq)
{
	index_put_object(idx, ino, 1, seq, (struct index_object){ STRIPE });
}

static bool file_equal(const struct index_file *a, const struct index_file *b)
{
	return a->cut == b->cut && a->cut_start == b->cut_start && a->cut_end == b->cut_end &&
	       a->stripe_size == b->stripe_size && a->destroyed == b->destroyed &&
	       a->newest_session == b->newest_session;
}

static bool has(uint64_t ino, uint64_t seq)
{
	struct index_object row;

	return index_get_object(idx, ino, 1, seq, &row) == 0 && row.stripe_size == STRIPE;
}

/* --- rows and changes --------------------------------------------------------------------------------------------------- */

START_TEST(rows_know_their_damage)
{
	struct index_key key = index_file_key(3, 4), other = index_file_key(3, 5);
	union index_value value = { .file = { 7, 100, UINT64_MAX, STRIPE, true, 9 } }, back;
	uint8_t bytes[INDEX_VALUE_SIZE], key_bytes[INDEX_KEY_SIZE];
	size_t size = index_value_encode(&key, &value, bytes);

	ck_assert_uint_eq(size, INDEX_VALUE_SIZE);
	ck_assert_int_eq(index_value_decode(&key, bytes, size, &back), 0);
	ck_assert(file_equal(&back.file, &value.file));
	ck_assert_int_eq(index_value_decode(&other, bytes, size, &back), -EBADMSG);
	ck_assert_int_eq(index_value_decode(&key, bytes, size - 1, &back), -EBADMSG);
	for (size_t bit = 0; bit < size * 8; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		ck_assert_int_eq(index_value_decode(&key, bytes, size, &back), -EBADMSG);
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	memset(&value, 0, sizeof(value)); /* of any kind */
	for (enum index_kind kind = 0; kind < INDEX_KINDS; kind++) {
		key.kind = kind;
		size = index_value_encode(&key, &value, bytes);
		ck_assert_int_eq(index_value_decode(&key, bytes, size, &back), 0);
		bytes[size - 1] ^= 1;
		ck_assert_int_eq(index_value_decode(&key, bytes, size, &back), -EBADMSG);
	}
	key = index_void_key(5);
	value.range = (struct index_void){ 77, true };
	size = index_value_encode(&key, &value, bytes);
	ck_assert_int_eq(index_value_decode(&key, bytes, size, &back), 0);
	ck_assert(back.range.end == 77 && back.range.swept);
	key = index_file_key(3, 4);
	index_key_encode(&key, key_bytes);
	ck_assert_int_eq(index_key_decode(INDEX_FILE, key_bytes, sizeof(key_bytes), &other), 0);
	ck_assert_int_eq(index_key_compare(&key, &other), 0);
	ck_assert_int_eq(index_key_decode(INDEX_FILE, key_bytes, 7, &other), -EBADMSG);
}
END_TEST

#define KEYS 300

START_TEST(changes_are_an_ordered_map)
{
	unsigned int seed = (unsigned int)time(NULL);
	struct index_changes *changes = index_changes_new();
	uint64_t model[KEYS] = { 0 }; /* 0 absent, 1 deleted, else stripe size */
	const struct index_change *change;
	struct index_key key;

	printf("seed %u\n", seed);
	for (int round = 0; round < 5000; round++) {
		uint64_t i = (uint64_t)rand_r(&seed) % KEYS;
		union index_value value = { .object = { 2 + (uint64_t)rand_r(&seed) } };
		bool delete = rand_r(&seed) % 4 == 0;

		key = index_object_key(1, 1, i);
		if (rand_r(&seed) % 3 == 0) {
			index_changes_remove(changes, &key);
			model[i] = 0;
			continue;
		}
		ck_assert_int_eq(index_changes_put(changes, &key, delete ? NULL : &value), 0);
		model[i] = delete ? 1 : value.object.stripe_size;
	}
	key = index_object_key(0, 0, 0);
	change = index_changes_seek(changes, &key);
	for (uint64_t i = 0; i < KEYS; i++) {
		if (model[i] == 0)
			continue;
		ck_assert_ptr_nonnull(change);
		ck_assert_uint_eq(change->key.part[2], i);
		ck_assert(change->deleted == (model[i] == 1));
		ck_assert(change->deleted || change->value.object.stripe_size == model[i]);
		key = index_object_key(1, 1, i);
		ck_assert_ptr_eq(index_changes_seek(changes, &key), change);
		change = change->next[0];
	}
	ck_assert_ptr_null(change);
	index_changes_free(changes);
}
END_TEST

START_TEST(paths_there_and_back)
{
	char path[OBJECT_PATH_SIZE];
	uint64_t ino, gen, seq;
	unsigned int folder = object_folder(0xabcdef, 7);

	object_path(0xabcdef, 7, 0x12, path);
	ck_assert_str_eq(path + 3, "0000000000abcdef.0000000000000007.00000012");
	ck_assert(object_name_parse(folder, path + 3, &ino, &gen, &seq));
	ck_assert(ino == 0xabcdef && gen == 7 && seq == 0x12);
	ck_assert(!object_name_parse((folder + 1) % OBJECT_FOLDERS, path + 3, &ino, &gen, &seq));
	ck_assert(!object_name_parse(folder, "lost+found", &ino, &gen, &seq));
	ck_assert(!object_name_parse(folder, "0000000000abcdef.0000000000000007.0000001", &ino, &gen, &seq));
	object_path(UINT64_MAX - 1, UINT64_MAX - 1, OBJECT_SEQ_MAX - 1, path);
	ck_assert(object_name_parse(object_folder(UINT64_MAX - 1, UINT64_MAX - 1), path + 3, &ino, &gen, &seq));
	ck_assert_uint_eq(seq, OBJECT_SEQ_MAX - 1);
}
END_TEST

/* --- layers ------------------------------------------------------------------------------------------------------------- */

static void check_enumeration(uint64_t ino, const char *want)
{
	char got[64] = "";
	struct index_object row;
	uint64_t seq = 0;

	while (index_next_object(idx, ino, 1, seq, &seq, &row) == 0) {
		snprintf(got + strlen(got), sizeof(got) - strlen(got), "%" PRIu64 " ", seq);
		seq++;
	}
	if (strcmp(got, want) != 0)
		fprintf(stderr, "got %s, want %s\n", got, want);
	assert(strcmp(got, want) == 0);
}

static int layers_body(void)
{
	struct index_file row = { .cut = 3, .cut_start = 5, .cut_end = 9, .stripe_size = STRIPE };
	struct index_file back;

	put(1, 0);
	put(1, 5);
	put(1, 9);
	put(2, 1);
	assert(index_sync(idx, index_last_change(idx)) == 0); /* now in LMDB */
	put(1, 3);
	index_delete_object(idx, 1, 1, 5);
	check_enumeration(1, "0 3 9 ");
	check_enumeration(2, "1 ");
	check_enumeration(3, "");
	assert(!has(1, 5) && has(1, 9) && has(1, 3) && !has(1, 4));
	put(1, 5);
	check_enumeration(1, "0 3 5 9 ");
	assert(index_get_file(idx, 1, 1, &back) == -ENOENT);
	index_put_file(idx, 1, 1, row);
	assert(index_get_file(idx, 1, 1, &back) == 0 && file_equal(&back, &row));
	assert(index_sync(idx, index_last_change(idx)) == 0);
	check_enumeration(1, "0 3 5 9 ");
	assert(index_get_file(idx, 1, 1, &back) == 0 && file_equal(&back, &row));

	return 0;
}

static int layers_again(void)
{
	assert(was_clean);
	check_enumeration(1, "0 3 5 9 ");
	check_enumeration(2, "1 ");

	return 0;
}

START_TEST(layers_are_one)
{
	with_index(layers_body);
	ck_assert(was_clean);
	with_index(layers_again);
}
END_TEST

static int tombstone_body(void)
{
	struct index_file dead = { .destroyed = true }, back;
	struct index_key key = index_tombstone_key(0, 0, 0);

	for (uint64_t i = 1; i <= 3; i++) {
		dead.newest_session = 40 - i;
		index_put_file(idx, i, 1, dead);
	}
	dead.newest_session = 50; /* destroyed again, by a younger order */
	index_put_file(idx, 3, 1, dead);
	assert(index_sync(idx, index_last_change(idx)) == 0);
	assert(index_next_tombstone(idx, 38, &key) == -ENOENT);
	assert(index_next_tombstone(idx, 39, &key) == 0 && key.part[1] == 2);
	index_drop_tombstone(idx, 2, 1);
	assert(index_get_file(idx, 2, 1, &back) == -ENOENT);
	key = index_tombstone_key(0, 0, 0);
	assert(index_next_tombstone(idx, 51, &key) == 0 && key.part[1] == 1 && key.part[0] == 39);
	key.part[2]++;
	assert(index_next_tombstone(idx, 51, &key) == 0 && key.part[1] == 3 && key.part[0] == 50);
	index_drop_tombstone(idx, 2, 1); /* not there: fine */

	return 0;
}

START_TEST(tombstones_in_order)
{
	with_index(tombstone_body);
}
END_TEST

static int announced_body(void)
{
	put(1, 4);
	index_announce_object(idx, 1, 1, 2, (struct index_object){ STRIPE });
	index_announce_object(idx, 1, 1, 6, (struct index_object){ STRIPE });
	index_announce_object(idx, 1, 1, 8, (struct index_object){ STRIPE });
	assert(has(1, 2) && has(1, 6));
	check_enumeration(1, "2 4 6 8 ");
	put(1, 6);
	index_delete_object(idx, 1, 1, 8);
	check_enumeration(1, "2 4 6 ");
	assert(index_sync(idx, index_last_change(idx)) == 0);
	check_enumeration(1, "2 4 6 ");

	return crash();
}

static int announced_after(void)
{
	check_enumeration(1, "4 6 ");

	return 0;
}

START_TEST(the_announced_are_not_durable)
{
	in_child(announced_body);
	with_index(announced_after);
}
END_TEST

/* --- crashes ------------------------------------------------------------------------------------------------------------ */

static int crash_body(void)
{
	put(1, 0);
	assert(index_sync(idx, index_last_change(idx)) == 0);
	/* Nobody waits for this one: after a while. */
	put(1, 2);
	while (idx->durable_last < index_last_change(idx))
		fiber_sleep_ms(5);
	put(1, 1);

	return crash();
}

static int after_crash(void)
{
	assert(!was_clean);
	assert(has(1, 0) && has(1, 2) && !has(1, 1));

	return 0;
}

START_TEST(what_was_synced_survives)
{
	with_index(layers_body);
	in_child(crash_body);
	with_index(after_crash);
}
END_TEST

static int waiters;

static void sync_and_count(void *arg)
{
	put(5, (uintptr_t)arg);
	assert(index_sync(idx, index_last_change(idx)) == 0);
	waiters--;
}

/* Many who wait at once, and rows that change while a commit runs. */
static int group_body(void)
{
	for (int round = 0; round < 20; round++) {
		for (uintptr_t i = 1; i <= 10; i++) {
			waiters++;
			assert(fiber_start(loop, sync_and_count, (void *)i) == 0);
		}
		while (waiters > 0) {
			put(6, (uint64_t)round);
			assert(has(6, (uint64_t)round));
			fiber_yield();
			index_delete_object(idx, 6, 1, (uint64_t)round);
			assert(!has(6, (uint64_t)round));
		}
	}
	check_enumeration(6, "");

	return crash();
}

static int group_after(void)
{
	for (uint64_t i = 1; i <= 10; i++)
		assert(has(5, i));

	return 0;
}

START_TEST(commits_are_shared)
{
	in_child(group_body);
	with_index(group_after);
}
END_TEST

static int many_body(void)
{
	for (uint64_t i = 0; i < 30000; i++)
		put(8, i);

	return 0;
}

static int many_after(void)
{
	struct index_object row;
	uint64_t seq = 0, count = 0;

	while (index_next_object(idx, 8, 1, seq, &seq, &row) == 0) {
		seq++;
		count++;
	}
	assert(count == 30000);

	return 0;
}

START_TEST(many_rows)
{
	with_index(many_body);
	with_index(many_after);
}
END_TEST

/* Room in LMDB for so many bytes; nobody reads or commits just now. */
static void set_room(size_t bytes)
{
	assert(!idx->committing);
	mdb_txn_reset(idx->snapshot);
	assert(mdb_env_set_mapsize(idx->env, bytes) == 0);
	assert(mdb_txn_renew(idx->snapshot) == 0);
	for (int kind = 0; kind < INDEX_KINDS; kind++)
		assert(mdb_cursor_renew(idx->snapshot, idx->cursor[kind]) == 0);
}

/* Without room who waits is told, nothing is forgotten, and it is tried again unasked. */
static int full_body(void)
{
	set_room(32 * 4096);
	for (uint64_t i = 0; i < 5000; i++)
		put(8, i);
	assert(index_sync(idx, index_last_change(idx)) == -ENOSPC);
	put(9, 1);
	assert(has(8, 4999) && has(9, 1));
	assert(index_sync(idx, index_last_change(idx)) == -ENOSPC);
	set_room((size_t)1 << 30);
	while (idx->durable_last < index_last_change(idx))
		fiber_sleep_ms(5);

	return crash();
}

static int full_after(void)
{
	for (uint64_t i = 0; i < 5000; i++)
		assert(has(8, i));
	assert(has(9, 1));

	return 0;
}

START_TEST(a_full_disk_is_told_and_tried_again)
{
	in_child(full_body);
	with_index(full_after);
}
END_TEST

/* --- recovery ----------------------------------------------------------------------------------------------------------- */

static int objects_dir;

static void make_file(uint64_t ino, uint64_t seq)
{
	char path[OBJECT_PATH_SIZE];
	int fd;

	object_path(ino, 1, seq, path);
	fd = openat(objects_dir, path, O_CREAT | O_WRONLY, 0600);
	assert(fd >= 0);
	close(fd);
}

static bool file_exists(uint64_t ino, uint64_t seq)
{
	char path[OBJECT_PATH_SIZE];

	object_path(ino, 1, seq, path);

	return faccessat(objects_dir, path, F_OK, 0) == 0;
}

static void make_folders(void)
{
	char path[PATH_MAX + 16], name[3];

	snprintf(path, sizeof(path), "%s/objects", dir);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	objects_dir = open(path, O_RDONLY | O_DIRECTORY);
	for (unsigned int i = 0; i < OBJECT_FOLDERS; i++) {
		object_folder_name(i, name);
		ck_assert_int_eq(mkdirat(objects_dir, name, 0700), 0);
	}
}

static unsigned int leftovers_synced;

/* Has what must go gone from the folder that is synced, and is this its folder? */
static bool is_synced_without(ino_t synced, uint64_t ino, uint64_t seq)
{
	struct stat st;
	char name[3];

	object_folder_name(object_folder(ino, 1), name);

	return fstatat(objects_dir, name, &st, 0) == 0 && st.st_ino == synced && !file_exists(ino, seq);
}

/* In place of the C library's. */
int fsync(int fd);
int fsync(int fd)
{
	struct stat st;

	if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
		leftovers_synced += is_synced_without(st.st_ino, 2, 0) + is_synced_without(st.st_ino, 3, 2);

	return (int)syscall(SYS_fsync, fd);
}

/* It is still there: a start that is killed just after this has told. */
static void losing(void *arg)
{
	ck_assert(file_exists(3, 2));
	++*(unsigned int *)arg;
}

static int recovery_body(void)
{
	put(1, 0);
	index_put_file(idx, 2, 1, (struct index_file){ .destroyed = true, .newest_session = 1 });
	index_put_file(idx, 3, 1,
		       (struct index_file){
			       .cut = 1,
			       .cut_start = STRIPE + 1,
			       .cut_end = UINT64_MAX,
			       .stripe_size = STRIPE,
		       });
	assert(index_sync(idx, index_last_change(idx)) == 0);

	return crash();
}

static int recovery_after(void)
{
	struct index_object row;

	assert(has(1, 0));
	assert(index_get_object(idx, 1, 1, 1, &row) == 0);
	assert(index_get_object(idx, 2, 1, 0, &row) == -ENOENT);
	assert(index_get_object(idx, 3, 1, 1, &row) == 0);
	assert(index_get_object(idx, 3, 1, 2, &row) == -ENOENT);

	return 0;
}

START_TEST(recovery_makes_index_and_folders_agree)
{
	struct index_recovery counts;
	unsigned int lost = 0;
	char error[256];
	bool clean;

	make_folders();
	in_child(recovery_body);
	make_file(1, 0);
	make_file(1, 1); /* written, never committed */
	make_file(2, 0); /* destroyed */
	make_file(3, 1); /* the cut's boundary */
	make_file(3, 2); /* cut away */
	ck_assert_int_eq(index_open(dir, &target, false, &idx, &clean, error, sizeof(error)), 0);
	ck_assert(!clean);
	leftovers_synced = 0;
	ck_assert_int_eq(index_recover(idx, objects_dir, true, losing, &lost, &counts), 0);
	ck_assert_uint_eq(lost, 1);
	ck_assert_uint_eq(leftovers_synced, 2); /* the power does not bring them back, in the time of another cut */
	ck_assert_uint_eq(counts.known, 1);
	ck_assert_uint_eq(counts.entered, 2);
	ck_assert_uint_eq(counts.removed, 2);
	ck_assert(!file_exists(2, 0) && !file_exists(3, 2) && file_exists(3, 1) && file_exists(1, 1));
	ck_assert_int_eq(index_close(idx, false), 0);
	with_index(recovery_after);
	close(objects_dir);
}
END_TEST

/* --- damage ------------------------------------------------------------------------------------------------------------- */

static int refused(const char *word)
{
	char error[256] = "";
	struct index *other;
	bool clean;
	int err = index_open(dir, &target, false, &other, &clean, error, sizeof(error));

	ck_assert_int_lt(err, 0);
	ck_assert_msg(strstr(error, word), "%s", error);

	return err;
}

static int open_data(int flags)
{
	char path[PATH_MAX + 32];
	int fd;

	snprintf(path, sizeof(path), "%s/index/data.mdb", dir);
	fd = open(path, flags);
	ck_assert_int_ge(fd, 0);

	return fd;
}

START_TEST(foreign_and_missing_are_refused)
{
	ck_assert_int_eq(refused("no index"), -ENOENT);
	with_index(layers_body);
	uuid_make(&target);
	ck_assert_int_eq(refused("another target"), -EINVAL);
}
END_TEST

START_TEST(garbage_is_refused)
{
	char garbage[8192];
	int fd;

	with_index(layers_body);
	memset(garbage, 0x5a, sizeof(garbage));
	fd = open_data(O_WRONLY);
	ck_assert_int_eq(pwrite(fd, garbage, sizeof(garbage), 0), sizeof(garbage));
	close(fd);
	ck_assert_int_eq(refused("damaged"), -EINVAL);
}
END_TEST

static int make_newer(void)
{
	char name[] = "format";
	uint32_t version = 2;
	MDB_val key = { .mv_size = strlen(name), .mv_data = name };
	MDB_val value = { .mv_size = sizeof(version), .mv_data = &version };
	MDB_txn *txn;

	assert(mdb_txn_begin(idx->env, NULL, 0, &txn) == 0);
	assert(mdb_put(txn, idx->meta, &key, &value, 0) == 0 && mdb_txn_commit(txn) == 0);

	return 0;
}

START_TEST(a_newer_format_is_refused)
{
	with_index(make_newer);
	ck_assert_int_eq(refused("format 2"), -EINVAL);
}
END_TEST

START_TEST(a_short_one_is_refused)
{
	int fd;

	with_index(many_body);
	fd = open_data(O_WRONLY);
	ck_assert_int_eq(ftruncate(fd, 5 * 4096), 0);
	close(fd);
	ck_assert_int_eq(refused("damaged"), -EINVAL);
}
END_TEST

/* Of several, too, as one process has them; the sanitizers need more of it themselves. */
START_TEST(little_address_space_is_enough)
{
#ifndef STRAKE_SAN
	struct rlimit limit = { (rlim_t)8 << 30, (rlim_t)8 << 30 };
	struct index *several[3];
	char text[256] = "", name[PATH_MAX + 16];
	bool clean;

	ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
	with_index(layers_body);
	for (int i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "%s/%d", dir, i);
		ck_assert_int_eq(mkdir(name, 0700), 0);
		ck_assert_msg(index_open(name, &target, true, &several[i], &clean, text, sizeof(text)) == 0, "%s",
			      text);
	}
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(index_close(several[i], 0), 0);
	limit.rlim_cur = limit.rlim_max = (rlim_t)1 << 29;
	ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
	ck_assert_int_eq(refused("address space; raise its limit"), -ENOMEM);
#endif
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		rows_know_their_damage,
		changes_are_an_ordered_map,
		paths_there_and_back,
		layers_are_one,
		tombstones_in_order,
		the_announced_are_not_durable,
		what_was_synced_survives,
		commits_are_shared,
		many_rows,
		a_full_disk_is_told_and_tried_again,
		recovery_makes_index_and_folders_agree,
		foreign_and_missing_are_refused,
		a_newer_format_is_refused,
		garbage_is_refused,
		a_short_one_is_refused,
		little_address_space_is_enough,
	};
	Suite *suite = suite_create("ost_index");
	TCase *tcase = tcase_create("ost_index");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tcase, UNIT_TIMEOUT_S);
	tcase_add_checked_fixture(tcase, setup, teardown);
	for (size_t i = 0; i < sizeof(tests) / sizeof(*tests); i++)
		tcase_add_test(tcase, tests[i]);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);

	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
