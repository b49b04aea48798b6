/* tests/api/parsers.c - multipart, base64, times, entity tags, tensors, routes: the small parsers of the API. */
#include "harness.h"

/* ---- multipart ---- */

#define FORM(name) "Content-Disposition: form-data; name=\"" name "\"\r\n\r\n"

static const struct {
	const char *why, *type, *body;
	int parts; /* -1 = refused */
	const char *message;
} forms[] = {
	{"one part", "multipart/form-data; boundary=B", "--B\r\n" FORM("a") "one\r\n--B--\r\n", 1, NULL},
	{"without the last line end", "multipart/form-data; boundary=B", "--B\r\n" FORM("a") "one\r\n--B--", 1, NULL},
	{"two parts, quoted boundary", "multipart/form-data; boundary=\"B c\"",
     "--B c\r\n" FORM("a") "one\r\n--B c\r\n" FORM("b") "\r\n--B c--", 2, NULL},
	{"data may hold what looks like a boundary", "multipart/form-data; boundary=B",
     "--B\r\n" FORM("a") "--B\r\n-B\n--B\r\n--B--", 1, NULL},
	{"data may hold bare line ends", "multipart/form-data; boundary=B", "--B\r\n" FORM("a") "x\n--B\ny\r\n--B--", 1,
     NULL},
	{"empty form", "multipart/form-data; boundary=B", "--B--", 0, NULL},
	{"no boundary", "multipart/form-data", "--B--", -1, "no boundary"},
	{"empty boundary", "multipart/form-data; boundary=", "--", -1, "no boundary"},
	{"boundary of 71 bytes",
     "multipart/form-data; boundary=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "--", -1,
     "70 bytes"},
	{"forbidden byte in the boundary", "multipart/form-data; boundary=\"a;b\"", "--a;b--", -1, "RFC 2046"},
	{"another boundary", "multipart/form-data; boundary=B", "--C\r\n" FORM("a") "one\r\n--C--", -1,
     "does not begin with the boundary"},
	{"text in front", "multipart/form-data; boundary=B", "hello\r\n--B\r\n" FORM("a") "one\r\n--B--", -1,
     "does not begin"},
	{"no closing line", "multipart/form-data; boundary=B", "--B\r\n" FORM("a") "one", -1,
     "part 0: no boundary after its data"},
	{"cut in the headers", "multipart/form-data; boundary=B", "--B\r\nContent-Disposition: form-da", -1,
     "part 0: its headers do not end"},
	{"no Content-Disposition", "multipart/form-data; boundary=B", "--B\r\nContent-Type: image/png\r\n\r\none\r\n--B--",
     -1, "part 0: no Content-Disposition"},
	{"not form-data", "multipart/form-data; boundary=B",
     "--B\r\nContent-Disposition: attachment; name=\"a\"\r\n\r\none\r\n--B--", -1, "part 0: no Content-Disposition"},
	{"header without colon", "multipart/form-data; boundary=B", "--B\r\nhello\r\n\r\none\r\n--B--", -1,
     "without a colon"},
	{"too many header lines", "multipart/form-data; boundary=B",
     "--B\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\n" FORM("a") "one\r\n--B--", -1, "8 lines"},
	{"transfer encoding", "multipart/form-data; boundary=B",
     "--B\r\nContent-Transfer-Encoding: base64\r\n" FORM("a") "one\r\n--B--", -1, "Content-Transfer-Encoding"},
	{"bytes after the end", "multipart/form-data; boundary=B", "--B--\r\nmore", -1, "bytes after the closing boundary"},
	{"second part broken", "multipart/form-data; boundary=B", "--B\r\n" FORM("a") "one\r\n--B\r\nx\r\n\r\n\r\n--B--",
     -1, "part 1"},
	{"unterminated quote", "multipart/form-data; boundary=B",
     "--B\r\nContent-Disposition: form-data; name=\"a\r\n\r\none\r\n--B--", -1, "part 0"},
};

