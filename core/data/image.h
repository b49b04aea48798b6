/* data/image.h - decoded pictures inside core/data. One file per codec (jpeg.c, png.c), each a row of the table in image.c. */
#ifndef DATA_IMAGE_H
#define DATA_IMAGE_H

#include "wasd/data.h"

#define IMAGE_MAX_PIXELS ((uint64_t)16 << 20)

/* (h,w,c) u8, interleaved as codecs give it; c = 1 grey or 3 RGB. data is for wasd_free. */
struct picture { int c, h, w; uint8_t *data; };

struct codec {
	const char *name;
	const char *magic; size_t magic_len;    /* the first bytes of such a file */
	/* Decodes in the file's own size; grey: 1 if colour is to come out as grey, else the file's own channels.
	 * WASD_ECORRUPT for damage, WASD_ETOOBIG for a limit, WASD_EUNSUPPORTED for a variant we do not read. */
	enum wasd_status (*decode)(const void *bytes, size_t len, bool grey, struct picture *out, struct wasd_err *err);
};
extern const struct codec codec_jpeg, codec_png;

/* WASD_ETOOBIG above IMAGE_MAX_PIXELS, WASD_ECORRUPT for an empty picture. */
enum wasd_status image_check_size(const char *format, uint64_t w, uint64_t h, struct wasd_err *err);

/* As wasd_image_decode, with channels 0 = the file's own, told in *oc. */
enum wasd_status image_decode(const void *bytes, size_t len, int channels, int h, int w, uint8_t **out, int *oc, int *oh, int *ow,
                              struct wasd_err *err);

/* (c,h,w) -> (c,oh,ow): separable triangle filter, as wide as the shrinking factor (antialiasing), at least one pixel. */
enum wasd_status image_resize(const uint8_t *chw, int c, int h, int w, int oh, int ow, uint8_t *out, struct wasd_err *err);

#endif
