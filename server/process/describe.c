#include "process/describe.h"

#include "process/helper.h"

#include <pthread.h>

enum { IDLE_MS = 5000 };

struct describer {
	struct describer_config cfg;
	struct helper helper;
	cJSON *capabilities;
	pthread_mutex_t lock; /* held while a question is asked */
};

/* One at a time, so that many cost no more than one. A process that gives no answer is not asked again. member: of the
 * answer, what *out becomes. */
static enum wasd_status ask(struct describer *d, cJSON *question, const char *member, cJSON **out, struct wasd_err *err)
{
	struct api_call call = {.json = question};
	struct wasd_err why = {0};
	pthread_mutex_lock(&d->lock);
	enum wasd_status s = helper_ask(&d->helper, &call, -1, wasd_mono_us() + d->cfg.answer_ms * 1000ll, &why);
	bool unanswered = s == WASD_EBUSY && !call.reply;
	if (unanswered)
		helper_end(&d->helper, "gave no answer in time");
	pthread_mutex_unlock(&d->lock);
	if (s == WASD_OK)
		*out = cJSON_DetachItemFromObjectCaseSensitive(call.reply, member);
	else if (unanswered)
		s = wasd_fail(err, WASD_EINTERNAL, "the engine %s gave no answer: %s", d->cfg.engine, why.msg);
	else if (err)
		*err = why;
	api_call_done(&call);
	return s;
}

/* The network, or {"warnings"} of a request with a spec. */
static enum wasd_status describe(struct describer *d, const cJSON *request, cJSON **out, struct wasd_err *err)
{
	bool job = wasd_json_get(request, "spec") != NULL;
	cJSON *q = cJSON_Duplicate(request, 1), *answer = NULL;
	bool whole = q && cJSON_AddStringToObject(q, "type", job ? "check" : "describe") &&
	             (!job || cJSON_AddStringToObject(q, "data", d->cfg.data_dir));
	if (!whole) {
		cJSON_Delete(q);
		return wasd_fail(err, WASD_ENOMEM, "no memory");
	}
	enum wasd_status s = ask(d, q, job ? "warnings" : "network", &answer, err);
	if (s == WASD_OK && job && !(answer = wasd_message(NULL, "warnings:j", answer)))
		s = wasd_fail(err, WASD_ENOMEM, "no memory");
	if (s == WASD_OK)
		*out = answer;
	return s;
}

static const cJSON *capabilities(struct describer *d)
{
	return d->capabilities;
}

struct api_engine describer_api(struct describer *d)
{
	return (struct api_engine){.self = d, .capabilities = capabilities, .describe = describe};
}

/* ---- life ---- */

static const struct helper_kind kind = {
	.role = WASD_ROLE_CHECK,
	.idle_ms = IDLE_MS,
	.down = "its process ended",
};

enum wasd_status describer_create(const struct describer_config *cfg, struct describer **out, struct wasd_err *err)
{
	struct describer *d = wasd_calloc(1, sizeof *d);
	if (!d || helper_init(&d->helper, cfg->sup, &kind, 1, d) != WASD_OK) {
		wasd_free(d);
		return wasd_fail(err, WASD_ENOMEM, "no memory");
	}
	d->cfg = *cfg;
	pthread_mutex_init(&d->lock, NULL);
	*out = d; /* also on failure: its process may run */
	return ask(d, wasd_message("list", ""), "tables", &d->capabilities, err);
}

static void do_stop(void *ctx)
{
	helper_stop(ctx);
}

void describer_stop(struct describer *d)
{
	if (d)
		supervisor_call(d->cfg.sup, do_stop, &d->helper);
}

void describer_destroy(struct describer *d)
{
	if (!d)
		return;
	cJSON_Delete(d->capabilities);
	helper_done(&d->helper);
	pthread_mutex_destroy(&d->lock);
	wasd_free(d);
}
