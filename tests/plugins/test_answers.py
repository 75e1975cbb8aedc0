"""What a hook returns is accepted whole or refused whole, with the reason."""

import pytest

from cvr_plugins import plugins

PRELUDE = """
import functools
from cvr_plugins import hookimpl, Architecture, Method, Objective, Weighting
from cvr_plugins.metrics import Metric

class Good(Objective):
    def loss(self, out, y):
        return {}

class GoodArchitecture(Architecture):
    def forward(self, x):
        ...
    def parameters_for(self, heads, shared=True):
        return []

class GoodWeighting(Weighting):
    def factors(self, losses):
        return {}

class Unshowable:
    def __repr__(self):
        raise RuntimeError

def objective(**attributes):
    return type("Odd", (Good,), attributes)

def altered(**fields):
    method = Method(name="Foo", objective=Good)
    for name, value in fields.items():
        object.__setattr__(method, name, value)
    return method

FOO = Method(name="Foo", objective=Good)
"""

HOOK = """
@hookimpl
def {hook}():
    return {result}

@hookimpl
def {other}():
    return {other_result}
"""

REFUSED = {
    "methods": [
        ("None", "it must return a list of Method; got None."),
        ("FOO", "it must return a list of Method; got a Method."),
        ("{'Foo': FOO}", "it must return a list of Method; got a dict."),
        ("iter([FOO])", "it must return a list of Method; got"),
        ("[FOO, Good]", "it must return a list of Method; item 1 is the class Good."),
        ("[FOO, Unshowable()]", "it must return a list of Method; item 1 is a Unshowable."),
        ("[FOO, Method(name='FOO', objective=Good)]", "two of them are named 'Foo' and 'FOO' (case aside)."),
        ("[altered(api='2')]", "Foo: 'api' must be a positive whole number; got '2'."),
        ("[altered(api=True)]", "Foo: 'api' must be a positive whole number; got True."),
        ("[altered(architecture=Good)]", "Foo: 'architecture' must be the name of a registered one; got the class"),
        ("[altered(backbone='')]", "Foo: 'backbone' must be the name of a registered one; got ''."),
        ("[altered(weighting=Good)]", "Foo: 'weighting' must be None or the name of a registered one; got the class"),
        ("[altered(defaults={1: 2})]", "Foo: 'defaults' must map names of options to values; got {1: 2}."),
        ("[altered(defaults=['floor'])]", "Foo: 'defaults' must map names of options to values; got ['floor']."),
        ("[altered(summary=None)]", "Foo: 'summary' must be text; got None."),
        ("[altered(objective=dict)]", "Foo: its objective dict is not a subclass of cvr_plugins.Objective."),
        ("[altered(objective=Objective)]", "Foo: Objective does not define loss."),
        ("[altered(objective=objective(heads=('ctr')))]", "Foo: Odd.heads must be a tuple of names; got 'ctr'."),
        ("[altered(objective=objective(tasks=['cvr']))]", "Foo: Odd.tasks must be a tuple of names; got ['cvr']."),
        ("[altered(objective=objective(needs=('click', 1)))]", "Foo: Odd.needs must be a tuple of names; got ('click"),
        ("[altered(objective=objective(cvr_terms='cvr'))]", "Foo: Odd.cvr_terms must be a tuple of names of loss"),
        ("[altered(objective=functools.partial(objective(heads=()), floor=1))]", "Foo: Odd.heads must be a tuple of"),
    ],
    "architectures": [
        ("[GoodArchitecture]", "it must return a mapping of name -> Architecture class"),
        ("{'mine': Good}", "'mine' must be a subclass of cvr_plugins.Architecture"),
        ("{'mine': type('Half', (Architecture,), {'forward': 1})}", "'mine': Half does not define parameters_for."),
        ("{'ok': GoodArchitecture, 3: GoodArchitecture}", "a name is letters, digits"),
    ],
    "backbones": [
        ("{'mine': 'mlp'}", "'mine' must be callable; got 'mlp'."),
        ("{'a:b': dict}", "a name is letters, digits and '_', '-', '.', '+'; got 'a:b'."),
        ("{'': dict}", "a name is letters, digits and '_', '-', '.', '+'; got ''."),
        ("{'a b': dict}", "a name is letters, digits and '_', '-', '.', '+'; got 'a b'."),
        ("{'net': dict, 'NET': list}", "two of them are named 'net' and 'NET' (case aside)."),
    ],
    "weightings": [
        ("{'mine': Good}", "'mine' must be a subclass of cvr_plugins.Weighting; got the class"),
        ("{'mine': GoodWeighting()}", "'mine' must be a subclass of cvr_plugins.Weighting; got"),
        ("{'mine': Weighting}", "'mine': Weighting does not define factors."),
    ],
    "datasets": [
        ("None", "it must return a mapping of name -> callable; got None."),
    ],
    "metrics": [
        ("[1]", "it must return a mapping of name -> Metric; got [1]."),
        ("{'mine': max}", "'mine' must be a cvr_plugins.metrics.Metric; got <built-in function"),
        ("{'a/b': 1}", "a name is letters, digits and '_', '-', '.', '+'; got 'a/b'."),
        ("{'mine': Metric('other', 'max', max, '')}", "'mine' holds a Metric named 'other'; give"),
    ],
    "recbole_models": [
        ("{'Mine': dict}", "it must return a list of RecBole model classes"),
        ("[dict]", "the class dict is no RecBole model class."),
        ("['Mine']", "it must return a list of RecBole model classes; item 0 is 'Mine'."),
    ],
}
"""Hook -> what it returns, and the beginning of the reason for which that is refused."""


