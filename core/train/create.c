/* train/create.c - builds a trainer from a job spec and a dataset, and destroys it. */
#include "backend/backend.h"
#include "train/checkpoint.h"
#include "train/trainer.h"
#include "train/measure.h"
#include "wasd/model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Checks first whether this machine supports the job's precision. */
static enum wasd_status check_precision(const struct wasd_trainer *t, const char *backend, struct wasd_err *err)
{
	const struct backend *b;
	struct wasd_err why = {0};
	enum wasd_status s = backend_choose(backend, t->spec.precision, &b, &why);
	return s ? wasd_fail_at(err, s, "/train/precision", "precision %s: %s", wasd_precision_name(t->spec.precision),
	                        why.msg) :
	           WASD_OK;
}

static enum wasd_status create_graph(struct wasd_trainer *t, struct wasd_err *err)
{
	int classes = wasd_dataset_classes(t->data);
	enum wasd_status s = wasd_network_build(t->spec.model, wasd_dataset_shape(t->data), classes, &t->graph, err);
	if (s)
		return s;
	t->class_names = wasd_calloc((size_t)classes, sizeof *t->class_names);
	if (!t->class_names)
		return wasd_fail(err, WASD_ENOMEM, "class names");
	for (int i = 0; i < classes; i++)
		t->class_names[i] = wasd_dataset_class(t->data, i);
	/* Look for nodes: spare statistics belong to no node, and a network can have them without any batch
	 * normalisation (VGG-16). */
	for (wasd_node n = 0; n < wasd_graph_nodes(t->graph); n++)
		for (int i = 0; i < wasd_graph_stats(t->graph); i++)
			t->has_batchnorm |= !strcmp(wasd_graph_node_info(t->graph, n).name,
			                            wasd_graph_stats_info(t->graph, i).name);
	return WASD_OK;
}

/* A channel of one value throughout has no deviation; it counts as one step of a pixel. */
static enum wasd_status create_pixels(struct wasd_trainer *t, struct wasd_err *err)
{
	int c = wasd_dataset_shape(t->data).c;
	t->pixels = wasd_pixels_half;
	if (t->spec.normalize)
		return wasd_pixels_read(t->spec.normalize, "/data/normalize", c, &t->pixels, err);
	if (!t->spec.normalize_set)
		return WASD_OK;
	wasd_dataset_moments(t->data, t->pixels.mean, t->pixels.std);
	for (int i = 0; i < 3; i++) {
		int k = i < c ? i : 0;
		t->pixels.mean[i] = t->pixels.mean[k];
		t->pixels.std[i] = fmax(t->pixels.std[k], 1 / 255.0);
	}
	return WASD_OK;
}

static const char *const mode_metrics[TRAINER_METRICS] = {"val_loss", "val_acc", "test_loss", "test_acc",
                                                          "eval_images_per_s"};

/* A mode of the run's own network. Takes ownership of recipe_json. */
static bool add_mode(struct wasd_trainer *t, const char *name, const struct mode_kind *kind,
                     const struct wasd_recipe *recipe, cJSON *recipe_json, bool evaluated)
{
	struct trainer_mode *m = &t->mode[t->n_modes];
	*m = (struct trainer_mode){.kind = kind,
	                           .recipe = recipe,
	                           .recipe_json = recipe_json,
	                           .set = (enum wasd_stats_set)(WASD_STATS_AOM + t->n_modes++),
	                           .evaluated = evaluated};
	snprintf(m->name, sizeof m->name, "%s", name);
	snprintf(m->statistics, sizeof m->statistics, "%s", recipe ? "dom." : "");
	for (size_t i = 0; name[i] && i + 1 < sizeof m->label; i++)
		m->label[i] = (char)(name[i] - 'a' + 'A');
	for (int i = 0; i < TRAINER_METRICS; i++)
		snprintf(m->metric[i], sizeof m->metric[i], "%s", wasd_metric_of(mode_metrics[i], name)->name);
	t->n_own = t->n_modes;
	return recipe_json;
}

