"""A benchmark file of two subsets with short texts, for runs of the whole line in seconds."""

import json

WORDS = ("Ann", "Bob", "Cleo", "Dora")


def records(tag, split, same=()):
    """Four short samples of one subset; `same` factors are alike in all."""
    extra = "" if tag == "IDTest" else " from Bonn"
    return [
        {
            "sample_ID": f"{split}_{i}",
            "user_persona": f"{WORDS['user' not in same and i]} is {20 + i}{extra}.",
            "agent_character": {"name": WORDS[-1 - ("character" not in same and i)]},
            "dialogue_context": [{"user_query": f"Hello, I saw {i + 2} birds{extra}."}],
            "agent_golden_response": f"{WORDS[i]}, which {i + 2} birds?",
            "subset_tag": tag,
        }
        for i in range(4)
    ]


def write_benchmark(path, same=()):
    splits = {"IDTest": "IDTest", "OOD1Test": "german"}
    content = {split: records(tag, split, same) for split, tag in splits.items()}
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)
