#include "client/fsck/lists.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MDT_INDEX 0

const char *fsck_printable(const uint8_t *name, size_t name_size, char *out, size_t out_size)
{
	size_t used = 0;

	for (size_t i = 0; i < name_size && used + 5 < out_size; i++) {
		bool plain = name[i] >= ' ' && name[i] != 0x7f && name[i] != '"' && name[i] != '\\';

		used += (size_t)snprintf(out + used, out_size - used, plain ? "%c" : "\\x%02x", name[i]);
	}
	out[used] = '\0';
	return out;
}

/* --- entries ------------------------------------------------------------------------------------------------------ */

void entry_list_begin(struct entry_list *list, struct servers *servers, bool names)
{
	*list = (struct entry_list){ .servers = servers, .names = names };
}

void entry_list_end(struct entry_list *list)
{
	call_release(&list->call);
}

/* Does it lead on, or would the same be told for ever? */
static bool is_behind(const struct entry_list *list, const ProtobufCBinaryData *after)
{
	size_t size = after->len < list->after_size ? after->len : list->after_size;
	int order = memcmp(after->data, list->after, size);

	return order > 0 || (order == 0 && after->len > list->after_size);
}

static bool entries_are_sound(const struct entry_list *list, const Strake__FsckEntriesReply *reply)
{
	if (reply->n_ino != reply->n_parent || reply->n_type != reply->n_parent ||
	    reply->n_name != (list->names ? reply->n_parent : 0))
		return false;
	for (size_t i = 0; i < reply->n_misplaced; i++) {
		if (reply->misplaced[i] >= reply->n_parent || (i > 0 && reply->misplaced[i] <= reply->misplaced[i - 1]))
			return false;
	}
	return !reply->has_after || (reply->n_parent > 0 && reply->after.len > 0 &&
				     reply->after.len <= sizeof(list->after) && is_behind(list, &reply->after));
}

static int fetch_entries(struct entry_list *list)
{
	Strake__FsckEntriesRequest request = STRAKE__FSCK_ENTRIES_REQUEST__INIT;
	const Strake__FsckEntriesReply *reply;
	int err;

	request.has_names = request.names = list->names;
	request.has_after = list->begun;
	request.after.data = list->after;
	request.after.len = list->after_size;
	call_release(&list->call);
	list->call = (struct call){ .opcode = OP_FSCK_ENTRIES, .request = &request.base };
	err = servers_call(list->servers, ROLE_MDT, MDT_INDEX, &list->call);
	if (err < 0)
		return err;
	reply = (const Strake__FsckEntriesReply *)list->call.reply;
	if (!entries_are_sound(list, reply))
		return -EBADMSG;
	if (!list->begun) {
		list->first = (struct mdt_moment){ reply->instance, list->call.log_index };
		list->fresh = reply->fresh;
		list->begun = true;
	}
	if (reply->instance != list->first.instance)
		return -ESTALE;
	list->at = list->misplaced_at = 0;
	list->ended = !reply->has_after;
	list->after_size = 0;
	if (reply->has_after) {
		list->after_size = reply->after.len;
		memcpy(list->after, reply->after.data, reply->after.len);
	}
	return 0;
}

int entry_list_next(struct entry_list *list, struct fsck_entry *ret_entry)
{
	const Strake__FsckEntriesReply *reply = (const Strake__FsckEntriesReply *)list->call.reply;
	size_t at;

	while (!reply || list->at == reply->n_parent) {
		int err = list->ended ? -ENOENT : fetch_entries(list);

		if (err < 0)
			return err;
		reply = (const Strake__FsckEntriesReply *)list->call.reply;
	}
	at = list->at++;
	*ret_entry = (struct fsck_entry){
		.parent = reply->parent[at],
		.ino = reply->ino[at],
		.type = (uint8_t)reply->type[at],
		.name = list->names ? reply->name[at].data : NULL,
		.name_size = list->names ? reply->name[at].len : 0,
	};
	if (list->misplaced_at < reply->n_misplaced && reply->misplaced[list->misplaced_at] == at) {
		ret_entry->misplaced = true;
		list->misplaced_at++;
	}
	if (ret_entry->parent < list->parent || ret_entry->ino == UINT64_MAX || ret_entry->parent == UINT64_MAX ||
	    reply->type[at] > 15)
		return -EBADMSG;
	list->parent = ret_entry->parent;
	return 0;
}

