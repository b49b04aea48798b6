#include "config.h"

#include "address.h"
#include "log.h"
#include "wasd/machine.h"
#include "wasd/tensor.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* One row per key, for the file, the command line (--key VALUE with '-' for '_') and the help. */
static const struct key {
	const char *name;
	size_t offset;
	enum { A_TEXT, A_NUMBER, A_YES_NO } kind;
	int64_t min, max;
	const char *standard, *help;
} keys[] = {
/* clang-format off */
#define TEXT(name, standard, help) { #name, offsetof(struct config, name), A_TEXT, 0, 0, standard, help }
#define YES_NO(name, standard, help) { #name, offsetof(struct config, name), A_YES_NO, 0, 0, standard, help }
#define NUM(name, min, max, standard, help) { #name, offsetof(struct config, name), A_NUMBER, min, max, #standard, help }
	/* clang-format on */
	TEXT(listen, "127.0.0.1:8080", "address and port to listen on; port 0 picks a free one"),
	YES_NO(insecure, "no", "yes: allow an address that other machines can reach, although there is no login"),
	YES_NO(metrics_triton_aliases, "no", "yes: /metrics also shows the numbers of inference under Triton's names"),
	TEXT(data, "./var", "data directory"),
	TEXT(engine, "", "wasd-engine to run; if empty: WASD_ENGINE, else beside this program, else in ../libexec/wasd"),
	TEXT(log_level, "info", "debug, info, warn or error"),
	NUM(workers, 1, 64, 1, "training jobs that run at the same time"),
	NUM(threads, 0, WASD_THREADS_MAX, 0, "compute threads shared by the training jobs; 0 = number of processors"),
	NUM(infer_threads, 0, WASD_THREADS_MAX, 0, "compute threads of the inference process; 0 = number of processors"),
	NUM(infer_reserved_threads, 0, WASD_THREADS_MAX, 0,
        "compute threads that the share of training jobs leaves free while a deployment exists"),
	NUM(ingest_parallel, 1, 16, 1, "uploads that are decoded at the same time"),
	NUM(http_threads, 1, 256, 32,
        "requests handled at the same time; further requests wait in a queue, and get 503 when it is full"),
	NUM(max_connections, 10, 100000, 1536, "most open connections; above 90 % of it new ones get 503"),
	NUM(max_per_ip, 0, 100000, 128, "most open connections from one address; 0 = no limit per address"),
	NUM(max_per_loopback, 0, 100000, 0, "the same for loopback addresses"),
	NUM(max_streams, 1, 100000, 200, "most open event streams"),
	NUM(sse_heartbeat_ms, 100, 600000, 15000, "interval between comments on an idle event stream"),
	NUM(header_timeout_ms, 50, 600000, 10000, "timeout from the first byte of a request to the end of its headers"),
	NUM(idle_timeout_ms, 50, 3600000, 60000, "timeout of a connection without a request"),
	NUM(slow_after_ms, 50, 600000, 10000, "time for which a body or reply may be slow"),
	NUM(slow_bytes_per_s, 1, 100000000, 1024,
        "after slow_after_ms, lowest average rate before the connection is closed"),
	NUM(request_timeout_ms, 100, 600000, 30000, "timeout of one request"),
	NUM(max_upload_mb, 1, 1000000, 2048, "largest upload"),
	NUM(max_dataset_mb, 1, 10000000, 16384, "largest prepared dataset"),
	NUM(low_water_mb, 0, 10000000, 0,
        "free disk space below which new work is refused (507) and running jobs pause; 0 = 1 % of the disk, 256 to 4096"),
	NUM(quota_mb, 0, 100000000, 0, "most data to store in the data directory; 0 = no limit"),
	NUM(webhook_timeout_ms, 100, 60000, 10000, "timeout of one attempt to send an event to a webhook"),
	NUM(webhook_retry_ms, 10, 600000, 1000,
        "wait after the first failed attempt of a webhook; it doubles up to 15 minutes"),
	NUM(worker_silence_ms, 100, 3600000, 30000, "an engine process without a heartbeat for this time is ended"),
	NUM(kill_after_ms, 50, 600000, 10000, "time between asking a process to exit and killing it"),
	NUM(cancel_timeout_ms, 50, 600000, 30000, "time for a cancelled job to store its checkpoint"),
	NUM(sample_ms, 0, 3600000, 5000, "interval between samples of what a job's process uses; 0 = none"),
	NUM(retry_second_ms, 1, 100000, 1000, "length of one second of a job's retry.backoff_s"),
	NUM(drain_http_ms, 0, 60000, 8000, "at shutdown: time for requests in flight"),
	NUM(drain_jobs_ms, 0, 600000, 30000, "at shutdown: time for running jobs to store a checkpoint"),
};
#undef TEXT
#undef NUM
#undef YES_NO
enum { N_KEYS = sizeof keys / sizeof keys[0] };

void config_default(struct config *c)
{
	for (int i = 0; i < N_KEYS; i++)
		config_set(c, keys[i].name, keys[i].standard, NULL);
}

static const struct key *find(const char *name)
{
	for (int i = 0; i < N_KEYS; i++)
		if (!strcmp(keys[i].name, name))
			return &keys[i];
	return NULL;
}

static enum wasd_status set_text(char *at, const char *key, const char *value, struct wasd_err *err)
{
	enum log_level level;
	char host[ADDRESS_HOST], port[ADDRESS_PORT];
	if (strlen(value) >= CONFIG_TEXT)
		return wasd_fail(err, WASD_EINVAL, "%s is longer than %d bytes", key, CONFIG_TEXT - 1);
	if (!strcmp(key, "log_level") && !log_level_from_name(value, &level))
		return wasd_fail(err, WASD_EINVAL, "log_level must be debug, info, warn or error, not %.40s", value);
	if (!strcmp(key, "listen") && !address_split(value, host, port))
		return wasd_fail(err, WASD_EINVAL, "listen must be ADDR:PORT with a port from 0 to 65535, not %.100s", value);
	strcpy(at, value);
	return WASD_OK;
}

