#include "client/fuse/caller.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define BIT(signal) (UINT64_C(1) << ((signal)-1))

#define KERNEL_THREAD 0x00200000 /* PF_KTHREAD, of the flags in /proc/TID/stat */

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

static FILE *open_proc(uint32_t tid, const char *file)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%" PRIu32 "/%s", tid, file);
	return fopen(path, "re");
}

static FILE *open_status(uint32_t tid)
{
	return open_proc(tid, "status");
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

bool caller_stat_is_kernel(FILE *stat)
{
	unsigned int flags = 0;
	char *line = NULL, *name_end;
	size_t room = 0;

	/* The name may have blanks and brackets. */
	if (getline(&line, &room, stat) > 0 && (name_end = strrchr(line, ')')) != NULL)
		sscanf(name_end + 1, " %*c %*d %*d %*d %*d %*d %u", &flags);
	free(line);
	return (flags & KERNEL_THREAD) != 0;
}

bool caller_is_kernel(uint32_t tid)
{
	FILE *stat = open_proc(tid, "stat");
	bool is = stat != NULL && caller_stat_is_kernel(stat);

	if (stat != NULL)
		fclose(stat);
	return is;
}

/* What /proc tells of a thread of the kernel is its own: it may be asking for somebody else. */
static bool asks_for_another(uint32_t tid, uid_t uid)
{
	return uid != 0 && caller_is_kernel(tid);
}

bool caller_has_fsetid(uint32_t tid, uid_t uid)
{
	FILE *status = open_status(tid);
	bool has = status != NULL && caller_status_has_fsetid(status);

	if (status != NULL)
		fclose(status);
	return has && !asks_for_another(tid, uid);
}

bool caller_is_member(uint32_t tid, uid_t uid, gid_t group)
{
	FILE *status = open_status(tid);
	bool member = status != NULL && caller_status_is_member(status, group);

	if (status != NULL)
		fclose(status);
	return member && !asks_for_another(tid, uid);
}
