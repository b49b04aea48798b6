/* tests/api/serving.c - deployments, the mode switch, classify, and the inference protocol with captured requests of
 * stock clients. */
#include "harness.h"

static char job[64], ckpt[32];

static void begin(void)
{
	setup();
	make_dataset("data", test_info);
	make_job("resnet18", job);
	run_job(job, true, ckpt);
}

static void deploy(const char *name)
{
	char body[200];
	snprintf(body, sizeof body, "{\"name\":\"%s\",\"source\":{\"job\":\"%s\"}}", name, job);
	expect(201, "POST", "/v1/deployments", body);
}

static void deployments(void)
{
	char body[300];
	begin();
	snprintf(body, sizeof body, "{\"name\":\"live\",\"source\":{\"job\":\"%s\",\"follow\":\"best\"},\"mode\":\"aom\"}",
	         job);
	struct answer a = send("POST", "/v1/deployments", body);
	CHECK_INT(a.r.status, 201);
	CHECK_STR(api_response_header(&a.r, "Location"), "/v1/deployments/live");
	CHECK_STR(str(&a, "state"), "ready");
	CHECK_STR(str(&a, "checkpoint"), ckpt);
	CHECK_STR(at_str(&a, "source/follow"), "best");
	CHECK_STR(str(&a, "dataset"), "data");
	CHECK_STR(str(&a, "arch"), "resnet18");
	CHECK_STR(str(&a, "job_name"), "resnet18-data");
	CHECK_INT(at_num(&a, "modes/dom/macs"), 70);
	answer_done(&a);
	snprintf(body, sizeof body, "{\"name\":\"by-id\",\"source\":{\"checkpoint\":\"%s\"},\"mode\":\"dom\"}", ckpt);
	expect(201, "POST", "/v1/deployments", body);
	/* A deployment that is slow to become ready. */
	t.not_ready = true;
	snprintf(body, sizeof body, "{\"name\":\"slow\",\"source\":{\"job\":\"%s\"}}", job);
	a = send("POST", "/v1/deployments?wait=30s", body);
	CHECK_INT(a.result, API_AGAIN);
	CHECK_STR(a.r.again.object, "slow");
	answer_done(&a);
	storage_deployment_state(t.db, "slow", "loading", NULL, NULL);
	storage_deployment_state(t.db, "slow", "failed", "not a checkpoint of ours", NULL);
	a = send_with("POST", "/v1/deployments?wait=30s", body, strlen(body), (struct extra){.waited = 1});
	CHECK_INT(a.r.status, 422);
	CHECK_STR(str(&a, "code"), "load_failed");
	CHECK_STR(str(&a, "detail"), "deployment slow: not a checkpoint of ours");
	answer_done(&a);
	a = send("GET", "/v1/deployments", NULL);
	CHECK_INT(cJSON_GetArraySize(wasd_json_get(a.json, "items")), 3);
	answer_done(&a);
	a = send("GET", "/v2/models", NULL);
	CHECK_INT(cJSON_GetArraySize(wasd_json_get(a.json, "models")), 3);
	answer_done(&a);
	expect(204, "DELETE", "/v1/deployments/slow", NULL);
	expect(404, "GET", "/v1/deployments/slow", NULL);
	teardown();
}

static void options(void)
{
	char body[300];
	begin();
	snprintf(body, sizeof body,
	         "{\"name\":\"live\",\"source\":{\"job\":\"%s\"},\"required\":false,\"batching\":{},\"queue\":{\"max\":7}}",
	         job);
	struct answer a = send("POST", "/v1/deployments", body);
	CHECK_INT(a.r.status, 201);
	CHECK(cJSON_IsFalse(wasd_json_get(a.json, "required")));
	CHECK_INT(at_num(&a, "batching/max_batch"), 32);
	CHECK_INT(at_num(&a, "batching/max_queue_delay_us"), 0);
	CHECK_INT(at_num(&a, "queue/max"), 7);
	CHECK_INT(at_num(&a, "queue/default_timeout_us"), 0);
	CHECK(cJSON_IsNull(wasd_json_get(a.json, "limits")));
	answer_done(&a);
	/* A merge patch: members that it does not name stay, null sets the default. */
	a = send("PATCH", "/v1/deployments/live",
	         "{\"queue\":{\"default_timeout_us\":5000},\"batching\":{\"max_batch\":4,\"max_queue_delay_us\":300}}");
	CHECK_INT(a.r.status, 200);
	CHECK_INT(at_num(&a, "queue/max"), 7);
	CHECK_INT(at_num(&a, "queue/default_timeout_us"), 5000);
	CHECK_INT(at_num(&a, "batching/max_batch"), 4);
	CHECK_INT(at_num(&a, "generation"), 1);
	CHECK_STR(t.last_name, "live"); /* the daemon was told */
	answer_done(&a);
	a = send("PATCH", "/v1/deployments/live",
	         "{\"queue\":{\"max\":null},\"batching\":null,\"required\":true,\"limits\":{\"threads\":2}}");
	CHECK_INT(at_num(&a, "queue/max"), 0);
	CHECK_INT(at_num(&a, "queue/default_timeout_us"), 5000);
	CHECK(cJSON_IsNull(wasd_json_get(a.json, "batching")));
	CHECK(cJSON_IsTrue(wasd_json_get(a.json, "required")));
	CHECK_INT(at_num(&a, "limits/threads"), 2);
	answer_done(&a);
	a = send("GET", "/v1/audit?object=deployment/live&limit=1", NULL);
	CHECK_STR(at_str(&a, "items/0/action"), "deployment.options");
	CHECK_INT(at_num(&a, "items/0/before/options/batching/max_batch"), 4);
	CHECK_INT(at_num(&a, "items/0/after/options/limits/threads"), 2);
	answer_done(&a);
	/* If-Match: the entity tag of GET. A refused patch changes nothing. */
	a = send("GET", "/v1/deployments/live", NULL);
	char etag[80];
	snprintf(etag, sizeof etag, "%s", api_response_header(&a.r, "ETag"));
	answer_done(&a);
	static const char two[] = "{\"batching\":{\"max_batch\":2}}";
	a = send_with("PATCH", "/v1/deployments/live", two, strlen(two),
	              (struct extra){.headers = {"if-match", "\"old\""}});
	CHECK_INT(a.r.status, 412);
	CHECK_STR(api_response_header(&a.r, "ETag"), etag);
	answer_done(&a);
	a = send("PATCH", "/v1/deployments/live", "{\"required\":false,\"batching\":{\"max_batch\":0}}");
	CHECK_INT(a.r.status, 422);
	answer_done(&a);
	a = send_with("PATCH", "/v1/deployments/live", two, strlen(two), (struct extra){.headers = {"if-match", etag}});
	CHECK_INT(a.r.status, 200);
	CHECK(cJSON_IsTrue(wasd_json_get(a.json, "required")));
	CHECK_INT(at_num(&a, "batching/max_batch"), 2);
	answer_done(&a);
	expect(404, "PATCH", "/v1/deployments/none", two);
	teardown();
}

