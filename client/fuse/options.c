#include "client/fuse/options.h"

#include "client/fuse/server.h"
#include "common/units.h"
#include "common/version.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define CONNECT_SECONDS 30

static const char usage[] =
	"Usage: mount.strake SOURCE MOUNTPOINT [-o OPTIONS] [-f]\n"
	"       mount.strake -m ADDR[,ADDR...] [/SUBDIR] MOUNTPOINT [-o OPTIONS] [-f]\n"
	"\n"
	"Mounts a StrakeFS filesystem and returns when it is there. SOURCE is ADDR[,ADDR...]:/SUBDIR, where ADDR, the\n"
	"address of an MGS, is HOST[:PORT] or [V6][:PORT], and rdma:// before it to speak RDMA; port 9400 by default.\n"
	"\n"
	"  -f, --foreground          stay in the foreground\n"
	"  -k, --key FILE            the cluster key (STRAKE_KEY; /etc/strake/cluster.key; that of a cluster which\n"
	"                            strake cluster start has started here)\n"
	"  -m, --mgs ADDR[,ADDR...]  where the MGS is\n"
	"  -o OPTIONS                separated by commas:\n"
	"       hard | soft          wait for servers that are away, or give up with EIO after timeo\n"
	"       timeo=SECONDS        of soft; 60\n"
	"       connect=SECONDS      how long the mount itself waits for the servers; 30\n"
	"       sync                 every change waits for stable storage\n"
	"       strict               believe no attributes or names without asking\n"
	"       local_locks          fcntl and flock locks of this mount only\n"
	"       no_sums              no checksums on file data\n"
	"       memory=SIZE          for data on its way; 1G\n"
	"       workers=N            threads; as many as CPUs, 8 at most\n"
	"       transport=KIND       rdma, tcp, or auto: RDMA where it is to be had (default)\n"
	"       key=FILE             as --key\n"
	"       log=FILE             instead of the journal\n"
	"       fstype=fuse          type fuse instead of fuse.strake\n"
	"       relatime strictatime noatime nodiratime    when reading changes the time of access; relatime\n"
	"       ro rw nodev dev nosuid suid noexec exec dirsync remount\n"
	"  -h, --help\n"
	"  -V, --version\n";

