/* onednn/linear.c - linear layers as matrix products of OpenBLAS. With one pixel, a block layout is a row-major
 * (images, features) matrix whose rows are a whole number of blocks. Always float32: a bfloat16 tensor (a pooled map,
 * the input of a convolution) is widened on the way. */
#include "backend/gemm.h"
#include "onednn/backend.h"
#include "onednn/blocked.h"

#include <string.h>

struct linear_job {
	struct step *s;
	const struct run *r;
	struct tensor x, res, y, dx, dy;
};

static size_t wide_bytes(const struct tensor *t, int n)
{
	return (size_t)n * t->sn * sizeof(float);
}

static size_t scratch_of(const struct tensor *t, int n)
{
	return t && blocked_of(t)->bf16 ? wide_bytes(t, n) : 0;
}

static void linear_plan(struct step *s, int batch, bool training, int threads)
{
	(void)training;
	(void)threads;
	s->scratch_bytes = scratch_of(s->x[0], batch) + scratch_of(s->has_res ? s->x[1] : NULL, batch) +
	                   scratch_of(s->y, batch) + scratch_of(s->dx[0], batch) + scratch_of(s->dy, batch);
}

/* Returns t as float32: t itself, or a copy at *at, filled from t if `filled`. */
static struct tensor wide(const struct tensor *t, bool filled, const struct run *r, char **at)
{
	static const struct blocked_layout floats = {0};
	struct tensor w = t ? *t : (struct tensor){0};
	if (!scratch_of(t, r->n))
		return w;
	w.layout = &floats;
	w.data = *at;
	*at += wide_bytes(t, r->n);
	if (filled)
		blocked_copy(t, &w, r->n, false);
	return w;
}

static struct linear_job job_of(struct step *s, const struct run *r, bool backward)
{
	char *at = r->scratch;
	struct linear_job j = {.s = s, .r = r, .x = wide(s->x[0], true, r, &at)};
	if (backward) {
		j.dy = wide(s->dy, true, r, &at);
		j.dx = wide(s->dx[0], false, r, &at);
	} else {
		j.res = wide(s->has_res ? s->x[1] : NULL, true, r, &at);
		j.y = wide(s->y, false, r, &at);
	}
	return j;
}

static void outputs(void *ctx, int begin, int end, int thread)
{
	struct linear_job *j = ctx;
	struct step *s = j->s;
	(void)thread;
	int f = s->node->in.c;
	float *y = (float *)j->y.data;
	gemm(false, true, j->r->n, end - begin, f, j->x.data, j->x.sn, s->weight + (size_t)begin * (size_t)f, (size_t)f, 0,
	     y + begin, j->y.sn);
	for (int n = 0; n < j->r->n; n++)
		for (int o = begin; o < end; o++) {
			float *v = &y[(size_t)n * j->y.sn + (size_t)o];
			*v += s->bias ? s->bias[o] : 0;
			if (s->has_res)
				*v += ((const float *)j->res.data)[(size_t)n * j->res.sn + (size_t)o];
			*v = act_apply(s->act, *v);
		}
}

static void weight_outputs(void *ctx, int begin, int end, int thread)
{
	struct linear_job *j = ctx;
	struct step *s = j->s;
	(void)thread;
	int f = s->node->in.c;
	const float *dy = (const float *)j->dy.data;
	gemm(true, false, end - begin, f, j->r->n, dy + begin, s->dy->sn, j->x.data, j->x.sn, 1,
	     s->dweight + (size_t)begin * (size_t)f, (size_t)f);
	for (int o = begin; o < end && s->dbias; o++) {
		double sum = 0;
		for (int n = 0; n < j->r->n; n++)
			sum += (double)dy[(size_t)n * s->dy->sn + (size_t)o];
		s->dbias[o] += (float)sum;
	}
}

static void input_images(void *ctx, int begin, int end, int thread)
{
	struct linear_job *j = ctx;
	struct step *s = j->s;
	(void)thread;
	int f = s->node->in.c;
	gemm(false, false, end - begin, f, s->node->out, (const float *)j->dy.data + (size_t)begin * s->dy->sn, s->dy->sn,
	     s->weight, (size_t)f, s->dx_add[0] && j->dx.data == s->dx[0]->data,
	     (float *)j->dx.data + (size_t)begin * j->dx.sn, j->dx.sn);
}

static void linear_forward(struct step *s, const struct run *r)
{
	struct linear_job j = job_of(s, r, false);
	if (s->y->shape.c % LANES) /* clear the lanes that belong to no output */
		memset(j.y.data, 0, wide_bytes(&j.y, r->n));
	wasd_parallel(s->node->out, outputs, &j);
	if (j.y.data != s->y->data)
		blocked_copy(&j.y, s->y, r->n, false);
}

static void linear_backward(struct step *s, const struct run *r)
{
	struct linear_job j = job_of(s, r, true);
	wasd_parallel(s->node->out, weight_outputs, &j);
	if (!s->dx[0])
		return;
	if (s->node->in.c % LANES && !s->dx_add[0])
		memset(j.dx.data, 0, wide_bytes(&j.dx, r->n));
	wasd_parallel(r->n, input_images, &j);
	if (j.dx.data != s->dx[0]->data)
		blocked_copy(&j.dx, s->dx[0], r->n, s->dx_add[0]);
}

const struct layer_kernel onednn_linear = {.plan = linear_plan, .forward = linear_forward, .backward = linear_backward};
