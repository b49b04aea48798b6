/* convert.c - see convert.h.
 *
 * Converted files are a cache under DATA/exports, named after checkpoint, mode and format: at most FILES_MAX files and
 * BYTES_MAX bytes. The least recently used file is removed first, and every file is removed when it has been idle for
 * idle_ms. A reader holds a descriptor, so a file may be unlinked at any time. The directory is emptied at start. */
#include "jobs/convert.h"

#include "jobs/blobs.h"
#include "process/helper.h"
#include "log.h"
#include "wasd/cond.h"
#include "wasd/protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES_MAX = 8, SWEEP_S = 600, IDLE_MS = 5000, WAITING_MAX = 16 };
#define BYTES_MAX ((int64_t)1 << 30)

struct made {
	char name[160];
	int64_t bytes, used_us;
	char sha256[WASD_SHA256_HEX];
}; /* name "": free entry */

struct convert {
	struct convert_config cfg;
	char *dir;
	struct helper helper;
	pthread_mutex_t lock;
	pthread_cond_t free; /* `making` has become false */
	bool making;         /* one conversion at a time; protected by lock, like the table */
	struct made made[FILES_MAX];
	int64_t sweep_us; /* [S] */
};

/* ---- the files; lock held ------------------------------------------------------------------------------------ */

static void forget(struct convert *c, struct made *m)
{
	char *path = wasd_asprintf("%s/%s", c->dir, m->name);
	if (path)
		unlink(path);
	wasd_free(path);
	*m = (struct made){0};
}

static struct made *oldest(struct convert *c, int64_t *total, int *n)
{
	struct made *found = NULL;
	*total = *n = 0;
	for (int i = 0; i < FILES_MAX; i++) {
		struct made *m = &c->made[i];
		if (!m->name[0])
			continue;
		*total += m->bytes;
		(*n)++;
		if (!found || m->used_us < found->used_us)
			found = m;
	}
	return found;
}

/* Makes room for one more entry of that size. */
static struct made *make_room(struct convert *c, int64_t bytes)
{
	int64_t total;
	int n;
	for (struct made *m; (m = oldest(c, &total, &n)) && (n == FILES_MAX || total + bytes > BYTES_MAX);)
		forget(c, m);
	for (int i = 0; i < FILES_MAX; i++)
		if (!c->made[i].name[0])
			return &c->made[i];
	return NULL;
}

/* Opens a cached file. False: it is not in the cache. */
static bool open_made(struct convert *c, const char *name, struct api_file *out)
{
	bool found = false;
	pthread_mutex_lock(&c->lock);
	for (int i = 0; i < FILES_MAX && !found; i++) {
		struct made *m = &c->made[i];
		if (strcmp(m->name, name))
			continue;
		char *path = wasd_asprintf("%s/%s", c->dir, name);
		struct stat st;
		int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
		found = fd >= 0 && !fstat(fd, &st) && st.st_size == m->bytes;
		if (found) {
			m->used_us = wasd_mono_us();
			*out = (struct api_file){.fd = fd, .bytes = m->bytes};
			memcpy(out->sha256, m->sha256, sizeof out->sha256);
		} else {
			if (fd >= 0)
				close(fd);
			forget(c, m);
		}
		wasd_free(path);
	}
	pthread_mutex_unlock(&c->lock);
	return found;
}

static void convert_tick(void *ctx)
{
	struct convert *c = ctx;
	int64_t now = wasd_mono_us();
	if (now >= c->sweep_us) {
		c->sweep_us = now + SWEEP_S * 1000000ll;
		blobs_sweep(c->cfg.data_dir);
	}
	pthread_mutex_lock(&c->lock);
	for (int i = 0; i < FILES_MAX; i++)
		if (c->made[i].name[0] && now - c->made[i].used_us > c->cfg.idle_ms * 1000ll)
			forget(c, &c->made[i]);
	pthread_mutex_unlock(&c->lock);
}