static void multipart(void)
{
	for (size_t i = 0; i < API_LEN(forms); i++) {
		/* In a block of exactly its length, so that the sanitizer sees a read past the end. */
		size_t n = strlen(forms[i].body);
		char *body = wasd_malloc(n ? n : 1);
		memcpy(body, forms[i].body, n);
		struct multipart m = {0};
		struct wasd_err err = {0};
		enum wasd_status st = multipart_parse(forms[i].type, body, n, &m, &err);
		if (forms[i].parts >= 0)
			CHECK_MSG(!st && (int)m.n == forms[i].parts, "%s: %s, %zu parts", forms[i].why, err.msg, m.n);
		else
			CHECK_MSG(st == WASD_EINVAL && strstr(err.msg, forms[i].message), "%s: status %d, \"%s\"", forms[i].why, st,
			          err.msg);
		multipart_done(&m);
		wasd_free(body);
	}
	static const char two[] =
		"--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\\\"b.png\"\r\nContent-Type: image/png\r\n\r\n\0\1\r\n\r\n--B\r\n" FORM(
			"n") "x\r\n--B--";
	struct multipart m;
	CHECK(!multipart_parse("multipart/form-data; charset=x; Boundary=B", two, sizeof two - 1, &m, NULL));
	CHECK_INT(m.n, 2);
	CHECK_STR(m.part[0].name, "file");
	CHECK_STR(m.part[0].filename, "a\"b.png");
	CHECK_STR(m.part[0].type, "image/png");
	CHECK_INT(m.part[0].len, 4);
	CHECK(!memcmp(m.part[0].data, "\0\1\r\n", 4));
	CHECK_STR(m.part[1].filename, "");
	multipart_done(&m);
}

/* A body cut short at any place is refused, without a read past its end. */
static void multipart_cut(void)
{
	static const char whole[] =
		"--BB\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x\"\r\n\r\ndata\r\n--BB\r\n" FORM(
			"b") "\r\n--BB--";
	for (size_t n = 0; n < sizeof whole - 1; n++) {
		char *body = wasd_malloc(n ? n : 1);
		memcpy(body, whole, n);
		struct multipart m;
		enum wasd_status st = multipart_parse("multipart/form-data; boundary=BB", body, n, &m, NULL);
		CHECK_MSG(st == WASD_EINVAL, "%zu of %zu bytes: status %d", n, sizeof whole - 1, st);
		if (!st)
			multipart_done(&m);
		wasd_free(body);
	}
	struct wasd_buf b = {0};
	for (int i = 0; i < MULTIPART_PARTS + 1; i++)
		wasd_buf_puts(&b, "--B\r\n" FORM("a") "\r\n");
	wasd_buf_puts(&b, "--B--");
	struct multipart m;
	struct wasd_err err = {0};
	CHECK_INT(multipart_parse("multipart/form-data; boundary=B", b.data, b.len, &m, &err), WASD_ETOOBIG);
	wasd_buf_done(&b);
}

/* ---- base64 (the vectors of RFC 4648, section 10) ---- */

static void base64(void)
{
	static const struct {
		const char *in, *out;
	} rows[] = {
		{"", ""},
		{"Zg==", "f"},
		{"Zm8=", "fo"},
		{"Zm9v", "foo"},
		{"Zm9vYg==", "foob"},
		{"Zm9vYmE=", "fooba"},
		{"Zm9vYmFy", "foobar"},
		{"+/+/", "\xfb\xff\xbf"},
		{"Zg", "f"},
		{"Zm8", "fo"},
		{"Zm9vYg", "foob"},
		{"Zm9v\n", "foo"},
		{" Zm9v", "foo"},
		{"Zm9v\r\nYm\tFy\n", "foobar"},
		{"Zg=\n=", "f"},
		{"-_-_", "\xfb\xff\xbf"},
		{"data:image/png;base64,Zm9v", "foo"},
		{"DATA:;base64,Zg", "f"},
		{" data:image/svg+xml;charset=utf-8;base64, Zm9v\n", "foo"},
		{"Zg=", NULL},
		{"Z", NULL},
		{"Zg==Zg==", NULL},
		{"Zh==", NULL},
		{"Zh", NULL},
		{"Zm9=", NULL},
		{"Zm9v=", NULL},
		{"Zm9v====", NULL},
		{"====", NULL},
		{"=g==", NULL},
		{"Z===", NULL},
		{"Zm9v.", NULL},
		{"data:image/png,Zm9v", NULL},
		{"data:image/png;base64", NULL},
		{"data:image/png;base64,%%%", NULL},
		{"data:", NULL},
	};
	for (size_t i = 0; i < API_LEN(rows); i++) {
		struct wasd_buf b = {0};
		bool ok = base64_or_uri(rows[i].in, strlen(rows[i].in), &b);
		CHECK_MSG(ok == (rows[i].out != NULL) &&
		              (!ok || (b.len == strlen(rows[i].out) && !memcmp(b.data ? b.data : "", rows[i].out, b.len))),
		          "\"%s\"", rows[i].in);
		wasd_buf_done(&b);
	}
}

