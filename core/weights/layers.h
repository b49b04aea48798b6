/* weights/layers.h - a choice of layers as text: names or patterns (wasd_glob) with commas between them; "all" is every
 * layer, and those that begin with "!" leave layers out: "layer*,!layer1.*", "!fc". */
#ifndef WEIGHTS_LAYERS_H
#define WEIGHTS_LAYERS_H

#include "wasd/graph.h"
#include "wasd/spec.h"

#define LAYERS_TEXT 400 /* bytes of such a text */

/* The row of a strategy's options. */
#define LAYERS_OPTION \
	{ \
		"layers", WASD_STR, "\"all\"", 1, 200, \
			.summary = "names or patterns with commas between them; with ! in front they are left out" \
	}

bool layers_take(const char *text, const char *layer);
/* True for a node with a kernel or matrix, false for the scale of a normalisation. */
bool layers_has_weights(const struct wasd_graph *g, wasd_node n);
/* WASD_EINVAL at `pointer` if a pattern is empty, too long, or matches no layer with weights. */
enum wasd_status layers_check(const char *text, const struct wasd_graph *g, const char *pointer, struct wasd_err *err);

#endif
