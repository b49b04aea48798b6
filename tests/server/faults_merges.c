/* Merges and archives that fail, are deleted at any time, cannot be stored at once, or continue after a restart. */
#include "faults.h"

static char ckpt[32];

static enum wasd_status ask_with(cJSON *request, char id[40], struct wasd_err *err)
{
	cJSON *record = cJSON_CreateObject(), *two = cJSON_AddArrayToObject(record, "checkpoints");
	for (int i = 0; i < 2; i++)
		cJSON_AddItemToArray(two, cJSON_CreateString(ckpt));
	cJSON_AddItemToObject(record, "request", request);
	return merges_api(merges).begin(merges, record, id, err);
}

static void ask(const char *fault, char id[40])
{
	struct wasd_err err = {0};
	cJSON *request = cJSON_CreateObject();
	cJSON_AddStringToObject(request, "fault", fault);
	CHECK_MSG(ask_with(request, id, &err) == WASD_OK, "%s", err.msg);
}

static cJSON *show_merge(const char *id)
{
	cJSON *j = NULL;
	merges_api(merges).get(merges, id, &j, NULL);
	return j;
}

static bool is(const cJSON *j, const char *states)
{
	const char *state = "none";
	wasd_json_str(j, "state", &state);
	return strstr(states, state) != NULL;
}

static bool has_process(void)
{
	cJSON *all = supervisor_processes(sup);
	int n = cJSON_GetArraySize(all);
	cJSON_Delete(all);
	return n > 0;
}

/* It has shown its progress and its process is gone, or: is still there. */
static bool has_come(const cJSON *j, bool process)
{
	int64_t done = 0;
	return is(j, "running") && wasd_json_i64(wasd_json_get(j, "progress"), "done", &done) && done == 1 &&
	       has_process() == process;
}

enum until { ENDED, WORKS, IS_STORED };

static cJSON *wait_merge(const char *id, enum until until)
{
	int64_t end = wasd_mono_us() + 10000000ll * PATIENCE;
	for (;;) {
		cJSON *j = show_merge(id);
		bool there = until == ENDED ? is(j, "ready,failed") : has_come(j, until == WORKS);
		if (there || !j || wasd_mono_us() > end) {
			CHECK_MSG(there, "%s: %s", id, j ? "it stays" : "it is gone");
			return j;
		}
		cJSON_Delete(j);
		poll(NULL, 0, 1);
	}
}

static void await(const char *id, enum until until)
{
	cJSON_Delete(wait_merge(id, until));
}

static void becomes(const char *id, const char *state)
{
	const char *message = "";
	cJSON *j = wait_merge(id, ENDED);
	wasd_json_str(j, "message", &message);
	CHECK_MSG(is(j, state), "%s is not %s: %s", id, state, message);
	cJSON_Delete(j);
}

static enum wasd_status forget(const char *id)
{
	return merges_api(merges).forget(merges, id, NULL);
}

static void is_gone(const char *id)
{
	cJSON *j = show_merge(id);
	CHECK(!j);
	cJSON_Delete(j);
}

static int events_of(const char *id)
{
	struct storage_event_list l = {0};
	CHECK_INT(storage_event_read(db, 0, "checkpoints", id, 100, &l, NULL), WASD_OK);
	int n = (int)l.n;
	storage_event_list_done(&l);
	return n;
}

static int events(void)
{
	return events_of(NULL);
}

static int listed(void)
{
	cJSON *all = merges_api(merges).list(merges);
	int n = cJSON_GetArraySize(all);
	cJSON_Delete(all);
	return n;
}

static int merged(void)
{
	struct storage_ckpt_list l = {0};
	CHECK_INT(storage_ckpt_list(db, NULL, &l, NULL), WASD_OK);
	int n = (int)l.n;
	storage_ckpt_list_done(&l);
	return n;
}

static void reaches(int (*count)(void), int n)
{
	int64_t end = wasd_mono_us() + 10000000ll * PATIENCE;
	while (count() != n && wasd_mono_us() < end)
		poll(NULL, 0, 1);
	CHECK_INT(count(), n);
}

static void begin(void)
{
	char path[64];
	fault_file(path, getpid());
	unlink(path);
	quota = 0;
	start(1);
	make_ckpt("fine", ckpt);
}

