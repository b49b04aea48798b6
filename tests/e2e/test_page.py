#!/usr/bin/python3
"""The dashboard in a real browser on a live daemon: the first steps of a visitor, by mouse; every view in every width and both colour
schemes (eyes.py)."""
import hashlib, json, os, time

from lib import Daemon, Events, Skip, case, check, directory, equal, finish, noise_png, png, tar
from eyes import Eyes
from webdriver import Browser

STATE = "return document.querySelector('#jobs-table tbody .c-state .badge')?.dataset.state"
MADE = "document.querySelector('.made tbody [aria-label=\"Delete the mode dom:macs-85\"]')?.closest('tr')"
FORM = """const f = document.querySelector('#job-form').elements, set = (n, v) => { f[n].value = v; f[n].dispatchEvent(new Event('change')); f[n].dispatchEvent(new Event('input')); };"""
DONE = "return document.querySelector('#jobs-table tbody .c-state .badge')?.dataset.state === 'completed'"


def answer(b, question, yes=True):
    """Waits for the question and answers it with a button."""
    b.wait(f"return document.querySelector('#question').open && document.querySelector('#question-title').textContent === {json.dumps(question)}", question)
    b.click(f"#question [value={'yes' if yes else 'no'}]")
    b.wait("return !document.querySelector('#question').open", "the end of the question")


def quiet(b):
    equal(b.console(), [], "messages in the browser's console")


def begin(d, b, eyes):
    with case("page: opens empty, without console messages"):
        b.open("about:blank")
        b.console()                                   # what the page of a daemon that has ended said last is not this page's
        b.open(f"http://127.0.0.1:{d.port}/")
        b.wait("return document.querySelector('#link').dataset.state === 'live'", "a live event stream")
        check(b.run("return !document.querySelector('#start').hidden && !document.querySelector('#jobs-empty').hidden"), "the empty page says what to do")
        quiet(b)
        eyes.look("empty")

    with case("page: a click creates a data set, which is shown with its images"):
        b.click("#make-glyphs")
        b.wait("return document.querySelector('.dataset .badge')?.dataset.state === 'ready'", "the data set as ready", 120)
        b.wait("const i = [...document.querySelectorAll('.strip img')]; return i.length > 3 && i.every((n) => n.complete && n.naturalWidth > 0)", "the previews")
        equal(d.client.get("/v1/datasets/glyphs").json["state"], "ready")
        d.glyphs("few", 1000, 200)                    # the data set of the jobs in this test
        b.wait("return [...document.querySelectorAll('.dataset h3')].some((n) => n.textContent === 'few' && n.parentNode.querySelector('.badge').dataset.state === 'ready')", "the second data set")


MARKUP = "<img src=x onerror=alert(1)>"
INJECTED = "return document.querySelectorAll('[src=x], [onerror]').length"
ESTIMATED = "return document.querySelector('#job-estimate').dataset.state === 'whole'"


def check_form(d, b):
    """The form has the limits and, where it suggests nothing of its own, the defaults of the table of the job spec."""
    can = d.client.get("/v1/capabilities").json
    rows = {r["path"]: r for r in can["spec"]} | {"/train/optimizer/lr": next(o for o in can["optimizers"][0]["options"] if o["name"] == "lr")}
    suggested = {"/train/epochs", "/train/batch", "/train/optimizer/lr", "/was/probability/epochs", "/was/probability/from"}
    inputs = b.run("return [...document.querySelectorAll('#job-form input[type=number][data-pointer]')].filter((i) => !i.closest('tbody')).map((i) => [i.dataset.pointer, Number(i.dataset.shows ?? 1), i.min, i.max, i.step, i.value])")
    check(len(inputs) >= 10, f"only {len(inputs)} numbers in the form")
    for pointer, shows, least, most, step, value in inputs:
        row = rows[pointer]
        equal((float(least), step), (row["min"] * shows, "1" if row["type"] == "integer" else "any"), pointer)
        equal(float(most), row["max"] * shows, pointer)
        if pointer not in suggested and "default" in row:
            equal(float(value), row["default"] * shows, pointer)
    for name in ("draw", "alpha"):
        b.shows(f"return [...document.querySelectorAll('#job-form [name=was_{name}] option')].map((o) => o.textContent)", rows[f"/was/{name}"]["choices"], name)


