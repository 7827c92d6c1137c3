#include "oss/page_pipe.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

static void pipe_free(struct page_pipe *pipe)
{
	close(pipe->in);
	close(pipe->out);
	pipe->pipes->count--;
	free(pipe);
}

/* What nobody took, the connection being gone, must not become part of another answer. */
static void came_back(struct bulk *bulk)
{
	struct page_pipe *pipe = (struct page_pipe *)(void *)bulk;
	int left;

	if (ioctl(pipe->out, FIONREAD, &left) < 0 || left > 0) {
		pipe_free(pipe);
		return;
	}
	pipe->next = pipe->pipes->first;
	pipe->pipes->first = pipe;
}

static struct page_pipe *pipe_new(struct page_pipes *pipes)
{
	struct page_pipe *pipe = malloc(sizeof(*pipe));
	int ends[2];

	if (!pipe)
		return NULL;
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) {
		free(pipe);
		return NULL;
	}
	*pipe = (struct page_pipe){ .bulk.release = came_back, .in = ends[1], .out = ends[0], .pipes = pipes };
	pipes->count++;
	/* Other users than root may have only so much, all their pipes together. */
	if (fcntl(pipe->in, F_SETPIPE_SZ, PAGE_PIPE_ROOM) < 0) {
		pipe_free(pipe);
		return NULL;
	}

	return pipe;
}

struct page_pipe *page_pipe_get(struct page_pipes *pipes)
{
	struct page_pipe *pipe = pipes->first;

	if (!pipe)
		return pipes->count < PAGE_PIPES_MAX ? pipe_new(pipes) : NULL;
	pipes->first = pipe->next;

	return pipe;
}

void page_pipes_release(struct page_pipes *pipes)
{
	while (pipes->first) {
		struct page_pipe *pipe = pipes->first;

		pipes->first = pipe->next;
		pipe_free(pipe);
	}
	assert(pipes->count == 0);
}
