"""A jinja sandbox for untrusted templates: bounded, and the same each time.

Besides what jinja's own sandbox hides, a template can neither run nor grow without end: turns of
loops, calls, filters, operators and output count (`template_limits`). What differs from run to run
(random choices, addresses of objects) cannot be printed.
"""

import datetime
import functools
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jinja2 import Undefined, filters, nodes, pass_context, pass_environment, runtime, utils
from jinja2.compiler import CodeGenerator
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter, SecurityError
from jinja2.visitor import NodeTransformer

from remid_jax.errors import UserError
from remid_jax.models import template_limits as limits
from remid_jax.models.template_limits import charge, emit, sized, text_of

DATE = datetime.datetime(2025, 1, 1)  # what strftime_now gives: a prompt is the same on any day

_LOOP, _TEXT, _SIZED = "#loop", "#text", "#sized"  # filters whose names no template can write
_LEFT_OUT = ("pprint", "urlize", "wordwrap", "xmlattr")  # slow on long texts, of no use in prompts
_AS_TEXT = {
    "capitalize", "e", "escape", "forceescape", "lower", "safe", "string", "striptags", "title",
    "trim", "truncate", "upper", "urlencode", "wordcount",
}  # fmt: skip
_NARROW = {"batch", "center", "indent", "round", "slice"}
_OF_TEXTS = {
    "capitalize", "casefold", "center", "count", "endswith", "find", "index", "ljust", "lower",
     "lstrip", "partition", "removeprefix", "removesuffix", "replace", "rfind", "rindex",
    "rjust", "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip",
    "swapcase", "title", "upper", "zfill", *(name for name in dir(str) if name.startswith("is")),
}  # fmt: skip
_OF_CONTAINERS = {"copy", "count", "get", "index", "items", "keys", "values"}


def _refuse(message: Any = "") -> None:
    raise UserError(f"the chat template refuses this chat: {message}")


def _strftime_now(form: str) -> str:
    limits.check_field(form)
    return DATE.strftime(form)


class _Generation(Extension):
    """`{% generation %}` marks what a model has written, for training elsewhere: it is kept."""

    tags = frozenset({"generation"})

    def parse(self, parser: Any) -> nodes.Node:
        """Reads up to `{% endgeneration %}`."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class _Counted(NodeTransformer):
    """Lets all that jinja does by itself pass through filters that count."""

    def _through(self, node: Any, name: str) -> nodes.Filter:
        where = {"lineno": node.lineno, "environment": node.environment}
        return nodes.Filter(node, name, [], [], None, None, **where)

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = self._through(node.iter, _LOOP)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        parts = nodes.Tuple(node.nodes, "load", lineno=node.lineno, environment=node.environment)
        return self._through(parts, _TEXT)

    def visit_List(self, node: nodes.Node) -> nodes.Node:
        self.generic_visit(node)
        return self._through(node, _SIZED)

    visit_Dict = visit_List

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        return self.visit_List(node) if node.ctx == "load" else node

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Node:
        return nodes.Const(node.data, lineno=node.lineno, environment=node.environment)


class _CountingGenerator(CodeGenerator):
    def visit_Template(self, node: nodes.Template, frame: Any = None) -> None:
        """Compiles a template that counts."""
        super().visit_Template(_Counted().visit(node), frame)


class _Format(SandboxedFormatter):
    """`str.format` of one text, bounded."""

    def __init__(self, environment: Any, text: str):
        super().__init__(environment)
        self.text = text

    def __call__(self, *args: Any, **kwargs: Any) -> str:
        return self.vformat(self.text, args, kwargs)

    def convert_field(self, value: Any, conversion: Any) -> Any:
        text_of(value)
        return super().convert_field(value, conversion)

    def format_field(self, value: Any, format_spec: str) -> str:
        limits.check_field(format_spec)
        value = value if isinstance(value, (int, float)) else text_of(value)
        return emit(super().format_field(value, format_spec))


class _Join:
    """`str.join` with one text between others, bounded."""

    def __init__(self, environment: Any, between: str):
        self.between = between

    def __call__(self, values: Iterable[Any]) -> str:
        return _joined(values, self.between)


_CALLABLE = (
    runtime.BlockReference, runtime.LoopContext, runtime.Macro, utils.Joiner, Undefined, _Format,
    _Join,
)  # fmt: skip


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """Compiles chat templates; render what it compiles within `template_limits.metered`."""

    code_generator_class = _CountingGenerator
    intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, optimized=False, finalize=_printed,
            extensions=[loopcontrols, _Generation],
        )  # fmt: skip
        del self.globals["lipsum"]  # random
        self.globals |= {"raise_exception": _refuse, "strftime_now": _strftime_now}
        self._functions = tuple(self.globals.values())
        self.filters = _filters(self.filters)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """An attribute; of two methods of texts, our own form."""
        own = {"format": _Format, "join": _Join}.get(attribute) if isinstance(obj, str) else None
        return own(self, obj) if own else super().getattr(obj, attribute)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Calls what a template may call."""
        charge()
        __self._check_call(__obj, args)
        return sized(super().call(__context, __obj, *args, **kwargs))

    def _check_call(self, function: Any, args: tuple[Any, ...]) -> None:
        owner, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
        if isinstance(owner, str) and name in _OF_TEXTS:
            if name in ("center", "ljust", "rjust", "zfill"):
                limits.check_width(args[0] if args else 0)
            elif name == "replace" and len(args) > 1:
                _check_replace(owner, text_of(args[0]), text_of(args[1]))
            return
        known = isinstance(function, _CALLABLE) or function in self._functions
        known |= isinstance(owner, (dict, list, tuple)) and name in _OF_CONTAINERS
        if not known and not isinstance(owner, (runtime.LoopContext, utils.Cycler)):
            raise SecurityError(f"{name or type(function).__name__} may not be called")

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """An operator whose result is of bounded size."""
        limits.check_operands(operator, left, right)
        return sized(super().call_binop(context, operator, left, right))


