"""What the documents show is what happens."""

import re

import jax
import pytest
from documents import ROOT, blocks, documents

README = (ROOT / "README.md").read_text()
# CONTRIBUTING.md has files to add to the packages: see test_contributing.py.
GUIDES = [name for name in documents() if blocks(name) and name not in ("README.md", "CONTRIBUTING.md")]


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """The current folder is empty, for what examples write; numbers are a reader's, float32; nothing is optimised."""
    monkeypatch.chdir(tmp_path)
    jax.config.update("jax_disable_most_optimizations", True)
    with jax.enable_x64(False):
        yield
    jax.config.update("jax_disable_most_optimizations", False)


def run(document):
    """Runs all Python of a document in one namespace; lines `x.shape  # (1, 2)` must be true."""
    namespace = {}
    for block in blocks(document):
        for line in block.splitlines():
            shown = re.match(r"(\S.*\.shape)  # (\(.*\))$", line)
            if shown:
                exec(block[: block.index(line)], namespace)
                assert str(eval(shown[1], namespace)) == shown[2]
        exec(block, namespace)
    return namespace


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("document", GUIDES)
@pytest.mark.slow
def test_examples_run_and_give_what_they_say(document):
    run(document)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.slow
def test_examples_of_the_readme_run_and_its_network_learns():
    names = run("README.md")
    assert sum(names["losses"][-4:]) < 0.5 * sum(names["losses"][:4])
    assert names["accuracy"] > 0.8


def test_the_readme_is_read_in_a_few_minutes():
    assert len(README.splitlines()) <= 150
    assert len(README.split()) <= 1500
    assert len(blocks("README.md")) == 3


def test_the_test_command_is_what_ci_runs():
    command = re.search(r"^python3 .* pytest$", README, re.MULTILINE)[0]
    assert command in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("document", documents())
def test_links_lead_somewhere(document):
    text = re.sub(r"^```.*?^```$", "", (ROOT / document).read_text(), flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    for link in links:
        if not re.match(r"https?:", link):
            path, _, anchor = link.partition("#")
            target = (ROOT / document).parent / path if path else ROOT / document
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def anchors(document):
    """The names by which GitHub knows a document's headings."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
