#include "oss/disk.h"

#include "common/container_of.h"
#include "common/fiber.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define RING_ENTRIES    256
#define SUBMIT_RETRY_NS (1 * NSEC_PER_MSEC)

struct disk {
	struct loop *loop;
	struct io_uring ring;
	struct loop_watch watch; /* the ring's descriptor: completions wait */
	struct loop_hook hook;
	struct loop_timer retry; /* the kernel would not take what we submit: soon again */
	unsigned int prepared;   /* entries not submitted yet */
	unsigned int in_flight;  /* prepared or submitted, not completed; never more than `bound` */
	unsigned int bound;
	struct fiber_queue room;
	int (*fault)(void *arg, enum disk_op op);
	void *fault_arg;
};

/* One operation, on the stack of the fiber that waits for it. */
struct operation {
	int result;
	bool done;
	struct fiber_queue queue;
};

static void reap(struct disk *disk)
{
	struct io_uring_cqe *cqe;
	unsigned int head, count = 0;

	io_uring_for_each_cqe(&disk->ring, head, cqe)
	{
		struct operation *operation = io_uring_cqe_get_data(cqe);

		operation->result = cqe->res;
		operation->done = true;
		fiber_wake_all(&operation->queue);
		count++;
	}
	if (count == 0)
		return;
	io_uring_cq_advance(&disk->ring, count);
	assert(count <= disk->in_flight);
	disk->in_flight -= count;
	for (unsigned int i = 0; i < count; i++)
		fiber_wake_one(&disk->room);
}

static void submit(struct disk *disk)
{
	int done;

	if (disk->prepared == 0)
		return;
	done = io_uring_submit(&disk->ring);
	if (done > 0)
		disk->prepared -= (unsigned int)done < disk->prepared ? (unsigned int)done : disk->prepared;
	/* -EAGAIN, -EBUSY, -EINTR: the kernel is short of something. What is prepared stays prepared. */
	if (disk->prepared > 0)
		loop_timer_set(disk->loop, &disk->retry, loop_now_ns(disk->loop) + SUBMIT_RETRY_NS);
}

static void run_hook(struct loop_hook *hook)
{
	struct disk *disk = container_of(hook, struct disk, hook);

	submit(disk);
	reap(disk); /* what completed at once goes on in this iteration */
}

static void ring_ready(struct loop_watch *watch, uint32_t events)
{
	(void)events;
	reap(container_of(watch, struct disk, watch));
}

static void retry_expired(struct loop_timer *timer)
{
	(void)timer; /* the hook follows */
}

int disk_new(struct loop *loop, struct disk **ret_disk)
{
	struct disk *disk = calloc(1, sizeof(*disk));
	struct io_uring_params params = { .flags = IORING_SETUP_COOP_TASKRUN };
	int err;

	if (!disk)
		return -ENOMEM;
	err = io_uring_queue_init_params(RING_ENTRIES, &disk->ring, &params);
	if (err == -EINVAL) { /* a kernel before 5.19 */
		params = (struct io_uring_params){ 0 };
		err = io_uring_queue_init_params(RING_ENTRIES, &disk->ring, &params);
	}
	if (err < 0) {
		free(disk);
		return err;
	}
	disk->loop = loop;
	disk->bound = params.cq_entries;
	disk->watch = (struct loop_watch){ .fd = disk->ring.ring_fd, .ready = ring_ready };
	disk->hook = (struct loop_hook){ .run = run_hook };
	disk->retry = (struct loop_timer){ .expired = retry_expired };
	err = loop_watch_add(loop, &disk->watch, EPOLLIN);
	if (err < 0) {
		io_uring_queue_exit(&disk->ring);
		free(disk);
		return err;
	}
	loop_hook_add(loop, LOOP_STAGE_STORE, &disk->hook);
	*ret_disk = disk;

	return 0;
}

struct disk *disk_free(struct disk *disk)
{
	if (!disk)
		return NULL;
	assert(disk->in_flight == 0);
	loop_timer_cancel(&disk->retry);
	loop_hook_remove(disk->loop, LOOP_STAGE_STORE, &disk->hook);
	loop_watch_remove(&disk->watch);
	io_uring_queue_exit(&disk->ring);
	free(disk);

	return NULL;
}

void disk_set_fault(struct disk *disk, int (*fault)(void *arg, enum disk_op op), void *arg)
{
	disk->fault = fault;
	disk->fault_arg = arg;
}

/* An entry to fill in; waits for room. */
static struct io_uring_sqe *prepare(struct disk *disk)
{
	struct io_uring_sqe *sqe;

	assert(fiber_self());
	for (;;) {
		while (disk->in_flight >= disk->bound)
			fiber_wait(&disk->room, NULL);
		sqe = io_uring_get_sqe(&disk->ring);
		if (sqe)
			break;
		submit(disk); /* the submission queue is the smaller one */
		if (disk->prepared > 0)
			fiber_yield();
	}
	disk->in_flight++;
	disk->prepared++;

	return sqe;
}

static int await(struct io_uring_sqe *sqe)
{
	struct operation operation = { 0 };

	io_uring_sqe_set_data(sqe, &operation);
	while (!operation.done)
		fiber_wait(&operation.queue, NULL);

	return operation.result;
}

static int check_fault(struct disk *disk, enum disk_op op)
{
	return disk->fault ? disk->fault(disk->fault_arg, op) : 0;
}

int disk_openat(struct disk *disk, int dir, const char *path, int flags, mode_t mode)
{
	struct io_uring_sqe *sqe;
	int result = check_fault(disk, DISK_OPEN);

	if (result < 0)
		return result;
	do {
		sqe = prepare(disk);
		io_uring_prep_openat(sqe, dir, path, flags, mode);
		result = await(sqe);
	} while (result == -EINTR);

	return result;
}

