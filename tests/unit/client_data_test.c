/*
 * The client's data path beside OSTs that forget at a restart what was not committed, and an MDT that cuts and replaces
 * files for others: what is sent again and what never, in which order, and what is read meanwhile.
 */
#include "client/data/ahead.h"
#include "client/data/internal.h"
#include "client/worker.h"
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
	uint64_t data[64]; /* the objects that have some, for SEEK: whole ones */
	unsigned int data_count;
	bool stale_seek; /* until one is refused: its gen is old */
	uint64_t copied, liked, copy_fails_at;
	bool layout_busy, setattr_fails;
	int full;                  /* ALLOCATEs are refused with this error; */
	uint64_t allocated;        /* so many bytes were, and */
	uint64_t total[FAKE_OSTS]; /* this much was asked for first */
} osts;

static struct fake *cluster;
static struct fake_mount mount;
static struct file *file, *direct; /* the same */

static struct fs_ctx root_ctx(void)
{
	return (struct fs_ctx){ .trusted = true };
}

/* --- the OSTs ----------------------------------------------------------------------------------------------------------- */

static void note(char what)
{
	size_t length = strlen(osts.order);

	if (length + 1 < sizeof(osts.order))
		osts.order[length] = what;
}

static void osts_cut(uint64_t number, uint64_t start, uint64_t end)
{
	if (end > ROOM)
		end = ROOM;
	memset(osts.bytes + start, 0, end - start);
	memset(osts.stable + start, 0, end - start);
	osts.cut = number;
}

/* It has been killed and is back: what was not committed is gone. */
static void lose(uint32_t ost)
{
	memcpy(osts.bytes + ost * STRIPE, osts.stable + ost * STRIPE, STRIPE);
	osts.instance[ost]++;
}

static void answer_write(struct request *request)
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

static void bulk_free(struct bulk *bulk)
{
	free(bulk);
}

static void answer_read(struct request *request)
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

static void answer_commit(struct request *request, uint32_t ost)
{
	Strake__CommitReply reply = STRAKE__COMMIT_REPLY__INIT;

	reply.instance = osts.instance[ost];
	fake_reply(request, &reply.base);
}

static void note_size(const struct request *request)
{
	const Strake__SizeRequest *size = (const Strake__SizeRequest *)request->body;

	note(request->header.flags & FRAME_SYNC ? 'T' : 'S');
	osts.end = size->end;
	osts.blocks = size->blocks;
	osts.grown = size->has_grown ? size->grown : -1;
	osts.exact = size->has_exact && size->exact;
	osts.wrote = size->has_wrote && size->wrote;
	osts.age_ns = size->age_ns;
	osts.kill_suid = size->has_kill_suid && size->kill_suid;
}

/* Where the data is that the OSTs have, each in an object of its own; an OST looks into one object for each of `limit`. */
static bool has_data(uint64_t seq)
{
	for (unsigned int i = 0; i < osts.data_count; i++)
		if (osts.data[i] == seq)
			return true;
	return false;
}

static void answer_seek(struct request *request)
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
static void answer_copy(struct request *request)
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

static void answer_layout(struct fake *fake, struct request *request)
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

static void answer_allocate(struct request *request, uint32_t ost)
{
	const Strake__AllocateRequest *asked = (const Strake__AllocateRequest *)request->body;

	if (asked->length == 0)
		osts.total[ost] = asked->total;
	else if (osts.full == 0)
		osts.allocated += asked->length;
	service_reply_error(request, osts.full);
}

static void punch(struct fake *fake, struct request *request)
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

static bool serve(struct fake *fake, struct request *request)
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
		return false;
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
		if (osts.setattr_fails)
			service_reply_error(request, -EPERM);
		return osts.setattr_fails;
	default:
		return false;
	}
}

/* --- the file ----------------------------------------------------------------------------------------------------------- */

static struct file *open_file(int flags)
{
	struct fs_ctx ctx = root_ctx();
	struct file *opened;
	bool keep;

	assert(fs_open_file(mount.fs, &ctx, 2, flags, &opened, &keep) == 0);
	return opened;
}

static void begin_with(struct fake *fake, uint64_t memory_max)
{
	struct fs_config config;

	memset(&osts, 0, sizeof(osts));
	osts.instance[0] = osts.instance[1] = 7;
	cluster = fake;
	fake_make(fake, "f", S_IFREG | 0644);
	fake->inodes[1].fixed = true;
	fake->hook = serve;
	fake_config(fake, &config);
	config.memory_max = memory_max;
	fake_mount(fake, &config, &mount);
	file = open_file(O_RDWR);
	direct = open_file(O_RDWR | O_DIRECT);
}

static void begin(struct fake *fake)
{
	begin_with(fake, UINT64_C(1) << 30);
}

static void end(void)
{
	fs_release(direct);
	fs_release(file);
	fake_unmount(&mount);
}

static void put(struct file *to, uint64_t offset, const void *data, size_t size)
{
	struct fs_ctx ctx = root_ctx();

	assert(fs_write(to, &ctx, offset, data, size, NULL) == 0);
}

static void put_text(uint64_t offset, const char *text)
{
	put(file, offset, text, strlen(text));
}

static void put_letters(uint64_t offset, char letter, size_t size)
{
	char letters[8192];

	assert(size <= sizeof(letters));
	memset(letters, letter, size);
	put(file, offset, letters, size);
}

