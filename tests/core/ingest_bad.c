/* Hostile and broken uploads: each is rejected with its status, the name of the faulty file and a message, and leaves
 * nothing behind. */
#include "core/data_samples.h"

/* ---- folders with something wrong: a good set, and one more entry ---------------------------- */

static void good_pictures(struct packer p, const char *lead)
{
	static const char *const names[] = {"train/a/0.png", "train/b/0.png", "test/a/0.png", "test/b/0.png"};
	for (int i = 0; i < 4; i++) {
		char name[64];
		blob b = {0};
		make_png(&b, 3, 8, 8, i);
		snprintf(name, sizeof name, "%s%s", lead, names[i]);
		pack_blob(p, name, &b);
	}
}

static struct packer begin(struct upload *u, enum pack pack)
{
	struct packer p = pack_open(upload_add(u, "set.tar"), pack);
	good_pictures(p, "");
	return p;
}

static void extra_png(struct upload *u, enum pack pack, const char *name)
{
	struct packer p = begin(u, pack);
	blob b = {0};
	make_png(&b, 3, 8, 8, 9);
	pack_blob(p, name, &b);
	pack_close(p);
}

static void extra(struct upload *u, enum pack pack, const char *name, int type, const char *link, const void *data,
                  size_t n)
{
	struct packer p = begin(u, pack);
	pack_entry(p, name, type, link, data, n);
	pack_close(p);
}

static void dotdot(struct upload *u)
{
	extra_png(u, TAR, "../x.png");
}
static void dotdot_inside(struct upload *u)
{
	extra_png(u, TAR_GZ, "train/a/../../../x.png");
}
static void dotdot_zip(struct upload *u)
{
	extra_png(u, ZIP, "train/../../x.png");
}
static void absolute(struct upload *u)
{
	extra_png(u, TAR, "/etc/x.png");
}
static void absolute_zip(struct upload *u)
{
	extra_png(u, ZIP, "/etc/x.png");
}
static void drive(struct upload *u)
{
	extra_png(u, ZIP, "C:/x.png");
}
static void backslash(struct upload *u)
{
	extra_png(u, TAR, "train\\a\\..\\x.png");
}
static void backslash_zip(struct upload *u)
{
	extra_png(u, ZIP, "train\\a\\..\\x.png");
}
static void dot_inside(struct upload *u)
{
	extra_png(u, TAR, "train/./a/x.png");
}
static void empty_part(struct upload *u)
{
	extra_png(u, TAR, "train//x.png");
}
static void control(struct upload *u)
{
	extra_png(u, TAR, "train/a/x\x1b[31m.png");
}
static void newline(struct upload *u)
{
	extra_png(u, ZIP, "train/a/x\ny.png");
}
static void not_utf8(struct upload *u)
{
	extra_png(u, TAR, "train/a/\xff\xfe.png");
}
static void symlink_entry(struct upload *u)
{
	extra(u, TAR, "train/a/l.png", AE_IFLNK, "/etc/passwd", NULL, 0);
}
static void symlink_zip(struct upload *u)
{
	extra(u, ZIP, "train/a/l.png", AE_IFLNK, "/etc/passwd", NULL, 0);
}
static void through_symlink(struct upload *u)
{
	struct packer p = begin(u, TAR);
	pack_entry(p, "train/c", AE_IFLNK, "/tmp", NULL, 0);
	pack_file(p, "train/c/x.png", "x", 1);
	pack_close(p);
}
static void hardlink(struct upload *u)
{
	extra(u, TAR, "train/a/h.png", AE_IFREG, "/etc/passwd", NULL, 0);
}
static void hardlink_ahead(struct upload *u)
{
	extra(u, TAR, "train/a/h.png", AE_IFREG, "train/a/later.png", NULL, 0);
}
static void char_device(struct upload *u)
{
	extra(u, TAR, "train/a/null.png", AE_IFCHR, NULL, NULL, 0);
}
static void block_device(struct upload *u)
{
	extra(u, TAR, "train/a/sda.png", AE_IFBLK, NULL, NULL, 0);
}
static void fifo(struct upload *u)
{
	extra(u, TAR, "train/a/pipe.png", AE_IFIFO, NULL, NULL, 0);
}
static void twice(struct upload *u)
{
	extra_png(u, TAR, "train/a/0.png");
}
static void twice_zip(struct upload *u)
{
	extra_png(u, ZIP, "train/a/0.png");
}
static void case_only(struct upload *u)
{
	extra_png(u, TAR, "train/a/0.PNG");
}
static void class_case_only(struct upload *u)
{
	extra_png(u, TAR, "train/A/1.png");
}
static void long_name(struct upload *u)
{
	static char name[1200];
	memset(name, 'n', sizeof name - 1);
	memcpy(name, "train/a/", 8);
	extra_png(u, TAR, name);
}
static void long_class(struct upload *u)
{
	static char name[400];
	memset(name, 'n', sizeof name - 1);
	memcpy(name, "train/", 6);
	memcpy(name + sizeof name - 8, "/00.png", 7);
	extra_png(u, TAR, name);
}
static void unexpected_file(struct upload *u)
{
	extra(u, TAR, "train/a/notes.sav", AE_IFREG, NULL, "x", 1);
}
static void executable(struct upload *u)
{
	extra(u, ZIP, "setup.exe", AE_IFREG, NULL, "MZ", 2);
}
static void other_split(struct upload *u)
{
	extra_png(u, TAR, "extra/a/0.png");
}
static void no_class(struct upload *u)
{
	extra_png(u, TAR, "train/stray.png");
}
static void too_deep(struct upload *u)
{
	extra_png(u, TAR, "train/a/b/c.png");
}
static void second_lead(struct upload *u)
{
	struct packer p = pack_open(upload_add(u, "s"), TAR);
	blob b = {0};
	good_pictures(p, "one/");
	make_png(&b, 3, 8, 8, 9);
	pack_blob(p, "two/train/a/1.png", &b);
	pack_close(p);
}
static void only_in_test(struct upload *u)
{
	extra_png(u, TAR, "test/zebra/0.png");
}
static void other_size(struct upload *u)
{
	struct packer p = begin(u, TAR);
	blob b = {0};
	make_png(&b, 3, 8, 9, 9);
	pack_blob(p, "train/b/wide.png", &b);
	pack_close(p);
}
static void gif_as_png(struct upload *u)
{
	extra(u, TAR, "train/a/x.png", AE_IFREG, NULL, "GIF89a\1\0\1\0\0\0\0", 13);
}
static void empty_png(struct upload *u)
{
	extra(u, TAR, "train/a/x.png", AE_IFREG, NULL, NULL, 0);
}
static void cut_png(struct upload *u)
{
	struct packer p = begin(u, TAR);
	blob b = {0};
	make_png(&b, 3, 8, 8, 9);
	b.len -= 20;
	pack_blob(p, "test/b/cut.png", &b);
	pack_close(p);
}
static void cut_jpeg(struct upload *u)
{
	struct packer p = begin(u, ZIP);
	blob b = {0};
	make_jpeg(&b, 3, 8, 8, 9);
	b.len -= 20;
	pack_blob(p, "test/b/cut.jpg", &b);
	pack_close(p);
}
static void no_test(struct upload *u)
{
	struct packer p = pack_open(upload_add(u, "s"), TAR);
	blob b = {0};
	make_png(&b, 3, 8, 8, 9);
	pack_blob(p, "train/a/1.png", &b);
	pack_close(p);
}
static void no_train(struct upload *u)
{
	struct packer p = pack_open(upload_add(u, "s"), TAR);
	blob b = {0};
	make_png(&b, 3, 8, 8, 9);
	pack_blob(p, "test/a/1.png", &b);
	pack_close(p);
}
static void nothing_inside(struct upload *u)
{
	struct packer p = pack_open(upload_add(u, "s.tar"), TAR);
	pack_entry(p, "train/", AE_IFDIR, NULL, NULL, 0);
	pack_close(p);
}
static void big_picture_file(struct upload *u)
{
	size_t n = (32 << 20) + 1;
	uint8_t *p = malloc(n);
	struct wasd_rng r;
	wasd_rng_init(&r, 1, "noise", 0, 0);
	for (size_t i = 0; i + 8 <= n; i += 8)
		memcpy(p + i, (uint64_t[]){wasd_rng_u64(&r)}, 8);
	extra(u, TAR, "train/a/big.png", AE_IFREG, NULL, p, n);
	free(p);
}

