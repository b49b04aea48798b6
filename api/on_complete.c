/* api/on_complete.c - the member on_complete of a job: its canonical form, and its outcome. storage/on_complete.c acts
 * on it. */
#include "internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- conditions ---- */

static const char blanks[] = " \t";

/* The next word of a text. */
static size_t word(const char **s, char *out, size_t size)
{
	*s += strspn(*s, blanks);
	size_t n = strcspn(*s, blanks);
	snprintf(out, size, "%.*s", (int)(n < size ? n : size - 1), *s);
	*s += n;
	return n;
}

/* "METRIC OP NUMBER and ..." as a list of objects; NULL: it does not have this form, or no memory. */
static cJSON *parse(const char *s)
{
	cJSON *list = cJSON_CreateArray();
	char metric[80], op[8], number[40], and[8], *end;
	for (bool more = true; more && list;) {
		cJSON *one = cJSON_CreateObject();
		more = word(&s, metric, sizeof metric) && word(&s, op, sizeof op) && word(&s, number, sizeof number);
		double value = strtod(number, &end);
		if (!more || *end || end == number || !api_add_str(one, "metric", metric) || !api_add_str(one, "op", op) ||
		    !api_add_num(one, "value", value)) {
			cJSON_Delete(one);
			cJSON_Delete(list);
			return NULL;
		}
		api_push(list, one);
		more = word(&s, and, sizeof and) > 0;
		if (more && strcmp(and, "and")) {
			cJSON_Delete(list);
			return NULL;
		}
	}
	return list;
}

/* A text, one object or a list of objects. */
cJSON *spec_conditions_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	char shown[80], at[256];
	int before = c->faults->n, i = 0;
	const cJSON *one;
	cJSON *made = cJSON_IsString(v) ? parse(v->valuestring) : NULL;
	const cJSON *list = made ? made : v;
	int n = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : cJSON_IsObject(list) ? 1 : -1;
	if (n < f->min || n > f->max) {
		fields_show(shown, v);
		api_fault(
			c->faults, "invalid_field", pointer,
			"%s must be a condition such as \"val_acc_aom >= 0.9\", several joined by \" and \", or a list of at most "
			"%.0f objects with metric, op and value, not %s",
			pointer, f->max, shown);
		cJSON_Delete(made);
		return NULL;
	}
	cJSON *out = cJSON_CreateArray();
	if (cJSON_IsObject(list))
		api_push(out, fields_canon(c, pointer, f->sub, list));
	else
		cJSON_ArrayForEach(one, list) {
			snprintf(at, sizeof at, "%s/%d", pointer, i++);
			cJSON *canon = cJSON_IsObject(one) ? fields_canon(c, at, f->sub, one) : NULL;
			fields_show(shown, one);
			if (!cJSON_IsObject(one))
				api_fault(c->faults, "invalid_field", at, "%s must be an object with metric, op and value, not %s", at,
				          shown);
			else if (canon)
				api_push(out, canon);
			else if (c->faults->n == before)
				c->faults->no_memory = true;
		}
	cJSON_Delete(made);
	if (c->faults->n == before && !api_poisoned(out))
		return out;
	cJSON_Delete(out);
	return NULL;
}

/* ---- the whole ---- */

cJSON *spec_on_complete_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	cJSON *out = field_value(c, pointer, f, v);
	if (!out || !cJSON_IsNull(wasd_json_get(out, "register")) || !cJSON_IsNull(wasd_json_get(out, "deploy")))
		return out;
	api_fault(c->faults, "invalid_field", pointer, "%s needs \"register\" or \"deploy\", or both", pointer);
	cJSON_Delete(out);
	return NULL;
}

cJSON *api_on_complete_json(const cJSON *asked, const struct storage_job *job)
{
	if (!cJSON_IsObject(asked))
		return cJSON_CreateNull();
	cJSON *j = cJSON_Duplicate(asked, 1), *outcome = job->on_complete ? api_parse_trusted(job->on_complete) : NULL;
	bool never = storage_job_terminal(job->state) && !outcome;
	int64_t at = 0;
	if (wasd_json_i64(outcome, "at", &at)) {
		cJSON_DeleteItemFromObjectCaseSensitive(outcome, "at");
		api_add_time(outcome, "at", at);
	}
	api_merge_take(j, outcome);
	if (!wasd_json_get(j, "state")) {
		api_add_str(j, "state", never ? "skipped" : "pending");
		api_add_str(j, "why", never ? "the job has not completed" : NULL);
	}
	return j;
}
