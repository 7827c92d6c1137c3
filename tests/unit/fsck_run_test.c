/*
 * A whole run of fsck against servers that are made up, so that what changes between two of their answers is the test's
 * choice: no change makes a finding, every damage makes one, and answers that make no sense are refused.
 */
#include "client/fsck/fsck.h"
#include "tests/unit/client_fake.h"

#include "proto/fsck.pb-c.h"

#include <inttypes.h>

#define STRIPE 65536u
#define MAX    32
#define PIECE  2 /* rows in one answer */

/* --- the world -------------------------------------------------------------------------------------------------------- */

struct entry {
	uint64_t parent, ino;
	char name[16];
	uint8_t type;
};

struct row {
	uint64_t ino, gen, seq, value;
	uint32_t kind;
};

static struct world {
	struct fsck_inode inodes[MAX];
	size_t inode_count;
	struct entry entries[MAX]; /* by parent, then name */
	size_t entry_count;
	struct row rows[FAKE_OSTS][MAX];
	size_t row_count[FAKE_OSTS];
	uint64_t instance, fresh;

	/* Before an answer: what happens now? `number`: 0 for a piece of all, else which one inode is asked for. */
	void (*happens)(uint16_t opcode, uint64_t number);
	unsigned int times; /* it has happened */

	/* Spoil an answer. */
	void (*spoil_entries)(Strake__FsckEntriesReply *reply);
	void (*spoil_inodes)(Strake__FsckInodesReply *reply);
	void (*spoil_rows)(Strake__FsckObjectsReply *reply);
	int ost_error; /* of the second OST, to everything */
} world;

static struct fsck_inode *inode_of(uint64_t ino)
{
	for (size_t i = 0; i < world.inode_count; i++) {
		if (world.inodes[i].ino == ino)
			return &world.inodes[i];
	}
	return NULL;
}

/* A record is applied, which changes these. */
static void changed(uint64_t a, uint64_t b)
{
	fake_log_index++;
	if (inode_of(a))
		inode_of(a)->version = fake_log_index;
	if (inode_of(b))
		inode_of(b)->version = fake_log_index;
}

static void remove_inode(uint64_t ino)
{
	struct fsck_inode *inode = inode_of(ino);
	size_t at = (size_t)(inode - world.inodes);

	memmove(inode, inode + 1, (world.inode_count - at - 1) * sizeof(*inode));
	world.inode_count--;
	fake_log_index++;
}

static bool entry_is_before(const struct entry *a, const struct entry *b)
{
	return a->parent != b->parent ? a->parent < b->parent : strcmp(a->name, b->name) < 0;
}

static void add_entry(uint64_t parent, const char *name, uint64_t ino, uint32_t mode)
{
	struct entry entry = { .parent = parent, .ino = ino, .type = (uint8_t)((mode & S_IFMT) >> 12) };
	size_t at = 0;

	snprintf(entry.name, sizeof(entry.name), "%s", name);
	while (at < world.entry_count && entry_is_before(&world.entries[at], &entry))
		at++;
	memmove(&world.entries[at + 1], &world.entries[at], (world.entry_count - at) * sizeof(entry));
	world.entries[at] = entry;
	world.entry_count++;
}

static void remove_entry(uint64_t parent, const char *name)
{
	size_t at = 0;

	while (world.entries[at].parent != parent || strcmp(world.entries[at].name, name) != 0)
		assert(++at < world.entry_count);
	world.entry_count--;
	memmove(&world.entries[at], &world.entries[at + 1], (world.entry_count - at) * sizeof(world.entries[0]));
}

static void move(uint64_t ino, uint64_t from, const char *name, uint64_t to, const char *new_name)
{
	remove_entry(from, name);
	add_entry(to, new_name, ino, inode_of(ino)->mode);
	inode_of(from)->entries--;
	inode_of(to)->entries++;
	changed(from, to);
	changed(ino, 0);
}

static struct fsck_inode *add_inode(uint64_t ino, uint32_t mode, uint32_t nlink)
{
	struct fsck_inode *inode = &world.inodes[world.inode_count++];

	fsck_inode_init(inode, ino);
	inode->exists = true;
	inode->gen = ino;
	inode->mode = mode;
	inode->nlink = nlink;
	inode->version = 1;
	inode->layout.stripe_size = STRIPE;
	return inode;
}

