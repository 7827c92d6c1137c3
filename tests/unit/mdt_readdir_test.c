/* READDIR: everything once, whatever comes and goes; and never more than fits. */
#include "mdt_driver.h"
#include "unit.h"

#include "common/frame.h"
#include "common/siphash.h"

#define FILES 500

static const Strake__ReaddirReply *read_some(struct driver *driver, uint64_t dir, uint64_t cookie, uint32_t max_bytes,
					     bool attrs)
{
	Strake__ReaddirRequest request = STRAKE__READDIR_REQUEST__INIT;

	request.cred = &driver->cred;
	request.ino = dir;
	request.cookie = cookie;
	request.max_bytes = max_bytes;
	request.has_attrs = request.attrs = attrs;
	ck_assert_int_eq(driver_query(driver, OP_READDIR, &request.base), 0);
	return &driver->answer.as.readdir;
}

/* Which of FILES files "f<number>" are named, and how often. */
static void count_names(const Strake__ReaddirReply *reply, unsigned int *counts)
{
	char name[16];

	for (size_t i = 0; i < reply->n_entry; i++) {
		ck_assert_uint_lt(reply->entry[i]->name.len, sizeof(name));
		memcpy(name, reply->entry[i]->name.data, reply->entry[i]->name.len);
		name[reply->entry[i]->name.len] = '\0';
		if (name[0] == 'f')
			counts[atoi(name + 1)]++;
	}
}

START_TEST(all_once)
{
	struct driver *driver = driver_new();
	uint64_t dir = driver_mkdir(driver, DRIVER_ROOT, "dir"), cookie;
	const Strake__ReaddirReply *reply;
	char name[32];

	driver_create(driver, driver_mkdir(driver, DRIVER_ROOT, "neighbour"), "f0");
	for (int i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		driver_create(driver, dir, name);
	}
	driver_checkpoint(driver);
	for (uint32_t max_bytes = 1; max_bytes < 200000; max_bytes = max_bytes * 7 + 50) {
		for (int attrs = 0; attrs < 2; attrs++) {
			unsigned int counts[FILES] = { 0 };

			cookie = 0;
			do {
				reply = read_some(driver, dir, cookie, max_bytes, attrs);
				ck_assert_uint_ge(reply->n_entry, 1);
				ck_assert(reply->n_entry == 1 ||
					  strake__readdir_reply__get_packed_size(reply) <= max_bytes + 32);
				for (size_t i = 0; i < reply->n_entry; i++) {
					ck_assert_uint_gt(reply->entry[i]->cookie, cookie);
					cookie = reply->entry[i]->cookie;
					ck_assert_int_eq(reply->entry[i]->attr != NULL, attrs);
				}
				count_names(reply, counts);
			} while (!reply->end);
			ck_assert_uint_eq(reply->parent, DRIVER_ROOT);
			for (int i = 0; i < FILES; i++)
				ck_assert_uint_eq(counts[i], 1);
		}
	}
	driver_free(driver);
}
END_TEST

START_TEST(while_others_come_and_go)
{
	struct driver *driver = driver_new();
	uint64_t dir = driver_mkdir(driver, DRIVER_ROOT, "dir"), cookie = 0;
	const Strake__ReaddirReply *reply;
	unsigned int counts[FILES] = { 0 }, round = 0;
	bool end;
	char name[32];

	for (int i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		driver_create(driver, dir, name);
	}
	driver_checkpoint(driver);
	do {
		reply = read_some(driver, dir, cookie, 400, false);
		count_names(reply, counts);
		if (reply->n_entry > 0)
			cookie = reply->entry[reply->n_entry - 1]->cookie;
		end = reply->end;
		/* Even numbers stay; odd ones go, others come, one is renamed to and fro. */
		for (int i = 1; i < FILES; i += 2) {
			if (i % 37 != (int)(round % 37))
				continue;
			snprintf(name, sizeof(name), "f%d", i);
			driver_unlink(driver, dir, name);
			snprintf(name, sizeof(name), "x%u-%d", round, i);
			driver_create(driver, dir, name);
		}
		if (round % 16 == 3)
			driver_checkpoint(driver);
		round++;
	} while (!end);
	for (int i = 0; i < FILES; i += 2)
		ck_assert_uint_eq(counts[i], 1);
	for (int i = 1; i < FILES; i += 2)
		ck_assert_uint_le(counts[i], 1);
	ck_assert_uint_gt(round, 20);
	driver_check(driver);
	driver_free(driver);
}
END_TEST

