/* GLIMPSE: how far a file's objects here reach, and what they take. */
#include "oss/operations.h"

void ost_glimpse(struct ost *ost, struct request *request)
{
	const Strake__GlimpseRequest *glimpse = (const Strake__GlimpseRequest *)request->body;
	Strake__GlimpseReply body = STRAKE__GLIMPSE_REPLY__INIT;
	struct ost_file *file;
	int err = ost_check_file(glimpse->ino, glimpse->gen);

	if (err == 0)
		err = ost_check_stripe(glimpse->stripe_size);
	if (err == 0)
		err = file_enter(ost, glimpse->ino, glimpse->gen, glimpse->stripe_size, glimpse->cut, false, &file);
	if (err == 0) {
		file->refs++;
		file_leave(file);
		err = file_totals(file, &body.end, &body.blocks);
		file_put(file);
	}
	body.instance = ost->instance;
	service_reply(request, &(struct reply){ .err = err, .body = err == 0 ? &body.base : NULL });
}
