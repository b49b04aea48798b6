#!/usr/bin/python3
"""The examples of the reference: the shell blocks of a page, pasted one after the other, and then its Python blocks as one program, in
the virtual environment of the stock clients."""
import glob, os, re, subprocess

from clients import environment
from lib import TOP, Daemon, Skip, case, check, directory, equal, finish, learned, pasted

ran = 0
for path in sorted(glob.glob(os.path.join(TOP, "web/docs/*.md"))):
    with open(path) as f:
        page = f.read()
    blocks = re.findall(r"^```sh\n(.*?)^```$", page, re.S | re.M)
    programs = re.findall(r"^```python\n(.*?)^```$", page, re.S | re.M)
    if not blocks:
        continue
    ran += 1
    where, name = directory(), os.path.basename(path)
    with Daemon() as d:
        with case(f"the examples of {name} run as printed"):
            said = pasted(blocks, d.port, where)
            if path.endswith("web/docs/start.md"):
                learned(said)
            if path.endswith("web/docs/inference.md"):
                equal(said.replace('": "', '":"').count('"was_mode":"dom"'), 5, "answers in the mode that five requests name")
        if not programs:
            continue
        with case(f"the Python examples of {name} run as printed"):
            python, why = environment()
            if not python:
                raise Skip(why)
            program = "".join(programs)
            check(program.count("127.0.0.1:8080") >= 3, "where the programs name the daemon")
            done = subprocess.run([python, "-c", program.replace("127.0.0.1:8080", f"127.0.0.1:{d.port}")], cwd=where, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            equal(done.returncode, 0, done.stdout[-3000:])
            check("(2, 10) dom" in done.stdout and re.search(r"^\[\[b'0\.\d+:\d:\d'", done.stdout, re.M), done.stdout)
with case("the reference has examples that run"):
    check(ran >= 2, f"{ran} pages")
finish()
