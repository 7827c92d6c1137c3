/*
 * A cluster in the test's own process and on its loop, for tests of libstrake: an MGS, an MDT with a few inodes in an
 * array, and two OSTs that only know how long files are. It notes what it is asked; a test's hook may answer otherwise,
 * keep a request for later, or break connections. Bodies of tests run in a fiber and check with assert().
 */
#ifndef STRAKE_TESTS_CLIENT_FAKE_H
#define STRAKE_TESTS_CLIENT_FAKE_H

#include "client/fs.h"
#include "common/fiber.h"
#include "common/lock_list.h"
#include "common/logger.h"
#include "common/service.h"
#include "common/status.h"
#include "proto/mds.pb-c.h"
#include "proto/mgs.pb-c.h"
#include "proto/oss.pb-c.h"
#include "tests/unit/quick_time.h"
#include "tests/unit/unit.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FAKE_INODES 512
#define FAKE_SLOTS  128
#define FAKE_HELD   64
#define FAKE_OSTS   2
#define FAKE_FILE   2 /* fake_one_file()'s */

static uint64_t fake_log_index; /* what replies tell; 0: nothing */
static uint64_t fake_durable_index;
static char fake_order[16]; /* what tests have noted since fake_run(), a letter each */

struct fake;

struct fake_inode {
	uint64_t ino, gen, size, version, data_version, name_version;
	uint64_t stripe;                  /* 0: the default */
	uint64_t cut, cut_start, cut_end; /* cut 0: none */
	int64_t mtime_ns, ctime_ns;
	uint32_t mode;
	bool unsure, unfenced, fixed, written;
	bool turned;         /* its first stripe lies on the last OST, ... */
	char name[32];       /* in the root */
	unsigned int opened; /* modes the MDT was told of */
};

struct fake_ost {
	struct fake *fake;
	uint32_t index;
};

struct fake_slot {
	uint32_t seq;
	uint64_t ino; /* what the last request there made */
	bool used;
};

struct fake {
	struct loop *loop;
	struct key key;
	struct uuid fs_uuid, mdt_uuid, ost_uuids[FAKE_OSTS];
	struct service *mgs, *mdt, *osts[FAKE_OSTS];
	uint16_t mgs_port, mdt_port, ost_ports[FAKE_OSTS];
	char mdt_second[ADDRESS_SIZE]; /* another address of the MDT's; "": there is none */

	/* true: the hook has dealt with the request */
	bool (*hook)(struct fake *fake, struct request *request);
	struct request *held[FAKE_HELD];
	unsigned int held_count;

	unsigned int asked[0x400]; /* by opcode */
	int64_t now_ns;            /* its clock, which stands; 0: it does not tell of it */
	uint64_t session, instance;
	uint32_t slots_granted, lease_ms;
	bool reclaim;               /* the next RENEW asks for it */
	unsigned int reclaimed;     /* inodes of the last RECLAIM */
	unsigned int closed_inodes; /* of the last CLOSE */
	struct fake_slot slots[FAKE_SLOTS];
	struct fake_inode inodes[FAKE_INODES];
	unsigned int inode_count;
	uint64_t version;
	uint64_t ost_end[FAKE_OSTS], ost_instance;
	struct fake_ost ost_owners[FAKE_OSTS];
	uint32_t ost; /* the one that is asked */

	void (*body)(struct fake *fake);
	void (*after)(void); /* all is freed but the loop; NULL: nothing */
};

/* --- what it has --------------------------------------------------------------------------------------------------- */

static struct fake_inode *fake_find(struct fake *fake, uint64_t ino)
{
	for (unsigned int i = 0; i < fake->inode_count; i++)
		if (fake->inodes[i].ino == ino)
			return &fake->inodes[i];
	return NULL;
}

static struct fake_inode *fake_named(struct fake *fake, const void *name, size_t len)
{
	for (unsigned int i = 0; i < fake->inode_count; i++)
		if (strlen(fake->inodes[i].name) == len && memcmp(fake->inodes[i].name, name, len) == 0)
			return &fake->inodes[i];
	return NULL;
}

static struct fake_inode *fake_make(struct fake *fake, const char *name, uint32_t mode)
{
	struct fake_inode *inode = &fake->inodes[fake->inode_count++];

