#!/usr/bin/python3
"""The page on merges: begun with its form, followed to its end, the path drawn, the result deployed, the record deleted."""
from lib import Daemon, Skip, case, check, equal, finish
from eyes import Eyes
from webdriver import Browser

SPEC = {"dataset": "few", "model": {"arch": "lenet"}, "train": {"epochs": 1, "batch": 64}}
ROW = "const r = document.querySelector('#merge-rows details'); "


def merges(d, b, eyes):
    c = d.client
    with case("page: two jobs with checkpoints can be merged"):
        check(b.run("return document.querySelector('#merges').hidden"), "nothing to merge yet")
        ids = [d.submit(name=name, **{**SPEC, "train": {**SPEC["train"], "seed": seed}})["id"] for name, seed in (("one", 1), ("two", 2))]
        for job in ids:
            d.wait_job(job)
        b.shows("return [...document.querySelectorAll('#merge-form [name=first] option')].map((o) => o.textContent).sort()", ["one", "two"])
        b.press("#merge-form button", "Merge")
        b.wait(ROW + "return r?.querySelector('.badge').dataset.state === 'ready'", "the end of the merge")
        m, = c.get("/v1/merges").json["items"]
        b.run(ROW + "r.open = true")
        b.shows(ROW + "return [...r.querySelectorAll('.along')].map((f) => f.querySelectorAll('circle').length)", [11, 11])
        path = m["merge"]["path"]
        said = b.run(ROW + "return r.querySelector('.along svg').getAttribute('aria-label')")
        check(f"λ 0: {path[0]['loss']:.3f} · λ 1: {path[-1]['loss']:.3f}" in said, said)
        check(m["checkpoint"] in b.run(ROW + "return r.textContent"), "its checkpoint is named")
        eyes.look("merges")

    with case("page: the result is deployed, the merge deleted"):
        b.press("#merge-rows button", "Deploy")
        b.wait("return document.querySelector('#deployment-cards')?.textContent.includes('merged')", "the live model")
        equal(d.wait_deployment("merged")["checkpoint"], m["checkpoint"])
        b.press("#merge-rows button", "Delete")
        b.wait("return document.querySelector('#question').open", "the question")
        equal(len(c.get("/v1/merges").json["items"]), 1)
        b.press("#question button", "Delete the merge")
        b.wait("return !document.querySelector('#merge-rows details')", "the row's end")
        equal(c.get("/v1/merges").json["items"], [])
        equal(b.console(), [], "messages in the browser's console")


try:
    browser = Browser()
except Skip as why:
    print(f"skip page: {why}")
else:
    eyes = Eyes(browser)
    with browser, Daemon() as daemon:
        daemon.glyphs("few", 600, 100)
        browser.open(f"http://127.0.0.1:{daemon.port}/")
        browser.wait("return document.querySelector('.dataset .badge')?.dataset.state === 'ready'", "the data set")
        merges(daemon, browser, eyes)
    with case("page: no control is truncated and no texts overlap in this view"):
        equal((eyes.views, eyes.layout), (1, []))
    with case("page: no serious accessibility problem in this view"):
        if not eyes.axe:
            raise Skip(eyes.why)
        equal(eyes.access, [])
finish()
