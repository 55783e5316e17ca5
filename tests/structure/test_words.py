"""Product code uses the field's words: what each private word became is in docs/adr/rename/.

Identifiers and module names are looked at; SQL, wire and settings' names are strings and exempt.
"""

import ast
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from testbed.platform import ROOT

PRODUCT: Final = ("gateway", "registry", "pipelines", "triggers", "service", "sluice", "functions")
# As a whole identifier, whatever underscores and capitals stand around it.
WORDS: Final = {
    "away": "unavailable",
    "asked_of": "read_options",
    "assembly": "composition",
    "bell": "EventNotifier",
    "callpath": "proxy",
    "crowd": "ConcurrencyEstimate",
    "dataplane": "router",
    "deaf": "NullReceiver",
    "declare": "decorator",
    "endings": "exit_reasons",
    "every": "list_all",
    "fed": "refilled",
    "gathered": "dynamic batching",
    "gathering": "dynamic batching",
    "hungry": "needs_refill",
    "intake": "submission",
    "journal": "group commit writer",
    "nobody": "NullReceiver",
    "once": "idempotent",
    "over": "finished",
    "pace": "BatchSizer",
    "place": "runtime_config, error_path, TopicPartition or path",
    "places": "paths",
    "planned": "prepared",
    "recall": "head_cache",
    "rehearsal": "prefault",
    "rehearse": "prefault",
    "relief": "scale_for_backlog",
    "relieve": "scale_for_backlog",
    "replica_slots": "ReplicaConcurrency",
    "told": "response_started, or what is notified",
    "turns": "pipelining",
    "waker": "FunctionScaler",
    "waking": "FunctionScaler, from zero",
    "warming": "warmup",
    "wiring": "pipes",
    "wish": "desired_scale",
}
# As any part of an identifier.
PARTS: Final = {
    "answer": "response",
    "answers": "responses",
    "blank": "unspecialized process",
    "blanks": "unspecialized processes",
    "bury": "dead_letter",
    "mourn": "await_exit",
    "mourner": "ExitListener",
    "mourners": "exit_listeners",
    "mourning": "await_exit",
    "spare": "warm process",
    "spares": "warm pool",
}
# Names of classes that say too little by themselves.
CLASSES: Final = frozenset(
    {"Host", "Order", "Parts", "Plan", "Runner", "Slot", "Slots", "Starter", "Target"}
    | {"Targets", "Tracker", "Answer", "Asked", "Places", "Place"}
)
# Of these one class may keep the bare name.
ONCE: Final = frozenset({"Event", "Request"})
MODULES: Final = frozenset(
    {"answers", "answer_recall", "assembly", "blanks", "bounded", "callpath", "dataplane"}
    | {"declare", "endings", "forwarding", "gathering", "groups", "intake", "journal", "orders"}
    | {"pace", "place", "places", "recall", "rehearsal", "spares", "timing", "turns", "waking"}
    | {"warming", "wiring"}
)
# Of libraries, whose names are not ours.
EXEMPT: Final = frozenset({"keep_blank_values"})


def product_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "--", *PRODUCT],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [
        ROOT / path
        for path in listed.stdout.splitlines()
        if path.endswith(".py") and (ROOT / path).is_file()
    ]


def words_of(name: str) -> str:
    """An identifier in lower case, its words joined by underscores."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_")


def complaints(path: Path, root: Path = ROOT) -> Iterator[str]:
    where = path.relative_to(root)
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type != tokenize.NAME or token.string in EXEMPT:
                continue
            words = words_of(token.string)
            if words in WORDS:
                yield f"{where}:{token.start[0]} {token.string}: {WORDS[words]}"
            for part in set(words.split("_")) & PARTS.keys():
                yield f"{where}:{token.start[0]} {token.string}: {PARTS[part]}"
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ClassDef) and node.name in CLASSES:
            yield f"{where}:{node.lineno} class {node.name}: say which"


def test_product_code_uses_the_words_of_the_field() -> None:
    found = [complaint for path in product_files() for complaint in complaints(path)]
    assert not found, "\n".join(found)


def test_bare_name_means_one_thing() -> None:
    defined = [
        node.name
        for path in product_files()
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.ClassDef) and node.name in ONCE
    ]
    assert sorted(defined) == sorted(ONCE)


def test_no_module_has_a_private_name() -> None:
    paths = [path.relative_to(ROOT) for path in product_files()]
    named = {part.removesuffix(".py") for path in paths for part in path.parts}
    assert named.isdisjoint(MODULES), named & MODULES


def test_refused_word_is_found(tmp_path: Path) -> None:
    """The search itself: a word in code counts, in strings and comments it does not."""
    assert words_of("_ReplicaSlots") == "replica_slots"
    source = tmp_path / "x.py"
    source.write_text('told = "answer"  # blank\nclass Plan:\n    answer_lines = 1\n')
    found = [each.partition(" ")[2] for each in complaints(source, tmp_path)]
    assert found == [
        "told: response_started, or what is notified",
        "answer_lines: response",
        "class Plan: say which",
    ]
