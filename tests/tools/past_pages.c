/*
 * past_pages: direct I/O beside the page cache, on one mount.
 *
 *     past_pages [-n ROUNDS] [-r READERS] FILE
 *
 * One writes the file anew each round, by direct I/O, and as AIO, for which nobody waits in the kernel. Meanwhile others
 * read it through the page cache, each by a descriptor that it keeps, so that pages come again while they are being
 * passed. What has been written must be what is read next, by such a descriptor, too. Exit status 0: so it was in every
 * round.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SIZE (160u * 4096u)

static const char *path;
static _Atomic bool enough;

static void die(const char *what)
{
	fprintf(stderr, "past_pages: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int open_or_die(int flags)
{
	int fd = open(path, flags, 0600);

	if (fd < 0)
		die(path);
	return fd;
}

static void *reads(void *arg)
{
	char *buffer = malloc(SIZE);
	int fd = open_or_die(O_RDONLY);

	(void)arg;
	if (buffer == NULL)
		die("memory");
	while (!atomic_load(&enough))
		if (pread(fd, buffer, SIZE, 0) < 0)
			die("read");
	close(fd);
	free(buffer);
	return NULL;
}

static void write_async(aio_context_t context, int fd, void *data)
{
	struct iocb block = { .aio_lio_opcode = IOCB_CMD_PWRITE, .aio_fildes = (uint32_t)fd, .aio_nbytes = SIZE };
	struct iocb *blocks[] = { &block };
	struct io_event event;
	long n;

	block.aio_buf = (uintptr_t)data;
	if (syscall(SYS_io_submit, context, 1L, blocks) != 1)
		die("io_submit");
	do
		n = syscall(SYS_io_getevents, context, 1L, 1L, &event, NULL);
	while (n < 0 && errno == EINTR);
	if (n != 1 || event.res != SIZE)
		die("an asynchronous write");
}

/* By the descriptor that was open before all of it. */
static void compare(int fd, const unsigned char *wanted, unsigned int round)
{
	static unsigned char got[SIZE];

	if (pread(fd, got, SIZE, 0) != SIZE)
		die("read back");
	for (size_t i = 0; i < SIZE; i++)
		if (got[i] != wanted[i]) {
			fprintf(stderr, "past_pages: round %u: byte %zu is %d, written was %d\n", round, i, got[i],
				wanted[i]);
			exit(1);
		}
}

static void writes(unsigned int rounds)
{
	int past = open_or_die(O_RDWR | O_DIRECT), through = open_or_die(O_RDONLY);
	aio_context_t context = 0;
	void *data;

	if (posix_memalign(&data, 4096, SIZE) != 0 || syscall(SYS_io_setup, 1L, &context) < 0)
		die("io_setup");
	for (unsigned int round = 1; round <= rounds; round++) {
		memset(data, (int)(round % 251), SIZE);
		write_async(context, past, data);
		compare(through, data, round);
	}
	syscall(SYS_io_destroy, context);
	free(data);
	close(past);
	close(through);
}

int main(int argc, char **argv)
{
	unsigned int rounds = 100, readers = 2;
	pthread_t threads[16];
	int option;

	while ((option = getopt(argc, argv, "n:r:")) != -1) {
		if (option == 'n')
			rounds = (unsigned int)strtoul(optarg, NULL, 10);
		else if (option == 'r')
			readers = (unsigned int)strtoul(optarg, NULL, 10);
		else
			return 2;
	}
	if (optind != argc - 1 || readers > sizeof(threads) / sizeof(*threads)) {
		fprintf(stderr, "usage: past_pages [-n ROUNDS] [-r READERS] FILE\n");
		return 2;
	}
	path = argv[optind];
	option = open_or_die(O_RDWR | O_CREAT);
	if (ftruncate(option, SIZE) < 0)
		die("truncate");
	close(option);
	for (unsigned int i = 0; i < readers; i++)
		if ((errno = pthread_create(&threads[i], NULL, reads, NULL)) != 0)
			die("thread");
	writes(rounds);
	atomic_store(&enough, true);
	for (unsigned int i = 0; i < readers; i++)
		pthread_join(threads[i], NULL);
	printf("past_pages: %u rounds, %u readers: all right\n", rounds, readers);
	return 0;
}
