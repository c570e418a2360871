"""`snakemake --report`: as one HTML file, and as a zip file with the viewers inside."""

import json
import re
import zipfile

import pytest

from tests.workflow.harness import Workspace, results_of_report

pytestmark = pytest.mark.slow


def test_both_kinds_of_report_have_pages_tables_and_captions(built: Workspace) -> None:
    run = built.run("--report", "report.html")
    assert run.returncode == 0, run.output
    page = (built.folder / "report.html").read_text(encoding="utf-8")
    found = results_of_report(page)
    in_both = {
        "results/small/summary.html",
        "results/small/cells.csv",
        "results/small/no_ops.csv",
        "results/small/grids/alpha_by_prompt.png",
    }
    assert set(found) == in_both
    assert "needs no\nother file" in found["results/small/summary.html"]["caption"]
    assert found["results/small/cells.csv"]["labels"] == {"experiment": "small", "what": "cells"}
    assert all(result["data_uri"].startswith("data:") for result in found.values())
    categories = json.loads(re.search(r"^\s*var categories = (\{.*\});?$", page, re.MULTILINE)[1])
    assert set(categories["Experiments"]) == {"Grids", "Summaries", "Tables"}
    # Times of jobs, and what the whole is about.
    assert '"rule": "generate_images"' in page
    assert "Begin with a summary" in page

    run = built.run("--report", "report.zip")
    assert run.returncode == 0, run.output
    with zipfile.ZipFile(built.folder / "report.zip") as archive:
        names = set(archive.namelist())
        viewer = next(name for name in names if name.endswith("/data.js")).removesuffix("data.js")
        shown = archive.read(f"{viewer}index.html").decode()
        page = archive.read("report/report.html").decode()
    scripts = re.findall(r'(?:src|href)="((?!data:|#)[^"]+)"', shown)
    assert len(scripts) > 10
    assert {viewer + script for script in scripts} <= names
    images = {path.name for path in (built.folder / "results/small/viewer/images").iterdir()}
    assert {f"{viewer}images/{name}" for name in images} <= names
    found = results_of_report(page)
    assert set(found) == {*in_both, "results/small/viewer/index.html"}
    assert "Open in a tab" in found["results/small/viewer/index.html"]["caption"]


def test_the_page_of_the_viewer_can_be_asked_for_and_is_made_again(built: Workspace) -> None:
    page = built.folder / "results/small/viewer/index.html"
    whole = page.read_bytes()
    page.unlink()
    run = built.run("results/small/viewer/index.html")
    assert (run.returncode, run.jobs) == (0, {"build_viewer": 1}), run.output
    assert page.read_bytes() == whole
    run = built.run()
    assert (run.returncode, run.jobs) == (0, {}), run.output
