/* job_states.c - the states of a job and the moves between them.
 *
 *     held <-> queued -> starting -> running -> completed
 *                           running -> pausing -> paused -> queued, or completed: a trial that its sweep prunes
 *                           running -> preempting -> queued
 *                           running -> retry_wait -> queued, or failed when the budget is spent
 *     queued, held, paused, retry_wait -> cancelled;  running -> cancelling -> cancelled
 *     queued, held, paused, retry_wait, running -> failed   when the deadline passes
 *     failed, cancelled -> queued   only by a retry on request, as a new attempt
 *
 * held -> held, pausing -> pausing, paused -> paused: for another reason. starting -> pausing: a pause does not wait
 * for the worker to start. A job that the daemon has paused for lack of disk space goes on by itself
 * (server/jobs/room.c).
 *
 * A worker may die or finish while a pause, a preemption or a cancellation is under way, so those states also have
 * the exits of running, except that a cancellation always ends as cancelled. starting -> queued: the worker could
 * not be started. running, preempting -> queued: also for jobs interrupted by the end of the daemon. */
#include "storage.h"
#include <string.h>

enum { MAX_TO = 8 }; /* the last is NULL */
static const struct {
	const char *from;
	const char *to[MAX_TO];
} moves[] = {
	{"queued", {"starting", "held", "cancelled", "failed"}},
	{"held", {"queued", "cancelled", "held", "failed"}},
	{"starting", {"running", "queued", "retry_wait", "failed", "cancelling", "cancelled", "pausing"}},
	{"running", {"completed", "pausing", "preempting", "retry_wait", "failed", "cancelling", "queued"}},
	{"pausing", {"paused", "completed", "retry_wait", "failed", "cancelling", "pausing"}},
	{"paused", {"queued", "cancelled", "completed", "paused", "failed"}},
	{"preempting", {"queued", "completed", "retry_wait", "failed", "cancelling", "pausing"}},
	{"retry_wait", {"queued", "failed", "cancelled", "held"}},
	{"cancelling", {"cancelled"}},
	{"completed", {NULL}},
	{"failed", {"queued"}},
	{"cancelled", {"queued"}},
};
enum { N_MOVES = sizeof moves / sizeof *moves };
_Static_assert(N_MOVES == STORAGE_JOB_STATES, "every state has a row");

static bool one_of(const char *s, const char *const *list)
{
	for (; *list; list++)
		if (!strcmp(s, *list))
			return true;
	return false;
}

bool storage_job_terminal(const char *state)
{
	return one_of(state, (const char *const[]){"completed", "failed", "cancelled", NULL});
}
bool storage_job_active(const char *state)
{
	return one_of(state, (const char *const[]){"starting", "running", "pausing", "preempting", "cancelling", NULL});
}

bool storage_job_move_ok(const char *from, const char *to)
{
	for (int i = 0; i < N_MOVES; i++)
		if (!strcmp(moves[i].from, from))
			return one_of(to, moves[i].to);
	return false;
}

const char *const *storage_job_states(void)
{
	static const char *const names[] = {"queued", "held",       "starting",   "running",    "pausing",
	                                    "paused", "preempting", "retry_wait", "cancelling", "completed",
	                                    "failed", "cancelled",  NULL};
	return names;
}
