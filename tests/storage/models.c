/* The registry: version numbers, aliases with their history, the deployments that follow an alias, and what the
 * references keep from being deleted. */
#include "util.h"
#include <string.h>

static char job[40], ck[3][32];

/* A running job with three checkpoints, of which its policy alone would keep the two newest. */
static struct storage *store_with_ckpts(void)
{
	struct storage *s = fresh_store();
	add_job(s, "m", job);
	int64_t attempt = start_job(s, job);
	OK(store_ckpt(s, job, attempt, 1, 0.5, 3000, 1, ck[0]));
	OK(storage_model_create(s, "digits", "first", "me", &err));
	return s;
}

static int64_t add_version(struct storage *s, const char *ckpt)
{
	struct storage_version_in in = {.model = "digits", .checkpoint = ckpt, .actor = "me"};
	int64_t n = 0;
	OK(storage_version_add(s, &in, &n, &err));
	return n;
}

static enum wasd_status set_alias(struct storage *s, const char *alias, int64_t version, int64_t expected, size_t moved)
{
	struct storage_names names = {0};
	struct storage_alias_in in =
		{.model = "digits", .alias = alias, .actor = "me", .reason = "why", .version = version, .expected = expected};
	enum wasd_status st = storage_alias_set(s, &in, &names, &err);
	CHECK_INT(names.n, moved);
	for (size_t i = 0; i < names.n; i++)
		CHECK_STR(names.items[i], "live");
	storage_names_done(&names);
	return st;
}

static void more_ckpts(struct storage *s)
{
	OK(store_ckpt(s, job, 1, 2, 0.6, 3000, 2, ck[1]));
	OK(store_ckpt(s, job, 1, 3, 0.7, 3000, 3, ck[2]));
}

static void versions(void)
{
	struct storage *s = store_with_ckpts();
	struct storage_model m = {0};
	struct storage_version v = {0};
	struct storage_version_list l = {0};
	struct storage_ckpt k = {0};
	FAILS(storage_model_create(s, "digits", "", "me", &err), WASD_EEXIST);
	FAILS(storage_model_create(s, "No Name", "", "me", &err), WASD_EINVAL);
	CHECK_INT(add_version(s, ck[0]), 1);
	more_ckpts(s);
	OK(storage_ckpt_get(s, ck[0], &k, &err)); /* kept: it is a version */
	storage_ckpt_done(&k);
	CHECK_INT(add_version(s, ck[1]), 2);
	FAILS(storage_ckpt_delete(s, ck[0], "me", &err), WASD_ESTATE);
	CHECK_STR(err.pointer, "digits version 1");
	OK(storage_model_get(s, "digits", &m, &err));
	CHECK(m.latest == 2 && !strcmp(m.note, "first") && !strncmp(m.id, "mdl_", 4));
	storage_model_done(&m);
	OK(storage_version_list(s, "digits", (struct storage_page){.limit = 1}, &l, &err));
	CHECK(l.n == 1 && l.items[0].version == 2 && l.next_cursor);
	struct storage_page next = {.limit = 1, .cursor = l.next_cursor};
	struct storage_version_list rest = {0};
	OK(storage_version_list(s, "digits", next, &rest, &err));
	CHECK(rest.n == 1 && rest.items[0].version == 1 && !rest.next_cursor);
	storage_version_list_done(&l);
	storage_version_list_done(&rest);
	/* Numbers are not given again: after the newest was deleted, after the model was, and after a restart. */
	OK(storage_version_delete(s, "digits", 2, "me", &err));
	FAILS(storage_version_get(s, "digits", 2, &v, &err), WASD_ENOTFOUND);
	CHECK_INT(add_version(s, ck[1]), 3);
	OK(storage_model_delete(s, "digits", "me", &err));
	FAILS(storage_model_get(s, "digits", &m, &err), WASD_ENOTFOUND);
	FAILS(storage_version_get(s, "digits", 3, &v, &err), WASD_ENOTFOUND);
	storage_close(s);
	s = open_store();
	OK(storage_model_create(s, "digits", NULL, "me", &err));
	CHECK_INT(add_version(s, ck[2]), 4);
	OK(storage_version_get(s, "digits", 4, &v, &err));
	CHECK(!strcmp(v.checkpoint, ck[2]) && !strcmp(v.created_by, "me"));
	OK(storage_ckpt_get(s, ck[2], &k, &err));
	CHECK_MSG(strstr(v.lineage, k.sha256) && strstr(v.lineage, job) && strstr(v.lineage, "\"job_name\":\"m\""), "%s",
	          v.lineage);
	storage_ckpt_done(&k);
	storage_version_done(&v);
	FAILS(storage_version_add(s, &(struct storage_version_in){.model = "none", .checkpoint = ck[2]}, &(int64_t){0},
	                          &err),
	      WASD_ENOTFOUND);
	OK(storage_ckpt_delete(s, ck[0], "me", &err)); /* its version is gone */
	end_store(s);
}

static void deploy(struct storage *s, const char *source, const char *ckpt)
{
	struct storage_deployment d = {0};
	struct storage_deployment_in in = {.name = "live", .source = source, .checkpoint = ckpt, .mode = "aom"};
	OK(storage_deployment_create(s, &in, &d, &err));
	storage_deployment_done(&d);
}

