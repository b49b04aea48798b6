/* infer/predictor.c - runs a bundle. There is one plan for each of a few batch sizes, made when first needed: a
 * plan allocates buffers and chooses kernels for its largest batch, so a single image should not run in the plan
 * for 64. All plans compute in one arena.
 *
 * A bundle with parts has a predictor for each of them. The first computes all images and keeps the maps that the
 * router reads; then every other part computes the images that go there, together. Those others may be predictors that
 * serve the same bundles alone. */
#include "infer/bundle.h"

#include <math.h>
#include <string.h>

static const int bucket[] = {1, 2, 4, 8, 16, 32, WASD_PREDICT_MAX};
#define BUCKETS ((int)(sizeof bucket / sizeof *bucket))

struct wasd_predictor {
	int refs; /* whoever created it, and the predictors that it is a part of besides */
	struct wasd_bundle *bundle;
	struct wasd_predictor_opts opts;
	struct wasd_arena *own; /* NULL: the arena is shared with other predictors */
	struct wasd_exec *exec[BUCKETS];
	wasd_node kept; /* what the router of a bundle that this is the first part of reads; 0: nothing */
	/* of a bundle with parts: */
	struct wasd_predictor *part[MODE_PARTS_MAX];
	bool shared[MODE_PARTS_MAX];
	float *means, *scratch; /* of an image: what the router reads */
	real *images, *answers; /* of one pass: those that go to a part */
	int group;              /* how many of them there is room for */
	int *choice, n;         /* the last run's n images */
	int room;               /* of choice */
};

/* The first part keeps a node, so it is a predictor of its own. */
static enum wasd_status create_part(struct wasd_predictor *p, int i, const struct wasd_predictor_opts *o,
                                    struct wasd_err *err)
{
	struct wasd_bundle *b = bundle_part(p->bundle, i);
	struct wasd_predictor *have = i && o->have ? o->have(o->ctx, b) : NULL;
	if (!have)
		return wasd_predictor_create(b, &p->opts, &p->part[i], err);
	have->refs++;
	p->part[i] = have;
	p->shared[i] = true;
	return WASD_OK;
}

static enum wasd_status create_parts(struct wasd_predictor *p, const struct wasd_predictor_opts *o,
                                     struct wasd_err *err)
{
	const struct mode_router *r = bundle_router(p->bundle);
	enum wasd_status s = WASD_OK;
	p->means = wasd_calloc((size_t)r->channels, sizeof *p->means);
	p->scratch = wasd_calloc((size_t)r->scratch, sizeof *p->scratch);
	if (!p->means || !p->scratch)
		return wasd_fail(err, WASD_ENOMEM, "predictor");
	for (int i = 0; !s && i < wasd_bundle_parts(p->bundle); i++)
		s = create_part(p, i, o, err);
	if (!s)
		p->part[0]->kept = r->at;
	return s;
}

enum wasd_status wasd_predictor_create(struct wasd_bundle *b, const struct wasd_predictor_opts *o,
                                       struct wasd_predictor **out, struct wasd_err *err)
{
	struct wasd_predictor *p = wasd_calloc(1, sizeof *p);
	if (!p)
		return wasd_fail(err, WASD_ENOMEM, "predictor");
	p->refs = 1;
	p->bundle = wasd_bundle_ref(b);
	p->opts = *o;
	p->opts.have = NULL;
	enum wasd_status s = o->arena ? WASD_OK : wasd_arena_create(&p->own, err);
	if (!s && p->own)
		p->opts.arena = p->own;
	if (!s && wasd_bundle_parts(b))
		s = create_parts(p, o, err);
	if (s)
		wasd_predictor_destroy(p);
	else
		*out = p;
	return s;
}

void wasd_predictor_destroy(struct wasd_predictor *p)
{
	if (!p || --p->refs)
		return;
	for (int i = 0; i < MODE_PARTS_MAX; i++)
		wasd_predictor_destroy(p->part[i]);
	for (int i = 0; i < BUCKETS; i++)
		wasd_exec_destroy(p->exec[i]);
	wasd_arena_destroy(p->own);
	wasd_bundle_unref(p->bundle);
	wasd_free(p->means);
	wasd_free(p->scratch);
	wasd_free(p->images);
	wasd_free(p->answers);
	wasd_free(p->choice);
	wasd_free(p);
}

