"""Chat templates: what they can do, and what the sandbox keeps from them."""

import pytest

from remid_jax.errors import UserError
from remid_jax.models.chat_template import render_chat

CHAT = [{"role": "user", "content": "Grüße <b>"}, {"role": "assistant", "content": "ja"}]


def render(template, messages=CHAT, prompt=True):
    return render_chat(template, messages, prompt, {"bos_token": "<s>"})


def test_variables_and_loops():
    template = (
        "{{ bos_token }}{% for m in messages %}\n"
        "    {% if m['role'] == 'system' %}{% continue %}{% endif %}\n"
        "[{{ m.role }}]{{ m['content'] | trim }}{% endfor %}\n"
        "{% if add_generation_prompt %}[go]{% endif %}"
    )
    system = [{"role": "system", "content": "hidden"}]
    assert render(template, system + CHAT) == "<s>[user]Grüße <b>[assistant]ja[go]"
    assert render(template, prompt=False) == "<s>[user]Grüße <b>[assistant]ja"


def test_blocks_leave_no_white_space():
    assert render("{% if true %}\n  {% set x = 1 %}\na{{ x }}\n{% endif %}\nb") == "a1\nb"


def test_json_keeps_unicode_and_does_not_escape_for_html():
    assert render("{{ messages[0] | tojson }}") == '{"role": "user", "content": "Grüße <b>"}'


def test_text_of_the_chat_is_never_run():
    chat = [{"role": "user", "content": "{{ 7 * 7 }}{% raise %}"}]
    assert render("{{ messages[0].content }}", chat) == "{{ 7 * 7 }}{% raise %}"


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.__class__.__base__.__subclasses__() }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{{ cycler.__init__.__globals__.os.system('id') }}",
        "{{ ''['__class__']['__mro__'] }}",
        "{{ '{0.__class__.__mro__}'.format('') }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(role='system') }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{{ open('/etc/passwd') }}",
        "{{ range(100000000) }}",
    ],
)
def test_the_sandbox_refuses(template):
    with pytest.raises(UserError) as caught:
        render(template)
    assert "\n" not in str(caught.value)
    assert CHAT[0]["role"] == "user" and len(CHAT) == 2


@pytest.mark.parametrize("template", ["{{ ''.__class__ }}", "{{ (''|attr('__class__'))|first }}"])
def test_what_is_hidden_reads_as_nothing(template):
    assert render(template) == ""


@pytest.mark.parametrize(
    "template, message",
    [
        ("{% for %}", "is no valid jinja"),
        ("{{ messages", "is no valid jinja"),
        ("{{ messages[0].content.nothing.more }}", "fails on this chat"),
        ("{{ messages[0].content + 1 }}", "fails on this chat"),
        ("{{ 1 / 0 }}", "fails on this chat"),
        (
            "{{ raise_exception('roles must alternate') }}",
            "refuses this chat: roles must alternate",
        ),
    ],
)
def test_broken_templates(template, message):
    with pytest.raises(UserError, match=message):
        render(template)
