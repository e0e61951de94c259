"""What pooling costs before it runs: compilations are timed, and ended where they take too long."""

import json

from experiments.bench import pooling


def test_poolings_are_compiled_and_those_that_take_too_long_are_ended(tmp_path, monkeypatch, capsys):
    asked = []

    class Process:
        """Compiles at once in this process, but for one case that never ends."""

        def __init__(self, *_):
            self.case = None

        def apply(self, *_):
            asked.append("new")

        def apply_async(self, _, case):
            self.case = case
            return self

        def get(self, limit):
            asked.append(self.case)
            if self.case == ("max_pool", 3, 2, True):
                raise pooling.multiprocessing.TimeoutError
            return pooling.compile_cost(*self.case)

        def terminate(self):
            asked.append("end")

        def join(self):
            pass

    monkeypatch.setattr(pooling, "SHAPE", (2, 6, 6, 4, 1))
    monkeypatch.setattr(pooling.multiprocessing, "get_context", lambda _: type("Context", (), {"Pool": Process}))
    pooling.main(pooling.Arguments(windows=(3,), out=tmp_path / "pooling.json"))
    rows = json.loads((tmp_path / "pooling.json").read_text())["rows"]
    assert [(row["stride"], row["by"]) for row in rows[:3]] == [(1, "max_pool"), (1, "reduce_window"), (2, "max_pool")]
    assert len(rows) == 6
    for row in rows:
        ended = (row["stride"], row["by"]) == (2, "max_pool")
        assert row["compile_s"] > 0
        assert (row["gradient_compile_s"] is None) == (row["gradient_temporary_inputs"] is None) == ended
    # Of windows that overlap the gradient adds up what their pixels are given.
    assert rows[0]["gradient_temporary_inputs"] > 0
    assert [word for word in asked if isinstance(word, str)] == ["new", "end", "new", "end"]
    assert "| 3 | 2 | max_pool |" in capsys.readouterr().out
