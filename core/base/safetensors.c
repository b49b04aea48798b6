/* base/safetensors.c - a reader that trusts nothing, and a writer; the format is described in wasd/safetensors.h. */
#include "wasd/safetensors.h"
#include "base/json_text.h"
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

static const struct {
	const char *name;
	size_t size;
} dtypes[WASD_DTYPES] = {
	[WASD_F32] = {"F32", 4},   [WASD_F64] = {"F64", 8}, [WASD_I64] = {"I64", 8},
	[WASD_I32] = {"I32", 4},   [WASD_U64] = {"U64", 8}, [WASD_U8] = {"U8", 1},
	[WASD_BF16] = {"BF16", 2}, [WASD_F16] = {"F16", 2}, [WASD_I8] = {"I8", 1},
};
#define MAX_DIMS 8
#define MAX_TENSORS 100000
#define MAX_HEADER ((size_t)16 << 20)

size_t wasd_dtype_size(enum wasd_dtype t)
{
	return (unsigned)t < WASD_DTYPES ? dtypes[t].size : 0;
}
const char *wasd_dtype_name(enum wasd_dtype t)
{
	return (unsigned)t < WASD_DTYPES ? dtypes[t].name : "?";
}

void wasd_st_dims_text(char out[64], int n, const size_t *dims)
{
	size_t at = 0;
	out[0] = 0;
	for (int i = 0; i < n && at < 50; i++)
		at += (size_t)snprintf(out + at, 64 - at, "%s%zu", i ? "x" : "", dims[i]);
}

/* Number of elements and bytes; false on overflow. */
static bool extent(enum wasd_dtype t, int ndims, const size_t *dims, size_t *count, size_t *bytes)
{
	*count = 1;
	/* A zero makes the product zero, but the other factors must not overflow on the way either. */
	for (int i = 0; i < ndims; i++)
		if (!wasd_mul_size(*count, dims[i], count))
			return false;
	return wasd_mul_size(*count, wasd_dtype_size(t), bytes);
}

/* ---- reading ---- */

struct entry {
	struct wasd_st_tensor t;
	size_t begin, end;
};

struct wasd_st {
	cJSON *header; /* owns the names */
	const cJSON *meta;
	struct entry *entries; /* in the order of the data */
	const struct entry **by_name;
	size_t n;
};

static int by_offset(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	if (x->begin != y->begin)
		return x->begin < y->begin ? -1 : 1;
	return (x->end > y->end) - (x->end < y->end);
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(const struct entry *const *)a)->t.name, (*(const struct entry *const *)b)->t.name);
}

/* A whole number of at most 2^53 that fits size_t. */
static bool whole(const cJSON *v, size_t *out)
{
	if (!cJSON_IsNumber(v) || !(v->valuedouble >= 0) || v->valuedouble > 9007199254740992.0)
		return false;
	*out = (size_t)v->valuedouble;
	return (double)*out == v->valuedouble;
}

static enum wasd_status read_entry(const cJSON *item, size_t data_len, struct entry *e, struct wasd_err *err)
{
	const char *name = item->string, *dtype;
	const cJSON *shape = wasd_json_get(item, "shape"), *off = wasd_json_get(item, "data_offsets");
	if (!wasd_json_str(item, "dtype", &dtype) || !cJSON_IsArray(shape) || !cJSON_IsArray(off) ||
	    cJSON_GetArraySize(item) != 3)
		return wasd_fail_at(err, WASD_ECORRUPT, name, "tensor %s: must be {dtype, shape, data_offsets}", name);
	e->t.name = name;
	e->t.dtype = WASD_DTYPES;
	for (int i = 0; i < WASD_DTYPES; i++)
		if (!strcmp(dtype, dtypes[i].name))
			e->t.dtype = (enum wasd_dtype)i;
	if (e->t.dtype == WASD_DTYPES)
		return wasd_fail_at(err, WASD_EUNSUPPORTED, name, "tensor %s: unknown type %s", name, dtype);
	int nd = cJSON_GetArraySize(shape);
	if (nd > MAX_DIMS)
		return wasd_fail_at(err, WASD_EUNSUPPORTED, name, "tensor %s: %d dimensions; at most %d are supported", name,
		                    nd, MAX_DIMS);
	for (const cJSON *d = shape->child; d; d = d->next)
		if (!whole(d, &e->t.dims[e->t.ndims++]))
			return wasd_fail_at(err, WASD_ECORRUPT, name, "tensor %s: bad dimension", name);
	if (cJSON_GetArraySize(off) != 2 || !whole(off->child, &e->begin) || !whole(off->child->next, &e->end) ||
	    e->begin > e->end || e->end > data_len)
		return wasd_fail_at(err, WASD_ECORRUPT, name, "tensor %s: data_offsets are outside the file", name);
	size_t bytes;
	if (!extent(e->t.dtype, e->t.ndims, e->t.dims, &e->t.count, &bytes) || bytes != e->end - e->begin)
		return wasd_fail_at(err, WASD_ECORRUPT, name, "tensor %s: its shape does not match its %zu bytes of data", name,
		                    e->end - e->begin);
	return WASD_OK;
}

