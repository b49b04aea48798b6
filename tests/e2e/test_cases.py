#!/usr/bin/python3
"""Files as found in practice, from shared/cases: one row for the result of each upload; and pictures whose pixels must equal those
read by Pillow, in a data set and in an answer of a deployment trained on such a set."""
import os, re, struct, zlib

from lib import SHARED, Daemon, Skip, case, check, equal, finish, multipart, png, tar

CASES = os.path.join(SHARED, "cases")

# file, query of the upload, state, expected members of the version; remarks: {code: count}
UPLOADS = [
    ("mnist_small.tar", "", "ready", {"shape": [1, 28, 28], "fit": "squeeze", "background": "ffffff", "orientation": "upright"}),
    ("mnist_small.tar", "size=32", "ready", {"shape": [1, 32, 32], "options": {"size": 32}}),
    ("mnist_small.tar", "size=64&fit=crop", "ready", {"shape": [1, 64, 64], "fit": "crop"}),
    ("icons_on_transparent.tar.gz", "", "ready", {"remarks": {"alpha_flattened": 30}, "background": "ffffff"}),
    ("icons_on_transparent.tar.gz", "background=000000", "ready", {"remarks": {"alpha_flattened": 30, "std_zero": 1}, "background": "000000"}),
]

# Pixels (x, y) of a picture as read by Pillow: exif_transpose, then RGB; and the remark that its upload gets.
PICTURES = [
    ("jfif_000.jpg", "", "jpeg_remark", {(2, 3): (25, 238, 145), (29, 4): (188, 146, 134), (5, 28): (227, 211, 116), (20, 17): (81, 61, 236)}),
    ("extraneous.jpg", "", "jpeg_remark", {(2, 3): (25, 238, 145), (29, 4): (188, 146, 134), (5, 28): (227, 211, 116), (20, 17): (81, 61, 236)}),
    ("cmyk.jpg", "", "cmyk_converted", {(2, 3): (29, 239, 137), (29, 4): (186, 145, 137), (5, 28): (229, 212, 112), (20, 17): (79, 59, 246)}),
    ("exif6.jpg", "", "oriented", {(2, 3): (252, 222, 88), (29, 4): (20, 251, 137), (5, 28): (84, 47, 78), (20, 17): (206, 48, 184)}),
    ("exif6.jpg", "orientation=keep", None, {(3, 29): (252, 222, 88), (4, 2): (20, 251, 137), (28, 26): (84, 47, 78), (17, 11): (206, 48, 184)}),
]
REFUSED = [("no_eoi.jpg", "Premature end"), ("iccp_badcrc.png", "PNG")]


def read(name):
    path = os.path.join(CASES, name)
    if not os.path.exists(path):
        raise Skip(f"{name} is not in WASD_SHARED/cases")
    with open(path, "rb") as f:
        return f.read()


def upload(d, name, data, query, want="ready"):
    r = d.client.put(f"/v1/datasets/{name}?wait=60s" + (f"&{query}" if query else ""), data, want=(200, 201) if want == "ready" else 422)
    return r.json


def counts(version):
    return {r["code"]: r["count"] for r in version["remarks"]}


