/* weights/structured.c - pruning of whole filters, input channels, units or taps, after Induced Feature Selection
 * (arXiv 2303.10999, abstract) and its first author's library (fasterai: granularity.py, criteria.py, schedule.py,
 * sparsifier.py). web/docs/strategies.md.
 *
 *     group    what dies together: a unit of wasd/alive.h by the rows that write it (filter), by the columns that read
 *              it (channel), by both (unit); or one tap of a layer (tap)
 *     score    the mean of |w| over the weights of each member, and of these the mean over the members
 *     pool     groups with members in the same layers: the filters of a layer, or of all layers that a residual add
 *              couples. Scores are ranked in each pool, or over all of them, and a pool keeps at least one group
 *
 * Where rows die, so do the biases, the depthwise kernels and the scales and shifts of batch norms on the same
 * channels: a zero filter would otherwise leave a constant. */
#include "weights/structured.h"
#include "weights/layers.h"
#include "weights/prune.h"
#include "weights/schedule.h"

#include "backend/backend.h"
#include "base/fields.h"
#include "wasd/alive.h"

#include <math.h>
#include <string.h>

enum { SPARSITY, BEGIN, END, EVERY, SCHEDULE, GRANULARITY, CRITERION, SCOPE, ROUND_TO, REMOVE };
enum granularity { FILTER, CHANNEL, UNIT, TAP };
enum criterion { MAGNITUDE, RANDOM };
enum remove { SERVE, TRAIN };

static const char *const what[] = {"filters", "input channels", "units", "taps"};

/* Weights of a group in one layer: `runs` pieces of n, `stride` apart. */
struct member {
	int group, layer;
	size_t first, runs, stride, n;
};

/* Other values that die with a group, in the layout of the master weights. */
struct span {
	int group;
	size_t offset, n;
};

/* Groups have the numbers of their places in the pools: pool.layer[i].first and up. */
struct structured {
	struct prune masks; /* of the weights */
	struct prune pool;  /* which groups live: a layer of it is a pool */
	struct weight_param *pool_param;
	const struct wasd_graph *graph;
	struct wasd_alive *alive;
	struct prune_schedule when;
	enum structured_curve curve;
	enum granularity granularity;
	enum criterion criterion;
	enum prune_scope scope;
	enum remove remove;
	char remove_at[FIELDS_POINTER];
	bool over;     /* the ramp: the network has lost what was dead */
	real round_to; /* a number of the state: another processor has another default */
	uint64_t seed;
	struct member *member;
	struct span *span;
	size_t n_members, n_spans;
	uint64_t *key; /* per group, of the event in progress */
	double *score; /* per group */
	int *members;  /* per group */
	bool *dead;    /* per group */
	size_t bound;  /* channels that stay because a layer they are coupled with is left out */
	double macs;   /* share of the multiply-adds that is left */
};

double structured_sparsity(enum structured_curve c, double final, double p)
{
	switch (c) {
	case STRUCTURED_ONE_CYCLE:
		return final * ((1 + exp(-14 + 6)) / (1 + exp(-14 * p + 6)));
	case STRUCTURED_CUBIC:
		return final * (1 - pow(1 - p, 3));
	case STRUCTURED_ITERATIVE:
		return final * ceil(p * 3) / 3;
	case STRUCTURED_ONE_SHOT:
		return p < 0.5 ? 0 : final;
	}
	return 0;
}

double structured_mean(const real *w, size_t runs, size_t stride, size_t n)
{
	double sum = 0;
	for (size_t run = 0; run < runs; run++)
		for (size_t i = 0; i < n; i++)
			sum += fabs((double)w[run * stride + i]);
	return sum / (double)(runs * n);
}

/* ---- groups --------------------------------------------------------------------------------------------- */

/* The layers of a group, as a list: the last one and the list of those before it. */
struct layers {
	int before, vertex; /* vertex: twice the layer, plus WRITER or READER */
};

enum { WRITER, READER };

