#include "process/helper.h"

#include <string.h>
#include <unistd.h>

enum { IDLE_MS = 5000 };

static enum wasd_status helper_message(struct proc *p, struct wasd_frame *m, struct wasd_err *err)
{
	struct helper *h = proc_owner(p);
	if (!strcmp(m->type, "hello") || !strcmp(m->type, "log") || p != h->proc)
		return WASD_OK;
	return asker_answer(&h->asker, m, err);
}

static void helper_gone(struct proc *p, const struct proc_end *end)
{
	struct helper *h = proc_owner(p);
	(void)end;
	if (p != h->proc)
		return; /* one that was let go */
	asker_detach(&h->asker);
	h->proc = NULL;
}

static void helper_tick(void *ctx)
{
	struct helper *h = ctx;
	if (!h->proc || wasd_mono_us() - h->used_us <= IDLE_MS * 1000ll || asker_waiting(&h->asker))
		return;
	struct proc *p = h->proc;
	asker_detach(&h->asker);
	h->proc = NULL;
	proc_close(p);
}

enum wasd_status helper_init(struct helper *h, struct supervisor *sup, enum wasd_role role, int max, const char *down)
{
	*h = (struct helper){.sup = sup, .cls = {.role = role, .message = helper_message, .gone = helper_gone}};
	return asker_init(&h->asker, role, max, down);
}

struct up_call {
	struct helper *h;
	enum wasd_status status;
	struct wasd_err *err;
};

static void do_up(void *ctx)
{
	struct up_call *up = ctx;
	struct helper *h = up->h;
	h->used_us = wasd_mono_us();
	up->status = h->stopping ? wasd_fail(up->err, WASD_EBUSY, "the daemon is stopping") : WASD_OK;
	if (h->proc || up->status != WASD_OK)
		return;
	if (!h->ticks)
		supervisor_every(h->sup, helper_tick, h);
	h->ticks = true;
	up->status = proc_spawn(h->sup, &h->cls, h, &h->proc, up->err);
	if (up->status == WASD_OK)
		asker_attach(&h->asker, h->proc);
}

static enum wasd_status up(struct helper *h, struct wasd_err *err)
{
	struct up_call call = {.h = h, .err = err};
	supervisor_call(h->sup, do_up, &call);
	return call.status;
}

enum wasd_status helper_ask(struct helper *h, struct api_call *call, int64_t deadline_us, struct wasd_err *err)
{
	enum wasd_status s = up(h, err);
	return s == WASD_OK ? asker_ask(&h->asker, call, deadline_us, err) : s;
}

enum wasd_status helper_ask_fd(struct helper *h, struct api_call *call, int fd, int64_t deadline_us,
                               struct wasd_err *err)
{
	enum wasd_status s = up(h, err);
	if (s == WASD_OK)
		return asker_ask_fd(&h->asker, call, fd, deadline_us, err);
	close(fd);
	return s;
}

void helper_stop(struct helper *h)
{
	h->stopping = true;
	if (h->proc)
		proc_end(h->proc, true, "the daemon is stopping");
}

void helper_done(struct helper *h)
{
	asker_done(&h->asker);
}
