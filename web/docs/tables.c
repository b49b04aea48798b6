/* tables.c - prints, as Markdown, what a page of the reference takes from the daemon's own tables: `tables errors`,
 * `tables api`. Runs when the reference is built, so that these lists cannot fall behind. Nothing for any other page.
 */
#include "internal.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* Text as it is: whatever Markdown reads as markup is escaped. */
static void put_text(const char *s)
{
	for (; *s; s++) {
		if (ispunct((unsigned char)*s))
			putchar('\\');
		putchar(*s);
	}
}

static void errors(void)
{
	for (const struct api_error_row *e = api_errors; e->code; e++) {
		printf("\n### %s\n\n%d · ", e->code, e->status);
		put_text(e->title);
		printf(". ");
		put_text(e->explanation);
		printf("\n");
	}
}

static const char *body_of(enum api_body body)
{
	static const char *const names[] = {[API_BODY_NONE] = "none",
	                                    [API_BODY_JSON] = "JSON, at most 256 KiB",
	                                    [API_BODY_BULK] = "at most 16 MiB",
	                                    [API_BODY_UPLOAD] = "streamed to disk"};
	return names[body];
}

static void routes(void)
{
	printf("\n| Route | What it does | Query parameters | Body |\n| --- | --- | --- | --- |\n");
	for (const struct api_route *rt = api_routes; rt->method; rt++) {
		printf("| `%s %s` | ", rt->method, rt->pattern);
		put_text(rt->summary);
		printf(rt->query ? " | `%s` | " : " | | ", rt->query);
		put_text(body_of(rt->body));
		printf(" |\n");
	}
}

int main(int argc, char **argv)
{
	const char *page = argc == 2 ? argv[1] : "";
	if (!strcmp(page, "errors"))
		errors();
	else if (!strcmp(page, "api"))
		routes();
	return fflush(stdout) ? 1 : 0;
}
