/* api/merges.c - merges of checkpoints: begin, show, delete. The daemon runs them (wasd/merge.h). */
#include "internal.h"
#include "wasd/merge.h"
#include <assert.h>
#include <stdio.h>
#include <string.h>

/* ---- the object ---- */

static void link_checkpoint(const cJSON *record, cJSON *links)
{
	const char *checkpoint = NULL;
	char url[120];
	wasd_json_str(record, "checkpoint", &checkpoint);
	snprintf(url, sizeof url, "/v1/checkpoints/%s", checkpoint ? checkpoint : "");
	if (checkpoint)
		api_add_str(links, "checkpoint", url);
}

static const char *const later[] = {"checkpoint", "message", NULL};
static const struct record_kind merge_kind = {
	.name = "merge",
	.path = "/v1/merges",
	.fields = wasd_merge_fields,
	.later = later,
	.link = link_checkpoint,
};

/* ---- asking ---- */

/* The members of the request, and of the merge itself. */
static cJSON *read_request(const struct api_request *q, struct api_response *r)
{
	struct wasd_field rows[16] = {
		{"checkpoints", WASD_LIST, NULL, 2, WASD_MERGE_MAX, .required = true, .items = "checkpoints"},
		*wasd_spec_at("/dataset"),
	};
	size_t n = 2;
	rows[1].required = false;
	for (const struct wasd_field *f = wasd_merge_fields; f->name; f++) {
		assert(n + 1 < API_LEN(rows));
		rows[n++] = *f;
	}
	return api_body_fields(q, r, rows, NULL, false);
}

/* False: the answer is in r. */
static bool find_checkpoint(struct api_ctx *c, const struct api_request *q, struct api_response *r, int i,
                            const cJSON *id, struct storage_ckpt *out)
{
	char at[40];
	snprintf(at, sizeof at, "/checkpoints/%d", i);
	if (cJSON_IsString(id))
		return api_ckpt_named(c, q, r, at, id->valuestring, out);
	api_send_problem(q, r, "invalid_field", at, "%s must be the id of a checkpoint", at);
	return false;
}

/* All checkpoints exist; *first is theirs that the data set is found by. */
static bool find_checkpoints(struct api_ctx *c, const struct api_request *q, struct api_response *r, const cJSON *ids,
                             struct storage_ckpt *first)
{
	struct storage_ckpt k = {0};
	const cJSON *id;
	int i = 0;
	cJSON_ArrayForEach(id, ids) {
		bool ok = find_checkpoint(c, q, r, i, id, i ? &k : first);
		if (ok && i)
			storage_ckpt_done(&k);
		if (!ok && i)
			storage_ckpt_done(first);
		if (!ok)
			return false;
		i++;
	}
	return true;
}

/* Adds the data set as {"name","version"}. */
static bool add_dataset(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                        const struct storage_ckpt *k, const cJSON *in, cJSON *record)
{
	struct storage_dataset d;
	if (!api_dataset_of(c, q, r, k, in, &d))
		return false;
	cJSON *j = cJSON_CreateObject();
	api_add_str(j, "name", d.name);
	api_add_int(j, "version", d.version);
	api_add_take(record, "dataset", j);
	storage_dataset_done(&d);
	return true;
}

enum api_result api_merges_create(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_ckpt first = {0};
	struct wasd_merge_how how;
	struct wasd_err err = {0};
	cJSON *in = read_request(q, r);
	const cJSON *ids = wasd_json_get(in, "checkpoints");
	if (!in)
		return API_DONE;
	if (wasd_merge_read(in, cJSON_GetArraySize(ids), &how, &err)) {
		api_send_problem(q, r, "invalid_field", err.pointer, "%s", err.msg);
	} else if (find_checkpoints(c, q, r, ids, &first)) {
		cJSON *record = api_record_make(&merge_kind, q, in, cJSON_Duplicate(ids, 1));
		if (!wasd_merge_measures(&how) || add_dataset(c, q, r, &first, in, record))
			api_record_begin(&merge_kind, &c->merges, c, q, r, record);
		else
			cJSON_Delete(record);
		storage_ckpt_done(&first);
	}
	cJSON_Delete(in);
	return API_DONE;
}

/* ---- the rest ---- */

enum api_result api_merges_list(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	return api_record_list(&merge_kind, &c->merges, q, r);
}

enum api_result api_merges_get(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	return api_record_get(&merge_kind, &c->merges, q, r);
}

enum api_result api_merges_delete(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	return api_record_delete(&merge_kind, &c->merges, c, q, r);
}
