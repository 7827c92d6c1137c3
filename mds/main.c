/* strake-mds: options, data directory, loop. */
#include "common/daemon.h"
#include "common/fiber.h"
#include "common/logger.h"
#include "common/units.h"
#include "mds/check.h"
#include "mds/mdt.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LISTEN_PORT  9401
#define MGS_WAIT_MAX 3600 /* seconds */

struct options {
	struct address_list listen, mgs;
	char *data_dir;
	char *cluster_name; /* NULL: whatever the data directory says */
	bool strict, keep_log, root_squash, check;
	unsigned int mgs_wait_ms;
	bool has_go_on_from;
	uint64_t go_on_from;
};

static int set_listen(void *field, const char *value, char *error, size_t error_size)
{
	return daemon_set_addresses(field, LISTEN_PORT, value, error, error_size);
}

static int set_durability(void *target, const char *value, char *error, size_t error_size)
{
	struct options *options = target;

	if (strcmp(value, "strict") != 0 && strcmp(value, "normal") != 0) {
		snprintf(error, error_size, "\"%s\" is neither \"normal\" nor \"strict\"", value);
		return -EINVAL;
	}
	options->strict = value[0] == 's';
	return 0;
}

static int set_mgs_wait(void *target, const char *value, char *error, size_t error_size)
{
	uint64_t seconds;

	if (units_parse_number(value, 0, MGS_WAIT_MAX, &seconds) < 0) {
		snprintf(error, error_size, "\"%s\" is no number of seconds up to %d", value, MGS_WAIT_MAX);
		return -EINVAL;
	}
	((struct options *)target)->mgs_wait_ms = (unsigned int)seconds * 1000;
	return 0;
}

static int set_go_on_from(void *target, const char *value, char *error, size_t error_size)
{
	struct options *options = target;

	if (units_parse_number(value, 0, UINT64_MAX, &options->go_on_from) < 0) {
		snprintf(error, error_size, "\"%s\" is no number of a record", value);
		return -EINVAL;
	}
	options->has_go_on_from = true;
	return 0;
}

#define FIELD(name) offsetof(struct options, name)

static const struct daemon_option option_table[] = {
	{ "data-dir", 'd', "DIR", "the data directory, made by `strake format mds`", daemon_set_text, FIELD(data_dir) },
	{ "listen", 'l', "ADDR[,ADDR...]", "where to listen (0.0.0.0:9401)", set_listen, FIELD(listen) },
	{ "mgs", 'm', "ADDR[,ADDR...]", "the MGS, by one or several addresses (127.0.0.1:9400)", daemon_set_mgs,
	  FIELD(mgs) },
	{ "cluster-name", 'c', "NAME", "refuse a data directory of another filesystem", daemon_set_text,
	  FIELD(cluster_name) },
	{ "durability", 0, "MODE", "normal: synced within 100 ms; strict: before each answer (normal)", set_durability,
	  0 },
	{ "keep-log", 0, NULL, "keep the whole log, as a history of all changes", daemon_set_switch, FIELD(keep_log) },
	{ "root-squash", 0, NULL, "root of clients is nobody: has no rights but others'", daemon_set_switch,
	  FIELD(root_squash) },
	{ "mgs-wait", 0, "SECONDS", "for the MGS's word at the start, if it cannot be reached (5)", set_mgs_wait, 0 },
	{ "go-on-from", 0, "RECORD", "serve an older copy of the data directory, which ends there; see the manual",
	  set_go_on_from, 0 },
	{ "check", 0, NULL, "do not serve: check the state, say what is wrong, and end", daemon_set_switch,
	  FIELD(check) },
};

/* What main() and the fiber that stops the MDT share. */
struct program {
	struct loop *loop;
	struct mdt *mdt;
	bool is_ready, failed;
	char refusal[1024]; /* before it was ready; "": none */
};

static void serving(void *owner, const struct mdt *mdt)
{
	struct program *program = owner;

	program->is_ready = true;
	log_info("serving filesystem \"%s\" on %s", mdt->config.identity->fs_name, mdt->address);
	daemon_ready(mdt->address);
}

