/* models/slim.c - see slim.h. First the sets are checked against each other, then each layer's kept channels follow
 * from those of its inputs, then the layers are written as JSON and built as any list is (own.c). At last every node of
 * the new graph is compared with what was wanted: a layer that a list cannot express (a kernel that is not square, an
 * output size of its own) is refused instead of changed. */
#include <stdio.h>
#include <string.h>

#include "base/fields.h"
#include "wasd/alive.h"
#include "graph/graph.h"
#include "models/models.h"
#include "wasd/slim.h"

struct kept {
	int *at; /* ascending; NULL: none chosen yet */
	int n;
};

struct wasd_slim {
	const struct wasd_graph *whole;
	struct wasd_graph *small;
	cJSON *model, *layers; /* layers: within model */
	struct kept *kept;     /* per node */
	size_t removed;
};

static enum wasd_status refuse(const struct node *n, enum wasd_status s, const char *why, struct wasd_err *err)
{
	return wasd_fail(err, s, "%s: %s", *n->name ? n->name : n->layer->op, why);
}

/* ---- how the channels of a layer hang together ------------------------------------------------------------------ */

enum relation {
	FREE,   /* each output from all inputs: both sides are cut on their own */
	SAME,   /* output channel c comes from channel c of every input */
	SPREAD, /* each channel becomes a row of units */
	JOINED, /* the channels of the inputs, one behind the other */
	WHOLE   /* nothing may be cut on either side */
};

static bool depthwise(const struct node *n)
{
	return n->layer->channels == LAYER_CHANNELS_WEIGHED && n->groups > 1 && n->groups == n->in.c && n->out == n->in.c;
}

static enum relation relation_of(const struct node *n)
{
	switch (n->layer->channels) {
	case LAYER_CHANNELS_WEIGHED:
		return n->groups == 1 ? FREE : depthwise(n) ? SAME : WHOLE;
	case LAYER_CHANNELS_SAME:
	case LAYER_CHANNELS_SCALED:
		return SAME;
	case LAYER_CHANNELS_STACKED:
		return JOINED;
	case LAYER_CHANNELS_SPREAD:
		return SPREAD;
	case LAYER_CHANNELS_MIXED:
		break;
	}
	return WHOLE;
}

static const struct node *input_of(const struct wasd_graph *g, const struct node *n, int k)
{
	return &g->nodes[n->inputs[k]];
}

/* ---- the sets ---------------------------------------------------------------------------------------------------- */

static bool all_alive(const uint8_t *set, int n)
{
	for (int c = 0; c < n; c++)
		if (!set[c])
			return false;
	return true;
}

static bool equal_sets(const uint8_t *a, const uint8_t *b, int n)
{
	for (int c = 0; c < n; c++)
		if (!a[c] != !b[c])
			return false;
	return true;
}

/* A unit may be dead alone, but not alive in a dead channel. */
static bool spreads(const struct node *n, const uint8_t *channels, const uint8_t *units)
{
	int hw = n->in.h * n->in.w;
	for (int u = 0; u < n->shape.c; u++)
		if (units[u] && !channels[u / hw])
			return false;
	return true;
}

static enum wasd_status check_sets(const struct wasd_graph *g, const uint8_t *const *alive, struct wasd_err *err)
{
	for (wasd_node i = 1; i < g->n_nodes; i++) {
		const struct node *n = &g->nodes[i];
		enum relation how = relation_of(n);
		for (int k = 0, at = 0; k < n->n_in; at += input_of(g, n, k++)->shape.c) {
			const uint8_t *in = alive[n->inputs[k]];
			int c = input_of(g, n, k)->shape.c;
			if (how == SAME && !equal_sets(in, alive[i], c))
				return refuse(n, WASD_EINVAL, "other channels are alive in its output than in an input", err);
			if (how == JOINED && !equal_sets(in, alive[i] + at, c))
				return refuse(n, WASD_EINVAL, "other channels are alive in its output than in its inputs", err);
			if (how == SPREAD && !spreads(n, in, alive[i]))
				return refuse(n, WASD_EINVAL, "a unit of a dead channel is alive", err);
			if (how == WHOLE && !all_alive(in, c))
				return refuse(n, WASD_EINVAL, "it needs all channels of its input", err);
		}
		if (how == WHOLE && !all_alive(alive[i], n->shape.c))
			return refuse(n, WASD_EINVAL, "its channels cannot be removed", err);
	}
	const struct node *out = &g->nodes[g->output];
	return all_alive(alive[g->output], out->shape.c) ? WASD_OK :
	                                                   refuse(out, WASD_EINVAL, "a class cannot be removed", err);
}

