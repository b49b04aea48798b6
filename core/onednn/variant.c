/* onednn/variant.c - chooses and creates the primitives of a convolution step. */
#include "onednn/variant.h"
#include "onednn/blocked.h"

#include <stdio.h>
#include <string.h>

enum {
	DIRECT = TUNE_LIBRARY,
	WINOGRAD,
	MINIMAL,
	TAPS = TUNE_OURS
}; /* indexed like the candidates in the table of measurements */

/* ---- geometry ---- */

void grid_widen(int *k, int *begin, int in, int out, int stride)
{
	if (*k < 1)
		*k = 1;
	if (*begin < 0) {
		*k -= *begin;
		*begin = 0;
	}
	int end = (out - 1) * stride + *k - in - *begin;
	if (end < 0)
		*k -= end;
}

/* Completes two taps of stride 1, left over from three, to three taps again, on the side where padding is missing. */
static void complete(int *k, int *begin, int in, int out)
{
	if (*k != 2 || out + 2 - in - *begin < 1)
		return;
	*k = 3;
	*begin += *begin == 0;
}

struct grid grid_of(const struct node *nd)
{
	struct grid g = {nd->kh, nd->kw, nd->pad_top, nd->pad_left};
	if (nd->stride == 1 && nd->groups == 1 && nd->kh > 1 && nd->kw > 1) {
		complete(&g.kh, &g.pad_top, nd->in.h, nd->shape.h);
		complete(&g.kw, &g.pad_left, nd->in.w, nd->shape.w);
	}
	grid_widen(&g.kh, &g.pad_top, nd->in.h, nd->shape.h, nd->stride);
	grid_widen(&g.kw, &g.pad_left, nd->in.w, nd->shape.w, nd->stride);
	return g;
}

int filter_channels(const struct step *s)
{
	const struct node *nd = s->node;
	bool pads = nd->groups == 1 && !blocked_of(s->x[0])->plain && nd->in.c < LANES;
	return pads ? LANES : nd->in.c / nd->groups;
}

/* Whether the kernel's windows end at least `stride` before the image's edge, or begin inside it. */
static bool cropped(int k, int begin, int in, int out, int stride)
{
	return k < 1 || begin < 0 || (out - 1) * stride + k - in - begin <= -stride;
}

static struct prim_conv shape_of(const struct step *s, const struct variant *v, int n, bool training, bool embedded)
{
	const struct node *nd = s->node;
	struct grid g = embedded ? grid_of(nd) : (struct grid){v->kh, v->kw, v->pad_top, v->pad_left};
	struct prim_conv c = {
		.n = n,
		.c = embedded ? filter_channels(s) * nd->groups : nd->in.c,
		.h = nd->in.h,
		.w = nd->in.w,
		.out = nd->out,
		.oh = nd->shape.h,
		.ow = nd->shape.w,
		.stride = nd->stride,
		.groups = nd->groups,
		.kh = g.kh,
		.kw = g.kw,
		.pad_top = g.pad_top,
		.pad_left = g.pad_left,
		.x_plain = blocked_of(s->x[0])->plain,
		.x_bf16 = blocked_of(s->x[0])->bf16,
		.y_bf16 = blocked_of(s->y)->bf16,
		.bias = nd->bias >= 0,
		.training = training,
	};
	if (!training) {
		c.residual = s->has_res;
		c.act = s->act;
	}
	return c;
}

/* Minimal filtering needs stride 1 and float32, and is not a plain sum of products. */
static bool minimal_allowed(const struct step *s)
{
	const struct node *nd = s->node;
	return !s->strict && nd->stride == 1 && nd->groups == 1 && !blocked_of(s->y)->bf16 && !blocked_of(s->x[0])->plain;
}

static bool winograd_fits(const struct step *s)
{
	struct grid g = grid_of(s->node);
	return minimal_allowed(s) && g.kh == 3 && g.kw == 3 && s->node->in.c >= LANES;
}

/* n = 0 if it does not apply. */
static struct minimal minimal_of(const struct step *s, const struct variant *v, int n, bool training)
{
	const struct node *nd = s->node;
	struct minimal m = {.n = n,
	                    .c = nd->in.c,
	                    .h = nd->in.h,
	                    .w = nd->in.w,
	                    .out = nd->out,
	                    .oh = nd->shape.h,
	                    .ow = nd->shape.w,
	                    .kh = v->kh,
	                    .kw = v->kw,
	                    .pad_top = v->pad_top,
	                    .pad_left = v->pad_left,
	                    .act = training ? ACT_NONE : s->act};
	return minimal_allowed(s) && minimal_fits(&m) ? m : (struct minimal){0};
}

#define FEW_IMAGES 8 /* up to this batch size, a serving pass reads its weights from memory rather than a cache */