/* While the groups are formed they have other numbers: the units of the graph, or the taps of all layers. */
struct draft {
	struct structured *s;
	const struct weight_setup *setup;
	int n;
	int *layers; /* per draft group, its list; 0: it has no members, or stays */
	int *group;  /* its number; -1: it stays */
	bool *left_out;
	struct layers *list; /* from 1 */
	int lists;
};

/* A convolution or linear layer: rows of ins x taps weights. */
struct extent {
	int outs, ins;
	wasd_node input;
	size_t taps;
};

static struct extent extent_of(const struct draft *d, int layer)
{
	struct wasd_node_info n = wasd_graph_node_info(d->s->graph, d->setup->param[layer].node);
	struct extent e = {n.shape.c, wasd_graph_node_info(d->s->graph, n.inputs[0]).shape.c, n.inputs[0], 0};
	e.taps = d->setup->param[layer].info.count / ((size_t)e.outs * (size_t)e.ins);
	return e;
}

/* Called with a member of draft group m->group, and the role of its layer. */
typedef void each_fn(struct draft *d, const struct member *m, int role);

static void each_row(struct draft *d, int layer, each_fn *fn)
{
	struct extent e = extent_of(d, layer);
	const int *unit = wasd_alive_unit(d->s->alive, d->setup->param[layer].node);
	size_t row = (size_t)e.ins * e.taps;
	for (int o = 0; o < e.outs; o++)
		fn(d, &(struct member){unit[o], layer, (size_t)o * row, 1, 0, row}, WRITER);
}

/* The columns of neighbouring channels of one unit are one member: of a flattened map, say. */
static void each_column(struct draft *d, int layer, each_fn *fn)
{
	struct extent e = extent_of(d, layer);
	const int *unit = wasd_alive_unit(d->s->alive, e.input);
	for (int i = 0, end; i < e.ins; i = end) {
		for (end = i + 1; end < e.ins && unit[end] == unit[i]; end++)
			;
		fn(d,
		   &(struct member){unit[i], layer, (size_t)i * e.taps, (size_t)e.outs, (size_t)e.ins * e.taps,
		                    (size_t)(end - i) * e.taps},
		   READER);
	}
}

static void each_tap(struct draft *d, int layer, int first, each_fn *fn)
{
	struct extent e = extent_of(d, layer);
	for (size_t t = 0; t < e.taps && e.taps > 1; t++)
		fn(d, &(struct member){first + (int)t, layer, t, (size_t)e.outs * (size_t)e.ins, e.taps, 1}, WRITER);
}

static void each_member(struct draft *d, each_fn *fn)
{
	enum granularity g = d->s->granularity;
	for (int l = 0, first = 0; l < d->setup->n_params; l++) {
		if (g == FILTER || g == UNIT)
			each_row(d, l, fn);
		if (g == CHANNEL || g == UNIT)
			each_column(d, l, fn);
		if (g == TAP)
			each_tap(d, l, first, fn);
		first += (int)extent_of(d, l).taps;
	}
}

static bool is_chosen(const struct draft *d, wasd_node n)
{
	bool chosen = false;
	for (int l = 0; l < d->setup->n_params; l++)
		chosen |= d->setup->param[l].node == n;
	return chosen;
}

static bool flattens_images(const struct wasd_graph *g, const struct wasd_node_info *n)
{
	return n->n_inputs == 1 && n->inputs[0] == 0 && n->weight < 0 &&
	       (size_t)n->shape.c == wasd_shape_count(wasd_graph_input_shape(g));
}

static void leave_out(struct draft *d, wasd_node n)
{
	const int *unit = wasd_alive_unit(d->s->alive, n);
	for (int c = 0; c < wasd_graph_node_info(d->s->graph, n).shape.c; c++)
		d->left_out[unit[c]] = true;
}

/* A unit stays if a layer writes (or reads, by the granularity) it that is not one of the strategy's; images are not
 * written; and with UNIT all these layers are linear. The network that surgery leaves reads whole images: their
 * channels and pixels stay. */
