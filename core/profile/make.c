/* profile/make.c - makes a mode of any kind that can be asked for, and measures it as it would be served; see
 * wasd/making.h. */
#include "profile/maker.h"
#include "infer/bundle.h"
#include "layers/layer.h"
#include "train/mode_file.h"
#include "wasd/infer.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* What is told of a mode. */
struct figures {
	uint64_t macs;
	double loss, accuracy, us_1, us_64;
	size_t bytes; /* of the weights as they are packed for single images and for 64 */
};

struct making {
	const struct wasd_making *o;
	struct maker m;
	const struct mode_desire *desire;
	const struct mode_kind *kind;
	double option[MODE_OPTIONS_MAX];
	struct mode_file base_file; /* zeroed if the base mode is in the checkpoint's list */
	struct mode base;
	struct wasd_bundle *aom, *served; /* served: of the base mode */
	struct mode_made made;
	void *file;
	size_t len;
};

static enum wasd_status no_memory(struct wasd_err *err)
{
	return wasd_fail(err, WASD_ENOMEM, "mode");
}

/* ---- the request ---------------------------------------------------------------------------------------------- */

static enum wasd_status find_desire(const cJSON *request, const struct mode_desire **d, const struct mode_kind **kind,
                                    struct wasd_err *err)
{
	const char *name;
	if (!wasd_json_str(request, "desire", &name))
		return wasd_fail_at(err, WASD_EINVAL, "/desire", "is needed");
	*d = mode_desire_find(name, kind);
	return *d ? WASD_OK : wasd_fail_at(err, WASD_EINVAL, "/desire", "there is no kind of mode for \"%.40s\"", name);
}

static const char *base_of(const cJSON *request)
{
	const char *name = WASD_MODE_AOM;
	wasd_json_str(request, "base", &name);
	return name;
}

static enum wasd_status read_request(const cJSON *request, const struct mode_desire **d, const struct mode_kind **kind,
                                     double option[MODE_OPTIONS_MAX], struct wasd_err *err)
{
	const cJSON *base = wasd_json_get(request, "base");
	enum wasd_status s = find_desire(request, d, kind, err);
	if (!s)
		s = mode_options(*d, request, option, err);
	if (!s && base && (!cJSON_IsString(base) || !wasd_mode_ok(base->valuestring)))
		s = wasd_fail_at(err, WASD_EINVAL, "/base", "must be the name of a mode");
	if (!s && !(*d)->based && strcmp(base_of(request), WASD_MODE_AOM))
		s = wasd_fail_at(err, WASD_EINVAL, "/base", "does not go with desire \"%s\", which is made of aom", (*d)->name);
	return s;
}

enum wasd_status wasd_mode_check(const cJSON *spec, struct wasd_shape in, int classes, const cJSON *request,
                                 struct wasd_err *err)
{
	const struct mode_desire *d = NULL;
	const struct mode_kind *kind = NULL;
	double option[MODE_OPTIONS_MAX];
	enum wasd_status s = read_request(request, &d, &kind, option, err);
	return s || !d->check ? s : d->check(spec, in, classes, request, err);
}

/* ---- the base mode -------------------------------------------------------------------------------------------- */

static enum wasd_status open_base(struct making *k, struct wasd_err *err)
{
	const struct wasd_making *o = k->o;
	const struct checkpoint *c = &k->m.ckpt;
	const char *name = base_of(o->request);
	real *stats = wasd_model_stats(k->m.model, WASD_STATS_AOM);
	bool present;
	enum wasd_status s;
	if (!o->base_file) {
		if ((s = checkpoint_mode(c, name, &k->base, err)))
			return s == WASD_ENOTFOUND && err ? wasd_fail_at(err, WASD_EINVAL, "/base", "%s", err->msg) : s;
		return checkpoint_load_stats(c, k->m.graph, k->base.statistics, stats, &present, err);
	}
	if ((s = mode_file_open(o->base_file, o->base_len, c->arch, &k->base_file, err)))
		return s;
	k->base = k->base_file.mode;
	memcpy(k->base.name, name, strlen(name) + 1); /* wasd_mode_ok has checked the length */
	return mode_file_load_stats(&k->base_file, c->arch, k->m.graph, stats, err);
}

/* The plain weights of a checkpoint whose statistics were never measured: measures them. */
static enum wasd_status compile_plain(struct making *k, struct wasd_bundle **out, struct wasd_err *err)
{
	enum wasd_status s = measure_statistics(k->m.exec, k->m.calib, NULL, WASD_STATS_AOM, maker_tick(&k->m), err);
	return s ? s : bundle_compile(k->m.model, NULL, WASD_STATS_AOM, out, err);
}

