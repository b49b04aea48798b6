/* wasd-engine ingest as the daemon uses it: one process, one stream, the messages of protocol.h. */
#include "core/data_samples.h"
#include "wasd/protocol.h"
#include "wasd/wire.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>

static char engine_path[4096];
extern char **environ;

struct engine {
	pid_t pid;
	struct wasd_wire *wire;
};

static struct engine engine_start(void)
{
	struct engine e = {0};
	int sv[2];
	CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv));
	posix_spawn_file_actions_t fa;
	posix_spawn_file_actions_init(&fa);
	if (sv[1] == WASD_WIRE_FD) /* dup2 onto itself would keep close-on-exec */
		fcntl(sv[1], F_SETFD, 0);
	else
		posix_spawn_file_actions_adddup2(&fa, sv[1], WASD_WIRE_FD);
	char *argv[] = {engine_path, (char *)(uintptr_t) "ingest", NULL};
	int rc = posix_spawn(&e.pid, engine_path, &fa, NULL, argv, environ);
	CHECK_MSG(!rc, "%s: %s", engine_path, strerror(rc));
	posix_spawn_file_actions_destroy(&fa);
	close(sv[1]);
	CHECK(!wasd_wire_create(sv[0], &e.wire, NULL));
	return e;
}

/* Exit status, or 1000 + signal. Kills a process that has not ended after a minute. */
static int engine_end(struct engine *e)
{
	int st = 0;
	wasd_wire_destroy(e->wire);
	for (int64_t end = wasd_mono_us() + 60000000; waitpid(e->pid, &st, WNOHANG) == 0; poll(NULL, 0, 5))
		if (wasd_mono_us() > end)
			kill(e->pid, SIGKILL);
	return WIFEXITED(st) ? WEXITSTATUS(st) : 1000 + WTERMSIG(st);
}

static void send_text(struct engine *e, const char *fmt, ...)
{
	va_list ap;
	char text[2048];
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	CHECK(!wasd_wire_send_take(e->wire, cJSON_Parse(text), NULL));
}

/* The next message other than heartbeat, log and progress (counted); waits at most 30 s. */
static int progress_seen;
static bool next(struct engine *e, struct wasd_frame *m)
{
	for (;;) {
		*m = (struct wasd_frame){.fd = -1};
		enum wasd_status s = wasd_wire_recv(e->wire, 30000, m, NULL);
		if (s)
			return false;
		progress_seen += !strcmp(m->type, "progress");
		if (strcmp(m->type, "progress") && strcmp(m->type, "heartbeat") && strcmp(m->type, "log"))
			return true;
		wasd_frame_done(m);
	}
}

static void expect(struct engine *e, const char *type, struct wasd_frame *m)
{
	if (!next(e, m)) {
		CHECK_MSG(0, "no %s came", type);
		m->json = cJSON_CreateObject();
		return;
	}
	char *text = wasd_json_print(m->json);
	CHECK_MSG(!strcmp(m->type, type), "%s came for %s", text, type);
	wasd_free(text);
}

static int64_t number(const struct wasd_frame *m, const char *key)
{
	int64_t v = -1;
	CHECK_MSG(wasd_json_i64(m->json, key, &v), "no %s", key);
	return v;
}
static const char *string(const struct wasd_frame *m, const char *key)
{
	const char *v = "";
	CHECK_MSG(wasd_json_str(m->json, key, &v), "no %s", key);
	return v;
}

static struct engine hello(void)
{
	struct engine e = engine_start();
	struct wasd_frame m;
	expect(&e, "hello", &m);
	CHECK_STR(string(&m, "role"), "ingest");
	CHECK_INT(number(&m, "pid"), e.pid);
	wasd_frame_done(&m);
	return e;
}

