/* image.c - decodes one picture to (c,h,w) bytes: finds the codec by the first bytes, then converts channels, then
 * resizes. */
#include "data/image.h"
#include "wasd/foreign.h"

#include <string.h>

static const struct codec *const codecs[] = {&codec_jpeg, &codec_png};

static enum wasd_status unsupported(const uint8_t *p, size_t len, struct wasd_err *err)
{
	char text[WASD_FOREIGN_TEXT];
	if (!len)
		return wasd_fail(err, WASD_ECORRUPT, "empty file");
	if (wasd_foreign(WASD_READS_IMAGE, p, len, text))
		return wasd_fail(err, WASD_EUNSUPPORTED, "%s", text);
	return wasd_fail(err, WASD_EUNSUPPORTED, "neither a PNG nor a JPEG file");
}

enum wasd_status image_check_size(const char *format, uint64_t w, uint64_t h, struct wasd_err *err)
{
	if (!w || !h)
		return wasd_fail(err, WASD_ECORRUPT, "%s: %llux%llu pixels", format, (unsigned long long)w,
		                 (unsigned long long)h);
	if (w > IMAGE_MAX_STORED || h > IMAGE_MAX_STORED || w * h > IMAGE_MAX_STORED)
		return wasd_fail(err, WASD_ETOOBIG, "%s: %llux%llu pixels; at most %llu in all are allowed", format,
		                 (unsigned long long)w, (unsigned long long)h, (unsigned long long)IMAGE_MAX_STORED);
	return WASD_OK;
}

enum wasd_status image_not_reducible(const char *format, uint64_t w, uint64_t h, const struct wanted *want,
                                     struct wasd_err *err)
{
	if (!want->side)
		return wasd_fail(err, WASD_ETOOBIG,
		                 "%s: %llux%llu pixels; at most %llu in all are allowed unless a size to reduce to is given",
		                 format, (unsigned long long)w, (unsigned long long)h, (unsigned long long)IMAGE_MAX_PIXELS);
	return wasd_fail(err, WASD_ETOOBIG,
	                 "%s: %llux%llu pixels; a size of %d is too large to reduce the picture to %llu while decoding",
	                 format, (unsigned long long)w, (unsigned long long)h, want->side,
	                 (unsigned long long)IMAGE_MAX_PIXELS);
}

/* Destination of the pixel (x,y) of a stored picture: at + x*dx + y*dy, for the eight orientations of EXIF. */
struct turn {
	size_t at;
	ptrdiff_t dx, dy;
};

static struct turn turn_of(const struct picture *p, int orientation)
{
	/* Mirrored along the stored x or y; orientations 5 and up also swap x and y. */
	static const bool flip_x[9] = {[2] = true, [3] = true, [7] = true, [8] = true},
					  flip_y[9] = {[3] = true, [4] = true, [6] = true, [7] = true};
	ptrdiff_t w = p->w, h = p->h, dx = orientation > 4 ? h : 1, dy = orientation > 4 ? 1 : w;
	bool fx = flip_x[orientation], fy = flip_y[orientation];
	return (struct turn){(size_t)((fx ? (w - 1) * dx : 0) + (fy ? (h - 1) * dy : 0)), fx ? -dx : dx, fy ? -dy : dy};
}

/* Grey from colour is the ITU-R BT.601 luma that JPEG uses: 0.299 R + 0.587 G + 0.114 B in 16-bit fixed point. */
static uint8_t luma(const uint8_t *q)
{
	return (uint8_t)((19595u * q[0] + 38470u * q[1] + 7471u * q[2] + 32768u) >> 16);
}

/* (h,w,pc) -> (c,h,w), turned according to `orientation`. Grey is copied to every channel. */
static void to_planes(const struct picture *p, int c, int orientation, uint8_t *out)
{
	size_t hw = (size_t)p->h * (size_t)p->w;
	struct turn t = turn_of(p, orientation);
	const uint8_t *q = p->data;
	for (int y = 0; y < p->h; y++) {
		uint8_t *o = out + ((ptrdiff_t)t.at + y * t.dy);
		for (int x = 0; x < p->w; x++, q += p->c, o += t.dx) {
			*o = p->c == 3 && c == 1 ? luma(q) : q[0];
			for (int k = 1; k < c; k++)
				o[(size_t)k * hw] = q[p->c == 3 ? k : 0];
		}
	}
}

