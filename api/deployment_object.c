/* api/deployment_object.c - a deployment as JSON, and its options. */
#include "internal.h"
#include <stdio.h>
#include <string.h>

/* ---- options ---- */

const struct wasd_field api_deployment_options[] = {API_DEPLOYMENT_OPTIONS, {0}};

char *api_deployment_options_text(const cJSON *in)
{
	cJSON *chosen = cJSON_CreateObject();
	for (const struct wasd_field *f = api_deployment_options; f->name; f++) {
		const cJSON *v = wasd_json_get(in, f->name);
		if (v)
			api_add_take(chosen, f->name, cJSON_Duplicate(v, 1));
	}
	char *text = api_poisoned(chosen) ? NULL : wasd_json_print(chosen);
	cJSON_Delete(chosen);
	return text;
}

void api_deployment_options_show(cJSON *j, const struct storage_deployment *d)
{
	struct api_faults faults = {0};
	struct field_ctx fc = {.faults = &faults};
	cJSON *stored = api_parse_trusted(d->options), *known = cJSON_CreateObject();
	for (const struct wasd_field *f = api_deployment_options; f->name; f++) {
		cJSON *v = cJSON_DetachItemFromObjectCaseSensitive(stored, f->name);
		if (v)
			api_add_take(known, f->name, v);
	}
	cJSON *all = fields_canon(&fc, "", api_deployment_options, known); /* rows of older daemons lack members */
	for (const struct wasd_field *f = api_deployment_options; f->name; f++)
		api_add_take(j, f->name, cJSON_DetachItemFromObjectCaseSensitive(all, f->name));
	api_faults_done(&faults);
	cJSON_Delete(all);
	cJSON_Delete(known);
	cJSON_Delete(stored);
}

/* ---- the object ---- */

/* Adds the origin of the checkpoint: network, data, name of the job. */
static void add_origin(struct api_ctx *c, cJSON *j, const struct storage_deployment *d)
{
	struct storage_ckpt k;
	struct storage_job job;
	const char *arch = NULL;
	cJSON *info = d->checkpoint && !storage_ckpt_get(c->db, d->checkpoint, &k, NULL) ? api_parse_trusted(k.info) : NULL;
	wasd_json_str(info, "arch", &arch);
	api_add_str(j, "arch", arch);
	if (d->job && !storage_job_get(c->db, d->job, &job, NULL)) {
		api_add_str(j, "job_name", job.name);
		api_add_str(j, "dataset", job.dataset);
		api_add_int(j, "dataset_version", job.dataset_version);
		storage_job_done(&job);
	}
	if (info)
		storage_ckpt_done(&k);
	cJSON_Delete(info);
}

/* The images on which a mode's accuracy was measured (NULL: not measured), and *acc. For a run's own modes both come
 * from the checkpoint's metrics, from the test images if they were used; for a profile from its search. */
static const char *mode_acc(struct api_ctx *c, const char *checkpoint, const cJSON *metrics, const char *mode,
                            double *acc)
{
	struct storage_profile p;
	const char *name = wasd_mode_member(mode);
	char metric[WASD_MODE_LEN + 10];
	if (name && !storage_profile_get(c->db, checkpoint, mode, &p, NULL)) {
		cJSON *info = api_parse_trusted(p.info);
		bool known = wasd_json_num(info, "val_acc", acc);
		cJSON_Delete(info);
		storage_profile_done(&p);
		return known ? "validation" : NULL;
	}
	mode = wasd_mode_measured(mode);
	snprintf(metric, sizeof metric, "test_acc_%s", mode);
	if (wasd_json_num(metrics, metric, acc))
		return "test";
	snprintf(metric, sizeof metric, "val_acc_%s", mode);
	return wasd_json_num(metrics, metric, acc) ? "validation" : NULL;
}

/* {"aom":{"acc","acc_images","macs","bytes"},"dom":...,"slim":...,"dom:fast":...}: costs from info, the loaded bundle's
 * facts. */
