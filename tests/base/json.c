/* Strict JSON: everything invalid that cJSON 1.7.15 lets through is rejected; everything valid passes and is printed
 * back exactly. */
#include "check.h"
#include "wasd/json.h"
#include <time.h>

#define T(s) s, sizeof(s) - 1

static void test_refused(void)
{
	static const struct {
		const char *text;
		size_t len;
		enum wasd_status want;
		const char *pointer, *why;
	} rows[] = {
		{T(""), WASD_EINVAL, "", "empty"},
		{T("   "), WASD_EINVAL, "", "only space"},
		{T("\xef\xbb\xbf{}"), WASD_EINVAL, "", "byte order mark"},
		{T("{} x"), WASD_EINVAL, "", "trailing garbage"},
		{T("{}{}"), WASD_EINVAL, "", "two values"},
		{T("{}\0"), WASD_EINVAL, "", "NUL after the value"},
		{T("{\"a\":1,\"a\":2}"), WASD_EINVAL, "/a", "duplicate key"},
		{T("{\"a\":1,\"b\":2,\"\\u0061\":3}"), WASD_EINVAL, "/a", "duplicate key behind an escape"},
		{T("{\"x\":{\"k/y\":1,\"z\":0,\"k\\/y\":2}}"), WASD_EINVAL, "/x/k~1y", "duplicate inside, pointer escaped"},
		{T("{\"\xc3\xa9\":1,\"\\u00e9\":2}"), WASD_EINVAL, "/\xc3\xa9", "duplicate, UTF-8 against escape"},
		{T("{\"\\ud83d\\ude00\":1,\"\xf0\x9f\x98\x80\":2}"), WASD_EINVAL, "/\xf0\x9f\x98\x80",
	     "duplicate, surrogate pair against UTF-8"},
		{T("{\"\":1,\"\":2}"), WASD_EINVAL, "/", "empty keys are keys"},
		{T("[\"ab\\u0000cd\"]"), WASD_EINVAL, "/0", "escaped NUL would cut the string"},
		{T("[\"ab\0cd\"]"), WASD_EINVAL, "/0", "raw NUL"},
		{T("[\"a\nb\"]"), WASD_EINVAL, "/0", "raw control byte"},
		{T("[\"\\ud800\"]"), WASD_EINVAL, "/0", "lone high surrogate"},
		{T("[\"\\udc00\"]"), WASD_EINVAL, "/0", "lone low surrogate"},
		{T("[\"\\ud800\\u0041\"]"), WASD_EINVAL, "/0", "high surrogate before a letter"},
		{T("[\"\\ud800\\ud800\"]"), WASD_EINVAL, "/0", "two high surrogates"},
		{T("[\"\\ud83d\\ude0"), WASD_EINVAL, "/0", "cut inside the second half"},
		{T("[\"\xff\"]"), WASD_EINVAL, "/0", "invalid UTF-8"},
		{T("[\"\xc0\x80\"]"), WASD_EINVAL, "/0", "overlong NUL"},
		{T("[\"\xe0\x80\xaf\"]"), WASD_EINVAL, "/0", "overlong slash"},
		{T("[\"\xed\xa0\x80\"]"), WASD_EINVAL, "/0", "surrogate as UTF-8"},
		{T("[\"\xf4\x90\x80\x80\"]"), WASD_EINVAL, "/0", "above U+10FFFF"},
		{T("[\"\xe2\x82"), WASD_EINVAL, "/0", "sequence cut by the end"},
		{T("[\"\\x41\"]"), WASD_EINVAL, "/0", "unknown escape"},
		{T("[\"\\u12g4\"]"), WASD_EINVAL, "/0", "bad hex digits"},
		{T("[\"\\u123"), WASD_EINVAL, "/0", "hex digits cut"},
		{T("[\"\\"), WASD_EINVAL, "/0", "escape cut"},
		{T("[\"abc"), WASD_EINVAL, "/0", "no closing quote"},
		{T("['a']"), WASD_EINVAL, "/0", "single quotes"},
		{T("01"), WASD_EINVAL, "", "leading zero"},
		{T("-01"), WASD_EINVAL, "", "leading zero after minus"},
		{T("1."), WASD_EINVAL, "", "no digits after the point"},
		{T(".5"), WASD_EINVAL, "", "no digits before the point"},
		{T("+1"), WASD_EINVAL, "", "plus sign"},
		{T("-"), WASD_EINVAL, "", "minus alone"},
		{T("1e"), WASD_EINVAL, "", "exponent without digits"},
		{T("1e+"), WASD_EINVAL, "", "signed exponent without digits"},
		{T("0x10"), WASD_EINVAL, "", "hexadecimal"},
		{T("{\"train\":{\"lr\":1e999}}"), WASD_EINVAL, "/train/lr", "infinity by overflow"},
		{T("[-1e999]"), WASD_EINVAL, "/0", "minus infinity by overflow"},
		{T("NaN"), WASD_EINVAL, "", "NaN"},
		{T("Infinity"), WASD_EINVAL, "", "Infinity"},
		{T("nul"), WASD_EINVAL, "", "cut word"},
		{T("True"), WASD_EINVAL, "", "capital"},
		{T("truefalse"), WASD_EINVAL, "", "two words"},
		{T("[0.1111111111111111111111111111111111111111111111111111111111111111]"), WASD_EINVAL, "/0",
	     "cJSON would cut the number"},
		{T("[1,]"), WASD_EINVAL, "/1", "comma at the end of an array"},
		{T("[,1]"), WASD_EINVAL, "/0", "comma at the start"},
		{T("[1 2]"), WASD_EINVAL, "/0", "no comma"},
		{T("{\"a\":1,}"), WASD_EINVAL, "", "comma at the end of an object"},
		{T("{\"a\" 1}"), WASD_EINVAL, "/a", "no colon"},
		{T("{\"a\":}"), WASD_EINVAL, "/a", "no value"},
		{T("{a:1}"), WASD_EINVAL, "", "key without quotes"},
		{T("{1:1}"), WASD_EINVAL, "", "number as key"},
		{T("{"), WASD_EINVAL, "", "open object"},
		{T("["), WASD_EINVAL, "/0", "open array"},
		{T("[[1]"), WASD_EINVAL, "/0", "open outer array"},
		{T("[1}"), WASD_EINVAL, "/0", "wrong bracket"},
		{T("{\"a\":[1,2,{\"b\":[}]}"), WASD_EINVAL, "/a/2/b/0", "deep fault has a deep pointer"},
		{T("]"), WASD_EINVAL, "", "closing only"},
		{T("// x\n{}"), WASD_EINVAL, "", "comment"},
		{T("\f{}"), WASD_EINVAL, "", "form feed is not JSON space"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct wasd_err e = {0};
		cJSON *v = NULL;
		/* a heap copy without a NUL, so that the sanitizer sees a read past the end */
		char *copy = malloc(rows[i].len + 1);
		memcpy(copy, rows[i].text, rows[i].len);
		char *exact = realloc(copy, rows[i].len ? rows[i].len : 1);
		enum wasd_status s = wasd_json_parse(exact, rows[i].len, WASD_JSON_REQUEST, &v, &e);
		CHECK_MSG(s == rows[i].want, "%s: status %s (%s)", rows[i].why, wasd_status_name(s), e.msg);
		CHECK_MSG(!strcmp(e.pointer, rows[i].pointer), "%s: pointer \"%s\"", rows[i].why, e.pointer);
		CHECK_MSG(e.msg[0] && strstr(e.msg, "byte"), "%s: message \"%s\"", rows[i].why, e.msg);
		CHECK(v == NULL);
		free(exact);
	}
}

static void test_accepted(void)
{
	static const struct {
		const char *in, *out;
	} rows[] = {
		{"{}", "{}"},
		{" [ ] ", "[]"},
		{"null", "null"},
		{"true", "true"},
		{"\"\"", "\"\""},
		{"[1,-0,0.1,1e5,1E-3,123456789012345678]", "[1,-0,0.1,100000,0.001,1.2345678901234568e+17]"},
		{"[9007199254740993,0.30000000000000004,5e-324,1.7976931348623157e308,1e-400]",
	     "[9007199254740992,0.30000000000000004,4.94065645841247e-324,1.7976931348623157e+308,0]"},
		{"{\"a\":{\"a\":1},\"b\":{\"a\":2}}", "{\"a\":{\"a\":1},\"b\":{\"a\":2}}"},
		{"{\"lr\":1,\"LR\":2}", "{\"lr\":1,\"LR\":2}"},
		{"\"\\u00e9\\ud83d\\ude00\\n\\t\\\"\\\\\\/\\u001b\"", "\"\xc3\xa9\xf0\x9f\x98\x80\\n\\t\\\"\\\\/\\u001b\""},
		{"\t{\r\n\"a\" : [ true , false ] }\n", "{\"a\":[true,false]}"},
		{"{\"name\":\"x'; DROP TABLE jobs; --$(id)\"}", "{\"name\":\"x'; DROP TABLE jobs; --$(id)\"}"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct wasd_err e = {0};
		cJSON *v = NULL;
		CHECK_MSG(wasd_json_parse(rows[i].in, strlen(rows[i].in), WASD_JSON_REQUEST, &v, &e) == WASD_OK, "%s: %s",
		          rows[i].in, e.msg);
		char *t = wasd_json_print(v);
		CHECK_STR(t, rows[i].out);
		wasd_free(t);
		cJSON_Delete(v);
	}
}

static char *repeat(const char *unit, size_t n, const char *tail, size_t *len)
{
	size_t u = strlen(unit);
	char *t = malloc(n * u + strlen(tail) + 1);
	for (size_t i = 0; i < n; i++)
		memcpy(t + i * u, unit, u);
	strcpy(t + n * u, tail);
	*len = n * u + strlen(tail);
	return t;
}

static enum wasd_status parse_len(const char *t, size_t n, struct wasd_json_limits lim, struct wasd_err *e)
{
	cJSON *v = NULL;
	enum wasd_status s = wasd_json_parse(t, n, lim, &v, e);
	cJSON_Delete(v);
	return s;
}

static void test_limits(void)
{
	struct wasd_err e;
	struct wasd_json_limits lim = {1 << 20, 32, 20000};
	size_t n;
	char *t = repeat("[", 32, "]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]", &n);
	CHECK_INT(parse_len(t, n, lim, &e), WASD_OK);
	free(t);
	t = repeat("[", 33, "]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]", &n);
	CHECK_INT(parse_len(t, n, lim, &e), WASD_ETOOBIG);
	CHECK_MSG(strstr(e.msg, "32") != NULL, "%s", e.msg);
	free(t);
	t = repeat("[", 100000, "", &n);
	CHECK_INT(parse_len(t, n, lim, &e), WASD_ETOOBIG);
	free(t);
	t = repeat("{\"a\":", 100000, "", &n);
	CHECK_INT(parse_len(t, n, lim, &e), WASD_ETOOBIG);
	CHECK(!strncmp(e.pointer, "/a/a/a", 6));
	free(t);
	t = repeat("1,", 19998, "1", &n);
	char *arr = malloc(n + 3);
	snprintf(arr, n + 3, "[%s]", t);
	CHECK_INT(parse_len(arr, n + 2, lim, &e), WASD_OK); /* 19,999 numbers and the array */
	free(arr);
	free(t);
	t = repeat(",1", 1000000, "]", &n); /* 10^6 nodes */
	t[0] = '[';
	CHECK_INT(parse_len(t, n, (struct wasd_json_limits){4 << 20, 32, 20000}, &e), WASD_ETOOBIG);
	CHECK_STR(e.pointer, "/19999");
	free(t);
	CHECK_INT(parse_len("[1,2,3]", 7, (struct wasd_json_limits){6, 32, 100}, &e), WASD_ETOOBIG);
	CHECK_INT(parse_len("[1,2,3]", 7, (struct wasd_json_limits){7, 32, 3}, &e), WASD_ETOOBIG);
	CHECK_INT(parse_len("[1,2,3]", 7, (struct wasd_json_limits){7, 1, 4}, &e), WASD_OK);
	CHECK_INT(parse_len("[]", 2, (struct wasd_json_limits){7, 0, 4}, &e), WASD_ETOOBIG);
	CHECK_INT(parse_len("7", 1, (struct wasd_json_limits){7, 0, 4}, &e), WASD_OK);
}

/* n distinct keys that all share a long prefix (the worst case for a sort), optionally the first one again at the
 * end. */
static double time_keys(int n, bool twice, enum wasd_status *st)
{
	struct wasd_buf b = {0};
	wasd_buf_puts(&b, "{");
	for (int i = 0; i < n; i++)
		wasd_buf_printf(&b, "%s\"common/prefix/of/keys/%07d\":0", i ? "," : "", (i * 7919) % n);
	if (twice)
		wasd_buf_printf(&b, ",\"common/prefix/of/keys/%07d\":0", 0);
	wasd_buf_puts(&b, "}");
	struct timespec t0, t1;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t0);
	*st = parse_len(b.data, b.len, (struct wasd_json_limits){16 << 20, 32, 1000000}, NULL);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t1);
	wasd_buf_done(&b);
	return (double)(t1.tv_sec - t0.tv_sec) + 1e-9 * (double)(t1.tv_nsec - t0.tv_nsec);
}

