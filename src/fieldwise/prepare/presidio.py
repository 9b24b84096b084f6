"""Recognisers of presidio-analyzer beside the detectors of this project.

presidio starts by downloading a spaCy model and ends the process where that fails; here it is given a tokenizer, or a
model that is installed, and nothing else. Its recognisers of e-mail and web addresses look up the list of public
suffixes over the network, so these two are left to the detectors here.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterator
from typing import Any

from fieldwise.errors import FieldwiseError, ModelError, RecipeError
from fieldwise.extras import require
from fieldwise.prepare.personal_data import KINDS, Detector
from fieldwise.prepare.reading import Finding, Reading
from fieldwise.prepare.settings import PresidioPattern, PresidioSettings

ENTITY_KINDS = {
    "CREDIT_CARD": "card", "IBAN_CODE": "iban", "US_SSN": "ssn", "IP_ADDRESS": "ip_address", "PHONE_NUMBER": "phone",
    "PERSON": "name", "US_DRIVER_LICENSE": "licence", "UK_DRIVING_LICENCE": "licence", "MEDICAL_LICENSE": "licence",
    "IT_DRIVER_LICENSE": "licence", "UK_NHS": "mrn", "US_NPI": "npi", "ZA_MOBILE_NUMBER": "phone",
    "ZA_TELEPHONE_NUMBER": "phone",
}  # fmt: skip
"""Which kind presidio's entities are; what is not named here is an identifier."""
_ASKS_NETWORK = ("EmailRecognizer", "UrlRecognizer")
_WITHOUT_KIND = (
    "DATE_TIME",
    "EMAIL_ADDRESS",
    "URL",
    "LOCATION",
    "NRP",
    "ORGANIZATION",
    "UUID",
    "UK_POSTCODE",
    "CA_POSTAL_CODE",
    "DE_PLZ",
)
_EXTRA = {"extra": "presidio", "to": "look for personal data with presidio"}
_WINDOW_CHARS = 50_000  # spaCy takes no more than a million, and memory with a model grows with the length
_LEMMAS = "fieldwise_lemmas"
_WHERE = "prepare.personal_data.presidio"
_MASK_WORDS = "|".join(kind.replace("_", " ").upper() for kind in KINDS)
# what stands in place of findings; a number behind a word is no stand-in from seven digits on: it may be a telephone's
_REPLACED = re.compile(
    rf"\[(?:{_MASK_WORDS})\]"
    r"|\b(?:Person|Email|Phone|Address|Birth date|SSN|Record|Provider|Card|Account|IP|Link|Licence|Identifier) \d{1,6}\b"
)


def presidio_detector(settings: PresidioSettings) -> Detector | None:
    """Return a detector that asks presidio, None where the settings name nothing to look for.

    Raises MissingExtra, RecipeError for a recogniser that presidio does not have, ModelError for a missing model.
    """
    if not settings.is_used:
        return None
    presidio: Any = require("presidio_analyzer", **_EXTRA)
    logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)  # it tells of every entity nobody asked for
    recognizers = _recognizers(presidio, settings)
    nlp = _nlp(settings)
    if settings.model:
        spacy_recognizer = presidio.predefined_recognizers.SpacyRecognizer
        recognizers.append(spacy_recognizer(supported_language=settings.language, supported_entities=["PERSON"]))
    languages = [settings.language]
    engine = presidio.AnalyzerEngine(
        registry=presidio.RecognizerRegistry(recognizers=recognizers, supported_languages=languages),
        nlp_engine=nlp,
        supported_languages=languages,
    )
    entities = sorted({entity for r in recognizers for entity in r.supported_entities} - set(_WITHOUT_KIND))
    kinds = ENTITY_KINDS | {pattern.entity: pattern.kind for pattern in settings.patterns}

    def detect(reading: Reading) -> Iterator[Finding]:
        replaced = [match.span() for match in _REPLACED.finditer(reading.text)]
        for start, text in _windows(reading.text):
            found = engine.analyze(
                text=text, language=settings.language, entities=entities, score_threshold=settings.min_score
            )
            for result in sorted(found, key=lambda r: (r.start, r.end, r.entity_type)):
                a, z = start + result.start, start + result.end
                if any(first <= a and z <= last for first, last in replaced):
                    continue
                kind = kinds.get(result.entity_type, "identifier")
                yield Finding(kind, a, z, f"presidio:{result.entity_type}", "presidio")

    return detect


