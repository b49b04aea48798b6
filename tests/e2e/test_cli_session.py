#!/usr/bin/python3
"""The recorded session of web/docs/cli.md, typed again: the commands of the page run one after the other, and what they print is what the page shows,
except for numbers and ids."""
import os, re, subprocess

from lib import BUILD, PATIENCE, TOP, Daemon, case, check, directory, equal, finish

with open(os.path.join(TOP, "web/docs/cli.md")) as f:
    page = f.read()
blocks = re.findall(r"^```console\n(.*?)^```$", page, re.S | re.M)
steps = [re.match(r"\$ ((?:[^\n]*\\\n)*[^\n]*)\n(.*)\Z", part, re.S).groups() for block in blocks for part in re.split(r"(?m)^(?=\$ )", block) if part]


def plain(text):
    """Without what differs from run to run: ids, digests, numbers, the sign of a number that is missing, widths of columns."""
    text = re.sub(r"\b(job|ckpt|ds)_[0-9A-Z]{26}\b", r"\1_ID", text)
    text = re.sub(r"\b[0-9a-f]{64}\b", "DIGEST", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", text)
    text = re.sub(r"\b\d+ (s|min \d\d s)\b", "DURATION", text)
    text = re.sub(r"\d+(\.\d+)?", "N", text)
    text = re.sub(r"(N) +differ$", r"\1", text, flags=re.M)                        # whether the modes agree on an image
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


with Daemon() as d:
    where, env = directory(), dict(os.environ, WASD_URL=f"http://127.0.0.1:{d.port}", PATH=BUILD + ":" + os.environ["PATH"])
    with case("the page's session runs as printed"):
        check(len(steps) >= 8, f"only {len(steps)} steps were found")
        for word in ("data add", "submit", "compare", "deploy", "classify"):
            check(any(f"wasd {word} " in command for command, _ in steps), f"the session has no wasd {word}")
        for command, printed in steps:
            done = subprocess.run(["bash", "-c", command.replace("127.0.0.1:8080", f"127.0.0.1:{d.port}")], cwd=where, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                  timeout=120 * PATIENCE)
            equal(done.returncode, 0, f"{command}: {done.stdout}")
            equal(plain(done.stdout.replace(f"127.0.0.1:{d.port}", "127.0.0.1:8080")), plain(printed), command)
    with case("the job of the session has learned"):
        best = d.client.get("/v1/jobs?name=first").json["items"][0]["best"]["metrics"]
        check(min(best["test_acc_aom"], best["test_acc_dom"]) > 0.3, f"guessing would be 0.1: {best}")

with case("the page lists every command of the program, as its help does"):
    rows = re.findall(r"^  wasd ([a-z]+(?: [a-z]+)?)( .*?)?  +(\S.*)$", subprocess.run([os.path.join(BUILD, "wasd"), "help"], capture_output=True, text=True, check=True).stdout, re.M)
    table = page.partition("## Commands")[2]
    missing = [name for name, args, summary in rows if f"| `wasd {(name + args.rstrip()).replace('|', chr(92) + '|')}` | {summary}" not in table]
    equal(missing, [])
    equal(table.count("| `wasd "), len(rows))

finish()
