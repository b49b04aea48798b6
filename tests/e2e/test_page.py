#!/usr/bin/python3
"""The dashboard in a real browser on a live daemon: what a visitor does first, by mouse. WASD_ARTIFACTS names a folder for screenshots."""
import os

from lib import Daemon, Skip, case, check, directory, equal, finish, noise_png
from webdriver import Browser

STATE = "return document.querySelector('#jobs-table tbody .c-state .badge')?.dataset.state"
PROFILE = "document.querySelector('.profiles tbody [aria-label=\"Delete the profile macs-85\"]')?.closest('tr')"
CLICK = "const b = [...document.querySelectorAll(arguments[0])].find((n) => n.textContent === arguments[1] && !n.hidden && !n.disabled); b?.click(); return !!b"


def shot(browser, name):
    if where := os.environ.get("WASD_ARTIFACTS"):
        os.makedirs(where, exist_ok=True)
        browser.screenshot(os.path.join(where, name + ".png"))


def tour(d, b):
    quiet = lambda: equal(b.console(), [], "messages in the browser's console")

    with case("page: opens empty, without a message in the console"):
        b.open(f"http://127.0.0.1:{d.port}/")
        b.wait("return document.querySelector('#link').dataset.state === 'live'", "a live event stream")
        check(b.run("return !document.querySelector('#start').hidden && !document.querySelector('#jobs-empty').hidden"), "the empty page says what to do")
        quiet()
        shot(b, "empty")

    with case("page: a data set is made by a click and shown with its images"):
        b.click("#make-glyphs")
        b.wait("return document.querySelector('.dataset .badge')?.dataset.state === 'ready'", "the data set as ready", 120)
        b.wait("const i = [...document.querySelectorAll('.strip img')]; return i.length > 3 && i.every((n) => n.complete && n.naturalWidth > 0)", "the previews")
        equal(d.client.get("/v1/datasets/glyphs").json["state"], "ready")

    with case("page: a job is submitted by the form and appears at once"):
        b.click("#new-job")
        b.wait("return document.querySelector('#job-dialog').open", "the form")
        b.run("""const f = document.querySelector('#job-form').elements; f.arch.value = 'lenet'; f.arch.dispatchEvent(new Event('change'));
                 f.epochs.value = 4; f.seed.value = 1; f.name.value = 'from-the-page'""")
        shot(b, "form")
        b.click("#arch-layers summary")
        b.wait("return document.querySelectorAll('#arch-layers tbody tr').length === 9", "LeNet's lines: images, two convolutions with their pools, flatten, three linear layers")
        b.run("const a = document.querySelector('#job-form').elements.arch; a.value = 'resnet18'; a.dispatchEvent(new Event('change'))")
        b.wait("return document.querySelectorAll('#arch-layers tr.augmented').length === 16", "the augmented convolutions of ResNet-18")
        check("90 %" in b.run("return document.querySelector('#arch-layers p').textContent"), "their share")
        shot(b, "layers")
        b.run("const f = document.querySelector('#job-form').elements; f.arch.value = 'lenet'; f.arch.dispatchEvent(new Event('change'))")
        b.run("""const f = document.querySelector('#job-form'), set = (n, v) => { n.value = v; n.dispatchEvent(new Event('input')); };
                 set(f.querySelector('[aria-label="weight of rotate"]'), 2); set(f.querySelector('[aria-label="rotate degrees"]'), 30);
                 set(f.querySelector('[aria-label="weight of resized_crop"]'), 0);
                 set(f.elements.was_layers, 'conv1 conv?'); set(f.elements.was_from, 0.5); set(f.elements.was_epochs, 2); set(f.elements.was_groups, 3)""")
        shot(b, "mixture")
        b.click("#job-form [type=submit]")
        b.wait("return document.querySelector('#run-title')?.textContent === 'from-the-page'", "the new job")
        jobs = d.client.get("/v1/jobs").json["items"]
        equal([j["name"] for j in jobs], ["from-the-page"])
        equal(d.client.get("/v1/jobs/" + jobs[0]["id"]).json["was"], {
            "transforms": [{"type": "translate", "x": 0.3, "y": 0.3, "weight": 1}, {"type": "rotate", "degrees": 30, "weight": 2}], "layers": ["conv1", "conv?"],
            "alpha": "learned", "draw": "step", "probability": {"from": 0.5, "to": 1, "epochs": 2}, "groups": 3}, "the job's WAS")

    with case("page: a refused submission names the field"):
        b.click("#new-job")
        b.run("const f = document.querySelector('#job-form').elements; f.lr.value = 0")
        b.click("#job-form [type=submit]")
        b.wait("const e = document.querySelector('#job-error'); return !e.hidden && /optimizer.lr/.test(e.textContent)", "the refusal")
        b.click("#job-close")
        b.console()                                   # the browser itself logs the refused request

    with case("page: live curves of both modes"):
        b.wait("return document.querySelectorAll('.plot canvas').length >= 2 && [...document.querySelectorAll('.plot')].every((p) => p.dataset.rows >= 1)", "the first point", 120)
        b.wait(STATE + " === 'completed'", "the end of the job", 180)
        b.wait("return [...document.querySelectorAll('.plot')].every((p) => p.dataset.rows >= 4)", "four epochs in both charts")
        job = d.client.get("/v1/jobs").json["items"][0]["id"]
        want = d.series(job)["val_acc_dom"][4]
        shown = b.run("return document.querySelector('#chart-acc .key[data-color=\"--dom\"] output').textContent")
        equal(shown, f"{100 * want:.1f} %", "the legend's DOM accuracy")
        drawn = b.run("""return [...document.querySelectorAll('.plot canvas')].some((c) => c.width && [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].some((v) => v > 0))""")
        check(drawn, "something is drawn on the charts' canvases")
        quiet()

    with case("page: a checkpoint is offered in every format"):
        b.run("document.querySelector('#run-checkpoints').open = true")
        b.wait("return document.querySelectorAll('#run-checkpoints li .files a').length > 0", "the checkpoints")
        files = b.run("return [...document.querySelector('#run-checkpoints li').querySelectorAll('a')].filter((a) => !a.hidden).map((a) => [a.textContent, a.getAttribute('href')])")
        equal([label for label, _ in files], ["safetensors", "ONNX, AOM", "ONNX, DOM", "as stored"])
        for label, href in files:
            check(len(d.client.get(href).body) > 1000, f"{label}: {href}")
        b.run("document.querySelector('#run-checkpoints').open = false")
        quiet()

    with case("page: the best checkpoint is deployed by a click"):
        check(b.run(CLICK, "#run-do button", "Deploy best"), "the button Deploy best")
        b.wait("return document.querySelector('.deployment .badge')?.dataset.state === 'ready'", "the live model", 60)
        b.wait("return document.querySelector('.mode.aom input').checked && !document.querySelector('.mode.dom input').disabled", "its two modes")
        equal(d.client.get("/v1/deployments/from-the-page/mode").json["mode"], "aom")

    with case("page: an image of one's own is classified"):
        image = os.path.join(directory(), "image.png")
        with open(image, "wb") as f:
            f.write(noise_png(3, 48))
        b.type(".image-file", image)
        b.wait("const r = document.querySelector('.result'); return !r.hidden && r.dataset.mode === 'aom' && r.querySelectorAll('.answers li').length === 5", "five classes")
        check("generation 1" in b.run("return document.querySelector('.stamp').textContent"), "the answer's generation")

    with case("page: the switch changes the live model and the answer follows"):
        b.click(".mode.dom input")
        b.wait("return document.querySelector('.generation').textContent === 'generation 2'", "generation 2")
        b.wait("const r = document.querySelector('.result'); return r.dataset.mode === 'dom' && r.dataset.generation === '2'", "the same image in DOM")
        now = d.client.get("/v1/deployments/from-the-page/mode").json
        equal((now["mode"], now["generation"]), ("dom", 2), "what the server says")
        shot(b, "live")

    with case("page: a switch made elsewhere is shown without a reload"):
        d.client.put("/v1/deployments/from-the-page/mode", {"mode": "aom"}, want=200)
        b.wait("return document.querySelector('.mode.aom input').checked && document.querySelector('.generation').textContent === 'generation 3'", "generation 3")

    with case("page: a test image of the data set is classified"):
        check(b.run(CLICK, ".deployment button", "Random test image"), "the button")
        b.wait("return /test image/.test(document.querySelector('.truth').textContent) && document.querySelector('.result').dataset.generation === '3'", "its classes")
        quiet()

    with case("page: a profile is asked for, searched, and shown as a row and a point"):
        b.click("#run-profiles summary")
        b.run("document.querySelector('#profile-form').elements.budget.value = 85")
        b.click("#profile-form [type=submit]")
        b.wait(f"const r = {PROFILE}; return r?.querySelector('.badge').dataset.state === 'ready'", "the profile as ready", 120)
        best = d.client.get("/v1/jobs/" + d.client.get("/v1/jobs").json["items"][0]["id"]).json["best"]["checkpoint"]
        found = d.client.get(f"/v1/checkpoints/{best}/profiles").json
        equal([(p["name"], p["state"], p["desire"], p["budget"]) for p in found["items"]], [("macs-85", "ready", "macs", 0.85)])
        share = found["items"][0]["macs_share"]
        check(0 < share <= 0.85, f"within the budget: {share}")
        cells = b.run(f"return [...{PROFILE}.children].map((n) => n.textContent)")
        near = lambda shown, value: abs(float(shown.rstrip("% ")) / 100 - value)
        check(near(cells[1].partition("(")[2].rstrip(")"), share) < 0.0051 and near(cells[4], found["items"][0]["val_acc"]) < 0.00051, f"the row {cells}")
        equal(b.run("return [...document.querySelectorAll('#chart-pareto circle')].map((n) => n.dataset.name).sort()"), ["AOM", "macs-85"], "the points")
        front = b.run("""return import('/ui/scatter.js').then((m) => m.front([[1, 5], [2, 4], [3, 7], [3, 6], [0.5, 1], [4, 7]].map(([x, y]) => ({ x, y }))).map((p) => [p.x, p.y]))""")
        equal(front, [[0.5, 1], [1, 5], [3, 7]], "the points that no other beats")
        shot(b, "profiles")
        quiet()

    with case("page: a live model is switched to a profile"):
        b.wait("return document.querySelector('.mode.named input')?.disabled === false", "the profile among its modes")
        b.click(".mode.named input")
        b.wait("const r = document.querySelector('.result'); return r.dataset.mode === 'dom:macs-85' && r.dataset.generation === '4'", "the same image in that mode")
        equal(d.client.get("/v1/deployments/from-the-page/mode").json["mode"], "dom:macs-85", "what the server says")
        quiet()

    with case("page: a profile that is served is not deleted, another one is"):
        b.click("[aria-label='Delete the profile macs-85']")
        b.wait("return document.querySelector('.toast.bad')?.textContent.includes('from-the-page')", "who uses it")
        b.click(".mode.aom input")
        b.wait("return document.querySelector('.generation').textContent === 'generation 5'", "generation 5")
        b.click("[aria-label='Delete the profile macs-85']")
        b.wait(f"return !{PROFILE}", "a table without it")
        b.wait("return !document.querySelector('.mode.named')", "a switch without it")
        b.console()                                   # the browser itself logs the refused request

    with case("page: names from outside are text, never markup"):
        d.client.post("/v1/jobs", {"name": "plain", "note": "<img src=x onerror=alert(1)>", "dataset": "glyphs", "model": {"arch": "lenet"}, "train": {"epochs": 1}}, want=201)
        b.wait("return document.querySelectorAll('#jobs-table tbody tr').length === 2", "the second job")
        equal(b.run("return document.querySelectorAll('img:not(.strip img)').length"), 0)

    with case("page: fits a telephone, in the dark"):
        b.call("POST", b.session + "/goog/cdp/execute", {"cmd": "Emulation.setEmulatedMedia", "params": {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}})
        b.size(375, 800)
        b.wait("return document.documentElement.clientWidth === 375", "the narrow page")
        check(b.run("return document.documentElement.scrollWidth <= 375"), "no sideways scrolling")
        shot(b, "telephone")
        quiet()

    with case("page: every field and button has a name"):
        nameless = b.run("""return [...document.querySelectorAll('button, input:not(.dygraph-roller), select, meter:not([aria-hidden]), progress')].filter((n) =>
            !(n.textContent.trim() || n.getAttribute('aria-label') || n.labels?.length || n.closest('label'))).map((n) => n.outerHTML)""")
        equal(nameless, [])


try:
    browser = Browser()
except Skip as why:
    print(f"skip page: {why}")
else:
    with browser, Daemon() as daemon:
        tour(daemon, browser)
finish()