def submission(d, b, eyes):
    with case("page: a job submitted with the form appears at once"):
        b.click("#new-job")
        b.wait("return document.querySelector('#job-dialog').open", "the form")
        b.wait(ESTIMATED, "what the job would take")
        check(not b.run("return document.querySelector('#job-estimate').textContent.includes('undefined')"), "the estimate's texts")
        eyes.look("form")
        check_form(d, b)
        b.run(FORM + "set('dataset', 'few'); set('arch', 'lenet'); set('epochs', 4); set('seed', 1); set('name', 'from-the-page')")
        b.click("#arch-layers summary")
        b.wait("return document.querySelectorAll('#arch-layers tbody tr').length === 9", "LeNet's lines: images, two convolutions with their pools, flatten, three linear layers")
        b.run(FORM + "set('arch', 'resnet18')")
        b.wait("return document.querySelectorAll('#arch-layers tr.augmented').length === 16", "the augmented convolutions of ResNet-18")
        check("90 %" in b.run("return document.querySelector('#arch-layers p').textContent"), "their share")
        for optimizer, off in (("rso", True), ("adamw", False)):
            b.run(FORM + f"set('optimizer', '{optimizer}')")
            equal(b.run("const f = document.querySelector('#job-form').elements; return [f.lr.disabled, f.schedule.disabled]"), [off, off], f"rate and schedule of {optimizer}")
        b.run(FORM + "set('arch', 'lenet'); for (const d of document.querySelectorAll('#job-form details:not([hidden])')) d.open = true;")
        b.run("""const f = document.querySelector('#job-form'), set = (n, v) => { n.value = v; n.dispatchEvent(new Event('input')); };
                 set(f.querySelector('[aria-label="weight of rotate"]'), 2); set(f.querySelector('[aria-label="rotate degrees"]'), 30);
                 set(f.querySelector('[aria-label="weight of resized_crop"]'), 0);
                 set(f.elements.was_layers, 'conv1 conv?'); set(f.elements.was_from, 0.5); set(f.elements.was_epochs, 2); set(f.elements.was_groups, 3);
                 f.elements.normalize.value = 'set'; f.elements.init.value = 'he'; f.elements.class_weights.value = 'balanced';
                 for (const box of f.querySelectorAll('[name=augment]')) box.checked = ['flip', 'color_jitter'].includes(box.value)""")
        every = "for (const box of document.querySelectorAll('#strategies-rows [name^=strategy_], #makings-rows [name^=making_]')) box.click()"
        b.run(every)                                  # with the options of all of them
        eyes.look("form-open")
        b.run("const f = document.querySelector('#job-form').elements, of = (n) => document.querySelector(`#makings-rows label:has([name=making_${n}])`).closest('div').querySelector('fieldset.mixture input');"
              "if (!of('macs').required || of('macs').placeholder) throw 'a required option may be left out'; of('macs').value = 0.9;")
        b.run(every)
        b.run("document.querySelector('[name=making_macs]').click()")
        b.wait("return document.querySelector('#job-estimate').textContent.includes('dom:macs-90')", "the estimate names the mode to make")
        b.run("document.querySelector('[name=making_macs]').click()")
        b.click("#job-form [type=submit]")
        b.wait("return document.querySelector('#run-title')?.textContent === 'from-the-page'", "the new job")
        jobs = d.client.get("/v1/jobs").json["items"]
        equal([j["name"] for j in jobs], ["from-the-page"])
        b.shows("return location.hash", "#" + jobs[0]["id"], "the address names it")
        made = d.client.get("/v1/jobs/" + jobs[0]["id"]).json
        equal(made["model"]["init"], "he")
        equal((made["data"]["normalize"], made["train"]["class_weights"], sorted(a["type"] for a in made["train"]["augment"])), ("set", "balanced", ["color_jitter", "flip"]))
        equal(made["was"], {
            "transforms": [{"type": "translate", "x": 0.3, "y": 0.3, "weight": 1}, {"type": "rotate", "degrees": 30, "weight": 2}], "layers": ["conv1", "conv?"],
            "alpha": "fixed", "draw": "step", "probability": {"from": 0.5, "to": 1, "epochs": 2}, "groups": 3}, "the job's WAS")

    with case("page: an error is shown once, at its field"):
        FAULTS = "return [...document.querySelectorAll('.fault')].map((n) => [n.parentNode.control.name, n.textContent])"
        b.click("#new-job")
        for name, value, good in (("lr", 0, 0.001), ("was_layers", "conv9", "all")):
            b.run("document.querySelector('#job-more').open = document.querySelector('#was-more').open = false;" + FORM + f"set('{name}', {json.dumps(value)})")
            b.click("#job-form [type=submit]")
            (at, text), = b.wait(f"const f = (() => {{ {FAULTS} }})(); return f.length && f[0][0] === '{name}' && f", f"the refusal of {name}")
            check(not text.startswith("/") and name not in text, f"a pointer where the field itself says it: {text}")
            check(b.run(f"const f = document.querySelector('#job-form').elements.{name}; return document.querySelector('#job-error').hidden && f.checkVisibility() && document.activeElement === f"), "said once, and in sight")
            described = b.run(f"const f = document.querySelector('#job-form').elements.{name}; return [f.getAttribute('aria-invalid'), document.getElementById(f.getAttribute('aria-describedby')).textContent]")
            equal(described, ["true", text])
            if name == "lr":
                eyes.look("form-refused")
            b.run(FORM + f"set('{name}', {json.dumps(good)})")
        b.wait(ESTIMATED, "what the mended job would take")
        b.console()                                   # the browser logs the rejected requests
    b.run("document.querySelector('#job-dialog').close()")


def curves(d, b, eyes):
    with case("page: live curves of both modes"):
        b.wait("return document.querySelectorAll('.plot canvas').length >= 2 && [...document.querySelectorAll('.plot')].every((p) => p.dataset.rows >= 1)", "the first point", 120)
        b.wait(DONE, "the end of the job", 180)
        b.wait("return [...document.querySelectorAll('.plot')].every((p) => p.dataset.rows >= 4)", "four epochs in both charts")
        job = d.client.get("/v1/jobs").json["items"][0]
        want = d.series(job["id"])["val_acc_dom"][4]
        b.shows("return document.querySelector('#chart-acc .key[data-color=\"--dom\"] output').textContent", f"{100 * want:.1f} %", "the legend's DOM accuracy")
        b.wait("""return [...document.querySelectorAll('.plot canvas')].some((c) => c.width && [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].some((v) => v > 0))""",
               "something drawn on the charts' canvases")
        b.shows("return [...document.querySelectorAll('.dygraph-xlabel')].map((n) => n.textContent)", ["epoch", "epoch"], "the axes' names")
        quiet(b)

    with case("page: what the process used"):
        used = {s["name"]: s["points"] for s in d.client.get(f"/v1/jobs/{job['id']}/metrics?names=cpu_percent,rss_bytes,disk_free_bytes").json["series"]}
        want = json.dumps(sorted([name, len(points)] for name, points in used.items() if len(points) > 1))
        b.run("document.dispatchEvent(new Event('visibilitychange'))")      # a sample may have come by an event while the series were on their way
        b.wait("return JSON.stringify([...document.querySelectorAll('.spark')].filter((s) => !s.hidden).map((s) => [s.dataset.name, "
               f"s.querySelector('polyline').getAttribute('points').split(' ').length]).sort()) === JSON.stringify({want})", f"samples: {want}")

    with case("page: accuracies are listed by the images they were measured on"):
        best = d.client.get("/v1/jobs").json["items"][0]["best"]["metrics"]
        b.wait("return !document.querySelector('#run-best').hidden", "the accuracies of the best epoch")
        rows = b.run("return [...document.querySelectorAll('#run-best tr')].map((r) => [...r.cells].map((c) => c.textContent))")
        equal(rows, [["", "Validation", "Test"]] + [[m.upper(), *(f"{100 * best[f'{of}_acc_{m}']:.1f} %" for of in ("val", "test"))] for m in ("aom", "dom")])
        b.shows("return [...document.querySelectorAll('#jobs-table thead .num')].map((n) => n.textContent)", ["Validation AOM", "Validation DOM"])
        b.shows("return [...document.querySelectorAll('#jobs-table tbody td.num')].map((n) => n.textContent)", [f"{100 * best[f'val_acc_{m}']:.1f} %" for m in ("aom", "dom")], "the list's")

    with case("page: a checkpoint is offered in every format"):
        b.run("document.querySelector('#run-checkpoints').open = true")
        b.wait("return document.querySelectorAll('#run-checkpoints tbody .files a').length > 0", "the checkpoints")
        files = b.run("return [...document.querySelector('#run-checkpoints tbody tr').querySelectorAll('a')].filter((a) => !a.hidden).map((a) => [a.textContent, a.getAttribute('href')])")
        equal([label for label, _ in files], ["safetensors", "ONNX, AOM", "ONNX, DOM", "as stored"])
        for label, href in files:
            check(len(d.client.get(href).body) > 1000, f"{label}: {href}")
        quiet(b)


