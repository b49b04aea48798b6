/* ckpt_rows.h - functions of checkpoints.c that payload.c needs to list a checkpoint whose bytes are durable.
 * Private to storage. */
#ifndef STORAGE_CKPT_ROWS_H
#define STORAGE_CKPT_ROWS_H

#include "storage.h"

/* id "" when this checkpoint was not sent before. */
enum wasd_status ckpt_find_same(struct storage *s, const struct storage_ckpt_in *in, char id[32], struct wasd_err *err);
struct ckpt_insert {
	const struct storage_ckpt_in *in;
	const char *id;
};
/* Manifest, metrics, progress, events, retention. */
enum wasd_status ckpt_insert_tx(struct storage *s, void *ctx, struct wasd_err *err);

#endif
