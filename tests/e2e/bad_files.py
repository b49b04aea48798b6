"""Generates broken, hostile and merely wrong files for test_bad_input.py: archives, IDX, CIFAR binaries, images.

Rows of ARCHIVES: title, bytes, the name that the error must contain. Rows of IMAGES: title, bytes, text that the error must contain."""
import base64, gzip, io, random, struct, tarfile, zipfile, zlib

from lib import noise_png, tar

GOOD_PNG = noise_png(1)
GOOD_JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABQODxIPDRQSEBIXFRQYHjIhHhwcHj0sLiQySUBMS0dARkVQWnNiUFVtVkVGZIhlbXd7gYKBTmCNl4x9lnN+gXz/2wBDARUX"
    "Fx4aHjshITt8U0ZTfHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHz/wAARCAAgACADASIAAhEBAxEB/8QAFgABAQEAAAAAAAAA"
    "AAAAAAAAAwQG/8QAFxAAAwEAAAAAAAAAAAAAAAAAAAIDYf/EABcBAQEBAQAAAAAAAAAAAAAAAAQFAgb/xAAWEQEBAQAAAAAAAAAAAAAAAAADAAL/2gAMAwEAAhED"
    "EQA/AM4kR0jhQkR0jg3SWRWBI4UJEdI4UJEPpKwK06RwdI4UJHB0jgfSXJCsCRKEjg6RKEjgfSVkVv/Z")


def chunk(kind, data, crc=None):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) if crc is None else crc)


def raw_png(width, height, *chunks, depth=8, color=2):
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)) + b"".join(chunks)


def jpeg_size(width, height):
    at = GOOD_JPEG.index(b"\xff\xc0") + 5
    return GOOD_JPEG[:at] + struct.pack(">HH", height, width) + GOOD_JPEG[at + 4:]


