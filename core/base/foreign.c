/* base/foreign.c - see wasd/foreign.h. */
#include "wasd/foreign.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define TAKEN "" /* this reader accepts the format: it is not foreign */
#define ARCHIVE "send a tar or zip archive of pictures in train/CLASS/ and test/CLASS/ instead"
#define IDX "send the four IDX files, or pictures in train/CLASS/ and test/CLASS/, instead"
#define SAFETENSORS "write the state_dict with safetensors.torch.save_file and send that instead"
#define CONVERT "convert it to PNG or JPEG"
#define UNPACK "unpack it and send what is inside"
#define UTF8 "save it as UTF-8 without a byte order mark"

static const char *const usual[WASD_READERS] = {
	[WASD_READS_DATASET] = ARCHIVE,
	[WASD_READS_WEIGHTS] = "send a safetensors file instead",
	[WASD_READS_IMAGE] = "send PNG or JPEG instead",
	[WASD_READS_JSON] = "send JSON text instead",
};

/* A zip is recognised by the name of its first member, other formats by bytes at an offset. The first match wins, so
 * special formats come before general ones. */
static const struct kind {
	const char *what;
	const char *magic;
	size_t at, len;
	const char *member;            /* suffix of the first member's name, in a zip */
	const char *way[WASD_READERS]; /* advice per reader; NULL: the usual advice */
} kinds[] = {
	{"a NumPy .npz file", "PK\3\4", 0, 4, ".npy", {IDX, SAFETENSORS}},
	{"a PyTorch .pt file", "PK\3\4", 0, 4, "data.pkl", {ARCHIVE, SAFETENSORS}},
	{"a Keras .keras file", "PK\3\4", 0, 4, "metadata.json", {TAKEN}},
	{"an Office document", "PK\3\4", 0, 4, "[Content_Types].xml", {NULL}},
	{"a zip archive", "PK\3\4", 0, 4, NULL, {TAKEN}},
	{"an empty zip archive", "PK\5\6", 0, 4, NULL, {TAKEN}},
	{"a NumPy .npy file", "\x93NUMPY", 0, 6, NULL, {IDX, SAFETENSORS}},
	{"a MATLAB .mat file", "MATLAB ", 0, 7, NULL, {NULL}},
	{"an HDF5 file", "\x89HDF\r\n\x1a\n", 0, 8, NULL, {NULL}},
	{"a 7z archive",
     "7z\xbc\xaf\x27\x1c",
     0,
     6,
     NULL,
     {"unpack it and send a tar or zip archive instead", UNPACK, UNPACK}},
	{"a RAR archive", "Rar!\x1a\7", 0, 6, NULL, {"unpack it and send a tar or zip archive instead", UNPACK, UNPACK}},
	{"a Parquet file", "PAR1", 0, 4, NULL, {NULL}},
	{"an Arrow file", "ARROW1", 0, 6, NULL, {NULL}},
	{"an SQLite database", "SQLite format 3", 0, 15, NULL, {NULL}},
	{"a GGUF file", "GGUF", 0, 4, NULL, {NULL}},
	{"a TensorFlow Lite model", "TFL3", 4, 4, NULL, {NULL}},
	{"a git-lfs pointer and not the file itself",
     "version https://git-lfs",
     0,
     23,
     NULL,
     {"run \"git lfs pull\" and send the file", "run \"git lfs pull\" and send the file",
      "run \"git lfs pull\" and send the file", NULL}},
	{"a gzip file", "\x1f\x8b", 0, 2, NULL, {TAKEN, UNPACK, UNPACK}},
	{"an xz file",
     "\xfd"
     "7zXZ",
     0,
     5,
     NULL,
     {TAKEN, UNPACK, UNPACK}},
	{"a bzip2 file", "BZh", 0, 3, NULL, {TAKEN, UNPACK, UNPACK}},
	{"a zstd file", "\x28\xb5\x2f\xfd", 0, 4, NULL, {TAKEN, UNPACK, UNPACK}},
	{"a tar archive", "ustar", 257, 5, NULL, {TAKEN, UNPACK, UNPACK}},
	{"a PNG picture", "\x89PNG", 0, 4, NULL, {ARCHIVE, NULL, TAKEN}},
	{"a JPEG picture", "\xff\xd8\xff", 0, 3, NULL, {ARCHIVE, NULL, TAKEN}},
	{"a GIF picture", "GIF8", 0, 4, NULL, {CONVERT, NULL, CONVERT}},
	{"a WebP picture", "WEBP", 8, 4, NULL, {CONVERT, NULL, CONVERT}},
	{"a TIFF picture", "II*\0", 0, 4, NULL, {CONVERT, NULL, CONVERT}},
	{"a TIFF picture", "MM\0*", 0, 4, NULL, {CONVERT, NULL, CONVERT}},
	{"a BMP picture", "BM", 0, 2, NULL, {CONVERT, NULL, CONVERT}},
	{"an AVIF picture", "ftypavi", 4, 7, NULL, {CONVERT, NULL, CONVERT}},
	{"a HEIC picture", "ftyphe", 4, 6, NULL, {CONVERT, NULL, CONVERT}},
	{"a HEIC picture", "ftypmif1", 4, 8, NULL, {CONVERT, NULL, CONVERT}},
	{"a video", "ftyp", 4, 4, NULL, {NULL}},
	{"a JPEG XL picture", "\xff\x0a", 0, 2, NULL, {CONVERT, NULL, CONVERT}},
	{"a JPEG 2000 picture", "\0\0\0\x0cjP  ", 0, 8, NULL, {CONVERT, NULL, CONVERT}},
	{"an SVG drawing", "<svg", 0, 4, NULL, {CONVERT, NULL, CONVERT}},
	{"a PDF document", "%PDF", 0, 4, NULL, {NULL}},
	{"text in UTF-16", "\xff\xfe", 0, 2, NULL, {NULL, NULL, NULL, "it starts with a UTF-16 byte order mark: " UTF8}},
	{"text in UTF-16", "\xfe\xff", 0, 2, NULL, {NULL, NULL, NULL, "it starts with a UTF-16 byte order mark: " UTF8}},
	{"text with a byte order mark",
     "\xef\xbb\xbf",
     0,
     3,
     NULL,
     {NULL, NULL, NULL, "it starts with a UTF-8 byte order mark: " UTF8}},
	/* whole sets, recognised by the names of their files */
	{"CIFAR in its Python version",
     NULL,
     0,
     0,
     NULL,
     {"send the binary version (cifar-10-binary.tar.gz, cifar-100-binary.tar.gz) instead"}},
	{"STL-10 in its binary version",
     NULL,
     0,
     0,
     NULL,
     {"write its pictures as PNG files into train/CLASS/ and test/CLASS/ and send a tar or zip archive of them"}},
	/* checked beyond their magic, see below */
	{"a Python pickle", "\x80", 0, 1, NULL, {"send CIFAR's binary version, or " IDX, SAFETENSORS}},
	{"an ONNX model",
     "\x08",
     0,
     1,
     NULL,
     {ARCHIVE, "only safetensors is imported: write the state_dict with safetensors.torch.save_file"}},
	{"a safetensors file", "{\"", 8, 2, NULL, {ARCHIVE, TAKEN, NULL, NULL}},
};
#define N_KINDS (sizeof kinds / sizeof *kinds)