static void refused(void *owner, const char *text)
{
	struct program *program = owner;

	if (program->is_ready)
		log_error("%s", text);
	else
		snprintf(program->refusal, sizeof(program->refusal), "%s", text);
	program->failed = true;
	loop_stop(program->loop);
}

static void stop_fiber(void *arg)
{
	struct program *program = arg;

	mdt_stop(program->mdt);
	loop_stop(program->loop);
}

static void say_fault(void *arg, const char *text)
{
	(void)arg;
	printf("%s\n", text);
}

static int check(struct program *program)
{
	int64_t faults = 0;

	if (program->mdt->state.formatted)
		faults = state_check(&program->mdt->state, say_fault, NULL);
	if (faults < 0)
		log_error("%s", strerror((int)-faults));
	else
		printf("%" PRId64 " faults in %" PRIu64 " inodes\n", faults, program->mdt->state.meta.inodes);
	mdt_close(program->mdt);
	return faults == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int run(struct program *program)
{
	int err = loop_run(program->loop);

	/* Once more, for the fibers to end. */
	if (err == 0)
		err = fiber_start(program->loop, stop_fiber, program);
	if (err == 0)
		err = loop_run(program->loop);
	if (err < 0) {
		log_error("the loop ended: %s", strerror(-err));
		program->failed = true;
	} else {
		mdt_close(program->mdt);
	}
	return program->failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

static void read_key(const char *dir, struct key *ret_key)
{
	char path[4096];
	int err;

	snprintf(path, sizeof(path), "%s/cluster.key", dir);
	err = key_read(path, ret_key);
	if (err < 0)
		daemon_fail("%s: %s", path,
			    err == -EPERM ? "others than its owner may read it; chmod 600 it" : strerror(-err));
}

int main(int argc, char **argv)
{
	struct options options = { .mgs_wait_ms = MDT_MGS_WAIT_MS };
	struct program program = { 0 };
	struct identity identity;
	struct key key;
	char error[512];
	int lock, err;

	(void)address_list_parse("0.0.0.0", LISTEN_PORT, &options.listen);
	(void)address_list_parse("127.0.0.1", ADDRESS_PORT_DEFAULT, &options.mgs);
	daemon_options(argc, argv, "strake-mds", "mds", option_table, sizeof(option_table) / sizeof(*option_table),
		       &options, NULL);
	if (!options.data_dir)
		daemon_refuse("strake-mds", "--data-dir is missing; `strake format mds -d DIR` makes one");
	if (identity_open(options.data_dir, ROLE_MDT, &identity, &lock, error, sizeof(error)) < 0)
		daemon_fail("%s", error);
	if (options.cluster_name && strcmp(options.cluster_name, identity.fs_name) != 0)
		daemon_fail("%s belongs to the filesystem \"%s\", not to \"%s\"", options.data_dir, identity.fs_name,
			    options.cluster_name);
	read_key(options.data_dir, &key);

	err = loop_new(&program.loop);
	if (err == 0)
		err = daemon_signals(program.loop);
	if (err < 0)
		daemon_fail("%s", strerror(-err));
	if (mdt_open(program.loop,
		     &(struct mdt_config){
			     .dir = options.data_dir,
			     .listen = options.check ? NULL : &options.listen,
			     .mgs = &options.mgs,
			     .identity = &identity,
			     .key = &key,
			     .strict = options.strict,
			     .keep_log = options.keep_log,
			     .root_squash = options.root_squash,
			     .mgs_wait_ms = options.mgs_wait_ms,
			     .has_go_on_from = options.has_go_on_from,
			     .go_on_from = options.go_on_from,
			     .owner = &program,
			     .serving = serving,
			     .refused = refused,
		     },
		     &program.mdt, error, sizeof(error)) < 0)
		daemon_fail("%s", error);

	err = options.check ? check(&program) : run(&program);
	if (program.refusal[0] != '\0')
		daemon_fail("%s", program.refusal);
	loop_free(program.loop);
	close(lock);
	free(options.data_dir);
	free(options.cluster_name);
	return err;
}
