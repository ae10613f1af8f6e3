"""A benchmark file of three subsets with short texts, for runs of the whole line in seconds."""

import json

WORDS = ("Ann", "Bob", "Cleo", "Dora", "Emil", "Fay", "Gus", "Hera")


def records(tag, split, same=(), count=4):
    """Short samples of one subset, at most eight; `same` factors are alike in all."""
    extra = {"german": " from Bonn", "Literature": ", a poet"}.get(tag, "")
    return [
        {
            "sample_ID": f"{split}_{i}",
            "user_persona": f"{WORDS['user' not in same and i]} is {20 + i}{extra}.",
            "agent_character": {"name": WORDS[count - 1 - ("character" not in same and i)]},
            "dialogue_context": [{"user_query": f"Hello, I saw {i + 2} birds{extra}."}],
            "agent_golden_response": f"{WORDS[i]}, which {i + 2} birds?",
            "subset_tag": tag,
            **({} if tag == "IDTest" else {"pair_id": f"IDTest_{i}"}),
        }
        for i in range(count)
    ]


def write_benchmark(path, same=(), count=4):
    splits = {"IDTest": "IDTest", "OOD1Test": "german", "OOD2Test": "Literature"}
    content = {split: records(tag, split, same, count) for split, tag in splits.items()}
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)
