/* tests/api/audit.c - every route that changes something leaves one audit row that names who asked. The table below has
 * a request for each of them, or says why a route leaves none; a new route needs a row here. */
#include "harness.h"

static const char *const other_blob = "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee";

/* In the order in which they are sent. JOB, CKPT: of a job that has completed; WAITS: of one that is queued. */
static const struct row {
	const char *method, *pattern, *url, *body;
	const char *action;
} table[] = {
	{"POST", "/v1/jobs", "/v1/jobs", "{\"dataset\":\"data\",\"model\":{\"arch\":\"lenet\"}}", "job.create"},
	{"PATCH", "/v1/jobs/{id}", "/v1/jobs/WAITS", "{\"priority\":60,\"limits\":{\"max_wall_s\":60}}", "job.update"},
	{"POST", "/v1/jobs/{id}:clone", "/v1/jobs/WAITS:clone", NULL, "job.create"},
	{"POST", "/v1/jobs/{id}:hold", "/v1/jobs/WAITS:hold", NULL, "job.hold"},
	{"POST", "/v1/jobs/{id}:release", "/v1/jobs/WAITS:release", NULL, "job.release"},
	{"POST", "/v1/jobs/{id}:pause", "/v1/jobs/WAITS:pause", NULL, "job.hold"},
	{"POST", "/v1/jobs/{id}:resume", "/v1/jobs/WAITS:resume", NULL, "job.release"},
	{"POST", "/v1/jobs/{id}:cancel", "/v1/jobs/WAITS:cancel", NULL, "job.cancel"},
	{"POST", "/v1/jobs/{id}:retry", "/v1/jobs/WAITS:retry", NULL, "job.retry"},
	{"POST", "/v1/jobs:batch", "/v1/jobs:batch", "{\"action\":\"cancel\",\"ids\":[\"WAITS\"]}", "job.cancel"},
	{"PATCH", "/v1/queues/{q}", "/v1/queues/night", "{\"weight\":2}", "queue.update"},
	{"DELETE", "/v1/queues/{q}", "/v1/queues/night", NULL, "queue.delete"},
	{"PATCH", "/v1/checkpoints/{id}", "/v1/checkpoints/CKPT", "{\"pinned\":true}", "checkpoint.update"},
	{"POST", "/v1/checkpoints/{id}/profiles", "/v1/checkpoints/CKPT/profiles",
     "{\"name\":\"light\",\"desire\":\"macs\",\"budget\":0.7}", "profile.create"},
	{"DELETE", "/v1/checkpoints/{id}/profiles/{p}", "/v1/checkpoints/CKPT/profiles/light", NULL, "profile.delete"},
	{"POST", "/v1/checkpoints/{id}/modes", "/v1/checkpoints/CKPT/modes",
     "{\"name\":\"small\",\"desire\":\"macs\",\"budget\":0.7}", "profile.create"},
	{"DELETE", "/v1/checkpoints/{id}/modes/{m}", "/v1/checkpoints/CKPT/modes/dom:small", NULL, "profile.delete"},
	{"POST", "/v1/checkpoints/{id}/modes:measure", "/v1/checkpoints/CKPT/modes:measure", "{}", "profile.create"},
	{"DELETE", "/v1/checkpoints/{id}/modes:measure", "/v1/checkpoints/CKPT/modes:measure", NULL, "profile.delete"},
	{"POST", "/v1/checkpoints:merge", "/v1/checkpoints:merge", "{\"checkpoints\":[\"CKPT\",\"CKPT\"]}", "merge.create"},
	{"DELETE", "/v1/merges/{id}", "/v1/merges/merge_1", NULL, "merge.delete"},
	{"POST", "/v1/checkpoints:archive", "/v1/checkpoints:archive", "{\"checkpoints\":[\"CKPT\"]}", "archive.create"},
	{"DELETE", "/v1/archives/{id}", "/v1/archives/archive_1", NULL, "archive.delete"},
	{"POST", "/v1/checkpoints", "/v1/checkpoints",
     "{\"blob\":\"ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff\",\"model\":{\"arch\":\"lenet\"},"
     "\"input\":[1,28,28],\"classes\":[\"a\",\"b\"]}",
     "checkpoint.import"},
	{"PUT", "/v1/blobs/{sha256}", "/v1/blobs/eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",
     "UPLOAD", "blob.add"},
	{"PUT", "/v1/datasets/{name}", "/v1/datasets/mine", "UPLOAD", "dataset.add"},
	{"POST", "/v1/datasets", "/v1/datasets",
     "{\"name\":\"made\",\"synthetic\":{\"kind\":\"glyphs\",\"train\":10,\"test\":10,\"seed\":1}}", "dataset.add"},
	{"DELETE", "/v1/datasets/{name}/versions/{v}", "/v1/datasets/old/versions/1", NULL, "dataset.delete"},
	{"DELETE", "/v1/datasets/{name}", "/v1/datasets/older", NULL, "dataset.delete"},
	{"POST", "/v1/deployments", "/v1/deployments", "{\"name\":\"live\",\"source\":{\"job\":\"JOB\"}}",
     "deployment.create"},
	{"PATCH", "/v1/deployments/{d}", "/v1/deployments/live", "{\"batching\":{\"max_batch\":8}}", "deployment.options"},
	{"POST", "/v1/deployments/{d}:reload", "/v1/deployments/live:reload", NULL, "deployment.reload"},
	{"PUT", "/v1/deployments/{d}/mode", "/v1/deployments/live/mode", "{\"mode\":\"dom\"}", "deployment.mode"},
	{"POST", "/v1/deployments/{d}/mode:rollback", "/v1/deployments/live/mode:rollback", NULL, "deployment.mode"},
	{"PUT", "/v1/deployments/{d}/traffic", "/v1/deployments/live/traffic", "{\"split\":{\"aom\":90,\"dom\":10}}",
     "deployment.traffic"},
	{"POST", "/v1/deployments/{d}/cascade:tune", "/v1/deployments/live/cascade:tune", "{\"cheap\":\"dom\"}",
     "deployment.traffic"},
	{"POST", "/v2/repository/models/{m}/unload", "/v2/repository/models/live/unload", NULL, "deployment.unload"},
	{"POST", "/v2/repository/models/{m}/load", "/v2/repository/models/live/load", NULL, "deployment.load"},
	{"DELETE", "/v1/deployments/{d}", "/v1/deployments/live", NULL, "deployment.delete"},
	{"POST", "/v1/models", "/v1/models", "{\"name\":\"digits\"}", "model.create"},
	{"PATCH", "/v1/models/{model}", "/v1/models/digits", "{\"note\":\"x\"}", "model.update"},
	{"POST", "/v1/models/{model}/versions", "/v1/models/digits/versions", "{\"job\":\"JOB\"}", "model.version"},
	{"PUT", "/v1/models/{model}/aliases/{a}", "/v1/models/digits/aliases/best", "{\"version\":1}", "model.alias"},
	{"DELETE", "/v1/models/{model}/aliases/{a}", "/v1/models/digits/aliases/best", NULL, "model.alias_delete"},
	{"DELETE", "/v1/models/{model}/versions/{n}", "/v1/models/digits/versions/1", NULL, "model.version_delete"},
	{"DELETE", "/v1/models/{model}", "/v1/models/digits", NULL, "model.delete"},
	{"DELETE", "/v1/jobs/{id}", "/v1/jobs/WAITS", NULL, "job.delete"},
	{"PATCH", "/v1/checkpoints/{id}", "/v1/checkpoints/CKPT", "{\"pinned\":false}", "checkpoint.update"},
	{"DELETE", "/v1/checkpoints/{id}", "/v1/checkpoints/CKPT", NULL, "checkpoint.delete"},
	{"POST", "/v1/sweeps", "/v1/sweeps",
     "{\"name\":\"s\",\"template\":{\"dataset\":\"data\",\"model\":{\"arch\":\"resnet18\"}},"
     "\"space\":{\"/train/seed\":{\"values\":[1,2]}},\"search\":{\"method\":\"grid\"}}",
     "sweep.create"},
	{"POST", "/v1/sweeps/{id}:pause", "/v1/sweeps/SWEEP:pause", NULL, "sweep.pause"},
	{"POST", "/v1/sweeps/{id}:resume", "/v1/sweeps/SWEEP:resume", NULL, "sweep.resume"},
	{"POST", "/v1/sweeps/{id}:cancel", "/v1/sweeps/SWEEP:cancel", NULL, "sweep.cancel"},
	{"DELETE", "/v1/sweeps/{id}", "/v1/sweeps/SWEEP", NULL, "sweep.delete"},
	{"POST", "/v1/webhooks", "/v1/webhooks", "{\"url\":\"http://127.0.0.1:9/\",\"events\":[\"jobs\"]}",
     "webhook.create"},
	{"PATCH", "/v1/webhooks/{hook}", "/v1/webhooks/HOOK", "{\"events\":[\"*\"]}", "webhook.update"},
	{"DELETE", "/v1/webhooks/{hook}", "/v1/webhooks/HOOK", NULL, "webhook.delete"},
	{"POST", "/v1/storage:gc", "/v1/storage:gc", NULL, "storage.gc"},
	{"POST", "/v1/admin/backup", "/v1/admin/backup?wait=100s", NULL, "backup"},
};

