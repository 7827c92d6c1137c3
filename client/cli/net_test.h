/*
 * How fast a server answers, by each transport that leads to it: a loop, connections and fibers for as long as it takes.
 * What it asks (NET_TEST) every server knows, and answers from memory of its own.
 */
#ifndef STRAKE_CLIENT_CLI_NET_TEST_H
#define STRAKE_CLIENT_CLI_NET_TEST_H

#include "common/address.h"
#include "common/fabrics.h"
#include "common/key.h"
#include "common/ops.h"
#include "common/uuid.h"

#define NET_TEST_BULK  (1024u * 1024u) /* bytes of one call */
#define NET_TEST_DEPTH 4               /* such calls at a time */
#define NET_TEST_AGAIN 3               /* times that a call is asked again when its connection breaks */

struct net_test_options {
	const char *address; /* "HOST:PORT", "rdma://HOST:PORT" */
	enum fabrics_choice choice;
	const struct key *key;
	unsigned int measure_ms; /* each of the three */
};

struct net_latency {
	uint64_t calls, min_ns, median_ns, p99_ns;
};

struct net_transport_result {
	enum fabric fabric;
	bool wanted;                /* by the options */
	char address[ADDRESS_SIZE]; /* "": none was found */
	int err;                    /* 0: measured; -ENODEV: one of the ends does not have it */
	char error[512];
	struct net_latency latency;
	double to_server, from_server; /* bytes a second */
	unsigned int lost;             /* calls whose connection broke; asked again */
};

struct net_test_result {
	char address[ADDRESS_SIZE]; /* by which the server was found */
	enum role role;
	struct uuid fs, target;
	struct net_transport_result transports[FABRIC_COUNT];
};

/* -errno and a sentence: the server was not found. Else what became of each transport stands in the result. */
int net_test_run(const struct net_test_options *options, struct net_test_result *ret_result, char *error,
		 size_t error_size);

/* Was each transport measured that was wanted, and that both ends have? */
bool net_test_passed(const struct net_test_result *result);

#endif
