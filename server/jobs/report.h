/* server/jobs/report.h - reports on what a checkpoint's modes get right and wrong, computed on request, one at a time,
 * each in its own process, and kept in DATA/reports. */
#ifndef SERVER_JOBS_REPORT_H
#define SERVER_JOBS_REPORT_H

#include "api.h"
#include "process/supervisor.h"
#include "storage.h"

struct reports;

struct reports_config {
	struct storage *db;
	struct supervisor *sup;
	const char *data_dir; /* absolute; borrowed */
	int threads;          /* compute threads of a report */
};

/* Removes the reports of checkpoints that are gone. */
enum wasd_status reports_create(const struct reports_config *cfg, struct reports **out, struct wasd_err *err);
void reports_stop(struct reports *g);    /* ends the running report; any thread; NULL is fine */
void reports_destroy(struct reports *g); /* after supervisor_stop; NULL is fine */
/* Implements struct api_reports. Any thread but the supervisor's. */
struct api_reports reports_api(struct reports *g);

#endif
