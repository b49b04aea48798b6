/* The read-only part of MLflow's REST interface: experiments, runs, search with filter and order, histories. */
#include "harness.h"

static char ids[4][64];

static const char *member_str(const cJSON *o, const char *name)
{
	const char *v = "";
	wasd_json_str(o, name, &v);
	return v;
}

static void finish_run(const char *id, double acc, int epochs)
{
	int64_t n = 0;
	char *resume = NULL;
	CHECK(!storage_attempt_start(t.db, id, &n, &resume, NULL) && !storage_attempt_running(t.db, id, n, 1, "{}", NULL));
	wasd_free(resume);
	for (int e = 1; e <= epochs; e++) {
		struct storage_metric m[] = {{"val_acc_aom", acc * e / epochs}, {"train_loss", e == 2 ? NAN : 1.0 / e}};
		CHECK(!storage_epoch(t.db, id, n, e, e * 10, 1700000000000 + e, m, 2, "{}", NULL));
	}
	struct storage_exit x = {.outcome = "completed", .exit_reason = "done"};
	CHECK(!storage_attempt_end(t.db, id, n, &x, &(struct storage_move){.to = "completed", .reason = "done"}, NULL));
}

/* Four runs: three that ended with accuracies 0.5, 0.75 and 0.25, and one that waits. */
static void four_runs(void)
{
	static const double acc[] = {0.5, 0.75, 0.25};
	setup();
	make_dataset("data", test_info);
	for (int i = 0; i < 4; i++) {
		char body[300];
		snprintf(
			body, sizeof body,
			"{\"dataset\":\"data\",\"model\":{\"arch\":\"%s\"},\"name\":\"run-%d\",\"labels\":{\"team\":\"%s\"},\"train\":{\"epochs\":%d}}",
			i == 2 ? "lenet" : "resnet18", i, i % 2 ? "blue" : "red", i + 3);
		struct answer a = send("POST", "/v1/jobs", body);
		snprintf(ids[i], sizeof ids[i], "%s", str(&a, "id"));
		answer_done(&a);
		if (i < 3)
			finish_run(ids[i], acc[i], i + 2);
	}
}

#define API "/api/2.0/mlflow/"

/* The numbers of the runs in the answer, e.g. "1 0". */
static void finds(const char *body, const char *want)
{
	char got[100] = "";
	const cJSON *run;
	struct answer a = send("POST", API "runs/search", body);
	CHECK_MSG(a.r.status == 200, "%s: %d %s", body, a.r.status, wasd_buf_cstr(&a.r.body));
	cJSON_ArrayForEach(run, wasd_json_get(a.json, "runs")) {
		const char *name = member_str(wasd_json_get(run, "info"), "run_name");
		snprintf(got + strlen(got), sizeof got - strlen(got), "%s%s", *got ? " " : "", name + 4);
	}
	CHECK_MSG(!strcmp(got, want), "%s: \"%s\", want \"%s\"", body, got, want);
	answer_done(&a);
}

static void refuses(const char *body)
{
	struct answer a = send("POST", API "runs/search", body);
	CHECK_MSG(a.r.status == 400, "%s: %d", body, a.r.status);
	CHECK_STR(str(&a, "error_code"), "INVALID_PARAMETER_VALUE");
	answer_done(&a);
}

static void searches(void)
{
	four_runs();
	finds("{}", "3 2 1 0");
	finds("{\"experiment_ids\":[\"0\"]}", "3 2 1 0");
	finds("{\"experiment_ids\":[\"7\"]}", "");
	finds("{\"run_view_type\":\"DELETED_ONLY\"}", "");
	finds("{\"filter\":\"metrics.val_acc_aom > 0.3\"}", "1 0");
	finds("{\"filter\":\"metrics.val_acc_aom >= 0.5 and metrics.val_acc_aom<0.75\"}", "0");
	finds("{\"filter\":\"params.model.arch = 'lenet'\"}", "2");
	finds("{\"filter\":\"params.`model.arch` != \\\"lenet\\\" AND tags.team = 'red'\"}", "0");
	finds("{\"filter\":\"attributes.status = 'SCHEDULED'\"}", "3");
	finds("{\"filter\":\"run_name = 'run-1'\"}", "1");
	finds("{\"filter\":\"tags.none = 'x'\"}", "");
	finds("{\"order_by\":[\"metrics.val_acc_aom DESC\"]}", "1 0 2 3");
	finds("{\"order_by\":[\"metrics.val_acc_aom\"]}", "2 0 1 3");
	finds("{\"order_by\":[\"attributes.run_name ASC\"],\"max_results\":2}", "0 1");
	finds("{\"order_by\":[\"attributes.run_name ASC\"],\"max_results\":2,\"page_token\":\"2\"}", "2 3");
	finds("{\"max_results\":3}", "3 2 1");
	finds("{\"max_results\":3,\"page_token\":\"3\"}", "0");
	finds("{\"max_results\":1,\"page_token\":\"1\",\"filter\":\"attributes.status = 'FINISHED'\"}", "1");
	refuses("{\"filter\":\"metrics.val_acc_aom > high\"}");
	refuses("{\"filter\":\"metrics.val_acc_aom LIKE 'x'\"}");
	refuses("{\"filter\":\"run_name = 'run\"}");
	refuses("{\"filter\":\"run_name = 'a' or run_name = 'b'\"}");
	refuses("{\"order_by\":[\"metrics.val_acc_aom sideways\"]}");
	refuses("{\"max_results\":0}");
	refuses("{\"page_token\":\"-1\"}");
	struct answer a = send("POST", API "runs/search", "{\"max_results\":3}");
	CHECK_STR(str(&a, "next_page_token"), "3");
	answer_done(&a);
	a = send("POST", API "runs/search", "{\"max_results\":3,\"page_token\":\"3\"}");
	CHECK(!wasd_json_get(a.json, "next_page_token"));
	answer_done(&a);
	teardown();
}

