"""Searching for words, the same in every database: texts become words here, and only words are indexed.

A word is a run of letters and digits, without accents and in lower case; in scripts that put no blanks between words,
as Chinese and Japanese do, each letter is one, and what is searched for are letters that follow one another. A search
is words that must all be there; `tea*` is the beginning of one, `"green tea"` are words that follow one another.
Nothing else has a meaning.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, islice

from msgspec import Struct

from refold.errors import InvalidQuery
from refold.view.api import Hit
from refold.view.table import Column, Table

MAX_TERMS = 32
MAX_CHARS = 1_000
MAX_WORDS = 8_000
"""How many words of a field can be found."""
MAX_ROW_WORDS = 16_000
"""How many of all the fields of a row: PostgreSQL counts the places of words up to 16,383."""
MAX_ROW_CHARS = 200_000
"""How many characters they may have together: PostgreSQL has room for 1 MB."""
MAX_WORD_CHARS = 100
"""How much of a word counts."""
UNBROKEN = r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Kana and Han: letters that are written without blanks between words."""
WORD = re.compile(rf"(?![\W_])[{UNBROKEN}]|[^\W_{UNBROKEN}]+")
BLANKS = {code: " " for code in range(128) if not chr(code).isalnum()}
"""What stands between words in ASCII."""
WRITTEN = re.compile(rf"(?![\W_])[{UNBROKEN}]|[^\W_{UNBROKEN}](?:[^\W_{UNBROKEN}]|[\u0300-\u036f])*")
"""A word as it is written, perhaps with accents of their own."""
TERM = re.compile(r'"([^"]*)"(\*?)|([^\s"]+)')


class Term(Struct, frozen=True):
    """Words that follow one another; the last one may be the beginning of a word only."""

    words: tuple[str, ...]
    prefix: bool = False

    def within(self, words: Sequence[str]) -> int:
        """Count how often this stands in a text."""
        size = len(self.words)
        return sum(self._at(words[start : start + size]) for start in range(len(words) - size + 1))

    def _at(self, words: Sequence[str]) -> bool:
        *first, last = self.words
        *others, end = words
        return first == others and (end.startswith(last) if self.prefix else end == last)


def words_of(text: str) -> list[str]:
    """Return the words of a text."""
    if text.isascii():  # most are, and need no more than this
        words = text.lower().translate(BLANKS).split(maxsplit=MAX_WORDS)[:MAX_WORDS]
        return [word[:MAX_WORD_CHARS] for word in words]
    return [found.group()[:MAX_WORD_CHARS] for found in islice(WORD.finditer(folded(text)), MAX_WORDS)]


def words_in(table: Table, row: object) -> list[tuple[Column, list[str]]]:
    """Return the words by which a row can be found, field by field; what a huge row holds at its end is left out."""
    found = [(column, words_of(text)) for column, text in table.texts(row)]
    left, room = MAX_ROW_WORDS - len(found), MAX_ROW_CHARS  # PostgreSQL leaves a place free between two fields
    if sum(len(words) for _, words in found) <= left and sum(len(each) for _, words in found for each in words) <= room:
        return found
    fitting: list[tuple[Column, list[str]]] = []
    for column, words in found:
        sizes = accumulate(map(len, words[:left]))
        some = words[: sum(size <= room for size in sizes)]
        left, room = left - len(some), room - sum(map(len, some))
        fitting.append((column, some))
    return fitting


def folded(text: str) -> str:
    """Return a text without accents, in lower case."""
    if text.isascii():
        return text.lower()
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(each for each in plain if not unicodedata.combining(each))


def terms_of(table: Table, text: str) -> list[Term]:
    """Read what a user searches for; raise `InvalidQuery` if the table has nothing to search in."""
    if not table.searched:
        raise InvalidQuery(
            f"{table.name} has no field to search in: mark one, as in `name: Annotated[str, Searched()] = ''`"
        )
    if len(text) > MAX_CHARS:
        raise InvalidQuery(f"a search of {len(text):,} characters; the limit is {MAX_CHARS:,}")
    terms: list[Term] = []
    for quoted, star, plain in TERM.findall(text):
        if words := words_of(quoted or plain):
            terms.append(Term(tuple(words), prefix=bool(star) or plain.endswith("*")))
    if len(terms) > MAX_TERMS:
        raise InvalidQuery(f"a search for {len(terms)} words; the limit is {MAX_TERMS}")
    return terms


def matching(table: Table, rows: Iterable[object], text: str) -> list[Hit]:
    """Return the rows that hold all the words, the best first: the search in its plainest form."""
    hits = [Hit(row, float(count)) for row, count in counted(table, rows, text)]
    return sorted(hits, key=lambda hit: -hit.score)


def counted(table: Table, rows: Iterable[object], text: str) -> Iterator[tuple[object, int]]:
    """Give the rows that hold all the words, each with how often it does, by weight."""
    terms = terms_of(table, text)
    for row in rows:
        found = words_in(table, row)
        counts = [sum(column.weight * term.within(words) for column, words in found) for term in terms]
        if counts and all(counts):
            yield row, sum(counts)


def highlighted(table: Table, row: object, text: str) -> dict[str, list[tuple[str, bool]]]:
    """Return each searched field's text in pieces, with whether they were searched for."""
    terms = terms_of(table, text)
    return {column.name: _pieces(text, terms) for column, text in table.texts(row)}


def _pieces(text: str, terms: Sequence[Term]) -> list[tuple[str, bool]]:
    found = list(islice(WRITTEN.finditer(text), MAX_WORDS))
    words = ["".join(words_of(each.group())) for each in found]
    marked: set[int] = set()
    for term in terms:
        size = len(term.words)
        for start in range(len(words) - size + 1):
            if term.within(words[start : start + size]):
                marked.update(range(start, start + size))
    pieces: list[tuple[str, bool]] = []
    end = 0
    for index in sorted(marked):
        pieces += [(text[end : found[index].start()], False), (found[index].group(), True)]
        end = found[index].end()
    return [piece for piece in (*pieces, (text[end:], False)) if piece[0]]
