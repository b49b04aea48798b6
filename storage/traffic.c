/* traffic.c - the traffic policy of a deployment: members "traffic" and "tuned" of its options. A change, its audit row
 * and its event share one transaction. */
#include "internal.h"
#include <string.h>

struct traffic_args {
	const struct storage_traffic_in *in;
	struct storage_deployment *out;
	bool changed;
};

/* Replaces a member; JSON NULL removes it. False: no memory. */
static bool put_member(cJSON *options, const char *name, const char *text)
{
	cJSON *v = NULL;
	cJSON_DeleteItemFromObjectCaseSensitive(options, name);
	if (!text)
		return true;
	if (!wasd_json_parse(text, strlen(text), WASD_JSON_REQUEST, &v, NULL) && cJSON_AddItemToObject(options, name, v))
		return true;
	cJSON_Delete(v);
	return false;
}

static cJSON *parse_options(const char *text)
{
	cJSON *o = NULL;
	if (text && *text)
		wasd_json_parse(text, strlen(text), WASD_JSON_REQUEST, &o, NULL);
	return cJSON_IsObject(o) ? o : (cJSON_Delete(o), cJSON_CreateObject());
}

/* {"name","mode","generation","traffic"} */
static cJSON *view(const struct storage_deployment *d, const char *options)
{
	cJSON *o = make_object("ssi", "name", d->name, "mode", d->mode, "generation", d->generation),
		  *all = parse_options(options);
	cJSON *traffic = cJSON_DetachItemFromObjectCaseSensitive(all, "traffic");
	if (!traffic)
		traffic = cJSON_CreateNull();
	if (!o || !cJSON_AddItemToObject(o, "traffic", traffic))
		cJSON_Delete(traffic);
	cJSON_Delete(all);
	return o;
}

static enum wasd_status put_rows(struct storage *s, const struct storage_deployment *d, const char *before,
                                 const struct storage_traffic_in *in, struct wasd_err *err)
{
	char object[100];
	cJSON *was = view(d, before), *is = view(d, d->options);
	char *b = wasd_json_print(was), *a = wasd_json_print(is);
	sqlite3_snprintf(sizeof object, object, "deployment/%s", d->name);
	enum wasd_status st =
		a && b ?
			audit_put(s, &(struct audit_in){in->actor, "deployment.traffic", object, b, a, in->reason}, NULL, err) :
			wasd_fail(err, WASD_ENOMEM, "no memory");
	if (!st) {
		st = event_put(s, "deployments", "deployment.traffic", d->name, is, err);
		is = NULL;
	}
	cJSON_Delete(was);
	cJSON_Delete(is);
	wasd_free(a);
	wasd_free(b);
	return st;
}

static enum wasd_status traffic_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct traffic_args *a = ctx;
	const struct storage_traffic_in *in = a->in;
	struct conn *c = tx_conn(s);
	struct storage_deployment before = {0};
	enum wasd_status st = deployment_row(c, in->name, &before, err);
	if (st)
		return st;
	cJSON *options = parse_options(before.options);
	char *text = NULL;
	if (in->checkpoint && (!before.checkpoint || strcmp(in->checkpoint, before.checkpoint)))
		st = wasd_fail(err, WASD_ESTATE, "deployment %s has another checkpoint now", in->name);
	else if (in->expected_options && strcmp(in->expected_options, before.options))
		st = wasd_fail(err, WASD_ESTATE, "the options of deployment %s were changed meanwhile", in->name);
	else if ((in->set_traffic && !put_member(options, "traffic", in->traffic)) ||
	         (in->set_tuned && !put_member(options, "tuned", in->tuned)) || !(text = wasd_json_print(options)))
		st = wasd_fail(err, WASD_ENOMEM, "no memory");
	if (!st && strcmp(text, before.options))
		st = q_run(c, "UPDATE deployments SET options=?2, updated_at=?3 WHERE name=?1", err, "tti", in->name, text,
		           wasd_now_ms());
	if (!st)
		st = deployment_row(c, in->name, a->out, err);
	if (!st && strcmp(text, before.options))
		st = put_rows(s, a->out, before.options, in, err);
	cJSON_Delete(options);
	wasd_free(text);
	storage_deployment_done(&before);
	return st;
}

enum wasd_status storage_deployment_traffic(struct storage *s, const struct storage_traffic_in *in,
                                            struct storage_deployment *out, struct wasd_err *err)
{
	struct storage_deployment row = {0};
	struct traffic_args a = {.in = in, .out = &row};
	enum wasd_status st = write_op(s, traffic_tx, &a, err);
	if (st || !out)
		storage_deployment_done(&row);
	else
		*out = row;
	return st;
}

/* ---- a switch of auto ---- */

struct turned_args {
	const char *name, *from, *to, *reason;
};

static enum wasd_status turned_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	const struct turned_args *a = ctx;
	struct storage_deployment d = {0};
	char object[100], audit[32];
	enum wasd_status st = deployment_row(tx_conn(s), a->name, &d, err);
	if (st)
		return st;
	sqlite3_snprintf(sizeof object, object, "deployment/%s", a->name);
	cJSON *was = make_object("ssis", "name", a->name, "mode", d.mode, "generation", d.generation, "effective", a->from),
		  *is = make_object("ssis", "name", a->name, "mode", d.mode, "generation", d.generation, "effective", a->to);
	char *before = wasd_json_print(was), *after = wasd_json_print(is);
	st = before && after ?
	         audit_put(s, &(struct audit_in){"auto", "deployment.effective", object, before, after, a->reason}, audit,
	                   err) :
	         wasd_fail(err, WASD_ENOMEM, "no memory");
	if (!st)
		st = event_put(s, "deployments", "deployment.mode", a->name,
		               make_object("sssissss", "name", a->name, "state", d.state, "mode", d.mode, "generation",
		                           d.generation, "effective", a->to, "previous", a->from, "reason", a->reason,
		                           "audit_id", audit),
		               err);
	cJSON_Delete(was);
	cJSON_Delete(is);
	wasd_free(before);
	wasd_free(after);
	storage_deployment_done(&d);
	return st;
}

enum wasd_status storage_deployment_turned(struct storage *s, const char *name, const char *from, const char *to,
                                           const char *reason, struct wasd_err *err)
{
	struct turned_args a = {name, from, to, reason};
	return write_op(s, turned_tx, &a, err);
}
