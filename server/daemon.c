/* daemon.c - start-up, notifications between the parts, and shutdown.
 *
 * Start: lock and open the data directory -> checks, migrations -> recovery of what the last run left -> left-over
 * files removed -> supervisor -> engine tables read -> processes and threads -> listen -> ready. Every step before
 * `listen` may refuse to start with one line on stderr.
 *
 * Shutdown (SIGTERM or SIGINT): not ready -> accept no connections, ask running jobs for a checkpoint -> finish
 * requests in flight -> put jobs back into the queue -> end the processes -> close the database -> exit 0. A second
 * signal exits at once: nothing acknowledged is lost, and running jobs continue from their last checkpoint.
 */
#include "daemon.h"

#include "api.h"
#include "feed.h"
#include "http/connection.h"
#include "jobs/archive.h"
#include "jobs/blobs.h"
#include "jobs/convert.h"
#include "jobs/estimate.h"
#include "jobs/ingest.h"
#include "jobs/merge.h"
#include "jobs/report.h"
#include "jobs/scheduler.h"
#include "jobs/search.h"
#include "leftovers.h"
#include "log.h"
#include "metrics.h"
#include "notify.h"
#include "process/cgroup.h"
#include "process/describe.h"
#include "serving/serving.h"
#include "storage.h"
#include "wasd/machine.h"
#include "webhooks.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	END_AT_MOST_S = 44,
	EXPORT_IDLE_MS = 600000,
	ARCHIVE_IDLE_MS = 3600000,
	ARCHIVE_KEEP_MS = 60000,
	ANSWER_MS = 20000,
	MEASURE_MS = 1500,
	MEASURE_AT_MOST_S = 15
};

struct wasd_daemon {
	const struct config *cfg;
	struct storage *db;
	struct hub *hub;
	struct cgroups *cgroups; /* NULL: none, no_cgroups says why */
	char no_cgroups[sizeof((struct wasd_err){0}.msg)];
	struct supervisor *sup;
	struct sched *jobs;
	struct ingest *ingest;
	struct serving *serving;
	struct convert *convert;
	struct profiles *profiles;
	struct reports *reports;
	struct merges *merges;
	struct archives *archives;
	struct estimates *estimates;
	struct http *http;
	struct describer *describer;
	struct webhooks *webhooks;
	struct api_ctx api;
	struct metrics *metrics;
	int64_t started_ms;
	char *staging;
	struct webhooks *_Atomic hooks; /* the same, once it takes calls */
	_Atomic bool ready, ended, probe_under_way;
};

/* ---- the daemon's own status for the API ---- */

static bool is_ready(struct wasd_daemon *d)
{
	return atomic_load(&d->ready) && !storage_failed(d->db);
}

static void machine(struct wasd_daemon *d, struct wasd_machine *out)
{
	(void)d;
	wasd_machine_read("", out);
}

static void add_number(cJSON *o, const char *name, double v)
{
	if (v > 0)
		cJSON_AddNumberToObject(o, name, v);
	else
		cJSON_AddNullToObject(o, name);
}

/* What of the machine the daemon may use now, and how it is shared. */
static cJSON *machine_json(const struct wasd_daemon *d)
{
	const struct config *c = d->cfg;
	struct wasd_machine m;
	cJSON *o = cJSON_CreateObject();
	wasd_machine_read("", &m);
	cJSON_AddNumberToObject(o, "processors", m.processors);
	cJSON_AddNumberToObject(o, "affinity", m.affinity);
	add_number(o, "quota", m.quota);
	add_number(o, "memory_bytes", (double)m.memory);
	add_number(o, "available_bytes", (double)m.available);
	add_number(o, "memory_limit_bytes", (double)m.memory_limit);
	cJSON_AddStringToObject(o, "job_memory_limit", d->cgroups ? "cgroup" : "rlimit");
	cJSON_AddStringToObject(o, "job_memory_limit_reason", d->no_cgroups);
	cJSON_AddNumberToObject(o, "training_threads", (double)c->threads);
	cJSON_AddNumberToObject(o, "inference_threads", (double)c->infer_threads);
	cJSON_AddNumberToObject(o, "inference_reserved_threads", (double)c->infer_reserved_threads);
	return o;
}

