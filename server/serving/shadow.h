/* server/serving/shadow.h - how a shadow mode agrees with the answers: counts in total and per class, and a few images
 * on which they differ. No locks, no clock. */
#ifndef SERVER_SERVING_SHADOW_H
#define SERVER_SERVING_SHADOW_H

#include "wasd/json.h"
#include "wasd/mode.h"

enum { SHADOW_EXAMPLES = 16, SHADOW_EXAMPLE_MAX = 256 << 10 };

struct shadow {
	char mode[WASD_MODE_LEN], bundle[48]; /* what is counted; a change of either begins at zero */
	int64_t agree, disagree, dropped, failed, pending;
	int64_t (*by_class)[2]; /* agree, disagree; by the class of the answer */
	int64_t classes;
	struct shadow_example {
		int64_t id; /* 0: empty */
		char *bytes;
		size_t len;
		const char *type; /* Content-Type */
		int32_t answer, shadow;
		int64_t at_ms;
	} example[SHADOW_EXAMPLES];
	int64_t examples; /* how many there ever were */
};

/* The counts are for this mode and bundle from now on. */
void shadow_begin(struct shadow *s, const char *mode, const char *bundle, int64_t classes);
void shadow_compare(struct shadow *s, int32_t answer, int32_t shadow);
/* Keeps a copy of the image, unless it is larger than SHADOW_EXAMPLE_MAX; most: number of examples to keep. */
void shadow_keep(struct shadow *s, int64_t most, const void *bytes, size_t len, const char *type, int32_t answer,
                 int32_t shadow, int64_t at_ms);
void shadow_forget(struct shadow *s);                                            /* the examples */
const struct shadow_example *shadow_example(const struct shadow *s, int64_t id); /* NULL: gone, or never there */
/* {"mode","agree","disagree","agreement":X|null,"dropped","failed","pending","classes":{LABEL:{"agree","disagree"}},
 *  "examples":[{"id","answer","shadow","type","bytes","at"}]}; labels: array of the class names. */
cJSON *shadow_json(const struct shadow *s, const cJSON *labels);
void shadow_done(struct shadow *s);

#endif
