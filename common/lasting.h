/*
 * Memory that lasts: the buffers of a process that bulk comes to and leaves from again and again. A fabric that must be told of
 * memory is told of it once, for as long as it lasts, not for each call. One set for the process; any thread.
 */
#ifndef STRAKE_COMMON_LASTING_H
#define STRAKE_COMMON_LASTING_H

#include <stddef.h>

/* What a fabric has made of a piece of it. */
struct lasting_mark {
	struct lasting_mark *next;
	const void *owner;                       /* whose mark it is; a piece has one of each */
	void (*free)(struct lasting_mark *mark); /* called once, by any thread; calls nothing of this */
};

/* It shares nothing with what is in the set. Without memory to remember it by it is as if it did not last. */
void lasting_add(void *memory, size_t size);

/* Nothing moves in or out of it any more: its marks go. To be called before it is given back; fine when it was not added. */
void lasting_remove(void *memory);

/*
 * The owner's mark on the piece in which this memory lies, which is valid until the piece is removed. Where there is none it is
 * made: make() returns NULL or one whose `free` is set, and calls nothing of this. NULL: not all of this memory lasts, or no mark.
 */
struct lasting_mark *lasting_mark(const void *owner, const void *memory, size_t size,
				  struct lasting_mark *(*make)(const void *owner, void *piece, size_t piece_size));

/* All of the owner's marks go. Nothing that he has told of them moves. */
void lasting_forget(const void *owner);

#endif
