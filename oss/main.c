/*
 * strake-oss: options, and a thread with a loop for each data directory. The main thread waits for signals.
 */
#include "common/container_of.h"
#include "common/daemon.h"
#include "common/fiber.h"
#include "common/logger.h"
#include "common/peer.h"
#include "common/units.h"
#include "oss/ost.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define LISTEN_PORT          9402
#define OSTS_MAX             64
#define REGISTER_PATIENCE_MS 1500 /* the MGS may come later; if it is there, who waits for us finds us in the map */
#define DESCRIPTORS_SPARE    256
#define DESCRIPTORS_PER_OST  (64 + 2 * PAGE_PIPES_MAX)
#define OBJECTS_OPEN_MIN     16u

struct options {
	struct address_list listen, mgs;
	char *data_dirs; /* cut into pieces */
	const char *dirs[OSTS_MAX];
	unsigned int dir_count;
	char *key_file;
	uint64_t index; /* UINT64_MAX: whatever */
	uint64_t full_percent;
	enum ost_direct direct;
};

enum runner_state { RUNNER_STARTING, RUNNER_READY, RUNNER_FAILED };

/* One OST and its thread. */
struct runner {
	struct ost *ost;
	struct loop *loop;
	pthread_t thread;
	struct address_list listen;
	struct loop_post stop;
	int stop_err;
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	enum runner_state state[OSTS_MAX];
	char error[1024];
	struct loop *loop; /* the main thread's */
	bool refused;
} shared = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static struct runner runners[OSTS_MAX];
static struct peer_tally mgs_tally = { .name = "MGS" };

/* --- options ---------------------------------------------------------------------------------------------------------- */

static int set_listen(void *field, const char *value, char *error, size_t error_size)
{
	return daemon_set_addresses(field, LISTEN_PORT, value, error, error_size);
}

static int set_data_dir(void *target, const char *value, char *error, size_t error_size)
{
	struct options *options = target;
	char *rest, *dir;

	free(options->data_dirs);
	options->data_dirs = strdup(value);
	options->dir_count = 0;
	if (!options->data_dirs)
		return -ENOMEM;
	for (dir = strtok_r(options->data_dirs, ",", &rest); dir; dir = strtok_r(NULL, ",", &rest)) {
		if (options->dir_count == OSTS_MAX) {
			snprintf(error, error_size, "more than %d directories", OSTS_MAX);
			return -EINVAL;
		}
		options->dirs[options->dir_count++] = dir;
	}
	if (options->dir_count == 0) {
		snprintf(error, error_size, "it is empty");
		return -EINVAL;
	}

	return 0;
}

static int set_number(const char *value, uint64_t min, uint64_t max, uint64_t *number, char *error, size_t error_size)
{
	int err = units_parse_number(value, min, max, number);

	if (err < 0)
		snprintf(error, error_size, "\"%s\" is no number from %" PRIu64 " to %" PRIu64, value, min, max);

	return err;
}

static int set_index(void *target, const char *value, char *error, size_t error_size)
{
	return set_number(value, 0, UINT16_MAX, &((struct options *)target)->index, error, error_size);
}

static int set_full(void *target, const char *value, char *error, size_t error_size)
{
	return set_number(value, 1, 100, &((struct options *)target)->full_percent, error, error_size);
}

static int set_direct(void *target, const char *value, char *error, size_t error_size)
{
	static const char *const words[] = {
		[OST_DIRECT_NO] = "no", [OST_DIRECT_AUTO] = "auto", [OST_DIRECT_YES] = "yes"
	};

	for (unsigned int i = 0; i < sizeof(words) / sizeof(*words); i++) {
		if (strcmp(value, words[i]) == 0) {
			((struct options *)target)->direct = (enum ost_direct)i;
			return 0;
		}
	}
	snprintf(error, error_size, "\"%s\" is none of yes, no, auto", value);

	return -EINVAL;
}

#define FIELD(name) offsetof(struct options, name)

static const struct daemon_option option_table[] = {
	{ "data-dir", 'd', "DIR[,DIR...]", "the data directories, made by `strake format oss`: an OST each",
	  set_data_dir, 0 },
	{ "listen", 'l', "ADDR[,ADDR...]",
	  "where to listen (0.0.0.0:9402); further OSTs take the following ports there", set_listen, FIELD(listen) },
	{ "mgs", 'm', "ADDR[,ADDR...]", "the MGS, by one or several addresses (127.0.0.1:9400)", daemon_set_mgs,
	  FIELD(mgs) },
	{ "ost-index", 'i', "INDEX", "refuse a data directory of another OST", set_index, 0 },
	{ "key", 'k', "FILE", "the cluster key (DIR/cluster.key)", daemon_set_text, FIELD(key_file) },
	{ "full-percent", 0, "N", "report the target as full from here on (95)", set_full, 0 },
	{ "direct", 0, "yes|no|auto", "large aligned writes go round the page cache (auto)", set_direct, 0 },
};

