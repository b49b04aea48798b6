/* convert/onnx.c - exports one mode of a checkpoint as an ONNX model.
 *
 * It exports the bundle that a deployment computes with: batch normalisation is folded into the convolutions and DOM's
 * dead taps are cut off. So a shadow kernel becomes a 2x3 or 2x2 convolution with its own padding, and saves
 * multiply-adds in ONNX too. Every layer writes its own operators (struct layer's `onnx`); this file provides the
 * names, the constants and the enclosing model.
 *
 * An int8 mode is exported in QDQ form: 8-bit weights and 32-bit biases behind DequantizeLinear, and a QuantizeLinear
 * and DequantizeLinear behind every value that is stored in 8 bits. A runtime that knows the form computes in integers;
 * rounding may differ from ours in the last place. A bias is rounded to sx sw, which ours is not.
 *
 * Field numbers are from onnx.proto, a protocol buffer definition; opset 13 (2021), IR version 7. */
#include "layers/onnx.h"
#include "convert/protobuf.h"
#include "graph/plan.h"
#include "infer/bundle.h"
#include "train/checkpoint.h"
#include "wasd/convert.h"

#include <math.h>
#include <stdio.h>

#define OPSET 13
#define IR_VERSION 7
#define SIZE_LIMIT ((size_t)INT32_MAX) /* maximal size of a protocol buffer */

enum {
	MODEL_IR = 1,
	MODEL_PRODUCER = 2,
	MODEL_PRODUCER_VERSION = 3,
	MODEL_GRAPH = 7,
	MODEL_OPSET = 8,
	MODEL_METADATA = 14
};
enum { GRAPH_NODE = 1, GRAPH_NAME = 2, GRAPH_INITIALIZER = 5, GRAPH_INPUT = 11, GRAPH_OUTPUT = 12 };
enum { NODE_INPUT = 1, NODE_OUTPUT = 2, NODE_NAME = 3, NODE_OP = 4, NODE_ATTRIBUTE = 5 };
enum {
	ATTR_NAME = 1,
	ATTR_F = 2,
	ATTR_I = 3,
	ATTR_INTS = 8,
	ATTR_TYPE = 20,
	ATTR_IS_FLOAT = 1,
	ATTR_IS_INT = 2,
	ATTR_IS_INTS = 7
};
enum {
	TENSOR_DIMS = 1,
	TENSOR_TYPE = 2,
	TENSOR_NAME = 8,
	TENSOR_RAW = 9,
	TENSOR_FLOAT = 1,
	TENSOR_UINT8 = 2,
	TENSOR_INT8 = 3,
	TENSOR_INT32 = 6,
	TENSOR_INT64 = 7
};

struct name {
	struct name *next;
	char text[];
};
struct value {
	const char *name;
	bool flat;
};

struct onnx {
	const struct wasd_model *model;
	const struct wasd_graph *graph;
	struct value *value;            /* per node */
	const struct wasd_quant *quant; /* NULL: a float mode */
	bool *stored;                   /* per node, of an int8 mode: its value is kept in the type that quant says */
	struct name *names;
	wasd_node at;                          /* the node being written */
	char stem[80];                         /* prefix for the names of its values */
	struct wasd_buf nodes, constants;      /* fields of the graph */
	struct wasd_buf op, attr, tensor, raw; /* under construction */
	const char *op_type;
	bool failed; /* no memory for a name */
};

/* ---- names ---------------------------------------------------------------------------------------------- */

static const char *keep(struct onnx *o, char *text)
{
	size_t n = text ? strlen(text) : 0;
	struct name *k = text ? wasd_malloc(sizeof *k + n + 1) : NULL;
	o->failed |= !k;
	if (k) {
		memcpy(k->text, text, n + 1);
		k->next = o->names;
		o->names = k;
	}
	wasd_free(text);
	return k ? k->text : "";
}

static const char *name_of(struct onnx *o, const char *suffix)
{
	return keep(o, *suffix ? wasd_asprintf("%s.%s", o->stem, suffix) : wasd_strdup(o->stem));
}

/* Uses a node's name, or else its operation and index. The slash keeps values apart from parameters, "input" and
 * "logits". */
