/* layers/layer.h - what a layer is, and the structures that graph, layers and backends share.
 *
 *   node    one operation of a graph: its layer, its numbers, its parameters. Immutable after wasd_graph_finish.
 *   tensor  one activation (or its gradient) of a plan, in the layout that the backend gave it.
 *   step    one node of a plan, with the nodes fused into it: the tensors that it reads and writes, and its parameters.
 *   run     what differs from pass to pass.
 *
 * A layer is one file: output shape, parameters, what its backward needs, forward, backward, with the descriptor at the
 * end; plus a row in table.c. Its kernels are written for plane layouts (below). They serve every backend that has no
 * faster kernel for the operation; a backend with another layout calls them through copies (backend/relaid.c). */
#ifndef LAYERS_LAYER_H
#define LAYERS_LAYER_H

#include "layers/packs.h"
#include "wasd/graph.h"
#include "wasd/quant.h"
#include "wasd/weights.h"

/* Tells the compiler that iterations of the loop are independent, although pointers may be equal (in-place
 * operation). */
#ifdef __clang__
#define LAYER_IVDEP _Pragma("clang loop vectorize(assume_safety)")
#else
#define LAYER_IVDEP _Pragma("GCC ivdep")
#endif

/* ---- tensors --------------------------------------------------------------------------------- */

/* In a plane layout, element (n,c,y,x) is data[n*sn + c*sc + y*W + x]: NCHW has sn > sc, channel-major sc > sn. A
 * backend with another layout (blocked, reduced precision) brings its own kernels for the operations that should be
 * fast. */
struct tensor {
	struct wasd_shape shape;
	void *data;
	size_t sn, sc;               /* strides in elements, for the batch size n of the running pass */
	size_t bytes;                /* for the largest batch. The backend's layout() sets it, the strides and `layout` */
	const struct node *by;       /* the node that writes it */
	const struct tensor *source; /* the first value that its node reads, laid out earlier; NULL for the input */
	const struct layer *reader;  /* the layer of the nodes that read it if they are all of one kind, else NULL */
	bool convolved;              /* a convolution is among the nodes that read it */
	const struct wasd_quant_tensor *quant; /* in a plan of an int8 network, else NULL */
	const void *layout;                    /* the backend's own layout description; NULL in plane layouts */
};

static inline real *tensor_plane(const struct tensor *t, int n, int c)
{
	return (real *)t->data + (size_t)n * t->sn + (size_t)c * t->sc;
}

/* Splits channel c of n images into `runs` pieces of *len contiguous elements; piece i starts at tensor_plane(t, i,
 * c). */
static inline int tensor_runs(const struct tensor *t, int n, size_t *len)
{
	size_t hw = (size_t)t->shape.h * (size_t)t->shape.w;
	if (t->sn == hw) {
		*len = (size_t)n * hw;
		return 1;
	}
	*len = hw;
	return n;
}

/* The only allocator of tensor memory: 64-byte aligned, zeroed. NULL: no memory. */
void *tensor_alloc(size_t bytes);
void tensor_free(void *p);

/* ---- nodes ------------------------------------------------------------------------------------- */

enum act { ACT_NONE, ACT_RELU, ACT_RELU6 };

struct node {
	const struct layer *layer;
	const char *name;            /* "" if it has none */
	struct wasd_shape in, shape; /* of the first input; of the output */
	int n_in;
	wasd_node *inputs;
	int weight, bias;                                   /* parameter indices, -1: none (batch norm: scale and shift) */
	int stats, aug;                                     /* index of statistics; of the augmented layer; -1: none */
	int out, kh, kw, stride, pad_top, pad_left, groups; /* convolution; pooling uses kh, stride, pad_top */
	bool biased;                                        /* convolution and linear: has a bias */
	bool depthwise;                                     /* as requested; groups become the number of input channels */
	double p;                                           /* dropout: probability of a zero; drop-connect: rate */
	double eps, momentum;                               /* batch norm */
};

/* ---- steps --------------------------------------------------------------------------------------- */

struct backend;