static int flush(void)
{
	struct fs_ctx ctx = root_ctx();

	return fs_flush(file, &ctx);
}

static int fsync_file(void)
{
	struct fs_ctx ctx = root_ctx();

	return fs_fsync(file, &ctx, false);
}

/* On the OSTs, written but not committed. */
static void put_out(uint64_t offset, const char *text)
{
	put_text(offset, text);
	assert(flush() == 0);
}

static bool is_at(const uint8_t *where, uint64_t offset, const char *text)
{
	return memcmp(where + offset, text, strlen(text)) == 0;
}

static bool all_are(uint64_t start, uint64_t until, uint8_t letter)
{
	for (uint64_t at = start; at < until; at++)
		if (osts.bytes[at] != letter)
			return false;
	return true;
}

static size_t get(struct file *from, uint64_t offset, char *out, size_t size)
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

static bool reads(struct file *from, uint64_t offset, const char *text)
{
	char got[64];

	return get(from, offset, got, strlen(text)) == strlen(text) && memcmp(got, text, strlen(text)) == 0;
}

/*
 * Another client's truncate or punch, as the MDT has it; but with the old data_version, so that what becomes of the bytes
 * is the cut's doing, and not that others write.
 */
static void cut_elsewhere(uint64_t number, uint64_t start, uint64_t until)
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

/* Another client's bytes, committed and reported. */
static void write_elsewhere(uint64_t offset, const char *text)
{
	memcpy(osts.bytes + offset, text, strlen(text));
	memcpy(osts.stable + offset, text, strlen(text));
	fake_changed(cluster, &cluster->inodes[1]);
}

static void replace_elsewhere(void)
{
	cluster->inodes[1].gen++;
	cluster->inodes[1].size = 0;
	osts.length[0] = osts.length[1] = 0;
	memset(osts.bytes, 0, sizeof(osts.bytes));
	memset(osts.stable, 0, sizeof(osts.stable));
	fake_changed(cluster, &cluster->inodes[1]);
}

/* The client hears of it; nothing is written out for that. */
static void learn(void)
{
	struct fs_ctx ctx = root_ctx();
	struct attr attr;

	assert(inode_fetch_attr(file->inode, &ctx, true, &attr) == 0);
}

static uint64_t known_size(void)
{
	uint64_t size;

	pthread_mutex_lock(&file->inode->lock);
	size = data_size(file->inode);
	pthread_mutex_unlock(&file->inode->lock);
	return size;
}

static bool nothing_held(void)
{
	struct fs_stats stats;

	fs_stats(mount.fs, &stats);
	return stats.bytes_held == 0 && stats.files_held == 0;
}

/* A flush or fsync in a fiber of its own. */
static int background_result;
static bool background_over;

static void flush_fiber(void *arg)
{
	(void)arg;
	background_result = flush();
	background_over = true;
}

static void fsync_fiber(void *arg)
{
	(void)arg;
	background_result = fsync_file();
	background_over = true;
}

static void start(void (*fn)(void *arg))
{
	background_over = false;
	assert(fiber_start(cluster->loop, fn, NULL) == 0);
	while (cluster->held_count == 0)
		fiber_sleep_ms(1);
}

static int finish(void)
{
	while (!background_over)
		fiber_sleep_ms(1);
	return background_result;
}

/* Answer the WRITE that is kept. */
static void let_write_go(void)
{
	assert(cluster->held_count == 1);
	osts.hold = 0;
	cluster->held_count = 0;
	answer_write(cluster->held[0]);
}

/* --- a restarted OST ---------------------------------------------------------------------------------------------------- */

static void lost_body(struct fake *fake)
{
	unsigned int commits;

	begin(fake);
	/* Found out by the COMMIT. */
	put_out(0, "one");
	assert(is_at(osts.bytes, 0, "one"));
	lose(0);
	assert(!is_at(osts.bytes, 0, "one"));
	assert(fsync_file() == 0 && is_at(osts.stable, 0, "one") && nothing_held());

	/* By a READ, which brings it all the same. */
	put_out(0, "two");
	put_out(8000, "end");
	lose(0);
	assert(reads(direct, 0, "two"));
	assert(fsync_file() == 0 && is_at(osts.stable, 0, "two") && is_at(osts.stable, 8000, "end"));

	/* By a WRITE elsewhere. */
	put_out(0, "three");
	lose(0);
	commits = fake->asked[OP_COMMIT];
	put(direct, 100, "x", 1);
	while (!is_at(osts.bytes, 0, "three"))
		fiber_sleep_ms(1);
	assert(fake->asked[OP_COMMIT] == commits);

	/* It concerns what that OST has, and only that. */
	put_out(STRIPE, "other");
	assert(fsync_file() == 0 && is_at(osts.stable, 0, "three") && is_at(osts.stable, STRIPE, "other"));
	put_out(0, "four");
	put_out(STRIPE, "OTHER");
	lose(1);
	assert(fsync_file() == 0 && is_at(osts.stable, 0, "four") && is_at(osts.stable, STRIPE, "OTHER"));
	assert(nothing_held());
	end();
}

START_TEST(what_an_ost_has_lost_is_sent_again)
{
	fake_run(lost_body);
}
END_TEST

