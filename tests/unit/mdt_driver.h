/*
 * An MDT without network, disk log and clock, for tests: requests go through admission and apply on a view in a
 * temporary directory, and every record is kept, so that it can be applied again elsewhere.
 */
#ifndef STRAKE_TESTS_MDT_DRIVER_H
#define STRAKE_TESTS_MDT_DRIVER_H

#include "common/status.h"
#include "mds/access.h"
#include "mds/admit.h"
#include "mds/apply.h"
#include "mds/check.h"
#include "mds/cut.h"
#include "mds/destroy.h"
#include "mds/names.h"
#include "mds/orphan.h"
#include "mds/query.h"
#include "mds/sessions.h"
#include "proto/mdt_record.pb-c.h"
#include "temp_dir.h"

#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DRIVER_ROOT INODE_ROOT

struct driver_record {
	void *data;
	size_t size;
};

struct driver {
	char dir[PATH_MAX];
	struct state state;
	struct opens *opens;
	struct leases *leases;
	struct numbers numbers;
	struct layout_chooser chooser;
	struct admission admission;
	struct record_space space, decoded_space;
	struct outcome outcome;
	struct answer answer; /* of the last query */
	uint64_t index, clock_ns;
	struct driver_record *log; /* log[i] is record i + 1 */
	size_t log_max;
	uint32_t seq;     /* one slot for all: the next */
	uint64_t session; /* who asks; */
	bool alone;       /* adds names there */
	Strake__Cred cred;
	ProtobufCMessage *reply;       /* of the last change, unpacked; NULL: none */
	unsigned int checkpoint_every; /* records; 0: never */
};

/* State and volatile tables over an empty directory; nothing in it yet. */
static inline struct driver *driver_empty(void)
{
	struct driver *driver = calloc(1, sizeof(*driver));
	struct view *view;
	char error[256];
	uint64_t applied;

	ck_assert_ptr_nonnull(driver);
	temp_dir_make(driver->dir);
	ck_assert_msg(view_open(driver->dir, &view, &applied, error, sizeof(error)) == 0, "%s", error);
	ck_assert_uint_eq(applied, 0);
	state_load(&driver->state, view);
	driver->opens = opens_new();
	driver->leases = leases_new();
	driver->clock_ns = 1700000000 * UINT64_C(1000000000);
	strake__cred__init(&driver->cred);
	driver->admission = (struct admission){
		.state = &driver->state,
		.opens = driver->opens,
		.leases = driver->leases,
		.numbers = &driver->numbers,
		.chooser = &driver->chooser,
		.disk_free = UINT64_MAX,
	};
	answer_init(&driver->answer, false);
	return driver;
}

static inline void driver_checkpoint(struct driver *driver)
{
	view_freeze(driver->state.view, driver->index);
	ck_assert_int_eq(view_write_frozen(driver->state.view), 0);
	view_thaw(driver->state.view);
	view_release(driver->state.view);
}

/* Apply one packed record as it would come out of the log. */
static inline void driver_apply(struct driver *driver, struct bytes payload, const ProtobufCMessage *message)
{
	struct record record;

	ck_assert_int_eq(record_decode(payload, &driver->decoded_space, &record), 0);
	if (driver->index == driver->log_max) {
		driver->log_max = driver->log_max ? driver->log_max * 2 : 1024;
		driver->log = reallocarray(driver->log, driver->log_max, sizeof(*driver->log));
		ck_assert_ptr_nonnull(driver->log);
	}
	driver->log[driver->index] = (struct driver_record){ malloc(payload.size), payload.size };
	memcpy(driver->log[driver->index].data, payload.data, payload.size);
	apply(&driver->state, ++driver->index, &record, message, &driver->outcome);
	if (driver->checkpoint_every && driver->index % driver->checkpoint_every == 0)
		driver_checkpoint(driver);
}

static inline void driver_submit(struct driver *driver, const struct record *record, const ProtobufCMessage *message)
{
	size_t size = record_size(record);
	void *payload = malloc(size);

	record_encode(record, payload, size);
	/* Now with the message at hand, now as a replay would. */
	driver_apply(driver, (struct bytes){ payload, size }, driver->index % 2 ? message : NULL);
	free(payload);
}

