/*
 * What LMDB leaves to be done about a database: its file, the disk it lies on, the address space it is mapped into.
 *
 * The file comes into being whole or not at all. LMDB itself writes its first two pages and goes on;
 * where the power fails before they are on stable storage it takes what is left for a damaged database.
 *
 * Errors are LMDB's: of the system positive, its own negative.
 */
#ifndef STRAKE_COMMON_LMDB_FILE_H
#define STRAKE_COMMON_LMDB_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct MDB_env; /* lmdb.h */

/*
 * Before mdb_env_open(): an empty database in this folder, durably, where there is none. Waits for the disk. What a crash
 * leaves is called "data.mdb.new".
 */
int lmdb_file_make(const char *folder);

/*
 * Open the database in this folder, making it where there is none; *ret_env is the caller's, to be closed by
 * mdb_env_close(). It may grow to map_size bytes, a power of two; that is address space, not memory. Where address space is
 * limited it may grow to less, which is said in the log. MDB_CORRUPTED: the file is shorter than it says.
 */
int lmdb_file_open(const char *folder, unsigned int tables, size_t map_size, struct MDB_env **ret_env);

/* The same to read only, while nobody writes: nothing is made or changed, also on a disk that cannot be written. ENOENT. */
int lmdb_file_open_to_read(const char *folder, unsigned int tables, size_t map_size, struct MDB_env **ret_env);

/* As mdb_strerror(), and what to do where address space is the matter. */
const char *lmdb_file_error(int rc);

/*
 * Keep blocks allocated ahead of LMDB's end, up to `most` bytes, so that a full filesystem can still be emptied. Best
 * effort; at the opening and after each commit.
 */
void lmdb_file_reserve(struct MDB_env *env, uint64_t most);

/* A change failed with this: is it for want of room, so that nothing was changed and it may be tried again? */
bool lmdb_file_is_full(struct MDB_env *env, int rc);

/*
 * Each page of the file that was looked at stays mapped, and with it the 15 around it: the whole file counts as memory of
 * this process in the end, though it is the page cache's. Where more than `most` bytes of files are mapped here, the
 * database's are let go; what is looked at again is mapped again, without the disk. Takes 10 ns a page.
 */
void lmdb_file_limit_mapped(struct MDB_env *env, size_t most);

#endif
