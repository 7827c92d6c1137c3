#include "mds/numbers.h"

#include <assert.h>
#include <errno.h>

void numbers_init(struct numbers *numbers, uint64_t reserved)
{
	*numbers = (struct numbers){ .next = reserved, .end = reserved };
}

bool numbers_run_low(const struct numbers *numbers, uint64_t *ret_up_to)
{
	if (numbers->asked_index != 0 || numbers->end - numbers->next > NUMBERS_BLOCK / 2)
		return false;
	*ret_up_to = numbers->end + NUMBERS_BLOCK;
	return true;
}

void numbers_asked(struct numbers *numbers, uint64_t up_to, uint64_t index)
{
	assert(numbers->asked_index == 0 && up_to > numbers->end && index > 0);
	numbers->asked_end = up_to;
	numbers->asked_index = index;
}

void numbers_durable(struct numbers *numbers, uint64_t durable_index)
{
	if (numbers->asked_index == 0 || durable_index < numbers->asked_index)
		return;
	numbers->end = numbers->asked_end;
	numbers->asked_end = numbers->asked_index = 0;
}

int numbers_take(struct numbers *numbers, uint64_t *ret_number)
{
	if (numbers->next == numbers->end)
		return -EAGAIN;
	*ret_number = numbers->next++;
	return 0;
}
