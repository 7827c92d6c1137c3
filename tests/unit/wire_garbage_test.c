/* Clients that send something else than requests: cut off or answered, and others are served as ever. */
#include "tests/unit/wire_fixture.h"

START_TEST(garbage_is_cut_off)
{
	struct server server = { .config = { .frame_deadline_ms = 100 } };
	uint8_t *data = malloc(4 * 1024 * 1024);
	struct frame_header header;
	size_t size;
	uint64_t began_ns;
	int fd;

	server_thread_start(&server);

	/* Before the opening: another protocol, and noise, long and short. At once, whatever would have followed. */
	began_ns = clock_ns();
	fd = raw_connect(&server);
	raw_send(fd, "GET / HTTP/1.1\r\n\r\n", 18);
	raw_expect_end(fd);
	assert(clock_ns() - began_ns < OPENING_DEADLINE_MS * NSEC_PER_MSEC);
	for (unsigned int i = 0; i < 20; i++) {
		uint8_t *noise = pattern(300, i + 1);

		fd = raw_connect(&server);
		raw_send(fd, noise, i == 0 ? 1 : 300);
		raw_expect_end(fd);
		free(noise);
	}
	/* A good greeting and a bad proof. */
	{
		const struct opening_hello hello = { .own_role = ROLE_CLIENT };
		uint8_t answer[OPENING_WELCOME_SIZE + OPENING_ACCEPT_SIZE];
		char text[OPENING_TEXT_SIZE];
		uint16_t credits;

		opening_hello_encode(&hello, data);
		memset(data + OPENING_HELLO_SIZE, 7, OPENING_PROOF_SIZE);
		fd = raw_connect(&server);
		raw_send(fd, data, OPENING_HELLO_SIZE + OPENING_PROOF_SIZE);
		raw_receive(fd, answer, sizeof(answer));
		assert(opening_accepted(answer + OPENING_WELCOME_SIZE, &credits, text) == -EKEYREJECTED);
		raw_expect_end(fd);
	}

	/* Noise for frames; a flipped bit anywhere in header or body. */
	fd = raw_open(&server);
	memset(data, 0x55, 4096);
	raw_send(fd, data, 4096);
	raw_expect_end(fd);
	size = raw_request(data, 1, 100);
	for (unsigned int bit = 0; bit < 8 * (size - 100); bit += 7) {
		size = raw_request(data, 1, 100);
		data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		fd = raw_open(&server);
		raw_send(fd, data, size);
		raw_expect_end(fd);
	}

	/* Lying lengths, under a right sum. */
	fd = raw_open(&server);
	size = raw_request(data, 1, 0);
	assert(frame_decode(data, &header) == 0);
	header.body_len = FRAME_BODY_MAX + 1;
	frame_encode(&header, data);
	raw_send(fd, data, size);
	raw_expect_end(fd);
	fd = raw_open(&server);
	header.body_len = 10;
	header.bulk_len = UINT32_MAX;
	frame_encode(&header, data);
	raw_send(fd, data, size);
	raw_expect_end(fd);
	/* A reply instead of a request. */
	fd = raw_open(&server);
	size = raw_request(data, 1, 0);
	assert(frame_decode(data, &header) == 0);
	header.kind = FRAME_REPLY;
	frame_encode(&header, data);
	raw_send(fd, data, size);
	raw_expect_end(fd);

	/* Half of it, then silence: half a header, half a body, a long one's begin, half a bulk. */
	size = raw_request(data, 1, 1000);
	for (unsigned int i = 0; i < 4; i++) {
		const size_t halves[] = { 10, FRAME_HEADER_SIZE + 3, size - 1000, size - 500 };

		fd = raw_open(&server);
		raw_send(fd, data, halves[i]);
		raw_expect_end(fd);
	}
	fd = raw_open(&server);
	assert(frame_decode(data, &header) == 0);
	header.body_len = FRAME_BODY_MAX;
	frame_encode(&header, data);
	raw_send(fd, data, 200000);
	raw_expect_end(fd);

	/* A body that is no message, in a right frame: that is told, and the connection goes on. */
	fd = raw_open(&server);
	size = raw_request(data, 5, 300);
	assert(frame_decode(data, &header) == 0);
	memset(data + FRAME_HEADER_SIZE, 0xff, header.body_len);
	header.body_sum = crc32c(data + FRAME_HEADER_SIZE, header.body_len);
	frame_encode(&header, data);
	raw_send(fd, data, size);
	raw_receive(fd, data, FRAME_HEADER_SIZE);
	assert(frame_decode(data, &header) == 0);
	assert(header.status == EBADMSG && header.xid == 5 && header.body_len == 0 && header.bulk_len == 0);
	/* And an operation that does not exist. */
	size = raw_request(data, 6, 300);
	assert(frame_decode(data, &header) == 0);
	header.opcode = 0xfff;
	frame_encode(&header, data);
	raw_send(fd, data, size);
	raw_receive(fd, data, FRAME_HEADER_SIZE);
	assert(frame_decode(data, &header) == 0);
	assert(header.status == EOPNOTSUPP && header.xid == 6 && header.opcode == 0xfff);
	close(fd);

	server_is_well(&server);
	server_thread_stop(&server);
	free(data);
}
END_TEST

