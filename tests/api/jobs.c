/* tests/api/jobs.c - jobs over the API: submit, idempotency, lists, waits, metrics, logs, cancel, delete;
 * checkpoints. */
#include "harness.h"

static const char *member_str(const cJSON *j, const char *name)
{
	const char *s = "(absent)";
	wasd_json_str(j, name, &s);
	return s;
}

static void submit(void)
{
	setup();
	make_dataset("data", test_info);
	struct answer dry = send("POST", "/v1/jobs?dry_run=true",
	                         "{\"dataset\":\"data\",\"model\":{\"arch\":\"resnet18\"}}");
	CHECK_INT(dry.r.status, 200);
	CHECK_INT(num(&dry, "priority"), 50);
	CHECK_STR(member_str(wasd_json_get(dry.json, "dataset"), "name"), "data");
	struct answer none = send("GET", "/v1/jobs", NULL);
	CHECK_INT(cJSON_GetArraySize(wasd_json_get(none.json, "items")), 0);
	struct answer a = send(
		"POST", "/v1/jobs",
		"{\"dataset\":\"data\",\"model\":{\"arch\":\"resnet18\"},\"labels\":{\"team\":\"x\"},\"name\":\"'; DROP TABLE jobs;--\"}");
	CHECK_INT(a.r.status, 201);
	CHECK_STR(str(&a, "state"), "queued");
	CHECK_STR(str(&a, "name"), "'; DROP TABLE jobs;--");
	CHECK_STR(str(&a, "dataset_digest"), "digest");
	CHECK_STR(str(&a, "created_by"), "tester");
	CHECK_INT(strlen(str(&a, "spec_digest")), 64);
	CHECK_INT(t.queued, 1);
	char want[100];
	snprintf(want, sizeof want, "/v1/jobs/%s", str(&a, "id"));
	CHECK_STR(api_response_header(&a.r, "Location"), want);
	/* The spec's members are members of the job, and the dataset's version is fixed. */
	int64_t version = 0;
	wasd_json_i64(wasd_json_get(a.json, "dataset"), "version", &version);
	CHECK_INT(version, 1);
	CHECK_STR(member_str(wasd_json_get(a.json, "model"), "arch"), "resnet18");
	struct answer got = send("GET", want, NULL);
	CHECK_INT(got.r.status, 200);
	CHECK_STR(got.r.body.data, a.r.body.data);
	CHECK_STR(api_response_header(&got.r, "ETag"), api_response_header(&a.r, "ETag"));
	struct answer same = send_with("GET", want, NULL, 0,
	                               (struct extra){
									   .headers = {"if-none-match", api_response_header(&got.r, "ETag"), NULL}});
	CHECK_INT(same.r.status, 304);
	CHECK_INT(same.r.body.len, 0);
	struct answer part = send("GET", "/v1/jobs?fields=state", NULL);
	CHECK_INT(cJSON_GetArraySize(wasd_json_get(part.json, "items")->child), 2);
	answer_done(&dry), answer_done(&none), answer_done(&a), answer_done(&got), answer_done(&same), answer_done(&part);
	teardown();
}

static void idempotency(void)
{
	setup();
	make_dataset("data", test_info);
	static const char *const bodies[] = {"{\"dataset\":\"data\",\"model\":{\"arch\":\"lenet\"}}",
	                                     "{\"dataset\":\"data\",\"model\":{\"arch\":\"resnet18\"}}"};
	struct answer a[4];
	for (int i = 0; i < 4; i++) {
		const char *body = bodies[i == 2], *key = i == 3 ? "another" : "key-1";
		a[i] = send_with("POST", "/v1/jobs", body, strlen(body),
		                 (struct extra){.headers = {"content-type", "application/json", "idempotency-key", key, NULL}});
	}
	CHECK_INT(a[0].r.status, 201);
	CHECK_INT(a[1].r.status, 201);
	CHECK_STR(str(&a[0], "id"), str(&a[1], "id"));
	CHECK_STR(api_response_header(&a[1].r, "Idempotency-Replayed"), "true");
	CHECK_INT(a[2].r.status, 409);
	CHECK_STR(str(&a[2], "code"), "idempotency_conflict");
	CHECK_INT(a[3].r.status, 201);
	CHECK(strcmp(str(&a[3], "id"), str(&a[0], "id")) != 0);
	CHECK_INT(t.queued, 2);
	struct answer bad = send_with("POST", "/v1/jobs", bodies[0], strlen(bodies[0]),
	                              (struct extra){.headers = {"idempotency-key", "two words", NULL}});
	CHECK_INT(bad.r.status, 400);
	for (int i = 0; i < 4; i++)
		answer_done(&a[i]);
	answer_done(&bad);
	teardown();
}

static void lists(void)
{
	setup();
	make_dataset("data", test_info);
	for (int i = 0; i < 7; i++) {
		char body[200];
		snprintf(
			body, sizeof body,
			"{\"dataset\":\"data\",\"model\":{\"arch\":\"lenet\"},\"name\":\"run-%d\",\"labels\":{\"odd\":\"%s\"},\"note\":\"%s\"}",
			i, i % 2 ? "yes" : "no", i == 3 ? "the one" : "");
		expect(201, "POST", "/v1/jobs", body);
	}
	/* Pages with a cursor: nothing twice, nothing missing, even when a job is added in between. */
	char seen[64] = "", url[400] = "/v1/jobs?limit=2";
	for (int page = 0; page < 5; page++) {
		struct answer a = send("GET", url, NULL);
		const cJSON *j;
		CHECK_INT(a.r.status, 200);
		cJSON_ArrayForEach(j, wasd_json_get(a.json, "items"))
			snprintf(seen + strlen(seen), sizeof seen - strlen(seen), "%s ", member_str(j, "name") + 4);
		const char *next, *link = api_response_header(&a.r, "Link");
		bool more = wasd_json_str(a.json, "next_cursor", &next);
		CHECK_MSG(more == (link != NULL), "page %d: Link %s", page, link ? link : "(none)");
		if (more)
			snprintf(url, sizeof url, "/v1/jobs?limit=2&cursor=%s", next);
		if (link)
			CHECK_MSG(strstr(link, "</v1/jobs?limit=2&cursor=") == link && strstr(link, ">; rel=\"next\""), "%s", link);
		answer_done(&a);
		if (!more)
			break;
		if (page == 0)
			expect(201, "POST", "/v1/jobs", "{\"dataset\":\"data\",\"model\":{\"arch\":\"lenet\"},\"name\":\"run-x\"}");
	}
	CHECK_STR(seen, "6 5 4 3 2 1 0 ");
	static const struct {
		const char *url;
		int n;
		const char *first;
	} filters[] = {
		{"/v1/jobs?label.odd=yes", 3, "run-5"},        {"/v1/jobs?label.odd=yes&limit=2", 2, "run-5"},
		{"/v1/jobs?label.odd=maybe", 0, NULL},         {"/v1/jobs?q=the+one", 0, NULL},
		{"/v1/jobs?q=the%20one", 1, "run-3"},          {"/v1/jobs?name=run-4", 1, "run-4"},
		{"/v1/jobs?state=running,completed", 0, NULL}, {"/v1/jobs?state=queued&sort=created_at&limit=1", 1, "run-0"},
		{"/v1/jobs?dataset=other", 0, NULL},           {"/v1/jobs?queue=default&limit=3", 3, "run-x"},
	};
	for (size_t i = 0; i < API_LEN(filters); i++) {
		struct answer a = send("GET", filters[i].url, NULL);
		const cJSON *items = wasd_json_get(a.json, "items");
		CHECK_MSG(cJSON_GetArraySize(items) == filters[i].n, "%s: %d", filters[i].url, cJSON_GetArraySize(items));
		if (filters[i].first && items && items->child)
			CHECK_STR(member_str(items->child, "name"), filters[i].first);
		answer_done(&a);
	}
	teardown();
}