static cJSON *report(struct wasd_daemon *d)
{
	struct storage_health h;
	struct storage_disk room;
	char when[WASD_RFC3339_LEN];
	storage_health(d->db, &h);
	storage_disk(d->db, &room);
	wasd_rfc3339(d->started_ms, when);
	cJSON *o = cJSON_CreateObject();
	cJSON_AddStringToObject(o, "version", WASD_VERSION);
	cJSON_AddNumberToObject(o, "pid", getpid());
	cJSON_AddStringToObject(o, "started_at", when);
	cJSON_AddNumberToObject(o, "uptime_s", (double)((wasd_now_ms() - d->started_ms) / 1000));
	cJSON_AddBoolToObject(o, "ready", is_ready(d));
	cJSON_AddStringToObject(o, "address", http_address(d->http));
	cJSON_AddStringToObject(o, "data_dir", d->cfg->data);
	cJSON_AddStringToObject(o, "engine", d->cfg->engine);
	cJSON_AddNumberToObject(o, "threads", (double)d->cfg->threads);
	cJSON_AddItemToObject(o, "machine", machine_json(d));
	cJSON_AddItemToObject(o, "workers", sched_workers(d->jobs));
	cJSON_AddItemToObject(o, "serving", serve_status(d->serving));
	cJSON_AddItemToObject(o, "processes", supervisor_processes(d->sup));
	cJSON *disk = cJSON_AddObjectToObject(o, "disk");
	cJSON_AddNumberToObject(disk, "free_bytes", (double)room.free);
	cJSON_AddNumberToObject(disk, "low_water_bytes", (double)room.low_water);
	cJSON_AddBoolToObject(disk, "low", room.low);
	cJSON_AddStringToObject(disk, "reason", room.low ? room.reason : "");
	cJSON_AddStringToObject(disk, "message", room.message);
	cJSON_AddNumberToObject(disk, "quota_bytes", (double)room.quota);
	cJSON_AddNumberToObject(disk, "quota_used_bytes", (double)room.used);
	cJSON *st = cJSON_AddObjectToObject(o, "storage");
	cJSON_AddBoolToObject(st, "failed", h.failed);
	cJSON_AddStringToObject(st, "message", h.message);
	cJSON_AddNumberToObject(st, "db_bytes", (double)h.db_bytes);
	cJSON_AddNumberToObject(st, "wal_bytes", (double)h.wal_bytes);
	cJSON_AddNumberToObject(st, "checkpoint_bytes", (double)h.ckpt_bytes);
	cJSON_AddNumberToObject(st, "commits", (double)h.commits);
	cJSON_AddNumberToObject(st, "queued_writes", h.queued_writes);
	cJSON *http = cJSON_AddObjectToObject(o, "http");
	cJSON_AddNumberToObject(http, "connections", http_connections(d->http));
	cJSON_AddNumberToObject(http, "event_streams", hub_streams(d->hub));
	return o;
}

/* ---- notifications between the parts ---- */

static void events_stored(void *ctx, int64_t last_seq)
{
	struct wasd_daemon *d = ctx;
	(void)last_seq;
	if (d->hub)
		hub_poke(d->hub);
	webhooks_event(atomic_load(&d->hooks));
}

static void dataset_ready(void *ctx)
{
	sched_poke(((struct wasd_daemon *)ctx)->jobs);
}

static void profiles_queued(void *ctx)
{
	profiles_poke(((struct wasd_daemon *)ctx)->profiles);
}

static void checkpoint_stored(void *ctx, const char *job)
{
	struct wasd_daemon *d = ctx;
	if (d->serving)
		serve_checkpoint_stored(d->serving, job);
}

