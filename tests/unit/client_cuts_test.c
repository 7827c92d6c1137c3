/*
 * Others cut and replace the file whose bytes are dirty, on their way or on the OSTs: what goes with the cut, what stays,
 * and what is an error.
 */
#include "tests/unit/client_osts.h"

/* What was written before it stays cut away, whatever the OST lost. */
static void cut_body(struct fake *fake)
{
	char got[8192];

	begin(fake);
	put_letters(0, 'a', 8000);
	assert(flush() == 0);
	cut_elsewhere(1, 1000, END);
	osts_cut(1, 1000, END);
	learn();
	assert(known_size() == 1000 && get(direct, 0, got, 8000) == 1000);
	lose(0);
	assert(fsync_file() == 0 && all_are(0, 1000, 'a') && all_are(1000, 8000, 0));

	/* Lost first, and dirty again when the cut comes. */
	for (unsigned int i = 0; i < 10; i++)
		put_letters(i * 8192, 'b', 100);
	assert(flush() == 0);
	lose(0);
	assert(get(direct, 20000, got, 10) == 10);
	cut_elsewhere(2, 50, END);
	osts_cut(2, 50, END);
	learn();
	assert(fsync_file() == 0 && all_are(0, 50, 'b') && all_are(50, 100000, 0));

	/* A punch takes its range only. */
	put_letters(0, 'c', 8000);
	assert(flush() == 0);
	cut_elsewhere(3, 2000, 3000);
	osts_cut(3, 2000, 3000);
	learn();
	lose(0);
	assert(fsync_file() == 0 && all_are(0, 2000, 'c') && all_are(2000, 3000, 0) && all_are(3000, 8000, 'c'));

	/* New content. */
	put_letters(0, 'd', 100);
	assert(flush() == 0);
	replace_elsewhere();
	learn();
	assert(known_size() == 0);
	lose(0);
	assert(fsync_file() == 0 && all_are(0, 8000, 0) && nothing_held());
	end();
}

START_TEST(what_others_cut_away_is_not_sent_again)
{
	fake_run(cut_body);
}
END_TEST

/* Another client's cut comes while what was lost is being sent again. heard: by the OST before the WRITE. */
static int cut_while_resent(uint64_t number, bool heard)
{
	put_letters(0, 'a', 8000);
	assert(flush() == 0);
	lose(0);
	osts.hold = OP_WRITE;
	start(fsync_fiber);
	if (number == 0)
		replace_elsewhere();
	else
		cut_elsewhere(number, 1000, END);
	if (heard)
		osts_cut(number, 1000, END);
	learn();
	let_write_go();
	return finish();
}

/* ... nor where it is being sent again when the cut is heard of. */
static void cut_in_flight_body(struct fake *fake)
{
	begin(fake);
	assert(cut_while_resent(1, true) == 0 && all_are(0, 1000, 'a') && all_are(1000, 8000, 0));
	assert(cut_while_resent(2, false) == 0 && all_are(0, 1000, 'a') && all_are(1000, 8000, 0));
	assert(cut_while_resent(4, true) == -EIO && all_are(1000, 8000, 0)); /* it has missed one */
	assert(cut_while_resent(0, false) == 0 && all_are(0, 8000, 0));
	assert(fsync_file() == 0 && nothing_held());
	end();
}

START_TEST(what_is_sent_again_while_it_is_cut_stays_cut)
{
	fake_run(cut_in_flight_body);
}
END_TEST

/* What was never answered may be newer than the cut: it is written, also over what is older and goes. */
static void newer_than_cut_body(struct fake *fake)
{
	char got[8];

	begin(fake);
	put_letters(0, 'a', 8000);
	assert(flush() == 0);
	put_letters(20000, 'n', 3);
	cut_elsewhere(1, 1000, END);
	osts_cut(1, 1000, END);
	learn();
	assert(known_size() == 20003);
	assert(flush() == 0 && all_are(20000, 20003, 'n') && osts.end == 20003 && all_are(1000, 20000, 0));

	/* Written and not reported: the MDT did not know of it when it cut. */
	put_letters(0, 'b', 8000);
	assert(data_write_out(file->inode, &(struct fs_ctx){ .trusted = true }) == 0);
	cut_elsewhere(2, 1000, END);
	osts_cut(2, 1000, END);
	learn();
	assert(known_size() == 1000);
	assert(flush() == 0 && osts.end == 1000);

	put_letters(0, 'a', 8000);
	put_text(100000, "end");
	assert(flush() == 0);
	lose(0);
	assert(get(direct, 50000, got, 1) == 1); /* dirty again */
	put_letters(2000, 'b', 100);
	put_letters(100003, 'c', 100);
	cut_elsewhere(3, 1000, END);
	osts_cut(3, 1000, END);
	learn();
	assert(flush() == 0 && all_are(0, 1000, 'a') && all_are(1000, 2000, 0) && all_are(2000, 2100, 'b'));
	assert(all_are(2100, 8000, 0) && all_are(100000, 100003, 0) && all_are(100003, 100103, 'c'));
	end();
}

