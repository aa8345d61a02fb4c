"""What a demonstration gives: scores, a map, an area, and the files of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from timl.data import Scene
from timl.demo.mapping import Area
from timl.evaluation.few_shot import FewShotResult
from timl.evaluation.few_shot.result import ALL
from timl.evaluation.report.document import Document, Picture, Section, Table, Text
from timl.evaluation.report.numbers import number_text
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
    report: Path
    """HTML file of all of it, which needs no other file."""
    text: Path
    """Markdown file of the same."""

    def document(self) -> Document:
        """Return the scores by number of labels, the map's scores and the area as a document."""
        area, scores = self.area, self._few_shot()
        few = scores.header[1]
        best = max(scores.rows, key=lambda row: float(row[1]))
        return Document(
            title=f"A map of {self.target} from {sum(self.labels)} points",
            headline=best[1],
            summary=(
                f"Mean AUC ROC of {best[0]} with {few} labels per class, the best of "
                f"{len(scores.rows)} methods, in countries that no training saw. The world is "
                f"simulated: nothing here says anything about real crops."
            ),
            sections=[
                Section("picture", "What it shows", [self._picture()]),
                Section("scores", "Scores by number of labels", [scores]),
                Section("map", "The map", [self._scene()]),
                Section(
                    "area",
                    "The area",
                    [
                        Text(
                            f"Area of {self.target}: {area.estimate:.0f} ha, 95 % interval "
                            f"{area.low:.0f} to {area.high:.0f}, from the map and {area.sample} "
                            f"reference pixels. Counting the map's pixels gives "
                            f"{area.counted:.0f} ha, and the truth is {area.true:.0f} ha."
                        )
                    ],
                ),
                Section(
                    "files",
                    "The files",
                    [
                        Text("The map to zoom, in a browser:", link=self.map.page.name),
                        Text("Its data, for QGIS:", link=self.map.map.name),
                    ],
                ),
            ],
        )

    def _picture(self) -> Picture:
        return Picture(
            self.figure.stem,
            self.figure.read_bytes(),
            f"Imagery, truth, map of {self.target} and errors; scores by number of labels; area",
            "",
            wide=True,
        )

    def _few_shot(self) -> Table:
        table = self.result.table().pivot(index="row", columns="labels", values="mean")
        budgets = sorted(table.columns, key=lambda b: (b == ALL, len(b), b))
        tasks = {cell.task for cell in self.result.cells}
        regions = {cell.region for cell in self.result.cells}
        ranks = table.rank(ascending=False, method="min").astype(int)
        return Table(
            f"Mean AUC ROC on {len(tasks)} tasks of {len(regions)} countries that no training "
            f"saw, by labels per class",
            ["method", *budgets],
            [
                [title, *(number_text(table.loc[name, budget]) for budget in budgets)]
                for name, title in self.result.titles.items()
            ],
            ranks=[
                [
                    0,
                    *(
                        ranks.loc[name, budget] if ranks.loc[name, budget] < 3 else 0
                        for budget in budgets
                    ),
                ]
                for name in self.result.titles
            ],
        )

    def _scene(self) -> Table:
        positives, negatives = self.labels
        return Table(
            f"Map of {self.target} from {positives + negatives} points ({positives} of them "
            f"{self.target}) of {self.scene.country}, scored on all pixels",
            ["method", "AUC ROC", "F1"],
            [
                [
                    self.result.titles[name],
                    number_text(scores["auc_roc"]),
                    number_text(scores["f1"]),
                ]
                for name, scores in self.map_scores.items()
            ],
        )
