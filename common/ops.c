#include "common/ops.h"

#include "proto/common.pb-c.h"
#include "proto/fsck.pb-c.h"
#include "proto/mds.pb-c.h"
#include "proto/mgs.pb-c.h"
#include "proto/oss.pb-c.h"

#include <stddef.h>

/* What protobuf-c calls the messages that ops.def names. */
#define DESCRIPTOR_AccessRequest       &strake__access_request__descriptor
#define DESCRIPTOR_AllocateRequest     &strake__allocate_request__descriptor
#define DESCRIPTOR_AtimesRequest       &strake__atimes_request__descriptor
#define DESCRIPTOR_AttrReply           &strake__attr_reply__descriptor
#define DESCRIPTOR_CloseRequest        &strake__close_request__descriptor
#define DESCRIPTOR_ClusterMap          &strake__cluster_map__descriptor
#define DESCRIPTOR_CommitReply         &strake__commit_reply__descriptor
#define DESCRIPTOR_CommitRequest       &strake__commit_request__descriptor
#define DESCRIPTOR_CopyReply           &strake__copy_reply__descriptor
#define DESCRIPTOR_CopyRequest         &strake__copy_request__descriptor
#define DESCRIPTOR_CreateRequest       &strake__create_request__descriptor
#define DESCRIPTOR_CutRequest          &strake__cut_request__descriptor
#define DESCRIPTOR_DestroyRequest      &strake__destroy_request__descriptor
#define DESCRIPTOR_Empty               &strake__empty__descriptor
#define DESCRIPTOR_EntryReply          &strake__entry_reply__descriptor
#define DESCRIPTOR_FsckEntriesReply    &strake__fsck_entries_reply__descriptor
#define DESCRIPTOR_FsckEntriesRequest  &strake__fsck_entries_request__descriptor
#define DESCRIPTOR_FsckFilesReply      &strake__fsck_files_reply__descriptor
#define DESCRIPTOR_FsckFilesRequest    &strake__fsck_files_request__descriptor
#define DESCRIPTOR_FsckInodesReply     &strake__fsck_inodes_reply__descriptor
#define DESCRIPTOR_FsckInodesRequest   &strake__fsck_inodes_request__descriptor
#define DESCRIPTOR_FsckObjectsReply    &strake__fsck_objects_reply__descriptor
#define DESCRIPTOR_FsckObjectsRequest  &strake__fsck_objects_request__descriptor
#define DESCRIPTOR_GetattrRequest      &strake__getattr_request__descriptor
#define DESCRIPTOR_GetxattrReply       &strake__getxattr_reply__descriptor
#define DESCRIPTOR_GetxattrRequest     &strake__getxattr_request__descriptor
#define DESCRIPTOR_GlimpseReply        &strake__glimpse_reply__descriptor
#define DESCRIPTOR_GlimpseRequest      &strake__glimpse_request__descriptor
#define DESCRIPTOR_LayoutRequest       &strake__layout_request__descriptor
#define DESCRIPTOR_LinkRequest         &strake__link_request__descriptor
#define DESCRIPTOR_LockRequest         &strake__lock_request__descriptor
#define DESCRIPTOR_LockReply           &strake__lock_reply__descriptor
#define DESCRIPTOR_LockPush            &strake__lock_push__descriptor
#define DESCRIPTOR_ListxattrReply      &strake__listxattr_reply__descriptor
#define DESCRIPTOR_ListxattrRequest    &strake__listxattr_request__descriptor
#define DESCRIPTOR_LookupRequest       &strake__lookup_request__descriptor
#define DESCRIPTOR_MapReply            &strake__map_reply__descriptor
#define DESCRIPTOR_MapRequest          &strake__map_request__descriptor
#define DESCRIPTOR_NetTestReply        &strake__net_test_reply__descriptor
#define DESCRIPTOR_NetTestRequest      &strake__net_test_request__descriptor
#define DESCRIPTOR_OpenRequest         &strake__open_request__descriptor
#define DESCRIPTOR_PunchRequest        &strake__punch_request__descriptor
#define DESCRIPTOR_ReadReply           &strake__read_reply__descriptor
#define DESCRIPTOR_ReadRequest         &strake__read_request__descriptor
#define DESCRIPTOR_ReaddirReply        &strake__readdir_reply__descriptor
#define DESCRIPTOR_ReaddirRequest      &strake__readdir_request__descriptor
#define DESCRIPTOR_ReadlinkReply       &strake__readlink_reply__descriptor
#define DESCRIPTOR_ReadlinkRequest     &strake__readlink_request__descriptor
#define DESCRIPTOR_ReclaimRequest      &strake__reclaim_request__descriptor
#define DESCRIPTOR_RegisterReply       &strake__register_reply__descriptor
#define DESCRIPTOR_RegisterRequest     &strake__register_request__descriptor
#define DESCRIPTOR_RemovexattrRequest  &strake__removexattr_request__descriptor
#define DESCRIPTOR_RenameReply         &strake__rename_reply__descriptor
#define DESCRIPTOR_RenameRequest       &strake__rename_request__descriptor
#define DESCRIPTOR_SeekReply           &strake__seek_reply__descriptor
#define DESCRIPTOR_SeekRequest         &strake__seek_request__descriptor
#define DESCRIPTOR_SessionCloseRequest &strake__session_close_request__descriptor
#define DESCRIPTOR_SessionOpenReply    &strake__session_open_reply__descriptor
#define DESCRIPTOR_SessionOpenRequest  &strake__session_open_request__descriptor
#define DESCRIPTOR_SessionRenewReply   &strake__session_renew_reply__descriptor
#define DESCRIPTOR_SessionRenewRequest &strake__session_renew_request__descriptor
#define DESCRIPTOR_SessionTable        &strake__session_table__descriptor
#define DESCRIPTOR_SessionTableReply   &strake__session_table_reply__descriptor
#define DESCRIPTOR_SetattrRequest      &strake__setattr_request__descriptor
#define DESCRIPTOR_SetxattrRequest     &strake__setxattr_request__descriptor
#define DESCRIPTOR_SizeRequest         &strake__size_request__descriptor
#define DESCRIPTOR_StatfsReply         &strake__statfs_reply__descriptor
#define DESCRIPTOR_StatfsRequest       &strake__statfs_request__descriptor
#define DESCRIPTOR_SyncRequest         &strake__sync_request__descriptor
#define DESCRIPTOR_UnlinkRequest       &strake__unlink_request__descriptor
#define DESCRIPTOR_VoidRequest         &strake__void_request__descriptor
#define DESCRIPTOR_WriteReply          &strake__write_reply__descriptor
#define DESCRIPTOR_WriteRequest        &strake__write_request__descriptor

