from __future__ import annotations

import gc
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_models import SENTENCES, edit_json

from fieldwise.engine.llama_cpp import LlamaCppEngine
from fieldwise.engine.transformers_engine import TransformersEngine
from fieldwise.errors import InputError, ModelError
from fieldwise.interfaces import Generation, Piece, Sampling
from fieldwise.records import Message
from fieldwise.release.gguf import convert

CONVERSATION = (
    Message(role="system", content="Be brief."),
    Message(role="user", content="When is the deposit paid back [1]?"),
)
LONG = "The tenant may end the lease with notice. " * 12


def joined(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def test_tokens_and_prompts_are_those_of_transformers(exact: LlamaCppEngine, torch_engine: TransformersEngine) -> None:
    for text in (*SENTENCES, "<|im_start|>user\nhi [3]<|im_end|>", "", " \r\n\t", "🙂" * 50):
        assert exact.tokenize(text) == torch_engine.tokenize(text)
    assert exact.render(CONVERSATION) == torch_engine.render(CONVERSATION)


def test_citation_marks_are_one_token_and_stay_in_the_text(exact: LlamaCppEngine) -> None:
    tokens = exact.tokenize("14 days [2]<|im_end|>")
    assert len(exact.tokenize("[2]")) == 1
    assert exact.detokenize(tokens) == "14 days [2]"


def test_logits_are_those_of_transformers(exact: LlamaCppEngine, torch_engine: TransformersEngine) -> None:
    tokens = exact.tokenize(LONG)
    ours, theirs = exact.logits(tokens), torch_engine.logits(tokens)
    assert ours.shape == (len(tokens), exact.vocabulary_size)
    assert ours.dtype == np.float32
    assert np.abs(ours - theirs).max() < 1e-4
    assert exact.logprobs(tokens) == pytest.approx(torch_engine.logprobs(tokens), abs=1e-4)


def test_logprobs_are_one_fewer_than_tokens_and_sum_to_one_over_the_vocabulary(exact: LlamaCppEngine) -> None:
    tokens = exact.tokenize(SENTENCES[0])
    chances = np.exp(exact.logits(tokens).astype(np.float64))
    chances /= chances.sum(axis=1, keepdims=True)
    following = [chances[n, token] for n, token in enumerate(tokens[1:])]
    assert exact.logprobs(tokens) == pytest.approx(np.log(following))


def test_greedy_replies_are_those_of_transformers(exact: LlamaCppEngine, torch_engine: TransformersEngine) -> None:
    prompts = [exact.tokenize(text) for text in SENTENCES]
    assert exact.generate(prompts, Sampling(max_tokens=24)) == torch_engine.generate(prompts, Sampling(max_tokens=24))


def test_more_prompts_than_slots_come_back_in_order(gguf_file: Path, exact: LlamaCppEngine) -> None:
    prompts = [exact.tokenize(text)[: 3 + n] for n, text in enumerate(SENTENCES)]
    alone = [exact.generate([prompt], Sampling(max_tokens=6 + n % 3))[0] for n, prompt in enumerate(prompts)]
    with LlamaCppEngine(gguf_file, parallel=2, threads=1, exact=True) as two:
        for n in range(3):
            together = two.generate(prompts[n::3], Sampling(max_tokens=6 + n))
            assert together == [two.generate([prompt], Sampling(max_tokens=6 + n))[0] for prompt in prompts[n::3]]
    assert [reply.prompt_tokens for reply in alone] == [len(prompt) for prompt in prompts]


def test_eight_streams_at_once_run_in_one_batch_and_equal_the_same_prompts_alone(gguf_file: Path) -> None:
    sampling = Sampling(max_tokens=40)
    with LlamaCppEngine(gguf_file, parallel=8, threads=1, exact=True) as engine:
        prompts = [engine.tokenize(text) for text in SENTENCES]
        alone = [joined(list(engine.stream(prompt, sampling))) for prompt in prompts]
        assert engine.stats.largest_batch == 1
        texts: dict[int, str] = {}
        gate = threading.Barrier(8)

        def read(n: int) -> None:
            gate.wait()
            texts[n] = joined(list(engine.stream(prompts[n], sampling)))

        readers = [threading.Thread(target=read, args=(n,)) for n in range(8)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        assert engine.stats.largest_batch == 8
    assert [texts[n] for n in range(8)] == alone


def test_requests_join_and_leave_a_running_batch(gguf_file: Path) -> None:
    with LlamaCppEngine(gguf_file, parallel=3, threads=1, exact=True) as engine:
        long, short = engine.tokenize(SENTENCES[0]), engine.tokenize(SENTENCES[1])
        running = engine.stream(long, Sampling(max_tokens=300))
        first = [next(running) for _ in range(5)]
        visitors = [engine.generate([short], Sampling(max_tokens=5))[0] for _ in range(3)]
        assert engine.stats.running == 1
        rest = list(running)
    assert visitors[0] == visitors[1] == visitors[2]
    assert sum(piece.tokens for piece in first + rest) == 300


def test_a_reader_who_does_not_read_holds_nobody_up(gguf_file: Path) -> None:
    with LlamaCppEngine(gguf_file, parallel=2, threads=1) as engine:
        prompt = engine.tokenize(SENTENCES[0])
        slow = engine.stream(prompt, Sampling(max_tokens=200))
        next(slow)
        others = engine.generate([prompt] * 4, Sampling(max_tokens=8))
        assert all(reply.finish_reason == "length" for reply in others)
        assert sum(piece.tokens for piece in slow) == 199


def test_a_prompt_longer_than_the_context_is_refused_with_both_counts(exact: LlamaCppEngine) -> None:
    with pytest.raises(ModelError, match=r"1025 tokens for a context of 1024"):
        exact.stream([5] * 1025, Sampling())
    with pytest.raises(ModelError, match=r"1025 tokens"):
        exact.generate([[5], [5] * 1025], Sampling())


def test_a_reply_ends_where_the_context_ends(gguf_file: Path) -> None:
    with LlamaCppEngine(gguf_file, context_tokens=40, threads=1) as engine:
        assert engine.context_tokens == 40
        reply = engine.generate([[5] * 30], Sampling(max_tokens=100))[0]
        full = engine.generate([[5] * 40], Sampling(max_tokens=100))[0]
    assert (len(reply.token_ids), reply.finish_reason) == (11, "length")
    assert (len(full.token_ids), full.finish_reason) == (1, "length")


def test_a_long_context_must_be_asked_for(weights: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(weights, tmp_path / "model")
    edit_json(folder / "config.json", max_position_embeddings=100_000)
    file = convert(folder, tmp_path / "model.gguf").path
    with LlamaCppEngine(file, threads=1) as engine:
        assert engine.context_tokens == 8192
    with LlamaCppEngine(file, threads=1, context_tokens=9000) as engine:
        assert engine.context_tokens == 9000


@pytest.mark.parametrize(
    ("prompt", "message"), [([], "empty"), ([700], "not in the vocabulary"), ([-1], "not in the vocabulary")]
)
def test_prompts_that_make_no_sense_are_refused(exact: LlamaCppEngine, prompt: list[int], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        exact.generate([prompt], Sampling())


def test_sampling_settings_are_checked_before_anything_runs(exact: LlamaCppEngine) -> None:
    with pytest.raises(InputError, match="top_p"):
        exact.stream([5], Sampling(top_p=2.0))


def test_a_cancelled_stream_ends_soon_and_frees_its_slot(gguf_file: Path) -> None:
    with LlamaCppEngine(gguf_file, threads=1, parallel=1) as engine:
        asked = threading.Event()
        pieces = []
        for piece in engine.stream([5, 6, 7], Sampling(max_tokens=1000), asked.is_set):
            pieces.append(piece)
            if len(pieces) == 3:
                asked.set()
        assert pieces[-1].finish_reason == "cancelled"
        assert sum(piece.tokens for piece in pieces) < 1000
        assert engine.generate([[5]], Sampling(max_tokens=2))[0].finish_reason == "length"


def test_closing_the_iterator_cancels_the_request(gguf_file: Path) -> None:
    with LlamaCppEngine(gguf_file, threads=1, parallel=1) as engine:
        stream = engine.stream([5, 6, 7], Sampling(max_tokens=1000))
        next(stream)
        stream.close()  # type: ignore[attr-defined]
        deadline = time.monotonic() + 5
        while engine.stats.running and time.monotonic() < deadline:
            time.sleep(0.01)
        assert engine.stats.running == 0
        assert engine.stats.generated_tokens < 1000


def test_a_request_can_be_cancelled_while_it_waits(gguf_file: Path) -> None:
    with LlamaCppEngine(gguf_file, threads=1, parallel=1) as engine:
        running = engine.stream([5, 6, 7], Sampling(max_tokens=900))
        next(running)
        assert [piece.finish_reason for piece in engine.stream([8], Sampling(max_tokens=9), lambda: True)] == [
            "cancelled"
        ]
        running.close()  # type: ignore[attr-defined]


def test_a_stop_string_over_token_borders_ends_the_reply(exact: LlamaCppEngine) -> None:
    prompt = exact.tokenize(SENTENCES[1])
    whole = exact.generate([prompt], Sampling(max_tokens=30))[0]
    pieces = [piece.text for piece in exact.stream(prompt, Sampling(max_tokens=30))]
    middle = "".join(pieces[:12])
    stop = middle[-1] + "".join(pieces[12:14])[:2]  # the end of one token and the beginning of the next
    place = whole.text.index(stop)
    stopped = exact.generate([prompt], Sampling(max_tokens=30, stop=("never", stop)))[0]
    assert (stopped.text, stopped.finish_reason) == (whole.text[:place], "stop")
    assert joined(list(exact.stream(prompt, Sampling(max_tokens=30, stop=(stop,))))) == whole.text[:place]


def test_characters_split_over_tokens_are_streamed_whole(exact: LlamaCppEngine) -> None:
    # random weights write bytes in any order: whatever the stream shows must be what the tokens say together
    for seed in range(6):
        sampling = Sampling(max_tokens=60, temperature=1.5, seed=seed)
        reply = exact.generate([exact.tokenize("🙂")], sampling)[0]
        pieces = list(exact.stream(exact.tokenize("🙂"), sampling))
        assert joined(pieces) == reply.text == exact.detokenize(reply.token_ids)
        assert sum(piece.tokens for piece in pieces) == len(reply.token_ids)


def test_the_same_seed_gives_the_same_reply_and_another_seed_another(exact: LlamaCppEngine) -> None:
    def draw(seed: int) -> Generation:
        return exact.generate([exact.tokenize("A tenant")], Sampling(max_tokens=20, temperature=1.0, seed=seed))[0]

    assert draw(3) == draw(3)
    assert draw(3) != draw(4)


def test_a_reply_ends_at_any_of_the_end_tokens_of_the_weights(
    weights: Path, exact: LlamaCppEngine, tmp_path: Path
) -> None:
    prompt = exact.tokenize(SENTENCES[2])
    free = exact.generate([prompt], Sampling(max_tokens=12))[0]
    end = free.token_ids[7]
    folder = shutil.copytree(weights, tmp_path / "model")
    edit_json(folder / "generation_config.json", eos_token_id=[2, end])
    with (
        LlamaCppEngine(convert(folder, tmp_path / "model.gguf").path, threads=1, exact=True) as engine,
        TransformersEngine(folder) as other,
    ):
        reply = engine.generate([prompt], Sampling(max_tokens=12))[0]
        assert reply == other.generate([prompt], Sampling(max_tokens=12))[0]
    assert reply.finish_reason == "stop"
    assert reply.token_ids == free.token_ids[: free.token_ids.index(end)]


def test_a_prompt_that_begins_like_the_last_one_reuses_what_was_computed(
    gguf_file: Path, exact: LlamaCppEngine
) -> None:
    shared = exact.tokenize(LONG)
    questions = [shared + exact.tokenize(text) for text in SENTENCES[:4]]
    with LlamaCppEngine(gguf_file, threads=1, parallel=1, exact=True) as engine:
        engine._scheduler._reuses_prefix = True  # exact engines do not, so that nothing depends on what ran before
        replies = [engine.generate([prompt], Sampling(max_tokens=10))[0].text for prompt in questions]
        stats = engine.stats
    assert stats.reused_prompt_tokens >= 3 * len(shared)
    assert replies == [reply.text for reply in exact.generate(questions, Sampling(max_tokens=10))]
    assert exact.stats.reused_prompt_tokens == 0


def test_the_same_prompt_again_computes_only_its_last_token(gguf_file: Path) -> None:
    with LlamaCppEngine(gguf_file, threads=1, parallel=2) as engine:
        prompt = engine.tokenize(LONG)
        first, second = (engine.generate([prompt], Sampling(max_tokens=5))[0] for _ in range(2))
        assert first == second
        assert engine.stats.reused_prompt_tokens == len(prompt) - 1


def test_logits_can_be_asked_for_while_replies_run(exact: LlamaCppEngine) -> None:
    tokens = exact.tokenize(SENTENCES[3])
    alone = exact.logits(tokens)
    stream = exact.stream(tokens, Sampling(max_tokens=60))
    next(stream)
    assert np.abs(exact.logits(tokens) - alone).max() < 1e-4
    assert list(stream)[-1].finish_reason == "length"


def test_the_default_engine_stays_near_the_exact_one(gguf_file: Path, exact: LlamaCppEngine) -> None:
    tokens = exact.tokenize(LONG)
    with LlamaCppEngine(gguf_file, threads=1) as engine:
        assert np.abs(engine.logits(tokens) - exact.logits(tokens)).max() < 0.1


def test_two_threads_give_the_same_logits(gguf_file: Path, exact: LlamaCppEngine) -> None:
    tokens = exact.tokenize(LONG)
    with LlamaCppEngine(gguf_file, threads=2, exact=True) as engine:
        assert np.abs(engine.logits(tokens) - exact.logits(tokens)).max() < 1e-4


def test_a_closed_engine_says_so(gguf_file: Path) -> None:
    engine = LlamaCppEngine(gguf_file, threads=1)
    engine.close()
    engine.close()
    for use in (
        lambda: engine.tokenize("a"),
        lambda: engine.generate([[5]], Sampling()),
        lambda: list(engine.stream([5], Sampling())),
        lambda: engine.logits([5]),
    ):
        with pytest.raises(ModelError, match="closed"):
            use()


def test_closing_ends_running_streams_as_cancelled(gguf_file: Path) -> None:
    engine = LlamaCppEngine(gguf_file, threads=1)
    stream = engine.stream([5, 6, 7], Sampling(max_tokens=1000))
    next(stream)
    engine.close()
    assert list(stream)[-1].finish_reason == "cancelled"


def test_a_fault_in_the_computing_thread_reaches_every_reader(gguf_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = LlamaCppEngine(gguf_file, threads=1, parallel=2)
    running = engine.stream([5, 6, 7], Sampling(max_tokens=1000))
    next(running)

    def fail(*_: object) -> None:
        raise ModelError("the batch failed")

    monkeypatch.setattr(engine._scheduler._context, "decode", fail)
    with pytest.raises(ModelError, match="the batch failed"):
        list(running)
    with pytest.raises(ModelError, match="closed"):
        engine.generate([[5]], Sampling())
    assert engine.is_closed
    engine.close()


def test_an_engine_nobody_holds_frees_its_thread(gguf_file: Path) -> None:
    before = threading.active_count()
    engine = LlamaCppEngine(gguf_file, threads=1)
    engine.generate([[5]], Sampling(max_tokens=2))
    del engine
    gc.collect()
    assert threading.active_count() <= before


def test_twenty_engines_one_after_the_other_leave_nothing_behind(gguf_file: Path) -> None:
    def open_and_close() -> None:
        with LlamaCppEngine(gguf_file, threads=1, parallel=8) as engine:
            engine.generate([[5, 6]], Sampling(max_tokens=3))

    def resident_bytes() -> int:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096

    for _ in range(3):
        open_and_close()
    threads, memory = threading.active_count(), resident_bytes()
    for _ in range(20):
        open_and_close()
    assert threading.active_count() <= threads
    assert resident_bytes() - memory < 20 * 4_000_000  # one engine alone sets aside 8 MB for its sequences


def test_rated_replies_have_the_log_probability_they_have_alone_and_change_no_reply(
    gguf_file: Path, exact: LlamaCppEngine, torch_engine: TransformersEngine
) -> None:
    prompts = [exact.tokenize(text) for text in SENTENCES]
    rated = [[exact.tokenize("14 days"), exact.tokenize(text)[:9], [7]] for text in SENTENCES]
    alone = [
        [float(exact.logprobs(prompt + reply)[len(prompt) - 1 :].sum()) for reply in replies]
        for prompt, replies in zip(prompts, rated, strict=True)
    ]
    plain = exact.generate(prompts, Sampling(max_tokens=12))
    with LlamaCppEngine(gguf_file, parallel=3, threads=1, exact=True) as three:
        found = three.generate(prompts, Sampling(max_tokens=12), rated=rated)
    theirs = torch_engine.generate(prompts, Sampling(max_tokens=12), rated=rated)
    for n, reply in enumerate(found):
        assert (reply.text, reply.token_ids) == (plain[n].text, plain[n].token_ids)
        assert (theirs[n].text, theirs[n].token_ids) == (plain[n].text, plain[n].token_ids)
        assert list(reply.ratings) == pytest.approx(alone[n], abs=1e-3)
        assert list(theirs[n].ratings) == pytest.approx(alone[n], abs=1e-3)
    assert all(reply.ratings == () for reply in plain)


def test_the_first_piece_of_a_stream_carries_the_ratings(
    exact: LlamaCppEngine, torch_engine: TransformersEngine
) -> None:
    prompt, reply = exact.tokenize(LONG), exact.tokenize("notice")
    for engine in (exact, torch_engine):
        pieces = list(engine.stream(prompt, Sampling(max_tokens=4), rated=[reply]))
        wanted = float(engine.logprobs(prompt + reply)[len(prompt) - 1 :].sum())
        assert list(pieces[0].ratings) == pytest.approx([wanted], abs=1e-3)
        assert all(piece.ratings == () for piece in pieces[1:])


def test_a_reply_that_does_not_fit_behind_the_prompt_is_not_rated(exact: LlamaCppEngine) -> None:
    found = exact.generate([[5] * 1020], Sampling(max_tokens=2), rated=[[[6, 7], [8] * 5]])[0]
    assert found.ratings == () and len(found.token_ids) == 2


def test_reply_tokens_are_those_the_template_puts_behind_a_prompt(
    exact: LlamaCppEngine, torch_engine: TransformersEngine
) -> None:
    assert exact.reply_tokens("14 days") == torch_engine.reply_tokens("14 days")
    assert exact.detokenize(exact.reply_tokens("14 days")).strip() == "14 days"
    assert exact.tokenize("<|im_end|>")[0] not in exact.reply_tokens("14 <|im_end|> days")
