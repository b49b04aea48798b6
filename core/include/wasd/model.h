/* wasd/model.h - the table of networks (web/docs/was.md#networks), and the description of all tables of core. */
#ifndef WASD_MODEL_H
#define WASD_MODEL_H

#include "wasd/graph.h"
#include "wasd/spec.h"

#define WASD_ARCH_OPTIONS 4

struct wasd_arch {
	const char *name;    /* "resnet18" */
	const char *summary; /* one line for people */
	/* Members of the spec's "model" object besides "arch": whole numbers with choices, or booleans; terminated by a
	 * NULL name. What a request omits is filled in with the default (wasd_network_complete). */
	struct wasd_field options[WASD_ARCH_OPTIONS];
	/* Returns the authors' own "was" object for these option values as JSON text, or "false" (LeNet). */
	const char *(*paper_was)(const int *options);
	int min_side; /* smallest H and W that the network accepts */
	int sides[4]; /* only these sizes, H = W (terminated by 0); empty: any H and W >= min_side. Channels: 1 or 3 */
	/* Adds the nodes to g and calls wasd_graph_finish. options: one value per row of `options`. */
	enum wasd_status (*build)(struct wasd_graph *g, int classes, const int *options, struct wasd_err *err);
};
const struct wasd_arch *wasd_arch_find(const char *name); /* NULL */
const struct wasd_arch *wasd_arch_at(int i);              /* NULL after the last */
/* Rows added by the program that links core, after those of the table; ends with NULL. A program without extra rows
 * defines nothing. */
extern const struct wasd_arch *const wasd_arch_more[] __attribute__((weak));
/* Checks the input and builds the network. The caller frees *out with wasd_graph_destroy. options: the spec's "model"
 * object (NULL: defaults; its "arch" and "init" are ignored). Errors carry "/model/arch", "/model/NAME", or "/dataset"
 * if the images do not fit. */
enum wasd_status wasd_arch_build(const char *name, struct wasd_shape in, int classes, const cJSON *options,
                                 struct wasd_graph **out, struct wasd_err *err);
/* The authors' own "was" value for that network as JSON text, for wasd_was_create. WASD_EINVAL as above. */
enum wasd_status wasd_arch_paper_was(const char *name, const cJSON *options, const char **out, struct wasd_err *err);

/* ---- the spec's "model" object ----
 *
 * {"arch": NAME, OPTION: value...} names a row of the table. A custom network is given by its layers:
 *
 *     {"name": "tiny", "layers": [{"type":"conv","out":32,"bias":false,"augment":true}, {"type":"batchnorm"},
 *     {"type":"relu","name":"a"},
 *                                 ..., {"type":"add","from":["a","b"]}, {"type":"globalpool"}, {"type":"flatten"},
 *                                 {"type":"linear","out":"classes"}]}
 *
 * A layer reads the previous layer, or those listed in "from" (one name, or an array for add and concat; "input" means
 * the images). Without a name it is called TYPE plus its index: "relu2". Its other members are the fields of its row
 * (layers/table.c). "augment": true makes a convolution one of those that "was": {"layers": "paper"} and the default of
 * "was" transform, with its own alpha, NAME.alpha; "was" can name any convolution with k > 1. The last layer must
 * output (classes,1,1), and every other layer must be read.
 *
 * "init" chooses the initial values (enum wasd_initial) of either. */

/* The name of the network in jobs, checkpoints and deployments: "arch", or "name" (default: "custom"). Borrowed from
 * model; NULL: the object names no network. */
const char *wasd_network_name(const cJSON *model);
/* Like wasd_arch_build and wasd_arch_paper_was. Errors about layers carry "/model/layers/3/kernel" and name the
 * layer. */
enum wasd_status wasd_network_build(const cJSON *model, struct wasd_shape in, int classes, struct wasd_graph **out,
                                    struct wasd_err *err);
