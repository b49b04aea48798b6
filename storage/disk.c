/* disk.c - room in the data directory: the low-water mark, the quota, and the ballast, a file that is removed when a
 * delete finds the disk full.
 *
 * The disk becomes low when free space falls below the low-water mark, or when a write finds no room. It stays low
 * until free space exceeds the mark by a margin and suffices for what was refused, so that jobs do not pause and go on
 * in turns. New work needs room above the mark; the checkpoints of running jobs may use the space below it. */
#include "internal.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { MIB = 1 << 20, HARD_LOW = 4 * MIB, AGAIN_US = 10000000 };

/* False: the file system does not report its space. */
static bool look(const char *dir, uint64_t *room, uint64_t *total)
{
	struct statvfs v;
	if (statvfs(dir, &v))
		return false;
	*room = (uint64_t)v.f_bavail * v.f_frsize;
	*total = (uint64_t)v.f_blocks * v.f_frsize;
	return true;
}

bool disk_low(struct storage *s, uint64_t *free_bytes)
{
	uint64_t room, total;
	if (!look(s->dir, &room, &total))
		room = UINT64_MAX; /* no reason to refuse */
	if (free_bytes)
		*free_bytes = room;
	return room < s->opts.low_water_bytes;
}

bool disk_scarce(struct storage *s)
{
	pthread_mutex_lock(&s->disk.lock);
	bool low = s->disk.low;
	pthread_mutex_unlock(&s->disk.lock);
	return low || disk_low(s, NULL);
}

void disk_init(struct storage *s)
{
	struct stat sb;
	uint64_t room = UINT64_MAX, total = 0;
	look(s->dir, &room, &total);
	if (!s->opts.low_water_bytes) {
		const uint64_t least = 256ull * MIB, most = 4096ull * MIB, part = total / 100;
		s->opts.low_water_bytes = part < least ? least : part > most ? most : part;
	}
	atomic_store(&s->ballast, !stat(s->ballast_path, &sb) && (uint64_t)sb.st_size >= s->opts.ballast_bytes);
	if (room < HARD_LOW)
		ballast_release(s);
}

void disk_make_room(struct storage *s)
{
	uint64_t room;
	disk_low(s, &room);
	if (room >= HARD_LOW)
		return;
	writer_shorten(s);
	payloads_shorten(s);
}

/* ---- ballast ---- */

/* Its room is not there for other things: the disk stays low until the ballast could be made again. */
bool ballast_release(struct storage *s)
{
	if (!atomic_exchange(&s->ballast, false) || unlink(s->ballast_path))
		return false;
	pthread_mutex_lock(&s->disk.lock);
	s->disk.low = true;
	s->disk.reserve = s->opts.ballast_bytes;
	pthread_mutex_unlock(&s->disk.lock);
	return true;
}

/* Only if free space stays above low water with the ballast; a failure is not an error, since the ballast is only a
 * reserve. */
