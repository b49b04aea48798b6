/* convert/contents.c - says what the weights in a checkpoint are: how many of each layer are alive, and the kernels of
 * one layer. A weight is dead if a strategy's mask says so, or, where no mask covers it, if it is exactly zero. */
#include "train/checkpoint.h"
#include "wasd/alive.h"
#include "wasd/convert.h"
#include "wasd/protocol.h"
#include "wasd/slim.h"
#include "weights/layers.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MASKS = 8, ONE_TAP = 32, KERNELS = 64, KERNEL_INPUTS = 8 };

/* The weights of one layer and the masks over them, all borrowed from the file. */
struct layer_weights {
	struct wasd_node_info node;
	struct wasd_param_info param;
	struct wasd_st_tensor values;
	const uint8_t *mask[MASKS];
	char strategy[MASKS][40];
	int masks;
};

static double value_of(const struct layer_weights *l, size_t i)
{
	float f;
	double v;
	if (l->values.dtype == WASD_F64) {
		memcpy(&v, (const char *)l->values.data + 8 * i, sizeof v);
		return v;
	}
	memcpy(&f, (const char *)l->values.data + 4 * i, sizeof f);
	return f;
}

static bool lives(const struct layer_weights *l, size_t i)
{
	for (int m = 0; m < l->masks; m++)
		if (!(l->mask[m][i / 8] >> i % 8 & 1))
			return false;
	return l->masks || value_of(l, i) != 0;
}

/* Whether t is a mask over the layer's weights: weights.STRATEGY.PARAMETER, eight weights to a byte. */
static bool take_mask(const struct wasd_st_tensor *t, struct layer_weights *l)
{
	if (t->dtype != WASD_U8 || strncmp(t->name, "weights.", 8))
		return false;
	const char *strategy = t->name + 8, *dot = strchr(strategy, '.');
	if (!dot || strcmp(dot + 1, l->param.name) || t->count != (l->param.count + 7) / 8 || l->masks == MASKS)
		return false;
	snprintf(l->strategy[l->masks], sizeof l->strategy[0], "%.*s", (int)(dot - strategy), strategy);
	l->mask[l->masks++] = t->data;
	return true;
}

/* Finds the weights of a node that has some. */
static enum wasd_status find_weights(const struct checkpoint *c, const struct wasd_graph *g, wasd_node n,
                                     struct layer_weights *out, struct wasd_err *err)
{
	struct layer_weights l = {.node = wasd_graph_node_info(g, n)};
	l.param = wasd_graph_param_info(g, l.node.weight);
	enum wasd_status s = checkpoint_param(c, g, l.node.weight, &l.values, err);
	if (s)
		return s;
	bool same = (l.values.dtype == WASD_F32 || l.values.dtype == WASD_F64) && l.values.ndims == l.param.ndims;
	for (int d = 0; same && d < l.param.ndims; d++)
		same = l.values.dims[d] == (size_t)l.param.dims[d];
	if (!same)
		return wasd_fail_at(err, WASD_ECORRUPT, l.param.name, "%.120s: not of the shape that a %.40s has", l.param.name,
		                    c->arch);
	for (size_t i = 0; i < wasd_st_count(c->st); i++)
		take_mask(wasd_st_at(c->st, i), &l);
	*out = l;
	return WASD_OK;
}

static cJSON *shape_of(const struct wasd_param_info *p)
{
	return cJSON_CreateIntArray(p->dims, p->ndims);
}

static cJSON *masks_of(const struct layer_weights *l)
{
	const char *names[MASKS];
	for (int m = 0; m < l->masks; m++)
		names[m] = l->strategy[m];
	return cJSON_CreateStringArray(names, l->masks);
}

/* ---- every layer ------------------------------------------------------------------------------------------ */

struct totals {
	size_t weights, alive, zeros;
};

static double share(size_t part, size_t of)
{
	return of ? (double)part / (double)of : 0;
}

static cJSON *count(const struct layer_weights *l, struct totals *sum)
{
	size_t alive = 0, zeros = 0, n = l->param.count;
	for (size_t i = 0; i < n; i++) {
		alive += lives(l, i);
		zeros += value_of(l, i) == 0;
	}
	sum->weights += n;
	sum->alive += alive;
	sum->zeros += zeros;
	return wasd_message(NULL, "name:s op:s shape:j params:i weights:i alive:i share:d zeros:i masks:j", l->node.name,
	                    l->node.op, shape_of(&l->param), (int64_t)l->node.params, (int64_t)n, (int64_t)alive,
	                    share(alive, n), (int64_t)zeros, masks_of(l));
}

