/* helper.c - see helper.h. h->proc is the current process. Messages and the end of an earlier, closed process are
 * ignored. */
#include "process/helper.h"

#include <string.h>
#include <unistd.h>

/* ---- the process; [S] ---- */

static enum wasd_status helper_message(struct proc *p, struct wasd_frame *m, struct wasd_err *err)
{
	struct helper *h = proc_owner(p);
	const char *level = "", *text = "";
	if (!strcmp(m->type, "hello") || p != h->proc)
		return WASD_OK;
	if (strcmp(m->type, "log"))
		return asker_answer(&h->asker, m, err);
	wasd_json_str(m->json, "level", &level);
	wasd_json_str(m->json, "text", &text);
	if (h->kind->log)
		h->kind->log(h->self, level, text);
	return WASD_OK;
}

static void helper_gone(struct proc *p, const struct proc_end *end)
{
	struct helper *h = proc_owner(p);
	char who[72];
	if (p != h->proc)
		return;
	h->proc = NULL;
	asker_suspect(&h->asker, who);
	if (h->kind->dying && !h->stopping)
		h->kind->dying(h->self, who, end->reason);
	asker_detach(&h->asker);
	if (h->kind->died && !h->stopping)
		h->kind->died(h->self);
}

/* What becomes of the process is not the helper's affair any more. */
static struct proc *part(struct helper *h)
{
	struct proc *p = h->proc;
	asker_detach(&h->asker);
	h->proc = NULL;
	return p;
}

static void helper_tick(struct proc *p)
{
	struct helper *h = proc_owner(p);
	if (p == h->proc && h->kind->idle_ms && wasd_mono_us() - h->used_us > h->kind->idle_ms * 1000ll &&
	    !atomic_load(&h->asking))
		proc_close(part(h));
}

enum wasd_status helper_start(struct helper *h, struct wasd_err *err)
{
	h->used_us = wasd_mono_us();
	if (h->proc)
		return WASD_OK;
	enum wasd_status s = proc_spawn(h->sup, &h->cls, h, &h->proc, err);
	if (s == WASD_OK)
		asker_attach(&h->asker, h->proc);
	return s;
}

void helper_stop(struct helper *h)
{
	h->stopping = true;
	if (h->proc)
		proc_close(h->proc);
}

/* ---- any thread ---- */

enum wasd_status helper_init(struct helper *h, struct supervisor *sup, const struct helper_kind *kind, int max,
                             void *self)
{
	*h = (struct helper){.kind = kind, .self = self, .sup = sup};
	h->cls =
		(struct proc_class){.role = kind->role, .message = helper_message, .gone = helper_gone, .tick = helper_tick};
	return asker_init(&h->asker, kind->role, max, kind->down);
}

void helper_done(struct helper *h)
{
	asker_done(&h->asker);
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
	up->status = h->stopping        ? wasd_fail(up->err, WASD_EBUSY, "the daemon is stopping") :
	             h->kind->may_start ? h->kind->may_start(h->self, up->err) :
	                                  WASD_OK;
	if (up->status == WASD_OK)
		up->status = helper_start(h, up->err);
}

static enum wasd_status up(struct helper *h, struct wasd_err *err)
{
	struct up_call call = {.h = h, .err = err};
	supervisor_call(h->sup, do_up, &call);
	return call.status;
}

struct end_call {
	struct helper *h;
	const char *why;
};

static void do_end(void *ctx)
{
	struct end_call *c = ctx;
	if (c->h->proc)
		proc_end(part(c->h), true, c->why);
}

void helper_end(struct helper *h, const char *why)
{
	struct end_call c = {h, why};
	supervisor_call(h->sup, do_end, &c);
}

enum wasd_status helper_ask(struct helper *h, struct api_call *call, int fd, int64_t deadline_us, struct wasd_err *err)
{
	atomic_fetch_add(&h->asking, 1);
	enum wasd_status s = up(h, err);
	if (s == WASD_OK)
		s = asker_ask(&h->asker, call, fd, deadline_us, err);
	else if (fd >= 0)
		close(fd);
	atomic_fetch_sub(&h->asking, 1);
	return s;
}

enum wasd_status helper_ask_running(struct helper *h, struct api_call *call, int fd, int64_t deadline_us,
                                    struct wasd_err *err)
{
	atomic_fetch_add(&h->asking, 1);
	enum wasd_status s = asker_ask(&h->asker, call, fd, deadline_us, err);
	atomic_fetch_sub(&h->asking, 1);
	return s;
}
