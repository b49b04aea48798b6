/* weights/superweights.c - convolutions whose weights are sums of templates that layers share, within a budget of
 * parameters: SuperWeights (arXiv 2312.01274), of which the abstract and the authors' code were read.
 * web/docs/strategies.md says what is theirs and what is our reading.
 *
 *     PRE-TRAINING ──last of its steps: the gradients──▶ FOUND ──next event: everything starts again──▶ SEARCHED
 *
 * Without a search a run is SEARCHED from the start, with the bins as clusters. Before it is, the layers of a bank have
 * one vector of coefficients, the first one's. What the plan says follows from the clusters, which are state. */
#include "weights/superweights.h"

#include "base/fields.h"
#include "weights/layers.h"
#include "weights/strategy.h"

#include <math.h>
#include <string.h>

enum { BUDGET, BINS, TEMPLATES, SEARCH_EPOCHS, INIT };
enum init { NETWORK, WIDE };
enum { PRE_TRAINING, FOUND, SEARCHED };

struct superweights {
	const struct wasd_graph *graph;
	const struct weight_param *param;
	int n, bins, most, search_epochs;
	enum init init;
	uint64_t seed;
	char search_at[FIELDS_POINTER];
	struct sw_layer *layer;
	size_t stored;              /* as in struct weight_setup */
	size_t room, others, total; /* values: of all banks at most; not composed; of the network */
	struct sw_plan plan, next;
	int strips;                    /* of a layer at most, in any plan */
	real *cluster, *found, *phase; /* state; found: for SEARCHED */
	real *bank, *dbank, *coeff, *dcoeff;
	double *sums;   /* gradients of coefficients, (outputs, strips, templates) of one layer */
	double *matrix; /* first coefficients of one bank */
	/* the search */
	struct sw_pair *pair;
	real *grads; /* of all composed weights; NULL: not searching */
	real *first; /* the network's first values */
	real **grad; /* of each layer */
	bool keep;   /* the gradients of this step */
};

/* ---- creation ------------------------------------------------------------------------------------------- */

static void destroy(void *self)
{
	struct superweights *s = self;
	sw_plan_done(&s->plan);
	sw_plan_done(&s->next);
	wasd_free(s->layer);
	wasd_free(s->cluster);
	wasd_free(s->found);
	wasd_free(s->phase);
	wasd_free(s->bank);
	wasd_free(s->dbank);
	wasd_free(s->coeff);
	wasd_free(s->dcoeff);
	wasd_free(s->sums);
	wasd_free(s->matrix);
	wasd_free(s->pair);
	wasd_free(s->grads);
	wasd_free(s->first);
	wasd_free(s->grad);
	wasd_free(s);
}

static size_t coefficients(const struct superweights *s)
{
	return (size_t)s->n * (size_t)s->strips * (size_t)s->most;
}

/* Different shapes of a kernel size, at most: as many strips can a layer have. */
static int most_strips(const struct sw_layer *layer, int n)
{
	int most = 0;
	for (int i = 0; i < n; i++) {
		int shapes = 0;
		for (int j = 0; j < n; j++) {
			bool first = layer[j].kh == layer[i].kh && layer[j].kw == layer[i].kw;
			for (int k = 0; k < j && first; k++)
				first = memcmp(&layer[k], &layer[j], sizeof *layer) != 0;
			shapes += first;
		}
		most = shapes > most ? shapes : most;
	}
	return most;
}

static enum wasd_status read_layers(struct superweights *s, struct wasd_err *err)
{
	if (!(s->layer = wasd_calloc((size_t)s->n, sizeof *s->layer)))
		return wasd_fail(err, WASD_ENOMEM, "superweights");
	s->total = s->others = wasd_graph_param_count(s->graph);
	for (int i = 0; i < s->n; i++) {
		const int *d = s->param[i].info.dims;
		s->layer[i] = (struct sw_layer){d[0], d[1], d[2], d[3]};
		s->others -= s->param[i].info.count;
	}
	s->strips = most_strips(s->layer, s->n);
	return WASD_OK;
}