static bool deployed(void *ctx)
{
	struct wasd_daemon *d = ctx;
	return d->serving && serve_any(d->serving);
}

static void to_load(void *ctx)
{
	struct wasd_daemon *d = ctx;
	if (d->serving)
		serve_deployed(d->serving);
}

static void profiles_changed(void *ctx, const char *checkpoint)
{
	serve_profiles_changed(((struct wasd_daemon *)ctx)->serving, checkpoint);
}

static void profile_settled(void *ctx)
{
	sched_poke(((struct wasd_daemon *)ctx)->jobs);
}

static enum wasd_status space(void *ctx, uint64_t more, struct wasd_err *err)
{
	return storage_space(ctx, more, err);
}

/* ---- start ------------------------------------------------------------------------------------------------------- */

/* Raises the descriptor limit as far as allowed, and lowers max_connections to fit it: a connection that cannot be
 * accepted would keep the listening socket readable and the I/O threads busy. */
static void fit_file_limit(struct config *c)
{
	enum { OURS = 200 }; /* databases, checkpoints, engine processes */
	struct rlimit r;
	if (getrlimit(RLIMIT_NOFILE, &r))
		return;
	if (r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max < 65536 ? r.rlim_max : 65536;
		setrlimit(RLIMIT_NOFILE, &r);
		getrlimit(RLIMIT_NOFILE, &r);
	}
	int64_t room = r.rlim_cur > OURS + 20 ? (int64_t)r.rlim_cur - OURS : 20;
	if (c->max_connections > room) {
		log_line(LOG_WARN, "max_connections lowered to fit the open file limit", "max_connections=%lld open_files=%lld",
		         (long long)room, (long long)r.rlim_cur);
		c->max_connections = room;
	}
}

static enum wasd_status recover(struct wasd_daemon *d, struct wasd_err *err)
{
	struct storage_recovered_list l = {0};
	enum wasd_status s = storage_recover(d->db, &l, err);
	for (size_t i = 0; s == WASD_OK && i < l.n; i++)
		log_line(LOG_INFO, "job recovered", "job=%s from=%s to=%s", l.items[i].job, l.items[i].from, l.items[i].to);
	storage_recovered_list_done(&l);
	return s;
}

/* Says once by what limits.memory_mb is enforced. Before any engine process starts. */
static void open_cgroups(struct wasd_daemon *d)
{
	struct wasd_err err;
	if (cgroups_open(&(struct cgroup_files){.root = ""}, &d->cgroups, &err) == WASD_OK) {
		log_line(LOG_INFO, "memory of jobs is limited by control groups", "group=%s", LOG_Q(cgroups_path(d->cgroups)));
		return;
	}
	snprintf(d->no_cgroups, sizeof d->no_cgroups, "%s", err.msg);
	log_line(LOG_INFO, "memory of jobs is limited by rlimit", "reason=%s", LOG_Q(err.msg));
}

