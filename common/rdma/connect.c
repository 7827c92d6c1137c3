/*
 * rdma_connect(), and rdma_disconnect() before the connection stands. On iWARP the kernel's software stack connects by TCP within
 * the call, which lasts as long as TCP tries where the other end is silent: so there a thread makes it, one for each attempt. It waits
 * in a system call, which a signal ends; then it is joined. Until then nothing else uses the id, and nothing of it is destroyed, but
 * events of it may be told.
 *
 * When TCP's connection is made and the other end does not answer, the kernel's iWARP manager lets nobody disconnect or destroy the
 * id until its driver gives up (iw_cm_disconnect() and destroy_cm_id() of its iwcm.c wait for that; siw: 10 s), and no signal
 * ends that. So a thread waits there, too, and what there is of the connection goes when it is joined.
 */
#include "common/container_of.h"
#include "common/rdma/rdma_internal.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#define WAKE     (SIGRTMAX - 1) /* its own, and to no other thread */
#define AGAIN_NS 50000          /* who was not in the system call yet when it was woken */

static int connect_now(struct rdma_conn *conn)
{
	uint8_t greeting[GREETING_SIZE];
	struct rdma_conn_param param = rdma_connection_param(conn, greeting);

	return rdma_connect(conn->id, &param) < 0 ? -errno : 0;
}

static void woken(int signal)
{
	(void)signal;
}

static void *connect_thread(void *arg)
{
	struct rdma_conn *conn = arg;
	sigset_t wake;

	sigemptyset(&wake);
	sigaddset(&wake, WAKE);
	pthread_sigmask(SIG_UNBLOCK, &wake, NULL);
	conn->connect_err = connect_now(conn);
	atomic_store(&conn->connect_over, true);
	(void)eventfd_write(conn->rdma->connects.fd, 1);
	return NULL;
}

/* It gets no signal but that one. */
int rdma_connect_begin(struct rdma_conn *conn)
{
	const struct sigaction action = { .sa_handler = woken };
	sigset_t all, before;
	int err;

	if (!is_iwarp(conn))
		return connect_now(conn);
	if (sigaction(WAKE, &action, NULL) < 0)
		return -errno;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = -pthread_create(&conn->connect_thread, NULL, connect_thread, conn);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	conn->connecting = err == 0;
	return err;
}

void rdma_connect_stop(struct rdma_conn *conn)
{
	if (!conn->connecting)
		return;
	while (!atomic_load(&conn->connect_over)) {
		pthread_kill(conn->connect_thread, WAKE);
		nanosleep(&(struct timespec){ .tv_nsec = AGAIN_NS }, NULL);
	}
	pthread_join(conn->connect_thread, NULL);
	conn->connecting = false;
}

static void *leave_thread(void *arg)
{
	struct rdma_conn *conn = arg;

	rdma_disconnect(conn->id);
	atomic_store(&conn->connect_over, true);
	(void)eventfd_write(conn->rdma->connects.fd, 1);
	return NULL;
}

bool rdma_leave_begin(struct rdma_conn *conn)
{
	struct transport_rdma *rdma = conn->rdma;
	sigset_t all, before;
	int err;

	if (!is_iwarp(conn) || conn->credits.peer_receives > 0) /* accepted */
		return false;
	atomic_store(&conn->connect_over, false);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&conn->connect_thread, NULL, leave_thread, conn);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err != 0)
		return false;
	rdma_conn_hold(conn);
	conn->leaving_next = rdma->leaving;
	rdma->leaving = conn;
	return true;
}

/* Its thread is over, or is waited for. */
static void leave_end(struct rdma_conn **at)
{
	struct rdma_conn *conn = *at;

	*at = conn->leaving_next;
	pthread_join(conn->connect_thread, NULL);
	rdma_destroy_qp(conn->id);
	rdma_conn_drop(conn);
}

void rdma_leave_all(struct transport_rdma *rdma)
{
	while (rdma->leaving != NULL)
		leave_end(&rdma->leaving);
}

static void leave_those_over(struct transport_rdma *rdma)
{
	struct rdma_conn **at = &rdma->leaving;

	while (*at != NULL) {
		if (atomic_load(&(*at)->connect_over))
			leave_end(at);
		else
			at = &(*at)->leaving_next;
	}
}

static struct rdma_conn *find_over(const struct transport_rdma *rdma)
{
	struct rdma_conn *conn = rdma->all;

	while (conn != NULL && !(conn->connecting && atomic_load(&conn->connect_over)))
		conn = conn->next;
	return conn;
}

/* That it was made is told by an event; that it was not is told here. */
void rdma_connects_ready(struct loop_watch *watch, uint32_t events)
{
	struct transport_rdma *rdma = container_of(watch, struct transport_rdma, connects);
	struct rdma_conn *conn;
	eventfd_t count;

	(void)events;
	(void)eventfd_read(watch->fd, &count);
	leave_those_over(rdma);
	while ((conn = find_over(rdma)) != NULL) {
		pthread_join(conn->connect_thread, NULL);
		conn->connecting = false;
		if (conn->connect_err < 0)
			rdma_conn_fail(conn, conn->connect_err, strerror(-conn->connect_err));
	}
}
