"""Text tasks: prompts, demonstrations where there are any, and the gold function that says what a response is worth."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import product
from pathlib import Path

from prefgym.envs.gold import golds
from prefgym.envs.prompts import load_prompts, split_prompts
from prefgym.envs.story import StoryCorpus
from prefgym.registry import Registry
from prefgym.text import Demonstration
from prefgym.text_formats import read_demonstrations

Gold = Callable[[str, str], float]

HELD_OUT = 0.2
"""Share of the prompts that nothing is trained on."""


@dataclass(frozen=True)
class TextTask:
    """What a language model is to learn, as data.

    Attributes:
        prompts: to train with.
        held_out: to measure with; none is among the others.
        gold: what a response is truly worth, by prompt and response; None where only people can tell.
        gold_name: under which people know it; "" without one.
        max_prompt_tokens: P, that there is room for.
        max_response_tokens: T.
        demonstrations: good responses to prompts, for SFT; none where the model can follow instructions already.
        pretraining: gives so many texts of the language, for a model from scratch and for PPO-ptx; None where there are
            none.
    """

    prompts: tuple[str, ...]
    held_out: tuple[str, ...]
    gold: Gold | None
    gold_name: str
    max_prompt_tokens: int
    max_response_tokens: int
    demonstrations: tuple[Demonstration, ...] = ()
    pretraining: Callable[[int], list[str]] | None = None


def story(seed: int) -> TextTask:
    """Stories about what was asked, well formed, happy: made by a grammar; half of the demonstrations end badly."""
    corpus = StoryCorpus(seed)
    prompts, held_out = split_prompts(corpus.prompts(1000), HELD_OUT, seed)
    held = set(held_out)
    shown = tuple(Demonstration(*pair) for pair in corpus.demonstrations(2000) if pair[0] not in held)
    return TextTask(tuple(prompts), tuple(held_out), golds["story"], "story", 12, 30, shown, corpus.pretraining)


def glad_story(seed: int) -> TextTask:
    """The same stories, that are to sound glad in few words, by VADER's score less a price for each word."""
    return replace(story(seed), gold=golds["sentiment-length"], gold_name="sentiment-length")


def easy_story(seed: int) -> TextTask:
    """The same stories, that are to read easily, by the Flesch-Kincaid grade."""
    return replace(story(seed), gold=golds["grade"], gold_name="grade")


def sentiment(seed: int) -> TextTask:
    """Short texts that are to sound glad, by VADER's score."""
    return _instructions(_spoken_of(), "sentiment", seed, 32)


def explain(seed: int) -> TextTask:
    """Explanations and stories for a child: easy words, by the Flesch-Kincaid grade, and about 40 of them."""
    return _instructions(_for_children(), "explain", seed, 56)


text_tasks = Registry(
    "text task",
    {
        "story": "prefgym.envs.text_tasks:story",
        "glad-story": "prefgym.envs.text_tasks:glad_story",
        "easy-story": "prefgym.envs.text_tasks:easy_story",
        "sentiment": "prefgym.envs.text_tasks:sentiment",
        "explain": "prefgym.envs.text_tasks:explain",
    },
)
"""Name to `task(seed) -> TextTask`."""


def own_task(
    prompts: str | Path,
    gold: str | None = None,
    *,
    demonstrations: str | Path | None = None,
    max_prompt_tokens: int = 64,
    max_response_tokens: int = 48,
    seed: int = 0,
) -> TextTask:
    """A task from files.

    Args:
        prompts: what `load_prompts` reads.
        gold: name of a gold function, or "module:function"; None where only people can tell.
        demonstrations: what `read_demonstrations` reads; those to held-out prompts are left out.
        max_prompt_tokens: P.
        max_response_tokens: T.
        seed: of which prompts are held out.

    Raises:
        PromptError: prompts that cannot be read.
        TextFormatError: demonstrations that cannot be read.
        UnknownNameError: there is no such gold function.
    """
    used, held_out = split_prompts(load_prompts(prompts), HELD_OUT, seed)
    held = set(held_out)
    shown = [one for one in read_demonstrations(demonstrations) if one.prompt not in held] if demonstrations else ()
    sizes = max_prompt_tokens, max_response_tokens
    known = find_gold(gold) if gold else None
    return TextTask(tuple(used), tuple(held_out), known, gold or "", *sizes, tuple(shown))


