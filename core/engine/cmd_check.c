/* engine/cmd_check.c - wasd-engine check: answers the daemon's questions, one at a time: the tables of core (list), a
 * network layer by layer (describe), whether a job can start (check; check.c), and what it would take (estimate,
 * measure). */
#include "engine/commands.h"
#include "engine/link.h"
#include "wasd/model.h"
#include "wasd/train.h"

#include <stdio.h>
#include <string.h>

/* Takes ownership of m. */
static void answer(struct engine_link *l, uint32_t re, cJSON *m)
{
	struct wasd_err err = {0};
	if (engine_send(l, m, &err))
		engine_error(l, re, &err, NULL);
}

static void on_list(struct engine_link *l, const struct wasd_frame *m)
{
	answer(l, m->seq, wasd_message("listed", "re:i tables:j", (int64_t)m->seq, wasd_capabilities()));
}

/* Describes the network of a question; removes the model from the question. */
static enum wasd_status describe(cJSON *question, cJSON **out, struct wasd_err *err)
{
	int64_t classes = 0;
	int side[3];
	const cJSON *was = wasd_json_get(question, "was"), *in = wasd_json_get(question, "input");
	wasd_json_i64(question, "classes", &classes);
	for (int i = 0; i < 3; i++) {
		const cJSON *v = cJSON_GetArrayItem(in, i);
		side[i] = cJSON_IsNumber(v) ? v->valueint : -1;
		if (side[i] < 0 || side[i] > 1 << 20)
			return wasd_fail(err, WASD_EINVAL, "a question has input [c,h,w] and classes");
	}
	cJSON *model = cJSON_DetachItemFromObjectCaseSensitive(question, "model");
	enum wasd_status s = wasd_network_complete(model, NULL, err);
	if (!s)
		s = wasd_network_describe(model, cJSON_IsNull(was) ? NULL : was, (struct wasd_shape){side[0], side[1], side[2]},
		                          (int)classes, out, err);
	cJSON_Delete(model);
	return s;
}

static void on_describe(struct engine_link *l, const struct wasd_frame *m)
{
	struct wasd_err err = {0};
	cJSON *network = NULL;
	if (describe(m->json, &network, &err))
		engine_error(l, m->seq, &err, NULL);
	else
		answer(l, m->seq, wasd_message("described", "re:i network:j", (int64_t)m->seq, network));
}

static void on_check(struct engine_link *l, const struct wasd_frame *m)
{
	struct wasd_err err = {0};
	cJSON *found = NULL;
	if (engine_check(m->json, &found, &err))
		engine_error(l, m->seq, &err, NULL);
	else
		answer(l, m->seq,
		       wasd_message("checked", "re:i warnings:j", (int64_t)m->seq,
		                    cJSON_DetachItemFromObjectCaseSensitive(found, "warnings")));
	cJSON_Delete(found);
}

static void on_estimate(struct engine_link *l, const struct wasd_frame *m)
{
	struct wasd_err err = {0};
	cJSON *sizes = NULL;
	if (engine_estimate(m->json, &sizes, &err))
		engine_error(l, m->seq, &err, NULL);
	else
		answer(l, m->seq, wasd_message("estimated", "re:i sizes:j", (int64_t)m->seq, sizes));
}

static void on_measure(struct engine_link *l, const struct wasd_frame *m)
{
	struct wasd_err err = {0};
	struct wasd_train_times t = {0};
	if (engine_measure(m->json, &t, &err))
		engine_error(l, m->seq, &err, NULL);
	else
		answer(l, m->seq,
		       wasd_message("measured", "re:i batch:i steps:i step_s:d image_s:d", (int64_t)m->seq, (int64_t)t.batch,
		                    (int64_t)t.steps, t.step_s, t.image_s));
}

static const struct engine_handler handlers[] = {
	{"list", on_list},         {"describe", on_describe}, {"check", on_check},
	{"estimate", on_estimate}, {"measure", on_measure},
};

int cmd_check(int argc, char **argv)
{
	if (argc > 1) {
		fprintf(stderr, "usage: wasd-engine %s    (started by the daemon, which talks to it over descriptor 3)\n",
		        argv[0]);
		return strcmp(argv[1], "--help") ? 2 : 0;
	}
	struct engine_link *link;
	struct wasd_err err = {0};
	if (engine_link_open(WASD_ROLE_CHECK, &link, &err)) {
		fprintf(stderr, "wasd-engine check: %s\n", err.msg);
		return 1;
	}
	engine_serve(link, handlers, sizeof handlers / sizeof *handlers);
	engine_link_close(link);
	wasd_threads_done();
	return 0;
}
