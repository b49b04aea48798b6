/* onnx_run.h - reads an ONNX file back and computes it, in plain loops that share no code with the exporter: the
 * operators as defined by onnx.ai, for the attributes that wasd writes. Any deviation is reported in `fault`. */
#ifndef TESTS_ONNX_RUN_H
#define TESTS_ONNX_RUN_H

#include "check.h"
#include "wasd/base.h"

#include <stdint.h>

enum { ONNX_INPUTS = 64, ONNX_ATTRS = 8, ONNX_VALUES = 4096 };

struct pb {
	const uint8_t *at, *end;
};
struct field {
	unsigned number, type;
	uint64_t v;
	struct pb sub;
};

struct onnx_value {
	char name[96];
	int n_dims;
	int64_t dims[4];
	float *f;
	int64_t ints[8];
	bool constant, used;
};
struct onnx_attr {
	char name[24];
	int64_t i, ints[4];
	int n;
	float f;
};
struct onnx_op {
	char type[24];
	int n_in, n_attr;
	struct onnx_value *in[ONNX_INPUTS];
	struct onnx_attr attr[ONNX_ATTRS];
};

struct onnx_run {
	struct onnx_value *value;
	int n_values, convs;
	uint64_t macs;               /* of one image */
	char fault[160], meta[4096]; /* meta: "key=value\n" of every property */
	struct pb nodes[ONNX_VALUES];
	int n_nodes;
};

__attribute__((format(printf, 2, 3))) static void onnx_fault(struct onnx_run *r, const char *fmt, ...)
{
	va_list ap;
	if (r->fault[0])
		return;
	va_start(ap, fmt);
	vsnprintf(r->fault, sizeof r->fault, fmt, ap);
	va_end(ap);
}

/* ---- the wire format ---- */

static bool pb_number(struct pb *p, uint64_t *v)
{
	*v = 0;
	for (int shift = 0; shift < 64 && p->at < p->end; shift += 7) {
		*v |= (uint64_t)(*p->at & 127) << shift;
		if (!(*p->at++ & 128))
			return true;
	}
	return false;
}

static bool pb_next(struct onnx_run *r, struct pb *p, struct field *f)
{
	uint64_t head, len = 4;
	if (r->fault[0] || p->at >= p->end)
		return false;
	if (!pb_number(p, &head) || ((head & 7) == 0 && !pb_number(p, &f->v)) || ((head & 7) == 2 && !pb_number(p, &len)) ||
	    ((head & 7) != 0 && (((head & 7) != 2 && (head & 7) != 5) || len > (size_t)(p->end - p->at)))) {
		onnx_fault(r, "broken field");
		return false;
	}
	f->number = (unsigned)(head >> 3);
	f->type = (unsigned)(head & 7);
	f->sub = (struct pb){p->at, p->at + len};
	p->at += f->type ? len : 0;
	return true;
}

static void pb_text(struct pb p, char *out, size_t size)
{
	snprintf(out, size, "%.*s", (int)(p.end - p.at), (const char *)p.at);
}

/* ---- values ---- */

static struct onnx_value *onnx_find(struct onnx_run *r, const char *name)
{
	for (int i = 0; i < r->n_values; i++)
		if (!strcmp(r->value[i].name, name))
			return &r->value[i];
	return NULL;
}

static struct onnx_value *onnx_add(struct onnx_run *r, const char *name)
{
	if (r->n_values == ONNX_VALUES || onnx_find(r, name))
		onnx_fault(r, "%s: made twice, or too many values", name);
	struct onnx_value *v = &r->value[r->n_values < ONNX_VALUES ? r->n_values++ : 0];
	snprintf(v->name, sizeof v->name, "%s", name);
	return v;
}

static size_t onnx_count(const struct onnx_value *v)
{
	size_t n = 1;
	for (int i = 0; i < v->n_dims; i++)
		n *= (size_t)v->dims[i];
	return n;
}

