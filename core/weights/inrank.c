/* weights/inrank.c - kernels as products of two factors whose rank grows in training, after InRank-Efficient
 * (inrank.h). The authors have linear layers of a transformer; convolutions are our reading: web/docs/strategies.md.
 *
 *     W[o,(i,y,x)] = sum over j < r + b of B[o,j] A[j,(i,y,x)]        dB = dW A^t,  dA = B^t dW
 *
 * Stage 1: A (R,ins), B (outs,R) with R = min(ins,outs)/2; from step `first` on, every `every` steps, the rank r grows
 * by what the singular values explain, within a buffer of b. Stage 2, from an epoch on: the product of rank r + b
 * becomes one of rank r, with factors in balance, which stays. A pass then computes two layers, r x ins and outs x r,
 * in the place of one (train/surgery.c), or the same W as before. */
#include "weights/inrank.h"
#include "weights/layers.h"

#include "backend/gemm.h"
#include "backend/svd.h"
#include "base/fields.h"
#include "wasd/factor.h"
#include "weights/strategy.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define STAGE_STEPS 130 /* of stage 1 at least, if the run has as many */

enum { THRESHOLD, INIT_RANK, BUFFER, EVERY, FIRST, STAGE, COMPUTE };
enum compute { LAYERS, COMPOSED };

struct layer {
	const struct weight_param *param;
	int outs, ins, most, buffer; /* most: R */
	size_t at_a, at_b;           /* of its factors in inrank.values and inrank.grads */
	char name_a[80], name_b[80];
	uint64_t macs;
	bool grew; /* in the check in progress */
	bool failed;
};

struct inrank {
	const struct wasd_graph *graph;
	struct layer *layer;
	int n;
	real *values, *grads, *rank; /* rank: per layer */
	real stage;
	bool over; /* the network has two layers already: nothing is left to do */
	double threshold;
	int every, first, epochs; /* epochs: of stage 1 */
	enum compute compute;
	char compute_at[FIELDS_POINTER];
	uint64_t end;              /* the step at which stage 1 ends */
	double *work;              /* of the decompositions, room for each thread */
	size_t work_size;          /* of a thread */
	double mean, params, macs; /* the metrics */
};

/* ---- arithmetic ---------------------------------------------------------------------------------------------- */

static double variance(const double *s, int from, int n_s, int n)
{
	double sum = 0, squares = 0;
	for (int i = from; i < n_s; i++)
		sum += s[i];
	double mean = sum / n;
	for (int i = from; i < n_s; i++)
		squares += (s[i] - mean) * (s[i] - mean);
	squares += (n - (n_s > from ? n_s - from : 0)) * mean * mean;
	return squares / (n - 1);
}

double inrank_explained(const double *s, int n_s, int n, int j)
{
	double whole = n > 1 ? variance(s, 0, n_s, n) : 0;
	return whole > 0 ? 1 - variance(s, j, n_s, n) / whole : 1;
}

int inrank_grow(const double *s, int n_s, int n, int r, int buffer, int most, double threshold)
{
	int end = r + buffer < most - buffer ? r + buffer : most - buffer;
	for (int j = r; j < end; j++)
		if (j == end - 1 || inrank_explained(s, n_s, n, j) > threshold)
			return j;
	return r;
}

double inrank_break_even(int outs, int ins)
{
	return (double)outs * ins / ((double)outs + ins);
}

void inrank_balance(const double *u, const double *s, const double *v, int m, int n, int r, real *b, real *a)
{
	for (int j = 0; j < r; j++) {
		double root = sqrt(s[j]);
		for (int i = 0; i < m; i++)
			b[(size_t)i * (size_t)r + (size_t)j] = (real)(u[i + (size_t)j * (size_t)m] * root);
		for (int i = 0; i < n; i++)
			a[(size_t)j * (size_t)n + (size_t)i] = (real)(v[i + (size_t)j * (size_t)n] * root);
	}
}

/* ---- creation ------------------------------------------------------------------------------------------------ */

static void destroy(void *self)
{
	struct inrank *s = self;
	wasd_free(s->layer);
	wasd_free(s->values);
	wasd_free(s->grads);
	wasd_free(s->rank);
	wasd_free(s->work);
	wasd_free(s);
}

static int least(int a, int b)
{
	return a < b ? a : b;
}

