#include "common/rdma/windows.h"

#include "common/rdma/rdma_internal.h"

#include <assert.h>

static void put_unused(struct windows *windows, struct window *window)
{
	window->next = windows->unused;
	windows->unused = window;
}

static void make_one(struct rdma_conn *conn)
{
	struct windows *windows = &conn->windows;
	struct window *window = &windows->all[windows->count];

	*window = (struct window){ .mw = ibv_alloc_mw(conn->device->domain->pd, IBV_MW_TYPE_2) };
	if (window->mw == NULL)
		return;
	window->key = window->mw->rkey;
	windows->count++;
	put_unused(windows, window);
}

struct window *window_take(struct rdma_conn *conn, const struct ibv_mw_bind_info *what)
{
	struct windows *windows = &conn->windows;
	struct window *window;

	if (windows->unused == NULL && windows->count < WINDOWS)
		make_one(conn);
	window = windows->unused;
	if (window == NULL)
		return NULL;
	assert(!window->used && window->work == 0);
	windows->unused = window->next;
	window->mw->rkey = window->key; /* the last, which verbs leave to us to note */
	window->key = ibv_inc_rkey(window->key);
	window->what = *what;
	window->state = WINDOW_TAKEN;
	window->used = true;
	return window;
}

void window_give(struct rdma_conn *conn, struct window *window)
{
	assert(window->used && (window->state == WINDOW_TAKEN || window->state == WINDOW_VOID));
	if (window->state == WINDOW_TAKEN) /* it never had that key */
		window->key = window->mw->rkey;
	window->used = false;
	if (window->work == 0)
		put_unused(&conn->windows, window);
}

void window_bind(struct rdma_conn *conn, struct window *window)
{
	assert(window->state == WINDOW_TAKEN);
	window->state = WINDOW_DUE;
	window->next = conn->windows.to_bind;
	conn->windows.to_bind = window;
}

struct ibv_send_wr *windows_bind(struct rdma_conn *conn, struct ibv_send_wr wr[WINDOWS], struct ibv_send_wr *first)
{
	struct windows *windows = &conn->windows;

	while (windows->to_bind != NULL) {
		struct window *window = windows->to_bind;

		windows->to_bind = window->next;
		window->state = WINDOW_BOUND;
		window->work++;
		*wr = (struct ibv_send_wr){
			.wr_id = WR_BIND + (uint64_t)(window - windows->all),
			.next = first,
			.opcode = IBV_WR_BIND_MW,
			.bind_mw = { .mw = window->mw, .rkey = window->key, .bind_info = window->what },
		};
		first = wr++;
	}
	return first;
}

void window_void(struct rdma_conn *conn, struct window *window, struct ibv_send_wr *wr)
{
	assert(window->state == WINDOW_BOUND);
	window->state = WINDOW_VOIDING;
	window->work++;
	conn->windows.voiding++;
	*wr = (struct ibv_send_wr){
		.wr_id = WR_VOID + (uint64_t)(window - conn->windows.all),
		.opcode = IBV_WR_LOCAL_INV,
		.invalidate_rkey = window->key,
	};
}

bool window_voided(struct rdma_conn *conn, uint32_t key)
{
	struct windows *windows = &conn->windows;

	for (unsigned int i = 0; i < windows->count; i++) {
		struct window *window = &windows->all[i];

		if (window->used && window->key == key && window->state == WINDOW_BOUND) {
			window->state = WINDOW_VOID;
			return true;
		}
	}
	return false;
}

void window_work_over(struct rdma_conn *conn, uint64_t wr_id)
{
	struct windows *windows = &conn->windows;
	const bool voided = wr_id >= WR_VOID;
	struct window *window = &windows->all[wr_id - (voided ? WR_VOID : WR_BIND)];

	window->work--;
	if (voided) {
		window->state = WINDOW_VOID;
		if (--windows->voiding == 0)
			rdma_resume_later(conn);
	}
	if (!window->used && window->work == 0)
		put_unused(windows, window);
}

void windows_free(struct rdma_conn *conn)
{
	struct windows *windows = &conn->windows;

	for (unsigned int i = 0; i < windows->count; i++)
		ibv_dealloc_mw(windows->all[i].mw);
	*windows = (struct windows){ 0 };
}
