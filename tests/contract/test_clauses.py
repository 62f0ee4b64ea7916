"""Every clause of the manual is named by at least one test, and no test names a clause that does not exist."""

import ast
import pathlib

from .clauses import CLAUSES


def _clauses_named_by_tests():
    for file in sorted(pathlib.Path(__file__).parent.glob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.clause":
                yield from (ast.literal_eval(argument) for argument in node.args)


def test_each_clause_has_a_test_and_each_test_names_a_known_clause():
    named = set(_clauses_named_by_tests())
    assert named == CLAUSES, f"without a test: {CLAUSES - named}; unknown: {named - CLAUSES}"
