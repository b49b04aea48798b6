/* graph/exec.c - runs a plan: weights of the pass, forward, loss, backward.
 *
 * If the pass's recipe (weights/strategy.h) forms the weights of a convolution, the step gets a compact kernel without
 * dead taps and the padding to match. Its weight gradient goes to a buffer of the same compact shape, from which the
 * strategy adds to the gradients of the weights and of its own parameters. All other steps read and write the model's
 * blocks directly. */
#include "graph/plan.h"
#include "weights/strategy.h"

#include <assert.h>
#include <string.h>
#include <time.h>

enum exec_state { IDLE, FORWARD_DONE, LOSS_DONE };

struct shadow { /* one convolution whose weights a recipe may form */
	struct weight_kernel kernel;
	const struct wasd_recipe *by; /* the recipe that formed them in the last forward; NULL = none */
	struct wasd_rect at;          /* the taps in buf */
	real *buf;                    /* compact effective weights */
};

struct wasd_exec {
	struct wasd_model *model;
	const struct backend *backend;
	struct wasd_exec_opts opts;
	struct plan plan;
	struct run run;
	int threads, n;           /* team size at planning; number of images that the tensors are laid out for */
	struct shadow *shadow;    /* per such convolution */
	real *shadow_block, *dsw; /* all compact kernels; one compact gradient, zero except while a layer's backward runs */
	size_t shadow_bytes;
	real *logits, *dlogits; /* (batch, classes) */
	real *plane;            /* with kept: room for one map of that node */
	bool *fresh;            /* per node, with keep_all: wasd_exec_forward_from has computed it anew */
	enum exec_state state;
	uint64_t ns[WASD_PHASES];
};

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Adds the time since *from to phase p and sets *from to now. */
static void charge(struct wasd_exec *e, enum wasd_phase p, uint64_t *from)
{
	uint64_t t = now_ns();
	e->ns[p] += t - *from;
	*from = t;
}

/* ---- create --------------------------------------------------------------------------------------------- */

static size_t shadow_bytes(const struct wasd_graph *g, bool training)
{
	size_t total = 0, largest = 0;
	for (int i = 0; i < g->n_augs; i++) {
		size_t n = (g->params[g->nodes[g->augs[i].conv].weight].count + 15) / 16 * 16;
		total += n;
		largest = n > largest ? n : largest;
	}
	return (total + (training ? largest : 0)) * sizeof(real);
}

static enum wasd_status shadows_create(struct wasd_exec *e, struct wasd_err *err)
{
	const struct wasd_graph *g = e->model->graph;
	if (!g->n_augs)
		return WASD_OK;
	e->shadow_bytes = shadow_bytes(g, e->opts.training);
	e->shadow = wasd_calloc((size_t)g->n_augs, sizeof *e->shadow);
	e->shadow_block = tensor_alloc(e->shadow_bytes);
	if (!e->shadow || !e->shadow_block)
		return wasd_fail(err, WASD_ENOMEM, "no memory for %zu bytes of effective weights", e->shadow_bytes);
	real *at = e->shadow_block;
	for (int i = 0; i < g->n_augs; i++) {
		const struct aug *a = &g->augs[i];
		const struct param *w = &g->params[g->nodes[a->conv].weight];
		struct weight_kernel *k = &e->shadow[i].kernel;
		*k = (struct weight_kernel){.graph = g,
		                            .index = i,
		                            .w = wasd_model_weights(e->model, g->nodes[a->conv].weight),
		                            .master = e->model->master,
		                            .outs = g->nodes[a->conv].out,
		                            .k = g->nodes[a->conv].kh};
		k->rows = w->count / (size_t)(k->k * k->k);
		if (e->opts.training) {
			k->grad = e->model->grad;
			k->dw = k->grad + w->offset;
		}
		e->shadow[i].buf = at;
		at += (w->count + 15) / 16 * 16;
	}
	e->dsw = at;
	return WASD_OK;
}

