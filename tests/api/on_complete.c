/* tests/api/on_complete.c - what a job may ask to follow its completion, and what its object says of it. */
#include "harness.h"

static struct answer submitted(const char *asked)
{
	char body[600];
	snprintf(body, sizeof body, "{\"dataset\":\"data\",\"model\":{\"arch\":\"resnet18\"},\"train\":{\"epochs\":2},%s}",
	         asked);
	return send("POST", "/v1/jobs", body);
}

static void faults(void)
{
	static const struct {
		const char *asked, *pointer;
	} rows[] = {
		{"\"on_complete\":{}", "/on_complete"},
		{"\"on_complete\":{\"register\":{}}", "/on_complete/register/model"},
		{"\"on_complete\":{\"register\":{\"model\":\"No Name\"}}", "/on_complete/register/model"},
		{"\"on_complete\":{\"deploy\":{\"name\":\"live\",\"mode\":\"fast\"}}", "/on_complete/deploy/mode"},
		{"\"on_complete\":{\"deploy\":{\"name\":\"live\",\"mode\":\"dom:light\"}}", "/on_complete/deploy/mode"},
		{"\"was\":false,\"eval\":{\"modes\":[\"aom\"]},\"on_complete\":{\"deploy\":{\"name\":\"live\",\"mode\":\"dom\"}}",
	     "/on_complete/deploy/mode"},
		{"\"weights\":[{\"type\":\"sparse\"}],\"on_complete\":{\"deploy\":{\"name\":\"live\",\"mode\":\"slim\"}}",
	     "/on_complete/deploy/mode"},
		{"\"on_complete\":{\"deploy\":{\"name\":\"live\",\"batching\":{\"max_batch\":0}}}",
	     "/on_complete/deploy/batching/max_batch"},
		{"\"on_complete\":{\"if\":\"val_acc_aom\",\"register\":{\"model\":\"m\"}}", "/on_complete/if"},
		{"\"on_complete\":{\"if\":\"val_acc_aom >= high\",\"register\":{\"model\":\"m\"}}", "/on_complete/if"},
		{"\"on_complete\":{\"if\":\"val_acc_aom >= 1 or lr > 0\",\"register\":{\"model\":\"m\"}}", "/on_complete/if"},
		{"\"on_complete\":{\"if\":\"accuracy >= 1\",\"register\":{\"model\":\"m\"}}", "/on_complete/if/0/metric"},
		{"\"on_complete\":{\"if\":[{\"metric\":\"lr\",\"op\":\"=\",\"value\":1}],\"register\":{\"model\":\"m\"}}",
	     "/on_complete/if/0/op"},
		{"\"eval\":{\"modes\":[\"aom\"]},\"on_complete\":{\"if\":\"val_acc_dom > 0\",\"register\":{\"model\":\"m\"}}",
	     "/on_complete/if/0/metric"},
	};
	setup();
	make_dataset("data", test_info);
	for (size_t i = 0; i < API_LEN(rows); i++) {
		struct answer a = submitted(rows[i].asked);
		CHECK_MSG(a.r.status == 422 && !strcmp(at_str(&a, "errors/0/pointer"), rows[i].pointer), "%s: %d %s",
		          rows[i].asked, a.r.status, at_str(&a, "errors/0/pointer"));
		answer_done(&a);
	}
	CHECK_INT(t.queued, 0);
	struct answer a = submitted("\"weights\":[{\"type\":\"sparse\"},{\"type\":\"thin\",\"begin\":1}],"
	                            "\"on_complete\":{\"deploy\":{\"name\":\"live\",\"mode\":\"slim\"}}");
	CHECK_MSG(a.r.status == 201, "%d %s", a.r.status, at_str(&a, "errors/0/pointer"));
	answer_done(&a);
	teardown();
}

static void outcomes(void)
{
	char id[64], url[160], ckpt[32];
	setup();
	make_dataset("data", test_info);
	struct answer a = submitted(
		"\"on_complete\":{\"if\":\"val_acc_aom >= 0.5 and val_acc_dom < 0.2\",\"register\":{\"model\":\"digits\"},\"deploy\":{\"name\":\"live\"}}");
	CHECK_INT(a.r.status, 201);
	snprintf(id, sizeof id, "%s", str(&a, "id"));
	CHECK_STR(at_str(&a, "on_complete/state"), "pending");
	CHECK_STR(at_str(&a, "on_complete/if/1/op"), "<");
	answer_done(&a);
	run_job(id, true, ckpt); /* val_acc_aom 0.5, val_acc_dom 0.25 */
	snprintf(url, sizeof url, "/v1/jobs/%s", id);
	a = send("GET", url, NULL);
	CHECK_STR(at_str(&a, "on_complete/state"), "skipped");
	CHECK_STR(at_str(&a, "on_complete/why"), "val_acc_dom is 0.25 at epoch 2, not < 0.2");
	answer_done(&a);
	expect(404, "GET", "/v1/models/digits", NULL);
	/* A clone asks for the same, here with a condition that holds. */
	strcat(url, ":clone");
	a = send("POST", url, "{\"on_complete\":{\"if\":\"val_acc_aom >= 0.5\"}}");
	CHECK_STR(at_str(&a, "on_complete/register/model"), "digits");
	CHECK_STR(at_str(&a, "on_complete/state"), "pending");
	snprintf(id, sizeof id, "%s", str(&a, "id"));
	answer_done(&a);
	run_job(id, true, ckpt);
	snprintf(url, sizeof url, "/v1/jobs/%s", id);
	a = send("GET", url, NULL);
	CHECK_STR(at_str(&a, "on_complete/state"), "done");
	CHECK_STR(at_str(&a, "on_complete/checkpoint_id"), ckpt);
	CHECK_STR(at_str(&a, "on_complete/deployment"), "live");
	CHECK_NEAR(at_num(&a, "on_complete/version"), 1, 0);
	answer_done(&a);
	a = send("GET", "/v1/models/digits/versions/1", NULL);
	CHECK_STR(str(&a, "checkpoint"), ckpt);
	CHECK_STR(at_str(&a, "lineage/job"), id);
	answer_done(&a);
	a = send("GET", "/v1/deployments/live", NULL);
	CHECK_STR(at_str(&a, "source/model"), "digits");
	answer_done(&a);
	/* One that is cancelled is followed by nothing. */
	strcat(url, ":clone");
	a = send("POST", url, NULL);
	snprintf(url, sizeof url, "/v1/jobs/%s:cancel", str(&a, "id"));
	answer_done(&a);
	a = send("POST", url, NULL);
	CHECK_STR(at_str(&a, "on_complete/state"), "skipped");
	answer_done(&a);
	teardown();
}

int main(void)
{
	TEST_RUN(faults);
	TEST_RUN(outcomes);
	TEST_END();
}
