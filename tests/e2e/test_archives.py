#!/usr/bin/python3
"""Archives and foreign files as found in practice, from ../shared/cases: the result of each, one row per file and query."""
import os

from lib import SHARED, Daemon, Skip, case, check, equal, finish

CASES = os.path.join(SHARED, "cases")

# file, query, and the expected version: members by name, "remarks" by code and count; or status 422 and parts of its problem
ROWS = [
    ("mnist_small.tar", "", {"format": "idx", "shape": [1, 28, 28], "classes": [str(i) for i in range(10)]}),
    ("kaggle_mnist_twice.zip", "", {"format": "idx", "shape": [1, 28, 28], "remarks": {"duplicates": 4}}),
    ("mnist_keras.npz", "", (422, "NumPy .npz", "send the four IDX files")),
    ("cifar10_python.tar.gz", "", (422, "CIFAR in its Python version", "binary version")),
    ("petimages_like.tar", "?size=32", (422, "train/cat/8.jpg", "empty file")),
    ("petimages_like.tar", "?size=32&on_bad=skip", {"format": "images", "classes": ["cat", "dog"], "shape": [3, 32, 32], "skipped_names": {"train/cat/8.jpg"}}),
    ("dash_idx_names.zip", "", {"format": "images", "classes": ["cat", "dog"], "train": 6, "test": 2, "remarks": {}}),
    ("val.zip", "", {"format": "images", "train": 6, "test": 2, "remarks": {"val_as_test": 2}}),
    ("classes_txt.zip", "", {"format": "images", "train": 6, "test": 2, "remarks": {"ignored": 1}}),
    ("nested.zip", "", (422, "train/cat/day1/9.png", "deeper than train/CLASS/")),
    ("cp437.zip", "", {"format": "images", "classes": ["Grün", "Rot!"], "train": 6, "test": 2, "remarks": {"zip_names": 1}}),
]


def check_version(version, want):
    for member, value in want.items():
        if member == "remarks":
            equal({r["code"]: r["count"] for r in version["remarks"]}, value, "remarks")
        elif member == "skipped_names":
            got = {s["file"] for s in version["skipped"]}
            check(value <= got, f"{value} is skipped, {got}")
            equal([r["count"] for r in version["remarks"] if r["code"] == "bad_skipped"], [len(got)], "bad_skipped")
        else:
            equal(version[member], value, member)


def check_refusal(reply, want):
    problem = reply.json
    equal((reply.status, problem["code"]), (want[0], "bad_dataset"), problem.get("detail"))
    for part in want[1:]:
        check(part in reply.body.decode(), f"{part!r} in {reply!r}")


def main():
    with Daemon() as d:
        for i, (name, query, want) in enumerate(ROWS):
            with case(f"{name}{query}"):
                path = os.path.join(CASES, name)
                if not os.path.exists(path):
                    raise Skip(f"no cases/{name} in WASD_SHARED")
                with open(path, "rb") as f:
                    reply = d.client.put(f"/v1/datasets/case{i}{query}{'&' if query else '?'}wait=60s", f.read(), want=(200, 201, 422))
                if isinstance(want, tuple):
                    check_refusal(reply, want)
                else:
                    check(reply.status in (200, 201), reply)
                    check_version(d.client.get(f"/v1/datasets/case{i}").json, want)
    finish()


main()