static void create_layer(struct inrank *s, const struct weight_setup *setup, int i, size_t *size)
{
	struct layer *l = &s->layer[i];
	const struct wasd_param_info *p = &setup->param[i].info;
	struct wasd_node_info n = wasd_graph_node_info(setup->graph, setup->param[i].node);
	int wide;
	l->param = &setup->param[i];
	l->outs = p->dims[0];
	l->ins = (int)(p->count / (size_t)l->outs);
	l->macs = n.macs;
	l->most = least(l->outs, l->ins) / 2;
	wide = l->most / 4 > 2 ? l->most / 4 : 2;
	l->buffer = least((int)setup->option[BUFFER], wide);
	s->rank[i] = (real)least((int)setup->option[INIT_RANK], l->most - l->buffer);
	l->at_a = *size;
	l->at_b = l->at_a + (size_t)l->most * (size_t)l->ins;
	*size = l->at_b + (size_t)l->outs * (size_t)l->most;
	snprintf(l->name_a, sizeof l->name_a, "%.60s.a", n.name);
	snprintf(l->name_b, sizeof l->name_b, "%.60s.b", n.name);
}

/* As the authors' linear layers begin: the bound of each factor is that of its columns. */
static void first_values(struct inrank *s, uint64_t seed)
{
	struct wasd_rng r;
	for (int i = 0; i < s->n; i++) {
		const struct layer *l = &s->layer[i];
		double bound_a = 1 / sqrt(l->ins), bound_b = 1 / sqrt(l->most);
		wasd_rng_init(&r, seed, "inrank", (uint64_t)i, 0);
		for (size_t k = l->at_a; k < l->at_b; k++)
			s->values[k] = (real)wasd_rng_between(&r, -bound_a, bound_a);
		for (size_t k = 0; k < (size_t)l->outs * (size_t)l->most; k++)
			s->values[l->at_b + k] = (real)wasd_rng_between(&r, -bound_b, bound_b);
	}
}

static enum wasd_status check_stage(struct inrank *s, const struct weight_setup *setup, struct wasd_err *err)
{
	char at[FIELDS_POINTER];
	fields_pointer(at, setup->at, "stage");
	if (isnan(setup->option[STAGE]))
		return WASD_OK;
	s->epochs = (int)setup->option[STAGE];
	return !setup->epochs || s->epochs < setup->epochs ?
	           WASD_OK :
	           wasd_fail_at(err, WASD_EINVAL, at, "%s: stage 2 would begin after the run, which has %d epochs", at,
	                        setup->epochs);
}

static enum wasd_status create(const struct weight_setup *setup, void **self, struct wasd_err *err)
{
	struct inrank *s = *self = wasd_calloc(1, sizeof *s);
	size_t n = (size_t)setup->n_params, size = 0;
	if (!s)
		return wasd_fail(err, WASD_ENOMEM, "inrank");
	*s = (struct inrank){.graph = setup->graph,
	                     .n = setup->n_params,
	                     .stage = 1,
	                     .over = setup->smaller,
	                     .threshold = setup->option[THRESHOLD],
	                     .every = (int)setup->option[EVERY],
	                     .first = (int)setup->option[FIRST],
	                     .compute = (enum compute)setup->option[COMPUTE]};
	fields_pointer(s->compute_at, setup->at, "compute");
	gemm_alone();
	s->layer = wasd_calloc(n + 1, sizeof *s->layer);
	s->rank = wasd_calloc(n + 1, sizeof *s->rank);
	if (!s->layer || !s->rank)
		return wasd_fail(err, WASD_ENOMEM, "inrank");
	for (int i = 0; i < s->n; i++)
		create_layer(s, setup, i, &size);
	s->values = wasd_alloc_aligned(size + 1, sizeof *s->values);
	s->grads = wasd_alloc_aligned(size + 1, sizeof *s->grads);
	if (!s->values || !s->grads)
		return wasd_fail(err, WASD_ENOMEM, "inrank: no memory for factors of %zu values", size);
	first_values(s, setup->seed);
	return check_stage(s, setup, err);
}

/* ---- what it learns ------------------------------------------------------------------------------------------ */

static bool state(void *self, int i, struct weight_state *out)
{
	struct inrank *s = self;
	*out = i ? (struct weight_state){.name = "stage", .values = &s->stage} :
	           (struct weight_state){.name = "rank", .ndims = 1, .dims = {(size_t)s->n}, .values = s->rank};
	return i < 2 && !s->over;
}

