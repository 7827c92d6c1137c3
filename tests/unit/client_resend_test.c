/* What an OST has lost, or may have lost, is sent again: what, in which order, over what and never over what. */
#include "client/session.h"
#include "tests/unit/client_osts.h"

/* Another client's bytes, committed and reported. */
static void write_elsewhere(uint64_t offset, const char *text)
{
	memcpy(osts.bytes + offset, text, strlen(text));
	memcpy(osts.stable + offset, text, strlen(text));
	fake_changed(cluster, &cluster->inodes[1]);
}

static void lost_body(struct fake *fake)
{
	unsigned int commits;

	begin(fake);
	/* Found out by the COMMIT. */
	put_out(0, "one");
	assert(is_at(osts.bytes, 0, "one"));
	lose(0);
	assert(!is_at(osts.bytes, 0, "one"));
	assert(fsync_file() == 0 && is_at(osts.stable, 0, "one") && nothing_held());

	/* By a READ, which brings it all the same. */
	put_out(0, "two");
	put_out(8000, "end");
	lose(0);
	assert(reads(direct, 0, "two"));
	assert(fsync_file() == 0 && is_at(osts.stable, 0, "two") && is_at(osts.stable, 8000, "end"));

	/* By a WRITE elsewhere. */
	put_out(0, "three");
	lose(0);
	commits = fake->asked[OP_COMMIT];
	put(direct, 100, "x", 1);
	while (!is_at(osts.bytes, 0, "three"))
		fiber_sleep_ms(1);
	assert(fake->asked[OP_COMMIT] == commits);

	/* It concerns what that OST has, and only that. */
	put_out(STRIPE, "other");
	assert(fsync_file() == 0 && is_at(osts.stable, 0, "three") && is_at(osts.stable, STRIPE, "other"));
	put_out(0, "four");
	put_out(STRIPE, "OTHER");
	lose(1);
	assert(fsync_file() == 0 && is_at(osts.stable, 0, "four") && is_at(osts.stable, STRIPE, "OTHER"));
	assert(nothing_held());
	end();
}

START_TEST(what_an_ost_has_lost_is_sent_again)
{
	fake_run(lost_body);
}
END_TEST

/* Newer bytes for the same place are on their way: only the rest is sent again. */
static void newer_body(struct fake *fake)
{
	char got[1];

	begin(fake);
	put_out(0, "oldold");
	osts.hold = OP_WRITE;
	put_text(0, "new");
	put_text(8192, "elsewhere"); /* which asks for a second sender */
	start(flush_fiber);
	osts.hold = 0;
	lose(0);
	put(direct, 100, "x", 1);
	let_write_go();
	assert(finish() == 0);
	assert(fsync_file() == 0 && is_at(osts.stable, 0, "newold"));

	/* Or they have not set out yet. */
	put_text(0, "OLDOLD");
	put_out(8000, "end");
	lose(0);
	put_text(1, "NEW");
	assert(get(direct, 4000, got, 1) == 1);
	assert(fsync_file() == 0 && is_at(osts.stable, 0, "ONEWLD"));
	end();
}

START_TEST(what_is_sent_again_does_not_cover_what_is_newer)
{
	fake_run(newer_body);
}
END_TEST

static void write_two_fiber(void *arg)
{
	put(direct, 0, "two", 3);
	*(bool *)arg = true;
}

/* Bytes for a place that others are on their way to wait for them, so that no order of arrival brings old ones back. */
static void same_place_body(struct fake *fake)
{
	bool over = false;

	begin(fake);
	osts.hold = OP_WRITE;
	put_text(0, "one");
	put_text(8192, "elsewhere");
	put_text(16384, "elsewhere");
	start(flush_fiber);
	assert(fiber_start(fake->loop, write_two_fiber, &over) == 0);
	while (!is_at(extent_data(file->inode->data->dirty.count > 0 ? file->inode->data->dirty.items[0]
								     : file->inode->data->flight.items[0]),
		      0, "two"))
		fiber_sleep_ms(1);
	for (int i = 0; i < 20; i++)
		fiber_yield();
	assert(fake->held_count == 3 && !over); /* there are senders enough */
	osts.hold = 0;
	while (fake->held_count > 0)
		answer_write(fake->held[--fake->held_count]);
	assert(is_at(osts.bytes, 0, "one"));
	while (!over)
		fiber_sleep_ms(1);
	assert(finish() == 0 && is_at(osts.bytes, 0, "two"));
	end();
}

START_TEST(one_write_at_a_time_for_a_place)
{
	fake_run(same_place_body);
}
END_TEST

/* What is answered while a COMMIT runs is not covered by it. */
static void commit_body(struct fake *fake)
{
	begin(fake);
	put_out(0, "before");
	osts.hold = OP_COMMIT;
	start(fsync_fiber);
	osts.hold = 0;
	put(direct, 100, "meanwhile", 9);
	fake->held_count = 0;
	answer_commit(fake->held[0], 0);
	assert(finish() == 0);
	lose(0);
	assert(is_at(osts.bytes, 0, "before") && !is_at(osts.bytes, 100, "meanwhile"));
	assert(fsync_file() == 0 && is_at(osts.stable, 100, "meanwhile"));
	end();
}

START_TEST(a_commit_covers_what_was_answered_before_it)
{
	fake_run(commit_body);
}
END_TEST

