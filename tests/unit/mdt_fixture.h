/*
 * An MDT as others see it, over loopback: the program in a process of its own, or an MDT and a simple OST on the test's
 * loop; and a client that asks until there is an answer. What the tests of a serving MDT stand on: bodies run in fibers.
 */
#ifndef STRAKE_TESTS_MDT_FIXTURE_H
#define STRAKE_TESTS_MDT_FIXTURE_H

#include "common/fiber.h"
#include "common/peer.h"
#include "mds/cut.h"
#include "mds/destroy.h"
#include "mds/mdt.h"
#include "mds/ost_link.h"
#include "proto/oss.pb-c.h"
#include "tests/unit/temp_dir.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

/* --- where it lies --------------------------------------------------------------------------------------------------- */

struct setting {
	char dir[PATH_MAX];
	char address[ADDRESS_SIZE];
	struct identity identity;
	struct key key;
	pid_t pid;
};

static inline void setting_make(struct setting *setting)
{
	temp_dir_make(setting->dir);
	strcpy(setting->address, "127.0.0.1:0");
	setting->identity = (struct identity){ .role = ROLE_MDT, .format_version = 1, .fs_name = "test" };
	uuid_make(&setting->identity.fs);
	uuid_make(&setting->identity.target);
	key_make(&setting->key);
}

static inline struct mdt_config setting_config(const struct setting *setting, struct address_list *listen)
{
	ck_assert_int_eq(address_list_parse(setting->address, ADDRESS_PORT_DEFAULT, listen), 0);
	return (struct mdt_config){
		.dir = setting->dir,
		.listen = listen,
		.identity = &setting->identity,
		.key = &setting->key,
	};
}

/* --- a client ------------------------------------------------------------------------------------------------------- */

struct client {
	struct loop *loop;
	struct peer *peer;
	uint64_t session;
	unsigned int running;
	struct fiber_queue idle;
	Strake__Cred cred;
	uint64_t pushed, recalled; /* what LOCK_PUSH last told; 0: nothing */
};

static inline void client_pushed(void *owner, uint16_t opcode, const ProtobufCMessage *message)
{
	const Strake__LockPush *push = (const void *)message;
	struct client *client = owner;

	ck_assert_int_eq(opcode, OP_LOCK_PUSH);
	if (push->n_waiter > 0)
		client->pushed = push->waiter[0];
	if (push->n_recall > 0)
		client->recalled = push->recall[0];
}

static inline void client_connect(struct client *client, const struct setting *setting)
{
	const char *addresses[] = { setting->address };

	ck_assert_int_eq(peer_new(client->loop,
				  &(struct peer_config){
					  .fs = setting->identity.fs,
					  .target = setting->identity.target,
					  .role = ROLE_MDT,
					  .own_role = ROLE_CLIENT,
					  .key = &setting->key,
					  .addresses = addresses,
					  .address_count = 1,
					  .owner = client,
					  .push = client_pushed,
				  },
				  &client->peer),
			 0);
	strake__cred__init(&client->cred);
}

/* Ask until there is an answer: the same slot and number again. The caller releases the call. */
static inline int client_ask(struct client *client, struct call *call)
{
	int err;

	call->session = client->session;
	for (;;) {
		err = peer_call(client->peer, call);
		if (call->answered)
			return err;
		call_release(call);
		call->flags |= FRAME_RESENT;
		fiber_sleep_ms(5);
	}
}

