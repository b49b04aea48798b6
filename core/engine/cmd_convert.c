/* engine/cmd_convert.c - wasd-engine convert: checkpoints made into files for other programs and back, led by the
 * daemon over descriptor 3 (protocol.h). One conversion after the other; a file appears under its name when it is
 * whole. */
#include "engine/commands.h"
#include "engine/confine.h"
#include "engine/link.h"
#include "wasd/convert.h"
#include "wasd/mode.h"
#include "wasd/profile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- export ----------------------------------------------------------------------------------------- */

static enum wasd_status to_safetensors(const void *bytes, size_t len, enum wasd_mode mode, void **out, size_t *out_len,
                                       struct wasd_err *err)
{
	(void)mode; /* the file has them all */
	return wasd_export_safetensors(bytes, len, out, out_len, err);
}

static const struct {
	const char *name;
	enum wasd_status (*make)(const void *, size_t, enum wasd_mode, void **, size_t *, struct wasd_err *);
} formats[] = {
	{"safetensors", to_safetensors},
	{"onnx", wasd_export_onnx},
};
#define N_FORMATS (sizeof formats / sizeof *formats)

/* The checkpoint that came with an export; with a profile behind it, the checkpoint that has the profile as its DOM.
 * *own: made here, for wasd_free. */
static enum wasd_status take_file(const struct wasd_frame *m, const char *all, size_t len, size_t profile, void **own,
                                  const void **file, size_t *file_len, struct wasd_err *err)
{
	size_t base = len - profile;
	enum wasd_status s = engine_check_digest(all, base, engine_need_string(m->json, "sha256"), "checkpoint", err);
	*file = all;
	*file_len = base;
	if (s || !profile)
		return s;
	s = wasd_profile_lay(all, base, all + base, profile, own, file_len, err);
	*file = *own;
	return s;
}

static void on_export(struct engine_link *link, const struct wasd_frame *m)
{
	const char *format = engine_need_string(m->json, "format"), *mode_name = engine_need_string(m->json, "mode"),
			   *path = engine_need_string(m->json, "out");
	bool profile = wasd_mode_member(mode_name) != NULL;
	enum wasd_mode mode = WASD_DOM;
	struct wasd_err err = {0};
	struct wasd_payload p = {0};
	const void *file = NULL;
	void *out = NULL, *own = NULL;
	size_t k = 0, out_len = 0, file_len = 0;
	int64_t over = 0;
	char sha[WASD_SHA256_HEX];
	while (k < N_FORMATS && strcmp(format, formats[k].name))
		k++;
	if (k == N_FORMATS || (!profile && !wasd_mode_from_name(mode_name, &mode)))
		engine_protocol_error("export: format %.40s, mode %.80s", format, mode_name);
	if (profile && !wasd_json_i64(m->json, "profile_bytes", &over))
		engine_protocol_error("export: a profile without profile_bytes");
	enum wasd_status s = wasd_frame_payload(m, &p, &err);
	if (!s)
		s = take_file(m, p.data, p.len, (size_t)over, &own, &file, &file_len, &err);
	if (!s)
		s = formats[k].make(file, file_len, mode, &out, &out_len, &err);
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
	wasd_free(own);
}

/* ---- import ----------------------------------------------------------------------------------------- */

/* A whole file, mapped. It lies in the daemon's own directory and does not change. */
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

static const struct engine_handler handlers[] = {
	{"export", on_export},
	{"import", on_import},
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
