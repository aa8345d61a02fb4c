"""What a demonstration gives: scores, a map, an area, and the files of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from timl.data import Scene
from timl.demo.mapping import Area
from timl.evaluation.few_shot import FewShotResult
from timl.evaluation.few_shot.result import ALL
from timl.maps import MapFiles


@dataclass(frozen=True)
class Demonstration:
    """Results of a demonstration."""

    result: FewShotResult
    """Scores by number of labels, on tasks of countries that no training saw."""
    area: Area
    """Area of the crop in the scene: estimated, mapped and true."""
    map_scores: dict[str, dict[str, float]]
    """AUC ROC, F1 and accuracy of maps from the scene's points, by method, over all pixels."""
    target: str
    """Label of the crop that is mapped."""
    labels: tuple[int, int]
    """Points of the scene with that crop, and with anything else."""
    world: Path
    """Folder of the simulated world, in the layout of CropHarvest's record."""
    scene: Scene
    """The simulated scene, in a country that no training saw."""
    model: Path
    """Folder of the meta-trained model with its deep kernel, trained on the other countries."""
    map: MapFiles
    """Map of the crop, and the files beside it."""
    figure: Path
    """PNG file of imagery, truth, map, errors, scores and area."""
    text: Path
    """Markdown file of the same figures as text."""

    def to_markdown(self) -> str:
        """Return the scores by number of labels, the map's scores and the area as text."""
        return "\n\n".join([self._few_shot(), self._scene(), self._area()]) + "\n"

    def _few_shot(self) -> str:
        table = self.result.table().pivot(index="row", columns="labels", values="mean")
        budgets = sorted(table.columns, key=lambda b: (b == ALL, len(b), b))
        tasks = {cell.task for cell in self.result.cells}
        regions = {cell.region for cell in self.result.cells}
        lines = [
            f"Mean AUC ROC on {len(tasks)} tasks of {len(regions)} countries that no training saw",
            "",
            f"| labels per class | {' | '.join(budgets)} |",
            "|---" * (len(budgets) + 1) + "|",
        ]
        for name, title in self.result.titles.items():
            means = [f"{table.loc[name, budget]:.3f}" for budget in budgets]
            lines.append(f"| {title} | {' | '.join(means)} |")
        best = [f"{self.result.titles[table[b].idxmax()]} ({b})" for b in budgets]
        return "\n".join([*lines, "", f"Best, by labels per class: {', '.join(best)}."])

    def _scene(self) -> str:
        positives, negatives = self.labels
        lines = [
            f"Map of {self.target} from {positives + negatives} points ({positives} of them "
            f"{self.target}) of {self.scene.country}, scored on all pixels",
            "",
            "| method | AUC ROC | F1 |",
            "|---|---|---|",
        ]
        for name, scores in self.map_scores.items():
            title = self.result.titles[name]
            lines.append(f"| {title} | {scores['auc_roc']:.3f} | {scores['f1']:.3f} |")
        return "\n".join(lines)

    def _area(self) -> str:
        area = self.area
        return (
            f"Area of {self.target}: {area.estimate:.0f} ha, 95 % interval {area.low:.0f} to "
            f"{area.high:.0f}, from the map and {area.sample} reference pixels; counting the map's "
            f"pixels gives {area.counted:.0f} ha, and the truth is {area.true:.0f} ha"
        )
