/*
 * Frames over TCP. One struct transport_tcp serves the connections of one service or peer on one loop.
 *
 *   - Everything queued for a connection leaves in one sendmsg(); several frames come in by one recvmsg(), and bulk
 *     goes straight to its destination but for what came along with the frame before it.
 *   - An idle connection has no buffers.
 *   - sendfile() raises SIGPIPE when the other end is gone: programs that send files ignore it.
 */
#ifndef STRAKE_COMMON_TRANSPORT_TCP_H
#define STRAKE_COMMON_TRANSPORT_TCP_H

#include "common/loop.h"
#include "common/transport.h"

#include <sys/socket.h>

struct transport_tcp; /* opaque: transport_tcp.c */

int transport_tcp_new(struct loop *loop, const struct transport_limits *limits, struct transport_tcp **ret_tcp);
/* Closes its connections without a word to their owners; returns NULL. */
struct transport_tcp *transport_tcp_free(struct transport_tcp *tcp);

void transport_tcp_stats(const struct transport_tcp *tcp, struct transport_stats *ret_stats);

/* Begin to connect; it is in its opening from now on, and what is sent waits. A later failure comes as `closed`. */
int transport_tcp_connect(struct transport_tcp *tcp, const struct sockaddr *address, socklen_t address_len,
			  const struct transport_events *events, void *owner, struct transport_conn **ret_conn);

/* Take over an accepted, non-blocking socket; closed also on failure. */
int transport_tcp_adopt(struct transport_tcp *tcp, int fd, const struct transport_events *events, void *owner,
			struct transport_conn **ret_conn);

#endif