static void bind_params(struct wasd_exec *e)
{
	const struct wasd_graph *g = e->model->graph;
	real *grad = e->model->grad;
	for (int i = 0; i < e->plan.n_steps; i++) {
		struct step *s = &e->plan.steps[i];
		const struct node *n = s->node;
		s->weight = n->weight >= 0 ? wasd_model_weights(e->model, n->weight) : NULL;
		s->bias = n->bias >= 0 ? wasd_model_weights(e->model, n->bias) : NULL;
		s->dweight = grad && n->weight >= 0 ? grad + g->params[n->weight].offset : NULL;
		s->dbias = grad && n->bias >= 0 ? grad + g->params[n->bias].offset : NULL;
	}
}

static enum wasd_status check_opts(const struct wasd_graph *g, const struct wasd_exec_opts *o, struct wasd_err *err)
{
	if (o->batch < 1 || o->batch > 65536)
		return wasd_fail(err, WASD_EINVAL, "batch %d is outside 1..65536", o->batch);
	if (o->arena && o->training)
		return wasd_fail(err, WASD_EINVAL, "a training plan cannot use an arena");
	if (o->quant && (o->training || o->keep_all || !o->constant_weights))
		return wasd_fail(err, WASD_EINVAL, "an int8 network can only be served");
	size_t worst = 0;
	for (int i = 0; i < g->n_nodes; i++) {
		size_t c = wasd_shape_count(g->nodes[i].shape);
		worst = c > worst ? c : worst;
	}
	/* Column counts of matrix products and indices within a plane are ints. */
	if (worst * (size_t)o->batch > 0x7fffffff)
		return wasd_fail(err, WASD_ETOOBIG, "batch %d makes an activation larger than 2^31 values", o->batch);
	return WASD_OK;
}

static enum wasd_status choose_backend(const struct wasd_exec_opts *o, const struct backend **out, struct wasd_err *err)
{
	enum wasd_status s = o->quant ? backend_int8(out, err) : backend_choose(o->backend, o->precision, out, err);
	return s || !(*out)->open ? s : (*out)->open(err);
}

/* One map of the kept node. */
static size_t plane_bytes(const struct wasd_graph *g, const struct wasd_exec_opts *o)
{
	struct wasd_shape map = g->nodes[o->kept].shape;
	return o->kept ? (size_t)map.h * (size_t)map.w * sizeof(real) : 0;
}

enum wasd_status wasd_exec_create(struct wasd_model *m, const struct wasd_exec_opts *o, struct wasd_exec **out,
                                  struct wasd_err *err)
{
	const struct backend *b = NULL;
	enum wasd_status s = check_opts(m->graph, o, err);
	if (s || (s = choose_backend(o, &b, err)))
		return s;
	struct wasd_exec *e = wasd_calloc(1, sizeof *e);
	if (!e)
		return wasd_fail(err, WASD_ENOMEM, "no memory for the plan");
	e->model = m;
	e->backend = b;
	e->opts = *o;
	e->threads = wasd_threads();
	e->n = o->batch;
	if (o->training && !m->grad && !(m->grad = tensor_alloc(m->graph->param_count * sizeof(real)))) {
		s = wasd_fail(err, WASD_ENOMEM, "no memory for the gradients of %zu parameters", m->graph->param_count);
		goto fail;
	}
	size_t logits = (size_t)o->batch * (size_t)wasd_graph_classes(m->graph) * sizeof(real);
	if (!(e->logits = tensor_alloc(logits)) || (o->training && !(e->dlogits = tensor_alloc(logits)))) {
		s = wasd_fail(err, WASD_ENOMEM, "no memory for the logits");
		goto fail;
	}
	if (o->kept && !(e->plane = tensor_alloc(plane_bytes(m->graph, o)))) {
		s = wasd_fail(err, WASD_ENOMEM, "no memory for the plan");
		goto fail;
	}
	if (o->keep_all && !(e->fresh = wasd_calloc((size_t)m->graph->n_nodes, sizeof *e->fresh))) {
		s = wasd_fail(err, WASD_ENOMEM, "no memory for the plan");
		goto fail;
	}
	if (o->constant_weights && !m->packs && !(m->packs = packs_create())) {
		s = wasd_fail(err, WASD_ENOMEM, "no memory for packed weights");
		goto fail;
	}
	if ((s = plan_create(m->graph, b, o, e->threads, o->constant_weights ? m->packs : NULL, &e->plan, err)) ||
	    (s = shadows_create(e, err)))
		goto fail;
	bind_params(e);
	*out = e;
	return WASD_OK;
fail:
	wasd_exec_destroy(e);
	return s;
}

