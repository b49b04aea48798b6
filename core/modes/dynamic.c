/* modes/dynamic.c - every image in the width that a gate chooses for it, after DS-Net, stage II (arXiv 2103.13258;
 * gate.h). web/docs/strategies.md#the-mode-dynamic.
 *
 * All images go through the smallest width's network, and the gate reads the means over the maps of one of its layers;
 * what goes to a wider one is computed by that one's network from the start, as the widths have statistics of their own
 * and share no activations. (The authors compute what is in front of the gate at the smallest width for all.) The
 * recipe is
 *
 *     {"at": LAYER or null, "budget": X, "lambda": X, "images": N,
 *      "widths": [{"mode": "width:0.25", "share": X}, ..., {"mode": "aom", "share": X}]}
 *
 * smallest first; share: of the validation images that it answers; at: the layer that the gate reads, null = what the
 * last layer with weights reads. Its tensors, F32: dynamic.reduce.weight (r,C,1,1), dynamic.reduce.bias (r),
 * dynamic.head.weight (n,r,1,1). The file may be anyone's: reading checks every name, type, size and value. */
#include "graph/plan.h"
#include "layers/layer.h"
#include "modes/gate.h"
#include "modes/mode.h"
#include "wasd/infer.h"

#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define PREFIX "dynamic."
#define REDUCE PREFIX "reduce.weight"
#define BIAS PREFIX "reduce.bias"
#define HEAD PREFIX "head.weight"
enum { BATCH = 64, EPOCHS = 30 };

static_assert((int)MODE_PARTS_MAX == (int)GATE_CHOICES_MAX, "a gate chooses among all parts");

/* ---- the layer that the gate reads ------------------------------------------------------------------------ */

static wasd_node by_name(const struct wasd_graph *g, const char *name)
{
	for (wasd_node n = wasd_graph_nodes(g) - 1; n > 0; n--)
		if (*name && !strcmp(wasd_graph_node_info(g, n).name, name))
			return n;
	return -1;
}

/* What the last layer with weights reads. */
static wasd_node before_the_head(const struct wasd_graph *g)
{
	for (wasd_node n = wasd_graph_nodes(g) - 1; n > 0; n--)
		if (wasd_graph_node_info(g, n).weight >= 0)
			return wasd_graph_node_info(g, n).inputs[0];
	return 0;
}

/* A chain is a layer, an add that reads it, and an activation behind them; either may be missing. */
static wasd_node end_of_chain(const struct wasd_graph *g, const wasd_node *tail, wasd_node at)
{
	for (wasd_node head = 1; head < wasd_graph_nodes(g); head++) {
		struct wasd_node_info last = wasd_graph_node_info(g, tail[head]);
		bool in = at == head || at == tail[head] || (last.n_inputs == 1 && at == last.inputs[0]);
		if (tail[head] != head && in)
			return tail[head];
	}
	return at;
}

/* The node whose output is read, with the add and the activation that are computed together with it. */
static enum wasd_status find_node(const struct wasd_graph *g, const char *name, wasd_node *out, struct wasd_err *err)
{
	size_t nodes = (size_t)wasd_graph_nodes(g);
	wasd_node at = name ? by_name(g, name) : before_the_head(g);
	if (at < 1)
		return name ? wasd_fail_at(err, WASD_EINVAL, "/at",
		                           "the smallest network as it is served has no layer \"%.80s\": name a convolution, a "
		                           "linear layer, a pool, an add or an activation",
		                           name) :
		              wasd_fail_at(err, WASD_EINVAL, "/at", "the network has no layer in front of its last one");
	wasd_node *tail = wasd_calloc(nodes, sizeof *tail), *residual = wasd_calloc(nodes, sizeof *residual);
	bool *inner = wasd_calloc(nodes, sizeof *inner),
		 ok = tail && residual && inner && plan_chains(g, tail, residual, inner);
	if (ok)
		*out = end_of_chain(g, tail, at);
	wasd_free(tail);
	wasd_free(residual);
	wasd_free(inner);
	return ok ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "gate");
}

/* ---- reading -------------------------------------------------------------------------------------------------- */

