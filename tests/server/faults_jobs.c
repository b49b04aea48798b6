/* Training attempts and ingest with a misbehaving engine. */
#include "faults.h"

#include "../../storage/internal.h"

static const struct {
	const char *fault, *state, *reason, *in_exit_reason, *in_tail;
	size_t points;
} rows[] = {
	{"good", "completed", "done", "exit code 0", "the last words", 4},
	{"bad_magic", "failed", "error", "broke the protocol", "the last words", 0},
	{"bad_crc", "failed", "error", "broke the protocol", NULL, 0},
	{"oversized", "failed", "error", "broke the protocol", NULL, 0},
	{"out_of_order", "failed", "error", "broke the protocol", NULL, 0},
	{"duplicate_seq", "failed", "error", "broke the protocol", NULL, 0},
	{"not_json", "failed", "error", "broke the protocol", NULL, 0},
	{"other_job", "failed", "error", "for another job, job_other", NULL, 0},
	{"stale_attempt", "failed", "error", "for attempt 2, this is 1", NULL, 0},
	{"unknown_type", "failed", "error", "unknown message surprise", NULL, 0},
	{"bad_values", "failed", "error", "metrics has no valid values", NULL, 0},
	{"no_epoch", "failed", "error", "message metrics: \"epoch\" must be there", NULL, 0},
	{"bad_phase", "failed", "error", "message progress: \"phase\" must be loading data", NULL, 0},
	{"bad_progress", "failed", "error", "message progress: \"phase_done\"", NULL, 0},
	{"bad_loss", "failed", "error", "losses has no valid points", NULL, 0},
	{"losses_back", "failed", "error", "losses has no valid points", NULL, 0},
	{"no_losses", "failed", "error", "message losses: \"points\"", NULL, 0},
	{"bad_reason", "failed", "error", "message done: \"reason\"", NULL, 0},
	{"two_ends", "failed", "error", "two ends", NULL, 0},
	{"unsealed", "failed", "error", "broke the protocol", NULL, 0},
	{"short_file", "failed", "error", "broke the protocol", NULL, 0},
	{"no_file", "failed", "error", "memory file", NULL, 0},
	{"wrong_sha", "failed", "error", "could not be stored", NULL, 0},
	{"two_checkpoints", "failed", "error", "was acknowledged", NULL, 0},
	{"exit0", "failed", "error", "exit code 0", NULL, 0},
	{"exit7", "failed", "error", "exit code 7", "panic: out of cheese", 0},
	{"segv", "failed", "error", "signal 11 (Segmentation fault)", NULL, 0},
	{"abort", "failed", "error", "signal 6 (Aborted)", NULL, 0},
	{"kill9", "failed", "error", "signal 9 (Killed)", NULL, 0},
	{"nan", "failed", "nan_loss", "the loss is not a number", NULL, 0},
	{"says_error", "failed", "error", "disk on fire", NULL, 0},
	{"hung_up", "failed", "error", "signal 9", NULL, 0}, /* these need a limit */
	{"stopped", "failed", "error", "no heartbeat", NULL, 0},
	{"silent", "failed", "error", "no heartbeat", NULL, 0},
};
enum { ROWS = sizeof rows / sizeof rows[0], UNHEARD = ROWS - 2, HUNG_UP = UNHEARD - 1 };

static void attempts(size_t from, size_t to)
{
	start(1);
	for (size_t i = from; i < to; i++) {
		char id[48];
		submit(rows[i].fault, 0, "", id);
		struct storage_job j = wait_state(id, "completed,failed,cancelled", 10000);
		CHECK_MSG(!strcmp(j.state, rows[i].state) && j.reason && !strcmp(j.reason, rows[i].reason), "%s: %s, %s",
		          rows[i].fault, j.state, j.reason);
		struct storage_attempt_list a = {0};
		storage_attempt_list(db, id, &a, NULL);
		CHECK_INT(a.n, 1);
		if (a.n == 1) {
			CHECK_MSG(a.items[0].exit_reason && strstr(a.items[0].exit_reason, rows[i].in_exit_reason), "%s: %s",
			          rows[i].fault, a.items[0].exit_reason);
			CHECK_MSG(!rows[i].in_tail || (a.items[0].log_tail && strstr(a.items[0].log_tail, rows[i].in_tail)),
			          "%s: tail %s", rows[i].fault, a.items[0].log_tail);
		}
		CHECK_MSG(points(id) == rows[i].points, "%s: %zu points", rows[i].fault, points(id));
		storage_attempt_list_done(&a);
		storage_job_done(&j);
	}
	stop();
}

