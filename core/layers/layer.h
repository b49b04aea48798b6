/* layers/layer.h - what a layer is, and what graph, layers and backends hand to each other.
 *
 *   node    one operation of a graph: which layer, its numbers, its parameters. Immutable after wasd_graph_finish.
 *   tensor  one activation (or its gradient) of a plan, in the layout that the backend gave it.
 *   step    one node of a plan together with what was fused into it: the tensors that it reads and writes, its
 *           parameters.
 *   run     what differs from pass to pass.
 *
 * A layer is one file: output shape, parameters, what its backward needs, forward, backward, and the descriptor at the
 * end, plus a row in table.c. Its kernels are written for plane layouts (below) and serve every backend that has no
 * better one for the operation, one with another layout through copies (backend/relaid.c).
 */
#ifndef LAYERS_LAYER_H
#define LAYERS_LAYER_H

#include "layers/packs.h"
#include "wasd/graph.h"
#include "wasd/weights.h"

/* The loop has no dependency between its turns, though its pointers may be equal (an operation in place). */
#ifdef __clang__
#define LAYER_IVDEP _Pragma("clang loop vectorize(assume_safety)")
#else
#define LAYER_IVDEP _Pragma("GCC ivdep")
#endif

/* ---- tensors --------------------------------------------------------------------------------- */

/* In a plane layout element (n,c,y,x) is data[n*sn + c*sc + y*W + x]: NCHW has sn > sc, channel-major sc > sn. A
 * backend with another layout (blocked, reduced precision) brings kernels of its own for what should be fast. */
struct tensor {
	struct wasd_shape shape;
	void *data;
	size_t sn, sc; /* strides in elements, for the n of the running pass */
	size_t bytes;  /* of the largest batch; the backend's layout() sets all but by, source, reader, data and shape */
	const struct node *by;       /* the node that makes it */
	const struct tensor *source; /* the value that its node reads first, laid out before it; NULL for the input */
	const struct layer *reader;  /* of the nodes that read it, when all are of one kind; else NULL */
	const void *layout;          /* the backend's own description of it; NULL in plane layouts */
};

static inline real *tensor_plane(const struct tensor *t, int n, int c)
{
	return (real *)t->data + (size_t)n * t->sn + (size_t)c * t->sc;
}

/* Channel c of n images as `runs` pieces of *len contiguous elements; piece i starts at tensor_plane(t, i, c). */
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

/* The one place where memory for tensors comes from: 64-byte aligned, zeroed. NULL: no memory. */
void *tensor_alloc(size_t bytes);
void tensor_free(void *p);

/* ---- nodes ------------------------------------------------------------------------------------- */

enum act { ACT_NONE, ACT_RELU, ACT_RELU6 };

struct node {
	const struct layer *layer;
	const char *name;            /* "" when it has none */
	struct wasd_shape in, shape; /* of the first input, of the output */
	int n_in;
	wasd_node *inputs;
	int weight, bias;                                   /* parameter indices, -1 = none (batch norm: scale and shift) */
	int stats, aug;                                     /* index of statistics, of the augmented layer; -1 = none */
	int out, kh, kw, stride, pad_top, pad_left, groups; /* convolution; pooling uses kh, stride, pad_top */
	bool biased;                                        /* convolution and linear: has a bias */
	bool depthwise;                                     /* asked for: groups become the input's channels */
	double p;                                           /* dropout: probability of a zero; drop-connect: rate */
	double eps, momentum;                               /* batch norm */
};

/* ---- steps --------------------------------------------------------------------------------------- */

struct backend;

struct step {
	const struct node *node;
	const struct layer_kernel *kernel;
	const struct backend *backend; /* whose layout the tensors have */
	int n_in;
	struct tensor **x;     /* inputs; the last one is the residual when `has_res` */
	struct tensor **dx;    /* their gradients; NULL where nobody wants one */
	bool *dx_add;          /* add to dx (true) or be its first writer */
	struct tensor *y, *dy; /* dy may share memory with one dx[i] that is written first (not dx_add) */
	bool has_res;          /* y = act(op(x) + residual) */
	enum act act;
	const real *weight, *bias; /* of this pass; bias NULL = none. Convolution: (O,I/groups,kh,kw) */
	real *dweight, *dbias;     /* added to */
	/* A convolution all of whose taps are equal in this pass, by a kernel that takes it so (layer_kernel.boxes): its
	 * weights are one tap (kh = kw = 1), to be applied to the sums of x over windows of box.h x box.w, which begin
	 * box.y above and box.x left of each output. h = 0: an ordinary pass. */
	struct wasd_rect box;
	int kh, kw, pad_top,
		pad_left; /* of this pass's weights; kh = 0: no taps, y = bias. Padding may be negative (a crop). */
	double eps, momentum;
	real *mean, *var;                  /* batch norm: stored statistics of this pass */
	void *saved;                       /* written by forward for backward */
	bool strict;                       /* only plain sums of products */
	bool varies;                       /* a recipe may form its weights: other kernel sizes than the node's will come */
	size_t saved_bytes, scratch_bytes; /* set by plan() */
	struct packs
		*packs; /* constant weights: where their packed forms are kept; NULL = weights may change from pass to pass */
	void *plan; /* the kernel's own, made by plan(), freed by unplan() */
	enum wasd_status status; /* set by a kernel that cannot go on (no memory for a primitive); the pass ends with it */
};

struct run {
	int n; /* images */
	enum wasd_bn bn;
	bool update;
	double momentum;          /* > 0 overrides the layers' own */
	bool training;            /* the plan has a backward: keep what it needs */
	struct wasd_rng *dropout; /* NULL outside forward, and when dropout is off */
	bool dropping;            /* dropout was on in this pass's forward */
	void *scratch;            /* the step's scratch_bytes, undefined content */
	int threads;
};

