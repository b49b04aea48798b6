/* The supervisor, training attempts, ingest, searches of profiles and serving against an engine that does everything
 * wrong (fake_engine.h): whatever it does, the rows end as they should, nothing of what it made up is stored, and the
 * daemon's side goes on. */
#include "check.h"
#include "fake_engine.h"
#include "jobs/ingest.h"
#include "log.h"
#include "jobs/search.h"
#include "jobs/scheduler.h"
#include "serving/serving.h"
#include "stopwatch.h"

#include <dirent.h>
#include <sys/stat.h>

/* PATIENCE is for limits that only bound a failure, and a machine that stalls for seconds is not one. */
#ifdef WASD_SANITIZED
enum { SLOWER = 4 }; /* what promised times are multiplied by: sanitizers make everything slower */
#else
enum { SLOWER = 1 };
#endif
enum { PATIENCE = 4 * SLOWER, HEARTBEAT_MS = 3000 * SLOWER };

static struct storage *db;
static struct supervisor *sup;
static struct sched *jobs;
static struct serving *serving;
static struct ingest *ingest;
static struct profiles *profiles;
static char dir[64], engine[128];
static int aside_ms = 600000; /* for start */

static void profiles_changed(void *ctx)
{
	(void)ctx;
	profiles_poke(profiles);
}
static void profile_settled(void *ctx)
{
	(void)ctx;
	sched_poke(jobs);
}
static void profile_ready(void *ctx, const char *checkpoint)
{
	(void)ctx;
	serve_profiles_changed(serving, checkpoint);
}

static void start_parts(int workers)
{
	struct wasd_err err = {0};
	struct storage_opts so = {.low_water_bytes = 1, .ballast_bytes = 4096};
	CHECK_MSG(storage_open(dir, &so, &db, &err) == WASD_OK, "%s", err.msg);
	struct supervisor_config sc = {.engine = engine, .heartbeat_ms = HEARTBEAT_MS, .kill_ms = 300, .tick_ms = 50};
	CHECK_INT(supervisor_create(&sc, &sup, &err), WASD_OK);
	struct sched_config jc = {.db = db,
	                          .sup = sup,
	                          .data_dir = dir,
	                          .workers = workers,
	                          .threads = 2,
	                          .cancel_ms = 400,
	                          .backoff_scale_ms = 20,
	                          .profiles_changed = profiles_changed};
	CHECK_INT(sched_create(&jc, &jobs, &err), WASD_OK);
	struct ingest_config ic =
		{.db = db, .sup = sup, .data_dir = dir, .at_once = 2, .max_bytes = 1 << 30, .max_images = 1000};
	CHECK_INT(ingest_create(&ic, &ingest, &err), WASD_OK);
	struct serving_config vc = {.db = db,
	                            .sup = sup,
	                            .threads = 1,
	                            .max_questions = 8,
	                            .crashes = 3,
	                            .crash_window_ms = 60000,
	                            .backoff_ms = 300,
	                            .aside_ms = aside_ms};
	CHECK_INT(serve_create(&vc, &serving, &err), WASD_OK);
	struct profiles_config pc =
		{.db = db, .sup = sup, .data_dir = dir, .threads = 2, .changed = profile_ready, .settled = profile_settled};
	CHECK_INT(profiles_create(&pc, &profiles, &err), WASD_OK);
}

static void start(int workers)
{
	struct wasd_err err = {0};
	char self[200];
	check_temp(dir, sizeof dir, "wasd-test");
	CHECK(mkdtemp(dir) != NULL);
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	self[n > 0 ? n : 0] = 0;
	snprintf(engine, sizeof engine, "%s/engine", dir);
	CHECK(symlink(self, engine) == 0);
	start_parts(workers);
	/* A dataset to train on: nobody here opens it. */
	struct storage_dataset d = {0};
	bool existing;
	char path[128];
	snprintf(path, sizeof path, "%s/d.wds", dir);
	fclose(fopen(path, "w"));
	CHECK_INT(storage_dataset_begin(db, "d", "fake", "s", &d, &existing, &err), WASD_OK);
	CHECK_INT(storage_dataset_ready(db, d.id, "fake", "dd", "d.wds", "{}", 1, &err), WASD_OK);
	storage_dataset_done(&d);
}

static int children(void)
{
	int n = 0;
	char path[80], text[400];
	DIR *p = opendir("/proc");
	for (struct dirent *e; p && (e = readdir(p));) {
		snprintf(path, sizeof path, "/proc/%.20s/stat", e->d_name);
		FILE *f = fopen(path, "r");
		if (!f)
			continue;
		int parent = 0;
		if (fgets(text, sizeof text, f) && strrchr(text, ')') &&
		    sscanf(strrchr(text, ')') + 1, " %*c %d", &parent) == 1)
			n += parent == getpid();
		fclose(f);
	}
	if (p)
		closedir(p);
	return n;
}

static void stop_parts(void)
{
	ingest_stop(ingest);
	profiles_stop(profiles);
	serve_stop(serving);
	supervisor_stop(sup);
	sched_stop(jobs);
	profiles_destroy(profiles);
	storage_close(db);
	sched_destroy(jobs);
	ingest_destroy(ingest);
	serve_destroy(serving);
	supervisor_destroy(sup);
}

static void stop(void)
{
	stop_parts();
	wasd_remove_tree(dir, NULL);
	CHECK_INT(children(), 0);
}

static void submit_with(const char *fault, int retries, const char *limits, const char *more, char id[48])
{
	char spec[400];
	struct wasd_err err = {0};
	struct storage_job j = {0};
	bool existing;
	snprintf(spec, sizeof spec, "{\"fault\":\"%s\",\"retry\":{\"max\":%d,\"backoff_s\":1},\"limits\":{%s}%s}", fault,
	         retries, limits, more);
	struct storage_job_in in = {.name = fault,
	                            .queue = "default",
	                            .spec = spec,
	                            .spec_digest = "x",
	                            .created_by = "t",
	                            .priority = 50,
	                            .dataset = "d",
	                            .dataset_version = 1,
	                            .keep_best = 1,
	                            .keep_latest = 2,
	                            .keep_metric = "val_acc_aom",
	                            .keep_max = true};
	CHECK_MSG(storage_job_create(db, &in, &j, &existing, &err) == WASD_OK, "%s", err.msg);
	snprintf(id, 48, "%s", j.id ? j.id : "");
	storage_job_done(&j);
	sched_poke(jobs);
}

static void submit(const char *fault, int retries, const char *limits, char id[48])
{
	submit_with(fault, retries, limits, "", id);
}

