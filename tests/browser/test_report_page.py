"""The page in a real browser: what a reader clicks, types, prints and sees, and that nothing of it runs or loads more."""

from __future__ import annotations

import re

import chrome
import pages
import pytest

if chrome.find() is None:
    pytest.skip("no Chromium is installed", allow_module_level=True)

PHONE = {"width": 390, "height": 844}
NUMBERS = "[...document.querySelectorAll('.board tbody tr')].slice(0, 10).map(r => r.cells[{0}].dataset.value ?? null)"
METHODS = "[...document.querySelectorAll('.board table')[0].tBodies[0].rows].map(r => r.cells[0].textContent)"
SHOWN = "[...document.querySelectorAll('.board table')[0].tBodies[0].rows].filter(r => r.offsetHeight).length"
SIZED = "[document.documentElement.scrollWidth, innerWidth]"
HEAD = ".board thead th:nth-child({0}) button"
CONTRAST = """
(() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (c) => c.slice(0, 3).map((v) => v / 255).map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  const found = {};
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode, e = node.parentElement;
    if (!node.data.trim() || e.closest("script, style, title, desc, [hidden]") || !e.checkVisibility()) continue;
    const css = getComputedStyle(e), svg = e.closest("svg");
    const [a, b] = [light(parse(svg ? css.fill : css.color)), light(behind(svg ?? e))];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    const name = `${svg ? "svg " : ""}${e.tagName.toLowerCase()}.${e.parentElement.className.baseVal ?? e.className}`;
    found[name] = Math.min(found[name] ?? 99, ratio);
  }
  return found;
})()
"""
MARKS = """
[...document.querySelectorAll("svg g[class]")].filter(g => /^(s\\d|reference)$/.test(g.getAttribute("class"))).map(g => {
  const light = (c) => c.match(/[\\d.]+/g).map(Number).slice(0, 3).map((v) => v / 255)
    .map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const [a, b] = [light(getComputedStyle(g).fill), light(getComputedStyle(document.body).backgroundColor)];
  return (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
})
"""
SMALLEST = """
Math.min(...[...document.querySelectorAll("body *")].filter(e => e.checkVisibility() && !e.closest("script, style") &&
  [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())).map(e => {
    const svg = e.closest("svg"), scale = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
    return e.closest("title, desc") ? 99 : parseFloat(getComputedStyle(e).fontSize) * scale; }))
"""


@pytest.fixture(scope="module")
def browser():
    found = chrome.Chrome(chrome.find())
    yield found
    found.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("pages")
    (where / "usual.html").write_text(pages.html(pages.usual()), encoding="utf-8")
    name, config = f"</title><script>{pages.MARK}</script>", "\n".join(pages.ATTACKS)
    (where / "hostile.html").write_text(pages.html(pages.hostile(), name=name, config=config), encoding="utf-8")
    return where


@pytest.fixture
def seen(browser, folder):
    """Opens a page; at the end it has complained of nothing and asked for nothing but itself."""

    def open_(name="usual", **look):
        browser.open(folder / f"{name}.html", **look)
        return browser

    yield open_
    assert browser.errors == []
    assert [url for url in browser.asked if not url.startswith(("file:", "data:image/"))] == []
    assert len([url for url in browser.asked if url.startswith("file:")]) == 1


def in_order(values, way=1):
    """Whether numbers are sorted, and all that are missing last."""
    there = [float(value) for value in values if value is not None]
    assert len(there) > 3
    return None not in values[: len(there)] and there == sorted(there, reverse=way < 0)


