/* A task with a misbehaving engine (fake_engine.h): its end is reported exactly once in every case, and nothing
 * exceeds its limits. */
#include "check.h"
#include "fake_engine.h"
#include "log.h"
#include "process/task.h"
#include "wasd/cond.h"

enum { PATIENCE_S = 60 };

/* The owner of one task. */
struct work {
	struct supervisor *sup;
	struct task task;
	const char *fault; /* fault of the engine */
	enum { AT_ONCE, ON_HELLO, NEVER } tell;
	bool asks; /* cancel it once it has begun */
	int64_t wall_s;
	int grace_ms;
	pthread_mutex_t lock;
	pthread_cond_t over;
	/* protected by lock */
	int ends, logs, seen, changes, most, round;
	struct task_end end;
	char said[200];
};

static void start(struct work *w)
{
	cJSON *m = wasd_message("start", "job:s attempt:i spec:j dataset:s threads:i", "j", (int64_t)1,
	                        wasd_message(NULL, "fault:s", w->fault), "d", (int64_t)1);
	task_start(&w->task, m, -1);
}

static enum wasd_status on_hello(void *self, struct wasd_frame *m, struct wasd_err *err)
{
	struct work *w = self;
	(void)m, (void)err;
	if (w->tell == ON_HELLO)
		start(w);
	return WASD_OK;
}

static enum wasd_status on_started(void *self, struct wasd_frame *m, struct wasd_err *err)
{
	struct work *w = self;
	(void)m, (void)err;
	if (w->asks)
		task_cancel(&w->task, w->grace_ms, "not begun");
	return WASD_OK;
}

static enum wasd_status on_log(void *self, struct wasd_frame *m, struct wasd_err *err)
{
	struct work *w = self;
	(void)m, (void)err;
	w->logs++;
	task_changed(&w->task);
	return WASD_OK;
}

static enum wasd_status on_rows(void *self, struct wasd_frame *m, struct wasd_err *err)
{
	struct work *w = self;
	(void)err;
	w->round++;
	task_send(&w->task, wasd_message("ack", "seq:i", (int64_t)m->seq), "takes none");
	return WASD_OK;
}

static enum wasd_status on_done(void *self, struct wasd_frame *m, struct wasd_err *err)
{
	const char *reason = "";
	(void)self;
	wasd_json_str(m->json, "reason", &reason);
	return strcmp(reason, "early_stopped") ? WASD_OK : wasd_fail(err, WASD_ECORRUPT, "a result of another kind");
}

static enum wasd_status check(void *self, const struct wasd_frame *m, struct wasd_err *err)
{
	const char *job;
	(void)self;
	return wasd_json_str(m->json, "job", &job) && strcmp(job, "j") ?
	           wasd_fail(err, WASD_ECORRUPT, "%s of job %s", m->type, job) :
	           WASD_OK;
}

static void changed(void *self)
{
	struct work *w = self;
	pthread_mutex_lock(&w->lock);
	w->changes++;
	w->seen = w->logs;
	pthread_cond_broadcast(&w->over);
	pthread_mutex_unlock(&w->lock);
}

static void ended(void *self, const struct task_end *end)
{
	struct work *w = self;
	pthread_mutex_lock(&w->lock);
	w->ends++;
	w->end = *end;
	char *text = end->said ? wasd_json_print(end->said) : NULL;
	snprintf(w->said, sizeof w->said, "%s", text ? text : "");
	wasd_free(text);
	pthread_cond_broadcast(&w->over);
	pthread_mutex_unlock(&w->lock);
}

static const struct task_message messages[] = {
	{.type = "hello", .take = on_hello},
	{.type = "log", .take = on_log},
	{.type = "started", .take = on_started, .from = TASK_TOLD, .to = TASK_WORKING},
	{.type = "progress", .from = TASK_TOLD},
	{.type = "metrics", .take = on_rows, .from = TASK_WORKING, .stored = true},
	{.type = "checkpoint", .take = on_rows, .from = TASK_WORKING, .stored = true},
	{.type = "done", .take = on_done, .from = TASK_TOLD, .to = TASK_DONE},
	{.type = "failed", .from = TASK_TOLD, .to = TASK_FAILED},
	{0},
};
static const struct task_kind kind = {
	.role = WASD_ROLE_TRAIN,
	.messages = messages,
	.check = check,
	.changed = changed,
	.ended = ended,
};
/* The same kind, but the process does not exit before it is let go. */
static const struct task_kind kind_let_go = {
	.role = WASD_ROLE_TRAIN,
	.let_go = true,
	.messages = messages,
	.ended = ended,
};