static void add_file(uint64_t ino, uint64_t parent, const char *name)
{
	struct fsck_inode *inode = add_inode(ino, S_IFREG | 0644, 1);

	inode->size = STRIPE;
	inode->layout.stripe_count = inode->layout.ost_count = 1;
	inode->layout.ost_indices[0] = (uint16_t)(ino % FAKE_OSTS);
	add_entry(parent, name, ino, S_IFREG);
	world.rows[ino % FAKE_OSTS][world.row_count[ino % FAKE_OSTS]++] =
		(struct row){ .ino = ino, .gen = ino, .value = STRIPE, .kind = STRAKE__FSCK_ROW__FSCK_ROW_OBJECT };
}

static struct row *object_of(uint64_t ino)
{
	for (size_t i = 0; i < world.row_count[ino % FAKE_OSTS]; i++) {
		if (world.rows[ino % FAKE_OSTS][i].ino == ino)
			return &world.rows[ino % FAKE_OSTS][i];
	}
	return NULL;
}

/* Directories 1, 10 and 20; files 30 to 33 in 10, 34 to 37 in 20, each with an object. */
static void make_world(void)
{
	struct fsck_inode *inode;
	char name[16];

	memset(&world, 0, sizeof(world));
	world.instance = 1;
	world.fresh = 1000;
	fake_log_index = 100;
	inode = add_inode(1, S_IFDIR | 0755, 4);
	inode->parent = 1;
	inode->entries = 2;
	for (uint64_t dir = 10; dir <= 20; dir += 10) {
		inode = add_inode(dir, S_IFDIR | 0755, 2);
		inode->parent = 1;
		inode->entries = 4;
		snprintf(name, sizeof(name), "d%u", (unsigned int)dir);
		add_entry(1, name, dir, S_IFDIR);
	}
	for (uint64_t ino = 30; ino < 38; ino++) {
		snprintf(name, sizeof(name), "f%u", (unsigned int)ino);
		add_file(ino, ino < 34 ? 10 : 20, name);
	}
}

/* --- the servers ------------------------------------------------------------------------------------------------------ */

static void happen(uint16_t opcode, uint64_t number)
{
	if (world.happens)
		world.happens(opcode, number);
}

/* An entry's position in the list: of all, bytewise as they stand. */
struct position {
	char parent[16], name[16];
};

static struct position position_of(const struct entry *entry)
{
	struct position position;
	char digits[sizeof(position.parent) + 1];

	snprintf(digits, sizeof(digits), "%016" PRIx64, entry->parent);
	memcpy(position.parent, digits, sizeof(position.parent));
	memcpy(position.name, entry->name, sizeof(position.name));
	return position;
}

static bool is_not_behind(const struct position *last, const struct entry *entry)
{
	struct position position = position_of(entry);

	return memcmp(&position, last, sizeof(position)) <= 0;
}

static void answer_entries(struct request *request)
{
	const Strake__FsckEntriesRequest *asked = (const Strake__FsckEntriesRequest *)request->body;
	Strake__FsckEntriesReply reply = STRAKE__FSCK_ENTRIES_REPLY__INIT;
	uint64_t parent[MAX], ino[MAX];
	uint32_t type[MAX], misplaced[MAX];
	ProtobufCBinaryData name[MAX];
	struct position last = { .name = "" };
	size_t at = 0;

	happen(OP_FSCK_ENTRIES, 0);
	if (asked->has_after) {
		assert(asked->after.len == sizeof(last));
		memcpy(&last, asked->after.data, sizeof(last));
		while (at < world.entry_count && is_not_behind(&last, &world.entries[at]))
			at++;
	}
	reply.parent = parent;
	reply.ino = ino;
	reply.type = type;
	reply.name = name;
	reply.misplaced = misplaced;
	for (; at < world.entry_count && reply.n_parent < PIECE; at++) {
		size_t i = reply.n_parent++;

		last = position_of(&world.entries[at]);
		parent[i] = world.entries[at].parent;
		ino[i] = world.entries[at].ino;
		type[i] = world.entries[at].type;
		name[i] = (ProtobufCBinaryData){ .data = (uint8_t *)world.entries[at].name,
						 .len = strlen(world.entries[at].name) };
	}
	reply.n_ino = reply.n_type = reply.n_parent;
	reply.n_name = asked->names ? reply.n_parent : 0;
	reply.instance = world.instance;
	reply.fresh = world.fresh;
	reply.has_after = at < world.entry_count;
	reply.after = (ProtobufCBinaryData){ .data = (uint8_t *)&last, .len = sizeof(last) };
	if (world.spoil_entries)
		world.spoil_entries(&reply);
	fake_reply(request, &reply.base);
}