/* The channels that are alive, or the first one. set NULL: all. */
static void choose(struct kept *k, const uint8_t *set, int n)
{
	for (int c = 0; c < n; c++)
		if (!set || set[c])
			k->at[k->n++] = c;
	if (!k->n)
		k->at[k->n++] = 0;
}

static enum wasd_status keep(struct wasd_slim *s, wasd_node i, const uint8_t *alive, struct wasd_err *err)
{
	const struct node *n = &s->whole->nodes[i];
	struct kept *k = &s->kept[i];
	enum relation how = n->n_in ? relation_of(n) : WHOLE;
	const struct kept *in = n->n_in ? &s->kept[n->inputs[0]] : NULL;
	if (!(k->at = wasd_calloc((size_t)n->shape.c, sizeof *k->at)))
		return wasd_fail(err, WASD_ENOMEM, "no memory for the smaller network");
	if (how == FREE || how == WHOLE)
		choose(k, how == FREE ? alive : NULL, n->shape.c);
	for (int a = 0; how == SAME && a < in->n; a++)
		k->at[k->n++] = in->at[a];
	for (int b = 1; how == SAME && b < n->n_in; b++) {
		const struct kept *other = &s->kept[n->inputs[b]];
		if (other->n != in->n || memcmp(other->at, in->at, (size_t)in->n * sizeof *in->at))
			return refuse(n, WASD_EINVAL, "all channels of an input are dead, but not the same one stays in each", err);
	}
	for (int a = 0, hw = n->in.h * n->in.w; how == SPREAD && a < in->n; a++)
		for (int u = 0; u < hw; u++)
			k->at[k->n++] = in->at[a] * hw + u;
	for (int b = 0, at = 0; how == JOINED && b < n->n_in; at += input_of(s->whole, n, b++)->shape.c)
		for (int a = 0; a < s->kept[n->inputs[b]].n; a++)
			k->at[k->n++] = at + s->kept[n->inputs[b]].at[a];
	if (how == FREE || depthwise(n))
		s->removed += (size_t)(n->shape.c - k->n);
	return WASD_OK;
}

/* ---- the list of layers ------------------------------------------------------------------------------------------ */

static const char *name_at(const struct wasd_slim *s, wasd_node i)
{
	const char *name = "input";
	if (i > 0)
		wasd_json_str(cJSON_GetArrayItem(s->layers, i - 1), "name", &name);
	return name;
}

static bool taken(const struct wasd_slim *s, const char *name)
{
	for (wasd_node i = 1; i < s->whole->n_nodes; i++)
		if (!strcmp(s->whole->nodes[i].name, name))
			return true;
	return false;
}

/* Layers without parameters have no names in a graph; one that another layer has by chance is made longer. */
static bool put_name(const struct wasd_slim *s, cJSON *j, wasd_node i)
{
	const struct node *n = &s->whole->nodes[i];
	char name[NAME_SIZE];
	size_t end = (size_t)snprintf(name, sizeof name, "%.30s%d", n->layer->op, i);
	while (!*n->name && taken(s, name) && end + 1 < sizeof name) {
		name[end++] = '_';
		name[end] = 0;
	}
	return cJSON_AddStringToObject(j, "name", *n->name ? n->name : name);
}

static bool put_from(const struct wasd_slim *s, cJSON *j, wasd_node i)
{
	const struct node *n = &s->whole->nodes[i];
	if (n->n_in == 1)
		return n->inputs[0] == i - 1 || cJSON_AddStringToObject(j, "from", name_at(s, n->inputs[0]));
	cJSON *from = cJSON_AddArrayToObject(j, "from");
	for (int k = 0; from && k < n->n_in; k++) {
		cJSON *one = cJSON_CreateString(name_at(s, n->inputs[k]));
		if (!cJSON_AddItemToArray(from, one)) {
			cJSON_Delete(one);
			return false;
		}
	}
	return from;
}

/* The number of a node that a member of the list sets. */
static double field_of(const struct node *n, const struct layer_field *f)
{
	const char *at = (const char *)n + f->at;
	double d;
	int i;
	bool b;
	if (f->row.type == WASD_NUM) {
		memcpy(&d, at, sizeof d);
		return d;
	}
	if (f->row.type == WASD_INT) {
		memcpy(&i, at, sizeof i);
		return i;
	}
	memcpy(&b, at, sizeof b);
	return b;
}

