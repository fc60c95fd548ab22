"""Takes doc comments out of sources, for `scripts/bench memory retrieval`.

What a comment said of a function is then asked for, and the function is what is to be
found. Python is read by its own parser; Rust, JavaScript and C by one scanner that
knows comments, strings and brackets, and no grammar: what it cannot follow is no
question, and its comment goes all the same.
"""

import ast
import re
from typing import NamedTuple


class Documented(NamedTuple):
    text: str  # the first paragraph of what was said of it
    name: str
    first: int  # lines of the stripped source
    last: int


def strip(language, source, header=False):
    """The source without doc comments, and the functions that had one. In a C header
    every comment that begins a line is about something."""
    # Of a line that goes, what stays of it, or None.
    gone, found = python(source) if language == "python" else curly(language, source, header)
    stripped, new = [], {}
    for number, line in enumerate(source.split("\n"), 1):
        line = gone.get(number, line)
        if line is not None:
            stripped.append(line)
            new[number] = len(stripped)
    place = lambda first, last: [new[number] for number in range(first, last + 1) if number in new]
    documented = [(text, name, place(first, last)) for text, name, first, last in found]
    return "\n".join(stripped), [Documented(text, name, at[0], at[-1]) for text, name, at in documented if at]


def python(source):
    gone, found = {}, []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        text = ast.get_docstring(node)
        if text is None:
            continue
        where = node.body[0]
        gone |= dict.fromkeys(range(where.lineno, where.end_lineno + 1))
        if len(node.body) == 1:
            # A body that is nothing else keeps something to do.
            gone[where.lineno] = " " * where.col_offset + "pass"
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found.append((paragraph(text.split("\n")), node.name, node.lineno, node.end_lineno))
    return gone, found


# A comment, a string or a character; what else begins with the same sign stays code.
TOKENS = {
    "rust": r"""//[^\n]*|/\*.*?\*/|b?r(#*)".*?"\1|"(?:\\.|[^"\\])*"|'(?:\\[^\n]*?|[^'\\\n])'""",
    "javascript": r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`"""
    r"""|(?<=[(,=:\[!&|?{};])\s*/(?![*/])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n])+/""",
    "c": r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\\n])+'""",
}
# A function at the beginning of what follows a comment.
FUNCTIONS = {
    "rust": r"""(?:\s*\#\[[^\n]*\])*\s*(?:pub(?:\([^)]*\))?\s+)?(?:default\s+|const\s+|async\s+|unsafe\s+|extern\s+)*fn\s+(\w+)""",
    "javascript": r"""\s*(?:export\s+)?(?:default\s+)?(?:static\s+)?(?:async\s+)?(?:function\b\*?\s*([\w$]+)"""
    r"""|(?:[\w$]+\.)*([\w$]+)\s*=\s*(?:[\w$.]+\s*=\s*)?(?:async\s*)?(?:function\b|\([^)]*\)\s*=>)"""
    r"""|(?:var|let|const)\s+([\w$]+)\s*=[^\n]*(?:\bfunction\b|=>)|\*?(?!if\b|for\b|while\b|switch\b|return\b)([\w$#]+)\s*\([^)]*\)\s*\{)""",
    "c": r"""\n?(?![ \t\n#}])(?!typedef\b|struct\s+\w+\s*\{|enum\b|union\b)[^;{}=#]*?\b([A-Za-z_]\w*)\s*\([^;{}]*\)\s*\{""",
}
IS_DOC = {
    "rust": lambda comment: comment.startswith(("///", "//!", "/**", "/*!")) and not comment.startswith("////"),
    "javascript": lambda comment: comment.startswith("/**"),
    # C has no sign for it: what stands before a function is about it, and so is what
    # stands in a header.
    "c": lambda comment: comment.startswith(("/**", "/*!", "///", "//!")),
    "header": lambda comment: True,
}


def curly(language, source, header):
    comments, code = [], list(source)
    for token in re.finditer(TOKENS[language], source, re.S):
        if token[0].startswith(("//", "/*")):
            comments.append([token.start(), token.end()])
        for at in range(token.start(), token.end()):
            if code[at] != "\n":
                code[at] = " "
    code = "".join(code)
    gone, found = {}, []
    for start, end in blocks(source, code, comments):
        said = source[start:end]
        function = re.compile(FUNCTIONS[language]).match(code, end)
        begins_line = not source[source.rfind("\n", 0, start) + 1 : start].strip()
        is_about = function and begins_line and (language != "c" or source[start - 1 : start] in ("", "\n"))
        if not (IS_DOC[language](said) or language == "c" and (is_about or header and begins_line)):
            continue
        first, last = (source.count("\n", 0, at) + 1 for at in (start, end))
        for number in range(first, last + 1):
            gone[number] = None
        left = source[source.rfind("\n", 0, start) + 1 : start] + source[end:].split("\n", 1)[0]
        if left.strip():
            gone[last] = left
        close = is_about and body(code, function.start(function.lastindex))
        if close:
            name = function[function.lastindex]
            begin = source.count("\n", 0, function.start(function.lastindex)) + 1
            text = re.sub(r"\*+/$", "", said)
            lines = [re.sub(r"^\s*(?://[/!]?|/\*[*!]?|\*+(?!\w))\s?", "", line) for line in text.split("\n")]
            found.append((paragraph(lines), name, begin, source.count("\n", 0, close) + 1))
    return gone, found


def blocks(source, code, comments):
    """Comments of one line that stand below each other are one."""
    joined = []
    for start, end in comments:
        if joined and source[start : start + 2] == "//" == source[joined[-1][0] : joined[-1][0] + 2]:
            between = source[joined[-1][1] : start]
            if not between.strip() and between.count("\n") == 1 and source[start : start + 3] == source[joined[-1][0] : joined[-1][0] + 3]:
                joined[-1][1] = end
                continue
        joined.append([start, end])
    return joined


def body(code, at):
    """Where a function ends; None if it has no body."""
    depth = 0
    for at in range(at, len(code)):
        char = code[at]
        depth += (char in "([{") - (char in ")]}")
        if depth < 0 or depth == 0 and char == ";":
            return at if char == ";" and "{" in code[:at].rsplit(";", 2)[-1] else None
        if depth == 0 and char == "}":
            return at
    return None


def paragraph(lines):
    """The first one, up to a tag, as one line."""
    text = "\n".join(line.rstrip() for line in lines).strip("\n =-*")
    text = re.split(r"\n\s*(?:\n|@|[=*-]{4,}|#)", text)[0]
    return " ".join(text.split())