static void one_attempt(void)
{
	attempts(0, HUNG_UP);
}

static void nothing_is_heard(void)
{
	kill_ms = 300;
	attempts(HUNG_UP, UNHEARD);
	heartbeat_ms = 1000;
	attempts(UNHEARD, ROWS);
	kill_ms = heartbeat_ms = PATIENCE_MS;
}

static void before_the_start(void)
{
	static const char *const faults[] = {"no_hello", "wrong_role", "wrong_version", "two_hellos", "early_metrics"};
	char path[64], id[48];
	fault_file(path, getpid());
	start(1);
	for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
		FILE *f = fopen(path, "w");
		fputs(faults[i], f);
		fclose(f);
		submit("good", 0, "", id);
		struct storage_job j = wait_state(id, "failed,completed", 3000);
		CHECK_MSG(!strcmp(j.state, "failed") && j.message && strstr(j.message, "broke the protocol"), "%s: %s, %s",
		          faults[i], j.state, j.message);
		storage_job_done(&j);
	}
	unlink(path);
	stop();
}

static void retries(void)
{
	char id[48];
	start(1);
	/* Resumes from its checkpoint. */
	submit("flaky", 2, "", id);
	struct storage_job j = wait_state(id, "failed,completed", 8000);
	CHECK_STR(j.state, "completed");
	CHECK_INT(j.attempt, 3);
	storage_job_done(&j);
	struct storage_attempt_list a = {0};
	storage_attempt_list(db, id, &a, NULL);
	int resumed = 0;
	for (size_t i = 0; i < a.n; i++)
		resumed += a.items[i].resume_from != NULL;
	CHECK_INT(resumed, 2);
	storage_attempt_list_done(&a);
	CHECK_INT(points(id), 4);
	/* Always crashes: three attempts and no more. */
	submit("segv", 2, "", id);
	j = wait_state(id, "failed,completed", 8000);
	CHECK_STR(j.state, "failed");
	CHECK_STR(j.reason, "retries_exhausted");
	CHECK_INT(j.attempt, 3);
	storage_job_done(&j);
	/* Not retried. */
	submit("nan", 2, "", id);
	j = wait_state(id, "failed,completed", 3000);
	CHECK_STR(j.reason, "nan_loss");
	CHECK_INT(j.attempt, 1);
	storage_job_done(&j);
#ifndef WASD_SANITIZED
	submit("memory", 2, "\"memory_mb\":100", id);
	j = wait_state(id, "failed,completed", 20000);
	CHECK_STR(j.reason, "oom");
	CHECK_INT(j.attempt, 1);
	CHECK_MSG(j.message && strstr(j.message, "the limit is 100 MiB"), "%s", j.message);
	storage_job_done(&j);
#endif
	stop();
}

static void floods(void)
{
	char flood[48], logs[48], other[48];
	start(2);
	submit("row_flood", 0, "", flood);
	submit("good", 0, "", other);
	struct storage_job j = wait_state(flood, "completed,failed", 20000);
	CHECK_STR(j.state, "completed");
	CHECK_INT(points(flood), 1604);
	storage_job_done(&j);
	j = wait_state(other, "completed,failed", 20000);
	CHECK_STR(j.state, "completed");
	storage_job_done(&j);
	submit("log_flood", 0, "", logs);
	j = wait_state(logs, "completed,failed", 20000);
	CHECK_STR(j.state, "completed");
	storage_job_done(&j);
	struct storage_log_query q = {.limit = 10000};
	struct storage_log_list l = {0};
	storage_log_read(db, logs, &q, &l, NULL);
	CHECK(l.n >= 1 && l.last_n - l.first_n < 10001);
	storage_log_list_done(&l);
	stop();
}

