/*
 * The MDT's state: per table an ordered map of byte strings. Changes go to a memory table; below it lie a frozen one (on
 * its way into LMDB) and the LMDB snapshot of the last checkpoint.
 *
 *     active table  (changes of the log since the freeze)
 *     frozen table  (NULL, or what a checkpoint is writing)
 *     LMDB          (everything up to the index in meta "applied")
 *
 *   - Belongs to the MDT's loop. Only the checkpoint thread also reads the frozen table, which nobody changes.
 *   - What view_get() and cursors lend is good until the loop's next iteration or the next change of that key.
 *   - Rows in LMDB carry a sum over table, key and value.
 *   - I/O errors and corruption of the LMDB file end the process with a last word (logger_die): there is no state to go
 *     on with.
 */
#ifndef STRAKE_MDS_VIEW_H
#define STRAKE_MDS_VIEW_H

#include "mds/bytes.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct view; /* opaque: view.c */

/* Keys are compared as bytes; numbers in them are big-endian. No key is empty. KEY_MAX is LMDB's bound. */
enum view_table {
	TABLE_META, /* "applied" and "format" in it are the view's own */
	TABLE_INODE,
	TABLE_DIRENT,
	TABLE_XATTR,
	TABLE_SESSION,
	TABLE_SLOT,
	TABLE_ORPHAN,
	TABLE_DESTROY,
	TABLE_CUT,
	TABLE_VOID,
	TABLE_COUNT,
};

#define VIEW_KEY_MAX   480
#define VIEW_VALUE_MAX (128 * 1024)

/*
 * Open (or make) dir/state (LMDB). *ret_applied is the index of the last record in it, 0 for a new one.
 * -EBADMSG damaged, -EINVAL of another format, or what the system says; error is a sentence.
 */
int view_open(const char *dir, struct view **ret_view, uint64_t *ret_applied, char *error, size_t error_size);
/*
 * The same to read only, while nobody serves it: nothing is made or changed. Where there is none, it is empty. Changes stay
 * in memory; there are no checkpoints.
 */
int view_open_to_read(const char *dir, struct view **ret_view, uint64_t *ret_applied, char *error, size_t error_size);
struct view *view_close(struct view *view); /* what is not checkpointed is forgotten: the log has it */

/* -ENOENT. */
int view_get(struct view *view, enum view_table table, struct bytes key, struct bytes *ret_value);

/* Copies key and value. Memory shortage ends the process. */
void view_put(struct view *view, enum view_table table, struct bytes key, struct bytes value);
void view_del(struct view *view, enum view_table table, struct bytes key); /* fine when it is not there */

/*
 * Ascending from the first key >= `from`, which may be empty. Changing the view ends the cursor's life: seek again.
 * A cursor on which seek or next answered -ENOENT has ended; ending it again is fine. None lives on into the loop's
 * next iteration.
 */
struct view_cursor {
	struct view *view;
	enum view_table table;
	struct bytes key, value; /* of the entry it stands on */

	/* view.c's own: where it stands in each layer. */
	const struct memtable_entry *active, *frozen;
	struct MDB_cursor *stored;
	struct bytes stored_key, stored_row;
	unsigned int here; /* the layers that have this key */
};
int view_seek(struct view *view, enum view_table table, struct bytes from,
	      struct view_cursor *ret_cursor); /* -ENOENT: none */
int view_next(struct view_cursor *cursor);     /* -ENOENT: no more */
void view_cursor_end(struct view_cursor *cursor);

/* Now and then: of what was read, no more than VIEW_MAPPED_MAX bytes stay mapped (lmdb_file.h). */
#define VIEW_MAPPED_MAX ((size_t)64 << 20)
void view_limit_mapped(struct view *view);

/* How much the active table holds, for the decision to checkpoint. 0: nothing to write. */
size_t view_active_bytes(const struct view *view);
bool view_is_frozen(const struct view *view);

/*
 * The four steps of a checkpoint (checkpoint.h runs them):
 * freeze    on the loop: the active table, which holds everything up to `index`, becomes the frozen one
 * write     on the checkpoint thread: one synced LMDB transaction, with meta "applied" = index. -ENOSPC, or
 *           -ENOMEM for want of address space: nothing was written, and it may be tried again
 * thaw      on the loop: read from the new snapshot; the frozen table is retired
 * release   on either thread, in a later iteration of the loop: free the retired table. Not necessary before
 *           view_close().
 */
void view_freeze(struct view *view, uint64_t index);
int view_write_frozen(struct view *view);
void view_thaw(struct view *view);
void view_release(struct view *view);

#endif
