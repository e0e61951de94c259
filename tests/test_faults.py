"""The list of deliberate faults fits the project as it is; `python tests/faults.py` puts them in."""

import pytest
from faults import FAULTS, ROOT


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_can_be_put_in(name):
    fault = FAULTS[name]
    assert (ROOT / fault.file).read_text().count(fault.right) == 1
    assert all((ROOT / f"tests/test_{test}.py").is_file() for test in fault.tests.split())