/* Each member alone is as in the whole job, and what is not asked for is not made. */
static void fields(void)
{
	char id[64], url[160], ckpt[32];
	const cJSON *m;
	setup();
	make_dataset("data", test_info);
	make_job("resnet18", id);
	run_job(id, false, ckpt);
	for (int list = 0; list < 2; list++) {
		snprintf(url, sizeof url, "/v1/jobs%s%s", list ? "" : "/", list ? "" : id);
		struct answer whole = send("GET", url, NULL);
		const cJSON *job = list ? at(whole.json, "items/0") : whole.json;
		CHECK(cJSON_GetArraySize(job) > 30);
		cJSON_ArrayForEach(m, job) {
			char one[200];
			snprintf(one, sizeof one, "%s?fields=%s", url, m->string);
			struct answer a = send("GET", one, NULL);
			const cJSON *got = list ? at(a.json, "items/0") : a.json;
			CHECK_INT(cJSON_GetArraySize(got), strcmp(m->string, "id") ? 2 : 1);
			CHECK_MSG(cJSON_Compare(wasd_json_get(got, m->string), m, true), "%s differs", one);
			answer_done(&a);
		}
		answer_done(&whole);
	}
	t.lives = 0;
	expect(200, "GET", "/v1/jobs?fields=id,name,state,best,finished_at", NULL);
	CHECK_INT(t.lives, 0);
	expect(200, "GET", "/v1/jobs?fields=id,progress", NULL);
	CHECK_INT(t.lives, 1);
	teardown();
}

static void finished_job(void)
{
	char id[64], ckpt[32], url[160];
	setup();
	make_dataset("data", test_info);
	make_job("resnet18", id);
	run_job(id, true, ckpt);
	snprintf(url, sizeof url, "/v1/jobs/%s", id);
	struct answer a = send("GET", url, NULL);
	CHECK_STR(str(&a, "state"), "completed");
	double v = 0;
	CHECK(wasd_json_num(wasd_json_get(a.json, "metrics_latest"), "val_acc_aom", &v) && v == 0.5);
	CHECK(cJSON_IsNull(wasd_json_get(wasd_json_get(a.json, "metrics_latest"), "train_loss")));
	CHECK(wasd_json_num(wasd_json_get(a.json, "best"), "value", &v) && v == 0.5);
	CHECK(wasd_json_num(wasd_json_get(wasd_json_get(a.json, "best"), "metrics"), "val_acc_dom", &v) && v == 0.25);
	CHECK_STR(member_str(wasd_json_get(a.json, "best"), "checkpoint"), ckpt);
	CHECK_STR(member_str(wasd_json_get(a.json, "attempts")->child, "outcome"), "completed");
	answer_done(&a);

	/* Series: one per name, points [step, epoch, ts, value], NaN as null with a flag. */
	snprintf(url, sizeof url, "/v1/jobs/%s/metrics", id);
	a = send("GET", url, NULL);
	const cJSON *s, *series = wasd_json_get(a.json, "series");
	CHECK_INT(cJSON_GetArraySize(series), 4);
	CHECK(num(&a, "last_seq") > 0);
	cJSON_ArrayForEach(s, series) {
		const char *name = member_str(s, "name");
		const cJSON *last = cJSON_GetArrayItem(wasd_json_get(s, "points"), 1);
		CHECK_INT(cJSON_GetArraySize(wasd_json_get(s, "points")), 2);
		CHECK_INT(cJSON_GetArrayItem(last, 0)->valuedouble, 20);
		CHECK_INT(cJSON_GetArrayItem(last, 1)->valuedouble, 2);
		CHECK_INT(cJSON_GetArrayItem(last, 2)->valuedouble, 1700000000002);
		if (!strcmp(name, "train_loss")) {
			CHECK(cJSON_IsNull(cJSON_GetArrayItem(last, 3)));
			CHECK_STR(member_str(wasd_json_get(s, "nonfinite")->child, "value"), "nan");
			CHECK_STR(member_str(s, "unit"), "nats");
		}
		if (!strcmp(name, "val_acc_dom")) {
			CHECK_STR(member_str(s, "mode"), "dom");
			CHECK_STR(member_str(s, "statistics"), "own");
			CHECK_STR(member_str(s, "unit"), "fraction");
			CHECK_NEAR(cJSON_GetArrayItem(last, 3)->valuedouble, 0.25, 0);
		}
		if (!strcmp(name, "images_per_s")) {
			CHECK_STR(member_str(s, "unit"), "images/s");
			CHECK(cJSON_IsNull(wasd_json_get(s, "mode")));
		}
	}
	answer_done(&a);
	snprintf(url, sizeof url, "/v1/jobs/%s/metrics?names=val_acc_aom,train_loss&from_step=11&format=csv", id);
	a = send("GET", url, NULL);
	CHECK_STR(
		a.r.body.data,
		"name,mode,step,epoch,ts,value\r\ntrain_loss,,20,2,2023-11-14T22:13:20.002Z,nan\r\nval_acc_aom,aom,20,2,2023-11-14T22:13:20.002Z,0.5\r\n");
	CHECK_STR(a.r.content_type, "text/csv; charset=utf-8");
	answer_done(&a);
	snprintf(url, sizeof url, "/v1/jobs/%s/metrics?names=train_loss", id);
	a = send_with("GET", url, NULL, 0,
	              (struct extra){.headers = {"accept", "text/html, application/x-ndjson;q=0.9", NULL}});
	CHECK(!strncmp(
		a.r.body.data,
		"{\"name\":\"train_loss\",\"mode\":\"\",\"step\":10,\"epoch\":1,\"ts\":\"2023-11-14T22:13:20.001Z\",\"value\":1.5}\n",
		90));
	CHECK(strstr(a.r.body.data, "\"value\":null,\"nonfinite\":\"nan\"}\n") != NULL);
	answer_done(&a);

	/* History. */
	snprintf(url, sizeof url, "/v1/jobs/%s/transitions", id);
	a = send("GET", url, NULL);
	static const char *const way[] = {"queued", "starting", "running", "completed"};
	for (int i = 0; i < 4; i++)
		CHECK_STR(member_str(cJSON_GetArrayItem(wasd_json_get(a.json, "items"), i), "to"), way[i]);
	answer_done(&a);

	/* A job that has ended: labels and note can still change, priority cannot. */
	snprintf(url, sizeof url, "/v1/jobs/%s", id);
	a = send("PATCH", url, "{\"note\":\"kept\",\"labels\":{\"a\":\"1\",\"b\":null}}");
	CHECK_INT(a.r.status, 200);
	CHECK_STR(str(&a, "note"), "kept");
	CHECK_STR(member_str(wasd_json_get(a.json, "labels"), "a"), "1");
	answer_done(&a);
	expect(409, "PATCH", url, "{\"priority\":1}");
	expect(204, "DELETE", url, NULL);
	expect(404, "GET", url, NULL);
	a = send("GET", "/v1/audit?actor=tester", NULL);
	CHECK_STR(member_str(wasd_json_get(a.json, "items")->child, "action"), "job.delete");
	CHECK_STR(member_str(cJSON_GetArrayItem(wasd_json_get(a.json, "items"), 1), "action"), "job.update");
	answer_done(&a);
	teardown();
}

