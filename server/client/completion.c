/* completion.c - `wasd completion`: the scripts for bash and zsh, and the candidates that they ask for. Only the table
 * of commands and the daemon say what there is to complete. */
#include "client/client.h"
#include "client/commands.h"
#include "client/remote.h"

#include "wasd/base.h"
#include "wasd/json.h"
#include "wasd/spec.h"

#include <string.h>

static const char bash_script[] =
	"# Completion of wasd in bash: source <(wasd completion bash)\n"
	"_wasd() {\n"
	"\tlocal cur=${COMP_WORDS[COMP_CWORD]} IFS=$'\\n'\n"
	"\tCOMPREPLY=($(\"${COMP_WORDS[0]}\" completion words \"${COMP_WORDS[@]:1:COMP_CWORD}\" 2>/dev/null))\n"
	"\tif [[ ${COMPREPLY[0]} == @files ]]; then\n"
	"\t\tcompopt -o filenames 2>/dev/null\n"
	"\t\tCOMPREPLY=($(compgen -f -- \"$cur\"))\n"
	"\telif [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]]; then\n"
	"\t\tcompopt -o nospace 2>/dev/null\n"
	"\tfi\n"
	"}\n"
	"complete -F _wasd wasd\n";

static const char zsh_script[] =
	"#compdef wasd\n"
	"# Completion of wasd in zsh: source <(wasd completion zsh), after compinit\n"
	"_wasd() {\n"
	"\tlocal -a found open\n"
	"\tfound=(${(f)\"$(${words[1]} completion words \"${(@)words[2,CURRENT]}\" 2>/dev/null)\"})\n"
	"\tif [[ ${found[1]} == @files ]]; then\n"
	"\t\t_files\n"
	"\telse\n"
	"\t\topen=(${(M)found:#*=})\n"
	"\t\tcompadd -S '' -a open\n"
	"\t\tfound=(${found:#*=})\n"
	"\t\tcompadd -a found\n"
	"\tfi\n"
	"}\n"
	"compdef _wasd wasd\n";

/* ---- candidates ---- */

/* Prints a candidate that begins like the word that is completed. Words with spaces would fall apart. */
static void offer(const char *cur, const char *word)
{
	if (*word && !strncmp(word, cur, strlen(cur)) && !strpbrk(word, " \t\r\n\"'\\$`"))
		puts(word);
}

/* The members `key` of the newest objects of a list; nothing without a daemon. */
static void offer_list(const char *given, const char *cur, const char *head, const char *key)
{
	char where[CLIENT_WHERE], *url = client_url(given);
	const struct client_call call = {.head = head, .quiet = true};
	const cJSON *o;
	int status, fd = url ? client_send(url, &call, where) : -1;
	cJSON *list = fd < 0 ? NULL : client_receive(fd, &status), *said = cJSON_CreateObject();
	cJSON_ArrayForEach(o, wasd_json_get(list, "items")) {
		const char *word = client_text(o, key);
		if (!cJSON_GetObjectItemCaseSensitive(said, word) && cJSON_AddTrueToObject(said, word))
			offer(cur, word);
	}
	cJSON_Delete(said);
	cJSON_Delete(list);
	wasd_free(url);
}

/* Members of a job spec as --set takes them: train.epochs= */
static void offer_spec(const char *cur)
{
	cJSON *list = wasd_spec_to_json();
	const cJSON *m;
	const char *path;
	cJSON_ArrayForEach(m, list) {
		char key[200];
		if (!wasd_json_str(m, "path", &path) || strstr(path, "/N") || strlen(path) > sizeof key - 2)
			continue;
		snprintf(key, sizeof key, "%s=", path + 1);
		for (char *p = key; *p; p++)
			if (*p == '/')
				*p = '.';
		offer(cur, key);
	}
	cJSON_Delete(list);
}

static void offer_commands(const char *cur)
{
	for (const struct client_command *const *c = client_commands; *c; c++)
		offer(cur, (*c)->name);
}

static const struct {
	const char *kind, *head, *key;
} lists[] = {
	{"@jobs", "GET /v1/jobs?limit=100&fields=id,name", "name"},
	{"@deployments", "GET /v1/deployments?limit=100", "name"},
	{"@datasets", "GET /v1/datasets?limit=100", "name"},
	{"@sweeps", "GET /v1/sweeps?limit=100", "name"},
	{"@models", "GET /v1/models?limit=100", "name"},
};

