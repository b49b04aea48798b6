/* Replies: bodies, ranges, compression; and uploads to disk. */
#include "http.h"
#include "http/coding.h"

/* The bytes of /big in each coding, with its own name in the entity tag. */
static void compressed(void)
{
	static const enum coding codings[] = {CODING_ZSTD, CODING_GZIP, CODING_DEFLATE};
	bool closed;
	char req[200], plain[sizeof answer], want[60];
	CHECK_INT(ask("GET /big HTTP/1.1\r\n" H "Connection: close\r\n\r\n", 2000, &closed), 200);
	strcpy(plain, body_of());
	for (size_t i = 0; i < sizeof codings / sizeof codings[0]; i++) {
		struct wasd_buf out = {0};
		struct wasd_err err = {0};
		int n = sprintf(req, "GET /big HTTP/1.1\r\n" H "Accept-Encoding: %s\r\nConnection: close\r\n\r\n",
		                coding_name(codings[i]));
		int fd = dial();
		put(fd, req, (size_t)n);
		size_t got = take_answer(fd, 2000, &closed);
		close(fd);
		CHECK_INT(status_of(answer), 200);
		snprintf(want, sizeof want, "Content-Encoding: %s\r\n", coding_name(codings[i]));
		CHECK_MSG(strstr(answer, want) && strstr(answer, "Vary: Accept-Encoding\r\n"), "%s", answer);
		CHECK_INT(coding_unpack(codings[i], body_of(), got - (size_t)(body_of() - answer), 1 << 20, &out, &err),
		          WASD_OK);
		CHECK_STR(wasd_buf_cstr(&out), plain);
		wasd_buf_done(&out);
	}
}

static void replies(void)
{
	start(NULL);
	bool closed;
	CHECK_INT(ask("GET /echo?v=a%20b+c HTTP/1.1\r\n" H
	              "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nConnection: close\r\n\r\n",
	              2000, &closed),
	          200);
	CHECK_STR(body_of(), "a b c");
	CHECK(strstr(answer, "X-Request-Id: req_") != NULL);
	CHECK(strstr(answer, "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01") != NULL);
	char etag[80] = "";
	const char *e = strstr(answer, "ETag: ");
	CHECK(e && sscanf(e, "ETag: %79s", etag) == 1);
	char req[300];
	snprintf(req, sizeof req,
	         "GET /echo?v=a%%20b+c HTTP/1.1\r\n" H "If-None-Match: \"zz\", %s\r\nConnection: close\r\n\r\n", etag);
	CHECK_INT(ask(req, 2000, &closed), 304);
	CHECK_STR(body_of(), "");
	CHECK_INT(ask("HEAD /echo?v=abc HTTP/1.1\r\n" H "Connection: close\r\n\r\n", 2000, &closed), 200);
	CHECK(strstr(answer, "Content-Length: 3") != NULL);
	CHECK_STR(body_of(), "");
	CHECK_INT(ask("GET /big HTTP/1.1\r\n" H "Accept-Encoding: gzip;q=0.5, br\r\nConnection: close\r\n\r\n", 2000,
	              &closed),
	          200);
	CHECK(strstr(answer, "Content-Encoding: gzip") != NULL);
	CHECK_INT(ask("GET /big HTTP/1.1\r\n" H "Accept-Encoding: gzip;q=0\r\nConnection: close\r\n\r\n", 2000, &closed),
	          200);
	CHECK(!strstr(answer, "Content-Encoding"));
	CHECK(strstr(answer, "Vary: Accept-Encoding") != NULL);
	compressed();
	static const struct {
		const char *range, *if_range, *content_range;
		int status, length;
	} ranges[] = {
		{NULL, NULL, NULL, 200, 1000},
		{"bytes=0-9", NULL, "bytes 0-9/1000", 206, 10},
		{"bytes=990-", NULL, "bytes 990-999/1000", 206, 10},
		{"bytes=-5", NULL, "bytes 995-999/1000", 206, 5},
		{"bytes=990-2000", NULL, "bytes 990-999/1000", 206, 10},
		{"bytes=-5000", NULL, "bytes 0-999/1000", 206, 1000},
		{"bytes=1000-", NULL, "bytes */1000", 416, -1},
		{"bytes=5-2", NULL, NULL, 200, 1000},
		{"bytes=0-1,5-6", NULL, NULL, 200, 1000},
		{"lines=1-2", NULL, NULL, 200, 1000},
		{"bytes=99999999999999999999-", NULL, "bytes */1000", 416, -1},
		{"bytes=0-9", "\"f1\"", "bytes 0-9/1000", 206, 10},
		{"bytes=0-9", "\"other\"", NULL, 200, 1000},
	};
	for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
		int n = sprintf(req, "GET /file HTTP/1.1\r\n" H "Connection: close\r\n");
		if (ranges[i].range)
			n += sprintf(req + n, "Range: %s\r\n", ranges[i].range);
		if (ranges[i].if_range)
			n += sprintf(req + n, "If-Range: %s\r\n", ranges[i].if_range);
		sprintf(req + n, "\r\n");
		int fd = dial();
		put(fd, req, strlen(req));
		size_t got = take_answer(fd, 2000, &closed);
		close(fd);
		int length = (int)(got - (size_t)(body_of() - answer));
		CHECK_MSG(status_of(answer) == ranges[i].status && (length == ranges[i].length || ranges[i].length < 0),
		          "row %zu: status %d, %d bytes", i, status_of(answer), length);
		CHECK_MSG(!ranges[i].content_range || strstr(answer, ranges[i].content_range), "row %zu: %s", i, answer);
		if (ranges[i].status == 206) {
			int from;
			sscanf(ranges[i].content_range, "bytes %d", &from);
			CHECK_INT((unsigned char)body_of()[0], from % 251);
		}
	}
	/* A gzip request body ("{}"), and a decompression bomb. */
	static const unsigned char packed[] = {0x1f, 0x8b, 8, 0,    0,    0,    0,    0, 0, 3, 0xab,
	                                       0xae, 5,    0, 0x43, 0xbf, 0xa6, 0xa3, 2, 0, 0, 0};
	int fd = dial();
	int n = sprintf(req,
	                "POST /echo HTTP/1.1\r\n" H
	                "Content-Encoding: gzip\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n",
	                sizeof packed);
	put(fd, req, (size_t)n);
	put(fd, packed, sizeof packed);
	take_answer(fd, 2000, &closed);
	close(fd);
	CHECK_INT(status_of(answer), 200);
	CHECK_STR(body_of(), "{}");
	CHECK_INT(ask("POST /echo HTTP/1.1\r\n" H
	              "Content-Encoding: br\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
	              2000, &closed),
	          415);
	CHECK(strstr(answer, "\r\nAccept-Encoding: gzip, deflate, zstd\r\n") != NULL);
	stop();
}