/* Newer bytes for the same place are on their way: only the rest is sent again. */
static void newer_body(struct fake *fake)
{
	char got[1];

	begin(fake);
	put_out(0, "oldold");
	osts.hold = OP_WRITE;
	put_text(0, "new");
	start(flush_fiber);
	osts.hold = 0;
	lose(0);
	put(direct, 100, "x", 1);
	let_write_go();
	assert(finish() == 0);
	assert(fsync_file() == 0 && is_at(osts.stable, 0, "newold"));

	/* Or they have not set out yet. */
	put_text(0, "OLDOLD");
	put_out(8000, "end");
	lose(0);
	put_text(1, "NEW");
	assert(get(direct, 4000, got, 1) == 1);
	assert(fsync_file() == 0 && is_at(osts.stable, 0, "ONEWLD"));
	end();
}

START_TEST(what_is_sent_again_does_not_cover_what_is_newer)
{
	fake_run(newer_body);
}
END_TEST

static void write_two_fiber(void *arg)
{
	put(direct, 0, "two", 3);
	*(bool *)arg = true;
}

/* Bytes for a place that others are on their way to wait for them, so that no order of arrival brings old ones back. */
static void same_place_body(struct fake *fake)
{
	bool over = false;

	begin(fake);
	osts.hold = OP_WRITE;
	put_text(0, "one");
	put_text(8192, "elsewhere");
	put_text(16384, "elsewhere");
	start(flush_fiber);
	assert(fiber_start(fake->loop, write_two_fiber, &over) == 0);
	while (!is_at(extent_data(file->inode->data->dirty.count > 0 ? file->inode->data->dirty.items[0]
								     : file->inode->data->flight.items[0]),
		      0, "two"))
		fiber_sleep_ms(1);
	for (int i = 0; i < 20; i++)
		fiber_yield();
	assert(fake->held_count == 3 && !over); /* there are senders enough */
	osts.hold = 0;
	while (fake->held_count > 0)
		answer_write(fake->held[--fake->held_count]);
	assert(is_at(osts.bytes, 0, "one"));
	while (!over)
		fiber_sleep_ms(1);
	assert(finish() == 0 && is_at(osts.bytes, 0, "two"));
	end();
}

START_TEST(one_write_at_a_time_for_a_place)
{
	fake_run(same_place_body);
}
END_TEST

/* Many bytes at the beginning of what is empty go at once, nobody asks for it; others wait for more. */
static void first_body(struct fake *fake)
{
	static char many[100 * 1024];

	begin(fake);
	osts.hold = OP_WRITE;
	put(file, 0, many, sizeof(many));
	assert(file->inode->data->senders == 1);
	while (fake->held_count == 0)
		fiber_sleep_ms(1);
	put(file, sizeof(many), many, sizeof(many));
	assert(file->inode->data->dirty.bytes == sizeof(many));
	osts.hold = 0;
	answer_write(fake->held[--fake->held_count]);
	end();
}

START_TEST(the_first_bytes_of_a_file_go_at_once)
{
	fake_run(first_body);
}
END_TEST

static int set_times(void)
{
	struct fs_ctx ctx = root_ctx();
	struct attr attr = { .mtime_ns = 5 }, now;

	return fs_setattr(mount.fs, &ctx, 2, SETATTR_MTIME, &attr, &now);
}

/* A time that is set waits for no OST, and is the last word on what was written before, which is reported later. */
static void times_body(struct fake *fake)
{
	begin(fake);
	osts.hold = OP_WRITE;
	put_text(0, "before");
	assert(set_times() == 0);
	while (fake->held_count == 0)
		fiber_sleep_ms(1);
	osts.hold = 0;
	answer_write(fake->held[--fake->held_count]);
	assert(flush() == 0 && osts.end == 6 && osts.wrote && osts.age_ns == UINT64_MAX);
	put_text(6, "after");
	assert(flush() == 0 && osts.end == 11 && osts.age_ns < UINT64_MAX);
	put_text(11, "and");
	assert(set_times() == 0);
	put_text(14, "after");
	assert(flush() == 0 && osts.end == 19 && osts.age_ns < UINT64_MAX);

	/* It was not set: then that of the write counts. */
	osts.setattr_fails = true;
	put_text(0, "x");
	assert(set_times() == -EPERM);
	assert(flush() == 0 && osts.wrote && osts.age_ns < UINT64_MAX);
	osts.setattr_fails = false;
	end();
}

/* A report that is under way when a time is set could come after it, and is waited for. */
static void times_fiber(void *arg)
{
	*(int *)arg = set_times();
}

static void reported_body(struct fake *fake)
{
	int err = 1;

	begin(fake);
	put_text(0, "x");
	osts.hold = OP_SIZE;
	start(flush_fiber);
	memset(osts.order, 0, sizeof(osts.order));
	assert(fiber_start(fake->loop, times_fiber, &err) == 0);
	fiber_yield();
	assert(strcmp(osts.order, "") == 0);
	osts.hold = 0;
	fake->held_count = 0;
	fake_reply_attr(fake->held[0], &fake->inodes[1], osts.size_before);
	assert(finish() == 0);
	while (err == 1)
		fiber_sleep_ms(1);
	assert(err == 0 && strcmp(osts.order, "M") == 0);
	end();
}

