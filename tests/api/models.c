/* tests/api/models.c - the registry: models, versions with their lineage, aliases, and deployments that follow one. */
#include "harness.h"

static char job[64], ckpt[32];

static void begin(void)
{
	setup();
	make_dataset("data", test_info);
	make_job("resnet18", job);
	run_job(job, true, ckpt);
	expect(201, "POST", "/v1/models", "{\"name\":\"digits\",\"note\":\"first\"}");
}

static void add(const char *body_format, const char *what, int version)
{
	char body[200], where[100];
	snprintf(body, sizeof body, body_format, what);
	struct answer a = send("POST", "/v1/models/digits/versions", body);
	snprintf(where, sizeof where, "/v1/models/digits/versions/%d", version);
	CHECK_MSG(a.r.status == 201, "%d %s", a.r.status, str(&a, "detail"));
	CHECK_STR(api_response_header(&a.r, "Location"), where);
	CHECK_INT(at_num(&a, "version"), version);
	answer_done(&a);
}

static void models_and_versions(void)
{
	begin();
	add("{\"checkpoint\":\"%s\",\"note\":\"good\"}", ckpt, 1);
	add("{\"job\":\"%s\",\"follow\":\"latest\",\"alias\":\"champion\"}", job, 2);
	struct answer a = send("GET", "/v1/models/digits", NULL);
	CHECK_INT(at_num(&a, "latest_version"), 2);
	CHECK_INT(at_num(&a, "aliases/champion"), 2);
	CHECK_STR(str(&a, "note"), "first");
	answer_done(&a);
	a = send("GET", "/v1/models/digits/versions/2", NULL);
	CHECK_STR(str(&a, "checkpoint"), ckpt);
	CHECK_STR(at_str(&a, "aliases/0"), "champion");
	CHECK_STR(at_str(&a, "lineage/job"), job);
	CHECK_STR(at_str(&a, "lineage/dataset/name"), "data");
	CHECK_INT(at_num(&a, "lineage/dataset/version"), 1);
	CHECK(strlen(at_str(&a, "lineage/sha256")) == 64 && strlen(at_str(&a, "lineage/spec_digest")) == 64);
	answer_done(&a);
	a = send("GET", "/v1/models/digits/versions?limit=1", NULL);
	CHECK(at_num(&a, "items/0/version") == 2 && *str(&a, "next_cursor"));
	answer_done(&a);
	a = send("PATCH", "/v1/models/digits", "{\"note\":\"second\"}");
	CHECK_STR(str(&a, "note"), "second");
	answer_done(&a);
	a = send("GET", "/v1/models", NULL);
	CHECK_STR(at_str(&a, "items/0/note"), "second");
	answer_done(&a);
	char url[100];
	snprintf(url, sizeof url, "/v1/checkpoints/%s", ckpt);
	a = send("DELETE", url, NULL);
	CHECK_MSG(a.r.status == 409 && !strcmp(str(&a, "code"), "referenced") &&
	              strstr(str(&a, "detail"), "digits version"),
	          "%d %s", a.r.status, str(&a, "detail"));
	answer_done(&a);
	expect(409, "DELETE", "/v1/models/digits/versions/2", NULL); /* the alias names it */
	expect(204, "DELETE", "/v1/models/digits/versions/1", NULL);
	expect(404, "GET", "/v1/models/digits/versions/1", NULL);
	expect(204, "DELETE", "/v1/models/digits", NULL);
	expect(404, "GET", "/v1/models/digits", NULL);
	teardown();
}

static void checkpoint_of(const char *name, const char *want, int version)
{
	char url[100];
	snprintf(url, sizeof url, "/v1/deployments/%s", name);
	struct answer a = send("GET", url, NULL);
	CHECK_STR(str(&a, "checkpoint"), want);
	CHECK_INT(at_num(&a, "version"), version);
	answer_done(&a);
}

static struct answer move_if(const char *etag, const char *body)
{
	return send_with("PUT", "/v1/models/digits/aliases/champion", body, strlen(body),
	                 (struct extra){.headers = {"content-type", "application/json", "if-match", etag, NULL}});
}

