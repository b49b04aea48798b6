/* onednn/depthwise.h - convolution of each channel with a kernel of its own, without a library. */
#ifndef ONEDNN_DEPTHWISE_H
#define ONEDNN_DEPTHWISE_H

#include "layers/layer.h"
#include "onednn/tune.h"

/* Whether our kernels can run a step. */
bool depthwise_takes(const struct step *s);
/* Whether they run it faster than the kernels of `library`; *r: what was measured (all us 0: nothing). fp32-strict
 * takes ours. */
bool depthwise_wins(const struct step *s, int batch, bool training, int threads, const struct layer_kernel *library,
                    struct tune_result *r);
/* After our kernel's plan(): what its explain() tells of the race. */
void depthwise_measured(struct step *s, const struct tune_result *r);
extern const struct layer_kernel onednn_depthwise;

#endif