struct inode_room {
	Strake__FsckInode row;
	Strake__Layout layout;
	uint32_t osts[LAYOUT_STRIPES_MAX + 1];
};

static void fill_row(const struct fsck_inode *inode, struct inode_room *out)
{
	strake__fsck_inode__init(&out->row);
	strake__layout__init(&out->layout);
	out->row.ino = inode->ino;
	out->row.has_mode = out->row.has_gen = out->row.has_nlink = out->row.has_size = out->row.has_version = 1;
	out->row.has_parent = out->row.has_entries = out->row.has_size_unsure = 1;
	out->row.mode = inode->mode;
	out->row.gen = inode->gen;
	out->row.nlink = inode->nlink;
	out->row.size = inode->size;
	out->row.version = inode->version;
	out->row.parent = inode->parent;
	out->row.entries = inode->entries;
	out->row.size_unsure = inode->size_unsure;
	out->layout.stripe_size = inode->layout.stripe_size;
	out->layout.stripe_count = inode->layout.stripe_count;
	out->layout.n_ost_indices = inode->layout.ost_count;
	out->layout.ost_indices = out->osts;
	for (uint32_t i = 0; i < inode->layout.ost_count; i++)
		out->osts[i] = inode->layout.ost_indices[i];
	out->row.layout = &out->layout;
}

static void count_entries(uint64_t ino, Strake__FsckInode *row)
{
	row->has_counted_entries = row->has_counted_subdirs = 1;
	for (size_t i = 0; i < world.entry_count; i++) {
		row->counted_entries += world.entries[i].parent == ino;
		row->counted_subdirs += world.entries[i].parent == ino && world.entries[i].type == FSCK_TYPE_DIR;
	}
}

static void answer_inodes(struct request *request)
{
	const Strake__FsckInodesRequest *asked = (const Strake__FsckInodesRequest *)request->body;
	Strake__FsckInodesReply reply = STRAKE__FSCK_INODES_REPLY__INIT;
	static struct inode_room room[PIECE + 1];
	Strake__FsckInode *list[PIECE + 1];

	happen(OP_FSCK_INODES, asked->to - asked->from == 1 ? asked->from : 0);
	reply.inode = list;
	reply.next = asked->to;
	for (size_t i = 0; i < world.inode_count; i++) {
		const struct fsck_inode *inode = &world.inodes[i];

		if (inode->ino < asked->from || inode->ino >= asked->to)
			continue;
		if (reply.n_inode == PIECE) {
			reply.next = world.inodes[i - 1].ino + 1;
			break;
		}
		fill_row(inode, &room[reply.n_inode]);
		list[reply.n_inode] = &room[reply.n_inode].row;
		reply.n_inode++;
	}
	if (asked->count && reply.n_inode == 0) {
		strake__fsck_inode__init(&room[0].row);
		room[0].row.ino = asked->from;
		list[reply.n_inode++] = &room[0].row;
	}
	if (asked->count)
		count_entries(asked->from, list[0]);
	reply.instance = world.instance;
	reply.inodes = world.inode_count;
	if (world.spoil_inodes)
		world.spoil_inodes(&reply);
	fake_reply(request, &reply.base);
}

static uint64_t place_of(const struct row *row)
{
	return row->kind >= STRAKE__FSCK_ROW__FSCK_ROW_OBJECT ? row->seq + 1 : 0;
}

