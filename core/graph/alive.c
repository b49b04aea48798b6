/* graph/alive.c - the channels that matter to the logits. See alive.h. */
#include "wasd/alive.h"

#include "graph/graph.h"

#include <limits.h>
#include <math.h>
#include <string.h>

/* All channels of all nodes are numbered: those of node n begin at first[n]. */
struct wasd_alive {
	const struct wasd_graph *g;
	size_t *first;
	int *unit; /* per channel; while the units are formed, a channel of the same unit with a lower number, or itself */
	int units;
	bool *fixed;    /* per unit */
	bool *used;     /* per unit */
	real *value;    /* per channel: what it is for every image and position; NaN: it varies, or is not known */
	uint8_t *alive; /* per channel */
};

/* ---- units ---------------------------------------------------------------------------------------------- */

static size_t channels_of(const struct wasd_graph *g)
{
	size_t n = 0;
	for (wasd_node i = 0; i < g->n_nodes; i++)
		n += (size_t)g->nodes[i].shape.c;
	return n;
}

static bool is_depthwise(const struct node *n)
{
	return n->groups > 1 && n->groups == n->in.c && n->groups == n->shape.c;
}

/* True for a convolution or linear layer whose outputs may read every input. */
static bool is_dense(const struct node *n)
{
	return n->layer->channels == LAYER_CHANNELS_WEIGHED && n->groups == 1;
}

static bool flattens_images(const struct node *n)
{
	return n->layer->channels == LAYER_CHANNELS_SPREAD && n->inputs[0] == 0;
}

static int root_of(int *unit, int c)
{
	while (unit[c] != c)
		c = unit[c] = unit[unit[c]];
	return c;
}

static void join(struct wasd_alive *a, size_t c, size_t d)
{
	int x = root_of(a->unit, (int)c), y = root_of(a->unit, (int)d);
	a->unit[x > y ? x : y] = x > y ? y : x;
}

/* Joins the channels of node n's output with those of its inputs that they depend on alone. */
static void join_inputs(struct wasd_alive *a, wasd_node i)
{
	const struct node *n = &a->g->nodes[i];
	size_t out = a->first[i];
	enum layer_channels kind = n->layer->channels;
	bool same = kind == LAYER_CHANNELS_SAME || kind == LAYER_CHANNELS_SCALED ||
	            (kind == LAYER_CHANNELS_WEIGHED && is_depthwise(n));
	for (int k = 0; k < n->n_in && i; k++) {
		size_t in = a->first[n->inputs[k]], count = (size_t)a->g->nodes[n->inputs[k]].shape.c;
		if (kind == LAYER_CHANNELS_SPREAD && !flattens_images(n)) {
			size_t each = (size_t)n->in.h * (size_t)n->in.w;
			for (size_t c = 0; c < count * each; c++)
				join(a, in + c / each, out + c);
		} else if (same || kind == LAYER_CHANNELS_STACKED) {
			for (size_t c = 0; c < count; c++)
				join(a, in + c, out + c);
			out += same ? 0 : count;
		}
	}
}

static void fix(struct wasd_alive *a, wasd_node n)
{
	for (size_t c = a->first[n]; c < a->first[n + 1]; c++)
		a->fixed[a->unit[c]] = true;
}

/* The images stay whole, and so does what an add joins with them. */
static void fix_added_to_images(struct wasd_alive *a)
{
	bool *images = a->used; /* per unit; update() sets it */
	for (wasd_node i = 0; i < a->g->n_nodes; i++)
		for (size_t c = a->first[i]; c < a->first[i + 1]; c++)
			images[a->unit[c]] |= i == 0 || flattens_images(&a->g->nodes[i]);
	for (wasd_node i = 1; i < a->g->n_nodes; i++) {
		const struct node *n = &a->g->nodes[i];
		bool adds = n->layer->channels == LAYER_CHANNELS_SAME && n->n_in > 1;
		for (size_t c = a->first[i]; adds && c < a->first[i + 1]; c++)
			a->fixed[a->unit[c]] |= images[a->unit[c]];
	}
}

static void fix_units(struct wasd_alive *a)
{
	fix(a, a->g->output);
	for (wasd_node i = 1; i < a->g->n_nodes; i++) {
		const struct node *n = &a->g->nodes[i];
		bool known = n->layer->channels == LAYER_CHANNELS_WEIGHED ? is_dense(n) || is_depthwise(n) :
		                                                            n->layer->channels != LAYER_CHANNELS_MIXED;
		if (known)
			continue;
		fix(a, i);
		for (int k = 0; k < n->n_in; k++)
			fix(a, n->inputs[k]);
	}
	fix_added_to_images(a);
}

/* Gives the units numbers in the order of their first channels. */
static void form_units(struct wasd_alive *a)
{
	size_t n = a->first[a->g->n_nodes];
	for (size_t c = 0; c < n; c++)
		a->unit[c] = (int)c;
	for (wasd_node i = 1; i < a->g->n_nodes; i++)
		join_inputs(a, i);
	for (size_t c = 0; c < n; c++)
		a->unit[c] = root_of(a->unit, (int)c);
	for (size_t c = 0; c < n; c++) /* a root comes before the others of its unit */
		a->unit[c] = a->unit[c] == (int)c ? a->units++ : a->unit[a->unit[c]];
}