static void onnx_shape(struct onnx_value *v, int n, int64_t a, int64_t b, int64_t c, int64_t d)
{
	v->n_dims = n;
	memcpy(v->dims, (int64_t[]){a, b, c, d}, sizeof v->dims);
	v->f = calloc(onnx_count(v) + 1, sizeof *v->f);
}

static void read_constant(struct onnx_run *r, struct pb p)
{
	struct onnx_value t = {.constant = true};
	struct field f;
	struct pb raw = {0};
	uint64_t type = 0;
	while (pb_next(r, &p, &f)) {
		if (f.number == 1 && t.n_dims < 4)
			t.dims[t.n_dims++] = (int64_t)f.v;
		else if (f.number == 2)
			type = f.v;
		else if (f.number == 8)
			pb_text(f.sub, t.name, sizeof t.name);
		else if (f.number == 9)
			raw = f.sub;
		else
			onnx_fault(r, "tensor with a field %u", f.number);
	}
	size_t n = onnx_count(&t), size = type == 7 ? 8 : 4;
	if ((type != 1 && type != 7) || (size_t)(raw.end - raw.at) != n * size || (type == 7 && n > 8))
		onnx_fault(r, "%s: type %d, %d bytes for %zu elements", t.name, (int)type, (int)(raw.end - raw.at), n);
	struct onnx_value *v = onnx_add(r, t.name);
	*v = t;
	if (r->fault[0])
		return;
	if (type == 7) {
		memcpy(v->ints, raw.at, 8 * n);
	} else {
		v->f = malloc(4 * n + 4);
		memcpy(v->f, raw.at, 4 * n);
	}
}

/* Reads "input" as float32 (N,c,h,w) and "logits" as (N,classes) from the dimensions that are numbers. */
static void read_surface(struct onnx_run *r, struct pb p, char out[80])
{
	struct field f, g;
	char name[40] = "";
	out[0] = 0;
	while (pb_next(r, &p, &f)) {
		if (f.number == 1)
			pb_text(f.sub, name, sizeof name);
		for (struct pb type = f.sub; f.number == 2 && pb_next(r, &type, &g);)
			for (struct pb tensor = g.sub; pb_next(r, &tensor, &f);) {
				if (f.number == 1 && f.v != 1)
					onnx_fault(r, "%s is not float32", name);
				for (struct pb shape = f.sub, dim; f.number == 2 && pb_next(r, &shape, &g);)
					for (dim = g.sub; pb_next(r, &dim, &g);)
						snprintf(out + strlen(out), 80 - strlen(out), g.number == 1 ? " %d" : " N", (int)g.v);
			}
	}
	char text[80];
	snprintf(text, sizeof text, "%.18s:%.60s", name, out);
	strcpy(out, text);
}

/* ---- operators ---- */

static const struct onnx_attr *attr(const struct onnx_op *o, const char *name)
{
	static const struct onnx_attr none;
	for (int i = 0; i < o->n_attr; i++)
		if (!strcmp(o->attr[i].name, name))
			return &o->attr[i];
	return &none;
}

