"""The Markdown documents of the repository and the Python in them."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]
HIDDEN = {"runs", "node_modules"}


def documents():
    """The documents, `experiments/results` aside, by path from the root."""
    paths = (path for path in ROOT.rglob("*.md") if "results" not in path.parts)
    names = (path.relative_to(ROOT) for path in paths)
    return sorted(str(name) for name in names if not any(part in HIDDEN or part[0] == "." for part in name.parts))


def blocks(document, kind="python"):
    """The code blocks of a document whose info string is `kind`, such as "python" or "python notest"."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", (ROOT / document).read_text(), re.DOTALL | re.MULTILINE)
