"""Finds the places of a C++ source that a mutant changes, with libclang, and rewrites the source so that
every mutant is compiled in and chosen by its number at run time (runtime.h).

A mutant is one of:
  comparison   a < b becomes a <= b, and a >= b; a == b becomes a != b; std::min becomes std::max
  condition    an operand of && and || no longer counts; a plain condition is negated
  constant     an integer literal is one more (0: one; 1: nought; 2^32 - 1 and the like: one less), true is false
  statement    a call, an assignment, a return without need, a break or continue is dropped
Only bodies of functions change, and nothing that a macro makes: an invariant is a test, not code under test.
Nor what only fetches ahead (prefetch...), which decides nothing.
"""
import dataclasses
import re

import clang.cindex as clang

COMPARISONS = {  # what stands there: the call, and what its mutants read as
    "<": ("less", ["<=", ">="]), "<=": ("less_equal", ["<", ">"]), ">": ("greater", [">=", "<="]),
    ">=": ("greater_equal", [">", "<"]), "==": ("equal", ["!="]), "!=": ("unequal", ["=="]),
}
EXTREMES = {"std::min": ("minimum", "std::max"), "std::max": ("maximum", "std::min")}
FUNCTIONS = {"FUNCTION_DECL", "CXX_METHOD", "CONSTRUCTOR", "DESTRUCTOR", "FUNCTION_TEMPLATE", "CONVERSION_FUNCTION"}
BODIES = {"IF_STMT", "FOR_STMT", "WHILE_STMT", "CXX_FOR_RANGE_STMT", "DO_STMT"}
DROPPED = {"BINARY_OPERATOR", "COMPOUND_ASSIGNMENT_OPERATOR", "UNARY_OPERATOR", "CALL_EXPR", "UNEXPOSED_EXPR",
           "CONTINUE_STMT", "BREAK_STMT"}


@dataclasses.dataclass
class Mutant:
    """The text from `start` to `end` (bytes of the file) becomes `text`."""
    kind: str
    start: int
    end: int
    text: str
    number: int = 0
    file: str = ""
    line: int = 0


@dataclasses.dataclass
class Edit:
    """What the rewritten source holds instead of [start, end); `width` orders edits at one place."""
    start: int
    end: int
    text: str
    width: int
    closes: bool = False