/* What writes take from setuid bits is taken before new ones are given. */
static void privileges_body(struct fake *fake)
{
	struct fs_ctx ctx = root_ctx();
	struct attr attr = { .mode = S_IFREG | 04755 }, now;

	begin(fake);
	ctx.kill_suid = true;
	assert(fs_write(file, &ctx, 0, "x", 1, NULL) == 0);
	ctx.kill_suid = false;
	assert(fs_setattr(mount.fs, &ctx, 2, SETATTR_MODE, &attr, &now) == 0);
	assert(strcmp(osts.order, "WSM") == 0 && osts.kill_suid);
	assert(flush() == 0 && strcmp(osts.order, "WSM") == 0);
	end();
}

START_TEST(what_is_set_comes_after_what_was_written)
{
	fake_run(times_body);
	fake_run(reported_body);
	fake_run(privileges_body);
}
END_TEST

/* What is answered while a COMMIT runs is not covered by it. */
static void commit_body(struct fake *fake)
{
	begin(fake);
	put_out(0, "before");
	osts.hold = OP_COMMIT;
	start(fsync_fiber);
	osts.hold = 0;
	put(direct, 100, "meanwhile", 9);
	fake->held_count = 0;
	answer_commit(fake->held[0], 0);
	assert(finish() == 0);
	lose(0);
	assert(is_at(osts.bytes, 0, "before") && !is_at(osts.bytes, 100, "meanwhile"));
	assert(fsync_file() == 0 && is_at(osts.stable, 100, "meanwhile"));
	end();
}

START_TEST(a_commit_covers_what_was_answered_before_it)
{
	fake_run(commit_body);
}
END_TEST

/* --- cuts by others ----------------------------------------------------------------------------------------------------- */

/* What was written before it stays cut away, whatever the OST lost. */
static void cut_body(struct fake *fake)
{
	char got[8192];

	begin(fake);
	put_letters(0, 'a', 8000);
	assert(flush() == 0);
	cut_elsewhere(1, 1000, END);
	osts_cut(1, 1000, END);
	learn();
	assert(known_size() == 1000 && get(direct, 0, got, 8000) == 1000);
	lose(0);
	assert(fsync_file() == 0 && all_are(0, 1000, 'a') && all_are(1000, 8000, 0));

	/* Lost first, and dirty again when the cut comes. */
	for (unsigned int i = 0; i < 10; i++)
		put_letters(i * 8192, 'b', 100);
	assert(flush() == 0);
	lose(0);
	assert(get(direct, 20000, got, 10) == 10);
	cut_elsewhere(2, 50, END);
	osts_cut(2, 50, END);
	learn();
	assert(fsync_file() == 0 && all_are(0, 50, 'b') && all_are(50, 100000, 0));

	/* A punch takes its range only. */
	put_letters(0, 'c', 8000);
	assert(flush() == 0);
	cut_elsewhere(3, 2000, 3000);
	osts_cut(3, 2000, 3000);
	learn();
	lose(0);
	assert(fsync_file() == 0 && all_are(0, 2000, 'c') && all_are(2000, 3000, 0) && all_are(3000, 8000, 'c'));

	/* New content. */
	put_letters(0, 'd', 100);
	assert(flush() == 0);
	replace_elsewhere();
	learn();
	assert(known_size() == 0);
	lose(0);
	assert(fsync_file() == 0 && all_are(0, 8000, 0) && nothing_held());
	end();
}

START_TEST(what_others_cut_away_is_not_sent_again)
{
	fake_run(cut_body);
}
END_TEST

/* Another client's cut comes while what was lost is being sent again. heard: by the OST before the WRITE. */
static int cut_while_resent(uint64_t number, bool heard)
{
	put_letters(0, 'a', 8000);
	assert(flush() == 0);
	lose(0);
	osts.hold = OP_WRITE;
	start(fsync_fiber);
	if (number == 0)
		replace_elsewhere();
	else
		cut_elsewhere(number, 1000, END);
	if (heard)
		osts_cut(number, 1000, END);
	learn();
	let_write_go();
	return finish();
}

/* ... nor where it is being sent again when the cut is heard of. */
static void cut_in_flight_body(struct fake *fake)
{
	begin(fake);
	assert(cut_while_resent(1, true) == 0 && all_are(0, 1000, 'a') && all_are(1000, 8000, 0));
	assert(cut_while_resent(2, false) == 0 && all_are(0, 1000, 'a') && all_are(1000, 8000, 0));
	assert(cut_while_resent(4, true) == -EIO && all_are(1000, 8000, 0)); /* it has missed one */
	assert(cut_while_resent(0, false) == 0 && all_are(0, 8000, 0));
	assert(fsync_file() == 0 && nothing_held());
	end();
}

START_TEST(what_is_sent_again_while_it_is_cut_stays_cut)
{
	fake_run(cut_in_flight_body);
}
END_TEST

