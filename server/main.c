/* main.c - the wasd program: the daemon, the commands that run the engine, and a small client. */
#include "client/client.h"
#include "client/command.h"
#include "config.h"
#include "daemon.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void usage(FILE *f)
{
	fprintf(
		f,
		"usage: wasd serve [--config FILE] [--listen ADDR:PORT] [--data DIR] [--workers N] [--threads N] [--engine PATH] [--KEY VALUE ...]\n"
		"       wasd bench train|infer ...      time the engine without a daemon (wasd bench --help)\n"
		"       wasd bench serve --model NAME   load a running daemon and report its latencies (wasd bench serve --help)\n"
		"       wasd describe NETWORK ...       list a network layer by layer, without a daemon (wasd describe --help)\n"
		"       wasd status|deployments         query a running daemon\n"
		"       wasd deploy CHECKPOINT|JOB ...  serve a checkpoint, or follow a job (wasd deploy --help)\n"
		"       wasd mode NAME [MODE] ...       list the modes of a deployment, or switch (wasd mode --help)\n"
		"       wasd classify NAME FILE ...     classify images in one mode, or compare modes (wasd classify --help)\n"
		"       wasd undeploy NAME              end a deployment\n"
		"       wasd export CHECKPOINT ...      download a checkpoint as a file for other programs (wasd export --help)\n"
		"       wasd profiles CHECKPOINT ...    list its profiles or search for another (wasd profiles --help)\n"
		"       wasd backup DIR                 copy everything the daemon stores, while it goes on (wasd backup --help)\n"
		"       wasd restore BACKUP --data DIR  make a data directory of a backup; needs no daemon (wasd restore --help)\n"
		"       wasd spec [MEMBER]              the members of a job spec, their defaults and values; needs no daemon\n"
		"       wasd version                    print the version\n");
	for (const struct client_command *const *c = client_commands; *c; c++)
		fprintf(f, "       wasd %-12s %-19s %s\n", (*c)->name, (*c)->arguments, (*c)->summary);
	fprintf(
		f,
		"\n"
		"The commands that query a daemon find it by --url URL, else $WASD_URL, else the address in ./var/wasd.addr or\n"
		"./var/data/wasd.addr, else 127.0.0.1:8080. They exit with 0, with 1 if the daemon refuses, with 2 for bad usage.\n"
		"\n"
		"Settings: `key = value` in the file, --key VALUE on the command line (with - for _); [default]:\n");
	config_help(f);
	fprintf(
		f,
		"\nSIGTERM and SIGINT shut the daemon down cleanly: running jobs store a checkpoint and continue after the next start.\n");
}

static int bad_usage(const char *fmt, const char *what)
{
	fprintf(stderr, "wasd: ");
	fprintf(stderr, fmt, what);
	fprintf(stderr, "; see wasd --help\n");
	return 2;
}

static int serve(int argc, char **argv)
{
	struct config cfg;
	struct wasd_err err;
	config_default(&cfg);
	/* Read the file first, wherever --config stands, so that the command line overrides it. */
	for (int i = 0; i < argc; i++)
		if (!strcmp(argv[i], "--config") && i + 1 < argc && config_file(&cfg, argv[i + 1], &err) != WASD_OK) {
			fprintf(stderr, "wasd: %s\n", err.msg);
			return 2;
		}
	for (int i = 0; i < argc; i++) {
		char key[64];
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			usage(stdout);
			return 0;
		}
		if (strncmp(argv[i], "--", 2) || strlen(argv[i]) >= sizeof key)
			return bad_usage("unexpected argument %s", argv[i]);
		strcpy(key, argv[i] + 2);
		const char *value = NULL;
		char *eq = strchr(key, '=');
		if (eq) {
			*eq = 0;
			value = strchr(argv[i], '=') + 1;
		}
		for (char *p = key; *p; p++)
			if (*p == '-')
				*p = '_';
		if (!eq && config_is_flag(key) && (i + 1 == argc || !strncmp(argv[i + 1], "--", 2)))
			value = "yes";
		else if (!eq && i + 1 < argc)
			value = argv[++i];
		else if (!eq)
			return bad_usage("%s needs a value", argv[i]);
		if (!strcmp(key, "config"))
			continue;
		if (config_set(&cfg, key, value, &err) != WASD_OK)
			return bad_usage("%s", err.msg);
	}
	return daemon_run(&cfg);
}

/* Replaces this process by the engine: same terminal, same arguments. */
static int become_engine(char *command, int argc, char **argv)
{
	char engine[CONFIG_TEXT];
	struct wasd_err err;
	char *args[256];
	int n = 0;
	if (argc > 250)
		return bad_usage("too many arguments%s", "");
	if (config_find_engine("", engine, &err) != WASD_OK) {
		fprintf(stderr, "wasd: %s\n", err.msg);
		return 1;
	}
	args[n++] = engine;
	args[n++] = command;
	for (int i = 0; i < argc; i++)
		args[n++] = argv[i];
	args[n] = NULL;
	execv(engine, args);
	fprintf(stderr, "wasd: %s: %s\n", engine, strerror(errno));
	return 1;
}

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
} old_commands[] = {
	{"deploy", client_deploy},     {"undeploy", client_undeploy}, {"mode", client_mode},
	{"classify", client_classify}, {"export", client_export},     {"profiles", client_profiles},
	{"spec", client_spec},         {"backup", client_backup},     {"restore", client_restore},
};

int main(int argc, char **argv)
{
	const char *cmd = argc > 1 ? argv[1] : "";
	if (!strcmp(cmd, "serve"))
		return serve(argc - 2, argv + 2);
	if (!strcmp(cmd, "bench") && argc > 2 && !strcmp(argv[2], "serve"))
		return client_bench_serve(argc - 3, argv + 3);
	if (!strcmp(cmd, "bench") || !strcmp(cmd, "describe"))
		return become_engine(argv[1], argc - 2, argv + 2);
	if (!strcmp(cmd, "status") || !strcmp(cmd, "deployments"))
		return client_run(cmd, argc - 2, argv + 2);
	for (size_t i = 0; i < sizeof old_commands / sizeof *old_commands; i++)
		if (!strcmp(cmd, old_commands[i].name))
			return old_commands[i].run(argc - 2, argv + 2);
	int words;
	const struct client_command *c = client_command_find(argc - 1, argv + 1, &words);
	if (c && c->run)
		return c->run(argc - 1 - words, argv + 1 + words);
	if (!strcmp(cmd, "version") || !strcmp(cmd, "--version")) {
		puts("wasd " WASD_VERSION);
		return 0;
	}
	if (!strcmp(cmd, "--help") || !strcmp(cmd, "-h") || !strcmp(cmd, "help")) {
		usage(stdout);
		return 0;
	}
	if (*cmd)
		fprintf(stderr, "wasd: unknown command %s\n\n", cmd);
	usage(stderr);
	return 2;
}