static void run_conv(struct onnx_run *r, const struct onnx_op *o, struct onnx_value *y)
{
	const struct onnx_value *x = o->in[0], *w = o->in[1], *b = o->n_in > 2 ? o->in[2] : NULL;
	const int64_t *k = attr(o, "kernel_shape")->ints, *st = attr(o, "strides")->ints, *pad = attr(o, "pads")->ints;
	int64_t G = attr(o, "group")->i, C = x->dims[1], H = x->dims[2], W = x->dims[3], O = w->dims[0], ipg = w->dims[1];
	if (x->n_dims != 4 || w->n_dims != 4 || w->dims[2] != k[0] || w->dims[3] != k[1] || G < 1 || ipg * G != C ||
	    O % G || (b && b->dims[0] != O) || pad[0] < 0 || pad[1] < 0 || pad[2] < 0 || pad[3] < 0 || st[0] < 1) {
		onnx_fault(r, "%s: impossible convolution", y->name);
		return;
	}
	int64_t OH = (H + pad[0] + pad[2] - k[0]) / st[0] + 1, OW = (W + pad[1] + pad[3] - k[1]) / st[1] + 1;
	onnx_shape(y, 4, x->dims[0], O, OH, OW);
	r->convs++;
	const char *kind = strrchr(w->name, '.');
	if (!kind || strcmp(kind, ".ones")) /* these are sums */
		r->macs += (uint64_t)(O * OH * OW * ipg * k[0] * k[1]);
	for (int64_t n = 0; n < x->dims[0]; n++)
		for (int64_t c = 0; c < O; c++) {
			float *out = y->f + (n * O + c) * OH * OW;
			for (int64_t i = 0; i < OH * OW; i++)
				out[i] = b ? b->f[c] : 0;
			for (int64_t i = 0; i < ipg; i++)
				for (int64_t ky = 0; ky < k[0]; ky++)
					for (int64_t kx = 0; kx < k[1]; kx++) {
						float v = w->f[((c * ipg + i) * k[0] + ky) * k[1] + kx];
						const float *in = x->f + (n * C + c / (O / G) * ipg + i) * H * W;
						for (int64_t oy = 0; oy < OH; oy++)
							for (int64_t ox = 0; ox < OW; ox++) {
								int64_t iy = oy * st[0] - pad[0] + ky, ix = ox * st[1] - pad[1] + kx;
								if (iy >= 0 && iy < H && ix >= 0 && ix < W)
									out[oy * OW + ox] += v * in[iy * W + ix];
							}
					}
		}
}

static void run_pool(struct onnx_run *r, const struct onnx_op *o, struct onnx_value *y)
{
	const struct onnx_value *x = o->in[0];
	bool max = !strcmp(o->type, "MaxPool"), global = !strcmp(o->type, "GlobalAveragePool");
	int64_t H = x->dims[2], W = x->dims[3], kh = global ? H : attr(o, "kernel_shape")->ints[0],
			kw = global ? W : attr(o, "kernel_shape")->ints[1];
	int64_t st = global ? 1 : attr(o, "strides")->ints[0], p = global ? 0 : attr(o, "pads")->ints[0];
	if (x->n_dims != 4 || kh < 1 || st < 1)
		onnx_fault(r, "%s: impossible pooling", y->name);
	if (r->fault[0])
		return;
	int64_t OH = (H + 2 * p - kh) / st + 1, OW = (W + 2 * p - kw) / st + 1;
	onnx_shape(y, 4, x->dims[0], x->dims[1], OH, OW);
	for (int64_t c = 0; c < x->dims[0] * x->dims[1]; c++)
		for (int64_t oy = 0; oy < OH; oy++)
			for (int64_t ox = 0; ox < OW; ox++) {
				double v = max ? -INFINITY : 0;
				for (int64_t iy = oy * st - p; iy < oy * st - p + kh; iy++)
					for (int64_t ix = ox * st - p; ix < ox * st - p + kw; ix++)
						if (iy >= 0 && iy < H && ix >= 0 && ix < W) {
							double a = (double)x->f[(c * H + iy) * W + ix];
							v = max ? fmax(v, a) : v + a / (double)(kh * kw);
						}
				y->f[(c * OH + oy) * OW + ox] = (float)v;
			}
}

