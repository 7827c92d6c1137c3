/*
 * A worker: a thread with a loop that owns a clone of the FUSE device, reads requests and runs each in a fiber.
 *
 * A request's bytes are read into a whole device buffer. A large WRITE keeps the buffer (its bytes go on to the OSTs
 * from there); of anything else the bytes are copied into the request and the buffer is read into again, warm.
 *
 * Who reads: the first worker, until it finds that it has been busy most of the time; then the others, too, for a while.
 * If all of them waited for the device, each request that comes while the first one is about to sleep would wake
 * another, on another CPU, and the first one for nothing besides.
 */
#include "client/fuse/caller.h"
#include "client/fuse/request.h"
#include "common/bulk.h"
#include "common/container_of.h"
#include "common/fiber.h"
#include "common/logger.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define KEEP_BUFFER_MIN   (64u * 1024)
#define READ_BATCH        64 /* requests taken before the loop looks elsewhere */
#define TABLE_SIZE        1024
#define LOAD_WINDOW       64   /* load is judged after so many requests */
#define LOAD_WINDOW_MS    250  /* or after so long */
#define LOAD_IDLE_PERCENT 30   /* who was idle for less is busy */
#define HELP_MS           50   /* so long a worker helps */
#define END_MS            1000 /* so long it is waited for the threads before anything else is done */
#define CALLER_LOOK_MS    250  /* so often callers that got a signal are looked at */
#define CALLER_GRACE_MS   2000 /* an answer that comes in this time is in time for anybody */

struct fuse_worker {
	struct fuse_server *server;
	unsigned int index;
	int fd;
	bool fd_owned;
	pthread_t thread;
	struct loop *loop;
	struct worker *worker; /* libstrake's */
	struct loop_watch watch;
	_Atomic uint64_t reads; /* odd: it has read, or is about to, what it has not begun to serve */
	struct bulk *buffer;
	struct fiber_queue idle; /* stop waits for the last request */
	unsigned int running;
	bool stopping;
	bool told_to_end, joined; /* for who stops it */

	struct { /* what load_note() judges: so many requests, since then, when it had been idle for so long in all */
		unsigned int requests;
		uint64_t began_ns, idle_ns;
	} load;
	struct loop_post help_post;
	atomic_bool helping; /* it reads the device, or is going to; not of the first worker */

	pthread_mutex_t lock; /* guards table, started and quiet: INTERRUPT comes by any worker */
	struct fuse_request *table[TABLE_SIZE];
	pthread_cond_t started;
	int start_result; /* 1 while starting */
	pthread_cond_t quieted;
	bool quiet; /* no request is left */

	struct loop_timer callers; /* set while callers with signals wait */

	struct loop_post stop_post;
};

/* --- the table of requests under way ----------------------------------------------------------------------------- */

static struct fuse_request **table_slot(struct fuse_worker *worker, uint64_t unique)
{
	return &worker->table[unique / 2 % TABLE_SIZE];
}

/*
 * Any worker may read an INTERRUPT, also before the one that reads its request has entered that. So it is noted first
 * and looked for then; whoever enters a request looks at the notes after. A note is dropped when its request was found,
 * so that many signals at once push out none that is needed; those that stay are of requests that have been answered,
 * and the next ones take their place.
 */
static void early_note(struct fuse_server *server, uint64_t unique)
{
	unsigned int at = 0;

	pthread_mutex_lock(&server->early_lock);
	while (at < FUSE_EARLY_MAX && server->early[at] != 0)
		at++;
	if (at == FUSE_EARLY_MAX)
		at = server->early_next++ % FUSE_EARLY_MAX;
	server->early[at] = unique;
	pthread_mutex_unlock(&server->early_lock);
	atomic_store(&server->early_any, true);
}

static bool early_take(struct fuse_server *server, uint64_t unique)
{
	bool found = false;

	pthread_mutex_lock(&server->early_lock);
	for (unsigned int i = 0; i < FUSE_EARLY_MAX && !found; i++) {
		found = server->early[i] == unique;
		if (found)
			server->early[i] = 0;
	}
	pthread_mutex_unlock(&server->early_lock);
	return found;
}