static void answer_rows(struct request *request, unsigned int ost)
{
	const Strake__FsckObjectsRequest *asked = (const Strake__FsckObjectsRequest *)request->body;
	Strake__FsckObjectsReply reply = STRAKE__FSCK_OBJECTS_REPLY__INIT;
	uint32_t kind[MAX];
	uint64_t ino[MAX], gen[MAX], seq[MAX], value[MAX];

	happen(OP_FSCK_OBJECTS, asked->to == UINT64_MAX ? 0 : asked->ino);
	reply.row = kind;
	reply.ino = ino;
	reply.gen = gen;
	reply.seq = seq;
	reply.value = value;
	for (size_t at = 0; at < world.row_count[ost]; at++) {
		const struct row *row = &world.rows[ost][at];
		size_t i = reply.n_row;

		if (row->ino < asked->ino || row->ino >= asked->to ||
		    (row->ino == asked->ino &&
		     (row->gen < asked->gen || (row->gen == asked->gen && place_of(row) < asked->place))))
			continue;
		if (reply.n_row == PIECE) {
			reply.more = true;
			break;
		}
		kind[i] = row->kind;
		ino[i] = row->ino;
		gen[i] = row->gen;
		seq[i] = row->seq;
		value[i] = row->value;
		reply.n_row++;
		reply.has_next_ino = reply.has_next_gen = reply.has_next_place = 1;
		reply.next_ino = row->ino;
		reply.next_gen = row->gen;
		reply.next_place = place_of(row) + 1;
	}
	reply.n_ino = reply.n_gen = reply.n_seq = reply.n_value = reply.n_row;
	if (world.spoil_rows)
		world.spoil_rows(&reply);
	fake_reply(request, &reply.base);
}

static bool answer(struct fake *fake, struct request *request)
{
	Strake__FsckFilesReply files = STRAKE__FSCK_FILES_REPLY__INIT;
	uint16_t opcode = request->header.opcode;

	if (opcode >= OP_READ && world.ost_error && fake->ost == 1) {
		service_reply_error(request, world.ost_error);
		return true;
	}
	switch (opcode) {
	case OP_FSCK_ENTRIES:
		answer_entries(request);
		return true;
	case OP_FSCK_INODES:
		answer_inodes(request);
		return true;
	case OP_FSCK_OBJECTS:
		answer_rows(request, fake->ost);
		return true;
	case OP_FSCK_FILES:
		fake_reply(request, &files.base);
		return true;
	default:
		return false;
	}
}

/* --- a run ------------------------------------------------------------------------------------------------------------ */

static struct told {
	unsigned int counts[FSCK_KINDS], all, notes;
	uint64_t ino; /* of the last */
	char text[FSCK_TEXT_SIZE], note[512];
} told;

static void found(void *arg, const struct fsck_finding *finding)
{
	(void)arg;
	told.counts[finding->kind]++;
	told.all++;
	told.ino = finding->ino;
	memcpy(told.text, finding->text, sizeof(told.text));
}

static void noted(void *arg, const char *text)
{
	(void)arg;
	told.notes++;
	snprintf(told.note, sizeof(told.note), "%s", text);
}

static struct fsck_result result;
static char error[512];

/* Also of a busy machine; but who is away is waited for as long. */
#define PATIENCE_MS      60000
#define PATIENCE_AWAY_MS 3000
static unsigned int patience_ms = PATIENCE_MS;

static int run(struct fake *fake)
{
	struct fs_config config;
	struct fsck_options options = {
		.key = &fake->key, .patience_ms = patience_ms, .memory = 100, .found = found, .note = noted
	};
	int err;

	fake_config(fake, &config);
	options.mgs = &config.mgs;
	fake->hook = answer;
	memset(&told, 0, sizeof(told));
	fsck_result_release(&result);
	world.times = 0;
	err = fsck_run(fake->loop, &options, &result, error, sizeof(error));
	fiber_sleep_ms(1);
	return err;
}

static void expect_clean(struct fake *fake)
{
	int err = run(fake);

	if (err < 0 || told.all > 0 || !fsck_is_complete(&result))
		fprintf(stderr, "%d, %u found: %s; %s; %s\n", err, told.all, told.text, told.note, error);
	assert(err == 0 && told.all == 0 && fsck_is_complete(&result));
}

