/* names.c - lists of names and ids, as queries give them. */
#include "internal.h"

void storage_names_done(struct storage_names *l)
{
	for (size_t i = 0; i < l->n; i++)
		wasd_free(l->items[i]);
	wasd_free(l->items);
	*l = (struct storage_names){0};
}

enum wasd_status q_names(struct conn *c, sqlite3_stmt *q, enum wasd_status st, struct storage_names *out,
                         struct wasd_err *err)
{
	struct storage_names l = {0};
	while (q_row(c, q, &st, err)) {
		char **one = array_push((void **)&l.items, &l.n, sizeof *one);
		if (!one || !(*one = wasd_strdup(q_text(q, 0))))
			st = wasd_fail(err, WASD_ENOMEM, "no memory");
	}
	q_end(c, q);
	if (st)
		storage_names_done(&l);
	else
		*out = l;
	return st;
}