/* ---- limits and bombs ------------------------------------------------------------------------ */

static void zeros(struct upload *u, enum pack pack, size_t n)
{
	void *p = calloc(1, n);
	extra(u, pack, "train/a/zero.png", AE_IFREG, NULL, p, n);
	free(p);
}
static void bomb_gz(struct upload *u)
{
	zeros(u, TAR_GZ, 40 << 20);
}
static void bomb_xz(struct upload *u)
{
	zeros(u, TAR_XZ, 40 << 20);
}
static void bomb_zip(struct upload *u)
{
	zeros(u, ZIP, 40 << 20);
}
static void bomb_after_end(struct upload *u) /* zeros after the end of the tar, inside the gzip */
{
	struct packer p = begin(u, TAR);
	char *data;
	size_t n;
	blob b = {0};
	pack_close(p);
	CHECK(!wasd_file_read(u->path[0], 1 << 24, &data, &n, NULL));
	wasd_buf_append(&b, data, n);
	wasd_free(data);
	void *zero = calloc(1, 40 << 20);
	wasd_buf_append(&b, zero, 40 << 20);
	free(zero);
	gzip_blob(&b);
	u->n = 0;
	upload_blob(u, "set.tar", &b);
}
static void over_bytes(struct upload *u)
{
	extra_png(u, TAR, "train/a/1.png");
	u->o.max_bytes = 500;
}
static void over_decoded_bytes(struct upload *u)
{
	extra_png(u, TAR, "train/a/1.png");
	u->o.max_bytes = 4096;
	u->o.size = 64;
}
static void over_images(struct upload *u)
{
	extra_png(u, TAR, "train/a/1.png");
	u->o.max_images = 4;
}
static void size_5000(struct upload *u)
{
	extra_png(u, TAR, "train/a/1.png");
	u->o.size = 5000;
}
static void size_negative(struct upload *u)
{
	extra_png(u, TAR, "train/a/1.png");
	u->o.size = -1;
}

/* A directory header per entry, 1,000,001 of them, with varying times so that it does not count as a bomb too. */
static void million_entries(struct upload *u)
{
	blob b = {0};
	char h[512] = "d/";
	struct wasd_rng r;
	wasd_rng_init(&r, 1, "mtime", 0, 0);
	memcpy(h + 100, "0000755", 8), memcpy(h + 108, "0000000", 8), memcpy(h + 116, "0000000", 8),
		memcpy(h + 124, "00000000000", 12);
	h[156] = '5';
	memcpy(h + 257, "ustar\00000", 8);
	z_stream z = {0};
	static Bytef out[1 << 16];
	deflateInit2(&z, 1, Z_DEFLATED, 16 + 15, 9, Z_DEFAULT_STRATEGY);
	for (int i = 0; i <= 1000000; i++) {
		unsigned sum = 0;
		snprintf(h + 136, 12, "%011o", wasd_rng_below(&r, 1u << 31));
		memset(h + 148, ' ', 8);
		for (int k = 0; k < 512; k++)
			sum += (uint8_t)h[k];
		snprintf(h + 148, 8, "%06o", sum);
		z.next_in = (Bytef *)h, z.avail_in = 512;
		do {
			z.next_out = out, z.avail_out = sizeof out;
			deflate(&z, i == 1000000 ? Z_FINISH : Z_NO_FLUSH);
			wasd_buf_append(&b, out, sizeof out - z.avail_out);
		} while (!z.avail_out);
	}
	deflateEnd(&z);
	upload_blob(u, "many.tar.gz", &b);
}