static enum wasd_status compile(struct making *k, const char *name, const void *mode_file, size_t mode_len,
                                struct wasd_bundle **out, struct wasd_err *err)
{
	return wasd_bundle_create(&(struct wasd_mode_source){.file = k->o->file,
	                                                     .len = k->o->len,
	                                                     .mode_file = mode_file,
	                                                     .mode_len = mode_len,
	                                                     .name = name},
	                          out, err);
}

static enum wasd_status compile_base(struct making *k, struct wasd_err *err)
{
	bool plain = !strcmp(k->base.name, WASD_MODE_AOM);
	enum wasd_status s = plain && !k->base.measured ?
	                         compile_plain(k, &k->served, err) :
	                         compile(k, k->base.name, k->o->base_file, k->o->base_len, &k->served, err);
	if (s || !plain)
		return s ? s : compile(k, WASD_MODE_AOM, NULL, 0, &k->aom, err);
	k->aom = wasd_bundle_ref(k->served);
	return WASD_OK;
}

/* ---- making ---------------------------------------------------------------------------------------------------- */

static bool told(void *ctx, int done, int of)
{
	struct maker *m = ctx;
	m->done = done;
	m->evaluations = of;
	return maker_tick(m).go_on(m, 0, 0);
}

static enum wasd_status ask_kind(struct making *k, struct wasd_err *err)
{
	struct maker *m = &k->m;
	struct wasd_loader_opts val = {.data = k->o->data,
	                               .split = WASD_TRAIN,
	                               .subset = m->holdout.val,
	                               .n_subset = m->holdout.n_val,
	                               .batch = MAKER_BATCH,
	                               .pixels = &m->ckpt.pixels},
							train = val;
	train.subset = m->holdout.train;
	train.n_subset = m->holdout.n_train;
	train.shuffle = true;
	train.seed = m->spec.seed;
	struct mode_making in = {.request = k->o->request,
	                         .option = k->option,
	                         .model = m->model,
	                         .file = k->o->file,
	                         .len = k->o->len,
	                         .base = &k->base,
	                         .served = k->served,
	                         .train = &train,
	                         .val = &val,
	                         .seed = m->spec.seed,
	                         .backend = k->o->backend,
	                         .go_on = told,
	                         .ctx = m,
	                         .maker = m};
	enum wasd_status s = k->desire->make(&in, &k->made, err);
	assert(s || k->kind->prefix || !k->made.n_tensors);
	return s;
}

static enum wasd_status write_file(struct making *k, const real *stats, struct wasd_err *err)
{
	return mode_file_write(k->m.graph, k->m.ckpt.arch, k->kind, &k->made, stats, &k->file, &k->len, err);
}

/* Measures the statistics under the recipe of the file, into the DOM set. */
static enum wasd_status measure_made(struct making *k, struct wasd_err *err)
{
	struct mode_file f = {0};
	struct wasd_recipe *r = NULL;
	assert(!k->kind->reshape);
	enum wasd_status s = mode_file_open(k->file, k->len, k->m.ckpt.arch, &f, err);
	if (!s)
		s = k->kind->open(&f.mode, k->m.graph, &r, err);
	if (!s)
		s = measure_statistics(k->m.exec, k->m.calib, r, WASD_STATS_DOM, maker_tick(&k->m), err);
	if (r)
		k->kind->close(r);
	mode_file_done(&f);
	return s;
}

static enum wasd_status write_made(struct making *k, struct wasd_err *err)
{
	enum wasd_status s = write_file(k, k->made.stats ? k->made.stats : wasd_model_stats(k->m.model, WASD_STATS_AOM),
	                                err);
	if (s || !k->made.measure || (s = measure_made(k, err)))
		return s;
	wasd_free(k->file);
	k->file = NULL;
	return write_file(k, wasd_model_stats(k->m.model, WASD_STATS_DOM), err);
}

/* ---- the figures ------------------------------------------------------------------------------------------------ */

static void judge(const struct wasd_batch *b, const real *logits, int classes, double *loss, double *right)
{
	for (int i = 0; i < b->n; i++, logits += classes) {
		double one;
		int hits;
		if (loss_softmax_xent(logits, &(struct wasd_targets){.y = &b->y[i]}, 1, classes, &one, &hits, NULL, NULL))
			one = NAN; /* those who read the figures say of which mode */
		else
			*right += hits;
		*loss += one;
	}
}

