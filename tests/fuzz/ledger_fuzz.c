/*
 * An OST's ledger (oss/ledger.h), as it is found after a kill: a flag (the header is ours), instance, begin and end of
 * the ring, then what stands in it from begin on. Whatever it is: a verdict, and a ledger that works.
 */
#include "oss/ledger_internal.h"
#include "oss/object_path.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/work_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define INO        5
#define GEN        6
#define INPUT_MAX  65536
#define SELECTOR   (1 + 3 * sizeof(uint64_t))
#define OBJECT_LEN (3 * BULK_PIECE)

static const struct uuid target = { { 9 } };

/* One object of zeros. */
static int objects(void)
{
	static int dir = -1;
	char path[OBJECT_PATH_SIZE];
	int fd;

	if (dir >= 0)
		return dir;
	dir = open(work_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert(dir >= 0);
	object_folder_name(object_folder(INO, GEN), path);
	assert(mkdirat(dir, path, 0700) == 0);
	object_path(INO, GEN, 0, path);
	fd = openat(dir, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert(fd >= 0 && ftruncate(fd, OBJECT_LEN) == 0);
	close(fd);
	return dir;
}

static struct ledger *ledger_at_hand(void)
{
	struct ledger *ledger;

	assert(ledger_open(work_dir(), &target, &ledger) == 0);
	return ledger;
}

/* From that position on, round the ring's end; NULL: zeros. */
static void ring_put(struct ledger *ledger, uint64_t position, const uint8_t *data, size_t size)
{
	for (size_t i = 0; i < size; i++)
		ledger->ring[(position + i) % LEDGER_SIZE] = data != NULL ? data[i] : 0;
}

/* All of its functions, as an OST that has begun anew calls them. */
static void use(struct ledger *ledger)
{
	static const uint32_t sums[LEDGER_SUMS_MAX];
	const struct ledger_write write = { INO, GEN, 0, 1, FRAME_BULK_MAX, sums };
	uint64_t begin, note = 0;

	ledger_begin(ledger, 2);
	begin = ledger->header->begin;
	assert(ledger_verify(ledger, objects()) == 0);
	for (unsigned int i = 0; i < 3; i++) {
		assert(ledger_has_room(ledger, LEDGER_SUMS_MAX));
		note = ledger_note_write(ledger, &write);
		ledger_done(ledger, note, i != 2);
	}
	ledger_note_zeroed(ledger, INO, GEN, 65536, 0, UINT64_MAX);
	assert(ledger_verify(ledger, objects()) == 0);
	ledger_forget(ledger, ledger_mark(ledger));
	assert(ledger->header->begin == ledger->header->end && ledger->header->end > note);
	ring_put(ledger, begin, NULL, ledger->header->end - begin);
}

static void fuzz_one(const uint8_t *data, size_t size)
{
	struct ledger *ledger = ledger_at_hand();
	uint64_t numbers[3];
	int err;

	if (size >= SELECTOR && size <= INPUT_MAX) {
		memcpy(numbers, data + 1, sizeof(numbers));
		size -= SELECTOR;
		ring_put(ledger, numbers[1], data + SELECTOR, size);
		*ledger->header = (struct ledger_header){
			.magic = data[0] & 1 ? LEDGER_MAGIC : numbers[2],
			.target = data[0] & 2 ? target : (struct uuid){ { data[0] } },
			.instance = numbers[0],
			.begin = numbers[1],
			.end = numbers[2],
		};
		ledger_close(ledger, false);
		ledger = ledger_at_hand();
		err = ledger_verify(ledger, objects());
		assert(err == 0 || err == -ESTALE);
		assert(err < 0 || ledger_instance(ledger) != 0);
		(void)ledger_mark(ledger);
		ring_put(ledger, numbers[1], NULL, size);
		use(ledger);
	}
	ledger_begin(ledger, 0);
	ledger_close(ledger, false);
}

/* Writes of all shapes, at the begin of the ring and over its end; and one that ends where the numbers do. */
static void fuzz_seeds(void)
{
	static uint8_t zeros[OBJECT_LEN];
	uint32_t sums[4];
	uint8_t selector[SELECTOR], *ring;

	for (unsigned int i = 0; i < 3; i++) {
		const uint64_t begin = i == 0 ? 0 : LEDGER_SIZE - 80;
		struct ledger *ledger = ledger_at_hand();
		uint64_t numbers[3], note;
		size_t size;

		bulk_sums_make(100, &(struct iovec){ zeros, 5000 }, 1, sums);
		ledger->header->end = begin;
		ledger_begin(ledger, 1);
		for (unsigned int done = 0; done < 3; done++) {
			note = ledger_note_write(ledger, &(struct ledger_write){ INO, GEN, 0, 100, 5000, sums });
			ledger_done(ledger, note, done != 1);
		}
		ledger_note_zeroed(ledger, INO, GEN, 65536, 0, 50);
		ledger_note_write(ledger, &(struct ledger_write){ INO, GEN, 1, 0, 10, sums });
		assert(ledger_verify(ledger, objects()) == 0);
		if (i == 2)
			((struct ledger_record *)(void *)(ledger->ring + note % LEDGER_SIZE))->write.offset =
				UINT64_MAX - 5000;

		numbers[0] = 1;
		numbers[1] = begin;
		numbers[2] = ledger->header->end;
		selector[0] = 3;
		memcpy(selector + 1, numbers, sizeof(numbers));
		size = numbers[2] - begin;
		ring = malloc(size);
		assert(ring != NULL);
		for (size_t at = 0; at < size; at++)
			ring[at] = ledger->ring[(begin + at) % LEDGER_SIZE];
		fuzz_seed(selector, sizeof(selector), ring, size);
		free(ring);
		ledger_close(ledger, true);
	}
}
