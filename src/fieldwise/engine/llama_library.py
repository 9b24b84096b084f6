"""The C functions of llama.cpp, called through ctypes in the shared library that the package xllamacpp brings.

No compiler is needed: the library exports llama.cpp's C interface and its quantisers. That is an accident of how
it is built, not a promise, so one exact version is accepted and everything that could differ is checked before
the first use: names of functions, versions, the size and place of every field of the structures, default values.
The structures follow `llama.h` and `ggml.h` of that version.
"""

from __future__ import annotations

import ctypes
import importlib.util
import platform
import threading
from collections import deque
from ctypes import (
    POINTER,
    Structure,
    c_bool,
    c_char_p,
    c_float,
    c_int8,
    c_int32,
    c_int64,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from functools import lru_cache
from pathlib import Path
from typing import Any

from fieldwise.engine.threads import sleeping_threads
from fieldwise.errors import MissingExtra, ModelError
from fieldwise.extras import installed_version

PACKAGE = "xllamacpp"
PACKAGE_VERSION = "2026.10.11549"
_FIX = f"Install exactly this version: pip install {PACKAGE}=={PACKAGE_VERSION}"
_VERSIONS = {"llama_version": b"0.6.0-dev", "ggml_version": b"0.26.0"}

TYPE_F32, TYPE_F16, TYPE_Q8_0 = 0, 1, 8
FLASH_ATTENTION_AUTO, FLASH_ATTENTION_OFF = -1, 0


class ModelParams(Structure):
    """`llama_model_params`; take it from `llama_model_default_params` and change single fields."""

    _fields_ = (
        ("devices", c_void_p),
        ("tensor_buft_overrides", c_void_p),
        ("n_gpu_layers", c_int32),
        ("split_mode", c_int32),
        ("load_mode", c_int32),
        ("lazy_mode", c_int32),
        ("main_gpu", c_int32),
        ("tensor_split", c_void_p),
        ("progress_callback", c_void_p),
        ("progress_callback_user_data", c_void_p),
        ("kv_overrides", c_void_p),
        ("vocab_only", c_bool),
        ("check_tensors", c_bool),
        ("use_extra_bufts", c_bool),
        ("no_host", c_bool),
        ("no_alloc", c_bool),
        ("load_mtp", c_bool),
    )


class ContextParams(Structure):
    """`llama_context_params`; take it from `llama_context_default_params` and change single fields."""

    _fields_ = (
        ("n_ctx", c_uint32),
        ("n_batch", c_uint32),
        ("n_ubatch", c_uint32),
        ("n_seq_max", c_uint32),
        ("n_rs_seq", c_uint32),
        ("n_outputs_max", c_uint32),
        ("n_outputs_max_per_seq", c_uint32),
        ("n_threads", c_int32),
        ("n_threads_batch", c_int32),
        ("ctx_type", c_int32),
        ("rope_scaling_type", c_int32),
        ("pooling_type", c_int32),
        ("attention_type", c_int32),
        ("flash_attn_type", c_int32),
        ("rope_freq_base", c_float),
        ("rope_freq_scale", c_float),
        ("yarn_ext_factor", c_float),
        ("yarn_attn_factor", c_float),
        ("yarn_beta_fast", c_float),
        ("yarn_beta_slow", c_float),
        ("yarn_orig_ctx", c_uint32),
        ("defrag_thold", c_float),
        ("cb_eval", c_void_p),
        ("cb_eval_user_data", c_void_p),
        ("type_k", c_int32),
        ("type_v", c_int32),
        ("moe_cache", c_uint64),
        ("abort_callback", c_void_p),
        ("abort_callback_data", c_void_p),
        ("embeddings", c_bool),
        ("offload_kqv", c_bool),
        ("no_perf", c_bool),
        ("op_offload", c_bool),
        ("swa_full", c_bool),
        ("kv_unified", c_bool),
        ("samplers", c_void_p),
        ("n_samplers", c_size_t),
        ("ctx_other", c_void_p),
    )


class Batch(Structure):
    """`llama_batch`: tokens with their positions and sequences; the arrays belong to whoever fills them."""

    _fields_ = (
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", POINTER(c_float)),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(c_int8)),
    )


_LOG_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_int, c_char_p, c_void_p)
_MODEL, _CONTEXT, _VOCABULARY, _MEMORY = c_void_p, c_void_p, c_void_p, c_void_p
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "llama_version": (c_char_p, ()),
    "llama_log_set": (None, (_LOG_CALLBACK, c_void_p)),
    "llama_backend_init": (None, ()),
    "llama_model_default_params": (ModelParams, ()),
    "llama_context_default_params": (ContextParams, ()),
    "llama_model_load_from_file": (_MODEL, (c_char_p, ModelParams)),
    "llama_model_free": (None, (_MODEL,)),
    "llama_model_get_vocab": (_VOCABULARY, (_MODEL,)),
    "llama_model_n_ctx_train": (c_int32, (_MODEL,)),
    "llama_model_n_params": (c_uint64, (_MODEL,)),
    "llama_model_desc": (c_int32, (_MODEL, c_char_p, c_size_t)),
    "llama_model_meta_val_str": (c_int32, (_MODEL, c_char_p, c_char_p, c_size_t)),
    "llama_model_chat_template": (c_char_p, (_MODEL, c_char_p)),
    "llama_model_has_encoder": (c_bool, (_MODEL,)),
    "llama_vocab_n_tokens": (c_int32, (_VOCABULARY,)),
    "llama_vocab_get_text": (c_char_p, (_VOCABULARY, c_int32)),
    "llama_vocab_is_control": (c_bool, (_VOCABULARY, c_int32)),
    "llama_vocab_is_eog": (c_bool, (_VOCABULARY, c_int32)),
    "llama_tokenize": (c_int32, (_VOCABULARY, c_char_p, c_int32, POINTER(c_int32), c_int32, c_bool, c_bool)),
    "llama_token_to_piece": (c_int32, (_VOCABULARY, c_int32, c_char_p, c_int32, c_int32, c_bool)),
    "llama_init_from_model": (_CONTEXT, (_MODEL, ContextParams)),
    "llama_free": (None, (_CONTEXT,)),
    "llama_n_ctx_seq": (c_uint32, (_CONTEXT,)),
    "llama_n_batch": (c_uint32, (_CONTEXT,)),
    "llama_get_memory": (_MEMORY, (_CONTEXT,)),
    "llama_memory_clear": (None, (_MEMORY, c_bool)),
    "llama_memory_seq_rm": (c_bool, (_MEMORY, c_int32, c_int32, c_int32)),
    "llama_batch_init": (Batch, (c_int32, c_int32, c_int32)),
    "llama_batch_free": (None, (Batch,)),
    "llama_decode": (c_int32, (_CONTEXT, Batch)),
    "llama_synchronize": (None, (_CONTEXT,)),
    "llama_get_logits": (c_void_p, (_CONTEXT,)),
    "ggml_version": (c_char_p, ()),
    "ggml_quantize_chunk": (c_size_t, (c_int32, c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p)),
    "ggml_row_size": (c_size_t, (c_int32, c_int64)),
    "ggml_type_name": (c_char_p, (c_int32,)),
}
_DEFAULTS: dict[str, dict[str, object]] = {
    "llama_model_default_params": {
        "devices": None,
        "n_gpu_layers": -1,
        "split_mode": 1,
        "load_mode": -1,
        "lazy_mode": 1,
        "main_gpu": 0,
        "vocab_only": False,
        "check_tensors": False,
        "use_extra_bufts": True,
        "no_alloc": False,
    },
    "llama_context_default_params": {
        "n_ctx": 512,
        "n_batch": 2048,
        "n_ubatch": 512,
        "n_seq_max": 1,
        "rope_scaling_type": -1,
        "pooling_type": -1,
        "flash_attn_type": -1,
        "yarn_ext_factor": -1.0,
        "type_k": TYPE_F16,
        "type_v": TYPE_F16,
        "moe_cache": 0,
        "embeddings": False,
        "offload_kqv": True,
        "op_offload": True,
        "kv_unified": False,
        "n_samplers": 0,
        "ctx_other": None,
    },
}

