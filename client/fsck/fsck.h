/*
 * fsck of a filesystem that runs: read only, from outside, without false alarms. README.md says how.
 */
#ifndef STRAKE_CLIENT_FSCK_FSCK_H
#define STRAKE_CLIENT_FSCK_FSCK_H

#include "client/fsck/merge.h"
#include "common/address.h"
#include "common/identity.h"
#include "common/key.h"
#include "common/loop.h"

#define FSCK_OSTS_MAX 65536 /* indices are that small */

struct fsck_options {
	const struct address_list *mgs;
	const struct key *key;
	unsigned int patience_ms; /* how long a server may be silent before it counts as one that cannot be checked */
	size_t memory;            /* for sorting; what is more goes into a temporary file */

	void *arg;
	void (*found)(void *arg, const struct fsck_finding *finding);
	void (*note)(void *arg, const char *text); /* what the user should know and is no finding */
};

struct fsck_ost {
	uint32_t index;
	bool unchecked;
	char why[256]; /* where it was not */
};

struct fsck_result {
	char fs_name[256];
	struct uuid fs;
	uint64_t entries;
	struct fsck_totals totals;
	uint64_t findings;
	uint64_t unsettled; /* suspects that changed all the time and could not be judged */
	size_t ost_count;
	struct fsck_ost *osts; /* malloc'ed */
};

/* All of it was looked at. */
static inline bool fsck_is_complete(const struct fsck_result *result)
{
	for (size_t i = 0; i < result->ost_count; i++) {
		if (result->osts[i].unchecked)
			return false;
	}
	return result->unsettled == 0;
}

/*
 * In a fiber; the loop must go round once more afterwards. 0: the filesystem was looked at, as far as *ret_result says.
 * An error, with a sentence: it could not be.
 */
int fsck_run(struct loop *loop, const struct fsck_options *options, struct fsck_result *ret_result, char *error,
	     size_t error_size);
void fsck_result_release(struct fsck_result *result);

#endif
