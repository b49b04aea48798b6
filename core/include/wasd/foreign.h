/* wasd/foreign.h - files of other programs, known by their first bytes, and what to send in their place: one table for
 * every reader. */
#ifndef WASD_FOREIGN_H
#define WASD_FOREIGN_H

#include "wasd/base.h"

enum wasd_reader { WASD_READS_DATASET, WASD_READS_WEIGHTS, WASD_READS_IMAGE, WASD_READS_JSON, WASD_READERS };

#define WASD_FOREIGN_TEXT 200
enum { WASD_FOREIGN_HEAD = 512 }; /* first bytes that are looked at, at most */
/* "this is a NumPy .npz file; send the four IDX files instead" for a reader that does not take it. False: of no kind
 * that is known, or of one that this reader takes. head: the first n bytes, borrowed; fewer than there could be tell
 * less. */
bool wasd_foreign(enum wasd_reader reader, const void *head, size_t n, char text[WASD_FOREIGN_TEXT]);
/* The same by a kind's name ("NumPy .npz file"), for a kind that is known in another way. */
void wasd_foreign_named(enum wasd_reader reader, const char *kind, char text[WASD_FOREIGN_TEXT]);

#endif
