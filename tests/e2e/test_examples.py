#!/usr/bin/python3
"""The examples of the reference: the shell blocks of a page, pasted one after the other."""
import glob, os, re

from lib import TOP, Daemon, case, check, directory, finish, learned, pasted

ran = 0
for path in sorted(glob.glob(os.path.join(TOP, "web/docs/*.md"))):
    with open(path) as f:
        blocks = re.findall(r"^```sh\n(.*?)^```$", f.read(), re.S | re.M)
    if not blocks:
        continue
    ran += 1
    with Daemon() as d, case(f"the examples of {os.path.basename(path)} run as printed"):
        said = pasted(blocks, d.port, directory())
        if path.endswith("web/docs/start.md"):
            learned(said)
with case("the reference has examples that run"):
    check(ran >= 2, f"{ran} pages")
finish()
