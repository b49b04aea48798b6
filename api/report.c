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
                        const struct storage_ckpt *k, bool test, const char *text)
{
	cJSON *j = cJSON_CreateObject(), *info = api_parse_trusted(k->info), *report = api_parse_trusted(text), *m;
	const cJSON *classes = wasd_json_get(info, "classes");
	api_add_str(j, "job", job->id);
	api_add_str(j, "checkpoint", k->id);
	api_add_int(j, "epoch", k->epoch);
	api_add_str(j, "dataset", job->dataset);
	api_add_int(j, "dataset_version", job->dataset_version);
	api_add_str(j, "split", test ? "test" : "train");
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

/* A field of CSV: in quotes, quotes doubled. */
static void put_quoted(struct wasd_buf *b, const char *s)
{
	wasd_buf_puts(b, "\"");
	for (; *s; s++)
		wasd_buf_printf(b, *s == '"' ? "\"\"" : "%c", *s);
	wasd_buf_puts(b, "\"");
}

static const char *class_name(const cJSON *classes, int i)
{
	const cJSON *c = cJSON_GetArrayItem(classes, i);
	return cJSON_IsString(c) ? c->valuestring : "";
}

/* The confusion matrix of a mode: a row for each label, a column for each answer. */
static void send_matrix(const struct api_request *q, struct api_response *r, const struct storage_ckpt *k,
                        const char *mode, const char *text)
{
	cJSON *info = api_parse_trusted(k->info), *report = api_parse_trusted(text);
	const cJSON *classes = wasd_json_get(info, "classes"), *row, *n;
	const cJSON *of = wasd_json_get(wasd_json_get(report, "modes"), mode), *matrix = wasd_json_get(of, "confusion");
	int label = 0;
	if (!matrix) {
		api_send_problem(q, r, "not_found", "mode", of ? "the matrix of mode %.60s is too large" : "no mode %.60s",
		                 mode);
		goto done;
	}
	wasd_buf_puts(&r->body, "label");
	for (int i = 0; i < cJSON_GetArraySize(matrix); i++) {
		wasd_buf_puts(&r->body, ",");
		put_quoted(&r->body, class_name(classes, i));
	}
	wasd_buf_puts(&r->body, "\r\n");
	cJSON_ArrayForEach(row, matrix) {
		put_quoted(&r->body, class_name(classes, label++));
		cJSON_ArrayForEach(n, row)
			wasd_buf_printf(&r->body, ",%.0f", n->valuedouble);
		wasd_buf_puts(&r->body, "\r\n");
	}
	r->status = 200;
	r->content_type = "text/csv; charset=utf-8";
	if (r->body.failed)
		api_send_no_memory(r);
done:
	cJSON_Delete(info);
	cJSON_Delete(report);
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
	static const char *const splits[] = {"validation", "test", NULL}, *const formats[] = {"json", "csv", NULL};
	const char *split = splits[0], *format = formats[0], *mode = api_query(q, "mode");
	int64_t wait = 0, done, of;
	char *text = NULL;
	bool again = false;
	if (!api_query_wait(q, r, &wait) || !api_query_choice(q, r, "split", splits, &split) ||
	    !api_query_choice(q, r, "format", formats, &format) || !api_job_find(c, q, r, &job))
		return API_DONE;
	const bool test = !strcmp(split, "test");
	enum wasd_status st = storage_ckpt_pick(c->db, job.id, "best", &k, &err);
	if (st == WASD_ENOTFOUND) {
		api_send_problem(q, r, "no_checkpoint", NULL, "job %s has no checkpoint to report on", job.id);
	} else if (st) {
		api_send_error(q, r, &err);
	} else if ((st = c->reports.get(c->reports.self, &job, k.id, test, &text, &done, &of, &err)) == WASD_OK) {
		if (strcmp(format, "csv"))
			send_report(c, r, &job, &k, test, text);
		else
			send_matrix(q, r, &k, mode ? mode : WASD_MODE_AOM, text);
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
