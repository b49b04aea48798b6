/* Questions about the engine, a network and a job. The process that answers them answers well, with an error, with
 * garbage, too late or never: each question gets the right status, and the next one gets an answer. */
#include "check.h"
#include "fake_engine.h"
#include "log.h"
#include "process/describe.h"

static struct supervisor *sup;
static struct describer *describer;
static struct api_engine api;
static char engine_path[300];

static enum wasd_status start(const char *path, int answer_ms, struct wasd_err *err)
{
	struct supervisor_config sc = {.engine = path, .heartbeat_ms = 60000, .kill_ms = 200, .tick_ms = 20};
	if (supervisor_create(&sc, &sup, NULL) != WASD_OK)
		abort();
	struct describer_config dc = {.sup = sup, .engine = "E", .data_dir = "/data", .answer_ms = answer_ms};
	enum wasd_status s = describer_create(&dc, &describer, err);
	api = describer_api(describer);
	return s;
}

static void stop(void)
{
	describer_stop(describer);
	supervisor_stop(sup);
	describer_destroy(describer);
	supervisor_destroy(sup);
}

static cJSON *network(const char *arch)
{
	return wasd_message(NULL, "model:j input:j classes:i", wasd_message(NULL, "arch:s", arch),
	                    cJSON_CreateIntArray((int[]){3, 8, 8}, 3), (int64_t)10);
}

static enum wasd_status ask(cJSON *question, cJSON **out, struct wasd_err *err)
{
	enum wasd_status s = api.describe(api.self, question, out, err);
	cJSON_Delete(question);
	return s;
}

static bool answers(void)
{
	struct wasd_err err = {0};
	cJSON *out = NULL;
	const char *arch = "";
	bool ok = ask(network("good"), &out, &err) == WASD_OK && wasd_json_str(out, "arch", &arch) && !strcmp(arch, "good");
	cJSON_Delete(out);
	return ok;
}

static void tables_networks_and_jobs(void)
{
	struct wasd_err err = {0};
	cJSON *out = NULL;
	const char *s = "";
	CHECK_MSG(start(engine_path, 60000, &err) == WASD_OK, "%s", err.msg);
	CHECK(wasd_json_str(api.capabilities(api.self), "of", &s) && !strcmp(s, "the fake"));
	CHECK(answers());
	/* The question about a job names the data directory; the caller owns the warnings of the answer. */
	CHECK_INT(ask(wasd_message(NULL, "spec:j dataset:s", cJSON_CreateObject(), "d.wds"), &out, &err), WASD_OK);
	const cJSON *first = cJSON_GetArrayItem(wasd_json_get(out, "warnings"), 0);
	CHECK(cJSON_IsString(first) && !strcmp(first->valuestring, "/data/d.wds"));
	cJSON_Delete(out);
	/* An error reaches the caller with its status, pointer and message. */
	out = NULL;
	CHECK_INT(ask(network("refuse"), &out, &err), WASD_EINVAL);
	CHECK(!out);
	CHECK_STR(err.pointer, "/model/arch");
	CHECK_STR(err.msg, "no such network");
	stop();
}

static void a_process_that_fails_is_replaced(void)
{
	static const struct {
		const char *arch, *says;
	} rows[] = {
		{"crash", "the engine E gave no answer: its process ended"},
		{"hang", "the engine E gave no answer: the answer did not come in time"},
		{"rubbish", "the engine E gave no answer: its process ended"},
		{"another", "the engine E gave no answer: its process ended"}, /* answers another question */
	};
	struct wasd_err err = {0};
	CHECK_MSG(start(engine_path, 5000, &err) == WASD_OK, "%s", err.msg);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		cJSON *out = NULL;
		CHECK_MSG(ask(network(rows[i].arch), &out, &err) == WASD_EINTERNAL && !out, "%s", rows[i].arch);
		CHECK_MSG(strstr(err.msg, rows[i].says), "%s: %s", rows[i].arch, err.msg);
		CHECK_MSG(answers(), "after %s", rows[i].arch);
	}
	stop();
}

static void without_an_engine_there_is_no_start(void)
{
	struct wasd_err err = {0};
	char path[320];
	snprintf(path, sizeof path, "%s-is-not-there", engine_path);
	CHECK(start(path, 3000, &err) != WASD_OK);
	CHECK_MSG(strstr(err.msg, "cannot start"), "%s", err.msg);
	stop();
}

/* ---- the engine ---- */

static void describe(const struct wasd_frame *m)
{
	const char *fault = "";
	wasd_json_str(wasd_json_get(m->json, "model"), "arch", &fault);
	if (IS("crash"))
		raise(SIGKILL);
	if (IS("hang"))
		fake_linger(true);
	if (IS("refuse"))
		SAY("{\"type\":\"error\",\"re\":%u,\"status\":\"einval\",\"pointer\":\"/model/arch\",\"message\":\"no such network\"}",
		    m->seq);
	else if (IS("rubbish"))
		fake_break(wasd_message("described", "re:i network:s", (int64_t)m->seq, "rubbish"), NULL, 0, -1);
	else if (IS("another"))
		SAY("{\"type\":\"listed\",\"re\":%u,\"tables\":{}}", m->seq);
	else
		SAY("{\"type\":\"described\",\"re\":%u,\"network\":{\"arch\":\"%s\"}}", m->seq, fault);
}

static _Noreturn void engine(void)
{
	if (wasd_wire_create(WASD_WIRE_FD, &fw, NULL) != WASD_OK)
		_exit(1);
	fake_role = WASD_ROLE_CHECK;
	fake_hello("check", WASD_VERSION);
	for (;;) {
		struct wasd_frame m = fake_hear(-1, true);
		const char *data = "", *dataset = "";
		wasd_json_str(m.json, "data", &data);
		wasd_json_str(m.json, "dataset", &dataset);
		if (!strcmp(m.type, "list"))
			SAY("{\"type\":\"listed\",\"re\":%u,\"tables\":{\"of\":\"the fake\"}}", m.seq);
		else if (!strcmp(m.type, "describe"))
			describe(&m);
		else
			SAY("{\"type\":\"checked\",\"re\":%u,\"warnings\":[\"%s/%s\"]}", m.seq, data, dataset);
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
	TEST_RUN(tables_networks_and_jobs);
	TEST_RUN(a_process_that_fails_is_replaced);
	TEST_RUN(without_an_engine_there_is_no_start);
	TEST_END();
}