/* What a predictor with parts has beside theirs. */
static size_t own_bytes(const struct wasd_predictor *p)
{
	const struct mode_router *r = bundle_router(p->bundle);
	size_t image = wasd_shape_count(wasd_bundle_shape(p->bundle)), classes = (size_t)wasd_bundle_classes(p->bundle);
	return ((size_t)r->channels + (size_t)r->scratch) * sizeof(float) +
	       (size_t)p->group * (image + classes) * sizeof(real) + (size_t)p->room * sizeof(int);
}

size_t wasd_predictor_bytes(const struct wasd_predictor *p)
{
	size_t sum = p->own ? wasd_arena_bytes(p->own) : 0;
	for (int i = 0; i < BUCKETS; i++)
		sum += p->exec[i] ? wasd_exec_bytes(p->exec[i]) : 0;
	for (int i = 0; i < MODE_PARTS_MAX; i++)
		sum += p->part[i] && !p->shared[i] ? wasd_predictor_bytes(p->part[i]) : 0;
	return sum + (p->part[0] ? own_bytes(p) : 0);
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
	if (p->part[0])
		return wasd_predictor_explain(p->part[0], n);
	const struct wasd_exec *e = p->exec[bucket_of(n < WASD_PREDICT_MAX ? n : WASD_PREDICT_MAX)];
	return e ? wasd_exec_explain(e) : NULL;
}

