/* profile/profile.c - the search for a profile, around search.c: lists the transforms that the checkpoint's law allows
 * for each layer of its network, judges choices by their loss on validation images, and takes the best.
 *
 * During the search a choice is judged by one pass over some hundred validation images, each batch normalised by its
 * own statistics as in training. For one fixed draw these agree with recalibrated statistics to about 1 %
 * (web/docs/was.md#statistics) and need one pass instead of two. The reported numbers of the profile are measured with
 * recalibrated statistics, on all validation images. */
#include "profile/maker.h"
#include "infer/bundle.h"
#include "wasd/model.h"
#include "weights/chain.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = MAKER_BATCH, LAW_DRAWS = 512, OPTIONS_MAX = 48, PRICE_HALVINGS = 7 };

/* ---- the request ---------------------------------------------------------------------------------------------- */

enum wasd_status maker_request(struct maker *m, struct request *r, struct wasd_err *err)
{
	const char *name = "";
	const struct mode_kind *kind = NULL;
	double v[MODE_OPTIONS_MAX];
	wasd_json_str(m->o->request, "desire", &name);
	const struct mode_desire *d = mode_desire_find(name, &kind);
	if (!d || kind != &mode_draw)
		return wasd_fail_at(err, WASD_EINVAL, "/desire", "\"macs\", \"latency\" or \"draw\" is needed");
	enum wasd_status s = mode_options(d, m->o->request, v, err);
	if (s)
		return s;
	*r = (struct request){.desire = (enum desire)(d - kind->desires)};
	if (r->desire == DRAW) {
		r->draw = wasd_json_get(m->o->request, "draw");
	} else {
		r->budget = v[0];
		m->evaluations = (int)v[1];
	}
	return WASD_OK;
}

/* ---- the options of each layer ---------------------------------------------------------------------------------- */

/* The law of the run, or of the published network for a run without WAS. */
static enum wasd_status open_law(struct maker *m, struct wasd_was **was, struct wasd_err *err)
{
	const char *paper;
	bool plain = cJSON_IsFalse(m->ckpt.was);
	enum wasd_status s = wasd_network_was(m->spec.model, &paper, err);
	if (!s)
		s = wasd_was_create(m->graph, plain ? NULL : m->ckpt.was, paper, was, err);
	if (!s && !*was)
		s = wasd_fail_at(err, WASD_EINVAL, "/desire",
		                 "a %s trained without WAS has no law to draw from: give a \"draw\"", m->ckpt.arch);
	return s;
}

static uint64_t saving(const struct maker *m, const struct wasd_draw_layer *l)
{
	struct wasd_draw one = {{&weight_was}, 1, (struct wasd_draw_layer *)(uintptr_t)l};
	return wasd_graph_macs(m->graph, NULL) - wasd_graph_macs(m->graph, &one.recipe);
}

/* Adds the transform to the layer's options if it saves multiply-adds and no option has the same live taps. */
static void consider(const struct maker *m, struct search_layer *l, const struct wasd_transform *t)
{
	struct wasd_rect r = t->live;
	struct wasd_draw_layer one = {.aug = l->aug, .t = *t};
	if (t->identity || !r.h || l->n == OPTIONS_MAX)
		return;
	for (int i = 1; i < l->n; i++) {
		const struct wasd_transform *have = &l->option[i].t;
		if (!memcmp(&have->live, &r, sizeof r) && have->box == t->box)
			return;
	}
	uint64_t saves = saving(m, &one);
	if (saves)
		l->option[l->n++] = (struct search_option){*t, t->box ? 0 : 2 * r.y + r.h - t->k,
		                                           t->box ? 0 : 2 * r.x + r.w - t->k, saves};
}

static int by_saving(const void *a, const void *b)
{
	const struct search_option *x = a, *y = b;
	if (x->saves != y->saves)
		return x->saves < y->saves ? -1 : 1;
	return x->dy != y->dy ? x->dy - y->dy : x->dx - y->dx;
}

