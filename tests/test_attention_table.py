"""The table of the operators' costs, and their presets of equal parameters."""

import json

import jax
import pytest
from flax import nnx

from attgconv_jax import OPERATORS
from experiments.bench import attention
from experiments.configs import TABLES
from experiments.configs.preset import RESULTS, reports
from experiments.report.documents import document
from experiments.run.configuration import Config
from experiments.run.identity import from_identity, identity
from experiments.run.model_configuration import model, parse_options
from experiments.run.training import make_network


def count(config):
    network = nnx.eval_shape(lambda: make_network(config, 10, 0))
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(network, nnx.Param)))


@pytest.mark.slow
def test_an_operator_is_measured_beside_the_plain_network(tmp_path, capsys):
    out = tmp_path / "table.json"
    attention.main(attention.Arguments(operators=("eca",), batch_size=4, steps=1, repeats=1, out=out))
    results = json.loads(out.read_text())
    (row,) = results["rows"]
    assert (row["attention"], row["acts"]) == ("eca", "residual")
    assert results["plain"]["parameters"] == 24_610
    # Two products and a sum a multiplication: 676 * 9 * 40 in the first layer, 576 * 360 * 40 in the second and so on.
    assert results["plain"]["flops"] > 2 * (676 * 9 * 40 + (576 + 100 + 64 + 36 + 16) * 360 * 40 + 16 * 40 * 40)
    # A filter of 3 on 4 group elements, before each of the six convolutions of feature maps.
    assert row["extra_parameters"] == 6 * 3 * 4
    assert row["extra_flops"] > 0
    assert row["step_ms"] > 0
    assert row["memory_mb"] > 0
    assert row["error_p4"] < 1e-4 > row["error_p4m"]
    assert "| Efficient channel attention | `eca` | residual | +72 |" in capsys.readouterr().out


def test_table_has_every_operator():
    whole = {name for name, operator in OPERATORS.items() if not operator.settings}
    assert {row.attention for row in attention.ROWS} == whole


def test_measured_rows_are_those_of_the_table():
    rows = json.loads((RESULTS / "attention-cpu.json").read_text())["rows"]
    expected = [(row.attention, row.options) for row in attention.ROWS]
    assert [(row["attention"], tuple(row["options"])) for row in rows] == expected[: len(rows)]


def test_presets_of_the_operators_have_equal_parameters():
    counts = {preset.config.model.attention: count(preset.config.model) for preset in TABLES["operators"]}
    assert counts.keys() <= {*OPERATORS, "none"}
    assert max(counts.values()) / min(counts.values()) < 1.03


def test_operators_are_ranked_by_their_error():
    lines = document("operators", reports("operators")).splitlines()
    errors = [float(line.split(" | ")[3].split(" ")[0]) for line in lines if line.startswith("| operators-")]
    assert len(errors) == len(TABLES["operators"])
    assert errors == sorted(errors)


def test_options_of_an_attention_are_parsed_and_come_back():
    options = ("groups=5", "grouping=joint", "over_group=False")
    assert parse_options("options", options) == {"groups": 5, "grouping": "joint", "over_group": False}
    config = Config(model=model("rot_mnist", "p4", "sge", attention_options=options))
    saved = json.loads(json.dumps(identity(config)))
    assert from_identity(saved) == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(attention="coordinates"), "model.attention must be one of none, .*; perhaps coordinate"),
        (
            dict(attention="sge", attention_options=("group=5",)),
            "sge has no argument 'group'; it takes groups, grouping",
        ),
        (dict(attention="sge", attention_options=("groups",)), "must be NAME=VALUE, .* got 'groups'"),
        (dict(attention="none", attention_options=("groups=5",)), "attention_options need an attention"),
        (
            dict(attention="se", attention_options=("over_group=false",)),
            "over_group must be True or False, got 'false'",
        ),
        (dict(attention="se", attention_options=("reduction=two",)), "reduction must be an integer .*, got 'two'"),
        (dict(attention="se", attention_options=("reduction=2", "reduction=5")), "names reduction twice"),
        (dict(features=(1, 2)), "features must be one number or 6, a layer each, got"),
        (dict(features=(0,)), "features must be an integer of at least 1, got 0"),
    ],
)
def test_settings_without_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        count(model("rot_mnist", "p4", **settings))
