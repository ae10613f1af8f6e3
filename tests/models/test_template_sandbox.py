"""An untrusted template neither hangs nor fills memory, and is the same from run to run."""

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from remid_jax.errors import UserError
from remid_jax.models import template_limits
from remid_jax.models.chat_template import render_chat

CHAT = [{"role": "system", "content": "sys"}, {"role": "user", "content": "hello\n" * 5000}]
GROWING = (
    "{%% set ns = namespace(x=%s) %%}{%% for i in range(99) %%}%s{%% endfor %%}{{ ns.x | length }}"
)


def render(template):
    return render_chat(template, CHAT, True, {})


def refusal(template):
    with pytest.raises(UserError) as caught:
        render(template)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{{ f(n - 1) if n }}{{ f(n - 1) if n }}{% endmacro %}{{ f(60) }}",
        "{% set b = 'ab' * 2000000 %}{% for i in range(99999) %}{% if b[1:] == b %}{% endif %}"
        "{% endfor %}",
        "{% for i in range(99999) %}{{ range(99999) | list | length }}{% endfor %}",
        "{% for x in range(9) recursive %}{{ loop(range(99999)) if loop.depth < 9 }}{% endfor %}",
        GROWING % ("['a']", "{% set ns.x = [ns.x, ns.x] %}"),
        GROWING % ("['a']", "{% set ns.x = (ns.x, ns.x) %}"),
        GROWING % ("['a']", "{% set ns.x = {'a': ns.x, 'b': ns.x} %}"),
        GROWING % ("['a']", "{% set ns.x = dict(a=ns.x, b=ns.x) %}"),
        GROWING % ("['a']", "{% set ns.x = ns.x + ns.x %}"),
    ],
)
def test_what_never_ends(template, monkeypatch):
    monkeypatch.setattr(template_limits, "MAX_SECONDS", 1.0)
    assert "runs without end" in refusal(template)


@pytest.mark.parametrize(
    "form",
    [
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    ],
)
def test_recursion(form):
    assert "maximum recursion depth" in refusal(form)


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'a' * 10**9 }}",
        "{{ 10**9 * 'a' }}",
        "{{ [1] * 10**9 }}",
        GROWING % ("'a'", "{% set ns.x = ns.x ~ ns.x %}"),
        GROWING % ("'a'", "{% set ns.x = ns.x + ns.x %}"),
        GROWING % ("'a'", "{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}"),
        GROWING % ("'a'", "{% set ns.x = '%s%s' % (ns.x, ns.x) %}"),
        GROWING % ("'a'", "{% set ns.x = '%s%s' | format(ns.x, ns.x) %}"),
        GROWING % ("'a'", "{% set ns.x = '{0}{0}'.format(ns.x) %}"),
        GROWING % ("'a'", "{% set ns.x = ns.x.join(['', '', '']) %}"),
        GROWING % ("'a'", "{% set ns.x = [ns.x, ns.x] | join %}"),
        GROWING % ("'a'", "{% set ns.x = ns.x | replace('a', 'aa') %}"),
        GROWING % ("'a'", "{% set ns.x = ns.x.replace('a', 'aa') %}"),
        GROWING % ("'<'", "{% set ns.x = ns.x | e | replace('&', '<<') %}"),
        "{% for i in range(99999) %}" + "x" * 100 + "{% endfor %}",
        "{% for i in range(99999) %}{{ messages[1].content }}{% endfor %}",
        "{{ messages[1].content | indent(9999) }}",
        "{{ messages[1].content | indent('x' * 9999) }}",
        "{{ range(9999) | list | tojson(indent=9999) }}",
    ],
)
def test_what_is_too_long(template):
    assert "a text of more than 4,000,000 characters" in refusal(template)


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'a' | center(10**9) }}",
        "{{ 'a'.center(10**9) }}",
        "{{ 'a'.ljust(10**9) }}",
        "{{ '1'.zfill(10**9) }}",
        "{{ 'a' | indent(width=10**9, first=true) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%.1000000000f' % 1 }}",
        "{{ '%(a)1000000000d' % {'a': 1} }}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ '{:{}}'.format(1, 10**9) }}",
        "{{ 1.5 | round(10**9, 'floor') }}",
        "{{ range(9) | batch(10**9, 1) | list }}",
        "{{ range(9) | slice(10**9) | list }}",
        "{{ messages | tojson(indent=10**9) }}",
        "{{ strftime_now('%1000000000Y') }}",
    ],
)
def test_what_is_too_wide(template):
    assert "a width or number beyond 9,999" in refusal(template)