static enum wasd_status begin_space(struct maker *m, const struct wasd_draw *d, struct wasd_err *err)
{
	m->space = (struct search_space){d->n, wasd_calloc((size_t)d->n, sizeof *m->space.layer)};
	m->draw = (struct wasd_draw){{&weight_was}, d->n, wasd_calloc((size_t)d->n, sizeof *m->draw.layer)};
	if (!m->space.layer || !m->draw.layer)
		goto none;
	for (int i = 0; i < d->n; i++) {
		struct search_layer *l = &m->space.layer[i];
		*l = (struct search_layer){d->layer[i].aug, d->layer[i].alpha_one, 1,
		                           wasd_calloc(OPTIONS_MAX, sizeof *l->option)};
		if (!l->option)
			goto none;
		enum wasd_status s = wasd_transform_make("identity", d->layer[i].t.k, (double[6]){0}, &l->option[0].t, err);
		if (s)
			return s;
	}
	return WASD_OK;
none:
	m->space.n = m->space.layer ? m->space.n : 0;
	m->draw.n = m->draw.layer ? m->draw.n : 0;
	return wasd_fail(err, WASD_ENOMEM, "search for a profile");
}

/* Lists each layer's transforms that save multiply-adds, one for each set of live taps, by sampling the law LAW_DRAWS
 * times. */
static enum wasd_status list_options(struct maker *m, struct wasd_err *err)
{
	struct wasd_was *was = NULL;
	struct wasd_draw d = {0};
	struct wasd_rng r;
	uint64_t most = 0;
	enum wasd_status s = open_law(m, &was, err);
	wasd_rng_init(&r, m->spec.seed, "law", 0, 0);
	for (int i = 0; i < LAW_DRAWS && !s; i++) {
		s = wasd_was_draw(was, &r, &d, err);
		if (!s && !i)
			s = begin_space(m, &d, err);
		for (int k = 0; k < d.n && !s; k++)
			consider(m, &m->space.layer[k], &d.layer[k].t);
	}
	for (int i = 0; i < m->space.n && !s; i++) {
		struct search_layer *l = &m->space.layer[i];
		qsort(l->option + 1, (size_t)l->n - 1, sizeof *l->option, by_saving);
		most += l->option[l->n - 1].saves;
	}
	if (!s && !most)
		s = wasd_fail_at(err, WASD_ENOTFOUND, "/desire",
		                 "the transforms of this checkpoint's \"was\" drop no taps: no draw of theirs saves anything");
	wasd_draw_done(&d);
	wasd_was_destroy(was);
	return s;
}

void maker_set_draw(struct maker *m, const int *pick)
{
	for (int i = 0; i < m->space.n; i++) {
		const struct search_layer *l = &m->space.layer[i];
		m->draw.layer[i] =
			(struct wasd_draw_layer){.aug = l->aug, .alpha_one = l->alpha_one, .t = l->option[pick[i]].t};
	}
}

/* ---- judging ----------------------------------------------------------------------------------------------- */

static enum wasd_status batch_pass(void *ctx, struct wasd_pass *p, struct wasd_err *err)
{
	(void)err;
	p->recipe = &((struct maker *)ctx)->draw.recipe;
	p->bn = WASD_BN_BATCH;
	return WASD_OK;
}

static enum wasd_status judge_loss(void *ctx, const int *pick, double *loss, struct wasd_err *err)
{
	struct maker *m = ctx;
	struct measure_result r;
	maker_set_draw(m, pick);
	enum wasd_status s = measure_accuracy(m->exec, m->some_val, &(struct measure_pass){batch_pass, m}, maker_tick(m),
	                                      NULL, &r, err);
	m->done++;
	*loss = s ? INFINITY : r.loss;
	return s;
}

/* The time of a single image as served. */
static enum wasd_status latency_of(struct maker *m, const struct wasd_recipe *r, double *us, struct wasd_err *err)
{
	struct wasd_bundle *b = NULL;
	struct wasd_predictor *p = NULL;
	enum wasd_status s = bundle_compile(m->model, r, WASD_STATS_DOM, &b, err);
	if (!s)
		s = wasd_predictor_create(b, &(struct wasd_predictor_opts){.backend = m->o->backend}, &p, err);
	if (!s)
		s = maker_time(p, b, &(struct maker_timing){.n = 1, .us = MAKER_TIMING_US}, us, err);
	wasd_predictor_destroy(p);
	wasd_bundle_unref(b);
	return s;
}