static enum wasd_status allocate(struct superweights *s, struct wasd_err *err)
{
	size_t n = (size_t)s->n, outs = 0, c = coefficients(s);
	for (int i = 0; i < s->n; i++)
		outs = (size_t)s->layer[i].outs > outs ? (size_t)s->layer[i].outs : outs;
	bool ok = (s->bank = wasd_calloc(s->room, sizeof(real))) && (s->dbank = wasd_calloc(s->room, sizeof(real))) &&
	          (s->coeff = wasd_calloc(c, sizeof(real))) && (s->dcoeff = wasd_calloc(c, sizeof(real))) &&
	          (s->sums = wasd_calloc(outs * c / n, sizeof *s->sums)) &&
	          (s->matrix = wasd_calloc(n * SW_TEMPLATES, sizeof *s->matrix)) &&
	          (s->pair = wasd_calloc(n * n, sizeof *s->pair)) && (s->grad = wasd_calloc(n, sizeof *s->grad));
	return ok ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "superweights");
}

/* The plan by s->cluster, which is checked by the caller. */
static void make_plan(struct superweights *s)
{
	for (int i = 0; i < s->n; i++)
		s->plan.cluster[i] = (int)s->cluster[i];
	sw_plan_banks(&s->plan, s->layer);
	sw_plan_fill(&s->plan, s->room, s->most);
}

static enum wasd_status plan_bins(struct superweights *s, const struct weight_setup *setup, struct wasd_err *err)
{
	char ptr[FIELDS_POINTER];
	double budget = setup->option[BUDGET];
	size_t n = (size_t)s->n;
	if (!sw_plan_init(&s->plan, s->n) || !sw_plan_init(&s->next, s->n) ||
	    !(s->cluster = wasd_calloc(n, sizeof(real))) || !(s->found = wasd_calloc(n, sizeof(real))) ||
	    !(s->phase = wasd_calloc(1, sizeof(real))))
		return wasd_fail(err, WASD_ENOMEM, "superweights");
	sw_bins(s->layer, s->n, s->bins, s->plan.cluster);
	sw_nest(s->layer, s->n, s->plan.cluster);
	sw_plan_banks(&s->plan, s->layer);
	size_t all = (size_t)floor(budget * (double)s->total), least = s->others + s->plan.values;
	fields_pointer(ptr, setup->at, "budget");
	if (all < least)
		return wasd_fail_at(err, WASD_EINVAL, ptr,
		                    "%s: one template for each bank of these %d bins and all other parameters are %zu of the "
		                    "network's %zu: take %.4g or more, or fewer bins",
		                    ptr, s->bins, least, s->total, ceil(1e4 * (double)least / (double)s->total) / 1e4);
	size_t useful = (size_t)s->most * (s->total - s->others);
	s->room = all - s->others < useful ? all - s->others : useful;
	for (int i = 0; i < s->n; i++)
		s->cluster[i] = (real)s->plan.cluster[i];
	make_plan(s);
	return WASD_OK;
}

static enum wasd_status read_search(struct superweights *s, const struct weight_setup *setup, struct wasd_err *err)
{
	const char *at = s->search_at;
	double epochs = setup->option[SEARCH_EPOCHS];
	s->search_epochs = isnan(epochs) ? setup->epochs / 10 : (int)epochs;
	s->phase[0] = s->search_epochs ? PRE_TRAINING : SEARCHED;
	fields_pointer(s->search_at, setup->at, "search_epochs");
	return !setup->epochs || s->search_epochs < setup->epochs ?
	           WASD_OK :
	           wasd_fail_at(err, WASD_EINVAL, at, "%s: the run has %d epochs, and trains after the search", at,
	                        setup->epochs);
}

/* ---- coefficients ---------------------------------------------------------------------------------------- */

/* The first layer that has a strip. */
static int leader(const struct superweights *s, int strip)
{
	int l = 0;
	while (strip < s->plan.first[l] || strip >= s->plan.first[l] + s->plan.strips[l])
		l++;
	return l;
}

/* Where the coefficients of a layer's strip are. */
static size_t coeff_at(const struct superweights *s, int layer, int strip)
{
	int l = s->phase[0] == SEARCHED ? layer : leader(s, strip);
	return ((size_t)l * (size_t)s->strips + (size_t)(strip - s->plan.first[l])) * (size_t)s->most;
}

/* The one template of the one layer that has it is the weights themselves, without a coefficient. */
static bool is_plain(const struct sw_strip *b)
{
	return b->layers == 1 && b->templates == 1;
}

/* The coefficients with which a layer's strip is composed. */
static const real *coeff_of(const struct superweights *s, int layer, int strip)
{
	static const real one = 1;
	return is_plain(&s->plan.strip[strip]) ? &one : s->coeff + coeff_at(s, layer, strip);
}

