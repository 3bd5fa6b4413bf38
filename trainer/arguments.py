"""The commands that turn a dataset into a published model, and their options."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)
from typer import Argument, Option

from alexnet.console import Command, Commands, Options
from alexnet.store.url import Place, StoreURL
from pipeline.arguments import FileColumn, LabelColumn
from pipeline.manifest import Mean
from pipeline.sources import WORDS
from pipeline.split import Damage
from trainer.on_ray.dashboard import ADDRESS
from trainer.on_ray.dashboard import VARIABLE as ADDRESS_VARIABLE
from trainer.recipe import Frozen
from trainer.recipes import RECIPES
from trainer.resolution import VARIABLE, parse
from trainer.run import NAME, Resume, Run

Device = Literal["auto", "cpu", "gpu"]
Family = Literal["torchvision", "caffe", "caffenet"]
"""Whose AlexNet is imported."""
PaperExperiment = Literal["figure1", "figure3", "figure4", "table2", "ablations", "recipes", "cost"]
PAPER: tuple[PaperExperiment, ...] = get_args(PaperExperiment)
SUBMITTED = 5
"""Labels of an image in a submission to ImageNet's challenge, at most."""
TORCHVISION = "torchvision"
"""The word for torchvision's official weights, and the name that their model has."""


def is_torchvision(path: Place) -> bool:
    """Whether what stands in the place of a path is the word."""
    return str(path) == TORCHVISION and not Path(path).exists()


def _checked_name(name: str) -> str:
    if not re.match(NAME, name):
        raise ValueError("a name is made of letters, digits, '.', '_' and '-'")
    return name


def _range(text: Any) -> Any:
    """4 -> (4, 4); 1:4 -> (1, 4)."""
    if not isinstance(text, str):
        return text
    fewest, colon, most = text.partition(":")
    if not re.fullmatch(r"[1-9]\d*(:[1-9]\d*)?", text):
        raise ValueError("expected a number of at least 1, such as 4, or a range, such as 1:4")
    if colon and int(fewest) > int(most):
        raise ValueError("the first number of a range is the smaller one")
    return int(fewest), int(most or fewest)


def _setting(text: Any) -> Any:
    """FIELD=VALUE -> (field, value), the value as in YAML."""
    if not isinstance(text, str):
        return text
    field, equals, value = text.partition("=")
    if not equals or not field:
        raise ValueError("expected FIELD=VALUE")
    return field, parse(value, f"--set {field}")


def _views(views: int) -> int:
    if views not in (1, 10):
        raise ValueError("a network is shown 1 view or 10")
    return views


def _of_run(field: str) -> Any:
    return Run.model_fields[field].default


Name = Annotated[str, AfterValidator(_checked_name)]
Setting = Annotated[tuple[str, Any], BeforeValidator(_setting)]


class OfRuns(Options):
    runs: Place = Path("runs")
    """The folder of all runs, or its URL in object storage, as s3://BUCKET/runs."""


class OfModels(Options):
    models: Place = Path("models")
    """The folder of all published models, or a URL of object storage."""


class OfRecipe(Options):
    recipe: Annotated[str, Option(metavar="NAME")] = Field(
        "small", description=f"{', '.join(RECIPES)}, or a YAML file."
    )
    set: Annotated[tuple[Setting, ...], Option(metavar="FIELD=VALUE")] = Field(
        (),
        description="Change a field of the recipe, as network.width=0.25; can be repeated. The "
        f"environment does the same: {VARIABLE}NETWORK__WIDTH=0.25.",
    )


