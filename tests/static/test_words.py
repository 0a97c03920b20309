"""The words of the comments in C: STYLE's habits that a machine can count. measure.py prints the same figures.

The counts are ceilings that may only sink.
"""

import pytest

import measure
from support import builds

TOP = builds.TOP
SHIPPED = measure.read(TOP)
TESTS = {path.relative_to(TOP).as_posix(): path.read_text() for path in sorted((TOP / "tests").rglob("*.[ch]"))}
WHAT_PER_THOUSAND = 5.0  # to be 3
OPENS_WITH_THE_SAME = 4  # to be 0


@pytest.mark.parametrize("texts", [SHIPPED, TESTS], ids=["shipped", "tests"])
def test_nouns_in_place_of_what(texts):
    share = measure.what_per_thousand(texts)
    print(f'"what" {share:.1f} times in 1,000 words of comments')
    most = sorted(texts, key=lambda path: -measure.words({path: texts[path]})[1])[:5]
    assert share <= WHAT_PER_THOUSAND, f"{share:.1f} in 1,000 words; most in {most}"


def test_no_comment_opens_with_the_same():
    found = [f"{path}: {comment[:60]}" for path, text in {**SHIPPED, **TESTS}.items()
             for comment in measure.comments_of(text) if comment.startswith("The same")]
    print(f'{len(found)} comments open with "The same"')
    assert len(found) <= OPENS_WITH_THE_SAME, found