static void updates(void)
{
	char body[300], other[32], url[200];
	begin();
	deploy("live");
	expect(409, "POST", "/v1/deployments/live:rollback", NULL);
	make_job("resnet18", job);
	run_job(job, true, other);
	/* While it loads: 202, and the old one is served. */
	t.not_ready = true;
	snprintf(body, sizeof body, "{\"source\":{\"checkpoint\":\"%s\"},\"mode\":\"dom\",\"reason\":\"try it\"}", other);
	struct answer a = send("PATCH", "/v1/deployments/live", body);
	CHECK_INT(a.r.status, 202);
	CHECK_STR(str(&a, "state"), "ready");
	CHECK_STR(str(&a, "checkpoint"), ckpt);
	CHECK_STR(at_str(&a, "update/checkpoint"), other);
	CHECK_STR(at_str(&a, "update/state"), "loading");
	CHECK_STR(at_str(&a, "update/reason"), "try it");
	CHECK_STR(at_str(&a, "conditions/0/type"), "Switching");
	answer_done(&a);
	snprintf(url, sizeof url, "/v1/checkpoints/%s", other);
	a = send("DELETE", url, NULL);
	CHECK_INT(a.r.status, 409);
	CHECK_STR(str(&a, "code"), "referenced");
	answer_done(&a);
	a = send("PATCH", "/v1/deployments/live?wait=30s", body);
	CHECK_INT(a.result, API_AGAIN);
	CHECK_STR(a.r.again.object, "live");
	answer_done(&a);
	/* It cannot be loaded. */
	struct wasd_err err = {0};
	CHECK_INT(storage_deployment_update_failed(t.db, "live", other, "not finite", &err), WASD_OK);
	a = send_with("PATCH", "/v1/deployments/live?wait=30s", body, strlen(body), (struct extra){.waited = 1});
	CHECK_INT(a.r.status, 422);
	CHECK_STR(str(&a, "code"), "load_failed");
	CHECK(strstr(str(&a, "detail"), "not finite") && strstr(str(&a, "detail"), ckpt));
	answer_done(&a);
	a = send("GET", "/v1/deployments/live", NULL);
	CHECK_STR(str(&a, "state"), "ready");
	CHECK_STR(at_str(&a, "conditions/0/type"), "UpdateFailed");
	CHECK_STR(at_str(&a, "conditions/0/reason"), "not finite");
	CHECK_STR(at_str(&a, "update/error"), "not finite");
	answer_done(&a);
	/* Reload tries again. */
	t.not_ready = false;
	expect(202, "POST", "/v1/deployments/live:reload", NULL);
	a = send("GET", "/v1/deployments/live", NULL);
	CHECK_STR(str(&a, "checkpoint"), other);
	CHECK_STR(str(&a, "previous"), ckpt);
	CHECK_STR(str(&a, "mode"), "dom");
	CHECK_INT(at_num(&a, "version"), 2);
	CHECK_INT(at_num(&a, "generation"), 2);
	CHECK(cJSON_IsNull(wasd_json_get(a.json, "update")));
	answer_done(&a);
	a = send("GET", "/v1/audit?object=deployment/live&limit=1", NULL);
	CHECK_STR(at_str(&a, "items/0/action"), "deployment.swap");
	answer_done(&a);
	a = send("POST", "/v1/deployments/live:rollback?wait=10s", "{\"reason\":\"worse\"}");
	CHECK_INT(a.r.status, 200);
	CHECK_STR(str(&a, "checkpoint"), ckpt);
	CHECK_STR(at_str(&a, "source/checkpoint"), ckpt);
	CHECK_INT(at_num(&a, "version"), 3);
	answer_done(&a);
	/* Its own checkpoint by another name: nothing is loaded. */
	snprintf(body, sizeof body, "{\"source\":{\"job\":\"%s\"},\"mode\":\"dom\"}", job);
	a = send("PATCH", "/v1/deployments/live", body);
	CHECK_INT(at_num(&a, "version"), 4);
	answer_done(&a);
	a = send("PATCH", "/v1/deployments/live", "{\"mode\":\"aom\"}");
	CHECK_INT(a.r.status, 200);
	CHECK_STR(str(&a, "mode"), "aom");
	CHECK_INT(at_num(&a, "version"), 4);
	answer_done(&a);
	snprintf(body, sizeof body, "{\"source\":{\"checkpoint\":\"%s\"}}", other);
	a = send("PATCH", "/v1/deployments/live", body);
	CHECK_INT(a.r.status, 200);
	CHECK_INT(at_num(&a, "version"), 4);
	CHECK_STR(at_str(&a, "source/checkpoint"), other);
	answer_done(&a);
	/* Nothing is changed by a request with a fault anywhere. */
	snprintf(body, sizeof body, "{\"source\":{\"checkpoint\":\"ckpt_none\"},\"required\":false}");
	expect(422, "PATCH", "/v1/deployments/live", body);
	a = send("GET", "/v1/deployments/live", NULL);
	CHECK(cJSON_IsTrue(wasd_json_get(a.json, "required")));
	answer_done(&a);
	teardown();
}

static void repository(void)
{
	begin();
	deploy("live");
	/* Draining: index, refusals, then gone. */
	t.unanswered = 2;
	struct answer a = send("POST", "/v2/repository/models/live/unload",
	                       "{\"parameters\":{\"unload_dependents\":false}}");
	CHECK_INT(a.result, API_AGAIN);
	answer_done(&a);
	a = send("POST", "/v2/repository/index", NULL);
	CHECK_STR(at_str(&a, "0/state"), "UNLOADING");
	answer_done(&a);
	storage_deployment_drained(t.db, "live", NULL);
	a = send_with("POST", "/v2/repository/models/live/unload", NULL, 0, (struct extra){.waited = 1});
	CHECK_INT(a.r.status, 200);
	answer_done(&a);
	a = send("POST", "/v2/repository/index", NULL);
	CHECK_STR(at_str(&a, "0/state"), "UNAVAILABLE");
	CHECK_STR(at_str(&a, "0/reason"), "unloaded");
	answer_done(&a);
	expect(200, "POST", "/v2/repository/models/live/unload", NULL); /* it is */
	/* A configuration in Triton's words. */
	static const struct {
		const char *config;
		int status, max_batch, delay; /* -1: null */
		const char *says;
	} rows[] = {
		{"{\\\"dynamic_batching\\\":{\\\"preferred_batch_size\\\":[4,16],\\\"max_queue_delay_microseconds\\\":200}}",
	     200, 16, 200, ""},
		{"{\\\"max_batch_size\\\":8,\\\"dynamic_batching\\\":{}}", 200, 8, 0, ""},
		{"{\\\"max_batch_size\\\":1}", 200, -1, 0, ""},
		{"{\\\"name\\\":\\\"live\\\"}", 200, -1, 0, ""},
		{"{\\\"input\\\":[]}", 400, -1, 0, "/parameters/config/input"},
		{"{\\\"dynamic_batching\\\":{\\\"preferred_batch_size\\\":[0]}}", 400, -1, 0, "from 1 to 64"},
		{"{\\\"max_batch_size\\\":65}", 400, -1, 0, "/parameters/config/max_batch_size"},
		{"nonsense", 400, -1, 0, "not a JSON object"},
	};
	for (size_t i = 0; i < API_LEN(rows); i++) {
		char body[400];
		snprintf(body, sizeof body, "{\"parameters\":{\"config\":\"%s\"}}", rows[i].config);
		a = send("POST", "/v2/repository/models/live/load", body);
		CHECK_MSG(a.r.status == rows[i].status && (a.r.status == 200 || strstr(str(&a, "error"), rows[i].says)),
		          "%s: %d %s", rows[i].config, a.r.status, str(&a, "error"));
		answer_done(&a);
		a = send("GET", "/v1/deployments/live", NULL);
		if (rows[i].max_batch > 0) {
			CHECK_INT(at_num(&a, "batching/max_batch"), rows[i].max_batch);
			CHECK_INT(at_num(&a, "batching/max_queue_delay_us"), rows[i].delay);
		} else {
			CHECK_MSG(cJSON_IsNull(wasd_json_get(a.json, "batching")), "%s", rows[i].config);
		}
		CHECK_STR(str(&a, "state"), "ready");
		answer_done(&a);
	}
	a = send("POST", "/v2/repository/models/live/load", "{\"parameters\":{\"file:1/model.pt\":\"AA==\"}}");
	CHECK_INT(a.r.status, 400);
	CHECK(strstr(str(&a, "error"), "takes no files"));
	answer_done(&a);
	/* Deleted with requests in flight. */
	a = send("DELETE", "/v1/deployments/live", NULL);
	CHECK_INT(a.r.status, 202);
	CHECK_STR(str(&a, "state"), "draining");
	answer_done(&a);
	expect(503, "GET", "/v2/models/live/ready", NULL);
	expect(409, "PATCH", "/v1/deployments/live", "{\"mode\":\"dom\"}");
	expect(202, "DELETE", "/v1/deployments/live", NULL);
	expect(409, "POST", "/v2/repository/models/live/load", NULL);
	storage_deployment_drained(t.db, "live", NULL);
	expect(404, "GET", "/v1/deployments/live", NULL);
	teardown();
}