/* offers: words and kinds of the descriptor. */
static void offer_all(const char *given, const char *cur, const char *offers)
{
	for (const char *p = offers; p && *p; p += strcspn(p, " "), p += strspn(p, " ")) {
		char word[60];
		snprintf(word, sizeof word, "%.*s", (int)strcspn(p, " "), p);
		if (!strcmp(word, "@spec"))
			offer_spec(cur);
		else if (!strcmp(word, "@commands"))
			offer_commands(cur);
		else if (!strcmp(word, "@files"))
			puts(word);
		else if (*word != '@')
			offer(cur, word);
		for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
			if (!strcmp(word, lists[i].kind)) {
				bool by_id = !strcmp(word, "@jobs") && !strncmp(cur, "job_", 4);
				offer_list(given, cur, lists[i].head, by_id ? "id" : lists[i].key);
			}
	}
}

/* The first words of all commands, or the second ones of those that begin with `group`. */
static void offer_names(const char *cur, const char *group)
{
	char word[60], before[60] = "";
	for (const struct client_command *const *c = client_commands; *c; c++) {
		const char *name = (*c)->name;
		size_t n = strcspn(name, " ");
		if (group && (strlen(group) != n || strncmp(name, group, n) || !name[n]))
			continue;
		snprintf(word, sizeof word, "%.*s", group ? 40 : (int)n, group ? name + n + 1 : name);
		if (strcmp(word, before)) /* the commands of a group stand together */
			offer(cur, word);
		strcpy(before, word);
	}
}

/* words: what was typed after "wasd", the word that is completed last. */
static void candidates(int n, char **words)
{
	const char *cur = n ? words[n - 1] : "", *given = NULL;
	int own = 0;
	const struct client_command *c = client_command_find(n - 1, words, &own);
	const struct client_row *r;
	for (int i = 0; i + 1 < n; i++)
		if (!strcmp(words[i], "--url"))
			given = words[i + 1];
	if (n <= 1)
		offer_names(cur, NULL);
	else if (n == 2)
		offer_names(cur, words[0]);
	if (!c)
		return;
	const char *before = n - 1 > own ? words[n - 2] : "";
	for (r = c->rows; r && r->name; r++)
		if (r->kind != CLIENT_FLAG &&
		    (!strcmp(before, r->name) || (r->brief && before[0] == '-' && before[1] == r->brief && !before[2]))) {
			offer_all(given, cur, r->offers);
			return;
		}
	if (*cur != '-') {
		offer_all(given, cur, c->offers);
		return;
	}
	for (r = c->rows; r && r->name; r++)
		offer(cur, r->name);
	offer(cur, "--help");
}

/* ---- the command ---- */

struct options {
	struct client_list words;
};

static int run_completion(int argc, char **argv)
{
	const struct client_command *c = &client_command_completion;
	struct options o = {0};
	if (argc && !strcmp(argv[0], "words")) {
		candidates(argc - 1, argv + 1);
		return CLIENT_OK;
	}
	int rc = client_parse(c, argc, argv, &o);
	if (rc >= 0)
		return rc;
	if (o.words.n != 1 || (strcmp(o.words.items[0], "bash") && strcmp(o.words.items[0], "zsh")))
		return client_misused(c, "give bash or zsh");
	fputs(!strcmp(o.words.items[0], "bash") ? bash_script : zsh_script, stdout);
	return CLIENT_OK;
}

const struct client_command client_command_completion = {
	.name = "completion",
	.arguments = "bash|zsh",
	.summary = "print the completion script of a shell",
	.text =
		"Prints a script that lets bash or zsh complete commands, options, members of specs, and the names of jobs, "
		"deployments, data sets and models of the running daemon. It calls wasd completion words WORD... for the "
		"candidates of the last word.",
	.words_at = offsetof(struct options, words),
	.max_words = 1,
	.offers = "bash zsh",
	.statuses = "0 printed, 2 wrong usage",
	.example = "source <(wasd completion bash)",
	.run = run_completion,
};
