/* engine/cmd_profile.c - wasd-engine profile: searches one profile of a checkpoint, tunes one cascade, computes one
 * report, or merges or archives checkpoints, directed by the daemon over descriptor 3 (protocol.h). The dataset is one
 * of the daemon's own files. The checkpoint comes from the daemon too, but may have been uploaded. */
#include "engine/commands.h"
#include "engine/confine.h"
#include "engine/link.h"
#include "wasd/archive.h"
#include "wasd/data.h"
#include "wasd/infer.h"
#include "wasd/making.h"
#include "wasd/merge.h"
#include "wasd/profile.h"
#include "wasd/train.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PROGRESS_US 250000

struct hunt {
	struct engine_link *link;
	int64_t next;
};

static bool go_on(void *ctx, int done, int of)
{
	struct hunt *h = ctx;
	int64_t now = wasd_mono_us();
	if (now >= h->next) {
		h->next = now + PROGRESS_US;
		engine_send(h->link, wasd_message("progress", "done:i of:i", (int64_t)done, (int64_t)of), NULL);
	}
	return !engine_link_cancelled(h->link);
}

static void send_failed(struct engine_link *link, const struct wasd_err *e)
{
	engine_send(link,
	            wasd_message("failed", "status:s pointer:?s message:s", wasd_status_name(e->status),
	                         *e->pointer ? e->pointer : NULL, e->msg),
	            NULL);
}

static enum wasd_status send_made(struct engine_link *link, const void *file, size_t len, cJSON *info,
                                  struct wasd_err *err)
{
	char sha[WASD_SHA256_HEX];
	int fd;
	enum wasd_status s = wasd_memfd_sealed("wasd-mode", file, len, &fd, err);
	if (s) {
		cJSON_Delete(info);
		return s;
	}
	wasd_sha256_of(file, len, sha);
	s = engine_send_full(link, wasd_message("made", "bytes:i sha256:s info:j", (int64_t)len, sha, info), NULL, 0, fd,
	                     NULL, err);
	close(fd);
	return s;
}

/* The images and the file of a request. */
struct given {
	struct wasd_dataset *data;
	struct wasd_payload file;
	size_t len; /* of the checkpoint, with which the file begins */
};

static void given_done(struct given *g)
{
	wasd_payload_done(&g->file);
	wasd_dataset_close(g->data);
}

static enum wasd_status read_given(const struct wasd_frame *m, struct given *g, struct wasd_err *err)
{
	const char *path = engine_need_string(m->json, "dataset"), *sha = engine_need_string(m->json, "sha256");
	int64_t threads = 0, bytes = 0;
	wasd_json_i64(m->json, "threads", &threads);
	wasd_json_i64(m->json, "bytes", &bytes);
	engine_be_nice(m->json);
	enum wasd_status s = wasd_threads_init((int)threads, err);
	if (s || (*path && (s = wasd_dataset_open(path, &g->data, err))) || (s = wasd_frame_payload(m, &g->file, err)))
		return s;
	g->len = (size_t)bytes;
	if (g->len > g->file.len)
		engine_protocol_error("%s: a file of %zu bytes, said to begin with %zu", m->type, g->file.len, g->len);
	s = engine_check_digest(g->file.data, g->len, sha, "checkpoint", err);
	return s || !g->data ? s : wasd_train_select_as(g->data, g->file.data, g->len, err);
}

static struct wasd_making making(const struct wasd_frame *m, const struct given *g, struct hunt *h)
{
	struct wasd_making o = {.file = g->file.data,
	                        .len = g->len,
	                        .data = g->data,
	                        .request = wasd_json_get(m->json, "request"),
	                        .own = cJSON_IsTrue(wasd_json_get(m->json, "own")),
	                        .go_on = go_on,
	                        .ctx = h};
	if (g->file.len > g->len) {
		o.base_file = (const char *)g->file.data + g->len;
		o.base_len = g->file.len - g->len;
	}
	return o;
}

static enum wasd_status make(struct engine_link *link, const struct wasd_frame *m, struct wasd_err *err)
{
	struct hunt h = {.link = link};
	struct given g = {0};
	void *file = NULL;
	cJSON *info = NULL;
	size_t len = 0;
	enum wasd_status s = read_given(m, &g, err);
	struct wasd_making o = making(m, &g, &h);
	if (!s)
		s = wasd_mode_make(&o, &file, &len, &info, err);
	if (!s)
		s = send_made(link, file, len, info, err);
	given_done(&g);
	wasd_free(file);
	return s;
}

static enum wasd_status measure(struct engine_link *link, const struct wasd_frame *m, struct wasd_err *err)
{
	struct hunt h = {.link = link};
	struct given g = {0};
	cJSON *own = NULL;
	enum wasd_status s = read_given(m, &g, err);
	struct wasd_making o = making(m, &g, &h);
	if (!s)
		s = wasd_modes_measure(&o, &own, err);
	if (!s)
		s = engine_send(link, wasd_message("measured", "own:j", own), err);
	given_done(&g);
	return s;
}

