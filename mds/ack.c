/* RECORD_ACK: what OSTs have done, durably, leaves the destroy queue and the pending cuts. */
#include "mds/apply.h"
#include "mds/cut.h"
#include "mds/destroy.h"

#include "proto/mdt_record.pb-c.h"

#include <assert.h>

int ack_apply(struct change *change, const ProtobufCMessage *message)
{
	const Strake__AckRecord *record = (const void *)message;

	assert(record->n_destroyed_gen == record->n_destroyed_ino &&
	       record->n_destroyed_ost == record->n_destroyed_ino);
	for (size_t i = 0; i < record->n_destroyed_ino; i++)
		destroy_acknowledge(change->view, record->destroyed_ino[i], record->destroyed_gen[i],
				    record->destroyed_ost[i]);

	assert(record->n_cut_gen == record->n_cut_ino && record->n_cut_number == record->n_cut_ino &&
	       record->n_cut_ost == record->n_cut_ino);
	for (size_t i = 0; i < record->n_cut_ino; i++)
		cut_acknowledge(change->view, record->cut_ino[i], record->cut_gen[i], record->cut_number[i],
				record->cut_ost[i]);
	return 0;
}
