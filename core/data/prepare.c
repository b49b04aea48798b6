/* prepare.c - the options that say how pictures become pixels: the JSON members "fit", "background" and "orientation"
 * of requests, data sets and checkpoints. */
#include "wasd/data.h"

#include <stdio.h>
#include <string.h>

const struct wasd_prepare wasd_prepare_default = {WASD_SQUEEZE, {255, 255, 255}, .upright = true, .reduce = true};

static const char *const fits[] = {[WASD_SQUEEZE] = "squeeze", [WASD_CROP] = "crop", [WASD_CROPS] = "crops"};

bool wasd_prepare_add(cJSON *j, const struct wasd_prepare *p)
{
	char colour[8];
	snprintf(colour, sizeof colour, "%02x%02x%02x", p->background[0], p->background[1], p->background[2]);
	return cJSON_AddStringToObject(j, "fit", fits[p->fit]) && cJSON_AddStringToObject(j, "background", colour) &&
	       cJSON_AddStringToObject(j, "orientation", p->upright ? "upright" : "keep");
}

static bool read_colour(const char *s, uint8_t out[3])
{
	unsigned v;
	int end = 0;
	if (strlen(s) != 6 || strspn(s, "0123456789abcdefABCDEF") != 6 || sscanf(s, "%6x%n", &v, &end) != 1 || end != 6)
		return false;
	out[0] = (uint8_t)(v >> 16), out[1] = (uint8_t)(v >> 8), out[2] = (uint8_t)v;
	return true;
}

static bool read_fit(const char *s, enum wasd_fit *out)
{
	for (int i = 0; i < (int)(sizeof fits / sizeof *fits); i++)
		if (!strcmp(s, fits[i])) {
			*out = (enum wasd_fit)i;
			return true;
		}
	return false;
}

static enum wasd_status bad(struct wasd_err *err, const char *member, const char *want)
{
	char pointer[16];
	snprintf(pointer, sizeof pointer, "/%s", member);
	return wasd_fail_at(err, WASD_EINVAL, pointer, "%s must be %s", member, want);
}

enum wasd_status wasd_prepare_read(const cJSON *j, struct wasd_prepare *out, struct wasd_err *err)
{
	struct wasd_prepare p = *out;
	const cJSON *fit = wasd_json_get(j, "fit"), *colour = wasd_json_get(j, "background"),
				*turn = wasd_json_get(j, "orientation");
	if (fit && (!cJSON_IsString(fit) || !read_fit(fit->valuestring, &p.fit)))
		return bad(err, "fit", "\"squeeze\", \"crop\" or \"crops\"");
	if (colour && (!cJSON_IsString(colour) || !read_colour(colour->valuestring, p.background)))
		return bad(err, "background", "a colour of six hexadecimal digits");
	if (turn && (!cJSON_IsString(turn) || (strcmp(turn->valuestring, "upright") && strcmp(turn->valuestring, "keep"))))
		return bad(err, "orientation", "\"upright\" or \"keep\"");
	if (turn)
		p.upright = !strcmp(turn->valuestring, "upright");
	*out = p;
	return WASD_OK;
}
