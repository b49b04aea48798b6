/* A helper process: the first question starts it, it answers all later ones, it is stopped when idle, and it is
 * started again after a death, which fails the pending questions. The engine is this program. */
#include "check.h"
#include "fake_engine.h"
#include "log.h"
#include "process/helper.h"

#include <pthread.h>

enum { PATIENCE_US = 60000000, IDLE_MS = 100 };

static struct supervisor *sup;
static struct helper helper;
static _Atomic int dyings, dieds;
static _Atomic bool barred;
static char died_at[72], logged[40];

static enum wasd_status may_start(void *self, struct wasd_err *err)
{
	CHECK(self == &helper);
	return barred ? wasd_fail(err, WASD_EBUSY, "not now") : WASD_OK;
}

static void on_log(void *self, const char *level, const char *text)
{
	(void)self;
	snprintf(logged, sizeof logged, "%s %s", level, text);
}

static int waiting(void)
{
	int n;
	asker_up(&helper.asker, &n);
	return n;
}

static void dying(void *self, const char *who, const char *reason)
{
	CHECK(self == &helper && dyings == dieds && strstr(reason, "signal 9"));
	CHECK(waiting() > 0); /* the pending questions fail after this call */
	snprintf(died_at, sizeof died_at, "%s", who);
	dyings++;
}

static void died(void *self)
{
	CHECK(self == &helper);
	dieds++;
}

static const struct helper_kind kept = {
	.role = WASD_ROLE_INGEST,
	.down = "it is down",
	.may_start = may_start,
	.log = on_log,
	.dying = dying,
	.died = died,
};
static const struct helper_kind idle = {.role = WASD_ROLE_INGEST, .idle_ms = IDLE_MS, .down = "it is down"};

static void start(const struct helper_kind *kind, int max)
{
	static char self[300];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	self[n > 0 ? n : 0] = 0;
	struct supervisor_config sc = {.engine = self, .heartbeat_ms = 60000, .kill_ms = 200, .tick_ms = 10};
	if (supervisor_create(&sc, &sup, NULL) != WASD_OK || helper_init(&helper, sup, kind, max, &helper) != WASD_OK)
		abort();
	dyings = dieds = 0;
}

static void do_stop(void *ctx)
{
	helper_stop(ctx);
}

static void stop(void)
{
	supervisor_call(sup, do_stop, &helper);
	supervisor_stop(sup);
	supervisor_destroy(sup);
	helper_done(&helper);
}

static int processes(void)
{
	cJSON *list = supervisor_processes(sup);
	int n = cJSON_GetArraySize(list);
	cJSON_Delete(list);
	return n;
}

static struct api_call question(const char *what, const char *who)
{
	return (struct api_call){.json = wasd_message("preview", "path:s split:s index:i", what, "train", (int64_t)7),
	                         .who = who};
}

/* Asks for the process id of the engine; 0 if there is no answer. */
static pid_t ask(const char *what, const char *who, enum wasd_status want, const char *says)
{
	struct api_call call = question(what, who);
	struct wasd_err err = {0};
	int64_t pid = 0;
	enum wasd_status s = helper_ask(&helper, &call, -1, wasd_mono_us() + PATIENCE_US, &err);
	CHECK_MSG(s == want && (!says || !strcmp(err.msg, says)), "%s: %d, %s", what, s, err.msg);
	if (s == WASD_OK)
		wasd_json_i64(call.reply, "label", &pid);
	api_call_done(&call);
	return (pid_t)pid;
}

static void starts_once_and_stays(void)
{
	start(&kept, 4);
	CHECK_INT(processes(), 0);
	struct api_call call = question("pid", NULL);
	struct wasd_err err = {0};
	CHECK_INT(helper_ask_running(&helper, &call, -1, wasd_mono_us() + PATIENCE_US, &err), WASD_EBUSY);
	CHECK_STR(err.msg, "it is down");
	CHECK_INT(processes(), 0); /* a running-only question does not start the process */
	barred = true;
	ask("pid", NULL, WASD_EBUSY, "not now");
	barred = false;
	pid_t first = ask("pid", NULL, WASD_OK, NULL);
	CHECK(first > 0 && ask("pid", NULL, WASD_OK, NULL) == first);
	call = question("pid", NULL);
	CHECK_INT(helper_ask_running(&helper, &call, -1, wasd_mono_us() + PATIENCE_US, &err), WASD_OK);
	api_call_done(&call);
	CHECK_STR(logged, "warn asked for pid");
	/* An error as answer leaves the process running. */
	ask("refuse", NULL, WASD_ENOTFOUND, "no such picture");
	CHECK(ask("pid", NULL, WASD_OK, NULL) == first);
	CHECK(dyings == 0 && processes() == 1);
	stop();
}

