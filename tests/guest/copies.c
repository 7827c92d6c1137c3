/*
 * To be preloaded (LD_PRELOAD): counts what a program copies, and its calls that move bytes, for tests/guest/bench.py. The
 * counters are a file in $COPIES, named by the process, which others read while it runs. What the compiler copies in place
 * is not seen (it is small), nor is what io_uring does: from memory to files and back, by whatever fabric it has come.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COPIED, SOCKET_CALLS, SOCKET_BYTES, VERBS_CALLS, OTHER_CALLS, WAITS, LOOKS, COUNTERS };

static _Atomic uint64_t none[COUNTERS];
static _Atomic uint64_t *counters = none;

static void count(int which, uint64_t much)
{
	counters[which] += much;
}

static void begin(void)
{
	const char *folder = getenv("COPIES");
	char path[4096];
	void *memory;
	int fd;

	if (folder == NULL)
		return;
	snprintf(path, sizeof(path), "%s/%d", folder, (int)getpid());
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, sizeof(none)) < 0)
		return;
	memory = mmap(NULL, sizeof(none), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (memory != MAP_FAILED)
		counters = memory;
}

/* A daemon is its first process's child. */
__attribute__((constructor)) static void begin_here(void)
{
	begin();
	pthread_atfork(NULL, NULL, begin);
}

/* --- copies ------------------------------------------------------------------------------------------------------- */

static void *copy(void *to, const void *from, size_t size)
{
	void *at = to;

	__asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(size) : : "memory");
	return to;
}

static void *copy_down(void *to, const void *from, size_t size)
{
	void *at = (char *)to + size - 1;
	const void *last = (const char *)from + size - 1;

	__asm__ volatile("std; rep movsb; cld" : "+D"(at), "+S"(last), "+c"(size) : : "memory");
	return to;
}

void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
	count(COPIED, size);
	return copy(to, from, size);
}

void *memmove(void *to, const void *from, size_t size)
{
	count(COPIED, size);
	return (uintptr_t)to - (uintptr_t)from >= size ? copy(to, from, size) : copy_down(to, from, size);
}

/* --- calls -------------------------------------------------------------------------------------------------------- */

#define VERBS_MAJOR 231
#define MISC_MAJOR  10
#define FUSE_MINOR  229

/* Requests of the kernel's FUSE are no part of what is counted. */
static long counted(int fd, long result)
{
	uint64_t bytes = result > 0 ? (uint64_t)result : 0;
	struct stat stat;

	if (syscall(SYS_fstat, fd, &stat) != 0)
		return result;
	if (S_ISSOCK(stat.st_mode)) {
		count(SOCKET_CALLS, 1);
		count(SOCKET_BYTES, bytes);
	} else if (S_ISCHR(stat.st_mode) && major(stat.st_rdev) == VERBS_MAJOR) {
		count(VERBS_CALLS, 1);
	} else if (!S_ISCHR(stat.st_mode) || stat.st_rdev != makedev(MISC_MAJOR, FUSE_MINOR)) {
		count(OTHER_CALLS, 1);
	}
	return result;
}

ssize_t read(int fd, void *data, size_t size)
{
	return counted(fd, syscall(SYS_read, fd, data, size));
}

ssize_t write(int fd, const void *data, size_t size)
{
	return counted(fd, syscall(SYS_write, fd, data, size));
}

ssize_t readv(int fd, const struct iovec *iov, int n)
{
	return counted(fd, syscall(SYS_readv, fd, iov, n));
}

ssize_t writev(int fd, const struct iovec *iov, int n)
{
	return counted(fd, syscall(SYS_writev, fd, iov, n));
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
	return counted(fd, syscall(SYS_recvmsg, fd, message, flags));
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	return counted(fd, syscall(SYS_sendmsg, fd, message, flags));
}

ssize_t recv(int fd, void *data, size_t size, int flags)
{
	return counted(fd, syscall(SYS_recvfrom, fd, data, size, flags, NULL, NULL));
}

ssize_t send(int fd, const void *data, size_t size, int flags)
{
	return counted(fd, syscall(SYS_sendto, fd, data, size, flags, NULL, 0));
}

int ioctl(int fd, unsigned long request, void *arg)
{
	return (int)counted(fd, syscall(SYS_ioctl, fd, request, arg));
}

int epoll_wait(int fd, struct epoll_event *events, int max, int timeout)
{
	count(timeout == 0 ? LOOKS : WAITS, 1);
	return (int)syscall(SYS_epoll_wait, fd, events, max, timeout);
}

int epoll_pwait2(int fd, struct epoll_event *events, int max, const struct timespec *timeout, const sigset_t *mask)
{
	count(WAITS, 1);
	return (int)syscall(SYS_epoll_pwait2, fd, events, max, timeout, mask, 8);
}
