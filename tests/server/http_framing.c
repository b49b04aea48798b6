/* Malformed requests are refused and cannot smuggle others in: framing, addresses, long heads and bodies. */
#include "http.h"

static const struct {
	const char *what, *request;
	int status;
	bool closes;
	int answers;
} cases[] = {
	{"a plain request keeps the connection", "GET /echo HTTP/1.1\r\n" H "\r\n", 200, false, 1},
	{"two requests in one packet are both answered", "GET /echo HTTP/1.1\r\n" H "\r\nGET /echo HTTP/1.1\r\n" H "\r\n",
     200, false, 2},
	{"a body with its length", "POST /echo HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\n{}", 200, false, 1},
	{"a chunked body", "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 200, false,
     1},
	{"chunk extensions and trailers",
     "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n2;a=b\r\n{}\r\n0\r\nX-T: 1\r\n\r\n", 200, false, 1},
	{"HTTP/1.0 closes", "GET /echo HTTP/1.0\r\n\r\n", 200, true, 1},
	{"Connection: close closes", "GET /echo HTTP/1.1\r\n" H "Connection: close\r\n\r\n", 200, true, 1},
	{"length and chunked, chunked first",
     "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" NEXT, 400, true, 1},
	{"length and chunked, length first",
     "POST /echo HTTP/1.1\r\n" H "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" NEXT, 400, true, 1},
	{"two equal lengths", "POST /echo HTTP/1.1\r\n" H "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}" NEXT, 400,
     true, 1},
	{"two differing lengths", "POST /echo HTTP/1.1\r\n" H "Content-Length: 2\r\nContent-Length: 60\r\n\r\n{}" NEXT, 400,
     true, 1},
	{"a length list", "POST /echo HTTP/1.1\r\n" H "Content-Length: 2, 2\r\n\r\n{}" NEXT, 400, true, 1},
	{"a blank before the colon", "POST /echo HTTP/1.1\r\n" H "Content-Length : 5\r\n\r\n" NEXT, 400, true, 1},
	{"an unknown coding", "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" NEXT, 501, true,
     1},
	{"identity coding", "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: identity\r\n\r\n" NEXT, 501, true, 1},
	{"chunked twice in one line",
     "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" NEXT, 501, true, 1},
	{"chunked on two lines",
     "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" NEXT, 400,
     true, 1},
	{"gzip, chunked", "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" NEXT, 501, true,
     1},
	{"chunked in HTTP/1.0", "POST /echo HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" NEXT, 400, true,
     1},
	{"a negative length", "POST /echo HTTP/1.1\r\n" H "Content-Length: -1\r\n\r\n" NEXT, 400, true, 1},
	{"a length with a plus", "POST /echo HTTP/1.1\r\n" H "Content-Length: +5\r\n\r\n" NEXT, 400, true, 1},
	{"a hexadecimal length", "POST /echo HTTP/1.1\r\n" H "Content-Length: 0x5\r\n\r\n" NEXT, 400, true, 1},
	{"a length of 2^64", "POST /echo HTTP/1.1\r\n" H "Content-Length: 18446744073709551616\r\n\r\n" NEXT, 413, true, 1},
	{"a length over the limit", "POST /echo HTTP/1.1\r\n" H "Content-Length: 262145\r\n\r\n", 413, true, 1},
	{"a length over the upload limit", "PUT /upload HTTP/1.1\r\n" H "Content-Length: 8388609\r\n\r\n", 413, true, 1},
	{"an empty length", "POST /echo HTTP/1.1\r\n" H "Content-Length: \r\n\r\n" NEXT, 400, true, 1},
	{"a chunk size that is no number",
     "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n0\r\n\r\n" NEXT, 400, true, 1},
	{"a chunk size of 17 digits",
     "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n11111111111111111\r\n{}\r\n0\r\n\r\n" NEXT, 413,
     true, 1},
	{"chunk data longer than said",
     "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n2\r\n{}{}{}\r\n0\r\n\r\n" NEXT, 400, true, 1},
	{"a negative chunk size",
     "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n" NEXT, 400, true, 1},
	{"no Host", "GET /echo HTTP/1.1\r\n\r\n", 400, true, 1},
	{"two Hosts", "GET /echo HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, true, 1},
	{"a Host with a slash", "GET /echo HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, true, 1},
	{"a header name with a blank", "GET /echo HTTP/1.1\r\n" H "X y: 1\r\n\r\n", 400, true, 1},
	{"a header without a colon", "GET /echo HTTP/1.1\r\n" H "nonsense\r\n\r\n", 400, true, 1},
	{"a header name with a bracket", "GET /echo HTTP/1.1\r\n" H "X(y): 1\r\n\r\n", 400, true, 1},
	{"an unknown expectation", "POST /echo HTTP/1.1\r\n" H "Expect: 200-ok\r\nContent-Length: 2\r\n\r\n{}", 400, true,
     1},
	{"HTTP/9.9", "GET /echo HTTP/9.9\r\n" H "\r\n", 505, true, 1},
	{"HTTP/2.0", "GET /echo HTTP/2.0\r\n" H "\r\n", 505, true, 1},
	{"a blank in the address", "GET /echo /smuggled HTTP/1.1\r\n" H "\r\n", 400, true, 1},
	{"no version at all", "GET /echo\r\n" H "\r\n", 400, true, 1},
	{"%00 in the path", "GET /echo%00b HTTP/1.1\r\n" H "\r\n", 400, true, 1},
	{"an encoded slash", "GET /a%2fb HTTP/1.1\r\n" H "\r\n", 400, true, 1},
	{"encoded dots", "GET /%2e%2e/etc HTTP/1.1\r\n" H "\r\n", 400, true, 1},
	{"encoded dots and slash", "GET /%2e%2e%2fetc HTTP/1.1\r\n" H "\r\n", 400, true, 1},
	{"plain dots", "GET /../etc HTTP/1.1\r\n" H "\r\n", 400, true, 1},
	{"dots and a semicolon", "GET /..;/etc HTTP/1.1\r\n" H "\r\n", 400, true, 1},
	{"a double slash", "GET //echo HTTP/1.1\r\n" H "\r\n", 400, true, 1},
	{"a backslash", "GET /a%5cb HTTP/1.1\r\n" H "\r\n", 400, true, 1},
	{"overlong UTF-8", "GET /%c0%af HTTP/1.1\r\n" H "\r\n", 400, true, 1},
	{"half an escape", "GET /a%2 HTTP/1.1\r\n" H "\r\n", 400, true, 1},
	{"an encoded newline", "GET /echo%0d%0aX:1 HTTP/1.1\r\n" H "\r\n", 400, true, 1},
	{"a NUL in the query", "GET /echo?v=%00 HTTP/1.1\r\n" H "\r\n", 400, true, 1},
	{"an unknown path", "GET /nothing HTTP/1.1\r\n" H "\r\n", 404, false, 1},
	{"a wrong method", "DELETE /echo HTTP/1.1\r\n" H "\r\n", 405, false, 1},
	{"a body where none is taken", "GET /echo HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\n{}" NEXT, 400, true, 1},
	{"an unknown content coding", "POST /echo HTTP/1.1\r\n" H "Content-Encoding: br\r\nContent-Length: 2\r\n\r\n{}",
     415, true, 1},
	{"not gzip though it says so", "POST /echo HTTP/1.1\r\n" H "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
     400, false, 1},
	{"an absolute address", "GET http://x/echo HTTP/1.1\r\n" H "\r\n", 200, false, 1},
	{"TRACE is not answered with what came", "TRACE /echo HTTP/1.1\r\n" H "Cookie: secret\r\n\r\n", 405, false, 1},
	{"OPTIONS *", "OPTIONS * HTTP/1.1\r\n" H "\r\n", 400, true, 1},
};

static void framing_cases(void)
{
	start(NULL);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		bool closed;
		int fd = dial();
		say(fd, cases[i].request);
		await(fd, "HTTP/1.", cases[i].closes ? INT_MAX : cases[i].answers, &closed);
		close(fd);
		int status = status_of(answer);
		CHECK_MSG(status == cases[i].status, "%s: status %d, want %d", cases[i].what, status, cases[i].status);
		CHECK_MSG(closed == cases[i].closes, "%s: %s", cases[i].what, closed ? "closed" : "not closed");
		/* When the library refuses a malformed length, it repeats its status line. Here it only matters that no
		 * handler ran. */
		CHECK_MSG(strstr(cases[i].what, "length") || answers(answer) == cases[i].answers, "%s: %d answers, want %d",
		          cases[i].what, answers(answer), cases[i].answers);
		CHECK_MSG(!strstr(answer, "secret"), "%s", cases[i].what);
	}
	CHECK_INT(atomic_load(&smuggled), 0);
	stop();
}

static const char *address;
static bool insecure;
static void other_address(struct http_config *c)
{
	c->listen = address;
	c->insecure = insecure;
}

/* There is no login, so addresses that other machines can reach need --insecure. Invalid ports are refused. */
static void addresses(void)
{
	static const struct {
		const char *listen;
		bool insecure;
		const char *refused;
	} rows[] = {
		{"127.0.0.1:0", false, NULL},
		{"127.3.2.1:0", false, NULL},
		{"localhost:0", false, NULL},
		{"0.0.0.0:0", false, "--insecure"},
		{":0", false, "--insecure"},
		{"[::]:0", false, "--insecure"},
		{"[::ffff:0.0.0.0]:0", false, "--insecure"},
		{"192.0.2.1:0", false, "--insecure"},
		{"0.0.0.0:0", true, NULL},
		{"127.0.0.1:99999", false, "0 to 65535"},
		{"127.0.0.1:65536", true, "0 to 65535"},
		{"127.0.0.1:+1", true, "0 to 65535"},
		{"127.0.0.1", true, "ADDR:PORT"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct http_config c;
		struct http *none;
		struct wasd_err err = {0};
		address = rows[i].listen;
		insecure = rows[i].insecure;
		if (!rows[i].refused) {
			start(other_address);
			stop();
			continue;
		}
		http_config_default(&c);
		other_address(&c);
		c.staging = P_tmpdir;
		CHECK_MSG(http_start(&c, &(struct exchange_app){.find = find, .handle = handle}, NULL, &none, &err) ==
		                  WASD_EINVAL &&
		              strstr(err.msg, rows[i].refused),
		          "%s: %s", address, err.msg);
	}
}

static void long_heads(void)
{
	start(NULL);
	static char req[80 << 10];
	bool closed;
	/* A path of 40 KiB, of 9 KiB; headers of 40 KiB, of 17 KiB; 2,000 headers. */
	static const struct {
		int uri, header, headers, status;
	} rows[] = {
		{40000, 0, 0, 414},  {9000, 0, 0, 414},   {10, 40000, 0, 431},
		{10, 17000, 0, 431}, {10, 10, 2000, 431}, {8000, 4000, 10, 404},
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		int n = sprintf(req, "GET /");
		memset(req + n, 'a', (size_t)rows[i].uri);
		n += rows[i].uri;
		n += sprintf(req + n, " HTTP/1.1\r\n" H "X-A: ");
		memset(req + n, 'b', (size_t)rows[i].header);
		n += rows[i].header;
		n += sprintf(req + n, "\r\n");
		for (int k = 0; k < rows[i].headers; k++)
			n += sprintf(req + n, "X-%d: 1\r\n", k);
		sprintf(req + n, "\r\n");
		int status = ask(req, 200, &closed);
		CHECK_MSG(status == rows[i].status && answers(answer) == 1, "row %zu: status %d, want %d; %d answers", i,
		          status, rows[i].status, answers(answer));
	}
	/* Lists that the library splits: queries and cookies within the limits and beyond. */
	static const struct {
		const char *before, *piece, *after;
		int bytes, status;
	} lists[] = {
		{"GET /nowhere?", "a=b&", "c HTTP/1.1\r\n" H "\r\n", 100, 404},
		{"GET /nowhere?", "a=b&", "c HTTP/1.1\r\n" H "\r\n", 2000, 400},
		{"GET /nowhere?", "a&", "c HTTP/1.1\r\n" H "\r\n", 8000, 400},
		{"GET /nowhere?", "a=b&", "c HTTP/1.1\r\n" H "\r\n", 17000, 414},
		{"GET /echo HTTP/1.1\r\n" H "Cookie: ", "a=b; ", "c=d\r\n\r\n", 3000, 200},
		{"GET /echo HTTP/1.1\r\n" H "Cookie: ", "a=b; ", "c=d\r\n\r\n", 15000, 200},
		{"GET /echo HTTP/1.1\r\n" H "Cookie: ", "a=b; ", "c=d\r\n\r\n", 17000, 431},
		{"GET /echo HTTP/1.1\r\n" H "Cookie: ", "a;", "c=d\r\n\r\n", 30000, 431},
	};
	for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
		int n = sprintf(req, "%s", lists[i].before);
		while (n < lists[i].bytes)
			n += sprintf(req + n, "%s", lists[i].piece);
		sprintf(req + n, "%s", lists[i].after);
		int status = ask(req, 200, &closed);
		CHECK_MSG(status == lists[i].status && answers(answer) == 1, "list %zu: status %d, want %d; %d answers", i,
		          status, lists[i].status, answers(answer));
		CHECK_MSG(status < 400 || status == 404 || closed, "list %zu: not closed", i);
	}
	/* A head that fills the connection's memory leaves no room for an answer; the client must get one
	 * nevertheless. */
	for (int size = 16000; size <= 65000;
	     size += (size < 47000 || size > 50000) && (size < 57000 || size > 58000) ? 2001 : 64) {
		int n = sprintf(req, "GET /echo HTTP/1.1\r\n" H "X-A: ");
		memset(req + n, 'b', (size_t)size);
		sprintf(req + n + size, "\r\n\r\n");
		int status = ask(req, 200, &closed);
		CHECK_MSG(status == (size < 16384 ? 200 : 431) && answers(answer) == 1,
		          "a head of %d bytes: status %d, %d answers", n + size + 4, status, answers(answer));
	}
	for (int headers = 100; headers <= 1600; headers += 25) {
		int n = sprintf(req, "GET /echo HTTP/1.1\r\n" H);
		for (int k = 0; k < headers; k++)
			n += sprintf(req + n, "a:\r\n");
		sprintf(req + n, "\r\n");
		int status = ask(req, 200, &closed);
		CHECK_MSG(status == (headers < 127 ? 200 : 431) && answers(answer) == 1, "%d headers: status %d, %d answers",
		          headers, status, answers(answer));
	}
	/* A megabyte of noise, and a TLS hello. */
	int fd = dial();
	for (size_t i = 0; i < sizeof req; i++)
		req[i] = (char)(i * 2654435761u >> 13);
	for (int i = 0; i < 16; i++)
		put(fd, req, sizeof req);
	take_answer(fd, 2000, &closed);
	CHECK(closed);
	close(fd);
	fd = dial();
	put(fd, "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03\n\n", 12);
	take_answer(fd, 2000, &closed);
	CHECK(closed);
	close(fd);
	CHECK_INT(ask("GET /echo HTTP/1.1\r\n" H "Connection: close\r\n\r\n", 2000, &closed), 200);
	stop();
}

static void chunked_over_the_limit(void)
{
	start(NULL);
	bool closed;
	int fd = dial();
	say(fd, "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n");
	/* 300,000 chunks of one byte. */
	static char many[6 * 1000];
	for (int i = 0; i < 1000; i++)
		memcpy(many + 6 * i, "1\r\nx\r\n", 6);
	for (int i = 0; i < 300; i++)
		put(fd, many, sizeof many);
	say(fd, "0\r\n\r\n");
	take_answer(fd, 3000, &closed);
	CHECK_INT(status_of(answer), 413);
	close(fd);
	stop();
}

int main(void)
{
	TEST_RUN(framing_cases);
	TEST_RUN(addresses);
	TEST_RUN(long_heads);
	TEST_RUN(chunked_over_the_limit);
	TEST_END();
}
