/*
 * COMMIT: what was written to a file's objects here, to all or to those named, is durable when this is answered. With ino 0
 * that is said of all files: a client that wants to forget many small ones at once.
 */
#include "oss/fan_out.h"
#include "oss/operations.h"
#include "oss/ost_object.h"

#include <errno.h>
#include <stdlib.h>

#define COMMIT_WIDTH 16

struct committing {
	struct ost_object **objects;
	size_t count;
};

static int commit_one(void *arg, size_t i)
{
	const struct committing *committing = arg;

	return object_commit(committing->objects[i]);
}

static void add(struct committing *committing, struct ost_object *object)
{
	if (!object || object->opening || !object_is_dirty(object))
		return;
	object_hold(object);
	committing->objects[committing->count++] = object;
}

/* What is not in memory is clean: see ost_object.h. */
static int collect(struct ost_file *file, const Strake__CommitRequest *commit, struct committing *committing)
{
	size_t room = commit->n_seq;

	if (commit->n_seq == 0) {
		for (struct ost_object *object = file->objects; object; object = object->file_next)
			room++;
	}
	committing->objects = malloc((room + 1) * sizeof(struct ost_object *));
	if (!committing->objects)
		return -ENOMEM;
	for (size_t i = 0; i < commit->n_seq; i++)
		add(committing, object_find(file, commit->seq[i]));
	if (commit->n_seq == 0) {
		for (struct ost_object *object = file->objects; object; object = object->file_next)
			add(committing, object);
	}

	return 0;
}

static int commit_file(struct ost_file *file, const Strake__CommitRequest *commit)
{
	struct committing committing = { .count = 0 };
	int err = collect(file, commit, &committing);

	if (err < 0)
		return err;
	err = fan_out(file->ost->loop, committing.count, COMMIT_WIDTH, commit_one, &committing);
	for (size_t i = 0; i < committing.count; i++)
		object_put(committing.objects[i]);
	free(committing.objects);
	if (err < 0)
		return err;

	return index_sync(file->ost->index, file->last_change);
}

static int commit_everything(struct ost *ost)
{
	int err = object_commit_all(ost);

	return err < 0 ? err : index_sync(ost->index, index_last_change(ost->index));
}

void ost_commit(struct ost *ost, struct request *request)
{
	const Strake__CommitRequest *commit = (const Strake__CommitRequest *)request->body;
	Strake__CommitReply body = STRAKE__COMMIT_REPLY__INIT;
	struct ost_file *file;
	int err;

	if (commit->ino == 0) {
		err = commit_everything(ost);
	} else {
		err = ost_check_file(commit->ino, commit->gen);
		/* Its bytes are gone, and not because somebody wanted that. */
		if (err == 0 && ost_is_void(ost, commit->gen))
			err = -ESTALE;
		if (err == 0)
			err = file_get(ost, commit->ino, commit->gen, &file);
		if (err == 0) {
			err = commit_file(file, commit);
			if (err == 0)
				err = file_totals(file, &body.end, &body.blocks);
			file_put(file);
		}
	}
	body.instance = ost->instance;
	service_reply(request, &(struct reply){ .err = err, .body = err == 0 ? &body.base : NULL });
}
