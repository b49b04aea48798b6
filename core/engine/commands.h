/* engine/commands.h - the commands of wasd-engine, one per file; main.c has the table. argv[0] is the command's own name.
 * Each returns the exit status: 0, 1 after a message on stderr, 2 for wrong usage. */
#ifndef WASD_ENGINE_COMMANDS_H
#define WASD_ENGINE_COMMANDS_H

int cmd_train(int argc, char **argv);
int cmd_infer(int argc, char **argv);
int cmd_ingest(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_capabilities(int argc, char **argv);

#endif