static void test_many_keys(void)
{
	enum wasd_status s;
	double small = 1e9, large = 1e9;
	for (int i = 0; i < 3; i++) {
		double a = time_keys(5000, false, &s), b;
		CHECK_INT(s, WASD_OK);
		b = time_keys(80000, false, &s);
		CHECK_INT(s, WASD_OK);
		if (a < small)
			small = a;
		if (b < large)
			large = b;
	}
	/* 16 times the keys: about 16 * log ratio = 21 times the work; a quadratic check would be 256 times. */
	CHECK_MSG(large < 80 * small, "5,000 keys %.1f ms, 80,000 keys %.1f ms", small * 1e3, large * 1e3);
	time_keys(20000, true, &s);
	CHECK_INT(s, WASD_EINVAL);
}

static void test_numbers_exact(void)
{
	uint64_t x = 88172645463325252u;
	for (int i = 0; i < 20000; i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		double d, back = 0;
		memcpy(&d, &x, 8);
		if (!isfinite(d))
			continue;
		cJSON *o = cJSON_CreateObject();
		cJSON_AddNumberToObject(o, "v", d);
		char *t = wasd_json_print(o);
		cJSON *p = NULL;
		CHECK_INT(wasd_json_parse(t, strlen(t), WASD_JSON_REQUEST, &p, NULL), WASD_OK);
		CHECK(wasd_json_num(p, "v", &back));
		CHECK_MSG(!memcmp(&back, &d, 8), "%s", t);
		wasd_free(t);
		cJSON_Delete(o);
		cJSON_Delete(p);
	}
}

