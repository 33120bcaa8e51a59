"""``ui_config.dir``: files of a folder, and nothing else."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from http_fakes import FakeCaller

from pyconsul.http import ui_files
from pyconsul.http.api import build_routes
from pyconsul.http.face import Face, HttpOptions
from pyconsul.http.routing import Response


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "ui"
    (made / "assets").mkdir(parents=True)
    (made / "index.html").write_text("<h1>mine</h1>")
    (made / "assets" / "app.js").write_text("go()")
    (tmp_path / "secret").write_text("secret")
    (made / "way-out").symlink_to(tmp_path / "secret")
    return made


def get(folder: Path, target: str) -> Response:
    options = HttpOptions()
    routes = build_routes(options, ui_path="/ui/", ui_folder=str(folder))
    face = Face(FakeCaller(), routes, options)

    async def run() -> Response:
        answer = face.answer(face.open("GET", target.encode(), {}))
        return answer if isinstance(answer, Response) else await answer

    return asyncio.run(run())


def test_files_have_their_types(folder: Path) -> None:
    script = get(folder, "/ui/assets/app.js")
    assert (script.status, script.body) == (200, b"go()")
    assert b"javascript" in script.content_type
    assert b"nosniff" in script.headers


@pytest.mark.parametrize(
    "target",
    ["/ui/", "/ui/dc1/services", "/ui/assets", "/ui/way-out", "/ui/%2e%2e/secret"],
)
def test_what_is_no_file_is_the_index(folder: Path, target: str) -> None:
    page = get(folder, target)
    if page.status == 301:
        page = get(folder, "/ui/")
    assert (page.status, page.body) == (200, b"<h1>mine</h1>")
    assert page.content_type == b"Content-Type: text/html; charset=utf-8\r\n"


def test_without_an_index_there_is_nothing(tmp_path: Path) -> None:
    assert get(tmp_path, "/ui/x").status == 404


def test_a_huge_file_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ui_files, "FILE_BYTES_MAX", 3)
    assert get(folder, "/ui/assets/app.js").status == 413
