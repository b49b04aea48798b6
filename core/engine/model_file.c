/* engine/model_file.c - reads a network from a file, for the commands that need no daemon. */
#include "engine/commands.h"

enum wasd_status engine_model_file(const char *path, cJSON **model, struct wasd_err *err)
{
	char *text = NULL;
	size_t len;
	cJSON *j = NULL;
	enum wasd_status s = wasd_file_read(path, WASD_JSON_REQUEST.bytes, &text, &len, err);
	if (!s)
		s = wasd_json_parse(text, len, WASD_JSON_REQUEST, &j, err);
	wasd_free(text);
	if (s)
		return s;
	cJSON *inside = cJSON_DetachItemFromObjectCaseSensitive(j, "model");
	if (inside) {
		cJSON_Delete(j);
		j = inside;
	}
	if (!cJSON_IsObject(j)) {
		cJSON_Delete(j);
		return wasd_fail_at(err, WASD_EINVAL, path, "%s: want an object, a job spec or its \"model\"", path);
	}
	*model = j;
	return WASD_OK;
}
