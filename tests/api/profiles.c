/* tests/api/profiles.c - profiles: create, show, delete, and their names as modes in every place that takes a mode. */
#include "harness.h"

static char job[64], ckpt[32], base[100];

static void begin(void)
{
	setup();
	make_dataset("data", test_info);
	make_job("resnet18", job);
	run_job(job, true, ckpt);
	snprintf(base, sizeof base, "/v1/checkpoints/%s/profiles", ckpt);
}

static const char *url(const char *rest)
{
	static char out[200];
	snprintf(out, sizeof out, "%s%s", base, rest);
	return out;
}

static void search(const char *name)
{
	struct storage_profile p;
	CHECK_INT(storage_profile_get(t.db, ckpt, name, &p, NULL), WASD_OK);
	CHECK_INT(storage_profile_searching(t.db, p.id, NULL), WASD_OK);
	storage_profile_done(&p);
}

static void find(const char *name, double acc)
{
	struct storage_profile p;
	char info[500], sha[WASD_SHA256_HEX];
	snprintf(
		info, sizeof info,
		"{\"draw\":[{\"dx\":1}],\"macs\":70,\"macs_share\":0.7,\"val_loss\":1.5,\"val_acc\":%g,\"images_per_s_1\":100,\"images_per_s_64\":2000,\"latency_us\":9000,"
		"\"evaluations\":33,\"aom\":{\"macs\":100,\"val_acc\":0.9}}",
		acc);
	wasd_sha256_of("overlay", 7, sha);
	CHECK_INT(storage_profile_get(t.db, ckpt, name, &p, NULL), WASD_OK);
	CHECK_INT(storage_profile_ready(t.db, p.id, info, NULL, "overlay", 7, sha, NULL), WASD_OK);
	storage_profile_done(&p);
}

static void make_ready(const char *name)
{
	char body[100];
	snprintf(body, sizeof body, "{\"name\":\"%s\",\"desire\":\"macs\",\"budget\":0.7}", name);
	expect(202, "POST", base, body);
	search(name);
	find(name, 0.8);
}

static void asking(void)
{
	static const struct {
		const char *body, *name, *desire, *member;
		double value;
	} rows[] = {
		{"{\"desire\":\"macs\",\"budget\":0.7}", "macs-70", "macs", "budget", 0.7},
		{"{\"desire\":\"macs\",\"budget\":1,\"name\":\"all\",\"evaluations\":1}", "all", "macs", "evaluations", 1},
		{"{\"desire\":\"latency\",\"budget_us\":900,\"dataset\":\"data\"}", "latency-900us", "latency", "budget_us",
	     900},
		{"{\"draw\":[{\"dx\":1},null],\"name\":\"mine\",\"dataset\":{\"name\":\"data\",\"version\":1}}", "mine", "draw",
	     "draw/0/dx", 1},
	};
	begin();
	for (size_t i = 0; i < API_LEN(rows); i++) {
		char where[200];
		struct answer a = send("POST", base, rows[i].body);
		snprintf(where, sizeof where, "%s/%s", base, rows[i].name);
		CHECK_INT(a.r.status, 202);
		CHECK_STR(api_response_header(&a.r, "Location"), where);
		CHECK_STR(str(&a, "name"), rows[i].name);
		CHECK_STR(str(&a, "desire"), rows[i].desire);
		CHECK_STR(str(&a, "state"), "queued");
		CHECK_STR(str(&a, "checkpoint"), ckpt);
		CHECK_STR(at_str(&a, "dataset/name"), "data");
		CHECK_INT(at_num(&a, "dataset/version"), 1);
		CHECK_STR(at_str(&a, "links/self"), where);
		CHECK_NEAR(at_num(&a, rows[i].member), rows[i].value, 0);
		CHECK(cJSON_IsNull(wasd_json_get(a.json, "macs")) && cJSON_IsNull(wasd_json_get(a.json, "message")) &&
		      cJSON_IsNull(wasd_json_get(a.json, "finished_at")) && !wasd_json_get(a.json, "progress"));
		char id[64];
		snprintf(id, sizeof id, "%s", str(&a, "id"));
		answer_done(&a);
		/* The same request gives the same profile, which can also be found by its id. */
		a = send("POST", base, rows[i].body);
		CHECK_INT(a.r.status, 200);
		CHECK_STR(str(&a, "id"), id);
		CHECK_STR(api_response_header(&a.r, "Location"), where);
		answer_done(&a);
		snprintf(where, sizeof where, "%s/%s", base, id);
		expect(200, "GET", where, NULL);
	}
	CHECK_INT(t.searches, API_LEN(rows));
	struct answer a = send("POST", base, "{\"desire\":\"macs\",\"budget\":0.6,\"name\":\"all\"}");
	CHECK_INT(a.r.status, 409);
	CHECK_STR(str(&a, "code"), "name_taken");
	CHECK_STR(at_str(&a, "errors/0/pointer"), "/name");
	answer_done(&a);
	/* The name of a draw is derived from the draw. */
	a = send("POST", base, "{\"draw\":[{\"dx\":2}]}");
	char name[64];
	snprintf(name, sizeof name, "%s", str(&a, "name"));
	CHECK_MSG(a.r.status == 202 && !strncmp(name, "draw-", 5) && strlen(name) == 13, "%d %s", a.r.status, name);
	answer_done(&a);
	a = send("POST", base, "{\"draw\":[{\"dx\":2}],\"desire\":\"draw\"}");
	CHECK(a.r.status == 200 && !strcmp(str(&a, "name"), name));
	answer_done(&a);
	teardown();
}

