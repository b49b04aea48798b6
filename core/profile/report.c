/* profile/report.c - what each mode of a checkpoint gets right and wrong; see wasd/profile.h. */
#include "profile/maker.h"
#include "wasd/infer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = WASD_PREDICT_MAX, BINS = 10, WORST = 20, PAIRS = 20, MATRIX_CLASSES = 100 };

struct mistake {
	uint32_t image; /* index in its split of the dataset */
	int label, said;
	double p; /* probability of what was said */
};

struct pair {
	int label, said;
	uint64_t n;
};

struct report {
	const struct wasd_report_opts *o;
	struct checkpoint ckpt;
	struct train_spec spec;
	struct wasd_holdout holdout;
	struct wasd_loader *loader;
	int classes;
	size_t n;
	/* of the mode in hand */
	uint64_t *confusion; /* classes x classes: row = label, column = answer */
	uint64_t in_bin[BINS], right_in_bin[BINS];
	double confidence_in_bin[BINS], loss;
	struct mistake *mistakes;
	size_t n_mistakes;
};

static enum wasd_status open_images(struct report *t, struct wasd_err *err)
{
	const struct wasd_report_opts *o = t->o;
	enum wasd_status s = checkpoint_open(o->file, o->len, &t->ckpt, err);
	if (s || (s = train_spec_read(t->ckpt.spec, &t->spec, err)) ||
	    (!o->test && (s = maker_holdout(o->data, &t->spec, &t->holdout, err))))
		return s;
	t->classes = wasd_dataset_classes(o->data);
	t->n = o->test ? wasd_dataset_count(o->data, WASD_TEST) : t->holdout.n_val;
	if (!t->n)
		return wasd_fail_at(err, WASD_EINVAL, "/dataset", "has no test images");
	t->confusion = wasd_calloc((size_t)t->classes * (size_t)t->classes, sizeof *t->confusion);
	t->mistakes = wasd_calloc(t->n, sizeof *t->mistakes);
	if (!t->confusion || !t->mistakes)
		return wasd_fail(err, WASD_ENOMEM, "no memory for a report on %d classes", t->classes);
	struct wasd_loader_opts val = {.data = o->data,
	                               .split = o->test ? WASD_TEST : WASD_TRAIN,
	                               .subset = o->test ? NULL : t->holdout.val,
	                               .n_subset = o->test ? 0 : t->n,
	                               .batch = BATCH,
	                               .pixels = &t->ckpt.pixels};
	return wasd_loader_create(&val, &t->loader, err);
}

/* ---- one mode ---- */

/* One answer: probabilities by softmax over the logits. */
static void count(struct report *t, const real *x, int label, uint32_t image)
{
	int said = 0;
	double sum = 0;
	for (int c = 1; c < t->classes; c++)
		if (x[c] > x[said])
			said = c;
	for (int c = 0; c < t->classes; c++)
		sum += exp((double)x[c] - (double)x[said]);
	const double p = 1 / sum;
	int bin = (int)ceil(p * BINS) - 1;
	bin = bin < 0 ? 0 : bin >= BINS ? BINS - 1 : bin;
	t->in_bin[bin]++;
	t->right_in_bin[bin] += said == label;
	t->confidence_in_bin[bin] += p;
	t->loss += log(sum) - ((double)x[label] - (double)x[said]);
	t->confusion[(size_t)label * (size_t)t->classes + (size_t)said]++;
	if (said != label)
		t->mistakes[t->n_mistakes++] = (struct mistake){image, label, said, p};
}

static enum wasd_status look(struct report *t, struct wasd_predictor *p, int mode, int modes, struct wasd_err *err)
{
	const uint32_t batches = wasd_loader_batches(t->loader);
	real *logits = wasd_calloc((size_t)BATCH * (size_t)t->classes, sizeof *logits);
	enum wasd_status s = logits ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "no memory for a report");
	size_t at = 0;
	wasd_loader_seek(t->loader, 0, 0);
	for (uint32_t i = 0; i < batches && !s; i++) {
		if (t->o->go_on && !t->o->go_on(t->o->ctx, (int)(batches * (uint32_t)mode + i), (int)batches * modes)) {
			s = wasd_fail(err, WASD_ECANCELLED, "cancelled");
			break;
		}
		const struct wasd_batch *b = wasd_loader_next(t->loader);
		if ((s = wasd_predictor_run(p, b->x, b->n, logits, err)))
			break;
		for (int k = 0; k < b->n; k++, at++)
			count(t, logits + (size_t)k * (size_t)t->classes, b->y[k], t->o->test ? (uint32_t)at : t->holdout.val[at]);
	}
	wasd_free(logits);
	return s;
}