ssize_t disk_pread(struct disk *disk, int fd, void *data, size_t size, uint64_t offset)
{
	int result = check_fault(disk, DISK_READ);
	size_t done = 0;

	if (result < 0)
		return result;
	while (done < size) {
		struct io_uring_sqe *sqe = prepare(disk);

		io_uring_prep_read(sqe, fd, (char *)data + done, (unsigned int)(size - done), offset + done);
		result = await(sqe);
		if (result == -EINTR || result == -EAGAIN)
			continue;
		if (result < 0)
			return result;
		if (result == 0)
			break;
		done += (size_t)result;
	}

	return (ssize_t)done;
}

ssize_t disk_pread_cached(struct disk *disk, int fd, void *data, size_t size, uint64_t offset)
{
	struct iovec iov = { .iov_base = data, .iov_len = size };
	ssize_t result = check_fault(disk, DISK_READ);

	if (result < 0)
		return result;
	result = preadv2(fd, &iov, 1, (off_t)offset, RWF_NOWAIT);
	if (result >= 0)
		return result;

	/* EOPNOTSUPP: this filesystem does not know how. An error of the disk is the ring's to find. */
	return 0;
}

/* Linux 6.5; the C library does not know it everywhere. */
#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif
struct page_range {
	uint64_t offset, length;
};
struct page_counts {
	uint64_t cached, dirty, writeback, evicted, recently_evicted;
};

/*
 * Are the pages of this range there? One that is there may still be on its way from the disk, with those behind it; so
 * the last one is looked into.
 */
static bool all_cached(int fd, size_t size, uint64_t offset)
{
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	const struct page_range range = { offset, size };
	struct page_counts counts;
	char last;

	if (syscall(SYS_cachestat, fd, &range, &counts, 0) < 0)
		return false;
	if (counts.cached < (offset + size - 1) / page - offset / page + 1)
		return false;

	return preadv2(fd, &(struct iovec){ &last, 1 }, 1, (off_t)(offset + size - 1), RWF_NOWAIT) == 1;
}

size_t disk_sendfile_cached(struct disk *disk, int fd, int pipe, size_t size, uint64_t offset)
{
	off_t at = (off_t)offset;
	size_t done = 0;

	if (check_fault(disk, DISK_READ) < 0 || !all_cached(fd, size, offset))
		return 0;
	while (done < size) {
		ssize_t sent = sendfile(pipe, fd, &at, size - done);

		if (sent <= 0) /* an error of the disk is the ring's to find */
			break;
		done += (size_t)sent;
	}

	return done;
}

int disk_pwrite(struct disk *disk, int fd, const void *data, size_t size, uint64_t offset)
{
	int result = check_fault(disk, DISK_WRITE);
	size_t done = 0;

	if (result < 0)
		return result;
	while (done < size) {
		struct io_uring_sqe *sqe = prepare(disk);

		io_uring_prep_write(sqe, fd, (const char *)data + done, (unsigned int)(size - done), offset + done);
		result = await(sqe);
		if (result == -EINTR || result == -EAGAIN)
			continue;
		if (result < 0)
			return result;
		if (result == 0)
			return -EIO;
		done += (size_t)result;
	}

	return 0;
}

struct making {
	int dir;
	const char *path;
	const uint8_t *data;
	size_t size, written;
	uint64_t offset;
};

static int make_run(void *arg)
{
	struct making *making = arg;
	int fd = openat(making->dir, making->path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	while (making->written < making->size) {
		ssize_t n = pwrite(fd, making->data + making->written, making->size - making->written,
				   (off_t)(making->offset + making->written));

		if (n <= 0)
			break;
		making->written += (size_t)n;
	}

	return fd;
}

int disk_make(struct disk *disk, struct helper *helper, int dir, const char *path, const void *data, size_t size,
	      uint64_t offset, size_t *ret_written)
{
	struct making making = { .dir = dir, .path = path, .data = data, .size = size, .offset = offset };
	int result = check_fault(disk, DISK_OPEN);

	if (result < 0)
		return result;
	if (disk->fault)
		making.size = 0; /* disk_pwrite() asks it, too */
	result = helper_run(helper, make_run, &making);
	*ret_written = making.written;

	return result;
}

static int sync_file(struct disk *disk, int fd, unsigned int flags)
{
	struct io_uring_sqe *sqe;
	int result = check_fault(disk, DISK_SYNC);

	if (result < 0)
		return result;
	do {
		sqe = prepare(disk);
		io_uring_prep_fsync(sqe, fd, flags);
		result = await(sqe);
	} while (result == -EINTR);

	return result;
}

int disk_fdatasync(struct disk *disk, int fd)
{
	return sync_file(disk, fd, IORING_FSYNC_DATASYNC);
}

int disk_fsync(struct disk *disk, int fd)
{
	return sync_file(disk, fd, 0);
}

int disk_fallocate(struct disk *disk, int fd, int mode, uint64_t offset, uint64_t length)
{
	struct io_uring_sqe *sqe;
	int result = check_fault(disk, DISK_ALLOCATE);

	if (result < 0)
		return result;
	do {
		sqe = prepare(disk);
		io_uring_prep_fallocate(sqe, fd, mode, (off_t)offset, (off_t)length);
		result = await(sqe);
	} while (result == -EINTR);

	return result;
}

int disk_unlinkat(struct disk *disk, int dir, const char *path)
{
	struct io_uring_sqe *sqe;
	int result = check_fault(disk, DISK_UNLINK);

	if (result < 0)
		return result;
	do {
		sqe = prepare(disk);
		io_uring_prep_unlinkat(sqe, dir, path, 0);
		result = await(sqe);
	} while (result == -EINTR);

	return result;
}
