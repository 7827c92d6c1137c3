/* The ledger's form in memory: a page with the header, then the ring. Between ledger.c and ledger_verify.c. */
#ifndef STRAKE_OSS_LEDGER_INTERNAL_H
#define STRAKE_OSS_LEDGER_INTERNAL_H

#include "common/ledger_path.h"
#include "oss/ledger.h"

#define LEDGER_MAGIC       UINT64_C(0x31676c6b61727473) /* "strakgl1" */
#define LEDGER_HEADER_SIZE 4096u
#define LEDGER_ALIGN       8u

/* A position counts all bytes ever noted; it lies in the ring at its remainder. */
struct ledger_header {
	uint64_t magic;
	struct uuid target;
	uint64_t instance;
	uint64_t begin, end;
};

enum ledger_kind { LEDGER_PAD = 1, LEDGER_WRITE, LEDGER_ZEROED };
enum ledger_state { LEDGER_RUNNING = 1, LEDGER_DONE, LEDGER_FAILED };

struct ledger_record {
	uint32_t size; /* of all of it, a multiple of LEDGER_ALIGN */
	uint16_t kind, state;
	uint64_t ino, gen;
	union {
		struct {
			uint64_t seq, offset, length;
		} write; /* and its sums behind the record */
		struct {
			uint64_t stripe_size, start, end;
		} zeroed;
	};
	uint32_t sums[];
};

struct ledger {
	int fd;
	struct ledger_header *header;
	uint8_t *ring;
	uint64_t settled; /* nothing before it is running */
	char path[LEDGER_PATH_SIZE];
};

/* The record at a position, pads left out; NULL at the end or where there is nonsense. *position is then behind it. */
const struct ledger_record *ledger_next(const struct ledger *ledger, uint64_t *position);

#endif