def report(d, b, eyes):
    with case("page: what the best checkpoint gets right and wrong, in each mode and on both sets of images"):
        job = d.client.get("/v1/jobs").json["items"][0]["id"]
        b.run("document.querySelector('#run-report').open = true")
        for split in ("validation", "test"):
            b.run("const s = document.querySelector('#run-report [name=split]'); if (s.value !== arguments[0]) { s.value = arguments[0]; s.dispatchEvent(new Event('change')); }", split)
            want = {}
            while "modes" not in want:
                want = d.client.get(f"/v1/jobs/{job}/report?wait=60s&split={split}", want=(200, 202)).json
            b.wait(f"return !document.querySelector('#report-body').hidden && document.querySelector('#report-body .facts dd').textContent === '{want['images']}'", f"the report on the {split} images", 60)
            for mode in ("dom", "aom"):
                b.run("const s = document.querySelector('#run-report [name=mode]'); s.value = arguments[0]; s.dispatchEvent(new Event('change'))", mode)
                of = want["modes"][mode]
                facts = b.run("return Object.fromEntries([...document.querySelectorAll('#report-body .facts div')].map((f) => [f.children[0].textContent, f.children[1].textContent]))")
                equal((facts["Accuracy"], facts["Loss"], facts["Calibration error"]), (f"{100 * of['accuracy']:.1f} %", f"{of['loss']:.3f}", f"{100 * of['ece']:.1f} %"), f"{split}, {mode}")
                cells = b.run("return [...document.querySelectorAll('.confusion tbody tr')].map((r) => [...r.querySelectorAll('td')].slice(0, -1).map((c) => Number(c.textContent) || 0))")
                equal(cells, of["confusion"], f"{split}, {mode}")
                b.shows("return document.querySelectorAll('#report-body .examples li').length", len(of["worst"]))
        check(len(d.client.get(b.run("return document.querySelector('#report-body a').getAttribute('href')")).body) > 100, "the matrix as CSV")
        b.wait("return [...document.querySelectorAll('#report-body .examples img')].every((i) => i.loading === 'lazy')", "its pictures")
        eyes.look("report")
        b.run("document.querySelector('#run-report').open = false")
        quiet(b)