/* Draws the coefficients of a bank: a row for each layer, or one for all. Returns the factor by which templates made of
 * the layers' weights give weights of the same size again. */
static double draw_coefficients(struct superweights *s, int strip)
{
	const struct sw_strip *b = &s->plan.strip[strip];
	bool own = s->phase[0] == SEARCHED;
	int rows = own ? b->layers : 1, row = 0;
	struct wasd_rng r;
	wasd_rng_init(&r, s->seed, "superweights", (uint64_t)strip, own);
	sw_orthogonal(&r, rows, b->templates, s->matrix);
	for (int l = 0; l < s->n; l++) {
		if (strip < s->plan.first[l] || strip >= s->plan.first[l] + s->plan.strips[l])
			continue;
		real *c = s->coeff + coeff_at(s, l, strip);
		for (int k = 0; k < b->templates && !is_plain(b); k++)
			c[k] = (real)s->matrix[(own ? row : 0) * b->templates + k];
		row++;
	}
	return own ? sqrt(fmax(1, (double)rows / b->templates)) : 1 / sqrt(b->layers);
}

/* Templates c^t W of the weights W that the network starts with. */
static void project(struct superweights *s, int strip, double factor, const real *first)
{
	const struct sw_strip *b = &s->plan.strip[strip];
	for (int l = 0; l < s->n; l++) {
		if (strip < s->plan.first[l] || strip >= s->plan.first[l] + s->plan.strips[l])
			continue;
		const real *c = coeff_of(s, l, strip), *w = first + s->param[l].info.offset;
		for (int o = 0; o < b->outs; o++) {
			struct sw_run run = sw_run_of(b, s->layer[l].ins, o);
			for (int k = 0; k < b->templates; k++) {
				real *t = s->bank + b->at + (size_t)k * b->n + run.t, f = (real)(factor * (double)c[k]);
				for (size_t i = 0; i < run.n; i++)
					t[i] += f * w[run.w + i];
			}
		}
	}
}

/* N(0, 2/9), the authors' law. */
static void draw_templates(struct superweights *s, int strip)
{
	const struct sw_strip *b = &s->plan.strip[strip];
	struct wasd_rng r;
	wasd_rng_init(&r, s->seed, "templates", (uint64_t)strip, s->phase[0] == SEARCHED);
	for (size_t i = 0; i < (size_t)b->templates * b->n; i++)
		s->bank[b->at + i] = (real)(sqrt(2) / 3 * wasd_rng_normal(&r));
}

/* first: the values that the network starts with, of all parameters. */
static void start(struct superweights *s, const real *first)
{
	memset(s->bank, 0, s->room * sizeof *s->bank);
	memset(s->coeff, 0, coefficients(s) * sizeof *s->coeff);
	for (int i = 0; i < s->plan.n_strips; i++) {
		double factor = draw_coefficients(s, i);
		if (s->init == WIDE)
			draw_templates(s, i);
		else
			project(s, i, factor, first);
	}
}

static enum wasd_status first_start(struct superweights *s, struct wasd_err *err)
{
	real *first = wasd_alloc_aligned(s->total, sizeof *first);
	if (!first)
		return wasd_fail(err, WASD_ENOMEM, "superweights");
	wasd_graph_first_values(s->graph, s->seed, first);
	start(s, first);
	wasd_free(first);
	return WASD_OK;
}

static enum wasd_status create(const struct weight_setup *setup, void **self, struct wasd_err *err)
{
	struct superweights *s = *self = wasd_calloc(1, sizeof *s);
	if (!s)
		return wasd_fail(err, WASD_ENOMEM, "superweights");
	s->graph = setup->graph;
	s->param = setup->param;
	s->n = setup->n_params;
	s->bins = (int)setup->option[BINS];
	s->most = (int)setup->option[TEMPLATES];
	s->init = (enum init)setup->option[INIT];
	s->seed = setup->seed;
	s->stored = setup->stored;
	enum wasd_status st = read_layers(s, err);
	if (st || (st = plan_bins(s, setup, err)) || (st = read_search(s, setup, err)) || s->stored ||
	    (st = allocate(s, err)))
		return st;
	return first_start(s, err);
}

/* ---- composition ------------------------------------------------------------------------------------------ */

