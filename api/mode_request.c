/* api/mode_request.c - the canonical form of a request for a mode: its desire with the options that the kind's table
 * has for it, and its name. */
#include "internal.h"
#include "wasd/spec.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* The row of a desire and the kind that it makes. */
static const cJSON *desire_row(const cJSON *caps, const char *desire, const cJSON **kind)
{
	const cJSON *row, *d;
	const char *name = "";
	cJSON_ArrayForEach(row, wasd_json_get(caps, "mode_kinds"))
		cJSON_ArrayForEach(d, wasd_json_get(row, "desires"))
			if (wasd_json_str(d, "name", &name) && !strcmp(name, desire)) {
				*kind = row;
				return d;
			}
	return NULL;
}

/* `"macs", "int8"` */
static void desires_text(const cJSON *caps, char *out, size_t room)
{
	const cJSON *row, *d;
	const char *name = "";
	size_t n = 0;
	*out = 0;
	cJSON_ArrayForEach(row, wasd_json_get(caps, "mode_kinds"))
		cJSON_ArrayForEach(d, wasd_json_get(row, "desires"))
			if (wasd_json_str(d, "name", &name) && n < room)
				n += (size_t)snprintf(out + n, room - n, "%s\"%s\"", n ? ", " : "", name);
}

static void put_word(char *out, size_t room, const char *word)
{
	size_t n = strlen(out);
	if (n && n + 1 < room)
		out[n++] = '-';
	for (; *word && n + 1 < room; word++)
		out[n++] = isalnum((unsigned char)*word) ? (char)tolower((unsigned char)*word) : *word == '.' ? '.' : '-';
	out[n] = 0;
}

/* The usual value of the first option that has a word; without any, the desire. */
static const char *usual_word(const cJSON *desire)
{
	const cJSON *opt;
	const char *word = "";
	cJSON_ArrayForEach(opt, wasd_json_get(desire, "options"))
		if (wasd_json_str(opt, "default", &word))
			return word;
	wasd_json_str(desire, "name", &word);
	return word;
}

/* The base if it is not aom, and the options that are not as usual: "dom-fast-cfws", "0.5"; before what is no name,
 * usual_word: "plain", "plain-dom". */
static void default_name(const cJSON *in, const cJSON *desire, char out[64])
{
	const cJSON *opt;
	const char *name = "", *base = WASD_MODE_AOM;
	out[0] = 0;
	wasd_json_str(in, "base", &base);
	if (strcmp(base, WASD_MODE_AOM))
		put_word(out, 64, base);
	cJSON_ArrayForEach(opt, wasd_json_get(desire, "options")) {
		const cJSON *v = wasd_json_str(opt, "name", &name) ? wasd_json_get(in, name) : NULL;
		if (!v || cJSON_Compare(v, wasd_json_get(opt, "default"), true))
			continue;
		char *text = cJSON_IsString(v) ? wasd_strdup(v->valuestring) : wasd_json_print(v);
		put_word(out, 64, text ? text : "");
		wasd_free(text);
	}
	if (!wasd_mode_member_ok(out)) {
		char rest[64];
		snprintf(rest, sizeof rest, "%s", out);
		out[0] = 0;
		put_word(out, 64, usual_word(desire));
		if (*rest)
			put_word(out, 64, rest);
	}
}

static cJSON *base_canon(struct field_ctx *c, const char *pointer, const cJSON *v, bool based)
{
	if (cJSON_IsString(v) && wasd_mode_ok(v->valuestring) && (based || !strcmp(v->valuestring, WASD_MODE_AOM)))
		return cJSON_CreateString(v->valuestring);
	char shown[80];
	fields_show(shown, v);
	api_fault(c->faults, "invalid_field", pointer, "%s must be %s, not %s", pointer,
	          based ? "the name of a mode" : "left out: a mode of this desire is made of aom", shown);
	return NULL;
}

static void check_required(struct field_ctx *c, const char *base, const cJSON *options, const cJSON *in)
{
	const cJSON *opt;
	const char *name = "";
	char at[256];
	cJSON_ArrayForEach(opt, options)
		if (cJSON_IsTrue(wasd_json_get(opt, "required")) && wasd_json_str(opt, "name", &name) &&
		    !wasd_json_get(in, name)) {
			fields_pointer(at, base, name);
			api_fault(c->faults, "invalid_field", at, "%s is missing", at);
		}
}