def serving(d, b, eyes):
    with case("page: a click deploys the best checkpoint"):
        b.press("#run-do button", "Deploy best")
        b.wait("return document.querySelector('.deployment .badge')?.dataset.state === 'ready'", "the live model", 60)
        b.wait("return document.querySelector('.mode.aom input').checked && !document.querySelector('.mode.dom input').disabled", "its two modes")
        live = d.client.get("/v1/deployments/from-the-page").json
        equal(live["mode"], "aom")
        for mode in ("aom", "dom"):
            said = b.run(f"return document.querySelector('.mode.{mode} .reach').textContent")
            equal(said, f"{100 * live['modes'][mode]['acc']:.1f} % test accuracy", mode)
            cost, own = b.run(f"return document.querySelector('.mode.{mode} .cost').textContent"), live["modes"][mode]
            check(f"{own['bytes'] / 1024:.1f} KiB" in cost and ("MACs (−" in cost) == (own["macs"] < live["modes"]["aom"]["macs"]), f"{mode}: {cost}")

    with case("page: an uploaded image is classified, and shown as the network sees it"):
        image = os.path.join(directory(), "image.png")
        with open(image, "wb") as f:
            f.write(png(96, 48, lambda x, y: (255, 0, 0) if x < 24 or x >= 72 else (0, 0, 255)))
        b.type(".image-file", image)
        b.wait("const r = document.querySelector('.result'); return !r.hidden && r.dataset.mode === 'aom' && r.querySelectorAll('.answers li').length === 5", "five classes")
        check("generation 1" in b.run("return document.querySelector('.stamp').textContent"), "the answer's generation")
        seen = b.run("""const c = document.querySelector('.drop.image canvas'); return [c.width, c.height, ...[2, 16, 29].map((x) => [...c.getContext('2d').getImageData(x, 16, 1, 1).data].slice(0, 3).join())]""")
        equal(seen, [32, 32, "255,0,0", "0,0,255", "255,0,0"], "squeezed, as the images of a set without another fit are")

    with case("page: a picture is drawn as the network reads it: cropped to the centre for that fit, over the background"):
        seen = b.run("""const from = Object.assign(document.createElement('canvas'), { width: 96, height: 48 }), to = document.createElement('canvas'), paint = from.getContext('2d');
            paint.fillStyle = '#f00'; paint.fillRect(0, 0, 96, 48); paint.fillStyle = '#00f'; paint.fillRect(24, 0, 48, 48); paint.clearRect(44, 20, 8, 8);
            const at = (x, y) => [...to.getContext('2d').getImageData(x, y, 1, 1).data].slice(0, 3).join();
            return new Promise((done) => from.toBlob(done)).then((blob) => import('/ui/picture.js').then((m) => m.draw(to, blob, { input: [3, 32, 32], fit: 'crop', background: '00ff00' })))
                .then(() => [at(1, 16), at(30, 16), at(16, 16)])""")
        equal(seen, ["0,0,255", "0,0,255", "0,255,0"])

    with case("page: the crops of a wide or tall picture stand side by side; a square is drawn once"):
        seen = b.run("""const draw = (w, h) => {
                const from = Object.assign(document.createElement('canvas'), { width: w, height: h }), to = document.createElement('canvas'), paint = from.getContext('2d');
                ['#f00', '#0f0', '#00f'].forEach((colour, i) => { paint.fillStyle = colour; paint.fillRect(w > h ? w / 3 * i : 0, w > h ? 0 : h / 3 * i, w, h); });
                const at = (x) => [...to.getContext('2d').getImageData(x, 16, 1, 1).data].slice(0, 3).join();
                return new Promise((done) => from.toBlob(done)).then((blob) => import('/ui/picture.js').then((m) => m.draw(to, blob, { input: [3, 32, 32], fit: 'crops' })))
                    .then(() => [to.width, ...[16, 49, 82].filter((x) => x < to.width).map(at)]);
            };
            return Promise.all([draw(96, 32), draw(32, 96), draw(65, 64)])""")
        equal(seen[:2], [[98, "255,0,0", "0,255,0", "0,0,255"]] * 2, "the crops")
        equal(seen[2][0], 32, "one column too many")

    with case("page: the switch changes the live model and the answer follows"):
        b.click(".mode.dom input")
        b.wait("return document.querySelector('.generation').textContent === 'generation 2'", "generation 2")
        b.wait("const r = document.querySelector('.result'); return r.dataset.mode === 'dom' && r.dataset.generation === '2'", "the same image in DOM")
        now = d.client.get("/v1/deployments/from-the-page/mode").json
        equal((now["mode"], now["generation"]), ("dom", 2), "what the server says")

    with case("page: a switch made elsewhere is shown without a reload"):
        d.client.put("/v1/deployments/from-the-page/mode", {"mode": "aom"}, want=200)
        b.wait("return document.querySelector('.mode.aom input').checked && document.querySelector('.generation').textContent === 'generation 3'", "generation 3")

    with case("page: a test image of the data set is classified"):
        b.press(".deployment button", "Random test image")
        b.wait("return /^few, test image .*: [0-9]$/.test(document.querySelector('.truth').textContent) && document.querySelector('.result').dataset.generation === '3'", "its classes")
        quiet(b)

    with case("page: a mode is requested, made, and shown as a row and a point"):
        b.click("#run-modes summary")
        b.wait("return document.querySelector('#mode-form').elements.option_budget", "the options of the first desire")
        offered = b.run("return [...document.querySelector('#mode-form').elements.desire.options].map((n) => n.value)")
        kinds = d.client.get("/v1/capabilities").json["mode_kinds"]
        equal(offered, [w["name"] for k in kinds for w in k["desires"] if all(o["type"] != "form" for o in w["options"])], "what the daemon offers, without a draw")
        b.run("document.querySelector('#mode-form').elements.option_budget.value = 0.85")
        b.click("#mode-form [type=submit]")
        b.wait(f"const r = {MADE}; return r?.querySelector('.badge').dataset.state === 'ready'", "the mode as ready", 120)
        best = d.client.get("/v1/jobs/" + d.client.get("/v1/jobs").json["items"][0]["id"]).json["best"]["checkpoint"]
        found = d.client.get(f"/v1/checkpoints/{best}/profiles").json
        equal([(p["name"], p["state"], p["desire"], p["budget"]) for p in found["items"]], [("macs-85", "ready", "macs", 0.85)])
        share = found["items"][0]["macs_share"]
        check(0 < share <= 0.85, f"within the budget: {share}")
        cells = b.run(f"return [...{MADE}.children].map((n) => n.textContent)")
        near = lambda shown, value: abs(float(shown.rstrip("% ")) / 100 - value)
        check(near(cells[2].partition("(")[2].rstrip(")"), share) < 0.0051 and near(cells[1], found["items"][0]["val_acc"]) < 0.00051, f"the row {cells}")
        for axis in ("us_1", "us_64", "macs", "bytes"):
            b.run(f"const s = document.querySelector('#pareto-axis'); s.value = '{axis}'; s.dispatchEvent(new Event('change'))")
            b.shows("return [...document.querySelectorAll('#chart-pareto circle')].map((n) => n.dataset.name).sort()", ["AOM", "DOM", "dom:macs-85"], f"the points over {axis}")
        front = b.run("""return import('/ui/scatter.js').then((m) => m.front([[1, 5], [2, 4], [3, 7], [3, 6], [0.5, 1], [4, 7]].map(([x, y]) => ({ x, y }))).map((p) => [p.x, p.y]))""")
        equal(front, [[0.5, 1], [1, 5], [3, 7]], "the points that no other beats")
        base = "document.querySelector('#mode-base select')"
        b.run(f"{base}.options[0].kept = true")
        b.click("#mode-measure")                                                  # draws the list again, with the same modes
        b.wait("return document.querySelector('#mode-measuring').textContent", "that the modes are being measured")
        equal(b.run(f"return [[...{base}.options].map((n) => n.value), {base}.options[0].kept]"), [["aom", "dom", "dom:macs-85"], True], "the bases, left alone")
        b.wait("return !document.querySelector('#mode-measuring').textContent", "the measured modes", 120)
        quiet(b)

    with case("page: a live model is switched to a profile"):
        b.wait("return document.querySelector('.mode.named input')?.disabled === false", "the profile among its modes")
        b.click(".mode.named input")
        b.wait("const r = document.querySelector('.result'); return r.dataset.mode === 'dom:macs-85' && r.dataset.generation === '4'", "the same image in that mode")
        equal(d.client.get("/v1/deployments/from-the-page/mode").json["mode"], "dom:macs-85", "what the server says")
        b.run("for (const id of ['#run-checkpoints', '#run-log']) document.querySelector(id).open = true")
        b.wait("return document.querySelector('#run-log pre').textContent.length > 100", "the log")
        eyes.look("live")
        b.run("for (const id of ['#run-checkpoints', '#run-log']) document.querySelector(id).open = false")
        quiet(b)

    with case("page: a profile in use is not deleted, another one is"):
        b.click("[aria-label='Delete the mode dom:macs-85']")
        answer(b, "Delete the mode dom:macs-85?")
        b.wait("return document.querySelector('.toast.bad')?.textContent.includes('from-the-page')", "who uses it")
        b.click(".mode.aom input")
        b.wait("return document.querySelector('.generation').textContent === 'generation 5'", "generation 5")
        b.click("[aria-label='Delete the mode dom:macs-85']")
        answer(b, "Delete the mode dom:macs-85?")
        b.wait(f"return !{MADE}", "a table without it")
        b.wait("return !document.querySelector('.mode.named')", "a switch without it")
        b.console()                                   # the browser logs the rejected request

    with case("page: names from outside are shown as text, never as markup"):
        job = d.client.post("/v1/jobs", {"name": MARKUP, "dataset": "few", "model": {"arch": "lenet"}, "train": {"epochs": 1}}, want=201).json["id"]
        b.wait(f"return [...document.querySelectorAll('#jobs-table a')].some((n) => n.textContent === {json.dumps(MARKUP)})", "the second job with its name as text")
        equal(b.run(INJECTED), 0)
        d.client.request("PATCH", f"/v1/jobs/{job}", {"name": "plain"}, want=200)
        b.wait("return [...document.querySelectorAll('#jobs-table a')].some((n) => n.textContent === 'plain')", "its other name")


