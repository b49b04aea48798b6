/* profile/profile.c - the search for a profile, around search.c: builds the checkpoint's network, lists the transforms
 * that its law allows for each layer, judges choices by their loss on validation images, and measures the chosen one as
 * it would be served.
 *
 * During the search a choice is judged by one pass over some hundred validation images, each batch normalised by its
 * own statistics as in training. For one fixed draw these agree with recalibrated statistics to about 1 %
 * (web/docs/was.md#statistics) and need one pass instead of two. The reported numbers of the profile are measured with
 * recalibrated statistics, on all validation images. */
#include "profile/maker.h"
#include "backend/backend.h"
#include "base/fields.h"
#include "infer/bundle.h"
#include "train/mode_file.h"
#include "wasd/model.h"
#include "weights/chain.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = MAKER_BATCH, JUDGE_BATCHES = 5, LAW_DRAWS = 512, OPTIONS_MAX = 48, PRICE_HALVINGS = 7 };
#define HOLDOUT 0.1      /* share of the training images, if the run held out none */
#define TIMING_US 200000 /* duration of a speed measurement */

/* ---- the request ---------------------------------------------------------------------------------------------- */

static enum wasd_status read_request(struct maker *m, struct request *r, struct wasd_err *err)
{
	static const char *const allowed[DESIRES][4] = {{"desire", "budget", "evaluations"},
	                                                {"desire", "budget_us", "evaluations"},
	                                                {"desire", "draw"}};
	static const char *const budget[DESIRES] = {[MACS] = "budget", [LATENCY] = "budget_us"};
	const struct wasd_field *rows = wasd_spec_at("/profiles")->sub;
	const cJSON *j = m->o->request, *desire = cJSON_IsObject(j) ? wasd_json_get(j, "desire") : NULL;
	char at[FIELDS_POINTER];
	int k;
	double n;
	enum wasd_status s;
	if (!desire)
		return wasd_fail_at(err, WASD_EINVAL, "/desire", "\"macs\", \"latency\" or \"draw\" is needed");
	if ((s = fields_choice(desire, "/desire", wasd_field_find(rows, "desire"), &k, err)))
		return s;
	*r = (struct request){.desire = (enum desire)k, .draw = wasd_json_get(j, "draw")};
	if ((s = fields_known(j, "", allowed[k], err)))
		return s;
	if (k == DRAW && !cJSON_IsArray(r->draw))
		return wasd_fail_at(err, WASD_EINVAL, "/draw", "must be an array, with a transform for each layer");
	if (k != DRAW) {
		const cJSON *v = wasd_json_get(j, budget[k]);
		fields_pointer(at, "", budget[k]);
		if (!v)
			return wasd_fail_at(err, WASD_EINVAL, at, "is needed");
		if ((s = fields_number(v, at, wasd_field_find(rows, budget[k]), &r->budget, err)))
			return s;
	}
	if ((s = fields_number(wasd_json_get(j, "evaluations"), "/evaluations", wasd_field_find(rows, "evaluations"), &n,
	                       err)))
		return s;
	m->evaluations = (int)n;
	return WASD_OK;
}

/* ---- the network ------------------------------------------------------------------------------------------------ */

static enum wasd_status build_network(struct maker *m, struct wasd_err *err)
{
	const struct backend *b;
	bool present;
	enum wasd_status s = checkpoint_open(m->o->file, m->o->len, &m->ckpt, err);
	if (s || (s = train_spec_read(m->ckpt.spec, &m->spec, err)) || (s = checkpoint_graph(&m->ckpt, &m->graph, err)) ||
	    (s = checkpoint_check_names(&m->ckpt, m->graph, err)) || (s = wasd_model_create(m->graph, 0, &m->model, err)) ||
	    (s = checkpoint_load_params(&m->ckpt, m->graph, "", wasd_model_master(m->model), err)) ||
	    (s = checkpoint_load_stats(&m->ckpt, m->graph, "", wasd_model_stats(m->model, WASD_STATS_AOM), &present, err)))
		return s;
	struct wasd_shape a = wasd_graph_input_shape(m->graph), d = wasd_dataset_shape(m->o->data);
	if (a.c != d.c || a.h != d.h || a.w != d.w || wasd_graph_classes(m->graph) != wasd_dataset_classes(m->o->data))
		return wasd_fail_at(err, WASD_EINVAL, "/dataset",
		                    "its images are %dx%dx%d in %d classes, the network takes %dx%dx%d in %d", d.c, d.h, d.w,
		                    wasd_dataset_classes(m->o->data), a.c, a.h, a.w, wasd_graph_classes(m->graph));
	if (backend_choose(m->o->backend, m->spec.precision, &b, NULL))
		m->spec.precision = WASD_PRECISION_FP32; /* trained on a machine with another backend */
	return WASD_OK;
}