_lock = threading.Lock()
_log_lines: deque[str] = deque(maxlen=12)


@lru_cache(maxsize=1)
def _loaded() -> ctypes.CDLL:
    library = _open(_find())
    _bind(library)
    _check_versions(library)
    _check_layout(library)
    _check_defaults(library)
    self_test(library)
    library.llama_log_set(_keep_log_line, None)
    library.llama_backend_init()
    return library


def load() -> ctypes.CDLL:
    """Return the library, checked and ready.

    Raises MissingExtra when the package is not installed, ModelError when it is not the one these bindings fit.
    """
    with _lock:
        return _loaded()


def take_log() -> str:
    """Return the last warnings and errors llama.cpp wrote, and forget them; they never reach the terminal."""
    lines = [line for line in _log_lines if line]
    _log_lines.clear()
    return " | ".join(lines[-3:])


def _find() -> Path:
    version = installed_version(PACKAGE)
    if version is None:
        raise MissingExtra(
            f"the library {PACKAGE!r} is needed to quantise and run GGUF files",
            fix="Install it with: pip install 'fieldwise[gguf]'",
        )
    if version != PACKAGE_VERSION:
        raise ModelError(f"this version of {PACKAGE} does not fit", found=version, fix=_FIX)
    spec = importlib.util.find_spec(PACKAGE)
    folders = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
    files = [
        file
        for folder in folders
        for pattern in (f"{PACKAGE}*.so", f"{PACKAGE}*.dylib", f"{PACKAGE}*.pyd")
        for file in sorted(folder.glob(pattern))
    ]
    if not files:
        raise ModelError(
            f"{PACKAGE} brings no library for this platform",
            where=folders[0] if folders else None,
            found=platform.platform(),
            fix="Run GGUF files on Linux, or use the transformers engine.",
        )
    return files[0]


