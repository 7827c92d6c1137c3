/* Players: one process per actor and tree, which is rooted there and does what it is told. */
#include "tests/tools/model/model.h"

#include <errno.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_MS 30000
#define SHARED_GID  2000

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "model: %s: %s\n", what, strerror(errno));
	exit(2);
}

static void become(unsigned int actor)
{
	static const uid_t uids[ACTORS] = { 0, 1001, 1002 };
	gid_t group = SHARED_GID;

	if (setgroups(actor == 0 ? 0 : 1, &group) < 0 || setresgid(uids[actor], uids[actor], uids[actor]) < 0 ||
	    setresuid(uids[actor], uids[actor], uids[actor]) < 0)
		die("becoming another user");
}

static bool transfer(ssize_t (*call)(int, void *, size_t), int fd, void *data, size_t len)
{
	for (char *at = data; len > 0;) {
		ssize_t n = call(fd, at, len);

		if (n <= 0 && !(n < 0 && errno == EINTR))
			return false;
		if (n > 0)
			at += n, len -= (size_t)n;
	}
	return true;
}

static ssize_t send_some(int fd, void *data, size_t len)
{
	return send(fd, data, len, MSG_NOSIGNAL);
}

static _Noreturn void play(unsigned int actor, const char *root, int fd)
{
	struct player player = { .actor = actor };
	struct answer answer = { 0 };
	struct step step;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	for (unsigned int i = 0; i < FILES; i++)
		player.fds[i] = -1;
	umask(022);
	if (chroot(root) < 0 || chdir("/") < 0)
		die(root);
	become(actor);
	while (transfer(read, fd, &step, sizeof(step))) {
		answer_begin(&answer);
		errno = 0;
		if (step.looking)
			look(&player, &step, &answer);
		else
			ops[step.op].run(&player, &step, &answer);
		if (!transfer(send_some, fd, &answer, sizeof(answer)) ||
		    !transfer(send_some, fd, answer.text, answer.len))
			break;
	}
	exit(0);
}

void players_start(struct players *players, const char *const roots[TREES])
{
	int ends[2];

	for (unsigned int actor = 0; actor < ACTORS; actor++) {
		for (unsigned int tree = 0; tree < TREES; tree++) {
			if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
				die("socketpair");
			players->pids[actor][tree] = fork();
			if (players->pids[actor][tree] < 0)
				die("fork");
			if (players->pids[actor][tree] == 0) {
				close(ends[0]);
				play(actor, roots[tree], ends[1]);
			}
			close(ends[1]);
			players->sockets[actor][tree] = ends[0];
		}
	}
}

void players_stop(struct players *players)
{
	for (unsigned int actor = 0; actor < ACTORS; actor++) {
		for (unsigned int tree = 0; tree < TREES; tree++) {
			close(players->sockets[actor][tree]);
			kill(players->pids[actor][tree], SIGKILL);
			waitpid(players->pids[actor][tree], NULL, 0);
		}
	}
}

bool players_do(struct players *players, unsigned int actor, enum tree tree, const struct step *step,
		struct answer **ret_answer)
{
	struct answer *answer = &players->answers[tree];
	struct pollfd poll_fd = { .fd = players->sockets[actor][tree], .events = POLLIN };
	struct step copy = *step;
	char *text = answer->text;

	if (!transfer(send_some, poll_fd.fd, &copy, sizeof(copy)) || poll(&poll_fd, 1, PATIENCE_MS) != 1 ||
	    !transfer(read, poll_fd.fd, answer, sizeof(*answer)))
		return false;
	answer->text = realloc(text, answer->len + 1);
	if (answer->text == NULL)
		abort();
	answer->text[answer->len] = '\0';
	*ret_answer = answer;
	return transfer(read, poll_fd.fd, answer->text, answer->len);
}
