"""Batch files, and the export command as tests call it."""

import json

from remid_jax.data import export


def lines_of(file):
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]


def answer(custom_id, text, finish="stop", **more):
    """A line of a batch output file, as OpenAI and vLLM write it."""
    message = {"role": "assistant", "content": text, **more}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    body = {"id": "chatcmpl-1", "object": "chat.completion", "choices": [choice]}
    response = {"status_code": 200, "request_id": "r", "body": body}
    return {"id": "batch-1", "custom_id": custom_id, "response": response, "error": None}


def write_lines(file, rows):
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    file.write_text(text, encoding="utf-8")
    return file


def run(capsys, *argv):
    code = export.main([str(a) for a in argv])
    out, err = capsys.readouterr()
    return code, out, err


def refused(capsys, *argv):
    """The one line of an error."""
    code, out, err = run(capsys, *argv)
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1
    return err
