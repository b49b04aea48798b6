#!/usr/bin/python3
"""The page on what forms and follows a job: which of its images it uses, what its strategies removed, what came of its completion."""
from lib import Daemon, Skip, case, check, equal, finish, noise_png, tar
from eyes import Eyes
from webdriver import Browser

FORM = """const f = document.querySelector('#job-form').elements, set = (n, v) => { f[n].value = v; f[n].dispatchEvent(new Event('input', { bubbles: true })); };"""
CLASSES = "const all = [...document.querySelectorAll('#job-classes input')], choose = (...names) => all.forEach((b) => { if (b.checked !== names.includes(b.value)) b.click(); });"
SHOWN = "return document.querySelector('.kernels').dataset.shows === arguments[0]"
PICTURE = """const s = document.querySelector('.kernels svg');
    return [s.querySelectorAll('.plus, .minus').length, (s.querySelector('.cross').getAttribute('d').match(/M/g) ?? []).length, s.getAttribute('aria-label')]"""


def open_form(b):
    b.press("button", "New job")
    b.wait("return document.querySelector('#job-dialog').open", "the form")
    b.run("for (const id of ['#job-images', '#job-following']) document.querySelector(id).open = true")


def submit(b):
    b.wait("return !document.querySelector('#job-form [type=submit]').hasAttribute('aria-busy')", "the button at rest")
    b.click("#job-form [type=submit]")


def refused(b):
    """Submits; the faults as [the id or name of the field, the text]."""
    submit(b)
    return b.wait("""const all = [...document.querySelectorAll('#job-form .fault')];
        return all.length && all.map((n) => [n.parentNode.control?.name ?? n.previousElementSibling.id, n.textContent])""", "the refusal")


def form(d, b, eyes):
    with case("form: its fields for the images and for what follows have the table's choices and defaults"):
        open_form(b)
        rows = {r["path"]: r for r in d.client.get("/v1/capabilities").json["spec"]}
        b.shows("return [...document.querySelectorAll('#job-classes input')].map((n) => n.value)", d.client.get("/v1/datasets/few").json["classes"])
        b.shows("return document.querySelector('#job-form').elements.stratified.checked", rows["/data/split/stratified"]["default"])
        b.shows("const s = document.querySelector('#job-form').elements.follow_checkpoint; return [[...s.options].map((o) => o.value), s.value]",
              [rows["/on_complete/checkpoint"]["choices"], rows["/on_complete/checkpoint"]["default"]])
        for name, path in (("limit", "/data/limit"), ("split_seed", "/data/split/seed")):
            equal([float(v) for v in b.run(f"const f = document.querySelector('#job-form').elements.{name}; return [f.min, f.max]")], [rows[path]["min"], rows[path]["max"]], name)
        eyes.look("form-images")

    with case("form: a refusal stands at the field that is wrong"):
        b.run(FORM + CLASSES + "set('arch', 'lenet'); set('epochs', 1); choose('3'); set('follow_alias', 'champion')")
        b.shows("return document.querySelector('#job-classes legend').textContent", "Classes: 1 of 10")
        equal([at for at, _ in refused(b)], ["job-classes", "follow_model"])
        b.run(FORM + CLASSES + "choose('2', '3', '5'); set('follow_alias', ''); set('follow_if', 'val_acc_aom above 0.5'); set('follow_deploy', 'reader')")
        (at, text), = refused(b)
        equal(at, "follow_if", text)
        b.console()                                   # the browser logs the refused requests

    with case("form: a job gets what was chosen, and nothing that was not"):
        b.run(FORM + "set('name', 'chosen'); set('limit', 0.5); set('split_seed', 7); f.stratified.click(); set('follow_if', 'val_acc_aom >= 0.05'); set('follow_model', 'digits'); set('follow_alias', 'champion')")
        submit(b)
        b.wait("return !document.querySelector('#job-dialog').open", "the job to be taken")
        job = d.client.get("/v1/jobs?name=chosen").json["items"][0]
        equal((job["data"]["classes"], job["data"]["limit"], job["data"]["split"]), (["2", "3", "5"], 0.5, {"seed": 7, "stratified": False}))
        after = job["on_complete"]
        equal((after["if"], after["checkpoint"], after["register"]["model"], after["register"]["alias"], after["deploy"]["name"]),
              ([{"metric": "val_acc_aom", "op": ">=", "value": 0.05}], "best", "digits", "champion", "reader"))
        open_form(b)
        b.run(FORM + CLASSES + "choose(); for (const n of ['limit', 'split_seed', 'follow_if', 'follow_model', 'follow_alias', 'follow_deploy']) set(n, ''); if (!f.stratified.checked) f.stratified.click(); set('name', 'plain')")
        submit(b)
        b.wait("return !document.querySelector('#job-dialog').open", "the second job to be taken")
        plain = d.client.get("/v1/jobs?name=plain").json["items"][0]
        equal([plain["data"].get(name) for name in ("classes", "limit", "split")] + [plain["on_complete"]], [None] * 4)
        return job["id"], plain["id"]


