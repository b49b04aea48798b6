/* attempt_samples.c - what the process of an attempt uses, every few seconds while it trains. */
#include "jobs/attempt.h"
#include "log.h"

#include <math.h>

enum { SAMPLED = 3 };

/* At the last look of room_watch. */
static double disk_free(struct sched *j)
{
	pthread_mutex_lock(&j->lock);
	const struct storage_disk room = j->room;
	pthread_mutex_unlock(&j->lock);
	return !room.low_water || room.free == UINT64_MAX ? NAN : (double)room.free;
}

/* The epoch and the step of the run, which progress counts within the epoch. False: this attempt has not told one. */
static bool place(const struct attempt *a, struct storage_sample *out)
{
	int64_t steps = 0, step = 0;
	if (!a->placed || !wasd_json_i64(a->progress, "epoch", &out->epoch) || out->epoch < 1 ||
	    !wasd_json_i64(a->progress, "steps", &steps) || !wasd_json_i64(a->progress, "step", &step))
		return false;
	out->step = (out->epoch - 1) * steps + step;
	return true;
}

static void show(struct attempt *a, const struct storage_metric *m)
{
	cJSON *usage = cJSON_CreateObject();
	for (int i = 0; i < SAMPLED; i++)
		if (isfinite(m[i].value))
			cJSON_AddNumberToObject(usage, m[i].name, m[i].value);
	pthread_mutex_lock(&a->jobs->lock);
	cJSON_Delete(a->usage);
	a->usage = usage;
	pthread_mutex_unlock(&a->jobs->lock);
}

/* The first call only notes the processor time from which the first sample counts. */
void attempt_sample(struct attempt *a)
{
	const int64_t now = wasd_mono_us(), every = a->jobs->cfg.sample_ms * 1000ll;
	const int pid = (int)task_pid(&a->task);
	struct wasd_usage used;
	struct storage_sample s = {.ts = wasd_now_ms(), .from_step = a->load_step, .n = SAMPLED};
	if (a->task.state != TASK_WORKING || !every || now - a->sampled_us < every || !pid || !place(a, &s) ||
	    !wasd_usage_of(pid, &used))
		return;
	const double seconds = (double)(now - a->sampled_us) / 1e6, cpu_s = used.cpu_s - a->sampled_cpu_s;
	const bool first = !a->sampled_us;
	a->sampled_us = now;
	a->sampled_cpu_s = used.cpu_s;
	if (first)
		return;
	const struct storage_metric m[SAMPLED] = {
		{"cpu_percent", 100 * cpu_s / seconds},
		{"rss_bytes", (double)used.rss_bytes},
		{"disk_free_bytes", disk_free(a->jobs)},
	};
	s.m = m;
	show(a, m);
	struct wasd_err err = {0};
	if (storage_sample_put(a->jobs->cfg.db, a->id, a->number, &s, &err) != WASD_OK)
		log_about(a->id, LOG_DEBUG, "cannot store a sample", "job=%s why=%s", a->id, LOG_Q(err.msg));
}
