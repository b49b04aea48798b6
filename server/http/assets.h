/* server/http/assets.h - the files of the dashboard and the reference, linked in by web/embed.sh. */
#ifndef SERVER_HTTP_ASSETS_H
#define SERVER_HTTP_ASSETS_H

struct web_asset {
	const char *name;
	const unsigned char *data, *end;
};
extern const struct web_asset web_assets[]; /* ends with a NULL name */

#endif