/* A mode of a strategy's network: its metrics are called QUANTITY_MODE, too. */
static bool add_network(struct wasd_trainer *t, const struct weight_network *w)
{
	struct trainer_mode *m = &t->mode[t->n_modes++];
	*m = (struct trainer_mode){.kind = mode_kind_find(w->kind),
	                           .recipe_json = cJSON_Parse(w->recipe),
	                           .set = WASD_STATS_AOM,
	                           .network = *w,
	                           .evaluated = true};
	snprintf(m->name, sizeof m->name, "%s", w->mode);
	snprintf(m->label, sizeof m->label, "%s", w->label);
	snprintf(m->statistics, sizeof m->statistics, "%s.", w->mode);
	for (int i = 0; i < TRAINER_METRICS; i++)
		snprintf(m->metric[i], sizeof m->metric[i], "%.20s_%.40s", mode_metrics[i], w->mode);
	return m->recipe_json;
}

static enum wasd_status create_modes(struct wasd_trainer *t, struct wasd_err *err)
{
	const struct wasd_recipe *recorded = chain_recorded(t->weights);
	struct weight_network w;
	bool ok = add_mode(t, WASD_MODE_AOM, &mode_plain, NULL, cJSON_CreateNull(), t->spec.eval_aom);
	if (recorded)
		ok = add_mode(t, WASD_MODE_DOM, &mode_draw, recorded, chain_recorded_json(t->weights), t->spec.eval_dom) && ok;
	for (int i = 0; t->n_modes < TRAINER_MODES && chain_network(t->weights, i, &w); i++)
		ok = add_network(t, &w) && ok;
	return ok ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "trainer");
}

static enum wasd_status create_chain(struct wasd_trainer *t, struct wasd_err *err)
{
	struct chain_spec spec = {.was = t->spec.was,
	                          .weights = t->spec.weights,
	                          .seed = t->spec.seed,
	                          .epochs = t->spec.epochs,
	                          .smaller = t->network != NULL};
	enum wasd_status s = wasd_network_was(t->spec.model, &spec.paper, err);
	return s ? s : chain_create(t->graph, &spec, &t->weights, err);
}

static enum wasd_status create_weights(struct wasd_trainer *t, struct wasd_err *err)
{
	enum wasd_status s = create_chain(t, err);
	if (s)
		return s;
	t->was_json = chain_draw_json(t->weights);
	return t->was_json ? create_modes(t, err) : wasd_fail(err, WASD_ENOMEM, "trainer");
}

/* Plans evaluation once, to learn its memory and to choose its kernels before the first step. It plans AOM, whose
 * kernels have no dead taps. */
static enum wasd_status price_evaluation(struct wasd_trainer *t, const struct wasd_train_opts *o, struct wasd_err *err)
{
	struct measure_net net = {0};
	struct wasd_exec_opts eval = t->eval;
	eval.planned = o->planned;
	eval.ctx = o->ctx;
	if (t->spec.statistics == STATISTICS_BATCH)
		return WASD_OK; /* as-trained evaluation uses the training plan */
	enum wasd_status s = measure_net_create(t->model, NULL, WASD_STATS_AOM, &eval, &net, err);
	if (!s)
		t->eval_bytes = measure_net_bytes(&net);
	measure_net_done(&net);
	return s;
}

/* With "decay": "weights", biases, scales, offsets and alphas do not decay: all that has one dimension. What a strategy
 * composes is not the optimizer's. */
static enum wasd_status except_params(struct wasd_trainer *t, struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	for (int i = 0; !s && i < wasd_graph_params(t->graph); i++) {
		struct wasd_param_info p = wasd_graph_param_info(t->graph, i);
		if (chain_composes(t->weights, i))
			s = wasd_optim_leave(t->optim, p.offset, p.offset + p.count, err);
		else if (wasd_optim_spares(t->optim) && p.ndims < 2)
			s = wasd_optim_spare(t->optim, p.offset, p.offset + p.count, err);
	}
	return s;
}

/* Lists the optimizer's state. */
static enum wasd_status list_blocks(struct wasd_trainer *t, struct wasd_err *err)
{
	int n = 0;
	while (wasd_optim_state(t->optim, n, NULL))
		n++;
	t->blocks = wasd_calloc((size_t)n + 1, sizeof *t->blocks);
	for (int i = 0; t->blocks && i < n; i++)
		t->blocks[i].values = wasd_optim_state(t->optim, i, &t->blocks[i].name);
	return t->blocks ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "trainer");
}

