/* strake format mgs|mds|oss: make a data directory, for a new filesystem or for one whose MGS runs. */
#include "client/cli/cli.h"
#include "client/cli/data_dir.h"
#include "client/cli/map_fetch.h"
#include "client/key_find.h"
#include "common/mgs_client.h"
#include "common/units.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INDEX_MAX UINT16_MAX

struct format {
	enum role role;
	const char *dir;
	const char *name; /* -c, --fs-name */
	bool has_index, has_fs;
	uint32_t index;
	struct uuid fs;
};

static void print_help(void)
{
	puts("Usage: strake format mgs -d DIR [-c NAME] [--key FILE]\n"
	     "       strake format mds -d DIR [-m MGS] [--key FILE] [-i 0]\n"
	     "       strake format oss -d DIR [-m MGS] [--key FILE] [-i N]\n"
	     "\n"
	     "Makes an empty or new directory the data directory of a server. An MGS begins a new\n"
	     "filesystem; the others join the one whose MGS runs at MGS, with its cluster key.\n"
	     "\n"
	     "  -d, --data-dir DIR        the directory\n"
	     "  -c, --cluster-name NAME   the filesystem's name (strake)\n"
	     "  -i, --index N             of the target (mds: 0; oss: the next that is free)\n"
	     "      --fs-uuid UUID        do not ask the MGS: this is the filesystem, -c its name\n"
	     "      --key FILE            the cluster key; for an MGS: not a new one but this\n"
	     "  -m, --mgs ADDR[,ADDR...]  where the MGS is");
}

/* --- what the MGS says ------------------------------------------------------------------------------------------ */

static uint32_t next_free_index(const Strake__ClusterMap *map, enum role role)
{
	uint32_t index = 0;

	while (index < INDEX_MAX && cluster_map_find(map, role, index))
		index++;
	return index;
}

static int join_filesystem(struct format *format, const Strake__ClusterMap *map, char *name, size_t name_size)
{
	const Strake__Target *taken;

	uuid_from_bytes(map->fs_uuid.data, map->fs_uuid.len, &format->fs);
	if (format->name && strcmp(format->name, map->fs_name) != 0)
		return cli_fail("the MGS manages the filesystem \"%s\", not \"%s\"", map->fs_name, format->name);
	snprintf(name, name_size, "%s", map->fs_name);
	format->name = name;
	if (!format->has_index)
		format->index = format->role == ROLE_MDT ? 0 : next_free_index(map, format->role);

	taken = cluster_map_find(map, format->role, format->index);
	if (taken) {
		char uuid[UUID_STRING_SIZE], hint[64];
		struct uuid owner;

		uuid_from_bytes(taken->uuid.data, taken->uuid.len, &owner);
		snprintf(hint, sizeof(hint), "; the next free one is %u", next_free_index(map, format->role));
		return cli_fail("index %u belongs to the %s %s of %s for ever%s", format->index,
				role_name(format->role), uuid_format(&owner, uuid),
				taken->hostname ? taken->hostname : "another server",
				format->role == ROLE_OST ? hint : "");
	}
	return 0;
}

static int ask_mgs(struct format *format, const struct cli_globals *globals, const struct key *key, char *name,
		   size_t name_size)
{
	Strake__MapReply *reply;
	char error[512];
	int status, err = map_fetch(&globals->mgs, key, MAP_FETCH_TIMEOUT_MS, NULL, NULL, &reply, error, sizeof(error));

	if (err < 0)
		return cli_fail("%s%s", error, map_fetch_advice(err));
	status = join_filesystem(format, reply->map, name, name_size);
	strake__map_reply__free_unpacked(reply, NULL);
	return status;
}

/* --- the verb --------------------------------------------------------------------------------------------------- */

static void print_made(const struct format *format, const struct identity *identity, const struct cli_globals *globals)
{
	char fs[UUID_STRING_SIZE], target[UUID_STRING_SIZE], mgs[CLI_MGS_SIZE];

	printf("Made %s: ", format->dir);
	if (format->role == ROLE_MGS) {
		printf("filesystem \"%s\", %s\n", identity->fs_name, uuid_format(&identity->fs, fs));
		printf("Run it with: strake mgs -d %s\n", format->dir);
		printf("Its cluster key, for all servers and clients: %s/cluster.key\n", format->dir);
		return;
	}
	printf("%s-%u %s of filesystem \"%s\", %s\n", format->role == ROLE_MDT ? "MDT" : "OST", identity->index,
	       uuid_format(&identity->target, target), identity->fs_name, uuid_format(&identity->fs, fs));
	printf("Run it with: strake %s -d %s -m %s\n", format->role == ROLE_MDT ? "mds" : "oss", format->dir,
	       cli_join_addresses(&globals->mgs, mgs));
}

