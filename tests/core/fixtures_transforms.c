/* tests/core/fixtures_transforms.c - every single-kernel case of the golden fixtures: T, SW = alpha T PW, dPW = alpha
 * T^t dSW, dalpha = <dSW, T PW>, in the plain form and in the live rectangle. Double: 1e-12 of the tensor's largest
 * entry; float: 4e-6, sums of at most 25 float products. */
#include "fixture.h"
#include "wasd/weights.h"

#ifdef WASD_DOUBLE
#define TOL 1e-12
#else
#define TOL 4e-6
#endif

static void compare(struct group *g, const real *got, const struct wasd_st_tensor *want, const char *what,
                    const char *id)
{
	double scale = st_max(want);
	for (size_t i = 0; i < want->count; i++)
		group_near(g, got[i], st_value(want, i), scale, TOL, 0, what, id);
}

/* Rows of k*k taps -> the rectangle of each row, and back with zeros outside. */
static void cut(const real *full, size_t rows, int k, struct wasd_rect at, real *out)
{
	for (size_t r = 0; r < rows; r++)
		for (int y = 0; y < at.h; y++)
			for (int x = 0; x < at.w; x++)
				*out++ = full[r * (size_t)(k * k) + (size_t)((at.y + y) * k + at.x + x)];
}

static void paste(const real *rect, size_t rows, int k, struct wasd_rect at, real *out)
{
	memset(out, 0, rows * (size_t)(k * k) * sizeof *out);
	for (size_t r = 0; r < rows; r++)
		for (int y = 0; y < at.h; y++)
			for (int x = 0; x < at.w; x++)
				out[r * (size_t)(k * k) + (size_t)((at.y + y) * k + at.x + x)] = *rect++;
}

static void one_case(struct group *g, const struct fixture *f, const cJSON *c)
{
	static const char *const names[] = {"PW", "dSW", "alpha", "T", "SW", "dPW", "dalpha"};
	enum { PW, DSW, ALPHA, MAT, SW, DPW, DALPHA, TENSORS };
	const struct wasd_st_tensor *t[TENSORS];
	const char *id = json_str(c, "id"), *op_name = json_str(c, "op");
	for (int i = 0; i < TENSORS; i++)
		if (!(t[i] = fixture_find(f, "%s.%s", id, names[i]))) {
			group_fail(g, "%s.%s is missing", id, names[i]);
			return;
		}
	const struct wasd_transform_op *op = wasd_transform_op_find(op_name);
	if (!op) {
		group_fail(g, "%s: no transform \"%s\"", id, op_name);
		return;
	}
	int k = (int)json_num(c, "k");
	size_t kk = (size_t)(k * k), rows = t[PW]->count / kk;
	double p[6] = {0};
	for (int i = 0; op->params[i].name; i++)
		p[i] = json_num(wasd_json_get(c, "params"), op->params[i].name);
	struct wasd_transform m;
	struct wasd_err err = {0};
	if (wasd_transform_make(op_name, k, p, &m, &err)) {
		group_fail(g, "%s: %s", id, err.msg);
		return;
	}

	int zero = 0;
	for (size_t o = 0; o < kk; o++) {
		double largest = 0;
		for (size_t i = 0; i < kk; i++) {
			group_near(g, m.T[o * kk + i], st_value(t[MAT], o * kk + i), 1, 1e-14, 0, "T of", id);
			largest = fmax(largest, fabs(m.T[o * kk + i]));
		}
		zero += largest == 0;
	}
	if (zero != (int)json_num(c, "zero_taps"))
		group_fail(g, "%s: %d zero taps, want %g", id, zero, json_num(c, "zero_taps"));

	real *pw = st_reals(t[PW]), *dsw = st_reals(t[DSW]), *out = wasd_alloc_aligned(3 * t[PW]->count, sizeof *out);
	real alpha = (real)st_value(t[ALPHA], 0), *wide = out + t[PW]->count, *part = wide + t[PW]->count;
	struct wasd_rect whole = {0, 0, k, k};
	wasd_transform_forward(&m, alpha, pw, rows, whole, out);
	compare(g, out, t[SW], "SW of", id);
	wasd_transform_forward(&m, alpha, pw, rows, m.live, part);
	paste(part, rows, k, m.live, wide);
	compare(g, wide, t[SW], "SW (live rectangle) of", id);

	/* dalpha is a sum over all taps: its error scales with the norms of the two factors, not with its own size. */
	double scale = fabs(st_value(t[DALPHA], 0)) + st_max(t[DSW]) * st_max(t[PW]);
	memset(out, 0, t[PW]->count * sizeof *out);
	group_near(g, wasd_transform_backward(&m, alpha, pw, dsw, rows, whole, out), st_value(t[DALPHA], 0), scale, TOL, 0,
	           "dalpha of", id);
	compare(g, out, t[DPW], "dPW of", id);
	memset(out, 0, t[PW]->count * sizeof *out);
	cut(dsw, rows, k, m.live, part);
	group_near(g, wasd_transform_backward(&m, alpha, pw, part, rows, m.live, out), st_value(t[DALPHA], 0), scale, TOL,
	           0, "dalpha (live rectangle) of", id);
	compare(g, out, t[DPW], "dPW (live rectangle) of", id);
	wasd_free(pw);
	wasd_free(dsw);
	wasd_free(out);
}

