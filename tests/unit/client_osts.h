/*
 * OSTs with bytes in the cluster of client_fake.h, for tests of the client's data path: they forget at a restart what was
 * not committed, and note in which order they and the MDT are asked for what; and the one file that is tested, which others
 * cut, write and replace.
 */
#ifndef STRAKE_TESTS_CLIENT_OSTS_H
#define STRAKE_TESTS_CLIENT_OSTS_H

#include "client/data/internal.h"
#include "common/bulk_sums.h"
#include "tests/unit/client_fake.h"

#include <fcntl.h>

#define STRIPE LAYOUT_STRIPE_SIZE_DEFAULT
#define ROOM   (2u * STRIPE) /* of the one file: a stripe on each OST */
#define END    UINT64_MAX

static struct {
	uint8_t bytes[ROOM], stable[ROOM];
	uint32_t length[FAKE_OSTS]; /* of the objects */
	uint64_t instance[FAKE_OSTS];
	uint64_t cut;                    /* that they have heard of */
	int refuse;                      /* WRITEs, with this error */
	bool swallow;                    /* what is written goes into objects that nobody reads any more */
	uint16_t hold;                   /* keep requests of this opcode */
	bool commit_held;                /* it is made, and not answered */
	uint64_t size_before;            /* data_version before a SIZE that is made, and not answered */
	unsigned int broken;             /* so many READs more come broken, */
	uint32_t broken_from, broken_to; /* of those in this range */
	/* Write, Commit, Size, sTable size, Log, Punch, Allocate, Glimpse, copY, liKe: LAYOUT, Mode: SETATTR, eXit: CLOSE */
	char order[256];
	uint64_t end, blocks, age_ns; /* of the last SIZE */
	int64_t grown;
	bool kill_suid, exact, wrote;
	unsigned int exacts; /* SIZEs that were */
	uint64_t data[64];   /* the objects that have some, for SEEK: whole ones */
	unsigned int data_count;
	bool stale_seek; /* until one is refused: its gen is old */
	uint64_t copied, liked, copy_fails_at;
	bool layout_busy, setattr_fails;
	bool stale_size;           /* the next SIZE is refused */
	int full;                  /* ALLOCATEs are refused with this error; */
	uint64_t allocated;        /* so many bytes were, and */
	uint64_t total[FAKE_OSTS]; /* this much was asked for first */
} osts;

static struct fake *cluster;
static struct fake_mount mount;
static struct file *file, *direct; /* the same */

static inline struct fs_ctx root_ctx(void)
{
	return (struct fs_ctx){ .trusted = true };
}

/* --- the OSTs ----------------------------------------------------------------------------------------------------------- */

static inline void note(char what)
{
	size_t length = strlen(osts.order);

	if (length + 1 < sizeof(osts.order))
		osts.order[length] = what;
}

static inline void osts_cut(uint64_t number, uint64_t start, uint64_t end)
{
	if (end > ROOM)
		end = ROOM;
	memset(osts.bytes + start, 0, end - start);
	memset(osts.stable + start, 0, end - start);
	osts.cut = number;
}

/* It has been killed and is back: what was not committed is gone. */
static inline void lose(uint32_t ost)
{
	memcpy(osts.bytes + ost * STRIPE, osts.stable + ost * STRIPE, STRIPE);
	osts.instance[ost]++;
}

static inline void answer_write(struct request *request)
{
	const Strake__WriteRequest *write = (const Strake__WriteRequest *)request->body;
	const Strake__Cut *cut = write->object->cut;
	uint32_t ost = (uint32_t)write->object->seq % FAKE_OSTS;
	Strake__WriteReply reply = STRAKE__WRITE_REPLY__INIT;

	assert(bulk_sums_check(write->offset, request->bulk->data, request->header.bulk_len, write->sums, write->n_sums,
			       NULL) == 0);
	if (osts.refuse < 0) {
		service_reply_error(request, osts.refuse);
		return;
	}
	if (cut && cut->number > osts.cut)
		osts_cut(cut->number, cut->start, cut->end);
	reply.instance = osts.instance[ost];
	reply.has_grown = true;
	reply.grown = 8;
	if (osts.swallow) {
		fake_reply(request, &reply.base);
		return;
	}
	if (write->object->ino == 3) { /* only that it came */
		fake_reply(request, &reply.base);
		return;
	}
	if (write->object->gen != cluster->inodes[1].gen || (cut ? cut->number : 0) < osts.cut) {
		service_reply_error(request, -ESTALE);
		return;
	}
	assert(write->object->seq < FAKE_OSTS && write->offset + request->header.bulk_len <= STRIPE);
	memcpy(osts.bytes + ost * STRIPE + write->offset, request->bulk->data, request->header.bulk_len);
	if (osts.length[ost] < write->offset + request->header.bulk_len)
		osts.length[ost] = write->offset + request->header.bulk_len;
	fake_reply(request, &reply.base);
}