enum wasd_status wasd_network_was(const cJSON *model, const char **out, struct wasd_err *err);
/* Fills in the options that a request's model object omits: as in `stored` (may be NULL) if that is the same network,
 * because its file says which variant it is; otherwise with their defaults. Custom networks and unknown names stay
 * unchanged. */
enum wasd_status wasd_network_complete(cJSON *model, const cJSON *stored, struct wasd_err *err);

/* What a network is, for images of shape `in`. model and was: members of a job spec, checked as a job's are (was NULL:
 * the network's own).
 *     {"arch","summary" of a row of the
 *     table,"model":{...},"input":[c,h,w],"classes":N,"params":N,"other_params":N,"macs":N,
 *      "was":{...}|false,                                          with every default written out
 *      "augmented":{"layers":N,"macs":N,"share":X,                 convolutions that `was` transforms; share of all
 *      multiply-adds
 *                   "dom_macs":{"one_axis":N,"both_axes":N}},      of the network when each of them is shifted by one
 *                                                                  tap
 *      "layers":[{"op","name","inputs":[i,...],"shape":[c,h,w],"params":N,"macs":N,
 *                 "kernel":[h,w],"stride":N,"groups":N,"augmented":true|false}]}
 * in execution order, layer 0 the images; inputs are indices of this list. name, kernel, stride, groups where there is
 * one; augmented of convolutions that a job may augment. other_params: learnable scalars of no layer, alphas above all.
 */
enum wasd_status wasd_network_describe(const cJSON *model, const cJSON *was, struct wasd_shape in, int classes,
                                       cJSON **out, struct wasd_err *err);

/* Every table of core as one JSON object. What `wasd-engine capabilities` prints and the daemon serves as GET
 * /v1/capabilities and validates job specs against:
 *     {"archs":[{"name","summary","min_side":N,"sides":[N,...] when only these fit,
 *                "options":[{"name","summary","default":N,"choices":[N,...]} or
 *                {"name","summary","type":"boolean","default":false}], "variants":[{"model":{option:
 *                value,...},"params":N,"macs":N,"augmented":N,"was":{...}|false}]}],
 *                  one variant for each choice of option values, the defaults first; params and macs for 3x32x32 and 10
 *                  classes (or the largest side that fits); was = the authors' own
 *      "strategies":[{"type","summary","options":[OPTION],"prunes":BOOL}],
 *                  entries of a job's "weights"; prunes: it takes weights away for good
 *      "mode_kinds":[{"name","summary","family":the first part of their modes' names, or null,
 *                  "desires":[{"name","summary","options":[OPTION],"based":BOOL}]}],
 *                  what asks for a mode of the kind; based: of another mode than aom too
 *      "transforms":[{"type","op","summary","options":[OPTION]}],
 *      "optimizers":[{"name","summary","options":[OPTION]}],
 *      "schedules":[{"name","summary","options":[OPTION]}],                                 without warmup_epochs
 *      "augment":[{"name","summary","options":[OPTION]}],
 *      "layers":[{"type","summary","inputs":1|2|"many","options":[OPTION]}],                of custom networks; an
 * OPTION here may have "classes":true (its value may be "classes"); no default: see its summary
 *      "precisions":[...],"backends":[...],"formats":[...],"synthetic":[...],"modes":[...], lists of names; a precision
 *                  is one that this processor can compute in, a mode one that a run measures
 *      "metrics":[{"name","quantity","mode","better":"min|max","goal":bool,"summary"}],     wasd/spec.h; mode where
 * there is one "spec":[{"path",TYPE...}]}                                                           every member of the
 * job spec with OPTION = {"name",TYPE...} and TYPE =
 * "type":"number|integer|boolean|string|object|array|any|refused|form", "n":1 or 2 for a pair of
 * numbers,"default","min","max","choices","required":true,"null":true,"table","form","summary", and "above_min":true or
 * "below_max":true where that end of the range is excluded; what does not apply is left out. An OPTION of type "form"
 * has a form of its own; a member of the spec has its usual type and "form" beside it. */
cJSON *wasd_capabilities(void);

#endif