/* Every file matches the manifest of the set. */
static void check_manifest(const char *dir)
{
	char path[1024], *text = NULL, hex[WASD_SHA256_HEX];
	size_t len;
	cJSON *m = NULL;
	const cJSON *it;
	struct wasd_err err = {0};
	struct group g = group_begin("manifest of %.100s", dir);
	snprintf(path, sizeof path, "%s/manifest.json", dir);
	if (wasd_file_read(path, FIXTURE_MAX_BYTES, &text, &len, &err) ||
	    wasd_json_parse(text, len, fixture_json, &m, &err))
		group_fail(&g, "%s", err.msg);
	wasd_free(text);
	cJSON_ArrayForEach(it, wasd_json_get(m, "files")) {
		snprintf(path, sizeof path, "%s/%s", dir, json_str(it, "file"));
		if (wasd_file_read(path, FIXTURE_MAX_BYTES, &text, &len, &err)) {
			group_fail(&g, "%s", err.msg);
			continue;
		}
		wasd_sha256_of(text, len, hex);
		g.checks++;
		if (strcmp(hex, json_str(it, "sha256")))
			group_fail(&g, "%s: sha256 %s", path, hex);
		wasd_free(text);
	}
	cJSON_Delete(m);
	group_end(&g);
}

static void run(const char *dir)
{
	struct fixture f;
	if (fixture_exists(dir, "manifest.json"))
		check_manifest(dir);
	if (!fixture_exists(dir, "transforms.json")) {
		printf("skip transforms (%s): %s has no transforms.json\n", FLAVOUR, dir);
		return;
	}
	if (!fixture_open(dir, "transforms", &f))
		return;
	const cJSON *cases = wasd_json_get(f.json, "cases"), *c;
	const struct wasd_transform_op *op;
	int total = 0;
	for (int i = 0; (op = wasd_transform_op_at(i)); i++) {
		int n = 0;
		struct group g = group_begin("transforms %s (%s)", op->name, FLAVOUR);
		cJSON_ArrayForEach(c, cases)
			if (!strcmp(json_str(c, "op"), op->name)) {
				one_case(&g, &f, c);
				n++;
			}
		snprintf(g.name + strlen(g.name), sizeof g.name - strlen(g.name), " %d cases", n);
		total += n;
		if (n)
			group_end(&g);
	}
	struct group all = group_begin("transforms (%s) %d cases, each of a known kind", FLAVOUR, total);
	if (total != cJSON_GetArraySize(cases))
		group_fail(&all, "%d cases in the file", cJSON_GetArraySize(cases));
	group_end(&all);
	fixture_close(&f);
}

int main(void)
{
	fixture_each_dir("transforms", run);
	TEST_END();
}