class Train(OfModels, OfRuns, OfRecipe):
    """Train a network and publish it."""

    data: Place = Field(
        description="A packed dataset, as a folder or as a URL of object storage, such as "
        "s3://bucket/datasets/mine. Or a folder of class folders, which is read as it is, and "
        f"slower. Or the word {' or '.join(WORDS)}: that dataset is packed first where it has not "
        "been.",
    )
    name: Name
    """The name of the run, and of the model that it publishes."""
    datasets: Path = Path("datasets")
    """The folder in which datasets given by a word are packed."""
    resume: bool = False
    """Resume the run of that name where it stopped."""
    resume_if_any: bool = False
    """Resume the run of that name if there is one; otherwise start it."""
    workers: Annotated[
        tuple[PositiveInt, PositiveInt] | None, BeforeValidator(_range), Option(metavar="N")
    ] = None
    """Processes that share each batch; 1:4 for as many as the cluster has room for at the time. If
    not given: one for each GPU, or one for each machine without GPUs."""
    parallelism: Literal["data", "towers"] = _of_run("parallelism")
    """What workers share: batches, or in pairs the two towers of the network as in 2012."""
    device: Device = "auto"
    """auto takes GPUs where there are any that torch can use."""
    deterministic: bool = _of_run("deterministic")
    """On GPUs alone: can be slower, but the same command ends with the same weights, bit for bit,
    on the same kind and number of GPUs."""
    epochs: PositiveInt | None = None
    """Passes over the training images, instead of the recipe's number."""
    stop_after: PositiveInt | None = None
    """End the run before its last epoch once so many epochs in a row have brought no lower
    validation error; if not given, as the recipe says: never."""
    publish: Literal["last", "best"] = "last"
    """The checkpoint that is published: the last, or the one with the lowest validation error, the
    earlier of equal ones."""
    batch: PositiveInt | None = None
    """Samples of a step over all workers, instead of the recipe's; the learning rate changes by the
    same factor."""
    seed: NonNegativeInt | None = None
    """The seed of all random choices, instead of the recipe's."""
    schedule: Literal["fixed", "plateau", "cosine"] | None = None
    """How the learning rate falls, instead of the recipe's way: fixed drops it at set epochs,
    plateau when the validation error stops falling as in 2012, cosine along half a cosine."""
    balance: Literal["none", "loss", "sampling"] | None = None
    """What is done about classes of uneven size, instead of the recipe's way: loss weighs images of
    small classes more, sampling draws each class equally often."""
    mean: Mean | None = None
    """What is subtracted from an image, instead of the recipe's: the mean image as in 2012, or the
    mean of each colour channel."""
    init_from: Annotated[Place | None, Option(metavar="MODEL")] = None
    """A published model to start from: its network, and its weights but for the classifier's. Or
    the word torchvision, as of `alexnet import`."""
    freeze: Annotated[Frozen, Option(metavar="LAYERS")] = ()
    """Layers that keep the weights they start with, as conv1,conv2, or conv for all convolutions.
    What comes before the first of the others costs no backward pass."""
    micro_batch: PositiveInt | None = None
    """The most samples a worker computes at once, to save memory. The batch and the weights stay
    the same."""
    save_every: Annotated[float, Option(metavar="SECONDS")] = Field(_of_run("save_every"), ge=0)
    """Seconds between the checkpoints within an epoch."""
    keep: PositiveInt = _of_run("keep")
    """Checkpoints kept for their accuracy, besides the last one."""
    retries: NonNegativeInt = _of_run("retries")
    """Restarts in a row after a worker has died, before the run fails."""
    damage: Damage = _of_run("damage")
    """What an image that cannot be decoded does: error ends the run, replace puts another image in
    its place."""
    index: bool = False
    """Also index the training images once the model is published, to find similar ones: what
    `alexnet index` does by default. The dataset must be packed. Where the index cannot be built,
    the model stays published, and the status says so."""
    hw_decoder_load: float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    """Share of JPEG decoding that a GPU's hardware decoder takes, 0 to 1. If not given, the fastest
    share, or decoding on the CPU, is found at the first start and remembered."""

    @model_validator(mode="after")
    def _once(self) -> Self:
        if self.resume and self.resume_if_any:
            raise ValueError("--resume and --resume-if-any exclude each other; give one of them")
        return self

    @property
    def resumption(self) -> Resume:
        return "yes" if self.resume else "if-any" if self.resume_if_any else "no"


