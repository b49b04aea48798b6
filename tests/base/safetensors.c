/* safetensors: round trips, and a reader that trusts nothing. */
#include "check.h"
#include "wasd/safetensors.h"

static char *build(size_t *size)
{
	static const float w[6] = {1, 2, 3, 4, 5, 6};
	static const double d[2] = {0.5, -0.25};
	static const int64_t step[1] = {42};
	static const unsigned char raw[3] = {7, 8, 9};
	struct wasd_st_writer *wr = wasd_st_writer_create();
	struct wasd_err e;
	wasd_st_writer_meta(wr, "format", "wasd");
	wasd_st_writer_meta(wr, "spec", "{\"a\":\"\\n\"}");
	wasd_st_writer_add(wr, "conv1.weight", WASD_F32, 2, (size_t[]){2, 3}, w);
	wasd_st_writer_add(wr, "d", WASD_F64, 1, (size_t[]){2}, d);
	wasd_st_writer_add(wr, "step", WASD_I64, 0, NULL, step);
	wasd_st_writer_add(wr, "empty", WASD_F32, 2, (size_t[]){0, 5}, NULL);
	wasd_st_writer_add(wr, "rng \xc3\xa9\"", WASD_U8, 1, (size_t[]){3}, raw);
	CHECK_INT(wasd_st_writer_size(wr, size, &e), WASD_OK);
	char *out = malloc(*size);
	CHECK_INT(wasd_st_writer_write(wr, out, *size - 1, &e), WASD_EINVAL);
	CHECK_INT(wasd_st_writer_write(wr, out, *size, &e), WASD_OK);
	wasd_st_writer_destroy(wr);
	return out;
}

static void test_round_trip(void)
{
	size_t n;
	char *f = build(&n);
	struct wasd_st *s = NULL;
	struct wasd_err e = {0};
	CHECK_MSG(wasd_st_open(f, n, &s, &e) == WASD_OK, "%s", e.msg);
	CHECK_INT(wasd_st_count(s), 5);
	CHECK_STR(wasd_st_meta(s, "format"), "wasd");
	CHECK_STR(wasd_st_meta(s, "spec"), "{\"a\":\"\\n\"}");
	CHECK(wasd_st_meta(s, "none") == NULL);
	const struct wasd_st_tensor *t = wasd_st_find(s, "conv1.weight");
	CHECK(t && t->dtype == WASD_F32 && t->ndims == 2 && t->dims[0] == 2 && t->dims[1] == 3 && t->count == 6);
	float w[6];
	memcpy(w, t->data, sizeof w);
	CHECK(w[0] == 1 && w[5] == 6);
	CHECK_INT(((const char *)t->data - f) % 8, 0);
	t = wasd_st_find(s, "step");
	int64_t step;
	memcpy(&step, t->data, 8);
	CHECK(t->ndims == 0 && t->count == 1 && step == 42);
	t = wasd_st_find(s, "empty");
	CHECK(t && t->count == 0);
	t = wasd_st_find(s, "rng \xc3\xa9\"");
	CHECK(t && t->count == 3 && ((const char *)t->data)[2] == 9);
	CHECK(wasd_st_find(s, "conv1") == NULL && wasd_st_find(s, "__metadata__") == NULL);
	CHECK(wasd_st_at(s, 5) == NULL && wasd_st_at(s, 0) != NULL);
	wasd_st_close(s);
	wasd_st_close(NULL);
	free(f);
}

static void test_every_truncation(void)
{
	size_t n;
	char *f = build(&n);
	for (size_t cut = 0; cut < n; cut++) {
		char *exact = malloc(cut ? cut : 1);
		memcpy(exact, f, cut);
		struct wasd_st *s = NULL;
		CHECK_MSG(wasd_st_open(exact, cut, &s, NULL) == WASD_ECORRUPT && !s, "cut at %zu", cut);
		free(exact);
	}
	char *longer = malloc(n + 1);
	memcpy(longer, f, n);
	longer[n] = 0;
	struct wasd_st *s = NULL;
	CHECK_INT(wasd_st_open(longer, n + 1, &s, NULL), WASD_ECORRUPT);
	free(longer);
	free(f);
}

