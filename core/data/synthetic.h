/* data/synthetic.h - one row of the table of built-in synthetic sets (synthetic.c). A new set is one file with one
 * descriptor. */
#ifndef DATA_SYNTHETIC_H
#define DATA_SYNTHETIC_H

#include "wasd/data.h"

struct synthetic {
	const char *name;
	struct wasd_shape shape;
	int n_classes;
	const char *const *classes;
	/* Draws one image of class `label` into chw. Uses only r, a stream private to this image of this split. */
	void (*render)(struct wasd_rng *r, int label, uint8_t *chw);
};

extern const struct synthetic synthetic_glyphs;

#endif
