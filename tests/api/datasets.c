/* tests/api/datasets.c - datasets over the API: upload, same bytes, new bytes, multipart, recipe, refusal, preview,
 * delete. */
#include "harness.h"
#include <sys/stat.h>

/* A staged upload as http.c passes it on: a file with its digest. */
static struct api_upload stage(const char *name, const char *data, size_t n)
{
	static char paths[8][128];
	static int next;
	char *path = paths[next++ % 8];
	struct api_upload u = {.path = path, .bytes = n, .name = ""};
	snprintf(path, sizeof paths[0], "%s/staged-%s", t.dir, name);
	FILE *f = fopen(path, "wb");
	fwrite(data, 1, n, f);
	fclose(f);
	wasd_sha256_of(data, n, u.sha256);
	return u;
}

static struct answer put(const char *url, const struct api_upload *u, int waited)
{
	return send_with("PUT", url, NULL, 0, (struct extra){.uploads = u, .n_uploads = 1, .waited = waited});
}

/* Ends the scan as the ingest process would. */
static void finish(const char *name, int64_t version, bool good)
{
	struct storage_dataset d;
	struct wasd_err err = {0};
	CHECK_MSG(!storage_dataset_get(t.db, name, version, &d, &err), "%s", err.msg);
	if (good)
		CHECK_MSG(!storage_dataset_ready(t.db, d.id, "cifar10", "digest", "data/x.wds", test_info, 5000, &err), "%s",
		          err.msg);
	else
		CHECK_MSG(!storage_dataset_invalid(
					  t.db, d.id,
					  "{\"code\":\"einval\",\"message\":\"label 12 of 10 classes\",\"file\":\"data_batch_3.bin\"}",
					  &err),
		          "%s", err.msg);
	storage_dataset_done(&d);
}

static void upload(void)
{
	setup();
	struct api_upload u = stage("a", "the bytes", 9), v = stage("b", "other bytes", 11);
	struct answer a = put("/v1/datasets/cifar", &u, 0);
	CHECK_INT(a.r.status, 202);
	CHECK_STR(str(&a, "state"), "scanning");
	CHECK_INT(num(&a, "version"), 1);
	CHECK_STR(str(&a, "source_digest"), u.sha256);
	CHECK_STR(api_response_header(&a.r, "Location"), "/v1/datasets/cifar/versions/1");
	CHECK(a.taken);
	CHECK_INT(t.ingests, 1);
	answer_done(&a);
	a = put("/v1/datasets/cifar", &u, 0); /* again during the scan */
	CHECK(a.r.status == 202 && !a.taken && num(&a, "version") == 1);
	answer_done(&a);
	a = put("/v1/datasets/cifar?wait=60s", &u, 0);
	CHECK_INT(a.result, API_AGAIN);
	CHECK_STR(a.r.again.object, "cifar");
	answer_done(&a);
	finish("cifar", 1, true);
	a = put("/v1/datasets/cifar?wait=60s", &u, 1);
	CHECK_INT(a.r.status, 201);
	CHECK_STR(str(&a, "state"), "ready");
	CHECK_INT(num(&a, "train"), 100);
	CHECK_INT(cJSON_GetArraySize(wasd_json_get(a.json, "classes")), 3);
	answer_done(&a);
	a = put("/v1/datasets/cifar", &u, 0); /* same bytes: the same version */
	CHECK(a.r.status == 200 && num(&a, "version") == 1 && !a.taken);
	answer_done(&a);
	a = put("/v1/datasets/cifar", &v, 0); /* new bytes: a new version */
	CHECK(a.r.status == 202 && num(&a, "version") == 2 && a.taken);
	answer_done(&a);
	a = put("/v1/datasets/cifar?size=64", &u, 0); /* the same bytes with another size */
	CHECK(a.r.status == 202 && num(&a, "version") == 3 && a.taken);
	answer_done(&a);
	CHECK_STR(t.ingest_options, "{\"size\":64}");
	CHECK_INT(t.ingests, 3);
	a = send("GET", "/v1/datasets/cifar", NULL); /* the latest that is ready */
	CHECK_INT(num(&a, "version"), 1);
	answer_done(&a);
	a = send("GET", "/v1/datasets/cifar/versions", NULL);
	CHECK_INT(cJSON_GetArraySize(wasd_json_get(a.json, "items")), 3);
	answer_done(&a);
	a = send("GET", "/v1/datasets/cifar/versions/2?wait=10s", NULL);
	CHECK_INT(a.result, API_AGAIN);
	answer_done(&a);
	struct answer cond =
		send_with("PUT", "/v1/datasets/cifar", NULL, 0,
	              (struct extra){.uploads = &u, .n_uploads = 1, .headers = {"if-none-match", "*", NULL}});
	CHECK_INT(cond.r.status, 412); /* create only */
	answer_done(&cond);
	teardown();
}

