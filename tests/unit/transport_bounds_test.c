/*
 * What a connection over RDMA takes of memory: what it registers and posts, and what it keeps of what the other end sends, who
 * writes his frames himself. The figures stand here as they stand in ARCHITECTURE.md.
 */
#include "common/rdma/rdma_internal.h"
#include "tests/unit/transport_fixture.h"

#include <errno.h>

#define PINNED    (68 * 8192)
#define SUM_MAX   (2 * 1024 * 1024)
#define ITSELF    (12 * 1024) /* struct rdma_conn */
#define OWN_FRAME (PREFACE_SIZE_MAX + FRAME_HEADER_SIZE)

static struct bounds {
	uint8_t bulk[4];
	unsigned int come; /* requests, by their messages */
} bounds;

static int bounds_frame(void *owner, const struct frame_header *header, const uint8_t *body, void **ret_bulk)
{
	(void)owner, (void)body;
	*ret_bulk = header->bulk_len > 0 ? bounds.bulk : NULL;
	return 0;
}

static int bounds_message(void *owner, const struct frame_header *header)
{
	(void)owner, (void)header;
	bounds.come++;
	return 0;
}

static const struct transport_events bounds_events = {
	.frame = bounds_frame,
	.message = bounds_message,
	.closed = end_closed,
};

static const struct fake_qp *qp_of(const struct end *end)
{
	return (const struct fake_qp *)rdma_conn_of(end->conn)->id->qp;
}

static size_t registered(void)
{
	size_t size = 0;

	for (unsigned int i = 0; i < REGIONS; i++)
		size += fabric.regions[i] != NULL ? fabric.regions[i]->length : 0;
	return size;
}

static unsigned int windows_made(void)
{
	unsigned int count = 0;

	for (unsigned int i = 0; i < WINDOWS_MAX; i++)
		count += fabric.all_windows[i] != NULL;
	return count;
}

/* So many requests, whose bulk is these pieces, written by hand. */
static void send_frames(struct world *world, unsigned int count, const struct preface *preface)
{
	struct frame_header header = { .version = FRAME_VERSION, .kind = FRAME_REQUEST };
	uint8_t *bytes = malloc((size_t)count * OWN_FRAME);
	size_t size = 0;

	for (unsigned int i = 0; i < preface->piece_count; i++)
		header.bulk_len += preface->pieces[i].size;
	for (unsigned int i = 0; i < count; i++) {
		header.xid = i + 1;
		size += preface_encode(preface, bytes + size);
		frame_encode(&header, bytes + size);
		size += FRAME_HEADER_SIZE;
	}
	assert(transport_send_bytes(world->near.conn, bytes, size) == 0);
	free(bytes);
}

static void begin(struct world *world)
{
	static const struct preface none;

	bounds = (struct bounds){ 0 };
	world_connect(world);
	send_frames(world, 1, &none);
	WAIT_FOR(bounds.come == 1);
}

/* Two ends, of one program. */
static void body_sum(struct world *world)
{
	static uint8_t memory[5 * 20000];
	const unsigned int sends = fabric.windows ? 64 + 128 : 64;

	begin(world);
	assert(registered() == 2 * PINNED && PINNED == CONN_MEMORY);
	assert(sizeof(struct rdma_conn) <= ITSELF && CONN_SUM <= SUM_MAX);
	for (int i = 0; i < 2; i++) {
		const struct end *end = i == 0 ? &world->near : &world->far;
		const struct fake_qp *qp = qp_of(end);

		assert(qp->max_receives == 35 && qp->receive_count == 35 && qp->max_sends == sends);
		assert(qp->base.recv_cq->cqe == 35 && qp->base.send_cq->cqe == (int)sends);
	}
	for (unsigned int i = 0; i < 40 && fabric.windows; i++) {
		const struct iovec bulk[4] = { { memory, 20000 },
					       { memory + 20000, 20000 },
					       { memory + 40000, 20000 },
					       { memory + 60000, 20000 } };
		const struct transport_message message = {
			.header = { .kind = FRAME_REQUEST, .xid = i + 2 },
			.bulk = bulk,
			.bulk_count = 4,
			.bulk_in = memory + 80000,
			.bulk_in_size = 20000,
		};

		assert(transport_send(world->near.conn, &message) == 0);
	}
	assert(windows_made() == (fabric.windows ? 64 : 0));
}

