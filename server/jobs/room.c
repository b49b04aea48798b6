/* room.c - what happens to jobs when the disk or the quota is full.
 *
 *   the disk is low: running jobs store a checkpoint and pause, reason disk_low; queued ones do not start
 *   a write of a job finds no room: its process is ended, the job pauses, reason disk_low or quota_full
 *   there is room again: jobs that were paused for one of these reasons go back to the queue
 *
 * All on the supervisor's thread. A user's pause or cancellation comes before these. */
#include "jobs/attempt.h"
#include "log.h"

#include <string.h>

enum wasd_status attempt_show_no_room(struct attempt *a, struct wasd_err *err)
{
	struct storage_move m = {.to = "pausing", .reason = a->room, .message = a->room_why};
	enum wasd_status s = a->room_shown ? WASD_OK : storage_job_move(a->jobs->cfg.db, a->id, &m, err);
	a->room_shown = s == WASD_OK;
	return s;
}

void attempt_no_room(struct attempt *a, const char *reason, const char *why)
{
	if (a->stop >= STOP_DRAIN)
		return;
	a->room = strcmp(reason, STORAGE_QUOTA_FULL) ? STORAGE_DISK_LOW : STORAGE_QUOTA_FULL;
	wasd_line(a->room_why, sizeof a->room_why, "%s", why);
	attempt_show_no_room(a, NULL); /* tried again when the attempt is over */
	attempt_note(a, "warn", "pausing: %s", a->room_why);
	log_about(a->id, LOG_WARN, "no room, job pauses", "job=%s reason=%s why=%s", a->id, a->room, LOG_Q(a->room_why));
	attempt_stop(a, STOP_ROOM);
}

static void pause_all(struct sched *j, const char *why)
{
	for (struct attempt *a = j->attempts, *next; a; a = next) {
		next = a->next;
		if (a->number && !a->task.ended)
			attempt_no_room(a, STORAGE_DISK_LOW, why);
	}
}

/* Back to the queue with all that were paused for lack of room. */
static void resume_all(struct sched *j)
{
	struct storage_names jobs = {0};
	if (storage_job_without_room(j->cfg.db, &jobs, NULL) != WASD_OK)
		return;
	for (size_t i = 0; i < jobs.n; i++) {
		struct storage_move m = {.to = "queued",
		                         .from = "paused",
		                         .reason = "resumed",
		                         .message = "there is room again; the job goes on from its last checkpoint"};
		if (storage_job_move(j->cfg.db, jobs.items[i], &m, NULL) != WASD_OK)
			continue;
		log_about(jobs.items[i], LOG_INFO, "job resumed, there is room again", "job=%s", jobs.items[i]);
	}
	storage_names_done(&jobs);
}

void room_watch(struct sched *j)
{
	struct storage_disk d;
	bool changed;
	storage_disk_watch(j->cfg.db, &d, &changed);
	pthread_mutex_lock(&j->lock);
	j->room = d;
	bool draining = j->draining;
	pthread_mutex_unlock(&j->lock);
	if (changed && d.low)
		log_line(LOG_WARN, "no room", "reason=%s why=%s", d.reason, LOG_Q(d.message));
	else if (changed)
		log_line(LOG_INFO, "room again", "free_bytes=%llu", (unsigned long long)d.free);
	if (draining)
		return;
	if (!d.low)
		resume_all(j);
	else if (!strcmp(d.reason, STORAGE_DISK_LOW))
		pause_all(j, d.message);
}
