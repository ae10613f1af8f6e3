"""The page in Debian's Chromium: silent, accessible, inert, and its tables do what they say."""

import importlib.util
import shutil
from importlib import resources

import pytest
from report.html_pages import ESCAPES, HOSTILE, TWO, write_pages

from benchmarks.chromium import started
from benchmarks.made_up_run import SUBSETS

LACKING = [
    *(name for name in ("chromium", "chromedriver") if not shutil.which(name)),
    *(name for name in ("selenium", "html5lib", "axe_playwright_python")
      if importlib.util.find_spec(name) is None),
]  # fmt: skip
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(bool(LACKING), reason=f"needs {', '.join(LACKING)} (extra `browser`)"),
]
PAGES = ("two", "hostile", "bare")
SCREENS = {"light": (1280, "light"), "dark": (1280, "dark"), "narrow": (390, "light")}
ROWS = "return [...document.querySelectorAll('#{} tbody tr')]"


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return write_pages(tmp_path_factory.mktemp("pages"))


@pytest.fixture(scope="module")
def chromium():
    with started() as driver:
        yield driver


@pytest.fixture
def opened(chromium, paths):
    """opened(name, screen): a driver that has opened a page anew."""

    def open_page(name="two", screen="light"):
        width, scheme = SCREENS[screen]
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        chromium.get("about:blank")
        for log in ("browser", "performance"):
            chromium.get_log(log)
        chromium.get(paths[name].as_uri())
        return chromium

    return open_page


def shown(driver, table, column):
    """The cells of a column in the rows that are shown, without the small print."""
    heads = driver.execute_script(f"return [...document.querySelectorAll('#{table} thead th')]"
                                  ".map(h => h.textContent)")  # fmt: skip
    k = heads.index(column)
    return driver.execute_script(
        ROWS.format(table)
        + f".filter(r => !r.hidden).map(r => r.cells[{k}].firstChild.textContent)"
    )


def button(driver, table, column):
    found = driver.find_elements("css selector", f"#{table} thead th button")
    return next(b for b in found if b.text == column)


def sorting(driver, table):
    return driver.execute_script(
        f"return [...document.querySelectorAll('#{table} th[aria-sort]')]"
        ".map(h => [h.textContent, h.ariaSort])"
    )


def values(cells):
    return [float(c.rstrip("*!")) for c in cells if c != "–"]


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_logged_and_nothing_is_asked_of_a_network(opened, paths, name):
    driver = opened(name)
    for details in driver.find_elements("css selector", "details:not([open])"):
        driver.execute_script("arguments[0].open = true", details)
    assert driver.get_log("browser") == []
    asked = [entry["message"] for entry in driver.get_log("performance")]
    urls = [m for m in asked if '"Network.requestWillBeSent"' in m and "about:blank" not in m]
    assert len(urls) == 1 and paths[name].as_uri() in urls[0]


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing(opened, name, screen):
    driver = opened(name, screen)
    driver.execute_script("for (const d of document.querySelectorAll('details')) d.open = true")
    axe = resources.files("axe_playwright_python").joinpath("axe.min.js")
    driver.execute_script(axe.read_text(encoding="utf-8"))
    driver.set_script_timeout(120)
    rules = {"rules": {"color-contrast-enhanced": {"enabled": False}}}
    found = driver.execute_async_script(
        "const [rules, done] = arguments;"
        "axe.run(document, rules).then(done, e => done({e: `${e}`}))",
        rules,
    )
    assert "e" not in found, found
    assert found["passes"]
    assert [(v["id"], [n["html"] for n in v["nodes"]][:3]) for v in found["violations"]] == []


@pytest.mark.parametrize("screen", SCREENS)
def test_nothing_is_wider_than_the_screen(opened, screen):
    driver = opened("two", screen)
    width = driver.execute_script("return document.documentElement.scrollWidth")
    assert width <= SCREENS[screen][0]


@pytest.mark.parametrize("name", PAGES)
def test_a_strict_parser_finds_nothing(paths, name):
    import html5lib

    parser = html5lib.HTMLParser(strict=True)
    parser.parse(paths[name].read_text(encoding="utf-8"))
    assert parser.errors == []


def test_a_table_sorts_by_mouse(opened):
    driver = opened()
    before = shown(driver, "shares-table", "user")
    button(driver, "shares-table", "user").click()
    up = values(shown(driver, "shares-table", "user"))
    assert up == sorted(values(before)) and up != values(before)
    assert shown(driver, "shares-table", "user")[len(up) :] == ["–"] * before.count("–")
    assert sorting(driver, "shares-table") == [["user", "ascending"]]
    button(driver, "shares-table", "user").click()
    down = shown(driver, "shares-table", "user")
    assert values(down) == up[::-1] and set(down[len(up) :]) <= {"–"}
    assert sorting(driver, "shares-table") == [["user", "descending"]]
    button(driver, "shares-table", "user").click()
    assert shown(driver, "shares-table", "user") == before
    assert sorting(driver, "shares-table") == []


def test_a_table_sorts_by_keyboard(opened):
    driver = opened()
    subset = button(driver, "levels-table", "subset")
    subset.send_keys(" ")
    assert shown(driver, "levels-table", "subset") == sorted(
        shown(driver, "levels-table", "subset"), key=str.lower
    )
    subset.send_keys("\ue007")  # Enter
    assert sorting(driver, "levels-table") == [["subset", "descending"]]