struct dynamic {
	struct mode_router router;
	struct gate gate;
};

static const struct dynamic *dynamic_of(const struct mode_router *r)
{
	return (const struct dynamic *)(const void *)((const char *)r - offsetof(struct dynamic, router));
}

static int choose(const struct mode_router *r, const float *means, float *scratch)
{
	return gate_choose(&dynamic_of(r)->gate, means, scratch);
}

static void destroy(struct mode_router *r)
{
	struct dynamic *d = (struct dynamic *)(void *)((char *)r - offsetof(struct dynamic, router));
	gate_done(&d->gate);
	wasd_free(d);
}

/* The name and the share of width i. */
static bool width_at(const struct mode *m, int i, const char **name, double *share)
{
	const cJSON *w = cJSON_GetArrayItem(wasd_json_get(m->recipe, "widths"), i);
	return wasd_json_str(w, "mode", name) && wasd_mode_ok(*name) && !wasd_mode_member(*name) &&
	       wasd_json_num(w, "share", share) && *share >= 0 && *share <= 1;
}

static enum wasd_status parts(const struct mode *m, char part[MODE_PARTS_MAX][WASD_MODE_LEN], int *n,
                              struct wasd_err *err)
{
	int count = cJSON_GetArraySize(wasd_json_get(m->recipe, "widths"));
	double share, sum = 0;
	const char *name;
	if (count < 2 || count > MODE_PARTS_MAX)
		return wasd_fail_at(err, WASD_EINVAL, "/widths", "must be a list of 2 to %d widths", MODE_PARTS_MAX);
	for (int i = 0; i < count; i++) {
		if (!width_at(m, i, &name, &share))
			return wasd_fail_at(err, WASD_EINVAL, "/widths", "width %d has no sound \"mode\" and \"share\"", i);
		memcpy(part[i], name, strlen(name) + 1); /* wasd_mode_ok has checked the length */
		sum += share;
	}
	if (fabs(sum - 1) > 1e-6)
		return wasd_fail_at(err, WASD_EINVAL, "/widths", "the shares add up to %g", sum);
	*n = count;
	return WASD_OK;
}

static enum wasd_status open_dynamic(const struct mode *m, const struct wasd_graph *g, struct wasd_recipe **out,
                                     struct wasd_err *err)
{
	char part[MODE_PARTS_MAX][WASD_MODE_LEN];
	int n;
	(void)g;
	*out = NULL;
	return parts(m, part, &n, err);
}

/* The values of a tensor of rows x columns, the latter 0 for one without. */
static enum wasd_status find(const struct mode *m, const char *name, size_t rows, size_t columns, const float **out,
                             struct wasd_err *err)
{
	const struct wasd_st_tensor *t = m->tensors ? wasd_st_find(m->tensors, name) : NULL;
	size_t dims[4] = {rows, columns, 1, 1};
	bool fits = t && t->dtype == WASD_F32 && t->ndims == (columns ? 4 : 1);
	for (int i = 0; fits && i < t->ndims; i++)
		fits = t->dims[i] == dims[i];
	if (!fits)
		return columns ?
		           wasd_fail_at(err, WASD_ECORRUPT, name, "mode file: %s must be of type F32 and %zux%zux1x1", name,
		                        rows, columns) :
		           wasd_fail_at(err, WASD_ECORRUPT, name, "mode file: %s must be of type F32 and %zu", name, rows);
	*out = t->data;
	for (size_t i = 0; i < t->count; i++)
		if (!isfinite((double)(*out)[i]))
			return wasd_fail_at(err, WASD_ECORRUPT, name, "mode file: element %zu of %s is %g", i, name,
			                    (double)(*out)[i]);
	return WASD_OK;
}

static enum wasd_status check_names(const struct mode *m, struct wasd_err *err)
{
	for (size_t i = 0; i < wasd_st_count(m->tensors); i++) {
		const char *name = wasd_st_at(m->tensors, i)->name;
		if (!strncmp(name, PREFIX, strlen(PREFIX)) && strcmp(name, REDUCE) && strcmp(name, BIAS) && strcmp(name, HEAD))
			return wasd_fail_at(err, WASD_ECORRUPT, name, "mode file: %.100s is no tensor of a gate", name);
	}
	return WASD_OK;
}