void ballast_restore(struct storage *s)
{
	uint64_t room;
	if (atomic_load(&s->ballast) || disk_low(s, &room) || room - s->opts.low_water_bytes < s->opts.ballast_bytes)
		return;
	int fd = open(s->ballast_path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (fd < 0)
		return;
	if (posix_fallocate(fd, 0, (off_t)s->opts.ballast_bytes)) {
		unlink(s->ballast_path);
	} else {
		atomic_store(&s->ballast, true);
		pthread_mutex_lock(&s->disk.lock);
		s->disk.reserve = 0;
		pthread_mutex_unlock(&s->disk.lock);
	}
	close(fd);
}

/* ---- quota ---- */

static uint64_t in_folders(struct storage *s)
{
	static const char *const folders[] = {"datasets", "blobs", "exports", "staging", "backups"};
	uint64_t sum = 0;
	for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
		sum += (uint64_t)measure_folder(s, folders[i]).bytes;
	return sum;
}

enum wasd_status quota_rows(struct storage *s, uint64_t *out, struct wasd_err *err)
{
	int64_t stored = 0, pages = 0, unused = 0;
	*out = 0;
	if (!s->opts.quota_bytes)
		return WASD_OK;
	struct conn *c = read_begin(s);
	enum wasd_status st =
		conn_int(c,
	             "SELECT (SELECT coalesce(sum(bytes),0) FROM checkpoints)+(SELECT coalesce(sum(bytes),0) FROM modes)",
	             &stored, err);
	if (!st)
		st = conn_int(c, "PRAGMA page_count", &pages, err);
	if (!st)
		st = conn_int(c, "PRAGMA freelist_count", &unused, err);
	if (!st)
		*out = (uint64_t)(stored + (pages - unused) * c->page_size);
	read_end(s, c);
	return st;
}

enum wasd_status quota_used(struct storage *s, uint64_t *out, struct wasd_err *err)
{
	enum wasd_status st = quota_rows(s, out, err);
	if (!st && s->opts.quota_bytes)
		*out += in_folders(s);
	return st;
}

static enum wasd_status over_quota(uint64_t quota, uint64_t used, uint64_t more, struct wasd_err *err)
{
	return wasd_fail_at(err, WASD_EFULL, STORAGE_QUOTA_FULL,
	                    "%llu of the %llu MiB of quota_mb are used, and %llu MiB more are needed: delete jobs, "
	                    "checkpoints, data sets or backups, or raise quota_mb",
	                    (unsigned long long)(used >> 20), (unsigned long long)(quota >> 20),
	                    (unsigned long long)((more + MIB - 1) >> 20));
}

enum wasd_status quota_check(struct storage *s, uint64_t before, struct wasd_err *err)
{
	uint64_t now;
	enum wasd_status st = quota_rows(s, &now, err);
	if (st || !s->opts.quota_bytes || now <= before)
		return st;
	const uint64_t files = in_folders(s);
	if (now + files <= s->opts.quota_bytes)
		return WASD_OK;
	pthread_mutex_lock(&s->disk.lock);
	s->disk.over = true;
	s->disk.growth = now - before;
	pthread_mutex_unlock(&s->disk.lock);
	return over_quota(s->opts.quota_bytes, before + files, now - before, err);
}

/* ---- the state of the disk ---- */

void disk_refused(struct storage *s, uint64_t bytes)
{
	uint64_t room;
	const bool below = disk_low(s, &room);
	pthread_mutex_lock(&s->disk.lock);
	s->disk.low = true;
	if (bytes > s->disk.refused)
		s->disk.refused = bytes;
	if (!below && room > bytes + HARD_LOW)
		s->disk.until_us = wasd_mono_us() + AGAIN_US;
	pthread_mutex_unlock(&s->disk.lock);
}

/* Free space from which the disk is not low any more. Under disk.lock. */
static uint64_t enough(const struct storage *s)
{
	const uint64_t mark = s->opts.low_water_bytes, margin = mark / 8 < 64 * MIB ? mark / 8 : 64 * MIB;
	const uint64_t refused = s->disk.refused ? 2 * s->disk.refused + HARD_LOW : 0;
	return s->disk.reserve + (mark + margin > refused ? mark + margin : refused);
}

static void look_at_space(struct storage *s, struct storage_disk *d)
{
	struct disk_state *k = &s->disk;
	if (d->free < d->low_water)
		k->low = true;
	else if (k->low && d->free >= enough(s) && wasd_mono_us() >= k->until_us)
		k->low = false, k->refused = k->reserve = 0, k->until_us = 0;
	if (!k->low)
		return;
	d->low = true;
	d->reason = STORAGE_DISK_LOW;
	snprintf(d->message, sizeof d->message,
	         "%llu MiB are free on the disk of the data directory, %llu MiB are needed to go on: delete jobs, "
	         "checkpoints, data sets or other files",
	         (unsigned long long)(d->free >> 20), (unsigned long long)((enough(s) + MIB - 1) >> 20));
}

/* known: d->used is of now. Otherwise the state remains. */
static void look_at_quota(struct storage *s, struct storage_disk *d, bool known)
{
	struct disk_state *k = &s->disk;
	struct wasd_err why;
	if (known && k->over && d->used + k->growth <= d->quota)
		k->over = false, k->growth = 0;
	if (!d->quota || d->low || (!k->over && d->used < d->quota))
		return;
	over_quota(d->quota, d->used, k->growth, &why);
	d->low = true;
	d->reason = STORAGE_QUOTA_FULL;
	snprintf(d->message, sizeof d->message, "%s", why.msg);
}

void storage_disk(struct storage *s, struct storage_disk *out)
{
	struct storage_disk d = {.low_water = s->opts.low_water_bytes, .quota = s->opts.quota_bytes};
	disk_low(s, &d.free);
	const bool known = quota_used(s, &d.used, NULL) == WASD_OK;
	pthread_mutex_lock(&s->disk.lock);
	if (known)
		s->disk.used = d.used;
	d.used = s->disk.used;
	look_at_space(s, &d);
	look_at_quota(s, &d, known);
	pthread_mutex_unlock(&s->disk.lock);
	*out = d;
}

static enum wasd_status tell_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	const struct storage_disk *d = ctx;
	cJSON *j = make_object("ossii", "reason", d->reason, "state", d->low ? "low" : "ok", "message",
	                       d->low ? d->message : NULL, "free_bytes", (int64_t)d->free, "low_water_bytes",
	                       (int64_t)d->low_water);
	return event_put(s, "system", "system.disk", "disk", j, err);
}

