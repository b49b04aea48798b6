/* The table of messages: every row is sound, accepts a message made by it, and rejects every kind of violation, on both
 * ends, naming the message. */
#include "check.h"
#include "wasd/protocol.h"
#include <fcntl.h>
#include <math.h>
#include <sys/socket.h>
#include <unistd.h>

#define EACH_ROW(r) \
	int i_ = 0; \
	for (const struct wasd_message *r; (r = wasd_message_at(i_)); i_++)
#define EACH_MEMBER(m, r) \
	for (const struct wasd_member *m = (r)->members; m < (r)->members + WASD_MESSAGE_MEMBERS && m->name; m++)

/* A row of this program's own. The tests below walk it like those of the table. */
static const struct wasd_message own = {
	.type = "own",
	.roles = 1u << WASD_ROLE_TRAIN,
	.from = WASD_ENGINE,
	.payload = WASD_PAYLOAD_BULK,
	.members = {{.name = "n", .type = WASD_MEMBER_INTEGER, .min = 1, .max = 9}},
};
const struct wasd_message *const wasd_message_more[] = {&own, NULL};

static enum wasd_role any_role(const struct wasd_message *r)
{
	for (int role = 0; role < WASD_ROLES; role++)
		if (r->roles & 1u << role)
			return (enum wasd_role)role;
	return WASD_ROLES;
}

/* A value that the row allows. */
static cJSON *good(const struct wasd_member *m)
{
	char text[300];
	cJSON *list;
	switch (m->type) {
	case WASD_MEMBER_STRING:
		memset(text, 'a', sizeof text);
		text[(size_t)m->min] = 0;
		return cJSON_CreateString(m->choices ? m->choices[0] : text);
	case WASD_MEMBER_INTEGER:
		return cJSON_CreateNumber(m->min);
	case WASD_MEMBER_NUMBER:
		return cJSON_CreateNumber(0.5);
	case WASD_MEMBER_BOOLEAN:
		return cJSON_CreateTrue();
	case WASD_MEMBER_OBJECT:
		return cJSON_CreateObject();
	case WASD_MEMBER_ARRAY:
		list = cJSON_CreateArray();
		for (int i = 0; i < m->min; i++)
			cJSON_AddItemToArray(list, cJSON_CreateNumber(1));
		return list;
	case WASD_MEMBER_ANY:
		return cJSON_CreateFalse();
	}
	return NULL;
}

static cJSON *example(const struct wasd_message *r)
{
	cJSON *j = wasd_message(r->type, "");
	EACH_MEMBER(m, r) cJSON_AddItemToObject(j, m->name, good(m));
	if (r->payload == WASD_PAYLOAD_FILE && !wasd_json_get(j, "bytes"))
		cJSON_AddNumberToObject(j, "bytes", 1);
	return j;
}

static bool file_of(const struct wasd_message *r)
{
	return r->payload == WASD_PAYLOAD_FILE;
}

static void test_rows_are_sound(void)
{
	EACH_ROW(r)
	{
		CHECK_MSG(r->type && *r->type && r->roles && r->roles < 1u << WASD_ROLES, "row %d", i_);
		CHECK_MSG(wasd_message_find(any_role(r), r->from, r->type) == r, "%s is there twice for one role and direction",
		          r->type);
		CHECK_MSG(!r->members[WASD_MESSAGE_MEMBERS - 1].name, "%s: the members are not ended", r->type);
		EACH_MEMBER(m, r)
		{
			CHECK_MSG(m->max == 0 || m->min <= m->max, "%s/%s: an empty range", r->type, m->name);
			CHECK_MSG(!m->choices || (m->type == WASD_MEMBER_STRING && m->choices[0]), "%s/%s: choices", r->type,
			          m->name);
			CHECK_MSG(strcmp(m->name, "type"), "%s: \"type\" is every row's", r->type);
			EACH_MEMBER(other, r)
			CHECK_MSG(other == m || strcmp(other->name, m->name), "%s/%s stands twice", r->type, m->name);
		}
		if (r->payload == WASD_PAYLOAD_FILE) {
			bool bytes = false;
			EACH_MEMBER(m, r) bytes |= !strcmp(m->name, "bytes") && !m->optional;
			CHECK_MSG(bytes, "%s: a file without \"bytes\"", r->type);
		}
		if (!r->answer)
			continue;
		const struct wasd_message *a = wasd_message_find(any_role(r),
		                                                 r->from == WASD_DAEMON ? WASD_ENGINE : WASD_DAEMON, r->answer);
		CHECK_MSG(a, "%s: nothing of the other side is called %s", r->type, r->answer);
		bool re = false;
		if (a)
			EACH_MEMBER(m, a) re |= !strcmp(m->name, "re") && !m->optional;
		CHECK_MSG(re, "%s answers %s without \"re\"", r->answer, r->type);
	}
	CHECK(i_ > 1 && wasd_message_at(i_ - 1) == &own && !wasd_message_at(-1) && !wasd_message_at(i_ + 1));
}