@pytest.mark.parametrize(
    "template, message",
    [
        ("{{ 2 ** 99999 }}", "an integer of more than 4,096 bits"),
        (
            GROWING % ("3", "{% set ns.x = ns.x * ns.x %}"),
            "an integer of more than 4,096 bits",
        ),
        ("{{ ('f' * 4000000) | int(base=16) }}", "an integer of more than 4,096 bits"),
        ("{{ '%*d' % (10**9, 1) }}", "a width of its own"),
        ("{{ ([[1]] * 99999) | sum(start=[]) }}", "fails on this chat"),
        ("{{ 'a'.expandtabs(10**9) }}", "expandtabs may not be called"),
        ("{{ 'a'.format_map({}) }}", "format_map may not be called"),
        ("{{ 'a'['format'](1) }}", "format may not be called"),
        ("{{ 'a'.encode() }}", "encode may not be called"),
        ("{{ 'a' | pprint }}", "No filter named 'pprint'"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "cannot be compiled"),
        ("{{ 1" + "+1" * 50000 + " }}", "cannot be compiled"),
        ("{% for i in [1] %}" * 40 + "{% endfor %}" * 40, "cannot be compiled"),
        ("a" * 600_000, "has more than 500,000 characters"),
        ("a\0b", "holds a NUL character"),
        ("{{ '\ud800' }}", "half of a surrogate pair"),
        (r"{{ '\ud800' }}", "half of a surrogate pair"),
    ],
    ids=range(17),
)
def test_other_refusals(template, message):
    assert message in refusal(template)