static enum wasd_status list_layers(const struct checkpoint *c, const struct wasd_graph *g, cJSON *list,
                                    struct totals *sum, struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	struct layer_weights l;
	for (wasd_node n = 0; n < wasd_graph_nodes(g) && !s; n++) {
		if (!layers_has_weights(g, n) || (s = find_weights(c, g, n, &l, err)))
			continue;
		cJSON *row = count(&l, sum);
		if (row && cJSON_AddItemToArray(list, row))
			continue;
		cJSON_Delete(row);
		s = wasd_fail(err, WASD_ENOMEM, "no memory for the layers of a checkpoint");
	}
	return s;
}

/* Opens a checkpoint with its graph. Both must be released, also after a failure. */
static enum wasd_status open_both(const void *bytes, size_t len, struct checkpoint *c, struct wasd_graph **g,
                                  struct wasd_err *err)
{
	enum wasd_status s = checkpoint_open(bytes, len, c, err);
	if (!s)
		s = checkpoint_graph(c, g, err);
	return s ? s : checkpoint_check_names(c, *g, err);
}

/* How many values of an image a layer reads, found by the weights alone. */
static enum wasd_status count_read(const struct checkpoint *c, const struct wasd_graph *g, int64_t *read,
                                   struct wasd_err *err)
{
	size_t nodes = (size_t)wasd_graph_nodes(g), values = wasd_shape_count(wasd_graph_input_shape(g));
	real *weights = wasd_calloc(wasd_graph_param_count(g), sizeof *weights);
	const uint8_t **alive = wasd_calloc(nodes, sizeof *alive);
	uint8_t *used = wasd_calloc(values, 1);
	struct wasd_alive *a = NULL;
	enum wasd_status s = weights && alive && used ?
	                         checkpoint_load_params(c, g, "", weights, err) :
	                         wasd_fail(err, WASD_ENOMEM, "no memory for the weights of a checkpoint");
	if (!s)
		s = wasd_alive_create(g, weights, NULL, &a, err);
	for (size_t i = 0; !s && i < nodes; i++)
		alive[i] = wasd_alive_of(a, (wasd_node)i);
	if (!s)
		wasd_slim_input(g, alive, used);
	*read = 0;
	for (size_t i = 0; !s && i < values; i++)
		*read += used[i];
	wasd_alive_destroy(a);
	wasd_free(used);
	wasd_free(alive);
	wasd_free(weights);
	return s;
}

enum wasd_status wasd_checkpoint_layers(const void *bytes, size_t len, cJSON **out, struct wasd_err *err)
{
	struct checkpoint c = {0};
	struct wasd_graph *g = NULL;
	struct totals sum = {0};
	int64_t read;
	cJSON *list = cJSON_CreateArray();
	enum wasd_status s = list ? open_both(bytes, len, &c, &g, err) :
	                            wasd_fail(err, WASD_ENOMEM, "no memory for the layers of a checkpoint");
	if (!s)
		s = list_layers(&c, g, list, &sum, err);
	if (!s)
		s = count_read(&c, g, &read, err);
	if (!s) {
		*out = wasd_message(NULL, "arch:s params:i weights:i alive:i share:d zeros:i inputs:i read:i layers:j", c.arch,
		                    (int64_t)wasd_graph_param_count(g), (int64_t)sum.weights, (int64_t)sum.alive,
		                    share(sum.alive, sum.weights), (int64_t)sum.zeros,
		                    (int64_t)wasd_shape_count(wasd_graph_input_shape(g)), read, list);
		list = NULL;
		if (!*out)
			s = wasd_fail(err, WASD_ENOMEM, "no memory for the layers of a checkpoint");
	}
	cJSON_Delete(list);
	wasd_graph_destroy(g);
	checkpoint_done(&c);
	return s;
}

/* ---- the kernels of one layer ------------------------------------------------------------------------------ */

/* Outputs, inputs and taps of a kernel; a linear layer has one tap. */
struct extents {
	size_t outs, ins, taps;
};

static struct extents extents_of(const struct wasd_param_info *p)
{
	struct extents e = {(size_t)p->dims[0], p->ndims > 1 ? (size_t)p->dims[1] : 1, 1};
	for (int d = 2; d < p->ndims; d++)
		e.taps *= (size_t)p->dims[d];
	return e;
}