/* Model, plan and optimizer of the graph. */
static enum wasd_status create_blocks(struct wasd_trainer *t, const struct wasd_exec_opts *train, struct wasd_err *err)
{
	enum wasd_status s;
	if ((s = wasd_model_create(t->graph, t->spec.seed, &t->model, err)) ||
	    (s = chain_attach(t->weights, t->model, err)) || (s = wasd_exec_create(t->model, train, &t->exec, err)) ||
	    (s = train_search_begin(t, err)) ||
	    (s = wasd_optim_create(t->spec.optimizer, wasd_graph_param_count(t->graph), &t->optim, err)) ||
	    (s = except_params(t, err)))
		return s;
	return list_blocks(t, err);
}

/* The strategies' own networks exist beside the run's. */
static enum wasd_status plan_networks(struct wasd_trainer *t, const struct wasd_exec_opts *train, struct wasd_err *err)
{
	struct weight_plan plan = {.graph = t->graph, .model = t->model, .exec = train};
	enum wasd_status s = chain_plan(t->weights, &plan, err);
	if (!s)
		s = chain_price(t->weights, train, &t->own_bytes, err);
	int states = 0;
	while (t->blocks && t->blocks[states].name)
		states++;
	t->own_bytes += chain_begin_bytes(t->weights, states);
	for (int i = t->n_own; !s && i < t->n_modes; i++)
		chain_network(t->weights, i - t->n_own, &t->mode[i].network);
	return s;
}

static enum wasd_status create_values(struct wasd_trainer *t, const struct wasd_train_opts *o, struct wasd_err *err)
{
	struct wasd_exec_opts train = {.batch = t->spec.batch,
	                               .precision = t->spec.precision,
	                               .backend = o->backend,
	                               .unmeasured = o->unmeasured,
	                               .planned = o->planned,
	                               .ctx = o->ctx};
	train_search_plan(t, &train);
	enum wasd_status s = create_blocks(t, &train, err);
	if (!s)
		s = plan_networks(t, &train, err);
	if (s)
		return s;
	t->eval = (struct wasd_exec_opts){.batch = t->spec.batch,
	                                  .precision = t->spec.precision,
	                                  .backend = o->backend,
	                                  .unmeasured = o->unmeasured};
	if ((s = price_evaluation(t, o, err)))
		return s;
	size_t planned = wasd_trainer_info(t).planned_bytes;
	if (t->spec.memory_bytes && planned > t->spec.memory_bytes)
		return wasd_fail_at(err, WASD_ENOMEM, "/limits/memory_mb",
		                    "%s with batch %d needs %zu MiB, limits.memory_mb is %zu", t->spec.arch, t->spec.batch,
		                    (planned >> 20) + 1, t->spec.memory_bytes >> 20);
	return WASD_OK;
}

/* A batch of one image, which the short last batch can be, has no batch statistics where maps are 1x1. */
static enum wasd_status check_batches(const struct wasd_trainer *t, size_t images, const char *of, struct wasd_err *err)
{
	size_t batch = (size_t)t->spec.batch;
	const char *layer = batch == 1 || images % batch == 1 ? wasd_graph_lone_value(t->graph) : NULL;
	if (!layer)
		return WASD_OK;
	if (batch == 1)
		return wasd_fail_at(err, WASD_EINVAL, "/train/batch",
		                    "%s of %s sees 1x1 maps, where one image has no batch statistics: take larger batches",
		                    layer, t->spec.arch);
	return wasd_fail_at(
		err, WASD_EINVAL, "/train/batch",
		"%s of %s sees 1x1 maps, where one image has no batch statistics, and the last of %zu %s images "
		"would be alone: take another batch size",
		layer, t->spec.arch, images, of);
}

