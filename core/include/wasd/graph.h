/* wasd/graph.h - building a network, planning its buffers, running it.
 *
 *   graph   the computation: nodes, parameters, statistics. Built once by a model builder, then immutable.
 *   model   a graph with values: master parameters, gradients, BatchNorm statistics per mode.
 *   exec    a plan for a maximum batch size: layouts, buffers, per-node backend plans. forward / loss / backward.
 *
 * Shapes at this interface: images (N,C,H,W) row-major `real`, weights (O,I/groups,k,k), linear (out,in). Inside
 * an exec the backend chooses the layout; callers see only NCHW. Threads may share a graph. A model and its execs
 * belong to one thread at a time (an inference exec only reads the model). */
#ifndef WASD_GRAPH_H
#define WASD_GRAPH_H

#include "wasd/tensor.h"

struct wasd_graph;
struct wasd_model;
struct wasd_exec;
struct wasd_recipe;    /* wasd/weights.h */
struct wasd_quant;     /* wasd/quant.h */
typedef int wasd_node; /* index of a node; -1 after a failed call (the graph keeps the first error) */

/* ---- building (kann style: each call adds one node and returns it) --------------------- */

enum wasd_status wasd_graph_create(struct wasd_shape input, struct wasd_graph **out, struct wasd_err *err);
void wasd_graph_destroy(struct wasd_graph *g);
wasd_node wasd_graph_input(struct wasd_graph *g);
/* Parameters name.weight (out,in/groups,k,k) and, with bias, name.bias (out). padding: on all four sides. */
wasd_node wasd_graph_conv(struct wasd_graph *g, wasd_node x, const char *name, int out, int k, int stride, int padding,
                          int groups, bool bias);
/* The general form: kh x kw taps, with padding given for the top and the left and an explicit output size;
 * positions beyond the input read as zero. kh = kw = 0: no taps, so the output is the bias. Used in the folded
 * graph of a recorded draw, where dead taps have been removed. */
wasd_node wasd_graph_conv_rect(struct wasd_graph *g, wasd_node x, const char *name, int out, int kh, int kw, int stride,
                               int pad_top, int pad_left, int out_h, int out_w, int groups, bool bias);
/* Sums over windows of kh x kw (1 to 7 each), without dividing; geometry as above. Followed by a convolution of
 * one tap, it replaces a convolution whose taps are all equal. */
wasd_node wasd_graph_boxsum(struct wasd_graph *g, wasd_node x, int kh, int kw, int stride, int pad_top, int pad_left,
                            int out_h, int out_w);
/* Parameters name.weight and name.bias, statistics name.running_mean and name.running_var. */
wasd_node wasd_graph_batchnorm(struct wasd_graph *g, wasd_node x, const char *name, double eps, double momentum);
wasd_node wasd_graph_relu(struct wasd_graph *g, wasd_node x);
wasd_node wasd_graph_relu6(struct wasd_graph *g, wasd_node x);
wasd_node wasd_graph_maxpool(struct wasd_graph *g, wasd_node x, int k, int stride,
                             int padding); /* padding is never the maximum */
wasd_node wasd_graph_avgpool(struct wasd_graph *g, wasd_node x, int k, int stride);
wasd_node wasd_graph_globalpool(struct wasd_graph *g, wasd_node x); /* mean over H,W -> (C,1,1) */
wasd_node wasd_graph_flatten(struct wasd_graph *g, wasd_node x);    /* (C*H*W,1,1), order c,h,w */
wasd_node wasd_graph_linear(struct wasd_graph *g, wasd_node x, const char *name, int out, bool bias);
wasd_node wasd_graph_dropout(struct wasd_graph *g, wasd_node x,
                             double p); /* training only; kept values are scaled by 1/(1-p) */
wasd_node wasd_graph_dropconnect(struct wasd_graph *g, wasd_node x,
                                 double rate); /* per sample: x/keep * floor(keep+U), training only */
wasd_node wasd_graph_add(struct wasd_graph *g, wasd_node a, wasd_node b);
wasd_node wasd_graph_concat(struct wasd_graph *g, const wasd_node *x, int n); /* along channels */
/* A learnable tensor that no node reads: alpha vectors, the spare BN(512) of the reference implementation. kind:
 * the initial values. */
enum wasd_init { WASD_INIT_UNIT /* U(0,1) */, WASD_INIT_ONE, WASD_INIT_ZERO };
void wasd_graph_param(struct wasd_graph *g, const char *name, int count, enum wasd_init kind);
/* Statistics of a spare BN: registered, never used. */
void wasd_graph_spare_stats(struct wasd_graph *g, const char *name, int channels);
/* Marks convolution `conv` as augmentable. Its alpha is element index of parameter alpha_param. alpha_param NULL:
 * the published network does not augment this layer, but a job may, with alpha = 1 (alpha_param of its
 * wasd_aug_info is -1). */
