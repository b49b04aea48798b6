/* fake_engine.h - an engine process that misbehaves on demand. The test program starts itself as the engine:
 * argv[1] is then train, infer, ingest or profile. The work names the fault: the job's spec ("fault"), the first
 * word of the checkpoint that infer loads, the name of the dataset or of the profile. Faults that precede the
 * first message come from a file named after the parent's process id. */
#ifndef TESTS_FAKE_ENGINE_H
#define TESTS_FAKE_ENGINE_H

#include "wasd/protocol.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <unistd.h>

static void fault_file(char path[64], int pid)
{
	snprintf(path, 64, P_tmpdir "/wasd-test-fault-%d", pid); /* an engine does not inherit TMPDIR */
}

static struct wasd_wire *fw;
static enum wasd_role fake_role;
static uint32_t fake_seq; /* of the last message */

/* Sends a message without checking it against the table. */
static void fake_break(cJSON *j, const void *bin, size_t n, int fd)
{
	if (!j || wasd_wire_send(fw, j, bin, n, fd, &fake_seq, NULL) != WASD_OK)
		_exit(0);
	cJSON_Delete(j);
}

/* Sends a message of the table. A message that breaks its row is an error of the test; fake_break sends those on
 * purpose. */
static void fake_send(cJSON *j, const void *bin, size_t n, int fd)
{
	struct wasd_err err = {.msg = "not a message of this role"};
	const char *type = "";
	wasd_json_str(j, "type", &type);
	const struct wasd_message *row = wasd_message_find(fake_role, WASD_ENGINE, type);
	if (!row || wasd_message_check(row, j, n, fd >= 0, &err) != WASD_OK) {
		fprintf(stderr, "fake engine: %s: %s\n", type, err.msg);
		abort();
	}
	fake_break(j, bin, n, fd);
}

static void fake_say(const char *text)
{
	fake_send(cJSON_Parse(text), NULL, 0, -1);
}

#define BREAK(text) fake_break(cJSON_Parse(text), NULL, 0, -1)
#define SAY(...) \
	do { \
		char say_[2000]; \
		snprintf(say_, sizeof say_, __VA_ARGS__); \
		fake_say(say_); \
	} while (0)

static void fake_raw(const void *p, size_t n)
{
	if (send(WASD_WIRE_FD, p, n, MSG_NOSIGNAL) < 0)
		_exit(0);
}

enum { FAKE_HEAD = 24 };

static void fake_head(unsigned char h[FAKE_HEAD], uint32_t seq, uint32_t json_len, const char *json, bool good_crc)
{
	memset(h, 0, FAKE_HEAD);
	memcpy(h, "WASD\1", 5);
	memcpy(h + 8, &seq, 4);
	memcpy(h + 12, &json_len, 4);
	uint32_t crc = wasd_crc32c(wasd_crc32c(0, h, 20), json, strlen(json)) ^ (good_crc ? 0 : 1);
	memcpy(h + 20, &crc, 4);
}

/* Sends a frame whose header has a correct or wrong checksum and does not otherwise match the body. */
static void fake_frame(uint32_t seq, uint32_t json_len, const char *json, bool good_crc)
{
	unsigned char h[FAKE_HEAD];
	fake_head(h, seq, json_len, json, good_crc);
	fake_raw(h, sizeof h);
	fake_raw(json, strlen(json));
}

/* Sends the message twice in one piece, so that the daemon has the second before it can answer the first. Nothing can
 * be sent afterwards. */
static void fake_twice(const char *json)
{
	unsigned char both[400];
	size_t n = 0, len = strlen(json);
	for (uint32_t i = 1; i <= 2 && n + FAKE_HEAD + len <= sizeof both; i++) {
		fake_head(both + n, fake_seq + i, (uint32_t)len, json, true);
		memcpy(both + n + FAKE_HEAD, json, len);
		n += FAKE_HEAD + len;
	}
	fake_raw(both, n);
}

static void fake_hello(const char *role, const char *version)
{
	SAY("{\"type\":\"hello\",\"role\":\"%s\",\"pid\":%d,\"version\":\"%s\",\"build\":\"fake\",\"fingerprint\":{\"threads\":1}}",
	    role, (int)getpid(), version);
}

/* Waits for the next message and sends heartbeats meanwhile; exits at the end of the stream. ms: the longest wait,
 * after which type is NULL. */
static struct wasd_frame fake_hear(int ms, bool beat)
{
	struct wasd_frame m = {.fd = -1};
	for (int waited = 0;; waited += 100) {
		enum wasd_status s = wasd_wire_recv(fw, 100, &m, NULL);
		if (s == WASD_OK || (s == WASD_EBUSY && ms >= 0 && waited >= ms))
			return m;
		if (s != WASD_EBUSY)
			_exit(0);
		if (beat)
			fake_say("{\"type\":\"heartbeat\"}");
	}
}