static enum wasd_status start_parts(struct wasd_daemon *d, struct wasd_err *err)
{
	const struct config *c = d->cfg;
	d->metrics = metrics_create();
	if (!d->metrics)
		return wasd_fail(err, WASD_ENOMEM, "no memory for the metrics");
	open_cgroups(d);
	struct supervisor_config sc = {.engine = c->engine,
	                               .heartbeat_ms = (int)c->worker_silence_ms,
	                               .kill_ms = (int)c->kill_after_ms,
	                               .tick_ms = 200,
	                               .cgroups = d->cgroups};
	enum wasd_status s = supervisor_create(&sc, &d->sup, err);
	if (s != WASD_OK)
		return s;
	struct describer_config dc = {.sup = d->sup, .engine = c->engine, .data_dir = c->data, .answer_ms = ANSWER_MS};
	s = describer_create(&dc, &d->describer, err);
	if (s != WASD_OK)
		return s;
	struct hub_source src = feed_of(d->db);
	s = hub_create(&src, (struct hub_config){(int)c->sse_heartbeat_ms, (int)c->max_streams}, &d->hub, err);
	if (s != WASD_OK)
		return s;
	struct api_engine caps = describer_api(d->describer);
	struct sched_config jc = {.db = d->db,
	                          .sup = d->sup,
	                          .metrics = d->metrics,
	                          .capabilities = caps.capabilities(caps.self),
	                          .data_dir = c->data,
	                          .workers = (int)c->workers,
	                          .threads = (int)c->threads,
	                          .reserved = (int)c->infer_reserved_threads,
	                          .deployed = deployed,
	                          .cancel_ms = (int)c->cancel_timeout_ms,
	                          .sample_ms = (int)c->sample_ms,
	                          .backoff_scale_ms = (int)c->retry_second_ms,
	                          .profiles_changed = profiles_queued,
	                          .checkpoint_stored = checkpoint_stored,
	                          .to_load = to_load,
	                          .ctx = d};
	s = sched_create(&jc, &d->jobs, err);
	if (s != WASD_OK)
		return s;
	struct ingest_config ic = {.db = d->db,
	                           .sup = d->sup,
	                           .data_dir = c->data,
	                           .at_once = (int)c->ingest_parallel,
	                           .max_bytes = (uint64_t)c->max_dataset_mb << 20,
	                           .max_images = 100000000,
	                           .dataset_ready = dataset_ready,
	                           .ctx = d};
	s = ingest_create(&ic, &d->ingest, err);
	if (s != WASD_OK)
		return s;
	struct serving_config vc = {.db = d->db,
	                            .sup = d->sup,
	                            .metrics = d->metrics,
	                            .data_dir = c->data,
	                            .threads = (int)c->infer_threads,
	                            .tune_threads = (int)c->threads,
	                            .max_questions = 512,
	                            .crashes = 5,
	                            .crash_window_ms = 60000,
	                            .backoff_ms = 1000,
	                            .aside_ms = 60000};
	s = serve_create(&vc, &d->serving, err);
	if (s != WASD_OK)
		return s;
	struct profiles_config pc = {.db = d->db,
	                             .sup = d->sup,
	                             .data_dir = c->data,
	                             .threads = (int)c->threads,
	                             .changed = profiles_changed,
	                             .settled = profile_settled,
	                             .ctx = d};
	s = profiles_create(&pc, &d->profiles, err);
	if (s != WASD_OK)
		return s;
	struct reports_config rc = {.db = d->db, .sup = d->sup, .data_dir = c->data, .threads = (int)c->threads};
	s = reports_create(&rc, &d->reports, err);
	if (s != WASD_OK)
		return s;
	struct merges_config mc = {.db = d->db, .sup = d->sup, .data_dir = c->data, .threads = (int)c->threads};
	s = merges_create(&mc, &d->merges, err);
	if (s != WASD_OK)
		return s;
	struct archives_config ac = {.db = d->db,
	                             .sup = d->sup,
	                             .data_dir = c->data,
	                             .threads = (int)c->threads,
	                             .idle_ms = ARCHIVE_IDLE_MS,
	                             .keep_ms = ARCHIVE_KEEP_MS};
	s = archives_create(&ac, &d->archives, err);
	if (s != WASD_OK)
		return s;
	struct estimates_config ec = {.sup = d->sup,
	                              .data_dir = c->data,
	                              .answer_ms = ANSWER_MS,
	                              .budget_ms = MEASURE_MS,
	                              .limit_s = MEASURE_AT_MOST_S};
	s = estimates_create(&ec, &d->estimates, err);
	if (s != WASD_OK)
		return s;
	struct convert_config cc = {.db = d->db, .sup = d->sup, .data_dir = c->data, .idle_ms = EXPORT_IDLE_MS};
	s = convert_create(&cc, &d->convert, err);
	if (s != WASD_OK)
		return s;
	struct webhooks_config wc = {.db = d->db,
	                             .timeout_ms = (int)c->webhook_timeout_ms,
	                             .retry_ms = (int)c->webhook_retry_ms};
	s = webhooks_create(&wc, &d->webhooks, err);
	if (s != WASD_OK)
		return s;
	atomic_store(&d->hooks, d->webhooks);
	d->api = (struct api_ctx){.db = d->db,
	                          .jobs = sched_api(d->jobs),
	                          .profiles = profiles_api(d->profiles),
	                          .reports = reports_api(d->reports),
	                          .merges = merges_api(d->merges),
	                          .archives = archives_api(d->archives),
	                          .estimates = estimates_api(d->estimates),
	                          .data = ingest_api(d->ingest),
	                          .blobs = blobs_api(c->data),
	                          .files = convert_api(d->convert),
	                          .serving = serve_api(d->serving),
	                          .engine = describer_api(d->describer),
	                          .webhooks = webhooks_api(d->webhooks),
	                          .system = {.self = d, .report = report, .ready = is_ready, .machine = machine},
	                          .metrics = d->metrics,
	                          .triton_aliases = c->metrics_triton_aliases};
	struct http_config hc;
	http_config_default(&hc);
	hc.listen = c->listen;
	hc.insecure = c->insecure;
	hc.staging = d->staging;
	hc.worker_threads = (int)c->http_threads;
	hc.max_connections = (int)c->max_connections;
	hc.max_per_ip = (int)c->max_per_ip;
	hc.max_per_loopback = (int)c->max_per_loopback;
	hc.max_streams = (int)c->max_streams;
	hc.heartbeat_ms = (int)c->sse_heartbeat_ms;
	hc.header_ms = (int)c->header_timeout_ms;
	hc.idle_ms = (int)c->idle_timeout_ms;
	hc.grace_ms = (int)c->slow_after_ms;
	hc.min_rate = (int)c->slow_bytes_per_s;
	hc.lim.request_ms = (int)c->request_timeout_ms;
	hc.lim.upload_bytes = (uint64_t)c->max_upload_mb << 20;
	struct exchange_app app = {.find = api_route_find,
	                           .handle = api_handle,
	                           .ctx = &d->api,
	                           .space = {.check = space, .ctx = d->db}};
	return http_start(&hc, &app, d->hub, &d->http, err);
}

