/* engine/cmd_profile.c - wasd-engine profile: one search for a profile of a checkpoint, led by the daemon over descriptor 3 (protocol.h).
 * The dataset is a file of the daemon's own; the checkpoint came from it too, but may once have been an upload. */
#include "engine/commands.h"
#include "engine/confine.h"
#include "engine/link.h"
#include "wasd/data.h"
#include "wasd/profile.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define PROGRESS_US 250000

struct hunt { struct engine_link *link; int64_t next; };

static bool go_on(void *ctx, int done, int of)
{
	struct hunt *h = ctx;
	int64_t now = wasd_mono_us();
	if (now >= h->next) {
		h->next = now + PROGRESS_US;
		cJSON *j = cJSON_CreateObject();
		cJSON_AddStringToObject(j, "type", "progress");
		cJSON_AddNumberToObject(j, "done", done);
		cJSON_AddNumberToObject(j, "of", of);
		engine_send(h->link, j, NULL);
	}
	return !engine_link_cancelled(h->link);
}

static void send_failed(struct engine_link *link, const struct wasd_err *e)
{
	cJSON *j = cJSON_CreateObject();
	cJSON_AddStringToObject(j, "type", "failed");
	cJSON_AddStringToObject(j, "status", wasd_status_name(e->status));
	if (*e->pointer)
		cJSON_AddStringToObject(j, "pointer", e->pointer);
	else
		cJSON_AddNullToObject(j, "pointer");
	cJSON_AddStringToObject(j, "message", e->msg);
	engine_send(link, j, NULL);
}

static enum wasd_status send_profile(struct engine_link *link, const void *overlay, size_t len, cJSON *info, struct wasd_err *err)
{
	char sha[WASD_SHA256_HEX];
	int fd;
	enum wasd_status s = wasd_memfd_sealed("wasd-profile", overlay, len, &fd, err);
	if (s) {
		cJSON_Delete(info);
		return s;
	}
	wasd_sha256_of(overlay, len, sha);
	cJSON *j = cJSON_CreateObject();
	cJSON_AddStringToObject(j, "type", "profile");
	cJSON_AddNumberToObject(j, "bytes", (double)len);
	cJSON_AddStringToObject(j, "sha256", sha);
	if (!cJSON_AddItemToObject(j, "info", info))
		cJSON_Delete(info);
	s = engine_send_full(link, j, NULL, 0, fd, NULL, err);
	close(fd);
	return s;
}

static enum wasd_status search(struct engine_link *link, const struct wasd_msg *m, struct wasd_err *err)
{
	const char *path = engine_need_string(m->json, "dataset"), *sha = engine_need_string(m->json, "sha256");
	struct hunt h = {.link = link};
	struct wasd_dataset *data = NULL;
	const void *file = NULL;
	void *overlay = NULL;
	cJSON *info = NULL;
	size_t len = 0;
	int64_t bytes, threads = 0, niceness = 0;
	if (m->fd < 0 || !wasd_json_i64(m->json, "bytes", &bytes) || bytes < 1 || !wasd_json_i64(m->json, "threads", &threads) || threads < 0 || threads > WASD_THREADS_MAX ||
	    !cJSON_IsObject(wasd_json_get(m->json, "request")))
		engine_protocol_error("search: needs bytes, threads, request and the file");
	if (wasd_json_i64(m->json, "nice", &niceness) && niceness > 0)
		setpriority(PRIO_PROCESS, 0, (int)niceness);
	enum wasd_status s = wasd_threads_init((int)threads, err);
	if (s || (s = wasd_dataset_open(path, &data, err)) || (s = wasd_memfd_map(m->fd, (size_t)bytes, &file, err)) ||
	    (s = engine_check_digest(file, (size_t)bytes, sha, "checkpoint", err)))
		goto end;
	struct wasd_profile_opts o = {.file = file, .len = (size_t)bytes, .data = data, .request = wasd_json_get(m->json, "request"), .go_on = go_on, .ctx = &h};
	s = wasd_profile_search(&o, &overlay, &len, &info, err);
	if (!s)
		s = send_profile(link, overlay, len, info, err);
end:
	if (file)
		wasd_memfd_unmap(file, (size_t)bytes);
	wasd_dataset_close(data);
	wasd_free(overlay);
	return s;
}

int cmd_profile(int argc, char **argv)
{
	struct engine_link *link;
	struct wasd_err err = {0};
	struct wasd_msg m = {.fd = -1};
	if (argc > 1) {
		fprintf(stderr, "usage: wasd-engine %s    (started by the daemon, which talks to it over descriptor 3)\n", argv[0]);
		return strcmp(argv[1], "--help") ? 2 : 0;
	}
	if (engine_link_open(WASD_ROLE_PROFILE, &link, &err)) {
		fprintf(stderr, "wasd-engine profile: %s\n", err.msg);
		return 1;
	}
	engine_confine();
	engine_link_next(link, &m, NULL);
	if (strcmp(m.type, "search"))
		engine_protocol_error("first message is '%.40s', want 'search'", m.type);
	if (search(link, &m, &err))
		send_failed(link, &err);
	wasd_msg_done(&m);
	engine_link_close(link);
	wasd_threads_done();
	return 0;
}