static enum wasd_status check_all_batches(const struct wasd_trainer *t, struct wasd_err *err)
{
	size_t val = t->holdout.n_val, test = wasd_dataset_count(t->data, WASD_TEST);
	enum wasd_status s = check_batches(t, t->holdout.n_train, "training", err);
	if (!s && t->spec.statistics == STATISTICS_BATCH && val)
		s = check_batches(t, val, "validation", err);
	if (!s && t->spec.statistics == STATISTICS_BATCH && test)
		s = check_batches(t, test, "test", err);
	return s;
}

/* Splits the training images into training and hold-out. A checkpoint identifies the split by its digest. */
static enum wasd_status create_holdout(struct wasd_trainer *t, struct wasd_err *err)
{
	struct wasd_err why = {0};
	if (!wasd_dataset_count(t->data, WASD_TRAIN))
		return wasd_fail_at(err, WASD_EINVAL, "/dataset", "the dataset has no training images");
	enum wasd_status s = t->spec.val_own ? wasd_holdout_own(t->data, t->spec.limit, t->spec.split_seed,
	                                                        t->spec.stratified, &t->holdout, &why) :
	                                       wasd_holdout_make(t->data, t->spec.limit, t->spec.val_fraction,
	                                                         t->spec.split_seed, t->spec.stratified, &t->holdout, &why);
	if (s)
		return wasd_fail_at(err, s, "/data/val_fraction", "%s", why.msg);
	if (t->holdout.n_val)
		wasd_sha256_of(t->holdout.val, t->holdout.n_val * sizeof *t->holdout.val, t->holdout_digest);
	return WASD_OK;
}

/* "balanced": images / (classes * images of the class), so that the weights of all training images have the mean 1. A
 * class without images has the weight 0. */
static void balance(const struct wasd_trainer *t, double *weights, int classes)
{
	for (int c = 0; c < classes; c++) {
		double images = t->train_images[c];
		weights[c] = images > 0 ? (double)t->holdout.n_train / (classes * images) : 0;
	}
}

static enum wasd_status create_class_weights(struct wasd_trainer *t, struct wasd_err *err)
{
	static const char at[] = "/train/class_weights";
	int classes = wasd_dataset_classes(t->data), n = cJSON_GetArraySize(t->spec.class_weights), i = 0;
	const cJSON *v;
	char pointer[64];
	if (!t->spec.balanced && !t->spec.class_weights)
		return WASD_OK;
	if (!t->spec.balanced && n != classes)
		return wasd_fail_at(err, WASD_EINVAL, at, "%s has %d numbers, the data set has %d classes", at, n, classes);
	t->class_weights = wasd_calloc((size_t)classes, sizeof *t->class_weights);
	if (!t->class_weights)
		return wasd_fail(err, WASD_ENOMEM, "class weights");
	if (t->spec.balanced)
		balance(t, t->class_weights, classes);
	cJSON_ArrayForEach(v, t->spec.class_weights) {
		snprintf(pointer, sizeof pointer, "%s/%d", at, i);
		if (!cJSON_IsNumber(v) || !(v->valuedouble > 0 && v->valuedouble <= WASD_CLASS_WEIGHT_MAX))
			return wasd_fail_at(err, WASD_EINVAL, pointer, "%s must be a number above 0 and at most %g", pointer,
			                    WASD_CLASS_WEIGHT_MAX);
		t->class_weights[i++] = v->valuedouble;
	}
	return WASD_OK;
}