/* The accuracy of a draw on all validation images, after measuring its statistics. */
static enum wasd_status examine(struct maker *m, struct verdict *out, struct wasd_err *err)
{
	const struct wasd_recipe *r = &m->draw.recipe;
	struct measure_net net = {0};
	enum wasd_status s = measure_statistics(m->exec, m->calib, r, WASD_STATS_DOM, maker_tick(m), err);
	if (!s)
		s = measure_net_create(m->model, r, WASD_STATS_DOM, &m->eval, &net, err);
	if (!s)
		s = measure_accuracy(net.exec, m->val, NULL, maker_tick(m), NULL, &out->val, err);
	measure_net_done(&net);
	out->macs = wasd_graph_macs(m->graph, r);
	return s;
}

/* ---- searching --------------------------------------------------------------------------------------------- */

/* Finds by bisection the smallest saving whose plan processes one image within the budget. Compiles and times each
 * plan. */
static enum wasd_status saving_for_latency(struct maker *m, struct search *s, double budget_us, uint64_t *need,
                                           struct wasd_err *err)
{
	uint64_t low = 0, high = 0;
	int *pick = wasd_calloc((size_t)m->space.n, sizeof *pick);
	double us = 0;
	enum wasd_status st = pick ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "search for a profile");
	for (int i = 0; i < m->space.n; i++)
		high += m->space.layer[i].option[m->space.layer[i].n - 1].saves;
	/* First the two ends, no saving and the largest, then between them. */
	for (int k = 0; k < PRICE_HALVINGS && !st && maker_tick(m).go_on(m, 0, 0); k++) {
		uint64_t at = k == 0 ? 0 : k == 1 ? high : low + (high - low) / 2;
		if ((st = search_solve(s, at, pick, err)))
			break;
		maker_set_draw(m, pick);
		if ((st = latency_of(m, &m->draw.recipe, &us, err)))
			break;
		bool met = us <= budget_us;
		if (k == 0 && met)
			high = 0;
		else if (k == 1 && !met)
			st = wasd_fail_at(err, WASD_ENOTFOUND, "/budget_us",
			                  "the draw with the fewest multiply-adds takes %.0f us for one image here", us);
		else if (k > 1)
			*(met ? &high : &low) = at;
		if (high == 0)
			break;
	}
	*need = high;
	wasd_free(pick);
	return st ? st : m->stopped ? WASD_ECANCELLED : WASD_OK;
}

static enum wasd_status saving_for_macs(const struct maker *m, double budget, uint64_t *need, struct wasd_err *err)
{
	uint64_t plain = wasd_graph_macs(m->graph, NULL), most = 0, allowed = (uint64_t)(budget * (double)plain);
	for (int i = 0; i < m->space.n; i++)
		most += m->space.layer[i].option[m->space.layer[i].n - 1].saves;
	*need = allowed < plain ? plain - allowed : 0;
	return most >= *need ? WASD_OK :
	                       wasd_fail_at(err, WASD_ENOTFOUND, "/budget",
	                                    "budget %g is below the cheapest draw that this law allows (%.4g of the plain "
	                                    "multiply-adds)",
	                                    budget, ceil((double)(plain - most) / (double)plain * 1e4) / 1e4);
}

static enum wasd_status saving_needed(struct maker *m, const struct request *r, struct search *s, uint64_t *need,
                                      struct wasd_err *err)
{
	return r->desire == LATENCY ? saving_for_latency(m, s, r->budget, need, err) :
	                              saving_for_macs(m, r->budget, need, err);
}

/* Measures the best choices of a search. Leaves the one with the highest accuracy in m->draw, its statistics in the DOM
 * set. */
static enum wasd_status choose(struct maker *m, const struct search *s, struct verdict *out, struct wasd_err *err)
{
	const int *best = NULL, *last = NULL;
	enum wasd_status st = WASD_OK;
	for (int i = 0; search_best(s, i) && !st; i++) {
		struct verdict v = {0};
		last = search_best(s, i);
		maker_set_draw(m, last);
		if ((st = examine(m, &v, err)))
			break;
		if (isfinite(v.val.loss) && (!best || v.val.accuracy > out->val.accuracy ||
		                             (v.val.accuracy == out->val.accuracy && v.val.loss < out->val.loss))) {
			best = last;
			*out = v;
		}
	}
	if (st || !best)
		return st ? st : wasd_fail(err, WASD_ENUMERIC, "no draw within the budget has a finite loss");
	if (best == last)
		return WASD_OK;
	maker_set_draw(m, best);
	return measure_statistics(m->exec, m->calib, &m->draw.recipe, WASD_STATS_DOM, maker_tick(m), err);
}