static _Noreturn __attribute__((format(printf, 1, 2))) void refuse(const char *format, ...)
{
	va_list args;

	fputs("mount.strake: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputs("; see mount.strake --help\n", stderr);
	exit(2);
}

static int set_soft(struct mount_options *o, const char *value)
{
	(void)value;
	o->fs.soft = true;
	return 0;
}

static int set_hard(struct mount_options *o, const char *value)
{
	(void)value;
	o->fs.soft = false;
	return 0;
}

static int set_timeo(struct mount_options *o, const char *value)
{
	uint64_t seconds;
	int err = units_parse_number(value, 1, 86400, &seconds);

	if (err == 0)
		o->fs.soft_timeout_ms = (unsigned int)seconds * 1000;
	return err;
}

static int set_connect(struct mount_options *o, const char *value)
{
	uint64_t seconds;
	int err = units_parse_number(value, 1, 86400, &seconds);

	if (err == 0)
		o->connect_ms = (unsigned int)seconds * 1000;
	return err;
}

static int set_strict(struct mount_options *o, const char *value)
{
	(void)value;
	o->fs.attr_timeout_ms = 0;
	return 0;
}

static int set_sync(struct mount_options *o, const char *value)
{
	(void)value;
	o->fs.sync = true;
	return 0;
}

static int set_async(struct mount_options *o, const char *value)
{
	(void)value;
	o->fs.sync = false;
	return 0;
}

static int set_no_sums(struct mount_options *o, const char *value)
{
	(void)value;
	o->fs.no_sums = true;
	return 0;
}

static int set_memory(struct mount_options *o, const char *value)
{
	uint64_t bytes;
	int err = units_parse_size(value, &bytes);

	if (err == 0 && bytes < 32u * 1024 * 1024)
		return -ERANGE;
	if (err == 0)
		o->fs.memory_max = bytes;
	return err;
}

static int set_workers(struct mount_options *o, const char *value)
{
	uint64_t count;
	int err = units_parse_number(value, 1, FUSE_WORKERS_MAX, &count);

	if (err == 0)
		o->workers = (unsigned int)count;
	return err;
}

static int set_transport(struct mount_options *o, const char *value)
{
	return fabrics_parse(value, &o->transport);
}

static int set_key(struct mount_options *o, const char *value)
{
	o->key = value;
	return 0;
}

static int set_log(struct mount_options *o, const char *value)
{
	o->log_path = value;
	return 0;
}

static int set_fstype(struct mount_options *o, const char *value)
{
	if (strcmp(value, "fuse") != 0 && strcmp(value, "fuse.strake") != 0)
		return -EINVAL;
	o->plain_type = strcmp(value, "fuse") == 0;
	return 0;
}

static int set_local_locks(struct mount_options *o, const char *value)
{
	(void)value;
	o->fs.local_locks = true;
	return 0;
}

static int set_remount(struct mount_options *o, const char *value)
{
	(void)value;
	o->remount = true;
	return 0;
}

static int set_atime_kind(struct mount_options *o, enum fs_atime kind)
{
	o->fs.atime = kind | (o->fs.atime & ATIME_NOT_OF_DIRECTORIES);
	o->atime_given = true;
	return 0;
}

static int set_relatime(struct mount_options *o, const char *value)
{
	(void)value;
	return set_atime_kind(o, ATIME_RELATIVE);
}

static int set_strictatime(struct mount_options *o, const char *value)
{
	(void)value;
	return set_atime_kind(o, ATIME_STRICT);
}

static int set_diratime(struct mount_options *o, const char *value)
{
	(void)value;
	o->fs.atime &= ~ATIME_NOT_OF_DIRECTORIES;
	o->atime_given = true;
	return 0;
}

static int set_nodiratime(struct mount_options *o, const char *value)
{
	(void)value;
	o->fs.atime |= ATIME_NOT_OF_DIRECTORIES;
	o->atime_given = true;
	return 0;
}

static int ignore(struct mount_options *o, const char *value)
{
	(void)o;
	(void)value;
	return 0;
}

/* Handed to the kernel as they are; of two that contradict each other the later one counts. */
static int pass(struct mount_options *o, const char *word)
{
	size_t used = strlen(o->kernel), room = sizeof(o->kernel) - used;

	return snprintf(o->kernel + used, room, ",%s", word) < (int)room ? 0 : -E2BIG;
}

static int pass_noatime(struct mount_options *o, const char *word)
{
	set_atime_kind(o, ATIME_NONE);
	return pass(o, word);
}

static int pass_atime(struct mount_options *o, const char *word)
{
	set_atime_kind(o, ATIME_RELATIVE);
	return pass(o, word);
}

enum word_value { WORD_ALONE, WORD_VALUE, WORD_EITHER, WORD_PASS };

static const struct {
	const char *word;
	enum word_value value;
	int (*set)(struct mount_options *options, const char *value);
} words_known[] = {
	{ "hard", WORD_ALONE, set_hard },
	{ "soft", WORD_ALONE, set_soft },
	{ "timeo", WORD_VALUE, set_timeo },
	{ "connect", WORD_VALUE, set_connect },
	{ "strict", WORD_ALONE, set_strict },
	{ "sync", WORD_ALONE, set_sync },
	{ "async", WORD_ALONE, set_async },
	{ "no_sums", WORD_ALONE, set_no_sums },
	{ "local_locks", WORD_ALONE, set_local_locks },
	{ "memory", WORD_VALUE, set_memory },
	{ "workers", WORD_VALUE, set_workers },
	{ "transport", WORD_VALUE, set_transport },
	{ "key", WORD_VALUE, set_key },
	{ "log", WORD_VALUE, set_log },
	{ "fstype", WORD_VALUE, set_fstype },
	{ "ro", WORD_PASS, pass },
	{ "rw", WORD_PASS, pass },
	{ "remount", WORD_ALONE, set_remount },
	/* mount(8)'s and fstab's own */
	{ "defaults", WORD_ALONE, ignore },
	{ "_netdev", WORD_ALONE, ignore },
	{ "auto", WORD_ALONE, ignore },
	{ "noauto", WORD_ALONE, ignore },
	{ "nofail", WORD_ALONE, ignore },
	{ "user", WORD_EITHER, ignore },
	{ "nouser", WORD_ALONE, ignore },
	{ "users", WORD_ALONE, ignore },
	{ "owner", WORD_ALONE, ignore },
	{ "group", WORD_ALONE, ignore },
	{ "silent", WORD_ALONE, ignore },
	{ "loud", WORD_ALONE, ignore },
	{ "helper", WORD_VALUE, ignore },
	{ "uhelper", WORD_VALUE, ignore },
	{ "comment", WORD_VALUE, ignore },
	/* what the kernel shows of a mount, and mount(8) gives back to remount it */
	{ "user_id", WORD_VALUE, ignore },
	{ "group_id", WORD_VALUE, ignore },
	{ "max_read", WORD_VALUE, ignore },
	{ "allow_other", WORD_ALONE, ignore },         /* always, where root mounts */
	{ "default_permissions", WORD_ALONE, ignore }, /* always */
	{ "acl", WORD_ALONE, ignore },                 /* always */
	{ "user_xattr", WORD_ALONE, ignore },          /* always */
	/* times of access: ours, the kernel only shows them */
	{ "relatime", WORD_ALONE, set_relatime },
	{ "norelatime", WORD_ALONE, ignore }, /* relatime is the least there is */
	{ "strictatime", WORD_ALONE, set_strictatime },
	{ "nostrictatime", WORD_ALONE, set_relatime },
	{ "nodiratime", WORD_ALONE, set_nodiratime },
	{ "diratime", WORD_ALONE, set_diratime },
	{ "lazytime", WORD_ALONE, ignore }, /* always */
	{ "nolazytime", WORD_ALONE, ignore },
	{ "atime", WORD_PASS, pass_atime },
	{ "noatime", WORD_PASS, pass_noatime },
	/* the kernel's */
	{ "dev", WORD_PASS, pass },
	{ "nodev", WORD_PASS, pass },
	{ "suid", WORD_PASS, pass },
	{ "nosuid", WORD_PASS, pass },
	{ "exec", WORD_PASS, pass },
	{ "noexec", WORD_PASS, pass },
	{ "dirsync", WORD_PASS, pass },
};

/* What a value that can be wrong is to be, for whoever gave another. */
static const struct {
	const char *word, *is;
} values_wanted[] = {
	{ "timeo", "seconds, 1 to 86400" },
	{ "connect", "seconds, 1 to 86400" },
	{ "memory", "a size, 32M at least (suffixes K, M, G)" },
	{ "workers", "a number of threads, 1 to 8" },
	{ "transport", "one of auto, rdma, tcp" },
	{ "fstype", "one of fuse, fuse.strake" },
};
_Static_assert(FUSE_WORKERS_MAX == 8, "in what is said of workers, here and in the usage");

static void refuse_value(const char *word, const char *value, int err, char *error, size_t error_size)
{
	size_t i = 0;

	while (i < sizeof(values_wanted) / sizeof(*values_wanted) && strcmp(values_wanted[i].word, word) != 0)
		i++;
	assert(i < sizeof(values_wanted) / sizeof(*values_wanted));
	snprintf(error, error_size, "option '%s': '%s' is %s: it is %s", word, value,
		 err == -ERANGE ? "out of range" : "no good value", values_wanted[i].is);
}

/* A word and its value (NULL: none), known or not. */
static int take_word(char *word, char *value, struct mount_options *options, char *error, size_t error_size)
{
	size_t i = 0;
	int err;

	while (i < sizeof(words_known) / sizeof(*words_known) && strcmp(words_known[i].word, word) != 0)
		i++;
	if (i == sizeof(words_known) / sizeof(*words_known)) {
		snprintf(error, error_size, "option '%s' is not known", word);
		return -EINVAL;
	}
	if (words_known[i].value != WORD_EITHER && (words_known[i].value == WORD_VALUE) != (value != NULL)) {
		snprintf(error, error_size, "option '%s' %s", word, value == NULL ? "wants a value" : "takes no value");
		return -EINVAL;
	}
	err = words_known[i].set(options, words_known[i].value == WORD_PASS ? word : value);
	if (err == -E2BIG)
		snprintf(error, error_size, "there are too many options");
	else if (err < 0)
		refuse_value(word, value, err, error, error_size);
	return err < 0 ? -EINVAL : 0;
}

/* Those after one -o. -EINVAL with a sentence in error. Changes the string. */
static int take_words(char *words, struct mount_options *options, char *error, size_t error_size)
{
	char *rest = words, *word;
	int err = 0;

	while (err == 0 && (word = strsep(&rest, ",")) != NULL) {
		char *value = strchr(word, '=');

		if (*word == 0 || strncasecmp(word, "x-", 2) == 0) /* for other programs */
			continue;
		if (value != NULL)
			*value++ = 0;
		err = take_word(word, value, options, error, error_size);
	}
	return err;
}

static void check_mountpoint(const char *mountpoint, struct mount_options *o)
{
	struct stat st;
	int err = realpath(mountpoint, o->mountpoint) == NULL || stat(o->mountpoint, &st) < 0 ? errno : 0;

	if (err == 0 && !S_ISDIR(st.st_mode))
		err = ENOTDIR;
	if (err == 0)
		return;
	/* A mount whose daemon died answers ENOTCONN: say what to do. */
	fprintf(stderr, "mount.strake: %s: %s%s\n", mountpoint, strerror(err),
		err == ENOTCONN ? " (a mount whose daemon died is still there: strake umount it first)" : "");
	exit(1);
}

/* Where the filesystem is: SOURCE, or -m and the root directory. */
static void parse_source(struct mount_options *o, const char *mgs, char **operands, int count)
{
	const char *mountpoint;

	if (mgs == NULL && count == 2) {
		snprintf(o->source, sizeof(o->source), "%s", operands[0]);
		mountpoint = operands[1];
	} else if (mgs != NULL && count == 1) {
		snprintf(o->source, sizeof(o->source), "%s:/", mgs);
		mountpoint = operands[0];
	} else if (mgs != NULL && count == 2) { /* -m tells where, the operand which directory */
		snprintf(o->source, sizeof(o->source), "%s:%s", mgs, operands[0]);
		mountpoint = operands[1];
	} else {
		refuse(count < 2 ? "a source and a mount point are needed" : "too many operands");
	}
	if (strlen(o->source) + 1 == sizeof(o->source))
		refuse("the source is too long");
	if (address_source_parse(o->source, &o->fs.mgs, o->fs.subdir, sizeof(o->fs.subdir)) < 0)
		refuse("the source must be HOST[:PORT][,...]:/SUBDIR, not \"%s\"", o->source);
	check_mountpoint(mountpoint, o);
}

void mount_options_parse(int argc, char **argv, struct mount_options *ret_options)
{
	static const struct option longs[] = {
		{ "mgs", required_argument, NULL, 'm' },  { "key", required_argument, NULL, 'k' },
		{ "help", no_argument, NULL, 'h' },       { "version", no_argument, NULL, 'V' },
		{ "foreground", no_argument, NULL, 'f' }, { NULL, 0, NULL, 0 },
	};
	struct mount_options *o = ret_options;
	const char *mgs = NULL;
	char error[512];

	memset(o, 0, sizeof(*o));
	fs_config_defaults(&o->fs);
	o->fs.atime = ATIME_RELATIVE;
	o->connect_ms = CONNECT_SECONDS * 1000;
	opterr = 0;
	for (int c; (c = getopt_long(argc, argv, ":m:k:o:t:fhVnsvrw", longs, NULL)) != -1;) {
		switch (c) {
		case 'm':
			mgs = optarg;
			break;
		case 'k':
			o->key = optarg;
			break;
		case 'o':
			if (take_words(optarg, o, error, sizeof(error)) < 0)
				refuse("%s", error);
			break;
		case 'f':
			o->foreground = true;
			break;
		case 'r':
		case 'w':
			(void)pass(o, c == 'r' ? "ro" : "rw");
			break;
		case 'h':
			fputs(usage, stdout);
			exit(0);
		case 'V':
			printf("mount.strake (StrakeFS) %s\n", STRAKE_VERSION);
			exit(0);
		case 'n': /* mount(8)'s: no mtab, */
		case 's': /* tolerate sloppy options, */
		case 't': /* the type as it was given */
		case 'v':
			break;
		case ':':
			refuse("%s wants a value", argv[optind - 1]);
		default:
			refuse("there is no option %s", argv[optind - 1]);
		}
	}
	parse_source(o, mgs, argv + optind, argc - optind);
	fabrics_choose(o->transport);
	if (fabrics_check(error, sizeof(error)) < 0) {
		fprintf(stderr, "mount.strake: %s\n", error);
		exit(1);
	}
}