/*
 * The caller got a signal. Who dies of it is not kept waiting; but a CLOSE by his end takes its course if it can, as what
 * he wrote is to be seen then. Who is out of our sight (another pid namespace) is taken for one that dies.
 */
static bool is_given_up(const struct fuse_request *request)
{
	bool patient = request->header.pid == 0 || request->header.opcode == FUSE_FLUSH;

	if (patient && clock_ns() - request->signalled_ns < CALLER_GRACE_MS * NSEC_PER_MSEC)
		return false;
	return request->header.pid == 0 || caller_is_dying(request->header.pid);
}

/* Another look at it later, or no longer. */
static bool look_at_caller(struct fuse_request *request)
{
	if (is_given_up(request)) {
		request->signalled_ns = 0;
		fs_interrupt(&request->ctx);
	}
	return request->signalled_ns != 0;
}

static void look_again(struct fuse_worker *worker)
{
	if (worker->callers.loop == NULL)
		loop_timer_set(worker->loop, &worker->callers, clock_ns() + CALLER_LOOK_MS * NSEC_PER_MSEC);
}

static void callers_due(struct loop_timer *timer)
{
	struct fuse_worker *worker = container_of(timer, struct fuse_worker, callers);
	bool again = false;

	/* Only this thread changes the table. */
	for (size_t i = 0; i < TABLE_SIZE; i++)
		for (struct fuse_request *request = worker->table[i]; request != NULL; request = request->hash_next)
			again |= request->signalled_ns != 0 && look_at_caller(request);
	if (again)
		look_again(worker);
}

static void signalled(struct fuse_worker *worker, struct fuse_request *request)
{
	request->signalled_ns = clock_ns();
	fs_signal(&request->ctx); /* who waits for a lock waits no longer */
	if (look_at_caller(request))
		look_again(worker);
}

static void table_enter(struct fuse_worker *worker, struct fuse_request *request)
{
	struct fuse_request **slot = table_slot(worker, request->header.unique);

	pthread_mutex_lock(&worker->lock);
	request->hash_next = *slot;
	*slot = request;
	worker->running++;
	pthread_mutex_unlock(&worker->lock);
	if (atomic_load(&worker->server->early_any) && early_take(worker->server, request->header.unique))
		signalled(worker, request);
}

static void table_leave(struct fuse_worker *worker, struct fuse_request *request)
{
	struct fuse_request **at = table_slot(worker, request->header.unique);

	pthread_mutex_lock(&worker->lock);
	while (*at != request)
		at = &(*at)->hash_next;
	*at = request->hash_next;
	worker->running--;
	pthread_mutex_unlock(&worker->lock);
}

static struct fuse_request *table_find(struct fuse_worker *worker, uint64_t unique)
{
	struct fuse_request *request = *table_slot(worker, unique);

	while (request != NULL && request->header.unique != unique)
		request = request->hash_next;
	return request;
}

/* An INTERRUPT on its way to the worker whose request it means. */
struct interruption {
	struct loop_post post;
	struct fuse_worker *worker;
	uint64_t unique;
};

static void interruption_arrives(struct loop_post *post)
{
	struct interruption *interruption = (struct interruption *)(void *)post;
	struct fuse_worker *worker = interruption->worker;
	struct fuse_request *request;

	pthread_mutex_lock(&worker->lock);
	request = table_find(worker, interruption->unique);
	pthread_mutex_unlock(&worker->lock);
	if (request != NULL) /* of this thread: it cannot go meanwhile */
		signalled(worker, request);
	free(interruption);
}

static void interrupt(struct fuse_server *server, uint64_t unique)
{
	early_note(server, unique);
	for (unsigned int i = 0; i < server->worker_count; i++) {
		struct fuse_worker *worker = server->workers[i];
		bool found;

		if (worker == NULL)
			continue; /* it is being started, or has ended */
		pthread_mutex_lock(&worker->lock);
		found = table_find(worker, unique) != NULL;
		pthread_mutex_unlock(&worker->lock);
		if (found) {
			struct interruption *interruption = malloc(sizeof(*interruption));

			if (interruption == NULL)
				return;
			*interruption = (struct interruption){
				.post.run = interruption_arrives,
				.worker = worker,
				.unique = unique,
			};
			loop_post(worker->loop, &interruption->post);
			early_take(server, unique);
			return;
		}
	}
}