void storage_disk_watch(struct storage *s, struct storage_disk *out, bool *changed)
{
	storage_disk(s, out);
	*changed = out->low != s->disk.told && urgent_op(s, tell_tx, out, NULL) == WASD_OK;
	if (*changed)
		s->disk.told = out->low;
	if (!out->low)
		ballast_restore(s);
}

/* ---- asking for room ---- */

enum wasd_status storage_disk_space(const struct storage_disk *d, uint64_t need, struct wasd_err *err)
{
	if (d->low)
		return wasd_fail_at(err, WASD_EFULL, d->reason, "%s", d->message);
	if (d->free - d->low_water < need)
		return wasd_fail_at(err, WASD_EFULL, STORAGE_DISK_LOW,
		                    "%llu MiB are needed, %llu MiB are free and %llu MiB of them must stay free: delete jobs, "
		                    "checkpoints, data sets or other files",
		                    (unsigned long long)((need + MIB - 1) >> 20), (unsigned long long)(d->free >> 20),
		                    (unsigned long long)(d->low_water >> 20));
	return d->quota && d->used + need > d->quota ? over_quota(d->quota, d->used, need, err) : WASD_OK;
}

enum wasd_status storage_space(struct storage *s, uint64_t need, struct wasd_err *err)
{
	struct storage_disk d;
	storage_disk(s, &d);
	return storage_disk_space(&d, need, err);
}

enum wasd_status ckpt_space(struct storage *s, uint64_t bytes, struct wasd_err *err)
{
	/* Its bytes go through the log, at most 16 MiB at a time. */
	const uint64_t log = bytes < 16 * MIB ? bytes : 16 * MIB, need = bytes + log + HARD_LOW / 4;
	uint64_t room;
	disk_low(s, &room);
	if (room >= need)
		return WASD_OK;
	disk_refused(s, bytes);
	return wasd_fail_at(err, WASD_EFULL, STORAGE_DISK_LOW,
	                    "a checkpoint of %llu MiB needs %llu MiB of disk space, %llu MiB are free",
	                    (unsigned long long)(bytes >> 20), (unsigned long long)((need + MIB - 1) >> 20),
	                    (unsigned long long)(room >> 20));
}
