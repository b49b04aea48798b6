/* infer/bundle.h - core's private interface to bundles: compiling a model in memory, and what a predictor reads. */
#ifndef INFER_BUNDLE_H
#define INFER_BUNDLE_H

#include "modes/mode.h"
#include "wasd/graph.h"
#include "wasd/infer.h"

/* Compiles the weights of m by recipe r (NULL: as they are) with the statistics of `set`. The bundle has no class
 * names and its mode has no name. */
enum wasd_status bundle_compile(struct wasd_model *m, const struct wasd_recipe *r, enum wasd_stats_set set,
                                struct wasd_bundle **out, struct wasd_err *err);
/* For a bundle from a checkpoint: its class names; its recipe, or NULL if the recipe is of another kind. */
const cJSON *bundle_class_names(const struct wasd_bundle *b);
const cJSON *bundle_recipe(const struct wasd_bundle *b, const struct mode_kind *kind);
/* The folded network with its weights. Predictors plan on it; it is never written. */
static inline struct wasd_model *bundle_model(struct wasd_bundle *b)
{
	return wasd_bundle_model(b);
}
/* Makes the bundle an int8 network: q is one for bundle_model (wasd/quant.h), and is copied. The float weights of its
 * 8-bit layers are freed, and wasd_model_weights is NULL for them. Once, before the first predictor. WASD_EINVAL: q is
 * not sound (quant_check). */
enum wasd_status bundle_quantise(struct wasd_bundle *b, const struct wasd_quant *q, struct wasd_err *err);
const struct wasd_quant *bundle_quant(const struct wasd_bundle *b); /* NULL: it computes in float */
/* Of a bundle with wasd_bundle_parts: part i, borrowed, and what chooses among them (NULL: it has none). */
struct wasd_bundle *bundle_part(const struct wasd_bundle *b, int i);
const struct mode_router *bundle_router(const struct wasd_bundle *b);
/* The part that answered image i of the last run, from 0. Only of a bundle with parts, i below the images of that run.
 */
int predictor_choice(const struct wasd_predictor *p, int i);

#endif
