/* api/classify.h - the encoded images of a request: raw, multipart or base64. Used by classify and by the shims of
 * other servers' protocols. */
#ifndef API_CLASSIFY_H
#define API_CLASSIFY_H

#include "internal.h"

#define IMAGES_MAX 256

/* The images of one request, concatenated; for a form also its fields and the names of its parts. */
struct images {
	struct wasd_buf bytes;
	size_t size[IMAGES_MAX], n;
	char k[24], mode[96], logits[8]; /* "" = the form has no such field */
	char names[IMAGES_MAX][64];      /* for messages; "" = not from a form */
};
bool images_is(const char *p, size_t n); /* PNG or JPEG? */
/* Appends one image. pointer: its place in the request. False: the answer is in r. */
bool images_add(const struct api_request *q, struct api_response *r, struct images *im, const char *p, size_t n,
                const char *pointer);
/* Reads the body: its Content-Type tells a form and JSON, the bytes tell an image. False: the answer is in r. */
bool images_read(const struct api_request *q, struct api_response *r, struct images *im);
/* {"type": type, "sizes": [bytes of each image]} */
cJSON *images_question(const char *type, const struct images *im);

#endif