/* Converts the picture to planes, turned upright if `how` asks for it. */
static enum wasd_status picture_planes(const struct picture *p, int c, const struct wasd_prepare *how,
                                       struct image *out, struct wasd_err *err)
{
	int turn = how->upright && p->orientation ? p->orientation : 1;
	uint8_t *planes = wasd_malloc((size_t)p->h * (size_t)p->w * (size_t)c);
	if (!planes)
		return wasd_fail(err, WASD_ENOMEM, "no memory for %dx%d pixels", p->w, p->h);
	to_planes(p, c, turn, planes);
	*out = (struct image){planes,
	                      c,
	                      turn > 4 ? p->w : p->h,
	                      turn > 4 ? p->h : p->w,
	                      p->notes | (turn > 1 ? NOTE_TURNED : 0),
	                      ""};
	memcpy(out->odd, p->odd, sizeof out->odd);
	return WASD_OK;
}

/* im->chw becomes n pictures of h x w: the crops of one picture, or what fit selects. */
static enum wasd_status bring_to_size(struct image *im, int h, int w, enum wasd_fit fit, int n, struct wasd_err *err)
{
	size_t size = (size_t)h * (size_t)w * (size_t)im->c;
	uint8_t *sized = wasd_malloc((size_t)n * size);
	enum wasd_status s = sized ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "no memory for %dx%d pixels", w, h);
	for (int i = 0; !s && i < n; i++)
		s = n > 1 ? image_crop(im->chw, im->c, im->h, im->w, (enum crop_at)i, h, w, sized + (size_t)i * size, err) :
		            image_fit(im->chw, im->c, im->h, im->w, fit, h, w, sized, err);
	wasd_free(s ? sized : im->chw);
	if (!s)
		im->chw = sized, im->h = h, im->w = w;
	return s;
}

/* crops: receives the number of pictures in out; NULL: one is wanted. */
static enum wasd_status decode(const void *bytes, size_t len, int channels, int h, int w,
                               const struct wasd_prepare *how, int *crops, struct image *out, struct wasd_err *err)
{
	int n = 1;
	const struct codec *codec = NULL;
	struct wanted want = {channels == 1, h > w ? h : w, how};
	struct picture p = {0};
	struct image im;
	for (size_t i = 0; i < sizeof codecs / sizeof *codecs; i++)
		if (len >= codecs[i]->magic_len && !memcmp(bytes, codecs[i]->magic, codecs[i]->magic_len))
			codec = codecs[i];
	if (!codec)
		return unsupported(bytes, len, err);
	enum wasd_status s = codec->decode(bytes, len, &want, &p, err);
	if (s)
		return s;
	s = picture_planes(&p, channels ? channels : p.c, how, &im, err);
	wasd_free(p.data);
	if (s)
		return s;
	if (crops && how->fit == WASD_CROPS && h > 0 && w > 0)
		n = image_crops(im.h, im.w, h, w);
	if (h > 0 && w > 0 && (h != im.h || w != im.w) && (s = bring_to_size(&im, h, w, how->fit, n, err))) {
		wasd_free(im.chw);
		return s;
	}
	*out = im;
	if (crops)
		*crops = n;
	return WASD_OK;
}

enum wasd_status image_decode(const void *bytes, size_t len, int channels, int h, int w, const struct wasd_prepare *how,
                              struct image *out, struct wasd_err *err)
{
	return decode(bytes, len, channels, h, w, how, NULL, out, err);
}

enum wasd_status wasd_image_decode(const void *bytes, size_t len, int channels, int h, int w,
                                   const struct wasd_prepare *how, uint8_t **out, int *oh, int *ow, int *crops,
                                   struct wasd_err *err)
{
	struct image im;
	if ((channels != 1 && channels != 3) || h < 0 || w < 0 || (uint64_t)h * (uint64_t)w > IMAGE_MAX_PIXELS)
		return wasd_fail(err, WASD_EINVAL, "cannot decode to %d channels of %dx%d", channels, w, h);
	enum wasd_status s = decode(bytes, len, channels, h, w, how, crops, &im, err);
	if (s)
		return s;
	*out = im.chw;
	if (oh)
		*oh = im.h;
	if (ow)
		*ow = im.w;
	return WASD_OK;
}
