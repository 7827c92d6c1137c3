#include "client/fuse/caller.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

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

static FILE *open_status(uint32_t tid)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%" PRIu32 "/status", tid);
	return fopen(path, "re");
}

bool caller_is_dying(uint32_t tid)
{
	FILE *status = open_status(tid);
	bool dying;

	if (status == NULL)
		return errno == ENOENT;
	dying = caller_status_is_dying(status);
	fclose(status);
	return dying;
}

/* The first line that begins with this word; the rest of it, or NULL. *line is getline()'s. */
static const char *status_field(FILE *status, const char *word, char **line)
{
	size_t room = 0, len = strlen(word);

	while (getline(line, &room, status) > 0) {
		if (strncmp(*line, word, len) == 0)
			return *line + len;
	}
	return NULL;
}

bool caller_status_has_fsetid(FILE *status)
{
	char *line = NULL;
	const char *field = status_field(status, "CapEff:", &line);
	bool has = field != NULL && (strtoull(field, NULL, 16) >> CAP_FSETID & 1) != 0;

	free(line);
	return has;
}

bool caller_status_is_member(FILE *status, gid_t group)
{
	char *line = NULL, *end;
	const char *field = status_field(status, "Groups:", &line);
	bool member = false;

	while (field != NULL && !member) {
		unsigned long gid = strtoul(field, &end, 10);

		member = end != field && gid == group;
		field = end != field ? end : NULL;
	}
	free(line);
	return member || caller_status_has_fsetid(status);
}

bool caller_has_fsetid(uint32_t tid)
{
	FILE *status = open_status(tid);
	bool has = status != NULL && caller_status_has_fsetid(status);

	if (status != NULL)
		fclose(status);
	return has;
}

bool caller_is_member(uint32_t tid, gid_t group)
{
	FILE *status = open_status(tid);
	bool member = status != NULL && caller_status_is_member(status, group);

	if (status != NULL)
		fclose(status);
	return member;
}