def _check_replace(text: str, old: str, new: str) -> None:
    limits.check_length(len(text) + text.count(old) * len(new))


@pass_context
def _printed(context: Any, value: Any) -> str:
    # With a context: jinja would print constants once, when it compiles.
    return emit(text_of(value))


def _loop(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        charge()
        yield value


def _joined(values: Iterable[Any], between: str = "") -> str:
    texts = [text_of(value) for value in _loop(values)]
    limits.check_length(sum(map(len, texts)) + len(texts) * len(between))
    return between.join(texts)


def _replace(value: Any, old: Any, new: Any, count: int | None = None) -> str:
    text, old, new = text_of(value), text_of(old), text_of(new)
    _check_replace(text, old, new)
    return text.replace(old, new, -1 if count is None else count)


@pass_environment
def _join(environment: Any, value: Any, d: Any = "", attribute: Any = None) -> str:
    if attribute is not None:
        value = map(filters.make_attrgetter(environment, attribute), value)
    return _joined(value, text_of(d))


def _indent(value: Any, width: Any = 4, first: bool = False, blank: bool = False) -> str:
    text = text_of(value)
    columns = len(width) if isinstance(width, str) else width
    limits.check_length(len(text) + (1 + text.count("\n")) * columns)
    return filters.do_indent(text, width, first, blank)


def _format(value: Any, *args: Any, **kwargs: Any) -> str:
    text = text_of(value)
    limits.check_percent(text, kwargs or args)
    return filters.do_format(text, *args, **kwargs)


@pass_environment
def _sum(environment: Any, values: Any, attribute: Any = None, start: float = 0) -> Any:
    return filters.FILTERS["sum"](environment, values, attribute, start + 0)  # of numbers alone


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    text_of(value)
    limits.check_width(indent if isinstance(indent, int) else len(indent or ""))
    encoder = json.JSONEncoder(
        ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
    if indent is None:
        return encoder.encode(value)
    return "".join(emit(part) for part in encoder.iterencode(value))


def _random(value: Any) -> None:
    raise UserError("the chat template draws at random; a prompt must be the same each time")


def _filters(known: dict[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """Jinja's filters and the inner ones, all counted."""
    own = {
        _LOOP: _loop, _TEXT: _joined, _SIZED: lambda value: value, "format": _format,
        "indent": _indent, "join": _join, "random": _random, "replace": _replace,
        "sum": _sum, "tojson": _tojson,
    }  # fmt: skip
    kept = {name: f for name, f in known.items() if name not in _LEFT_OUT}
    return {name: _counted_filter(name, f) for name, f in (kept | own).items()}


def _counted_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    place = int(hasattr(function, "jinja_pass_arg"))  # of the value

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        if name in _AS_TEXT:
            text_of(args[place])
        if name in _NARROW:
            for given in (*args[place + 1 :], *kwargs.values()):
                limits.check_width(given)
        return sized(function(*args, **kwargs))

    return run
