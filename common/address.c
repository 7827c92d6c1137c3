#include "common/address.h"

#include "common/units.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define HOST_SIZE 256

/* Host names, IPv4, IPv6 with a scope, "*": what may stand in any of them, and nothing that separates. */
static bool host_is_sound(const char *host, size_t length, bool bracketed)
{
	for (size_t i = 0; i < length; i++) {
		unsigned char c = (unsigned char)host[i];

		if (c <= ' ' || c == 0x7f || strchr(",/[]", c) || (c == ':' && !bracketed))
			return false;
	}
	return true;
}

static bool v6_is_sound(const char *host)
{
	struct in6_addr address;
	char plain[HOST_SIZE];

	snprintf(plain, sizeof(plain), "%.*s", (int)strcspn(host, "%"), host);
	return inet_pton(AF_INET6, plain, &address) == 1;
}

static int port_parse(const char *text, uint16_t *ret_port)
{
	uint64_t port;

	if (units_parse_number(text, 0, UINT16_MAX, &port) < 0)
		return -EINVAL;
	*ret_port = (uint16_t)port;
	return 0;
}

bool address_is_rdma(const char *text)
{
	return strncmp(text, ADDRESS_RDMA, strlen(ADDRESS_RDMA)) == 0;
}

const char *address_plain(const char *text)
{
	return address_is_rdma(text) ? text + strlen(ADDRESS_RDMA) : text;
}

/* Without rdma://; with this port where it names none. */
static int plain_split(const char *text, uint16_t port, char ret_host[HOST_SIZE], uint16_t *ret_port)
{
	const bool bracketed = text[0] == '[';
	const char *host = text + bracketed;
	const size_t length = strcspn(host, bracketed ? "]" : ":");
	const char *rest = host + length; /* "", ":PORT"; behind brackets "]" before it */
	char copy[HOST_SIZE];

	if (text[0] == '\0' || length >= HOST_SIZE || !host_is_sound(host, length, bracketed))
		return -EINVAL;
	memcpy(copy, host, length);
	copy[length] = '\0';
	if (bracketed && (*rest++ != ']' || !v6_is_sound(copy)))
		return -EINVAL;
	if (*rest != '\0' && (*rest != ':' || port_parse(rest + 1, &port) < 0))
		return -EINVAL;
	memcpy(ret_host, copy, length + 1);
	*ret_port = port;
	return 0;
}

int address_split(const char *text, char ret_host[256], uint16_t *ret_port)
{
	return plain_split(address_plain(text), ADDRESS_PORT_DEFAULT, ret_host, ret_port);
}

void address_join(const char *host, uint16_t port, char out[ADDRESS_SIZE])
{
	assert(strlen(host) < HOST_SIZE);
	if (strchr(host, ':'))
		snprintf(out, ADDRESS_SIZE, "[%s]:%u", host, port);
	else
		snprintf(out, ADDRESS_SIZE, "%s:%u", host, port);
}

void address_to_rdma(const char *text, char out[ADDRESS_SIZE])
{
	size_t size = strlen(text) + 1, prefix = strlen(ADDRESS_RDMA);

	assert(prefix + size <= ADDRESS_SIZE);
	memmove(out + prefix, text, size);
	memcpy(out, ADDRESS_RDMA, prefix);
}

int address_with_port(const char *text, uint16_t port, char out[ADDRESS_SIZE])
{
	bool is_rdma = address_is_rdma(text);
	char host[HOST_SIZE];
	int err = address_split(text, host, &(uint16_t){ 0 });

	if (err)
		return err;
	address_join(host, port, out);
	if (is_rdma)
		address_to_rdma(out, out);
	return 0;
}

/* length bytes of text, up to a comma or the end. */
static int list_add(struct address_list *list, const char *text, size_t length, uint16_t port)
{
	char one[ADDRESS_SIZE], host[HOST_SIZE], *out = list->text[list->count];
	int err;

	if (list->count == ADDRESS_LIST_MAX || length >= sizeof(one))
		return -EINVAL;
	memcpy(one, text, length);
	one[length] = '\0';
	err = plain_split(address_plain(one), port, host, &port);
	if (err)
		return err;
	address_join(host, port, out);
	if (address_is_rdma(one))
		address_to_rdma(out, out);
	list->count++;
	return 0;
}

static int list_parse(const char *text, size_t size, uint16_t port, struct address_list *ret_list)
{
	struct address_list list = { .count = 0 };
	const char *end = text + size;

	for (;;) {
		const char *comma = memchr(text, ',', (size_t)(end - text));
		int err = list_add(&list, text, (size_t)((comma ? comma : end) - text), port);

		if (err)
			return err;
		if (!comma)
			break;
		text = comma + 1;
	}
	*ret_list = list;
	return 0;
}

int address_list_parse(const char *text, uint16_t port, struct address_list *ret_list)
{
	return list_parse(text, strlen(text), port, ret_list);
}

bool address_list_has(const struct address_list *list, const char *text)
{
	for (size_t i = 0; i < list->count; i++)
		if (strcmp(list->text[i], text) == 0)
			return true;
	return false;
}

