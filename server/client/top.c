/* top.c - `wasd top`: workers, jobs and deployments at a glance, drawn again every few seconds. */
#include "client/client.h"
#include "client/commands.h"
#include "client/remote.h"
#include "client/watch_view.h"

#include "wasd/base.h"
#include "wasd/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { JOBS_SHOWN = 15 };

struct options {
	const char *interval, *url;
	bool once, json;
};

/* Everything of one moment: {"system", "jobs", "deployments"}; each deployment has its "stats". NULL after a message.
 */
static cJSON *gather(const struct client_command *c, const char *url)
{
	cJSON *all = cJSON_CreateObject(), *d;
	cJSON *system = client_json(c->name, url, "GET /v1/system", NULL), *jobs = NULL, *deployments = NULL;
	if (system)
		jobs = client_all(c->name, url, "/v1/jobs", "", JOBS_SHOWN);
	if (jobs)
		deployments = client_all(c->name, url, "/v1/deployments", "", 0);
	cJSON_ArrayForEach(d, deployments) {
		char head[200];
		snprintf(head, sizeof head, "GET /v1/deployments/%.100s/stats?window=10s", client_text(d, "name"));
		cJSON *stats = client_json(c->name, url, head, NULL);
		if (stats)
			cJSON_AddItemToObject(d, "stats", stats);
	}
	cJSON_AddItemToObject(all, "system", system);
	cJSON_AddItemToObject(all, "jobs", jobs);
	cJSON_AddItemToObject(all, "deployments", deployments);
	if (deployments)
		return all;
	cJSON_Delete(all);
	return NULL;
}

/* Requests per second of all modes, and the greatest p99 of them in milliseconds (NaN: no requests). */
static void rates(const cJSON *stats, double *rps, double *p99_ms)
{
	const cJSON *mode;
	*rps = 0;
	*p99_ms = NAN;
	cJSON_ArrayForEach(mode, wasd_json_get(wasd_json_get(stats, "window"), "modes")) {
		double v;
		if (wasd_json_num(mode, "rps", &v))
			*rps += v;
		if (wasd_json_num(wasd_json_get(mode, "total_us"), "p99", &v) && v > 0)
			*p99_ms = fmax(isnan(*p99_ms) ? 0 : *p99_ms, v / 1000);
	}
}

static void print_job(const cJSON *j)
{
	struct view v;
	const cJSON *usage = wasd_json_get(j, "usage");
	char eta[32] = "-", at[44], speed[32] = "-", aom[32] = "-", dom[32] = "-", cpu[CLIENT_NUMBER], mib[CLIENT_NUMBER];
	view_init(&v, client_text(j, "id"));
	view_job(&v, j);
	bool ended = client_ended(v.state);
	snprintf(at, sizeof at, "%lld/%lld", (long long)v.epoch, (long long)v.epochs);
	if (!ended && isfinite(v.eta_s))
		view_duration(v.eta_s, eta);
	if (!ended && isfinite(v.images_per_s))
		snprintf(speed, sizeof speed, "%.0f", v.images_per_s);
	if (isfinite(v.acc_aom))
		snprintf(aom, sizeof aom, "%.1f", 100 * v.acc_aom);
	if (isfinite(v.acc_dom))
		snprintf(dom, sizeof dom, "%.1f", 100 * v.acc_dom);
	client_cell(v.name, 24);
	printf("%-11s %10s %9s %13s %6s %6s %6s %8s%s%s\n", v.state, at, speed, eta, aom, dom,
	       client_number(usage, "cpu_percent", 1, 0, cpu), client_number(usage, "rss_bytes", 1.0 / (1 << 20), 0, mib),
	       ended || !*v.phase ? "" : "  ", ended ? "" : v.phase);
}

