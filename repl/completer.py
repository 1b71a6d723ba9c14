"""Completion: keywords, relations and columns where they fit, backslash commands and files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document

from repl.commands import COMMANDS
from repl.objects import Objects, Relation
from repl.syntax import STATEMENTS
from sabot.schema import quote
from sql_frontend.completion import FUNCTIONS, KEYWORDS, Context, completion_context

_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*(\.[a-z_][a-z0-9_$]*)?\Z")


class SqlCompleter(Completer):
    """Completes what is being typed from what the daemon has; never waits for the daemon."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Give what fits at the cursor, the likeliest first."""
        before = document.text_before_cursor
        if before.lstrip().startswith("\\"):
            return self._command(before.lstrip()[1:], complete_event)
        context = completion_context(before, document.text_after_cursor)
        # names are offered at once where only names fit, all else from the first letter on
        wanted = context.prefix or not context.keywords or complete_event.completion_requested
        if context.inside_literal or not wanted:
            return ()
        return _unique(self._words(context, self._objects.relations()))

    def _words(self, context: Context, known: Mapping[str, Relation]) -> Iterator[Completion]:
        word = context.prefix
        yield from _keywords(context.after, word)
        if context.columns:
            yield from self._columns(context, known)
        if context.relations:
            for name, relation in known.items():
                if not context.kinds or relation.kind in context.kinds:
                    yield from _matches([name], word, relation.kind)
        if context.keywords:
            yield from _keywords(KEYWORDS, word)
            if context.columns:
                yield from _matches(FUNCTIONS, word, "function")

    def _columns(self, context: Context, known: Mapping[str, Relation]) -> Iterator[Completion]:
        word = context.prefix
        named = context.of or tuple(known)
        for name in named:
            if name in known:
                yield from _matches(known[name].columns, word, name)
            # sabot_catalog.jobs: what stands before the dot may be a schema
            for full in (full for full in known if full.startswith(f"{name}.")):
                yield from _matches([full.partition(".")[2]], word, known[full].kind)

    def _command(self, text: str, event: CompleteEvent) -> Iterator[Completion]:
        name, space, argument = text.partition(" ")
        if not space:
            for entry in COMMANDS.values():
                if entry.name.startswith(name):
                    yield Completion(entry.name, start_position=-len(name), display_meta=entry.help)
            return
        completes = COMMANDS[name].completes if name in COMMANDS else ""
        argument = argument.lstrip()
        if completes == "file":
            yield from self._paths.get_completions(Document(argument, len(argument)), event)
        elif completes == "relation":
            for relation in self._objects.relations().values():
                yield from _matches([relation.name], argument, relation.kind)
        elif completes == "statement":
            yield from _keywords(STATEMENTS, argument)


def _keywords(words: Iterable[str], word: str) -> Iterator[Completion]:
    """Offer keywords in the case that the user writes: small letters only if there are some already."""
    small = word.islower()
    for text in words:
        if text.startswith(word.upper()) and text != word.upper():
            yield Completion(text.lower() if small else text, start_position=-len(word))


def _matches(names: Iterable[str], word: str, meta: str) -> Iterator[Completion]:
    bare = word.lstrip('"').lower()
    for name in names:
        if name.lower().startswith(bare) and name != word:
            text = name if _PLAIN.match(name) and not word.startswith('"') else quote(name)
            yield Completion(text, start_position=-len(word), display=name, display_meta=meta)


def _unique(completions: Iterable[Completion]) -> Iterator[Completion]:
    seen = set()
    for completion in completions:
        if completion.text not in seen:
            seen.add(completion.text)
            yield completion