/* Exactly this, once. */
static void expect(struct fake *fake, enum fsck_kind kind, uint64_t ino)
{
	int err = run(fake);

	if (err < 0 || told.all != 1 || told.counts[kind] != 1 || told.ino != ino)
		fprintf(stderr, "%d, %u found: %s\n", err, told.all, told.text);
	assert(err == 0 && told.all == 1 && told.counts[kind] == 1 && told.ino == ino);
	assert(result.findings == 1 && fsck_is_complete(&result));
}

/* --- what does not change --------------------------------------------------------------------------------------------- */

static void still(struct fake *fake)
{
	make_world();
	expect_clean(fake);
	assert(result.totals.inodes == 11 && result.entries == 10 && result.totals.objects == 8 &&
	       result.ost_count == 2);

	inode_of(31)->nlink = 2;
	expect(fake, FSCK_LINKS, 31);
	make_world();
	remove_entry(10, "f31");
	inode_of(10)->entries--;
	expect(fake, FSCK_NO_ENTRY, 31);
	make_world();
	add_entry(10, "ghost", 77, S_IFREG);
	inode_of(10)->entries++;
	expect(fake, FSCK_NO_INODE, 77);
	assert(strstr(told.text, "ghost"));
	make_world();
	inode_of(20)->entries = 9;
	expect(fake, FSCK_ENTRIES, 20);
	make_world();
	inode_of(20)->parent = 10;
	expect(fake, FSCK_PARENT, 20);
	make_world();
	object_of(33)->kind = STRAKE__FSCK_ROW__FSCK_ROW_LOST;
	expect(fake, FSCK_LOST, 33);
	make_world();
	object_of(33)->gen = 5000;
	expect(fake, FSCK_LEAKED, 33);
	make_world();
	inode_of(37)->size--;
	expect(fake, FSCK_BEYOND, 37);
	inode_of(37)->size_unsure = true;
	expect_clean(fake);
	make_world();
	inode_of(37)->layout.ost_indices[0] = 9;
	assert(run(fake) == 0 && told.all == 2 && told.counts[FSCK_LAYOUT] == 1 && told.counts[FSCK_MISPLACED] == 1);
}

START_TEST(what_stands_still)
{
	fake_run(still);
}
END_TEST

/* --- what changes ----------------------------------------------------------------------------------------------------- */

/* A truncate to nothing and a new write, so often, each when the OSTs are asked. */
static unsigned int truncates;
static void truncate_33(uint16_t opcode, uint64_t number)
{
	if (opcode != OP_FSCK_OBJECTS || (number != 0 && number != 33) || world.times >= truncates)
		return;
	world.times++;
	inode_of(33)->gen += 100;
	object_of(33)->gen = inode_of(33)->gen;
	changed(33, 0);
}

/*
 * 34 is in directory 20 when a walk begins, and far before in 10 when it comes to 20 with its fourth piece: it meets no
 * name. So in `moves` walks.
 */
static unsigned int moves;
static void move_34(uint16_t opcode, uint64_t number)
{
	static unsigned int pieces;

	(void)number;
	if (opcode != OP_FSCK_ENTRIES) {
		pieces = 0;
		return;
	}
	pieces++;
	if (world.times == moves)
		return;
	if (pieces == 1 && world.times > 0)
		move(34, 10, "a", 20, "f34");
	if (pieces == 4) {
		move(34, 20, "f34", 10, "a");
		world.times++;
	}
}

/* 34 moves in the first walk, so that it is suspect; the second walk meets its name, and then it is removed. */
static void move_and_remove_34(uint16_t opcode, uint64_t number)
{
	moves = 1;
	move_34(opcode, number);
	if (opcode == OP_FSCK_INODES && number == 34) {
		remove_entry(10, "a");
		inode_of(10)->entries--;
		changed(10, 0);
		remove_inode(34);
		*object_of(34) = *object_of(36);
		world.row_count[0]--;
		for (size_t i = 0; i < world.row_count[0]; i++)
			world.rows[0][i] = (struct row){ .ino = 30 + 2 * i + (i >= 2 ? 2 : 0),
							 .gen = 30 + 2 * i + (i >= 2 ? 2 : 0),
							 .value = STRIPE,
							 .kind = STRAKE__FSCK_ROW__FSCK_ROW_OBJECT };
		world.happens = NULL;
	}
}