/* ---- launching one ---- */

static char engine[300];

struct launch {
	struct work *w;
	const struct task_kind *kind;
	enum wasd_status status;
	struct wasd_err err;
};

static void do_launch(void *ctx)
{
	struct launch *l = ctx;
	struct work *w = l->w;
	task_init(&w->task, w->sup, l->kind, w);
	l->status = task_launch(&w->task, &l->err);
	if (l->status != WASD_OK)
		return;
	CHECK(task_pid(&w->task) > 0);
	task_limit(&w->task, 0, w->wall_s, w->grace_ms);
	if (w->tell == AT_ONCE)
		start(w);
}

/* Counts the rows between two ticks; the tasks' own ticks come before this one. */
static void tick(void *ctx)
{
	struct work *w = ctx;
	if (w->round > w->most)
		w->most = w->round;
	w->round = 0;
}

static void do_register(void *ctx)
{
	struct work *w = ctx;
	supervisor_every(w->sup, tick, w);
}

static enum wasd_status launch(struct work *w, const struct task_kind *k, const char *path)
{
	int heartbeat_ms = strcmp(w->fault, "silent") ? PATIENCE_S * 1000 : 1000;
	struct supervisor_config sc = {.engine = path, .heartbeat_ms = heartbeat_ms, .kill_ms = 200, .tick_ms = 20};
	struct launch l = {.w = w, .kind = k};
	pthread_mutex_init(&w->lock, NULL);
	wasd_cond_init(&w->over);
	if (supervisor_create(&sc, &w->sup, &l.err) != WASD_OK)
		abort();
	supervisor_call(w->sup, do_register, w);
	supervisor_call(w->sup, do_launch, &l);
	return l.status;
}

static void wait_end(struct work *w)
{
	pthread_mutex_lock(&w->lock);
	while (!w->ends && wasd_cond_wait_until(&w->over, &w->lock, wasd_mono_us() + PATIENCE_S * 1000000ll))
		;
	pthread_mutex_unlock(&w->lock);
}

static void finish(struct work *w)
{
	supervisor_stop(w->sup);
	CHECK_INT(task_pid(&w->task), 0);
	task_done(&w->task);
	supervisor_destroy(w->sup);
	pthread_cond_destroy(&w->over);
	pthread_mutex_destroy(&w->lock);
}

/* ---- its end ---- */

static void every_end_is_told_once(void)
{
	static const struct {
		const char *fault;
		enum task_outcome outcome;
		const char *in_reason, *in_said, *in_tail;
	} rows[] = {
		{"good", TASK_ENDED_DONE, "exit code 0", "\"type\":\"done\",\"reason\":\"done\"", NULL},
		{"nan", TASK_ENDED_FAILED, "exit code 0", "\"reason\":\"nan_loss\",\"status\":\"enumeric\"", NULL},
		{"exit0", TASK_ENDED_CRASHED, "exit code 0", NULL, NULL},
		{"exit7", TASK_ENDED_CRASHED, "exit code 7", NULL, "panic: out of cheese"},
		{"segv", TASK_ENDED_CRASHED, "signal 11", NULL, NULL},
		{"kill9", TASK_ENDED_CRASHED, "signal 9", NULL, NULL},
		{"silent", TASK_ENDED_STOPPED, "no heartbeat", NULL, NULL},
		{"hung_up", TASK_ENDED_STOPPED, "signal 9", NULL, NULL},
		{"bad_magic", TASK_ENDED_BROKE, "broke the protocol", NULL, NULL},
		{"unknown_type", TASK_ENDED_BROKE, "unknown message surprise", NULL, NULL},
		{"losses", TASK_ENDED_BROKE, "unknown message losses", NULL,
	     NULL}, /* a message of its role, but not of this kind of task */
		{"other_job", TASK_ENDED_BROKE, "metrics of job job_other", NULL, NULL},
		{"two_starts", TASK_ENDED_BROKE, "started twice", NULL, NULL},
		{"two_ends", TASK_ENDED_BROKE, "two ends, done after its end", "\"reason\":\"done\"", NULL},
		{"late_rows", TASK_ENDED_BROKE, "metrics after its end", "\"reason\":\"done\"", NULL},
		{"another_kind", TASK_ENDED_BROKE, "a result of another kind", NULL, NULL},
		{"late_death", TASK_ENDED_CRASHED, "exit code 4", "\"reason\":\"done\"", NULL},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct work w = {.fault = rows[i].fault, .tell = i % 2 ? ON_HELLO : AT_ONCE};
		CHECK_INT(launch(&w, &kind, engine), WASD_OK);
		wait_end(&w);
		finish(&w);
		CHECK_MSG(w.ends == 1, "%s: %d ends", rows[i].fault, w.ends);
		CHECK_MSG(w.end.outcome == rows[i].outcome, "%s: outcome %d, %s", rows[i].fault, w.end.outcome,
		          w.end.how.reason);
		CHECK_MSG(strstr(w.end.how.reason, rows[i].in_reason), "%s: %s", rows[i].fault, w.end.how.reason);
		CHECK_MSG(rows[i].in_said ? strstr(w.said, rows[i].in_said) != NULL : !*w.said, "%s: said %s", rows[i].fault,
		          w.said);
		CHECK_MSG(!rows[i].in_tail || strstr(w.end.how.tail, rows[i].in_tail), "%s: %s", rows[i].fault, w.end.how.tail);
	}
}

