/* What a job would take, asked of a process that answers well, with an error, too late or never. Those who ask for the
 * same steps share a measurement; one that nobody waits for ends. */
#include "check.h"
#include "fake_engine.h"
#include "jobs/estimate.h"
#include "log.h"
#include "process/cgroup.h"
#include "wasd/cond.h"

#include <sys/stat.h>

static struct supervisor *sup;
static struct estimates *estimates;
static struct api_estimates api;
static char engine_path[300], dir[64];

/* One who asks. */
struct one {
	struct api_ask ask;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int told;
};

static void start_in(struct cgroups *groups, int limit_s)
{
	struct supervisor_config sc = {.engine = engine_path,
	                               .heartbeat_ms = 60000,
	                               .kill_ms = 200,
	                               .tick_ms = 20,
	                               .cgroups = groups};
	if (supervisor_create(&sc, &sup, NULL) != WASD_OK)
		abort();
	struct estimates_config ec = {.sup = sup, .data_dir = dir, .answer_ms = 60000, .budget_ms = 7, .limit_s = limit_s};
	CHECK(estimates_create(&ec, &estimates, NULL) == WASD_OK);
	api = estimates_api(estimates);
}

static void start(int limit_s)
{
	start_in(NULL, limit_s);
}

static void stop(void)
{
	estimates_stop(estimates);
	supervisor_stop(sup);
	estimates_destroy(estimates);
	supervisor_destroy(sup);
}

static void told(void *ctx)
{
	struct one *o = ctx;
	pthread_mutex_lock(&o->lock);
	o->told++;
	pthread_cond_signal(&o->changed);
	pthread_mutex_unlock(&o->lock);
}

static void ask_limited(struct one *o, const char *arch, int batch, int memory_mb)
{
	*o = (struct one){0};
	pthread_mutex_init(&o->lock, NULL);
	wasd_cond_init(&o->changed);
	o->ask.call.json =
		wasd_message(NULL, "spec:j dataset:s threads:i memory_mb:i beside:i",
	                 wasd_message(NULL, "model:j train:j", wasd_message(NULL, "arch:s", arch),
	                              wasd_message(NULL, "batch:i epochs:i", (int64_t)batch, (int64_t)(batch + 1))),
	                 "d.wds", (int64_t)2, (int64_t)memory_mb, (int64_t)0);
	api.ask(api.self, &o->ask, told, o);
}

static void ask(struct one *o, const char *arch, int batch)
{
	ask_limited(o, arch, batch, 0);
}

/* Waits for the answer: its status. */
static enum wasd_status answered(struct one *o)
{
	pthread_mutex_lock(&o->lock);
	while (!o->told)
		pthread_cond_wait(&o->changed, &o->lock);
	pthread_mutex_unlock(&o->lock);
	return o->ask.status;
}

static double step_of(const struct one *o)
{
	double v = -1;
	wasd_json_num(o->ask.call.reply, "step_s", &v);
	return v;
}

static void done(struct one *o)
{
	CHECK_INT(o->told, 1);
	api_call_done(&o->ask.call);
	pthread_cond_destroy(&o->changed);
	pthread_mutex_destroy(&o->lock);
}

/* How many measurements have begun: each adds a byte to a file. */
static int64_t begun(void)
{
	char path[100];
	struct stat st;
	snprintf(path, sizeof path, "%s/begun", dir);
	return stat(path, &st) ? 0 : st.st_size;
}

static void wait_begun(int64_t n)
{
	while (begun() < n)
		poll(NULL, 0, 5);
}

static void sizes_come_from_the_engine(void)
{
	struct wasd_err err = {0};
	cJSON *spec = wasd_message(NULL, "model:j", wasd_message(NULL, "arch:s", "good")), *out = NULL;
	int64_t threads = 0;
	start(600);
	CHECK_INT(api.sizes(api.self, spec, "d.wds", 3, &out, &err), WASD_OK);
	CHECK(wasd_json_i64(out, "threads", &threads) && threads == 3);
	cJSON_Delete(out);
	cJSON_Delete(spec);
	spec = wasd_message(NULL, "model:j", wasd_message(NULL, "arch:s", "refuse"));
	CHECK_INT(api.sizes(api.self, spec, "d.wds", 3, &out, &err), WASD_EINVAL);
	CHECK_STR(err.pointer, "/train/batch");
	cJSON_Delete(spec);
	stop();
}