def test_a_click_sorts_by_numbers_and_a_third_gives_the_order_back(seen):
    page = seen()
    given = page.run(METHODS)
    rte = page.run("[...document.querySelectorAll('.board thead th')].findIndex(h => h.textContent === 'RTE')") + 1
    assert not in_order(page.run(NUMBERS.format(rte - 1)))
    page.click(HEAD.format(rte))
    assert in_order(page.run(NUMBERS.format(rte - 1)))
    assert page.run(f"document.querySelector('.board thead th:nth-child({rte})').ariaSort") == "ascending"
    assert "by RTE, ascending" in page.run("document.querySelector('[role=status]').textContent")
    page.click(HEAD.format(rte))
    assert in_order(page.run(NUMBERS.format(rte - 1)), -1)
    assert page.run("[...document.querySelectorAll('[aria-sort]')].map(h => h.ariaSort)") == ["descending"]
    page.click(HEAD.format(rte))
    assert page.run(METHODS) == given
    assert page.run("document.querySelectorAll('[aria-sort]').length") == 0


def test_what_is_missing_is_last_both_ways(seen):
    page = seen()
    for _ in range(2):
        page.click(HEAD.format(3))  # references have no rank
        values = page.run(NUMBERS.format(2))
        assert values[-3:] == [None] * 3
        assert None not in values[:7]


def test_the_keyboard_reaches_and_sorts(seen):
    page = seen()
    page.press("Tab")
    assert page.run("document.activeElement.className") == "skip"
    assert page.run("document.activeElement.getBoundingClientRect().top >= 0")
    reached = []
    for _ in range(12):
        page.press("Tab")
        reached.append(page.run("document.activeElement.tagName + ' ' + document.activeElement.textContent.slice(0, 20)"))
    assert reached.index("INPUT ") < reached.index("SUMMARY Columns") < reached.index("BUTTON method")
    page.run("document.querySelector('.board thead th button').focus()")
    assert page.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.press("Enter")
    methods = page.run(METHODS)
    assert methods == sorted(methods, key=str.lower)
    page.press(" ")
    assert page.run(METHODS) == sorted(methods, key=str.lower, reverse=True)


def test_the_skip_link_leads_to_the_results(seen):
    page = seen()
    page.press("Tab")
    page.press("Enter")
    assert page.run("document.activeElement.id") == "main"


def test_rows_are_filtered_by_method_and_weighting(seen):
    page = seen()
    assert page.run(SHOWN) == 10
    page.click(".board input[type=search]")
    page.type("SALUN w_f")
    assert page.run(SHOWN) == 1
    assert page.run("document.querySelector('[role=status]').textContent") == "1 of 10 rows"
    page.run("document.querySelector('input[type=search]').select()")
    page.type("retrain")
    assert page.run(SHOWN) == 1


def test_a_column_can_be_hidden_and_shown(seen):
    page = seen()
    seen_cells = "[...document.querySelectorAll('.board table')[0].rows].map(r => r.cells[4].offsetWidth > 0)"
    page.click(".columns summary")
    page.click(".columns label:nth-of-type(4) input")
    assert not any(page.run(seen_cells))
    page.click(".columns label:nth-of-type(4) input")
    assert all(page.run(seen_cells))


@pytest.mark.parametrize("look", [{}, PHONE])
def test_nothing_of_a_hostile_name_runs(seen, look):
    page = seen("hostile", **look)
    for event in ("mouseover", "focus", "load", "error"):
        heard = f"new Event('{event}', {{bubbles: true}})"
        page.run(f"document.querySelectorAll('body *').forEach(e => e.dispatchEvent({heard}))")
    page.click(HEAD.format(1))
    page.click(HEAD.format(5))
    page.run("new Promise(done => setTimeout(done, 100))")
    assert page.run("typeof window.pwned") == "undefined"
    assert page.run("document.title").startswith(("Unlearning", '"><img'))
    assert page.run("document.querySelectorAll('script, img, svg:not(.charts svg), iframe').length") == 2
    assert page.run("[...document.querySelectorAll('a')].every(a => a.getAttribute('href').startsWith('#'))")
    width, room = page.run(SIZED)
    assert width <= room