/* ---- the answer ---- */

static int by_confidence(const void *va, const void *vb)
{
	const struct mistake *a = va, *b = vb;
	return a->p != b->p ? (a->p < b->p) - (a->p > b->p) : (a->image > b->image) - (a->image < b->image);
}

static int by_number(const void *va, const void *vb)
{
	const struct pair *a = va, *b = vb;
	return a->n != b->n         ? (a->n < b->n) - (a->n > b->n) :
	       a->label != b->label ? a->label - b->label :
	                              a->said - b->said;
}

static bool add_numbers(cJSON *list, const double *v, int n)
{
	return wasd_json_push(list, cJSON_CreateDoubleArray(v, n));
}

static bool add_classes(const struct report *t, cJSON *o)
{
	cJSON *classes = cJSON_AddArrayToObject(o, "per_class"),
		  *matrix = t->classes <= MATRIX_CLASSES ? cJSON_AddArrayToObject(o, "confusion") : NULL;
	double row[MATRIX_CLASSES];
	bool ok = classes && (matrix || t->classes > MATRIX_CLASSES);
	for (int c = 0; c < t->classes && ok; c++) {
		const uint64_t *at = t->confusion + (size_t)c * (size_t)t->classes;
		double n = 0;
		for (int k = 0; k < t->classes; k++)
			n += (double)at[k];
		ok = add_numbers(classes, (const double[]){n, n > 0 ? (double)at[c] / n : NAN}, 2);
		for (int k = 0; k < t->classes && matrix; k++)
			row[k] = (double)at[k];
		if (ok && matrix)
			ok = add_numbers(matrix, row, t->classes);
	}
	return ok;
}

static bool add_pairs(const struct report *t, cJSON *o)
{
	cJSON *list = cJSON_AddArrayToObject(o, "top_errors");
	struct pair *p = wasd_calloc(t->n_mistakes ? t->n_mistakes : 1,
	                             sizeof *p); /* there are no more kinds than mistakes */
	size_t n = 0;
	bool ok = list && p;
	for (int a = 0; a < t->classes && ok; a++)
		for (int b = 0; b < t->classes; b++) {
			const uint64_t k = t->confusion[(size_t)a * (size_t)t->classes + (size_t)b];
			if (a != b && k)
				p[n++] = (struct pair){a, b, k};
		}
	if (ok)
		qsort(p, n, sizeof *p, by_number);
	for (size_t i = 0; i < n && i < PAIRS && ok; i++)
		ok = add_numbers(list, (const double[]){p[i].label, p[i].said, (double)p[i].n}, 3);
	wasd_free(p);
	return ok;
}

/* Bins without images have null means. The error is the mean of |accuracy - confidence|, weighted by images. */
static bool add_calibration(const struct report *t, cJSON *o)
{
	cJSON *bins = cJSON_AddArrayToObject(o, "calibration");
	double error = 0;
	bool ok = bins != NULL;
	for (int b = 0; b < BINS && ok; b++) {
		const double n = (double)t->in_bin[b], right = (double)t->right_in_bin[b];
		if (n > 0)
			error += fabs(right - t->confidence_in_bin[b]) / (double)t->n;
		ok = add_numbers(bins, (const double[]){n, n > 0 ? t->confidence_in_bin[b] / n : NAN, n > 0 ? right / n : NAN},
		                 3);
	}
	return ok && cJSON_AddNumberToObject(o, "ece", error);
}

