/* print.c - how the commands print text and numbers of a daemon. */
#include "client/client.h"

#include "wasd/base.h"
#include "wasd/json.h"

#include <math.h>
#include <stdio.h>

const char *client_text(const cJSON *o, const char *key)
{
	const char *s;
	return wasd_json_str(o, key, &s) ? s : "-";
}

/* Names come from the files of users: a control character could move the cursor. */
int client_say(const char *s)
{
	int characters = 0;
	for (const unsigned char *p = (const unsigned char *)s; *p; p++) {
		putchar(*p < 0x20 || *p == 0x7f ? '?' : *p);
		characters += (*p & 0xc0) != 0x80;
	}
	return characters;
}

void client_cell(const char *s, int width)
{
	int characters = client_say(s);
	printf("%*s", (characters < width ? width - characters : 0) + 1, "");
}

const char *client_number(const cJSON *o, const char *key, double scale, int decimals, char out[CLIENT_NUMBER])
{
	double v;
	if (wasd_json_num(o, key, &v))
		snprintf(out, CLIENT_NUMBER, fabs(v * scale) < 1e15 ? "%.*f" : "%.*e", decimals, v * scale);
	else
		snprintf(out, CLIENT_NUMBER, "-");
	return out;
}

int client_print_json(const cJSON *o)
{
	char *text = wasd_json_print(o);
	if (text)
		puts(text);
	wasd_free(text);
	return text ? CLIENT_OK : CLIENT_FAILED;
}

int client_print_items(cJSON *items)
{
	cJSON *list = cJSON_CreateObject();
	bool ok = cJSON_AddItemToObject(list, "items", items);
	if (!ok)
		cJSON_Delete(items);
	int rc = ok ? client_print_json(list) : CLIENT_FAILED;
	cJSON_Delete(list);
	return rc;
}