/* Random damage to good texts: whatever is accepted prints to a text that is accepted and prints the same. */
static void test_random_damage(void)
{
	static const char *const seeds[] = {
		"{\"model\":{\"arch\":\"resnet18\"},\"train\":{\"lr\":0.01,\"epochs\":10,\"batch\":128},\"was\":false,\"labels\":{}}",
		"[1,-2.5e-3,\"\\u00e9\\ud83d\\ude00 x\",true,false,null,[[[]]],{\"a\":{\"b\":[0]}}]",
		"{\"\\\\\":\"\\\"\",\"k\":[1e5,0,-0]}",
	};
	static const char bytes[] = "{}[]\",:\\u0123eE+-.tfn \n\0\xc3\xa9\xff";
	unsigned x = 12345;
	int accepted = 0, refused = 0;
	for (int i = 0; i < 60000; i++) {
		char t[200];
		size_t n = strlen(seeds[i % 3]);
		memcpy(t, seeds[i % 3], n);
		for (int k = 0; k <= i % 4; k++) {
			x ^= x << 13, x ^= x >> 17, x ^= x << 5;
			size_t at = x % n, how = x >> 10 & 3;
			if (how == 0)
				memmove(t + at, t + at + 1, --n - at);
			else if (how == 1 && n < 190)
				memmove(t + at + 1, t + at, n++ - at);
			else
				t[at] = bytes[(x >> 13) % (sizeof bytes - 1)];
		}
		cJSON *v = NULL, *w = NULL;
		struct wasd_err e;
		if (wasd_json_parse(t, n, WASD_JSON_REQUEST, &v, &e)) {
			refused++;
			continue;
		}
		accepted++;
		char *a = wasd_json_print(v);
		CHECK_MSG(wasd_json_parse(a, strlen(a), WASD_JSON_REQUEST, &w, &e) == WASD_OK, "%s: %s", a, e.msg);
		char *b = wasd_json_print(w);
		CHECK_STR(b, a);
		wasd_free(a);
		wasd_free(b);
		cJSON_Delete(v);
		cJSON_Delete(w);
	}
	CHECK_MSG(accepted > 500 && refused > 5000, "%d accepted, %d refused", accepted, refused);
}