static inline void bulk_free(struct bulk *bulk)
{
	free(bulk);
}

static inline void answer_read(struct request *request)
{
	const Strake__ReadRequest *read = (const Strake__ReadRequest *)request->body;
	uint32_t ost = (uint32_t)read->object->seq, length = 0, sums[300];
	Strake__ReadReply body = STRAKE__READ_REPLY__INIT;
	struct reply reply = { .body = &body.base };

	if (read->object->gen != cluster->inodes[1].gen) {
		service_reply_error(request, -ESTALE);
		return;
	}
	if (read->offset < osts.length[ost])
		length = osts.length[ost] - read->offset;
	if (length > read->length)
		length = read->length;
	body.length = length;
	body.instance = osts.instance[ost];
	if (length > 0) {
		struct bulk *bulk = malloc(sizeof(*bulk) + length);

		*bulk = (struct bulk){ .data = bulk + 1, .size = length, .release = bulk_free };
		memcpy(bulk->data, osts.bytes + ost * STRIPE + read->offset, length);
		reply.bulk[0] = (struct iovec){ .iov_base = bulk->data, .iov_len = length };
		reply.bulk_count = 1;
		reply.owner = bulk;
		body.n_sums = bulk_sums_count(read->offset, length);
		assert(body.n_sums <= 300);
		body.sums = sums;
		bulk_sums_make(read->offset, reply.bulk, 1, sums);
		if (osts.broken > 0 && read->offset >= osts.broken_from && read->offset < osts.broken_to) {
			osts.broken--;
			*(char *)bulk->data ^= 1;
		}
	}
	service_reply(request, &reply);
}

static inline void answer_commit(struct request *request, uint32_t ost)
{
	Strake__CommitReply reply = STRAKE__COMMIT_REPLY__INIT;

	reply.instance = osts.instance[ost];
	fake_reply(request, &reply.base);
}

static inline void note_size(const struct request *request)
{
	const Strake__SizeRequest *size = (const Strake__SizeRequest *)request->body;

	note(request->header.flags & FRAME_SYNC ? 'T' : 'S');
	osts.end = size->end;
	osts.blocks = size->blocks;
	osts.grown = size->has_grown ? size->grown : -1;
	osts.exact = size->has_exact && size->exact;
	osts.exacts += osts.exact;
	osts.wrote = size->has_wrote && size->wrote;
	osts.age_ns = size->age_ns;
	osts.kill_suid = size->has_kill_suid && size->kill_suid;
}

/* Where the data is that the OSTs have, each in an object of its own; an OST looks into one object for each of `limit`. */
static inline bool has_data(uint64_t seq)
{
	for (unsigned int i = 0; i < osts.data_count; i++)
		if (osts.data[i] == seq)
			return true;
	return false;
}

static inline void answer_seek(struct request *request)
{
	const Strake__SeekRequest *asked = (const Strake__SeekRequest *)request->body;
	Strake__SeekReply reply = STRAKE__SEEK_REPLY__INIT;
	uint64_t seq = asked->object->seq, found = END;

	assert(asked->stride == FAKE_OSTS && asked->limit > 0);
	if (asked->object->gen != cluster->inodes[1].gen) {
		osts.stale_seek = false;
		service_reply_error(request, -ESTALE);
		return;
	}
	if (asked->hole) {
		for (uint32_t looked = 0; looked < asked->limit && has_data(seq); looked++)
			seq += FAKE_OSTS;
		found = seq;
		reply.has_more = reply.more = has_data(seq);
	} else {
		for (unsigned int i = 0; i < osts.data_count; i++)
			if (osts.data[i] >= seq && osts.data[i] < found && (osts.data[i] - seq) % FAKE_OSTS == 0)
				found = osts.data[i];
	}
	if (found >= asked->seq_end) {
		service_reply_error(request, -ENXIO);
		return;
	}
	reply.has_seq = true;
	reply.seq = found;
	reply.offset = found == asked->object->seq && !reply.more ? asked->offset : 0;
	fake_reply(request, &reply.base);
}

/* COPY, from the one file to the other: what it is asked is kept, and it takes its time where a test says so. */
static inline void answer_copy(struct request *request)
{
	const Strake__CopyRequest *asked = (const Strake__CopyRequest *)request->body;
	Strake__CopyReply reply = STRAKE__COPY_REPLY__INIT;

	if (asked->to->gen != cluster->inodes[2].gen || asked->from->gen != cluster->inodes[1].gen) {
		service_reply_error(request, -ESTALE);
		return;
	}
	assert(asked->from->seq % FAKE_OSTS == cluster->ost);
	assert((cluster->inodes[2].turned ? FAKE_OSTS - 1 - asked->to->seq % FAKE_OSTS : asked->to->seq % FAKE_OSTS) ==
	       cluster->ost);
	if (osts.copy_fails_at > 0 && asked->to->seq * STRIPE + asked->to_offset >= osts.copy_fails_at) {
		service_reply_error(request, -ENOSPC);
		return;
	}
	osts.copied += asked->length;
	reply.grown = 8;
	fake_reply(request, &reply.base);
}