static void upload_and_preview(void)
{
	struct engine e = hello();
	struct wasd_frame m;
	struct packer p = pack_open(sample_path("set.zip"), ZIP);
	static const char *const names[] = {"train/cat/0.png", "train/dog/0.png", "test/cat/0.png"};
	for (int i = 0; i < 3; i++) {
		blob b = {0};
		make_png(&b, 3, 10, 12, i);
		pack_blob(p, names[i], &b);
	}
	pack_close(p);
	send_text(
		&e,
		"{\"type\":\"ingest\",\"name\":\"pets\",\"files\":[{\"path\":\"%s\",\"name\":\"set.zip\"}],\"out\":\"%s\",\"options\":{},"
		"\"limits\":{\"max_bytes\":1000000,\"max_images\":100}}",
		sample_path("set.zip"), sample_path("pets.wds"));
	expect(&e, "done", &m);
	struct wasd_dataset *d = NULL;
	struct stat st;
	CHECK(!wasd_dataset_open(sample_path("pets.wds"), &d, NULL) && !stat(sample_path("pets.wds"), &st));
	if (d) {
		double mean[3], std[3];
		wasd_dataset_moments(d, mean, std);
		CHECK_INT(number(&m, "re"), 1);
		CHECK_STR(string(&m, "format"), "images");
		CHECK_STR(string(&m, "digest"), wasd_dataset_digest(d));
		CHECK_INT(number(&m, "train"), 2);
		CHECK_INT(number(&m, "test"), 1);
		CHECK_INT(number(&m, "bytes"), st.st_size);
		char *text = wasd_json_print(m.json);
		CHECK(strstr(text, "\"shape\":[3,10,12]") && strstr(text, "\"classes\":[\"cat\",\"dog\"]"));
		wasd_free(text);
		const cJSON *means = wasd_json_get(m.json, "mean");
		CHECK_INT(cJSON_GetArraySize(means), 3);
		CHECK_NEAR(cJSON_GetNumberValue(cJSON_GetArrayItem(means, 1)), mean[1], 1e-15);
	}
	wasd_frame_done(&m);

	send_text(&e, "{\"type\":\"preview\",\"path\":\"%s\",\"split\":\"train\",\"index\":1}", sample_path("pets.wds"));
	expect(&e, "previewed", &m);
	CHECK_INT(number(&m, "re"), 2);
	CHECK_INT(number(&m, "label"), 1);
	CHECK_STR(string(&m, "class"), "dog");
	uint8_t *chw = NULL;
	int h = 0, w = 0;
	CHECK(m.bin_len > 8 && !memcmp(m.bin, "\x89PNG", 4));
	CHECK(!wasd_image_decode(m.bin, m.bin_len, 3, 0, 0, &wasd_prepare_default, &chw, &h, &w, NULL, NULL));
	if (chw && d)
		CHECK(h == 10 && w == 12 && !memcmp(chw, wasd_dataset_image(d, WASD_TRAIN, 1), 360));
	wasd_free(chw);
	wasd_frame_done(&m);

	send_text(&e, "{\"type\":\"preview\",\"path\":\"%s\",\"split\":\"test\",\"index\":1}", sample_path("pets.wds"));
	expect(&e, "error", &m);
	CHECK_STR(string(&m, "status"), "enotfound");
	wasd_frame_done(&m);
	send_text(&e, "{\"type\":\"preview\",\"path\":\"%s\",\"split\":\"test\",\"index\":0}", sample_path("set.zip"));
	expect(&e, "error", &m);
	CHECK_STR(string(&m, "status"), "ecorrupt");
	wasd_frame_done(&m);
	wasd_dataset_close(d);
	CHECK_INT(engine_end(&e), 0);
	CHECK_INT(files_in(samples_dir), 2);
	unlink(sample_path("set.zip"));
	unlink(sample_path("pets.wds"));
}

/* A preview of a large picture is reduced to fit one frame. */
static void large_preview(void)
{
	struct engine e = hello();
	struct wasd_frame m;
	struct wasd_dataset_writer *w;
	enum { H = 700, W = 1400 };
	uint8_t *p = malloc(3 * H * W), *chw = NULL;
	struct wasd_rng r;
	wasd_rng_init(&r, 1, "noise", 0, 0);
	for (int i = 0; i < 3 * H * W; i++)
		p[i] = (uint8_t)wasd_rng_u64(&r);
	CHECK(!wasd_dataset_writer_create(sample_path("big.wds"), (struct wasd_shape){3, H, W}, (const char *[]){"a"}, 1,
	                                  "test", &w, NULL));
	CHECK(!wasd_dataset_writer_add(w, WASD_TRAIN, p, 0, NULL) && !wasd_dataset_writer_add(w, WASD_TEST, p, 0, NULL));
	CHECK(!wasd_dataset_writer_finish(w, NULL));
	wasd_dataset_writer_abort(w);
	free(p);
	send_text(&e, "{\"type\":\"preview\",\"path\":\"%s\",\"split\":\"test\",\"index\":0}", sample_path("big.wds"));
	expect(&e, "previewed", &m);
	int h = 0, wd = 0;
	CHECK(!wasd_image_decode(m.bin, m.bin_len, 3, 0, 0, &wasd_prepare_default, &chw, &h, &wd, NULL, NULL));
	CHECK_INT(h, 256);
	CHECK_INT(wd, 512);
	wasd_free(chw);
	wasd_frame_done(&m);
	CHECK_INT(engine_end(&e), 0);
	unlink(sample_path("big.wds"));
}

