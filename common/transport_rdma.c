#include "common/transport_rdma.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PLUGIN      "strake-rdma.so"
#define MAKE        "strake_transport_rdma_new"
#define PORTS       "strake_transport_rdma_ports"
#define REASON_SIZE 512

typedef int make_fn(struct loop *loop, const struct transport_limits *limits, struct transport **ret_transport);
typedef int ports_fn(void (*tell)(void *arg, const struct rdma_port *port), void *arg);

static pthread_once_t once = PTHREAD_ONCE_INIT;
static make_fn *make; /* NULL, both: see load_err */
static ports_fn *ports;
static int load_err;
static char reason[REASON_SIZE];

/* A folder's file of the plug-in's name. Returns whether there is one. */
static bool find_in(const char *program_folder, const char *folder, char *ret_path, size_t size)
{
	int len = snprintf(ret_path, size, "%s/%s/" PLUGIN, program_folder, folder);

	return len > 0 && (size_t)len < size && access(ret_path, R_OK) == 0;
}

static void load(void)
{
	char folder[4096], path[4200];
	ssize_t len = readlink("/proc/self/exe", folder, sizeof(folder) - 1);
	void *library, *make_symbol, *ports_symbol;

	load_err = -ENOENT;
	folder[len > 0 ? len : 0] = 0;
	if (strrchr(folder, '/') != NULL)
		*strrchr(folder, '/') = 0;
	if (!find_in(folder, "../lib", path, sizeof(path)) && !find_in(folder, "../lib/strake", path, sizeof(path))) {
		snprintf(reason, sizeof(reason), PLUGIN " is not installed");
		return;
	}
	load_err = -ELIBBAD;
	library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	make_symbol = library != NULL ? dlsym(library, MAKE) : NULL;
	ports_symbol = make_symbol != NULL ? dlsym(library, PORTS) : NULL;
	if (ports_symbol == NULL) {
		snprintf(reason, sizeof(reason), "%s", dlerror());
		return;
	}
	memcpy(&make, &make_symbol, sizeof(make)); /* as dlsym(3) would have it */
	memcpy(&ports, &ports_symbol, sizeof(ports));
}

int transport_rdma_new(struct loop *loop, const struct transport_limits *limits, struct transport **ret_transport)
{
	pthread_once(&once, load);
	return make != NULL ? make(loop, limits, ret_transport) : load_err;
}

int transport_rdma_ports(void (*tell)(void *arg, const struct rdma_port *port), void *arg)
{
	pthread_once(&once, load);
	return ports != NULL ? ports(tell, arg) : load_err;
}

const char *transport_rdma_reason(void)
{
	return reason;
}
