"""The page in a real browser, on a real server."""

import base64
import csv
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser import MISSING, is_found, started
from tests.serving.conftest import Server, serve

pytestmark = pytest.mark.usefixtures("one_is_found")
KEY = "0123456789abcdef"
EXPECTED = "Failed to load resource: the server responded with a status of 4"
"""What Chromium itself writes of a refusal."""
TRANSFER = """data => {
    const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], "photo.jpg", { type: "image/jpeg" }));
    return transfer;
}"""

Visit = Callable[..., AbstractContextManager[Page]]


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that answers nobody without a key."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(KEY)
    with serve("--model", model, keys=keys) as server:
        server.client.headers["Authorization"] = f"Bearer {KEY}"
        yield server


@pytest.fixture(scope="session")
def one_is_found() -> None:
    """Before all that is started and packed for nothing where there is no browser."""
    if not is_found():
        pytest.skip(MISSING)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=20_000)
    with started() as browser:
        yield browser


@pytest.fixture
def visit(browser: Browser, server: Server) -> Visit:
    """The page, and afterwards: no error, no breach of the policy, no request to elsewhere."""

    @contextmanager
    def visit(key: str = KEY, url: str = server.url, **options: object) -> Iterator[Page]:
        options = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"} | options
        context = browser.new_context(**options)  # type: ignore[arg-type]
        if key:
            context.add_init_script(f"sessionStorage.setItem('alexnet-key', '{key}')")
        page = context.new_page()
        wrong: list[str] = []
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: wrong.append(request.url) if foreign(request) else None)

        def foreign(request) -> bool:  # type: ignore[no-untyped-def]
            return not request.url.startswith((f"{url}/", f"blob:{url}/"))

        page.goto(f"{url}/")
        yield page
        context.close()
        assert [text for text in wrong if not text.startswith(EXPECTED)] == []

    return visit


@pytest.fixture
def photo(tmp_path: Path, jpeg: bytes) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(jpeg)
    return path


def bars(page: Page) -> list[tuple[str, float]]:
    """(label, length of its bar as a share of the longest possible), as drawn."""
    expect(page.locator("#result")).to_be_visible()
    expect(page.locator("#result.waiting")).to_have_count(0)
    return page.eval_on_selector_all(
        "#bars > li",
        """rows => rows.map(row => [row.querySelector(".name").textContent,
            row.querySelector(".track > *").getBoundingClientRect().width
            / row.querySelector(".track").getBoundingClientRect().width])""",
    )


def percent(probability: float) -> str:
    return f"{probability:.1%}".replace("%", "\u202f%")


def same(page: Page, guesses: list[dict]) -> None:
    drawn = bars(page)
    assert [name for name, _ in drawn] == [guess["label"] for guess in guesses]
    lengths = [guess["probability"] for guess in guesses]
    assert [length for _, length in drawn] == pytest.approx(lengths, abs=2e-3)
    shares = page.locator("#bars .share").all_text_contents()
    assert shares == [percent(length) for length in lengths]


def asked(server: Server, jpeg: bytes) -> dict:
    """What the server says of an image, with the votes of its views."""
    (result,) = server.post("/classify?detail=views", jpeg).raise_for_status().json()["results"]
    return result


def test_drop_paste_choose(visit: Visit, server: Server, jpeg: bytes, photo: Path) -> None:
    result = asked(server, jpeg)
    assert len(result["guesses"]) == 5
    with visit() as page:
        for way in ("drop", "paste", "choose"):
            page.reload()
            if way == "choose":
                page.set_input_files("#choose", photo)
            else:
                data = base64.b64encode(jpeg).decode()
                page.evaluate(
                    """([transfer, way]) => document.body.dispatchEvent(way === "drop"
                        ? new DragEvent("drop", { dataTransfer: transfer, bubbles: true })
                        : new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true }))
                    """,
                    [page.evaluate_handle(TRANSFER, data), way],
                )
            same(page, result["guesses"])
            expect(page.locator("#photo")).to_have_js_property("naturalWidth", 300)
            expect(page.locator("#photo")).to_have_css("object-fit", "cover")
            best = result["guesses"][0]
            said = f"{best['label']}, {percent(best['probability'])}"
            expect(page.locator("#status")).to_have_text(said)


def test_each_view_shows_its_rectangle_and_vote(
    visit: Visit, server: Server, jpeg: bytes, photo: Path
) -> None:
    result = asked(server, jpeg)
    with visit() as page:
        page.set_input_files("#choose", photo)
        same(page, result["guesses"])
        for index, vote in enumerate(result["votes"]):
            page.locator(".view").nth(index).hover()
            same(page, vote["guesses"])
            mirrored = ", mirrored" if index >= 5 else ""
            assert page.locator("#whose").text_content().endswith(mirrored)
            active = page.locator("#frames .active")
            assert ("mirrored" in active.get_attribute("class")) == vote["mirrored"]
            box, square = active.bounding_box(), page.locator(".square").bounding_box()
            drawn = [(box["x"] - square["x"]), (box["y"] - square["y"]), box["width"]]
            expected = [vote[side] * square["width"] for side in ("left", "top", "side")]
            assert drawn == pytest.approx(expected, abs=1)
        page.locator("h1").hover()
        same(page, result["guesses"])