/* One- and two-byte changes: opening succeeds or fails, and all returned data lie inside the file. */
static void test_flips(void)
{
	size_t n;
	char *f = build(&n);
	char *g = malloc(n);
	for (size_t at = 0; at < n; at++)
		for (int x = 1; x < 256; x += 37) {
			memcpy(g, f, n);
			g[at] ^= (char)x;
			if (x & 2)
				g[(at * 7 + 13) % n] ^= (char)(x >> 1);
			struct wasd_st *s = NULL;
			if (wasd_st_open(g, n, &s, NULL))
				continue;
			for (size_t i = 0; i < wasd_st_count(s); i++) {
				const struct wasd_st_tensor *t = wasd_st_at(s, i);
				const char *p = t->data;
				CHECK(p >= g + 8 && p + t->count * wasd_dtype_size(t->dtype) <= g + n);
			}
			wasd_st_close(s);
		}
	free(g);
	free(f);
}

static enum wasd_status open_text(const char *header, uint64_t claim, size_t data, struct wasd_err *e)
{
	size_t h = strlen(header), n = 8 + h + data;
	unsigned char *f = calloc(1, n);
	if (!claim)
		claim = h;
	for (int i = 0; i < 8; i++)
		f[i] = (unsigned char)(claim >> (8 * i));
	memcpy(f + 8, header, h);
	struct wasd_st *s = NULL;
	enum wasd_status st = wasd_st_open(f, n, &s, e);
	wasd_st_close(s);
	free(f);
	return st;
}

static void test_lies(void)
{
	static const struct {
		const char *header;
		uint64_t claim;
		size_t data;
		enum wasd_status want;
		const char *why;
	} rows[] = {
		{"{}", 0, 0, WASD_OK, "nothing at all is fine"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}   ", 0, 8, WASD_OK, "any padding"},
		{"{\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
	     0, 8, WASD_OK, "header order is free"},
		{"{}", UINT64_MAX, 0, WASD_ECORRUPT, "header length 2^64-1"},
		{"{}", 100, 0, WASD_ECORRUPT, "header longer than the file"},
		{"{}", 1, 0, WASD_ECORRUPT, "header cut"},
		{" {}", 0, 0, WASD_ECORRUPT, "does not start with a brace"},
		{"[]", 0, 0, WASD_ECORRUPT, "an array"},
		{"{\"a\":1}", 0, 0, WASD_ECORRUPT, "tensor is a number"},
		{"{\"a\":{}}", 0, 0, WASD_ECORRUPT, "no members"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"x\":1}}", 0, 8, WASD_ECORRUPT,
	     "a member too many"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}",
	     0, 16, WASD_ECORRUPT, "a name twice"},
		{"{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[4],\"data_offsets\":[0,4]}}", 0, 4, WASD_EUNSUPPORTED,
	     "a type that we do not read"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 0, 4, WASD_EUNSUPPORTED,
	     "nine dimensions"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 0, 8, WASD_ECORRUPT,
	     "negative dimension"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[2.5],\"data_offsets\":[0,10]}}", 0, 10, WASD_ECORRUPT, "half a row"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[\"2\"],\"data_offsets\":[0,8]}}", 0, 8, WASD_ECORRUPT,
	     "dimension as text"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 0, 8, WASD_ECORRUPT,
	     "shape larger than its bytes"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]}}", 0, 8, WASD_ECORRUPT,
	     "shape smaller than its bytes"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0, 0, WASD_ECORRUPT,
	     "product is 2^64"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387905],\"data_offsets\":[0,4]}}", 0, 4, WASD_ECORRUPT,
	     "bytes overflow to 4"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,16]}}", 0, 8, WASD_ECORRUPT, "ends outside"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 0, 8, WASD_ECORRUPT,
	     "ends before it begins"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[9007199254740992,9007199254741000]}}", 0, 8,
	     WASD_ECORRUPT, "far outside"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", 0, 8, WASD_ECORRUPT, "one offset"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,8]}}", 0, 8, WASD_ECORRUPT, "three offsets"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}",
	     0, 12, WASD_ECORRUPT, "overlap"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
	     0, 8, WASD_ECORRUPT, "the same bytes twice"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 0, 12, WASD_ECORRUPT, "gap in front"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}",
	     0, 12, WASD_ECORRUPT, "gap between"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 0, 9, WASD_ECORRUPT,
	     "bytes behind the last"},
		{"{\"__metadata__\":[]}", 0, 0, WASD_ECORRUPT, "metadata is an array"},
		{"{\"__metadata__\":{\"a\":1}}", 0, 0, WASD_ECORRUPT, "metadata value is a number"},
		{"{\"a\\u0000b\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", 0, 4, WASD_ECORRUPT,
	     "NUL in a name"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct wasd_err e = {0};
		enum wasd_status s = open_text(rows[i].header, rows[i].claim, rows[i].data, &e);
		CHECK_MSG(s == rows[i].want, "%s: %s (%s)", rows[i].why, wasd_status_name(s), e.msg);
		if (s)
			CHECK_MSG(e.status == s && e.msg[0], "%s", rows[i].why);
	}
}

