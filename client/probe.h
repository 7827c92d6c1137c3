/*
 * Signs of life. What waits for a server on a hard mount waits as long as it takes, and the deadline of an attempt must
 * leave a slow disk its time. But whoever wants to know whether it is worth waiting wants to know it soon: all targets
 * of the map are asked now and then (PING), which a server answers whatever its disks do. One that has not answered in
 * PROBE_PATIENCE_MS is `silent` in its target_state, until it has. On the control loop.
 */
#ifndef STRAKE_CLIENT_PROBE_H
#define STRAKE_CLIENT_PROBE_H

#include "client/worker.h"

#define PROBE_PAUSE_MS    500 /* also before the first: what is done by then asks nobody */
#define PROBE_PATIENCE_MS 1500

struct probe {
	struct worker *worker;
	struct fs_ctx pause, asking; /* both interrupted at the end, `asking` also when patience has ended */
	struct fiber_queue over;
	bool runs;
};

/* In a fiber of the worker; stays where it is until probe_end(), which waits for what is under way. */
void probe_begin(struct probe *probe, struct worker *worker);
void probe_end(struct probe *probe);

#endif