/* --- inodes ------------------------------------------------------------------------------------------------------- */

void inode_list_begin(struct inode_list *list, struct servers *servers, uint64_t from, uint64_t to, bool count)
{
	*list = (struct inode_list){ .servers = servers, .from = from, .to = to, .count = count };
}

void inode_list_end(struct inode_list *list)
{
	call_release(&list->call);
}

static bool take_osts(struct fsck_osts *osts, const uint32_t *index, size_t count)
{
	if (count > LAYOUT_STRIPES_MAX)
		return false;
	osts->count = (uint32_t)count;
	for (size_t i = 0; i < count; i++) {
		if (index[i] > UINT16_MAX)
			return false;
		osts->index[i] = (uint16_t)index[i];
	}
	return true;
}

static bool take_layout(const Strake__Layout *wire, struct layout *layout)
{
	struct fsck_osts osts;

	if (!wire || !take_osts(&osts, wire->ost_indices, wire->n_ost_indices))
		return false;
	layout->stripe_size = wire->stripe_size;
	layout->stripe_count = wire->stripe_count;
	layout->ost_count = osts.count;
	memcpy(layout->ost_indices, osts.index, osts.count * sizeof(*osts.index));
	return true;
}

static bool take_destroys(const Strake__FsckInode *row, struct fsck_inode *inode)
{
	if (row->n_destroy > FSCK_DESTROYS_MAX)
		return false;
	for (size_t i = 0; i < row->n_destroy; i++) {
		inode->destroys[i].gen = row->destroy[i]->gen;
		if (!take_osts(&inode->destroys[i].awaited, row->destroy[i]->ost, row->destroy[i]->n_ost) ||
		    (i > 0 && inode->destroys[i].gen <= inode->destroys[i - 1].gen))
			return false;
	}
	inode->destroy_count = (uint32_t)row->n_destroy;
	inode->destroys_cut_off = row->destroys_cut_off;
	return true;
}

static bool take_inode(const Strake__FsckInode *row, struct fsck_inode *inode)
{
	fsck_inode_init(inode, row->ino);
	inode->exists = row->has_mode;
	inode->mode = row->mode;
	inode->gen = row->gen;
	inode->nlink = row->nlink;
	inode->size = row->size;
	inode->version = row->version;
	inode->parent = row->parent;
	inode->entries = row->entries;
	inode->cut = row->cut;
	inode->size_unsure = row->size_unsure;
	inode->never_given = row->never_given;
	inode->way_is_lost = row->way_is_lost;
	inode->xattrs_differ = row->xattrs_differ;
	inode->orphan = row->has_holders;
	inode->linkable = row->linkable;
	inode->holders = row->holders;
	inode->holders_unknown = row->holders_unknown;
	if (inode->exists && !take_layout(row->layout, &inode->layout))
		return false;
	if (row->pending_cut) {
		inode->cut_pending = true;
		inode->pending_gen = row->pending_cut->gen;
		inode->pending_number = row->pending_cut->cut;
		if (!take_osts(&inode->cut_awaited, row->pending_cut->ost, row->pending_cut->n_ost))
			return false;
	}
	return take_destroys(row, inode);
}

static bool inodes_are_sound(const struct inode_list *list, const Strake__FsckInodesReply *reply)
{
	uint64_t from = list->from;

	for (size_t i = 0; i < reply->n_inode; i++) {
		if (reply->inode[i]->ino < from || reply->inode[i]->ino >= list->to)
			return false;
		from = reply->inode[i]->ino + 1;
	}
	return reply->next >= from && reply->next > list->from && reply->next <= list->to;
}