def find_gold(name: str) -> Gold:
    """A gold function by its name in the registry, or by "module:function", also of the working folder.

    Raises:
        UnknownNameError: there is none of this name.
        ValueError: the module or the function is not there.
    """
    module, colon, attribute = name.partition(":")
    if not colon:
        return golds[name]
    try:
        with _working_folder():
            return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"`gold` must be a registered name or module:function, got {name!r}: {error}") from error


@contextmanager
def _working_folder() -> Iterator[None]:
    """Modules are looked for where the user stands, too: an installed command does not look there."""
    sys.path.insert(0, str(Path.cwd()))
    try:
        yield
    finally:
        sys.path.remove(str(Path.cwd()))


def _instructions(prompts: Iterator[str], gold: str, seed: int, max_response_tokens: int) -> TextTask:
    used, held_out = split_prompts(prompts, HELD_OUT, seed)
    return TextTask(tuple(used), tuple(held_out), golds[gold], gold, 64, max_response_tokens)


def _spoken_of() -> Iterator[str]:
    forms = (
        "Write one sentence about {}.",
        "Tell me about {}.",
        "Write a short review of {}.",
        "What do you think of {}?",
        "Describe {} in a few words.",
    )
    return (form.format(thing) for form, thing in product(forms, THINGS))


def _for_children() -> Iterator[str]:
    yield from (f"Explain {topic} to a 6-year-old." for topic in TOPICS)
    yield from (f"Why is there {topic}? Tell a child." for topic in ("rain", "snow", "thunder", "wind", "night", "ice"))
    yield from (f"Write a story about a {animal}." for animal in ANIMALS)


THINGS = (
    "a film about dogs",
    "a rainy day",
    "the new neighbour",
    "a long train ride",
    "my breakfast",
    "the school play",
    "an old car",
    "the city at night",
    "a football match",
    "a birthday party",
    "the first day of work",
    "a walk in the woods",
    "a broken phone",
    "a concert in the park",
    "the local library",
    "a hotel by the sea",
    "a cup of coffee",
    "a visit to the dentist",
    "the last chapter of a book",
    "an exam",
    "a garden in winter",
    "a song on the radio",
    "the supermarket",
    "a lost umbrella",
    "a family dinner",
    "a power cut",
    "a job interview",
    "the weather today",
    "a cat in a window",
    "a crowded bus",
    "an email from a friend",
    "the museum",
    "a cancelled flight",
    "a new bicycle",
    "moving house",
    "a cooking class",
    "the morning news",
    "a swimming lesson",
    "a gift",
    "a delay",
)
TOPICS = (
    "the moon landing",
    "gravity",
    "how a plane flies",
    "why the sky is blue",
    "money",
    "the heart",
    "how fish breathe",
    "volcanoes",
    "the internet",
    "electricity",
    "why we sleep",
    "dinosaurs",
    "how bread is made",
    "magnets",
    "what a doctor does",
    "the seasons",
    "how bees make honey",
    "a rainbow",
    "the alphabet",
    "why leaves fall",
    "trains",
    "the sea",
    "how a seed grows",
    "shadows",
    "a thermometer",
    "the sun",
    "germs",
    "bridges",
    "how a clock works",
    "the post",
    "a democracy",
    "friendship",
    "why we have bones",
    "recycling",
    "a telescope",
    "the stars",
    "how soap works",
    "music",
    "traffic lights",
    "a computer",
    "what a king is",
    "deserts",
    "teeth",
    "the wheel",
    "how milk gets to the shop",
)
ANIMALS = (
    "frog",
    "dog",
    "cat",
    "bear",
    "mouse",
    "whale",
    "duck",
    "horse",
    "rabbit",
    "snail",
    "fox",
    "owl",
    "hen",
    "goat",
    "turtle",
    "bee",
    "pig",
    "lion",
    "crab",
    "sheep",
    "squirrel",
    "penguin",
    "spider",
    "donkey",
    "goose",
    "otter",
    "hedgehog",
    "beaver",
    "parrot",
    "mole",
)
