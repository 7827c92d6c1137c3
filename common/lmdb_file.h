/*
 * The file of an LMDB database comes into being whole or not at all. LMDB itself writes its first two pages and goes on;
 * where the power fails before they are on stable storage it takes what is left for a damaged database.
 */
#ifndef STRAKE_COMMON_LMDB_FILE_H
#define STRAKE_COMMON_LMDB_FILE_H

/*
 * Before mdb_env_open(): an empty database in this folder, durably, where there is none. Waits for the disk. What a crash
 * leaves is called "data.mdb.new". Errors are LMDB's: of the system positive, its own negative.
 */
int lmdb_file_make(const char *folder);

#endif
