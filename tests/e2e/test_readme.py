#!/usr/bin/python3
"""Pastes the README's tour into a shell, block by block."""
import os, re

from lib import TOP, Daemon, case, check, directory, finish, learned, pasted, safetensors

with open(os.path.join(TOP, "README.md")) as f:
    tour = re.search(r"^## A tour with curl\n(.*?)^## ", f.read(), re.S | re.M).group(1)
blocks = re.findall(r"^```sh\n(.*?)^```$", tour, re.S | re.M)

with Daemon() as d, case("the README's tour runs as printed"):
    check(len(blocks) >= 5, f"only {len(blocks)} blocks found")
    where = directory()
    said = pasted(blocks, d.port, where)
    for words in ('"state":"completed"', '"generation":2', '"mode":"dom"', '"mode":"dom:light"', "val_acc_dom", '"reason":"half the load"'):
        check(words in said.replace('": ', '":'), f"{words} is not in what came back:\n{said[-3000:]}")
    learned(said)
    with open(os.path.join(where, "model.safetensors"), "rb") as f:
        check(safetensors(f.read())[1], "the checkpoint has tensors")

finish()
