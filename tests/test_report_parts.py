"""Parts of the page of a run: what is not drawn yet, what is left out of slow networks, words and labels."""

import re
import types

import numpy as np
import pytest
from test_report_page import made_up, page_of

from attgconv_jax import cyclic
from experiments.data import rotated_digits
from experiments.report import figures, measures, pages
from experiments.report.findings import affordable, first_findings


@pytest.mark.parametrize(("low", "high"), [(5.2, 24), (52, 58), (9, 9), (1e-5, 2), (0.03, 0.9)])
def test_a_logarithmic_axis_has_labels_among_its_numbers(low, high):
    records = [dict(epoch=i, train_loss=[1.0], validation_error_percent=[y]) for i, y in ((1, high), (2, low))]
    axis = figures.curves({"a": records}).axes[1]
    ticks, (bottom, top) = axis.get_yticks(), axis.get_ylim()
    assert bottom <= min(ticks) <= low * 1.0001 or high == low
    assert sum(low / 1.21 <= tick <= high * 1.21 for tick in ticks) >= 2 and len(ticks) <= 12
    assert bottom <= low <= high < top
    assert all(re.fullmatch(r"[\d.]{1,7}|1e-\d+", label.get_text()) for label in axis.get_yticklabels())


def test_a_page_of_a_report_alone_says_what_is_missing(tmp_path):
    report = made_up().report | {"classes": {"confusion": [np.eye(10, dtype=int).tolist()] * 2}}
    page = page_of(first_findings("run", rotated_digits(0), report=report, metrics=made_up().metrics), tmp_path)
    assert page.text.count("This is not drawn yet. Where the process was stopped, python -m experiments.evaluate") == 3
    assert {path.stem for path in tmp_path.glob("*.png")} == {"curves", "confusion"}


def test_slow_networks_turn_fewer_images_and_then_by_fewer_angles():
    assert affordable(500, 15, 0.001, 60) == (500, 15)
    assert affordable(500, 15, 0.05, 60) == (50, 15)
    assert affordable(500, 15, 0.2, 60) == (37, 45)
    assert affordable(500, 15, 0.5, 60) == (30, 90)
    assert affordable(500, 15, 5, 60) == (20, 90) and affordable(7, 90, 5, 60) == (7, 90)
    assert affordable(500, 120, 5, 60) == (20, 120)


def test_the_data_of_training_are_named_once():
    report = made_up().report
    report |= {"config": report["config"] | {"data.name": "folder"}, "path": "/somewhere/pictures"}
    first = "Network rot_mnist on p4 with input attention, trained "
    assert pages._network(report, "digits") == f"{first}on the pictures in pictures. Tested on: digits"
    report |= {"best_on_test": report["last_epoch"]}
    same = f"{first}and tested on the pictures in pictures"
    assert pages._network(report, "the pictures in pictures") == same


def test_the_equivariance_error_of_slow_networks_is_measured_on_fewer_images(monkeypatch):
    network, data, seconds = types.SimpleNamespace(group=cyclic(4)), rotated_digits(0), [0.0]
    monkeypatch.setattr(measures.time, "perf_counter", lambda: seconds[0])
    expected = {(9.0, 1.0): 250, (90.0, 9.0): 250, (90.0, 48.0): 32, (9000.0, 9000.0): 8}
    for takes, count in expected.items():
        taken = iter(takes)

        def predict(network, images, taken=taken):
            seconds[0] += next(taken)

        monkeypatch.setattr(measures, "predict", predict)
        assert measures.equivariance_images(network, data) == count
    assert [measures.batch_for(data, count) for count in (250, 32)] == [250, 32]


def test_what_turning_does_is_said_in_words():
    records = [dict(logits_change=0.1 * i, changed_percent=5.0 * i) for i in (0, 2, 1, 3, 0)]
    assert measures.turning_line(records, 35) == (
        "35 test images turned by 4 angles, every 90 degrees: at the worst angle 15.0 % are classified otherwise than "
        "upright, and the logits differ from those of upright images by 30.0 % of their size"
    )
