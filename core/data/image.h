/* data/image.h - decoded pictures inside core/data. One file per codec (jpeg.c, png.c), each a row of the table in
 * image.c. */
#ifndef DATA_IMAGE_H
#define DATA_IMAGE_H

#include "wasd/data.h"

#define IMAGE_MAX_PIXELS ((uint64_t)16 << 20) /* of a picture in full */
#define IMAGE_MAX_STORED ((uint64_t)64 << 20) /* of one that is read at a reduced scale */

/* What happened to a picture on the way, for the remarks about a data set. */
enum { NOTE_TURNED = 1, NOTE_FLATTENED = 2, NOTE_CMYK = 4, NOTE_REDUCED = 8, NOTE_ODD = 16 };

/* (h,w,c) u8, interleaved as codecs give it; c = 1 grey or 3 RGB. data is for wasd_free. */
struct picture {
	int c, h, w;
	uint8_t *data;
	int orientation; /* EXIF: 1 to 8, 0 = not said */
	unsigned notes;
	char odd[80]; /* with NOTE_ODD: the decoder's words */
};

/* What a codec is asked for. side: the longer side of the target, 0 = the picture's own size is wanted. */
struct wanted {
	bool grey;
	int side;
	const struct wasd_prepare *how;
};

struct codec {
	const char *name;
	const char *magic;
	size_t magic_len; /* the first bytes of such a file */
	/* Decodes in the file's own size, or smaller by a whole factor where w allows that; w->grey: colour may come out as
	 * grey. WASD_ECORRUPT for damage, WASD_ETOOBIG for a limit, WASD_EUNSUPPORTED for a variant we do not read. */
	enum wasd_status (*decode)(const void *bytes, size_t len, const struct wanted *w, struct picture *out,
	                           struct wasd_err *err);
};
extern const struct codec codec_jpeg, codec_png;

/* WASD_ETOOBIG above IMAGE_MAX_STORED, WASD_ECORRUPT for an empty picture. */
enum wasd_status image_check_size(const char *format, uint64_t w, uint64_t h, struct wasd_err *err);
/* WASD_ETOOBIG: it is over IMAGE_MAX_PIXELS, and the target is not so small that it may be reduced to fewer. */
enum wasd_status image_not_reducible(const char *format, uint64_t w, uint64_t h, const struct wanted *want,
                                     struct wasd_err *err);

/* exif.c: the orientation in a block of Exif data that begins with its TIFF header: 1 to 8, 0 = none that could be
 * found. */
int exif_orientation(const uint8_t *tiff, size_t n);

struct image {
	uint8_t *chw;
	int c, h, w;
	unsigned notes;
	char odd[80];
};
/* As wasd_image_decode, with channels 0 = the file's own. out->chw is for wasd_free. */
enum wasd_status image_decode(const void *bytes, size_t len, int channels, int h, int w, const struct wasd_prepare *how,
                              struct image *out, struct wasd_err *err);

/* (c,h,w) -> (c,oh,ow): separable triangle filter, as wide as the shrinking factor (antialiasing), at least one pixel.
 */
enum wasd_status image_resize(const uint8_t *chw, int c, int h, int w, int oh, int ow, uint8_t *out,
                              struct wasd_err *err);
/* The same of the picture's part that the fit selects: all of it, or the centre that has the target's aspect. */
enum wasd_status image_fit(const uint8_t *chw, int c, int h, int w, enum wasd_fit fit, int oh, int ow, uint8_t *out,
                           struct wasd_err *err);

#endif
