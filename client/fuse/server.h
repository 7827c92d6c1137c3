/*
 * One FUSE mount as its workers share it: the kernel's connection after INIT, the filesystem, what was negotiated.
 *
 * The kernel's protocol is spoken here directly (protocol.h); libfuse only mounts and unmounts (mount.c). Rules that
 * make it safe:
 *   - A reply leaves through the descriptor that read the request, by the thread that owns it.
 *   - A request is a fiber of the worker that read it; INTERRUPT may be read by any worker and is posted to that one.
 */
#ifndef STRAKE_CLIENT_FUSE_SERVER_H
#define STRAKE_CLIENT_FUSE_SERVER_H

#include "client/data/buffers.h"
#include "client/fs.h"
#include "client/fuse/protocol.h"
#include "common/loop.h"

#include <pthread.h>

#define FUSE_WRITE_SIZE  BUFFERS_SIZE /* max_write: a device buffer is BUFFERS_ROOM = that and 4 KiB */
#define FUSE_WORKERS_MAX 8

#define FUSE_EARLY_MAX 16

struct fuse_notifier; /* notify.h */
struct fuse_worker;   /* opaque: worker.c */

struct fuse_server {
	struct fs *fs;
	uint64_t flags; /* of INIT, as negotiated: FUSE_ASYNC_READ, ... */
	struct fuse_notifier *notifier;

	unsigned int worker_count;
	struct fuse_worker *_Atomic workers[FUSE_WORKERS_MAX]; /* NULL: being started, or ended */
	/* Called once, on a worker, when the kernel has ended the connection (unmount). */
	void (*ended)(struct fuse_server *server);
	_Atomic bool over;
	_Atomic uint64_t help_until_ns; /* the first worker alone is not enough until then (worker.c) */

	/* INTERRUPTs, by the unique id of the request they mean, that may have come before it was entered anywhere. */
	pthread_mutex_t early_lock;     /* guards the two below */
	uint64_t early[FUSE_EARLY_MAX]; /* 0: free */
	unsigned int early_next;
	_Atomic bool early_any; /* there was one */
};

/*
 * Read and answer INIT on the mount's descriptor (blocks until the kernel sends it). local_locks: the kernel is not asked to
 * ask for locks. *ret_flags: what was negotiated.
 * -EPROTO: a kernel older than 7.31 (Linux 5.4).
 */
int fuse_server_init(int fd, bool local_locks, uint64_t *ret_flags, char *error, size_t error_size);

/*
 * A worker on a clone of the mount's descriptor (its own one for index 0): starts a thread with a loop that serves
 * requests. 0 when it runs.
 */
int fuse_worker_start(struct fuse_server *server, int fd, unsigned int index);
/*
 * Stop serving, all of them: when the last request has been answered the fs workers are given back, and the threads end. Returns then, or
 * a second after the last answer: by iWARP it takes 10 s where a server is silent.
 */
void fuse_workers_quiet(struct fuse_server *server);
/* Likewise, and wait for the threads' end however long it takes. */
void fuse_workers_stop(struct fuse_server *server);

#endif
