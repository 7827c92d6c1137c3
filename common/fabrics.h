/*
 * Which fabrics a program uses (the setting `transport`), and the transports of one peer or service: one for each fabric,
 * made when it is first wanted.
 */
#ifndef STRAKE_COMMON_FABRICS_H
#define STRAKE_COMMON_FABRICS_H

#include "common/logger.h"
#include "common/loop.h"
#include "common/transport.h"

#include <stdbool.h>

enum fabric { FABRIC_TCP, FABRIC_RDMA, FABRIC_COUNT };

enum fabrics_choice {
	FABRICS_AUTO, /* both, RDMA where it is to be had */
	FABRICS_RDMA, /* RDMA only */
	FABRICS_TCP,  /* TCP only */
};

/* "auto", "rdma", "tcp". -EINVAL. */
int fabrics_parse(const char *text, enum fabrics_choice *ret_choice);

/* For the whole program, before it makes threads; FABRICS_AUTO until then. Peers and services look when they are made. */
void fabrics_choose(enum fabrics_choice choice);

/* Is there what was chosen? -errno, and a sentence that says what to do. */
int fabrics_check(char *error, size_t error_size);

/* Is there RDMA here? 0, or an errno of transport_rdma_new(). */
int fabrics_probe_rdma(void);

struct fabrics {
	struct loop *loop;
	enum fabrics_choice choice;
	struct transport_limits limits;
	struct transport *transport[FABRIC_COUNT]; /* NULL: not wanted yet */
	int missing;        /* why there was no RDMA when it was last wanted: see fabrics_get(); or 0 */
	uint64_t looked_ns; /* when that was */
};

void fabrics_init(struct fabrics *fabrics, struct loop *loop, const struct transport_limits *limits);
/* Ends their connections without a word. Fine when it was never begun. */
void fabrics_release(struct fabrics *fabrics);

/*
 * Its transport. Errors of transport_rdma_new(): -ENOENT and -ELIBBAD are for good. -ENODEV and -EUNATCH are not: drivers may be loaded
 * while we run, so it is looked again when it is wanted again, but not at once.
 */
int fabrics_get(struct fabrics *fabrics, enum fabric fabric, struct transport **ret_transport);

/*
 * That RDMA is missing, and why. A warning where the kernel has devices, since somebody has put them there; else of that level.
 * Once for the program, but at LOGGER_DEBUG; when it is there all the same, later, that is said, too.
 */
void fabrics_say_missing(const struct fabrics *fabrics, enum logger_level level);

/* That of an address, "rdma://HOST:PORT" or "HOST:PORT", by what was chosen. -EPROTONOSUPPORT: it is not used. */
int fabrics_of(const struct fabrics *fabrics, const char *address, enum fabric *ret_fabric);

void fabrics_stats(const struct fabrics *fabrics, enum fabric fabric, struct transport_stats *ret_stats);
void fabrics_reclaim(struct fabrics *fabrics, unsigned int idle_ms);

/* Why RDMA cannot be used, in words, for an errno of transport_rdma_new() or of an RDMA transport's. */
const char *fabrics_rdma_reason(int err);

#endif
