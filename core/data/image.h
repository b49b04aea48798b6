/* data/image.h - decoded pictures; private to core/data. One file per codec (jpeg.c, png.c), each a row of the table in
 * image.c. */
#ifndef DATA_IMAGE_H
#define DATA_IMAGE_H

#include "wasd/data.h"

#define IMAGE_MAX_PIXELS ((uint64_t)16 << 20) /* limit for a picture decoded at full size */
#define IMAGE_MAX_STORED ((uint64_t)64 << 20) /* limit for a picture decoded at a reduced scale */

/* What was done to a picture while decoding; becomes a remark about the data set. */
enum { NOTE_TURNED = 1, NOTE_FLATTENED = 2, NOTE_CMYK = 4, NOTE_REDUCED = 8, NOTE_ODD = 16 };

/* (h,w,c) u8, interleaved as the codecs deliver it; c = 1 grey or 3 RGB. Free data with wasd_free. */
struct picture {
	int c, h, w;
	uint8_t *data;
	int orientation; /* EXIF: 1 to 8, 0 = unknown */
	unsigned notes;
	char odd[80]; /* with NOTE_ODD: the decoder's message */
};

/* The request to a codec. side: the longer side of the target; 0 = decode at the picture's own size. */
struct wanted {
	bool grey;
	int side;
	const struct wasd_prepare *how;
};

struct codec {
	const char *name;
	const char *magic;
	size_t magic_len; /* the first bytes of such a file */
	/* Decodes at the file's own size, or smaller by an integer factor where w allows it. If w->grey, colour may be
	 * decoded as grey. WASD_ECORRUPT for damage, WASD_ETOOBIG for a limit, WASD_EUNSUPPORTED for a variant we do not
	 * read. */
	enum wasd_status (*decode)(const void *bytes, size_t len, const struct wanted *w, struct picture *out,
	                           struct wasd_err *err);
};
extern const struct codec codec_jpeg, codec_png;

/* WASD_ETOOBIG above IMAGE_MAX_STORED, WASD_ECORRUPT for an empty picture. */
enum wasd_status image_check_size(const char *format, uint64_t w, uint64_t h, struct wasd_err *err);
/* WASD_ETOOBIG: the picture is over IMAGE_MAX_PIXELS, and the target is too large for reducing it below that. */
enum wasd_status image_not_reducible(const char *format, uint64_t w, uint64_t h, const struct wanted *want,
                                     struct wasd_err *err);

/* exif.c: the orientation from a block of Exif data that begins with its TIFF header: 1 to 8, 0 = not found. */
int exif_orientation(const uint8_t *tiff, size_t n);

struct image {
	uint8_t *chw;
	int c, h, w;
	unsigned notes;
	char odd[80];
};
/* Like wasd_image_decode, but channels = 0 keeps the file's own. Free out->chw with wasd_free. */
enum wasd_status image_decode(const void *bytes, size_t len, int channels, int h, int w, const struct wasd_prepare *how,
                              struct image *out, struct wasd_err *err);

/* (c,h,w) -> (c,oh,ow): separable triangle filter, as wide as the shrink factor (antialiasing) and at least one
 * pixel. */
enum wasd_status image_resize(const uint8_t *chw, int c, int h, int w, int oh, int ow, uint8_t *out,
                              struct wasd_err *err);
/* The same for a part of the picture: the largest one with the target's aspect ratio, at a position along the side that
 * is too long. */
enum crop_at { CROP_START, CROP_CENTRE, CROP_END };
enum wasd_status image_crop(const uint8_t *chw, int c, int h, int w, enum crop_at at, int oh, int ow, uint8_t *out,
                            struct wasd_err *err);
/* How many crops WASD_CROPS makes of a picture: 1 if a crop leaves out at most one row or column, else WASD_CROPS_MAX.
 */
int image_crops(int h, int w, int oh, int ow);
/* The same for the part of the picture that `fit` selects for a data set: all of it, or the crop at its centre. */
enum wasd_status image_fit(const uint8_t *chw, int c, int h, int w, enum wasd_fit fit, int oh, int ow, uint8_t *out,
                           struct wasd_err *err);

#endif