/* What they have written since is newer than what an OST may have lost: that is not sent again over it. */
static void shared_body(struct fake *fake)
{
	unsigned int writes;

	begin(fake);
	/* It has lost nothing: there is nothing to send. */
	put_out(0, "ours ours");
	write_elsewhere(100, "theirs");
	osts.instance[0]++;
	writes = fake->asked[OP_WRITE];
	assert(fsync_file() == 0 && fake->asked[OP_WRITE] == writes && nothing_held());
	assert(is_at(osts.stable, 0, "ours ours") && is_at(osts.stable, 100, "theirs"));

	/* It has what they wrote over ours, and nobody can tell what else it has lost. */
	put_out(0, "OURS OURS");
	write_elsewhere(0, "THEIRS");
	osts.instance[0]++;
	assert(fsync_file() == -EIO && fsync_file() == 0 && nothing_held());
	assert(is_at(osts.bytes, 0, "THEIRSURS"));

	/* They have it open for writing, and may have written what they have not told of. */
	put_out(200, "again");
	fake->inodes[1].unsure = true;
	fake->inodes[1].version = ++fake->version;
	memcpy(osts.bytes + 200, "THEIR", 5);
	osts.instance[0]++;
	assert(fsync_file() == -EIO && is_at(osts.bytes, 200, "THEIR"));

	/* When nothing is held any more it begins anew. */
	fake->inodes[1].unsure = false;
	fake_changed(fake, &fake->inodes[1]);
	learn();
	put_out(300, "alone");
	lose(0);
	assert(fsync_file() == 0 && is_at(osts.stable, 300, "alone"));
	end();
}

START_TEST(what_others_have_written_since_is_not_covered)
{
	fake_run(shared_body);
}
END_TEST

static bool read_over;

static void read_fiber(void *arg)
{
	(void)arg;
	assert(reads(direct, 0, "first"));
	read_over = true;
}

/* What the MDT shows may be of our own making, though we have not been told so yet. */
static void overtaken_body(struct fake *fake)
{
	unsigned int asked;

	begin(fake);
	put_out(0, "first");
	put_text(100, "second");
	osts.hold = OP_SIZE;
	start(flush_fiber);
	learn();
	lose(0);
	asked = fake->asked[OP_GETATTR];
	read_over = false;
	assert(fiber_start(fake->loop, read_fiber, NULL) == 0);
	while (fake->asked[OP_GETATTR] == asked)
		fiber_sleep_ms(1);
	osts.hold = 0;
	fake->held_count = 0;
	fake_reply_attr(fake->held[0], &fake->inodes[1], osts.size_before);
	assert(finish() == 0);
	while (!read_over)
		fiber_sleep_ms(1);
	assert(fsync_file() == 0 && is_at(osts.stable, 0, "first") && is_at(osts.stable, 100, "second"));
	end();
}

START_TEST(an_own_change_that_is_seen_before_its_answer_is_not_others)
{
	fake_run(overtaken_body);
}
END_TEST

/* What was answered in a session that was lost is not sent in the next one, though the OST forgets it. */
static void session_body(struct fake *fake)
{
	unsigned int writes;

	begin(fake);
	put_out(0, "early");
	fake->session += 100;
	learn();
	lose(0);
	writes = fake->asked[OP_WRITE];
	assert(fsync_file() == -EIO && fsync_file() == 0 && nothing_held());
	assert(fake->asked[OP_WRITE] == writes && all_are(0, 10, 0));
	end();
}

START_TEST(a_lost_session_takes_what_was_answered)
{
	fake_run(session_body);
}
END_TEST

/* --- an MDT that comes back with all of its log --------------------------------------------------------------------- */

static struct {
	struct attr attr;
	bool over;
} late; /* of late_fiber() */

static bool hold_lookup(struct fake *fake, struct request *request)
{
	return request->header.opcode == OP_LOOKUP ? fake_hold(fake, request) : serve(fake, request);
}

static void late_fiber(void *fs)
{
	struct fs_ctx ctx = root_ctx();

	assert(fs_lookup(fs, &ctx, 1, "f", 1, &late.attr) == 0);
	late.over = true;
}

/*
 * A LOOKUP is answered as things are, but its answer is held up, as an MDT's is by a flush of its log. Meanwhile the file is
 * written, and the MDT is told what is open, as if it were another one.
 */
static void before_body(struct fake *fake)
{
	struct fs_ctx ctx = root_ctx();
	struct fake_inode old;
	struct attr attr;

	begin(fake);
	fake->hook = hold_lookup;
	assert(fiber_start(fake->loop, late_fiber, mount.fs) == 0);
	while (fake->held_count == 0)
		fiber_sleep_ms(1);
	old = fake->inodes[FAKE_FILE - 1];
	put_out(0, "bytes");
	fake->instance++;
	fake->reclaim = true;
	fs_session_renew_soon(mount.fs->session);
	while (fake->reclaim || fs_session_reclaims(mount.fs->session) % 2 == 1)
		fiber_sleep_ms(1);
	fake_reply_entry(fake->held[0], &old);
	fake->held_count = 0;
	while (!late.over)
		fiber_sleep_ms(1);
	assert(late.attr.size == 5);
	assert(fs_getattr(mount.fs, &ctx, FAKE_FILE, false, &attr) == 0 && attr.size == 5);
	fs_forget(mount.fs, FAKE_FILE, 1);
	end();
}

START_TEST(a_size_from_before_is_not_believed)
{
	fake_run(before_body);
}
END_TEST

UNIT_MAIN("client_resend", what_an_ost_has_lost_is_sent_again, what_is_sent_again_does_not_cover_what_is_newer,
	  one_write_at_a_time_for_a_place, a_commit_covers_what_was_answered_before_it,
	  what_others_have_written_since_is_not_covered, an_own_change_that_is_seen_before_its_answer_is_not_others,
	  a_lost_session_takes_what_was_answered, a_size_from_before_is_not_believed)