/* Our direct kernels, for the cases where they may beat oneDNN's: few images, strides, single taps. n = 0 elsewhere. */
static struct taps taps_of(const struct step *s, const struct variant *v, int n, bool training, enum prim_pass pass)
{
	const struct node *nd = s->node;
	struct taps t = {.n = n,
	                 .c = nd->in.c,
	                 .h = nd->in.h,
	                 .w = nd->in.w,
	                 .out = nd->out,
	                 .oh = nd->shape.h,
	                 .ow = nd->shape.w,
	                 .kh = v->kh,
	                 .kw = v->kw,
	                 .stride = nd->stride,
	                 .pad_top = v->pad_top,
	                 .pad_left = v->pad_left,
	                 .act = training ? ACT_NONE : s->act,
	                 .bf16 = blocked_of(s->y)->bf16};
	bool worth = v->n <= FEW_IMAGES || nd->stride > 1 || v->kh * v->kw == 1;
	bool allowed = !s->strict && nd->groups == 1 && !blocked_of(s->x[0])->plain && blocked_of(s->x[0])->bf16 == t.bf16;
	return allowed && worth && taps_fit(&t, pass == PRIM_DATA) ? t : (struct taps){0};
}

/* ---- measuring ---- */

#define MEASURE_IMAGES 128 /* larger batches scale linearly */
#define MEASURE_ROUNDS 12  /* upper limit; each candidate runs once per round */
#define MEASURE_US 40000   /* time limit, except for the first three rounds */
#define COLD_BYTES (64u << 20)

struct candidate {
	struct prim *prim;
	struct minimal minimal;
	struct taps taps;
	char *x, *y, *own, *plain, *scratch;
	float *bias;
};

static bool exists(const struct candidate *c)
{
	return c->prim || c->minimal.n || c->taps.n;
}

static void discard(struct candidate *c)
{
	tensor_free(c->x);
	tensor_free(c->y);
	tensor_free(c->own);
	tensor_free(c->plain);
	tensor_free(c->scratch);
	tensor_free(c->bias);
	prim_destroy(c->prim);
	*c = (struct candidate){0};
}

static size_t blocked_bytes(int n, int c, int h, int w)
{
	return (size_t)n * (size_t)((c + LANES - 1) / LANES * LANES) * (size_t)(h * w) * sizeof(float);
}

static void prepare(struct candidate *c, enum prim_pass pass, const struct prim_conv *shape)
{
	int threads = wasd_threads();
	if (!exists(c))
		return;
	c->x = tensor_alloc(c->prim ? prim_x_bytes(c->prim) : blocked_bytes(shape->n, shape->c, shape->h, shape->w));
	c->y = tensor_alloc(c->prim ? prim_y_bytes(c->prim) : blocked_bytes(shape->n, shape->out, shape->oh, shape->ow));
	c->own = tensor_alloc(c->prim   ? prim_weight_bytes(c->prim) :
	                      c->taps.n ? taps_weight_bytes(&c->taps, pass == PRIM_DATA) :
	                                  minimal_weight_bytes(&c->minimal));
	c->plain = tensor_alloc((size_t)shape->out * (size_t)(shape->c / shape->groups) * (size_t)(shape->kh * shape->kw) *
	                        sizeof(float));
	c->scratch = tensor_alloc(c->prim   ? prim_scratch_bytes(c->prim) :
	                          c->taps.n ? taps_scratch_bytes(&c->taps, threads) :
	                                      minimal_scratch_bytes(&c->minimal, threads));
	c->bias = tensor_alloc((size_t)shape->out * sizeof(float));
	if (!c->x || !c->y || !c->own || !c->plain || !c->scratch || !c->bias)
		discard(c);
}

static void run_minimal(const struct candidate *c, enum prim_pass pass, bool constant)
{
	const struct minimal *m = &c->minimal;
	float *x = (float *)c->x, *y = (float *)c->y, *own = (float *)c->own, *plain = (float *)c->plain;
	if (!constant && pass != PRIM_WEIGHTS)
		minimal_weights_in(m, pass == PRIM_DATA, plain, own);
	if (pass == PRIM_FORWARD)
		minimal_forward(m, x, own, c->bias, NULL, y, c->scratch);
	else if (pass == PRIM_DATA)
		minimal_data(m, y, own, x, false, c->scratch);
	else
		minimal_weights(m, x, y, plain, NULL, c->scratch);
}

static void run_taps(const struct candidate *c, enum prim_pass pass, bool constant)
{
	const struct taps *t = &c->taps;
	float *plain = (float *)c->plain;
	if (!constant && pass != PRIM_WEIGHTS)
		taps_weights_in(t, pass == PRIM_DATA, plain, c->own);
	if (pass == PRIM_FORWARD)
		taps_forward(t, c->x, c->own, c->bias, NULL, c->y, c->scratch);
	else if (pass == PRIM_DATA)
		taps_data(t, c->y, c->own, c->x, false, c->scratch);
	else
		taps_weights(t, c->x, c->y, plain, NULL, c->scratch);
}

