#!/usr/bin/python3
"""Dependencies: the files of api/ call each other in one direction only, and so do the folders of core/ and of server/, both by their
#include lines and by their symbols. Known circles are listed here, as far as they still exist."""
import glob, os, re, subprocess

from lib import BUILD, TOP, case, check, equal, finish

# server/ itself has two parts: files that every folder may use, and files that connect the folders.
TOOLS = {"address", "config", "disk", "log", "notify", "pool"}
# fields.c looks a member's form up by name in a table, and the functions of that table use fields.c.
KNOWN_CALL = ("fields", "forms")
# Folders of core/ that still include each other.
KNOWN_INCLUDES = [{"infer", "train"}]


def circles(uses):
    """The sets of nodes that reach each other, of {node: {node}}."""
    reach = {n: set(m) for n, m in uses.items()}
    while True:
        more = {n: m.union(*(reach.get(k, set()) for k in m)) for n, m in reach.items()}
        if more == reach:
            break
        reach = more
    return sorted({tuple(sorted(k for k in m if n in reach.get(k, ()))) for n, m in reach.items() if n in m})


def unknown(uses, known):
    """The circles that are not part of a known circle."""
    return [c for c in circles(uses) if not any(set(c) <= k for k in known)]


def sources(pattern):
    return sorted(os.path.relpath(f, TOP) for f in glob.glob(os.path.join(TOP, pattern)))


def includes(top, where):
    """{folder: {folder}} of the #include lines below top."""
    uses = {}
    for path in sources(f"{top}/*.[ch]") + sources(f"{top}/*/*.[ch]"):
        with open(os.path.join(TOP, path), encoding="utf-8") as f:
            names = re.findall(r'^#include "([^"]+)"', f.read(), re.M)
        for name in names:
            found = [p for p in (os.path.join(os.path.dirname(path), name), os.path.join(top, name)) if os.path.exists(os.path.join(TOP, p))]
            if found and where(found[0]) != where(path):
                uses.setdefault(where(path), set()).add(where(found[0]))
    return uses


def calls(paths, where):
    """{place: {place}} of the symbols that the objects of these sources define and want."""
    defined, wanted = {}, []
    for path in paths:
        out = subprocess.run(["nm", os.path.join(BUILD, "obj", path[:-2] + ".o")], capture_output=True, text=True, check=True).stdout
        for kind, name in re.findall(r"^ *[0-9a-f]* ([A-Z]) (\w+)$", out, re.M):
            if kind == "U":
                wanted.append((where(path), name))
            else:
                defined[name] = where(path)
    uses = {}
    for place, name in wanted:
        if defined.get(name, place) != place:
            uses.setdefault(place, set()).add(defined[name])
    return uses


def room(path):
    folder, name = os.path.split(path)
    return os.path.basename(folder) if folder != "server" else "tools" if name[:-2] in TOOLS else "daemon"


with case("structure: circles are found"):
    equal(circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}), [("b", "c")])
    equal(circles({"a": {"b", "c"}, "b": {"c"}}), [])
    equal(unknown({"a": {"b"}, "b": {"a"}}, [{"a", "b", "c"}]), [])
    equal(unknown({"a": {"b"}, "b": {"a"}}, [{"a", "c"}]), [("a", "b")])

with case("structure: the files of api/ call each other in one direction"):
    uses = calls(sources("api/*.c"), lambda path: os.path.basename(path)[:-2])
    check(len(uses) > 15 and "errors" in uses["jobs"], f"calls of {len(uses)} files were found")
    uses[KNOWN_CALL[0]].remove(KNOWN_CALL[1])
    equal(circles(uses), [])

with case("structure: the folders of server/ use each other in one direction"):
    included, called = includes("server", room), calls(sources("server/*.c") + sources("server/*/*.c"), room)
    check({"http", "jobs", "serving"} <= included["daemon"] & called["daemon"], "the daemon's rooms were not found")
    equal(circles(included), [])
    equal(circles(called), [])
    equal(included.get("tools", set()) | called.get("tools", set()), set())

with case("structure: the folders of core/ include each other in one direction, except for the known circles"):
    included = includes("core", lambda path: path.split("/")[1])
    check("layers" in included["graph"], "the folders of core/ were not found")
    equal(unknown(included, KNOWN_INCLUDES), [])
finish()