static enum wasd_status create_loaders(struct wasd_trainer *t, struct wasd_err *err)
{
	const struct wasd_holdout *h = &t->holdout;
	bool has_test = wasd_dataset_count(t->data, WASD_TEST) > 0;
	size_t n_subset;
	enum wasd_status s = measure_subset(h->train, h->n_train, t->spec.batch, t->spec.seed, &t->subset, &n_subset, err);
	if (s)
		return s;
	struct wasd_loader_opts train = {.data = t->data,
	                                 .split = WASD_TRAIN,
	                                 .subset = h->train,
	                                 .n_subset = h->n_train,
	                                 .batch = t->spec.batch,
	                                 .shuffle = true,
	                                 .augment = &t->spec.augment,
	                                 .pixels = &t->pixels,
	                                 .seed = t->spec.seed,
	                                 .prefetch = true};
	struct wasd_loader_opts calib = {.data = t->data,
	                                 .split = WASD_TRAIN,
	                                 .subset = t->subset,
	                                 .n_subset = n_subset,
	                                 .batch = t->spec.batch,
	                                 .pixels = &t->pixels,
	                                 .prefetch = true};
	struct wasd_loader_opts val = {.data = t->data,
	                               .split = WASD_TRAIN,
	                               .subset = h->val,
	                               .n_subset = h->n_val,
	                               .batch = t->spec.batch,
	                               .pixels = &t->pixels,
	                               .prefetch = true};
	struct wasd_loader_opts test = {.data = t->data,
	                                .split = WASD_TEST,
	                                .batch = t->spec.batch,
	                                .pixels = &t->pixels,
	                                .prefetch = true};
	if ((s = wasd_loader_create(&train, &t->train, err)) || (s = wasd_loader_create(&calib, &t->calib, err)))
		return s;
	if (h->n_val)
		s = wasd_loader_create(&val, &t->val, err);
	if (!s && has_test)
		s = wasd_loader_create(&test, h->n_val ? &t->test : &t->val, err);
	t->batches = t->search ? t->search->steps(t->searching) : wasd_loader_batches(t->train);
	return s;
}

static enum wasd_status check_augment(const struct wasd_trainer *t, struct wasd_err *err)
{
	struct wasd_err why = {0};
	enum wasd_status s = augment_check(&t->spec.augment, wasd_dataset_shape(t->data), &why);
	return s ? wasd_fail_at(err, s, "/train/augment", "%s", why.msg) : WASD_OK;
}

/* A goal must name a metric that this run reports. */
static enum wasd_status check_goal(const struct wasd_trainer *t, const struct wasd_metric_kind *metric,
                                   const char *pointer, struct wasd_err *err)
{
	const struct trainer_mode *m = NULL;
	bool val = metric->mode;
	for (int i = 0; val && i < t->n_modes; i++)
		if (!strcmp(metric->mode, t->mode[i].name))
			m = &t->mode[i];
	if (val && !t->holdout.n_val && !wasd_dataset_count(t->data, WASD_TEST))
		return wasd_fail_at(err, WASD_EINVAL, pointer,
		                    "%s: no images are held out (/data/val_fraction) and the dataset has no test images",
		                    metric->name);
	if (val && !m)
		return wasd_fail_at(err, WASD_EINVAL, pointer, "%s: a run without WAS has no DOM mode", metric->name);
	if (val && !m->evaluated)
		return wasd_fail_at(err, WASD_EINVAL, pointer, "%s: eval.modes leaves it out", metric->name);
	return WASD_OK;
}

static enum wasd_status check_goals(struct wasd_trainer *t, struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	if (t->spec.early_stop)
		s = check_goal(t, t->spec.stop.metric, "/train/early_stop/metric", err);
	/* A run without this metric is still valid, but has no best checkpoint. */
	if (check_goal(t, t->spec.best.metric, "", NULL))
		t->spec.keep_best = false;
	return s;
}

cJSON *trainer_complete(cJSON *j, int members)
{
	if (j && cJSON_GetArraySize(j) == members)
		return j;
	cJSON_Delete(j);
	return NULL;
}

void trainer_add(cJSON *j, const char *key, cJSON *item)
{
	if (!cJSON_AddItemToObject(j, key, item))
		cJSON_Delete(item);
}

cJSON *trainer_make_info(const struct wasd_trainer *t)
{
	struct wasd_shape in = wasd_graph_input_shape(t->graph);
	cJSON *j = cJSON_CreateObject();
	cJSON_AddStringToObject(j, "arch", t->spec.arch);
	trainer_add(j, "classes",
	            cJSON_CreateStringArray((const char *const *)t->class_names, wasd_graph_classes(t->graph)));
	trainer_add(j, "input", cJSON_CreateIntArray((int[]){in.c, in.h, in.w}, 3));
	trainer_add(j, "was", cJSON_Duplicate(t->was_json, true));
	trainer_add(j, "draw", cJSON_Duplicate(t->mode[t->n_own - 1].recipe_json, true)); /* null if no strategy draws */
	cJSON *macs = cJSON_AddObjectToObject(j, "macs");
	for (int i = 0; i < t->n_modes; i++)
		cJSON_AddNumberToObject(macs, t->mode[i].name, (double)trainer_macs(t, &t->mode[i]));
	return trainer_complete(j, cJSON_GetArraySize(macs) == t->n_modes ? 6 : 0);
}