static bool add_worst(struct report *t, cJSON *o)
{
	cJSON *list = cJSON_AddArrayToObject(o, "worst");
	bool ok = list != NULL;
	qsort(t->mistakes, t->n_mistakes, sizeof *t->mistakes, by_confidence);
	for (size_t i = 0; i < t->n_mistakes && i < WORST && ok; i++) {
		const struct mistake *m = &t->mistakes[i];
		ok = add_numbers(list,
		                 (const double[]){(double)wasd_dataset_original(t->o->data, t->o->test ? WASD_TEST : WASD_TRAIN,
		                                                                m->image),
		                                  m->label, m->said, m->p},
		                 4);
	}
	return ok;
}

static enum wasd_status add_mode(struct report *t, const char *name, uint64_t macs, cJSON *modes, struct wasd_err *err)
{
	cJSON *o = cJSON_AddObjectToObject(modes, name);
	double n = (double)t->n;
	bool ok = o && cJSON_AddNumberToObject(o, "accuracy", (n - (double)t->n_mistakes) / n) &&
	          cJSON_AddNumberToObject(o, "loss", t->loss / n) && cJSON_AddNumberToObject(o, "macs", (double)macs) &&
	          add_calibration(t, o) && add_classes(t, o) && add_pairs(t, o) && add_worst(t, o);
	return ok ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "no memory for a report");
}

static void forget(struct report *t)
{
	memset(t->confusion, 0, (size_t)t->classes * (size_t)t->classes * sizeof *t->confusion);
	memset(t->in_bin, 0, sizeof t->in_bin);
	memset(t->right_in_bin, 0, sizeof t->right_in_bin);
	for (int b = 0; b < BINS; b++)
		t->confidence_in_bin[b] = 0;
	t->loss = 0;
	t->n_mistakes = 0;
}

static enum wasd_status report_mode(struct report *t, const struct wasd_mode_source *from, int mode, int modes,
                                    cJSON *out, struct wasd_err *err)
{
	struct wasd_bundle *b = NULL;
	struct wasd_predictor *p = NULL;
	enum wasd_status s = wasd_bundle_create(from, &b, err);
	if (!s && wasd_bundle_classes(b) != t->classes)
		s = wasd_fail_at(err, WASD_EINVAL, "/dataset", "its classes are not those of the network");
	if (!s)
		s = wasd_predictor_create(b, &(struct wasd_predictor_opts){0}, &p, err);
	if (!s) {
		forget(t);
		s = look(t, p, mode, modes, err);
	}
	if (!s)
		s = add_mode(t, from->name, wasd_bundle_macs(b), out, err);
	wasd_predictor_destroy(p);
	wasd_bundle_unref(b);
	return s;
}

static int count_modes(const struct wasd_report_opts *o)
{
	char name[WASD_MODE_LEN];
	int n = 0;
	while (wasd_mode_at(o->file, o->len, n, name, NULL) == WASD_OK)
		n++;
	return n;
}

enum wasd_status wasd_report_make(const struct wasd_report_opts *o, cJSON **out, struct wasd_err *err)
{
	struct report t = {.o = o};
	cJSON *j = cJSON_CreateObject(), *modes = cJSON_AddObjectToObject(j, "modes");
	char name[WASD_MODE_LEN];
	enum wasd_status s = modes ? open_images(&t, err) : wasd_fail(err, WASD_ENOMEM, "no memory for a report");
	const int own = s ? 0 : count_modes(o), n = s ? 0 : own + o->n_more;
	if (!s && !cJSON_AddNumberToObject(j, "images", (double)t.n))
		s = wasd_fail(err, WASD_ENOMEM, "no memory for a report");
	for (int i = 0; i < n && !s; i++) {
		struct wasd_mode_source from = {.file = o->file, .len = o->len, .name = name};
		if (i >= own)
			from = o->more[i - own];
		else
			s = wasd_mode_at(o->file, o->len, i, name, err);
		if (!s && (s = report_mode(&t, &from, i, n, modes, err)) == WASD_ESTATE)
			s = WASD_OK; /* a mode that was never measured has no report */
	}
	wasd_loader_destroy(t.loader);
	wasd_holdout_done(&t.holdout);
	wasd_free(t.confusion);
	wasd_free(t.mistakes);
	checkpoint_done(&t.ckpt);
	if (s)
		cJSON_Delete(j);
	else
		*out = j;
	return s;
}