	assert(fake->inode_count <= FAKE_INODES);
	*inode = (struct fake_inode){
		.ino = fake->inode_count,
		.gen = 1000 + fake->inode_count,
		.version = ++fake->version,
		.data_version = fake->version,
		.name_version = fake->version,
		.mtime_ns = (int64_t)fake->version,
		.mode = mode,
	};
	snprintf(inode->name, sizeof(inode->name), "%s", name);
	return inode;
}

static void fake_changed(struct fake *fake, struct fake_inode *inode)
{
	inode->version = ++fake->version;
	inode->data_version = inode->version;
	inode->mtime_ns = (int64_t)inode->version;
}

struct fake_attr {
	Strake__Attr attr;
	Strake__Layout layout;
	Strake__Cut cut;
	uint32_t indices[FAKE_OSTS];
};

static Strake__Attr *fake_attr_fill(const struct fake_inode *inode, struct fake_attr *out)
{
	strake__attr__init(&out->attr);
	strake__layout__init(&out->layout);
	out->attr.ino = inode->ino;
	out->attr.gen = inode->gen;
	out->attr.mode = inode->mode;
	out->attr.nlink = 1;
	out->attr.size = inode->size;
	out->attr.version = inode->version;
	out->attr.has_data_version = true;
	out->attr.data_version = inode->data_version;
	out->attr.has_name_version = true;
	out->attr.name_version = inode->name_version;
	out->attr.mtime_ns = inode->mtime_ns;
	out->attr.ctime_ns = inode->ctime_ns;
	out->attr.has_size_unsure = out->attr.size_unsure = inode->unsure;
	out->attr.has_unfenced = out->attr.unfenced = inode->unfenced;
	out->layout.stripe_size = inode->stripe != 0 ? inode->stripe : LAYOUT_STRIPE_SIZE_DEFAULT;
	out->layout.stripe_count = FAKE_OSTS;
	for (uint32_t i = 0; i < FAKE_OSTS; i++)
		out->indices[i] = inode->turned ? FAKE_OSTS - 1 - i : i;
	out->layout.ost_indices = out->indices;
	out->layout.n_ost_indices = inode->fixed ? FAKE_OSTS : 0;
	out->attr.layout = &out->layout;
	strake__cut__init(&out->cut);
	out->cut.number = inode->cut;
	out->cut.has_start = out->cut.has_end = true;
	out->cut.start = inode->cut_start;
	out->cut.end = inode->cut_end;
	out->attr.cut = inode->cut != 0 ? &out->cut : NULL;
	return &out->attr;
}

static void fake_reply(struct request *request, const ProtobufCMessage *body)
{
	service_reply(
		request,
		&(struct reply){ .body = body, .log_index = fake_log_index, .durable_index = fake_durable_index });
}

static void fake_reply_attr(struct request *request, const struct fake_inode *inode, uint64_t data_before)
{
	Strake__AttrReply reply = STRAKE__ATTR_REPLY__INIT;
	struct fake_attr attr;

	reply.attr = fake_attr_fill(inode, &attr);
	reply.has_data_version_before = data_before != 0;
	reply.data_version_before = data_before;
	fake_reply(request, &reply.base);
}

static void fake_reply_entry(struct request *request, const struct fake_inode *inode)
{
	Strake__EntryReply reply = STRAKE__ENTRY_REPLY__INIT;
	struct fake_attr attr;

	reply.attr = fake_attr_fill(inode, &attr);
	fake_reply(request, &reply.base);
}

/* To LOCK; what is granted comes with the inode. */
static __attribute__((unused)) void fake_reply_lock(struct fake *fake, struct request *request,
						    enum lock_outcome outcome)
{
	const Strake__LockRequest *asked = (const Strake__LockRequest *)request->body;
	Strake__LockReply reply = STRAKE__LOCK_REPLY__INIT;
	struct fake_attr attr;

	reply.outcome = outcome;
	if (asked->lock->type != LOCK_FREE && outcome == LOCK_GRANTED)
		reply.attr = fake_attr_fill(fake_find(fake, asked->ino), &attr);
	fake_reply(request, &reply.base);
}