static void switching(void)
{
	begin();
	deploy("live");
	struct answer a = send("GET", "/v1/deployments/live/mode", NULL);
	CHECK_STR(str(&a, "mode"), "aom");
	CHECK_INT(num(&a, "generation"), 1);
	CHECK_STR(str(&a, "etag"), "\"g1\"");
	CHECK_STR(api_response_header(&a.r, "ETag"), "\"g1\"");
	CHECK_STR(str(&a, "by"), "tester");
	CHECK_NEAR(at_num(&a, "bundles/aom/acc"), 0.5, 0);
	CHECK_NEAR(at_num(&a, "bundles/dom/acc"), 0.25, 0);
	CHECK_INT(at_num(&a, "bundles/dom/macs"), 70);
	CHECK_STR(at_str(&a, "bundles/dom/acc_images"), "validation");
	answer_done(&a);
	/* The deployment object has the same data, so a list of all needs no further request. */
	a = send("GET", "/v1/deployments/live", NULL);
	CHECK_NEAR(at_num(&a, "modes/dom/acc"), 0.25, 0);
	CHECK_INT(at_num(&a, "modes/dom/macs"), 70);
	CHECK_INT(num(&a, "dataset_version"), 1);
	answer_done(&a);
	a = send_with("GET", "/v1/deployments/live/mode", NULL, 0,
	              (struct extra){.headers = {"if-none-match", "\"g1\"", NULL}});
	CHECK_INT(a.r.status, 304);
	answer_done(&a);
	static const char to_dom[] = "{\"mode\":\"dom\",\"reason\":\"peak\"}";
	a = send_with("PUT", "/v1/deployments/live/mode", to_dom, strlen(to_dom),
	              (struct extra){.headers = {"if-match", "\"g7\"", NULL}});
	CHECK_INT(a.r.status, 412);
	CHECK_STR(str(&a, "code"), "stale");
	CHECK_STR(api_response_header(&a.r, "ETag"), "\"g1\"");
	answer_done(&a);
	a = send_with("PUT", "/v1/deployments/live/mode", to_dom, strlen(to_dom),
	              (struct extra){.headers = {"if-match", "\"g1\"", NULL}});
	CHECK_INT(a.r.status, 200);
	CHECK_STR(str(&a, "mode"), "dom");
	CHECK_STR(str(&a, "previous"), "aom");
	CHECK_INT(num(&a, "generation"), 2);
	CHECK_INT(num(&a, "swap_us"), 7);
	CHECK_INT(num(&a, "in_flight_old"), 0);
	CHECK(!strncmp(str(&a, "audit_id"), "aud_", 4));
	CHECK_STR(api_response_header(&a.r, "ETag"), "\"g2\"");
	char audit[64];
	snprintf(audit, sizeof audit, "%s", str(&a, "audit_id"));
	answer_done(&a);
	a = send("PUT", "/v1/deployments/live/mode", to_dom); /* the same mode: no new generation */
	CHECK(a.r.status == 200 && num(&a, "generation") == 2 && cJSON_IsNull(wasd_json_get(a.json, "audit_id")));
	answer_done(&a);
	a = send("GET", "/v1/audit?object=deployment/live&limit=1", NULL);
	CHECK_STR(at_str(&a, "items/0/id"), audit);
	CHECK_STR(at_str(&a, "items/0/reason"), "peak");
	CHECK_STR(at_str(&a, "items/0/before/mode"), "aom");
	CHECK_STR(at_str(&a, "items/0/after/mode"), "dom");
	answer_done(&a);
	a = send("POST", "/v1/deployments/live/mode:rollback", NULL);
	CHECK(a.r.status == 200 && num(&a, "generation") == 3);
	CHECK_STR(str(&a, "mode"), "aom");
	answer_done(&a);
	a = send("POST", "/v1/deployments/live/mode/rollback", "{\"reason\":\"and back\"}");
	CHECK_STR(str(&a, "mode"), "dom");
	answer_done(&a);
	teardown();
}

#define PNG "\x89PNG\r\n\x1a\n"
#define FIELD(name) "--B\r\nContent-Disposition: form-data; name=\"" name "\"\r\n\r\n"
#define PART(name, file, type) \
	"--B\r\nContent-Disposition: form-data; name=\"" name "\"; filename=\"" file "\"\r\nContent-Type: " type "\r\n\r\n"

static int64_t num_of_wanted(const char *question, const char *member)
{
	cJSON *j = cJSON_Parse(question);
	int64_t v = -1;
	wasd_json_i64(j, member, &v);
	cJSON_Delete(j);
	return v;
}

/* A request may say how urgent it is and how long its client waits; 0 is the default of the deployment. */
static void urgency(void)
{
#define TENSOR "\"inputs\":[{\"name\":\"input\",\"shape\":[1,1,2,2],\"datatype\":\"FP32\",\"data\":[0,1,2,3]}]"
	static const char image[] = "{\"images\":[\"iVBORw0KGgpB\"]}";
	static const struct {
		const char *url, *body;
		int priority;
		int64_t us; /* 0: the daemon's limit */
	} rows[] = {
		{"/v1/deployments/live/classify?priority=1&timeout=5000", image, 1, 5000},
		{"/v1/deployments/live/classify?priority=4", image, 4, 0},
		{"/v1/deployments/live/classify?priority=0&timeout=0", image, 0, 0},
		{"/v1/deployments/live/classify", image, 0, 0},
		{"/v2/models/live/infer", "{\"parameters\":{\"priority\":1,\"timeout\":5000}," TENSOR "}", 1, 5000},
		{"/v2/models/live/infer", "{" TENSOR "}", 0, 0},
	};
	int64_t limit = 0;
	begin();
	deploy("live");
	for (size_t i = API_LEN(rows); i-- > 0;) { /* the last row tells the limit */
		struct answer a = send("POST", rows[i].url, rows[i].body);
		CHECK_INT(a.r.status, 200);
		CHECK_INT(t.priority, rows[i].priority);
		limit = limit ? limit : t.waits_us;
		CHECK_INT(t.waits_us, rows[i].us ? rows[i].us : limit);
		answer_done(&a);
	}
	CHECK(limit > 5000);
	teardown();
#undef TENSOR
}

