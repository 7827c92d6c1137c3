/*
 * Frames over TCP: the transport of transport.h that runs everywhere.
 *
 *   - Everything queued for a connection leaves in one sendmsg(); several frames come in by one recvmsg(), and bulk
 *     goes straight to its destination but for what came along with the frame before it.
 *   - An idle connection has no buffers.
 *   - splice() raises SIGPIPE when the other end is gone: programs that send from pipes ignore it.
 */
#ifndef STRAKE_COMMON_TRANSPORT_TCP_H
#define STRAKE_COMMON_TRANSPORT_TCP_H

#include "common/loop.h"
#include "common/transport.h"

/*
 * To be called for a socket before listen() or connect(): where the system's congestion control is BBR, cubic is used. BBR
 * paces what it sends by timers; a cluster's network is too fast for that to be worth their cost. Others are the
 * administrator's choice and stay. It is too late after the handshake: a socket that has begun to pace goes on.
 */
void transport_tcp_unpaced(int fd);

/* -ENOMEM. */
int transport_tcp_new(struct loop *loop, const struct transport_limits *limits, struct transport **ret_transport);

#endif
