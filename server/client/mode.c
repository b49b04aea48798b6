/* mode.c - `wasd mode`: the modes of a deployment as a table, a switch, or the way back. */
#include "client/client.h"
#include "client/commands.h"
#include "client/wish.h"

#include "wasd/base.h"
#include "wasd/json.h"

#include <stdio.h>
#include <string.h>

struct options {
	const char *words[2]; /* NAME, MODE */
	const char *reason, *url;
	struct client_wish wish;
	bool rollback, json;
};

static bool check_options(void *options)
{
	struct options *o = options;
	const char *fault = NULL;
	if (!o->words[0])
		fault = "give the name of a deployment";
	else if (!client_word_ok(o->words[0]))
		fault = "the first argument is not the name of a deployment";
	else if ((o->words[1] != NULL) + o->rollback + client_wishes(&o->wish) > 1)
		fault = "give a mode, a wish or --rollback, not several";
	else if (o->reason && !o->words[1] && !o->rollback && !client_wishes(&o->wish))
		fault = "--reason belongs to a switch: give a mode, a wish or --rollback";
	if (fault)
		fprintf(stderr, "wasd mode: %s\n", fault);
	return !fault;
}

/* ---- the table ---- */

static void print_mode(const cJSON *bundle, bool live, double plain_macs)
{
	char acc[CLIENT_NUMBER], macs[CLIENT_NUMBER], share[CLIENT_NUMBER], bytes[CLIENT_NUMBER];
	const char *images = wasd_json_get(bundle, "acc_images") ? client_text(bundle, "acc_images") : "";
	printf("%c ", live ? '*' : ' ');
	client_cell(bundle->string, 24);
	printf("%8s %-10s %14s %7s %12s\n", client_number(bundle, "acc", 1, 4, acc), images,
	       client_number(bundle, "macs", 1, 0, macs),
	       client_number(plain_macs > 0 ? bundle : NULL, "macs", 100 / plain_macs, 1, share),
	       client_number(bundle, "bytes", 1, 0, bytes));
}

static int list(const char *url, const struct options *o)
{
	char head[200], generation[CLIENT_NUMBER];
	snprintf(head, sizeof head, "GET /v1/deployments/%.100s/mode", o->words[0]);
	cJSON *now = client_json("mode", url, head, NULL);
	const cJSON *bundle, *bundles = wasd_json_get(now, "bundles");
	double plain = 0;
	if (!now || o->json) {
		int rc = now ? client_print_json(now) : CLIENT_FAILED;
		cJSON_Delete(now);
		return rc;
	}
	/* Auto and cascade choose one of the modes below. */
	const char *mode = client_text(now, "mode"), *answers = client_text(wasd_json_get(now, "now"), "mode");
	const char *live = wasd_json_get(bundles, mode) || !strcmp(answers, "-") ? mode : answers;
	wasd_json_num(wasd_json_get(bundles, "aom"), "macs", &plain);
	printf("  %-24s %8s %-10s %14s %7s %12s\n", "MODE", "ACCURACY", "IMAGES", "MACS", "SHARE %", "BYTES");
	cJSON_ArrayForEach(bundle, bundles)
		print_mode(bundle, !strcmp(bundle->string, live), plain);
	printf("%s is in mode %s%s%s, generation %s, since %s by %s\n", o->words[0], mode, live != mode ? ", now " : "",
	       live != mode ? live : "", client_number(now, "generation", 1, 0, generation), client_text(now, "since"),
	       client_text(now, "by"));
	cJSON_Delete(now);
	return CLIENT_OK;
}

/* ---- the switch ---- */

static void tell(const cJSON *done, const char *name)
{
	char generation[CLIENT_NUMBER], swap[CLIENT_NUMBER], old[CLIENT_NUMBER];
	const char *mode = client_text(done, "mode"), *previous = client_text(done, "previous");
	client_number(done, "generation", 1, 0, generation);
	if (!strcmp(previous, "-") || !strcmp(previous, mode))
		printf("%s: already in mode %s, generation %s\n", name, mode, generation);
	else
		printf("%s: %s -> %s, generation %s, swapped in %s us, %s requests in flight on the old mode\n", name, previous,
		       mode, generation, client_number(done, "swap_us", 1, 0, swap),
		       client_number(done, "in_flight_old", 1, 0, old));
}

static int change(const char *url, const struct options *o)
{
	char head[200];
	cJSON *in = cJSON_CreateObject();
	bool ok = in && client_wish_add("mode", &o->wish, in) &&
	          (!o->words[1] || cJSON_AddStringToObject(in, "mode", o->words[1])) &&
	          (!o->reason || cJSON_AddStringToObject(in, "reason", o->reason));
	char *body = ok ? wasd_json_print(in) : NULL;
	snprintf(head, sizeof head,
	         o->rollback ? "POST /v1/deployments/%.100s/mode:rollback" : "PUT /v1/deployments/%.100s/mode",
	         o->words[0]);
	cJSON *done = body ? client_json("mode", url, head, body) : NULL;
	int rc = !done ? CLIENT_FAILED : o->json ? client_print_json(done) : CLIENT_OK;
	if (done && !o->json)
		tell(done, o->words[0]);
	cJSON_Delete(done);
	cJSON_Delete(in);
	wasd_free(body);
	return rc;
}

static int run_mode(int argc, char **argv)
{
	struct options o = {0};
	int rc = client_start(&client_command_mode, argc, argv, check_options, &o);
	if (rc >= 0)
		return rc;
	char *url = client_url(o.url);
	rc = !url ? CLIENT_FAILED : o.words[1] || o.rollback || client_wishes(&o.wish) ? change(url, &o) : list(url, &o);
	wasd_free(url);
	return rc;
}

static const struct client_row mode_rows[] = {
	CLIENT_ROWS_WISH(struct options, "switch to"),
	{"--rollback", 0, NULL, CLIENT_FLAG, offsetof(struct options, rollback),
     "switch back to the mode before the last switch", NULL},
	{"--reason", 0, "TEXT", CLIENT_VALUE, offsetof(struct options, reason), "reason for the audit log", NULL},
	CLIENT_ROW_JSON(struct options),
	CLIENT_ROW_URL(struct options),
	{0},
};
const struct client_command client_command_mode = {
	.name = "mode",
	.arguments = "NAME [MODE]",
	.summary = "list the modes of a deployment, or switch",
	.text =
		"Lists the modes of a deployment; with MODE (aom, dom, slim, FAMILY:NAME, auto, cascade) or a wish (several are bounds that all hold) switches to it, without a reload. Accuracies are those of the test images if they were measured, otherwise of the validation images.",
	.words_at = offsetof(struct options, words),
	.max_words = 2,
	.words_plain = true,
	.offers = "@deployments aom dom slim auto cascade",
	.statuses = "0 done, 1 refused, 2 wrong usage",
	.example = "wasd mode reader dom --reason \"half the load\"",
	.run = run_mode,
	.rows = mode_rows,
};
