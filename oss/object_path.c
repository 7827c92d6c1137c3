#include "oss/object_path.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

unsigned int object_folder(uint64_t ino, uint64_t gen)
{
	/* Numbers that follow each other spread evenly: multiplication by 2^64 / golden ratio (Knuth). */
	return (unsigned int)(((ino ^ (gen << 1)) * UINT64_C(0x9e3779b97f4a7c15)) >> 56);
}

void object_folder_name(unsigned int folder, char out[3])
{
	snprintf(out, 3, "%02x", folder % OBJECT_FOLDERS);
}

static void object_name(uint64_t ino, uint64_t gen, uint64_t seq, char out[OBJECT_PATH_SIZE])
{
	snprintf(out, OBJECT_PATH_SIZE, "%016" PRIx64 ".%016" PRIx64 ".%08" PRIx64, ino, gen, seq);
}

void object_path(uint64_t ino, uint64_t gen, uint64_t seq, char out[OBJECT_PATH_SIZE])
{
	char name[OBJECT_PATH_SIZE];

	object_name(ino, gen, seq, name);
	snprintf(out, OBJECT_PATH_SIZE, "%02x/%.60s", object_folder(ino, gen), name);
}

bool object_name_parse(unsigned int folder, const char *name, uint64_t *ret_ino, uint64_t *ret_gen, uint64_t *ret_seq)
{
	char again[OBJECT_PATH_SIZE];
	uint64_t ino, gen, seq;

	if (sscanf(name, "%16" SCNx64 ".%16" SCNx64 ".%12" SCNx64, &ino, &gen, &seq) != 3)
		return false;
	object_name(ino, gen, seq, again);
	if (strcmp(name, again) != 0 || object_folder(ino, gen) != folder || seq >= OBJECT_SEQ_MAX)
		return false;
	*ret_ino = ino;
	*ret_gen = gen;
	*ret_seq = seq;

	return true;
}