struct step {
	const struct node *node;
	const struct layer_kernel *kernel;
	const struct backend *backend; /* the backend whose layout the tensors have */
	int n_in;
	struct tensor **x;     /* inputs; the last one is the residual if has_res */
	struct tensor **dx;    /* their gradients; NULL where nobody needs one */
	bool *dx_add;          /* true: add to dx; false: be its first writer */
	struct tensor *y, *dy; /* dy may share memory with one dx[i] that is written first (dx_add false) */
	bool has_res;          /* y = act(op(x) + residual) */
	enum act act;
	const real *weight, *bias; /* of this pass; bias NULL: none. Convolution: (O,I/groups,kh,kw) */
	real *dweight, *dbias;     /* the step adds its gradients */
	/* Set when all taps of this convolution are equal in this pass and its kernel supports that (layer_kernel.boxes).
	 * The weights then have one tap (kh = kw = 1), to be applied to the sums of x over windows of box.h x box.w that
	 * begin box.y above and box.x left of each output. h = 0: an ordinary pass. */
	struct wasd_rect box;
	int kh, kw, pad_top,
		pad_left; /* of this pass's weights; kh = 0: no taps, y = bias. Padding may be negative (a crop). */
	double eps, momentum;
	real *mean, *var; /* batch norm: stored statistics used by this pass */
	void *saved;      /* written by forward, read by backward */
	bool strict;      /* use only plain sums of products */
	bool unmeasured;  /* plan() measures nothing (struct wasd_exec_opts) */
	bool varies;      /* a recipe may form the weights, so kernel sizes other than the node's will occur */
	size_t saved_bytes, scratch_bytes;   /* set by plan() */
	const struct wasd_quant_conv *quant; /* as tensor.quant */
	struct packs
		*packs; /* constant weights: the cache of their packed forms; NULL: weights may change from pass to pass */
	void *plan; /* private to the kernel; made by plan(), freed by unplan() */
	enum wasd_status status; /* set by a kernel that fails (no memory for a primitive); the pass returns it */
};

struct run {
	int n; /* images in this pass */
	enum wasd_bn bn;
	bool update;
	double momentum;          /* if > 0, overrides the layers' own */
	bool training;            /* the plan has a backward pass: store what it needs */
	struct wasd_rng *dropout; /* NULL outside forward and when dropout is off */
	bool dropping;            /* dropout was on in the forward of this pass */
	const struct node *only;  /* the only layer that drops, with rate only_p; NULL: each with its own */
	double only_p;
	void *scratch; /* the step's scratch_bytes; content undefined */
	int threads;
};

/* The rate with which a layer drops in this pass. */
static inline double run_rate(const struct run *r, const struct node *n)
{
	return !r->dropping ? 0 : !r->only ? n->p : r->only == n ? r->only_p : 0;
}

/* The kernels of one operation. batch is the largest n. */
struct layer_kernel {
	void (*plan)(struct step *s, int batch, bool training,
	             int threads); /* sets saved_bytes and scratch_bytes; NULL: both 0 */
	void (*forward)(struct step *s, const struct run *r);
	void (*backward)(struct step *s, const struct run *r); /* NULL: passes no gradient */
	void (*unplan)(struct step *s);                        /* NULL: nothing to free */
	bool boxes;                                            /* supports passes with step.box */
	bool onto_residual; /* outside training: computes y over the residual if they have one memory */
	/* Appends to the JSON array `to` how the step is computed: one object per variant and pass. NULL: there is only one
	 * way. */
	void (*explain)(const struct step *s, struct cJSON *to);
};

/* What backward reads besides dy and `saved`. */
enum { LAYER_KEEPS_X = 1, LAYER_KEEPS_Y = 2 };

struct onnx;

/* How a channel of the output depends on those of the inputs. wasd/alive.h removes channels by it. */
enum layer_channels {
	LAYER_CHANNELS_MIXED,   /* in no way listed here: no channel of inputs and output is ever removed */
	LAYER_CHANNELS_WEIGHED, /* by weights (out, in/groups, taps...) and a bias (out) */
	LAYER_CHANNELS_SAME,    /* on the same channel of every input; it is 0 where they are */
	LAYER_CHANNELS_SCALED,  /* on the same channel, which is normalised, scaled and shifted */
	LAYER_CHANNELS_STACKED, /* the inputs' channels, one after the other */
	LAYER_CHANNELS_SPREAD,  /* a channel becomes H*W channels, one after the other */
};

/* Initial values of a parameter: those of wasd_graph_param, and those that depend on fan_in by the graph's
 * wasd_initial. */
enum param_init { PARAM_UNIT = WASD_INIT_UNIT, PARAM_ONE = WASD_INIT_ONE, PARAM_ZERO = WASD_INIT_ZERO, PARAM_FAN_IN };

/* For params() below: adds parameter NAME.suffix, or statistics NAME. Returns the index, or -1 after a failure
 * (recorded in the graph). */
int graph_add_param(struct wasd_graph *g, const char *name, const char *suffix, int ndims, const int *dims,
                    enum param_init init, int fan_in);
int graph_add_stats(struct wasd_graph *g, const char *name, int channels, double eps, double momentum);

