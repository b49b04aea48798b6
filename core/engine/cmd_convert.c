/* engine/cmd_convert.c - wasd-engine convert: checkpoints made into files for other programs, led by the daemon over descriptor 3
 * (protocol.h). One conversion after the other; a file appears under its name when it is whole. */
#include "engine/commands.h"
#include "engine/confine.h"
#include "engine/link.h"
#include "wasd/convert.h"

#include <stdio.h>
#include <string.h>

static const char *need_string(const cJSON *m, const char *key)
{
	const char *v;
	if (!wasd_json_str(m, key, &v))
		engine_protocol_error("message without a string \"%s\"", key);
	return v;
}

/* ---- export ----------------------------------------------------------------------------------------- */

static enum wasd_status to_safetensors(const void *bytes, size_t len, enum wasd_mode mode, void **out, size_t *out_len, struct wasd_err *err)
{
	(void)mode;                                     /* the file has them all */
	return wasd_export_safetensors(bytes, len, out, out_len, err);
}

static const struct { const char *name; enum wasd_status (*make)(const void *, size_t, enum wasd_mode, void **, size_t *, struct wasd_err *); } formats[] = {
	{"safetensors", to_safetensors}, {"onnx", wasd_export_onnx},
};
#define N_FORMATS (sizeof formats / sizeof *formats)

static enum wasd_status check_digest(const struct wasd_msg *m, const void *bytes, size_t len, struct wasd_err *err)
{
	const char *sha = need_string(m->json, "sha256");
	char have[WASD_SHA256_HEX];
	wasd_sha256_of(bytes, len, have);
	return strcmp(have, sha) ? wasd_fail(err, WASD_ECORRUPT, "checkpoint: digest %.16s..., announced %.16s...", have, sha) : WASD_OK;
}

static void on_export(struct engine_link *link, const struct wasd_msg *m)
{
	const char *format = need_string(m->json, "format"), *mode_name = need_string(m->json, "mode"), *path = need_string(m->json, "out");
	enum wasd_mode mode;
	struct wasd_err err = {0};
	const void *bytes = NULL;
	void *out = NULL;
	size_t k = 0, out_len = 0;
	int64_t len;
	char sha[WASD_SHA256_HEX];
	while (k < N_FORMATS && strcmp(format, formats[k].name))
		k++;
	if (k == N_FORMATS || !wasd_mode_from_name(mode_name, &mode) || m->fd < 0 || !wasd_json_i64(m->json, "bytes", &len) || len < 1)
		engine_protocol_error("export: needs format, mode, bytes and the file");
	enum wasd_status s = wasd_memfd_map(m->fd, (size_t)len, &bytes, &err);
	if (!s)
		s = check_digest(m, bytes, (size_t)len, &err);
	if (!s)
		s = formats[k].make(bytes, (size_t)len, mode, &out, &out_len, &err);
	if (!s)
		s = wasd_file_write_atomic(path, out, out_len, &err);
	if (!s) {
		wasd_sha256_of(out, out_len, sha);
		cJSON *j = cJSON_CreateObject();
		cJSON_AddStringToObject(j, "type", "exported");
		cJSON_AddNumberToObject(j, "re", m->seq);
		cJSON_AddNumberToObject(j, "bytes", (double)out_len);
		cJSON_AddStringToObject(j, "sha256", sha);
		engine_send(link, j, NULL);
	} else {
		engine_error(link, m->seq, &err, NULL);
	}
	if (bytes)
		wasd_memfd_unmap(bytes, (size_t)len);
	wasd_free(out);
}

static const struct { const char *type; void (*handle)(struct engine_link *link, const struct wasd_msg *m); } handlers[] = {
	{"export", on_export},
};

int cmd_convert(int argc, char **argv)
{
	if (argc > 1) {
		fprintf(stderr, "usage: wasd-engine %s    (started by the daemon, which talks to it over descriptor 3)\n", argv[0]);
		return strcmp(argv[1], "--help") ? 2 : 0;
	}
	struct engine_link *link;
	struct wasd_err err = {0};
	if (engine_link_open("convert", &link, &err)) {
		fprintf(stderr, "wasd-engine convert: %s\n", err.msg);
		return 1;
	}
	engine_confine();
	for (;;) {                                      /* the end of the stream ends the process */
		struct wasd_msg m = {.fd = -1};
		engine_link_next(link, &m, NULL);
		size_t k = 0;
		while (k < sizeof handlers / sizeof *handlers && strcmp(m.type, handlers[k].type))
			k++;
		if (k == sizeof handlers / sizeof *handlers)
			engine_protocol_error("unknown message '%.40s'", m.type);
		handlers[k].handle(link, &m);
		wasd_msg_done(&m);
	}
}