static inline void client_open_session(struct client *client)
{
	Strake__SessionOpenRequest request = STRAKE__SESSION_OPEN_REQUEST__INIT;
	struct call call = { .opcode = OP_SESSION_OPEN, .request = &request.base };
	char hostname[] = "here";
	struct uuid uuid;
	uint64_t first;

	uuid_make(&uuid);
	request.client_uuid = (ProtobufCBinaryData){ .data = uuid.bytes, .len = UUID_SIZE };
	request.hostname = hostname;
	request.slots = 64;
	ck_assert_int_eq(client_ask(client, &call), 0);
	first = ((const Strake__SessionOpenReply *)call.reply)->session;
	ck_assert_uint_eq(((const Strake__SessionOpenReply *)call.reply)->slots, 64);
	ck_assert_uint_ge(call.durable_index, call.log_index);
	call_release(&call);

	/* The same again: the same session. */
	ck_assert_int_eq(client_ask(client, &call), 0);
	client->session = ((const Strake__SessionOpenReply *)call.reply)->session;
	ck_assert_uint_eq(client->session, first);
	call_release(&call);
}

static inline ProtobufCBinaryData name_data(const char *name)
{
	return (ProtobufCBinaryData){ .data = (uint8_t *)(uintptr_t)name, .len = strlen(name) };
}

static inline int client_make(struct client *client, uint16_t op, uint64_t parent, const char *name, uint32_t slot,
			      uint32_t seq, uint64_t *ret_ino)
{
	Strake__CreateRequest request = STRAKE__CREATE_REQUEST__INIT;
	struct call call = { .opcode = op, .request = &request.base, .slot = slot, .seq = seq };
	int err;

	request.cred = &client->cred;
	request.parent = parent;
	request.name = name_data(name);
	request.mode = 0755;
	request.has_exclusive = request.exclusive = 1;
	err = client_ask(client, &call);
	if (err == 0 && ret_ino)
		*ret_ino = ((const Strake__EntryReply *)call.reply)->attr->ino;
	call_release(&call);
	return err;
}

static inline int client_unlink(struct client *client, uint64_t parent, const char *name, uint32_t slot, uint32_t seq)
{
	Strake__UnlinkRequest request = STRAKE__UNLINK_REQUEST__INIT;
	struct call call = { .opcode = OP_UNLINK, .request = &request.base, .slot = slot, .seq = seq };
	int err;

	request.cred = &client->cred;
	request.parent = parent;
	request.name = name_data(name);
	err = client_ask(client, &call);
	call_release(&call);
	return err;
}

static inline int client_rename(struct client *client, uint64_t parent, const char *name, const char *new_name,
				uint32_t slot, uint32_t seq)
{
	Strake__RenameRequest request = STRAKE__RENAME_REQUEST__INIT;
	struct call call = { .opcode = OP_RENAME, .request = &request.base, .slot = slot, .seq = seq };
	int err;

	request.cred = &client->cred;
	request.parent = request.new_parent = parent;
	request.name = name_data(name);
	request.new_name = name_data(new_name);
	err = client_ask(client, &call);
	call_release(&call);
	return err;
}

static inline int client_lookup(struct client *client, uint64_t parent, const char *name, uint64_t *ret_ino)
{
	Strake__LookupRequest request = STRAKE__LOOKUP_REQUEST__INIT;
	struct call call = { .opcode = OP_LOOKUP, .request = &request.base };
	int err;

	request.cred = &client->cred;
	request.parent = parent;
	request.name = name_data(name);
	err = client_ask(client, &call);
	if (err == 0)
		*ret_ino = ((const Strake__EntryReply *)call.reply)->attr->ino;
	call_release(&call);
	return err;
}

/* Run body(client) in a fiber on a loop of its own, to its end. */
static inline void client_run(struct client *client, const struct setting *setting, void (*body)(void *arg), void *arg)
{
	client_connect(client, setting);
	ck_assert_int_eq(fiber_start(client->loop, body, arg), 0);
	ck_assert_int_eq(loop_run(client->loop), 0);
}

/* --- an MDT and an OST on one loop ---------------------------------------------------------------------------------- */

#define OST_SEEN_MAX 64