IMAGES = [
    ("empty-ish", b"\0", "PNG"),
    ("text", b"this is not an image at all, only a sentence", "PNG"),
    ("GIF under another name", b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;", "PNG"),
    ("PNG signature alone", GOOD_PNG[:8], "PNG"),
    ("PNG cut in its pixels", GOOD_PNG[:len(GOOD_PNG) // 2], "PNG"),
    ("PNG with a wrong checksum", GOOD_PNG[:60] + bytes([GOOD_PNG[60] ^ 0xFF]) + GOOD_PNG[61:], "PNG"),
    ("PNG of 2^31 - 1 squared", raw_png(2**31 - 1, 2**31 - 1, chunk(b"IDAT", zlib.compress(b"\0" * 100)), chunk(b"IEND", b"")), "PNG"),
    ("PNG of 16384 squared, one colour", raw_png(16384, 16384, chunk(b"IDAT", zlib.compress(b"\0" * 2**20)), chunk(b"IEND", b"")), "pixel"),
    ("PNG without pixels", raw_png(32, 32, chunk(b"IEND", b"")), "PNG"),
    ("PNG of width 0", raw_png(0, 32, chunk(b"IDAT", zlib.compress(b"")), chunk(b"IEND", b"")), "PNG"),
    ("JPEG cut after its tables", GOOD_JPEG[:200], "JPEG"),
    ("JPEG cut in its scan", GOOD_JPEG[:-20], "JPEG"),
    ("JPEG of 65500 squared", jpeg_size(65500, 65500), "pixel"),
]


def tree(classes=("cat", "dog"), over=None):
    """The entries of a small good image archive, overridden by those of `over`."""
    files = {f"train/{c}/{i}.png": noise_png(10 * k + i) for k, c in enumerate(classes) for i in range(3)}
    files |= {f"test/{c}/{i}.png": noise_png(100 + 10 * k + i) for k, c in enumerate(classes) for i in range(2)}
    files |= over or {}
    return list(files.items())


def special_tar(kind, name, link=""):
    """The good archive, preceded by an entry that is a link, device or directory with this name."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as t:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        t.addfile(info)
        for path, data in tree():
            info = tarfile.TarInfo(path)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zipped(entries):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
        for name, data in entries:
            z.writestr(name, data)
    return out.getvalue()


def cifar(labels, cut=0):
    """A CIFAR-10 binary archive with one record per label in each of its six files."""
    record = lambda label, k: bytes([label]) + bytes(random.Random(k).randrange(256) for _ in range(3072))
    body = b"".join(record(label, k) for k, label in enumerate(labels))
    names = [f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)] + ["cifar-10-batches-bin/test_batch.bin"]
    return tar([(n, body[:len(body) - cut] if n.endswith("batch_2.bin") else body) for n in names]
               + [("cifar-10-batches-bin/batches.meta.txt", "\n".join(["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]).encode() + b"\n")], "w:gz")


def idx(kind, shape, data):
    return struct.pack(">HBB", 0, kind, len(shape)) + b"".join(struct.pack(">I", n) for n in shape) + data


def mnist(**over):
    pixels, labels = bytes(i % 256 for i in range(10 * 28 * 28)), bytes(range(10))
    files = {"train-images-idx3-ubyte": idx(8, (10, 28, 28), pixels), "train-labels-idx1-ubyte": idx(8, (10,), labels),
             "t10k-images-idx3-ubyte": idx(8, (10, 28, 28), pixels), "t10k-labels-idx1-ubyte": idx(8, (10,), labels)}
    files |= {k.replace("_", "-"): v for k, v in over.items()}
    return tar([(k, v) for k, v in files.items() if v is not None])


GOOD_TREE = tar(tree())

ARCHIVES = [
    ("random bytes", random.Random(1).randbytes(50000), ""),
    ("a text file", b"hello\n" * 100, ""),
    ("gzip of nothing known", gzip.compress(b"hello\n" * 100), ""),
    ("tar.gz cut in the middle", gzip.compress(GOOD_TREE)[:8000], ""),
    ("tar cut in a file", GOOD_TREE[:10000], ""),
    ("zip without its directory", zipped(tree())[:-60], ""),
    ("a path that climbs out", tar([("../../evil.png", GOOD_PNG)] + tree()), "evil.png"),
    ("an absolute path", tar([("/etc/evil.png", GOOD_PNG)] + tree()), "evil.png"),
    ("a symbolic link", special_tar(tarfile.SYMTYPE, "train/cat/link.png", "/etc/passwd"), "link.png"),
    ("a hard link", special_tar(tarfile.LNKTYPE, "train/cat/hard.png", "/etc/passwd"), "hard.png"),
    ("a device", special_tar(tarfile.CHRTYPE, "train/cat/device.png"), "device.png"),
    ("a truncated PNG", tar(tree(over={"train/cat/1.png": GOOD_PNG[:80]})), "train/cat/1.png"),
    ("text named .png", tar(tree(over={"train/dog/2.png": b"no image"})), "train/dog/2.png"),
    ("a PNG bomb", tar(tree(over={"test/dog/1.png": raw_png(2**31 - 1, 2**31 - 1, chunk(b"IDAT", zlib.compress(b"\0" * 100)), chunk(b"IEND", b""))})), "test/dog/1.png"),
    ("a truncated JPEG", tar(tree(over={"train/cat/9.jpg": GOOD_JPEG[:200]})), "train/cat/9.jpg"),
    ("images of different sizes", tar(tree(over={"train/dog/odd.png": noise_png(7, 16)})), "odd.png"),
    ("a class only in test", tar(tree(over={"test/fish/0.png": GOOD_PNG})), "fish"),
    ("no training images", tar([e for e in tree() if e[0].startswith("test/")]), "train"),
    ("no test images", tar([e for e in tree() if e[0].startswith("train/")]), "test"),
    ("an empty tar", tar([]), ""),
    ("zip with a path that climbs out", zipped([("train/../../evil.png", GOOD_PNG)] + tree()), "evil.png"),
    ("zip bomb in an image", zipped(tree(over={"train/cat/0.png": b"\0" * (64 << 20)})), "train/cat/0.png"),
    ("CIFAR: a label out of range", cifar([0, 1, 10, 3]), "data_batch"),
    ("CIFAR: a cut record", cifar([0, 1, 2, 3], cut=100), "data_batch_2"),
    ("IDX: wrong magic", mnist(train_images_idx3_ubyte=b"\1\2\3\4" + b"\0" * 3000), "train-images"),
    ("IDX: fewer bytes than announced", mnist(train_images_idx3_ubyte=idx(8, (10, 28, 28), b"\0" * 100)), "train-images"),
    ("IDX: more labels than images", mnist(train_labels_idx1_ubyte=idx(8, (11,), bytes(range(10)) + b"\0")), "train"),
    ("IDX: a label missing file", mnist(t10k_labels_idx1_ubyte=None), "t10k"),
    ("IDX: 2^32 - 1 images", mnist(t10k_images_idx3_ubyte=idx(8, (2**32 - 1, 28, 28), b"\0" * 100)), "t10k-images"),
    ("IDX: dimension 0", mnist(train_images_idx3_ubyte=idx(8, (10, 0, 28), b"")), "train-images"),
]
