/*
 * The MDT's side of each OST: one peer per OST of the cluster map, and fibers that
 *   - push the session table, at each change and every OST_LINK_SESSIONS_MS, so that the OST's lease does not run out;
 *   - send DESTROY and CUT in the background, again and again until the OST has answered;
 *   - tell it of all void numbers, on each connection anew, until it has destroyed what has them (void.h).
 *
 * No DESTROY or CUT leaves before the record that orders it is on stable storage. The rows of the state are what there is to do; see
 * backlog.h for how they are found. Belongs to the MDT's loop.
 */
#ifndef STRAKE_MDS_OST_LINK_H
#define STRAKE_MDS_OST_LINK_H

#include "mds/mdt.h"

#define OST_LINK_SESSIONS_MS  5000
#define OST_LINK_DESTROYS_MAX 256 /* in one message */
#define OST_LINK_VOIDS_MAX    256 /* ranges in one message */
#define OST_LINK_CUT_FIBERS   4   /* cuts under way at a time */
#define OST_LINK_RETRY_MS     100 /* after a failure, doubled up to: */
#define OST_LINK_RETRY_MAX_MS 5000

struct ost_links; /* opaque: ost_link.c */

struct ost_links *ost_links_new(struct mdt *mdt);
/* In a fiber: ends all links, and waits for their fibers. */
struct ost_links *ost_links_free(struct ost_links *links);

/* The cluster map has changed. */
void ost_links_set_map(struct ost_links *links, const Strake__ClusterMap *map);

/*
 * Has every OST of the map been told the session table of that record, or a newer one? And every one that was in it less than
 * MDT_FENCE_MS ago? Then none takes a WRITE any more of a session that had ended by then.
 */
bool ost_links_have_sessions(const struct ost_links *links, uint64_t index);
/* Has an OST that is there said that a WRITE of such a session, which had begun before, still runs? No lease ends that. */
bool ost_links_say_runs(const struct ost_links *links);

/* Rows were added by what was just applied. */
void ost_links_note(struct ost_links *links, const struct outcome *outcome);
/* More of the log is durable. */
void ost_links_durable(struct ost_links *links);

#endif