static int fetch_inodes(struct inode_list *list)
{
	Strake__FsckInodesRequest request = STRAKE__FSCK_INODES_REQUEST__INIT;
	const Strake__FsckInodesReply *reply;
	int err;

	request.from = list->from;
	request.to = list->to;
	request.has_count = request.count = list->count;
	call_release(&list->call);
	list->call = (struct call){ .opcode = OP_FSCK_INODES, .request = &request.base };
	err = servers_call(list->servers, ROLE_MDT, MDT_INDEX, &list->call);
	if (err < 0)
		return err;
	reply = (const Strake__FsckInodesReply *)list->call.reply;
	if (!inodes_are_sound(list, reply))
		return -EBADMSG;
	list->last = (struct mdt_moment){ reply->instance, list->call.log_index };
	if (!list->begun)
		list->first = list->last;
	list->begun = true;
	if (list->last.instance != list->first.instance)
		return -ESTALE;
	list->inodes = reply->inodes;
	list->orphans = reply->orphans;
	list->void_end = reply->void_end;
	list->from = reply->next;
	list->at = 0;
	return 0;
}

int inode_list_next(struct inode_list *list, struct fsck_inode *ret_inode)
{
	const Strake__FsckInodesReply *reply = (const Strake__FsckInodesReply *)list->call.reply;
	const Strake__FsckInode *row;

	while (!reply || list->at == reply->n_inode) {
		int err = list->from == list->to ? -ENOENT : fetch_inodes(list);

		if (err < 0)
			return err;
		reply = (const Strake__FsckInodesReply *)list->call.reply;
	}
	row = reply->inode[list->at++];
	list->counted = row->has_counted_entries && row->has_counted_subdirs;
	list->entries = (struct fsck_entries){ row->counted_entries, row->counted_subdirs };
	return take_inode(row, ret_inode) ? 0 : -EBADMSG;
}

/* --- an OST's index ----------------------------------------------------------------------------------------------- */

void row_list_begin(struct row_list *list, struct servers *servers, uint32_t ost, uint64_t from, uint64_t to)
{
	*list = (struct row_list){ .servers = servers, .ost = ost, .ino = from, .to = to };
}

void row_list_end(struct row_list *list)
{
	call_release(&list->call);
}

static bool row_is_object(uint32_t row)
{
	return row == STRAKE__FSCK_ROW__FSCK_ROW_OBJECT || row == STRAKE__FSCK_ROW__FSCK_ROW_LOST;
}

/* Where a row stands among all. */
struct place {
	uint64_t ino, gen, place;
};

static bool is_before(struct place a, struct place b)
{
	if (a.ino != b.ino)
		return a.ino < b.ino;
	return a.gen != b.gen ? a.gen < b.gen : a.place < b.place;
}

static struct place place_of(const Strake__FsckObjectsReply *reply, size_t i)
{
	return (struct place){ reply->ino[i], reply->gen[i], row_is_object(reply->row[i]) ? reply->seq[i] + 1 : 0 };
}

static bool rows_are_sound(const struct row_list *list, const Strake__FsckObjectsReply *reply)
{
	struct place next = { list->ino, list->gen, list->place };
	struct place after = { reply->next_ino, reply->next_gen, reply->next_place };

	if (reply->n_ino != reply->n_row || reply->n_gen != reply->n_row || reply->n_seq != reply->n_row ||
	    reply->n_value != reply->n_row)
		return false;
	for (size_t i = 0; i < reply->n_row; i++) {
		struct place place = place_of(reply, i);

		if (reply->row[i] > STRAKE__FSCK_ROW__FSCK_ROW_LOST || reply->ino[i] >= list->to ||
		    reply->seq[i] >= UINT64_MAX - 1 || is_before(place, next))
			return false;
		next = place;
		next.place++;
	}
	return !reply->more ||
	       (!is_before(after, next) && is_before((struct place){ list->ino, list->gen, list->place }, after));
}