static enum wasd_status read_gate(const struct mode *m, struct gate *g, struct wasd_err *err)
{
	size_t in = (size_t)g->in, r = (size_t)g->reduced, n = (size_t)g->choices;
	const float *reduce, *bias, *head;
	enum wasd_status s = find(m, REDUCE, r, in, &reduce, err);
	if (s || (s = find(m, BIAS, r, 0, &bias, err)) || (s = find(m, HEAD, n, r, &head, err)) ||
	    (s = check_names(m, err)))
		return s;
	for (size_t j = 0; j < r; j++)
		for (size_t c = 0; c < in; c++)
			g->reduce[c * r + j] = reduce[j * in + c];
	memcpy(g->bias, bias, r * sizeof *bias);
	memcpy(g->head, head, n * r * sizeof *head);
	return WASD_OK;
}

/* Multiply-adds of an image: the smallest width and the gate, and what goes to a wider one that one's. */
static double mean_macs(const struct gate *g, const uint64_t *macs, const double *share)
{
	double sum = (double)macs[0] + (double)gate_macs(g->in, g->choices);
	for (int i = 1; i < g->choices; i++)
		sum += share[i] * (double)macs[i];
	return sum;
}

static enum wasd_status make_router(const struct mode *m, const struct wasd_graph *first, const uint64_t *macs,
                                    struct dynamic *d, struct wasd_err *err)
{
	double share[MODE_PARTS_MAX];
	const char *name = NULL;
	int n = cJSON_GetArraySize(wasd_json_get(m->recipe, "widths"));
	wasd_node at;
	wasd_json_str(m->recipe, "at", &name);
	enum wasd_status s = find_node(first, name, &at, err);
	if (s)
		return s;
	for (int i = 0; i < n; i++)
		if (!width_at(m, i, &name, &share[i]))
			return wasd_fail_at(err, WASD_EINVAL, "/widths", "width %d has no sound \"mode\" and \"share\"", i);
	int channels = wasd_graph_node_info(first, at).shape.c;
	const float *reduce;
	if ((s = find(m, REDUCE, (size_t)gate_reduced(channels), (size_t)channels, &reduce, err)))
		return s;
	if (!gate_create(channels, n, &d->gate))
		return wasd_fail(err, WASD_ENOMEM, "gate");
	size_t values = ((size_t)channels + 1 + (size_t)n) * (size_t)d->gate.reduced;
	d->router = (struct mode_router){.at = at,
	                                 .channels = channels,
	                                 .scratch = d->gate.reduced,
	                                 .own = gate_macs(channels, n),
	                                 .macs = (uint64_t)llround(mean_macs(&d->gate, macs, share)),
	                                 .bytes = values * sizeof(float),
	                                 .choose = choose,
	                                 .destroy = destroy};
	return read_gate(m, &d->gate, err);
}

static enum wasd_status route(const struct mode *m, const struct wasd_graph *first, const uint64_t *macs,
                              struct mode_router **out, struct wasd_err *err)
{
	if (!m->tensors)
		return wasd_fail_at(err, WASD_ECORRUPT, "", "mode file: a dynamic mode without tensors");
	struct dynamic *d = wasd_calloc(1, sizeof *d);
	enum wasd_status s = d ? make_router(m, first, macs, d, err) : wasd_fail(err, WASD_ENOMEM, "gate");
	if (!s) {
		*out = &d->router;
	} else if (d) {
		gate_done(&d->gate);
		wasd_free(d);
	}
	return s;
}

/* ---- making: the widths -------------------------------------------------------------------------------------- */

enum { OPT_BUDGET, OPT_AT, OPT_IMAGES };

/* One network that the gate chooses among. */
struct choice {
	char name[WASD_MODE_LEN];
	struct wasd_bundle *bundle;
	struct wasd_exec *exec;
};

