"""The viewer inside the report that Snakemake makes of a workflow."""

import shutil
import subprocess
import sys
import zipfile

import pytest

SNAKEFILE = """
rule build_viewer:
    output:
        report(directory("results/viewer"), htmlindex="index.html", category="Experiments", labels={"what": "viewer"}),
    shell:
        "mkdir -p results && cp -r written {output}"
"""


@pytest.fixture(scope="module")
def report(written, tmp_path_factory):
    """Returns the page of an unpacked report with a viewer in it."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "Snakefile").write_text(SNAKEFILE)
    shutil.copytree(written.folder, folder / "written")
    for options in (["--cores", "1"], ["--report", "report.zip"]):
        run = subprocess.run(
            [sys.executable, "-m", "snakemake", *options], cwd=folder, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
    with zipfile.ZipFile(folder / "report.zip") as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked" / "report" / "report.html"


@pytest.mark.slow
def test_the_viewer_works_inside_an_unpacked_report(open_page, report):
    view = open_page()
    page = view.page
    page.goto(report.as_uri())
    page.click("text=Results")
    page.click("text=Experiments")
    page.click("[iconname=eye]")
    frame = page.frame_locator("iframe")
    frame.locator(".cell[data-row='0'][data-column='2']").click()
    view.press("4", "s")
    assert frame.locator("dialog [aria-label='4 of 5']").get_attribute("aria-pressed") == "true"
    assert (
        frame.locator(".stage-frame img").first.evaluate(
            "(image) => image.decode().then(() => image.naturalWidth)"
        )
        == 32
    )
    view.press("Escape")
    frame.locator("select[data-key='heat']").select_option("visible_change")
    with page.context.expect_page() as opened:
        frame.locator("a:has-text('Open in a tab')").click()
    opened.value.wait_for_selector(".cell")
    assert "heat=visible_change" in opened.value.url
    # Of the report itself, not of the page in it.
    view.problems[:] = [problem for problem in view.problems if "tailwindcss" not in problem]