def pair(d, b):
    with case("form: a set of two classes offers no choice of them, and one made for another set is not kept hidden"):
        d.client.put("/v1/datasets/pair", tar([(f"{part}/{name}/{i}.png", noise_png(i)) for part in ("train", "test") for name in "23" for i in range(2)]))
        d.wait_dataset("pair")
        b.wait("return [...document.querySelectorAll('.dataset .badge')].filter((n) => n.dataset.state === 'ready').length === 2", "both data sets")
        open_form(b)
        b.run(FORM + CLASSES + "choose('2', '3')")
        b.shows("return document.querySelector('#job-classes legend').textContent", "Classes: 2 of 10")
        b.run("const s = document.querySelector('#job-form').elements.dataset; s.value = 'pair'; s.dispatchEvent(new Event('change', { bubbles: true }))")
        equal(b.run("const f = document.querySelector('#job-classes'); return [f.hidden, f.querySelectorAll('input').length]"), [True, 0])
        b.run("const s = document.querySelector('#job-form').elements.dataset; s.value = 'few'; s.dispatchEvent(new Event('change', { bubbles: true }))")
        equal(b.run("const f = document.querySelector('#job-classes'); return [f.hidden, f.querySelectorAll('input').length, f.querySelectorAll('input:checked').length]"), [False, 10, 0])
        b.run("document.querySelector('#job-dialog').close()")


def followed(d, b, chosen, plain):
    said = "const p = document.querySelector('#run-followed'); return document.querySelector('#run-title').textContent === arguments[0] && (p.hidden ? 'nothing' : p.textContent + (p.classList.contains('bad') ? ' (bad)' : ''))"

    def words(name, id, what):
        b.run(f"location.hash = '{id}'")
        return b.wait(f"const t = (() => {{ {said} }})(); return t && {what} && t", name, args=(name,))

    with case("page: what follows a job, before and after its completion"):
        d.wait_job(chosen)
        equal(words("chosen", chosen, "t.startsWith('Completed')"), "Completed, and then: registered as version 1 of digits, alias champion; deployed as reader.")
        equal(words("plain", plain, "true"), "nothing")
        d.wait_job(plain)
        later = d.submit(name="later", dataset="few", model={"arch": "lenet"}, train={"epochs": 1}, on_complete={"if": "val_acc_aom > 1", "deploy": {"name": "other", "mode": "aom"}}, after=[plain])["id"]
        d.wait_job(later)
        got = words("later", later, "t.startsWith('On completion')")
        check(got.startswith("On completion, this was not done: deploy the best checkpoint as other in mode aom, if val_acc_aom > 1: "), got)
        held = d.submit(name="held", dataset="few", model={"arch": "lenet"}, on_complete={"register": {"model": "digits"}}, after=[d.submit(name="endless", dataset="few", model={"arch": "lenet"}, was=False, train={"epochs": 10000})["id"]])["id"]
        equal(words("held", held, "true"), "When it completes: register the best checkpoint as a version of digits.")
        for name in ("held", "endless"):
            id = d.client.get(f"/v1/jobs?name={name}").json["items"][0]["id"]
            d.client.post(f"/v1/jobs/{id}:cancel", {"mode": "kill"}, want=(200, 202))
            d.wait_job(id, "cancelled")
        equal(words("held", held, "t.startsWith('On completion')"), "On completion, this was not done: register the best checkpoint as a version of digits: the job has not completed.")


PRUNED = {"dataset": "few", "model": {"arch": "lenet"}, "weights": [{"type": "magnitude", "sparsity": 0.8, "begin": 0.5, "end": 2, "every": 2}],
          "train": {"epochs": 3, "batch": 32, "seed": 3, "optimizer": {"type": "adamw", "lr": 0.001}}}


