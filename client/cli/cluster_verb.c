/* strake cluster start|stop|status DIR: the words. */
#include "client/cli/cli.h"
#include "client/cli/cluster.h"
#include "common/fabrics.h"
#include "common/units.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_help(void)
{
	puts("Usage: strake cluster start DIR [--osts N] [--mount MNT [-o OPTIONS]] [--listen HOST]\n"
	     "                                [--transport KIND] [--durability strict] [-c NAME]\n"
	     "                                [--go-on-from RECORD]\n"
	     "       strake cluster status DIR [--json]\n"
	     "       strake cluster stop DIR\n"
	     "\n"
	     "A whole cluster on this machine: MGS, MDS and N OSS with an OST each, everything in DIR. start makes "
	     "what\n"
	     "is not there, starts what does not run, and returns when all is usable. stop unmounts its mounts and "
	     "ends\n"
	     "its servers; the data stays. status exits with 0 when all of it runs, else with 1.\n"
	     "\n"
	     "      --osts N             how many OSTs (4); later more, but not fewer\n"
	     "      --mount MNT          mount it there too (the directory is made where it is missing)\n"
	     "  -o OPTIONS               of that mount\n"
	     "      --listen HOST        127.0.0.1\n"
	     "      --transport KIND     rdma, tcp, or auto: RDMA where it is to be had (auto); kept for later starts\n"
	     "      --durability MODE    of the MDS; kept for later starts\n"
	     "      --go-on-from RECORD  the MDS's data directory is an older copy that ends there, and all there is\n"
	     "  -c, --cluster-name NAME  the filesystem's name (strake)");
}

struct words {
	struct cluster_start_options start;
	bool has_start_option; /* one that only start knows */
	bool json;
};

static int parse_osts(struct words *words, const char *text)
{
	uint64_t number;

	if (units_parse_number(text, 1, CLUSTER_OSTS_MAX, &number) < 0)
		return cli_misuse("cluster", "--osts: \"%s\" is no number from 1 to %d", text, CLUSTER_OSTS_MAX);
	words->start.ost_count = (unsigned int)number;
	return 0;
}

static int parse_transport(struct words *words, const char *text)
{
	enum fabrics_choice choice;

	if (fabrics_parse(text, &choice) < 0)
		return cli_misuse("cluster", "--transport: \"%s\" is none of auto, rdma, tcp", text);
	words->start.transport = text;
	return 0;
}

static int parse_durability(struct words *words, const char *text)
{
	if (strcmp(text, "normal") != 0 && strcmp(text, "strict") != 0)
		return cli_misuse("cluster", "--durability: \"%s\" is neither normal nor strict", text);
	words->start.durability = text;
	return 0;
}

static int parse_go_on_from(struct words *words, const char *text)
{
	uint64_t number;

	if (units_parse_number(text, 0, UINT64_MAX, &number) < 0)
		return cli_misuse("cluster", "--go-on-from: \"%s\" is no number of a record", text);
	words->start.go_on_from = text;
	return 0;
}

static int parse_options(struct words *words, int argc, char **argv)
{
	enum { OSTS = 256, MOUNT, LISTEN, TRANSPORT, DURABILITY, GO_ON_FROM, JSON };
	static const struct option options[] = {
		{ "osts", required_argument, NULL, OSTS },
		{ "mount", required_argument, NULL, MOUNT },
		{ "listen", required_argument, NULL, LISTEN },
		{ "transport", required_argument, NULL, TRANSPORT },
		{ "durability", required_argument, NULL, DURABILITY },
		{ "go-on-from", required_argument, NULL, GO_ON_FROM },
		{ "cluster-name", required_argument, NULL, 'c' },
		{ "json", no_argument, NULL, JSON },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int letter, status = 0;

	opterr = 0;
	while (status == 0 && (letter = getopt_long(argc, argv, ":c:o:h", options, NULL)) != -1) {
		words->has_start_option |= letter != JSON;
		switch (letter) {
		case OSTS:
			status = parse_osts(words, optarg);
			break;
		case MOUNT:
			words->start.mount = optarg;
			break;
		case LISTEN:
			words->start.listen = optarg;
			break;
		case TRANSPORT:
			status = parse_transport(words, optarg);
			break;
		case DURABILITY:
			status = parse_durability(words, optarg);
			break;
		case GO_ON_FROM:
			status = parse_go_on_from(words, optarg);
			break;
		case JSON:
			words->json = true;
			break;
		case 'c':
			words->start.name = optarg;
			break;
		case 'o':
			words->start.mount_options = optarg;
			break;
		case 'h':
			print_help();
			exit(CLI_OK);
		default:
			status = cli_bad_option("cluster", letter, argv);
			break;
		}
	}
	return status;
}

int cli_cluster(int argc, char **argv, const struct cli_globals *globals)
{
	struct words words = { .start = { .log_level = globals->log_level } };
	const char *verb, *dir;
	int status = parse_options(&words, argc, argv);

	if (status)
		return status;
	if (optind == argc)
		return cli_misuse("cluster", "what is to be done? start, stop or status");
	verb = argv[optind];
	if (strcmp(verb, "start") != 0 && strcmp(verb, "stop") != 0 && strcmp(verb, "status") != 0)
		return cli_misuse("cluster", "\"%s\" is none of start, stop, status", verb);
	if (optind + 1 == argc)
		return cli_misuse("cluster", "in which directory?");
	if (optind + 2 < argc)
		return cli_misuse("cluster", "\"%s\" is one word too many", argv[optind + 2]);
	dir = argv[optind + 1];
	if (strcmp(verb, "start") != 0 && words.has_start_option)
		return cli_misuse("cluster", "that option is start's, not %s's", verb);
	if (strcmp(verb, "status") != 0 && words.json)
		return cli_misuse("cluster", "--json is status's, not %s's", verb);
	if (words.start.mount_options && !words.start.mount)
		return cli_misuse("cluster", "-o is of no use without --mount");

	if (strcmp(verb, "start") == 0)
		return cluster_start(dir, &words.start);
	return strcmp(verb, "stop") == 0 ? cluster_stop(dir) : cluster_status(dir, words.json);
}