static void find_left_out(struct draft *d)
{
	enum granularity g = d->s->granularity;
	bool whole = d->s->remove == TRAIN;
	if (g == FILTER || whole)
		leave_out(d, 0);
	for (wasd_node i = 1; i < wasd_graph_nodes(d->s->graph); i++) {
		struct wasd_node_info n = wasd_graph_node_info(d->s->graph, i);
		if (whole && flattens_images(d->s->graph, &n))
			leave_out(d, i);
		if (!layers_has_weights(d->s->graph, i) || n.groups > 1)
			continue;
		bool stays = !is_chosen(d, i) || (g == UNIT && wasd_graph_param_info(d->s->graph, n.weight).ndims > 2);
		if (stays && g != CHANNEL)
			leave_out(d, i);
		if (stays && g != FILTER)
			leave_out(d, n.inputs[0]);
	}
}

static bool stays(const struct draft *d, int group)
{
	return d->s->granularity != TAP && (wasd_alive_fixed(d->s->alive, group) || d->left_out[group]);
}

static void count_member(struct draft *d, const struct member *m, int role)
{
	(void)role;
	d->s->n_members += !stays(d, m->group);
	d->s->bound += d->s->granularity != UNIT && stays(d, m->group) && !wasd_alive_fixed(d->s->alive, m->group);
}

/* Members come in the order of their vertices: groups of the same layers have the same list. */
static void list_member(struct draft *d, const struct member *m, int role)
{
	int vertex = 2 * m->layer + role, before = d->layers[m->group], i = d->lists;
	if (stays(d, m->group) || (before && d->list[before].vertex == vertex))
		return;
	while (i && (d->list[i].before != before || d->list[i].vertex != vertex))
		i--;
	if (!i)
		d->list[i = ++d->lists] = (struct layers){before, vertex};
	d->layers[m->group] = i;
}

static void add_member(struct draft *d, const struct member *m, int role)
{
	(void)role;
	if (d->group[m->group] < 0)
		return;
	struct member *to = &d->s->member[d->s->n_members++];
	*to = *m;
	to->group = d->group[m->group];
	d->s->members[to->group]++;
}

static int first_layer(const struct draft *d, int list)
{
	while (d->list[list].before)
		list = d->list[list].before;
	return d->list[list].vertex / 2;
}

/* A pool for each list; in it, groups in the order of their units. */
static void number_groups(struct draft *d)
{
	struct structured *s = d->s;
	int groups = 0;
	for (int u = 0; u < d->n; u++)
		d->group[u] = -1;
	for (int i = 1; i <= d->lists; i++) {
		int before = groups;
		for (int u = 0; u < d->n; u++)
			if (d->layers[u] == i)
				d->group[u] = groups++;
		if (groups == before)
			continue;
		struct weight_param *pool = &s->pool_param[s->pool.n_layers];
		*pool = (struct weight_param){.index = s->pool.n_layers++, .node = d->setup->param[first_layer(d, i)].node};
		pool->info.count = (size_t)(groups - before);
	}
}

/* ---- creation ------------------------------------------------------------------------------------------- */

static void destroy(void *self)
{
	struct structured *s = self;
	prune_done(&s->masks);
	prune_done(&s->pool);
	wasd_alive_destroy(s->alive);
	wasd_free(s->pool_param);
	wasd_free(s->member);
	wasd_free(s->span);
	wasd_free(s->key);
	wasd_free(s->score);
	wasd_free(s->members);
	wasd_free(s->dead);
	wasd_free(s);
}