enum wasd_status trainer_settings(struct wasd_trainer *t, const struct wasd_train_opts *o, struct wasd_err *err)
{
	enum wasd_status s;
	t->spec_json = o->spec;
	t->data = o->data;
	t->best = t->stop_best = NAN;
	if ((s = train_spec_read(o->spec, &t->spec, err)) || (s = check_precision(t, o->backend, err)) ||
	    (s = create_graph(t, err)) || (s = create_pixels(t, err)) || (s = create_weights(t, err)) ||
	    (s = trainer_check_cut(t, err)) || (s = wasd_schedule_init(&t->schedule, t->spec.schedule, err)) ||
	    (s = train_search_create(t, err)) || (s = create_holdout(t, err)) || (s = train_adjust_create(t, err)) ||
	    (s = warnings_create(t, err)) || (s = create_class_weights(t, err)) || (s = check_augment(t, err)) ||
	    (s = check_all_batches(t, err)))
		return s;
	return check_goals(t, err);
}

enum wasd_status wasd_train_select(struct wasd_dataset *d, const cJSON *spec, struct wasd_err *err)
{
	return wasd_dataset_select(d, wasd_json_get(wasd_json_get(spec, "data"), "classes"), err);
}

enum wasd_status wasd_train_select_as(struct wasd_dataset *d, const void *file, size_t len, struct wasd_err *err)
{
	struct checkpoint c = {0};
	enum wasd_status s = checkpoint_open(file, len, &c, err);
	if (!s)
		s = wasd_train_select(d, c.spec, err);
	checkpoint_done(&c);
	return s;
}

enum wasd_status wasd_train_check(const struct wasd_train_opts *o, const struct wasd_train_hooks *h,
                                  struct wasd_err *err)
{
	struct wasd_trainer *t = wasd_calloc(1, sizeof *t);
	if (!t)
		return wasd_fail(err, WASD_ENOMEM, "trainer");
	enum wasd_status s = trainer_settings(t, o, err);
	t->hooks = h;
	if (!s)
		warnings_begin(t);
	wasd_trainer_destroy(t);
	return s;
}

enum wasd_status wasd_trainer_create(const struct wasd_train_opts *o, struct wasd_trainer **out, struct wasd_err *err)
{
	struct wasd_trainer *t = wasd_calloc(1, sizeof *t);
	if (!t)
		return wasd_fail(err, WASD_ENOMEM, "trainer");
	enum wasd_status s;
	if ((s = trainer_settings(t, o, err)))
		goto fail;
	if (o->batch)
		t->spec.batch = o->batch;
	if ((s = create_values(t, o, err)) || (s = create_loaders(t, err)) ||
	    (s = chain_begin(t->weights, t->spec.optimizer, trainer_run_at(t, 0), err)))
		goto fail;
	for (int i = 0; i < t->n_modes; i++)
		t->mode[i].measured = !trainer_measures(t);
	t->until = o->until;
	wasd_rng_init(&t->rng_dropout, t->spec.seed, "dropout", 0, 0);
	for (int i = 0; i < WASD_PHASES; i++)
		snprintf(t->phase_names[i], sizeof t->phase_names[i], "%s_s", wasd_phase_name(i));
	if (!(t->fingerprint = wasd_fingerprint()))
		s = wasd_fail(err, WASD_ENOMEM, "trainer");
	else if (o->resume)
		s = snapshot_resume(t, o->resume, o->resume_len, err);
	else if (o->init)
		s = snapshot_start_from(t, o->init, o->init_len, err);
	if (s)
		goto fail;
	t->info = trainer_make_info(t);
	if (!t->info) {
		s = wasd_fail(err, WASD_ENOMEM, "trainer");
		goto fail;
	}
	uint32_t per_pass = wasd_loader_batches(
		t->train); /* as many as an epoch has steps, unless the optimizer searches */
	wasd_loader_seek(t->train, trainer_step(t) / per_pass, (uint32_t)(trainer_step(t) % per_pass));
	*out = t;
	return WASD_OK;
fail:
	wasd_trainer_destroy(t);
	return s;
}

