"""What can go wrong, as one tree; every message is one line that names the rule, the value and the place.

BudgetnetError            caught in cli.py alone: printed as "error: …", exit code 2
├── ArchitectureError     a network that cannot be: a bad notation, a map that vanishes, a width below one
├── BudgetError           a limit that no network of the space can meet
├── SpaceError            a search space that is missing, misspelt or impossible
├── DataError             a data set that is missing, unreadable or of the wrong form
├── StudyError            a study or trial that is missing, locked, pruned, or belongs to another space
├── ModelError            a model file or class that is missing, taken, unreadable, or fails when run
│   └── SentenceError     a sentence about a model that spells out a number, or whose claim does not hold
├── RecipeError           training hyperparameters out of range
├── TraceError            a module whose graph of layers cannot be read off
├── AuditError            two ways of counting disagree, or an operator was not counted
├── ExtraError            a command needs packages of an extra that are not installed
├── TrainingDiverged      a loss that is not finite; fails one trial, never the search
└── WorkerError           a device or worker count that cannot be; training that fails where nothing can go on
"""


class BudgetnetError(Exception):
    """Base of every error that budgetnet raises on purpose; ``str(error)`` is one line for a person."""


class ArchitectureError(BudgetnetError):
    """A network that cannot be built as described."""


class BudgetError(BudgetnetError):
    """A limit that cannot be met."""


class SpaceError(BudgetnetError):
    """A search space that is missing or invalid."""


class DataError(BudgetnetError):
    """A data set that is missing, unreadable or of the wrong form."""


class StudyError(BudgetnetError):
    """A study or trial that is missing, locked, or does not belong to what was asked."""


class ModelError(BudgetnetError):
    """A model file or class that is missing, taken or broken."""


class SentenceError(ModelError):
    """A sentence that spells out a number, names a fact that is none, or claims what does not hold."""


class RecipeError(BudgetnetError):
    """Training hyperparameters out of range."""


class TraceError(BudgetnetError):
    """A module whose graph of layers cannot be read off."""


class AuditError(BudgetnetError):
    """Two ways of counting disagree, or an operator was not counted."""


class ExtraError(BudgetnetError):
    """Packages of an extra are not installed."""


class TrainingDiverged(BudgetnetError):
    """The training loss became NaN or infinite."""


class WorkerError(BudgetnetError):
    """A device or number of workers that cannot be, or training that fails where nothing else can go on."""


FOREIGN = (Exception, SystemExit)
"""What code that somebody brings may raise; Ctrl-C is not its own."""


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, or its kind where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def one_line(error: BaseException) -> str:
    """All that an exception says, in a line of at most 200 characters, or its kind where it says nothing."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def reason(error: BaseException) -> str:
    """An exception in one line, with its kind unless it is one of ours."""
    words = " ".join(str(error).split())
    return words if isinstance(error, BudgetnetError) else f"{type(error).__name__}: {words}"[:300]