static void refused(void)
{
	struct engine e = hello();
	struct wasd_frame m;
	struct packer p = pack_open(sample_path("bad.tar"), TAR);
	pack_file(p, "train/a/../../evil.png", "x", 1);
	pack_close(p);
	send_text(
		&e,
		"{\"type\":\"ingest\",\"name\":\"x\",\"files\":[{\"path\":\"%s\",\"name\":\"bad.tar\"}],\"out\":\"%s\",\"options\":{},\"limits\":{}}",
		sample_path("bad.tar"), sample_path("x.wds"));
	expect(&e, "failed", &m);
	CHECK_STR(string(&m, "status"), "einval");
	CHECK_STR(string(&m, "pointer"), "train/a/../../evil.png");
	CHECK(strstr(string(&m, "message"), "\"..\""));
	wasd_frame_done(&m);
	/* The process continues. */
	send_text(&e, "{\"type\":\"synthetic\",\"kind\":\"glyphs\",\"train\":20,\"test\":5,\"seed\":3,\"out\":\"%s\"}",
	          sample_path("x.wds"));
	expect(&e, "done", &m);
	CHECK_STR(string(&m, "format"), "glyphs");
	CHECK_INT(number(&m, "re"), 2);
	wasd_frame_done(&m);
	send_text(&e, "{\"type\":\"synthetic\",\"kind\":\"cubes\",\"train\":20,\"test\":5,\"seed\":3,\"out\":\"%s\"}",
	          sample_path("y.wds"));
	expect(&e, "failed", &m);
	CHECK_STR(string(&m, "pointer"), "/synthetic/kind");
	wasd_frame_done(&m);
	CHECK_INT(engine_end(&e), 0);
	CHECK_INT(files_in(samples_dir), 2);
	unlink(sample_path("bad.tar"));
	unlink(sample_path("x.wds"));
}

/* Far more work than the test waits for: the process is cancelled, abandoned, or killed. Nothing is left behind in any
 * case. */
static void ends_early(void)
{
	for (int how = 0; how < 3; how++) {
		struct engine e = hello();
		struct wasd_frame m = {.fd = -1};
		progress_seen = 0;
		send_text(&e,
		          "{\"type\":\"synthetic\",\"kind\":\"glyphs\",\"train\":2000000,\"test\":5,\"seed\":3,\"out\":\"%s\"}",
		          sample_path("big.wds"));
		for (bool working = false; !working;) {
			CHECK(!wasd_wire_recv(e.wire, 60000, &m, NULL));
			working = m.type && !strcmp(m.type, "progress");
			wasd_frame_done(&m);
		}
		int64_t t0 = wasd_mono_us();
		if (how == 0) {
			send_text(&e, "{\"type\":\"cancel\"}");
			expect(&e, "failed", &m);
			CHECK_STR(string(&m, "status"), "ecancelled");
			wasd_frame_done(&m);
			CHECK(!next(&e, &m)); /* and the process ends without being killed */
		} else if (how == 2)
			kill(e.pid, SIGKILL);
		int rc = engine_end(&e);
		CHECK_INT(rc, how == 2 ? 1000 + SIGKILL : 0);
		CHECK_MSG(wasd_mono_us() - t0 < 60000000, "it took %lld us", (long long)(wasd_mono_us() - t0));
		CHECK_INT(files_in(samples_dir), 0);
	}
}

