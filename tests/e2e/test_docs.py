#!/usr/bin/python3
"""The reference: its pages are served, every link and anchor resolves, every document, file and function that is cited exists, and what has
a row in one of the program's tables (routes, error codes, members of a job spec, settings) is described."""
import glob, html, os, re, subprocess

from lib import BUILD, TOP, Daemon, case, check, equal, finish

PAGES = sorted(os.path.basename(f)[:-3] for f in glob.glob(os.path.join(TOP, "web/docs/*.md")))
SOURCES = [f for f in subprocess.run(["git", "-C", TOP, "ls-files"], capture_output=True, text=True).stdout.split("\n") if f] or None
IGNORED = ("tests/fixtures/", "web/docs/errors.md")


def text(path):
    with open(os.path.join(TOP, path), encoding="utf-8", errors="replace") as f:
        return f.read()


def sources():
    """The tree's own text: what git knows, or in an unpacked archive what lies in its folders."""
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
    with case("docs: every page is served, named and in the list of pages"):
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

    with case("docs: pages are cached by their ETag, and only read"):
        first = d.client.get("/docs")
        equal(d.client.get("/docs", want=304, headers={"If-None-Match": first.headers["ETag"]}).body, b"")
        equal(d.client.post("/docs", {}, want=405).headers["Allow"], "GET, HEAD")
        d.client.get("/docs/none", want=404)
        d.client.get("/ui/docs/index.html", want=404)
    return cache


def tree(cache):
    with case("docs: README and the Markdown link to what is in the tree"):
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

    with case("docs: files and functions that the pages name exist"):
        names = set(SOURCES or sources())
        everything = "\n".join(text(f) for f in sources() if f.endswith((".c", ".h", ".py", ".sh", ".js", "Makefile")))
        broken = []
        for path in ["README.md"] + [f"web/docs/{n}.md" for n in PAGES]:
            body = text(path)
            for file in set(re.findall(r"\b((?:api|core|server|storage|systemd|tests|web)/[\w./*-]*[\w/*])", body)):
                found = glob.glob(os.path.join(TOP, file)) or any(n.startswith(file) for n in names)
                if not found:
                    broken.append(f"{path}: {file}")
            for function in set(re.findall(r"`(\w+)\(\)`", body)):
                if not re.search(rf"\b{function}\(", everything):
                    broken.append(f"{path}: {function}()")
        equal(broken, [])


def headings(path):
    slugs = set()
    for line in re.findall(r"^#{1,6} (.+)$", text(path), re.M):
        slugs.add(re.sub(r"[^a-z0-9_ -]", "", line.lower()).replace(" ", "-"))
    return slugs


def tables(d, cache):
    with case("docs: every error code has its place"):
        rows = re.findall(r'^\t\{"(\w+)", \d+, "', text("api/errors.c"), re.M)
        check(len(rows) > 30, f"only {len(rows)} codes were found in api/errors.c")
        equal([code for code in rows if code not in cache["/docs/errors"].ids], [])


with Daemon() as daemon:
    seen = pages(daemon)
    tree(seen)
    tables(daemon, seen)
finish()