@pytest.mark.parametrize(
    "value",
    [
        "messages[0].get", "raise_exception", "range", "cycler(1, 2)", "namespace(a=1)",
        "messages | map(attribute='content')", "[range]", "{'a': range}", "(range, 1)",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "form",
    [
        "{{ %s }}", "{{ 'a' ~ (%s) }}", "{{ (%s) | string }}", "{{ [%s] | join }}",
        "{{ ''.join([%s]) }}", "{{ '%%s' %% [%s] }}", "{{ '%%s' | format(%s) }}",
        "{{ '{}'.format(%s) }}", "{{ '{!r}'.format(%s) }}", "{{ (%s) | upper }}", "{{ (%s) | e }}",
        "{%% set x = (%s) | string %%}{{ x | length }}", "{{ (%s) | replace('a', 'b') }}",
        "{{ 'a' | replace('a', %s) }}", "{{ (%s) | tojson }}", "{{ (%s) | indent }}",
    ],
)  # fmt: skip
def test_what_differs_from_run_to_run_is_not_printed(value, form):
    assert "which is no text and differs from run to run" in refusal(form % value)


@pytest.mark.parametrize("form", ["{{ range(99) | random }}", "{{ lipsum() }}"])
def test_nothing_is_random(form):
    assert "draws at random" in refusal(form) or "'lipsum' is undefined" in refusal(form)


NEEDED = {
    "{% for k, v in messages[0].items() %}{{ k }}={{ v }};{% endfor %}": "role=system;content=sys;",
    "{{ ', '.join(messages | map(attribute='role')) }}": "system, user",
    "{{ messages | map(attribute='role') | join(' and ') }}": "system and user",
    "{{ (messages | selectattr('role', 'equalto', 'system') | first).content }}": "sys",
    "{{ '%s: %5.1f|%-4d|' % ('a', 2, 3) }}": "a:   2.0|3   |",
    "{{ '{0.content}, {1[role]!r:>8}'.format(messages[0], messages[1]) }}": "sys,   'user'",
    "{{ 'abc'.replace('b', '') }}{{ 'a-b'.split('-')[-1] }}{{ ' x'.lstrip() }}": "acbx",
    "{{ 'abc' | replace('b', 'xx') | upper | center(9) }}": "   AXXC  ",
    "{{ 'a\nb' | indent(2, true) }}": "  a\n  b",
    "{% set x = cycler(1, 2) %}{{ x.next() }}{{ x.next() }}{{ x.current }}": "121",
    "{% set j = joiner(', ') %}{{ j() }}a{{ j() }}b": "a, b",
    "{% macro m(x) %}[{{ x }}{{ caller() if caller }}]{% endmacro %}"
    "{{ m(1) }}{% call m(2) %}!{% endcall %}": "[1][2!]",
    "{% for a in [[1], []] recursive %}({{ loop(a) if a is iterable else a }})"
    "{% endfor %}": "((1))()",
    "{% for a in 'ab' %}{{ loop.index }}{{ loop.last }}{{ loop.length }}{{ loop.cycle(8, 9) }};"
    "{% endfor %}": "1False28;2True29;",
    "{% for r, l in messages | groupby('role') %}{{ r }}{{ l | length }}{% endfor %}": (
        "system1user1"
    ),
    "{% filter upper %}a{% endfilter %}{% block b %}b{% endblock %}{{ self.b() }}": "Abb",
    "{{ [1, 2.5, none, true] }}{{ {'a': (1,)} }}": "[1, 2.5, None, True]{'a': (1,)}",
    "{{ [3, 1] | sort | sum }}{{ 7 // 2 }}{{ 2 ** 10 }}{{ 7 % 4 }}{{ -1 }}": "4310243-1",
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}"
    "{{ ns.n }}": "2",
    "{% for m in messages if m.role == 'user' %}{{ m.role }}{% else %}none{% endfor %}": "user",
    "{{ nothing }}{{ nothing | default('d') }}{{ messages[9] }}": "d",
    "{{ 'x' | truncate(99999) }}": "x",
}


@pytest.mark.parametrize("template", NEEDED)
def test_what_templates_need_is_as_in_jinja(template):
    plain = ImmutableSandboxedEnvironment().from_string(template).render(messages=CHAT)
    assert render(template) == NEEDED[template] == plain


@pytest.mark.parametrize(
    "template, expected",
    [
        ("{{ {'b': 1, 'a': [2]} | tojson }}", '{"b": 1, "a": [2]}'),
        ("{{ {'b': 1, 'a': 2} | tojson(indent=1, sort_keys=true) }}", '{\n "a": 2,\n "b": 1\n}'),
        ("{{ {'a': 1} | tojson(separators=(',', ':')) }}", '{"a":1}'),
        ("{% generation %}{% set x = 1 %}a{{ x }}{% endgeneration %}{{ x }}", "a1"),
        ("{{ strftime_now('%d %b %Y') }}", "01 Jan 2025"),
    ],
)
def test_what_is_added_to_jinja(template, expected):
    assert render(template) == expected


def test_a_method_taken_by_a_filter():
    """Jinja's releases differ in what the filter gives."""
    said = refusal("{{ ('{:1000000000}' | attr('format'))(1) }}")
    assert "beyond 9,999" in said or "format may not be called" in said


def test_the_marks_of_generation_are_those_of_a_block():
    with pytest.raises(UserError, match="is no valid jinja"):
        render("{% generation %}a")


def test_long_chats_are_within_the_limits():
    chat = [{"role": "user", "content": "word " * 40_000}] * 15
    template = (
        "{% for m in messages %}<u>{{ m.role + '\n' + m.content | trim ~ '<e>' }}{% endfor %}"
    )
    assert len(render_chat(template, chat, True, {})) > 2_900_000