/* Names the file in which engines remember the fastest algorithms for this machine. Set before any thread starts;
 * process/launch.c passes it to the engines. */
static enum wasd_status name_tuning_file(const struct config *cfg, struct wasd_err *err)
{
	char *path = wasd_asprintf("%s/tuning.tsv", cfg->data);
	bool good = path && setenv("WASD_TUNING", path, 1) == 0;
	wasd_free(path);
	return good ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "no memory");
}

static enum wasd_status start(struct wasd_daemon *d, struct wasd_err *err)
{
	struct storage_opts so = {.low_water_bytes = (uint64_t)d->cfg->low_water_mb << 20,
	                          .quota_bytes = (uint64_t)d->cfg->quota_mb << 20};
	enum wasd_status s = storage_open(d->cfg->data, &so, &d->db, err);
	if (s != WASD_OK)
		return s;
	storage_on_events(d->db, events_stored, d);
	s = recover(d, err);
	if (s != WASD_OK)
		return s;
	leftovers_remove(d->db, d->cfg->data, d->staging);
	s = start_parts(d, err);
	if (s != WASD_OK)
		return s;
	serve_restore(d->serving);
	sched_poke(d->jobs);
	profiles_poke(d->profiles);
	merges_poke(d->merges);
	return WASD_OK;
}