static void refused(void)
{
	setup();
	struct api_upload u = stage("a", "the bytes", 9);
	struct answer a = put("/v1/datasets/bad?wait=30s", &u, 0);
	CHECK_INT(a.result, API_AGAIN);
	answer_done(&a);
	finish("bad", 1, false);
	a = put("/v1/datasets/bad?wait=30s", &u, 1);
	CHECK_INT(a.r.status, 422);
	CHECK_STR(str(&a, "code"), "bad_dataset");
	CHECK_STR(str(&a, "detail"), "data_batch_3.bin: label 12 of 10 classes");
	const char *pointer = "";
	wasd_json_str(wasd_json_get(a.json, "errors")->child, "pointer", &pointer);
	CHECK_STR(pointer, "data_batch_3.bin");
	answer_done(&a);
	a = send("GET", "/v1/datasets/bad", NULL);
	CHECK_STR(str(&a, "state"), "invalid");
	CHECK_STR(str(&a, "message"), "label 12 of 10 classes");
	answer_done(&a);
	a = put("/v1/datasets/bad", &u, 0); /* after an invalid version the same bytes are scanned again */
	CHECK(a.r.status == 202 && num(&a, "version") == 2);
	answer_done(&a);
	/* Several files at fault: each is listed, and a count covers the others. */
	struct storage_dataset d;
	struct wasd_err err;
	CHECK(
		!storage_dataset_get(t.db, "bad", 2, &d, &err) &&
		!storage_dataset_invalid(
			t.db, d.id,
			"{\"message\":\"m\",\"errors\":[{\"file\":\"a.png\",\"detail\":\"cut\"},{\"file\":\"b.png\",\"detail\":\"empty\"}],\"count\":212}",
			&err));
	storage_dataset_done(&d);
	a = put("/v1/datasets/bad?wait=30s", &u, 1);
	CHECK_INT(a.r.status, 422);
	CHECK_STR(str(&a, "code"), "bad_dataset");
	CHECK_STR(str(&a, "detail"), "a.png: cut (and 211 more)");
	CHECK_INT(cJSON_GetArraySize(wasd_json_get(a.json, "errors")), 2);
	answer_done(&a);
	/* The daemon refuses it: the row says so and the staged file stays with the connection. */
	t.ingest_refuses = true;
	struct api_upload v = stage("b", "others", 6);
	a = put("/v1/datasets/late", &v, 0);
	CHECK(a.r.status == 503 && !a.taken && api_response_header(&a.r, "Retry-After"));
	answer_done(&a);
	a = send("GET", "/v1/datasets/late", NULL);
	CHECK_STR(str(&a, "state"), "invalid");
	answer_done(&a);
	struct answer form =
		send_with("PUT", "/v1/datasets/x", NULL, 0,
	              (struct extra){.uploads = &v,
	                             .n_uploads = 1,
	                             .headers = {"content-type", "multipart/form-data; boundary=B", NULL}});
	CHECK_INT(form.r.status, 415);
	answer_done(&form);
	teardown();
}

#define PART(name, file, data) "--B\r\nContent-Disposition: form-data; name=\"" name "\"" file "\r\n\r\n" data "\r\n"