static void life(void)
{
	begin();
	expect(202, "POST", base, "{\"desire\":\"macs\",\"budget\":0.7,\"name\":\"fast\"}");
	struct answer a = send("GET", url("/fast?wait=30s"), NULL);
	CHECK_INT(a.result, API_AGAIN);
	CHECK_STR(a.r.again.object, ckpt);
	answer_done(&a);
	search("fast");
	a = send("GET", url("/fast"), NULL);
	CHECK_STR(str(&a, "state"), "searching");
	CHECK(at_num(&a, "progress/done") == 3 && at_num(&a, "progress/of") == 40 && at_num(&a, "progress/eta_s") == 12);
	answer_done(&a);
	a = send("GET", base, NULL);
	CHECK(cJSON_IsNull(wasd_json_get(a.json, "aom")) && at_num(&a, "items/0/progress/of") == 40);
	answer_done(&a);
	find("fast", 0.8);
	a = send("GET", url("/fast?wait=30s"), NULL);
	CHECK_INT(a.result, API_DONE);
	CHECK_STR(str(&a, "state"), "ready");
	static const struct {
		const char *member;
		double value;
	} found[] = {
		{"budget", 0.7},           {"macs", 70},         {"macs_share", 0.7},
		{"val_acc", 0.8},          {"val_loss", 1.5},    {"images_per_s_1", 100},
		{"images_per_s_64", 2000}, {"latency_us", 9000}, {"evaluations", 33},
		{"draw/0/dx", 1},
	};
	for (size_t i = 0; i < API_LEN(found); i++)
		CHECK_MSG(at_num(&a, found[i].member) == found[i].value, "%s is %g", found[i].member,
		          at_num(&a, found[i].member));
	CHECK(!wasd_json_get(a.json, "progress") && cJSON_IsString(wasd_json_get(a.json, "finished_at")));
	answer_done(&a);
	/* A failed profile gives the reason and may be requested again. */
	struct storage_profile p;
	expect(202, "POST", base, "{\"desire\":\"latency\",\"budget_us\":1}");
	CHECK_INT(storage_profile_get(t.db, ckpt, "latency-1us", &p, NULL), WASD_OK);
	CHECK_INT(storage_profile_fail(t.db, p.id, "/budget_us: nothing is that fast", NULL), WASD_OK);
	storage_profile_done(&p);
	a = send("GET", url("/latency-1us?wait=30s"), NULL);
	CHECK_STR(str(&a, "state"), "failed");
	CHECK_STR(str(&a, "message"), "/budget_us: nothing is that fast");
	answer_done(&a);
	expect(202, "POST", base, "{\"desire\":\"latency\",\"budget_us\":1}");
	CHECK_INT(t.searches, 3);
	a = send("GET", base, NULL);
	CHECK_INT(cJSON_GetArraySize(wasd_json_get(a.json, "items")), 2);
	CHECK_STR(at_str(&a, "items/0/name"), "latency-1us");
	CHECK_INT(at_num(&a, "aom/macs"), 100);
	answer_done(&a);
	/* The daemon is notified of a deletion; a profile in use cannot be deleted. */
	char body[200];
	snprintf(body, sizeof body, "{\"name\":\"live\",\"source\":{\"checkpoint\":\"%s\"},\"mode\":\"dom:fast\"}", ckpt);
	expect(201, "POST", "/v1/deployments", body);
	a = send("DELETE", url("/fast"), NULL);
	CHECK_INT(a.r.status, 409);
	CHECK_STR(str(&a, "code"), "referenced");
	CHECK(strstr(str(&a, "detail"), "deployment live") && !*t.profile_gone);
	answer_done(&a);
	expect(204, "DELETE", url("/latency-1us"), NULL);
	CHECK(!strncmp(t.profile_gone, "prof_", 5));
	expect(404, "GET", url("/latency-1us"), NULL);
	expect(200, "PUT", "/v1/deployments/live/mode", "{\"mode\":\"aom\"}");
	expect(204, "DELETE", url("/fast"), NULL);
	/* A rollback to it is no longer possible, and the answer lists the modes that are. */
	a = send("POST", "/v1/deployments/live/mode:rollback", NULL);
	CHECK_INT(a.r.status, 422);
	CHECK(strstr(str(&a, "detail"), "are aom, dom") != NULL);
	answer_done(&a);
	teardown();
}