START_TEST(what_was_not_answered_is_newer_than_a_cut)
{
	fake_run(newer_than_cut_body);
}
END_TEST

/* Of several cuts only the last is told: what the others took is not known, and an error better than its return. */
static void doubt_body(struct fake *fake)
{
	begin(fake);
	put_out(0, "doubtful");
	cut_elsewhere(2, 50000, 60000);
	osts_cut(2, 50000, 60000);
	learn();
	lose(0);
	assert(fsync_file() == -EIO && all_are(0, 100, 0));
	assert(fsync_file() == 0 && nothing_held());
	/* Had it not been lost, nobody would have noticed. */
	put_out(0, "doubtful");
	cut_elsewhere(4, 50000, 60000);
	osts_cut(4, 50000, 60000);
	learn();
	assert(fsync_file() == 0 && is_at(osts.stable, 0, "doubtful"));
	end();
}

START_TEST(what_cuts_unheard_of_may_have_taken_is_an_error)
{
	fake_run(doubt_body);
}
END_TEST

/* An answer counts only for the gen and cut that are still in force. */
static void stale_body(struct fake *fake)
{
	unsigned int writes;

	begin(fake);
	/* The OST knows of it before the client does. */
	cut_elsewhere(1, 50000, 60000);
	osts_cut(1, 50000, 60000);
	put_out(0, "one");
	assert(strcmp(osts.order, "WWS") == 0 && is_at(osts.bytes, 0, "one"));

	/* The other way round: this OST may cut it away yet. */
	osts.hold = OP_WRITE;
	put_text(0, "two");
	start(flush_fiber);
	cut_elsewhere(2, 0, 100);
	learn();
	let_write_go();
	assert(finish() == 0 && osts.cut == 2 && is_at(osts.bytes, 0, "two"));

	/* Replaced: it was written before. */
	osts.hold = OP_WRITE;
	put_text(0, "three");
	start(flush_fiber);
	writes = fake->asked[OP_WRITE];
	replace_elsewhere();
	learn();
	osts.swallow = true;
	let_write_go();
	assert(finish() == 0 && fsync_file() == 0 && nothing_held());
	assert(fake->asked[OP_WRITE] == writes && all_are(0, 100, 0));
	end();
}

START_TEST(an_answer_counts_only_for_the_gen_and_cut_in_force)
{
	fake_run(stale_body);
}
END_TEST

/* An OST has met a cut that the MDT does not know of, as it goes on from an older copy of its state. */
static void unknown_cut_body(struct fake *fake)
{
	struct fs_stats stats;

	begin(fake);
	osts.cut = 3;
	put_text(0, "x");
	assert(flush() == -EIO && flush() == 0);
	fs_stats(mount.fs, &stats);
	assert(stats.bytes_lost == 1 && nothing_held() && all_are(0, 10, 0));
	/* The next one is above all. */
	cut_elsewhere(4, 4096, 8192);
	put_out(0, "y");
	assert(is_at(osts.bytes, 0, "y") && osts.cut == 4);
	end();
}

START_TEST(what_is_too_old_for_ever_is_an_error)
{
	fake_run(unknown_cut_body);
}
END_TEST

UNIT_MAIN("client_cuts", what_others_cut_away_is_not_sent_again, what_is_sent_again_while_it_is_cut_stays_cut,
	  what_was_not_answered_is_newer_than_a_cut, what_cuts_unheard_of_may_have_taken_is_an_error,
	  an_answer_counts_only_for_the_gen_and_cut_in_force, what_is_too_old_for_ever_is_an_error)