static int format_make(struct format *format, const struct cli_globals *globals)
{
	struct data_dir dir = { .path = format->dir, .role = format->role };
	bool key_wanted = format->role != ROLE_MGS || globals->key;
	char name[IDENTITY_NAME_MAX + 1], error[512];
	struct identity identity;
	struct key key;
	int status;

	/* What can be seen to fail is seen before anybody is asked. */
	if (data_dir_check(format->dir, error, sizeof(error)) < 0)
		return cli_fail("%s", error);
	if (key_wanted && key_find(globals->key, &globals->mgs, &key, error, sizeof(error)) < 0)
		return cli_fail("%s", error);
	if (format->role != ROLE_MGS && !format->has_fs) {
		status = ask_mgs(format, globals, &key, name, sizeof(name));
		if (status)
			return status;
	}
	dir.index = format->index;
	dir.fs = format->fs;
	dir.fs_name = format->name ? format->name : "strake";
	dir.key = key_wanted ? &key : NULL;
	if (data_dir_make(&dir, &identity, error, sizeof(error)) < 0)
		return cli_fail("%s", error);
	print_made(format, &identity, globals);
	return CLI_OK;
}

static int parse_index(struct format *format, const char *text)
{
	uint64_t number;

	if (units_parse_number(text, 0, INDEX_MAX, &number) < 0)
		return cli_misuse("format", "-i: \"%s\" is no number from 0 to %d", text, INDEX_MAX);
	format->index = (uint32_t)number;
	format->has_index = true;
	return 0;
}

/* A data directory is a target, and a target is what a server of that kind has: either name will do. */
static int parse_role(struct format *format, const char *text)
{
	if (strcmp(text, "mgs") == 0)
		format->role = ROLE_MGS;
	else if (strcmp(text, "mds") == 0 || strcmp(text, "mdt") == 0)
		format->role = ROLE_MDT;
	else if (strcmp(text, "oss") == 0 || strcmp(text, "ost") == 0)
		format->role = ROLE_OST;
	else
		return cli_misuse("format", "\"%s\" is none of mgs, mds, oss", text);
	return 0;
}

static int parse_options(struct format *format, int argc, char **argv)
{
	enum { FS_UUID = 256, FS_NAME };
	static const struct option options[] = {
		{ "data-dir", required_argument, NULL, 'd' },
		{ "cluster-name", required_argument, NULL, 'c' },
		{ "index", required_argument, NULL, 'i' },
		{ "ost-index", required_argument, NULL, 'i' },
		{ "fs-uuid", required_argument, NULL, FS_UUID },
		{ "fs-name", required_argument, NULL, FS_NAME },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int letter, status = 0;

	opterr = 0;
	while (status == 0 && (letter = getopt_long(argc, argv, ":d:c:i:h", options, NULL)) != -1) {
		switch (letter) {
		case 'd':
			format->dir = optarg;
			break;
		case 'c':
		case FS_NAME:
			format->name = optarg;
			break;
		case 'i':
			status = parse_index(format, optarg);
			break;
		case FS_UUID:
			if (uuid_parse(optarg, &format->fs) < 0 || uuid_is_zero(&format->fs))
				status = cli_misuse("format", "--fs-uuid: \"%s\" is no UUID", optarg);
			format->has_fs = true;
			break;
		case 'h':
			print_help();
			exit(CLI_OK);
		default:
			status = cli_bad_option("format", letter, argv);
			break;
		}
	}
	return status;
}

static int check_options(const struct format *format)
{
	if (!format->dir || format->dir[0] == '\0')
		return cli_misuse("format", "-d DIR is missing");
	if (format->role == ROLE_MGS && format->has_index)
		return cli_misuse("format", "an MGS has no index");
	if (format->role == ROLE_MDT && format->index != 0)
		return cli_misuse("format", "there is one MDT, with index 0");
	if (format->role != ROLE_MGS && format->has_fs &&
	    (!format->name || (format->role == ROLE_OST && !format->has_index)))
		return cli_misuse("format", "with --fs-uuid the MGS is not asked: name -c NAME%s too",
				  format->role == ROLE_OST ? " and -i N" : "");
	return 0;
}

int cli_format(int argc, char **argv, const struct cli_globals *globals)
{
	struct format format = { 0 };
	int status = parse_options(&format, argc, argv);

	if (status)
		return status;
	if (optind == argc)
		return cli_misuse("format", "for which server? mgs, mds or oss");
	status = parse_role(&format, argv[optind]);
	if (status == 0 && optind + 1 < argc)
		status = cli_misuse("format", "\"%s\" is one word too many", argv[optind + 1]);
	if (status == 0)
		status = check_options(&format);
	return status ? status : format_make(&format, globals);
}
