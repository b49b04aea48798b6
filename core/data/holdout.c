/* holdout.c - which training images are held out for validation; see wasd_holdout_make.
 *
 * Class c has n_c images and should give F n_c of them. The whole parts are given, and what is missing to round(F N) images goes,
 * one image each, to the classes with the largest remainders (the lower class first where they are equal). */
#include "wasd/data.h"

#include <math.h>
#include <stdlib.h>

struct share { double rest; uint32_t class, images, take; };

static int by_rest(const void *a, const void *b)
{
	const struct share *x = a, *y = b;
	return x->rest != y->rest ? (x->rest < y->rest ? 1 : -1) : (x->class > y->class) - (x->class < y->class);
}

static int by_class(const void *a, const void *b)
{
	const struct share *x = a, *y = b;
	return (x->class > y->class) - (x->class < y->class);
}

/* Sets take; every class of several images keeps one, and a class of one keeps that, unless there is nothing else to take. */
static void divide(struct share *s, size_t classes, size_t images, double fraction)
{
	size_t want = (size_t)(fraction * (double)images + 0.5), given = 0;
	if (!want)
		want = 1;
	for (size_t c = 0; c < classes; c++) {
		double quota = fraction * s[c].images;
		s[c].take = (uint32_t)quota;
		s[c].rest = quota - s[c].take;
		given += s[c].take;
	}
	qsort(s, classes, sizeof *s, by_rest);
	for (size_t c = 0; c < classes && given < want; c++)
		if (s[c].take + 1 < s[c].images) {
			s[c].take++;
			given++;
		}
	for (size_t c = 0; c < classes && !given; c++)
		given = s[c].take = s[c].images > 0;
	qsort(s, classes, sizeof *s, by_class);
}

/* Fills `grouped` class by class, each ascending; class c ends before end[c]. */
static void group(const struct wasd_dataset *d, const struct share *s, size_t classes, size_t *end, uint32_t *grouped)
{
	size_t at = 0;
	for (size_t c = 0; c < classes; c++) {
		end[c] = at;
		at += s[c].images;
	}
	for (size_t i = 0; i < wasd_dataset_count(d, WASD_TRAIN); i++)
		grouped[end[wasd_dataset_label(d, WASD_TRAIN, i)]++] = (uint32_t)i;
}

static int ascending(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

enum wasd_status wasd_holdout_make(const struct wasd_dataset *d, double fraction, uint64_t seed, struct wasd_holdout *out, struct wasd_err *err)
{
	size_t n = wasd_dataset_count(d, WASD_TRAIN), classes = (size_t)wasd_dataset_classes(d);
	if (!(fraction >= 0 && fraction <= 0.5))
		return wasd_fail(err, WASD_EINVAL, "validation share %g of the training images, 0 to 0.5", fraction);
	if (fraction > 0 && n < 2)
		return wasd_fail(err, WASD_EINVAL, "of %zu training image%s none can be held out for validation", n, n == 1 ? "" : "s");
	struct wasd_holdout h = {.train = wasd_calloc(n + 1, sizeof *h.train), .val = wasd_calloc(n + 1, sizeof *h.val)};
	uint32_t *grouped = wasd_calloc(n + 1, sizeof *grouped);
	struct share *s = wasd_calloc(classes, sizeof *s);
	size_t *end = wasd_calloc(classes, sizeof *end);
	enum wasd_status status = h.train && h.val && grouped && s && end ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "validation split of %zu images", n);
	if (status)
		goto done;
	for (size_t c = 0; c < classes; c++)
		s[c].class = (uint32_t)c;
	for (size_t i = 0; i < n; i++)
		s[wasd_dataset_label(d, WASD_TRAIN, i)].images++;
	if (fraction > 0)
		divide(s, classes, n, fraction);
	group(d, s, classes, end, grouped);
	for (size_t c = 0; c < classes; c++) {
		uint32_t *list = grouped + (end[c] - s[c].images);
		struct wasd_rng r;
		wasd_rng_init(&r, seed, "holdout", c, 0);
		wasd_rng_shuffle(&r, list, s[c].images);
		for (uint32_t i = 0; i < s[c].images; i++)
			if (i < s[c].take)
				h.val[h.n_val++] = list[i];
			else
				h.train[h.n_train++] = list[i];
	}
	qsort(h.val, h.n_val, sizeof *h.val, ascending);
	qsort(h.train, h.n_train, sizeof *h.train, ascending);
	*out = h;
	h = (struct wasd_holdout){0};
done:
	wasd_holdout_done(&h);
	wasd_free(grouped);
	wasd_free(s);
	wasd_free(end);
	return status;
}

enum wasd_status wasd_holdout_own(const struct wasd_dataset *d, struct wasd_holdout *out, struct wasd_err *err)
{
	size_t n = wasd_dataset_count(d, WASD_TRAIN), val = wasd_dataset_val(d);
	if (!val)
		return wasd_fail(err, WASD_EINVAL, "the dataset has no validation images of its own");
	struct wasd_holdout h = {.train = wasd_calloc(n, sizeof *h.train), .val = wasd_calloc(val, sizeof *h.val)};
	if (!h.train || !h.val) {
		wasd_holdout_done(&h);
		return wasd_fail(err, WASD_ENOMEM, "validation split of %zu images", n);
	}
	for (size_t i = 0; i < n; i++)
		if (i < n - val)
			h.train[h.n_train++] = (uint32_t)i;
		else
			h.val[h.n_val++] = (uint32_t)i;
	*out = h;
	return WASD_OK;
}

void wasd_holdout_done(struct wasd_holdout *h)
{
	wasd_free(h->train);
	wasd_free(h->val);
	*h = (struct wasd_holdout){0};
}