static void refused(const struct wasd_message *r, const cJSON *j, size_t inline_bytes, bool file, const char *member,
                    const char *why)
{
	struct wasd_err e = {0};
	char pointer[64];
	CHECK_MSG(wasd_message_check(r, j, inline_bytes, file, &e) == WASD_ECORRUPT, "%s with %s %s", r->type, member, why);
	CHECK_MSG(strstr(e.msg, r->type), "\"%s\" does not name %s", e.msg, r->type);
	snprintf(pointer, sizeof pointer, "/%s", member);
	if (*member)
		CHECK_STR(e.pointer, pointer);
}

/* Replaces or (NULL) removes one member of an example and expects an error that names it. */
static void broken_member(const struct wasd_message *r, const struct wasd_member *m, cJSON *value, const char *why)
{
	cJSON *j = example(r);
	cJSON_DeleteItemFromObjectCaseSensitive(j, m->name);
	if (value)
		cJSON_AddItemToObject(j, m->name, value);
	refused(r, j, 0, file_of(r), m->name, why);
	cJSON_Delete(j);
}

static void test_every_row_takes_what_it_says(void)
{
	EACH_ROW(r)
	{
		struct wasd_err e = {0};
		cJSON *j = example(r);
		CHECK_MSG(wasd_message_check(r, j, 0, file_of(r), &e) == WASD_OK, "%s: %s", r->type, e.msg);
		EACH_MEMBER(m, r) if (m->optional) cJSON_DeleteItemFromObjectCaseSensitive(j, m->name);
		CHECK_MSG(wasd_message_check(r, j, 0, file_of(r), &e) == WASD_OK, "%s without what is optional: %s", r->type,
		          e.msg);
		cJSON_AddStringToObject(j, "of_a_newer_version", "x");
		CHECK_MSG(wasd_message_check(r, j, 0, file_of(r), &e) == WASD_OK, "%s with a member that it does not know: %s",
		          r->type, e.msg);
		cJSON_Delete(j);
	}
}

static void test_every_row_refuses_the_rest(void)
{
	EACH_ROW(r)
	{
		EACH_MEMBER(m, r)
		{
			if (!m->optional)
				broken_member(r, m, NULL, "left out");
			if (m->type == WASD_MEMBER_ANY)
				continue;
			broken_member(r, m, m->type == WASD_MEMBER_STRING ? cJSON_CreateNumber(1) : cJSON_CreateString("1"),
			              "of another type");
			if (!m->null_ok)
				broken_member(r, m, cJSON_CreateNull(), "null");
			if (m->type == WASD_MEMBER_INTEGER)
				broken_member(r, m, cJSON_CreateNumber(m->min + 0.5), "not whole");
			if (m->type == WASD_MEMBER_INTEGER)
				broken_member(r, m, cJSON_CreateNumber(m->min - 1), "below its range");
			if (m->type == WASD_MEMBER_INTEGER)
				broken_member(r, m, cJSON_CreateNumber(m->max + 2), "above its range");
			if (m->choices)
				broken_member(r, m, cJSON_CreateString("surprise"), "none of its choices");
			if (m->type == WASD_MEMBER_STRING && m->min > 0)
				broken_member(r, m, cJSON_CreateString(""), "empty");
			if (m->type == WASD_MEMBER_ARRAY && m->min > 0)
				broken_member(r, m, cJSON_CreateArray(), "too short");
		}
		cJSON *j = example(r);
		if (r->payload == WASD_PAYLOAD_FILE)
			refused(r, j, 0, false, "", "without its file");
		if (r->payload == WASD_PAYLOAD_NONE)
			refused(r, j, 0, true, "", "with a file");
		if (r->payload != WASD_PAYLOAD_BULK)
			refused(r, j, 1, file_of(r), "", "with bytes behind it");
		else
			refused(r, j, 1, true, "", "with bytes and a file");
		cJSON_DeleteItemFromObjectCaseSensitive(j, "bytes");
		if (r->payload != WASD_PAYLOAD_NONE)
			refused(r, j, 0, true, "bytes", "a file of no size");
		cJSON_Delete(j);
	}
}

