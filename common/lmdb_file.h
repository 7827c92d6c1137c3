/*
 * What LMDB leaves to be done about the file of a database.
 *
 * It comes into being whole or not at all. LMDB itself writes its first two pages and goes on;
 * where the power fails before they are on stable storage it takes what is left for a damaged database.
 */
#ifndef STRAKE_COMMON_LMDB_FILE_H
#define STRAKE_COMMON_LMDB_FILE_H

#include <stddef.h>

struct MDB_env; /* lmdb.h */

/*
 * Before mdb_env_open(): an empty database in this folder, durably, where there is none. Waits for the disk. What a crash
 * leaves is called "data.mdb.new". Errors are LMDB's: of the system positive, its own negative.
 */
int lmdb_file_make(const char *folder);

/*
 * Each page of the file that was looked at stays mapped, and with it the 15 around it: the whole file counts as memory of
 * this process in the end, though it is the page cache's. Where more than `most` bytes of files are mapped here, the
 * database's are let go; what is looked at again is mapped again, without the disk. Takes 10 ns a page.
 */
void lmdb_file_limit_mapped(struct MDB_env *env, size_t most);

#endif
