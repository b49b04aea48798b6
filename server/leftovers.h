/* server/leftovers.h - what a daemon that was killed left on the disk. */
#ifndef SERVER_LEFTOVERS_H
#define SERVER_LEFTOVERS_H

struct storage;

/* Removes half-written files, uploads that were never finished (staging is there and empty afterwards), and prepared
 * files that no dataset names. What cannot be removed is logged. */
void leftovers_remove(struct storage *db, const char *data_dir, const char *staging);

#endif
