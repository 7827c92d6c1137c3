/*
 * The ledger of unstable writes: what this OST was asked to write and has not yet synced, in memory that outlives the
 * process (a file on tmpfs). So after a kill -9 the OST can tell "nothing is lost" from "something may be":
 *
 *     WRITE -> noted, with its sums -> disk -> done -> reply          COMMIT of everything -> forgotten
 *                        kill -9, start -> ledger_verify(): do the objects hold what was noted?
 *
 * If they do, the OST goes on under its old instance, and nobody needs to send anything again. If anything differs, or
 * there is no ledger (the machine went down), it takes a new instance.
 *
 *   - A ring of records. Nothing in it is believed: it may have been left by anybody.
 *   - What a cut or a DESTROY takes away is noted too, before it goes.
 *   - A loss is noticed by pages of BULK_PIECE bytes: of each, the last write must be there.
 *   - All functions take a NULL ledger: nothing is noted then, and every start is a new instance.
 *   - Belongs to the OST's loop; open and verify block.
 */
#ifndef STRAKE_OSS_LEDGER_H
#define STRAKE_OSS_LEDGER_H

#include "common/bulk_sums.h"
#include "common/frame.h"
#include "common/uuid.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LEDGER_SIZE     (4u * 1024 * 1024) /* of records: those of 3 GiB in large writes, of 80,000 small ones */
#define LEDGER_SUMS_MAX (FRAME_BULK_MAX / BULK_PIECE + 1)

struct ledger; /* opaque: ledger.c */

/*
 * The target's ledger in folder dir, made where there is none or none that is whole.
 * -EBUSY another process has it; -EPERM it is somebody else's; -ENOSPC; others of open(2) and mmap(2)
 */
int ledger_open(const char *dir, const struct uuid *target, struct ledger **ret_ledger);
/* remove: there is nothing left that could be lost. */
struct ledger *ledger_close(struct ledger *ledger, bool remove);

/* Under which instance it was kept; 0: none. */
uint64_t ledger_instance(const struct ledger *ledger);
/* Start anew, empty. Instance 0: it is of no use until the next one. */
void ledger_begin(struct ledger *ledger, uint64_t instance);

/*
 * Do the objects hold all that was noted as done?
 * -ESTALE  something is missing, or nobody can tell
 * others   of reading
 */
int ledger_verify(const struct ledger *ledger, int objects_dir);

/* Is there room for one more record, with so many sums? Where not: commit everything, ledger_forget(), look again. */
bool ledger_has_room(const struct ledger *ledger, size_t sum_count);

struct ledger_write {
	uint64_t ino, gen, seq, offset, length;
	const uint32_t *sums; /* of bulk_sums.h, by offset and length */
};

/* Before the bytes go to the disk; there is room. What to call ledger_done() with. */
uint64_t ledger_note_write(struct ledger *ledger, const struct ledger_write *write);
/* ok: they are all there, and this will be answered. */
void ledger_done(struct ledger *ledger, uint64_t note, bool ok);

/* [start, end) of the file loses its content: no need to look for it. There is room. */
void ledger_note_zeroed(struct ledger *ledger, uint64_t ino, uint64_t gen, uint64_t stripe_size, uint64_t start,
			uint64_t end);

/* All that is done by now and noted before the mark ... */
uint64_t ledger_mark(struct ledger *ledger);
/* ... is on stable storage: forget it. */
void ledger_forget(struct ledger *ledger, uint64_t mark);

#endif