/* --- one OST's thread -------------------------------------------------------------------------------------------------- */

static void report(const struct runner *runner, enum runner_state state, const char *error)
{
	pthread_mutex_lock(&shared.lock);
	shared.state[runner - runners] = state;
	if (error)
		snprintf(shared.error, sizeof(shared.error), "%s: %s", runner->ost->config.dir, error);
	pthread_cond_signal(&shared.changed);
	pthread_mutex_unlock(&shared.lock);
}

/* While we start this is why we do not; later it is why we stop. */
static void refused(void *owner, const char *text)
{
	const struct runner *runner = owner;
	bool starting;

	pthread_mutex_lock(&shared.lock);
	starting = shared.state[runner - runners] == RUNNER_STARTING;
	shared.refused = true;
	pthread_mutex_unlock(&shared.lock);
	if (starting) {
		report(runner, RUNNER_FAILED, text);
		return;
	}
	log_error("%s: %s", runner->ost->config.dir, text);
	loop_stop(shared.loop);
}

static void announce(void *arg)
{
	struct runner *runner = arg;
	struct ost *ost = runner->ost;

	if (ost->mgs && mgs_client_wait(ost->mgs, REGISTER_PATIENCE_MS) < 0)
		log_warning("OST %u: not registered yet: %s", ost->identity.index, mgs_client_last_error(ost->mgs));
	pthread_mutex_lock(&shared.lock);
	if (shared.state[runner - runners] == RUNNER_STARTING)
		shared.state[runner - runners] = RUNNER_READY;
	pthread_cond_signal(&shared.changed);
	pthread_mutex_unlock(&shared.lock);
}

static void stop_fiber(void *arg)
{
	struct runner *runner = arg;

	runner->stop_err = ost_stop(runner->ost);
	loop_stop(runner->loop);
}

static void stop_posted(struct loop_post *post)
{
	struct runner *runner = container_of(post, struct runner, stop);

	if (fiber_start(runner->loop, stop_fiber, runner) < 0) {
		runner->stop_err = -ENOMEM;
		loop_stop(runner->loop);
	}
}

static void *runner_main(void *arg)
{
	struct runner *runner = arg;
	char error[512];
	int err;

	err = ost_start(runner->ost, runner->loop, error, sizeof(error));
	if (err == 0)
		err = fiber_start(runner->loop, announce, runner);
	if (err < 0) {
		report(runner, RUNNER_FAILED, error);
		return NULL; /* the process ends */
	}
	err = loop_run(runner->loop);
	if (err < 0)
		logger_die("the loop of OST %u failed: %s", runner->ost->identity.index, strerror(-err));
	if (runner->stop_err < 0)
		log_error("OST %u could not be stopped cleanly: %s", runner->ost->identity.index,
			  strerror(-runner->stop_err));
	runner->ost = ost_close(runner->ost);

	return NULL;
}

/* --- all of them ------------------------------------------------------------------------------------------------------- */

/* Those of the i-th OST: all of the list, at ports that follow; any port is any. False: there are no such ports. */
static bool listen_addresses(const struct address_list *list, unsigned int i, struct address_list *ret_list)
{
	*ret_list = *list;
	for (size_t k = 0; k < list->count; k++) {
		char host[256];
		uint16_t port;

		if (address_split(list->text[k], host, &port) < 0 || port + i > UINT16_MAX)
			return false;
		if (port != 0)
			(void)address_with_port(list->text[k], (uint16_t)(port + i), ret_list->text[k]);
	}
	return true;
}

static unsigned int objects_open(unsigned int ost_count)
{
	struct rlimit limit;
	rlim_t each;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
		return OST_OBJECTS_OPEN_DEFAULT;
	each = limit.rlim_cur > DESCRIPTORS_SPARE ? (limit.rlim_cur - DESCRIPTORS_SPARE) / ost_count : 0;
	each = each > DESCRIPTORS_PER_OST ? each - DESCRIPTORS_PER_OST : 0;
	if (each > OST_OBJECTS_OPEN_DEFAULT)
		return OST_OBJECTS_OPEN_DEFAULT;

	return each > OBJECTS_OPEN_MIN ? (unsigned int)each : OBJECTS_OPEN_MIN;
}

/*
 * Make room for all descriptors while there is but one thread. The kernel doubles a process's table of them when it is full,
 * and where threads share it whoever opens a file then waits until all CPUs have passed by: some 10 ms.
 */
static void descriptors_reserve(unsigned int ost_count)
{
	unsigned int count = DESCRIPTORS_SPARE + ost_count * (DESCRIPTORS_PER_OST + objects_open(ost_count));
	int any = open("/", O_PATH | O_CLOEXEC), last = fcntl(any, F_DUPFD_CLOEXEC, count - 1);

	if (last >= 0)
		close(last);
	if (any >= 0)
		close(any);
}

