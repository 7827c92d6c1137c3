/*
 * The rules of fsck: what must be so of one inode, its names, its entries and its objects. Pure: facts in, findings out.
 * strake-mds --check asks them of a state that stands still; `strake fsck` of facts that it has collected from servers
 * which work, and believes a finding only when nothing it rests upon has changed meanwhile (client/fsck/README.md).
 *
 *   fsck_check_inode    all that the MDT has of a number, at one moment
 *   fsck_check_links    ... and the entries that name it
 *   fsck_check_entries  ... and the entries in it
 *   fsck_check_object   ... and an object of it on an OST
 *   fsck_check_content  ... and what an OST knows of a content (ino, gen) as a whole: its cut, its tombstone
 */
#ifndef STRAKE_COMMON_FSCK_RULES_H
#define STRAKE_COMMON_FSCK_RULES_H

#include "common/layout.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum fsck_kind {
#define FSCK(name, word) FSCK_##name,
#include "common/fsck_kinds.def"
#undef FSCK
	FSCK_KINDS,
};
const char *fsck_kind_word(enum fsck_kind kind);

#define FSCK_TEXT_SIZE 512

struct fsck_finding {
	enum fsck_kind kind;
	uint64_t ino;      /* 0: it is about none */
	uint64_t gen, seq; /* of a content or object; gen 0: it is about none */
	int ost;           /* -1: it is about none */
	char text[FSCK_TEXT_SIZE];
};

/* Who is told. */
struct fsck_report {
	void (*found)(void *arg, const struct fsck_finding *finding);
	void *arg;
};

/* Tell of one; `about` has all but the text. */
void fsck_found(const struct fsck_report *report, struct fsck_finding about, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* --- facts -------------------------------------------------------------------------------------------------------- */

struct fsck_osts {
	uint32_t count;
	uint16_t index[LAYOUT_STRIPES_MAX];
};

/* A content whose objects are to go: a row of the destroy queue. */
struct fsck_destroy {
	uint64_t gen;
	struct fsck_osts awaited; /* those that have not answered yet */
};

#define FSCK_DESTROYS_MAX 64

/* What the MDT has under one inode number, at one moment: an inode, or only what is left of one. Large. */
struct fsck_inode {
	uint64_t ino;
	bool exists; /* of the inode itself: */
	uint64_t gen;
	uint32_t mode, nlink;
	uint64_t size, version, parent, entries, cut;
	bool linkable;    /* it has had no name yet, and may get one (O_TMPFILE) */
	bool size_unsure; /* somebody writes it, or its writer was lost: objects may reach further */
	bool never_given; /* ino or gen is a number that was not given out, or is void */
	bool way_is_lost; /* a directory: going up from it does not come to the root. Told of those below a higher ino */
	bool xattrs_differ; /* there are others than the inode counts */

	bool orphan;
	uint32_t holders, holders_unknown; /* sessions that hold the orphan; of those, how many do not exist */

	bool cut_pending;
	uint64_t pending_gen, pending_number;

	/* Of the MDT: where the last range of void numbers ends. 0: there is none, or that was not asked. */
	uint64_t void_end;

	uint32_t destroy_count; /* rows of the destroy queue, by ascending gen */
	bool destroys_cut_off;  /* there are more of them, all above the last */

	/* Not cleared by fsck_inode_init(): */
	struct layout layout;         /* its first three fields are */
	struct fsck_osts cut_awaited; /* its count is */
	struct fsck_destroy destroys[FSCK_DESTROYS_MAX];
};

/* Nothing is known but the number. */
void fsck_inode_init(struct fsck_inode *inode, uint64_t ino);

/* The entries that name an inode. */
struct fsck_links {
	uint64_t count;
	uint64_t parent;    /* the directory that has one of them */
	uint32_t types;     /* of what they say it is: bit (mode & S_IFMT) >> 12 */
	uint64_t misplaced; /* so many stand under a wrong hash: nobody finds them */
	const char *name;   /* of that one in parent, fit for printing; NULL: not known */
};

#define FSCK_TYPE_DIR (0040000 >> 12) /* S_IFDIR in such a number */

/* The entries in a directory. */
struct fsck_entries {
	uint64_t count, subdirs;
};

struct fsck_object {
	int ost;
	uint64_t ino, gen, seq;
	uint64_t size;
	bool lost;         /* the OST's index knows it, and there is no file */
	uint64_t void_end; /* of void gens from here on the OST has yet to destroy what it has */
};

struct fsck_content {
	int ost;
	uint64_t ino, gen;
	uint64_t cut;
	bool destroyed; /* there is a tombstone */
};

/* --- rules -------------------------------------------------------------------------------------------------------- */

#define FSCK_ROOT 1 /* its inode number */

void fsck_check_inode(const struct fsck_inode *inode, const struct fsck_report *report);
void fsck_check_links(const struct fsck_inode *inode, const struct fsck_links *links, const struct fsck_report *report);
void fsck_check_entries(const struct fsck_inode *inode, const struct fsck_entries *entries,
			const struct fsck_report *report);
void fsck_check_object(const struct fsck_inode *inode, const struct fsck_object *object,
		       const struct fsck_report *report);
void fsck_check_content(const struct fsck_inode *inode, const struct fsck_content *content,
			const struct fsck_report *report);
/* All OSTs that the inode's layout, cut and destroys name are there. */
void fsck_check_osts(const struct fsck_inode *inode, bool (*is_there)(void *arg, uint32_t ost), void *arg,
		     const struct fsck_report *report);

/* The same facts, in all that the rules look at. */
bool fsck_inode_equal(const struct fsck_inode *a, const struct fsck_inode *b);

#endif
