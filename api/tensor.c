/* api/tensor.c - tensors of the Open Inference Protocol in their JSON form: nested or flat data, row-major. */
#include "internal.h"
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* The protocol's types. json: numbers of that type may come as JSON; the 16-bit floats and nothing else need the binary
 * form. */
const struct tensor_type tensor_types[] = {
	{"BOOL", 1, true},  {"UINT8", 1, true}, {"UINT16", 2, true}, {"UINT32", 4, true}, {"UINT64", 8, true},
	{"INT8", 1, true},  {"INT16", 2, true}, {"INT32", 4, true},  {"INT64", 8, true},  {"FP16", 2, false},
	{"BF16", 2, false}, {"FP32", 4, true},  {"FP64", 8, true},   {"BYTES", 0, true},  {0},
};

const struct tensor_type *tensor_type_find(const char *name)
{
	for (const struct tensor_type *t = tensor_types; t->name; t++)
		if (!strcmp(t->name, name))
			return t;
	return NULL;
}

static void shape_text(char out[128], const int64_t *dims, int rank)
{
	size_t n = (size_t)snprintf(out, 128, "[");
	for (int i = 0; i < rank && n < 120; i++)
		n += (size_t)snprintf(out + n, 128 - n, "%s%lld", i ? "," : "", (long long)dims[i]);
	snprintf(out + n, 128 - n, "]");
}

static enum wasd_status read_shape(const cJSON *tensor, const char *pointer, const int64_t *expect, int rank,
                                   int64_t max0, int64_t *dims, struct wasd_err *err)
{
	char at[160], want[128], got[128];
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
	shape_text(want, expect, rank);
	bool fits = n == rank;
	for (int i = 0; fits && i < rank; i++)
		fits = expect[i] < 0 ? dims[i] >= 1 : dims[i] == expect[i];
	if (!fits)
		return wasd_fail_at(err, WASD_EINVAL, at, "shape %s, the model takes %s", got, want);
	if (expect[0] < 0 && dims[0] > max0)
		return wasd_fail_at(err, WASD_EINVAL, at, "batch of %lld, the model takes at most %lld", (long long)dims[0],
		                    (long long)max0);
	return WASD_OK;
}

struct fill {
	const int64_t *dims;
	int rank;
	struct wasd_buf *out;
	size_t want, n;
	const char *pointer;
	struct wasd_err *err;
};

static enum wasd_status put_number(struct fill *f, const cJSON *v)
{
	char at[160];
	if (cJSON_IsNumber(v) && fabs(v->valuedouble) <= FLT_MAX && f->n < f->want) {
		float x = (float)v->valuedouble;
		f->n++;
		return wasd_buf_append(f->out, &x, sizeof x) ? WASD_OK :
		                                               wasd_fail(f->err, WASD_ENOMEM, "no memory for the tensor");
	}
	snprintf(at, sizeof at, "%s/data", f->pointer);
	if (f->n >= f->want)
		return wasd_fail_at(f->err, WASD_EINVAL, at, "data has more than the %zu elements of its shape", f->want);
	return wasd_fail_at(f->err, WASD_EINVAL, at,
	                    "data: element %zu (counted row-major from 0) is not a finite FP32 number", f->n);
}

/* Level `depth` of nested data must have dims[depth] entries. */
static enum wasd_status put_nested(struct fill *f, const cJSON *list, int depth)
{
	char at[160];
	const cJSON *v;
	snprintf(at, sizeof at, "%s/data", f->pointer);
	if (!cJSON_IsArray(list))
		return wasd_fail_at(f->err, WASD_EINVAL, at, "data is neither flat nor nested as deep as its shape");
	int64_t n = 0;
	cJSON_ArrayForEach(v, list) {
		if (++n > f->dims[depth])
			break;
		enum wasd_status st = depth + 1 == f->rank ? put_number(f, v) : put_nested(f, v, depth + 1);
		if (st)
			return st;
	}
	if (n == f->dims[depth])
		return WASD_OK;
	return wasd_fail_at(f->err, WASD_EINVAL, at, "data: dimension %d has %s%lld entries, the shape says %lld", depth,
	                    n > f->dims[depth] ? "at least " : "", (long long)n, (long long)f->dims[depth]);
}