/* Number of images in whole batches of BATCH, or all images if they fit in one batch. The last batch is never a single
 * image. */
static size_t whole_batches(size_t images, size_t most)
{
	size_t n = images < most ? images : most;
	return n > BATCH ? n - n % BATCH : n;
}

enum wasd_status maker_holdout(const struct wasd_dataset *data, const struct train_spec *spec, struct wasd_holdout *out,
                               struct wasd_err *err)
{
	bool own = spec->val_own && wasd_dataset_val(data);
	enum wasd_status s = own ?
	                         wasd_holdout_own(data, spec->limit, spec->split_seed, spec->stratified, out, err) :
	                         wasd_holdout_make(data, spec->limit, spec->val_fraction > 0 ? spec->val_fraction : HOLDOUT,
	                                           spec->split_seed, spec->stratified, out, err);
	if (s == WASD_EINVAL || (!s && out->n_val < 2))
		return wasd_fail_at(err, WASD_EINVAL, "/dataset", "too few training images to judge a draw by");
	return s;
}

static enum wasd_status open_images(struct maker *m, size_t calibration, struct wasd_err *err)
{
	enum wasd_status s = maker_holdout(m->o->data, &m->spec, &m->holdout, err);
	size_t n_subset, n_some;
	const struct wasd_holdout *h = &m->holdout;
	int batch = h->n_val < BATCH ? (int)h->n_val : BATCH;
	if (s || (s = measure_subset(h->train, h->n_train, BATCH, m->spec.seed, &m->subset, &n_subset, err)) ||
	    (s = measure_subset(h->val, h->n_val, batch, m->spec.seed, &m->some, &n_some, err)))
		return s;
	struct wasd_exec_opts judge = {.batch = BATCH, .precision = m->spec.precision, .backend = m->o->backend};
	struct wasd_loader_opts some = {.data = m->o->data,
	                                .split = WASD_TRAIN,
	                                .subset = m->some,
	                                .n_subset = whole_batches(n_some, BATCH * JUDGE_BATCHES),
	                                .batch = BATCH,
	                                .pixels = &m->ckpt.pixels};
	struct wasd_loader_opts val = {.data = m->o->data,
	                               .split = WASD_TRAIN,
	                               .subset = h->val,
	                               .n_subset = h->n_val,
	                               .batch = BATCH,
	                               .pixels = &m->ckpt.pixels,
	                               .prefetch = true};
	struct wasd_loader_opts calib = {.data = m->o->data,
	                                 .split = WASD_TRAIN,
	                                 .subset = m->subset,
	                                 .n_subset = whole_batches(n_subset, calibration ? calibration * BATCH : n_subset),
	                                 .batch = BATCH,
	                                 .pixels = &m->ckpt.pixels,
	                                 .prefetch = true};
	m->eval = (struct wasd_exec_opts){.batch = BATCH, .precision = m->spec.precision, .backend = m->o->backend};
	if ((s = wasd_loader_create(&some, &m->some_val, err)) || (s = wasd_loader_create(&val, &m->val, err)) ||
	    (s = wasd_loader_create(&calib, &m->calib, err)))
		return s;
	return wasd_exec_create(m->model, &judge, &m->exec, err);
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

static bool go_on(void *ctx, uint32_t done, uint32_t of)
{
	struct maker *m = ctx;
	(void)done, (void)of;
	m->stopped = m->stopped || (m->o->go_on && !m->o->go_on(m->o->ctx, m->done, m->evaluations));
	return !m->stopped;
}

struct measure_tick maker_tick(struct maker *m)
{
	return (struct measure_tick){go_on, m};
}

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

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

/* Median time of n images, in microseconds. */
static enum wasd_status time_of(struct wasd_predictor *p, const struct wasd_bundle *b, int n, double *us,
                                struct wasd_err *err)
{
	enum { MOST = 64, LEAST = 5 };
	double t[MOST];
	int k = 0;
	real *x = wasd_calloc((size_t)n * wasd_shape_count(wasd_bundle_shape(b)), sizeof *x),
		 *y = wasd_calloc((size_t)n * (size_t)wasd_bundle_classes(b), sizeof *y);
	enum wasd_status s = x && y ? wasd_predictor_run(p, x, n, y, err) : wasd_fail(err, WASD_ENOMEM, "%d images", n);
	for (int64_t begin = wasd_mono_us(); !s && k < MOST && (k < LEAST || wasd_mono_us() - begin < TIMING_US); k++) {
		int64_t at = wasd_mono_us();
		s = wasd_predictor_run(p, x, n, y, err);
		t[k] = (double)(wasd_mono_us() - at);
	}
	wasd_free(x);
	wasd_free(y);
	if (s)
		return s;
	qsort(t, (size_t)k, sizeof *t, ascending);
	*us = fmax(t[k / 2], 1);
	return WASD_OK;
}

/* Measures the speed as served, of single images and, if batch_64, of batches of 64. */
static enum wasd_status time_mode(struct maker *m, const struct wasd_recipe *r, enum wasd_stats_set set, bool batch_64,
                                  struct speed *out, struct wasd_err *err)
{
	struct wasd_bundle *b = NULL;
	struct wasd_predictor *p = NULL;
	double us_64 = 0;
	enum wasd_status s = bundle_compile(m->model, r, set, &b, err);
	if (!s)
		s = wasd_predictor_create(b, &(struct wasd_predictor_opts){.backend = m->o->backend}, &p, err);
	if (!s)
		s = time_of(p, b, 1, &out->latency_us, err);
	if (!s && batch_64)
		s = time_of(p, b, 64, &us_64, err);
	if (!s)
		*out = (struct speed){1e6 / out->latency_us, batch_64 ? 64e6 / us_64 : 0, out->latency_us,
		                      wasd_bundle_bytes(b)};
	wasd_predictor_destroy(p);
	wasd_bundle_unref(b);
	return s;
}

/* Measures all reported numbers of a mode, after recalibrating its statistics. r NULL: plain weights. */
static enum wasd_status examine(struct maker *m, const struct wasd_recipe *r, struct verdict *out, struct wasd_err *err)
{
	enum wasd_stats_set set = r ? WASD_STATS_DOM : WASD_STATS_AOM;
	struct measure_net net = {0};
	enum wasd_status s = measure_statistics(m->exec, m->calib, r, set, maker_tick(m), err);
	if (!s)
		s = measure_net_create(m->model, r, set, &m->eval, &net, err);
	if (!s)
		s = measure_accuracy(net.exec, m->val, NULL, maker_tick(m), NULL, &out->val, err);
	measure_net_done(&net);
	out->macs = wasd_graph_macs(m->graph, r);
	return s ? s : time_mode(m, r, set, true, &out->speed, err);
}

/* ---- searching --------------------------------------------------------------------------------------------- */

/* Finds by bisection the smallest saving whose plan processes one image within the budget. Compiles and times each
 * plan. */
static enum wasd_status saving_for_latency(struct maker *m, struct search *s, double budget_us, uint64_t *need,
                                           struct wasd_err *err)
{
	uint64_t low = 0, high = 0;
	int *pick = wasd_calloc((size_t)m->space.n, sizeof *pick);
	struct speed speed = {0};
	enum wasd_status st = pick ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "search for a profile");
	for (int i = 0; i < m->space.n; i++)
		high += m->space.layer[i].option[m->space.layer[i].n - 1].saves;
	/* First the two ends, no saving and the largest, then between them. */
	for (int k = 0; k < PRICE_HALVINGS && !st && go_on(m, 0, 0); k++) {
		uint64_t at = k == 0 ? 0 : k == 1 ? high : low + (high - low) / 2;
		if ((st = search_solve(s, at, pick, err)))
			break;
		maker_set_draw(m, pick);
		if ((st = time_mode(m, &m->draw.recipe, WASD_STATS_DOM, false, &speed, err)))
			break;
		bool met = speed.latency_us <= budget_us;
		if (k == 0 && met)
			high = 0;
		else if (k == 1 && !met)
			st = wasd_fail_at(err, WASD_ENOTFOUND, "/budget_us",
			                  "the draw with the fewest multiply-adds takes %.0f us for one image here",
			                  speed.latency_us);
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
		if ((st = examine(m, &m->draw.recipe, &v, err)))
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

static enum wasd_status given(struct maker *m, const struct request *r, struct verdict *out, struct wasd_err *err)
{
	enum wasd_status s = read_draw(m, r, err);
	m->evaluations = m->done = 0;
	return s ? s : examine(m, &m->draw.recipe, out, err);
}

/* ---- the result -------------------------------------------------------------------------------------------- */

static bool tell(cJSON *j, const struct verdict *v, uint64_t plain, bool share)
{
	return cJSON_AddNumberToObject(j, "macs", (double)v->macs) &&
	       (!share || cJSON_AddNumberToObject(j, "macs_share", (double)v->macs / (double)plain)) &&
	       cJSON_AddNumberToObject(j, "val_loss", v->val.loss) &&
	       cJSON_AddNumberToObject(j, "val_acc", v->val.accuracy) &&
	       cJSON_AddNumberToObject(j, "images_per_s_1", v->speed.per_s_1) &&
	       cJSON_AddNumberToObject(j, "images_per_s_64", v->speed.per_s_64) &&
	       cJSON_AddNumberToObject(j, "latency_us", v->speed.latency_us) &&
	       cJSON_AddNumberToObject(j, "bytes", (double)v->speed.bytes);
}

static cJSON *make_info(const struct maker *m, const struct verdict *v, const struct verdict *aom)
{
	cJSON *j = cJSON_CreateObject(), *draw = wasd_draw_to_json(&m->draw, m->graph), *plain;
	bool ok = j && draw && cJSON_AddItemToObject(j, "draw", draw);
	if (!ok)
		cJSON_Delete(draw);
	ok = ok && tell(j, v, aom->macs, true) && cJSON_AddNumberToObject(j, "evaluations", m->done) &&
	     (plain = cJSON_AddObjectToObject(j, "aom")) && tell(plain, aom, aom->macs, false);
	if (ok)
		return j;
	cJSON_Delete(j);
	return NULL;
}

void maker_done(struct maker *m)
{
	wasd_loader_destroy(m->some_val);
	wasd_loader_destroy(m->val);
	wasd_loader_destroy(m->calib);
	wasd_holdout_done(&m->holdout);
	wasd_free(m->some);
	wasd_free(m->subset);
	search_space_done(&m->space);
	wasd_draw_done(&m->draw);
	wasd_exec_destroy(m->exec);
	wasd_model_destroy(m->model);
	wasd_graph_destroy(m->graph);
	checkpoint_done(&m->ckpt);
}

enum wasd_status maker_open(struct maker *m, const struct wasd_profile_opts *o, size_t calibration, struct request *r,
                            struct wasd_err *err)
{
	*m = (struct maker){.o = o};
	enum wasd_status s = read_request(m, r, err);
	if (!s)
		s = build_network(m, err);
	return s ? s : open_images(m, calibration, err);
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
	struct wasd_profile_opts o = {.request = request};
	struct maker m = {.o = &o};
	struct request r;
	uint64_t need;
	enum wasd_status s = read_request(&m, &r, err);
	if (s || (s = train_spec_read(spec, &m.spec, err)) ||
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

enum wasd_status wasd_profile_search(const struct wasd_profile_opts *o, void **mode_file, size_t *len, cJSON **info,
                                     struct wasd_err *err)
{
	struct maker m;
	struct request r;
	struct verdict aom = {0}, mode = {0};
	void *file = NULL;
	cJSON *j = NULL;
	enum wasd_status s = maker_open(&m, o, 0, &r, err);
	if (s || (s = examine(&m, NULL, &aom, err)) ||
	    (s = r.desire == DRAW ? given(&m, &r, &mode, err) : maker_search(&m, &r, &mode, err)))
		goto end;
	if (!isfinite(aom.val.loss) || !isfinite(mode.val.loss))
		s = wasd_fail(err, WASD_ENUMERIC, "the loss of the %s on the validation images is NaN or infinite",
		              isfinite(aom.val.loss) ? "draw" : "plain weights");
	else if (!(j = make_info(&m, &mode, &aom)))
		s = wasd_fail(err, WASD_ENOMEM, "profile");
	else
		s = mode_file_write(m.graph, m.ckpt.arch, &mode_draw, wasd_json_get(j, "draw"),
		                    wasd_model_stats(m.model, WASD_STATS_DOM), &file, len, err);
	if (!s) {
		*mode_file = file;
		*info = j;
		j = NULL;
	}
end:
	cJSON_Delete(j);
	maker_done(&m);
	return s;
}
