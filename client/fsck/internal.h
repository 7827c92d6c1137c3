/* What the files of this folder share of one run. */
#ifndef STRAKE_CLIENT_FSCK_INTERNAL_H
#define STRAKE_CLIENT_FSCK_INTERNAL_H

#include "client/fsck/fsck.h"
#include "client/fsck/lists.h"
#include "client/fsck/servers.h"

#define SUSPECTS_MAX (256u * 1024)

struct suspect {
	uint64_t ino;
	unsigned int suspicion; /* what is still open */
	bool gone;              /* there was no inode when it was last looked for: there will never be one again */
	struct fsck_links links;
	struct fsck_entries entries;
	char *name; /* one of its names, fit for printing; NULL: not known */
};

struct fsck {
	const struct fsck_options *options;
	struct fsck_result *result;
	struct servers *servers;
	struct fsck_report report; /* of what is certain */
	bool is_local;             /* what went wrong went wrong on this machine */

	struct suspect *suspects; /* ascending */
	size_t suspect_count, suspect_room;
	uint64_t instance; /* of the MDT, which said of some that they are gone */
};

bool fsck_ost_is_there(void *fsck, uint32_t ost);

/* From now on that OST is left out, and it is said why. */
void fsck_give_up(struct fsck *fsck, uint32_t ost, int err);
bool fsck_is_given_up(const struct fsck *fsck, uint32_t ost);

/* again.c: look at all suspects until each is cleared, found guilty, or has not held still. Errors of the MDT's lists. */
int fsck_again(struct fsck *fsck);

#endif