/* --- who reads --------------------------------------------------------------------------------------------------- */

/* Of all workers that wait for the device only one is woken per request, the first one if it waits. */
static int device_watch(struct fuse_worker *worker)
{
	return loop_watch_add(worker->loop, &worker->watch, EPOLLIN | EPOLLEXCLUSIVE);
}

static void help_begin(struct loop_post *post)
{
	struct fuse_worker *worker = container_of(post, struct fuse_worker, help_post);

	if (worker->stopping || device_watch(worker) < 0)
		atomic_store(&worker->helping, false);
}

/* What comes from here on the first worker is told of: it stands before us in the device's queue. */
static void help_end(struct fuse_worker *worker)
{
	loop_watch_remove(&worker->watch);
	atomic_store(&worker->helping, false);
}

static void call_help(struct fuse_server *server, uint64_t now_ns)
{
	atomic_store(&server->help_until_ns, now_ns + HELP_MS * NSEC_PER_MSEC);
	for (unsigned int i = 1; i < server->worker_count; i++) {
		struct fuse_worker *worker = server->workers[i];

		if (worker != NULL && !atomic_exchange(&worker->helping, true))
			loop_post(worker->loop, &worker->help_post);
	}
}

/* Another request: who has hardly been idle since some requests ago may be what callers wait for. */
static void load_note(struct fuse_worker *worker)
{
	uint64_t now_ns = clock_ns(), idle_ns = loop_idle_ns(worker->loop);
	uint64_t took_ns = now_ns - worker->load.began_ns;

	if (++worker->load.requests < LOAD_WINDOW && took_ns < LOAD_WINDOW_MS * NSEC_PER_MSEC)
		return;
	if ((idle_ns - worker->load.idle_ns) * 100 < took_ns * LOAD_IDLE_PERCENT)
		call_help(worker->server, now_ns);
	worker->load.requests = 0;
	worker->load.began_ns = now_ns;
	worker->load.idle_ns = idle_ns;
}

/* --- serving ----------------------------------------------------------------------------------------------------- */

static void request_free(struct fuse_request *request)
{
	if (request->bulk != NULL)
		request->bulk->release(request->bulk);
	free(request);
}

static void request_run(void *arg)
{
	struct fuse_request *request = arg;
	struct fuse_worker *worker = request->worker;

	fuse_handler_of(request->header.opcode)(request);
	assert(request->answered);
	table_leave(worker, request);
	request_free(request);
	if (worker->running == 0)
		fiber_wake_all(&worker->idle);
}

static void forget(struct fuse_worker *worker, uint64_t nodeid, uint64_t count)
{
	if (nodeid != FUSE_ROOT_ID)
		fs_forget(worker->server->fs, nodeid, count);
}

static void forget_batch(struct fuse_worker *worker, const uint8_t *args, size_t len)
{
	struct fuse_batch_forget_in in;
	struct fuse_forget_one one;

	if (len < sizeof(in))
		return;
	memcpy(&in, args, sizeof(in));
	for (uint32_t i = 0; i < in.count && (i + 1) * sizeof(one) + sizeof(in) <= len; i++) {
		memcpy(&one, args + sizeof(in) + i * sizeof(one), sizeof(one));
		forget(worker, one.nodeid, one.nlookup);
	}
}

/* Others may have taken requests from the device before ours, and not have begun to serve them. RELEASE is served at once. */
void fuse_releases_settle(const struct fuse_request *request)
{
	struct fuse_server *server = request->server;

	for (unsigned int i = 0; i < server->worker_count; i++) {
		struct fuse_worker *worker = server->workers[i];
		uint64_t reads = worker == NULL || worker == request->worker ? 0 : atomic_load(&worker->reads);

		while (reads % 2 == 1 && atomic_load(&worker->reads) == reads)
			fiber_yield();
	}
}