/* Only digits, with an optional minus sign. */
static bool whole_number(const char *s, int64_t *out)
{
	const char *digits = s + (*s == '-');
	size_t n = strlen(digits);
	if (!n || n > 18 || strspn(digits, "0123456789") != n)
		return false;
	*out = strtoll(s, NULL, 10);
	return true;
}

enum wasd_status config_set(struct config *c, const char *key, const char *value, struct wasd_err *err)
{
	const struct key *k = find(key);
	int64_t v;
	if (!k)
		return wasd_fail(err, WASD_EINVAL, "unknown setting %.60s", key);
	void *at = (char *)c + k->offset;
	if (k->kind == A_TEXT)
		return set_text(at, key, value, err);
	if (k->kind == A_YES_NO) {
		if (strcmp(value, "yes") && strcmp(value, "no"))
			return wasd_fail(err, WASD_EINVAL, "%s must be yes or no, not %.40s", key, value);
		*(bool *)at = !strcmp(value, "yes");
		return WASD_OK;
	}
	if (!whole_number(value, &v) || v < k->min || v > k->max)
		return wasd_fail(err, WASD_EINVAL, "%s must be a whole number from %lld to %lld, not %.40s", key,
		                 (long long)k->min, (long long)k->max, value);
	*(int64_t *)at = v;
	return WASD_OK;
}

bool config_is_flag(const char *key)
{
	const struct key *k = find(key);
	return k && k->kind == A_YES_NO;
}

static char *trim(char *s)
{
	s += strspn(s, " \t\r");
	for (size_t n = strlen(s); n && strchr(" \t\r", s[n - 1]);)
		s[--n] = 0;
	return s;
}

enum wasd_status config_file(struct config *c, const char *path, struct wasd_err *err)
{
	char *text = NULL;
	size_t len;
	enum wasd_status s = wasd_file_read(path, 1 << 20, &text, &len, err);
	int line = 0;
	for (char *p = s == WASD_OK ? text : NULL, *next; p && s == WASD_OK; p = next) {
		next = strchr(p, '\n');
		if (next)
			*next++ = 0;
		line++;
		p = trim(p);
		if (!*p || *p == '#')
			continue;
		char *eq = strchr(p, '=');
		struct wasd_err why = {0};
		if (!eq)
			s = wasd_fail(err, WASD_EINVAL, "%s line %d: expected key = value", path, line);
		else {
			*eq = 0;
			if (config_set(c, trim(p), trim(eq + 1), &why) != WASD_OK)
				s = wasd_fail(err, WASD_EINVAL, "%s line %d: %s", path, line, why.msg);
		}
	}
	wasd_free(text);
	return s;
}

void config_help(FILE *f)
{
	for (int i = 0; i < N_KEYS; i++)
		fprintf(f, "  %-18s %s%s%s%s\n", keys[i].name, keys[i].help, *keys[i].standard ? " [" : "", keys[i].standard,
		        *keys[i].standard ? "]" : "");
}

static bool runnable(const char *path)
{
	struct stat st;
	return !stat(path, &st) && S_ISREG(st.st_mode) && !access(path, X_OK);
}

enum wasd_status config_find_engine(const char *asked, char *out, struct wasd_err *err)
{
	const char *env = getenv("WASD_ENGINE");
	if (!*asked && env && *env)
		asked = env;
	if (*asked) {
		char absolute[PATH_MAX];
		if (!realpath(asked, absolute) || !runnable(absolute) || strlen(absolute) >= CONFIG_TEXT)
			return wasd_fail(err, WASD_ENOTFOUND, "the engine %.180s does not exist or is not executable", asked);
		strcpy(out, absolute);
		return WASD_OK;
	}
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	if (n > 0) {
		self[n] = 0;
		/* The layout of a build tree, and of `make install` under any prefix. */
		static const char *const places[] = {"/wasd-engine", "/../libexec/wasd/wasd-engine"};
		*strrchr(self, '/') = 0;
		for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
			int len = snprintf(out, CONFIG_TEXT, "%s%s", self, places[i]);
			if (len < CONFIG_TEXT && runnable(out))
				return WASD_OK;
		}
	}
	return wasd_fail(
		err, WASD_ENOTFOUND,
		"wasd-engine is neither beside this program nor in ../libexec/wasd: build it, or give its path with --engine");
}

static int processors(void)
{
	int n = wasd_processors();
	return n > WASD_THREADS_MAX ? WASD_THREADS_MAX : n;
}

enum wasd_status config_resolve(struct config *c, struct wasd_err *err)
{
	char absolute[PATH_MAX], engine[CONFIG_TEXT];
	enum log_level level;
	if (log_level_from_name(c->log_level, &level))
		log_set_level(level);
	if (!c->threads)
		c->threads = processors();
	if (!c->infer_threads)
		c->infer_threads = processors();
	enum wasd_status s = wasd_mkdirs(c->data, err);
	if (s != WASD_OK)
		return s;
	if (!realpath(c->data, absolute) || strlen(absolute) >= CONFIG_TEXT)
		return wasd_fail(err, WASD_EINVAL, "the path of the data directory %.180s cannot be resolved or is too long",
		                 c->data);
	strcpy(c->data, absolute);
	s = config_find_engine(c->engine, engine, err);
	if (s == WASD_OK)
		strcpy(c->engine, engine);
	return s;
}