static bool run_prim(const struct candidate *c, enum prim_pass pass, bool constant)
{
	float *plain = (float *)c->plain;
	return (constant || pass == PRIM_WEIGHTS || prim_weights_in(c->prim, plain, c->own, c->scratch)) &&
	       prim_run(c->prim, c->x, c->own, c->bias, c->y, c->scratch) &&
	       (pass != PRIM_WEIGHTS || prim_weights_add(c->prim, c->own, plain, c->scratch));
}

struct race {
	struct candidate c[TUNE_CANDIDATES];
	enum prim_pass pass;
	bool constant;
	char *cold; /* NULL: weights may be in a cache */
};

/* Microseconds of one run, including the conversion of weights (or of their gradient) if every pass needs it; 0:
 * failed. */
static float run_once(void *ctx, int candidate)
{
	const struct race *r = ctx;
	const struct candidate *c = &r->c[candidate];
	for (size_t k = 0; r->cold && k < COLD_BYTES; k += 64)
		r->cold[k]++;
	int64_t t = wasd_mono_us();
	if (c->minimal.n)
		run_minimal(c, r->pass, r->constant);
	else if (c->taps.n)
		run_taps(c, r->pass, r->constant);
	else if (!run_prim(c, r->pass, r->constant))
		return 0;
	return (float)(wasd_mono_us() - t) + 0.1f;
}

static int measured_images(int n)
{
	int m = 1;
	while (2 * m <= n && 2 * m <= MEASURE_IMAGES)
		m *= 2;
	return m;
}

static struct tune_result compare(const struct step *s, const struct variant *v, bool training, enum prim_pass pass,
                                  bool must_embed)
{
	static const char *const names[PRIM_PASSES] =
		{[PRIM_FORWARD] = "forward", [PRIM_DATA] = "data", [PRIM_WEIGHTS] = "weights"};
	int n = measured_images(v->n);
	struct prim_conv direct = shape_of(s, v, n, training, must_embed), winograd = shape_of(s, v, n, training, true);
	struct tune_result r = {0};
	char key[TUNE_KEY];
	snprintf(key, sizeof key, "%s%s%s n%d %dx%dx%d o%dx%dx%d k%dx%d s%d%s%s%s%s", names[pass],
	         direct.y_bf16 ? " bf16" : "",
	         training ? "" :
	         s->packs ? " const" :
	                    " eval",
	         n, direct.c, direct.h, direct.w, direct.out, direct.oh, direct.ow, v->kh, v->kw, direct.stride,
	         direct.bias ? " bias" : "", direct.residual ? " add" : "",
	         direct.act == ACT_NONE ? "" :
	         direct.act == ACT_RELU ? " relu" :
	                                  " relu6",
	         must_embed ? " cropped" : "");
	if (tune_find(key, &r))
		return r;
	if (s->unmeasured) {
		r.choice = minimal_of(s, v, n, training).n ? MINIMAL : taps_of(s, v, n, training, pass).n ? TAPS : DIRECT;
		return r;
	}
	struct race race = {.pass = pass, .constant = s->packs != NULL};
	struct candidate *c = race.c;
	c[DIRECT].prim = prim_create(pass, PRIM_DIRECT, &direct);
	if (winograd_fits(s))
		c[WINOGRAD].prim = prim_create(pass, PRIM_WINOGRAD, &winograd);
	c[MINIMAL].minimal = minimal_of(s, v, n, training);
	c[TAPS].taps = taps_of(s, v, n, training, pass);
	int several = 0;
	for (int i = 0; i < TUNE_CANDIDATES; i++) {
		prepare(&c[i], pass, i == WINOGRAD ? &winograd : &direct);
		several += exists(&c[i]);
		r.us[i] = exists(&c[i]) ? 0 : -1;
	}
	race.cold = race.constant && n <= FEW_IMAGES ? tensor_alloc(COLD_BYTES) : NULL;
	if (several > 1 && tune_race(run_once, &race, MEASURE_ROUNDS, MEASURE_US, &r))
		tune_store(key, &r);
	else
		r = (struct tune_result){0};
	tensor_free(race.cold);
	for (int i = 0; i < TUNE_CANDIDATES; i++)
		discard(&c[i]);
	return r;
}

/* ---- making ---- */