/* Members that have their defaults are left out. classes: the layer gives the logits. */
static bool put_fields(cJSON *j, const struct node *n, bool classes)
{
	bool ok = true;
	for (const struct layer_field *f = n->layer->fields; f->row.name && ok; f++) {
		double v = field_of(n, f), def[2] = {0};
		if (f->row.def)
			wasd_field_numbers(&f->row, f->row.def, def);
		if (f->row.def && v == def[0])
			continue;
		ok = wasd_json_put(j, f->row.name,
		                   f->classes && classes    ? cJSON_CreateString("classes") :
		                   f->row.type == WASD_BOOL ? cJSON_CreateBool(v != 0) :
		                                              cJSON_CreateNumber(v));
	}
	return ok;
}

/* Node i as its layer should be in the smaller network, as far as members of a list set it. */
static struct node wanted(const struct wasd_slim *s, wasd_node i)
{
	struct node n = s->whole->nodes[i];
	n.depthwise = depthwise(&n);
	if (n.depthwise)
		n.groups = 1; /* as a list says it: the builder sets the groups */
	if (n.out)
		n.out = s->kept[i].n;
	return n;
}

/* The layer whose outputs are the logits: the last one that is not an activation or the like. */
static wasd_node classifier(const struct wasd_graph *g)
{
	wasd_node i = g->output;
	while (i > 0 && relation_of(&g->nodes[i]) == SAME && g->nodes[i].n_in == 1)
		i = g->nodes[i].inputs[0];
	return i;
}

static enum wasd_status add_layer(struct wasd_slim *s, wasd_node i, struct wasd_err *err)
{
	struct node n = wanted(s, i);
	const struct wasd_graph *g = s->whole;
	if (!n.layer->summary)
		return refuse(&n, WASD_EUNSUPPORTED, "layers of this type cannot stand in a job's own list", err);
	cJSON *j = cJSON_CreateObject();
	bool ok = cJSON_AddItemToArray(s->layers, j);
	if (!ok)
		cJSON_Delete(j);
	ok = ok && cJSON_AddStringToObject(j, "type", n.layer->op) && put_name(s, j, i) && put_from(s, j, i) &&
	     put_fields(j, &n, i == classifier(g)) &&
	     (n.aug < 0 || g->augs[n.aug].alpha_param < 0 || cJSON_AddTrueToObject(j, "augment"));
	return ok ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "no memory for the smaller network");
}

/* ---- comparing ----------------------------------------------------------------------------------------------------
 */

static bool as_wanted(const struct wasd_slim *s, wasd_node i)
{
	struct node want = wanted(s, i);
	const struct node *n = &s->small->nodes[i];
	bool same = n->layer == want.layer && n->n_in == want.n_in && n->shape.c == s->kept[i].n &&
	            n->shape.h == want.shape.h && n->shape.w == want.shape.w && n->kh == want.kh && n->kw == want.kw &&
	            n->stride == want.stride && n->pad_top == want.pad_top && n->pad_left == want.pad_left &&
	            n->biased == want.biased && n->p == want.p && n->eps == want.eps && n->momentum == want.momentum &&
	            n->groups == (want.depthwise ? n->in.c : want.groups);
	for (int k = 0; same && k < n->n_in; k++)
		same = n->inputs[k] == want.inputs[k];
	return same;
}

static enum wasd_status build(struct wasd_slim *s, struct wasd_err *err)
{
	struct wasd_err why = {0};
	const struct wasd_graph *g = s->whole;
	enum wasd_status st = own_build(s->model, wasd_graph_input_shape(g), wasd_graph_classes(g), &s->small, &why);
	if (st)
		return wasd_fail(err, st == WASD_ENOMEM || !strcmp(why.pointer, "/model/name") ? st : WASD_EUNSUPPORTED,
		                 "the smaller network cannot be written as a list of layers: %.180s", why.msg);
	for (wasd_node i = 1; i < s->small->n_nodes; i++)
		if (!as_wanted(s, i))
			return refuse(&g->nodes[i], WASD_EUNSUPPORTED, "a layer of a job's own list cannot be like it", err);
	return WASD_OK;
}

/* ---- the calls -----------------------------------------------------------------------------------------------------
 */

