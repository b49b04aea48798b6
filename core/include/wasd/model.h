/* wasd/model.h - the table of networks (was-algorithm.md section 4) and of everything else that has a name. */
#ifndef WASD_MODEL_H
#define WASD_MODEL_H

#include "wasd/graph.h"
#include "wasd/json.h"

/* A member of the spec's "model" object beside "arch": one of a few whole numbers. */
struct wasd_arch_option { const char *name, *summary; int def; int choices[4]; /* ends at 0 */ };
#define WASD_ARCH_OPTIONS 4

struct wasd_arch {
	const char *name;                     /* "resnet18" */
	const char *summary;                  /* one line for people */
	struct wasd_arch_option options[WASD_ARCH_OPTIONS]; /* ends at a NULL name */
	/* JSON text of the authors' own "was" object for these option values, or "false" (LeNet). */
	const char *(*paper_was)(const int *options);
	int min_side;                         /* smallest H and W that the network takes */
	bool (*shape_ok)(struct wasd_shape in, struct wasd_err *err);   /* NULL: any 1 or 3 channels, H and W >= min_side */
	/* Adds the nodes to g and calls wasd_graph_finish. options: one value for each row of `options`. */
	enum wasd_status (*build)(struct wasd_graph *g, int classes, const int *options, struct wasd_err *err);
};
const struct wasd_arch *wasd_arch_find(const char *name);        /* NULL */
const struct wasd_arch *wasd_arch_at(int i);                     /* NULL after the last */
/* Checks the input and builds. *out is the caller's (wasd_graph_destroy). options: the spec's "model" object (NULL: defaults;
 * its "arch" is not looked at). Errors carry "/model/arch", "/model/NAME", or "/dataset" when the images do not fit. */
enum wasd_status wasd_arch_build(const char *name, struct wasd_shape in, int classes, const cJSON *options,
                                 struct wasd_graph **out, struct wasd_err *err);
/* The authors' own "was" value of that network as JSON text, for wasd_was_create. WASD_EINVAL as above. */
enum wasd_status wasd_arch_paper_was(const char *name, const cJSON *options, const char **out, struct wasd_err *err);

/* Every table of core as one JSON object: archs (with parameters, MACs at 32x32x3, augmented layers, default was), transforms
 * (with their laws), optimizers, schedules, augmentations, precisions, backends, dataset formats. What `wasd-engine
 * capabilities` prints and the daemon serves as GET /v1/capabilities and validates job specs against. */
cJSON *wasd_capabilities(void);

#endif
