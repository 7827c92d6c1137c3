/*
 * Inodes as the client knows them: attributes with their age, open state, and the data that is not on the servers yet.
 * Within libstrake only.
 *
 *   - Shared by all workers. inode->lock guards all fields below it, briefly, never across a call to a server; who must
 *     wait waits in inode->changed.
 *   - Life: inode_get() finds or makes it with one reference; it goes with the last one (kernel's lookups, open files,
 *     dirty data and calls under way each hold references).
 *   - attr.size is the MDT's word (with that of the OSTs, where the MDT was unsure); data_size() is what a reader here
 *     must see: the maximum of it and our own writes that have not been reported.
 *   - Order of locks: inode->lock, then the table's. Nobody holds two inodes' locks.
 */
#ifndef STRAKE_CLIENT_INODE_H
#define STRAKE_CLIENT_INODE_H

#include "client/fs.h"
#include "common/fiber.h"
#include "proto/common.pb-c.h"

#include <pthread.h>

struct inode_data;  /* opaque: data path (data.h) */
struct inode_locks; /* lock_op.h */

enum open_modes { OPEN_READ = 1, OPEN_WRITE = 2 }; /* as on the wire */

struct inode {
	struct fs *fs;
	uint64_t ino;
	struct inode *hash_next;
	uint64_t refs;    /* guarded by the table's lock */
	uint64_t lookups; /* of these, the kernel's: guarded by the table's lock */

	pthread_mutex_t lock;
	struct fiber_queue changed; /* open state or data */
	struct attr attr;
	bool attr_valid;   /* attr holds something */
	bool doubted;      /* inode_doubt() */
	bool atime_waits;  /* attr.atime_ns is yet to be told, instead of atime_seen_ns: atime.h */
	bool atime_listed; /* it is in the list of those */
	int64_t atime_seen_ns;
	uint64_t attr_expires_ns; /* believed until then */

	uint64_t unsure_version;  /* of attr, when the OSTs were asked last */
	uint64_t settled_version; /* of attr, after we told the MDT what they said */

	unsigned int open_read, open_write; /* handles here */
	unsigned int open_dirs;             /* ... of a directory; nobody is told */
	unsigned int told_modes;  /* what the MDT may have heard of, and no CLOSE since: OPEN_READ, OPEN_WRITE */
	unsigned int known_modes; /* of these, what it surely knows */
	bool told_before;         /* something was told at some time: a CLOSE may be crossing a CREATE */
	bool telling;             /* an OPEN or CLOSE is under way */
	bool close_queued;        /* in a tell_queue, by: */
	struct inode *close_next; /* the queue's worker's */

	/* What the kernel's pages of this file were filled from: the same at the next open means keep them. */
	uint64_t pages_gen, pages_cut, pages_size, pages_data_version;
	bool pages_valid;
	bool mapped;              /* the kernel has brought out mapped dirty pages of it */
	unsigned char pages_used; /* inode_pages_used() */
	bool pages_going;         /* all of them are being dropped */
	uint64_t pages_opened_ns; /* the kernel was last told to drop its pages by the answer to an open */

	/* What the kernel was shown of these attributes, and until when it may believe that. */
	struct attr_shown {
		uint64_t version, size;
		uint64_t until_ns;
		bool several; /* different ones, so there is no telling which it has */
		pid_t asker;  /* who asked, if it was one caller whom we know; else 0 */
	} shown;

	/* With what state of its names (attr.name_version) the kernel was last shown one, and until when it may believe that. */
	struct entry_shown {
		uint64_t version;
		uint64_t until_ns;
		uint64_t older_until_ns; /* ... another state, before */
	} entry;
	uint64_t dir; /* in which the kernel was last shown a name of it; 0: never */

	unsigned int changes_asked; /* of the content, not answered: inode_change_begins() */

	struct inode_data *data;   /* NULL until the first read or write */
	struct inode_locks *locks; /* NULL until the first lock */
};

/* A mount has as many as the kernel remembers: of a million, each byte is a MiB. */
_Static_assert(sizeof(struct inode) <= 456, "an inode is small");

struct inode_table; /* opaque: inode.c */
struct inode_table *inode_table_new(struct fs *fs);
struct inode_table *inode_table_free(struct inode_table *table); /* lookups that were never forgotten go with it */

struct inode *inode_get(struct inode_table *table, uint64_t ino);  /* finds or makes; NULL: no memory */
struct inode *inode_find(struct inode_table *table, uint64_t ino); /* NULL when not known */
struct inode *inode_ref(struct inode *inode);
void inode_put(struct inode *inode); /* NULL is fine */

/* The kernel's references: one more for a caller that has one; and fs_forget()'s half. */
void inode_lookup_add(struct inode *inode);
void inode_lookup_drop(struct inode_table *table, uint64_t ino, uint64_t count);

/* All there are, each with a reference: -ENOMEM. *ret_inodes is malloc'ed. */
int inode_table_list(struct inode_table *table, struct inode ***ret_inodes, size_t *ret_count);