static void imported(void)
{
	struct wasd_err err = {0};
	char id[32], at[100], sha[WASD_SHA256_HEX];
	begin();
	wasd_sha256_of("bytes", 5, sha);
	struct storage_ckpt_in in = {.data = "bytes",
	                             .bytes = 5,
	                             .sha256 = sha,
	                             .reason = "import",
	                             .info = "{\"arch\":\"resnet18\",\"was\":{},\"input\":[3,32,32]}",
	                             .metrics_json = "{}"};
	CHECK_INT(storage_ckpt_store(t.db, &in, id, &err), WASD_OK);
	snprintf(at, sizeof at, "/v1/checkpoints/%s/profiles", id);
	struct answer a = send("POST", at, "{\"desire\":\"macs\",\"budget\":0.7}");
	CHECK_INT(a.r.status, 422);
	CHECK_STR(at_str(&a, "errors/0/pointer"), "/dataset");
	answer_done(&a);
	expect(202, "POST", at, "{\"desire\":\"macs\",\"budget\":0.7,\"dataset\":\"data\"}");
	/* What the request alone shows is asked before, without a spec. */
	wasd_sha256_of("other", 5, sha);
	in.data = "other";
	in.info = "{\"arch\":\"resnet18\",\"was\":{},\"input\":[3,32,32],\"classes\":[\"zero\",\"one\",\"two\"]}";
	CHECK_INT(storage_ckpt_store(t.db, &in, id, &err), WASD_OK);
	snprintf(at, sizeof at, "/v1/checkpoints/%s/profiles", id);
	a = send("POST", at, "{\"desire\":\"macs\",\"budget\":0.05,\"dataset\":\"data\"}");
	CHECK_INT(a.r.status, 422);
	CHECK_STR(at_str(&a, "errors/0/pointer"), "/budget");
	CHECK(strstr(t.question, "\"profiles\"") && !strstr(t.question, "\"spec\""));
	answer_done(&a);
	teardown();
}

#define PNG "\x89PNG\r\n\x1a\n"
#define IN "{\"inputs\":[{\"name\":\"input\",\"shape\":[1,1,2,2],\"datatype\":\"FP32\",\"data\":[0,1,2,3]}]%s}"

/* One way to name a mode: it is accepted, and the answer names it. */
static void infer_by(const char *where, const char *more, const char *header, const char *want)
{
	char body[300];
	snprintf(body, sizeof body, IN, more);
	struct answer a = send_with("POST", where, body, strlen(body),
	                            (struct extra){.headers = {header ? "wasd-mode" : NULL, header, NULL}});
	CHECK_MSG(a.r.status == 200, "%s %s: %d %s", where, more, a.r.status, a.r.body.len ? a.r.body.data : "");
	CHECK_STR(at_str(&a, "parameters/was_mode"), want);
	CHECK_STR(api_response_header(&a.r, "WASD-Mode"), want);
	CHECK(strstr(t.question, want) != NULL);
	answer_done(&a);
}