/* ---- one at a time -------------------------------------------------------------------------------------------- */

/* Waits until no other conversion runs, and begins one, which `end` ends. WASD_EBUSY: the deadline has passed. */
static enum wasd_status begin(struct convert *c, int64_t deadline_us, struct wasd_err *err)
{
	pthread_mutex_lock(&c->lock);
	bool in_time = wasd_mono_us() < deadline_us;
	while (c->making && in_time)
		in_time = wasd_cond_wait_until(&c->free, &c->lock, deadline_us);
	bool mine = !c->making && wasd_mono_us() < deadline_us;
	c->making |= mine;
	pthread_mutex_unlock(&c->lock);
	return mine ? WASD_OK : wasd_fail(err, WASD_EBUSY, "other conversions of checkpoints took too long; try again");
}

static void end(struct convert *c)
{
	pthread_mutex_lock(&c->lock);
	c->making = false;
	pthread_cond_signal(&c->free);
	pthread_mutex_unlock(&c->lock);
}

/* ---- converting -------------------------------------------------------------------------------------------------- */

/* profile: id of the mode's profile, NULL for aom and dom. */
static enum wasd_status ask(struct convert *c, const char *checkpoint, const char *profile, const char *format,
                            const char *mode, const char *path, int64_t deadline_us, struct api_call *call,
                            struct wasd_err *err)
{
	int fd;
	int64_t bytes, overlay = 0;
	char sha[WASD_SHA256_HEX];
	enum wasd_status s = profile ? storage_profile_memfd(c->cfg.db, profile, &fd, &bytes, sha, &overlay, err) :
	                               storage_ckpt_memfd(c->cfg.db, checkpoint, &fd, &bytes, sha, err);
	if (s != WASD_OK)
		return s;
	call->json = wasd_message("export",
	                          profile ? "format:s mode:s bytes:i sha256:s out:s profile_bytes:i" :
	                                    "format:s mode:s bytes:i sha256:s out:s",
	                          format, mode, bytes, sha, path, overlay);
	return helper_ask(&c->helper, call, fd, deadline_us, err);
}

static enum wasd_status make(struct convert *c, const char *name, const char *checkpoint, const char *profile,
                             const char *format, const char *mode, int64_t deadline_us, struct wasd_err *err)
{
	struct api_call call = {0};
	const char *sha = "";
	int64_t bytes = 0;
	enum wasd_status s = storage_space(c->cfg.db, 0, err);
	if (s != WASD_OK)
		return s;
	char *path = wasd_asprintf("%s/%s", c->dir, name);
	s = path ? ask(c, checkpoint, profile, format, mode, path, deadline_us, &call, err) :
	           wasd_fail(err, WASD_ENOMEM, "no memory for a conversion");
	if (s == WASD_OK) {
		wasd_json_i64(call.reply, "bytes", &bytes);
		wasd_json_str(call.reply, "sha256", &sha);
		pthread_mutex_lock(&c->lock);
		struct made *m = make_room(c, bytes);
		*m = (struct made){.bytes = bytes, .used_us = wasd_mono_us()};
		snprintf(m->name, sizeof m->name, "%s", name);
		snprintf(m->sha256, sizeof m->sha256, "%s", sha);
		pthread_mutex_unlock(&c->lock);
		log_line(LOG_INFO, "checkpoint converted", "checkpoint=%s format=%s mode=%s bytes=%lld", checkpoint, format,
		         mode, (long long)bytes);
	}
	api_call_done(&call);
	wasd_free(path);
	return s;
}

