/* Files of other programs, recognised by their first bytes: the name of each format, and the advice for each reader;
 * and messages about wrong quotes in JSON text. */
#include "check.h"
#include "wasd/foreign.h"
#include "wasd/json.h"

#define T(s) s, sizeof(s) - 1
#define MEMBER(name, len) \
	T("PK\3\4" \
	  "0123456789abcdef012345" len "\0\0\0" name)

static const char *const readers[] = {"dataset", "weights", "image", "JSON"};

static void kinds(void)
{
	static const struct {
		enum wasd_reader reader;
		const char *head;
		size_t n;
		const char *want;
	} rows[] = {
		{WASD_READS_DATASET, MEMBER("x_test.npy", "\x0a"), "this is a NumPy .npz file; send the four IDX files"},
		{WASD_READS_WEIGHTS, MEMBER("x_test.npy", "\x0a"), "NumPy .npz file; write the state_dict with safetensors"},
		{WASD_READS_WEIGHTS, MEMBER("archive/data.pkl", "\x10"),
	     "this is a PyTorch .pt file; write the state_dict with safetensors.torch.save_file"},
		{WASD_READS_WEIGHTS, MEMBER("train/a/1.png", "\x0d"), "this is a zip archive"},
		{WASD_READS_DATASET, MEMBER("train/a/1.png", "\x0d"), NULL},
		{WASD_READS_DATASET, T("\x80\4\x95\1\0"), "this is a Python pickle; send CIFAR's binary version"},
		{WASD_READS_WEIGHTS, T("\x80\2}q\1"), "this is a Python pickle; write the state_dict"},
		{WASD_READS_DATASET, T("\x80\x30zz"), NULL},
		{WASD_READS_DATASET, T("\x93NUMPY\1\0"), "NumPy .npy"},
		{WASD_READS_DATASET, T("MATLAB 5.0 MAT-file"), "MATLAB .mat"},
		{WASD_READS_WEIGHTS, T("\x89HDF\r\n\x1a\n"), "this is an HDF5 file; send a safetensors file instead"},
		{WASD_READS_DATASET, T("7z\xbc\xaf\x27\x1c"), "7z archive; unpack it"},
		{WASD_READS_DATASET, T("Rar!\x1a\7\1\0"), "RAR archive; unpack it"},
		{WASD_READS_DATASET, T("PAR1"), "Parquet"},
		{WASD_READS_DATASET, T("\n<!DOCTYPE HTML><html>"), "an HTML page"},
		{WASD_READS_WEIGHTS, T("<html><body>404"), "an HTML page"},
		{WASD_READS_WEIGHTS, T("version https://git-lfs.github.com/spec/v1\noid"),
	     "git-lfs pointer and not the file itself; run \"git lfs pull\""},
		{WASD_READS_WEIGHTS, T("\x08\x07\x12\7pytorch"), "an ONNX model"},
		{WASD_READS_WEIGHTS, T("\x10\0\0\0\0\0\0\0{\"a\""), NULL},
		{WASD_READS_DATASET, T("\x10\0\0\0\0\0\0\0{\"a\""), "a safetensors file"},
		{WASD_READS_IMAGE, T("RIFF\1\2\3\4WEBPVP8 "), "this is a WebP picture; convert it to PNG or JPEG"},
		{WASD_READS_IMAGE, T("GIF89a"), "GIF picture; convert"},
		{WASD_READS_IMAGE, T("BM\1\2\3\4\0\0\0\0"), "BMP"},
		{WASD_READS_IMAGE, T("BMW X5 manual"), NULL},
		{WASD_READS_IMAGE,
	     T("\0\0\0\x18"
	       "ftypavif"),
	     "AVIF"},
		{WASD_READS_IMAGE,
	     T("\0\0\0\x18"
	       "ftypheic"),
	     "HEIC"},
		{WASD_READS_IMAGE, T("II*\0"), "TIFF"},
		{WASD_READS_IMAGE, T("\x89PNG\r\n\x1a\n"), NULL},
		{WASD_READS_DATASET, T("\x89PNG\r\n\x1a\n"), "a PNG picture; send a tar or zip archive"},
		{WASD_READS_JSON, T("\xff\xfe{\0"), "it starts with a UTF-16 byte order mark"},
		{WASD_READS_JSON, T("{\0\"\0"), "text in UTF-16"},
		{WASD_READS_JSON, T("\xef\xbb\xbf{}"), "UTF-8 byte order mark"},
		{WASD_READS_JSON, T("'{name:glyphs}'"), "the Windows command line keeps them"},
		{WASD_READS_JSON, T("{}"), NULL},
		{WASD_READS_JSON, T(""), NULL},
		{WASD_READS_DATASET, T("hello"), NULL},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		char text[WASD_FOREIGN_TEXT] = "";
		bool known = wasd_foreign(rows[i].reader, rows[i].head, rows[i].n, text);
		CHECK_MSG(known == (rows[i].want != NULL) && (!known || strstr(text, rows[i].want)), "row %zu, %s: '%s'", i,
		          readers[rows[i].reader], text);
		for (size_t n = 0; n <= rows[i].n; n++) /* truncated anywhere: no byte past the end is read */
			for (int r = 0; r < WASD_READERS; r++) {
				char *cut = malloc(n + 1);
				memcpy(cut, rows[i].head, n);
				wasd_foreign((enum wasd_reader)r, cut, n, text);
				free(cut);
			}
	}
}

static void quotes(void)
{
	static const struct {
		const char *text;
		size_t n;
		const char *want;
	} rows[] = {
		{T("{\xe2\x80\x9cname\xe2\x80\x9d:1}"), "a curly quote where a straight one (\") belongs at byte 1"},
		{T("{\"a\":\xe2\x80\x98x\xe2\x80\x99}"), "a curly quote where a straight one (\") belongs at byte 5"},
		{T("{'a':1}"), "a single quote where a double one (\") belongs at byte 1"},
		{T("{\"a\":'x'}"), "a single quote where a double one (\") belongs at byte 5"},
		{T("{name:glyphs}"), "a member name without quotes (the Windows command line removes them"},
		{T("\xff\xfe{\0}\0"), "UTF-16 byte order mark: save it as UTF-8"},
		{T("'{a:1}'"), "the Windows command line keeps them"},
		{T("<!doctype html>"), "this is an HTML page"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct wasd_err err = {0};
		cJSON *v = NULL;
		CHECK_INT(wasd_json_parse(rows[i].text, rows[i].n, WASD_JSON_REQUEST, &v, &err), WASD_EINVAL);
		CHECK_MSG(strstr(err.msg, rows[i].want), "row %zu: %s", i, err.msg);
	}
}

int main(void)
{
	TEST_RUN(kinds);
	TEST_RUN(quotes);
	TEST_END();
}