/* Until the job is in one of the states (comma list) and, when that is a final one, its worker is free again. */
static struct storage_job wait_state(const char *id, const char *states, int ms)
{
	struct storage_job j = {0};
	int64_t until = wasd_mono_us() + ms * 1000ll * PATIENCE;
	for (;;) {
		storage_job_done(&j);
		j = (struct storage_job){0};
		storage_job_get(db, id, &j, NULL);
		if (j.state && strstr(states, j.state) && (!storage_job_terminal(j.state) || sched_idle(jobs)))
			return j;
		if (wasd_mono_us() > until) {
			CHECK_MSG(false, "%s is %s (%s: %s), not %s", j.name, j.state, j.reason, j.message, states);
			return j;
		}
		poll(NULL, 0, 5);
	}
}

static size_t points(const char *id)
{
	struct storage_point_list l = {0};
	storage_metric_series(db, id, NULL, 0, &l, NULL);
	size_t n = l.n;
	storage_point_list_done(&l);
	return n;
}

/* ---- one attempt ---------------------------------------------------------------------------------------------- */

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
	{"other_job", "failed", "error", "of another job, job_other", NULL, 0},
	{"stale_attempt", "failed", "error", "of attempt 2, this is 1", NULL, 0},
	{"unknown_type", "failed", "error", "unknown message surprise", NULL, 0},
	{"bad_values", "failed", "error", "metrics without a proper values", NULL, 0},
	{"no_epoch", "failed", "error", "message metrics: \"epoch\" must be there", NULL, 0},
	{"bad_phase", "failed", "error", "message progress: \"phase\" must be loading data", NULL, 0},
	{"bad_progress", "failed", "error", "message progress: \"phase_done\"", NULL, 0},
	{"bad_loss", "failed", "error", "losses without a proper points", NULL, 0},
	{"losses_back", "failed", "error", "losses without a proper points", NULL, 0},
	{"no_losses", "failed", "error", "message losses: \"points\"", NULL, 0},
	{"bad_reason", "failed", "error", "message done: \"reason\"", NULL, 0},
	{"two_ends", "failed", "error", "two ends", NULL, 0},
	{"unsealed", "failed", "error", "broke the protocol", NULL, 0},
	{"short_file", "failed", "error", "broke the protocol", NULL, 0},
	{"no_file", "failed", "error", "memory file", NULL, 0},
	{"wrong_sha", "failed", "error", "could not be stored", NULL, 0},
	{"two_checkpoints", "failed", "error", "not acknowledged", NULL, 0},
	{"exit0", "failed", "error", "exit code 0", NULL, 0},
	{"exit7", "failed", "error", "exit code 7", "panic: out of cheese", 0},
	{"segv", "failed", "error", "signal 11 (Segmentation fault)", NULL, 0},
	{"abort", "failed", "error", "signal 6 (Aborted)", NULL, 0},
	{"kill9", "failed", "error", "signal 9 (Killed)", NULL, 0},
	{"stopped", "failed", "error", "no heartbeat", NULL, 0},
	{"silent", "failed", "error", "no heartbeat", NULL, 0},
	{"hung_up", "failed", "error", "signal 9", NULL, 0},
	{"nan", "failed", "nan_loss", "the loss is not a number", NULL, 0},
	{"says_error", "failed", "error", "disk on fire", NULL, 0},
};

static void one_attempt(void)
{
	start(1);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
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
	/* Goes on from its checkpoint. */
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
	/* Never works: three attempts and no more. */
	submit("segv", 2, "", id);
	j = wait_state(id, "failed,completed", 8000);
	CHECK_STR(j.state, "failed");
	CHECK_STR(j.reason, "retries_exhausted");
	CHECK_INT(j.attempt, 3);
	storage_job_done(&j);
	/* Not worth another try. */
	submit("nan", 2, "", id);
	j = wait_state(id, "failed,completed", 3000);
	CHECK_STR(j.reason, "nan_loss");
	CHECK_INT(j.attempt, 1);
	storage_job_done(&j);
#ifndef WASD_SANITIZED
	submit("memory", 0, "\"memory_mb\":100", id);
	j = wait_state(id, "failed,completed", 20000);
	CHECK_STR(j.reason, "oom");
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
	/* Both have a worker; the flood is held back, so the other is done long before it. */
	struct storage_job j = {0};
	int64_t until = wasd_mono_us() + 20000000 * PATIENCE;
	do {
		storage_job_done(&j);
		j = (struct storage_job){0};
		storage_job_get(db, other, &j, NULL);
		poll(NULL, 0, 5);
	} while (j.state && !storage_job_terminal(j.state) && wasd_mono_us() < until);
	CHECK_STR(j.state, "completed");
	storage_job_done(&j);
	j = (struct storage_job){0};
	storage_job_get(db, flood, &j, NULL);
	CHECK_STR(j.state, "running");
	storage_job_done(&j);
	j = wait_state(flood, "completed,failed", 20000);
	CHECK_STR(j.state, "completed");
	CHECK_INT(points(flood), 1604);
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
	/* Waiting: at once. */
	CHECK_INT(sched_cancel(jobs, second, false, "no more", &err), WASD_OK);
	struct storage_job j = {0};
	storage_job_get(db, second, &j, NULL);
	CHECK_STR(j.state, "cancelled");
	storage_job_done(&j);
	CHECK_INT(sched_cancel(jobs, second, false, "", &err), WASD_ESTATE);
	/* Running: with a checkpoint. */
	cJSON *live = NULL;
	for (int i = 0; i < 500 * PATIENCE && !(live && wasd_json_get(live, "progress")); i++) {
		cJSON_Delete(live);
		live = sched_live(jobs, id);
		poll(NULL, 0, 10);
	}
	CHECK(live && wasd_json_get(live, "progress"));
	cJSON_Delete(live);
	CHECK_INT(sched_cancel(jobs, id, false, "enough", &err), WASD_OK);
	j = wait_state(id, "cancelled", 3000);
	CHECK_STR(j.reason, "user");
	storage_job_done(&j);
	struct storage_ckpt c = {0};
	CHECK_INT(storage_ckpt_pick(db, id, "latest", &c, NULL), WASD_OK);
	storage_ckpt_done(&c);
	/* One that does not listen, and ignores SIGTERM too. */
	submit("deaf", 0, "", id);
	storage_job_done(&(struct storage_job[]){wait_state(id, "running", 3000)}[0]);
	int64_t t0 = stopwatch_us();
	CHECK_INT(sched_cancel(jobs, id, false, "", &err), WASD_OK);
	j = wait_state(id, "cancelled", 4000);
	CHECK(stopwatch_us() - t0 < 3000000 * SLOWER);
	storage_job_done(&j);
	/* Killed. */
	submit("deaf", 0, "", id);
	storage_job_done(&(struct storage_job[]){wait_state(id, "running", 3000)}[0]);
	t0 = stopwatch_us();
	CHECK_INT(sched_cancel(jobs, id, true, "", &err), WASD_OK);
	j = wait_state(id, "cancelled", 2000);
	CHECK_STR(j.reason, "kill");
	CHECK(stopwatch_us() - t0 < 1000000 * SLOWER);
	storage_job_done(&j);
	stop();
}

