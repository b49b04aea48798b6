/* backend/relaid.c - runs a layer's own kernel, written for planes, in a backend with another layout: every pass copies
 * what the kernel reads into planes and copies back what it writes. Correct but slow; a backend that should be fast at
 * the operation brings its own kernel.
 *
 * The planes are NCHW, in the step's scratch: the kernel's own scratch, then x, dx (one per input), y and dy. */
#include "backend/backend.h"
#include "wasd/json.h"

struct relaid {
	const struct layer_kernel *kernel;
	struct tensor *planes;    /* x, dx, y, dy */
	struct tensor **pointers; /* storage for the inner step's x and dx */
	size_t *at;               /* offset of each plane in scratch */
	void *inner_plan;
};

static const struct tensor *tensor_of(const struct step *s, int i)
{
	int n = s->n_in;
	return i < n ? s->x[i] : i < 2 * n ? s->dx[i - n] : i == 2 * n ? s->y : s->dy;
}

/* Two inputs may be the same tensor. Then their gradients are too, and the second adds to what the first wrote. */
static int first_of(const struct step *s, int i)
{
	for (int k = s->n_in; i > s->n_in && i < 2 * s->n_in && k < i; k++)
		if (s->dx[k - s->n_in] == s->dx[i - s->n_in])
			return k;
	return i;
}

/* Builds the step that the layer's own kernel sees. */
static struct step inner_step(const struct step *s, struct relaid *p)
{
	struct step in = *s;
	in.kernel = p->kernel;
	in.plan = p->inner_plan;
	in.x = p->pointers;
	in.dx = p->pointers + s->n_in;
	in.y = &p->planes[2 * s->n_in];
	in.dy = s->dy ? &p->planes[2 * s->n_in + 1] : NULL;
	for (int i = 0; i < 2 * s->n_in; i++)
		p->pointers[i] = tensor_of(s, i) ? &p->planes[first_of(s, i)] : NULL;
	return in;
}

static void relaid_unplan(struct step *s)
{
	struct relaid *p = s->plan;
	if (!p)
		return;
	if (p->planes && p->pointers && p->kernel->unplan) {
		struct step in = inner_step(s, p);
		p->kernel->unplan(&in);
	}
	wasd_free(p->planes);
	wasd_free(p->pointers);
	wasd_free(p->at);
	wasd_free(p);
	s->plan = NULL;
}

static void relaid_plan(struct step *s, int batch, bool training, int threads)
{
	size_t n = 2 * (size_t)s->n_in + 2;
	struct relaid *p = s->plan = wasd_calloc(1, sizeof *p);
	if (p)
		p->kernel = s->node->layer->kernel;
	if (!p || !(p->planes = wasd_calloc(n, sizeof *p->planes)) ||
	    !(p->pointers = wasd_calloc(n, sizeof *p->pointers)) || !(p->at = wasd_calloc(n, sizeof *p->at))) {
		s->status = WASD_ENOMEM;
		return;
	}
	for (size_t i = 0; i < n; i++) {
		const struct tensor *t = tensor_of(s, (int)i);
		if (!t)
			continue;
		p->planes[i] = *t;
		p->planes[i].layout = NULL;
		p->planes[i].sc = (size_t)t->shape.h * (size_t)t->shape.w;
		p->planes[i].sn = p->planes[i].sc * (size_t)t->shape.c;
		p->planes[i].bytes = p->planes[i].sn * (size_t)batch * sizeof(real);
	}
	struct step in = inner_step(s, p);
	if (p->kernel->plan)
		p->kernel->plan(&in, batch, training, threads);
	p->inner_plan = in.plan;
	p->kernel = in.kernel;
	s->status = in.status;
	s->saved_bytes = in.saved_bytes;
	s->scratch_bytes = wasd_aligned(in.scratch_bytes);
	for (size_t i = 0; i < n; i++) {
		p->at[i] = s->scratch_bytes;
		s->scratch_bytes += wasd_aligned(p->planes[i].bytes);
	}
}

static void take(const struct step *s, struct relaid *p, int i, int n)
{
	const struct tensor *t = tensor_of(s, i);
	if (t)
		s->backend->export(t, 0, n * t->shape.c, p->planes[i].data);
}

static struct step begin(struct step *s, const struct run *r)
{
	struct relaid *p = s->plan;
	for (int i = 0; i < 2 * s->n_in + 2; i++)
		p->planes[i].data = (char *)r->scratch + p->at[i];
	return inner_step(s, p);
}

static void relaid_forward(struct step *s, const struct run *r)
{
	struct relaid *p = s->plan;
	struct step in = begin(s, r);
	for (int i = 0; i < s->n_in; i++)
		take(s, p, i, r->n);
	p->kernel->forward(&in, r);
	s->status = in.status;
	s->backend->import(s->y, r->n, in.y->data);
}

static void relaid_backward(struct step *s, const struct run *r)
{
	struct relaid *p = s->plan;
	struct step in = begin(s, r);
	unsigned keeps = s->node->layer->keeps ? s->node->layer->keeps(s->act, s->has_res) : 0;
	for (int i = 0; i < s->n_in; i++) {
		if (keeps & LAYER_KEEPS_X)
			take(s, p, i, r->n);
		if (s->dx_add[i] && first_of(s, s->n_in + i) == s->n_in + i)
			take(s, p, s->n_in + i, r->n);
	}
	if (keeps & LAYER_KEEPS_Y)
		take(s, p, 2 * s->n_in, r->n);
	take(s, p, 2 * s->n_in + 1, r->n);
	p->kernel->backward(&in, r);
	s->status = in.status;
	for (int i = 0; i < s->n_in; i++)
		if (s->dx[i] && first_of(s, s->n_in + i) == s->n_in + i)
			s->backend->import(s->dx[i], r->n, p->planes[s->n_in + i].data);
}

static void relaid_explain(const struct step *s, cJSON *to)
{
	static const char *const passes[] = {"forward", "backward"};
	for (int k = 0; k < (s->dy ? 2 : 1); k++) {
		cJSON *o = cJSON_CreateObject();
		cJSON_AddStringToObject(o, "layer", *s->node->name ? s->node->name : s->node->layer->op);
		cJSON_AddStringToObject(o, "pass", passes[k]);
		cJSON_AddStringToObject(o, "algorithm", "planes, re-laid");
		cJSON_AddStringToObject(o, "implementation", "the layer's own");
		if (!cJSON_AddItemToArray(to, o))
			cJSON_Delete(o);
	}
}

const struct layer_kernel relaid_kernel = {.plan = relaid_plan,
                                           .forward = relaid_forward,
                                           .backward = relaid_backward,
                                           .unplan = relaid_unplan,
                                           .explain = relaid_explain};