static int fetch_rows(struct row_list *list)
{
	Strake__FsckObjectsRequest request = STRAKE__FSCK_OBJECTS_REQUEST__INIT;
	const Strake__FsckObjectsReply *reply;
	int err;

	request.ino = list->ino;
	request.gen = list->gen;
	request.place = list->place;
	request.to = list->to;
	call_release(&list->call);
	list->call = (struct call){ .opcode = OP_FSCK_OBJECTS, .request = &request.base };
	err = servers_call(list->servers, ROLE_OST, list->ost, &list->call);
	if (err < 0)
		return err;
	reply = (const Strake__FsckObjectsReply *)list->call.reply;
	if (!rows_are_sound(list, reply))
		return -EBADMSG;
	list->ended = !reply->more;
	list->ino = reply->next_ino;
	list->gen = reply->next_gen;
	list->place = reply->next_place;
	list->at = 0;
	return 0;
}

int row_list_next(struct row_list *list, struct fsck_row *ret_row)
{
	const Strake__FsckObjectsReply *reply = (const Strake__FsckObjectsReply *)list->call.reply;
	size_t at;

	while (!reply || list->at == reply->n_row) {
		int err = list->ended ? -ENOENT : fetch_rows(list);

		if (err < 0)
			return err;
		reply = (const Strake__FsckObjectsReply *)list->call.reply;
	}
	at = list->at++;
	*ret_row = (struct fsck_row){ .is_object = row_is_object(reply->row[at]) };
	if (ret_row->is_object)
		ret_row->object = (struct fsck_object){
			.ost = (int)list->ost,
			.ino = reply->ino[at],
			.gen = reply->gen[at],
			.seq = reply->seq[at],
			.size = reply->value[at],
			.lost = reply->row[at] == STRAKE__FSCK_ROW__FSCK_ROW_LOST,
			.void_end = reply->void_end,
		};
	else
		ret_row->content = (struct fsck_content){
			.ost = (int)list->ost,
			.ino = reply->ino[at],
			.gen = reply->gen[at],
			.cut = reply->value[at],
			.destroyed = reply->row[at] == STRAKE__FSCK_ROW__FSCK_ROW_DESTROYED,
		};
	return 0;
}

/* --- an OST's folders --------------------------------------------------------------------------------------------- */

static void tell_files(const Strake__FsckFilesReply *reply, uint32_t ost, uint32_t folder,
		       const struct fsck_report *report)
{
	struct fsck_finding about = { .kind = FSCK_FOREIGN, .ost = (int)ost };
	char name[300];

	for (size_t i = 0; i < reply->n_foreign; i++)
		fsck_found(report, about, "objects/%02" PRIx32 "/%s on OST %" PRIu32 " is no object's file", folder,
			   fsck_printable(reply->foreign[i].data, reply->foreign[i].len, name, sizeof(name)), ost);
	for (size_t i = 0; i < reply->n_ino; i++) {
		about = (struct fsck_finding){ .kind = FSCK_STRAY,
					       .ino = reply->ino[i],
					       .gen = reply->gen[i],
					       .seq = reply->seq[i],
					       .ost = (int)ost };
		fsck_found(report, about,
			   "object (%" PRIu64 ", %" PRIu64 ", %" PRIu64 ") on OST %" PRIu32 " has a file of %" PRIu64
			   " bytes, and the index does not know it",
			   about.ino, about.gen, about.seq, ost, reply->size[i]);
	}
	if (reply->cut_off)
		fsck_found(report, about, "objects/%02" PRIx32 " on OST %" PRIu32 " has more files of that kind",
			   folder, ost);
}

int fsck_folder(struct servers *servers, uint32_t ost, uint32_t folder, const struct fsck_report *report)
{
	Strake__FsckFilesRequest request = STRAKE__FSCK_FILES_REQUEST__INIT;
	struct call call = { .opcode = OP_FSCK_FILES, .request = &request.base };
	const Strake__FsckFilesReply *reply;
	int err;

	request.folder = folder;
	err = servers_call(servers, ROLE_OST, ost, &call);
	if (err == 0) {
		reply = (const Strake__FsckFilesReply *)call.reply;
		if (reply->n_gen == reply->n_ino && reply->n_seq == reply->n_ino && reply->n_size == reply->n_ino)
			tell_files(reply, ost, folder, report);
		else
			err = -EBADMSG;
	}
	call_release(&call);
	return err;
}