static inline void answer_layout(struct fake *fake, struct request *request)
{
	const Strake__LayoutRequest *asked = (const Strake__LayoutRequest *)request->body;
	struct fake_inode *inode = &fake->inodes[asked->ino - 1];

	osts.liked = asked->like;
	if (osts.layout_busy) {
		service_reply_error(request, -EBUSY);
		return;
	}
	inode->turned = fake->inodes[asked->like - 1].turned;
	inode->gen++;
	fake_changed(fake, inode);
	fake_reply_attr(request, inode, 0);
}

static inline void answer_allocate(struct request *request, uint32_t ost)
{
	const Strake__AllocateRequest *asked = (const Strake__AllocateRequest *)request->body;

	if (asked->length == 0)
		osts.total[ost] = asked->total;
	else if (osts.full == 0)
		osts.allocated += asked->length;
	service_reply_error(request, osts.full);
}

static inline void punch(struct fake *fake, struct request *request)
{
	const Strake__PunchRequest *asked = (const Strake__PunchRequest *)request->body;
	struct fake_inode *inode = &fake->inodes[1];
	uint64_t before = inode->data_version;

	inode->cut++;
	inode->cut_start = asked->start;
	inode->cut_end = asked->end;
	fake_changed(fake, inode);
	fake_reply_attr(request, inode, before);
}

static inline bool serve(struct fake *fake, struct request *request)
{
	switch (request->header.opcode) {
	case OP_WRITE:
		note('W');
		if (osts.hold == OP_WRITE)
			return fake_hold(fake, request);
		answer_write(request);
		return true;
	case OP_READ:
		answer_read(request);
		return true;
	case OP_COMMIT:
		note('C');
		memcpy(osts.stable + fake->ost * STRIPE, osts.bytes + fake->ost * STRIPE, STRIPE);
		if (osts.hold == OP_COMMIT)
			return fake_hold(fake, request);
		answer_commit(request, fake->ost);
		return true;
	case OP_SIZE:
		note_size(request);
		if (osts.stale_size) {
			osts.stale_size = false;
			service_reply_error(request, -ESTALE);
			return true;
		}
		if (osts.hold != OP_SIZE)
			return false;
		osts.size_before = fake->inodes[1].data_version;
		fake->inodes[1].size = osts.end;
		fake_changed(fake, &fake->inodes[1]);
		return fake_hold(fake, request);
	case OP_SYNC:
		note('L');
		return false;
	case OP_ALLOCATE:
		note('A');
		answer_allocate(request, fake->ost);
		return true;
	case OP_GLIMPSE:
		note('G');
		return osts.hold == OP_GLIMPSE ? fake_hold(fake, request) : false;
	case OP_COPY:
		note('Y');
		if (osts.hold == OP_COPY)
			return fake_hold(fake, request);
		answer_copy(request);
		return true;
	case OP_LAYOUT:
		note('K');
		answer_layout(fake, request);
		return true;
	case OP_SEEK:
		answer_seek(request);
		return true;
	case OP_PUNCH:
		note('P');
		punch(fake, request);
		return true;
	case OP_CLOSE:
		note('X');
		return false;
	case OP_SETATTR:
		note('M');
		if (osts.hold == OP_SETATTR)
			return fake_hold(fake, request);
		if (osts.setattr_fails)
			service_reply_error(request, -EPERM);
		return osts.setattr_fails;
	default:
		return false;
	}
}

/* --- the file ----------------------------------------------------------------------------------------------------------- */

/* soft_ms 0: hard. */
static inline void begin_as(struct fake *fake, uint64_t memory_max, unsigned int soft_ms)
{
	struct fs_config config;

	memset(&osts, 0, sizeof(osts));
	osts.instance[0] = osts.instance[1] = 7;
	cluster = fake;
	fake_one_file(fake, serve, &config);
	config.memory_max = memory_max;
	config.soft = soft_ms > 0;
	config.soft_timeout_ms = soft_ms;
	fake_mount(fake, &config, &mount);
	file = fake_open(mount.fs, O_RDWR);
	direct = fake_open(mount.fs, O_RDWR | O_DIRECT);
}

static inline void begin_with(struct fake *fake, uint64_t memory_max)
{
	begin_as(fake, memory_max, 0);
}

static inline void begin(struct fake *fake)
{
	begin_with(fake, UINT64_C(1) << 30);
}