static void as_modes(void)
{
	char body[200];
	begin();
	make_ready("fast");
	make_ready("macs-50");
	make_ready("unloaded");
	expect(202, "POST", base, "{\"desire\":\"macs\",\"budget\":0.7,\"name\":\"searched\"}");
	search("searched");
	snprintf(body, sizeof body, "{\"name\":\"live\",\"source\":{\"job\":\"%s\"}}", job);
	expect(201, "POST", "/v1/deployments", body);
	infer_by("/v2/models/live/infer", ",\"parameters\":{\"was_mode\":\"dom:fast\"}", NULL, "dom:fast");
	infer_by("/v2/models/live@dom:fast/infer", "", NULL, "dom:fast");
	infer_by("/v2/models/live%40dom%3Amacs-50/infer", "", NULL, "dom:macs-50");
	infer_by("/v2/models/live/versions/1-dom:macs-50/infer", "", NULL, "dom:macs-50");
	infer_by("/v2/models/live/infer?mode=dom:fast", "", "dom:fast", "dom:fast");
	infer_by("/v2/models/live/infer", "", NULL, "aom");
	struct answer mode = send_with("GET", "/v1/deployments/live/mode", NULL, 0,
	                               (struct extra){.headers = {"if-none-match", "\"g1\"", NULL}});
	CHECK_INT(mode.r.status, 200); /* profiles come and go within a generation */
	CHECK_STR(api_response_header(&mode.r, "Cache-Control"), "no-store");
	answer_done(&mode);
	expect(200, "GET", "/v2/models/live/versions/1-dom:fast/ready", NULL);
	struct answer a = send_with("POST", "/v1/deployments/live/classify?mode=dom:fast", PNG "1", 9,
	                            (struct extra){.headers = {"content-type", "image/png", NULL}});
	CHECK_INT(a.r.status, 200);
	CHECK_STR(str(&a, "mode"), "dom:fast");
	answer_done(&a);
	/* Not ready, not loaded, or nonexistent. */
	static const struct {
		const char *mode;
		int status;
		const char *code, *says;
	} rows[] = {
		{"dom:searched", 409, "bundle_not_ready", "still searching"},
		{"dom:unloaded", 409, "bundle_not_ready", "about to load"},
		{"dom:none", 400, "bad_parameter", "the modes of checkpoint"},
		{"dom:none", 400, "bad_parameter", "are aom, dom, dom:unloaded, dom:macs-50, dom:fast"},
	};
	for (size_t i = 0; i < API_LEN(rows); i++) {
		char where[120];
		snprintf(where, sizeof where, "/v1/deployments/live/classify?mode=%s", rows[i].mode);
		a = send_with("POST", where, PNG "1", 9, (struct extra){.headers = {"content-type", "image/png", NULL}});
		CHECK_MSG(a.r.status == rows[i].status && !strcmp(str(&a, "code"), rows[i].code), "%s: %d %s", rows[i].mode,
		          a.r.status, str(&a, "code"));
		CHECK_MSG(strstr(str(&a, "detail"), rows[i].says) != NULL, "%s: %s", rows[i].mode, str(&a, "detail"));
		answer_done(&a);
	}
	/* The switch, its history, and the cost of each mode. */
	a = send("PUT", "/v1/deployments/live/mode", "{\"mode\":\"dom:fast\"}");
	CHECK(a.r.status == 200 && num(&a, "generation") == 2);
	CHECK_STR(str(&a, "mode"), "dom:fast");
	answer_done(&a);
	expect(200, "PUT", "/v1/deployments/live/mode", "{\"mode\":\"dom\"}");
	a = send("POST", "/v1/deployments/live/mode:rollback", NULL);
	CHECK_STR(str(&a, "mode"), "dom:fast");
	answer_done(&a);
	a = send("GET", "/v1/deployments/live/mode", NULL);
	CHECK_STR(str(&a, "mode"), "dom:fast");
	CHECK_NEAR(at_num(&a, "bundles/dom:fast/acc"), 0.8, 0);
	CHECK_INT(at_num(&a, "bundles/dom:fast/macs"), 40);
	CHECK_NEAR(at_num(&a, "bundles/aom/acc"), 0.5, 0);
	CHECK_INT(cJSON_GetArraySize(wasd_json_get(a.json, "bundles")), 4);
	answer_done(&a);
	expect(409, "PUT", "/v1/deployments/live/mode", "{\"mode\":\"dom:searched\"}");
	infer_by("/v2/models/live/infer", "", NULL, "dom:fast");
	/* Ready but not loaded yet: the switch waits for the deployment's next event, and gives up at the deadline. */
	a = send("PUT", "/v1/deployments/live/mode", "{\"mode\":\"dom:unloaded\"}");
	CHECK_INT(a.result, API_AGAIN);
	CHECK_STR(a.r.again.object, "live");
	answer_done(&a);
	a = send_with("PUT", "/v1/deployments/live/mode", "{\"mode\":\"dom:unloaded\"}", 23,
	              (struct extra){.waited_us = 20000000});
	CHECK_INT(a.r.status, 409);
	CHECK_STR(str(&a, "code"), "bundle_not_ready");
	answer_done(&a);
	a = send("GET", "/metrics", NULL);
	CHECK(strstr(a.r.body.data, "wasd_mode_info{deployment=\"live\",mode=\"dom:fast\"} 1\n") != NULL);
	answer_done(&a);
	/* Export as a file. */
	char where[160];
	snprintf(where, sizeof where, "/v1/checkpoints/%s/file?format=onnx&mode=dom:fast", ckpt);
	a = send("GET", where, NULL);
	CHECK_INT(a.r.status, 200);
	CHECK(strstr(api_response_header(&a.r, "Content-Disposition"), "-epoch2-dom-fast.onnx\"") != NULL);
	answer_done(&a);
	snprintf(where, sizeof where, "/v1/checkpoints/%s/file?format=onnx&mode=dom:searched", ckpt);
	expect(409, "GET", where, NULL);
	/* A profile can be the mode of a new deployment only once it is ready. */
	snprintf(body, sizeof body, "{\"name\":\"other\",\"source\":{\"checkpoint\":\"%s\"},\"mode\":\"dom:searched\"}",
	         ckpt);
	a = send("POST", "/v1/deployments", body);
	CHECK_INT(a.r.status, 409);
	CHECK_STR(str(&a, "code"), "bundle_not_ready");
	answer_done(&a);
	expect(404, "GET", "/v1/deployments/other", NULL);
	teardown();
}