def unpack_png(data):
    """(width, height, bytes of the rows) of an 8-bit RGB PNG."""
    at, idat = 8, b""
    while at < len(data):
        n, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + n]
        if kind == b"IHDR":
            w, h, depth, colour = struct.unpack(">IIBB", body[:10])
            equal((depth, colour), (8, 2), "depth and colour type of a preview")
        idat += body if kind == b"IDAT" else b""
        at += n + 12
    raw, out, before = zlib.decompress(idat), bytearray(), bytearray(3 * w)
    for y in range(h):
        kind, row = raw[y * (3 * w + 1)], bytearray(raw[y * (3 * w + 1) + 1:(y + 1) * (3 * w + 1)])
        for i in range(3 * w):
            a, b, c = row[i - 3] if i > 2 else 0, before[i], before[i - 3] if i > 2 else 0
            p = a + b - c
            near = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            row[i] = (row[i] + (0, a, b, (a + b) // 2, near)[kind]) & 255
        out += row
        before = row
    return w, h, bytes(out)


def preview(d, name, version, split="train", i=0):
    return d.client.get(f"/v1/datasets/{name}/preview?split={split}&i={i}&version={version}").body


def picture_set(name, data):
    """Two classes; the picture is the first training image of the first class."""
    other = png(32, 32, lambda x, y: (x * 8, y * 8, 99))
    ext = name.rsplit(".", 1)[1]
    return tar([(f"train/a/0.{ext}", data), ("train/b/0.png", other), ("test/a/0.png", other), ("test/b/0.png", other)])


def logits(d, deployment, body, kind="application/octet-stream"):
    r = d.client.post(f"/v1/deployments/{deployment}/classify?logits=1", body, headers={"Content-Type": kind}).json
    return r["results"][0]["logits"]


def rows_of(test):
    """The first members of the rows of a test's tables."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), test)) as f:
        return set(re.findall(r'\("([^"]+\.\w+)", ', f.read()))


with case("every file has a row, here or in test_archives.py"):
    if not os.path.isdir(CASES):
        raise Skip("no cases in WASD_SHARED")
    equal(sorted(set(os.listdir(CASES)) - {"README.md"} - rows_of("test_cases.py") - rows_of("test_archives.py")), [], "files without a row")

with Daemon() as d:
    with case("uploads"):
        for i, (name, query, state, want) in enumerate(UPLOADS):
            v = upload(d, f"case-{i}", read(name), query, state)
            for member, value in want.items():
                equal(counts(v) if member == "remarks" else v[member], value, f"{name}?{query}: {member}")

    with case("a background other than black leaves a visible image"):
        v = d.client.get("/v1/datasets/case-3").json
        check(min(v["std"]) > 0.1 and min(v["mean"]) > 0.5, f"mean {v['mean']}, std {v['std']}")

    with case("bad option values are named"):
        data = read("mnist_small.tar")
        for query, name in (("fit=stretch", "fit"), ("background=white", "background"), ("background=ffff", "background"), ("orientation=6", "orientation"), ("size=4", "size")):
            r = d.client.put(f"/v1/datasets/never?{query}", data, want=400).json
            equal(r["errors"][0]["pointer"] if r.get("errors") else name, name, query)
            check(name in r["detail"], f"{query}: {r['detail']}")
        d.client.get("/v1/datasets/never", want=404)

    with case("pixels as read by Pillow, counted"):
        for name, query, code, points in PICTURES:
            v = upload(d, "picture", picture_set(name, read(name)), query)
            equal(counts(v), {code: 1} if code else {}, f"{name}?{query}: remarks")
            w, _, px = unpack_png(preview(d, "picture", v["version"]))
            for (x, y), want in points.items():
                got = px[3 * (y * w + x):3 * (y * w + x) + 3]
                check(all(abs(g - e) <= 2 for g, e in zip(got, want)), f"{name}?{query}: pixel {x},{y} is {tuple(got)}, Pillow's {want}")

    with case("damaged pictures are rejected by name"):
        for name, words in REFUSED:
            r = upload(d, "damaged", picture_set(name, read(name)), "", "invalid")
            check(words in str(r) and "train/a/0." in str(r), f"{name}: {r}")

    with case("a deployment prepares a picture like its training data"):
        for query, other in (("size=32&fit=crop&background=20c040&orientation=keep", "size=32"), ("size=32", "size=32&fit=crop&background=000000")):
            wide = png(48, 32, lambda x, y: (x * 5, y * 7, 40, 255 if (x // 3 + y) % 3 else 60), 4)
            turned = read("exif6.jpg")
            made = upload(d, "how", picture_set("wide.png", wide), query)
            upload(d, "how", picture_set("exif6.jpg", turned), query)
            job = d.submit(dataset={"name": "how", "version": made["version"]}, model={"arch": "lenet"}, was=False,
                           train={"epochs": 1, "batch": 2}, data={"val_fraction": 0})["id"]
            d.wait_job(job)
            name = "how-" + str(made["version"])
            shown = d.deploy(name, job, follow="latest")
            for member in ("fit", "background", "orientation"):
                equal(shown[member], made[member], f"{query}: {member} of the deployment")
            for what, data in (("wide.png", wide), ("exif6.jpg", turned)):
                same = upload(d, "how", picture_set(what, data), query)
                stored = preview(d, "how", same["version"])
                equal(logits(d, name, data), logits(d, name, stored), f"{what} as {query}: logits of the file and of the data set's pixels")
                unlike = upload(d, "how", picture_set(what, data), other)
                if what == "wide.png":
                    check(logits(d, name, data) != logits(d, name, preview(d, "how", unlike["version"])), f"{what}: {query} and {other} give the same")
            d.client.delete(f"/v1/deployments/{name}")

finish()