static void logs_and_events(void)
{
	char id[64], url[160];
	struct storage_log_in lines[] = {{1700000000000, "info", "one"},
	                                 {1700000001000, "warn", "two"},
	                                 {1700000002000, "info", "three \xc3\xa9"}};
	setup();
	make_dataset("data", test_info);
	make_job("lenet", id);
	storage_log_add(t.db, id, 1, lines, 3, NULL);
	static const struct {
		const char *query, *want;
	} rows[] = {
		{"",
	     "2023-11-14T22:13:20.000Z info  one\n2023-11-14T22:13:21.000Z warn  two\n2023-11-14T22:13:22.000Z info  three \xc3\xa9\n"},
		{"?tail=1", "2023-11-14T22:13:22.000Z info  three \xc3\xa9\n"},
		{"?level=warn", "2023-11-14T22:13:21.000Z warn  two\n"},
		{"?since=2", "2023-11-14T22:13:22.000Z info  three \xc3\xa9\n"},
		{"?since=2023-11-14T22:13:21Z&q=two", "2023-11-14T22:13:21.000Z warn  two\n"},
		{"?attempt=2", ""},
	};
	for (size_t i = 0; i < API_LEN(rows); i++) {
		snprintf(url, sizeof url, "/v1/jobs/%s/logs%s", id, rows[i].query);
		struct answer a = send("GET", url, NULL);
		CHECK_MSG(a.r.status == 200 && !strcmp(a.r.body.data, rows[i].want), "%s: %s", rows[i].query, a.r.body.data);
		CHECK_STR(a.r.content_type, "text/plain; charset=utf-8");
		answer_done(&a);
	}
	snprintf(url, sizeof url, "/v1/jobs/%s/logs?tail=1", id);
	struct answer a = send_with("GET", url, NULL, 0,
	                            (struct extra){.headers = {"accept", "application/x-ndjson", NULL}});
	CHECK_STR(
		a.r.body.data,
		"{\"n\":3,\"attempt\":1,\"ts\":\"2023-11-14T22:13:22.000Z\",\"level\":\"info\",\"text\":\"three \xc3\xa9\"}\n");
	answer_done(&a);
	snprintf(url, sizeof url, "/v1/jobs/%s/logs?follow=1&tail=2", id);
	a = send("GET", url, NULL);
	CHECK(a.r.follow_log.on);
	CHECK_STR(a.r.follow_log.job, id);
	CHECK_INT(a.r.follow_log.after, 1); /* the stream begins with lines 2 and 3 */
	answer_done(&a);

	snprintf(url, sizeof url, "/v1/jobs/%s/events", id);
	a = send("GET", url, NULL);
	CHECK(a.r.events.on && a.r.events.after_seq == -1);
	CHECK_STR(a.r.events.object, id);
	CHECK_STR(a.r.content_type, "text/event-stream");
	answer_done(&a);
	a = send_with("GET", "/v1/events?topics=jobs,deployments", NULL, 0,
	              (struct extra){.headers = {"last-event-id", "17", NULL}});
	CHECK(a.r.events.on && a.r.events.after_seq == 17);
	CHECK_STR(a.r.events.topics, "jobs,deployments");
	answer_done(&a);
	teardown();
}

static void waiting(void)
{
	char id[64], url[200];
	setup();
	make_dataset("data", test_info);
	make_job("lenet", id);
	snprintf(url, sizeof url, "/v1/jobs/%s?wait=30s", id);
	int64_t before = wasd_mono_us();
	struct answer a = send("GET", url, NULL);
	CHECK_INT(a.result, API_AGAIN);
	CHECK_STR(a.r.again.object, id);
	CHECK(a.r.again.until_us > before + 25000000);
	answer_done(&a);
	/* until=change: the next event ends the wait; a client with an old ETag is answered at once. */
	snprintf(url, sizeof url, "/v1/jobs/%s?wait=30s&until=change", id);
	a = send("GET", url, NULL);
	CHECK_INT(a.result, API_AGAIN);
	answer_done(&a);
	a = send_with("GET", url, NULL, 0, (struct extra){.waited = 1});
	CHECK_INT(a.result, API_DONE);
	CHECK_INT(a.r.status, 200);
	answer_done(&a);
	a = send_with("GET", url, NULL, 0, (struct extra){.headers = {"if-none-match", "\"0.old\"", NULL}});
	CHECK_INT(a.result, API_DONE);
	answer_done(&a);
	snprintf(url, sizeof url, "/v1/jobs/%s?wait=0s", id);
	a = send("GET", url, NULL);
	CHECK_INT(a.result, API_DONE);
	answer_done(&a);
	snprintf(url, sizeof url, "/v1/jobs/%s:cancel", id);
	expect(200, "POST", url, NULL);
	snprintf(url, sizeof url, "/v1/jobs/%s?wait=30s", id);
	a = send("GET", url, NULL);
	CHECK_INT(a.result, API_DONE);
	CHECK_STR(str(&a, "state"), "cancelled");
	answer_done(&a);
	teardown();
}

