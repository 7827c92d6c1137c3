/*
 * strake umount MNT, and umount(8)'s helper under the names umount.strake and umount.fuse.strake, which is called with
 * MNT [-flnrv] [-N namespace] [-t type].
 */
#include "client/cli/cli.h"
#include "client/cli/mountinfo.h"
#include "client/cli/unmount.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUSY_MS     1000 /* it is in use only when it is so for that long */
#define BUSY_TRY_MS 50

static void print_help(void)
{
	puts("Usage: strake umount [-f] [-l] MNT\n"
	     "\n"
	     "Unmounts MNT and returns when its daemon has written all it held to the servers and has ended.\n"
	     "\n"
	     "  -f, --force  give up what the servers do not take within 5 s\n"
	     "  -l, --lazy   detach it even when it is in use; then do not wait for those who use it");
}

/*
 * Who only looks at something there, as mount(8) does before it mounts over it, keeps it in use for as long as a server's
 * answer takes. If a mount comes on top meanwhile, that is the one to take away.
 */
static int detach(const char *path, unsigned int flags, struct process *ret_daemon, char *error, size_t error_size)
{
	int err = unmount_detach(path, flags, ret_daemon, error, error_size);

	for (unsigned int waited_ms = 0; err == -EBUSY && waited_ms < BUSY_MS; waited_ms += BUSY_TRY_MS) {
		usleep(BUSY_TRY_MS * 1000);
		err = unmount_detach(path, flags, ret_daemon, error, error_size);
	}
	return err;
}

static int umount_path(const char *text, unsigned int flags)
{
	char path[PATH_MAX], error[PATH_MAX + 256];
	struct process daemon;
	int err = mount_path(text, path);

	if (err)
		return cli_fail("%s: %s", text, strerror(-err));
	err = detach(path, flags, &daemon, error, sizeof(error));
	/* Detached by somebody else just now: its daemon may still be writing. */
	if (err == -ENOENT && daemon.pid != 0)
		err = 0;
	if (err)
		return cli_fail("%s", error);
	err = unmount_wait(path, flags, &daemon, error, sizeof(error));
	return err ? cli_fail("%s", error) : CLI_OK;
}

int cli_umount(int argc, char **argv, const struct cli_globals *globals)
{
	static const struct option options[] = {
		{ "force", no_argument, NULL, 'f' },
		{ "lazy", no_argument, NULL, 'l' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	unsigned int flags = 0;
	int letter;

	(void)globals;
	opterr = 0;
	while ((letter = getopt_long(argc, argv, ":flnrvN:t:h", options, NULL)) != -1) {
		switch (letter) {
		case 'f':
			flags |= UNMOUNT_FORCE;
			break;
		case 'l':
			flags |= UNMOUNT_LAZY;
			break;
		case 'n': /* umount(8)'s, of no meaning here */
		case 'r':
		case 'v':
		case 'N':
		case 't':
			break;
		case 'h':
			print_help();
			return CLI_OK;
		default:
			return cli_bad_option("umount", letter, argv);
		}
	}
	if (optind == argc)
		return cli_misuse("umount", "which mount point?");
	if (optind + 1 < argc)
		return cli_misuse("umount", "\"%s\" is one word too many", argv[optind + 1]);
	return umount_path(argv[optind], flags);
}
