"""The prompt: editing, history, colours and completion of prompt_toolkit around the shell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.filters import Condition, completion_is_selected, is_searching
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import PygmentsLexer
from prompt_toolkit.styles import Style

from repl.completer import SqlCompleter
from repl.lexer import SabotLexer
from repl.objects import Objects
from repl.settings import state_dir
from repl.shell import Leave, Shell
from sql_frontend.split import is_complete

if TYPE_CHECKING:
    from pathlib import Path

PROMPT, CONTINUED = "sabot> ", "    -> "
STYLE = Style.from_dict(
    {
        "prompt": "bold",
        "continuation": "ansibrightblack",
        "pygments.keyword": "ansiblue bold",
        "pygments.keyword.type": "ansicyan",
        "pygments.name.function": "ansicyan",
        "pygments.name.decorator": "ansimagenta",
        "pygments.literal.string": "ansigreen",
        "pygments.literal.string.name": "",
        "pygments.literal.number": "ansiyellow",
        "pygments.comment": "ansibrightblack italic",
    }
)


def is_done(text: str) -> bool:
    """Tell whether Enter runs `text`: a command, nothing, or statements up to a semicolon."""
    stripped = text.strip()
    return not stripped or stripped.startswith("\\") or is_complete(text)


def _history() -> History:
    path: Path = state_dir() / "history"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
    except OSError:
        # a home that cannot be written (a service account): the prompt works, without memory
        return InMemoryHistory()
    return FileHistory(str(path))


def _bindings() -> KeyBindings:
    bindings = KeyBindings()

    @Condition
    def done() -> bool:
        from prompt_toolkit.application.current import get_app

        return is_done(get_app().current_buffer.text)

    @bindings.add("enter", filter=done & ~completion_is_selected & ~is_searching)
    def _accept(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @bindings.add("enter", filter=completion_is_selected)
    def _choose(event: KeyPressEvent) -> None:
        event.current_buffer.complete_state = None

    return bindings


def run_prompt(shell: Shell) -> None:
    r"""Read and run statements until Ctrl-D or ``\\q``."""
    objects = Objects(shell.connect)
    shell.on_ddl = lambda: objects.refresh(stale=True)
    objects.refresh()
    session: PromptSession[str] = PromptSession(
        [("class:prompt", PROMPT)],
        lexer=PygmentsLexer(SabotLexer),
        completer=SqlCompleter(objects),
        complete_while_typing=True,
        complete_in_thread=True,
        history=_history(),
        auto_suggest=AutoSuggestFromHistory(),
        key_bindings=_bindings(),
        multiline=True,
        prompt_continuation=[("class:continuation", CONTINUED)],
        style=STYLE,
        enable_history_search=False,
        reserve_space_for_menu=6,
    )
    shell.say("Sabot; '\\?' lists commands, Ctrl-D leaves")
    try:
        _loop(shell, session)
    finally:
        objects.close()


def _loop(shell: Shell, session: PromptSession[str]) -> None:
    while True:
        try:
            text = session.prompt()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        try:
            shell.run_script(text.splitlines(keepends=True))
        except KeyboardInterrupt:
            shell.say("\r\x1b[Kcancelled")  # over the terminal's own ^C
        except Leave:
            return
