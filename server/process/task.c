/* task.c - see task.h.
 *
 *   launched -> told       task_start
 *   told -> working        enter, by a message of the kind that leads there
 *   told, working -> done or failed
 *                          enter, by a message of the kind that leads there: it is kept in end.said
 *   any of them -> ended   task_gone: the process was reaped, whatever it had sent
 *
 * Invariants: A message that is unknown, or not allowed in the current state by its row, is refused. At most one
 * message that leads to an end is accepted. kind->ended is called once per launch, as the last call, and the task is
 * not used after it. Every way to the end is bounded: missing heartbeats by the supervisor's timeout, cancelling by
 * grace_ms, SIGTERM by kill_ms.
 */
#include "process/task.h"

#include <string.h>
#include <unistd.h>

enum { STORED_A_TICK = 50, TELL_US = 1000000 };

/* ---- messages of the process ---- */

static const struct task_message *find(const struct task_kind *k, const char *type)
{
	for (const struct task_message *r = k->messages; r->type; r++)
		if (!strcmp(r->type, type))
			return r;
	return NULL;
}

static enum wasd_status greet(struct task *t, struct wasd_err *err)
{
	if (t->hello)
		return wasd_fail(err, WASD_ECORRUPT, "a second hello");
	t->hello = true;
	return WASD_OK;
}

/* Checks that the message is allowed now. */
static enum wasd_status admit(const struct task *t, const struct task_message *r, struct wasd_err *err)
{
	if (r->from && t->state < r->from)
		return wasd_fail(err, WASD_ECORRUPT, "%s before it was started", r->type);
	if (r->from && t->state >= TASK_DONE)
		return wasd_fail(err, WASD_ECORRUPT, "%s%s after its end", r->to >= TASK_DONE ? "two ends, " : "", r->type);
	if (r->to && t->state >= r->to)
		return wasd_fail(err, WASD_ECORRUPT, "%s twice", r->type);
	return WASD_OK;
}

static void enter(struct task *t, enum task_state state, struct wasd_frame *m)
{
	t->state = state;
	if (state < TASK_DONE)
		return;
	t->end.said = m->json;
	m->json = NULL;
	m->type = NULL;
	if (t->kind->let_go)
		proc_close(t->proc);
}

static enum wasd_status task_message(struct proc *p, struct wasd_frame *m, struct wasd_err *err)
{
	struct task *t = proc_owner(p);
	const struct task_message *r = find(t->kind, m->type);
	bool hello = !strcmp(m->type, "hello");
	enum wasd_status s = t->kind->check ? t->kind->check(t->self, m, err) : WASD_OK;
	if (s == WASD_OK && hello)
		s = greet(t, err);
	else if (s == WASD_OK && !r)
		s = wasd_fail(err, WASD_ECORRUPT, "unknown message %.40s", m->type);
	if (s == WASD_OK && r)
		s = admit(t, r, err);
	if (s != WASD_OK || !r)
		return s;
	/* Pause a process that sends rows too fast; others are not affected. */
	if (r->stored && ++t->stored > STORED_A_TICK)
		proc_pause(p, true);
	if (r->take)
		s = r->take(t->self, m, err);
	if (s == WASD_OK && r->to)
		enter(t, r->to, m);
	return s;
}

/* ---- the end ---- */

static enum task_outcome outcome(const struct task *t, const struct proc_end *how)
{
	if (t->state == TASK_FAILED)
		return TASK_ENDED_FAILED;
	if (how->violation)
		return TASK_ENDED_BROKE;
	if (t->state == TASK_DONE && how->exit_code == 0)
		return TASK_ENDED_DONE;
	return how->stopped ? TASK_ENDED_STOPPED : TASK_ENDED_CRASHED;
}

static void task_gone(struct proc *p, const struct proc_end *how)
{
	struct task *t = proc_owner(p);
	t->proc = NULL;
	t->ended = true;
	t->end.how = *how;
	t->end.outcome = outcome(t, how);
	t->kind->ended(t->self, &t->end); /* t may be freed now */
}

/* ---- time ---- */

static void tell(struct task *t)
{
	if (!t->untold || !t->proc || wasd_mono_us() < t->tell_us)
		return;
	task_changes_told(t);
	if (t->kind->changed)
		t->kind->changed(t->self);
}

static void task_tick(struct proc *p)
{
	struct task *t = proc_owner(p);
	int64_t now = wasd_mono_us();
	t->stored = 0;
	proc_pause(p, false);
	if (t->stop_by_us && now > t->stop_by_us) {
		t->stop_by_us = 0;
		proc_end(p, false, "did not stop in time");
	}
	bool works = t->state >= TASK_TOLD && t->state < TASK_DONE;
	if (works && !t->cancelled && t->wall_us && now - proc_started_us(p) > t->wall_us) {
		t->over_time = true;
		task_cancel(t, t->grace_ms, "");
	}
	tell(t);
}

void task_changed(struct task *t)
{
	t->untold = true;
	tell(t);
}

void task_changes_told(struct task *t)
{
	t->untold = false;
	t->tell_us = wasd_mono_us() + TELL_US;
}

/* ---- calls of the owner ---- */

void task_init(struct task *t, struct supervisor *sup, const struct task_kind *kind, void *self)
{
	t->kind = kind;
	t->self = self;
	t->sup = sup;
	t->cls = (struct proc_class){.role = kind->role, .message = task_message, .gone = task_gone, .tick = task_tick};
}

void task_done(struct task *t)
{
	cJSON_Delete(t->end.said);
	t->end.said = NULL;
}

enum wasd_status task_launch(struct task *t, struct wasd_err *err)
{
	return proc_spawn(t->sup, &t->cls, t, &t->proc, err);
}

void task_limit(struct task *t, int64_t memory_mb, int64_t wall_s, int grace_ms)
{
	t->wall_us = wall_s * 1000000;
	t->grace_ms = grace_ms;
	if (t->proc)
		proc_limit_memory(t->proc, memory_mb);
}

void task_limit_time(struct task *t, int64_t wall_us)
{
	t->wall_us = wall_us;
}

static void say(struct task *t, cJSON *m, int fd, const char *why_not)
{
	if (t->proc && !proc_send(t->proc, m, NULL, 0, fd))
		proc_end(t->proc, true, why_not);
	if (t->proc)
		return;
	cJSON_Delete(m);
	if (fd >= 0)
		close(fd);
}

void task_start(struct task *t, cJSON *m, int fd)
{
	t->state = TASK_TOLD;
	say(t, m, fd, "cannot send it the request");
}

void task_send_file(struct task *t, cJSON *m, int fd, const char *why_not)
{
	say(t, m, fd, why_not);
}

void task_send(struct task *t, cJSON *m, const char *why_not)
{
	say(t, m, -1, why_not);
}

void task_cancel(struct task *t, int grace_ms, const char *why)
{
	if (!t->proc)
		return;
	if (t->state < TASK_TOLD) {
		proc_end(t->proc, true, why);
		return;
	}
	/* The message may be lost for lack of memory; the time limit applies anyway. */
	proc_send(t->proc, wasd_message("cancel", ""), NULL, 0, -1);
	t->cancelled = true;
	t->stop_by_us = wasd_mono_us() + grace_ms * 1000ll;
}

void task_kill(struct task *t, const char *why)
{
	if (t->proc)
		proc_end(t->proc, true, why);
}

pid_t task_pid(const struct task *t)
{
	return t->proc ? proc_pid(t->proc) : 0;
}

bool task_has_cgroup(const struct task *t)
{
	return t->proc && proc_has_cgroup(t->proc);
}