static void answer_now(const struct fuse_worker *worker, uint64_t unique, int err)
{
	struct fuse_out_header header = { .len = sizeof(header), .error = err, .unique = unique };

	/* An error here means that the kernel no longer wants the answer. */
	(void)!write(worker->fd, &header, sizeof(header));
}

/* What needs no fiber. False: it does. */
static bool serve_at_once(struct fuse_worker *worker, const struct fuse_in_header *header, const uint8_t *args,
			  size_t len)
{
	struct fuse_interrupt_in in;
	struct fuse_forget_in one;
	struct fuse_flush_in flush;
	struct fuse_release_in release;

	switch (header->opcode) {
	case FUSE_FORGET:
		if (len >= sizeof(one)) {
			memcpy(&one, args, sizeof(one));
			forget(worker, header->nodeid, one.nlookup);
		}
		return true;
	case FUSE_BATCH_FORGET:
		forget_batch(worker, args, len);
		return true;
	case FUSE_INTERRUPT:
		if (len >= sizeof(in)) {
			memcpy(&in, args, sizeof(in));
			interrupt(worker->server, in.unique);
		}
		return true;
	case FUSE_FLUSH: /* of what was only read, by who has no locks: most closes */
		if (len < sizeof(flush))
			return false;
		memcpy(&flush, args, sizeof(flush));
		if (!fs_close_is_nothing(fuse_file(flush.fh), flush.lock_owner))
			return false;
		answer_now(worker, header->unique, 0);
		return true;
	case FUSE_RELEASE:
		if (len >= sizeof(release)) {
			memcpy(&release, args, sizeof(release));
			fs_release(fuse_file(release.fh));
		}
		answer_now(worker, header->unique, 0);
		return true;
	case FUSE_DESTROY:
		answer_now(worker, header->unique, 0);
		return true;
	default:
		if (fuse_handler_of(header->opcode) != NULL)
			return false;
		answer_now(worker, header->unique, -ENOSYS);
		return true;
	}
}

/* Make a request of the bytes in the buffer. NULL: no memory. */
static struct fuse_request *request_new(struct fuse_worker *worker, const struct fuse_in_header *header,
					size_t args_len)
{
	bool keep = header->opcode == FUSE_WRITE && args_len >= KEEP_BUFFER_MIN;
	struct fuse_request *request = malloc(sizeof(*request) + (keep ? 0 : args_len + 1));
	const uint8_t *args = (const uint8_t *)worker->buffer->data + sizeof(*header);

	if (request == NULL)
		return NULL;
	*request = (struct fuse_request){
		.server = worker->server,
		.worker = worker,
		.fd = worker->fd,
		.header = *header,
		.args_len = args_len,
		.ctx = { .uid = header->uid, .gid = header->gid, .pid = (pid_t)header->pid, .trusted = true },
	};
	/* Where root is nobody to the MDT his capabilities are nothing. */
	request->ctx.kill_suid = request->ctx.kill_sgid = header->uid == 0 && fs_root_is_nobody(worker->server->fs);
	if (keep) {
		request->args = args;
		request->bulk = worker->buffer;
		worker->buffer = NULL;
	} else {
		uint8_t *copy = (uint8_t *)(request + 1);

		memcpy(copy, args, args_len);
		copy[args_len] = 0;
		request->args = copy;
	}
	return request;
}

static void serve(struct fuse_worker *worker, size_t size)
{
	const uint8_t *bytes = worker->buffer->data;
	struct fuse_in_header header;
	struct fuse_request *request;

	if (size < sizeof(header))
		return;
	memcpy(&header, bytes, sizeof(header));
	load_note(worker);
	if (serve_at_once(worker, &header, bytes + sizeof(header), size - sizeof(header)))
		return;
	request = request_new(worker, &header, size - sizeof(header));
	if (request == NULL) {
		answer_now(worker, header.unique, -ENOMEM);
		return;
	}
	table_enter(worker, request);
	if (fiber_start(worker->loop, request_run, request) < 0) {
		answer_now(worker, header.unique, -ENOMEM);
		table_leave(worker, request);
		request_free(request);
	}
}

