/* strake fsck: is the filesystem as it must be? */
#include "client/fsck/fsck.h"
#include "client/cli/cli.h"
#include "client/key_find.h"
#include "common/fiber.h"
#include "common/json.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATIENCE_S  30
#define MEMORY      ((size_t)64 << 20)
#define UNFINISHED  3 /* the exit status when nothing was found, and not all could be looked at */
#define SECONDS_MAX 86400

static void print_help(void)
{
	puts("Usage: strake [-m ADDR[,ADDR...]] fsck [--json] [--timeout SECONDS]\n"
	     "\n"
	     "Checks a filesystem that runs, and may be in use: its tree, link counts, orphans, what waits to be\n"
	     "destroyed, layouts, and all objects on all OSTs. Changes nothing. A server that does not answer for\n"
	     "--timeout (30) seconds is left out, which is said.\n"
	     "\n"
	     "Exit status 0 when all of it was looked at and is clean, 1 when something was found, 2 when the command\n"
	     "line is wrong, 3 when nothing was found, but not all of it could be looked at.");
}

struct run {
	struct fsck_options options;
	struct fsck_result result;
	struct loop *loop;
	bool as_json;
	struct json json;
	int err;
	char error[512];
};

/* --- as it is found ----------------------------------------------------------------------------------------------- */

static void print_finding(void *arg, const struct fsck_finding *finding)
{
	(void)arg;
	cli_say("%s: %s", fsck_kind_word(finding->kind), finding->text);
}

static void json_finding(void *arg, const struct fsck_finding *finding)
{
	struct json *json = &((struct run *)arg)->json;

	json_object_begin(json, NULL);
	json_string(json, "kind", fsck_kind_word(finding->kind));
	if (finding->ino)
		json_unsigned(json, "ino", finding->ino);
	if (finding->gen) {
		json_unsigned(json, "gen", finding->gen);
		json_unsigned(json, "seq", finding->seq);
	}
	if (finding->ost >= 0)
		json_signed(json, "ost", finding->ost);
	json_string(json, "text", finding->text);
	json_object_end(json);
}

static void print_note(void *arg, const char *text)
{
	(void)arg;
	cli_fail("%s", text);
}

/* --- at the end --------------------------------------------------------------------------------------------------- */

static bool is_clean(const struct run *run)
{
	return run->err == 0 && run->result.findings == 0 && fsck_is_complete(&run->result);
}

static void print_end(const struct run *run)
{
	const struct fsck_result *result = &run->result;

	printf("%s: %" PRIu64 " inodes, %" PRIu64 " entries, %" PRIu64 " objects on %zu OSTs: ", result->fs_name,
	       result->totals.inodes, result->entries, result->totals.objects, result->ost_count);
	if (result->findings > 0)
		printf("%" PRIu64 " found\n", result->findings);
	else
		printf("%s\n", is_clean(run) ? "clean" : "nothing found, but not all was looked at");
}

static void json_ends(struct run *run)
{
	const struct fsck_result *result = &run->result;
	struct json *json = &run->json;
	char uuid[UUID_STRING_SIZE];

	json_array_end(json);
	json_string(json, "fs_name", result->fs_name);
	json_string(json, "fs_uuid", uuid_format(&result->fs, uuid));
	json_unsigned(json, "inodes", result->totals.inodes);
	json_unsigned(json, "entries", result->entries);
	json_unsigned(json, "objects", result->totals.objects);
	json_array_begin(json, "oss");
	for (size_t i = 0; i < result->ost_count; i++) {
		json_object_begin(json, NULL);
		json_unsigned(json, "ost_index", result->osts[i].index);
		json_bool(json, "checked", !result->osts[i].unchecked);
		if (result->osts[i].unchecked)
			json_string(json, "reason", result->osts[i].why);
		json_object_end(json);
	}
	json_array_end(json);
	json_unsigned(json, "unsettled", result->unsettled);
	if (run->err < 0)
		json_string(json, "error", run->error);
	json_bool(json, "complete", run->err == 0 && fsck_is_complete(result));
	json_bool(json, "clean", is_clean(run));
	json_object_end(json);
}

static int conclude(struct run *run)
{
	const struct fsck_result *result = &run->result;
	char text[128];

	if (run->err < 0)
		cli_fail("%s", run->error);
	if (result->unsettled > 0) {
		snprintf(text, sizeof(text), "%" PRIu64 " inodes changed all the time and could not be judged",
			 result->unsettled);
		print_note(run, text);
	}
	if (run->as_json)
		json_ends(run);
	else if (run->err == 0)
		print_end(run);
	if ((run->as_json ? json_end(&run->json) < 0 : fflush(stdout) != 0)) {
		cli_fail("cannot write: %s", strerror(EIO));
		return UNFINISHED;
	}
	if (result->findings > 0)
		return CLI_FAILED;
	return is_clean(run) ? CLI_OK : UNFINISHED;
}

/* --- the verb ----------------------------------------------------------------------------------------------------- */

static void run_fiber(void *arg)
{
	struct run *run = arg;

	run->err = fsck_run(run->loop, &run->options, &run->result, run->error, sizeof(run->error));
	fiber_sleep_ms(1); /* what has ended gets round once more */
	loop_stop(run->loop);
}

static int run_loop(struct run *run)
{
	int err = loop_new(&run->loop);

	if (err == 0)
		err = fiber_start(run->loop, run_fiber, run);
	if (err == 0)
		err = loop_run(run->loop);
	loop_free(run->loop);
	return err;
}

static int fsck(const struct cli_globals *globals, struct run *run)
{
	struct key key;
	int status, err;

	if (key_find(globals->key, &globals->mgs, &key, run->error, sizeof(run->error)) < 0) {
		cli_fail("%s", run->error);
		return UNFINISHED;
	}
	run->options.mgs = &globals->mgs;
	run->options.key = &key;
	run->options.memory = MEMORY;
	run->options.arg = run;
	run->options.found = run->as_json ? json_finding : print_finding;
	run->options.note = print_note;
	if (run->as_json) {
		json_begin(&run->json, stdout);
		json_object_begin(&run->json, NULL);
		json_array_begin(&run->json, "findings");
	}
	err = run_loop(run);
	if (err < 0) {
		run->err = err;
		snprintf(run->error, sizeof(run->error), "%s", strerror(-err));
	}
	status = conclude(run);
	fsck_result_release(&run->result);
	return status;
}

static bool take_seconds(const char *text, unsigned int *ret_ms)
{
	char *end;
	unsigned long seconds = strtoul(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || *end != '\0' || seconds == 0 || seconds > SECONDS_MAX)
		return false;
	*ret_ms = (unsigned int)seconds * 1000;
	return true;
}

int cli_fsck(int argc, char **argv, const struct cli_globals *globals)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "timeout", required_argument, NULL, 't' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct run run = { .options.patience_ms = PATIENCE_S * 1000 };
	int letter;

	opterr = 0;
	while ((letter = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		switch (letter) {
		case 'j':
			run.as_json = true;
			break;
		case 't':
			if (!take_seconds(optarg, &run.options.patience_ms))
				return cli_misuse("fsck", "--timeout: \"%s\" is no number of seconds from 1 to %d",
						  optarg, SECONDS_MAX);
			break;
		case 'h':
			print_help();
			return CLI_OK;
		default:
			return cli_bad_option("fsck", letter, argv);
		}
	}
	if (optind < argc)
		return cli_misuse("fsck", "\"%s\" is one word too many", argv[optind]);
	return fsck(globals, &run);
}