static const struct kind html = {"an HTML page (saved in place of the file?)", NULL, 0, 0, NULL, {NULL}};
static const struct kind utf16 = {"text in UTF-16", NULL, 0, 0, NULL, {NULL, NULL, NULL, UTF8}};
static const struct kind quoted = {
	"text in single quotes",
	NULL,
	0,
	0,
	NULL,
	{NULL, NULL, NULL,
     "the Windows command line keeps them: write \"{\\\"a\\\":1}\" there, or send the body from a file (curl -d @body.json)"}};

static bool member_ends(const uint8_t *p, size_t n, const char *end)
{
	size_t k = strlen(end), len = n >= 30 ? p[26] | (size_t)p[27] << 8 : 0;
	return len >= k && n >= 30 + len && !memcmp(p + 30 + len - k, end, k);
}

/* Magics of one or two bytes match by chance, so check what follows them. */
static bool is_really(const struct kind *k, const uint8_t *p, size_t n)
{
	if (!strcmp(k->magic, "BM")) /* four reserved zero bytes after the size */
		return n >= 10 && !memcmp(p + 6, "\0\0\0\0", 4);
	if (!strcmp(k->magic, "\x80")) /* protocol 2 to 5, then an opcode that may start a pickle */
		return n >= 3 && p[1] >= 2 && p[1] <= 5 && strchr("}](c\x95X\x8cq", p[2]);
	if (!strcmp(k->magic, "\x08")) /* ir_version, then the producer's name or the graph */
		return n >= 4 && p[1] >= 1 && p[1] <= 20 && (p[2] == 0x12 || p[2] == 0x3a);
	if (!strcmp(k->magic, "{\"")) /* length of the header */
		return !memcmp(p + 4, "\0\0\0\0", 4);
	if (k->at == 8 && !memcmp(k->magic, "WEBP", 4))
		return !memcmp(p, "RIFF", 4);
	return true;
}

static bool is_html(const uint8_t *p, size_t n)
{
	char head[16] = "";
	while (n && memchr(" \t\r\n\xef\xbb\xbf", *p, 7))
		p++, n--;
	if (n) /* p may be NULL if n is 0 */
		memcpy(head, p, n < sizeof head - 1 ? n : sizeof head - 1);
	return !strncasecmp(head, "<!doctype html", 14) || !strncasecmp(head, "<html", 5) || !strncasecmp(head, "<head", 5);
}

static const struct kind *find(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < N_KINDS; i++) {
		const struct kind *k = &kinds[i];
		if (k->magic && n >= k->at + k->len && !memcmp(p + k->at, k->magic, k->len) &&
		    (!k->member || member_ends(p, n, k->member)) && is_really(k, p, n))
			return k;
	}
	return is_html(p, n) ? &html : NULL;
}

static bool say(const struct kind *k, enum wasd_reader reader, char text[WASD_FOREIGN_TEXT])
{
	const char *way = k->way[reader] ? k->way[reader] : usual[reader];
	if (!*way)
		return false;
	snprintf(text, WASD_FOREIGN_TEXT, "this is %s; %s", k->what, way);
	return true;
}

bool wasd_foreign(enum wasd_reader reader, const void *head, size_t n, char text[WASD_FOREIGN_TEXT])
{
	const uint8_t *p = head;
	const struct kind *k = find(p, n < WASD_FOREIGN_HEAD ? n : WASD_FOREIGN_HEAD);
	if (!k && reader == WASD_READS_JSON && n >= 2)
		k = *p == '\'' ? &quoted : !p[0] != !p[1] ? &utf16 : NULL;
	return k && say(k, reader, text);
}

void wasd_foreign_named(enum wasd_reader reader, const char *kind, char text[WASD_FOREIGN_TEXT])
{
	const struct kind none = {.what = kind};
	for (size_t i = 0; i < N_KINDS; i++)
		if (strstr(kinds[i].what, kind) && say(&kinds[i], reader, text))
			return;
	say(&none, reader, text);
}