START_TEST(a_connection_takes_what_is_said)
{
	in_world(_i, (struct world){ .accepts = true, .events = &bounds_events }, body_sum);
}
END_TEST

static void is_bounded(const struct world *world)
{
	const size_t most = CREDITS_OURS * (SEGMENT_SIZE - SEGMENT_HEADER_SIZE) + OWN_FRAME;

	assert(world->far.conn != NULL && rdma_conn_of(world->far.conn)->stash_len <= most);
}

static int waiting(const struct ibv_cq *base)
{
	const struct fake_cq *cq = (const struct fake_cq *)base;

	return cq->count - cq->first;
}

/* It hears of nothing by itself until it has looked again. */
static void deafen(const struct rdma_conn *conn)
{
	((struct fake_cq *)conn->receive_cq)->armed = false;
	((struct fake_cq *)conn->send_cq)->armed = false;
}

/*
 * There are more requests than can have their bulk read at a time. Whenever some of it has been read a segment full of them is there,
 * too: a few are taken, and it is blocked again. This goes on as long as that brings credits.
 */
static void body_reads(struct world *world)
{
	enum { IN_SEGMENT = (SEGMENT_SIZE - SEGMENT_HEADER_SIZE) / (OWN_FRAME - 16), ROUNDS = 100 };
	static uint8_t memory[4];
	struct preface preface = { .apart = true, .piece_count = 4 };
	const struct rdma_conn *near;
	struct rdma_conn *far;
	struct ibv_mr *region;
	unsigned int sent = 1 + IN_SEGMENT;

	begin(world);
	near = rdma_conn_of(world->near.conn);
	far = rdma_conn_of(world->far.conn);
	region = ibv_reg_mr(near->device->domain->pd, memory, sizeof(memory), IBV_ACCESS_REMOTE_READ);
	for (unsigned int i = 0; i < 4; i++)
		preface.pieces[i] = (struct remote_piece){ (uintptr_t)memory + i, region->rkey, 1 };
	send_frames(world, IN_SEGMENT, &preface);
	WAIT_FOR(conn_waits(far));
	for (unsigned int i = 0; i < ROUNDS && near->credits.may_send > 0; i++) {
		const unsigned int delivered = fabric.delivered;

		deafen(far);
		send_frames(world, IN_SEGMENT, &preface);
		sent += IN_SEGMENT;
		WAIT_FOR(fabric.delivered > delivered && (waiting(far->send_cq) >= 4 || !conn_waits(far)));
		rdma_reap(far, false);
		rdma_receive(far);
		is_bounded(world);
		fiber_yield();
	}
	while (bounds.come < sent) {
		rdma_flush(far);
		rdma_receive(far);
		fiber_sleep_ms(1);
	}
	ibv_dereg_mr(region);
}

START_TEST(what_waits_for_bulk_to_be_read_is_bounded)
{
	in_world(_i, (struct world){ .accepts = true, .events = &bounds_events }, body_reads);
}
END_TEST

/* Requests that are not answered, and want something of their answers. */
static void body_places(struct world *world)
{
	const struct preface preface = { .place = { .address = 1, .key = 1, .size = 1 } };

	begin(world);
	send_frames(world, 5000, &preface);
	WAIT_FOR(world->far.conn == NULL);
	assert(world->far.closed == -EPROTO && bounds.come == 4096 + 1);
}

START_TEST(places_of_answers_are_bounded)
{
	in_world(_i, (struct world){ .accepts = true, .events = &bounds_events }, body_places);
}
END_TEST

TRANSPORT_MAIN("transport_bounds", { a_connection_takes_what_is_said, IN_MEMORY },
	       { what_waits_for_bulk_to_be_read_is_bounded, IN_MEMORY }, { places_of_answers_are_bounded, IN_MEMORY })