/* An event of that type of the job has it in its data. */
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
	int64_t until = wasd_mono_us() + 5000000 * PATIENCE;
	while (!event_says(id, "job.progress", "\"phase\":\"evaluating\",\"phase_done\":1,\"phase_total\":3") &&
	       wasd_mono_us() < until)
		poll(NULL, 0, 10);
	CHECK(event_says(id, "job.progress", "\"phase\":\"evaluating\""));
	CHECK(event_says(id, "job.metric", "\"points\":[[1,1,"));
	CHECK_INT(points(id), 2);
	const char *phase = "";
	double v = 0;
	cJSON *live = sched_live(jobs, id);
	const cJSON *p = wasd_json_get(live, "progress");
	CHECK(wasd_json_str(p, "phase", &phase) && !strcmp(phase, "evaluating"));
	CHECK(wasd_json_num(p, "phase_total", &v) && v == 3 && wasd_json_num(p, "epochs", &v) && v == 2 &&
	      wasd_json_num(p, "eta_s", &v) && v == 1);
	cJSON_Delete(live);
	CHECK_INT(sched_cancel(jobs, id, true, "", &err), WASD_OK);
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
	for (int i = 0; i < 300 && !strstr(why, "no worker can be started"); i++) {
		poll(NULL, 0, 10);
		cJSON_Delete(live);
		live = sched_live(jobs, id);
		why = "";
		if (live && wasd_json_get(live, "queue"))
			wasd_json_str(wasd_json_get(live, "queue"), "reason", &why);
	}
	CHECK_MSG(strstr(why, "no worker can be started") != NULL, "reason %s", why);
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
	for (int i = 0; i < 400 && !sched_idle(jobs); i++)
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

/* The nth allocation of a whole attempt fails: the job ends or waits, the daemon's side goes on, and the next one runs.
 */