/* Anything at all may stand in a frame whose sums are right: answered or cut off, and nothing else comes of it. */
START_TEST(noise_in_right_frames_is_survived)
{
	struct server server = { .config = { .frame_deadline_ms = 100 } };
	unsigned int seed = 20;

	server_thread_start(&server);
	for (unsigned int round = 0; round < 400; round++) {
		uint8_t data[FRAME_HEADER_SIZE + 4096], *noise = pattern(4096, ++seed);
		struct frame_header header = { .version = FRAME_VERSION, .kind = FRAME_REQUEST };
		int fd = raw_open(&server);

		/* Every operation of an OST but those that hold or wait; good beginnings, bad ends. */
		memcpy(&header.xid, noise, 16);
		header.kind = 1 + noise[16] % 8 / 7;
		header.opcode = (uint16_t)(0x300 + noise[17] % 0x24);
		if (header.opcode == OP_GLIMPSE)
			header.opcode = OP_READ;
		memcpy(&header.flags, noise + 18, 2);
		memcpy(&header.slot, noise + 20, 8);
		header.body_len = noise[28] % 64;
		header.bulk_len = noise[29] % 2 ? noise[30] : 0;
		raw_request(data, 1, 0);
		memcpy(data + FRAME_HEADER_SIZE + noise[31] % 20, noise + 32, 4000);
		header.body_sum = crc32c(data + FRAME_HEADER_SIZE, header.body_len);
		frame_encode(&header, data);
		raw_send(fd, data, FRAME_HEADER_SIZE + header.body_len + header.bulk_len);
		shutdown(fd, SHUT_WR);
		raw_expect_end(fd);
		free(noise);
	}
	server_is_well(&server);
	server_thread_stop(&server);
}
END_TEST

/* Byte by byte, and many in one piece: where the cuts are means nothing. */
START_TEST(frames_may_be_cut_anywhere)
{
	struct server server = { 0 };
	uint8_t *data = malloc(1024 * 1024), *answer = malloc(1024 * 1024);
	size_t size = 0, answer_size = 0;
	int fd;

	server_thread_start(&server);
	fd = raw_open(&server);
	for (uint64_t i = 0; i < 20; i++)
		size += raw_request(data + size, i, (uint32_t)i * 30);
	for (size_t step = 1; step < size; step = step * 3 + 1) {
		struct frame_header header;

		for (size_t at = 0; at < size; at += step)
			raw_send(fd, data + at, at + step < size ? step : size - at);
		for (uint64_t i = 0; i < 20; i++) {
			raw_receive(fd, answer, FRAME_HEADER_SIZE);
			assert(frame_decode(answer, &header) == 0);
			assert(header.xid == i && header.bulk_len == i * 30 && header.status == 0);
			answer_size = header.body_len + header.bulk_len;
			raw_receive(fd, answer, answer_size);
			for (size_t j = header.body_len; j < answer_size; j++)
				assert(answer[j] == 0x77);
		}
	}
	close(fd);
	server_thread_stop(&server);
	free(data);
	free(answer);
}
END_TEST

UNIT_MAIN("wire_garbage", garbage_is_cut_off, noise_in_right_frames_is_survived, frames_may_be_cut_anywhere)