static enum wasd_status read(struct structured *s, const struct weight_setup *setup, struct wasd_err *err)
{
	const double *o = setup->option;
	const struct backend *b = NULL;
	char ptr[FIELDS_POINTER];
	s->graph = setup->graph;
	s->seed = setup->seed;
	s->curve = (enum structured_curve)o[SCHEDULE];
	s->granularity = (enum granularity)o[GRANULARITY];
	s->criterion = (enum criterion)o[CRITERION];
	s->scope = (enum prune_scope)o[SCOPE];
	s->remove = (enum remove)o[REMOVE];
	fields_pointer(s->remove_at, setup->at, "remove");
	if (s->remove == TRAIN && s->granularity == TAP)
		return wasd_fail_at(err, WASD_EINVAL, s->remove_at, "%s: without taps no channel is dead that could be removed",
		                    s->remove_at);
	s->when = (struct prune_schedule){.begin = isnan(o[BEGIN]) ? 0 : o[BEGIN],
	                                  .end = isnan(o[END]) ? 0.75 * setup->epochs : o[END],
	                                  .every = (uint64_t)o[EVERY],
	                                  .final = o[SPARSITY]};
	fields_pointer(ptr, setup->at, "round_to");
	if (s->granularity == TAP && o[ROUND_TO] > 1)
		return wasd_fail_at(err, WASD_EINVAL, ptr, "%s is %g: taps are not rounded", ptr, o[ROUND_TO]);
	bool block = o[ROUND_TO] == 0 && s->granularity != TAP && !backend_choose(NULL, WASD_PRECISION_FP32, &b, NULL);
	s->round_to = block && b->block ? (real)b->block : o[ROUND_TO] > 1 ? (real)o[ROUND_TO] : 1;
	enum wasd_status st = prune_check_times(s->when.begin, s->when.end, setup->epochs, setup->at, err);
	if (st || !setup->epochs || s->remove != TRAIN || s->when.final == 0 || s->when.end <= setup->epochs - 1)
		return st;
	fields_pointer(ptr, setup->at, "end");
	return wasd_fail_at(err, WASD_EINVAL, ptr,
	                    "%s is %g: no epoch of %d begins after it, so nothing would be removed: it must be at most %d",
	                    ptr, s->when.end, setup->epochs, setup->epochs - 1);
}

/* Values on the channels of node n, of param p, `each` for one channel. */
static void add_spans(struct draft *d, wasd_node n, int p, size_t each)
{
	const int *unit = wasd_alive_unit(d->s->alive, n);
	for (int c = 0; p >= 0 && c < wasd_graph_node_info(d->s->graph, n).shape.c; c++)
		if (d->group[unit[c]] >= 0) {
			if (d->s->span)
				d->s->span[d->s->n_spans] =
					(struct span){d->group[unit[c]], wasd_graph_param_info(d->s->graph, p).offset + (size_t)c * each,
				                  each};
			d->s->n_spans++;
		}
}

static void list_spans(struct draft *d)
{
	d->s->n_spans = 0;
	if (d->s->granularity != FILTER && d->s->granularity != UNIT)
		return;
	for (wasd_node i = 1; i < wasd_graph_nodes(d->s->graph); i++) {
		struct wasd_node_info n = wasd_graph_node_info(d->s->graph, i);
		if (n.weight >= 0 && (n.groups > 1 || !layers_has_weights(d->s->graph, i))) /* depthwise, batch norm */
			add_spans(d, i, n.weight, wasd_graph_param_info(d->s->graph, n.weight).count / (size_t)n.shape.c);
		add_spans(d, i, n.bias, 1);
	}
}

static enum wasd_status allocate(struct structured *s, struct wasd_err *err)
{
	s->member = wasd_calloc(s->n_members, sizeof *s->member);
	s->span = wasd_calloc(s->n_spans + 1, sizeof *s->span);
	s->key = wasd_calloc(s->pool.n, sizeof *s->key);
	s->score = wasd_calloc(s->pool.n, sizeof *s->score);
	s->members = wasd_calloc(s->pool.n, sizeof *s->members);
	s->dead = wasd_calloc(s->pool.n, sizeof *s->dead);
	return s->member && s->span && s->key && s->score && s->members && s->dead ?
	           WASD_OK :
	           wasd_fail(err, WASD_ENOMEM, "structured");
}

static enum wasd_status list_groups(struct draft *d, struct wasd_err *err)
{
	struct structured *s = d->s;
	each_member(d, list_member);
	s->pool_param = wasd_calloc((size_t)d->lists, sizeof *s->pool_param);
	if (!s->pool_param)
		return wasd_fail(err, WASD_ENOMEM, "structured");
	number_groups(d);
	struct weight_setup pools = {.graph = s->graph, .param = s->pool_param, .n_params = s->pool.n_layers};
	enum wasd_status st = prune_create(&s->pool, &pools, err);
	if (st)
		return st;
	list_spans(d);
	if ((st = allocate(s, err)))
		return st;
	s->n_members = 0;
	each_member(d, add_member);
	list_spans(d);
	return WASD_OK;
}