struct pass {
	struct superweights *s;
	int layer;
	real *w;
	const real *g;
};

static void compose_rows(void *ctx, int begin, int end, int thread)
{
	const struct pass *p = ctx;
	const struct superweights *s = p->s;
	int first = s->plan.first[p->layer];
	(void)thread;
	for (int j = first; j < first + s->plan.strips[p->layer]; j++) {
		const struct sw_strip *b = &s->plan.strip[j];
		const real *c = coeff_of(s, p->layer, j);
		for (int o = begin; o < end && o < b->outs; o++) {
			struct sw_run r = sw_run_of(b, s->layer[p->layer].ins, o);
			sw_compose(r.n, b->templates, s->bank + b->at + r.t, b->n, c, p->w + r.w);
		}
	}
}

static void compose(void *self, const struct weight_param *p, real *w)
{
	struct superweights *s = self;
	wasd_parallel(s->layer[p->index].outs, compose_rows, &(struct pass){s, p->index, w, NULL});
}

static void back_rows(void *ctx, int begin, int end, int thread)
{
	const struct pass *p = ctx;
	const struct superweights *s = p->s;
	int first = s->plan.first[p->layer];
	size_t row = (size_t)s->strips * (size_t)s->most;
	(void)thread;
	memset(s->sums + (size_t)begin * row, 0, (size_t)(end - begin) * row * sizeof *s->sums);
	for (int j = first; j < first + s->plan.strips[p->layer]; j++) {
		const struct sw_strip *b = &s->plan.strip[j];
		const real *c = coeff_of(s, p->layer, j);
		for (int o = begin; o < end && o < b->outs; o++) {
			struct sw_run r = sw_run_of(b, s->layer[p->layer].ins, o);
			sw_compose_back(r.n, b->templates, s->bank + b->at + r.t, b->n, c, p->g + r.w, s->dbank + b->at + r.t,
			                s->sums + (size_t)o * row + (size_t)((j - first) * s->most));
		}
	}
}

static void compose_back(void *self, const struct weight_param *p, const real *g)
{
	struct superweights *s = self;
	int outs = s->layer[p->index].outs, first = s->plan.first[p->index];
	size_t row = (size_t)s->strips * (size_t)s->most;
	wasd_parallel(outs, back_rows, &(struct pass){s, p->index, NULL, g});
	for (int j = 0; j < s->plan.strips[p->index]; j++) {
		real *dc = s->dcoeff + coeff_at(s, p->index, first + j);
		for (int k = 0; k < s->plan.strip[first + j].templates && !is_plain(&s->plan.strip[first + j]); k++) {
			double sum = 0;
			for (int o = 0; o < outs; o++)
				sum += s->sums[(size_t)o * row + (size_t)(j * s->most + k)];
			dc[k] += (real)sum;
		}
	}
	if (s->keep)
		memcpy(s->grad[p->index], g, p->info.count * sizeof *g);
}

/* ---- the search ------------------------------------------------------------------------------------------- */

static enum wasd_status begin(void *self, const struct weight_run *r, struct wasd_err *err)
{
	struct superweights *s = self;
	size_t at = 0;
	(void)r;
	if (s->phase[0] == SEARCHED)
		return WASD_OK;
	if (!(s->grads = wasd_calloc(s->total - s->others, sizeof *s->grads)) ||
	    !(s->first = wasd_alloc_aligned(s->total, sizeof *s->first)))
		return wasd_fail(err, WASD_ENOMEM, "superweights");
	for (int i = 0; i < s->n; i++) {
		s->grad[i] = s->grads + at;
		at += s->param[i].info.count;
	}
	return WASD_OK;
}

static size_t begin_bytes(const void *self, int states)
{
	const struct superweights *s = self;
	(void)states;
	return s->phase[0] == SEARCHED ? 0 : (2 * s->total - s->others) * sizeof(real);
}

static uint64_t search_steps(const struct superweights *s, const struct weight_run *r)
{
	return (uint64_t)s->search_epochs * r->batches;
}

static int clusters(const struct superweights *s)
{
	return s->plan.strip[s->plan.n_strips - 1].cluster + 1;
}

static void say_plan(const struct superweights *s, const struct weight_run *r, const char *what)
{
	weight_say(r, "info",
	           "superweights: %s: %d convolutions in %d clusters, %zu templates' values for %zu weights: %.1f %% "
	           "of the network's parameters are left",
	           what, s->n, clusters(s), s->plan.values, s->total - s->others,
	           100 * (double)(s->plan.values + s->others) / (double)s->total);
}