static enum wasd_status plan_for(struct wasd_predictor *p, int n, struct wasd_exec **out, struct wasd_err *err)
{
	int i = bucket_of(n);
	if (!p->exec[i]) {
		struct wasd_exec_opts o = {.batch = bucket[i],
		                           .constant_weights = true,
		                           .kept = p->kept,
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

/* Up to WASD_PREDICT_MAX images. *ran: the plan that computed them. */
static enum wasd_status run_pass(struct wasd_predictor *p, const real *x, int n, real *logits, struct wasd_exec **ran,
                                 struct wasd_err *err)
{
	size_t classes = (size_t)wasd_bundle_classes(p->bundle);
	struct wasd_pass pass = {.n = n, .bn = WASD_BN_SET, .set = WASD_STATS_AOM};
	enum wasd_status s = plan_for(p, n, ran, err);
	if (!s)
		s = wasd_exec_forward(*ran, x, &pass, err);
	if (!s)
		memcpy(logits, wasd_exec_logits(*ran), (size_t)n * classes * sizeof *logits);
	return s;
}

static enum wasd_status run_all(struct wasd_predictor *p, const real *x, int n, real *logits, struct wasd_err *err)
{
	size_t image = wasd_shape_count(wasd_bundle_shape(p->bundle)), classes = (size_t)wasd_bundle_classes(p->bundle);
	struct wasd_exec *e;
	enum wasd_status s = WASD_OK;
	for (int at = 0; !s && at < n; at += WASD_PREDICT_MAX)
		s = run_pass(p, x + (size_t)at * image, n - at < WASD_PREDICT_MAX ? n - at : WASD_PREDICT_MAX,
		             logits + (size_t)at * classes, &e, err);
	return s;
}

/* ---- parts ---- */

/* All images in the first part, and where each goes. */
static enum wasd_status run_first(struct wasd_predictor *p, const real *x, int n, real *logits, struct wasd_err *err)
{
	const struct mode_router *r = bundle_router(p->bundle);
	size_t image = wasd_shape_count(wasd_bundle_shape(p->bundle)), classes = (size_t)wasd_bundle_classes(p->bundle);
	struct wasd_exec *e;
	enum wasd_status s = WASD_OK;
	for (int at = 0; !s && at < n; at += WASD_PREDICT_MAX) {
		int some = n - at < WASD_PREDICT_MAX ? n - at : WASD_PREDICT_MAX;
		s = run_pass(p->part[0], x + (size_t)at * image, some, logits + (size_t)at * classes, &e, err);
		for (int i = 0; !s && i < some; i++) {
			wasd_exec_means(e, i, p->means);
			p->choice[at + i] = r->choose(r, p->means, p->scratch);
		}
	}
	return s;
}

/* Room for a group of n images: for as many as the plan that computes them. */
static enum wasd_status grow_group(struct wasd_predictor *p, int n, struct wasd_err *err)
{
	int room = bucket[bucket_of(n)];
	size_t image = wasd_shape_count(wasd_bundle_shape(p->bundle)), classes = (size_t)wasd_bundle_classes(p->bundle);
	if (n <= p->group)
		return WASD_OK;
	wasd_free(p->images);
	wasd_free(p->answers);
	p->group = 0;
	p->images = wasd_calloc((size_t)room * image, sizeof *p->images);
	p->answers = wasd_calloc((size_t)room * classes, sizeof *p->answers);
	if (!p->images || !p->answers)
		return wasd_fail(err, WASD_ENOMEM, "%d images", n);
	p->group = room;
	return WASD_OK;
}

/* The images that go to `part`, in their order, as run_all would compute them alone. */
static enum wasd_status run_part(struct wasd_predictor *p, int part, const real *x, int n, real *logits,
                                 struct wasd_err *err)
{
	size_t image = wasd_shape_count(wasd_bundle_shape(p->bundle)), classes = (size_t)wasd_bundle_classes(p->bundle);
	int of[WASD_PREDICT_MAX], some = 0;
	struct wasd_exec *e;
	enum wasd_status s = WASD_OK;
	for (int i = 0; !s && i < n; i++) {
		if (p->choice[i] == part)
			of[some++] = i;
		if (!some || (some < WASD_PREDICT_MAX && i < n - 1))
			continue;
		if ((s = grow_group(p, some, err)))
			break;
		for (int k = 0; k < some; k++)
			memcpy(p->images + (size_t)k * image, x + (size_t)of[k] * image, image * sizeof *x);
		s = run_pass(p->part[part], p->images, some, p->answers, &e, err);
		for (int k = 0; !s && k < some; k++)
			memcpy(logits + (size_t)of[k] * classes, p->answers + (size_t)k * classes, classes * sizeof *logits);
		some = 0;
	}
	return s;
}

static enum wasd_status grow_choice(struct wasd_predictor *p, int n, struct wasd_err *err)
{
	if (n <= p->room)
		return WASD_OK;
	int *more = wasd_realloc(p->choice, (size_t)n * sizeof *more);
	if (!more)
		return wasd_fail(err, WASD_ENOMEM, "%d images", n);
	p->choice = more;
	p->room = n;
	return WASD_OK;
}

static enum wasd_status run_parts(struct wasd_predictor *p, const real *x, int n, real *logits, struct wasd_err *err)
{
	p->n = 0;
	enum wasd_status s = grow_choice(p, n, err);
	if (!s)
		s = run_first(p, x, n, logits, err);
	for (int i = 1; !s && i < wasd_bundle_parts(p->bundle); i++)
		s = run_part(p, i, x, n, logits, err);
	p->n = s ? 0 : n;
	return s;
}

enum wasd_status wasd_predictor_run(struct wasd_predictor *p, const real *x, int n, real *logits, struct wasd_err *err)
{
	return p->part[0] ? run_parts(p, x, n, logits, err) : run_all(p, x, n, logits, err);
}

static enum wasd_status warm_parts(struct wasd_predictor *p, struct wasd_err *err)
{
	enum wasd_status s = grow_choice(p, 1, err);
	if (!s)
		s = grow_group(p, 1, err);
	for (int i = 0; !s && i < wasd_bundle_parts(p->bundle); i++)
		s = wasd_predictor_warm(p->part[i], err);
	return s;
}

enum wasd_status wasd_predictor_warm(struct wasd_predictor *p, struct wasd_err *err)
{
	if (p->part[0])
		return warm_parts(p, err);
	int classes = wasd_bundle_classes(p->bundle);
	real *x = wasd_calloc(wasd_shape_count(wasd_bundle_shape(p->bundle)), sizeof *x);
	real *y = wasd_calloc((size_t)classes, sizeof *y);
	enum wasd_status s = x && y ? wasd_predictor_run(p, x, 1, y, err) : wasd_fail(err, WASD_ENOMEM, "first prediction");
	for (int i = 0; !s && i < classes; i++)
		if (!isfinite(y[i]))
			s = wasd_fail(err, WASD_ENUMERIC, "%s weights give %g for class %d of a grey image",
			              wasd_bundle_mode(p->bundle), (double)y[i], i);
	wasd_free(x);
	wasd_free(y);
	return s;
}

int predictor_choice(const struct wasd_predictor *p, int i)
{
	return p->choice[i];
}

uint64_t wasd_predictor_macs(const struct wasd_predictor *p)
{
	if (!p->part[0] || !p->n)
		return wasd_bundle_macs(p->bundle);
	uint64_t sum = 0;
	for (int i = 0; i < p->n; i++)
		sum += p->choice[i] ? wasd_bundle_macs(bundle_part(p->bundle, p->choice[i])) : 0;
	return wasd_bundle_macs(bundle_part(p->bundle, 0)) + bundle_router(p->bundle)->own + sum / (uint64_t)p->n;
}
