/* Algorithms chosen by measurement: the table and its file, with any content; an exec's report of its choices; shared
 * packed weights. */
#include "check.h"
#include "wasd/cpu.h"
#include "wasd/graph.h"

#ifdef WASD_ONEDNN

#include "backends.h"
#include "layers/packs.h"
#include "onednn/tune.h"

#include <sys/wait.h>
#include <unistd.h>

static char dir[64], file[96];

static void write_file(const char *text)
{
	FILE *f = fopen(file, "w");
	CHECK(f != NULL);
	fputs(text, f);
	fclose(f);
}

static long lines(void)
{
	FILE *f = fopen(file, "r");
	long n = 0;
	for (int c; f && (c = fgetc(f)) != EOF;)
		n += c == '\n';
	if (f)
		fclose(f);
	return n;
}

/* In a new process, whose table is empty: the choice for key, -1: none. */
static int choice_in_new_process(const char *machine, const char *key)
{
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		struct tune_result r;
		tune_open(machine);
		_exit(tune_find(key, &r) ? r.choice : 99);
	}
	int status = 0;
	waitpid(pid, &status, 0);
	return WIFEXITED(status) && WEXITSTATUS(status) != 99 ? WEXITSTATUS(status) : -1;
}

static void the_file_is_shared(void)
{
	struct tune_result r = {1, {20, 10, 0}}, other = {0, {5, 6, 7}};
	unlink(file);
	tune_open("machine A");
	tune_store("key 1", &r);
	CHECK_INT(lines(), 1);
	CHECK_INT(choice_in_new_process("machine A", "key 1"), 1);
	CHECK_INT(choice_in_new_process("machine B", "key 1"), -1);
	CHECK_INT(choice_in_new_process("machine A", "key 2"), -1);
	/* Another process was first: its result counts here too. */
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		tune_store("key 2", &other);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	r = (struct tune_result){1, {20, 10, 0}};
	tune_store("key 2", &r);
	CHECK_INT(r.choice, 0);
	CHECK_INT(lines(), 2);
}

static void anything_else_in_it_is_passed_over(void)
{
	write_file("wasd-tuning-2\tM\tgood\t1\t2.0\t1.0\t0\t0\n"
	           "wasd-tuning-2\tM\tno candidate\t7\t2.0\t1.0\t0\t0\n"
	           "wasd-tuning-2\tM\tminus\t-1\t2.0\t1.0\t0\t0\n"
	           "wasd-tuning-2\tM\tnot a number\t1\t2.0\tx\t0\t0\n"
	           "wasd-tuning-2\tM\tnan\t1\t2.0\tnan\t0\t0\n"
	           "wasd-tuning-2\tM\tabsent\t1\t2.0\t0\t0\t0\n"
	           "wasd-tuning-2\tM\tshort\t1\n"
	           "wasd-tuning-2\tM\tlong\t1\t2.0\t1.0\t3.0\t4.0\t5.0\n"
	           "wasd-tuning-1\tM\tversion\t1\t2.0\t1.0\t0\t0\n"
	           "\n\t\t\t\n\x01\x02\xff\n"
	           "wasd-tuning-2\tM\ttorn\t1\t2.");
	CHECK_INT(choice_in_new_process("M", "good"), 1);
	static const char *const bad[] = {"no candidate", "minus", "not a number", "nan",  "absent",
	                                  "short",        "long",  "version",      "torn", ""};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		CHECK_MSG(choice_in_new_process("M", bad[i]) == -1, "%s", bad[i]);
	/* A line added after a torn line is complete. */
	struct tune_result r = {0, {1, 2, 3}};
	tune_open("M");
	tune_store("next", &r);
	CHECK_INT(choice_in_new_process("M", "next"), 0);
	CHECK_INT(choice_in_new_process("M", "torn"), -1);
}

static void a_place_that_cannot_be_written(void)
{
	setenv("WASD_TUNING", "/proc/no/such/place", 1);
	struct tune_result r = {1, {3, 2, 0}}, got;
	tune_open("N");
	tune_store("k", &r);
	CHECK(tune_find("k", &got) && got.choice == 1);
	setenv("WASD_TUNING", file, 1);
}

/* 3x3, 32 channels, stride 1: both direct and Winograd exist. */
static struct wasd_model *model(void)
{
	struct wasd_graph *g;
	struct wasd_model *m;
	struct wasd_err err;
	CHECK(!wasd_graph_create((struct wasd_shape){3, 16, 16}, &g, &err));
	wasd_node x = wasd_graph_conv(g, wasd_graph_input(g), "first", 32, 3, 1, 1, 1, true);
	x = wasd_graph_conv(g, x, "second", 32, 3, 1, 1, 1, true);
	x = wasd_graph_flatten(g, x);
	CHECK(!wasd_graph_finish(g, wasd_graph_linear(g, x, "fc", 4, true), &err));
	CHECK(!wasd_model_create(g, 1, &m, &err));
	wasd_graph_destroy(g);
	return m;
}