static enum wasd_status judge_all(struct maker *m, struct wasd_predictor *p, int classes, struct figures *f,
                                  struct wasd_err *err)
{
	double n = 0, loss = 0, right = 0;
	uint32_t batches = wasd_loader_batches(m->val);
	real *logits = wasd_calloc((size_t)MAKER_BATCH * (size_t)classes, sizeof *logits);
	enum wasd_status s = logits ? WASD_OK : no_memory(err);
	wasd_loader_seek(m->val, 0, 0);
	for (uint32_t i = 0; i < batches && !s; i++) {
		if (!maker_tick(m).go_on(m, i, batches)) {
			s = wasd_fail(err, WASD_ECANCELLED, "cancelled");
			break;
		}
		const struct wasd_batch *b = wasd_loader_next(m->val);
		if ((s = wasd_predictor_run(p, b->x, b->n, logits, err)))
			break;
		judge(b, logits, classes, &loss, &right);
		n += b->n;
	}
	wasd_free(logits);
	f->loss = loss / n;
	f->accuracy = right / n;
	return s;
}

/* Median time of n images. A mode that chooses among networks takes another time for each image: then the mean over
 * single validation images, or that of 64 of them. */
static enum wasd_status time_mode(struct making *k, struct wasd_predictor *p, const struct wasd_bundle *b, int n,
                                  double *us, struct wasd_err *err)
{
	if (!wasd_bundle_parts(b))
		return maker_time(p, b, &(struct maker_timing){.n = n, .us = MAKER_TIMING_US}, us, err);
	wasd_loader_seek(k->m.val, 0, 0);
	const struct wasd_batch *some = wasd_loader_next(k->m.val);
	size_t image = wasd_shape_count(wasd_bundle_shape(b));
	int have = some->n < WASD_PREDICT_MAX ? some->n : WASD_PREDICT_MAX;
	double sum = 0, one = 0;
	real *x = wasd_calloc((size_t)WASD_PREDICT_MAX * image, sizeof *x);
	enum wasd_status s = x ? WASD_OK : no_memory(err);
	for (size_t i = 0; !s && i < WASD_PREDICT_MAX; i++)
		memcpy(x + i * image, some->x + i % (size_t)have * image, image * sizeof *x);
	for (int i = 0; !s && n == 1 && i < have; i++, sum += one)
		s = maker_tick(&k->m).go_on(&k->m, 0, 0) ?
		        maker_time(p, b, &(struct maker_timing){.n = 1, .x = x + (size_t)i * image}, &one, err) :
		        wasd_fail(err, WASD_ECANCELLED, "cancelled");
	if (!s && n > 1)
		s = maker_time(p, b, &(struct maker_timing){n, x, MAKER_TIMING_US}, us, err);
	if (!s && n == 1)
		*us = sum / have;
	wasd_free(x);
	return s;
}

static enum wasd_status measure(struct making *k, struct wasd_bundle *b, struct figures *f, struct wasd_err *err)
{
	struct wasd_predictor *p = NULL;
	enum wasd_status s = wasd_predictor_create(b, &(struct wasd_predictor_opts){.backend = k->o->backend}, &p, err);
	if (!s)
		s = judge_all(&k->m, p, wasd_bundle_classes(b), f, err);
	if (!s)
		s = time_mode(k, p, b, 1, &f->us_1, err);
	if (!s)
		s = time_mode(k, p, b, WASD_PREDICT_MAX, &f->us_64, err);
	wasd_predictor_destroy(p);
	f->macs = wasd_bundle_macs(b);
	f->bytes = wasd_bundle_bytes(b);
	return s;
}

static bool tell(cJSON *j, const struct figures *f, const struct figures *plain)
{
	return cJSON_AddNumberToObject(j, "macs", (double)f->macs) &&
	       (f == plain || cJSON_AddNumberToObject(j, "macs_share", (double)f->macs / (double)plain->macs)) &&
	       cJSON_AddNumberToObject(j, "val_loss", f->loss) && cJSON_AddNumberToObject(j, "val_acc", f->accuracy) &&
	       cJSON_AddNumberToObject(j, "images_per_s_1", 1e6 / f->us_1) &&
	       cJSON_AddNumberToObject(j, "images_per_s_64", WASD_PREDICT_MAX * 1e6 / f->us_64) &&
	       cJSON_AddNumberToObject(j, "latency_us", f->us_1) && cJSON_AddNumberToObject(j, "bytes", (double)f->bytes);
}

static enum wasd_status measure_listed(struct making *k, const char *name, struct figures *f, struct wasd_err *err)
{
	struct wasd_bundle *b = NULL;
	enum wasd_status s = compile(k, name, NULL, 0, &b, err);
	if (!s)
		s = measure(k, b, f, err);
	wasd_bundle_unref(b);
	return s;
}

