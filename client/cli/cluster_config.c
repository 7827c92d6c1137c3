#include "client/cli/cluster_config.h"
#include "common/fd_io.h"
#include "common/units.h"

#include <errno.h>
#include <ini.h>
#include <limits.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#define PORT_LOW       10000
#define PORT_HIGH      32767 /* where the kernel's own range cannot be read; its default begins above */
#define PORT_RANGE_MIN 1000
#define PORT_TRIES     2000

/* --- the file --------------------------------------------------------------------------------------------------- */

static int config_path(const char *dir, char out[PATH_MAX])
{
	int length = snprintf(out, PATH_MAX, "%s/cluster.conf", dir);

	return length < 0 || length >= PATH_MAX ? -ENAMETOOLONG : 0;
}

static bool take_text(char *out, size_t size, const char *value)
{
	return value[0] != '\0' && (size_t)snprintf(out, size, "%s", value) < size;
}

static bool take_port(uint16_t *out, const char *value)
{
	uint64_t number;

	if (units_parse_number(value, 1, UINT16_MAX, &number) < 0)
		return false;
	*out = (uint16_t)number;
	return true;
}

static bool take_cluster(struct cluster_config *config, const char *key, const char *value)
{
	uint64_t number;

	if (strcmp(key, "name") == 0)
		return take_text(config->name, sizeof(config->name), value);
	if (strcmp(key, "listen") == 0)
		return take_text(config->listen, sizeof(config->listen), value);
	if (strcmp(key, "durability") == 0)
		return take_text(config->durability, sizeof(config->durability), value);
	if (strcmp(key, "transport") == 0)
		return take_text(config->transport, sizeof(config->transport), value);
	if (strcmp(key, "osts") != 0 || units_parse_number(value, 1, CLUSTER_OSTS_MAX, &number) < 0)
		return false;
	config->ost_count = (unsigned int)number;
	return true;
}

static bool take_ports(struct cluster_config *config, const char *key, const char *value)
{
	uint64_t index;

	if (strcmp(key, "mgs") == 0)
		return take_port(&config->mgs_port, value);
	if (strcmp(key, "mds0") == 0)
		return take_port(&config->mds_port, value);
	if (strncmp(key, "ost", 3) != 0 || units_parse_number(key + 3, 0, CLUSTER_OSTS_MAX - 1, &index) < 0)
		return false;
	return take_port(&config->ost_ports[index], value);
}

/* inih's: 1 = understood */
static int take_line(void *arg, const char *section, const char *key, const char *value)
{
	if (strcmp(section, "cluster") == 0)
		return take_cluster(arg, key, value);
	return strcmp(section, "ports") == 0 && take_ports(arg, key, value);
}

int cluster_config_read(const char *dir, struct cluster_config *ret_config, char *error, size_t error_size)
{
	struct cluster_config config = { 0 };
	char path[PATH_MAX];
	int line, err = config_path(dir, path);
	FILE *file;

	if (err) {
		snprintf(error, error_size, "%s: %s", dir, strerror(-err));
		return err;
	}
	file = fopen(path, "re");
	if (!file) {
		err = -errno;
		if (err == -ENOENT)
			snprintf(error, error_size, "there is no cluster in %s; strake cluster start %s makes one", dir,
				 dir);
		else
			snprintf(error, error_size, "%s: %s", path, strerror(-err));
		return err;
	}
	line = ini_parse_file(file, take_line, &config);
	fclose(file);
	if (line != 0) {
		snprintf(error, error_size, "%s: line %d is not understood", path, line);
		return -EINVAL;
	}
	if (config.name[0] == '\0' || config.listen[0] == '\0' || config.ost_count == 0) {
		snprintf(error, error_size, "%s: [cluster] must have name, listen and osts", path);
		return -EINVAL;
	}
	*ret_config = config;
	return 0;
}

