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
		"usage: wasd COMMAND ...\n"
		"       wasd serve [--config FILE] [--listen ADDR:PORT] [--data DIR] [--workers N] [--threads N] [--engine PATH] [--KEY VALUE ...]\n\n");
	client_list_commands(f);
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

int main(int argc, char **argv)
{
	const char *cmd = argc > 1 ? argv[1] : "";
	if (!strcmp(cmd, "serve"))
		return serve(argc - 2, argv + 2);
	int words;
	const struct client_command *c = client_command_find(argc - 1, argv + 1, &words);
	if (c && c->run)
		return c->run(argc - 1 - words, argv + 1 + words);
	if (!strcmp(cmd, "bench"))
		return become_engine(argv[1], argc - 2, argv + 2);
	if (!strcmp(cmd, "version") || !strcmp(cmd, "--version")) {
		puts("wasd " WASD_VERSION);
		return 0;
	}
	if (!strcmp(cmd, "--help") || !strcmp(cmd, "-h")) {
		usage(stdout);
		return 0;
	}
	if (*cmd && client_command_group(cmd))
		fprintf(stderr, "wasd: %s needs another word\n\n", cmd);
	else if (*cmd)
		fprintf(stderr, "wasd: unknown command %s\n\n", cmd);
	usage(stderr);
	return 2;
}