/* Made while we look: no name was met, for there was none. */
static void make_1000(uint16_t opcode, uint64_t number)
{
	(void)number;
	if (opcode != OP_FSCK_INODES || world.times++ != 0)
		return;
	add_file(1000, 20, "new");
	inode_of(20)->entries++;
	changed(20, 1000);
	world.fresh = 1001;
}

static void changes(struct fake *fake)
{
	for (truncates = 1; truncates < 10; truncates += 4) {
		make_world();
		world.happens = truncate_33;
		expect_clean(fake);
		assert(world.times == truncates);
	}
	for (moves = 1; moves < 5; moves++) {
		make_world();
		world.happens = move_34;
		expect_clean(fake);
		assert(world.times == moves);
	}
	make_world();
	world.happens = move_and_remove_34;
	expect_clean(fake);
	assert(!inode_of(34));
	make_world();
	world.happens = make_1000;
	expect_clean(fake);
}

START_TEST(what_changes_is_no_finding)
{
	fake_run(changes);
}
END_TEST

/* Never still: neither found nor called clean. */
static void unsettled(struct fake *fake)
{
	make_world();
	world.happens = truncate_33;
	truncates = UINT_MAX;
	assert(run(fake) == 0 && told.all == 0 && result.unsettled == 1 && !fsck_is_complete(&result));
	make_world();
	world.happens = move_34;
	moves = UINT_MAX;
	assert(run(fake) == 0 && told.all == 0);
	/* What is wrong elsewhere is found all the same. */
	make_world();
	world.happens = truncate_33;
	inode_of(36)->nlink = 4;
	assert(run(fake) == 0 && told.all == 1 && told.counts[FSCK_LINKS] == 1 && result.unsettled == 1);
}

START_TEST(what_never_holds_still_is_unsettled)
{
	fake_run(unsettled);
}
END_TEST

/* --- servers that go away --------------------------------------------------------------------------------------------- */

static void lose_tail(void)
{
	world.instance++;
	fake_log_index -= 50;
}

static unsigned int restart_at;
static void restart(uint16_t opcode, uint64_t number)
{
	(void)number;
	if (opcode == OP_FSCK_OBJECTS || ++world.times != restart_at)
		return;
	/* With a tail of the log lost, and another one written: the same indices stand for other changes. */
	lose_tail();
}

/* 34 is missed by the first walk, and by the second one; then its version is one that was given before, to something else. */
static void missed_and_lost(uint16_t opcode, uint64_t number)
{
	moves = 2;
	move_34(opcode, number);
	if (world.times == 2 && opcode == OP_FSCK_INODES && number == 34 && world.instance == 1) {
		lose_tail();
		inode_of(34)->version = fake_log_index;
	}
}

/*
 * 34 is removed while the first look is at work, so it is gone. That is lost, it is there again, and the second walk meets
 * its name; then it is removed again.
 */
static void gone_and_back(uint16_t opcode, uint64_t number)
{
	static struct fsck_inode kept;

	(void)number;
	if (opcode == OP_FSCK_INODES && world.times == 0) {
		kept = *inode_of(34);
		remove_inode(34);
		remove_entry(20, "f34");
		inode_of(20)->entries--;
		world.times = 1;
	} else if (opcode == OP_FSCK_ENTRIES && world.times == 1) {
		lose_tail();
		memmove(inode_of(35) + 1, inode_of(35), 3 * sizeof(kept));
		*inode_of(35) = kept;
		world.inode_count++;
		add_entry(20, "f34", 34, S_IFREG);
		inode_of(20)->entries++;
		world.times = 2;
	} else if (opcode == OP_FSCK_INODES && world.times == 2 && number == 34) {
		remove_inode(34);
		remove_entry(20, "f34");
		inode_of(20)->entries--;
		world.times = 3;
	}
}

static void restarts(struct fake *fake)
{
	for (restart_at = 2; restart_at < 14; restart_at++) {
		make_world();
		inode_of(31)->nlink = 2;
		world.happens = restart;
		assert(run(fake) == 0 && told.all == 1 && told.counts[FSCK_LINKS] == 1);
	}
	make_world();
	world.happens = missed_and_lost;
	expect_clean(fake);
	assert(world.instance == 2);
	make_world();
	world.row_count[0] = 2; /* 34 has no object, nor what comes after it there */
	world.happens = gone_and_back;
	expect_clean(fake);
	assert(world.times == 3);
}

