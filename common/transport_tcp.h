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

/* -ENOMEM. */
int transport_tcp_new(struct loop *loop, const struct transport_limits *limits, struct transport **ret_transport);

#endif
