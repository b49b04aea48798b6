/* server/config.h - what the daemon is told: defaults, then the file, then the command line. */
#ifndef SERVER_CONFIG_H
#define SERVER_CONFIG_H

#include "wasd/base.h"

#include <stdio.h>

enum { CONFIG_TEXT = 512 };

struct config {
	char listen[CONFIG_TEXT], data[CONFIG_TEXT], engine[CONFIG_TEXT], log_level[CONFIG_TEXT];
	bool insecure;
	int64_t workers, threads, infer_threads, ingest_parallel;
	int64_t http_threads, max_connections, max_per_ip, max_per_loopback, max_streams, sse_heartbeat_ms;
	int64_t header_timeout_ms, idle_timeout_ms, slow_after_ms, slow_bytes_per_s, request_timeout_ms;
	int64_t max_upload_mb, max_dataset_mb, low_water_mb;
	int64_t worker_silence_ms, kill_after_ms, cancel_timeout_ms, retry_second_ms, drain_http_ms, drain_jobs_ms;
};

void config_default(struct config *c);
/* "key = value" lines; '#' begins a comment. WASD_EINVAL names file, line and key. */
enum wasd_status config_file(struct config *c, const char *path, struct wasd_err *err);
/* One value by its key. WASD_EINVAL says what is wrong. */
enum wasd_status config_set(struct config *c, const char *key, const char *value, struct wasd_err *err);
/* A key of yes or no, which the command line may name alone. */
bool config_is_flag(const char *key);
/* Every key with its default and meaning. */
void config_help(FILE *f);
/* Fills what was left to be found out: threads of the machine, the engine beside the running program, absolute paths.
 */
enum wasd_status config_resolve(struct config *c, struct wasd_err *err);
/* The engine to use: `asked` (may be ""), WASD_ENGINE, beside this program, PREFIX/libexec/wasd. out has CONFIG_TEXT
 * bytes. */
enum wasd_status config_find_engine(const char *asked, char *out, struct wasd_err *err);

#endif
