/* tests/server/faults.h - shared by the programs faults_*.c: runs the daemon's parts with a misbehaving engine
 * (fake_engine.h). Whatever the engine does, the rows reach the right end state, nothing invalid is stored, and
 * the daemon keeps running. */
#ifndef TESTS_SERVER_FAULTS_H
#define TESTS_SERVER_FAULTS_H

#include "check.h"
#include "fake_engine.h"
#include "jobs/ingest.h"
#include "log.h"
#include "jobs/archive.h"
#include "jobs/merge.h"
#include "jobs/search.h"
#include "jobs/scheduler.h"
#include "serving/serving.h"

#include <dirent.h>
#include <sys/stat.h>

/* PATIENCE scales timeouts that only bound a failure; a machine that stalls for seconds must not fail a test. */
#ifdef WASD_SANITIZED
enum { SLOWER = 4 }; /* factor for promised times: sanitizers make everything slower */
#else
enum { SLOWER = 1 };
#endif
enum { PATIENCE = 20 * SLOWER, PATIENCE_MS = 600000 };

static struct storage *db;
static struct supervisor *sup;
static struct sched *jobs;
static struct serving *serving;
static struct ingest *ingest;
static struct profiles *profiles;
static struct merges *merges;
static struct archives *archives;
static int archive_idle_ms = 3600000, archive_keep_ms = 3600000;
static uint64_t quota; /* bytes; 0: none */
static char dir[64], engine[128];
/* Used by start. A test of one of these limits sets its own; in the others a process that has no turn for a while must
 * not run into it. */
static int aside_ms = PATIENCE_MS, backoff_ms = 300;
static int heartbeat_ms = PATIENCE_MS, cancel_ms = PATIENCE_MS, kill_ms = PATIENCE_MS;

__attribute__((unused)) static void profiles_changed(void *ctx)
{
	(void)ctx;
	profiles_poke(profiles);
}
__attribute__((unused)) static void profile_settled(void *ctx)
{
	(void)ctx;
	sched_poke(jobs);
}
__attribute__((unused)) static void profile_ready(void *ctx, const char *checkpoint)
{
	(void)ctx;
	serve_profiles_changed(serving, checkpoint);
}

__attribute__((unused)) static void start_parts(int workers)
{
	struct wasd_err err = {0};
	struct storage_opts so = {.low_water_bytes = 1, .ballast_bytes = 4096, .quota_bytes = quota};
	CHECK_MSG(storage_open(dir, &so, &db, &err) == WASD_OK, "%s", err.msg);
	struct supervisor_config sc = {.engine = engine, .heartbeat_ms = heartbeat_ms, .kill_ms = kill_ms, .tick_ms = 50};
	CHECK_INT(supervisor_create(&sc, &sup, &err), WASD_OK);
	struct sched_config jc = {.db = db,
	                          .sup = sup,
	                          .data_dir = dir,
	                          .workers = workers,
	                          .threads = 2,
	                          .cancel_ms = cancel_ms,
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
	                            .crash_window_ms = PATIENCE_MS,
	                            .backoff_ms = backoff_ms,
	                            .aside_ms = aside_ms};
	CHECK_INT(serve_create(&vc, &serving, &err), WASD_OK);
	struct profiles_config pc =
		{.db = db, .sup = sup, .data_dir = dir, .threads = 2, .changed = profile_ready, .settled = profile_settled};
	CHECK_INT(profiles_create(&pc, &profiles, &err), WASD_OK);
	struct merges_config mc = {.db = db, .sup = sup, .data_dir = dir, .threads = 2};
	CHECK_INT(merges_create(&mc, &merges, &err), WASD_OK);
	merges_poke(merges);
	struct archives_config ac =
		{.db = db, .sup = sup, .data_dir = dir, .threads = 2, .idle_ms = archive_idle_ms, .keep_ms = archive_keep_ms};
	CHECK_INT(archives_create(&ac, &archives, &err), WASD_OK);
}

__attribute__((unused)) static void start(int workers)
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
	/* A dataset for training; nothing here opens it. */
	struct storage_dataset d = {0};
	bool existing;
	char path[128];
	snprintf(path, sizeof path, "%s/d.wds", dir);
	fclose(fopen(path, "w"));
	CHECK_INT(storage_dataset_begin(db, "d", "fake", "s", "t", &d, &existing, &err), WASD_OK);
	CHECK_INT(storage_dataset_ready(db, d.id, "fake", "dd", "d.wds", "{}", 1, &err), WASD_OK);
	storage_dataset_done(&d);
}

__attribute__((unused)) static int children(void)
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

__attribute__((unused)) static void stop_parts(void)
{
	ingest_stop(ingest);
	profiles_stop(profiles);
	merges_stop(merges);
	archives_stop(archives);
	serve_stop(serving);
	supervisor_stop(sup);
	sched_stop(jobs);
	profiles_destroy(profiles);
	merges_destroy(merges);
	archives_destroy(archives);
	storage_close(db);
	sched_destroy(jobs);
	ingest_destroy(ingest);
	serve_destroy(serving);
	supervisor_destroy(sup);
}

__attribute__((unused)) static void stop(void)
{
	stop_parts();
	wasd_remove_tree(dir, NULL);
	CHECK_INT(children(), 0);
}

__attribute__((unused)) static void submit_with(const char *fault, int retries, const char *limits, const char *more,
                                                char id[48])
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

__attribute__((unused)) static void submit(const char *fault, int retries, const char *limits, char id[48])
{
	submit_with(fault, retries, limits, "", id);
}

/* Waits until the job is in one of the states (comma list) and, if that state is final, until its worker is free. */
__attribute__((unused)) static struct storage_job wait_state(const char *id, const char *states, int ms)
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

__attribute__((unused)) static size_t points(const char *id)
{
	struct storage_point_list l = {0};
	storage_metric_series(db, id, NULL, 0, &l, NULL);
	size_t n = l.n;
	storage_point_list_done(&l);
	return n;
}

/* Creates a finished job whose checkpoint begins with the given word. */
__attribute__((unused)) static void make_ckpt(const char *word, char ckpt[32])
{
	char id[48], data[64] = "", sha[WASD_SHA256_HEX];
	struct wasd_err err = {0};
	int64_t attempt;
	char *resume = NULL;
	sched_drain(jobs); /* keeps the scheduler from taking this job */
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

__attribute__((unused)) static void ask_for(const char *ckpt, const char *name)
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

__attribute__((unused)) static struct storage_profile wait_profile(const char *ckpt, const char *name,
                                                                   const char *states)
{
	int64_t until = wasd_mono_us() + 6000000ll * PATIENCE;
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

__attribute__((unused)) static void profile_becomes(const char *ckpt, const char *name, const char *state)
{
	struct storage_profile p = wait_profile(ckpt, name, state);
	storage_profile_done(&p);
}

/* Kills the engine process of the given role. */
__attribute__((unused)) static void kill_engine(const char *role)
{
	cJSON *all = supervisor_processes(sup);
	int64_t pid = 0;
	const char *its;
	const cJSON *p;
	cJSON_ArrayForEach(p, all)
		if (wasd_json_str(p, "role", &its) && !strcmp(its, role))
			wasd_json_i64(p, "pid", &pid);
	cJSON_Delete(all);
	CHECK_MSG(pid > 1 && kill((pid_t)pid, SIGKILL) == 0, "no process of role %s to kill", role);
}

#endif
