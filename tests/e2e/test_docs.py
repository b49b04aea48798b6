#!/usr/bin/python3
"""The reference: its pages are served, every link and anchor resolves, every cited document, file and function exists, and every row of the
program's tables (routes, error codes, members of a job spec, settings) is described."""
import glob, html, json, os, re, subprocess

from lib import BUILD, TOP, Daemon, case, check, equal, finish

PAGES = sorted(os.path.basename(f)[:-3] for f in glob.glob(os.path.join(TOP, "web/docs/*.md")))
SOURCES = [f for f in subprocess.run(["git", "-C", TOP, "ls-files"], capture_output=True, text=True).stdout.split("\n") if f] or None
IGNORED = ("tests/fixtures/", "web/docs/errors.md")
EXAMPLES = ["A layer", "A network", "A transform", "A weight strategy", "A kind of mode", "An optimizer", "A schedule", "An augmentation", "A backend", "A data set format",
            "A message between the daemon and an engine process", "A route", "A setting", "A member of the job spec", "A step of the database", "A page of the reference"]


def text(path):
    with open(os.path.join(TOP, path), encoding="utf-8", errors="replace") as f:
        return f.read()


def sources():
    """The tree's own text files: those tracked by git or, in an unpacked archive, those in its folders."""
    names = SOURCES or [os.path.relpath(f, TOP) for top in ("api", "core", "server", "storage", "systemd", "tests", "web") for f in glob.glob(os.path.join(TOP, top, "**/*"), recursive=True)]
    return [n for n in names if n.endswith((".c", ".h", ".py", ".sh", ".js", ".css", ".html", ".md", "Makefile", ".in")) and os.path.isfile(os.path.join(TOP, n))]


class Page:
    def __init__(self, source):
        self.source = source
        self.ids = set(re.findall(r'\bid="([^"]+)"', source))
        self.links = [html.unescape(u) for u in re.findall(r'\b(?:href|src)="([^"]+)"', source)]


def fetch(d, cache, path):
    if path not in cache:
        reply = d.client.get(path, want=(200, 404))
        page = reply.headers["Content-Type"].startswith("text/html") and reply.status == 200
        cache[path] = Page(reply.body.decode()) if page else reply.status == 200
    return cache[path]


def page_of(name):
    return "/docs" if name == "index" else f"/docs/{name}"


def pages(d):
    cache = {}
    with case("docs: every page is served, has a title and is in the list of pages"):
        for name in PAGES:
            page = fetch(d, cache, page_of(name))
            check(page, f"{page_of(name)} is not served")
            check(re.search(r"<title>[^<@]+ · wasd</title>", page.source), f"{name} has no title")
            equal(page.source.count(' aria-current="page"'), 1, f"{name} in the list of pages")
        equal(d.client.get("/docs/").body, d.client.get("/docs").body)

    with case("docs: every link, picture and anchor resolves"):
        broken = []
        for name in PAGES:
            here = fetch(d, cache, page_of(name))
            for url in here.links:
                path, _, anchor = url.partition("#")
                if re.match(r"[a-z]+:", url):
                    continue
                there = fetch(d, cache, path) if path.startswith("/") else here if not path else None
                if not there or (anchor and anchor not in getattr(there, "ids", ())):
                    broken.append(f"{name}: {url}")
        equal(broken, [])
        check("/docs" in fetch(d, cache, "/").links, "the dashboard links the reference")

    with case("docs: pages are cached by their ETag and read-only"):
        first = d.client.get("/docs")
        equal(d.client.get("/docs", want=304, headers={"If-None-Match": first.headers["ETag"]}).body, b"")
        equal(d.client.post("/docs", {}, want=405).headers["Allow"], "GET, HEAD")
        d.client.get("/docs/none", want=404)
        d.client.get("/ui/docs/index.html", want=404)
    return cache