def own_validation(d, b):
    with case("page: a set with its own validation images uses them as hold-out, unless a share is requested"):
        files = [(f"{s}/{c}/{i}.png", noise_png(10 * i + ord(c) + len(s), 32)) for s in ("train", "val", "test") for c in "ab" for i in range(2)]
        d.client.put("/v1/datasets/parted", tar(files))
        d.wait_dataset("parted")
        b.wait("return [...document.querySelectorAll('.dataset')].some((n) => n.querySelector('h3').textContent === 'parted' && n.querySelector('.badge').dataset.state === 'ready')", "the set")
        for name, held, want in (("its-own", None, None), ("a-share", 25, 0.25)):
            b.click("#new-job")
            b.wait("return document.querySelector('#job-dialog').open", "the form")
            b.run(FORM + f"set('dataset', 'parted'); set('epochs', 1); set('batch', 2); set('name', '{name}');" + (f"set('held', {held})" if held else ""))
            b.click("#job-form [type=submit]")
            b.wait(f"return [...document.querySelectorAll('#jobs-table tbody tr')].some((n) => n.textContent.includes('{name}'))", "the job")
            equal(d.client.get(f"/v1/jobs?name={name}").json["items"][0]["data"]["val_fraction"], want, name)


def small_sets(d, b):
    with case("page: a small set shows each of its images once, and requests no other"):
        files = [(f"train/{c}/{i}.png", noise_png(10 * i + ord(c))) for c in "ab" for i in range(2)]
        d.client.put("/v1/datasets/tiny", tar(files + [("test/a/0.png", noise_png(1)), ("test/b/0.png", noise_png(2))]))
        d.wait_dataset("tiny")
        b.wait("const i = [...document.querySelectorAll('.dataset')].find((n) => n.querySelector('h3').textContent === 'tiny')?.querySelectorAll('img'); return i?.length === 4 && [...i].every((n) => n.complete && n.naturalWidth > 0)", "four previews")
        spread = b.run("return import('/ui/datasets.js').then((m) => [0, 1, 7, 8, 9, 15, 16, 4000].map((n) => [n, m.spread(n, 8)]))")
        for n, found in spread:
            check(len(set(found)) == len(found) == min(n, 8) and all(0 <= i < n for i in found), f"{n} images: {found}")
        quiet(b)

    with case("page: for an imported model the user chooses the set of its test images"):
        best = d.client.get("/v1/jobs").json["items"][-1]["best"]["checkpoint"]
        file = d.client.get(f"/v1/checkpoints/{best}/file").body
        sha256 = hashlib.sha256(file).hexdigest()
        d.client.put(f"/v1/blobs/{sha256}", file)
        d.client.post("/v1/deployments", {"name": "imported", "source": {"blob": sha256}}, want=(201, 202))
        d.wait_deployment("imported")
        card = "[...document.querySelectorAll('.deployment')].find((n) => n.querySelector('h3').textContent === 'imported')"
        b.wait(f"const c = {card}; return c && !c.querySelector('select').hidden", "the choice of a data set")
        equal(b.run(f"const c = {card}; return [[...c.querySelectorAll('option')].map((o) => o.value), [...c.querySelectorAll('button')].find((n) => n.textContent === 'Random test image').disabled]"),
              [["", "few", "glyphs"], True], "sets with its images and classes alone, and none chosen for it")
        b.run(f"const s = {card}.querySelector('select'); s.value = 'few'; s.dispatchEvent(new Event('change'))")
        b.press(".deployment:has(select:not([hidden])) button", "Random test image")
        b.wait(f"const c = {card}; return /^few, test image/.test(c.querySelector('.truth').textContent) && !c.querySelector('.result').hidden", "its classes")
        quiet(b)


def archives(d, b, eyes):
    row = "[...document.querySelectorAll('.dataset')].find((n) => n.querySelector('h3').textContent === '%s')"
    files = [(f"train/{c}/{i}.png", noise_png(10 * i + ord(c))) for c in "ab" for i in range(4)] + [("test/a/0.png", noise_png(1)), ("test/b/0.png", noise_png(2))]
    broken = [(f"train/a/{MARKUP}.png", noise_png(3)[:60]), ("train/b/empty.jpg", b""), ("notes.txt", b"hello")]
    path = os.path.join(directory(), "holed.tar")
    with open(path, "wb") as f:
        f.write(tar(files + broken))

    with case("page: every bad file of an archive is named, once"):
        b.type("#upload-file", path)
        b.wait(f"return {row % 'holed'}?.querySelector('.badge').dataset.state === 'invalid'", "the refused archive")
        b.shows(f"return [...{row % 'holed'}.querySelectorAll('.files li b')].map((n) => n.textContent)", [f"train/a/{MARKUP}.png", "train/b/empty.jpg"])
        equal(b.run(INJECTED), 0)
        said = b.run(f"return {row % 'holed'}.textContent")
        check(said.count("empty.jpg") == 1 and "/errors" not in said, said)

    with case("page: an upload's options are sent, and omitted files are listed"):
        b.run("document.querySelector('#upload-more').open = true; const f = document.querySelector('#upload').elements; f.on_bad.value = 'skip'; f.fit.value = 'crops'; f.background.value = '#102030'")
        b.type("#upload-file", path)
        b.wait(f"return {row % 'holed'}?.querySelector('.badge').dataset.state === 'ready'", "the archive without them")
        made = d.client.get("/v1/datasets/holed").json
        equal((made["train"], made["options"]["on_bad"], made["fit"], made["background"]), (8, "skip", "crops", "102030"))
        b.shows(f"return [...{row % 'holed'}.querySelectorAll('summary')].map((n) => n.textContent)", ["2 files left out", "1 remark"])
        check("notes.txt" in b.run(f"return {row % 'holed'}.querySelector('.remarks').textContent"), "what was ignored")
        b.run("for (const n of document.querySelectorAll('.dataset details')) n.open = true")
        eyes.look("archives")
        b.run("for (const n of document.querySelectorAll('.dataset details, #upload-more')) n.open = false")
        quiet(b)