static __attribute__((unused)) void fake_note(char what)
{
	size_t length = strlen(fake_order);

	assert(length + 1 < sizeof(fake_order));
	fake_order[length] = what;
}

/* Keep a request: fake_let_go() answers it. */
static __attribute__((unused)) bool fake_hold(struct fake *fake, struct request *request)
{
	assert(fake->held_count < FAKE_HELD);
	fake->held[fake->held_count++] = request;
	return true;
}

/* --- the MGS --------------------------------------------------------------------------------------------------------- */

static void fake_mgs_handle(void *owner, struct request *request)
{
	struct fake *fake = owner;
	Strake__MapReply reply = STRAKE__MAP_REPLY__INIT;
	Strake__ClusterMap map = STRAKE__CLUSTER_MAP__INIT;
	Strake__Target targets[1 + FAKE_OSTS], *list[1 + FAKE_OSTS];
	char texts[1 + FAKE_OSTS][32], *addresses[1 + FAKE_OSTS][2];

	if (request->header.opcode != OP_MAP) {
		service_reply_error(request, 0);
		return;
	}
	for (uint32_t i = 0; i < 1 + FAKE_OSTS; i++) {
		Strake__Target *target = list[i] = &targets[i];
		struct uuid *uuid = i == 0 ? &fake->mdt_uuid : &fake->ost_uuids[i - 1];

		strake__target__init(target);
		target->uuid = (ProtobufCBinaryData){ .len = UUID_SIZE, .data = uuid->bytes };
		target->role = i == 0 ? STRAKE__TARGET_ROLE__TARGET_MDT : STRAKE__TARGET_ROLE__TARGET_OST;
		target->index = i == 0 ? 0 : i - 1;
		snprintf(texts[i], sizeof(texts[i]), "127.0.0.1:%u", i == 0 ? fake->mdt_port : fake->ost_ports[i - 1]);
		addresses[i][0] = texts[i];
		addresses[i][1] = fake->mdt_second;
		target->address = addresses[i];
		target->n_address = i == 0 && fake->mdt_second[0] != '\0' ? 2 : 1;
	}
	map.fs_uuid = (ProtobufCBinaryData){ .len = UUID_SIZE, .data = fake->fs_uuid.bytes };
	map.fs_name = texts[0];
	map.epoch = 1;
	map.target = list;
	map.n_target = 1 + FAKE_OSTS;
	reply.map = &map;
	fake_reply(request, &reply.base);
}

/* --- the MDT --------------------------------------------------------------------------------------------------------- */

static void fake_session_open(struct fake *fake, struct request *request)
{
	Strake__SessionOpenReply reply = STRAKE__SESSION_OPEN_REPLY__INIT;

	fake->session++;
	memset(fake->slots, 0, sizeof(fake->slots));
	for (unsigned int i = 0; i < fake->inode_count; i++)
		fake->inodes[i].opened = 0;
	reply.session = fake->session;
	reply.slots = fake->slots_granted;
	reply.lease_ms = fake->lease_ms;
	reply.root_ino = 1;
	reply.fs_uuid = (ProtobufCBinaryData){ .len = UUID_SIZE, .data = fake->fs_uuid.bytes };
	fake_reply(request, &reply.base);
}

static void fake_readdir(struct fake *fake, struct request *request)
{
	const Strake__ReaddirRequest *asked = (const Strake__ReaddirRequest *)request->body;
	Strake__ReaddirReply reply = STRAKE__READDIR_REPLY__INIT;
	Strake__Dirent dirents[40], *list[40];
	struct fake_attr attrs[40];
	unsigned int i;

	for (i = 1; i < fake->inode_count && reply.n_entry < 40; i++) {
		Strake__Dirent *dirent = &dirents[reply.n_entry];

		if (10 + i <= asked->cookie)
			continue;
		strake__dirent__init(dirent);
		dirent->name.data = (uint8_t *)fake->inodes[i].name;
		dirent->name.len = strlen(fake->inodes[i].name);
		dirent->ino = fake->inodes[i].ino;
		dirent->type = fake->inodes[i].mode & S_IFMT;
		dirent->cookie = 10 + i;
		if (asked->has_attrs && asked->attrs)
			dirent->attr = fake_attr_fill(&fake->inodes[i], &attrs[reply.n_entry]);
		list[reply.n_entry++] = dirent;
	}
	reply.end = i == fake->inode_count;
	reply.has_now_ns = fake->now_ns != 0;
	reply.now_ns = fake->now_ns;
	reply.entry = list;
	reply.parent = 1;
	fake_reply(request, &reply.base);
}