/*
 * Take over newer attributes from a reply to a request that was sent at asked_ns (older versions than known are passed
 * over). Where they are unsure of the size they are not believed for longer than this call. inode->lock is held.
 */
void inode_set_attr(struct inode *inode, const struct attr *attr, uint64_t asked_ns);
/* The same from the wire and with the lock taken; *ret_attr (may be NULL) is what is known then. -EPROTO. */
int inode_take_attr(struct inode *inode, const Strake__Attr *wire, uint64_t asked_ns, struct attr *ret_attr);
/* Nothing is believed any more: the MDT's log is another one. inode->lock is held. */
void inode_distrust(struct inode *inode);
/*
 * Nor where the log may be another one, as the MDT is; mostly it is the same. So until something has come that was asked for after
 * fs->doubted_ns, such replies are taken whatever their version, and others as ever: these may have lain somewhere since before.
 */
void inode_doubt(struct inode *inode);
int inode_table_distrust(struct inode_table *table); /* all of them: -ENOMEM */

/* fs_setattr() of an inode at hand. */
int inode_setattr(struct inode *inode, struct fs_ctx *ctx, unsigned int fields, const struct attr *attr,
		  struct attr *ret_attr);

/* Fresh enough attributes (or truly fresh): asks the MDT, and the OSTs where the size is unsure. */
int inode_fetch_attr(struct inode *inode, struct fs_ctx *ctx, bool fresh, struct attr *ret_attr);

/*
 * The MDT has just said that there is no such inode (or did before): is it one that was removed, and is remembered, for who
 * may hold it without the MDT's knowing? Then *ret_attr (may be NULL) is what is known of it. For what the kernel asks:
 * bytes that still wait to be written have nowhere to go.
 */
bool inode_is_remembered(struct inode *inode, struct attr *ret_attr);

/*
 * attr came with a reply just now and may be unsure of the size: then ask the OSTs, and take over the result.
 * attr is what is known afterwards.
 */
int inode_settle_size(struct inode *inode, struct fs_ctx *ctx, uint64_t asked_ns, struct attr *attr);

/*
 * How far the file reaches on its OSTs and how many blocks of 512 bytes it takes there, as all of them tell who are asked
 * with these attributes. -ESTALE: gen or cut are others by now.
 */
int inode_glimpse(struct inode *inode, struct fs_ctx *ctx, const struct attr *attr, uint64_t *ret_end,
		  uint64_t *ret_blocks);

/* Have an unwritten file lie as that other one does. The MDT's word: -EBUSY, -EXDEV, ... attr: as then known. */
int inode_layout_like(struct inode *inode, struct fs_ctx *ctx, uint64_t like, struct attr *ret_attr);

/* See that the layout is fixed (ost_count > 0), before the first write: LAYOUT where it is not. attr: as then known. */
int inode_fix_layout(struct inode *inode, struct fs_ctx *ctx, struct attr *ret_attr);

/*
 * We changed the inode ourselves (SIZE, SETATTR, PUNCH), and `now` is its reply: where the kernel's pages were right
 * before (data_before, the data_version until then, is what they were filled from) they are right now. Takes the
 * attributes over too. data_before 0: the reply did not say. inode->lock is held.
 */
void inode_note_own_change(struct inode *inode, uint64_t data_before, const struct attr *now, uint64_t asked_ns);
/*
 * Around a request that changes the content (SIZE, SETATTR, PUNCH), its answer and what is made of that: meanwhile others'
 * answers may show the data_version that is of our making. They take the lock.
 */
void inode_change_begins(struct inode *inode);
void inode_change_ends(struct inode *inode);
/* Are the bytes that attr tells of those of the kernel's pages: nobody else has changed any since? lock held. */
bool inode_knows_bytes(const struct inode *inode, const struct attr *attr);
/* At an open with fresh attributes: may the kernel keep its pages? From here on they are filled from attr. lock held.
 */
bool inode_keep_pages(struct inode *inode, const struct attr *attr);
/*
 * The two halves of that, for who has the pages dropped himself: between them pages_valid is false. The kernel drops pages
 * some time after an open was answered: for a second after one they count as others. lock held.
 */
bool inode_pages_are(const struct inode *inode, const struct attr *attr);
void inode_pages_become(struct inode *inode, const struct attr *attr);

/*
 * Direct I/O beside the kernel's pages. Who writes past them has the kernel drop those in his way before he begins; but
 * until his bytes are here others may fill them again, with what was there before, and for writes that it does not wait
 * for (AIO) Linux before 7 does not look again. So what was passed is dropped once more before such a write is answered:
 * after a READ or WRITE of pages, and so long that PAGES_PASSED_MAX writes have come since. Then all pages go, and where
 * nobody uses any direct I/O costs nothing more. That is not waited for: a page may be waiting for an OST that is away, and
 * the write has nothing to do with that.
 */
#define PAGES_PASSED_MAX 64
void inode_pages_used(struct inode *inode);
/* The bytes can be read here by now. In a fiber. */
void inode_pages_passed(struct inode *inode, uint64_t offset, uint64_t size);

#endif
