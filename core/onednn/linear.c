/* onednn/linear.c - linear layers as matrix products of OpenBLAS: with one pixel a block layout is a row-major (images, features) matrix, its
 * rows a whole number of blocks. Always float32; an input in bfloat16 (a pooled map) is widened first. */
#include "onednn/backend.h"
#include "onednn/blocked.h"

#include <cblas.h>
#include <string.h>

struct linear_job { struct step *s; const struct run *r; struct tensor x, dx; };

static size_t wide_bytes(const struct tensor *t, int n)
{
	return (size_t)n * t->sn * sizeof(float);
}

static void linear_plan(struct step *s, int batch, bool training, int threads)
{
	(void)threads;
	if (blocked_of(s->x[0])->bf16)
		s->scratch_bytes = (training ? 2 : 1) * wide_bytes(s->x[0], batch);
}

/* x and dx as float32. */
static struct linear_job job_of(struct step *s, const struct run *r)
{
	static const struct blocked_layout wide = { 0 };
	struct linear_job j = { .s = s, .r = r, .x = *s->x[0] };
	if (s->dx[0])
		j.dx = *s->dx[0];
	if (blocked_of(s->x[0])->bf16) {
		j.x.layout = j.dx.layout = &wide;
		j.x.data = r->scratch;
		j.dx.data = (char *)r->scratch + wide_bytes(s->x[0], r->n);
		blocked_copy(s->x[0], &j.x, r->n, false);
	}
	return j;
}

static void outputs(void *ctx, int begin, int end, int thread)
{
	struct linear_job *j = ctx;
	struct step *s = j->s;
	(void)thread;
	int f = s->node->in.c;
	float *y = (float *)s->y->data;
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, j->r->n, end - begin, f, 1, j->x.data, (int)j->x.sn, s->weight + (size_t)begin * (size_t)f, f, 0,
	            y + begin, (int)s->y->sn);
	for (int n = 0; n < j->r->n; n++)
		for (int o = begin; o < end; o++) {
			float *v = &y[(size_t)n * s->y->sn + (size_t)o];
			*v += s->bias ? s->bias[o] : 0;
			if (s->has_res)
				*v += ((const float *)s->x[1]->data)[(size_t)n * s->x[1]->sn + (size_t)o];
			*v = act_apply(s->act, *v);
		}
}

static void weight_outputs(void *ctx, int begin, int end, int thread)
{
	struct linear_job *j = ctx;
	struct step *s = j->s;
	(void)thread;
	int f = s->node->in.c;
	const float *dy = (const float *)s->dy->data;
	cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, end - begin, f, j->r->n, 1, dy + begin, (int)s->dy->sn, j->x.data, (int)j->x.sn, 1,
	            s->dweight + (size_t)begin * (size_t)f, f);
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
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, end - begin, f, s->node->out, 1, (const float *)s->dy->data + (size_t)begin * s->dy->sn, (int)s->dy->sn,
	            s->weight, f, s->dx_add[0] && j->dx.data == s->dx[0]->data, (float *)j->dx.data + (size_t)begin * j->dx.sn, (int)j->dx.sn);
}

static void linear_forward(struct step *s, const struct run *r)
{
	struct linear_job j = job_of(s, r);
	if (s->y->shape.c % LANES)              /* lanes that belong to no output */
		memset(s->y->data, 0, (size_t)r->n * s->y->sn * sizeof(float));
	wasd_parallel(s->node->out, outputs, &j);
}

static void linear_backward(struct step *s, const struct run *r)
{
	struct linear_job j = job_of(s, r);
	wasd_parallel(s->node->out, weight_outputs, &j);
	if (!s->dx[0])
		return;
	if (s->node->in.c % LANES && !s->dx_add[0])
		memset(j.dx.data, 0, wide_bytes(&j.dx, r->n));
	wasd_parallel(r->n, input_images, &j);
	if (j.dx.data != s->dx[0]->data)
		blocked_copy(&j.dx, s->dx[0], r->n, s->dx_add[0]);
}

const struct layer_kernel onednn_linear = { .plan = linear_plan, .forward = linear_forward, .backward = linear_backward };