void wasd_exec_destroy(struct wasd_exec *e)
{
	if (!e)
		return;
	plan_done(&e->plan);
	wasd_free(e->shadow);
	tensor_free(e->shadow_block);
	tensor_free(e->logits);
	tensor_free(e->dlogits);
	tensor_free(e->plane);
	wasd_free(e->fresh);
	wasd_free(e);
}

static size_t logits_bytes(const struct wasd_graph *g, const struct wasd_exec_opts *o)
{
	return (o->training ? 2 : 1) * (size_t)o->batch * (size_t)wasd_graph_classes(g) * sizeof(real);
}

size_t wasd_exec_bytes(const struct wasd_exec *e)
{
	return (e->plan.arena ? 0 : e->plan.bytes) + e->shadow_bytes + logits_bytes(e->model->graph, &e->opts) +
	       plane_bytes(e->model->graph, &e->opts);
}

enum wasd_status wasd_exec_price(const struct wasd_graph *g, const struct wasd_exec_opts *o,
                                 struct wasd_exec_price *out, struct wasd_err *err)
{
	const struct backend *b = NULL;
	struct wasd_exec_price p = {0};
	enum wasd_status s = check_opts(g, o, err);
	if (s || (s = choose_backend(o, &b, err)) ||
	    (s = plan_price(g, b, o, wasd_threads(), &p.activations, &p.workspace, err)))
		return s;
	p.workspace += shadow_bytes(g, o->training) + logits_bytes(g, o) + plane_bytes(g, o);
	*out = p;
	return WASD_OK;
}

struct cJSON *wasd_exec_explain(const struct wasd_exec *e)
{
	cJSON *list = cJSON_CreateArray();
	for (int i = 0; list && i < e->plan.n_steps; i++)
		if (e->plan.steps[i].kernel->explain)
			e->plan.steps[i].kernel->explain(&e->plan.steps[i], list);
	return list;
}

/* ---- forward ---------------------------------------------------------------------------------------------- */

/* True if the step computes equal taps as one, on the sums over their window: the kernel supports it, and the sums have
 * the shape of x. */
static bool boxes(const struct step *s, const struct weight_shape *shape)
{
	const struct node *n = s->node;
	return s->kernel->boxes && n->stride == 1 && n->in.h == n->shape.h && n->in.w == n->shape.w &&
	       graph_boxed(n, shape);
}

static void set_kernel(struct step *s, const real *weight, struct wasd_rect at, real *dweight)
{
	s->weight = weight;
	s->dweight = dweight;
	s->kh = at.h;
	s->kw = at.h ? at.w : 0;
	s->pad_top = s->node->pad_top - at.y;
	s->pad_left = s->node->pad_left - at.x;
}

