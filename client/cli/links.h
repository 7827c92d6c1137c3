/*
 * Hard links within a tree that is copied: the first name of a file is copied, the others are linked to that copy.
 *
 *     links_enter() -> LINKS_FIRST: copy it, then links_copied() or links_failed()
 *                   -> LINKS_OTHER: link to *ret_to
 *
 * Who meets a file that another fiber is copying waits for it in links_enter(); when that copy fails, the next one is
 * the first. A file is forgotten with its last name, so the table holds only those whose other names are still to come
 * (or lie outside of the tree). One loop's fibers.
 */
#ifndef STRAKE_CLIENT_CLI_LINKS_H
#define STRAKE_CLIENT_CLI_LINKS_H

#include <stdint.h>

struct links; /* opaque: links.c */

struct links *links_new(void); /* NULL: no memory */
struct links *links_free(struct links *links);

/* The copy: its inode number, or its path (malloc'ed; the table's). */
struct links_copy {
	uint64_t ino;
	char *path;
};

enum links_verdict { LINKS_FIRST, LINKS_OTHER };

/*
 * A name of file (dev, ino), which has nlink > 1 of them. *ret_to is borrowed until the fiber
 * waits. -ENOMEM.
 */
int links_enter(struct links *links, uint64_t dev, uint64_t ino, uint64_t nlink, enum links_verdict *ret_verdict,
		struct links_copy *ret_to);
void links_copied(struct links *links, uint64_t dev, uint64_t ino, struct links_copy copy);
void links_failed(struct links *links, uint64_t dev, uint64_t ino);
/* This name is dealt with, by a link or not at all: ret_to is no longer needed. */
void links_leave(struct links *links, uint64_t dev, uint64_t ino);

#endif
