"""IFEval's verifiable instructions, for those that a small pure function decides exactly.

What an instruction means is what its authors' checker does (arXiv 2311.07911), which reads keywords as
regular expressions. Left out are the checks that depend on a language detector or a trained tokenizer:
response language, numbers of sentences and of words in capitals, and English in one case. A prompt is
asked only where all of its instructions are checked.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable

from training.records import Instruction

_OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_FENCE = re.compile(r"\A```(?:json|Json|JSON)?|```\Z")


def covered(instruction: Instruction) -> bool:
    """Whether an instruction can be decided here: a known kind with all that its check needs."""
    check = CHECKS.get(instruction.kind)
    if check is None:
        return False
    try:
        inspect.signature(check).bind("", **instruction.arguments)
    except TypeError:
        return False
    letter = instruction.arguments.get("letter")
    return letter is None or (isinstance(letter, str) and re.fullmatch("[A-Za-z]", letter) is not None)


def followed(instruction: Instruction, answer: str) -> bool:
    """Whether an answer follows a covered instruction; an empty one follows none."""
    return bool(answer.strip()) and CHECKS[instruction.kind](answer, **instruction.arguments)


def _holds(count: int, relation: str, wanted: int) -> bool:
    return count < wanted if relation == "less than" else count >= wanted


def _all_keywords(text: str, *, keywords: list[str]) -> bool:
    return all(re.search(word, text, re.IGNORECASE) for word in keywords)


def _keyword_frequency(text: str, *, keyword: str, frequency: int, relation: str) -> bool:
    return _holds(len(re.findall(keyword.strip(), text, re.IGNORECASE)), relation, frequency)


def _no_forbidden_word(text: str, *, forbidden_words: list[str]) -> bool:
    return not any(re.search(rf"\b{word}\b", text, re.IGNORECASE) for word in forbidden_words)


def _letter_frequency(text: str, *, letter: str, let_frequency: int, let_relation: str) -> bool:
    return _holds(text.lower().count(letter.lower()), let_relation, let_frequency)


def _words(text: str, *, num_words: int, relation: str) -> bool:
    return _holds(len(re.findall(r"\w+", text)), relation, num_words)


def _divided_paragraphs(text: str, *, num_paragraphs: int) -> bool:
    parts = re.split(r"\s?\*\*\*\s?", text)
    return all(part.strip() for part in parts[1:-1]) and sum(map(_inked, parts)) == num_paragraphs


def _nth_paragraph(text: str, *, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    parts = text.split("\n\n")
    count = sum(map(_inked, parts))
    if count != num_paragraphs or nth_paragraph > count or not parts[nth_paragraph - 1].strip():
        return False
    word = parts[nth_paragraph - 1].split()[0].lstrip("'").lstrip('"').lower()
    return re.split(r"[.,?!'\"]", word)[0] == first_word.lower()


def _placeholders(text: str, *, num_placeholders: int) -> bool:
    return len(re.findall(r"\[.*?\]", text)) >= num_placeholders


def _postscript(text: str, *, postscript_marker: str) -> bool:
    marker = postscript_marker.strip()
    patterns = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    return re.search(patterns.get(marker, marker.lower()), text.lower()) is not None


def _bullets(text: str, *, num_bullets: int) -> bool:
    stars = re.findall(r"^\s*\*[^*].*$", text, re.MULTILINE)
    dashes = re.findall(r"^\s*-.*$", text, re.MULTILINE)
    return len(stars) + len(dashes) == num_bullets


def _highlights(text: str, *, num_highlights: int) -> bool:
    single = [found for found in re.findall(r"\*([^\n*]*)\*", text) if found.strip()]
    double = [found for found in re.findall(r"\*\*([^\n*]*)\*\*", text) if found.strip()]
    return len(single) + len(double) >= num_highlights


def _sections(text: str, *, section_spliter: str, num_sections: int) -> bool:
    return len(re.findall(rf"{section_spliter.strip()}\s?\d+", text)) >= num_sections


def _json(text: str) -> bool:
    try:
        json.loads(_FENCE.sub("", text.strip()).strip())
    except ValueError:
        return False
    return True


def _title(text: str) -> bool:
    return any(found.strip("<>").strip() for found in re.findall(r"<<[^\n]+>>", text))


def _one_option(text: str) -> bool:
    return any(option in text for option in _OPTIONS)


def _two_responses(text: str) -> bool:
    parts = text.split("******")
    given = [part.strip() for part in parts if part.strip()]
    return all(part.strip() for part in parts[1:-1]) and len(given) == 2 and given[0] != given[1]


def _repeated_prompt(text: str, *, prompt_to_repeat: str) -> bool:
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


def _end(text: str, *, end_phrase: str) -> bool:
    return text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def _quoted(text: str) -> bool:
    stripped = text.strip()
    return len(stripped) > 1 and stripped[0] == stripped[-1] == '"'


def _no_comma(text: str) -> bool:
    return "," not in text


def _inked(text: str) -> bool:
    return bool(text.strip())


CHECKS: dict[str, Callable[..., bool]] = {
    "keywords:existence": _all_keywords,
    "keywords:frequency": _keyword_frequency,
    "keywords:forbidden_words": _no_forbidden_word,
    "keywords:letter_frequency": _letter_frequency,
    "length_constraints:number_words": _words,
    "length_constraints:number_paragraphs": _divided_paragraphs,
    "length_constraints:nth_paragraph_first_word": _nth_paragraph,
    "detectable_content:number_placeholders": _placeholders,
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:multiple_sections": _sections,
    "detectable_format:json_format": _json,
    "detectable_format:title": _title,
    "detectable_format:constrained_response": _one_option,
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": _repeated_prompt,
    "startend:end_checker": _end,
    "startend:quotation": _quoted,
    "punctuation:no_comma": _no_comma,
}
"""By the set's own name of the instruction; arguments have the set's own names."""