static void the_same_is_measured_once(void)
{
	struct one a, b, c, d;
	start(600);
	int64_t before = begun();
	ask(&a, "good", 8);
	ask(&b, "good", 8);
	ask(&c, "good", 9);
	CHECK(answered(&a) == WASD_OK && answered(&b) == WASD_OK && answered(&c) == WASD_OK);
	CHECK(step_of(&a) == 8 && step_of(&b) == 8 && step_of(&c) == 9);
	ask(&d, "good", 8);
	CHECK(answered(&d) == WASD_OK && step_of(&d) == 8);
	CHECK_INT(begun() - before, 2);
	done(&a), done(&b), done(&c), done(&d);
	stop();
}

static void failures_are_told(void)
{
	static const struct {
		const char *arch;
		enum wasd_status status;
		const char *says;
	} rows[] = {
		{"refuse", WASD_ENOMEM, "no room for it"},
		{"crash", WASD_EINTERNAL, "its process ended early: signal 9"},
		{"rubbish", WASD_EINTERNAL, "its process ended early: broke the protocol"},
		{"hang", WASD_EBUSY, "it did not end within 1 s"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct one o;
		start(strcmp(rows[i].arch, "hang") ? 600 : 1);
		ask(&o, rows[i].arch, 8);
		CHECK_MSG(answered(&o) == rows[i].status && strstr(o.ask.err.msg, rows[i].says), "%s: %s", rows[i].arch,
		          o.ask.err.msg);
		CHECK(!o.ask.call.reply);
		done(&o);
		stop();
	}
}

static void unwanted_ones_end(void)
{
	struct one a, b, c;
	start(600);
	int64_t before = begun();
	ask(&a, "hang", 8);
	wait_begun(before + 1);
	ask(&b, "good", 8); /* waits for the first */
	ask(&c, "good", 9);
	api.forget(api.self, &c); /* before its turn */
	CHECK_INT(answered(&c), WASD_ECANCELLED);
	CHECK_INT(b.told, 0);
	api.forget(api.self, &a);
	CHECK_INT(answered(&a), WASD_ECANCELLED);
	CHECK_INT(answered(&b), WASD_OK);
	CHECK_INT(begun() - before, 2);
	api.forget(api.self, &b); /* answered already */
	done(&a), done(&b), done(&c);
	stop();
}

static void too_many_are_refused(void)
{
	struct one many[9];
	start(600);
	int64_t before = begun();
	for (int i = 0; i < 9; i++)
		ask(&many[i], "hang", 8 + i);
	CHECK_INT(answered(&many[8]), WASD_EBUSY);
	CHECK(strstr(many[8].ask.err.msg, "8 other measurements"));
	wait_begun(before + 1);
	for (int i = 8; i-- > 0;)
		api.forget(api.self, &many[i]);
	for (int i = 0; i < 9; i++) {
		CHECK(answered(&many[i]) != WASD_OK);
		done(&many[i]);
	}
	stop();
}

/* ---- a limit of memory ---- */

static const char *const group_files[] = {"cgroup.procs",           "cgroup.type",  "cgroup.controllers",
                                          "cgroup.subtree_control", "memory.max",   "memory.oom.group",
                                          "memory.swap.max",        "memory.events"};

/* As the kernel does, with the files that are written. */
static int make_group(const char *path)
{
	char at[200];
	if (wasd_mkdirs(path, NULL) != WASD_OK)
		return -1;
	for (size_t i = 0; i < sizeof group_files / sizeof *group_files; i++) {
		snprintf(at, sizeof at, "%s/%s", path, group_files[i]);
		if (wasd_file_write_atomic(at, "memory\n", 7, NULL) != WASD_OK)
			return -1;
	}
	return 0;
}

static int remove_group(const char *path)
{
	return wasd_remove_tree(path, NULL) == WASD_OK ? 0 : -1;
}

/* Where a control group limits the measurement, the process is not limited a second time. */
static void a_group_is_told(void)
{
	struct cgroups *groups = NULL;
	struct wasd_err err = {0};
	struct one a;
	char at[100];
	snprintf(at, sizeof at, "%s/proc/self", dir);
	CHECK(wasd_mkdirs(at, NULL) == WASD_OK);
	strcat(at, "/cgroup");
	CHECK(wasd_file_write_atomic(at, "0::/\n", 5, NULL) == WASD_OK);
	snprintf(at, sizeof at, "%s/sys/fs/cgroup", dir);
	CHECK(!make_group(at));
	CHECK_MSG(cgroups_open(&(struct cgroup_files){dir, make_group, remove_group}, &groups, &err) == WASD_OK, "%s",
	          err.msg);
	start_in(groups, 600);
	ask_limited(&a, "grouped", 21, 4000);
	CHECK_MSG(answered(&a) == WASD_OK, "%s", a.ask.err.msg);
	done(&a);
	stop();
	cgroups_close(groups);
	start(600);
	ask_limited(&a, "alone", 21, 4000);
	CHECK_MSG(answered(&a) == WASD_OK, "%s", a.ask.err.msg);
	done(&a);
	stop();
}

/* ---- the engine ---- */

static void measure(const struct wasd_frame *m, const char *fault, const char *data)
{
	char path[100];
	int64_t batch = 0, nice = 0, budget = 0;
	const cJSON *spec = wasd_json_get(m->json, "spec");
	wasd_json_i64(wasd_json_get(spec, "train"), "batch", &batch);
	if (!wasd_json_i64(m->json, "nice", &nice) || nice != 10 || !wasd_json_i64(m->json, "budget_ms", &budget) ||
	    budget != 7 || wasd_json_get(m->json, "beside"))
		_exit(8);
	if ((IS("grouped") || IS("alone")) && cJSON_IsTrue(wasd_json_get(m->json, "cgroup")) != IS("grouped"))
		_exit(9);
	snprintf(path, sizeof path, "%s/begun", data);
	int fd = open(path, O_CREAT | O_WRONLY | O_APPEND, 0600);
	if (fd < 0 || write(fd, "x", 1) != 1)
		_exit(1);
	close(fd);
	if (IS("crash"))
		raise(SIGKILL);
	if (IS("hang"))
		fake_linger(true);
	if (IS("refuse"))
		SAY("{\"type\":\"error\",\"re\":%u,\"status\":\"enomem\",\"message\":\"no room for it\"}", m->seq);
	else if (IS("rubbish"))
		BREAK("{\"type\":\"measured\",\"steps\":3}");
	else
		SAY("{\"type\":\"measured\",\"re\":%u,\"batch\":8,\"steps\":3,\"step_s\":%d,\"image_s\":1}", m->seq,
		    (int)batch);
}

static _Noreturn void engine(void)
{
	if (wasd_wire_create(WASD_WIRE_FD, &fw, NULL) != WASD_OK)
		_exit(1);
	fake_role = WASD_ROLE_CHECK;
	fake_hello("check", WASD_VERSION);
	for (;;) {
		struct wasd_frame m = fake_hear(-1, true);
		const char *fault = "", *data = "";
		int64_t threads = 0;
		wasd_json_str(wasd_json_get(wasd_json_get(m.json, "spec"), "model"), "arch", &fault);
		wasd_json_str(m.json, "data", &data);
		wasd_json_i64(m.json, "threads", &threads);
		if (!strcmp(m.type, "measure"))
			measure(&m, fault, data);
		else if (IS("refuse"))
			SAY("{\"type\":\"error\",\"re\":%u,\"status\":\"einval\",\"pointer\":\"/train/batch\",\"message\":\"too large\"}",
			    m.seq);
		else
			SAY("{\"type\":\"estimated\",\"re\":%u,\"sizes\":{\"threads\":%d}}", m.seq, (int)threads);
		wasd_frame_done(&m);
	}
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "check"))
		engine();
	fake_engine_main(argc, argv);
	log_set_level(LOG_ERROR);
	ssize_t n = readlink("/proc/self/exe", engine_path, sizeof engine_path - 1);
	engine_path[n > 0 ? n : 0] = 0;
	check_temp(dir, sizeof dir, "wasd-estimate");
	if (!mkdtemp(dir))
		abort();
	TEST_RUN(sizes_come_from_the_engine);
	TEST_RUN(the_same_is_measured_once);
	TEST_RUN(failures_are_told);
	TEST_RUN(unwanted_ones_end);
	TEST_RUN(too_many_are_refused);
	TEST_RUN(a_group_is_told);
	wasd_remove_tree(dir, NULL);
	TEST_END();
}