static void set_stem(struct onnx *o, wasd_node i, const struct node *n)
{
	o->at = i;
	if (*n->name)
		snprintf(o->stem, sizeof o->stem, "/%.70s", n->name);
	else
		snprintf(o->stem, sizeof o->stem, "/%.60s/%d", n->layer->op, i);
}

/* ---- constants ------------------------------------------------------------------------------------------- */

static const char *put_tensor(struct onnx *o, const char *name, int type, const int64_t *dims, int n_dims)
{
	for (int i = 0; i < n_dims; i++)
		pb_int(&o->tensor, TENSOR_DIMS, dims[i]);
	pb_int(&o->tensor, TENSOR_TYPE, type);
	pb_string(&o->tensor, TENSOR_NAME, name);
	/* Writes the bytes directly to their place, because there may be a hundred megabytes of them. */
	size_t inner = o->tensor.len + pb_varint_size(TENSOR_RAW << 3) + pb_varint_size(o->raw.len) + o->raw.len;
	pb_head(&o->constants, GRAPH_INITIALIZER, inner);
	wasd_buf_append(&o->constants, o->tensor.data, o->tensor.len);
	pb_bytes(&o->constants, TENSOR_RAW, o->raw.data, o->raw.len);
	o->constants.failed |= o->tensor.failed || o->raw.failed;
	o->tensor.len = o->raw.len = 0;
	return name;
}

static void raw_reals(struct onnx *o, const real *v, size_t n)
{
	if (sizeof(real) == sizeof(float)) {
		wasd_buf_append(&o->raw, v, n * sizeof *v);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		float f = (float)v[i];
		wasd_buf_append(&o->raw, &f, sizeof f);
	}
}

static const char *put_eighths(struct onnx *o, int param);

const char *onnx_param(struct onnx *o, int param)
{
	if (param < 0)
		return NULL;
	if (o->quant && o->quant->conv[o->at].on)
		return put_eighths(o, param);
	struct wasd_param_info p = wasd_graph_param_info(o->graph, param);
	int64_t dims[4];
	for (int i = 0; i < p.ndims; i++)
		dims[i] = p.dims[i];
	raw_reals(o, o->model->master + p.offset, p.count);
	return put_tensor(o, p.name, TENSOR_FLOAT, dims, p.ndims);
}

static const char *put_stats(struct onnx *o, const char *suffix, const struct node *n, size_t offset)
{
	raw_reals(o, o->model->stats[WASD_STATS_AOM] + offset,
	          (size_t)n->shape.c); /* where a bundle keeps the statistics of its mode */
	return put_tensor(o, name_of(o, suffix), TENSOR_FLOAT, (int64_t[]){n->shape.c}, 1);
}

const char *onnx_mean(struct onnx *o, const struct node *n)
{
	return put_stats(o, "running_mean", n, wasd_graph_stats_info(o->graph, n->stats).mean_offset);
}

const char *onnx_variance(struct onnx *o, const struct node *n)
{
	return put_stats(o, "running_var", n, wasd_graph_stats_info(o->graph, n->stats).var_offset);
}

const char *onnx_ints(struct onnx *o, const char *suffix, const int64_t *v, int n)
{
	wasd_buf_append(&o->raw, v, (size_t)n * sizeof *v);
	return put_tensor(o, name_of(o, suffix), TENSOR_INT64, (int64_t[]){n}, 1);
}

const char *onnx_filled(struct onnx *o, const char *suffix, const int64_t *dims, int n_dims, size_t count, double v)
{
	const real r = (real)v;
	for (size_t i = 0; i < count; i++)
		raw_reals(o, &r, 1);
	return put_tensor(o, name_of(o, suffix), TENSOR_FLOAT, dims, n_dims);
}

const char *onnx_number(struct onnx *o, const char *suffix, double v)
{
	const real r = (real)v;
	raw_reals(o, &r, 1);
	return put_tensor(o, name_of(o, suffix), TENSOR_FLOAT, NULL, 0);
}

/* ---- operators ------------------------------------------------------------------------------------------- */

void onnx_begin(struct onnx *o, const char *op)
{
	o->op_type = op;
}

