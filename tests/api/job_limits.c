/* tests/api/job_limits.c - what can be changed while a job lives: its deadline, its time limit and what it keeps; and
 * what a clone takes of them. */
#include "harness.h"

/* A submission with these members gets the status, and a fault at the pointer. */
static void submitted(int status, const char *more, const char *pointer)
{
	char body[300];
	snprintf(body, sizeof body, "{\"dataset\":\"data\",\"model\":{\"arch\":\"resnet18\"},%s}", more);
	struct answer a = send("POST", "/v1/jobs", body);
	CHECK_MSG(a.r.status == status, "%s: %d %s", more, a.r.status, str(&a, "detail"));
	if (pointer)
		CHECK_STR(at_str(&a, "errors/0/pointer"), pointer);
	answer_done(&a);
}

static void faults_of_a_deadline(void)
{
	static const char *const wrong[] =
		{"0", "-1", "1e10", "true", "[]", "\"soon\"", "\"3600\"", "\"2030-01-31\"", "\"2001-01-31T18:00:00Z\""};
	char more[80];
	setup();
	make_dataset("data", test_info);
	for (size_t i = 0; i < API_LEN(wrong); i++) {
		snprintf(more, sizeof more, "\"deadline\":%s", wrong[i]);
		submitted(422, more, "/deadline");
	}
	submitted(201, "\"deadline\":null", NULL);
	submitted(201, "\"deadline\":0.5", NULL);
	CHECK_INT(t.queued, 2);
	teardown();
}

/* The deadline that a job shows, in seconds from its creation. */
static double seconds(const struct answer *a)
{
	int64_t made = 0, until = 0;
	wasd_rfc3339_parse(str(a, "created_at"), &made);
	return wasd_rfc3339_parse(str(a, "deadline"), &until) ? (double)(until - made) / 1000 : -1;
}

static void deadlines(void)
{
	char url[160];
	setup();
	make_dataset("data", test_info);
	struct answer a = send("POST", "/v1/jobs",
	                       "{\"dataset\":\"data\",\"model\":{\"arch\":\"resnet18\"},\"deadline\":3600}");
	CHECK_NEAR(seconds(&a), 3600, 60);
	snprintf(url, sizeof url, "/v1/jobs/%s:clone", str(&a, "id"));
	answer_done(&a);
	a = send("POST", url, NULL); /* seconds count again from the submission */
	CHECK_NEAR(seconds(&a), 3600, 60);
	answer_done(&a);
	*strrchr(url, ':') = 0;
	a = send("PATCH", url, "{\"deadline\":\"2100-01-01T00:00:00Z\"}");
	CHECK_STR(str(&a, "deadline"), "2100-01-01T00:00:00.000Z");
	answer_done(&a);
	CHECK_INT(t.queued, 3); /* it acts at once */
	strcat(url, ":clone");
	a = send("POST", url, NULL);
	CHECK_STR(str(&a, "deadline"), "2100-01-01T00:00:00.000Z");
	answer_done(&a);
	*strrchr(url, ':') = 0;
	a = send("PATCH", url, "{\"deadline\":null}");
	CHECK_INT(a.r.status, 200);
	CHECK(cJSON_IsNull(wasd_json_get(a.json, "deadline")));
	answer_done(&a);
	a = send("PATCH", url, "{\"deadline\":\"2001-01-01T00:00:00Z\"}");
	CHECK(a.r.status == 422 && !strcmp(at_str(&a, "errors/0/pointer"), "/deadline"));
	answer_done(&a);
	strcat(url, ":cancel");
	expect(200, "POST", url, NULL);
	*strrchr(url, ':') = 0;
	expect(200, "PATCH", url, "{\"deadline\":60}"); /* for a retry */
	struct storage_job now = {0};
	struct storage_job_patch over = {.priority = -1, .set_deadline = true, .deadline = 1};
	CHECK_INT(storage_job_update(t.db, url + sizeof "/v1/jobs/" - 1, &over, "t", &now, NULL), WASD_OK);
	storage_job_done(&now);
	strcat(url, ":retry");
	a = send("POST", url, NULL);
	CHECK_MSG(a.r.status == 409 && !strcmp(at_str(&a, "errors/0/pointer"), "/deadline"), "%d %s", a.r.status,
	          str(&a, "detail"));
	answer_done(&a);
	teardown();
}