static void device_ended(struct fuse_worker *worker)
{
	struct fuse_server *server = worker->server;

	loop_watch_remove(&worker->watch);
	if (!atomic_exchange(&server->over, true))
		server->ended(server);
}

static void read_batch(struct fuse_worker *worker)
{
	for (unsigned int i = 0; i < READ_BATCH; i++) {
		bool idle = worker->running == 0;
		ssize_t n;

		if (worker->buffer == NULL)
			worker->buffer = buffers_get(fs_buffers(worker->server->fs));
		if (worker->buffer == NULL)
			return; /* no memory just now: the device stays ready */
		n = read(worker->fd, worker->buffer->data, worker->buffer->size);
		if (n >= 0) {
			serve(worker, (size_t)n);
			/* Who asks alone waits for this; and what came behind it is told of once more. */
			if (idle && worker->running == 1)
				return;
		} else if (errno == ENODEV) {
			device_ended(worker);
			return;
		} else if (errno == EAGAIN) {
			return;
		} else if (errno != EINTR && errno != ENOENT) {
			log_error("reading from /dev/fuse: %s", strerror(errno));
			device_ended(worker);
			return;
		}
	}
}

static void device_read(struct fuse_worker *worker)
{
	atomic_fetch_add(&worker->reads, 1);
	read_batch(worker);
	atomic_fetch_add(&worker->reads, 1);
}

static void device_ready(struct loop_watch *watch, uint32_t events)
{
	struct fuse_worker *worker = container_of(watch, struct fuse_worker, watch);

	(void)events;
	device_read(worker);
	if (worker->index > 0 && loop_now_ns(worker->loop) > atomic_load(&worker->server->help_until_ns))
		help_end(worker);
}

/* --- life -------------------------------------------------------------------------------------------------------- */

static void worker_set_started(struct fuse_worker *worker, int result)
{
	pthread_mutex_lock(&worker->lock);
	worker->start_result = result;
	pthread_cond_signal(&worker->started);
	pthread_mutex_unlock(&worker->lock);
}

static void worker_begin(void *arg)
{
	struct fuse_worker *worker = arg;
	int err = worker_new(worker->server->fs, worker->loop, worker->index, &worker->worker);

	worker->watch = (struct loop_watch){ .fd = worker->fd, .ready = device_ready };
	if (err == 0 && worker->index == 0)
		err = device_watch(worker);
	worker_set_started(worker, err);
	if (err < 0)
		loop_stop(worker->loop);
}

static void *worker_thread(void *arg)
{
	struct fuse_worker *worker = arg;

	worker->load.began_ns = clock_ns();
	if (fiber_start(worker->loop, worker_begin, worker) < 0)
		worker_set_started(worker, -ENOMEM);
	else
		loop_run(worker->loop);
	return NULL;
}

static struct fuse_worker *fuse_worker_free(struct fuse_worker *worker)
{
	if (worker->buffer != NULL)
		worker->buffer->release(worker->buffer);
	if (worker->fd_owned)
		close(worker->fd);
	loop_free(worker->loop);
	pthread_mutex_destroy(&worker->lock);
	pthread_cond_destroy(&worker->started);
	pthread_cond_destroy(&worker->quieted);
	free(worker);
	return NULL;
}

/* A descriptor of its own for the same connection. */
static int device_clone(int fd)
{
	int clone = open("/dev/fuse", O_RDWR | O_CLOEXEC), err;
	uint32_t source = (uint32_t)fd;

	if (clone < 0)
		return -errno;
	if (ioctl(clone, FUSE_DEV_IOC_CLONE, &source) < 0) {
		err = -errno;
		close(clone);
		return err;
	}
	return clone;
}

