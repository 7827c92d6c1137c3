/*
 * A record of the MDT's log: one request as it came, and what apply() may not decide because it would not come out the
 * same when the log is replayed: the time, the numbers taken, who has the inode open, which OSTs were chosen.
 *
 *     version, op, time, session, slot, seq, number, facts, counts | holders | ost_indices | body (protobuf)
 *
 *   - op is an operation of proto/ops.def, or one of the MDT's own below (bodies in proto/mdt_record.proto).
 *   - The arrays and the body are borrowed: of whoever made the record, or of the payload it was decoded from.
 *   - Pure.
 */
#ifndef STRAKE_MDS_RECORD_H
#define STRAKE_MDS_RECORD_H

#include "common/layout.h"
#include "common/ops.h"
#include "mds/view.h"

/* The MDT's own records. Numbers are for ever; no operation on the wire is that high. */
enum record_op {
	RECORD_FORMAT = 0xff01,
	RECORD_RESERVE = 0xff02,
	RECORD_EVICT = 0xff03,
	RECORD_UNSURE = 0xff04,
	RECORD_RELEASE = 0xff05,
	RECORD_ACK = 0xff06,
	RECORD_WRITERS = 0xff07,
};

/* What was so when the record was made, as only the volatile tables know. */
enum record_fact {
	FACT_ATTR_UNSURE = 1 << 0,     /* others may be writing the inode that the reply is about */
	FACT_REPLACED_UNSURE = 1 << 1, /* ... or the one that a RENAME replaces */
	FACT_OPEN_WRITE = 1 << 2,      /* the asker has the inode open for writing */
	FACT_NO_SPACE = 1 << 3,        /* the MDT's disk is nearly full: nothing may be made */
	FACT_OSTS_FULL = 1 << 4,       /* no OST was chosen because those that are up are full */
	FACT_SQUASH = 1 << 5,          /* root was nobody (access.h): the body has his credentials as they were sent */
	FACT_UNFENCED = 1 << 6,        /* a session that was lost may write yet: not every OST knows */
	FACT_ALONE = 1 << 7,           /* the asker alone adds names in that directory (alone.h) */
};

#define RECORD_HOLDERS_MAX 8192  /* as many as there may be sessions */
#define RECORD_IDS_MAX     65536 /* in the lists of the MDT's own records */

struct record {
	uint16_t op;
	uint16_t facts;
	int64_t time_ns;
	uint64_t session; /* 0: none */
	uint32_t slot, seq;
	uint64_t number; /* the number taken for it (inode, gen or session), 0: none */

	uint32_t holder_count;
	uint32_t ost_count;
	const uint64_t *holders; /* sessions that have the inode open which this may unlink; ascending */
	const uint16_t *osts;    /* chosen for the layout that this fixes */
	struct bytes body;
};

/* Memory for the arrays of a decoded record. */
struct record_space {
	uint64_t holders[RECORD_HOLDERS_MAX];
	uint16_t osts[LAYOUT_STRIPES_MAX];
};

size_t record_size(const struct record *record);
void record_encode(const struct record *record, void *out, size_t size);

/* Lends from payload and space. -EBADMSG: no record, or of a version that is not known. */
int record_decode(struct bytes payload, struct record_space *space, struct record *ret_record);

#endif
