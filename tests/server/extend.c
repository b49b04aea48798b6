/* A new message between the daemon and an engine: one row and one handler on the receiving end, in either
 * direction. A message that breaks its row is refused by name on both ends. The first half is the example of
 * web/docs/extending.md. */
#include "check.h"
#include "fake_engine.h"
#include "log.h"
#include "process/task.h"
#include "wasd/cond.h"

/* ---- the example: a training process reports the processor's temperature and receives its share of the work ---- */

static const struct wasd_message temperature = {
	.type = "temperature",
	.roles = 1u << WASD_ROLE_TRAIN,
	.from = WASD_ENGINE,
	.members = {{.name = "celsius", .type = WASD_MEMBER_NUMBER, .min = -50, .max = 150}},
};
static const struct wasd_message pace = {
	.type = "pace",
	.roles = 1u << WASD_ROLE_TRAIN,
	.from = WASD_DAEMON,
	.members = {{.name = "share", .type = WASD_MEMBER_NUMBER, .min = 0, .max = 1}},
};
const struct wasd_message *const wasd_message_more[] = {&temperature, &pace, NULL};

struct warm {
	struct supervisor *sup;
	struct task task;
	double celsius, share; /* share: the answer */
	const char *how;       /* fault of the engine */
	pthread_mutex_t lock;
	pthread_cond_t over;
	bool ended;
};

static enum wasd_status on_temperature(void *self, struct wasd_frame *m, struct wasd_err *err)
{
	struct warm *w = self;
	(void)err;
	wasd_json_num(m->json, "celsius", &w->celsius);
	task_send(&w->task, wasd_message("pace", "share:d", w->share), "cannot be slowed down");
	return WASD_OK;
}

/* ---- a kind of task that handles the message, and one that does not ---- */

static void ended(void *self, const struct task_end *end)
{
	struct warm *w = self;
	(void)end;
	pthread_mutex_lock(&w->lock);
	w->ended = true;
	pthread_cond_signal(&w->over);
	pthread_mutex_unlock(&w->lock);
}

static const struct task_message takes[] = {
	{.type = "temperature", .take = on_temperature, .from = TASK_WORKING},
	{.type = "started", .from = TASK_TOLD, .to = TASK_WORKING},
	{.type = "done", .from = TASK_TOLD, .to = TASK_DONE},
	{0},
};
static const struct task_kind warm_kind = {.role = WASD_ROLE_TRAIN, .messages = takes, .ended = ended};
static const struct task_kind deaf_kind = {.role = WASD_ROLE_TRAIN, .messages = takes + 1, .ended = ended};

static const struct task_kind *kind;

static void launch(void *ctx)
{
	struct warm *w = ctx;
	struct wasd_err err = {0};
	task_init(&w->task, w->sup, kind, w);
	CHECK_MSG(task_launch(&w->task, &err) == WASD_OK, "%s", err.msg);
	task_start(&w->task,
	           wasd_message("start", "job:s attempt:i spec:j dataset:s threads:i", "j", (int64_t)1,
	                        wasd_message(NULL, "how:s", w->how), "d", (int64_t)1),
	           -1);
}

static void run(struct warm *w)
{
	char self[300];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	self[n > 0 ? n : 0] = 0;
	struct supervisor_config sc = {.engine = self, .heartbeat_ms = 60000, .kill_ms = 200, .tick_ms = 20};
	pthread_mutex_init(&w->lock, NULL);
	wasd_cond_init(&w->over);
	if (supervisor_create(&sc, &w->sup, NULL) != WASD_OK)
		abort();
	supervisor_call(w->sup, launch, w);
	int64_t until = wasd_mono_us() + 60000000;
	pthread_mutex_lock(&w->lock);
	while (!w->ended && wasd_cond_wait_until(&w->over, &w->lock, until))
		;
	pthread_mutex_unlock(&w->lock);
	supervisor_stop(w->sup);
	supervisor_destroy(w->sup);
	pthread_cond_destroy(&w->over);
	pthread_mutex_destroy(&w->lock);
}