static void cancels(void)
{
	char id[48], second[48];
	struct wasd_err err;
	start(1);
	submit("polite", 0, "", id);
	submit("polite", 0, "", second);
	storage_job_done(&(struct storage_job[]){wait_state(id, "running", 3000)}[0]);
	/* A waiting job is cancelled at once. */
	CHECK_INT(sched_cancel(jobs, second, false, "no more", "t", &err), WASD_OK);
	struct storage_job j = {0};
	storage_job_get(db, second, &j, NULL);
	CHECK_STR(j.state, "cancelled");
	storage_job_done(&j);
	CHECK_INT(sched_cancel(jobs, second, false, "", "t", &err), WASD_ESTATE);
	/* A running job saves a checkpoint first. */
	cJSON *live = NULL;
	for (int i = 0; i < 500 * PATIENCE && !(live && wasd_json_get(live, "progress")); i++) {
		cJSON_Delete(live);
		live = sched_live(jobs, id);
		poll(NULL, 0, 10);
	}
	CHECK(live && wasd_json_get(live, "progress"));
	cJSON_Delete(live);
	CHECK_INT(sched_cancel(jobs, id, false, "enough", "t", &err), WASD_OK);
	j = wait_state(id, "cancelled", 3000);
	CHECK_STR(j.reason, "user");
	storage_job_done(&j);
	struct storage_ckpt c = {0};
	CHECK_INT(storage_ckpt_pick(db, id, "latest", &c, NULL), WASD_OK);
	storage_ckpt_done(&c);
	/* Cancelling with kill set kills the process at once, not after a limit. */
	submit("deaf", 0, "", id);
	storage_job_done(&(struct storage_job[]){wait_state(id, "running", 3000)}[0]);
	CHECK_INT(sched_cancel(jobs, id, true, "", "t", &err), WASD_OK);
	j = wait_state(id, "cancelled", 3000);
	CHECK_STR(j.reason, "kill");
	storage_job_done(&j);
	stop();
}

static enum wasd_status change(const char *id, enum api_job_change what)
{
	struct wasd_err err;
	return sched_change(jobs, id, what, &(struct storage_request){.actor = "t"}, &err);
}

/* The outcome of an attempt. */
static void attempt_was(const char *id, size_t number, const char *outcome)
{
	struct storage_attempt_list a = {0};
	storage_attempt_list(db, id, &a, NULL);
	CHECK_STR(a.n >= number ? a.items[number - 1].outcome : "(none)", outcome);
	storage_attempt_list_done(&a);
}

static void limit(const char *id, struct storage_job_patch p)
{
	struct storage_job now = {0};
	struct wasd_err err = {0};
	p.priority = -1;
	CHECK_MSG(storage_job_update(db, id, &p, "t", &now, &err) == WASD_OK, "%s", err.msg);
	storage_job_done(&now);
	sched_poke(jobs);
}

static void ended_by(const char *id, const char *message, bool with_checkpoint)
{
	struct storage_job j = wait_state(id, "failed", 6000);
	CHECK_STR(j.reason, "deadline_exceeded");
	CHECK_STR(j.message, message);
	storage_job_done(&j);
	struct storage_ckpt c = {0};
	CHECK_INT(storage_ckpt_pick(db, id, "latest", &c, NULL), with_checkpoint ? WASD_OK : WASD_ENOTFOUND);
	storage_ckpt_done(&c);
}

/* Deadlines and time limits act on a job in every state, also when they change while it runs. */
static void limits_of_time(void)
{
	char running[48], waiting[48], paused[48];
	const struct storage_job_patch over = {.set_deadline = true, .deadline = 1};
	start(1);
	submit("polite", 0, "", running);
	storage_job_done(&(struct storage_job[]){wait_state(running, "running", 3000)}[0]);
	submit("polite", 0, "", waiting);
	limit(waiting, over);
	limit(running, over); /* it stores a checkpoint first */
	ended_by(waiting, STORAGE_DEADLINE_OVER, false);
	ended_by(running, STORAGE_DEADLINE_OVER, true);
	attempt_was(running, 1, "failed");

	submit("polite", 0, "", paused);
	storage_job_done(&(struct storage_job[]){wait_state(paused, "running", 3000)}[0]);
	CHECK_INT(change(paused, API_JOB_PAUSE), WASD_OK);
	storage_job_done(&(struct storage_job[]){wait_state(paused, "paused", 3000)}[0]);
	limit(paused, over);
	ended_by(paused, STORAGE_DEADLINE_OVER, true);
	CHECK_INT(change(paused, API_JOB_RETRY), WASD_ESTATE);

	submit("polite", 0, "", running); /* a limit that it gets while it runs */
	storage_job_done(&(struct storage_job[]){wait_state(running, "running", 3000)}[0]);
	limit(running, (struct storage_job_patch){.set_max_wall_s = true, .max_wall_s = 1});
	ended_by(running, STORAGE_WALL_OVER, true);
	stop();
}

