/* infer/predictor.c - runs a bundle. There is one plan for each of a few batch sizes, made when first needed: a
 * plan allocates buffers and chooses kernels for its largest batch, so a single image should not run in the plan
 * for 64. All plans compute in one arena. */
#include "infer/bundle.h"

#include <string.h>

static const int bucket[] = {1, 2, 4, 8, 16, 32, WASD_PREDICT_MAX};
#define BUCKETS ((int)(sizeof bucket / sizeof *bucket))

struct wasd_predictor {
	struct wasd_bundle *bundle;
	struct wasd_predictor_opts opts;
	struct wasd_arena *own; /* NULL: the arena is shared with other predictors */
	struct wasd_exec *exec[BUCKETS];
};

enum wasd_status wasd_predictor_create(struct wasd_bundle *b, const struct wasd_predictor_opts *o,
                                       struct wasd_predictor **out, struct wasd_err *err)
{
	struct wasd_predictor *p = wasd_calloc(1, sizeof *p);
	if (!p)
		return wasd_fail(err, WASD_ENOMEM, "predictor");
	p->bundle = wasd_bundle_ref(b);
	p->opts = *o;
	enum wasd_status s = o->arena ? WASD_OK : wasd_arena_create(&p->own, err);
	if (s) {
		wasd_predictor_destroy(p);
		return s;
	}
	if (p->own)
		p->opts.arena = p->own;
	*out = p;
	return WASD_OK;
}

void wasd_predictor_destroy(struct wasd_predictor *p)
{
	if (!p)
		return;
	for (int i = 0; i < BUCKETS; i++)
		wasd_exec_destroy(p->exec[i]);
	wasd_arena_destroy(p->own);
	wasd_bundle_unref(p->bundle);
	wasd_free(p);
}

size_t wasd_predictor_bytes(const struct wasd_predictor *p)
{
	size_t sum = p->own ? wasd_arena_bytes(p->own) : 0;
	for (int i = 0; i < BUCKETS; i++)
		sum += p->exec[i] ? wasd_exec_bytes(p->exec[i]) : 0;
	return sum;
}

static int bucket_of(int n)
{
	int i = 0;
	while (bucket[i] < n)
		i++;
	return i;
}

struct cJSON *wasd_predictor_explain(const struct wasd_predictor *p, int n)
{
	const struct wasd_exec *e = p->exec[bucket_of(n < WASD_PREDICT_MAX ? n : WASD_PREDICT_MAX)];
	return e ? wasd_exec_explain(e) : NULL;
}

static enum wasd_status plan_for(struct wasd_predictor *p, int n, struct wasd_exec **out, struct wasd_err *err)
{
	int i = bucket_of(n);
	if (!p->exec[i]) {
		struct wasd_exec_opts o = {.batch = bucket[i],
		                           .constant_weights = true,
		                           .arena = p->opts.arena,
		                           .precision = p->opts.precision,
		                           .quant = bundle_quant(p->bundle),
		                           .backend = p->opts.backend};
		enum wasd_status s = wasd_exec_create(bundle_model(p->bundle), &o, &p->exec[i], err);
		if (s)
			return s;
	}
	*out = p->exec[i];
	return WASD_OK;
}

enum wasd_status wasd_predictor_run(struct wasd_predictor *p, const real *x, int n, real *logits, struct wasd_err *err)
{
	size_t image = wasd_shape_count(wasd_bundle_shape(p->bundle)), classes = (size_t)wasd_bundle_classes(p->bundle);
	for (int at = 0; at < n; at += WASD_PREDICT_MAX) {
		struct wasd_pass pass = {.n = n - at < WASD_PREDICT_MAX ? n - at : WASD_PREDICT_MAX,
		                         .bn = WASD_BN_SET,
		                         .set = WASD_STATS_AOM};
		struct wasd_exec *e;
		enum wasd_status s = plan_for(p, pass.n, &e, err);
		if (!s)
			s = wasd_exec_forward(e, x + (size_t)at * image, &pass, err);
		if (s)
			return s;
		memcpy(logits + (size_t)at * classes, wasd_exec_logits(e), (size_t)pass.n * classes * sizeof *logits);
	}
	return WASD_OK;
}
