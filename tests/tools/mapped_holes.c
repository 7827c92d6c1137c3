/*
 * mapped_holes: does a hole reach whoever has the page mapped, at once? It asks the kernel, not us: what our verifiers find in
 * mapped pages means something only where it does.
 *
 * One process punches the only page of a file, and then has another one store to it, who only spins, and so does not enter the
 * kernel between. What he stores must be in the file.
 *
 *     mapped_holes [-n ROUNDS] FILE
 *
 * Exits 0 when no store was lost; says how many were and exits 1 otherwise. The file is left behind.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096

/* In memory that both have: that there is to be a store, and that it is done. Each is its number. */
struct talk {
	_Atomic uint64_t asked, done;
};

static _Noreturn void die(const char *what)
{
	perror(what);
	exit(2);
}

static void *map(int fd)
{
	void *memory =
		mmap(NULL, PAGE, PROT_READ | PROT_WRITE, fd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED, fd, 0);

	if (memory == MAP_FAILED)
		die("mmap");
	return memory;
}

static _Noreturn void store(struct talk *talk, _Atomic uint64_t *page)
{
	for (uint64_t number = 1;; number++) {
		while (atomic_load(&talk->asked) < number) {
		}
		atomic_store(page, number);
		atomic_store(&talk->done, number);
	}
}

/* What the file has when the other one has stored that. */
static uint64_t stored(struct talk *talk, int fd, uint64_t number)
{
	uint64_t found;

	atomic_store(&talk->asked, number);
	while (atomic_load(&talk->done) < number) {
	}
	if (pread(fd, &found, sizeof(found), 0) != sizeof(found))
		die("pread");
	return found;
}

/* Each is a store to a page that is there, and one to a page that has just gone. Returns how many were lost. */
static unsigned int rounds_run(struct talk *talk, int fd, unsigned int rounds)
{
	unsigned int lost = 0;

	for (uint64_t i = 0; i < rounds; i++) {
		lost += stored(talk, fd, 2 * i + 1) != 2 * i + 1;
		if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE) < 0)
			die("fallocate");
		lost += stored(talk, fd, 2 * i + 2) != 2 * i + 2;
	}
	return lost;
}

int main(int argc, char **argv)
{
	unsigned int rounds = 50, lost;
	_Atomic uint64_t *page;
	struct talk *talk;
	pid_t pid;
	int fd;

	for (int c; (c = getopt(argc, argv, "n:")) != -1;) {
		if (c != 'n')
			return 2;
		rounds = (unsigned int)strtoul(optarg, NULL, 10);
	}
	if (optind + 1 != argc) {
		fprintf(stderr, "usage: mapped_holes [-n ROUNDS] FILE\n");
		return 2;
	}
	fd = open(argv[optind], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, PAGE) < 0)
		die(argv[optind]);
	talk = map(-1);
	page = map(fd);
	pid = fork();
	if (pid == 0)
		store(talk, page);
	if (pid < 0)
		die("fork");
	lost = rounds_run(talk, fd, rounds);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	printf("mapped_holes: %u of %u stores lost\n", lost, 2 * rounds);
	return lost > 0;
}
