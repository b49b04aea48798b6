/* wasd/pixel.h - the conversion of a pixel to a number: one rule for training, serving and the API. */
#ifndef WASD_PIXEL_H
#define WASD_PIXEL_H

#include "wasd/json.h"
#include "wasd/tensor.h"

/* (v/255 - mean)/std for a pixel v from 0 to 255 (web/docs/inference.md#pixels). Channels are RGB, or grey. Recorded
 * with checkpoints and applied wherever pixels become numbers. */
struct wasd_pixels {
	double mean[3], std[3];
};
extern const struct wasd_pixels wasd_pixels_half; /* mean and std of 1/2: -1 to 1; that of files without a record */

static inline double wasd_pixel(const struct wasd_pixels *p, int channel, double v)
{
	return (v / 255.0 - p->mean[channel]) / p->std[channel];
}

/* Of every pixel value of a channel. */
void wasd_pixels_table(const struct wasd_pixels *p, int channel, real value[256]);
bool wasd_pixels_are_half(const struct wasd_pixels *p);
/* {"mean":[...],"std":[...]} of c channels; NULL: out of memory. */
cJSON *wasd_pixels_to_json(const struct wasd_pixels *p, int c);
/* Reads such an object for images of c channels; one number stands for all channels. WASD_EINVAL with the pointer
 * at + member. */
enum wasd_status wasd_pixels_read(const cJSON *j, const char *at, int c, struct wasd_pixels *out, struct wasd_err *err);
/* The rule as text, for the metadata of exported files: "(v / 255 - 0.5) / 0.5"; NULL: out of memory. Free it with
 * wasd_free. */
char *wasd_pixels_rule(const struct wasd_pixels *p, int c);

#endif
