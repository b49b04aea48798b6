/* synthetic.c - data sets that are computed instead of uploaded: the table, and the loop that writes a set.
 *
 * Image i of a split is a function of (kind, seed, split, i), so a larger set begins with the smaller one. Its class is
 * i mod n, so every prefix is balanced; the loader shuffles. */
#include "data/synthetic.h"
#include "data/wds.h"

#include <string.h>

static const struct synthetic *const table[] = {&synthetic_glyphs};

const char *wasd_synthetic_at(int i)
{
	return i >= 0 && i < (int)(sizeof table / sizeof *table) ? table[i]->name : NULL;
}

static const struct synthetic *find(const char *kind)
{
	for (size_t i = 0; i < sizeof table / sizeof *table; i++)
		if (!strcmp(table[i]->name, kind))
			return table[i];
	return NULL;
}

static enum wasd_status check(const struct synthetic *k, size_t n_train, size_t n_test,
                              const struct wasd_ingest_opts *o, struct wasd_err *err)
{
	size_t max_images = o && o->max_images ? o->max_images : WASD_INGEST_MAX_IMAGES;
	size_t max_bytes = o && o->max_bytes ? o->max_bytes : WASD_INGEST_MAX_BYTES, bytes;
	if (n_train < (size_t)k->n_classes)
		return wasd_fail_at(err, WASD_EINVAL, "/synthetic/train",
		                    "%zu training images; at least %d are needed (one of each class)", n_train, k->n_classes);
	if (n_test < 1)
		return wasd_fail_at(err, WASD_EINVAL, "/synthetic/test", "no test images; at least 1 is needed");
	if (n_train > max_images || n_test > max_images - n_train)
		return wasd_fail_at(err, WASD_ETOOBIG, "/synthetic", "%zu + %zu images; at most %zu are allowed", n_train,
		                    n_test, max_images);
	if (!wasd_mul_size(n_train + n_test, wasd_shape_count(k->shape), &bytes) || bytes > max_bytes)
		return wasd_fail_at(err, WASD_ETOOBIG, "/synthetic",
		                    "%zu images of %zu bytes; at most %zu bytes in all are allowed", n_train + n_test,
		                    wasd_shape_count(k->shape), max_bytes);
	return WASD_OK;
}

enum wasd_status wasd_synthetic(const char *kind, size_t n_train, size_t n_test, uint64_t seed, const char *out_path,
                                const struct wasd_ingest_opts *o, struct wasd_ingest_info *info, struct wasd_err *err)
{
	const struct synthetic *k = find(kind);
	if (!k)
		return wasd_fail_at(err, WASD_EINVAL, "/synthetic/kind", "no synthetic set \"%.40s\"", kind);
	enum wasd_status s = check(k, n_train, n_test, o, err);
	if (s)
		return s;
	size_t count[2] = {n_train, n_test}, image = wasd_shape_count(k->shape), done = 0;
	struct wasd_dataset_writer *w = NULL;
	uint8_t *chw = wasd_malloc(image);
	s = chw ? wasd_dataset_writer_create(out_path, k->shape, k->classes, k->n_classes, k->name, &w, err) :
	          wasd_fail(err, WASD_ENOMEM, "%s: no memory", out_path);
	for (int split = 0; split < 2 && !s; split++)
		for (size_t i = 0; i < count[split] && !s; i++) {
			struct wasd_rng r;
			wasd_rng_init(&r, seed, k->name, i, (uint64_t)split);
			k->render(&r, (int)(i % (size_t)k->n_classes), chw);
			s = wasd_dataset_writer_add(w, (enum wasd_split)split, chw, (int)(i % (size_t)k->n_classes), err);
			done++;
			if (!s && o && o->cancelled && o->cancelled(o->ctx))
				s = wasd_fail(err, WASD_ECANCELLED, "cancelled after %zu images", done);
			if (o && o->progress)
				o->progress(o->ctx, done, done * image);
		}
	if (!s)
		s = wasd_dataset_writer_finish(w, err);
	if (!s && info) {
		*info =
			(struct wasd_ingest_info){.shape = k->shape, .classes = k->n_classes, .n_train = n_train, .n_test = n_test};
		strncpy(info->format, k->name, sizeof info->format - 1);
		memcpy(info->digest, dataset_writer_digest(w), sizeof info->digest);
	}
	wasd_dataset_writer_abort(w);
	wasd_free(chw);
	return s;
}
