/* tests/bench/cfws.c - cfws.py's measurement: an int8 network of a checkpoint's AOM in every way that int8 modes offer,
 * at 8 and at 4 bits, judged on the test images. A line of JSON for each.
 *
 *     cfws CHECKPOINT DATASET IMAGES        IMAGES of the training set calibrate
 *
 * Rounding is simulated in float: the weights are replaced by what their integers stand for, and after each layer whose
 * result is stored that is rounded and clipped, and the pass goes on from there. At 8 bits the int8 kernels are
 * measured too. */
#include "graph/plan.h"
#include "infer/bundle.h"
#include "quant/make.h"
#include "wasd/infer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 32 };

static void check(enum wasd_status s, const struct wasd_err *err)
{
	if (!s)
		return;
	fprintf(stderr, "cfws: %s\n", err->msg);
	exit(1);
}

struct simulated {
	struct wasd_model *m;
	const struct wasd_graph *g;
	const struct wasd_quant *q;
	struct wasd_exec *e;
	wasd_node *tail, *residual;
	bool *inner, *stored;
	real *value, *whole; /* whole: the float weights */
	int bits;
};

static bool go_on(void *ctx, int done, int of)
{
	(void)ctx;
	return done <= of;
}

/* What the integers of every layer stand for. */
static void replace_weights(struct simulated *s)
{
	real *master = wasd_model_master(s->m);
	memcpy(master, s->whole, s->g->param_count * sizeof *master);
	for (int i = 0; i < s->g->n_nodes; i++) {
		const struct wasd_quant_conv *c = &s->q->conv[i];
		const struct node *n = &s->g->nodes[i];
		if (!c->on)
			continue;
		struct wasd_param_info p = wasd_graph_param_info(s->g, n->weight);
		size_t fan = p.count / (size_t)p.dims[0], taps = (size_t)(n->kh * n->kw);
		for (size_t k = 0; k < p.count; k++)
			master[p.offset + k] = (real)(c->w[k] * c->scale[k / fan]);
		for (size_t k = 0; c->coarse && k < p.count / taps; k++)
			master[p.offset + k * taps + taps / 2] += (real)(c->coarse[k] * c->coarse_scale[k * taps / fan]);
	}
}

static void round_values(const struct simulated *s, int i, int n)
{
	const struct wasd_quant_tensor *t = &s->q->tensor[i];
	double top = t->type == WASD_QUANT_U8 ? (1 << s->bits) - 1 : (1 << (s->bits - 1)) - 1,
		   low = t->type == WASD_QUANT_U8 ? 0 : -top - 1;
	for (size_t k = 0; k < (size_t)n * wasd_shape_count(s->g->nodes[i].shape); k++)
		s->value[k] = (real)(fmax(low, fmin(top, nearbyint((double)s->value[k] / (double)t->scale))) *
		                     (double)t->scale);
}

static void forward(struct simulated *s, const struct wasd_batch *b, struct wasd_err *err)
{
	check(wasd_exec_forward(s->e, b->x, &(struct wasd_pass){.n = b->n, .bn = WASD_BN_SET, .set = WASD_STATS_AOM}, err),
	      err);
	for (int i = 0; i < s->g->n_nodes; i++) {
		if (!s->stored[i] || s->q->tensor[i].type == WASD_QUANT_F32)
			continue;
		check(wasd_exec_activation(s->e, i, s->value, err), err);
		round_values(s, i, b->n);
		check(wasd_exec_forward_from(s->e, i, s->value, err), err);
	}
}

static void judge(const real *z, const int32_t *y, int n, int classes, double *right, double *loss)
{
	for (int i = 0; i < n; i++, z += classes) {
		int best = 0;
		double sum = 0;
		for (int c = 1; c < classes; c++)
			best = z[c] > z[best] ? c : best;
		for (int c = 0; c < classes; c++)
			sum += exp((double)(z[c] - z[best]));
		*loss += log(sum) + (double)(z[best] - z[y[i]]);
		*right += best == y[i];
	}
}

static void measure(struct simulated *s, struct wasd_predictor *p, struct wasd_loader *test, double *acc, double *loss)
{
	struct wasd_err err = {0};
	int classes = wasd_graph_classes(s->g);
	double right = 0, images = 0;
	real *z = calloc((size_t)(BATCH * classes), sizeof *z);
	*loss = 0;
	wasd_loader_seek(test, 0, 0);
	for (uint32_t i = 0; i < wasd_loader_batches(test); i++) {
		const struct wasd_batch *b = wasd_loader_next(test);
		if (p) {
			check(wasd_predictor_run(p, b->x, b->n, z, &err), &err);
		} else {
			if (s->q)
				forward(s, b, &err);
			else
				check(wasd_exec_forward(s->e, b->x,
				                        &(struct wasd_pass){.n = b->n, .bn = WASD_BN_SET, .set = WASD_STATS_AOM}, &err),
				      &err);
			memcpy(z, wasd_exec_logits(s->e), (size_t)(b->n * classes) * sizeof *z);
		}
		judge(z, b->y, b->n, classes, &right, loss);
		images += b->n;
	}
	free(z);
	*acc = right / images;
	*loss /= images;
}

