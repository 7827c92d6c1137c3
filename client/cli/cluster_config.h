/*
 * What `strake cluster start` decided the first time and keeps: DIR/cluster.conf, an INI file.
 *
 *     [cluster]                         [ports]
 *     name = strake                     mgs = 12001
 *     listen = 127.0.0.1                mds0 = 12002
 *     osts = 4                          ost0 = 12003 ...
 *     durability = strict (may lack)
 *     transport = rdma (may lack)
 */
#ifndef STRAKE_CLIENT_CLI_CLUSTER_CONFIG_H
#define STRAKE_CLIENT_CLI_CLUSTER_CONFIG_H

#include "common/identity.h"

#include <stddef.h>
#include <stdint.h>

#define CLUSTER_OSTS_MAX     256
#define CLUSTER_OSTS_DEFAULT 4

struct cluster_config {
	char name[IDENTITY_NAME_MAX + 1];
	char listen[256];
	char durability[32]; /* "": the MDS's default */
	char transport[8];   /* "": auto */
	unsigned int ost_count;
	uint16_t mgs_port, mds_port;
	uint16_t ost_ports[CLUSTER_OSTS_MAX]; /* 0: not chosen yet */
};

/* A sentence comes with every error. -ENOENT: there is none; -EINVAL: it is not understood. */
int cluster_config_read(const char *dir, struct cluster_config *ret_config, char *error, size_t error_size);
int cluster_config_write(const char *dir, const struct cluster_config *config, char *error, size_t error_size);

/*
 * Choose what has no port yet. The ports are free now, and below those that the kernel deals out to outgoing
 * connections, so that they are still free when the cluster starts again.
 */
int cluster_config_choose_ports(struct cluster_config *config, char *error, size_t error_size);

/* Can somebody listen there now? 0, -EADDRINUSE, -EADDRNOTAVAIL, -EINVAL (no such host), -EACCES. */
int cluster_port_probe(const char *host, uint16_t port);

#endif