struct making {
	const struct mode_making *in;
	struct choice choice[MODE_PARTS_MAX]; /* smallest first */
	uint64_t macs[MODE_PARTS_MAX];
	int n;
	const char *at_name; /* NULL: what the last layer reads */
	wasd_node at;
	int channels; /* of what the gate reads */
	struct gate_set train, val;
	struct gate gate;                           /* the best so far */
	double share[MODE_PARTS_MAX], lambda, best; /* best: its multiply-adds, as a share of the whole network's */
	int done;                                   /* gates that were trained */
};

/* Gates that are trained at most: to find a range of lambda, and to halve it. */
enum { STEPS = 7, HALVINGS = 7, GATES = STEPS + HALVINGS };

static void making_done(struct making *k)
{
	for (int i = 0; i < k->n; i++) {
		wasd_exec_destroy(k->choice[i].exec);
		wasd_bundle_unref(k->choice[i].bundle);
	}
	gate_set_done(&k->train);
	gate_set_done(&k->val);
	gate_done(&k->gate);
}

static enum wasd_status no_widths(struct wasd_err *err)
{
	return wasd_fail_at(err, WASD_EINVAL, "/desire",
	                    "the checkpoint has no widths to choose among: train it with the strategy slices");
}

/* The layer that the request names; NULL: none. */
static enum wasd_status read_at(const cJSON *request, const char **out, struct wasd_err *err)
{
	*out = NULL;
	return !wasd_json_get(request, "at") || wasd_json_str(request, "at", out) ?
	           WASD_OK :
	           wasd_fail_at(err, WASD_EINVAL, "/at", "must be the name of a layer");
}

/* Adds a mode of the checkpoint's list, in the order of multiply-adds. */
static enum wasd_status add_choice(struct making *k, const char *name, struct wasd_err *err)
{
	struct choice c = {0};
	struct wasd_mode_source from = {.file = k->in->file, .len = k->in->len, .name = name};
	enum wasd_status s = wasd_bundle_create(&from, &c.bundle, err);
	if (s || k->n == MODE_PARTS_MAX) {
		wasd_bundle_unref(c.bundle);
		return s ? s : wasd_fail_at(err, WASD_EUNSUPPORTED, "/desire", "more than %d widths", MODE_PARTS_MAX);
	}
	snprintf(c.name, sizeof c.name, "%s", name);
	uint64_t macs = wasd_bundle_macs(c.bundle);
	int at = k->n++;
	for (; at && k->macs[at - 1] > macs; at--) {
		k->macs[at] = k->macs[at - 1];
		k->choice[at] = k->choice[at - 1];
	}
	k->macs[at] = macs;
	k->choice[at] = c;
	return WASD_OK;
}

static enum wasd_status find_widths(struct making *k, struct wasd_err *err)
{
	char name[WASD_MODE_LEN];
	enum wasd_status s = WASD_OK;
	for (int i = 0; !s && !wasd_mode_at(k->in->file, k->in->len, i, name, NULL); i++)
		if (wasd_mode_smaller(name) && strcmp(name, WASD_MODE_SLIM))
			s = add_choice(k, name, err);
	if (!s && !k->n)
		return no_widths(err);
	return s ? s : add_choice(k, WASD_MODE_AOM, err);
}

static enum wasd_status check_budget(const struct making *k, double budget, struct wasd_err *err)
{
	double whole = (double)k->macs[k->n - 1], least = (double)(k->macs[0] + gate_macs(k->channels, k->n)) / whole;
	return budget >= least ?
	           WASD_OK :
	           wasd_fail_at(err, WASD_ENOTFOUND, "/budget",
	                        "budget %g is below what the smallest width and the gate take (%.4g of the whole network)",
	                        budget, ceil(least * 1e4) / 1e4);
}