def tree(cache):
    with case("docs: links in README and Markdown resolve in the tree"):
        broken = []
        for path in ["README.md"] + [f"web/docs/{n}.md" for n in PAGES]:
            for url in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```$", "", text(path), flags=re.S | re.M)):
                file, _, anchor = url.partition("#")
                to = os.path.normpath(os.path.join(os.path.dirname(path), file)) if file else path
                name = re.fullmatch(r"web/docs/([a-z-]+)\.md", to)
                known = cache[page_of(name[1])].ids if name and page_of(name[1]) in cache else headings(to) if to.endswith(".md") else ()
                if not re.match(r"[a-z]+:", url) and (not os.path.exists(os.path.join(TOP, to)) or (anchor and anchor not in known)):
                    broken.append(f"{path}: {url}")
        equal(broken, [])

    with case("docs: documents cited by the sources are in the tree"):
        broken = []
        for path in sources():
            if path.startswith(IGNORED):
                continue
            for cited, anchor in re.findall(r"(?<![\w.])((?:[\w.-]+/)*(?:README|[a-z][\w-]*)\.md)\b(?:#([\w-]+))?", text(path)):
                if cited.startswith("../shared/"):
                    continue                          # material that a test uses if it exists
                to = cited if os.path.exists(os.path.join(TOP, cited)) else os.path.normpath(os.path.join(os.path.dirname(path), cited))
                name = re.fullmatch(r"web/docs/([a-z-]+)\.md", to)
                if not os.path.exists(os.path.join(TOP, to)) or (anchor and anchor not in (cache[page_of(name[1])].ids if name else headings(to))):
                    broken.append(f"{path}: {cited}{'#' + anchor if anchor else ''}")
        equal(broken, [])

    with case("docs: files and functions named in the pages exist"):
        names = set(SOURCES or sources())
        everything = "\n".join(text(f) for f in sources() if f.endswith((".c", ".h", ".py", ".sh", ".js", "Makefile")))
        broken = []
        for path in ["README.md"] + [f"web/docs/{n}.md" for n in PAGES]:
            body = re.sub(r"^```.*?^```$", "", text(path), flags=re.S | re.M)
            for file in set(re.findall(r"\b((?:api(?!/2\.0/)|core|server|storage|systemd|tests|web)/[\w./*-]*[\w/*])", body)):
                found = glob.glob(os.path.join(TOP, file)) or any(n.startswith(file) for n in names)
                if not found:
                    broken.append(f"{path}: {file}")
            for function in set(re.findall(r"`(\w+)\(\)`", body)):
                if not re.search(rf"\b{function}\(", everything):
                    broken.append(f"{path}: {function}()")
        equal(broken, [])


    with case("docs: the walks of a job and of an image name at most 12 files, and the functions that are defined in them"):
        walks = re.findall(r"^## (\w+ \w+, from .*)\n\n((?:\d+\. .*\n)+)", text("web/docs/architecture.md"), re.M)
        equal([name.split(",")[0] for name, _ in walks], ["A job", "An image"])
        broken = []
        for name, steps in walks:
            files = set(re.findall(r"`([\w/]+\.c)`", steps))
            check(6 <= len(files) <= 12, f"{name}: {len(files)} files")
            for step in steps.splitlines():
                place = [f for f in re.findall(r"`([\w/]+\.c)`", step) if os.path.isfile(os.path.join(TOP, f))]
                functions = re.findall(r"`(\w+)\(\)`", step)
                if not place or not functions:
                    broken.append(f"{step}: names no function or no file that is there")
                for file in place:
                    if not any(defined(function, file) for function in functions):
                        broken.append(f"{step}: {file} has none of {functions}")
                broken += [f"{function}() is not in {place}" for function in functions if not any(defined(function, file) for file in place)]
        equal(broken, [])

    with case("docs: each kind of thing has one worked example of adding it"):
        page = text("web/docs/extending.md")
        sections = dict(re.findall(r"^## ([^\n]*)\n(.*?)(?=^## |\Z)", page, re.S | re.M))
        equal([kind for kind in EXAMPLES if "```" not in sections.get(kind, "")], [])

    with case("docs: the examples in extending compile"):
        blocks = [b for b in re.findall(r"^```c\n(.*?)^```$", text("web/docs/extending.md"), re.S | re.M) if "#include" in b]
        check(len(blocks) >= 6, f"only {len(blocks)} examples with an #include")
        for block in blocks:
            where = ["api", "core/include", "storage"] if '"internal.h"' in block else ["core/include", "core"]
            done = subprocess.run(["gcc", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Werror", "-Wno-unused", "-fsyntax-only", *("-I" + f for f in where), "-x", "c", "-"], input=block, capture_output=True, text=True, cwd=TOP)
            equal(done.returncode, 0, block.split("\n")[0] + "\n" + done.stderr[:1000])


def defined(function, file):
    """Whether the C file has the body of the function."""
    return re.search(rf"^(?!\s|return\b)[^;{{}}()]*\b{function}\([^;{{}}]*\)\n\{{", text(file), re.M) is not None


def headings(path):
    slugs = set()
    for line in re.findall(r"^#{1,6} (.+)$", text(path), re.M):
        slugs.add(re.sub(r"[^a-z0-9_ -]", "", line.lower()).replace(" ", "-"))
    return slugs


def described(names, page, what):
    """Checks that every name occurs in the page (or in one of several) as `name`, alone or among others."""
    body = "\n".join(text(f"web/docs/{p}.md") for p in page.split())
    missing = sorted(n for n in names if not re.search(rf"(?:`|`[^`\n]*[\s.\"]){re.escape(n)}(?:`|[\s\"=][^`\n]*`)", body))
    equal(missing, [], f"{what} without a word in web/docs ({page})")


def members(spec, path=()):
    """The paths of all members of a spec with every default; what has a type of its own is described with it."""
    for name, value in spec.items():
        yield path + (name,)
        if isinstance(value, dict):
            yield from members(value, path + (name,))


def tables(d, cache):
    with case("docs: every error code is described"):
        rows = re.findall(r'^\t\{"(\w+)", \d+, "', text("api/errors.c"), re.M)
        check(len(rows) > 30, f"only {len(rows)} codes were found in api/errors.c")
        equal([code for code in rows if code not in cache["/docs/errors"].ids], [])

    with case("docs: every route is described, with its query parameters"):
        api = text("web/docs/api.md")
        rows = re.findall(r"<td><code>(\w+) (/\S+)</code></td>\n<td>.*</td>\n<td>(?:<code>(.*)</code>)?</td>", cache["/docs/api"].source)
        check(len(rows) > 50, f"only {len(rows)} routes were found")
        equal([f"{method} {path}" for method, path, _ in rows if f"`{method} {html.unescape(path)}`" not in api], [])
        described({n for _, path, query in rows if path.startswith("/v1/") for n in query.replace("label.*", "").replace("model.*", "").split()} - {"limit", "cursor", "sort"}, "api datasets", "query parameters")

    with case("docs: every member of a job spec is described"):
        d.glyphs("glyphs", train=100, test=20)
        whole = d.client.post("/v1/jobs?dry_run=true&bench=false", {"dataset": "glyphs", "model": {"arch": "vgg16"}, "train": {"early_stop": {}}}, want=200).json
        described({path[-1] for path in members(whole.pop("estimate"))}, "api", "members of the estimate")
        described({path[-1] for path in members(whole)} - {"version"}, "job-spec", "members")
        source = text("core/base/spec.c")
        rows = set(re.findall(r'\{"([a-z_]+)", WASD_[A-Z]', source))
        check(len(rows) > 40, f"only {len(rows)} rows were found in core/base/spec.c")
        described(rows, "job-spec modes", "rows of core/base/spec.c")
        can = d.client.get("/v1/capabilities").json
        own_page = re.compile("/(profiles/N|modes/N|model|dataset|init_from)/")   # described elsewhere
        placed = re.findall(r"@\{(/[^}:]+)\}", text("web/docs/job-spec.md"))
        equal([r["path"] for r in can["spec"] if r["type"] != "refused" and not own_page.match(r["path"]) and placed.count(r["path"]) != 1], [], "members without one row")
        page = re.sub(r"<[^>]+>", "|", html.unescape(cache["/docs/job-spec"].source))
        check("@{" not in page, "a name of a table was left in the page")
        for r in can["spec"]:
            if r["path"] in placed and r["type"] in ("integer", "number") and "choices" not in r:
                name = r["path"].lstrip("/").replace("/N/", "[].").replace("/", ".")
                leaf = [n for n in (name, name.split(".", 1)[-1], name.split(".")[-1]) if re.search(rf"\|{re.escape(n)}\|", page)]
                most = f"{r['max']:.0f}" if r["type"] == "integer" else f"{r['max']:.10g}"
                check(leaf and most in page and ("default" not in r or f"|{json.dumps(r['default'])}|" in page), r["path"])
        documented = text("web/docs/job-spec.md").split("\n")
        for table in ("layers", "optimizers", "schedules", "augment"):
            for row in can[table]:
                kind = row.get("name") or row["type"]
                line = next(l for l in documented if l.startswith("|") and f"`{kind}`" in l.split("|")[1])
                place = re.findall(r"`([\w-]+)`", line.split("|")[1]).index(kind)
                for o in row["options"]:
                    if o.get("default") is not None and o["name"] != "augment":
                        said = re.search(rf"`{o['name']}` \(([^)]*)\)", line)
                        check(said, f"{kind}: {o['name']}")
                        values = re.split(r"[,;] *", said.group(1))
                        said = values[place] if len(values) > place and place else values[0]
                        equal(json.loads(said), o["default"], f"{kind}: {o['name']}")
        described({o["name"] for t in ("layers", "optimizers", "schedules", "augment") for row in can[t] for o in row["options"]}, "job-spec", "options")
        described({row.get("name") or row.get("type") for t in ("archs", "layers", "optimizers", "schedules", "augment") for row in can[t]} | set(can["precisions"]), "job-spec", "names")
        described({t["type"] for t in can["transforms"]} | {a["name"] for a in can["archs"]}, "was", "transforms and networks")
        described(can["formats"], "datasets", "formats")

    with case("docs: tour, tutorial, quickstart and the job form start with the same setting, which is known to learn"):
        trains = {path: json.loads(re.search(r'"train":(\{.*"warmup_epochs":1\}\})', text(path)).group(1)) for path in ("README.md", "web/docs/start.md", "tests/quickstart.sh")}
        fields = {name: float(value) for name, value in re.findall(r'<input name="(epochs|batch|lr)"[^>]* value="([^"]*)"', text("web/index.html"))}
        for path, train in trains.items():
            equal({"epochs": train["epochs"], "batch": train["batch"], "lr": train["optimizer"]["lr"]}, fields, path)
            equal((train["optimizer"]["type"], train["schedule"]), ("adamw", {"type": "cosine", "warmup_epochs": 1}), path)

    with case("wasd spec: the members that the daemon has, all or those below one"):
        def spec(*args, status=0):
            done = subprocess.run([os.path.join(BUILD, "wasd"), "spec", *args], capture_output=True, text=True)
            equal(done.returncode, status, done.stderr)
            return done.stdout if not status else done.stderr
        equal(json.loads(spec("--json")), can["spec"])
        names = [line for line in spec("/checkpoint").split("\n") if line.startswith("/")]
        equal(names, [r["path"] for r in can["spec"] if re.match("/checkpoint(/|$)", r["path"])])
        equal(spec("train/epochs"), "/train/epochs\n    a whole number from 1 to 100000; default 10\n    passes over the training images\n")
        check("no member trains" in spec("trains", status=2), "an unknown member")

    with case("docs: every setting is described with its default"):
        help_text = subprocess.run([os.path.join(BUILD, "wasd"), "--help"], capture_output=True, text=True, check=True).stdout
        rows = re.findall(r"^  (\w+) +(?:.*?)(?:\[(\S*)\])?$", help_text[help_text.index("Settings"):], re.M)
        check(len(rows) > 20, f"only {len(rows)} settings were found")
        page = dict(re.findall(r"^\| `(\w+)` \| *`?([^|`]*?)`? *\|", text("web/docs/operations.md"), re.M))
        equal([(name, default) for name, default in rows if page.get(name) != default], [])


with Daemon() as daemon:
    seen = pages(daemon)
    tree(seen)
    tables(daemon, seen)
finish()
