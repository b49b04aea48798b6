/* profile/cascade.c - finds the threshold of a cascade; see wasd/profile.h. */
#include "profile/maker.h"
#include "wasd/infer.h"

#include <math.h>
#include <stdlib.h>

enum { BATCH = WASD_PREDICT_MAX, POINTS = 50 };

/* One image under both modes. */
struct seen {
	double margin;
	bool cheap, aom; /* right? */
};

struct tuning {
	const struct wasd_cascade_opts *o;
	struct checkpoint ckpt;
	struct train_spec spec;
	struct wasd_holdout holdout;
	struct wasd_loader *loader;
	struct wasd_bundle *aom, *cheap;
	struct wasd_predictor *by_aom, *by_cheap;
	struct seen *seen;
	size_t n;
};

/* ---- the images ---------------------------------------------------------------------------------------------- */

static enum wasd_status open_mode(const struct wasd_mode_source *from, struct wasd_bundle **b,
                                  struct wasd_predictor **p, struct wasd_err *err)
{
	enum wasd_status s = wasd_bundle_create(from, b, err);
	return s ? s : wasd_predictor_create(*b, &(struct wasd_predictor_opts){0}, p, err);
}

static enum wasd_status open_all(struct tuning *t, struct wasd_err *err)
{
	const struct wasd_cascade_opts *o = t->o;
	enum wasd_status s = checkpoint_open(o->aom->file, o->aom->len, &t->ckpt, err);
	if (s || (s = train_spec_read(t->ckpt.spec, &t->spec, err)) ||
	    (s = maker_holdout(o->data, &t->spec, &t->holdout, err)) || (s = open_mode(o->aom, &t->aom, &t->by_aom, err)) ||
	    (s = open_mode(o->cheap, &t->cheap, &t->by_cheap, err)))
		return s;
	struct wasd_shape a = wasd_bundle_shape(t->aom), d = wasd_dataset_shape(o->data);
	if (a.c != d.c || a.h != d.h || a.w != d.w || wasd_bundle_classes(t->aom) != wasd_dataset_classes(o->data))
		return wasd_fail_at(err, WASD_EINVAL, "/dataset", "its images or classes are not those of the network");
	struct wasd_loader_opts val = {.data = o->data,
	                               .split = WASD_TRAIN,
	                               .subset = t->holdout.val,
	                               .n_subset = t->holdout.n_val,
	                               .batch = BATCH,
	                               .pixels = &t->ckpt.pixels};
	t->seen = wasd_calloc(t->holdout.n_val, sizeof *t->seen);
	return t->seen ? wasd_loader_create(&val, &t->loader, err) : wasd_fail(err, WASD_ENOMEM, "cascade");
}

static int likeliest(const float *x, int n)
{
	int best = 0;
	for (int i = 1; i < n; i++)
		if (x[i] > x[best])
			best = i;
	return best;
}

/* The difference of the two largest probabilities, from logits as an answer has them. */
static double margin(const float *x, int n)
{
	int first = likeliest(x, n);
	double second = -INFINITY, sum = 0;
	for (int i = 0; i < n; i++) {
		second = i != first && x[i] > second ? x[i] : second;
		sum += exp((double)x[i] - x[first]);
	}
	return n > 1 ? (1 - exp(second - x[first])) / sum : 1;
}

static void look_at(struct tuning *t, const struct wasd_batch *b, const real *aom, const real *cheap, float *row)
{
	int classes = wasd_bundle_classes(t->aom);
	for (int i = 0; i < b->n; i++, aom += classes, cheap += classes) {
		struct seen *v = &t->seen[t->n++];
		for (int c = 0; c < classes; c++)
			row[c] = (float)aom[c];
		v->aom = likeliest(row, classes) == (int)b->y[i];
		for (int c = 0; c < classes; c++)
			row[c] = (float)cheap[c];
		v->cheap = likeliest(row, classes) == (int)b->y[i];
		v->margin = margin(row, classes);
	}
}

static enum wasd_status look(struct tuning *t, struct wasd_err *err)
{
	size_t classes = (size_t)wasd_bundle_classes(t->aom);
	uint32_t batches = wasd_loader_batches(t->loader);
	real *aom = wasd_calloc(BATCH * classes, sizeof *aom), *cheap = wasd_calloc(BATCH * classes, sizeof *cheap);
	float *row = wasd_calloc(classes, sizeof *row);
	enum wasd_status s = aom && cheap && row ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "cascade");
	wasd_loader_seek(t->loader, 0, 0);
	for (uint32_t i = 0; i < batches && !s; i++) {
		if (t->o->go_on && !t->o->go_on(t->o->ctx, (int)i, (int)batches)) {
			s = wasd_fail(err, WASD_ECANCELLED, "cancelled");
			break;
		}
		const struct wasd_batch *b = wasd_loader_next(t->loader);
		if (!(s = wasd_predictor_run(t->by_aom, b->x, b->n, aom, err)) &&
		    !(s = wasd_predictor_run(t->by_cheap, b->x, b->n, cheap, err)))
			look_at(t, b, aom, cheap, row);
	}
	wasd_free(aom);
	wasd_free(cheap);
	wasd_free(row);
	return s;
}

