/* shadow.c - see shadow.h. */
#include "serving/shadow.h"

#include <stdio.h>
#include <string.h>

void shadow_forget(struct shadow *s)
{
	for (int i = 0; i < SHADOW_EXAMPLES; i++) {
		wasd_free(s->example[i].bytes);
		s->example[i] = (struct shadow_example){0};
	}
}

void shadow_done(struct shadow *s)
{
	shadow_forget(s);
	wasd_free(s->by_class);
	*s = (struct shadow){0};
}

void shadow_begin(struct shadow *s, const char *mode, const char *bundle, int64_t classes)
{
	if (!strcmp(s->mode, mode) && !strcmp(s->bundle, bundle))
		return;
	shadow_done(s);
	snprintf(s->mode, sizeof s->mode, "%s", mode);
	snprintf(s->bundle, sizeof s->bundle, "%s", bundle);
	s->by_class = *mode ? wasd_calloc((size_t)classes, sizeof *s->by_class) : NULL;
	s->classes = s->by_class ? classes : 0;
}

void shadow_compare(struct shadow *s, int32_t answer, int32_t shadow)
{
	bool same = answer == shadow;
	*(same ? &s->agree : &s->disagree) += 1;
	if (answer >= 0 && answer < s->classes)
		s->by_class[answer][!same]++;
}

void shadow_keep(struct shadow *s, int64_t most, const void *bytes, size_t len, const char *type, int32_t answer,
                 int32_t shadow, int64_t at_ms)
{
	char *copy = most > 0 && len <= SHADOW_EXAMPLE_MAX ? wasd_malloc(len ? len : 1) : NULL;
	if (!copy)
		return;
	memcpy(copy, bytes, len);
	struct shadow_example *e = &s->example[s->examples % (most < SHADOW_EXAMPLES ? most : SHADOW_EXAMPLES)];
	wasd_free(e->bytes);
	*e = (struct shadow_example){++s->examples, copy, len, type, answer, shadow, at_ms};
}

const struct shadow_example *shadow_example(const struct shadow *s, int64_t id)
{
	for (int i = 0; i < SHADOW_EXAMPLES; i++)
		if (id > 0 && s->example[i].id == id)
			return &s->example[i];
	return NULL;
}

static const char *label(const cJSON *labels, int64_t i)
{
	const cJSON *v = cJSON_GetArrayItem(labels, (int)i);
	return cJSON_IsString(v) ? v->valuestring : "";
}

static cJSON *example_json(const struct shadow_example *e, const cJSON *labels)
{
	char when[WASD_RFC3339_LEN];
	cJSON *o = cJSON_CreateObject();
	wasd_rfc3339(e->at_ms, when);
	cJSON_AddNumberToObject(o, "id", (double)e->id);
	cJSON_AddStringToObject(o, "answer", label(labels, e->answer));
	cJSON_AddStringToObject(o, "shadow", label(labels, e->shadow));
	cJSON_AddStringToObject(o, "type", e->type);
	cJSON_AddNumberToObject(o, "bytes", (double)e->len);
	cJSON_AddStringToObject(o, "at", when);
	return o;
}

cJSON *shadow_json(const struct shadow *s, const cJSON *labels)
{
	cJSON *o = cJSON_CreateObject();
	cJSON_AddStringToObject(o, "mode", s->mode);
	cJSON_AddNumberToObject(o, "agree", (double)s->agree);
	cJSON_AddNumberToObject(o, "disagree", (double)s->disagree);
	if (s->agree + s->disagree)
		cJSON_AddNumberToObject(o, "agreement", (double)s->agree / (double)(s->agree + s->disagree));
	else
		cJSON_AddNullToObject(o, "agreement");
	cJSON_AddNumberToObject(o, "dropped", (double)s->dropped);
	cJSON_AddNumberToObject(o, "failed", (double)s->failed);
	cJSON_AddNumberToObject(o, "pending", (double)s->pending);
	cJSON *classes = cJSON_AddObjectToObject(o, "classes"), *list = cJSON_AddArrayToObject(o, "examples");
	for (int64_t i = 0; i < s->classes; i++) {
		if (!s->by_class[i][0] && !s->by_class[i][1])
			continue;
		cJSON *one = cJSON_AddObjectToObject(classes, label(labels, i));
		cJSON_AddNumberToObject(one, "agree", (double)s->by_class[i][0]);
		cJSON_AddNumberToObject(one, "disagree", (double)s->by_class[i][1]);
	}
	for (int i = 0; i < SHADOW_EXAMPLES; i++)
		if (s->example[i].id)
			cJSON_AddItemToArray(list, example_json(&s->example[i], labels));
	return o;
}
