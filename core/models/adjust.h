/* models/adjust.h - network adjustment (Chen et al., "Network Adjustment: Channel Search Guided by FLOPs Utilization
 * Ratio", arXiv 2004.02767; the rules are those of the authors' code, danczs/NetworkAdjustment, channel_config.py).
 *
 * The searched widths c_1..c_L of a network of layers are the outputs of the convolutions whose channels a layer
 * dropchannel drops. F(c) are its multiply-adds for one image.
 *
 *   rate      p_l = base * mean(m) / m_l,  m_l = c_l * dF/dc_l: dropping p_l of each layer saves the same multiply-adds
 *   use       FUR_l = loss(channel dropout p_l in layer l only) - loss(none), measured by train/adjust.c
 *   adjust    the k layers of highest FUR: c += (step - decay*rank) * c_first; of lowest: c -= the same
 *   rescale   all c times one factor, so that F is what it was at first
 *
 * All functions are pure: the same numbers give the same widths. In place of the code's derivative, which counts a
 * width that several layers share for one of them, dF/dc_l is what one channel more costs. Ours too: k = 0 changes
 * nothing (the code then widens all layers), rates above 0.9 are 0.9, equal FUR rank by their order, and no width falls
 * below ADJUST_LEAST when rescaled either. */
#ifndef MODELS_ADJUST_H
#define MODELS_ADJUST_H

#include "wasd/graph.h"
#include "wasd/json.h"

#define ADJUST_LEAST 4
#define ADJUST_RATE_MAX 0.9

/* One searched width of a network. */
struct adjust_width {
	int layer;      /* index of the convolution in "layers" */
	wasd_node drop; /* the dropchannel that follows it */
};
/* The searched widths of a spec's "model" object, which is borrowed. */
struct adjust_net {
	const cJSON *model;
	struct wasd_shape in;
	int classes, n;
	struct adjust_width *width;
	int *channels; /* n, as the model has them */
};
/* g: the graph of model. WASD_EINVAL: it has no layers of its own, no dropchannel, or one that no single convolution
 * feeds. done() accepts a zeroed struct. */
enum wasd_status adjust_find(const cJSON *model, const struct wasd_graph *g, struct adjust_net *out,
                             struct wasd_err *err);
void adjust_net_done(struct adjust_net *a);
/* The model with other widths. The caller deletes it; NULL: no memory. */
cJSON *adjust_model(const struct adjust_net *a, const int *channels);
/* F. WASD_EINVAL if the layers do not fit together with these widths. */
enum wasd_status adjust_macs(const struct adjust_net *a, const int *channels, uint64_t *macs, struct wasd_err *err);
/* m_l = c_l * (F with one channel more in l - F); n values. */
enum wasd_status adjust_costs(const struct adjust_net *a, double *m, struct wasd_err *err);

/* rates: n, at most ADJUST_RATE_MAX. False: one was more. */
bool adjust_rates(double base, const double *m, int n, double *rates);
/* Widths that grow, and that shrink, in iteration i, counted from 0: update - i*decay, at least 0, half to even. */
int adjust_count(double update, double decay, int i);
/* Changes the 2k widths; with 2k > n one may do both. first: the widths at first. */
enum wasd_status adjust_step(const double *fur, int n, int k, double step, double decay, const int *first,
                             int *channels, struct wasd_err *err);
/* While F differs from target by more than 1 % of F, at most 20 times, halves the range of the factor. */
enum wasd_status adjust_rescale(const struct adjust_net *a, uint64_t target, int *channels, struct wasd_err *err);

#endif
