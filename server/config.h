/* server/config.h - the daemon's settings: defaults, then the file, then the command line. */
#ifndef SERVER_CONFIG_H
#define SERVER_CONFIG_H

#include "wasd/base.h"

#include <stdio.h>

enum { CONFIG_TEXT = 512 };

struct config {
	char listen[CONFIG_TEXT], data[CONFIG_TEXT], engine[CONFIG_TEXT], log_level[CONFIG_TEXT];
	bool insecure, metrics_triton_aliases;
	int64_t workers, threads, infer_threads, infer_reserved_threads, ingest_parallel;
	int64_t http_threads, max_connections, max_per_ip, max_per_loopback, max_streams, sse_heartbeat_ms;
	int64_t header_timeout_ms, idle_timeout_ms, slow_after_ms, slow_bytes_per_s, request_timeout_ms;
	int64_t max_upload_mb, max_dataset_mb, low_water_mb, quota_mb;
	int64_t webhook_timeout_ms, webhook_retry_ms;
	int64_t worker_silence_ms, kill_after_ms, cancel_timeout_ms, sample_ms, retry_second_ms, drain_http_ms,
		drain_jobs_ms;
};

void config_default(struct config *c);
/* Reads "key = value" lines; '#' starts a comment line. WASD_EINVAL names file, line and key. */
enum wasd_status config_file(struct config *c, const char *path, struct wasd_err *err);
/* Sets one value by its key. WASD_EINVAL: unknown key or bad value, named in err. */
enum wasd_status config_set(struct config *c, const char *key, const char *value, struct wasd_err *err);
/* True for a yes-or-no key, which the command line may give without a value. */
bool config_is_flag(const char *key);
/* Prints every key with its meaning and default. */
void config_help(FILE *f);
/* Resolves automatic values: thread counts from the machine's processors, the path of the engine, the absolute data
 * directory, which is created. Also sets the log level. */
enum wasd_status config_resolve(struct config *c, struct wasd_err *err);
/* Finds the engine: `asked` (may be ""), else WASD_ENGINE, else beside this program, else in PREFIX/libexec/wasd. out
 * has CONFIG_TEXT bytes. */
enum wasd_status config_find_engine(const char *asked, char *out, struct wasd_err *err);

#endif