/* A job keeps its requested profiles. */
static void in_a_job(void)
{
	begin();
	struct answer a = send(
		"POST", "/v1/jobs",
		"{\"dataset\":\"data\",\"model\":{\"arch\":\"resnet18\"},\"profiles\":[{\"desire\":\"macs\",\"budget\":0.5}]}");
	CHECK_INT(a.r.status, 201);
	CHECK_STR(at_str(&a, "profiles/0/name"), "macs-50");
	char *request = api_profile_request(at(a.json, "profiles/0"));
	CHECK_STR(request, "{\"desire\":\"macs\",\"budget\":0.5}");
	wasd_free(request);
	answer_done(&a);
	cJSON *draw = cJSON_Parse("{\"draw\":[1],\"desire\":\"draw\",\"name\":\"x\"}");
	request = api_profile_request(draw);
	CHECK_STR(request, "{\"desire\":\"draw\",\"draw\":[1]}");
	wasd_free(request);
	cJSON_Delete(draw);
	teardown();
}

/* A job that trains for a profile stores its draw, so the profile may change or go. */
static void trained_for(void)
{
	char body[400];
	struct answer a;
	begin();
	make_ready("fast");
	expect(202, "POST", base, "{\"desire\":\"macs\",\"budget\":0.6,\"name\":\"later\"}");
	snprintf(
		body, sizeof body,
		"{\"dataset\":\"data\",\"model\":{\"arch\":\"resnet18\"},\"init_from\":\"%s\",\"was\":{\"draw\":\"profile:fast\",\"odds\":{\"plain\":1,\"profile\":3}}}",
		ckpt);
	a = send("POST", "/v1/jobs?dry_run=true", body);
	CHECK_MSG(a.r.status == 200, "%s", a.r.body.len ? a.r.body.data : "");
	CHECK_STR(at_str(&a, "was/draw"), "profile:fast");
	CHECK_INT(at_num(&a, "was/profile/0/dx"), 1);
	CHECK_INT(at_num(&a, "was/odds/profile"), 3);
	CHECK_INT(at_num(&a, "was/odds/fresh"), 0);
	answer_done(&a);
	snprintf(
		body, sizeof body,
		"{\"dataset\":\"data\",\"model\":{\"arch\":\"resnet18\"},\"init_from\":\"%s\",\"was\":{\"draw\":\"profile:later\"}}",
		ckpt);
	a = send("POST", "/v1/jobs", body);
	CHECK_INT(a.r.status, 422);
	CHECK_MSG(strstr(str(&a, "detail"), "later") && strstr(str(&a, "detail"), "queued"), "%s", str(&a, "detail"));
	answer_done(&a);
	teardown();
}