static void classify(void)
{
	static const char jpeg[] = "\xff\xd8\xff\xe0..",
					  form[] = "--B\r\nContent-Disposition: form-data; name=\"a\"; filename=\"a.png\"\r\n\r\n" PNG
							   "1\r\n--B\r\nContent-Disposition: form-data; name=\"b\"\r\n\r\n" PNG "22\r\n--B--\r\n";
	static const char json[] = "{\"images\":[\"iVBORw0KGgpB\"]}";
	static const struct {
		const char *type, *body;
		size_t n;
		int images;
	} rows[] = {
		{"image/png", PNG "x", 9, 1},
		{"image/jpeg", jpeg, sizeof jpeg - 1, 1},
		{"application/octet-stream", PNG "x", 9, 1},
		{NULL, jpeg, sizeof jpeg - 1, 1},
		{"application/x-www-form-urlencoded", PNG "x", 9, 1},
		{"multipart/form-data; boundary=B", form, sizeof form - 1, 2},
		{"application/json", json, sizeof json - 1, 1},
		{"application/x-www-form-urlencoded", json, sizeof json - 1, 1},
		{"image/jpg", jpeg, sizeof jpeg - 1, 1},
		{"image/x-png", PNG "x", 9, 1},
		{"binary/whatever", jpeg, sizeof jpeg - 1, 1},
		{"application/json", PNG "x", 9, 1},
	};
	begin();
	deploy("live");
	for (size_t i = 0; i < API_LEN(rows); i++) {
		struct answer a =
			send_with(i % 2 ? "PUT" : "POST", "/v1/deployments/live/classify?k=2", rows[i].body, rows[i].n,
		              (struct extra){.headers = {rows[i].type ? "content-type" : NULL, rows[i].type, NULL}});
		CHECK_MSG(a.r.status == 200 && cJSON_GetArraySize(wasd_json_get(a.json, "results")) == rows[i].images,
		          "row %zu: %d %s", i, a.r.status, a.r.body.data);
		CHECK_STR(str(&a, "model"), "live");
		CHECK_STR(str(&a, "mode"), "aom");
		CHECK_INT(num(&a, "generation"), 1);
		CHECK_INT(num(&a, "version"), 1);
		CHECK_INT(num(&a, "macs"), 100);
		CHECK_INT(at_num(&a, "timing_us/queue"), 2);
		CHECK_STR(at_str(&a, "results/0/top/0/label"), "one");
		CHECK_STR(api_response_header(&a.r, "WASD-Mode"), "aom");
		CHECK_STR(api_response_header(&a.r, "WASD-Generation"), "1");
		answer_done(&a);
	}
	char want[200];
	snprintf(want, sizeof want, "{\"type\":\"classify\",\"sizes\":[9],\"k\":2,\"bundle\":\"%s\",\"mode\":\"aom\"}",
	         ckpt);
	CHECK_STR(t.question, want); /* the exact question to the engine */
	CHECK_INT(t.question_bin, 9);
	/* Logits: results and probabilities are computed here, and the answer includes the raw values. */
	struct answer a = send("POST", "/v1/deployments/live/classify?logits=1&k=5&mode=dom", json);
	CHECK_STR(str(&a, "mode"), "dom");
	CHECK_INT(num(&a, "macs"), 70);
	CHECK_INT(cJSON_GetArraySize(at(a.json, "results/0/top")), 3);
	CHECK_STR(at_str(&a, "results/0/top/0/label"), "one"); /* logits 0, 1, 0.5 */
	CHECK_STR(at_str(&a, "results/0/top/1/label"), "two");
	CHECK_NEAR(at_num(&a, "results/0/top/0/p"), exp(1) / (1 + exp(1) + exp(0.5)), 1e-7);
	CHECK_NEAR(at_num(&a, "results/0/logits/2"), 0.5, 0);
	answer_done(&a);
	/* A form: known fields are read, others ignored; the bytes decide which parts are images. */
	static const struct {
		const char *query, *rest;
		int status;
		int images;
		int top;
		const char *says;
	} forms[] = {
		{"",
	     FIELD("k") "2\r\n" FIELD("mode") "dom\r\n" FIELD("note") "hello\r\n" PART("a", "a.jpg", "image/jpg") PNG "1",
	     200, 1, 2, "dom"},
		{"?k=2",
	     FIELD("k") "2\r\n" PART("files[]", "a", "application/octet-stream") PNG "1\r\n" PART("b", "", "text/plain") PNG
	     "2",
	     200, 2, 2, "aom"},
		{"", FIELD("shot") "data:image/png;base64,iVBORw0KGgpB", 200, 1, 3, "aom"},
		{"?k=1", FIELD("k") "2\r\n" PART("a", "a", "image/png") PNG "1", 400, 0, 0, "query parameter k is"},
		{"?mode=aom", FIELD("mode") "dom\r\n" PART("a", "a", "image/png") PNG "1", 400, 0, 0, "form field mode"},
		{"", FIELD("k") "many\r\n" PART("a", "a", "image/png") PNG "1", 400, 0, 0, "form field k"},
		{"", FIELD("k") "2", 422, 0, 0, "no part that is an image"},
		{"", PART("a", "a.png", "image/png") PNG "1\r\n" PART("pic", "notes.txt", "image/png") "text", 422, 0, 0,
	     "/images/1, part \"pic\" notes.txt"},
		{"", PART("pic", "bad.png", "image/png") PNG "B", 422, 0, 0, "part \"pic\" bad.png: PNG: "},
	};
	for (size_t i = 0; i < API_LEN(forms); i++) {
		char url[80], body[1000];
		snprintf(url, sizeof url, "/v1/deployments/live/classify%s", forms[i].query);
		int n = snprintf(body, sizeof body, "%s\r\n--B--\r\n", forms[i].rest);
		a = send_with("POST", url, body, (size_t)n,
		              (struct extra){.headers = {"content-type", "multipart/form-data; boundary=B", NULL}});
		CHECK_MSG(a.r.status == forms[i].status &&
		              cJSON_GetArraySize(wasd_json_get(a.json, "results")) == forms[i].images,
		          "form %zu: %d %s", i, a.r.status, a.r.body.data);
		if (forms[i].images) {
			CHECK_STR(str(&a, "mode"), forms[i].says);
			CHECK_INT(num_of_wanted(t.question, "k"), forms[i].top);
		} else {
			CHECK_MSG(strstr(str(&a, "detail"), forms[i].says) != NULL, "form %zu: %s", i, str(&a, "detail"));
		}
		answer_done(&a);
	}
	/* The places that can name a mode. */
	static const struct {
		const char *header, *query;
		int status;
		const char *mode;
	} wishes[] = {
		{NULL, "", 200, "aom"},           {"dom", "", 200, "dom"},         {NULL, "?mode=dom", 200, "dom"},
		{"dom", "?mode=dom", 200, "dom"}, {"dom", "?mode=aom", 400, NULL}, {"DOM", "", 400, NULL},
	};
	for (size_t i = 0; i < API_LEN(wishes); i++) {
		char url[80];
		snprintf(url, sizeof url, "/v1/deployments/live/classify%s", wishes[i].query);
		a = send_with("POST", url, PNG, 8,
		              (struct extra){.headers = {"content-type", "image/png", wishes[i].header ? "wasd-mode" : NULL,
		                                         wishes[i].header, NULL}});
		CHECK_INT(a.r.status, wishes[i].status);
		if (wishes[i].mode)
			CHECK_STR(api_response_header(&a.r, "WASD-Mode"), wishes[i].mode);
		answer_done(&a);
	}
	t.engine_down = true;
	a = send("POST", "/v1/deployments/live/classify", json);
	CHECK_INT(a.r.status, 503);
	CHECK_STR(api_response_header(&a.r, "Retry-After"), "1");
	CHECK(strstr(str(&a, "detail"), "started again") != NULL);
	answer_done(&a);
	a = send_with("POST", "/v1/deployments/live/classify", json, strlen(json),
	              (struct extra){.headers = {"content-type", "application/json", NULL}, .late = true});
	CHECK_INT(a.r.status, 504);
	CHECK_STR(str(&a, "code"), "deadline");
	answer_done(&a);
	teardown();
}