/* Fills in what the caller left to this function, and cuts the window to the layer. */
static enum wasd_status fit(const struct extents *e, const char *layer, struct wasd_kernels *k, struct wasd_err *err)
{
	if (k->output >= e->outs)
		return wasd_fail_at(err, WASD_EINVAL, "/output", "layer %.60s has outputs 0 to %zu", layer, e->outs - 1);
	if (k->input >= e->ins)
		return wasd_fail_at(err, WASD_EINVAL, "/input", "layer %.60s has inputs 0 to %zu", layer, e->ins - 1);
	size_t ins = e->ins - k->input, outs = e->outs - k->output;
	size_t usual = e->taps > 1 ? KERNEL_INPUTS : ONE_TAP;
	k->inputs = k->inputs ? k->inputs : usual;
	k->inputs = k->inputs < ins ? k->inputs : ins;
	k->outputs = k->outputs ? k->outputs : e->taps > 1 ? KERNELS / k->inputs + !(KERNELS / k->inputs) : ONE_TAP;
	k->outputs = k->outputs < outs ? k->outputs : outs;
	if (k->outputs > WASD_KERNEL_VALUES || k->inputs > WASD_KERNEL_VALUES ||
	    k->outputs * k->inputs > WASD_KERNEL_VALUES / e->taps)
		return wasd_fail_at(err, WASD_EINVAL, "/outputs",
		                    "%zu kernels of %zu weights are more than the %d weights that one answer may have; ask for "
		                    "fewer outputs or inputs",
		                    k->outputs * k->inputs, e->taps, WASD_KERNEL_VALUES);
	return WASD_OK;
}

/* Four significant digits are enough to be drawn. */
static cJSON *number(double v)
{
	char text[32];
	snprintf(text, sizeof text, "%.4g", v);
	return cJSON_CreateNumber(strtod(text, NULL));
}

static enum wasd_status list_kernels(const struct layer_weights *l, const struct extents *e,
                                     const struct wasd_kernels *k, cJSON *list, struct wasd_err *err)
{
	for (size_t o = k->output; o < k->output + k->outputs; o++)
		for (size_t t = k->input * e->taps; t < (k->input + k->inputs) * e->taps; t++) {
			size_t i = o * e->ins * e->taps + t;
			double v = value_of(l, i);
			if (!isfinite(v))
				return wasd_fail_at(err, WASD_ECORRUPT, l->param.name, "%.120s: element %zu is %g", l->param.name, i,
				                    v);
			cJSON *item = lives(l, i) ? number(v) : cJSON_CreateNull();
			if (!item || !cJSON_AddItemToArray(list, item)) {
				cJSON_Delete(item);
				return wasd_fail(err, WASD_ENOMEM, "no memory for the kernels of a layer");
			}
		}
	return WASD_OK;
}

static enum wasd_status find_layer(const struct checkpoint *c, const struct wasd_graph *g, const char *name,
                                   struct layer_weights *out, struct wasd_err *err)
{
	for (wasd_node n = 0; n < wasd_graph_nodes(g); n++)
		if (layers_has_weights(g, n) && !strcmp(wasd_graph_node_info(g, n).name, name))
			return find_weights(c, g, n, out, err);
	return wasd_fail_at(err, WASD_ENOTFOUND, "/layer", "a %.40s has no layer %.80s with weights", c->arch, name);
}

enum wasd_status wasd_checkpoint_kernels(const void *bytes, size_t len, const struct wasd_kernels *which, cJSON **out,
                                         struct wasd_err *err)
{
	struct checkpoint c = {0};
	struct wasd_graph *g = NULL;
	struct layer_weights l;
	struct wasd_kernels k = *which;
	struct extents e = {0};
	cJSON *list = cJSON_CreateArray();
	enum wasd_status s = list ? open_both(bytes, len, &c, &g, err) :
	                            wasd_fail(err, WASD_ENOMEM, "no memory for the kernels of a layer");
	if (!s)
		s = find_layer(&c, g, k.layer, &l, err);
	if (!s) {
		e = extents_of(&l.param);
		s = fit(&e, k.layer, &k, err);
	}
	if (!s)
		s = list_kernels(&l, &e, &k, list, err);
	if (!s) {
		*out = wasd_message(NULL, "name:s op:s shape:j masks:j output:i outputs:i input:i inputs:i weights:j", k.layer,
		                    l.node.op, shape_of(&l.param), masks_of(&l), (int64_t)k.output, (int64_t)k.outputs,
		                    (int64_t)k.input, (int64_t)k.inputs, list);
		list = NULL;
		if (!*out)
			s = wasd_fail(err, WASD_ENOMEM, "no memory for the kernels of a layer");
	}
	cJSON_Delete(list);
	wasd_graph_destroy(g);
	checkpoint_done(&c);
	return s;
}