void onnx_in(struct onnx *o, const char *value)
{
	if (value)
		pb_string(&o->op, NODE_INPUT, value);
}

static void put_attr(struct onnx *o, int type)
{
	pb_int(&o->attr, ATTR_TYPE, type);
	pb_message(&o->op, NODE_ATTRIBUTE, &o->attr);
}

void onnx_attr_int(struct onnx *o, const char *name, int64_t v)
{
	pb_string(&o->attr, ATTR_NAME, name);
	pb_int(&o->attr, ATTR_I, v);
	put_attr(o, ATTR_IS_INT);
}

void onnx_attr_ints(struct onnx *o, const char *name, const int64_t *v, int n)
{
	pb_string(&o->attr, ATTR_NAME, name);
	for (int i = 0; i < n; i++)
		pb_int(&o->attr, ATTR_INTS, v[i]);
	put_attr(o, ATTR_IS_INTS);
}

void onnx_attr_float(struct onnx *o, const char *name, double v)
{
	pb_string(&o->attr, ATTR_NAME, name);
	pb_float(&o->attr, ATTR_F, (float)v);
	put_attr(o, ATTR_IS_FLOAT);
}

/* Ends the current operator, whose output is the value `name`. */
static const char *end_as(struct onnx *o, const char *name)
{
	pb_string(&o->op, NODE_OUTPUT, name);
	pb_string(&o->op, NODE_NAME, name);
	pb_string(&o->op, NODE_OP, o->op_type);
	pb_message(&o->nodes, GRAPH_NODE, &o->op);
	return name;
}

const char *onnx_end(struct onnx *o, const char *suffix, bool flat)
{
	const char *name = end_as(o, name_of(o, suffix));
	if (!*suffix)
		o->value[o->at] = (struct value){name, flat};
	return name;
}

const char *onnx_value(struct onnx *o, int k, bool *flat)
{
	const struct value *v = &o->value[o->graph->nodes[o->at].inputs[k]];
	*flat = v->flat;
	return v->name;
}

/* Input k behind a change of form. Created again for each reader; it costs nothing. */
static const char *reformed(struct onnx *o, int k, const char *value, const char *op, const char *what)
{
	char suffix[40];
	snprintf(suffix, sizeof suffix, "%s%d", what, k);
	bool flatten = !strcmp(op, "Flatten");
	const char *axes = flatten ? NULL : onnx_ints(o, "axes", (int64_t[]){2, 3}, 2);
	onnx_begin(o, op);
	onnx_in(o, value);
	onnx_in(o, axes);
	if (flatten)
		onnx_attr_int(o, "axis", 1);
	return end_as(o, name_of(o, suffix));
}

const char *onnx_maps(struct onnx *o, int k)
{
	bool flat;
	const char *v = onnx_value(o, k, &flat);
	return flat ? reformed(o, k, v, "Unsqueeze", "maps") : v;
}

const char *onnx_flat(struct onnx *o, int k)
{
	bool flat;
	const char *v = onnx_value(o, k, &flat);
	return flat ? v : reformed(o, k, v, "Flatten", "flat");
}

int onnx_channels(const struct onnx *o, int k)
{
	const struct node *nodes = o->graph->nodes;
	return nodes[nodes[o->at].inputs[k]].shape.c;
}

/* ---- the frame -------------------------------------------------------------------------------------------- */

/* An input or output of the graph: float32 (N,...), with N variable. */
static void put_surface(struct wasd_buf *graph, int field, const char *name, const int *dims, int n)
{
	struct wasd_buf dim = {0}, shape = {0}, tensor = {0}, type = {0}, info = {0};
	pb_string(&dim, 2, "N");
	pb_message(&shape, 1, &dim);
	for (int i = 0; i < n; i++) {
		pb_int(&dim, 1, dims[i]);
		pb_message(&shape, 1, &dim);
	}
	pb_int(&tensor, 1, TENSOR_FLOAT);
	pb_message(&tensor, 2, &shape);
	pb_message(&type, 1, &tensor);
	pb_string(&info, 1, name);
	pb_message(&info, 2, &type);
	pb_message(graph, (unsigned)field, &info);
	wasd_buf_done(&dim);
	wasd_buf_done(&shape);
	wasd_buf_done(&tensor);
	wasd_buf_done(&type);
	wasd_buf_done(&info);
}