/* Kernels of one operation. batch is the largest n. */
struct layer_kernel {
	void (*plan)(struct step *s, int batch, bool training,
	             int threads); /* sets saved_bytes, scratch_bytes; NULL: both 0 */
	void (*forward)(struct step *s, const struct run *r);
	void (*backward)(struct step *s, const struct run *r); /* NULL: no gradient passes */
	void (*unplan)(struct step *s);                        /* NULL: nothing to free */
	bool boxes;                                            /* takes passes with step.box */
	/* Appends to the JSON array `to` how the step is computed: one object for each variant and pass. NULL: there is no
	 * choice to tell. */
	void (*explain)(const struct step *s, struct cJSON *to);
};

/* What backward reads, beside dy and `saved`. */
enum { LAYER_KEEPS_X = 1, LAYER_KEEPS_Y = 2 };

struct onnx;

/* Initial values of a parameter: the kinds of wasd_graph_param, and U(-1/sqrt(fan_in), 1/sqrt(fan_in)). */
enum param_init { PARAM_UNIT = WASD_INIT_UNIT, PARAM_ONE = WASD_INIT_ONE, PARAM_ZERO = WASD_INIT_ZERO, PARAM_FAN_IN };

/* For params() below: parameter NAME.suffix, statistics NAME. The index, -1 after a failure (which sticks to the
 * graph). */
int graph_add_param(struct wasd_graph *g, const char *name, const char *suffix, int ndims, const int *dims,
                    enum param_init init, int fan_in);
int graph_add_stats(struct wasd_graph *g, const char *name, int channels, double eps, double momentum);

/* A member of the layer's object in a network of a job's own (models/own.c), which sets a number of the node. A default
 * outside min..max means that the member may be left out and settle() finds the value. */
enum field_kind { FIELD_INT, FIELD_NUM, FIELD_BOOL };
struct layer_field {
	const char *name, *summary;
	enum field_kind kind;
	size_t at; /* in struct node */
	double def, min, max;
	bool required;
	bool classes; /* may be "classes": as many as the data set has */
};
#define LAYER_FIELDS 8

struct layer {
	const char *op;
	const char *summary;                     /* one line; NULL: a network of a job's own cannot have it */
	struct layer_field fields[LAYER_FIELDS]; /* ends at a NULL name */
	int inputs;                              /* how many it reads; 0 = one, -1 = two or more */
	bool augmentable;                        /* its weights are kernels that a strategy may transform */
	/* Completes what such a network left open, before shape(). The name of a field that does not fit, with *err; else
	 * NULL. */
	const char *(*settle)(struct node *n, const struct wasd_shape *in, struct wasd_err *err);
	const char *blame; /* the field that a refusal by shape() is most likely about */
	/* Adds its parameters and statistics for the finished shape, and notes their indices in n. NULL: it has none. */
	void (*params)(struct wasd_graph *g, struct node *n);
	enum wasd_phase phase_fwd, phase_bwd;
	/* Sets n->shape (and defaults of n) from the inputs' shapes. The message needs no layer name: the builder puts it
	 * in front. */
	enum wasd_status (*shape)(struct node *n, const struct wasd_shape *in, struct wasd_err *err);
	uint64_t (*macs)(const struct node *n, int taps); /* multiply-adds of one image with so many taps; NULL: 0 */
	/* Bits of LAYER_KEEPS_* for this combination; NULL: none. */
	unsigned (*keeps)(enum act act, bool has_res);
	bool in_place;                        /* forward may write y over x[0] */
	bool in_place_bwd;                    /* backward may write one dx over dy */
	bool fuses_training, fuses_inference; /* takes a residual and an activation in such plans */
	bool is_add;                          /* the sum of two tensors: can become another step's residual */
	enum act is_act;                      /* an activation: can become another step's act */
	bool trains_only;                     /* the identity outside training: a compiled bundle leaves it out */
	void (*onnx)(struct onnx *o,
	             const struct node *n); /* writes it as ONNX operators (convert/onnx.h); NULL: it has no such form */
	const struct layer_kernel *kernel;  /* for plane layouts; NULL: every backend brings its own */
};

extern const struct layer layer_input, layer_conv, layer_batchnorm, layer_relu, layer_relu6, layer_maxpool,
	layer_avgpool, layer_globalpool, layer_boxsum, layer_flatten, layer_linear, layer_dropout, layer_dropconnect,
	layer_add, layer_concat;
const struct layer *layer_at(int i); /* table.c; NULL after the last */
/* Rows of the program that core is linked into, after those of the table; ended by NULL. A program without any defines
 * nothing. */
extern const struct layer *const layer_more[] __attribute__((weak));

static inline real act_apply(enum act act, real v)
{
	/* Written so that NaN stays NaN: a comparison with it is false. */
	if (act != ACT_NONE && v < 0)
		v = 0;
	if (act == ACT_RELU6 && v > 6)
		v = 6;
	return v;
}

/* Derivative of the activation at output y: 1 where y is strictly inside. */
static inline bool act_passes(enum act act, real y)
{
	return act == ACT_NONE || (y > 0 && (act == ACT_RELU || y < 6));
}

/* ---- loss (not a node: it ends every training graph) ------------------------------------------- */

/* logits, dlogits: (n,classes) row-major; dlogits may be NULL. Mean of -sum q log softmax with q = (1-smoothing)*onehot
 * + smoothing/classes. */
enum wasd_status loss_softmax_xent(const real *logits, const int32_t *y, int n, int classes, double smoothing,
                                   double *loss, int *correct, real *dlogits, struct wasd_err *err);

#endif
