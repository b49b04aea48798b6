/* restore.c - a data directory from a backup. The copy is made beside its final place and gets its name once every
 * file has matched the manifest and is on disk. */
#include "internal.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MANIFEST_MAX = 16 << 20 };

/* *there: a directory exists. WASD_EEXIST when it is not empty. */
static enum wasd_status check_target(const char *dir, bool *there, struct wasd_err *err)
{
	struct stat sb;
	*there = false;
	if (lstat(dir, &sb))
		return errno == ENOENT ? WASD_OK : wasd_fail_errno(err, errno, "%s", dir);
	DIR *d = S_ISDIR(sb.st_mode) ? opendir(dir) : NULL;
	if (!d)
		return wasd_fail(err, WASD_EEXIST, "%s is not a directory that can be read", dir);
	enum wasd_status st = WASD_OK;
	for (struct dirent *e; !st && (e = readdir(d));)
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			st = wasd_fail(err, WASD_EEXIST, "%s is not empty (%s); restore to a new directory", dir, e->d_name);
	closedir(d);
	*there = true;
	return st;
}

static enum wasd_status read_manifest(const char *backup, cJSON **out, struct wasd_err *err)
{
	char *path = wasd_asprintf("%s/manifest.json", backup), *text = NULL;
	const char *format = "";
	int64_t version = 0;
	size_t len = 0;
	struct wasd_err why;
	if (!path)
		return wasd_fail(err, WASD_ENOMEM, "no memory");
	enum wasd_status st = wasd_file_read(path, MANIFEST_MAX, &text, &len, &why);
	if (st)
		st = wasd_fail(err, st == WASD_ENOMEM ? st : WASD_ENOTFOUND, "%s is not a whole backup: %s", backup, why.msg);
	if (!st && (st = wasd_json_parse(text, len, (struct wasd_json_limits){MANIFEST_MAX, 8, 1000000}, out, &why)))
		st = wasd_fail(err, st == WASD_ENOMEM ? st : WASD_ECORRUPT, "%s: %s", path, why.msg);
	if (!st && (!wasd_json_str(*out, "format", &format) || strcmp(format, "wasd backup") ||
	            !wasd_json_i64(*out, "version", &version)))
		st = wasd_fail(err, WASD_ECORRUPT, "%s is not the manifest of a backup", path);
	if (!st && version != 1)
		st = wasd_fail(err, WASD_EUNSUPPORTED, "%s has version %lld, this program reads 1", path, (long long)version);
	wasd_free(text);
	wasd_free(path);
	return st;
}

static enum wasd_status restore_file(const char *backup, const char *to_dir, const cJSON *f,
                                     struct storage_restored *sum, struct wasd_err *err)
{
	const char *relative = "", *want = "";
	char sha[WASD_SHA256_HEX];
	int64_t bytes = -1, got = 0;
	if (!wasd_json_str(f, "path", &relative) || !wasd_json_str(f, "sha256", &want) ||
	    !wasd_json_i64(f, "bytes", &bytes) || !copy_path_ok(relative))
		return wasd_fail(err, WASD_ECORRUPT, "%s: the manifest lists an impossible file", backup);
	char *from = wasd_asprintf("%s/%s", backup, relative), *to = wasd_asprintf("%s/%s", to_dir, relative);
	enum wasd_status st = from && to ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "no memory");
	char *slash = st ? NULL : strrchr(to, '/');
	if (!st) {
		*slash = 0;
		st = wasd_mkdirs(to, err);
		*slash = '/';
	}
	if (!st && (st = copy_file(from, to, NULL, sha, &got, err)) == WASD_ENOTFOUND)
		st = WASD_ECORRUPT;
	if (!st && (got != bytes || strcmp(sha, want)))
		st = wasd_fail(err, WASD_ECORRUPT, "%s: %lld bytes with SHA-256 %.16s..., the manifest says %lld and %.16s...",
		               from, (long long)got, sha, (long long)bytes, want);
	if (!st) {
		*slash = 0;
		st = wasd_fsync_dir(to, err);
	}
	wasd_free(from);
	wasd_free(to);
	sum->files++;
	sum->bytes += got;
	return st;
}

enum wasd_status storage_restore(const char *backup, const char *data_dir, struct storage_restored *out,
                                 struct wasd_err *err)
{
	struct storage_restored sum = {0};
	char dir[STORAGE_PATH], partial[STORAGE_PATH + 16], parent[STORAGE_PATH] = ".";
	bool there = false, ours = false;
	cJSON *manifest = NULL;
	const cJSON *f;
	int n = snprintf(dir, sizeof dir, "%s", data_dir);
	while (n > 1 && n < (int)sizeof dir && dir[n - 1] == '/')
		dir[--n] = 0;
	if (n < 1 || n >= (int)sizeof dir)
		return wasd_fail(err, WASD_EINVAL, "the path of the data directory is empty or too long");
	snprintf(partial, sizeof partial, "%s.partial", dir);
	char *slash = strrchr(dir, '/');
	if (slash)
		snprintf(parent, sizeof parent, "%.*s", slash == dir ? 1 : (int)(slash - dir), dir);
	enum wasd_status st = check_target(dir, &there, err);
	if (!st)
		st = read_manifest(backup, &manifest, err);
	if (!st)
		st = wasd_mkdirs(parent, err);
	if (!st && mkdir(partial, 0750))
		st = errno == EEXIST ? wasd_fail(err, WASD_EEXIST,
		                                 "%s is there, left by a restore that was interrupted: remove it", partial) :
		                       wasd_fail_errno(err, errno, "%s", partial);
	else if (!st)
		ours = true;
	cJSON_ArrayForEach(f, wasd_json_get(manifest, "files"))
		if (!st)
			st = restore_file(backup, partial, f, &sum, err);
	const char *made = "";
	if (!st && wasd_json_str(manifest, "made_at", &made))
		snprintf(sum.made_at, sizeof sum.made_at, "%s", made);
	for (int i = 0; i < 2 && !st; i++) {
		char *path = wasd_asprintf("%s/%s", partial, i ? schema_ckpt.file : schema_main.file);
		st = path ? schema_inspect(i ? &schema_ckpt : &schema_main, path, err) :
		            wasd_fail(err, WASD_ENOMEM, "no memory");
		wasd_free(path);
	}
	if (!st)
		st = wasd_fsync_dir(partial, err);
	if (!st && there && rmdir(dir))
		st = wasd_fail_errno(err, errno, "%s", dir);
	if (!st && rename(partial, dir))
		st = wasd_fail_errno(err, errno, "rename of %s to %s", partial, dir);
	if (!st)
		st = wasd_fsync_dir(parent, err);
	else if (ours)
		wasd_remove_tree(partial, NULL);
	cJSON_Delete(manifest);
	if (!st && out)
		*out = sum;
	return st;
}
