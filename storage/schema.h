/* schema.h - the two databases and the numbered steps that lead to their current form. Private to storage. */
#ifndef STORAGE_SCHEMA_H
#define STORAGE_SCHEMA_H

#include "db.h"

struct schema {
	const char *file;       /* name in the data directory */
	int64_t application_id; /* identifies our files, and distinguishes the two */
	int page_size;
	const char *const *steps; /* steps[n] leads from user_version n to n + 1; append only */
	int n_steps;
};
extern const struct schema schema_main, schema_ckpt;

/* Refuses a file that is not ours or is newer than this program; reads only its first 100 bytes, without opening it
 * as a database. */
enum wasd_status schema_inspect(const struct schema *sc, const char *path, struct wasd_err *err);
/* Creates a complete database under a temporary name beside path, then renames it. */
enum wasd_status schema_create(const struct schema *sc, const char *path, struct wasd_err *err);
/* Runs all missing steps in one transaction. */
enum wasd_status schema_migrate(const struct schema *sc, struct conn *c, struct wasd_err *err);

#endif