static enum wasd_status form_groups(struct draft *d, struct wasd_err *err)
{
	struct structured *s = d->s;
	char ptr[FIELDS_POINTER];
	find_left_out(d);
	each_member(d, count_member);
	fields_pointer(ptr, d->setup->at, "granularity");
	if (!s->n_members)
		return wasd_fail_at(err, WASD_EINVAL, ptr, "%s: the chosen layers have no %s that may die", ptr,
		                    what[s->granularity]);
	d->list = wasd_calloc(s->n_members + 1, sizeof *d->list);
	enum wasd_status st = d->list ? list_groups(d, err) : wasd_fail(err, WASD_ENOMEM, "structured");
	wasd_free(d->list);
	return st;
}

static enum wasd_status draft_groups(struct structured *s, const struct weight_setup *setup, struct wasd_err *err)
{
	struct draft d = {.s = s, .setup = setup, .n = wasd_alive_units(s->alive)};
	if (s->granularity == TAP) {
		d.n = 0;
		for (int l = 0; l < setup->n_params; l++)
			d.n += (int)extent_of(&d, l).taps;
	}
	d.layers = wasd_calloc((size_t)d.n + 1, sizeof *d.layers);
	d.group = wasd_calloc((size_t)d.n + 1, sizeof *d.group);
	d.left_out = wasd_calloc((size_t)wasd_alive_units(s->alive) + 1, sizeof *d.left_out);
	enum wasd_status st = d.layers && d.group && d.left_out ? form_groups(&d, err) :
	                                                          wasd_fail(err, WASD_ENOMEM, "structured");
	wasd_free(d.layers);
	wasd_free(d.group);
	wasd_free(d.left_out);
	return st;
}

static enum wasd_status create(const struct weight_setup *setup, void **self, struct wasd_err *err)
{
	struct structured *s = *self = wasd_calloc(1, sizeof *s);
	if (!s)
		return wasd_fail(err, WASD_ENOMEM, "structured");
	s->macs = 1;
	enum wasd_status st = read(s, setup, err);
	if (!st)
		st = wasd_alive_create(setup->graph, NULL, NULL, &s->alive, err);
	if (!st)
		st = prune_create(&s->masks, setup, err);
	return st ? st : draft_groups(s, setup, err);
}

/* How many groups of a pool of n stay for a sparsity: whole multiples of round_to, or all. */
static size_t keep_count(const struct structured *s, size_t n, size_t keep)
{
	size_t r = (size_t)s->round_to, up = (keep + r - 1) / r * r;
	return up < n ? up : n;
}

static enum wasd_status begin(void *self, const struct weight_run *r, struct wasd_err *err)
{
	struct structured *s = self;
	(void)err;
	s->over = r->smaller;
	return WASD_OK;
}

static void say_groups(const struct structured *s, const struct weight_run *r)
{
	size_t keep = 0;
	for (int l = 0; l < s->pool.n_layers; l++)
		keep += keep_count(s, s->pool.layer[l].n, 1);
	weight_say(r, keep < s->pool.n ? "info" : "warn",
	           "structured: of %zu %s in %d groups of layers %zu may die; each group keeps a multiple of %d, or all",
	           s->pool.n, what[s->granularity], s->pool.n_layers, s->pool.n - keep, (int)s->round_to);
	if (s->bound)
		weight_say(r, "info", "structured: %zu channels stay: layers that share them are not among those it prunes%s",
		           s->bound, s->remove == TRAIN && s->granularity == CHANNEL ? ", or they are of the images" : "");
}

static bool state(void *self, int i, struct weight_state *out)
{
	struct structured *s = self;
	if (prune_state(&s->masks, i, out))
		return true;
	*out = (struct weight_state){.name = "round_to", .ndims = 1, .dims = {1}, .values = &s->round_to};
	return i == s->masks.n_layers;
}