def weights(d, b, eyes, plain):
    with case("page: one line for each layer shows what is alive over the epochs"):
        job = d.wait_job(d.submit(name="pruned", **PRUNED)["id"])
        curves = {name.split("/")[-1] if "/" in name else "all layers": points for name, points in d.series(job["id"]).items() if name.startswith("prune_alive")}
        b.run(f"location.hash = '{job['id']}'")
        b.wait("return document.querySelector('#run-title').textContent === 'pruned' && document.querySelectorAll('#run-alive polyline').length === 6", "the lines")
        lines = dict(b.run("""return [...document.querySelectorAll('#run-alive .spark')].map((s) => [s.querySelector('figcaption').firstChild.data,
            [s.querySelector('output').textContent, s.querySelector('polyline').getAttribute('points').split(' ').map((p) => Number(p.split(',')[1]))]])"""))
        equal(sorted(lines), sorted(curves))
        for name, (latest, ys) in lines.items():
            values = [curves[name][epoch] for epoch in sorted(curves[name])]
            equal(latest, f"{100 * values[-1]:.1f} %", name)
            equal([round(y) for y in ys], [round(27 - v * 26) for v in values], f"{name}: on a scale from 0 to 100 %")
        groups = d.submit(name="groups", dataset="few", model={"arch": "lenet"}, data={"limit": 200}, weights=[{"type": "structured", "begin": 0.5, "end": 1, "every": 1}], train={"epochs": 2, "batch": 32})["id"]
        d.wait_job(groups)
        b.run(f"location.hash = '{groups}'")
        b.wait("return document.querySelector('#run-title').textContent === 'groups' && document.querySelectorAll('#run-alive polyline').length === 7", "the lines of groups")
        equal(b.run("return [...document.querySelectorAll('#run-alive .spark figcaption')].map((n) => n.firstChild.data)"), ["all layers", "conv1", "conv2", "f1", "f2", "f3", "structured alive"])
        b.run(f"location.hash = '{plain}'")
        b.wait("return document.querySelector('#run-title').textContent === 'plain' && document.querySelector('#run-alive').hidden", "none for a job that removes nothing")

    with case("page: the layers of the best checkpoint, and the kernels of one with what was removed"):
        b.run(f"location.hash = '{job['id']}'; document.querySelector('#run-weights').open = true")
        b.wait("return document.querySelector('#run-title').textContent === 'pruned' && " + SHOWN[7:], "the first layer's kernels", args=("conv1 0 0",))
        best = d.client.get(f"/v1/jobs/{job['id']}").json["best"]["checkpoint"]
        layers = d.client.get(f"/v1/checkpoints/{best}/layers").json
        b.shows("return [...document.querySelectorAll('#run-weights tbody tr')].map((r) => [...r.cells].slice(0, 5).map((c) => c.textContent))",
              [[l["name"], "×".join(map(str, l["shape"])), f"{l['weights']:,}", f"{l['alive']:,}", f"{100 * l['share']:.1f} %"] for l in layers["layers"]])
        check(f"{layers['alive']:,} of {layers['weights']:,} weights are alive" in b.run("return document.querySelector('#run-weights > .hint').textContent"), "the sum")

        def same(layer, output=0, input=0):
            want = d.client.get(f"/v1/checkpoints/{best}/layers/{layer}?output={output}&input={input}").json
            alive, gone, label = b.run(PICTURE)
            removed = want["weights"].count(None)
            equal((alive, gone), (len(want["weights"]) - removed, removed), layer)
            check(label.startswith(f"{layer}: outputs {output}") and f"{alive:,} of these {alive + gone:,} weights are alive" in label, label)
        same("conv1")
        eyes.look("weights")
        b.run("const s = document.querySelector('#run-weights [name=layer]'); s.value = 'f1'; s.dispatchEvent(new Event('change'))")
        b.wait(SHOWN, "the matrix of a linear layer", args=("f1 0 0",))
        same("f1")
        set_ = "const f = document.querySelector('#run-weights form').elements; f.output.value = arguments[0]; f.input.value = arguments[1]; f.output.dispatchEvent(new Event('change'))"
        b.run(set_, 100, 399)
        b.wait(SHOWN, "its end", args=("f1 100 399",))
        same("f1", 100, 399)
        b.run(set_, 5000, -3)
        b.wait(SHOWN, "the nearest that is there", args=("f1 119 0",))
        same("f1", 119, 0)

    with case("page: after a request that failed, the view tells why, and is whole again when it is opened again"):
        b.run("""window.whole = window.fetch;
            window.fetch = (path, ...rest) => (String(path).includes('/layers') ? Promise.reject(new TypeError('cut')) : whole(path, ...rest));
            const s = document.querySelector('#run-weights [name=layer]'); s.value = 'conv2'; s.dispatchEvent(new Event('change'))""")
        b.wait("return document.querySelector('#run-weights .body').hidden && document.querySelector('#run-weights > .hint').textContent", "why")
        b.run("window.fetch = whole; document.querySelector('#run-weights').open = false")
        b.run("document.querySelector('#run-weights').open = true")
        b.wait("return !document.querySelector('#run-weights .body').hidden && " + SHOWN[7:], "the layer again", args=("conv2 0 0",))
        same("conv2")
        equal(b.console(), [], "messages in the browser's console")


try:
    browser = Browser()
except Skip as why:
    print(f"skip page: {why}")
else:
    eyes = Eyes(browser)
    with browser, Daemon() as daemon:
        daemon.glyphs("few", 1000, 200)
        browser.open(f"http://127.0.0.1:{daemon.port}/")
        browser.wait("return document.querySelector('.dataset .badge')?.dataset.state === 'ready'", "the data set")
        jobs = form(daemon, browser, eyes)
        if jobs:
            pair(daemon, browser)
            followed(daemon, browser, *jobs)
            weights(daemon, browser, eyes, jobs[1])
    with case("page: no control is truncated and no texts overlap in these views"):
        equal((eyes.views, eyes.layout), (2, []))
    with case("page: no serious accessibility problem in these views"):
        if not eyes.axe:
            raise Skip(eyes.why)
        equal(eyes.access, [])
finish()
