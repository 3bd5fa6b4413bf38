"""What `alexnet paper` does; returns its exit status."""

from collections.abc import Sequence

from alexnet.home import home
from alexnet.store.url import Place
from pipeline.cluster import cluster
from trainer.arguments import PAPER, Paper
from trainer.on_ray.probe import usable_resources
from trainer.on_ray.workers import Workers
from trainer.paper import evidence, page
from trainer.paper.ablations import Ablations
from trainer.paper.cost import SECONDS, Cost
from trainer.paper.experiment import Experiment
from trainer.paper.figure1 import Figure1
from trainer.paper.figure3 import Figure3
from trainer.paper.figure4 import Figure4
from trainer.paper.network_trial import BASE, SIZES, Changes
from trainer.paper.photographs import packed
from trainer.paper.recipes import BUDGETS, RECIPE, Recipes
from trainer.paper.rows import Rows
from trainer.paper.speed_trial import measure_training, trained_on
from trainer.paper.table2 import Table2
from trainer.paper.tasks import finish
from trainer.resolution import resolve
from trainer.run import RunError


def paper(options: Paper) -> int:
    if options.name == "report":
        print(page.write(options.out))
        return 0
    names = PAPER if options.name == "all" else (options.name,)
    _check(names, options)
    home()  # Ray looks for it, and says less where there is none
    rows = Rows(options.out / "rows")
    with cluster():
        workers = Workers.of(usable_resources(options.device), options.workers, options.device)
        for experiment in [_experiment(name, options, rows) for name in names]:
            finish(experiment, rows, options.work.absolute(), workers)
            for path in evidence.write(
                experiment, rows.found, options.size, options.seeds, options.out
            ):
                print(path, flush=True)
    return 0


def _check(names: Sequence[str], options: Paper) -> None:
    """Raises UserError where the data of an experiment is not given."""
    if Figure1.name in names and options.cifar is None:
        raise RunError(
            "figure1 trains on CIFAR-10; give --cifar FOLDER with its data_batch_*.bin, of the "
            "binary version"
        )
    if {*names} - {Figure1.name} and options.data is None:
        raise RunError(
            f"{names[-1]} trains AlexNet itself; give --data with a packed dataset, or with what "
            "`alexnet pack` takes"
        )


def _experiment(name: str, options: Paper, rows: Rows) -> Experiment:
    if name == Figure1.name:
        assert options.cifar is not None
        return Figure1.of(options.cifar, options.size, options.seeds)
    assert options.data is not None
    if name == Recipes.name:
        return _recipes(options, options.data)
    changes: Changes = {**SIZES[options.size], **dict(options.set)}
    if name == Cost.name and options.size == "full":
        changes = dict(options.set)  # the paper's own size
    size = resolve(BASE, {}, list(changes.items())).size
    dataset = packed(options.data, options.work, size)
    if name == Cost.name:
        others = [settings["machine"] for settings in rows.settings(measure_training.__name__)]
        machine = trained_on(options.device)
        return Cost(dataset, changes, SECONDS[options.size], machine, others)
    if name == Figure3.name:
        return Figure3(dataset, changes, options.seeds, options.work / "models")
    if name == Figure4.name:
        return Figure4(dataset, changes, options.work / "models")
    if name == Table2.name:
        return Table2.of(dataset, changes, options.seeds, options.work)
    return Ablations(dataset, changes, options.seeds)


def _recipes(options: Paper, data: Place) -> Recipes:
    budget = BUDGETS[options.size]
    budget = budget._replace(
        compared={**budget.compared, **dict(options.set)},
        measured={**budget.measured, **dict(options.set)},
    )
    compared, measured = (
        packed(data, options.work, resolve(RECIPE, {}, list(changes.items())).size)
        for changes in (budget.compared, budget.measured)
    )
    return Recipes(compared, measured, budget, options.seeds)