/* What was never answered may be newer than the cut: it is written, also over what is older and goes. */
static void newer_than_cut_body(struct fake *fake)
{
	char got[8];

	begin(fake);
	put_letters(0, 'a', 8000);
	assert(flush() == 0);
	put_letters(20000, 'n', 3);
	cut_elsewhere(1, 1000, END);
	osts_cut(1, 1000, END);
	learn();
	assert(known_size() == 20003);
	assert(flush() == 0 && all_are(20000, 20003, 'n') && osts.end == 20003 && all_are(1000, 20000, 0));

	/* Written and not reported: the MDT did not know of it when it cut. */
	put_letters(0, 'b', 8000);
	assert(data_write_out(file->inode, &(struct fs_ctx){ .trusted = true }) == 0);
	cut_elsewhere(2, 1000, END);
	osts_cut(2, 1000, END);
	learn();
	assert(known_size() == 1000);
	assert(flush() == 0 && osts.end == 1000);

	put_letters(0, 'a', 8000);
	put_text(100000, "end");
	assert(flush() == 0);
	lose(0);
	assert(get(direct, 50000, got, 1) == 1); /* dirty again */
	put_letters(2000, 'b', 100);
	cut_elsewhere(3, 1000, END);
	osts_cut(3, 1000, END);
	learn();
	assert(flush() == 0 && all_are(0, 1000, 'a') && all_are(1000, 2000, 0) && all_are(2000, 2100, 'b'));
	assert(all_are(2100, 8000, 0));
	end();
}

START_TEST(what_was_not_answered_is_newer_than_a_cut)
{
	fake_run(newer_than_cut_body);
}
END_TEST

/* Of several cuts only the last is told: what the others took is not known, and an error better than its return. */
static void doubt_body(struct fake *fake)
{
	begin(fake);
	put_out(0, "doubtful");
	cut_elsewhere(2, 50000, 60000);
	osts_cut(2, 50000, 60000);
	learn();
	lose(0);
	assert(fsync_file() == -EIO && all_are(0, 100, 0));
	assert(fsync_file() == 0 && nothing_held());
	/* Had it not been lost, nobody would have noticed. */
	put_out(0, "doubtful");
	cut_elsewhere(4, 50000, 60000);
	osts_cut(4, 50000, 60000);
	learn();
	assert(fsync_file() == 0 && is_at(osts.stable, 0, "doubtful"));
	end();
}

START_TEST(what_cuts_unheard_of_may_have_taken_is_an_error)
{
	fake_run(doubt_body);
}
END_TEST

/* An answer counts only for the gen and cut that are still in force. */
static void stale_body(struct fake *fake)
{
	unsigned int writes;

	begin(fake);
	/* The OST knows of it before the client does. */
	cut_elsewhere(1, 50000, 60000);
	osts_cut(1, 50000, 60000);
	put_out(0, "one");
	assert(strcmp(osts.order, "WWS") == 0 && is_at(osts.bytes, 0, "one"));

	/* The other way round: this OST may cut it away yet. */
	osts.hold = OP_WRITE;
	put_text(0, "two");
	start(flush_fiber);
	cut_elsewhere(2, 0, 100);
	learn();
	let_write_go();
	assert(finish() == 0 && osts.cut == 2 && is_at(osts.bytes, 0, "two"));

	/* Replaced: it was written before. */
	osts.hold = OP_WRITE;
	put_text(0, "three");
	start(flush_fiber);
	writes = fake->asked[OP_WRITE];
	replace_elsewhere();
	learn();
	osts.swallow = true;
	let_write_go();
	assert(finish() == 0 && fsync_file() == 0 && nothing_held());
	assert(fake->asked[OP_WRITE] == writes && all_are(0, 100, 0));
	end();
}

START_TEST(an_answer_counts_only_for_the_gen_and_cut_in_force)
{
	fake_run(stale_body);
}
END_TEST

/* --- others write ------------------------------------------------------------------------------------------------------- */

/* What they have written since is newer than what an OST may have lost: that is not sent again over it. */
static void shared_body(struct fake *fake)
{
	unsigned int writes;

	begin(fake);
	/* It has lost nothing: there is nothing to send. */
	put_out(0, "ours ours");
	write_elsewhere(100, "theirs");
	osts.instance[0]++;
	writes = fake->asked[OP_WRITE];
	assert(fsync_file() == 0 && fake->asked[OP_WRITE] == writes && nothing_held());
	assert(is_at(osts.stable, 0, "ours ours") && is_at(osts.stable, 100, "theirs"));

	/* It has what they wrote over ours, and nobody can tell what else it has lost. */
	put_out(0, "OURS OURS");
	write_elsewhere(0, "THEIRS");
	osts.instance[0]++;
	assert(fsync_file() == -EIO && fsync_file() == 0 && nothing_held());
	assert(is_at(osts.bytes, 0, "THEIRSURS"));

	/* They have it open for writing, and may have written what they have not told of. */
	put_out(200, "again");
	fake->inodes[1].unsure = true;
	fake->inodes[1].version = ++fake->version;
	memcpy(osts.bytes + 200, "THEIR", 5);
	osts.instance[0]++;
	assert(fsync_file() == -EIO && is_at(osts.bytes, 200, "THEIR"));

	/* When nothing is held any more it begins anew. */
	fake->inodes[1].unsure = false;
	fake_changed(fake, &fake->inodes[1]);
	learn();
	put_out(300, "alone");
	lose(0);
	assert(fsync_file() == 0 && is_at(osts.stable, 300, "alone"));
	end();
}

START_TEST(what_others_have_written_since_is_not_covered)
{
	fake_run(shared_body);
}
END_TEST

static bool read_over;

static void read_fiber(void *arg)
{
	(void)arg;
	assert(reads(direct, 0, "first"));
	read_over = true;
}