/* ---- an int8 mode ----------------------------------------------------------------------------------------- */

static const char *put_scales(struct onnx *o, const char *suffix, const float *scale, int n, bool one)
{
	wasd_buf_append(&o->raw, scale, (size_t)n * sizeof *scale);
	return put_tensor(o, name_of(o, suffix), TENSOR_FLOAT, (int64_t[]){n}, !one);
}

/* x as float, from integers with a scale for each first index, or with one scale. */
static const char *dequantise(struct onnx *o, const char *suffix, const char *x, const char *scale, const char *zero,
                              bool per_channel)
{
	onnx_begin(o, "DequantizeLinear");
	onnx_in(o, x);
	onnx_in(o, scale);
	onnx_in(o, zero);
	if (per_channel)
		onnx_attr_int(o, "axis", 0);
	return end_as(o, name_of(o, suffix));
}

static const char *put_weights(struct onnx *o, const char *name, const int8_t *q, const int64_t *dims, int n_dims,
                               const float *scale, const char *of_scale, const char *as_float)
{
	size_t n = 1;
	for (int i = 0; i < n_dims; i++)
		n *= (size_t)dims[i];
	wasd_buf_append(&o->raw, q, n);
	put_tensor(o, name, TENSOR_INT8, dims, n_dims);
	return dequantise(o, as_float, name, put_scales(o, of_scale, scale, (int)dims[0], false), NULL, true);
}

/* In units of sx sw, to the nearest even. */
static const char *put_bias(struct onnx *o, const struct wasd_param_info *p)
{
	const struct wasd_quant_conv *c = &o->quant->conv[o->at];
	double sx = (double)o->quant->tensor[o->graph->nodes[o->at].inputs[0]].scale;
	for (size_t i = 0; i < p->count; i++) {
		float unit = (float)(sx * (double)c->scale[i]);
		double v = nearbyint((double)o->model->master[p->offset + i] / (double)unit);
		int32_t q = (int32_t)fmax(INT32_MIN, fmin(INT32_MAX, v));
		wasd_buf_append(&o->raw, &q, sizeof q);
	}
	put_tensor(o, p->name, TENSOR_INT32, (int64_t[]){(int64_t)p->count}, 1);
	for (size_t i = 0; i < p->count; i++) {
		float unit = (float)(sx * (double)c->scale[i]);
		wasd_buf_append(&o->raw, &unit, sizeof unit);
	}
	const char *scale = put_tensor(o, name_of(o, "bias_scale"), TENSOR_FLOAT, (int64_t[]){(int64_t)p->count}, 1);
	return dequantise(o, "bias_float", p->name, scale, NULL, true);
}

/* The weights or the bias of a layer in 8 bits. */
static const char *put_eighths(struct onnx *o, int param)
{
	struct wasd_param_info p = wasd_graph_param_info(o->graph, param);
	const struct wasd_quant_conv *c = &o->quant->conv[o->at];
	if (param != o->graph->nodes[o->at].weight)
		return put_bias(o, &p);
	int64_t dims[4];
	for (int i = 0; i < p.ndims; i++)
		dims[i] = p.dims[i];
	return put_weights(o, p.name, c->w, dims, p.ndims, c->scale, "weight_scale", "weight_float");
}

/* Adds the 1x1 convolution by the coarse weights to what the layer's own operator has computed. */
static void put_coarse(struct onnx *o, const struct node *n)
{
	const struct wasd_quant_conv *c = &o->quant->conv[o->at];
	int64_t dims[] = {n->out, n->in.c / n->groups, 1, 1};
	const char *fine = o->value[o->at].name, *x = onnx_maps(o, 0);
	const char *w = put_weights(o, name_of(o, "coarse_weight"), c->coarse, dims, 4, c->coarse_scale, "coarse_scale",
	                            "coarse_float");
	onnx_begin(o, "Conv");
	onnx_in(o, x);
	onnx_in(o, w);
	onnx_attr_ints(o, "kernel_shape", (int64_t[]){1, 1}, 2);
	onnx_attr_ints(o, "strides", (int64_t[]){n->stride, n->stride}, 2);
	onnx_attr_int(o, "group", n->groups);
	const char *coarse = end_as(o, name_of(o, "coarse"));
	onnx_begin(o, "Add");
	onnx_in(o, fine);
	onnx_in(o, coarse);
	o->value[o->at].name = end_as(o, name_of(o, "both"));
}

