/* tests/api/merges.c - merges and archives: what a request becomes, what is refused at once, show, list, delete. */
#include "harness.h"
#include <sqlite3.h>

static char job[64], ckpt[32];

static char *body_of(const char *more)
{
	static char out[300];
	snprintf(out, sizeof out, "{\"checkpoints\":[\"%s\",\"%s\"]%s}", ckpt, ckpt, more);
	return out;
}

static void begin(void)
{
	setup();
	make_dataset("data", test_info);
	make_job("resnet18", job);
	run_job(job, true, ckpt);
}

static void asking(void)
{
	begin();
	struct answer a = send("POST", "/v1/checkpoints:merge", body_of(",\"path\":11,\"weights\":[0.25,0.75]"));
	CHECK_INT(a.r.status, 202);
	CHECK_STR(api_response_header(&a.r, "Location"), "/v1/merges/merge_1");
	CHECK_STR(str(&a, "state"), "queued");
	CHECK_STR(at_str(&a, "checkpoints/1"), ckpt);
	CHECK_STR(at_str(&a, "dataset/name"), "data"); /* that of the first checkpoint's job */
	CHECK_INT(at_num(&a, "dataset/version"), 1);
	CHECK_STR(at_str(&a, "request/align"), "weights");
	CHECK_INT(at_num(&a, "request/path"), 11);
	CHECK_NEAR(at_num(&a, "request/weights/1"), 0.75, 0);
	CHECK_STR(str(&a, "created_at"), "1970-01-01T00:00:01.000Z");
	CHECK(cJSON_IsNull(wasd_json_get(a.json, "checkpoint")) && cJSON_IsNull(wasd_json_get(a.json, "finished_at")));
	answer_done(&a);
	/* Nothing is measured: no data set. */
	a = send("POST", "/v1/checkpoints:merge", body_of(",\"recalibrate\":false,\"align\":\"none\""));
	CHECK(a.r.status == 202 && !wasd_json_get(a.json, "dataset"));
	answer_done(&a);
	t.no_merge = WASD_EBUSY;
	expect(503, "POST", "/v1/checkpoints:merge", body_of(""));
	teardown();
}

static void refused(void)
{
	static const struct {
		const char *more, *pointer;
	} rows[] = {
		{",\"weights\":[0.5]", "/weights"},
		{",\"weights\":[0.5,0.4]", "/weights"},
		{",\"weights\":[2,-1]", "/weights/0"},
		{",\"align\":\"luck\"", "/align"},
		{",\"path\":1}", "/path"},
		{",\"path\":102", "/path"},
		{",\"recalibrate\":1", "/recalibrate"},
		{",\"dataset\":\"none\"", "/dataset"},
		{",\"dataset\":\"gray\"", "/dataset"},
		{",\"dataset\":\"two\"", "/dataset"},
		{",\"lambda\":0.5", "/lambda"},
	};
	begin();
	make_dataset("gray", "{\"shape\":[1,32,32],\"classes\":[\"a\",\"b\",\"c\"],\"train\":1,\"test\":1}");
	make_dataset("two", "{\"shape\":[3,32,32],\"classes\":[\"a\",\"b\"],\"train\":1,\"test\":1}");
	for (size_t i = 0; i < API_LEN(rows); i++) {
		char *body = body_of(rows[i].more);
		if (strstr(rows[i].more, "}"))
			body[strlen(body) - 1] = 0;
		struct answer a = send("POST", "/v1/checkpoints:merge", body);
		CHECK_MSG(a.r.status == 422, "%s: %d", body, a.r.status);
		CHECK_STR(at_str(&a, "errors/0/pointer"), rows[i].pointer);
		answer_done(&a);
	}
	static const char *const bodies[][2] = {{"{}", "/checkpoints"},
	                                        {"{\"checkpoints\":[\"ckpt_1\"]}", "/checkpoints"},
	                                        {"{\"checkpoints\":[\"ckpt_1\",\"ckpt_2\"]}", "/checkpoints/0"},
	                                        {"{\"checkpoints\":[7,\"ckpt_2\"]}", "/checkpoints/0"}};
	for (size_t i = 0; i < API_LEN(bodies); i++) {
		struct answer a = send("POST", "/v1/checkpoints:merge", bodies[i][0]);
		CHECK_INT(a.r.status, 422);
		CHECK_STR(at_str(&a, "errors/0/pointer"), bodies[i][1]);
		answer_done(&a);
	}
	CHECK(!t.merge);
	teardown();
}

static void showing(void)
{
	begin();
	struct answer a = send("GET", "/v1/merges/merge_1?wait=1s", NULL);
	CHECK_INT(a.r.status, 200);
	CHECK_STR(at_str(&a, "links/checkpoint"), "/v1/checkpoints/ckpt_1");
	CHECK_STR(at_str(&a, "links/self"), "/v1/merges/merge_1");
	answer_done(&a);
	a = send("GET", "/v1/merges", NULL);
	CHECK_STR(at_str(&a, "items/0/id"), "merge_1");
	CHECK_STR(at_str(&a, "items/0/created_at"), "1970-01-01T00:00:01.000Z");
	answer_done(&a);
	expect(404, "GET", "/v1/merges/merge_2", NULL);
	expect(404, "DELETE", "/v1/merges/merge_2", NULL);
	expect(204, "DELETE", "/v1/merges/merge_1", NULL);
	teardown();
}

/* ---- archives --------------------------------------------------------------------------------------------------- */

