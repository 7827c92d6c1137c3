/*
 * What servers tell, behind the form of their messages (message_fuzz): attributes and the names in a directory, as a mount takes
 * them, and the lists that fsck asks for, with all that it makes of them. The first byte chooses. A list's input is the replies to one call after the
 * other, each a size (2 bytes) and a body.
 */
#include "client/attr.h"
#include "client/fsck/lists.h"
#include "client/layouts.h"
#include "client/readdir.h"
#include "common/arena.h"
#include "mds/bytes.h"
#include "mds/pack.h"
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <limits.h>

enum kind { KIND_ATTR, KIND_DIR, KIND_ENTRIES, KIND_NAMES, KIND_INODES, KIND_ROWS, KIND_FOLDER, KIND_MERGE, KINDS };

#define OSTS      2
#define OST_INDEX 7 /* of the first */

/* --- attributes --------------------------------------------------------------------------------------------------- */

static void layout_one(const struct attr *attr)
{
	const struct layout *layout = attr->layout;
	struct layout_piece piece;

	assert(layout == &layout_none || layout_check(layout) == 0);
	assert(layout_keep(layout) == layout || layout == &layout_none);
	if (layout->ost_count == 0)
		return;
	piece = layout_piece_at(layout, attr->size, 1);
	assert(piece.file_offset == attr->size && piece.length == 1 && piece.offset < layout->stripe_size);
	(void)layout_chunk_count(layout, attr->size);
}

static void attr_one(const uint8_t *data, size_t size)
{
	ProtobufCMessage *message;
	struct arena arena;
	struct attr attr;
	struct stat st;
	int err;

	message = arena_unpack(&arena, NULL, 0, &strake__attr__descriptor, data, size);
	if (message == NULL)
		return;
	err = attr_from_wire((const Strake__Attr *)message, &attr);
	assert(err == 0 || err == -EPROTO);
	if (err == 0) {
		assert(attr.ino != 0 && attr.size <= LAYOUT_FILE_SIZE_MAX && attr_same_content(&attr, &attr));
		layout_one(&attr);
		attr_to_stat(&attr, &st);
		assert(st.st_size >= 0 && st.st_blksize > 0);
		assert(st.st_mtim.tv_nsec >= 0 && st.st_mtim.tv_nsec < 1000000000);
	}
	arena_release(&arena);
}

static void dir_one(const uint8_t *data, size_t size)
{
	const Strake__ReaddirReply *reply;
	struct arena arena;
	uint64_t last = 3;

	reply = (const void *)arena_unpack(&arena, NULL, 0, &strake__readdir_reply__descriptor, data, size);
	if (reply == NULL)
		return;
	if (readdir_is_sound(reply, last)) {
		assert(reply->n_entry > 0 || reply->end);
		for (size_t i = 0; i < reply->n_entry; i++) {
			char *name = fuzz_text(reply->entry[i]->name.data, reply->entry[i]->name.len);

			assert(strlen(name) == reply->entry[i]->name.len && strlen(name) <= NAME_MAX && name[0] != 0);
			assert(strchr(name, '/') == NULL && strcmp(name, ".") != 0 && strcmp(name, "..") != 0);
			assert(reply->entry[i]->cookie > 3 && reply->entry[i]->cookie >= last);
			last = reply->entry[i]->cookie;
			free(name);
		}
	}
	arena_release(&arena);
}

/* --- lists: servers_call() comes here, and finds the next reply in the input ---------------------------------------- */

static struct unpack replies;

/* Who is told to ask on asks for what lies behind. */
static void check_progress(const Strake__FsckEntriesRequest *request)
{
	static uint8_t last[FSCK_KEY_MAX];
	static size_t last_size;
	struct bytes after = { request->after.data, request->has_after ? request->after.len : 0 };

	assert(after.size <= sizeof(last));
	assert(!request->has_after || bytes_compare(after, (struct bytes){ last, last_size }) > 0);
	last_size = after.size;
	if (after.size > 0)
		memcpy(last, after.data, after.size);
}

int __wrap_servers_call(struct servers *servers, enum role role, uint32_t index, struct call *call);
int __wrap_servers_call(struct servers *servers, enum role role, uint32_t index, struct call *call)
{
	struct bytes body;
	uint8_t *copy;

	(void)servers;
	assert(role == ROLE_MDT ? index == 0 : index >= OST_INDEX && index < OST_INDEX + OSTS);
	assert(protobuf_c_message_check(call->request));
	if (call->opcode == OP_FSCK_ENTRIES)
		check_progress((const Strake__FsckEntriesRequest *)call->request);
	body = unpack_bytes(&replies, unpack_u16(&replies));
	if (replies.bad)
		return -ECONNRESET;
	call->memory = malloc(sizeof(*call->memory));
	assert(call->memory != NULL);
	copy = fuzz_copy(body.data, body.size);
	call->reply = arena_unpack(call->memory, NULL, 0, op_find(call->opcode)->reply, copy, body.size);
	free(copy);
	if (call->reply != NULL)
		return 0;
	free(call->memory);
	call->memory = NULL;
	return -ECONNRESET;
}