/* Forms the weights of a step right before it runs, so that they are still in cache when it reads them. */
static void set_weights(struct wasd_exec *e, struct step *s, const struct wasd_recipe *r)
{
	const struct node *n = s->node;
	struct shadow *sh = &e->shadow[n->aug];
	struct weight_shape shape;
	s->box = (struct wasd_rect){0};
	sh->by = r && r->by->shape(r, n->aug, &shape) ? r : NULL;
	if (!sh->by) {
		set_kernel(s, sh->kernel.w, (struct wasd_rect){0, 0, n->kh, n->kw}, sh->kernel.dw);
		return;
	}
	sh->at = shape.live;
	if (boxes(s, &shape)) {
		s->box = (struct wasd_rect){n->pad_top - sh->at.y, n->pad_left - sh->at.x, sh->at.h, sh->at.w};
		sh->at.h = sh->at.w = 1;
	}
	r->by->forward(r, &sh->kernel, sh->at, sh->buf);
	set_kernel(s, sh->buf, sh->at, e->dsw);
	if (s->box.h)
		s->pad_top = s->pad_left = 0;
}

static void set_statistics(struct wasd_exec *e, enum wasd_stats_set set)
{
	for (int i = 0; i < e->plan.n_steps; i++) {
		struct step *s = &e->plan.steps[i];
		if (s->node->stats < 0)
			continue;
		const struct stats *st = &e->model->graph->stats[s->node->stats];
		s->mean = e->model->stats[set] + st->offset;
		s->var = s->mean + st->channels;
	}
}

static void set_images(struct wasd_exec *e, int n)
{
	for (int i = 0; n != e->n && i < e->model->graph->n_nodes; i++) {
		e->backend->layout(&e->plan.value[i], n, e->opts.precision);
		e->backend->layout(&e->plan.grad[i], n, e->opts.precision);
	}
	e->n = n;
}

static enum wasd_status run_step(struct wasd_exec *e, struct step *s, uint64_t *t, struct wasd_err *err)
{
	s->status = WASD_OK; /* an earlier pass may have run out of memory; this one may not */
	s->kernel->forward(s, &e->run);
	if (s->status)
		return wasd_fail(err, s->status, "%s %s: forward failed", s->node->layer->op, s->node->name);
	charge(e, s->node->layer->phase_fwd, t);
	return WASD_OK;
}

static void finish_pass(struct wasd_exec *e, uint64_t *t)
{
	e->backend->export(&e->plan.value[e->model->graph->output], 0, e->run.n * wasd_exec_classes(e), e->logits);
	charge(e, WASD_PHASE_OTHER, t);
	e->run.dropout = NULL;
	e->state = FORWARD_DONE;
}

enum wasd_status wasd_exec_forward(struct wasd_exec *e, const real *x, const struct wasd_pass *p, struct wasd_err *err)
{
	uint64_t t = now_ns();
	if (p->n < 1 || p->n > e->opts.batch)
		return wasd_fail(err, WASD_EINVAL, "a pass of %d images in a plan for 1..%d", p->n, e->opts.batch);
	if ((int)p->set < 0 || p->set >= WASD_STATS_SETS || !(p->momentum >= 0 && p->momentum <= 1))
		return wasd_fail(err, WASD_EINVAL, "invalid statistics set %d or momentum %g", (int)p->set, p->momentum);
	if (wasd_threads() != e->threads)
		return wasd_fail(err, WASD_ESTATE, "the plan is for %d threads, but the team has %d", e->threads,
		                 wasd_threads());
	enum wasd_status s = p->recipe && p->recipe->by->check ? p->recipe->by->check(p->recipe, e->model->graph, err) :
	                                                         WASD_OK;
	if (s)
		return s;
	const char *alone = p->bn == WASD_BN_BATCH && p->n == 1 ? wasd_graph_lone_value(e->model->graph) : NULL;
	if (alone)
		return wasd_fail(
			err, WASD_EINVAL,
			"%s: a batch of one image has one value per channel in its 1x1 maps, too few for batch statistics", alone);
	if (e->plan.arena && e->plan.block != e->plan.arena->block)
		plan_bind(&e->plan);
	e->run = (struct run){.n = p->n,
	                      .bn = p->bn,
	                      .update = p->update && p->bn == WASD_BN_BATCH,
	                      .momentum = p->momentum,
	                      .training = e->opts.training,
	                      .dropout = p->dropout,
	                      .dropping = p->dropout != NULL,
	                      .only = p->drop > 0 ? &e->model->graph->nodes[p->drop] : NULL,
	                      .only_p = p->drop_p,
	                      .scratch = e->plan.scratch,
	                      .threads = e->threads};
	e->state = IDLE;
	set_images(e, p->n);
	set_statistics(e, p->set);
	e->backend->import(&e->plan.value[0], p->n, x);
	charge(e, WASD_PHASE_OTHER, &t);
	for (int i = 0; i < e->plan.n_steps; i++) {
		struct step *st = &e->plan.steps[i];
		if (st->node->aug >= 0) {
			set_weights(e, st, p->recipe);
			charge(e, WASD_PHASE_WEIGHTS, &t);
		}
		if ((s = run_step(e, st, &t, err)))
			return s;
	}
	finish_pass(e, &t);
	return WASD_OK;
}