/* The members of every request beside desire and base. */
static void common_rows(struct field_ctx *c, struct wasd_field row[3])
{
	row[0] = (struct wasd_field){"name", WASD_NAME, .form = "profile name"};
	row[1] = *wasd_spec_at(c->root ? "/modes/N/dataset" : "/dataset");
	row[1].required = false;
	row[2] = (struct wasd_field){0};
}

/* The canonical request for a mode of any kind but profiles' by the desire's row of capabilities. */
static cJSON *request_canon(struct field_ctx *c, const char *at, const cJSON *desire, const cJSON *body)
{
	struct wasd_field common[3];
	cJSON *in = cJSON_Duplicate(body, 1), *out = cJSON_CreateObject(), *base = NULL;
	const cJSON *given = wasd_json_get(body, "base"), *options = wasd_json_get(desire, "options");
	const char *name = "";
	char made[64], pointer[256];
	int before = c->faults->n;
	common_rows(c, common);
	wasd_json_str(desire, "name", &name);
	fields_pointer(pointer, at, "base");
	if (given)
		base = base_canon(c, pointer, given, cJSON_IsTrue(wasd_json_get(desire, "based")));
	cJSON_DeleteItemFromObjectCaseSensitive(in, "base");
	check_required(c, at, options, in);
	bool ok = in && out && options_canon(c, at, "desire", options, common, in, out) && c->faults->n == before;
	cJSON_Delete(in);
	api_add_str(out, "desire", name);
	if (base)
		api_add_take(out, "base", base);
	if (ok && !wasd_json_get(out, "name")) {
		default_name(out, desire, made);
		api_add_str(out, "name", made);
	}
	if (!ok || api_poisoned(out)) {
		c->faults->no_memory |= ok;
		cJSON_Delete(out);
		return NULL;
	}
	return out;
}

cJSON *api_mode_request_canon(struct field_ctx *c, const char *at, const cJSON *body)
{
	const char *desire = "";
	char all[400], shown[80], pointer[256];
	const cJSON *kind;
	if (!cJSON_IsObject(body)) {
		fields_show(shown, body);
		api_fault(c->faults, "invalid_field", at, "%s must be an object with a \"desire\", not %s", at, shown);
		return NULL;
	}
	if (api_profile_asked(body))
		return api_profile_canon(c, at, body);
	const cJSON *row = wasd_json_str(body, "desire", &desire) ? desire_row(c->caps, desire, &kind) : NULL;
	if (row)
		return request_canon(c, at, row, body);
	if (!*desire) { /* no table says what else may be there */
		struct wasd_field common[3];
		cJSON *none = cJSON_CreateObject();
		common_rows(c, common);
		options_canon(c, at, "desire", NULL, common, body, none);
		cJSON_Delete(none);
	}
	desires_text(c->caps, all, sizeof all);
	fields_pointer(pointer, at, "desire");
	api_fault(c->faults, "invalid_field", pointer, "%s must be one of %s", pointer, all);
	return NULL;
}

const char *api_mode_asked(const cJSON *caps, const cJSON *request, char mode[WASD_MODE_LEN])
{
	const char *family = WASD_FAMILY_DRAW, *of = "draw", *name = "", *desire = "";
	const cJSON *kind = NULL;
	wasd_json_str(request, "name", &name);
	if (wasd_json_str(request, "desire", &desire))
		desire_row(caps, desire, &kind);
	wasd_json_str(kind, "family", &family);
	wasd_json_str(kind, "name", &of);
	wasd_mode_join(family, name, mode);
	return of;
}

/* The modes that a job asks for. */
cJSON *api_made_modes_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	char at[256], shown[80];
	int before = c->faults->n, i = 0;
	const cJSON *one;
	if (!cJSON_IsArray(v) || cJSON_GetArraySize(v) > f->max) {
		fields_show(shown, v);
		api_fault(c->faults, "invalid_field", pointer, "%s must be an array of at most %.0f modes, not %s%s", pointer,
		          f->max, shown, cJSON_IsArray(v) ? " of more" : "");
		return NULL;
	}
	cJSON *out = cJSON_CreateArray();
	cJSON_ArrayForEach(one, v) {
		snprintf(at, sizeof at, "%s/%d", pointer, i++);
		cJSON *canon = api_mode_request_canon(c, at, one);
		if (canon)
			api_push(out, canon);
	}
	if (c->faults->n == before && out && !c->faults->no_memory)
		return out;
	cJSON_Delete(out);
	return NULL;
}
