/* onednn/variant.c - choosing and making the primitives of a convolution step. */
#include "onednn/variant.h"
#include "onednn/blocked.h"

#include <stdio.h>
#include <string.h>

enum { DIRECT, WINOGRAD };                      /* candidates, as the table of measurements counts them */

/* ---- geometry ---- */

/* At least one tap, zeros in place of negative padding, and windows that reach the end of the image. */
static void widen(int *k, int *begin, int in, int out, int stride)
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

/* Two taps of stride 1 that a cut has left of three: the third one again, on the side where its padding is missing. */
static void complete(int *k, int *begin, int in, int out)
{
	if (*k != 2 || out + 2 - in - *begin < 1)
		return;
	*k = 3;
	*begin += *begin == 0;
}

struct grid grid_of(const struct node *nd)
{
	struct grid g = { nd->kh, nd->kw, nd->pad_top, nd->pad_left };
	if (nd->stride == 1 && nd->groups == 1 && nd->kh > 1 && nd->kw > 1) {
		complete(&g.kh, &g.pad_top, nd->in.h, nd->shape.h);
		complete(&g.kw, &g.pad_left, nd->in.w, nd->shape.w);
	}
	widen(&g.kh, &g.pad_top, nd->in.h, nd->shape.h, nd->stride);
	widen(&g.kw, &g.pad_left, nd->in.w, nd->shape.w, nd->stride);
	return g;
}

/* Whether the windows of a kernel end at least `stride` short of the image's edge, or begin inside it. */
static bool cropped(int k, int begin, int in, int out, int stride)
{
	return k < 1 || begin < 0 || (out - 1) * stride + k - in - begin <= -stride;
}

static struct prim_conv shape_of(const struct step *s, const struct variant *v, int n, bool training, bool embedded)
{
	const struct node *nd = s->node;
	struct grid g = embedded ? grid_of(nd) : (struct grid){ v->kh, v->kw, v->pad_top, v->pad_left };
	struct prim_conv c = {
		.n = n, .c = nd->in.c, .h = nd->in.h, .w = nd->in.w, .out = nd->out, .oh = nd->shape.h, .ow = nd->shape.w, .stride = nd->stride, .groups = nd->groups,
		.kh = g.kh, .kw = g.kw, .pad_top = g.pad_top, .pad_left = g.pad_left,
		.x_plain = blocked_of(s->x[0])->plain, .x_bf16 = blocked_of(s->x[0])->bf16, .y_bf16 = blocked_of(s->y)->bf16,
		.bias = nd->bias >= 0, .training = training,
	};
	if (!training) {
		c.residual = s->has_res;
		c.act = s->act;
	}
	return c;
}

/* ---- measuring ---- */

#define MEASURE_IMAGES 32                       /* a larger batch is more of the same */
#define MEASURE_ROUNDS 12                       /* at most, each candidate once a round */
#define MEASURE_US 40000                        /* no further round after so long, but for the first four */
#define COLD_IMAGES 8                           /* up to here a serving pass finds its weights in memory rather than in a cache */
#define COLD_BYTES (64u << 20)

struct candidate { struct prim *prim; char *x, *y, *own, *plain, *scratch; float *bias; };

static void discard(struct candidate *c)
{
	tensor_free(c->x);
	tensor_free(c->y);
	tensor_free(c->own);
	tensor_free(c->plain);
	tensor_free(c->scratch);
	tensor_free(c->bias);
	prim_destroy(c->prim);
	*c = (struct candidate){ 0 };
}

static void prepare(struct candidate *c, enum prim_pass pass, enum prim_alg alg, const struct prim_conv *shape)
{
	if (!(c->prim = prim_create(pass, alg, shape)))
		return;
	c->x = tensor_alloc(prim_x_bytes(c->prim));
	c->y = tensor_alloc(prim_y_bytes(c->prim));
	c->own = tensor_alloc(prim_weight_bytes(c->prim));
	c->plain = tensor_alloc((size_t)shape->out * (size_t)(shape->c / shape->groups) * (size_t)(shape->kh * shape->kw) * sizeof(float));
	c->scratch = tensor_alloc(prim_scratch_bytes(c->prim));
	c->bias = tensor_alloc((size_t)shape->out * sizeof(float));
	if (!c->x || !c->y || !c->own || !c->plain || !c->scratch || !c->bias)
		discard(c);
}

/* Microseconds of one run, with what it takes to bring the weights in (or their gradient out) where that is part of every pass; 0: it failed. */
static float run_once(const struct candidate *c, enum prim_pass pass, bool constant)
{
	int64_t t = wasd_mono_us();
	bool good = (constant || pass == PRIM_WEIGHTS || prim_weights_in(c->prim, (float *)c->plain, c->own, c->scratch)) &&
	            prim_run(c->prim, c->x, c->own, c->bias, c->y, c->scratch) &&
	            (pass != PRIM_WEIGHTS || prim_weights_add(c->prim, c->own, (float *)c->plain, c->scratch));
	return good ? (float)(wasd_mono_us() - t) + 0.1f : 0;
}

