/*
 * Where an OST's ledger of unstable writes lies (oss/ledger.h): in memory that outlives the OST's process and not the
 * machine. It is the OST's; a cluster that is stopped takes away what a killed one has left.
 */
#ifndef STRAKE_COMMON_LEDGER_PATH_H
#define STRAKE_COMMON_LEDGER_PATH_H

#include "common/uuid.h"

#include <stdio.h>

#define LEDGER_DIR       "/dev/shm" /* if that is a tmpfs */
#define LEDGER_PATH_SIZE 4096

static inline void ledger_path(const char *dir, const struct uuid *target, char out[LEDGER_PATH_SIZE])
{
	char name[UUID_STRING_SIZE];

	snprintf(out, LEDGER_PATH_SIZE, "%s/strake-ost-%s", dir, uuid_format(target, name));
}

#endif
