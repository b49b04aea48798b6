/* server/jobs/estimate.h - what a job that is not submitted yet would take: its sizes, asked of the engine at once, and
 * the times of its steps, measured in a process of their own, one measurement at a time. */
#ifndef SERVER_JOBS_ESTIMATE_H
#define SERVER_JOBS_ESTIMATE_H

#include "api.h"
#include "process/supervisor.h"

struct estimates;

struct estimates_config {
	struct supervisor *sup;
	const char *data_dir; /* absolute; borrowed */
	int answer_ms;        /* a process that takes longer for the sizes is ended */
	int budget_ms;        /* time that a measurement aims at */
	int limit_s;          /* a measurement that takes longer is ended */
};

enum wasd_status estimates_create(const struct estimates_config *cfg, struct estimates **out, struct wasd_err *err);
void estimates_stop(struct estimates *g);    /* ends the running measurement; any thread; NULL is fine */
void estimates_destroy(struct estimates *g); /* after supervisor_stop; NULL is fine */
/* Implements struct api_estimates. Any thread but the supervisor's. */
struct api_estimates estimates_api(struct estimates *g);

#endif
