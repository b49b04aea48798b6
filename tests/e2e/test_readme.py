#!/usr/bin/python3
"""The README's tour, pasted into a shell block by block."""
import os, re

from lib import TOP, Daemon, case, check, directory, finish, pasted, safetensors

with open(os.path.join(TOP, "README.md")) as f:
    tour = re.search(r"^## A tour with curl\n(.*?)^## ", f.read(), re.S | re.M).group(1)
blocks = re.findall(r"^```sh\n(.*?)^```$", tour, re.S | re.M)

with Daemon() as d, case("the README's tour runs as printed"):
    check(len(blocks) >= 5, f"only {len(blocks)} blocks found")
    where = directory()
    said = pasted(blocks, d.port, where)
    for words in ('"state":"completed"', '"generation":2', '"mode":"dom"', '"mode":"dom:light"', "val_acc_dom", '"reason":"half the load"'):
        check(words in said.replace('": ', '":'), f"{words} is not in what came back:\n{said[-3000:]}")
    best = re.search(r'"best":\s*(\{.*?\}\s*\})', said, re.S)
    for mode in ("aom", "dom"):
        found = re.search(rf'"test_acc_{mode}":\s*([0-9.]+)', best.group(1)) if best else None
        check(found and float(found.group(1)) > 0.9, f"test accuracy of the best epoch in {mode.upper()}: {found.group(1) if found else 'not there'}")
    with open(os.path.join(where, "model.safetensors"), "rb") as f:
        check(safetensors(f.read())[1], "the checkpoint has tensors")

finish()