static void faults(void)
{
	static const struct {
		const char *name, *state, *in_message;
	} cases[] = {
		{"fine", "ready", NULL},
		{"told", "failed", "another network"},
		{"dies", "failed", "signal 9"},
		{"quits", "failed", "ended early"},
		{"backwards", "failed", "progress of 4 of 3"},
		{"endless", "failed", "broke the protocol"},
		{"unsealed", "failed", "broke the protocol"},
		{"short", "failed", "broke the protocol"},
		{"nofile", "failed", "memory file"},
		{"wrongsha", "failed", "SHA-256"},
		{"noinfo", "failed", "merged has no valid info"},
		{"twice", "failed", "merged after its end"},
	};
	char id[40];
	begin();
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		const char *message = NULL;
		ask(cases[i].name, id);
		cJSON *j = wait_merge(id, ENDED);
		wasd_json_str(j, "message", &message);
		CHECK_MSG(is(j, cases[i].state), "%s: %s", cases[i].name, message);
		CHECK_MSG(!cases[i].in_message || (message && strstr(message, cases[i].in_message)), "%s: %s", cases[i].name,
		          message);
		cJSON_Delete(j);
	}
	CHECK_INT(merged(), 1);
	stop();
}

/* It still uses the memory of the merge when others see that it has ended. */
static void deleted_at_its_end(void)
{
	char id[40];
	begin();
	for (int i = 0; i < 100; i++) {
		ask(i % 2 ? "told" : "fine", id);
		await(id, ENDED);
		CHECK_INT(forget(id), WASD_OK);
		is_gone(id);
	}
	CHECK_INT(listed(), 0);
	stop();
}

static void deleted_in_the_middle(void)
{
	char slow[40], waits[40], told[40], id[40];
	begin();
	ask("slow", slow);
	ask("fine", waits);
	ask("told", told);
	await(slow, WORKS);
	CHECK_INT(forget(waits), WASD_OK);
	CHECK_INT(forget(slow), WASD_OK);
	is_gone(slow);
	CHECK_INT(forget(slow), WASD_ENOTFOUND);
	becomes(told, "failed");
	CHECK_INT(merged(), 0);
	reaches(events, 1);
	CHECK_INT(events_of(told), 1);
	/* At once: while its checkpoints are read, or before. */
	for (int i = 0; i < 30; i++) {
		ask("fine", id);
		poll(NULL, 0, i % 3);
		CHECK_INT(forget(id), WASD_OK);
	}
	ask("told", told);
	becomes(told, "failed");
	CHECK_INT(listed(), 2);
	stop();
}

/* A checkpoint of 1 MiB, and room for a quarter more. */
static void fill(char spare[32])
{
	struct wasd_err err = {0};
	struct storage_disk d = {0};
	char sha[WASD_SHA256_HEX], *data = wasd_calloc(1, 1 << 20);
	wasd_sha256_of(data, 1 << 20, sha);
	struct storage_ckpt_in in =
		{.data = data, .bytes = 1 << 20, .sha256 = sha, .reason = "import", .info = "{}", .metrics_json = "{}"};
	CHECK_MSG(storage_ckpt_store(db, &in, spare, &err) == WASD_OK, "%s", err.msg);
	wasd_free(data);
	stop_parts();
	quota = 1ull << 40;
	start_parts(1);
	storage_disk(db, &d);
	stop_parts();
	quota = d.used + (256 << 10);
	start_parts(1);
}

static void its_checkpoints_stay(void)
{
	char id[40], job[48];
	struct wasd_err err = {0};
	struct storage_ckpt k = {0};
	begin();
	CHECK_INT(storage_ckpt_get(db, ckpt, &k, NULL), WASD_OK);
	snprintf(job, sizeof job, "%s", k.job);
	storage_ckpt_done(&k);
	ask("slow", id);
	CHECK_INT(storage_ckpt_delete(db, ckpt, "t", &err), WASD_ESTATE);
	CHECK_MSG(strstr(err.msg, id), "%s", err.msg);
	CHECK_INT(storage_job_delete(db, job, "t", &err), WASD_ESTATE);
	CHECK_MSG(strstr(err.msg, id), "%s", err.msg);
	await(id, WORKS);
	stop_parts();
	start_parts(1);
	CHECK_INT(storage_ckpt_delete(db, ckpt, "t", &err), WASD_ESTATE);
	CHECK_INT(forget(id), WASD_OK);
	CHECK_MSG(storage_ckpt_delete(db, ckpt, "t", &err) == WASD_OK, "%s", err.msg);
	stop();
}

