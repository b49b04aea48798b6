/* server/http/assets.h - the files of the dashboard and of the reference; web/embed.sh links them in. */
#ifndef SERVER_HTTP_ASSETS_H
#define SERVER_HTTP_ASSETS_H

struct web_asset {
	const char *name;
	const unsigned char *data, *end;
};
extern const struct web_asset web_assets[]; /* a NULL name ends the list */

#endif
