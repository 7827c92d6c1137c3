/*
 * What an OST knows of its objects besides their bytes (index_rows.h), in an LMDB environment DIR/index.
 *
 *     announced  objects whose files are not durable yet (the loop's)
 *     pending    changes since the last commit began     (the loop's)
 *     frozen     what the index thread is committing     (nobody changes it)
 *     LMDB       the snapshot after the last commit
 *
 *   - Everything but the commits happens on the OST's loop. Rows are found in the first of the four that knows.
 *   - An object is announced when its file is made, and put when file and name are on stable storage. So after a crash a
 *     row without a file is damage, while a file without a row is just young.
 *   - A commit is one synced transaction. It begins when somebody waits in index_sync(), and INDEX_COMMIT_MS after the
 *     first change otherwise. Changes become durable in the order in which they were made.
 *   - A clean stop leaves the mark "clean", with the OST's instance; the start takes it away, durably. Where it is missing,
 *     index_recover() makes index and folders agree.
 *   - ENOSPC at a commit (also for want of address space) is its waiters' error, and it is tried again; space is reserved so
 *     that it hardly happens. Where the disk refuses (EIO, EROFS) no other commit is tried, as nobody knows what became of
 *     that one's pages: rows are read on from the snapshot, and all that waits, or comes, is -EIO. Any other failure of a
 *     commit, a damaged row or memory shortage ends the process with a last word (logger_die): there is nothing to go on with.
 */
#ifndef STRAKE_OSS_INDEX_H
#define STRAKE_OSS_INDEX_H

#include "common/loop.h"
#include "common/uuid.h"
#include "oss/index_rows.h"

#define INDEX_COMMIT_MS 500

struct index; /* opaque: index.c */

/*
 * Open dir/index; with make, make it for target where there is none. ret_clean: it was stopped cleanly (or is new), the
 * folders need not be looked at. Errors come with a sentence: -ENOENT there is none; -EINVAL damaged, another target's or
 * a newer format; others of the filesystem.
 */
int index_open(const char *dir, const struct uuid *target, bool make, struct index **ret_index, bool *ret_clean,
	       char *error, size_t error_size);

struct index_recovery {
	uint64_t known, entered, removed, foreign; /* files found: in the index; entered now; leftovers; not ours */
};
/*
 * After an unclean stop, before index_start(): read all folders under objects_dir, enter objects the index does not know,
 * unlink those that a tombstone or the last cut of their file had doomed; what is kept is synced. losing(arg): before
 * something goes that may have been written since the cut.
 */
int index_recover(struct index *index, int objects_dir, bool syncfs_works, void (*losing)(void *arg), void *arg,
		  struct index_recovery *ret_recovery);

/* As what the OST was stopped cleanly; 0: it was not, or is new. */
uint64_t index_clean_instance(const struct index *index);

/* Take the clean mark away and start the index thread. Changes are allowed from now on. */
int index_start(struct index *index, struct loop *loop);

/*
 * In a fiber, once index_start() was called. clean_instance: all changes have been synced, leave the mark; 0: what has not
 * been committed is forgotten, as by a crash. -EIO and others when the mark cannot be left; closed in any case.
 */
int index_close(struct index *index, uint64_t clean_instance);

/* -ENOENT. */
int index_get_object(struct index *index, uint64_t ino, uint64_t gen, uint64_t seq, struct index_object *ret_object);
int index_get_file(struct index *index, uint64_t ino, uint64_t gen, struct index_file *ret_file);

/* The first object of (ino, gen) with at least that seq. -ENOENT. */
int index_next_object(struct index *index, uint64_t ino, uint64_t gen, uint64_t seq, uint64_t *ret_seq,
		      struct index_object *ret_object);

/* The first row of key's kind at or above *key, which becomes its. -ENOENT. */
int index_next(struct index *index, struct index_key *key, union index_value *ret_value);

void index_announce_object(struct index *index, uint64_t ino, uint64_t gen, uint64_t seq, struct index_object object);
void index_put_object(struct index *index, uint64_t ino, uint64_t gen, uint64_t seq, struct index_object object);
void index_delete_object(struct index *index, uint64_t ino, uint64_t gen, uint64_t seq);
void index_put_file(struct index *index, uint64_t ino, uint64_t gen, struct index_file file);
void index_put_void(struct index *index, uint64_t first, struct index_void range);

/* The first tombstone at or above *key, in the order of newest_session, if that is below `session`. -ENOENT. */
int index_next_tombstone(struct index *index, uint64_t session, struct index_key *key);
void index_drop_tombstone(struct index *index, uint64_t ino, uint64_t gen);

/* The number of the last change: what to wait for. */
uint64_t index_last_change(const struct index *index);
/* ... so that what index_get_file() tells is durable; 0: it is. */
uint64_t index_file_change(const struct index *index, uint64_t ino, uint64_t gen);

/* Wait, in a fiber, until all changes up to that one are durable. -ENOSPC, -EDQUOT: not yet; the changes stay. -EIO: never. */
int index_sync(struct index *index, uint64_t change);
/* The disk takes nothing any more: what was committed can be read, and nothing else will be. */
bool index_is_broken(const struct index *index);

#endif