/* Accuracy of the int8 kernels on a bundle of its own. */
static double by_kernels(const struct wasd_mode_source *from, const struct wasd_quant *q, struct simulated *s,
                         struct wasd_loader *test)
{
	struct wasd_bundle *b = NULL;
	struct wasd_predictor *p = NULL;
	struct wasd_err err = {0};
	double acc, loss;
	check(wasd_bundle_create(from, &b, &err), &err);
	check(bundle_quantise(b, q, &err), &err);
	check(wasd_predictor_create(b, &(struct wasd_predictor_opts){0}, &p, &err), &err);
	measure(s, p, test, &acc, &loss);
	wasd_predictor_destroy(p);
	wasd_bundle_unref(b);
	return acc;
}

int main(int argc, char **argv)
{
	static const char *const ranges[] = {"minmax", "kl", "kl-clip"};
	struct wasd_err err = {0};
	struct wasd_dataset *d = NULL;
	struct wasd_bundle *b = NULL;
	struct wasd_loader *train = NULL, *test = NULL;
	char *file = NULL;
	size_t len, largest = 0;
	double acc, loss;
	if (argc != 4)
		return 2;
	wasd_threads_init(2, NULL);
	check(wasd_file_read(argv[1], (size_t)1 << 31, &file, &len, &err), &err);
	check(wasd_dataset_open(argv[2], &d, &err), &err);
	struct wasd_mode_source from = {.file = file, .len = len, .name = "aom"};
	check(wasd_bundle_create(&from, &b, &err), &err);
	check(wasd_loader_create(&(struct wasd_loader_opts){.data = d,
	                                                    .split = WASD_TRAIN,
	                                                    .batch = BATCH,
	                                                    .shuffle = true,
	                                                    .seed = 1},
	                         &train, &err),
	      &err);
	check(wasd_loader_create(&(struct wasd_loader_opts){.data = d, .split = WASD_TEST, .batch = BATCH}, &test, &err),
	      &err);
	struct simulated s = {.m = bundle_model(b), .g = wasd_model_graph(bundle_model(b))};
	size_t nodes = (size_t)s.g->n_nodes;
	s.tail = calloc(nodes, sizeof *s.tail);
	s.residual = calloc(nodes, sizeof *s.residual);
	s.inner = calloc(nodes, 1);
	s.stored = calloc(nodes, 1);
	s.whole = calloc(s.g->param_count, sizeof *s.whole);
	memcpy(s.whole, wasd_model_master(s.m), s.g->param_count * sizeof *s.whole);
	plan_chains(s.g, s.tail, s.residual, s.inner);
	for (size_t i = 0; i < nodes; i++) {
		s.stored[s.tail[i]] |= !s.inner[i];
		largest = wasd_shape_count(s.g->nodes[i].shape) > largest ? wasd_shape_count(s.g->nodes[i].shape) : largest;
	}
	s.value = calloc(BATCH * largest, sizeof *s.value);
	check(wasd_exec_create(s.m, &(struct wasd_exec_opts){.batch = BATCH, .keep_all = true}, &s.e, &err), &err);
	measure(&s, NULL, test, &acc, &loss);
	printf("{\"bits\":32,\"weights\":\"float\",\"activations\":\"float\",\"accuracy\":%.6f,\"loss\":%.6f}\n", acc,
	       loss);
	for (int bits = 8; bits >= 4; bits -= 4)
		for (int k = 0; k < 6; k++) {
			struct quant_images im = {.loader = train,
			                          .batches = (uint32_t)(atoi(argv[3]) / BATCH),
			                          .batch = BATCH,
			                          .go_on = go_on};
			struct quant_how how = {.split = k % 2, .ranges = (enum quant_ranges)(k / 2), .bits = bits};
			struct wasd_quant *q = NULL;
			memcpy(wasd_model_master(s.m), s.whole, s.g->param_count * sizeof *s.whole);
			check(quant_make(s.m, wasd_bundle_summed(b), &im, &how, &q, &err), &err);
			s.q = q;
			s.bits = bits;
			replace_weights(&s);
			measure(&s, NULL, test, &acc, &loss);
			printf("{\"bits\":%d,\"weights\":\"%s\",\"activations\":\"%s\",\"accuracy\":%.6f,\"loss\":%.6f", bits,
			       k % 2 ? "cfws" : "plain", ranges[k / 2], acc, loss);
			if (bits == 8)
				printf(",\"kernels\":%.6f", by_kernels(&from, q, &s, test));
			printf("}\n");
			fflush(stdout);
			quant_made_destroy(q);
		}
	return 0;
}