def address(d, b, eyes):
    """Two jobs that run until they are stopped: the address says which one is shown, and actions apply to it."""
    long = [d.submit(name=name, dataset="few", model={"arch": "resnet18"}, train={"epochs": 1000}) for name in ("first", "second")]
    first, second = (j["id"] for j in long)
    state = lambda job: d.client.get(f"/v1/jobs/{job}").json["state"]
    title = lambda name: b.wait(f"return document.querySelector('#run-title').textContent === {json.dumps(name)}", name)

    with case("page: the job named by the address is shown, also when the address changes"):
        b.wait("return document.querySelectorAll('#jobs-table tbody tr').length === 4", "the two jobs")
        b.run(f"location.hash = '{first}'")
        title("first")
        eyes.look("running")
        b.run(f"location.hash = '{second}'")
        title("second")
        eyes.look("waiting")
        b.run("history.back()")
        title("first")
        b.press("#jobs-table a", "second")
        title("second")
        b.shows("return location.hash", "#" + second)

    with case("page: no action applies to a job other than the one named by the address"):
        drawn = b.run(f"location.hash = '{first}'; [...document.querySelectorAll('#run-do button')].find((n) => n.textContent === 'Cancel').click(); return document.querySelector('#question').open")
        check(not drawn, "the button was drawn for the job before")
        title("first")
        b.press("#run-do button", "Cancel")
        b.wait("return document.querySelector('#question').open", "the question")
        b.run(f"location.hash = '{second}'")
        b.wait("return !document.querySelector('#question').open", "no question about a job that is not shown")
        title("second")
        b.press("#run-do button", "Cancel")
        answer(b, "Cancel second?")
        equal(d.wait_job(second, "cancelled")["id"], second)
        check(state(first) not in ("cancelling", "cancelled"), "the other job goes on")

    with case("page: a cancelled job is described as such"):
        b.wait("return document.querySelector('#run-message').textContent.startsWith('Cancelled on request')", "why it ended")

    with case("page: a question can be answered by keyboard, and Escape means no"):
        b.run(f"location.hash = '{first}'")
        title("first")
        b.run("[...document.querySelectorAll('#run-do button')].find((n) => n.textContent === 'Cancel').focus()")
        b.keys("\ue007")
        b.wait("return document.querySelector('#question').open && document.activeElement.value === 'no'", "the question, no in focus")
        eyes.look("question")
        b.keys("\ue00c")
        b.wait("return !document.querySelector('#question').open && document.activeElement.textContent === 'Cancel'", "the focus where it was")
        check(state(first) not in ("cancelling", "cancelled"), "no is no")
        b.keys("\ue007")
        b.wait("return document.querySelector('#question').open", "the question")
        b.keys("\ue004\ue007")
        d.wait_job(first, "cancelled")
    for job in (first, second):                       # a case that failed must not leave one that runs for ever
        if state(job) not in ("cancelling", "cancelled"):
            d.client.post(f"/v1/jobs/{job}:cancel", {})

    with case("page: a job that does not exist is reported, without actions"):
        b.run("location.hash = 'job_00000000000000000000000000'")
        title("No such job")
        check(b.run("return document.querySelector('#run-do').hidden && document.querySelector('#run-body').hidden"), "no actions")
        eyes.look("missing")
        b.console()                                   # the browser logs the 404

    with case("page: nothing is deleted without a question"):
        before = len(d.client.get("/v1/jobs").json["items"])
        b.click("[aria-label='Delete second']")
        answer(b, "Delete second?", yes=False)
        equal(len(d.client.get("/v1/jobs").json["items"]), before)
        b.click("[aria-label='Delete second']")
        answer(b, "Delete second?")
        b.wait("return !document.querySelector(\"[aria-label='Delete second']\")", "a list without it")
        d.client.get(f"/v1/jobs/{second}", want=404)
        for button, question in (("Delete the data set tiny", "Delete the data set tiny?"), ("Stop serving imported", "Stop serving imported?")):
            b.click(f"[aria-label='{button}']")
            answer(b, question, yes=False)
        check(d.client.get("/v1/datasets/tiny").json["state"] == d.client.get("/v1/deployments/imported").json["state"] == "ready", "both are there")


