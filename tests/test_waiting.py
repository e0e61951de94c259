"""The line that says that programs are compiled: what it expects, what it took, and what it keeps."""

import functools
import re

import jax
import jax.numpy as jnp
import pytest

from experiments.run import waiting
from experiments.run.waiting import compiling


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A folder in the place of the compilation cache's, and a clock that only moves when it is told."""
    monkeypatch.setattr(waiting, "_folder", lambda: tmp_path)
    seconds = [0.0]
    monkeypatch.setattr(waiting.time, "perf_counter", lambda: seconds[0])
    return tmp_path, seconds


def wait(seconds, described, takes, compiled=0.0):
    with compiling(described) as waited:
        seconds[0] += takes
        waited.compiling += compiled


def test_what_it_took_is_expected_the_next_time_and_after_the_first_without_what_the_cache_holds(cache, capsys):
    _, seconds = cache
    for takes, compiled in ((13.24, 10.0), (3.9, 0.1), (4.1, 0.1)):
        wait(seconds, {"network": "p4"}, takes, compiled)
    wait(seconds, {"network": "z2"}, 5.0)
    wait(seconds, None, 5.0)
    wait(seconds, None, 5.0)
    assert capsys.readouterr().err.splitlines() == [
        "compiling ..., compiled in 13.2 s",
        "compiling ... (about 3 s), compiled in 3.9 s",
        "compiling ... (about 4 s), compiled in 4.1 s",
        "compiling ..., compiled in 5.0 s",
        "compiling ..., compiled in 5.0 s",
        "compiling ..., compiled in 5.0 s",
    ]


@pytest.mark.parametrize("content", ["", "[1]", '{"a": "b"}'])
@pytest.mark.default("", "[1]", '{"a": "b"}')
def test_a_damaged_file_of_seconds_costs_the_forecast_alone(cache, capsys, content):
    folder, seconds = cache
    (folder / "compile-seconds.json").write_text(content)
    wait(seconds, "x", 2.0)
    wait(seconds, "x", 2.0)
    assert capsys.readouterr().err == "compiling ..., compiled in 2.0 s\ncompiling ... (about 2 s), compiled in 2.0 s\n"


def test_an_error_ends_the_line_and_nothing_is_kept(cache, capsys):
    folder, _ = cache
    with pytest.raises(ValueError, match=r"^no$"), compiling("x"):
        raise ValueError("no")
    assert capsys.readouterr().err == "compiling ...\n" and not list(folder.iterdir())


def test_programs_are_compiled_before_their_first_call(capsys, monkeypatch):
    """And the time is told from what tracing takes, where the platform's factor is known."""
    monkeypatch.setattr(waiting, "_folder", lambda: None)
    function, compiled = jax.jit(lambda x: jnp.cumsum(x) * 3), []

    def listen(event, seconds, **_):
        if "backend_compile" in event:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        with compiling() as waited:
            waited.compile([functools.partial(function.trace, jnp.arange(7.0))])
        ahead = len(compiled)
        assert ahead >= 1
        function(jnp.arange(7.0))
        assert len(compiled) == ahead
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    pattern = r"compiling \.\.\. \(about \d+ s\), compiled in \d+\.\d s\n"
    assert re.fullmatch(pattern, capsys.readouterr().err) and waited.compiling > 0
    monkeypatch.setattr(waiting, "COMPILING_PER_TRACING", {})
    with compiling() as waited:
        waited.compile([functools.partial(function.trace, jnp.arange(7.0))])
    assert re.fullmatch(r"compiling \.\.\., compiled in \d+\.\d s\n", capsys.readouterr().err)