static enum wasd_status announce(struct wasd_daemon *d, struct wasd_err *err)
{
	const char *a = http_address(d->http);
	char *path = wasd_asprintf("%s/wasd.addr", d->cfg->data), line[100];
	snprintf(line, sizeof line, "%s\n", a);
	enum wasd_status s = path ? wasd_file_write_atomic(path, line, strlen(line), err) :
	                            wasd_fail(err, WASD_ENOMEM, "no memory");
	wasd_free(path);
	if (s == WASD_EFULL) /* only the client's default address is then missing */
		log_line(LOG_WARN, "cannot write wasd.addr", "why=%s", LOG_Q(err->msg));
	else if (s != WASD_OK)
		return s;
	printf(
		"wasd: listening on http://%s (data %s)\n"
		"dashboard: http://%s/\n"
		"try:\n"
		"  curl -s http://%s/v1/datasets -d '{\"name\":\"glyphs-10k\",\"synthetic\":{\"kind\":\"glyphs\",\"train\":10000,\"test\":2000,\"seed\":1}}' -H 'Content-Type: application/json'\n"
		"  curl -s http://%s/v1/jobs -d '{\"dataset\":\"glyphs-10k\",\"model\":{\"arch\":\"lenet\"},\"train\":{\"epochs\":3}}' -H 'Content-Type: application/json'\n"
		"  curl -s http://%s/v1/jobs\n",
		a, d->cfg->data, a, a, a, a);
	fflush(stdout);
	return WASD_OK;
}

/* ---- shutdown --------------------------------------------------------------------------------------------------- */

static void *end_in_order(void *arg)
{
	struct wasd_daemon *d = arg;
	atomic_store(&d->ready, false);
	int64_t until = wasd_mono_us() + d->cfg->drain_jobs_ms * 1000ll;
	if (d->jobs)
		sched_drain(d->jobs);
	http_stop(d->http, (int)d->cfg->drain_http_ms);
	d->http = NULL;
	ingest_stop(d->ingest);
	profiles_stop(d->profiles);
	reports_stop(d->reports);
	merges_stop(d->merges);
	archives_stop(d->archives);
	estimates_stop(d->estimates);
	serve_stop(d->serving);
	convert_stop(d->convert);
	describer_stop(d->describer);
	while (d->jobs && !sched_idle(d->jobs) && wasd_mono_us() < until) {
		struct timespec ts = {0, 20000000};
		nanosleep(&ts, NULL);
	}
	/* Kills the remaining processes. Closing storage writes the checkpoints that are still queued, so that their jobs
	 * continue from them. */
	supervisor_stop(d->sup);
	sched_stop(d->jobs);
	webhooks_stop(d->webhooks);
	profiles_destroy(d->profiles);
	merges_destroy(d->merges);
	archives_destroy(d->archives);
	storage_close(d->db);
	webhooks_destroy(d->webhooks);
	hub_destroy(d->hub);
	reports_destroy(d->reports);
	estimates_destroy(d->estimates);
	sched_destroy(d->jobs);
	ingest_destroy(d->ingest);
	serve_destroy(d->serving);
	convert_destroy(d->convert);
	supervisor_destroy(d->sup);
	cgroups_close(d->cgroups);
	describer_destroy(d->describer);
	metrics_destroy(d->metrics);
	wasd_free(d->staging);
	atomic_store(&d->ended, true);
	kill(getpid(), SIGUSR1); /* wakes the thread that waits for signals */
	return NULL;
}

static enum wasd_status write_nothing(struct storage *s, void *ctx, struct wasd_err *err)
{
	(void)s, (void)ctx, (void)err;
	return WASD_OK;
}

static void wrote_nothing(void *ctx, enum wasd_status status, const struct wasd_err *err)
{
	struct wasd_daemon *d = ctx;
	(void)status, (void)err;
	atomic_store(&d->probe_under_way, false);
}

