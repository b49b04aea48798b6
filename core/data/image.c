/* image.c - one encoded picture to (c,h,w) bytes: finds the codec by the first bytes, then channels, then size. */
#include "data/image.h"
#include "wasd/foreign.h"

#include <string.h>

static const struct codec *const codecs[] = { &codec_jpeg, &codec_png };

static enum wasd_status unsupported(const uint8_t *p, size_t len, struct wasd_err *err)
{
	char text[WASD_FOREIGN_TEXT];
	if (!len)
		return wasd_fail(err, WASD_ECORRUPT, "empty file");
	if (wasd_foreign(WASD_READS_IMAGE, p, len, text))
		return wasd_fail(err, WASD_EUNSUPPORTED, "%s", text);
	return wasd_fail(err, WASD_EUNSUPPORTED, "neither PNG nor JPEG");
}

enum wasd_status image_check_size(const char *format, uint64_t w, uint64_t h, struct wasd_err *err)
{
	if (!w || !h)
		return wasd_fail(err, WASD_ECORRUPT, "%s: %llux%llu pixels", format, (unsigned long long)w, (unsigned long long)h);
	if (w > IMAGE_MAX_PIXELS || h > IMAGE_MAX_PIXELS || w * h > IMAGE_MAX_PIXELS)
		return wasd_fail(err, WASD_ETOOBIG, "%s: %llux%llu pixels, at most %llu in all", format, (unsigned long long)w, (unsigned long long)h,
		                 (unsigned long long)IMAGE_MAX_PIXELS);
	return WASD_OK;
}

/* (h,w,pc) -> (c,h,w). Grey is copied to each channel; grey of colour is ITU-R BT.601 luma, the one of JPEG:
 * 0.299 R + 0.587 G + 0.114 B in 16-bit fixed point. */
static void to_planes(const struct picture *p, int c, uint8_t *out)
{
	size_t hw = (size_t)p->h * (size_t)p->w;
	const uint8_t *q = p->data;
	if (p->c == 1)
		for (int k = 0; k < c; k++)
			memcpy(out + (size_t)k * hw, q, hw);
	else if (c == 1)
		for (size_t i = 0; i < hw; i++, q += 3)
			out[i] = (uint8_t)((19595u * q[0] + 38470u * q[1] + 7471u * q[2] + 32768u) >> 16);
	else
		for (size_t i = 0; i < hw; i++, q += 3)
			out[i] = q[0], out[hw + i] = q[1], out[2 * hw + i] = q[2];
}

enum wasd_status image_decode(const void *bytes, size_t len, int channels, int h, int w, uint8_t **out, int *oc, int *oh, int *ow,
                              struct wasd_err *err)
{
	const struct codec *codec = NULL;
	struct picture p = { 0 };
	uint8_t *planes = NULL, *sized = NULL;
	for (size_t i = 0; i < sizeof codecs / sizeof *codecs; i++)
		if (len >= codecs[i]->magic_len && !memcmp(bytes, codecs[i]->magic, codecs[i]->magic_len))
			codec = codecs[i];
	if (!codec)
		return unsupported(bytes, len, err);
	enum wasd_status s = codec->decode(bytes, len, channels == 1, &p, err);
	if (s)
		return s;
	int c = channels ? channels : p.c;
	size_t hw = (size_t)p.h * (size_t)p.w;
	if (!(planes = wasd_malloc(hw * (size_t)c)))
		s = wasd_fail(err, WASD_ENOMEM, "no memory for %dx%d pixels", p.w, p.h);
	else
		to_planes(&p, c, planes);
	wasd_free(p.data);
	if (!s && h > 0 && w > 0 && (h != p.h || w != p.w)) {
		sized = wasd_malloc((size_t)h * (size_t)w * (size_t)c);
		s = sized ? image_resize(planes, c, p.h, p.w, h, w, sized, err) : wasd_fail(err, WASD_ENOMEM, "no memory for %dx%d pixels", w, h);
		wasd_free(planes);
		planes = sized;
		p.h = h, p.w = w;
	}
	if (s) {
		wasd_free(planes);
		return s;
	}
	*out = planes;
	*oc = c, *oh = p.h, *ow = p.w;
	return WASD_OK;
}

enum wasd_status wasd_image_decode(const void *bytes, size_t len, int channels, int h, int w, uint8_t **out, int *oh, int *ow, struct wasd_err *err)
{
	int c, th, tw;
	if ((channels != 1 && channels != 3) || h < 0 || w < 0 || (uint64_t)h * (uint64_t)w > IMAGE_MAX_PIXELS)
		return wasd_fail(err, WASD_EINVAL, "cannot decode to %d channels of %dx%d", channels, w, h);
	return image_decode(bytes, len, channels, h, w, out, &c, oh ? oh : &th, ow ? ow : &tw, err);
}