static bool in_stage_1(const struct inrank *s)
{
	return s->stage == 1;
}

static int rank_of(const struct inrank *s, int i)
{
	return (int)s->rank[i];
}

/* Rows of A and columns of B that exist, and those that W is made of. */
static int rows_of(const struct inrank *s, int i)
{
	return in_stage_1(s) ? s->layer[i].most : rank_of(s, i);
}

static int used_of(const struct inrank *s, int i)
{
	return rank_of(s, i) + (in_stage_1(s) ? s->layer[i].buffer : 0);
}

static bool learned(void *self, int i, struct weight_learned *out)
{
	struct inrank *s = self;
	if (i >= 2 * s->n)
		return false;
	const struct layer *l = &s->layer[i / 2];
	size_t rows = (size_t)rows_of(s, i / 2), ins = (size_t)l->ins, outs = (size_t)l->outs, most = (size_t)l->most;
	*out = i % 2 ? (struct weight_learned){.name = l->name_b,
	                                       .ndims = 2,
	                                       .dims = {outs, rows},
	                                       .room = outs * most,
	                                       .values = s->values + l->at_b,
	                                       .grad = s->grads + l->at_b,
	                                       .decays = true} :
	               (struct weight_learned){.name = l->name_a,
	                                       .ndims = 2,
	                                       .dims = {rows, ins},
	                                       .room = most * ins,
	                                       .values = s->values + l->at_a,
	                                       .grad = s->grads + l->at_a,
	                                       .decays = true};
	return true;
}

static enum wasd_status arrange(void *self, struct wasd_err *err)
{
	const struct inrank *s = self;
	if (s->stage != 1 && s->stage != 2)
		return wasd_fail(err, WASD_ECORRUPT, "checkpoint: weights.inrank.stage: there is no stage %g",
		                 (double)s->stage);
	for (int i = 0; i < s->n; i++) {
		const struct layer *l = &s->layer[i];
		if (!(s->rank[i] >= 1 && s->rank[i] <= (real)(l->most - l->buffer) && s->rank[i] == (real)rank_of(s, i)))
			return wasd_fail(err, WASD_ECORRUPT, "checkpoint: weights.inrank.rank: %g of %s", (double)s->rank[i],
			                 l->param->info.name);
	}
	return WASD_OK;
}

/* ---- the composition: pieces have the same borders for any number of threads --------------------------------- */

enum { ROWS = 32, COLUMNS = 512 };

struct product {
	const struct layer *l;
	int used, rows;
	real *a, *b, *da, *db, *w;
	const real *dw;
};

static struct product product_of(const struct inrank *s, const struct weight_param *p)
{
	const struct layer *l = &s->layer[p->index];
	return (struct product){.l = l,
	                        .used = used_of(s, p->index),
	                        .rows = rows_of(s, p->index),
	                        .a = s->values + l->at_a,
	                        .b = s->values + l->at_b,
	                        .da = s->grads + l->at_a,
	                        .db = s->grads + l->at_b};
}

static void compose_rows(void *ctx, int begin, int end, int thread)
{
	const struct product *k = ctx;
	size_t ins = (size_t)k->l->ins;
	(void)thread;
	for (int i = begin; i < end; i++) {
		size_t o = (size_t)i * ROWS;
		gemm(false, false, least(ROWS, k->l->outs - i * ROWS), k->l->ins, k->used, k->b + o * (size_t)k->rows,
		     (size_t)k->rows, k->a, ins, 0, k->w + o * ins, ins);
	}
}

static void compose(void *self, const struct weight_param *p, real *w)
{
	struct product k = product_of(self, p);
	k.w = w;
	wasd_parallel((k.l->outs + ROWS - 1) / ROWS, compose_rows, &k);
}

static void back_b(void *ctx, int begin, int end, int thread)
{
	const struct product *k = ctx;
	size_t ins = (size_t)k->l->ins;
	(void)thread;
	for (int i = begin; i < end; i++) {
		size_t o = (size_t)i * ROWS;
		gemm(false, true, least(ROWS, k->l->outs - i * ROWS), k->used, k->l->ins, k->dw + o * ins, ins, k->a, ins, 1,
		     k->db + o * (size_t)k->rows, (size_t)k->rows);
	}
}