class Places:
    def __init__(self, path, arguments, first_number):
        self.source = open(path, "rb").read()
        self.path, self.number = str(path), first_number
        self.mutants, self.edits, self.seen = [], [], set()
        unit = clang.Index.create().parse(self.path, args=["-x", "c++", "-std=c++2b", *arguments],
                                          options=clang.TranslationUnit.PARSE_DETAILED_PROCESSING_RECORD)
        wrong = [str(one) for one in unit.diagnostics if one.severity >= clang.Diagnostic.Error]
        if wrong:
            raise SystemExit(f"{path}: libclang cannot read it: {wrong[0]}")
        self.macros = [(one.extent.start.offset, one.extent.end.offset) for one in self.own(unit.cursor)
                       if one.kind == clang.CursorKind.MACRO_INSTANTIATION]
        for cursor in self.own(unit.cursor):
            self.declarations(cursor)

    def own(self, cursor):
        return [one for one in cursor.get_children() if one.location.file and one.location.file.name == self.path]

    def text(self, start, end):
        return self.source[start:end].decode()

    def in_macro(self, start, end):
        return start > end or any(macro_start <= start < macro_end or macro_start < end < macro_end
                                  for macro_start, macro_end in self.macros)

    # ---- which mutants there are

    def add(self, kind, start, end, texts):
        """New mutants, numbered on; the number of the first."""
        first = self.number
        for text in texts:
            self.mutants.append(Mutant(kind, start, end, text, self.number))
            self.number += 1
        return first

    def wrap(self, start, end, before, after):
        self.edits.append(Edit(start, start, before, end - start))
        self.edits.append(Edit(end, end, after, end - start, closes=True))

    def once(self, *key):
        if key in self.seen:
            return False
        self.seen.add(key)
        return True

    def declarations(self, cursor):
        for one in cursor.get_children():
            kind = one.kind.name
            if kind == "COMPOUND_STMT" and cursor.kind.name in FUNCTIONS:
                if not cursor.spelling.startswith("prefetch"):
                    self.statements(one)
            elif not one.kind.is_preprocessing():
                self.declarations(one)

    def statements(self, block, following=False):
        """`following`: the block is that of an `if` and another statement follows."""
        children = list(block.get_children())
        for at, one in enumerate(children):
            self.drop(one, following=following)
            self.visit(one, block, following=at + 1 < len(children))

    def visit(self, cursor, parent, following=False):
        start, end, kind = cursor.extent.start.offset, cursor.extent.end.offset, cursor.kind.name
        words = self.text(start, min(end, start + 40))
        if kind == "STATIC_ASSERT" or re.match(r"(static )?constexpr ", words):
            return
        if kind == "COMPOUND_STMT":
            return self.statements(cursor, following=following)
        children = list(cursor.get_children())
        if not self.in_macro(start, end):
            self.expression(cursor, children, kind, start, end)
            if kind in ("IF_STMT", "WHILE_STMT", "CONDITIONAL_OPERATOR") and children:
                self.condition(children[0], constant=words.startswith("if constexpr"))
        for at, child in enumerate(children):
            if kind == "CASE_STMT" and at == 0 or kind == "IF_STMT" and at == 0 and words.startswith("if constexpr"):
                continue  # the compiler must know it
            if kind in BODIES and child.kind.name != "COMPOUND_STMT" and self.is_body(cursor, child, at):
                self.drop(child, following=following and len(children) == 2)
            if kind in ("DECL_REF_EXPR", "MEMBER_REF_EXPR") and child.kind.name == "INTEGER_LITERAL":
                continue  # an argument of a template
            if kind == "VAR_DECL" and cursor.type.kind == clang.TypeKind.CONSTANTARRAY and not at:
                if child.kind.name == "INTEGER_LITERAL":
                    continue  # the bound of an array
            self.visit(child, cursor, following=kind == "IF_STMT" and following and len(children) == 2)

    def is_body(self, cursor, child, at):
        if cursor.kind.name == "IF_STMT":
            return at > 0 and self.text(cursor.extent.start.offset, child.extent.start.offset).rstrip()[-1:] in (")", "e")
        return at + 1 == len(list(cursor.get_children()))

    def expression(self, cursor, children, kind, start, end):
        if kind == "INTEGER_LITERAL":
            return self.literal(start, end)
        if kind == "CXX_BOOL_LITERAL_EXPR" and self.once(start, "bool"):
            other = "false" if self.text(start, end) == "true" else "true"
            first = self.add("constant", start, end, [other])
            return self.wrap(start, end, f"chalk_mutation::number({first}, ", f", {other})")
        if kind == "CALL_EXPR":
            self.extreme(start)
        if len(children) < 2:
            return None
        left, right = children[0].extent, children[-1].extent
        between = self.text(left.end.offset, right.start.offset) if left.end.offset < right.start.offset else ""
        operator = between.strip()
        at = left.end.offset + len(between) - len(between.lstrip())
        if left.start.offset != start or right.end.offset != end or not self.once(at, "operator"):
            return None
        if operator in COMPARISONS:
            call, others = COMPARISONS[operator]
            first = self.add("comparison", at, at + len(operator), others)
            self.wrap(start, end, f"chalk_mutation::{call}({first}, ", ")")
            self.edits.append(Edit(at, at + len(operator), ",", 0))
        elif operator in ("&&", "||"):
            for extent in (left, right):
                begin, stop = extent.start.offset, extent.end.offset
                first = self.add("condition", begin, stop, ["true" if operator == "&&" else "false"])
                before = "(chalk_mutation::is({}) || (" if operator == "&&" else "(!chalk_mutation::is({}) && ("
                # Half more, since the operand itself may be wrapped too and is within this.
                self.edits.append(Edit(begin, begin, before.format(first), stop - begin + 0.5))
                self.edits.append(Edit(stop, stop, "))", stop - begin + 0.5, closes=True))
        return None

    def literal(self, start, end):
        # The extent of a literal within an implicit conversion can be empty: take the token.
        word = re.match(rb"[0-9][0-9A-Za-z']*", self.source[start:start + 40])
        if not word or not self.once(start, "literal"):
            return
        text = word.group().decode()
        digits, suffix = re.match(r"(0[xX][0-9a-fA-F']+|[0-9']+)([uUlLzZ]*)$", text).groups()
        value = int(digits.replace("'", ""), 0) if digits != "0" else 0
        # One more, but for the greatest of a type: that would be of another type.
        more = value - 1 if value + 1 in (1 << 31, 1 << 32, 1 << 63, 1 << 64) else value + 1
        more = hex(more) if digits[:2] in ("0x", "0X") else more  # a hexadecimal one may be unsigned
        other = f"{1 if value == 0 else 0 if value == 1 else more}{suffix}"
        first = self.add("constant", start, start + len(text), [other])
        self.wrap(start, start + len(text), f"chalk_mutation::number({first}, ", f", {other})")

    def extreme(self, start):
        call = re.match(rb"(std::m(?:in|ax))(<[\w:]+>)?\(", self.source[start:start + 80])
        if not call or self.in_macro(start, start + call.end()) or not self.once(start, "extreme"):
            return
        name, other = EXTREMES[call.group(1).decode()]
        first = self.add("comparison", start, start + len(call.group(1)), [other])
        self.edits.append(Edit(start, start + len(call.group(1)), f"chalk_mutation::{name}", 0))
        self.edits.append(Edit(start + call.end(), start + call.end(), f"{first}, ", 1 << 20))

    def condition(self, cursor, constant):
        """A condition that is no comparison and not put together of others is negated."""
        start, end, kind = cursor.extent.start.offset, cursor.extent.end.offset, cursor.kind
        if constant or not kind.is_expression() or "LITERAL" in kind.name or self.in_macro(start, end):
            return
        while len(inner := list(cursor.get_children())) == 1 and inner[0].extent == cursor.extent:
            cursor = inner[0]
        inner = list(cursor.get_children())
        if len(inner) >= 2 and inner[0].extent.end.offset < inner[-1].extent.start.offset:
            operator = self.text(inner[0].extent.end.offset, inner[-1].extent.start.offset).strip()
            if operator in COMPARISONS or operator in ("&&", "||"):
                return
        if self.once(start, "condition"):
            text = self.text(start, end)
            other = text[1:] if re.match(r"![\w.>()\[\]-]*$", text) else f"!({text})"
            first = self.add("condition", start, end, [other])
            self.wrap(start, end, f"chalk_mutation::flip({first}, ", ")")

    def drop(self, cursor, following=False):
        """Drops an expression statement. A return is dropped where another statement follows the `if` it is in."""
        start, end, kind = cursor.extent.start.offset, cursor.extent.end.offset, cursor.kind.name
        if not (kind in DROPPED or kind == "RETURN_STMT" and following) or self.in_macro(start, end):
            return
        semicolon = re.match(rb"\s*;", self.source[end:])
        if not semicolon or not self.once(start, "statement"):
            return
        stop = end + semicolon.end()
        first = self.add("statement", start, stop, [";"])
        self.wrap(start, stop, f"{{ if (!chalk_mutation::is({first})) ", " }")

    # ---- the source with all of them

    def rewritten(self):
        # Where several meet: what closes comes first, inner before outer; what opens after, outer first.
        # Of two around the same words the outer was found first.
        edits = sorted(enumerate(self.edits), key=lambda one: (one[1].start, not one[1].closes, *(
            (one[1].width, -one[0]) if one[1].closes else (-one[1].width, one[0]))))
        out, at = [], 0
        for _, edit in edits:
            out += [self.text(at, edit.start), edit.text]
            at = max(at, edit.end)
        include = '#include "tests/mutation/runtime.h"\n'
        body = "".join(out) + self.text(at, len(self.source))
        line = f'#line 1 "{self.path}"\n'
        if "#pragma once\n" in body:
            return body.replace("#pragma once\n", f"#pragma once\n{include}", 1)
        return include + line + body


def find(path, arguments, first_number=1, name=None):
    """The mutants of a file and the text that holds them all."""
    places = Places(path, arguments, first_number)
    for mutant in places.mutants:
        mutant.file = name or str(path)
        mutant.line = places.source.count(b"\n", 0, mutant.start) + 1
    return places.mutants, places.rewritten()


def applied(source, mutant):
    """The source of one mutant alone."""
    data = source.encode()
    return (data[:mutant.start] + mutant.text.encode() + data[mutant.end:]).decode()