/* ---- the curve ------------------------------------------------------------------------------------------------- */

static int by_margin(const void *va, const void *vb)
{
	const struct seen *a = va, *b = vb;
	return (a->margin > b->margin) - (a->margin < b->margin);
}

/* The threshold that repeats exactly the k images of the smallest margins. */
static double threshold_of(const struct tuning *t, size_t k)
{
	if (k == 0)
		return 0;
	return k == t->n ? 1 : (t->seen[k - 1].margin + t->seen[k].margin) / 2;
}

/* No threshold parts equal margins. */
static bool parts(const struct tuning *t, size_t k)
{
	return k == 0 || k == t->n || t->seen[k - 1].margin < t->seen[k].margin;
}

static double mean_macs(const struct tuning *t, size_t k)
{
	return (double)wasd_bundle_macs(t->cheap) + (double)wasd_bundle_macs(t->aom) * (double)k / (double)t->n;
}

static bool add_point(cJSON *curve, const struct tuning *t, size_t k, size_t right)
{
	double n = (double)t->n, v[4] = {threshold_of(t, k), (double)right / n, (double)k / n, mean_macs(t, k)};
	return wasd_json_push(curve, cJSON_CreateDoubleArray(v, 4));
}

/* right[k]: images answered rightly if the k of the smallest margins are repeated. */
static cJSON *curve_json(const struct tuning *t, const size_t *right, size_t chosen)
{
	cJSON *o = cJSON_CreateObject(), *curve = cJSON_AddArrayToObject(o, "curve");
	double n = (double)t->n;
	size_t last = 0;
	bool ok = curve && cJSON_AddNumberToObject(o, "threshold", threshold_of(t, chosen)) &&
	          cJSON_AddNumberToObject(o, "images", n);
	cJSON *acc = cJSON_AddObjectToObject(o, "accuracy"), *macs = cJSON_AddObjectToObject(o, "macs");
	ok = ok && cJSON_AddNumberToObject(acc, "aom", (double)right[t->n] / n) &&
	     cJSON_AddNumberToObject(acc, "cheap", (double)right[0] / n) &&
	     cJSON_AddNumberToObject(acc, "cascade", (double)right[chosen] / n) &&
	     cJSON_AddNumberToObject(o, "repeated", (double)chosen / n) &&
	     cJSON_AddNumberToObject(macs, "aom", (double)wasd_bundle_macs(t->aom)) &&
	     cJSON_AddNumberToObject(macs, "cheap", (double)wasd_bundle_macs(t->cheap)) &&
	     cJSON_AddNumberToObject(macs, "mean", mean_macs(t, chosen));
	for (size_t k = 0; k <= t->n && ok; k++) {
		bool due = k == 0 || k == t->n || k == chosen || (k - last) * POINTS >= t->n;
		if (!due || !parts(t, k))
			continue;
		ok = add_point(curve, t, k, right[k]);
		last = k;
	}
	if (ok)
		return o;
	cJSON_Delete(o);
	return NULL;
}

static enum wasd_status make_curve(struct tuning *t, cJSON **out, struct wasd_err *err)
{
	size_t *right = wasd_calloc(t->n + 1, sizeof *right), chosen = t->n;
	if (!right)
		return wasd_fail(err, WASD_ENOMEM, "cascade");
	qsort(t->seen, t->n, sizeof *t->seen, by_margin);
	for (size_t i = 0; i < t->n; i++)
		right[0] += t->seen[i].cheap;
	for (size_t k = 1; k <= t->n; k++)
		right[k] = right[k - 1] + t->seen[k - 1].aom - t->seen[k - 1].cheap;
	/* From the right, so that a lucky point in the middle of a dip is not taken. */
	double least = t->o->keep * (double)right[t->n];
	for (size_t k = t->n + 1; k-- > 0;) {
		if (!parts(t, k))
			continue;
		if ((double)right[k] < least)
			break;
		chosen = k;
	}
	*out = curve_json(t, right, chosen);
	wasd_free(right);
	return *out ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "cascade");
}

enum wasd_status wasd_cascade_tune(const struct wasd_cascade_opts *o, cJSON **out, struct wasd_err *err)
{
	struct tuning t = {.o = o};
	enum wasd_status s = open_all(&t, err);
	if (!s)
		s = look(&t, err);
	if (!s)
		s = make_curve(&t, out, err);
	wasd_predictor_destroy(t.by_aom);
	wasd_predictor_destroy(t.by_cheap);
	wasd_bundle_unref(t.aom);
	wasd_bundle_unref(t.cheap);
	wasd_loader_destroy(t.loader);
	wasd_holdout_done(&t.holdout);
	wasd_free(t.seen);
	checkpoint_done(&t.ckpt);
	return s;
}