def test_by_keyboard_alone(visit: Visit, server: Server, jpeg: bytes, photo: Path) -> None:
    result = asked(server, jpeg)
    with visit() as page:
        page.on("filechooser", lambda chooser: chooser.set_files(photo))
        page.keyboard.press("Tab")
        assert outline(page) != "none"
        page.keyboard.press("Enter")
        same(page, result["guesses"])

        page.keyboard.press("Tab")  # the mean of the ten; arrows go on to the views
        page.keyboard.press("ArrowRight")
        assert outline(page) != "none"
        same(page, result["votes"][0]["guesses"])
        assert page.evaluate("document.activeElement.ariaLabel").startswith("top left: class ")
        page.keyboard.press("ArrowLeft")
        same(page, result["guesses"])

        page.keyboard.press("Tab")
        assert outline(page) != "none"
        page.keyboard.press("Enter")
        label = result["guesses"][0]["label"]
        expect(page.locator("#caption")).to_contain_text(f"Red parts speak for {label}")
        expect(page.locator("#map")).to_be_visible()
        assert page.locator("#map").evaluate("map => map.naturalWidth") > 0
        expect(page.locator(".where").first).to_have_attribute("aria-pressed", "true")
        page.keyboard.press("Space")
        expect(page.locator("#map")).to_be_hidden()


def outline(page: Page) -> str:
    """The outline of what has the focus; where that is an input inside a label, the label's."""
    return page.evaluate(
        """getComputedStyle(document.activeElement.closest("label")
           ?? document.activeElement).outlineStyle"""
    )