/* ---- times, tags, headers ---- */

static void times(void)
{
	static const struct {
		const char *s;
		long long ms; /* -1 = refused */
	} rows[] = {
		{"1970-01-01T00:00:00Z", 0},
		{"2026-11-24T08:49:23.123Z", 1795510163123},
		{"2026-11-24T09:49:23.123+01:00", 1795510163123},
		{"2024-02-29T00:00:00z", 1709164800000},
		{"2000-01-01t00:00:00.5Z", 946684800500},
		{"1969-12-31T23:59:59Z", -1000},
		{"2026-11-24", -1},
		{"2026-11-24T08:49:23", -1},
		{"2026-13-01T00:00:00Z", -1},
		{"2026-02-30T00:00:00Z", -1},
		{"2026-01-01T24:00:00Z", -1},
		{"2026-01-01T00:60:00Z", -1},
		{"2026-01-01T00:00:00.Z", -1},
		{"2026-01-01T00:00:00+1:00", -1},
		{"2026-01-01T00:00:00Zx", -1},
		{"", -1},
		{"now", -1},
	};
	for (size_t i = 0; i < API_LEN(rows); i++) {
		int64_t ms = -1;
		bool ok = wasd_rfc3339_parse(rows[i].s, &ms);
		CHECK_MSG(ok == (rows[i].ms != -1) && (!ok || ms == rows[i].ms), "\"%s\": %d, %lld", rows[i].s, ok,
		          (long long)ms);
	}
	char text[WASD_RFC3339_LEN];
	for (int64_t ms = -100000000000; ms < 4000000000000; ms += 98765432101) { /* the printer and the parser agree */
		int64_t back = 1;
		wasd_rfc3339(ms, text);
		CHECK_MSG(wasd_rfc3339_parse(text, &back) && back == ms, "%s", text);
	}
}

static void etags(void)
{
	static const struct {
		const char *list, *etag;
		bool plain, revision;
	} rows[] = {
		{"*", "\"a\"", true, true},
		{"\"a\"", "\"a\"", true, true},
		{"\"a\", \"b\"", "\"b\"", true, true},
		{"\"b\"", "\"a\"", false, false},
		{"W/\"a\"", "\"a\"", true, false},
		{"\"3.aa\"", "\"3.bb\"", false, true},
		{"\"3.bb\"", "\"3.bb\"", true, true},
		{"\"33.bb\"", "\"3.bb\"", false, false},
		{"a", "\"a\"", false, false},
		{"\"a", "\"a\"", false, false},
		{"", "\"a\"", false, false},
		{"\"a,b\"", "\"a,b\"", true, true},
		{",,\"a\"", "\"a\"", true, true},
	};
	for (size_t i = 0; i < API_LEN(rows); i++) {
		CHECK_MSG(api_etag_listed(rows[i].list, rows[i].etag, false) == rows[i].plain, "%s against %s", rows[i].list,
		          rows[i].etag);
		CHECK_MSG(api_etag_listed(rows[i].list, rows[i].etag, true) == rows[i].revision,
		          "%s against the revision of %s", rows[i].list, rows[i].etag);
	}
}

/* ---- routes ---- */

