#include "oss/fan_out.h"

struct fan {
	size_t next, count;
	unsigned int helpers; /* fibers that have not ended yet */
	int err;
	int (*fn)(void *arg, size_t i);
	void *arg;
	struct fiber_queue ended;
};

static void work(struct fan *fan)
{
	while (fan->next < fan->count) {
		int err = fan->fn(fan->arg, fan->next++);

		if (err < 0 && fan->err == 0)
			fan->err = err;
	}
}

static void helper(void *arg)
{
	struct fan *fan = arg;

	work(fan);
	fan->helpers--;
	fiber_wake_all(&fan->ended);
}

int fan_out(struct loop *loop, size_t count, unsigned int width, int (*fn)(void *arg, size_t i), void *arg)
{
	struct fan fan = { .count = count, .fn = fn, .arg = arg };

	/* Fewer fibers than wished only make it slower. */
	while (fan.helpers + 1 < width && fan.helpers + 1 < count && fiber_start(loop, helper, &fan) == 0)
		fan.helpers++;
	work(&fan);
	while (fan.helpers > 0)
		fiber_wait(&fan.ended, NULL);

	return fan.err;
}