static void back_a(void *ctx, int begin, int end, int thread)
{
	const struct product *k = ctx;
	size_t ins = (size_t)k->l->ins;
	(void)thread;
	for (int i = begin; i < end; i++) {
		size_t c = (size_t)i * COLUMNS;
		gemm(true, false, k->used, least(COLUMNS, k->l->ins - i * COLUMNS), k->l->outs, k->b, (size_t)k->rows,
		     k->dw + c, ins, 1, k->da + c, ins);
	}
}

static void compose_back(void *self, const struct weight_param *p, const real *g)
{
	struct product k = product_of(self, p);
	k.dw = g;
	wasd_parallel((k.l->outs + ROWS - 1) / ROWS, back_b, &k);
	wasd_parallel((k.l->ins + COLUMNS - 1) / COLUMNS, back_a, &k);
}

/* ---- ranks --------------------------------------------------------------------------------------------------- */

static uint64_t stage_end(const struct inrank *s, const struct weight_run *r)
{
	int epochs = s->epochs;
	if (!epochs) {
		epochs = (int)((STAGE_STEPS + r->batches - 1) / r->batches);
		epochs = epochs < r->epochs ? epochs : r->epochs > 1 ? r->epochs - 1 : 1;
	}
	return (uint64_t)epochs * r->batches;
}

static size_t most_work(const struct inrank *s)
{
	size_t most = 0;
	for (int i = 0; i < s->n; i++) {
		const struct layer *l = &s->layer[i];
		size_t size = svd_doubles(l->outs, l->ins, l->most) + (size_t)l->most;
		most = size > most ? size : most;
	}
	return most;
}

static size_t begin_bytes(const void *self, int states)
{
	(void)states;
	return most_work(self) * (size_t)wasd_threads() * sizeof(double);
}

static enum wasd_status begin(void *self, const struct weight_run *r, struct wasd_err *err)
{
	struct inrank *s = self;
	s->work_size = most_work(s);
	s->end = stage_end(s, r);
	s->work = wasd_calloc(s->work_size * (size_t)wasd_threads() + 1, sizeof *s->work);
	return s->work ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "inrank");
}

/* The decomposition of layer i as it is; s within work. */
static enum wasd_status decompose(const struct inrank *s, int i, double *work, const double **sv, const double **u,
                                  const double **v)
{
	const struct layer *l = &s->layer[i];
	struct svd_factors f = {l->outs, l->ins, used_of(s, i), s->values + l->at_b, s->values + l->at_a, l->most, l->ins};
	*sv = work;
	return svd_of(&f, work + l->most, work, u, v);
}

static void check_layers(void *ctx, int begin, int end, int thread)
{
	struct inrank *s = ctx;
	const double *sv;
	for (int i = begin; i < end; i++) {
		struct layer *l = &s->layer[i];
		int was = rank_of(s, i), now = was;
		l->failed = was < l->most - l->buffer &&
		            decompose(s, i, s->work + (size_t)thread * s->work_size, &sv, NULL, NULL);
		if (was < l->most - l->buffer && !l->failed)
			now = inrank_grow(sv, used_of(s, i), least(l->outs, l->ins), was, l->buffer, l->most, s->threshold);
		l->grew = now > was;
		s->rank[i] = (real)now;
	}
}

/* The rank r becomes all that the factors have. Where no decomposition is found, the first r of them stay. */
static void resize_layers(void *ctx, int begin, int end, int thread)
{
	struct inrank *s = ctx;
	const double *sv, *u, *v;
	for (int i = begin; i < end; i++) {
		struct layer *l = &s->layer[i];
		int r = rank_of(s, i);
		real *a = s->values + l->at_a, *b = s->values + l->at_b;
		l->failed = decompose(s, i, s->work + (size_t)thread * s->work_size, &sv, &u, &v);
		if (!l->failed)
			inrank_balance(u, sv, v, l->outs, l->ins, r, b, a);
		for (int o = 1; l->failed && o < l->outs; o++)
			memmove(b + (size_t)o * (size_t)r, b + (size_t)o * (size_t)l->most, (size_t)r * sizeof *b);
	}
}

static int failures(const struct inrank *s)
{
	int n = 0;
	for (int i = 0; i < s->n; i++)
		n += s->layer[i].failed;
	return n;
}

/* That a rank can grow to: the range of a check ends there. */
static int highest_rank(const struct inrank *s, int i)
{
	int end = s->layer[i].most - s->layer[i].buffer - 1;
	return end > rank_of(s, i) ? end : rank_of(s, i);
}