static void attempt_without_memory(void)
{
	char id[48];
	start(1);
	for (int n = 1; n < 400; n += 7) {
		submit("good", 1, "", id);
		wasd_mem_fail_at((uint64_t)n);
		struct storage_job j = {0};
		int64_t until = wasd_mono_us() + 15000000 * PATIENCE;
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

/* ---- ingest ----------------------------------------------------------------------------------------------------- */

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
		{"wrongsize", "invalid", "size it named"},
		{"nofile", "invalid", "left no file"},
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
		CHECK_INT(storage_dataset_begin(db, cases[i].name, NULL, "s", &d, &existing, &err), WASD_OK);
		struct api_upload up = {.path = staged, .name = "a.tar"};
		CHECK_INT(ingest_files(ingest, cases[i].name, 1, &up, 1, options, &err), WASD_OK);
		int64_t until = wasd_mono_us() + 5000000 * PATIENCE;
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

/* ---- serving ----------------------------------------------------------------------------------------------- */

/* A finished job whose checkpoint begins with that word. */
static void make_ckpt(const char *word, char ckpt[32])
{
	char id[48], data[64] = "", sha[WASD_SHA256_HEX];
	struct wasd_err err = {0};
	int64_t attempt;
	char *resume = NULL;
	sched_drain(jobs); /* this job is not for the scheduler */
	submit("good", 0, "", id);
	CHECK_INT(storage_attempt_start(db, id, &attempt, &resume, &err), WASD_OK);
	CHECK_INT(storage_attempt_running(db, id, attempt, 1, "{}", &err), WASD_OK);
	snprintf(data, sizeof data, "%s", word);
	wasd_sha256_of(data, sizeof data, sha);
	struct storage_ckpt_in in = {.job = id,
	                             .attempt = attempt,
	                             .epoch = 1,
	                             .step = 1,
	                             .data = data,
	                             .bytes = sizeof data,
	                             .sha256 = sha,
	                             .reason = "final",
	                             .info = "{}",
	                             .metrics_json = "{}"};
	CHECK_MSG(storage_ckpt_store(db, &in, ckpt, &err) == WASD_OK, "%s", err.msg);
	struct storage_exit x = {.outcome = "completed", .exit_reason = "done"};
	struct storage_move m = {.to = "completed", .reason = "done"};
	CHECK_INT(storage_attempt_end(db, id, attempt, &x, &m, &err), WASD_OK);
	wasd_free(resume);
}

static void deploy_ckpt(const char *name, const char *ckpt)
{
	struct wasd_err err = {0};
	struct storage_deployment_in di =
		{.name = name, .source = "{}", .checkpoint = ckpt, .mode = "aom", .options = "{}", .actor = "t"};
	struct storage_deployment d = {0};
	CHECK_MSG(storage_deployment_create(db, &di, &d, &err) == WASD_OK, "%s", err.msg);
	storage_deployment_done(&d);
	CHECK_INT(serve_changed(serving, name, &err), WASD_OK);
}

static void deploy(const char *name, const char *word)
{
	char ckpt[32];
	make_ckpt(word, ckpt);
	deploy_ckpt(name, ckpt);
}

static bool wait_deployment(const char *name, const char *state, int ms)
{
	int64_t until = wasd_mono_us() + ms * 1000ll * PATIENCE;
	for (;;) {
		struct storage_deployment d = {0};
		struct api_live live = {0};
		storage_deployment_get(db, name, &d, NULL);
		bool ok = d.state && !strcmp(d.state, state) &&
		          (strcmp(state, "ready") || (serve_live(serving, name, &live) && live.ready));
		bool late = wasd_mono_us() > until;
		CHECK_MSG(ok || !late, "%s is %s: %s", name, d.state, d.message);
		storage_deployment_done(&d);
		if (ok || late)
			return ok;
		poll(NULL, 0, 5);
	}
}

/* An answer that somebody waits for. */
struct wish {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool over;
};

static void wish_over(void *ctx)
{
	struct wish *w = ctx;
	pthread_mutex_lock(&w->lock);
	w->over = true;
	pthread_cond_signal(&w->changed);
	pthread_mutex_unlock(&w->lock);
}

/* Asks through the queue and waits, as no thread of the daemon does. Takes call->json. */
static enum wasd_status ask(const struct api_live *live, struct api_call *call, int64_t deadline_us,
                            struct wasd_err *err)
{
	struct wish w = {.over = false};
	struct api_ask a = {.call = *call,
	                    .bundle = live->bundle,
	                    .mode = live->mode,
	                    .images = 1,
	                    .deadline_us = deadline_us};
	pthread_mutex_init(&w.lock, NULL);
	pthread_cond_init(&w.changed, NULL);
	serve_ask(serving, &a, wish_over, &w);
	pthread_mutex_lock(&w.lock);
	while (!w.over)
		pthread_cond_wait(&w.changed, &w.lock);
	pthread_mutex_unlock(&w.lock);
	pthread_cond_destroy(&w.changed);
	pthread_mutex_destroy(&w.lock);
	*call = a.call;
	if (err && a.status)
		*err = a.err;
	return a.status;
}

static enum wasd_status classify(const char *name, int k, size_t bytes, int ms, struct wasd_err *err, cJSON **reply)
{
	struct api_live live = {0};
	if (!serve_live(serving, name, &live))
		return WASD_ENOTFOUND;
	cJSON *m = cJSON_CreateObject();
	cJSON_AddStringToObject(m, "type", "classify");
	cJSON_AddStringToObject(m, "bundle", live.bundle);
	cJSON_AddStringToObject(m, "mode", live.mode);
	cJSON_AddNumberToObject(m, "k", k);
	cJSON_AddItemToObject(m, "sizes", cJSON_CreateIntArray((int[]){(int)bytes}, 1));
	char *bin = calloc(1, bytes + 1);
	struct api_call call = {.json = m, .bin = bin, .bin_len = bytes, .who = name};
	serve_begin(serving, name, live.generation);
	enum wasd_status s = ask(&live, &call, wasd_mono_us() + ms * 1000ll, err);
	serve_end(serving, name, live.generation, s == WASD_OK);
	free(bin);
	if (reply) {
		*reply = call.reply;
		call.reply = NULL;
	}
	api_call_done(&call);
	return s;
}

/* Asks for an answer of `bytes` in a memory file, when at most `most` can be right. */
static enum wasd_status ask_bulk(const char *name, size_t bytes, size_t most, enum bulk kind, int64_t deadline_us,
                                 struct api_call *call, struct wasd_err *err)
{
	struct api_live live = {0};
	serve_live(serving, name, &live);
	cJSON *m = wasd_message("logits", "bundle:s mode:s sizes:j k:i answer_bytes:i", live.bundle, live.mode,
	                        cJSON_CreateIntArray((int[]){1}, 1), (int64_t)kind, (int64_t)bytes);
	*call = (struct api_call){.json = m, .reply_max = most};
	serve_begin(serving, name, live.generation);
	enum wasd_status s = ask(&live, call, deadline_us, err);
	serve_end(serving, name, live.generation, s == WASD_OK);
	return s;
}

static int restarts(void)
{
	cJSON *o = serve_status(serving);
	int64_t n = -1;
	wasd_json_i64(o, "restarts", &n);
	cJSON_Delete(o);
	return (int)n;
}

/* Answers above a frame's size come in a memory file: taken when they are what was asked for, and the end of the
 * process when not. */
static void large_answers(void)
{
	static const struct {
		enum bulk kind;
		size_t bytes, most;
		const char *why;
	} wrong[] = {
		{BULK_GOOD, 1 << 21, 0, "nothing of that kind was asked for"},
		{BULK_TOO_BIG, 1 << 21, 1 << 21, "more than was asked for"},
		{BULK_UNSEALED, 1 << 21, 1 << 21, "not sealed"},
		{BULK_SHORT, 1 << 21, 1 << 21, "shorter than said"},
		{BULK_NO_BYTES, 1 << 21, 1 << 21, "its size is not said"},
		{BULK_AND_BIN, 1 << 21, 1 << 21, "bytes in two places"},
	};
	static const size_t sizes[] = {256 * 1025 * 4, 1 << 20, 4, 64 << 20};
	struct wasd_err err = {0};
	struct api_call call;
	start(1);
	deploy("d", "fine");
	if (!wait_deployment("d", "ready", 4000))
		return stop();
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		CHECK_MSG(ask_bulk("d", sizes[i], sizes[i], BULK_GOOD, wasd_mono_us() + 20000000, &call, &err) == WASD_OK,
		          "%zu bytes: %s", sizes[i], err.msg);
		CHECK_INT(call.reply_bin_len, sizes[i]);
		bool same = call.reply_bin_len == sizes[i];
		for (size_t k = 0; same && k < sizes[i] / 4; k++)
			same = ((const float *)(const void *)call.reply_bin)[k] == (float)k;
		CHECK_MSG(same, "%zu bytes: other values", sizes[i]);
		api_call_done(&call);
	}
	/* One that nobody waits for is dropped. */
	CHECK_INT(ask_bulk("d", 1 << 21, 1 << 21, BULK_TO_NOBODY, wasd_mono_us() + 300000, &call, &err), WASD_EBUSY);
	api_call_done(&call);
	CHECK_INT(classify("d", 1, 10, 20000, &err, NULL), WASD_OK);
	CHECK_INT(restarts(), 0);
	stop();
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		start(1);
		deploy("d", "fine");
		CHECK(wait_deployment("d", "ready", 4000));
		CHECK_MSG(ask_bulk("d", wrong[i].bytes, wrong[i].most, wrong[i].kind, wasd_mono_us() + 20000000, &call, &err) ==
		              WASD_EBUSY,
		          "%s", wrong[i].why);
		CHECK_MSG(!call.reply_bin, "%s", wrong[i].why);
		api_call_done(&call);
		CHECK(wait_deployment("d", "ready", 4000));
		CHECK_INT(restarts(), 1);
		CHECK_INT(classify("d", 1, 10, 20000, &err, NULL), WASD_OK);
		stop();
	}
}

static bool is_suspended(const char *name)
{
	struct api_live live = {0};
	return serve_live(serving, name, &live) && live.suspended && !live.ready && live.retry_s >= 1;
}

/* How many rows of that action the audit has about the deployment; reason (may be NULL) is in all of them. */
static int audited(const char *name, const char *action, const char *reason)
{
	struct storage_audit_list l = {0};
	char object[100];
	int n = 0;
	snprintf(object, sizeof object, "deployment/%s", name);
	storage_audit_list(db, object, NULL, 0, (struct storage_page){.limit = 100}, &l, NULL);
	for (size_t i = 0; i < l.n; i++)
		if (!strcmp(l.items[i].action, action)) {
			CHECK_MSG(!reason || (l.items[i].reason && strstr(l.items[i].reason, reason)), "%s: %s", action,
			          l.items[i].reason);
			n++;
		}
	storage_audit_list_done(&l);
	return n;
}

static pid_t infer_pid(void)
{
	cJSON *all = supervisor_processes(sup);
	int64_t pid = 0;
	const char *role;
	const cJSON *p;
	cJSON_ArrayForEach(p, all)
		if (wasd_json_str(p, "role", &role) && !strcmp(role, "infer"))
			wasd_json_i64(p, "pid", &pid);
	cJSON_Delete(all);
	return (pid_t)pid;
}

/* The one at whose work the process dies is set aside, the other is served, and the first comes back: after its time,
 * or when it is asked for. */