/* ---- masks ---------------------------------------------------------------------------------------------- */

static void list_dead(struct structured *s)
{
	for (int p = 0; p < s->pool.n_layers; p++)
		for (size_t i = 0; i < s->pool.layer[p].n; i++)
			s->dead[s->pool.layer[p].first + i] = !prune_lives(&s->pool.layer[p], i);
}

static void mask_members(struct structured *s)
{
	for (size_t k = 0; k < s->n_members; k++) {
		const struct member *m = &s->member[k];
		uint64_t *alive = s->masks.layer[m->layer].alive;
		for (size_t run = 0; run < m->runs && s->dead[m->group]; run++)
			for (size_t i = m->first + run * m->stride; i < m->first + run * m->stride + m->n; i++)
				alive[i / 64] &= ~(UINT64_C(1) << i % 64);
	}
	prune_recount(&s->masks);
}

static void mask_block(struct structured *s, real *block)
{
	prune_mask(&s->masks, block);
	for (size_t k = 0; k < s->n_spans && s->pool.living < s->pool.n; k++)
		if (s->dead[s->span[k].group])
			memset(block + s->span[k].offset, 0, s->span[k].n * sizeof *block);
}

static bool any_lives(const struct structured *s, const struct member *m)
{
	for (size_t run = 0; run < m->runs; run++)
		for (size_t i = m->first + run * m->stride; i < m->first + run * m->stride + m->n; i++)
			if (prune_lives(&s->masks.layer[m->layer], i))
				return true;
	return false;
}

/* A group is dead if all weights of a member are: of the other groups that share weights with it, some live. */
static void read_groups(struct structured *s)
{
	memset(s->dead, 0, s->pool.n * sizeof *s->dead);
	for (size_t k = 0; k < s->n_members; k++)
		s->dead[s->member[k].group] |= !any_lives(s, &s->member[k]);
	for (int p = 0; p < s->pool.n_layers; p++)
		for (size_t i = 0; i < s->pool.layer[p].n; i++)
			if (s->dead[s->pool.layer[p].first + i])
				s->pool.layer[p].alive[i / 64] &= ~(UINT64_C(1) << i % 64);
	prune_recount(&s->pool);
}

/* The masks of the weights follow from which groups live. */
static enum wasd_status resumed(void *self, const real *master, struct wasd_err *err)
{
	struct structured *s = self;
	(void)master;
	if (!(s->round_to >= 1 && s->round_to <= 65536 && s->round_to == floor((double)s->round_to)))
		return wasd_fail(err, WASD_ECORRUPT, "round_to is not a whole number from 1 to 65536");
	read_groups(s);
	for (int l = 0; l < s->masks.n_layers; l++) {
		struct prune_layer *at = &s->masks.layer[l];
		size_t living = 0;
		for (size_t i = 0; i < at->n; i++) {
			living += prune_lives(at, i);
			at->alive[i / 64] |= UINT64_C(1) << i % 64;
		}
		at->last = living;
	}
	mask_members(s);
	for (int l = 0; l < s->masks.n_layers; l++)
		if (s->masks.layer[l].last != s->masks.layer[l].living)
			return wasd_fail(err, WASD_ECORRUPT, "the mask of %s is not one of whole %s", s->masks.layer[l].name,
			                 what[s->granularity]);
	return WASD_OK;
}

/* ---- events --------------------------------------------------------------------------------------------- */

static void set_keys(struct structured *s, const struct weight_run *r)
{
	memset(s->score, 0, s->pool.n * sizeof *s->score);
	for (size_t k = 0; k < s->n_members && s->criterion == MAGNITUDE; k++) {
		const struct member *m = &s->member[k];
		if (!s->dead[m->group])
			s->score[m->group] += structured_mean(r->master + s->masks.layer[m->layer].param->info.offset + m->first,
			                                      m->runs, m->stride, m->n) /
			                      s->members[m->group];
	}
	for (int p = 0; p < s->pool.n_layers; p++) {
		const struct prune_layer *at = &s->pool.layer[p];
		uint64_t salt = s->criterion == RANDOM ? prune_random_salt(s->seed, r->step, p) : 0;
		for (size_t i = 0; i < at->n; i++)
			s->key[at->first + i] = s->criterion == RANDOM ? prune_random_key(salt, i) :
			                                                 prune_key_of(s->score[at->first + i]);
	}
}

