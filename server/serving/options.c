#include "serving/options.h"

#include "wasd/json.h"

#include <string.h>

void serving_options_read(const char *json, struct serving_options *out)
{
	cJSON *o = NULL;
	*out = (struct serving_options){.required = true};
	if (!json || wasd_json_parse(json, strlen(json), WASD_JSON_REQUEST, &o, NULL))
		return;
	const cJSON *batching = wasd_json_get(o, "batching"), *queue = wasd_json_get(o, "queue");
	wasd_json_i64(batching, "max_batch", &out->max_batch);
	wasd_json_i64(batching, "max_queue_delay_us", &out->max_queue_delay_us);
	wasd_json_i64(queue, "max", &out->queue_max);
	wasd_json_i64(queue, "default_timeout_us", &out->default_timeout_us);
	wasd_json_i64(wasd_json_get(o, "limits"), "threads", &out->threads);
	wasd_json_bool(o, "required", &out->required);
	cJSON_Delete(o);
}
