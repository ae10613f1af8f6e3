"""What a run will cost, as a table."""

from collections.abc import Mapping
from typing import Any

from remid_jax.progress import duration
from remid_jax.report.tables import new_table, print_whole
from remid_jax.report.text import short, wrapped

STAGE = 56  # cells of a stage's name
NAME = 50  # of a model's on its server, and of the URL


def print_cost(record: Mapping[str, Any]) -> None:
    """Prints what a run would cost.

    Args:
      record: `stages`, each with `what`, `contexts`, `pairs`, `tokens`, `flops`, `seconds` and,
        where some of it is an upper estimate, `known_share`; `rate` in FLOP/s; `servers`, each with
        `model`, `url`, `calls`, `input_tokens`, `output_tokens` and `cost` (None: unknown);
        `at_home`; and what `memory_line` reads.
    """
    stages, servers = record["stages"], record["servers"]
    for one in servers:
        print("\n".join(wrapped(asked_line(one))))
    if not stages:
        if not servers:
            print("nothing is left to do: every result is in the cache")
        return
    columns = ("", "contexts", "pairs", "tokens", "TFLOP", "expected time")
    table = new_table("what this run would do, at most", columns, map(_row, stages))
    table.add_section()
    keys = ("contexts", "pairs", "tokens", "flops", "seconds")
    table.add_row(*_row({"what": "in all", **{k: sum(s[k] for s in stages) for k in keys}}))
    print_whole(table)
    time = f"time at {record['rate'] / 1e9:.0f} GFLOP/s, measured just now"
    said = [f"{time}, without compilation (once); what is in the cache is not counted"]
    said.append(memory_line(record))
    at_home = record["at_home"]
    if at_home["best"] > at_home["contexts"]:
        said.append(
            f"{at_home['shifted']} shifted subsets share {at_home['contexts']} in-distribution "
            f"contexts; where samples are not pairs, {at_home['best']} are best "
            "(config.limits.in_distribution_contexts)"
        )
    print("\n".join(line for x in said for line in wrapped(x)))


def asked_line(one: Mapping[str, Any]) -> str:
    """What a server would be asked, at most; see `print_cost`."""
    cost = one["cost"]
    money = "cost unknown (config.server.prices)" if cost is None else f"cost {cost:.4g}"
    return (
        f"{short(one['model'], NAME)} at {short(one['url'], NAME)}: {one['calls']:,} calls, about "
        f"{one['input_tokens']:,} input tokens, at most {one['output_tokens']:,} output tokens, "
        f"{money}"
    )


def _row(stage: Mapping[str, Any]) -> tuple[str, ...]:
    what, known = short(stage["what"], STAGE), stage.get("known_share", 1.0)
    what += f" ({known:.0%} known)" * (known < 1)
    pairs, seconds = stage["pairs"], stage["seconds"]
    counts = (f"{stage['contexts']:,}", f"{pairs:,}" if pairs else "", f"{stage['tokens']:,}")
    return (what, *counts, f"{stage['flops'] / 1e12:.2f}", duration(seconds))


def memory_line(record: Mapping[str, Any]) -> str:
    """`weights` and `memory` (bytes of a device) of `devices`, and the sizes chosen from them.

    `longest` is in tokens, `sizes` has `cache` in bytes and `chunk`, `call` and `head` in tokens.
    """
    s, gib = record["sizes"], 2**30
    place = "" if record["devices"] == 1 else " of each device"
    return (
        f"memory{place}: {record['weights'] / gib:.2f} GiB of weights, "
        f"{record['memory'] / gib:.2f} GiB beside them (config.limits.memory_bytes), of which "
        f"{s['cache'] / gib:.2f} GiB for cached prompts of up to {record['longest']:,} tokens; "
        f"prompts run in pieces of {s['chunk']:,} tokens, responses of {s['call']:,}, logits of "
        f"{s['head']:,} tokens"
    )
