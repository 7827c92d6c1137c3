/* What `strake net` finds, as text and as JSON on stdout. */
#ifndef STRAKE_CLIENT_CLI_NET_PRINT_H
#define STRAKE_CLIENT_CLI_NET_PRINT_H

#include "client/cli/net_test.h"
#include "common/json.h"
#include "common/transport_rdma.h"

struct net_devices_print {
	bool as_json;
	unsigned int ports;
	struct json json;
};

void net_devices_begin(struct net_devices_print *print, bool as_json);
/* Of transport_rdma_ports(), with the print. */
void net_devices_port(void *print, const struct rdma_port *port);
/* err: that of transport_rdma_ports(). -EIO. */
int net_devices_end(struct net_devices_print *print, int err);

/* -EIO. */
int net_test_print(const struct net_test_result *result, bool as_json);

#endif