static struct answer post(const char *type, const char *body, size_t n, int waited)
{
	struct api_upload u = stage("form", body, n);
	return send_with("POST", "/v1/datasets", NULL, 0,
	                 (struct extra){.uploads = &u,
	                                .n_uploads = 1,
	                                .headers = {"content-type", type, NULL},
	                                .waited = waited});
}

static void multipart_upload(void)
{
	static const char one[] = PART("name", "", "mnist") PART("file", "; filename=\"train-images\"", "0123")
		PART("file", "; filename=\"labels\"", "") "--B--";
	static const char two[] = PART("file", "; filename=\"labels\"", "")
		PART("files[]", "; filename=\"train-images\"", "0123") PART("name", "", "mnist") "--B--";
	setup();
	struct answer a = post("multipart/form-data; boundary=B", one, sizeof one - 1, 0);
	CHECK_INT(a.r.status, 202);
	CHECK_STR(t.last_name, "mnist");
	CHECK_INT(t.ingest_files, 2);
	CHECK(!a.taken); /* the parts were taken, the body was not */
	answer_done(&a);
	finish("mnist", 1, true);
	a = post("multipart/form-data; boundary=B", two, sizeof two - 1, 0);
	CHECK_MSG(a.r.status == 200 && num(&a, "version") == 1, "the order of the parts does not matter: %d", a.r.status);
	answer_done(&a);
	static const struct {
		const char *body, *code, *culprit;
		int status;
	} bad[] = {
		{PART("name", "", "mnist") "--B--", "invalid_field", "no part \"file\"", 422},
		{PART("file", "; filename=\"x\"", "0") "--B--", "invalid_field", "is not a name", 422},
		{PART("name", "", "Bad Name") PART("file", "; filename=\"x\"", "0") "--B--", "invalid_field", "Bad Name", 422},
		{PART("name", "", "ok") PART("size", "", "32") PART("file", "; filename=\"x\"", "0") "--B--", "invalid_field",
	     "\"size\"", 422},
		{PART("name", "", "ok") "--B\r\n\r\n\r\n--B--", "bad_multipart", "part 1", 400},
		{"--C--", "bad_multipart", "--B", 400},
	};
	for (size_t i = 0; i < API_LEN(bad); i++) {
		a = post("multipart/form-data; boundary=B", bad[i].body, strlen(bad[i].body), 0);
		CHECK_MSG(a.r.status == bad[i].status && !strcmp(str(&a, "code"), bad[i].code) &&
		              strstr(str(&a, "detail"), bad[i].culprit),
		          "%s: %d %s %s", bad[i].body, a.r.status, str(&a, "code"), str(&a, "detail"));
		answer_done(&a);
	}
	CHECK_INT(t.ingests, 1);
	/* Refused by the daemon: no part is left behind. */
	t.ingest_refuses = true;
	char left[2][160];
	struct stat st;
	for (int i = 0; i < 2; i++) {
		snprintf(left[i], sizeof left[i], "%s/staged-form.part%d", t.dir, i);
		CHECK(unlink(left[i]) == 0); /* of the first upload, which the fake daemon took */
	}
	static const char three[] = PART("name", "", "third") PART("file", "; filename=\"x\"", "zzz")
		PART("file", "; filename=\"y\"", "zz") "--B--";
	a = post("multipart/form-data; boundary=B", three, sizeof three - 1, 0);
	CHECK_INT(a.r.status, 503);
	answer_done(&a);
	CHECK(stat(left[0], &st) != 0 && stat(left[1], &st) != 0);
	teardown();
}

