/*
 * Admission: from a request to a record. The form is checked here (lengths, names, flags), and everything put into the
 * record that apply() may not find out by itself: time, numbers, holders, OSTs, facts.
 *
 *   - What is refused here leaves no trace; what becomes a record is answered by apply() and remembered in its slot.
 *   - Pure: clock and disk are the caller's.
 */
#ifndef STRAKE_MDS_ADMIT_H
#define STRAKE_MDS_ADMIT_H

#include "mds/layout_choose.h"
#include "mds/leases.h"
#include "mds/numbers.h"
#include "mds/opens.h"
#include "mds/record.h"
#include "mds/state.h"

/* With less than this on the MDT's disk nothing new is made, so that there is room to remove. */
#define ADMIT_ATIMES_MAX 4096 /* in one request */
#define ADMIT_RESERVE    (UINT64_C(64) * 1024 * 1024)

/* The MDT's state and its volatile tables: all that a decision may depend on. */
struct admission {
	struct state *state;
	struct opens *opens;
	struct leases *leases;
	struct numbers *numbers;
	struct layout_chooser *chooser;
	uint64_t disk_free; /* bytes on the MDT's disk, as last looked */
	bool space_low;     /* log or checkpoint has found it full */
	bool root_squash;   /* root is nobody: access_squash() */
	bool unfenced;      /* a session that was lost may write yet */
};

/* Who asks, from the frame. */
struct asker {
	uint64_t session; /* 0: none */
	uint32_t slot, seq;
	bool alone; /* adds names in that directory (alone.h) */
};

/*
 * Is the body what the operation needs? For all operations. 0, or what the kernel would have said: -EINVAL,
 * -ENAMETOOLONG, -EEXIST or -EBUSY for "." and "..", -ERANGE, -E2BIG, ...
 */
int admit_form(uint16_t op, const ProtobufCMessage *message);

/* The directory in which a change wants to add a name; 0: it adds none. */
uint64_t admit_adds_name_in(uint16_t op, const ProtobufCMessage *message);

/*
 * Make the record of a request whose form is right. Arrays go into space; body is borrowed. -EAGAIN: no number is free,
 * try again when more of the log is durable.
 */
int admit(const struct admission *admission, const struct asker *asker, uint16_t op, const ProtobufCMessage *message,
	  struct bytes body, uint64_t clock_ns, struct record_space *space, struct record *ret_record);

/* The time of the next record: the clock's, but later than the last one's. */
int64_t admit_time(const struct state *state, uint64_t clock_ns);

/* Others than the session may be writing the inode now. */
bool admit_is_unsure(const struct admission *admission, uint64_t session, uint64_t ino);

#endif
