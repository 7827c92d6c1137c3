/*
 * Addresses as people write them. ADDR = HOST, HOST:PORT, [V6] or [V6]:PORT, and rdma:// before it where RDMA is spoken;
 * a list is ADDR,ADDR...; a source is LIST:/SUBDIR. Port 9400, an MGS's, where none is given and nothing else is said.
 */
#ifndef STRAKE_COMMON_ADDRESS_H
#define STRAKE_COMMON_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ADDRESS_PORT_DEFAULT 9400
#define ADDRESS_RDMA         "rdma://"
#define ADDRESS_SIZE         280 /* "rdma://[HOST]:PORT" with the NUL */
#define ADDRESS_LIST_MAX     16

struct address_list {
	char text[ADDRESS_LIST_MAX][ADDRESS_SIZE]; /* each normalised: "HOST:PORT", "rdma://[V6]:PORT" */
	size_t count;
};

bool address_is_rdma(const char *text);
/* Behind rdma://, if it begins so. */
const char *address_plain(const char *text);

/* Split one ADDR, of either kind; host without brackets. -EINVAL. */
int address_split(const char *text, char ret_host[256], uint16_t *ret_port);
/* "HOST:PORT", with brackets round an IPv6 host. */
void address_join(const char *host, uint16_t port, char out[ADDRESS_SIZE]);
/* The same "HOST:PORT" as an address of RDMA. out may be text. */
void address_to_rdma(const char *text, char out[ADDRESS_SIZE]);
/* The same ADDR with another port. -EINVAL. */
int address_with_port(const char *text, uint16_t port, char out[ADDRESS_SIZE]);

/* port: of those that name none. -EINVAL. */
int address_list_parse(const char *text, uint16_t port, struct address_list *ret_list);
bool address_list_has(const struct address_list *list, const char *text);
/* At its end, unless it is there. What does not fit any more is left out. */
void address_list_add(struct address_list *list, const char *text);
/* Do both have an address in common, of whatever kind? */
bool address_lists_meet(const struct address_list *a, const struct address_list *b);

/* LIST:/SUBDIR; the path is at least "/". -EINVAL without ":/". */
int address_source_parse(const char *text, struct address_list *ret_list, char *ret_path, size_t path_size);

bool address_host_is_wildcard(const char *host); /* "", "*", "0.0.0.0", "::" */

/*
 * The addresses under which others reach a server that listens on host:port: itself; for a wildcard first `preferred`
 * (the host by which the MGS is reached; may be NULL), then every interface's that is up, loopback only when there is
 * nothing else or preferred is loopback. Never the wildcard.
 */
int address_reachable(const char *host, uint16_t port, const char *preferred, struct address_list *ret_list);

#endif