static void fake_checkpoint(int epoch, const char *sha_or_null, int kind)
{
	/* kind 0: correct; 1: not sealed; 2: shorter than announced; 3: without a descriptor */
	char data[4096], sha[WASD_SHA256_HEX], text[600];
	memset(data, 'a' + epoch, sizeof data);
	wasd_sha256_of(data, sizeof data, sha);
	int fd = -1;
	if (kind == 1) {
		fd = memfd_create("x", MFD_ALLOW_SEALING | MFD_CLOEXEC);
		if (write(fd, data, sizeof data) < 0)
			_exit(1);
	} else if (kind != 3) {
		wasd_memfd_sealed("x", data, kind == 2 ? 100 : sizeof data, &fd, NULL);
	}
	snprintf(
		text, sizeof text,
		"{\"type\":\"checkpoint\",\"epoch\":%d,\"step\":%d,\"bytes\":%zu,\"sha256\":\"%s\",\"reason\":\"epoch\",\"metrics\":{\"val_acc_aom\":0.5},"
		"\"info\":{\"arch\":\"fake\"}}",
		epoch, epoch * 10, sizeof data, sha_or_null ? sha_or_null : sha);
	(kind == 3 ? fake_break : fake_send)(cJSON_Parse(text), NULL, 0, fd);
	if (fd >= 0)
		close(fd);
}

static void fake_metrics(int epoch)
{
	SAY("{\"type\":\"metrics\",\"epoch\":%d,\"step\":%d,\"values\":{\"train_loss\":%g,\"val_acc_aom\":null},\"nonfinite\":{\"val_acc_aom\":\"nan\"}}",
	    epoch, epoch * 10, 2.0 / epoch);
}

static void fake_wait_acks(int n)
{
	while (n > 0) {
		struct wasd_frame m = fake_hear(-1, true);
		n -= m.type && !strcmp(m.type, "ack");
		if (m.type && !strcmp(m.type, "cancel")) {
			fake_say("{\"type\":\"done\",\"reason\":\"cancelled\",\"epoch\":0}");
			_exit(0);
		}
		wasd_frame_done(&m);
	}
}

static _Noreturn void fake_linger(bool beat)
{
	for (;;) {
		struct wasd_frame m = fake_hear(-1, beat);
		wasd_frame_done(&m);
	}
}

static _Noreturn void fake_epochs(int from, int to)
{
	for (int e = from; e <= to; e++) {
		fake_metrics(e);
		fake_checkpoint(e, NULL, 0);
		fake_wait_acks(2);
	}
	fake_say("{\"type\":\"done\",\"reason\":\"done\",\"epoch\":2}");
	_exit(0);
}

#define FAKE_STARTED \
	"{\"type\":\"started\",\"params\":1,\"macs\":1,\"epochs\":2,\"steps_per_epoch\":10,\"epoch\":1,\"classes\":[],\"was\":false}"
#define IS(name) (!strcmp(fault, name))

static volatile sig_atomic_t fake_told;
static void fake_hears(int sig)
{
	fake_told = sig;
}

