#!/usr/bin/python3
"""What the program says about its commands: --help, `wasd help`, the completion of bash and the manual pages come from one table, and the parser reads
the same. Completion also asks a running daemon."""
import glob, os, re, shutil, subprocess

from lib import BUILD, PATIENCE, Daemon, Skip, case, check, directory, equal, finish

WASD = os.path.join(BUILD, "wasd")


def wasd(*args, rc=0, **env):
    p = subprocess.run([WASD, *args], capture_output=True, text=True, timeout=60 * PATIENCE, env=dict(os.environ, **env), stdin=subprocess.DEVNULL)
    equal(p.returncode, rc, f"wasd {' '.join(args)}: {p.stdout}{p.stderr}")
    return p.stdout, p.stderr


def complete(*lines, **env):
    """The candidates of bash for these lines, each a list of words of which the last is completed."""
    script = f"PATH={BUILD}:$PATH\nsource <(wasd completion bash)\n"
    for words in lines:
        script += f"COMP_WORDS=({' '.join(repr(w) for w in words)}); COMP_CWORD={len(words) - 1}; _wasd; printf '%s ' \"${{COMPREPLY[@]}}\"; echo\n"
    p = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True, timeout=60 * PATIENCE, env=dict(os.environ, **env))
    equal((p.returncode, p.stderr), (0, ""))
    return [line.split() for line in p.stdout.split("\n")[:-1]]


listed = re.findall(r"^  wasd ([a-z]+(?: [a-z]+)?)(?: .*?)?  +\S.*$", wasd("help")[0], re.M)
OUTSIDE = ("serve", "bench train", "bench infer", "version")           # main.c or the engine reads their options
pages = directory()
options = {}

with case("help: every command has a line, an own help with an example, and the same help under `wasd help`"):
    check({"submit", "data add", "deploy", "bench serve", "man"} <= set(listed) and len(listed) > 30, listed)
    equal(len(listed), len(set(listed)))
    for name in listed:
        said = wasd("help", *name.split())[0]
        check(said.startswith(f"usage: wasd {name}") and f"\n  wasd {name}" in said or name == "completion", said)
        check("Exit status: 0 " in said and max(map(len, said.splitlines())) <= 120, said)
        if name not in OUTSIDE:
            equal(wasd(*name.split(), "--help")[0], said)
            options[name] = re.findall(r"^  (?:-\w, )?(--?\w[\w-]*)( \S+)?  ", said, re.M)
    for name in ("none", "data none"):
        check("there is no command" in wasd("help", *name.split(), rc=2)[1], name)
    check("unknown command none" in wasd("none", rc=2)[1] and "data needs another word" in wasd("data", rc=2)[1], "wrong commands")

with case("the parser takes every option of the help, wants a value exactly where the help shows one, and refuses others"):
    for name, rows in options.items():
        for option, value in rows:
            if option == "--compare":
                continue                                                           # its value may be left out
            if value:
                err = wasd(*name.split(), option, rc=2)[1]
                equal(err.splitlines()[0], f"wasd {name}: {option} needs a value")
            elif option.startswith("--"):
                err = wasd(*name.split(), f"{option}=1", rc=2)[1]
                equal(err.splitlines()[0], f"wasd {name}: {option}=1 takes no value")
        equal(wasd(*name.split(), "--no-such-option", rc=2)[1].splitlines()[0], f"wasd {name}: unexpected argument --no-such-option")

with case("completion: commands, groups, options and their values, members of a spec"):
    got = complete(["wasd", "su"], ["wasd", "data", ""], ["wasd", "models", "a"], ["wasd", "submit", "--w"], ["wasd", "submit", "--set", "train.sch"], ["wasd", "logs", "x", "--level", ""],
                   ["wasd", "mode", "reader", "d"], ["wasd", "completion", ""], ["wasd", "help", "und"], ["wasd", "none", ""], WASD_URL="127.0.0.1:1")
    equal(got, [["submit"], ["add", "ls", "show"], ["add", "alias"], ["--watch", "--wait"], ["train.schedule=", "train.schedule.warmup_epochs="], ["debug", "info", "warn", "error"], ["dom"], ["bash", "zsh"],
                ["undeploy"], []])
    firsts = complete(["wasd", ""])[0]
    equal(sorted(firsts), sorted({name.split()[0] for name in listed}))
    for name, rows in options.items():
        equal(sorted(complete(["wasd", *name.split(), "--"])[0]), sorted([o for o, _ in rows if o.startswith("--")] + ["--help"]))
    here = directory()
    open(f"{here}/spec.json", "w").close()
    equal(complete(["wasd", "submit", f"{here}/sp"]), [[f"{here}/spec.json"]])

with case("completion: names of the running daemon"):
    with Daemon() as d:
        d.glyphs(train=100, test=20)
        job = d.submit(name="first", dataset="glyphs", model={"arch": "lenet"}, train={"epochs": 1, "batch": 50})["id"]
        d.submit(name="with space", dataset="glyphs", model={"arch": "lenet"}, train={"epochs": 1, "batch": 50})
        url = f"127.0.0.1:{d.port}"
        equal(complete(["wasd", "watch", ""], ["wasd", "watch", job[:30]], ["wasd", "data", "show", "g"], ["wasd", "watch", "--url", url, "f"], WASD_URL=url),
              [["first"], [job], ["glyphs"], ["first"]])

with case("zsh: the script is well-formed"):
    if not shutil.which("zsh"):
        raise Skip("zsh is not here")
    equal(subprocess.run(["zsh", "-n"], input=wasd("completion", "zsh")[0], text=True, capture_output=True).stderr, "")

with case("manual pages: one per command, with every option; roff is well-formed"):
    wasd("man", "--all", pages)
    equal(sorted(os.path.basename(p) for p in glob.glob(f"{pages}/*")), sorted(["wasd.1"] + [f"wasd-{n.replace(' ', '-')}.1" for n in listed]))
    for name in listed:
        with open(f"{pages}/wasd-{name.replace(' ', '-')}.1") as f:
            page = f.read()
        equal(wasd("man", *name.split())[0], page)
        equal(re.findall(r"^\.TP\n(?:\\fB\\-\w\\fR, )?\\fB(\S+?)\\fR", page, re.M), [o.replace("-", r"\-") for o, _ in options.get(name, [])], name)
        check(not re.search(r"^[.'](?!TH|SH|TP|PP|nf|fi|br|BR)", page, re.M), name)
    with open(f"{pages}/wasd.1") as f:
        equal(re.findall(r"^\\fBwasd ([a-z ]+)\\fR", f.read().partition(".SH COMMANDS")[2], re.M), listed)
    tool = ["groff", "-man", "-Tutf8", "-ww", "-z"] if shutil.which("groff") else ["mandoc", "-Tlint", "-Wwarning"] if shutil.which("mandoc") else None
    if not tool:
        raise Skip("neither groff nor mandoc is here")
    said = subprocess.run([*tool, *sorted(glob.glob(f"{pages}/*"))], capture_output=True, text=True)
    equal((said.stdout, said.stderr), ("", ""))

finish()
