#!/usr/bin/python3
"""The README's tour, pasted into a shell block by block."""
import os, re, subprocess

from lib import PATIENCE, TOP, Daemon, case, check, directory, equal, finish, safetensors

with open(os.path.join(TOP, "README.md")) as f:
    tour = re.search(r"^## A tour with curl\n(.*?)^## ", f.read(), re.S | re.M).group(1)
blocks = re.findall(r"^```sh\n(.*?)^```$", tour, re.S | re.M)

with Daemon() as d, case("the README's tour runs as printed"):
    check(len(blocks) >= 5, f"only {len(blocks)} blocks found")
    script = "\n".join(blocks)
    equal(script.count("W=http://127.0.0.1:8080\n"), 1)
    script = script.replace("W=http://127.0.0.1:8080", f"W=http://127.0.0.1:{d.port}")
    # Any answer that is not a success ends the shell.
    script = "set -e\ncurl() { command curl -sS --fail-with-body --max-time 150 \"$@\" || { echo \"failed: curl $*\" >&2; exit 1; }; echo; }\n" + script
    where = directory()
    done = subprocess.run(["sh", "-c", script], cwd=where, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300 * PATIENCE)
    equal(done.returncode, 0, done.stdout[-3000:])
    for words in ('"state":"completed"', '"generation":2', '"mode":"dom"', '"mode":"dom:light"', "val_acc_dom", '"reason":"half the load"'):
        check(words in done.stdout.replace('": ', '":'), f"{words} is not in what came back:\n{done.stdout[-3000:]}")
    with open(os.path.join(where, "model.safetensors"), "rb") as f:
        check(safetensors(f.read())[1], "the checkpoint has tensors")

finish()