static void uploads(void)
{
	start(NULL);
	bool closed;
	size_t n = 3 << 20;
	char *data = malloc(n), hex[WASD_SHA256_HEX], want[100], req[200];
	for (size_t i = 0; i < n; i++)
		data[i] = (char)(i * 2654435761u >> 17);
	wasd_sha256_of(data, n, hex);
	for (int chunked = 0; chunked < 2; chunked++) {
		int fd = dial();
		int k = chunked ?
		            sprintf(req,
		                    "PUT /upload HTTP/1.1\r\n" H "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n") :
		            sprintf(req, "PUT /upload HTTP/1.1\r\n" H "Connection: close\r\nContent-Length: %zu\r\n\r\n", n);
		put(fd, req, (size_t)k);
		for (size_t off = 0, piece; off < n; off += piece) {
			piece = n - off < 1000 + off % 70001 ? n - off : 1000 + off % 70001;
			if (chunked) {
				k = sprintf(req, "%zx\r\n", piece);
				put(fd, req, (size_t)k);
			}
			put(fd, data + off, piece);
			if (chunked)
				say(fd, "\r\n");
		}
		if (chunked)
			say(fd, "0\r\n\r\n");
		take_answer(fd, 5000, &closed);
		close(fd);
		CHECK_INT(status_of(answer), 201);
		snprintf(want, sizeof want, "%zu %s", n, hex);
		CHECK_STR(body_of(), want);
	}
	/* An upload that is cut off leaves no file (stop() checks). */
	int fd = dial();
	int k = sprintf(req, "PUT /upload HTTP/1.1\r\n" H "Content-Length: %zu\r\n\r\n", n);
	put(fd, req, (size_t)k);
	put(fd, data, n / 2);
	close(fd);
	/* A chunked upload beyond the limit of 8 MiB. */
	fd = dial();
	k = sprintf(req, "PUT /upload HTTP/1.1\r\n" H "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n");
	put(fd, req, (size_t)k);
	for (int i = 0; i < 3; i++) {
		k = sprintf(req, "%zx\r\n", n);
		put(fd, req, (size_t)k);
		put(fd, data, n);
		say(fd, "\r\n");
	}
	say(fd, "0\r\n\r\n");
	take_answer(fd, 5000, &closed);
	close(fd);
	CHECK_INT(status_of(answer), 413);
	free(data);
	stop();
}

int main(void)
{
	TEST_RUN(replies);
	TEST_RUN(uploads);
	TEST_END();
}