void address_list_add(struct address_list *list, const char *text)
{
	if (!address_list_has(list, text) && list->count < ADDRESS_LIST_MAX)
		snprintf(list->text[list->count++], ADDRESS_SIZE, "%s", text);
}

bool address_lists_meet(const struct address_list *a, const struct address_list *b)
{
	for (size_t i = 0; i < a->count; i++)
		for (size_t k = 0; k < b->count; k++)
			if (strcmp(address_plain(a->text[i]), address_plain(b->text[k])) == 0)
				return true;
	return false;
}

/* Where the list of a source ends; NULL: nowhere. That of rdma:// is no end. */
static const char *source_colon(const char *text)
{
	for (text = address_plain(text); *text != '\0'; text++) {
		if (strncmp(text, ":/", 2) == 0)
			return text;
		if (*text == ',')
			text = address_plain(text + 1) - 1;
	}
	return NULL;
}

int address_source_parse(const char *text, struct address_list *ret_list, char *ret_path, size_t path_size)
{
	const char *colon = source_colon(text);
	int err;

	if (!colon)
		return -EINVAL;
	if (strlen(colon + 1) >= path_size)
		return -ENAMETOOLONG;
	err = list_parse(text, (size_t)(colon - text), ADDRESS_PORT_DEFAULT, ret_list);
	if (err)
		return err;
	strcpy(ret_path, colon + 1);
	return 0;
}

bool address_host_is_wildcard(const char *host)
{
	static const char *const wildcards[] = { "", "*", "0.0.0.0", "::" };

	for (size_t i = 0; i < sizeof(wildcards) / sizeof(*wildcards); i++)
		if (strcmp(host, wildcards[i]) == 0)
			return true;
	return false;
}

static bool host_is_loopback(const char *host)
{
	struct in_addr v4;
	struct in6_addr v6;

	if (inet_pton(AF_INET, host, &v4) == 1)
		return ntohl(v4.s_addr) >> 24 == IN_LOOPBACKNET;
	if (inet_pton(AF_INET6, host, &v6) == 1)
		return IN6_IS_ADDR_LOOPBACK(&v6);
	return strcasecmp(host, "localhost") == 0;
}

static void reachable_add(struct address_list *list, const char *host, uint16_t port)
{
	char text[ADDRESS_SIZE];

	address_join(host, port, text);
	address_list_add(list, text);
}

/*
 * The address of an interface that is up, as text. Link-local ones are none: which link they mean, each host has to
 * say for itself.
 */
static bool interface_host(const struct ifaddrs *interface, bool v4_only, char out[INET6_ADDRSTRLEN])
{
	const struct sockaddr *address = interface->ifa_addr;

	if (!address || !(interface->ifa_flags & IFF_UP))
		return false;
	if (address->sa_family == AF_INET) {
		const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)address;

		return inet_ntop(AF_INET, &v4->sin_addr, out, INET6_ADDRSTRLEN) != NULL;
	}
	if (address->sa_family == AF_INET6 && !v4_only) {
		const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)address;

		return !IN6_IS_ADDR_LINKLOCAL(&v6->sin6_addr) &&
		       inet_ntop(AF_INET6, &v6->sin6_addr, out, INET6_ADDRSTRLEN) != NULL;
	}
	return false;
}

/* The loopback interface's addresses, or those of all others. */
static void interfaces_add(struct address_list *list, const struct ifaddrs *interfaces, bool loopback, bool v4_only,
			   uint16_t port)
{
	char host[INET6_ADDRSTRLEN];

	for (const struct ifaddrs *at = interfaces; at; at = at->ifa_next)
		if (((at->ifa_flags & IFF_LOOPBACK) != 0) == loopback && interface_host(at, v4_only, host))
			reachable_add(list, host, port);
}

/* Can others use it, and do we listen there? */
static bool preferred_is_usable(const char *preferred, bool v4_only)
{
	return preferred && strlen(preferred) < HOST_SIZE && !address_host_is_wildcard(preferred) &&
	       !(v4_only && strchr(preferred, ':')) && strncasecmp(preferred, "fe80:", 5) != 0;
}

int address_reachable(const char *host, uint16_t port, const char *preferred, struct address_list *ret_list)
{
	const bool v4_only = strcmp(host, "0.0.0.0") == 0;
	struct address_list list = { .count = 0 };
	struct ifaddrs *interfaces;
	bool local;

	if (strlen(host) >= HOST_SIZE)
		return -EINVAL;
	if (!address_host_is_wildcard(host)) {
		reachable_add(&list, host, port);
		*ret_list = list;
		return 0;
	}

	if (!preferred_is_usable(preferred, v4_only))
		preferred = NULL;
	local = preferred && host_is_loopback(preferred);
	if (preferred)
		reachable_add(&list, preferred, port);
	if (getifaddrs(&interfaces) < 0)
		return -errno;
	interfaces_add(&list, interfaces, false, v4_only, port);
	if (local || list.count == 0)
		interfaces_add(&list, interfaces, true, v4_only, port);
	freeifaddrs(interfaces);
	if (list.count == 0)
		return -EADDRNOTAVAIL;
	*ret_list = list;
	return 0;
}
