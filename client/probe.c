#include "client/probe.h"

#include "common/container_of.h"

#include "client/ctx_wait.h"
#include "client/fs_state.h"
#include "client/peers.h"
#include "client/targets.h"

struct round {
	struct probe *probe;
	const struct target_map *map;
	struct loop_timer timer;
};

static void patience_ends(struct loop_timer *timer)
{
	struct round *round = container_of(timer, struct round, timer);

	fs_interrupt(&round->probe->asking);
}

static int ask_one(struct worker *worker, void *arg, unsigned int i)
{
	const struct round *round = arg;
	const struct target *target = &round->map->targets[i];
	struct call call = { .opcode = OP_PING };
	struct target_state *state;
	struct peer *peer;

	if (target->role == ROLE_MGS || ctx_wait_check(worker, &round->probe->asking) < 0 ||
	    peers_get(worker->peers, target->role, target->index, &peer) < 0)
		return 0;
	ctx_wait_call(worker, &round->probe->asking, peer, &call);
	state = peers_state(worker->peers, target->role, target->index);
	if (!atomic_load(&round->probe->pause.interrupted))
		atomic_store(&state->silent, !call.answered);
	call_release(&call);
	return 0;
}

static void probe_run(struct worker *worker, void *arg)
{
	struct probe *probe = arg;

	while (ctx_wait_ms(worker, &probe->pause, PROBE_PAUSE_MS) == 0) {
		struct target_map *map = targets_map(worker->fs->targets);
		struct round round = { .probe = probe, .map = map, .timer.expired = patience_ends };

		probe->asking = (struct fs_ctx){ .trusted = true };
		loop_timer_set(worker->loop, &round.timer, clock_ns() + PROBE_PATIENCE_MS * NSEC_PER_MSEC);
		worker_parallel(worker, (unsigned int)map->count, ask_one, &round);
		loop_timer_cancel(&round.timer);
		target_map_put(map);
	}
	probe->runs = false;
	fiber_wake_all(&probe->over);
}

void probe_begin(struct probe *probe, struct worker *worker)
{
	*probe = (struct probe){ .worker = worker };
	probe->runs = worker_spawn(worker, probe_run, probe) == 0; /* without memory for it nobody is asked */
}

void probe_end(struct probe *probe)
{
	fs_interrupt(&probe->pause);
	fs_interrupt(&probe->asking);
	while (probe->runs)
		fiber_wait(&probe->over, NULL);
}