/* ---- another network ------------------------------------------------------------------------------------ */

/* Puts n's parts in the place of t's, which are returned. */
static struct trainer_net net_swap(struct wasd_trainer *t, struct trainer_net n)
{
	struct trainer_net old = {t->graph, t->model, t->exec, t->weights, t->blocks, t->optim, t->network};
	t->graph = n.graph;
	t->model = n.model;
	t->exec = n.exec;
	t->weights = n.weights;
	t->blocks = n.blocks;
	t->optim = n.optim;
	t->network = n.network;
	return old;
}

void trainer_net_done(struct trainer_net *n)
{
	wasd_optim_destroy(n->optim);
	wasd_exec_destroy(n->exec);
	wasd_model_destroy(n->model);
	chain_destroy(n->weights);
	wasd_graph_destroy(n->graph);
	wasd_free(n->blocks);
	cJSON_Delete(n->network);
}

enum wasd_status trainer_reshape(struct wasd_trainer *t, const cJSON *network, struct trainer_net *old,
                                 struct wasd_err *err)
{
	struct trainer_net now = net_swap(t, (struct trainer_net){0});
	struct wasd_exec_opts train = t->eval;
	train.training = true;
	t->network = cJSON_Duplicate(network, true);
	enum wasd_status s = t->network ? wasd_network_build(network, wasd_dataset_shape(t->data),
	                                                     wasd_dataset_classes(t->data), &t->graph, err) :
	                                  wasd_fail(err, WASD_ENOMEM, "trainer");
	if (s || (s = create_chain(t, err)) || (s = create_blocks(t, &train, err)) ||
	    (s = chain_begin(t->weights, t->spec.optimizer, trainer_run_at(t, trainer_step(t)), err))) {
		struct trainer_net failed = net_swap(t, now);
		trainer_net_done(&failed);
		return s;
	}
	t->n_metrics = 0; /* the names of some belong to the strategies that go */
	*old = now;
	return WASD_OK;
}

void wasd_trainer_destroy(struct wasd_trainer *t)
{
	if (!t)
		return;
	wasd_loader_destroy(t->train);
	wasd_loader_destroy(t->calib);
	wasd_loader_destroy(t->val);
	wasd_loader_destroy(t->test);
	train_search_destroy(t);
	struct trainer_net net = net_swap(t, (struct trainer_net){0});
	trainer_net_done(&net);
	cJSON_Delete(t->was_json);
	for (int i = 0; i < t->n_modes; i++)
		cJSON_Delete(t->mode[i].recipe_json);
	cJSON_Delete(t->info);
	adjust_net_done(&t->widths);
	cJSON_Delete(t->fingerprint);
	wasd_free(t->subset);
	wasd_holdout_done(&t->holdout);
	wasd_free(t->answered);
	wasd_free(t->class_names);
	wasd_free(t->class_weights);
	wasd_free(t);
}

struct wasd_train_info wasd_trainer_info(const struct wasd_trainer *t)
{
	size_t params = wasd_graph_param_count(t->graph), blocks = 0;
	const char *name;
	while (t->optim && wasd_optim_state(t->optim, (int)blocks, &name))
		blocks++;
	size_t learned = (blocks + 2) * trainer_learned(t);
	blocks += wasd_model_effective(t->model) ? 3 : t->search ? 1 : 2; /* plus the model's blocks */
	return (struct wasd_train_info){
		.params = params,
		.macs = wasd_graph_macs(t->graph, NULL),
		.epochs = t->spec.epochs,
		.first_epoch = t->epoch + 1,
		.steps_per_epoch = t->batches,
		.planned_bytes = wasd_exec_bytes(t->exec) + t->eval_bytes + (blocks * params + learned) * sizeof(real) +
	                     train_search_bytes(t) + t->own_bytes,
		.was = t->was_json,
	};
}

struct wasd_model *wasd_trainer_model(struct wasd_trainer *t)
{
	return t->model;
}
