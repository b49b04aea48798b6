/* server/process/describe.h - what the engine says of itself, of a network and of a job that is submitted: a helper of
 * the role check (helper.h), so that a model from outside costs at most that process. */
#ifndef SERVER_PROCESS_DESCRIBE_H
#define SERVER_PROCESS_DESCRIBE_H

#include "api.h"
#include "process/supervisor.h"

struct describer;

struct describer_config {
	struct supervisor *sup;
	const char *engine;   /* path, for messages; borrowed */
	const char *data_dir; /* borrowed until describer_destroy */
	int answer_ms;        /* a process that takes longer for an answer is ended */
};

/* Starts the process and reads the engine's tables. *out is set also on failure, unless there is no memory: its process
 * may run until supervisor_stop. */
enum wasd_status describer_create(const struct describer_config *cfg, struct describer **out, struct wasd_err *err);
void describer_stop(struct describer *d);             /* later questions are refused; any thread; NULL is fine */
void describer_destroy(struct describer *d);          /* after supervisor_stop; NULL is fine */
struct api_engine describer_api(struct describer *d); /* any thread but the supervisor's */

#endif