/* ---- the engine's end ---- */

static _Noreturn void engine(void)
{
	if (wasd_wire_create(WASD_WIRE_FD, &fw, NULL) != WASD_OK)
		_exit(1);
	fake_role = WASD_ROLE_TRAIN;
	fake_hello("train", WASD_VERSION);
	struct wasd_frame m = fake_hear(-1, true);
	const char *fault = "";
	wasd_json_str(wasd_json_get(m.json, "spec"), "how", &fault);
	if (IS("early"))
		fake_say("{\"type\":\"temperature\",\"celsius\":40}");
	fake_say(FAKE_STARTED);
	if (IS("hot"))
		BREAK("{\"type\":\"temperature\",\"celsius\":1000}");
	wasd_wire_speak(fw, WASD_ROLE_TRAIN, WASD_ENGINE);
	struct wasd_err err = {0};
	cJSON *j = wasd_message("temperature", "");
	if (wasd_wire_send(fw, j, NULL, 0, -1, NULL, &err) != WASD_EINVAL ||
	    strcmp(err.msg, "message temperature: \"celsius\" must be there"))
		_exit(2);
	fake_say("{\"type\":\"temperature\",\"celsius\":71.5}");
	/* The handler on the engine's end. */
	double share = -1;
	m = fake_hear(-1, true);
	if (!m.type || strcmp(m.type, "pace") || !wasd_json_num(m.json, "share", &share))
		_exit(3);
	SAY("{\"type\":\"done\",\"reason\":\"done\",\"epoch\":%d}", (int)(share * 100));
	_exit(0);
}

/* ---- the tests ---- */

static void a_message_is_one_row_and_one_handler(void)
{
	struct warm w = {.share = 0.25, .how = "well"};
	int64_t epoch = 0;
	kind = &warm_kind;
	run(&w);
	CHECK_MSG(w.task.end.outcome == TASK_ENDED_DONE, "%s", w.task.end.how.reason);
	CHECK(w.celsius == 71.5 && wasd_json_i64(w.task.end.said, "epoch", &epoch) && epoch == 25);
	task_done(&w.task);
}

static void is_refused_by_name(void)
{
	static const struct {
		const char *how;
		const struct task_kind *kind;
		double share;
		const char *reason;
	} rows[] = {
		{"hot", &warm_kind, 0.25, "message temperature: \"celsius\" must be a finite number"},
		{"early", &warm_kind, 0.25, "temperature before it was started"},
		{"well", &deaf_kind, 0.25, "unknown message temperature"}, /* has no handler for it */
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct warm w = {.share = rows[i].share, .how = rows[i].how};
		kind = rows[i].kind;
		run(&w);
		CHECK_INT(w.task.end.outcome, TASK_ENDED_BROKE);
		CHECK_MSG(strstr(w.task.end.how.reason, rows[i].reason), "%s", w.task.end.how.reason);
		CHECK(w.celsius == 0);
		task_done(&w.task);
	}
	/* A broken message of the daemon is never sent; the process sees the end of its stream. */
	struct warm w = {.share = 7, .how = "well"};
	kind = &warm_kind;
	run(&w);
	CHECK_MSG(w.task.end.outcome == TASK_ENDED_CRASHED && !w.task.end.said, "%s", w.task.end.how.reason);
	task_done(&w.task);
	/* The row is valid only for its role and direction. */
	CHECK(wasd_message_find(WASD_ROLE_TRAIN, WASD_ENGINE, "temperature") == &temperature);
	CHECK(!wasd_message_find(WASD_ROLE_TRAIN, WASD_DAEMON, "temperature"));
	CHECK(!wasd_message_find(WASD_ROLE_INFER, WASD_ENGINE, "temperature"));
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "train"))
		engine();
	fake_engine_main(argc, argv);
	log_set_level(LOG_ERROR);
	TEST_RUN(a_message_is_one_row_and_one_handler);
	TEST_RUN(is_refused_by_name);
	TEST_END();
}