void wasd_graph_augmentable(struct wasd_graph *g, const char *conv, const char *alpha_param, int index);
/* Initial values of the weights and biases of convolutions and linear layers, for models created later; the other
 * parameters keep theirs. The order is that of the choices of /model/init. Allowed after wasd_graph_finish too, before
 * other threads share the graph. */
enum wasd_initial {
	WASD_INITIAL_UNIFORM, /* the default, PyTorch's: U(-b, b), b = 1/sqrt(fan_in) */
	WASD_INITIAL_HE       /* He et al., arXiv 1502.01852: weights N(0, 2/fan_in), biases 0 */
};
void wasd_graph_initial(struct wasd_graph *g, enum wasd_initial initial);
/* Ends building; output is the logits node (classes,1,1). Returns the first error of all building calls; shape
 * errors name the layer. */
enum wasd_status wasd_graph_finish(struct wasd_graph *g, wasd_node output, struct wasd_err *err);

/* ---- inspecting a graph ------------------------------------------------------------------ */

struct wasd_param_info {
	const char *name;
	int dims[4], ndims;
	size_t count, offset;
}; /* offset into the master block, in elements */
struct wasd_stats_info {
	const char *name;
	int channels;
	size_t mean_offset, var_offset;
	double eps, momentum;
}; /* name "bn1": running_mean, running_var */
struct wasd_aug_info {
	const char *layer;
	int k, in, out, groups;
	int param /* index of layer.weight */, alpha_param, alpha_index;
};
struct wasd_node_info {
	const char *op, *name /* "" if unnamed */;
	struct wasd_shape shape;
	int n_inputs;
	const wasd_node *inputs;
	uint64_t macs;
	size_t params;              /* number of learnable scalars that the node reads */
	int kh, kw, stride, groups; /* convolution; pooling: all but groups; others: 0 */
	int weight, bias;           /* parameter indices of its weights and biases; -1: it has none */
	int aug;                    /* for wasd_graph_aug_info; -1: not augmentable */
};

struct wasd_shape wasd_graph_input_shape(const struct wasd_graph *g);
int wasd_graph_classes(const struct wasd_graph *g);
int wasd_graph_params(const struct wasd_graph *g);
struct wasd_param_info wasd_graph_param_info(const struct wasd_graph *g, int i);
int wasd_graph_param_find(const struct wasd_graph *g, const char *name); /* -1: unknown */
size_t wasd_graph_param_count(const struct wasd_graph *g); /* all learnable scalars, spare ones included */
int wasd_graph_stats(const struct wasd_graph *g);
struct wasd_stats_info wasd_graph_stats_info(const struct wasd_graph *g, int i);
size_t wasd_graph_stats_count(const struct wasd_graph *g); /* elements of one statistics set */
int wasd_graph_augs(const struct wasd_graph *g); /* number of augmentable convolutions; indexed in execution order */
struct wasd_aug_info wasd_graph_aug_info(const struct wasd_graph *g, int i);
int wasd_graph_nodes(const struct wasd_graph *g);
struct wasd_node_info wasd_graph_node_info(const struct wasd_graph *g, wasd_node i);
/* Multiply-adds of convolutions and linear layers for one image. With a recipe, dead taps are not counted, and
 * equal taps count as one where a sum over the window and a single tap can replace them (not in depthwise layers). */
uint64_t wasd_graph_macs(const struct wasd_graph *g, const struct wasd_recipe *r);
/* The name of the first batch norm whose maps are 1x1, or NULL. For a single image each of its channels has one
 * value, so batch statistics are that value and variance 0 for every image; a pass with batch statistics then
 * needs at least two images. */
const char *wasd_graph_lone_value(const struct wasd_graph *g);

/* ---- a model: values ------------------------------------------------------------------------ */

/* Statistics sets. Training batches update TRAIN under random SW; AOM and DOM are measured after training. */
enum wasd_stats_set { WASD_STATS_TRAIN, WASD_STATS_AOM, WASD_STATS_DOM, WASD_STATS_SETS };

/* Takes a reference on the graph (graphs are ref-counted; destroy drops one reference). Parameters get their
 * initial values from rng stream "init" of seed (web/docs/was.md#initial-values), statistics mean 0 and variance
 * 1. */
