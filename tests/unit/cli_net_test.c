/* What `strake net` and `strake status` say of RDMA, as far as it needs no device. */
#include "client/cli/map_print.h"
#include "client/cli/net_print.h"

#include "tests/unit/unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What is printed of that port, by a devices' listing that ends with err. */
static const char *said(const struct rdma_port *port, bool as_json, int err)
{
	static char got[1024];
	struct net_devices_print print;
	FILE *file = tmpfile();
	int saved = dup(1);
	size_t len;

	fflush(NULL);
	dup2(fileno(file), 1);
	net_devices_begin(&print, as_json);
	net_devices_port(&print, port);
	ck_assert_int_eq(net_devices_end(&print, err), 0);
	dup2(saved, 1);
	close(saved);
	rewind(file);
	len = fread(got, 1, sizeof(got) - 1, file);
	got[len] = '\0';
	fclose(file);
	return got;
}

static const struct rdma_port plain = {
	.device = "mlx5_0",
	.port = 1,
	.state = "active",
	.link = "Ethernet",
	.protocol = "RoCE",
	.rate_mbps = 100000,
	.mtu = 4096,
	.asked = true,
	.address_count = 1,
	.addresses = { { .host = "192.0.2.1", .interface = "eth0" } },
};

START_TEST(a_port_tells_rate_and_mtu)
{
	struct rdma_port port = plain;

	ck_assert_str_eq(said(&port, false, 0),
			 "mlx5_0 port 1: active, RoCE over Ethernet, 100 Gbit/s, MTU 4096, 192.0.2.1 (eth0)\n");
	ck_assert_ptr_nonnull(strstr(said(&port, true, 0), "\"rate_mbit_per_s\": 100000"));
	ck_assert_ptr_nonnull(strstr(said(&port, true, 0), "\"mtu\": 4096"));
	port.rate_mbps = 2500;
	ck_assert_ptr_nonnull(strstr(said(&port, false, 0), ", 2.5 Gbit/s, "));
	port.rate_mbps = port.mtu = 0;
	port.state = "down";
	ck_assert_str_eq(said(&port, false, 0), "mlx5_0 port 1: down, RoCE over Ethernet, 192.0.2.1 (eth0)\n");
	ck_assert_ptr_nonnull(strstr(said(&port, true, 0), "\"rate_mbit_per_s\": null"));
	ck_assert_ptr_nonnull(strstr(said(&port, true, 0), "\"mtu\": null"));
}
END_TEST

START_TEST(a_port_without_address_says_what_it_needs)
{
	struct rdma_port port = plain;

	port.address_count = 0;
	ck_assert_ptr_nonnull(
		strstr(said(&port, false, 0), ", no IP address: not used until its network interface has one\n"));
	port.asked = false; /* it may have one */
	ck_assert_ptr_nonnull(strstr(said(&port, false, -EUNATCH), ", addresses not known\nNo RDMA here: "));
}
END_TEST

START_TEST(a_server_that_has_rdma_says_so)
{
	char tcp[] = "192.0.2.1:9402", rdma[] = "rdma://192.0.2.1:9402";
	char *both[] = { tcp, rdma };

	ck_assert_str_eq(rdma_text(tcp, both, 2), " + rdma");
	ck_assert_str_eq(rdma_text(tcp, both, 1), "");
	ck_assert_str_eq(rdma_text("?", NULL, 0), "");
	ck_assert_str_eq(rdma_text(rdma, both, 2), ""); /* which it says itself */
	ck_assert_str_eq(rdma_text("192.0.2.1:9402,rdma://192.0.2.1:9402", both, 2), "");
}
END_TEST

UNIT_MAIN("cli_net", a_port_tells_rate_and_mtu, a_port_without_address_says_what_it_needs,
	  a_server_that_has_rdma_says_so)