static void the_one_that_kills(void)
{
	struct wasd_err err = {0};
	struct storage_deployment row = {0};
	start(1);
	deploy("good", "fine");
	deploy("bad", "fine");
	CHECK(wait_deployment("good", "ready", 4000) && wait_deployment("bad", "ready", 4000));
	for (int i = 0; i < 3; i++) {
		CHECK(!is_suspended("bad"));
		CHECK_INT(classify("bad", 66, 10, 5000, &err, NULL), WASD_EBUSY);
		CHECK(wait_deployment("good", "ready", 4000));
		if (i < 2)
			CHECK(wait_deployment("bad", "ready", 4000));
	}
	CHECK(is_suspended("bad"));
	CHECK_INT(classify("good", 1, 10, 20000, &err, NULL), WASD_OK);
	storage_deployment_get(db, "bad", &row, NULL);
	CHECK_STR(row.state, "ready");
	CHECK_MSG(row.message && strstr(row.message, "Suspended") && strstr(row.message, "signal 9") &&
	              strstr(row.message, "in 600 s") && strstr(row.message, "POST /v1/deployments/bad:reload"),
	          "%s", row.message);
	storage_deployment_done(&row);
	CHECK_INT(audited("bad", "deployment.suspend", "ended again and again"), 1);
	CHECK_INT(audited("good", "deployment.suspend", NULL), 0);
	cJSON *o = serve_status(serving), *info = serve_info(serving, "bad");
	CHECK(cJSON_GetArraySize(wasd_json_get(o, "suspended")) == 1 &&
	      !strcmp(wasd_json_get(o, "suspended")->child->valuestring, "bad"));
	CHECK(cJSON_IsNull(wasd_json_get(o, "restart_in_s")));
	const cJSON *condition = cJSON_GetArrayItem(wasd_json_get(info, "conditions"), 0);
	const char *type = "", *at = "";
	CHECK(wasd_json_str(condition, "type", &type) && !strcmp(type, "Suspended") &&
	      wasd_json_str(condition, "retry_at", &at) && strlen(at) > 18);
	cJSON_Delete(o);
	cJSON_Delete(info);
	/* What is loaded anew leaves it alone; who asks for it gets it. */
	kill(infer_pid(), SIGKILL);
	CHECK(wait_deployment("good", "ready", 4000));
	CHECK(is_suspended("bad"));
	CHECK_INT(serve_changed(serving, "bad", &err), WASD_OK);
	CHECK(wait_deployment("bad", "ready", 4000));
	CHECK_INT(classify("bad", 1, 10, 20000, &err, NULL), WASD_OK);
	stop();
	/* By itself: its time is over at once here. Then one death is enough. */
	aside_ms = 1;
	start(1);
	deploy("good", "fine");
	deploy("bad", "fine");
	CHECK(wait_deployment("good", "ready", 4000) && wait_deployment("bad", "ready", 4000));
	for (int i = 0; i < 4; i++) {
		CHECK_INT(classify("bad", 66, 10, 5000, &err, NULL), WASD_EBUSY);
		CHECK(wait_deployment("bad", "ready", 10000));
		CHECK_INT(audited("bad", "deployment.suspend", NULL), i < 2 ? 0 : i - 1);
		CHECK_INT(audited("bad", "deployment.resume", NULL), i < 2 ? 0 : i - 1);
	}
	CHECK_INT(classify("good", 1, 10, 20000, &err, NULL), WASD_OK);
	aside_ms = 600000;
	stop();
}

/* Killed from outside while it does nothing: nobody is to blame, and it starts again after longer and longer waits. */
static void deaths_of_nobody(void)
{
	struct wasd_err err = {0};
	start(1);
	deploy("d", "fine");
	CHECK(wait_deployment("d", "ready", 4000));
	for (int i = 1; i <= 5; i++) {
		pid_t pid = infer_pid();
		kill(pid, SIGKILL);
		int64_t until = wasd_mono_us() + 5000000 * PATIENCE, wait = 0;
		while (restarts() < i && wasd_mono_us() < until)
			poll(NULL, 0, 2);
		CHECK_INT(restarts(), i);
		cJSON *o = serve_status(serving);
		bool waits = wasd_json_i64(o, "restart_in_s", &wait);
		CHECK_MSG(waits == (i > 3) && wait == (i > 3), "death %d: %lld s", i,
		          (long long)wait); /* 0, 0, 0, 0.3 and 0.6 s */
		cJSON_Delete(o);
		CHECK(wait_deployment("d", "ready", 4000));
		CHECK_INT(classify("d", 1, 10, 20000, &err, NULL), WASD_OK);
	}
	CHECK_INT(audited("d", "deployment.suspend", NULL), 0);
	/* Who asks does not wait. */
	kill(infer_pid(), SIGKILL);
	while (restarts() < 6)
		poll(NULL, 0, 2);
	CHECK_INT(serve_changed(serving, "d", &err), WASD_OK);
	cJSON *o = serve_status(serving);
	CHECK(cJSON_IsNull(wasd_json_get(o, "restart_in_s")));
	cJSON_Delete(o);
	CHECK(wait_deployment("d", "ready", 4000));
	stop();
}

