/* api/tensor.c - reads tensors of the Open Inference Protocol as float32 or as encoded images: see tensor.h. */
#include "tensor.h"
#include "internal.h"
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct tensor_type types[] = {
	{"BOOL", 1, TENSOR_BOOL, true},       {"UINT8", 1, TENSOR_UNSIGNED, true},  {"UINT16", 2, TENSOR_UNSIGNED, true},
	{"UINT32", 4, TENSOR_UNSIGNED, true}, {"UINT64", 8, TENSOR_UNSIGNED, true}, {"INT8", 1, TENSOR_SIGNED, true},
	{"INT16", 2, TENSOR_SIGNED, true},    {"INT32", 4, TENSOR_SIGNED, true},    {"INT64", 8, TENSOR_SIGNED, true},
	{"FP16", 2, TENSOR_FLOAT, false},     {"BF16", 2, TENSOR_FLOAT, false},     {"FP32", 4, TENSOR_FLOAT, true},
	{"FP64", 8, TENSOR_FLOAT, true},      {"BYTES", 0, TENSOR_BYTES, true},
};

const struct tensor_type *tensor_type_at(int i)
{
	return i >= 0 && i < (int)API_LEN(types) ? &types[i] : NULL;
}

const struct tensor_type *tensor_type_find(const char *name)
{
	for (size_t i = 0; i < API_LEN(types); i++)
		if (!strcmp(types[i].name, name))
			return &types[i];
	return NULL;
}

void tensor_in_done(struct tensor_in *t)
{
	cJSON_Delete(t->sizes);
	wasd_buf_done(&t->own);
	*t = (struct tensor_in){0};
}

/* ---- shapes ------------------------------------------------------------------------------------------------ */

static void shape_text(char out[128], const int64_t *dims, int rank)
{
	size_t n = (size_t)snprintf(out, 128, "[");
	for (int i = 0; i < rank && n < 120; i++)
		n += (size_t)snprintf(out + n, 128 - n, "%s%lld", i ? "," : "", (long long)dims[i]);
	snprintf(out + n, 128 - n, "]");
}

static enum wasd_status read_shape(const cJSON *tensor, const char *pointer, const struct tensor_wanted *want,
                                   int64_t *dims, struct wasd_err *err)
{
	char at[160], takes[128], got[128];
	const cJSON *shape = wasd_json_get(tensor, "shape"), *v;
	int n = 0;
	bool ok = cJSON_IsArray(shape) && cJSON_GetArraySize(shape) <= TENSOR_RANK;
	snprintf(at, sizeof at, "%s/shape", pointer);
	const cJSON *dimensions = ok ? shape : NULL;
	cJSON_ArrayForEach(v, dimensions) {
		ok &= cJSON_IsNumber(v) && v->valuedouble == floor(v->valuedouble) && v->valuedouble >= 0 &&
		      v->valuedouble <= 1e9;
		dims[n++] = ok ? (int64_t)v->valuedouble : 0;
	}
	if (!ok)
		return wasd_fail_at(err, WASD_EINVAL, at, "shape must be an array of at most %d whole numbers", TENSOR_RANK);
	shape_text(got, dims, n);
	shape_text(takes, want->dims, want->rank);
	bool fits = n == want->rank;
	for (int i = 0; fits && i < n; i++)
		fits = want->dims[i] < 0 ? dims[i] >= 1 : dims[i] == want->dims[i];
	if (!fits)
		return wasd_fail_at(err, WASD_EINVAL, at, "shape %s, the model takes %s", got, takes);
	if (want->dims[0] < 0 && dims[0] > want->most)
		return wasd_fail_at(err, WASD_EINVAL, at, "batch of %lld, the model takes at most %lld", (long long)dims[0],
		                    (long long)want->most);
	return WASD_OK;
}

/* ---- numbers from JSON ------------------------------------------------------------------------------------- */