static void no_room(void)
{
	char first[40], told[40], id[40], spare[32];
	struct wasd_err err = {0};
	begin();
	fill(spare);
	/* Deleted while it waits for room: nothing is stored or told. */
	ask("big", first);
	ask("told", told);
	await(first, IS_STORED);
	CHECK_INT(forget(first), WASD_OK);
	becomes(told, "failed");
	reaches(events, 1);
	CHECK_INT(events_of(told), 1);
	CHECK_INT(merged(), 1);
	/* Not lost: it is stored when there is room. */
	ask("big", id);
	await(id, IS_STORED);
	CHECK_MSG(storage_ckpt_delete(db, spare, "t", &err) == WASD_OK, "%s", err.msg);
	becomes(id, "ready");
	CHECK_INT(merged(), 1);
	reaches(events, 2);
	stop();
}

static void file_of(const char *name, char path[200])
{
	snprintf(path, 200, "%s/merges/%s", dir, name);
}

static void write_file(const char *name, const char *text)
{
	char path[200];
	file_of(name, path);
	CHECK_INT(wasd_file_write_atomic(path, text, strlen(text), NULL), WASD_OK);
}

static bool is_there(const char *name)
{
	char path[200];
	file_of(name, path);
	return access(path, F_OK) == 0;
}

/* A folder in the place of its file: the file cannot be written or removed. */
static void a_file_that_stays(void)
{
	char id[40], name[60], path[200];
	begin();
	ask("slow", id);
	await(id, WORKS);
	snprintf(name, sizeof name, "%s.json", id);
	file_of(name, path);
	CHECK(unlink(path) == 0 && mkdir(path, 0700) == 0);
	CHECK_INT(forget(id), WASD_EIO);
	char go[64];
	fault_file(go, getpid());
	fclose(fopen(go, "w"));
	await(id, IS_STORED);
	reaches(merged, 1);
	CHECK(rmdir(path) == 0);
	becomes(id, "ready");
	CHECK_INT(forget(id), WASD_OK);
	CHECK(!is_there(name));
	unlink(go);
	stop();
}

static void files(void)
{
	char id[40], slow[40], name[60];
	struct wasd_err err = {0};
	char *text = wasd_calloc(1, (5 << 20) + 1);
	begin();
	ask("fine", id);
	becomes(id, "ready");
	memset(text, 'x', 5 << 20);
	cJSON *request = cJSON_CreateObject();
	cJSON_AddStringToObject(request, "fault", text);
	char none[40];
	CHECK_INT(ask_with(request, none, &err), WASD_ETOOBIG);
	CHECK_INT(listed(), 1);
	/* More than a message holds: it fails, and is still there after a restart. */
	text[2 << 20] = 0;
	request = cJSON_CreateObject();
	cJSON_AddStringToObject(request, "fault", text);
	CHECK_INT(ask_with(request, none, &err), WASD_OK);
	becomes(none, "failed");
	ask("slow", slow);
	await(slow, WORKS);
	stop_parts();
	write_file("merge_0.json", "{");
	write_file("merge_1.json", "[]");
	write_file("merge_2.json.tmp-ABCDEF", "{");
	start_parts(1);
	CHECK_INT(listed(), 3);
	CHECK(is_there("merge_0.json") && is_there("merge_1.json") && !is_there("merge_2.json.tmp-ABCDEF"));
	becomes(id, "ready");
	becomes(none, "failed");
	await(slow, WORKS); /* anew */
	CHECK_INT(forget(slow), WASD_OK);
	snprintf(name, sizeof name, "%s.json", slow);
	CHECK(!is_there(name));
	wasd_free(text);
	stop();
}

static void room_for_others(void)
{
	char id[40], name[60];
	struct wasd_err err = {0};
	begin();
	stop_parts();
	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof name, "merge_%03d.json", i);
		write_file(name, "{\"state\":\"failed\"}");
	}
	start_parts(1);
	for (int i = 0; i < 16; i++)
		ask("slow", id);
	CHECK_INT(listed(), 100);
	CHECK(!is_there("merge_015.json") && is_there("merge_016.json"));
	/* One too many removes nothing. */
	CHECK_INT(ask_with(cJSON_CreateObject(), id, &err), WASD_EBUSY);
	CHECK(is_there("merge_016.json"));
	CHECK_INT(listed(), 100);
	stop();
}