/* After the last step of the pre-training: clusters by the gradients that it had. */
static void after_step(void *self, const struct weight_run *r)
{
	struct superweights *s = self;
	double threshold;
	if (!s->keep)
		return;
	s->keep = false;
	size_t pairs = sw_pairs(s->layer, s->n, s->plan.cluster, (const real *const *)s->grad, s->pair);
	bool fits = sw_cluster(&s->next, s->layer, s->pair, pairs, s->room, &threshold);
	for (int i = 0; i < s->n; i++)
		s->found[i] = fits ? (real)s->next.cluster[i] : s->cluster[i];
	s->phase[0] = FOUND;
	if (fits)
		weight_say(r, "info", "superweights: layers share whose gradients are more alike than %.2f", threshold);
	else
		weight_say(r, "warn", "superweights: no threshold of similarity gives banks within the budget: the bins stay");
}

/* Everything but the clusters is as at the start of the run, and but for the zeros: other strategies have set them. */
static void restart(struct superweights *s, const struct weight_run *r)
{
	memcpy(s->cluster, s->found, (size_t)s->n * sizeof *s->cluster);
	s->phase[0] = SEARCHED;
	make_plan(s);
	wasd_graph_first_values(s->graph, s->seed, s->first);
	start(s, s->first);
	for (size_t i = 0; i < s->total; i++)
		r->master[i] = r->master[i] != 0 ? s->first[i] : 0;
	for (const struct weight_block *b = r->optim; b->name; b++)
		memset(b->values, 0, s->total * sizeof(real));
	for (int i = 0; i < wasd_graph_stats(s->graph); i++) {
		struct wasd_stats_info b = wasd_graph_stats_info(s->graph, i);
		for (int c = 0; c < b.channels; c++) {
			r->stats[b.mean_offset + (size_t)c] = 0;
			r->stats[b.var_offset + (size_t)c] = 1;
		}
	}
}

static bool event(void *self, const struct weight_run *r)
{
	struct superweights *s = self;
	if (!r->step)
		say_plan(s, r, s->phase[0] == SEARCHED ? "bins as clusters" : "pre-training");
	s->keep = s->grads && s->phase[0] == PRE_TRAINING && r->step + 1 >= search_steps(s, r);
	if (!s->first || s->phase[0] != FOUND || r->step < search_steps(s, r))
		return false;
	restart(s, r);
	say_plan(s, r, "found, training starts again");
	return true;
}

static void pace(const void *self, const struct weight_run *r, struct weight_pace *p)
{
	const struct superweights *s = self;
	uint64_t before = s->phase[0] == SEARCHED ? search_steps(s, r) : 0;
	before = before < p->step ? before : p->step; /* a damaged file may say otherwise */
	p->step -= before;
	p->optim_steps -= before;
	p->epochs -= before ? s->search_epochs : 0;
}

static const char *paces_at(const void *self)
{
	const struct superweights *s = self;
	return s->search_epochs ? s->search_at : NULL;
}

static bool rehearses(const void *self)
{
	const struct superweights *s = self;
	return s->phase[0] != SEARCHED;
}

/* ---- state ------------------------------------------------------------------------------------------------- */

static bool state(void *self, int i, struct weight_state *out)
{
	struct superweights *s = self;
	const struct weight_state list[] = {
		{.name = "cluster", .ndims = 1, .dims = {(size_t)s->n}, .values = s->cluster},
		{.name = "found", .ndims = 1, .dims = {(size_t)s->n}, .values = s->found},
		{.name = "phase", .ndims = 1, .dims = {1}, .values = s->phase},
	};
	if (i < 3)
		*out = list[i];
	return i < 3;
}

static bool learned(void *self, int i, struct weight_learned *out)
{
	struct superweights *s = self;
	unsigned life = s->phase[0] == SEARCHED;
	const struct weight_learned list[] = {
		{.name = "bank",
	     .ndims = 1,
	     .dims = {s->plan.values},
	     .room = s->room,
	     .values = s->bank,
	     .grad = s->dbank,
	     .decays = true,
	     .life = life},
		{.name = "coeff",
	     .ndims = 3,
	     .dims = {(size_t)s->n, (size_t)s->strips, (size_t)s->most},
	     .room = coefficients(s),
	     .values = s->coeff,
	     .grad = s->dcoeff,
	     .life = life},
	};
	if (i < 2)
		*out = list[i];
	return i < 2;
}

