#include "leftovers.h"

#include "log.h"
#include "storage.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Removes the temporary files of interrupted atomic writes: NAME.tmp-XXXXXX (base.h). */
static void remove_temporary(const char *path)
{
	DIR *dir = opendir(path);
	for (struct dirent *e; dir && (e = readdir(dir));) {
		const char *mark = strstr(e->d_name, ".tmp-");
		if (mark && strlen(mark) == strlen(".tmp-XXXXXX") && !unlinkat(dirfd(dir), e->d_name, 0))
			log_line(LOG_INFO, "left-over file removed", "path=%s", LOG_Q(e->d_name));
	}
	if (dir)
		closedir(dir);
}

/* Removes backups that were interrupted; only those in the data directory are known. */
static void remove_partial_backups(const char *data_dir)
{
	char *top = wasd_asprintf("%s/backups", data_dir);
	DIR *dir = top ? opendir(top) : NULL;
	for (struct dirent *e; dir && (e = readdir(dir));) {
		size_t n = strlen(e->d_name), k = strlen(".partial");
		char *path = n > k && !strcmp(e->d_name + n - k, ".partial") ? wasd_asprintf("%s/%s", top, e->d_name) : NULL;
		if (path && wasd_remove_tree(path, NULL) == WASD_OK)
			log_line(LOG_INFO, "interrupted backup removed", "path=%s", LOG_Q(path));
		wasd_free(path);
	}
	if (dir)
		closedir(dir);
	wasd_free(top);
}

void leftovers_remove(struct storage *db, const char *data_dir, const char *staging)
{
	struct wasd_err err;
	remove_temporary(data_dir);
	remove_partial_backups(data_dir);
	if (wasd_remove_tree(staging, &err) != WASD_OK || wasd_mkdirs(staging, &err) != WASD_OK)
		log_line(LOG_WARN, "cannot clean staging", "why=%s", LOG_Q(err.msg));
	char *top = wasd_asprintf("%s/datasets", data_dir);
	DIR *names = top ? opendir(top) : NULL;
	for (struct dirent *n; names && (n = readdir(names));) {
		if (n->d_name[0] == '.')
			continue;
		char *dir = wasd_asprintf("%s/%s", top, n->d_name);
		DIR *files = dir ? opendir(dir) : NULL;
		for (struct dirent *f; files && (f = readdir(files));) {
			bool used = true;
			char *relative = f->d_name[0] == '.' ? NULL : wasd_asprintf("datasets/%s/%s", n->d_name, f->d_name);
			if (relative && storage_dataset_path_used(db, relative, &used, NULL) == WASD_OK && !used &&
			    !unlinkat(dirfd(files), f->d_name, 0))
				log_line(LOG_INFO, "left-over file removed", "path=%s", LOG_Q(relative));
			wasd_free(relative);
		}
		if (files)
			closedir(files);
		wasd_free(dir);
	}
	if (names)
		closedir(names);
	wasd_free(top);
}