/* However much is asked for, an answer is one message. */
START_TEST(an_answer_fits_a_frame)
{
	struct driver *driver = driver_new();
	uint64_t dir = driver_mkdir(driver, DRIVER_ROOT, "dir"), cookie = 0;
	const unsigned int files = FRAME_BODY_MAX / 250;
	const Strake__ReaddirReply *reply;
	char name[NAME_LEN_MAX + 1];
	unsigned int count = 0, answers = 0;

	memset(name, 'n', NAME_LEN_MAX);
	name[NAME_LEN_MAX] = '\0';
	for (unsigned int i = 0; i < files; i++) {
		snprintf(name, 16, "%08u", i);
		name[8] = 'n';
		driver_create(driver, dir, name);
	}
	do {
		reply = read_some(driver, dir, cookie, UINT32_MAX, true);
		ck_assert_uint_gt(reply->n_entry, 0);
		ck_assert_uint_le(strake__readdir_reply__get_packed_size(reply), FRAME_BODY_MAX);
		cookie = reply->entry[reply->n_entry - 1]->cookie;
		count += (unsigned int)reply->n_entry;
		answers++;
	} while (!reply->end);
	ck_assert_uint_eq(count, files);
	ck_assert_uint_gt(answers, 1);
	driver_free(driver);
}
END_TEST

/* The filesystem's own key is in them: who does not know it cannot make names that share one. */
START_TEST(cookies_are_keyed)
{
	static const uint8_t key[HASH_KEY_SIZE] = "sixteen bytes..."; /* of mdt_driver.h */
	struct driver *driver = driver_new();
	const struct bytes name = { "file", 4 };
	const Strake__ReaddirReply *reply;

	driver_create(driver, DRIVER_ROOT, "file");
	reply = read_some(driver, DRIVER_ROOT, 0, 4096, false);
	ck_assert_uint_eq(reply->n_entry, 1);
	ck_assert_uint_eq(reply->entry[0]->cookie, siphash(key, name.data, name.size) >> 2);
	driver_free(driver);
}
END_TEST

START_TEST(edges)
{
	struct driver *driver = driver_new();
	uint64_t dir = driver_mkdir(driver, DRIVER_ROOT, "dir");
	const Strake__ReaddirReply *reply;
	Strake__ReaddirRequest request = STRAKE__READDIR_REQUEST__INIT;

	reply = read_some(driver, dir, 0, 4096, true);
	ck_assert(reply->end);
	ck_assert_uint_eq(reply->n_entry, 0);
	reply = read_some(driver, DRIVER_ROOT, UINT64_MAX, 4096, true);
	ck_assert(reply->end);
	reply = read_some(driver, DRIVER_ROOT, 0, 0, true);
	ck_assert_uint_eq(reply->n_entry, 1);
	ck_assert_uint_gt(reply->entry[0]->cookie, 2);

	request.cred = &driver->cred;
	request.ino = driver_create(driver, DRIVER_ROOT, "file");
	ck_assert_int_eq(driver_query(driver, OP_READDIR, &request.base), -ENOTDIR);
	request.ino = 4711;
	ck_assert_int_eq(driver_query(driver, OP_READDIR, &request.base), -ESTALE);
	ck_assert_int_eq(driver_make(driver, OP_MKDIR, DRIVER_ROOT, "closed", 0300, &request.ino), 0);
	driver->cred.uid = 1000;
	ck_assert_int_eq(driver_query(driver, OP_READDIR, &request.base), -EACCES);
	driver_free(driver);
}
END_TEST

UNIT_MAIN("mdt_readdir", all_once, while_others_come_and_go, an_answer_fits_a_frame, cookies_are_keyed, edges)
