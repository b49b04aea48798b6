/* wasd/pixel.h - the conversion of a pixel to a number: one rule for training, serving and the API. */
#ifndef WASD_PIXEL_H
#define WASD_PIXEL_H

/* v: 0 to 255 -> -1 to 1, as a double (web/docs/inference.md#pixels). Channels are RGB, or grey. */
#define WASD_PIXEL(v) (((v) / 255.0 - 0.5) / 0.5)

#endif