int fuse_worker_start(struct fuse_server *server, int fd, unsigned int index)
{
	struct fuse_worker *worker = calloc(1, sizeof(*worker));
	int err;

	if (worker == NULL)
		return -ENOMEM;
	worker->server = server;
	worker->index = index;
	worker->start_result = 1;
	worker->help_post.run = help_begin;
	worker->callers.expired = callers_due;
	pthread_mutex_init(&worker->lock, NULL);
	pthread_cond_init(&worker->started, NULL);
	pthread_cond_init(&worker->quieted, NULL);
	worker->fd = index == 0 ? fd : device_clone(fd);
	worker->fd_owned = index > 0 && worker->fd >= 0;
	err = worker->fd < 0 ? worker->fd : loop_new(&worker->loop);
	if (err == 0 && fcntl(worker->fd, F_SETFL, O_NONBLOCK) < 0)
		err = -errno;
	if (err == 0)
		err = -pthread_create(&worker->thread, NULL, worker_thread, worker);
	if (err < 0) {
		fuse_worker_free(worker);
		return err;
	}
	/* In the table before its first request can be interrupted through another worker. */
	server->workers[index] = worker;
	pthread_mutex_lock(&worker->lock);
	while (worker->start_result == 1)
		pthread_cond_wait(&worker->started, &worker->lock);
	err = worker->start_result;
	pthread_mutex_unlock(&worker->lock);
	if (err < 0) {
		pthread_join(worker->thread, NULL);
		server->workers[index] = fuse_worker_free(worker);
	}
	return err;
}

static void worker_end(void *arg)
{
	struct fuse_worker *worker = arg;

	worker->stopping = true;
	loop_watch_remove(&worker->watch);
	/* The kernel waits for none of them any more; what waits for a server that is away would wait for ever. */
	for (size_t i = 0; i < TABLE_SIZE; i++)
		for (struct fuse_request *request = worker->table[i]; request != NULL; request = request->hash_next)
			fs_interrupt(&request->ctx);
	while (worker->running > 0)
		fiber_wait(&worker->idle, NULL);
	loop_timer_cancel(&worker->callers);
	pthread_mutex_lock(&worker->lock);
	worker->quiet = true;
	pthread_cond_signal(&worker->quieted);
	pthread_mutex_unlock(&worker->lock);
	worker_free(worker->worker);
	loop_stop(worker->loop);
}

static void worker_end_posted(struct loop_post *post)
{
	struct fuse_worker *worker = container_of(post, struct fuse_worker, stop_post);

	if (fiber_start(worker->loop, worker_end, worker) < 0)
		logger_die("no memory to stop a worker");
}

/* Until that time of CLOCK_REALTIME. */
static void workers_join(struct fuse_server *server, uint64_t until_ns)
{
	const struct timespec until = { (time_t)(until_ns / NSEC_PER_SEC), (long)(until_ns % NSEC_PER_SEC) };

	for (unsigned int i = 0; i < server->worker_count; i++) {
		struct fuse_worker *worker = server->workers[i];

		if (worker == NULL || worker->joined)
			continue;
		worker->joined = (until_ns == UINT64_MAX ? pthread_join(worker->thread, NULL)
							 : pthread_timedjoin_np(worker->thread, NULL, &until)) == 0;
	}
}

void fuse_workers_quiet(struct fuse_server *server)
{
	for (unsigned int i = 0; i < server->worker_count; i++) {
		struct fuse_worker *worker = server->workers[i];

		if (worker == NULL || worker->told_to_end)
			continue;
		worker->told_to_end = true;
		worker->stop_post.run = worker_end_posted;
		loop_post(worker->loop, &worker->stop_post);
	}
	for (unsigned int i = 0; i < server->worker_count; i++) {
		struct fuse_worker *worker = server->workers[i];

		if (worker == NULL)
			continue;
		pthread_mutex_lock(&worker->lock);
		while (!worker->quiet)
			pthread_cond_wait(&worker->quieted, &worker->lock);
		pthread_mutex_unlock(&worker->lock);
	}
	workers_join(server, clock_real_ns() + END_MS * NSEC_PER_MSEC);
}

void fuse_workers_stop(struct fuse_server *server)
{
	fuse_workers_quiet(server);
	workers_join(server, UINT64_MAX);
	/* Each may look into the tables of the others as long as it runs. */
	for (unsigned int i = 0; i < server->worker_count; i++)
		if (server->workers[i] != NULL)
			server->workers[i] = fuse_worker_free(server->workers[i]);
}