static enum wasd_status tune(struct engine_link *link, const struct wasd_frame *m, struct wasd_err *err)
{
	struct hunt h = {.link = link};
	struct given g = {0};
	cJSON *info = NULL;
	double keep = 1;
	enum wasd_status s = read_given(m, &g, err);
	wasd_json_num(m->json, "keep", &keep);
	struct wasd_mode_source aom = {.file = g.file.data, .len = g.len, .name = WASD_MODE_AOM},
							cheap = {.file = g.file.data, .len = g.len, .name = engine_need_string(m->json, "mode")};
	if (!s && g.file.len > g.len) {
		cheap.mode_file = (const char *)g.file.data + g.len;
		cheap.mode_len = g.file.len - g.len;
	}
	if (!s)
		s = wasd_cascade_tune(&(struct wasd_cascade_opts){.aom = &aom,
		                                                  .cheap = &cheap,
		                                                  .data = g.data,
		                                                  .keep = keep,
		                                                  .go_on = go_on,
		                                                  .ctx = &h},
		                      &info, err);
	if (!s)
		s = engine_send(link, wasd_message("tuned", "info:j", info), err);
	given_done(&g);
	return s;
}

/* The modes whose files follow the checkpoint; returns how many. */
static int read_modes(const struct wasd_frame *m, const struct given *g,
                      struct wasd_mode_source out[WASD_REPORT_MODES_MAX])
{
	size_t at = g->len;
	int n = 0;
	const cJSON *row;
	cJSON_ArrayForEach(row, wasd_json_get(m->json, "modes")) {
		struct wasd_mode_source *mode = &out[n++];
		int64_t bytes = 0;
		*mode = (struct wasd_mode_source){.file = g->file.data, .len = g->len};
		if (!wasd_json_str(row, "mode", &mode->name) || !wasd_json_i64(row, "bytes", &bytes) || bytes < 1 ||
		    (uint64_t)bytes > g->file.len - at)
			engine_protocol_error("%s: mode %d has no name, or a file that is not there", m->type, n);
		mode->mode_file = (const char *)g->file.data + at;
		mode->mode_len = (size_t)bytes;
		at += (size_t)bytes;
	}
	return n;
}

static enum wasd_status report(struct engine_link *link, const struct wasd_frame *m, struct wasd_err *err)
{
	struct hunt h = {.link = link};
	struct given g = {0};
	struct wasd_mode_source more[WASD_REPORT_MODES_MAX];
	cJSON *info = NULL;
	enum wasd_status s = read_given(m, &g, err);
	if (!s)
		s = wasd_report_make(&(struct wasd_report_opts){.file = g.file.data,
		                                                .len = g.len,
		                                                .more = more,
		                                                .n_more = read_modes(m, &g, more),
		                                                .test = cJSON_IsTrue(wasd_json_get(m->json, "test")),
		                                                .data = g.data,
		                                                .go_on = go_on,
		                                                .ctx = &h},
		                     &info, err);
	if (!s)
		s = engine_send(link, wasd_message("reported", "info:j", info), err);
	given_done(&g);
	return s;
}

/* The checkpoints that stand in the file one after the other. */
static void list_files(const struct wasd_frame *m, const struct given *g, struct wasd_merge_opts *out)
{
	size_t at = 0;
	const cJSON *row;
	cJSON_ArrayForEach(row, wasd_json_get(m->json, "checkpoints")) {
		struct wasd_merge_file *f = &out->file[out->n++];
		int64_t bytes = 0;
		if (!wasd_json_str(row, "checkpoint", &f->name) || !wasd_json_i64(row, "bytes", &bytes) || bytes < 1 ||
		    (uint64_t)bytes > g->file.len - at)
			engine_protocol_error("%s: checkpoint %d has no name, or is not there", m->type, out->n);
		f->data = (const char *)g->file.data + at;
		f->len = (size_t)bytes;
		at += f->len;
	}
}

static enum wasd_status send_merged(struct engine_link *link, const void *file, size_t len, cJSON *info, cJSON *metrics,
                                    struct wasd_err *err)
{
	char sha[WASD_SHA256_HEX];
	int fd;
	enum wasd_status s = wasd_memfd_sealed("wasd-merged", file, len, &fd, err);
	if (s) {
		cJSON_Delete(info);
		cJSON_Delete(metrics);
		return s;
	}
	wasd_sha256_of(file, len, sha);
	s = engine_send_full(link,
	                     wasd_message("merged", "bytes:i sha256:s info:j metrics:j", (int64_t)len, sha, info, metrics),
	                     NULL, 0, fd, NULL, err);
	close(fd);
	return s;
}