/* The list has the run's own modes and those made from the checkpoint, newest first. */
static void listed_as_modes(void)
{
	char where[100];
	begin();
	snprintf(where, sizeof where, "/v1/checkpoints/%s/modes", ckpt);
	expect(404, "GET", "/v1/checkpoints/none/modes", NULL);
	struct answer a = send("GET", where, NULL);
	CHECK_INT(a.r.status, 200);
	CHECK_INT(cJSON_GetArraySize(at(a.json, "items")), 2);
	CHECK_STR(at_str(&a, "items/0/name"), "aom");
	CHECK_STR(at_str(&a, "items/0/kind"), "plain");
	CHECK_STR(at_str(&a, "items/1/name"), "dom");
	CHECK_STR(at_str(&a, "items/1/kind"), "draw");
	CHECK_STR(at_str(&a, "items/1/state"), "ready");
	CHECK(at_num(&a, "items/0/val_acc") > 0);
	CHECK(cJSON_IsNull(at(a.json, "items/0/us_1")) && cJSON_IsNull(at(a.json, "items/1/us_64")));
	answer_done(&a);
	make_ready("fast");
	expect(202, "POST", base, "{\"name\":\"slow\",\"desire\":\"macs\",\"budget\":0.9}");
	a = send("GET", where, NULL);
	CHECK_INT(cJSON_GetArraySize(at(a.json, "items")), 4);
	CHECK_STR(at_str(&a, "items/2/name"), "dom:slow");
	CHECK_STR(at_str(&a, "items/2/state"), "queued");
	CHECK(cJSON_IsNull(at(a.json, "items/2/macs")));
	CHECK_STR(at_str(&a, "items/3/name"), "dom:fast");
	CHECK_STR(at_str(&a, "items/3/kind"), "draw");
	CHECK_STR(at_str(&a, "items/3/state"), "ready");
	CHECK(at_num(&a, "items/3/macs") == 70 && at_num(&a, "items/3/val_acc") == 0.8);
	CHECK(at_num(&a, "items/3/us_1") == 9000 && at_num(&a, "items/3/us_64") == 32000);
	answer_done(&a);
	/* A family without a mode of this checkpoint does not fall back to another family. */
	snprintf(where, sizeof where, "{\"name\":\"x\",\"source\":{\"checkpoint\":\"%s\"},\"mode\":\"int8:fast\"}", ckpt);
	expect(422, "POST", "/v1/deployments", where);
	teardown();
}

/* The own modes are measured: the row of a measuring ends with these figures. */
static void measure(const char *own)
{
	char where[100];
	struct storage_profile p;
	snprintf(where, sizeof where, "/v1/checkpoints/%s/modes:measure", ckpt);
	expect(404, "DELETE", where, NULL);
	expect(202, "POST", where, NULL);
	expect(200, "POST", where, "{}");
	snprintf(where, sizeof where, "/v1/checkpoints/%s/modes", ckpt);
	struct answer a = send("GET", where, NULL);
	CHECK_STR(at_str(&a, "measuring/state"), "queued");
	answer_done(&a);
	CHECK_INT(storage_profile_get(t.db, ckpt, STORAGE_MEASURING, &p, NULL), WASD_OK);
	CHECK_INT(storage_profile_searching(t.db, p.id, NULL), WASD_OK);
	CHECK_INT(storage_modes_measured(t.db, p.id, own, NULL), WASD_OK);
	storage_profile_done(&p);
	a = send("GET", where, NULL);
	CHECK(cJSON_IsNull(at(a.json, "measuring")));
	answer_done(&a);
}

