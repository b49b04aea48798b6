/* wasd/foreign.h - recognises files of other programs by their first bytes, and says what to send instead: one table
 * for all readers. */
#ifndef WASD_FOREIGN_H
#define WASD_FOREIGN_H

#include "wasd/base.h"

enum wasd_reader { WASD_READS_DATASET, WASD_READS_WEIGHTS, WASD_READS_IMAGE, WASD_READS_JSON, WASD_READERS };

#define WASD_FOREIGN_TEXT 200
enum { WASD_FOREIGN_HEAD = 512 }; /* upper limit of the first bytes examined */
/* Writes "this is a NumPy .npz file; send the four IDX files instead" for a reader that does not accept the format.
 * False: an unknown format, or one that this reader accepts. head: the first n bytes, borrowed; with fewer bytes fewer
 * formats are recognised. */
bool wasd_foreign(enum wasd_reader reader, const void *head, size_t n, char text[WASD_FOREIGN_TEXT]);
/* The same for a kind given by name ("NumPy .npz file"), recognised in another way. */
void wasd_foreign_named(enum wasd_reader reader, const char *kind, char text[WASD_FOREIGN_TEXT]);

#endif