static void put_config(FILE *file, const struct cluster_config *config)
{
	fputs("; A cluster on one machine, made by strake cluster start. Ports may be changed while it is stopped.\n",
	      file);
	fprintf(file, "[cluster]\nname = %s\nlisten = %s\nosts = %u\n", config->name, config->listen,
		config->ost_count);
	if (config->durability[0] != '\0')
		fprintf(file, "durability = %s\n", config->durability);
	if (config->transport[0] != '\0')
		fprintf(file, "transport = %s\n", config->transport);
	fprintf(file, "\n[ports]\nmgs = %u\nmds0 = %u\n", config->mgs_port, config->mds_port);
	for (unsigned int i = 0; i < config->ost_count; i++)
		fprintf(file, "ost%u = %u\n", i, config->ost_ports[i]);
}

int cluster_config_write(const char *dir, const struct cluster_config *config, char *error, size_t error_size)
{
	char path[PATH_MAX], *text = NULL;
	size_t size;
	FILE *file = open_memstream(&text, &size);
	int err = file ? config_path(dir, path) : -ENOMEM;

	if (file) {
		put_config(file, config);
		if (fclose(file) != 0)
			err = -ENOMEM;
	}
	if (err == 0)
		err = fd_replace_file(path, text, size, 0644);
	free(text);
	if (err)
		snprintf(error, error_size, "%s/cluster.conf: %s", dir, strerror(-err));
	return err;
}

/* --- ports ------------------------------------------------------------------------------------------------------ */

int cluster_port_probe(const char *host, uint16_t port)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV }, *found;
	char service[8];
	int fd, on = 1, err = 0;

	snprintf(service, sizeof(service), "%u", port);
	if (getaddrinfo(host, service, &hints, &found) != 0)
		return -EINVAL;
	fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* As the servers do: what an earlier connection left in TIME_WAIT is in nobody's way. Listening tells the
	 * truth. */
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(fd, found->ai_addr, found->ai_addrlen) < 0 || listen(fd, 1) < 0)
		err = -errno;
	if (fd >= 0)
		close(fd);
	freeaddrinfo(found);
	return err;
}

/* The first port that the kernel may give to an outgoing connection. */
static unsigned int port_limit(void)
{
	FILE *file = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
	unsigned int low = PORT_HIGH;

	if (file) {
		if (fscanf(file, "%u", &low) != 1 || low > PORT_HIGH)
			low = PORT_HIGH;
		fclose(file);
	}
	return low < PORT_LOW + PORT_RANGE_MIN ? PORT_HIGH : low;
}

static bool port_is_ours(const struct cluster_config *config, uint16_t port)
{
	if (port == config->mgs_port || port == config->mds_port)
		return true;
	for (unsigned int i = 0; i < CLUSTER_OSTS_MAX; i++)
		if (port == config->ost_ports[i])
			return true;
	return false;
}

static int choose_port(struct cluster_config *config, uint16_t *port)
{
	unsigned int span = port_limit() - PORT_LOW;

	if (*port != 0)
		return 0;
	/* At random, so that clusters which are not running now rarely meet on one. */
	for (unsigned int i = 0; i < PORT_TRIES; i++) {
		uint32_t random;
		uint16_t candidate;
		int err;

		if (getrandom(&random, sizeof(random), 0) != sizeof(random))
			return -errno;
		candidate = (uint16_t)(PORT_LOW + random % span);
		if (port_is_ours(config, candidate))
			continue;
		err = cluster_port_probe(config->listen, candidate);
		if (err == 0)
			*port = candidate;
		if (err != -EADDRINUSE && err != -EACCES)
			return err;
	}
	return -EADDRINUSE;
}

int cluster_config_choose_ports(struct cluster_config *config, char *error, size_t error_size)
{
	int err = choose_port(config, &config->mgs_port);

	if (err == 0)
		err = choose_port(config, &config->mds_port);
	for (unsigned int i = 0; i < config->ost_count && err == 0; i++)
		err = choose_port(config, &config->ost_ports[i]);
	if (err)
		snprintf(error, error_size, "no port to listen on at %s: %s", config->listen,
			 err == -EINVAL ? "there is no such host" : strerror(-err));
	return err;
}