static void made_as_modes(void)
{
	static const struct {
		const char *body, *pointer;
	} rows[] = {
		{"{}", "/desire"},
		{"{\"desire\":\"speed\"}", "/desire"},
		{"{\"desire\":\"macs\"}", "/budget"},
		{"{\"desire\":\"macs\",\"budget\":0.7,\"name\":\"aom\"}", "/name"},
		{"{\"desire\":\"macs\",\"budget\":0.7,\"dataset\":\"none\"}", "/dataset"},
		{"{\"desire\":\"macs\",\"budget\":0.7,\"base\":\"aom\"}", "/base"},
	};
	char where[100], one[120];
	begin();
	snprintf(where, sizeof where, "/v1/checkpoints/%s/modes", ckpt);
	struct answer a = send("POST", where, "{\"desire\":\"macs\",\"budget\":0.7,\"name\":\"fast\"}");
	snprintf(one, sizeof one, "%s/dom:fast", where);
	CHECK_MSG(a.r.status == 202, "%d %s", a.r.status, str(&a, "detail"));
	CHECK_STR(api_response_header(&a.r, "Location"), one);
	CHECK_STR(str(&a, "name"), "dom:fast");
	CHECK_STR(str(&a, "desire"), "macs");
	CHECK_STR(str(&a, "state"), "queued");
	CHECK(at_num(&a, "options/budget") == 0.7 && cJSON_IsNull(at(a.json, "us_1")));
	answer_done(&a);
	expect(200, "POST", where, "{\"desire\":\"macs\",\"budget\":0.7,\"name\":\"fast\"}");
	expect(409, "POST", where, "{\"desire\":\"macs\",\"budget\":0.6,\"name\":\"fast\"}");
	search("fast");
	a = send("GET", one, NULL);
	CHECK_STR(str(&a, "state"), "searching");
	CHECK(at(a.json, "progress") != NULL);
	answer_done(&a);
	expect(200, "GET", url("/fast"), NULL);
	for (size_t i = 0; i < API_LEN(rows); i++) {
		a = send("POST", where, rows[i].body);
		CHECK_MSG(a.r.status == 422 && !strcmp(at_str(&a, "errors/0/pointer"), rows[i].pointer), "%s: %d %s",
		          rows[i].body, a.r.status, str(&a, "detail"));
		answer_done(&a);
	}
	expect(204, "DELETE", one, NULL);
	expect(404, "GET", one, NULL);
	snprintf(one, sizeof one, "%s/aom", where);
	expect(200, "GET", one, NULL);
	expect(409, "DELETE", one, NULL);
	teardown();
}

static void wishes(void)
{
	static const struct {
		const char *wish, *mode; /* mode NULL: none fits */
		const char *said;
	} rows[] = {
		{"{\"within_us\":9000}", "dom:fast", NULL},
		{"{\"within_us\":20000}", "aom", NULL},
		{"{\"min_accuracy\":0.5}", "dom:fast", NULL},
		{"{\"min_accuracy\":0.85}", "aom", NULL},
		{"{\"max_macs\":80}", "dom:fast", NULL},
		{"{\"max_macs\":100,\"min_accuracy\":0.5}", "aom", NULL},
		{"{\"within_us\":100}", NULL, "the nearest is dom:fast: 9000 us"},
		{"{\"min_accuracy\":0.99}", NULL, "the nearest is aom: 0.9 of validation accuracy"},
		{"{\"max_bytes\":10}", NULL, "the nearest is aom: 400 bytes"}, /* those of fast were not measured */
		{"{\"within_us\":9000,\"min_accuracy\":0.85}", NULL, "the nearest is dom:fast: 0.8 of validation accuracy"},
	};
	char body[200];
	begin();
	/* What asks for no time needs none. */
	measure("{\"aom\":{\"kind\":\"plain\",\"val_acc\":0.9,\"macs\":100}}");
	snprintf(body, sizeof body, "{\"name\":\"fresh\",\"source\":{\"checkpoint\":\"%s\"}}", ckpt);
	expect(201, "POST", "/v1/deployments", body);
	struct answer a = send("PUT", "/v1/deployments/fresh/mode", "{\"mode\":{\"max_macs\":1e15}}");
	CHECK_MSG(a.r.status == 200, "%d %s", a.r.status, str(&a, "detail"));
	CHECK_STR(str(&a, "mode"), "aom");
	answer_done(&a);
	expect(422, "PUT", "/v1/deployments/fresh/mode", "{\"mode\":{\"within_us\":1e9}}");
	expect(422, "PUT", "/v1/deployments/fresh/mode", "{\"mode\":{\"min_accuracy\":0}}");
	make_ready("fast");
	measure("{\"aom\":{\"kind\":\"plain\",\"val_acc\":0.9,\"macs\":100,\"bytes\":400,\"latency_us\":12000,"
	        "\"images_per_s_64\":1000}}");
	snprintf(body, sizeof body, "{\"name\":\"live\",\"source\":{\"checkpoint\":\"%s\"}}", ckpt);
	expect(201, "POST", "/v1/deployments", body);
	for (size_t i = 0; i < API_LEN(rows); i++) {
		snprintf(body, sizeof body, "{\"mode\":%s}", rows[i].wish);
		a = send("PUT", "/v1/deployments/live/mode", body);
		CHECK_MSG(a.r.status == (rows[i].mode ? 200 : 422), "%s: %d %s", body, a.r.status, str(&a, "detail"));
		CHECK_MSG(!rows[i].mode || !strcmp(str(&a, "mode"), rows[i].mode), "%s: %s", body, str(&a, "mode"));
		CHECK_MSG(rows[i].mode || strstr(str(&a, "detail"), rows[i].said), "%s: %s", body, str(&a, "detail"));
		CHECK_MSG(rows[i].mode || strstr(str(&a, "detail"), "modes:measure"), "dom was not: %s", str(&a, "detail"));
		answer_done(&a);
	}
	expect(422, "PUT", "/v1/deployments/live/mode", "{\"mode\":{}}");
	expect(422, "PUT", "/v1/deployments/live/mode", "{\"mode\":{\"within\":9}}");
	expect(422, "PUT", "/v1/deployments/live/mode", "{\"mode\":{\"min_accuracy\":2}}");
	teardown();
}

