/*
 * READ: the bytes of an object, with their sums. What the page cache has is read at once, the rest comes through the ring.
 *
 * Where no sums are asked for nobody here needs to see the bytes: pages that the page cache has go by reference into a pipe
 * (sendfile), while it is our turn at the object, and from there into the socket when that takes them (splice). So how many
 * there are is known before it is promised, and who reads slowly is in nobody's way. What is not in the page cache, or small,
 * goes through a buffer; so does all that goes by RDMA, which the device takes out of the buffer, and would have to be copied
 * out of a pipe.
 *
 * The pages remain the file's until the reader has them: of what is written there meanwhile he may see a part.
 */
#include "common/bulk_sums.h"
#include "oss/operations.h"
#include "oss/ost_object.h"

#include <errno.h>

#define SENDFILE_MIN (128u * 1024) /* below it a copy is cheaper than the system calls that save it */
#define SUMS_MAX     (DATA_POOL_MAX / BULK_PIECE + 1)

/* An object that is being read, and what must be given back. */
struct reading {
	struct ost *ost;
	struct ost_file *file;
	struct ost_object *object;
	struct object_turn turn;
};

/* How much of [offset, offset + length) there is; -ENOENT: no object, so nothing. */
static int reading_begin(struct reading *reading, struct ost *ost, const Strake__ReadRequest *read, size_t *ret_length)
{
	const Strake__Object *id = read->object;
	int err;

	*reading = (struct reading){ .ost = ost };
	err = file_enter(ost, id->ino, id->gen, id->stripe_size, id->cut, false, &reading->file);
	if (err < 0)
		return err;
	err = object_get(reading->file, id->seq, false, &reading->object);
	if (err < 0) {
		file_leave(reading->file);
		return err;
	}
	object_begin(reading->object, &reading->turn, read->offset, (uint64_t)read->offset + read->length, false,
		     false);
	*ret_length = 0;
	if (read->offset < reading->object->size) {
		uint64_t left = reading->object->size - read->offset;

		*ret_length = left < read->length ? (size_t)left : read->length;
	}

	return 0;
}

static void reading_end(struct reading *reading)
{
	object_end(reading->object, &reading->turn);
	object_put(reading->object);
	file_leave(reading->file);
}

static ssize_t read_bytes(struct reading *reading, void *data, size_t length, uint64_t offset)
{
	struct disk *disk = reading->ost->disk;
	int fd = reading->object->fd;
	ssize_t cached, rest;

	cached = disk_pread_cached(disk, fd, data, length, offset);
	if (cached < 0)
		return ost_io_error(reading->ost, (int)cached);
	if ((size_t)cached == length)
		return cached;
	rest = disk_pread(disk, fd, (char *)data + cached, length - (size_t)cached, offset + (uint64_t)cached);
	if (rest < 0)
		return ost_io_error(reading->ost, (int)rest);

	return cached + rest;
}

static void reply_bytes(struct ost *ost, struct request *request, struct bulk *bulk, size_t length)
{
	const Strake__ReadRequest *read = (const Strake__ReadRequest *)request->body;
	Strake__ReadReply body = STRAKE__READ_REPLY__INIT;
	struct reply reply = { .body = &body.base, .owner = bulk };
	uint32_t sums[SUMS_MAX];

	body.length = (uint32_t)length;
	body.instance = ost->instance;
	if (length > 0) {
		reply.bulk[0] = (struct iovec){ .iov_base = bulk->data, .iov_len = length };
		reply.bulk_count = 1;
	}
	if (length > 0 && !read->no_sums) {
		body.n_sums = bulk_sums_count(read->offset, length);
		body.sums = sums;
		bulk_sums_make(read->offset, reply.bulk, 1, sums);
	}
	service_reply(request, &reply);
}

/* All that there is to read, from the page cache without a copy: how much. 0: it takes a buffer, or something is wrong. */
static size_t fill_pipe(struct ost *ost, const Strake__ReadRequest *read, const struct page_pipe *pipe)
{
	struct reading reading;
	size_t length, got = 0;

	if (reading_begin(&reading, ost, read, &length) < 0)
		return 0;
	/* A filesystem may lock the file for it, and the loop is not to wait for a write. */
	if (length >= SENDFILE_MIN && !object_queue_is_written(&reading.object->queue))
		got = disk_sendfile_cached(ost->disk, reading.object->fd, pipe->in, length, read->offset);
	reading_end(&reading);

	return got == length ? got : 0;
}

static bool read_by_sendfile(struct ost *ost, struct request *request)
{
	const Strake__ReadRequest *read = (const Strake__ReadRequest *)request->body;
	struct page_pipe *pipe = page_pipe_get(&ost->pipes);
	Strake__ReadReply body = STRAKE__READ_REPLY__INIT;
	struct reply reply = { .body = &body.base };

	if (!pipe)
		return false;
	reply.pipe = pipe->out;
	reply.pipe_len = fill_pipe(ost, read, pipe);
	if (reply.pipe_len == 0) {
		pipe->bulk.release(&pipe->bulk);
		return false;
	}
	reply.owner = &pipe->bulk;
	body.length = (uint32_t)reply.pipe_len;
	body.instance = ost->instance;
	ost->reads_by_sendfile++;
	service_reply(request, &reply);

	return true;
}

/* Memory to read into. A frame that stands still in such memory is no reason to wait for long. */
static struct bulk *read_buffer(struct ost *ost, size_t size)
{
	struct bulk *bulk = data_pool_get(ost->buffers, size);

	if (bulk)
		return bulk;
	if (ost->service)
		service_bulk_wanted(ost->service);
	return data_pool_wait(ost->buffers, size);
}

static void read_object(struct ost *ost, struct request *request)
{
	const Strake__ReadRequest *read = (const Strake__ReadRequest *)request->body;
	struct bulk *bulk = read_buffer(ost, read->length);
	struct reading reading;
	size_t length;
	ssize_t got;
	int err;

	err = reading_begin(&reading, ost, read, &length);
	if (err == -ENOENT) {
		reply_bytes(ost, request, bulk, 0);
		return;
	}
	if (err < 0) {
		bulk->release(bulk);
		service_reply_error(request, err);
		return;
	}
	got = read_bytes(&reading, bulk->data, length, read->offset);
	reading_end(&reading);
	if (got < 0) {
		bulk->release(bulk);
		service_reply_error(request, (int)got);
		return;
	}
	reply_bytes(ost, request, bulk, (size_t)got);
}

static bool may_be_by_sendfile(const struct request *request, const Strake__ReadRequest *read)
{
	return read->no_sums && read->length >= SENDFILE_MIN && service_conn_fabric(request->conn) == FABRIC_TCP;
}

void ost_read(struct ost *ost, struct request *request)
{
	const Strake__ReadRequest *read = (const Strake__ReadRequest *)request->body;
	int err = ost_check_object(read->object);

	if (err == 0 && (read->length > DATA_POOL_MAX || read->offset > read->object->stripe_size ||
			 read->length > read->object->stripe_size - read->offset))
		err = -EINVAL;
	if (err < 0) {
		service_reply_error(request, err);
		return;
	}
	if (may_be_by_sendfile(request, read) && read_by_sendfile(ost, request))
		return;
	read_object(ost, request);
}