/* True if the supervisor's loop and the database's writer have made progress since the last call. */
static bool alive(struct wasd_daemon *d, uint64_t *beats)
{
	uint64_t now = supervisor_beats(d->sup);
	bool ok = now != *beats && !storage_failed(d->db) && !atomic_load(&d->probe_under_way);
	*beats = now;
	if (!atomic_exchange(&d->probe_under_way, true))
		storage_tx_async(d->db, write_nothing, d, wrote_nothing);
	return ok;
}

static bool in_time(int64_t since_us, int seconds)
{
	return wasd_mono_us() - since_us < seconds * 1000000ll;
}

/* Waits for signals on the main thread; all other work runs on other threads. */
static int wait_for_the_end(struct wasd_daemon *d, const sigset_t *signals)
{
	int64_t watchdog = notify_watchdog_us(), next_ping = 0, ending_since = 0;
	uint64_t beats = 0;
	pthread_t ender;
	int rc = 0;
	for (;;) {
		struct timespec ts = {0, 500000000};
		int sig = sigtimedwait(signals, NULL, &ts);
		if (atomic_load(&d->ended)) {
			pthread_join(ender, NULL);
			return rc;
		}
		if (sig == SIGTERM || sig == SIGINT) {
			if (ending_since) {
				log_line(LOG_WARN, "second signal, exiting at once", "signal=%d", sig);
				_exit(rc);
			}
			log_line(LOG_INFO, "stopping", "signal=%d", sig);
		}
		bool broken = !ending_since && storage_failed(d->db);
		if (broken) {
			log_line(LOG_ERROR, "storage has failed, stopping for a restart", "data=%s", LOG_Q(d->cfg->data));
			rc = 1;
		}
		if ((sig == SIGTERM || sig == SIGINT || broken) && !ending_since) {
			ending_since = wasd_mono_us();
			notify_service("STOPPING=1");
			if (pthread_create(&ender, NULL, end_in_order, d))
				_exit(1);
		}
		if (ending_since && !in_time(ending_since, END_AT_MOST_S)) {
			log_line(LOG_ERROR, "shutdown timed out", "seconds=%d", END_AT_MOST_S);
			_exit(1);
		}
		if (!ending_since && watchdog && wasd_mono_us() >= next_ping && alive(d, &beats)) {
			notify_service("WATCHDOG=1");
			next_ping = wasd_mono_us() + watchdog / 3;
		}
	}
}

int daemon_run(struct config *cfg)
{
	struct wasd_err err = {0};
	struct wasd_daemon d = {.cfg = cfg, .started_ms = wasd_now_ms()};
	sigset_t signals;
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	sigaddset(&signals, SIGUSR1);
	/* Block these before any thread starts, so that only the main thread receives them. SIGTERM during start-up stays
	 * pending until the start is complete. */
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	enum wasd_status s = config_resolve(cfg, &err);
	fit_file_limit(cfg);
	d.staging = s == WASD_OK ? wasd_asprintf("%s/staging", cfg->data) : NULL;
	if (s == WASD_OK && !d.staging)
		s = wasd_fail(&err, WASD_ENOMEM, "no memory");
	if (s == WASD_OK)
		s = name_tuning_file(cfg, &err);
	if (s == WASD_OK)
		s = start(&d, &err);
	if (s == WASD_OK)
		s = announce(&d, &err);
	if (s != WASD_OK) {
		log_line(LOG_ERROR, "cannot start", "status=%s", wasd_status_name(s));
		fprintf(stderr, "wasd: %s\n", err.msg);
		end_in_order(&d);
		return 1;
	}
	atomic_store(&d.ready, true);
	notify_service("READY=1");
	log_line(LOG_INFO, "ready", "address=%s data=%s engine=%s workers=%lld threads=%lld", http_address(d.http),
	         LOG_Q(cfg->data), LOG_Q(cfg->engine), (long long)cfg->workers, (long long)cfg->threads);
	int rc = wait_for_the_end(&d, &signals);
	log_line(LOG_INFO, "stopped", "rc=%d", rc);
	return rc;
}