static void open_ost(const struct options *options, unsigned int i, const struct key *key)
{
	struct runner *runner = &runners[i];
	struct ost_config config = {
		.dir = options->dirs[i],
		.listen = &runner->listen,
		.key = key,
		.mgs = options->mgs,
		.mgs_tally = &mgs_tally,
		.index = options->index == UINT64_MAX ? -1 : (int)options->index,
		.full_percent = (unsigned int)options->full_percent,
		.objects_open = objects_open(options->dir_count),
		.direct = options->direct,
		.refused = refused,
		.owner = runner,
	};
	char error[512];
	int err;

	if (!listen_addresses(&options->listen, i, &runner->listen))
		daemon_fail("%s: there are no ports above that of --listen for so many OSTs", options->dirs[i]);
	runner->stop = (struct loop_post){ .run = stop_posted };
	if (ost_open(&config, &runner->ost, error, sizeof(error)) < 0)
		daemon_fail("%s", error);
	if (runner->ost->recovered)
		log_info("OST %u was not stopped cleanly: %" PRIu64 " objects known, %" PRIu64 " entered, %" PRIu64
			 " leftovers removed, %" PRIu64 " files not ours; %s",
			 runner->ost->identity.index, runner->ost->recovery.known, runner->ost->recovery.entered,
			 runner->ost->recovery.removed, runner->ost->recovery.foreign,
			 runner->ost->kept ? "nothing is lost"
					   : "what was not synced may be lost, clients send it again");
	err = loop_new(&runner->loop);
	if (err < 0)
		daemon_fail("%s", strerror(-err));
}

static void start_all(unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		int err = -pthread_create(&runners[i].thread, NULL, runner_main, &runners[i]);

		if (err < 0)
			daemon_fail("thread: %s", strerror(-err));
	}
	pthread_mutex_lock(&shared.lock);
	for (unsigned int i = 0; i < count; i++) {
		while (shared.state[i] == RUNNER_STARTING)
			pthread_cond_wait(&shared.changed, &shared.lock);
		if (shared.state[i] == RUNNER_FAILED) {
			pthread_mutex_unlock(&shared.lock);
			pthread_join(runners[i].thread, NULL);
			daemon_fail("%s", shared.error);
		}
	}
	pthread_mutex_unlock(&shared.lock);
}

static void say_ready(unsigned int count)
{
	char all[OSTS_MAX * 64] = "", address[ADDRESS_SIZE];
	size_t used = 0;

	for (unsigned int i = 0; i < count && used < sizeof(all); i++) {
		if (address_with_port(runners[i].listen.text[0], runners[i].ost->port, address) < 0)
			continue;
		log_info("OST %u serves %s on %s", runners[i].ost->identity.index, runners[i].ost->config.dir, address);
		used += (size_t)snprintf(all + used, sizeof(all) - used, "%s%s", i > 0 ? "," : "", address);
	}
	daemon_ready(all);
}

static int stop_all(unsigned int count)
{
	int err = 0;

	for (unsigned int i = 0; i < count; i++)
		loop_post(runners[i].loop, &runners[i].stop);
	for (unsigned int i = 0; i < count; i++) {
		pthread_join(runners[i].thread, NULL);
		runners[i].loop = loop_free(runners[i].loop);
		if (runners[i].stop_err < 0)
			err = runners[i].stop_err;
	}

	return err;
}

int main(int argc, char **argv)
{
	struct options options = { .index = UINT64_MAX, .direct = OST_DIRECT_AUTO };
	struct key key;
	int err;

	(void)address_list_parse("0.0.0.0", LISTEN_PORT, &options.listen);
	(void)address_list_parse("127.0.0.1", ADDRESS_PORT_DEFAULT, &options.mgs);
	daemon_options(argc, argv, "strake-oss", "oss", option_table, sizeof(option_table) / sizeof(*option_table),
		       &options, NULL);
	if (options.dir_count == 0)
		daemon_refuse("strake-oss", "--data-dir is missing; `strake format oss -d DIR` makes one");
	if (options.index != UINT64_MAX && options.dir_count > 1)
		daemon_refuse("strake-oss", "--ost-index goes with one data directory");
	if (options.key_file) {
		err = key_read(options.key_file, &key);
		if (err < 0)
			daemon_fail("%s: %s", options.key_file,
				    err == -EPERM ? "others than its owner may read it; chmod 600 it" : strerror(-err));
	}

	err = loop_new(&shared.loop);
	if (err == 0)
		err = daemon_signals(shared.loop);
	if (err < 0)
		daemon_fail("%s", strerror(-err));
	descriptors_reserve(options.dir_count);
	for (unsigned int i = 0; i < options.dir_count; i++)
		open_ost(&options, i, options.key_file ? &key : NULL);
	start_all(options.dir_count);
	say_ready(options.dir_count);

	err = loop_run(shared.loop);
	if (stop_all(options.dir_count) < 0)
		err = -EIO;
	loop_free(shared.loop);
	free(options.data_dirs);
	free(options.key_file);

	return err < 0 || shared.refused ? EXIT_FAILURE : EXIT_SUCCESS;
}
