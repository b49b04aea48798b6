/* holdout.c - chooses the training images that a run uses, and which of these to hold out for validation; see
 * wasd_holdout_make.
 *
 * Both choices are stratified by class. Class c has n_c images and should give F n_c of them. It gives the integer
 * part; the images still missing from round(F N) come, one each, from the classes with the largest remainders (ties go
 * to the lower class). */
#include "wasd/data.h"

#include <math.h>
#include <stdlib.h>

struct share {
	double rest;
	uint32_t class, images, take;
};

/* What to take from a list of images: the share `fraction` of each class, `want` images in all, drawn with the random
 * stream `stream` of the seed. A class with several images keeps at least `keep` of them. */
struct taking {
	double fraction;
	size_t want;
	uint32_t keep;
	const char *stream;
	uint64_t seed;
	bool stratified;
};

/* The class of an image for this purpose. */
static int class_of(const struct wasd_dataset *d, const struct taking *t, uint32_t image)
{
	return t->stratified ? wasd_dataset_label(d, WASD_TRAIN, image) : 0;
}

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

/* Sets take for each class. If no class can give an image and still keep enough, the first class with an image gives
 * it. */
static void divide(struct share *s, size_t classes, const struct taking *t)
{
	size_t given = 0;
	for (size_t c = 0; c < classes; c++) {
		double quota = t->fraction * s[c].images;
		s[c].take = (uint32_t)quota;
		s[c].rest = quota - s[c].take;
		given += s[c].take;
	}
	qsort(s, classes, sizeof *s, by_rest);
	for (size_t c = 0; c < classes && given < t->want; c++)
		if (s[c].take + t->keep < s[c].images) {
			s[c].take++;
			given++;
		}
	for (size_t c = 0; c < classes && !given; c++)
		given = s[c].take = s[c].images > 0;
	qsort(s, classes, sizeof *s, by_class);
}

/* Fills `grouped` class by class, ascending within each class; class c ends before end[c]. */
static void group(const struct wasd_dataset *d, const struct taking *t, const uint32_t *list, size_t n,
                  const struct share *s, size_t classes, size_t *end, uint32_t *grouped)
{
	size_t at = 0;
	for (size_t c = 0; c < classes; c++) {
		end[c] = at;
		at += s[c].images;
	}
	for (size_t i = 0; i < n; i++)
		grouped[end[class_of(d, t, list[i])]++] = list[i];
}

