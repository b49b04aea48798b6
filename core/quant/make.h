/* quant/make.h - makes an int8 network of a folded one: ranges of its values on calibration images, and 8-bit weights.
 *
 * Values behind an activation are u8, all others s8, without a zero point; the images are s8 of scale 1/127, or a
 * larger one if a job's own rule for pixels makes them larger than 1. The inputs and the output of a concat, of a
 * max-pool and of a flatten share the larger range, so that they only move. Float stay: a linear layer whose chain ends
 * in the output, sums over windows (up to 49 times as large as what they sum) and the means of whole maps, with the
 * layers that read them.
 */
#ifndef QUANT_MAKE_H
#define QUANT_MAKE_H

#include "quant/quant.h"
#include "wasd/data.h"

enum quant_ranges { QUANT_MINMAX, QUANT_KL, QUANT_KL_CLIP }; /* quant/range.h */

struct quant_how {
	bool split;               /* the weights of summed branches as CFWS (quant/split.h) */
	enum quant_ranges ranges; /* of what is stored between layers */
	int bits;                 /* 4 to 8, of weights and values; 0: 8. Below 8 only for simulations: kernels saturate at
	                             8 bits */
};

/* What the network is calibrated on: the first `batches` batches of a loader, or one batch that is given. go_on is
 * called before each of the loader's; false ends the calibration with WASD_ECANCELLED. */
struct quant_images {
	const struct wasd_batch *given; /* NULL: from the loader */
	struct wasd_loader *loader;
	uint32_t batches;
	int batch; /* the most images of one */
	int *seen; /* counts the loader's images, once each; NULL: nobody asks */
	bool (*go_on)(void *ctx, int done, int of);
	void *ctx;
};

/* summed: per node, a convolution made of parallel branches. Free *out with quant_made_destroy.
 * WASD_ENUMERIC, with the layer: a value that is not finite. WASD_EUNSUPPORTED: no layer can compute in 8 bits. */
enum wasd_status quant_make(struct wasd_model *m, const bool *summed, const struct quant_images *images,
                            const struct quant_how *how, struct wasd_quant **out, struct wasd_err *err);
/* Without layers in 8 bits, all values float; every array of it is allocated by itself. NULL: no memory. */
struct wasd_quant *quant_made_create(int nodes);
void quant_made_destroy(struct wasd_quant *q); /* NULL: nothing */

#endif