/* One of the MDT's own records. */
static inline void driver_own(struct driver *driver, enum record_op op, uint64_t session,
			      const ProtobufCMessage *message)
{
	size_t size = protobuf_c_message_get_packed_size(message);
	uint8_t *packed = malloc(size + 1);
	struct record record = {
		.op = (uint16_t)op,
		.session = session,
		.time_ns = admit_time(&driver->state, driver->clock_ns),
		.body = { packed, size },
	};

	protobuf_c_message_pack(message, packed);
	driver_submit(driver, &record, message);
	free(packed);
	ck_assert_int_eq(driver->outcome.err, 0);
}

/* As many OSTs as wanted, all up and empty. */
static inline void driver_set_osts(struct driver *driver, unsigned int count)
{
	driver->chooser.count = 0;
	for (unsigned int i = 0; i < count; i++)
		driver->chooser.osts[driver->chooser.count++] =
			(struct choose_ost){ .index = (uint16_t)i, .usable = true, .weight = 100 };
}

/* What came back of a request's form and admission, or apply's result. The reply is in driver->reply. */
static inline int driver_send(struct driver *driver, uint16_t op, const ProtobufCMessage *message, uint32_t slot,
			      uint32_t seq, bool *ret_resent)
{
	struct asker asker = { .session = driver->session, .slot = slot, .seq = seq, .alone = driver->alone };
	const struct op *row = op_find(op);
	size_t size = protobuf_c_message_get_packed_size(message);
	uint8_t *packed = malloc(size + 1);
	struct slot_row slot_row;
	struct record record;
	bool resent = false;
	int err;

	if (driver->reply)
		protobuf_c_message_free_unpacked(driver->reply, NULL);
	driver->reply = NULL;
	protobuf_c_message_pack(message, packed);
	err = admit_form(op, message);
	if (err == 0 && (row->flags & OP_SLOT))
		err = slot_judge(driver->state.view, driver->session, slot, seq, op, &resent, &slot_row);
	if (ret_resent)
		*ret_resent = resent;
	if (err == 0 && resent) {
		err = status_to_errno(slot_row.status);
		if (err == 0)
			driver->reply =
				protobuf_c_message_unpack(row->reply, NULL, slot_row.reply.size, slot_row.reply.data);
		free(packed);
		return err;
	}
	driver->clock_ns += 1000;
	if (err == 0)
		err = admit(&driver->admission, &asker, op, message, (struct bytes){ packed, size }, driver->clock_ns,
			    &driver->space, &record);
	if (err == 0) {
		driver_submit(driver, &record, message);
		err = driver->outcome.err;
		if (err == 0 && (row->flags & OP_SLOT)) {
			driver->reply = protobuf_c_message_unpack(row->reply, NULL, driver->outcome.reply_size,
								  driver->outcome.reply);
			ck_assert_ptr_nonnull(driver->reply);
		}
		if (driver->outcome.opened_ino)
			opens_add(driver->opens, driver->session, driver->outcome.opened_ino,
				  ((const Strake__CreateRequest *)message)->open_modes);
	}
	free(packed);
	return err;
}

static inline int driver_change(struct driver *driver, uint16_t op, const ProtobufCMessage *message)
{
	return driver_send(driver, op, message, 0, driver->seq++, NULL);
}

static inline int driver_query(struct driver *driver, uint16_t op, const ProtobufCMessage *message)
{
	struct query query = { .with = &driver->admission,
			       .state = &driver->state,
			       .session = driver->session,
			       .answer = &driver->answer };
	int err = admit_form(op, message);

	answer_release(&driver->answer);
	answer_init(&driver->answer, driver->admission.unfenced);
	return err < 0 ? err : query_answer(&query, op, message);
}

static inline void driver_reserve(struct driver *driver)
{
	Strake__ReserveRecord reserve = STRAKE__RESERVE_RECORD__INIT;

	ck_assert(numbers_run_low(&driver->numbers, &reserve.up_to));
	driver_own(driver, RECORD_RESERVE, 0, &reserve.base);
	numbers_asked(&driver->numbers, reserve.up_to, driver->index);
	numbers_durable(&driver->numbers, driver->index);
}

