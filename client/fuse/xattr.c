/* Extended attributes. */
#include "client/fuse/request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define STATS_XATTR "strake.stats" /* of whatever file: what this mount has done so far. In no list */
#define XATTR_MAX   65536

void fuse_setxattr(struct fuse_request *request)
{
	/* Kernels before 5.13 know no SETXATTR_EXT: the short form. */
	bool extended = (request->server->flags & FUSE_SETXATTR_EXT) != 0;
	size_t head = extended ? sizeof(struct fuse_setxattr_in) : FUSE_COMPAT_SETXATTR_IN_SIZE;
	const struct fuse_setxattr_in *in = fuse_args(request, head);
	const char *name;
	size_t len, at;

	if (in == NULL || (name = fuse_string(request, head, &len)) == NULL)
		return;
	at = head + len + 1;
	if (in->size > XATTR_MAX || request->args_len - at < in->size) {
		fuse_answer_error(request, in->size > XATTR_MAX ? -E2BIG : -EINVAL);
		return;
	}
	request->ctx.kill_sgid |= extended && (in->setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID) != 0;
	fuse_answer_error(request,
			  fs_setxattr(request_fs(request), &request->ctx, request_ino(request, request->header.nodeid),
				      name, request->args + at, in->size, (int)in->flags));
}

/* The answer of a probe is a length, of the rest the bytes. */
static void fuse_answer_xattr(struct fuse_request *request, int err, const void *value, size_t len, size_t size)
{
	struct fuse_getxattr_out out = { .size = (uint32_t)len };

	if (err < 0)
		fuse_answer_error(request, err);
	else if (size == 0)
		fuse_answer(request, &out, sizeof(out));
	else
		fuse_answer(request, value, len);
}

void fuse_getxattr(struct fuse_request *request)
{
	const struct fuse_getxattr_in *in = fuse_args(request, sizeof(*in));
	const char *name;
	size_t name_len, size, len = 0;
	void *value;
	int err;

	if (in == NULL || (name = fuse_string(request, sizeof(*in), &name_len)) == NULL)
		return;
	size = in->size > XATTR_MAX ? XATTR_MAX : in->size;
	value = malloc(size + 1);
	if (value == NULL)
		err = -ENOMEM;
	else if (strcmp(name, STATS_XATTR) == 0)
		err = fs_stats_text(request_fs(request), value, size, &len);
	else
		err = fs_getxattr(request_fs(request), &request->ctx, request_ino(request, request->header.nodeid),
				  name, value, size, &len);
	fuse_answer_xattr(request, err, value, len, size);
	free(value);
}

void fuse_listxattr(struct fuse_request *request)
{
	const struct fuse_getxattr_in *in = fuse_args(request, sizeof(*in));
	size_t size, len = 0;
	char *list;
	int err;

	if (in == NULL)
		return;
	size = in->size > XATTR_MAX ? XATTR_MAX : in->size;
	list = malloc(size + 1);
	err = list == NULL ? -ENOMEM
			   : fs_listxattr(request_fs(request), &request->ctx,
					  request_ino(request, request->header.nodeid), list, size, &len);
	fuse_answer_xattr(request, err, list, len, size);
	free(list);
}

void fuse_removexattr(struct fuse_request *request)
{
	size_t len;
	const char *name = fuse_string(request, 0, &len);

	if (name != NULL)
		fuse_answer_error(request, fs_removexattr(request_fs(request), &request->ctx,
							  request_ino(request, request->header.nodeid), name));
}
