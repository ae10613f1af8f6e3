"""What was spoken, and nothing else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remid_jax.data.characters import name_in
from remid_jax.data.reading import load_benchmark
from remid_jax.data.speech import CUTS, find_speech, speech_of, spoken_tokens

NAME = "Florence Nightingale"


def spoken(text, character=NAME, **more):
    found = find_speech(text, character, **more)
    return speech_of(text, found), set(found.cuts) - {"white_space"}


@pytest.mark.parametrize("text", ["Aye.", "\r\n Aye. \u200b\ufeff\n", "\tAye."])
def test_edges(text):
    assert spoken(text) == ("Aye.", set())


@pytest.mark.parametrize(
    "text",
    [
        "<think>\nWho is it?\n</think>\n\nAye.",
        "<think>a</think>b</think>Aye.",
        "no tag opens it</think> Aye.",
        "<THINKING>a</THINKING>Aye.",
        "<reasoning>a</reasoning>\nAye.",
        "[THINK]a[/THINK]Aye.",
        "◁think▷a◁/think▷Aye.",
        "<seed:think>a</seed:think>Aye.",
        "<think >a</think >Aye.",
        "<scratchpad>a</scratchpad>Aye.",
        "<|channel>thought a<channel|>Aye.",
        "analysisWho is it?assistantfinalAye.",
        "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>Aye.",
    ],
)
def test_thoughts(text):
    assert spoken(text) == ("Aye.", {"thought"})


@pytest.mark.parametrize(
    "text",
    [
        "<|START_THINKING|>a<|END_THINKING|><|START_RESPONSE|>Aye.<|END_RESPONSE|>",
        "<|begin_of_thought|>a<|end_of_thought|>\n<|begin_of_solution|>Aye.<|end_of_solution|>",
        "<think>a</think><answer>Aye.</answer>",
        "<reflection>a</reflection>\n<output>Aye.</output>",
    ],
)
def test_thoughts_and_answers_in_marks(text):
    assert spoken(text) == ("Aye.", {"thought", "end_token"})


@pytest.mark.parametrize("text", ["<think>Who is it?", "Aye.</think><think>but", "<think></think>"])
def test_a_thought_without_end_or_alone_is_no_speech(text):
    assert spoken(text) == ("", {"thought"})


def test_a_thought_that_the_prompt_opened():
    assert spoken("Who is it?", opened_thought=True) == ("", {"thought"})
    assert spoken("Who?</think>Aye.", opened_thought=True) == ("Aye.", {"thought"})


@pytest.mark.parametrize(
    "label",
    [
        "Florence Nightingale:", "florence nightingale :", "Florence:", "Nightingale：",
        "**Florence Nightingale:**", "**Florence Nightingale**:", "**Florence Nightingale**\n",
        "*Florence:*", "[Florence Nightingale]:", "Florence (softly):", "Assistant:",
        "Assistant: Florence:", "{{char}}:", "The character:", "AI:", "Reply:", "### Response:",
        "AI Assistant:", "assistant\n\n", "model\n", "助手：", "Antwort:", "[Florence Nightingale]",
        "Florence Nightingale\n", "### Florence Nightingale\n", "- Florence:", "Florence says:",
        "Florence's response:", "Florence [smiling]:", "Florence *smiling*:", "Miss Nightingale:",
        "Florence_Nightingale:", "FlorenceNightingale:", "【Florence】：",
    ],
)  # fmt: skip
def test_speaker_labels(label):
    assert spoken(f"{label} Aye.") == ("Aye.", {"speaker_label"})


@pytest.mark.parametrize(
    "text",
    [
        "Florence is my name: remember it.",
        "The reply: none.",
        "Dear me: no.",
        "*Florence smiles* Aye.",
        "My model: a boat.",
        "Listen: aye.",
        "**Florence** nights are long.",
        "Model: that was my trade.",
        "I write <think> in my letters.",
        "Norm <|v|> it is, and more.",
        "### Human nature\nis vile.",
        "My plan:\n## User research\ncomes first.",
        "Tell them:\nYou: go!",
        "Human: that is what I am!",
    ],
)
def test_what_is_no_label(text):
    assert spoken(text) == (text, set())


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("弗洛伦斯·南丁格尔", "弗洛伦斯："), ("Jean-Luc Picard", "Jean:"),
        ('Robert "Bobby" Fischer', "Bobby:"), ("Lear, King of Britain", "Lear:"),
        ("Dr. John Watson", "Dr. Watson:"),
        ("Miles O'Brien", "O’Brien:"), ("E\u0301loïse", "Éloïse:"),
    ],
)  # fmt: skip
def test_parts_and_spellings_of_names(name, label):
    assert spoken(f"{label} Aye.", name) == ("Aye.", {"speaker_label"})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Will Smith", "**Will** you marry me?"), ("The Doctor", "The: an article."),
        ("Joan Of Arc", "Of: a word."), ("Agent 12", "12: a number."),
    ],
)  # fmt: skip
def test_what_is_no_name(name, text):
    assert spoken(text, name) == (text, set())


def test_a_short_name_and_a_name_with_particles():
    assert spoken("Ann: Aye.", "Ann Lee")[0] == "Aye."
    assert spoken("of: Aye.", "Joan of Arc")[0] == "of: Aye."
    assert spoken("李白：好。", "李白")[0] == "好。"
    assert spoken("C-3.P(O: beep.", "C-3.P(O")[0] == "beep."


@pytest.mark.parametrize(
    "tail",
    [
        "<|im_end|>", "<|eot_id|>", "</s>", "<|endoftext|>", "<|end_of_text|>", "<|end|>",
        "<end_of_turn>", "<eos>", "<｜end▁of▁sentence｜>", "<|im_end|>\n<|endoftext|> ",
        "</s></s>", "<|END_OF_TURN_TOKEN|>", " [end of text]", "[|endofturn|]", "<turn|>", "<unk>",
        "[PAD][PAD]", "<end_of_sentence>", "</assistant>", "<|im_end|", "<|im_end",
 "<|im_end|>\n<|im_start|>assistant\nNo.",
    ],
)  # fmt: skip
def test_end_tokens(tail):
    assert spoken(f"Aye.{tail}") == ("Aye.", {"end_token"})


@pytest.mark.parametrize(
    "head",
    [
        "<|im_start|>assistant\n", "<|start_header_id|>assistant<|end_header_id|>\n\n", "<s>",
        "<|assistant|>", "<start_of_turn>model\n", "<|begin_of_text|>",
    ],
)  # fmt: skip
def test_tokens_that_open_the_turn(head):
    assert spoken(f"{head}Aye.") == ("Aye.", {"end_token"})


@pytest.mark.parametrize(
    "tail",
    [
        "\nUser: And then?", "\n\n**User:** And then?", "\nHuman: x\nAssistant: y", "\n{{user}}: x",
        "\nuser: x", "\nBenutzer: x", "\n用户：x", "\nПользователь: x", "<|im_start|>user\nx",
        "\n**User**\nx", "\n[User] x", "\n<user>x", "\n- User: x", "\nUser (smiling): x",
        "\nUser 1: x", "\nThe user: x", "\n### Input:\nx", "\rUser: x", "\u2028User: x",
        "<|start_header_id|>user<|end_header_id|>x", "[INST] x", "\n### User:\nx", "\nClara May: x",
    ],
)  # fmt: skip
def test_turns_made_up_for_the_user(tail):
    assert spoken(f"Aye.{tail}", user="Clara May") == ("Aye.", {"user_turn"})


def test_an_answer_that_begins_with_a_label_of_the_user():
    assert spoken("User: Hello?\nFlorence: Aye.") == ("Aye.", {"speaker_label"})
    assert spoken('The user: "Aye."') == ('"Aye."', {"speaker_label"})
    assert spoken("The user: Aye.\nUser: No.") == ("Aye.", {"speaker_label", "user_turn"})


@pytest.mark.parametrize(
    "text",
    ["A user: nobody.", "I am the\nuser of this.", "You: out!", "Aye <s>no</s> yes.", "1 <| 2"],
)
def test_what_stays(text):
    assert spoken(text) == (text, set())


def test_the_bundled_benchmark_is_speech():
    for s in load_benchmark():
        for text in (s.golden, *(t for role, t in s.dialogue if role == "character")):
            assert spoken(text, name_in(s.character)) == (text, set())


PIECES = st.sampled_from(
    ["Aye", ".", " ", "\n", NAME, ":", "**", "User:", "\nUser: ", "<think>", "</think>", "</s>",
     "<|im_end|>", "<|im_start|>", "assistant", "user", "[INST]", "(", ")", "\u200b", "{{char}}"]
)  # fmt: skip


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.lists(PIECES, max_size=9).map("".join))
def test_nothing_more_is_cut_from_speech(text):
    once = find_speech(text, NAME)
    assert set(once.cuts) <= set(CUTS) and 0 <= once.start <= once.end <= len(text)
    assert (once.cuts == ()) == (speech_of(text, once) == text)
    again = find_speech(speech_of(text, once), NAME)
    assert again.cuts == () and again.end - again.start == once.end - once.start


def test_long_texts_take_no_time_to_speak_of():
    """What is quadratic in them would take minutes."""
    for piece in ("*", "User: ", "\n", "[(", "<|", "Aye ", "</s> ", " ", "Florence: ", "<think>",
                  "#", "</s>\n", "\n#", "Florence\n", "(a", "\n- "):  # fmt: skip
        find_speech(piece * 50_000, NAME)
        find_speech("a" + piece * 50_000 + "b", NAME)
    find_speech("Aye.", "long " * 2000)


def cut(pieces, character=NAME):
    text = "".join(pieces)
    found = find_speech(text, character)
    first, last = spoken_tokens(
        range(len(pieces)), text, found, lambda ids: "".join(pieces[i] for i in ids)
    )
    return pieces[first:last]


def test_tokens_are_kept_whole():
    assert cut(["Florence", " Night", "ingale", ":", " Aye", "."]) == [" Aye", "."]
    assert cut(["Florence", ": Aye", "."]) == [": Aye", "."]
    assert cut(["Aye", ".\n", "User", ":", " x"]) == ["Aye", ".\n"]
    assert cut(["\n", "\n", " Aye", ".", "\n", "\n"]) == [" Aye", "."]
    assert cut([" Aye", "."]) == [" Aye", "."]
    assert cut(["<think>", "x"]) == []