static enum wasd_status plan(struct making *k, struct wasd_err *err)
{
	const struct wasd_graph *g = wasd_model_graph(wasd_bundle_model(k->choice[0].bundle));
	enum wasd_status s = find_node(g, k->at_name, &k->at, err);
	if (s)
		return s;
	k->channels = wasd_graph_node_info(g, k->at).shape.c;
	if ((s = check_budget(k, k->in->option[OPT_BUDGET], err)))
		return s;
	if (!gate_create(k->channels, k->n, &k->gate))
		return wasd_fail(err, WASD_ENOMEM, "gate");
	for (int i = 0; !s && i < k->n; i++) {
		struct wasd_exec_opts o = {.batch = BATCH,
		                           .constant_weights = true,
		                           .kept = i ? 0 : k->at,
		                           .backend = k->in->backend};
		s = wasd_exec_create(wasd_bundle_model(k->choice[i].bundle), &o, &k->choice[i].exec, err);
	}
	return s;
}

/* ---- making: what the widths make of the images ---------------------------------------------------------------- */

/* What width i makes of the image in a row of the set. */
static enum wasd_status judge(struct making *k, int i, const real *logits, int32_t label, struct gate_set *set, int row,
                              struct wasd_err *err)
{
	size_t at = (size_t)row * (size_t)k->n + (size_t)i;
	double loss;
	int hits;
	enum wasd_status s = loss_softmax_xent(logits, &(struct wasd_targets){.y = &label}, 1,
	                                       wasd_exec_classes(k->choice[i].exec), &loss, &hits, NULL, err);
	if (s == WASD_ENUMERIC || (!s && !isfinite((float)loss)))
		return wasd_fail(err, WASD_ENUMERIC, "the loss of a width is NaN or infinite");
	if (s)
		return s;
	set->loss[at] = (float)loss;
	set->right[at] = hits == 1;
	return WASD_OK;
}

static enum wasd_status see_batch(struct making *k, const struct wasd_batch *b, struct gate_set *set,
                                  struct wasd_err *err)
{
	struct wasd_pass pass = {.n = b->n, .bn = WASD_BN_SET, .set = WASD_STATS_AOM};
	for (int i = 0; i < k->n; i++) {
		struct wasd_exec *e = k->choice[i].exec;
		enum wasd_status s = wasd_exec_forward(e, b->x, &pass, err);
		for (int r = 0; !s && r < b->n; r++)
			s = judge(k, i, wasd_exec_logits(e) + r * wasd_exec_classes(e), b->y[r], set, set->n + r, err);
		for (int r = 0; !s && !i && r < b->n; r++)
			wasd_exec_means(e, r, set->z + (size_t)(set->n + r) * (size_t)set->in);
		if (s)
			return s;
	}
	set->n += b->n;
	return WASD_OK;
}

/* Images of the loader, at most `most` in whole batches. */
static enum wasd_status see(struct making *k, const struct wasd_loader_opts *of, size_t most, struct gate_set *set,
                            struct wasd_err *err)
{
	struct wasd_loader *l = NULL;
	struct wasd_loader_opts o = *of;
	o.batch = BATCH;
	enum wasd_status s = wasd_loader_create(&o, &l, err);
	size_t have = s ? 0 : wasd_loader_batches(l), want = (most - 1) / BATCH + 1, batches = want < have ? want : have;
	if (!s && !gate_set_create((int)batches * BATCH, k->channels, k->n, set))
		s = wasd_fail(err, WASD_ENOMEM, "gate");
	for (size_t i = 0; !s && i < batches; i++)
		s = k->in->go_on(k->in->ctx, 0, GATES) ? see_batch(k, wasd_loader_next(l), set, err) :
		                                         wasd_fail(err, WASD_ECANCELLED, "cancelled");
	wasd_loader_destroy(l);
	return s;
}

/* ---- making: the gate ---------------------------------------------------------------------------------------- */

static bool go_on(void *ctx)
{
	const struct making *k = ctx;
	return k->in->go_on(k->in->ctx, k->done, GATES);
}

/* The shares of the validation images by their choices. False: no memory. */
static bool shares(const struct making *k, const struct gate *g, double share[MODE_PARTS_MAX])
{
	int to[MODE_PARTS_MAX] = {0};
	float *h = wasd_calloc((size_t)g->reduced, sizeof *h);
	for (int i = 0; h && i < k->val.n; i++)
		to[gate_choose(g, k->val.z + (size_t)i * (size_t)g->in, h)]++;
	for (int i = 0; i < MODE_PARTS_MAX; i++)
		share[i] = (double)to[i] / k->val.n;
	wasd_free(h);
	return h;
}