/* ---- bytes that are not what they say ------------------------------------------------------------ */

static void reread(struct upload *u, blob *b)
{
	char *data;
	size_t n;
	CHECK(!wasd_file_read(u->path[0], 1 << 24, &data, &n, NULL));
	wasd_buf_append(b, data, n);
	wasd_free(data);
}
static void rewrite(struct upload *u, blob *b)
{
	put_file(u->path[0], b->data, b->len);
	wasd_buf_done(b);
}
static size_t find(const blob *b, const char *what, size_t n, size_t from)
{
	for (size_t i = from; i + n <= b->len; i++)
		if (!memcmp(b->data + i, what, n))
			return i;
	CHECK_MSG(0, "pattern not found");
	return 0;
}
/* Sets the sizes in the zip directory's first entry: +20 compressed, +24 unpacked. */
static void zip_lies(struct upload *u, size_t at, uint32_t value)
{
	blob b = {0};
	extra_png(u, ZIP, "train/a/1.png");
	reread(u, &b);
	memcpy(b.data + find(&b, "PK\1\2", 4, 0) + at, &value, 4);
	rewrite(u, &b);
}
static void zip_says_more(struct upload *u)
{
	zip_lies(u, 24, 100000);
}
static void zip_says_less(struct upload *u)
{
	zip_lies(u, 24, 10);
}
static void zip_says_4g(struct upload *u) /* in both places: +22 of the local header is the unpacked size */
{
	blob b = {0};
	zip_lies(u, 24, 0xfffffffe);
	reread(u, &b);
	memcpy(b.data + 22, "\xfe\xff\xff\xff", 4);
	rewrite(u, &b);
}
static void zip_crc(struct upload *u)
{
	zip_lies(u, 16, 0x12345678);
}
static void zip_without_directory(struct upload *u)
{
	blob b = {0};
	extra_png(u, ZIP, "train/a/1.png");
	reread(u, &b);
	b.len = find(&b, "PK\1\2", 4, 0);
	rewrite(u, &b);
}
static void tar_size_lies(struct upload *u) /* the first header declares 8 GiB - 1 */
{
	blob b = {0};
	unsigned sum = 0;
	extra_png(u, TAR, "train/a/1.png");
	reread(u, &b);
	memcpy(b.data + 124, "77777777777", 12);
	memset(b.data + 148, ' ', 8);
	for (int k = 0; k < 512; k++)
		sum += (uint8_t)b.data[k];
	snprintf(b.data + 148, 8, "%06o", sum);
	rewrite(u, &b);
}
static void tar_checksum(struct upload *u)
{
	blob b = {0};
	extra_png(u, TAR, "train/a/1.png");
	reread(u, &b);
	b.data[find(&b, "train/b/0.png", 13, 0)] = 'T';
	rewrite(u, &b);
}
/* A NUL in the middle of a picture's name, where libarchive would stop reading the name. */
static void nul_in(struct upload *u, enum pack pack, const char *name)
{
	blob b = {0};
	extra_png(u, pack, name);
	reread(u, &b);
	for (size_t at = 0; at + 10 <= b.len; at++)
		if (!memcmp(b.data + at, "x.png^.exe", 10))
			b.data[at + 5] = 0;
	rewrite(u, &b);
}
static void nul_zip(struct upload *u)
{
	nul_in(u, ZIP, "train/a/x.png^.exe");
}
static char long_nul[200];
static void nul_pax(struct upload *u)
{
	memset(long_nul, 0, sizeof long_nul);
	snprintf(long_nul, sizeof long_nul, "train/a/%0150dx.png^.exe", 7);
	nul_in(u, TAR, long_nul);
}
static void nul_pax_gz(struct upload *u)
{
	blob b = {0};
	nul_pax(u);
	reread(u, &b);
	gzip_blob(&b);
	rewrite(u, &b);
}
static void nul_gnu(struct upload *u)
{
	struct packer p = {archive_write_new()};
	blob b = {0};
	archive_write_set_format_gnutar(p.a);
	CHECK(archive_write_open_filename(p.a, upload_add(u, "s.tar")) == ARCHIVE_OK);
	good_pictures(p, "");
	make_png(&b, 3, 8, 8, 9);
	snprintf(long_nul, sizeof long_nul, "train/a/%0150dx.png^.exe", 7);
	pack_blob(p, long_nul, &b);
	pack_close(p);
	reread(u, &b);
	for (size_t at = 0; at + 10 <= b.len; at++)
		if (!memcmp(b.data + at, "x.png^.exe", 10))
			b.data[at + 5] = 0;
	rewrite(u, &b);
}
/* Every entry of the directory points to one local header, and declares a larger size than it has. */
static void zip_overlap(struct upload *u)
{
	blob b = {0};
	extra_png(u, ZIP, "train/a/1.png");
	reread(u, &b);
	uint32_t zero = 0, n = (uint32_t)b.len / 2;
	for (size_t at = find(&b, "PK\1\2", 4, 0); !memcmp(b.data + at, "PK\1\2", 4);
	     at += 46 + (uint8_t)b.data[at + 28] + (uint8_t)b.data[at + 30]) {
		memcpy(b.data + at + 42, &zero, 4);
		memcpy(b.data + at + 20, &n, 4);
	}
	rewrite(u, &b);
}
static void cut_to(struct upload *u, enum pack pack, size_t part)
{
	blob b = {0};
	extra_png(u, pack, "train/a/1.png");
	reread(u, &b);
	b.len = b.len * part / 100;
	rewrite(u, &b);
}
static void tar_cut(struct upload *u)
{
	cut_to(u, TAR, 55);
}
static void gz_cut(struct upload *u)
{
	cut_to(u, TAR_GZ, 55);
}
static void xz_cut(struct upload *u)
{
	cut_to(u, TAR_XZ, 55);
}
static void zip_cut(struct upload *u)
{
	cut_to(u, ZIP, 55);
}
static void tar_without_end(struct upload *u)
{
	blob b = {0};
	extra_png(u, TAR, "train/a/1.png");
	reread(u, &b);
	while (b.len > 512) { /* drop every block of zeros at the end */
		size_t k = 0;
		while (k < 512 && !b.data[b.len - 512 + k])
			k++;
		if (k < 512)
			break;
		b.len -= 512;
	}
	rewrite(u, &b);
}
static void gz_checksum(struct upload *u)
{
	blob b = {0};
	extra_png(u, TAR_GZ, "train/a/1.png");
	reread(u, &b);
	b.data[b.len - 6] ^= 1;
	rewrite(u, &b);
}
static void encrypted_zip(struct upload *u)
{
	struct packer p = {archive_write_new()};
	archive_write_set_format_zip(p.a);
	archive_write_set_options(p.a, "zip:encryption=traditional");
	archive_write_set_passphrase(p.a, "secret");
	CHECK(archive_write_open_filename(p.a, upload_add(u, "s.zip")) == ARCHIVE_OK);
	good_pictures(p, "");
	pack_close(p);
}
static void put_text(struct upload *u, const char *name, const char *bytes, size_t n)
{
	blob b = {0};
	wasd_buf_append(&b, bytes, n);
	upload_blob(u, name, &b);
}
static void plain_text(struct upload *u)
{
	put_text(u, "notes.tar", "These are notes, not an archive.\n", 33);
}
static void nothing(struct upload *u)
{
	put_text(u, "empty.zip", "", 0);
}
static void rar(struct upload *u)
{
	put_text(u, "a.rar", "Rar!\x1a\7\0\xcf\x90s\0\0\r\0\0\0\0\0\0\0", 20);
}
static void seven_zip(struct upload *u)
{
	put_text(u, "a.7z", "7z\xbc\xaf\x27\x1c\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24);
}
static void gz_of_text(struct upload *u)
{
	blob b = {0};
	wasd_buf_puts(&b, "hello");
	gzip_blob(&b);
	upload_blob(u, "h.gz", &b);
}
static void zip_of_zip(struct upload *u)
{
	extra_png(u, ZIP, "train/a/1.png");
	blob b = {0};
	reread(u, &b);
	u->n = 0;
	for (int i = 0; i < 2; i++) {
		struct packer p = pack_open(upload_add(u, "nested.zip"), ZIP);
		pack_blob(p, "inner.zip", &b);
		pack_close(p);
		if (!i) {
			reread(u, &b);
			u->n = 0;
		}
	}
}
static void not_a_file(struct upload *u)
{
	u->f[u->n++] = (struct wasd_ingest_file){"/dev/zero", "zero.tar"};
}
static void absent(struct upload *u)
{
	u->f[u->n++] = (struct wasd_ingest_file){"/nonexistent/x", "gone.tar"};
}
static void no_upload(struct upload *u)
{
	(void)u;
}

/* ---- CIFAR ---------------------------------------------------------------------------------- */

struct cifar_fault {
	int train, test;
	const char *names;
	int cut, bad_label, missing_class;
	const char *more;
	bool no_test, no_train, no_names;
};

static void cifar(struct upload *u, struct cifar_fault f)
{
	struct packer p = pack_open(upload_add(u, "cifar.tar.gz"), TAR_GZ);
	blob b = {0};
	cifar_records(&b, f.train ? f.train : 30, 1, f.missing_class ? f.missing_class : 10, 0);
	b.len -= (size_t)f.cut;
	if (f.bad_label)
		b.data[3073 * 17] = (char)f.bad_label;
	if (!f.no_train)
		pack_blob(p, "c/data_batch_1.bin", &b);
	wasd_buf_done(&b);
	b = (blob){0};
	cifar_records(&b, f.test < 0 ? 0 : 5, 1, 10, 0);
	if (!f.no_test)
		pack_blob(p, "c/test_batch.bin", &b);
	wasd_buf_done(&b);
	b = (blob){0};
	wasd_buf_puts(&b, f.names ? f.names : CIFAR10_NAMES);
	if (!f.no_names)
		pack_blob(p, "c/batches.meta.txt", &b);
	wasd_buf_done(&b);
	if (f.more)
		pack_file(p, f.more, "x", 1);
	pack_close(p);
}
static void cifar_cut(struct upload *u)
{
	cifar(u, (struct cifar_fault){.cut = 1});
}
static void cifar_label(struct upload *u)
{
	cifar(u, (struct cifar_fault){.bad_label = 10});
}
static void cifar_empty_test(struct upload *u)
{
	cifar(u, (struct cifar_fault){.test = -1});
}
static void cifar_class(struct upload *u)
{
	cifar(u, (struct cifar_fault){.missing_class = 9});
}
static void cifar_no_test(struct upload *u)
{
	cifar(u, (struct cifar_fault){.no_test = true});
}
static void cifar_no_train(struct upload *u)
{
	cifar(u, (struct cifar_fault){.no_train = true});
}
static void cifar_no_names(struct upload *u)
{
	cifar(u, (struct cifar_fault){.no_names = true});
}
static void cifar_9_names(struct upload *u)
{
	cifar(u, (struct cifar_fault){.names = "a\nb\nc\nd\ne\nf\ng\nh\ni\n"});
}
static void cifar_11_names(struct upload *u)
{
	cifar(u, (struct cifar_fault){.names = CIFAR10_NAMES "x\n"});
}
static void cifar_same_names(struct upload *u)
{
	cifar(u, (struct cifar_fault){.names = "a\nb\nc\nd\ne\nf\ng\nh\ni\na\n"});
}
static void cifar_more(struct upload *u)
{
	cifar(u, (struct cifar_fault){.more = "c/virus.exe"});
}
static void cifar_two(struct upload *u)
{
	cifar(u, (struct cifar_fault){.more = "d/data_batch_1.bin"});
}
static void cifar100_label(struct upload *u)
{
	struct packer p = pack_open(upload_add(u, "c"), TAR);
	blob b = {0};
	cifar_records(&b, 100, 2, 100, 0);
	b.data[3074 * 5 + 1] = 100;
	pack_blob(p, "train.bin", &b);
	cifar_records(&b, 1, 2, 100, 0);
	pack_blob(p, "test.bin", &b);
	for (int i = 0; i < 100; i++)
		wasd_buf_printf(&b, "%d\n", i);
	pack_blob(p, "fine_label_names.txt", &b);
	pack_close(p);
}

/* ---- IDX ------------------------------------------------------------------------------------ */

/* Changes one of the four files: `at` < 0 sets its length to -at - 1, else bytes are replaced. gz: then compressed. */
static void idx(struct upload *u, int split, int images, long at, const char *bytes, size_t n, bool gz)
{
	blob f[2][2] = {0};
	idx_files(f, 20, 5);
	blob *b = &f[split][images];
	if (at < 0)
		b->len = (size_t)(-at - 1);
	else if ((size_t)at >= b->len)
		wasd_buf_append(b, bytes, n);
	else
		memcpy(b->data + at, bytes, n);
	if (gz)
		gzip_blob(b);
	for (int i = 0; i < 4; i++)
		upload_blob(u, idx_names[i / 2][i % 2], &f[i / 2][i % 2]);
}
static void idx_magic(struct upload *u)
{
	idx(u, 0, 1, 0, "\0\0\x0d\3", 4, false);
}
static void idx_label_magic(struct upload *u)
{
	idx(u, 1, 0, 0, "\0\0\x08\3", 4, false);
}
static void idx_garbage(struct upload *u)
{
	idx(u, 0, 1, 0, "garbage!", 8, false);
}
static void idx_more_promised(struct upload *u)
{
	idx(u, 0, 1, 7, "\x15", 1, false);
}
static void idx_4g_promised(struct upload *u)
{
	idx(u, 0, 0, 4, "\xff\xff\xff\xff", 4, false);
}
static void idx_4m_labels(struct upload *u)
{
	idx(u, 0, 0, 4, "\x00\x30\x00\x00", 4, false);
}
static void idx_4m_labels_gz(struct upload *u)
{
	idx(u, 0, 0, 4, "\x00\x30\x00\x00", 4, true);
}
static void idx_counts_differ(struct upload *u)
{
	idx(u, 1, 1, 7, "\4", 1, false);
}
static void idx_images_cut(struct upload *u)
{
	idx(u, 1, 1, -(16 + 20 * 3 + 7) - 1, NULL, 0, false);
}
static void idx_images_cut_gz(struct upload *u)
{
	idx(u, 1, 1, -(16 + 20 * 3 + 7) - 1, NULL, 0, true);
}
static void idx_images_longer(struct upload *u)
{
	idx(u, 0, 1, 1 << 20, "x", 1, false);
}
static void idx_labels_longer(struct upload *u)
{
	idx(u, 0, 0, 1 << 20, "x", 1, true);
}
static void idx_label(struct upload *u)
{
	idx(u, 1, 0, 8 + 3, "\x0a", 1, false);
}
static void idx_label_alone(struct upload *u)
{
	idx(u, 0, 0, 8 + 13, "\x0c", 1, false);
}
static void idx_class_missing(struct upload *u)
{
	idx(u, 0, 0, 8, "\0\1\2\3\4\5\6\0\x08\x09\0\1\2\3\4\5\6\0\x08\x09", 20, false);
}
static void idx_no_samples(struct upload *u)
{
	idx(u, 1, 0, 4, "\0\0\0\0", 4, false);
}
static void idx_head_cut(struct upload *u)
{
	idx(u, 0, 1, -11 - 1, NULL, 0, false);
}
static void idx_empty_labels(struct upload *u)
{
	idx(u, 0, 0, -4 - 1, NULL, 0, false);
}
static void idx_no_height(struct upload *u)
{
	idx(u, 0, 1, 8, "\0\0\0\0", 4, false);
}
static void idx_huge_width(struct upload *u)
{
	idx(u, 0, 1, 12, "\x7f\xff\xff\xff", 4, false);
}
static void idx_other_shape(struct upload *u)
{
	idx(u, 1, 1, 8, "\0\0\0\4\0\0\0\5", 8, false);
}
static void idx_three(struct upload *u)
{
	idx(u, 0, 1, 0, "\0", 1, false);
	unlink(u->path[3]);
	u->n = 3;
}
static void idx_one(struct upload *u)
{
	blob f[2][2] = {0};
	idx_files(f, 20, 5);
	upload_blob(u, "", &f[0][0]);
	idx_done(f);
}
static void idx_two_trains(struct upload *u)
{
	idx(u, 0, 1, 0, "\0", 1, false);
	u->f[3].name = "train-images-idx3-ubyte (copy)";
}
static void idx_unnamed(struct upload *u)
{
	idx(u, 0, 1, 0, "\0", 1, false);
	u->f[2].name = "mnist-images-idx3-ubyte";
}
static void idx_hostile_name(struct upload *u)
{
	idx(u, 0, 1, 0, "\0", 1, false);
	u->f[2].name = "t10k-images-idx3-ub\nyte";
}
static void idx_stranger(struct upload *u)
{
	struct packer p = pack_open(upload_add(u, "m.tar"), TAR);
	blob f[2][2] = {0};
	idx_files(f, 20, 5);
	for (int i = 0; i < 4; i++)
		pack_blob(p, idx_names[i / 2][i % 2], &f[i / 2][i % 2]);
	pack_file(p, "extra.bin", "0123456789", 10);
	pack_close(p);
}
static void idx_gz_damaged(struct upload *u)
{
	blob b = {0};
	idx(u, 0, 1, 0, "\0", 1, true);
	char *data;
	size_t n;
	CHECK(!wasd_file_read(u->path[1], 1 << 20, &data, &n, NULL));
	data[n - 7] ^= 1; /* its checksum */
	wasd_buf_append(&b, data, n);
	wasd_free(data);
	put_file(u->path[1], b.data, b.len);
	wasd_buf_done(&b);
}
static void idx_gz_inside_damaged(struct upload *u)
{
	struct packer p = pack_open(upload_add(u, "m.tar"), TAR);
	blob f[2][2] = {0};
	idx_files(f, 20, 5);
	for (int i = 0; i < 4; i++) {
		gzip_blob(&f[i / 2][i % 2]);
		if (i == 3)
			f[1][1].data[f[1][1].len - 7] ^= 1;
		pack_blob(p, idx_names[i / 2][i % 2], &f[i / 2][i % 2]);
	}
	pack_close(p);
}

/* ---- the table -------------------------------------------------------------------------------- */

static const struct row {
	const char *name;
	void (*make)(struct upload *u);
	enum wasd_status status;
	const char *pointer, *message;
} rows[] = {
	{"climbs out", dotdot, WASD_EINVAL, "../x.png", "\"..\""},
	{"climbs out later", dotdot_inside, WASD_EINVAL, "train/a/../../../x.png", "\"..\""},
	{"climbs out of a zip", dotdot_zip, WASD_EINVAL, "train/../../x.png", "\"..\""},
	{"absolute name", absolute, WASD_EINVAL, "/etc/x.png", "absolute"},
	{"absolute name in a zip", absolute_zip, WASD_EINVAL, "/etc/x.png", "absolute"},
	{"drive letter", drive, WASD_EINVAL, "C:/x.png", "absolute"},
	{"backslashes", backslash, WASD_EINVAL, "train\\a\\..\\x.png", "backslash"},
	{"backslashes in a zip", backslash_zip, WASD_EINVAL, "train/a/../x.png", "\"..\""},
	{"dot inside", dot_inside, WASD_EINVAL, "train/./a/x.png", "\".\""},
	{"empty part", empty_part, WASD_EINVAL, "train//x.png", "empty part"},
	{"escape sequence", control, WASD_EINVAL, "train/a/x?[31m.png", "control"},
	{"line break", newline, WASD_EINVAL, "train/a/x?y.png", "control"},
	{"not UTF-8", not_utf8, WASD_EINVAL, "train/a/??.png", "UTF-8"},
	{"symbolic link", symlink_entry, WASD_EINVAL, "train/a/l.png", "symbolic link"},
	{"symbolic link in a zip", symlink_zip, WASD_EINVAL, "train/a/l.png", "symbolic link"},
	{"file through a link", through_symlink, WASD_EINVAL, "train/c", "symbolic link"},
	{"hard link to outside", hardlink, WASD_EINVAL, "train/a/h.png", "hard link"},
	{"hard link to nothing", hardlink_ahead, WASD_EINVAL, "train/a/h.png", "hard link"},
	{"character device", char_device, WASD_EINVAL, "train/a/null.png", "character device"},
	{"block device", block_device, WASD_EINVAL, "train/a/sda.png", "block device"},
	{"named pipe", fifo, WASD_EINVAL, "train/a/pipe.png", "named pipe"},
	{"twice", twice, WASD_EINVAL, "train/a/0.png", "twice"},
	{"twice in a zip", twice_zip, WASD_EINVAL, "train/a/0.png", "twice"},
	{"names differ in case", case_only, WASD_EINVAL, "train/a/0.PNG", "differs only in case"},
	{"classes differ in case", class_case_only, WASD_EINVAL, NULL, "differs only in case"},
	{"very long name", long_name, WASD_EINVAL, NULL, "more than 1024 bytes"},
	{"very long class", long_class, WASD_EINVAL, NULL, "more than 255 bytes"},
	{"of another program", unexpected_file, WASD_EINVAL, "train/a/notes.sav", "unexpected"},
	{"a program", executable, WASD_EINVAL, "setup.exe", "unexpected"},
	{"a third split", other_split, WASD_EINVAL, "extra/a/0.png", "not in train/, test/"},
	{"no class folder", no_class, WASD_EINVAL, "train/stray.png", "in a class folder"},
	{"too deep", too_deep, WASD_EINVAL, "train/a/b/c.png", "deeper"},
	{"two leading folders", second_lead, WASD_EINVAL, "two/train/a/1.png", "not in train/, test/"},
	{"class only in test", only_in_test, WASD_EINVAL, "test/zebra/0.png", "class zebra has no training image"},
	{"another size", other_size, WASD_EINVAL, "train/b/wide.png", "9x8 pixels"},
	{"GIF named .png", gif_as_png, WASD_EUNSUPPORTED, "train/a/x.png", "GIF"},
	{"empty picture", empty_png, WASD_ECORRUPT, "train/a/x.png", "empty"},
	{"cut PNG", cut_png, WASD_ECORRUPT, "test/b/cut.png", "PNG"},
	{"cut JPEG", cut_jpeg, WASD_ECORRUPT, "test/b/cut.jpg", "JPEG"},
	{"no test split", no_test, WASD_EINVAL, "test", "no images in test"},
	{"no train split", no_train, WASD_EINVAL, "train", "no images in train"},
	{"only folders", nothing_inside, WASD_EINVAL, "s.tar", "no files"},
	{"picture of 32 MiB", big_picture_file, WASD_ETOOBIG, "train/a/big.png", "at most 33554432"},
	{"gzip bomb", bomb_gz, WASD_ETOOBIG, "train/a/zero.png", "200 times"},
	{"xz bomb", bomb_xz, WASD_ETOOBIG, "train/a/zero.png", "200 times"},
	{"zip bomb", bomb_zip, WASD_ETOOBIG, "train/a/zero.png", "200 times"},
	{"bomb behind the end", bomb_after_end, WASD_ETOOBIG, "set.tar", "200 times"},
	{"over the byte limit", over_bytes, WASD_ETOOBIG, NULL, "limit of 500 bytes"},
	{"over it when decoded", over_decoded_bytes, WASD_ETOOBIG, NULL, "limit is 4096 bytes"},
	{"over the image limit", over_images, WASD_ETOOBIG, NULL, "5 images, but the limit is 4"},
	{"resize to 5000", size_5000, WASD_EINVAL, "/size", "size 5000"},
	{"resize to -1", size_negative, WASD_EINVAL, "/size", "size -1"},
	{"a million entries", million_entries, WASD_ETOOBIG, "many.tar.gz", "1000000 entries"},
	{"zip promises more", zip_says_more, WASD_ECORRUPT, "train/a/0.png", ""},
	{"zip promises less", zip_says_less, WASD_ECORRUPT, "train/a/0.png", ""},
	{"zip promises 4 GiB", zip_says_4g, WASD_ETOOBIG, "train/a/0.png", "200 times"},
	{"zip checksum", zip_crc, WASD_ECORRUPT, "train/a/0.png", "CRC"},
	{"zip without directory", zip_without_directory, WASD_EINVAL, "set.tar", "cut off"},
	{"tar promises 8 GiB", tar_size_lies, WASD_ETOOBIG, "train/a/0.png", "200 times"},
	{"tar header checksum", tar_checksum, WASD_ECORRUPT, NULL, "archive"},
	{"NUL in a zip name", nul_zip, WASD_EINVAL, "train/a/x.png", "a NUL"},
	{"NUL in a pax name", nul_pax, WASD_EINVAL, NULL, "a NUL"},
	{"NUL in a pax name, gz", nul_pax_gz, WASD_EINVAL, NULL, "a NUL"},
	{"NUL in a GNU long name", nul_gnu, WASD_EINVAL, NULL, "a NUL"},
	{"overlapping zip entries", zip_overlap, WASD_EINVAL, NULL, "overlap"},
	{"cut tar", tar_cut, WASD_ECORRUPT, NULL, ""},
	{"cut gzip", gz_cut, WASD_ECORRUPT, NULL, "cut off"},
	{"cut xz", xz_cut, WASD_EINVAL, "set.tar", "neither"},
	{"cut zip", zip_cut, WASD_EINVAL, "set.tar", "cut off"},
	{"tar without end mark", tar_without_end, WASD_ECORRUPT, "set.tar", "no end mark"},
	{"gzip checksum", gz_checksum, WASD_ECORRUPT, "set.tar", "damaged gzip"},
	{"encrypted zip", encrypted_zip, WASD_EINVAL, "train/a/0.png", "encrypted"},
	{"text", plain_text, WASD_EINVAL, "notes.tar", "neither a tar or zip"},
	{"empty file", nothing, WASD_ECORRUPT, "empty.zip", "empty"},
	{"rar", rar, WASD_EINVAL, "a.rar", "this is a RAR archive; unpack it"},
	{"7z", seven_zip, WASD_EINVAL, "a.7z", "this is a 7z archive; unpack it"},
	{"gzip of text", gz_of_text, WASD_EINVAL, "h.gz", "neither"},
	{"zip in a zip in a zip", zip_of_zip, WASD_EINVAL, "inner.zip", "this is a zip archive"},
	{"a device as upload", not_a_file, WASD_EINVAL, "zero.tar", "regular file"},
	{"an absent upload", absent, WASD_EIO, "gone.tar", "No such file"},
	{"no upload", no_upload, WASD_EINVAL, "", "no files"},
	{"CIFAR file one byte short", cifar_cut, WASD_ECORRUPT, "c/data_batch_1.bin", "92189 bytes"},
	{"CIFAR label 10", cifar_label, WASD_ECORRUPT, "c/data_batch_1.bin",
     "image 17 has label 10, but there are only 10 classes"},
	{"CIFAR empty test", cifar_empty_test, WASD_ECORRUPT, "c/test_batch.bin", "0 bytes"},
	{"CIFAR class missing", cifar_class, WASD_EINVAL, "c/batches.meta.txt", "class 9 (truck) has no training image"},
	{"CIFAR without test", cifar_no_test, WASD_EINVAL, "test_batch.bin", "missing"},
	{"CIFAR without train", cifar_no_train, WASD_EINVAL, "data_batch_1.bin", "missing"},
	{"CIFAR without names", cifar_no_names, WASD_EINVAL, "batches.meta.txt", "missing"},
	{"CIFAR nine names", cifar_9_names, WASD_ECORRUPT, "c/batches.meta.txt", "9 class names"},
	{"CIFAR eleven names", cifar_11_names, WASD_ECORRUPT, "c/batches.meta.txt", "more than 10"},
	{"CIFAR equal names", cifar_same_names, WASD_ECORRUPT, "c/batches.meta.txt", "occurs twice"},
	{"CIFAR with a stranger", cifar_more, WASD_EINVAL, "c/virus.exe", "does not belong"},
	{"CIFAR batch twice", cifar_two, WASD_EINVAL, "d/data_batch_1.bin", "a second"},
	{"CIFAR-100 label 100", cifar100_label, WASD_ECORRUPT, "train.bin", "image 5 has label 100"},
	{"IDX magic", idx_magic, WASD_ECORRUPT, "train-images-idx3-ubyte", "magic number 0x00000d03"},
	{"IDX labels named images", idx_label_magic, WASD_ECORRUPT, "t10k-labels-idx1-ubyte",
     "magic number 0x00000803, but labels have 0x00000801"},
	{"IDX garbage", idx_garbage, WASD_ECORRUPT, "train-images-idx3-ubyte", "magic number 0x67617262"},
	{"IDX one image more", idx_more_promised, WASD_ECORRUPT, "train-images-idx3-ubyte", "21 images, but 20 labels"},
	{"IDX 4 G labels", idx_4g_promised, WASD_ETOOBIG, "train-labels-idx1-ubyte", "4294967295 samples"},
	{"IDX 3 M labels", idx_4m_labels, WASD_ECORRUPT, "train-labels-idx1-ubyte", "3145728 labels need"},
	{"IDX 3 M labels, gz", idx_4m_labels_gz, WASD_ECORRUPT, "train-labels-idx1-ubyte", "3145728"},
	{"IDX counts differ", idx_counts_differ, WASD_ECORRUPT, "t10k-images-idx3-ubyte", "4 images, but 5 labels"},
	{"IDX images cut", idx_images_cut, WASD_ECORRUPT, "t10k-images-idx3-ubyte",
     "ends in item 3, but its header says 5"},
	{"IDX images cut, gz", idx_images_cut_gz, WASD_ECORRUPT, "t10k-images-idx3-ubyte",
     "ends in item 3, but its header says 5"},
	{"IDX images go on", idx_images_longer, WASD_ECORRUPT, "train-images-idx3-ubyte", "has data after the 20"},
	{"IDX labels go on", idx_labels_longer, WASD_ECORRUPT, "train-labels-idx1-ubyte",
     "20 labels need 28 bytes, but the file has 29"},
	{"IDX test label 10", idx_label, WASD_ECORRUPT, "t10k-labels-idx1-ubyte",
     "label 3 is 10, but the training images have labels 0 to 9"},
	{"IDX label 12 alone", idx_label_alone, WASD_EINVAL, "train-labels-idx1-ubyte", "class 10 has no training image"},
	{"IDX class missing", idx_class_missing, WASD_EINVAL, "train-labels-idx1-ubyte", "class 7 has no training image"},
	{"IDX no samples", idx_no_samples, WASD_ECORRUPT, "t10k-labels-idx1-ubyte", "no samples"},
	{"IDX header cut", idx_head_cut, WASD_ECORRUPT, "train-images-idx3-ubyte", "too short"},
	{"IDX labels of 4 bytes", idx_empty_labels, WASD_ECORRUPT, "train-labels-idx1-ubyte", "too short"},
	{"IDX height 0", idx_no_height, WASD_ECORRUPT, "train-images-idx3-ubyte", "0x4 pixels"},
	{"IDX width 2^31", idx_huge_width, WASD_ECORRUPT, "train-images-idx3-ubyte", "5x2147483647 pixels"},
	{"IDX shapes differ", idx_other_shape, WASD_EINVAL, "t10k-images-idx3-ubyte",
     "4x5 pixels, but the other split has 5x4"},
	{"IDX three files", idx_three, WASD_EINVAL, "t10k-images-idx3-ubyte", "missing"},
	{"IDX one file, no name", idx_one, WASD_EINVAL, "(unnamed)", "split is unknown"},
	{"IDX train images twice", idx_two_trains, WASD_EINVAL, "train-images-idx3-ubyte (copy)",
     "a second file of train images"},
	{"IDX split unknown", idx_unnamed, WASD_EINVAL, "mnist-images-idx3-ubyte", "split is unknown"},
	{"IDX hostile name", idx_hostile_name, WASD_EINVAL, "t10k-images-idx3-ub?yte", "control"},
	{"IDX and a stranger", idx_stranger, WASD_EINVAL, "extra.bin", "not an IDX file"},
	{"IDX gzip checksum", idx_gz_damaged, WASD_ECORRUPT, "train-images-idx3-ubyte", "damaged gzip"},
	{"IDX gzip checksum in a tar", idx_gz_inside_damaged, WASD_ECORRUPT, "t10k-images-idx3-ubyte", "damaged gzip"},
};

static void refuses(void)
{
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const struct row *r = &rows[i];
#ifdef WASD_SANITIZED
		if (r->make == million_entries) /* half a gigabyte of headers takes minutes with the sanitizer */
			continue;
#endif
		struct upload u = {0};
		struct wasd_err err = {0};
		r->make(&u);
		int before = files_in(samples_dir), fds = files_in("/proc/self/fd");
		struct wasd_mem_stats m0 = wasd_mem_stats();
		int64_t t0 = wasd_mono_us();
		enum wasd_status s = wasd_ingest(u.f, u.n, sample_path("out.wds"), &u.o, NULL, &err);
		double seconds = (double)(wasd_mono_us() - t0) / 1e6;
		struct wasd_mem_stats m1 = wasd_mem_stats();
		CHECK_MSG(s == r->status, "%s: %s, want %s: '%s' %s", r->name, wasd_status_name(s), wasd_status_name(r->status),
		          err.pointer, err.msg);
		CHECK_MSG(r->pointer ? !strcmp(err.pointer, r->pointer) : err.pointer[0] != 0, "%s: pointer is '%s' (%s)",
		          r->name, err.pointer, err.msg);
		CHECK_MSG(strstr(err.msg, r->message), "%s: message is '%s'", r->name, err.msg);
		CHECK_MSG(files_in(samples_dir) == before, "%s: files are left", r->name);
		CHECK_MSG(files_in("/proc/self/fd") == fds, "%s: descriptors are left", r->name);
		CHECK_MSG(m1.allocs - m0.allocs == m1.frees - m0.frees, "%s: memory is left", r->name);
		CHECK_MSG(wasd_utf8_ok(err.pointer, strlen(err.pointer)) && wasd_utf8_ok(err.msg, strlen(err.msg)),
		          "%s: not UTF-8", r->name);
		if (seconds > 5)
			printf("# %s took %.1f s\n", r->name, seconds);
		for (int k = 0; k < u.n; k++)
			unlink(u.path[k]);
	}
}

int main(void)
{
	samples_begin();
	TEST_RUN(refuses);
	samples_end();
	TEST_END();
}