static void test_lookups(void)
{
	const char *t = "{\"i\":3,\"big\":9007199254740993,\"f\":1.5,\"s\":\"x\",\"b\":false,\"n\":null,\"neg\":-7}";
	cJSON *v = NULL;
	const char *s = NULL;
	int64_t i = -1;
	double d = -1;
	bool b = true;
	CHECK_INT(wasd_json_parse(t, strlen(t), WASD_JSON_REQUEST, &v, NULL), WASD_OK);
	CHECK(wasd_json_i64(v, "i", &i) && i == 3);
	CHECK(wasd_json_i64(v, "neg", &i) && i == -7);
	CHECK(!wasd_json_i64(v, "f", &i) && !wasd_json_i64(v, "s", &i) && !wasd_json_i64(v, "I", &i) &&
	      !wasd_json_i64(v, "n", &i));
	CHECK(wasd_json_num(v, "f", &d) && d == 1.5);
	CHECK(!wasd_json_num(v, "s", &d) && !wasd_json_num(v, "b", &d));
	CHECK(wasd_json_str(v, "s", &s) && !strcmp(s, "x"));
	CHECK(!wasd_json_str(v, "i", &s) && !wasd_json_str(v, "S", &s));
	CHECK(wasd_json_bool(v, "b", &b) && !b);
	CHECK(!wasd_json_bool(v, "i", &b));
	CHECK(wasd_json_get(v, "absent") == NULL && wasd_json_get(NULL, "x") == NULL);
	cJSON_Delete(v);

	const double reals[] = {0.25, NAN, INFINITY, -INFINITY};
	for (int k = 0; k < 4; k++) {
		cJSON *o = cJSON_CreateObject(), *p = NULL;
		CHECK(wasd_json_add_real(o, "loss", reals[k]));
		char *text = wasd_json_print(o);
		CHECK_INT(wasd_json_parse(text, strlen(text), WASD_JSON_REQUEST, &p, NULL), WASD_OK);
		CHECK(wasd_json_real(p, "loss", &d));
		CHECK(isnan(reals[k]) ? isnan(d) : d == reals[k]);
		wasd_free(text);
		cJSON_Delete(o);
		cJSON_Delete(p);
	}
}

