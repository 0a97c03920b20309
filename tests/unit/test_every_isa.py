"""The same models with every set of kernels that this machine runs, not only with its best."""

import subprocess

import pytest

from support import builds

NOT_HERE = "must be one of"  # what the library says of a set that this build or this CPU lacks
NO_INTEGERS = "no kernels in reduced precision"  # what test_reduced says of a CPU without AVX512-VNNI


def run(build, program, isa):
    """The output of a unit program that must pass with these kernels, or a skip."""
    ran = subprocess.run([build.directory / "unit" / program], cwd=builds.TOP, env=builds.environment(DIEN_ISA=isa), check=False,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    if NOT_HERE in ran.stdout:
        pytest.skip(f"no {isa} here")
    assert ran.returncode == 0, ran.stdout[-3000:]
    return ran.stdout


@pytest.mark.only_on("release")
@pytest.mark.parametrize("isa", ["zen5", "zen4", "avx512", "avx2", "neon", "openblas", "ref"])
def test_models_keep_the_promises(build, isa):
    """Scores near PyTorch's float64, and the same bits in any company: all of test_model.c."""
    assert f"models, {isa} kernels" in run(build, "test_model", isa)


@pytest.mark.only_on("release")
@pytest.mark.parametrize(("isa", "together"), [("zen5", 2), ("zen4", 1), ("avx512", 2)])
def test_reduced_precision(build, isa, together):
    """Its products take two blocks together beside some sets, and one beside others: all of test_reduced.c."""
    output = run(build, "test_reduced", isa)
    if NO_INTEGERS in output:
        pytest.skip("no kernels in reduced precision here")
    assert f"beside {isa}: avx512vnni, {together} blocks together" in output