/* Trains a gate, and keeps it if it is nearest to the budget from below. *macs: as a share of the whole network's. */
static enum wasd_status try_lambda(struct making *k, double lambda, double *macs, struct wasd_err *err)
{
	struct gate g = {0};
	double share[MODE_PARTS_MAX], whole = (double)k->macs[k->n - 1];
	struct gate_training t = {.lambda = lambda, .epochs = EPOCHS, .seed = k->in->seed, .go_on = go_on, .ctx = k};
	for (int i = 0; i < k->n; i++)
		t.cost[i] = (double)((i ? k->macs[0] : 0) + k->macs[i]) / whole;
	enum wasd_status s = gate_create(k->channels, k->n, &g) ? gate_train(&g, &k->train, &t, err) :
	                                                          wasd_fail(err, WASD_ENOMEM, "gate");
	if (!s && !shares(k, &g, share))
		s = wasd_fail(err, WASD_ENOMEM, "gate");
	if (!s)
		*macs = mean_macs(&g, k->macs, share) / whole;
	if (!s && *macs <= k->in->option[OPT_BUDGET] && *macs > k->best) {
		gate_done(&k->gate);
		k->gate = g;
		k->lambda = lambda;
		k->best = *macs;
		memcpy(k->share, share, sizeof share);
		g = (struct gate){0};
	}
	gate_done(&g);
	k->done += !s;
	return s;
}

/* The multiply-adds fall as lambda rises: from 0 on it grows in the direction of the budget, then the range is halved.
 * Below 0 it asks for more than the targets do: of images that are learned by heart these want the smallest width. */
static enum wasd_status search(struct making *k, struct wasd_err *err)
{
	double budget = k->in->option[OPT_BUDGET], macs = 0, dear = 0, cheap = 0, next = 0.25;
	k->best = -1;
	enum wasd_status s = try_lambda(k, 0, &macs, err);
	bool over = macs > budget, found = false;
	for (int i = 1; !s && !found && i < STEPS && macs != budget; i++, next *= 4) {
		double *end = over ? &cheap : &dear;
		*(over ? &dear : &cheap) = *end;
		*end = over ? next : -next;
		s = try_lambda(k, *end, &macs, err);
		found = (macs > budget) != over;
	}
	for (int i = 0; !s && found && i < HALVINGS && budget - k->best > 0.005 * budget; i++) {
		double mid = (dear + cheap) / 2;
		s = try_lambda(k, mid, &macs, err);
		*(macs > budget ? &dear : &cheap) = mid;
	}
	if (!s && k->best < 0)
		s = wasd_fail_at(err, WASD_ENOTFOUND, "/budget", "no gate keeps budget %g", budget);
	return s;
}

/* ---- making: the file --------------------------------------------------------------------------------------- */

static enum wasd_status add(struct mode_made *to, const char *name, int ndims, const size_t *dims, const float *values,
                            struct wasd_err *err)
{
	size_t count = 1;
	for (int i = 0; i < ndims; i++)
		count *= dims[i];
	float *copy = wasd_calloc(count, sizeof *copy);
	if (!copy)
		return wasd_fail(err, WASD_ENOMEM, "%s", name);
	memcpy(copy, values, count * sizeof *copy);
	return mode_made_add(to, name, WASD_F32, ndims, dims, copy, err);
}

static enum wasd_status add_gate(struct mode_made *to, const struct gate *g, struct wasd_err *err)
{
	size_t in = (size_t)g->in, r = (size_t)g->reduced, n = (size_t)g->choices;
	float *rows = wasd_calloc(in * r, sizeof *rows);
	enum wasd_status s = rows ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "gate");
	for (size_t i = 0; !s && i < in * r; i++)
		rows[i] = g->reduce[i % in * r + i / in];
	if (!s)
		s = add(to, REDUCE, 4, (size_t[]){r, in, 1, 1}, rows, err);
	if (!s)
		s = add(to, BIAS, 1, &r, g->bias, err);
	if (!s)
		s = add(to, HEAD, 4, (size_t[]){n, r, 1, 1}, g->head, err);
	wasd_free(rows);
	return s;
}