static void test_print_repairs(void)
{
	cJSON *v = cJSON_CreateArray();
	cJSON_AddItemToArray(v, cJSON_CreateString("a\xff"
	                                           "b"));
	cJSON_AddItemToArray(v, cJSON_CreateNumber(NAN));
	cJSON_AddItemToArray(v, cJSON_CreateNumber(INFINITY));
	cJSON_AddItemToArray(v, cJSON_CreateRaw("{\"x\":1}"));
	char *t = wasd_json_print(v);
	CHECK_STR(t, "[\"a\\ufffdb\",null,null,{\"x\":1}]");
	wasd_free(t);
	cJSON_Delete(v);
	CHECK(wasd_json_print(NULL) == NULL);
}

static void test_no_memory(void)
{
	const char *t = "{\"a\":[1,2,{\"b\":\"x\"}],\"c\":{\"d\":null},\"e\":\"y\"}";
	int failures = 0;
	for (uint64_t nth = 1;; nth++) {
		struct wasd_mem_stats before = wasd_mem_stats();
		struct wasd_err e = {0};
		cJSON *v = NULL;
		wasd_mem_fail_at(nth);
		enum wasd_status s = wasd_json_parse(t, strlen(t), WASD_JSON_REQUEST, &v, &e);
		char *text = s ? NULL : wasd_json_print(v);
		wasd_mem_fail_at(0);
		bool done = text != NULL;
		if (s)
			CHECK_INT(s, WASD_ENOMEM);
		wasd_free(text);
		cJSON_Delete(v);
		struct wasd_mem_stats after = wasd_mem_stats();
		CHECK_INT(after.allocs - before.allocs, after.frees - before.frees);
		if (done)
			break;
		failures++;
		if (nth > 1000) {
			CHECK(!"never succeeds");
			break;
		}
	}
	CHECK_MSG(failures > 15, "%d", failures); /* cJSON's own memory is counted, so there are many */
}

