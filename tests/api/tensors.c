/* tests/api/tensors.c - tensors of the Open Inference Protocol: every type in its JSON and its binary form, encoded
 * images, and malformed input. */
#include "check.h"
#include "../../api/internal.h"
#include "../../api/tensor.h"
#include <math.h>

static const struct tensor_wanted want = {.dims = {-1, 1, 1, 4}, .rank = 4, .most = 8, .pixels = &wasd_pixels_half};

/* Reads input 0 of a request with the binary tensors tail. */
static enum wasd_status read_with(const char *request, const void *tail, size_t tail_len, struct tensor_in *out,
                                  struct wasd_err *err)
{
	struct wasd_buf head = {0};
	struct tensor_texts texts;
	cJSON *j = NULL;
	CHECK(tensor_cut(request, strlen(request), &head, &texts));
	enum wasd_status s = wasd_json_parse(head.data, head.len, WASD_JSON_REQUEST, &j, err);
	struct tensor_data from = {.text = texts.begin[0],
	                           .text_len = texts.len[0],
	                           .binary = tail,
	                           .binary_end = (const char *)tail + tail_len};
	const cJSON *input = wasd_json_get(j, "inputs") ? wasd_json_get(j, "inputs")->child : NULL;
	if (!s)
		s = tensor_read(input, "/inputs/0", &want, &from, out, err);
	if (!s)
		CHECK_INT(from.binary_end - from.binary, 0);
	cJSON_Delete(j);
	wasd_buf_done(&head);
	return s;
}

static char *request_of(const char *type, const char *rest)
{
	static char text[2000];
	snprintf(text, sizeof text, "{\"inputs\":[{\"name\":\"input\",\"shape\":[1,1,1,4],\"datatype\":\"%s\",%s}]}", type,
	         rest);
	return text;
}

static void check_floats(const char *what, const struct tensor_in *t, const float v[4])
{
	float got[4];
	CHECK_MSG(t->n == 1 && t->len == sizeof got && !t->sizes, "%s: %zu bytes", what, t->len);
	if (t->len != sizeof got)
		return;
	memcpy(got, t->bytes, sizeof got);
	for (int i = 0; i < 4; i++)
		CHECK_MSG(got[i] == v[i], "%s: element %d is %.9g, not %.9g", what, i, (double)got[i], (double)v[i]);
}