enum wasd_status wasd_slim_create(const struct wasd_graph *g, const uint8_t *const *alive, const char *name,
                                  struct wasd_slim **out, struct wasd_err *err)
{
	if (g->output != g->n_nodes - 1)
		return wasd_fail(err, g->output < 0 ? WASD_ESTATE : WASD_EUNSUPPORTED,
		                 g->output < 0 ? "the graph is not finished" :
		                                 "the last layer of the network is not its output");
	enum wasd_status st = check_sets(g, alive, err);
	if (st)
		return st;
	struct wasd_slim *s = wasd_calloc(1, sizeof *s);
	if (!s)
		return wasd_fail(err, WASD_ENOMEM, "no memory for the smaller network");
	s->whole = g;
	s->kept = wasd_calloc((size_t)g->n_nodes, sizeof *s->kept);
	s->model = cJSON_CreateObject();
	if (!s->kept || !cJSON_AddStringToObject(s->model, "name", name) ||
	    !(s->layers = cJSON_AddArrayToObject(s->model, "layers")))
		st = wasd_fail(err, WASD_ENOMEM, "no memory for the smaller network");
	for (wasd_node i = 0; i < g->n_nodes && !st; i++)
		st = keep(s, i, alive[i], err);
	for (wasd_node i = 1; i < g->n_nodes && !st; i++)
		st = add_layer(s, i, err);
	if (!st)
		st = build(s, err);
	if (st)
		wasd_slim_destroy(s);
	else
		*out = s;
	return st;
}

enum wasd_status wasd_slim_of(const struct wasd_graph *g, const real *weights, const real *stats, const char *name,
                              struct wasd_slim **out, struct wasd_err *err)
{
	struct wasd_alive *alive = NULL;
	const uint8_t **sets = wasd_calloc((size_t)g->n_nodes, sizeof *sets);
	enum wasd_status st = sets ? wasd_alive_create(g, weights, stats, &alive, err) :
	                             wasd_fail(err, WASD_ENOMEM, "no memory for the smaller network");
	for (wasd_node i = 0; i < g->n_nodes && !st; i++)
		sets[i] = wasd_alive_of(alive, i);
	if (!st)
		st = wasd_slim_create(g, sets, name, out, err);
	wasd_alive_destroy(alive);
	wasd_free(sets);
	return st;
}

enum wasd_status wasd_slim_carry(const struct wasd_slim *s, struct wasd_model *whole, struct wasd_model **out,
                                 struct wasd_err *err)
{
	enum wasd_status st = wasd_model_create(s->small, 0, out, err);
	if (st)
		return st;
	wasd_slim_copy_params(s, whole->master, (*out)->master);
	for (int set = 0; set < WASD_STATS_SETS; set++)
		wasd_slim_copy_stats(s, whole->stats[set], (*out)->stats[set]);
	return WASD_OK;
}

void wasd_slim_destroy(struct wasd_slim *s)
{
	if (!s)
		return;
	for (wasd_node i = 0; s->kept && i < s->whole->n_nodes; i++)
		wasd_free(s->kept[i].at);
	wasd_free(s->kept);
	cJSON_Delete(s->model);
	wasd_graph_destroy(s->small);
	wasd_free(s);
}

const cJSON *wasd_slim_model(const struct wasd_slim *s)
{
	return s->model;
}
struct wasd_graph *wasd_slim_graph(const struct wasd_slim *s)
{
	return s->small;
}
size_t wasd_slim_removed(const struct wasd_slim *s)
{
	return s->removed;
}

const int *wasd_slim_channels(const struct wasd_slim *s, wasd_node i, int *n)
{
	*n = s->kept[i].n;
	return s->kept[i].at;
}

void models_suffix(const char *base, const char *suffix, char *out, size_t size)
{
	size_t n = strlen(base), end = strlen(suffix), room = size - 1 - end;
	bool has = n > end && !strcmp(base + n - end, suffix);
	snprintf(out, size, "%.*s%s", (int)(has || n < room ? n : room), base, has ? "" : suffix);
}

void wasd_slim_name(const char *base, char out[WASD_SLIM_NAME])
{
	models_suffix(base, "-slim", out, WASD_SLIM_NAME);
}

void wasd_slim_input(const struct wasd_graph *g, const uint8_t *const *alive, uint8_t *used)
{
	struct wasd_shape in = g->nodes[0].shape;
	int hw = in.h * in.w;
	memset(used, 0, wasd_shape_count(in));
	for (wasd_node i = 1; i < g->n_nodes; i++) {
		const struct node *n = &g->nodes[i];
		bool units = relation_of(n) == SPREAD;
		for (int k = 0; k < n->n_in; k++)
			for (int e = 0; !n->inputs[k] && e < in.c * hw; e++)
				used[e] |= alive[0][e / hw] && (!units || alive[i][e]);
	}
}

/* ---- where the values stand
 * ------------------------------------------------------------------------------------------ */

