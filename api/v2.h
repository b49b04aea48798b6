/* api/v2.h - shared by the routes of the Open Inference Protocol: the model, version and mode that a path names. */
#ifndef API_V2_H
#define API_V2_H

#include "internal.h"

/* "name", "name@dom", "name@dom:fast"; version "3", "3-dom", "3-dom:fast". alias and version_mode: the modes in the
 * two, NULL for none. */
struct model_ref {
	char name[128], version[128], *alias, *version_mode;
};
void v2_read_ref(const struct api_request *q, struct model_ref *m);
/* Does every deployment that has answered before answer now? */
bool v2_is_ready(struct api_ctx *c);
/* Collects the modes that m names, with value NULL where it names none. Returns the number of entries. */
size_t v2_ref_modes(const struct model_ref *m, struct mode_asked out[2]);
/* False: the answer is in r. */
bool v2_version_ok(const struct api_request *q, struct api_response *r, const struct model_ref *m, int64_t version);

#endif
