/* What is said to a person commands no terminal, whatever names there are in it. */
#include "client/cli/cli.h"

#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

START_TEST(control_characters_are_written_out)
{
	static const struct {
		const char *name, *written;
	} texts[] = {
		{ "", "" },
		{ "plain name.txt", "plain name.txt" },
		{ "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80" },
		{ "\033]0;title\007", "\\033]0;title\\007" },
		{ "two\nlines\r\ttab", "two\\012lines\\015\\011tab" },
		{ "\x7f\x01\x1f", "\\177\\001\\037" },
		{ "\xc2\x9b"
		  "2J",
		  "\\302\\2332J" }, /* CSI in one character */
		{ "\xc2\xa0\xc2", "\xc2\xa0\xc2" },
		{ "\xff\xfe", "\xff\xfe" },
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		char *text = NULL;
		size_t size;
		FILE *file = open_memstream(&text, &size);

		cli_put_text(file, texts[i].name);
		ck_assert_int_eq(fclose(file), 0);
		ck_assert_str_eq(text, texts[i].written);
		free(text);
	}
}
END_TEST

START_TEST(messages_too)
{
	char got[64] = "";
	FILE *file = tmpfile();
	int saved[2] = { dup(1), dup(2) };

	fflush(NULL);
	dup2(fileno(file), 1);
	dup2(fileno(file), 2);
	cli_say("one %s", "\033[2J");
	fflush(stdout);
	ck_assert_int_eq(cli_fail("two %s", "\033[2J"), CLI_FAILED);
	fflush(stderr);
	dup2(saved[0], 1);
	dup2(saved[1], 2);
	close(saved[0]);
	close(saved[1]);
	rewind(file);
	ck_assert_uint_gt(fread(got, 1, sizeof(got) - 1, file), 0);
	ck_assert_str_eq(got, "one \\033[2J\nstrake: two \\033[2J\n");
	fclose(file);
}
END_TEST

UNIT_MAIN("cli_text", control_characters_are_written_out, messages_too)