static void nothing_is_taken_before_it_is_told(void)
{
	struct work w = {.fault = "early_started", .tell = NEVER};
	char path[64];
	fault_file(path, getpid());
	FILE *f = fopen(path, "w");
	fputs("early_started", f);
	fclose(f);
	CHECK_INT(launch(&w, &kind, engine), WASD_OK);
	wait_end(&w);
	unlink(path);
	finish(&w);
	CHECK(w.ends == 1 && w.end.outcome == TASK_ENDED_BROKE);
	CHECK_MSG(strstr(w.end.how.reason, "started before it was started"), "%s", w.end.how.reason);
}

static void no_process_has_no_end(void)
{
	struct work w = {.fault = "good"};
	char path[320];
	snprintf(path, sizeof path, "%s-is-not-there", engine);
	CHECK(launch(&w, &kind, path) != WASD_OK);
	task_kill(&w.task, "x");
	task_cancel(&w.task, 0, "x");
	task_send(&w.task, wasd_message("cancel", ""), "x");
	finish(&w);
	CHECK_INT(w.ends, 0);
}

/* A process that stays after reporting its end is let go; that is not a failure. */
static void is_let_go(void)
{
	struct work w = {.fault = "done_and_stays"};
	CHECK_INT(launch(&w, &kind_let_go, engine), WASD_OK);
	wait_end(&w);
	finish(&w);
	CHECK(w.ends == 1 && w.end.outcome == TASK_ENDED_DONE);
}

/* ---- stopping it ---- */

static void is_cancelled(void)
{
	static const struct {
		const char *fault;
		bool asks;
		int64_t wall_s;
		enum task_outcome outcome;
		const char *in_reason, *in_said;
	} rows[] = {
		{"polite", true, 0, TASK_ENDED_DONE, "exit code 0", "\"reason\":\"cancelled\""},
		{"polite", false, 1, TASK_ENDED_DONE, "exit code 0",
	     "\"reason\":\"cancelled\""}, /* stopped by its time limit */
		{"deaf", true, 0, TASK_ENDED_STOPPED, "did not stop in time", NULL},
		{"deaf", false, 1, TASK_ENDED_STOPPED, "did not stop in time", NULL},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct work w = {.fault = rows[i].fault,
		                 .asks = rows[i].asks,
		                 .wall_s = rows[i].wall_s,
		                 .grace_ms = strcmp(rows[i].fault, "deaf") ? PATIENCE_S * 1000 : 50};
		CHECK_INT(launch(&w, &kind, engine), WASD_OK);
		wait_end(&w);
		finish(&w);
		CHECK_MSG(w.ends == 1 && w.end.outcome == rows[i].outcome, "%zu: outcome %d, %s", i, w.end.outcome,
		          w.end.how.reason);
		CHECK_MSG(strstr(w.end.how.reason, rows[i].in_reason), "%s", w.end.how.reason);
		CHECK_MSG(!rows[i].in_said || strstr(w.said, rows[i].in_said), "%s", w.said);
		CHECK_INT(w.task.over_time, rows[i].wall_s > 0);
	}
}

static void do_cancel(void *ctx)
{
	struct work *w = ctx;
	task_cancel(&w->task, PATIENCE_S * 1000, "not begun");
}

static void do_kill(void *ctx)
{
	struct work *w = ctx;
	task_kill(&w->task, "not wanted");
	task_kill(&w->task, "the first reason is kept");
}