/* Routes that answer and keep nothing; a rollback also leaves the row of the swap (tests/api/serving.c). */
static const struct {
	const char *method, *pattern;
} others[] = {
	{"POST", "/v1/deployments/{d}:rollback"},
	{"POST", "/v1/webhooks/{hook}:test"}, /* webhook.test is stored with the delivery, which is faked here */
	{"POST", "/v1/deployments/{d}/classify"},
	{"PUT", "/v1/deployments/{d}/classify"},
	{"POST", "/v1/models/{model}:predict"},
	{"POST", "/predictions/{m}"},
	{"PUT", "/predictions/{m}"},
	{"POST", "/predictions/{m}/{v}"},
	{"PUT", "/predictions/{m}/{v}"},
	{"POST", "/v2/models/{m}/infer"},
	{"POST", "/v2/models/{m}/versions/{v}/infer"},
	{"POST", "/v2/repository/index"},
	{"POST", "/api/2.0/mlflow/experiments/search"},
	{"POST", "/api/2.0/mlflow/runs/search"},
};

static bool known(const struct api_route *rt)
{
	bool found = !strcmp(rt->method, "GET") || rt->handle == api_v2_not_offered;
	for (size_t i = 0; i < API_LEN(table); i++)
		found |= !strcmp(table[i].method, rt->method) && !strcmp(table[i].pattern, rt->pattern);
	for (size_t i = 0; i < API_LEN(others); i++)
		found |= !strcmp(others[i].method, rt->method) && !strcmp(others[i].pattern, rt->pattern);
	return found;
}