/* Findings: lines that can be printed. */
static void found_one(void *arg, const struct fsck_finding *finding)
{
	(void)arg;
	for (const char *c = finding->text; *c != 0; c++)
		assert((unsigned char)*c >= ' ' && *c != 0x7f);
}
static const struct fsck_report report = { .found = found_one };

static bool is_over(int err)
{
	assert(err == -ENOENT || err == -EBADMSG || err == -ESTALE || err == -ECONNRESET);
	return true;
}

static void entries_one(bool names)
{
	static struct entry_list list;
	struct fsck_links links = { 0 };
	struct fsck_entry entry;
	uint64_t parent = 0;
	char name[64];
	int err;

	entry_list_begin(&list, NULL, names);
	while ((err = entry_list_next(&list, &entry)) == 0) {
		assert(entry.parent >= parent && entry.ino != UINT64_MAX && entry.type < 16);
		parent = entry.parent;
		fsck_links_add(&links, entry.parent, entry.type, entry.misplaced);
		if (names)
			assert(strlen(fsck_printable(entry.name, entry.name_size, name, sizeof(name))) < sizeof(name));
	}
	assert(is_over(err));
	entry_list_end(&list);
}

static void inodes_one(void)
{
	static struct inode_list list;
	static struct fsck_inode inode, before;
	uint64_t least = 3;
	int err;

	fsck_inode_init(&before, 0);
	inode_list_begin(&list, NULL, least, UINT64_MAX, true);
	while ((err = inode_list_next(&list, &inode)) == 0) {
		assert(inode.ino >= least && inode.ino < UINT64_MAX);
		least = inode.ino + 1;
		if (list.counted)
			fsck_check_entries(&inode, &list.entries, &report);
		assert(fsck_inode_equal(&inode, &inode) && !fsck_inode_equal(&inode, &before));
		before = inode;
	}
	assert(is_over(err));
	inode_list_end(&list);
}

static void rows_one(void)
{
	static struct row_list list;
	struct fsck_row row;
	uint64_t ino = 3;
	int err;

	row_list_begin(&list, NULL, OST_INDEX, ino, 1000);
	while ((err = row_list_next(&list, &row)) == 0) {
		uint64_t now = row.is_object ? row.object.ino : row.content.ino;

		assert(now >= ino && now < 1000);
		ino = now;
	}
	assert(is_over(err));
	row_list_end(&list);
}

static void folder_one(void)
{
	int err = fsck_folder(NULL, OST_INDEX, 5, &report);

	assert(err == 0 || is_over(err));
}

/* --- the first look: all lists side by side -------------------------------------------------------------------------- */

struct look {
	struct inode_list inodes;
	struct row_list rows[OSTS];
	struct entry_list entries;
	struct fsck_inode inode;
	uint64_t suspect; /* the last */
	bool suspected;
};

static int look_inode(void *arg, const struct fsck_inode **ret_inode)
{
	struct look *look = arg;

	*ret_inode = &look->inode;
	return inode_list_next(&look->inodes, &look->inode);
}

/* They come by directory, not by what they name: of those, whatever is in order. */
static int look_link(void *arg, struct sorted *ret_link)
{
	struct look *look = arg;
	struct fsck_entry entry;
	int err = entry_list_next(&look->entries, &entry);

	if (err == 0)
		*ret_link = (struct sorted){
			.ino = entry.parent,
			.other = entry.ino,
			.type = entry.type,
			.misplaced = entry.misplaced,
			.kind = entry.type % 2 == 0 ? SORTED_LINK : SORTED_ENTRIES,
		};
	return err;
}

static int look_row(void *arg, unsigned int source, struct fsck_row *ret_row)
{
	struct look *look = arg;

	return row_list_next(&look->rows[source], ret_row);
}

static bool look_ost(void *arg, uint32_t ost)
{
	(void)arg;
	return ost >= OST_INDEX && ost < OST_INDEX + OSTS;
}

static int look_suspect(void *arg, uint64_t ino, unsigned int suspicion, bool exists)
{
	struct look *look = arg;

	(void)exists;
	assert(suspicion != 0 && (!look->suspected || ino > look->suspect));
	look->suspected = true;
	look->suspect = ino;
	return 0;
}