enum wasd_status maker_search(struct maker *m, const struct request *r, struct verdict *out, struct wasd_err *err)
{
	struct search *s = NULL;
	uint64_t need;
	enum wasd_status st = list_options(m, err);
	if (!st)
		st = search_create(&m->space, (struct search_judge){judge_loss, m}, m->evaluations, m->spec.seed, &s, err);
	if (!st)
		st = search_price(s, err);
	if (!st)
		st = saving_needed(m, r, s, &need, err);
	if (!st)
		st = search_refine(s, need, err);
	if (!st)
		st = choose(m, s, out, err);
	search_destroy(s);
	return st;
}

static enum wasd_status read_draw(struct maker *m, const struct request *r, struct wasd_err *err)
{
	struct wasd_err e = {0};
	enum wasd_status s = wasd_draw_from_json(r->draw, m->graph, &m->draw, &e);
	if (s && err) {
		*err = e;
		snprintf(err->pointer, sizeof err->pointer, "/draw%.80s", e.pointer);
	}
	return s;
}

/* Sets m->ckpt.was to the law of the spec, as its checkpoints will record it. */
static enum wasd_status law_of_spec(struct maker *m, struct wasd_err *err)
{
	struct chain_spec spec = {.was = m->spec.was, .weights = m->spec.weights, .seed = m->spec.seed};
	struct weight_chain *weights = NULL;
	enum wasd_status s = wasd_network_was(m->spec.model, &spec.paper, err);
	if (!s)
		s = chain_create(m->graph, &spec, &weights, err);
	if (!s && !(m->ckpt.was = chain_draw_json(weights)))
		s = wasd_fail(err, WASD_ENOMEM, "profile");
	chain_destroy(weights);
	m->ckpt.arch = m->spec.arch;
	return s;
}

enum wasd_status wasd_profile_check(const cJSON *spec, struct wasd_shape in, int classes, const cJSON *request,
                                    struct wasd_err *err)
{
	struct wasd_making o = {.request = request};
	struct maker m = {.o = &o};
	struct request r;
	uint64_t need;
	enum wasd_status s = maker_request(&m, &r, err);
	if (s || !spec || (s = train_spec_read(spec, &m.spec, err)) ||
	    (s = wasd_network_build(m.spec.model, in, classes, &m.graph, err)) || (s = law_of_spec(&m, err)))
		goto end;
	if (r.desire == DRAW)
		s = read_draw(&m, &r, err);
	else
		s = list_options(&m, err);
	if (!s && r.desire == MACS)
		s = saving_for_macs(&m, r.budget, &need, err);
end:
	maker_done(&m);
	return s;
}

/* Hands over the draw in m->draw; its statistics are in the DOM set if it was searched. */
static enum wasd_status hand_over(struct maker *m, bool searched, struct mode_made *out, struct wasd_err *err)
{
	size_t n = wasd_graph_stats_count(m->graph);
	out->recipe = wasd_draw_to_json(&m->draw, m->graph);
	out->info = cJSON_CreateObject();
	bool ok = out->recipe && out->info &&
	          cJSON_AddItemToObject(out->info, "draw", cJSON_Duplicate(out->recipe, true)) &&
	          cJSON_AddNumberToObject(out->info, "evaluations", m->done);
	if (searched && (out->stats = wasd_calloc(n ? n : 1, sizeof *out->stats)))
		memcpy(out->stats, wasd_model_stats(m->model, WASD_STATS_DOM), n * sizeof *out->stats);
	out->measure = !searched;
	return ok && (out->stats || !searched) ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "profile");
}

enum wasd_status wasd_profile_make(const struct mode_making *in, struct mode_made *out, struct wasd_err *err)
{
	struct maker *m = in->maker;
	struct request r = {0};
	struct verdict v = {0};
	enum wasd_status s = maker_request(m, &r, err);
	if (!s)
		s = r.desire == DRAW ? read_draw(m, &r, err) : maker_search(m, &r, &v, err);
	return s ? s : hand_over(m, r.desire != DRAW, out, err);
}