static void test_building(void)
{
	cJSON *o = cJSON_CreateObject(), *list = cJSON_CreateArray();
	CHECK(wasd_json_put(o, "a", cJSON_CreateNumber(1)) && wasd_json_put(o, "A", cJSON_CreateNumber(2)));
	CHECK(wasd_json_put(o, "a", cJSON_CreateNumber(3)) && wasd_json_push(list, cJSON_CreateNumber(4)));
	CHECK(wasd_json_push(list, cJSON_CreateNull()) && wasd_json_put(o, "list", list));
	char *text = wasd_json_print(o);
	CHECK_STR(text, "{\"A\":2,\"a\":3,\"list\":[4,null]}");
	wasd_free(text);
	CHECK(!wasd_json_put(o, "b", NULL) && !wasd_json_put(NULL, "b", cJSON_CreateNull()));
	CHECK(!wasd_json_push(list, NULL) && !wasd_json_push(NULL, cJSON_CreateNull()));
	CHECK(!wasd_json_get(o, "b"));
	CHECK_INT(cJSON_GetArraySize(list), 2);
	/* A member needs a copy of its key. */
	cJSON *v = cJSON_CreateNull();
	wasd_mem_fail_at(1);
	CHECK(!wasd_json_put(o, "c", v));
	wasd_mem_fail_at(0);
	cJSON_Delete(o);
}

int main(void)
{
	TEST_RUN(test_refused);
	TEST_RUN(test_accepted);
	TEST_RUN(test_limits);
	TEST_RUN(test_many_keys);
	TEST_RUN(test_numbers_exact);
	TEST_RUN(test_random_damage);
	TEST_RUN(test_lookups);
	TEST_RUN(test_print_repairs);
	TEST_RUN(test_building);
	TEST_RUN(test_no_memory);
	TEST_END();
}