/* What the MDT shows may be of our own making, though we have not been told so yet. */
static void overtaken_body(struct fake *fake)
{
	unsigned int asked;

	begin(fake);
	put_out(0, "first");
	put_text(100, "second");
	osts.hold = OP_SIZE;
	start(flush_fiber);
	learn();
	lose(0);
	asked = fake->asked[OP_GETATTR];
	read_over = false;
	assert(fiber_start(fake->loop, read_fiber, NULL) == 0);
	while (fake->asked[OP_GETATTR] == asked)
		fiber_sleep_ms(1);
	osts.hold = 0;
	fake->held_count = 0;
	fake_reply_attr(fake->held[0], &fake->inodes[1], osts.size_before);
	assert(finish() == 0);
	while (!read_over)
		fiber_sleep_ms(1);
	assert(fsync_file() == 0 && is_at(osts.stable, 0, "first") && is_at(osts.stable, 100, "second"));
	end();
}

START_TEST(an_own_change_that_is_seen_before_its_answer_is_not_others)
{
	fake_run(overtaken_body);
}
END_TEST

/* --- errors ------------------------------------------------------------------------------------------------------------- */

/* What an OST refuses is told by the next close or fsync of each handle, once, and does not come later. */
static void refused_body(struct fake *fake)
{
	struct fs_ctx ctx = root_ctx();
	struct fs_stats stats;

	begin(fake);
	osts.refuse = -ENOSPC;
	put_text(0, "x");
	assert(flush() == -ENOSPC && flush() == 0);
	osts.refuse = -EIO;
	put_text(0, "y");
	assert(fsync_file() == -EIO && fsync_file() == 0);
	osts.refuse = 0;
	assert(fs_flush(direct, &ctx) == -EIO && fs_flush(direct, &ctx) == 0);
	fs_stats(mount.fs, &stats);
	assert(stats.bytes_lost == 2 && nothing_held() && all_are(0, 10, 0));
	end();
}

START_TEST(what_an_ost_refuses_is_told_once)
{
	fake_run(refused_body);
}
END_TEST

/* An OST has met a cut that the MDT does not know of, as it goes on from an older copy of its state. */
static void unknown_cut_body(struct fake *fake)
{
	struct fs_stats stats;

	begin(fake);
	osts.cut = 3;
	put_text(0, "x");
	assert(flush() == -EIO && flush() == 0);
	fs_stats(mount.fs, &stats);
	assert(stats.bytes_lost == 1 && nothing_held() && all_are(0, 10, 0));
	/* The next one is above all. */
	cut_elsewhere(4, 4096, 8192);
	put_out(0, "y");
	assert(is_at(osts.bytes, 0, "y") && osts.cut == 4);
	end();
}

START_TEST(what_is_too_old_for_ever_is_an_error)
{
	fake_run(unknown_cut_body);
}
END_TEST

/* What was answered in a session that was lost is not sent in the next one, though the OST forgets it. */
static void session_body(struct fake *fake)
{
	unsigned int writes;

	begin(fake);
	put_out(0, "early");
	fake->session += 100;
	learn();
	lose(0);
	writes = fake->asked[OP_WRITE];
	assert(fsync_file() == -EIO && fsync_file() == 0 && nothing_held());
	assert(fake->asked[OP_WRITE] == writes && all_are(0, 10, 0));
	end();
}

START_TEST(a_lost_session_takes_what_was_answered)
{
	fake_run(session_body);
}
END_TEST

/* --- the caller's pages ------------------------------------------------------------------------------------------------- */

static struct {
	uint64_t offset, size;
	unsigned int parts, all;
	bool held; /* a page is not let go of */
} drops;

static void drop_pages(void *owner, uint64_t ino, uint64_t offset, uint64_t size)
{
	assert(owner == &drops && ino == 2);
	drops.offset = offset;
	drops.size = size;
	if (size > 0) {
		drops.parts++;
		return;
	}
	while (drops.held)
		fiber_sleep_ms(1);
	drops.all++;
}

static void read_page(void)
{
	struct fs_ctx ctx = root_ctx();
	struct read_result result;
	char page[4096];

	ctx.paged = true;
	assert(fs_read(file, &ctx, 0, sizeof(page), page, &result) == 0);
	read_release(&result);
}

/* What is in the way of a write past the pages has gone when it is answered. */
static void pass_pages(unsigned int times)
{
	for (unsigned int i = 0; i < times; i++) {
		unsigned int parts = drops.parts;

		put(direct, 100 + i, "yy", 2);
		assert(drops.parts == parts + 1 && drops.offset == 100 + i && drops.size == 2);
	}
}

static bool pages_are_used(void)
{
	bool used;

	pthread_mutex_lock(&file->inode->lock);
	used = file->inode->pages_used > 0;
	pthread_mutex_unlock(&file->inode->lock);
	return used;
}

static void passed_body(struct fake *fake)
{
	begin(fake);
	memset(&drops, 0, sizeof(drops));
	mount.fs->config.drop_pages = drop_pages;
	mount.fs->config.owner = &drops;
	put(direct, 0, "x", 1); /* nobody has any */
	assert(drops.parts == 0);

	/* All of them go in the end, and nobody waits for that. */
	for (unsigned int round = 1; round <= 2; round++) {
		read_page();
		pass_pages(PAGES_PASSED_MAX - 1);
		assert(drops.all == round - 1);
		drops.held = true;
		pass_pages(PAGES_PASSED_MAX);
		drops.held = false;
		while (pages_are_used())
			fiber_sleep_ms(1);
		assert(drops.all == round);
		drops.parts = 0;
		put(direct, 0, "x", 1);
		assert(drops.parts == 0);
	}

	/* Who reads meanwhile has some again. */
	read_page();
	drops.held = true;
	pass_pages(PAGES_PASSED_MAX);
	read_page();
	pass_pages(2 * PAGES_PASSED_MAX);
	drops.held = false;
	while (drops.all == 2)
		fiber_sleep_ms(1);
	pass_pages(1);
	end();
}

