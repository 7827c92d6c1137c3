#include "client/fuse/caller.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>

#define BIT(signal) (UINT64_C(1) << ((signal)-1))

/* What does not end a process that has made no arrangements. */
#define HARMLESS                                                                                                  \
	(BIT(SIGCHLD) | BIT(SIGURG) | BIT(SIGWINCH) | BIT(SIGCONT) | BIT(SIGSTOP) | BIT(SIGTSTP) | BIT(SIGTTIN) | \
	 BIT(SIGTTOU))

bool caller_status_is_dying(FILE *status)
{
	uint64_t pending = 0, kept = HARMLESS, mask;
	bool ended = false;
	char *line = NULL;
	size_t room = 0;

	while (getline(&line, &room, status) > 0) {
		char state;

		if (sscanf(line, "State: %c", &state) == 1)
			ended = state == 'Z' || state == 'X';
		else if (sscanf(line, "SigPnd: %" SCNx64, &mask) == 1 || sscanf(line, "ShdPnd: %" SCNx64, &mask) == 1)
			pending |= mask;
		else if (sscanf(line, "SigBlk: %" SCNx64, &mask) == 1 || sscanf(line, "SigIgn: %" SCNx64, &mask) == 1 ||
			 sscanf(line, "SigCgt: %" SCNx64, &mask) == 1)
			kept |= mask;
	}
	free(line);
	/* Of most signals that nobody has asked for the kernel makes a SIGKILL at once. */
	return ended || (pending & BIT(SIGKILL)) != 0 || (pending & ~kept) != 0;
}

bool caller_is_dying(uint32_t tid)
{
	char path[32];
	FILE *status;
	bool dying;

	snprintf(path, sizeof(path), "/proc/%" PRIu32 "/status", tid);
	status = fopen(path, "re");
	if (status == NULL)
		return errno == ENOENT;
	dying = caller_status_is_dying(status);
	fclose(status);
	return dying;
}