/* The process cannot reach other programs or the network. */
static void confined(void)
{
#ifdef WASD_SANITIZED
	TEST_SKIP("not under a sanitizer, whose leak checker has to trace");
#else
	struct engine e = hello();
	struct wasd_frame m;
	char path[64], *text = NULL;
	size_t n;
	send_text(&e, "{\"type\":\"preview\",\"path\":\"/nonexistent\",\"split\":\"test\",\"index\":0}");
	expect(&e, "error", &m); /* so it has finished starting up */
	wasd_frame_done(&m);
	snprintf(path, sizeof path, "/proc/%d/status", e.pid);
	FILE *f = fopen(path, "r");
	text = calloc(1, 8192);
	n = f ? fread(text, 1, 8191, f) : 0;
	CHECK(n && strstr(text, "NoNewPrivs:\t1") && strstr(text, "Seccomp:\t2"));
	free(text);
	if (f)
		fclose(f);
	CHECK_INT(engine_end(&e), 0);
#endif
}

/* Progress is reported, but at most five times per second. */
static void progress_is_rationed(void)
{
	struct engine e = hello();
	struct wasd_frame m;
	progress_seen = 0;
	int64_t t0 = wasd_mono_us();
	send_text(&e, "{\"type\":\"synthetic\",\"kind\":\"glyphs\",\"train\":3000,\"test\":5,\"seed\":3,\"out\":\"%s\"}",
	          sample_path("p.wds"));
	expect(&e, "done", &m);
	wasd_frame_done(&m);
	double seconds = (double)(wasd_mono_us() - t0) / 1e6;
	CHECK_MSG(progress_seen >= 1 && progress_seen <= 5 * seconds + 1, "%d in %.2f s", progress_seen, seconds);
	CHECK_INT(engine_end(&e), 0);
	unlink(sample_path("p.wds"));
}

static void protocol_errors(void)
{
	static const char *const rows[] = {
		"{\"type\":\"dance\"}",
		"{\"type\":\"ingest\"}",
		"{\"type\":\"ingest\",\"name\":\"x\",\"out\":\"/x\",\"limits\":{},\"options\":{},\"files\":[]}",
		"{\"type\":\"ingest\",\"name\":\"x\",\"out\":\"/x\",\"limits\":{},\"options\":{},\"files\":[{\"path\":1,\"name\":\"\"}]}",
		"{\"type\":\"ingest\",\"name\":\"x\",\"out\":\"/x\",\"limits\":{},\"files\":[{\"path\":\"/y\",\"name\":\"\"}],\"options\":{\"size\":-1}}",
		"{\"type\":\"synthetic\",\"kind\":\"glyphs\",\"train\":1.5,\"out\":\"/x\"}",
		"{\"type\":\"preview\",\"path\":\"/x\",\"split\":\"both\",\"index\":0}",
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct engine e = hello();
		struct wasd_frame m;
		CHECK(!wasd_wire_send_take(e.wire, cJSON_Parse(rows[i]), NULL));
		CHECK(!next(&e, &m));
		int rc = engine_end(&e);
		CHECK_MSG(rc == WASD_ENGINE_EXIT_PROTOCOL, "%s: %d", rows[i], rc);
	}
	struct engine e = hello();
	CHECK(write(wasd_wire_fd(e.wire), "this is not a frame of ours at all", 34) == 34);
	struct wasd_frame m;
	CHECK(!next(&e, &m));
	CHECK_INT(engine_end(&e), WASD_ENGINE_EXIT_PROTOCOL);
}

int main(int argc, char **argv)
{
	/* build/tests/core/ingest_process -> build/wasd-engine */
	(void)argc;
	snprintf(engine_path, sizeof engine_path, "%s", argv[0]);
	for (int i = 0; i < 3; i++) {
		char *slash = strrchr(engine_path, '/');
		if (slash)
			*slash = 0;
	}
	strncat(engine_path, "/wasd-engine", sizeof engine_path - strlen(engine_path) - 1);
	if (access(engine_path, X_OK)) {
		printf("skip ingest_process: no %s\n", engine_path);
		return 0;
	}
	samples_begin();
	TEST_RUN(upload_and_preview);
	TEST_RUN(large_preview);
	TEST_RUN(refused);
	TEST_RUN(ends_early);
	TEST_RUN(confined);
	TEST_RUN(progress_is_rationed);
	TEST_RUN(protocol_errors);
	samples_end();
	TEST_END();
}