enum wasd_status convert_export(struct convert *c, const char *checkpoint, const char *format, const char *mode,
                                int64_t deadline_us, struct api_file *out, struct wasd_err *err)
{
	char name[160];
	struct storage_profile p = {0};
	enum wasd_status s = WASD_OK;
	if (wasd_mode_member(mode) && (s = storage_profile_get(c->cfg.db, checkpoint, mode, &p, err)) != WASD_OK)
		return s;
	/* Name the file after the profile's id: a profile deleted and searched again has the same name but another id. */
	snprintf(name, sizeof name, "%.50s.%.50s.%.40s", checkpoint, p.id ? p.id : mode, format);
	if (open_made(c, name, out)) {
		storage_profile_done(&p);
		return WASD_OK;
	}
	if ((s = begin(c, deadline_us, err)) == WASD_OK) {
		if (!open_made(c, name, out)) { /* the request before this one may have made the same file */
			s = make(c, name, checkpoint, p.id, format, mode, deadline_us, err);
			if (s == WASD_OK && !open_made(c, name, out))
				s = wasd_fail(err, WASD_EIO, "the engine wrote no converted file");
		}
		end(c);
	}
	storage_profile_done(&p);
	return s;
}

/* ---- inspecting -------------------------------------------------------------------------------------------------- */

enum wasd_status convert_inspect(struct convert *c, const char *checkpoint, const cJSON *kernels, int64_t deadline_us,
                                 cJSON **out, struct wasd_err *err)
{
	struct api_call call = {0};
	int fd;
	int64_t bytes;
	char sha[WASD_SHA256_HEX];
	cJSON *copy = kernels ? cJSON_Duplicate(kernels, true) : NULL;
	if (kernels && !copy)
		return wasd_fail(err, WASD_ENOMEM, "no memory to inspect a checkpoint");
	enum wasd_status s = begin(c, deadline_us, err); /* one copy of a checkpoint in memory at a time */
	if (s == WASD_OK) {
		s = storage_ckpt_memfd(c->cfg.db, checkpoint, &fd, &bytes, sha, err);
		if (s == WASD_OK) {
			call.json = wasd_message("inspect", "bytes:i sha256:s kernels:?j", bytes, sha, copy);
			copy = NULL;
			s = helper_ask(&c->helper, &call, fd, deadline_us, err);
		}
		end(c);
	}
	if (s == WASD_OK)
		*out = cJSON_DetachItemFromObjectCaseSensitive(call.reply, "found");
	cJSON_Delete(copy);
	api_call_done(&call);
	return s;
}

/* ---- importing -------------------------------------------------------------------------------------------------- */

/* Stores the checkpoint that the engine wrote in the database. */
static enum wasd_status store(struct convert *c, const char *path, const cJSON *reply, char id[32],
                              struct wasd_err *err)
{
	const char *sha;
	int64_t bytes;
	struct stat st;
	const cJSON *info = wasd_json_get(reply, "info");
	if (!wasd_json_i64(reply, "bytes", &bytes) || bytes < 1 || !wasd_json_str(reply, "sha256", &sha) ||
	    !cJSON_IsObject(info))
		return wasd_fail(err, WASD_EINTERNAL, "the engine's answer does not describe the imported checkpoint");
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st) || st.st_size != bytes) {
		if (fd >= 0)
			close(fd);
		return wasd_fail(err, WASD_EIO, "the engine wrote no imported checkpoint");
	}
	void *data = mmap(NULL, (size_t)bytes, PROT_READ, MAP_PRIVATE, fd, 0);
	int why = errno;
	close(fd);
	if (data == MAP_FAILED)
		return wasd_fail_errno(err, why, "the imported checkpoint");
	char *text = wasd_json_print(info);
	struct storage_ckpt_in in =
		{.data = data, .bytes = (size_t)bytes, .sha256 = sha, .reason = "import", .info = text, .metrics_json = "{}"};
	enum wasd_status s = text ? storage_ckpt_store(c->cfg.db, &in, id, err) :
	                            wasd_fail(err, WASD_ENOMEM, "no memory for an import");
	wasd_free(text);
	munmap(data, (size_t)bytes);
	return s;
}