/* Whether one of the node's inputs has been computed anew. */
static bool is_stale(const struct wasd_exec *e, const struct node *n)
{
	for (int k = 0; k < n->n_in; k++)
		if (e->fresh[n->inputs[k]])
			return true;
	return false;
}

enum wasd_status wasd_exec_forward_from(struct wasd_exec *e, wasd_node from, const real *values, struct wasd_err *err)
{
	uint64_t t = now_ns();
	const struct wasd_graph *g = e->model->graph;
	enum wasd_status s = WASD_OK;
	if (!e->opts.keep_all || e->state == IDLE || e->run.dropping)
		return wasd_fail(err, WASD_ESTATE,
		                 "a pass can go on from a node only in a plan with keep_all, after a pass without dropout");
	if (from < 0 || from >= g->n_nodes || !e->plan.value[from].data || (!values && e->plan.step_of[from] < 0))
		return wasd_fail(err, WASD_EINVAL, "node %d is not computed by this plan", from);
	e->run.update = false;
	e->state = IDLE;
	memset(e->fresh, 0, (size_t)g->n_nodes * sizeof *e->fresh);
	if (values)
		e->backend->import(&e->plan.value[from], e->run.n, values);
	else if ((s = run_step(e, &e->plan.steps[e->plan.step_of[from]], &t, err)))
		return s;
	e->fresh[from] = true;
	for (int i = 0; i < e->plan.n_steps; i++) { /* nothing is fused in this plan: a step is its node */
		struct step *st = &e->plan.steps[i];
		wasd_node n = (wasd_node)(st->node - g->nodes);
		if (n <= from || !is_stale(e, st->node))
			continue;
		if ((s = run_step(e, st, &t, err)))
			return s;
		e->fresh[n] = true;
	}
	finish_pass(e, &t);
	return WASD_OK;
}

const real *wasd_exec_logits(struct wasd_exec *e)
{
	return e->logits;
}

int wasd_exec_classes(const struct wasd_exec *e)
{
	return wasd_graph_classes(e->model->graph);
}

enum wasd_status wasd_exec_loss(struct wasd_exec *e, const int32_t *y, double smoothing, double *loss, int *correct,
                                struct wasd_err *err)
{
	return wasd_exec_loss_of(e, &(struct wasd_targets){.y = y, .smoothing = smoothing}, loss, correct, err);
}

enum wasd_status wasd_exec_loss_of(struct wasd_exec *e, const struct wasd_targets *targets, double *loss, int *correct,
                                   struct wasd_err *err)
{
	uint64_t t = now_ns();
	const struct wasd_graph *g = e->model->graph;
	if (e->state == IDLE)
		return wasd_fail(err, WASD_ESTATE, "the loss needs a forward pass first");
	double l;
	int hits;
	enum wasd_status s = loss_softmax_xent(e->logits, targets, e->run.n, wasd_graph_classes(g), &l, &hits, e->dlogits,
	                                       err);
	if (s)
		return s;
	if (e->dlogits && e->plan.grad[g->output].data) {
		e->backend->import(&e->plan.grad[g->output], e->run.n, e->dlogits);
		e->state = LOSS_DONE;
	}
	*loss = l;
	if (correct)
		*correct = hits;
	charge(e, WASD_PHASE_OTHER, &t);
	return WASD_OK;
}

