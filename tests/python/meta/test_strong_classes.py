"""The strong protocol with several classes: its fit, its two classes, its files, its errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.ensemble import ExtraTreesClassifier
from timl import reference
from timl.meta import fit_strong, fit_strong_classes, unlearned_kernel
from timl.meta.strong.forest import fit_forest
from timl.nn import DeepKernel, StrongClassifier, load_pretrained
from timl.reference.strong import tree_votes

PLAIN = {"mean": np.zeros(18), "std": np.ones(18), "ndvi": "true"}


def seasons(samples: int, classes: int, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Series of noise with a season in which B8 is higher, another one for each class."""
    x = np.random.default_rng(seed).normal(size=(samples, 12, 18)).astype(np.float32) * 0.3
    y = np.arange(samples) % classes
    for number in range(classes):
        x[y == number, 2 * number : 2 * number + 3, 8] += 1.5
    return x, y


def kernel(names: tuple[str, ...] = ("maize", "rice")) -> DeepKernel:
    """Deep kernel of two networks with random weights, one of which moves its points."""
    made = DeepKernel(12, 2, 6, 5, names, references=4)
    g = torch.Generator().manual_seed(0)
    for network in made.members:
        for name, parameter in network.named_parameters():
            if name != "log_head":
                parameter.normal_(std=0.1, generator=g)
    made.members[0].point_weight.zero_()
    made.reference.normal_(generator=g)
    made.normalization = PLAIN
    return made


def test_ten_labels_of_each_of_four_classes_are_enough_even_with_nothing_learned() -> None:
    x, y = seasons(240, 4)
    made = fit_strong_classes(
        unlearned_kernel(x[:40], PLAIN), x[:40], y[:40], list("abcd"), normalization=PLAIN
    )
    logits = made(torch.from_numpy(x[40:]))
    assert logits.shape == (200, 4)
    assert (logits.argmax(dim=1).numpy() == y[40:]).mean() > 0.9


def test_the_engine_gives_the_twins_logits_and_distances() -> None:
    x, y = seasons(100, 5)
    made = fit_strong_classes(
        kernel(), x[:35], y[:35], ["maize", "rice", "a", "b", "c"], normalization=PLAIN
    )
    series = torch.from_numpy(x[35:])
    expected = reference.strong_evaluate(series, *made.arguments(distances=True))
    for ours, exact in zip(made.logits_and_distances(series), expected, strict=True):
        torch.testing.assert_close(ours.double(), exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("counts", [(12, 12), (5, 21)])
def test_two_classes_of_which_nothing_is_assumed_are_the_binary_classifier(
    counts: tuple[int, int],
) -> None:
    x, y = seasons(80, 2)
    rows = np.concatenate([np.flatnonzero(y == c)[:n] for c, n in enumerate(counts)])
    rest = torch.from_numpy(np.delete(x, rows, axis=0))
    learned = kernel()
    two = fit_strong_classes(learned, x[rows], y[rows], ["?", "!"], normalization=PLAIN)
    one = fit_strong(learned, x[rows], y[rows], normalization=PLAIN)
    two.trees.value.fill_(0.5)  # the forests are drawn alike, but for the order of the classes
    one.trees.value.fill_(0.5)
    both = two(rest)
    expected = one(rest) - one.shift  # which is of the labels' counts
    torch.testing.assert_close(both[:, 1] - both[:, 0], expected, rtol=1e-4, atol=1e-4)


def test_a_class_of_a_known_name_has_the_prior_mean_of_its_label() -> None:
    x, y = seasons(60, 3)
    rest, learned = torch.from_numpy(x[30:]), kernel()
    told, other, untold, kind = (
        fit_strong_classes(
            learned, x[:30], y[:30], names, normalization=PLAIN, classification_labels=kinds
        )(rest)
        for names, kinds in (
            (["maize", "a", "b"], None),
            (["rice", "a", "b"], None),
            (["c", "a", "b"], None),
            (["c", "a", "b"], ["cereals", None, None]),
        )
    )
    assert not torch.equal(told, untold) and not torch.equal(told, other)
    assert not torch.equal(kind, untold)


def test_the_forest_is_scikit_learns() -> None:
    x = np.random.default_rng(0).normal(size=(60, 9)).astype(np.float32)
    y = (x[:, 0] > 0) + (x[:, 1] > 0).astype(int)
    expected = ExtraTreesClassifier(100, class_weight="balanced", random_state=7).fit(x, y)
    members = [np.flatnonzero(y == number) for number in range(3)]
    trees = fit_forest(x, members, 7, several=True)
    shares = tree_votes(torch.from_numpy(x), *trees.arrays)
    np.testing.assert_allclose(shares, expected.predict_proba(x), atol=1e-6)


def test_a_rare_class_is_found_beside_common_ones() -> None:
    x, y = seasons(900, 3)
    rare = np.flatnonzero(y == 0)[:5]
    rows = np.concatenate([rare, np.flatnonzero(y[:700])])
    made = fit_strong_classes(
        unlearned_kernel(x[rows], PLAIN), x[rows], y[rows], ["a", "b", "c"], normalization=PLAIN
    )
    found = made(torch.from_numpy(x[700:])).argmax(dim=1).numpy()
    recall = [(found[y[700:] == number] == number).mean() for number in range(3)]
    assert min(recall) > 0.8


def test_saved_and_loaded_it_gives_the_same(tmp_path: Path) -> None:
    x, y = seasons(60, 3)
    made = fit_strong_classes(kernel(), x[:30], y[:30], ["a", "b", "c"], normalization=PLAIN)
    made.save_pretrained(tmp_path)
    read = load_pretrained(tmp_path)
    assert isinstance(read, StrongClassifier) and read.classes == ("a", "b", "c")
    rest = torch.from_numpy(x[30:])
    assert torch.equal(read(rest), made(rest))


@pytest.mark.parametrize(
    ("y", "classes", "kinds", "message"),
    [
        ([0, 1, 1, 0], ["a", "b", "c"], None, r"classes \{'a': 2, 'b': 2, 'c': 0\}"),
        ([0, 1, 2, 3], ["a", "b", "c"], None, "y is 3 at place 3, of shape .*: give 0 to 2"),
        ([0, 1, 1, 0], ["a", "a"], None, "all different"),
        ([0, 0, 0, 0], ["a"], None, "give two names or more"),
        ([0, 1, 1, 0], ["a", "b"], ["cereals"], "one FAO class or None for each"),
    ],
)
def test_labels_and_names_that_do_not_fit_are_named(
    y: list[int], classes: list[str], kinds: list[str | None] | None, message: str
) -> None:
    x = seasons(4, 2)[0]
    with pytest.raises(ValueError, match=message):
        fit_strong_classes(
            kernel(), x, y, classes, normalization=PLAIN, classification_labels=kinds
        )