static void every_route_has_a_row(void)
{
	for (const struct api_route *rt = api_routes; rt->method; rt++)
		CHECK_MSG(known(rt), "%s %s: which audit row does it leave? It needs a row here", rt->method, rt->pattern);
}

/* Text with JOB, WAITS, CKPT, SWEEP and HOOK replaced. */
static void fill(const char *text, const char *const names[5][2], char out[400])
{
	size_t n = 0;
	while (*text && n < 399) {
		bool found = false;
		for (int i = 0; i < 5 && !found; i++)
			if (!strncmp(text, names[i][0], strlen(names[i][0]))) {
				n += (size_t)snprintf(out + n, 400 - n, "%s", names[i][1]);
				text += strlen(names[i][0]);
				found = true;
			}
		if (!found)
			out[n++] = *text++;
	}
	out[n] = 0;
}

static struct answer ask(const struct row *row, const char *const names[5][2])
{
	const char *type = strcmp(row->pattern, "/v1/datasets") ? "application/octet-stream" : "application/json", *text;
	char url[400], body[400], path[100];
	fill(row->url, names, url);
	fill(row->body ? row->body : "", names, body);
	text = strcmp(body, "UPLOAD") ? body : "four";
	if (!row->body || (text == body && strcmp(row->pattern, "/v1/datasets")))
		return send(row->method, url, row->body ? body : NULL);
	struct api_upload file = {.path = path, .bytes = strlen(text)};
	snprintf(path, sizeof path, "%s/upload", t.dir);
	snprintf(file.sha256, sizeof file.sha256, "%s", other_blob);
	FILE *f = fopen(path, "w");
	CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0);
	return send_with(row->method, url, NULL, 0,
	                 (struct extra){.uploads = &file, .n_uploads = 1, .headers = {"content-type", type, NULL}});
}

/* How many rows there are with that action, and in all; the newest come first. */
static int rows(const char *action, int *all)
{
	struct storage_audit_list l = {0};
	struct wasd_err err = {0};
	int n = 0;
	CHECK_MSG(!storage_audit_list(t.db, NULL, "tester", 0, (struct storage_page){.limit = 500}, &l, &err), "%s",
	          err.msg);
	for (size_t i = 0; i < l.n; i++)
		n += !strcmp(l.items[i].action, action);
	*all = (int)l.n;
	storage_audit_list_done(&l);
	return n;
}

static void every_change_leaves_one(void)
{
	char job[64], waits[64], ckpt[32], sweep[64] = "", hook[64] = "";
	setup();
	make_dataset("data", test_info);
	make_dataset("old", test_info);
	make_dataset("older", test_info);
	make_job("resnet18", job);
	run_job(job, true, ckpt);
	make_job("resnet18", waits);
	const char *const names[5][2] = {{"JOB", job}, {"WAITS", waits}, {"CKPT", ckpt}, {"SWEEP", sweep}, {"HOOK", hook}};
	for (size_t i = 0; i < API_LEN(table); i++) {
		const struct row *row = &table[i];
		int before, after;
		struct storage_sweep_orders orders = {0};
		if (!strcmp(row->pattern, "/v1/sweeps/{id}")) /* only a sweep that has ended can be deleted */
			CHECK_INT(storage_sweeps_step(t.db, &orders, NULL), WASD_OK);
		wasd_free(orders.items);
		int of = rows(row->action, &before);
		struct answer a = ask(row, names);
		CHECK_MSG(a.result == API_AGAIN || (a.r.status >= 200 && a.r.status < 300), "%s %s: %d %s", row->method,
		          row->url, a.r.status, str(&a, "detail"));
		if (!strcmp(row->action, "sweep.create"))
			snprintf(sweep, sizeof sweep, "%s", str(&a, "id"));
		if (!strcmp(row->action, "webhook.create"))
			snprintf(hook, sizeof hook, "%s", str(&a, "id"));
		struct storage_backup done;
		if (!strcmp(row->action, "backup"))
			storage_backup_wait(t.db, &done, NULL);
		of = rows(row->action, &after) - of;
		CHECK_MSG(of == 1 && after - before == 1, "%s %s: %d audit rows %s of %d", row->method, row->url, of,
		          row->action, after - before);
		answer_done(&a);
	}
	teardown();
}

int main(void)
{
	TEST_RUN(every_route_has_a_row);
	TEST_RUN(every_change_leaves_one);
	TEST_END();
}
