/* base/json_text.h - pieces of JSON text. Private to core/base. */
#ifndef WASD_BASE_JSON_TEXT_H
#define WASD_BASE_JSON_TEXT_H

#include "wasd/base.h"

/* Appends s as a quoted JSON string. Ill-formed UTF-8 becomes U+FFFD, so the text is always valid JSON. */
bool json_put_string(struct wasd_buf *b, const char *s);

#endif