def test_several_images_and_one_that_is_none(visit: Visit, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    other = tmp_path / "other.jpg"
    other.write_bytes(photo.read_bytes())
    with visit() as page:
        page.set_input_files("#choose", [photo, tmp_path / "notes.txt", other])
        expect(page.locator(".image .name")).to_contain_text(["class", "no answer", "class"])
        before = bars(page)
        page.locator(".image").nth(1).click()
        status = page.locator("#status")
        expect(status).to_have_text(
            "notes.txt: the file is not an image of a supported format (JPEG, PNG, WEBP)"
        )
        expect(page.locator("#result")).to_be_hidden()
        page.keyboard.press("ArrowRight")
        expect(page.locator("#caption")).to_contain_text("other.jpg")
        assert bars(page) == before


def test_a_table_of_several_images(
    visit: Visit, server: Server, jpeg: bytes, photo: Path, tmp_path: Path
) -> None:
    """What the server says of each, whatever the names of the files are."""
    (tmp_path / "notes.txt").write_text("no image")
    odd = tmp_path / '=1+1 "ü", x.jpg'
    odd.write_bytes(jpeg)
    guesses = asked(server, jpeg)["guesses"]
    with visit() as page:
        page.set_input_files("#choose", photo)
        bars(page)
        expect(page.locator("#table")).to_be_hidden()
        page.set_input_files("#choose", [odd, tmp_path / "notes.txt"])
        expect(page.locator("#table")).to_contain_text("3 photographs")
        with page.expect_download() as download:
            page.get_by_text("Download the answers").click()
        path = tmp_path / "answers.csv"
        download.value.save_as(path)
    assert download.value.suggested_filename == "answers.csv"
    with path.open(encoding="utf-8-sig", newline="") as file:
        first, second, bad = csv.DictReader(file)
    assert (first["file"], second["file"]) == ("photo.jpg", f"'{odd.name}")
    assert (bad["file"], bad["label_1"], first["problem"]) == ("notes.txt", "", "")
    assert bad["problem"].startswith("the file is not an image of a supported format")
    for row in (first, second):
        assert row["none_of_these"] == ""
        for place, guess in enumerate(guesses, 1):
            assert (row[f"id_{place}"], row[f"label_{place}"]) == (guess["id"], guess["label"])
            assert float(row[f"probability_{place}"]) == pytest.approx(
                guess["probability"], abs=1e-5
            )


def test_none_of_these(visit: Visit, server: Server, jpeg: bytes, photo: Path) -> None:
    best = asked(server, jpeg)["guesses"][0]

    def strict(route: Route) -> None:
        route.continue_(url=f"{route.request.url}&min_probability=1")

    def calibrated(route: Route) -> None:
        route.fulfill(json=route.fetch().json() | {"calibrated": [10]})

    with visit() as page:
        expect(page.locator("#calibrated")).to_contain_text("are not calibrated")
        page.set_input_files("#choose", photo)
        bars(page)
        expect(page.locator("#none")).to_be_hidden()
        page.route("**/classify*", strict)
        page.route("**/info", calibrated)
        page.reload()
        expect(page.locator("#calibrated")).to_contain_text("of the average are calibrated")
        page.set_input_files("#choose", photo)
        assert len(bars(page)) == 5
        expect(page.locator("#none")).to_have_text(
            f"None of these: the best guess has {percent(best['probability'])}, and an answer "
            f"needs {percent(1)}."
        )
        expect(page.locator("#status")).to_contain_text("None of these; the best guess")
        page.locator(".view").first.hover()
        expect(page.locator("#none")).to_be_hidden()


def test_a_busy_server_is_asked_again(visit: Visit, photo: Path) -> None:
    problem = {"detail": "64 images are waiting", "status": 429}
    with visit() as page:
        page.route(
            "**/classify*", times=1,
            handler=lambda route: route.fulfill(
                status=429, json=problem, headers={"Retry-After": "1"}
            ),
        )  # fmt: skip
        page.set_input_files("#choose", photo)
        expect(page.locator("#status")).to_have_text(
            "The server cannot answer yet: 64 images are waiting. This page tries again by itself."
        )
        assert len(bars(page)) == 5


def test_similar_training_images(visit: Visit, indexed: Path, jpeg: bytes, photo: Path) -> None:
    with serve("--model", indexed.parent) as server, visit(key="", url=server.url) as page:
        neighbours = server.post("/similar", jpeg).raise_for_status().json()["neighbours"]
        assert len(neighbours) == 6
        page.set_input_files("#choose", photo)
        names = page.locator("#neighbours .name")
        expect(names).to_have_text([neighbour["label"].split(",")[0] for neighbour in neighbours])
        distances = page.locator("#neighbours .distance").all_text_contents()
        assert [float(distance) for distance in distances] == pytest.approx(
            [neighbour["distance"] for neighbour in neighbours], abs=0.06
        )
        for image in page.locator("#neighbours img").all():
            expect(image).not_to_have_js_property("naturalWidth", 0)


def test_a_model_that_squashes(visit: Visit, photo: Path) -> None:
    def squashing(route: Route) -> None:
        card = route.fetch().json()
        card["picture"]["framing"] = "squash"
        route.fulfill(json=card)

    with visit() as page:
        page.route("**/info", squashing)
        page.reload()
        page.set_input_files("#choose", photo)
        bars(page)
        expect(page.locator("#photo")).to_have_css("object-fit", "fill")


def test_a_key_is_asked_for_and_kept(visit: Visit, photo: Path) -> None:
    with visit(key="") as page:
        field = page.get_by_label("This server needs an API key")
        expect(field).to_be_focused()
        page.set_input_files("#choose", photo)
        field.focus()
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#status")).to_contain_text("does not know this API key")
        page.keyboard.type(KEY)
        page.keyboard.press("Enter")
        assert len(bars(page)) == 5  # what waited for the key goes on
        expect(field).to_be_hidden()
        page.reload()
        expect(page.locator("#model")).to_have_text("tiny, step 12")
        expect(field).to_be_hidden()


def test_phone(visit: Visit, photo: Path) -> None:
    phone = {
        "viewport": {"width": 360, "height": 780}, "color_scheme": "dark",
        "is_mobile": True, "has_touch": True,
    }  # fmt: skip
    with visit(**phone) as page:
        assert page.locator(".camera input").get_attribute("capture") == "environment"
        expect(page.locator(".camera")).to_be_visible()
        page.set_input_files(".camera input", photo)
        before = bars(page)
        page.locator(".view").nth(7).tap()
        assert bars(page) != before
        for width in (360, 320):
            page.set_viewport_size({"width": width, "height": 780})
            assert page.evaluate("document.documentElement.scrollWidth") == width


def test_the_card_the_first_layer_and_the_documentation(visit: Visit) -> None:
    with visit() as page:
        expect(page.locator("#knows")).to_contain_text("7 classes: class 0, class 1")
        expect(page.locator("#card")).to_contain_text("Training dataSHA-256 dddddddddddd…")
        expect(page.locator("#kernels")).to_have_js_property("complete", True)
        assert page.locator("#kernels").evaluate("image => image.naturalWidth") > 100
        page.get_by_text("HTTP interface").click()
        expect(page.get_by_text("/classify", exact=True)).to_be_visible()


def test_the_card_has_the_mean_of_the_classes_where_it_is_known(visit: Visit) -> None:
    def measured(route: Route) -> None:
        counts = {"pictures": 8, "top1": 6, "top5": 8}
        card = route.fetch().json()
        card["accuracy"] = [
            counts | {"views": 1, "macro_top1": None}, counts | {"views": 10, "macro_top1": 0.5}
        ]  # fmt: skip
        route.fulfill(json=card)

    with visit() as page:
        page.route("**/info", measured)
        page.reload()
        rows = page.locator("#accuracy tr")
        expect(rows.nth(1)).to_contain_text("75.0\u202f% 6 of 8 mean of the classes 50.0\u202f%")
        expect(rows.nth(0)).not_to_contain_text("mean of the classes")


def test_these_tests_see_a_breach_of_the_policy(visit: Visit) -> None:
    def breach() -> None:
        with visit() as page, page.expect_console_message():
            page.evaluate("document.body.append(Object.assign(new Image(), {src: '//[::1]:9/'}))")

    with pytest.raises(AssertionError, match="Content Security Policy"):
        breach()