struct fake_ost {
	struct setting setting;
	struct loop *loop;
	struct mdt *mdt;
	struct service *service;
	struct uuid target;
	char address[ADDRESS_SIZE];
	struct address_list listen; /* the MDT's */
	bool strict;
	unsigned int refuse; /* so many requests are answered EIO first */
	unsigned int stale;  /* so many cuts ESTALE */
	uint16_t first_op;   /* the first request that came; 0: none */
	unsigned int sessions, session_count;
	uint64_t sessions_newest, sessions_heard, destroys_newest;
	uint64_t clock;    /* in answers to SESSIONS; */
	unsigned int runs; /* so many of them say that a revoked write runs */
	uint64_t destroyed_ino[OST_SEEN_MAX], destroyed_gen[OST_SEEN_MAX];
	size_t destroyed;
	uint64_t cut_ino, cut_number, cut_start;
	unsigned int busy; /* so many VOIDs are answered EAGAIN */
	unsigned int voids;
	uint64_t void_first[OST_SEEN_MAX], void_end[OST_SEEN_MAX]; /* of the last VOID */
	size_t void_count;
	struct client client;
};

static inline void ost_handle(void *owner, struct request *request)
{
	Strake__SessionTableReply answer = STRAKE__SESSION_TABLE_REPLY__INIT;
	struct fake_ost *ost = owner;

	if (ost->first_op == 0)
		ost->first_op = request->header.opcode;
	if (ost->refuse > 0 && request->header.opcode != OP_SESSIONS) {
		ost->refuse--;
		service_reply_error(request, -EIO);
		return;
	}
	if (request->header.opcode == OP_SESSIONS) {
		const Strake__SessionTable *table = (const void *)request->body;

		ck_assert_uint_le(table->epoch, mdt_log_durable(ost->mdt->log));
		ost->sessions++;
		ost->session_count = (unsigned int)table->n_session;
		ost->sessions_newest = table->newest;
		ost->sessions_heard = table->has_heard ? table->heard : 0;
		answer.now = ++ost->clock;
		answer.has_runs = answer.runs = ost->runs > 0;
		ost->runs -= ost->runs > 0;
		service_reply(request, &(struct reply){ .body = &answer.base });
		return;
	} else if (request->header.opcode == OP_DESTROY) {
		const Strake__DestroyRequest *destroy = (const void *)request->body;

		ost->destroys_newest = destroy->newest_session;
		for (size_t i = 0; i < destroy->n_ino && ost->destroyed < OST_SEEN_MAX; i++) {
			struct destroy_row row;

			if (destroy_get(ost->mdt->state.view, destroy->ino[i], destroy->gen[i], &row) == 0)
				ck_assert_uint_le(row.index, mdt_log_durable(ost->mdt->log));
			ost->destroyed_ino[ost->destroyed] = destroy->ino[i];
			ost->destroyed_gen[ost->destroyed++] = destroy->gen[i];
		}
	} else if (request->header.opcode == OP_CUT) {
		const Strake__CutRequest *cut = (const void *)request->body;
		struct cut_row row;

		if (ost->stale > 0) {
			ost->stale--;
			service_reply_error(request, -ESTALE);
			return;
		}
		if (cut_get(ost->mdt->state.view, cut->ino, &row) == 0 && row.number == cut->cut->number)
			ck_assert_uint_le(row.index, mdt_log_durable(ost->mdt->log));
		ost->cut_ino = cut->ino;
		ost->cut_number = cut->cut->number;
		ost->cut_start = cut->cut->start;
	} else if (request->header.opcode == OP_VOID) {
		const Strake__VoidRequest *voids = (const void *)request->body;

		if (ost->busy > 0) {
			ost->busy--;
			service_reply_error(request, -EAGAIN);
			return;
		}
		ck_assert(voids->n_first == voids->n_end && voids->n_first <= OST_SEEN_MAX);
		ost->void_count = voids->n_first;
		memcpy(ost->void_first, voids->first, voids->n_first * sizeof(*voids->first));
		memcpy(ost->void_end, voids->end, voids->n_end * sizeof(*voids->end));
		ost->voids++;
	}
	service_reply_error(request, 0);
}