START_TEST(the_mds_is_restarted)
{
	fake_run(restarts);
}
END_TEST

static void ost_away(struct fake *fake)
{
	make_world();
	world.ost_error = -EIO;
	inode_of(31)->nlink = 2;
	object_of(30)->kind = STRAKE__FSCK_ROW__FSCK_ROW_LOST; /* on the other OST */
	assert(run(fake) == 0 && told.all == 2);
	assert(!fsck_is_complete(&result) && result.osts[1].unchecked && !result.osts[0].unchecked);
	assert(told.notes == 1 && strstr(told.note, "OST 1 cannot be checked: Input/output error"));

	patience_ms = PATIENCE_AWAY_MS;
	make_world();
	fake->osts[1] = service_free(fake->osts[1]);
	assert(run(fake) == 0 && told.all == 0 && result.osts[1].unchecked);
	make_world();
	fake->mdt = service_free(fake->mdt);
	assert(run(fake) < 0 && strstr(error, "the MDT cannot be checked"));
}

START_TEST(servers_that_do_not_answer)
{
	fake_run(ost_away);
}
END_TEST

/* --- answers that make no sense --------------------------------------------------------------------------------------- */

static void uneven_entries(Strake__FsckEntriesReply *reply)
{
	reply->n_ino--;
}
static void no_types(Strake__FsckEntriesReply *reply)
{
	reply->n_type = 0;
}
static void unasked_names(Strake__FsckEntriesReply *reply)
{
	reply->n_name = 1;
}
static void falling_parents(Strake__FsckEntriesReply *reply)
{
	if (reply->n_parent > 1)
		reply->parent[1] = 0;
}
static void strange_type(Strake__FsckEntriesReply *reply)
{
	reply->type[0] = 16;
}
static void highest_ino(Strake__FsckEntriesReply *reply)
{
	reply->ino[0] = UINT64_MAX;
}
static void misplaced_outside(Strake__FsckEntriesReply *reply)
{
	reply->n_misplaced = 1;
	reply->misplaced[0] = PIECE;
}
static void no_progress(Strake__FsckEntriesReply *reply)
{
	reply->n_parent = reply->n_ino = reply->n_type = reply->n_name = 0;
	reply->has_after = 1;
}
static void long_position(Strake__FsckEntriesReply *reply)
{
	static uint8_t position[1000];

	reply->has_after = 1;
	reply->after = (ProtobufCBinaryData){ .data = position, .len = sizeof(position) };
}
static void same_position(Strake__FsckEntriesReply *reply)
{
	static uint8_t first[sizeof(struct position)];

	reply->has_after = 1;
	reply->after = (ProtobufCBinaryData){ .data = first, .len = sizeof(first) };
}
static void empty_position(Strake__FsckEntriesReply *reply)
{
	reply->has_after = 1;
	reply->after.len = 0;
}
static void (*const bad_entries[])(Strake__FsckEntriesReply *reply) = {
	uneven_entries,    no_types,    unasked_names, falling_parents, strange_type,  highest_ino,
	misplaced_outside, no_progress, long_position, empty_position,  same_position,
};