static void cancelling(void)
{
	char id[64], url[160], ckpt[32];
	setup();
	make_dataset("data", test_info);
	make_job("lenet", id);
	snprintf(url, sizeof url, "/v1/jobs/%s/cancel", id);
	struct answer a = send("POST", url, "{\"mode\":\"graceful\",\"reason\":\"enough\"}");
	CHECK_INT(a.r.status, 200);
	CHECK_STR(str(&a, "state"), "cancelled");
	CHECK_STR(str(&a, "message"), "enough");
	answer_done(&a);
	expect(200, "POST", url, "{}"); /* already cancelled */
	make_job("lenet", id);
	run_job(id, false, ckpt);
	snprintf(url, sizeof url, "/v1/jobs/%s", id);
	a = send("GET", url, NULL);
	double v = 0;
	CHECK(wasd_json_num(wasd_json_get(a.json, "progress"), "img_per_s", &v) && v == 123.5); /* live, from the daemon */
	answer_done(&a);
	snprintf(url, sizeof url, "/v1/jobs/%s:cancel", id);
	a = send("POST", url, "{\"mode\":\"kill\"}");
	CHECK_INT(a.r.status, 202);
	CHECK_STR(str(&a, "state"), "cancelling");
	answer_done(&a);
	teardown();
}

/* Sends the request and checks status and state. */
static void becomes(int status, const char *state, const char *id, const char *verb)
{
	char url[160];
	snprintf(url, sizeof url, "/v1/jobs/%s%s", id, verb);
	struct answer a = send("POST", url, NULL);
	CHECK_MSG(a.r.status == status, "%s: status %d", verb, a.r.status);
	CHECK_STR(str(&a, "state"), state);
	answer_done(&a);
}

/* The request is refused with both states. */
static void refuses(const char *id, const char *verb, const char *from, const char *to)
{
	char url[160];
	snprintf(url, sizeof url, "/v1/jobs/%s%s", id, verb);
	struct answer a = send("POST", url, NULL);
	CHECK_MSG(a.r.status == 409, "%s: status %d", verb, a.r.status);
	CHECK_STR(str(&a, "code"), "invalid_transition");
	CHECK_STR(str(&a, "from"), from);
	CHECK_STR(str(&a, "to"), to);
	answer_done(&a);
}

static void pausing(void)
{
	char id[64], ckpt[32];
	setup();
	make_dataset("data", test_info);
	make_job("lenet", id);
	becomes(200, "held", id, ":pause");
	becomes(200, "held", id, "/hold");
	becomes(200, "queued", id, ":release");
	becomes(200, "queued", id, "/resume");
	becomes(200, "queued", id, ":retry"); /* there is nothing to repeat, and it is queued */
	becomes(200, "held", id, ":hold");
	becomes(200, "queued", id, ":resume");
	becomes(200, "cancelled", id, ":cancel");
	refuses(id, ":pause", "cancelled", "paused");
	refuses(id, ":hold", "cancelled", "held");
	refuses(id, ":resume", "cancelled", "queued");
	becomes(200, "queued", id, ":retry");
	run_job(id, false, ckpt);
	refuses(id, ":hold", "running", "held");
	refuses(id, ":retry", "running", "queued");
	becomes(200, "running", id, ":resume");
	becomes(202, "pausing", id, ":pause");
	refuses(id, ":resume", "pausing", "queued");
	/* Each change on request left an audit row. */
	char object[80];
	struct storage_audit_list l = {0};
	snprintf(object, sizeof object, "job/%s", id);
	CHECK_INT(storage_audit_list(t.db, object, NULL, 0, (struct storage_page){.oldest_first = true}, &l, NULL),
	          WASD_OK);
	static const char *const actions[] = {"job.create",  "job.hold",   "job.release", "job.hold",
	                                      "job.release", "job.cancel", "job.retry",   "job.pause"};
	CHECK_INT(l.n, API_LEN(actions));
	for (size_t i = 0; i < l.n && i < API_LEN(actions); i++)
		CHECK_STR(l.items[i].action, actions[i]);
	storage_audit_list_done(&l);
	teardown();
}

/* {"results":[{"status","code"}]} in the order of the ids. */
static void result_is(const struct answer *a, int i, int status, const char *code)
{
	const cJSON *one = cJSON_GetArrayItem(wasd_json_get(a->json, "results"), i);
	const char *got = "(none)";
	double v = 0;
	wasd_json_str(one, "code", &got);
	CHECK_MSG(wasd_json_num(one, "status", &v) && (int)v == status, "result %d: status %g", i, v);
	CHECK_STR(got, code);
}

static void batches(void)
{
	char a[64], b[64], done[64], ckpt[32], body[300];
	setup();
	make_dataset("data", test_info);
	make_job("lenet", a);
	make_job("lenet", b);
	make_job("lenet", done);
	run_job(done, true, ckpt);
	snprintf(body, sizeof body, "{\"action\":\"hold\",\"ids\":[\"%s\",\"%s\",\"job_none\",\"%s\",7]}", a, done, b);
	struct answer r = send("POST", "/v1/jobs:batch", body);
	CHECK_INT(r.r.status, 200);
	CHECK_INT(cJSON_GetArraySize(wasd_json_get(r.json, "results")), 5);
	result_is(&r, 0, 200, "(none)");
	result_is(&r, 1, 409, "invalid_transition");
	result_is(&r, 2, 404, "not_found");
	result_is(&r, 3, 200, "(none)");
	result_is(&r, 4, 404, "not_found");
	answer_done(&r);
	r = send("POST", "/v1/jobs:batch", "{\"action\":\"release\",\"filter\":{\"state\":\"held\"}}");
	CHECK_INT(cJSON_GetArraySize(wasd_json_get(r.json, "results")), 2);
	result_is(&r, 0, 200, "(none)");
	answer_done(&r);
	r = send("POST", "/v1/jobs:batch", "{\"action\":\"cancel\",\"filter\":{\"queue\":\"default\"},\"reason\":\"all\"}");
	result_is(&r, 0, 200, "(none)");
	result_is(&r, 1, 200, "(none)");
	result_is(&r, 2, 409, "invalid_transition");
	answer_done(&r);
	r = send("POST", "/v1/jobs:batch", "{\"action\":\"delete\",\"filter\":{\"state\":\"cancelled\"}}");
	result_is(&r, 0, 204, "(none)");
	result_is(&r, 1, 204, "(none)");
	answer_done(&r);
	teardown();
}