static inline uint64_t driver_open_session(struct driver *driver)
{
	Strake__SessionOpenRequest request = STRAKE__SESSION_OPEN_REQUEST__INIT;
	struct uuid client;
	char hostname[] = "host";

	memset(&client, 0, sizeof(client));
	memcpy(client.bytes, &driver->index, sizeof(driver->index));
	request.client_uuid = (ProtobufCBinaryData){ .data = client.bytes, .len = UUID_SIZE };
	request.hostname = hostname;
	request.slots = 8;
	driver->session = 0;
	ck_assert_int_eq(driver_change(driver, OP_SESSION_OPEN, &request.base), 0);
	driver->session = driver->state.meta.newest_session;
	leases_add(driver->leases, driver->session, &client, 8, true, driver->clock_ns);
	return driver->session;
}

/* A formatted MDT with one session, which is the one that asks. */
static inline struct driver *driver_new(void)
{
	struct driver *driver = driver_empty();
	Strake__FormatRecord format = STRAKE__FORMAT_RECORD__INIT;
	Strake__Layout layout = STRAKE__LAYOUT__INIT;
	uint8_t key[HASH_KEY_SIZE] = "sixteen bytes...";

	layout.stripe_size = LAYOUT_STRIPE_SIZE_DEFAULT;
	format.hash_key = (ProtobufCBinaryData){ .data = key, .len = sizeof(key) };
	format.first_number = 2;
	format.root_ino = DRIVER_ROOT;
	format.root_mode = S_IFDIR | 0755;
	format.layout = &layout;
	driver_own(driver, RECORD_FORMAT, 0, &format.base);
	numbers_init(&driver->numbers, driver->state.meta.reserved);
	driver_reserve(driver);
	driver_open_session(driver);
	return driver;
}

static inline void driver_free(struct driver *driver)
{
	for (uint64_t i = 0; i < driver->index; i++)
		free(driver->log[i].data);
	free(driver->log);
	if (driver->reply)
		protobuf_c_message_free_unpacked(driver->reply, NULL);
	answer_release(&driver->answer);
	view_close(driver->state.view);
	opens_free(driver->opens);
	leases_free(driver->leases);
	temp_dir_remove(driver->dir);
	free(driver);
}

/* Another one, from the first `count` records of this one. Its sessions have told nothing yet, as after a restart. */
static inline struct driver *driver_replay(const struct driver *from, uint64_t count, unsigned int checkpoint_every)
{
	struct driver *driver = driver_empty();
	struct session_row row;

	driver->checkpoint_every = checkpoint_every;
	driver->clock_ns = from->clock_ns;
	for (uint64_t i = 0; i < count; i++)
		driver_apply(driver, (struct bytes){ from->log[i].data, from->log[i].size }, NULL);
	numbers_init(&driver->numbers, driver->state.meta.reserved);
	driver->session = from->session;
	driver->seq = from->seq;
	driver->cred = from->cred;
	for (uint64_t session = 0; session_from(driver->state.view, session, &row) == 0; session = row.session + 1)
		leases_add(driver->leases, row.session, &row.client, row.slots, false, driver->clock_ns);
	return driver;
}

static inline void driver_fault(void *arg, const char *text)
{
	(void)arg;
	fprintf(stderr, "fault: %s\n", text);
}

/* The invariants hold. */
static inline void driver_check(struct driver *driver)
{
	ck_assert_int_eq(state_check(&driver->state, driver_fault, NULL), 0);
}

/* All tables of both are equal, byte by byte. */
static inline void driver_compare(struct driver *a, struct driver *b)
{
	struct view_cursor left, right;
	int left_err, right_err;

	for (int table = 0; table < TABLE_COUNT; table++) {
		struct bytes from = { "", 0 };

		if (table == TABLE_META)
			from = (struct bytes){ "mdt", 3 }; /* "applied" and "format" before it are the view's own */
		left_err = view_seek(a->state.view, (enum view_table)table, from, &left);
		right_err = view_seek(b->state.view, (enum view_table)table, from, &right);
		while (left_err == 0 && right_err == 0) {
			ck_assert(bytes_equal(left.key, right.key));
			ck_assert(bytes_equal(left.value, right.value));
			left_err = view_next(&left);
			right_err = view_next(&right);
		}
		ck_assert_int_eq(left_err, right_err);
	}
}

/* --- requests ------------------------------------------------------------------------------------------------------ */