static void fake_mark_open(struct fake *fake, const uint64_t *inos, const uint32_t *modes, size_t count, bool open)
{
	for (size_t i = 0; i < count; i++) {
		struct fake_inode *inode = fake_find(fake, inos[i]);

		if (inode != NULL && open)
			inode->opened |= modes[i];
		else if (inode != NULL)
			inode->opened &= ~modes[i];
	}
}

static void fake_reclaim(struct fake *fake, struct request *request)
{
	const Strake__ReclaimRequest *asked = (const Strake__ReclaimRequest *)request->body;

	fake_mark_open(fake, asked->ino, asked->modes, asked->n_ino, true);
	fake->reclaimed = (unsigned int)asked->n_ino;
	fake->reclaim = false;
	service_reply_error(request, 0);
}

static void fake_renew(struct fake *fake, struct request *request)
{
	Strake__SessionRenewReply reply = STRAKE__SESSION_RENEW_REPLY__INIT;

	reply.instance = fake->instance;
	reply.has_reclaim = reply.reclaim = fake->reclaim;
	fake_reply(request, &reply.base);
}

static void fake_create(struct fake *fake, struct request *request)
{
	const Strake__CreateRequest *asked = (const Strake__CreateRequest *)request->body;
	struct fake_slot *slot = &fake->slots[request->header.slot];
	struct fake_inode *inode = fake_named(fake, asked->name.data, asked->name.len);
	char name[32];

	assert(request->header.slot < fake->slots_granted);
	if (slot->used && slot->seq == request->header.seq) {
		fake_reply_entry(request, fake_find(fake, slot->ino));
		return;
	}
	assert(!slot->used || request->header.seq > slot->seq);
	if (inode == NULL) {
		snprintf(name, sizeof(name), "%.*s", (int)asked->name.len, (const char *)asked->name.data);
		inode = fake_make(fake, name, asked->mode);
	}
	inode->opened |= asked->open_modes;
	*slot = (struct fake_slot){ .seq = request->header.seq, .ino = inode->ino, .used = true };
	fake_reply_entry(request, inode);
}

static void fake_setattr(struct fake *fake, struct request *request)
{
	const Strake__SetattrRequest *asked = (const Strake__SetattrRequest *)request->body;
	struct fake_inode *inode = fake_find(fake, asked->ino);
	uint64_t data_before = inode->data_version;

	fake_changed(fake, inode);
	if (asked->has_size) {
		inode->size = asked->size;
		inode->gen++;
	}
	fake_reply_attr(request, inode, data_before);
}