static void recipe(void)
{
	static const char good[] =
		"{\"name\":\"glyphs-10k\",\"synthetic\":{\"kind\":\"glyphs\",\"train\":10000,\"test\":2000,\"seed\":1}}",
					  same[] = "{\"synthetic\":{\"kind\":\"glyphs\"},\"name\":\"glyphs-10k\"}";
	setup();
	struct answer a = post("application/json", good, sizeof good - 1, 0);
	CHECK_INT(a.r.status, 202);
	CHECK_STR(t.last_name, "glyphs-10k glyphs 10000 2000 1");
	answer_done(&a);
	a = post("", same, sizeof same - 1, 0); /* these are the defaults */
	CHECK(a.r.status == 202 && num(&a, "version") == 1);
	CHECK_INT(t.synths, 1);
	answer_done(&a);
	static const struct {
		const char *type, *body, *code, *pointer;
		int status;
	} bad[] = {
		{"application/json", "{", "bad_json", NULL, 400},
		{"application/json", "{\"name\":\"x\"}", "invalid_field", "/synthetic", 422},
		{"application/json", "{\"name\":\"X\",\"synthetic\":{\"kind\":\"glyphs\"}}", "invalid_field", "/name", 422},
		{"application/json", "{\"name\":\"x\",\"synthetic\":{}}", "invalid_field", "/synthetic/kind", 422},
		{"application/json", "{\"name\":\"x\",\"synthetic\":{\"kind\":\"moons\"}}", "invalid_field", "/synthetic/kind",
	     422},
		{"application/json", "{\"name\":\"x\",\"synthetic\":{\"kind\":\"glyphs\",\"train\":0}}", "invalid_field",
	     "/synthetic/train", 422},
		{"application/json", "{\"name\":\"x\",\"synthetic\":{\"kind\":\"glyphs\",\"classes\":5}}", "invalid_field",
	     "/synthetic/classes", 422},
		{"application/json", "{\"name\":\"x\",\"blobs\":[\"00\"]}", "invalid_field", "/synthetic", 422},
		{"application/x-tar", "ustar", "unsupported_media_type", NULL, 415},
	};
	for (size_t i = 0; i < API_LEN(bad); i++) {
		const char *pointer = NULL;
		a = post(bad[i].type, bad[i].body, strlen(bad[i].body), 0);
		const cJSON *errors = wasd_json_get(a.json, "errors");
		wasd_json_str(errors ? errors->child : NULL, "pointer", &pointer);
		CHECK_MSG(a.r.status == bad[i].status && !strcmp(str(&a, "code"), bad[i].code) &&
		              (!bad[i].pointer || (pointer && !strcmp(pointer, bad[i].pointer))),
		          "%s: %d %s at %s", bad[i].body, a.r.status, str(&a, "code"), pointer ? pointer : "");
		answer_done(&a);
	}
	teardown();
}

static void preview_and_delete(void)
{
	char id[64];
	setup();
	make_dataset("data", test_info);
	struct answer a = send("GET", "/v1/datasets/data/preview?i=3&split=test", NULL);
	CHECK_INT(a.r.status, 200);
	CHECK_STR(a.r.content_type, "image/png");
	CHECK_INT(a.r.body.len, 10);
	CHECK_STR(api_response_header(&a.r, "X-Class"), "two");
	CHECK_STR(api_response_header(&a.r, "X-Label"), "2");
	CHECK(api_response_header(&a.r, "ETag") != NULL);
	answer_done(&a);
	make_job("resnet18", id);
	expect(409, "DELETE", "/v1/datasets/data", NULL);
	char url[100];
	snprintf(url, sizeof url, "/v1/jobs/%s:cancel", id);
	expect(200, "POST", url, NULL);
	expect(204, "DELETE", "/v1/datasets/data", NULL);
	CHECK_INT(t.removed, 1);
	CHECK(strstr(t.removed_paths, "data/data.wds") != NULL);
	expect(404, "GET", "/v1/datasets/data", NULL);
	expect(404, "GET", "/v1/datasets/data/versions/1", NULL);
	expect(404, "DELETE", "/v1/datasets/data", NULL);
	teardown();
}

int main(void)
{
	TEST_RUN(upload);
	TEST_RUN(refused);
	TEST_RUN(multipart_upload);
	TEST_RUN(recipe);
	TEST_RUN(preview_and_delete);
	TEST_END();
}