static uint64_t key(const void *ctx, int pool, size_t i)
{
	const struct structured *s = ctx;
	return s->key[s->pool.layer[pool].first + i];
}

static size_t kill_to(struct structured *s, int pool, size_t keep)
{
	const struct prune_layer *at = &s->pool.layer[pool];
	keep = keep_count(s, at->n, keep ? keep : 1);
	return at->living > keep ? prune_kill(&s->pool, pool, at->living - keep, key, s, PRUNE_TIES_HIGH) : 0;
}

/* All pools together. With rounding, those of a pool that are below the common limit die as far as its own count may
 * fall. */
static size_t kill_global(struct structured *s, size_t keep)
{
	size_t died = 0, n = s->pool.living > keep ? s->pool.living - keep : 0;
	if (!n || s->round_to == 1)
		return n ? prune_kill(&s->pool, PRUNE_ALL, n, key, s, PRUNE_TIES_HIGH) : 0;
	uint64_t limit = prune_rank(&s->pool, PRUNE_ALL, n - 1, key, s);
	for (int p = 0; p < s->pool.n_layers; p++) {
		const struct prune_layer *at = &s->pool.layer[p];
		size_t above = 0;
		for (size_t i = 0; i < at->n; i++)
			above += prune_lives(at, i) && key(s, p, i) > limit;
		died += kill_to(s, p, above);
	}
	return died;
}

static size_t kill_groups(struct structured *s, double sparsity)
{
	size_t died = 0;
	if (s->scope == PRUNE_GLOBAL)
		return kill_global(s, prune_keep_count(s->pool.n, sparsity));
	for (int p = 0; p < s->pool.n_layers; p++)
		died += kill_to(s, p, prune_keep_count(s->pool.layer[p].n, sparsity));
	return died;
}

/* The share of the multiply-adds that is left without dead channels, or taps. */
static void count_macs(struct structured *s, const real *master)
{
	double whole = (double)wasd_graph_macs(s->graph, NULL), left = whole;
	for (int p = 0; p < s->pool.n_layers && s->granularity == TAP; p++) {
		const struct prune_layer *at = &s->pool.layer[p];
		left -= (double)wasd_graph_node_info(s->graph, at->param->node).macs * (1 - (double)at->living / (double)at->n);
	}
	if (s->granularity != TAP) {
		wasd_alive_update(s->alive, master, NULL);
		left = (double)wasd_alive_macs(s->alive);
	}
	s->macs = whole > 0 ? left / whole : 1;
}

static bool event(void *self, const struct weight_run *r)
{
	struct structured *s = self;
	if (s->when.final == 0 || s->over || !prune_is_event(&s->when, r->step, r->batches))
		return false;
	if (r->step == prune_step_of(s->when.begin, r->batches))
		say_groups(s, r);
	set_keys(s, r);
	double p = prune_progress(&s->when, r->step, r->batches);
	size_t died = kill_groups(s, structured_sparsity(s->curve, s->when.final, p));
	if (died) {
		list_dead(s);
		mask_members(s);
		mask_block(s, r->master);
		for (const struct weight_block *b = r->optim; b->name; b++)
			mask_block(s, b->values);
	}
	if (r->log && prune_is_told(&s->when, r->step, r->batches)) {
		count_macs(s, r->master);
		weight_say(r, "info",
		           "structured: before step %llu, %zu %s died: %zu of %zu are gone (%.2f %%), %.2f %% of the "
		           "multiply-adds are left",
		           (unsigned long long)r->step + 1, died, what[s->granularity], s->pool.n - s->pool.living, s->pool.n,
		           100 * (1 - (double)s->pool.living / (double)s->pool.n), 100 * s->macs);
	}
	return died > 0;
}