/* A deployment whose work repeatedly killed the inference process, and its health report. */
static void set_aside(void)
{
	static const char zero[] =
		"{\"inputs\":[{\"name\":\"input\",\"shape\":[1,1,2,2],\"datatype\":\"FP32\",\"data\":[0,0,0,0]}]}";
	static const struct {
		const char *method, *url, *body;
	} asks[] = {
		{"POST", "/v1/deployments/aside/classify", "{\"images\":[\"iVBORw0KGgpB\"]}"},
		{"POST", "/v2/models/aside/infer", zero},
		{"GET", "/v2/models/aside/ready", NULL},
	};
	begin();
	deploy("aside");
	storage_deployment_state(t.db, "aside", "ready", "Suspended: it kills", NULL);
	struct answer a;
	for (size_t i = 0; i < API_LEN(asks); i++) {
		a = send(asks[i].method, asks[i].url, asks[i].body);
		CHECK_INT(a.r.status, 503);
		CHECK_STR(str(&a, "code"), "suspended");
		CHECK_STR(str(&a, "detail"), "deployment aside is suspended: Suspended: it kills");
		CHECK_STR(api_response_header(&a.r, "Retry-After"), "17");
		answer_done(&a);
	}
	CHECK_INT(t.in_flight, 0);
	a = send("POST", "/v1/deployments/aside:reload", "{\"reason\":\"mended\"}");
	CHECK_INT(a.r.status, 202);
	CHECK_STR(str(&a, "name"), "aside");
	answer_done(&a);
	a = send("GET", "/v1/audit?object=deployment/aside&limit=1", NULL);
	CHECK_STR(at_str(&a, "items/0/action"), "deployment.reload");
	CHECK_STR(at_str(&a, "items/0/reason"), "mended");
	answer_done(&a);
	expect(202, "POST", "/v1/deployments/aside/reload", NULL);
	expect(404, "POST", "/v1/deployments/none:reload", NULL);
	expect(422, "POST", "/v1/deployments/aside:reload", "{\"now\":true}");
	t.serving_health = "{\"up\":true,\"restart_in_s\":null,\"suspended\":[\"aside\"]}";
	a = send("GET", "/v2/health/ready", NULL);
	CHECK_INT(a.r.status, 200);
	CHECK_STR(a.r.body.data, "{\"live\":true,\"ready\":true,\"suspended\":[\"aside\"]}");
	answer_done(&a);
	t.serving_health = "{\"up\":false,\"restart_in_s\":8,\"suspended\":[]}";
	a = send("GET", "/v2/health/ready", NULL);
	CHECK_INT(a.r.status, 503);
	CHECK_STR(api_response_header(&a.r, "Retry-After"), "8");
	CHECK(cJSON_IsFalse(at(a.json, "ready")) && strstr(str(&a, "reason"), "waits before it starts again"));
	answer_done(&a);
	expect(200, "GET", "/v2/health/live", NULL);
	teardown();
}

/* ---- the inference protocol: whole answers, byte for byte ---- */