static void look_broken(void *arg, unsigned int source, int err)
{
	(void)arg;
	assert(source < OSTS && is_over(err));
}

static void merge_one(void)
{
	static struct look look;
	const struct fsck_streams streams = {
		.arg = &look,
		.inode = look_inode,
		.link = look_link,
		.row = look_row,
		.sources = OSTS,
		.ost_is_there = look_ost,
		.fresh = 100,
	};
	const struct fsck_sink sink = { &look, look_suspect, look_broken };
	struct fsck_totals totals;
	int err;

	look.suspected = false;
	fsck_inode_init(&look.inode, 0);
	entry_list_begin(&look.entries, NULL, false);
	inode_list_begin(&look.inodes, NULL, 0, UINT64_MAX, false);
	for (uint32_t i = 0; i < OSTS; i++)
		row_list_begin(&look.rows[i], NULL, OST_INDEX + i, 0, UINT64_MAX);
	err = fsck_merge(&streams, &sink, &totals);
	assert(err == 0 || is_over(err));
	assert(totals.inodes >= totals.root);
	entry_list_end(&look.entries);
	inode_list_end(&look.inodes);
	for (uint32_t i = 0; i < OSTS; i++)
		row_list_end(&look.rows[i]);
}

static void fuzz_one(const uint8_t *data, size_t size)
{
	enum kind kind;
	uint8_t *copy;

	if (size == 0)
		return;
	kind = data[0] % KINDS;
	copy = fuzz_copy(data + 1, size - 1);
	replies = unpack_begin((struct bytes){ copy, size - 1 });
	if (kind == KIND_ATTR)
		attr_one(copy, size - 1);
	else if (kind == KIND_DIR)
		dir_one(copy, size - 1);
	else if (kind == KIND_ENTRIES || kind == KIND_NAMES)
		entries_one(kind == KIND_NAMES);
	else if (kind == KIND_INODES)
		inodes_one();
	else if (kind == KIND_ROWS)
		rows_one();
	else if (kind == KIND_FOLDER)
		folder_one();
	else
		merge_one();
	free(copy);
}

/* --- seeds -------------------------------------------------------------------------------------------------------- */

static uint8_t seed[8192];
static struct pack to_seed;

static void reply_put(const ProtobufCMessage *message)
{
	uint8_t body[2048];
	size_t size = protobuf_c_message_get_packed_size(message);

	assert(size <= sizeof(body) && protobuf_c_message_pack(message, body) == size);
	pack_u16(&to_seed, (uint16_t)size);
	pack_bytes(&to_seed, body, size);
}

static void seed_end(enum kind kind)
{
	uint8_t selector = (uint8_t)kind;

	fuzz_seed(&selector, 1, seed, (size_t)(to_seed.at - seed));
	to_seed = (struct pack){ seed, seed + sizeof(seed) };
}

static uint32_t ost_indices[] = { OST_INDEX, OST_INDEX + 1 };

static Strake__Layout layout_make(void)
{
	Strake__Layout layout = STRAKE__LAYOUT__INIT;

	layout.stripe_size = LAYOUT_STRIPE_SIZE_MIN;
	layout.stripe_count = 2;
	layout.ost_indices = ost_indices;
	layout.n_ost_indices = 2;
	return layout;
}

static void attr_seed(void)
{
	Strake__Layout layout = layout_make();
	Strake__Cut cut = STRAKE__CUT__INIT;
	Strake__Attr attr = STRAKE__ATTR__INIT;
	uint8_t selector = KIND_ATTR, out[512];

	attr.ino = 10;
	attr.gen = 11;
	attr.mode = S_IFREG | 0644;
	attr.nlink = 1;
	attr.size = 100000;
	attr.mtime_ns = -1;
	attr.layout = &layout;
	attr.cut = &cut;
	fuzz_seed(&selector, 1, out, strake__attr__pack(&attr, out));
}

static void dir_seed(void)
{
	static uint8_t text[] = "..name";
	Strake__Dirent first = STRAKE__DIRENT__INIT, second = STRAKE__DIRENT__INIT, *entries[] = { &first, &second };
	Strake__ReaddirReply reply = STRAKE__READDIR_REPLY__INIT;
	uint8_t selector = KIND_DIR, out[512];

	first.name = (ProtobufCBinaryData){ 3, text };
	first.cookie = 4;
	second.name = (ProtobufCBinaryData){ 6, text };
	second.cookie = 5;
	reply.entry = entries;
	reply.n_entry = 2;
	fuzz_seed(&selector, 1, out, strake__readdir_reply__pack(&reply, out));
}

