/* schema.c - the tables, and the migration of a file from an older form to the current one.
 *
 * A released step is never edited: a change is a new step at the end. All missing steps run in one transaction
 * together with user_version, so that a kill leaves either the old form or the new one. */
#include "schema.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const main_steps[] = {
	/* 0 -> 1 */
	"CREATE TABLE datasets("
	" id TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL, version INTEGER NOT NULL,"
	" state TEXT NOT NULL CHECK(state IN ('scanning','ready','invalid','deleted')),"
	" format TEXT, digest TEXT, source_digest TEXT NOT NULL, path TEXT, info TEXT, error TEXT,"
	" bytes INTEGER NOT NULL DEFAULT 0, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,"
	" UNIQUE(name, version)) STRICT;"

	"CREATE TABLE jobs("
	" id TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL, state TEXT NOT NULL, reason TEXT, message TEXT,"
	" priority INTEGER NOT NULL, queue TEXT NOT NULL, spec TEXT NOT NULL, spec_digest TEXT NOT NULL, labels TEXT NOT NULL, note TEXT NOT NULL,"
	" dataset TEXT NOT NULL, dataset_version INTEGER NOT NULL, dataset_digest TEXT, created_by TEXT, progress TEXT, build TEXT, init_checkpoint TEXT,"
	" keep_best INTEGER NOT NULL, keep_latest INTEGER NOT NULL, keep_metric TEXT, keep_max INTEGER NOT NULL,"
	" attempt INTEGER NOT NULL DEFAULT 0, retries INTEGER NOT NULL DEFAULT 0, retry_at INTEGER,"
	" created_at INTEGER NOT NULL, started_at INTEGER, finished_at INTEGER, updated_at INTEGER NOT NULL, rev INTEGER NOT NULL DEFAULT 1,"
	" FOREIGN KEY(dataset, dataset_version) REFERENCES datasets(name, version)) STRICT;"
	"CREATE INDEX jobs_by_state ON jobs(state, priority DESC, id);"
	"CREATE INDEX jobs_by_dataset ON jobs(dataset, dataset_version);"

	"CREATE TABLE attempts("
	" job TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE, number INTEGER NOT NULL, pid INTEGER, build TEXT, resume_from TEXT,"
	" started_at INTEGER NOT NULL, ended_at INTEGER,"
	" outcome TEXT CHECK(outcome IN ('completed','failed','cancelled','paused','preempted','interrupted')),"
	" exit_reason TEXT, exit_code INTEGER, signal INTEGER, log_tail TEXT, PRIMARY KEY(job, number)) STRICT, WITHOUT ROWID;"

	"CREATE TABLE transitions("
	" seq INTEGER PRIMARY KEY, job TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE, \"from\" TEXT, \"to\" TEXT NOT NULL,"
	" reason TEXT, message TEXT, attempt INTEGER NOT NULL, at INTEGER NOT NULL) STRICT;"
	"CREATE INDEX transitions_by_job ON transitions(job, seq);"

	"CREATE TABLE idempotency("
	" owner TEXT NOT NULL, key TEXT NOT NULL, request_digest TEXT NOT NULL, response TEXT NOT NULL, created_at INTEGER NOT NULL,"
	" PRIMARY KEY(owner, key)) STRICT, WITHOUT ROWID;"

	"CREATE TABLE metrics("
	" job TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE, name TEXT NOT NULL, epoch INTEGER NOT NULL, step INTEGER NOT NULL,"
	" attempt INTEGER NOT NULL, ts INTEGER NOT NULL, value REAL, nonfinite TEXT CHECK(nonfinite IN ('nan','inf','-inf')),"
	" CHECK((value IS NULL) = (nonfinite IS NOT NULL)), PRIMARY KEY(job, name, epoch)) STRICT, WITHOUT ROWID;"

	"CREATE TABLE checkpoints("
	" id TEXT NOT NULL PRIMARY KEY, job TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE, attempt INTEGER NOT NULL,"
	" epoch INTEGER NOT NULL, step INTEGER NOT NULL, metrics TEXT NOT NULL, info TEXT, score REAL,"
	" has_score INTEGER GENERATED ALWAYS AS (score IS NOT NULL) VIRTUAL,"
	" bytes INTEGER NOT NULL, sha256 TEXT NOT NULL, reason TEXT NOT NULL,"
	" pinned INTEGER NOT NULL DEFAULT 0, corrupt INTEGER NOT NULL DEFAULT 0, created_at INTEGER NOT NULL) STRICT;"
	"CREATE INDEX checkpoints_by_job ON checkpoints(job, epoch, step);"

	"CREATE TABLE logs("
	" job TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE, n INTEGER NOT NULL, attempt INTEGER NOT NULL, ts INTEGER NOT NULL,"
	" level TEXT NOT NULL, text TEXT NOT NULL, PRIMARY KEY(job, n)) STRICT, WITHOUT ROWID;"

	"CREATE TABLE events("
	" seq INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, type TEXT NOT NULL, object TEXT NOT NULL, data TEXT NOT NULL, ts INTEGER NOT NULL) STRICT;"

	"CREATE TABLE deployments("
	" id TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL UNIQUE, source TEXT NOT NULL, job TEXT, checkpoint TEXT NOT NULL REFERENCES checkpoints(id),"
	" mode TEXT NOT NULL CHECK(mode IN ('aom','dom')), generation INTEGER NOT NULL, version INTEGER NOT NULL,"
	" state TEXT NOT NULL, message TEXT, options TEXT NOT NULL, mode_by TEXT, mode_since INTEGER NOT NULL,"
	" created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL) STRICT;"
	"CREATE INDEX deployments_by_checkpoint ON deployments(checkpoint);"

	"CREATE TABLE audit("
	" id TEXT NOT NULL PRIMARY KEY, at INTEGER NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL, object TEXT NOT NULL,"
	" before TEXT, after TEXT, reason TEXT) STRICT;"
	"CREATE INDEX audit_by_object ON audit(object, id);"
	"CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'audit rows are only added'); END;"
	"CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'audit rows are only added'); END;",

	/* 1 -> 2: a job from before validation splits continues as it began, with all of its training images. */
	"UPDATE jobs SET spec=json_set(spec, '$.data', json('{\"val_fraction\":0}')) WHERE json_valid(spec) AND json_type(spec, '$.data') IS NULL;",

	/* 2 -> 3: an imported checkpoint has no job. Both tables are rebuilt, because SQLite cannot drop a NOT NULL: the
     * referring table first; renaming the referenced table carries the reference along. */
	"CREATE TABLE checkpoints_new("
	" id TEXT NOT NULL PRIMARY KEY, job TEXT REFERENCES jobs(id) ON DELETE CASCADE, attempt INTEGER NOT NULL,"
	" epoch INTEGER NOT NULL, step INTEGER NOT NULL, metrics TEXT NOT NULL, info TEXT, score REAL,"
	" has_score INTEGER GENERATED ALWAYS AS (score IS NOT NULL) VIRTUAL,"
	" bytes INTEGER NOT NULL, sha256 TEXT NOT NULL, reason TEXT NOT NULL,"
	" pinned INTEGER NOT NULL DEFAULT 0, corrupt INTEGER NOT NULL DEFAULT 0, created_at INTEGER NOT NULL) STRICT;"
	"INSERT INTO checkpoints_new(id,job,attempt,epoch,step,metrics,info,score,bytes,sha256,reason,pinned,corrupt,created_at)"
	" SELECT id,job,attempt,epoch,step,metrics,info,score,bytes,sha256,reason,pinned,corrupt,created_at FROM checkpoints;"
	"CREATE TABLE deployments_new("
	" id TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL UNIQUE, source TEXT NOT NULL, job TEXT, checkpoint TEXT NOT NULL REFERENCES checkpoints_new(id),"
	" mode TEXT NOT NULL CHECK(mode IN ('aom','dom')), generation INTEGER NOT NULL, version INTEGER NOT NULL,"
	" state TEXT NOT NULL, message TEXT, options TEXT NOT NULL, mode_by TEXT, mode_since INTEGER NOT NULL,"
	" created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL) STRICT;"
	"INSERT INTO deployments_new SELECT id,name,source,job,checkpoint,mode,generation,version,state,message,options,mode_by,mode_since,created_at,updated_at FROM deployments;"
	"DROP TABLE deployments;"
	"DROP TABLE checkpoints;"
	"ALTER TABLE checkpoints_new RENAME TO checkpoints;"
	"ALTER TABLE deployments_new RENAME TO deployments;"
	"CREATE INDEX checkpoints_by_job ON checkpoints(job, epoch, step);"
	"CREATE INDEX deployments_by_checkpoint ON deployments(checkpoint);",

	/* 3 -> 4: profiles of checkpoints, and deployments whose mode is a profile (a CHECK cannot be changed in place). */
	"CREATE TABLE profiles("
	" id TEXT NOT NULL PRIMARY KEY, checkpoint TEXT NOT NULL REFERENCES checkpoints(id) ON DELETE CASCADE, name TEXT NOT NULL,"
	" state TEXT NOT NULL CHECK(state IN ('queued','searching','ready','failed')), desire TEXT NOT NULL, request TEXT NOT NULL,"
	" dataset TEXT NOT NULL, dataset_version INTEGER NOT NULL, info TEXT, overlay BLOB, bytes INTEGER NOT NULL DEFAULT 0, sha256 TEXT, message TEXT,"
	" created_by TEXT, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, finished_at INTEGER,"
	" CHECK((state='ready') = (overlay IS NOT NULL)), UNIQUE(checkpoint, name),"
	" FOREIGN KEY(dataset, dataset_version) REFERENCES datasets(name, version)) STRICT;"
	"CREATE INDEX profiles_by_state ON profiles(state, updated_at);"
	"CREATE TABLE deployments_new("
	" id TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL UNIQUE, source TEXT NOT NULL, job TEXT, checkpoint TEXT NOT NULL REFERENCES checkpoints(id),"
	" mode TEXT NOT NULL CHECK(mode IN ('aom','dom') OR mode GLOB 'dom:?*'), generation INTEGER NOT NULL, version INTEGER NOT NULL,"
	" state TEXT NOT NULL, message TEXT, options TEXT NOT NULL, mode_by TEXT, mode_since INTEGER NOT NULL,"
	" created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL) STRICT;"
	"INSERT INTO deployments_new SELECT id,name,source,job,checkpoint,mode,generation,version,state,message,options,mode_by,mode_since,created_at,updated_at FROM deployments;"
	"DROP TABLE deployments;"
	"ALTER TABLE deployments_new RENAME TO deployments;"
	"CREATE INDEX deployments_by_checkpoint ON deployments(checkpoint);",

	/* 4 -> 5: warnings of runs. */
	"CREATE TABLE warnings("
	" job TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE, code TEXT NOT NULL, epoch INTEGER NOT NULL, message TEXT NOT NULL, at INTEGER NOT NULL,"
	" PRIMARY KEY(job, code)) STRICT, WITHOUT ROWID;",

	/* 5 -> 6: how a job's training ended while its profiles are still being searched, and which profiles these are.
     * profile NULL: refused with the message, or deleted. */
	"ALTER TABLE jobs ADD COLUMN trained TEXT;"
	"CREATE TABLE job_profiles("
	" job TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE, name TEXT NOT NULL, profile TEXT REFERENCES profiles(id) ON DELETE SET NULL, message TEXT,"
	" UNIQUE(job, name)) STRICT;"
	"CREATE INDEX job_profiles_by_profile ON job_profiles(profile);",

	/* 6 -> 7: curves along the steps, in addition to those along the epochs; of bounded length (metrics.c). */
	"CREATE TABLE step_metrics("
	" job TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE, name TEXT NOT NULL, step INTEGER NOT NULL, epoch INTEGER NOT NULL,"
	" ts INTEGER NOT NULL, value REAL NOT NULL, PRIMARY KEY(job, name, step)) STRICT, WITHOUT ROWID;",

	/* 7 -> 8: modes of any kind made from a checkpoint replace profiles; `name` is the mode without its family. A
     * deployment's mode is any mode of its checkpoint. */
	"CREATE TABLE modes("
	" id TEXT NOT NULL PRIMARY KEY, checkpoint TEXT NOT NULL REFERENCES checkpoints(id) ON DELETE CASCADE, mode TEXT NOT NULL, kind TEXT NOT NULL,"
	" name TEXT GENERATED ALWAYS AS (substr(mode, instr(mode, ':') + 1)) VIRTUAL,"
	" state TEXT NOT NULL CHECK(state IN ('queued','searching','ready','failed')), desire TEXT NOT NULL, request TEXT NOT NULL,"
	" dataset TEXT NOT NULL, dataset_version INTEGER NOT NULL, info TEXT, file BLOB, bytes INTEGER NOT NULL DEFAULT 0, sha256 TEXT, message TEXT,"
	" created_by TEXT, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, finished_at INTEGER,"
	" CHECK((state='ready') = (file IS NOT NULL)), UNIQUE(checkpoint, mode),"
	" FOREIGN KEY(dataset, dataset_version) REFERENCES datasets(name, version)) STRICT;"
	"INSERT INTO modes(id,checkpoint,mode,kind,state,desire,request,dataset,dataset_version,info,file,bytes,sha256,message,created_by,created_at,updated_at,finished_at)"
	" SELECT id,checkpoint,'dom:'||name,'draw',state,desire,request,dataset,dataset_version,info,overlay,bytes,sha256,message,created_by,created_at,updated_at,finished_at FROM profiles;"
	"CREATE TABLE job_profiles_new("
	" job TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE, name TEXT NOT NULL, profile TEXT REFERENCES modes(id) ON DELETE SET NULL, message TEXT,"
	" UNIQUE(job, name)) STRICT;"
	"INSERT INTO job_profiles_new(rowid,job,name,profile,message) SELECT rowid,job,name,profile,message FROM job_profiles;"
	"DROP TABLE job_profiles;"
	"DROP TABLE profiles;"
	"ALTER TABLE job_profiles_new RENAME TO job_profiles;"
	"CREATE INDEX modes_by_state ON modes(state, updated_at);"
	"CREATE INDEX job_profiles_by_profile ON job_profiles(profile);"
	"CREATE TABLE deployments_new("
	" id TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL UNIQUE, source TEXT NOT NULL, job TEXT, checkpoint TEXT NOT NULL REFERENCES checkpoints(id),"
	" mode TEXT NOT NULL, generation INTEGER NOT NULL, version INTEGER NOT NULL,"
	" state TEXT NOT NULL, message TEXT, options TEXT NOT NULL, mode_by TEXT, mode_since INTEGER NOT NULL,"
	" created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL) STRICT;"
	"INSERT INTO deployments_new SELECT id,name,source,job,checkpoint,mode,generation,version,state,message,options,mode_by,mode_since,created_at,updated_at FROM deployments;"
	"DROP TABLE deployments;"
	"ALTER TABLE deployments_new RENAME TO deployments;"
	"CREATE INDEX deployments_by_checkpoint ON deployments(checkpoint);",

	/* 8 -> 9: the registry. A version keeps its lineage, because its job may be deleted. */
	"CREATE TABLE models("
	" id TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL UNIQUE, note TEXT NOT NULL, latest INTEGER NOT NULL, deleted INTEGER NOT NULL,"
	" created_by TEXT, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL) STRICT;"
	"CREATE TABLE model_versions("
	" id TEXT NOT NULL PRIMARY KEY, model TEXT NOT NULL REFERENCES models(name), version INTEGER NOT NULL,"
	" checkpoint TEXT NOT NULL REFERENCES checkpoints(id), lineage TEXT NOT NULL, note TEXT NOT NULL, created_by TEXT, created_at INTEGER NOT NULL,"
	" UNIQUE(model, version)) STRICT;"
	"CREATE INDEX model_versions_by_checkpoint ON model_versions(checkpoint);"
	"CREATE TABLE model_aliases("
	" model TEXT NOT NULL, alias TEXT NOT NULL, version INTEGER NOT NULL, PRIMARY KEY(model, alias),"
	" FOREIGN KEY(model, version) REFERENCES model_versions(model, version)) STRICT, WITHOUT ROWID;"
	"CREATE TABLE alias_moves("
	" id TEXT NOT NULL PRIMARY KEY, model TEXT NOT NULL, alias TEXT NOT NULL, version INTEGER, previous INTEGER, actor TEXT, reason TEXT, at INTEGER NOT NULL) STRICT;"
	"CREATE INDEX alias_moves_by_alias ON alias_moves(model, alias, id);",

	/* 9 -> 10: what a deployment is to serve next, what it served before, and whether it is being deleted. */
	"ALTER TABLE deployments ADD COLUMN wanted TEXT REFERENCES checkpoints(id) ON DELETE SET NULL;"
	"ALTER TABLE deployments ADD COLUMN update_info TEXT;"
	"ALTER TABLE deployments ADD COLUMN previous TEXT REFERENCES checkpoints(id) ON DELETE SET NULL;"
	"ALTER TABLE deployments ADD COLUMN deleted INTEGER NOT NULL DEFAULT 0;"
	"CREATE INDEX deployments_by_wanted ON deployments(wanted);"
	"CREATE INDEX deployments_by_previous ON deployments(previous);",

	/* 10 -> 11: queues, and the jobs that a job waits for. job_after.after has no reference:
     * the other job may be deleted once it has ended. */
	"ALTER TABLE jobs ADD COLUMN cloned_from TEXT;"
	"CREATE TABLE queues("
	" name TEXT NOT NULL PRIMARY KEY, max_running INTEGER NOT NULL, weight REAL NOT NULL, paused INTEGER NOT NULL,"
	" created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
	"INSERT INTO queues VALUES('default', 0, 1, 0, unixepoch()*1000, unixepoch()*1000);"
	"INSERT OR IGNORE INTO queues SELECT DISTINCT queue, 0, 1, 0, unixepoch()*1000, unixepoch()*1000 FROM jobs;"
	"CREATE TABLE job_after("
	" job TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE, after TEXT NOT NULL, PRIMARY KEY(job, after)) STRICT, WITHOUT ROWID;"
	"CREATE INDEX job_after_by_after ON job_after(after);",

	/* 11 -> 12: what happens when a job has completed, and until when it must have. */
	"ALTER TABLE jobs ADD COLUMN deadline INTEGER;"
	"ALTER TABLE jobs ADD COLUMN on_complete TEXT;"
	/* The time limit may change; wall_from: the attempts up to this one, before a retry on request, do not count. */
	"ALTER TABLE jobs ADD COLUMN max_wall_s INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE jobs ADD COLUMN wall_from INTEGER NOT NULL DEFAULT 0;"
	"UPDATE jobs SET max_wall_s=coalesce(CAST(json_extract(spec,'$.limits.max_wall_s') AS INTEGER),0) WHERE json_valid(spec);"
	/* Deployments that a completed job made or changed, and that are to be loaded. */
	"CREATE TABLE deployment_loads(name TEXT NOT NULL PRIMARY KEY) STRICT, WITHOUT ROWID;"
	"CREATE INDEX jobs_by_deadline ON jobs(deadline) WHERE deadline IS NOT NULL AND finished_at IS NULL;"
	/* Sweeps. A trial's spec is kept until its job is made of it. */
	"ALTER TABLE jobs ADD COLUMN sweep TEXT;"
	"ALTER TABLE jobs ADD COLUMN trial INTEGER;"
	"ALTER TABLE jobs ADD COLUMN until INTEGER;"
	"CREATE INDEX jobs_by_sweep ON jobs(sweep) WHERE sweep IS NOT NULL;"
	"CREATE TABLE sweeps("
	" id TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL,"
	" state TEXT NOT NULL CHECK(state IN ('running','pausing','paused','cancelling','completed','failed','cancelled')),"
	" reason TEXT, message TEXT, template TEXT NOT NULL, space TEXT NOT NULL, search TEXT NOT NULL, rungs TEXT NOT NULL,"
	" divisor INTEGER NOT NULL, concurrency INTEGER NOT NULL, metric TEXT NOT NULL, goal_max INTEGER NOT NULL,"
	" created_by TEXT, created_at INTEGER NOT NULL, finished_at INTEGER, updated_at INTEGER NOT NULL) STRICT;"
	"CREATE INDEX sweeps_by_state ON sweeps(state);"
	"CREATE TABLE sweep_trials("
	" sweep TEXT NOT NULL REFERENCES sweeps(id) ON DELETE CASCADE, number INTEGER NOT NULL, point TEXT NOT NULL, spec TEXT, job TEXT,"
	" rung INTEGER NOT NULL, state TEXT, reason TEXT, message TEXT, PRIMARY KEY(sweep, number)) STRICT, WITHOUT ROWID;"
	"CREATE TABLE sweep_results("
	" sweep TEXT NOT NULL REFERENCES sweeps(id) ON DELETE CASCADE, trial INTEGER NOT NULL, rung INTEGER NOT NULL, value REAL, at INTEGER NOT NULL,"
	" PRIMARY KEY(sweep, trial, rung)) STRICT, WITHOUT ROWID;"
	/* What a job's process uses; of bounded length (samples.c). n: how many samples a row is the mean of. */
	"CREATE TABLE job_samples("
	" job TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE, name TEXT NOT NULL, ts INTEGER NOT NULL, attempt INTEGER NOT NULL,"
	" epoch INTEGER NOT NULL, step INTEGER NOT NULL, n INTEGER NOT NULL, value REAL NOT NULL, PRIMARY KEY(job, name, ts)) STRICT, WITHOUT ROWID;"
	/* webhooks and their last deliveries */
	"CREATE TABLE webhooks("
	" id TEXT NOT NULL PRIMARY KEY, url TEXT NOT NULL, events TEXT NOT NULL, secret TEXT NOT NULL, active INTEGER NOT NULL, cursor INTEGER NOT NULL,"
	" tries INTEGER NOT NULL DEFAULT 0, next_at INTEGER NOT NULL DEFAULT 0, lost INTEGER NOT NULL DEFAULT 0, error TEXT, created_by TEXT,"
	" created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
	"CREATE TABLE deliveries("
	" id TEXT NOT NULL PRIMARY KEY, webhook TEXT NOT NULL REFERENCES webhooks(id) ON DELETE CASCADE, seq INTEGER NOT NULL, type TEXT NOT NULL,"
	" attempt INTEGER NOT NULL, state TEXT NOT NULL, status INTEGER, error TEXT, ms INTEGER NOT NULL, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
	"CREATE INDEX deliveries_by_webhook ON deliveries(webhook, id);",
};