static void serving_faults(void)
{
	struct wasd_err err = {0};
	cJSON *reply;
	const char *mode, *code;
	start(1);
	deploy("d", "fine");
	if (!wait_deployment("d", "ready", 4000))
		return stop();
	CHECK_INT(classify("d", 1, 10, 20000, &err, &reply), WASD_OK);
	CHECK(wasd_json_str(reply, "mode", &mode) && !strcmp(mode, "aom"));
	cJSON_Delete(reply);
	/* Above a megabyte it travels as a memory file. */
	bool bulk = false;
	CHECK_INT(classify("d", 1, 3 << 20, 20000, &err, &reply), WASD_OK);
	CHECK(wasd_json_bool(reply, "bulk", &bulk) && bulk);
	cJSON_Delete(reply);
	CHECK_INT(classify("d", 68, 10, 20000, &err, &reply), WASD_EINVAL);
	CHECK_STR(err.pointer, "/images/0");
	CHECK(wasd_json_str(reply, "code", &code) && !strcmp(code, "bad_image"));
	cJSON_Delete(reply);
	/* No answer, and an answer to nobody. */
	int64_t t0 = stopwatch_us();
	CHECK_INT(classify("d", 69, 10, 300, &err, NULL), WASD_EBUSY);
	CHECK(stopwatch_us() - t0 < 1000000 * SLOWER);
	CHECK_INT(classify("d", 70, 10, 300, &err, NULL), WASD_EBUSY);
	CHECK_INT(classify("d", 1, 10, 20000, &err, NULL), WASD_OK);
	/* A switch is seen by what comes after it. */
	struct api_live now, before;
	int64_t swap_us, old;
	char audit[64];
	CHECK_INT(serve_mode(serving, "d", "dom", -1, "t", "r", &now, &before, &swap_us, &old, audit, &err), WASD_OK);
	CHECK_INT(now.generation, before.generation + 1);
	CHECK_STR(before.mode, "aom");
	CHECK_INT(classify("d", 1, 10, 20000, &err, &reply), WASD_OK);
	CHECK(wasd_json_str(reply, "mode", &mode) && !strcmp(mode, "dom"));
	cJSON_Delete(reply);
	CHECK_INT(serve_mode(serving, "d", "aom", before.generation, "t", "r", &now, &before, &swap_us, &old, audit, &err),
	          WASD_ESTATE);
	CHECK_INT(serve_mode(serving, "d", "xom", -1, "t", "r", &now, &before, &swap_us, &old, audit, &err), WASD_EBUSY);
	/* It dies under a request: busy at once, back within a second, in the mode of the row. */
	for (int k = 66; k <= 67; k++) {
		t0 = stopwatch_us();
		CHECK_INT(classify("d", k, 10, 5000, &err, NULL), WASD_EBUSY);
		CHECK_MSG(stopwatch_us() - t0 < 1000000 * SLOWER, "%lld ms", (long long)(stopwatch_us() - t0) / 1000);
		t0 = stopwatch_us();
		CHECK(wait_deployment("d", "ready", 1000));
		CHECK_MSG(stopwatch_us() - t0 < 1000000 * SLOWER, "%lld ms", (long long)(stopwatch_us() - t0) / 1000);
		CHECK_INT(classify("d", 1, 10, 20000, &err, &reply), WASD_OK);
		CHECK(reply && wasd_json_str(reply, "mode", &mode) && !strcmp(mode, "dom"));
		cJSON_Delete(reply);
	}
	/* The third crash within the window is one too many. */
	CHECK_INT(classify("d", 66, 10, 5000, &err, NULL), WASD_EBUSY);
	CHECK(is_suspended("d"));
	CHECK_INT(classify("d", 1, 10, 500, &err, NULL), WASD_EBUSY);
	/* Asking again is a new chance. */
	CHECK_INT(serve_changed(serving, "d", &err), WASD_OK);
	CHECK(wait_deployment("d", "ready", 3000));
	CHECK_INT(classify("d", 1, 10, 20000, &err, NULL), WASD_OK);
	/* A checkpoint that cannot be loaded, and one that kills the process: the first deployment is not harmed by the
	 * former. */
	deploy("refused", "refuse");
	CHECK(wait_deployment("refused", "failed", 3000));
	CHECK_INT(classify("d", 1, 10, 20000, &err, NULL), WASD_OK);
	CHECK_INT(serve_gone(serving, "d", &err), WASD_OK);
	CHECK_INT(serve_gone(serving, "refused", &err), WASD_OK);
	CHECK_INT(classify("d", 1, 10, 500, &err, NULL), WASD_ENOTFOUND);
	stop();
}

/* ---- profiles ---------------------------------------------------------------------------------------------- */

static void ask_for(const char *ckpt, const char *name)
{
	struct wasd_err err = {0};
	struct storage_profile_in in = {.checkpoint = ckpt,
	                                .name = name,
	                                .desire = "macs",
	                                .request = "{\"desire\":\"macs\",\"budget\":0.7}",
	                                .dataset = "d",
	                                .dataset_version = 1,
	                                .actor = "t"};
	CHECK_MSG(storage_profile_begin(db, &in, NULL, NULL, &err) == WASD_OK, "%s", err.msg);
	profiles_poke(profiles);
}

static struct storage_profile wait_profile(const char *ckpt, const char *name, const char *states)
{
	int64_t until = wasd_mono_us() + 6000000 * PATIENCE;
	for (;;) {
		struct storage_profile p = {0};
		storage_profile_get(db, ckpt, name, &p, NULL);
		bool is = p.state && strstr(states, p.state);
		if (is || wasd_mono_us() > until) {
			CHECK_MSG(is, "%s is %s (%s), not %s", name, p.state, p.message, states);
			return p;
		}
		storage_profile_done(&p);
		poll(NULL, 0, 5);
	}
}

static void profile_becomes(const char *ckpt, const char *name, const char *state)
{
	struct storage_profile p = wait_profile(ckpt, name, state);
	storage_profile_done(&p);
}

static void searches(void)
{
	static const struct {
		const char *name, *state, *in_message;
	} cases[] = {
		{"fine", "ready", NULL},
		{"refused", "failed", "/draw/3: no such transform"},
		{"told", "failed", "/budget: too small"},
		{"nowhere", "failed", "not a number"},
		{"dies", "failed", "signal 11"},
		{"quits", "failed", "ended early"},
		{"panics", "failed", "panic: out of cheese"},
		{"garbage", "failed", "broke the protocol"},
		{"silent", "failed", "no heartbeat"},
		{"backwards", "failed", "progress of 4 of 3"},
		{"surprise", "failed", "unknown message surprise"},
		{"unsealed", "failed", "broke the protocol"},
		{"short", "failed", "broke the protocol"},
		{"nofile", "failed", "memory file"},
		{"toobig", "failed", "the most is 16777216"},
		{"wrongsha", "failed", "SHA-256"},
		{"noinfo", "failed", "profile without a proper info"},
		{"twice", "failed", "profile after its end"},
	};
	char ckpt[32], path[128];
	start(1);
	make_ckpt("fine", ckpt);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		ask_for(ckpt, cases[i].name);
		struct storage_profile p = wait_profile(ckpt, cases[i].name, "ready,failed");
		CHECK_MSG(!strcmp(p.state, cases[i].state), "%s is %s: %s", cases[i].name, p.state, p.message);
		CHECK_MSG(!cases[i].in_message || (p.message && strstr(p.message, cases[i].in_message)), "%s: %s",
		          cases[i].name, p.message);
		CHECK_INT(p.info != NULL, !strcmp(cases[i].state, "ready"));
		storage_profile_done(&p);
	}
	/* Without its data set there is nothing to judge by. */
	snprintf(path, sizeof path, "%s/d.wds", dir);
	unlink(path);
	ask_for(ckpt, "blind");
	struct storage_profile p = wait_profile(ckpt, "blind", "failed");
	CHECK_MSG(p.message && strstr(p.message, "d.wds is missing"), "%s", p.message);
	storage_profile_done(&p);
	stop();
}

static void wait_progress(const char *id)
{
	int64_t done = 0, of = 0, until = wasd_mono_us() + 5000000 * PATIENCE;
	double eta_s;
	while (!(profiles_progress(profiles, id, &done, &of, &eta_s) && done == 1 && of == 3) && wasd_mono_us() < until)
		poll(NULL, 0, 5);
	CHECK(done == 1 && of == 3);
}

