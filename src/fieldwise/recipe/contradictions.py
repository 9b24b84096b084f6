"""What only two settings together can say wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fieldwise.errors import FieldwiseError
from fieldwise.evaluate.metrics import METRICS, TIMES, by_judge, by_model, in_batches
from fieldwise.evaluate.settings import BY_PROBABILITY, RAG_SYSTEMS, RESERVED, EvaluateSettings
from fieldwise.llm.settings import EndpointSettings
from fieldwise.recipe.model import Recipe
from fieldwise.recipe.places import is_file
from fieldwise.recipe.problems import where


def contradictions(recipe: Recipe, places: dict[str, str]) -> Iterator[FieldwiseError]:
    """What only two settings together can say wrong: told now, not by the stage that would stumble over it."""

    def problem(key: str, what: str, found: object, fix: str) -> FieldwiseError:
        return FieldwiseError(what, where=where(key, places), found=found, fix=fix)

    model, release, evaluate, retrieve = recipe.base.model, recipe.release, recipe.evaluate, recipe.retrieve
    if recipe.base.revision is not None and model.startswith(("fieldwise-nano", ".", "~", "/")):
        yield problem("base.revision", "only a Hugging Face id has revisions", model, "Leave the key out.")
    if retrieve.candidates < retrieve.top_k:
        yield problem(
            "retrieve.candidates",
            f"fewer candidates than the {retrieve.top_k} passages of retrieve.top_k",
            retrieve.candidates,
            f"Take at least {retrieve.top_k}.",
        )
    if release.serve not in release.quantisations:
        yield problem(
            "release.serve",
            "the file to serve is not among release.quantisations",
            release.serve,
            f"Add it there, or choose one of: {', '.join(release.quantisations) or 'none yet'}.",
        )
    yield from _endpoint_problems(recipe, problem)
    yield from _reinforcement_problems(recipe, problem)
    if evaluate.questions is None and recipe.generate.split.test == 0:
        yield problem(
            "generate.split.test",
            "nothing is left to measure on",
            0,
            "Raise it, or name a file with evaluate.questions.",
        )
    yield from _suite_problems(recipe, problem)
    yield from _endpoint_system_problems(evaluate, problem)
    yield from _gate_problems(evaluate, problem)


def _endpoint_system_problems(
    evaluate: EvaluateSettings, problem: Callable[..., FieldwiseError]
) -> Iterator[FieldwiseError]:
    """Names of systems at endpoints that cannot be told apart, and passages that nobody searches."""
    names = [e.name for e in evaluate.endpoints]
    for n, system in enumerate(evaluate.endpoints):
        key = f"evaluate.endpoints.{n}"
        if system.name in RESERVED or system.name in names[:n]:
            what = "the name of a system of this run" if system.name in RESERVED else "the name stands twice"
            yield problem(f"{key}.name", what, system.name, "Give it a name of its own, such as hosted.")
        if system.documents and not set(RAG_SYSTEMS) & set(evaluate.systems):
            yield problem(
                f"{key}.documents",
                "it is asked over the passages of rag_tuned or rag_base, which are not measured",
                ", ".join(evaluate.systems),
                "Add one of them to evaluate.systems, or set documents: false.",
            )


def _gate_problems(evaluate: EvaluateSettings, problem: Callable[..., FieldwiseError]) -> Iterator[FieldwiseError]:
    """Gates on what is not measured, and gates that require nothing."""
    named = [(f"evaluate.regressions.{n}.metric", r.metric) for n, r in enumerate(evaluate.regressions)]
    for key, metric in named + [(f"evaluate.gates.{n}.metric", g.metric) for n, g in enumerate(evaluate.gates)]:
        if metric not in METRICS:
            yield problem(key, "unknown metric", metric, f"There are: {', '.join(METRICS)}.")
        elif METRICS[metric].score is in_batches and not evaluate.semantic:
            yield problem(key, "the metric is not measured", metric, "Set evaluate.semantic: true.")
        elif METRICS[metric].score is by_model and evaluate.nli is None:
            yield problem(key, "the metric is not measured", metric, "Name a folder with evaluate.nli.")
        elif METRICS[metric].score is by_judge and key.startswith("evaluate.gates"):
            fix = "No stage asks a judge: set evaluate.judge_at_least, or name it in evaluate.regressions."
            yield problem(key, "the metric is not measured", metric, fix)
    hosted = [e.name for e in evaluate.endpoints]
    for n, gate in enumerate(evaluate.gates):
        key = f"evaluate.gates.{n}"
        for name, system in (("system", gate.system), ("baseline", gate.baseline)):
            if system in hosted and gate.metric in (*BY_PROBABILITY, *TIMES):
                yield problem(
                    f"{key}.{name}",
                    f"{gate.metric} has no value at an endpoint",
                    system,
                    "Take another metric: an endpoint gives no probabilities of tokens, and its times are not measured.",
                )
            elif system is not None and system not in (*evaluate.systems, *hosted):
                yield problem(
                    f"{key}.{name}",
                    "the gate needs a system that is not measured",
                    system,
                    "Add it to evaluate.systems, or take the gate out of evaluate.gates.",
                )
        if gate.baseline == gate.system:
            yield problem(
                f"{key}.baseline", "a system cannot be its own baseline", gate.system, "Name another, or null."
            )
        if gate.baseline is None and gate.at_least is None:
            yield problem(key, "the gate requires nothing", None, "Give it a baseline, or a level with at_least.")


def _suite_problems(recipe: Recipe, problem: Callable[..., FieldwiseError]) -> Iterator[FieldwiseError]:
    """Names of suites that there are not, and one that stands twice."""
    names = [s.suite for s in recipe.evaluate.wanted_suites]
    if names:
        from fieldwise.suite.reading import shipped

        known = shipped()
        for n, name in enumerate(names):
            key = f"evaluate.suites.{n}"
            if name in names[:n]:
                yield problem(key, "the suite stands twice", name, "Name it once.")
            elif name.startswith("lm-eval:"):
                yield problem(
                    key,
                    "a task by name is no suite of a release: its data come over the network and have no hash",
                    name,
                    "Name a task file over local data: tasks/mine.yaml with dataset_path: json.",
                )
            elif not is_file(name) and name not in known:
                yield problem(
                    key, "no suite has this name", name, f"There are: {', '.join(known)}; a file ends in .yaml."
                )


def _reinforcement_problems(recipe: Recipe, problem: Callable[..., FieldwiseError]) -> Iterator[FieldwiseError]:
    """What train.rl needs of other sections, and who needs it."""
    rl = recipe.train.rl
    if "rl" in recipe.evaluate.systems and not rl.enabled:
        yield problem(
            "evaluate.systems",
            "rl is measured only after reinforcement learning",
            "train.rl.enabled: false",
            "Set train.rl.enabled=true, or take rl out of the list.",
        )
    if not rl.enabled:
        return
    if "reward_model" in rl.rewards and not recipe.train.reward.enabled:
        yield problem(
            "train.rl.rewards",
            "the reward model is not trained",
            "reward_model",
            "Set train.reward.enabled=true, or take it out.",
        )
    if rl.method != "ppo" and rl.batch_size % rl.generations:
        yield problem(
            "train.rl.generations",
            f"no divisor of the {rl.batch_size} replies of train.rl.batch_size",
            rl.generations,
            "A step takes all replies to a prompt: choose a multiple of it for train.rl.batch_size.",
        )


def _endpoint_problems(recipe: Recipe, problem: Callable[..., FieldwiseError]) -> Iterator[FieldwiseError]:
    """What endpoints that will be asked lack; the judge of evaluate may get its address from flags."""
    generate, judge = recipe.generate, recipe.evaluate.judge
    asked: list[tuple[str, str, EndpointSettings]] = []
    if generate.asks_endpoint:
        asked.append(("generate.endpoint", "the teacher openai", generate.endpoint))
    if generate.judge is not None and generate.from_documents:
        asked.append(("generate.judge.endpoint", "the judge", generate.judge.endpoint))
    if generate.candidates.prompts and (ranks := generate.candidates.judge) is not None:
        asked.append(("generate.candidates.judge.endpoint", "the judge of candidates", ranks.endpoint))
    if recipe.train.distillation is not None and (teacher := recipe.train.distillation.teacher.endpoint) is not None:
        asked.append(("train.distillation.teacher.endpoint", "the teacher", teacher))
    if recipe.serve.follow_up == "endpoint" or recipe.serve.search.rewrite == "endpoint":
        asked.append(("serve.search.endpoint", "the wording of searches", recipe.serve.search.endpoint))
    for n, system in enumerate(recipe.evaluate.endpoints):
        asked.append((f"evaluate.endpoints.{n}.endpoint", f"the system {system.name}", system.endpoint))
    for key, who, endpoint in asked:
        for name, example in (("base_url", "http://127.0.0.1:11434/v1"), ("model", "the name the endpoint gives it")):
            if getattr(endpoint, name) is None:
                fix = f"Name it, such as {example}: nothing is sent anywhere that the recipe does not name."
                yield problem(f"{key}.{name}", f"{who} needs it", "nothing", fix)
    priced = [(key, endpoint) for key, _, endpoint in asked]
    priced += [("evaluate.judge.endpoint", judge.endpoint)] if judge is not None else []
    for key, endpoint in priced:
        if endpoint.budget.money is not None and endpoint.price.input == endpoint.price.output == 0:
            yield problem(
                f"{key}.budget.money",
                "a budget of money needs prices",
                endpoint.budget.money,
                f"Give {key}.price.input and .output for a million tokens, or a budget of tokens.",
            )
