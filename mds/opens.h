/*
 * Who has what open: told by the sessions (OPEN, CREATE, CLOSE, RECLAIM), in memory only. What is logged is the
 * consequence: the holders of an inode that loses its last link (orphan.h). And what is opened for writing, so that after a
 * start, until a session has told, what it may be writing stands here (writers.c).
 *
 * Belongs to the MDT's loop. Memory shortage ends the process.
 */
#ifndef STRAKE_MDS_OPENS_H
#define STRAKE_MDS_OPENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OPEN_READ  1u
#define OPEN_WRITE 2u

struct opens; /* opaque: opens.c */

struct opens *opens_new(void);
struct opens *opens_free(struct opens *opens);

void opens_add(struct opens *opens, uint64_t session, uint64_t ino, unsigned int modes);
/* After a start, until the session tells: the log says that it has, or had, the inode open for writing. */
void opens_presume(struct opens *opens, uint64_t session, uint64_t ino);
/* The session has told all: what it has not told of is closed. */
void opens_drop_presumed(struct opens *opens, uint64_t session);
/* Fewer modes; true when the session has the inode no longer open (or never had). */
bool opens_remove(struct opens *opens, uint64_t session, uint64_t ino, unsigned int modes);

/* The OPEN had that number; a CLOSE with a lower one comes late. */
void opens_note_turn(struct opens *opens, uint64_t session, uint64_t ino, uint64_t turn);
bool opens_is_late(const struct opens *opens, uint64_t session, uint64_t ino, uint64_t turn);

/* 0: not open. */
unsigned int opens_modes(const struct opens *opens, uint64_t session, uint64_t ino);
/* Has a session other than this one it open for writing? */
bool opens_others_write(const struct opens *opens, uint64_t session, uint64_t ino);

/* Calls fn for each session that has it open, in no order. */
void opens_each_holder(const struct opens *opens, uint64_t ino, void (*fn)(void *arg, uint64_t session), void *arg);
/* Calls fn for each inode that the session has open. fn does not change the table. */
void opens_each_inode(const struct opens *opens, uint64_t session,
		      void (*fn)(void *arg, uint64_t ino, unsigned int modes), void *arg);

/* The session is no more. */
void opens_drop_session(struct opens *opens, uint64_t session);

size_t opens_count(const struct opens *opens);

#endif
