from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pyconsul.state.sorted_keys import SortedKeys

KEYS = st.text(alphabet="ab/\U0010ffff", max_size=4)


@given(
    st.lists(st.tuples(st.booleans(), KEYS, KEYS), max_size=60),
    st.lists(KEYS, unique=True),
)
@settings(max_examples=200, deadline=None)
def test_it_agrees_with_a_plain_set(steps: list[tuple[bool, str, str]], first):
    keys, model = SortedKeys(first), set(first)
    for add, key, prefix in steps:
        if add and key not in model:
            keys.add(key)
            model.add(key)
        elif not add:
            keys.discard(key)
            model.discard(key)
        assert keys.below(prefix) == sorted(k for k in model if k.startswith(prefix))
    assert keys.all() == sorted(model)


def test_many_keys_cross_chunks():
    names = [f"k/{i * 7919 % 20011:06d}" for i in range(20000)]
    keys = SortedKeys()
    for name in names:
        keys.add(name)
    assert keys.all() == sorted(names)
    for name in names[::3]:
        keys.discard(name)
    left = sorted(set(names) - set(names[::3]))
    assert keys.below("k/0") == [name for name in left if name.startswith("k/0")]
    assert keys.all() == left
