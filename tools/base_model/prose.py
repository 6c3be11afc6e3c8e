"""English prose that CPython brings along: the paragraphs of its docstrings (PSF licence).

Called by `tools.base_model.corpus` for plain documents and for a list of ordinary words.
"""

from __future__ import annotations

import ast
import re
import sysconfig
from collections import Counter
from pathlib import Path

# Folders whose text is about tests or is no English of CPython's own authors.
SKIPPED_FOLDERS = frozenset({"test", "tests", "site-packages", "idlelib", "lib2to3", "turtledemo"})
# A paragraph shorter than a sentence teaches no grammar; a longer one crowds out the others.
PARAGRAPH_CHARACTERS_MIN = 60
PARAGRAPH_CHARACTERS_MAX = 700
# Below this share of letters and blanks a paragraph is a table, code or a signature.
LETTERS_SHARE_MIN = 0.93
# A word must occur this often to be a word and not a name of some function.
WORD_COUNT_MIN = 12

_SENTENCE = re.compile(r"[A-Z][^\n]*[.!?]$", re.DOTALL)
_CODE = re.compile(r">>>|::|[_=<>{}\[\]|\\@#*]|\w\(")
_BLANKS = re.compile(r"\s+")


def read_paragraphs() -> list[str]:
    """Return the prose paragraphs of the standard library, each once, in the order of its files."""
    root = Path(sysconfig.get_paths()["stdlib"])
    found: dict[str, None] = {}
    for path in sorted(root.rglob("*.py")):
        if SKIPPED_FOLDERS.isdisjoint(path.relative_to(root).parts):
            for docstring in _docstrings(path):
                for paragraph in docstring.split("\n\n"):
                    text = _BLANKS.sub(" ", paragraph).strip()
                    if is_prose(text):
                        found[text] = None
    return list(found)


def is_prose(text: str) -> bool:
    """Tell whether `text` reads as English sentences in plain ASCII."""
    if not PARAGRAPH_CHARACTERS_MIN <= len(text) <= PARAGRAPH_CHARACTERS_MAX:
        return False
    if not text.isascii() or _CODE.search(text) or not _SENTENCE.match(text):
        return False
    plain = sum(character.isalpha() or character == " " for character in text)
    return plain >= LETTERS_SHARE_MIN * len(text)


def ordinary_words(paragraphs: list[str]) -> list[str]:
    """Return the lower-case words that occur often in `paragraphs`, sorted."""
    counts = Counter(
        word for text in paragraphs for word in re.findall(r"(?<=\s)[a-z]{4,10}(?=[ .,])", text)
    )
    return sorted(word for word, count in counts.items() if count >= WORD_COUNT_MIN)


def _docstrings(path: Path) -> list[str]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        # A few files of the library are broken on purpose.
        return []
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    texts = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds)]
    return [text for text in texts if text]