static void pair(struct wasd_wire **daemon, struct wasd_wire **engine, enum wasd_role role)
{
	int sv[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv))
		abort();
	CHECK_INT(wasd_wire_create(sv[0], daemon, NULL), WASD_OK);
	CHECK_INT(wasd_wire_create(sv[1], engine, NULL), WASD_OK);
	if (role < WASD_ROLES)
		wasd_wire_speak(*daemon, role, WASD_DAEMON);
}

/* The same errors on the wire: an end that checks sends nothing broken, and accepts nothing broken from an end that
 * does not. */
static void test_both_ends_refuse(void)
{
	static const struct {
		const char *json, *says;
	} broken[] = {
		{"{\"type\":\"surprise\"}", "unknown message surprise"},
		{"{\"type\":\"start\"}", "unknown message start"},   /* a message of the other direction */
		{"{\"type\":\"loaded\"}", "unknown message loaded"}, /* a message of another role */
		{"{\"type\":\"metrics\",\"step\":1,\"values\":{}}", "message metrics: \"epoch\""},
		{"{\"type\":\"log\",\"level\":\"loud\",\"text\":\"x\"}",
	     "message log: \"level\" must be debug, info, warn or error"},
		{"{\"type\":\"done\",\"reason\":\"done\",\"epoch\":-1}",
	     "message done: \"epoch\" must be a whole number from 0 to 9007199254740991"},
	};
	for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
		struct wasd_wire *d, *e;
		struct wasd_err err = {0};
		struct wasd_frame m = {.fd = -1};
		cJSON *j = cJSON_Parse(broken[i].json);
		pair(&d, &e, WASD_ROLE_TRAIN);
		wasd_wire_speak(e, WASD_ROLE_TRAIN, WASD_ENGINE);
		CHECK_INT(wasd_wire_send(e, j, NULL, 0, -1, NULL, &err), WASD_EINVAL);
		CHECK_MSG(strstr(err.msg, broken[i].says), "\"%s\", want \"%s\"", err.msg, broken[i].says);
		CHECK_INT(wasd_wire_recv(d, 0, &m, NULL), WASD_EBUSY); /* nothing was sent */
		wasd_wire_destroy(d);
		wasd_wire_destroy(e);

		pair(&d, &e, WASD_ROLE_TRAIN);
		CHECK_INT(wasd_wire_send(e, j, NULL, 0, -1, NULL, &err), WASD_OK);
		CHECK_INT(wasd_wire_recv(d, 1000, &m, &err), WASD_ECORRUPT);
		CHECK_MSG(strstr(err.msg, broken[i].says), "\"%s\", want \"%s\"", err.msg, broken[i].says);
		CHECK_INT(wasd_wire_recv(d, 1000, &m, &err), WASD_ECORRUPT); /* and the stream is closed */
		wasd_wire_destroy(d);
		wasd_wire_destroy(e);
		cJSON_Delete(j);
	}
}

