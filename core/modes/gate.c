/* modes/gate.c - the gate of a mode `dynamic`. See gate.h. */
#include "modes/gate.h"
#include "wasd/tensor.h"

#include <math.h>
#include <string.h>

/* Of the authors: a rate of 0.08 for 512 images, by a cosine to 0, and a weight decay of 0.01. The momentum is a
 * reading. */
enum { BATCH = 128 };
#define RATE 0.02
#define MOMENTUM 0.9
#define DECAY 0.01
#define TAU 1.0

int gate_reduced(int in)
{
	return in < 4 ? 1 : in / 4;
}

static size_t count(const struct gate *g)
{
	return ((size_t)g->in + 1 + (size_t)g->choices) * (size_t)g->reduced;
}

bool gate_create(int in, int choices, struct gate *out)
{
	struct gate g = {.in = in, .reduced = gate_reduced(in), .choices = choices};
	if (!(g.reduce = wasd_calloc(count(&g), sizeof *g.reduce)))
		return false;
	g.bias = g.reduce + (size_t)g.in * (size_t)g.reduced;
	g.head = g.bias + g.reduced;
	*out = g;
	return true;
}

void gate_done(struct gate *g)
{
	wasd_free(g->reduce);
	*g = (struct gate){0};
}

uint64_t gate_macs(int in, int choices)
{
	return ((uint64_t)in + (uint64_t)choices) * (uint64_t)gate_reduced(in);
}

/* h behind the rectifier, and the logits. */
static void forward(const struct gate *g, const float *z, float *h, double *logits)
{
	memcpy(h, g->bias, (size_t)g->reduced * sizeof *h);
	for (int i = 0; i < g->in; i++) {
		const float *a = g->reduce + (size_t)i * (size_t)g->reduced;
		for (int j = 0; j < g->reduced; j++)
			h[j] += a[j] * z[i];
	}
	for (int j = 0; j < g->reduced; j++)
		h[j] = h[j] > 0 ? h[j] : 0;
	for (int k = 0; k < g->choices; k++) {
		const float *b = g->head + (size_t)k * (size_t)g->reduced;
		logits[k] = 0;
		for (int j = 0; j < g->reduced; j++)
			logits[k] += (double)b[j] * (double)h[j];
	}
}

static int largest(const double *v, int n)
{
	int best = 0;
	for (int i = 1; i < n; i++)
		best = v[i] > v[best] ? i : best;
	return best;
}

int gate_choose(const struct gate *g, const float *z, float *h)
{
	double logits[GATE_CHOICES_MAX];
	forward(g, z, h, logits);
	return largest(logits, g->choices);
}

/* ---- noise ------------------------------------------------------------------------------------------------- */

static void softmax(const double *v, int n, double *p)
{
	double top = v[largest(v, n)], sum = 0;
	for (int i = 0; i < n; i++)
		sum += p[i] = exp(v[i] - top);
	for (int i = 0; i < n; i++)
		p[i] /= sum;
}

int gate_gumbel(const double *logits, const double *e, int n, double tau, double *soft)
{
	double noisy[GATE_CHOICES_MAX] = {0};
	for (int i = 0; i < n; i++)
		noisy[i] = (logits[i] - log(e[i])) / tau;
	softmax(noisy, n, soft);
	return largest(soft, n);
}

void gate_gumbel_back(const double *soft, const double *dhard, int n, double tau, double *dlogits)
{
	double mean = 0;
	for (int i = 0; i < n; i++)
		mean += soft[i] * dhard[i];
	for (int i = 0; i < n; i++)
		dlogits[i] = soft[i] * (dhard[i] - mean) / tau;
}

/* ---- learning ---------------------------------------------------------------------------------------------- */

bool gate_set_create(int n, int in, int choices, struct gate_set *out)
{
	struct gate_set s = {.in = in, .choices = choices};
	size_t rows = (size_t)n;
	s.z = wasd_calloc(rows * (size_t)in, sizeof *s.z);
	s.loss = wasd_calloc(rows * (size_t)choices, sizeof *s.loss);
	s.right = wasd_calloc(rows * (size_t)choices, 1);
	*out = s;
	if (s.z && s.loss && s.right)
		return true;
	gate_set_done(out);
	return false;
}

void gate_set_done(struct gate_set *s)
{
	wasd_free(s->z);
	wasd_free(s->loss);
	wasd_free(s->right);
	*s = (struct gate_set){0};
}