static inline ProtobufCBinaryData driver_name(const char *name)
{
	return (ProtobufCBinaryData){ .data = (uint8_t *)(uintptr_t)name, .len = strlen(name) };
}

static inline const Strake__EntryReply *driver_entry(const struct driver *driver)
{
	return (const Strake__EntryReply *)driver->reply;
}

static inline const Strake__AttrReply *driver_attr_reply(const struct driver *driver)
{
	return (const Strake__AttrReply *)driver->reply;
}

static inline const Strake__RenameReply *driver_rename_reply(const struct driver *driver)
{
	return (const Strake__RenameReply *)driver->reply;
}

static inline int driver_make(struct driver *driver, uint16_t op, uint64_t parent, const char *name, uint32_t mode,
			      uint64_t *ret_ino)
{
	Strake__CreateRequest request = STRAKE__CREATE_REQUEST__INIT;
	int err;

	request.cred = &driver->cred;
	request.parent = parent;
	request.name = driver_name(name);
	request.mode = mode;
	request.has_exclusive = request.exclusive = 1;
	if (op == OP_SYMLINK) {
		request.has_target = 1;
		request.target = driver_name("target");
	}
	err = driver_change(driver, op, &request.base);
	if (err == 0 && ret_ino)
		*ret_ino = driver_entry(driver)->attr->ino;
	return err;
}

static inline uint64_t driver_mkdir(struct driver *driver, uint64_t parent, const char *name)
{
	uint64_t ino = 0;

	ck_assert_int_eq(driver_make(driver, OP_MKDIR, parent, name, 0755, &ino), 0);
	return ino;
}

static inline uint64_t driver_create(struct driver *driver, uint64_t parent, const char *name)
{
	uint64_t ino = 0;

	ck_assert_int_eq(driver_make(driver, OP_CREATE, parent, name, 0644, &ino), 0);
	return ino;
}

static inline int driver_link(struct driver *driver, uint64_t ino, uint64_t parent, const char *name)
{
	Strake__LinkRequest request = STRAKE__LINK_REQUEST__INIT;

	request.cred = &driver->cred;
	request.ino = ino;
	request.parent = parent;
	request.name = driver_name(name);
	return driver_change(driver, OP_LINK, &request.base);
}

static inline int driver_remove_name(struct driver *driver, uint16_t op, uint64_t parent, const char *name)
{
	Strake__UnlinkRequest request = STRAKE__UNLINK_REQUEST__INIT;

	request.cred = &driver->cred;
	request.parent = parent;
	request.name = driver_name(name);
	return driver_change(driver, op, &request.base);
}

static inline int driver_unlink(struct driver *driver, uint64_t parent, const char *name)
{
	return driver_remove_name(driver, OP_UNLINK, parent, name);
}

static inline int driver_rmdir(struct driver *driver, uint64_t parent, const char *name)
{
	return driver_remove_name(driver, OP_RMDIR, parent, name);
}

static inline int driver_rename(struct driver *driver, uint64_t parent, const char *name, uint64_t new_parent,
				const char *new_name, uint32_t flags)
{
	Strake__RenameRequest request = STRAKE__RENAME_REQUEST__INIT;

	request.cred = &driver->cred;
	request.parent = parent;
	request.name = driver_name(name);
	request.new_parent = new_parent;
	request.new_name = driver_name(new_name);
	request.has_flags = 1;
	request.flags = flags;
	return driver_change(driver, OP_RENAME, &request.base);
}

static inline int driver_truncate(struct driver *driver, uint64_t ino, uint64_t size)
{
	Strake__SetattrRequest request = STRAKE__SETATTR_REQUEST__INIT;

	request.cred = &driver->cred;
	request.ino = ino;
	request.has_size = 1;
	request.size = size;
	return driver_change(driver, OP_SETATTR, &request.base);
}

static inline int driver_size(struct driver *driver, const struct inode *inode, uint64_t end, bool wrote)
{
	Strake__SizeRequest request = STRAKE__SIZE_REQUEST__INIT;

	request.ino = inode->ino;
	request.gen = inode->gen;
	request.cut = inode->cut;
	request.end = end;
	request.blocks = (end + 511) / 512;
	request.has_wrote = 1;
	request.wrote = wrote;
	return driver_change(driver, OP_SIZE, &request.base);
}

