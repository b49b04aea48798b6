/* tests/api/mutations.c - valid bodies with a few bytes changed, cut, doubled or swapped: every answer is a success
 * or a refusal that blames the client, in strict JSON with a code that the error page explains. The sanitizers check
 * memory accesses. */
#include "harness.h"

static uint64_t state = 88172645463325252u;

static uint64_t rnd(uint64_t n) /* xorshift64: the same mutations in every run */
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % n;
}

/* Bytes with a meaning to one of the parsers, and a few that have none. */
static const char alphabet[] = "{}[]\",:\\/0123456789.eE+-truefalsn \r\n\t=;-_~\x00\x01\x7f\x80\xc3\xa9\xff";

/* Replaces a value: one digit, quoted word or word becomes something of another type or size. */
static size_t replace_value(char *b, size_t n, size_t room)
{
	static const char *const values[] = {"-1",  "1e300",       "0",     "null",    "[]", "{}",     "\"x\"", "true",
	                                     "1.5", "99999999999", "[1,2]", "\"aom\"", "-0", "1e-400", "\"\""};
	size_t at = rnd(n);
	while (at < n && !(b[at] >= '0' && b[at] <= '9') && b[at] != '"')
		at++;
	size_t end = at + 1;
	if (at >= n)
		return n;
	if (b[at] == '"') {
		while (end < n && b[end] != '"')
			end++;
		if (end < n)
			end++;
	} else {
		while (end < n && ((b[end] >= '0' && b[end] <= '9') || b[end] == '.'))
			end++;
	}
	const char *v = values[rnd(API_LEN(values))];
	size_t len = strlen(v);
	if (n - (end - at) + len > room)
		return n;
	memmove(b + at + len, b + end, n - end);
	memcpy(b + at, v, len);
	return n - (end - at) + len;
}

static size_t mutate(char *b, size_t n, size_t room)
{
	if (rnd(2))
		return replace_value(b, n, room);
	for (uint64_t k = 1 + rnd(4); k-- && n;) {
		size_t at = rnd(n), len = 1 + rnd(8);
		if (len > n - at)
			len = n - at;
		switch (rnd(5)) {
		case 0:
			b[at] = alphabet[rnd(sizeof alphabet - 1)];
			break;
		case 1:
			memmove(b + at, b + at + len, n - at - len), n -= len;
			break;
		case 2:
			if (n + len > room)
				break;
			memmove(b + at + len, b + at, n - at), n += len; /* the same bytes twice */
			break;
		case 3:
			b[at] = (char)(b[at] ^ (1 << rnd(8)));
			break;
		default: {
			size_t other = rnd(n);
			char c = b[at];
			b[at] = b[other], b[other] = c;
		}
		}
	}
	return n;
}