static inline void service_start(struct fake_ost *ost)
{
	uint16_t port;

	ost->first_op = 0;
	ost->clock += 1000; /* of another start of it, which what was heard of the last one means nothing to */
	ck_assert_int_eq(service_new(ost->loop,
				     &(struct service_config){ .fs = ost->setting.identity.fs,
							       .target = ost->target,
							       .role = ROLE_OST,
							       .key = &ost->setting.key,
							       .owner = ost,
							       .handle = ost_handle },
				     &ost->service),
			 0);
	ck_assert_int_eq(service_listen(ost->service, ost->address, &port), 0);
	address_join("127.0.0.1", port, ost->address);
}

static inline void mdt_start(struct fake_ost *ost)
{
	struct mdt_config config = setting_config(&ost->setting, &ost->listen);
	char error[256];

	config.strict = ost->strict;
	ck_assert_msg(mdt_open(ost->loop, &config, &ost->mdt, error, sizeof(error)) == 0, "%s", error);
}

static inline void give_map(struct fake_ost *ost, bool listed)
{
	Strake__ClusterMap map = STRAKE__CLUSTER_MAP__INIT;
	Strake__Target target = STRAKE__TARGET__INIT, *targets[] = { &target };
	char *addresses[] = { ost->address };

	target.uuid = (ProtobufCBinaryData){ .data = ost->target.bytes, .len = UUID_SIZE };
	target.role = STRAKE__TARGET_ROLE__TARGET_OST;
	target.n_address = 1;
	target.address = addresses;
	target.bytes_total = target.bytes_free = 1 << 30;
	target.instance = 1;
	map.n_target = listed;
	map.target = targets;
	layout_chooser_set(&ost->mdt->chooser, &map);
	ost_links_set_map(ost->mdt->links, &map);
}

static inline int truncate_file(struct client *client, uint64_t ino, uint64_t size, uint32_t seq)
{
	Strake__SetattrRequest request = STRAKE__SETATTR_REQUEST__INIT;
	struct call call = { .opcode = OP_SETATTR, .request = &request.base, .seq = seq };
	int err;

	request.cred = &client->cred;
	request.ino = ino;
	request.has_size = 1;
	request.size = size;
	err = client_ask(client, &call);
	if (err == 0)
		ck_assert_uint_ge(call.durable_index, call.log_index);
	call_release(&call);
	return err;
}

/* OPEN or CLOSE for reading, with a number of its own; turn 0: without. */
static inline bool open_in_turn(struct client *client, uint16_t op, uint64_t ino, uint64_t turn)
{
	Strake__OpenRequest open = STRAKE__OPEN_REQUEST__INIT;
	Strake__CloseRequest close_request = STRAKE__CLOSE_REQUEST__INIT;
	struct call call = { .opcode = op, .request = op == OP_OPEN ? &open.base : &close_request.base };
	uint32_t modes = OPEN_READ;
	int err;

	open.cred = &client->cred;
	open.ino = ino;
	open.modes = modes;
	close_request.n_ino = close_request.n_modes = 1;
	close_request.ino = &ino;
	close_request.modes = &modes;
	open.has_turn = close_request.has_turn = turn != 0;
	open.turn = close_request.turn = turn;
	err = client_ask(client, &call);
	call_release(&call);
	return err == 0;
}

static inline bool open_file(struct client *client, uint16_t op, uint64_t ino)
{
	return open_in_turn(client, op, ino, 0);
}

static inline uint64_t pending_rows(struct fake_ost *ost, enum view_table table)
{
	struct view_cursor cursor;
	uint64_t count = 0;
	int err = view_seek(ost->mdt->state.view, table, (struct bytes){ "", 0 }, &cursor);

	for (; err == 0; err = view_next(&cursor))
		count++;
	return count;
}

static inline void story_end(struct fake_ost *ost)
{
	ost->client.peer = peer_free(ost->client.peer);
	ost->service = service_free(ost->service);
	mdt_stop(ost->mdt);
	loop_stop(ost->loop);
}

