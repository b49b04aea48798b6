/* engine/commands.h - the commands of wasd-engine, one per file; main.c has the table. argv[0] is the name of the
 * command. Each returns the exit status: 0, 1 after a message on stderr, 2 for wrong usage. */
#ifndef WASD_ENGINE_COMMANDS_H
#define WASD_ENGINE_COMMANDS_H

#include "wasd/json.h"

int cmd_train(int argc, char **argv);
int cmd_infer(int argc, char **argv);
int cmd_ingest(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_describe(int argc, char **argv);
int cmd_convert(int argc, char **argv);
int cmd_profile(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_verify(int argc, char **argv);
int cmd_capabilities(int argc, char **argv);

/* "bench profile": argv[0] is "profile". */
int bench_profile(int argc, char **argv);

/* Checks a request that has a "spec" for what would fail when its process starts; see check.c. The caller owns
 * *out. */
enum wasd_status engine_check(const cJSON *request, cJSON **out, struct wasd_err *err);
/* What the job of such a request would take (wasd_train_estimate; the caller owns *out), and how long its steps take
 * (wasd_train_measure), for which this process gets the request's memory limit and nice value. */
struct wasd_train_times;
enum wasd_status engine_estimate(const cJSON *request, cJSON **out, struct wasd_err *err);
enum wasd_status engine_measure(const cJSON *request, struct wasd_train_times *out, struct wasd_err *err);

/* Reads a job spec's "model" object from a file that holds the object or a whole spec. The caller owns *model. */
enum wasd_status engine_model_file(const char *path, cJSON **model, struct wasd_err *err);

#endif