static void pauses(void)
{
	char id[48], second[48];
	start(1);
	submit("polite", 0, "", id);
	storage_job_done(&(struct storage_job[]){wait_state(id, "running", 3000)}[0]);
	submit("polite", 0, "", second);
	/* The worker is free for the next job; the paused one has its checkpoint. */
	CHECK_INT(change(id, API_JOB_PAUSE), WASD_OK);
	CHECK_INT(change(id, API_JOB_PAUSE), WASD_OK);
	storage_job_done(&(struct storage_job[]){wait_state(id, "paused", 3000)}[0]);
	CHECK_INT(change(id, API_JOB_PAUSE), WASD_OK);
	attempt_was(id, 1, "paused");
	struct storage_ckpt c = {0};
	CHECK_INT(storage_ckpt_pick(db, id, "latest", &c, NULL), WASD_OK);
	storage_job_done(&(struct storage_job[]){wait_state(second, "running", 3000)}[0]);
	CHECK_INT(change(id, API_JOB_RESUME), WASD_OK);
	struct wasd_err err;
	CHECK_INT(sched_cancel(jobs, second, false, "", "t", &err), WASD_OK);
	storage_job_done(&(struct storage_job[]){wait_state(id, "running", 3000)}[0]);
	struct storage_attempt_list a = {0};
	storage_attempt_list(db, id, &a, NULL);
	CHECK_STR(a.n == 2 ? a.items[1].resume_from : "", c.id);
	storage_attempt_list_done(&a);
	storage_ckpt_done(&c);
	/* A cancellation overtakes a pause. */
	CHECK_INT(change(id, API_JOB_PAUSE), WASD_OK);
	CHECK_INT(sched_cancel(jobs, id, true, "", "t", &err), WASD_OK);
	storage_job_done(&(struct storage_job[]){wait_state(id, "cancelled", 3000)}[0]);
	CHECK_INT(change(id, API_JOB_PAUSE), WASD_ESTATE);
	CHECK_INT(change(id, API_JOB_RESUME), WASD_ESTATE);
	CHECK_INT(change(id, API_JOB_RETRY), WASD_OK);
	storage_job_done(&(struct storage_job[]){wait_state(id, "running", 3000)}[0]);
	CHECK_INT(sched_cancel(jobs, id, true, "", "t", &err), WASD_OK);
	storage_job_done(&(struct storage_job[]){wait_state(id, "cancelled", 3000)}[0]);
	/* Its worker has only been launched: there is nothing to store. */
	submit("polite", 0, "", id);
	struct storage_job j = wait_state(id, "starting,running", 3000);
	CHECK_INT(change(id, API_JOB_PAUSE), WASD_OK);
	storage_job_done(&j);
	storage_job_done(&(struct storage_job[]){wait_state(id, "paused", 3000)}[0]);
	CHECK_INT(sched_cancel(jobs, id, true, "", "t", &err), WASD_OK);
	/* A paused job is not touched when the daemon stops; one that is pausing ends as paused. */
	submit("polite", 0, "", id);
	storage_job_done(&(struct storage_job[]){wait_state(id, "running", 3000)}[0]);
	CHECK_INT(change(id, API_JOB_PAUSE), WASD_OK);
	sched_drain(jobs);
	storage_job_done(&(struct storage_job[]){wait_state(id, "paused", 3000)}[0]);
	stop();
}

