/* engine/cmd_convert.c - wasd-engine convert: exports checkpoints to the formats of other programs, imports
 * those, and says what is in a checkpoint, directed by the daemon over descriptor 3 (protocol.h). It runs one
 * conversion at a time; a file appears under its name only when it is complete. */
#include "engine/commands.h"
#include "engine/confine.h"
#include "engine/link.h"
#include "wasd/convert.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- export ----------------------------------------------------------------------------------------- */

static enum wasd_status to_safetensors(const struct wasd_mode_source *from, void **out, size_t *out_len,
                                       struct wasd_err *err)
{
	if (wasd_mode_smaller(from->name))
		return wasd_export_smaller(from->file, from->len, from->name, out, out_len, err);
	return wasd_export_safetensors(from->file, from->len, out, out_len, err); /* contains every mode of the list */
}

static const struct {
	const char *name;
	enum wasd_status (*make)(const struct wasd_mode_source *, void **, size_t *, struct wasd_err *);
} formats[] = {
	{"safetensors", to_safetensors},
	{"onnx", wasd_export_onnx},
};
#define N_FORMATS (sizeof formats / sizeof *formats)

/* Reads the checkpoint that came with an export; a mode file may follow it. */
static enum wasd_status take_file(const struct wasd_frame *m, const struct wasd_payload *p,
                                  struct wasd_mode_source *out, struct wasd_err *err)
{
	int64_t behind = 0;
	wasd_json_i64(m->json, "profile_bytes", &behind);
	size_t len = p->len - (size_t)behind;
	out->file = p->data;
	out->len = len;
	out->mode_file = behind ? (const char *)p->data + len : NULL;
	out->mode_len = (size_t)behind;
	return engine_check_digest(p->data, len, engine_need_string(m->json, "sha256"), "checkpoint", err);
}

static void on_export(struct engine_link *link, const struct wasd_frame *m)
{
	const char *format = engine_need_string(m->json, "format"), *path = engine_need_string(m->json, "out");
	struct wasd_mode_source from = {.name = engine_need_string(m->json, "mode")};
	struct wasd_err err = {0};
	struct wasd_payload p = {0};
	void *out = NULL;
	size_t k = 0, out_len = 0;
	char sha[WASD_SHA256_HEX];
	while (k < N_FORMATS && strcmp(format, formats[k].name))
		k++;
	if (k == N_FORMATS || !wasd_mode_ok(from.name))
		engine_protocol_error("export: format %.40s, mode %.80s", format, from.name);
	enum wasd_status s = wasd_frame_payload(m, &p, &err);
	if (!s)
		s = take_file(m, &p, &from, &err);
	if (!s)
		s = formats[k].make(&from, &out, &out_len, &err);
	if (!s)
		s = wasd_file_write_atomic(path, out, out_len, &err);
	if (!s) {
		wasd_sha256_of(out, out_len, sha);
		engine_send(link, wasd_message("exported", "re:i bytes:i sha256:s", (int64_t)m->seq, (int64_t)out_len, sha),
		            NULL);
	} else {
		engine_error(link, m->seq, &err, NULL);
	}
	wasd_payload_done(&p);
	wasd_free(out);
}

/* ---- import ----------------------------------------------------------------------------------------- */

/* Maps a whole file. The file is in the daemon's own directory and does not change. */
static enum wasd_status map_file(const char *path, const void **bytes, size_t *len, struct wasd_err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	if (fd < 0 || fstat(fd, &st)) {
		enum wasd_status s = wasd_fail_errno(err, errno, "the file to import");
		if (fd >= 0)
			close(fd);
		return s;
	}
	void *p = st.st_size ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
	int why = st.st_size ? errno : 0;
	close(fd);
	if (p == MAP_FAILED)
		return why ? wasd_fail_errno(err, why, "the file to import") :
		             wasd_fail(err, WASD_ECORRUPT, "safetensors: an empty file");
	*bytes = p;
	*len = (size_t)st.st_size;
	return WASD_OK;
}

static void on_import(struct engine_link *link, const struct wasd_frame *m)
{
	const char *file = engine_need_string(m->json, "file"), *path = engine_need_string(m->json, "out");
	struct wasd_import how = {.model = wasd_json_get(m->json, "model"),
	                          .classes = wasd_json_get(m->json, "classes"),
	                          .input = wasd_json_get(m->json, "input")};
	struct wasd_err err = {0};
	const void *bytes = NULL;
	void *out = NULL;
	cJSON *info = NULL;
	size_t len = 0, out_len = 0;
	char sha[WASD_SHA256_HEX];
	wasd_json_bool(m->json, "to_serve", &how.to_serve);
	enum wasd_status s = map_file(file, &bytes, &len, &err);
	if (!s)
		s = wasd_import(bytes, len, &how, &out, &out_len, &info, &err);
	if (!s)
		s = wasd_file_write_atomic(path, out, out_len, &err);
	if (!s) {
		wasd_sha256_of(out, out_len, sha);
		engine_send(link,
		            wasd_message("imported", "re:i bytes:i sha256:s info:j", (int64_t)m->seq, (int64_t)out_len, sha,
		                         info),
		            NULL);
		info = NULL;
	} else {
		engine_error(link, m->seq, &err, NULL);
	}
	if (bytes)
		munmap((void *)(uintptr_t)bytes, len);
	cJSON_Delete(info);
	wasd_free(out);
}

/* ---- inspect ---------------------------------------------------------------------------------------- */

static size_t index_of(const cJSON *o, const char *key)
{
	int64_t v = 0;
	return wasd_json_i64(o, key, &v) && v > 0 ? (size_t)v : 0;
}

static void on_inspect(struct engine_link *link, const struct wasd_frame *m)
{
	const cJSON *of = wasd_json_get(m->json, "kernels");
	struct wasd_err err = {0};
	struct wasd_payload p = {0};
	cJSON *found = NULL;
	enum wasd_status s = wasd_frame_payload(m, &p, &err);
	if (!s)
		s = engine_check_digest(p.data, p.len, engine_need_string(m->json, "sha256"), "checkpoint", &err);
	if (!s && cJSON_IsObject(of)) {
		struct wasd_kernels k = {engine_need_string(of, "layer"), index_of(of, "output"), index_of(of, "outputs"),
		                         index_of(of, "input"), index_of(of, "inputs")};
		s = wasd_checkpoint_kernels(p.data, p.len, &k, &found, &err);
	} else if (!s) {
		s = wasd_checkpoint_layers(p.data, p.len, &found, &err);
	}
	if (!s)
		s = engine_send(link, wasd_message("inspected", "re:i found:j", (int64_t)m->seq, found), &err);
	if (s)
		engine_error(link, m->seq, &err, NULL);
	wasd_payload_done(&p);
}

static const struct engine_handler handlers[] = {
	{"export", on_export},
	{"import", on_import},
	{"inspect", on_inspect},
};

int cmd_convert(int argc, char **argv)
{
	if (argc > 1) {
		fprintf(stderr, "usage: wasd-engine %s    (started by the daemon, which talks to it over descriptor 3)\n",
		        argv[0]);
		return strcmp(argv[1], "--help") ? 2 : 0;
	}
	struct engine_link *link;
	struct wasd_err err = {0};
	if (engine_link_open(WASD_ROLE_CONVERT, &link, &err)) {
		fprintf(stderr, "wasd-engine convert: %s\n", err.msg);
		return 1;
	}
	engine_confine();
	engine_serve(link, handlers, sizeof handlers / sizeof *handlers);
	engine_link_close(link);
	return 0;
}