/* ---- values --------------------------------------------------------------------------------------------- */

static bool all_zero(const real *w, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (w[i] != 0)
			return false;
	return true;
}

static const real *param_of(const struct wasd_alive *a, int p, const real *master)
{
	return p < 0 ? NULL : master + a->g->params[p].offset;
}

/* Weights per output channel and input channel of a convolution or linear layer. */
static size_t taps_of(const struct wasd_alive *a, const struct node *n)
{
	return a->g->params[n->weight].count / ((size_t)n->shape.c * (size_t)(n->in.c / n->groups));
}

/* The bias, if output o reads nothing that is not 0. */
static real weighed(const struct wasd_alive *a, const struct node *n, int o, const real *master)
{
	size_t taps = taps_of(a, n), in = (size_t)(n->in.c / n->groups);
	const real *w = param_of(a, n->weight, master) + (size_t)o * in * taps, *b = param_of(a, n->bias, master);
	const real *x = a->value + a->first[n->inputs[0]] + (size_t)(o / (n->shape.c / n->groups)) * in;
	for (size_t i = 0; i < in; i++)
		if (x[i] != 0 && !all_zero(w + i * taps, taps))
			return (real)NAN;
	return b ? b[o] : 0;
}

static real scaled(const struct wasd_alive *a, const struct node *n, int c, const real *master, const real *stats)
{
	const struct stats *s = &a->g->stats[n->stats];
	real scale = param_of(a, n->weight, master)[c], shift = param_of(a, n->bias, master)[c],
		 x = a->value[a->first[n->inputs[0]] + (size_t)c];
	if (scale == 0)
		return shift;
	if (!stats)
		return (real)NAN;
	double inv = 1 / sqrt((double)stats[s->offset + (size_t)(s->channels + c)] + n->eps);
	return (real)((double)shift + (double)scale * ((double)x - (double)stats[s->offset + (size_t)c]) * inv);
}

static real same(const struct wasd_alive *a, const struct node *n, int c)
{
	real v = 0;
	for (int k = 0; k < n->n_in; k++)
		v += a->value[a->first[n->inputs[k]] + (size_t)c];
	if (n->layer->is_act)
		return act_apply(n->layer->is_act, v);
	return v == 0 || n->layer->is_add ? v : (real)NAN; /* at borders and in training, others may change a constant */
}

static real value_of(const struct wasd_alive *a, const struct node *n, int c, const real *master, const real *stats)
{
	switch (n->layer->channels) {
	case LAYER_CHANNELS_WEIGHED:
		return weighed(a, n, c, master);
	case LAYER_CHANNELS_SCALED:
		return scaled(a, n, c, master, stats);
	case LAYER_CHANNELS_SAME:
		return same(a, n, c);
	case LAYER_CHANNELS_SPREAD:
		return a->value[a->first[n->inputs[0]] + (size_t)c / ((size_t)n->in.h * (size_t)n->in.w)];
	case LAYER_CHANNELS_STACKED:
	case LAYER_CHANNELS_MIXED:
		break;
	}
	return (real)NAN;
}

static void find_values(struct wasd_alive *a, const real *master, const real *stats)
{
	for (wasd_node i = 0; i < a->g->n_nodes; i++) {
		const struct node *n = &a->g->nodes[i];
		real *v = a->value + a->first[i];
		for (int c = 0; c < n->shape.c; c++)
			v[c] = i ? value_of(a, n, c, master, stats) : (real)NAN;
		for (int k = 0; i && k < n->n_in && n->layer->channels == LAYER_CHANNELS_STACKED; k++) {
			int count = a->g->nodes[n->inputs[k]].shape.c;
			memcpy(v, a->value + a->first[n->inputs[k]], (size_t)count * sizeof *v);
			v += count;
		}
	}
}

/* ---- who is read ---------------------------------------------------------------------------------------- */

/* Marks what output o reads. True: a unit that was not marked. */
static bool read_row(struct wasd_alive *a, const struct node *n, int o, const real *master)
{
	size_t taps = taps_of(a, n), from = a->first[n->inputs[0]];
	const real *w = param_of(a, n->weight, master) + (size_t)o * (size_t)n->in.c * taps;
	bool found = false;
	for (size_t i = 0; i < (size_t)n->in.c; i++) {
		bool *used = &a->used[a->unit[from + i]];
		if (!*used && a->value[from + i] != 0 && !all_zero(w + i * taps, taps))
			*used = found = true;
	}
	return found;
}