/* A job that pauses for lack of room, and is held before its process has ended, remains paused for the user. */
static void held_without_room(void)
{
	char id[48];
	struct storage_attempt_list a = {0};
	start(1);
	submit("deaf", 0, "", id);
	storage_job_done(&(struct storage_job[]){wait_state(id, "running", 3000)}[0]);
	disk_refused(db, 1ull << 60);
	storage_job_done(&(struct storage_job[]){wait_state(id, "pausing", 3000)}[0]);
	CHECK_INT(change(id, API_JOB_HOLD), WASD_OK);
	struct storage_job j = wait_state(id, "pausing", 3000);
	CHECK_STR(j.reason, "user");
	storage_job_done(&j);
	storage_attempt_list(db, id, &a, NULL);
	CHECK(a.n == 1 && a.items[0].pid > 0 && !kill((pid_t)a.items[0].pid, SIGKILL));
	storage_attempt_list_done(&a);
	j = wait_state(id, "paused", 3000);
	CHECK_STR(j.reason, "user");
	storage_job_done(&j);
	attempt_was(id, 1, "paused");
	stop();
}

/* A worker that hears neither the request nor SIGTERM is ended; that is no failure of the job. */
static void deaf_workers(void)
{
	char id[48];
	struct wasd_err err;
	cancel_ms = 400;
	kill_ms = 300;
	start(1);
	submit("deaf", 0, "", id);
	storage_job_done(&(struct storage_job[]){wait_state(id, "running", 3000)}[0]);
	CHECK_INT(change(id, API_JOB_PAUSE), WASD_OK);
	storage_job_done(&(struct storage_job[]){wait_state(id, "paused", 3000)}[0]);
	CHECK_INT(change(id, API_JOB_RESUME), WASD_OK);
	storage_job_done(&(struct storage_job[]){wait_state(id, "running", 3000)}[0]);
	CHECK_INT(sched_cancel(jobs, id, false, "", "t", &err), WASD_OK);
	storage_job_done(&(struct storage_job[]){wait_state(id, "cancelled", 3000)}[0]);
	stop();
	cancel_ms = kill_ms = PATIENCE_MS;
}

/* Whether an event of this type of the job has the text in its data. */
static bool event_says(const char *id, const char *type, const char *text)
{
	struct storage_event_list l = {0};
	bool said = false;
	storage_event_read(db, 0, NULL, id, 0, &l, NULL);
	for (size_t i = 0; i < l.n; i++)
		said |= !strcmp(l.items[i].type, type) && strstr(l.items[i].data, text);
	storage_event_list_done(&l);
	return said;
}

static void says_how_far_it_is(void)
{
	char id[48];
	struct wasd_err err = {0};
	start(1);
	submit("losses", 0, "", id);
	int64_t until = wasd_mono_us() + 5000000ll * PATIENCE;
	while (!event_says(id, "job.progress", "\"phase\":\"evaluating\",\"phase_done\":1,\"phase_total\":3") &&
	       wasd_mono_us() < until)
		poll(NULL, 0, 10);
	CHECK(event_says(id, "job.progress", "\"phase\":\"evaluating\""));
	CHECK(event_says(id, "job.metric", "\"points\":[[1,1,"));
	CHECK_INT(points(id), 6); /* two of each curve */
	const char *phase = "";
	double v = 0;
	cJSON *live = sched_live(jobs, id);
	const cJSON *p = wasd_json_get(live, "progress");
	CHECK(wasd_json_str(p, "phase", &phase) && !strcmp(phase, "evaluating"));
	CHECK(wasd_json_num(p, "phase_total", &v) && v == 3 && wasd_json_num(p, "epochs", &v) && v == 2 &&
	      wasd_json_num(p, "eta_s", &v) && v == 1);
	cJSON_Delete(live);
	CHECK_INT(sched_cancel(jobs, id, true, "", "t", &err), WASD_OK);
	struct storage_job j = wait_state(id, "cancelled", 4000);
	CHECK_MSG(j.progress && strstr(j.progress, "\"epochs\":2") && !strstr(j.progress, "phase"), "%s", j.progress);
	storage_job_done(&j);
	stop();
}

static void no_worker_can_start(void)
{
	char id[48], target[200], self[200];
	start(1);
	ssize_t n = readlink(engine, target, sizeof target - 1);
	snprintf(self, sizeof self, "%.*s", (int)(n > 0 ? n : 0), target);
	unlink(engine);
	submit("good", 0, "", id);
	cJSON *live = NULL;
	const char *why = "";
	for (int i = 0; i < 300 * PATIENCE && !strstr(why, "cannot start a worker"); i++) {
		poll(NULL, 0, 10);
		cJSON_Delete(live);
		live = sched_live(jobs, id);
		why = "";
		if (live && wasd_json_get(live, "queue"))
			wasd_json_str(wasd_json_get(live, "queue"), "message", &why);
	}
	CHECK_MSG(strstr(why, "cannot start a worker") != NULL, "reason %s", why);
	cJSON_Delete(live);
	struct storage_job j = {0};
	storage_job_get(db, id, &j, NULL);
	CHECK_STR(j.state, "queued");
	CHECK_INT(j.attempt, 0);
	storage_job_done(&j);
	CHECK(symlink(self, engine) == 0);
	sched_poke(jobs);
	j = wait_state(id, "completed", 4000);
	storage_job_done(&j);
	stop();
}