static cJSON *import_message(const char *blob, const char *out, const cJSON *how)
{
	cJSON *m = wasd_message("import", "file:s out:s", blob, out);
	for (const cJSON *v = how->child; v && m; v = v->next) {
		cJSON *copy = cJSON_Duplicate(v, true);
		if (copy && cJSON_AddItemToObject(m, v->string, copy))
			continue;
		cJSON_Delete(copy);
		cJSON_Delete(m);
		m = NULL;
	}
	return m;
}

enum wasd_status convert_import(struct convert *c, const char *sha256, const cJSON *how, bool dry, int64_t deadline_us,
                                char id[32], struct wasd_err *err)
{
	struct api_file blob;
	struct api_call call = {0};
	char name[48];
	enum wasd_status s = blobs_open(c->cfg.data_dir, sha256, &blob, err);
	if (s != WASD_OK)
		return s;
	close(blob.fd);
	wasd_ulid("import_", name);
	char *from = blobs_path(c->cfg.data_dir, sha256), *to = wasd_asprintf("%s/%s", c->dir, name);
	id[0] = 0;
	s = from && to ? begin(c, deadline_us, err) : wasd_fail(err, WASD_ENOMEM, "no memory for an import");
	if (s == WASD_OK) {
		if ((s = storage_space(c->cfg.db, 0, err)) == WASD_OK) {
			call.json = import_message(from, to, how);
			s = helper_ask(&c->helper, &call, -1, deadline_us, err);
		}
		if (s == WASD_OK && !dry)
			s = store(c, to, call.reply, id, err);
		unlink(to);
		end(c);
	}
	if (s == WASD_OK && !dry)
		log_line(LOG_INFO, "checkpoint imported", "checkpoint=%s blob=%.16s", id, sha256);
	api_call_done(&call);
	wasd_free(from);
	wasd_free(to);
	return s;
}

/* ---- create and destroy ----------------------------------------------------------------------------------------- */

static void do_register(void *ctx)
{
	struct convert *c = ctx;
	supervisor_every(c->cfg.sup, convert_tick, c);
}

static const struct helper_kind conversions = {
	.role = WASD_ROLE_CONVERT,
	.idle_ms = IDLE_MS,
	.down = "the conversion process ended",
};

enum wasd_status convert_create(const struct convert_config *cfg, struct convert **out, struct wasd_err *err)
{
	struct convert *c = wasd_calloc(1, sizeof *c);
	if (!c || !(c->dir = wasd_asprintf("%s/exports", cfg->data_dir)) ||
	    helper_init(&c->helper, cfg->sup, &conversions, WAITING_MAX, c) != WASD_OK) {
		if (c)
			wasd_free(c->dir);
		wasd_free(c);
		return wasd_fail(err, WASD_ENOMEM, "no memory for conversions");
	}
	c->cfg = *cfg;
	pthread_mutex_init(&c->lock, NULL);
	wasd_cond_init(&c->free);
	enum wasd_status s = wasd_remove_tree(c->dir, err);
	if (s == WASD_OK)
		s = wasd_mkdirs(c->dir, err);
	if (s == WASD_OK)
		s = blobs_init(cfg->data_dir, err);
	if (s != WASD_OK) {
		convert_destroy(c);
		return s;
	}
	supervisor_call(cfg->sup, do_register, c);
	*out = c;
	return WASD_OK;
}

static void do_stop(void *ctx)
{
	struct convert *c = ctx;
	helper_stop(&c->helper);
}

void convert_stop(struct convert *c)
{
	if (c)
		supervisor_call(c->cfg.sup, do_stop, c);
}

void convert_destroy(struct convert *c)
{
	if (!c)
		return;
	helper_done(&c->helper);
	pthread_cond_destroy(&c->free);
	pthread_mutex_destroy(&c->lock);
	wasd_free(c->dir);
	wasd_free(c);
}

struct api_files convert_api(struct convert *c)
{
	return (struct api_files){.self = c,
	                          .export_ckpt = convert_export,
	                          .import_blob = convert_import,
	                          .inspect = convert_inspect};
}