/* ---- backward ----------------------------------------------------------------------------------------------- */

enum wasd_status wasd_exec_backward(struct wasd_exec *e, struct wasd_err *err)
{
	uint64_t t = now_ns();
	if (!e->opts.training || e->state != LOSS_DONE)
		return wasd_fail(err, WASD_ESTATE,
		                 e->opts.training ? "a backward pass needs a forward pass and its loss first" :
		                                    "the plan has no backward pass");
	for (int i = e->plan.n_steps - 1; i >= 0; i--) {
		struct step *s = &e->plan.steps[i];
		if (!s->dy)
			continue;
		struct shadow *sh = s->node->aug >= 0 && e->shadow[s->node->aug].by ? &e->shadow[s->node->aug] : NULL;
		s->kernel->backward(s, &e->run);
		if (s->status) {
			if (sh)
				memset(e->dsw, 0, sh->kernel.rows * (size_t)(s->kh * s->kw) * sizeof(real));
			return wasd_fail(err, s->status, "%s %s: backward failed", s->node->layer->op, s->node->name);
		}
		charge(e, s->node->layer->phase_bwd, &t);
		if (sh) {
			sh->by->by->backward(sh->by, &sh->kernel, sh->at, e->dsw);
			charge(e, WASD_PHASE_WEIGHTS, &t);
		}
	}
	e->state = IDLE;
	return WASD_OK;
}

enum wasd_status wasd_exec_activation(struct wasd_exec *e, wasd_node i, real *out, struct wasd_err *err)
{
	if (!e->opts.keep_all && (i <= 0 || i != e->opts.kept))
		return wasd_fail(err, WASD_ESTATE, "only a plan with keep_all keeps activations");
	if (i < 0 || i >= e->model->graph->n_nodes || !e->plan.value[i].data)
		return wasd_fail(err, WASD_EINVAL, "node %d is not computed by this plan", i);
	const struct tensor *t = &e->plan.value[i];
	e->backend->export(t, 0, e->run.n * t->shape.c, out);
	return WASD_OK;
}

void wasd_exec_means(struct wasd_exec *e, int image, float *means)
{
	const struct tensor *t = &e->plan.value[e->opts.kept];
	int size = t->shape.h * t->shape.w;
	assert(e->plane && image < e->run.n);
	for (int c = 0; c < t->shape.c; c++) {
		double sum = 0;
		e->backend->export(t, image * t->shape.c + c, 1, e->plane);
		for (int i = 0; i < size; i++)
			sum += (double)e->plane[i];
		means[c] = (float)(sum / size);
	}
}

/* ---- profile --------------------------------------------------------------------------------------------------- */

const char *wasd_phase_name(enum wasd_phase p)
{
	static const char *const names[WASD_PHASES] = {
		[WASD_PHASE_CONV_FWD] = "conv_fwd", [WASD_PHASE_CONV_BWD] = "conv_bwd", [WASD_PHASE_BATCHNORM] = "batchnorm",
		[WASD_PHASE_LINEAR] = "linear",     [WASD_PHASE_WEIGHTS] = "weights",   [WASD_PHASE_OTHER] = "other",
	};
	return names[p];
}

void wasd_exec_times(struct wasd_exec *e, uint64_t ns[WASD_PHASES], bool reset)
{
	if (ns)
		memcpy(ns, e->ns, sizeof e->ns);
	if (reset)
		memset(e->ns, 0, sizeof e->ns);
}