static void drain(void)
{
	char id[48], waiting[48];
	start(1);
	submit("polite", 0, "", id);
	submit("good", 0, "", waiting);
	storage_job_done(&(struct storage_job[]){wait_state(id, "running", 3000)}[0]);
	sched_drain(jobs);
	for (int i = 0; i < 400 * PATIENCE && !sched_idle(jobs); i++)
		poll(NULL, 0, 10);
	CHECK(sched_idle(jobs));
	struct storage_job j = {0};
	storage_job_get(db, id, &j, NULL);
	CHECK_STR(j.state, "queued");
	CHECK_STR(j.reason, "daemon_stopped");
	storage_job_done(&j);
	struct storage_ckpt c = {0};
	CHECK_INT(storage_ckpt_pick(db, id, "latest", &c, NULL), WASD_OK);
	storage_ckpt_done(&c);
	j = (struct storage_job){0};
	storage_job_get(db, waiting, &j, NULL);
	CHECK_STR(j.state, "queued");
	CHECK_INT(j.attempt, 0);
	storage_job_done(&j);
	stop();
}

/* The nth allocation of a whole attempt fails: the job ends or waits, the daemon keeps running, and the next job
 * runs. */
static void attempt_without_memory(void)
{
	char id[48];
	start(1);
	for (int n = 1; n < 400; n += 7) {
		submit("good", 1, "", id);
		wasd_mem_fail_at((uint64_t)n);
		struct storage_job j = {0};
		int64_t until = wasd_mono_us() + 15000000ll * PATIENCE;
		do {
			poll(NULL, 0, 2);
			storage_job_done(&j);
			j = (struct storage_job){0};
			storage_job_get(db, id, &j, NULL);
		} while (!(j.state && storage_job_terminal(j.state) && sched_idle(jobs)) && wasd_mono_us() < until);
		wasd_mem_fail_at(0);
		CHECK_MSG(j.state && storage_job_terminal(j.state), "allocation %d: the job is %s (%s)", n, j.state, j.message);
		storage_job_done(&j);
	}
	submit("good", 0, "", id);
	storage_job_done(&(struct storage_job[]){wait_state(id, "completed", 6000)}[0]);
	stop();
}