static int ascending(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

/* Moves images from `list` to `taken`; both stay ascending. `taken` has room for all images. */
static enum wasd_status take(const struct wasd_dataset *d, const struct taking *t, uint32_t *list, size_t *n,
                             uint32_t *taken, size_t *n_taken, struct wasd_err *err)
{
	size_t classes = t->stratified ? (size_t)wasd_dataset_classes(d) : 1, left = 0, out = 0;
	uint32_t *grouped = wasd_calloc(*n + 1, sizeof *grouped);
	struct share *s = wasd_calloc(classes, sizeof *s);
	size_t *end = wasd_calloc(classes, sizeof *end);
	enum wasd_status status = grouped && s && end ? WASD_OK :
	                                                wasd_fail(err, WASD_ENOMEM, "choosing among %zu images", *n);
	if (status)
		goto done;
	for (size_t c = 0; c < classes; c++)
		s[c].class = (uint32_t)c;
	for (size_t i = 0; i < *n; i++)
		s[class_of(d, t, list[i])].images++;
	divide(s, classes, t);
	group(d, t, list, *n, s, classes, end, grouped);
	for (size_t c = 0; c < classes; c++) {
		uint32_t *of_class = grouped + (end[c] - s[c].images);
		struct wasd_rng r;
		wasd_rng_init(&r, t->seed, t->stream, c, 0);
		wasd_rng_shuffle(&r, of_class, s[c].images);
		for (uint32_t i = 0; i < s[c].images; i++)
			if (i < s[c].take)
				taken[out++] = of_class[i];
			else
				list[left++] = of_class[i];
	}
	qsort(taken, out, sizeof *taken, ascending);
	qsort(list, left, sizeof *list, ascending);
	*n_taken = out;
	*n = left;
done:
	wasd_free(grouped);
	wasd_free(s);
	wasd_free(end);
	return status;
}

/* Reduces h->train to what the limit leaves. */
static enum wasd_status apply_limit(const struct wasd_dataset *d, double limit, uint64_t seed, bool stratified,
                                    struct wasd_holdout *h, struct wasd_err *err)
{
	double n = (double)h->n_train, want = limit < 1 ? floor(limit * n + 0.5) : limit;
	if (limit == 0 || want >= n)
		return WASD_OK;
	want = want < 1 ? 1 : want;
	uint32_t *others = h->train;
	size_t n_others = h->n_train;
	enum wasd_status s = take(d, &(struct taking){want / n, (size_t)want, 0, "limit", seed, stratified}, others,
	                          &n_others, h->val, &h->n_train, err);
	if (!s) {
		h->train = h->val;
		h->val = others;
	}
	return s;
}

/* Starts with the first n training images, reduced by the limit, with room for as many images, or `val`, to hold out.
 * Nothing to free after a failure. */
static enum wasd_status begin(const struct wasd_dataset *d, size_t n, size_t val, double limit, uint64_t seed,
                              bool stratified, struct wasd_holdout *out, struct wasd_err *err)
{
	size_t room = (n > val ? n : val) + 1;
	if (!(limit >= 0) || (limit >= 1 && limit != floor(limit)))
		return wasd_fail(err, WASD_EINVAL, "limit %g of the training images: must be a whole number or a share below 1",
		                 limit);
	struct wasd_holdout h = {.train = wasd_calloc(room, sizeof *h.train),
	                         .val = wasd_calloc(room, sizeof *h.val),
	                         .n_train = n};
	enum wasd_status s = h.train && h.val ?
	                         WASD_OK :
	                         wasd_fail(err, WASD_ENOMEM, "no memory for a validation split of %zu images", n);
	for (size_t i = 0; i < n && !s; i++)
		h.train[i] = (uint32_t)i;
	if (!s)
		s = apply_limit(d, limit, seed, stratified, &h, err);
	if (s)
		wasd_holdout_done(&h);
	else
		*out = h;
	return s;
}

enum wasd_status wasd_holdout_make(const struct wasd_dataset *d, double limit, double fraction, uint64_t seed,
                                   bool stratified, struct wasd_holdout *out, struct wasd_err *err)
{
	struct wasd_holdout h;
	if (!(fraction >= 0 && fraction <= 0.5))
		return wasd_fail(err, WASD_EINVAL, "validation share %g of the training images: must be 0 to 0.5", fraction);
	enum wasd_status s = begin(d, wasd_dataset_count(d, WASD_TRAIN), 0, limit, seed, stratified, &h, err);
	if (s)
		return s;
	size_t n = h.n_train, want = (size_t)(fraction * (double)n + 0.5);
	if (fraction > 0 && n < 2)
		s = wasd_fail(err, WASD_EINVAL, "none of %zu training image%s can be held out for validation", n,
		              n == 1 ? "" : "s");
	else if (fraction > 0)
		s = take(d, &(struct taking){fraction, want ? want : 1, 1, "holdout", seed, stratified}, h.train, &h.n_train,
		         h.val, &h.n_val, err);
	if (s)
		wasd_holdout_done(&h);
	else
		*out = h;
	return s;
}

enum wasd_status wasd_holdout_own(const struct wasd_dataset *d, double limit, uint64_t seed, bool stratified,
                                  struct wasd_holdout *out, struct wasd_err *err)
{
	size_t n = wasd_dataset_count(d, WASD_TRAIN), val = wasd_dataset_val(d);
	struct wasd_holdout h;
	if (!val)
		return wasd_fail(err, WASD_EINVAL, "the dataset has no validation images of its own");
	enum wasd_status s = begin(d, n - val, val, limit, seed, stratified, &h, err);
	if (s)
		return s;
	for (size_t i = n - val; i < n; i++)
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