def _recognizers(presidio: Any, settings: PresidioSettings) -> list[Any]:
    problems: list[FieldwiseError] = []
    made = []
    for name in settings.recognizers:
        try:
            made.append(_predefined(presidio, name, settings.language))
        except FieldwiseError as problem:
            problems.append(problem)
    for pattern in settings.patterns:
        try:
            made.append(_own(presidio, pattern, settings.language))
        except ValueError as error:
            problems.append(
                FieldwiseError(
                    f"the pattern of {pattern.entity} cannot be used: {error}",
                    where=f"{_WHERE}.patterns",
                    found=pattern.regex,
                    fix="Write it as a regular expression of Python.",
                )
            )
    if problems:
        raise RecipeError(problems)
    return made


def _predefined(presidio: Any, name: str, language: str) -> Any:
    """One of presidio's own recognisers by the name of its class; those that ask a network or a model are refused."""
    if name in _ASKS_NETWORK:
        raise FieldwiseError(
            f"{name} asks the network for the list of public suffixes",
            where=f"{_WHERE}.recognizers",
            fix="Leave it out: e-mail and web addresses are found without presidio.",
        )
    known = presidio.predefined_recognizers
    by_rule = (presidio.PatternRecognizer, known.PhoneRecognizer)
    names = sorted(n for n, c in vars(known).items() if isinstance(c, type) and issubclass(c, by_rule))
    if name not in names or name == "PatternRecognizer":
        raise FieldwiseError(
            "presidio has no recogniser by patterns of this name",
            where=f"{_WHERE}.recognizers",
            found=name,
            fix=f"Take one such as {', '.join(difflib.get_close_matches(name, names, 4, 0.3))}; all stand in presidio_analyzer.predefined_recognizers.",
        )
    made = getattr(known, name)(supported_language=language)
    if set(made.supported_entities) <= set(_WITHOUT_KIND):
        raise FieldwiseError(
            f"what {name} finds is no personal data by itself",
            where=f"{_WHERE}.recognizers",
            found=", ".join(made.supported_entities),
            fix="Leave it out; dates of birth and addresses are found without presidio.",
        )
    return made


def _own(presidio: Any, pattern: PresidioPattern, language: str) -> Any:
    return presidio.PatternRecognizer(
        supported_entity=pattern.entity,
        name=pattern.entity,
        patterns=[presidio.Pattern(pattern.entity.lower(), pattern.regex, pattern.score)],
        context=list(pattern.context) or None,
        supported_language=language,
    )


def _nlp(settings: PresidioSettings) -> Any:
    """What splits the text for presidio: a tokenizer, or a model that also finds names."""
    spacy: Any = require("spacy", **_EXTRA)
    engines: Any = require("presidio_analyzer.nlp_engine", **_EXTRA)
    name = settings.model or f"blank {settings.language}"
    engine = engines.SpacyNlpEngine(models=[{"lang_code": settings.language, "model_name": name}])
    try:
        nlp = spacy.load(settings.model) if settings.model else tokenizer(settings.language)
    except OSError as error:
        raise ModelError(
            "this spaCy model is not installed",
            where=f"{_WHERE}.model",
            found=settings.model,
            fix="Install its wheel from the releases of explosion/spacy-models, name its folder, or leave the model out.",
        ) from error
    except ImportError as error:
        raise ModelError(
            f"spaCy knows no such language: {error}",
            where=f"{_WHERE}.language",
            found=settings.language,
            fix="Take a code of ISO 639-1 such as en or de.",
        ) from error
    engine.nlp = {settings.language: nlp}  # its own way of loading would download what is not there
    return engine


def tokenizer(language: str) -> Any:
    """Return a spaCy pipeline without a model, whose tokens are their own lemmas.

    Without lemmas presidio sees no words of context, and most of its weaker patterns stay below any useful score.
    """
    spacy: Any = require("spacy", **_EXTRA)
    languages: Any = require("spacy.language", **_EXTRA)
    if not languages.Language.has_factory(_LEMMAS):
        languages.Language.component(_LEMMAS, func=_spelt_as_lemmas)
    nlp = spacy.blank(language)
    nlp.add_pipe(_LEMMAS)
    return nlp


def _spelt_as_lemmas(doc: Any) -> Any:
    for token in doc:
        token.lemma_ = token.lower_
    return doc


def _windows(text: str) -> Iterator[tuple[int, str]]:
    """Pieces of a text that end with a line where one does, each with its place."""
    start = 0
    while start < len(text):
        end = min(len(text), start + _WINDOW_CHARS)
        if end < len(text):
            end = (
                max(text.rfind("\n", start, end), text.rfind(" ", start, end) if "\n" not in text[start:end] else -1)
                + 1
            )
            end = end if end > start else start + _WINDOW_CHARS
        yield start, text[start:end]
        start = end