def test_the_policy_stops_what_was_put_in_later(browser, folder):
    browser.open(folder / "usual.html")
    added = '<img src=x onerror="window.pwned=1"><b style="color:red">x</b>'
    browser.run(f"document.body.insertAdjacentHTML('beforeend', '{added}')")
    browser.run("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.pwned=1'}))")
    browser.run("fetch('https://example.org/').catch(() => 0)")
    assert browser.run("typeof window.pwned") == "undefined"
    assert len(browser.errors) >= 3


@pytest.mark.parametrize("name", ["usual", "hostile"])
def test_on_a_phone_only_tables_scroll_and_text_is_large_enough(seen, name):
    page = seen(name, **PHONE)
    page.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    width, room = page.run(SIZED)
    assert (width, room) == (390, 390)
    assert page.run("document.querySelector('.board .scroll').scrollWidth") > 390
    page.run("document.querySelector('.board .scroll').scrollLeft = 300")
    assert page.run("document.querySelector('.board tbody th').getBoundingClientRect().left") < 30
    assert page.run(SMALLEST) >= 13.99


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_both_schemes(seen, scheme):
    page = seen(scheme=scheme)
    page.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    found = page.run(CONTRAST)
    assert len(found) > 15
    hint = "getComputedStyle(document.querySelector('input[type=search]'), '::placeholder').color"
    assert page.run(hint) == page.run("getComputedStyle(document.querySelector('p.quiet')).color")
    assert {name: round(ratio, 2) for name, ratio in found.items() if ratio < 4.5} == {}
    background = page.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background))) < 200) == (scheme == "dark")
    marks = page.run(MARKS)
    assert marks
    assert min(marks) >= 3


def test_on_paper_everything_is_open_and_nothing_is_cut(seen):
    page = seen()
    page.click(".board input[type=search]")
    page.type("SalUn")
    page.click(".columns summary")
    page.click(".columns label:nth-of-type(4) input")
    page.look(width=1050, media="print", scheme="dark")
    assert page.run(SHOWN) == 10
    assert all(page.run("[...document.querySelectorAll('.board table')[0].rows].map(r => r.cells[4].offsetWidth > 0)"))
    assert page.run("[...document.querySelectorAll('.controls, .skip')].every(e => !e.checkVisibility())")
    assert page.run("document.querySelectorAll('details:not(.columns, [open])').length") > 2
    inner = "[...document.querySelectorAll('details:not(.columns) > :not(summary)')]"
    assert page.run(f"{inner}.every(e => e.checkVisibility() && e.offsetHeight > 10)")
    assert page.run("[...document.querySelectorAll('.scroll, pre')].every(e => getComputedStyle(e).overflowX === 'visible')")
    colours = "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    assert page.run(colours) == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]
    width, room = page.run(SIZED)
    assert width <= room
    assert page.pdf().startswith(b"%PDF")


def test_without_a_script_the_table_is_whole(browser, folder):
    browser("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(folder / "usual.html")
    finally:
        browser("Emulation.setScriptExecutionDisabled", value=False)
    assert browser.run("document.querySelectorAll('.board tbody td b').length") > 3
    assert browser.run("[...document.querySelectorAll('.controls')].every(e => !e.checkVisibility())")
    assert browser.run("document.querySelectorAll('thead button').length") == 0


def test_who_wants_no_motion_gets_none(seen):
    page = seen(reduced=True)
    assert page.run("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
    assert page.run("document.getAnimations().length") == 0
    assert page.run("[...document.querySelectorAll('*')].every(e => getComputedStyle(e).transitionDuration === '0s')")


def test_regions_that_scroll_can_be_reached_and_have_names(seen):
    page = seen()
    assert page.run("[...document.querySelectorAll('.scroll, pre')].every(e => e.tabIndex === 0)")
    names = page("Accessibility.getFullAXTree")["nodes"]
    roles = "region", "table", "navigation", "searchbox", "checkbox", "image", "button"
    wanted = [node for node in names if node.get("role", {}).get("value") in roles]
    assert len(wanted) > 10
    assert all(node.get("name", {}).get("value") for node in wanted)
