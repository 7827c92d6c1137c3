/*
 * Between messages and frames: what every fabric does alike. Pure: bytes in, decision out.
 */
#ifndef STRAKE_COMMON_TRANSPORT_FRAME_H
#define STRAKE_COMMON_TRANSPORT_FRAME_H

#include "common/transport.h"

/* Bytes of a message's body, and of its bulk or file. -EMSGSIZE: over their bounds. */
int transport_frame_measure(const struct transport_message *message, size_t *ret_body_len, size_t *ret_bulk_len);

/* Its header and body, FRAME_HEADER_SIZE + body_len bytes, the lengths as measured. */
void transport_frame_pack(const struct transport_message *message, size_t body_len, size_t bulk_len, uint8_t *out);

/*
 * The frame at data, of which size bytes have come. ret_need: so many its header and body are (until the header has
 * come, so many that is). ret_header can be believed only when all of them are there, and right: *ret_need <= size. Else:
 * -EPROTO, -EPROTONOSUPPORT, -EMSGSIZE  as frame_decode()
 * -EBADMSG                              a sum is wrong
 */
int transport_frame_parse(const uint8_t *data, size_t size, struct frame_header *ret_header, size_t *ret_need);

/* What was wrong with a frame, in words, by the error of transport_frame_parse() or of the owner's events. */
const char *transport_frame_error(int err);

#endif
