/* onednn/depthwise_race.c - measures whether our depthwise kernels or oneDNN's are faster for a step. Both run the
 * step's passes on their own memory, once per machine and shape (tune.h). */
#include "onednn/backend.h"
#include "onednn/blocked.h"
#include "onednn/depthwise.h"

#include <stdio.h>
#include <string.h>

#define ROUNDS 10       /* upper limit; each kernel runs once per round */
#define ROUNDS_US 40000 /* time limit, except for the first three rounds */

/* A copy of a step with tensors of its own. */
struct double_step {
	struct step s;
	struct tensor x[2], y, dx, dy, *xs[2], *dxs[2];
	bool add[2];
	float *weight, *bias, *dweight, *dbias;
	void *scratch;
};

static bool own_tensor(struct tensor *t, const struct tensor *like)
{
	*t = *like;
	return (t->data = tensor_alloc(like->bytes)) != NULL;
}

static void double_done(struct double_step *d)
{
	if (d->s.plan && d->s.kernel->unplan)
		d->s.kernel->unplan(&d->s);
	void *const all[] = {d->x[0].data, d->x[1].data, d->y.data,  d->dx.data, d->dy.data,
	                     d->weight,    d->bias,      d->dweight, d->dbias,   d->scratch};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		tensor_free(all[i]);
}

static bool double_make(struct double_step *d, const struct step *s, const struct layer_kernel *kernel, int batch,
                        bool training, int threads)
{
	size_t weights = (size_t)s->node->out * (size_t)(s->node->kh * s->node->kw) * sizeof(float),
		   channels = (size_t)s->node->out * sizeof(float);
	*d = (struct double_step){.s = *s};
	bool good = own_tensor(&d->x[0], s->x[0]) && (!s->has_res || own_tensor(&d->x[1], s->x[1])) &&
	            own_tensor(&d->y, s->y);
	good = good && (d->weight = tensor_alloc(weights)) && (d->bias = tensor_alloc(channels));
	if (training)
		good = good && own_tensor(&d->dy, s->dy) && (!s->dx[0] || own_tensor(&d->dx, s->dx[0])) &&
		       (d->dweight = tensor_alloc(weights)) && (d->dbias = tensor_alloc(channels));
	d->xs[0] = &d->x[0];
	d->xs[1] = &d->x[1];
	d->dxs[0] = d->dx.data ? &d->dx : NULL;
	d->s.x = d->xs;
	d->s.dx = d->dxs;
	d->s.dx_add = d->add;
	d->s.y = &d->y;
	d->s.dy = &d->dy;
	d->s.weight = d->weight;
	d->s.bias = s->node->bias >= 0 ? d->bias : NULL;
	d->s.dweight = d->dweight;
	d->s.dbias = s->node->bias >= 0 ? d->dbias : NULL;
	d->s.kh = s->node->kh;
	d->s.kw = s->node->kw;
	d->s.pad_top = s->node->pad_top;
	d->s.pad_left = s->node->pad_left;
	d->s.packs = NULL;
	d->s.plan = NULL;
	d->s.kernel = kernel;
	if (good) {
		kernel->plan(&d->s, batch, training, threads);
		good = d->s.status == WASD_OK && (d->scratch = tensor_alloc(d->s.scratch_bytes + 64));
	}
	return good;
}

struct race {
	struct double_step library, ours;
	int batch, threads;
	bool training;
};

/* Microseconds of the step's passes; 0: a kernel failed. */
static float run_once(void *ctx, int candidate)
{
	struct race *c = ctx;
	struct double_step *d = candidate == TUNE_OURS ? &c->ours : &c->library;
	struct run r = {.n = c->batch, .training = c->training, .scratch = d->scratch, .threads = c->threads};
	int64_t t = wasd_mono_us();
	d->s.kernel->forward(&d->s, &r);
	if (c->training)
		d->s.kernel->backward(&d->s, &r);
	return d->s.status == WASD_OK ? (float)(wasd_mono_us() - t) + 0.1f : 0;
}

bool depthwise_wins(const struct step *s, int batch, bool training, int threads, const struct layer_kernel *library,
                    struct tune_result *r)
{
	const struct node *nd = s->node;
	char key[TUNE_KEY];
	*r = (struct tune_result){.choice = TUNE_OURS};
	if (s->strict)
		return true;
	snprintf(key, sizeof key, "depthwise%s %s n%d %dx%dx%d k%dx%d s%d%s%s%s", blocked_of(s->y)->bf16 ? " bf16" : "",
	         training ? s->dx[0] ? "train" : "train first" : "infer", batch, nd->in.c, nd->in.h, nd->in.w, nd->kh,
	         nd->kw, nd->stride, nd->bias >= 0 ? " bias" : "", s->has_res ? " add" : "",
	         s->act == ACT_NONE ? "" : " act");
	if (tune_find(key, r) || s->unmeasured)
		return r->choice == TUNE_OURS;
	struct race c = {.batch = batch, .threads = threads, .training = training};
	r->us[TUNE_LIBRARY + 1] = r->us[TUNE_OURS - 1] = -1;
	if (!double_make(&c.library, s, library, batch, training, threads))
		r->us[TUNE_LIBRARY] = -1;
	if (!double_make(&c.ours, s, &onednn_depthwise, batch, training, threads))
		r->us[TUNE_OURS] = -1;
	bool any = tune_race(run_once, &c, ROUNDS, ROUNDS_US, r);
	double_done(&c.library);
	double_done(&c.ours);
	if (r->us[TUNE_LIBRARY] > 0 && r->us[TUNE_OURS] > 0)
		tune_store(key, r);
	else
		*r = (struct tune_result){.choice = any ? r->choice : TUNE_OURS};
	return r->choice == TUNE_OURS;
}
