/*
 * What an OST does for others: one function per operation, each in a file of its own. Each runs in a fiber, checks what
 * the peer sent, and answers the request exactly once.
 */
#ifndef STRAKE_OSS_OPERATIONS_H
#define STRAKE_OSS_OPERATIONS_H

#include "oss/ost.h"
#include "oss/ost_file.h"
#include "proto/oss.pb-c.h"

void ost_read(struct ost *ost, struct request *request);
void ost_write(struct ost *ost, struct request *request);
void ost_commit(struct ost *ost, struct request *request);
void ost_allocate(struct ost *ost, struct request *request);
void ost_copy(struct ost *ost, struct request *request);
void ost_glimpse(struct ost *ost, struct request *request);
void ost_seek(struct ost *ost, struct request *request);
void ost_cut(struct ost *ost, struct request *request);
void ost_destroy(struct ost *ost, struct request *request);
void ost_void(struct ost *ost, struct request *request);
void ost_sessions(struct ost *ost, struct request *request);
void ost_fsck_objects(struct ost *ost, struct request *request);
void ost_fsck_files(struct ost *ost, struct request *request);

/*
 * slot_op.c: what the operations of a client's slot have in common.
 *
 * Whose request it is, kept for the answer: the request itself may be replaced by its own resend meanwhile. begin: false
 * when it has been answered already (the session may not, a resend, a copy of what runs).
 */
struct ost_slot {
	uint64_t session;
	uint32_t slot, seq;
};
bool ost_slot_begin(struct ost *ost, struct request *request, struct ost_slot *ret_slot);
void ost_slot_finish(struct ost *ost, const struct ost_slot *slot, int err, const ProtobufCMessage *body);

/*
 * Around what is done to the disk for running->session: the last look whether it may, and from then on SESSIONS waits.
 * -ENOSESSION, -EAGAIN: it may not, and nothing was begun.
 */
int ost_change_begin(struct ost *ost, struct running_write *running);
void ost_change_end(struct ost *ost, struct running_write *running);

/* destroy.c: all objects of these contents; the error is the request's. */
int ost_destroy_contents(struct ost *ost, const uint64_t *inos, const uint64_t *gens, size_t count,
			 uint64_t newest_session);
/* Now and then (destroy.c): forget tombstones that no living session can need. */
void ost_sweep_tombstones(struct ost *ost);

/* The numbers of an object, and of a file's content: sensible? -EINVAL. */
int ost_check_file(uint64_t ino, uint64_t gen);
int ost_check_stripe(uint64_t stripe_size);
int ost_check_object(const Strake__Object *object);

#endif