static void is_let_go_when_idle(void)
{
	start(&idle, 4);
	for (int i = 0; i < 2; i++) {
		CHECK(ask("pid", NULL, WASD_OK, NULL) > 0);
		int64_t until = wasd_mono_us() + PATIENCE_US;
		while (processes() && wasd_mono_us() < until)
			poll(NULL, 0, 5);
		CHECK_INT(processes(), 0);
	}
	/* The process is not stopped while a question is pending: this one takes three times the idle time. */
	CHECK(ask("slow", NULL, WASD_OK, NULL) > 0);
	stop();
}

struct asked {
	pthread_t thread;
	const char *what, *who;
	enum wasd_status want;
};

static void *ask_main(void *arg)
{
	struct asked *a = arg;
	ask(a->what, a->who, a->want, "it is down");
	return NULL;
}

static void a_death_ends_what_waits(void)
{
	struct asked asked[] = {{.what = "hang", .who = "the culprit", .want = WASD_EBUSY},
	                        {.what = "pid", .who = "the next", .want = WASD_EBUSY}};
	start(&kept, 4);
	pid_t first = ask("pid", NULL, WASD_OK, NULL);
	for (int i = 0; i < 2; i++) {
		pthread_create(&asked[i].thread, NULL, ask_main, &asked[i]);
		while (waiting() <= i)
			poll(NULL, 0, 1);
	}
	kill(first, SIGKILL);
	for (int i = 0; i < 2; i++)
		pthread_join(asked[i].thread, NULL);
	while (dieds < 1)
		poll(NULL, 0, 1);
	CHECK(dyings == 1 && dieds == 1);
	CHECK_STR(died_at, "the culprit");
	pid_t second = ask("pid", NULL, WASD_OK, NULL);
	CHECK(second > 0 && second != first);
	stop();
}

static void too_many_and_too_late(void)
{
	struct asked asked = {.what = "hang", .want = WASD_EBUSY};
	struct wasd_err err = {0};
	start(&kept, 1);
	pthread_create(&asked.thread, NULL, ask_main, &asked);
	while (!waiting())
		poll(NULL, 0, 1);
	ask("pid", NULL, WASD_EBUSY, "1 calls are already waiting, which is the limit");
	supervisor_call(sup, do_stop, &helper); /* also ends a hanging process */
	pthread_join(asked.thread, NULL);
	ask("pid", NULL, WASD_EBUSY, "the daemon is stopping");
	supervisor_stop(sup);
	supervisor_destroy(sup);
	helper_done(&helper);
	start(&kept, 1);
	struct api_call call = question("hang", NULL);
	CHECK_INT(helper_ask(&helper, &call, -1, wasd_mono_us() + 20000, &err), WASD_EBUSY);
	CHECK_STR(err.msg, "the answer did not come in time");
	api_call_done(&call);
	stop();
}

static _Noreturn void engine(void)
{
	if (wasd_wire_create(WASD_WIRE_FD, &fw, NULL) != WASD_OK)
		_exit(1);
	fake_role = WASD_ROLE_INGEST;
	fake_hello("ingest", WASD_VERSION);
	for (;;) {
		struct wasd_frame m = fake_hear(-1, true);
		const char *fault = "";
		wasd_json_str(m.json, "path", &fault);
		SAY("{\"type\":\"log\",\"level\":\"warn\",\"text\":\"asked for %s\"}", fault);
		if (IS("hang"))
			fake_linger(true);
		if (IS("slow"))
			poll(NULL, 0, 3 * IDLE_MS);
		if (IS("refuse"))
			SAY("{\"type\":\"error\",\"re\":%u,\"status\":\"enotfound\",\"message\":\"no such picture\"}", m.seq);
		else
			SAY("{\"type\":\"previewed\",\"re\":%u,\"label\":%d,\"class\":\"\"}", m.seq, (int)getpid());
		wasd_frame_done(&m);
	}
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "ingest"))
		engine();
	fake_engine_main(argc, argv);
	log_set_level(LOG_ERROR);
	TEST_RUN(starts_once_and_stays);
	TEST_RUN(is_let_go_when_idle);
	TEST_RUN(a_death_ends_what_waits);
	TEST_RUN(too_many_and_too_late);
	TEST_END();
}
