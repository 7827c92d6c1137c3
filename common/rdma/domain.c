/*
 * A device's protection domain. Where the device has memory windows (windows.h) it is one for the process: what is shown to
 * another end is a window of one queue pair, and so memory that lasts is registered once for all transports of all threads. Where
 * it has none, what is shown is shown to all queue pairs of the domain: there each transport has one of its own.
 */
#include "common/lasting.h"
#include "common/rdma/rdma_internal.h"

#include <errno.h>
#include <stdlib.h>

/* It tells of a voided key by the kernel's flag, which is another than libibverbs'. */
#define RXE_VENDOR      0xffffff
#define RXE_VOIDED_FLAG (1u << 2)

/*
 * Where a queue of siw is mapped from is its key, and its library takes one key, 0x90000, for none (SIW_INVAL_UOBJ_KEY of
 * rdma/siw-abi.h): the queue is not made, and as keys are the lowest that are free no other one is, after some 22 connections of a
 * process. So a queue that nobody uses lies over that one: of 32 bytes an entry, from the process's first keys to 0x100000.
 */
#define SIW_VENDOR        0x626d74
#define SIW_COVER_ENTRIES 32768

struct cover {
	struct ibv_context *context;
	struct ibv_cq *cq; /* NULL: it could not be made, and there is no more to be done */
	struct cover *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct rdma_domain *shared; /* those with windows */
static struct cover *covers;       /* of all devices with siw, as long as the process lives */

/* No less than one, which every device can; more than READS are never under way. */
static uint8_t reads_of(const struct ibv_device_attr *attr)
{
	int reads = attr->max_qp_rd_atom < attr->max_qp_init_rd_atom ? attr->max_qp_rd_atom : attr->max_qp_init_rd_atom;

	return (uint8_t)(reads < 1 ? 1 : reads > READS ? READS : reads);
}

/* Drivers say so also where libibverbs' part of them has none (bnxt_re; hns of late). So one is asked for. */
static bool has_windows(struct ibv_pd *pd, const struct ibv_device_attr *attr)
{
	struct ibv_mw *mw = NULL;

	if ((attr->device_cap_flags & IBV_DEVICE_MEM_WINDOW_TYPE_2B) != 0)
		mw = ibv_alloc_mw(pd, IBV_MW_TYPE_2);
	if (mw != NULL)
		ibv_dealloc_mw(mw);
	return mw != NULL;
}

static int domain_new(struct ibv_context *context, const struct ibv_device_attr *attr, struct rdma_domain **ret_domain)
{
	struct rdma_domain *domain = malloc(sizeof(*domain));

	if (domain == NULL)
		return -ENOMEM;
	*domain = (struct rdma_domain){
		.context = context,
		.pd = ibv_alloc_pd(context),
		.refs = 1,
		.reads = reads_of(attr),
		.voids = (attr->device_cap_flags & IBV_DEVICE_MEM_MGT_EXTENSIONS) != 0,
		.empty_pieces = attr->vendor_id == SIW_VENDOR,
		.voided_flags = IBV_WC_WITH_INV | (attr->vendor_id == RXE_VENDOR ? RXE_VOIDED_FLAG : 0),
	};
	if (domain->pd == NULL) {
		int err = errno != 0 ? -errno : -ENOMEM;

		free(domain);
		return err;
	}
	domain->windows = has_windows(domain->pd, attr);
	*ret_domain = domain;
	return 0;
}

static struct rdma_domain *find_shared(const struct ibv_context *context)
{
	struct rdma_domain *domain = shared;

	while (domain != NULL && domain->context != context)
		domain = domain->next;
	return domain;
}

static void cover_key(struct ibv_context *context)
{
	struct cover *cover = covers;

	while (cover != NULL && cover->context != context)
		cover = cover->next;
	if (cover != NULL)
		return;
	cover = malloc(sizeof(*cover));
	if (cover == NULL)
		return;
	*cover = (struct cover){
		.context = context,
		.cq = ibv_create_cq(context, SIW_COVER_ENTRIES, NULL, NULL, 0),
		.next = covers,
	};
	covers = cover;
}

int rdma_domain_get(struct ibv_context *context, struct rdma_domain **ret_domain)
{
	struct ibv_device_attr attr;
	struct rdma_domain *domain;
	int err = 0;

	pthread_mutex_lock(&lock);
	domain = find_shared(context);
	if (domain != NULL)
		domain->refs++;
	else
		err = -ibv_query_device(context, &attr);
	if (domain == NULL && err == 0 && attr.vendor_id == SIW_VENDOR)
		cover_key(context);
	if (domain == NULL && err == 0)
		err = domain_new(context, &attr, &domain);
	if (err == 0 && domain->windows && domain->refs == 1) {
		domain->next = shared;
		shared = domain;
	}
	pthread_mutex_unlock(&lock);
	*ret_domain = domain;
	return err;
}

void rdma_domain_put(struct rdma_domain *domain)
{
	struct rdma_domain **at = &shared;

	pthread_mutex_lock(&lock);
	if (--domain->refs == 0) {
		while (*at != NULL && *at != domain)
			at = &(*at)->next;
		if (*at != NULL)
			*at = domain->next;
		lasting_forget(domain);
		ibv_dealloc_pd(domain->pd);
		free(domain);
	}
	pthread_mutex_unlock(&lock);
}
