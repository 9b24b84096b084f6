"""A GGUF file opened with llama.cpp: its vocabulary and metadata, and the memory in which sequences are computed."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldwise.engine.llama_library import FLASH_ATTENTION_OFF, TYPE_F32, Batch, load, take_log
from fieldwise.errors import ModelError

_BATCH_TOKENS = 512
_MAGIC = b"GGUF"


class LlamaModel:
    """Weights and vocabulary of a GGUF file, mapped into memory; the vocabulary may be used from any thread."""

    def __init__(self, path: Path) -> None:
        _check_file(path)
        self.path = path
        self._library = load()
        take_log()
        handle = self._library.llama_model_load_from_file(
            str(path).encode(), self._library.llama_model_default_params()
        )
        if not handle:
            raise ModelError(
                "the GGUF file cannot be loaded",
                where=path,
                found=take_log() or None,
                fix="The file is incomplete or of an unknown kind: make it again with fieldwise run --stage 5, or download it again.",
            )
        self.handle: int | None = handle
        self._lock = threading.Lock()
        self._vocabulary = self._library.llama_model_get_vocab(handle)
        self._pieces: dict[int, bytes] = {}
        self.vocabulary_size = int(self._library.llama_vocab_n_tokens(self._vocabulary))
        self.context_tokens = int(self._library.llama_model_n_ctx_train(handle))
        template = self._library.llama_model_chat_template(handle, None)
        self.chat_template: str | None = template.decode("utf-8", "replace") if template else None
        self.special_tokens = self._special_tokens()
        self.control_tokens = self._control_tokens()
        if self._library.llama_model_has_encoder(handle):
            self.close()
            raise ModelError("only decoder models can be run", where=path, fix="Use a causal language model.")

    def tokenize(self, text: str) -> list[int]:
        """Return the ids of a text, special tokens recognised, none added."""
        encoded = text.encode("utf-8", "replace")
        if not encoded:
            return []
        with self._lock:
            self._require_open()
            room = len(encoded) + 16
            while True:
                buffer = (ctypes.c_int32 * room)()
                count = self._library.llama_tokenize(self._vocabulary, encoded, len(encoded), buffer, room, False, True)
                if count >= 0:
                    return list(buffer[:count])
                room = -count

    def piece(self, token: int) -> bytes:
        """Return the bytes a token stands for; control tokens stand for none."""
        known = self._pieces.get(token)
        if known is None:
            with self._lock:
                self._require_open()
                known = self._pieces[token] = self._read_piece(token)
        return known

    def is_end(self, token: int) -> bool:
        """Tell whether a token ends the reply."""
        with self._lock:
            self._require_open()
            return bool(self._library.llama_vocab_is_eog(self._vocabulary, token))

    def vocabulary_of(self, llguidance: Any) -> Any:
        """Return the vocabulary as llguidance reads it: the bytes of each token, control tokens apart."""
        control = [
            n
            for n in range(self.vocabulary_size)
            if self._library.llama_vocab_is_control(self._vocabulary, n) or self.is_end(n)
        ]
        names = {n: self._library.llama_vocab_get_text(self._vocabulary, n) for n in control}
        ends = [n for n in control if self.is_end(n)]
        if not ends:
            raise ModelError("the model has no token that ends a reply", where=self.path)
        tokens = [names[n] if n in names else self.piece(n) for n in range(self.vocabulary_size)]
        pictured = _Vocabulary(tokens, control, ends[0], self.tokenize)
        return llguidance.LLTokenizer(llguidance.TokenizerWrapper(pictured), eos_token=ends)

    def metadata(self, key: str) -> str | None:
        """Return a value of the file's header as text, or None."""
        buffer = ctypes.create_string_buffer(4096)
        length = self._library.llama_model_meta_val_str(self.handle, key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace") if length >= 0 else None

    def close(self) -> None:
        """Free the weights; a second call does nothing."""
        with self._lock:
            if self.handle is not None:
                self._library.llama_model_free(self.handle)
                self.handle = None

    def _require_open(self) -> None:
        if self.handle is None:
            raise ModelError("the engine is closed", where=self.path)

    def _read_piece(self, token: int) -> bytes:
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            length = self._library.llama_token_to_piece(self._vocabulary, token, buffer, room, 0, False)
            if length >= 0:
                return buffer.raw[:length]
            room = -length

    def _control_tokens(self) -> frozenset[str]:
        """Tokens that shape a conversation and must never come from its content."""
        library, vocabulary = self._library, self._vocabulary
        found = (
            library.llama_vocab_get_text(vocabulary, n).decode("utf-8", "replace")
            for n in range(self.vocabulary_size)
            if library.llama_vocab_is_control(vocabulary, n)
        )
        return frozenset(text for text in found if len(text) > 1)

    def _special_tokens(self) -> dict[str, str]:
        # from the header: for a byte-level vocabulary without them llama.cpp itself would name token 11
        found = {}
        for name, key in (
            ("bos_token", "bos"),
            ("eos_token", "eos"),
            ("unk_token", "unknown"),
            ("pad_token", "padding"),
        ):
            token = self.metadata(f"tokenizer.ggml.{key}_token_id")
            if token is not None and int(token) < self.vocabulary_size:
                found[name] = self._library.llama_vocab_get_text(self._vocabulary, int(token)).decode(
                    "utf-8", "replace"
                )
        return found


class _Vocabulary:
    """Under the names that llguidance reads."""

    def __init__(self, tokens: list[bytes], control: list[int], end: int, tokenize: Callable[[str], list[int]]) -> None:
        self.tokens, self.special_token_ids = tokens, control
        self.eos_token_id, self.bos_token_id = end, None
        self._tokenize = tokenize

    def __call__(self, text: bytes | str) -> list[int]:
        return self._tokenize(text.decode("utf-8", "replace") if isinstance(text, bytes) else text)


class LlamaContext:
    """Computes batches of tokens for several sequences; used from one thread at a time."""

    def __init__(self, model: LlamaModel, *, context_tokens: int, sequences: int, threads: int, exact: bool) -> None:
        self._library, self._model = load(), model
        params = self._library.llama_context_default_params()
        params.n_ctx = _padded(context_tokens) * sequences
        params.n_seq_max = sequences
        params.n_batch = params.n_ubatch = min(_BATCH_TOKENS, params.n_ctx)
        params.n_threads = params.n_threads_batch = threads
        if exact:
            params.type_k = params.type_v = TYPE_F32
            params.flash_attn_type = FLASH_ATTENTION_OFF
        take_log()
        handle = self._library.llama_init_from_model(model.handle, params)
        if not handle:
            raise ModelError(
                "llama.cpp cannot set up its memory",
                where=model.path,
                found=take_log() or None,
                fix="Ask for a shorter context or fewer parallel requests.",
            )
        self._handle: int | None = handle
        self._memory = self._library.llama_get_memory(handle)
        self.batch_tokens = int(self._library.llama_n_batch(handle))
        self._allocate(self.batch_tokens)

    def decode(
        self, tokens: Sequence[int], positions: Sequence[int], sequences: Sequence[int], wanted: Sequence[bool]
    ) -> NDArray[np.float32]:
        """Compute up to `batch_tokens` tokens; returns the logits of those that are wanted, one row each, in order.

        The rows are a view of llama.cpp's memory and hold until the next call.
        """
        count = len(tokens)
        self._token[:count], self._position[:count], self._sequence[:count], self._wanted[:count] = (
            tokens,
            positions,
            sequences,
            wanted,
        )
        self._batch.n_tokens = count
        take_log()
        status = self._library.llama_decode(self._handle, self._batch)
        if status != 0:
            raise ModelError(
                "llama.cpp could not compute a batch",
                where=self._model.path,
                found=f"status {status} for {count} tokens; {take_log()}",
                fix="Start again with a shorter context; if it stays, report it with this message.",
            )
        rows = int(self._wanted[:count].sum())
        if rows == 0:
            return np.empty((0, self._model.vocabulary_size), dtype=np.float32)
        self._library.llama_synchronize(self._handle)
        address = self._library.llama_get_logits(self._handle)
        numbers = (ctypes.c_float * (rows * self._model.vocabulary_size)).from_address(address)
        return np.frombuffer(memoryview(numbers), dtype=np.float32).reshape(rows, self._model.vocabulary_size)

    def forget(self, sequence: int, start: int = 0) -> bool:
        """Drop a sequence from a position on; False if only the whole of it can be dropped, which is then done."""
        if self._library.llama_memory_seq_rm(self._memory, sequence, start, -1):
            return True
        self._library.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        return False

    def clear(self) -> None:
        """Forget all sequences."""
        self._library.llama_memory_clear(self._memory, False)

    def close(self) -> None:
        """Free the memory; a second call does nothing."""
        if self._handle is not None:
            self._library.llama_free(self._handle)
            self._handle = None

    def _allocate(self, room: int) -> None:
        self._token = np.zeros(room, dtype=np.int32)
        self._position = np.zeros(room, dtype=np.int32)
        self._sequence = np.zeros(room, dtype=np.int32)
        self._wanted = np.zeros(room, dtype=np.int8)
        self._one = np.ones(room, dtype=np.int32)
        # llama.cpp wants a list of sequences per token: here always one, so each pointer leads to one number
        self._pointers = self._sequence.ctypes.data + 4 * np.arange(room, dtype=np.uint64)
        whole, byte = ctypes.POINTER(ctypes.c_int32), ctypes.POINTER(ctypes.c_int8)
        self._batch = Batch(
            n_tokens=0,
            token=self._token.ctypes.data_as(whole),
            embd=None,
            pos=self._position.ctypes.data_as(whole),
            n_seq_id=self._one.ctypes.data_as(whole),
            seq_id=self._pointers.ctypes.data_as(ctypes.POINTER(whole)),
            logits=self._wanted.ctypes.data_as(byte),
        )


def _padded(tokens: int) -> int:
    return (tokens + 255) // 256 * 256  # llama.cpp works in cells of 256


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise ModelError(
            "the GGUF file is not there", where=path, fix="Name a .gguf file, or make one with fieldwise run --stage 5."
        )
    with path.open("rb") as stream:
        magic = stream.read(4)
    if magic != _MAGIC:
        raise ModelError(
            "not a GGUF file",
            where=path,
            found=repr(magic),
            fix="Name a .gguf file; a folder with safetensors runs on the transformers engine.",
        )