static void searches_that_are_ended(void)
{
	char ckpt[32];
	struct storage_recovered_list l = {0};
	struct wasd_err err = {0};
	int64_t n;
	double x;
	start(1);
	make_ckpt("fine", ckpt);
	/* One that is deleted ends, and the next has its turn. */
	ask_for(ckpt, "slow");
	ask_for(ckpt, "fine");
	struct storage_profile p = wait_profile(ckpt, "slow", "searching");
	wait_progress(p.id);
	profile_becomes(ckpt, "fine", "queued");
	CHECK_INT(storage_profile_delete(db, ckpt, "slow", "t", &err), WASD_OK);
	profiles_gone(profiles, ckpt, p.id);
	storage_profile_done(&p);
	profile_becomes(ckpt, "fine", "ready");
	CHECK(!profiles_progress(profiles, "none", &n, &n, &x));
	/* The daemon stops: the row stays, and the next start asks again. */
	ask_for(ckpt, "slow");
	p = wait_profile(ckpt, "slow", "searching");
	wait_progress(p.id);
	profiles_stop(profiles);
	for (int i = 0; i < 400 && profiles_progress(profiles, p.id, &n, &n, &x); i++)
		poll(NULL, 0, 10);
	storage_profile_done(&p);
	profile_becomes(ckpt, "slow", "searching");
	CHECK_INT(storage_recover(db, &l, &err), WASD_OK);
	storage_recovered_list_done(&l);
	profile_becomes(ckpt, "slow", "queued");
	stop();
}

static bool log_says(const char *id, const char *text)
{
	struct storage_log_list l = {0};
	struct storage_log_query q = {.level = "info"};
	bool said = false;
	storage_log_read(db, id, &q, &l, NULL);
	for (size_t i = 0; i < l.n; i++)
		said |= strstr(l.items[i].text, text) != NULL;
	storage_log_list_done(&l);
	return said;
}

static void best_of(const char *id, char ckpt[32])
{
	struct storage_ckpt c = {0};
	CHECK_INT(storage_ckpt_pick(db, id, "best", &c, NULL), WASD_OK);
	snprintf(ckpt, 32, "%s", c.id ? c.id : "");
	storage_ckpt_done(&c);
}

static void is_searching(const char *id, const char *name, char ckpt[32])
{
	struct storage_profile p = {0};
	for (int i = 0; i < 800 * PATIENCE && storage_profile_of_job(db, id, &p, NULL, NULL) != WASD_OK; i++)
		poll(NULL, 0, 10);
	snprintf(ckpt, 32, "%s", p.checkpoint ? p.checkpoint : "");
	storage_profile_done(&p);
	p = wait_profile(ckpt, name, "searching");
	wait_progress(p.id);
	storage_profile_done(&p);
}

/* The process that searches. */
static pid_t searcher(void)
{
	cJSON *list = supervisor_processes(sup), *p;
	const char *role;
	int64_t pid = -1;
	cJSON_ArrayForEach(p, list)
		if (wasd_json_str(p, "role", &role) && !strcmp(role, "profile"))
			wasd_json_i64(p, "pid", &pid);
	cJSON_Delete(list);
	return (pid_t)pid;
}

#define PROFILE(name) "{\"name\":\"" name "\",\"desire\":\"macs\",\"budget\":0.7}"

static void profiles_of_jobs(void)
{
	char id[48], next[48], ckpt[32];
	struct wasd_err err = {0};
	start(1);
	/* Completed when all of them are settled; which one failed is said in its message and in its log. */
	submit_with("good", 0, "", ",\"profiles\":[" PROFILE("fine") "," PROFILE("refused") "]", id);
	struct storage_job j = wait_state(id, "completed,failed", 8000);
	CHECK_STR(j.state, "completed");
	CHECK_STR(j.message, "profile refused: /draw/3: no such transform");
	storage_job_done(&j);
	best_of(id, ckpt);
	profile_becomes(ckpt, "fine", "ready");
	profile_becomes(ckpt, "refused", "failed");
	CHECK(log_says(id, "searching 2 profiles") && log_says(id, "profile fine is ready") &&
	      log_says(id, "profile refused: /draw/3: no such transform"));
	/* A training that fails has none. */
	submit_with("exit7", 0, "", ",\"profiles\":[" PROFILE("fine") "]", id);
	j = wait_state(id, "failed", 8000);
	storage_job_done(&j);
	CHECK(!log_says(id, "searching"));
	/* Wherever its process is killed, they are asked for once the training has come to its end, and once. */
	submit_with("late", 3, "", ",\"profiles\":[" PROFILE("fine") "]", id);
	j = wait_state(id, "completed,failed", 8000);
	CHECK(!strcmp(j.state, "completed") && !j.message && j.attempt == 3);
	storage_job_done(&j);
	best_of(id, ckpt);
	profile_becomes(ckpt, "fine", "ready");
	/* A search that is killed has failed, and the job says so. */
	submit_with("good", 0, "", ",\"profiles\":[" PROFILE("slow") "," PROFILE("fine") "]", id);
	is_searching(id, "slow", ckpt);
	CHECK(kill(searcher(), SIGKILL) == 0);
	j = wait_state(id, "completed", 8000);
	CHECK_MSG(j.message && strstr(j.message, "profile slow: the search ended early: signal 9"), "%s", j.message);
	storage_job_done(&j);
	profile_becomes(ckpt, "fine", "ready");
	/* A search takes the place of a worker; after it the next job has its turn. */
	submit_with("good", 0, "", ",\"profiles\":[" PROFILE("slow") "]", id);
	is_searching(id, "slow", ckpt);
	submit("good", 0, "", next);
	CHECK(sched_idle(jobs));
	j = wait_state(next, "queued", 1000);
	storage_job_done(&j);
	/* Cancelled while only its profiles are searched: it is cancelled, and they are not searched any more. */
	CHECK_INT(sched_cancel(jobs, id, false, "", &err), WASD_OK);
	j = wait_state(id, "cancelled", 1000);
	CHECK_STR(j.reason, "user");
	storage_job_done(&j);
	struct storage_profile p = wait_profile(ckpt, "slow", "failed");
	CHECK_STR(p.message, "its job was cancelled");
	storage_profile_done(&p);
	CHECK_INT(sched_cancel(jobs, id, false, "", &err), WASD_ESTATE);
	j = wait_state(next, "completed", 8000);
	storage_job_done(&j);
	ask_for(ckpt, "fine"); /* the search that nobody wants has ended, or this would wait for ever */
	profile_becomes(ckpt, "fine", "ready");
	stop();
}

/* The daemon ends, in order or not, while a job runs only for its profiles: the job stays what it is and is completed
 * when they are there. */
