/* What is told of a device's ports, for people who look. */
#include "common/transport_rdma.h"
#include "tests/unit/fake_verbs.h"
#include "tests/unit/unit.h"

static struct rdma_port told; /* last */

static void tell(void *arg, const struct rdma_port *port)
{
	++*(unsigned int *)arg;
	told = *port;
}

static void look(void)
{
	unsigned int count = 0;

	ck_assert_int_eq(strake_transport_rdma_ports(tell, &count), 0);
	ck_assert_uint_eq(count, 1);
}

/* As the kernel's enums have them: ib_port_speed and ib_port_width. */
START_TEST(a_port_s_rate_is_that_of_all_its_lanes)
{
	static const struct {
		uint8_t speed, width;
		uint64_t mbps;
	} links[] = {
		{ 1, 1, 2500 },     { 1, 2, 10000 },    { 2, 2, 20000 },   { 4, 2, 40000 },
		{ 8, 2, 40000 },    { 16, 2, 56000 },   { 32, 2, 100000 }, { 32, 8, 300000 },
		{ 64, 16, 100000 }, { 128, 4, 800000 }, { 32, 1, 25000 },  { 64, 2, 200000 },
		{ 0, 2, 0 },        { 32, 0, 0 },       { 32, 32, 0 },     { 128, 128, 0 },
	};

	fabric_begin(NULL, 1, 0);
	strcpy(fabric.device.name, "fake_0");
	fabric.port.state = IBV_PORT_ACTIVE;
	for (size_t i = 0; i < sizeof(links) / sizeof(*links); i++) {
		fabric.port.active_speed = links[i].speed;
		fabric.port.active_width = links[i].width;
		look();
		ck_assert_uint_eq(told.rate_mbps, links[i].mbps);
	}
	fabric.port = (struct ibv_port_attr){ .state = IBV_PORT_DOWN, .active_speed = 1, .active_width = 1 };
	look();
	ck_assert_uint_eq(told.rate_mbps, 0);
	ck_assert_str_eq(told.device, "fake_0");
	fabric_end();
}
END_TEST

UNIT_MAIN("rdma_ports", a_port_s_rate_is_that_of_all_its_lanes)
