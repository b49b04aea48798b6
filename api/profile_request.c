/* api/profile_request.c - requests for profiles, from a job spec's list or for one checkpoint, and the search
 * request made from them. */
#include "internal.h"
#include <assert.h>
#include <stdio.h>
#include <string.h>

cJSON *api_profile_name_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	char shown[80];
	(void)f;
	if (cJSON_IsString(v) && wasd_mode_member_ok(v->valuestring))
		return cJSON_CreateString(v->valuestring);
	fields_show(shown, v);
	api_fault(
		c->faults, "invalid_field", pointer,
		"%s must be a name: 1 to 63 of a-z 0-9 . _ - beginning with a letter or digit, and not that of a mode; it is %s",
		pointer, shown);
	return NULL;
}

/* Every desire requires a member that gives its amount; members of other desires are refused. */
static void check_members(struct field_ctx *c, const char *base, const cJSON *in, const char *desire)
{
	static const struct {
		const char *member, *of;
	} rows[] = {{"budget", "macs"}, {"budget_us", "latency"}, {"draw", "draw"}};
	char at[256];
	for (size_t i = 0; i < API_LEN(rows); i++) {
		bool there = wasd_json_get(in, rows[i].member) != NULL, wanted = !strcmp(desire, rows[i].of);
		fields_pointer(at, base, rows[i].member);
		if (wanted && !there)
			api_fault(c->faults, "invalid_field", at, "%s is missing: desire \"%s\" needs it", at, desire);
		if (!wanted && there)
			api_fault(c->faults, "invalid_field", at, "%s does not go with desire \"%s\"", at, desire);
	}
	fields_pointer(at, base, "evaluations");
	if (!strcmp(desire, "draw") && wasd_json_get(in, "evaluations"))
		api_fault(c->faults, "invalid_field", at, "%s: a draw that is given needs no search; leave this out", at);
}

/* "macs-70", "latency-900us", "draw-1f2e3d4c": the same request always gets the same name. */
static void default_name(const cJSON *in, const char *desire, char out[64])
{
	double x = 0;
	char *text, hex[WASD_SHA256_HEX] = "";
	if (wasd_json_num(in, "budget", &x)) {
		snprintf(out, 64, "%s-%.6g", desire, x * 100);
	} else if (wasd_json_num(in, "budget_us", &x)) {
		snprintf(out, 64, "%s-%.0fus", desire, x);
	} else {
		text = wasd_json_print(wasd_json_get(in, "draw"));
		if (text)
			wasd_sha256_of(text, strlen(text), hex);
		snprintf(out, 64, "%s-%.8s", desire, hex);
		wasd_free(text);
	}
}

static cJSON *request_canon(struct field_ctx *c, const char *base, const struct wasd_field *fields, const cJSON *v)
{
	char at[256], shown[80], name[64];
	const char *desire = NULL;
	int before = c->faults->n;
	if (!cJSON_IsObject(v)) {
		fields_show(shown, v);
		api_fault(c->faults, "invalid_field", base, "%s must be an object, not %s", base, shown);
		return NULL;
	}
	cJSON *in = fields_canon(c, base, fields, v);
	if (!in)
		return NULL;
	if (!wasd_json_str(in, "desire", &desire) && wasd_json_get(in, "draw"))
		api_add_str(in, "desire", "draw");
	if (wasd_json_str(in, "desire", &desire)) {
		check_members(c, base, in, desire);
	} else {
		fields_pointer(at, base, "desire");
		api_fault(c->faults, "invalid_field", at,
		          "%s is missing: \"macs\" with a budget, or \"latency\" with a budget_us; a draw goes without", at);
	}
	if (c->faults->n == before && !wasd_json_get(in, "name")) {
		default_name(in, desire, name);
		api_add_str(in, "name", name);
	}
	if (api_poisoned(in))
		c->faults->no_memory = true;
	if (c->faults->n == before && !c->faults->no_memory)
		return in;
	cJSON_Delete(in);
	return NULL;
}

bool api_profile_asked(const cJSON *body)
{
	const struct wasd_field *f = wasd_spec_at("/profiles/N/desire");
	const char *desire = "";
	bool is = !wasd_json_str(body, "desire", &desire) && wasd_json_get(body, "draw");
	for (int i = 0; !is && wasd_field_choice(f, i); i++)
		is = !strcmp(desire, wasd_field_choice(f, i));
	return is;
}

/* The rows of a job's list; outside of a job plus a choice of the data set. */
cJSON *api_profile_canon(struct field_ctx *c, const char *at, const cJSON *v)
{
	struct wasd_field rows[16] = {{0}};
	const struct wasd_field *in_job = wasd_spec_at("/profiles")->sub;
	for (size_t i = 0; in_job[i].name; i++) {
		assert(i + 1 < API_LEN(rows));
		rows[i] = in_job[i];
		if (c->root || strcmp(rows[i].name, "dataset"))
			continue;
		rows[i] = *wasd_spec_at("/dataset");
		rows[i].required = false;
	}
	return request_canon(c, at, rows, v);
}

cJSON *api_profiles_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	char at[256], shown[80];
	const char *name = "", *other;
	int n = cJSON_GetArraySize(v), before = c->faults->n, i = 0;
	if (!cJSON_IsArray(v) || n > f->max) {
		fields_show(shown, v);
		api_fault(c->faults, "invalid_field", pointer, "%s must be an array of at most %.0f profiles, not %s%s",
		          pointer, f->max, shown, cJSON_IsArray(v) ? " of more" : "");
		return NULL;
	}
	cJSON *out = cJSON_CreateArray();
	const cJSON *one;
	cJSON_ArrayForEach(one, v) {
		snprintf(at, sizeof at, "%s/%d", pointer, i++);
		cJSON *canon = request_canon(c, at, f->sub, one);
		if (!canon)
			continue;
		wasd_json_str(canon, "name", &name);
		for (const cJSON *have = out ? out->child : NULL; have; have = have->next) {
			if (!wasd_json_str(have, "name", &other) || strcmp(name, other))
				continue;
			strcat(at, "/name");
			api_fault(c->faults, "invalid_field", at, "%s: two profiles are called %s", at, name);
			break;
		}
		api_push(out, canon);
	}
	if (c->faults->n == before && out && !c->faults->no_memory)
		return out;
	cJSON_Delete(out);
	return NULL;
}

char *api_profile_request(const cJSON *item)
{
	cJSON *request = cJSON_Duplicate(item, 1);
	cJSON_DeleteItemFromObjectCaseSensitive(request, "name");
	cJSON_DeleteItemFromObjectCaseSensitive(request, "dataset");
	/* "desire" goes first, so that the order in the request does not matter. */
	cJSON *desire = cJSON_DetachItemFromObjectCaseSensitive(request, "desire");
	if (desire && !cJSON_InsertItemInArray(request, 0, desire))
		cJSON_Delete(desire);
	char *text = request ? wasd_json_print(request) : NULL;
	cJSON_Delete(request);
	return text;
}
