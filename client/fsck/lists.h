/*
 * The lists that servers tell a piece at a time, as streams: each has begin, next and end, and asks for the next piece when
 * the last one is used up. What a reply says is checked before it is believed: form, bounds, order.
 *
 * next: -ENOENT after the last; -EBADMSG: the server's answer makes no sense; what servers_call() says. The MDT's lists
 * also -ESTALE: the MDT was restarted, so that pieces from before do not belong to those from after.
 */
#ifndef STRAKE_CLIENT_FSCK_LISTS_H
#define STRAKE_CLIENT_FSCK_LISTS_H

#include "client/fsck/merge.h"
#include "client/fsck/servers.h"
#include "proto/fsck.pb-c.h"

#define FSCK_KEY_MAX 480

/* Of the MDT, and when it was asked. */
struct mdt_moment {
	uint64_t instance;
	uint64_t index; /* of the last record applied */
};

/* --- entries, by directory ---------------------------------------------------------------------------------------- */

struct fsck_entry {
	uint64_t parent, ino;
	uint8_t type;
	bool misplaced;
	const uint8_t *name; /* NULL: not asked; good until the next */
	size_t name_size;
};

struct entry_list {
	struct servers *servers;
	bool names, begun, ended;
	struct mdt_moment first; /* of the first piece */
	uint64_t fresh;          /* numbers from here on were not given out then */
	uint8_t after[FSCK_KEY_MAX];
	size_t after_size, at, misplaced_at;
	uint64_t parent; /* the last */
	struct call call;
};

void entry_list_begin(struct entry_list *list, struct servers *servers, bool names);
int entry_list_next(struct entry_list *list, struct fsck_entry *ret_entry);
void entry_list_end(struct entry_list *list);

/* --- inodes ------------------------------------------------------------------------------------------------------- */

struct inode_list {
	struct servers *servers;
	uint64_t from, to; /* to be asked for */
	bool begun, count;
	struct mdt_moment first, last;
	uint64_t inodes, orphans; /* as the MDT counted them, in the last piece */
	uint64_t void_end;        /* likewise: where its last range of void numbers ends */
	bool counted;             /* with count: the entries in the last one told, if there were not too many */
	struct fsck_entries entries;
	size_t at;
	struct call call;
};

/* Of [from, to); count: of one number only. */
void inode_list_begin(struct inode_list *list, struct servers *servers, uint64_t from, uint64_t to, bool count);
int inode_list_next(struct inode_list *list, struct fsck_inode *ret_inode);
void inode_list_end(struct inode_list *list);

/* --- an OST's index ----------------------------------------------------------------------------------------------- */

struct row_list {
	struct servers *servers;
	uint32_t ost;
	uint64_t ino, gen, place, to; /* the next piece */
	bool begun, ended;
	size_t at;
	struct call call;
};

/* Of the inodes [from, to). */
void row_list_begin(struct row_list *list, struct servers *servers, uint32_t ost, uint64_t from, uint64_t to);
int row_list_next(struct row_list *list, struct fsck_row *ret_row);
void row_list_end(struct row_list *list);

/* --- an OST's folders --------------------------------------------------------------------------------------------- */

#define FSCK_FOLDERS 256

/* What lies in one and the index does not know: findings, for they are certain. */
int fsck_folder(struct servers *servers, uint32_t ost, uint32_t folder, const struct fsck_report *report);

/* Bytes of a name fit for printing, cut off where there is no room. Returns out. */
const char *fsck_printable(const uint8_t *name, size_t name_size, char *out, size_t out_size);

#endif