struct learning {
	struct gate *g, grad, velocity;
	const struct gate_set *s;
	const struct gate_training *t;
	struct wasd_rng noise;
	uint32_t *order;
	float *shift, *scale; /* per channel: (z - shift) * scale */
	float *z, *h;         /* of the batch */
	double (*soft)[GATE_CHOICES_MAX], (*plain)[GATE_CHOICES_MAX];
	int hard[BATCH];
};

static void learning_done(struct learning *l)
{
	gate_done(&l->grad);
	gate_done(&l->velocity);
	wasd_free(l->order);
	wasd_free(l->shift);
	wasd_free(l->z);
	wasd_free(l->h);
	wasd_free(l->soft);
	wasd_free(l->plain);
}

static bool learning_create(struct learning *l)
{
	const struct gate *g = l->g;
	size_t in = (size_t)g->in;
	l->order = wasd_calloc((size_t)l->s->n, sizeof *l->order);
	l->shift = wasd_calloc(2 * in, sizeof *l->shift);
	l->z = wasd_calloc(BATCH * in, sizeof *l->z);
	l->h = wasd_calloc(BATCH * (size_t)g->reduced, sizeof *l->h);
	l->soft = wasd_calloc(BATCH, sizeof *l->soft);
	l->plain = wasd_calloc(BATCH, sizeof *l->plain);
	l->scale = l->shift ? l->shift + in : NULL;
	return gate_create(g->in, g->choices, &l->grad) && gate_create(g->in, g->choices, &l->velocity) && l->order &&
	       l->shift && l->z && l->h && l->soft && l->plain;
}

/* A channel that is the same for all images is of no use: its scale is 0. */
static void standardise(struct learning *l)
{
	for (int c = 0; c < l->s->in; c++) {
		double mean = 0, var = 0;
		for (int i = 0; i < l->s->n; i++)
			mean += (double)l->s->z[(size_t)i * (size_t)l->s->in + (size_t)c] / l->s->n;
		for (int i = 0; i < l->s->n; i++) {
			double d = (double)l->s->z[(size_t)i * (size_t)l->s->in + (size_t)c] - mean;
			var += d * d / l->s->n;
		}
		l->shift[c] = (float)mean;
		l->scale[c] = var > 1e-12 ? (float)(1 / sqrt(var)) : 0;
	}
}

/* U(-b, b), b = 1 / sqrt(inputs), as of our linear layers. */
static void first_values(struct gate *g, uint64_t seed)
{
	struct wasd_rng r;
	double a = 1 / sqrt(g->in), b = 1 / sqrt(g->reduced);
	wasd_rng_init(&r, seed, "gate", 0, 0);
	for (float *v = g->reduce; v < g->head; v++)
		*v = (float)wasd_rng_between(&r, -a, a);
	for (float *v = g->head; v < g->reduce + count(g); v++)
		*v = (float)wasd_rng_between(&r, -b, b);
}

static double exponential(struct wasd_rng *r)
{
	double u = wasd_rng_between(r, 0, 1);
	return -log(u > 1e-12 ? u : 1e-12);
}

/* The batch forward. Returns the mean cost of its choices. */
static double choose(struct learning *l, const uint32_t *image, int n)
{
	const struct gate *g = l->g;
	double cost = 0, logits[GATE_CHOICES_MAX], e[GATE_CHOICES_MAX];
	for (int i = 0; i < n; i++) {
		const float *from = l->s->z + (size_t)image[i] * (size_t)g->in;
		float *z = l->z + (size_t)i * (size_t)g->in;
		for (int c = 0; c < g->in; c++)
			z[c] = (from[c] - l->shift[c]) * l->scale[c];
		forward(g, z, l->h + (size_t)i * (size_t)g->reduced, logits);
		for (int k = 0; k < g->choices; k++)
			e[k] = exponential(&l->noise);
		softmax(logits, g->choices, l->plain[i]);
		l->hard[i] = gate_gumbel(logits, e, g->choices, TAU, l->soft[i]);
		cost += l->t->cost[l->hard[i]] / n;
	}
	return cost;
}