static inline void end(void)
{
	fs_release(direct);
	fs_release(file);
	fake_unmount(&mount);
}

static inline void put(struct file *to, uint64_t offset, const void *data, size_t size)
{
	struct fs_ctx ctx = root_ctx();

	assert(fs_write(to, &ctx, offset, data, size, NULL) == 0);
}

static inline void put_text(uint64_t offset, const char *text)
{
	put(file, offset, text, strlen(text));
}

static inline void put_letters(uint64_t offset, char letter, size_t size)
{
	char letters[8192];

	assert(size <= sizeof(letters));
	memset(letters, letter, size);
	put(file, offset, letters, size);
}

static inline int flush(void)
{
	struct fs_ctx ctx = root_ctx();

	return fs_flush(file, &ctx);
}

static inline int fsync_file(void)
{
	struct fs_ctx ctx = root_ctx();

	return fs_fsync(file, &ctx, false);
}

/* On the OSTs, written but not committed. */
static inline void put_out(uint64_t offset, const char *text)
{
	put_text(offset, text);
	assert(flush() == 0);
}

static inline bool is_at(const uint8_t *where, uint64_t offset, const char *text)
{
	return memcmp(where + offset, text, strlen(text)) == 0;
}

static inline bool all_are(uint64_t start, uint64_t until, uint8_t letter)
{
	for (uint64_t at = start; at < until; at++)
		if (osts.bytes[at] != letter)
			return false;
	return true;
}

static inline size_t get(struct file *from, uint64_t offset, char *out, size_t size)
{
	struct fs_ctx ctx = root_ctx();
	struct read_result result;
	char *buffer = malloc(size);
	size_t length = 0;

	memset(buffer, 'U', size);
	assert(fs_read(from, &ctx, offset, size, buffer, &result) == 0);
	for (int i = 0; i < result.iov_count; length += result.iov[i++].iov_len)
		memcpy(out + length, result.iov[i].iov_base, result.iov[i].iov_len);
	assert(length == result.len);
	read_release(&result);
	free(buffer);
	return length;
}

static inline bool reads(struct file *from, uint64_t offset, const char *text)
{
	char got[64];

	return get(from, offset, got, strlen(text)) == strlen(text) && memcmp(got, text, strlen(text)) == 0;
}

/*
 * Another client's truncate or punch, as the MDT has it; but with the old data_version, so that what becomes of the bytes
 * is the cut's doing, and not that others write.
 */
static inline void cut_elsewhere(uint64_t number, uint64_t start, uint64_t until)
{
	struct fake_inode *inode = &cluster->inodes[1];
	uint64_t data_version = inode->data_version;

	inode->cut = number;
	inode->cut_start = start;
	inode->cut_end = until;
	if (until == END)
		inode->size = start;
	fake_changed(cluster, inode);
	inode->data_version = data_version;
}

static inline void replace_elsewhere(void)
{
	cluster->inodes[1].gen++;
	cluster->inodes[1].size = 0;
	osts.length[0] = osts.length[1] = 0;
	memset(osts.bytes, 0, sizeof(osts.bytes));
	memset(osts.stable, 0, sizeof(osts.stable));
	fake_changed(cluster, &cluster->inodes[1]);
}

/* The client hears of it; nothing is written out for that. */
static inline void learn(void)
{
	struct fs_ctx ctx = root_ctx();
	struct attr attr;

	assert(inode_fetch_attr(file->inode, &ctx, true, &attr) == 0);
}

static inline uint64_t known_size(void)
{
	uint64_t size;

	pthread_mutex_lock(&file->inode->lock);
	size = data_size(file->inode);
	pthread_mutex_unlock(&file->inode->lock);
	return size;
}

static inline bool nothing_held(void)
{
	struct fs_stats stats;

	fs_stats(mount.fs, &stats);
	return stats.bytes_held == 0 && stats.files_held == 0;
}

/* A flush or fsync in a fiber of its own. */
static int background_result;
static bool background_over;

static inline void flush_fiber(void *arg)
{
	(void)arg;
	background_result = flush();
	background_over = true;
}

static inline void fsync_fiber(void *arg)
{
	(void)arg;
	background_result = fsync_file();
	background_over = true;
}

static inline void start(void (*fn)(void *arg))
{
	background_over = false;
	assert(fiber_start(cluster->loop, fn, NULL) == 0);
	while (cluster->held_count == 0)
		fiber_sleep_ms(1);
}

static inline int finish(void)
{
	while (!background_over)
		fiber_sleep_ms(1);
	return background_result;
}

/* Answer the WRITE that is kept. */
static inline void let_write_go(void)
{
	assert(cluster->held_count == 1);
	osts.hold = 0;
	cluster->held_count = 0;
	answer_write(cluster->held[0]);
}

#endif