/* The deployment that follows the alias is moved and loaded again; the one of a fixed version is not. */
static void aliases(void)
{
	char second[64], other[32];
	begin();
	make_job("resnet18", second);
	run_job(second, true, other);
	add("{\"checkpoint\":\"%s\"}", ckpt, 1);
	add("{\"checkpoint\":\"%s\"}", other, 2);
	struct answer a = send("PUT", "/v1/models/digits/aliases/champion", "{\"version\":1,\"reason\":\"begin\"}");
	CHECK_INT(a.r.status, 201);
	CHECK_STR(api_response_header(&a.r, "ETag"), "\"v1\"");
	answer_done(&a);
	expect(201, "POST", "/v1/deployments",
	       "{\"name\":\"live\",\"source\":{\"model\":\"digits\",\"alias\":\"champion\"}}");
	expect(201, "POST", "/v1/deployments", "{\"name\":\"fixed\",\"source\":{\"model\":\"digits\",\"version\":1}}");
	checkpoint_of("live", ckpt, 1);
	t.changed[0] = 0;
	a = move_if("\"v2\"", "{\"version\":2}");
	CHECK_MSG(a.r.status == 412 && !strcmp(api_response_header(&a.r, "ETag"), "\"v1\""), "%d", a.r.status);
	answer_done(&a);
	a = move_if("\"v1\"", "{\"version\":2}");
	CHECK_INT(a.r.status, 200);
	CHECK_STR(at_str(&a, "deployments_moved/0"), "live");
	CHECK_INT(cJSON_GetArraySize(wasd_json_get(a.json, "deployments_moved")), 1);
	answer_done(&a);
	CHECK_STR(t.changed, "live");
	checkpoint_of("live", other, 2);
	checkpoint_of("fixed", ckpt, 1);
	a = send("GET", "/v1/models/digits/aliases/champion/history", NULL);
	CHECK(at_num(&a, "items/0/version") == 2 && at_num(&a, "items/0/previous") == 1);
	CHECK(at_num(&a, "items/1/version") == 1 &&
	      cJSON_IsNull(wasd_json_get(cJSON_GetArrayItem(wasd_json_get(a.json, "items"), 1), "previous")));
	CHECK_STR(at_str(&a, "items/1/reason"), "begin");
	answer_done(&a);
	static const struct {
		const char *url, *names;
	} kept[] = {
		{"/v1/models/digits/aliases/champion", "deployment live"},
		{"/v1/models/digits/versions/1", "deployment fixed"},
		{"/v1/models/digits", "deployment"},
	};
	for (size_t i = 0; i < API_LEN(kept); i++) {
		a = send("DELETE", kept[i].url, NULL);
		CHECK_MSG(a.r.status == 409 && strstr(str(&a, "detail"), kept[i].names), "%s: %d %s", kept[i].url, a.r.status,
		          str(&a, "detail"));
		answer_done(&a);
	}
	expect(204, "DELETE", "/v1/deployments/live", NULL);
	expect(204, "DELETE", "/v1/models/digits/aliases/champion", NULL);
	expect(404, "GET", "/v1/models/digits/aliases/champion", NULL);
	teardown();
}

static void refusals(void)
{
	static const struct {
		const char *method, *url, *body;
		int status;
		const char *pointer;
	} rows[] = {
		{"POST", "/v1/models", "{\"name\":\"digits\"}", 409, "/name"},
		{"POST", "/v1/models", "{\"name\":\"No Name\"}", 422, "/name"},
		{"POST", "/v1/models", "{}", 422, "/name"},
		{"POST", "/v1/models/digits/versions", "{}", 422, "/job"},
		{"POST", "/v1/models/digits/versions", "{\"checkpoint\":\"ckpt_none\"}", 422, "/checkpoint"},
		{"POST", "/v1/models/digits/versions", "{\"job\":\"job_none\"}", 422, "/job"},
		{"POST", "/v1/models/digits/versions", "{\"model\":\"digits\",\"version\":1}", 422, "/model"},
		{"POST", "/v1/models/digits/versions", "{\"checkpoint\":\"x\",\"notes\":\"\"}", 422, "/notes"},
		{"POST", "/v1/models/digits/versions", "{\"checkpoint\":\"x\",\"alias\":\"A B\"}", 422, "/alias"},
		{"POST", "/v1/models/none/versions", "{\"checkpoint\":\"x\"}", 404, NULL},
		{"PUT", "/v1/models/digits/aliases/champion", "{\"version\":7}", 422, "/version"},
		{"PUT", "/v1/models/digits/aliases/champion", "{\"version\":0}", 422, "/version"},
		{"PUT", "/v1/models/none/aliases/champion", "{\"version\":1}", 404, NULL},
		{"GET", "/v1/models/digits/versions/x", NULL, 404, NULL},
		{"POST", "/v1/deployments", "{\"name\":\"d\",\"source\":{\"model\":\"digits\"}}", 422, "/source"},
		{"POST", "/v1/deployments", "{\"name\":\"d\",\"source\":{\"model\":\"digits\",\"version\":9}}", 422,
	     "/source/version"},
		{"POST", "/v1/deployments", "{\"name\":\"d\",\"source\":{\"model\":\"digits\",\"alias\":\"none\"}}", 422,
	     "/source/alias"},
	};
	begin();
	for (size_t i = 0; i < API_LEN(rows); i++) {
		struct answer a = send(rows[i].method, rows[i].url, rows[i].body);
		CHECK_MSG(a.r.status == rows[i].status, "%s %s %s: %d %s", rows[i].method, rows[i].url,
		          rows[i].body ? rows[i].body : "", a.r.status, str(&a, "detail"));
		if (rows[i].pointer)
			CHECK_STR(at_str(&a, "errors/0/pointer"), rows[i].pointer);
		answer_done(&a);
	}
	struct answer a = send("GET", "/v1/models/digits", NULL);
	CHECK(cJSON_IsNull(wasd_json_get(a.json, "latest_version")));
	answer_done(&a);
	teardown();
}

int main(void)
{
	TEST_RUN(models_and_versions);
	TEST_RUN(aliases);
	TEST_RUN(refusals);
	TEST_END();
}