static void test_writer_refusals(void)
{
	struct wasd_err e;
	size_t n;
	static const size_t huge[2] = {SIZE_MAX / 2, 3}, one[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
	static const float x[1] = {1};
	struct wasd_st_writer *w = wasd_st_writer_create();
	wasd_st_writer_add(w, "huge", WASD_F32, 2, huge, x);
	wasd_st_writer_add(w, "fine", WASD_F32, 1, one, x);
	CHECK_INT(wasd_st_writer_size(w, &n, &e), WASD_ETOOBIG);
	CHECK_STR(e.pointer, "huge");
	wasd_st_writer_destroy(w);
	w = wasd_st_writer_create();
	wasd_st_writer_add(w, "nine", WASD_F32, 9, one, x);
	CHECK_INT(wasd_st_writer_size(w, &n, &e), WASD_EINVAL);
	wasd_st_writer_destroy(w);
	w = wasd_st_writer_create();
	wasd_st_writer_add(w, "b", WASD_F32, 1, one, x);
	wasd_st_writer_add(w, "a", WASD_F32, 1, one, x);
	wasd_st_writer_add(w, "b", WASD_F32, 1, one, x);
	CHECK_INT(wasd_st_writer_size(w, &n, &e), WASD_EINVAL);
	CHECK_STR(e.pointer, "b");
	wasd_st_writer_destroy(w);
	wasd_st_writer_destroy(NULL);
}

static void test_many_tensors(void)
{
	enum { N = 3000 };
	struct wasd_st_writer *w = wasd_st_writer_create();
	static float v[N];
	for (int i = 0; i < N; i++) {
		char name[32];
		v[i] = (float)i;
		snprintf(name, sizeof name, "t%d", i * 7919 % N);
		wasd_st_writer_add(w, name, WASD_F32, 1, (size_t[]){1}, &v[i]);
	}
	size_t n = 0;
	CHECK_INT(wasd_st_writer_size(w, &n, NULL), WASD_OK);
	char *f = malloc(n);
	CHECK_INT(wasd_st_writer_write(w, f, n, NULL), WASD_OK);
	wasd_st_writer_destroy(w);
	struct wasd_st *s = NULL;
	CHECK_INT(wasd_st_open(f, n, &s, NULL), WASD_OK);
	CHECK_INT(wasd_st_count(s), N);
	for (int i = 0; i < N; i++) {
		char name[32];
		float got;
		snprintf(name, sizeof name, "t%d", i * 7919 % N);
		const struct wasd_st_tensor *t = wasd_st_find(s, name);
		CHECK(t != NULL);
		memcpy(&got, t->data, 4);
		CHECK(got == v[i] && wasd_st_at(s, (size_t)i) == t); /* order of the data = order of addition */
	}
	wasd_st_close(s);
	free(f);
}

static void test_no_memory(void)
{
	bool wrote = false, opened = false;
	size_t n;
	char *f = build(&n);
	for (uint64_t nth = 1; nth < 300 && !(wrote && opened); nth++) {
		struct wasd_mem_stats before = wasd_mem_stats();
		struct wasd_st *s = NULL;
		wasd_mem_fail_at(nth);
		enum wasd_status st = wasd_st_open(f, n, &s, NULL);
		wasd_mem_fail_at(0);
		CHECK(st == WASD_OK || st == WASD_ENOMEM);
		opened = st == WASD_OK;
		wasd_st_close(s);

		wasd_mem_fail_at(nth);
		struct wasd_st_writer *w = wasd_st_writer_create();
		if (w) {
			float x = 1;
			size_t size;
			wasd_st_writer_meta(w, "k", "v");
			wasd_st_writer_add(w, "x", WASD_F32, 1, (size_t[]){1}, &x);
			st = wasd_st_writer_size(w, &size, NULL);
			CHECK(st == WASD_OK || st == WASD_ENOMEM);
			wrote = st == WASD_OK;
		}
		wasd_mem_fail_at(0);
		wasd_st_writer_destroy(w);
		struct wasd_mem_stats after = wasd_mem_stats();
		CHECK_INT(after.allocs - before.allocs, after.frees - before.frees);
	}
	CHECK(wrote && opened);
	free(f);
}

int main(void)
{
	TEST_RUN(test_round_trip);
	TEST_RUN(test_every_truncation);
	TEST_RUN(test_flips);
	TEST_RUN(test_lies);
	TEST_RUN(test_writer_refusals);
	TEST_RUN(test_many_tensors);
	TEST_RUN(test_no_memory);
	TEST_END();
}