static void run_gemm(struct onnx_run *r, const struct onnx_op *o, struct onnx_value *y)
{
	const struct onnx_value *x = o->in[0], *w = o->in[1], *b = o->n_in > 2 ? o->in[2] : NULL;
	if (x->n_dims != 2 || w->n_dims != 2 || attr(o, "transB")->i != 1 || x->dims[1] != w->dims[1] ||
	    (b && b->dims[0] != w->dims[0])) {
		onnx_fault(r, "%s: impossible product", y->name);
		return;
	}
	onnx_shape(y, 2, x->dims[0], w->dims[0], 0, 0);
	r->macs += (uint64_t)(w->dims[0] * w->dims[1]);
	for (int64_t n = 0; n < y->dims[0]; n++)
		for (int64_t c = 0; c < y->dims[1]; c++) {
			double v = b ? (double)b->f[c] : 0;
			for (int64_t i = 0; i < w->dims[1]; i++)
				v += (double)w->f[c * w->dims[1] + i] * (double)x->f[n * w->dims[1] + i];
			y->f[n * y->dims[1] + c] = (float)v;
		}
}

/* Output shape equals input shape: Relu, Clip, Add, BatchNormalization, Identity. */
static void run_pointwise(struct onnx_run *r, const struct onnx_op *o, struct onnx_value *y)
{
	const struct onnx_value *x = o->in[0];
	onnx_shape(y, x->n_dims, x->dims[0], x->dims[1], x->dims[2], x->dims[3]);
	size_t n = onnx_count(y), map = n / (size_t)(x->dims[0] * x->dims[1]);
	if (!strcmp(o->type, "Add") && onnx_count(o->in[1]) != n)
		onnx_fault(r, "%s: sum of two shapes", y->name);
	for (size_t i = 0; i < n && !r->fault[0]; i++) {
		float v = x->f[i];
		size_t c = i / map % (size_t)x->dims[1];
		if (!strcmp(o->type, "Relu"))
			v = v < 0 ? 0 : v;
		else if (!strcmp(o->type, "Clip"))
			v = fminf(fmaxf(v, o->in[1]->f[0]), o->in[2]->f[0]);
		else if (!strcmp(o->type, "Add"))
			v += o->in[1]->f[i];
		else if (!strcmp(o->type, "BatchNormalization"))
			v = (v - o->in[3]->f[c]) / sqrtf(o->in[4]->f[c] + attr(o, "epsilon")->f) * o->in[1]->f[c] + o->in[2]->f[c];
		y->f[i] = v;
	}
}

static void run_form(struct onnx_run *r, const struct onnx_op *o, struct onnx_value *y)
{
	const struct onnx_value *x = o->in[0];
	if (!strcmp(o->type, "Flatten")) {
		onnx_shape(y, 2, x->dims[0], (int64_t)onnx_count(x) / x->dims[0], 0, 0);
		if (attr(o, "axis")->i != 1)
			onnx_fault(r, "%s: axis", y->name);
	} else {
		onnx_shape(y, 4, x->dims[0], x->dims[1], 1, 1);
		if (x->n_dims != 2 || o->in[1]->ints[0] != 2 || o->in[1]->ints[1] != 3)
			onnx_fault(r, "%s: axes", y->name);
	}
	memcpy(y->f, x->f, 4 * onnx_count(x));
}

static void run_concat(struct onnx_run *r, const struct onnx_op *o, struct onnx_value *y)
{
	int64_t C = 0, at = 0;
	const int64_t *d = o->in[0]->dims, hw = d[2] * d[3];
	for (int i = 0; i < o->n_in; i++) {
		C += o->in[i]->dims[1];
		if (o->in[i]->n_dims != 4 || o->in[i]->dims[2] != d[2] || o->in[i]->dims[3] != d[3] || attr(o, "axis")->i != 1)
			onnx_fault(r, "%s: input %d does not fit", y->name, i);
	}
	onnx_shape(y, 4, d[0], C, d[2], d[3]);
	for (int i = 0; i < o->n_in && !r->fault[0]; at += o->in[i++]->dims[1])
		for (int64_t n = 0; n < d[0]; n++)
			memcpy(y->f + (n * C + at) * hw, o->in[i]->f + n * o->in[i]->dims[1] * hw,
			       (size_t)(4 * o->in[i]->dims[1] * hw));
}