static const char *const ckpt_steps[] = {
	/* 0 -> 1: a payload is usable only when complete is 1, set by the last of its transactions. */
	"CREATE TABLE payloads("
	" num INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, bytes INTEGER NOT NULL, sha256 TEXT NOT NULL, complete INTEGER NOT NULL) STRICT;"
	"CREATE TABLE chunks("
	" payload INTEGER NOT NULL REFERENCES payloads(num) ON DELETE CASCADE, n INTEGER NOT NULL, sha256 TEXT NOT NULL, data BLOB NOT NULL,"
	" PRIMARY KEY(payload, n)) STRICT;",
};

const struct schema schema_main = {"wasd.db", 0x57415344 /* WASD */, 4096, main_steps,
                                   sizeof main_steps / sizeof *main_steps};
const struct schema schema_ckpt = {"ckpt.db", 0x57415343 /* WASC */, 16384, ckpt_steps,
                                   sizeof ckpt_steps / sizeof *ckpt_steps};

static uint32_t be32(const unsigned char *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static enum wasd_status check_ids(const struct schema *sc, int64_t app, int64_t version, struct wasd_err *err)
{
	if (app != sc->application_id)
		return wasd_fail(err, WASD_ECORRUPT, "%s: not a database of wasd (application_id %lld, expected %lld)",
		                 sc->file, (long long)app, (long long)sc->application_id);
	if (version < 0 || version > sc->n_steps)
		return wasd_fail(err, WASD_EUNSUPPORTED, "%s: made by a newer wasd (schema %lld, this program knows %d)",
		                 sc->file, (long long)version, sc->n_steps);
	return WASD_OK;
}

enum wasd_status schema_inspect(const struct schema *sc, const char *path, struct wasd_err *err)
{
	unsigned char h[100];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return wasd_fail_errno(err, errno, "%s", path);
	ssize_t k = pread(fd, h, sizeof h, 0);
	close(fd);
	if (k != sizeof h || memcmp(h, "SQLite format 3", 16))
		return wasd_fail(err, WASD_ECORRUPT, "%s: not an SQLite database", sc->file);
	return check_ids(sc, be32(h + 68), be32(h + 60), err);
}

enum wasd_status schema_migrate(const struct schema *sc, struct conn *c, struct wasd_err *err)
{
	int64_t app = 0, version = 0;
	enum wasd_status s;
	/* The header that schema_inspect read may be older than the log. */
	if ((s = conn_int(c, "PRAGMA application_id", &app, err)) ||
	    (s = conn_int(c, "PRAGMA user_version", &version, err)))
		return s;
	if ((s = check_ids(sc, app, version, err)) || version == sc->n_steps)
		return s;
	if ((s = conn_exec(c, "BEGIN IMMEDIATE", err)))
		return s;
	for (int64_t v = version; v < sc->n_steps && !s; v++)
		s = conn_exec(c, sc->steps[v], err);
	char sql[64];
	snprintf(sql, sizeof sql, "PRAGMA user_version=%d",
	         sc->n_steps); /* pragmas take no parameters; the value is ours */
	if (!s)
		s = conn_exec(c, sql, err);
	if (!s)
		s = conn_exec(c, "COMMIT", err);
	if (s && !sqlite3_get_autocommit(c->db))
		conn_exec(c, "ROLLBACK", NULL);
	return s ? s : conn_exec(c, "PRAGMA incremental_vacuum", err); /* frees pages of tables that a step dropped */
}

enum wasd_status schema_create(const struct schema *sc, const char *path, struct wasd_err *err)
{
	static const char *const tails[] = {"", "-wal", "-shm", "-journal"};
	char *tmp = wasd_asprintf("%s.new", path);
	if (!tmp)
		return wasd_fail(err, WASD_ENOMEM, "%s: no memory", path);
	struct conn c = {.name = sc->file};
	enum wasd_status s = WASD_OK;
	for (int i = 0; i < 4 && !s; i++) {
		char *old = wasd_asprintf("%s%s", tmp, tails[i]); /* left by an interrupted creation */
		if (!old)
			s = wasd_fail(err, WASD_ENOMEM, "%s: no memory", path);
		else if (unlink(old) && errno != ENOENT)
			s = wasd_fail_errno(err, errno, "%s", old);
		wasd_free(old);
	}
	int fd = s ? -1 : open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
	if (!s && fd < 0)
		s = wasd_fail_errno(err, errno, "%s", tmp);
	if (fd >= 0)
		close(fd);
	char sql[160];
	snprintf(sql, sizeof sql, "PRAGMA page_size=%d; PRAGMA auto_vacuum=INCREMENTAL; PRAGMA application_id=%lld; VACUUM",
	         sc->page_size, (long long)sc->application_id);
	if (!s && sqlite3_open_v2(tmp, &c.db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_EXRESCODE, NULL) != SQLITE_OK)
		s = conn_fail(&c, "create", err);
	if (!s)
		s = conn_exec(&c, sql, err);
	conn_close(&c);
	if (!s)
		s = conn_open(&c, tmp, sc->file, false, err);
	if (!s)
		s = schema_migrate(sc, &c, err);
	if (c.db)
		conn_close(&c); /* the last close moves the log into the file */
	if (!s && rename(tmp, path))
		s = wasd_fail_errno(err, errno, "rename of %s to %s", tmp, path);
	if (s)
		unlink(tmp);
	wasd_free(tmp);
	return s;
}