/* ---- archives --------------------------------------------------------------------------------------------------- */

static enum wasd_status begin_archive(const char *fault, const char *second, char id[40], struct wasd_err *err)
{
	cJSON *record = cJSON_CreateObject(), *two = cJSON_AddArrayToObject(record, "checkpoints"),
		  *request = cJSON_AddObjectToObject(record, "request");
	cJSON_AddItemToArray(two, cJSON_CreateString(ckpt));
	cJSON_AddItemToArray(two, cJSON_CreateString(second));
	cJSON_AddStringToObject(request, "fault", fault);
	return archives_api(archives).begin(archives, record, id, err);
}

static void ask_archive(const char *fault, const char *second, char id[40])
{
	struct wasd_err err = {0};
	CHECK_MSG(begin_archive(fault, second, id, &err) == WASD_OK, "%s", err.msg);
}

/* Until it has ended, or its process waits. */
static cJSON *wait_archive(const char *id, const char *states)
{
	int64_t end = wasd_mono_us() + 10000000ll * PATIENCE;
	for (;;) {
		cJSON *j = NULL;
		archives_api(archives).get(archives, id, &j, NULL);
		int64_t done = 0;
		bool there = j && is(j, states) &&
		             (!is(j, "running") || wasd_json_i64(wasd_json_get(j, "progress"), "done", &done));
		if ((there && (done || !is(j, "running"))) || !j || wasd_mono_us() > end) {
			CHECK_MSG(there, "%s: %s", id, j ? "it stays" : "it is gone");
			return j;
		}
		cJSON_Delete(j);
		poll(NULL, 0, 1);
	}
}

static int exports(void)
{
	char path[200];
	int n = 0;
	snprintf(path, sizeof path, "%s/exports", dir);
	DIR *d = opendir(path);
	for (struct dirent *e; d && (e = readdir(d));)
		n += e->d_name[0] != '.';
	if (d)
		closedir(d);
	return n;
}

static int archives_listed(void)
{
	cJSON *all = archives_api(archives).list(archives);
	int n = cJSON_GetArraySize(all);
	cJSON_Delete(all);
	return n;
}

static void faulty_archives(void)
{
	static const struct {
		const char *name, *second, *state, *in_message;
	} cases[] = {
		{"fine", ckpt, "ready", NULL},
		{"told", ckpt, "failed", "another network"},
		{"dies", ckpt, "failed", "signal 9"},
		{"diesreading", ckpt, "failed", "signal 9"},
		{"beyond", ckpt, "failed", "checkpoint 2 of 2"},
		{"hasty", ckpt, "failed", "checkpoint 0 of 2"},
		{"huge", ckpt, "failed", "are needed"},
		{"fine", "ckpt_none", "failed", "/checkpoints/1: ckpt_none"},
	};
	struct wasd_err err = {0};
	struct api_file f;
	char id[40], short_one[40];
	begin();
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		const char *message = NULL;
		ask_archive(cases[i].name, cases[i].second, id);
		cJSON *j = wait_archive(id, "ready,failed");
		wasd_json_str(j, "message", &message);
		CHECK_MSG(is(j, cases[i].state), "%s: %s", cases[i].name, message);
		CHECK_MSG(!cases[i].in_message || (message && strstr(message, cases[i].in_message)), "%s: %s", cases[i].name,
		          message);
		cJSON_Delete(j);
		CHECK_INT(exports(), 1); /* that of the first */
	}
	CHECK_INT(archives_api(archives).open(archives, id, &f, &err), WASD_ESTATE);
	ask_archive("short", ckpt, short_one);
	cJSON_Delete(wait_archive(short_one, "ready"));
	CHECK_INT(archives_api(archives).open(archives, short_one, &f, &err), WASD_ECORRUPT);
	ask_archive("fine", ckpt, id);
	cJSON_Delete(wait_archive(id, "ready"));
	CHECK_INT(archives_api(archives).open(archives, id, &f, &err), WASD_OK);
	CHECK_INT((int)f.bytes, 4);
	close(f.fd);
	stop();
}

static bool is_kept(const char *id)
{
	cJSON *j = NULL;
	archives_api(archives).get(archives, id, &j, NULL);
	cJSON_Delete(j);
	return j;
}

static void make_archives(char id[16][40])
{
	for (int i = 0; i < 16; i++) {
		ask_archive("fine", ckpt, id[i]);
		cJSON_Delete(wait_archive(id[i], "ready"));
	}
}

