/* modes/gate.h - the gate of DS-Net (arXiv 2103.13258; dyn_slim_blocks.py, train_slim_gate.py): which of several
 * networks answers an image, by what the smallest of them makes of it.
 *
 *     z (C)        the means over the maps of one of its layers
 *     h (r)        max(0, A z + b), r = max(1, C/4) rounded down
 *     l (n)        B h, without a bias; the image goes to the network of the largest, of equal ones to the first
 *
 * The authors' gate has a second branch on h, squeeze-and-excite, for which our networks have no place.
 *
 * Learning: g = the one-hot vector of argmax softmax((l + Gumbel noise) / tau), with the gradient of that softmax in
 * its place (straight-through), tau = 1. Over the images of a batch, with the cross-entropy c_ij of image i in network
 * j, the cost a_j of network j as a share of the whole one's multiply-adds, and the target t_i, the smallest network if
 * it classifies the image rightly, else the last:
 *
 *     loss = mean_i sum_j g_ij c_ij  +  mean_i -log softmax(l_i)[t_i]  +  lambda (mean_i sum_j g_ij a_j)^2 */
#ifndef MODES_GATE_H
#define MODES_GATE_H

#include "wasd/base.h"

enum { GATE_CHOICES_MAX = 8 };

struct gate {
	int in, reduced, choices; /* C, r, n */
	float *reduce;            /* A, transposed: (in, reduced) */
	float *bias;              /* b */
	float *head;              /* B: (choices, reduced) */
};
int gate_reduced(int in);
/* All values 0. in >= 1, 2 <= choices <= GATE_CHOICES_MAX. False: no memory. */
bool gate_create(int in, int choices, struct gate *out);
void gate_done(struct gate *g);          /* safe on a zeroed struct */
uint64_t gate_macs(int in, int choices); /* of a gate of that size */
/* z: (in); h: room for `reduced` values. The same z gives the same choice on every machine that computes floats one by
 * one. */
int gate_choose(const struct gate *g, const float *z, float *h);

/* soft = softmax((logits - log e) / tau), e drawn from the exponential distribution of mean 1. Returns the index of the
 * largest. */
int gate_gumbel(const double *logits, const double *e, int n, double tau, double *soft);
/* dlogits = d soft/d logits of dhard, the gradient with respect to the one-hot vector. */
void gate_gumbel_back(const double *soft, const double *dhard, int n, double tau, double *dlogits);

/* What a gate learns from. */
struct gate_set {
	int n, in, choices;
	float *z;       /* (n, in) */
	float *loss;    /* (n, choices): cross-entropy with the label */
	uint8_t *right; /* (n, choices): whether the label is the most likely class */
};
bool gate_set_create(int n, int in, int choices, struct gate_set *out); /* of n images at most; out->n = 0 */
void gate_set_done(struct gate_set *s);

struct gate_training {
	double cost[GATE_CHOICES_MAX]; /* a */
	double lambda;
	int epochs;
	uint64_t seed;
	/* False ends the learning with WASD_ECANCELLED. */
	bool (*go_on)(void *ctx);
	void *ctx;
};
/* Stochastic gradient descent from initial values of the seed, with the z of each channel shifted and scaled to mean 0
 * and variance 1 over the set; g then takes them as they are. One thread. */
enum wasd_status gate_train(struct gate *g, const struct gate_set *s, const struct gate_training *t,
                            struct wasd_err *err);

#endif