/* What is left of a layer's weights or multiply-adds, as a product of the rank. */
static double factored(const struct layer *l, double whole, int rank)
{
	return whole / ((double)l->outs * l->ins) * rank * ((double)l->outs + l->ins);
}

/* What the network has as pairs of layers, and what it would have more if each were one. */
struct pairs {
	int n;
	double ranks, params, macs;
};

static struct pairs pairs_of(const struct wasd_graph *g)
{
	struct pairs p = {0};
	for (wasd_node n = 1; n < wasd_graph_nodes(g); n++) {
		wasd_node first = wasd_factor_first(g, n);
		if (first < 0)
			continue;
		struct wasd_node_info a = wasd_graph_node_info(g, first), b = wasd_graph_node_info(g, n);
		double ins = (double)wasd_graph_param_info(g, a.weight).count / a.shape.c;
		double pair = a.shape.c * (ins + b.shape.c), whole = b.shape.c * ins;
		p.n++;
		p.ranks += a.shape.c;
		p.params += whole - pair;
		p.macs += (double)(a.macs + b.macs) * (whole / pair - 1);
	}
	return p;
}

/* Of the whole network, as if all layers were computed as two; with their ranks, or the highest possible. Pairs that
 * are there already count as well. */
static void measure_at(struct inrank *s, bool highest)
{
	double params = (double)wasd_graph_param_count(s->graph), macs = (double)wasd_graph_macs(s->graph, NULL);
	struct pairs p = pairs_of(s->graph);
	double less_params = 0, less_macs = 0, ranks = p.ranks;
	for (int i = 0; i < s->n; i++) {
		const struct layer *l = &s->layer[i];
		double count = (double)l->outs * l->ins;
		int rank = highest ? highest_rank(s, i) : rank_of(s, i);
		ranks += rank;
		less_params += count - factored(l, count, rank);
		less_macs += (double)l->macs - factored(l, (double)l->macs, rank);
	}
	s->mean = s->n + p.n ? ranks / (s->n + p.n) : 0;
	s->params = (params - less_params) / (params + p.params);
	s->macs = (macs - less_macs) / (macs + p.macs);
}

static void measure(struct inrank *s)
{
	measure_at(s, false);
}

static void say_start(const struct inrank *s, const struct weight_run *r)
{
	struct inrank low = *s, high = *s;
	int most = 0;
	measure_at(&low, false);
	measure_at(&high, true);
	for (int i = 0; i < s->n; i++)
		most = highest_rank(s, i) > most ? highest_rank(s, i) : most;
	weight_say(r, "info",
	           "inrank: %d layers; their ranks may grow up to %d until step %llu, which leaves %.1f to %.1f %% of the "
	           "weights and %.1f to %.1f %% of the multiply-adds",
	           s->n, most, (unsigned long long)s->end, 100 * low.params, 100 * high.params, 100 * low.macs,
	           100 * high.macs);
}

static void say_ranks(struct inrank *s, const struct weight_run *r, const char *what)
{
	int low = rank_of(s, 0), high = low;
	for (int i = 1; i < s->n; i++) {
		low = rank_of(s, i) < low ? rank_of(s, i) : low;
		high = rank_of(s, i) > high ? rank_of(s, i) : high;
	}
	measure(s);
	weight_say(r, "info",
	           "inrank: before step %llu %s: %d to %d, mean %.1f; %.1f %% of the weights, %.1f %% of the "
	           "multiply-adds",
	           (unsigned long long)r->step + 1, what, low, high, s->mean, 100 * s->params, 100 * s->macs);
	if (failures(s))
		weight_say(r, "warn", "inrank: the singular values of %d layers were not found", failures(s));
}

static bool is_check(const struct inrank *s, uint64_t step)
{
	return step >= (uint64_t)s->first && (step - (uint64_t)s->first) % (uint64_t)s->every == 0;
}

static bool check(struct inrank *s, const struct weight_run *r)
{
	int grew = 0;
	wasd_parallel(s->n, check_layers, s);
	for (int i = 0; i < s->n; i++)
		grew += s->layer[i].grew;
	if (grew || failures(s))
		say_ranks(s, r, "the ranks have grown");
	return grew;
}

