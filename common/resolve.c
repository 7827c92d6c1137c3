/*
 * A look-up is shared by the loop and the thread. The thread's last act is to post it, under the mutex, unless it was
 * cancelled before; then it frees it itself. Once posted, the loop frees it.
 */
#include "common/resolve.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct resolve {
	struct loop_post post; /* first: the post is the look-up */
	struct loop *loop;
	char host[256];
	uint16_t port;
	void (*done)(void *owner, int err, const char *text, const struct resolved *resolved);
	void *owner;

	pthread_mutex_t mutex; /* guards cancelled */
	bool cancelled;

	int err;
	const char *text;
	struct resolved resolved;
};

static int resolve(const char *host, uint16_t port, int flags, struct resolved *ret_resolved)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV };
	struct addrinfo *list = NULL;
	char service[8];
	int gai;

	snprintf(service, sizeof(service), "%u", port);
	gai = getaddrinfo(host, service, &hints, &list);
	if (gai != 0)
		return gai;
	ret_resolved->count = 0;
	for (struct addrinfo *info = list; info != NULL && ret_resolved->count < RESOLVE_MAX; info = info->ai_next) {
		unsigned int i = ret_resolved->count++;

		memcpy(&ret_resolved->address[i], info->ai_addr, info->ai_addrlen);
		ret_resolved->len[i] = info->ai_addrlen;
	}
	freeaddrinfo(list);
	return 0;
}

int resolve_numeric(const char *host, uint16_t port, struct resolved *ret_resolved)
{
	return resolve(host, port, AI_NUMERICHOST, ret_resolved) == 0 ? 0 : -EINVAL;
}

static void resolve_free(struct resolve *look)
{
	pthread_mutex_destroy(&look->mutex);
	free(look);
}

static void resolve_done(struct loop_post *post)
{
	struct resolve *look = (struct resolve *)post;
	bool cancelled;

	pthread_mutex_lock(&look->mutex); /* the thread has let it go then */
	cancelled = look->cancelled;
	pthread_mutex_unlock(&look->mutex);
	if (!cancelled)
		look->done(look->owner, look->err, look->text, &look->resolved);
	resolve_free(look);
}

static void *resolve_thread(void *arg)
{
	struct resolve *look = arg;
	int gai = resolve(look->host, look->port, 0, &look->resolved);
	bool cancelled;

	if (gai != 0) {
		look->err = gai == EAI_MEMORY ? -ENOMEM : -ENOENT;
		look->text = gai_strerror(gai);
	}
	pthread_mutex_lock(&look->mutex);
	cancelled = look->cancelled;
	if (!cancelled)
		loop_post(look->loop, &look->post);
	pthread_mutex_unlock(&look->mutex);
	if (cancelled)
		resolve_free(look);
	return NULL;
}

int resolve_start(struct loop *loop, const char *host, uint16_t port,
		  void (*done)(void *owner, int err, const char *text, const struct resolved *resolved), void *owner,
		  struct resolve **ret_resolve)
{
	struct resolve *look = calloc(1, sizeof(*look));
	pthread_attr_t attr;
	pthread_t thread;
	int err;

	if (look == NULL)
		return -ENOMEM;
	look->post.run = resolve_done;
	look->loop = loop;
	snprintf(look->host, sizeof(look->host), "%s", host);
	look->port = port;
	look->done = done;
	look->owner = owner;
	look->text = "";
	pthread_mutex_init(&look->mutex, NULL);

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	err = pthread_create(&thread, &attr, resolve_thread, look);
	pthread_attr_destroy(&attr);
	if (err != 0) {
		resolve_free(look);
		return -err;
	}
	*ret_resolve = look;
	return 0;
}

struct resolve *resolve_cancel(struct resolve *look)
{
	if (look == NULL)
		return NULL;
	pthread_mutex_lock(&look->mutex);
	look->cancelled = true;
	pthread_mutex_unlock(&look->mutex);
	return NULL;
}