/* The gradient of an image's logits, of the mean over n images. */
static void logits_back(const struct learning *l, int i, uint32_t image, int n, double cost, double d[GATE_CHOICES_MAX])
{
	const struct gate_set *s = l->s;
	const float *loss = s->loss + (size_t)image * (size_t)s->choices;
	int target = s->right[(size_t)image * (size_t)s->choices] ? 0 : s->choices - 1;
	double hard[GATE_CHOICES_MAX];
	for (int k = 0; k < s->choices; k++)
		hard[k] = (double)loss[k] + 2 * l->t->lambda * cost * l->t->cost[k];
	gate_gumbel_back(l->soft[i], hard, s->choices, TAU, d);
	for (int k = 0; k < s->choices; k++)
		d[k] = (d[k] + l->plain[i][k] - (k == target)) / n;
}

static void backward(struct learning *l, int i, const double *d)
{
	struct gate *g = l->g;
	const float *z = l->z + (size_t)i * (size_t)g->in;
	float *h = l->h + (size_t)i * (size_t)g->reduced; /* becomes its own gradient */
	for (int j = 0; j < g->reduced; j++) {
		double dh = 0;
		for (int k = 0; k < g->choices; k++) {
			size_t at = (size_t)k * (size_t)g->reduced + (size_t)j;
			dh += d[k] * (double)g->head[at];
			l->grad.head[at] += (float)d[k] * h[j];
		}
		h[j] = h[j] > 0 ? (float)dh : 0;
		l->grad.bias[j] += h[j];
	}
	for (int c = 0; c < g->in; c++) {
		float *a = l->grad.reduce + (size_t)c * (size_t)g->reduced;
		for (int j = 0; j < g->reduced; j++)
			a[j] += z[c] * h[j];
	}
}

static void descend(struct learning *l, double rate)
{
	struct gate *g = l->g;
	for (size_t i = 0; i < count(g); i++) {
		float *w = g->reduce + i, *v = l->velocity.reduce + i;
		bool decays = w < g->bias || w >= g->head;
		*v = (float)(MOMENTUM * (double)*v + (double)l->grad.reduce[i] + (decays ? DECAY * (double)*w : 0));
		*w -= (float)rate * *v;
	}
}

static void step(struct learning *l, const uint32_t *image, int n, double rate)
{
	double d[GATE_CHOICES_MAX], cost = choose(l, image, n);
	memset(l->grad.reduce, 0, count(l->g) * sizeof *l->grad.reduce);
	for (int i = 0; i < n; i++) {
		logits_back(l, i, image[i], n, cost, d);
		backward(l, i, d);
	}
	descend(l, rate);
}

/* A (z - shift) scale + b as A' z + b'. */
static void take_as_they_are(struct learning *l)
{
	struct gate *g = l->g;
	for (int c = 0; c < g->in; c++)
		for (int j = 0; j < g->reduced; j++) {
			float *a = &g->reduce[(size_t)c * (size_t)g->reduced + (size_t)j];
			*a *= l->scale[c];
			g->bias[j] -= *a * l->shift[c];
		}
}

enum wasd_status gate_train(struct gate *g, const struct gate_set *s, const struct gate_training *t,
                            struct wasd_err *err)
{
	struct learning l = {.g = g, .s = s, .t = t};
	int steps = (s->n + BATCH - 1) / BATCH;
	enum wasd_status st = learning_create(&l) ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "gate");
	if (!st) {
		standardise(&l);
		first_values(g, t->seed);
		wasd_rng_init(&l.noise, t->seed, "gumbel", 0, 0);
	}
	for (int epoch = 0; !st && epoch < t->epochs; epoch++) {
		struct wasd_rng r;
		wasd_rng_init(&r, t->seed, "gate shuffle", (uint64_t)epoch, 0);
		for (int i = 0; i < s->n; i++)
			l.order[i] = (uint32_t)i;
		wasd_rng_shuffle(&r, l.order, (size_t)s->n);
		for (int k = 0; k < steps; k++) {
			int n = s->n - k * BATCH;
			double done = ((double)epoch * steps + k) / ((double)t->epochs * steps);
			step(&l, l.order + k * BATCH, n < BATCH ? n : BATCH, RATE * 0.5 * (1 + cos(acos(-1.0) * done)));
		}
		if (!t->go_on(t->ctx))
			st = wasd_fail(err, WASD_ECANCELLED, "cancelled");
	}
	if (!st)
		take_as_they_are(&l);
	learning_done(&l);
	return st;
}