static enum wasd_status check_meta(const cJSON *meta, struct wasd_err *err)
{
	if (!cJSON_IsObject(meta))
		return wasd_fail_at(err, WASD_ECORRUPT, "__metadata__", "__metadata__ is not an object");
	for (const cJSON *m = meta->child; m; m = m->next)
		if (!cJSON_IsString(m))
			return wasd_fail_at(err, WASD_ECORRUPT, "__metadata__", "__metadata__: %s is not a string", m->string);
	return WASD_OK;
}

static enum wasd_status read_entries(struct wasd_st *s, const char *data, size_t data_len, struct wasd_err *err)
{
	enum wasd_status st;
	size_t i = 0, at = 0;
	for (const cJSON *c = s->header->child; c; c = c->next) {
		if (!strcmp(c->string, "__metadata__")) {
			s->meta = c;
			if ((st = check_meta(c, err)))
				return st;
			continue;
		}
		if ((st = read_entry(c, data_len, &s->entries[i++], err)))
			return st;
	}
	qsort(s->entries, s->n, sizeof *s->entries, by_offset);
	for (i = 0; i < s->n; i++) {
		struct entry *e = &s->entries[i];
		if (e->begin != at)
			return wasd_fail_at(err, WASD_ECORRUPT, e->t.name, "tensor %s: begins at %zu instead of %zu (%s)",
			                    e->t.name, e->begin, at, e->begin < at ? "overlap" : "gap");
		at = e->end;
		e->t.data = data + e->begin;
		s->by_name[i] = e;
	}
	if (at != data_len)
		return wasd_fail(err, WASD_ECORRUPT, "the file has %zu bytes of data, but its tensors have %zu", data_len, at);
	qsort(s->by_name, s->n, sizeof *s->by_name, by_name);
	return WASD_OK;
}

enum wasd_status wasd_st_open(const void *bytes, size_t len, struct wasd_st **out, struct wasd_err *err)
{
	const unsigned char *p = bytes;
	uint64_t hlen = 0;
	if (len < 8)
		return wasd_fail(err, WASD_ECORRUPT, "safetensors: %zu bytes is too short", len);
	for (int i = 7; i >= 0; i--)
		hlen = hlen << 8 | p[i];
	if (hlen > MAX_HEADER)
		return wasd_fail(err, WASD_ECORRUPT, "safetensors: header of %llu bytes; at most %zu are supported",
		                 (unsigned long long)hlen, MAX_HEADER);
	if (hlen > len - 8)
		return wasd_fail(err, WASD_ECORRUPT, "safetensors: header of %llu bytes in a file of %zu",
		                 (unsigned long long)hlen, len);
	if (hlen < 2 || p[8] != '{')
		return wasd_fail(err, WASD_ECORRUPT, "safetensors: the header is not a JSON object");

	struct wasd_st *s = wasd_calloc(1, sizeof *s);
	if (!s)
		return wasd_fail(err, WASD_ENOMEM, "safetensors: no memory");
	struct wasd_json_limits lim = {MAX_HEADER, 4, 20 * MAX_TENSORS};
	enum wasd_status st = wasd_json_parse((const char *)p + 8, (size_t)hlen, lim, &s->header, err);
	if (st) {
		if (st != WASD_ENOMEM)
			st = WASD_ECORRUPT;
		if (err)
			err->status = st;
		goto fail;
	}
	for (const cJSON *c = s->header->child; c; c = c->next)
		s->n += strcmp(c->string, "__metadata__") != 0;
	if (s->n > MAX_TENSORS) {
		st = wasd_fail(err, WASD_ETOOBIG, "safetensors: %zu tensors; at most %d are supported", s->n, MAX_TENSORS);
		goto fail;
	}
	s->entries = wasd_calloc(s->n, sizeof *s->entries);
	s->by_name = wasd_calloc(s->n, sizeof *s->by_name);
	if (!s->entries || !s->by_name) {
		st = wasd_fail(err, WASD_ENOMEM, "safetensors: no memory for %zu tensors", s->n);
		goto fail;
	}
	if ((st = read_entries(s, (const char *)p + 8 + hlen, len - 8 - (size_t)hlen, err)))
		goto fail;
	*out = s;
	return WASD_OK;
fail:
	wasd_st_close(s);
	return st;
}

