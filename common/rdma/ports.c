/* What there is: for people who look. */
#include "common/rdma/rdma_internal.h"
#include "common/transport_rdma.h"

#include <errno.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char *state_text(enum ibv_port_state state)
{
	switch (state) {
	case IBV_PORT_DOWN:
		return "down";
	case IBV_PORT_INIT:
		return "init";
	case IBV_PORT_ARMED:
		return "armed";
	case IBV_PORT_ACTIVE:
		return "active";
	default:
		return "?";
	}
}

static const char *link_text(uint8_t link_layer)
{
	return link_layer == IBV_LINK_LAYER_ETHERNET     ? "Ethernet"
	       : link_layer == IBV_LINK_LAYER_INFINIBAND ? "InfiniBand"
							 : "?";
}

static const char *protocol_text(const struct ibv_device *device, uint8_t link_layer)
{
	if (device->transport_type == IBV_TRANSPORT_IWARP)
		return "iWARP";
	if (device->transport_type != IBV_TRANSPORT_IB)
		return "?";
	return link_layer == IBV_LINK_LAYER_ETHERNET ? "RoCE" : "InfiniBand";
}

/* Either is one of some flags. Devices that are not InfiniBand's tell what comes next to their own. */
static uint64_t rate_mbps(uint8_t active_speed, uint8_t active_width)
{
	/* SDR, DDR, QDR, FDR-10, FDR, EDR, HDR, NDR */
	static const unsigned int lane[] = { 0, 2500, 5000, 10000, 10000, 14000, 25000, 50000, 100000 };
	static const unsigned int lanes[] = { 0, 1, 4, 8, 12, 2 };
	const int speed = ffs(active_speed), width = ffs(active_width);

	return width < (int)(sizeof(lanes) / sizeof(*lanes)) ? (uint64_t)lane[speed] * lanes[width] : 0;
}

static unsigned int mtu_bytes(enum ibv_mtu mtu)
{
	return mtu >= IBV_MTU_256 && mtu <= IBV_MTU_4096 ? 128u << mtu : 0;
}

static socklen_t address_len(const struct sockaddr *address)
{
	if (address == NULL)
		return 0;
	if (address->sa_family == AF_INET)
		return sizeof(struct sockaddr_in);
	return address->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : 0;
}

/* Does the connection manager take this address of ours for one of that port? */
static bool is_on_port(struct rdma_event_channel *channel, struct sockaddr *address, const struct rdma_port *port)
{
	struct rdma_cm_id *id;
	bool is = false;

	if (rdma_create_id(channel, &id, NULL, RDMA_PS_TCP) < 0)
		return false;
	if (rdma_bind_addr(id, address) == 0 && id->verbs != NULL)
		is = strcmp(ibv_get_device_name(id->verbs->device), port->device) == 0 && id->port_num == port->port;
	rdma_destroy_id(id);
	return is;
}

static void find_addresses(struct rdma_event_channel *channel, const struct ifaddrs *all, struct rdma_port *port)
{
	for (; all != NULL && port->address_count < RDMA_PORT_ADDRESSES_MAX; all = all->ifa_next) {
		struct rdma_port_address *address = &port->addresses[port->address_count];
		socklen_t len = address_len(all->ifa_addr);

		if (len == 0 || !is_on_port(channel, all->ifa_addr, port) ||
		    getnameinfo(all->ifa_addr, len, address->host, sizeof(address->host), NULL, 0, NI_NUMERICHOST) != 0)
			continue;
		snprintf(address->interface, sizeof(address->interface), "%s", all->ifa_name);
		port->address_count++;
	}
}

struct listing {
	struct rdma_event_channel *channel;
	struct ifaddrs *all;
	void (*tell)(void *arg, const struct rdma_port *port);
	void *arg;
};

static void tell_port(const struct listing *listing, struct ibv_context *context, uint8_t number)
{
	struct rdma_port port = { .port = number };
	struct ibv_port_attr attr = { 0 };

	if (ibv_query_port(context, number, &attr) != 0)
		attr.state = IBV_PORT_NOP;
	snprintf(port.device, sizeof(port.device), "%s", ibv_get_device_name(context->device));
	port.state = state_text(attr.state);
	port.link = link_text(attr.link_layer);
	port.protocol = protocol_text(context->device, attr.link_layer);
	if (attr.state == IBV_PORT_ACTIVE) {
		port.rate_mbps = rate_mbps(attr.active_speed, attr.active_width);
		port.mtu = mtu_bytes(attr.active_mtu);
	}
	port.asked = listing->channel != NULL && listing->all != NULL;
	find_addresses(listing->channel, listing->all, &port);
	listing->tell(listing->arg, &port);
}

static int tell_device(const struct listing *listing, struct ibv_device *device)
{
	struct ibv_context *context = ibv_open_device(device);
	struct ibv_device_attr attr;
	int err = 0;

	if (context == NULL)
		return errno != 0 ? -errno : -EIO;
	err = -ibv_query_device(context, &attr);
	for (unsigned int number = 1; err == 0 && number <= attr.phys_port_cnt; number++)
		tell_port(listing, context, (uint8_t)number);
	ibv_close_device(context);
	return err;
}

/*
 * Where something cannot be asked, its addresses are not told; the devices are, but for those that cannot be opened (a container may
 * see all of them, and have one).
 */
__attribute__((visibility("default"))) int strake_transport_rdma_ports(void (*tell)(void *arg,
										    const struct rdma_port *port),
								       void *arg)
{
	struct listing listing = { .tell = tell, .arg = arg };
	int count = 0, told = 0, err = 0, channel_err = 0;
	struct ibv_device **devices = ibv_get_device_list(&count);

	if (devices == NULL || count == 0)
		err = -ENODEV;
	if (err == 0)
		listing.channel = rdma_create_event_channel();
	if (err == 0 && listing.channel == NULL)
		channel_err = channel_error();
	if (listing.channel != NULL)
		(void)getifaddrs(&listing.all);
	for (int i = 0; i < count; i++) {
		int device_err = tell_device(&listing, devices[i]);

		told += device_err == 0;
		err = told > 0 ? 0 : device_err;
	}
	if (listing.all != NULL)
		freeifaddrs(listing.all);
	if (listing.channel != NULL)
		rdma_destroy_event_channel(listing.channel);
	if (devices != NULL)
		ibv_free_device_list(devices);
	return err < 0 ? err : channel_err;
}