static void print(const cJSON *all)
{
	const cJSON *system = wasd_json_get(all, "system"), *workers = wasd_json_get(system, "workers"), *o;
	const cJSON *jobs = wasd_json_get(all, "jobs"), *deployments = wasd_json_get(all, "deployments");
	char busy[CLIENT_NUMBER], total[CLIENT_NUMBER], disk[CLIENT_NUMBER], up[32];
	double up_s = 0;
	wasd_json_num(system, "uptime_s", &up_s);
	printf("wasd %s, up %s, %s of %s workers busy, %s GiB free\n", client_text(system, "version"),
	       view_duration(up_s, up), client_number(workers, "busy", 1, 0, busy),
	       client_number(workers, "total", 1, 0, total),
	       client_number(wasd_json_get(system, "disk"), "free_bytes", 1.0 / (1 << 30), 1, disk));
	if (*client_text(wasd_json_get(system, "disk"), "message"))
		printf("%s: %s\n", client_text(wasd_json_get(system, "disk"), "reason"),
		       client_text(wasd_json_get(system, "disk"), "message"));
	printf("\n");
	printf("%-24s %-11s %10s %9s %13s %6s %6s %6s %8s  %s\n", "JOB", "STATE", "EPOCH", "IMAGES/S", "LEFT", "AOM %",
	       "DOM %", "CPU %", "MIB", "PHASE");
	cJSON_ArrayForEach(o, jobs)
		if (!client_ended(client_text(o, "state")))
			print_job(o);
	cJSON_ArrayForEach(o, jobs)
		if (client_ended(client_text(o, "state")))
			print_job(o);
	printf("\n%-24s %-9s %-20s %7s %11s %9s\n", "DEPLOYMENT", "STATE", "MODE", "VERSION", "REQUESTS/S", "P99 MS");
	cJSON_ArrayForEach(o, deployments) {
		double rps, p99;
		char version[CLIENT_NUMBER], slow[32] = "-";
		rates(wasd_json_get(o, "stats"), &rps, &p99);
		if (isfinite(p99))
			snprintf(slow, sizeof slow, "%.2f", p99);
		client_cell(client_text(o, "name"), 24);
		printf("%-9s %-20s %7s %11.1f %9s\n", client_text(o, "state"), client_text(o, "mode"),
		       client_number(o, "version", 1, 0, version), rps, slow);
	}
	fflush(stdout);
}

static int run_top(int argc, char **argv)
{
	const struct client_command *c = &client_command_top;
	struct options o = {0};
	int rc = client_parse(c, argc, argv, &o);
	if (rc >= 0)
		return rc;
	char *end = NULL;
	double interval = o.interval ? strtod(o.interval, &end) : 2;
	if (o.interval && (*end || end == o.interval || !(interval >= 0.2 && interval <= 3600)))
		return client_misused(c, "--interval %s is not a number of seconds from 0.2 to 3600", o.interval);
	bool once = o.once || !isatty(STDOUT_FILENO);
	for (bool first = true;; first = false) {
		char *url = client_url(o.url);
		cJSON *all = url ? gather(c, url) : NULL;
		wasd_free(url);
		if (!all && (first || once))
			return CLIENT_FAILED;
		if (!once)
			printf("\033[H\033[2J");
		if (all && o.json)
			client_print_json(all);
		else if (all)
			print(all);
		cJSON_Delete(all);
		if (once)
			return CLIENT_OK;
		fflush(stdout);
		nanosleep(&(struct timespec){(time_t)interval, (long)(fmod(interval, 1) * 1e9)}, NULL);
	}
}

static const struct client_row top_rows[] = {
	{"--once", 0, NULL, CLIENT_FLAG, offsetof(struct options, once), "print once; so does a stdout that is no terminal",
     NULL},
	{"--interval", 'n', "SECONDS", CLIENT_VALUE, offsetof(struct options, interval),
     "time between two drawings (default: 2)", NULL},
	CLIENT_ROW_JSON(struct options),
	CLIENT_ROW_URL(struct options),
	{0},
};
const struct client_command client_command_top = {
	.name = "top",
	.arguments = "",
	.summary = "watch workers, jobs and deployments",
	.text =
		"Shows the workers, the newest jobs and the deployments with their requests of the last 10 seconds, again and again "
		"until Ctrl-C.",
	.rows = top_rows,
	.example = "wasd top --once",
	.run = run_top,
};