/* A measuring is replaced only when it has failed, and can be stopped; it takes no place of a mode's. */
static void measuring(void)
{
	static const char other[] = "{\"dataset\":\"other\"}";
	char where[100], body[100];
	struct storage_profile p;
	begin();
	make_dataset("other", test_info);
	snprintf(where, sizeof where, "/v1/checkpoints/%s/modes:measure", ckpt);
	expect(202, "POST", where, NULL);
	struct answer a = send("POST", where, other);
	CHECK_INT(a.r.status, 409);
	CHECK_STR(str(&a, "code"), "conflict");
	CHECK_STR(at_str(&a, "errors/0/pointer"), "/dataset");
	CHECK_MSG(strstr(str(&a, "detail"), "measured already") != NULL, "%s", str(&a, "detail"));
	answer_done(&a);
	expect(204, "DELETE", where, NULL);
	expect(404, "DELETE", where, NULL);
	expect(202, "POST", where, other);
	CHECK_INT(storage_profile_get(t.db, ckpt, STORAGE_MEASURING, &p, NULL), WASD_OK);
	CHECK_STR(p.dataset, "other");
	CHECK_INT(storage_profile_fail(t.db, p.id, "broken", NULL), WASD_OK);
	storage_profile_done(&p);
	expect(202, "POST", where, NULL); /* another data set */
	CHECK_INT(storage_profile_get(t.db, ckpt, STORAGE_MEASURING, &p, NULL), WASD_OK);
	CHECK_STR(p.state, "queued");
	CHECK_STR(p.dataset, "data");
	CHECK_INT(storage_profile_fail(t.db, p.id, "broken", NULL), WASD_OK);
	storage_profile_done(&p);
	for (int i = 0; i < STORAGE_PROFILES_MAX; i++) {
		snprintf(body, sizeof body, "{\"name\":\"m%d\",\"desire\":\"macs\",\"budget\":0.7}", i);
		expect(202, "POST", base, body);
	}
	expect(409, "POST", base, "{\"name\":\"more\",\"desire\":\"macs\",\"budget\":0.7}");
	expect(204, "DELETE", where, NULL);
	expect(202, "POST", where, NULL);
	teardown();
}

int main(void)
{
	TEST_RUN(asking);
	TEST_RUN(life);
	TEST_RUN(imported);
	TEST_RUN(as_modes);
	TEST_RUN(listed_as_modes);
	TEST_RUN(made_as_modes);
	TEST_RUN(measuring);
	TEST_RUN(wishes);
	TEST_RUN(in_a_job);
	TEST_RUN(trained_for);
	TEST_END();
}
