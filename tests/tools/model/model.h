/*
 * What the parts of `model` (main.c) share.
 *
 *     step     one call, by one actor: written as a line of text, so that a case is a file of such lines; any subset of its
 *              lines is a case, too
 *     op       what a step calls: a table (ops.c)
 *     player   a process that is one actor in one of the two trees (player.c): its root is the tree, it has the
 *              actor's user, groups and open files
 *     answer   what came of a step there: errno, and everything that could be seen, as text
 */
#ifndef STRAKE_TESTS_MODEL_H
#define STRAKE_TESTS_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define ACTORS    3 /* root, and two who share a group */
#define FILES     6 /* open ones of each actor */
#define PATH_ROOM 640
#define SEEN      6 /* two paths, the directories that they are in, two open files */

enum tree { TREE_MOUNT, TREE_MODEL, TREES };

struct step {
	unsigned int op, actor;
	bool look;    /* compare the attributes of what it names, too */
	bool looking; /* to a player: not the call, but that look */
	unsigned int fd[2];
	uint64_t n[3];
	char path[2][PATH_ROOM];
};

/* Times of what a step names, which differ between the trees: only whether they have changed can be compared. */
struct seen {
	bool exists;
	uint64_t ino;
	int64_t mtime_ns, ctime_ns;
};

struct answer {
	int error; /* an errno, or 0 */
	int64_t value;
	struct seen seen[SEEN];
	size_t len;
	char *text; /* with a NUL behind it; of the player: reused */
};

void answer_begin(struct answer *answer);
void answer_add(struct answer *answer, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A call's result: below 0 means errno. */
void answer_result(struct answer *answer, int64_t value);

/* --- player.c --------------------------------------------------------------------------------------------------- */

struct player {
	unsigned int actor;
	int fds[FILES]; /* -1: closed */
};

struct players {
	pid_t pids[ACTORS][TREES];
	int sockets[ACTORS][TREES];
	struct answer answers[TREES];
};

/* Processes in these two directories; dies if that does not work. */
void players_start(struct players *players, const char *const roots[TREES]);
void players_stop(struct players *players);
/* The step in one tree, or false: no answer within half a minute. The answer is good until the next one of that tree. */
bool players_do(struct players *players, unsigned int actor, enum tree tree, const struct step *step,
		struct answer **ret_answer);

/* --- ops.c, look.c ---------------------------------------------------------------------------------------------- */

/*
 * operands: what the step's fields mean, in order, for drawing, writing and reading it:
 *     p d n   a path: any, rather a directory, rather a new one      f   an open file
 *     others  a number: O open's flags, m mode, o offset, l length, w whence, u user or group, t time, r any
 */
struct op {
	const char *name, *operands;
	unsigned int weight; /* how often it is drawn */
	void (*run)(struct player *player, const struct step *step, struct answer *answer);
};
extern const struct op ops[];
extern const unsigned int ops_count;
unsigned int op_find(const char *name); /* ops_count if there is none */

/* Attributes and times of what the step names. */
void look(struct player *player, const struct step *step, struct answer *answer);
void look_at_tree(struct player *player, const struct step *step, struct answer *answer);
/* "TYPE PATH" of all there is. */
void look_for_names(struct player *player, const struct step *step, struct answer *answer);
void look_at_dir(int fd, struct answer *answer);
uint64_t sum_of(const void *data, size_t len, uint64_t sum);

/* --- steps.c ---------------------------------------------------------------------------------------------------- */

struct random {
	uint64_t state;
};
uint64_t random_below(struct random *rng, uint64_t below);

/* What there is, as look_for_names() tells it. */
struct names {
	unsigned int count, dir_count;
	char **all, **dirs;
	char *text;
};
void names_take(struct names *names, const char *text);
void names_free(struct names *names);

void step_draw(struct random *rng, const struct names *names, struct step *ret_step);
void step_print(const struct step *step, char *line, size_t size);
bool step_parse(const char *line, struct step *ret_step); /* false: no step */

#endif