static enum wasd_status merge(struct engine_link *link, const struct wasd_frame *m, struct wasd_err *err)
{
	struct hunt h = {.link = link};
	struct given g = {0};
	void *file = NULL;
	cJSON *info = NULL, *metrics = NULL;
	size_t len = 0;
	struct wasd_merge_opts o = {.request = wasd_json_get(m->json, "request"), .go_on = go_on, .ctx = &h};
	enum wasd_status s = read_given(m, &g, err);
	if (!s) {
		o.data = g.data;
		list_files(m, &g, &o);
		s = wasd_merge(&o, &file, &len, &info, &metrics, err);
	}
	if (!s)
		s = send_merged(link, file, len, info, metrics, err);
	given_done(&g);
	wasd_free(file);
	return s;
}

/* ---- archives --------------------------------------------------------------------------------------------------- */

/* A checkpoint that the daemon has given. */
struct piece {
	struct wasd_frame m;
	struct wasd_payload p;
};

static void close_piece(void *ctx, struct wasd_archive_file *f)
{
	struct piece *piece = f->own;
	(void)ctx;
	wasd_payload_done(&piece->p);
	wasd_frame_done(&piece->m);
	wasd_free(piece);
}

static enum wasd_status open_piece(void *ctx, int index, uint64_t bytes, struct wasd_archive_file *out,
                                   struct wasd_err *err)
{
	struct hunt *h = ctx;
	struct piece *piece = wasd_calloc(1, sizeof *piece);
	struct wasd_archive_file f = {.own = piece};
	if (!piece)
		return wasd_fail(err, WASD_ENOMEM, "a checkpoint");
	*piece = (struct piece){.m = {.fd = -1}};
	engine_send(h->link, wasd_message("need", "index:i bytes:i", (int64_t)index, (int64_t)bytes), NULL);
	engine_link_next(h->link, &piece->m, NULL);
	if (strcmp(piece->m.type, "given"))
		engine_protocol_error("message '%.40s', want 'given'", piece->m.type);
	f.checkpoint = engine_need_string(piece->m.json, "checkpoint");
	f.metrics = wasd_json_get(piece->m.json, "metrics");
	wasd_json_str(piece->m.json, "job", &f.job);
	enum wasd_status s = wasd_frame_payload(&piece->m, &piece->p, err);
	if (!s)
		s = engine_check_digest(piece->p.data, piece->p.len, engine_need_string(piece->m.json, "sha256"), f.checkpoint,
		                        err);
	f.data = piece->p.data;
	f.len = piece->p.len;
	if (s)
		close_piece(NULL, &f);
	else
		*out = f;
	return s;
}

static enum wasd_status archive(struct engine_link *link, const struct wasd_frame *m, struct wasd_err *err)
{
	struct hunt h = {.link = link};
	struct wasd_archive_made made;
	int64_t threads = 0, n = 0;
	wasd_json_i64(m->json, "threads", &threads);
	wasd_json_i64(m->json, "n", &n);
	engine_be_nice(m->json);
	struct wasd_archive_opts o = {.n = (int)n,
	                              .request = wasd_json_get(m->json, "request"),
	                              .open = open_piece,
	                              .close = close_piece,
	                              .go_on = go_on,
	                              .ctx = &h};
	enum wasd_status s = wasd_threads_init((int)threads, err);
	if (!s)
		s = wasd_archive(&o, engine_need_string(m->json, "out"), &made, err);
	if (!s)
		s = engine_send(link,
		                wasd_message("archived", "files:i bytes:i sha256:s", (int64_t)made.files, (int64_t)made.bytes,
		                             made.sha256),
		                err);
	return s;
}

int cmd_profile(int argc, char **argv)
{
	struct engine_link *link;
	struct wasd_err err = {0};
	struct wasd_frame m = {.fd = -1};
	if (argc > 1) {
		fprintf(stderr, "usage: wasd-engine %s    (started by the daemon, which talks to it over descriptor 3)\n",
		        argv[0]);
		return strcmp(argv[1], "--help") ? 2 : 0;
	}
	if (engine_link_open(WASD_ROLE_PROFILE, &link, &err)) {
		fprintf(stderr, "wasd-engine profile: %s\n", err.msg);
		return 1;
	}
	engine_confine();
	engine_link_next(link, &m, NULL);
	enum wasd_status s = WASD_OK;
	if (!strcmp(m.type, "make"))
		s = make(link, &m, &err);
	else if (!strcmp(m.type, "measure"))
		s = measure(link, &m, &err);
	else if (!strcmp(m.type, "tune"))
		s = tune(link, &m, &err);
	else if (!strcmp(m.type, "report"))
		s = report(link, &m, &err);
	else if (!strcmp(m.type, "merge"))
		s = merge(link, &m, &err);
	else if (!strcmp(m.type, "archive"))
		s = archive(link, &m, &err);
	else
		engine_protocol_error(
			"first message is '%.40s', want 'make', 'measure', 'tune', 'report', 'merge' or 'archive'", m.type);
	if (s)
		send_failed(link, &err);
	wasd_frame_done(&m);
	engine_link_close(link);
	wasd_threads_done();
	return 0;
}
