/* Few points of a curve (LTTB), and the metrics of several jobs on one axis. */
#include "harness.h"
#include "../../api/lttb.h"

static void keeps(const double *y, size_t n, size_t max, const char *want)
{
	double x[64] = {0};
	size_t keep[64];
	char got[300] = "";
	for (size_t i = 0; i < n; i++)
		x[i] = (double)i;
	size_t k = api_lttb(x, y, n, max, keep);
	for (size_t i = 0; i < k; i++)
		snprintf(got + strlen(got), sizeof got - strlen(got), "%s%zu", i ? " " : "", keep[i]);
	CHECK_STR(got, want);
}

/* Six points to four, by hand. Buckets {1,2} and {3,4}. First: A = (0,0), mean of the next bucket C = (3.5,5):
 * twice the area of point 1 (y = 5) is |-3.5*5 + 1*5| = 12.5, of point 2 (y = 0) |0 + 2*5| = 10: point 1. Second:
 * A = (1,5), C = (5,0): point 3 gives |-4*-5 - 2*5| = 10, point 4 (y = 10) |-4*5 - 3*5| = 35: point 4. */
static void by_hand(void)
{
	static const double six[] = {0, 5, 0, 0, 10, 0};
	keeps(six, 6, 4, "0 1 4 5");
	keeps(six, 6, 6, "0 1 2 3 4 5");
	keeps(six, 6, 2, "0 5");
	keeps(six, 6, 3, "0 4 5"); /* areas of 1..4 with C = (5,0): 25 0 0 50 */
	keeps(six, 1, 2, "0");
	keeps(six, 0, 2, "");
}

/* One outlier among 60 points stays visible; every-nth sampling would lose it. So does a loss that was NaN. */
static void outliers(void)
{
	double y[60] = {0};
	y[37] = 9;
	keeps(y, 60, 4, "0 29 37 59"); /* 29 only because no other point of its bucket stands out */
	y[12] = NAN;
	keeps(y, 60, 4, "0 12 37 59");
	for (int i = 0; i < 60; i++)
		y[i] = NAN;
	keeps(y, 60, 4, "0 1 30 59");
}

static int64_t run_epochs(const char *id, int epochs, int steps, double from)
{
	int64_t n = 0;
	char *resume = NULL;
	CHECK(!storage_attempt_start(t.db, id, &n, &resume, NULL) && !storage_attempt_running(t.db, id, n, 1, "{}", NULL));
	wasd_free(resume);
	struct storage_job j;
	CHECK(!storage_job_get(t.db, id, &j, NULL));
	for (int e = 1; e <= epochs; e++) {
		struct storage_metric m[] = {{"val_acc_aom", from + 0.1 * e}, {"train_loss", e == 2 ? NAN : 1.0 / e}};
		CHECK(!storage_epoch(t.db, id, n, e, e * steps, j.started_at + e * 1500, m, 2, "{}", NULL));
	}
	storage_job_done(&j);
	return n;
}

static void aligned(void)
{
	char a[64], b[64], url[300];
	setup();
	make_dataset("data", test_info);
	make_job("resnet18", a);
	make_job("resnet18", b);
	run_epochs(a, 3, 10, 0.25);
	run_epochs(b, 5, 15, 0.5);
	snprintf(url, sizeof url, "/v1/metrics:query?jobs=%s,%s&names=val_acc_aom,train_loss", a, b);
	struct answer r = send("GET", url, NULL);
	CHECK_INT(r.r.status, 200);
	CHECK_STR(at_str(&r, "x"), "epoch");
	CHECK_STR(at_str(&r, "jobs/1/id"), b);
	CHECK_STR(at_str(&r, "series/0/name"), "train_loss");
	CHECK_STR(at_str(&r, "series/1/unit"), "fraction");
	CHECK_STR(at_str(&r, "series/1/mode"), "aom");
	const cJSON *s = wasd_json_get(r.json, "series")->child, *values = wasd_json_get(s->next, "values");
	char *text = wasd_json_print(wasd_json_get(s->next, "x"));
	CHECK_STR(text, "[1,2,3,4,5]");
	wasd_free(text);
	text = wasd_json_print(wasd_json_get(values, a));
	CHECK_STR(text, "[0.35,0.45,0.55,null,null]");
	wasd_free(text);
	text = wasd_json_print(wasd_json_get(wasd_json_get(s, "values"), b));
	CHECK_MSG(text && !strncmp(text, "[1,null,0.333", 13), "%s", text);
	wasd_free(text);
	answer_done(&r);
	strcat(url, "&x=ts");
	r = send("GET", url, NULL);
	text = wasd_json_print(wasd_json_get(wasd_json_get(r.json, "series")->child, "x"));
	CHECK_STR(text, "[1.5,3,4.5,6,7.5]");
	wasd_free(text);
	answer_done(&r);
	snprintf(url, sizeof url, "/v1/metrics:query?jobs=%s&x=step&max_points=2&names=val_acc_aom", b);
	r = send("GET", url, NULL);
	text = wasd_json_print(wasd_json_get(wasd_json_get(r.json, "series")->child, "x"));
	CHECK_STR(text, "[15,75]");
	wasd_free(text);
	answer_done(&r);
	snprintf(url, sizeof url, "/v1/metrics:query?jobs=%s,%s&x=step&names=val_acc_aom", a, b);
	r = send("GET", url, NULL);
	s = wasd_json_get(r.json, "series")->child;
	text = wasd_json_print(wasd_json_get(s, "x"));
	CHECK_STR(text, "[10,15,20,30,45,60,75]");
	wasd_free(text);
	text = wasd_json_print(wasd_json_get(wasd_json_get(s, "values"), a));
	CHECK_STR(text, "[0.35,null,0.45,0.55,null,null,null]");
	wasd_free(text);
	answer_done(&r);
	r = send("GET", "/v1/metrics:query?names=val_acc_aom", NULL);
	CHECK_STR(at_str(&r, "jobs/0/id"), b); /* the newest first */
	CHECK_STR(at_str(&r, "jobs/1/id"), a);
	answer_done(&r);
	/* One job: the first and the last point, whatever the axis. */
	snprintf(url, sizeof url, "/v1/jobs/%s/metrics?names=val_acc_aom&max_points=2&x=time", b);
	r = send("GET", url, NULL);
	CHECK_INT(r.r.status, 200);
	CHECK_INT(cJSON_GetArraySize(wasd_json_get(wasd_json_get(r.json, "series")->child, "points")), 2);
	answer_done(&r);
	snprintf(url, sizeof url, "/v1/jobs/%s/metrics?x=hour", b);
	expect(400, "GET", url, NULL);
	expect(404, "GET", "/v1/metrics:query?jobs=job_none", NULL);
	expect(400, "GET", "/v1/metrics:query?jobs=a&x=hour", NULL);
	teardown();
}

int main(void)
{
	TEST_RUN(by_hand);
	TEST_RUN(outliers);
	TEST_RUN(aligned);
	TEST_END();
}