static void limits_and_keep(void)
{
	static const struct {
		const char *body, *pointer;
	} wrong[] = {
		{"{\"limits\":{\"max_wall_s\":-1}}", "/limits/max_wall_s"},
		{"{\"limits\":{\"threads\":2}}", "/limits/threads"},
		{"{\"keep\":{\"latest\":0}}", "/keep/latest"},
		{"{\"keep\":{\"metric\":\"speed\"}}", "/keep/metric"},
		{"{\"keep\":{\"metric\":\"val_acc_dom\"}}", "/keep/metric"}, /* not measured */
		{"{\"checkpoint\":{\"keep\":{\"best\":2}}}", "/checkpoint"},
	};
	char url[160], clone[170];
	setup();
	make_dataset("data", test_info);
	struct answer a = send(
		"POST", "/v1/jobs",
		"{\"dataset\":\"data\",\"model\":{\"arch\":\"resnet18\"},\"was\":false,\"eval\":{\"modes\":[\"aom\"]},\"limits\":{\"max_wall_s\":9}}");
	CHECK_INT(a.r.status, 201);
	snprintf(url, sizeof url, "/v1/jobs/%s", str(&a, "id"));
	answer_done(&a);
	for (size_t i = 0; i < API_LEN(wrong); i++) {
		a = send("PATCH", url, wrong[i].body);
		CHECK_MSG(a.r.status == 422 && !strcmp(at_str(&a, "errors/0/pointer"), wrong[i].pointer), "%s: %d %s",
		          wrong[i].body, a.r.status, at_str(&a, "errors/0/pointer"));
		answer_done(&a);
	}
	a = send("PATCH", url, "{\"limits\":{\"max_wall_s\":60},\"keep\":{\"best\":3}}");
	CHECK_NEAR(at_num(&a, "limits/max_wall_s"), 60, 0);
	CHECK_NEAR(at_num(&a, "limits/nice"), 10, 0);
	CHECK_NEAR(at_num(&a, "checkpoint/keep/best"), 3, 0);
	CHECK_NEAR(at_num(&a, "checkpoint/keep/latest"), 1, 0);
	CHECK_STR(at_str(&a, "checkpoint/keep/metric"), "val_acc_aom");
	answer_done(&a);
	a = send("PATCH", url, "{\"keep\":{\"metric\":\"train_loss\"}}"); /* its direction follows from it */
	CHECK_STR(at_str(&a, "checkpoint/keep/mode"), "min");
	CHECK_NEAR(at_num(&a, "checkpoint/keep/best"), 3, 0);
	answer_done(&a);
	snprintf(clone, sizeof clone, "%s:clone", url);
	a = send("POST", clone, NULL);
	CHECK_NEAR(at_num(&a, "limits/max_wall_s"), 60, 0);
	CHECK_NEAR(at_num(&a, "checkpoint/keep/best"), 3, 0);
	CHECK_STR(at_str(&a, "checkpoint/keep/metric"), "train_loss");
	answer_done(&a);
	snprintf(clone, sizeof clone, "%s:cancel", url);
	expect(200, "POST", clone, NULL);
	expect(409, "PATCH", url, "{\"limits\":{\"max_wall_s\":60}}");
	expect(409, "PATCH", url, "{\"keep\":{\"best\":3}}");
	expect(200, "PATCH", url, "{\"note\":\"over\"}");
	teardown();
}

int main(void)
{
	TEST_RUN(faults_of_a_deadline);
	TEST_RUN(deadlines);
	TEST_RUN(limits_and_keep);
	TEST_END();
}
