"""The documentation site: it builds without a warning, and no link inside it leads nowhere."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("sphinx", reason="the site needs the extra `docs`")
pytest.importorskip("myst_nb", reason="the site needs the extra `docs`")

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow  # half a minute: every docstring is read


class Links(HTMLParser):
    """What a page points to, and where one may point to within it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors = {""}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            elif name in ("href", "src") and value:
                self.targets.append(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it, but for what the notebooks show when they are run."""
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    # A notebook that was not run does not say what language it is in.
    unrun = ["-D", "nb_execution_mode=off", "-D", "suppress_warnings=myst-nb.lexer"]
    made = subprocess.run(
        [*build, *unrun, "docs", str(folder)], cwd=ROOT, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    return folder


def dead_links(site: Path) -> Iterator[str]:
    pages = {
        path.resolve(): Links(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")
    }
    for page, links in pages.items():
        for target in links.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            path = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            there = path.is_file()
            if there and path in pages:
                there = unquote(parts.fragment) in pages[path].anchors
            if not there:
                yield f"{page.relative_to(site)}: {target}"


def test_no_link_is_dead(site: Path) -> None:
    assert sorted(dead_links(site)) == []


def test_pages_need_no_network(site: Path) -> None:
    """Neither scripts nor styles nor pictures come from elsewhere."""
    for path in site.rglob("*.html"):
        for line in path.read_text(encoding="utf-8").splitlines():
            assert not ("<script" in line and 'src="http' in line), f"{path}: {line}"
            assert not ("stylesheet" in line and 'href="http' in line), f"{path}: {line}"
            assert not ("<img" in line and 'src="http' in line), f"{path}: {line}"


def test_dead_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<a href="b.html#there"><a href="b.html#not"><a href="c">')
    (tmp_path / "b.html").write_text('<p id="there"><a href="https://example.org/x">')
    assert list(dead_links(tmp_path)) == ["a.html: b.html#not", "a.html: c"]