enum wasd_status tensor_read_fp32(const cJSON *tensor, const char *pointer, const char *name, const int64_t *expect,
                                  int rank, int64_t max0, struct wasd_buf *out, int64_t *n, struct wasd_err *err)
{
	int64_t dims[TENSOR_RANK];
	char at[160];
	const char *got;
	if (!cJSON_IsObject(tensor))
		return wasd_fail_at(err, WASD_EINVAL, pointer, "an input must be an object");
	snprintf(at, sizeof at, "%s/name", pointer);
	if (!wasd_json_str(tensor, "name", &got))
		return wasd_fail_at(err, WASD_EINVAL, at, "name is missing; the model's input is named \"%s\"", name);
	if (strcmp(got, name))
		return wasd_fail_at(err, WASD_EINVAL, at, "\"%.60s\": the model's input is named \"%s\"", got, name);
	snprintf(at, sizeof at, "%s/datatype", pointer);
	if (!wasd_json_str(tensor, "datatype", &got))
		return wasd_fail_at(err, WASD_EINVAL, at, "datatype is missing");
	if (!tensor_type_find(got))
		return wasd_fail_at(err, WASD_EINVAL, at, "datatype \"%.20s\" is not known", got);
	if (strcmp(got, "FP32"))
		return wasd_fail_at(err, WASD_EINVAL, at, "datatype %s: input \"%s\" takes FP32", got, name);
	const cJSON *binary = wasd_json_get(wasd_json_get(tensor, "parameters"), "binary_data_size");
	snprintf(at, sizeof at, "%s/parameters/binary_data_size", pointer);
	if (binary)
		return wasd_fail_at(err, WASD_EUNSUPPORTED, at,
		                    "binary tensors are not offered; send \"data\" as JSON numbers");
	enum wasd_status st = read_shape(tensor, pointer, expect, rank, max0, dims, err);
	if (st)
		return st;
	struct fill f = {.dims = dims, .rank = rank, .out = out, .want = 1, .pointer = pointer, .err = err};
	for (int i = 0; i < rank; i++)
		if (!wasd_mul_size(f.want, (size_t)dims[i], &f.want))
			return wasd_fail_at(err, WASD_ETOOBIG, pointer, "the shape is too large");
	const cJSON *data = wasd_json_get(tensor, "data"), *v;
	snprintf(at, sizeof at, "%s/data", pointer);
	if (!cJSON_IsArray(data))
		return wasd_fail_at(err, WASD_EINVAL, at, "data must be an array of numbers");
	if (rank > 1 && cJSON_IsArray(data->child)) {
		st = put_nested(&f, data, 0);
	} else {
		cJSON_ArrayForEach(v, data)
			if ((st = put_number(&f, v)))
				break;
		if (!st && f.n < f.want)
			st = wasd_fail_at(err, WASD_EINVAL, at, "data has %zu elements, its shape needs %zu", f.n, f.want);
	}
	if (!st)
		*n = dims[0];
	return st;
}

cJSON *tensor_write_fp32(const char *name, const int64_t *shape, int rank, const float *v)
{
	cJSON *t = cJSON_CreateObject();
	double dims[TENSOR_RANK];
	size_t n = 1;
	for (int i = 0; i < rank; i++) {
		dims[i] = (double)shape[i];
		n *= (size_t)shape[i];
	}
	if (api_add_str(t, "name", name) && api_add_str(t, "datatype", "FP32") &&
	    api_add_take(t, "shape", cJSON_CreateDoubleArray(dims, rank))) {
		cJSON *data = cJSON_CreateArray();
		for (size_t i = 0; i < n; i++)
			api_push(data, isfinite(v[i]) ? cJSON_CreateNumber(v[i]) : cJSON_CreateNull());
		if (api_add_take(t, "data", data))
			return t;
	}
	cJSON_Delete(t);
	return NULL;
}