/* Zeros in front of the channels. */
static void run_pad(struct onnx_run *r, const struct onnx_op *o, struct onnx_value *y)
{
	const struct onnx_value *x = o->in[0];
	const int64_t *pads = o->in[1]->ints, map = x->dims[2] * x->dims[3], size = x->dims[1] * map;
	for (int i = 0; i < 8; i++)
		if (x->n_dims != 4 || (i == 1 ? pads[i] < 1 : pads[i] != 0))
			onnx_fault(r, "%s: impossible pads", y->name);
	onnx_shape(y, 4, x->dims[0], x->dims[1] + pads[1], x->dims[2], x->dims[3]);
	memset(y->f, 0, 4 * onnx_count(y));
	for (int64_t n = 0; n < x->dims[0] && !r->fault[0]; n++)
		memcpy(y->f + n * y->dims[1] * map + pads[1] * map, x->f + n * size, (size_t)(4 * size));
}

static void run_slice(struct onnx_run *r, const struct onnx_op *o, struct onnx_value *y)
{
	const struct onnx_value *x = o->in[0];
	const int64_t *from = o->in[1]->ints, *to = o->in[2]->ints, *axes = o->in[3]->ints;
	if (x->n_dims != 4 || axes[0] != 2 || axes[1] != 3 || from[0] < 0 || from[1] < 0 || to[0] > x->dims[2] ||
	    to[1] > x->dims[3] || to[0] <= from[0] || to[1] <= from[1]) {
		onnx_fault(r, "%s: impossible slice", y->name);
		return;
	}
	onnx_shape(y, 4, x->dims[0], x->dims[1], to[0] - from[0], to[1] - from[1]);
	float *out = y->f;
	for (int64_t c = 0; c < x->dims[0] * x->dims[1]; c++)
		for (int64_t v = from[0]; v < to[0]; v++)
			for (int64_t u = from[1]; u < to[1]; u++)
				*out++ = x->f[(c * x->dims[2] + v) * x->dims[3] + u];
}

static const struct {
	const char *type;
	int inputs;
	void (*run)(struct onnx_run *, const struct onnx_op *, struct onnx_value *);
} onnx_ops[] = {
	{"Conv", 2, run_conv},
	{"Gemm", 2, run_gemm},
	{"MaxPool", 1, run_pool},
	{"AveragePool", 1, run_pool},
	{"GlobalAveragePool", 1, run_pool},
	{"Relu", 1, run_pointwise},
	{"Clip", 3, run_pointwise},
	{"Add", 2, run_pointwise},
	{"BatchNormalization", 5, run_pointwise},
	{"Identity", 1, run_pointwise},
	{"Flatten", 1, run_form},
	{"Unsqueeze", 2, run_form},
	{"Concat", 1, run_concat},
	{"Slice", 4, run_slice},
	{"Pad", 2, run_pad},
};

static void run_node(struct onnx_run *r, struct pb p)
{
	struct onnx_op o = {0};
	struct field f, g;
	char name[96], out[96] = "";
	size_t k = 0;
	while (pb_next(r, &p, &f)) {
		if (f.number == 1 && o.n_in < ONNX_INPUTS) {
			pb_text(f.sub, name, sizeof name);
			struct onnx_value *v = onnx_find(r, name);
			if (!v)
				onnx_fault(r, "%s is read before it is made", name);
			else
				v->used = true;
			o.in[o.n_in++] = v;
		} else if (f.number == 2) {
			pb_text(f.sub, out, sizeof out);
		} else if (f.number == 4) {
			pb_text(f.sub, o.type, sizeof o.type);
		} else if (f.number == 5 && o.n_attr < ONNX_ATTRS) {
			struct onnx_attr *a = &o.attr[o.n_attr++];
			for (struct pb q = f.sub; pb_next(r, &q, &g);) {
				if (g.number == 1)
					pb_text(g.sub, a->name, sizeof a->name);
				else if (g.number == 2)
					memcpy(&a->f, g.sub.at, 4);
				else if (g.number == 3)
					a->i = (int64_t)g.v;
				else if (g.number == 8 && a->n < 4)
					a->ints[a->n++] = (int64_t)g.v;
				else if (g.number != 20)
					onnx_fault(r, "attribute %s with a field %u", a->name, g.number);
			}
		} else if (f.number != 3) {
			onnx_fault(r, "node %s with a field %u", out, f.number);
		}
	}
	while (k < sizeof onnx_ops / sizeof *onnx_ops && strcmp(onnx_ops[k].type, o.type))
		k++;
	if (k == sizeof onnx_ops / sizeof *onnx_ops || o.n_in < onnx_ops[k].inputs || !out[0])
		onnx_fault(r, "%s: operator %s of %d inputs", out, o.type, o.n_in);
	struct onnx_value *y = onnx_add(r, out);
	if (!r->fault[0])
		onnx_ops[k].run(r, &o, y);
}