static const char *algorithm(const struct wasd_exec *e, const char *layer, const char *pass)
{
	static char found[40];
	cJSON *list = wasd_exec_explain(e), *c;
	strcpy(found, "none");
	cJSON_ArrayForEach(c, list) {
		const char *l = "", *p = "", *a = "";
		if (wasd_json_str(c, "layer", &l) && wasd_json_str(c, "pass", &p) && wasd_json_str(c, "algorithm", &a) &&
		    !strcmp(l, layer) && !strcmp(p, pass))
			snprintf(found, sizeof found, "%s", a);
	}
	cJSON_Delete(list);
	return found;
}

static struct wasd_exec *exec_of(struct wasd_model *m, struct wasd_exec_opts o)
{
	struct wasd_exec *e = NULL;
	struct wasd_err err = {0};
	o.backend = "onednn";
	CHECK_MSG(!wasd_exec_create(m, &o, &e, &err), "%s", err.msg);
	return e;
}

static void an_exec_does_as_the_file_says(void)
{
	if (!fast_backend_runs())
		TEST_SKIP("this processor cannot run the oneDNN backend");
	struct wasd_model *m = model();
	unlink(file);
	struct wasd_exec *e = exec_of(m, (struct wasd_exec_opts){.batch = 4, .training = true});
	const char *first = algorithm(e, "second", "forward");
	CHECK_MSG(!strcmp(first, "direct") || !strcmp(first, "winograd"), "%s", first);
	bool was_direct = !strcmp(first, "direct");
	CHECK_STR(algorithm(e, "first", "forward"), "direct");
	CHECK_STR(algorithm(e, "first", "backward data"), "none");
	wasd_exec_destroy(e);
	CHECK(lines() == 3);
	/* The other choice, written by hand, in a process that has measured nothing yet. */
	char text[4096], *at = text;
	FILE *f = fopen(file, "r");
	for (char line[512]; f && fgets(line, sizeof line, f);) {
		char machine[160], key[TUNE_KEY];
		CHECK(sscanf(line, "wasd-tuning-2\t%159[^\t]\t%95[^\t]", machine, key) == 2);
		at += snprintf(at, sizeof text - (size_t)(at - text), "wasd-tuning-2\t%s\t%s\t%d\t7.0\t7.0\t7.0\t0\n", machine,
		               key, was_direct);
	}
	fclose(f);
	write_file(text);
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		tune_open("forget");
		e = exec_of(m, (struct wasd_exec_opts){.batch = 4, .training = true});
		CHECK_STR(algorithm(e, "second", "forward"), was_direct ? "winograd" : "direct");
		CHECK_STR(algorithm(e, "second", "backward data"), was_direct ? "winograd" : "direct");
		fflush(stdout);
		_exit(check_failed_);
	}
	int status = -1;
	waitpid(pid, &status, 0);
	CHECK_INT(status, 0);
	wasd_model_destroy(m);
}

static void strict_never_takes_winograd(void)
{
	if (!fast_backend_runs())
		TEST_SKIP("this processor cannot run the oneDNN backend");
	struct wasd_model *m = model();
	struct wasd_exec *e =
		exec_of(m, (struct wasd_exec_opts){.batch = 4, .training = true, .precision = WASD_PRECISION_FP32_STRICT});
	static const char *const passes[] = {"forward", "backward data", "backward weights"};
	for (int i = 0; i < 3; i++)
		CHECK_STR(algorithm(e, "second", passes[i]), "direct");
	wasd_exec_destroy(e);
	wasd_model_destroy(m);
}

/* Constant weights are packed once for all plans that need the same form, and give the same results as weights
 * converted in every pass. */
static void packed_weights_are_shared(void)
{
	if (!fast_backend_runs())
		TEST_SKIP("this processor cannot run the oneDNN backend");
	struct wasd_model *m = model();
	struct wasd_err err;
	enum { N = 2 };
	real x[N * 3 * 16 * 16];
	for (size_t i = 0; i < sizeof x / sizeof *x; i++)
		x[i] = (real)((double)(i * 37 % 101) / 50 - 1);
	struct wasd_exec_opts constant = {.batch = N, .constant_weights = true, .precision = WASD_PRECISION_FP32_STRICT},
						  changing = {.batch = N, .precision = WASD_PRECISION_FP32_STRICT};
	struct wasd_exec *a = exec_of(m, constant), *b = exec_of(m, changing), *again;
	struct wasd_pass p = {.n = N, .bn = WASD_BN_SET, .set = WASD_STATS_AOM};
	CHECK_INT(wasd_model_packed_bytes(m), 0);
	CHECK(!wasd_exec_forward(a, x, &p, &err) && !wasd_exec_forward(b, x, &p, &err));
	CHECK(!memcmp(wasd_exec_logits(a), wasd_exec_logits(b), N * 4 * sizeof(real)));
	size_t bytes = wasd_model_packed_bytes(m);
	CHECK_MSG(bytes >= (32 * 3 + 32 * 32) * 9 * sizeof(float), "%zu", bytes);
	constant.batch = 1;
	again = exec_of(m, constant);
	p.n = 1;
	CHECK(!wasd_exec_forward(again, x, &p, &err));
	CHECK_INT(wasd_model_packed_bytes(m), bytes);
	wasd_exec_destroy(a);
	wasd_exec_destroy(b);
	wasd_exec_destroy(again);
	wasd_model_destroy(m);
}

