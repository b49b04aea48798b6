/* edit.c - reads a spec and applies --set KEY=VALUE to it. KEY is a dotted path or a JSON pointer (RFC 6901). */
#include "client/edit.h"

#include "wasd/base.h"
#include "wasd/json.h"

#include <stdlib.h>
#include <string.h>

enum { SPEC_MAX = 256 << 10, KEY_MAX = 300 };

/* The next member's name on the way: *key moves behind it. pointer: ~1 and ~0 stand for / and ~. */
static void next_name(const char **key, bool pointer, char name[KEY_MAX])
{
	size_t n = 0;
	const char *p = *key;
	for (; *p && *p != (pointer ? '/' : '.'); p++) {
		bool escaped = pointer && *p == '~' && (p[1] == '0' || p[1] == '1');
		name[n++] = escaped ? (p[1] == '1' ? '/' : '~') : *p;
		p += escaped;
	}
	name[n] = 0;
	*key = *p ? p + 1 : NULL;
}

/* JSON, or else a string. */
static cJSON *value_of(const char *text)
{
	cJSON *v = NULL;
	if (wasd_json_parse(text, strlen(text), WASD_JSON_REQUEST, &v, NULL) == WASD_OK)
		return v;
	return wasd_utf8_ok(text, strlen(text)) ? cJSON_CreateString(text) : NULL;
}

/* The place of an item of a list: its index; one past the end for "-" and for the number of items. -1: none. */
static int item_of(const cJSON *list, const char *name)
{
	int n = cJSON_GetArraySize(list);
	if (!strcmp(name, "-"))
		return n;
	size_t digits = strspn(name, "0123456789");
	if (!digits || name[digits] || digits > 6 || atoi(name) > n)
		return -1;
	return atoi(name);
}

/* Puts v at `name` of `at`. Takes v. */
static bool put(cJSON *at, const char *name, cJSON *v)
{
	bool ok;
	if (cJSON_IsArray(at)) {
		int i = item_of(at, name);
		ok = i < 0                      ? false :
		     i < cJSON_GetArraySize(at) ? cJSON_ReplaceItemInArray(at, i, v) :
		                                  cJSON_AddItemToArray(at, v);
	} else {
		bool there = cJSON_GetObjectItemCaseSensitive(at, name);
		ok = there ? cJSON_ReplaceItemInObjectCaseSensitive(at, name, v) : cJSON_AddItemToObject(at, name, v);
	}
	if (!ok)
		cJSON_Delete(v);
	return ok;
}

static cJSON *child_of(cJSON *at, const char *name)
{
	if (!cJSON_IsArray(at))
		return cJSON_GetObjectItemCaseSensitive(at, name);
	int i = item_of(at, name);
	return i < 0 ? NULL : cJSON_GetArrayItem(at, i);
}

bool client_set(const struct client_command *c, cJSON *spec, const char *assignment)
{
	const char *eq = strchr(assignment, '='), *rest;
	char key[KEY_MAX], name[KEY_MAX];
	if (!eq || eq == assignment || (size_t)(eq - assignment) >= sizeof key) {
		client_misused(c, "--set %s is not KEY=VALUE", assignment);
		return false;
	}
	snprintf(key, sizeof key, "%.*s", (int)(eq - assignment), assignment);
	bool pointer = *key == '/';
	rest = key + pointer;
	cJSON *at = spec, *v = value_of(eq + 1);
	for (next_name(&rest, pointer, name); v && rest; next_name(&rest, pointer, name)) {
		cJSON *child = child_of(at, name);
		/* A member that is no object, as in "dataset": "digits", becomes one. */
		if (!cJSON_IsObject(child) && !cJSON_IsArray(child)) {
			child = cJSON_CreateObject();
			if (!child || !put(at, name, child))
				break;
		}
		at = child;
	}
	bool ok = v && !rest && put(at, name, v);
	if (!ok && (!v || rest))
		cJSON_Delete(v);
	if (!ok)
		fprintf(stderr, "wasd %s: --set %s: %s\n", c->name, assignment,
		        v ? "a list has no such item" : "the value is not valid text");
	return ok;
}

cJSON *client_read_spec(const struct client_command *c, const char *path)
{
	char *text = NULL;
	size_t len = 0;
	struct wasd_err err = {0};
	cJSON *spec = NULL;
	enum wasd_status s = wasd_file_read(strcmp(path, "-") ? path : "/dev/stdin", SPEC_MAX, &text, &len, &err);
	if (s == WASD_OK)
		s = wasd_json_parse(text, len, WASD_JSON_REQUEST, &spec, &err);
	if (s == WASD_OK && !cJSON_IsObject(spec))
		s = wasd_fail(&err, WASD_EINVAL, "a job spec is a JSON object");
	if (s != WASD_OK) {
		fprintf(stderr, "wasd %s: %s: %s\n", c->name, path, err.msg);
		cJSON_Delete(spec);
		spec = NULL;
	}
	wasd_free(text);
	return spec;
}