/* The figures of the modes of the checkpoint's list. aom: its figures; NULL: not known yet. */
static enum wasd_status measure_own(struct making *k, const struct figures *aom, cJSON **out, struct wasd_err *err)
{
	cJSON *own = cJSON_CreateObject();
	const cJSON *entry;
	enum wasd_status s = own ? WASD_OK : no_memory(err);
	struct figures plain = aom ? *aom : (struct figures){.macs = wasd_graph_macs(k->m.graph, NULL)};
	if (!aom) {
		k->m.done = -1;
		k->m.evaluations = cJSON_GetArraySize(k->m.ckpt.modes);
	}
	cJSON_ArrayForEach(entry, k->m.ckpt.modes) {
		struct mode mode;
		k->m.done += !aom;
		struct figures f = plain;
		if (s || (s = mode_read(entry, &mode, err)))
			break;
		bool is_aom = !strcmp(mode.name, WASD_MODE_AOM);
		if (!mode.measured)
			continue;
		if (!is_aom || !aom)
			s = measure_listed(k, mode.name, &f, err);
		cJSON *j = s ? NULL : cJSON_AddObjectToObject(own, mode.name);
		if (!s &&
		    (!j || !isfinite(f.loss) || !cJSON_AddStringToObject(j, "kind", mode.kind->name) || !tell(j, &f, &plain)))
			s = j && !isfinite(f.loss) ? wasd_fail(err, WASD_ENUMERIC, "the loss of %s is NaN or infinite", mode.name) :
			                             no_memory(err);
	}
	if (s)
		cJSON_Delete(own);
	else
		*out = own;
	return s;
}

enum wasd_status wasd_modes_measure(const struct wasd_making *o, cJSON **own, struct wasd_err *err)
{
	struct making k = {.o = o};
	enum wasd_status s = maker_open(&k.m, o, 0, err);
	if (!s)
		s = measure_own(&k, NULL, own, err);
	maker_done(&k.m);
	return s;
}

static enum wasd_status make_info(struct making *k, const struct figures *f, const struct figures *aom, cJSON **out,
                                  struct wasd_err *err)
{
	cJSON *j = k->made.info ? k->made.info : cJSON_CreateObject(), *plain, *own = NULL;
	k->made.info = NULL;
	enum wasd_status s = k->o->own ? measure_own(k, aom, &own, err) : WASD_OK;
	if (s || (own && !cJSON_AddItemToObject(j, "own", own))) {
		cJSON_Delete(own);
		cJSON_Delete(j);
		return s ? s : no_memory(err);
	}
	if (j && cJSON_AddStringToObject(j, "kind", k->kind->name) && tell(j, f, aom) &&
	    (plain = cJSON_AddObjectToObject(j, "aom")) && tell(plain, aom, aom)) {
		*out = j;
		return WASD_OK;
	}
	cJSON_Delete(j);
	return no_memory(err);
}

static enum wasd_status examine(struct making *k, cJSON **info, struct wasd_err *err)
{
	struct figures aom = {0}, mode = {0};
	struct wasd_bundle *b = NULL;
	enum wasd_status s = measure(k, k->aom, &aom, err);
	if (!s)
		s = compile(k, k->desire->name, k->file, k->len, &b, err);
	if (!s)
		s = measure(k, b, &mode, err);
	wasd_bundle_unref(b);
	if (!s && (!isfinite(aom.loss) || !isfinite(mode.loss)))
		s = wasd_fail(err, WASD_ENUMERIC, "the loss of the %s on the validation images is NaN or infinite",
		              isfinite(aom.loss) ? "mode" : "plain weights");
	return s ? s : make_info(k, &mode, &aom, info, err);
}

enum wasd_status wasd_mode_make(const struct wasd_making *o, void **mode_file, size_t *len, cJSON **info,
                                struct wasd_err *err)
{
	struct making k = {.o = o};
	enum wasd_status s = read_request(o->request, &k.desire, &k.kind, k.option, err);
	if (!s)
		s = maker_open(&k.m, o, 0, err);
	if (!s && !(s = open_base(&k, err)) && !(s = compile_base(&k, err)) && !(s = ask_kind(&k, err)) &&
	    !(s = write_made(&k, err)) && !(s = examine(&k, info, err))) {
		*mode_file = k.file;
		*len = k.len;
		k.file = NULL;
	}
	wasd_free(k.file);
	mode_made_done(&k.made);
	wasd_bundle_unref(k.served);
	wasd_bundle_unref(k.aom);
	mode_file_done(&k.base_file);
	maker_done(&k.m);
	return s;
}