/* ---- the whole ---- */

static void onnx_done(struct onnx_run *r)
{
	for (int i = 0; r->value && i < r->n_values; i++)
		free(r->value[i].f);
	free(r->value);
	r->value = NULL;
}

/* Computes the model on x: n images of (c,h,w). logits: n*classes. Errors are reported in r->fault. */
static void onnx_execute(struct onnx_run *r, const void *bytes, size_t len, const float *x, int n, int c, int h, int w,
                         int classes, float *logits)
{
	struct pb model = {bytes, (const uint8_t *)bytes + len}, graph = {0};
	struct field f, g;
	char surface[80], want[80];
	uint64_t ir = 0, opset = 0;
	*r = (struct onnx_run){.value = calloc(ONNX_VALUES, sizeof *r->value)};
	while (pb_next(r, &model, &f)) {
		if (f.number == 1)
			ir = f.v;
		for (struct pb p = f.sub; f.number == 8 && pb_next(r, &p, &g);)
			opset = g.number == 2 ? g.v : opset;
		for (struct pb p = f.sub; f.number == 14 && pb_next(r, &p, &g);)
			snprintf(r->meta + strlen(r->meta), sizeof r->meta - strlen(r->meta), g.number == 1 ? "%.*s=" : "%.*s\n",
			         (int)(g.sub.end - g.sub.at), (const char *)g.sub.at);
		if (f.number == 7)
			graph = f.sub;
	}
	if (ir != 7 || opset != 13)
		onnx_fault(r, "IR version %d, opset %d", (int)ir, (int)opset);
	struct onnx_value *in = onnx_add(r, "input");
	onnx_shape(in, 4, n, c, h, w);
	memcpy(in->f, x, 4 * onnx_count(in));
	while (pb_next(r, &graph, &f)) {
		if (f.number == 1 && r->n_nodes < ONNX_VALUES) {
			r->nodes[r->n_nodes++] = f.sub;
		} else if (f.number == 5) {
			read_constant(r, f.sub);
		} else if (f.number == 11 || f.number == 12) {
			read_surface(r, f.sub, surface);
			snprintf(want, sizeof want, f.number == 11 ? "input: N %d %d %d" : "logits: N %d",
			         f.number == 11 ? c : classes, h, w);
			if (strcmp(surface, want))
				onnx_fault(r, "surface \"%s\", want \"%s\"", surface, want);
		}
	}
	for (int i = 0; i < r->n_nodes && !r->fault[0]; i++)
		run_node(r, r->nodes[i]);
	for (int i = 0; i < r->n_values; i++)
		if (!r->value[i].used && strcmp(r->value[i].name, "logits"))
			onnx_fault(r, "%s is read by nobody", r->value[i].name);
	const struct onnx_value *y = onnx_find(r, "logits");
	if (!y || y->n_dims != 2 || y->dims[0] != n || y->dims[1] != classes || !y->f)
		onnx_fault(r, "no logits of %d x %d", n, classes);
	if (!r->fault[0])
		memcpy(logits, y->f, 4 * (size_t)n * (size_t)classes);
}

#endif
