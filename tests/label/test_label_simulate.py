"""The rehearsal of 62M images: nothing lost, nothing twice, within its time and memory."""

import subprocess
import sys

import pytest
from benchmark_scripts import SCRIPTS, script

simulate = script("rehearse_labelling", SCRIPTS)


def test_many_deaths_lose_nothing():
    """One worker in ten dies over each shard: the job is started again and again; `simulate` checks what is there."""
    rehearsed = simulate.simulate(shards=400, workers=8, death=0.1, seed=3)
    assert rehearsed.runs > 3
    assert rehearsed.deaths > 20
    assert 0 < rehearsed.twice < rehearsed.deaths
    assert rehearsed.images == 400_000
    assert "400,000 images are labelled, each once" in simulate.as_text(rehearsed)


def test_the_same_seed_rehearses_the_same():
    def counts(seed: int) -> tuple:
        rehearsed = simulate.simulate(shards=200, workers=4, death=0.05, seed=seed)
        return rehearsed.runs, rehearsed.deaths, rehearsed.twice, rehearsed.hours

    assert counts(1) == counts(1)
    assert counts(1) != counts(2)


def test_simulated_time_is_work_by_workers():
    """No deaths: 100 shards of 1,000 images at 100 a second on 10 workers are 100 s, up to a fifth more or less."""
    rehearsed = simulate.simulate(shards=100, workers=10, images_per_s=100, death=0)
    assert rehearsed.hours * 3600 == pytest.approx(100, rel=0.25)
    assert (rehearsed.runs, rehearsed.deaths, rehearsed.lost_images) == (1, 0, 0)


def test_it_would_notice_a_lost_shard(monkeypatch: pytest.MonkeyPatch):
    """The check can fail: here a planner forgets a unit."""
    real = simulate.remaining
    monkeypatch.setattr(simulate, "remaining", lambda store, recipe, shards: real(store, recipe, shards)[1:])
    with pytest.raises(AssertionError):
        simulate.simulate(shards=50, workers=2)


@pytest.mark.slow
def test_62_000_shards_in_30_seconds_and_500_mb():
    """The script; processor time, because machines are shared."""
    code = (
        "import re, runpy, time\n"
        f"runpy.run_path({str(SCRIPTS / 'rehearse_labelling.py')!r}, run_name='__main__')\n"
        "peak = re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read()).group(1)\n"  # ru_maxrss is inherited
        "print(time.process_time(), int(peak) / 1024)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "62,000,000 images are labelled, each once" in run.stdout
    seconds, megabytes = map(float, run.stdout.splitlines()[-1].split())
    assert seconds < 30
    assert megabytes < 500
