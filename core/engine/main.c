/* engine/main.c - wasd-engine: all computing and decoding, in one short-lived process per task. */
#include "engine/commands.h"
#include "wasd/base.h"
#include "wasd/cpu.h"

#include <stdio.h>
#include <string.h>

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *help;
} commands[] = {
	{"train", cmd_train, "one training job, led by the daemon over descriptor 3"},
	{"infer", cmd_infer, "every deployment's inference, led by the daemon over descriptor 3"},
	{"ingest", cmd_ingest, "one upload made into a dataset, led by the daemon over descriptor 3"},
	{"convert", cmd_convert, "checkpoints made into files for other programs, led by the daemon over descriptor 3"},
	{"profile", cmd_profile,
     "the search for a draw that keeps most accuracy within a budget, led by the daemon over descriptor 3"},
	{"check", cmd_check, "what networks are and whether jobs could begin, asked by the daemon over descriptor 3"},
	{"bench", cmd_bench, "time training steps or inference; needs no daemon (bench --help)"},
	{"describe", cmd_describe,
     "a network layer by layer: shapes, parameters, multiply-adds; needs no daemon (describe --help)"},
	{"verify", cmd_verify, "compare the content of a data set file with its digest; asked by wasd fsck"},
	{"capabilities", cmd_capabilities, "print every architecture, transform, optimizer and backend as JSON"},
};
#define N_COMMANDS (sizeof commands / sizeof *commands)

static void usage(FILE *f)
{
	fprintf(f, "usage: wasd-engine COMMAND [OPTIONS]\n\n");
	for (size_t i = 0; i < N_COMMANDS; i++)
		fprintf(f, "  %-14s%s\n", commands[i].name, commands[i].help);
	fprintf(f, "  %-14s%s\n", "--version", "print the version");
}

int main(int argc, char **argv)
{
	/* Must come first: it may restart this program with the BLAS kernels that fit the CPU. */
	wasd_cpu_prepare(argv, NULL);
	const char *name = argc > 1 ? argv[1] : "";
	if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help")) {
		usage(stdout);
		return 0;
	}
	if (!strcmp(name, "--version")) {
		puts("wasd-engine " WASD_VERSION);
		return 0;
	}
	for (size_t i = 0; i < N_COMMANDS; i++)
		if (!strcmp(name, commands[i].name))
			return commands[i].run(argc - 1, argv + 1);
	if (*name)
		fprintf(stderr, "wasd-engine: unknown command '%s'\n", name);
	usage(stderr);
	return 2;
}