static void queues(void)
{
	char id[64], url[100];
	setup();
	make_dataset("data", test_info);
	make_job("lenet", id);
	snprintf(url, sizeof url, "/v1/jobs/%s", id);
	struct answer a = send("PATCH", "/v1/queues/night", "{\"max_running\":1,\"paused\":true}");
	CHECK_INT(a.r.status, 201);
	CHECK(num(&a, "max_running") == 1 && num(&a, "weight") == 1 && cJSON_IsTrue(wasd_json_get(a.json, "paused")));
	answer_done(&a);
	expect(200, "PATCH", url, "{\"queue\":\"night\"}");
	a = send("DELETE", "/v1/queues/night", NULL);
	CHECK_MSG(a.r.status == 409 && !strcmp(str(&a, "code"), "referenced") && strstr(str(&a, "detail"), id), "%d %s",
	          a.r.status, str(&a, "detail"));
	answer_done(&a);
	a = send("PATCH", "/v1/queues/night", "{\"weight\":2}"); /* the rest stays */
	CHECK_INT(a.r.status, 200);
	CHECK(num(&a, "max_running") == 1 && num(&a, "weight") == 2 && num(&a, "waiting") == 1 &&
	      cJSON_IsTrue(wasd_json_get(a.json, "paused")));
	answer_done(&a);
	a = send("GET", "/v1/queues", NULL);
	CHECK_INT(cJSON_GetArraySize(wasd_json_get(a.json, "items")), 2);
	answer_done(&a);
	a = send("POST", "/v1/jobs", "{\"dataset\":\"data\",\"model\":{\"arch\":\"lenet\"},\"queue\":\"night\"}");
	CHECK_INT(a.r.status, 201);
	answer_done(&a);
	/* Once its jobs have ended it can go; a retry then has no queue to wait in. */
	expect(200, "POST", "/v1/jobs:batch", "{\"action\":\"cancel\",\"filter\":{\"queue\":\"night\"}}");
	expect(204, "DELETE", "/v1/queues/night", NULL);
	expect(404, "DELETE", "/v1/queues/night", NULL);
	expect(409, "DELETE", "/v1/queues/default", NULL);
	strcat(url, ":retry");
	a = send("POST", url, NULL);
	CHECK_MSG(a.r.status == 409 && strstr(str(&a, "detail"), "/queue"), "%d %s", a.r.status, str(&a, "detail"));
	answer_done(&a);
	expect(201, "PATCH", "/v1/queues/night", "{\"weight\":1}");
	expect(200, "POST", url, NULL);
	teardown();
}

static void clones(void)
{
	char id[64], url[160];
	setup();
	make_dataset("data", test_info);
	make_job("lenet", id);
	snprintf(url, sizeof url, "/v1/jobs/%s", id);
	expect(200, "PATCH", url, "{\"note\":\"first\",\"labels\":{\"a\":\"1\",\"b\":\"2\"},\"priority\":70}");
	struct answer was = send("GET", url, NULL);
	snprintf(url, sizeof url, "/v1/jobs/%s:clone", id);
	struct answer a = send("POST", url, "{\"train\":{\"epochs\":3,\"seed\":null},\"labels\":{\"b\":null}}");
	CHECK_INT(a.r.status, 201);
	CHECK_STR(str(&a, "cloned_from"), id);
	CHECK_STR(str(&a, "state"), "queued");
	CHECK_STR(str(&a, "note"), "first");
	CHECK_INT(num(&a, "priority"), 70);
	char *labels = wasd_json_print(wasd_json_get(a.json, "labels"));
	CHECK_STR(labels, "{\"a\":\"1\"}");
	wasd_free(labels);
	cJSON *want = cJSON_Duplicate(wasd_json_get(was.json, "train"), 1);
	cJSON_ReplaceItemInObject(want, "epochs", cJSON_CreateNumber(3));
	CHECK(cJSON_Compare(want, wasd_json_get(a.json, "train"), true)); /* null: the default, which it was */
	cJSON_Delete(want);
	answer_done(&a);
	a = send("POST", url, NULL); /* nothing changed: the same spec */
	CHECK_INT(a.r.status, 201);
	CHECK(cJSON_Compare(wasd_json_get(was.json, "train"), wasd_json_get(a.json, "train"), true));
	answer_done(&a);
	/* The same key for the same clone gives the same job; for a clone of another job it is refused. */
	struct extra key = {.headers = {"idempotency-key", "k1", NULL}};
	a = send_with("POST", url, "{}", 2, key);
	CHECK_INT(a.r.status, 201);
	char first[64];
	snprintf(first, sizeof first, "%s", str(&a, "id"));
	answer_done(&a);
	a = send_with("POST", url, "{}", 2, key);
	CHECK_STR(str(&a, "id"), first);
	answer_done(&a);
	snprintf(url, sizeof url, "/v1/jobs/%s:clone", first);
	a = send_with("POST", url, "{}", 2, key);
	CHECK_STR(str(&a, "code"), "idempotency_conflict");
	answer_done(&a);
	snprintf(url, sizeof url, "/v1/jobs/%s/clone?dry_run=true", first);
	a = send("POST", url, "{\"train\":{\"batch\":7}}");
	CHECK_INT(a.r.status, 200);
	CHECK_INT(num(&(struct answer){.json = cJSON_GetObjectItem(a.json, "train")}, "batch"), 7);
	answer_done(&a);
	answer_done(&was);
	teardown();
}