static void after_step(void *self, const struct weight_run *r)
{
	mask_block(self, r->master);
}

static void at_epoch(void *self, const struct weight_run *r)
{
	count_macs(self, r->master);
}

static bool metric(const void *self, int i, int epoch, const char **name, double *value)
{
	const struct structured *s = self;
	(void)epoch;
	if (i > 1)
		return prune_metric(&s->masks, i - 2, name, value);
	*name = i ? "structured_macs" : "structured_alive";
	*value = i ? s->macs : (double)s->pool.living / (double)s->pool.n;
	return true;
}

/* Grouped convolutions are left alone; depthwise kernels die with the filters in front of them. */
static bool applies(const struct wasd_graph *g, wasd_node n)
{
	return wasd_graph_node_info(g, n).groups < 2;
}

/* Once, when the ramp is over: the smaller network has no dead groups. */
static bool cuts(const void *self, const struct weight_run *r)
{
	const struct structured *s = self;
	return s->remove == TRAIN && s->pool.living < s->pool.n && r->step >= prune_step_of(s->when.end, r->batches);
}

static const char *cuts_at(const void *self)
{
	const struct structured *s = self;
	return s->remove == TRAIN ? s->remove_at : NULL;
}

static const char *const curves[] = {"one_cycle", "cubic", "iterative", "one_shot", NULL};
static const char *const granularities[] = {"filter", "channel", "unit", "tap", NULL};
static const char *const criteria[] = {"magnitude", "random", NULL};
static const char *const removes[] = {"serve", "train", NULL};

static const struct wasd_field options[] = {
	[SPARSITY] = {"sparsity", WASD_NUM, "0.5", 0, 1, .below_max = true,
                  .summary = "share of the filters, channels, units or taps that are gone at the end; 0: off"},
	[BEGIN] = {"begin", WASD_NUM, "0", 0, 1e5, .summary = "first event, in epochs"},
	[END] = {"end", WASD_NUM, NULL, 0, 1e5, .summary = "last event, in epochs; default: three quarters of the run"},
	[EVERY] = {"every", WASD_INT, "100", 1, 1e9, .summary = "steps from one event to the next"},
	[SCHEDULE] = {"schedule", WASD_CHOICE, "\"one_cycle\"", .choices = curves,
                  .summary =
                      "how the share grows: slowly at both ends, fast at first, in three steps, or at once half-way"},
	[GRANULARITY] = {"granularity", WASD_CHOICE, "\"filter\"", .choices = granularities,
                     .summary =
                         "filters (rows of linear layers), input channels (columns), units of linear layers (both), "
                         "or taps of kernels"},
	[CRITERION] = {"criterion", WASD_CHOICE, "\"magnitude\"", .choices = criteria,
                   .summary = "which die: those with the smallest mean of magnitudes, or any"},
	[SCOPE] = {"scope", WASD_CHOICE, "\"layer\"", .choices = prune_scopes,
               .summary = "the share is that of every layer, or of all layers together"},
	[ROUND_TO] = {"round_to", WASD_INT, "0", 0, 65536,
                  .summary =
                      "a layer keeps a multiple of this; 0: of the block that the backend computes in (16 or 8)"},
	[REMOVE] = {"remove", WASD_CHOICE, "\"serve\"", .choices = removes,
                .summary =
                    "what is dead is cut out for serving alone, or training goes on without it once the ramp is over"},
	LAYERS_OPTION,
	{0},
};

const struct weight_strategy weight_structured = {
	.name = "structured",
	.summary =
		"whole filters, channels, units or taps die, after Induced Feature Selection 2023 and its author's library",
	.options = options,
	.create = create,
	.destroy = destroy,
	.begin = begin,
	.state = state,
	.metric = metric,
	.applies = applies,
	.event = event,
	.after_step = after_step,
	.at_epoch = at_epoch,
	.cuts = cuts,
	.cuts_at = cuts_at,
	.resumed = resumed,
};
