/* server/leftovers.h - removes files that a killed daemon left on disk. */
#ifndef SERVER_LEFTOVERS_H
#define SERVER_LEFTOVERS_H

struct storage;

/* Removes half-written files, unfinished uploads (afterwards staging exists and is empty), and prepared files that no
 * dataset refers to. Logs a warning if staging cannot be cleaned. */
void leftovers_remove(struct storage *db, const char *data_dir, const char *staging);

#endif