START_TEST(pages_that_direct_io_has_passed_are_dropped_while_they_are_used)
{
	fake_run(passed_body);
}
END_TEST

/* --- what is promised when ---------------------------------------------------------------------------------------------- */

static void order_body(struct fake *fake)
{
	struct fs_ctx ctx = root_ctx();
	struct file *sync;

	begin(fake);
	put_text(0, "x");
	assert(fsync_file() == 0 && strcmp(osts.order, "WCTL") == 0);
	memset(osts.order, 0, sizeof(osts.order));
	put_text(0, "x");
	assert(flush() == 0 && strcmp(osts.order, "WS") == 0);
	memset(osts.order, 0, sizeof(osts.order));
	put(direct, 0, "x", 1);
	assert(strcmp(osts.order, "W") == 0);
	assert(fs_flush(direct, &ctx) == 0);
	memset(osts.order, 0, sizeof(osts.order));
	sync = open_file(O_RDWR | O_DSYNC);
	put(sync, 0, "x", 1);
	assert(strcmp(osts.order, "WCTL") == 0);
	fs_release(sync);

	/* sync(2) of all. */
	memset(osts.order, 0, sizeof(osts.order));
	put_text(STRIPE, "x");
	assert(fs_sync(mount.fs, &ctx) == 0 && strcmp(osts.order, "WSCL") == 0);
	end();
}

START_TEST(fsync_is_write_commit_size_and_log)
{
	fake_run(order_body);
}
END_TEST

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

/* --- copying ------------------------------------------------------------------------------------------------------------ */

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

START_TEST(the_osts_copy_by_themselves)
{
	fake_run(copy_body);
	fake_run(copy_elsewhere_body);
	fake_run(copy_order_body);
	fake_run(copy_killed_body);
}
END_TEST

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

static bool see_attr(void *arg, const struct dir_entry *entry)
{
	if (entry->ino == 2)
		*(bool *)arg = entry->attr != NULL;
	return true;
}

/* Does a listing give the file's attributes? */
static bool listed_with_attr(void)
{
	struct fs_ctx ctx = root_ctx();
	bool with = false;

	assert(fs_readdir(mount.fs, &ctx, 1, 0, true, see_attr, &with) == 0);
	return with;
}

static void report_body(struct fake *fake)
{
	struct fs_ctx ctx = root_ctx(), writer = { .uid = 1, .kill_suid = true };

	begin(fake);
	/* What is dirty yet is the next report's business. */
	put_text(0, "12345");
	assert(data_write_out(file->inode, &ctx) == 0);
	assert(!listed_with_attr()); /* not as the MDT knows them */
	put_text(8192, "more");
	assert(data_report_size(file->inode, &ctx, false) == 0 && osts.end == 5);
	assert(flush() == 0 && osts.end == 8196 && !osts.kill_suid && listed_with_attr());

	/* Blocks are what the OSTs told since the last one; the time is the write's, not the report's. */
	put_letters(0, 'x', 8192);
	assert(data_write_out(file->inode, &ctx) == 0);
	fiber_sleep_ms(20);
	assert(flush() == 0 && osts.grown == 8 && osts.age_ns >= 20 * NSEC_PER_MSEC);
	put_letters(0, 'x', 8192);
	assert(data_write_out(file->inode, &ctx) == 0);
	put_letters(0, 'x', 8192);
	assert(flush() == 0 && osts.grown == 16 && !osts.exact);

	assert(fs_write(file, &writer, 0, "x", 1, NULL) == 0);
	assert(flush() == 0 && osts.kill_suid);
	put_text(0, "x");
	assert(flush() == 0 && !osts.kill_suid);
	end();
}

/* What an OST has grown by may be of WRITEs that it has not answered: it is told when these are. */
static void blocks_body(struct fake *fake)
{
	struct fs_ctx ctx = root_ctx();
	const struct inode_data *data;

	begin(fake);
	osts.hold = OP_WRITE;
	for (uint64_t at = 0; at < ROOM; at += 8192)
		put_letters(at, 'x', 8192);
	data = file->inode->data;
	start(flush_fiber);
	while (fake->held_count < 2)
		fiber_sleep_ms(1);
	osts.hold = 0;
	answer_write(fake->held[--fake->held_count]);
	while (data->dirty.count > 0 || data->flight.count > fake->held_count)
		fiber_sleep_ms(1);
	assert(data_report_size(file->inode, &ctx, false) == 0 && osts.end > 0 && osts.grown == 0);
	while (fake->held_count > 0)
		answer_write(fake->held[--fake->held_count]);
	assert(finish() == 0 && osts.grown == ROOM / EXTENT_BLOCK * 8);
	end();
}