static bool pick(const struct step *s, const struct variant *v, bool training, enum prim_pass pass, struct direction *d)
{
	const struct node *nd = s->node;
	bool must = cropped(v->kh, v->pad_top, nd->in.h, nd->shape.h, nd->stride) ||
	            cropped(v->kw, v->pad_left, nd->in.w, nd->shape.w, nd->stride) ||
	            filter_channels(s) * nd->groups != nd->in.c;
	struct grid g = grid_of(nd);
	if (winograd_fits(s) || minimal_of(s, v, v->n, training).n || taps_of(s, v, v->n, training, pass).n) {
		struct prim_conv c = shape_of(s, v, v->n, training, true);
		d->measured = compare(s, v, training, pass, must);
		d->minimal = d->measured.choice == MINIMAL ? minimal_of(s, v, v->n, training) : (struct minimal){0};
		d->taps = d->measured.choice == TAPS ? taps_of(s, v, v->n, training, pass) : (struct taps){0};
		if (d->minimal.n || d->taps.n)
			return true;
		if (d->measured.choice == WINOGRAD && (d->prim = prim_create(pass, PRIM_WINOGRAD, &c)) != NULL) {
			d->embedded = v->kh != g.kh || v->kw != g.kw;
			return true;
		}
	}
	struct prim_conv c = shape_of(s, v, v->n, training, must);
	d->embedded = must;
	d->prim = prim_create(pass, PRIM_DIRECT, &c);
	if (!d->prim)
		d->prim = prim_create(pass, PRIM_ANY, &c);
	return d->prim != NULL;
}

size_t direction_weight_bytes(const struct direction *d)
{
	return d->prim      ? prim_weight_bytes(d->prim) :
	       d->minimal.n ? minimal_weight_bytes(&d->minimal) :
	       d->taps.n    ? taps_weight_bytes(&d->taps, false) :
	                      0;
}

size_t direction_scratch_bytes(const struct direction *d)
{
	int threads = wasd_threads();
	return d->prim      ? prim_scratch_bytes(d->prim) :
	       d->minimal.n ? minimal_scratch_bytes(&d->minimal, threads) :
	       d->taps.n    ? taps_scratch_bytes(&d->taps, threads) :
	                      0;
}

uint64_t direction_form(const struct direction *d)
{
	/* Only forward passes have constant weights, and the shape determines the kernel size, so each of our algorithms
	 * has one form. */
	return d->prim ? prim_weights_form(d->prim) : d->minimal.n ? 1 : 2;
}

void variant_done(struct variant *v)
{
	for (int p = 0; p < PRIM_PASSES; p++)
		prim_destroy(v->dir[p].prim);
}

bool variant_create(struct step *s, struct variant *v, bool training)
{
	for (int p = 0; p < PRIM_PASSES; p++) {
		bool wanted = p == PRIM_FORWARD || (training && (p == PRIM_WEIGHTS || s->dx[0]));
		if (wanted && !pick(s, v, training, (enum prim_pass)p, &v->dir[p])) {
			variant_done(v);
			s->status = WASD_ENOMEM;
			return false;
		}
	}
	return true;
}

void variant_explain(const struct step *s, const struct variant *v, cJSON *to)
{
	static const char *const names[PRIM_PASSES] =
		{[PRIM_FORWARD] = "forward", [PRIM_DATA] = "backward data", [PRIM_WEIGHTS] = "backward weights"};
	static const char *const candidates[TUNE_CANDIDATES] =
		{[DIRECT] = "direct", [WINOGRAD] = "onednn_winograd", [MINIMAL] = "wasd_winograd", [TAPS] = "wasd_direct"};
	for (int p = 0; p < PRIM_PASSES; p++) {
		const struct direction *d = &v->dir[p];
		char kernel[24];
		if (!d->prim && !d->minimal.n && !d->taps.n)
			continue;
		const char *info = d->prim ? prim_info(d->prim) : "wasd";
		bool direct = !d->minimal.n && !strstr(info, "wino");
		cJSON *o = cJSON_CreateObject(), *us;
		snprintf(kernel, sizeof kernel, "%dx%d", v->kh, v->kw);
		cJSON_AddStringToObject(o, "layer", s->node->name);
		cJSON_AddStringToObject(o, "pass", names[p]);
		cJSON_AddNumberToObject(o, "images", v->n);
		cJSON_AddStringToObject(o, "kernel", kernel);
		cJSON_AddStringToObject(o, "algorithm",
		                        direct      ? d->embedded ? "direct, embedded" : "direct" :
		                        d->embedded ? "winograd, embedded" :
		                                      "winograd");
		cJSON_AddStringToObject(o, "implementation", info);
		if (d->measured.us[d->measured.choice] > 0 && (us = cJSON_AddObjectToObject(o, "us")) != NULL)
			for (int i = 0; i < TUNE_CANDIDATES; i++)
				if (d->measured.us[i] > 0)
					cJSON_AddNumberToObject(us, candidates[i], (double)d->measured.us[i]);
		if (!cJSON_AddItemToArray(to, o))
			cJSON_Delete(o);
	}
}
