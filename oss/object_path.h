/*
 * Where an object's file lies: objects/XX/<ino 16 hex>.<gen 16 hex>.<seq 8 hex>, XX by hash of (ino, gen), so that all
 * objects of a file lie in one of the OBJECT_FOLDERS folders. Pure.
 */
#ifndef STRAKE_OSS_OBJECT_PATH_H
#define STRAKE_OSS_OBJECT_PATH_H

#include <stdbool.h>
#include <stdint.h>

#define OBJECT_FOLDERS   256u
#define OBJECT_PATH_SIZE 64                  /* "XX/NAME" with the NUL; a seq above 32 bits has more digits */
#define OBJECT_SEQ_MAX   (UINT64_C(1) << 47) /* a file's 2^63 bytes in stripes of 64 KiB */

unsigned int object_folder(uint64_t ino, uint64_t gen);
void object_folder_name(unsigned int folder, char out[3]);
void object_path(uint64_t ino, uint64_t gen, uint64_t seq, char out[OBJECT_PATH_SIZE]); /* under objects/ */

/* The other way round, for a name in that folder. False: not the name of one of ours there. */
bool object_name_parse(unsigned int folder, const char *name, uint64_t *ret_ino, uint64_t *ret_gen, uint64_t *ret_seq);

#endif
