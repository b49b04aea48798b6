/* Conversions of checkpoints go one at a time. Those that wait for another one give up at their deadline, and go on
 * when it ends. The engine makes the file of an export and answers only after the test has removed it. */
#include "check.h"
#include "fake_engine.h"
#include "jobs/blobs.h"
#include "jobs/convert.h"
#include "log.h"

#include <limits.h>
#include <pthread.h>

enum { LONG_S = 600 };

static struct storage *db;
static struct supervisor *sup;
static struct convert *convert;
static char dir[64], engine_path[PATH_MAX], ckpt[32];

static int64_t in_us(int64_t us)
{
	return wasd_mono_us() + us;
}

static void start(void)
{
	static const char data[] = "weights";
	char sha[WASD_SHA256_HEX];
	struct wasd_err err = {0};
	struct storage_opts so = {.low_water_bytes = 1, .ballast_bytes = 4096};
	CHECK_MSG(storage_open(dir, &so, &db, &err) == WASD_OK, "%s", err.msg);
	wasd_sha256_of(data, sizeof data, sha);
	struct storage_ckpt_in in =
		{.data = data, .bytes = sizeof data, .sha256 = sha, .reason = "import", .info = "{}", .metrics_json = "{}"};
	CHECK_MSG(storage_ckpt_store(db, &in, ckpt, &err) == WASD_OK, "%s", err.msg);
	struct supervisor_config sc = {.engine = engine_path, .heartbeat_ms = LONG_S * 1000, .kill_ms = 200, .tick_ms = 20};
	if (supervisor_create(&sc, &sup, NULL) != WASD_OK)
		abort();
	struct convert_config cc = {.db = db, .sup = sup, .data_dir = dir, .idle_ms = LONG_S * 1000};
	CHECK_MSG(convert_create(&cc, &convert, &err) == WASD_OK, "%s", err.msg);
}

static void stop(void)
{
	convert_stop(convert);
	supervisor_stop(sup);
	convert_destroy(convert);
	supervisor_destroy(sup);
	storage_close(db);
}

static void *export_one(void *arg)
{
	struct api_file file = {0};
	enum wasd_status *s = arg;
	*s = convert_export(convert, ckpt, "onnx", "aom", in_us(LONG_S * 1000000ll), &file, NULL);
	if (*s == WASD_OK)
		close(file.fd);
	return NULL;
}

static void put_blob(char sha256[WASD_SHA256_HEX])
{
	wasd_sha256_of("blob", 4, sha256);
	char *path = blobs_path(dir, sha256);
	CHECK(wasd_file_write_atomic(path, "blob", 4, NULL) == WASD_OK);
	wasd_free(path);
}

static void too_late(enum wasd_status s, const struct wasd_err *err)
{
	CHECK_INT(s, WASD_EBUSY);
	CHECK_MSG(strstr(err->msg, "other conversions"), "%s", err->msg);
}

static void those_that_wait_have_a_deadline(void)
{
	pthread_t one;
	enum wasd_status exported = WASD_EINTERNAL;
	char path[PATH_MAX], sha256[WASD_SHA256_HEX], id[32];
	cJSON *found = NULL, *how = cJSON_CreateObject();
	struct api_file file;
	struct wasd_err err = {0};
	start();
	put_blob(sha256);
	snprintf(path, sizeof path, "%s/exports/%s.aom.onnx", dir, ckpt);
	CHECK(!pthread_create(&one, NULL, export_one, &exported));
	while (access(path, F_OK))
		poll(NULL, 0, 5);
	too_late(convert_inspect(convert, ckpt, NULL, in_us(20000), &found, &err), &err);
	too_late(convert_inspect(convert, ckpt, how, 0, &found, &err), &err);
	too_late(convert_export(convert, ckpt, "safetensors", "aom", in_us(20000), &file, &err), &err);
	too_late(convert_import(convert, sha256, how, false, in_us(20000), id, &err), &err);
	CHECK(!found);
	unlink(path);
	CHECK_MSG(convert_inspect(convert, ckpt, NULL, in_us(LONG_S * 1000000ll), &found, &err) == WASD_OK, "%s", err.msg);
	CHECK_INT(cJSON_GetNumberValue(wasd_json_get(found, "alive")), 4);
	pthread_join(one, NULL);
	CHECK_INT(exported, WASD_OK);
	too_late(convert_inspect(convert, ckpt, NULL, in_us(-1), &found, &err), &err);
	cJSON_Delete(found);
	cJSON_Delete(how);
	stop();
}

/* ---- the engine ---- */

static void make_file(const struct wasd_frame *m)
{
	const char *path = "";
	char sha256[WASD_SHA256_HEX];
	wasd_json_str(m->json, "out", &path);
	if (wasd_file_write_atomic(path, "file", 4, NULL) != WASD_OK)
		_exit(1);
	struct pollfd daemon = {.fd = WASD_WIRE_FD};
	while (!access(path, F_OK))
		if (poll(&daemon, 1, 5) > 0) /* hung up */
			_exit(1);
	wasd_sha256_of("file", 4, sha256);
	if (wasd_file_write_atomic(path, "file", 4, NULL) != WASD_OK)
		_exit(1);
	SAY("{\"type\":\"exported\",\"re\":%u,\"bytes\":4,\"sha256\":\"%s\"}", m->seq, sha256);
}

static _Noreturn void engine(void)
{
	if (wasd_wire_create(WASD_WIRE_FD, &fw, NULL) != WASD_OK)
		_exit(1);
	fake_role = WASD_ROLE_CONVERT;
	fake_hello("convert", WASD_VERSION);
	for (;;) {
		struct wasd_frame m = fake_hear(-1, true);
		if (!strcmp(m.type, "export"))
			make_file(&m);
		else
			SAY("{\"type\":\"inspected\",\"re\":%u,\"found\":{\"alive\":4}}", m.seq);
		wasd_frame_done(&m);
	}
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "convert"))
		engine();
	fake_engine_main(argc, argv);
	log_set_level(LOG_ERROR);
	ssize_t n = readlink("/proc/self/exe", engine_path, sizeof engine_path - 1);
	engine_path[n > 0 ? n : 0] = 0;
	check_temp(dir, sizeof dir, "wasd-convert");
	if (!mkdtemp(dir))
		abort();
	TEST_RUN(those_that_wait_have_a_deadline);
	wasd_remove_tree(dir, NULL);
	TEST_END();
}