def requests(d, b):
    with case("page: live models need no request each, and a hidden page sends no requests"):
        b.open(f"http://127.0.0.1:{d.port}/")
        b.wait("return document.querySelector('#link').dataset.state === 'live' && document.querySelectorAll('.mode.dom input:not(:disabled)').length >= 1", "the page")
        equal(b.run("return performance.getEntriesByType('resource').filter((e) => e.name.endsWith('/mode')).length"), 0, "requests for one model's mode")
        b.run("""Object.defineProperty(document, 'hidden', { value: true, configurable: true }); document.dispatchEvent(new Event('visibilitychange'));
                 const ask = fetch; window.asked = []; window.fetch = (...what) => { window.asked.push(what[0]); return ask(...what); }""")
        events = Events(d.port, "/v1/events?topics=deployments,datasets")
        d.client.put("/v1/deployments/imported/mode", {"mode": "dom"}, want=200)
        d.glyphs("unseen", 50, 10)
        events.until(lambda e: e.type == "dataset.state" and e.data["name"] == "unseen" and e.data["state"] == "ready")
        events.close()
        equal(b.run("return window.asked"), [], "requests while nobody looks")
        b.run("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
        b.wait("return [...document.querySelectorAll('.dataset h3')].some((n) => n.textContent === 'unseen')", "what came meanwhile")


def sweep_view(d, b, eyes):
    with case("page: a sweep opens to its ranked trials and their curves"):
        spec = {"dataset": "few", "model": {"arch": "lenet"}, "was": False, "train": {"epochs": 2}}
        space = {"/train/optimizer/lr": {"values": [0.001, 0.05, 0.2]}}
        sweep = d.client.post("/v1/sweeps", {"name": "rates", "template": spec, "space": space, "search": {"method": "asha", "divisor": 3, "max_trials": 3}}).json["id"]
        w = d.client.get(f"/v1/sweeps/{sweep}").json
        while w["state"] == "running":
            w = d.client.get(f"/v1/sweeps/{sweep}?wait=60s").json
        equal(w["state"], "completed")
        b.open(f"http://127.0.0.1:{d.port}/")
        b.wait("return document.querySelector('#sweeps .badge')?.dataset.state === 'completed'", "the sweep in the list")
        b.click("#sweeps summary")
        b.wait("return document.querySelectorAll('#sweeps tbody tr').length === 3 && document.querySelector('#sweeps .plot')?.dataset.rows === '2'", "its trials and curves")
        b.shows("return [...document.querySelectorAll('#sweeps tbody th')].map((n) => n.textContent)", [f"trial {t['trial']}" for t in w["trials"]])
        b.shows("return document.querySelector('#sweeps tbody a').hash", "#" + w["trials"][0]["job"])
        curves = "performance.getEntriesByType('resource').filter((e) => e.name.includes('metrics:query')).length"
        b.run(f"window.link = document.querySelector('#sweeps tbody a'); window.asked = {curves}")
        b.click("#sweeps summary")
        b.click("#sweeps summary")
        b.wait(f"return {curves} > window.asked", "the trials are loaded again")
        check(b.run("return document.querySelector('#sweeps tbody a') === window.link"), "a link stays, and with it the focus on it")
        words = {w["trials"][0]["job"]: "2 epochs", **{t["job"]: "1 of 2 epochs" for t in w["trials"][1:]}}       # two were pruned after the first
        for job, text in words.items():
            b.shows(f"return [...document.querySelectorAll('#jobs tr')].find((r) => r.querySelector('a')?.hash === '#{job}').querySelector('.progress').textContent", text)
        eyes.look("sweep")
        b.click("#sweeps [aria-label='Delete rates']")
        answer(b, "Delete the sweep rates?")
        b.wait("return document.querySelector('#sweeps').hidden", "the sweep is deleted")
        d.client.get(f"/v1/sweeps/{sweep}", want=404)
        for trial in w["trials"]:
            d.client.delete(f"/v1/jobs/{trial['job']}", want=204)


def warned(d, b, eyes):
    """Warnings, phases and a full disk are rare, so this test inserts them into the daemon's response, in the documented form."""
    with case("page: warnings are shown in the job's view and marked in the list; a phase is shown with its progress; a full disk above all"):
        job = d.client.get("/v1/jobs").json["items"][-1]["id"]
        b.open(f"http://127.0.0.1:{d.port}/#{job}")
        b.run("""const ask = fetch; window.fetch = async (where, ...rest) => {
                   const got = await ask(where, ...rest);
                   if (where === '/v1/system') {
                     const data = await got.json();
                     Object.assign(data.disk, { low: true, reason: 'disk_low', message: '200 MiB are free on the disk of the data directory, 256 MiB are needed to go on: delete jobs, checkpoints, data sets or other files' });
                     return new Response(JSON.stringify(data), { headers: got.headers });
                   }
                   if (!/^.v1.jobs[?]/.test(where)) return got;
                   const data = await got.json(), job = data.items.at(-1);
                   job.warnings = [{ code: 'class_never_predicted', epoch: 2, message: 'class 7 was never predicted' }, { code: 'loss_stands_still', epoch: 3, message: 'the loss stands at ln 10' }];
                   job.state = 'running';
                   job.progress = { phase: 'measuring algorithms', phase_done: 12, phase_total: 53, epoch: 1, epochs: 4, step: 0, steps: 28 };
                   return new Response(JSON.stringify(data), { headers: got.headers });
                 };
                 document.dispatchEvent(new Event('visibilitychange'));""")
        b.wait("return document.querySelector('#run-warnings li')?.textContent.includes('class 7')", "the warnings")
        b.shows("return [...document.querySelectorAll('#run-warnings li')].map((n) => n.textContent)", ["Epoch 2: class 7 was never predicted", "Epoch 3: the loss stands at ln 10"])
        b.shows("return document.querySelector('#jobs-table .chosen .warns').textContent", "2 warnings")
        b.shows("return document.querySelector('#run-stage').textContent", "epoch 1 of 4 · measuring algorithms, 12 of 53")
        b.shows("return document.querySelector('#run-now progress').value", 0, "nothing is trained yet")
        b.wait("return document.querySelector('#disk').checkVisibility()", "the lack of room")
        b.shows("return document.querySelector('#disk').textContent", "Jobs are paused and new work is refused: 200 MiB are free on the disk of the data directory, 256 MiB are needed to go on: delete jobs, checkpoints, data sets or other files.")
        eyes.look("warned")


def names(b):
    with case("page: every field and button has a name"):
        nameless = b.run("""return [...document.querySelectorAll('button, input:not(.dygraph-roller), select, meter:not([aria-hidden]), progress')].filter((n) =>
            !(n.textContent.trim() || n.getAttribute('aria-label') || n.labels?.length || n.closest('label') || n.closest('#question'))).map((n) => n.outerHTML)""")
        equal(nameless, [])


def traffic(d, b, eyes):
    with case("page: a live model's settings, policy and counts"):
        path = "/v1/deployments/imported"
        d.client.request("PATCH", path, {"batching": {"max_batch": 32, "max_queue_delay_us": 300}, "queue": {"max": 64, "default_timeout_us": 2000000}}, want=200)
        b.open(f"http://127.0.0.1:{d.port}/")
        card = "[...document.querySelectorAll('.deployment')].find((n) => n.querySelector('h3').textContent === 'imported')"
        b.wait(f"return {card}?.querySelector('.badge').dataset.state === 'ready' && document.querySelector('#link').dataset.state === 'live'", "the live model")
        mode = d.client.get(path).json["mode"]
        b.shows(f"return {card}.querySelector('.traffic .now').textContent", f"all in {mode.upper()}")
        b.run(f"{card}.querySelector('.traffic').open = true")
        stats = d.client.get(path + "/stats").json
        b.wait(f"return {card}.querySelector('.traffic').textContent.includes('{stats['requests']} requests since the daemon started, {stats['failed']} failed')", "the counts")
        check("Up to 32 images of several requests are computed together; a request waits at most 300 µs for others. At most 64 requests wait. A request that "
              "names no time limit has 2.00 s." in b.run(f"return {card}.querySelector('.traffic').textContent"), "the settings")
        d.client.put(path + "/traffic", {"split": {"aom": 3, "dom": 1}, "sticky_header": "X-User"}, want=200)
        b.wait(f"return {card}.querySelector('.traffic .now').textContent === 'AOM 75 %, DOM 25 %, always the same for one value of X-User'", "the split, by its event")
        d.client.put(path + "/traffic", {}, want=200)
        b.wait(f"return {card}.querySelector('.traffic .now').textContent === 'all in {mode.upper()}'", "the end of the split")
        quiet(b)

    with case("page: another version of a live model, and the way back"):
        path, its = "/v1/deployments/from-the-page", "[...document.querySelectorAll('.deployment')].find((n) => n.querySelector('h3').textContent === 'from-the-page')"
        first, now = d.client.get(path).json, f"return {its}.querySelector('.versions').textContent"
        plain = next(j for j in d.client.get("/v1/jobs").json["items"] if j["name"] == "plain")["best"]["checkpoint"]
        b.run(f"{its}.querySelector('.versions').open = true")
        b.wait(f"return {its}.querySelector('.versions select').options.length >= 2", "what can be served")
        check("No version before this one." in b.run(now) and b.run(f"return {its}.querySelector('.versions .line > button:last-child').hidden"), b.run(now))
        b.run(f"const s = {its}.querySelector('.versions select'); s.value = [...s.options].find((o) => o.textContent === 'follow the latest of its job').value; {its}.querySelector('.versions button').click()")
        b.wait(f"{now}.includes('and each new latest checkpoint of its job')", "the new source")
        equal(d.client.get(path).json["source"], {"job": first["job"], "follow": "latest"})
        d.client.request("PATCH", path + "?wait=60s", {"source": {"checkpoint": plain}}, want=200)
        b.wait(f"{now}.includes('Serves {plain}')", "the version made elsewhere")
        before = d.client.get(path).json
        check(f"Before: {before['previous']}." in b.run(now) and b.run(f"return {its}.querySelector('.versions .now').textContent") == f"version {before['version']}", b.run(now))
        b.press(".versions button", "Back to the one before")
        b.wait(f"{now}.includes('Serves {before['previous']}')", "the version before")
        equal(d.client.get(path).json["previous"], plain)
        quiet(b)

    with case("page: the numbers of each mode, the shadow's agreement, auto and its condition"):
        # A load that degrades a model and a shadow that differs are slow to make, so this inserts them into the response, in the documented form.
        b.run("""const ask = fetch; window.fetch = async (where, ...rest) => {
                   const got = await ask(where, ...rest), list = /^.v1.deployments[?]/.test(where), stats = /imported.stats/.test(where);
                   if (!list && !stats) return got;
                   const data = await got.json(), d = data.items?.find((one) => one.name === 'imported');
                   if (d) Object.assign(d, { mode: 'auto', traffic: { auto: { cheap: 'dom', target_p99_us: 20000 }, shadow: { mode: 'dom', percent: 10 } },
                     conditions: [{ type: 'Degraded', reason: 'the p99 of the queue is 31.2 ms' }, { type: 'Switching', reason: 'is loaded' }] });
                   if (stats) Object.assign(data, { requests: 1000, failed: 0, waiting: 4, shadow: { agree: 95, disagree: 5, agreement: 0.95, classes: { seven: { agree: 5, disagree: 5 } }, examples: [] },
                     window: { seconds: 300, modes: { aom: { count: 900, rps: 3, total_us: { p50: 1800, p99: 9100 }, queue_us: { p99: 2000 } }, dom: { count: 0 } } } });
                   return new Response(JSON.stringify(data), { headers: got.headers });
                 };
                 document.dispatchEvent(new Event('visibilitychange'));""")
        b.wait(f"return {card}.querySelector('.traffic tbody td')?.textContent === '3.0' && {card}.querySelector('.notice.warn li')", "the table and the condition")
        b.shows(f"return [...{card}.querySelectorAll('.traffic tbody tr')].map((r) => [...r.cells].map((c) => c.textContent))", [["AOM", "3.0", "1.8 ms", "9.1 ms", "2.0 ms"]])
        said = b.run(f"return {card}.querySelector('.traffic').textContent")
        for part in ("In the last 5 min 00 s:", "Shadow: 10 % of the requests are also computed in DOM; agreed on 95 of 100 (95.0 %).", "Most often different: seven (50 %).",
                     "AOM, or DOM while the queue's p99 is above 20.0 ms"):
            check(part in said, f"{part!r} in {said!r}")
        b.shows(f"return [...{card}.querySelectorAll('.notice.warn li')].map((n) => n.textContent)", ["Degraded: the p99 of the queue is 31.2 ms"])
        b.shows(f"return {card}.querySelector('.mode input:checked').value", "auto")
        eyes.look("traffic")
        quiet(b)


def three_clicks(d, b):
    """The steps offered by the empty page with the form's defaults: only the network, the set and the epochs are chosen."""
    with case("page: three clicks from an empty page reach more than 90 % in both modes"):
        began = time.monotonic()
        b.open(f"http://127.0.0.1:{d.port}/")
        b.wait("return document.querySelector('#link').dataset.state === 'live'", "a live event stream")
        b.press("#start-steps button", "Make glyphs")
        b.wait("return [...document.querySelectorAll('#start-steps button')].some((n) => n.textContent === 'New job' && !n.disabled)", "the second step", 120)
        b.press("#start-steps button", "New job")
        b.wait("return document.querySelector('#job-dialog').open", "the form")
        b.run(FORM + "set('arch', 'lenet'); set('dataset', 'glyphs');")
        b.click("#job-form [type=submit]")
        b.wait(DONE, "the end of the job", 400)
        b.press("#start-steps button", "Deploy best")
        b.wait("return document.querySelector('.deployment .badge')?.dataset.state === 'ready' && !document.querySelector('.mode.dom input').disabled", "the live model")
        took = time.monotonic() - began
        for mode in ("aom", "dom"):
            said = b.run(f"return document.querySelector('.mode.{mode} .acc').textContent")
            shown = b.run(f"return document.querySelector('#run-best td.{mode}:last-child').textContent")
            equal(said, shown, f"{mode} of the live model, and of its job")
            check(float(said.rstrip(" %")) > 90, f"{mode}: {said}")
            print(f"# three clicks: {mode.upper()} {said} test accuracy", flush=True)
        print(f"# three clicks: {took:.0f} s", flush=True)
        quiet(b)


def tour(d, b, eyes):
    begin(d, b, eyes)
    submission(d, b, eyes)
    curves(d, b, eyes)
    report(d, b, eyes)
    serving(d, b, eyes)
    small_sets(d, b)
    own_validation(d, b)
    archives(d, b, eyes)
    address(d, b, eyes)
    requests(d, b)
    traffic(d, b, eyes)
    sweep_view(d, b, eyes)
    warned(d, b, eyes)
    names(b)


try:
    browser = Browser()
except Skip as why:
    print(f"skip page: {why}")
else:
    eyes = Eyes(browser)
    with browser:
        with Daemon() as daemon:
            three_clicks(daemon, browser)
        with Daemon() as daemon:
            tour(daemon, browser, eyes)
    with case("page: no control is truncated and no texts overlap, in any view, width and scheme"):
        check(eyes.views >= 9, f"{eyes.views} views")
        equal(eyes.layout, [])
    with case("page: no serious accessibility problem in any view, width and scheme"):
        if not eyes.axe:
            raise Skip(eyes.why)
        equal(eyes.access, [])
finish()
