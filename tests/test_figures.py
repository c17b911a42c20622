"""Every figure of evaluate, compare and transfer, by its key in docs/json.md, has a test that works it out anew."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
JSON = (TESTS.parent / "docs" / "json.md").read_text()

ORACLES = {
    "evaluate": {
        "n": "test_metrics.py::test_evaluation_holds_the_parts",
        "known_duplicates": "test_comparing.py::test_copies_that_a_run_has_seen_are_counted_alike_by_evaluate",
        "top1": "test_metrics.py::test_top_1_is_torchmetrics_accuracy",
        "top1_low top1_high top5_low top5_high": "test_oracles.py::test_wilson_is_his_formula",
        "top5": "test_metrics.py::test_top_k_is_sklearns",
        "top5_k": "test_metrics.py::test_json_is_flat_stable_and_strict",
        "balanced_accuracy": "test_metrics.py::test_balanced_accuracy_is_sklearns",
        "balanced_accuracy_low balanced_accuracy_high": (
            "test_oracles.py::test_the_interval_of_balanced_accuracy_is_scipys_bootstrap"
        ),
        "loss": "test_metrics.py::test_cross_entropy_is_sklearns_and_torchs",
        "ece calibrated_ece": "test_metrics.py::test_calibration_error_is_torchmetrics",
        "ece_low ece_high calibrated_ece_low calibrated_ece_high ece_lowered ece_lowered_low ece_lowered_high": (
            "test_oracles.py::test_calibrations_limits_are_those_of_a_slow_loop"
        ),
        "temperature": "test_calibration.py::test_the_temperature_is_that_of_torchs_optimiser",
        "temperature_n": "test_calibration.py::test_the_temperature_is_fitted_on_the_validation_images",
        "confidence": "test_oracles.py::test_calibrations_limits_hold_the_truth",
        "classes": "test_metrics.py::test_class_scores_are_sklearns",
        "confusion": "test_metrics.py::test_confusion_is_sklearns",
        "confused": "test_many_classes.py::test_the_commonest_mistakes_are_those_of_the_matrix",
        "calibration calibrated": "test_oracles.py::test_bins_are_scikit_learns",
        "coverage": "test_oracles.py::test_coverage_is_that_of_a_plain_loop",
        "mistakes": "test_metrics.py::test_mistakes_are_the_most_confident_ones",
        "views_top1 views_low views_high views_loss": "test_prediction.py::test_both_numbers_are_told",
        "test_openings": "test_comparing.py::test_each_look_at_the_test_images_is_counted",
    },
    "A class": {
        "n precision recall f1": "test_metrics.py::test_class_scores_are_sklearns",
        "recall_low recall_high": "test_oracles.py::test_wilson_is_his_formula",
    },
    "A bin of calibration": {"confidence accuracy low high count": "test_oracles.py::test_bins_are_scikit_learns"},
    "A mistake": {"index truth guess probability": "test_metrics.py::test_mistakes_are_the_most_confident_ones"},
    "compare": {
        "n known_duplicates without_duplicates": (
            "test_comparing.py::test_copies_that_a_run_has_seen_are_counted_and_left_out"
        ),
        "looks": "test_comparing.py::test_a_look_that_was_cut_short_is_the_same_look",
    },
    "A compared run": {
        "top1 by_seed loss ece": "test_comparing.py::test_a_row_is_the_mean_of_what_each_run_says_alone",
        "parameters image_size training_seconds": (
            "test_comparing.py::test_a_row_is_the_mean_of_what_each_run_says_alone"
        ),
        "top1_low top1_high": (
            "test_comparing.py::test_without_a_spread_between_seeds_images_are_compared_by_students_test"
        ),
        "test_openings": "test_comparing.py::test_each_look_at_the_test_images_is_counted",
    },
    "A difference": {
        "n": "test_comparing.py::test_two_runs_are_compared_by_mcnemars_test",
        "difference low high p": (
            "test_comparing.py::test_where_seeds_and_images_vary_t_is_that_of_a_sum_of_mean_squares"
        ),
    },
    "transfer": {
        "val_top1 val_low val_high val_n": "test_transfer.py::test_the_summarys_shares_are_counted_again",
        "test_top1 test_low test_high test_n low high": "test_transfer.py::test_the_summarys_shares_are_counted_again",
        "seconds spent_seconds": "test_transfer.py::test_every_second_is_said",
        "paired": "test_oracles.py::test_a_rung_is_counted_and_compared_image_by_image",
        "curve": "test_oracles.py::test_the_learning_curves_intervals_are_those_of_laws_drawn_by_their_likelihood",
        "continued": "test_oracles.py::test_mcnemars_p_is_counted_in_whole_numbers",
        "filters": "test_used_filters.py::test_a_filter_that_speaks_for_a_class_is_excited_by_it_and_weighed_for_it",
    },
    "A rung": {
        "val_top1 low high n": "test_oracles.py::test_a_rung_is_counted_and_compared_image_by_image",
        "seconds": "test_transfer.py::test_every_second_is_said",
        "parameters": "test_transfer.py::test_the_summarys_shares_are_counted_again",
    },
    "A quantity": {
        "value low high": "test_oracles.py::test_a_studys_interval_over_seeds_is_scipys",
        "seed_part image_part noise seeds images": (
            "test_oracles.py::test_a_studys_interval_over_seeds_and_images_is_an_analysis_of_variance"
        ),
        "confidence": "test_judging.py::test_the_interval_over_seeds_covers_the_truth",
        "limits": "test_judging.py::test_verdicts_on_paper",
    },
}
WORDS = {
    "runs",
    "differences",
    "sentences",
    "members",
    "notes",
    "rungs",
    "left_out",
    "features",
    "recipes",
}  # or told elsewhere


def documented(section: str) -> set[str]:
    """The keys under a heading of docs/json.md whose type is a number, or that hold some."""
    text = re.search(rf"^##+ {section}\n(.*?)(?=^##|\Z)", JSON, re.M | re.S)
    assert text, f"docs/json.md has no heading {section!r}"
    rows = re.findall(r"^\| (`.*?) \| (.*?) \|", text[1], re.M)
    found = {
        key
        for keys, kind in rows
        if re.search("number|integer|list|object", kind)
        for key in re.findall(r"`(\w+)`", keys)
    }
    return found - WORDS


def names_in(file: str) -> set[str]:
    body = ast.parse((TESTS / file).read_text()).body
    return {node.name for node in body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("section", ORACLES)
def test_every_figure_has_an_oracle(section: str):
    named = [key for keys in ORACLES[section] for key in keys.split()]
    assert len(named) == len(set(named))
    without = documented(section) - set(named)
    assert not without, f"figures without a test that works them out otherwise: {sorted(without)}; name it in ORACLES"
    assert not set(named) - documented(section), "ORACLES names figures that docs/json.md does not"


@pytest.mark.parametrize("test", sorted({test for rows in ORACLES.values() for test in rows.values()}))
def test_every_oracle_is_there(test: str):
    file, name = test.split("::")
    assert name in names_in(file)