static void v2_answers(void)
{
	static const struct {
		const char *url, *want;
	} rows[] = {
		{"/v2",
	     "{\"name\":\"wasd\",\"version\":\"" WASD_VERSION
	     "\",\"extensions\":[\"binary_tensor_data\",\"classification\",\"model_repository\",\"model_configuration\",\"statistics\",\"schedule_policy\",\"parameters\"]}"},
		{"/v2/",
	     "{\"name\":\"wasd\",\"version\":\"" WASD_VERSION
	     "\",\"extensions\":[\"binary_tensor_data\",\"classification\",\"model_repository\",\"model_configuration\",\"statistics\",\"schedule_policy\",\"parameters\"]}"},
		{"/v2/health/live", "{\"live\":true,\"ready\":true}"},
		{"/v2/health/ready", "{\"live\":true,\"ready\":true}"},
		{"/v2/models", "{\"models\":[\"live\"]}"},
		{"/v2/models/live",
	     "{\"name\":\"live\",\"versions\":[\"1\"],\"platform\":\"wasd_cnn\",\"inputs\":[{\"name\":\"input\",\"datatype\":\"FP32\",\"shape\":[-1,1,2,2]},"
	     "{\"name\":\"image\",\"datatype\":\"BYTES\",\"shape\":[-1],\"optional\":true}],"
	     "\"outputs\":[{\"name\":\"logits\",\"datatype\":\"FP32\",\"shape\":[-1,3]},{\"name\":\"probs\",\"datatype\":\"FP32\",\"shape\":[-1,3]}],"
	     "\"properties\":{\"arch\":\"lenet\",\"was_mode\":\"aom\",\"was_generation\":\"1\",\"pixels\":\"input, FP32: (v/255 - 0.5)/0.5 for a pixel v from 0 to 255, NCHW; input, UINT8: the pixels themselves; image, BYTES: JPEG or PNG files of any size\","
	     "\"channels\":\"grey\",\"classes\":\"[\\\"zero\\\",\\\"one\\\",\\\"two\\\"]\"}}"},
		{"/v2/models/live/ready", "{\"name\":\"live\",\"ready\":true}"},
		{"/v2/models/live/versions/1/ready", "{\"name\":\"live\",\"ready\":true}"},
		{"/v2/models/live%40dom/ready", "{\"name\":\"live\",\"ready\":true}"},
		{"/v2/models/live/config",
	     "{\"name\":\"live\",\"platform\":\"wasd_cnn\",\"max_batch_size\":4,\"input\":[{\"name\":\"input\",\"data_type\":\"TYPE_FP32\",\"dims\":[1,2,2]},"
	     "{\"name\":\"image\",\"data_type\":\"TYPE_STRING\",\"dims\":[1],\"optional\":true}],"
	     "\"output\":[{\"name\":\"logits\",\"data_type\":\"TYPE_FP32\",\"dims\":[3]},{\"name\":\"probs\",\"data_type\":\"TYPE_FP32\",\"dims\":[3]}],\"version_policy\":{\"specific\":{\"versions\":[1]}}}"},
	};
	begin();
	deploy("live");
	for (size_t i = 0; i < API_LEN(rows); i++) {
		struct answer a = send("GET", rows[i].url, NULL);
		CHECK_INT(a.r.status, 200);
		CHECK_STR(a.r.body.data, rows[i].want);
		CHECK_STR(a.r.content_type, "application/json"); /* the KServe SDK compares it without charset */
		answer_done(&a);
	}
	static const char stats[] =
		"{\"model_stats\":[{\"name\":\"live\",\"version\":\"1\",\"last_inference\":7,\"inference_count\":3,\"execution_count\":2,\"memory_usage\":[],\"response_stats\":{}}]}";
	static const char *const urls[] = {"/v2/models/stats", "/v2/models/live/stats", "/v2/models/live/versions/1/stats"};
	for (size_t i = 0; i < API_LEN(urls); i++) {
		struct answer s = send("GET", urls[i], NULL);
		CHECK_INT(s.r.status, 200);
		CHECK_STR(s.r.body.data, stats);
		answer_done(&s);
	}
	static const char *const bodies[] = {NULL, "{}", "{\"ready\":true}"};
	for (size_t i = 0; i < API_LEN(bodies); i++) {
		struct answer s = send("POST", "/v2/repository/index", bodies[i]);
		CHECK_INT(s.r.status, 200);
		CHECK_STR(s.r.body.data, "[{\"name\":\"live\",\"version\":\"1\",\"state\":\"READY\",\"reason\":\"\"}]");
		answer_done(&s);
	}
	static const struct {
		const char *method, *url;
	} not_offered[] = {{"GET", "/v2/logging"},
	                   {"POST", "/v2/logging"},
	                   {"GET", "/v2/trace/setting"},
	                   {"POST", "/v2/trace/setting"},
	                   {"GET", "/v2/systemsharedmemory/status"},
	                   {"POST", "/v2/systemsharedmemory/region/a/register"},
	                   {"POST", "/v2/cudasharedmemory/unregister"}};
	for (size_t i = 0; i < API_LEN(not_offered); i++) {
		struct answer s = send(not_offered[i].method, not_offered[i].url, NULL);
		CHECK_MSG(s.r.status == 501 && strstr(str(&s, "error"), "not offered"), "%s: %d", not_offered[i].url,
		          s.r.status);
		answer_done(&s);
	}
	t.not_ready = true;
	struct answer a = send("GET", "/v2/health/ready", NULL);
	CHECK_INT(a.r.status, 503);
	CHECK_STR(a.r.body.data, "{\"live\":true,\"ready\":false}");
	answer_done(&a);
	a = send("GET", "/v2/health/live", NULL);
	CHECK_INT(a.r.status, 200);
	answer_done(&a);
	a = send("GET", "/v2/models/none", NULL);
	CHECK_STR(
		a.r.body.data,
		"{\"type\":\"/docs/errors#not_found\",\"title\":\"Not found\",\"status\":404,\"detail\":\"no deployment none\",\"instance\":\"/v2/models/none\",\"code\":\"not_found\","
		"\"request_id\":\"req_test\",\"trace_id\":\"0af7651916cd43dd8448eb211c80319c\",\"error\":\"no deployment none\",\"errors\":[]}");
	CHECK_STR(a.r.content_type, "application/json");
	answer_done(&a);
	teardown();
}

#define LOGITS "{\"name\":\"logits\",\"datatype\":\"FP32\",\"shape\":[1,3],\"data\":[0,1,0.5]}"

static void v2_infer(void)
{
	/* Requests as stock clients send them; each row says which quirk it tests. */
	static const struct {
		const char *why, *url, *body;
		const char *headers[6];
		const char *id, *mode;
		int outputs;
	} rows[] = {
		{"tritonclient: no Content-Type, JSON data, outputs listed without binary",
	     "/v2/models/live/infer",
	     "{\"id\":\"42\",\"inputs\":[{\"name\":\"input\",\"shape\":[1,1,2,2],\"datatype\":\"FP32\",\"data\":[0,1,2,3]}],\"outputs\":[{\"name\":\"logits\",\"parameters\":{\"binary_data\":false}}]}",
	     {NULL},
	     "42",
	     "aom",
	     1},
		{"tritonclient quotes model names, and its C++ cousin sends the header length always",
	     "/v2/models/live%40dom/infer",
	     "{\"inputs\":[{\"name\":\"input\",\"shape\":[1,1,2,2],\"datatype\":\"FP32\",\"data\":[0,1,2,3]}]}",
	     {"inference-header-content-length", "82", NULL},
	     "req_test",
	     "dom",
	     2},
		{"any version string passes through tritonclient",
	     "/v2/models/live/versions/1-dom/infer",
	     "{\"inputs\":[{\"name\":\"input\",\"shape\":[1,1,2,2],\"datatype\":\"FP32\",\"data\":[0,1,2,3]}]}",
	     {NULL},
	     "req_test",
	     "dom",
	     2},
		{"the KServe SDK adds model_name and nested data, and has no version argument",
	     "/v2/models/live/infer",
	     "{\"model_name\":\"live\",\"inputs\":[{\"name\":\"input\",\"shape\":[1,1,2,2],\"datatype\":\"FP32\",\"data\":[[[[0,1],[2,3]]]]}],\"parameters\":{\"was_mode\":\"dom\"}}",
	     {"content-type", "application/json", NULL},
	     "req_test",
	     "dom",
	     2},
		{"reserved parameters of clients are ignored",
	     "/v2/models/live/infer?x=1",
	     "{\"parameters\":{\"priority\":1,\"timeout\":5,\"sequence_id\":7,\"binary_data_output\":false},\"inputs\":[{\"name\":\"input\",\"shape\":[1,1,2,2],\"datatype\":\"FP32\",\"data\":[0,1,2,3],\"extra\":{}}],\"outputs\":[]}",
	     {"wasd-mode", "aom", NULL},
	     "req_test",
	     "aom",
	     2},
	};
	begin();
	deploy("live");
	for (size_t i = 0; i < API_LEN(rows); i++) {
		struct extra x = {0};
		memcpy(x.headers, rows[i].headers, sizeof rows[i].headers);
		struct answer a = send_with("POST", rows[i].url, rows[i].body, strlen(rows[i].body), x);
		CHECK_MSG(a.r.status == 200, "%s: %d %s", rows[i].why, a.r.status, a.r.body.data);
		CHECK_STR(a.r.content_type, "application/json");
		CHECK(!api_response_header(&a.r, "Inference-Header-Content-Length"));
		CHECK_STR(str(&a, "id"), rows[i].id);
		CHECK_STR(str(&a, "model_name"), "live");
		CHECK_STR(str(&a, "model_version"), "1");
		CHECK_STR(at_str(&a, "parameters/was_mode"), rows[i].mode);
		CHECK_INT(at_num(&a, "parameters/was_generation"), 1);
		CHECK_STR(api_response_header(&a.r, "WASD-Mode"), rows[i].mode);
		CHECK_INT(cJSON_GetArraySize(wasd_json_get(a.json, "outputs")), rows[i].outputs);
		char *logits = wasd_json_print(at(a.json, "outputs/0"));
		CHECK_STR(logits, LOGITS);
		wasd_free(logits);
		answer_done(&a);
	}
	CHECK_INT(t.question_bin, 16);
	/* Two images, outputs in the requested order; probabilities sum to one. */
	struct answer a = send(
		"POST", "/v2/models/live/infer",
		"{\"inputs\":[{\"name\":\"input\",\"shape\":[2,1,2,2],\"datatype\":\"FP32\",\"data\":[1,2,3,4,5,6,7,8]}],\"outputs\":[{\"name\":\"probs\"},{\"name\":\"logits\"}]}");
	CHECK_STR(at_str(&a, "outputs/0/name"), "probs");
	CHECK_INT(at_num(&a, "outputs/1/shape/0"), 2);
	CHECK_INT(cJSON_GetArraySize(at(a.json, "outputs/1/data")), 6);
	CHECK_NEAR(at_num(&a, "outputs/1/data/3"), 1, 0);
	CHECK_NEAR(at_num(&a, "outputs/0/data/3") + at_num(&a, "outputs/0/data/4") + at_num(&a, "outputs/0/data/5"), 1,
	           1e-6);
	answer_done(&a);
	teardown();
}