/* By number. One that is given twice does not compile (-Woverride-init). */
static const struct op ops[] = {
#define OP(op_name, op_number, op_role, op_request, op_reply, op_flags) \
	[op_number] = {                                                 \
		.name = #op_name,                                       \
		.number = op_number,                                    \
		.role = ROLE_##op_role,                                 \
		.flags = op_flags,                                      \
		.request = DESCRIPTOR_##op_request,                     \
		.reply = DESCRIPTOR_##op_reply,                         \
	},
#include "proto/ops.def"
#undef OP
};

static const char *const role_names[] = {
	[ROLE_ANY] = "any", [ROLE_MGS] = "mgs",       [ROLE_MDT] = "mdt",
	[ROLE_OST] = "ost", [ROLE_CLIENT] = "client", [ROLE_ADMIN] = "admin",
};

const struct op *op_find(uint16_t number)
{
	if (number >= sizeof(ops) / sizeof(*ops) || !ops[number].name)
		return NULL;
	return &ops[number];
}

const char *op_name(uint16_t number)
{
	const struct op *op = op_find(number);

	return op ? op->name : "?";
}

const char *role_name(enum role role)
{
	if ((unsigned int)role >= sizeof(role_names) / sizeof(*role_names))
		return "?";
	return role_names[role];
}