static const struct {
	const char *method, *url, *type, *body;
	int rounds;
} seeds[] = {
	{"POST", "/v1/jobs?dry_run=true", "application/json",
     "{\"dataset\":\"data\",\"model\":{\"arch\":\"vgg16\",\"head\":4096},\"was\":{\"transforms\":[{\"type\":\"translate\",\"x\":0.3,\"weight\":2},"
     "{\"type\":\"resized_crop\",\"scale\":[0.8,1.0]}],\"layers\":[\"conv1\"],\"draw\":\"epoch\"},\"train\":{\"epochs\":3,\"optimizer\":{\"type\":\"sgd\",\"lr\":1e-2,\"nesterov\":true},"
     "\"augment\":[\"flip\",{\"type\":\"crop\",\"pad\":4}],\"early_stop\":{\"patience\":3}},\"eval\":{\"modes\":[\"aom\"]},\"labels\":{\"a\":\"\\u00e9\"}}",
     6000},
	{"POST", "/v2/models/live/infer", "application/json",
     "{\"id\":\"1\",\"inputs\":[{\"name\":\"input\",\"shape\":[2,1,2,2],\"datatype\":\"FP32\",\"data\":[[[[0,1],[2,3]]],[[[4,5],[6,-7.5e-3]]]]}],"
     "\"outputs\":[{\"name\":\"probs\",\"parameters\":{\"binary_data\":false}}],\"parameters\":{\"was_mode\":\"dom\"}}",
     6000},
	{"POST", "/v1/deployments/live/classify?k=2", "multipart/form-data; boundary=Bx",
     "--Bx\r\nContent-Disposition: form-data; name=\"a\"; filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\n\x89PNG\r\n\x1a\n..\r\n"
     "--Bx\r\nContent-Disposition: form-data; name=\"b\"\r\n\r\n\x89PNG\r\n\x1a\n....\r\n--Bx--\r\n",
     6000},
	{"POST", "/v1/deployments/live/classify", "application/json",
     "{\"images\":[\"iVBORw0KGgpB\",\"iVBORw0KGgpBQUFB\"]}", 3000},
	{"POST", "/v1/checkpoints/CKPT/profiles", "application/json",
     "{\"name\":\"a\",\"desire\":\"macs\",\"budget\":0.7,\"evaluations\":30,\"dataset\":{\"name\":\"data\",\"version\":1}}",
     2000},
	{"POST", "/v1/sweeps?dry_run=true", "application/json",
     "{\"name\":\"s\",\"template\":{\"dataset\":\"data\",\"model\":{\"arch\":\"resnet18\"},\"train\":{\"augment\":[\"flip\"]}},\"space\":{\"/train/optimizer/lr\":{\"min\":0.001,"
     "\"max\":0.1,\"log\":true},\"/train/augment/0\":{\"values\":[\"flip\",{\"type\":\"crop\",\"pad\":2}]}},\"search\":{\"method\":\"asha\",\"max_trials\":3,\"divisor\":2,\"max_epochs\":4,\"seed\":7}}",
     3000},
	{"PUT", "/v1/deployments/live/mode", "application/json", "{\"mode\":\"dom\",\"reason\":\"because\"}", 1000},
};

static void mutations(void)
{
	char id[64], ckpt[32], body[300], url[120];
	setup();
	make_dataset("data", test_info);
	make_job("resnet18", id);
	run_job(id, true, ckpt);
	snprintf(body, sizeof body, "{\"name\":\"live\",\"source\":{\"job\":\"%s\"}}", id);
	expect(201, "POST", "/v1/deployments", body);
	for (size_t i = 0; i < API_LEN(seeds); i++) {
		int good = 0, refused = 0, by_content = 0;
		const char *hole = strstr(seeds[i].url, "CKPT");
		snprintf(url, sizeof url, "%.*s%s%s", hole ? (int)(hole - seeds[i].url) : 100, seeds[i].url, hole ? ckpt : "",
		         hole ? hole + 4 : "");
		for (int round = 0; round < seeds[i].rounds; round++) {
			size_t n = strlen(seeds[i].body), room = n + 64;
			char *b = wasd_malloc(room);
			memcpy(b, seeds[i].body, n);
			n = mutate(b, n, room);
			char *exact = wasd_malloc(n ? n : 1); /* an exact block, so that the sanitizer sees a read past the end */
			memcpy(exact, b, n);
			struct answer a = send_with(seeds[i].method, url, exact, n,
			                            (struct extra){.headers = {"content-type", seeds[i].type, NULL}});
			bool ok = a.r.status == 200 || a.r.status == 202;
			good += ok, refused += !ok;
			by_content += !ok && strcmp(str(&a, "code"), "bad_json") && strcmp(str(&a, "code"), "bad_multipart");
			CHECK_MSG(ok || ((a.r.status == 400 || a.r.status == 409 || a.r.status == 413 || a.r.status == 415 ||
			                  a.r.status == 422) &&
			                 api_error_find(str(&a, "code"))),
			          "%s: status %d for %.*s", seeds[i].url, a.r.status, (int)n, exact);
			answer_done(&a);
			wasd_free(exact);
			wasd_free(b);
		}
		printf("# %s: %d refused, %d of them by content, %d taken\n", seeds[i].url, refused, by_content, good);
		CHECK(refused > 0 && good > 0);
	}
	teardown();
}

int main(void)
{
	TEST_RUN(mutations);
	TEST_END();
}