cJSON *api_deployment_modes(struct api_ctx *c, const struct storage_deployment *d, const cJSON *info)
{
	cJSON *out = cJSON_CreateObject(), *metrics = NULL;
	struct storage_ckpt k;
	if (d->checkpoint && !storage_ckpt_get(c->db, d->checkpoint, &k, NULL)) {
		metrics = api_parse_trusted(k.metrics);
		storage_ckpt_done(&k);
	}
	const cJSON *loaded;
	cJSON_ArrayForEach(loaded, wasd_json_get(info, "modes")) {
		double acc = 0;
		const char *images = mode_acc(c, d->checkpoint, metrics, loaded->string, &acc);
		cJSON *one = cJSON_CreateObject();
		api_add_maybe(one, "acc", images, acc);
		api_add_str(one, "acc_images", images);
		for (const cJSON *m = loaded->child; m; m = m->next)
			if (!wasd_json_get(one, m->string))
				api_add_take(one, m->string, cJSON_Duplicate(m, 1));
		if (!one || !api_add_take(out, loaded->string, one))
			break;
	}
	cJSON_Delete(metrics);
	return out;
}

bool api_update_pending(const struct storage_deployment *d)
{
	const char *error = NULL;
	cJSON *info = d->wanted ? api_parse_trusted(d->update_info) : NULL;
	bool pending = info && !wasd_json_str(info, "error", &error);
	cJSON_Delete(info);
	return pending;
}

static cJSON *update_json(const struct storage_deployment *d, cJSON *conditions)
{
	const char *error = NULL;
	char why[160];
	int64_t at = 0;
	cJSON *info = d->wanted ? api_parse_trusted(d->update_info) : NULL, *one;
	if (!info)
		return cJSON_CreateNull();
	wasd_json_str(info, "error", &error);
	wasd_json_i64(info, "at", &at);
	cJSON_DeleteItemFromObjectCaseSensitive(info, "at");
	api_add_time(info, "at", at);
	api_add_str(info, "checkpoint", d->wanted);
	api_add_str(info, "state", error ? "failed" : "loading");
	snprintf(why, sizeof why, "checkpoint %s is being loaded", d->wanted);
	one = cJSON_CreateObject();
	api_add_str(one, "type", error ? "UpdateFailed" : "Switching");
	api_add_str(one, "reason", error ? error : why);
	api_push(conditions, one);
	return info;
}

cJSON *api_deployment_json(struct api_ctx *c, const struct storage_deployment *d)
{
	static const char *const parts[] = {"mode", "traffic", "classify", "stats"};
	char url[160];
	cJSON *j = cJSON_CreateObject(), *links = cJSON_CreateObject(), *info = c->serving.info(c->serving.self, d->name);
	if (!j) {
		cJSON_Delete(links);
		cJSON_Delete(info);
		return NULL;
	}
	api_add_str(j, "id", d->id);
	api_add_str(j, "name", d->name);
	api_add_str(j, "state", d->state);
	api_add_str(j, "message", d->message && *d->message ? d->message : NULL);
	api_add_raw(j, "source", d->source);
	api_add_str(j, "job", d->job);
	api_add_str(j, "checkpoint", d->checkpoint);
	api_add_str(j, "mode", d->mode);
	api_add_int(j, "generation", d->generation);
	api_add_int(j, "version", d->version);
	api_deployment_options_show(j, d);
	api_add_traffic(j, d);
	add_origin(c, j, d);
	if (wasd_json_get(info, "modes"))
		api_add_take(j, "modes", api_deployment_modes(c, d, info));
	cJSON_DeleteItemFromObjectCaseSensitive(info, "bundle");
	cJSON *conditions = cJSON_DetachItemFromObjectCaseSensitive(info, "conditions");
	if (!conditions)
		conditions = cJSON_CreateArray();
	api_add_take(j, "update", update_json(d, conditions));
	api_add_take(j, "conditions", conditions);
	api_add_str(j, "previous", d->previous);
	/* Facts from the loaded bundle: input, classes, max_batch, modes, conditions. */
	for (cJSON *m = info ? info->child : NULL, *next; m; m = next) {
		next = m->next;
		const cJSON *have = wasd_json_get(j, m->string);
		if (have && !cJSON_IsNull(have))
			continue;
		cJSON_DeleteItemFromObjectCaseSensitive(j, m->string);
		api_add_take(j, m->string, cJSON_DetachItemViaPointer(info, m));
	}
	api_add_time(j, "created_at", d->created_at);
	api_add_time(j, "updated_at", d->updated_at);
	snprintf(url, sizeof url, "/v1/deployments/%s", d->name);
	api_add_str(links, "self", url);
	for (size_t i = 0; i < API_LEN(parts); i++) {
		snprintf(url, sizeof url, "/v1/deployments/%s/%s", d->name, parts[i]);
		api_add_str(links, parts[i], url);
	}
	snprintf(url, sizeof url, "/v2/models/%s", d->name);
	api_add_str(links, "v2", url);
	api_add_take(j, "links", links);
	cJSON_Delete(info);
	return j;
}