/* Rounds the node's value to its type. */
static void put_rounding(struct onnx *o)
{
	const struct wasd_quant_tensor *t = &o->quant->tensor[o->at];
	struct value *v = &o->value[o->at];
	const char *scale = put_scales(o, "scale", &t->scale, 1, true);
	wasd_buf_append(&o->raw, "", 1); /* one byte 0 */
	const char *zero = put_tensor(o, name_of(o, "zero"), t->type == WASD_QUANT_U8 ? TENSOR_UINT8 : TENSOR_INT8, NULL,
	                              0);
	onnx_begin(o, "QuantizeLinear");
	onnx_in(o, v->name);
	onnx_in(o, scale);
	onnx_in(o, zero);
	const char *q = end_as(o, name_of(o, "quantized"));
	v->name = dequantise(o, "rounded", q, scale, zero, false);
}

static void put_quantised(struct onnx *o, const struct node *n)
{
	if (!o->quant)
		return;
	if (o->quant->conv[o->at].on && o->quant->conv[o->at].coarse)
		put_coarse(o, n);
	if (o->stored[o->at] && o->quant->tensor[o->at].type != WASD_QUANT_F32)
		put_rounding(o);
}

/* What follows a layer as its only reader is computed with it, so that only the last value of a chain is stored. */
static enum wasd_status find_stored(struct onnx *o, struct wasd_err *err)
{
	size_t n = (size_t)o->graph->n_nodes;
	wasd_node *tail = wasd_calloc(n, sizeof *tail), *residual = wasd_calloc(n, sizeof *residual);
	bool *inner = wasd_calloc(n, sizeof *inner);
	o->stored = wasd_calloc(n, sizeof *o->stored);
	bool ok = tail && residual && inner && o->stored && plan_chains(o->graph, tail, residual, inner);
	for (size_t i = 0; ok && i < n; i++)
		o->stored[tail[i]] |= !inner[i];
	wasd_free(tail);
	wasd_free(residual);
	wasd_free(inner);
	return ok ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "ONNX model");
}

static void put_property(struct wasd_buf *model, const char *key, const char *value)
{
	struct wasd_buf entry = {0};
	pb_string(&entry, 1, key);
	pb_string(&entry, 2, value);
	pb_message(model, MODEL_METADATA, &entry);
	wasd_buf_done(&entry);
}

static enum wasd_status put_nodes(struct onnx *o, struct wasd_err *err)
{
	for (wasd_node i = 0; i <= o->graph->output; i++) {
		const struct node *n = &o->graph->nodes[i];
		set_stem(o, i, n);
		if (!n->n_in) {
			o->value[i] = (struct value){"input", false};
			put_quantised(o, n);
			continue;
		}
		if (!n->layer->onnx)
			return wasd_fail(err, WASD_EUNSUPPORTED, "%s: layers of type %s cannot be exported to ONNX", o->stem,
			                 n->layer->op);
		n->layer->onnx(o, n);
		put_quantised(o, n);
	}
	const struct value *last = &o->value[o->graph->output];
	onnx_begin(o, last->flat ? "Identity" : "Flatten");
	onnx_in(o, last->name);
	if (!last->flat)
		onnx_attr_int(o, "axis", 1);
	end_as(o, "logits");
	return WASD_OK;
}

