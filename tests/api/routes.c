/* tests/api/routes.c - checks every row of the route table against the common rules: another method gives 405 with
 * the path's methods; a query parameter that is not in the row, a body where none is allowed and an unknown member
 * of a JSON body are refused by name; a missing object gives 404; a GET with the ETag of the previous answer gives
 * 304. The other files here check the answers; tests/e2e/test_docs.py checks that each route is described. */
#include "harness.h"

static const char *const methods[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"};
static char job[64], ckpt[32], sweep[40], hook[40];

/* A value for {name} in a pattern: an existing object, or a missing one. */
static const char *param(const char *pattern, const char *name, size_t n, bool there)
{
	static const char none[] = "0000000000000000000000000000000000000000000000000000000000000000";
	static const struct {
		const char *prefix, *name, *is;
	} rows[] = {
		{"/v1/jobs/", "id", job},
		{"/v1/sweeps/", "id", sweep},
		{"/v1/checkpoints/", "id", ckpt},
		{"/v1/checkpoints/", "p", "light"},
		{"/v1/checkpoints/", "m", "dom:light"},
		{"/v1/checkpoints/", "layer", "conv1"},
		{"/v1/merges/", "id", "merge_1"},
		{"/v1/archives/", "id", "archive_1"},
		{"/v1/blobs/", "sha256", test_blob},
		{"/v1/datasets/", "name", "data"},
		{"/v1/datasets/", "v", "1"},
		{"/v1/deployments/", "d", "live"},
		{"/v1/deployments/", "i", "1"},
		{"/v1/models/", "model", "digits"},
		{"/v1/models/", "n", "1"},
		{"/v1/models/", "a", "champion"},
		{"/v2/models/", "m", "live"},
		{"/v2/repository/models/", "m", "live"},
		{"/v2/models/", "v", "1"},
		{"/v1/queues/", "q", "default"},
		{"/v1/webhooks/", "hook", hook},
		{"/v1/capabilities/", "arch", "lenet"},
		{"/v2/", "x", "x"},
		{"/predictions/", "m", "live"},
		{"/predictions/", "v", "1"},
	};
	for (size_t i = 0; i < API_LEN(rows); i++)
		if (!strncmp(pattern, rows[i].prefix, strlen(rows[i].prefix)) && strlen(rows[i].name) == n &&
		    !strncmp(rows[i].name, name, n))
			return there                           ? rows[i].is :
			       !strcmp(rows[i].name, "sha256") ? none :
			       !strcmp(rows[i].name, "v")      ? "77" :
			                                         "none";
	CHECK_MSG(false, "%s: what is {%.*s}? It needs a row here", pattern, (int)n, name);
	return "none";
}

/* The URL of a pattern; its parameter number `missing` (from 0; -1: none) names a missing object. Returns the number
 * of parameters. */
static int url_of(const char *pattern, int missing, char out[300])
{
	int k = 0;
	size_t n = 0;
	for (const char *s = pattern; *s;) {
		if (*s != '{') {
			out[n++] = *s++;
			continue;
		}
		size_t len = strcspn(s + 1, "}");
		n += (size_t)snprintf(out + n, 300 - n, "%s", param(pattern, s + 1, len, k != missing));
		s += len + 2;
		k++;
	}
	out[n] = 0;
	return k;
}

/* Other systems' protocols: their clients may add parameters and members, and MLflow names objects by the query. */
static bool foreign(const struct api_route *rt)
{
	return !strncmp(rt->pattern, "/v2", 3) || !strncmp(rt->pattern, "/api/2.0/", 9);
}

/* Known parts of the inference protocol that are not offered always give 501. */
static bool offered(const struct api_route *rt)
{
	return rt->handle != api_v2_not_offered;
}

static void begin(void)
{
	setup();
	make_dataset("data", test_info);
	make_job("resnet18", job);
	run_job(job, true, ckpt);
	char body[200];
	snprintf(body, sizeof body, "{\"name\":\"live\",\"source\":{\"job\":\"%s\",\"follow\":\"latest\"}}", job);
	expect(201, "POST", "/v1/deployments", body);
	expect(201, "POST", "/v1/models", "{\"name\":\"digits\"}");
	snprintf(body, sizeof body, "{\"job\":\"%s\",\"alias\":\"champion\"}", job);
	expect(201, "POST", "/v1/models/digits/versions", body);
	snprintf(body, sizeof body, "/v1/checkpoints/%s/profiles", ckpt);
	struct answer made = send(
		"POST", "/v1/sweeps",
		"{\"template\":{\"dataset\":\"data\",\"model\":{\"arch\":\"resnet18\"}},\"space\":{\"/train/seed\":{\"values\":[1,2]}},"
		"\"search\":{\"method\":\"grid\"}}");
	CHECK_MSG(made.r.status == 201, "%d %s", made.r.status, str(&made, "detail"));
	snprintf(sweep, sizeof sweep, "%s", str(&made, "id"));
	answer_done(&made);
	expect(202, "POST", body, "{\"name\":\"light\",\"desire\":\"macs\",\"budget\":0.7}");
	struct answer a = send("POST", "/v1/webhooks", "{\"url\":\"http://127.0.0.1:9/\",\"events\":[\"jobs\"]}");
	snprintf(hook, sizeof hook, "%s", str(&a, "id"));
	answer_done(&a);
}

static void code_is(const struct answer *a, const char *method, const char *url, int status, const char *code)
{
	CHECK_MSG(a->r.status == status && !strcmp(str(a, "code"), code), "%s %s: %d %s, want %d %s (%s)", method, url,
	          a->r.status, str(a, "code"), status, code, str(a, "detail"));
}

/* ---- methods ----------------------------------------------------------------------------------------------- */

static bool has_route(const char *method, const char *pattern)
{
	for (const struct api_route *rt = api_routes; rt->method; rt++)
		if (!strcmp(rt->pattern, pattern) && !strcmp(rt->method, strcmp(method, "HEAD") ? method : "GET"))
			return true;
	return false;
}

static void other_methods(void)
{
	begin();
	for (const struct api_route *rt = api_routes; rt->method; rt++) {
		char url[300];
		url_of(rt->pattern, -1, url);
		for (size_t i = 0; i < API_LEN(methods); i++) {
			if (has_route(methods[i], rt->pattern))
				continue;
			struct answer a = send(methods[i], url, NULL);
			const char *allow = api_response_header(&a.r, "Allow");
			code_is(&a, methods[i], url, 405, "method_not_allowed");
			for (size_t k = 0; k < API_LEN(methods); k++)
				CHECK_MSG(allow && !strstr(allow, methods[k]) == !has_route(methods[k], rt->pattern), "%s: Allow: %s",
				          url, allow ? allow : "(absent)");
			answer_done(&a);
		}
	}
	teardown();
}

/* ---- what a request must not contain ----------------------------------------------------------------------- */

static void unknown_parameters(void)
{
	begin();
	for (const struct api_route *rt = api_routes; rt->method; rt++) {
		char url[300];
		if (foreign(rt))
			continue;
		url_of(rt->pattern, -1, url);
		strcat(url, "?nonsense=1");
		struct answer a = send(rt->method, url, NULL);
		code_is(&a, rt->method, url, 400, "unknown_parameter");
		CHECK_STR(at_str(&a, "errors/0/pointer"), "nonsense");
		answer_done(&a);
	}
	teardown();
}

static void unwanted_bodies(void)
{
	begin();
	for (const struct api_route *rt = api_routes; rt->method; rt++) {
		char url[300];
		if (rt->body != API_BODY_NONE)
			continue;
		url_of(rt->pattern, -1, url);
		struct answer a = send(rt->method, url, "{}");
		CHECK_MSG(a.r.status >= 400 && !strcmp(str(&a, "code"), "body_not_allowed"), "%s %s: %d %s", rt->method, url,
		          a.r.status, str(&a, "code"));
		answer_done(&a);
	}
	teardown();
}

/* A JSON body is an object with known members; unknown ones are named. */
static void unknown_members(void)
{
	static const char *const no_objects[] = {"[]", "7", "\"x\"", "{", "{\"a\":1}x", "{\"a\":1,\"a\":1}", "\xff"};
	begin();
	for (const struct api_route *rt = api_routes; rt->method; rt++) {
		char url[300];
		if (rt->body != API_BODY_JSON || foreign(rt))
			continue;
		url_of(rt->pattern, -1, url);
		struct answer a = send(rt->method, url, "{\"nonsense\":1}");
		CHECK_MSG(a.r.status >= 400 && a.r.status < 500 && strstr(a.r.body.data, "\"/nonsense\""), "%s %s: %d %s",
		          rt->method, url, a.r.status, a.r.body.data);
		answer_done(&a);
		for (size_t i = 0; i < API_LEN(no_objects); i++) {
			a = send(rt->method, url, no_objects[i]);
			CHECK_MSG(a.r.status >= 400 && a.r.status < 500, "%s %s with %s: %d", rt->method, url, no_objects[i],
			          a.r.status);
			answer_done(&a);
		}
	}
	teardown();
}

/* ---- objects -------------------------------------------------------------------------------------------------- */

/* Every object that a parameter names must exist, unless the request creates it. */
static void missing_objects(void)
{
	begin();
	for (const struct api_route *rt = api_routes; rt->method; rt++) {
		char url[300];
		int n = url_of(rt->pattern, -1, url);
		bool makes = (!strcmp(rt->method, "PUT") && rt->body == API_BODY_UPLOAD) || rt->handle == api_queues_patch;
		for (int k = 0; k < n && !makes && offered(rt); k++) {
			url_of(rt->pattern, k, url);
			struct answer a = send(rt->method, url, rt->body == API_BODY_NONE ? NULL : "{}");
			CHECK_MSG(a.r.status == 404 || (rt->body != API_BODY_NONE && a.r.status < 500 && a.r.status >= 400),
			          "%s %s: %d %s", rt->method, url, a.r.status, str(&a, "code"));
			answer_done(&a);
		}
	}
	teardown();
}

/* A GET of an existing object succeeds with a content type, and gives 304 for its own ETag. */
static void what_is_there(void)
{
	begin();
	for (const struct api_route *rt = api_routes; rt->method; rt++) {
		char url[300];
		if (strcmp(rt->method, "GET") || !offered(rt) || !strncmp(rt->pattern, "/api/2.0/", 9))
			continue;
		url_of(rt->pattern, -1, url);
		struct answer a = send("GET", url, NULL);
		CHECK_MSG((a.result == API_AGAIN || a.r.status == 200) && (a.r.content_type || !a.r.body.len), "GET %s: %d %s",
		          url, a.r.status, str(&a, "code"));
		/* free disk space changes under a busy machine: then the tag of the newer answer counts */
		bool same = !api_response_header(&a.r, "ETag") || a.r.always_whole;
		for (int tries = 0; !same && tries < 100; tries++) {
			const char *tag = api_response_header(&a.r, "ETag");
			char etag[128];
			if (!tag)
				break;
			snprintf(etag, sizeof etag, "%s", tag);
			answer_done(&a);
			a = send_with("GET", url, NULL, 0, (struct extra){.headers = {"if-none-match", etag, NULL}});
			same = a.r.status == 304;
		}
		CHECK_MSG(same, "GET %s: %d with its ETag", url, a.r.status);
		answer_done(&a);
	}
	teardown();
}

int main(void)
{
	TEST_RUN(other_methods);
	TEST_RUN(unknown_parameters);
	TEST_RUN(unwanted_bodies);
	TEST_RUN(unknown_members);
	TEST_RUN(missing_objects);
	TEST_RUN(what_is_there);
	TEST_END();
}
