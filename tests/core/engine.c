/* The engine's programs, driven as the daemon does: over a socket pair on descriptor 3. */
#include "tiny.h"

#include "wasd/infer.h"
#include "wasd/model.h"
#include "wasd/protocol.h"
#include "wasd/wire.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

static char engine[256];
static struct wasd_dataset *data;
static char data_path[96];

struct proc {
	pid_t pid;
	struct wasd_wire *wire;
};

static struct proc start(const char *command)
{
	struct proc p = {0};
	int fd[2];
	CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd));
	p.pid = fork();
	if (p.pid == 0) {
		if (fd[1] == WASD_WIRE_FD) {
			fd[1] = dup(fd[1]);
		}
		dup2(fd[1], WASD_WIRE_FD);
		execl(engine, engine, command, (char *)NULL);
		_exit(127);
	}
	close(fd[1]);
	CHECK(!wasd_wire_create(fd[0], &p.wire, NULL));
	return p;
}

/* Exit status, or 1000 + signal. Kills a process that has not ended after a minute. */
static int finish(struct proc *p)
{
	int status = 0;
	wasd_wire_destroy(p->wire);
	p->wire = NULL;
	for (int i = 0; i < 6000 && !waitpid(p->pid, &status, WNOHANG); i++) {
		if (i == 5999) {
			kill(p->pid, SIGKILL);
			waitpid(p->pid, &status, 0);
			break;
		}
		usleep(10000); /* the process cannot notify us; the wait is bounded and used only in this test */
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static uint32_t say(struct proc *p, const char *json, const void *bin, size_t n, int fd)
{
	cJSON *j = cJSON_Parse(json);
	uint32_t seq = 0;
	CHECK_MSG(j, "bad JSON in the test: %s", json);
	wasd_wire_send(p->wire, j, bin, n, fd, &seq, NULL);
	cJSON_Delete(j);
	return seq;
}

/* Returns the next message other than a heartbeat, a log line or (want NULL) progress. m.json is NULL at the end of the
 * stream. */
static struct wasd_frame hear(struct proc *p, const char *want)
{
	for (;;) {
		struct wasd_frame m = {.fd = -1};
		struct wasd_err err = {0};
		enum wasd_status s = wasd_wire_recv(p->wire, 30000, &m, &err);
		if (s) {
			CHECK_MSG(s == WASD_ENOTFOUND, "while waiting for %s: %s", want ? want : "a message", err.msg);
			return (struct wasd_frame){.fd = -1, .type = ""};
		}
		bool noise = !strcmp(m.type, "heartbeat") || !strcmp(m.type, "log") || !strcmp(m.type, "progress") ||
		             !strcmp(m.type, "losses");
		if (want ? !strcmp(m.type, want) : !noise)
			return m;
		CHECK_MSG(noise, "%s came while waiting for %s", m.type, want);
		wasd_frame_done(&m);
	}
}

static double num(const struct wasd_frame *m, const char *key)
{
	double v = NAN;
	wasd_json_num(m->json, key, &v);
	return v;
}

static const char *str(const struct wasd_frame *m, const char *key)
{
	const char *v = "(absent)";
	wasd_json_str(m->json, key, &v);
	return v;
}

static void ack(struct proc *p, const struct wasd_frame *m)
{
	char text[64];
	snprintf(text, sizeof text, "{\"type\":\"ack\",\"seq\":%u}", m->seq);
	say(p, text, NULL, 0, -1);
}

/* ---- training -------------------------------------------------------------------------------------------- */

#define LENET \
	"{\"model\":{\"arch\":\"lenet\"},\"train\":{\"epochs\":3,\"batch\":20,\"optimizer\":{\"type\":\"adamw\",\"lr\":0.002}}}"

static void send_start(struct proc *p, const char *spec, const char *path, const void *file, size_t len)
{
	char text[2048], sha[WASD_SHA256_HEX];
	int fd = -1,
		n = snprintf(
			text, sizeof text,
			"{\"type\":\"start\",\"job\":\"job_1\",\"attempt\":1,\"spec\":%s,\"dataset\":\"%s\",\"threads\":2,\"nice\":1",
			spec, path);
	if (file) {
		wasd_sha256_of(file, len, sha);
		CHECK(!wasd_memfd_sealed("resume", file, len, &fd, NULL));
		n += snprintf(text + n, sizeof text - (size_t)n,
		              ",\"bytes\":%zu,\"sha256\":\"%s\",\"resume\":{\"epoch\":1,\"step\":1}", len, sha);
	}
	snprintf(text + n, sizeof text - (size_t)n, "}");
	say(p, text, NULL, 0, fd);
	if (fd >= 0)
		close(fd);
}

struct told { /* what one attempt reported */
	int metrics, checkpoints;
	double loss[8];
	char *file;
	size_t len; /* last checkpoint */
	char reason[16], end[24], message[256], pointer[64], status[24];
	bool order;       /* metrics of an epoch came before its checkpoint */
	int64_t step;     /* of the last loss */
	char phases[160]; /* the phases reported, each once */
};

static void keep_checkpoint(struct told *t, const struct wasd_frame *m)
{
	const void *p = NULL;
	char sha[WASD_SHA256_HEX];
	size_t len = (size_t)num(m, "bytes");
	CHECK(!wasd_memfd_map(m->fd, len, &p, NULL));
	wasd_sha256_of(p, len, sha);
	CHECK_STR(sha, str(m, "sha256"));
	wasd_free(t->file);
	t->file = wasd_malloc(len);
	memcpy(t->file, p, len);
	t->len = len;
	t->checkpoints++;
	snprintf(t->reason, sizeof t->reason, "%s", str(m, "reason"));
	const cJSON *info = wasd_json_get(m->json, "info");
	const char *arch = "";
	CHECK(wasd_json_str(info, "arch", &arch) && !strcmp(arch, "lenet"));
	CHECK(cJSON_GetArraySize(wasd_json_get(info, "classes")) == 10 &&
	      wasd_json_get(wasd_json_get(info, "macs"), "aom"));
	wasd_memfd_unmap(p, len);
}

/* With so few steps each step has a point, in order and without a gap. */
static void take_losses(struct told *t, const cJSON *points)
{
	const cJSON *p;
	cJSON_ArrayForEach(p, points) {
		int64_t step = (int64_t)cJSON_GetArrayItem(p, 0)->valuedouble;
		CHECK_MSG(!t->step || step == t->step + 1, "step %lld after %lld", (long long)step, (long long)t->step);
		CHECK(cJSON_GetArrayItem(p, 2)->valuedouble > 0);
		t->step = step;
	}
}

/* Listens until done or failed; cancels after the first message of type cancel_at (NULL: never). */
static struct told attend(struct proc *p, const char *cancel_at)
{
	struct told t = {.order = true};
	for (bool end = false; !end;) {
		struct wasd_frame m = {.fd = -1};
		struct wasd_err err = {0};
		if (wasd_wire_recv(p->wire, 60000, &m, &err)) {
			snprintf(t.end, sizeof t.end, "gone");
			snprintf(t.message, sizeof t.message, "%s", err.msg);
			return t;
		}
		if (cancel_at && !strcmp(m.type, cancel_at)) {
			say(p, "{\"type\":\"cancel\"}", NULL, 0, -1);
			cancel_at = NULL;
		}
		if (!strcmp(m.type, "losses")) {
			take_losses(&t, wasd_json_get(m.json, "points"));
		} else if (!strcmp(m.type, "progress")) {
			if (!strstr(t.phases, str(&m, "phase")))
				snprintf(t.phases + strlen(t.phases), sizeof t.phases - strlen(t.phases), "%s, ", str(&m, "phase"));
		} else if (!strcmp(m.type, "metrics")) {
			CHECK(t.step > 0);
			int e = (int)num(&m, "epoch");
			CHECK(e >= 1 && e < 8);
			wasd_json_num(wasd_json_get(m.json, "values"), "train_loss", &t.loss[e]);
			t.metrics++;
			ack(p, &m);
		} else if (!strcmp(m.type, "checkpoint")) {
			keep_checkpoint(&t, &m);
			t.order &= !strcmp(t.reason, "cancel") || t.loss[(int)num(&m, "epoch")] > 0;
			ack(p, &m);
		} else if (!strcmp(m.type, "done") || !strcmp(m.type, "failed")) {
			snprintf(t.end, sizeof t.end, "%s %s", m.type, str(&m, "reason"));
			snprintf(t.message, sizeof t.message, "%s", str(&m, "message"));
			snprintf(t.status, sizeof t.status, "%s", str(&m, "status"));
			snprintf(t.pointer, sizeof t.pointer, "%s", str(&m, "pointer"));
			end = true;
		}
		wasd_frame_done(&m);
	}
	return t;
}

static struct told whole(const char *spec, const char *path, const char *cancel_at, const void *file, size_t len)
{
	struct proc p = start("train");
	struct wasd_frame m = hear(&p, "hello");
	CHECK_STR(str(&m, "role"), "train");
	CHECK_INT(num(&m, "pid"), p.pid);
	CHECK(cJSON_IsObject(wasd_json_get(m.json, "fingerprint")));
	wasd_frame_done(&m);
	send_start(&p, spec, path, file, len);
	struct told t = attend(&p, cancel_at);
	CHECK_INT(finish(&p), 0);
	return t;
}

static void trains_and_resumes(void)
{
	struct told straight = whole(LENET, data_path, NULL, NULL, 0);
	CHECK_STR(straight.end, "done done");
	CHECK_STR(straight.reason, "final");
	CHECK_INT(straight.metrics, 3);
	CHECK_INT(straight.checkpoints, 3);
	CHECK(straight.order);
	CHECK_STR(straight.phases, "loading data, measuring algorithms, training, evaluating, saving, ");
	CHECK_MSG(straight.step > 3 && straight.step % 3 == 0, "%lld steps were told of", (long long)straight.step);
	struct told cut = whole(LENET, data_path, "losses", NULL, 0);
	CHECK_STR(cut.end, "done cancelled");
	CHECK_STR(cut.reason, "cancel");
	struct told rest = whole(LENET, data_path, NULL, cut.file, cut.len);
	CHECK_STR(rest.end, "done done");
	CHECK_MSG(rest.loss[3] == straight.loss[3] && rest.loss[3] > 0, "loss %.17g, uncut %.17g", rest.loss[3],
	          straight.loss[3]);
	CHECK_INT(rest.step, straight.step);
	wasd_free(straight.file);
	wasd_free(cut.file);
	wasd_free(rest.file);
}

static void says_why_it_failed(void)
{
	static const struct {
		const char *spec, *path, *end, *status, *word;
	} cases[] = {
		{LENET, "/nonexistent.wds", "failed bad_data", "eio", "nonexistent"},
		{"{\"model\":{\"arch\":\"lenet\"},\"train\":{\"epochs\":1,\"batch\":20,\"optimizer\":{\"type\":\"sgd\",\"lr\":1000}}}",
	     NULL, "failed nan_loss", "enumeric", "loss"},
		{"{\"model\":{\"arch\":\"lenet\"},\"train\":{\"epochs\":1,\"batch\":0}}", NULL, "failed error", "einval",
	     "batch"},
		{"{\"model\":{\"arch\":\"vgg16\"},\"limits\":{\"memory_mb\":300}}", NULL, "failed oom", "enomem", ""},
		{"{\"model\":{\"arch\":\"transformer\"}}", NULL, "failed error", "einval", "transformer"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct told t = whole(cases[i].spec, cases[i].path ? cases[i].path : data_path, NULL, NULL, 0);
		CHECK_MSG(!strcmp(t.end, cases[i].end), "case %zu: %s: %s", i, t.end, t.message);
		CHECK_MSG(cases[i].path || !strcmp(t.status, cases[i].status), "case %zu: status %s", i, t.status);
		CHECK_MSG(strstr(t.message, cases[i].word), "case %zu: message %s", i, t.message);
		wasd_free(t.file);
	}
	struct told t = whole(LENET, data_path, NULL, "not a checkpoint at all", 23);
	CHECK_STR(t.end, "failed error");
	CHECK_STR(t.status, "ecorrupt");
}

#ifdef WASD_ONEDNN
/* oneDNN is told that there are no bf16 instructions, as on an older processor. */
static void refuses_what_the_processor_cannot(void)
{
	static const char spec[] =
		"{\"model\":{\"arch\":\"lenet\"},\"train\":{\"epochs\":1,\"batch\":20,\"precision\":\"bf16\"}}";
	setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE", 1);
	struct told t = whole(spec, data_path, NULL, NULL, 0);
	unsetenv("ONEDNN_MAX_CPU_ISA");
	CHECK_STR(t.end, "failed error");
	CHECK_STR(t.status, "eunsupported");
	CHECK_STR(t.pointer, "/train/precision");
	CHECK_MSG(strstr(t.message, "bf16") && strstr(t.message, "processor"), "%s", t.message);
	wasd_free(t.file);
}
#endif

static void ends_when_the_stream_ends(void)
{
	struct proc p = start("train");
	struct wasd_frame m = hear(&p, "hello");
	wasd_frame_done(&m);
	send_start(&p, "{\"model\":{\"arch\":\"lenet\"},\"train\":{\"epochs\":10000,\"batch\":20}}", data_path, NULL, 0);
	m = hear(&p, "started");
	CHECK_INT(num(&m, "params"), 62006);
	CHECK_INT(num(&m, "epochs"), 10000);
	CHECK_INT(num(&m, "epoch"), 1);
	wasd_frame_done(&m);
	CHECK_INT(finish(&p), 0);
}

static void refuses_a_broken_protocol(void)
{
	static const struct {
		const char *command, *json;
	} cases[] = {
		{"train", "{\"type\":\"load\"}"},
		{"train", "{\"type\":\"start\",\"job\":\"x\",\"attempt\":1}"},
		{"train", "{\"type\":\"start\",\"spec\":{},\"dataset\":\"/x\",\"threads\":100000}"},
		{"train", "{\"type\":\"ack\"}"},
		{"infer", "{\"type\":\"start\"}"},
		{"infer", "{\"type\":\"load\"}"},
		{"infer", "{\"type\":\"profile\",\"bundle\":\"x\",\"mode\":\"\",\"bytes\":1,\"profile_bytes\":1}"},
		{"infer",
	     "{\"type\":\"profile\",\"bundle\":\"x\",\"mode\":\"dom:y\",\"bytes\":1,\"profile_bytes\":9223372036854775807}"},
		{"profile", "{\"type\":\"load\"}"},
		{"profile", "{\"type\":\"make\",\"dataset\":\"/x\",\"sha256\":\"\",\"bytes\":9}"},
		{"convert",
	     "{\"type\":\"export\",\"format\":\"onnx\",\"mode\":\"dom:x\",\"bytes\":9,\"sha256\":\"\",\"out\":\"/x\"}"},
		{"infer", "{\"type\":\"classify\",\"bundle\":\"x\",\"mode\":\"som\",\"sizes\":[]}"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct proc p = start(cases[i].command);
		struct wasd_frame m = hear(&p, "hello");
		wasd_frame_done(&m);
		say(&p, cases[i].json, NULL, 0, -1);
		m = hear(&p, NULL);
		CHECK_MSG(!m.json, "case %zu: answered %s", i, m.type);
		wasd_frame_done(&m);
		CHECK_INT(finish(&p), WASD_ENGINE_EXIT_PROTOCOL);
	}
	struct proc p = start("infer");
	struct wasd_frame m = hear(&p, "hello");
	wasd_frame_done(&m);
	CHECK(write(wasd_wire_fd(p.wire), "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27) == 27);
	m = hear(&p, NULL);
	wasd_frame_done(&m);
	CHECK_INT(finish(&p), WASD_ENGINE_EXIT_PROTOCOL);
}

/* ---- inference ------------------------------------------------------------------------------------------------ */

static void load(struct proc *p, const struct tiny_run *r, const char *id)
{
	char text[256], sha[WASD_SHA256_HEX];
	int fd;
	wasd_sha256_of(r->file, r->len, sha);
	CHECK(!wasd_memfd_sealed("bundle", r->file, r->len, &fd, NULL));
	snprintf(text, sizeof text, "{\"type\":\"load\",\"bundle\":\"%s\",\"bytes\":%zu,\"sha256\":\"%s\",\"threads\":2}",
	         id, r->len, sha);
	uint32_t seq = say(p, text, NULL, 0, fd);
	close(fd);
	struct wasd_frame m = hear(p, "loaded");
	CHECK_INT(num(&m, "re"), seq);
	CHECK_STR(str(&m, "bundle"), id);
	CHECK_INT(cJSON_GetArraySize(wasd_json_get(m.json, "classes")), 10);
	wasd_frame_done(&m);
}

static void expect_error(struct proc *p, uint32_t re, const char *code, const char *pointer)
{
	struct wasd_frame m = hear(p, "error");
	CHECK_INT(num(&m, "re"), re);
	CHECK_STR(str(&m, "code"), code);
	CHECK_STR(str(&m, "pointer"), pointer);
	wasd_frame_done(&m);
}

enum { IMAGE = 3 * 32 * 32, CLIENTS = 60 };

static void infers(void)
{
	struct tiny_run r = {0};
	struct wasd_frame m;
	static float x[CLIENTS][IMAGE];
	static float alone[CLIENTS][10];
	char text[256];
	tiny_go(&r, LENET, data);
	CHECK_MSG(!r.status, "%s", r.err.msg);
	struct proc p = start("infer");
	m = hear(&p, "hello");
	CHECK_STR(str(&m, "role"), "infer");
	wasd_frame_done(&m);
	load(&p, &r, "ck_1");
	load(&p, &r, "ck_1"); /* again: the same bundle */
	for (int i = 0; i < CLIENTS; i++) {
		const uint8_t *px = wasd_dataset_image(data, WASD_TRAIN, (size_t)i);
		for (int k = 0; k < IMAGE; k++)
			x[i][k] = (float)((px[k] / 255.0 - 0.5) / 0.5);
		say(&p, "{\"type\":\"infer\",\"bundle\":\"ck_1\",\"mode\":\"aom\",\"n\":1}", x[i], sizeof x[i], -1);
		m = hear(&p, "inferred");
		CHECK_INT(m.bin_len, sizeof alone[i]);
		if (m.bin_len == sizeof alone[i])
			memcpy(alone[i], m.bin, m.bin_len);
		CHECK(num(&m, "macs") > 0 && wasd_json_get(wasd_json_get(m.json, "timing_us"), "compute"));
		wasd_frame_done(&m);
	}
	/* All requests are sent before any answer is read: the bits equal those of requests sent one by one. */
	uint32_t seq[CLIENTS];
	int differ = 0;
	for (int i = 0; i < CLIENTS; i++)
		seq[i] = say(&p, "{\"type\":\"infer\",\"bundle\":\"ck_1\",\"mode\":\"aom\",\"n\":1}", x[i], sizeof x[i], -1);
	for (int i = 0; i < CLIENTS; i++) {
		m = hear(&p, "inferred");
		CHECK_INT(num(&m, "re"), seq[i]);
		differ += m.bin_len != sizeof alone[i] || memcmp(m.bin, alone[i], sizeof alone[i]) != 0;
		wasd_frame_done(&m);
	}
	CHECK_MSG(!differ, "%d of %d requests answered otherwise in company", differ, CLIENTS);

	/* Encoded images: first two at once, then one with logits, which equal those of the pixels. */
	void *png[2];
	size_t len[2];
	char both[1 << 16];
	for (int i = 0; i < 2; i++) {
		CHECK(!wasd_image_png(wasd_dataset_image(data, WASD_TRAIN, (size_t)i), wasd_dataset_shape(data), &png[i],
		                      &len[i], NULL));
		memcpy(both + (i ? len[0] : 0), png[i], len[i]);
	}
	snprintf(text, sizeof text,
	         "{\"type\":\"classify\",\"bundle\":\"ck_1\",\"mode\":\"aom\",\"k\":3,\"sizes\":[%zu,%zu]}", len[0],
	         len[1]);
	say(&p, text, both, len[0] + len[1], -1);
	m = hear(&p, "classified");
	const cJSON *results = wasd_json_get(m.json, "results"),
				*top = wasd_json_get(cJSON_GetArrayItem(results, 1), "top");
	CHECK_INT(cJSON_GetArraySize(results), 2);
	CHECK_INT(cJSON_GetArraySize(top), 3);
	double p0 = 0, p1 = 0, index = -1;
	wasd_json_num(cJSON_GetArrayItem(top, 0), "p", &p0);
	wasd_json_num(cJSON_GetArrayItem(top, 1), "p", &p1);
	wasd_json_num(cJSON_GetArrayItem(top, 0), "index", &index);
	CHECK(p0 >= p1 && p1 > 0 && p0 <= 1 && index >= 0);
	for (int c = 0; c < 10; c++) /* computed as a pair: close to the logits computed alone, but not equal */
		CHECK(alone[1][c] <= alone[1][(int)index] + 1e-3f);
	wasd_frame_done(&m);
	snprintf(text, sizeof text, "{\"type\":\"logits\",\"bundle\":\"ck_1\",\"mode\":\"aom\",\"sizes\":[%zu]}", len[0]);
	say(&p, text, png[0], len[0], -1);
	m = hear(&p, "inferred");
	CHECK(m.bin_len == 40 && !memcmp(m.bin, alone[0], 40));
	wasd_frame_done(&m);

	/* Faulty requests get an error, and the process continues. */
	snprintf(text, sizeof text,
	         "{\"type\":\"classify\",\"bundle\":\"ck_1\",\"mode\":\"aom\",\"k\":1,\"sizes\":[%zu,5]}", len[0]);
	memcpy(both + len[0], "GIF89", 5);
	expect_error(&p, say(&p, text, both, len[0] + 5, -1), "bad_image", "/images/1");
	expect_error(&p,
	             say(&p, "{\"type\":\"infer\",\"bundle\":\"ck_9\",\"mode\":\"aom\",\"n\":1}", x[0], sizeof x[0], -1),
	             "bundle_not_ready", "");
	expect_error(&p,
	             say(&p, "{\"type\":\"infer\",\"bundle\":\"ck_1\",\"mode\":\"dom\",\"n\":1}", x[0], sizeof x[0], -1),
	             "bundle_not_ready", "");
	expect_error(&p,
	             say(&p, "{\"type\":\"infer\",\"bundle\":\"ck_1\",\"mode\":\"aom\",\"n\":2}", x[0], sizeof x[0], -1),
	             "bad_tensor", "/inputs/0/data");
	x[0][7] = NAN;
	expect_error(&p,
	             say(&p, "{\"type\":\"infer\",\"bundle\":\"ck_1\",\"mode\":\"aom\",\"n\":1}", x[0], sizeof x[0], -1),
	             "bad_tensor", "/inputs/0/data");
	say(&p, "{\"type\":\"unload\",\"bundle\":\"ck_1\"}", NULL, 0, -1);
	m = hear(&p, "unloaded");
	wasd_frame_done(&m);
	expect_error(&p,
	             say(&p, "{\"type\":\"infer\",\"bundle\":\"ck_1\",\"mode\":\"aom\",\"n\":1}", x[1], sizeof x[1], -1),
	             "bundle_not_ready", "");
	CHECK_INT(finish(&p), 0);
	wasd_free(png[0]);
	wasd_free(png[1]);
	tiny_done(&r);
}

/* ---- several crops of a picture ---- */

/* Linear logits: few are zero. */
#define CLASSIC \
	"{\"model\":{\"arch\":\"lenet\",\"published\":false},\"train\":{\"epochs\":1,\"batch\":20,\"optimizer\":{\"type\":\"adamw\",\"lr\":0.002}}}"

enum { SIDE = 32, LONG = 80, PICTURES = 4, ROWS = 8 };

struct picture {
	struct wasd_shape shape;
	uint8_t px[3 * SIDE * LONG];
	int first, rows; /* its crops in the tensor of all */
	void *png;
	size_t len;
};

/* Loads the file as if its training images had been prepared in that way. */
static void load_with_fit(struct proc *p, const struct tiny_run *r, const char *fit)
{
	static const char old[] = "\\\"fit\\\":\\\"squeeze\\\"";
	struct tiny_run with = *r;
	char now[sizeof old];
	with.file = malloc(r->len);
	memcpy(with.file, r->file, r->len);
	char *at = memmem(with.file, r->len, old, sizeof old - 1);
	CHECK(at);
	snprintf(now, sizeof now, "\\\"fit\\\":\\\"%s\\\"%*s", fit, (int)(strlen("squeeze") - strlen(fit)), "");
	memcpy(at, now, sizeof old - 1);
	load(p, &with, fit);
	free(with.file);
}

/* Glyphs: one, several in a row, another one, several in a column; and as rows the parts that the network is to see.
 * The shorter side is that of the network's input, so nothing is resampled. */
static void make_pictures(struct picture pic[PICTURES], float x[ROWS][IMAGE])
{
	static const struct wasd_shape shape[PICTURES] = {{3, SIDE, SIDE},
	                                                  {3, SIDE, LONG},
	                                                  {3, SIDE, SIDE},
	                                                  {3, LONG, SIDE}};
	int row = 0;
	for (int i = 0; i < PICTURES; i++) {
		struct wasd_shape s = shape[i];
		pic[i] = (struct picture){.shape = s, .first = row, .rows = s.h == s.w ? 1 : 3};
		for (int k = 0; k < 3 * s.h * s.w; k++) {
			int c = k / (s.h * s.w), y = k / s.w % s.h, v = k % s.w;
			const uint8_t *glyph = wasd_dataset_image(data, WASD_TRAIN, (size_t)(4 * i + y / SIDE + v / SIDE));
			pic[i].px[k] = glyph[(c * SIDE + y % SIDE) * SIDE + v % SIDE];
		}
		CHECK(!wasd_image_png(pic[i].px, s, &pic[i].png, &pic[i].len, NULL));
		for (int crop = 0; crop < pic[i].rows; crop++, row++)
			for (int k = 0; k < IMAGE; k++) {
				int c = k / (SIDE * SIDE), y = k / SIDE % SIDE + (s.h - SIDE) * crop / 2,
					v = k % SIDE + (s.w - SIDE) * crop / 2;
				x[row][k] = (float)((pic[i].px[(c * s.h + y) * s.w + v] / 255.0 - 0.5) / 0.5);
			}
	}
	CHECK_INT(row, ROWS);
}

/* Asks for the logits of those pictures; *crops: the answer's member as text, "" if it has none. */
static void ask_logits(struct proc *p, const char *fit, const struct picture *pic, const int *which, int n, float *out,
                       char crops[256])
{
	struct wasd_buf bytes = {0};
	cJSON *sizes = cJSON_CreateArray(), *j;
	for (int i = 0; i < n; i++) {
		wasd_buf_append(&bytes, pic[which[i]].png, pic[which[i]].len);
		cJSON_AddItemToArray(sizes, cJSON_CreateNumber((double)pic[which[i]].len));
	}
	j = wasd_message("logits", "bundle:s mode:s sizes:j", fit, "aom", sizes);
	CHECK(!wasd_wire_send(p->wire, j, bytes.data, bytes.len, -1, NULL, NULL));
	cJSON_Delete(j);
	wasd_buf_done(&bytes);
	struct wasd_frame m = hear(p, "inferred");
	CHECK_INT(num(&m, "n"), n);
	CHECK_INT(m.bin_len, (size_t)n * 40);
	if (m.bin_len == (size_t)n * 40)
		memcpy(out, m.bin, m.bin_len);
	const cJSON *list = wasd_json_get(m.json, "crops");
	char *text = list ? wasd_json_print(list) : NULL;
	snprintf(crops, 256, "%s", text ? text : "");
	wasd_free(text);
	wasd_frame_done(&m);
}

/* The same by tensors: the mean of the rows' logits. */
static void ask_rows(struct proc *p, const struct picture *pic, const int *which, int n, float x[ROWS][IMAGE],
                     float *out)
{
	static float rows[66][IMAGE];
	char text[128];
	int count = 0;
	for (int i = 0; i < n; i++)
		for (int k = 0; k < pic[which[i]].rows; k++)
			memcpy(rows[count++], x[pic[which[i]].first + k], sizeof *rows);
	snprintf(text, sizeof text, "{\"type\":\"infer\",\"bundle\":\"crops\",\"mode\":\"aom\",\"n\":%d}", count);
	say(p, text, rows, (size_t)count * sizeof *rows, -1);
	struct wasd_frame m = hear(p, "inferred");
	CHECK(!wasd_json_get(m.json, "crops"));
	CHECK_INT(m.bin_len, (size_t)count * 40);
	const float *y = (const float *)(const void *)m.bin;
	for (int i = 0; i < n && y; i++) {
		int k = pic[which[i]].rows;
		for (int c = 0; c < 10; c++)
			out[i * 10 + c] = (float)((k == 1 ? (double)y[c] : (double)y[c] + (double)y[10 + c] + (double)y[20 + c]) /
			                          k);
		y += k * 10;
	}
	wasd_frame_done(&m);
}

static void answers_with_the_mean_of_crops(void)
{
	static struct picture pic[PICTURES];
	static float x[ROWS][IMAGE];
	static const struct {
		const char *what;
		int which[22], n;
		const char *crops;
	} rows[] = {
		{"a square", {0}, 1, ""},
		{"a wide picture", {1}, 1, "[3]"},
		{"a tall picture", {3}, 1, "[3]"},
		{"squares", {2, 0}, 2, ""},
		{"a mixture", {0, 1, 2, 3}, 4, "[1,3,1,3]"},
		{"more crops than one pass computes, a picture's among two passes",
	     {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
	     22,
	     "[3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3]"},
	};
	struct tiny_run r = {0};
	float got[220], want[220], one[10];
	char crops[256], text[128];
	/* The rows' logits come rounded to float32, so their mean is that of the engine only where it computes in it. */
	double within = sizeof(real) == sizeof(float) ? 0 : 1e-6;
	tiny_go(&r, CLASSIC, data);
	CHECK_MSG(!r.status, "%s", r.err.msg);
	struct proc p = start("infer");
	struct wasd_frame m = hear(&p, "hello");
	wasd_frame_done(&m);
	load_with_fit(&p, &r, "crop");
	load_with_fit(&p, &r, "crops");
	make_pictures(pic, x);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		ask_logits(&p, "crops", pic, rows[i].which, rows[i].n, got, crops);
		CHECK_MSG(!strcmp(crops, rows[i].crops), "%s: crops %s", rows[i].what, crops);
		ask_rows(&p, pic, rows[i].which, rows[i].n, x, want);
		for (int k = 0; k < rows[i].n * 10; k++)
			CHECK_MSG(fabs((double)got[k] - (double)want[k]) <= within, "%s: logit %d is %.9g, not %.9g", rows[i].what,
			          k, (double)got[k], (double)want[k]);
	}

	/* The same as a client computes it from three pictures, each asked for alone; and as the list of classes. */
	double mean[10] = {0}, sum = 0;
	for (int k = 0; k < 3; k++) {
		struct picture part = {.shape = {3, SIDE, SIDE}};
		for (int i = 0; i < IMAGE; i++)
			part.px[i] = pic[1].px[i / SIDE * LONG + i % SIDE + (LONG - SIDE) * k / 2];
		CHECK(!wasd_image_png(part.px, part.shape, &part.png, &part.len, NULL));
		ask_logits(&p, "crops", &part, (const int[]){0}, 1, one, crops);
		CHECK_STR(crops, "");
		for (int c = 0; c < 10; c++)
			mean[c] += (double)one[c] / 3;
		wasd_free(part.png);
	}
	ask_logits(&p, "crops", pic, (const int[]){1}, 1, got, crops);
	for (int c = 0; c < 10; c++) {
		CHECK_NEAR(got[c], mean[c], 1e-6);
		sum += exp((double)got[c]);
	}
	snprintf(text, sizeof text,
	         "{\"type\":\"classify\",\"bundle\":\"crops\",\"mode\":\"aom\",\"k\":10,\"sizes\":[%zu]}", pic[1].len);
	say(&p, text, pic[1].png, pic[1].len, -1);
	m = hear(&p, "classified");
	const cJSON *top = wasd_json_get(cJSON_GetArrayItem(wasd_json_get(m.json, "results"), 0), "top"), *t;
	CHECK_INT(cJSON_GetArraySize(top), 10);
	cJSON_ArrayForEach(t, top) {
		double index = 0, share = 0;
		wasd_json_num(t, "index", &index);
		wasd_json_num(t, "p", &share);
		CHECK_NEAR(share, exp((double)got[(int)index]) / sum, 1e-6);
	}
	CHECK_INT(cJSON_GetArraySize(wasd_json_get(m.json, "crops")), 1);
	wasd_frame_done(&m);

	/* A picture that one crop shows but for a column has the bits of "crop", resampled or not; a wide one has not. */
	static const struct {
		int h, w;
		bool same;
	} sizes[] = {{SIDE, SIDE, true}, {SIDE, SIDE + 1, true}, {20, 20, true}, {21, 20, true}, {SIDE, SIDE + 2, false}};
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		struct picture part = pic[1];
		part.shape = (struct wasd_shape){3, sizes[i].h, sizes[i].w};
		CHECK(!wasd_image_png(part.px, part.shape, &part.png, &part.len, NULL));
		ask_logits(&p, "crop", &part, (const int[]){0}, 1, want, crops);
		CHECK_STR(crops, "");
		ask_logits(&p, "crops", &part, (const int[]){0}, 1, got, crops);
		CHECK_MSG(!memcmp(got, want, 40) == sizes[i].same && !*crops == sizes[i].same, "%dx%d: crops \"%s\"",
		          sizes[i].w, sizes[i].h, crops);
		wasd_free(part.png);
	}
	CHECK_INT(finish(&p), 0);
	for (int i = 0; i < PICTURES; i++)
		wasd_free(pic[i].png);
	tiny_done(&r);
}

#define SHIFTED \
	"{\"model\":{\"arch\":\"lenet\"},\"train\":{\"epochs\":1,\"batch\":20},\"was\":{\"transforms\":[{\"type\":\"translate\",\"x\":0.3,\"y\":0.3,\"weight\":1}],\"layers\":\"all\"}}"

/* Sends `text` with %zu, %s and %zu for the checkpoint's size and digest and the overlay's size; both travel in one
 * file. */
static uint32_t say_with_files(struct proc *p, const char *format, const struct tiny_run *r,
                               const struct wasd_frame *overlay)
{
	char text[512], sha[WASD_SHA256_HEX];
	const void *over = NULL;
	size_t n = overlay ? (size_t)num(overlay, "bytes") : 0;
	int fd;
	char *both = malloc(r->len + n);
	memcpy(both, r->file, r->len);
	if (overlay && !wasd_memfd_map(overlay->fd, n, &over, NULL)) {
		memcpy(both + r->len, over, n);
		wasd_memfd_unmap(over, n);
	}
	wasd_sha256_of(r->file, r->len, sha);
	snprintf(text, sizeof text, format, r->len, sha, n);
	CHECK(!wasd_memfd_sealed("files", both, r->len + n, &fd, NULL));
	uint32_t seq = say(p, text, NULL, 0, fd);
	close(fd);
	free(both);
	return seq;
}

static void searches_and_serves_a_profile(void)
{
	struct tiny_run r = {0};
	char request[512], out[128];
	tiny_go(&r, SHIFTED, data);
	CHECK_MSG(!r.status, "%s", r.err.msg);
	struct proc p = start("profile");
	struct wasd_frame m = hear(&p, "hello"), found;
	wasd_frame_done(&m);
	snprintf(request, sizeof request,
	         "{\"type\":\"make\",\"bytes\":%%zu,\"sha256\":\"%%s\",\"dataset\":\"%s\",\"threads\":2,\"nice\":1,"
	         "\"request\":{\"desire\":\"macs\",\"budget\":0.8,\"evaluations\":20}}",
	         data_path);
	say_with_files(&p, request, &r, NULL);
	for (found = hear(&p, NULL); found.type && !strcmp(found.type, "progress"); found = hear(&p, NULL)) {
		CHECK(num(&found, "done") <= 20 && num(&found, "of") == 20);
		wasd_frame_done(&found);
	}
	CHECK_MSG(found.type && !strcmp(found.type, "made") && found.fd >= 0, "%s",
	          found.type ? str(&found, "message") : "");
	CHECK_INT(finish(&p), 0);
	const cJSON *info = wasd_json_get(found.json, "info");
	double share = 9, macs = 0;
	CHECK(info && wasd_json_num(info, "macs_share", &share) && share <= 0.8 && wasd_json_num(info, "macs", &macs));
	/* A profile is served beside the modes of the checkpoint, replaced, and removed. */
	p = start("infer");
	m = hear(&p, "hello");
	wasd_frame_done(&m);
#define PROFILE \
	"{\"type\":\"profile\",\"bundle\":\"ck_1\",\"mode\":\"dom:fast\",\"bytes\":%zu,\"sha256\":\"%s\",\"profile_bytes\":%zu}"
	expect_error(&p, say_with_files(&p, PROFILE, &r, &found), "enotfound", "");
	load(&p, &r, "ck_1");
	static float x[IMAGE];
	static const char infer[] = "{\"type\":\"infer\",\"bundle\":\"ck_1\",\"mode\":\"dom:fast\",\"n\":1}";
	expect_error(&p, say(&p, infer, x, sizeof x, -1), "bundle_not_ready", "");
	for (int twice = 0; twice < 2; twice++) {
		uint32_t seq = say_with_files(&p, PROFILE, &r, &found);
		m = hear(&p, "profiled");
		CHECK(num(&m, "re") == seq && num(&m, "macs") == macs && num(&m, "bytes") > 0);
		CHECK_STR(str(&m, "mode"), "dom:fast");
		wasd_frame_done(&m);
	}
	say(&p, infer, x, sizeof x, -1);
	m = hear(&p, "inferred");
	CHECK(num(&m, "macs") == macs && m.bin_len == 40);
	wasd_frame_done(&m);
	say(&p, "{\"type\":\"unprofile\",\"bundle\":\"ck_1\",\"mode\":\"dom:fast\"}", NULL, 0, -1);
	m = hear(&p, "unprofiled");
	wasd_frame_done(&m);
	expect_error(&p, say(&p, infer, x, sizeof x, -1), "bundle_not_ready", "");
	CHECK_INT(finish(&p), 0);
	/* Exported as the DOM of its checkpoint. */
	p = start("convert");
	m = hear(&p, "hello");
	wasd_frame_done(&m);
	snprintf(out, sizeof out, "%s/fast.onnx", tiny_dir);
	snprintf(
		request, sizeof request,
		"{\"type\":\"export\",\"format\":\"onnx\",\"mode\":\"dom:fast\",\"bytes\":%%zu,\"sha256\":\"%%s\",\"profile_bytes\":%%zu,\"out\":\"%s\"}",
		out);
	say_with_files(&p, request, &r, &found);
	m = hear(&p, "exported");
	CHECK(num(&m, "bytes") > 1000 && !access(out, R_OK));
	wasd_frame_done(&m);
	CHECK_INT(finish(&p), 0);
	wasd_frame_done(&found);
	tiny_done(&r);
}

/* Questions about tables, networks and jobs, in one process. The network has as many layers as one may have. */
static void answers_questions(void)
{
	enum { LAYERS = 1000 };
	struct proc p = start("check");
	struct wasd_frame m = hear(&p, "hello");
	struct wasd_err err = {0};
	wasd_frame_done(&m);
	say(&p, "{\"type\":\"list\"}", NULL, 0, -1);
	m = hear(&p, "listed");
	cJSON *caps = wasd_capabilities();
	CHECK(cJSON_Compare(wasd_json_get(m.json, "tables"), caps, true));
	wasd_frame_done(&m);
	cJSON_Delete(caps);

	cJSON *model = cJSON_CreateObject(), *layers = cJSON_AddArrayToObject(model, "layers"), *network = NULL;
	for (int i = 0; i < LAYERS - 2; i++)
		cJSON_AddItemToArray(layers, wasd_message(NULL, "type:s", "relu"));
	cJSON_AddItemToArray(layers, wasd_message(NULL, "type:s", "flatten"));
	cJSON_AddItemToArray(layers, wasd_message(NULL, "type:s out:s", "linear", "classes"));
	cJSON *q = wasd_message("describe", "model:j input:j classes:i", cJSON_Duplicate(model, true),
	                        cJSON_CreateIntArray((int[]){1, 4, 4}, 3), (int64_t)2);
	CHECK_INT(wasd_wire_send(p.wire, q, NULL, 0, -1, NULL, NULL), WASD_OK);
	cJSON_Delete(q);
	CHECK_MSG(!wasd_network_complete(model, NULL, &err) &&
	              !wasd_network_describe(model, NULL, (struct wasd_shape){1, 4, 4}, 2, &network, &err),
	          "%s", err.msg);
	m = hear(&p, "described");
	CHECK(network && cJSON_Compare(wasd_json_get(m.json, "network"), network, true));
	wasd_frame_done(&m);
	cJSON_Delete(network);
	cJSON_Delete(model);

	uint32_t re = say(&p, "{\"type\":\"describe\",\"model\":{\"arch\":\"nonesuch\"},\"input\":[3,8,8],\"classes\":2}",
	                  NULL, 0, -1);
	expect_error(&p, re, "einval", "/model/arch");
	re = say(&p, "{\"type\":\"describe\",\"model\":{\"arch\":\"lenet\"},\"input\":[3,8,-8],\"classes\":2}", NULL, 0,
	         -1);
	expect_error(&p, re, "einval", "");
	char text[600];
	snprintf(text, sizeof text, "{\"type\":\"check\",\"data\":\"%.*s\",\"dataset\":\"%s\",\"spec\":%s}",
	         (int)(strrchr(data_path, '/') - data_path), data_path, strrchr(data_path, '/') + 1, LENET);
	say(&p, text, NULL, 0, -1);
	m = hear(&p, "checked");
	CHECK(cJSON_IsArray(wasd_json_get(m.json, "warnings")));
	wasd_frame_done(&m);
	re = say(&p, "{\"type\":\"check\",\"data\":\"/\",\"dataset\":\"none.wds\",\"spec\":{}}", NULL, 0, -1);
	expect_error(&p, re, "enotfound", "");
	CHECK_INT(finish(&p), 0);
}

static void keeps_a_heartbeat(void)
{
	struct proc p = start("infer");
	struct wasd_frame m = hear(&p, "hello");
	wasd_frame_done(&m);
	for (int i = 0; i < 2; i++) {
		CHECK(!wasd_wire_recv(p.wire, 60000, &m, NULL));
		CHECK_STR(m.type, "heartbeat");
		wasd_frame_done(&m);
	}
	CHECK_INT(finish(&p), 0);
}

int main(void)
{
	const char *build = getenv("WASD_BUILD");
	snprintf(engine, sizeof engine, "%s/wasd-engine", build ? build : "build");
	signal(SIGPIPE, SIG_IGN);
	if (access(engine, X_OK)) {
		printf("skip engine: %s is not built\n", engine);
		return 0;
	}
	wasd_threads_init(2, NULL);
	tiny_begin();
	data = tiny_glyphs("engine", 200, 40, 32, data_path);
	TEST_RUN(trains_and_resumes);
	TEST_RUN(says_why_it_failed);
#ifdef WASD_ONEDNN
	TEST_RUN(refuses_what_the_processor_cannot);
#endif
	TEST_RUN(ends_when_the_stream_ends);
	TEST_RUN(refuses_a_broken_protocol);
	TEST_RUN(infers);
	TEST_RUN(answers_with_the_mean_of_crops);
	TEST_RUN(searches_and_serves_a_profile);
	TEST_RUN(answers_questions);
	TEST_RUN(keeps_a_heartbeat);
	wasd_dataset_close(data);
	tiny_end();
	wasd_threads_done();
	TEST_END();
}
