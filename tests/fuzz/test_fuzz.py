"""Every input of the fuzz corpora once, under AddressSanitizer and UBSan; each crash that fuzzing found is one of them.

`make fuzz` looks for new ones: libFuzzer's own binary serves both.
"""

import subprocess

import pytest

from support import builds

HERE = builds.TOP / "tests" / "fuzz"
TARGETS = sorted(path.stem for path in HERE.glob("fuzz_*.c"))


@pytest.mark.parametrize("target", TARGETS)
def test_corpus(request, target):
    program = builds.Build(request.config.getoption("--build-root"), "fuzz").directory / "fuzz" / target
    inputs = sorted((HERE / target.removeprefix("fuzz_")).iterdir())
    assert len(inputs) > 5
    ran = subprocess.run([program, "-timeout=10", "-rss_limit_mb=2048", *inputs], cwd=builds.TOP, env=builds.environment(),
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600, check=False)
    output = ran.stdout.decode(errors="replace")
    assert ran.returncode == 0, output[-6000:]
    assert output.count("Executed ") == len(inputs)