static const char *pair(const cJSON *list, const char *key)
{
	const cJSON *p;
	cJSON_ArrayForEach(p, list)
		if (!strcmp(member_str(p, "key"), key))
			return member_str(p, "value");
	return "";
}

static void runs(void)
{
	char url[200];
	double v = 0;
	four_runs();
	snprintf(url, sizeof url, API "runs/get?run_uuid=%s&run_id=%s", ids[1], ids[1]);
	struct answer a = send("GET", url, NULL);
	CHECK_INT(a.r.status, 200);
	CHECK_STR(at_str(&a, "run/info/run_id"), ids[1]);
	CHECK_STR(at_str(&a, "run/info/status"), "FINISHED");
	const cJSON *data = wasd_json_get(wasd_json_get(a.json, "run"), "data"), *m;
	CHECK_STR(pair(wasd_json_get(data, "params"), "train.epochs"), "4");
	CHECK_STR(pair(wasd_json_get(data, "params"), "train.optimizer.type"), "sgd");
	CHECK_STR(pair(wasd_json_get(data, "params"), "eval.modes"), "[\"aom\",\"dom\"]");
	CHECK_STR(pair(wasd_json_get(data, "tags"), "team"), "blue");
	CHECK_STR(pair(wasd_json_get(data, "tags"), "wasd.state"), "completed");
	cJSON_ArrayForEach(m, wasd_json_get(data, "metrics"))
		if (!strcmp(member_str(m, "key"), "val_acc_aom"))
			wasd_json_num(m, "value", &v);
	CHECK_NEAR(v, 0.75, 0);
	answer_done(&a);
	snprintf(url, sizeof url, API "metrics/get-history?run_id=%s&metric_key=train_loss", ids[1]);
	a = send("GET", url, NULL);
	const cJSON *points = wasd_json_get(a.json, "metrics");
	CHECK_INT(cJSON_GetArraySize(points), 3);
	m = cJSON_GetArrayItem(points, 1);
	CHECK_STR(member_str(m, "value"), "NaN");
	CHECK(wasd_json_num(m, "step", &v) && v == 20 && wasd_json_num(m, "timestamp", &v) && v == 1700000000002);
	answer_done(&a);
	strcat(url, "&max_results=2");
	a = send("GET", url, NULL);
	CHECK_INT(cJSON_GetArraySize(wasd_json_get(a.json, "metrics")), 2);
	CHECK_STR(str(&a, "next_page_token"), "2");
	answer_done(&a);
	a = send("GET", API "runs/get?run_id=job_none", NULL);
	CHECK_INT(a.r.status, 404);
	CHECK_STR(str(&a, "error_code"), "RESOURCE_DOES_NOT_EXIST");
	answer_done(&a);
	expect(400, "GET", API "runs/get", NULL);
	a = send("GET", API "experiments/get-by-name?experiment_name=wasd", NULL);
	CHECK_STR(at_str(&a, "experiment/experiment_id"), "0");
	answer_done(&a);
	expect(200, "GET", API "experiments/get?experiment_id=0", NULL);
	expect(404, "GET", API "experiments/get?experiment_id=1", NULL);
	a = send("POST", API "experiments/search", "{\"max_results\":10,\"filter\":\"name = 'wasd'\"}");
	CHECK_STR(at_str(&a, "experiments/0/name"), "wasd");
	answer_done(&a);
	a = send("POST", API "experiments/search", "{\"filter\":\"name = 'other'\"}");
	CHECK_INT(cJSON_GetArraySize(wasd_json_get(a.json, "experiments")), 0);
	answer_done(&a);
	teardown();
}

int main(void)
{
	TEST_RUN(searches);
	TEST_RUN(runs);
	TEST_END();
}