static void profiles_of_jobs_across_starts(void)
{
	char id[48], ckpt[32], path[64];
	struct storage_recovered_list l = {0};
	struct wasd_err err = {0};
	fault_file(path, getpid());
	start(1);
	submit_with("good", 0, "", ",\"profiles\":[" PROFILE("slow") "," PROFILE("fine") "]", id);
	is_searching(id, "slow", ckpt);
	sched_drain(jobs);
	CHECK(sched_idle(jobs));
	profiles_stop(profiles);
	struct storage_job j = wait_state(id, "running", 1000);
	CHECK_STR(j.trained, "done");
	storage_job_done(&j);
	int64_t n;
	double x;
	struct storage_profile p = wait_profile(ckpt, "slow", "searching");
	for (int i = 0; i < 400 * PATIENCE && profiles_progress(profiles, p.id, &n, &n, &x); i++)
		poll(NULL, 0, 10);
	storage_profile_done(&p);
	CHECK_INT(storage_recover(db, &l, &err), WASD_OK);
	CHECK_INT(l.n, 0);
	storage_recovered_list_done(&l);
	j = wait_state(id, "running", 1000);
	storage_job_done(&j);
	profile_becomes(ckpt, "slow", "queued");
	profile_becomes(ckpt, "fine", "queued");
	stop_parts();
	/* The next start. */
	fclose(fopen(path, "w"));
	start_parts(1);
	j = wait_state(id, "completed", 8000);
	CHECK(!j.message && j.attempt == 1);
	storage_job_done(&j);
	profile_becomes(ckpt, "slow", "ready");
	profile_becomes(ckpt, "fine", "ready");
	unlink(path);
	stop();
}

static void mode_becomes(const char *deployment, const char *mode, bool there)
{
	int64_t until = wasd_mono_us() + 4000000 * PATIENCE;
	for (;;) {
		cJSON *info = serve_info(serving, deployment);
		bool is = wasd_json_get(wasd_json_get(info, "modes"), mode) != NULL;
		cJSON_Delete(info);
		bool late = wasd_mono_us() > until;
		CHECK_MSG(is == there || !late, "%s is %s", mode, is ? "still there" : "not there");
		if (is == there || late)
			return;
		poll(NULL, 0, 5);
	}
}

static void serving_profiles(void)
{
	char ckpt[32], audit[64];
	struct wasd_err err = {0};
	struct api_live now, before;
	int64_t swap_us, old;
	cJSON *reply;
	const char *mode;
	start(1);
	make_ckpt("fine", ckpt);
	ask_for(ckpt, "fast");
	ask_for(ckpt, "unserved");
	profile_becomes(ckpt, "fast", "ready");
	profile_becomes(ckpt, "unserved", "ready");
	/* What is ready comes along, but for what cannot be loaded. */
	deploy_ckpt("d", ckpt);
	CHECK(wait_deployment("d", "ready", 4000));
	mode_becomes("d", "dom:fast", true);
	mode_becomes("d", "dom:unserved", false);
	/* Another one comes while it is served, and can be switched to. */
	ask_for(ckpt, "live");
	mode_becomes("d", "dom:live", true);
	CHECK_INT(serve_mode(serving, "d", "dom:none", -1, "t", "r", &now, &before, &swap_us, &old, audit, &err),
	          WASD_EBUSY);
	CHECK_MSG(serve_mode(serving, "d", "dom:live", -1, "t", "r", &now, &before, &swap_us, &old, audit, &err) == WASD_OK,
	          "%s", err.msg);
	CHECK_STR(now.mode, "dom:live");
	CHECK_INT(classify("d", 1, 10, 20000, &err, &reply), WASD_OK);
	CHECK(wasd_json_str(reply, "mode", &mode) && !strcmp(mode, "dom:live"));
	cJSON_Delete(reply);
	/* After a crash all of them are there again, and the mode with them. */
	CHECK_INT(classify("d", 66, 10, 5000, &err, NULL), WASD_EBUSY);
	CHECK(wait_deployment("d", "ready", 2000));
	CHECK_INT(classify("d", 1, 10, 20000, &err, &reply), WASD_OK);
	CHECK(wasd_json_str(reply, "mode", &mode) && !strcmp(mode, "dom:live"));
	cJSON_Delete(reply);
	mode_becomes("d", "dom:fast", true);
	/* What answers is not deleted; what does not is gone at once. */
	CHECK_INT(storage_profile_delete(db, ckpt, "live", "t", &err), WASD_ESTATE);
	CHECK_INT(storage_profile_delete(db, ckpt, "fast", "t", &err), WASD_OK);
	serve_profiles_changed(serving, ckpt);
	mode_becomes("d", "dom:fast", false);
	mode_becomes("d", "dom:live", true);
	/* The same name again is another profile. */
	ask_for(ckpt, "fast");
	mode_becomes("d", "dom:fast", true);
	serve_profiles_changed(serving, "ckpt_none");
	CHECK_INT(serve_gone(serving, "d", &err), WASD_OK);
	stop();
}

static void bundle_that_crashes(void)
{
	struct wasd_err err;
	start(1);
	deploy("d", "fine");
	CHECK(wait_deployment("d", "ready", 4000));
	deploy("c", "crash");
	CHECK(wait_deployment("c", "failed", 5000));
	CHECK(is_suspended("c"));
	CHECK(wait_deployment("d", "ready", 4000));
	CHECK_INT(classify("d", 1, 10, 20000, &err, NULL), WASD_OK);
	stop();
}

static void hung_call_does_not_outlive_the_stop(void)
{
	struct wasd_err err;
	start(1);
	deploy("d", "fine");
	if (wait_deployment("d", "ready", 4000))
		CHECK_INT(classify("d", 69, 10, 50, &err, NULL), WASD_EBUSY);
	stop();
}

int main(int argc, char **argv)
{
	fake_engine_main(argc, argv);
	stopwatch_start();
	log_set_level(LOG_ERROR);
	TEST_RUN(one_attempt);
	TEST_RUN(before_the_start);
	TEST_RUN(retries);
	TEST_RUN(floods);
	TEST_RUN(cancels);
	TEST_RUN(says_how_far_it_is);
	TEST_RUN(no_worker_can_start);
	TEST_RUN(drain);
	TEST_RUN(attempt_without_memory);
	TEST_RUN(ingests);
	TEST_RUN(searches);
	TEST_RUN(searches_that_are_ended);
	TEST_RUN(profiles_of_jobs);
	TEST_RUN(profiles_of_jobs_across_starts);
	TEST_RUN(serving_profiles);
	TEST_RUN(serving_faults);
	TEST_RUN(the_one_that_kills);
	TEST_RUN(deaths_of_nobody);
	TEST_RUN(large_answers);
	TEST_RUN(bundle_that_crashes);
	TEST_RUN(hung_call_does_not_outlive_the_stop);
	TEST_END();
}