static struct wasd_slim_part part_of(const struct wasd_slim *s, int from, wasd_node i, bool columns)
{
	const struct param *p = &s->whole->params[from];
	const struct node *n = &s->whole->nodes[i];
	struct wasd_slim_part part = {.from = from, .row = s->kept[i].at, .rows = s->kept[i].n, .columns = 1, .taps = 1};
	part.row_length = p->ndims > 1 ? (size_t)p->dims[1] : 1;
	part.columns = (int)part.row_length;
	if (columns) {
		part.column = s->kept[n->inputs[0]].at;
		part.columns = s->kept[n->inputs[0]].n;
	}
	for (int d = 2; d < p->ndims; d++)
		part.taps *= (size_t)p->dims[d];
	return part;
}

struct wasd_slim_part wasd_slim_param(const struct wasd_slim *s, int param)
{
	const struct wasd_graph *g = s->small;
	for (wasd_node i = 1; i < g->n_nodes; i++) {
		const struct node *n = &s->whole->nodes[i];
		if (g->nodes[i].weight == param)
			return part_of(s, n->weight, i, relation_of(n) == FREE);
		if (g->nodes[i].bias == param)
			return part_of(s, n->bias, i, false);
	}
	for (int a = 0; a < g->n_augs; a++)
		if (g->augs[a].alpha_param == param) {
			const struct aug *of = &s->whole->augs[s->whole->nodes[g->augs[a].conv].aug];
			return (struct wasd_slim_part){.from = of->alpha_param,
			                               .first = (size_t)of->alpha_index,
			                               .rows = 1,
			                               .columns = 1,
			                               .row_length = 1,
			                               .taps = 1};
		}
	return (struct wasd_slim_part){.from = -1}; /* own.c makes no other parameters */
}

struct wasd_slim_part wasd_slim_stats(const struct wasd_slim *s, int stats)
{
	wasd_node i = 1;
	while (s->small->nodes[i].stats != stats)
		i++;
	return (struct wasd_slim_part){.from = s->whole->nodes[i].stats,
	                               .row = s->kept[i].at,
	                               .rows = s->kept[i].n,
	                               .columns = 1,
	                               .row_length = 1,
	                               .taps = 1};
}

size_t wasd_slim_element(const struct wasd_slim_part *p, size_t i)
{
	size_t tap = i % p->taps, column = i / p->taps % (size_t)p->columns, row = i / p->taps / (size_t)p->columns;
	row = p->row ? (size_t)p->row[row] : row;
	column = p->column ? (size_t)p->column[column] : column;
	return p->first + (row * p->row_length + column) * p->taps + tap;
}

void wasd_slim_copy_params(const struct wasd_slim *s, const real *whole, real *small)
{
	for (int i = 0; i < s->small->n_params; i++) {
		struct wasd_slim_part p = wasd_slim_param(s, i);
		const real *from = whole + s->whole->params[p.from].offset;
		real *to = small + s->small->params[i].offset;
		for (size_t k = 0; k < s->small->params[i].count; k++)
			to[k] = from[wasd_slim_element(&p, k)];
	}
}

/* Calls fn with each statistic of the smaller network: its place there, and in the whole one. */
static void each_stat(const struct wasd_slim *s, void (*fn)(size_t small, size_t whole, void *ctx), void *ctx)
{
	for (int i = 0; i < s->small->n_stats; i++) {
		struct wasd_slim_part p = wasd_slim_stats(s, i);
		const struct stats *from = &s->whole->stats[p.from], *to = &s->small->stats[i];
		for (int set = 0; set < 2; set++) /* mean, variance */
			for (int k = 0; k < to->channels; k++)
				fn(to->offset + (size_t)(set * to->channels + k),
				   from->offset + (size_t)(set * from->channels + p.row[k]), ctx);
	}
}

struct stats_copy {
	const real *from;
	real *to;
};

static void copy_stat(size_t small, size_t whole, void *ctx)
{
	struct stats_copy *c = ctx;
	c->to[small] = c->from[whole];
}

static void spread_stat(size_t small, size_t whole, void *ctx)
{
	struct stats_copy *c = ctx;
	c->to[whole] = c->from[small];
}

void wasd_slim_copy_stats(const struct wasd_slim *s, const real *whole, real *small)
{
	each_stat(s, copy_stat, &(struct stats_copy){whole, small});
}

void wasd_slim_spread_stats(const struct wasd_slim *s, const real *small, real *whole)
{
	each_stat(s, spread_stat, &(struct stats_copy){small, whole});
}