/* Answers with binary parts: parses the JSON in front. */
static const char *at_text(const cJSON *j, const char *path)
{
	const cJSON *v = at(j, path);
	return cJSON_IsString(v) ? v->valuestring : "";
}

static cJSON *head_of(const struct answer *a, const char **tail)
{
	const char *h = api_response_header(&a->r, "Inference-Header-Content-Length");
	size_t n = h ? (size_t)atol(h) : 0;
	cJSON *j = NULL;
	CHECK_STR(a->r.content_type, "application/octet-stream");
	CHECK(n && n <= a->r.body.len && !wasd_json_parse(a->r.body.data, n, WASD_JSON_BULK, &j, NULL));
	*tail = a->r.body.data + n;
	return j;
}

/* The golden capture of tritonclient, whose lengths are 143 and 159. */
static const char captured[] =
	"{\"inputs\":[{\"name\":\"input\",\"shape\":[1,1,2,2],\"datatype\":\"FP32\",\"parameters\":{\"binary_data_size\":16}}],\"parameters\":{\"binary_data_output\":true}}"
	"\0\0\0\0\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40";

static void v2_binary(void)
{
	static const float logits[3] = {0, 1, 0.5f};
	const char *tail;
	float got[3];
	begin();
	deploy("live");
	CHECK_INT(sizeof captured - 1, 159);
	struct answer a = send_with("POST", "/v2/models/live/infer", captured, sizeof captured - 1,
	                            (struct extra){.headers = {"inference-header-content-length", "143", NULL}});
	CHECK_INT(a.r.status, 200);
	CHECK(t.question_bin == 16 && !memcmp(t.question_data, captured + 143, 16));
	cJSON *j = head_of(&a, &tail);
	CHECK_STR(at_text(j, "outputs/0/name"), "logits");
	CHECK_STR(at_text(j, "outputs/1/name"), "probs");
	CHECK(!at(j, "outputs/0/data") && at(j, "outputs/0/parameters/binary_data_size")->valueint == 12);
	memcpy(got, tail, sizeof got);
	CHECK(!memcmp(got, logits, sizeof got));
	CHECK_INT(a.r.body.data + a.r.body.len - tail, 24);
	cJSON_Delete(j);
	answer_done(&a);
	/* Wrong lengths, and bytes that no tensor claims. */
	static const struct {
		const char *length, *code;
	} lengths[] = {{"160", "bad_request"}, {"-1", "bad_request"},
	               {"", "bad_request"},    {"1e2", "bad_request"},
	               {"159", "bad_json"},    {"142", "bad_json"},
	               {"0", "bad_tensor"},    {"99999999999999", "bad_request"}};
	for (size_t i = 0; i < API_LEN(lengths); i++) {
		a = send_with("POST", "/v2/models/live/infer", captured, sizeof captured - 1,
		              (struct extra){.headers = {"inference-header-content-length", lengths[i].length, NULL}});
		CHECK_MSG(a.r.status == 400 && !strcmp(str(&a, "code"), lengths[i].code) &&
		              !strcmp(str(&a, "error"), str(&a, "detail")),
		          "length %s: %d %s", lengths[i].length, a.r.status, str(&a, "code"));
		answer_done(&a);
	}
	char longer[sizeof captured + 4];
	memcpy(longer, captured, sizeof captured - 1);
	memset(longer + sizeof captured - 1, 0, 4);
	a = send_with("POST", "/v2/models/live/infer", longer, sizeof captured + 3,
	              (struct extra){.headers = {"inference-header-content-length", "143", NULL}});
	CHECK_MSG(a.r.status == 400 && strstr(str(&a, "detail"), "4 bytes remain after the last tensor"), "%s",
	          a.r.body.data);
	answer_done(&a);
	/* Without JSON the body is one image, and the answer is binary. */
	a = send_with("POST", "/v2/models/live/infer", captured + 143, 16,
	              (struct extra){.headers = {"inference-header-content-length", "0", NULL}});
	CHECK_INT(a.r.status, 200);
	j = head_of(&a, &tail);
	CHECK(!memcmp(tail, logits, sizeof logits));
	cJSON_Delete(j);
	answer_done(&a);
	teardown();
}

#define ONE "\"inputs\":[{\"name\":\"input\",\"shape\":[1,1,2,2],\"datatype\":\"FP32\",\"data\":[1,2,3,4]}]"

