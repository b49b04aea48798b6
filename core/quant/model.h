/* quant/model.h - int8 networks in plain loops: the definition of their arithmetic (wasd/quant.h), which the tests
 * compare the kernels with. A residual of integers behind a float output, or the reverse, is first brought to the
 * output's type and scale, which costs a rounding. Layers that core/onednn computes on copies in planes are not part of
 * it. */
#ifndef QUANT_MODEL_H
#define QUANT_MODEL_H

#include "quant/quant.h"

/* Logits (n,classes) of n images x (N,C,H,W) by the folded network m with the sound q. WASD_EUNSUPPORTED, with its
 * name: a layer that this file does not know. Slow. */
enum wasd_status quant_model_run(const struct wasd_model *m, const struct wasd_quant *q, const real *x, int n,
                                 real *logits, struct wasd_err *err);

#endif
