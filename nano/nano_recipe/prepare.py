"""Step one: harvest pools, train the tokenizer, and lay the real text out as one memory-mapped file of ids.

    python -m nano_recipe.prepare --text FOLDER --out build

The BPE is *trained* with the space before a capital, punctuation before a word and every digit kept apart,
and *shipped* under the `qwen2` pre-tokeniser that llama.cpp knows: no merge joins what training kept apart,
so a name has the same tokens in running text, after a quote mark and at the start of an answer.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from . import questions, sources
from .forms import read_forms
from .pools import Pools, harvest, load_harvest, save_harvest
from .rows import Composer, SpecialTokens
from .toolcalls import make_call

QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_WORDS = {"capital": r" \p{Ll}\p{L}*|\p{L}+", "none": r" ?\p{L}+", "all": r"\p{L}+"}
SPECIAL = ("<|pad|>", "<|im_start|>", "<|im_end|>", "<|endoftext|>")
VISIBLE = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", *(f"[{n}]" for n in range(1, 10)))
RESERVED = tuple(f"<|reserved_{n}|>" for n in range(32 - len(SPECIAL) - len(VISIBLE)))


def train_tokenizer(texts: list[str], vocabulary: int, apart: str = "capital") -> Tokenizer:
    """Train the BPE on separated pieces and return it under the pre-tokeniser that is shipped."""
    regex = rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|{_WORDS[apart]}|\p{{N}}| |[^\s\p{{L}}\p{{N}}]|\s*[\r\n]+|\s+(?!\S)|\s+"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(regex), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    names = [*SPECIAL, *VISIBLE, *RESERVED]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=names,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return under_qwen2(tokenizer)


def under_qwen2(tokenizer: Tokenizer) -> Tokenizer:
    """The same vocabulary and merges under the regex that transformers and llama.cpp both know."""
    state = json.loads(tokenizer.to_str())
    shipped = Tokenizer(models.BPE(vocab=state["model"]["vocab"], merges=[tuple(m) for m in state["model"]["merges"]]))
    shipped.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    shipped.decoder = decoders.ByteLevel()
    shipped.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in (*SPECIAL, *RESERVED)])
    shipped.add_tokens([AddedToken(t, special=False, normalized=False) for t in VISIBLE])
    return shipped


def synthetic_texts(forms: Path, harvested: dict[str, list[str]], real: list[str], count: int) -> list[str]:
    """Generated conversations as text, so that the vocabulary knows their wording."""
    rng = random.Random(1)
    composer = Composer(read_forms(forms), Pools(harvested, "train", rng), rng, real)
    texts = []
    for _ in range(count):
        passages, turns = composer.conversation(rng.randint(2, 6), passages=1)
        texts.append("\n\n".join(p.text for p in passages) + "".join(f"\n{t.question}\n {t.answer}" for t in turns))
        if rng.random() < 0.15:
            call = make_call(composer.pools, rng)
            texts.append(json.dumps(call.tools[0]) + "\n" + call.request + "\n" + call.answer)
    return texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="folder of the open text (see DATA_CARD.md)")
    parser.add_argument("--forms", type=Path, default=Path("forms"))
    parser.add_argument("--out", type=Path, default=Path("build"))
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument(
        "--apart",
        choices=("all", "capital", "none"),
        default="capital",
        help="before which words the space is a token of its own",
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    texts = list(sources.read_all(options.text))
    train = [t for t in texts if not t.held_out]
    save_harvest(harvest(t.text for t in train), options.out / "pools.json")
    harvested = load_harvest(options.out / "pools.json")

    rng = random.Random(0)
    real = [t.text for t in train]
    sample = rng.sample(real, len(real) // 3)
    tokenizer = train_tokenizer(
        sample + synthetic_texts(options.forms, harvested, real, 12000), options.vocabulary, options.apart
    )
    tokenizer.save(str(options.out / "tokenizer.json"))
    special = SpecialTokens(tokenizer)

    for name, documents in (("train", train), ("heldout", [t for t in texts if t.held_out])):
        order = list(documents)
        rng.shuffle(order)
        ids: list[int] = []
        for start in range(0, len(order), 512):
            for encoding in tokenizer.encode_batch(
                [t.text for t in order[start : start + 512]], add_special_tokens=False
            ):
                ids.append(special.end_of_text)
                ids += encoding.ids
        np.save(options.out / f"text_{name}.npy", np.array(ids, dtype=np.uint16))
        shown = [(t.field, t.title, t.text) for t in order]
        (options.out / f"documents_{name}.json").write_text(json.dumps(shown))
        asked = questions.ask_documents(shown, seed=0)
        questions.save(options.out / f"questions_{name}.json", asked)
        print(f"{name}: {sum(len(a.pairs) for a in asked)} questions over {len(asked)} real passages")
        chars = sum(len(t.text) for t in order)
        print(
            f"{name}: {len(order)} documents, {chars / 1e6:.1f} M characters, {len(ids) / 1e6:.2f} M tokens, {chars / len(ids):.2f} characters a token"
        )


if __name__ == "__main__":
    main()