static const double powers_of_ten[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                       1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

struct digits {
	uint64_t value; /* of the first 19 */
	int n, dropped; /* significant digits; digits of the integer part left out of value */
};

static const char *take_digits(const char *p, struct digits *d)
{
	for (; *p >= '0' && *p <= '9'; p++) {
		if (d->n >= 19) {
			d->dropped++;
			continue;
		}
		d->value = d->value * 10 + (uint64_t)(*p - '0');
		d->n += d->value > 0;
	}
	return p;
}

/* Reads an RFC 8259 number at p, which any other character ends. NULL: no number there. When the digits fit a double
 * and the power of ten is exact, one multiplication or division rounds correctly (Clinger, "How to read floating
 * point numbers accurately", 1990, section 2); otherwise strtod is used. */
static const char *number(const char *p, double *out)
{
	const char *begin = p;
	struct digits d = {0};
	bool minus = *p == '-';
	p += minus;
	const char *whole = p;
	p = take_digits(p, &d);
	if (p == whole || (*whole == '0' && p > whole + 1))
		return NULL;
	int exponent = d.dropped;
	if (*p == '.') {
		const char *fraction = ++p;
		d.dropped = 0;
		p = take_digits(p, &d);
		if (p == fraction)
			return NULL;
		exponent -= (int)(p - fraction) - d.dropped;
	}
	if (*p == 'e' || *p == 'E') {
		p++;
		bool down = *p == '-';
		p += *p == '-' || *p == '+';
		const char *first = p;
		int e = 0;
		for (; *p >= '0' && *p <= '9'; p++)
			e = e < 100000 ? e * 10 + (*p - '0') : e;
		if (p == first)
			return NULL;
		exponent += down ? -e : e;
	}
	double v = (double)d.value;
	if (d.n < 19 && d.value <= 1ull << 53 && exponent >= -22 && exponent <= 22)
		v = exponent < 0 ? v / powers_of_ten[-exponent] : v * powers_of_ten[exponent];
	else
		return *out = strtod(begin, NULL), p;
	*out = minus ? -v : v;
	return p;
}

struct fill {
	const struct tensor_type *type;
	const struct wasd_pixels *pixels;
	const int64_t *dims;
	int rank;
	const char *p; /* NUL or a bracket ends the text */
	float *out;
	size_t want, n;
	const char *pointer;
	struct wasd_err *err;
};

static char next(struct fill *f)
{
	while (*f->p == ' ' || *f->p == '\t' || *f->p == '\n' || *f->p == '\r')
		f->p++;
	return *f->p;
}

static enum wasd_status data_fault(struct fill *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static enum wasd_status data_fault(struct fill *f, const char *fmt, ...)
{
	char at[160], text[200];
	va_list ap;
	va_start(ap, fmt);
	wasd_vline(text, sizeof text, fmt, ap);
	va_end(ap);
	snprintf(at, sizeof at, "%s/data", f->pointer);
	return wasd_fail_at(f->err, WASD_EINVAL, at, "%s", text);
}

/* The values of a type that JSON can express. */
static bool in_range(const struct tensor_type *t, double v)
{
	double bits = (double)t->size * 8;
	switch (t->is) {
	case TENSOR_BOOL:
		return v == 0 || v == 1;
	case TENSOR_UNSIGNED:
		return v == floor(v) && v >= 0 && v < exp2(bits);
	case TENSOR_SIGNED:
		return v == floor(v) && v >= -exp2(bits - 1) && v < exp2(bits - 1);
	case TENSOR_FLOAT:
		return fabs(v) <= FLT_MAX;
	case TENSOR_BYTES:
		break;
	}
	return false;
}

/* The channel of element i of images of this shape. */
static int channel(const int64_t *dims, int rank, size_t i)
{
	return rank == 4 ? (int)(i / (size_t)(dims[2] * dims[3]) % (size_t)dims[1]) : 0;
}

/* Element i of the tensor as the network takes it. */
static float as_float(const struct fill *f, size_t i, double v)
{
	bool pixel = f->type->is == TENSOR_UNSIGNED && f->type->size == 1;
	return pixel ? (float)wasd_pixel(f->pixels, channel(f->dims, f->rank, i), v) : (float)v;
}

static enum wasd_status put_number(struct fill *f)
{
	double v = 0;
	const char *after;
	if (f->n >= f->want)
		return data_fault(f, "data has more than the %zu elements of its shape", f->want);
	if (f->type->is == TENSOR_BOOL && !strncmp(f->p, "true", 4))
		after = f->p + 4, v = 1;
	else if (f->type->is == TENSOR_BOOL && !strncmp(f->p, "false", 5))
		after = f->p + 5;
	else
		after = number(f->p, &v);
	if (!after || !in_range(f->type, v))
		return data_fault(f, "data: element %zu (counted row-major from 0) is not a finite %s number", f->n,
		                  f->type->name);
	f->out[f->n] = as_float(f, f->n, v);
	f->n++;
	f->p = after;
	return WASD_OK;
}

/* Reads the next array: of numbers at the last dimension or when the data are flat, else of dims[depth] arrays. */
static enum wasd_status put_array(struct fill *f, int depth, bool flat)
{
	int64_t n = 0;
	bool innermost = flat || depth + 1 == f->rank;
	if (next(f) != '[')
		return data_fault(f, "data is neither flat nor nested as deep as its shape");
	f->p++;
	if (next(f) != ']') {
		for (;; f->p++) {
			next(f);
			if (!flat && ++n > f->dims[depth])
				break;
			enum wasd_status s = innermost ? put_number(f) : put_array(f, depth + 1, false);
			if (s)
				return s;
			if (next(f) != ',')
				break;
		}
	}
	if (!flat && n != f->dims[depth])
		return data_fault(f, "data: dimension %d has %s%lld entries, the shape says %lld", depth,
		                  n > f->dims[depth] ? "at least " : "", (long long)n, (long long)f->dims[depth]);
	if (next(f) != ']')
		return data_fault(f, "data: no comma or bracket after element %zu", f->n ? f->n - 1 : 0);
	f->p++;
	return WASD_OK;
}

static enum wasd_status read_json(struct fill f, const struct tensor_data *from, struct tensor_in *out,
                                  struct wasd_err *err)
{
	f.p = from->text;
	if (!from->text)
		return data_fault(&f, "data must be an array of numbers");
	if (!(f.out = wasd_calloc(f.want, sizeof *f.out)))
		return wasd_fail(err, WASD_ENOMEM, "no memory for the tensor");
	out->own.data = (char *)f.out;
	out->own.len = out->own.cap = f.want * sizeof *f.out;
	const char *inside = from->text + 1;
	while (*inside == ' ' || *inside == '\t' || *inside == '\n' || *inside == '\r')
		inside++;
	enum wasd_status s = put_array(&f, 0, f.rank < 2 || *inside != '[');
	if (!s && f.n < f.want)
		s = data_fault(&f, "data has %zu elements, its shape needs %zu", f.n, f.want);
	return s;
}

/* ---- numbers from bytes ------------------------------------------------------------------------------------ */

static double half(uint16_t h)
{
	int exponent = h >> 10 & 31, fraction = h & 1023;
	double v = exponent == 31 ? (fraction ? NAN : INFINITY) :
	           exponent       ? ldexp(1024 + fraction, exponent - 25) :
	                            ldexp(fraction, -24);
	return h >> 15 ? -v : v;
}

/* Element i of little-endian data. */
static double element(const struct tensor_type *t, const char *p, size_t i)
{
	uint64_t u = 0;
	memcpy(&u, p + i * t->size, t->size); /* this program, like its files, is little-endian only */
	if (t->is == TENSOR_UNSIGNED || t->is == TENSOR_BOOL)
		return (double)u;
	if (t->is == TENSOR_SIGNED) {
		int shift = 64 - 8 * (int)t->size;
		return (double)((int64_t)(u << shift) >> shift);
	}
	if (t->size == 8) {
		double v;
		memcpy(&v, &u, sizeof v);
		return v;
	}
	if (!strcmp(t->name, "FP16"))
		return half((uint16_t)u);
	uint32_t bits = t->size == 4 ? (uint32_t)u : (uint32_t)u << 16; /* BF16: the upper half of an FP32 */
	float v;
	memcpy(&v, &bits, sizeof v);
	return (double)v;
}

static enum wasd_status read_binary(const struct fill *f, const char *bytes, struct tensor_in *out,
                                    struct wasd_err *err)
{
	char at[160];
	const struct tensor_type *type = f->type;
	out->len = f->want * sizeof(float);
	if (!strcmp(type->name, "FP32")) {
		out->bytes = bytes; /* as received; the infer process refuses NaN and infinities */
		return WASD_OK;
	}
	float *v = wasd_calloc(f->want, sizeof *v);
	if (!v)
		return wasd_fail(err, WASD_ENOMEM, "no memory for the tensor");
	out->own.data = (char *)v;
	out->own.len = out->own.cap = out->len;
	for (size_t i = 0; i < f->want; i++) {
		double x = element(type, bytes, i);
		snprintf(at, sizeof at, "%s/data", f->pointer);
		if (!in_range(type, x))
			return wasd_fail_at(err, WASD_EINVAL, at, "element %zu of the input is %g, which is not a finite %s", i, x,
			                    type->name);
		v[i] = as_float(f, i, x);
	}
	return WASD_OK;
}

/* The bytes of this tensor after the JSON. */
static enum wasd_status take_binary(const cJSON *tensor, const char *pointer, struct tensor_data *from,
                                    const char **bytes, size_t *len, struct wasd_err *err)
{
	char at[160];
	int64_t size;
	const cJSON *parameters = wasd_json_get(tensor, "parameters");
	snprintf(at, sizeof at, "%s/parameters/binary_data_size", pointer);
	if (!wasd_json_i64(parameters, "binary_data_size", &size) || size < 0)
		return wasd_fail_at(err, WASD_EINVAL, at, "binary_data_size must be a whole number of bytes");
	if (wasd_json_get(tensor, "data"))
		return wasd_fail_at(err, WASD_EINVAL, at, "the input has both data and binary_data_size; send one");
	if (size > from->binary_end - from->binary)
		return wasd_fail_at(err, WASD_EINVAL, at,
		                    "binary_data_size %lld, but %lld bytes remain after the JSON of the request; "
		                    "Inference-Header-Content-Length says where the JSON ends",
		                    (long long)size, (long long)(from->binary_end - from->binary));
	*bytes = from->binary;
	*len = (size_t)size;
	from->binary += size;
	return WASD_OK;
}

/* ---- images ------------------------------------------------------------------------------------------------ */

static enum wasd_status add_picture(struct tensor_in *out, const char *p, size_t len, bool copy, struct wasd_err *err)
{
	cJSON *size = cJSON_CreateNumber((double)len);
	if (!size || !cJSON_AddItemToArray(out->sizes, size) || (copy && !wasd_buf_append(&out->own, p, len))) {
		if (size && !cJSON_GetArraySize(out->sizes))
			cJSON_Delete(size);
		return wasd_fail(err, WASD_ENOMEM, "no memory for the pictures");
	}
	return WASD_OK;
}

/* BYTES elements: each has a 4-byte little-endian length in front. */
static enum wasd_status pictures_binary(const char *pointer, int64_t n, const char *p, size_t len,
                                        struct tensor_in *out, struct wasd_err *err)
{
	const char *end = p + len;
	char at[160];
	snprintf(at, sizeof at, "%s/parameters/binary_data_size", pointer);
	for (int64_t i = 0; i < n; i++) {
		uint32_t size = 0;
		if (end - p >= 4)
			memcpy(&size, p, 4);
		if (end - p < 4 || size > end - p - 4)
			return wasd_fail_at(err, WASD_EINVAL, at, "element %lld of %lld does not fit the %zu bytes of the tensor",
			                    (long long)i, (long long)n, len);
		enum wasd_status s = add_picture(out, p + 4, size, n > 1, err);
		if (s)
			return s;
		if (n == 1) {
			out->bytes = p + 4;
			out->len = size;
		}
		p += 4 + size;
	}
	return p == end ? WASD_OK :
	                  wasd_fail_at(err, WASD_EINVAL, at, "%zu bytes remain after the %lld elements of the tensor",
	                               (size_t)(end - p), (long long)n);
}

/* Strings of Base64, or data URIs of Base64. */
static enum wasd_status pictures_json(const char *pointer, int64_t n, const struct tensor_data *from,
                                      struct tensor_in *out, struct wasd_err *err)
{
	char at[160];
	cJSON *list = NULL;
	const cJSON *one;
	struct wasd_err why = {0};
	snprintf(at, sizeof at, "%s/data", pointer);
	struct wasd_json_limits limits = {from->text_len, 4, 4096};
	if (!from->text || wasd_json_parse(from->text, from->text_len, limits, &list, &why) || !cJSON_IsArray(list) ||
	    cJSON_GetArraySize(list) != n) {
		cJSON_Delete(list);
		if (why.status == WASD_ENOMEM)
			return wasd_fail(err, WASD_ENOMEM, "no memory for the pictures");
		return wasd_fail_at(err, WASD_EINVAL, at, "data must be an array of %lld strings: Base64 of JPEG or PNG files",
		                    (long long)n);
	}
	int i = 0;
	enum wasd_status s = WASD_OK;
	cJSON_ArrayForEach(one, list) {
		size_t before = out->own.len;
		if (!cJSON_IsString(one) || !base64_or_uri(one->valuestring, strlen(one->valuestring), &out->own))
			s = out->own.failed ? wasd_fail(err, WASD_ENOMEM, "no memory for the pictures") :
			                      wasd_fail_at(err, WASD_EINVAL, at, "data: element %d is not Base64", i);
		if (!s)
			s = add_picture(out, NULL, out->own.len - before, false, err);
		if (s)
			break;
		i++;
	}
	cJSON_Delete(list);
	return s;
}

/* ---- one input --------------------------------------------------------------------------------------------- */

static enum wasd_status read_head(const cJSON *tensor, const char *pointer, const struct tensor_type **type,
                                  struct wasd_err *err)
{
	char at[160];
	const char *name, *datatype;
	if (!cJSON_IsObject(tensor))
		return wasd_fail_at(err, WASD_EINVAL, pointer, "an input must be an object");
	snprintf(at, sizeof at, "%s/name", pointer);
	if (!wasd_json_str(tensor, "name", &name))
		return wasd_fail_at(err, WASD_EINVAL, at, "name is missing; the model's input is named \"input\"");
	bool image = !strcmp(name, "image");
	if (!image && strcmp(name, "input"))
		return wasd_fail_at(err, WASD_EINVAL, at, "\"%.60s\": the model's input is named \"input\"", name);
	snprintf(at, sizeof at, "%s/datatype", pointer);
	if (!wasd_json_str(tensor, "datatype", &datatype))
		return wasd_fail_at(err, WASD_EINVAL, at, "datatype is missing");
	if (!(*type = tensor_type_find(datatype)))
		return wasd_fail_at(err, WASD_EINVAL, at, "datatype \"%.20s\" is not known", datatype);
	if (image && (*type)->is != TENSOR_BYTES)
		return wasd_fail_at(err, WASD_EINVAL, at,
		                    "datatype %s: input \"image\" takes BYTES; numbers go to input \"input\"", datatype);
	return WASD_OK;
}

static enum wasd_status read_numbers(const cJSON *tensor, const char *pointer, const struct tensor_type *type,
                                     const struct tensor_wanted *want, struct tensor_data *from, struct tensor_in *out,
                                     struct wasd_err *err)
{
	int64_t dims[TENSOR_RANK];
	char at[160];
	size_t elements = 1, len = 0;
	const char *bytes = NULL;
	enum wasd_status s = read_shape(tensor, pointer, want, dims, err);
	if (s)
		return s;
	for (int i = 0; i < want->rank; i++)
		if (!wasd_mul_size(elements, (size_t)dims[i], &elements))
			return wasd_fail_at(err, WASD_ETOOBIG, pointer, "the shape is too large");
	out->n = dims[0];
	struct fill f = {.type = type,
	                 .pixels = want->pixels,
	                 .dims = dims,
	                 .rank = want->rank,
	                 .want = elements,
	                 .pointer = pointer,
	                 .err = err};
	if (!wasd_json_get(wasd_json_get(tensor, "parameters"), "binary_data_size")) {
		snprintf(at, sizeof at, "%s/datatype", pointer);
		if (!type->json)
			return wasd_fail_at(err, WASD_EINVAL, at, "datatype %s needs the binary form", type->name);
		s = read_json(f, from, out, err);
		out->bytes = out->own.data;
		out->len = out->own.len;
		return s;
	}
	if ((s = take_binary(tensor, pointer, from, &bytes, &len, err)))
		return s;
	snprintf(at, sizeof at, "%s/parameters/binary_data_size", pointer);
	if (len / type->size != elements || len % type->size)
		return wasd_fail_at(err, WASD_EINVAL, at, "binary_data_size %zu: %zu elements of %s are %zu bytes", len,
		                    elements, type->name, elements * type->size);
	s = read_binary(&f, bytes, out, err);
	if (!s && !out->bytes)
		out->bytes = out->own.data;
	return s;
}

static enum wasd_status read_pictures(const cJSON *tensor, const char *pointer, const struct tensor_wanted *want,
                                      struct tensor_data *from, struct tensor_in *out, struct wasd_err *err)
{
	const struct tensor_wanted pictures = {.dims = {-1}, .rank = 1, .most = want->most};
	int64_t dims[TENSOR_RANK];
	size_t len = 0;
	const char *bytes = NULL;
	enum wasd_status s = read_shape(tensor, pointer, &pictures, dims, err);
	if (s)
		return s;
	out->n = dims[0];
	if (!(out->sizes = cJSON_CreateArray()))
		return wasd_fail(err, WASD_ENOMEM, "no memory for the pictures");
	if (!wasd_json_get(wasd_json_get(tensor, "parameters"), "binary_data_size"))
		s = pictures_json(pointer, out->n, from, out, err);
	else if (!(s = take_binary(tensor, pointer, from, &bytes, &len, err)))
		s = pictures_binary(pointer, out->n, bytes, len, out, err);
	if (!s && !out->bytes) {
		out->bytes = out->own.data;
		out->len = out->own.len;
	}
	return s;
}

enum wasd_status tensor_read(const cJSON *tensor, const char *pointer, const struct tensor_wanted *want,
                             struct tensor_data *from, struct tensor_in *out, struct wasd_err *err)
{
	const struct tensor_type *type = NULL;
	struct tensor_in in = {0};
	enum wasd_status s = read_head(tensor, pointer, &type, err);
	if (!s)
		s = type->is == TENSOR_BYTES ? read_pictures(tensor, pointer, want, from, &in, err) :
		                               read_numbers(tensor, pointer, type, want, from, &in, err);
	if (s)
		tensor_in_done(&in);
	else
		*out = in;
	return s;
}
