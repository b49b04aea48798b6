/* wasd/slice.h - a network of the first channels of each layer: what a width of DS-Net (arXiv 2103.13258) computes
 * with.
 *
 * Of a group of channels (wasd/channels.h) that is not fixed, a slice keeps the first wasd_slice_channels members; all
 * of its layers keep their order, as wasd/slim.h has it. */
#ifndef WASD_SLICE_H
#define WASD_SLICE_H

#include "wasd/mode.h"
#include "wasd/slim.h"

/* How many of `whole` channels stay: width * whole rounded to a multiple of 8, at least 8 and at least 90 % of it, as
 * DS-Net's make_divisible has it, and at most `whole`. */
int wasd_slice_channels(int whole, double width);
/* The name of a width's mode: "width:0.5". */
void wasd_slice_mode(double width, char out[WASD_MODE_LEN]);
/* width: above 0, at most 1. name and errors: as of wasd_slim_create. */
enum wasd_status wasd_slice_create(const struct wasd_graph *g, double width, const char *name, struct wasd_slim **out,
                                   struct wasd_err *err);

#endif