/* The answer of a dry run: sums, limits and warnings of what the engine says. */
static void dry_runs(void)
{
	static const char *const job = "{\"dataset\":\"data\",\"model\":{\"arch\":\"resnet18\"}}";
	setup();
	make_dataset("data", test_info);
	struct answer a = send("POST", "/v1/jobs?dry_run=true", job);
	CHECK_INT(a.r.status, 200);
	CHECK(at_num(&a, "estimate/params") == 1000 && at_num(&a, "estimate/macs/aom") == 2000);
	CHECK(at_num(&a, "estimate/memory/bytes") == 10004000 && at_num(&a, "estimate/memory/parts/parameters") == 4000);
	CHECK(cJSON_IsTrue(at(a.json, "estimate/memory/fits")) && cJSON_IsNull(at(a.json, "estimate/memory/limit_bytes")));
	CHECK(at_num(&a, "estimate/checkpoints/kept") == 2 && at_num(&a, "estimate/checkpoints/kept_bytes") == 16000);
	CHECK(at_num(&a, "estimate/threads") == 2 && at_num(&a, "estimate/queue/position") == 3);
	/* 10 epochs of 9 steps, and 300 images in evaluations */
	CHECK(at_num(&a, "estimate/time/total_s") == 48 && at_num(&a, "estimate/time/epoch_s") == 4.8);
	CHECK(at_num(&a, "estimate/time/images_per_s") == 20 && at_num(&a, "estimate/time/measured/beside") == 1);
	CHECK_INT(cJSON_GetArraySize(at(a.json, "estimate/warnings")), 0);
	CHECK(strstr(t.question, "\"memory_mb\":32") && !strstr(t.question, "estimate"));
	answer_done(&a);
	a = send("POST", "/v1/jobs?dry_run=true&bench=false", job);
	CHECK(cJSON_IsNull(at(a.json, "estimate/time")));
	CHECK_STR(at_str(&a, "estimate/time_missing"), "not asked for");
	answer_done(&a);
	t.no_times = true;
	a = send("POST", "/v1/jobs?dry_run=true", job);
	CHECK_INT(a.r.status, 200);
	CHECK_STR(at_str(&a, "estimate/time_missing"), "the measurement failed: 8 other measurements are waiting");
	answer_done(&a);
	a = send("POST", "/v1/jobs?dry_run=true",
	         "{\"dataset\":\"data\",\"model\":{\"arch\":\"resnet18\"},\"limits\":{\"memory_mb\":5}}");
	CHECK_STR(at_str(&a, "estimate/time_missing"), "it would not fit into memory");
	CHECK_STR(at_str(&a, "estimate/warnings/0/code"), "memory_over_limit");
	CHECK(cJSON_IsFalse(at(a.json, "estimate/memory/fits")));
	answer_done(&a);
	t.little_memory = true;
	a = send("POST", "/v1/jobs?dry_run=true", job);
	CHECK_STR(at_str(&a, "estimate/warnings/0/code"), "memory_over_machine");
	CHECK(cJSON_IsNull(at(a.json, "estimate/time")));
	answer_done(&a);
	t.no_sizes = WASD_EINVAL;
	a = send("POST", "/v1/jobs?dry_run=true", job);
	CHECK_INT(a.r.status, 422);
	CHECK_STR(at_str(&a, "errors/0/pointer"), "/train/batch");
	answer_done(&a);
	teardown();
}

static void preconditions(void)
{
	char id[64], url[160], other[64];
	setup();
	make_dataset("data", test_info);
	make_job("lenet", id);
	snprintf(url, sizeof url, "/v1/jobs/%s", id);
	struct answer now = send("GET", url, NULL);
	char etag[64];
	snprintf(etag, sizeof etag, "%s", api_response_header(&now.r, "ETag"));
	answer_done(&now);
	struct extra good = {.headers = {"if-match", etag, NULL}}, stale = {.headers = {"if-match", "\"0.0\"", NULL}},
				 any = {.headers = {"if-match", "*", NULL}};
	static const char patch[] = "{\"priority\":60}";
	struct answer a = send_with("PATCH", url, patch, strlen(patch), stale);
	CHECK_INT(a.r.status, 412);
	CHECK_STR(str(&a, "code"), "stale");
	CHECK_STR(api_response_header(&a.r, "ETag"), etag);
	answer_done(&a);
	a = send_with("PATCH", url, patch, strlen(patch), good);
	CHECK_INT(a.r.status, 200);
	CHECK_INT(num(&a, "priority"), 60);
	answer_done(&a);
	a = send_with("PATCH", url, patch, strlen(patch), good); /* the first change made the tag stale */
	CHECK_INT(a.r.status, 412);
	answer_done(&a);
	a = send_with("DELETE", url, NULL, 0, stale);
	CHECK_INT(a.r.status, 412);
	answer_done(&a);
	a = send_with("PATCH", url, patch, strlen(patch), any);
	CHECK_INT(a.r.status, 200);
	answer_done(&a);
	snprintf(other, sizeof other, "/v1/jobs/job_none");
	a = send_with("PATCH", other, patch, strlen(patch), any);
	CHECK_INT(a.r.status, 412); /* "*" requires that one exists */
	answer_done(&a);
	snprintf(url, sizeof url, "/v1/jobs/%s:cancel", id);
	a = send_with("POST", url, NULL, 0, stale);
	CHECK_INT(a.r.status, 412);
	answer_done(&a);
	teardown();
}

static void checkpoints(void)
{
	char id[64], ckpt[32], url[160], want[128];
	setup();
	make_dataset("data", test_info);
	make_job("resnet18", id);
	run_job(id, true, ckpt);
	snprintf(url, sizeof url, "/v1/jobs/%s/checkpoints", id);
	struct answer a = send("GET", url, NULL);
	CHECK(cJSON_GetArraySize(wasd_json_get(a.json, "items")) >= 1);
	CHECK_STR(member_str(wasd_json_get(a.json, "items")->child, "id"), ckpt);
	answer_done(&a);
	snprintf(url, sizeof url, "/v1/checkpoints/%s", ckpt);
	a = send("GET", url, NULL);
	CHECK_INT(num(&a, "epoch"), 2);
	CHECK(cJSON_IsFalse(wasd_json_get(a.json, "pinned")));
	double v = 0;
	CHECK(wasd_json_num(wasd_json_get(a.json, "metrics"), "val_acc_aom", &v) && v == 0.5);
	answer_done(&a);
	a = send("PATCH", url, "{\"pinned\":true}");
	CHECK(a.r.status == 200 && cJSON_IsTrue(wasd_json_get(a.json, "pinned")));
	answer_done(&a);
	expect(409, "DELETE", url, NULL); /* pinned */
	expect(200, "PATCH", url, "{\"pinned\":false}");

	/* The file, piece by piece: as stored, and in another format. */
	for (int made = 0; made < 2; made++) {
		char got[128] = "";
		size_t n = 0;
		snprintf(url, sizeof url, made ? "/v1/checkpoints/%s/file" : "/v1/checkpoints/%s/file?format=wasd", ckpt);
		snprintf(want, sizeof want, made ? "%s as safetensors of aom" : "checkpoint of epoch 2 of %s",
		         made ? ckpt : id);
		a = send("GET", url, NULL);
		CHECK_INT(a.r.status, 200);
		CHECK_INT(a.r.source.size, strlen(want));
		for (int64_t k; a.r.source.read && (k = a.r.source.read(a.r.source.ctx, n, got + n, 7)) > 0;)
			n += (size_t)k;
		CHECK_STR(got, want);
		CHECK_INT(strlen(api_response_header(&a.r, "ETag")), 66);
		struct answer again = send_with("GET", url, NULL, 0,
		                                (struct extra){
											.headers = {"if-none-match", api_response_header(&a.r, "ETag"), NULL}});
		CHECK(again.r.status == 304 && !again.r.source.read);
		answer_done(&again), answer_done(&a);
	}
	CHECK_INT(t.exports, 2);
	t.engine_down = true;
	expect(503, "GET", url, NULL);
	snprintf(url, sizeof url, "/v1/checkpoints/%s", ckpt);
	expect(204, "DELETE", url, NULL);
	expect(404, "GET", url, NULL);
	teardown();
}

#define BLOB "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
#define LENET "\"model\":{\"arch\":\"lenet\"}"

