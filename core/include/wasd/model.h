/* wasd/model.h - the table of networks (was-algorithm.md section 4) and of everything else that has a name. */
#ifndef WASD_MODEL_H
#define WASD_MODEL_H

#include "wasd/graph.h"
#include "wasd/json.h"

struct wasd_arch {
	const char *name;                     /* "resnet18" */
	const char *summary;                  /* one line for people */
	const char *paper_was;                /* JSON text of the authors' own "was" object, or "false" (LeNet) */
	int min_side;                         /* smallest H and W that the network takes */
	bool (*shape_ok)(struct wasd_shape in, struct wasd_err *err);   /* NULL: any 1 or 3 channels, H = W >= min_side */
	/* Adds the nodes to g and calls wasd_graph_finish. options: the spec's "model" object without "arch" (may be NULL). */
	enum wasd_status (*build)(struct wasd_graph *g, int classes, const cJSON *options, struct wasd_err *err);
};
const struct wasd_arch *wasd_arch_find(const char *name);        /* NULL */
const struct wasd_arch *wasd_arch_at(int i);                     /* NULL after the last */
/* Checks the input and builds. *out is the caller's (wasd_graph_destroy). */
enum wasd_status wasd_arch_build(const char *name, struct wasd_shape in, int classes, const cJSON *options,
                                 struct wasd_graph **out, struct wasd_err *err);

/* Every table of core as one JSON object: archs (with parameters, MACs at 32x32x3, augmented layers, default was), transforms
 * (with their laws), optimizers, schedules, augmentations, precisions, backends, dataset formats. What `wasd-engine
 * capabilities` prints and the daemon serves as GET /v1/capabilities and validates job specs against. */
cJSON *wasd_capabilities(void);

#endif