/* Closed without a flush: the MDT hears of the size before it hears that nobody writes. */
static void close_body(struct fake *fake)
{
	begin(fake);
	fs_release(direct);
	direct = NULL;
	put_text(0, "x");
	fs_release(file);
	file = NULL;
	while (fake->asked[OP_CLOSE] == 0)
		fiber_sleep_ms(5);
	assert(strcmp(osts.order, "WSX") == 0);
	end();
}

START_TEST(a_report_tells_what_is_on_the_osts)
{
	fake_run(report_body);
	fake_run(blocks_body);
	fake_run(close_body);
}
END_TEST

/* Nobody asks for it: it goes out, is reported and committed all the same. */
static void flusher_body(struct fake *fake)
{
	begin(fake);
	put_text(0, "x");
	while (osts.end != 1)
		fiber_sleep_ms(5);
	while (!nothing_held())
		fiber_sleep_ms(5);
	assert(is_at(osts.stable, 0, "x"));
	put_text(0, "y");
	end();
	assert(is_at(osts.stable, 0, "y"));
}

START_TEST(nothing_is_held_for_long)
{
	fake_run(flusher_body);
}
END_TEST

static bool writer_over;

static void many_writes(void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < 300; i++)
		put_letters(i * 8192, (char)i, 8192);
	writer_over = true;
}

/* With OSTs that commit nothing, writers wait. */
static void memory_body(struct fake *fake)
{
	const uint64_t bound = (1 << 20) / 4 * 3;
	struct fs_stats stats;
	uint64_t most = 0;

	begin_with(fake, 1 << 20);
	osts.hold = OP_COMMIT;
	assert(fiber_start(fake->loop, many_writes, NULL) == 0);
	while (fake->held_count == 0)
		fiber_sleep_ms(1);
	for (int i = 0; i < 20; i++)
		fiber_sleep_ms(5);
	fs_stats(mount.fs, &stats);
	assert(!writer_over && stats.bytes_held <= bound);
	osts.hold = 0;
	fake->held_count = 0;
	answer_commit(fake->held[0], 0);
	while (!writer_over) {
		fs_stats(mount.fs, &stats);
		most = stats.bytes_held > most ? stats.bytes_held : most;
		fiber_sleep_ms(1);
	}
	assert(most <= bound);
	assert(fsync_file() == 0 && nothing_held());
	for (unsigned int i = 0; i < 300; i++)
		assert(all_are(i * 8192, (i + 1) * 8192, (uint8_t)i));
	/* Bytes over bytes that are dirty yet take no more. */
	put_letters(0, 'x', 8192);
	put_letters(100, 'y', 8000);
	assert(fsync_file() == 0 && nothing_held());
	end();
}

static void large_writes(void *arg)
{
	static char block[512 * 1024];

	(void)arg;
	for (unsigned int i = 0; i < 40; i++)
		put(file, i * sizeof(block), block, sizeof(block));
	writer_over = true;
}

/* One file does not take it all: with OSTs that do not answer, its writers wait for them. */
static void dirty_body(struct fake *fake)
{
	begin(fake);
	writer_over = false;
	osts.hold = OP_WRITE;
	assert(fiber_start(fake->loop, large_writes, NULL) == 0);
	while (fake->held_count < DATA_SENDERS_MAX)
		fiber_sleep_ms(1);
	for (int i = 0; i < 20; i++)
		fiber_sleep_ms(5);
	assert(!writer_over && file->inode->data->dirty.bytes <= DATA_DIRTY_MAX + 512 * 1024);
	osts.hold = 0;
	osts.swallow = true;
	while (fake->held_count > 0)
		answer_write(fake->held[--fake->held_count]);
	while (!writer_over)
		fiber_sleep_ms(1);
	assert(fsync_file() == 0 && nothing_held());
	end();
}

START_TEST(writers_wait_for_memory)
{
	fake_run(memory_body);
	fake_run(dirty_body);
}
END_TEST

/* --- reading ------------------------------------------------------------------------------------------------------------ */

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

UNIT_MAIN("client_data", what_an_ost_has_lost_is_sent_again, what_is_sent_again_does_not_cover_what_is_newer,
	  one_write_at_a_time_for_a_place, the_first_bytes_of_a_file_go_at_once,
	  what_is_set_comes_after_what_was_written, a_commit_covers_what_was_answered_before_it,
	  what_others_cut_away_is_not_sent_again, what_is_sent_again_while_it_is_cut_stays_cut,
	  what_was_not_answered_is_newer_than_a_cut, what_cuts_unheard_of_may_have_taken_is_an_error,
	  an_answer_counts_only_for_the_gen_and_cut_in_force, what_others_have_written_since_is_not_covered,
	  an_own_change_that_is_seen_before_its_answer_is_not_others, what_an_ost_refuses_is_told_once,
	  what_is_too_old_for_ever_is_an_error, a_lost_session_takes_what_was_answered,
	  pages_that_direct_io_has_passed_are_dropped_while_they_are_used, fsync_is_write_commit_size_and_log,
	  a_punch_takes_what_was_written_before_it, room_is_asked_for_before_it_is_taken,
	  data_and_holes_are_found_in_few_requests, the_osts_copy_by_themselves, a_report_tells_what_is_on_the_osts,
	  nothing_is_held_for_long, writers_wait_for_memory, what_is_read_is_whole, read_ahead_never_gives_old_bytes,
	  broken_read_ahead_is_not_given, read_ahead_is_bounded)
