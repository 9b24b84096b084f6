"""The parts of the report page that show answers: those that changed, side by side, and those that were declined."""

from __future__ import annotations

from collections.abc import Sequence

from fieldwise.evaluate.items import Flip, declines, flips
from fieldwise.evaluate.metrics import METRICS
from fieldwise.evaluate.report import EvalReport, Scored
from fieldwise.evaluate.table import title
from fieldwise.page.markup import escape, foreign, label, section, table
from fieldwise.records import Answer, Question

MOST_SHOWN = 200
_BEFORE, _AFTER, _SCORE = "rag_base", "rag_tuned", "overall_f1"
_NO_ANSWER = "not in the documents: declining is right"


def flips_section(
    report: EvalReport,
    questions: Sequence[Question],
    answers: dict[str, Sequence[Answer]],
    scores: dict[str, dict[str, Scored]],
) -> str:
    """Return which answers tuning made worse and better over the same passages, losses first."""
    if _BEFORE not in answers or _AFTER not in answers:
        text = f"<p>Needs the systems {_BEFORE} and {_AFTER}; evaluate.systems does not name both.</p>"
        return section("flips", "Answers that changed", text)
    found = flips(scores[_AFTER][_SCORE], scores[_BEFORE][_SCORE], questions)
    chosen = [*found.lost, *found.won][:MOST_SHOWN]
    rest = len(found.lost) + len(found.won) - len(chosen)
    items = "\n".join(_flip(report, flip, questions, answers) for flip in chosen)
    return section(
        "flips",
        "Answers that changed",
        f"<p>{escape(title(report, _AFTER))} beside {escape(title(report, _BEFORE))}, question by question, by {METRICS[_SCORE].title}: "
        "1 is a perfect answer, or declining where the documents do not tell. Losses stand first, the largest change on top.</p>",
        f'<ul class="counts"><li><b>{len(found.lost)}</b> lost</li><li><b>{len(found.won)}</b> won</li><li><b>{found.same}</b> same score</li></ul>',
        f'<p class="hint">The first {MOST_SHOWN} stand here; {rest} more are in the files of predictions.</p>'
        if rest
        else "",
        _FILTER if len(chosen) > 1 else "",
        f'<ol class="items">\n{items}\n</ol>' if chosen else "",
    )


_FILTER = """<div class="filter" id="filter" role="search" aria-label="Filter the answers below" hidden>
<label>Show <select id="filter-kind"><option value="">lost and won</option><option value="lost">lost</option><option value="won">won</option></select></label>
<label>with the words <input id="filter-words" type="search" autocomplete="off"></label>
<span id="filter-shown" role="status"></span>
</div>"""

# Without it every item stands there, and the controls that would do nothing are not shown.
FILTER_SCRIPT = """
(() => {
  const filter = document.getElementById("filter");
  if (!filter) return;
  const words = document.getElementById("filter-words"), kind = document.getElementById("filter-kind");
  const shown = document.getElementById("filter-shown"), items = [...document.querySelectorAll("[data-flip]")];
  const apply = () => {
    const wanted = words.value.trim().toLowerCase();
    let count = 0;
    for (const item of items) {
      const fits = (!kind.value || item.dataset.flip === kind.value) && item.textContent.toLowerCase().includes(wanted);
      item.hidden = !fits;
      count += fits;
    }
    shown.textContent = `${count} of ${items.length} shown`;
  };
  filter.addEventListener("input", apply);
  filter.hidden = false;
  apply();
})();
"""


def _flip(report: EvalReport, flip: Flip, questions: Sequence[Question], answers: dict[str, Sequence[Answer]]) -> str:
    question = questions[flip.position]
    word = "lost" if flip.change < 0 else "won"
    about = [f"<b>{'▼' if word == 'lost' else '▲'} {word} {flip.change:+.2f}</b>", label(question.id)]
    about += [label(text) for text in (question.kind, question.document) if text]
    sides = "".join(
        f"<div><dt>{escape(title(report, system))}</dt><dd>{_reply(answers[system][flip.position])}</dd></div>"
        for system in (_BEFORE, _AFTER)
    )
    return (
        f'<li class="item" data-flip="{word}"><p class="item-head">{" ".join(f"<span>{a}</span>" for a in about)}</p>'
        f"{foreign(question.question, classes='question')}"
        f'<dl class="sides"><div><dt>Expected</dt><dd>{_expected(question)}</dd></div>{sides}</dl></li>'
    )


def _expected(question: Question) -> str:
    if question.answer is None:
        return f'<p class="hint">{_NO_ANSWER}</p>'
    return foreign(question.answer, classes="reply")


def _reply(answer: Answer) -> str:
    said = foreign(answer.text, classes="reply") if answer.text.strip() else '<p class="hint">nothing was said</p>'
    if not answer.citations:
        return said
    cited = "".join(
        f"<li>[{c.mark}] {label(c.title or c.uri)}{f', page {c.page}' if c.page is not None else ''}, "
        f"{'verified' if c.is_verified else 'not verified'}</li>"
        for c in answer.citations
    )
    return f'{said}<ul class="cited" aria-label="Cited passages">{cited}</ul>'


# ---------------------------------------------------------------- declines


def declines_section(
    report: EvalReport, system: str, questions: Sequence[Question], answers: dict[str, Sequence[Answer]]
) -> str:
    """Return which questions a system declined, rightly and wrongly, and which it should have declined."""
    found = declines(answers[system], questions)
    counts = (
        (len(found.wrong), "declined although the documents answer"),
        (len(found.missed), "answered although the documents do not"),
        (len(found.right), "declined rightly"),
    )
    return section(
        "declines",
        "Declines",
        f"<p>What {escape(title(report, system))} declined to answer, and what it should have declined.</p>",
        '<ul class="counts">' + "".join(f"<li><b>{n}</b> {text}</li>" for n, text in counts) + "</ul>",
        _decline_table(
            "Declined although the documents answer",
            ["Question", "Expected", "Document"],
            [
                [_words(q.question), _words(q.answer or ""), _words(q.document or "-")]
                for q in _at(questions, found.wrong)
            ],
            len(found.wrong),
        ),
        _decline_table(
            "Answered although the documents do not tell",
            ["Question", "Said"],
            [[_words(questions[p].question), _words(answers[system][p].text)] for p in found.missed[:MOST_SHOWN]],
            len(found.missed),
        ),
        _decline_table(
            "Declined rightly",
            ["Question", "Said"],
            [[_words(questions[p].question), _words(answers[system][p].text)] for p in found.right[:MOST_SHOWN]],
            len(found.right),
        ),
    )


def _at(questions: Sequence[Question], positions: Sequence[int]) -> list[Question]:
    return [questions[p] for p in positions[:MOST_SHOWN]]


def _words(text: str) -> str:
    return foreign(text, "div")


def _decline_table(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]], count: int) -> str:
    if not rows:
        return ""
    more = f", the first {len(rows)} of {count}" if count > len(rows) else f" ({count})"
    return table(caption + more, header, rows, "words")
