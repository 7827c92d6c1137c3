/*
 * Frames over RDMA: the transport of transport.h for whatever libibverbs knows. It is a plug-in, strake-rdma.so (its source
 * is common/rdma), that is loaded when it is first wanted, so that programs run where there are no verbs libraries. It is
 * looked for where it is built and installed: in ../lib, then in ../lib/strake, from the program's folder.
 */
#ifndef STRAKE_COMMON_TRANSPORT_RDMA_H
#define STRAKE_COMMON_TRANSPORT_RDMA_H

#include "common/loop.h"
#include "common/transport.h"

/*
 * -ENOENT   there is no plug-in
 * -ELIBBAD  it cannot be loaded: transport_rdma_reason() says why
 * -ENODEV   there is no RDMA device
 * -EUNATCH  the kernel's connection manager cannot be opened
 * -ENOMEM, and the like
 */
int transport_rdma_new(struct loop *loop, const struct transport_limits *limits, struct transport **ret_transport);

/* What -ENOBUFS of a connection is: the kernel does not pin its memory. */
#define TRANSPORT_RDMA_NOT_PINNED \
	"memory for RDMA cannot be pinned: raise RLIMIT_MEMLOCK (ulimit -l, LimitMEMLOCK= in the unit)"

/* Why there is no plug-in, in words; "" if it is loaded or was not wanted yet. Any thread. */
const char *transport_rdma_reason(void);

/* A port of a device, and what this machine's addresses are on it. */
#define RDMA_PORT_ADDRESSES_MAX 16
struct rdma_port {
	char device[64]; /* "mlx5_0" */
	unsigned int port;
	const char *state;    /* "active", "down", "init", "armed", "?" */
	const char *link;     /* "Ethernet", "InfiniBand", "?" */
	const char *protocol; /* "RoCE", "iWARP", "InfiniBand", "?" */
	uint64_t rate_mbps;   /* Mbit/s, as the link runs now; 0: not known */
	unsigned int mtu;     /* bytes of data in a packet, likewise */
	bool asked;           /* for addresses: there is a connection manager to ask */
	size_t address_count;
	struct rdma_port_address {
		char host[64];      /* numeric */
		char interface[64]; /* "eth0" */
	} addresses[RDMA_PORT_ADDRESSES_MAX];
};

/* Tell of every port. Errors are those of transport_rdma_new(); with -EUNATCH the ports are told, without addresses. */
int transport_rdma_ports(void (*tell)(void *arg, const struct rdma_port *port), void *arg);

/* What the plug-in has. */
int strake_transport_rdma_new(struct loop *loop, const struct transport_limits *limits,
			      struct transport **ret_transport);
int strake_transport_rdma_ports(void (*tell)(void *arg, const struct rdma_port *port), void *arg);

#endif