static void routes(void)
{
	static const struct {
		const char *method, *path, *pattern, *name, *value, *allow;
	} rows[] = {
		{"GET", "/v1/jobs", "/v1/jobs", NULL, NULL, ""},
		{"HEAD", "/v1/jobs", "/v1/jobs", NULL, NULL, ""},
		{"GET", "/v1/jobs/", "/v1/jobs", NULL, NULL, ""},
		{"GET", "/v1/jobs/job_1", "/v1/jobs/{id}", "id", "job_1", ""},
		{"POST", "/v1/jobs/job_1:cancel", "/v1/jobs/{id}:cancel", "id", "job_1", ""},
		{"POST", "/v1/jobs/job_1/cancel", "/v1/jobs/{id}:cancel", "id", "job_1", ""},
		{"GET", "/v1/jobs/job_1:cancel", NULL, NULL, NULL, "POST"},
		{"PUT", "/v1/jobs/job_1", NULL, NULL, NULL, "GET, HEAD, PATCH, DELETE"},
		{"GET", "/v1/jobsx", NULL, NULL, NULL, ""},
		{"GET", "/v1/jobs/a/b/c", NULL, NULL, NULL, ""},
		{"POST", "/v1/deployments/d/mode:rollback", "/v1/deployments/{d}/mode:rollback", "d", "d", ""},
		{"POST", "/v1/deployments/d/mode/rollback", "/v1/deployments/{d}/mode:rollback", "d", "d", ""},
		{"GET", "/v2", "/v2", NULL, NULL, ""},
		{"GET", "/v2/", "/v2", NULL, NULL, ""},
		{"POST", "/v2/models/live@dom/infer", "/v2/models/{m}/infer", "m", "live@dom", ""},
		{"POST", "/v2/models/live/versions/3-dom/infer", "/v2/models/{m}/versions/{v}/infer", "v", "3-dom", ""},
		{"GET", "/v2/health/live", "/v2/health/live", NULL, NULL, ""},
		{"DELETE", "/", NULL, NULL, NULL, ""},
		{"GET", "", NULL, NULL, NULL, ""},
		{"BREW", "/v1/jobs", NULL, NULL, NULL, "POST, GET, HEAD"},
	};
	char allow[64], value[128];
	for (size_t i = 0; i < API_LEN(rows); i++) {
		const struct api_route *rt = api_route_find(rows[i].method, rows[i].path, allow);
		CHECK_MSG((!rt && !rows[i].pattern) || (rt && rows[i].pattern && !strcmp(rt->pattern, rows[i].pattern)),
		          "%s %s: %s", rows[i].method, rows[i].path, rt ? rt->pattern : "none");
		if (!rt)
			CHECK_STR(allow, rows[i].allow);
		if (!rt || !rows[i].name)
			continue;
		CHECK(api_path_param(rt, rows[i].path, rows[i].name, value));
		CHECK_STR(value, rows[i].value);
		CHECK(!api_path_param(rt, rows[i].path, "nothing", value));
	}
	char longest[200];
	memset(longest, 'a', sizeof longest);
	memcpy(longest, "/v1/jobs/", 9);
	longest[9 + 127] = 0;
	CHECK(api_route_find("GET", longest, allow) != NULL);
	longest[9 + 127] = 'a', longest[9 + 128] = 0;
	CHECK(api_route_find("GET", longest, allow) == NULL);
	/* No two routes match the same request, and every row is complete. */
	for (const struct api_route *a = api_routes; a->method; a++) {
		CHECK_MSG(a->handle && a->summary && strlen(a->summary) > 5, "%s", a->pattern);
		for (const struct api_route *b = api_routes; b < a; b++)
			CHECK_MSG(strcmp(a->method, b->method) || strcmp(a->pattern, b->pattern), "%s %s twice", a->method,
			          a->pattern);
	}
}

int main(void)
{
	TEST_RUN(multipart);
	TEST_RUN(multipart_cut);
	TEST_RUN(base64);
	TEST_RUN(times);
	TEST_RUN(etags);
	TEST_RUN(routes);
	TEST_END();
}
