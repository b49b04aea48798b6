/* server/webhooks.h - sends the events of the database to the URLs that ask for them. */
#ifndef SERVER_WEBHOOKS_H
#define SERVER_WEBHOOKS_H

#include "api.h"
#include "storage.h"

struct webhooks;

struct webhooks_config {
	struct storage *db;
	int timeout_ms; /* of one attempt */
	int retry_ms;   /* wait after the first failed attempt; it doubles with each further one, up to 15 minutes */
};

enum wasd_status webhooks_create(const struct webhooks_config *cfg, struct webhooks **out, struct wasd_err *err);
void webhooks_event(struct webhooks *w); /* there are new events; any thread; NULL is fine */
void webhooks_poke(struct webhooks *w);  /* a hook has changed; any thread; NULL is fine */
/* Ends the thread; what is being sent is sent again after the next start. NULL is fine. */
void webhooks_stop(struct webhooks *w);
void webhooks_destroy(struct webhooks *w);
struct api_webhooks webhooks_api(struct webhooks *w);

#endif