class Evaluate(Options):
    """Report the errors of published models, one by one and together."""

    models: Annotated[tuple[Place, ...], Argument(metavar="MODEL")] = Field(min_length=1)
    """Published models, each as models/NAME or models/NAME/STEP, or a URL of it. With
    --probabilities, files of saved probabilities."""
    data: Place | None = None
    """A packed dataset, a folder or a URL, whose validation images are classified. Give this,
    --originals, or both."""
    originals: Path | None = None
    """A folder of class folders, or with val/ of them, or with --labels of any photographs, which
    are decoded as the server does. Or the archive of validation or test images of ILSVRC-2010 or
    ILSVRC-2012, with their ground truth and the development kit beside it. With --data, only those
    that the validation images were packed from."""
    labels: Path | None = None
    """A table with the names of photographs in --originals and their labels, as CSV or JSON Lines,
    or a folder of such tables, in the place of class folders. Labels are ids or names of the
    model's classes. If it tells splits, those of val count, else those of test."""
    file_column: FileColumn = None
    label_column: LabelColumn = None
    views: tuple[Annotated[int, AfterValidator(_views)], ...] = (1, 10)
    """1 for the centre alone, 10 for the ten views of the paper; can be repeated."""
    search_weights: bool = False
    """Also search, as in 2012, for better weights of several models' mean than equal ones, on the
    images that are scored."""
    calibrate: bool = False
    """Also calibrate each model: find the temperature by which its probabilities suit the share of
    validation images that it gets right, for each number of views, and keep that with it. Servers
    take it by themselves."""
    target_precision: float | None = Field(None, gt=0, le=1, allow_inf_nan=False)
    """With --calibrate: keep the lowest probability from which on this share of the best guesses is
    right, such as 0.95. To less probable ones a server adds that it is none of the classes."""
    report: Annotated[Path | None, Option(metavar="FOLDER")] = None
    """A folder for index.html, a page about one model that needs no other file: its accuracy, the
    mistakes it is surest of, labels that are probably wrong, near-duplicates across the splits."""
    folds: Annotated[int | None, Option(metavar="N")] = Field(None, ge=2)
    """With --report: also judge the labels of the training images, by so many networks, each
    trained by the model's recipe without its part of them. Takes as long as so many runs; what is
    finished is kept in FOLDER/folds, so that the same command goes on."""
    init_from: Annotated[Place | None, Option(metavar="MODEL")] = None
    """With --folds, of a model that was fine-tuned: the published model that it started from, and
    from which its networks start too; or the word torchvision."""
    save_probabilities: Annotated[Path | None, Option(metavar="FILE")] = None
    """A file for the probabilities of one model: an .npz of NumPy with the names of the images,
    their labels, and the classes."""
    probabilities: bool = False
    """Take the answers of one or several models from files of --save-probabilities, in the place of
    models; no image is looked at."""
    json_: Annotated[Path | None, Option(metavar="FILE")] = None
    """A file to write everything to."""
    workers: PositiveInt | None = None
    """Tasks at once. If not given: one for each GPU, or for each processor where there is none."""
    device: Device = "auto"
    """auto takes GPUs where there are any that torch can use."""

    @model_validator(mode="after")
    def _asks_or_reads(self) -> Self:
        asking = (
            "data", "originals", "labels", "file_column", "label_column", "calibrate",
            "target_precision", "report", "folds", "init_from",
            "save_probabilities",
        )  # fmt: skip
        if self.probabilities and (given := [name for name in asking if getattr(self, name)]):
            raise ValueError(
                f"--{given[0].replace('_', '-')} asks models, but with --probabilities files are "
                "given; leave one of them out"
            )
        if self.probabilities and any(isinstance(file, StoreURL) for file in self.models):
            raise ValueError("--probabilities takes files on disk; fetch them first")
        if self.init_from and not self.folds:
            raise ValueError("--init-from says how networks of --folds start; give --folds N too")
        if self.labels and not self.originals:
            raise ValueError(
                "--labels says what photographs are of; give their folder with --originals FOLDER"
            )
        for option, column in (
            ("--file-column", self.file_column),
            ("--label-column", self.label_column),
        ):
            if column and not self.labels:
                raise ValueError(f"{option} names a column of a table; give it with --labels TABLE")
        return self