static inline int driver_setxattr(struct driver *driver, uint64_t ino, const char *name, const char *value,
				  uint32_t flags)
{
	Strake__SetxattrRequest request = STRAKE__SETXATTR_REQUEST__INIT;

	request.cred = &driver->cred;
	request.ino = ino;
	request.name = (char *)(uintptr_t)name;
	request.value = driver_name(value);
	request.has_flags = 1;
	request.flags = flags;
	return driver_change(driver, OP_SETXATTR, &request.base);
}

static inline int driver_removexattr(struct driver *driver, uint64_t ino, const char *name)
{
	Strake__RemovexattrRequest request = STRAKE__REMOVEXATTR_REQUEST__INIT;

	request.cred = &driver->cred;
	request.ino = ino;
	request.name = (char *)(uintptr_t)name;
	return driver_change(driver, OP_REMOVEXATTR, &request.base);
}

static inline struct inode driver_inode(struct driver *driver, uint64_t ino)
{
	struct inode inode;

	ck_assert_int_eq(inode_load(driver->state.view, ino, &inode), 0);
	return inode;
}

static inline int driver_lookup(struct driver *driver, uint64_t parent, const char *name, uint64_t *ret_ino)
{
	Strake__LookupRequest request = STRAKE__LOOKUP_REQUEST__INIT;
	int err;

	request.cred = &driver->cred;
	request.parent = parent;
	request.name = driver_name(name);
	err = driver_query(driver, OP_LOOKUP, &request.base);
	if (err == 0 && ret_ino)
		*ret_ino = driver->answer.as.entry.attr->ino;
	return err;
}

/* What the OSTs answer at last: all that is to be destroyed and cut has been. */
static inline void driver_acknowledge_all(struct driver *driver)
{
	Strake__AckRecord record = STRAKE__ACK_RECORD__INIT;
	static uint64_t ino[65536], gen[65536], cut_ino[65536], cut_gen[65536], number[65536];
	static uint32_t ost[65536], cut_ost[65536];
	struct destroy_row destroy = { 0 };
	struct cut_row cut = { 0 };

	for (uint64_t at = 0, at_gen = 0; destroy_from(driver->state.view, at, at_gen, &destroy) == 0;
	     at = destroy.ino, at_gen = destroy.gen + 1) {
		for (uint32_t i = 0; i < destroy.ost_count && record.n_destroyed_ino < 65536; i++) {
			ino[record.n_destroyed_ino] = destroy.ino;
			gen[record.n_destroyed_ino] = destroy.gen;
			ost[record.n_destroyed_ino++] = destroy.osts[i];
		}
	}
	for (uint64_t at = 0; cut_from(driver->state.view, at, &cut) == 0; at = cut.ino + 1) {
		for (uint32_t i = 0; i < cut.ost_count && record.n_cut_ino < 65536; i++) {
			cut_ino[record.n_cut_ino] = cut.ino;
			cut_gen[record.n_cut_ino] = cut.gen;
			number[record.n_cut_ino] = cut.number;
			cut_ost[record.n_cut_ino++] = cut.osts[i];
		}
	}
	record.n_destroyed_gen = record.n_destroyed_ost = record.n_destroyed_ino;
	record.n_cut_gen = record.n_cut_number = record.n_cut_ost = record.n_cut_ino;
	record.destroyed_ino = ino;
	record.destroyed_gen = gen;
	record.destroyed_ost = ost;
	record.cut_ino = cut_ino;
	record.cut_gen = cut_gen;
	record.cut_number = number;
	record.cut_ost = cut_ost;
	driver_own(driver, RECORD_ACK, 0, &record.base);
}

static inline void driver_release(struct driver *driver, uint64_t session, uint64_t ino)
{
	Strake__ReleaseRecord release = STRAKE__RELEASE_RECORD__INIT;

	release.n_ino = 1;
	release.ino = &ino;
	driver_own(driver, RECORD_RELEASE, session, &release.base);
}

static inline void driver_evict(struct driver *driver, uint64_t session)
{
	Strake__EvictRecord evict = STRAKE__EVICT_RECORD__INIT;

	driver_own(driver, RECORD_EVICT, session, &evict.base);
	opens_drop_session(driver->opens, session);
	leases_remove(driver->leases, session);
}

#endif
