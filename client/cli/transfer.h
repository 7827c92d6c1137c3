/*
 * A walk over a tree by a pool of fibers, for `client put`, `get` and `rm -r`: what is to be done with one entry is the
 * verb's; here is which fiber does it when, what a failure means, and what is counted.
 *
 *     root entry -> copy() -> a directory? transfer_push() -> list() -> entries -> copy() ... -> finish()
 *
 *   - A free fiber takes the next entry of the directory that was pushed last; so a tree is walked by depth, and what
 *     is in memory is bounded by its depth times the fibers, not by its size.
 *   - finish() of a directory comes when everything below it has been dealt with.
 *   - A failure of one entry is told and counted, and the walk goes on; one that all others would meet as well (no
 *     space, no connection, no right key, interrupted) stops it.
 *   - One loop's fibers; no locking.
 */
#ifndef STRAKE_CLIENT_CLI_TRANSFER_H
#define STRAKE_CLIENT_CLI_TRANSFER_H

#include "client/cli/client.h"
#include "client/cli/progress.h"
#include "common/fiber.h"

#include <dirent.h>

#define TRANSFER_FIBERS 32
#define TRANSFER_PIECE  (512u * 1024) /* file content is moved in such pieces */

struct transfer_entry {
	struct transfer_entry *next;
	uint64_t ino;       /* in the filesystem; 0: not known */
	unsigned char type; /* DT_*, DT_UNKNOWN */
	bool has_stat;
	struct stat st;    /* with has_stat */
	uint64_t moved_ns; /* when something last succeeded for it */
	bool incomplete;   /* there is something at the destination that is not whole yet */
	const char *to;    /* its name at the destination: name, but for the root */
	char name[];
};

struct transfer_dir {
	struct transfer_dir *parent; /* NULL: holds the root entry only */
	char *name;                  /* in its parent's `to` terms */
	unsigned int refs;           /* entries and directories below that are not done, and one while it is listed */
	struct transfer_entry *first, *last;
	struct transfer_dir *below; /* in the stack */
	bool listing, listed;
	bool failed; /* something below it was not dealt with */

	/* The verb's: both sides of it. */
	int fd;          /* local directory; -1: none */
	DIR *stream;     /* of fd, which it owns then */
	uint64_t ino;    /* in the filesystem */
	uint64_t cookie; /* listed so far */
	struct stat st;  /* what it is to look like in the end */
	bool laid_out;   /* what is made in it inherits the stripe options */
};

struct transfer;
struct transfer_ops {
	/* Append some entries (transfer_add()), and set dir->listed after the last. 0 or -errno. */
	int (*list)(struct transfer *transfer, struct transfer_dir *dir);
	/* See to one entry; failures are told by transfer_fail(). */
	void (*copy)(struct transfer *transfer, struct transfer_dir *dir, struct transfer_entry *entry);
	/* The last of a directory; what is the verb's in it is released in any case. whole: nothing was left out. */
	void (*finish)(struct transfer *transfer, struct transfer_dir *dir, bool whole);
};

struct transfer {
	struct client *client;
	const struct transfer_ops *ops;
	const char *from, *to; /* what the root entry is called in messages */
	void *verb;            /* the verb's own */

	struct progress_counts counts;
	uint64_t others; /* neither files nor directories */
	uint64_t failures;
	uint64_t incomplete; /* files that were being written when it was interrupted */
	int stopped;         /* 0, or the -errno that ended it early */
	uint64_t began_ns;

	/* The rest is transfer.c's. */
	struct progress progress;
	struct transfer_dir *top;
	struct fiber_queue idle; /* fibers without work, and who waits for the end */
	unsigned int fibers;     /* that have not ended */
	unsigned int busy;       /* of them, those that may bring more work */
};

/*
 * Walk from the root entry `name` (in what `holder` says of the two sides, which is the caller's: fd and ino) until
 * all is done. recursive: with the whole pool. Answers -ENOMEM when it could not even start.
 */
int transfer_run(struct transfer *transfer, struct transfer_dir *holder, struct transfer_entry *root, bool recursive);

/* NULL: no memory. */
struct transfer_entry *transfer_entry_new(const char *name, size_t len);
/* An entry of a directory that is being listed; taken over. */
void transfer_add(struct transfer_dir *dir, struct transfer_entry *entry);

/* A directory below `parent` by the name entry->to, to be listed. Its verb's fields are zero (fd: -1). NULL: no memory. */
struct transfer_dir *transfer_push(struct transfer *transfer, struct transfer_dir *parent,
				   const struct transfer_entry *entry);

/* Something went well for it: the servers answer. */
void transfer_moved(struct transfer_entry *entry);

/*
 * This entry, or what remains of it, is not dealt with: says why, and whether it was at the source or the destination.
 * entry NULL: the directory itself.
 */
enum transfer_side { TRANSFER_SOURCE, TRANSFER_DEST };
void transfer_fail(struct transfer *transfer, struct transfer_dir *dir, struct transfer_entry *entry,
		   enum transfer_side side, int err);
/* The same with a sentence instead of an error. */
void transfer_complain(struct transfer *transfer, struct transfer_dir *dir, struct transfer_entry *entry,
		       enum transfer_side side, const char *sentence);
/* Something that is no failure, said once by the caller. */
void transfer_warn(struct transfer *transfer, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* CLI_OK, or CLI_FAILED after saying how much was left out. `doing` is "copied", "removed". */
int transfer_result(struct transfer *transfer, const char *doing);

/* ": 12 files, 3 directories in 3.2 s (4 files/s, 12.1 MB/s)"; returns out. */
#define TRANSFER_SUMMARY_SIZE 256
const char *transfer_summary(const struct transfer *transfer, char out[TRANSFER_SUMMARY_SIZE]);

#endif