class Predict(Options):
    """Write what a model says of many photographs to a table."""

    model: Annotated[Place, Argument()]
    """models/NAME or models/NAME/STEP, or a URL of it."""
    sources: Annotated[tuple[Path, ...], Argument(metavar="SOURCE")] = Field(
        min_length=1,
        description="Photographs, folders of them at any depth, tars (WebDataset shards too), "
        f"folders of tars, or the word {' or '.join(WORDS)}.",
    )
    out: Annotated[Path, Option(metavar="FILE")]
    """The table to write, which ends in .parquet, .csv or .jsonl, or with --devkit the submission,
    which ends in .txt. What is answered is kept in FILE.parts until it is whole: interrupted and
    run again, the command goes on."""
    devkit: Annotated[Path | None, Option(metavar="PATH")] = None
    """The development kit of ILSVRC-2010 or ILSVRC-2012, packed or unpacked, for a submission: a
    line for each test image, by their numbers, with the kit's ids of the best guesses."""
    views: Annotated[int, AfterValidator(_views)] = 10
    """10 for the ten views of the paper, 1 for the centre alone."""
    top: PositiveInt = 5
    """Labels for each photograph."""
    min_probability: float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    """The least probability of an answer: a photograph whose best guess has less is marked as none
    of the classes. If not given, what was published with the model for so many views, if anything
    was; 0 marks nothing."""
    workers: PositiveInt | None = None
    """Processes at once. If not given: one for each GPU, or for each processor where there is
    none."""
    device: Device = "auto"
    """auto takes GPUs where there are any that torch can use."""

    @model_validator(mode="after")
    def _submits(self) -> Self:
        if (self.out.suffix.lower() == ".txt") != (self.devkit is not None):
            raise ValueError(
                "a submission is a file --out that ends in .txt, with the ids of --devkit PATH; "
                "give both, or neither"
            )
        if self.devkit and self.top > SUBMITTED:
            raise ValueError(f"a submission has at most {SUBMITTED} labels; lower --top")
        return self