/* A member of a layer object in a custom network (models/own.c), which sets one number of the node. If it is optional
 * and has no default, settle() computes its value. */
struct layer_field {
	struct wasd_field row;
	size_t at;    /* offset in struct node of an int, a double or a bool, by the row's type */
	bool classes; /* also accepts "classes": the number of classes of the data set */
	int unset;    /* the node's number until settle() has computed it */
};
#define LAYER_FIELDS 8

struct layer {
	const char *op;
	const char *summary;                     /* one line; NULL: not available in custom networks */
	struct layer_field fields[LAYER_FIELDS]; /* terminated by a NULL name */
	int inputs;                              /* number of inputs; 0: one, -1: two or more */
	bool augmentable;                        /* its weights are kernels that a strategy may transform */
	/* Completes the members left open, before shape(). If a field does not fit, returns its name and sets *err; else
	 * NULL. */
	const char *(*settle)(struct node *n, const struct wasd_shape *in, struct wasd_err *err);
	const char *blame; /* the field to blame when shape() fails */
	/* Adds the layer's parameters and statistics for the finished shape, and stores their indices in n. NULL: it has
	 * none. */
	void (*params)(struct wasd_graph *g, struct node *n);
	enum wasd_phase phase_fwd, phase_bwd;
	/* Sets n->shape (and defaults of n) from the inputs' shapes. The message needs no layer name: the builder prepends
	 * it. */
	enum wasd_status (*shape)(struct node *n, const struct wasd_shape *in, struct wasd_err *err);
	uint64_t (*macs)(const struct node *n, int taps); /* multiply-adds per image with `taps` taps; NULL: 0 */
	/* Returns a combination of LAYER_KEEPS_*; NULL: none. */
	unsigned (*keeps)(enum act act, bool has_res);
	bool in_place;                        /* forward may write y over x[0] */
	bool in_place_bwd;                    /* backward may write one dx over dy */
	bool fuses_training, fuses_inference; /* can absorb a residual and an activation in such plans */
	bool is_add;                          /* the sum of two tensors: may become another step's residual */
	enum act is_act;                      /* an activation: may become another step's act */
	enum layer_channels channels;
	bool trains_only; /* the identity outside training: a compiled bundle omits it */
	void (*onnx)(struct onnx *o,
	             const struct node *n); /* exports it as ONNX operators (layers/onnx.h); NULL: not exportable */
	const struct layer_kernel *kernel;  /* for plane layouts; NULL: every backend brings its own */
};

extern const struct layer layer_input, layer_conv, layer_batchnorm, layer_relu, layer_relu6, layer_maxpool,
	layer_avgpool, layer_globalpool, layer_boxsum, layer_flatten, layer_linear, layer_dropout, layer_dropchannel,
	layer_dropconnect, layer_add, layer_addpad, layer_concat;
const struct layer *layer_at(int i); /* table.c; NULL after the last */
/* Rows added by the program that links core, after those of the table; ends with NULL. A program without extra rows
 * defines nothing. */
extern const struct layer *const layer_more[] __attribute__((weak));

static inline real act_apply(enum act act, real v)
{
	/* Keeps NaN: a comparison with NaN is false. */
	if (act != ACT_NONE && v < 0)
		v = 0;
	if (act == ACT_RELU6 && v > 6)
		v = 6;
	return v;
}

/* Derivative of the activation at output y: true (1) where y is strictly inside. */
static inline bool act_passes(enum act act, real y)
{
	return act == ACT_NONE || (y > 0 && (act == ACT_RELU || y < 6));
}

/* dx = or, with add, += dy where the activation passes at output y; len elements each. y is not read for ACT_NONE.
 * dx may be dy. (relu.c) */
void act_backward(enum act act, const real *y, const real *dy, real *dx, bool add, size_t len);

/* ---- loss (not a node: it ends every training graph) ------------------------------------------- */

/* logits, dlogits: (n,classes) row-major; dlogits may be NULL. Mean of -sum q log softmax with q = (1-smoothing)*onehot
 * + smoothing/classes, if the targets have neither other labels nor weights. */
enum wasd_status loss_softmax_xent(const real *logits, const struct wasd_targets *t, int n, int classes, double *loss,
                                   int *correct, real *dlogits, struct wasd_err *err);

/* A running statistic after a batch's value. With momentum 1 nothing of the old one is left, not even a rounding error:
 * what is measured anew depends on its own batches alone. */
static inline real layer_running(real old, double value, double momentum)
{
	return (real)(momentum < 1 ? (double)old + momentum * (value - (double)old) : value);
}

#endif