enum wasd_status wasd_model_create(struct wasd_graph *g, uint64_t seed, struct wasd_model **out, struct wasd_err *err);
void wasd_model_destroy(struct wasd_model *m);
/* Writes those initial values to a block of the same layout. One random stream serves all parameters in their order. */
void wasd_graph_first_values(const struct wasd_graph *g, uint64_t seed, real *block);
const struct wasd_graph *wasd_model_graph(const struct wasd_model *m);
real *wasd_model_master(struct wasd_model *m); /* wasd_graph_param_count elements, one block */
/* The values that passes compute with. For most parameters they are in the master block. A linked parameter has
 * its own place in a second block of the same layout, which weights/chain.c fills; its gradient is with respect to
 * those values until the chain pulls it back. Link parameters before creating the model's first exec. */
const real *wasd_model_weights(const struct wasd_model *m, int param); /* param_info.count elements */
enum wasd_status wasd_model_link(struct wasd_model *m, int param, struct wasd_err *err);
real *wasd_model_effective(struct wasd_model *m); /* the second block; NULL if nothing is linked */
real *wasd_model_grad(struct wasd_model *m); /* same layout; backward adds to it; NULL before the first training exec */
real *wasd_model_stats(struct wasd_model *m, enum wasd_stats_set set); /* wasd_graph_stats_count elements */
void wasd_model_grad_zero(struct wasd_model *m);
size_t wasd_model_packed_bytes(const struct wasd_model *m); /* constant weights in the packed forms of the kernels, in
                                                               addition to the master block */

/* ---- running --------------------------------------------------------------------------------- */

/* The precision that a plan computes in. Master weights, statistics, loss and optimizer always use `real`. Names
 * in job specs: fp32, fp32-strict, bf16. */
enum wasd_precision {
	WASD_PRECISION_FP32,        /* any algorithm on float32, including minimal filtering (Winograd) */
	WASD_PRECISION_FP32_STRICT, /* only plain sums of products; the same bits in every run */
	WASD_PRECISION_BF16, /* bfloat16 activations and products, summed in float32; needs support by the processor */
	WASD_PRECISIONS
};
const char *wasd_precision_name(enum wasd_precision p);
bool wasd_precision_from_name(const char *name, enum wasd_precision *out);

/* Shared memory for the passes of execs that never run at the same time; it is as large as the largest of them
 * needs. Belongs to one thread and must outlive its execs. */
struct wasd_arena;
enum wasd_status wasd_arena_create(struct wasd_arena **out, struct wasd_err *err);
void wasd_arena_destroy(struct wasd_arena *a);
size_t wasd_arena_bytes(const struct wasd_arena *a);

struct wasd_exec_opts {
	int batch;                /* maximum N */
	bool training;            /* plan backward and keep its inputs */
	bool keep_all;            /* keep every node's output after the pass (wasd_exec_activation, _forward_from) */
	wasd_node kept;           /* keep this node's output after the pass as well, > 0; 0: none. With a backend that fuses
	                             layers it must be the last of its chain (graph/plan.h) */
	bool constant_weights;    /* the master block no longer changes: kernels keep packed forms of it, shared by all such
	                             execs of the model */
	struct wasd_arena *arena; /* memory of the passes; not for training, where backward reads what forward left. NULL:
	                             the exec allocates its own */
	enum wasd_precision precision;
	const struct wasd_quant
		*quant;          /* an int8 network (wasd/quant.h): sound for the graph, borrowed for the lifetime
	                        of the exec. Serving only, and precision and backend do not matter. NULL: float */
	const char *backend; /* row of backend/table.c; NULL = the first that supports the precision on this processor */
	bool unmeasured;     /* measure no algorithms: take those known to be fastest, else the usual ones. For estimates */
	void (*planned)(void *ctx, int done, int of);
	void *ctx; /* for planned, which may be NULL; create calls it before each step whose algorithms it measures */
};
/* Whether this build and this processor run int8 networks. WASD_EUNSUPPORTED, with the reason, if not. */
enum wasd_status wasd_int8_offers(struct wasd_err *err);
/* WASD_EUNSUPPORTED, with the reason, if the backend (NULL: every backend) does not support the precision here. */
enum wasd_status wasd_exec_create(struct wasd_model *m, const struct wasd_exec_opts *o, struct wasd_exec **out,
                                  struct wasd_err *err);
void wasd_exec_destroy(struct wasd_exec *e);

enum wasd_bn { WASD_BN_BATCH /* batch statistics */, WASD_BN_SET /* a stored set */ };
struct wasd_pass {
	int n;                            /* images in this pass, 1..batch */
	const struct wasd_recipe *recipe; /* forms the weights of this pass; NULL = the weights as they are (AOM). Must not
	                                     change until backward is done */
	enum wasd_bn bn;
	enum wasd_stats_set set; /* read with WASD_BN_SET; with WASD_BN_BATCH and update: receives the running values */
	bool update; /* update `set` from the batch statistics: running += momentum*(value-running), unbiased variance */
	double momentum;          /* > 0 overrides each layer's momentum (calibration uses 1/i: cumulative average) */
	struct wasd_rng *dropout; /* NULL turns off dropout and drop-connect */
	wasd_node drop;           /* > 0: only this layer drops, with rate drop_p instead of its own */
	double drop_p;
};
/* x: (n,C,H,W), borrowed during the call. Forward never changes master weights. It does not check for
 * WASD_ENUMERIC; the loss shows that. WASD_EINVAL for one image with batch statistics if wasd_graph_lone_value
 * names a layer. */