/* A pass that needs a new variant and finds no memory for it fails; the next one, with memory, works as if nothing had
 * happened. */
static void a_pass_without_memory_is_forgotten(void)
{
	if (!fast_backend_runs())
		TEST_SKIP("this processor cannot run the oneDNN backend");
	struct wasd_model *m = model();
	struct wasd_err err = {0};
	real x[8 * 3 * 16 * 16] = {1};
	struct wasd_exec *e = exec_of(m, (struct wasd_exec_opts){.batch = 8, .precision = WASD_PRECISION_FP32_STRICT});
	struct wasd_pass p = {.bn = WASD_BN_SET, .set = WASD_STATS_AOM};
	for (p.n = 1; p.n <= 3; p.n++)
		CHECK_MSG(!wasd_exec_forward(e, x, &p, &err), "%s", err.msg);
	wasd_mem_fail_at(1); /* the list of variants grows with the fifth */
	CHECK_INT(wasd_exec_forward(e, x, &p, &err), WASD_ENOMEM);
	wasd_mem_fail_at(0);
	CHECK_MSG(!wasd_exec_forward(e, x, &p, &err), "%s", err.msg);
	wasd_exec_destroy(e);
	wasd_model_destroy(m);
}

/* ---- races ---- */

struct script {
	float us[TUNE_CANDIDATES][4]; /* of each run */
	int runs[TUNE_CANDIDATES];
};

static float scripted(void *ctx, int candidate)
{
	struct script *s = ctx;
	int run = s->runs[candidate]++;
	return s->us[candidate][run < 4 ? run : 3];
}

static void the_fastest_wins(void)
{
	struct script s = {.us = {[0] = {1, 30, 20, 40}, [2] = {90, 25, 25, 10}, [3] = {1, 5, 0, 1}}};
	struct tune_result r = {.us = {0, -1, 0, 0}};
	CHECK(tune_race(scripted, &s, 3, 0, &r) && r.choice == 0);
	CHECK(r.us[0] == 20 && r.us[1] == 0 && r.us[2] == 25 && r.us[3] == 0); /* the first round does not count */
	CHECK(s.runs[0] == 3 && s.runs[1] == 0 && s.runs[2] == 3 && s.runs[3] == 3);
	s = (struct script){.us = {{9, 9, 9, 9}, {9, 9, 9, 8}, {9, 9, 9, 9}, {9, 9, 9, 9}}};
	r = (struct tune_result){0};
	CHECK(tune_race(scripted, &s, 4, 1000000, &r) && r.choice == 1 && s.runs[3] == 4);
	s = (struct script){0};
	r = (struct tune_result){.us = {0, -1, -1, -1}};
	CHECK(!tune_race(scripted, &s, 3, 0, &r) && r.us[0] == 0 && s.runs[0] == 1);
}

int main(int argc, char **argv)
{
	(void)argc;
	struct wasd_err err;
	wasd_cpu_prepare(argv, NULL);
	CHECK(!wasd_threads_init(1, &err));
	check_temp(dir, sizeof dir, "wasd-tuning");
	CHECK(mkdtemp(dir) != NULL);
	snprintf(file, sizeof file, "%s/tuning.tsv", dir);
	setenv("WASD_TUNING", file, 1);
	TEST_RUN(the_file_is_shared);
	TEST_RUN(anything_else_in_it_is_passed_over);
	TEST_RUN(a_place_that_cannot_be_written);
	TEST_RUN(an_exec_does_as_the_file_says);
	TEST_RUN(strict_never_takes_winograd);
	TEST_RUN(packed_weights_are_shared);
	TEST_RUN(a_pass_without_memory_is_forgotten);
	unlink(file);
	rmdir(dir);
	TEST_RUN(the_fastest_wins);
	TEST_END();
}

#else

int main(void)
{
	printf("skip tuning: this build has no oneDNN backend\n");
	return 0;
}

#endif