static void ingests(void)
{
	static const struct {
		const char *name, *state, *in_error;
	} cases[] = {
		{"fine", "ready", NULL},
		{"manybad", "invalid",
	     "\"errors\":[{\"file\":\"a.png\",\"detail\":\"cut\"},{\"file\":\"b.png\",\"detail\":\"empty\"}],\"count\":212"},
		{"badlist", "invalid", "broke the protocol"},
		{"longremark", "invalid", "broke the protocol"},
		{"manyremarks", "invalid", "broke the protocol"},
		{"manyexamples", "invalid", "broke the protocol"},
		{"escapes", "invalid", "broke the protocol"},
		{"negative", "invalid", "broke the protocol"},
		{"refused", "invalid", "train/cat/1.png"},
		{"dies", "invalid", "signal 11"},
		{"quits", "invalid", "ended early"},
		{"garbage", "invalid", "broke the protocol"},
		{"wrongsize", "invalid", "differs from the reported one"},
		{"nofile", "invalid", "wrote no file"},
	};
	cJSON *options = cJSON_Parse("{\"size\":32}");
	start(1);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct storage_dataset d = {0};
		struct wasd_err err;
		bool existing;
		char staged[128], result[160];
		snprintf(staged, sizeof staged, "%s/up%zu", dir, i);
		fclose(fopen(staged, "w"));
		CHECK_INT(storage_dataset_begin(db, cases[i].name, NULL, "s", "t", &d, &existing, &err), WASD_OK);
		struct api_upload up = {.path = staged, .name = "a.tar"};
		CHECK_INT(ingest_files(ingest, cases[i].name, 1, &up, 1, options, &err), WASD_OK);
		int64_t until = wasd_mono_us() + 5000000ll * PATIENCE;
		do {
			storage_dataset_done(&d);
			d = (struct storage_dataset){0};
			storage_dataset_get(db, cases[i].name, 1, &d, NULL);
			poll(NULL, 0, 5);
		} while (d.state && !strcmp(d.state, "scanning") && wasd_mono_us() < until);
		CHECK_MSG(d.state && !strcmp(d.state, cases[i].state), "%s is %s: %s", cases[i].name, d.state, d.error);
		CHECK_MSG(!cases[i].in_error || (d.error && strstr(d.error, cases[i].in_error)), "%s: %s", cases[i].name,
		          d.error);
		CHECK_MSG(cases[i].in_error || (d.info && strstr(d.info, "\"remarks\":[{\"code\":\"ignored\",\"count\":3,") &&
		                                strstr(d.info, "\"options\":{\"size\":32}")),
		          "%s: %s", cases[i].name, d.info);
		CHECK_MSG(access(staged, F_OK) != 0, "%s: the upload is still there", cases[i].name);
		snprintf(result, sizeof result, "%s/datasets/%s/1.wds", dir, cases[i].name);
		CHECK_MSG((access(result, F_OK) == 0) == !strcmp(cases[i].state, "ready"), "%s: result", cases[i].name);
		storage_dataset_done(&d);
	}
	cJSON_Delete(options);
	stop();
}

static void upload(const char *name)
{
	char staged[128];
	struct storage_dataset d = {0};
	struct wasd_err err;
	bool existing;
	snprintf(staged, sizeof staged, "%s/up-%s", dir, name);
	fclose(fopen(staged, "w"));
	CHECK_INT(storage_dataset_begin(db, name, NULL, "s", "t", &d, &existing, &err), WASD_OK);
	CHECK_INT(ingest_files(ingest, name, 1, &(struct api_upload){.path = staged, .name = "a.tar"}, 1, NULL, &err),
	          WASD_OK);
	storage_dataset_done(&d);
}

/* Waits until the data set is in this state and its row tells this error, or any. */
static void dataset_is(const char *name, const char *state, const char *error)
{
	const int64_t until = wasd_mono_us() + 5000000ll * PATIENCE;
	bool is = false;
	while (!is && wasd_mono_us() < until) {
		struct storage_dataset d = {0};
		storage_dataset_get(db, name, 1, &d, NULL);
		is = d.state && !strcmp(d.state, state) && (!error || (d.error && strstr(d.error, error)));
		storage_dataset_done(&d);
		poll(NULL, 0, 5);
	}
	CHECK_MSG(is, "%s is not %s", name, state);
}

/* An upload that finds no room waits, with its file removed; what the file occupied is enough for all others. */
static void upload_without_room(void)
{
	struct storage_disk d;
	char file[160];
	start(1);
	upload("full");
	dataset_is("full", "scanning", "waits for room");
	storage_disk(db, &d);
	CHECK_MSG(!d.low, "%s", d.message);
	snprintf(file, sizeof file, "%s/datasets/full/1.wds", dir);
	CHECK(access(file, F_OK) != 0);
	upload("fine");
	dataset_is("fine", "ready", NULL);
	dataset_is("full", "scanning", "waits for room");
	stop();
}

int main(int argc, char **argv)
{
	fake_engine_main(argc, argv);
	log_set_level(LOG_ERROR);
	TEST_RUN(one_attempt);
	TEST_RUN(nothing_is_heard);
	TEST_RUN(before_the_start);
	TEST_RUN(retries);
	TEST_RUN(floods);
	TEST_RUN(cancels);
	TEST_RUN(limits_of_time);
	TEST_RUN(pauses);
	TEST_RUN(held_without_room);
	TEST_RUN(deaf_workers);
	TEST_RUN(says_how_far_it_is);
	TEST_RUN(no_worker_can_start);
	TEST_RUN(drain);
	TEST_RUN(attempt_without_memory);
	TEST_RUN(ingests);
	TEST_RUN(upload_without_room);
	TEST_END();
}