static void fake_mdt_answer(struct fake *fake, struct request *request)
{
	struct fake_inode *inode = NULL;
	uint64_t data_before = 0;

	switch (request->header.opcode) {
	case OP_SESSION_OPEN:
		fake_session_open(fake, request);
		return;
	case OP_SESSION_RENEW:
		fake_renew(fake, request);
		return;
	case OP_RECLAIM:
		fake_reclaim(fake, request);
		return;
	case OP_LOOKUP: {
		const Strake__LookupRequest *asked = (const Strake__LookupRequest *)request->body;

		inode = fake_named(fake, asked->name.data, asked->name.len);
		if (inode != NULL)
			fake_reply_entry(request, inode);
		else
			service_reply_error(request, -ENOENT);
		return;
	}
	case OP_GETATTR:
		inode = fake_find(fake, ((const Strake__GetattrRequest *)request->body)->ino);
		break;
	case OP_OPEN: {
		const Strake__OpenRequest *asked = (const Strake__OpenRequest *)request->body;

		fake_mark_open(fake, &asked->ino, &asked->modes, 1, true);
		inode = fake_find(fake, asked->ino);
		break;
	}
	case OP_CLOSE: {
		const Strake__CloseRequest *asked = (const Strake__CloseRequest *)request->body;

		fake_mark_open(fake, asked->ino, asked->modes, asked->n_ino, false);
		fake->closed_inodes = (unsigned int)asked->n_ino;
		service_reply_error(request, 0);
		return;
	}
	case OP_CREATE:
		fake_create(fake, request);
		return;
	case OP_SIZE: {
		const Strake__SizeRequest *asked = (const Strake__SizeRequest *)request->body;

		inode = fake_find(fake, asked->ino);
		if (inode->size < asked->end)
			inode->size = asked->end;
		inode->unsure = inode->written;
		inode->version = ++fake->version;
		if (!asked->wrote)
			break;
		data_before = inode->data_version;
		inode->data_version = inode->version;
		break;
	}
	case OP_SETATTR:
		fake_setattr(fake, request);
		return;
	case OP_STATFS: {
		Strake__StatfsReply reply = STRAKE__STATFS_REPLY__INIT;

		fake_reply(request, &reply.base);
		return;
	}
	case OP_READDIR:
		fake_readdir(fake, request);
		return;
	default:
		service_reply_error(request, 0);
		return;
	}
	if (inode != NULL)
		fake_reply_attr(request, inode, data_before);
	else
		service_reply_error(request, -ESTALE);
}

static void fake_mdt_handle(void *owner, struct request *request)
{
	struct fake *fake = owner;
	uint16_t opcode = request->header.opcode;

	fake->asked[opcode]++;
	if (fake->hook != NULL && fake->hook(fake, request))
		return;
	if (opcode != OP_SESSION_OPEN && opcode != OP_PING && request->header.session != fake->session)
		service_reply_error(request, -ENOSESSION);
	else
		fake_mdt_answer(fake, request);
}

/* Answer the held requests as if they had come now. */
static __attribute__((unused)) void fake_let_go(struct fake *fake)
{
	for (unsigned int i = 0; i < fake->held_count; i++)
		fake_mdt_answer(fake, fake->held[i]);
	fake->held_count = 0;
}

static void fake_break_one(struct service_conn *conn, void *arg)
{
	(void)arg;
	service_conn_close(conn);
}

static __attribute__((unused)) void fake_break_connections(struct fake *fake)
{
	service_each_conn(fake->mdt, fake_break_one, NULL);
}

/* --- the OSTs -------------------------------------------------------------------------------------------------------- */

static void fake_ost_handle(void *owner, struct request *request)
{
	const struct fake_ost *ost = owner;
	struct fake *fake = ost->fake;
	Strake__GlimpseReply reply = STRAKE__GLIMPSE_REPLY__INIT;

	fake->ost = ost->index;
	fake->asked[request->header.opcode]++;
	if (fake->hook != NULL && fake->hook(fake, request))
		return;
	if (request->header.opcode != OP_GLIMPSE) {
		service_reply_error(request, -EIO);
		return;
	}
	/* The first OST's asker comes first or not: the ends are for both together. */
	reply.end = fake->ost_end[fake->asked[OP_GLIMPSE] % FAKE_OSTS];
	reply.blocks = 8;
	reply.instance = fake->ost_instance;
	fake_reply(request, &reply.base);
}

/* --- life ------------------------------------------------------------------------------------------------------------ */

static void fake_bulk_free(struct bulk *bulk)
{
	free(bulk);
}

static struct bulk *fake_bulk_alloc(void *owner, size_t size)
{
	struct bulk *bulk = malloc(sizeof(*bulk) + size);

	(void)owner;
	assert(bulk != NULL);
	*bulk = (struct bulk){ .data = bulk + 1, .size = size, .release = fake_bulk_free };
	return bulk;
}

/* Listens at *ret_port, or at any that is free where that is 0. */
static struct service *fake_service(struct fake *fake, enum role role, struct uuid target,
				    void (*handle)(void *, struct request *), void *owner, uint16_t *ret_port)
{
	struct service_config config = {
		.fs = fake->fs_uuid,
		.target = target,
		.role = role,
		.key = &fake->key,
		.owner = owner,
		.handle = handle,
		.bulk_alloc = fake_bulk_alloc,
	};
	struct service *service;
	char address[32];

	snprintf(address, sizeof(address), "127.0.0.1:%u", *ret_port);
	assert(service_new(fake->loop, &config, &service) == 0);
	assert(service_listen(service, address, ret_port) == 0);
	return service;
}