static bool event(void *self, const struct weight_run *r)
{
	struct inrank *s = self;
	if (s->over || !in_stage_1(s))
		return false;
	if (!r->step)
		say_start(s, r);
	if (r->step < s->end)
		return is_check(s, r->step) && check(s, r);
	wasd_parallel(s->n, resize_layers, s);
	s->stage = 2;
	say_ranks(s, r, "stage 2 begins, with ranks that stay");
	return true;
}

static void at_epoch(void *self, const struct weight_run *r)
{
	(void)r;
	measure(self);
}

static bool metric(const void *self, int i, int epoch, const char **name, double *value)
{
	const struct inrank *s = self;
	static const char *const names[] = {"inrank_rank", "inrank_weights", "inrank_macs"};
	(void)epoch;
	if (i > 2)
		return false;
	*name = names[i];
	*value = (double[]){s->mean, s->params, s->macs}[i];
	return true;
}

/* ---- which layers --------------------------------------------------------------------------------------------- */

static bool reads_images(const struct wasd_node_info *n)
{
	return n->n_inputs == 1 && n->inputs[0] == 0;
}

/* Not the stem, the classifier, a grouped convolution, a half of a pair, or a layer whose ranks have no room to grow;
 * of kernels of one tap and linear layers those of 32 channels and more. */
static bool applies(const struct wasd_graph *g, wasd_node i)
{
	struct wasd_node_info n = wasd_graph_node_info(g, i);
	struct wasd_param_info p = wasd_graph_param_info(g, n.weight);
	int outs = p.dims[0], small = least(outs, (int)(p.count / (size_t)outs));
	bool spatial = n.kh > 1 || n.kw > 1;
	return n.groups < 2 && !reads_images(&n) && !wasd_factor_classifies(g, i) && !wasd_factor_taken(g, i) &&
	       (spatial ? small >= 8 : small >= 32);
}

/* ---- two layers in the place of one ---------------------------------------------------------------------------- */

static bool cuts(const void *self, const struct weight_run *r)
{
	const struct inrank *s = self;
	(void)r;
	return s->compute == LAYERS && !s->over && !in_stage_1(s);
}

static const char *cuts_at(const void *self)
{
	const struct inrank *s = self;
	return s->compute == LAYERS ? s->compute_at : NULL;
}

static bool split(const void *self, int i, struct weight_split *out)
{
	const struct inrank *s = self;
	if (i < s->n)
		*out = (struct weight_split){s->layer[i].param, rank_of(s, i), 2 * i, 2 * i + 1};
	return i < s->n;
}

static const char *const computes[] = {"layers", "composed", NULL};

static const struct wasd_field options[] = {
	[THRESHOLD] = {"threshold", WASD_NUM, "0.9", 0, 1,
                   .summary = "share of the singular values' variance that a rank "
                              "must explain, or it grows"},
	[INIT_RANK] = {"init_rank", WASD_INT, "2", 1, 1024, .summary = "rank at the start"},
	[BUFFER] = {"buffer", WASD_INT, "100", 1, 1024,
                .summary = "ranks beyond the current one that are trained, too; at most an eighth of the layer's "
                           "smaller side (at least 2)"},
	[EVERY] = {"every", WASD_INT, "3", 1, 1e6, .summary = "steps from one check of the ranks to the next"},
	[FIRST] = {"first", WASD_INT, "25", 0, 1e9, .summary = "steps before the first check"},
	[STAGE] = {"stage", WASD_INT, NULL, 1, 1e5,
               .summary = "epochs in which ranks may grow; default: 1, or as many as have 130 steps"},
	[COMPUTE] = {"compute", WASD_CHOICE, "\"layers\"", .choices = computes,
                 .summary = "from stage 2 on: two layers in the place of one, in training and serving, or their "
                            "product"},
	LAYERS_OPTION,
	{0},
};

const struct weight_strategy weight_inrank = {
	.name = "inrank",
	.summary = "kernels of low rank, which grows in training, after InRank 2023 and its authors' code",
	.options = options,
	.create = create,
	.destroy = destroy,
	.begin = begin,
	.begin_bytes = begin_bytes,
	.state = state,
	.metric = metric,
	.applies = applies,
	.event = event,
	.at_epoch = at_epoch,
	.cuts = cuts,
	.cuts_at = cuts_at,
	.split = split,
	.compose = compose,
	.compose_back = compose_back,
	.learned = learned,
	.arrange = arrange,
};