/* The same four numbers of every type, as JSON and as bytes. */
static void every_type(void)
{
#define PX(v) (float)((v / 255.0 - 0.5) / 0.5)
	static const struct {
		const char *type, *json, *bytes;
		size_t size;
		float v[4];
	} rows[] = {
		{"BOOL", "[true,false,1,0]", "\1\0\1\0", 1, {1, 0, 1, 0}},
		{"UINT8", "[0,255,128,1]", "\x00\xff\x80\x01", 1, {PX(0), PX(255), PX(128), PX(1)}},
		{"UINT16", "[0,65535,256,1]", "\0\0\xff\xff\0\1\1\0", 2, {0, 65535, 256, 1}},
		{"UINT32",
	     "[0,4294967295,65536,1]",
	     "\0\0\0\0\xff\xff\xff\xff\0\0\1\0\1\0\0\0",
	     4,
	     {0, 4294967296.0f, 65536, 1}},
		{"UINT64",
	     "[0,4294967296,65536,1]",
	     "\0\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\1\0\0\0\0\0\1\0\0\0\0\0\0\0",
	     8,
	     {0, 4294967296.0f, 65536, 1}},
		{"INT8", "[-128,127,-1,0]", "\x80\x7f\xff\x00", 1, {-128, 127, -1, 0}},
		{"INT16", "[-32768,32767,-1,2]", "\0\x80\xff\x7f\xff\xff\2\0", 2, {-32768, 32767, -1, 2}},
		{"INT32", "[-2147483648,7,-1,2]", "\0\0\0\x80\7\0\0\0\xff\xff\xff\xff\2\0\0\0", 4, {-2147483648.0f, 7, -1, 2}},
		{"INT64",
	     "[-4294967296,7,-1,2]",
	     "\0\0\0\0\xff\xff\xff\xff\7\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\2\0\0\0\0\0\0\0",
	     8,
	     {-4294967296.0f, 7, -1, 2}},
		{"FP16", NULL, "\x00\x3c\x01\x00\xff\xfb\x00\x80", 2, {1, 0x1p-24f, -65504, -0.0f}},
		{"BF16", NULL, "\x80\x3f\x00\xc0\x49\x40\x00\x00", 2, {1, -2, 3.140625f, 0}},
		{"FP32",
	     "[1,-2.5,1e-3,3.4e38]",
	     "\0\0\x80\x3f\0\0\x20\xc0\x6f\x12\x83\x3a\x9e\xc9\x7f\x7f",
	     4,
	     {1, -2.5f, 1e-3f, 3.4e38f}},
		{"FP64",
	     "[1,-2.5,0.1,7]",
	     "\0\0\0\0\0\0\xf0\x3f\0\0\0\0\0\0\x04\xc0\x9a\x99\x99\x99\x99\x99\xb9\x3f\0\0\0\0\0\0\x1c\x40",
	     8,
	     {1, -2.5f, 0.1f, 7}},
	};
	size_t seen = 0;
	for (size_t i = 0; i < API_LEN(rows); i++, seen++) {
		struct tensor_in t = {0};
		struct wasd_err err = {0};
		char rest[600];
		snprintf(rest, sizeof rest, "\"data\":%s", rows[i].json ? rows[i].json : "[1,2,3,4]");
		enum wasd_status s = read_with(request_of(rows[i].type, rest), "", 0, &t, &err);
		CHECK_MSG(rows[i].json ? !s : s == WASD_EINVAL && strstr(err.msg, "needs the binary form"), "%s: %s",
		          rows[i].type, err.msg);
		if (!s)
			check_floats(rows[i].type, &t, rows[i].v);
		tensor_in_done(&t);
		snprintf(rest, sizeof rest, "\"parameters\":{\"binary_data_size\":%zu}", 4 * rows[i].size);
		s = read_with(request_of(rows[i].type, rest), rows[i].bytes, 4 * rows[i].size, &t, &err);
		CHECK_MSG(!s, "%s, binary: %s", rows[i].type, err.msg);
		if (!s)
			check_floats(rows[i].type, &t, rows[i].v);
		/* FP32 data go to the infer process without a copy. */
		CHECK((t.bytes == rows[i].bytes) == !strcmp(rows[i].type, "FP32"));
		tensor_in_done(&t);
	}
	for (int i = 0; tensor_type_at(i); i++)
		seen -= tensor_type_at(i)->size > 0;
	CHECK_INT(seen, 0); /* a type of the table has no row here */
}

/* Nested and flat arrays, blanks, and unknown members. */
static void forms_of_json(void)
{
	static const char *const rows[] = {
		"\"data\":[0,1,2,3]",
		"\"data\":[[[[0,1,2,3]]]]",
		" \"data\" : [\n [ [ [ 0 , 1\t,2, 3 ] ] ] ] ",
		"\"data\":[0,1,2,3],\"parameters\":{\"x\":\"]}\"},\"more\":[[\"data\"]]",
		"\"before\":{\"data\":[9]},\"data\":[0e0,1.0,20e-1,0.3E1]",
	};
	static const float v[4] = {0, 1, 2, 3};
	for (size_t i = 0; i < API_LEN(rows); i++) {
		struct tensor_in t = {0};
		struct wasd_err err = {0};
		enum wasd_status s = read_with(request_of("FP32", rows[i]), "", 0, &t, &err);
		CHECK_MSG(!s, "%s: %s", rows[i], err.msg);
		if (!s)
			check_floats(rows[i], &t, v);
		tensor_in_done(&t);
	}
}

/* Marsaglia, "Xorshift RNGs", 2003. */
static uint64_t any(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	return *x ^= *x << 17;
}

/* Numbers in every form equal strtod's result, to the last bit. */
static void numbers(void)
{
	uint64_t state = 88172645463325252u;
	char text[64], rest[400];
	for (int i = 0; i < 20000; i++) {
		static const char *const forms[] = {"%.0f", "%.1f", "%.6f", "%.9g", "%.17g", "%.3e", "%.20e", "%.25f"};
		double v = ldexp((double)any(&state) - 0x1p63, (int)(any(&state) % 120) - 120);
		snprintf(text, sizeof text, forms[any(&state) % API_LEN(forms)], v);
		snprintf(rest, sizeof rest, "\"data\":[%s,0.1,123456789012345678901234567890,-0]", text);
		struct tensor_in t = {0};
		struct wasd_err err = {0};
		enum wasd_status s = read_with(request_of("FP32", rest), "", 0, &t, &err);
		CHECK_MSG(!s, "%s: %s", text, err.msg);
		const float wanted[4] = {(float)strtod(text, NULL), 0.1f, 123456789012345678901234567890.0f, -0.0f};
		if (!s)
			check_floats(text, &t, wanted);
		tensor_in_done(&t);
	}
	static const char *const wrong[] = {"01",       "+1",  ".5",  "1.",    "1e",   "1e+",  "-",  "0x1",  "NaN",
	                                    "Infinity", "1_0", "1 2", "\"1\"", "null", "true", "{}", "1e999"};
	for (size_t i = 0; i < API_LEN(wrong); i++) {
		struct tensor_in t = {0};
		struct wasd_err err = {0};
		snprintf(rest, sizeof rest, "\"data\":[%s,1,2,3]", wrong[i]);
		CHECK_MSG(read_with(request_of("FP32", rest), "", 0, &t, &err) == WASD_EINVAL &&
		              !strcmp(err.pointer, "/inputs/0/data"),
		          "%s: %s at %s", wrong[i], err.msg, err.pointer);
		tensor_in_done(&t);
	}
}