/* So many entries of a directory, with two the second misplaced. */
static void put_entries_part(bool names, size_t count, uint64_t dir, bool more)
{
	static uint8_t text[] = "name";
	uint64_t parent[] = { dir, dir }, ino[] = { 10, 11 };
	uint32_t type[] = { 8, 4 }, misplaced[] = { 1 };
	ProtobufCBinaryData name[] = { { 4, text }, { 3, text } };
	Strake__FsckEntriesReply reply = STRAKE__FSCK_ENTRIES_REPLY__INIT;

	reply.instance = 1;
	reply.fresh = 100;
	reply.parent = parent;
	reply.ino = ino;
	reply.type = type;
	reply.n_parent = reply.n_ino = reply.n_type = count;
	reply.name = name;
	reply.n_name = names ? count : 0;
	reply.misplaced = misplaced;
	reply.n_misplaced = count > 1;
	reply.has_after = more;
	reply.after = name[0];
	reply_put(&reply.base);
}

static void put_entries(bool names)
{
	put_entries_part(names, 2, 1, true);
	put_entries_part(names, 1, 11, false);
}

static void put_inodes(uint64_t last)
{
	Strake__Layout layout = layout_make();
	Strake__FsckAwaited awaited = STRAKE__FSCK_AWAITED__INIT, *destroy[] = { &awaited };
	Strake__FsckInode inode = STRAKE__FSCK_INODE__INIT, *inodes[] = { &inode };
	Strake__FsckInodesReply reply = STRAKE__FSCK_INODES_REPLY__INIT;

	awaited.gen = 4;
	awaited.ost = ost_indices;
	awaited.n_ost = 2;
	inode.ino = 10;
	inode.has_mode = inode.has_gen = inode.has_nlink = inode.has_size = inode.has_cut = true;
	inode.mode = S_IFREG | 0644;
	inode.gen = 11;
	inode.nlink = 1;
	inode.size = 100000;
	inode.layout = &layout;
	inode.pending_cut = &awaited;
	inode.destroy = destroy;
	inode.n_destroy = 1;
	inode.has_counted_entries = inode.has_counted_subdirs = true;
	reply.instance = 1;
	reply.inodes = 1;
	reply.inode = inodes;
	reply.n_inode = 1;
	reply.next = last;
	reply_put(&reply.base);
}

static void put_rows(uint64_t more)
{
	uint32_t row[] = { STRAKE__FSCK_ROW__FSCK_ROW_CONTENT, STRAKE__FSCK_ROW__FSCK_ROW_OBJECT,
			   STRAKE__FSCK_ROW__FSCK_ROW_LOST };
	uint64_t ino[] = { 10, 10, 10 }, gen[] = { 11, 11, 11 }, seq[] = { 0, 0, 2 }, value[] = { 3, 65536, 0 };
	Strake__FsckObjectsReply reply = STRAKE__FSCK_OBJECTS_REPLY__INIT;

	reply.row = row;
	reply.ino = ino;
	reply.gen = gen;
	reply.seq = seq;
	reply.value = value;
	reply.n_row = reply.n_ino = reply.n_gen = reply.n_seq = reply.n_value = 3;
	reply.more = more != 0;
	reply.has_next_ino = true;
	reply.next_ino = more;
	reply_put(&reply.base);
}

static void folder_seed(void)
{
	static uint8_t text[] = "a\n\"\xff";
	uint64_t numbers[] = { 1, 2 };
	ProtobufCBinaryData foreign[] = { { 4, text } };
	Strake__FsckFilesReply reply = STRAKE__FSCK_FILES_REPLY__INIT;

	reply.ino = reply.gen = reply.seq = reply.size = numbers;
	reply.n_ino = reply.n_gen = reply.n_seq = reply.n_size = 2;
	reply.foreign = foreign;
	reply.n_foreign = 1;
	reply.has_cut_off = reply.cut_off = true;
	reply_put(&reply.base);
	seed_end(KIND_FOLDER);
}

static void fuzz_seeds(void)
{
	to_seed = (struct pack){ seed, seed + sizeof(seed) };
	attr_seed();
	dir_seed();
	folder_seed();
	for (int names = 0; names < 2; names++) {
		put_entries(names);
		seed_end(names ? KIND_NAMES : KIND_ENTRIES);
	}
	for (int i = 0; i < 2; i++) /* the same, for ever */
		put_entries_part(false, 2, 1, true);
	seed_end(KIND_ENTRIES);
	put_inodes(50);
	seed_end(KIND_INODES);
	put_rows(12);
	seed_end(KIND_ROWS);
	/* In the order in which they are asked for. */
	put_inodes(UINT64_MAX);
	put_entries(false);
	put_rows(0);
	put_rows(0);
	seed_end(KIND_MERGE);
}