static void twice_the_same(Strake__FsckInodesReply *reply)
{
	if (reply->n_inode > 1)
		reply->inode[1] = reply->inode[0];
}
static void outside(Strake__FsckInodesReply *reply)
{
	if (reply->n_inode > 0)
		reply->inode[reply->n_inode - 1]->ino = UINT64_MAX;
}
static void going_back(Strake__FsckInodesReply *reply)
{
	reply->next = reply->n_inode > 0 ? reply->inode[0]->ino : 0;
}
static void standing(Strake__FsckInodesReply *reply)
{
	reply->n_inode = 0;
	reply->next = 0;
}
static void no_layout(Strake__FsckInodesReply *reply)
{
	if (reply->n_inode > 0)
		reply->inode[0]->layout = NULL;
}
static void too_wide(Strake__FsckInodesReply *reply)
{
	if (reply->n_inode > 0)
		reply->inode[0]->layout->n_ost_indices = LAYOUT_STRIPES_MAX + 1;
}
static void high_ost(Strake__FsckInodesReply *reply)
{
	if (reply->n_inode > 0) {
		reply->inode[0]->layout->n_ost_indices = 1;
		reply->inode[0]->layout->ost_indices[0] = 65536;
	}
}
static void falling_destroys(Strake__FsckInodesReply *reply)
{
	static Strake__FsckAwaited awaited = STRAKE__FSCK_AWAITED__INIT;
	static Strake__FsckAwaited *list[2] = { &awaited, &awaited };

	if (reply->n_inode > 0) {
		reply->inode[0]->n_destroy = 2;
		reply->inode[0]->destroy = list;
	}
}
static void many_destroys(Strake__FsckInodesReply *reply)
{
	static Strake__FsckAwaited awaited[FSCK_DESTROYS_MAX + 1];
	static Strake__FsckAwaited *list[FSCK_DESTROYS_MAX + 1];

	for (unsigned int i = 0; i <= FSCK_DESTROYS_MAX; i++) {
		strake__fsck_awaited__init(&awaited[i]);
		awaited[i].gen = i;
		list[i] = &awaited[i];
	}
	if (reply->n_inode > 0) {
		reply->inode[0]->n_destroy = FSCK_DESTROYS_MAX + 1;
		reply->inode[0]->destroy = list;
	}
}
static void (*const bad_inodes[])(Strake__FsckInodesReply *reply) = {
	twice_the_same, outside, going_back, standing, no_layout, too_wide, high_ost, falling_destroys, many_destroys,
};

static void uneven_rows(Strake__FsckObjectsReply *reply)
{
	reply->n_value = 0;
}
static void strange_row(Strake__FsckObjectsReply *reply)
{
	reply->row[0] = 4;
}
static void falling_rows(Strake__FsckObjectsReply *reply)
{
	if (reply->n_row > 1)
		reply->ino[1] = 1;
}
static void same_row(Strake__FsckObjectsReply *reply)
{
	if (reply->n_row > 1) {
		reply->ino[1] = reply->ino[0];
		reply->gen[1] = reply->gen[0];
	}
}
static void row_outside(Strake__FsckObjectsReply *reply)
{
	if (reply->n_row > 0)
		reply->ino[reply->n_row - 1] = UINT64_MAX;
}
static void rows_standing(Strake__FsckObjectsReply *reply)
{
	reply->n_row = reply->n_ino = reply->n_gen = reply->n_seq = reply->n_value = 0;
	reply->more = true;
	reply->next_ino = reply->next_gen = reply->next_place = 0;
}
static void rows_going_back(Strake__FsckObjectsReply *reply)
{
	reply->more = true;
	reply->next_ino = 1;
}
static void high_seq(Strake__FsckObjectsReply *reply)
{
	if (reply->n_row > 0)
		reply->seq[reply->n_row - 1] = UINT64_MAX;
}
static void (*const bad_rows[])(Strake__FsckObjectsReply *reply) = {
	uneven_rows, strange_row, falling_rows, same_row, row_outside, rows_standing, rows_going_back, high_seq,
};

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

static void nonsense(struct fake *fake)
{
	for (size_t i = 0; i < COUNT(bad_entries); i++) {
		make_world();
		world.spoil_entries = bad_entries[i];
		assert(run(fake) == -EBADMSG && strstr(error, "make no sense"));
	}
	for (size_t i = 0; i < COUNT(bad_inodes); i++) {
		make_world();
		world.spoil_inodes = bad_inodes[i];
		assert(run(fake) == -EBADMSG && strstr(error, "make no sense"));
	}
	for (size_t i = 0; i < COUNT(bad_rows); i++) {
		make_world();
		world.spoil_rows = bad_rows[i];
		assert(run(fake) == 0 && told.all == 0 && told.notes == 2 && strstr(told.note, "make no sense"));
		assert(result.osts[0].unchecked && result.osts[1].unchecked);
	}
}

START_TEST(answers_that_make_no_sense)
{
	fake_run(nonsense);
}
END_TEST

UNIT_MAIN("fsck_run", what_stands_still, what_changes_is_no_finding, what_never_holds_still_is_unsettled,
	  the_mds_is_restarted, servers_that_do_not_answer, answers_that_make_no_sense)
