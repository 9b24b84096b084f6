"""The methods of the preference step: the trainer each takes, of TRL, and its options.

| method | loss, and where it is from | reference | TRL |
|---|---|---|---|
| dpo | Rafailov et al. 2023 (arXiv:2305.18290), or another of TRL's loss types | yes | `trl.DPOTrainer` |
| kto | Ethayarajh et al. 2024 (arXiv:2402.01306, equation 8): single replies, wanted or not | yes | `trl.KTOTrainer` |
| orpo | Hong et al. 2024 (arXiv:2403.07691, equations 6 and 7) | no | `trl.experimental.orpo` |
| simpo | Meng et al. 2024 (arXiv:2405.14734, equation 6) | no | `trl.experimental.cpo` |
| cpo | Xu et al. 2024 (arXiv:2401.08417, equation 5) | no | `trl.experimental.cpo` |

TRL's trainers of the last three score every position over the whole vocabulary, and ORPO's likelihood counts the prompt as
well. Here only the reply is scored, in tiles, as DPO does: less memory, and passages are not learnt by heart.
"""

from __future__ import annotations

from typing import Any

from fieldwise.extras import require
from fieldwise.train.labels import IGNORED
from fieldwise.train.memory import MemoryPlan
from fieldwise.train.preference_rows import Rows
from fieldwise.train.settings import PreferenceSettings


def trainer_of(settings: PreferenceSettings) -> tuple[Any, Any]:
    """Return TRL's trainer of a method and the class of its options."""
    place = {"orpo": "trl.experimental.orpo", "cpo": "trl.experimental.cpo", "simpo": "trl.experimental.cpo"}
    trl = require(place.get(settings.method, "trl"), extra="train", to="learn from preferences")
    if settings.method == "dpo":
        return trl.DPOTrainer, trl.DPOConfig
    if settings.method == "kto":
        return trl.KTOTrainer, trl.KTOConfig
    if settings.method == "orpo":
        return _replies_only(trl.ORPOTrainer), trl.ORPOConfig
    return _replies_only(trl.CPOTrainer), trl.CPOConfig


def options_of(settings: PreferenceSettings, plan: MemoryPlan, rows: Rows) -> dict[str, Any]:
    """Return what a trainer is told of the method."""
    # TRL switches every dropout off unless told otherwise, that of the adapter too
    common = {"beta": settings.strength, "disable_dropout": settings.lora.dropout == 0}
    if settings.has_reference:
        common["precompute_ref_log_probs"] = plan.reference == "precomputed"
    if settings.method == "dpo":
        return {
            **common,
            "loss_type": list(settings.loss),
            "loss_weights": list(settings.loss_weights) if settings.loss_weights else None,
            "label_smoothing": settings.label_smoothing,
            "ld_alpha": settings.ld_alpha,
        }
    if settings.method == "kto":
        wanted, unwanted = label_weights(settings, rows)
        return {**common, "desirable_weight": wanted, "undesirable_weight": unwanted}
    if settings.method == "simpo":
        return {**common, "loss_type": "simpo", "simpo_gamma": settings.margin, "cpo_alpha": 0.0}
    if settings.method == "cpo":
        return {**common, "cpo_alpha": settings.nll_weight, "label_smoothing": settings.label_smoothing}
    return common


def label_weights(settings: PreferenceSettings, rows: Rows) -> tuple[float, float]:
    """Return the weights of wanted and unwanted replies; left open, the rarer label counts as much as the other in all.

    The paper keeps the ratio of the two between 1 and 4/3 (arXiv:2402.01306, equation 9); here it is 1.
    """
    if settings.desirable_weight is not None or settings.undesirable_weight is not None:
        return settings.desirable_weight or 1.0, settings.undesirable_weight or 1.0
    wanted = sum(bool(row["label"]) for row in rows.rows)
    unwanted = len(rows.rows) - wanted
    return max(1.0, unwanted / wanted), max(1.0, wanted / unwanted)


def prepare(model: Any, settings: PreferenceSettings) -> None:
    """Make a model fit for its trainer: those that TRL gives whole logits get a scoring of the reply alone."""
    if settings.method in ("orpo", "cpo", "simpo"):
        utilities: Any = require("trl.trainer.utils", extra="train", to="learn from preferences")
        utilities.add_fused_lm_head(model, outputs=("log_probs", "mean_logits"))


def _replies_only(trainer: Any) -> Any:
    """Return a trainer of CPO's family that takes token ids and scores nothing but the replies."""
    torch = require("torch", extra="train", to="learn from preferences")

    class RepliesOnly(trainer):  # type: ignore[misc]
        """The losses are TRL's, the log-probabilities they are computed from are not."""

        def tokenize_row(self, feature: dict[str, list[int]], model: Any = None) -> dict[str, list[int]]:
            made = {}
            for side in ("chosen", "rejected"):
                ids = feature["prompt"] + feature[side]
                made[f"{side}_input_ids"] = ids
                made[f"{side}_attention_mask"] = [1] * len(ids)
                made[f"{side}_labels"] = [IGNORED] * len(feature["prompt"]) + feature[side]
            return made

        def concatenated_forward(self, model: Any, batch: dict[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
            inputs = self.concatenated_inputs(
                batch, padding_value=self.processing_class.pad_token_id, device=self.accelerator.device
            )
            labels = inputs["concatenated_labels"]
            scored = model(
                inputs["concatenated_input_ids"],
                attention_mask=inputs["concatenated_attention_mask"],
                labels=labels,
                use_cache=False,
                fused_lm_head=True,
            )
            is_reply = labels[:, 1:] != IGNORED
            by_token, count = scored.log_probs * is_reply, len(batch["chosen_labels"])
            logps = by_token.sum(-1)
            # ORPO's equation 2 and SimPO's equation 3: the mean over the tokens, CPO: their sum
            if getattr(self, "loss_type", "orpo") in ("orpo", "simpo"):
                logps = logps / is_reply.sum(-1)
            likelihood = -by_token[:count].sum() / is_reply[:count].sum()
            if getattr(self, "cpo_alpha", 1.0) == 0:
                likelihood = torch.zeros_like(likelihood)
            logits = scored.mean_logits
            return logps[:count], logps[count:], logits[:count], logits[count:], likelihood

    return RepliesOnly
