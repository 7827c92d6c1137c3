/*
 * A cluster on this machine, in one folder:
 *
 *     DIR/cluster.conf          what was chosen at the first start (cluster_config.h)
 *     DIR/mgs mds0 ost0 ...     data directories
 *     DIR/log/NAME.log          what the daemons say
 *     DIR/run/NAME.pid          which process it is: pid, start time, boot
 *
 * Whoever changes something holds a lock on DIR itself. A member is a daemon; the MGS is members[0], the MDS
 * members[1].
 */
#ifndef STRAKE_CLIENT_CLI_CLUSTER_H
#define STRAKE_CLIENT_CLI_CLUSTER_H

#include "client/cli/cluster_config.h"
#include "client/process.h"
#include "common/address.h"

#include <limits.h>
#include <stdbool.h>

#define CLUSTER_MEMBERS_MAX (2 + CLUSTER_OSTS_MAX)

struct cluster_member {
	enum role role;
	uint32_t index;
	char name[16]; /* "mgs", "mds0", "ost3": of its folder, log and pid file */
	const char *program;
	uint16_t port;
	bool running;
	struct process process; /* when it runs */
};

struct cluster {
	char dir[PATH_MAX]; /* absolute */
	int lock;           /* -1: not held */
	struct cluster_config config;
	struct address_list mgs; /* by which this machine reaches it, best first */
	struct cluster_member members[CLUSTER_MEMBERS_MAX];
	size_t member_count;
};

/* Take the lock on DIR (which exists), waiting for others. */
int cluster_lock(struct cluster *cluster, const char *dir, char *error, size_t error_size);
/* Read what is there; the lock is not needed to look. A sentence comes with every error; -ENOENT: no cluster. */
int cluster_load(struct cluster *cluster, const char *dir, char *error, size_t error_size);
/* Members as the configuration has them now, and which of them run. */
void cluster_find_members(struct cluster *cluster);
void cluster_release(struct cluster *cluster);

/* DIR/SUB/NAME SUFFIX of a member; out is PATH_MAX long. */
void cluster_member_path(const struct cluster *cluster, const struct cluster_member *member, const char *sub,
			 const char *suffix, char *out);
/* "HOST:PORT" by which this machine reaches it; "rdma://HOST:PORT" where it listens by RDMA only. */
void cluster_member_address(const struct cluster *cluster, const struct cluster_member *member, char out[ADDRESS_SIZE]);

/* Enter this process as the member's: called in the daemon-to-be, before exec. */
int cluster_member_enter(const struct cluster *cluster, const struct cluster_member *member);

/* A mount of this cluster on this machine. */
struct cluster_mount {
	char path[PATH_MAX];
	char source[PATH_MAX];
	struct process daemon;     /* pid 0: gone */
	unsigned int major, minor; /* its device number; 0 0: not known */
};
/* The newest first; also those in other mount namespaces. */
int cluster_mounts(const struct cluster *cluster, struct cluster_mount **ret_mounts, size_t *ret_count);
/* Is it what lies on top at its path, as pid (0: we) sees that? */
bool cluster_mount_is_seen(const struct cluster_mount *mount, pid_t pid);

struct cluster_start_options {
	/* NULL: not given */
	const char *name, *listen, *durability, *transport, *mount, *mount_options, *log_level, *go_on_from;
	unsigned int ost_count; /* 0: not given */
};
/* The verbs; exit statuses. */
int cluster_start(const char *dir, const struct cluster_start_options *options);
int cluster_stop(const char *dir);
int cluster_status(const char *dir, bool json);

#endif