static void pictures(void)
{
	static const char two[] = "\3\0\0\0abc\2\0\0\0de";
	struct tensor_in t = {0};
	struct wasd_err err = {0};
	static const char head[] = "{\"inputs\":[{\"name\":\"%s\",\"shape\":[%d],\"datatype\":\"BYTES\",%s}]}";
	char text[400];
	snprintf(text, sizeof text, head, "image", 2, "\"parameters\":{\"binary_data_size\":13}");
	CHECK_MSG(!read_with(text, two, sizeof two - 1, &t, &err), "%s", err.msg);
	char *sizes = wasd_json_print(t.sizes);
	CHECK_STR(sizes, "[3,2]");
	CHECK(t.n == 2 && t.len == 5 && !memcmp(t.bytes, "abcde", 5));
	wasd_free(sizes);
	tensor_in_done(&t);
	/* A single image is used in place, in the body. */
	snprintf(text, sizeof text, head, "input", 1, "\"parameters\":{\"binary_data_size\":7}");
	CHECK_MSG(!read_with(text, two, 7, &t, &err), "%s", err.msg);
	CHECK(t.bytes == two + 4 && t.len == 3);
	tensor_in_done(&t);
	snprintf(text, sizeof text, head, "image", 2, "\"data\":[\"YWJj\",\"data:image/png;base64,ZGU=\"]");
	CHECK_MSG(!read_with(text, "", 0, &t, &err), "%s", err.msg);
	CHECK(t.n == 2 && t.len == 5 && !memcmp(t.bytes, "abcde", 5));
	tensor_in_done(&t);
	static const struct {
		int n;
		const char *rest, *tail;
		size_t len;
		const char *at;
	} wrong[] = {
		{2, "\"parameters\":{\"binary_data_size\":7}", two, 7, "/inputs/0/parameters/binary_data_size"},
		{1, "\"parameters\":{\"binary_data_size\":13}", two, 13, "/inputs/0/parameters/binary_data_size"},
		{1, "\"parameters\":{\"binary_data_size\":7}",
	     "\xff\xff\xff\xff"
	     "abc",
	     7, "/inputs/0/parameters/binary_data_size"},
		{1, "\"parameters\":{\"binary_data_size\":3}", "\1\0\0", 3, "/inputs/0/parameters/binary_data_size"},
		{1, "\"parameters\":{\"binary_data_size\":-1}", "", 0, "/inputs/0/parameters/binary_data_size"},
		{1, "\"parameters\":{\"binary_data_size\":8}", two, 7, "/inputs/0/parameters/binary_data_size"},
		{1, "\"parameters\":{\"binary_data_size\":7},\"data\":[\"YWJj\"]", two, 7,
	     "/inputs/0/parameters/binary_data_size"},
		{1, "\"data\":[\"YWJj\",\"YWJj\"]", "", 0, "/inputs/0/data"},
		{1, "\"data\":[\"!\"]", "", 0, "/inputs/0/data"},
		{1, "\"data\":[3]", "", 0, "/inputs/0/data"},
		{1, "\"data\":\"YWJj\"", "", 0, "/inputs/0/data"},
		{0, "\"data\":[]", "", 0, "/inputs/0/shape"},
		{9, "\"data\":[]", "", 0, "/inputs/0/shape"},
	};
	for (size_t i = 0; i < API_LEN(wrong); i++) {
		snprintf(text, sizeof text, head, "image", wrong[i].n, wrong[i].rest);
		CHECK_MSG(read_with(text, wrong[i].tail, wrong[i].len, &t, &err) == WASD_EINVAL &&
		              !strcmp(err.pointer, wrong[i].at),
		          "%s: %s at %s", text, err.msg, err.pointer);
		tensor_in_done(&t);
	}
	/* A single image of another name, or numbers under the images' name. */
	snprintf(text, sizeof text,
	         "{\"inputs\":[{\"name\":\"image\",\"shape\":[1,1,1,4],\"datatype\":\"FP32\",\"data\":[1,2,3,4]}]}");
	CHECK(read_with(text, "", 0, &t, &err) == WASD_EINVAL && !strcmp(err.pointer, "/inputs/0/datatype"));
}

