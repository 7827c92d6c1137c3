#include "client/fsck/merge.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

/* The head of each stream; ino UINT64_MAX, which no inode has: it has ended. */
struct row_head {
	uint64_t ino;
	struct fsck_row row;
};

struct merge {
	const struct fsck_streams *streams;
	const struct fsck_sink *sink;
	struct fsck_totals *totals;
	const struct fsck_inode *inode;
	struct sorted link;
	struct row_head *rows;
	struct fsck_inode *absent;
	bool found; /* the last rule had something to say */
};

static void note(void *arg, const struct fsck_finding *finding)
{
	struct merge *merge = arg;

	(void)finding;
	merge->found = true;
}

static bool take_found(struct merge *merge)
{
	bool found = merge->found;

	merge->found = false;
	return found;
}

void fsck_links_add(struct fsck_links *links, uint64_t parent, uint8_t type, bool misplaced)
{
	links->count++;
	links->parent = parent;
	links->types |= UINT32_C(1) << (type & 15);
	links->misplaced += misplaced;
}

/* --- streams ------------------------------------------------------------------------------------------------------ */

static int next_inode(struct merge *merge)
{
	int err = merge->streams->inode(merge->streams->arg, &merge->inode);

	if (err == -ENOENT)
		merge->inode = NULL;
	return err == -ENOENT ? 0 : err;
}

static int next_link(struct merge *merge)
{
	int err = merge->streams->link(merge->streams->arg, &merge->link);

	if (err == -ENOENT)
		merge->link.ino = UINT64_MAX;
	return err == -ENOENT ? 0 : err;
}

static void next_row(struct merge *merge, unsigned int source)
{
	struct row_head *head = &merge->rows[source];
	int err = merge->streams->row(merge->streams->arg, source, &head->row);

	if (err == 0) {
		head->ino = head->row.is_object ? head->row.object.ino : head->row.content.ino;
		return;
	}
	head->ino = UINT64_MAX;
	if (err != -ENOENT)
		merge->sink->broken(merge->sink->arg, source, err);
}

static int first_of_all(struct merge *merge)
{
	int err = next_inode(merge);

	if (err == 0)
		err = next_link(merge);
	for (unsigned int i = 0; i < merge->streams->sources && err == 0; i++)
		next_row(merge, i);
	return err;
}

static uint64_t lowest(const struct merge *merge)
{
	uint64_t ino = merge->inode ? merge->inode->ino : UINT64_MAX;

	if (merge->link.ino < ino)
		ino = merge->link.ino;
	for (unsigned int i = 0; i < merge->streams->sources; i++) {
		if (merge->rows[i].ino < ino)
			ino = merge->rows[i].ino;
	}
	return ino;
}

/* --- one number --------------------------------------------------------------------------------------------------- */

static int take_links(struct merge *merge, uint64_t ino, struct fsck_links *links, struct fsck_entries *entries)
{
	int err = 0;

	while (merge->link.ino == ino && err == 0) {
		const struct sorted *link = &merge->link;

		if (link->kind == SORTED_LINK) {
			fsck_links_add(links, link->other, link->type, link->misplaced);
		} else {
			entries->count += link->other;
			entries->subdirs += link->subdirs;
		}
		err = next_link(merge);
	}
	return err;
}

/* True: one of them is suspect. */
static bool check_rows(struct merge *merge, const struct fsck_inode *inode, const struct fsck_report *report)
{
	for (unsigned int i = 0; i < merge->streams->sources; i++) {
		for (; merge->rows[i].ino == inode->ino; next_row(merge, i)) {
			const struct fsck_row *row = &merge->rows[i].row;

			merge->totals->objects += row->is_object;
			if (row->is_object)
				fsck_check_object(inode, &row->object, report);
			else
				fsck_check_content(inode, &row->content, report);
		}
	}
	return take_found(merge);
}

static unsigned int check_number(struct merge *merge, const struct fsck_inode *inode, const struct fsck_links *links,
				 const struct fsck_entries *entries)
{
	const struct fsck_report report = { note, merge };
	const struct fsck_streams *streams = merge->streams;
	unsigned int suspicion = 0;

	fsck_check_inode(inode, &report);
	fsck_check_osts(inode, streams->ost_is_there, streams->arg, &report);
	if (take_found(merge))
		suspicion |= SUSPECT_INODE;
	/* Of what was made since, links are missing that are there. */
	if (inode->ino < streams->fresh) {
		fsck_check_links(inode, links, &report);
		if (take_found(merge))
			suspicion |= SUSPECT_LINKS;
		fsck_check_entries(inode, entries, &report);
		if (take_found(merge))
			suspicion |= SUSPECT_ENTRIES;
	}
	if (check_rows(merge, inode, &report))
		suspicion |= SUSPECT_OBJECTS;
	return suspicion;
}

static void count(struct fsck_totals *totals, const struct fsck_inode *inode)
{
	totals->inodes += inode->exists;
	totals->orphans += inode->orphan;
	totals->root |= inode->exists && inode->ino == FSCK_ROOT;
}

static int merge_number(struct merge *merge, uint64_t ino)
{
	bool known = merge->inode && merge->inode->ino == ino;
	const struct fsck_inode *inode = known ? merge->inode : merge->absent;
	struct fsck_links links = { 0 };
	struct fsck_entries entries = { 0 };
	unsigned int suspicion;
	int err = take_links(merge, ino, &links, &entries);

	if (err < 0)
		return err;
	if (!known)
		fsck_inode_init(merge->absent, ino);
	count(merge->totals, inode);
	suspicion = check_number(merge, inode, &links, &entries);
	if (suspicion)
		err = merge->sink->suspect(merge->sink->arg, ino, suspicion, inode->exists);
	if (err == 0 && known)
		err = next_inode(merge);
	return err;
}

int fsck_merge(const struct fsck_streams *streams, const struct fsck_sink *sink, struct fsck_totals *ret_totals)
{
	struct merge merge = {
		.streams = streams,
		.sink = sink,
		.totals = ret_totals,
		.rows = calloc(streams->sources + 1, sizeof(*merge.rows)),
		.absent = malloc(sizeof(*merge.absent)),
	};
	uint64_t ino;
	int err = merge.rows && merge.absent ? 0 : -ENOMEM;

	*ret_totals = (struct fsck_totals){ 0 };
	if (err == 0)
		err = first_of_all(&merge);
	while (err == 0 && (ino = lowest(&merge)) != UINT64_MAX)
		err = merge_number(&merge, ino);
	free(merge.rows);
	free(merge.absent);
	return err;
}
