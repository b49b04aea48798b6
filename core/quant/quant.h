/* quant/quant.h - int8 networks (wasd/quant.h): whether one is sound, and copies. */
#ifndef QUANT_QUANT_H
#define QUANT_QUANT_H

#include "wasd/graph.h"
#include "wasd/quant.h"

struct node;

/* The most products of u8 and s8 that a sum of 32 bits holds: taps times input channels of a group. Weights of -128 are
 * never made, but may be in a file: (2^31 - 1) / (255 * 128). */
#define QUANT_PRODUCTS_MAX 65793

/* Whether a 1x1 kernel without padding computes, from the tap in the middle alone, a map of n's size. */
bool quant_has_middle(const struct node *n);

/* WASD_EINVAL, with the layer's name: q does not suit the folded network m, or has a scale that is not above 0, a layer
 * with `on` that has no weights, reads float, has more products than QUANT_PRODUCTS_MAX or a bias that is not finite in
 * units of its sums, or an output that is not F32. */
enum wasd_status quant_check(const struct wasd_model *m, const struct wasd_quant *q, struct wasd_err *err);

/* A copy that owns its arrays and weights, for quant_destroy. q is sound. */
enum wasd_status quant_copy(const struct wasd_graph *g, const struct wasd_quant *q, struct wasd_quant **out,
                            struct wasd_err *err);
void quant_destroy(struct wasd_quant *q);                                   /* what quant_copy made, or NULL */
size_t quant_bytes(const struct wasd_graph *g, const struct wasd_quant *q); /* of a copy */

#endif