static void binary_that_does_not_fit(void)
{
	static const char bytes[32] = {0};
	static const struct {
		const char *type, *size, *text;
		size_t len;
	} rows[] = {
		{"FP32", "16", "12 bytes remain", 12},
		{"FP32", "12", "4 elements of FP32 are 16 bytes", 12},
		{"FP32", "17", "4 elements of FP32 are 16 bytes", 17},
		{"FP16", "9", "4 elements of FP16 are 8 bytes", 9},
		{"FP32", "1.5", "whole number", 16},
		{"FP32", "\"16\"", "whole number", 16},
		{"FP32", "1e300", "whole number", 16},
	};
	for (size_t i = 0; i < API_LEN(rows); i++) {
		struct tensor_in t = {0};
		struct wasd_err err = {0};
		char rest[100];
		snprintf(rest, sizeof rest, "\"parameters\":{\"binary_data_size\":%s}", rows[i].size);
		CHECK_MSG(read_with(request_of(rows[i].type, rest), bytes, rows[i].len, &t, &err) == WASD_EINVAL &&
		              strstr(err.msg, rows[i].text) && !strcmp(err.pointer, "/inputs/0/parameters/binary_data_size"),
		          "%s: %s at %s", rest, err.msg, err.pointer);
		tensor_in_done(&t);
	}
	struct tensor_in t = {0};
	struct wasd_err err = {0};
	CHECK(read_with(request_of("FP16", "\"parameters\":{\"binary_data_size\":8}"), "\0\x7c\0\0\0\0\0\0", 8, &t, &err) ==
	          WASD_EINVAL &&
	      strstr(err.msg, "element 0 of the input is inf"));
	CHECK(read_with(request_of("BOOL", "\"parameters\":{\"binary_data_size\":4}"), "\2\0\0\0", 4, &t, &err) ==
	          WASD_EINVAL &&
	      strstr(err.msg, "element 0"));
}

/* tensor_cut's remainder of a request, whole or malformed: never more than was sent, and never a crash. */
static void cut(void)
{
	static const struct {
		const char *request, *head;
	} rows[] = {
		{"{\"inputs\":[{\"data\":[1,2]}]}", "{\"inputs\":[{\"data\":[]}]}"},
		{"{\"inputs\":[{\"data\":[1,2]},{\"data\":[[3]]}],\"x\":[4]}",
	     "{\"inputs\":[{\"data\":[]},{\"data\":[]}],\"x\":[4]}"},
		{"{\"inputs\":[{\"data\":[\"a]\\\"\",2]}]}", "{\"inputs\":[{\"data\":[]}]}"},
		{"{\"outputs\":[{\"data\":[1]}]}", "{\"outputs\":[{\"data\":[1]}]}"},
		{"{\"inputs\":[{\"data\":[1]", "{\"inputs\":[{\"data\":[]"},
		{"{\"inputs\":[{\"data\":[1", "{\"inputs\":[{\"data\":[1"},
		{"{\"inputs\":[{\"data\":", "{\"inputs\":[{\"data\":"},
		{"{\"inputs\":[{\"data", "{\"inputs\":[{\"data"},
		{"{\"inputs\":[{\"data\\", "{\"inputs\":[{\"data\\"},
		{"", ""},
		{"[", "["},
	};
	for (size_t i = 0; i < API_LEN(rows); i++) {
		struct wasd_buf head = {0};
		struct tensor_texts texts;
		CHECK(tensor_cut(rows[i].request, strlen(rows[i].request), &head, &texts));
		CHECK_STR(wasd_buf_cstr(&head), rows[i].head);
		wasd_buf_done(&head);
	}
}

int main(void)
{
	TEST_RUN(every_type);
	TEST_RUN(forms_of_json);
	TEST_RUN(numbers);
	TEST_RUN(pictures);
	TEST_RUN(binary_that_does_not_fit);
	TEST_RUN(cut);
	TEST_END();
}
