/* exif.c - reads one number from a block of Exif data: the orientation (CIPA DC-008, tag 0x0112 of the 0th IFD).
 *
 *     TIFF header   "II" 42 or "MM" 42 (the byte order), u32 offset of the 0th IFD
 *     IFD           u16 number of entries, then 12 bytes each: u16 tag, u16 type, u32 count, the value left-aligned in
 * 4 bytes */
#include "data/image.h"

enum { TAG_ORIENTATION = 0x0112, TYPE_SHORT = 3, TYPE_LONG = 4 };

struct block {
	const uint8_t *p;
	size_t n;
	bool big_endian;
};

/* Reads an integer of 2 or 4 bytes; 0 beyond the end. */
static uint32_t number(const struct block *b, size_t at, int bytes)
{
	uint32_t v = 0;
	if (at > b->n || b->n - at < (size_t)bytes)
		return 0;
	for (int i = 0; i < bytes; i++)
		v = v << 8 | b->p[at + (size_t)(b->big_endian ? i : bytes - 1 - i)];
	return v;
}

int exif_orientation(const uint8_t *tiff, size_t n)
{
	struct block b = {tiff, n, n >= 2 && tiff[0] == 'M'};
	if (n < 8 || tiff[0] != tiff[1] || (tiff[0] != 'M' && tiff[0] != 'I') || number(&b, 2, 2) != 42)
		return 0;
	size_t ifd = number(&b, 4, 4), entries = number(&b, ifd, 2);
	for (size_t i = 0; i < entries; i++) {
		size_t at = ifd + 2 + 12 * i;
		uint32_t type = number(&b, at + 2, 2);
		if (number(&b, at, 2) != TAG_ORIENTATION)
			continue;
		uint32_t v = type == TYPE_SHORT ? number(&b, at + 8, 2) : type == TYPE_LONG ? number(&b, at + 8, 4) : 0;
		return v <= 8 ? (int)v : 0;
	}
	return 0;
}