static enum wasd_status put_model(struct onnx *o, const struct wasd_bundle *b, struct wasd_buf *out,
                                  struct wasd_err *err)
{
	struct wasd_shape in = wasd_bundle_shape(b);
	struct wasd_buf surface = {0}, opset = {0}, graph_name = {0};
	const cJSON *recipe = bundle_recipe(b, &mode_draw);
	char mode[WASD_MODE_LEN], *classes = wasd_json_print(bundle_class_names(b)),
							  *draw = recipe ? wasd_json_print(recipe) : wasd_strdup("null"),
							  *pixels = wasd_pixels_rule(wasd_bundle_pixels(b), in.c);
	/* Of a member its family, as ever: which it is, its recipe says. */
	snprintf(mode, sizeof mode, "%.*s", (int)strcspn(wasd_bundle_mode(b), ":"), wasd_bundle_mode(b));
	pb_string(&graph_name, GRAPH_NAME, wasd_bundle_arch(b));
	put_surface(&surface, GRAPH_INPUT, "input", (int[]){in.c, in.h, in.w}, 3);
	put_surface(&surface, GRAPH_OUTPUT, "logits", (int[]){wasd_bundle_classes(b)}, 1);
	size_t graph = o->nodes.len + o->constants.len + surface.len + graph_name.len;
	bool ok = classes && draw && pixels && !o->failed && !o->nodes.failed && !o->constants.failed && !o->op.failed &&
	          !o->attr.failed && !surface.failed && !graph_name.failed;
	if (ok && graph < SIZE_LIMIT) {
		pb_int(out, MODEL_IR, IR_VERSION);
		pb_string(out, MODEL_PRODUCER, "wasd");
		pb_string(out, MODEL_PRODUCER_VERSION, WASD_VERSION);
		pb_int(&opset, 2, OPSET);
		pb_message(out, MODEL_OPSET, &opset);
		put_property(out, "mode", mode);
		put_property(out, "classes", classes);
		put_property(out, "draw", draw);
		put_property(out, "pixels", pixels);
		pb_head(out, MODEL_GRAPH, graph);
		wasd_buf_append(out, graph_name.data, graph_name.len);
		wasd_buf_append(out, o->nodes.data, o->nodes.len);
		wasd_buf_append(out, o->constants.data, o->constants.len);
		wasd_buf_append(out, surface.data, surface.len);
	}
	wasd_buf_done(&surface);
	wasd_buf_done(&opset);
	wasd_buf_done(&graph_name);
	wasd_free(classes);
	wasd_free(draw);
	wasd_free(pixels);
	if (!ok || out->failed)
		return wasd_fail(err, WASD_ENOMEM, "ONNX model");
	return graph < SIZE_LIMIT ?
	           WASD_OK :
	           wasd_fail(err, WASD_ETOOBIG, "the ONNX file would have %zu bytes; at most %zu are possible", graph,
	                     SIZE_LIMIT);
}

enum wasd_status wasd_export_onnx(const struct wasd_mode_source *from, void **out, size_t *out_len,
                                  struct wasd_err *err)
{
	struct wasd_bundle *b = NULL;
	struct onnx o = {0};
	struct wasd_buf model = {0};
	enum wasd_status s = wasd_bundle_create(from, &b, err);
	if (s)
		return s;
	int parts = wasd_bundle_parts(b);
	if (parts) {
		wasd_bundle_unref(b);
		return wasd_fail(err, WASD_EUNSUPPORTED,
		                 "mode %s chooses among %d networks for each image: export the modes that it chooses among",
		                 from->name, parts);
	}
	o.model = bundle_model(b);
	o.graph = wasd_model_graph(o.model);
	o.value = wasd_calloc((size_t)wasd_graph_nodes(o.graph), sizeof *o.value);
	o.quant = bundle_quant(b);
	s = o.value ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "ONNX model");
	if (!s && o.quant)
		s = find_stored(&o, err);
	if (!s)
		s = put_nodes(&o, err);
	if (!s)
		s = put_model(&o, b, &model, err);
	if (!s) {
		*out = model.data;
		*out_len = model.len;
		model = (struct wasd_buf){0};
	}
	for (struct name *n; (n = o.names);) {
		o.names = n->next;
		wasd_free(n);
	}
	wasd_buf_done(&o.nodes);
	wasd_buf_done(&o.constants);
	wasd_buf_done(&o.op);
	wasd_buf_done(&o.attr);
	wasd_buf_done(&o.tensor);
	wasd_buf_done(&o.raw);
	wasd_buf_done(&model);
	wasd_free(o.value);
	wasd_free(o.stored);
	wasd_bundle_unref(b);
	return s;
}
