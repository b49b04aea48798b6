"""What a person would see of the page: looks at a view in every width and both colour schemes, for its layout and its accessibility. WASD_ARTIFACTS
names a folder for the screenshots."""
import os, shutil, subprocess

from lib import Skip, directory

SIZES = ((1400, 900), (768, 1024), (390, 844))


def axe_source():
    """Installs axe-core, the accessibility checker, from its registry into a directory of this test."""
    npm, where = shutil.which("npm"), directory()
    if not npm:
        raise Skip("npm is not installed")
    got = subprocess.run([npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "axe-core"], cwd=where, capture_output=True, text=True, timeout=120)
    source = os.path.join(where, "node_modules", "axe-core", "axe.min.js")
    if got.returncode or not os.path.exists(source):
        raise Skip("npm cannot fetch axe-core: " + got.stderr.strip()[-200:])
    with open(source) as f:
        return f.read()


# Controls that leave the page or are truncated, texts that overlap.
LAYOUT = """
const wide = document.documentElement.clientWidth, root = document.querySelector('dialog[open]') ?? document.body, bad = [];
if (document.documentElement.scrollWidth > wide) bad.push(`the page is ${document.documentElement.scrollWidth} wide`);
const name = (n) => `${n.tagName.toLowerCase()} "${(n.getAttribute('aria-label') ?? n.textContent).trim().slice(0, 40)}"`;
const narrow = matchMedia('(max-width: 720px)').matches, scrolls = `.layers, pre, .skip, .sr, #toasts, ${narrow ? '.cards thead, .mixture .scroll' : '.scroll'}`;
for (const n of root.querySelectorAll('button, select, input:not([type=file]), a, summary, .badge')) {
  const r = n.getBoundingClientRect();
  if (!n.checkVisibility() || n.closest(scrolls) || r.width < 2) continue;
  if (r.left < 0 || r.right > wide + 0.5) bad.push(`${name(n)} leaves the page`);
  if (n.matches('button, select, .badge') && n.scrollWidth > n.clientWidth + 1) bad.push(`${name(n)} is cut`);
}
const texts = [], walk = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
while (walk.nextNode()) {
  const at = walk.currentNode.parentElement;
  if (!walk.currentNode.data.trim() || !at.checkVisibility() || at.closest(scrolls + ', option, svg, noscript, dialog:not([open])')) continue;
  const range = document.createRange();
  range.selectNodeContents(walk.currentNode);
  for (const r of range.getClientRects()) if (r.width > 1) texts.push({ r, at });
}
texts.forEach((a, i) => texts.slice(i + 1).forEach((b) => {
  const x = Math.min(a.r.right, b.r.right) - Math.max(a.r.left, b.r.left), y = Math.min(a.r.bottom, b.r.bottom) - Math.max(a.r.top, b.r.top);
  if (x > 1 && y > 4 && a.at !== b.at) bad.push(`${name(a.at)} lies on ${name(b.at)}`);
}));
return bad;
"""
AXE = """return axe.run(document, { resultTypes: ['violations'] }).then((found) => found.violations.filter((v) => ['serious', 'critical'].includes(v.impact))
    .map((v) => `${v.id}: ${v.nodes.slice(0, 3).map((n) => n.target.join(' ')).join(', ')}`))"""


class Eyes:
    """Checks a view in every width and scheme: a screenshot, its layout, its accessibility."""

    def __init__(self, browser):
        self.b, self.axe, self.why, self.views = browser, "", "", 0
        self.layout, self.access = [], []
        try:
            self.axe = axe_source()
        except (Skip, OSError, subprocess.TimeoutExpired) as why:
            self.why = str(why)

    def look(self, name):
        b, where = self.b, os.environ.get("WASD_ARTIFACTS")
        for width, height in SIZES:
            b.size(width, height)
            for scheme in ("light", "dark"):
                b.scheme(scheme)
                at = f"{name} {width} {scheme}"
                self.layout += [f"{at}: {bad}" for bad in b.run(LAYOUT)]
                if self.axe:
                    if not b.run("return !!window.axe"):
                        b.run(self.axe)
                    self.access += [f"{at}: {bad}" for bad in b.run(AXE)]
                if where:
                    os.makedirs(where, exist_ok=True)
                    b.screenshot(os.path.join(where, f"{name}-{width}-{scheme}.png"))
        b.scheme("light")
        b.size(1360, 1000)
        self.views += 1