static cJSON *recipe_of(const struct making *k)
{
	cJSON *j = cJSON_CreateObject(), *list = NULL;
	bool ok = (k->at_name ? cJSON_AddStringToObject(j, "at", k->at_name) : cJSON_AddNullToObject(j, "at")) &&
	          cJSON_AddNumberToObject(j, "budget", k->in->option[OPT_BUDGET]) &&
	          cJSON_AddNumberToObject(j, "lambda", k->lambda) && cJSON_AddNumberToObject(j, "images", k->train.n) &&
	          (list = cJSON_AddArrayToObject(j, "widths"));
	for (int i = 0; ok && i < k->n; i++) {
		cJSON *w = cJSON_CreateObject();
		ok = cJSON_AddItemToArray(list, w) && cJSON_AddStringToObject(w, "mode", k->choice[i].name) &&
		     cJSON_AddNumberToObject(w, "share", k->share[i]);
	}
	if (ok)
		return j;
	cJSON_Delete(j);
	return NULL;
}

static enum wasd_status hand_over(const struct making *k, struct mode_made *out, struct wasd_err *err)
{
	bool ok = (out->recipe = recipe_of(k)) && (out->info = cJSON_Duplicate(out->recipe, true)) &&
	          cJSON_AddNumberToObject(out->info, "gate_macs", (double)gate_macs(k->channels, k->n));
	return ok ? add_gate(out, &k->gate, err) : wasd_fail(err, WASD_ENOMEM, "dynamic mode");
}

static enum wasd_status make_dynamic(const struct mode_making *in, struct mode_made *out, struct wasd_err *err)
{
	struct making k = {.in = in};
	enum wasd_status s = read_at(in->request, &k.at_name, err);
	if (!s)
		s = find_widths(&k, err);
	if (!s)
		s = plan(&k, err);
	if (!s)
		s = see(&k, in->train, (size_t)in->option[OPT_IMAGES], &k.train, err);
	if (!s)
		s = see(&k, in->val, SIZE_MAX, &k.val, err);
	if (!s)
		s = search(&k, err);
	if (!s)
		s = hand_over(&k, out, err);
	making_done(&k);
	return s;
}

/* A run whose spec has no slices has no widths. */
static enum wasd_status check_dynamic(const cJSON *spec, struct wasd_shape in, int classes, const cJSON *request,
                                      struct wasd_err *err)
{
	const cJSON *one;
	const char *type = "", *at;
	(void)in;
	(void)classes;
	enum wasd_status s = read_at(request, &at, err);
	bool sliced = !spec;
	cJSON_ArrayForEach(one, wasd_json_get(spec, "weights"))
		sliced |= wasd_json_str(one, "type", &type) && !strcmp(type, "slices");
	return s || sliced ? s : no_widths(err);
}

static const struct wasd_field options[] = {
	[OPT_BUDGET] = {"budget", WASD_NUM, NULL, 0, 1, .above_min = true, .required = true,
                    .summary = "multiply-adds of an image in the mean, as a share of the whole network's"},
	[OPT_AT] = {"at", WASD_STR, NULL, 1, 80,
                .summary = "layer of the smallest width that the gate reads; default: what the last one reads"},
	[OPT_IMAGES] = {"images", WASD_INT, "10000", 64, 1e6, .summary = "training images that the gate learns from"},
	{0},
};

static const struct mode_desire desires[] = {{.name = "dynamic",
                                              .summary = "every image in the width that a gate chooses for it",
                                              .options = options,
                                              .check = check_dynamic,
                                              .make = make_dynamic},
                                             {0}};

const struct mode_kind mode_dynamic = {.name = "dynamic",
                                       .summary = "every image in the width that a gate chooses for it",
                                       .family = "dynamic",
                                       .prefix = PREFIX,
                                       .desires = desires,
                                       .open = open_dynamic,
                                       .parts = parts,
                                       .route = route};
