/* scrub.c - reads stored bytes again and compares them with their digests. */
#include "internal.h"
#include <stdio.h>
#include <string.h>

/* Compares one payload with its row. NULL: whole. */
static const char *payload_fault(struct conn *k, const char *id, int64_t want_bytes, const char *want_sha,
                                 struct wasd_sha256 *whole, enum wasd_status *st, struct wasd_err *err)
{
	int64_t num = 0, bytes = 0, n = 0, at = 0;
	char stored[WASD_SHA256_HEX] = "", hex[WASD_SHA256_HEX];
	const char *fault = NULL;
	bool there;
	sqlite3_stmt *q = q_begin(k, "SELECT num,bytes,sha256 FROM payloads WHERE id=?1 AND complete", st, err, "t", id);
	if ((there = q_row(k, q, st, err))) {
		num = sqlite3_column_int64(q, 0);
		bytes = sqlite3_column_int64(q, 1);
		snprintf(stored, sizeof stored, "%s", q_text(q, 2));
	}
	q_end(k, q);
	if (!there)
		return *st ? NULL : "its bytes are missing";
	if (bytes != want_bytes || strcmp(stored, want_sha))
		return "size or digest of its bytes differ from its row";
	q = q_begin(k, "SELECT n,sha256,data FROM chunks WHERE payload=?1 ORDER BY n", st, err, "i", num);
	for (; !fault && q_row(k, q, st, err); n++) {
		const void *data = sqlite3_column_blob(q, 2);
		const size_t len = (size_t)sqlite3_column_bytes(q, 2);
		const int64_t left = bytes - at, want = left < CHUNK ? left : CHUNK;
		if (sqlite3_column_int64(q, 0) != n || !data || (int64_t)len != want) {
			fault = "a chunk of its bytes is missing or has another size";
			break;
		}
		wasd_sha256_of(data, len, hex);
		if (strcmp(hex, q_text(q, 1)))
			fault = "a chunk of its bytes does not match its digest";
		wasd_sha256_update(whole, data, len);
		at += (int64_t)len;
	}
	q_end(k, q);
	if (*st || fault)
		return fault;
	if (at != bytes)
		return "a chunk of its bytes is missing or has another size";
	wasd_sha256_hex(whole, hex);
	return strcmp(hex, stored) ? "its bytes do not match their digest" : NULL;
}

enum wasd_status scrub_payloads(struct conn *m, struct conn *k, atomic_bool *stop, scrub_fault_fn *fault, void *ctx,
                                int64_t *checkpoints, int64_t *bytes, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	*checkpoints = *bytes = 0;
	sqlite3_stmt *q = q_begin(m, "SELECT id,bytes,sha256 FROM checkpoints WHERE NOT corrupt ORDER BY id", &st, err, "");
	while (q_row(m, q, &st, err)) {
		struct wasd_sha256 *whole = wasd_sha256_create();
		if (!whole)
			st = wasd_fail(err, WASD_ENOMEM, "no memory");
		const char *why = st ?
		                      NULL :
		                      payload_fault(k, q_text(q, 0), sqlite3_column_int64(q, 1), q_text(q, 2), whole, &st, err);
		wasd_sha256_destroy(whole);
		if (why) {
			char object[80];
			snprintf(object, sizeof object, "checkpoint/%.60s", q_text(q, 0));
			fault(ctx, object, why);
		}
		++*checkpoints;
		*bytes += sqlite3_column_int64(q, 1);
		if (!st && stop && atomic_load(stop))
			st = wasd_fail(err, WASD_ECANCELLED, "the daemon is ending");
	}
	q_end(m, q);
	return st;
}