class Import(OfModels):
    """Publish torchvision's AlexNet, or Caffe's AlexNet or CaffeNet."""

    file: Annotated[Path, Argument()]
    """A state dict (.pth or .safetensors), or Caffe's blobs (.caffemodel or .npz). Or the word
    torchvision: its official weights are downloaded, checked, kept, and published once."""
    from_: Family | None = None
    """Which of the three it is. Needed for a file."""
    name: Name | None = None
    """The name of the model that is published. Needed for a file; the word's is torchvision."""
    classes: Path | None = None
    """A file with the names of the classes, one a line, such as synset_words.txt. The word has
    ImageNet's."""
    mean: Path | None = None
    """The mean image of Caffe's model (.binaryproto, .npy or .npz)."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if is_torchvision(self.file):
            if self.from_ not in (None, "torchvision") or self.mean is not None:
                raise ValueError(
                    "the word torchvision goes with neither --from nor --mean; leave them out"
                )
        elif self.from_ is None or self.name is None:
            families = f"'--from'. Choose from: {', '.join(get_args(Family))}"
            raise ValueError(f"Missing option {'--name' if self.from_ else families}")
        return self


class Export(Options):
    """Write a published model as one file, for ONNX or torch.export."""

    model: Annotated[Place, Argument()]
    """models/NAME or models/NAME/STEP, or a URL of it."""
    out: Annotated[Path, Argument()]
    """The file to write, which ends in .onnx or .pt2."""
    opset: Annotated[int | None, Option(metavar="N")] = Field(None, ge=18, le=25)
    """The version of ONNX's operators, 18 to 25, that another program asks for. If not given, the
    one that torch prefers."""


class Report(OfRuns):
    """Draw the curves of a run, as PNG and as SVG."""

    name: Annotated[str, Argument()]
    """The name of the run."""
    picture: Annotated[Path, Argument()]
    """The file to write, without its ending."""


class ShowRecipe(OfRecipe):
    """Print a recipe as YAML."""


class Publish(OfModels, OfRuns):
    """Publish a checkpoint of a run."""

    name: Annotated[str, Argument()]
    """The name of the run."""
    best: bool = False
    """Take the checkpoint with the best validation accuracy instead of the last."""


class Index(Options):
    """Index the training images of a model, to find similar ones.

    Flat is exact and takes 4 bytes for each hidden unit: 16 KB for an image at full width. A search
    reads all of it, which is right for up to some 100,000 images. SQfp16 takes half of that and
    finds 99.9 % of the same six neighbours, SQ8 a quarter and 98.8 %. IVF1024,SQ8 codes the
    difference from the centre of a list, which is finer: it reads a sixteenth of what SQ8 does and
    finds 99.3 %. Each of its lists needs 39 images or more. For the 1.28 million images of ImageNet
    take IVF4096,SQ8: 5.3 GB instead of 21.
    """

    model: Annotated[Place, Argument()]
    """models/NAME or models/NAME/STEP, or a URL of it."""
    data: Place
    """The packed dataset, a folder or a URL, that the model was trained on."""
    factory: Annotated[str, Option(metavar="KIND")] = "Flat"
    """The kind of index, as FAISS writes it."""
    damage: Damage = "error"
    """What an image that cannot be decoded does: error ends the command, replace leaves it out."""


class Paper(Options):
    """Repeat experiments of the paper.

    Each leaves its data, a figure and a paragraph with the outcome beside the paper's. What is
    finished is kept, row by row: interrupted and run again, the same command goes on.
    """

    name: Annotated[Literal[PaperExperiment, "all", "report"], Argument()]
    """The experiment; all of them; or report, for the page about those in --out."""
    size: Literal["quick", "full"] = "quick"
    """quick for minutes, which shows that all of it works; full for what there is to find."""
    seeds: PositiveInt = 5
    """Networks of each kind, which differ in nothing but the seed."""
    cifar: Annotated[Path | None, Option(metavar="FOLDER")] = None
    """CIFAR-10 in its binary version, for figure1."""
    data: Place | None = Field(
        None,
        description="Photographs, a packed dataset, or the word "
        f"{' or '.join(WORDS)}, for the other experiments.",
    )
    set: Annotated[tuple[Setting, ...], Option(metavar="FIELD=VALUE")] = ()
    """Change a field of the recipe that the other experiments train by, as epochs=90; can be
    repeated."""
    out: Annotated[Path, Option(metavar="FOLDER")] = Path("bench/evidence")
    """The folder to write to, and to keep finished rows in."""
    work: Annotated[Path, Option(metavar="FOLDER")] = Path("bench/paper")
    """The folder of what rows leave behind: packed photographs, trained networks."""
    workers: PositiveInt | None = None
    """Rows computed at once. If not given: one for each GPU, or for each processor where there is
    none."""
    device: Device = "auto"
    """auto takes GPUs where there are any that torch can use."""


class Submit(Options):
    """Send `train` or `index` to a Ray cluster and follow it.

    Submitting the same run again resumes it.
    """

    command: Annotated[tuple[str, ...], Argument(metavar="train|index ...")] = Field(
        min_length=1,
        description="The command to run on the cluster, with its options. The head of the cluster "
        f"is looked for at {ADDRESS}, or where {ADDRESS_VARIABLE} says; its token in "
        "RAY_AUTH_TOKEN, or in the file that RAY_AUTH_TOKEN_PATH names.",
    )
    detach: bool = False
    """Do not wait for the end of the run."""


class Status(Options):
    """List the runs that were sent to a cluster, and their states."""


class Logs(Options):
    """Follow the output of a run that was sent to a cluster."""

    name: Annotated[str, Argument()]
    """The name of the run."""


class Stop(OfRuns):
    """Tell a run to save a checkpoint and end."""

    name: Annotated[str, Argument()] = Field(
        description="The name of the run: one in the folder of runs, or one that was sent to a "
        f"cluster. Where {ADDRESS_VARIABLE} is set, only the cluster is asked."
    )


COMMANDS = Commands(
    extra="train",
    by_name={
        "train": Command(
            Train,
            "trainer.commands:train",
            "alexnet train --data datasets/mine --name mine --workers 2",
        ),
        "evaluate": Command(
            Evaluate,
            "trainer.commands:evaluate",
            "alexnet evaluate models/mine --data datasets/mine",
        ),
        "predict": Command(
            Predict,
            "trainer.commands:predict",
            "alexnet predict models/mine photos --out answers.parquet",
        ),
        "report": Command(Report, "trainer.commands:report", "alexnet report mine curves"),
        "recipe": Command(
            ShowRecipe, "trainer.commands:show_recipe", "alexnet recipe --recipe paper"
        ),
        "publish": Command(Publish, "trainer.commands:publish_run", "alexnet publish mine --best"),
        "import": Command(
            Import,
            "trainer.commands:import_model",
            "alexnet import torchvision",
        ),
        "export": Command(
            Export, "trainer.commands:export_model", "alexnet export models/mine mine.onnx"
        ),
        "index": Command(
            Index, "trainer.index:index", "alexnet index models/mine --data datasets/mine"
        ),
        "paper": Command(
            Paper,
            "trainer.paper.commands:paper",
            "alexnet paper figure1 --size full --cifar cifar-10-batches-bin",
        ),
        "submit": Command(
            Submit,
            "trainer.commands:submit",
            "alexnet submit train --data datasets/mine --name mine",
            wraps=True,
        ),
        "status": Command(Status, "trainer.commands:status", "alexnet status"),
        "logs": Command(Logs, "trainer.commands:logs", "alexnet logs mine"),
        "stop": Command(Stop, "trainer.commands:stop", "alexnet stop mine"),
    },
)
