/* convert/protobuf.h - the wire format of protocol buffers, as far as writing needs it. A message is a sequence of
 * fields. Each field has a number (field << 3 | type) as a varint, followed by a varint, four bytes, or a length and
 * that many bytes (a string or a message). The buffer remembers failures. */
#ifndef CONVERT_PROTOBUF_H
#define CONVERT_PROTOBUF_H

#include "wasd/base.h"

#include <string.h>

static inline size_t pb_varint_size(uint64_t v)
{
	size_t n = 1;
	while (v >>= 7)
		n++;
	return n;
}

/* Seven bits per byte, lowest first; the top bit means that more bytes follow. */
static inline void pb_varint(struct wasd_buf *b, uint64_t v)
{
	char out[10];
	size_t n = 0;
	for (; v >= 128; v >>= 7)
		out[n++] = (char)(v | 128);
	out[n++] = (char)v;
	wasd_buf_append(b, out, n);
}

static inline void pb_int(struct wasd_buf *b, unsigned field, int64_t v)
{
	pb_varint(b, field << 3);
	pb_varint(b, (uint64_t)v);
}

static inline void pb_float(struct wasd_buf *b, unsigned field, float v)
{
	pb_varint(b, field << 3 | 5);
	wasd_buf_append(b, &v, sizeof v);
}

/* Writes the header of a field of len bytes, which the caller appends. */
static inline void pb_head(struct wasd_buf *b, unsigned field, size_t len)
{
	pb_varint(b, field << 3 | 2);
	pb_varint(b, len);
}

static inline void pb_bytes(struct wasd_buf *b, unsigned field, const void *p, size_t len)
{
	pb_head(b, field, len);
	wasd_buf_append(b, p, len);
}

static inline void pb_string(struct wasd_buf *b, unsigned field, const char *s)
{
	pb_bytes(b, field, s, strlen(s));
}

/* Appends the message sub as a field, and empties sub. */
static inline void pb_message(struct wasd_buf *b, unsigned field, struct wasd_buf *sub)
{
	b->failed |= sub->failed;
	pb_bytes(b, field, sub->data, sub->len);
	sub->len = 0;
}

#endif