static void archiving(void)
{
	char body[300];
	begin();
	snprintf(
		body, sizeof body,
		"{\"checkpoints\":[\"%s\"],\"jobs\":[\"%s\"],\"which\":\"best\",\"views\":[{\"type\":\"noise\",\"std\":0.5}],"
		"\"per_checkpoint\":9999}",
		ckpt, job);
	expect(422, "POST", "/v1/checkpoints:archive", body);
	memcpy(strstr(body, "9999"), "999 ", 4);
	struct answer a = send("POST", "/v1/checkpoints:archive", body);
	CHECK_INT(a.r.status, 202);
	CHECK_STR(api_response_header(&a.r, "Location"), "/v1/archives/archive_1");
	CHECK_INT(cJSON_GetArraySize(wasd_json_get(a.json, "checkpoints")), 1); /* it is the job's best, too */
	CHECK_STR(at_str(&a, "checkpoints/0"), ckpt);
	CHECK_NEAR(at_num(&a, "request/views/0/std"), 0.5, 0);
	CHECK_INT(at_num(&a, "request/per_checkpoint"), 999);
	CHECK_INT(at_num(&a, "request/seed"), 0);
	CHECK(!wasd_json_get(wasd_json_get(a.json, "links"), "file") && cJSON_IsNull(wasd_json_get(a.json, "message")));
	answer_done(&a);
	expect(409, "GET", "/v1/archives/archive_1/file", NULL);
	t.no_archive = WASD_EBUSY;
	expect(503, "POST", "/v1/checkpoints:archive", body);
	teardown();
}

/* The limits; what is refused of a request is in tests/e2e/test_merge.py. */
static void archive_limits(void)
{
	char body[300];
	begin();
	cJSON *in = cJSON_CreateObject(), *ids = cJSON_AddArrayToObject(in, "checkpoints");
	for (int i = 0; i <= 1000; i++)
		cJSON_AddItemToArray(ids, cJSON_CreateString(ckpt));
	char *text = wasd_json_print(in);
	expect(422, "POST", "/v1/checkpoints:archive", text);
	wasd_free(text);
	cJSON_DeleteItemFromArray(ids, 1000);
	text = wasd_json_print(in);
	expect(202, "POST", "/v1/checkpoints:archive", text); /* one, named a thousand times */
	wasd_free(text);
	cJSON_Delete(in);
	snprintf(body, sizeof body, "{\"jobs\":[\"%s\"],\"views\":[", job);
	for (int i = 0; i < 17; i++)
		strcat(body, i ? ",{}" : "{}");
	strcat(body, "]}");
	struct answer a = send("POST", "/v1/checkpoints:archive", body);
	CHECK_INT(a.r.status, 422);
	CHECK_STR(at_str(&a, "errors/0/pointer"), "/views");
	answer_done(&a);
	teardown();
}

static void showing_archives(void)
{
	begin();
	struct answer a = send("GET", "/v1/archives/archive_1?wait=1s", NULL);
	CHECK_INT(a.r.status, 200);
	CHECK_STR(at_str(&a, "links/file"), "/v1/archives/archive_1/file");
	answer_done(&a);
	a = send("GET", "/v1/archives", NULL);
	CHECK_STR(at_str(&a, "items/0/id"), "archive_1");
	answer_done(&a);
	a = send("GET", "/v1/archives/archive_1/file", NULL);
	CHECK(a.r.status == 200 && a.r.source.size == 3 && !strcmp(a.r.content_type, "application/x-tar"));
	answer_done(&a);
	expect(404, "GET", "/v1/archives/archive_2", NULL);
	expect(404, "GET", "/v1/archives/archive_2/file", NULL);
	expect(404, "DELETE", "/v1/archives/archive_2", NULL);
	expect(204, "DELETE", "/v1/archives/archive_1", NULL);
	teardown();
}

/* Nothing begins and nothing is deleted without its row in the audit. */
static void unaudited(void)
{
	char body[300], path[100];
	sqlite3 *db = NULL;
	begin();
	snprintf(path, sizeof path, "%s/wasd.db", t.dir);
	CHECK(sqlite3_open(path, &db) == SQLITE_OK);
	CHECK(sqlite3_exec(db, "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'full'); END", NULL,
	                   NULL, NULL) == SQLITE_OK);
	struct answer a = send("POST", "/v1/checkpoints:merge", body_of(""));
	CHECK(a.r.status >= 500 && t.merge && !api_response_header(&a.r, "Location"));
	CHECK_INT(t.forgotten, 1);
	answer_done(&a);
	snprintf(body, sizeof body, "{\"checkpoints\":[\"%s\"]}", ckpt);
	a = send("POST", "/v1/checkpoints:archive", body);
	CHECK(a.r.status >= 500 && t.archive && !api_response_header(&a.r, "Location"));
	CHECK_INT(t.forgotten, 2);
	answer_done(&a);
	static const char *const urls[] = {"/v1/merges/merge_1", "/v1/archives/archive_1"};
	for (size_t i = 0; i < API_LEN(urls); i++) {
		a = send("DELETE", urls[i], NULL);
		CHECK_MSG(a.r.status >= 500, "%s: %d", urls[i], a.r.status);
		answer_done(&a);
	}
	CHECK_INT(t.forgotten, 2);
	CHECK(sqlite3_exec(db, "DROP TRIGGER full", NULL, NULL, NULL) == SQLITE_OK);
	sqlite3_close(db);
	for (size_t i = 0; i < API_LEN(urls); i++)
		expect(204, "DELETE", urls[i], NULL);
	CHECK_INT(t.forgotten, 4);
	teardown();
}

int main(void)
{
	TEST_RUN(asking);
	TEST_RUN(refused);
	TEST_RUN(showing);
	TEST_RUN(archiving);
	TEST_RUN(archive_limits);
	TEST_RUN(showing_archives);
	TEST_RUN(unaudited);
	TEST_END();
}
