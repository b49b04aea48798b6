/* engine/cmd_capabilities.c - wasd-engine capabilities: prints every table of core as JSON on stdout. */
#include "engine/commands.h"
#include "wasd/model.h"

#include <stdio.h>

int cmd_capabilities(int argc, char **argv)
{
	if (argc > 1) {
		fprintf(stderr, "wasd-engine %s: unexpected argument '%s'\n", argv[0], argv[1]);
		return 2;
	}
	cJSON *j = wasd_capabilities();
	char *text = j ? wasd_json_print(j) : NULL;
	int rc = text ? 0 : 1;
	if (text)
		puts(text);
	else
		fprintf(stderr, "wasd-engine capabilities: out of memory\n");
	wasd_free(text);
	cJSON_Delete(j);
	return rc;
}