/* The MDT has read what was sent to it, and its loop has gone round often enough to send what it has to. */
static inline void go_round(struct client *client)
{
	uint64_t ino;

	for (unsigned int i = 0; i < 20; i++)
		ck_assert_int_eq(client_lookup(client, 1, "nobody", &ino), -ENOENT);
}

static inline int end_session(struct client *client)
{
	Strake__SessionCloseRequest request = STRAKE__SESSION_CLOSE_REQUEST__INIT;
	struct call call = { .opcode = OP_SESSION_CLOSE, .request = &request.base };
	int err = client_ask(client, &call);

	call_release(&call);
	client->session = 0;
	return err;
}

/* A directory is made, in a fiber of its own. */
struct make {
	struct client *client;
	const char *name;
	uint32_t slot, seq;
	uint16_t flags;
	bool answered;
	uint64_t ino;
};

static inline void make_run(void *arg)
{
	struct make *make = arg;
	Strake__CreateRequest request = STRAKE__CREATE_REQUEST__INIT;
	struct call call = {
		.opcode = OP_MKDIR, .flags = make->flags, .request = &request.base, .slot = make->slot, .seq = make->seq
	};

	request.cred = &make->client->cred;
	request.parent = 1;
	request.name = name_data(make->name);
	request.mode = 0755;
	ck_assert_int_eq(client_ask(make->client, &call), 0);
	ck_assert(!(call.flags & FRAME_RESENT)); /* it was answered, though late */
	if (make->flags & FRAME_SYNC)
		ck_assert_uint_ge(call.durable_index, call.log_index);
	make->ino = ((const Strake__EntryReply *)call.reply)->attr->ino;
	call_release(&call);
	make->answered = true;
}

static inline bool renew(struct client *client, uint64_t *ret_instance)
{
	Strake__SessionRenewRequest request = STRAKE__SESSION_RENEW_REQUEST__INIT;
	struct call call = { .opcode = OP_SESSION_RENEW, .request = &request.base };
	bool reclaim;

	ck_assert_int_eq(client_ask(client, &call), 0);
	reclaim = ((const Strake__SessionRenewReply *)call.reply)->reclaim;
	*ret_instance = ((const Strake__SessionRenewReply *)call.reply)->instance;
	call_release(&call);
	return reclaim;
}

static inline void reclaim(struct client *client, uint64_t ino)
{
	Strake__ReclaimRequest request = STRAKE__RECLAIM_REQUEST__INIT;
	struct call call = { .opcode = OP_RECLAIM, .request = &request.base };
	uint32_t modes = OPEN_READ;

	request.n_ino = request.n_modes = 1;
	request.ino = &ino;
	request.modes = &modes;
	ck_assert_int_eq(client_ask(client, &call), 0);
	call_release(&call);
}

static inline void mdt_end(struct fake_ost *ost)
{
	mdt_stop(ost->mdt);
	mdt_close(ost->mdt);
}

static inline void mdt_again(struct fake_ost *ost)
{
	ost->voids = 0;
	ost->void_count = 0;
	mdt_start(ost);
	give_map(ost, true);
	go_round(&ost->client);
}

static inline void ost_run(void (*story)(void *arg), bool strict, uint32_t mdt_index)
{
	struct fake_ost *ost = calloc(1, sizeof(*ost));

	setting_make(&ost->setting);
	ost->setting.identity.index = mdt_index;
	ost->strict = strict;
	ck_assert_int_eq(loop_new(&ost->loop), 0);
	ost->client.loop = ost->loop;
	mdt_start(ost);
	strcpy(ost->setting.address, ost->mdt->address);
	uuid_make(&ost->target);
	strcpy(ost->address, "127.0.0.1:0");
	service_start(ost);
	give_map(ost, true);
	client_run(&ost->client, &ost->setting, story, ost);
	mdt_close(ost->mdt);
	loop_free(ost->loop);
	temp_dir_remove(ost->setting.dir);
	free(ost);
}

#endif