/* The checkpoint that it is to serve next, which the daemon then loads. */
static void live_becomes(struct storage *s, const char *ckpt, int64_t version)
{
	struct storage_deployment d = {0};
	OK(storage_deployment_get(s, "live", &d, &err));
	CHECK_STR(d.wanted, ckpt);
	CHECK_INT(d.version, version - 1);
	storage_deployment_done(&d);
	OK(storage_deployment_swap(s, "live", ckpt, &d, &err));
	CHECK_STR(d.checkpoint, ckpt);
	CHECK_INT(d.version, version);
	CHECK(strstr(d.source, "champion"));
	storage_deployment_done(&d);
}

static void live_is(struct storage *s, const char *ckpt, int64_t version)
{
	struct storage_deployment d = {0};
	OK(storage_deployment_get(s, "live", &d, &err));
	CHECK_STR(d.checkpoint, ckpt);
	CHECK_INT(d.version, version);
	storage_deployment_done(&d);
}

static void aliases(void)
{
	struct storage *s = store_with_ckpts();
	struct storage_alias_list l = {0};
	struct storage_alias_move_list h = {0};
	int64_t version;
	add_version(s, ck[0]);
	more_ckpts(s);
	add_version(s, ck[1]);
	FAILS(set_alias(s, "champion", 9, -1, 0), WASD_ENOTFOUND);
	FAILS(set_alias(s, "Not A Name", 1, -1, 0), WASD_EINVAL);
	FAILS(set_alias(s, "champion", 1, 2, 0), WASD_ESTATE);
	OK(set_alias(s, "champion", 1, 0, 0));
	OK(set_alias(s, "champion", 1, -1, 0)); /* nothing moves: no row in the history */
	deploy(s, "{\"model\":\"digits\",\"alias\":\"champion\"}", ck[0]);
	OK(set_alias(s, "champion", 2, 1, 1));
	live_becomes(s, ck[1], 2);
	OK(set_alias(s, "other", 1, -1, 0));
	live_is(s, ck[1], 2);
	OK(storage_alias_list(s, "digits", &l, &err));
	CHECK(l.n == 2 && !strcmp(l.items[0].alias, "champion") && l.items[0].version == 2);
	storage_alias_list_done(&l);
	FAILS(storage_version_delete(s, "digits", 1, "me", &err), WASD_ESTATE); /* "other" names it */
	FAILS(storage_alias_delete(s, "digits", "champion", "me", &err), WASD_ESTATE);
	CHECK_STR(err.pointer, "live");
	FAILS(storage_model_delete(s, "digits", "me", &err), WASD_ESTATE);
	OK(delete_deployment(s, "live", "me", &err));
	OK(storage_alias_delete(s, "digits", "champion", "me", &err));
	FAILS(storage_alias_get(s, "digits", "champion", &version, &err), WASD_ENOTFOUND);
	OK(storage_alias_history(s, "digits", "champion", (struct storage_page){.oldest_first = true}, &h, &err));
	static const int64_t want[][2] = {{0, 1}, {1, 2}, {2, 0}};
	CHECK_INT(h.n, 3);
	for (size_t i = 0; i < h.n && i < 3; i++)
		CHECK_MSG(h.items[i].previous == want[i][0] && h.items[i].version == want[i][1], "move %zu", i);
	CHECK(h.n == 3 && !strcmp(h.items[0].reason, "why") && !strcmp(h.items[0].actor, "me") && !h.items[2].reason);
	storage_alias_move_list_done(&h);
	end_store(s);
}

/* A deployment that cannot follow stops the alias: neither moves. */
static void a_move_is_whole(void)
{
	struct storage *s = store_with_ckpts();
	struct storage_profile p = {0};
	struct storage_mode_out out;
	int64_t version;
	char sha[WASD_SHA256_HEX];
	struct storage_profile_in in = {.checkpoint = ck[0],
	                                .name = "fast",
	                                .desire = "macs",
	                                .request = "{}",
	                                .dataset = "glyphs",
	                                .dataset_version = 1,
	                                .actor = "me"};
	add_version(s, ck[0]);
	OK(storage_profile_begin(s, &in, &p, NULL, &err));
	OK(storage_profile_searching(s, p.id, &err));
	wasd_sha256_of("x", 1, sha);
	OK(storage_profile_ready(s, p.id, "{}", NULL, "x", 1, sha, &err));
	storage_profile_done(&p);
	more_ckpts(s);
	add_version(s, ck[1]);
	OK(set_alias(s, "champion", 1, -1, 0));
	deploy(s, "{\"model\":\"digits\",\"alias\":\"champion\"}", ck[0]);
	OK(storage_deployment_state(s, "live", "loading", NULL, &err));
	OK(storage_deployment_state(s, "live", "ready", NULL, &err));
	OK(storage_deployment_mode(s, &(struct storage_mode_in){.name = "live", .mode = "dom:fast"}, &out, &err));
	FAILS(set_alias(s, "champion", 2, -1, 0), WASD_EBUSY);
	CHECK_MSG(strstr(err.msg, "deployment live follows the alias"), "%s", err.msg);
	live_is(s, ck[0], 1);
	OK(storage_alias_get(s, "digits", "champion", &version, &err));
	CHECK_INT(version, 1);
	end_store(s);
}

int main(void)
{
	TEST_RUN(versions);
	TEST_RUN(aliases);
	TEST_RUN(a_move_is_whole);
	TEST_END();
}
