/* augment/augment.h - the table of image augmentations. An augmentation is one file with one descriptor.
 *
 * The loader applies the augmentations of a run in the order of the table, whatever order the job lists them in. Those
 * of one image draw from stream ("augment", epoch, position), those of a batch from ("mix", epoch, batch). So an image
 * depends on nothing but the seed and its place, and a resumed run continues with the same bits. */
#ifndef AUGMENT_AUGMENT_H
#define AUGMENT_AUGMENT_H

#include "wasd/spec.h"
#include "wasd/tensor.h"

/* One image: (c,h,w) u8, changed in place. */
struct augment_image {
	uint8_t *px;
	uint8_t *spare; /* room for another image; its content is undefined */
	struct wasd_shape shape;
	uint8_t mean[3]; /* the mean of each channel of the data set, to fill with */
};

/* One batch: (n,c,h,w), changed in place. */
struct augment_batch {
	real *x;
	int32_t *y, *other; /* per image: the label of the larger part, and that of the rest */
	int n;
	struct wasd_shape shape;
	double rest; /* weight of `other` in the label, 0 to 1/2 */
};

enum { AUGMENT_OPTIONS = 8 };

struct augment_kind {
	const char *name, *summary;
	const struct wasd_field *options; /* numbers, at most AUGMENT_OPTIONS; NULL: none */
	/* o: the options in the order of the rows. Exactly one of the two is set. Both keep every value within its range.
	 * A batch is left alone or mixed once: of several such augmentations, each batch takes one at random. */
	void (*image)(const double *o, struct wasd_rng *r, struct augment_image *x);
	void (*batch)(const double *o, struct wasd_rng *r, struct augment_batch *b);
	/* Whether the options suit images of this shape; NULL: they always do. */
	enum wasd_status (*check)(const double *o, struct wasd_shape s, struct wasd_err *err);
};

const struct augment_kind *augment_kind_at(int i); /* NULL after the last */
const struct augment_kind *augment_kind_find(const char *name);
extern const struct augment_kind augment_crop, augment_flip, augment_randaugment, augment_color_jitter, augment_cutout,
	augment_mixup, augment_cutmix;

/* The augmentations of a run, in the order of the table. */
enum { AUGMENT_MAX = 16 };
struct augment_list {
	int n;
	struct {
		const struct augment_kind *kind;
		double option[AUGMENT_OPTIONS];
	} item[AUGMENT_MAX];
};

/* list: an array of names and objects with a type, each type at most once; NULL: none. Errors name members below the
 * JSON pointer `at`. */
enum wasd_status augment_read(const cJSON *list, const char *at, struct augment_list *out, struct wasd_err *err);
enum wasd_status augment_check(const struct augment_list *a, struct wasd_shape s, struct wasd_err *err);
bool augment_changes_images(const struct augment_list *a);
bool augment_mixes(const struct augment_list *a); /* whether it changes batches */
void augment_image(const struct augment_list *a, struct wasd_rng *r, struct augment_image *x);
void augment_batch(const struct augment_list *a, struct wasd_rng *r, struct augment_batch *b);

/* ---- pixels.c: operations on one image that several kinds use; u8 after each, as in torchvision -------------------
 */

/* Blends towards black, the grey mean of the image, or its grey version: factor 1 changes nothing, 0 takes the other
 * image, above 1 leads away from it. Values are cut to 0..255 and truncated. */
void pixels_brightness(struct augment_image *x, double factor);
void pixels_contrast(struct augment_image *x, double factor);
void pixels_saturation(struct augment_image *x, double factor);
/* Turns the hue by `turn` of the colour circle, -1/2 to 1/2. Like saturation it does nothing unless there are three
 * channels. */
void pixels_hue(struct augment_image *x, double turn);
void pixels_sharpness(struct augment_image *x, double factor);   /* blends towards a blurred version */
void pixels_posterize(struct augment_image *x, double bits);     /* keeps the high bits of a value */
void pixels_solarize(struct augment_image *x, double threshold); /* inverts values from there on */
/* Spread the values of each channel: from darkest to lightest, or by frequency. The number is not used. */
void pixels_autocontrast(struct augment_image *x, double unused);
void pixels_equalize(struct augment_image *x, double unused);
/* Blends two values and cuts the result to a byte. */
uint8_t pixels_blend(double a, double b, double factor);

#endif
