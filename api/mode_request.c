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

static cJSON *base_canon(struct field_ctx *c, const cJSON *v, bool based)
{
	if (cJSON_IsString(v) && wasd_mode_ok(v->valuestring) && (based || !strcmp(v->valuestring, WASD_MODE_AOM)))
		return cJSON_CreateString(v->valuestring);
	char shown[80];
	fields_show(shown, v);
	api_fault(c->faults, "invalid_field", "/base", "/base must be %s, not %s",
	          based ? "the name of a mode" : "left out: a mode of this desire is made of aom", shown);
	return NULL;
}

static void check_required(struct field_ctx *c, const cJSON *options, const cJSON *in)
{
	const cJSON *opt;
	const char *name = "";
	char at[256];
	cJSON_ArrayForEach(opt, options)
		if (cJSON_IsTrue(wasd_json_get(opt, "required")) && wasd_json_str(opt, "name", &name) &&
		    !wasd_json_get(in, name)) {
			fields_pointer(at, "", name);
			api_fault(c->faults, "invalid_field", at, "%s is missing", at);
		}
}

/* The members of every request beside desire and base. */
#define COMMON \
	{ \
		{"name", WASD_NAME, .form = "profile name"}, *wasd_spec_at("/dataset"), \
		{ \
			0 \
		} \
	}

/* The canonical request for a mode of any kind but profiles' by the desire's row of capabilities. */
static cJSON *request_canon(struct field_ctx *c, const cJSON *desire, const cJSON *body)
{
	struct wasd_field common[] = COMMON;
	common[1].required = false;
	cJSON *in = cJSON_Duplicate(body, 1), *out = cJSON_CreateObject(), *base = NULL;
	const cJSON *given = wasd_json_get(body, "base"), *options = wasd_json_get(desire, "options");
	const char *name = "";
	char made[64];
	wasd_json_str(desire, "name", &name);
	if (given)
		base = base_canon(c, given, cJSON_IsTrue(wasd_json_get(desire, "based")));
	cJSON_DeleteItemFromObjectCaseSensitive(in, "base");
	check_required(c, options, in);
	bool ok = in && out && options_canon(c, "", "desire", options, common, in, out) && c->faults->n == 0;
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

cJSON *api_mode_canon_request(struct api_ctx *c, struct field_ctx *fc, const cJSON *body, const cJSON **kind)
{
	const char *desire = "";
	char all[400];
	fc->caps = c->engine.capabilities(c->engine.self);
	if (api_profile_asked(body))
		return api_profile_canon(fc, body);
	const cJSON *row = wasd_json_str(body, "desire", &desire) ? desire_row(fc->caps, desire, kind) : NULL;
	if (row)
		return request_canon(fc, row, body);
	if (!*desire) { /* no table says what else may be there */
		struct wasd_field common[] = COMMON;
		common[1].required = false;
		cJSON *none = cJSON_CreateObject();
		options_canon(fc, "", "desire", NULL, common, body, none);
		cJSON_Delete(none);
	}
	desires_text(fc->caps, all, sizeof all);
	api_fault(fc->faults, "invalid_field", "/desire", "/desire must be one of %s", all);
	return NULL;
}
