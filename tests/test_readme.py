"""What the README shows is what happens."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_there_are_examples():
    assert len(BLOCKS) == 7


def test_examples_run_and_give_what_they_say():
    namespace = {}
    for block in BLOCKS:
        for line in block.splitlines():
            shown = re.match(r"(\S.*\.shape)  # (\(.*\))$", line)
            if shown:
                exec(block[: block.index(line)], namespace)
                assert str(eval(shown[1], namespace)) == shown[2]
        exec(block, namespace)


def test_the_test_command_is_what_ci_runs():
    command = re.search(r"^python3 .* pytest$", README, re.MULTILINE)[0]
    assert command in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("document", ["README.md", "experiments/README.md"])
def test_links_lead_somewhere(document):
    path = ROOT / document
    links = re.findall(r"\]\(([^)#:]+)\)", path.read_text())
    assert links
    assert not [link for link in links if not (path.parent / link).exists()]