/* Trains as the message m asks, with the fault that it names. */
static _Noreturn void fake_attempt(const struct wasd_frame *m)
{
	const char *fault = "good", *id = "";
	int64_t attempt = 0, from = 1;
	const cJSON *resume = wasd_json_get(m->json, "resume");
	wasd_json_str(wasd_json_get(m->json, "spec"), "fault", &fault);
	wasd_json_str(m->json, "job", &id);
	wasd_json_i64(m->json, "attempt", &attempt);
	if (resume && wasd_json_i64(resume, "epoch", &from))
		from++;
	fake_say(FAKE_STARTED);
	fake_say(
		"{\"type\":\"progress\",\"epoch\":1,\"epochs\":2,\"step\":1,\"steps\":10,\"phase\":\"training\",\"phase_done\":1,\"phase_total\":10,\"img_per_s\":1,\"eta_s\":1,\"loss\":1}");
	fake_say("{\"type\":\"log\",\"level\":\"info\",\"text\":\"the last words\"}");
	if (IS("good"))
		fake_epochs(1, 2);
	if (IS("bad_magic"))
		fake_raw("XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX", 36);
	if (IS("bad_crc"))
		fake_frame(5, 20, "{\"type\":\"heartbeat\"}", false);
	if (IS("oversized"))
		fake_frame(5, 2 << 20, "{\"type\":\"heartbeat\"}", true);
	if (IS("out_of_order"))
		fake_frame(99, 20, "{\"type\":\"heartbeat\"}", true);
	if (IS("duplicate_seq"))
		fake_frame(4, 20, "{\"type\":\"heartbeat\"}", true);
	if (IS("not_json"))
		fake_frame(5, 20, "{\"type\":\"heartbeat\"", true);
	if (IS("other_job"))
		SAY("{\"type\":\"metrics\",\"job\":\"job_other\",\"epoch\":1,\"step\":1,\"values\":{\"train_loss\":1}}");
	if (IS("stale_attempt"))
		SAY("{\"type\":\"metrics\",\"attempt\":%d,\"epoch\":1,\"step\":1,\"values\":{\"train_loss\":1}}",
		    (int)attempt + 1);
	if (IS("unknown_type"))
		BREAK("{\"type\":\"surprise\"}");
	if (IS("bad_values"))
		fake_say("{\"type\":\"metrics\",\"epoch\":1,\"step\":1,\"values\":{\"train_loss\":\"low\"}}");
	if (IS("no_epoch"))
		BREAK("{\"type\":\"metrics\",\"step\":1,\"values\":{}}");
	if (IS("bad_phase"))
		BREAK("{\"type\":\"progress\",\"phase\":\"dancing\"}");
	if (IS("bad_progress"))
		BREAK("{\"type\":\"progress\",\"phase\":\"training\",\"phase_done\":-1}");
	if (IS("bad_loss"))
		fake_say("{\"type\":\"losses\",\"points\":[[1,1,null,0.1,100]]}");
	if (IS("losses_back"))
		fake_say("{\"type\":\"losses\",\"points\":[[2,1,1,0.1,100],[1,1,1,0.1,100]]}");
	if (IS("no_losses"))
		BREAK("{\"type\":\"losses\",\"points\":[]}");
	if (IS("losses")) {
		fake_say("{\"type\":\"losses\",\"points\":[[1,1,2.5,0.1,100],[2,1,1.5,0.1,100]]}");
		fake_say("{\"type\":\"progress\",\"phase\":\"evaluating\",\"phase_done\":1,\"phase_total\":3}");
		fake_linger(true);
	}
	if (IS("bad_reason"))
		BREAK("{\"type\":\"done\",\"reason\":\"because\"}");
	if (IS("two_ends")) {
		fake_say("{\"type\":\"done\",\"reason\":\"done\",\"epoch\":1}");
		fake_say("{\"type\":\"done\",\"reason\":\"done\",\"epoch\":1}");
	}
	if (IS("unsealed"))
		fake_checkpoint(1, NULL, 1);
	if (IS("short_file"))
		fake_checkpoint(1, NULL, 2);
	if (IS("no_file"))
		fake_checkpoint(1, NULL, 3);
	if (IS("wrong_sha"))
		fake_checkpoint(1, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", 0);
	if (IS("two_checkpoints")) {
		fake_checkpoint(1, NULL, 0);
		fake_checkpoint(2, NULL, 0);
	}
	if (IS("exit0"))
		_exit(0);
	if (IS("exit7")) {
		fprintf(stderr, "panic: out of cheese\n");
		_exit(7);
	}
	if (IS("segv")) {
		signal(SIGSEGV, SIG_DFL);
		raise(SIGSEGV);
	}
	if (IS("abort")) {
		signal(SIGABRT, SIG_DFL);
		raise(SIGABRT);
	}
	if (IS("kill9"))
		raise(SIGKILL);
	if (IS("stopped"))
		raise(SIGSTOP);
	if (IS("silent"))
		fake_linger(false);
	if (IS("hung_up")) {
		shutdown(WASD_WIRE_FD, SHUT_RDWR);
		signal(SIGTERM, SIG_IGN);
		for (;;)
			pause();
	}
	if (IS("nan")) {
		fake_say(
			"{\"type\":\"failed\",\"reason\":\"nan_loss\",\"status\":\"enumeric\",\"message\":\"the loss is not a number\"}");
		_exit(0);
	}
	if (IS("says_error")) {
		fake_say("{\"type\":\"failed\",\"reason\":\"error\",\"status\":\"eio\",\"message\":\"disk on fire\"}");
		_exit(0);
	}
	if (IS("memory")) {
		for (volatile char *p; (p = malloc(8 << 20)); fake_say("{\"type\":\"heartbeat\"}"))
			for (size_t i = 0; i < 8 << 20; i += 4096)
				p[i] = 1;
	}
	if (IS("log_flood")) {
		for (int i = 0; i < 20000; i++)
			SAY("{\"type\":\"log\",\"level\":\"info\",\"text\":\"line %d\"}", i);
		fake_epochs(1, 2);
	}
	if (IS("row_flood")) {
		for (int i = 0; i < 800; i++)
			fake_metrics(i + 3);
		fake_wait_acks(800);
		fake_epochs(1, 2);
	}
	if (IS("deaf")) {
		signal(SIGTERM, SIG_IGN);
		for (int i = 0; i < 6000; i++) {
			fake_say("{\"type\":\"heartbeat\"}");
			poll(NULL, 0, 100);
		}
		_exit(0);
	}
	if (IS("polite")) {
		struct wasd_frame c = fake_hear(-1, true);
		if (c.type && !strcmp(c.type, "cancel")) {
			fake_checkpoint(1, NULL, 0);
			fake_wait_acks(1);
			fake_say("{\"type\":\"done\",\"reason\":\"cancelled\",\"epoch\":1}");
			_exit(0);
		}
	}
	/* Trains until it is told: SIGUSR1 completes it, SIGUSR2 makes it fail for good. */
	if (IS("told")) {
		for (int i = 1;; i++) {
			struct wasd_frame c = {.fd = -1};
			enum wasd_status s = wasd_wire_recv(fw, 5, &c, NULL);
			if (fake_told == SIGUSR1)
				fake_say("{\"type\":\"done\",\"reason\":\"done\",\"epoch\":2}");
			else if (fake_told == SIGUSR2)
				fake_say(
					"{\"type\":\"failed\",\"reason\":\"nan_loss\",\"status\":\"enumeric\",\"message\":\"not a number\"}");
			else if (s == WASD_OK && c.type && !strcmp(c.type, "cancel"))
				fake_say("{\"type\":\"done\",\"reason\":\"cancelled\",\"epoch\":1}");
			else if (s == WASD_OK || s == WASD_EBUSY) {
				if (i % 20 == 0)
					fake_say("{\"type\":\"heartbeat\"}");
				wasd_frame_done(&c);
				continue;
			}
			_exit(0);
		}
	}
	/* Dies after its first epoch in the first two attempts; the next attempt must receive that epoch's checkpoint. */
	if (IS("flaky")) {
		if (attempt == 1) {
			fake_metrics(1);
			fake_checkpoint(1, NULL, 0);
			fake_wait_acks(2);
			raise(SIGKILL);
		}
		if (attempt == 2)
			raise(SIGKILL);
		if (from == 2 && m->fd >= 0)
			fake_epochs(2, 2);
		_exit(9);
	}
	/* Dies first with its last checkpoint stored, then after sending "done"; only the third attempt exits
	 * normally. */
	if (IS("late")) {
		if (attempt == 1) {
			fake_metrics(2);
			fake_checkpoint(2, NULL, 0);
			fake_wait_acks(2);
			raise(SIGKILL);
		}
		if (from != 3 || m->fd < 0)
			_exit(9);
		fake_say("{\"type\":\"done\",\"reason\":\"done\",\"epoch\":2}");
		if (attempt == 2)
			raise(SIGKILL);
		_exit(0);
	}
	fake_linger(true);
}

static _Noreturn void fake_train(void)
{
	signal(SIGUSR1, fake_hears);
	signal(SIGUSR2, fake_hears);
	char path[64], early[64] = "";
	fault_file(path, getppid());
	FILE *f = fopen(path, "r");
	if (f) {
		if (!fgets(early, sizeof early, f))
			early[0] = 0;
		fclose(f);
	}
	if (!strcmp(early, "no_hello"))
		fake_say("{\"type\":\"log\",\"level\":\"info\",\"text\":\"x\"}");
	fake_hello(!strcmp(early, "wrong_role") ? "infer" : "train",
	           !strcmp(early, "wrong_version") ? "9.9.9" : WASD_VERSION);
	if (!strcmp(early, "two_hellos"))
		fake_hello("train", WASD_VERSION);
	if (!strcmp(early, "early_metrics"))
		fake_metrics(1);
	struct wasd_frame m = fake_hear(-1, true);
	if (!m.type || strcmp(m.type, "start"))
		_exit(1);
	fake_attempt(&m);
}

/* Answers with a memory file of `bytes` that holds the floats 0, 1, 2, ...; kind: its fault. */
enum bulk { BULK_GOOD, BULK_UNSEALED, BULK_SHORT, BULK_NO_BYTES, BULK_TOO_BIG, BULK_AND_BIN, BULK_TO_NOBODY };
static void fake_bulk(uint32_t re, size_t bytes, enum bulk kind)
{
	char text[200];
	if (kind == BULK_TOO_BIG)
		bytes += 4;
	float *v = malloc(bytes);
	int fd = -1;
	for (size_t i = 0; i < bytes / 4; i++)
		v[i] = (float)i;
	if (kind == BULK_UNSEALED) {
		fd = memfd_create("x", MFD_ALLOW_SEALING | MFD_CLOEXEC);
		if (write(fd, v, bytes) < 0)
			_exit(1);
	} else {
		wasd_memfd_sealed("x", v, kind == BULK_SHORT ? bytes - 4 : bytes, &fd, NULL);
	}
	snprintf(text, sizeof text,
	         "{\"type\":\"inferred\",\"re\":%u,\"n\":1,\"classes\":1,\"macs\":1,\"timing_us\":{},\"%s\":%zu}",
	         kind == BULK_TO_NOBODY ? 4000000u : re, kind == BULK_NO_BYTES ? "size" : "bytes", bytes);
	bool breaks = kind == BULK_NO_BYTES || kind == BULK_AND_BIN;
	(breaks ? fake_break : fake_send)(cJSON_Parse(text), kind == BULK_AND_BIN ? v : NULL, kind == BULK_AND_BIN ? 4 : 0,
	                                  fd);
	free(v);
	close(fd);
}

/* The bundles that are loaded; adds or removes that one. */
static bool fake_bundle(const char *id, bool add, bool remove)
{
	static char loaded[16][48];
	int at = -1, room = -1;
	for (int i = 0; i < 16; i++)
		if (!strcmp(loaded[i], id))
			at = i;
		else if (!*loaded[i])
			room = i;
	if (add && at < 0 && room >= 0)
		snprintf(loaded[room], sizeof loaded[room], "%s", id);
	if (remove && at >= 0)
		loaded[at][0] = 0;
	return at >= 0;
}

static _Noreturn void fake_infer(void)
{
	char word[64] = "";
	fake_hello("infer", WASD_VERSION);
	for (;;) {
		struct wasd_frame m = fake_hear(-1, true);
		const char *bundle = "", *mode = "";
		wasd_json_str(m.json, "bundle", &bundle);
		wasd_json_str(m.json, "mode", &mode);
		if (!strcmp(m.type, "load")) {
			if (m.fd < 0 || pread(m.fd, word, sizeof word - 1, 0) < 0)
				_exit(1);
			if (!strncmp(word, "refuse", 6))
				SAY("{\"type\":\"error\",\"re\":%u,\"status\":\"ecorrupt\",\"message\":\"no network in it\"}", m.seq);
			else if (!strncmp(word, "crash", 5))
				raise(SIGKILL);
			else {
				fake_bundle(bundle, true, false);
				SAY("{\"type\":\"loaded\",\"re\":%u,\"bundle\":\"%s\",\"arch\":\"fake\",\"input\":[1,2,2],\"classes\":[\"a\",\"b\"],\"max_batch\":4,"
				    "\"modes\":{\"aom\":{\"macs\":1,\"bytes\":1},\"dom\":{\"macs\":1,\"bytes\":1}}}",
				    m.seq, bundle);
			}
		} else if (!strcmp(m.type, "profile")) {
			/* The overlay begins with the profile's fault. */
			int64_t bytes = 0, n = 0;
			const char *name = strchr(mode, ':') ? strchr(mode, ':') + 1 : "";
			char overlay[64] = "";
			wasd_json_i64(m.json, "bytes", &bytes);
			wasd_json_i64(m.json, "profile_bytes", &n);
			if (m.fd < 0 || n < 1 || n >= (int64_t)sizeof overlay || pread(m.fd, overlay, (size_t)n, bytes) != n ||
			    strcmp(overlay, name))
				SAY("{\"type\":\"error\",\"re\":%u,\"status\":\"ecorrupt\",\"message\":\"an overlay of %s for %s\"}",
				    m.seq, overlay, name);
			else if (!strcmp(name, "unserved"))
				SAY("{\"type\":\"error\",\"re\":%u,\"status\":\"einval\",\"message\":\"does not fit\"}", m.seq);
			else
				SAY("{\"type\":\"profiled\",\"re\":%u,\"bundle\":\"%s\",\"mode\":\"%s\",\"macs\":1,\"bytes\":1}", m.seq,
				    bundle, mode);
		} else if (!strcmp(m.type, "unprofile")) {
			SAY("{\"type\":\"unprofiled\",\"re\":%u}", m.seq);
		} else if (!strcmp(m.type, "unload")) {
			fake_bundle(bundle, false, true);
			SAY("{\"type\":\"unloaded\",\"re\":%u}", m.seq);
		} else if (!strcmp(m.type, "infer")) {
			SAY("{\"type\":\"inferred\",\"re\":%u,\"n\":1,\"classes\":2,\"macs\":1,\"timing_us\":{}}", m.seq);
		} else if (!fake_bundle(bundle, false, false)) {
			SAY("{\"type\":\"error\",\"re\":%u,\"status\":\"enotfound\",\"message\":\"no such bundle\"}", m.seq);
		} else {
			/* classify: k selects the fault */
			int64_t k = 0;
			wasd_json_i64(m.json, "k", &k);
			if (k == 66)
				raise(SIGKILL);
			if (k == 67)
				fake_raw("XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX", 31);
			if (k == 68)
				SAY("{\"type\":\"error\",\"re\":%u,\"status\":\"einval\",\"code\":\"bad_image\",\"pointer\":\"/images/0\",\"message\":\"not an image\"}",
				    m.seq);
			if (k == 70)
				SAY("{\"type\":\"classified\",\"re\":%u,\"results\":[],\"macs\":1,\"timing_us\":{},\"bytes\":%zu}",
				    4000000u, m.bin_len);
			int64_t bytes = 0;
			if (wasd_json_i64(m.json, "answer_bytes", &bytes))
				fake_bulk(m.seq, (size_t)bytes, (enum bulk)k);
			else if (k < 60)
				SAY("{\"type\":\"classified\",\"re\":%u,\"results\":[],\"macs\":1,\"mode\":\"%s\",\"bulk\":%s,\"timing_us\":{}}",
				    m.seq, mode, m.fd >= 0 ? "true" : "false");
		}
		wasd_frame_done(&m);
	}
}

/* Valid remarks, and remarks that each exceed one limit. */
static const char *fake_remarks(const char *name)
{
	static char text[1800];
	size_t n = 0;
	if (!strcmp(name, "longremark"))
		snprintf(text, sizeof text, "[{\"code\":\"x\",\"count\":1,\"message\":\"%0300d\",\"examples\":[]}]", 0);
	else if (!strcmp(name, "manyremarks")) {
		for (int i = 0; i < 33; i++)
			n += (size_t)snprintf(text + n, sizeof text - n,
			                      "%s{\"code\":\"x\",\"count\":1,\"message\":\"\",\"examples\":[]}", i ? "," : "[");
		snprintf(text + n, sizeof text - n, "]");
	} else if (!strcmp(name, "manyexamples"))
		return "[{\"code\":\"x\",\"count\":1,\"message\":\"\",\"examples\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\"]}]";
	else if (!strcmp(name, "escapes"))
		return "[{\"code\":\"x\",\"count\":1,\"message\":\"\\u001b[31m\",\"examples\":[]}]";
	else if (!strcmp(name, "negative"))
		return "[{\"code\":\"x\",\"count\":-1,\"message\":\"\",\"examples\":[]}]";
	else
		return "[{\"code\":\"ignored\",\"count\":3,\"message\":\"files left out\",\"examples\":[\"Icon?\"]}]";
	return text;
}

static _Noreturn void fake_ingest(void)
{
	fake_hello("ingest", WASD_VERSION);
	struct wasd_frame m = fake_hear(-1, true);
	const char *name = "", *out = "";
	wasd_json_str(m.json, "name", &name);
	wasd_json_str(m.json, "out", &out);
	if (strcmp(name, "nofile")) {
		int fd = open(out, O_CREAT | O_WRONLY | O_TRUNC, 0600);
		if (fd < 0 || write(fd, "prepared", 8) != 8)
			_exit(1);
		close(fd);
	}
	struct statvfs v;
	if (!strcmp(name, "full")) { /* as if its file had grown until the disk was full */
		if (statvfs(out, &v) || truncate(out, (off_t)(v.f_bavail * v.f_frsize + (1ull << 32))))
			_exit(1);
		SAY("{\"type\":\"failed\",\"re\":%u,\"status\":\"efull\",\"message\":\"no room for it\"}", m.seq);
	} else if (!strcmp(name, "refused"))
		SAY("{\"type\":\"failed\",\"re\":%u,\"status\":\"ecorrupt\",\"pointer\":\"train/cat/1.png\",\"message\":\"not a picture\"}",
		    m.seq);
	else if (!strcmp(name, "manybad"))
		SAY("{\"type\":\"failed\",\"re\":%u,\"status\":\"ecorrupt\",\"pointer\":\"a.png\",\"message\":\"2 broken\",\"count\":212,\"errors\":[{\"file\":\"a.png\",\"detail\":\"cut\"},"
		    "{\"file\":\"b.png\",\"detail\":\"empty\"}]}",
		    m.seq);
	else if (!strcmp(name, "badlist"))
		SAY("{\"type\":\"failed\",\"re\":%u,\"status\":\"ecorrupt\",\"pointer\":\"\",\"message\":\"2 broken\",\"count\":1,\"errors\":[{\"file\":7,\"detail\":\"cut\"}]}",
		    m.seq);
	else if (!strcmp(name, "dies")) {
		signal(SIGSEGV, SIG_DFL);
		raise(SIGSEGV);
	} else if (!strcmp(name, "quits"))
		_exit(0);
	else if (!strcmp(name, "garbage"))
		fake_raw("XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX", 31);
	else {
		char done[2400];
		snprintf(
			done, sizeof done,
			"{\"type\":\"done\",\"re\":%u,\"format\":\"fake\",\"shape\":[1,2,2],\"classes\":[\"a\"],\"train\":1,\"test\":1,\"digest\":\"d\",\"bytes\":%d,\"mean\":[0],\"std\":[1],\"remarks\":%s}",
			m.seq, !strcmp(name, "wrongsize") ? 9 : 8, fake_remarks(name));
		(!strcmp(name, "manyremarks") ? fake_break : fake_send)(cJSON_Parse(done), NULL, 0, -1);
	}
	fake_linger(true);
}

/* A message with a file. kind 0: correct; 1: not sealed; 2: shorter than announced; 3: without a descriptor; 4: larger
 * than the limit; 5: wrong digest. */
static void fake_file(const char *type, const char *word, int kind, const char *info, const char *more)
{
	char sha[WASD_SHA256_HEX], text[1200];
	size_t n = strlen(word);
	int fd = -1;
	wasd_sha256_of(kind == 5 ? "other" : word, kind == 5 ? 5 : n, sha);
	if (kind == 1) {
		fd = memfd_create("x", MFD_ALLOW_SEALING | MFD_CLOEXEC);
		if (write(fd, word, n) < 0)
			_exit(1);
	} else if (kind != 3) {
		wasd_memfd_sealed("x", word, kind == 2 ? 1 : n, &fd, NULL);
	}
	snprintf(text, sizeof text, "{\"type\":\"%s\",\"bytes\":%zu,\"sha256\":\"%s\",\"info\":%s%s}", type,
	         kind == 4 ? ((size_t)24 << 20) + 1 : n, sha, info, more);
	(kind == 3 ? fake_break : fake_send)(cJSON_Parse(text), NULL, 0, fd);
	if (fd >= 0)
		close(fd);
}

static void fake_overlay(const char *word, int kind, const char *info)
{
	fake_file("made", word, kind, info, "");
}

static void fake_merged(const char *word, int kind)
{
	fake_file("merged", word, kind, "{\"merge\":{\"from\":[]}}", ",\"metrics\":{}");
}

/* The request names the fault. */
static _Noreturn void fake_merge(struct wasd_frame *m)
{
	char path[64];
	const char *fault = "";
	if (m->fd < 0 || !wasd_json_str(wasd_json_get(m->json, "request"), "fault", &fault))
		_exit(8);
	fake_say("{\"type\":\"progress\",\"done\":1,\"of\":3}");
	if (IS("told"))
		fake_say(
			"{\"type\":\"failed\",\"status\":\"einval\",\"pointer\":\"/checkpoints/1\",\"message\":\"another network\"}");
	if (IS("backwards"))
		fake_say("{\"type\":\"progress\",\"done\":4,\"of\":3}");
	if (IS("endless"))
		BREAK("{\"type\":\"progress\",\"done\":1}");
	if (IS("dies"))
		raise(SIGKILL);
	if (IS("unsealed"))
		fake_merged(fault, 1);
	if (IS("short"))
		fake_merged(fault, 2);
	if (IS("nofile"))
		fake_merged(fault, 3);
	if (IS("wrongsha"))
		fake_merged(fault, 5);
	if (IS("noinfo"))
		fake_file("merged", fault, 0, "{}", ",\"metrics\":{}");
	if (IS("twice"))
		fake_merged(fault, 0);
	fault_file(path, getppid());
	while (IS("slow") && access(path, F_OK)) {
		struct wasd_frame none = fake_hear(100, true);
		wasd_frame_done(&none);
	}
	if (IS("big")) {
		static char big[512 << 10];
		memset(big, 'b', sizeof big - 1);
		fake_merged(big, 0);
	}
	if (IS("fine") || IS("twice") || IS("slow"))
		fake_merged(fault, 0);
	_exit(0);
}

/* Writes two bytes after each checkpoint that it is given. */
static _Noreturn void fake_archive(struct wasd_frame *m)
{
	const char *fault = "", *out = "";
	char part[300], path[64];
	int64_t n = 0;
	if (!wasd_json_str(wasd_json_get(m->json, "request"), "fault", &fault) || !wasd_json_str(m->json, "out", &out) ||
	    !wasd_json_i64(m->json, "n", &n))
		_exit(8);
	snprintf(part, sizeof part, "%s.part", out);
	FILE *f = fopen(part, "w");
	fake_say("{\"type\":\"progress\",\"done\":1,\"of\":3}");
	for (int i = 0; i < n; i++) {
		char need[80];
		snprintf(need, sizeof need, "{\"type\":\"need\",\"index\":%d,\"bytes\":%lld}", IS("beyond") ? (int)n : i,
		         IS("huge") ? 1ll << 52 : 0ll);
		(IS("hasty") ? fake_twice : fake_say)(need);
		if (IS("diesreading"))
			raise(SIGKILL);
		struct wasd_frame g = fake_hear(-1, true);
		const void *p = NULL;
		int64_t bytes = 0;
		if (strcmp(g.type, "given") || !wasd_json_i64(g.json, "bytes", &bytes) ||
		    wasd_memfd_map(g.fd, (size_t)bytes, &p, NULL) || fwrite(p, 1, 2, f) != 2)
			_exit(8);
		wasd_memfd_unmap(p, (size_t)bytes);
		wasd_frame_done(&g);
	}
	fault_file(path, getppid());
	while (IS("slow") && access(path, F_OK)) {
		struct wasd_frame none = fake_hear(100, true);
		wasd_frame_done(&none);
	}
	if (IS("told"))
		fake_say(
			"{\"type\":\"failed\",\"status\":\"einval\",\"pointer\":\"/checkpoints/1\",\"message\":\"another network\"}");
	if (IS("dies"))
		raise(SIGKILL);
	if (fclose(f) || rename(part, out))
		_exit(8);
	char done[200];
	snprintf(done, sizeof done, "{\"type\":\"archived\",\"files\":%d,\"bytes\":%d,\"sha256\":\"%064d\"}", (int)n,
	         IS("short") ? 1 : 2 * (int)n, 0);
	fake_say(done);
	_exit(0);
}

#define FAKE_INFO \
	"{\"draw\":[1],\"macs\":7,\"macs_share\":0.7,\"val_loss\":1,\"val_acc\":0.5,\"images_per_s_1\":1,\"images_per_s_64\":2,\"latency_us\":3,\"evaluations\":4,\"aom\":{\"macs\":10}}"

static _Noreturn void fake_profile(void)
{
	char path[64];
	fake_hello("profile", WASD_VERSION);
	struct wasd_frame m = fake_hear(-1, true);
	if (m.type && !strcmp(m.type, "merge"))
		fake_merge(&m);
	if (m.type && !strcmp(m.type, "archive"))
		fake_archive(&m);
	const char *name = "", *dataset = "", *desire = "";
	int64_t threads = 0, nice = 0, bytes = 0;
	wasd_json_str(m.json, "name", &name);
	if (!strcmp(m.type, "measure")) { /* the answer to another request */
		fake_overlay(name, 0, FAKE_INFO);
		_exit(0);
	}
	if (!wasd_json_str(m.json, "dataset", &dataset) || access(dataset, R_OK) ||
	    !wasd_json_i64(m.json, "threads", &threads) || threads != 2 || !wasd_json_i64(m.json, "nice", &nice) ||
	    !wasd_json_i64(m.json, "bytes", &bytes) || bytes < 1 || m.fd < 0 ||
	    !wasd_json_str(wasd_json_get(m.json, "request"), "desire", &desire))
		_exit(8);
	fake_say("{\"type\":\"progress\",\"done\":1,\"of\":3}");
	fake_say("{\"type\":\"log\",\"level\":\"info\",\"text\":\"looking\"}");
	const char *fault = name;
	if (IS("refused")) {
		fake_say(
			"{\"type\":\"failed\",\"status\":\"einval\",\"pointer\":\"/draw/3\",\"message\":\"no such transform\"}");
		_exit(0);
	}
	if (IS("told")) {
		fake_say(
			"{\"type\":\"failed\",\"status\":\"einval\",\"pointer\":\"/budget\",\"message\":\"/budget: too small\"}");
		_exit(0);
	}
	if (IS("nowhere")) {
		fake_say("{\"type\":\"failed\",\"status\":\"enumeric\",\"pointer\":null,\"message\":\"not a number\"}");
		_exit(0);
	}
	if (IS("dies")) {
		signal(SIGSEGV, SIG_DFL);
		raise(SIGSEGV);
	}
	if (IS("quits"))
		_exit(0);
	if (IS("panics")) {
		fprintf(stderr, "panic: out of cheese\n");
		fake_overlay(name, 0, FAKE_INFO);
		_exit(7);
	}
	if (IS("garbage"))
		fake_raw("XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX", 31);
	if (IS("silent"))
		fake_linger(false);
	if (IS("backwards"))
		fake_say("{\"type\":\"progress\",\"done\":4,\"of\":3}");
	if (IS("surprise"))
		BREAK("{\"type\":\"surprise\"}");
	if (IS("unsealed"))
		fake_overlay(name, 1, FAKE_INFO);
	if (IS("short"))
		fake_overlay(name, 2, FAKE_INFO);
	if (IS("nofile"))
		fake_overlay(name, 3, FAKE_INFO);
	if (IS("toobig")) {
		fake_overlay(name, 4, FAKE_INFO);
		_exit(0);
	}
	if (IS("wrongsha")) {
		fake_overlay(name, 5, FAKE_INFO);
		_exit(0);
	}
	if (IS("noinfo"))
		fake_overlay(name, 0, "{\"draw\":[1]}");
	if (IS("measured")) {
		fake_say("{\"type\":\"measured\",\"own\":{}}");
		_exit(0);
	}
	if (IS("twice")) {
		fake_overlay(name, 0, FAKE_INFO);
		fake_overlay(name, 0, FAKE_INFO);
		_exit(0);
	}
	/* Searches until the test creates the file of faults. */
	fault_file(path, getppid());
	while (IS("slow") && access(path, F_OK)) {
		struct wasd_frame none = fake_hear(100, true);
		wasd_frame_done(&none);
	}
	fake_overlay(name, 0, FAKE_INFO);
	_exit(0);
}

/* Runs the engine if this process was started as one. */
static void fake_engine_main(int argc, char **argv)
{
	if (argc != 2)
		return;
	if (wasd_wire_create(WASD_WIRE_FD, &fw, NULL) != WASD_OK)
		_exit(1);
	wasd_role_from_name(argv[1], &fake_role);
	if (!strcmp(argv[1], "train"))
		fake_train();
	if (!strcmp(argv[1], "infer"))
		fake_infer();
	if (!strcmp(argv[1], "ingest"))
		fake_ingest();
	if (!strcmp(argv[1], "profile"))
		fake_profile();
}

#endif