static void is_killed(void)
{
	static const struct {
		void (*how)(void *ctx);
		bool tell;
		const char *reason;
	} rows[] = {
		{do_cancel, false, "not begun; signal 9 (Killed)"}, /* there is nothing to save: at once */
		{do_kill, false, "not wanted; signal 9 (Killed)"},
		{do_kill, true, "not wanted; signal 9 (Killed)"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct work w = {.fault = "deaf", .tell = rows[i].tell ? AT_ONCE : NEVER};
		CHECK_INT(launch(&w, &kind, engine), WASD_OK);
		supervisor_call(w.sup, rows[i].how, &w);
		wait_end(&w);
		finish(&w);
		CHECK(w.ends == 1 && w.end.outcome == TASK_ENDED_STOPPED);
		CHECK_STR(w.end.how.reason, rows[i].reason);
	}
}

/* The supervisor ends while the task runs: the task's end is still reported. */
static void the_daemon_ends(void)
{
	struct work w = {.fault = "deaf"};
	CHECK_INT(launch(&w, &kind, engine), WASD_OK);
	finish(&w);
	CHECK(w.ends == 1 && w.end.outcome == TASK_ENDED_STOPPED);
	CHECK_STR(w.end.how.reason, "the daemon ends; signal 9 (Killed)");
}

/* ---- while it runs ---- */

static void rows_are_held_back(void)
{
	struct work w = {.fault = "row_flood"};
	CHECK_INT(launch(&w, &kind, engine), WASD_OK);
	wait_end(&w);
	finish(&w);
	CHECK_INT(w.end.outcome, TASK_ENDED_DONE);
	CHECK_MSG(w.most > 1 && w.most <= 51, "%d rows between two ticks", w.most);
}

/* Any number of changes is reported about once a second, including the last state. */
static void changes_are_told(void)
{
	struct work w = {.fault = "many_logs"};
	int64_t begun = wasd_mono_us();
	CHECK_INT(launch(&w, &kind, engine), WASD_OK);
	pthread_mutex_lock(&w.lock);
	while (w.seen < 2002 && wasd_cond_wait_until(&w.over, &w.lock, begun + PATIENCE_S * 1000000ll))
		;
	int changes = w.changes;
	pthread_mutex_unlock(&w.lock);
	CHECK_INT(w.seen, 2002);
	CHECK_MSG(changes >= 2 && changes <= 2 + (wasd_mono_us() - begun) / 1000000, "told %d times", changes);
	finish(&w);
}

/* ---- the engine ---- */

static _Noreturn void misbehave(void)
{
	char path[64];
	fault_file(path, getppid());
	if (wasd_wire_create(WASD_WIRE_FD, &fw, NULL) != WASD_OK)
		_exit(1);
	fake_hello("train", WASD_VERSION);
	if (!access(path, F_OK))
		fake_say(FAKE_STARTED);
	struct wasd_frame m = fake_hear(-1, true);
	const char *fault = "";
	wasd_json_str(wasd_json_get(m.json, "spec"), "fault", &fault);
	if (IS("two_starts") || IS("late_rows")) {
		fake_say(FAKE_STARTED);
		if (IS("two_starts"))
			fake_say(FAKE_STARTED);
	}
	if (IS("late_rows") || IS("late_death") || IS("done_and_stays"))
		fake_say("{\"type\":\"done\",\"reason\":\"done\",\"epoch\":2}");
	if (IS("late_rows"))
		fake_metrics(3);
	if (IS("done_and_stays"))
		fake_linger(true);
	if (IS("another_kind"))
		fake_say("{\"type\":\"done\",\"reason\":\"early_stopped\",\"epoch\":2}");
	if (IS("late_death"))
		_exit(4);
	if (IS("many_logs"))
		for (int i = 0; i <= 2000; i++)
			fake_say("{\"type\":\"log\",\"level\":\"info\",\"text\":\"x\"}");
	fake_attempt(&m);
}

int main(int argc, char **argv)
{
	fake_role = WASD_ROLE_TRAIN;
	if (argc == 2 && !strcmp(argv[1], "train"))
		misbehave();
	fake_engine_main(argc, argv);
	log_set_level(LOG_ERROR);
	ssize_t n = readlink("/proc/self/exe", engine, sizeof engine - 1);
	engine[n > 0 ? n : 0] = 0;
	TEST_RUN(every_end_is_told_once);
	TEST_RUN(nothing_is_taken_before_it_is_told);
	TEST_RUN(no_process_has_no_end);
	TEST_RUN(is_let_go);
	TEST_RUN(is_cancelled);
	TEST_RUN(is_killed);
	TEST_RUN(the_daemon_ends);
	TEST_RUN(rows_are_held_back);
	TEST_RUN(changes_are_told);
	TEST_END();
}
