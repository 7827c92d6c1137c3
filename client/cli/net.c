/* strake net: the RDMA devices of this machine; and `strake net test`, how fast a server answers by each transport. */
#include "client/cli/cli.h"
#include "client/cli/net_print.h"
#include "client/cli/net_test.h"
#include "client/key_find.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECONDS     1.0
#define SECONDS_MIN 0.1
#define SECONDS_MAX 60.0

static void print_help(void)
{
	puts("Usage: strake net [--json]\n"
	     "       strake [--key FILE] net test HOST[:PORT] [--transport auto|rdma|tcp] [--seconds N] [--json]\n"
	     "\n"
	     "The RDMA devices of this machine, their state and addresses. Exit status 1 when RDMA cannot be\n"
	     "asked for.\n"
	     "\n"
	     "test: how long a server of a filesystem takes for a small call, and how many bytes a second go\n"
	     "to it and from it, by TCP and by RDMA; nothing is stored or changed. Any server will do; an MGS's\n"
	     "port is 9400. Each of the three measures takes --seconds (1; 0.1 to 60). Exit status 1 when a\n"
	     "transport that both ends have does not work.");
}

/* --- devices ------------------------------------------------------------------------------------------------------ */

static int net_devices(bool as_json)
{
	struct net_devices_print print;
	int err;

	net_devices_begin(&print, as_json);
	err = transport_rdma_ports(net_devices_port, &print);
	if (net_devices_end(&print, err) < 0)
		return cli_fail("cannot write: %s", strerror(EIO));
	return err == 0 || err == -ENODEV ? CLI_OK : CLI_FAILED;
}

/* --- test --------------------------------------------------------------------------------------------------------- */

/* By its own address, where it is an MGS of a cluster on this machine; else as for the MGS. */
static int find_key(const struct cli_globals *globals, const char *address, struct key *ret_key)
{
	struct address_list list = { .count = 1 };
	char error[512];

	snprintf(list.text[0], ADDRESS_SIZE, "%s", address_plain(address));
	for (size_t i = 0; i < globals->mgs.count && list.count < ADDRESS_LIST_MAX; i++)
		memcpy(list.text[list.count++], globals->mgs.text[i], ADDRESS_SIZE);
	if (key_find(globals->key, &list, ret_key, error, sizeof(error)) < 0)
		return cli_fail("%s", error);
	return 0;
}

static int net_test(const struct cli_globals *globals, struct net_test_options *options, bool as_json)
{
	struct net_test_result result;
	struct key key;
	char error[512];
	int status = find_key(globals, options->address, &key);

	if (status != 0)
		return status;
	fabrics_choose(options->choice);
	options->key = &key;
	if (fabrics_check(error, sizeof(error)) < 0 || net_test_run(options, &result, error, sizeof(error)) < 0)
		return cli_fail("%s", error);
	if (net_test_print(&result, as_json) < 0)
		return cli_fail("cannot write: %s", strerror(EIO));
	return net_test_passed(&result) ? CLI_OK : CLI_FAILED;
}

static bool take_seconds(const char *text, unsigned int *ret_ms)
{
	char *end;
	double seconds = strtod(text, &end);

	if (text[0] < '0' || text[0] > '9' || *end != '\0' || !isfinite(seconds) || seconds < SECONDS_MIN ||
	    seconds > SECONDS_MAX)
		return false;
	*ret_ms = (unsigned int)(seconds * 1000);
	return true;
}

/* --- the verb ----------------------------------------------------------------------------------------------------- */

static int cli_net_test(int argc, char **argv, const struct cli_globals *globals)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "transport", required_argument, NULL, 'T' },
		{ "seconds", required_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct net_test_options test = { .choice = FABRICS_AUTO, .measure_ms = (unsigned int)(SECONDS * 1000) };
	struct address_list list;
	bool as_json = false;
	int letter;

	while ((letter = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		switch (letter) {
		case 'j':
			as_json = true;
			break;
		case 'T':
			if (fabrics_parse(optarg, &test.choice) < 0)
				return cli_misuse("net", "--transport: \"%s\" is none of auto, rdma, tcp", optarg);
			break;
		case 's':
			if (!take_seconds(optarg, &test.measure_ms))
				return cli_misuse("net", "--seconds: \"%s\" is no number from %g to %g", optarg,
						  SECONDS_MIN, SECONDS_MAX);
			break;
		case 'h':
			print_help();
			return CLI_OK;
		default:
			return cli_bad_option("net", letter, argv);
		}
	}
	if (optind == argc)
		return cli_misuse("net", "test which server?");
	if (optind + 1 < argc)
		return cli_misuse("net", "\"%s\" is one word too many", argv[optind + 1]);
	if (address_list_parse(argv[optind], ADDRESS_PORT_DEFAULT, &list) < 0 || list.count != 1)
		return cli_misuse("net", "\"%s\" is no address HOST[:PORT]", argv[optind]);
	test.address = list.text[0];
	return net_test(globals, &test, as_json);
}

int cli_net(int argc, char **argv, const struct cli_globals *globals)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	bool as_json = false;
	int letter;

	opterr = 0;
	if (argc > 1 && strcmp(argv[1], "test") == 0)
		return cli_net_test(argc - 1, argv + 1, globals);
	while ((letter = getopt_long(argc, argv, "+:h", options, NULL)) != -1) {
		switch (letter) {
		case 'j':
			as_json = true;
			break;
		case 'h':
			print_help();
			return CLI_OK;
		default:
			return cli_bad_option("net", letter, argv);
		}
	}
	if (optind < argc)
		return cli_misuse("net", "there is no \"net %s\": test, or nothing", argv[optind]);
	return net_devices(as_json);
}