def _open(path: Path) -> ctypes.CDLL:
    try:
        with sleeping_threads():
            return ctypes.CDLL(str(path))
    except OSError as error:
        fix = "Install the package libgomp1 of the operating system." if "libgomp" in str(error) else _FIX
        raise ModelError("the llama.cpp library cannot be loaded", where=path, found=str(error), fix=fix) from error


def _bind(library: ctypes.CDLL) -> None:
    missing = [name for name in _FUNCTIONS if not hasattr(library, name)]
    if missing:
        raise ModelError(
            f"{PACKAGE} does not export the functions of llama.cpp", found=f"no {', '.join(missing[:5])}", fix=_FIX
        )
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments


def _check_versions(library: ctypes.CDLL) -> None:
    for name, wanted in _VERSIONS.items():
        found = getattr(library, name)()
        if found != wanted:
            raise ModelError(
                f"another {name.partition('_')[0]} than {wanted.decode()} is inside {PACKAGE}", found=found, fix=_FIX
            )


def _check_layout(library: ctypes.CDLL) -> None:
    """Compare which bytes the library writes with where our fields lie: every field, and nothing beside them."""
    if platform.machine() != "x86_64":
        return  # elsewhere large structures are returned in another way, and the defaults must do as a check
    for name, structure in (
        ("llama_model_default_params", ModelParams),
        ("llama_context_default_params", ContextParams),
    ):
        ours = {
            field.offset + n
            for field in (getattr(structure, entry[0]) for entry in structure._fields_)
            for n in range(field.size)
        }
        if written_bytes(getattr(library, name)) != ours:
            raise ModelError(
                f"the structure of {name} has another layout",
                found=f"{ctypes.sizeof(structure)} bytes expected",
                fix=_FIX,
            )


def written_bytes(function: Any, room: int = 1024) -> set[int]:
    """Return the offsets a function writes that returns a large structure, which x86-64 passes by a hidden pointer."""
    raw = ctypes.CFUNCTYPE(c_void_p, c_void_p)(ctypes.cast(function, c_void_p).value or 0)
    images = []
    for pattern in (0xA5, 0x5A):
        buffer = ctypes.create_string_buffer(bytes([pattern]) * room, room)
        raw(ctypes.addressof(buffer))
        images.append(buffer.raw)
    return {n for n in range(room) if images[0][n] == images[1][n]}


def _check_defaults(library: ctypes.CDLL) -> None:
    for name, expected in _DEFAULTS.items():
        params = getattr(library, name)()
        odd = {field: getattr(params, field) for field, value in expected.items() if getattr(params, field) != value}
        if odd:
            raise ModelError(f"{name} has other defaults", found=odd, fix=_FIX)
    batch = library.llama_batch_init(1, 0, 1)
    is_sound = (
        batch.n_tokens == 0
        and not batch.embd
        and all((batch.token, batch.pos, batch.n_seq_id, batch.seq_id, batch.logits))
    )
    library.llama_batch_free(batch)
    if not is_sound:
        raise ModelError("the structure of llama_batch has another layout", fix=_FIX)


def self_test(library: ctypes.CDLL) -> None:
    """Quantise 32 known numbers and compare the bytes: -16 .. 15 in Q8_0 is a scale of 16/127 and round(127 n / 16)."""
    source = (c_float * 32)(*(float(n - 16) for n in range(32)))
    block = ctypes.create_string_buffer(34)
    size = library.ggml_quantize_chunk(TYPE_Q8_0, source, block, 0, 1, 32, None)
    numbers = list((c_int8 * 32).from_buffer_copy(block.raw, 2))
    wanted = [round(127 * (n - 16) / 16) for n in range(32)]
    if (
        size != 34
        or library.ggml_row_size(TYPE_Q8_0, 32) != 34
        or library.ggml_type_name(TYPE_Q8_0) != b"q8_0"
        or any(abs(a - b) > 1 for a, b in zip(numbers, wanted, strict=True))
    ):
        raise ModelError(
            "the quantiser of llama.cpp does not answer as expected", found=f"{size} bytes, {numbers[:4]} ...", fix=_FIX
        )


def _keep(level: int, text: bytes | None, _: object) -> None:
    warning, error, continued = 3, 4, 5
    line = (text or b"").decode("utf-8", "replace").strip()
    if level in (warning, error):
        _log_lines.append(line)
    elif level == continued and _log_lines and line:
        _log_lines[-1] += " " + line


_keep_log_line = _LOG_CALLBACK(_keep)  # named here so that it lives as long as the library may call it
