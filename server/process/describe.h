/* server/process/describe.h - what the engine says of itself and of a network: short processes that print it. */
#ifndef SERVER_PROCESS_DESCRIBE_H
#define SERVER_PROCESS_DESCRIBE_H

#include "api.h"

struct describer;

/* Reads the engine's tables. Both strings are borrowed until describer_destroy. */
enum wasd_status describer_create(const char *engine, const char *data_dir, struct describer **out,
                                  struct wasd_err *err);
void describer_destroy(struct describer *d);          /* NULL is fine */
struct api_engine describer_api(struct describer *d); /* any thread */

#endif
