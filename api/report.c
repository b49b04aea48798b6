/* api/report.c - what a job's best checkpoint gets right and wrong, in every mode. */
#include "internal.h"
#include <math.h>
#include <string.h>

/* Mean duration of an epoch, or NAN. */
static double epoch_seconds(struct api_ctx *c, const char *job)
{
	struct storage_point_list l;
	double sum = 0;
	if (storage_metric_series(c->db, job, "epoch_s", 0, &l, NULL))
		return NAN;
	for (size_t i = 0; i < l.n; i++)
		sum += l.items[i].value;
	double mean = l.n ? sum / (double)l.n : NAN;
	storage_point_list_done(&l);
	return mean;
}

static void send_report(struct api_ctx *c, struct api_response *r, const struct storage_job *job,
                        const struct storage_ckpt *k, const char *text)
{
	cJSON *j = cJSON_CreateObject(), *info = api_parse_trusted(k->info), *report = api_parse_trusted(text), *m;
	const cJSON *classes = wasd_json_get(info, "classes");
	api_add_str(j, "job", job->id);
	api_add_str(j, "checkpoint", k->id);
	api_add_int(j, "epoch", k->epoch);
	api_add_str(j, "dataset", job->dataset);
	api_add_int(j, "dataset_version", job->dataset_version);
	api_add_str(j, "split", "train");
	api_add_num(j, "epoch_s", epoch_seconds(c, job->id));
	api_add_take(j, "classes", classes ? cJSON_Duplicate(classes, 1) : cJSON_CreateNull());
	while (report && (m = report->child)) {
		cJSON_DetachItemViaPointer(report, m);
		cJSON_AddItemToObject(j, m->string, m);
	}
	cJSON_Delete(report);
	cJSON_Delete(info);
	api_send_json(r, 200, j);
}

static void send_computing(struct api_response *r, const struct storage_ckpt *k, int64_t done, int64_t of)
{
	cJSON *j = cJSON_CreateObject();
	api_add_str(j, "state", "computing");
	api_add_str(j, "checkpoint", k->id);
	api_add_int(j, "done", done);
	api_add_int(j, "of", of);
	api_send_json(r, 202, j);
}

enum api_result api_jobs_report(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_job job;
	struct storage_ckpt k = {0};
	struct wasd_err err = {0};
	int64_t wait = 0, done, of;
	char *text = NULL;
	bool again = false;
	if (!api_query_wait(q, r, &wait) || !api_job_find(c, q, r, &job))
		return API_DONE;
	enum wasd_status st = storage_ckpt_pick(c->db, job.id, "best", &k, &err);
	if (st == WASD_ENOTFOUND) {
		api_send_problem(q, r, "no_checkpoint", NULL, "job %s has no checkpoint to report on", job.id);
	} else if (st) {
		api_send_error(q, r, &err);
	} else if ((st = c->reports.get(c->reports.self, &job, k.id, &text, &done, &of, &err)) == WASD_OK) {
		send_report(c, r, &job, &k, text);
	} else if (st == WASD_EBUSY) {
		again = api_again(q, r, job.id, wait);
		if (!again)
			send_computing(r, &k, done, of);
	} else {
		api_send_error(q, r, &err);
	}
	wasd_free(text);
	storage_ckpt_done(&k);
	storage_job_done(&job);
	return again ? API_AGAIN : API_DONE;
}
