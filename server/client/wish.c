/* wish.c - see wish.h. */
#include "client/wish.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

bool client_wishes(const struct client_wish *w)
{
	return w->within_us || w->min_accuracy || w->max_macs || w->max_bytes;
}

static bool add_bound(const char *command, cJSON *wish, const char *member, const char *text)
{
	char *end;
	double v = text ? strtod(text, &end) : 0;
	if (!text || (*text && !*end && isfinite(v) && cJSON_AddNumberToObject(wish, member, v)))
		return true;
	fprintf(stderr, "wasd %s: %s is not a number\n", command, text);
	return false;
}

bool client_wish_add(const char *command, const struct client_wish *w, cJSON *in)
{
	cJSON *wish = client_wishes(w) ? cJSON_AddObjectToObject(in, "mode") : NULL;
	return !client_wishes(w) ||
	       (wish && add_bound(command, wish, "within_us", w->within_us) &&
	        add_bound(command, wish, "min_accuracy", w->min_accuracy) &&
	        add_bound(command, wish, "max_macs", w->max_macs) && add_bound(command, wish, "max_bytes", w->max_bytes));
}
