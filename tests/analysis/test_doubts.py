import pytest

from harness.analysis.doubts import doubts, uncertain
from harness.analysis.tables import load_results
from harness.cli import run
from tests.sealed import reseal


def runs_of(make, copied=0, **options):
    made = make(keys={"factors": {}, "seeds": 3}, **options)
    for path in made.store.path.glob("*/result.json") if copied else ():
        reseal(path.parent, copies={"test": copied, "of": 100})
    return load_results(made.store.path)


def test_nothing_is_doubted_without_a_reason(make, capsys):
    runs = runs_of(make)
    assert doubts(runs, "balanced_accuracy") == {}
    run._doubts(runs, "balanced_accuracy")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("copied", "certain"), [(1, True), (40, False)])
def test_copies_in_test(copied, certain, make):
    runs = runs_of(make, copied)
    found = doubts(runs, "balanced_accuracy", "row")
    ((panel, (doubt,)),) = found.items()
    assert (doubt.of, doubt.certain) == ("new rows", certain)
    assert doubt.said.startswith(f"{copied} of 100 test rows")
    assert bool(uncertain(found, panel)) is not certain


def test_several_reasons_stand_together_and_run_says_them(make, capsys):
    runs = runs_of(make, 40, groups=25)
    ((panel, reasons),) = doubts(runs, "balanced_accuracy").items()
    assert [doubt.of for doubt in reasons] == ["new samples", "other groups"]
    run._doubts(runs, "balanced_accuracy")
    said = capsys.readouterr().out
    assert (
        f"{panel[0]} · {panel[2]}: Not certain of new samples, however many the seeds: 40 of"
        in said
    )
    assert "100 % of the metric rests on one or two test groups" in said


def test_a_class_of_two_images_is_one_that_two_groups_are(make):
    runs = runs_of(make, per_class=(50, 30, 15, 2))
    ((doubt,),) = doubts(runs, "balanced_accuracy", "image").values()
    assert (doubt.of, doubt.mend, doubt.certain) == ("new images", "test on more images", False)
    ((doubt,),) = doubts(runs, "accuracy", "image").values()
    assert doubt.certain, "two images are little of the accuracy"
    assert doubt.sentence().startswith("A small part is not certain of new images: ")