/* Sixteen are kept. A failed one goes for another, then that which nobody has asked for for the longest time; but none
 * that waits, or is ready and was asked for within keep_ms. */
static void room_for_archives(void)
{
	char ids[16][40], id[40];
	struct wasd_err err = {0};
	begin();
	for (int i = 0; i < 16; i++)
		ask_archive("slow", ckpt, ids[i]);
	CHECK_INT(begin_archive("fine", ckpt, id, &err), WASD_EBUSY);
	CHECK_INT(archives_listed(), 16);
	for (int i = 15; i >= 0; i--)
		CHECK_INT(archives_api(archives).forget(archives, ids[i], NULL), WASD_OK);
	make_archives(ids);
	CHECK_INT(begin_archive("fine", ckpt, id, &err), WASD_EBUSY);
	CHECK_INT(archives_api(archives).forget(archives, ids[7], NULL), WASD_OK);
	ask_archive("told", ckpt, ids[7]);
	cJSON_Delete(wait_archive(ids[7], "failed"));
	ask_archive("fine", ckpt, id);
	CHECK(!is_kept(ids[7]));
	CHECK_INT(archives_listed(), 16);
	stop_parts();
	archive_keep_ms = 0;
	start_parts(1);
	make_archives(ids);
	CHECK(is_kept(ids[0])); /* now ids[1] is the one */
	ask_archive("fine", ckpt, id);
	CHECK(is_kept(ids[0]) && !is_kept(ids[1]) && is_kept(ids[2]));
	cJSON_Delete(wait_archive(id, "ready"));
	CHECK_INT(exports(), 16);
	archive_keep_ms = 3600000;
	stop();
}

static void deleted_archives(void)
{
	char slow[40], waits[40], told[40], id[40];
	struct wasd_err err = {0};
	begin();
	ask_archive("slow", ckpt, slow);
	ask_archive("fine", ckpt, waits);
	ask_archive("told", ckpt, told);
	cJSON_Delete(wait_archive(slow, "running"));
	CHECK_INT(storage_ckpt_delete(db, ckpt, "t", &err), WASD_ESTATE);
	CHECK_MSG(strstr(err.msg, slow), "%s", err.msg);
	CHECK_INT(archives_api(archives).forget(archives, waits, NULL), WASD_OK);
	CHECK_INT(archives_api(archives).forget(archives, slow, NULL), WASD_OK);
	CHECK_INT(archives_api(archives).forget(archives, slow, NULL), WASD_ENOTFOUND);
	cJSON_Delete(wait_archive(told, "failed"));
	/* At once: while its checkpoints are read, or before. */
	for (int i = 0; i < 30; i++) {
		ask_archive(i % 2 ? "fine" : "slow", ckpt, id);
		poll(NULL, 0, i % 3);
		CHECK_INT(archives_api(archives).forget(archives, id, NULL), WASD_OK);
	}
	ask_archive("told", ckpt, told);
	cJSON_Delete(wait_archive(told, "failed"));
	CHECK_INT(archives_listed(), 2);
	CHECK_INT(exports(), 0);
	CHECK_MSG(storage_ckpt_delete(db, ckpt, "t", &err) == WASD_OK, "%s", err.msg);
	/* The daemon ends in the middle. */
	make_ckpt("again", ckpt);
	ask_archive("slow", ckpt, id);
	cJSON_Delete(wait_archive(id, "running"));
	stop_parts();
	archive_idle_ms = 0;
	start_parts(1);
	CHECK_INT(exports(), 0);
	/* Nobody asks for it. */
	ask_archive("fine", ckpt, id);
	reaches(archives_listed, 0);
	reaches(exports, 0);
	archive_idle_ms = 3600000;
	stop();
}

int main(int argc, char **argv)
{
	fake_engine_main(argc, argv);
	log_set_level(LOG_ERROR);
	TEST_RUN(faults);
	TEST_RUN(deleted_at_its_end);
	TEST_RUN(deleted_in_the_middle);
	TEST_RUN(its_checkpoints_stay);
	TEST_RUN(no_room);
	TEST_RUN(a_file_that_stays);
	TEST_RUN(files);
	TEST_RUN(room_for_others);
	TEST_RUN(faulty_archives);
	TEST_RUN(room_for_archives);
	TEST_RUN(deleted_archives);
	TEST_END();
}