enum wasd_status wasd_exec_forward(struct wasd_exec *e, const real *x, const struct wasd_pass *p, struct wasd_err *err);
/* Goes on with the last pass from node `from`: computes again the nodes that depend on it, with the parameters as they
 * are now, from the kept outputs of all others. values: (n,c,h,w), what the node is to have as its output; NULL: it is
 * computed again as well. Statistics are not updated. Logits and loss are then those of this pass, and it can go on
 * again from any node; what an earlier call computed stays, so give or compute a node anew to undo a change of it.
 * Allocates nothing. WASD_ESTATE unless keep_all is set, and after a pass with dropout. */
enum wasd_status wasd_exec_forward_from(struct wasd_exec *e, wasd_node from, const real *values, struct wasd_err *err);
/* Logits of the last forward: (n,classes) row-major, valid until the next call. */
const real *wasd_exec_logits(struct wasd_exec *e);
int wasd_exec_classes(const struct wasd_exec *e);
/* What the loss compares the logits with. */
struct wasd_targets {
	const int32_t *y; /* n class indices */
	const int32_t *other;
	double rest;           /* n more class indices, which have the share `rest` of each label; NULL: none */
	double smoothing;      /* share of each label distributed over all classes, within [0,1) */
	const double *weights; /* one for each class, 0 or more; NULL: 1 */
	const real *soft; /* (n,classes) probabilities in place of labels and all of the above; no hits are counted. NULL:
	                     labels */
};
/* Mean softmax cross-entropy of the last forward, and the number of top-1 hits on y; prepares backward. With weights,
 * the mean is weighted by those of the labels, as torch's CrossEntropyLoss has it. */
enum wasd_status wasd_exec_loss_of(struct wasd_exec *e, const struct wasd_targets *t, double *loss, int *correct,
                                   struct wasd_err *err);
/* The same for plain labels. */
enum wasd_status wasd_exec_loss(struct wasd_exec *e, const int32_t *y, double smoothing, double *loss, int *correct,
                                struct wasd_err *err);
/* Adds d loss/d parameter to the model's gradient block, through the recipe into plain weights and alphas. Call it
 * once per forward and loss. */
enum wasd_status wasd_exec_backward(struct wasd_exec *e, struct wasd_err *err);
/* Copies node i's output of the last forward as (n,c,h,w). WASD_ESTATE unless keep_all is set or i is `kept`. */
enum wasd_status wasd_exec_activation(struct wasd_exec *e, wasd_node i, real *out, struct wasd_err *err);
/* The mean of each map that the `kept` node, which there must be, gave to an image of the last forward, 0 .. n-1.
 * means: room for the node's channels. */
void wasd_exec_means(struct wasd_exec *e, int image, float *means);
size_t wasd_exec_bytes(const struct wasd_exec *e); /* planned memory, without a shared arena */
/* What an exec would take, without its memory: makes the plan and drops it. workspace: scratch memory of the kernels,
 * the weights of a pass, the logits. With the same algorithms the sum is wasd_exec_bytes. */
struct wasd_exec_price {
	size_t activations, workspace;
};
enum wasd_status wasd_exec_price(const struct wasd_graph *g, const struct wasd_exec_opts *o,
                                 struct wasd_exec_price *out, struct wasd_err *err);
/* Lists the algorithm of every step that has a choice:
 * [{"layer","pass","images","kernel":"2x3","algorithm","implementation","us":{...}}, ...]. "us" has the measured
 * microseconds of the candidates if there was more than one. The caller deletes it. NULL: out of memory. */
struct cJSON *wasd_exec_explain(const struct wasd_exec *e);

/* Nanoseconds per phase since the last reset (wall time of one thread; phases do not overlap). */
enum wasd_phase {
	WASD_PHASE_CONV_FWD,
	WASD_PHASE_CONV_BWD,
	WASD_PHASE_BATCHNORM,
	WASD_PHASE_LINEAR,
	WASD_PHASE_WEIGHTS,
	WASD_PHASE_OTHER,
	WASD_PHASES
};
const char *wasd_phase_name(enum wasd_phase p);
void wasd_exec_times(struct wasd_exec *e, uint64_t ns[WASD_PHASES], bool reset);

#endif