def add(distributions, hook, result):
    other, other_result = "cvr_register_datasets", "{'toy': dict}"
    if hook == other:
        other, other_result = "cvr_register_methods", "[FOO]"
    text = HOOK.format(hook=hook, result=result, other=other, other_result=other_result)
    distributions.add("acme", PRELUDE + text)
    distributions.add_methods("zeta", "Bar")
    return distributions.load()


@pytest.mark.parametrize(("hook", "result", "reason"), [(hook, *row) for hook, rows in REFUSED.items() for row in rows])
def test_what_a_hook_gives_is_refused_whole(distributions, info, hook, result, reason):
    registry = add(distributions, f"cvr_register_{hook}", result)
    kind = hook.removesuffix("s")
    assert not [entry for entry in registry.entries(kind) if entry.plugin == "acme"]
    (failure,) = registry.failures
    assert (failure.plugin, failure.stage, failure.kind) == ("acme", "validate", kind)
    assert failure.message.startswith(f"What cvr_register_{hook} gave was refused: {reason}")
    assert registry.method("Bar").summary == "of zeta"
    if hook != "datasets":
        assert registry.dataset("toy") is dict, "the plugin's other hooks stand"
    assert info(registry, "acme").status == "partial"
    assert len(distributions.messages) == 1


@pytest.mark.parametrize("result", ["[FOO, Good]", "[FOO, Method(name='Other', objective=dict)]", "[FOO, FOO]"])
def test_asking_for_one_of_the_refused_raises_the_refusal(distributions, result):
    registry = add(distributions, "cvr_register_methods", result)
    for name in ("Foo", "foo", "acme:Foo"):
        with pytest.raises(plugins.PluginFailed, match=f"The method '{name}' is not available. Plugin 'acme' .*refus"):
            registry.method(name)
    with pytest.raises(plugins.UnknownName) as caught:
        registry.method("Quux")
    assert "acme" not in str(caught.value), "all that was refused is known by name"


def test_accepted_methods(distributions):
    registry = add(
        distributions,
        "cvr_register_methods",
        "(FOO, Method(name='Partial', objective=functools.partial(Good)), "
        "Method(name='Made', objective=lambda **options: Good(), defaults={'learning_rate': 0.1}))",
    )
    found = [entry.name for entry in registry.entries("method") if entry.plugin == "acme"]
    assert found == ["Foo", "Made", "Partial"]
    assert registry.failures == ()


def test_a_method_for_newer_contracts_is_skipped_and_the_others_stand(distributions, info):
    from cvr_plugins import API_VERSION

    newer = API_VERSION + 1
    registry = add(distributions, "cvr_register_methods", f"[FOO, Method('Later', Good, defaults=None, api={newer})]")
    assert registry.method("Foo").name == "Foo"
    (failure,) = registry.failures
    assert (failure.stage, failure.names) == ("api", ("Later",))
    for name in ("later", "acme:Later"):
        with pytest.raises(plugins.PluginFailed, match=rf"Method Later .* version {newer} .* Upgrade cvr-plugins"):
            registry.method(name)
    assert info(registry, "acme").contributed["method"] == ("Foo",)