static __attribute__((unused)) void fake_config(struct fake *fake, struct fs_config *ret_config)
{
	char address[32];

	fs_config_defaults(ret_config);
	ret_config->key = fake->key;
	snprintf(address, sizeof(address), "127.0.0.1:%u", fake->mgs_port);
	assert(address_list_parse(address, ADDRESS_PORT_DEFAULT, &ret_config->mgs) == 0);
}

/* A file f, whose layout stands, and the configuration of a mount. Before anything is mounted. */
static __attribute__((unused)) void fake_one_file(struct fake *fake,
						  bool (*hook)(struct fake *fake, struct request *request),
						  struct fs_config *ret_config)
{
	assert(fake_make(fake, "f", S_IFREG | 0644)->ino == FAKE_FILE);
	fake->inodes[FAKE_FILE - 1].fixed = true;
	fake->hook = hook;
	fake_config(fake, ret_config);
}

struct fake_mount {
	struct fs *fs;
	struct worker *worker;
};

static __attribute__((unused)) void fake_mount(struct fake *fake, const struct fs_config *config,
					       struct fake_mount *ret)
{
	char error[512] = "";
	int err = fs_open(fake->loop, config, 10000, &ret->fs, error, sizeof(error));

	if (err < 0)
		fprintf(stderr, "fs_open: %s\n", error);
	assert(err == 0);
	assert(worker_new(ret->fs, fake->loop, 0, &ret->worker) == 0);
}

static __attribute__((unused)) struct file *fake_open(struct fs *fs, int flags)
{
	struct fs_ctx ctx = { .trusted = true };
	struct file *file;
	bool keep;

	assert(fs_open_file(fs, &ctx, FAKE_FILE, flags, &file, &keep) == 0);
	return file;
}

static __attribute__((unused)) void fake_unmount(struct fake_mount *mount)
{
	worker_free(mount->worker);
	fs_close(mount->fs);
}

static void fake_body(void *arg)
{
	struct fake *fake = arg;

	fake->body(fake);
	fiber_yield();
	loop_stop(fake->loop);
}

/* Run body in a fiber beside a fresh cluster. */
static void fake_run(void (*body)(struct fake *fake))
{
	static struct fake fake;
	struct uuid none = { 0 };

	logger_init("test", LOGGER_ERROR);
	memset(fake_order, 0, sizeof(fake_order));
	fake = (struct fake){
		.body = body, .session = 40, .instance = 1, .slots_granted = 64, .lease_ms = 30000, .ost_instance = 7
	};
	key_make(&fake.key);
	uuid_make(&fake.fs_uuid);
	uuid_make(&fake.mdt_uuid);
	fake_make(&fake, "", S_IFDIR | 0755);
	assert(loop_new(&fake.loop) == 0);
	fake.mgs = fake_service(&fake, ROLE_MGS, none, fake_mgs_handle, &fake, &fake.mgs_port);
	fake.mdt = fake_service(&fake, ROLE_MDT, fake.mdt_uuid, fake_mdt_handle, &fake, &fake.mdt_port);
	for (uint32_t i = 0; i < FAKE_OSTS; i++) {
		uuid_make(&fake.ost_uuids[i]);
		fake.ost_owners[i] = (struct fake_ost){ .fake = &fake, .index = i };
		fake.osts[i] = fake_service(&fake, ROLE_OST, fake.ost_uuids[i], fake_ost_handle, &fake.ost_owners[i],
					    &fake.ost_ports[i]);
	}
	assert(fiber_start(fake.loop, fake_body, &fake) == 0);
	assert(loop_run(fake.loop) == 0);
	for (int i = 0; i < FAKE_OSTS; i++)
		service_free(fake.osts[i]);
	service_free(fake.mdt);
	service_free(fake.mgs);
	if (fake.after != NULL)
		fake.after();
	loop_free(fake.loop);
}

#endif