void wasd_st_close(struct wasd_st *s)
{
	if (!s)
		return;
	cJSON_Delete(s->header);
	wasd_free(s->entries);
	wasd_free(s->by_name);
	wasd_free(s);
}

size_t wasd_st_count(const struct wasd_st *s)
{
	return s->n;
}
const struct wasd_st_tensor *wasd_st_at(const struct wasd_st *s, size_t i)
{
	return i < s->n ? &s->entries[i].t : NULL;
}

const struct wasd_st_tensor *wasd_st_find(const struct wasd_st *s, const char *name)
{
	struct entry key = {.t.name = name};
	const struct entry *kp = &key, **hit = s->n ? bsearch(&kp, s->by_name, s->n, sizeof *s->by_name, by_name) : NULL;
	return hit ? &(*hit)->t : NULL;
}

const char *wasd_st_meta(const struct wasd_st *s, const char *key)
{
	const char *v = NULL;
	return s->meta && wasd_json_str(s->meta, key, &v) ? v : NULL;
}

/* ---- writing ---- */

struct out_tensor {
	const void *data;
	size_t bytes;
};

struct wasd_st_writer {
	struct wasd_buf meta, header; /* header text of the tensors so far, without braces */
	struct out_tensor *tensors;
	char **names;
	size_t n, cap, data_len;
	enum wasd_status status; /* the first error */
	struct wasd_err err;
};

struct wasd_st_writer *wasd_st_writer_create(void)
{
	return wasd_calloc(1, sizeof(struct wasd_st_writer));
}

void wasd_st_writer_destroy(struct wasd_st_writer *w)
{
	if (!w)
		return;
	for (size_t i = 0; i < w->n; i++)
		wasd_free(w->names[i]);
	wasd_free(w->names);
	wasd_free(w->tensors);
	wasd_buf_done(&w->meta);
	wasd_buf_done(&w->header);
	wasd_free(w);
}

void wasd_st_writer_meta(struct wasd_st_writer *w, const char *key, const char *value)
{
	if (w->meta.len)
		wasd_buf_puts(&w->meta, ",");
	json_put_string(&w->meta, key);
	wasd_buf_puts(&w->meta, ":");
	json_put_string(&w->meta, value);
}

static bool grow(struct wasd_st_writer *w)
{
	if (w->n < w->cap)
		return true;
	size_t cap = w->cap ? 2 * w->cap : 64;
	struct out_tensor *t = wasd_realloc(w->tensors, cap * sizeof *t);
	if (t)
		w->tensors = t;
	char **names = t ? wasd_realloc(w->names, cap * sizeof *names) : NULL;
	if (names)
		w->names = names, w->cap = cap;
	return names != NULL;
}

void wasd_st_writer_add(struct wasd_st_writer *w, const char *name, enum wasd_dtype t, int ndims, const size_t *dims,
                        const void *data)
{
	size_t count, bytes, end;
	if (w->status)
		return;
	if ((unsigned)t >= WASD_DTYPES || ndims < 0 || ndims > MAX_DIMS || !strcmp(name, "__metadata__")) {
		w->status = wasd_fail_at(&w->err, WASD_EINVAL, name, "tensor %s: bad name, type or number of dimensions", name);
		return;
	}
	if (!extent(t, ndims, dims, &count, &bytes) || !wasd_add_size(w->data_len, bytes, &end) || w->n == MAX_TENSORS) {
		w->status = wasd_fail_at(&w->err, WASD_ETOOBIG, name, "tensor %s: too large", name);
		return;
	}
	char *copy = grow(w) ? wasd_strdup(name) : NULL;
	if (!copy) {
		w->status = wasd_fail_at(&w->err, WASD_ENOMEM, name, "tensor %s: no memory", name);
		return;
	}
	struct wasd_buf *b = &w->header;
	if (w->n)
		wasd_buf_puts(b, ",");
	json_put_string(b, name);
	wasd_buf_printf(b, ":{\"dtype\":\"%s\",\"shape\":[", wasd_dtype_name(t));
	for (int i = 0; i < ndims; i++)
		wasd_buf_printf(b, i ? ",%zu" : "%zu", dims[i]);
	wasd_buf_printf(b, "],\"data_offsets\":[%zu,%zu]}", w->data_len, end);
	w->tensors[w->n] = (struct out_tensor){data, bytes};
	w->names[w->n++] = copy;
	w->data_len = end;
}

