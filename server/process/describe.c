#include "process/describe.h"

#include "process/supervisor.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

enum { DESCRIPTION_MAX = 4 << 20, CAPABILITIES_MAX = 1 << 20, ANSWER_MS = 20000 };

struct describer {
	const char *engine, *data_dir;
	cJSON *capabilities;
	pthread_mutex_t lock; /* held while a network is described */
};

static enum wasd_status read_capabilities(struct describer *d, struct wasd_err *err)
{
	char *text = NULL;
	size_t len;
	enum wasd_status s = engine_output(d->engine, (const char *const[]){"capabilities", NULL}, -1, CAPABILITIES_MAX,
	                                   ANSWER_MS, &text, &len, err);
	if (s == WASD_OK)
		s = wasd_json_parse(text, len, WASD_JSON_BULK, &d->capabilities, err);
	wasd_free(text);
	return s;
}

enum wasd_status describer_create(const char *engine, const char *data_dir, struct describer **out,
                                  struct wasd_err *err)
{
	struct describer *d = wasd_calloc(1, sizeof *d);
	if (!d)
		return wasd_fail(err, WASD_ENOMEM, "no memory");
	d->engine = engine;
	d->data_dir = data_dir;
	pthread_mutex_init(&d->lock, NULL);
	enum wasd_status s = read_capabilities(d, err);
	if (s == WASD_OK)
		*out = d;
	else
		describer_destroy(d);
	return s;
}

void describer_destroy(struct describer *d)
{
	if (!d)
		return;
	cJSON_Delete(d->capabilities);
	pthread_mutex_destroy(&d->lock);
	wasd_free(d);
}

static const cJSON *capabilities(struct describer *d)
{
	return d->capabilities;
}

/* What the engine answers is checked like any bytes from outside. */
static enum wasd_status description(const char *text, size_t len, cJSON **out, struct wasd_err *err)
{
	cJSON *j = NULL;
	const char *status = NULL, *pointer = "", *message = "";
	enum wasd_status s = wasd_json_parse(text, len, (struct wasd_json_limits){DESCRIPTION_MAX, 32, 600000}, &j, err);
	if (s != WASD_OK)
		return wasd_fail(err, WASD_EINTERNAL, "the engine's description of a network is no JSON");
	const cJSON *e = wasd_json_get(j, "error");
	if (!e) {
		*out = j;
		return WASD_OK;
	}
	wasd_json_str(e, "status", &status);
	wasd_json_str(e, "pointer", &pointer);
	wasd_json_str(e, "message", &message);
	s = wasd_fail_at(err, status ? wasd_status_from_name(status) : WASD_EINTERNAL, pointer, "%s", message);
	cJSON_Delete(j);
	return s;
}

/* A short process of its own, so that a model from outside costs nothing but itself; one at a time, so that many cost
 * no more. */
static enum wasd_status describe(struct describer *d, const cJSON *request, cJSON **out, struct wasd_err *err)
{
	cJSON *whole = cJSON_Duplicate(request, 1);
	char *text = whole && cJSON_AddStringToObject(whole, "data", d->data_dir) ? wasd_json_print(whole) : NULL,
		 *answer = NULL;
	size_t len;
	int fd = -1;
	enum wasd_status s = text ? wasd_memfd_sealed("describe", text, strlen(text), &fd, err) :
	                            wasd_fail(err, WASD_ENOMEM, "no memory");
	if (s == WASD_OK) {
		pthread_mutex_lock(&d->lock);
		s = engine_output(d->engine, (const char *const[]){"describe", "--request", "/proc/self/fd/3", NULL}, fd,
		                  DESCRIPTION_MAX, ANSWER_MS, &answer, &len, err);
		pthread_mutex_unlock(&d->lock);
	}
	if (s == WASD_OK)
		s = description(answer, len, out, err);
	if (fd >= 0)
		close(fd);
	wasd_free(answer);
	wasd_free(text);
	cJSON_Delete(whole);
	return s;
}

struct api_engine describer_api(struct describer *d)
{
	return (struct api_engine){.self = d, .capabilities = capabilities, .describe = describe};
}