/* An output is binary by its own flag, else by the request's; the default is JSON. */
static void v2_output_forms(void)
{
	static const struct {
		const char *body;
		int n, binary[2];
	} rows[] = {
		{"{" ONE "}", 2, {0, 0}},
		{"{" ONE ",\"parameters\":{\"binary_data_output\":true}}", 2, {1, 1}},
		{"{" ONE ",\"outputs\":[{\"name\":\"probs\"}],\"parameters\":{\"binary_data_output\":true}}", 1, {1}},
		{"{" ONE
	     ",\"outputs\":[{\"name\":\"probs\",\"parameters\":{\"binary_data\":false}},{\"name\":\"logits\"}],\"parameters\":{\"binary_data_output\":true}}",
	     2,
	     {0, 1}},
		{"{" ONE ",\"outputs\":[{\"name\":\"logits\",\"parameters\":{\"binary_data\":true}},{\"name\":\"probs\"}]}",
	     2,
	     {1, 0}},
	};
	begin();
	deploy("live");
	for (size_t i = 0; i < API_LEN(rows); i++) {
		struct answer a = send("POST", "/v2/models/live/infer", rows[i].body);
		const char *tail = NULL;
		bool any = rows[i].binary[0] || rows[i].binary[1];
		CHECK_MSG(a.r.status == 200, "%s: %d", rows[i].body, a.r.status);
		cJSON *j = any ? head_of(&a, &tail) : cJSON_Duplicate(a.json, 1);
		CHECK_INT(cJSON_GetArraySize(wasd_json_get(j, "outputs")), rows[i].n);
		for (int k = 0; k < rows[i].n; k++) {
			const cJSON *o = cJSON_GetArrayItem(wasd_json_get(j, "outputs"), k);
			bool numbers = wasd_json_get(o, "data") != NULL, bytes = at(o, "parameters/binary_data_size") != NULL;
			CHECK_MSG(numbers == !rows[i].binary[k] && bytes == !numbers, "%s: output %d", rows[i].body, k);
		}
		cJSON_Delete(j);
		answer_done(&a);
	}
	/* The best classes as strings value:index:label. */
	struct answer a = send("POST", "/v2/models/live/infer",
	                       "{" ONE ",\"outputs\":[{\"name\":\"logits\",\"parameters\":{\"classification\":2}}]}");
	char *out = wasd_json_print(at(a.json, "outputs/0"));
	CHECK_STR(
		out,
		"{\"name\":\"logits\",\"datatype\":\"BYTES\",\"shape\":[1,2],\"data\":[\"1.000000:1:one\",\"0.500000:2:two\"]}");
	wasd_free(out);
	answer_done(&a);
	a = send("POST", "/v2/models/live/infer",
	         "{" ONE
	         ",\"outputs\":[{\"name\":\"logits\",\"parameters\":{\"classification\":9,\"binary_data\":true}}]}");
	const char *tail = NULL;
	cJSON *j = head_of(&a, &tail);
	CHECK_INT(at(j, "outputs/0/shape/1")->valueint, 3);
	CHECK(!memcmp(tail,
	              "\x0e\0\0\0"
	              "1.000000:1:one"
	              "\x0e\0\0\0"
	              "0.500000:2:two",
	              36));
	cJSON_Delete(j);
	answer_done(&a);
	/* Encoded images; the bytes are the golden capture's. */
	static const char picture[] =
		"{\"inputs\":[{\"name\":\"image\",\"shape\":[1],\"datatype\":\"BYTES\",\"parameters\":{\"binary_data_size\":10}}]}\x06\0\0\0PNGPNG";
	char length[24];
	snprintf(length, sizeof length, "%zu", sizeof picture - 1 - 10);
	a = send_with("POST", "/v2/models/live/infer", picture, sizeof picture - 1,
	              (struct extra){.headers = {"inference-header-content-length", length, NULL}});
	CHECK_INT(a.r.status, 200);
	CHECK(strstr(t.question, "\"type\":\"logits\",\"sizes\":[6]") && t.question_bin == 6 &&
	      !memcmp(t.question_data, "PNGPNG", 6));
	answer_done(&a);
	/* An image that cannot be decoded is the client's fault, reported at its tensor. */
	a = send(
		"POST", "/v2/models/live/infer",
		"{\"inputs\":[{\"name\":\"image\",\"shape\":[1],\"datatype\":\"BYTES\",\"data\":[\"iVBORw0KGgpBQUI=\"]}]}");
	CHECK_MSG(a.r.status == 200, "%s", a.r.body.data);
	answer_done(&a);
	a = send(
		"POST", "/v2/models/live/infer",
		"{\"inputs\":[{\"name\":\"image\",\"shape\":[1],\"datatype\":\"BYTES\",\"data\":[\"iVBORw0KGgpCQkI=\"]}]}");
	CHECK_INT(a.r.status, 400);
	CHECK_STR(str(&a, "code"), "bad_image");
	CHECK_STR(at_str(&a, "errors/0/pointer"), "/inputs/0/data");
	answer_done(&a);
	teardown();
}

static void the_daemon_itself(void)
{
	begin();
	deploy("live");
	struct answer a = send("GET", "/v1/system", NULL);
	CHECK(a.r.status == 200 && wasd_json_get(a.json, "workers") && wasd_json_get(a.json, "storage"));
	CHECK_STR(str(&a, "version"), WASD_VERSION);
	answer_done(&a);
	a = send("GET", "/v1/capabilities", NULL);
	CHECK_STR(at_str(&a, "archs/1/name"), "vgg16");
	CHECK_STR(at_str(&a, "archs/1/links/layers"), "/v1/capabilities/archs/vgg16");
	answer_done(&a);
	a = send("GET", "/healthz", NULL);
	CHECK_STR(str(&a, "status"), "ok");
	answer_done(&a);
	a = send("GET", "/metrics", NULL);
	CHECK_STR(a.r.content_type, "text/plain; version=0.0.4");
	static const char *const lines[] = {"\nwasd_build_info{version=\"" WASD_VERSION "\"} 1\n",
	                                    "\nwasd_jobs{state=\"completed\"} 1\n", "\nwasd_jobs{state=\"queued\"} 0\n",
	                                    "\nwasd_mode_info{deployment=\"live\",mode=\"aom\"} 1\n",
	                                    "\nwasd_sqlite_commit_seconds_bucket{le=\"+Inf\"} "};
	for (size_t i = 0; i < API_LEN(lines); i++)
		CHECK_MSG(strstr(a.r.body.data, lines[i]), "%s", lines[i]);
	answer_done(&a);
	teardown();
}

/* The questions to the engine about a network, and the answers to its refusals. */
static void networks(void)
{
	begin();
	struct answer a = send("GET", "/v1/capabilities/archs/vgg16", NULL);
	CHECK_INT(a.r.status, 200);
	CHECK_STR(at_str(&a, "layers/0/op"), "input");
	CHECK(api_response_header(&a.r, "ETag"));
	CHECK_STR(t.question, "{\"model\":{\"arch\":\"vgg16\"},\"input\":[3,32,32],\"classes\":10}");
	answer_done(&a);
	a = send("GET", "/v1/capabilities/archs/vgg16?input=1x64x48&classes=7&model.head=4096", NULL);
	CHECK_INT(a.r.status, 200);
	CHECK_STR(t.question, "{\"model\":{\"arch\":\"vgg16\",\"head\":4096},\"input\":[1,64,48],\"classes\":7}");
	answer_done(&a);
	expect(404, "GET", "/v1/capabilities/archs/alexnet", NULL);
	static const char *const bad[] = {"input=3x32",   "input=3x32x32x", "input=0x32x32",   "input=threex32x32",
	                                  "classes=1",    "classes=many",   "model.head=wide", "model.arch=1",
	                                  "model.head=7", "head=512"};
	for (size_t i = 0; i < API_LEN(bad); i++) {
		char url[120];
		snprintf(url, sizeof url, "/v1/capabilities/archs/vgg16?%s", bad[i]);
		a = send("GET", url, NULL);
		CHECK_MSG(a.r.status == 400, "%s: %d", bad[i], a.r.status);
		answer_done(&a);
	}
	t.engine_down = true;
	expect(500, "GET", "/v1/capabilities/archs/vgg16", NULL);
	teardown();
}

int main(void)
{
	TEST_RUN(deployments);
	TEST_RUN(options);
	TEST_RUN(updates);
	TEST_RUN(repository);
	TEST_RUN(switching);
	TEST_RUN(classify);
	TEST_RUN(urgency);
	TEST_RUN(set_aside);
	TEST_RUN(v2_answers);
	TEST_RUN(v2_infer);
	TEST_RUN(v2_binary);
	TEST_RUN(v2_output_forms);
	TEST_RUN(the_daemon_itself);
	TEST_RUN(networks);
	TEST_END();
}