static int cmp_str(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static const char meta_open[] = "\"__metadata__\":{";

/* Length of the padded header: {"__metadata__":{...},tensors} and spaces. */
static size_t header_len(const struct wasd_st_writer *w)
{
	size_t n = 2 + w->header.len;
	if (w->meta.len)
		n += sizeof meta_open - 1 + w->meta.len + 1 + (w->n > 0);
	return (n + 7) & ~(size_t)7;
}

enum wasd_status wasd_st_writer_size(struct wasd_st_writer *w, size_t *size, struct wasd_err *err)
{
	if (!w->status && (w->meta.failed || w->header.failed))
		w->status = wasd_fail(&w->err, WASD_ENOMEM, "safetensors header: no memory");
	if (!w->status) {
		if (w->n)
			qsort(w->names, w->n, sizeof *w->names, cmp_str); /* their order no longer matters */
		for (size_t i = 1; i < w->n && !w->status; i++)
			if (!strcmp(w->names[i - 1], w->names[i]))
				w->status = wasd_fail_at(&w->err, WASD_EINVAL, w->names[i], "tensor %s: added twice", w->names[i]);
	}
	if (!w->status && header_len(w) > MAX_HEADER)
		w->status = wasd_fail(&w->err, WASD_ETOOBIG, "safetensors header: %zu bytes", header_len(w));
	size_t total;
	if (!w->status && !wasd_add_size(8 + header_len(w), w->data_len, &total))
		w->status = wasd_fail(&w->err, WASD_ETOOBIG, "safetensors: too large");
	if (w->status) {
		if (err)
			*err = w->err;
		return w->status;
	}
	*size = total;
	return WASD_OK;
}

static char *put(char *p, const void *s, size_t n)
{
	if (n)
		memcpy(p, s, n);
	return p + n;
}

enum wasd_status wasd_st_writer_write(struct wasd_st_writer *w, void *out, size_t size, struct wasd_err *err)
{
	size_t want;
	enum wasd_status s = wasd_st_writer_size(w, &want, err);
	if (s)
		return s;
	if (size != want)
		return wasd_fail(err, WASD_EINVAL, "safetensors: a buffer of %zu bytes, but %zu are needed", size, want);
	const size_t hlen = header_len(w);
	char *p = out, *data = p + 8 + hlen;
	for (int i = 0; i < 8; i++)
		*p++ = (char)((uint64_t)hlen >> (8 * i));
	p = put(p, "{", 1);
	if (w->meta.len) {
		p = put(p, meta_open, sizeof meta_open - 1);
		p = put(p, w->meta.data, w->meta.len);
		p = put(p, "}", 1);
		if (w->n)
			p = put(p, ",", 1);
	}
	p = put(p, w->header.data, w->header.len);
	p = put(p, "}", 1);
	memset(p, ' ', (size_t)(data - p));
	for (size_t i = 0; i < w->n; i++)
		data = put(data, w->tensors[i].data, w->tensors[i].bytes);
	return WASD_OK;
}

enum wasd_status wasd_st_writer_block(struct wasd_st_writer *w, void **out, size_t *size, struct wasd_err *err)
{
	size_t n;
	enum wasd_status s = wasd_st_writer_size(w, &n, err);
	if (s)
		return s;
	void *block = wasd_malloc(n);
	if (!block)
		return wasd_fail(err, WASD_ENOMEM, "a file of %zu bytes", n);
	if ((s = wasd_st_writer_write(w, block, n, err))) {
		wasd_free(block);
		return s;
	}
	*out = block;
	*size = n;
	return WASD_OK;
}
