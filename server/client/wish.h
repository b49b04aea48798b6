/* wish.h - a mode by wish in place of its name, as `wasd mode` and `wasd deploy` take it: bounds that must all hold. */
#ifndef CLIENT_WISH_H
#define CLIENT_WISH_H

#include "wasd/json.h"

#include <stdbool.h>

/* As given; NULL: no bound. */
struct client_wish {
	const char *within_us, *min_accuracy, *max_macs, *max_bytes;
};
bool client_wishes(const struct client_wish *w); /* is any bound given? */
/* Adds "mode" to the request if any bound is given. False: one is not a number, which has been printed, or no memory.
 */
bool client_wish_add(const char *command, const struct client_wish *w, cJSON *in);

/* The rows of a command whose options have a struct client_wish wish. does: "switch to". */
#define CLIENT_ROW_BOUND(type, option, letter, member, text) \
	{ \
		option, 0, letter, CLIENT_VALUE, offsetof(type, wish.member), text, NULL \
	}
#define CLIENT_ROWS_WISH(type, does) \
	CLIENT_ROW_BOUND(type, "--within-us", "N", within_us, \
	                 does " the most accurate mode that takes at most N microseconds for one image"), \
		CLIENT_ROW_BOUND(type, "--min-accuracy", "X", min_accuracy, \
	                     does " the fastest mode of at least this validation accuracy, e.g. 0.9"), \
		CLIENT_ROW_BOUND(type, "--max-macs", "N", max_macs, \
	                     does " the most accurate mode with at most N multiply-adds"), \
		CLIENT_ROW_BOUND(type, "--max-bytes", "N", max_bytes, \
	                     does " the most accurate mode with at most N bytes of weights")

#endif