/* A blob as a checkpoint, as the source of a deployment and as the initial weights of a job; a dry run stores
 * nothing. */
static void imports(void)
{
	char id[64], body[300];
	static const struct {
		int status;
		const char *url, *body, *code, *pointer;
	} cases[] = {
		{422, "/v1/checkpoints", "{\"blob\":\"" BLOB "\"}", "invalid_field", "/model"},
		{422, "/v1/checkpoints", "{\"blob\":\"" BLOB "\"," LENET "}", "invalid_field", "/input"},
		{422, "/v1/checkpoints", "{\"blob\":\"" BLOB "\",\"model\":{\"arch\":\"resnet18\"},\"input\":[3,32,32]}",
	     "bad_weights", "conv.weight"},
		{422, "/v1/checkpoints", "{\"blob\":\"0" BLOB "\"}", "invalid_field", "/blob"},
		{422, "/v1/checkpoints", "{\"model\":{}}", "invalid_field", "/blob"},
		{422, "/v1/deployments", "{\"name\":\"x\",\"source\":{\"blob\":\"" BLOB "\"," LENET "}}", "invalid_field",
	     "/source/input"},
		{422, "/v1/deployments",
	     "{\"name\":\"x\",\"source\":{\"blob\":\"" BLOB "\"," LENET ",\"input\":[3,32,32]},\"mode\":\"dom\"}",
	     "unsupported", "/mode"},
		{422, "/v1/jobs",
	     "{\"dataset\":\"data\",\"model\":{\"arch\":\"resnet18\"},\"init_from\":{\"blob\":\"" BLOB "\"}}",
	     "bad_weights", "conv.weight"},
		{422, "/v1/jobs", "{\"dataset\":\"data\"," LENET ",\"init_from\":{\"blob\":7}}", "invalid_field",
	     "/init_from/blob"},
		{200, "/v1/jobs?dry_run=true", "{\"dataset\":\"data\"," LENET ",\"init_from\":{\"blob\":\"" BLOB "\"}}", NULL,
	     NULL},
	};
	setup();
	make_dataset("data", test_info);
	for (size_t i = 0; i < API_LEN(cases); i++) {
		struct answer a = send("POST", cases[i].url, cases[i].body);
		const cJSON *fault = wasd_json_get(a.json, "errors") ? wasd_json_get(a.json, "errors")->child : NULL;
		CHECK_MSG(a.r.status == cases[i].status, "%s: status %d: %s", cases[i].body, a.r.status, a.r.body.data);
		if (cases[i].code) {
			CHECK_STR(str(&a, "code"), cases[i].code);
			CHECK_STR(member_str(fault, "pointer"), cases[i].pointer);
		}
		answer_done(&a);
	}
	struct answer a = send("GET", "/v1/checkpoints", NULL);
	CHECK_INT(cJSON_GetArraySize(wasd_json_get(a.json, "items")), 1); /* from the deployment whose mode was refused */
	answer_done(&a);
	a = send("POST", "/v1/checkpoints", "{\"blob\":\"" BLOB "\"," LENET ",\"input\":[3,32,32]}");
	CHECK_INT(a.r.status, 201);
	CHECK(cJSON_IsNull(wasd_json_get(a.json, "job")));
	snprintf(id, sizeof id, "%s", str(&a, "id"));
	answer_done(&a);
	a = send("POST", "/v1/jobs", "{\"dataset\":\"data\"," LENET ",\"init_from\":{\"blob\":\"" BLOB "\"}}");
	CHECK_INT(a.r.status, 201);
	CHECK_STR(str(&a, "init_from"), id);
	answer_done(&a);
	snprintf(body, sizeof body, "/v1/checkpoints/%s", id);
	expect(409, "DELETE", body, NULL); /* the job starts from it */
	expect(404, "GET",
	       "/v1/blobs/"
	       "0000000000000000000000000000000000000000000000000000000000000000",
	       NULL);
	expect(400, "GET", "/v1/blobs/0", NULL);
	expect(200, "GET", "/v1/blobs/" BLOB, NULL);
	/* PUT: a new blob is taken, an existing one left alone, one under another name refused. */
	struct api_upload up = {.path = "/none", .bytes = 5, .name = ""};
	static const struct {
		const char *sha;
		int status;
		bool taken;
	} puts[] = {{BLOB, 200, false}, {"eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee", 201, true}};
	for (size_t i = 0; i < 2; i++) {
		snprintf(up.sha256, sizeof up.sha256, "%s", puts[i].sha);
		snprintf(body, sizeof body, "/v1/blobs/%s", puts[i].sha);
		a = send_with("PUT", body, NULL, 0, (struct extra){.uploads = &up, .n_uploads = 1});
		CHECK(a.r.status == puts[i].status && a.taken == puts[i].taken);
		answer_done(&a);
	}
	a = send_with("PUT", "/v1/blobs/" BLOB, NULL, 0, (struct extra){.uploads = &up, .n_uploads = 1});
	CHECK(a.r.status == 409 && !a.taken);
	answer_done(&a);
	teardown();
}

/* Others write to the disk meanwhile. */
static bool same_answer(const struct wasd_buf *a, const struct wasd_buf *b)
{
	static const char free_bytes[] = "\"free_bytes\":";
	const char *x = memmem(a->data, a->len, free_bytes, sizeof free_bytes - 1),
			   *y = memmem(b->data, b->len, free_bytes, sizeof free_bytes - 1);
	size_t n = x ? (size_t)(x - a->data) : a->len, m = y ? (size_t)(y - b->data) : b->len;
	if (n != m || memcmp(a->data, b->data, n))
		return false;
	x = x ? memchr(x, ',', a->len - n) : a->data + n;
	y = y ? memchr(y, ',', b->len - m) : b->data + m;
	n = (size_t)(a->data + a->len - x);
	return n == (size_t)(b->data + b->len - y) && !memcmp(x, y, n);
}

/* Whichever allocation fails: an answer, no crash, no leak (checked by the sanitizer), and normal answers
 * afterwards. */
