/*
 * Memory windows (type 2B), on devices that have them: what one call shows to the other end of memory that is registered for
 * nobody else. A window belongs to a connection. It is bound, by a BIND that goes before the request's SEND, to exactly what is
 * shown, under a key that the connection's queue pair alone honours and that differs each time; and is void again before anybody
 * hears that the call is over: the answer's SEND has voided it as it arrived (SEND with invalidate), or it is voided here
 * (LOCAL_INV), for which the answer's frame waits.
 *
 *     unused -> taken -> due -> (BIND is posted) bound -> void, or (LOCAL_INV is posted) voiding -> void -> unused
 *
 * What can go wrong:
 *   - The connection ends in any of these states: windows are freed, which voids them, before the queue pair goes, and it before
 *     anything is given back. A queue pair that still had one bound could not go on some devices (rxe waits for it).
 *   - A BIND or a LOCAL_INV fails: then the queue pair does, as by any other work, and the connection ends.
 *   - The other end voids what it may not, by guessing: only windows of this connection. What was bound counts as void then, and
 *     is its own loss; a key that is not of a bound window ends the connection.
 *   - An answer comes to what has not been sent: the connection ends; what is not bound is not voided (rxe's kernel would fall).
 *   - There is no window just now, or none to be had: bulk goes by the stream.
 *
 * A window is unused again only when the device has said of all work on it that it is over: two pieces of work at most each.
 */
#ifndef STRAKE_COMMON_RDMA_WINDOWS_H
#define STRAKE_COMMON_RDMA_WINDOWS_H

#include <infiniband/verbs.h>
#include <stdbool.h>
#include <stdint.h>

#define WINDOWS     64 /* of a connection; made when they are needed */
#define WINDOW_WORK (2 * WINDOWS)

/* Of a completion. */
#define WR_BIND (UINT64_C(3) << 32)
#define WR_VOID (UINT64_C(4) << 32)

struct rdma_conn;

enum window_state { WINDOW_TAKEN, WINDOW_DUE, WINDOW_BOUND, WINDOW_VOIDING, WINDOW_VOID };

struct window {
	struct window *next; /* of those that are unused, or to be bound */
	struct ibv_mw *mw;
	uint32_t key; /* that it has, or will have */
	struct ibv_mw_bind_info what;
	enum window_state state;
	unsigned int work; /* posted, and not known to be over */
	bool used;         /* by an offer */
};

struct windows {
	struct window all[WINDOWS];
	unsigned int count; /* made */
	struct window *unused, *to_bind;
	unsigned int voiding;
};

/* For so much of a region; access: IBV_ACCESS_REMOTE_*. It has its key, and is bound only after window_bind(). NULL: none. */
struct window *window_take(struct rdma_conn *conn, const struct ibv_mw_bind_info *what);
/* It is not bound: not yet, or not any more. */
void window_give(struct rdma_conn *conn, struct window *window);

/* With what is sent next, before it. */
void window_bind(struct rdma_conn *conn, struct window *window);
/* Those that wait for that, as work that goes before `first`. Returns what is to be posted. */
struct ibv_send_wr *windows_bind(struct rdma_conn *conn, struct ibv_send_wr wr[WINDOWS], struct ibv_send_wr *first);

/* One that is bound: *wr is to be posted. */
void window_void(struct rdma_conn *conn, struct window *window, struct ibv_send_wr *wr);
/* The other end has voided it. False: there is no such key. */
bool window_voided(struct rdma_conn *conn, uint32_t key);

/* Work by WR_BIND or WR_VOID is over. */
void window_work_over(struct rdma_conn *conn, uint64_t wr_id);

/* All are void, and none is used any more: the connection ends. Its queue pair is still there. */
void windows_free(struct rdma_conn *conn);

#endif