/* Best times of the candidates, run by turns, so that whatever else the machine does hits both; us 0: there is no such primitive. */
static void race(struct candidate c[TUNE_CANDIDATES], enum prim_pass pass, int images, bool constant, float us[TUNE_CANDIDATES])
{
	char *cold = constant && images <= COLD_IMAGES ? tensor_alloc(COLD_BYTES) : NULL;
	int64_t begin = wasd_mono_us();
	for (int r = 0; r < MEASURE_ROUNDS && (r < 4 || wasd_mono_us() - begin < MEASURE_US); r++)
		for (int i = 0; i < TUNE_CANDIDATES; i++) {
			if (!c[i].prim)
				continue;
			for (size_t k = 0; cold && k < COLD_BYTES; k += 64)
				cold[k]++;
			float t = run_once(&c[i], pass, constant);
			if (t <= 0)
				discard(&c[i]);
			else if (r == 1 || (r > 1 && t < us[i]))                /* the first round warms up */
				us[i] = t;
		}
	for (int i = 0; i < TUNE_CANDIDATES; i++)
		us[i] = c[i].prim ? us[i] : 0;
	tensor_free(cold);
}

static int measured_images(int n)
{
	int m = 1;
	while (2 * m <= n && 2 * m <= MEASURE_IMAGES)
		m *= 2;
	return m;
}

static struct tune_result compare(const struct step *s, const struct variant *v, bool training, enum prim_pass pass, bool must_embed)
{
	static const char *const names[PRIM_PASSES] = { [PRIM_FORWARD] = "forward", [PRIM_DATA] = "data", [PRIM_WEIGHTS] = "weights" };
	int n = measured_images(v->n);
	struct prim_conv direct = shape_of(s, v, n, training, must_embed), winograd = shape_of(s, v, n, training, true);
	struct tune_result r = { 0 };
	char key[TUNE_KEY];
	snprintf(key, sizeof key, "%s%s n%d %dx%dx%d o%dx%dx%d k%dx%d%s%s%s%s", names[pass], training ? "" : s->packs ? " const" : " eval", n, direct.c, direct.h, direct.w,
	         direct.out, direct.oh, direct.ow, direct.kh, direct.kw, direct.bias ? " bias" : "", direct.residual ? " add" : "",
	         direct.act == ACT_NONE ? "" : direct.act == ACT_RELU ? " relu" : " relu6", direct.x_plain ? " nchw" : "");
	if (tune_find(key, &r))
		return r;
	struct candidate c[TUNE_CANDIDATES] = { 0 };
	prepare(&c[DIRECT], pass, PRIM_DIRECT, &direct);
	prepare(&c[WINOGRAD], pass, PRIM_WINOGRAD, &winograd);
	if (c[WINOGRAD].prim)
		race(c, pass, n, s->packs != NULL, r.us);
	for (int i = 0; i < TUNE_CANDIDATES; i++)
		discard(&c[i]);
	r.choice = r.us[WINOGRAD] > 0 && (r.us[DIRECT] <= 0 || r.us[WINOGRAD] < r.us[DIRECT]) ? WINOGRAD : DIRECT;
	if (r.us[r.choice] > 0)
		tune_store(key, &r);
	return r;
}

/* ---- making ---- */

static bool winograd_fits(const struct step *s)
{
	const struct node *nd = s->node;
	struct grid g = grid_of(nd);
	return !s->strict && g.kh == 3 && g.kw == 3 && nd->stride == 1 && nd->groups == 1 && nd->in.c >= LANES && !blocked_of(s->y)->bf16;
}

static bool pick(const struct step *s, const struct variant *v, bool training, enum prim_pass pass, struct direction *d)
{
	const struct node *nd = s->node;
	bool must = cropped(v->kh, v->pad_top, nd->in.h, nd->shape.h, nd->stride) || cropped(v->kw, v->pad_left, nd->in.w, nd->shape.w, nd->stride);
	struct grid g = grid_of(nd);
	if (winograd_fits(s)) {
		struct prim_conv c = shape_of(s, v, v->n, training, true);
		d->measured = compare(s, v, training, pass, must);
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
			s->status = WASD_EUNSUPPORTED;
			return false;
		}
	}
	return true;
}

void variant_explain(const struct step *s, const struct variant *v, cJSON *to)
{
	static const char *const names[PRIM_PASSES] = { [PRIM_FORWARD] = "forward", [PRIM_DATA] = "backward data", [PRIM_WEIGHTS] = "backward weights" };
	for (int p = 0; p < PRIM_PASSES; p++) {
		const struct direction *d = &v->dir[p];
		char kernel[24];
		if (!d->prim)
			continue;
		cJSON *o = cJSON_CreateObject(), *us;
		snprintf(kernel, sizeof kernel, "%dx%d", v->kh, v->kw);
		cJSON_AddStringToObject(o, "layer", s->node->name);
		cJSON_AddStringToObject(o, "pass", names[p]);
		cJSON_AddNumberToObject(o, "images", v->n);
		cJSON_AddStringToObject(o, "kernel", kernel);
		cJSON_AddStringToObject(o, "algorithm", strstr(prim_info(d->prim), "wino") ? d->embedded ? "winograd, embedded" : "winograd" : d->embedded ? "direct, embedded" : "direct");
		cJSON_AddStringToObject(o, "implementation", prim_info(d->prim));
		if (d->measured.us[DIRECT] > 0 && d->measured.us[WINOGRAD] > 0 && (us = cJSON_AddObjectToObject(o, "us")) != NULL) {
			cJSON_AddNumberToObject(us, "direct", (double)d->measured.us[DIRECT]);
			cJSON_AddNumberToObject(us, "winograd", (double)d->measured.us[WINOGRAD]);
		}
		if (!cJSON_AddItemToArray(to, o))
			cJSON_Delete(o);
	}
}