static void no_memory(void)
{
	static const char sweep[] =
		"{\"template\":{\"dataset\":\"data\",\"model\":{\"arch\":\"resnet18\"}},\"space\":{\"/train/optimizer/lr\":{\"values\":[0.1]}},"
		"\"search\":{\"method\":\"asha\",\"max_trials\":1}}";
	char id[64], ckpt[32], url[160], profiles[160], sweeps[160], layer[160];
	setup();
	make_dataset("data", test_info);
	make_job("resnet18", id);
	run_job(id, true, ckpt);
	struct answer made = send("POST", "/v1/sweeps", sweep);
	snprintf(sweeps, sizeof sweeps, "/v1/sweeps/%s", str(&made, "id"));
	answer_done(&made);
	snprintf(url, sizeof url, "/v1/jobs/%s", id);
	snprintf(profiles, sizeof profiles, "/v1/checkpoints/%s/profiles", ckpt);
	snprintf(layer, sizeof layer, "/v1/checkpoints/%s/layers/conv1", ckpt);
	const struct {
		const char *method, *url, *body;
	} rows[] = {
		{"GET", url, NULL},
		{"GET", "/v1/jobs?limit=2", NULL},
		{"POST", "/v1/jobs?dry_run=true",
	     "{\"dataset\":\"data\",\"model\":{\"arch\":\"resnet18\"},\"train\":{\"epochs\":0}}"},
		{"POST", "/v1/jobs?dry_run=true&bench=false", "{\"dataset\":\"data\",\"model\":{\"arch\":\"resnet18\"}}"},
		{"GET", "/v1/jobs/none", NULL},
		{"POST", profiles, "{\"draw\":[{\"dx\":1}],\"dataset\":\"data\"}"},
		{"GET", profiles, NULL},
		{"POST", "/v1/sweeps?dry_run=true", sweep},
		{"GET", sweeps, NULL},
		{"GET", layer, NULL},
	};
	for (size_t i = 0; i < API_LEN(rows); i++) {
		int answers[6] = {0};
		struct answer whole = send(rows[i].method, rows[i].url, rows[i].body);
		for (uint64_t nth = 1; nth < 1500; nth++) {
			wasd_mem_fail_at(nth);
			/* Not through send(), because the harness allocates too. */
			char path[160], allow[64];
			struct api_pair query[2] = {{0}, {"bench", "false"}};
			struct api_request q = {.method = rows[i].method,
			                        .path = path,
			                        .query = query,
			                        .body = rows[i].body,
			                        .body_len = rows[i].body ? strlen(rows[i].body) : 0,
			                        .request_id = "r",
			                        .traceparent = "",
			                        .actor = "tester",
			                        .first_us = 0};
			snprintf(path, sizeof path, "%s", rows[i].url);
			char *mark = strchr(path, '?');
			if (mark) {
				*mark = 0;
				query[0] = !strncmp(mark + 1, "limit", 5) ? (struct api_pair){"limit", "2"} :
				                                            (struct api_pair){"dry_run", "true"};
				q.n_query = strstr(mark + 1, "bench") ? 2 : 1;
			}
			struct api_response r;
			api_response_init(&r);
			api_handle(&t.ctx, api_route_find(q.method, q.path, allow), &q, &r);
			wasd_mem_fail_at(0);
			CHECK_MSG(r.status >= 200 && r.status < 600, "%s, allocation %llu: status %d", rows[i].url,
			          (unsigned long long)nth, r.status);
			answers[r.status / 100]++;
			if (r.status == 200)
				CHECK_MSG(same_answer(&r.body, &whole.r.body), "%s, allocation %llu: not the whole answer: %.*s",
				          rows[i].url, (unsigned long long)nth, (int)r.body.len, r.body.data);
			api_response_done(&r);
		}
		struct answer ok = send(rows[i].method, rows[i].url, rows[i].body);
		CHECK_MSG(ok.r.status < 500, "%s afterwards: %d", rows[i].url, ok.r.status);
		answer_done(&ok), answer_done(&whole);
		printf("# %s %s: %d of 1499 times 5xx\n", rows[i].method, i ? rows[i].url : "/v1/jobs/ID", answers[5]);
	}
	teardown();
}

/* A data set's own validation images are used by a job that does not ask for a share. */
static void own_validation(void)
{
	static const struct {
		const char *set, *data;
		int status;
		const char *want;
	} rows[] = {
		{"own", "", 200, "\"data\":{\"val_fraction\":null}"},
		{"own", ",\"data\":{\"val_fraction\":null}", 200, "\"data\":{\"val_fraction\":null}"},
		{"own", ",\"data\":{\"val_fraction\":0.2}", 200, "\"data\":{\"val_fraction\":0.2}"},
		{"data", "", 200, "\"data\":{\"val_fraction\":0.1}"},
		{"data", ",\"data\":{\"val_fraction\":null}", 422, "it has none"},
	};
	setup();
	make_dataset("data", test_info);
	make_dataset("own",
	             "{\"shape\":[3,32,32],\"classes\":[\"zero\",\"one\",\"two\"],\"train\":100,\"val\":10,\"test\":20}");
	for (size_t i = 0; i < API_LEN(rows); i++) {
		char body[256];
		snprintf(body, sizeof body, "{\"dataset\":\"%s\",\"model\":{\"arch\":\"resnet18\"}%s}", rows[i].set,
		         rows[i].data);
		struct answer a = send("POST", "/v1/jobs?dry_run=true", body);
		const char *text = wasd_buf_cstr(&a.r.body);
		CHECK_MSG(a.r.status == rows[i].status && text && strstr(text, rows[i].want), "row %zu: %d %s", i, a.r.status,
		          text);
		answer_done(&a);
	}
	teardown();
}

/* Warnings known before a job begins are in its object from the start. */
static void warned_at_once(void)
{
	setup();
	make_dataset("data", test_info);
	struct answer a = send("POST", "/v1/jobs",
	                       "{\"dataset\":\"data\",\"model\":{\"arch\":\"lenet\"},\"data\":{\"limit\":30}}");
	CHECK_INT(a.r.status, 201);
	CHECK_STR(at_str(&a, "warnings/0/code"), "few_validation_images");
	CHECK_STR(at_str(&a, "warnings/0/message"), "3 images are held out");
	answer_done(&a);
	a = send("POST", "/v1/jobs", "{\"dataset\":\"data\",\"model\":{\"arch\":\"lenet\"}}");
	CHECK(a.r.status == 201 && strstr(a.r.body.data, "\"warnings\":[]"));
	answer_done(&a);
	t.engine_down = true;
	expect(500, "POST", "/v1/jobs", "{\"dataset\":\"data\",\"model\":{\"arch\":\"lenet\"}}");
	teardown();
}

int main(void)
{
	TEST_RUN(own_validation);
	TEST_RUN(warned_at_once);
	TEST_RUN(submit);
	TEST_RUN(idempotency);
	TEST_RUN(lists);
	TEST_RUN(fields);
	TEST_RUN(finished_job);
	TEST_RUN(logs_and_events);
	TEST_RUN(waiting);
	TEST_RUN(cancelling);
	TEST_RUN(pausing);
	TEST_RUN(clones);
	TEST_RUN(batches);
	TEST_RUN(queues);
	TEST_RUN(dry_runs);
	TEST_RUN(preconditions);
	TEST_RUN(checkpoints);
	TEST_RUN(imports);
	TEST_RUN(no_memory);
	TEST_END();
}
