/* onednn/depthwise.h - depthwise convolution (one kernel per channel) by our own kernels. */
#ifndef ONEDNN_DEPTHWISE_H
#define ONEDNN_DEPTHWISE_H

#include "layers/layer.h"
#include "onednn/tune.h"

/* Whether our kernels can run a step. */
bool depthwise_takes(const struct step *s);
/* Whether they run the step faster than the kernels of `library`. *r: the measurement (all us 0: none). fp32-strict
 * always takes ours. */
bool depthwise_wins(const struct step *s, int batch, bool training, int threads, const struct layer_kernel *library,
                    struct tune_result *r);
/* Call after our kernel's plan(): stores the measurement for explain(). */
void depthwise_measured(struct step *s, const struct tune_result *r);
extern const struct layer_kernel onednn_depthwise;

#endif
