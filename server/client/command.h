/* server/client/command.h - what a command is. One descriptor per command is all that there is to say about it: the
 * parser, --help, `wasd help`, the completion of shells and the man pages read it.
 *
 * A new command is a file with a descriptor, and a row in commands.c. */
#ifndef SERVER_CLIENT_COMMAND_H
#define SERVER_CLIENT_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { CLIENT_LIST_MAX = 256 };
struct client_list {
	const char *items[CLIENT_LIST_MAX];
	size_t n;
};

enum client_row_kind {
	CLIENT_FLAG = 1, /* bool */
	CLIENT_VALUE,    /* const char *; the last one counts */
	CLIENT_LIST      /* struct client_list; may be repeated */
};

/* An option. `at` is the offset of its variable in the command's own struct of options. */
struct client_row {
	const char *name;  /* "--set", or "-k" */
	char brief;        /* 'f' for -f as well; 0: none */
	const char *value; /* what stands for the value in texts, "KEY=VALUE"; NULL for a flag */
	enum client_row_kind kind;
	size_t at;
	const char *text;   /* one sentence without a full stop */
	const char *offers; /* what completion offers: words, or one of the kinds of client_offers() after a "@" */
};
/* The rows that nearly every command has. type: the struct with the members json and url. */
#define CLIENT_ROW_JSON(type) \
	{ \
		"--json", 0, NULL, CLIENT_FLAG, offsetof(type, json), "print JSON instead of text", NULL \
	}
#define CLIENT_ROW_URL(type) \
	{ \
		"--url", 0, "URL", CLIENT_VALUE, offsetof(type, url), \
			"address of the daemon (default: $WASD_URL, then ./var/wasd.addr or ./var/data/wasd.addr, then 127.0.0.1:8080)", \
			NULL \
	}

struct client_command {
	const char *name;                  /* "submit"; two words for a command of a group: "data add" */
	const char *arguments;             /* "JOB..."; "" if there are none */
	const char *summary;               /* one line without a full stop */
	const char *text;                  /* what it does, in sentences; paragraphs end with an empty line */
	const struct client_row *rows;     /* ends at a NULL name; NULL: none */
	bool words_plain;                  /* the arguments go to an array of max_words pointers instead of a list */
	size_t words_at, max_words;        /* offset of a struct client_list for the arguments; how many there may be */
	const char *offers;                /* what completion offers for the arguments */
	const char *statuses;              /* NULL: 0 done, 1 refused, 2 usage */
	const char *example;               /* a command line, or several lines */
	int (*run)(int argc, char **argv); /* argv: what follows the name. NULL: main.c runs it */
};

/* All commands, in the order of the help; ends at NULL. */
extern const struct client_command *const client_commands[];
/* The command that argv[0..argc) names, with its number of words in *words; NULL: none. */
const struct client_command *client_command_find(int argc, char **argv, int *words);
/* Whether `name` is the first word of commands with two words. */
bool client_command_group(const char *name);

/* Reads the arguments into *options. Returns -1 to continue, else the exit status: after --help, or after a message. */
int client_parse(const struct client_command *c, int argc, char **argv, void *options);
/* The same, then asks `check`, which returns false after a message if the options make no sense together. */
int client_start(const struct client_command *c, int argc, char **argv, bool (*check)(void *options), void *options);
/* Prints "wasd NAME: MESSAGE" and the usage to stderr. Returns the exit status for wrong usage. */
int client_misused(const struct client_command *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Prints --help. */
void client_help(FILE *f, const struct client_command *c);
/* Prints text in lines of at most `columns` columns, the second and later ones indented by `indent`. The first line
 * begins at column `at`. */
void client_wrap(FILE *f, const char *text, int at, int indent, int columns);
/* A line per command. */
void client_list_commands(FILE *f);
/* What a command says about its exit status. */
const char *client_statuses(const struct client_command *c);

#endif
