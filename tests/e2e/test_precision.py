"""The reduced precision: chosen by an option, off by default, told in the log and the metrics, and within its bound."""

import re
import subprocess

import pytest

from support import builds, service

GOLDEN = builds.TOP / "tests" / "golden"
CASES = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())
BOUND = 1e-3

# One request at a time: ThreadSanitizer has nothing to see here.
pytestmark = pytest.mark.only_on("release", "asan")
CHECKED = re.compile(r", ([a-z0-9 ]+): \d+ samples, \d+ scores, largest difference (\S+) \(tolerance (\S+)\)")


def checked(build, model, *options, **variables):
    """--check's words: the precision, the largest difference, the tolerance."""
    status, output = service.check(build, model.path, *options, **variables)
    assert status == 0, output
    assert builds.sanitizer_report(output) is None
    precision, difference, tolerance = CHECKED.search(output).groups()
    return precision, float(difference), float(tolerance)


@pytest.mark.parametrize("case", CASES)
def test_golden_scores_stay_within_the_bound(build, converted, case):
    """Against the float64 scores of other people's code, on the best kernels here."""
    model = converted(case)
    _, exact, _ = checked(build, model)
    precision, difference, tolerance = checked(build, model, "--precision", "reduced")
    print(f"{case}: {precision} {difference:.2e}, float32 {exact:.2e}")
    assert difference <= tolerance == (1e-5 if precision == "float32" else BOUND)


def test_demo_over_http(build, start, demo):
    """The same bits alone and in company, scores near those of float32, and the precision where operators look."""
    precision, _, _ = checked(build, demo, "--precision", "reduced")
    plain, reduced = start(), start("--precision", "reduced")
    sample = max(demo.samples, key=lambda each: len(each["scores"]))
    body = {name: value for name, value in sample.items() if name != "scores"}
    with plain.client() as ours, reduced.client() as theirs:
        exact, near = ours.post(body).scores(), theirs.post(body).scores()
        assert theirs.post(body).scores() == near
    assert max(abs(exact[place] - near[place]) for place in exact) <= BOUND
    assert any('dien_model_info{' in key and 'precision="float32"' in key for key in plain.metrics())
    assert any('dien_model_info{' in key and f'precision="{precision}"' in key for key in reduced.metrics())


def test_models_without_use_for_it_run_in_float32(build, converted):
    """A plain GRU with no attention network: nothing to reduce, so the samples' tolerance stays what it was."""
    precision, difference, tolerance = checked(build, converted("deepctr-torch-gru"), "--precision", "reduced", DIEN_ISA="ref")
    assert precision == "float32" and difference <= tolerance == 1e-5


def test_other_words_are_refused(build, demo):
    ran = subprocess.run([str(build.server), "--model", str(demo.path), "--precision", "half"], cwd=builds.TOP,
                         env=builds.environment(), capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 2
    assert '--precision: "half" is neither float32 nor reduced' in ran.stderr