static bool read_inputs(struct wasd_alive *a, wasd_node i, const real *master)
{
	const struct node *n = &a->g->nodes[i];
	bool found = false;
	for (int o = 0; is_dense(n) && o < n->shape.c; o++)
		if (a->used[a->unit[a->first[i] + (size_t)o]])
			found |= read_row(a, n, o, master);
	int each = n->in.h * n->in.w;
	for (int c = 0; i && flattens_images(n) && c < n->shape.c; c++) {
		bool *used = &a->used[a->unit[c / each]];
		if (!*used && a->used[a->unit[a->first[i] + (size_t)c]])
			*used = found = true;
	}
	return found;
}

/* From the outputs backwards, until nothing is added: in residual stages a unit is read by later and by earlier nodes
 * than those that write it. */
static void find_used(struct wasd_alive *a, const real *master)
{
	bool more = true;
	memcpy(a->used, a->fixed, (size_t)a->units * sizeof *a->used);
	while (more) {
		more = false;
		for (wasd_node i = a->g->n_nodes - 1; i > 0; i--)
			more |= read_inputs(a, i, master);
	}
}

/* A layer without channels is none: its first channel stays, and with it its unit. */
static void keep_one(struct wasd_alive *a)
{
	for (wasd_node i = 0; i < a->g->n_nodes; i++) {
		bool any = false;
		for (size_t c = a->first[i]; c < a->first[i + 1]; c++)
			any |= a->used[a->unit[c]];
		a->used[a->unit[a->first[i]]] |= !any;
	}
}

void wasd_alive_update(struct wasd_alive *a, const real *master, const real *stats)
{
	if (master) {
		find_values(a, master, stats);
		find_used(a, master);
		keep_one(a);
	} else {
		memset(a->used, true, (size_t)a->units * sizeof *a->used);
	}
	for (size_t c = 0; c < a->first[a->g->n_nodes]; c++)
		a->alive[c] = a->used[a->unit[c]];
}

/* ---- the object ----------------------------------------------------------------------------------------- */

void wasd_alive_destroy(struct wasd_alive *a)
{
	if (!a)
		return;
	wasd_free(a->first);
	wasd_free(a->unit);
	wasd_free(a->fixed);
	wasd_free(a->used);
	wasd_free(a->value);
	wasd_free(a->alive);
	wasd_free(a);
}

static bool allocate(struct wasd_alive *a, size_t n)
{
	a->first = wasd_calloc((size_t)a->g->n_nodes + 1, sizeof *a->first);
	a->unit = wasd_calloc(n, sizeof *a->unit);
	a->fixed = wasd_calloc(n, sizeof *a->fixed);
	a->used = wasd_calloc(n, sizeof *a->used);
	a->value = wasd_calloc(n, sizeof *a->value);
	a->alive = wasd_calloc(n, sizeof *a->alive);
	return a->first && a->unit && a->fixed && a->used && a->value && a->alive;
}

enum wasd_status wasd_alive_create(const struct wasd_graph *g, const real *master, const real *stats,
                                   struct wasd_alive **out, struct wasd_err *err)
{
	size_t n = channels_of(g);
	if (n > INT_MAX)
		return wasd_fail(err, WASD_ETOOBIG, "the network has more than 2^31 channels");
	struct wasd_alive *a = wasd_calloc(1, sizeof *a);
	if (!a)
		return wasd_fail(err, WASD_ENOMEM, "no memory for the channels of a network");
	a->g = g;
	if (!allocate(a, n)) {
		wasd_alive_destroy(a);
		return wasd_fail(err, WASD_ENOMEM, "no memory for %zu channels of a network", n);
	}
	for (wasd_node i = 0; i < g->n_nodes; i++)
		a->first[i + 1] = a->first[i] + (size_t)g->nodes[i].shape.c;
	form_units(a);
	fix_units(a);
	wasd_alive_update(a, master, stats);
	*out = a;
	return WASD_OK;
}

const uint8_t *wasd_alive_of(const struct wasd_alive *a, wasd_node n)
{
	return a->alive + a->first[n];
}

int wasd_alive_count(const struct wasd_alive *a, wasd_node n)
{
	int count = 0;
	for (size_t c = a->first[n]; c < a->first[n + 1]; c++)
		count += a->alive[c];
	return count;
}

uint64_t wasd_alive_macs(const struct wasd_alive *a)
{
	uint64_t sum = 0;
	for (wasd_node i = 1; i < a->g->n_nodes; i++) {
		struct node n = a->g->nodes[i];
		if (!n.layer->macs)
			continue;
		int in = wasd_alive_count(a, n.inputs[0]), out = wasd_alive_count(a, i);
		n.groups = is_depthwise(&n) ? out : n.groups;
		n.in.c = in;
		n.out = n.shape.c = out;
		sum += n.layer->macs(&n, n.kh * n.kw);
	}
	return sum;
}

const int *wasd_alive_unit(const struct wasd_alive *a, wasd_node n)
{
	return a->unit + a->first[n];
}

int wasd_alive_units(const struct wasd_alive *a)
{
	return a->units;
}

bool wasd_alive_fixed(const struct wasd_alive *a, int unit)
{
	return a->fixed[unit];
}
