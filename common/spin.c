#include "common/spin.h"

#define WANTED    8
#define QUICK_MAX 16
#define LOSS      4

bool spin_wanted(const struct spin *spin)
{
	return spin->quick >= WANTED;
}

void spin_learn(struct spin *spin, bool spun, bool came, uint64_t waited_ns)
{
	/* Who slept was told late. */
	uint64_t short_ns = spun ? SPIN_NS : 2 * SPIN_NS;

	if (!came || waited_ns > short_ns)
		spin->quick -= spin->quick < LOSS ? spin->quick : LOSS;
	else if (spin->quick < QUICK_MAX)
		spin->quick++;
}