/* True if the clusters are numbers of layers at most, nest as they are, and fit. */
static bool are_clusters(struct superweights *s, const real *cluster)
{
	bool sound = true;
	for (int i = 0; i < s->n; i++) {
		sound = sound && cluster[i] >= 0 && cluster[i] < (real)s->n && cluster[i] == (real)floor((double)cluster[i]);
		s->next.cluster[i] = sound ? (int)cluster[i] : 0;
	}
	sw_nest(s->layer, s->n, s->next.cluster);
	for (int i = 0; i < s->n; i++)
		sound = sound && s->next.cluster[i] == (int)cluster[i];
	sw_plan_banks(&s->next, s->layer);
	return sound && s->next.values <= s->room;
}

/* A reader needs the banks and coefficients alone. */
static enum wasd_status allocate_stored(struct superweights *s, struct wasd_err *err)
{
	size_t c = coefficients(s);
	if (s->plan.values + c > s->stored)
		return wasd_fail(err, WASD_ECORRUPT,
		                 "checkpoint: weights.superweights: %zu values, want a bank of %zu and %zu coefficients",
		                 s->stored, s->plan.values, c);
	s->bank = wasd_calloc(s->plan.values, sizeof *s->bank);
	s->coeff = wasd_calloc(c, sizeof *s->coeff);
	return s->bank && s->coeff ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "superweights");
}

static enum wasd_status arrange(void *self, struct wasd_err *err)
{
	struct superweights *s = self;
	real phase = s->phase[0];
	if (!(phase == PRE_TRAINING || phase == FOUND || phase == SEARCHED) || !are_clusters(s, s->cluster) ||
	    (phase == FOUND && !are_clusters(s, s->found)))
		return wasd_fail(err, WASD_ECORRUPT, "checkpoint: weights.superweights: no clusters of this network's layers");
	make_plan(s);
	return s->stored ? allocate_stored(s, err) : WASD_OK;
}

static bool metric(const void *self, int i, int epoch, const char **name, double *value)
{
	static const char *const names[] = {"superweights_clusters", "superweights_share"};
	const struct superweights *s = self;
	(void)epoch;
	if (i > 1)
		return false;
	*name = names[i];
	*value = i ? (double)(s->plan.values + s->others) / (double)s->total : clusters(s);
	return true;
}

static bool applies(const struct wasd_graph *g, wasd_node n)
{
	return wasd_graph_node_info(g, n).kh > 0;
}

static const char *const inits[] = {"network", "wide", NULL};

static const struct wasd_field options[] = {
	[BUDGET] = {"budget", WASD_NUM, "0.6", 0, 8, .above_min = true,
                .summary = "parameters of the network that are left, as a share of those without sharing"},
	[BINS] = {"bins", WASD_INT, "4", 1, 1000,
              .summary = "groups of consecutive layers within which layers may share; more where shapes do not nest"},
	[TEMPLATES] = {"templates", WASD_INT, "8", 1, SW_TEMPLATES, .summary = "of a bank, at most"},
	[SEARCH_EPOCHS] = {"search_epochs", WASD_INT, NULL, 0, 100000,
                       .summary = "epochs of pre-training before layers that share are chosen by their gradients and "
                                  "training starts again; 0: all of a bin share; default: a tenth of the run"},
	[INIT] = {"init", WASD_CHOICE, "\"network\"", .choices = inits,
              .summary = "templates that reproduce the network's first weights as far as they can, or N(0, 2/9)"},
	LAYERS_OPTION,
	{0},
};

const struct weight_strategy weight_superweights = {
	.name = "superweights",
	.summary = "convolutions composed of shared templates within a budget, SuperWeights 2023 (by the authors' code)",
	.options = options,
	.create = create,
	.destroy = destroy,
	.begin = begin,
	.begin_bytes = begin_bytes,
	.event = event,
	.after_step = after_step,
	.pace = pace,
	.paces_at = paces_at,
	.rehearses = rehearses,
	.state = state,
	.learned = learned,
	.arrange = arrange,
	.compose = compose,
	.compose_back = compose_back,
	.compact = true,
	.metric = metric,
	.applies = applies,
};
