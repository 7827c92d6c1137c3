#include "common/fabrics.h"

#include "common/address.h"
#include "common/transport_rdma.h"
#include "common/transport_tcp.h"

#include <dirent.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define MISSING_MS 500 /* so long it counts as missing unlooked: attempts may follow each other fast */

static enum fabrics_choice chosen = FABRICS_AUTO;
static _Atomic bool missing_said;

/* --- the setting -------------------------------------------------------------------------------------------------- */

int fabrics_parse(const char *text, enum fabrics_choice *ret_choice)
{
	static const char *const names[] = {
		[FABRICS_AUTO] = "auto",
		[FABRICS_RDMA] = "rdma",
		[FABRICS_TCP] = "tcp",
	};

	for (unsigned int i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (strcmp(text, names[i]) == 0) {
			*ret_choice = (enum fabrics_choice)i;
			return 0;
		}
	}
	return -EINVAL;
}

void fabrics_choose(enum fabrics_choice choice)
{
	chosen = choice;
}

/* A file for each device, whether or not libibverbs has a driver for it. */
static bool kernel_has_devices(void)
{
	DIR *folder = opendir("/sys/class/infiniband");
	const struct dirent *entry = NULL;

	while (folder != NULL && (entry = readdir(folder)) != NULL && entry->d_name[0] == '.')
		;
	if (folder != NULL)
		closedir(folder);
	return entry != NULL;
}

const char *fabrics_rdma_reason(int err)
{
	if (err == -ENODEV && kernel_has_devices())
		return "the kernel has RDMA devices, but libibverbs finds none that connects reliably (EFA's do not): "
		       "it wants the kernel's ib_uverbs and a driver of its own (Debian: ibverbs-providers)";
	if (err == -ENODEV)
		return "this machine has no RDMA device (ibv_devices shows those that there are)";
	if (err == -EUNATCH)
		return "the kernel's connection manager cannot be opened: modprobe rdma_ucm; in a container "
		       "/dev/infiniband is needed, too";
	if (err == -ENOBUFS)
		return TRANSPORT_RDMA_NOT_PINNED;
	if ((err == -ENOENT || err == -ELIBBAD) && transport_rdma_reason()[0] != '\0')
		return transport_rdma_reason();
	return strerror(-err);
}

int fabrics_probe_rdma(void)
{
	const struct transport_limits limits = { 0 };
	struct transport *transport;
	struct loop *loop;
	int err = loop_new(&loop);

	if (err < 0)
		return err;
	err = transport_rdma_new(loop, &limits, &transport);
	if (err == 0)
		transport_free(transport);
	loop_free(loop);
	return err;
}

int fabrics_check(char *error, size_t error_size)
{
	int err = chosen == FABRICS_RDMA ? fabrics_probe_rdma() : 0;

	if (err < 0)
		snprintf(error, error_size, "transport is rdma, but %s; get that in order, or set auto or tcp",
			 fabrics_rdma_reason(err));
	return err;
}

/* --- transports --------------------------------------------------------------------------------------------------- */

void fabrics_init(struct fabrics *fabrics, struct loop *loop, const struct transport_limits *limits)
{
	*fabrics = (struct fabrics){ .loop = loop, .choice = chosen, .limits = *limits };
}

void fabrics_release(struct fabrics *fabrics)
{
	for (int i = 0; i < FABRIC_COUNT; i++)
		fabrics->transport[i] = transport_free(fabrics->transport[i]);
}

static int look_for_rdma(struct fabrics *fabrics, struct transport **ret_transport)
{
	uint64_t now_ns = loop_now_ns(fabrics->loop);
	bool was_missing = fabrics->missing != 0;
	int err;

	if (was_missing && now_ns - fabrics->looked_ns < MISSING_MS * NSEC_PER_MSEC)
		return fabrics->missing;
	err = transport_rdma_new(fabrics->loop, &fabrics->limits, ret_transport);
	fabrics->missing = err == -ENOENT || err == -ELIBBAD || err == -ENODEV || err == -EUNATCH ? err : 0;
	fabrics->looked_ns = now_ns;
	if (err == 0 && was_missing && atomic_exchange(&missing_said, false))
		log_info("RDMA is there now");
	return err;
}

int fabrics_get(struct fabrics *fabrics, enum fabric fabric, struct transport **ret_transport)
{
	struct transport **at = &fabrics->transport[fabric];
	int err = 0;

	if (*at == NULL && fabric == FABRIC_TCP)
		err = transport_tcp_new(fabrics->loop, &fabrics->limits, at);
	if (*at == NULL && fabric == FABRIC_RDMA)
		err = look_for_rdma(fabrics, at);
	*ret_transport = *at;
	return err;
}

void fabrics_say_missing(const struct fabrics *fabrics, enum logger_level level)
{
	if (kernel_has_devices())
		level = LOGGER_WARNING;
	if (level == LOGGER_DEBUG || !atomic_exchange(&missing_said, true))
		logger_say(level, "RDMA is not used: %s", fabrics_rdma_reason(fabrics->missing));
}

int fabrics_of(const struct fabrics *fabrics, const char *address, enum fabric *ret_fabric)
{
	bool is_rdma = address_is_rdma(address);

	if (is_rdma && fabrics->choice == FABRICS_TCP)
		return -EPROTONOSUPPORT;
	*ret_fabric = is_rdma || fabrics->choice == FABRICS_RDMA ? FABRIC_RDMA : FABRIC_TCP;
	return 0;
}

void fabrics_stats(const struct fabrics *fabrics, enum fabric fabric, struct transport_stats *ret_stats)
{
	*ret_stats = (struct transport_stats){ 0 };
	if (fabrics->transport[fabric] != NULL)
		transport_stats(fabrics->transport[fabric], ret_stats);
}

void fabrics_reclaim(struct fabrics *fabrics, unsigned int idle_ms)
{
	for (int i = 0; i < FABRIC_COUNT; i++)
		if (fabrics->transport[i] != NULL)
			transport_reclaim(fabrics->transport[i], idle_ms);
}