def test_rows_are_filtered_by_rpm_subset_shift_and_text(opened):
    driver = opened()
    rpm, place, text = (
        driver.find_element("id", f"filter-{name}") for name in ("rpm", "place", "text")
    )
    rpm.send_keys(TWO[1])
    assert set(shown(driver, "levels-table", "RPM")) == {TWO[1]}
    assert len(shown(driver, "levels-table", "RPM")) == 12
    driver.find_element("css selector", "#filter-place option[value='shift:user']").click()
    assert shown(driver, "levels-table", "subset") == [t for t, s in SUBSETS.items() if s == "user"]
    assert place.get_property("value") == "shift:user"
    driver.find_element("css selector", "#filter-place option[value='subset:german']").click()
    assert shown(driver, "levels-table", "subset") == ["german"]
    samples = driver.find_elements("css selector", ".sample:not([hidden])")
    assert {(s.get_dom_attribute("data-rpm"), s.get_dom_attribute("data-subset"))
            for s in samples} <= {(TWO[1], "german")}  # fmt: skip
    assert "rows" in driver.find_element("id", "filter-said").text
    driver.find_element("id", "filter-clear").click()
    assert len(shown(driver, "levels-table", "RPM")) == 5 * 12
    text.send_keys("THEATER")
    assert set(shown(driver, "levels-table", "subset")) == {"Theater"}
    assert len(shown(driver, "levels-table", "subset")) == 5
    text.send_keys("no such text")
    assert shown(driver, "levels-table", "RPM") == []
    assert driver.find_element("css selector", ".none").is_displayed()


def test_tables_fold_by_keyboard(opened):
    driver = opened()
    summary = driver.find_element("id", "levels-t")
    table = driver.find_element("id", "levels-table")
    assert table.is_displayed()
    summary.send_keys(" ")
    assert not table.is_displayed()
    summary.send_keys("\ue007")
    assert table.is_displayed()


def test_words_are_shaded_for_the_chosen_factor(opened):
    driver = opened()
    levels = "return [...document.querySelectorAll('.sample[open] .words b')].map(b => b.className)"
    figures = (
        "return [...document.querySelectorAll('.sample[open] .words b')].map(b => b.dataset.n)"
    )
    nats = [[float(x) / 100 for x in n.split(",")] for n in driver.execute_script(figures)]

    def expected(factor):
        sizes = [sum(abs(n[factor]) >= x for x in (0.1, 0.5, 1.5, 4)) for n in nats]
        return [
            f"{'p' if n[factor] > 0 else 'n'}{s}" if s else ""
            for n, s in zip(nats, sizes, strict=True)
        ]

    def shades():
        return [c.replace("c", "").strip() for c in driver.execute_script(levels)]

    first = shades()
    assert len(first) == 120
    assert sum(a != b for a, b in zip(first, expected(0), strict=True)) <= 2  # they are rounded
    driver.find_element("css selector", "#factors input[value='2']").click()
    assert shades() == expected(2) != expected(0)
    words = driver.find_element("css selector", ".sample[open] .words")
    words.send_keys("\ue014\ue014")  # arrows to the right
    said = driver.find_element("css selector", ".sample[open] .readout").text
    third = driver.execute_script("return document.querySelectorAll('.words b')[2].textContent")
    assert said.startswith(f"“{third}”, dialogue: {nats[2][2]:.2f} nats")


def test_hostile_texts_are_inert_and_visible(opened):
    driver = opened("hostile")
    for details in driver.find_elements("css selector", "details:not([open])"):
        driver.execute_script("arguments[0].open = true", details)
    assert driver.execute_script(
        "return [document.scripts.length, document.images.length, document.title]"
    ) == [1, 0, "Do 4 role-playing models hold under shift?"]
    hrefs = driver.execute_script("return [...document.links].map(l => l.getAttribute('href'))")
    assert hrefs and all(href.startswith("#") for href in hrefs)
    text = driver.find_element("tag name", "body").text
    for said in (*(" ".join(h.split()) for h in HOSTILE[:3]), *ESCAPES):
        assert said in text
    assert driver.get_log("browser") == []


def test_without_javascript_the_tables_are_there(paths):
    with started("--blink-settings=scriptEnabled=false") as driver:
        driver.get(paths["two"].as_uri())
        for table in ("shares-table", "levels-table", "by-shift-table", "needs-table"):
            assert driver.find_element("id", table).is_displayed()
        assert not driver.find_element("id", "filter").is_displayed()
        assert driver.find_elements("css selector", "th button") == []
        nats = driver.find_element("id", "nats-table")
        assert not nats.is_displayed()
        driver.find_element("id", "nats-t").click()
        assert nats.is_displayed()


def test_paper_folds_nothing(opened):
    driver = opened()
    assert driver.find_elements("css selector", "details:not([open])")
    driver.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert not driver.find_elements("css selector", "details:not([open])")
    driver.execute_script("dispatchEvent(new Event('afterprint'))")
    assert driver.find_elements("css selector", "details:not([open])")
