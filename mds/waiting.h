/*
 * Replies that are ready and may not leave yet: until the log is on stable storage up to an index (cut.h), or until a time
 * (admission slows down when checkpoints lag). Belongs to the MDT's loop.
 */
#ifndef STRAKE_MDS_WAITING_H
#define STRAKE_MDS_WAITING_H

#include "common/loop.h"
#include "common/service.h"
#include "mds/mdt_log.h"

struct waiting; /* opaque: waiting.c */

int waiting_new(struct loop *loop, struct mdt_log *log, struct waiting **ret_waiting);
/* The service is gone already: the requests that wait are freed unanswered. */
struct waiting *waiting_free(struct waiting *waiting);

/*
 * Answer a request with err, log_index and a packed body, when durable has reached until_index (0: does not matter) and
 * delay_ms has passed: at once when both are so. The body is copied if need be.
 */
void waiting_reply(struct waiting *waiting, struct request *request, int err, uint64_t log_index, const void *body,
		   size_t body_size, uint64_t until_index, unsigned int delay_ms);

/* Durable has grown. */
void waiting_durable(struct waiting *waiting, uint64_t durable_index);

#endif