static void test_every_row_travels(void)
{
	EACH_ROW(r)
	{
		struct wasd_wire *d, *e;
		struct wasd_frame m = {.fd = -1};
		struct wasd_payload p;
		int fd = -1;
		pair(&d, &e, any_role(r));
		wasd_wire_speak(e, any_role(r), WASD_ENGINE);
		cJSON *j = example(r);
		int64_t more = 0;
		wasd_json_i64(j, "profile_bytes", &more);
		if (file_of(r))
			CHECK_INT(wasd_memfd_sealed("t", NULL, (size_t)(1 + more), &fd, NULL), WASD_OK);
		CHECK_INT(wasd_wire_send(r->from == WASD_DAEMON ? d : e, j, NULL, 0, fd, NULL, NULL), WASD_OK);
		CHECK_INT(wasd_wire_recv(r->from == WASD_DAEMON ? e : d, 1000, &m, NULL), WASD_OK);
		if (m.type) {
			CHECK_STR(m.type, r->type);
			CHECK_INT(wasd_frame_payload(&m, &p, NULL), WASD_OK);
			CHECK_INT(p.len, file_of(r) ? 1 + more : 0);
			wasd_payload_done(&p);
		}
		wasd_frame_done(&m);
		if (fd >= 0)
			close(fd);
		cJSON_Delete(j);
		wasd_wire_destroy(d);
		wasd_wire_destroy(e);
	}
}

/* Payloads inline, as a file, and a file of another size than its message says. */
static void test_payloads(void)
{
	struct wasd_payload p;
	struct wasd_err err;
	int fd;
	struct wasd_frame m = {.fd = -1, .type = "infer", .bin = (char *)(uintptr_t) "abc", .bin_len = 3};
	CHECK_INT(wasd_frame_payload(&m, &p, NULL), WASD_OK);
	CHECK(p.len == 3 && p.data == m.bin && !p.map);
	wasd_payload_done(&p);
	CHECK_INT(wasd_memfd_sealed("t", "abcd", 4, &fd, NULL), WASD_OK);
	static const struct {
		const char *json;
		enum wasd_status want;
		size_t len;
	} rows[] = {
		{"{\"bytes\":4}", WASD_OK, 4},
		{"{\"bytes\":3,\"profile_bytes\":1}", WASD_OK, 4},
		{"{\"bytes\":5}", WASD_ECORRUPT, 0},
		{"{\"bytes\":3}", WASD_ECORRUPT, 0},
		{"{\"bytes\":0}", WASD_ECORRUPT, 0},
		{"{}", WASD_ECORRUPT, 0},
		{"{\"bytes\":4,\"profile_bytes\":-1}", WASD_ECORRUPT, 0},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		m = (struct wasd_frame){.fd = fd, .type = "infer", .json = cJSON_Parse(rows[i].json)};
		CHECK_INT(wasd_frame_payload(&m, &p, &err), rows[i].want);
		if (rows[i].want == WASD_OK)
			CHECK(p.len == rows[i].len && !memcmp(p.data, "abcd", 4));
		wasd_payload_done(&p);
		cJSON_Delete(m.json);
	}
	close(fd);
}

/* A message has all its members or is not made: each allocation fails once. */
static void test_a_message_is_whole(void)
{
	for (uint64_t nth = 1; nth < 100; nth++) {
		cJSON *inner = cJSON_CreateObject();
		wasd_mem_fail_at(nth);
		cJSON *j = wasd_message("load", "bundle:s bytes:i share:d on:b info:j gone:?s none:?j", "b", (int64_t)7, 0.5, 1,
		                        inner, (const char *)NULL, (cJSON *)NULL);
		wasd_mem_fail_at(0);
		if (!j)
			continue;
		char *text = wasd_json_print(j);
		CHECK_STR(text, "{\"type\":\"load\",\"bundle\":\"b\",\"bytes\":7,\"share\":0.5,\"on\":true,\"info\":{}}");
		wasd_free(text);
		cJSON_Delete(j);
		return;
	}
	CHECK_MSG(false, "no number of allocations is enough");
}

int main(void)
{
	TEST_RUN(test_rows_are_sound);
	TEST_RUN(test_every_row_takes_what_it_says);
	TEST_RUN(test_every_row_refuses_the_rest);
	TEST_RUN(test_both_ends_refuse);
	TEST_RUN(test_every_row_travels);
	TEST_RUN(test_payloads);
	TEST_RUN(test_a_message_is_whole);
	TEST_END();
}
